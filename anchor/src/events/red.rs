//! Red-letter events: requests, slips, and the effect of a red invoice on its original.
//!
//! Before a red invoice there is a slip: the seller's own where the original is neither used nor
//! booked, else one of both sides. `red_apply` is what a red invoice does to its original, and the
//! only event that credits (an authority's fact beside it).
//!
//! Invariants
//! - What is credited never exceeds gross, tax, and the net amount of each line and each rate.
//! - At most one slip is live.

use super::{Answer, Case, refuse, refuse_with};
use crate::alert::AlertKind;
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::status::{DeductionState, Rate, RedInvoice, RedLine, Slip, SlipState, Status};
use piaogen_verify::value::{self, Cause, Flaw, Members};

/// Reasons of a slip: error, return, service stopped, discount.
const REASONS: [&str; 4] = [ERROR, "02", "03", "04"];
/// The reason that takes the whole invoice back.
const ERROR: &str = "01";

pub(super) fn red_request(case: &mut Case<'_>) -> Answer {
    if !case.is_authority() {
        case.must_be_seller()?;
    }
    no_export_rebate(case)?;
    if is_used_or_booked(&case.status) {
        return refuse(Conflict::NeedsSlip);
    }
    case.status.slip = Some(asked(case)?);
    case.alert_holders(AlertKind::RedConfirmed);
    Ok(())
}

pub(super) fn slip_open(case: &mut Case<'_>) -> Answer {
    if !case.is_seller() && !case.is_buyer() {
        return refuse(Conflict::NoRight);
    }
    no_export_rebate(case)?;
    if !is_used_or_booked(&case.status) {
        return refuse(Conflict::NotInUse);
    }
    let slip = asked(case)?;
    let deadline = Some(case.now().saturating_add_unsigned(case.policy().slip_ms));
    case.status.slip = Some(Slip { state: SlipState::Pending, deadline, ..slip });
    case.alert_holders(AlertKind::RedOpened);
    Ok(())
}

pub(super) fn slip_confirm(case: &mut Case<'_>) -> Answer {
    let slip = slip_of_the_other_side(case)?;
    within(slip.amount, case.status.remainder())?;
    within(slip.tax, tax_remainder(&case.status))?;
    lien_rule(case, slip.amount)?;
    end_wait(case, SlipState::Confirmed);
    case.alert_holders(AlertKind::RedConfirmed);
    Ok(())
}

pub(super) fn slip_refuse(case: &mut Case<'_>) -> Answer {
    slip_of_the_other_side(case)?;
    end_wait(case, SlipState::Refused);
    Ok(())
}

pub(super) fn slip_withdraw(case: &mut Case<'_>) -> Answer {
    let slip = case.status.slip.as_ref();
    if slip.is_some_and(|slip| slip.by != case.actor) {
        return refuse(Conflict::NoRight);
    }
    if case.live_slip().is_none() {
        return refuse(Conflict::NoSlip);
    }
    end_wait(case, SlipState::Withdrawn);
    Ok(())
}

pub(super) fn slip_expire(case: &mut Case<'_>) -> Answer {
    let pending = case.status.slip.as_ref().filter(|slip| slip.state == SlipState::Pending);
    let Some(deadline) = pending.and_then(|slip| slip.deadline) else {
        return refuse(Conflict::NoSlip);
    };
    if deadline > case.now() {
        return refuse_with(Conflict::NotDue, Detail::Time(deadline));
    }
    end_wait(case, SlipState::Lapsed);
    Ok(())
}

pub(super) fn red_apply(case: &mut Case<'_>) -> Answer {
    let slips = case.scheme.slips;
    if !case.is_authority() && (slips || !case.is_seller()) {
        return Err(Outcome::WrongRole);
    }
    let number = case.record.text(tag::RED_NUMBER);
    if let Some(known) = case.status.red_invoices.iter().find(|known| known.number == number) {
        return refuse_with(Conflict::AlreadyDone, Detail::Index(known.index));
    }
    let confirmed = case.live_slip().filter(|slip| slip.state == SlipState::Confirmed);
    if slips && confirmed.is_none() {
        return refuse(Conflict::NoSlip);
    }
    let (agreed, agreed_tax) = confirmed.map_or((i128::MAX, i128::MAX), |s| (s.amount, s.tax));
    let is_agreed = confirmed.is_some();
    let (amount, tax) = amounts(case)?;
    within(amount, case.status.remainder().min(agreed))?;
    within(tax, tax_remainder(&case.status).min(agreed_tax))?;
    credit_lines(case)?;
    credit_rates(case)?;
    if !slips {
        lien_rule(case, amount)?;
    }
    case.must_fit(case.status.red_invoices.len())?;
    let (index, digest, number) = (case.index, case.digest(tag::DIGEST), number.to_owned());
    case.status.red_invoices.push(RedInvoice { index, amount, tax, digest, number });
    case.status.red.amount += amount;
    case.status.red.tax += tax;
    if is_agreed {
        end_wait(case, SlipState::None);
    }
    use_consents(&mut case.status, amount);
    case.alert_holders(AlertKind::RedApplied);
    case.alert_excess();
    Ok(())
}

