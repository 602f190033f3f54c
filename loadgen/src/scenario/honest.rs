//! Stories without fraud: nothing in them may be refused, but what is due to time or rights and
//! said so by the rules.

use super::cast::Actor;
use super::deal::{ALL, ASK, deal, financed, offered, personal};
use super::story::{AFTER, DAY_MS, Event, FIRST, LATER, OK, STRICT, Story};
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind as K;
use piaogen_verify::value;

/// Issued, and nothing more.
pub(super) fn plain(story: &mut Story<'_>) {
    deal(story);
}

/// Sold to a person who never reimburses it.
pub(super) fn consumer(story: &mut Story<'_>) {
    personal(story);
}

/// Selected by the buyer, deducted by the authority.
pub(super) fn deducted(story: &mut Story<'_>) {
    let deal = deal(story);
    story.event(FIRST, deal.buyer, deal.on(K::Select), OK);
    deal.deduct(story);
}

/// Booked, and nothing more.
pub(super) fn entered(story: &mut Story<'_>) {
    let deal = deal(story);
    let book = deal.on(K::Book).amount(deal.invoice.gross).reference("V-1");
    story.event(LATER, deal.buyer, book, OK);
}

/// Selected, claimed, booked, archived, deducted.
pub(super) fn booked(story: &mut Story<'_>) {
    let deal = deal(story);
    let buyer = deal.buyer;
    let until = story.clock[FIRST] + 30 * DAY_MS;
    story.event(FIRST, buyer, deal.on(K::Select), OK);
    story.event(FIRST, buyer, deal.on(K::ClaimOpen).expires(until).reference("C-1"), OK);
    let book = deal.on(K::Book).amount(deal.invoice.gross).reference("V-1");
    story.event(FIRST, buyer, book.text(tag::MARK, "02"), OK);
    story.event(LATER, buyer, deal.on(K::Archive).set(tag::DIGEST, vec![7; 32]), OK);
    deal.deduct(story);
}

/// A person's invoice, reimbursed by his employer after one claim was withdrawn.
pub(super) fn reimbursed(story: &mut Story<'_>) {
    let (invoice, [unit, _]) = personal(story);
    let until = story.clock[FIRST] + 10 * DAY_MS;
    let claim = |name: &str| Event::on(&invoice, K::ClaimOpen).expires(until).reference(name);
    story.event(FIRST, unit, claim("C-1"), OK);
    story.event(FIRST, unit, Event::on(&invoice, K::ClaimClose), OK);
    story.event(FIRST, unit, claim("C-2"), OK);
    story.event(LATER, unit, Event::on(&invoice, K::Book).amount(invoice.gross), OK);
}

/// Confirmed, held, financed, announced, paid to the bank, settled.
pub(super) fn factored(story: &mut Story<'_>) {
    let deal = deal(story);
    let (bank, gross) = (deal.banks[0], deal.invoice.gross);
    deal.consent(story, bank, ALL);
    story.event(FIRST, deal.seller, deal.on(K::ConfirmRequest), OK);
    story.event(FIRST, deal.buyer, deal.confirm(), OK);
    story.event(FIRST, bank, deal.on(K::Query), OK);
    story.event(FIRST, bank, deal.hold(story, gross), OK);
    story.event(FIRST, bank, deal.open(gross).financing(1), OK);
    deal.tell_sides(story);
    story.event(FIRST, bank, deal.on(K::Notice).financing(1).account(1), OK);
    story.event(FIRST, deal.buyer, deal.on(K::NoticeAck).financing(1), OK);
    let registered = deal.on(K::RegistryRef).financing(1).text(tag::SYSTEM, "ZDW");
    let reference = format!("ZDW-{}", story.index);
    story.event(FIRST, bank, registered.reference(&reference), OK);
    for (name, amount) in [("P-1", gross / 2), ("P-2", gross - gross / 2)] {
        let payment = deal.on(K::Payment).amount(amount).reference(name).account(1);
        story.event(LATER, deal.buyer, payment, OK);
        story.event(LATER, bank, deal.on(K::PaymentAck).reference(name), OK);
        story.event(LATER, bank, deal.on(K::Release).financing(1).amount(amount), OK);
    }
}

/// Financed, and settled in one go.
pub(super) fn settled(story: &mut Story<'_>) {
    let deal = financed(story, 1);
    story.event(LATER, deal.banks[0], deal.on(K::Settle).financing(1), OK);
    let payment = deal.on(K::Payment).amount(deal.invoice.gross).reference("P-1");
    story.event(LATER, deal.buyer, payment, OK);
}

