//! Consents, holds and financings: every row, every answer, and what a third party is told.

use super::given::*;
use super::lending::*;
use super::world::{Event, NUMBER, START, World, document};
use crate::alert::AlertKind as A;
use piaogen_verify::conflict::Conflict as C;
use piaogen_verify::entry::Outcome::{self, Accepted, Limit, NotFound, WrongRole};
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind as R;
use piaogen_verify::status::{FinancingState as F, Risk, Status};
use piaogen_verify::value::{self, Cause};

fn revoke(bank: &str) -> Event {
    of(R::ConsentRevoke).text(tag::ACTOR, bank)
}

fn offer(id: u64, bank: &str) -> Event {
    to(R::FinanceTransfer, id).text(tag::ACTOR, bank)
}

fn registered(number: &str) -> Event {
    to(R::RegistryRef, 1).reference(number).text(tag::SYSTEM, "ZDW")
}

/// Nothing but K's and L's consents, and the status as it is changed.
fn changed(world: &mut World, change: fn(&mut Status)) {
    allowed(world);
    world.edit(change);
}

/// The only financing.
fn first(world: &World) -> piaogen_verify::status::Financing {
    world.status().financings[0].clone()
}

#[test]
fn the_seller_consents_to_a_bank_for_a_time() {
    let past = grant("K", 7).set(tag::EXPIRES, value::time(START));
    check(vec![
        (nothing, "S", grant("K", 7), Accepted),
        (allowed, "S", grant("K", 1), Accepted),
        (nothing, "B", grant("K", 7), answer(C::NotSeller)),
        (nothing, "T", grant("K", 7), answer(C::NotSeller)),
        (nothing, "S", grant("U", 7), NotFound),
        (nothing, "S", grant("nobody", 7), NotFound),
        (nothing, "S", grant("K", 0), malformed(tag::SCOPE, Cause::Range)),
        (nothing, "S", grant("K", 8), malformed(tag::SCOPE, Cause::Range)),
        (nothing, "S", past, at_time(C::Expired, START)),
        (allowed, "S", revoke("K"), Accepted),
        (allowed, "B", revoke("K"), answer(C::NotSeller)),
        (nothing, "S", revoke("K"), answer(C::NoConsent)),
    ]);
    let mut world = World::with_invoice(GROSS);
    allowed(&mut world);
    world.accept("S", &grant("K", 1).amount(9));
    let consents = world.status().consents;
    assert_eq!((consents.len(), consents[0].scope, consents[0].amount), (2, 1, Some(9)));
}

#[test]
fn a_bank_holds_and_finances_only_what_the_seller_consents_to() {
    let limited = |w: &mut World| w.accept("S", &grant("K", 6).amount(5_000));
    let asks_only = |w: &mut World| w.accept("S", &grant("K", 1));
    let revoked = |w: &mut World| {
        allowed(w);
        w.accept("S", &revoke("K"));
    };
    let ended = |w: &mut World| {
        w.accept("S", &grant("K", 7).expires(HOUR));
        w.now = START + HOUR;
    };
    let rows: Vec<(Given, i128, Outcome)> = vec![
        (nothing, 1, answer(C::NoConsent)),
        (asks_only, 1, answer(C::NoConsent)),
        (revoked, 1, answer(C::NoConsent)),
        (ended, 1, at_time(C::Expired, START + HOUR)),
        (limited, 5_001, with_amount(C::AmountExceeded, 5_000)),
        (limited, 5_000, Accepted),
    ];
    for (given, amount, outcome) in rows {
        let hold = reserve(amount).expires(2 * HOUR);
        check(vec![(given, "K", hold, outcome), (given, "K", finance(amount), outcome)]);
    }
    let (hold_only, finance_only): (Given, Given) =
        (|w| w.accept("S", &grant("K", 2)), |w| w.accept("S", &grant("K", 4)));
    check(vec![
        (hold_only, "K", reserve(1), Accepted),
        (hold_only, "K", finance(1), answer(C::NoConsent)),
        (finance_only, "K", reserve(1), answer(C::NoConsent)),
        (finance_only, "K", finance(1), Accepted),
        (allowed, "S", reserve(1), WrongRole),
        (allowed, "T", finance(1), WrongRole),
    ]);
}

