//! What the buyer says of the debt.
//!
//! A bank lends on the buyer's word, so it can be added to but not taken back: a dispute or a
//! refusal leaves what was confirmed where it is, and lowers what may still be financed.

use super::financing::has_consent;
use super::{Answer, Case, refuse, refuse_with};
use crate::alert::{AlertKind, Recipient};
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::fields::tag;
use piaogen_verify::status::{BuyerState, Confirmation, Day};
use piaogen_verify::value;

/// Somebody who has a right to know asks the buyer for his word.
pub(super) fn confirm_request(case: &mut Case<'_>) -> Answer {
    if !case.is_seller() && !has_consent(case) {
        return refuse(Conflict::NoRight);
    }
    let stands = Detail::Index(word(case).index);
    match case.status.buyer_state() {
        BuyerState::Requested => refuse_with(Conflict::AlreadyDone, stands),
        BuyerState::Confirmed | BuyerState::Disputed => {
            refuse_with(Conflict::ConfirmStands, stands)
        }
        BuyerState::None | BuyerState::Refused => say(case, BuyerState::Requested),
    }
}

/// The buyer owes this amount, on this day, to this account.
pub(super) fn buyer_confirm(case: &mut Case<'_>) -> Answer {
    case.must_be_buyer()?;
    let amount = case.needed(tag::AMOUNT, case.amount(tag::AMOUNT))?;
    let remainder = case.status.remainder();
    if amount > remainder {
        return refuse_with(Conflict::AmountExceeded, Detail::Amount(remainder));
    }
    let before = word(case);
    let relied_on = case.status.paid() + case.status.to_cover();
    if before.amount.is_some() && amount < relied_on {
        return refuse_with(Conflict::ConfirmStands, Detail::Index(before.index));
    }
    case.status.confirmation = Some(Confirmation {
        index: case.index,
        state: BuyerState::Confirmed,
        amount: Some(amount),
        account: case.digest(tag::ACCOUNT),
        due: day(case),
        // Who lent on the waiver keeps it.
        no_set_off: before.no_set_off || case.flag(tag::NO_SET_OFF),
        disputed: None,
    });
    case.alert_shortfall();
    Ok(())
}

/// The buyer disputes an amount, before or after he confirmed.
pub(super) fn buyer_dispute(case: &mut Case<'_>) -> Answer {
    case.must_be_buyer()?;
    let amount = case.needed(tag::AMOUNT, case.amount(tag::AMOUNT))?;
    let remainder = case.status.remainder();
    if amount > remainder {
        return refuse_with(Conflict::AmountExceeded, Detail::Amount(remainder));
    }
    let disputed = Some(amount);
    let (state, index) = (BuyerState::Disputed, case.index);
    case.status.confirmation = Some(Confirmation { index, state, disputed, ..word(case) });
    let seller = case.status.facts.seller.clone();
    case.alert(AlertKind::Disputed, Recipient::Party(seller));
    case.alert_holders(AlertKind::Disputed);
    case.alert_shortfall();
    Ok(())
}

/// The buyer does not confirm.
pub(super) fn buyer_refuse(case: &mut Case<'_>) -> Answer {
    case.must_be_buyer()?;
    let before = word(case);
    if before.amount.is_some() {
        return refuse_with(Conflict::ConfirmStands, Detail::Index(before.index));
    }
    say(case, BuyerState::Refused)
}

/// The dispute is over; what was confirmed before it holds again.
pub(super) fn dispute_resolve(case: &mut Case<'_>) -> Answer {
    case.must_be_buyer()?;
    if case.status.buyer_state() != BuyerState::Disputed {
        return refuse(Conflict::NotDisputed);
    }
    let before = word(case);
    let state = match before.amount {
        Some(_) => BuyerState::Confirmed,
        None => BuyerState::None,
    };
    let (index, disputed) = (case.index, None);
    case.status.confirmation = Some(Confirmation { index, state, disputed, ..before });
    Ok(())
}

/// What the buyer said so far.
fn word(case: &Case<'_>) -> Confirmation {
    case.status.confirmation.clone().unwrap_or(Confirmation {
        index: case.index,
        state: BuyerState::None,
        amount: None,
        account: None,
        due: None,
        no_set_off: false,
        disputed: None,
    })
}

/// A new state, the rest as it was.
fn say(case: &mut Case<'_>, state: BuyerState) -> Answer {
    let index = case.index;
    case.status.confirmation = Some(Confirmation { index, state, ..word(case) });
    Ok(())
}

/// The day on which the debt is due, as the event says.
fn day(case: &Case<'_>) -> Option<Day> {
    let (year, month, day) = value::date_of(case.record.get(tag::DUE)?).ok()?;
    Some(Day(year * 10_000 + month * 100 + day))
}
