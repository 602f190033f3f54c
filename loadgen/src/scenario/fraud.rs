//! Frauds on real invoices: each story says which record must be refused with what, or which alert
//! must appear (DOMAIN.md A.3.1, F1–F10, and what goes wrong without banks).

use super::cast::Actor;
use super::deal::{ALL, BLIND, deal, financed, offered, personal};
use super::story::{
    AFTER, DAY_MS, Event, FIRST, LATER, OK, STRICT, Story, TOLD, encumbered, refused, refused_with,
};
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind as K;
use piaogen_verify::value;

/// F1: two banks finance the same invoice, one right after the other.
pub(super) fn pledged_twice_at_once(story: &mut Story<'_>) {
    let deal = offered(story, 2);
    let [first, second, _] = deal.banks;
    story.event(FIRST, first, deal.open(deal.invoice.gross), OK);
    deal.tell_sides(story);
    story.event(FIRST, second, deal.open(deal.invoice.gross), encumbered(1));
}

/// F1: two banks reserve the same invoice, one right after the other.
pub(super) fn held_twice_at_once(story: &mut Story<'_>) {
    let deal = offered(story, 2);
    let [first, second, _] = deal.banks;
    let gross = deal.invoice.gross;
    story.event(FIRST, first, deal.hold(story, gross), OK);
    let until = Detail::Time(story.clock[FIRST] + DAY_MS);
    let hold = deal.hold(story, gross);
    story.event(FIRST, second, hold, refused_with(Conflict::Held, until));
    story.event(FIRST, second, deal.open(gross), refused_with(Conflict::Held, until));
}

/// F1: one bank in the morning, two others in the afternoon.
pub(super) fn pledged_twice_later(story: &mut Story<'_>) {
    let deal = offered(story, 3);
    let [first, second, third] = deal.banks;
    let gross = deal.invoice.gross;
    story.event(FIRST, first, deal.hold(story, gross), OK);
    story.event(FIRST, first, deal.open(gross).financing(1), OK);
    deal.tell_sides(story);
    story.event(LATER, second, deal.hold(story, gross / 2), encumbered(1));
    story.event(LATER, third, deal.open(gross / 2), encumbered(1));
}

/// F1: the bank that financed all of it finances it again.
pub(super) fn pledged_to_itself(story: &mut Story<'_>) {
    let deal = financed(story, 1);
    let bank = deal.banks[0];
    let nothing = refused_with(Conflict::CapacityLeft, Detail::Amount(0));
    story.event(LATER, bank, deal.open(deal.invoice.gross), nothing);
}

/// F2: the seller asks for a red invoice after the drawdown.
pub(super) fn red_after_drawdown(story: &mut Story<'_>) {
    let deal = financed(story, 1);
    let request = |gross: i128, tax: i128| deal.on(K::RedRequest).amount(gross).tax(tax);
    let (gross, tax) = (deal.invoice.gross, deal.invoice.tax);
    let whole = request(gross, tax).text(tag::REASON_CODE, "01");
    story.event(FIRST, deal.seller, whole, encumbered(1));
    let part = request(gross / 10, tax / 10).text(tag::REASON_CODE, "04");
    story.event(LATER, deal.seller, part, encumbered(1));
    let void = deal.on(K::Void);
    story.event(LATER, Actor::Authority, void, refused(Conflict::NotVoidable));
}

/// F2: booked by the buyer, so that both sides would have to agree; the lien blocks the slip.
pub(super) fn slip_after_drawdown(story: &mut Story<'_>) {
    let deal = financed(story, 1);
    story.event(FIRST, deal.buyer, deal.on(K::Book).amount(deal.invoice.gross), OK);
    let slip = deal.on(K::SlipOpen).amount(deal.invoice.gross).tax(deal.invoice.tax);
    let slip = slip.text(tag::REASON_CODE, "01");
    story.event(LATER, deal.seller, slip.clone(), encumbered(1));
    story.event(LATER, deal.buyer, slip, encumbered(1));
}

/// F2: the seller gets his red invoice elsewhere. The authority's fact is recorded, the bank is
/// told at once, and nobody lends on the invoice any more.
pub(super) fn red_elsewhere(story: &mut Story<'_>) {
    let deal = financed(story, 2);
    let [first, second, _] = deal.banks;
    let fact = deal.on(K::AuthorityFact).text(tag::FACT, "red").reference("OTHER-SYSTEM-1");
    let fact = fact.amount(deal.invoice.gross).tax(deal.invoice.tax);
    story.event(LATER, Actor::Authority, fact, TOLD);
    story.tells("lien_hit", Some(first));
    story.tells("over_financed", Some(first));
    let open = deal.open(deal.invoice.gross);
    story.event(LATER, second, open, refused(Conflict::FullyRed));
}

