//! Claims and bookings: who comes second is told when, and of his own record where.

use super::given::*;
use super::world::{Event, START, World, document};
use piaogen_verify::conflict::Conflict as C;
use piaogen_verify::entry::Outcome::{self, Accepted, WrongRole};
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind as R;
use piaogen_verify::status::{Booking, BookingMark, Claim};
use piaogen_verify::value::{self, Cause};

const DAY: i64 = 86_400_000;

fn of(kind: R) -> Event {
    Event::of(kind)
}

/// The buyer is nobody whom the registry knows: a personal title.
fn personal(world: &mut World) {
    edit(world, |status| status.facts.buyer = Some("PERSON".into()));
    world.now += 1_000;
}

fn claimed_by_u(world: &mut World) {
    personal(world);
    world.accept("U", &claim(DAY));
    world.now += 1_000;
}

fn booked_by_u(world: &mut World) {
    personal(world);
    world.accept("U", &book(5_000));
    world.now += 1_000;
}

#[test]
fn only_the_buyer_is_a_unit_where_he_is_a_participant() {
    check(vec![
        (nothing, "B", book(1), Accepted),
        (nothing, "B", claim(DAY), Accepted),
        (nothing, "U", book(1), answer(C::NotBuyer)),
        (nothing, "S", book(1), answer(C::NotBuyer)),
        (nothing, "U", claim(DAY), answer(C::NotBuyer)),
        (personal, "U", book(1), Accepted),
        (personal, "W", claim(DAY), Accepted),
        (personal, "K", book(1), WrongRole),
        (personal, "J", claim(DAY), WrongRole),
        (|w| edit(w, |s| s.facts.buyer = None), "U", book(1), Accepted),
    ]);
}

#[test]
fn claims() {
    let late = malformed(tag::EXPIRES, Cause::Range);
    let most = 90 * DAY as u64;
    let limit = Outcome::Limit { tag: tag::EXPIRES, value: most + 1, limit: most };
    check(vec![
        (nothing, "B", claim(1), Accepted),
        (nothing, "B", claim(0), late),
        (nothing, "B", claim(-1), late),
        (nothing, "B", claim(90 * DAY), Accepted),
        (nothing, "B", claim(90 * DAY + 1), limit),
        (claimed_by_u, "U", claim(DAY), at_index(C::AlreadyClaimed, 2)),
        (claimed_by_u, "W", claim(DAY), at_time(C::ClaimedElsewhere, START + 1_000)),
        (booked_by_u, "U", claim(DAY), at_index(C::AlreadyBooked, 2)),
        (booked_by_u, "W", claim(DAY), Accepted),
        (
            |w| {
                booked_by_u(w);
                w.accept("W", &book(6_300));
            },
            "B",
            claim(DAY),
            at_time(C::BookedElsewhere, START + 2_000),
        ),
        (|w| edit(w, |s| s.facts.gross = 0), "B", claim(DAY), with_amount(C::AmountExceeded, 0)),
        (nothing, "B", of(R::ClaimClose), answer(C::NoClaim)),
        (claimed_by_u, "W", of(R::ClaimClose), answer(C::NoClaim)),
        (claimed_by_u, "U", of(R::ClaimClose), Accepted),
    ]);
}

#[test]
fn a_claim_is_live_one_millisecond_before_it_expires_and_not_when_it_does() {
    for (before, expected) in [(1, at_time(C::ClaimedElsewhere, START + 1_000)), (0, Accepted)] {
        let mut world = World::with_invoice(GROSS);
        claimed_by_u(&mut world);
        world.now = START + DAY - before;
        assert_eq!(world.run("W", &book(1)), expected);
    }
}

#[test]
fn a_claim_is_noted_and_used_up_by_its_units_booking() {
    let mut world = World::with_invoice(GROSS);
    personal(&mut world);
    world.accept("U", &claim(DAY).reference("trip-5"));
    let (unit, reference) = ("U".to_owned(), Some("trip-5".to_owned()));
    let (at, expires) = (START + 1_000, START + DAY);
    let noted = Claim { index: 2, at, unit: unit.clone(), reference, expires };
    assert_eq!(world.status().claims, [noted]);
    assert!(world.status().face().claimed);
    let event = book(300).reference("v-7").digest(4).text(tag::MARK, "03");
    world.accept("U", &event);
    let noted = Booking {
        index: 3,
        at,
        unit,
        amount: 300,
        reference: Some("v-7".into()),
        digest: Some([4; 32]),
        mark: BookingMark::NotDeductible,
        archive: None,
    };
    assert_eq!((world.status().claims, world.status().bookings), (vec![], vec![noted]));
}

