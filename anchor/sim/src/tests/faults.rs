//! Each fault by itself: it bites, it is withstood, and everything is well after it.

use super::*;

/// Runs seeds in which only this goes wrong; it must have shown like this.
fn withstood(fault: Fault, whats: &[&str]) -> Report {
    let sum = all_good(0..8, |seed| Config { fault: Some(fault), ..Config::new(seed) });
    shows(&sum, &[&format!("fault {}", fault.name())]);
    shows(&sum, whats);
    sum
}

#[test]
fn who_is_killed_goes_on_from_its_disk() {
    let whats = ["stops", "writes lost", "writes torn", "blocks executed again"];
    withstood(Fault::Kill, &whats);
}

#[test]
fn whose_power_fails_in_a_write_goes_on_from_what_is_whole() {
    withstood(Fault::PowerCut, &["power failed in a write", "files cut at a restart"]);
}

#[test]
fn a_flipped_bit_is_noticed_or_without_effect() {
    let sum = withstood(Fault::BitFlip, &["flips noticed", "files cut at a restart"]);
    let flips: u64 = ["blocks", "effects", "pending", "points"]
        .iter()
        .map(|name| sum.count(&format!("bits flipped in {name}")))
        .sum();
    assert!(flips >= sum.count("flips noticed") + sum.count("flips without effect"));
}

#[test]
fn who_lost_its_folder_gets_all_blocks_again_from_the_others() {
    let sum = withstood(Fault::Wipe, &["stops", "lost its folder, and has all blocks again"]);
    assert!(sum.count("fault wipe") >= sum.count("lost its folder, and has all blocks again"));
}

#[test]
fn who_is_cut_off_stays_behind_while_the_others_go_on_and_then_agrees() {
    withstood(Fault::Cut, &["cut off, and left behind"]);
}

#[test]
fn halves_halt_and_whoever_is_a_quorum_goes_on() {
    withstood(Fault::Halves, &["halves without a quorum halt", "the larger half goes on"]);
}

#[test]
fn clocks_that_jump_make_no_block() {
    withstood(Fault::ClockForward, &["proposals refused: time"]);
    withstood(Fault::ClockBack, &["proposals refused: time"]);
}

#[test]
fn a_broker_that_stalls_makes_its_validator_withhold_its_vote_and_nothing_else() {
    let whats = [
        "records held back by a broker",
        "votes withheld: the records are not here",
        "blocks made meanwhile",
    ];
    withstood(Fault::BrokerStalls, &whats);
}

#[test]
fn a_broker_that_shows_other_bytes_makes_its_validator_stop() {
    let whats = ["records executed with other bytes", "stopped: another chain than its own"];
    withstood(Fault::BrokerLies, &whats);
}

#[test]
fn a_broker_that_loses_its_tail_makes_its_validator_stop_and_the_others_go_on() {
    let whats = [
        "records lost by a broker",
        "stopped: its stream lost records",
        "starts refused: the stream lost records",
        "stopped for its stream, and the others went on",
        "records replaced by a broker",
    ];
    withstood(Fault::BrokerLosesTail, &whats);
}

#[test]
fn whose_votes_are_damaged_follows_with_another_key_until_they_bind_it_no_more() {
    let whats =
        ["bits flipped in votes", "starts refused: votes are damaged", "followed, and votes again"];
    let sum = withstood(Fault::VoteFlip, &whats);
    assert!(sum.count("bits flipped in votes") > sum.count("starts refused: votes are damaged"));
}

#[test]
fn messages_that_come_twice_are_withstood_and_blamed_on_nobody() {
    let whats = ["blocks made while messages come twice", "messages came twice"];
    let sum = withstood(Fault::Repeats, &whats);
    assert_eq!(sum.count("honest ones blocked by honest ones"), 0);
    assert_eq!(sum.count("messages overtaken"), 0);
}

#[test]
fn messages_that_overtake_each_other_are_withstood_and_blamed_on_nobody() {
    let whats = ["blocks made while messages overtake each other", "messages overtaken"];
    let sum = withstood(Fault::Overtakes, &whats);
    assert_eq!(sum.count("honest ones blocked by honest ones"), 0);
    assert_eq!(sum.count("messages came twice"), 0);
}

#[test]
fn who_starts_again_finds_its_votes_closed() {
    good(&Config::new(248));
}