/// F2: the same with a void.
pub(super) fn void_elsewhere(story: &mut Story<'_>) {
    let deal = financed(story, 2);
    let [first, second, _] = deal.banks;
    let fact = deal.on(K::AuthorityFact).text(tag::FACT, "void").reference("OTHER-SYSTEM-2");
    story.event(LATER, Actor::Authority, fact, TOLD);
    story.tells("lien_hit", Some(first));
    story.tells("over_financed", Some(first));
    let hold = deal.hold(story, 1_000);
    story.event(LATER, second, hold, refused(Conflict::AlreadyVoid));
}

/// F5: no bank lends on a debt that the buyer refused to confirm; under the strict policy on none
/// that he has not confirmed.
pub(super) fn unconfirmed(story: &mut Story<'_>) {
    let deal = offered(story, 1);
    let (bank, gross) = (deal.banks[0], deal.invoice.gross);
    story.event(STRICT, bank, deal.open(gross), refused(Conflict::NotConfirmed));
    let hold = deal.hold(story, gross);
    story.event(STRICT, bank, hold, refused(Conflict::NotConfirmed));
    story.event(STRICT, deal.buyer, deal.confirm(), OK);
    story.event(STRICT, bank, deal.open(gross), OK);
    deal.tell_sides(story);
}

/// F5: the buyer says no.
pub(super) fn denied(story: &mut Story<'_>) {
    let deal = offered(story, 1);
    let (bank, gross) = (deal.banks[0], deal.invoice.gross);
    story.event(FIRST, deal.buyer, deal.on(K::BuyerRefuse), OK);
    story.event(LATER, bank, deal.open(gross), refused(Conflict::NotConfirmed));
}

/// F5: a buyer that confirmed takes it back once the bank has paid.
pub(super) fn confirmation_taken_back(story: &mut Story<'_>) {
    let deal = offered(story, 1);
    let bank = deal.banks[0];
    let confirmed = story.event(FIRST, deal.buyer, deal.confirm(), OK);
    story.event(FIRST, bank, deal.open(deal.invoice.gross), OK);
    deal.tell_sides(story);
    let stands = refused(Conflict::ConfirmStands).because(confirmed);
    story.event(LATER, deal.buyer, deal.on(K::BuyerRefuse), stands);
    let less = deal.on(K::BuyerConfirm).amount(deal.invoice.gross / 2);
    story.event(LATER, deal.buyer, less, stands);
}

/// F8: half of it is paid, and the whole is offered.
pub(super) fn paid_before(story: &mut Story<'_>) {
    let deal = offered(story, 1);
    let [bank, blind, _] = deal.banks;
    deal.consent(story, blind, BLIND);
    let (gross, paid) = (deal.invoice.gross, deal.invoice.gross * 6 / 10);
    let payment = deal.on(K::Payment).amount(paid).reference("P-1");
    story.event(FIRST, deal.buyer, payment, OK);
    let left = refused_with(Conflict::CapacityLeft, Detail::Amount(gross - paid));
    story.event(LATER, bank, deal.open(gross), left);
    story.event(LATER, blind, deal.open(gross), refused(Conflict::Capacity));
    story.event(LATER, bank, deal.open(gross - paid), OK);
    deal.tell_sides(story);
}

/// F9: the buyer was told where to pay, and pays somewhere else.
pub(super) fn diverted(story: &mut Story<'_>) {
    let deal = financed(story, 1);
    let (bank, tenth) = (deal.banks[0], deal.invoice.gross / 10);
    story.event(FIRST, bank, deal.on(K::Notice).financing(1).account(1), OK);
    story.event(FIRST, deal.buyer, deal.on(K::NoticeAck).financing(1), OK);
    let payment = |name| deal.on(K::Payment).amount(tenth).reference(name);
    story.event(LATER, bank, deal.on(K::Release).financing(1).amount(2 * tenth), OK);
    story.event(LATER, deal.buyer, payment("P-1").account(2), TOLD);
    story.tells("wrong_payee", Some(deal.seller));
    story.tells("wrong_payee", Some(bank));
    story.event(LATER, deal.buyer, payment("P-2"), TOLD);
    story.tells("wrong_payee", Some(deal.seller));
    story.tells("wrong_payee", Some(bank));
}

