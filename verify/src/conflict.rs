//! What an event is refused for (`FORMAT.md` section 5.1).
//!
//! One table gives each conflict its number, its name, what its detail is and the words for people,
//! so that leaf, JSON, metrics and messages cannot disagree. A conflict tells the place of the
//! record that it conflicts with only where the asker may know that record; where it is another's,
//! it tells a time or a number, or nothing.
//!
//! Invariants
//! - A number is never reused.
//! - The detail of a conflict has the one form that the table says.

use crate::encoding::{DecodeError, Reader, put_vint, put_zint};
use alloc::string::String;
use alloc::vec::Vec;
use piaogen_crypto::Digest;

/// Form of a detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The name says all.
    None,
    /// Log index of the record that it conflicts with, `u64`.
    Index,
    /// A time, `i64` milliseconds since 1970.
    Time,
    /// Minor units, `zint`.
    Amount,
    /// A number, `vint`.
    Number,
    /// 32 bytes.
    Digest,
}

/// The detail of a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The name says all.
    None,
    /// Log index of the record that it conflicts with.
    Index(u64),
    /// Milliseconds since 1970.
    Time(i64),
    /// Minor units.
    Amount(i128),
    /// A number: what of, the conflict says.
    Number(u64),
    /// A digest.
    Digest(Digest),
}

impl Detail {
    /// Its form.
    pub fn form(&self) -> Form {
        match self {
            Detail::None => Form::None,
            Detail::Index(_) => Form::Index,
            Detail::Time(_) => Form::Time,
            Detail::Amount(_) => Form::Amount,
            Detail::Number(_) => Form::Number,
            Detail::Digest(_) => Form::Digest,
        }
    }

    /// Appends the encoding.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Detail::None => {}
            Detail::Index(index) => out.extend_from_slice(&index.to_be_bytes()),
            Detail::Time(time) => out.extend_from_slice(&time.to_be_bytes()),
            Detail::Amount(amount) => put_zint(out, *amount),
            Detail::Number(number) => put_vint(out, *number),
            Detail::Digest(digest) => out.extend_from_slice(digest),
        }
    }

    /// Takes a detail of this form.
    pub fn take(form: Form, r: &mut Reader<'_>) -> Result<Detail, DecodeError> {
        Ok(match form {
            Form::None => Detail::None,
            Form::Index => Detail::Index(r.u64()?),
            Form::Time => Detail::Time(r.i64()?),
            Form::Amount => Detail::Amount(r.zint()?),
            Form::Number => Detail::Number(r.vint()?),
            Form::Digest => Detail::Digest(r.array()?),
        })
    }
}

macro_rules! conflicts {
    ($($(#[doc = $doc:literal])+ $conflict:ident = $code:literal $name:literal $form:ident
        $words:literal,)+) => {
        /// What an event is refused for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Conflict {
            $($(#[doc = $doc])+ $conflict = $code,)+
        }

        impl Conflict {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Conflict] = &[$(Conflict::$conflict,)+];

            /// The name in JSON, in the archive and in metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Conflict::$conflict => $name,)+
                }
            }

            /// The form of its detail.
            pub const fn form(self) -> Form {
                match self {
                    $(Conflict::$conflict => Form::$form,)+
                }
            }

            /// In words; `{}` stands for the detail.
            pub const fn words(self) -> &'static str {
                match self {
                    $(Conflict::$conflict => $words,)+
                }
            }
        }
    };
}

