//! Epochs: sets change as it was decided in the stream, with faults and liars meanwhile.

use super::*;

fn epochs(seed: u64) -> Config {
    Config { epochs: Some(true), ..Config::new(seed) }
}

#[test]
fn validators_join_leave_and_change_their_keys_without_faults() {
    let sum = all_good(0..10, |seed| Config { faults: false, ..epochs(seed) });
    shows(&sum, &["sets handed over", "epochs in which a later key votes"]);
    shows(&sum, &["receipts of earlier epochs verified", "turns to another epoch"]);
    let changes = sum.count("sets handed over");
    // Four or five honest validators saw two or more changes in each run.
    assert!(changes >= 10 * 4 * 2, "{changes}");
}

#[test]
fn sets_change_while_everything_goes_wrong() {
    let sum = all_good(100..130, epochs);
    shows(&sum, &["sets handed over", "epochs in which a later key votes"]);
    shows(&sum, &["receipts of earlier epochs verified"]);
}

#[test]
fn a_restart_across_the_end_of_an_epoch_is_like_any_other() {
    for fault in [Fault::Kill, Fault::PowerCut, Fault::Wipe, Fault::Cut] {
        all_good(0..6, |seed| Config { fault: Some(fault), ..epochs(seed) });
    }
}

#[test]
fn sets_change_among_liars() {
    for role in &Role::ALL[1..] {
        all_good(0..4, |seed| Config { role: Some((*role, 1)), ..epochs(seed) });
    }
}

/// What proves it leads from the genesis to the set that the liar's key is of.
#[test]
fn who_votes_twice_with_a_later_key_is_named_to_who_trusts_the_genesis() {
    let equivocates = Some((Role::Equivocates, 1));
    let sum = all_good(11..22, |seed| Config { role: equivocates, faults: false, ..epochs(seed) });
    shows(&sum, &["double votes proved", "double votes of later sets proved"]);
}

/// A lone validator hands over to two, two to three, three to four, whatever goes wrong that heals.
#[test]
fn sets_of_which_nobody_may_fail_hand_over_all_the_same() {
    for validators in 1..=3 {
        let sum = all_good(20..45, |seed| Config { validators, ..epochs(seed) });
        shows(&sum, &["sets handed over", "fault kill", "fault clock-back", "fault halves"]);
        // A clock that is ahead is one fault too many there.
        assert_eq!(sum.count("fault clock-forward"), 0);
        let clock = Some(Fault::ClockBack);
        all_good(0..4, |seed| Config { validators, fault: clock, ..epochs(seed) });
    }
}