/// F10: another bank, and the seller himself, release the lien; who held it before, too.
pub(super) fn released_by_others(story: &mut Story<'_>) {
    let deal = financed(story, 2);
    let [first, second, _] = deal.banks;
    let release = || deal.on(K::Release).financing(1);
    let settle = || deal.on(K::Settle).financing(1);
    for actor in [second, deal.seller, deal.buyer] {
        story.event(LATER, actor, release(), refused(Conflict::NotHolder));
    }
    story.event(LATER, second, settle(), refused(Conflict::NotHolder));
    let offer = deal.on(K::FinanceTransfer).financing(1).text(tag::ACTOR, story.id(second));
    story.event(LATER, first, offer, OK);
    story.tells("offered", Some(second));
    story.event(LATER, second, deal.on(K::TransferAccept).financing(1), OK);
    story.event(LATER, first, release(), refused(Conflict::NotHolder));
}

/// F10: a hold whose time is over is used after another bank has taken its place.
pub(super) fn expired_hold(story: &mut Story<'_>) {
    let deal = offered(story, 2);
    let [first, second, _] = deal.banks;
    let gross = deal.invoice.gross;
    story.event(FIRST, deal.buyer, deal.confirm(), OK);
    let hold = deal.on(K::FinanceHold).amount(gross).expires(story.soon());
    let held = story.event(STRICT, first, hold, OK);
    story.event(AFTER, second, deal.open(gross), OK);
    deal.tell_sides(story);
    let stale = refused(Conflict::StaleToken).because(held);
    story.event(AFTER, first, deal.open(gross).financing(1), stale);
    story.event(AFTER, first, deal.on(K::HoldCancel).financing(1), stale);
}

/// Two that share want more than there is.
pub(super) fn over_financed(story: &mut Story<'_>) {
    let deal = offered(story, 2);
    let [first, second, blind] = deal.banks;
    deal.consent(story, blind, BLIND);
    let (gross, part) = (deal.invoice.gross, deal.invoice.gross * 6 / 10);
    story.event(FIRST, first, deal.open(part).divisible(), OK);
    deal.tell_sides(story);
    let left = refused_with(Conflict::CapacityLeft, Detail::Amount(gross - part));
    story.event(FIRST, second, deal.open(part).divisible(), left);
    let blind_open = deal.open(part).divisible();
    story.event(LATER, blind, blind_open, refused(Conflict::Capacity));
    story.event(LATER, second, deal.open(gross - part).divisible(), OK);
    deal.tell_sides(story);
}

/// More is drawn than was held.
pub(super) fn overdrawn_hold(story: &mut Story<'_>) {
    let deal = offered(story, 1);
    let (bank, half) = (deal.banks[0], deal.invoice.gross / 2);
    story.event(FIRST, bank, deal.hold(story, half), OK);
    let open = deal.open(half + 1).financing(1);
    let held = refused_with(Conflict::AmountExceeded, Detail::Amount(half));
    story.event(FIRST, bank, open, held);
    story.event(LATER, bank, deal.open(half).financing(1), OK);
    deal.tell_sides(story);
}

/// The buyer books twice, and another company tries its luck.
pub(super) fn booked_twice(story: &mut Story<'_>) {
    let deal = deal(story);
    let Actor::Buyer(buyer) = deal.buyer else { return };
    let stranger = Actor::Buyer((buyer + 1) % story.press.cast.buyers());
    let book = |name| deal.on(K::Book).amount(deal.invoice.gross).reference(name);
    let first = story.event(FIRST, deal.buyer, book("V-1"), OK);
    let again = refused(Conflict::AlreadyBooked).because(first);
    story.event(FIRST, deal.buyer, book("V-2"), again);
    story.event(LATER, deal.buyer, book("V-3"), again);
    story.event(LATER, stranger, book("V-1"), refused(Conflict::NotBuyer));
}

/// One person's invoice is booked by two employers.
pub(super) fn booked_by_two(story: &mut Story<'_>) {
    let (invoice, [unit, other]) = personal(story);
    let book = || Event::on(&invoice, K::Book).amount(invoice.gross);
    story.event(FIRST, unit, book(), OK);
    story.event(LATER, other, book(), refused(Conflict::BookedElsewhere));
}

/// One person claims the same invoice twice, from one employer and from two.
pub(super) fn claimed_twice(story: &mut Story<'_>) {
    let (invoice, [unit, other]) = personal(story);
    let until = story.clock[FIRST] + 10 * DAY_MS;
    let claim = |name| Event::on(&invoice, K::ClaimOpen).expires(until).reference(name);
    let first = story.event(FIRST, unit, claim("C-1"), OK);
    let again = refused(Conflict::AlreadyClaimed).because(first);
    story.event(FIRST, unit, claim("C-2"), again);
    story.event(LATER, other, claim("C-1"), refused(Conflict::ClaimedElsewhere));
    let book = Event::on(&invoice, K::Book).amount(invoice.gross);
    story.event(LATER, other, book, refused(Conflict::ClaimedElsewhere));
}

