//! Payments: who says them, how much, to which account, and who acknowledges.

use super::given::*;
use super::lending::*;
use super::world::{Event, World};
use crate::alert::AlertKind as A;
use piaogen_verify::conflict::Conflict as C;
use piaogen_verify::entry::Outcome::Accepted;
use piaogen_verify::record::RecordKind as R;

fn ack(reference: &str) -> Event {
    of(R::PaymentAck).reference(reference)
}

/// B paid 300 at log index 1.
fn paid(world: &mut World) {
    world.accept("B", &pay(300, "P"));
}

#[test]
fn the_buyer_or_a_bank_pays_what_is_owed_once_for_each_reference() {
    let credited = |w: &mut World| edit(w, |status| status.red.amount = 1_300);
    let allowed_paid = |w: &mut World| {
        allowed(w);
        paid(w);
    };
    let undisclosed = |w: &mut World| {
        allowed(w);
        paid(w);
        w.policy.disclose_capacity = 0;
    };
    check(vec![
        (nothing, "B", pay(GROSS, "P"), Accepted),
        (nothing, "K", pay(1, "P"), Accepted),
        (nothing, "S", pay(1, "P"), answer(C::NoRight)),
        (nothing, "U", pay(1, "P"), answer(C::NoRight)),
        (paid, "B", pay(1, "P"), at_index(C::AlreadyDone, 1)),
        (paid, "B", pay(1, "Q"), Accepted),
        (paid, "K", pay(1, "P"), Accepted),
        (paid, "B", pay(11_001, "Q"), with_amount(C::Overpaid, 11_000)),
        (paid, "K", pay(11_001, "Q"), answer(C::MoreThanOwed)),
        (allowed_paid, "K", pay(11_001, "Q"), with_amount(C::Overpaid, 11_000)),
        (undisclosed, "K", pay(11_001, "Q"), answer(C::MoreThanOwed)),
        (credited, "B", pay(10_001, "P"), with_amount(C::Overpaid, 10_000)),
        (credited, "B", pay(10_000, "P"), Accepted),
    ]);
}

#[test]
fn a_list_of_payments_that_is_full_takes_no_more() {
    let mut world = World::with_invoice(GROSS);
    for number in 0..64 {
        world.accept("B", &pay(1, &format!("P{number}")));
    }
    assert_eq!(world.run("B", &pay(1, "Q")), with_number(C::TooMany, 64));
    assert_eq!((world.status().paid(), world.status().capacity()), (64, GROSS - 64));
}

#[test]
fn a_payment_to_another_than_the_bound_account_is_recorded_and_told() {
    let confirmed = |w: &mut World| w.accept("B", &account(confirm(GROSS), 9));
    let both = |w: &mut World| {
        told_of_it(w);
        w.accept("B", &account(confirm(GROSS), 9));
    };
    let not_told = |w: &mut World| {
        allowed(w);
        w.accept("K", &account(finance(5_000), 1));
    };
    let closed = |w: &mut World| {
        told_of_it(w);
        w.accept("K", &to(R::Settle, 1));
    };
    let second = |w: &mut World| {
        told_of_it(w);
        w.accept("L", &shared(finance(1_000)));
        w.accept("L", &account(to(R::Notice, 2), 2));
    };
    let to_account = |seed| account(pay(1, "P"), seed);
    let (s, sk, skl) = (&["S"][..], &["S", "K"][..], &["S", "K", "L"][..]);
    // What is bound, the payment, and who is told; nobody where it is right.
    let rows: Vec<(Given, Event, &[&str])> = vec![
        (nothing, pay(1, "P"), &[]),
        (nothing, to_account(1), &[]),
        (confirmed, to_account(9), &[]),
        (confirmed, to_account(1), s),
        (confirmed, pay(1, "P"), s),
        (not_told, to_account(7), &[]),
        (told_of_it, to_account(1), &[]),
        (told_of_it, to_account(9), sk),
        (told_of_it, pay(1, "P"), sk),
        (both, to_account(1), &[]),
        (both, to_account(9), sk),
        (closed, to_account(9), &[]),
        (second, to_account(2), &[]),
        (second, to_account(1), skl),
    ];
    for (row, (given, event, parties)) in rows.into_iter().enumerate() {
        let mut world = World::with_invoice(GROSS);
        given(&mut world);
        world.accept("B", &event);
        let expected: Vec<_> = parties.iter().map(|party| (A::WrongPayee, *party)).collect();
        assert_eq!(told(&world), expected, "row {row}");
        let payment = world.status().payments.pop().unwrap();
        assert_eq!((payment.amount, payment.wrong_payee), (1, !parties.is_empty()), "row {row}");
    }
}

