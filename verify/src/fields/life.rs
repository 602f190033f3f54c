//! The fields of events and of status documents (`FORMAT.md` sections 4.1 and 6.1).
//!
//! Both speak of the same things, so a tag means the same in an event, in a status and in the
//! entries of a status's lists. What a status repeats of the invoice has the document's tag.
//!
//! Invariants
//! - Tags of this file are 4000 and above.

use super::Kind::{
    Amount, Ascii, Currency, Date, Digest, Flag, History, List, Opening, Text, Time, Uint,
};
use super::{Field, VAT_BREAKDOWN, f};

/// The tags of events and of status documents.
pub(super) mod tag {
    use super::super::Tag;
    /// What everybody may know of a status.
    pub const FACE: Tag = 4001;
    /// Blue, red or imported.
    pub const ORIGIN: Tag = 4002;
    /// The commitment of the record that created the invoice.
    pub const COMMITMENT: Tag = 4003;
    /// What was credited.
    pub const RED: Tag = 4004;
    /// The red invoices that took effect.
    pub const RED_INVOICES: Tag = 4005;
    /// What was credited of each line.
    pub const RED_LINES: Tag = 4006;
    /// What was credited of each rate.
    pub const RED_RATES: Tag = 4007;
    /// The live slip.
    pub const SLIP: Tag = 4008;
    /// Input tax.
    pub const DEDUCTION: Tag = 4010;
    /// Bookings by unit.
    pub const BOOKINGS: Tag = 4011;
    /// Live claims.
    pub const CLAIMS: Tag = 4012;
    /// What the buyer says.
    pub const CONFIRMATION: Tag = 4020;
    /// What the seller allows to banks.
    pub const CONSENTS: Tag = 4021;
    /// Holds and financings.
    pub const FINANCINGS: Tag = 4022;
    /// Payments.
    pub const PAYMENTS: Tag = 4030;
    /// Orders that freeze.
    pub const FREEZES: Tag = 4040;
    /// Files in which the invoice exists.
    pub const FILES: Tag = 4041;
    /// Corrections.
    pub const CORRECTIONS: Tag = 4042;
    /// What the authority said.
    pub const FACTS: Tag = 4043;
    /// The records that made the status.
    pub const HISTORY: Tag = 4050;
    /// Place in the record log.
    pub const INDEX: Tag = 4101;
    /// A moment, of block time.
    pub const AT: Tag = 4102;
    /// A state, as a word.
    pub const STATE: Tag = 4103;
    /// A participant.
    pub const ACTOR: Tag = 4104;
    /// An amount.
    pub const AMOUNT: Tag = 4105;
    /// The tax in it.
    pub const TAX_AMOUNT: Tag = 4106;
    /// A reference of the actor's own.
    pub const REFERENCE: Tag = 4107;
    /// The digest of a document outside.
    pub const DIGEST: Tag = 4108;
    /// A deadline.
    pub const DEADLINE: Tag = 4109;
    /// A reason code.
    pub const REASON_CODE: Tag = 4110;
    /// The number of a hold or financing: its fencing token.
    pub const FINANCING: Tag = 4111;
    /// Pledge, assignment or discount.
    pub const FORM: Tag = 4112;
    /// What is paid out.
    pub const ADVANCED: Tag = 4113;
    /// When it ends by itself.
    pub const EXPIRES: Tag = 4114;
    /// Several financiers may share.
    pub const DIVISIBLE: Tag = 4115;
    /// Where the notice of assignment stands.
    pub const NOTICED: Tag = 4116;
    /// Where its acknowledgement stands.
    pub const ACKNOWLEDGED: Tag = 4117;
    /// The digest of a payee's account.
    pub const ACCOUNT: Tag = 4118;
    /// To whom a financing is offered.
    pub const OFFERED_TO: Tag = 4119;
    /// How much red the holder consented to.
    pub const RED_CONSENT: Tag = 4120;
    /// What was paid to a financing's account and is not yet released.
    pub const REPAID: Tag = 4121;
    /// Numbers in external registries.
    pub const EXTERNAL: Tag = 4122;
    /// When the debt is due.
    pub const DUE: Tag = 4123;
    /// The buyer gives up set-off.
    pub const NO_SET_OFF: Tag = 4124;
    /// A mark: income tax of a booking, level of a risk.
    pub const MARK: Tag = 4125;
    /// The digest of an archive file.
    pub const ARCHIVE: Tag = 4126;
    /// A tax period, year × 100 + month.
    pub const PERIOD: Tag = 4127;
    /// What a consent allows, as bits.
    pub const SCOPE: Tag = 4128;
    /// Paid to another than the bound account.
    pub const WRONG_PAYEE: Tag = 4129;
    /// The number of a line, from 1.
    pub const LINE_NUMBER: Tag = 4131;
    /// The net amount that the line had.
    pub const LINE_OF: Tag = 4132;
    /// The net amount credited of it.
    pub const LINE_RED: Tag = 4133;
    /// The field that is corrected.
    pub const FIELD: Tag = 4134;
    /// Words.
    pub const TEXT: Tag = 4135;
    /// Which fact.
    pub const FACT: Tag = 4136;
    /// A lien was there.
    pub const BREACH: Tag = 4137;
    /// The disputed amount.
    pub const DISPUTED: Tag = 4138;
    /// The number of a red invoice.
    pub const RED_NUMBER: Tag = 4139;
    /// An external registry.
    pub const SYSTEM: Tag = 4140;
    /// How many records made the status.
    pub const VERSION: Tag = 4141;
    /// Lifecycle, in the face.
    pub const LIFECYCLE: Tag = 4142;
    /// Risk, in the face.
    pub const RISK: Tag = 4143;
    /// Frozen, in the face.
    pub const FROZEN: Tag = 4144;
    /// A slip is live, in the face.
    pub const RED_PENDING: Tag = 4145;
    /// Deduction is not `unselected`, in the face.
    pub const USED: Tag = 4146;
    /// Somebody booked it, in the face.
    pub const BOOKED: Tag = 4147;
    /// Somebody claims it, in the face.
    pub const CLAIMED: Tag = 4148;
    /// Holds and open financings, in the face.
    pub const LIENS: Tag = 4149;
    /// The buyer's state, in the face.
    pub const BUYER: Tag = 4150;
    /// More is financed than there is, in the face.
    pub const OVER_FINANCED: Tag = 4151;
    /// The invoice's fields, shown or hidden.
    pub const OPENING: Tag = 4201;
    /// The version that the sender has seen.
    pub const EXPECTED_VERSION: Tag = 4202;
    /// The participant for whom the signer acts.
    pub const ON_BEHALF: Tag = 4203;
    /// Credited amounts by line.
    pub const LINES_RED: Tag = 4204;
}

