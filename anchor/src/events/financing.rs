//! Consents, holds and financings: who may lend how much, and who comes second.
//!
//! A bank lends in two steps where it wants to be sure: it holds capacity for a while, then opens
//! the financing with the hold's number. The number is a fencing token: once the hold has ended,
//! whoever still has the number can do nothing with it. What the rows of the protocol's table have
//! in common stands in `rules`, under the table's words.
//!
//! Invariants
//! - Holds and financings stay in the status when they are closed, so that numbers are never used
//!   twice.
//! - No new hold or financing takes more than the capacity.

mod rules;

use self::rules::{assigned_to, hold_of, must_be_bank, must_be_free, must_be_within};
use self::rules::{financeable, live, numbered, past_due};
use super::{Answer, Case, refuse, refuse_with};
use crate::alert::{AlertKind, Recipient};
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::tag;
use piaogen_verify::status::{
    Consent, External, Financing, FinancingState, Form, SCOPE_FINANCE, SCOPE_HOLD, SCOPES,
};

pub(super) use self::rules::{consented, has_consent};

/// The seller allows a bank to ask, to hold or to finance, until a time.
pub(super) fn consent_grant(case: &mut Case<'_>) -> Answer {
    case.must_be_seller()?;
    let bank = case.record.text(tag::ACTOR);
    must_be_bank(case, bank)?;
    let scope = case.needed(tag::SCOPE, case.uint(tag::SCOPE))?;
    if scope == 0 || scope & !SCOPES != 0 {
        return case.out_of_range(tag::SCOPE);
    }
    let expires = case.needed(tag::EXPIRES, case.time(tag::EXPIRES))?;
    if expires <= case.now() {
        return refuse_with(Conflict::Expired, Detail::Time(expires));
    }
    let (index, amount) = (case.index, case.amount(tag::AMOUNT));
    let consent = Consent { index, bank: bank.to_owned(), amount, expires, scope };
    if let Some(before) = case.status.consents.iter_mut().find(|before| before.bank == bank) {
        *before = consent;
        return Ok(());
    }
    case.must_fit(case.status.consents.len())?;
    case.status.consents.push(consent);
    Ok(())
}

/// The seller takes a consent back; what was financed under it stays.
pub(super) fn consent_revoke(case: &mut Case<'_>) -> Answer {
    case.must_be_seller()?;
    let (consents, bank) = (&mut case.status.consents, case.record.text(tag::ACTOR));
    match consents.iter().position(|consent| consent.bank == bank) {
        Some(at) => consents.remove(at),
        None => return refuse(Conflict::NoConsent),
    };
    Ok(())
}

/// A bank reserves capacity, until a time.
pub(super) fn finance_hold(case: &mut Case<'_>) -> Answer {
    let amount = case.needed(tag::AMOUNT, case.amount(tag::AMOUNT))?;
    consented(case, SCOPE_HOLD, Some(amount))?;
    let expires = case.needed(tag::EXPIRES, case.time(tag::EXPIRES))?;
    within_hold_max(case, expires)?;
    financeable(case, amount)?;
    must_be_free(case, amount)?;
    let (state, expires) = (FinancingState::Hold, Some(expires));
    let financing = Financing { state, expires, ..next(case, amount)? };
    case.status.financings.push(financing);
    Ok(())
}

fn within_hold_max(case: &Case<'_>, expires: i64) -> Answer {
    let (now, limit) = (case.now(), case.policy().hold_max_ms);
    if expires <= now {
        return case.out_of_range(tag::EXPIRES);
    }
    let value = expires.abs_diff(now);
    if value > limit {
        return Err(Outcome::Limit { tag: tag::EXPIRES, value, limit });
    }
    Ok(())
}

/// A bank gives its hold back.
pub(super) fn hold_cancel(case: &mut Case<'_>) -> Answer {
    let at = hold_of(case)?;
    case.status.financings[at].state = FinancingState::Released;
    Ok(())
}

/// Anybody notes that a hold has ended by itself.
pub(super) fn hold_expire(case: &mut Case<'_>) -> Answer {
    let hold = &case.status.financings[numbered(case)?];
    if let Some(expires) = hold.expires.filter(|expires| *expires > case.now()) {
        return refuse_with(Conflict::NotDue, Detail::Time(expires));
    }
    // What has ended by now was released before this rule was asked; here it is only noted.
    match case.lapsed.contains(&hold.id) {
        true => Ok(()),
        false => refuse_with(Conflict::StaleToken, Detail::Index(hold.index)),
    }
}

