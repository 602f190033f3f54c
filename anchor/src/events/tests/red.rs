//! Requests, slips and red invoices, with liens, deadlines and races.

use super::given::*;
use super::world::{Event, NUMBER, START, World, document};
use crate::alert::AlertKind;
use piaogen_verify::conflict::Conflict as C;
use piaogen_verify::entry::Outcome::{self, Accepted, NotFound, WrongRole};
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind as R;
use piaogen_verify::status::{
    DeductionState, FinancingState, Lifecycle, Rate, RedInvoice, RedLine, Slip, SlipState,
};
use piaogen_verify::value::{self, Cause};

/// 72 hours.
const WAIT: i64 = 72 * 3_600_000;

fn request(amount: i128, tax: i128, reason: &str) -> Event {
    red(R::RedRequest, amount, tax, reason)
}

fn open(amount: i128, tax: i128, reason: &str) -> Event {
    red(R::SlipOpen, amount, tax, reason)
}

fn of(kind: R) -> Event {
    Event::of(kind)
}

/// The invoice is used: a slip of both sides is needed. Takes log index 1.
fn used(world: &mut World) {
    world.accept("B", &select());
}

/// B waits for the word of S. The slip has log index 2.
fn pending(world: &mut World) {
    used(world);
    world.accept("B", &open(1_130, 130, "02"));
}

/// The slip is confirmed at log index 1.
fn requested(world: &mut World) {
    world.accept("S", &request(1_130, 130, "02"));
}

fn no_slips(world: &mut World) {
    world.schemes[0].slips = false;
}

/// K's lien, with consent to a red of so much.
fn consented(world: &mut World, amount: i128) {
    pledged(world);
    world.edit(|status| status.financings[0].red_consent = Some(amount));
}

#[test]
fn a_seller_requests_a_red_of_what_is_neither_used_nor_booked() {
    let rebate = |w: &mut World| w.accept("T", &of(R::ExportRebate));
    let exceeded = |left| with_amount(C::AmountExceeded, left);
    check(vec![
        (nothing, "S", request(1_130, 130, "02"), Accepted),
        (nothing, "T", request(1_130, 130, "03"), Accepted),
        (nothing, "B", request(1_130, 130, "04"), answer(C::NotSeller)),
        (nothing, "K", request(1_130, 130, "04"), answer(C::NotSeller)),
        (rebate, "S", request(1_130, 130, "02"), answer(C::RebateRollbackFirst)),
        (used, "S", request(1_130, 130, "02"), answer(C::NeedsSlip)),
        (|w| w.accept("B", &book(1)), "S", request(1_130, 130, "02"), answer(C::NeedsSlip)),
        (|w| w.accept("B", &of(R::NonDeductible)), "S", request(1_130, 130, "02"), Accepted),
        (requested, "S", request(1, 0, "02"), at_index(C::SlipLive, 1)),
        (nothing, "S", request(1, 0, "00"), malformed(tag::REASON_CODE, Cause::Range)),
        (nothing, "S", request(1, 0, "05"), malformed(tag::REASON_CODE, Cause::Range)),
        (nothing, "S", request(GROSS, 1_300, "01"), Accepted),
        (nothing, "S", request(1_130, 130, "01"), with_amount(C::WholeAmount, GROSS)),
        (nothing, "S", request(GROSS, 1_299, "01"), with_amount(C::WholeAmount, GROSS)),
        (
            |w| edit(w, |s| s.red.amount = 1_130),
            "S",
            request(10_170, 1_170, "01"),
            with_amount(C::WholeAmount, GROSS),
        ),
        (nothing, "S", request(GROSS, 1_300, "02"), Accepted),
        (nothing, "S", request(GROSS + 1, 1_300, "02"), exceeded(GROSS)),
        (nothing, "S", request(GROSS, 1_301, "02"), exceeded(1_300)),
        (
            |w| edit(w, |s| (s.red.amount, s.red.tax) = (1_130, 130)),
            "S",
            request(10_171, 1_170, "02"),
            exceeded(10_170),
        ),
        (
            |w| edit(w, |s| (s.red.amount, s.red.tax) = (1_130, 130)),
            "S",
            request(10_170, 1_171, "02"),
            exceeded(1_170),
        ),
    ]);
}