const FACE: &[Field] = &[
    f(4141, "version", Uint),
    f(4142, "lifecycle", Ascii(16)),
    f(4143, "risk", Ascii(16)),
    f(4144, "frozen", Flag),
    f(4145, "red_pending", Flag),
    f(4146, "used", Flag),
    f(4147, "booked", Flag),
    f(4148, "claimed", Flag),
    f(4149, "liens", Uint),
    f(4150, "buyer", Ascii(16)),
    f(4151, "over_financed", Flag),
];
const RED: &[Field] = &[f(4105, "amount", Amount), f(4106, "tax", Amount)];
const RED_INVOICES: &[Field] = &[
    f(4101, "index", Uint),
    f(4105, "amount", Amount),
    f(4106, "tax", Amount),
    f(4108, "digest", Digest),
    f(4139, "red_number", Ascii(64)),
];
const RED_LINES: &[Field] =
    &[f(4131, "line", Uint), f(4132, "of", Amount), f(4133, "credited", Amount)];
const SLIP: &[Field] = &[
    f(4101, "index", Uint),
    f(4103, "state", Ascii(16)),
    f(4104, "party", Ascii(64)),
    f(4105, "amount", Amount),
    f(4106, "tax", Amount),
    f(4107, "reference", Ascii(64)),
    f(4109, "deadline", Time),
    f(4110, "reason", Ascii(8)),
];
const DEDUCTION: &[Field] = &[
    f(4101, "index", Uint),
    f(4103, "state", Ascii(16)),
    f(4105, "transferred", Amount),
    f(4106, "tax", Amount),
    f(4127, "period", Uint),
];
const BOOKINGS: &[Field] = &[
    f(4101, "index", Uint),
    f(4102, "at", Time),
    f(4104, "party", Ascii(64)),
    f(4105, "amount", Amount),
    f(4107, "reference", Ascii(64)),
    f(4108, "digest", Digest),
    f(4125, "mark", Ascii(8)),
    f(4126, "archive", Digest),
];
const CLAIMS: &[Field] = &[
    f(4101, "index", Uint),
    f(4102, "at", Time),
    f(4104, "party", Ascii(64)),
    f(4107, "reference", Ascii(64)),
    f(4114, "expires", Time),
];
const CONFIRMATION: &[Field] = &[
    f(4101, "index", Uint),
    f(4103, "state", Ascii(16)),
    f(4105, "amount", Amount),
    f(4118, "account", Digest),
    f(4123, "due", Date),
    f(4124, "no_set_off", Flag),
    f(4138, "disputed", Amount),
];
const CONSENTS: &[Field] = &[
    f(4101, "index", Uint),
    f(4104, "party", Ascii(64)),
    f(4105, "amount", Amount),
    f(4114, "expires", Time),
    f(4128, "scope", Uint),
];
const EXTERNAL: &[Field] = &[
    f(4101, "index", Uint),
    f(4102, "at", Time),
    f(4107, "reference", Ascii(64)),
    f(4108, "digest", Digest),
    f(4140, "system", Ascii(32)),
];
const FINANCINGS: &[Field] = &[
    f(4101, "index", Uint),
    f(4103, "state", Ascii(16)),
    f(4104, "party", Ascii(64)),
    f(4105, "amount", Amount),
    f(4111, "financing", Uint),
    f(4112, "form", Ascii(16)),
    f(4113, "advanced", Amount),
    f(4114, "expires", Time),
    f(4115, "divisible", Flag),
    f(4116, "noticed", Uint),
    f(4117, "acknowledged", Uint),
    f(4118, "account", Digest),
    f(4119, "offered_to", Ascii(64)),
    f(4120, "red_consent", Amount),
    f(4121, "repaid", Amount),
    f(4122, "external", List(EXTERNAL)),
];
const PAYMENTS: &[Field] = &[
    f(4101, "index", Uint),
    f(4104, "party", Ascii(64)),
    f(4105, "amount", Amount),
    f(4107, "reference", Ascii(64)),
    f(4117, "acknowledged", Uint),
    f(4129, "wrong_payee", Flag),
];
const FREEZES: &[Field] = &[
    f(4101, "index", Uint),
    f(4104, "party", Ascii(64)),
    f(4107, "reference", Ascii(64)),
    f(4108, "digest", Digest),
];
const FILES: &[Field] = &[f(4101, "index", Uint), f(4108, "digest", Digest)];
const CORRECTIONS: &[Field] =
    &[f(4101, "index", Uint), f(4134, "field", Uint), f(4135, "text", Text(300))];