/// A bank finances: out of its hold, or at once.
pub(super) fn finance_open(case: &mut Case<'_>) -> Answer {
    let amount = case.needed(tag::AMOUNT, case.amount(tag::AMOUNT))?;
    consented(case, SCOPE_FINANCE, Some(amount))?;
    let advanced = case.needed(tag::ADVANCED, case.amount(tag::ADVANCED))?;
    if advanced > amount {
        return case.out_of_range(tag::ADVANCED);
    }
    let Some(form) = Form::from_name(case.record.text(tag::FORM)) else {
        return case.out_of_range(tag::FORM);
    };
    let at = match case.flag(tag::FINANCING) {
        true => reserved(case, amount)?,
        false => unreserved(case, amount)?,
    };
    let account = case.digest(tag::ACCOUNT);
    let financing = &mut case.status.financings[at];
    financing.state = FinancingState::Open;
    financing.assigned = amount;
    financing.form = Some(form);
    financing.advanced = Some(advanced);
    financing.expires = None;
    financing.account = account;
    case.alert_sides(AlertKind::Financed);
    Ok(())
}

/// The place of the hold that is opened. What it reserved may be gone by an authority's fact, a red
/// invoice, a payment or a dispute: then there is no capacity for it.
fn reserved(case: &Case<'_>, amount: i128) -> Result<usize, Outcome> {
    let at = hold_of(case)?;
    let held = case.status.financings[at].assigned;
    if amount > held {
        return refuse_with(Conflict::AmountExceeded, Detail::Amount(held));
    }
    financeable(case, amount)?;
    must_be_within(case, amount, case.status.capacity() + held)?;
    Ok(at)
}

/// The place of a new financing without a hold.
fn unreserved(case: &mut Case<'_>, amount: i128) -> Result<usize, Outcome> {
    financeable(case, amount)?;
    must_be_free(case, amount)?;
    let financing = next(case, amount)?;
    case.status.financings.push(financing);
    Ok(case.status.financings.len() - 1)
}

/// A hold or financing of the actor with the next number.
fn next(case: &Case<'_>, amount: i128) -> Result<Financing, Outcome> {
    case.must_fit(case.status.financings.len())?;
    Ok(Financing {
        index: case.index,
        state: FinancingState::Open,
        holder: case.actor.to_owned(),
        assigned: amount,
        id: case.status.financings.last().map_or(1, |last| last.id + 1),
        form: None,
        advanced: None,
        expires: None,
        divisible: case.flag(tag::DIVISIBLE),
        noticed: None,
        acknowledged: None,
        account: None,
        offered_to: None,
        red_consent: None,
        repaid: None,
        external: Vec::new(),
    })
}

/// The buyer is told of the assignment, and where to pay.
pub(super) fn notice(case: &mut Case<'_>) -> Answer {
    let at = numbered(case)?;
    if !case.is_seller() {
        assigned_to(case, at)?;
    }
    live(case, at)?;
    let (index, account) = (case.index, case.digest(tag::ACCOUNT));
    let financing = &mut case.status.financings[at];
    if let Some(noticed) = financing.noticed {
        return refuse_with(Conflict::AlreadyNotified, Detail::Index(noticed));
    }
    financing.noticed = Some(index);
    financing.account = account.or(financing.account);
    if let Some(buyer) = case.status.facts.buyer.clone() {
        case.alert(AlertKind::Noticed, Recipient::Party(buyer));
    }
    Ok(())
}

/// The buyer takes note of the assignment.
pub(super) fn notice_ack(case: &mut Case<'_>) -> Answer {
    case.must_be_buyer()?;
    let (at, index) = (numbered(case)?, case.index);
    live(case, at)?;
    let financing = &mut case.status.financings[at];
    match (financing.noticed, financing.acknowledged) {
        (None, _) => refuse(Conflict::NotNotified),
        (_, Some(done)) => refuse_with(Conflict::AlreadyDone, Detail::Index(done)),
        (_, None) => {
            financing.acknowledged = Some(index);
            Ok(())
        }
    }
}

