//! The status document: everything that became of one invoice (`FORMAT.md` section 6.1).
//!
//! State is the product of independent parts, not one enum: an invoice is booked, confirmed and
//! pledged at the same time. The document is made of fields under salts, like the document of an
//! invoice, so that a proof shows the parts that the asker may know and hides the rest. The salts
//! come from a secret that every event stirs, so that who made one event can guess at no other.
//!
//! Invariants
//! - The face follows from the other parts and the history; no other face is read.
//! - Bytes and struct determine each other.

use super::STATUS_PREFIX;
use super::part::{Day, One, Value, set};
use super::parts::{
    AuthorityFact, Booking, BuyerState, Claim, Confirmation, Consent, Correction, Deduction,
    DeductionState, Face, File, Financing, FinancingState, Freeze, Lifecycle, Origin, Payment,
    Rate, Red, RedInvoice, RedLine, Risk, Slip, SlipState,
};
use crate::document::{Fields, SECRET_LEN, Salts, Secret, commitment_under, field_digest};
use crate::encoding::{Reader, put_bytes, put_vint};
use crate::fields::{STATUS, Tag, by_tag, tag};
use crate::opening::{self, OpenedField};
use crate::record::{FIELDS_MAX, RECORD_MAX};
use crate::value::{self, Cause, Flaw, HISTORY_MAX, RecordId};
use alloc::string::String;
use alloc::vec::Vec;
use piaogen_crypto::{Digest, sm3};

/// Fields of the document that an opening must show where the document has them.
pub const FACTS_SHOWN: &[Tag] = &[
    tag::TYPE_CODE,
    tag::CURRENCY,
    tag::DUE_DATE,
    tag::TOTAL_VAT,
    tag::TOTAL_GROSS,
    tag::VAT_BREAKDOWN,
    tag::SELLER_PARTY,
    tag::BUYER_PARTY,
    tag::VAT_TYPE,
];

/// What a status repeats of the invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Type code.
    pub type_code: String,
    /// Currency: code and exponent.
    pub currency: ([u8; 3], u8),
    /// Due date.
    pub due_date: Option<Day>,
    /// Total VAT.
    pub vat: Option<i128>,
    /// Total with VAT.
    pub gross: i128,
    /// VAT breakdown.
    pub rates: Vec<Rate>,
    /// Seller.
    pub seller: String,
    /// Buyer.
    pub buyer: Option<String>,
    /// Type of VAT invoice.
    pub vat_type: Option<String>,
}

/// What became of one invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The source of the salts.
    pub secret: Secret,
    /// What is repeated of the invoice.
    pub facts: Facts,
    /// How the invoice came to the chain.
    pub origin: Origin,
    /// Commitment of the record that created the invoice.
    pub commitment: Digest,
    /// Void, by a record of the authority; else lifecycle follows from `red`.
    pub void: bool,
    /// Risk level.
    pub risk: Risk,
    /// What was credited, all in all.
    pub red: Red,
    /// The red invoices that took effect.
    pub red_invoices: Vec<RedInvoice>,
    /// What was credited of each line.
    pub red_lines: Vec<RedLine>,
    /// What was credited of each rate.
    pub red_rates: Vec<Rate>,
    /// The last slip.
    pub slip: Option<Slip>,
    /// Input tax; `None` while it is unselected for the first time.
    pub deduction: Option<Deduction>,
    /// Live bookings.
    pub bookings: Vec<Booking>,
    /// Claims.
    pub claims: Vec<Claim>,
    /// What the buyer says.
    pub confirmation: Option<Confirmation>,
    /// What the seller allows.
    pub consents: Vec<Consent>,
    /// Holds and financings, closed ones too.
    pub financings: Vec<Financing>,
    /// Payments.
    pub payments: Vec<Payment>,
    /// Orders that freeze.
    pub freezes: Vec<Freeze>,
    /// Files.
    pub files: Vec<File>,
    /// Corrections.
    pub corrections: Vec<Correction>,
    /// What the authority said.
    pub authority_facts: Vec<AuthorityFact>,
    /// The records that made this status: log index and id.
    pub history: Vec<(u64, RecordId)>,
}

