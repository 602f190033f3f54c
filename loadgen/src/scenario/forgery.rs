//! Frauds with documents: altered, invented, copied under another number, brought from elsewhere.

use super::cast::Actor;
use super::deal::{deal, financed, offered};
use super::invoice::Invoice;
use super::story::{Event, FIRST, LATER, OK, Story, refused, refused_with};
use crate::source::Expected;
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::document::Document;
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::record::RecordKind as K;
use piaogen_verify::value;

/// A document with another total that adds up.
fn raised(document: &Document) -> Document {
    let mut raised = document.clone();
    for tag in [tag::TOTAL_NET, tag::TOTAL_GROSS, tag::LINES_NET] {
        let amount = document.fields.amount(tag);
        raised.fields.set_amount(tag, amount + 100_000);
    }
    raised.fields.remove(tag::VAT_BREAKDOWN);
    raised
}

/// F3: a document with a higher amount is shown to a bank, and issued once more.
pub(super) fn raised_amount(story: &mut Story<'_>) {
    let deal = deal(story);
    let stands = deal.invoice.commitment();
    let mut forged = deal.invoice.clone();
    forged.document = raised(&deal.invoice.document);
    let differs = refused_with(Conflict::OpeningDiffers, Detail::Digest(stands));
    let grant = deal.on(K::ConsentGrant).text(tag::ACTOR, story.id(deal.banks[0]));
    let grant = grant.expires(story.clock[FIRST] + 1_000_000_000).set(tag::SCOPE, value::uint(7));
    story.event(FIRST, deal.seller, grant.clone().showing(&forged.document), differs);
    let again = Expected::DupDifferent { of: 0, commitment: stands };
    story.record(FIRST, deal.seller, &forged, again);
    story.tells("dup_different", None);
    story.event(LATER, deal.seller, grant, OK);
}

/// F3: a real number with another buyer, who is to pay; the invoice was used before, so that the
/// false opening is not even looked at, and nobody but the true buyer can confirm.
pub(super) fn other_buyer(story: &mut Story<'_>) {
    let deal = offered(story, 1);
    let Actor::Buyer(buyer) = deal.buyer else { return };
    let accomplice = Actor::Buyer((buyer + 1) % story.press.cast.buyers());
    let mut forged = deal.invoice.clone();
    forged.document.fields.set_text(tag::BUYER_PARTY, story.id(accomplice));
    let not_buyer = refused(Conflict::NotBuyer);
    story.event(FIRST, accomplice, deal.confirm().showing(&forged.document), not_buyer);
    let stands = deal.invoice.commitment();
    let again = Expected::DupDifferent { of: 0, commitment: stands };
    story.record(LATER, deal.seller, &forged, again);
    story.tells("dup_different", None);
}

/// F4: a number that was never issued, and invoices by who may not issue them.
pub(super) fn invented(story: &mut Story<'_>) {
    let (seller, buyer, banks) = (story.seller(), story.buyer(), story.banks());
    let other = (seller + 1) % story.press.cast.sellers();
    let number = |place| story.press.invoice(story.index, place, seller, Some(buyer));
    let (never, by_buyer, by_stranger, by_other) = (number(0), number(1), number(2), number(3));
    let open = Event::on(&never, K::FinanceOpen).amount(1_000).text(tag::FORM, "pledge");
    let open = open.set(tag::ADVANCED, value::amount(800));
    story.event(FIRST, banks[0], open, Outcome::NotFound);
    story.record(FIRST, Actor::Buyer(buyer), &by_buyer, Outcome::WrongRole);
    story.record(FIRST, Actor::Stranger, &by_stranger, Outcome::NotRegistered);
    story.record(FIRST, Actor::Seller(other), &by_other, Outcome::WrongActor);
    story.record(FIRST, Actor::Seller(seller), &never, Outcome::BadSignature);
    if let Some(step) = story.steps.last_mut() {
        step.forged = true;
    }
}

/// Gives each line another name, so that the lines are no longer the same goods.
fn rename_lines(invoice: &mut Invoice) {
    const ITEM: Tag = tag::LINE_ITEM;
    for line in &mut invoice.document.lines {
        let name = format!("{} II", line.text(ITEM));
        line.set_text(ITEM, &name);
    }
}

