//! Payments on the invoice, and their acknowledgement.
//!
//! A payment to the wrong account is recorded like any other: it happened. Who is owed the money
//! is told.

use super::{Answer, Case, refuse, refuse_with};
use crate::alert::{AlertKind, Recipient};
use piaogen_crypto::Digest;
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::ROLE_BANK;
use piaogen_verify::status::{Financing, Payment};

/// The buyer or a bank says what was paid, once for each reference of its own.
pub(super) fn payment(case: &mut Case<'_>) -> Answer {
    if case.roles & ROLE_BANK == 0 && !case.is_buyer() {
        return refuse(Conflict::NoRight);
    }
    let amount = case.needed(tag::AMOUNT, case.amount(tag::AMOUNT))?;
    let reference = case.record.text(tag::REFERENCE);
    let mut payments = case.status.payments.iter();
    if let Some(same) = payments.find(|said| said.by == case.actor && said.reference == reference) {
        return refuse_with(Conflict::AlreadyDone, Detail::Index(same.index));
    }
    let owed = case.owed();
    if amount > owed {
        if !case.may_know() {
            return refuse(Conflict::MoreThanOwed);
        }
        return refuse_with(Conflict::Overpaid, Detail::Amount(owed));
    }
    case.must_fit(case.status.payments.len())?;
    let bound = bound_account(case);
    let wrong_payee = bound.is_some() && bound != case.digest(tag::ACCOUNT);
    case.status.payments.push(Payment {
        index: case.index,
        by: case.actor.to_owned(),
        amount,
        reference: reference.to_owned(),
        acknowledged: None,
        wrong_payee,
    });
    repay(case, amount);
    case.alert_shortfall();
    if wrong_payee {
        let seller = case.status.facts.seller.clone();
        case.alert(AlertKind::WrongPayee, Recipient::Party(seller));
        case.alert_holders(AlertKind::WrongPayee);
    }
    Ok(())
}

/// Who was to be paid says that he was. Where payers used the same reference, the first payment
/// that nobody acknowledged.
pub(super) fn payment_ack(case: &mut Case<'_>) -> Answer {
    let holds = case.status.financings.iter().any(|financing| financing.holder == case.actor);
    if !case.is_seller() && !holds {
        return refuse(Conflict::NoRight);
    }
    let (reference, index) = (case.record.text(tag::REFERENCE), case.index);
    let mut before = None;
    let payments = case.status.payments.iter_mut();
    for payment in payments.filter(|payment| payment.reference == reference) {
        match payment.acknowledged {
            Some(done) => before = Some(done),
            None => {
                payment.acknowledged = Some(index);
                return Ok(());
            }
        }
    }
    match before {
        Some(done) => refuse_with(Conflict::AlreadyDone, Detail::Index(done)),
        None => refuse(Conflict::UnknownPayment),
    }
}

/// What is paid to the account of a live financing of which the buyer was told, its holder has: the
/// one told of last first, where one account is that of several.
fn repay(case: &mut Case<'_>, amount: i128) {
    let Some(account) = case.digest(tag::ACCOUNT) else { return };
    let mut told: Vec<&mut Financing> = case
        .status
        .financings
        .iter_mut()
        .filter(|lien| lien.is_live() && lien.noticed.is_some() && lien.account == Some(account))
        .collect();
    told.sort_unstable_by_key(|lien| std::cmp::Reverse(lien.noticed));
    let mut rest = amount;
    for lien in told {
        let repaid = lien.repaid.unwrap_or(0);
        let part = rest.min(lien.assigned - repaid);
        if part > 0 {
            lien.repaid = Some(repaid + part);
            rest -= part;
        }
    }
}

/// The account to be paid to: that of the live financing of which the buyer was told last, else
/// the one that he named himself.
fn bound_account(case: &Case<'_>) -> Option<Digest> {
    let told = case.status.liens().filter(|lien| lien.account.is_some() && lien.noticed.is_some());
    match told.max_by_key(|lien| lien.noticed) {
        Some(lien) => lien.account,
        None => case.status.confirmation.as_ref().and_then(|word| word.account),
    }
}
