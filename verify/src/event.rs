//! What each event says: the fields that it must and may have, and who may say it (`FORMAT.md`
//! section 4.1).
//!
//! A table, so that shape is checked on any lane, ahead of agreement, and reads like the protocol.
//! What an event does to a status is execution's.
//!
//! Invariants
//! - Every kind of the class event has one row.
//! - Shape follows from the record alone.

use crate::entry::Outcome;
use crate::fields::{Tag, tag};
use crate::genesis::{ROLE_AUTHORITY, ROLE_BANK, ROLE_COURT};
use crate::record::{Record, RecordKind};
use crate::value::Cause;

/// What an event of one kind looks like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The kind.
    pub kind: RecordKind,
    /// Roles of which the actor needs one; zero: the event's own rule decides who may.
    pub roles: u64,
    /// Fields that it must have beside those of the subject.
    pub required: &'static [Tag],
    /// Fields that it may have beside [`COMMON`].
    pub optional: &'static [Tag],
}

/// Fields that any event may have.
pub const COMMON: &[Tag] = &[
    tag::NUMBER,
    tag::CURRENCY,
    tag::SCHEME,
    tag::SELLER_PARTY,
    tag::TEXT,
    tag::OPENING,
    tag::EXPECTED_VERSION,
    tag::ON_BEHALF,
];

const fn shape(
    kind: RecordKind,
    roles: u64,
    required: &'static [Tag],
    optional: &'static [Tag],
) -> Shape {
    Shape { kind, roles, required, optional }
}

const T: u64 = ROLE_AUTHORITY;
const K: u64 = ROLE_BANK;
const T_OR_J: u64 = ROLE_AUTHORITY | ROLE_COURT;

use RecordKind as R;
use tag::{
    ACCOUNT, ACTOR, ADVANCED, AMOUNT, DIGEST, DIVISIBLE, DUE, EXPIRES, FACT, FIELD, FINANCING,
    FORM, LINES_RED, MARK, NO_SET_OFF, PERIOD, REASON_CODE, RED_NUMBER, REFERENCE, SCOPE, SYSTEM,
    TAX_AMOUNT, TEXT, VAT_BREAKDOWN,
};

/// One row for each kind, in the order of their numbers.
pub const SHAPES: &[Shape] = &[
    shape(R::AddFile, 0, &[DIGEST], &[REFERENCE]),
    shape(R::Correct, T, &[FIELD, TEXT], &[REFERENCE]),
    shape(R::Void, T, &[], &[REFERENCE]),
    shape(R::RedRequest, 0, &[AMOUNT, TAX_AMOUNT, REASON_CODE], &[REFERENCE]),
    shape(R::SlipOpen, 0, &[AMOUNT, TAX_AMOUNT, REASON_CODE], &[REFERENCE]),
    shape(R::SlipConfirm, 0, &[], &[REFERENCE]),
    shape(R::SlipRefuse, 0, &[], &[REFERENCE]),
    shape(R::SlipWithdraw, 0, &[], &[REFERENCE]),
    shape(R::SlipExpire, 0, &[], &[]),
    shape(
        R::RedApply,
        0,
        &[AMOUNT, TAX_AMOUNT, RED_NUMBER],
        &[DIGEST, LINES_RED, VAT_BREAKDOWN, REFERENCE],
    ),
    shape(R::AuthorityFact, T, &[REFERENCE, FACT], &[AMOUNT, TAX_AMOUNT, RED_NUMBER]),
    shape(R::RiskMark, T, &[MARK], &[REFERENCE]),
    shape(R::Freeze, T_OR_J, &[REFERENCE], &[DIGEST]),
    shape(R::Unfreeze, T_OR_J, &[REFERENCE], &[]),
    shape(R::Select, 0, &[], &[REFERENCE]),
    shape(R::Unselect, 0, &[], &[REFERENCE]),
    shape(R::ConfirmDeduction, T, &[PERIOD], &[TAX_AMOUNT, REFERENCE]),
    shape(R::TransferOut, 0, &[AMOUNT], &[REFERENCE]),
    shape(R::NonDeductible, 0, &[], &[REFERENCE]),
    shape(R::ExportRebate, T, &[], &[REFERENCE]),
    shape(R::ExportRollback, T, &[], &[REFERENCE]),
    shape(R::ClaimOpen, 0, &[EXPIRES], &[REFERENCE]),
    shape(R::ClaimClose, 0, &[], &[REFERENCE]),
    shape(R::Book, 0, &[AMOUNT], &[MARK, REFERENCE, DIGEST]),
    shape(R::Unbook, 0, &[], &[REFERENCE]),
    shape(R::Archive, 0, &[DIGEST], &[REFERENCE]),
    shape(R::ConfirmRequest, 0, &[], &[REFERENCE]),
    shape(R::BuyerConfirm, 0, &[AMOUNT], &[DUE, ACCOUNT, NO_SET_OFF, REFERENCE]),
    shape(R::BuyerDispute, 0, &[AMOUNT, REASON_CODE], &[REFERENCE]),
    shape(R::BuyerRefuse, 0, &[], &[REASON_CODE, REFERENCE]),
    shape(R::DisputeResolve, 0, &[], &[REFERENCE]),
    shape(R::ConsentGrant, 0, &[ACTOR, EXPIRES, SCOPE], &[AMOUNT]),
    shape(R::ConsentRevoke, 0, &[ACTOR], &[]),
    shape(R::FinanceHold, K, &[AMOUNT, EXPIRES], &[DIVISIBLE, REFERENCE]),
    shape(R::HoldCancel, K, &[FINANCING], &[]),
    shape(R::HoldExpire, 0, &[FINANCING], &[]),
    shape(
        R::FinanceOpen,
        K,
        &[AMOUNT, FORM, ADVANCED],
        &[FINANCING, DIVISIBLE, ACCOUNT, REFERENCE],
    ),
    shape(R::Notice, 0, &[FINANCING], &[ACCOUNT]),
    shape(R::NoticeAck, 0, &[FINANCING], &[]),
    shape(R::RegistryRef, K, &[REFERENCE, FINANCING, SYSTEM], &[DIGEST]),
    shape(R::ConsentRed, K, &[AMOUNT, FINANCING], &[]),
    shape(R::Release, 0, &[FINANCING], &[AMOUNT]),
    shape(R::Settle, 0, &[FINANCING], &[]),
    shape(R::FinanceTransfer, 0, &[ACTOR, FINANCING], &[]),
    shape(R::TransferAccept, K, &[FINANCING], &[]),
    shape(R::Default, 0, &[FINANCING], &[]),
    shape(R::Cure, 0, &[FINANCING], &[]),
    shape(R::Payment, 0, &[AMOUNT, REFERENCE], &[ACCOUNT]),
    shape(R::PaymentAck, 0, &[REFERENCE], &[]),
    shape(R::Query, 0, &[], &[REFERENCE]),
];

