//! Random schedules of hundreds of events by all actors: the shard does what a naive model says.
//!
//! A schedule is a list of numbers; each is one step, and what it does follows from the number and
//! from how things stand. Of several drafts for an event the one is sent whose answer the schedule
//! has seen least, so that a short schedule goes far. Runs are the same every time; more schedules
//! are played where `PIAOGEN_RANDOM` says so.

mod coverage;
mod dice;
mod draft;
mod ends;
mod limits;
mod play;
mod table;

use self::coverage::Coverage;
use self::dice::Dice;
use self::draft::draft;
use self::limits::play_limits;
use self::play::{Play, Played, Sort, new_world};
use self::table::{answers, changes, is_general, kinds};
use super::model::Act;
use piaogen_verify::policy::Policy;
use piaogen_verify::record::RecordKind;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::cell::RefCell;

const SCHEDULES: u32 = 96;
const STEPS: usize = 240;

fn schedules() -> u32 {
    std::env::var("PIAOGEN_RANDOM").map_or(SCHEDULES, |text| text.parse().unwrap())
}

fn runner(cases: u32) -> TestRunner {
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 64, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn steps(most: usize) -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(any::<u64>(), most / 2..most)
}

fn play(steps: &[u64]) -> Play {
    let mut play = Play::new();
    for (i, step) in steps.iter().enumerate() {
        let mut dice = Dice::new(*step);
        if i < 3 {
            issue(&mut dice, &mut play);
        }
        one_step(&mut dice, &mut play);
    }
    again(&mut play);
    play
}

/// Sends one accepted event of each kind again.
fn again(play: &mut Play) {
    let mut acts = play.accepted.clone();
    acts.sort_by_key(|(_, act)| act.kind);
    acts.dedup_by_key(|(_, act)| act.kind);
    play.block(&acts);
}

fn one_step(dice: &mut Dice, play: &mut Play) {
    match dice.below(100) {
        0..5 => issue(dice, play),
        5..13 => pass_time(dice, play),
        13..15 | 20..24 => ends::to_an_end(dice, play),
        15..20 => switch_policy(dice, play),
        _ => some_events(dice, play),
    }
}

fn issue(dice: &mut Dice, play: &mut Play) {
    let sort = if dice.chance(50) { Sort::Usual } else { dice.pick(Sort::ALL) };
    let gross = dice.pick(&[1, 113, 11_300, 11_300, 1_000_000]);
    let at = play.issue(sort, gross, dice.below(12) as i64);
    if dice.chance(60) {
        let mut grant = |party| {
            let expires = Some(play.setting.now + 1_000_000_000);
            let act = Act::new(RecordKind::ConsentGrant, "S", play.next_id());
            (at, Act { party: Some(party), scope: Some(7), expires, ..act })
        };
        let grants = [grant("K"), grant("L")];
        play.block(&grants);
    }
}

/// Time goes on, mostly to a deadline, or just before or after it.
fn pass_time(dice: &mut Dice, play: &mut Play) {
    let now = play.setting.now;
    let mut ends: Vec<i64> = Vec::new();
    for known in &play.invoices {
        let model = &known.model;
        ends.extend(model.slip.as_ref().and_then(|slip| slip.deadline));
        ends.extend(model.financings.iter().filter_map(|financing| financing.expires));
        ends.extend(model.claims.iter().map(|claim| claim.expires));
        ends.extend(model.consents.iter().map(|consent| consent.expires));
        ends.extend(model.due.or(model.word.due).map(|day| (day + 1) * 86_400_000));
    }
    ends.retain(|end| *end > now + 1);
    ends.sort_unstable();
    ends.truncate(4);
    let to = match ends.is_empty() || dice.chance(25) {
        true => now + dice.pick(&[1, 60_000, 3_600_000, 86_400_000]),
        false => dice.pick(&ends) + dice.below(3) as i64 - 1,
    };
    play.setting.now = to;
}

fn switch_policy(dice: &mut Dice, play: &mut Play) {
    let mut policy = Policy::default();
    for _ in 0..dice.below(4) {
        match dice.below(11) {
            0 => policy.lien_blocks = 0,
            1 => policy.hold_max_ms = 3_600_000,
            2 => policy.slip_ms = 3_600_000,
            3 => policy.claim_max_ms = 3_600_000,
            4 => policy.partial_financing = 0,
            5 => policy.confirmation_required = 1,
            6 => policy.imported_financeable = 1,
            7 => policy.disclose_capacity = 0,
            10 => policy.slip_warning_ms = dice.pick(&[0, 1, 3_600_000, 90 * 3_600_000]),
            8 => policy.tolerance = 5,
            _ => policy.open_period = 202_612,
        }
    }
    play.setting.policy = policy;
}