/// Why bytes are no status document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the status document is malformed at tag {tag}: {flaw:?}")]
pub struct StatusError {
    /// The field at fault; 0 for the envelope.
    pub tag: Tag,
    /// What is wrong.
    pub flaw: Flaw,
}

impl Facts {
    /// The facts among shown fields; the error is the first tag that is missing or hidden.
    pub fn of_opening(fields: &[OpenedField]) -> Result<Facts, Tag> {
        if let Some(hidden) =
            fields.iter().find(|field| field.value().is_none() && FACTS_SHOWN.contains(&field.tag))
        {
            return Err(hidden.tag);
        }
        Facts::read(|tag| opening::shown(fields, tag)).map_err(|error| error.tag)
    }

    fn read<'a>(get: impl Fn(Tag) -> Option<&'a [u8]>) -> Result<Facts, StatusError> {
        fn take<V: Value>(tag: Tag, bytes: Option<&[u8]>) -> Result<V, StatusError> {
            V::take(bytes).map_err(|flaw| StatusError { tag, flaw })
        }
        Ok(Facts {
            type_code: take(tag::TYPE_CODE, get(tag::TYPE_CODE))?,
            currency: take(tag::CURRENCY, get(tag::CURRENCY))?,
            due_date: take(tag::DUE_DATE, get(tag::DUE_DATE))?,
            vat: take(tag::TOTAL_VAT, get(tag::TOTAL_VAT))?,
            gross: take(tag::TOTAL_GROSS, get(tag::TOTAL_GROSS))?,
            rates: take(tag::VAT_BREAKDOWN, get(tag::VAT_BREAKDOWN))?,
            seller: take(tag::SELLER_PARTY, get(tag::SELLER_PARTY))?,
            buyer: take(tag::BUYER_PARTY, get(tag::BUYER_PARTY))?,
            vat_type: take(tag::VAT_TYPE, get(tag::VAT_TYPE))?,
        })
    }
}

impl Status {
    /// The status of an invoice that nothing has happened to.
    pub fn new(facts: Facts, origin: Origin, commitment: Digest) -> Status {
        Status {
            secret: [0; SECRET_LEN],
            facts,
            origin,
            commitment,
            void: false,
            risk: Risk::Normal,
            red: Red { amount: 0, tax: 0 },
            red_invoices: Vec::new(),
            red_lines: Vec::new(),
            red_rates: Vec::new(),
            slip: None,
            deduction: None,
            bookings: Vec::new(),
            claims: Vec::new(),
            confirmation: None,
            consents: Vec::new(),
            financings: Vec::new(),
            payments: Vec::new(),
            freezes: Vec::new(),
            files: Vec::new(),
            corrections: Vec::new(),
            authority_facts: Vec::new(),
            history: Vec::new(),
        }
    }

    /// Notes the record that made this status, and stirs the secret with the record's.
    pub fn seal(&mut self, index: u64, record: &Digest, secret: &Secret) {
        let mut id = [0; 16];
        id.copy_from_slice(&record[..16]);
        self.history.push((index, id));
        let stirred = sm3::hash_parts(&[&[SECRET_PREFIX], &self.secret, secret]);
        self.secret.copy_from_slice(&stirred[..SECRET_LEN]);
    }

    /// Where a record with this commitment is among those that made the status.
    pub fn made_by(&self, record: &Digest) -> Option<u64> {
        self.history.iter().find(|(_, id)| id[..] == record[..16]).map(|(index, _)| *index)
    }

    /// Whether one more record may change it.
    pub fn has_room(&self) -> bool {
        (self.history.len() as u64) < HISTORY_MAX
    }

    /// How many records made it.
    pub fn version(&self) -> u64 {
        self.history.len() as u64
    }