#[test]
fn liens_block_unless_each_consented_to_this_amount() {
    let ask = || request(1_130, 130, "02");
    let against = |liens| with_number(C::Encumbered, liens);
    check(vec![
        (pledged, "S", ask(), against(1)),
        (|w| consented(w, 1_129), "S", ask(), against(1)),
        (|w| consented(w, 1_130), "S", ask(), Accepted),
        (
            |w| {
                consented(w, 1_130);
                w.edit(|s| s.financings.push(hold("L", 9, START + 1)));
            },
            "S",
            ask(),
            against(1),
        ),
        (
            |w| {
                pledged(w);
                w.edit(|s| s.financings.push(hold("L", 9, START + 1)));
            },
            "T",
            ask(),
            against(2),
        ),
        // A hold ends by itself when its time has come.
        (|w| edit(w, |s| s.financings.push(hold("L", 9, START))), "S", ask(), Accepted),
        (
            |w| {
                pledged(w);
                w.edit(|s| s.financings[0].state = FinancingState::Settled);
            },
            "S",
            ask(),
            Accepted,
        ),
        (
            |w| {
                pledged(w);
                w.edit(|s| s.financings[0].state = FinancingState::Defaulted);
            },
            "S",
            ask(),
            against(1),
        ),
        (
            |w| {
                w.policy.lien_blocks = 0;
                pledged(w);
            },
            "S",
            ask(),
            Accepted,
        ),
    ]);
}

#[test]
fn liens_block_slips_when_opened_and_when_confirmed() {
    let against = |liens| with_number(C::Encumbered, liens);
    check(vec![
        (
            |w| {
                used(w);
                w.edit(|s| s.financings.push(lien("K", 9)));
            },
            "S",
            open(1_130, 130, "02"),
            against(1),
        ),
        // Pledged while the slip was waiting.
        (
            |w| {
                pending(w);
                w.edit(|s| s.financings.push(lien("K", 9)));
            },
            "S",
            of(R::SlipConfirm),
            against(1),
        ),
    ]);
}

#[test]
fn holders_are_told_where_liens_do_not_block() {
    let mut world = World::with_invoice(GROSS);
    world.policy.lien_blocks = 0;
    pledged(&mut world);
    world.edit(|status| status.financings.push(hold("L", 100, START + 2 * WAIT)));
    let both = |kind| vec![(kind, "K"), (kind, "L")];
    world.accept("S", &request(1_130, 130, "02"));
    assert_eq!(told(&world), both(AlertKind::RedConfirmed));
    world.accept("S", &of(R::SlipWithdraw));
    used(&mut world);
    world.accept("S", &open(10_000, 1_000, "02"));
    assert_eq!(told(&world), both(AlertKind::RedOpened));
    world.accept("B", &of(R::SlipConfirm));
    assert_eq!(told(&world), both(AlertKind::RedConfirmed));
    world.accept("T", &apply("R", 10_000, 1_000));
    let expected = [both(AlertKind::RedApplied), both(AlertKind::OverFinanced)].concat();
    assert_eq!(told(&world), expected);
}

#[test]
fn a_slip_is_opened_by_either_side_of_what_is_used_or_booked() {
    let ask = || open(1_130, 130, "02");
    check(vec![
        (used, "S", ask(), Accepted),
        (used, "B", ask(), Accepted),
        (|w| w.accept("B", &book(5)), "S", ask(), Accepted),
        (used, "T", ask(), answer(C::NoRight)),
        (used, "K", ask(), answer(C::NoRight)),
        (nothing, "S", ask(), answer(C::NotInUse)),
        (|w| w.accept("T", &of(R::ExportRebate)), "S", ask(), answer(C::RebateRollbackFirst)),
        (pending, "S", ask(), at_index(C::SlipLive, 2)),
        (used, "S", open(1, 0, "9"), malformed(tag::REASON_CODE, Cause::Range)),
        (used, "S", open(1, 0, "01"), with_amount(C::WholeAmount, GROSS)),
        (used, "S", open(GROSS + 1, 0, "02"), with_amount(C::AmountExceeded, GROSS)),
        (used, "S", open(9, 1_301, "02"), with_amount(C::AmountExceeded, 1_300)),
        (
            |w| {
                pending(w);
                w.now += WAIT;
            },
            "S",
            ask(),
            Accepted,
        ),
    ]);
    let mut world = World::with_invoice(GROSS);
    used(&mut world);
    world.now += 7;
    world.accept("B", &ask().reference("slip-1"));
    let slip = Slip {
        index: 2,
        state: SlipState::Pending,
        by: "B".into(),
        amount: 1_130,
        tax: 130,
        reference: Some("slip-1".into()),
        deadline: Some(START + 7 + WAIT),
        reason: "02".into(),
    };
    assert_eq!(world.status().slip, Some(slip));
    assert!(world.status().face().red_pending);
}

