//! Turns the invoices of the Online Retail file into signed records, as often as wanted.
//!
//! The first round keeps the numbers of the file. Round k adds `-rk` to every number, to the
//! originals that credits name, and to buyers, so that each round is a year of another, equal shop.
//!
//! With reversals, a credit is followed by an event for each original that was inferred for it, and
//! a round ends with a question to each credited original that proves what remains of it.
//!
//! Invariants
//! - A record of round k is made from the file alone; nothing is kept between rounds.
//! - Outcomes: an adjustment is refused with `TYPE_NOT_ACCEPTED`, every other invoice is accepted;
//!   what an event must be answered follows from the file.

mod reversals;

use crate::parties::{Parties, Style};
use crate::retail::{Invoice, Line, Retail, Sort};
use crate::rng::{Purpose, Rng};
use crate::source::{
    Damage, Expected, Generated, Kind, Prepared, Signatures, Source, SourceError, sign_range,
};
use piaogen_crypto::sm2::SecretKey;
use piaogen_crypto::{Digest, Lanes, sm3};
use piaogen_verify::document::{Document, Fields};
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::genesis::Genesis;
use piaogen_verify::opening;
use piaogen_verify::record::{RecordKind, partition, subject};
use piaogen_verify::scheme::usual::UK_RETAIL;
use piaogen_verify::status::FACTS_SHOWN;
use piaogen_verify::value;
use reversals::{Apply, Item};
use std::ops::Range;

/// Sellers among which invoices are spread.
pub const SELLERS: u32 = 50;

const VAT_CATEGORY: Tag = 118;
const EXEMPTION_REASON: Tag = 120;
const BUYER_COUNTRY: Tag = 55;
const SELLER_COUNTRY: Tag = 40;
const BUYER_PARTY: Tag = 2007;
const REMARK: Tag = 2024;

/// A source of records from the Online Retail file.
#[derive(Clone, Debug)]
pub struct Replay {
    retail: Retail,
    parties: Parties,
    chain: Digest,
    partitions: u32,
    seed: u64,
    rounds: u64,
    /// The records of a round.
    items: Vec<Item>,
}

impl Replay {
    /// Replays the file `rounds` times on a chain, signed by keys of a seed.
    pub fn new(retail: Retail, seed: u64, rounds: u64, genesis: &Genesis) -> Replay {
        Replay {
            items: reversals::invoices(&retail),
            retail,
            parties: Parties::new(seed, SELLERS, Style::Retail),
            chain: genesis.chain,
            partitions: genesis.file.partitions,
            seed,
            rounds: rounds.max(1),
        }
    }

    /// The same with the events that credits are for their originals.
    pub fn with_reversals(mut self) -> Replay {
        self.items = reversals::with_events(&self.retail);
        self
    }

    /// What was read.
    pub fn retail(&self) -> &Retail {
        &self.retail
    }

    /// Records for the topic `registry` that must be in a block before the first record is.
    pub fn registrations(&self, authority: &SecretKey) -> Vec<Vec<u8>> {
        let first = self.retail.invoices.iter().map(|invoice| invoice.at_ms).min();
        self.parties.registrations(&self.chain, authority, first.unwrap_or(0))
    }

    /// Records of a range, signed on all threads, in order.
    pub fn generate_batch(&self, range: Range<u64>, lanes: Lanes) -> Vec<Generated> {
        sign_range(range, &self.chain, lanes, Signatures::Real, |index| self.prepare(index))
    }