/// F6: the same trade under another number on the same day: another order and other goods on the
/// paper, but the same parties and the same amount.
pub(super) fn copied_amount(story: &mut Story<'_>) {
    let deal = deal(story);
    let mut copy = story.press.twin(story.index, 1, &deal.invoice);
    copy.document.fields.set_text(tag::ORDER, &format!("PO-{}-X", story.index));
    rename_lines(&mut copy);
    copy.seal();
    story.issue(&copy);
    story.alike((0, 1), true, true, "same parties, amount and day");
}

/// F6: the same order is invoiced a second time, some days later, written a little differently.
pub(super) fn copied_order(story: &mut Story<'_>) {
    let deal = deal(story);
    let mut copy = story.press.twin(story.index, 1, &deal.invoice);
    copy.document.fields.set_text(tag::ORDER, &format!("  po-{}-0 ", story.index));
    copy.date_back(story.clock[FIRST], 40);
    rename_lines(&mut copy);
    copy.seal();
    story.issue(&copy);
    story.alike((0, 1), true, true, "same order and amount");
}

/// F6: the same goods, in another order of lines, on another day and with another order number.
pub(super) fn copied_lines(story: &mut Story<'_>) {
    let deal = deal(story);
    let mut copy = story.press.twin(story.index, 1, &deal.invoice);
    copy.document.fields.set_text(tag::ORDER, &format!("PO-{}-Y", story.index));
    copy.date_back(story.clock[FIRST], 50);
    copy.document.lines.reverse();
    copy.seal();
    story.issue(&copy);
    story.alike((0, 1), true, true, "same goods");
}

/// F6: one order, split over two invoices beside the whole one: amounts, days and lines differ.
/// What is compared cannot see it.
pub(super) fn split(story: &mut Story<'_>) {
    let deal = deal(story);
    let Actor::Seller(seller) = deal.seller else { return };
    for place in 1..3 {
        // Other goods for other amounts: only the order number is the same.
        let mut part = story.press.invoice(story.index, place, seller, None);
        let fields = &mut part.document.fields;
        for tag in [tag::BUYER_PARTY, tag::BUYER_NAME, tag::ORDER] {
            let text = deal.invoice.document.fields.text(tag);
            fields.set_text(tag, text);
        }
        part.seal();
        story.issue(&part);
        story.alike((0, place), true, false, "split, other amounts and goods");
    }
}

/// F6: issued again after the first was pledged, naming it as predecessor.
pub(super) fn reissued_while_pledged(story: &mut Story<'_>) {
    let deal = financed(story, 1);
    let mut again = story.press.twin(story.index, 1, &deal.invoice);
    let entry = vec![(25, deal.invoice.number.clone().into_bytes()), (2004, b"CN-EINV".to_vec())];
    again.document.fields.set(tag::PRECEDING, value::list(&[entry]));
    again.seal();
    story.record(LATER, deal.seller, &again, OK);
    story.alike((0, 1), true, true, "issued again while pledged");
}

/// F7: the same trade as an invoice of another system, and a bank that is asked to lend on it.
pub(super) fn imported_copy(story: &mut Story<'_>) {
    let deal = deal(story);
    let mut abroad = story.press.abroad(story.index, 1, &deal.invoice);
    rename_lines(&mut abroad);
    abroad.seal();
    story.record(FIRST, Actor::Importer, &abroad, OK);
    story.alike((0, 1), true, true, "the same trade, imported");
    let bank = deal.banks[0];
    let grant = Event::on(&abroad, K::ConsentGrant).text(tag::ACTOR, story.id(bank));
    let grant = grant.expires(story.clock[FIRST] + 1_000_000_000).set(tag::SCOPE, value::uint(7));
    story.event(FIRST, deal.seller, grant, OK);
    let open = Event::on(&abroad, K::FinanceOpen).amount(abroad.gross).text(tag::FORM, "pledge");
    let open = open.set(tag::ADVANCED, value::amount(0));
    story.event(LATER, bank, open, refused(Conflict::NotFinanceable));
}
