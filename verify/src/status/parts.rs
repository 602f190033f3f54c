//! The parts of a status: what each records, in words and numbers (`FORMAT.md` section 6.1).
//!
//! Invariants
//! - Each entry names, as `index`, the place in the record log of the record that made it: the
//!   proof of what it says.

use super::part::{Day, Value, part, words};
use alloc::string::String;
use alloc::vec::Vec;
use piaogen_crypto::Digest;

words! {
    /// How the invoice came to the chain.
    Origin {
        /// An ordinary invoice.
        Blue = "blue",
        /// A red (credit) invoice: nothing can happen to it but what authorities say.
        Red = "red",
        /// From another system, by an importer.
        Import = "import",
    }
}

words! {
    /// Lifecycle.
    Lifecycle {
        /// It stands.
        Active = "active",
        /// A part was credited.
        PartRed = "part_red",
        /// All was credited.
        FullRed = "full_red",
        /// It is void.
        Void = "void",
    }
}

words! {
    /// The authority's risk level.
    Risk {
        /// Nothing is known against it.
        Normal = "normal",
        /// Doubtful (疑点).
        Doubtful = "doubtful",
        /// An abnormal voucher (异常凭证).
        Abnormal = "abnormal",
    }
}

words! {
    /// State of a red-letter slip.
    SlipState {
        /// No slip was ever opened, or a red invoice took the last one's effect.
        None = "none",
        /// Waits for the other side.
        Pending = "pending",
        /// Both sides agree, or none had to be asked.
        Confirmed = "confirmed",
        /// The other side refused.
        Refused = "refused",
        /// The deadline passed.
        Lapsed = "lapsed",
        /// Withdrawn by who opened it.
        Withdrawn = "withdrawn",
    }
}

words! {
    /// State of the input tax.
    DeductionState {
        /// Not selected.
        Unselected = "unselected",
        /// Selected by the buyer.
        Selected = "selected",
        /// Confirmed for a period.
        Confirmed = "confirmed",
        /// Tax was transferred out again.
        TransferredOut = "transferred_out",
        /// Not deductible.
        NonDeductible = "non_deductible",
        /// Used for an export rebate.
        ExportRebate = "export_rebate",
    }
}

words! {
    /// What the buyer says of the debt.
    BuyerState {
        /// Nothing.
        None = "none",
        /// Was asked.
        Requested = "requested",
        /// Confirmed.
        Confirmed = "confirmed",
        /// Disputes an amount.
        Disputed = "disputed",
        /// Refused to confirm.
        Refused = "refused",
    }
}

words! {
    /// State of a hold or financing.
    FinancingState {
        /// Capacity is reserved.
        Hold = "hold",
        /// Financed: a lien.
        Open = "open",
        /// Paid back.
        Settled = "settled",
        /// Released, cancelled or expired.
        Released = "released",
        /// In default; still a lien.
        Defaulted = "defaulted",
    }
}

words! {
    /// Form of a financing.
    Form {
        /// The receivable is pledged.
        Pledge = "pledge",
        /// The receivable is assigned.
        Assignment = "assignment",
        /// Discounted.
        Discount = "discount",
    }
}

words! {
    /// The income-tax mark of a booking.
    BookingMark {
        /// Deductible for income tax (02).
        Deductible = "02",
        /// Not deductible (03).
        NotDeductible = "03",
    }
}

words! {
    /// What an authority's fact says.
    Fact {
        /// A red invoice was issued elsewhere.
        Red = "red",
        /// The invoice was voided elsewhere.
        Void = "void",
    }
}

/// A consent to query the remaining capacity.
pub const SCOPE_QUERY: u64 = 1;
/// A consent to hold capacity.
pub const SCOPE_HOLD: u64 = 2;
/// A consent to finance.
pub const SCOPE_FINANCE: u64 = 4;
/// All scopes.
pub const SCOPES: u64 = SCOPE_QUERY | SCOPE_HOLD | SCOPE_FINANCE;