/// A consent is a limit on all that the bank has at a time, not on each of its events.
#[test]
fn a_consent_for_an_amount_is_for_all_that_a_bank_has_together() {
    let limited = |w: &mut World| w.accept("S", &grant("K", 7).amount(5_000));
    let held = |w: &mut World| {
        w.accept("S", &grant("K", 7).amount(5_000));
        w.accept("K", &reserve(3_000));
    };
    let opened = |w: &mut World| {
        w.accept("S", &grant("K", 7).amount(5_000));
        w.accept("K", &finance(3_000));
    };
    let two = |w: &mut World| {
        w.accept("S", &grant("K", 7).amount(5_000));
        w.accept("K", &reserve(3_000));
        w.accept("K", &reserve(2_000));
    };
    let cancelled = |w: &mut World| {
        w.accept("S", &grant("K", 7).amount(5_000));
        w.accept("K", &reserve(3_000));
        w.accept("K", &to(R::HoldCancel, 1));
    };
    let ended = |w: &mut World| {
        w.accept("S", &grant("K", 7).amount(5_000));
        w.accept("K", &reserve(3_000));
        w.now = START + HOUR;
    };
    let settled = |w: &mut World| {
        w.accept("S", &grant("K", 7).amount(5_000));
        w.accept("K", &finance(3_000));
        w.accept("K", &to(R::Settle, 1));
    };
    let less = |w: &mut World| {
        w.accept("S", &grant("K", 7).amount(5_000));
        w.accept("K", &finance(3_000));
        w.accept("S", &grant("K", 7).amount(1_000));
    };
    let left = |amount| with_amount(C::AmountExceeded, amount);
    let later = |event: Event| event.expires(2 * HOUR);
    check(vec![
        (limited, "K", reserve(5_000), Accepted),
        (held, "K", reserve(2_000), Accepted),
        (held, "K", reserve(2_001), left(2_000)),
        (held, "K", finance(2_000), Accepted),
        (held, "K", finance(2_001), left(2_000)),
        (held, "K", finance(3_000).financing(1), Accepted),
        (two, "K", finance(3_000).financing(1), Accepted),
        (two, "K", finance(3_001).financing(1), left(3_000)),
        (two, "K", reserve(1), left(0)),
        (opened, "K", reserve(2_001), left(2_000)),
        (opened, "K", finance(2_001).financing(1), left(2_000)),
        (cancelled, "K", reserve(5_000), Accepted),
        (ended, "K", later(reserve(5_000)), Accepted),
        (settled, "K", reserve(5_000), Accepted),
        (less, "K", reserve(1), left(0)),
        (less, "K", of(R::Query), Accepted),
    ]);
}

#[test]
fn a_hold_ends_later_than_now_and_within_the_limit() {
    let limit = 7 * DAY as u64;
    let over = Limit { tag: tag::EXPIRES, value: limit + 1, limit };
    let short = |w: &mut World| {
        allowed(w);
        w.policy.hold_max_ms = 10;
    };
    let over_short = Limit { tag: tag::EXPIRES, value: 11, limit: 10 };
    check(vec![
        (allowed, "K", reserve(1).expires(0), malformed(tag::EXPIRES, Cause::Range)),
        (allowed, "K", reserve(1).expires(1), Accepted),
        (allowed, "K", reserve(1).expires(7 * DAY), Accepted),
        (allowed, "K", reserve(1).expires(7 * DAY + 1), over),
        (short, "K", reserve(1).expires(11), over_short),
        (short, "K", reserve(1).expires(10), Accepted),
    ]);
}

/// What stands against financing the invoice, and the answer.
type Obstacle = (Given, Outcome);

fn obstacles() -> Vec<Obstacle> {
    vec![
        (|w| changed(w, |s| s.risk = Risk::Doubtful), answer(C::Abnormal)),
        (|w| changed(w, |s| s.risk = Risk::Abnormal), answer(C::Abnormal)),
        (|w| w.accept("B", &of(R::BuyerRefuse)), answer(C::NotConfirmed)),
        (|w| w.now = past_due(), at_time(C::Matured, past_due())),
        (|w| w.policy.confirmation_required = 1, answer(C::NotConfirmed)),
        (|w| w.policy.partial_financing = 0, with_amount(C::WholeAmount, GROSS)),
    ]
}

