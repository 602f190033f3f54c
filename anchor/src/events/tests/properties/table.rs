//! The answers of PROTOCOL section 7, by kind, and the changes of state that its effects allow.
//!
//! Whoever runs schedules asks both ways: each answer occurs, and no other does.

use super::coverage::Change;
use piaogen_verify::record::{Class, RecordKind as R};

/// Every kind of event.
pub(crate) fn kinds() -> impl Iterator<Item = R> {
    R::ALL.iter().copied().filter(|kind| kind.class() == Class::Event)
}

/// All answers to a kind: those of section 7.1, and its own.
pub(crate) fn answers(kind: R) -> Vec<&'static str> {
    let mut all = general(kind);
    all.extend(own(kind).split_ascii_whitespace());
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether an answer to this kind is one of section 7.1.
pub(crate) fn is_general(kind: R, answer: &str) -> bool {
    general(kind).contains(&answer)
}

fn general(kind: R) -> Vec<&'static str> {
    let mut all = vec!["NOT_FOUND", "NOT_DELEGATED", "NEEDS_OPENING", "OPENING_DIFFERS"];
    if kind == R::Query {
        return all;
    }
    all.extend(["REPLAY", "CURRENCY", "STALE_VERSION", "HISTORY_FULL"]);
    let role = matches!(kind, R::Correct | R::Void | R::AuthorityFact | R::RiskMark)
        || matches!(kind, R::Freeze | R::Unfreeze | R::ConfirmDeduction)
        || matches!(kind, R::ExportRebate | R::ExportRollback)
        || matches!(kind, R::FinanceHold | R::HoldCancel | R::FinanceOpen)
        || matches!(kind, R::RegistryRef | R::ConsentRed | R::TransferAccept);
    if role {
        all.push("WRONG_ROLE");
    }
    if matches!(kind, R::AuthorityFact | R::RiskMark | R::Freeze | R::Unfreeze) {
        return all;
    }
    all.push("FROZEN");
    if !matches!(kind, R::AddFile | R::Correct) {
        all.push("RED_INVOICE");
    }
    let winds_down = matches!(kind, R::Unselect | R::TransferOut | R::ClaimClose | R::Unbook)
        || matches!(kind, R::HoldCancel | R::HoldExpire | R::ConsentRevoke | R::Release)
        || matches!(kind, R::Settle | R::Default | R::Cure | R::PaymentAck);
    if !winds_down {
        all.extend(["ALREADY_VOID", "FULLY_RED"]);
    }
    all
}

const FINANCEABLE: &str = "ACCEPTED NO_CONSENT EXPIRED AMOUNT_EXCEEDED MALFORMED NOT_FINANCEABLE \
    ABNORMAL SLIP_LIVE MATURED NOT_CONFIRMED ENCUMBERED WHOLE_AMOUNT HELD CAPACITY_LEFT CAPACITY \
    NOT_WHOLE TOO_MANY LIMIT";
const OPENED: &str = "ACCEPTED NO_CONSENT EXPIRED AMOUNT_EXCEEDED MALFORMED NOT_FINANCEABLE \
    ABNORMAL SLIP_LIVE MATURED NOT_CONFIRMED ENCUMBERED WHOLE_AMOUNT HELD CAPACITY_LEFT CAPACITY \
    NOT_WHOLE TOO_MANY NO_HOLD NOT_HOLDER STALE_TOKEN";