conflicts! {
    /// Nothing happened to the invoice yet, and the event does not open its fields.
    NeedsOpening = 40 "NEEDS_OPENING" Number "the event must show field {} of the invoice",
    /// The opened fields are not those of the invoice.
    OpeningDiffers = 41 "OPENING_DIFFERS" Digest "the invoice's commitment is {}",
    /// The status has another version.
    StaleVersion = 42 "STALE_VERSION" Number "the status has version {}",
    /// Orders freeze the invoice.
    Frozen = 43 "FROZEN" Number "frozen by {} orders",
    /// The invoice is void.
    AlreadyVoid = 44 "ALREADY_VOID" None "the invoice is void",
    /// All of it was credited.
    FullyRed = 45 "FULLY_RED" None "the invoice is fully credited",
    /// Nothing can be done with a red invoice.
    RedInvoice = 46 "RED_INVOICE" None "this is a red invoice",
    /// Too many records made the status.
    HistoryFull = 47 "HISTORY_FULL" Number "the status is made of {} records, the limit",
    /// Amounts are in another currency.
    Currency = 48 "CURRENCY" None "the currency is not the invoice's",
    /// A list of the status is full.
    TooMany = 49 "TOO_MANY" Number "there are {} already, the limit",
    /// Holds or financings stand against it.
    Encumbered = 50 "ENCUMBERED" Number "{} holds or financings stand against it",
    /// Its tax is used, or it is booked.
    InUse = 51 "IN_USE" None "its tax is used, or it is booked",
    /// The scheme has no void.
    NotVoidable = 52 "NOT_VOIDABLE" None "invoices of this scheme cannot be voided",
    /// Used or booked: both sides must agree on a slip.
    NeedsSlip = 53 "NEEDS_SLIP" None "used or booked: a slip of both sides is needed",
    /// A slip is live.
    SlipLive = 54 "SLIP_LIVE" Index "a slip is live, opened at log index {}",
    /// More than remains.
    AmountExceeded = 55 "AMOUNT_EXCEEDED" Amount "{} remain",
    /// The export rebate must be rolled back first.
    RebateRollbackFirst = 56 "REBATE_ROLLBACK_FIRST" None "roll the export rebate back first",
    /// The slip lapsed.
    SlipExpired = 57 "SLIP_EXPIRED" Time "the slip lapsed at {}",
    /// The other side must do this.
    SameParty = 58 "SAME_PARTY" None "the other side must do this",
    /// No slip is in the state that this needs.
    NoSlip = 59 "NO_SLIP" None "no slip is in the state that this needs",
    /// The deadline is not yet past.
    NotDue = 60 "NOT_DUE" Time "not before {}",
    /// It contradicts what the authority said before.
    Contradicts = 61 "CONTRADICTS" Index "the authority said otherwise at log index {}",
    /// No such order.
    OrderUnknown = 62 "ORDER_UNKNOWN" None "no such order freezes the invoice",
    /// Another gave the order.
    NotYourOrder = 63 "NOT_YOUR_ORDER" None "another gave the order",
    /// Only the buyer may.
    NotBuyer = 64 "NOT_BUYER" None "only the buyer may do this",
    /// Only the seller may.
    NotSeller = 65 "NOT_SELLER" None "only the seller may do this",
    /// Invoices of this type give no deduction.
    NotDeductible = 66 "NOT_DEDUCTIBLE" None "this type of invoice gives no deduction",
    /// The input tax is in another state.
    DeductionState = 67 "DEDUCTION_STATE" Index "the input tax came to its state at log index {}",
    /// The tax period is closed.
    PeriodClosed = 68 "PERIOD_CLOSED" Number "the first open period is {}",
    /// This unit claims it already.
    AlreadyClaimed = 69 "ALREADY_CLAIMED" Index "claimed by you at log index {}",
    /// Another unit claims it.
    ClaimedElsewhere = 70 "CLAIMED_ELSEWHERE" Time "claimed by another at {}",
    /// This unit has no claim.
    NoClaim = 71 "NO_CLAIM" None "no claim of yours is live",
    /// This unit has booked it.
    AlreadyBooked = 72 "ALREADY_BOOKED" Index "booked by you at log index {}",
    /// Other units have booked it.
    BookedElsewhere = 73 "BOOKED_ELSEWHERE" Time "booked by another at {}",
    /// This unit has not booked it.
    NotBooked = 74 "NOT_BOOKED" None "no booking of yours is live",
    /// What the buyer confirmed stands.
    ConfirmStands = 75 "CONFIRM_STANDS" Index "the buyer confirmed at log index {}",
    /// The buyer has not confirmed.
    NotConfirmed = 76 "NOT_CONFIRMED" None "the buyer has not confirmed the debt",
    /// A consent or offer is over.
    Expired = 77 "EXPIRED" Time "it ended at {}",
    /// The seller has not consented.
    NoConsent = 78 "NO_CONSENT" None "the seller has not consented",
    /// There is not enough capacity; how much there is, is not for the asker to know.
    Capacity = 79 "CAPACITY" None "there is not enough capacity",
    /// There is not enough capacity; the seller lets the asker know how much there is.
    CapacityLeft = 80 "CAPACITY_LEFT" Amount "the capacity is {}",
    /// Others hold what there is, until then.
    Held = 81 "HELD" Time "others hold it until {}",
    /// No hold of the asker's own is live.
    NoHold = 82 "NO_HOLD" None "no hold of yours is live",
    /// The hold's number is of a hold that ended.
    StaleToken = 83 "STALE_TOKEN" Index "that hold, made at log index {}, has ended",
    /// Another holds the financing.
    NotHolder = 84 "NOT_HOLDER" None "another holds it",
    /// The financing is closed.
    AlreadyClosed = 85 "ALREADY_CLOSED" Index "it was made at log index {} and is closed",
    /// The buyer was told already.
    AlreadyNotified = 86 "ALREADY_NOTIFIED" Index "the buyer was told at log index {}",
    /// The buyer was not told yet.
    NotNotified = 87 "NOT_NOTIFIED" None "the buyer was not told yet",
    /// The financing is not offered to the asker.
    NotOffered = 88 "NOT_OFFERED" None "it is not offered to you",
    /// More than is owed.
    Overpaid = 89 "OVERPAID" Amount "{} are owed",
    /// No such payment.
    UnknownPayment = 90 "UNKNOWN_PAYMENT" None "no such payment",
    /// The field cannot be corrected.
    ImmutableField = 91 "IMMUTABLE_FIELD" Number "field {} cannot be corrected",
    /// This invoice is never financed.
    NotFinanceable = 92 "NOT_FINANCEABLE" None "this invoice cannot be financed",
    /// The authority marked it abnormal.
    Abnormal = 93 "ABNORMAL" None "the authority marked the invoice abnormal",
    /// The debt is due already.
    Matured = 94 "MATURED" Time "the debt was due at {}",
    /// This reason takes the whole amount.
    WholeAmount = 95 "WHOLE_AMOUNT" Amount "this reason takes the whole amount of {}",
    /// The asker has no right to this.
    NoRight = 96 "NO_RIGHT" None "you have no right to this",
    /// It is so already.
    AlreadyDone = 97 "ALREADY_DONE" Index "it was done at log index {}",
    /// The signer may not act for that participant.
    NotDelegated = 98 "NOT_DELEGATED" None "the signer may not act for that participant",
    /// The financing is not in the state that this needs.
    FinancingState = 99 "FINANCING_STATE" Index "it came to its state at log index {}",
    /// Neither used nor booked: the seller may credit it without a slip.
    NotInUse = 100 "NOT_IN_USE" None "neither used nor booked: request the red invoice directly",
    /// The input tax is unselected.
    NotSelected = 101 "NOT_SELECTED" None "the input tax is unselected",
    /// The buyer disputes nothing.
    NotDisputed = 102 "NOT_DISPUTED" None "the buyer disputes nothing",
    /// More than is owed; how much is owed is not for the asker to know.
    MoreThanOwed = 103 "MORE_THAN_OWED" None "more than is owed",
    /// Policy lets only the whole be financed; how much that is, is not for the asker to know.
    NotWhole = 104 "NOT_WHOLE" None "only the whole amount may be financed",
}

