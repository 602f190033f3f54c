//! Input tax, from every state by every event.

use super::given::*;
use super::world::{Event, World};
use piaogen_verify::conflict::Conflict as C;
use piaogen_verify::entry::Outcome::{Accepted, WrongRole};
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind as R;
use piaogen_verify::status::{Deduction, DeductionState as D, Risk};
use piaogen_verify::value::Cause;

const PERIOD: u64 = 202_611;

fn of(kind: R) -> Event {
    Event::of(kind)
}

fn confirm(period: u64) -> Event {
    of(R::ConfirmDeduction).uint(tag::PERIOD, period)
}

fn transfer(amount: i128) -> Event {
    of(R::TransferOut).amount(amount)
}

/// Leads the tax to a state, at log index 1.
fn in_state(world: &mut World, state: D) {
    edit(world, |status| {
        let (tax, transferred) = match state {
            D::Confirmed => (1_300, 0),
            D::TransferredOut => (1_300, 300),
            _ => (0, 0),
        };
        status.deduction = Some(Deduction { index: 1, state, transferred, tax, period: None });
    });
}

#[test]
fn every_event_from_every_state() {
    let stands = at_index(C::DeductionState, 1);
    let (idle, used) = (answer(C::NotSelected), answer(C::InUse));
    let (no, yes) = (stands, Accepted);
    // Unselected, selected, confirmed, transferred out, not deductible, export rebate.
    let table = [
        ("B", of(R::Select), [yes, no, no, no, no, no], D::Selected),
        ("T", of(R::Select), [yes, no, no, no, no, no], D::Selected),
        ("B", of(R::Unselect), [idle, yes, no, no, yes, no], D::Unselected),
        ("T", confirm(PERIOD), [idle, yes, no, no, no, no], D::Confirmed),
        ("B", transfer(1_000), [idle, no, yes, yes, no, no], D::TransferredOut),
        ("T", transfer(1), [idle, no, yes, yes, no, no], D::TransferredOut),
        ("B", of(R::NonDeductible), [yes, no, no, no, no, no], D::NonDeductible),
        (
            "T",
            of(R::ExportRebate),
            [yes, used, used, used, yes, at_index(C::AlreadyDone, 1)],
            D::ExportRebate,
        ),
        ("T", of(R::ExportRollback), [idle, no, no, no, no, yes], D::Unselected),
    ];
    let states = [
        D::Unselected,
        D::Selected,
        D::Confirmed,
        D::TransferredOut,
        D::NonDeductible,
        D::ExportRebate,
    ];
    for (actor, event, answers, next) in table {
        for (state, expected) in states.into_iter().zip(answers) {
            let mut world = World::with_invoice(GROSS);
            in_state(&mut world, state);
            assert_eq!(world.run(actor, &event), expected, "{} from {state:?}", event.kind.name());
            let stands = if expected == Accepted { next } else { state };
            assert_eq!(world.status().deduction_state(), stands);
            let index = world.status().deduction.map(|deduction| deduction.index);
            assert_eq!(index, Some(if expected == Accepted { 2 } else { 1 }));
        }
    }
}

#[test]
fn who_may_and_what_is_asked_first() {
    check(vec![
        (nothing, "S", select(), answer(C::NotBuyer)),
        (nothing, "U", of(R::Unselect), answer(C::NotBuyer)),
        (nothing, "K", transfer(1), answer(C::NotBuyer)),
        (nothing, "S", of(R::NonDeductible), answer(C::NotBuyer)),
        (nothing, "B", confirm(PERIOD), WrongRole),
        (nothing, "B", of(R::ExportRebate), WrongRole),
        (nothing, "B", of(R::ExportRollback), WrongRole),
        // Untouched tax has no place to point at.
        (nothing, "B", of(R::Unselect), answer(C::NotSelected)),
        (nothing, "T", confirm(PERIOD), answer(C::NotSelected)),
        (nothing, "B", transfer(1), answer(C::NotSelected)),
        (nothing, "T", of(R::ExportRollback), answer(C::NotSelected)),
        (|w| edit(w, |s| s.risk = Risk::Abnormal), "B", select(), answer(C::Abnormal)),
        (|w| edit(w, |s| s.risk = Risk::Doubtful), "B", select(), Accepted),
        (|w| edit(w, |s| s.risk = Risk::Abnormal), "B", of(R::NonDeductible), Accepted),
        (other_type, "B", select(), answer(C::NotDeductible)),
        (
            |w| {
                other_type(w);
                w.schemes[0].deductible_vat_types.clear();
            },
            "B",
            select(),
            Accepted,
        ),
        (|w| edit(w, |s| s.facts.vat_type = None), "B", select(), answer(C::NotDeductible)),
    ]);
}

