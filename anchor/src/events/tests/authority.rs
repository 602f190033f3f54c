//! Files, corrections, void, facts, risk marks and freezes.

use super::given::*;
use super::world::{Event, START, World};
use crate::alert::AlertKind;
use piaogen_verify::conflict::Conflict as C;
use piaogen_verify::entry::Outcome::{self, Accepted, WrongRole};
use piaogen_verify::fields::{DOCUMENT, Kind, tag};
use piaogen_verify::record::RecordKind as R;
use piaogen_verify::status::{Correction, Fact, File, FinancingState, Freeze, Lifecycle, Risk};
use piaogen_verify::value::Cause;

fn file(seed: u8) -> Event {
    Event::of(R::AddFile).digest(seed)
}

fn correct(field: u64) -> Event {
    Event::of(R::Correct).uint(tag::FIELD, field).text(tag::TEXT, "right")
}

fn mark(level: &str) -> Event {
    Event::of(R::RiskMark).text(tag::MARK, level)
}

fn order(kind: R, number: &str) -> Event {
    Event::of(kind).reference(number)
}

fn voidable(world: &mut World) {
    world.schemes[0].voidable = true;
}

#[test]
fn files_are_added_once_by_authority_or_seller() {
    check(vec![
        (nothing, "T", file(1), Accepted),
        (nothing, "S", file(1), Accepted),
        (nothing, "B", file(1), answer(C::NotSeller)),
        (nothing, "K", file(1), answer(C::NotSeller)),
        (touch, "S", file(200), at_index(C::AlreadyDone, 1)),
        (touch, "S", file(1), Accepted),
        (
            |w| edit(w, |s| s.files = vec![File { index: 1, digest: [9; 32] }; 64]),
            "T",
            file(1),
            with_number(C::TooMany, 64),
        ),
        (
            |w| edit(w, |s| s.files = vec![File { index: 1, digest: [9; 32] }; 63]),
            "T",
            file(1),
            Accepted,
        ),
    ]);
    let mut world = World::with_invoice(GROSS);
    world.accept("S", &file(3));
    assert_eq!(world.status().files, [File { index: 1, digest: [3; 32] }]);
}

#[test]
fn a_correction_is_noted_and_changes_nothing_of_value_party_or_date() {
    check(vec![
        (nothing, "T", correct(2_024), Accepted),
        (nothing, "T", correct(1_001), Accepted),
        (nothing, "T", correct(35), Accepted),
        (nothing, "S", correct(2_024), WrongRole),
        (nothing, "T", correct(9_999), with_number(C::ImmutableField, 9_999)),
        (nothing, "T", correct(u64::MAX), with_number(C::ImmutableField, u64::MAX)),
        (
            |w| {
                let correction = Correction { index: 1, field: 35, text: "x".into() };
                edit(w, |s| s.corrections = vec![correction; 64]);
            },
            "T",
            correct(35),
            with_number(C::TooMany, 64),
        ),
    ]);
    let parties = [1, 3, 27, 30, 31, 32, 44, 47, 48, 59, 60, 61, 2_001, 2_006, 2_007, 2_020];
    let values = DOCUMENT.iter().filter(|field| {
        matches!(field.kind, Kind::Amount | Kind::Date | Kind::Currency | Kind::Lines)
            || matches!(field.kind, Kind::List(_) if field.tag != 1_001)
    });
    let mut world = World::with_invoice(GROSS);
    for field in values.map(|field| u64::from(field.tag)).chain(parties) {
        assert_eq!(world.run("T", &correct(field)), with_number(C::ImmutableField, field));
    }
    world.accept("T", &correct(2_024));
    let index = world.entries.len() as u64 - 1;
    let noted = Correction { index, field: 2_024, text: "right".into() };
    assert_eq!(world.status().corrections, [noted]);
}