#[test]
fn what_stands_against_the_invoice_stands_against_hold_and_financing() {
    for (at, (given, outcome)) in obstacles().into_iter().enumerate() {
        for event in [reserve(1_000).expires(12 * DAY), finance(1_000)] {
            let mut world = World::with_invoice(GROSS);
            world.policy.hold_max_ms = 20 * DAY as u64;
            allowed(&mut world);
            given(&mut world);
            assert_eq!(world.run("K", &event), outcome, "obstacle {at}");
        }
        // A hold from before does not help.
        let mut world = World::with_invoice(GROSS);
        world.policy.hold_max_ms = 20 * DAY as u64;
        allowed(&mut world);
        world.accept("K", &reserve(1_000).expires(12 * DAY));
        given(&mut world);
        let opened = finance(1_000).financing(1);
        assert_eq!(world.run("K", &opened), outcome, "obstacle {at}, with a hold");
    }
}

#[test]
fn the_last_moment_of_the_due_day_is_in_time_and_the_buyers_day_goes_before() {
    let last = |w: &mut World| {
        allowed(w);
        w.now = past_due() - 1;
    };
    let postponed = |w: &mut World| {
        allowed(w);
        let day = 20_990_131u32.to_be_bytes().to_vec();
        w.accept("B", &confirm(GROSS).set(tag::DUE, day));
        w.now = past_due();
    };
    check(vec![(last, "K", finance(1), Accepted), (postponed, "K", finance(1), Accepted)]);
}

#[test]
fn policies_let_parts_unconfirmed_debts_and_imports_be_financed_or_not() {
    let whole = |w: &mut World| {
        allowed(w);
        w.policy.partial_financing = 0;
    };
    let whole_unknown = |w: &mut World| {
        silent(w);
        w.policy.partial_financing = 0;
    };
    let confirmed = |w: &mut World| {
        allowed(w);
        w.policy.confirmation_required = 1;
        w.accept("B", &confirm(5_000));
        w.accept("B", &dispute(1_000));
    };
    let imported =
        |w: &mut World| changed(w, |s| s.origin = piaogen_verify::status::Origin::Import);
    let allowed_import = |w: &mut World| {
        changed(w, |s| s.origin = piaogen_verify::status::Origin::Import);
        w.policy.imported_financeable = 1;
    };
    check(vec![
        (whole, "K", finance(GROSS), Accepted),
        (whole, "K", finance(GROSS - 1), with_amount(C::WholeAmount, GROSS)),
        (whole_unknown, "K", finance(GROSS - 1), answer(C::NotWhole)),
        (confirmed, "K", finance(5_000), Accepted),
        (imported, "K", finance(1), answer(C::NotFinanceable)),
        (allowed_import, "K", finance(1), Accepted),
    ]);
    let mut world = World::with_invoice(0);
    allowed(&mut world);
    assert_eq!(world.run("K", &finance(1)), answer(C::NotFinanceable));
}

#[test]
fn a_live_slip_void_red_and_frozen_invoices_are_not_financed() {
    let slip = |w: &mut World| {
        allowed(w);
        w.accept("S", &red(R::RedRequest, 1_130, 130, "02"));
    };
    let gone = |w: &mut World| {
        allowed(w);
        w.accept("B", &select());
        w.accept("B", &red(R::SlipOpen, 1_130, 130, "02"));
        w.now = START + 72 * HOUR;
    };
    let order = |w: &mut World| {
        allowed(w);
        w.accept("J", &of(R::Freeze).reference("F"));
    };
    check(vec![
        (slip, "K", finance(1), at_index(C::SlipLive, 3)),
        (gone, "K", finance(1), Accepted),
        (order, "K", finance(1), with_number(C::Frozen, 1)),
        (|w| changed(w, |s| s.void = true), "K", reserve(1), answer(C::AlreadyVoid)),
        (|w| changed(w, |s| s.red.amount = GROSS), "K", reserve(1), answer(C::FullyRed)),
        (defaulted, "K", shared(finance(1)), at_time(C::Matured, past_due())),
        (
            |w| {
                defaulted(w);
                w.now = START;
            },
            "L",
            shared(finance(1)),
            with_number(C::Encumbered, 1),
        ),
    ]);
}

