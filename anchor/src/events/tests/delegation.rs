//! Acting for another: a delegate does what his principal may, until it ends.

use super::given::*;
use super::lending::*;
use super::world::{Event, START, World};
use piaogen_crypto::sm2::{SecretKey, Signature};
use piaogen_crypto::sm3;
use piaogen_verify::conflict::Conflict as C;
use piaogen_verify::document::Fields;
use piaogen_verify::entry::Outcome::{Accepted, WrongRole};
use piaogen_verify::fields::tag;
use piaogen_verify::record::{Draft, RecordKind as R, decode};
use piaogen_verify::value;

fn for_k(event: Event) -> Event {
    event.text(tag::ON_BEHALF, "K")
}

fn registry(world: &mut World, kind: R, actor: &str, fields: &Fields) {
    let key = SecretKey::from_bytes(&sm3::hash(actor.as_bytes())).unwrap();
    let draft = Draft { kind, signed_at: 0, secret: [0; 16], fields: fields.pairs() };
    let bytes = draft.encode(&key.public_key().key_id(), &Signature([1; 64]));
    assert_eq!(world.registry.execute(&decode(&bytes).unwrap(), 1), Ok(()));
}

/// K lets U hold for it, for a day.
fn delegated(world: &mut World) {
    allowed(world);
    let mut fields = Fields::new();
    fields.set_text(tag::PARTY, "U");
    fields.set(tag::KINDS, value::uint(1 << R::FinanceHold as u8));
    fields.set(tag::UNTIL, value::time(START + DAY));
    registry(world, R::Delegate, "K", &fields);
}

fn ended(world: &mut World) {
    delegated(world);
    let mut fields = Fields::new();
    fields.set_text(tag::PARTY, "U");
    registry(world, R::DelegateEnd, "K", &fields);
}

#[test]
fn a_delegate_does_what_was_delegated_to_him_until_it_ends() {
    let last = |w: &mut World| {
        delegated(w);
        w.now = START + DAY - 1;
    };
    let over = |w: &mut World| {
        delegated(w);
        w.now = START + DAY;
    };
    let hold = || for_k(reserve(1).expires(2 * DAY));
    let no = answer(C::NotDelegated);
    check(vec![
        (delegated, "U", hold(), Accepted),
        (last, "U", hold(), Accepted),
        (over, "U", hold(), no),
        (ended, "U", hold(), no),
        (allowed, "U", hold(), no),
        (delegated, "W", hold(), no),
        (delegated, "L", hold(), no),
        (delegated, "U", for_k(finance(1)), no),
        (delegated, "U", reserve(1), WrongRole),
        (delegated, "K", hold(), no),
    ]);
    let mut world = World::with_invoice(GROSS);
    delegated(&mut world);
    world.accept("U", &hold());
    assert_eq!(world.status().financings[0].holder, "K");
    assert_eq!(world.run("U", &to(R::HoldCancel, 1)), WrongRole);
    world.accept("K", &to(R::HoldCancel, 1));
}