#[test]
fn an_invoice_is_voided_where_its_scheme_allows_and_no_lien_or_slip_blocks() {
    let void = || Event::of(R::Void);
    check(vec![
        (nothing, "T", void(), answer(C::NotVoidable)),
        (voidable, "T", void(), Accepted),
        (voidable, "S", void(), WrongRole),
        (
            |w| {
                voidable(w);
                w.accept("S", &red(R::RedRequest, 113, 13, "02"));
            },
            "T",
            void(),
            at_index(C::SlipLive, 1),
        ),
        (
            |w| {
                voidable(w);
                pledged(w);
            },
            "T",
            void(),
            with_number(C::Encumbered, 1),
        ),
        (
            |w| {
                voidable(w);
                w.policy.lien_blocks = 0;
                pledged(w);
            },
            "T",
            void(),
            Accepted,
        ),
        (
            |w| {
                voidable(w);
                let ended = w.now;
                edit(w, |s| s.financings.push(hold("K", 5_000, ended)));
            },
            "T",
            void(),
            Accepted,
        ),
    ]);
}

#[test]
fn an_invoice_that_is_used_booked_claimed_or_credited_is_not_voided() {
    let void = || Event::of(R::Void);
    check(vec![
        (
            |w| {
                voidable(w);
                w.accept("B", &select());
            },
            "T",
            void(),
            answer(C::InUse),
        ),
        (
            |w| {
                voidable(w);
                w.accept("B", &book(1));
            },
            "T",
            void(),
            answer(C::InUse),
        ),
        (
            |w| {
                voidable(w);
                w.accept("B", &claim(1_000));
            },
            "T",
            void(),
            answer(C::InUse),
        ),
        (
            |w| {
                voidable(w);
                edit(w, |s| s.red.amount = 1);
            },
            "T",
            void(),
            answer(C::InUse),
        ),
        (
            |w| {
                voidable(w);
                w.accept("T", &Event::of(R::Void));
            },
            "T",
            void(),
            answer(C::AlreadyVoid),
        ),
    ]);
}

#[test]
fn a_void_where_liens_do_not_block_tells_their_holders() {
    let mut world = World::with_invoice(GROSS);
    voidable(&mut world);
    world.policy.lien_blocks = 0;
    pledged(&mut world);
    world.accept("T", &Event::of(R::Void));
    assert_eq!(told(&world), [(AlertKind::LienHit, "K"), (AlertKind::OverFinanced, "K")]);
    let status = world.status();
    assert_eq!((status.lifecycle(), status.remainder()), (Lifecycle::Void, 0));
    assert!(status.face().over_financed);
}

#[test]
fn a_fact_is_refused_only_where_it_is_old_or_contradicts() {
    check(vec![
        (nothing, "T", fact("red", "a").amount(1_130).tax(130), Accepted),
        (nothing, "T", fact("void", "a"), Accepted),
        (nothing, "S", fact("void", "a"), WrongRole),
        (nothing, "J", fact("void", "a"), WrongRole),
        (nothing, "T", fact("lost", "a"), malformed(tag::FACT, Cause::Range)),
        (nothing, "T", fact("red", "a"), malformed(tag::AMOUNT, Cause::Missing)),
        (nothing, "T", fact("void", "a").amount(1), malformed(tag::AMOUNT, Cause::NotAllowed)),
        (nothing, "T", fact("void", "a").tax(1), malformed(tag::TAX_AMOUNT, Cause::NotAllowed)),
        (said_red, "T", fact("red", "a").amount(1_130).tax(130), at_index(C::AlreadyDone, 1)),
        (said_red, "T", fact("red", "a").amount(1_130).tax(131), at_index(C::Contradicts, 1)),
        (said_red, "T", fact("red", "a").amount(1_131).tax(130), at_index(C::Contradicts, 1)),
        (said_red, "T", fact("red", "a"), at_index(C::Contradicts, 1)),
        (said_red, "T", fact("red", "b").amount(1_130), Accepted),
        (said_red, "T", fact("void", "a"), Accepted),
        (said_void, "T", fact("void", "a"), at_index(C::AlreadyDone, 1)),
        (said_void, "T", fact("void", "b"), Accepted),
        (said_void, "T", fact("red", "b").amount(1), at_index(C::Contradicts, 1)),
        (|w| edit(w, |s| s.void = true), "T", fact("red", "b").amount(1), answer(C::AlreadyVoid)),
        (
            |w| w.accept("T", &fact("red", "a").amount(9).text(tag::RED_NUMBER, "R")),
            "T",
            fact("red", "b").amount(9).text(tag::RED_NUMBER, "R"),
            at_index(C::AlreadyDone, 1),
        ),
        (|w| w.accept("J", &order(R::Freeze, "f")), "T", fact("void", "a"), Accepted),
        (|w| edit(w, |s| s.red.amount = GROSS), "T", fact("red", "a").amount(5), Accepted),
    ]);
}