#[test]
fn who_comes_second_is_told_by_what_and_never_by_whom() {
    let exclusive = |w: &mut World| {
        allowed(w);
        w.accept("K", &finance(5_000));
    };
    let shared_hold = |w: &mut World| {
        allowed(w);
        w.accept("K", &shared(reserve(5_000)));
    };
    let silent_hold = |w: &mut World| {
        silent(w);
        w.accept("K", &shared(finance(5_000)));
    };
    let undisclosed = |w: &mut World| {
        financed(w);
        w.policy.disclose_capacity = 0;
    };
    let until = at_time(C::Held, START + HOUR);
    check(vec![
        (held, "L", reserve(1), until),
        (held, "L", shared(reserve(1)), until),
        (held, "L", finance(1), until),
        (held, "K", reserve(6_300), Accepted),
        (held, "K", reserve(6_301), with_amount(C::CapacityLeft, 6_300)),
        (exclusive, "L", shared(finance(1)), with_number(C::Encumbered, 1)),
        (exclusive, "K", finance(6_300), Accepted),
        (financed, "L", finance(1), with_number(C::Encumbered, 1)),
        (financed, "L", shared(finance(6_300)), Accepted),
        (financed, "L", shared(reserve(6_301)), with_amount(C::CapacityLeft, 6_300)),
        (shared_hold, "L", reserve(1), until),
        (shared_hold, "L", shared(reserve(6_301)), until),
        (shared_hold, "L", shared(reserve(GROSS + 1)), with_amount(C::CapacityLeft, 6_300)),
        (silent_hold, "L", shared(finance(6_301)), answer(C::Capacity)),
        (undisclosed, "L", shared(finance(6_301)), answer(C::Capacity)),
    ]);
}

#[test]
fn capacity_follows_credits_payments_disputes_and_the_buyers_word() {
    let rows: Vec<(Given, i128)> = vec![
        (nothing, GROSS),
        (|w| w.accept("B", &pay(300, "P")), 11_000),
        (|w| w.accept("B", &dispute(1_300)), 10_000),
        (|w| w.accept("B", &confirm(6_000)), 6_000),
        (|w| w.edit(|s| s.red.amount = 1_300), 10_000),
        (|w| w.accept("K", &shared(reserve(5_000))), 6_300),
        (financed_beside, 6_300),
    ];
    for (row, (given, capacity)) in rows.into_iter().enumerate() {
        for (amount, fits) in [(capacity, true), (capacity + 1, false)] {
            let mut world = World::with_invoice(GROSS);
            allowed(&mut world);
            given(&mut world);
            let outcome = world.run("K", &shared(finance(amount)));
            assert_eq!(outcome == Accepted, fits, "row {row}: {}", outcome.explain());
            if fits {
                assert_eq!(world.status().capacity(), 0, "row {row}");
            }
        }
    }
}

fn financed_beside(world: &mut World) {
    world.accept("L", &shared(finance(5_000)));
}

