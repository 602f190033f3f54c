//! Who comes first in the stream wins, in one block or in two; deadlines are moments of block time.

use super::given::*;
use super::lending::*;
use super::world::{START, World};
use crate::alert::AlertKind as A;
use piaogen_verify::conflict::Conflict as C;
use piaogen_verify::entry::Outcome::{self, Accepted};
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind as R;

fn world(given: fn(&mut World)) -> World {
    let mut world = World::with_invoice(GROSS);
    given(&mut world);
    world
}

#[test]
fn of_two_banks_in_one_block_the_first_wins() {
    let until = at_time(C::Held, START + HOUR);
    let mut exclusive = world(allowed);
    let pair = [("K", &reserve(GROSS)), ("L", &reserve(GROSS))];
    assert_eq!(exclusive.run_all(&pair), [Accepted, until]);
    let mut parts = world(allowed);
    let (first, second) = (shared(finance(6_000)), shared(finance(6_000)));
    let outcomes = parts.run_all(&[("L", &first), ("K", &second)]);
    assert_eq!(outcomes, [Accepted, with_amount(C::CapacityLeft, 5_300)]);
    // The refused one met the status that the first one made.
    let [one, two] = parts.entries.last_chunk::<2>().unwrap();
    assert_eq!((one.status, one.status), (two.status, parts.status().digest()));
}

#[test]
fn settling_and_passing_on_exclude_each_other() {
    let (settle, accept) = (to(R::Settle, 1), to(R::TransferAccept, 1));
    let (by_k, by_l) = (("K", &settle), ("L", &accept));
    let closed = at_index(C::AlreadyClosed, 3);
    assert_eq!(world(offered).run_all(&[by_k, by_l]), [Accepted, closed]);
    let outcomes = world(offered).run_all(&[by_l, by_k]);
    assert_eq!(outcomes, [Accepted, answer(C::NotHolder)]);
}

#[test]
fn a_hold_ends_exactly_at_its_time_for_its_bank_and_for_others() {
    let (open, other) = (finance(5_000).financing(1), reserve(GROSS).expires(2 * HOUR));
    let pair = [("K", &open), ("L", &other)];
    let rows: [(i64, [Outcome; 2]); 2] = [
        (-1, [Accepted, with_number(C::Encumbered, 1)]),
        (0, [at_index(C::StaleToken, 3), Accepted]),
    ];
    for (offset, outcomes) in rows {
        let mut world = world(held);
        world.now = START + HOUR + offset;
        assert_eq!(world.run_all(&pair), outcomes, "{offset} ms from its end");
    }
}

#[test]
fn a_hold_and_a_red_request_meet_in_either_order() {
    let (hold, request) = (reserve(GROSS), red(R::RedRequest, 1_130, 130, "02"));
    let outcomes = world(allowed).run_all(&[("K", &hold), ("S", &request)]);
    assert_eq!(outcomes, [Accepted, with_number(C::Encumbered, 1)]);
    let outcomes = world(allowed).run_all(&[("S", &request), ("K", &hold)]);
    assert_eq!(outcomes, [Accepted, at_index(C::SlipLive, 3)]);
}

#[test]
fn red_after_pledge_needs_the_bank_or_leaves_it_told() {
    let mut world = world(allowed);
    world.accept("K", &finance(GROSS));
    let request = red(R::RedRequest, 1_130, 130, "02");
    assert_eq!(world.run("S", &request), with_number(C::Encumbered, 1));
    world.accept("K", &to(R::ConsentRed, 1).amount(1_130));
    world.accept("S", &request);
    world.accept("T", &apply("R1", 1_130, 130));
    assert!(told(&world).contains(&(A::OverFinanced, "K")));
    assert!(world.status().face().over_financed);
    assert_eq!(world.run("K", &finance(1)), with_amount(C::CapacityLeft, -1_130));
}

#[test]
fn a_fact_of_the_authority_over_finances_and_then_nothing_new_is_financed() {
    let mut world = world(held);
    world.accept("T", &fact("red", "X").amount(8_000).tax(0));
    assert_eq!(world.status().capacity(), -1_700);
    let open = finance(5_000).financing(1);
    assert_eq!(world.run("K", &open), with_amount(C::CapacityLeft, 3_300));
    world.accept("K", &finance(3_300).financing(1));
    assert!(!world.status().face().over_financed);
}

#[test]
fn a_stale_version_loses() {
    let mut world = world(allowed);
    let event = shared(reserve(1)).uint(tag::EXPECTED_VERSION, 2);
    let outcomes = world.run_all(&[("K", &event), ("L", &event)]);
    assert_eq!(outcomes, [Accepted, with_number(C::StaleVersion, 3)]);
}

#[test]
fn the_same_event_twice_takes_capacity_once() {
    let mut world = world(allowed);
    let mut event = shared(finance(5_000));
    event.secret = Some(7);
    let outcomes = world.run_all(&[("K", &event), ("K", &event)]);
    assert_eq!(outcomes, [Accepted, Outcome::Replay { first: 3 }]);
    assert_eq!(world.status().capacity(), 6_300);
}