#[test]
fn the_other_side_answers_a_slip() {
    for kind in [R::SlipConfirm, R::SlipRefuse] {
        check(vec![
            (pending, "S", of(kind), Accepted),
            (pending, "B", of(kind), answer(C::SameParty)),
            (pending, "T", of(kind), answer(C::NoRight)),
            (pending, "K", of(kind), answer(C::NoRight)),
            (used, "S", of(kind), answer(C::NoSlip)),
            (used, "K", of(kind), answer(C::NoRight)),
            (requested, "B", of(kind), answer(C::NoSlip)),
            (requested, "S", of(kind), answer(C::SameParty)),
            (|w| answered(w, R::SlipConfirm), "S", of(kind), answer(C::NoSlip)),
            (|w| answered(w, R::SlipRefuse), "S", of(kind), answer(C::NoSlip)),
        ]);
    }
    check(vec![
        (
            |w| {
                pending(w);
                w.edit(|s| s.red.amount = GROSS - 1_129);
            },
            "S",
            of(R::SlipConfirm),
            with_amount(C::AmountExceeded, 1_129),
        ),
        (
            |w| {
                pending(w);
                w.edit(|s| s.red.tax = 1_171);
            },
            "S",
            of(R::SlipConfirm),
            with_amount(C::AmountExceeded, 129),
        ),
    ]);
}

fn answered(world: &mut World, kind: R) {
    pending(world);
    world.accept("S", &of(kind));
}

#[test]
fn a_slip_is_confirmed_before_its_deadline_and_not_at_it() {
    let deadline = START + WAIT;
    let expired = at_time(C::SlipExpired, deadline);
    for (kind, state) in
        [(R::SlipConfirm, SlipState::Confirmed), (R::SlipRefuse, SlipState::Refused)]
    {
        for (late, expected) in [(-1, Accepted), (0, expired), (1, expired)] {
            let mut world = World::with_invoice(GROSS);
            pending(&mut world);
            world.now = deadline + late;
            assert_eq!(world.run("S", &of(kind)), expected, "{} {late}", kind.name());
            let slip = world.status().slip.unwrap();
            let stands = if expected == Accepted { state } else { SlipState::Pending };
            assert_eq!((slip.state, slip.deadline.is_none()), (stands, expected == Accepted));
        }
    }
}

#[test]
fn a_slip_lapses_at_its_deadline_and_not_before() {
    let deadline = START + WAIT;
    for (late, expected) in [(-1, at_time(C::NotDue, deadline)), (0, Accepted)] {
        for anyone in ["S", "K", "A", "G"] {
            let mut world = World::with_invoice(GROSS);
            pending(&mut world);
            world.now = deadline + late;
            assert_eq!(world.run(anyone, &of(R::SlipExpire)), expected);
            let lapsed = world.status().slip.unwrap().state == SlipState::Lapsed;
            assert_eq!(lapsed, expected == Accepted);
        }
    }
    check(vec![
        (nothing, "S", of(R::SlipExpire), answer(C::NoSlip)),
        (requested, "S", of(R::SlipExpire), answer(C::NoSlip)),
        (
            |w| {
                pending(w);
                w.now = START + WAIT;
                w.accept("A", &of(R::SlipExpire));
            },
            "A",
            of(R::SlipExpire),
            answer(C::NoSlip),
        ),
    ]);
}