fn said_red(world: &mut World) {
    world.accept("T", &fact("red", "a").amount(1_130).tax(130));
}

fn said_void(world: &mut World) {
    world.accept("T", &fact("void", "a"));
}

#[test]
fn a_fact_hits_liens_and_bookings_and_stops_at_gross() {
    let mut world = World::with_invoice(GROSS);
    pledged(&mut world);
    world.accept("B", &book(9_000));
    let all = fact("red", "a").amount(20_000).tax(2_000).text(tag::RED_NUMBER, "R");
    world.accept("T", &all);
    let expected =
        [(AlertKind::LienHit, "K"), (AlertKind::OverFinanced, "K"), (AlertKind::OverBooked, "B")];
    assert_eq!(told(&world), expected);
    let status = world.status();
    assert_eq!((status.red.amount, status.red.tax), (GROSS, 1_300));
    assert_eq!((status.lifecycle(), status.booked()), (Lifecycle::FullRed, 9_000));
    let said = &status.authority_facts[0];
    assert_eq!((said.fact, said.amount, said.tax), (Fact::Red, Some(20_000), Some(2_000)));
    assert!(said.breach && status.face().over_financed);
    let number = &status.red_invoices[0];
    assert_eq!((number.number.as_str(), number.amount, number.tax), ("R", GROSS, 1_300));
}

#[test]
fn a_fact_without_liens_is_no_breach() {
    let mut world = World::with_invoice(GROSS);
    said_red(&mut world);
    assert_eq!(told(&world), []);
    let status = world.status();
    assert!(!status.authority_facts[0].breach && !status.face().over_financed);
    assert_eq!((status.red.amount, status.red.tax, status.remainder()), (1_130, 130, 10_170));
    assert_eq!((status.red_invoices.len(), status.lifecycle()), (0, Lifecycle::PartRed));
}

#[test]
fn risk_is_marked_and_cleared_and_holders_are_told() {
    check(vec![
        (nothing, "T", mark("doubtful"), Accepted),
        (nothing, "T", mark("bad"), malformed(tag::MARK, Cause::Range)),
        (nothing, "J", mark("normal"), WrongRole),
        (|w| edit(w, |s| s.void = true), "T", mark("abnormal"), Accepted),
    ]);
    let mut world = World::with_invoice(GROSS);
    pledged(&mut world);
    for (level, risk, tells) in [
        ("abnormal", Risk::Abnormal, true),
        ("abnormal", Risk::Abnormal, true),
        ("doubtful", Risk::Doubtful, true),
        ("normal", Risk::Normal, false),
    ] {
        world.accept("T", &mark(level));
        assert_eq!(world.status().risk, risk);
        let expected: &[_] = if tells { &[(AlertKind::RiskMarked, "K")] } else { &[] };
        assert_eq!(told(&world), expected);
    }
}