impl Conflict {
    /// The conflict with this number.
    pub fn from_code(code: u8) -> Option<Conflict> {
        let at = Conflict::ALL.binary_search_by_key(&code, |known| *known as u8).ok()?;
        Some(Conflict::ALL[at])
    }

    /// The conflict with this name.
    pub fn from_name(name: &str) -> Option<Conflict> {
        Conflict::ALL.iter().copied().find(|known| known.name() == name)
    }

    /// What a person is told.
    pub fn explain(self, detail: &Detail) -> String {
        let detail = match detail {
            Detail::None => String::new(),
            Detail::Index(n) | Detail::Number(n) => alloc::format!("{n}"),
            Detail::Time(ms) => alloc::format!("{ms} ms since 1970"),
            Detail::Amount(n) => alloc::format!("{n} minor units"),
            Detail::Digest(digest) => hex::encode(digest),
        };
        self.words().replacen("{}", &detail, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_names_differ_and_words_have_a_place_for_the_detail() {
        assert!(Conflict::ALL.windows(2).all(|pair| (pair[0] as u8) < pair[1] as u8));
        for conflict in Conflict::ALL {
            assert_eq!(Conflict::from_name(conflict.name()), Some(*conflict));
            assert_eq!(Conflict::from_code(*conflict as u8), Some(*conflict));
            let places = conflict.words().matches("{}").count();
            assert_eq!(places, usize::from(conflict.form() != Form::None), "{conflict:?}");
        }
    }
}