    /// Lifecycle.
    pub fn lifecycle(&self) -> Lifecycle {
        match (self.void, self.red.amount) {
            (true, _) => Lifecycle::Void,
            (false, 0) => Lifecycle::Active,
            (false, red) if red >= self.facts.gross => Lifecycle::FullRed,
            (false, _) => Lifecycle::PartRed,
        }
    }

    /// State of the input tax.
    pub fn deduction_state(&self) -> DeductionState {
        self.deduction.as_ref().map_or(DeductionState::Unselected, |d| d.state)
    }

    /// What the buyer says.
    pub fn buyer_state(&self) -> BuyerState {
        self.confirmation.as_ref().map_or(BuyerState::None, |c| c.state)
    }

    /// The slip, where it waits or is confirmed.
    pub fn live_slip(&self) -> Option<&Slip> {
        let live = |slip: &&Slip| matches!(slip.state, SlipState::Pending | SlipState::Confirmed);
        self.slip.as_ref().filter(live)
    }

    /// Holds and financings that take capacity.
    pub fn liens(&self) -> impl Iterator<Item = &Financing> {
        self.financings.iter().filter(|financing| financing.is_live())
    }

    /// What was paid to whom it should be, or to another.
    pub fn paid(&self) -> i128 {
        self.payments.iter().map(|payment| payment.amount).sum()
    }

    /// What units have booked, all in all.
    pub fn booked(&self) -> i128 {
        self.bookings.iter().map(|booking| booking.amount).sum()
    }

    /// What may still be credited, booked or confirmed: gross less what was credited, nothing of a
    /// void invoice.
    pub fn remainder(&self) -> i128 {
        if self.void { 0 } else { (self.facts.gross - self.red.amount).max(0) }
    }

    /// What is left of the debt: undisputed, not above what the buyer confirmed, less what was paid
    /// to whomever (PROTOCOL section 8).
    pub fn debt(&self) -> i128 {
        let disputed = self.confirmation.as_ref().and_then(|c| c.disputed).unwrap_or(0);
        let mut base = self.remainder() - self.paid() - disputed;
        let confirmed = self.confirmation.as_ref().filter(|c| c.amount.is_some());
        if let Some(amount) = confirmed.and_then(|c| c.amount) {
            base = base.min(amount - self.paid());
        }
        base
    }

    /// What may still be financed; negative where more is assigned than is left of the debt.
    pub fn capacity(&self) -> i128 {
        self.debt() - self.liens().map(|financing| financing.assigned).sum::<i128>()
    }

    /// What the debt has still to cover: all that is assigned, less what the holders were paid.
    pub fn to_cover(&self) -> i128 {
        self.liens().map(|lien| lien.assigned - lien.repaid.unwrap_or(0)).sum()
    }

    /// What everybody may know.
    pub fn face(&self) -> Face {
        Face {
            version: self.version(),
            lifecycle: self.lifecycle(),
            risk: self.risk,
            frozen: !self.freezes.is_empty(),
            red_pending: self.live_slip().is_some(),
            used: self.deduction_state() != DeductionState::Unselected,
            booked: !self.bookings.is_empty(),
            claimed: !self.claims.is_empty(),
            liens: self.liens().count() as u64,
            buyer: self.buyer_state(),
            over_financed: self.debt().max(0) < self.to_cover(),
        }
    }