/// The holder names the number under which the financing stands in an external registry.
pub(super) fn registry_ref(case: &mut Case<'_>) -> Answer {
    let at = own(case)?;
    let (system, number) = (case.record.text(tag::SYSTEM), case.record.text(tag::REFERENCE));
    let known = &case.status.financings[at].external;
    if let Some(same) = known.iter().find(|other| other.system == system && other.number == number)
    {
        return refuse_with(Conflict::AlreadyDone, Detail::Index(same.index));
    }
    case.must_fit(known.len())?;
    let external = External {
        index: case.index,
        at: case.now(),
        number: number.to_owned(),
        digest: case.digest(tag::DIGEST),
        system: system.to_owned(),
    };
    case.status.financings[at].external.push(external);
    Ok(())
}

/// The holder lets the invoice be credited by so much.
pub(super) fn consent_red(case: &mut Case<'_>) -> Answer {
    let at = numbered(case)?;
    assigned_to(case, at)?;
    if case.status.financings[at].state != FinancingState::Hold {
        live(case, at)?;
    }
    let amount = case.needed(tag::AMOUNT, case.amount(tag::AMOUNT))?;
    let remainder = case.status.remainder();
    if amount > remainder {
        return refuse_with(Conflict::AmountExceeded, Detail::Amount(remainder));
    }
    case.status.financings[at].red_consent = Some(amount);
    Ok(())
}

/// The holder gives back a part of what is assigned, or all.
pub(super) fn release(case: &mut Case<'_>) -> Answer {
    let at = own(case)?;
    let asked = case.amount(tag::AMOUNT);
    let financing = &mut case.status.financings[at];
    let amount = asked.unwrap_or(financing.assigned);
    if amount > financing.assigned {
        return refuse_with(Conflict::AmountExceeded, Detail::Amount(financing.assigned));
    }
    match amount == financing.assigned {
        true => financing.state = FinancingState::Released,
        false => financing.assigned -= amount,
    }
    financing.repaid = financing.repaid.map(|paid| paid - amount).filter(|left| *left > 0);
    Ok(())
}

/// The holder has its money back.
pub(super) fn settle(case: &mut Case<'_>) -> Answer {
    let at = own(case)?;
    case.status.financings[at].state = FinancingState::Settled;
    Ok(())
}

/// The holder offers the financing to another bank.
pub(super) fn finance_transfer(case: &mut Case<'_>) -> Answer {
    let at = own(case)?;
    let bank = case.record.text(tag::ACTOR);
    must_be_bank(case, bank)?;
    if bank == case.actor {
        return refuse(Conflict::SameParty);
    }
    case.status.financings[at].offered_to = Some(bank.to_owned());
    case.alert(AlertKind::Offered, Recipient::Party(bank.to_owned()));
    Ok(())
}

/// The other bank takes the financing over. The buyer was told to pay the bank before, so he is to
/// be told again.
pub(super) fn transfer_accept(case: &mut Case<'_>) -> Answer {
    let at = numbered(case)?;
    let (actor, financing) = (case.actor, &mut case.status.financings[at]);
    if !financing.is_live() {
        return refuse_with(Conflict::AlreadyClosed, Detail::Index(financing.index));
    }
    if financing.offered_to.as_deref() != Some(actor) {
        return refuse(Conflict::NotOffered);
    }
    financing.holder = actor.to_owned();
    financing.offered_to = None;
    financing.noticed = None;
    financing.acknowledged = None;
    financing.account = None;
    Ok(())
}

/// The holder was not paid when it was due.
pub(super) fn default(case: &mut Case<'_>) -> Answer {
    let at = own(case)?;
    let financing = &case.status.financings[at];
    if financing.state == FinancingState::Defaulted {
        return refuse_with(Conflict::AlreadyDone, Detail::Index(financing.index));
    }
    if let Some(end) = past_due(case).filter(|end| *end > case.now()) {
        return refuse_with(Conflict::NotDue, Detail::Time(end));
    }
    case.status.financings[at].state = FinancingState::Defaulted;
    case.alert_sides(AlertKind::InDefault);
    Ok(())
}

/// The holder was paid after all, or waits.
pub(super) fn cure(case: &mut Case<'_>) -> Answer {
    let at = own(case)?;
    let financing = &mut case.status.financings[at];
    if financing.state != FinancingState::Defaulted {
        return refuse_with(Conflict::FinancingState, Detail::Index(financing.index));
    }
    financing.state = FinancingState::Open;
    Ok(())
}

/// The place of the live financing of the actor that the event names.
fn own(case: &Case<'_>) -> Result<usize, Outcome> {
    let at = numbered(case)?;
    assigned_to(case, at)?;
    live(case, at)?;
    Ok(at)
}
