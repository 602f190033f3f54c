//! As many liars as may be: of each role, withstood and seen for what they are.

use super::*;

fn lies(role: Role, seed: u64) -> Config {
    Config { role: Some((role, 1)), faults: false, ..Config::new(seed) }
}

/// Runs seeds in which nothing but one liar is wrong, with and without epochs.
fn withstood(role: Role, whats: &[&str]) -> Report {
    let sum = all_good(0..8, |seed| Config { epochs: Some(seed % 2 == 1), ..lies(role, seed) });
    shows(&sum, whats);
    differs(role);
    sum
}

/// What happens in a run that goes on until so late.
fn until(heal_ms: u64, config: &Config) -> Report {
    let (world, trace) = play(config, Vec::new(), |world| world.plan.heal_ms = heal_ms);
    let report = report(&held(&world), config, trace);
    assert!(report.is_good(), "{:?}", report.violations);
    report
}

fn differs(role: Role) {
    // It makes a difference that somebody lies.
    let honest = run(&Config { faults: false, ..Config::new(0) });
    assert_ne!(run(&lies(role, 0)).fingerprint, honest.fingerprint, "{}", role.name());
}

#[test]
fn wrong_roots_are_never_final() {
    withstood(Role::WrongRoots, &["wrong roots proposed", "proposals refused: roots"]);
}

#[test]
fn who_withholds_is_waited_for_and_not_blocked() {
    let sum = withstood(Role::Withholds, &[]);
    assert_eq!(sum.count("liars blocked"), 0, "silence is no lie: {:?}", sum.counts);
}

#[test]
fn who_replays_is_withstood_and_blocked_when_it_speaks_for_others() {
    withstood(Role::Replays, &[]);
    // Before that what it sends is its own, or of an epoch that others may still be in.
    let late = simulation::REPLAYED.as_millis() as u64 * 2;
    for (seed, epochs) in [(0, false), (1, false), (2, true), (3, true)] {
        let report = until(late, &Config { epochs: Some(epochs), ..lies(Role::Replays, seed) });
        shows(&report, &["liars blocked"]);
        assert_eq!(report.count("honest ones blocked by honest ones"), 0);
        assert_eq!(report.count("turns to another epoch") > 0, epochs, "{:?}", report.counts);
    }
}

#[test]
fn who_floods_is_withstood_and_blocked() {
    let sum = withstood(Role::Floods, &["liars blocked"]);
    assert_eq!(sum.count("honest ones blocked by honest ones"), 0);
}

#[test]
fn who_equivocates_is_withstood_and_its_votes_are_proof_against_it() {
    let sum = withstood(Role::Equivocates, &["double votes proved", "liars blocked"]);
    assert_eq!(sum.count("honest ones blocked by honest ones"), 0);
}

#[test]
fn two_of_seven_may_lie_and_all_else_may_go_wrong() {
    for (seed, role) in (20..).zip(&Role::ALL[1..]) {
        let config = Config { validators: 7, role: Some((*role, 2)), ..Config::new(seed) };
        good(&config);
    }
}
