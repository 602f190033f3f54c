//! Input tax: selection, deduction, transfer, export rebate.
//!
//! One state at a time, and each event names the states from which it leads on; who comes from
//! another is told where the tax came to its state.

use super::red::{tax_remainder, within};
use super::{Answer, Case, refuse, refuse_with};
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::fields::tag;
use piaogen_verify::status::DeductionState::{
    self, Confirmed, ExportRebate, NonDeductible, Selected, TransferredOut, Unselected,
};
use piaogen_verify::status::{Deduction, Risk};

pub(super) fn select(case: &mut Case<'_>) -> Answer {
    must_be_buyer_or_authority(case)?;
    let (types, own) = (&case.scheme.deductible_vat_types, &case.status.facts.vat_type);
    if !types.is_empty() && !own.as_ref().is_some_and(|own| types.contains(own)) {
        return refuse(Conflict::NotDeductible);
    }
    if case.status.risk == Risk::Abnormal {
        return refuse(Conflict::Abnormal);
    }
    must_be(case, &[Unselected])?;
    enter(case, Selected);
    Ok(())
}

pub(super) fn unselect(case: &mut Case<'_>) -> Answer {
    must_be_buyer_or_authority(case)?;
    must_be(case, &[Selected, NonDeductible])?;
    enter(case, Unselected);
    Ok(())
}

pub(super) fn confirm_deduction(case: &mut Case<'_>) -> Answer {
    must_be(case, &[Selected])?;
    let period = case.needed(tag::PERIOD, case.uint(tag::PERIOD))?;
    if !(1900..=2199).contains(&(period / 100)) || !(1..=12).contains(&(period % 100)) {
        return case.out_of_range(tag::PERIOD);
    }
    if period < case.policy().open_period {
        return refuse_with(Conflict::PeriodClosed, Detail::Number(case.policy().open_period));
    }
    let most = tax_remainder(&case.status);
    let tax = case.amount(tag::TAX_AMOUNT).unwrap_or(most);
    within(tax, most)?;
    let (index, state, period) = (case.index, Confirmed, Some(period));
    case.status.deduction = Some(Deduction { index, state, transferred: 0, tax, period });
    Ok(())
}

pub(super) fn transfer_out(case: &mut Case<'_>) -> Answer {
    must_be_buyer_or_authority(case)?;
    must_be(case, &[Confirmed, TransferredOut])?;
    let amount = case.needed(tag::AMOUNT, case.amount(tag::AMOUNT))?;
    if let Some(deduction) = &mut case.status.deduction {
        within(amount, deduction.tax - deduction.transferred)?;
        deduction.transferred += amount;
        (deduction.index, deduction.state) = (case.index, TransferredOut);
    }
    Ok(())
}

pub(super) fn non_deductible(case: &mut Case<'_>) -> Answer {
    must_be_buyer_or_authority(case)?;
    must_be(case, &[Unselected])?;
    enter(case, NonDeductible);
    Ok(())
}

pub(super) fn export_rebate(case: &mut Case<'_>) -> Answer {
    match (case.status.deduction_state(), &case.status.deduction) {
        (ExportRebate, Some(deduction)) => {
            return refuse_with(Conflict::AlreadyDone, Detail::Index(deduction.index));
        }
        (Unselected | NonDeductible, _) => {}
        _ => return refuse(Conflict::InUse),
    }
    enter(case, ExportRebate);
    Ok(())
}

pub(super) fn export_rollback(case: &mut Case<'_>) -> Answer {
    must_be(case, &[ExportRebate])?;
    enter(case, Unselected);
    Ok(())
}

fn must_be_buyer_or_authority(case: &Case<'_>) -> Answer {
    if case.is_authority() { Ok(()) } else { case.must_be_buyer() }
}

/// Refuses where the tax is in none of these states. An untouched tax has no place to point at.
fn must_be(case: &Case<'_>, states: &[DeductionState]) -> Answer {
    let state = case.status.deduction_state();
    match &case.status.deduction {
        _ if states.contains(&state) => Ok(()),
        Some(deduction) if state != Unselected => {
            refuse_with(Conflict::DeductionState, Detail::Index(deduction.index))
        }
        _ => refuse(Conflict::NotSelected),
    }
}

/// A state without tax or period.
fn enter(case: &mut Case<'_>, state: DeductionState) {
    let index = case.index;
    case.status.deduction = Some(Deduction { index, state, transferred: 0, tax: 0, period: None });
}