#[test]
fn a_hold_is_its_banks_until_it_ends_and_its_number_is_worth_nothing_after() {
    let cancelled = |w: &mut World| {
        held(w);
        w.accept("K", &to(R::HoldCancel, 1));
    };
    let opened = |w: &mut World| {
        held(w);
        w.accept("K", &finance(5_000).financing(1));
    };
    let over = |w: &mut World| {
        held(w);
        w.now = START + HOUR;
    };
    let noted = |w: &mut World| {
        held(w);
        w.now = START + HOUR;
        w.accept("U", &to(R::HoldExpire, 1));
    };
    let noted_by_another = |w: &mut World| {
        held(w);
        w.now = START + HOUR;
        w.accept("T", &of(R::AddFile).digest(1));
    };
    let last = |w: &mut World| {
        held(w);
        w.now = START + HOUR - 1;
    };
    let stale = at_index(C::StaleToken, 3);
    check(vec![
        (held, "K", to(R::HoldCancel, 1), Accepted),
        (held, "K", to(R::HoldCancel, 2), answer(C::NoHold)),
        (held, "L", to(R::HoldCancel, 1), answer(C::NotHolder)),
        (held, "S", to(R::HoldCancel, 1), WrongRole),
        (cancelled, "K", to(R::HoldCancel, 1), stale),
        (opened, "K", to(R::HoldCancel, 1), stale),
        (over, "K", to(R::HoldCancel, 1), stale),
        (last, "K", to(R::HoldCancel, 1), Accepted),
        (held, "U", to(R::HoldExpire, 2), answer(C::NoHold)),
        (last, "U", to(R::HoldExpire, 1), at_time(C::NotDue, START + HOUR)),
        (over, "U", to(R::HoldExpire, 1), Accepted),
        (noted, "U", to(R::HoldExpire, 1), stale),
        (noted_by_another, "U", to(R::HoldExpire, 1), stale),
        (opened, "U", to(R::HoldExpire, 1), stale),
        (last, "K", finance(5_000).financing(1), Accepted),
        (over, "K", finance(5_000).financing(1), stale),
        (cancelled, "K", finance(5_000).financing(1), stale),
        (opened, "K", finance(1).financing(1), stale),
        (held, "L", finance(1).financing(1), answer(C::NotHolder)),
        (held, "K", finance(1).financing(2), answer(C::NoHold)),
        (held, "K", finance(5_001).financing(1), with_amount(C::AmountExceeded, 5_000)),
        (over, "L", reserve(GROSS).expires(2 * HOUR), Accepted),
    ]);
}

#[test]
fn a_financing_says_its_form_and_pays_out_no_more_than_is_assigned() {
    let advanced = |amount| finance(100).set(tag::ADVANCED, value::amount(amount));
    check(vec![
        (allowed, "K", advanced(100), Accepted),
        (allowed, "K", advanced(0), Accepted),
        (allowed, "K", advanced(101), malformed(tag::ADVANCED, Cause::Range)),
        (allowed, "K", finance(1).text(tag::FORM, "gift"), malformed(tag::FORM, Cause::Range)),
    ]);
    let mut world = World::with_invoice(GROSS);
    held(&mut world);
    world.accept("K", &account(finance(4_000).financing(1), 3));
    assert_eq!(told(&world), [(A::Financed, "S"), (A::Financed, "B")]);
    let lien = first(&world);
    assert_eq!((lien.state, lien.assigned, lien.advanced), (F::Open, 4_000, Some(3_200)));
    assert_eq!((lien.expires, lien.account, lien.index), (None, Some([3; 32]), 3));
    assert_eq!(world.status().capacity(), 7_300);
}

#[test]
fn a_hold_whose_amount_is_gone_cannot_be_opened() {
    let mut world = World::with_invoice(GROSS);
    allowed(&mut world);
    world.accept("K", &reserve(GROSS));
    world.accept("B", &pay(300, "P"));
    let whole = finance(GROSS).financing(1);
    assert_eq!(world.run("K", &whole), with_amount(C::CapacityLeft, 11_000));
    world.accept("K", &finance(11_000).financing(1));
    assert_eq!(world.status().capacity(), 0);
}

#[test]
fn numbers_ascend_and_the_list_of_financings_is_bounded() {
    let mut world = World::with_invoice(GROSS);
    allowed(&mut world);
    for id in 1..=64 {
        world.accept("K", &reserve(1));
        world.accept("K", &to(R::HoldCancel, id));
    }
    assert_eq!(world.run("K", &reserve(1)), with_number(C::TooMany, 64));
    assert_eq!(world.run("K", &finance(1)), with_number(C::TooMany, 64));
}