#[test]
fn bookings() {
    check(vec![
        (nothing, "B", book(GROSS), Accepted),
        (nothing, "B", book(GROSS + 1), with_amount(C::AmountExceeded, GROSS)),
        (|w| w.policy.tolerance = 5, "B", book(GROSS + 5), Accepted),
        (|w| w.policy.tolerance = 5, "B", book(GROSS + 6), with_amount(C::AmountExceeded, GROSS)),
        (|w| edit(w, |s| s.red.amount = 300), "B", book(11_000), Accepted),
        (
            |w| edit(w, |s| s.red.amount = 300),
            "B",
            book(11_001),
            with_amount(C::AmountExceeded, 11_000),
        ),
        (nothing, "B", book(1).text(tag::MARK, "02"), Accepted),
        (nothing, "B", book(1).text(tag::MARK, "04"), malformed(tag::MARK, Cause::Range)),
        (booked_by_u, "U", book(1), at_index(C::AlreadyBooked, 2)),
        (booked_by_u, "W", book(6_300), Accepted),
        (booked_by_u, "W", book(6_301), at_time(C::BookedElsewhere, START + 1_000)),
        (claimed_by_u, "W", book(1), at_time(C::ClaimedElsewhere, START + 1_000)),
        (claimed_by_u, "U", book(1), Accepted),
        (nothing, "B", of(R::Unbook), answer(C::NotBooked)),
        (booked_by_u, "W", of(R::Unbook), answer(C::NotBooked)),
        (booked_by_u, "U", of(R::Unbook), Accepted),
        (nothing, "B", of(R::Archive).digest(1), answer(C::NotBooked)),
        (booked_by_u, "W", of(R::Archive).digest(1), answer(C::NotBooked)),
        (booked_by_u, "U", of(R::Archive).digest(1), Accepted),
        (
            |w| {
                booked_by_u(w);
                w.accept("U", &of(R::Archive).digest(1));
            },
            "U",
            of(R::Archive).digest(2),
            at_index(C::AlreadyDone, 2),
        ),
    ]);
}

#[test]
fn two_units_book_in_one_block_and_the_second_is_told_when() {
    let mut world = World::with_invoice(GROSS);
    personal(&mut world);
    let all = book(GROSS);
    let outcomes = world.run_all(&[("U", &all), ("W", &all), ("U", &all)]);
    let second = at_time(C::BookedElsewhere, START + 1_000);
    assert_eq!(outcomes, [Accepted, second, at_index(C::AlreadyBooked, 2)]);
}

#[test]
fn what_is_unbooked_may_be_booked_by_another() {
    let mut world = World::with_invoice(GROSS);
    booked_by_u(&mut world);
    world.accept("U", &of(R::Archive).digest(6));
    assert_eq!(world.status().bookings[0].archive, Some([6; 32]));
    world.accept("U", &of(R::Unbook));
    assert!(!world.status().face().booked);
    world.accept("W", &book(GROSS));
    assert_eq!(world.status().bookings[0].mark, BookingMark::Deductible);
}

#[test]
fn a_void_or_credited_invoice_is_not_booked_but_unbooked() {
    for (credited, answers) in [(true, C::FullyRed), (false, C::AlreadyVoid)] {
        let mut world = World::with_invoice(GROSS);
        booked_by_u(&mut world);
        world.accept("W", &claim(DAY));
        world.edit(|s| if credited { s.red.amount = GROSS } else { s.void = true });
        for event in [book(1), claim(DAY), of(R::Archive).digest(1)] {
            assert_eq!(world.run("W", &event), answer(answers));
        }
        world.accept("W", &of(R::ClaimClose));
        world.accept("U", &of(R::Unbook));
    }
}

#[test]
fn a_red_invoice_is_no_cost() {
    let mut world = World::new();
    let fields = document(super::world::NUMBER, -GROSS);
    assert_eq!(world.issue_as(R::IssueRed, "T", fields), Accepted);
    for event in [book(1), claim(DAY), select(), red(R::RedRequest, 1, 0, "02")] {
        assert_eq!(world.run("B", &event), answer(C::RedInvoice));
    }
    assert_eq!(world.run("B", &book(1).set(tag::CURRENCY, value::currency(*b"EUR", 2))), {
        answer(C::Currency)
    });
}
