//! Who may ask, and that asking changes nothing but the record.

use super::given::*;
use super::lending::*;
use super::world::{Event, START, World};
use piaogen_verify::conflict::Conflict as C;
use piaogen_verify::entry::Outcome::Accepted;
use piaogen_verify::record::RecordKind as R;

fn ask() -> Event {
    of(R::Query)
}

#[test]
fn a_query_is_the_right_of_parties_authorities_and_banks_with_consent() {
    let ended = |w: &mut World| {
        allowed(w);
        w.now = START + 30 * DAY;
    };
    let revoked_holder = |w: &mut World| {
        settled(w);
        w.accept("S", &of(R::ConsentRevoke).text(piaogen_verify::fields::tag::ACTOR, "K"));
    };
    check(vec![
        (nothing, "T", ask(), Accepted),
        (nothing, "A", ask(), Accepted),
        (nothing, "S", ask(), Accepted),
        (nothing, "B", ask(), Accepted),
        (allowed, "K", ask(), Accepted),
        (revoked_holder, "K", ask(), Accepted),
        (nothing, "K", ask(), answer(C::NoConsent)),
        (silent, "K", ask(), answer(C::NoConsent)),
        (ended, "K", ask(), at_time(C::Expired, START + 30 * DAY)),
        (nothing, "U", ask(), answer(C::NoRight)),
        (nothing, "J", ask(), answer(C::NoRight)),
    ]);
}

#[test]
fn a_query_leaves_the_status_and_its_digest_names_what_was_seen() {
    let mut world = World::with_invoice(GROSS);
    allowed(&mut world);
    let before = world.status();
    world.accept("K", &ask());
    assert_eq!(world.status(), before);
    let leaf = world.entries.last().unwrap();
    assert_eq!(leaf.status, before.digest());
}