/// Selected by who is not the buyer, and twice by the buyer.
pub(super) fn deducted_falsely(story: &mut Story<'_>) {
    let deal = deal(story);
    let Actor::Buyer(buyer) = deal.buyer else { return };
    let stranger = Actor::Buyer((buyer + 1) % story.press.cast.buyers());
    story.event(FIRST, stranger, deal.on(K::Select), refused(Conflict::NotBuyer));
    let first = story.event(FIRST, deal.buyer, deal.on(K::Select), OK);
    let again = refused(Conflict::DeductionState).because(first);
    story.event(LATER, deal.buyer, deal.on(K::Select).reference("2"), again);
    let confirm =
        |tax| deal.on(K::ConfirmDeduction).set(tag::PERIOD, value::uint(202_611)).tax(tax);
    let tax = deal.invoice.tax;
    let more = refused_with(Conflict::AmountExceeded, Detail::Amount(tax));
    story.event(LATER, Actor::Authority, confirm(tax + 1), more);
    story.event(LATER, Actor::Authority, confirm(tax), OK);
}

/// Who opened a slip confirms it himself, and the other side comes too late.
pub(super) fn late_slip(story: &mut Story<'_>) {
    let deal = deal(story);
    story.event(FIRST, deal.buyer, deal.on(K::Book).amount(deal.invoice.gross), OK);
    let slip = deal.on(K::SlipOpen).amount(deal.invoice.gross).tax(deal.invoice.tax);
    story.event(STRICT, deal.seller, slip.text(tag::REASON_CODE, "01"), OK);
    // It waits for less than the time of warning before its end, so both sides are warned at once.
    story.tells("slip_lapsing", Some(deal.seller));
    story.tells("slip_lapsing", Some(deal.buyer));
    story.event(STRICT, deal.seller, deal.on(K::SlipConfirm), refused(Conflict::SameParty));
    story.event(AFTER, deal.buyer, deal.on(K::SlipConfirm), refused(Conflict::SlipExpired));
    let apply = deal.on(K::RedApply).amount(deal.invoice.gross).tax(deal.invoice.tax);
    let apply = apply.text(tag::RED_NUMBER, "99999999999999999999");
    story.event(AFTER, Actor::Authority, apply, refused(Conflict::NoSlip));
    story.event(AFTER, deal.buyer, deal.on(K::SlipExpire), OK);
}

/// A red invoice without slip, though the buyer has used the original.
pub(super) fn red_without_slip(story: &mut Story<'_>) {
    let deal = deal(story);
    let (gross, tax) = (deal.invoice.gross, deal.invoice.tax);
    story.event(FIRST, deal.buyer, deal.on(K::Select), OK);
    let request = deal.on(K::RedRequest).amount(gross).tax(tax).text(tag::REASON_CODE, "01");
    story.event(FIRST, deal.seller, request, refused(Conflict::NeedsSlip));
    let apply = deal.on(K::RedApply).amount(gross).tax(tax).text(tag::RED_NUMBER, "1");
    story.event(LATER, deal.seller, apply.clone(), piaogen_verify::entry::Outcome::WrongRole);
    story.event(LATER, Actor::Authority, apply, refused(Conflict::NoSlip));
}

/// Without the seller's consent, against a court's order, against the authority's mark.
pub(super) fn forbidden(story: &mut Story<'_>) {
    let deal = deal(story);
    let [first, second, _] = deal.banks;
    let gross = deal.invoice.gross;
    let open = || deal.open(gross);
    story.event(FIRST, first, open(), refused(Conflict::NoConsent));
    deal.consent(story, first, ALL);
    story.event(FIRST, second, open(), refused(Conflict::NoConsent));
    let freeze = deal.on(K::Freeze).reference("ORDER-9");
    story.event(FIRST, Actor::Court, freeze, OK);
    let frozen = refused_with(Conflict::Frozen, Detail::Number(1));
    story.event(FIRST, first, open(), frozen);
    let unfreeze = || deal.on(K::Unfreeze).reference("ORDER-9");
    story.event(LATER, Actor::Authority, unfreeze(), refused(Conflict::NotYourOrder));
    story.event(LATER, Actor::Court, unfreeze(), OK);
    let mark = deal.on(K::RiskMark).text(tag::MARK, "abnormal");
    story.event(LATER, Actor::Authority, mark, OK);
    story.event(LATER, first, open(), refused(Conflict::Abnormal));
}