/// The debt is what it was, the buyer pays the bank, the bank settles: nothing is amiss on the way.
#[test]
fn the_ordinary_life_of_a_financed_invoice_is_never_over_financed() {
    let mut world = World::with_invoice(GROSS);
    allowed(&mut world);
    world.accept("B", &confirm(GROSS));
    world.accept("K", &account(finance(GROSS), 1));
    world.accept("K", &to(R::Notice, 1));
    for (amount, reference) in [(5_000, "P"), (1, "Q"), (6_299, "R")] {
        world.accept("B", &account(pay(amount, reference), 1));
        let status = world.status();
        assert!(!status.face().over_financed, "{reference}");
        assert_eq!((status.debt(), told(&world).len()), (status.to_cover(), 0));
        // What is paid and assigned is not financed anew before the bank says that it is free.
        assert_eq!(status.capacity(), -status.paid());
        assert_eq!(world.run("K", &finance(1)), with_amount(C::CapacityLeft, -status.paid()));
    }
    world.accept("B", &confirm(GROSS));
    assert_eq!(told(&world), []);
    world.accept("K", &to(R::Settle, 1));
    let status = world.status();
    assert_eq!((status.capacity(), status.face().over_financed), (0, false));
}

#[test]
fn what_is_paid_to_another_leaves_less_for_the_holder_who_is_told() {
    let own = |w: &mut World| w.accept("B", &account(pay(6_300, "P"), 1));
    let seller = |w: &mut World| w.accept("B", &account(pay(6_300, "P"), 9));
    let nameless = |w: &mut World| w.accept("B", &pay(6_300, "P"));
    let disputed = |w: &mut World| w.accept("B", &dispute(1));
    let over = [(A::OverFinanced, "K")];
    // K has 5,000 of 11,300; 6,300 may go elsewhere. What comes then, and what K is told of it.
    type Row<'a> = (Vec<Given>, Event, &'a [(A, &'a str)]);
    let rows: Vec<Row<'_>> = vec![
        (vec![seller], account(pay(5_000, "Q"), 1), &[]),
        (vec![seller], account(pay(1, "Q"), 9), &over),
        (vec![nameless], pay(1, "Q"), &over),
        (vec![own], account(pay(5_000, "Q"), 9), &[]),
        (vec![own, disputed], account(pay(5_000, "Q"), 9), &[]),
    ];
    for (row, (givens, event, expected)) in rows.into_iter().enumerate() {
        let mut world = World::with_invoice(GROSS);
        told_of_it(&mut world);
        givens.into_iter().for_each(|given| given(&mut world));
        assert!(!world.status().face().over_financed, "row {row}");
        world.accept("B", &event);
        let mut told = told(&world);
        told.retain(|(kind, _)| *kind == A::OverFinanced);
        assert_eq!(told, expected, "row {row}");
        assert_eq!(world.status().face().over_financed, !expected.is_empty(), "row {row}");
    }
}

#[test]
fn what_a_bank_was_paid_fills_its_financings_and_a_release_takes_it_back() {
    let mut world = World::with_invoice(GROSS);
    told_of_it(&mut world);
    world.accept("K", &account(shared(finance(2_000)), 1));
    let repaid = |world: &World| -> Vec<Option<i128>> {
        world.status().financings.iter().map(|financing| financing.repaid).collect()
    };
    world.accept("B", &account(pay(100, "A"), 1));
    assert_eq!(repaid(&world), [Some(100), None], "the buyer was not told of the second yet");
    world.accept("K", &to(R::Notice, 2));
    world.accept("B", &account(pay(2_050, "B"), 1));
    assert_eq!(repaid(&world), [Some(150), Some(2_000)], "the one told of last first");
    world.accept("K", &to(R::Release, 1).amount(100));
    assert_eq!(repaid(&world), [Some(50), Some(2_000)]);
    world.accept("K", &to(R::Release, 1).amount(4_000));
    let status = world.status();
    assert_eq!((repaid(&world), status.to_cover()), (vec![None, Some(2_000)], 900));
    world.accept("K", &to(R::Settle, 2));
    world.accept("B", &account(pay(1_000, "C"), 1));
    assert_eq!(repaid(&world), [Some(900), Some(2_000)], "no more than is assigned");
}

/// And S acknowledged it, at log index 2.
fn acknowledged(world: &mut World) {
    paid(world);
    world.accept("S", &ack("P"));
}

#[test]
fn who_was_to_be_paid_acknowledges_once() {
    let of_two = |w: &mut World| {
        acknowledged(w);
        w.accept("K", &pay(1, "P"));
    };
    let after = |w: &mut World| {
        settled(w);
        w.accept("B", &pay(1, "P"));
    };
    let void = |w: &mut World| {
        paid(w);
        w.edit(|status| status.void = true);
    };
    check(vec![
        (paid, "S", ack("P"), Accepted),
        (after, "K", ack("P"), Accepted),
        (void, "S", ack("P"), Accepted),
        (void, "B", pay(1, "Q"), answer(C::AlreadyVoid)),
        (paid, "B", ack("P"), answer(C::NoRight)),
        (paid, "K", ack("P"), answer(C::NoRight)),
        (paid, "S", ack("Q"), answer(C::UnknownPayment)),
        (acknowledged, "S", ack("P"), at_index(C::AlreadyDone, 2)),
        (of_two, "S", ack("P"), Accepted),
    ]);
    let mut world = World::with_invoice(GROSS);
    of_two(&mut world);
    world.accept("S", &ack("P"));
    let seen: Vec<_> = world.status().payments.iter().map(|p| p.acknowledged).collect();
    assert_eq!(seen, [Some(2), Some(4)]);
}
