//! What the tests of consents, holds, financings and payments have in common.

use super::world::{Event, START, World};
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind as R;
use piaogen_verify::value;

/// What happened before.
pub(super) type Given = fn(&mut World);

pub(super) const HOUR: i64 = 3_600_000;
pub(super) const DAY: i64 = 24 * HOUR;

/// The moment at which the due day of the invoice, the tenth after the first block, is past.
pub(super) fn past_due() -> i64 {
    (START / DAY + 11) * DAY
}

pub(super) fn of(kind: R) -> Event {
    Event::of(kind)
}

pub(super) fn grant(bank: &str, scope: u64) -> Event {
    of(R::ConsentGrant).text(tag::ACTOR, bank).uint(tag::SCOPE, scope).expires(30 * DAY)
}

/// A hold for one hour.
pub(super) fn reserve(amount: i128) -> Event {
    of(R::FinanceHold).amount(amount).expires(HOUR)
}

/// A pledge, eight tenths paid out.
pub(super) fn finance(amount: i128) -> Event {
    let advanced = value::amount(amount * 8 / 10);
    of(R::FinanceOpen).amount(amount).text(tag::FORM, "pledge").set(tag::ADVANCED, advanced)
}

pub(super) fn shared(event: Event) -> Event {
    event.flag(tag::DIVISIBLE)
}

pub(super) fn to(kind: R, id: u64) -> Event {
    of(kind).financing(id)
}

pub(super) fn account(event: Event, seed: u8) -> Event {
    event.set(tag::ACCOUNT, vec![seed; 32])
}

pub(super) fn confirm(amount: i128) -> Event {
    of(R::BuyerConfirm).amount(amount)
}

pub(super) fn dispute(amount: i128) -> Event {
    of(R::BuyerDispute).amount(amount).text(tag::REASON_CODE, "01")
}

pub(super) fn pay(amount: i128, reference: &str) -> Event {
    of(R::Payment).amount(amount).reference(reference)
}

/// S lets K and L do all; takes log indices 1 and 2.
pub(super) fn allowed(world: &mut World) {
    world.accept("S", &grant("K", 7));
    world.accept("S", &grant("L", 7));
}

/// And lets them hold and finance, but not ask.
pub(super) fn silent(world: &mut World) {
    world.accept("S", &grant("K", 6));
    world.accept("S", &grant("L", 6));
}

/// K holds 5,000, at log index 3.
pub(super) fn held(world: &mut World) {
    allowed(world);
    world.accept("K", &reserve(5_000));
}

/// K has financed 5,000, at log index 3, others may beside it.
pub(super) fn financed(world: &mut World) {
    allowed(world);
    world.accept("K", &shared(finance(5_000)));
}

/// And the buyer was told, at log index 4.
pub(super) fn told_of_it(world: &mut World) {
    financed(world);
    world.accept("K", &account(to(R::Notice, 1), 1));
}

/// And it is settled, at log index 4.
pub(super) fn settled(world: &mut World) {
    financed(world);
    world.accept("K", &to(R::Settle, 1));
}

/// And it is offered to L, at log index 4.
pub(super) fn offered(world: &mut World) {
    financed(world);
    world.accept("K", &to(R::FinanceTransfer, 1).text(tag::ACTOR, "L"));
}

/// And it is in default, at log index 4.
pub(super) fn defaulted(world: &mut World) {
    financed(world);
    world.now = past_due();
    world.accept("K", &to(R::Default, 1));
}