/// One bank holds and changes its mind, the next one finances.
pub(super) fn passed_on(story: &mut Story<'_>) {
    let deal = offered(story, 2);
    let [first, second, _] = deal.banks;
    let gross = deal.invoice.gross;
    story.event(FIRST, first, deal.hold(story, gross), OK);
    story.event(FIRST, first, deal.on(K::HoldCancel).financing(1), OK);
    story.event(FIRST, second, deal.hold(story, gross), OK);
    story.event(LATER, second, deal.open(gross).financing(2), OK);
    deal.tell_sides(story);
}

/// Two banks share, each with a part that leaves the other's room.
pub(super) fn shared(story: &mut Story<'_>) {
    let deal = offered(story, 2);
    let [first, second, _] = deal.banks;
    let (half, third) = (deal.invoice.gross / 2, deal.invoice.gross / 3);
    story.event(FIRST, first, deal.open(half).divisible(), OK);
    deal.tell_sides(story);
    story.event(FIRST, second, deal.open(third).divisible(), OK);
    deal.tell_sides(story);
    story.event(LATER, first, deal.on(K::Release).financing(1), OK);
    story.event(LATER, second, deal.on(K::Settle).financing(2), OK);
}

/// The financing goes to another bank.
pub(super) fn transferred(story: &mut Story<'_>) {
    let deal = financed(story, 1);
    let [first, second, _] = deal.banks;
    let to = story.id(second);
    let offer = deal.on(K::FinanceTransfer).financing(1).text(tag::ACTOR, to);
    story.event(LATER, first, offer, OK);
    story.tells("offered", Some(second));
    story.event(LATER, second, deal.on(K::TransferAccept).financing(1), OK);
    story.event(LATER, second, deal.on(K::Settle).financing(1), OK);
}

/// Returned before anybody used it: the seller credits the first lines alone.
pub(super) fn credited(story: &mut Story<'_>) {
    let deal = deal(story);
    let Actor::Seller(seller) = deal.seller else { return };
    let red = story.press.red(story.index, 1, &deal.invoice, seller);
    let request = deal.on(K::RedRequest).amount(red.gross).tax(red.tax);
    story.event(FIRST, deal.seller, request.text(tag::REASON_CODE, "02"), OK);
    story.issue(&red);
    let apply = deal.on(K::RedApply).amount(red.gross).tax(red.tax);
    let apply = apply.text(tag::RED_NUMBER, &red.number);
    let digest = red.commitment().to_vec();
    story.event(FIRST, Actor::Authority, apply.set(tag::DIGEST, digest), OK);
    let rest = deal.invoice.gross - red.gross;
    story.event(LATER, deal.buyer, deal.on(K::Book).amount(rest), OK);
}

/// Returned after it was booked: both sides agree on a slip, and the buyer books what remains.
pub(super) fn slipped(story: &mut Story<'_>) {
    let deal = deal(story);
    let Actor::Seller(seller) = deal.seller else { return };
    let red = story.press.red(story.index, 1, &deal.invoice, seller);
    story.event(FIRST, deal.buyer, deal.on(K::Book).amount(deal.invoice.gross), OK);
    let slip = deal.on(K::SlipOpen).amount(red.gross).tax(red.tax).text(tag::REASON_CODE, "02");
    story.event(FIRST, deal.buyer, slip, OK);
    story.event(LATER, deal.seller, deal.on(K::SlipConfirm), OK);
    story.event(LATER, deal.buyer, deal.on(K::Unbook), OK);
    story.record(LATER, red.seller, &red, OK);
    let apply = deal.on(K::RedApply).amount(red.gross).tax(red.tax);
    story.event(LATER, Actor::Authority, apply.text(tag::RED_NUMBER, &red.number), OK);
    let rest = deal.invoice.gross - red.gross;
    story.event(LATER, deal.buyer, deal.on(K::Book).amount(rest), OK);
}

/// Returned while a bank holds a lien that consents to it.
pub(super) fn credited_with_consent(story: &mut Story<'_>) {
    let deal = offered(story, 1);
    let Actor::Seller(seller) = deal.seller else { return };
    let red = story.press.red(story.index, 1, &deal.invoice, seller);
    let (bank, rest) = (deal.banks[0], deal.invoice.gross - red.gross);
    story.event(FIRST, bank, deal.open(rest), OK);
    deal.tell_sides(story);
    story.event(FIRST, bank, deal.on(K::ConsentRed).financing(1).amount(red.gross), OK);
    let request = deal.on(K::RedRequest).amount(red.gross).tax(red.tax);
    story.event(FIRST, deal.seller, request.text(tag::REASON_CODE, "04"), OK);
    story.tells("red_confirmed", Some(bank));
    story.record(LATER, red.seller, &red, OK);
    let apply = deal.on(K::RedApply).amount(red.gross).tax(red.tax);
    story.event(LATER, Actor::Authority, apply.text(tag::RED_NUMBER, &red.number), OK);
    story.tells("red_applied", Some(bank));
}