#[test]
fn who_opened_a_slip_withdraws_it() {
    check(vec![
        (pending, "B", of(R::SlipWithdraw), Accepted),
        (pending, "S", of(R::SlipWithdraw), answer(C::NoRight)),
        (pending, "T", of(R::SlipWithdraw), answer(C::NoRight)),
        (nothing, "S", of(R::SlipWithdraw), answer(C::NoSlip)),
        (|w| answered(w, R::SlipConfirm), "B", of(R::SlipWithdraw), Accepted),
        (|w| answered(w, R::SlipRefuse), "B", of(R::SlipWithdraw), answer(C::NoSlip)),
        (requested, "S", of(R::SlipWithdraw), Accepted),
        (
            |w| {
                pending(w);
                w.now = START + WAIT - 1;
            },
            "B",
            of(R::SlipWithdraw),
            Accepted,
        ),
        (
            |w| {
                pending(w);
                w.now = START + WAIT;
            },
            "B",
            of(R::SlipWithdraw),
            answer(C::NoSlip),
        ),
    ]);
    let mut world = World::with_invoice(GROSS);
    requested(&mut world);
    world.accept("S", &of(R::SlipWithdraw));
    assert_eq!(world.status().slip.unwrap().state, SlipState::Withdrawn);
    assert!(!world.status().face().red_pending);
    world.accept("S", &request(GROSS, 1_300, "01"));
}

#[test]
fn a_red_invoice_takes_effect_within_its_slip() {
    let exceeded = |left| with_amount(C::AmountExceeded, left);
    check(vec![
        (requested, "T", apply("R", 1_130, 130), Accepted),
        (requested, "T", apply("R", 1, 0), Accepted),
        (requested, "S", apply("R", 1_130, 130), WrongRole),
        (requested, "B", apply("R", 1_130, 130), WrongRole),
        (nothing, "T", apply("R", 1_130, 130), answer(C::NoSlip)),
        (used, "T", apply("R", 1_130, 130), answer(C::NoSlip)),
        (pending, "T", apply("R", 1_130, 130), answer(C::NoSlip)),
        (|w| answered(w, R::SlipConfirm), "T", apply("R", 1_130, 130), Accepted),
        (|w| answered(w, R::SlipRefuse), "T", apply("R", 1_130, 130), answer(C::NoSlip)),
        (requested, "T", apply("R", 1_131, 130), exceeded(1_130)),
        (requested, "T", apply("R", 1_130, 131), exceeded(130)),
        (applied, "T", apply("R", 1, 0), at_index(C::AlreadyDone, 2)),
        (applied, "T", apply("Q", 1, 0), answer(C::NoSlip)),
        (
            |w| {
                requested(w);
                w.edit(|s| (s.red.amount, s.red.tax) = (GROSS - 100, 1_300));
            },
            "T",
            apply("R", 101, 0),
            exceeded(100),
        ),
        (
            |w| {
                requested(w);
                w.edit(|s| (s.red.amount, s.red.tax) = (GROSS - 100, 1_290));
            },
            "T",
            apply("R", 100, 11),
            exceeded(10),
        ),
        (
            |w| {
                requested(w);
                let number = "x".to_owned();
                let one = RedInvoice { index: 1, amount: 1, tax: 0, digest: None, number };
                w.edit(|s| s.red_invoices = vec![one; 64]);
            },
            "T",
            apply("R", 1, 0),
            with_number(C::TooMany, 64),
        ),
        // With a slip, the lien rule was asked when it was confirmed.
        (
            |w| {
                requested(w);
                w.edit(|s| s.financings.push(lien("K", 9)));
            },
            "T",
            apply("R", 1_130, 130),
            Accepted,
        ),
    ]);
}

fn applied(world: &mut World) {
    requested(world);
    world.accept("T", &apply("R", 1_130, 130));
}

#[test]
fn where_a_scheme_has_no_slips_the_seller_applies_and_liens_are_asked() {
    check(vec![
        (no_slips, "S", apply("R", GROSS, 1_300), Accepted),
        (no_slips, "T", apply("R", GROSS, 1_300), Accepted),
        (no_slips, "B", apply("R", 1, 0), WrongRole),
        (no_slips, "U", apply("R", 1, 0), WrongRole),
        (no_slips, "S", apply("R", GROSS + 1, 0), with_amount(C::AmountExceeded, GROSS)),
        (
            |w| {
                no_slips(w);
                consented(w, 99);
            },
            "S",
            apply("R", 100, 0),
            with_number(C::Encumbered, 1),
        ),
        (
            |w| {
                no_slips(w);
                consented(w, 100);
            },
            "T",
            apply("R", 100, 0),
            Accepted,
        ),
        // A slip that both sides agreed on binds all the same.
        (
            |w| {
                requested(w);
                no_slips(w);
            },
            "S",
            apply("R", 1_131, 130),
            with_amount(C::AmountExceeded, 1_130),
        ),
    ]);
}

