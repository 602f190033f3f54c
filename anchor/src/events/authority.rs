//! The authority's events: files, corrections, void, facts, risk, freezes.
//!
//! What the authority asks for (`void`) can be refused; what it says has happened elsewhere
//! (`authority_fact`) is recorded against liens and freezes too, and who is hit is told.
//!
//! Invariants
//! - Only the same fact twice, or one that contradicts an earlier one, is no new fact.

use super::red::{no_live_slip, tax_remainder};
use super::{Answer, Case, refuse, refuse_with};
use crate::alert::AlertKind;
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::{DOCUMENT, Kind, Tag, by_tag, tag};
use piaogen_verify::status::{
    AuthorityFact, Correction, DeductionState, Fact, File, Freeze, RedInvoice, Risk,
};
use piaogen_verify::value::Cause;

/// Texts that say what the invoice is, who its parties are or what it is worth: number, type, tax
/// currency, tax point, names and ids of the parties, scheme, legacy code, type of VAT invoice.
const IMMUTABLE: &[Tag] = &[
    1, 3, 6, 8, 27, 28, 30, 31, 32, 34, 44, 45, 47, 48, 49, 59, 60, 61, 62, 63, 90, 91, 2001, 2002,
    2006, 2007, 2020,
];
/// The notes of an invoice: the one list that can be corrected.
const NOTES: Tag = 1001;

pub(super) fn add_file(case: &mut Case<'_>) -> Answer {
    if !case.is_authority() {
        case.must_be_seller()?;
    }
    let digest = case.needed(tag::DIGEST, case.digest(tag::DIGEST))?;
    if let Some(file) = case.status.files.iter().find(|file| file.digest == digest) {
        return refuse_with(Conflict::AlreadyDone, Detail::Index(file.index));
    }
    case.must_fit(case.status.files.len())?;
    case.status.files.push(File { index: case.index, digest });
    Ok(())
}

pub(super) fn correct(case: &mut Case<'_>) -> Answer {
    let field = case.needed(tag::FIELD, case.uint(tag::FIELD))?;
    if !is_correctable(field) {
        return refuse_with(Conflict::ImmutableField, Detail::Number(field));
    }
    case.must_fit(case.status.corrections.len())?;
    let text = case.needed(tag::TEXT, case.text(tag::TEXT))?;
    case.status.corrections.push(Correction { index: case.index, field, text });
    Ok(())
}

/// Whether a field is neither value, party nor date. What is no text is one of them, or evidence.
fn is_correctable(field: u64) -> bool {
    let known = Tag::try_from(field).ok().and_then(|tag| by_tag(DOCUMENT, tag));
    known.is_some_and(|field| match field.kind {
        Kind::Text(_) | Kind::Ascii(_) => !IMMUTABLE.contains(&field.tag),
        _ => field.tag == NOTES,
    })
}

pub(super) fn void(case: &mut Case<'_>) -> Answer {
    if !case.scheme.voidable {
        return refuse(Conflict::NotVoidable);
    }
    no_live_slip(case)?;
    let liens = case.status.liens().count() as u64;
    if liens != 0 && case.policy().lien_blocks == 1 {
        return refuse_with(Conflict::Encumbered, Detail::Number(liens));
    }
    let status = &case.status;
    if status.deduction_state() != DeductionState::Unselected
        || !status.bookings.is_empty()
        || !status.claims.is_empty()
        || status.red.amount != 0
    {
        return refuse(Conflict::InUse);
    }
    case.status.void = true;
    case.alert_holders(AlertKind::LienHit);
    case.alert_excess();
    Ok(())
}