    fn prepare(&self, index: u64) -> Prepared<'_> {
        let per_round = self.items.len() as u64;
        let (round, at) = (index / per_round, (index % per_round) as usize);
        match &self.items[at] {
            Item::Invoice(invoice) => self.invoice(index, round, *invoice),
            Item::Apply(apply) => self.event(index, round, apply),
        }
    }

    /// The document of an invoice in a round, its number there, and its seller.
    fn issued(&self, round: u64, at: usize) -> (Document, String, usize) {
        let invoice = &self.retail.invoices[at];
        let suffix = if round == 0 { String::new() } else { format!("-r{round}") };
        let seller = seller_of(invoice, self.parties.sellers());
        let place = round * self.retail.invoices.len() as u64 + at as u64;
        let document = self.document_of(invoice, place, seller, &suffix);
        (document, format!("{}{suffix}", invoice.number), seller)
    }

    fn invoice(&self, index: u64, round: u64, at: usize) -> Prepared<'_> {
        let invoice = &self.retail.invoices[at];
        let (document, number, seller) = self.issued(round, at);
        let subject = subject(UK_RETAIL.as_bytes(), None, number.as_bytes());
        let (kind, outcome) = match invoice.sort {
            Sort::Sale => (Kind::Blue, Outcome::Accepted),
            Sort::Credit => (Kind::Red, Outcome::Accepted),
            Sort::Adjustment => (Kind::TypeNotAccepted, Outcome::TypeNotAccepted),
        };
        Prepared {
            index,
            kind,
            expected: Expected::Exactly(outcome),
            record_kind: match invoice.sort {
                Sort::Credit => RecordKind::IssueRed,
                _ => RecordKind::Issue,
            },
            signed_at: invoice.at_ms,
            secret: document.secret,
            fields: document.fields.pairs().to_vec(),
            document: Some(document),
            readable: true,
            signer: self.parties.get(seller),
            partition: partition(&subject, self.partitions),
            subject,
            damage: Damage::None,
        }
    }

    /// The seller of an original says what a credit takes of it.
    fn event(&self, index: u64, round: u64, apply: &Apply) -> Prepared<'_> {
        let (original, number, seller) = self.issued(round, apply.original);
        let mut fields = Fields::new();
        fields.set_text(tag::SCHEME, UK_RETAIL);
        fields.set_text(tag::NUMBER, &number);
        fields.set_amount(tag::AMOUNT, apply.amount);
        fields.set_amount(tag::TAX_AMOUNT, 0);
        match apply.credit.map(|credit| self.issued(round, credit)) {
            Some((credit, red_number, _)) => {
                fields.set_text(tag::RED_NUMBER, &red_number);
                fields.set(tag::DIGEST, credit.commitment().to_vec());
            }
            None => fields.set_text(tag::RED_NUMBER, &format!("{number}-more")),
        }
        if let Some(lines) = apply.lines_field() {
            fields.set(tag::LINES_RED, lines);
        }
        if apply.opens {
            let fields_shown = |tag| FACTS_SHOWN.contains(&tag);
            let opened = opening::open(original.secret, &original.fields, fields_shown);
            fields.set(tag::OPENING, opening::encode(&opened));
        }
        let subject = subject(UK_RETAIL.as_bytes(), None, number.as_bytes());
        let when = apply.credit.unwrap_or(apply.original);
        Prepared {
            index,
            kind: Kind::Event,
            expected: apply.expected,
            record_kind: RecordKind::RedApply,
            signed_at: self.retail.invoices[when].at_ms,
            secret: Rng::new(self.seed, Purpose::Story, index).bytes(),
            fields: fields.pairs().to_vec(),
            document: None,
            readable: true,
            signer: self.parties.get(seller),
            partition: partition(&subject, self.partitions),
            subject,
            damage: Damage::None,
        }
    }

    fn document_of(&self, invoice: &Invoice, index: u64, seller: usize, suffix: &str) -> Document {
        let mut fields = Fields::new();
        fields.set_text(tag::SCHEME, UK_RETAIL);
        fields.set_text(tag::NUMBER, &format!("{}{suffix}", invoice.number));
        fields.set(tag::ISSUE_DATE, value::date(invoice.date.0, invoice.date.1, invoice.date.2));
        let code = match invoice.sort {
            Sort::Sale => "380",
            Sort::Credit => "381",
            Sort::Adjustment => "A",
        };
        fields.set_text(tag::TYPE_CODE, code);
        fields.set(tag::CURRENCY, value::currency(*b"GBP", 2));
        let seller = self.parties.get(seller);
        fields.set_text(tag::SELLER_PARTY, &seller.id);
        fields.set_text(tag::SELLER_NAME, &seller.name);
        fields.set_text(SELLER_COUNTRY, "GB");
        if invoice.customer.is_empty() {
            fields.set_text(tag::BUYER_NAME, "Consumer");
        } else {
            let customer = format!("{}{suffix}", invoice.customer);
            fields.set_text(tag::BUYER_NAME, &format!("Customer {customer}"));
            fields.set_text(BUYER_PARTY, &format!("CUSTOMER:{customer}"));
        }
        fields.set_text(BUYER_COUNTRY, country_code(&invoice.country));
        put_totals(&mut fields, invoice.lines.iter().map(|line| line.net).sum());
        if invoice.sort == Sort::Credit {
            put_originals(&mut fields, invoice, suffix);
        }
        let lines = (1u32..).zip(&invoice.lines).map(|(id, line)| line_fields(id, line)).collect();
        let secret = Rng::new(self.seed, Purpose::Head, index).bytes();
        let mut document = Document { secret, fields, lines };
        document.seal();
        document
    }
}