/// What is left of the invoice's tax to credit or to deduct.
pub(super) fn tax_remainder(status: &Status) -> i128 {
    (status.facts.vat.unwrap_or(0) - status.red.tax).max(0)
}

/// Refuses where a slip waits or is confirmed.
pub(super) fn no_live_slip(case: &Case<'_>) -> Answer {
    match case.live_slip() {
        Some(slip) => refuse_with(Conflict::SlipLive, Detail::Index(slip.index)),
        None => Ok(()),
    }
}

/// Refuses an amount above what remains, and says what remains.
pub(super) fn within(amount: i128, remains: i128) -> Answer {
    match amount <= remains {
        true => Ok(()),
        false => refuse_with(Conflict::AmountExceeded, Detail::Amount(remains)),
    }
}

/// The lien rule: where liens block, every live hold and financing has consented to this amount.
fn lien_rule(case: &Case<'_>, amount: i128) -> Answer {
    if case.policy().lien_blocks == 0 {
        return Ok(());
    }
    let against = case.status.liens().filter(|lien| lien.red_consent.unwrap_or(0) < amount);
    match against.count() as u64 {
        0 => Ok(()),
        against => refuse_with(Conflict::Encumbered, Detail::Number(against)),
    }
}

fn no_export_rebate(case: &Case<'_>) -> Answer {
    match case.status.deduction_state() {
        DeductionState::ExportRebate => refuse(Conflict::RebateRollbackFirst),
        _ => Ok(()),
    }
}

fn is_used_or_booked(status: &Status) -> bool {
    let idle = [DeductionState::Unselected, DeductionState::NonDeductible];
    !idle.contains(&status.deduction_state()) || !status.bookings.is_empty()
}

/// Amount and tax of the event.
fn amounts(case: &Case<'_>) -> Result<(i128, i128), Outcome> {
    let amount = case.needed(tag::AMOUNT, case.amount(tag::AMOUNT))?;
    Ok((amount, case.needed(tag::TAX_AMOUNT, case.amount(tag::TAX_AMOUNT))?))
}

/// What both ways to a slip ask, from the live slip on; the slip as it is when it needs no word of
/// the other side.
fn asked(case: &Case<'_>) -> Result<Slip, Outcome> {
    no_live_slip(case)?;
    let reason = case.record.text(tag::REASON_CODE);
    if !REASONS.contains(&reason) {
        return case.out_of_range(tag::REASON_CODE);
    }
    let (status, (amount, tax)) = (&case.status, amounts(case)?);
    let whole = (status.facts.gross, status.facts.vat.unwrap_or(0));
    if reason == ERROR && ((amount, tax) != whole || status.red.amount != 0) {
        return refuse_with(Conflict::WholeAmount, Detail::Amount(status.facts.gross));
    }
    within(amount, status.remainder())?;
    within(tax, tax_remainder(status))?;
    lien_rule(case, amount)?;
    Ok(Slip {
        index: case.index,
        state: SlipState::Confirmed,
        by: case.actor.to_owned(),
        amount,
        tax,
        reference: case.text(tag::REFERENCE),
        deadline: None,
        reason: reason.to_owned(),
    })
}

/// The slip that waits for the actor's word.
fn slip_of_the_other_side<'a>(case: &'a Case<'_>) -> Result<&'a Slip, Outcome> {
    if !case.is_seller() && !case.is_buyer() {
        return refuse(Conflict::NoRight);
    }
    let Some(slip) = &case.status.slip else { return refuse(Conflict::NoSlip) };
    if slip.by == case.actor {
        return refuse(Conflict::SameParty);
    }
    if slip.state != SlipState::Pending {
        return refuse(Conflict::NoSlip);
    }
    match slip.deadline {
        Some(at) if at <= case.now() => refuse_with(Conflict::SlipExpired, Detail::Time(at)),
        _ => Ok(slip),
    }
}