    /// The fields, tags ascending.
    pub fn fields(&self) -> Fields {
        let mut fields = Fields::new();
        let out = &mut fields;
        let facts = &self.facts;
        set(out, tag::TYPE_CODE, &facts.type_code);
        set(out, tag::CURRENCY, &facts.currency);
        set(out, tag::DUE_DATE, &facts.due_date);
        set(out, tag::TOTAL_VAT, &facts.vat);
        set(out, tag::TOTAL_GROSS, &facts.gross);
        set(out, tag::VAT_BREAKDOWN, &facts.rates);
        set(out, tag::SELLER_PARTY, &facts.seller);
        set(out, tag::BUYER_PARTY, &facts.buyer);
        set(out, tag::VAT_TYPE, &facts.vat_type);
        set(out, tag::FACE, &One(self.face()));
        set(out, tag::ORIGIN, &self.origin);
        set(out, tag::COMMITMENT, &self.commitment);
        let red = (self.red.amount != 0 || self.red.tax != 0).then(|| One(self.red.clone()));
        set(out, tag::RED, &red);
        set(out, tag::RED_INVOICES, &self.red_invoices);
        set(out, tag::RED_LINES, &self.red_lines);
        set(out, tag::RED_RATES, &self.red_rates);
        set(out, tag::SLIP, &self.slip.clone().map(One));
        set(out, tag::DEDUCTION, &self.deduction.clone().map(One));
        set(out, tag::BOOKINGS, &self.bookings);
        set(out, tag::CLAIMS, &self.claims);
        set(out, tag::CONFIRMATION, &self.confirmation.clone().map(One));
        set(out, tag::CONSENTS, &self.consents);
        set(out, tag::FINANCINGS, &self.financings);
        set(out, tag::PAYMENTS, &self.payments);
        set(out, tag::FREEZES, &self.freezes);
        set(out, tag::FILES, &self.files);
        set(out, tag::CORRECTIONS, &self.corrections);
        set(out, tag::FACTS, &self.authority_facts);
        if !self.history.is_empty() {
            fields.set(tag::HISTORY, value::history(&self.history));
        }
        fields
    }

    /// The status with this secret and these fields.
    pub fn of_fields(secret: Secret, fields: &Fields) -> Result<Status, StatusError> {
        let one = |error: Cause, tag: Tag| StatusError { tag, flaw: error.into() };
        for (tag, bytes) in fields.iter() {
            let field = by_tag(STATUS, tag).ok_or(one(Cause::UnknownTag, tag))?;
            value::check(field.kind, bytes).map_err(|flaw| StatusError { tag, flaw })?;
        }
        let status = Status::read(secret, |tag| fields.get(tag))?;
        if status.fields() != *fields {
            return Err(one(Cause::NotCanonical, tag::FACE));
        }
        Ok(status)
    }