/// The seller: the first two digits of the stock code of the first line, hashed.
fn seller_of(invoice: &Invoice, sellers: usize) -> usize {
    let stock = invoice.lines.first().map_or("", |line| line.stock.as_str());
    let digits: String = stock.chars().filter(char::is_ascii_digit).take(2).collect();
    let digest = sm3::hash(digits.as_bytes());
    usize::from(u16::from_be_bytes([digest[0], digest[1]])) % sellers
}

fn put_totals(fields: &mut Fields, net: i128) {
    for tag in [tag::LINES_NET, tag::TOTAL_NET, tag::TOTAL_GROSS] {
        fields.set_amount(tag, net);
    }
    fields.set_amount(tag::TOTAL_VAT, 0);
    let entry = vec![
        (tag::TAXABLE, value::amount(net)),
        (tag::TAX, value::amount(0)),
        (VAT_CATEGORY, b"O".to_vec()),
        (EXEMPTION_REASON, b"no VAT in the data".to_vec()),
    ];
    fields.set(tag::VAT_BREAKDOWN, value::list(&[entry]));
}

fn put_originals(fields: &mut Fields, invoice: &Invoice, suffix: &str) {
    if invoice.originals.is_empty() {
        fields.set(tag::ORIGINAL_UNKNOWN, vec![1]);
        return;
    }
    let entries: Vec<Vec<(Tag, Vec<u8>)>> = invoice
        .originals
        .iter()
        .map(|(number, date)| {
            let mut entry = vec![(25, format!("{number}{suffix}").into_bytes())];
            entry.extend(date.map(|(y, m, d)| (26, value::date(y, m, d))));
            entry.push((2004, UK_RETAIL.into()));
            entry
        })
        .collect();
    fields.set(tag::PRECEDING, value::list(&entries));
    if invoice.originals_left_out > 0 {
        let more = invoice.originals_left_out;
        fields.set_text(REMARK, &format!("{more} more originals than can be named"));
    }
}

fn line_fields(id: u32, line: &Line) -> Fields {
    let mut fields = Fields::new();
    fields.set_text(126, &id.to_string());
    fields.set(129, value::decimal(line.quantity, 0));
    fields.set_text(130, "pc");
    fields.set_amount(tag::LINE_NET, line.net);
    fields.set(146, value::decimal(line.price.0, line.price.1));
    fields.set_text(151, "O");
    fields.set_text(153, if line.description.is_empty() { &line.stock } else { &line.description });
    fields.set_text(155, &line.stock);
    fields
}

/// ISO 3166 code of a country as the file writes it; `ZZ` where it names none.
fn country_code(name: &str) -> &'static str {
    const CODES: &[(&str, &str)] = &[
        ("Australia", "AU"),
        ("Austria", "AT"),
        ("Bahrain", "BH"),
        ("Belgium", "BE"),
        ("Brazil", "BR"),
        ("Canada", "CA"),
        ("Channel Islands", "JE"),
        ("Cyprus", "CY"),
        ("Czech Republic", "CZ"),
        ("Denmark", "DK"),
        ("EIRE", "IE"),
        ("Finland", "FI"),
        ("France", "FR"),
        ("Germany", "DE"),
        ("Greece", "GR"),
        ("Hong Kong", "HK"),
        ("Iceland", "IS"),
        ("Israel", "IL"),
        ("Italy", "IT"),
        ("Japan", "JP"),
        ("Lebanon", "LB"),
        ("Lithuania", "LT"),
        ("Malta", "MT"),
        ("Netherlands", "NL"),
        ("Norway", "NO"),
        ("Poland", "PL"),
        ("Portugal", "PT"),
        ("RSA", "ZA"),
        ("Saudi Arabia", "SA"),
        ("Singapore", "SG"),
        ("Spain", "ES"),
        ("Sweden", "SE"),
        ("Switzerland", "CH"),
        ("USA", "US"),
        ("United Arab Emirates", "AE"),
        ("United Kingdom", "GB"),
    ];
    CODES.iter().find(|(known, _)| *known == name).map_or("ZZ", |(_, code)| code)
}

impl Source for Replay {
    fn len(&self) -> Option<u64> {
        Some(self.rounds * self.items.len() as u64)
    }

    fn batch(&self, range: Range<u64>, lanes: Lanes) -> Result<Vec<Generated>, SourceError> {
        Ok(self.generate_batch(range, lanes))
    }

    fn document(&self, index: u64) -> Option<Document> {
        self.prepare(index).document
    }
}
