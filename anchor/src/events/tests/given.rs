//! Tables of cases: what is given, who says what, and the answer.

use super::world::{Event, NUMBER, World};
use crate::alert::{AlertKind, Recipient};
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::record::RecordKind;
use piaogen_verify::status::{Financing, FinancingState, Form, Status};
use piaogen_verify::value::Cause;

/// What was before, who says it, what he says, the answer.
pub(super) type Row = (fn(&mut World), &'static str, Event, Outcome);

/// Gross of the invoice of a case, 1,300 tax in it.
pub(super) const GROSS: i128 = 11_300;

/// Runs each row in a world of its own. What is refused leaves the status as it was.
pub(super) fn check(rows: Vec<Row>) {
    for (at, (given, actor, event, expected)) in rows.into_iter().enumerate() {
        let mut world = World::with_invoice(GROSS);
        given(&mut world);
        let before = world.status_of(NUMBER);
        let outcome = world.run(actor, &event);
        let name = event.kind.name();
        assert_eq!(outcome, expected, "row {at}: {name} by {actor}: {}", outcome.explain());
        if outcome != Outcome::Accepted {
            assert_eq!(world.status_of(NUMBER), before, "row {at}: {name}");
            assert_eq!(told(&world), [], "row {at}: {name}");
        }
    }
}

pub(super) fn nothing(_: &mut World) {}

/// Touches the invoice, so that it has a status to edit; takes log index 1.
pub(super) fn touch(world: &mut World) {
    world.accept("T", &Event::of(RecordKind::AddFile).digest(200));
}

/// Touches the invoice and changes its status.
pub(super) fn edit(world: &mut World, change: impl FnOnce(&mut Status)) {
    touch(world);
    world.edit(change);
}

pub(super) fn answer(conflict: Conflict) -> Outcome {
    Outcome::conflict(conflict)
}

pub(super) fn at_index(conflict: Conflict, index: u64) -> Outcome {
    Outcome::conflict_with(conflict, Detail::Index(index))
}

pub(super) fn at_time(conflict: Conflict, time: i64) -> Outcome {
    Outcome::conflict_with(conflict, Detail::Time(time))
}

pub(super) fn with_amount(conflict: Conflict, amount: i128) -> Outcome {
    Outcome::conflict_with(conflict, Detail::Amount(amount))
}

pub(super) fn with_number(conflict: Conflict, number: u64) -> Outcome {
    Outcome::conflict_with(conflict, Detail::Number(number))
}

pub(super) fn malformed(tag: Tag, cause: Cause) -> Outcome {
    Outcome::Malformed { tag, cause }
}

/// An open pledge.
pub(super) fn lien(holder: &str, assigned: i128) -> Financing {
    Financing {
        index: 1,
        state: FinancingState::Open,
        holder: holder.into(),
        assigned,
        id: 1,
        form: Some(Form::Pledge),
        advanced: Some(assigned),
        expires: None,
        divisible: false,
        noticed: None,
        acknowledged: None,
        account: None,
        offered_to: None,
        red_consent: None,
        repaid: None,
        external: Vec::new(),
    }
}

/// A hold that ends at this time.
pub(super) fn hold(holder: &str, assigned: i128, expires: i64) -> Financing {
    let (state, expires) = (FinancingState::Hold, Some(expires));
    Financing { state, expires, form: None, advanced: None, ..lien(holder, assigned) }
}

/// A lien of K, the invoice being touched.
pub(super) fn pledged(world: &mut World) {
    edit(world, |status| status.financings.push(lien("K", 5_000)));
}

/// The kinds and recipients of the alerts of the last event.
pub(super) fn told(world: &World) -> Vec<(AlertKind, &str)> {
    let last = world.entries.len() as u64 - 1;
    let alerts = world.alerts.iter().filter(|alert| alert.log_index == last);
    alerts
        .map(|alert| match &alert.to {
            Recipient::Party(party) => (alert.kind, party.as_str()),
            Recipient::Authorities => (alert.kind, "authorities"),
        })
        .collect()
}

/// Events as the tests of several files need them.
pub(super) fn select() -> Event {
    Event::of(RecordKind::Select)
}

pub(super) fn book(amount: i128) -> Event {
    Event::of(RecordKind::Book).amount(amount)
}

pub(super) fn claim(after_start: i64) -> Event {
    Event::of(RecordKind::ClaimOpen).expires(after_start)
}

pub(super) fn red(kind: RecordKind, amount: i128, tax: i128, reason: &str) -> Event {
    Event::of(kind).amount(amount).tax(tax).text(tag::REASON_CODE, reason)
}

pub(super) fn apply(number: &str, amount: i128, tax: i128) -> Event {
    Event::of(RecordKind::RedApply).amount(amount).tax(tax).text(tag::RED_NUMBER, number)
}

pub(super) fn fact(what: &str, reference: &str) -> Event {
    Event::of(RecordKind::AuthorityFact).text(tag::FACT, what).reference(reference)
}