    /// The status of fields that are taken at their word: whether they are canonical, known and fit
    /// each other is not asked.
    fn read<'a>(
        secret: Secret,
        get: impl Fn(Tag) -> Option<&'a [u8]>,
    ) -> Result<Status, StatusError> {
        let fields = &get;
        fn part<'a, V: Value>(
            get: &impl Fn(Tag) -> Option<&'a [u8]>,
            tag: Tag,
        ) -> Result<V, StatusError> {
            V::take(get(tag)).map_err(|flaw| StatusError { tag, flaw })
        }
        let face: One<Face> = part(fields, tag::FACE)?;
        let history = get(tag::HISTORY).map_or(Ok(Vec::new()), value::history_of);
        let red: Option<One<Red>> = part(fields, tag::RED)?;
        let slip: Option<One<Slip>> = part(fields, tag::SLIP)?;
        let deduction: Option<One<Deduction>> = part(fields, tag::DEDUCTION)?;
        let confirmation: Option<One<Confirmation>> = part(fields, tag::CONFIRMATION)?;
        Ok(Status {
            secret,
            facts: Facts::read(fields)?,
            origin: part(fields, tag::ORIGIN)?,
            commitment: part(fields, tag::COMMITMENT)?,
            void: face.0.lifecycle == Lifecycle::Void,
            risk: face.0.risk,
            red: red.map_or(Red { amount: 0, tax: 0 }, |red| red.0),
            red_invoices: part(fields, tag::RED_INVOICES)?,
            red_lines: part(fields, tag::RED_LINES)?,
            red_rates: part(fields, tag::RED_RATES)?,
            slip: slip.map(|one| one.0),
            deduction: deduction.map(|one| one.0),
            bookings: part(fields, tag::BOOKINGS)?,
            claims: part(fields, tag::CLAIMS)?,
            confirmation: confirmation.map(|one| one.0),
            consents: part(fields, tag::CONSENTS)?,
            financings: part(fields, tag::FINANCINGS)?,
            payments: part(fields, tag::PAYMENTS)?,
            freezes: part(fields, tag::FREEZES)?,
            files: part(fields, tag::FILES)?,
            corrections: part(fields, tag::CORRECTIONS)?,
            authority_facts: part(fields, tag::FACTS)?,
            history: history.map_err(|flaw| StatusError { tag: tag::HISTORY, flaw })?,
        })
    }

    /// The bytes that are stored: the secret, then the fields.
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.secret, &self.fields())
    }

    /// Reads stored bytes from anywhere; nothing may follow.
    pub fn decode(bytes: &[u8]) -> Result<Status, StatusError> {
        let (secret, pairs) = envelope_of(bytes)?;
        let pairs = pairs.into_iter().map(|(tag, value)| (tag, value.to_vec()));
        Status::of_fields(secret, &pairs.collect())
    }

    /// Reads bytes that this program stored itself, several times faster: they were checked before
    /// they were written, so that each is canonical and that the face follows is not asked again.
    /// Damage that keeps a part from being read is an error here too; what it does not keep from it
    /// is for the checksums of storage, and for the status digest, to find.
    pub fn of_stored(bytes: &[u8]) -> Result<Status, StatusError> {
        let (secret, pairs) = envelope_of(bytes)?;
        let get = |tag: Tag| {
            let at = pairs.binary_search_by_key(&tag, |(known, _)| *known).ok()?;
            Some(pairs[at].1)
        };
        Status::read(secret, get)
    }

    /// The status digest: the record in the status tree.
    pub fn digest(&self) -> Digest {
        let mut salts = Salts::new(self.secret);
        let digests: Vec<(Tag, Digest)> = self
            .fields()
            .iter()
            .map(|(tag, bytes)| (tag, field_digest(tag, &salts.get(u32::from(tag)), bytes)))
            .collect();
        commitment_under(STATUS_PREFIX, &digests)
    }

    /// The fields with some shown and the rest hidden, for a proof.
    pub fn open(&self, show: impl Fn(Tag) -> bool) -> Vec<OpenedField> {
        opening::open(self.secret, &self.fields(), show)
    }
}

/// The stored bytes of a secret and fields.
fn encode(secret: &Secret, fields: &Fields) -> Vec<u8> {
    let mut out = secret.to_vec();
    put_vint(&mut out, fields.len() as u64);
    for (tag, bytes) in fields.iter() {
        put_vint(&mut out, u64::from(tag));
        put_bytes(&mut out, bytes);
    }
    out
}

/// The secret and fields of stored bytes, tags ascending.
type Stored<'a> = (Secret, Vec<(Tag, &'a [u8])>);

/// Takes stored bytes apart; nothing may follow.
fn envelope_of(bytes: &[u8]) -> Result<Stored<'_>, StatusError> {
    let envelope = |flaw: Flaw| StatusError { tag: 0, flaw };
    let mut r = Reader::new(bytes);
    let secret = r.array().map_err(|error| envelope(error.into()))?;
    let count = r.count("fields", FIELDS_MAX).map_err(|error| envelope(error.into()))?;
    let mut pairs: Vec<(Tag, &[u8])> = Vec::with_capacity(count);
    for _ in 0..count {
        let wide = r.vint().map_err(|error| envelope(error.into()))?;
        let tag = Tag::try_from(wide).map_err(|_| envelope(Cause::UnknownTag.into()))?;
        if pairs.last().is_some_and(|(last, _)| *last >= tag) {
            return Err(StatusError { tag, flaw: Cause::Order.into() });
        }
        let value = r.bytes("value", RECORD_MAX as u64);
        pairs.push((tag, value.map_err(|e| StatusError { tag, flaw: e.into() })?));
    }
    r.end().map_err(|error| envelope(error.into()))?;
    Ok((secret, pairs))
}