#[test]
fn only_the_holder_disposes_of_a_live_financing() {
    let acts = || {
        vec![
            to(R::RegistryRef, 1).reference("N").text(tag::SYSTEM, "ZDW"),
            to(R::ConsentRed, 1).amount(1),
            to(R::Release, 1),
            to(R::Settle, 1),
            offer(1, "L"),
            to(R::Default, 1),
            to(R::Cure, 1),
        ]
    };
    for act in acts() {
        let mut of_none = act.clone();
        of_none = of_none.financing(9);
        let on_hold = match act.kind {
            R::ConsentRed => Accepted,
            _ => at_index(C::FinancingState, 3),
        };
        check(vec![
            (financed, "L", act.clone(), answer(C::NotHolder)),
            (financed, "K", of_none, answer(C::NoHold)),
            (settled, "K", act.clone(), at_index(C::AlreadyClosed, 3)),
            (held, "K", act, on_hold),
        ]);
    }
    check(vec![
        (financed, "S", to(R::Release, 1), answer(C::NotHolder)),
        (financed, "S", to(R::Settle, 1), answer(C::NotHolder)),
        (financed, "S", to(R::ConsentRed, 1).amount(1), WrongRole),
        (financed, "T", to(R::Settle, 1), answer(C::NotHolder)),
    ]);
}

#[test]
fn the_buyer_is_told_once_and_takes_note_once() {
    let noted = |w: &mut World| {
        told_of_it(w);
        w.accept("B", &to(R::NoticeAck, 1));
    };
    check(vec![
        (financed, "K", to(R::Notice, 1), Accepted),
        (financed, "S", to(R::Notice, 1), Accepted),
        (financed, "L", to(R::Notice, 1), answer(C::NotHolder)),
        (financed, "B", to(R::Notice, 1), answer(C::NotHolder)),
        (financed, "S", to(R::Notice, 2), answer(C::NoHold)),
        (held, "K", to(R::Notice, 1), at_index(C::FinancingState, 3)),
        (settled, "S", to(R::Notice, 1), at_index(C::AlreadyClosed, 3)),
        (told_of_it, "S", to(R::Notice, 1), at_index(C::AlreadyNotified, 4)),
        (told_of_it, "B", to(R::NoticeAck, 1), Accepted),
        (told_of_it, "S", to(R::NoticeAck, 1), answer(C::NotBuyer)),
        (told_of_it, "K", to(R::NoticeAck, 1), answer(C::NotBuyer)),
        (told_of_it, "B", to(R::NoticeAck, 2), answer(C::NoHold)),
        (financed, "B", to(R::NoticeAck, 1), answer(C::NotNotified)),
        (settled, "B", to(R::NoticeAck, 1), at_index(C::AlreadyClosed, 3)),
        (noted, "B", to(R::NoticeAck, 1), at_index(C::AlreadyDone, 5)),
    ]);
    let mut world = World::with_invoice(GROSS);
    told_of_it(&mut world);
    assert_eq!(told(&world), [(A::Noticed, "B")]);
    assert_eq!((first(&world).noticed, first(&world).account), (Some(4), Some([1; 32])));
}

#[test]
fn registrations_releases_and_consents_to_red_change_their_part() {
    let once = |w: &mut World| {
        financed(w);
        w.accept("K", &registered("N"));
    };
    let (red, part) = (|n| to(R::ConsentRed, 1).amount(n), |n| to(R::Release, 1).amount(n));
    check(vec![
        (financed, "K", registered("N"), Accepted),
        (once, "K", registered("M"), Accepted),
        (once, "K", registered("N").text(tag::SYSTEM, "X"), Accepted),
        (once, "K", registered("N"), at_index(C::AlreadyDone, 4)),
        (financed, "K", red(GROSS), Accepted),
        (financed, "K", red(GROSS + 1), with_amount(C::AmountExceeded, GROSS)),
        (financed, "K", part(5_001), with_amount(C::AmountExceeded, 5_000)),
    ]);
    let mut world = World::with_invoice(GROSS);
    once(&mut world);
    world.accept("K", &red(7));
    world.accept("K", &red(9));
    world.accept("K", &part(2_000));
    let lien = first(&world);
    assert_eq!((lien.red_consent, lien.assigned, lien.state), (Some(9), 3_000, F::Open));
    assert_eq!((lien.external.len(), lien.external[0].number.as_str()), (1, "N"));
    world.accept("K", &part(3_000));
    assert_eq!((first(&world).state, world.status().capacity()), (F::Released, GROSS));
}