fn other_type(world: &mut World) {
    edit(world, |status| status.facts.vat_type = Some("02".into()));
}

fn selected(world: &mut World) {
    world.accept("B", &select());
}

#[test]
fn a_deduction_is_confirmed_for_an_open_month_and_within_the_tax() {
    let out = malformed(tag::PERIOD, Cause::Range);
    let tax = |tax| confirm(PERIOD).tax(tax);
    check(vec![
        (selected, "T", confirm(202_600), out),
        (selected, "T", confirm(202_613), out),
        (selected, "T", confirm(11), out),
        (selected, "T", confirm(u64::MAX), out),
        (selected, "T", confirm(202_612), Accepted),
        (open_in_november, "T", confirm(202_610), with_number(C::PeriodClosed, PERIOD)),
        (open_in_november, "T", confirm(PERIOD), Accepted),
        (selected, "T", tax(1_301), with_amount(C::AmountExceeded, 1_300)),
        (selected, "T", tax(1_300), Accepted),
        (partly_credited, "T", tax(1_001), with_amount(C::AmountExceeded, 1_000)),
        (partly_credited, "T", tax(1_000), Accepted),
    ]);
    for (tax, expected) in [(None, 1_300), (Some(700), 700), (Some(0), 0)] {
        let mut world = World::with_invoice(GROSS);
        selected(&mut world);
        let event = confirm(PERIOD);
        world.accept("T", &tax.map_or(event.clone(), |tax| event.tax(tax)));
        let (index, state, period) = (2, D::Confirmed, Some(PERIOD));
        let expected = Deduction { index, state, transferred: 0, tax: expected, period };
        assert_eq!(world.status().deduction, Some(expected));
    }
}

fn open_in_november(world: &mut World) {
    world.policy.open_period = PERIOD;
    selected(world);
}

fn partly_credited(world: &mut World) {
    selected(world);
    world.edit(|status| (status.red.amount, status.red.tax) = (3_000, 300));
}

#[test]
fn what_is_transferred_out_adds_up_to_the_deducted_tax() {
    let mut world = World::with_invoice(GROSS);
    selected(&mut world);
    world.accept("T", &confirm(PERIOD).tax(1_000));
    let exceeded = |left| with_amount(C::AmountExceeded, left);
    assert_eq!(world.run("B", &transfer(1_001)), exceeded(1_000));
    world.accept("B", &transfer(400));
    assert_eq!(world.run("T", &transfer(601)), exceeded(600));
    world.accept("T", &transfer(600));
    assert_eq!(world.run("B", &transfer(1)), exceeded(0));
    let (index, state, period) = (6, D::TransferredOut, Some(PERIOD));
    let expected = Deduction { index, state, transferred: 1_000, tax: 1_000, period };
    assert_eq!(world.status().deduction, Some(expected));
}

#[test]
fn what_is_selected_and_unselected_is_no_use() {
    let mut world = World::with_invoice(GROSS);
    selected(&mut world);
    assert!(world.status().face().used);
    world.accept("B", &of(R::Unselect));
    assert!(!world.status().face().used);
    world.accept("B", &select());
}