pub(super) fn authority_fact(case: &mut Case<'_>) -> Answer {
    let Some(fact) = Fact::from_name(case.record.text(tag::FACT)) else {
        return case.out_of_range(tag::FACT);
    };
    let reference = case.record.text(tag::REFERENCE);
    let (amount, tax) = (case.amount(tag::AMOUNT), case.amount(tag::TAX_AMOUNT));
    let said = &case.status.authority_facts;
    if let Some(same) = said.iter().find(|s| s.fact == fact && s.reference == reference) {
        let agrees = (same.amount, same.tax) == (amount, tax);
        let conflict = if agrees { Conflict::AlreadyDone } else { Conflict::Contradicts };
        return refuse_with(conflict, Detail::Index(same.index));
    }
    match fact {
        Fact::Red => red_elsewhere(case)?,
        Fact::Void => void_elsewhere(case)?,
    }
    case.must_fit(case.status.authority_facts.len())?;
    let (index, breach) = (case.index, case.status.liens().next().is_some());
    let reference = reference.to_owned();
    case.status.authority_facts.push(AuthorityFact { index, amount, tax, reference, fact, breach });
    case.alert_holders(AlertKind::LienHit);
    case.alert_excess();
    Ok(())
}

/// A red invoice that was issued elsewhere: credits what is left of it to credit.
fn red_elsewhere(case: &mut Case<'_>) -> Answer {
    if case.status.void {
        // A void that was an event of its own left no fact to point at.
        let void = case.status.authority_facts.iter().find(|said| said.fact == Fact::Void);
        return void.map_or(refuse(Conflict::AlreadyVoid), |void| {
            refuse_with(Conflict::Contradicts, Detail::Index(void.index))
        });
    }
    let amount = case.needed(tag::AMOUNT, case.amount(tag::AMOUNT))?;
    let amount = amount.min(case.status.remainder());
    let tax = case.record.amount(tag::TAX_AMOUNT).min(tax_remainder(&case.status));
    if let Some(number) = case.text(tag::RED_NUMBER) {
        let known = &case.status.red_invoices;
        if let Some(known) = known.iter().find(|known| known.number == number) {
            return refuse_with(Conflict::AlreadyDone, Detail::Index(known.index));
        }
        case.must_fit(known.len())?;
        let (index, digest) = (case.index, None);
        case.status.red_invoices.push(RedInvoice { index, amount, tax, digest, number });
    }
    case.status.red.amount += amount;
    case.status.red.tax += tax;
    Ok(())
}

/// A void that happened elsewhere; it takes the whole, so that an amount has no sense.
fn void_elsewhere(case: &mut Case<'_>) -> Answer {
    let senseless = [tag::AMOUNT, tag::TAX_AMOUNT, tag::RED_NUMBER];
    if let Some(tag) = senseless.into_iter().find(|tag| case.flag(*tag)) {
        return Err(Outcome::Malformed { tag, cause: Cause::NotAllowed });
    }
    case.status.void = true;
    Ok(())
}

pub(super) fn risk_mark(case: &mut Case<'_>) -> Answer {
    let Some(risk) = Risk::from_name(case.record.text(tag::MARK)) else {
        return case.out_of_range(tag::MARK);
    };
    case.status.risk = risk;
    if risk != Risk::Normal {
        case.alert_holders(AlertKind::RiskMarked);
    }
    Ok(())
}

pub(super) fn freeze(case: &mut Case<'_>) -> Answer {
    let order = case.record.text(tag::REFERENCE);
    let freezes = &case.status.freezes;
    if let Some(known) = freezes.iter().find(|f| f.by == case.actor && f.order == order) {
        return refuse_with(Conflict::AlreadyDone, Detail::Index(known.index));
    }
    case.must_fit(freezes.len())?;
    let (by, order, digest) = (case.actor.to_owned(), order.to_owned(), case.digest(tag::DIGEST));
    case.status.freezes.push(Freeze { index: case.index, by, order, digest });
    case.alert_holders(AlertKind::Frozen);
    Ok(())
}

pub(super) fn unfreeze(case: &mut Case<'_>) -> Answer {
    let order = case.record.text(tag::REFERENCE);
    let freezes = &mut case.status.freezes;
    if !freezes.iter().any(|known| known.order == order) {
        return refuse(Conflict::OrderUnknown);
    }
    // Two courts may number their orders alike.
    match freezes.iter().position(|known| known.order == order && known.by == case.actor) {
        Some(at) => {
            freezes.remove(at);
            Ok(())
        }
        None => refuse(Conflict::NotYourOrder),
    }
}