/// What its row has.
fn own(kind: R) -> &'static str {
    match kind {
        R::AddFile => "ACCEPTED NOT_SELLER ALREADY_DONE TOO_MANY",
        R::Correct => "ACCEPTED IMMUTABLE_FIELD TOO_MANY",
        R::Void => "ACCEPTED NOT_VOIDABLE SLIP_LIVE ENCUMBERED IN_USE",
        R::AuthorityFact => "ACCEPTED ALREADY_DONE CONTRADICTS ALREADY_VOID MALFORMED TOO_MANY",
        R::RiskMark => "ACCEPTED MALFORMED",
        R::Freeze => "ACCEPTED ALREADY_DONE TOO_MANY",
        R::Unfreeze => "ACCEPTED ORDER_UNKNOWN NOT_YOUR_ORDER",
        R::Query => "ACCEPTED NO_RIGHT NO_CONSENT EXPIRED",
        R::RedRequest => {
            "ACCEPTED NOT_SELLER REBATE_ROLLBACK_FIRST NEEDS_SLIP SLIP_LIVE MALFORMED WHOLE_AMOUNT \
             AMOUNT_EXCEEDED ENCUMBERED"
        }
        R::SlipOpen => {
            "ACCEPTED NO_RIGHT REBATE_ROLLBACK_FIRST NOT_IN_USE SLIP_LIVE MALFORMED WHOLE_AMOUNT \
             AMOUNT_EXCEEDED ENCUMBERED"
        }
        R::SlipConfirm => {
            "ACCEPTED NO_RIGHT NO_SLIP SAME_PARTY SLIP_EXPIRED AMOUNT_EXCEEDED ENCUMBERED"
        }
        R::SlipRefuse => "ACCEPTED NO_RIGHT NO_SLIP SAME_PARTY SLIP_EXPIRED",
        R::SlipWithdraw => "ACCEPTED NO_RIGHT NO_SLIP",
        R::SlipExpire => "ACCEPTED NO_SLIP NOT_DUE",
        R::RedApply => {
            "ACCEPTED WRONG_ROLE ALREADY_DONE NO_SLIP AMOUNT_EXCEEDED MALFORMED ENCUMBERED TOO_MANY"
        }
        R::Select => "ACCEPTED NOT_BUYER NOT_DEDUCTIBLE ABNORMAL DEDUCTION_STATE",
        R::Unselect => "ACCEPTED NOT_BUYER NOT_SELECTED DEDUCTION_STATE",
        R::ConfirmDeduction => {
            "ACCEPTED NOT_SELECTED DEDUCTION_STATE MALFORMED PERIOD_CLOSED AMOUNT_EXCEEDED"
        }
        R::TransferOut => "ACCEPTED NOT_BUYER NOT_SELECTED DEDUCTION_STATE AMOUNT_EXCEEDED",
        R::NonDeductible => "ACCEPTED NOT_BUYER DEDUCTION_STATE",
        R::ExportRebate => "ACCEPTED ALREADY_DONE IN_USE",
        R::ExportRollback => "ACCEPTED NOT_SELECTED DEDUCTION_STATE",
        R::ClaimOpen => {
            "ACCEPTED NOT_BUYER WRONG_ROLE ALREADY_CLAIMED CLAIMED_ELSEWHERE ALREADY_BOOKED \
             BOOKED_ELSEWHERE AMOUNT_EXCEEDED MALFORMED LIMIT"
        }
        R::ClaimClose => "ACCEPTED NO_CLAIM",
        R::Book => {
            "ACCEPTED NOT_BUYER WRONG_ROLE ALREADY_BOOKED CLAIMED_ELSEWHERE MALFORMED \
             BOOKED_ELSEWHERE AMOUNT_EXCEEDED"
        }
        R::Unbook => "ACCEPTED NOT_BOOKED",
        R::Archive => "ACCEPTED NOT_BOOKED ALREADY_DONE",
        kind => own_money(kind),
    }
}