/// How little is learnt from an event: how often its answer was met. What any event may be answered
/// tells less than an answer of its own, and what is accepted leads on.
fn rank(play: &Play, at: usize, act: &Act) -> u64 {
    let answer = play.predict(at, act);
    let seen = play.coverage.count(act.kind, answer);
    match answer {
        "ACCEPTED" => seen,
        _ if is_general(act.kind, answer) => 100 + seen,
        _ => 2 * seen,
    }
}

/// One block. What the model says of earlier events of the block is not known to the drafts of
/// later ones, as it is not to the senders.
fn some_events(dice: &mut Dice, play: &mut Play) {
    let count = if dice.chance(50) { 1 } else { 2 + dice.below(5) };
    let mut acts: Vec<(usize, Act)> = Vec::new();
    for _ in 0..count {
        let mut drafts: Vec<(u64, (usize, Act))> = Vec::new();
        for _ in 0..if dice.chance(80) { 16 } else { 1 } {
            let (at, act) = draft(dice, play);
            drafts.push((rank(play, at, &act), (at, act)));
        }
        let rarest = drafts.into_iter().min_by_key(|(seen, _)| *seen);
        let (at, mut act) = rarest.unwrap().1;
        if act.id == 0 {
            act.id = play.next_id();
        }
        acts.push((at, act));
    }
    play.block(&acts);
}

/// Every answer of the table and every change of state occurs, and no other.
fn check_coverage(coverage: &Coverage) {
    let mut missing: Vec<String> = Vec::new();
    for kind in kinds() {
        let known = answers(kind);
        let unmet = known.iter().filter(|answer| coverage.count(kind, answer) == 0);
        missing.extend(unmet.map(|answer| format!("{} {answer}", kind.name())));
        let met = coverage.answers.keys().filter(|(of, _)| *of == kind);
        for (_, answer) in met {
            assert!(known.contains(answer), "{} is answered {answer}", kind.name());
        }
    }
    // What turns at a moment was asked right before it, then, and right after.
    for kind in [RecordKind::SlipConfirm, RecordKind::SlipRefuse] {
        for (beside, answer) in [(-1, "ACCEPTED"), (0, "SLIP_EXPIRED"), (1, "SLIP_EXPIRED")] {
            if coverage.at_end(kind, beside, answer) < 3 {
                missing.push(format!("{} {answer} at {beside} ms", kind.name()));
            }
        }
    }
    for kind in [RecordKind::SlipExpire, RecordKind::HoldExpire] {
        for (beside, answer) in [(-1, "NOT_DUE"), (0, "ACCEPTED"), (1, "ACCEPTED")] {
            if coverage.at_end(kind, beside, answer) == 0 {
                missing.push(format!("{} {answer} at {beside} ms", kind.name()));
            }
        }
    }
    let known = changes();
    for change in coverage.changes.keys() {
        assert!(known.contains(change), "{change:?}");
    }
    let unmet = known.iter().filter(|change| !coverage.changes.contains_key(*change));
    missing.extend(unmet.map(|(part, from, to)| format!("{part} {from} -> {to}")));
    assert!(missing.is_empty(), "never met: {missing:#?}");
}

#[test]
fn the_shard_does_what_the_model_says() {
    let all = RefCell::new(play_limits().coverage);
    let result = runner(schedules()).run(&steps(STEPS), |steps| {
        all.borrow_mut().add(&play(&steps).coverage);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    println!("{}", all.borrow().report());
    check_coverage(&all.borrow());
}

#[test]
fn other_block_boundaries_give_the_same_leaves() {
    let result = runner(schedules() / 4).run(&(steps(STEPS / 2), any::<u64>()), |(steps, seed)| {
        let play = play(&steps);
        let mut dice = Dice::new(seed);
        let mut world = new_world();
        let mut open: Vec<Vec<u8>> = Vec::new();
        for (i, played) in play.played.iter().enumerate() {
            let of = |played: &Played| (played.now, played.policy);
            (world.now, world.policy) = of(played);
            for record in &played.records {
                open.push(record.clone());
                if dice.chance(30) {
                    world.block(&std::mem::take(&mut open));
                }
            }
            // A block has one time and one policy.
            if play.played.get(i + 1).is_none_or(|next| of(next) != of(played)) {
                world.block(&std::mem::take(&mut open));
            }
        }
        assert!(world.entries == play.world.entries);
        assert!(world.alerts == play.world.alerts);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
