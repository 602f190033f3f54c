//! A story: what a few actors do with a few invoices, and what each must be answered.
//!
//! The answers are known beforehand, because the records of one invoice are executed in the order
//! in which they are sent, and the rules are public. Nothing of the chain's own code is asked.
//!
//! Invariants
//! - The number of steps in each act depends on the script alone.
//! - Sketched or in full, a story has the same steps by the same actors.

use super::cast::Actor;
use super::invoice::{Invoice, PLACES, Press, opening_of};
use crate::rng::{Purpose, Rng};
use crate::source::Expected;
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::document::{Document, Fields, Secret};
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::record::RecordKind;
use piaogen_verify::value;

/// Acts of a season; each begins when everything of the one before is answered.
pub(crate) const ACTS: usize = 4;
/// Issues, and most of what follows.
pub(crate) const FIRST: usize = 0;
/// Later, in another block.
pub(crate) const LATER: usize = 1;
/// Under a stricter policy: slips lapse at once, only confirmed debts are financed.
pub(crate) const STRICT: usize = 2;
/// After what had a deadline in the act before has ended; the usual policy again.
pub(crate) const AFTER: usize = 3;

pub(crate) const HOUR_MS: i64 = 3_600_000;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

/// What frauds are told apart by, in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// No fraud.
    Honest,
    /// F1: one invoice pledged to several banks.
    DoublePledge,
    /// F2: reversed or voided after drawdown.
    RedAfterPledge,
    /// F3: altered fields on a real number.
    AlteredField,
    /// F4: an invoice that nobody with a right issued.
    Invented,
    /// F5: a debt that the buyer never confirmed.
    Unconfirmed,
    /// F6: split, repeated or issued again.
    Resubmitted,
    /// F7: the same trade under a document of another system.
    Elsewhere,
    /// F8: pledge of what is paid.
    PaidAmount,
    /// F9: paid to another account than the assignee's.
    Diverted,
    /// F10: a lien ended by who does not hold it, or a hold used after its time.
    FalseRelease,
    /// More financed than there is.
    OverFinancing,
    /// Booked twice.
    DoubleBooking,
    /// Claimed twice.
    DoubleClaim,
    /// Deducted by who is not the buyer, or twice.
    FalseDeduction,
    /// A slip used against its rules: too late, or by the wrong side.
    FalseSlip,
    /// Financed without consent, or against an order or mark.
    Forbidden,
}

impl Pattern {
    /// All of them.
    pub const ALL: [Pattern; 17] = [
        Pattern::Honest,
        Pattern::DoublePledge,
        Pattern::RedAfterPledge,
        Pattern::AlteredField,
        Pattern::Invented,
        Pattern::Unconfirmed,
        Pattern::Resubmitted,
        Pattern::Elsewhere,
        Pattern::PaidAmount,
        Pattern::Diverted,
        Pattern::FalseRelease,
        Pattern::OverFinancing,
        Pattern::DoubleBooking,
        Pattern::DoubleClaim,
        Pattern::FalseDeduction,
        Pattern::FalseSlip,
        Pattern::Forbidden,
    ];

    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Pattern::Honest => "honest",
            Pattern::DoublePledge => "F1 double pledge",
            Pattern::RedAfterPledge => "F2 red or void after pledge",
            Pattern::AlteredField => "F3 altered field",
            Pattern::Invented => "F4 invented invoice",
            Pattern::Unconfirmed => "F5 debt not confirmed",
            Pattern::Resubmitted => "F6 split or resubmitted",
            Pattern::Elsewhere => "F7 same trade elsewhere",
            Pattern::PaidAmount => "F8 pledge of a paid amount",
            Pattern::Diverted => "F9 payment diverted",
            Pattern::FalseRelease => "F10 false release, expired hold",
            Pattern::OverFinancing => "over-financing",
            Pattern::DoubleBooking => "double booking",
            Pattern::DoubleClaim => "double claim",
            Pattern::FalseDeduction => "false deduction",
            Pattern::FalseSlip => "slip against its rules",
            Pattern::Forbidden => "no consent, frozen, abnormal",
        }
    }
}

/// An alert that a step must raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) kind: &'static str,
    /// For whom; `None`: all authorities.
    pub(crate) to: Option<Actor>,
}

/// Two invoices of a story that are one trade, or look like it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) places: (u64, u64),
    /// One trade in truth; else an honest repetition.
    pub(crate) fraud: bool,
    /// What is compared finds it.
    pub(crate) visible: bool,
    /// How it is made, for the report.
    pub(crate) how: &'static str,
}