/// The shape of an event of this kind; `None` for records that are no events.
pub fn shape_of(kind: RecordKind) -> Option<&'static Shape> {
    let at = SHAPES.binary_search_by_key(&kind, |shape| shape.kind).ok()?;
    Some(&SHAPES[at])
}

/// Checks what can be known from an event alone: its fields, and the signs of its amounts. The
/// answer is the outcome that the record is refused with.
pub fn check_event(record: &Record<'_>) -> Result<(), Outcome> {
    let Some(shape) = shape_of(record.kind) else {
        return Err(malformed(0, Cause::NotAllowed));
    };
    if let Some(tag) = shape.required.iter().find(|tag| record.get(**tag).is_none()) {
        return Err(malformed(*tag, Cause::Missing));
    }
    let known = [COMMON, shape.required, shape.optional];
    if let Some((tag, _)) =
        record.fields.iter().find(|(tag, _)| !known.iter().any(|tags| tags.contains(tag)))
    {
        return Err(malformed(*tag, Cause::NotAllowed));
    }
    for tag in [AMOUNT, TAX_AMOUNT, ADVANCED] {
        let least = i128::from(tag == AMOUNT);
        if record.get(tag).is_some() && record.amount(tag) < least {
            return Err(malformed(tag, Cause::Sign));
        }
    }
    Ok(())
}

fn malformed(tag: Tag, cause: Cause) -> Outcome {
    Outcome::Malformed { tag, cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::{EVENT, by_tag};
    use crate::record::Class;

    #[test]
    fn every_event_has_one_row_and_every_field_is_known() {
        let events: Vec<RecordKind> =
            R::ALL.iter().copied().filter(|kind| kind.class() == Class::Event).collect();
        assert_eq!(SHAPES.iter().map(|shape| shape.kind).collect::<Vec<_>>(), events);
        for shape in SHAPES {
            let all = COMMON.iter().chain(shape.required).chain(shape.optional);
            let mut seen: Vec<Tag> = all.copied().collect();
            assert!(seen.iter().all(|tag| by_tag(EVENT, *tag).is_some()), "{:?}", shape.kind);
            seen.sort_unstable();
            let unique = seen.len();
            seen.dedup();
            assert!(seen.len() + usize::from(shape.kind == R::Correct) >= unique);
        }
        assert!(EVENT.iter().all(|field| {
            COMMON.contains(&field.tag)
                || SHAPES
                    .iter()
                    .any(|s| s.required.contains(&field.tag) || s.optional.contains(&field.tag))
        }));
    }

    use alloc::vec::Vec;
}
