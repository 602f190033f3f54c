//! The invoices of a season: realistic documents between companies that take part.
//!
//! A number says which story the invoice stands in, and at which place there.
//!
//! Invariants
//! - The same seed, story, place and day give the same document.
//! - Gross, tax and lines are large enough to be divided in the ways that stories do.

use super::cast::{Actor, Cast};
use crate::generator::content::{Content, Head};
use crate::rng::{Purpose, Rng};
use piaogen_crypto::Digest;
use piaogen_verify::document::{Document, Fields};
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::fingerprint;
use piaogen_verify::opening;
use piaogen_verify::record::{RecordKind, subject};
use piaogen_verify::scheme::usual::{CN_EINV, EN16931};
use piaogen_verify::status::FACTS_SHOWN;
use piaogen_verify::value;

/// Most invoices of one story.
pub(crate) const PLACES: u64 = 8;
const DAY_MS: i64 = 86_400_000;
const BUYER_ADDRESS: Tag = 163;
/// The least that is divided into halves, thirds and tenths.
const GROSS_MIN: i128 = 1_000;
const TAX_MIN: i128 = 100;
/// What an invoice is worth where only the course of a story is wanted.
const SKETCHED: (i128, i128) = (1_130_000, 130_000);

/// What invoices are made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Press<'a> {
    pub(crate) cast: &'a Cast,
    pub(crate) seed: u64,
    /// The moment before which invoices are dated.
    pub(crate) now: i64,
    /// How long what is short-lived lives.
    pub(crate) short_ms: i64,
    /// Whether documents are made; else invoices are sketches.
    pub(crate) full: bool,
}

/// An invoice of a story.
#[derive(Clone, Debug)]
pub(crate) struct Invoice {
    pub(crate) place: u64,
    pub(crate) kind: RecordKind,
    pub(crate) scheme: &'static str,
    pub(crate) number: String,
    pub(crate) seller: Actor,
    pub(crate) seller_id: String,
    pub(crate) buyer: Option<usize>,
    pub(crate) gross: i128,
    pub(crate) tax: i128,
    pub(crate) document: Document,
}

/// The number of an invoice, without what its scheme puts before it.
fn serial(seed: u64, story: u64, place: u64) -> String {
    format!("9{:03}{:012}", seed % 1_000, story * PLACES + place)
}