const FACTS: &[Field] = &[
    f(4101, "index", Uint),
    f(4105, "amount", Amount),
    f(4106, "tax", Amount),
    f(4107, "reference", Ascii(64)),
    f(4136, "fact", Ascii(8)),
    f(4137, "breach", Flag),
];

/// The fields of a status document.
pub const STATUS: &[Field] = &[
    f(3, "type_code", Ascii(8)),
    f(5, "currency", Currency),
    f(9, "due_date", Date),
    f(110, "total_vat", Amount),
    f(112, "total_gross", Amount),
    f(1023, "vat_breakdown", List(VAT_BREAKDOWN)),
    f(2006, "seller_party", Ascii(64)),
    f(2007, "buyer_party", Ascii(64)),
    f(2020, "vat_type", Ascii(8)),
    f(4001, "face", List(FACE)),
    f(4002, "origin", Ascii(8)),
    f(4003, "commitment", Digest),
    f(4004, "red", List(RED)),
    f(4005, "red_invoices", List(RED_INVOICES)),
    f(4006, "red_lines", List(RED_LINES)),
    f(4007, "red_rates", List(VAT_BREAKDOWN)),
    f(4008, "slip", List(SLIP)),
    f(4010, "deduction", List(DEDUCTION)),
    f(4011, "bookings", List(BOOKINGS)),
    f(4012, "claims", List(CLAIMS)),
    f(4020, "confirmation", List(CONFIRMATION)),
    f(4021, "consents", List(CONSENTS)),
    f(4022, "financings", List(FINANCINGS)),
    f(4030, "payments", List(PAYMENTS)),
    f(4040, "freezes", List(FREEZES)),
    f(4041, "files", List(FILES)),
    f(4042, "corrections", List(CORRECTIONS)),
    f(4043, "facts", List(FACTS)),
    f(4050, "history", History),
];

/// The fields of an event.
pub const EVENT: &[Field] = &[
    f(1, "number", Ascii(64)),
    f(5, "currency", Currency),
    f(1023, "vat_breakdown", List(VAT_BREAKDOWN)),
    f(2001, "scheme", Ascii(16)),
    f(2006, "seller_party", Ascii(64)),
    f(4104, "party", Ascii(64)),
    f(4105, "amount", Amount),
    f(4106, "tax", Amount),
    f(4107, "reference", Ascii(64)),
    f(4108, "digest", Digest),
    f(4110, "reason", Ascii(8)),
    f(4111, "financing", Uint),
    f(4112, "form", Ascii(16)),
    f(4113, "advanced", Amount),
    f(4114, "expires", Time),
    f(4115, "divisible", Flag),
    f(4118, "account", Digest),
    f(4123, "due", Date),
    f(4124, "no_set_off", Flag),
    f(4125, "mark", Ascii(8)),
    f(4127, "period", Uint),
    f(4128, "scope", Uint),
    f(4134, "field", Uint),
    f(4135, "text", Text(300)),
    f(4136, "fact", Ascii(8)),
    f(4139, "red_number", Ascii(64)),
    f(4140, "system", Ascii(32)),
    f(4201, "opening", Opening),
    f(4202, "expected_version", Uint),
    f(4203, "on_behalf", Ascii(64)),
    f(4204, "lines", List(RED_LINES)),
];