/// One record of a story.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) act: usize,
    pub(crate) actor: Actor,
    pub(crate) kind: RecordKind,
    pub(crate) fields: Fields,
    pub(crate) secret: Secret,
    pub(crate) document: Option<Document>,
    /// The invoice, by its place in the story.
    pub(crate) place: u64,
    pub(crate) subject: Vec<u8>,
    pub(crate) expected: Expected,
    /// The step whose log index the refusal must name.
    pub(crate) because: Option<usize>,
    /// Must be refused, or must raise an alert.
    pub(crate) fraud: bool,
    pub(crate) alerts: Vec<Wanted>,
    /// The signature is spoiled.
    pub(crate) forged: bool,
}

/// A story, as far as it is told.
#[derive(Debug)]
pub(crate) struct Story<'a> {
    pub(crate) press: Press<'a>,
    /// The block time at which each act began; 0 where it has not.
    pub(crate) clock: [i64; ACTS],
    pub(crate) index: u64,
    pub(crate) steps: Vec<Step>,
    pub(crate) pairs: Vec<Pair>,
    touched: [bool; PLACES as usize],
    pub(crate) rng: Rng,
}

/// An event before it is somebody's.
#[derive(Clone, Debug)]
pub(crate) struct Event<'a> {
    invoice: &'a Invoice,
    kind: RecordKind,
    fields: Fields,
    shown: Option<&'a Document>,
}

impl<'a> Event<'a> {
    pub(crate) fn on(invoice: &'a Invoice, kind: RecordKind) -> Event<'a> {
        Event { invoice, kind, fields: invoice.named(), shown: None }
    }

    pub(crate) fn set(mut self, tag: Tag, bytes: Vec<u8>) -> Event<'a> {
        self.fields.set(tag, bytes);
        self
    }

    pub(crate) fn text(self, tag: Tag, text: &str) -> Event<'a> {
        self.set(tag, value::text(text))
    }

    pub(crate) fn amount(self, minor_units: i128) -> Event<'a> {
        self.set(tag::AMOUNT, value::amount(minor_units))
    }

    pub(crate) fn tax(self, minor_units: i128) -> Event<'a> {
        self.set(tag::TAX_AMOUNT, value::amount(minor_units))
    }

    pub(crate) fn reference(self, text: &str) -> Event<'a> {
        self.text(tag::REFERENCE, text)
    }

    pub(crate) fn financing(self, number: u64) -> Event<'a> {
        self.set(tag::FINANCING, value::uint(number))
    }

    pub(crate) fn expires(self, at: i64) -> Event<'a> {
        self.set(tag::EXPIRES, value::time(at))
    }

    /// The account of this number.
    pub(crate) fn account(self, number: u8) -> Event<'a> {
        self.set(tag::ACCOUNT, vec![number; 32])
    }

    pub(crate) fn divisible(self) -> Event<'a> {
        self.set(tag::DIVISIBLE, vec![1])
    }

    /// Opens this document in place of the invoice's.
    pub(crate) fn showing(mut self, document: &'a Document) -> Event<'a> {
        self.shown = Some(document);
        self
    }
}

impl<'a> Story<'a> {
    pub(crate) fn begin(press: Press<'a>, clock: [i64; ACTS], index: u64) -> Story<'a> {
        let rng = Rng::new(press.seed, Purpose::Story, index);
        let (steps, pairs) = (Vec::new(), Vec::new());
        Story { press, clock, index, steps, pairs, touched: [false; PLACES as usize], rng }
    }

    /// A seller, by place among the sellers.
    pub(crate) fn seller(&mut self) -> usize {
        self.rng.below(self.press.cast.sellers() as u64) as usize
    }

    /// A buyer, by place among the buyers.
    pub(crate) fn buyer(&mut self) -> usize {
        self.rng.below(self.press.cast.buyers() as u64) as usize
    }

    /// Three banks, no two the same.
    pub(crate) fn banks(&mut self) -> [Actor; 3] {
        let count = self.press.cast.banks() as u64;
        let first = self.rng.below(count);
        [0, 1, 2].map(|step| Actor::Bank(((first + step) % count) as usize))
    }

    /// The id of somebody.
    pub(crate) fn id(&self, actor: Actor) -> &'a str {
        &self.press.cast.get(actor).id
    }

    fn push(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }

    /// An invoice record by somebody.
    pub(crate) fn record(
        &mut self,
        act: usize,
        actor: Actor,
        invoice: &Invoice,
        want: impl Into<Want>,
    ) -> usize {
        let want = want.into();
        self.push(Step {
            act,
            actor,
            kind: invoice.kind,
            fields: invoice.document.fields.clone(),
            secret: invoice.document.secret,
            document: Some(invoice.document.clone()),
            place: invoice.place,
            subject: invoice.subject(),
            expected: want.expected,
            because: want.because,
            fraud: want.fraud,
            alerts: Vec::new(),
            forged: false,
        })
    }

    /// Issues an invoice, as its seller.
    pub(crate) fn issue(&mut self, invoice: &Invoice) -> usize {
        self.record(FIRST, invoice.seller, invoice, OK)
    }

    /// An event by somebody. It opens the invoice while nothing has happened to it.
    pub(crate) fn event(
        &mut self,
        act: usize,
        actor: Actor,
        event: Event<'_>,
        want: impl Into<Want>,
    ) -> usize {
        let Event { invoice, kind, mut fields, shown } = event;
        let (want, place) = (want.into(), invoice.place as usize);
        if self.press.full && (!self.touched[place] || shown.is_some()) {
            fields.set(tag::OPENING, opening_of(shown.unwrap_or(&invoice.document)));
        }
        let accepted = want.expected == Expected::Exactly(Outcome::Accepted);
        self.touched[place] |= accepted && kind != RecordKind::Query;
        let number = self.index << 8 | self.steps.len() as u64;
        let secret = Rng::new(self.press.seed, Purpose::Story, number | 1 << 63).bytes();
        self.push(Step {
            act,
            actor,
            kind,
            fields,
            secret,
            document: None,
            place: invoice.place,
            subject: invoice.subject(),
            expected: want.expected,
            because: want.because,
            fraud: want.fraud,
            alerts: Vec::new(),
            forged: false,
        })
    }

    /// The same record again.
    pub(crate) fn repeat(&mut self, act: usize, step: usize) -> usize {
        let expected = Expected::Replay { of: step as u64 };
        let again = Step {
            act,
            expected,
            because: Some(step),
            alerts: Vec::new(),
            ..self.steps[step].clone()
        };
        self.push(again)
    }

    /// Two invoices of the story are one trade, or look like it.
    pub(crate) fn alike(
        &mut self,
        places: (u64, u64),
        fraud: bool,
        visible: bool,
        how: &'static str,
    ) {
        self.pairs.push(Pair { places, fraud, visible, how });
    }

    /// The moment at which what is short-lived in the strict act ends.
    pub(crate) fn soon(&self) -> i64 {
        self.clock[STRICT] + self.press.short_ms
    }

    /// The last step must raise this alert.
    pub(crate) fn tells(&mut self, kind: &'static str, to: Option<Actor>) {
        if let Some(step) = self.steps.last_mut() {
            step.alerts.push(Wanted { kind, to });
        }
    }
}

/// What a step must be answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    expected: Expected,
    because: Option<usize>,
    fraud: bool,
}

/// Accepted, and nothing wrong with it.
pub(crate) const OK: Want =
    Want { expected: Expected::Exactly(Outcome::Accepted), because: None, fraud: false };
/// Accepted, though a fraud: an alert must tell.
pub(crate) const TOLD: Want = Want { fraud: true, ..OK };

impl Want {
    /// The refusal names the place of this step.
    pub(crate) fn because(self, step: usize) -> Want {
        Want { because: Some(step), ..self }
    }
}

impl From<Outcome> for Want {
    fn from(outcome: Outcome) -> Want {
        Want { expected: Expected::Exactly(outcome), because: None, fraud: true }
    }
}

impl From<Expected> for Want {
    fn from(expected: Expected) -> Want {
        Want { expected, because: None, fraud: true }
    }
}

/// Refused with a conflict of which only the chain knows the detail.
pub(crate) fn refused(conflict: Conflict) -> Want {
    match conflict.form() {
        piaogen_verify::conflict::Form::None => Outcome::conflict(conflict).into(),
        _ => Expected::Refused(conflict).into(),
    }
}

/// Refused with a conflict and this detail.
pub(crate) fn refused_with(conflict: Conflict, detail: Detail) -> Want {
    Outcome::conflict_with(conflict, detail).into()
}

/// Refused because so many liens stand against it.
pub(crate) fn encumbered(liens: u64) -> Want {
    refused_with(Conflict::Encumbered, Detail::Number(liens))
}