#[test]
fn a_red_invoice_changes_what_remains_and_uses_up_slip_and_consents() {
    let mut world = World::with_invoice(GROSS);
    consented(&mut world, 2_000);
    world.accept("S", &request(1_130, 130, "02"));
    world.accept("T", &apply("R1", 1_130, 130).digest(8));
    assert_eq!(told(&world), [(AlertKind::RedApplied, "K")]);
    let status = world.status();
    let number = "R1".to_owned();
    let noted = RedInvoice { index: 3, amount: 1_130, tax: 130, digest: Some([8; 32]), number };
    assert_eq!(status.red_invoices, [noted]);
    assert_eq!((status.red.amount, status.red.tax), (1_130, 130));
    assert_eq!((status.remainder(), status.capacity()), (10_170, 5_170));
    assert_eq!(status.lifecycle(), Lifecycle::PartRed);
    assert_eq!(status.slip.map(|slip| slip.state), Some(SlipState::None));
    assert_eq!(status.financings[0].red_consent, Some(870));
    // The consent is used up: what is left of it does not cover the next.
    assert_eq!(world.run("S", &request(871, 0, "02")), with_number(C::Encumbered, 1));
    world.accept("S", &request(870, 0, "02"));
    world.accept("T", &apply("R2", 870, 0));
    assert_eq!(world.status().financings[0].red_consent, None);
}

#[test]
fn partial_reds_add_up_and_one_beyond_is_told_what_remains() {
    let mut world = World::with_invoice(GROSS);
    no_slips(&mut world);
    let mut left = (GROSS, 1_300);
    for (number, (amount, tax)) in
        [(1_130, 130), (2_260, 260), (113, 13), (3_390, 390)].into_iter().enumerate()
    {
        world.accept("S", &apply(&format!("R{number}"), amount, tax));
        left = (left.0 - amount, left.1 - tax);
        let status = world.status();
        assert_eq!((status.remainder(), 1_300 - status.red.tax), left);
        assert_eq!(status.lifecycle(), Lifecycle::PartRed);
    }
    let beyond = apply("R9", left.0 + 1, left.1);
    assert_eq!(world.run("S", &beyond), with_amount(C::AmountExceeded, 4_407));
    let beyond = apply("R9", left.0, left.1 + 1);
    assert_eq!(world.run("S", &beyond), with_amount(C::AmountExceeded, 507));
    world.accept("S", &apply("R9", left.0, left.1));
    let status = world.status();
    assert_eq!((status.remainder(), status.red.tax), (0, 1_300));
    assert_eq!((status.lifecycle(), status.red_invoices.len()), (Lifecycle::FullRed, 5));
    assert_eq!(world.run("S", &apply("R10", 1, 0)), answer(C::FullyRed));
}

#[test]
fn a_red_after_a_booking_tells_the_unit() {
    let mut world = World::with_invoice(GROSS);
    no_slips(&mut world);
    world.accept("B", &book(GROSS - 100));
    world.accept("S", &apply("R1", 100, 10));
    assert_eq!(told(&world), []);
    world.accept("S", &apply("R2", 1, 0));
    assert_eq!(told(&world), [(AlertKind::OverBooked, "B")]);
    assert_eq!(world.status().booked(), GROSS - 100);
}

/// Entries of `lines`: number, net amount of the line, what is credited of it.
fn lines(event: Event, lines: &[(u64, i128, i128)]) -> Event {
    let entries: Vec<_> = lines
        .iter()
        .map(|(line, of, credited)| {
            vec![
                (tag::LINE_NUMBER, value::uint(*line)),
                (tag::LINE_OF, value::amount(*of)),
                (tag::LINE_RED, value::amount(*credited)),
            ]
        })
        .collect();
    event.set(tag::LINES_RED, value::list(&entries))
}