/// Disputed in part, and settled between the sides.
pub(super) fn disputed(story: &mut Story<'_>) {
    let deal = deal(story);
    story.event(FIRST, deal.buyer, deal.confirm(), OK);
    let dispute = deal.on(K::BuyerDispute).amount(deal.invoice.gross / 10);
    story.event(FIRST, deal.buyer, dispute.text(tag::REASON_CODE, "Q"), OK);
    story.tells("disputed", Some(deal.seller));
    story.event(LATER, deal.buyer, deal.on(K::DisputeResolve), OK);
}

/// Frozen by a court, marked by the authority, and cleared of both.
pub(super) fn cleared(story: &mut Story<'_>) {
    let deal = deal(story);
    let freeze = |kind| deal.on(kind).reference("ORDER-1");
    let mark = |word| deal.on(K::RiskMark).text(tag::MARK, word);
    story.event(FIRST, Actor::Court, freeze(K::Freeze), OK);
    story.event(FIRST, Actor::Authority, mark("doubtful"), OK);
    story.event(LATER, Actor::Court, freeze(K::Unfreeze), OK);
    story.event(LATER, Actor::Authority, mark("normal"), OK);
    story.event(LATER, deal.buyer, deal.on(K::Select), OK);
}

/// Selected by mistake, taken back, used for an export rebate that is rolled back.
pub(super) fn exported(story: &mut Story<'_>) {
    let deal = deal(story);
    story.event(FIRST, deal.buyer, deal.on(K::Select), OK);
    story.event(FIRST, deal.buyer, deal.on(K::Unselect), OK);
    story.event(FIRST, Actor::Authority, deal.on(K::ExportRebate), OK);
    story.event(LATER, Actor::Authority, deal.on(K::ExportRollback), OK);
    story.event(LATER, deal.buyer, deal.on(K::NonDeductible), OK);
}

/// Evidence is added, a remark corrected, and the auditor looks.
pub(super) fn documented(story: &mut Story<'_>) {
    let deal = deal(story);
    let mut digest = vec![9; 24];
    digest.extend_from_slice(&story.index.to_be_bytes());
    story.event(FIRST, deal.seller, deal.on(K::AddFile).set(tag::DIGEST, digest), OK);
    let correct = deal.on(K::Correct).set(tag::FIELD, value::uint(2024));
    story.event(FIRST, Actor::Authority, correct.text(tag::TEXT, "更正备注"), OK);
    story.event(LATER, Actor::Auditor, deal.on(K::Query), OK);
}

/// An answer got lost, and the same records are sent again: each gets its first answer.
pub(super) fn repeated(story: &mut Story<'_>) {
    let deal = deal(story);
    story.repeat(FIRST, 0);
    deal.consent(story, deal.banks[0], ASK);
    let consent = story.steps.len() - 1;
    let select = story.event(FIRST, deal.buyer, deal.on(K::Select), OK);
    story.repeat(FIRST, select);
    story.repeat(LATER, consent);
}

/// A hold that is let expire, and a slip that is let lapse, each cleared by somebody.
pub(super) fn lapsed(story: &mut Story<'_>) {
    let deal = offered(story, 2);
    let [first, second, _] = deal.banks;
    story.event(FIRST, deal.buyer, deal.confirm(), OK);
    let hold = deal.on(K::FinanceHold).amount(deal.invoice.gross);
    story.event(STRICT, first, hold.expires(story.soon()), OK);
    story.event(AFTER, deal.buyer, deal.on(K::HoldExpire).financing(1), OK);
    story.event(AFTER, second, deal.open(deal.invoice.gross), OK);
    deal.tell_sides(story);
}

/// The same goods to the same buyer month after month: honest, and alike.
pub(super) fn subscription(story: &mut Story<'_>) {
    let deal = deal(story);
    for place in 1..3 {
        let mut next = story.press.twin(story.index, place, &deal.invoice);
        next.document.fields.set_text(tag::ORDER, &format!("PO-{}-{place}", story.index));
        next.date_back(story.clock[FIRST], 30 * place as i64);
        next.seal();
        story.issue(&next);
    }
    // Each is told to be like the one before.
    for (places, visible) in [((0, 1), true), ((1, 2), true), ((0, 2), false)] {
        story.alike(places, false, visible, "the same goods every month");
    }
}
