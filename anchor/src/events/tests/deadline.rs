//! Who is warned that a slip is about to lapse, and when: to the millisecond, once, and not where
//! nothing waits any longer.

use super::given::{GROSS, nothing, red, select};
use super::lending::*;
use super::world::{Event, START, World};
use crate::alert::{AlertKind, Recipient};
use piaogen_verify::entry::Outcome::{self, Accepted};
use piaogen_verify::record::RecordKind as R;

/// How long a slip waits, and how long before its end its parties are warned.
const SLIP: i64 = 72 * HOUR;
const WARNING: i64 = 12 * HOUR;

fn slip() -> Event {
    red(R::SlipOpen, 1_130, 130, "02")
}

/// A slip of B, opened at the first moment.
fn open(world: &mut World) {
    world.accept("B", &select());
    world.accept("B", &slip());
}

/// Who is told what in a block without records at this time after the first.
fn told_at(world: &mut World, after: i64) -> Vec<(&'static str, String)> {
    world.now = START + after;
    let before = world.alerts.len();
    world.block(&[]);
    since(world, before)
}

fn since(world: &World, before: usize) -> Vec<(&'static str, String)> {
    let name = |to: &Recipient| match to {
        Recipient::Party(party) => party.clone(),
        Recipient::Authorities => "authorities".into(),
    };
    let kinds = [AlertKind::SlipLapsing, AlertKind::SlipLapsed];
    let all = world.alerts[before..].iter().filter(|alert| kinds.contains(&alert.kind));
    all.map(|alert| (alert.kind.name(), name(&alert.to))).collect()
}

fn both(kind: &'static str) -> Vec<(&'static str, String)> {
    vec![(kind, "B".into()), (kind, "S".into())]
}

#[test]
fn the_first_block_from_the_warning_on_tells_both_sides_once() {
    let (lapsing, lapsed) = ("slip_lapsing", "slip_lapsed");
    let rows = [
        (SLIP - WARNING - 1, Vec::new()),
        (SLIP - WARNING, both(lapsing)),
        (SLIP - WARNING + 1, both(lapsing)),
        (SLIP - 1, both(lapsing)),
        (SLIP, both(lapsed)),
        (SLIP + 1, both(lapsed)),
    ];
    for (after, expected) in rows {
        let mut world = World::with_invoice(GROSS);
        open(&mut world);
        assert_eq!(told_at(&mut world, after), expected, "{after}");
        let slip = world.status().slip.unwrap();
        assert!(world.alerts.iter().all(|alert| alert.log_index == slip.index));
        for later in [after, after.max(SLIP - WARNING), SLIP - 1, SLIP, SLIP + 1] {
            let again = told_at(&mut world, later.max(after));
            assert!(expected.is_empty() || again.is_empty(), "{after}, again at {later}");
        }
    }
}

#[test]
fn who_holds_or_has_financed_is_told_too_and_whose_hold_has_ended_is_not() {
    let mut world = World::with_invoice(GROSS);
    allowed(&mut world);
    world.accept("K", &shared(finance(2_000)));
    world.accept("L", &shared(reserve(2_000)).expires(61 * HOUR));
    world.policy.lien_blocks = 0;
    open(&mut world);
    let parties = |told: Vec<(&'static str, String)>| -> Vec<String> {
        told.into_iter().map(|(_, to)| to).collect()
    };
    let mut later = World::with_invoice(GROSS);
    allowed(&mut later);
    later.accept("L", &reserve(2_000).expires(60 * HOUR));
    later.policy.lien_blocks = 0;
    open(&mut later);
    assert_eq!(parties(told_at(&mut world, SLIP - WARNING)), ["B", "K", "L", "S"]);
    assert_eq!(parties(told_at(&mut later, SLIP - WARNING)), ["B", "S"]);
}