part! {
    /// What everybody may know.
    Face {
        /// How many records made the status.
        version: u64 = VERSION,
        /// Lifecycle.
        lifecycle: Lifecycle = LIFECYCLE,
        /// Risk.
        risk: Risk = RISK,
        /// An order freezes it.
        frozen: bool = FROZEN,
        /// A slip waits, or is confirmed.
        red_pending: bool = RED_PENDING,
        /// Its tax is selected, deducted or rebated.
        used: bool = USED,
        /// A unit has booked it.
        booked: bool = BOOKED,
        /// A reimbursement is claimed.
        claimed: bool = CLAIMED,
        /// How many holds and financings are live.
        liens: u64 = LIENS,
        /// What the buyer says.
        buyer: BuyerState = BUYER,
        /// More is financed than there is.
        over_financed: bool = OVER_FINANCED,
    }
}

part! {
    /// One rate of the VAT breakdown.
    Rate {
        /// What the tax is of.
        taxable: Option<i128> = TAXABLE,
        /// The tax.
        tax: Option<i128> = TAX,
        /// VAT category.
        category: Option<String> = VAT_CATEGORY,
        /// Per cent, as mantissa and scale.
        rate: Option<(i128, u8)> = VAT_RATE,
        /// Why it is exempt.
        exemption_reason: Option<String> = EXEMPTION_REASON,
        /// The same as a code.
        exemption_code: Option<String> = EXEMPTION_CODE,
    }
}

part! {
    /// What was credited, all in all.
    Red {
        /// Gross, not negative.
        amount: i128 = AMOUNT,
        /// Tax in it.
        tax: i128 = TAX_AMOUNT,
    }
}

part! {
    /// A red invoice that took effect.
    RedInvoice {
        /// Where.
        index: u64 = INDEX,
        /// Gross, not negative.
        amount: i128 = AMOUNT,
        /// Tax in it.
        tax: i128 = TAX_AMOUNT,
        /// Commitment of the red invoice.
        digest: Option<Digest> = DIGEST,
        /// Its number.
        number: String = RED_NUMBER,
    }
}

part! {
    /// What was credited of one line.
    RedLine {
        /// Number of the line, from 1.
        line: u64 = LINE_NUMBER,
        /// Net amount of the line.
        of: i128 = LINE_OF,
        /// Net amount credited, not negative.
        credited: i128 = LINE_RED,
    }
}

part! {
    /// The last red-letter slip, live or not.
    Slip {
        /// Where it was opened.
        index: u64 = INDEX,
        /// Its state.
        state: SlipState = STATE,
        /// Who opened it.
        by: String = ACTOR,
        /// Gross to credit, not negative.
        amount: i128 = AMOUNT,
        /// Tax in it.
        tax: i128 = TAX_AMOUNT,
        /// Number of the slip.
        reference: Option<String> = REFERENCE,
        /// When it lapses, while it is pending.
        deadline: Option<i64> = DEADLINE,
        /// Reason: 01 error, 02 return, 03 service stopped, 04 discount.
        reason: String = REASON_CODE,
    }
}

part! {
    /// Input tax.
    Deduction {
        /// Where it became so.
        index: u64 = INDEX,
        /// Its state.
        state: DeductionState = STATE,
        /// How much of the tax was transferred out.
        transferred: i128 = AMOUNT,
        /// The tax deducted.
        tax: i128 = TAX_AMOUNT,
        /// For which period, year × 100 + month.
        period: Option<u64> = PERIOD,
    }
}

part! {
    /// A live booking.
    Booking {
        /// Where it was booked.
        index: u64 = INDEX,
        /// When, by block time.
        at: i64 = AT,
        /// The unit.
        unit: String = ACTOR,
        /// How much.
        amount: i128 = AMOUNT,
        /// Number of the voucher.
        reference: Option<String> = REFERENCE,
        /// Digest of the voucher.
        digest: Option<Digest> = DIGEST,
        /// Income-tax mark.
        mark: BookingMark = MARK,
        /// Digest of its archive file.
        archive: Option<Digest> = ARCHIVE,
    }
}

part! {
    /// A live claim of reimbursement.
    Claim {
        /// Where it was opened.
        index: u64 = INDEX,
        /// When, by block time.
        at: i64 = AT,
        /// The unit.
        unit: String = ACTOR,
        /// The unit's reference.
        reference: Option<String> = REFERENCE,
        /// When it ends by itself.
        expires: i64 = EXPIRES,
    }
}