/// Gives the slip its next state; it waits no longer.
fn end_wait(case: &mut Case<'_>, state: SlipState) {
    if let Some(slip) = &mut case.status.slip {
        (slip.state, slip.deadline) = (state, None);
    }
}

/// A consent to red holds for its amount once, not for each red invoice.
fn use_consents(status: &mut Status, amount: i128) {
    for lien in status.financings.iter_mut().filter(|financing| financing.is_live()) {
        lien.red_consent = lien.red_consent.map(|c| c - amount).filter(|left| *left > 0);
    }
}

/// Credits what the event says of lines: what the first says of a line's net amount stands.
fn credit_lines(case: &mut Case<'_>) -> Answer {
    let malformed = |cause| Err(Outcome::Malformed { tag: tag::LINES_RED, cause });
    for entry in entries(case, tag::LINES_RED)? {
        let read = |tag| member(&entry, tag, value::amount_of);
        let (line, of) = (member(&entry, tag::LINE_NUMBER, value::uint_of), read(tag::LINE_OF));
        let (Some(line), Some(of), Some(credited)) = (line, of, read(tag::LINE_RED)) else {
            return malformed(Cause::Missing);
        };
        if line == 0 {
            return malformed(Cause::Range);
        }
        if of < 0 || credited < 0 {
            return malformed(Cause::Sign);
        }
        let known = case.status.red_lines.iter_mut().find(|known| known.line == line);
        match known {
            Some(known) if known.of != of => return malformed(Cause::Range),
            Some(known) => {
                within(credited, of - known.credited)?;
                known.credited += credited;
            }
            None => {
                within(credited, of)?;
                case.must_fit(case.status.red_lines.len())?;
                case.status.red_lines.push(RedLine { line, of, credited });
            }
        }
    }
    Ok(())
}

/// Credits what the event says of rates, each within what the original has of it.
fn credit_rates(case: &mut Case<'_>) -> Answer {
    let malformed = |cause| Err(Outcome::Malformed { tag: tag::VAT_BREAKDOWN, cause });
    for entry in entries(case, tag::VAT_BREAKDOWN)? {
        let read = |tag| member(&entry, tag, value::amount_of).unwrap_or(0);
        let (taxable, tax) = (read(tag::TAXABLE), read(tag::TAX));
        if taxable < 0 || tax < 0 {
            return malformed(Cause::Sign);
        }
        let category = member(&entry, tag::VAT_CATEGORY, Ok);
        let rate = member(&entry, tag::VAT_RATE, value::decimal_of);
        let is_same = |known: &&Rate| {
            known.category.as_deref().map(str::as_bytes) == category && known.rate == rate
        };
        let rates = &case.status.facts.rates;
        let Some(original) = rates.iter().find(is_same).cloned() else {
            return malformed(Cause::Range);
        };
        let of = rates.iter().filter(is_same).fold((0, 0), |sum, rate| add(sum, figures(rate)));
        let known = case.status.red_rates.iter().position(|known| is_same(&known));
        let credited = known.map_or((0, 0), |at| figures(&case.status.red_rates[at]));
        within(taxable, of.0 - credited.0)?;
        within(tax, of.1 - credited.1)?;
        let (taxable, tax) = add(credited, (taxable, tax));
        let credited = Rate { taxable: Some(taxable), tax: Some(tax), ..original };
        match known {
            Some(at) => case.status.red_rates[at] = credited,
            None => case.status.red_rates.push(credited),
        }
    }
    Ok(())
}

fn figures(rate: &Rate) -> (i128, i128) {
    (rate.taxable.unwrap_or(0), rate.tax.unwrap_or(0))
}

fn add(a: (i128, i128), b: (i128, i128)) -> (i128, i128) {
    (a.0 + b.0, a.1 + b.1)
}

/// The entries of a list of the event; none where it has no such list.
fn entries<'a>(case: &Case<'a>, tag: Tag) -> Result<Vec<Members<'a>>, Outcome> {
    let entries = case.record.get(tag).map_or(Ok(Vec::new()), value::entries_of);
    entries.map_err(|flaw| Outcome::of_flaw(tag, flaw))
}

fn member<'a, T>(
    entry: &Members<'a>,
    tag: Tag,
    read: impl Fn(&'a [u8]) -> Result<T, Flaw>,
) -> Option<T> {
    let bytes = entry.iter().find(|(known, _)| *known == tag)?.1;
    read(bytes).ok()
}