#[test]
fn each_line_is_credited_up_to_its_net_amount() {
    let mut world = World::with_invoice(GROSS);
    no_slips(&mut world);
    world.accept("S", &lines(apply("R1", 100, 0), &[(1, 4_000, 60), (7, 40, 40)]));
    let bad = |cause| malformed(tag::LINES_RED, cause);
    let exceeded = |left| with_amount(C::AmountExceeded, left);
    for (entries, expected) in [
        (vec![(1, 4_000, 3_941)], exceeded(3_940)),
        (vec![(7, 40, 1)], exceeded(0)),
        (vec![(2, 10, 11)], exceeded(10)),
        (vec![(2, 10, 5), (2, 10, 6)], exceeded(5)),
        (vec![(1, 4_001, 1)], bad(Cause::Range)),
        (vec![(0, 10, 1)], bad(Cause::Range)),
        (vec![(2, -10, 0)], bad(Cause::Sign)),
        (vec![(2, 10, -1)], bad(Cause::Sign)),
    ] {
        let before = world.status();
        assert_eq!(world.run("S", &lines(apply("R2", 9, 0), &entries)), expected, "{entries:?}");
        assert_eq!(world.status(), before);
    }
    let half = vec![vec![(tag::LINE_NUMBER, value::uint(1))]];
    let half = apply("R2", 9, 0).set(tag::LINES_RED, value::list(&half));
    assert_eq!(world.run("S", &half), bad(Cause::Missing));
    world.accept("S", &lines(apply("R2", 3_950, 0), &[(1, 4_000, 3_940), (2, 10, 10)]));
    let line = |line, of, credited| RedLine { line, of, credited };
    assert_eq!(world.status().red_lines, [line(1, 4_000, 4_000), line(7, 40, 40), line(2, 10, 10)]);
    // Lines beyond what a list holds.
    let many: Vec<_> = (10..71).map(|n| (n, 1, 1)).collect();
    world.accept("S", &lines(apply("R3", 61, 0), &many));
    let more = lines(apply("R4", 1, 0), &[(99, 1, 1)]);
    assert_eq!(world.run("S", &more), with_number(C::TooMany, 64));
}

/// One entry of `vat_breakdown`.
fn rate(event: Event, percent: i128, taxable: i128, tax: i128) -> Event {
    let entry = vec![
        (tag::TAXABLE, value::amount(taxable)),
        (tag::TAX, value::amount(tax)),
        (tag::VAT_RATE, value::decimal(percent, 0)),
    ];
    event.set(tag::VAT_BREAKDOWN, value::list(&[entry]))
}

#[test]
fn each_rate_is_credited_up_to_what_the_original_has_of_it() {
    let mut world = World::with_invoice(GROSS);
    no_slips(&mut world);
    world.accept("S", &rate(apply("R1", 1_130, 130), 13, 1_000, 130));
    let bad = |cause| malformed(tag::VAT_BREAKDOWN, cause);
    let exceeded = |left| with_amount(C::AmountExceeded, left);
    for ((percent, taxable, tax), expected) in [
        ((13, 9_001, 0), exceeded(9_000)),
        ((13, 0, 1_171), exceeded(1_170)),
        ((9, 1, 0), bad(Cause::Range)),
        ((13, -1, 0), bad(Cause::Sign)),
        ((13, 1, -1), bad(Cause::Sign)),
    ] {
        assert_eq!(world.run("S", &rate(apply("R2", 9, 0), percent, taxable, tax)), expected);
    }
    world.accept("S", &rate(apply("R2", 10_170, 1_170), 13, 9_000, 1_170));
    let (category, exemption_reason, exemption_code) = (None, None, None);
    let (taxable, tax, rate) = (Some(10_000), Some(1_300), Some((13, 0)));
    let whole = Rate { taxable, tax, category, rate, exemption_reason, exemption_code };
    assert_eq!(world.status().red_rates, [whole]);
}

#[test]
fn entries_of_the_original_with_one_rate_are_one_limit() {
    let mut world = World::with_invoice(GROSS);
    no_slips(&mut world);
    edit(&mut world, |status| {
        let same = status.facts.rates[0].clone();
        status.facts.rates.push(same);
    });
    world.accept("S", &rate(apply("R1", 9, 0), 13, 20_000, 2_600));
    let beyond = rate(apply("R2", 9, 0), 13, 1, 0);
    assert_eq!(world.run("S", &beyond), with_amount(C::AmountExceeded, 0));
}

