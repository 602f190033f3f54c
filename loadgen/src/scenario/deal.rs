//! What most stories begin with: an invoice between two companies, banks that may lend, and the
//! events that recur in all of them.

use super::cast::Actor;
use super::invoice::Invoice;
use super::story::{DAY_MS, Event, FIRST, LATER, OK, Story};
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind as K;
use piaogen_verify::status::{SCOPE_FINANCE, SCOPE_HOLD, SCOPE_QUERY, SCOPES};
use piaogen_verify::value;

/// The seller lets a bank do everything.
pub(crate) const ALL: u64 = SCOPES;
/// The seller lets a bank finance, but not ask what remains.
pub(crate) const BLIND: u64 = SCOPE_HOLD | SCOPE_FINANCE;
/// The seller lets a bank ask.
pub(crate) const ASK: u64 = SCOPE_QUERY;

/// An invoice that was issued, and who is around it.
#[derive(Clone, Debug)]
pub(crate) struct Deal {
    pub(crate) invoice: Invoice,
    pub(crate) seller: Actor,
    pub(crate) buyer: Actor,
    pub(crate) banks: [Actor; 3],
}

/// An invoice to a company, issued.
pub(crate) fn deal(story: &mut Story<'_>) -> Deal {
    let (seller, buyer, banks) = (story.seller(), story.buyer(), story.banks());
    let invoice = story.press.invoice(story.index, 0, seller, Some(buyer));
    story.issue(&invoice);
    Deal { invoice, seller: Actor::Seller(seller), buyer: Actor::Buyer(buyer), banks }
}

/// An invoice to a person, issued, and two companies that might reimburse him.
pub(crate) fn personal(story: &mut Story<'_>) -> (Invoice, [Actor; 2]) {
    let (seller, unit) = (story.seller(), story.buyer());
    let other = (unit + 1) % story.press.cast.buyers();
    let invoice = story.press.invoice(story.index, 0, seller, None);
    story.issue(&invoice);
    (invoice, [Actor::Buyer(unit), Actor::Buyer(other)])
}

/// A deal of which the seller lets these banks do everything.
pub(crate) fn offered(story: &mut Story<'_>, banks: usize) -> Deal {
    let deal = deal(story);
    for bank in &deal.banks[..banks] {
        deal.consent(story, *bank, ALL);
    }
    deal
}

/// A deal that the first bank has financed in full, openly assigned; its number is 1.
pub(crate) fn financed(story: &mut Story<'_>, banks: usize) -> Deal {
    let deal = offered(story, banks);
    let lent = deal.open(deal.invoice.gross);
    story.event(FIRST, deal.banks[0], lent, OK);
    deal.tell_sides(story);
    deal
}

impl Deal {
    /// An event on the invoice.
    pub(crate) fn on(&self, kind: K) -> Event<'_> {
        Event::on(&self.invoice, kind)
    }

    /// The seller lets a bank do this for a month.
    pub(crate) fn consent(&self, story: &mut Story<'_>, bank: Actor, scope: u64) {
        let until = story.clock[FIRST] + 30 * DAY_MS;
        let event = self.on(K::ConsentGrant).text(tag::ACTOR, story.id(bank)).expires(until);
        let event = event.set(tag::SCOPE, value::uint(scope));
        story.event(FIRST, self.seller, event, OK);
    }

    /// A hold until a day after the season's beginning.
    pub(crate) fn hold(&self, story: &Story<'_>, amount: i128) -> Event<'_> {
        self.on(K::FinanceHold).amount(amount).expires(story.clock[FIRST] + DAY_MS)
    }

    /// A financing of so much, of which four fifths are paid out.
    pub(crate) fn open(&self, amount: i128) -> Event<'_> {
        let advanced = value::amount(amount * 4 / 5);
        self.on(K::FinanceOpen)
            .amount(amount)
            .text(tag::FORM, "assignment")
            .set(tag::ADVANCED, advanced)
            .account(1)
    }

    /// The buyer confirms all of it.
    pub(crate) fn confirm(&self) -> Event<'_> {
        self.on(K::BuyerConfirm).amount(self.invoice.gross).account(1).set(tag::NO_SET_OFF, vec![1])
    }

    /// The authority confirms the deduction of all its tax.
    pub(crate) fn deduct(&self, story: &mut Story<'_>) {
        let confirm = self.on(K::ConfirmDeduction).set(tag::PERIOD, value::uint(202_611));
        story.event(LATER, Actor::Authority, confirm.tax(self.invoice.tax), OK);
    }

    /// Seller and buyer are told that the invoice was financed.
    pub(crate) fn tell_sides(&self, story: &mut Story<'_>) {
        story.tells("financed", Some(self.seller));
        story.tells("financed", Some(self.buyer));
    }
}