part! {
    /// What the buyer says of the debt.
    Confirmation {
        /// Where he said so last.
        index: u64 = INDEX,
        /// What.
        state: BuyerState = STATE,
        /// The confirmed amount; stays when a dispute follows.
        amount: Option<i128> = AMOUNT,
        /// The account to be paid to.
        account: Option<Digest> = ACCOUNT,
        /// When it is due.
        due: Option<Day> = DUE,
        /// The buyer gives up set-off.
        no_set_off: bool = NO_SET_OFF,
        /// The disputed amount.
        disputed: Option<i128> = DISPUTED,
    }
}

part! {
    /// What the seller allows a bank.
    Consent {
        /// Where.
        index: u64 = INDEX,
        /// The bank.
        bank: String = ACTOR,
        /// Up to how much it may hold and have financed at a time; without limit where absent.
        amount: Option<i128> = AMOUNT,
        /// Until when.
        expires: i64 = EXPIRES,
        /// What: bits of `SCOPES`.
        scope: u64 = SCOPE,
    }
}

part! {
    /// The number of a financing in an external registry.
    External {
        /// Where.
        index: u64 = INDEX,
        /// When it was told, by block time.
        at: i64 = AT,
        /// The number.
        number: String = REFERENCE,
        /// Digest of the registry's certificate.
        digest: Option<Digest> = DIGEST,
        /// The registry.
        system: String = SYSTEM,
    }
}

part! {
    /// A hold or a financing.
    Financing {
        /// Where it was held, or opened without hold.
        index: u64 = INDEX,
        /// Its state.
        state: FinancingState = STATE,
        /// The bank.
        holder: String = ACTOR,
        /// The assigned amount that is still live, or was last.
        assigned: i128 = AMOUNT,
        /// Its number on this invoice, from 1: the fencing token.
        id: u64 = FINANCING,
        /// Form; absent for a hold.
        form: Option<Form> = FORM,
        /// What the bank paid out; absent for a hold.
        advanced: Option<i128> = ADVANCED,
        /// When a hold ends by itself.
        expires: Option<i64> = EXPIRES,
        /// Others may finance beside it.
        divisible: bool = DIVISIBLE,
        /// Where the buyer was told.
        noticed: Option<u64> = NOTICED,
        /// Where the buyer took note.
        acknowledged: Option<u64> = ACKNOWLEDGED,
        /// The account to be paid to.
        account: Option<Digest> = ACCOUNT,
        /// The bank that it is offered to.
        offered_to: Option<String> = OFFERED_TO,
        /// How much red the holder consents to.
        red_consent: Option<i128> = RED_CONSENT,
        /// What was paid to its account and is not yet released; never more than is assigned.
        repaid: Option<i128> = REPAID,
        /// Numbers in external registries.
        external: Vec<External> = EXTERNAL,
    }
}

part! {
    /// A payment on the invoice.
    Payment {
        /// Where.
        index: u64 = INDEX,
        /// Who said so.
        by: String = ACTOR,
        /// How much.
        amount: i128 = AMOUNT,
        /// The payer's reference.
        reference: String = REFERENCE,
        /// Where the payee confirmed it.
        acknowledged: Option<u64> = ACKNOWLEDGED,
        /// Not to the bound account.
        wrong_payee: bool = WRONG_PAYEE,
    }
}

part! {
    /// An order that freezes.
    Freeze {
        /// Where.
        index: u64 = INDEX,
        /// Who ordered.
        by: String = ACTOR,
        /// Number of the order.
        order: String = REFERENCE,
        /// Digest of the order.
        digest: Option<Digest> = DIGEST,
    }
}

part! {
    /// A file in which the invoice exists.
    File {
        /// Where.
        index: u64 = INDEX,
        /// Its digest.
        digest: Digest = DIGEST,
    }
}

part! {
    /// A correction.
    Correction {
        /// Where.
        index: u64 = INDEX,
        /// The tag of the field.
        field: u64 = FIELD,
        /// What it should say.
        text: String = TEXT,
    }
}

part! {
    /// What the authority said has happened elsewhere.
    AuthorityFact {
        /// Where.
        index: u64 = INDEX,
        /// Gross credited; absent for a void.
        amount: Option<i128> = AMOUNT,
        /// Tax in it.
        tax: Option<i128> = TAX_AMOUNT,
        /// Reference in the source system.
        reference: String = REFERENCE,
        /// What.
        fact: Fact = FACT,
        /// A lien was there.
        breach: bool = BREACH,
    }
}
