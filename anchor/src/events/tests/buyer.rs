//! The buyer's word: who asks for it, what it may say, and what stands.

use super::given::*;
use super::lending::*;
use super::world::{Event, START, World};
use crate::alert::AlertKind as A;
use piaogen_verify::conflict::Conflict as C;
use piaogen_verify::entry::Outcome::Accepted;
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind as R;
use piaogen_verify::status::{BuyerState, Confirmation, Day};

fn ask() -> Event {
    of(R::ConfirmRequest)
}

fn deny() -> Event {
    of(R::BuyerRefuse)
}

/// B confirmed 6,000 at log index 1.
fn confirmed(world: &mut World) {
    world.accept("B", &confirm(6_000));
}

/// And disputes 1,000, at log index 2.
fn disputed(world: &mut World) {
    confirmed(world);
    world.accept("B", &dispute(1_000));
}

#[test]
fn the_seller_or_a_bank_with_a_consent_asks_the_buyer_once() {
    let asked = |w: &mut World| w.accept("S", &ask());
    let denied = |w: &mut World| w.accept("B", &deny());
    let late = |w: &mut World| {
        allowed(w);
        w.now = START + 30 * DAY;
    };
    check(vec![
        (nothing, "S", ask(), Accepted),
        (allowed, "K", ask(), Accepted),
        (late, "K", ask(), answer(C::NoRight)),
        (nothing, "K", ask(), answer(C::NoRight)),
        (nothing, "B", ask(), answer(C::NoRight)),
        (asked, "S", ask(), at_index(C::AlreadyDone, 1)),
        (denied, "S", ask(), Accepted),
        (confirmed, "S", ask(), at_index(C::ConfirmStands, 1)),
        (disputed, "S", ask(), at_index(C::ConfirmStands, 2)),
    ]);
}

#[test]
fn the_buyer_confirms_what_he_owes_and_never_less_than_others_rely_on() {
    let paid = |w: &mut World| w.accept("B", &pay(300, "P"));
    let relied_on = |w: &mut World| {
        confirmed(w);
        allowed(w);
        w.accept("K", &finance(5_000));
    };
    check(vec![
        (nothing, "B", confirm(GROSS), Accepted),
        (nothing, "S", confirm(1), answer(C::NotBuyer)),
        (nothing, "B", confirm(GROSS + 1), with_amount(C::AmountExceeded, GROSS)),
        // Of the whole debt, whether a part of it was paid before or not.
        (paid, "B", confirm(GROSS + 1), with_amount(C::AmountExceeded, GROSS)),
        (paid, "B", confirm(GROSS), Accepted),
        (confirmed, "B", confirm(1), Accepted),
        (relied_on, "B", confirm(4_999), at_index(C::ConfirmStands, 1)),
        (relied_on, "B", confirm(5_000), Accepted),
        (disputed, "B", confirm(6_000), Accepted),
    ]);
}

#[test]
fn a_confirmation_says_amount_day_and_account_and_ends_a_dispute() {
    let mut world = World::with_invoice(GROSS);
    disputed(&mut world);
    let day = 20_300_131u32;
    let event = account(confirm(7_000), 8).set(tag::DUE, day.to_be_bytes().to_vec());
    world.accept("B", &event.flag(tag::NO_SET_OFF));
    let expected = Confirmation {
        index: 3,
        state: BuyerState::Confirmed,
        amount: Some(7_000),
        account: Some([8; 32]),
        due: Some(Day(day)),
        no_set_off: true,
        disputed: None,
    };
    assert_eq!(world.status().confirmation, Some(expected));
    assert_eq!(world.status().capacity(), 7_000);
    world.accept("B", &confirm(8_000));
    let word = world.status().confirmation.unwrap();
    assert_eq!((word.account, word.due, word.no_set_off), (None, None, true));
}

#[test]
fn a_dispute_lowers_capacity_and_leaves_what_was_confirmed() {
    check(vec![
        (nothing, "B", dispute(GROSS), Accepted),
        (nothing, "S", dispute(1), answer(C::NotBuyer)),
        (nothing, "B", dispute(GROSS + 1), with_amount(C::AmountExceeded, GROSS)),
    ]);
    let mut world = World::with_invoice(GROSS);
    financed(&mut world);
    world.accept("B", &confirm(GROSS));
    world.accept("B", &dispute(6_300));
    assert_eq!(told(&world), [(A::Disputed, "S"), (A::Disputed, "K")]);
    let status = world.status();
    assert_eq!((status.capacity(), status.face().over_financed), (0, false));
    assert_eq!(status.confirmation.unwrap().amount, Some(GROSS));
    world.accept("B", &dispute(6_301));
    let all = [(A::Disputed, "S"), (A::Disputed, "K"), (A::OverFinanced, "K")];
    assert_eq!(told(&world), all);
    assert!(world.status().face().over_financed);
}

#[test]
fn a_first_confirmation_below_what_is_assigned_is_told_to_holders() {
    let mut world = World::with_invoice(GROSS);
    financed(&mut world);
    world.accept("B", &confirm(4_999));
    assert_eq!(told(&world), [(A::OverFinanced, "K")]);
    assert_eq!(world.status().capacity(), -1);
}

#[test]
fn the_buyer_refuses_only_what_he_has_not_confirmed_and_resolves_only_a_dispute() {
    let only_disputed = |w: &mut World| w.accept("B", &dispute(1));
    check(vec![
        (nothing, "B", deny(), Accepted),
        (nothing, "S", deny(), answer(C::NotBuyer)),
        (confirmed, "B", deny(), at_index(C::ConfirmStands, 1)),
        (disputed, "B", deny(), at_index(C::ConfirmStands, 2)),
        (nothing, "B", of(R::DisputeResolve), answer(C::NotDisputed)),
        (confirmed, "B", of(R::DisputeResolve), answer(C::NotDisputed)),
        (disputed, "S", of(R::DisputeResolve), answer(C::NotBuyer)),
        (disputed, "B", of(R::DisputeResolve), Accepted),
        (only_disputed, "B", of(R::DisputeResolve), Accepted),
    ]);
    for (given, state) in
        [(disputed as Given, BuyerState::Confirmed), (only_disputed, BuyerState::None)]
    {
        let mut world = World::with_invoice(GROSS);
        given(&mut world);
        world.accept("B", &of(R::DisputeResolve));
        let status = world.status();
        assert_eq!(status.buyer_state(), state);
        assert_eq!(status.confirmation.unwrap().disputed, None);
    }
}