#[test]
fn nobody_is_told_of_what_waits_no_longer() {
    type Ends = fn(&mut World);
    let rows: [(Ends, usize); 7] = [
        (nothing, 2),
        (|w| w.accept("S", &Event::of(R::SlipConfirm)), 0),
        (|w| w.accept("S", &Event::of(R::SlipRefuse)), 0),
        (|w| w.accept("B", &Event::of(R::SlipWithdraw)), 0),
        (|w| w.edit(|status| status.void = true), 0),
        (|w| w.edit(|status| status.red.amount = GROSS), 0),
        // Whether an order freezes it changes nothing of the deadline.
        (|w| w.accept("J", &Event::of(R::Freeze).reference("F")), 2),
    ];
    for (row, (ends, count)) in rows.into_iter().enumerate() {
        let mut world = World::with_invoice(GROSS);
        open(&mut world);
        world.now = START + SLIP - WARNING - 1;
        ends(&mut world);
        assert_eq!(told_at(&mut world, SLIP - WARNING).len(), count, "row {row}");
    }
}

/// What is confirmed in the very block that warns is warned of: as things stood before the block.
#[test]
fn a_block_warns_as_things_stood_before_it() {
    let mut world = World::with_invoice(GROSS);
    open(&mut world);
    world.now = START + SLIP - WARNING;
    let before = world.alerts.len();
    world.accept("S", &Event::of(R::SlipConfirm));
    assert_eq!(since(&world, before), both("slip_lapsing"));
}

#[test]
fn a_slip_in_anothers_place_has_its_own_time() {
    let mut world = World::with_invoice(GROSS);
    open(&mut world);
    world.now = START + HOUR;
    world.accept("B", &Event::of(R::SlipWithdraw));
    world.accept("S", &slip());
    // And in the same block: withdrawn, opened again.
    let (withdraw, again) = (Event::of(R::SlipWithdraw), slip());
    assert_eq!(world.run_all(&[("S", &withdraw), ("B", &again)]), [Accepted; 2]);
    assert_eq!(told_at(&mut world, SLIP - WARNING), []);
    assert_eq!(told_at(&mut world, SLIP - WARNING + HOUR - 1), []);
    let before = world.alerts.len();
    assert_eq!(told_at(&mut world, SLIP - WARNING + HOUR), both("slip_lapsing"));
    let last = world.status().slip.unwrap().index;
    assert!(world.alerts[before..].iter().all(|alert| alert.log_index == last));
}

#[test]
fn the_policy_of_the_opening_counts_and_a_short_slip_is_told_of_at_once() {
    let mut world = World::with_invoice(GROSS);
    open(&mut world);
    world.policy.slip_warning_ms = 24 * HOUR as u64;
    assert_eq!(told_at(&mut world, SLIP - 24 * HOUR), []);
    assert_eq!(told_at(&mut world, SLIP - WARNING), both("slip_lapsing"));
    for (slip_ms, warning, at_once) in [(10, 10, true), (10, 11, true), (11, 10, false)] {
        let mut world = World::with_invoice(GROSS);
        (world.policy.slip_ms, world.policy.slip_warning_ms) = (slip_ms, warning);
        open(&mut world);
        assert_eq!(since(&world, 0).is_empty(), !at_once, "{slip_ms} {warning}");
        assert_eq!(told_at(&mut world, 1).is_empty(), at_once, "{slip_ms} {warning}");
    }
    let mut world = World::with_invoice(GROSS);
    world.policy.slip_warning_ms = 0;
    open(&mut world);
    assert_eq!(told_at(&mut world, SLIP - 1), []);
    assert_eq!(told_at(&mut world, SLIP), both("slip_lapsed"));
}

#[test]
fn a_refused_opening_waits_for_nothing() {
    let mut world = World::with_invoice(GROSS);
    assert_eq!(
        world.run("B", &slip()),
        Outcome::conflict(piaogen_verify::conflict::Conflict::NotInUse)
    );
    assert_eq!(told_at(&mut world, SLIP), []);
}