#[test]
fn an_order_freezes_until_who_gave_it_takes_it_back() {
    check(vec![
        (nothing, "T", order(R::Freeze, "a"), Accepted),
        (nothing, "S", order(R::Freeze, "a"), WrongRole),
        (frozen, "J", order(R::Freeze, "a"), at_index(C::AlreadyDone, 1)),
        (frozen, "J", order(R::Freeze, "b"), Accepted),
        (frozen, "T", order(R::Freeze, "a"), Accepted),
        (frozen, "T", order(R::Unfreeze, "a"), answer(C::NotYourOrder)),
        (frozen, "J", order(R::Unfreeze, "b"), answer(C::OrderUnknown)),
        (frozen, "J", order(R::Unfreeze, "a"), Accepted),
        (nothing, "J", order(R::Unfreeze, "a"), answer(C::OrderUnknown)),
        (frozen, "T", file(1), with_number(C::Frozen, 1)),
        (frozen, "B", select(), with_number(C::Frozen, 1)),
        (frozen, "S", red(R::RedRequest, 113, 13, "02"), with_number(C::Frozen, 1)),
        (frozen, "T", apply("R", 113, 13), with_number(C::Frozen, 1)),
        (frozen, "B", book(1), with_number(C::Frozen, 1)),
    ]);
    let mut world = World::with_invoice(GROSS);
    pledged(&mut world);
    world.accept("J", &order(R::Freeze, "a").digest(7));
    assert_eq!(told(&world), [(AlertKind::Frozen, "K")]);
    world.accept("T", &order(R::Freeze, "a"));
    let kept = Freeze { index: 2, by: "J".into(), order: "a".into(), digest: Some([7; 32]) };
    assert_eq!(world.status().freezes[0], kept);
    assert_eq!(world.run("B", &select()), with_number(C::Frozen, 2));
    // Both orders have the number a, and each takes back his own.
    world.accept("T", &order(R::Unfreeze, "a"));
    assert_eq!(world.status().freezes, [kept]);
    world.accept("J", &order(R::Unfreeze, "a"));
    world.accept("B", &select());
}

fn frozen(world: &mut World) {
    world.accept("J", &order(R::Freeze, "a"));
}

#[test]
fn the_65th_order_or_fact_is_one_too_many() {
    let mut world = World::with_invoice(GROSS);
    touch(&mut world);
    for i in 0..64 {
        world.accept("J", &order(R::Freeze, &format!("{i}")));
        world.accept("T", &fact("red", &format!("{i}")).amount(1));
    }
    let full: Outcome = with_number(C::TooMany, 64);
    assert_eq!(world.run("J", &order(R::Freeze, "64")), full);
    assert_eq!(world.run("T", &fact("red", "64").amount(1)), full);
    assert_eq!(world.status().red.amount, 64);
}

#[test]
fn an_event_said_twice_has_the_first_answer() {
    let mut world = World::with_invoice(GROSS);
    let event = Event { secret: Some(3), ..file(1) };
    world.accept("S", &event);
    assert_eq!(world.run("S", &event), Outcome::Replay { first: 1 });
    assert_eq!(world.status().version(), 1);
}

#[test]
fn a_query_is_the_right_of_authorities_sides_and_banks_that_have_to_do_with_it() {
    let query = || Event::of(R::Query);
    let consent = |scope: u64| {
        let grant = Event::of(R::ConsentGrant).text(tag::ACTOR, "K").expires(1_000);
        grant.uint(tag::SCOPE, scope)
    };
    for actor in ["T", "A", "S", "B"] {
        check(vec![(nothing, actor, query(), Accepted)]);
    }
    for actor in ["U", "J", "G"] {
        check(vec![(nothing, actor, query(), answer(C::NoRight))]);
    }
    for (scope, after, expected) in [
        (1, 999, Accepted),
        (1, 1_000, at_time(C::Expired, START + 1_000)),
        (2, 0, answer(C::NoConsent)),
    ] {
        let mut world = World::with_invoice(GROSS);
        assert_eq!(world.run("K", &query()), answer(C::NoConsent));
        world.accept("S", &consent(scope));
        world.now += after;
        assert_eq!(world.run("K", &query()), expected);
        assert_eq!(world.status().version(), 1, "a query changes nothing");
    }
    let settled = |world: &mut World| {
        pledged(world);
        world.edit(|status| status.financings[0].state = FinancingState::Settled);
    };
    check(vec![(settled, "K", query(), Accepted), (settled, "L", query(), answer(C::NoConsent))]);
}