#[test]
fn nothing_is_asked_of_what_is_void_or_fully_credited_but_what_winds_it_down() {
    let events = [
        ("T", Event::of(R::AddFile).digest(1)),
        ("T", of(R::Correct).uint(tag::FIELD, 35).text(tag::TEXT, "x")),
        ("T", of(R::Void)),
        ("S", request(1, 0, "02")),
        ("S", open(1, 0, "02")),
        ("S", of(R::SlipConfirm)),
        ("S", of(R::SlipRefuse)),
        ("S", of(R::SlipWithdraw)),
        ("S", of(R::SlipExpire)),
        ("T", apply("R", 1, 0)),
        ("B", select()),
        ("T", of(R::ConfirmDeduction).uint(tag::PERIOD, 202_611)),
        ("B", of(R::NonDeductible)),
        ("T", of(R::ExportRebate)),
        ("T", of(R::ExportRollback)),
    ];
    for (credited, expected) in [(true, C::FullyRed), (false, C::AlreadyVoid)] {
        for (actor, event) in &events {
            let mut world = World::with_invoice(GROSS);
            edit(&mut world, |s| if credited { s.red.amount = GROSS } else { s.void = true });
            assert_eq!(world.run(actor, event), answer(expected), "{}", event.kind.name());
        }
        let mut world = World::with_invoice(GROSS);
        used(&mut world);
        world.accept("T", &of(R::ConfirmDeduction).uint(tag::PERIOD, 202_611));
        world.edit(|s| if credited { s.red.amount = GROSS } else { s.void = true });
        world.accept("B", &of(R::TransferOut).amount(1_300));
        assert_eq!(world.status().deduction_state(), DeductionState::TransferredOut);
        world.accept("J", &of(R::Freeze).reference("a"));
    }
}

#[test]
fn a_red_document_and_its_effect_come_in_either_order_in_one_block() {
    let red_number = "26442000000000000002";
    // The document is of its own number, so that nothing hangs on which of the two comes first.
    for document_first in [true, false] {
        let mut world = World::with_invoice(GROSS);
        no_slips(&mut world);
        if document_first {
            let fields = document(red_number, -GROSS);
            assert_eq!(world.issue_as(R::IssueRed, "T", fields), Accepted);
        }
        world.accept("S", &apply(red_number, GROSS, 1_300));
        if !document_first {
            let fields = document(red_number, -GROSS);
            assert_eq!(world.issue_as(R::IssueRed, "T", fields), Accepted);
        }
        assert_eq!(world.status().lifecycle(), Lifecycle::FullRed);
        assert_eq!(world.status_of(red_number), None);
        let on_red = request(1, 0, "02").number(red_number);
        assert_eq!(world.run("S", &on_red), answer(C::RedInvoice));
    }
}

#[test]
fn in_one_block_the_effect_of_a_red_must_follow_its_original() {
    for original_first in [true, false] {
        let mut world = World::new();
        no_slips(&mut world);
        let fields = document(NUMBER, GROSS);
        let issue = world.prepare(R::Issue, "T", fields);
        let red = world.prepare(R::IssueRed, "T", document("26442000000000000002", -GROSS));
        let apply = world.event_record("S", &apply("26442000000000000002", GROSS, 1_300));
        let (records, expected): (_, [Outcome; 3]) = match original_first {
            true => ([issue, red, apply], [Accepted, Accepted, Accepted]),
            false => ([red, apply, issue], [Accepted, NotFound, Accepted]),
        };
        assert_eq!(world.block(&records), expected);
        let status = world.status_of(NUMBER).map(|status| status.lifecycle());
        assert_eq!(status, original_first.then_some(Lifecycle::FullRed));
    }
}

#[test]
fn of_a_hold_and_a_red_request_in_one_block_the_first_wins() {
    let grant = of(R::ConsentGrant).text(tag::ACTOR, "K").uint(tag::SCOPE, 7).expires(WAIT);
    let hold = of(R::FinanceHold).amount(5_000).expires(WAIT);
    let ask = request(1_130, 130, "02");
    for (events, expected) in [
        ([("K", &hold), ("S", &ask)], [Accepted, with_number(C::Encumbered, 1)]),
        ([("S", &ask), ("K", &hold)], [Accepted, at_index(C::SlipLive, 2)]),
    ] {
        let mut world = World::with_invoice(GROSS);
        world.accept("S", &grant);
        assert_eq!(world.run_all(&events), expected);
        let status = world.status();
        assert_eq!(status.liens().count(), usize::from(events[0].0 == "K"));
        assert_eq!(status.live_slip().is_some(), events[0].0 == "S");
    }
}