impl Press<'_> {
    /// An invoice of a seller to a buyer; without one to a person.
    pub(crate) fn invoice(
        &self,
        story: u64,
        place: u64,
        seller: usize,
        buyer: Option<usize>,
    ) -> Invoice {
        let mut rng = Rng::new(self.seed, Purpose::Invoice, story * PLACES + place);
        let signed_at = self.now - DAY_MS * (1 + rng.below(28) as i64);
        let date = value::day_of_days(signed_at.div_euclid(DAY_MS));
        let number = format!("{:02}44{}", date.0 % 100, serial(self.seed, story, place));
        let seller_id = self.cast.get(Actor::Seller(seller)).id.clone();
        let mut invoice = Invoice {
            place,
            kind: RecordKind::Issue,
            scheme: CN_EINV,
            number: number.clone(),
            seller: Actor::Seller(seller),
            seller_id,
            buyer,
            gross: SKETCHED.0,
            tax: SKETCHED.1,
            document: Document { secret: rng.bytes(), fields: Fields::new(), lines: Vec::new() },
        };
        if self.full {
            let content = self.content(story, place, seller);
            let secret = invoice.document.secret;
            let head = Head { number, date, signed_at, secret };
            let parties = self.cast.parties();
            invoice.document = content.document(self.seed, CN_EINV, &head, 1, parties, true);
            self.address(&mut invoice.document.fields, buyer);
            let fields = &mut invoice.document.fields;
            let due = value::day_of_days((self.now + 60 * DAY_MS).div_euclid(DAY_MS));
            fields.set(tag::DUE_DATE, value::date(due.0, due.1, due.2));
            fields.set_text(tag::ORDER, &format!("PO-{story}-{place}"));
            invoice.seal();
        }
        invoice
    }

    /// A red invoice for the first lines of an invoice, at most half of them.
    pub(crate) fn red(&self, story: u64, place: u64, of: &Invoice, seller: usize) -> Invoice {
        let mut red = self.invoice(story, place, seller, of.buyer);
        red.kind = RecordKind::IssueRed;
        (red.gross, red.tax) = (SKETCHED.0 / 2, SKETCHED.1 / 2);
        if self.full {
            let mut content = self.content(story, of.place, seller);
            content.keep(content.line_count() / 2);
            let date = red.document.fields.get(tag::ISSUE_DATE);
            let date = date.and_then(|bytes| value::date_of(bytes).ok()).unwrap_or((2026, 1, 1));
            let (secret, number) = (red.document.secret, red.number.clone());
            let head = Head { number, date, signed_at: self.now - DAY_MS, secret };
            let parties = self.cast.parties();
            red.document = content.document(self.seed, CN_EINV, &head, -1, parties, true);
            self.address(&mut red.document.fields, of.buyer);
            let entry = vec![(25, of.number.clone().into_bytes()), (2004, CN_EINV.into())];
            red.document.fields.set(tag::PRECEDING, value::list(&[entry]));
            red.seal();
            (red.gross, red.tax) = (-red.gross, -red.tax);
        }
        red
    }

    fn content(&self, story: u64, place: u64, seller: usize) -> Content {
        let mut index = (1 << 60) + story * PLACES + place;
        loop {
            let mut content = Content::new(self.seed, index, self.cast.sellers());
            let (net, tax) = content.totals();
            if content.line_count() >= 2 && net + tax >= GROSS_MIN && tax >= TAX_MIN {
                content.seller = seller;
                return content;
            }
            index += 1 << 40;
        }
    }

    fn address(&self, fields: &mut Fields, buyer: Option<usize>) {
        fields.remove(BUYER_ADDRESS);
        fields.remove(tag::BUYER_PARTY);
        let Some(buyer) = buyer else {
            return fields.set(tag::VAT_TYPE, b"02".to_vec());
        };
        let party = self.cast.get(Actor::Buyer(buyer));
        fields.set_text(tag::BUYER_NAME, &party.name);
        fields.set_text(tag::BUYER_PARTY, &party.id);
        fields.set(tag::VAT_TYPE, b"01".to_vec());
    }

    /// Another invoice that is made like this one, with a number of its own; the caller changes
    /// what differs and seals it.
    pub(crate) fn twin(&self, story: u64, place: u64, of: &Invoice) -> Invoice {
        let mut rng = Rng::new(self.seed, Purpose::Invoice, story * PLACES + place);
        let mut twin = of.clone();
        twin.place = place;
        twin.number = format!("{}{}", &of.number[..4], serial(self.seed, story, place));
        twin.document.secret = rng.bytes();
        twin.document.fields.set_text(tag::NUMBER, &twin.number);
        twin
    }

    /// The same trade as an invoice of another system, with another kind of number.
    pub(crate) fn abroad(&self, story: u64, place: u64, of: &Invoice) -> Invoice {
        let mut abroad = self.twin(story, place, of);
        abroad.kind = RecordKind::Import;
        abroad.scheme = EN16931;
        abroad.number = format!("XB-{}", serial(self.seed, story, place));
        // Rates are rounded there by other rules.
        abroad.document.fields.remove(tag::VAT_BREAKDOWN);
        abroad.document.fields.set_text(tag::SCHEME, EN16931);
        abroad.document.fields.set_text(tag::NUMBER, &abroad.number);
        abroad
    }
}

impl Invoice {
    /// Dates the invoice so many days before a moment.
    pub(crate) fn date_back(&mut self, now: i64, days: i64) {
        let day = value::day_of_days((now - days * DAY_MS).div_euclid(DAY_MS));
        self.document.fields.set(tag::ISSUE_DATE, value::date(day.0, day.1, day.2));
    }

    /// Fits what follows from the fields and lines to them.
    pub(crate) fn seal(&mut self) {
        if self.document.lines.is_empty() {
            return;
        }
        if let Some(digest) = fingerprint::of_lines(&self.document.lines) {
            self.document.fields.set(tag::LINES_FINGERPRINT, digest.to_vec());
        }
        self.document.seal();
        self.gross = self.document.fields.amount(tag::TOTAL_GROSS);
        self.tax = self.document.fields.amount(tag::TOTAL_VAT);
    }

    /// What records of the invoice are about.
    pub(crate) fn subject(&self) -> Vec<u8> {
        let seller = (self.scheme == EN16931).then_some(self.seller_id.as_bytes());
        subject(self.scheme.as_bytes(), seller, self.number.as_bytes())
    }

    /// The fields that every event of the invoice has.
    pub(crate) fn named(&self) -> Fields {
        let mut fields = Fields::new();
        fields.set_text(tag::SCHEME, self.scheme);
        fields.set_text(tag::NUMBER, &self.number);
        if self.scheme == EN16931 {
            fields.set_text(tag::SELLER_PARTY, &self.seller_id);
        }
        fields
    }

    /// The invoice's commitment.
    pub(crate) fn commitment(&self) -> Digest {
        self.document.commitment()
    }
}

/// The fields that a status repeats, shown; all others hidden.
pub(crate) fn opening_of(document: &Document) -> Vec<u8> {
    let shown = opening::open(document.secret, &document.fields, |tag| FACTS_SHOWN.contains(&tag));
    opening::encode(&shown)
}