fn own_money(kind: R) -> &'static str {
    match kind {
        R::ConfirmRequest => "ACCEPTED NO_RIGHT ALREADY_DONE CONFIRM_STANDS",
        R::BuyerConfirm => "ACCEPTED NOT_BUYER AMOUNT_EXCEEDED CONFIRM_STANDS",
        R::BuyerDispute => "ACCEPTED NOT_BUYER AMOUNT_EXCEEDED",
        R::BuyerRefuse => "ACCEPTED NOT_BUYER CONFIRM_STANDS",
        R::DisputeResolve => "ACCEPTED NOT_BUYER NOT_DISPUTED",
        R::ConsentGrant => "ACCEPTED NOT_SELLER NOT_FOUND MALFORMED EXPIRED",
        R::ConsentRevoke => "ACCEPTED NOT_SELLER NO_CONSENT",
        R::FinanceHold => FINANCEABLE,
        R::HoldCancel => "ACCEPTED NO_HOLD NOT_HOLDER STALE_TOKEN",
        R::HoldExpire => "ACCEPTED NO_HOLD NOT_DUE STALE_TOKEN",
        R::FinanceOpen => OPENED,
        R::Notice => "ACCEPTED NO_HOLD NOT_HOLDER ALREADY_CLOSED FINANCING_STATE ALREADY_NOTIFIED",
        R::NoticeAck => {
            "ACCEPTED NOT_BUYER NO_HOLD ALREADY_CLOSED FINANCING_STATE NOT_NOTIFIED ALREADY_DONE"
        }
        R::RegistryRef => {
            "ACCEPTED NO_HOLD NOT_HOLDER ALREADY_CLOSED FINANCING_STATE ALREADY_DONE TOO_MANY"
        }
        R::ConsentRed => "ACCEPTED NO_HOLD NOT_HOLDER ALREADY_CLOSED AMOUNT_EXCEEDED",
        R::Release => "ACCEPTED NO_HOLD NOT_HOLDER ALREADY_CLOSED FINANCING_STATE AMOUNT_EXCEEDED",
        R::Settle | R::Cure => "ACCEPTED NO_HOLD NOT_HOLDER ALREADY_CLOSED FINANCING_STATE",
        R::FinanceTransfer => {
            "ACCEPTED NO_HOLD NOT_HOLDER ALREADY_CLOSED FINANCING_STATE NOT_FOUND SAME_PARTY"
        }
        R::TransferAccept => "ACCEPTED NO_HOLD ALREADY_CLOSED NOT_OFFERED",
        R::Default => {
            "ACCEPTED NO_HOLD NOT_HOLDER ALREADY_CLOSED FINANCING_STATE ALREADY_DONE NOT_DUE"
        }
        R::Payment => "ACCEPTED NO_RIGHT ALREADY_DONE OVERPAID MORE_THAN_OWED TOO_MANY",
        R::PaymentAck => "ACCEPTED NO_RIGHT UNKNOWN_PAYMENT ALREADY_DONE",
        _ => "",
    }
}

/// Every change of a part that an event may make: part, from, to one of these.
pub(crate) fn changes() -> Vec<Change> {
    let table: &[(&str, &str, &[&str])] = &[
        ("lifecycle", "active", &["part_red", "full_red", "void"]),
        ("lifecycle", "part_red", &["full_red", "void"]),
        ("lifecycle", "full_red", &["void"]),
        ("risk", "normal", &["doubtful", "abnormal"]),
        ("risk", "doubtful", &["normal", "abnormal"]),
        ("risk", "abnormal", &["normal", "doubtful"]),
        ("slip", "none", &["pending", "confirmed"]),
        // A slip whose deadline is past stands as pending until the next one takes its place.
        ("slip", "pending", &["confirmed", "refused", "withdrawn", "lapsed"]),
        ("slip", "confirmed", &["none", "withdrawn"]),
        ("slip", "refused", &["pending", "confirmed"]),
        ("slip", "withdrawn", &["pending", "confirmed"]),
        ("slip", "lapsed", &["pending", "confirmed"]),
        ("deduction", "unselected", &["selected", "non_deductible", "export_rebate"]),
        ("deduction", "selected", &["unselected", "confirmed"]),
        ("deduction", "confirmed", &["transferred_out"]),
        ("deduction", "non_deductible", &["unselected", "export_rebate"]),
        ("deduction", "export_rebate", &["unselected"]),
        ("word", "none", &["requested", "confirmed", "disputed", "refused"]),
        ("word", "requested", &["confirmed", "disputed", "refused"]),
        ("word", "confirmed", &["disputed"]),
        ("word", "disputed", &["confirmed", "none", "refused"]),
        ("word", "refused", &["requested", "confirmed", "disputed"]),
        ("financing", "none", &["hold", "open"]),
        ("financing", "hold", &["open", "released"]),
        ("financing", "open", &["released", "settled", "defaulted"]),
        ("financing", "defaulted", &["open", "released", "settled"]),
    ];
    let each = |row: &(&'static str, &'static str, &'static [&'static str])| {
        let (part, from, to) = *row;
        to.iter().map(move |to| (part, from, *to)).collect::<Vec<_>>()
    };
    table.iter().flat_map(each).collect()
}