/// Prefix under which the secret of a status is stirred.
const SECRET_PREFIX: u8 = 15;

impl Financing {
    /// Whether it takes capacity.
    pub fn is_live(&self) -> bool {
        matches!(
            self.state,
            FinancingState::Hold | FinancingState::Open | FinancingState::Defaulted
        )
    }

    /// Whether it is a lien, more than a reservation.
    pub fn is_open(&self) -> bool {
        matches!(self.state, FinancingState::Open | FinancingState::Defaulted)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parts::{Form, SCOPES};
    use super::*;

    fn status() -> Status {
        let facts = Facts {
            type_code: "81".into(),
            currency: (*b"CNY", 2),
            due_date: Some(Day(20_270_131)),
            vat: Some(1_300),
            gross: 11_300,
            rates: Vec::new(),
            seller: "S".into(),
            buyer: Some("B".into()),
            vat_type: None,
        };
        Status::new(facts, Origin::Blue, [4; 32])
    }

    fn busy() -> Status {
        let mut status = status();
        status.seal(7, &[1; 32], &[2; 16]);
        status.financings.push(Financing {
            index: 7,
            state: FinancingState::Open,
            holder: "K".into(),
            assigned: 10_000,
            id: 1,
            form: Some(Form::Pledge),
            advanced: Some(8_000),
            expires: None,
            divisible: false,
            noticed: None,
            acknowledged: None,
            account: None,
            offered_to: None,
            red_consent: None,
            repaid: None,
            external: Vec::new(),
        });
        let consent =
            Consent { index: 7, bank: "K".into(), amount: None, expires: 9, scope: SCOPES };
        status.consents.push(consent);
        status.red.amount = 300;
        status
    }

    #[test]
    fn bytes_and_struct_determine_each_other() {
        for status in [status(), busy()] {
            let bytes = status.encode();
            assert_eq!(Status::decode(&bytes).as_ref(), Ok(&status));
            assert_eq!(Status::of_stored(&bytes), Ok(status));
            for end in 0..bytes.len() {
                assert!(Status::decode(&bytes[..end]).is_err());
                assert!(Status::of_stored(&bytes[..end]).is_err());
            }
        }
    }

    #[test]
    fn a_face_that_does_not_follow_is_refused() {
        let mut fields = busy().fields();
        fields.set(tag::FACE, status().fields().get(tag::FACE).unwrap().to_vec());
        assert!(Status::of_fields([0; 16], &fields).is_err());
    }

    #[test]
    fn capacity_follows_the_amounts() {
        let mut status = busy();
        assert_eq!((status.capacity(), status.lifecycle()), (1_000, Lifecycle::PartRed));
        status.red.amount = 11_300;
        assert_eq!((status.capacity(), status.lifecycle()), (-10_000, Lifecycle::FullRed));
        assert!(status.face().over_financed);
        // What its holder was paid takes as much from what is owed as from what it must cover.
        status.red.amount = 1_300;
        let (by, reference) = ("B".into(), "P".into());
        let (acknowledged, wrong_payee) = (None, false);
        let payment = Payment { index: 8, by, amount: 400, reference, acknowledged, wrong_payee };
        status.payments.push(payment);
        assert!(status.face().over_financed);
        status.financings[0].repaid = Some(399);
        assert!(status.face().over_financed);
        status.financings[0].repaid = Some(400);
        assert!(!status.face().over_financed);
        assert_eq!((status.capacity(), status.debt(), status.to_cover()), (-400, 9_600, 9_600));
    }

    #[test]
    fn shown_and_hidden_parts_lead_to_the_digest() {
        let status = busy();
        for shown in [tag::FACE, tag::FINANCINGS, tag::HISTORY] {
            let fields = status.open(|tag| tag == shown);
            assert_eq!(opening::commitment(STATUS_PREFIX, &fields), status.digest());
            assert_eq!(opening::check_fields(STATUS, &fields), Ok(()));
        }
    }
}