#[test]
fn a_financing_passes_to_the_bank_it_was_offered_to() {
    let accept = |id| to(R::TransferAccept, id);
    let closed = |w: &mut World| {
        offered(w);
        w.accept("K", &to(R::Settle, 1));
    };
    check(vec![
        (financed, "K", offer(1, "U"), NotFound),
        (financed, "K", offer(1, "nobody"), NotFound),
        (financed, "K", offer(1, "K"), answer(C::SameParty)),
        (offered, "L", accept(1), Accepted),
        (offered, "L", accept(2), answer(C::NoHold)),
        (offered, "K", accept(1), answer(C::NotOffered)),
        (offered, "S", accept(1), WrongRole),
        (financed, "L", accept(1), answer(C::NotOffered)),
        (closed, "L", accept(1), at_index(C::AlreadyClosed, 3)),
    ]);
    let mut world = World::with_invoice(GROSS);
    told_of_it(&mut world);
    world.accept("K", &offer(1, "L"));
    assert_eq!(told(&world), [(A::Offered, "L")]);
    world.accept("L", &accept(1));
    let lien = first(&world);
    assert_eq!((lien.holder.as_str(), lien.offered_to, lien.noticed), ("L", None, None));
    assert_eq!(lien.account, None);
    world.accept("L", &account(to(R::Notice, 1), 2));
    assert_eq!(world.run("K", &to(R::Settle, 1)), answer(C::NotHolder));
}

#[test]
fn a_default_is_said_after_the_due_day_and_cured() {
    let late = |w: &mut World| {
        financed(w);
        w.now = past_due();
    };
    let too_early = |w: &mut World| {
        financed(w);
        w.now = past_due() - 1;
    };
    let dateless = |w: &mut World| {
        financed(w);
        w.edit(|status| status.facts.due_date = None);
    };
    check(vec![
        (late, "K", to(R::Default, 1), Accepted),
        (too_early, "K", to(R::Default, 1), at_time(C::NotDue, past_due())),
        (dateless, "K", to(R::Default, 1), Accepted),
        (defaulted, "K", to(R::Default, 1), at_index(C::AlreadyDone, 3)),
        (defaulted, "K", to(R::Settle, 1), Accepted),
        (defaulted, "K", to(R::Cure, 1), Accepted),
        (financed, "K", to(R::Cure, 1), at_index(C::FinancingState, 3)),
    ]);
    let mut world = World::with_invoice(GROSS);
    defaulted(&mut world);
    assert_eq!(told(&world), [(A::InDefault, "S"), (A::InDefault, "B")]);
    world.accept("K", &to(R::Cure, 1));
    assert_eq!(first(&world).state, F::Open);
}

#[test]
fn a_wound_up_invoice_is_still_released_settled_defaulted_and_cured() {
    let full = |w: &mut World| {
        financed(w);
        w.edit(|status| status.red.amount = GROSS);
    };
    check(vec![
        (full, "K", to(R::Release, 1), Accepted),
        (full, "K", to(R::Settle, 1), Accepted),
        (full, "S", revoke("K"), Accepted),
        (full, "K", to(R::Notice, 1), answer(C::FullyRed)),
        (full, "K", registered("N"), answer(C::FullyRed)),
        (full, "K", offer(1, "L"), answer(C::FullyRed)),
        (full, "S", grant("L", 1), answer(C::FullyRed)),
    ]);
}

#[test]
fn an_invoice_is_financed_by_itself_only() {
    let mut world = World::with_invoice(GROSS);
    let other = "26442000000000000002";
    let fields = document(other, GROSS);
    assert_eq!(world.issue_as(R::Issue, "T", fields), Accepted);
    financed(&mut world);
    assert!(world.status_of(other).is_none());
    assert_eq!(world.run("L", &finance(1).number(other)), answer(C::NoConsent));
    assert!(world.status_of(NUMBER).is_some());
}
