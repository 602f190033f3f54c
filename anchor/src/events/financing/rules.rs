//! What the rows of financing have in common, under the words of the protocol's table: consented,
//! financeable, free, live.
//!
//! Invariants
//! - No answer names another bank. What another holds is a time or a number.

use super::super::{Answer, Case, refuse, refuse_with};
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::ROLE_BANK;
use piaogen_verify::status::{BuyerState, Financing, FinancingState, Origin, Risk, SCOPE_QUERY};

/// A day, in milliseconds.
const DAY_MS: i64 = 86_400_000;

impl Case<'_> {
    /// What the buyer still owes: gross less credited less paid.
    pub(crate) fn owed(&self) -> i128 {
        self.status.remainder() - self.status.paid()
    }

    /// Whether the actor may be told what remains, as a figure.
    pub(crate) fn may_know(&self) -> bool {
        let side = self.is_seller() || self.is_buyer() || self.is_authority();
        side || self.policy().disclose_capacity == 1 && consented(self, SCOPE_QUERY, None).is_ok()
    }
}

/// Whether the seller allows the actor this now; an amount together with all that it has here
/// already, but for the hold that the event opens.
pub(crate) fn consented(case: &Case<'_>, scope: u64, amount: Option<i128>) -> Answer {
    let mut consents = case.status.consents.iter();
    let granted = consents.find(|given| given.bank == case.actor && given.scope & scope != 0);
    let Some(consent) = granted else {
        return refuse(Conflict::NoConsent);
    };
    if consent.expires <= case.now() {
        return refuse_with(Conflict::Expired, Detail::Time(consent.expires));
    }
    match (consent.amount, amount) {
        (Some(limit), Some(amount)) if amount > limit - own(case) => {
            let left = (limit - own(case)).max(0);
            refuse_with(Conflict::AmountExceeded, Detail::Amount(left))
        }
        _ => Ok(()),
    }
}

/// What the actor holds and has financed here, without the hold that the event opens.
fn own(case: &Case<'_>) -> i128 {
    let opened = case.uint(tag::FINANCING);
    let counts = |lien: &&Financing| {
        let is_opened = opened == Some(lien.id) && lien.state == FinancingState::Hold;
        lien.holder == case.actor && !is_opened
    };
    case.status.liens().filter(counts).map(|lien| lien.assigned).sum()
}

/// Whether the actor has any consent that has not ended.
pub(crate) fn has_consent(case: &Case<'_>) -> bool {
    let mut consents = case.status.consents.iter();
    consents.any(|given| given.bank == case.actor && given.expires > case.now())
}

/// *Financeable*: nothing about the invoice itself stands against financing it.
pub(super) fn financeable(case: &Case<'_>, amount: i128) -> Answer {
    let (status, policy) = (&case.status, case.policy());
    let imported = status.origin == Origin::Import && policy.imported_financeable == 0;
    if status.facts.gross <= 0 || imported {
        return refuse(Conflict::NotFinanceable);
    }
    if status.risk != Risk::Normal {
        return refuse(Conflict::Abnormal);
    }
    if let Some(slip) = case.live_slip() {
        return refuse_with(Conflict::SlipLive, Detail::Index(slip.index));
    }
    if let Some(end) = past_due(case).filter(|end| *end <= case.now()) {
        return refuse_with(Conflict::Matured, Detail::Time(end));
    }
    let confirmed = status.confirmation.as_ref().is_some_and(|word| word.amount.is_some());
    if status.buyer_state() == BuyerState::Refused
        || policy.confirmation_required == 1 && !confirmed
    {
        return refuse(Conflict::NotConfirmed);
    }
    if status.liens().any(|lien| lien.state == FinancingState::Defaulted) {
        let liens = Detail::Number(status.liens().count() as u64);
        return refuse_with(Conflict::Encumbered, liens);
    }
    if policy.partial_financing == 0 && amount != status.remainder() {
        if !case.may_know() {
            return refuse(Conflict::NotWhole);
        }
        return refuse_with(Conflict::WholeAmount, Detail::Amount(status.remainder()));
    }
    Ok(())
}

/// The moment at which the due day is past, by the buyer's word or else by the invoice.
pub(super) fn past_due(case: &Case<'_>) -> Option<i64> {
    let confirmed = case.status.confirmation.as_ref().and_then(|word| word.due);
    Some(confirmed.or(case.status.facts.due_date)?.start_ms() + DAY_MS)
}

/// *Free*: nobody else is in the way of a new hold or financing, and there is capacity for it.
pub(super) fn must_be_free(case: &Case<'_>, amount: i128) -> Answer {
    let shares = case.flag(tag::DIVISIBLE);
    let mut in_the_way = others(case).filter(|other| !(other.divisible && shares)).peekable();
    if in_the_way.peek().is_none() {
        return must_be_within(case, amount, case.status.capacity());
    }
    match in_the_way.map(until).try_fold(i64::MIN, |last, at| at.map(|at| at.max(last))) {
        Some(last) => refuse_with(Conflict::Held, Detail::Time(last)),
        None => {
            let liens = Detail::Number(case.status.liens().count() as u64);
            refuse_with(Conflict::Encumbered, liens)
        }
    }
}

/// The amount is within a capacity. How much there is, is told to who may know it.
pub(super) fn must_be_within(case: &Case<'_>, amount: i128, capacity: i128) -> Answer {
    if amount <= capacity {
        return Ok(());
    }
    let held: i128 = others_holds(case).map(|hold| hold.assigned).sum();
    if amount <= capacity + held
        && let Some(last) = others_holds(case).filter_map(until).max()
    {
        return refuse_with(Conflict::Held, Detail::Time(last));
    }
    match case.may_know() {
        true => refuse_with(Conflict::CapacityLeft, Detail::Amount(capacity)),
        false => refuse(Conflict::Capacity),
    }
}

fn others<'a>(case: &'a Case<'_>) -> impl Iterator<Item = &'a Financing> {
    case.status.liens().filter(|lien| lien.holder != case.actor)
}

fn others_holds<'a>(case: &'a Case<'_>) -> impl Iterator<Item = &'a Financing> {
    others(case).filter(|lien| lien.state == FinancingState::Hold)
}

/// When a hold ends by itself; none of a financing.
fn until(lien: &Financing) -> Option<i64> {
    lien.expires.filter(|_| lien.state == FinancingState::Hold)
}

/// The place of the hold or financing with the event's number.
pub(super) fn numbered(case: &Case<'_>) -> Result<usize, Outcome> {
    let id = case.needed(tag::FINANCING, case.uint(tag::FINANCING))?;
    let at = case.status.financings.iter().position(|financing| financing.id == id);
    at.ok_or(Outcome::conflict(Conflict::NoHold))
}

/// Refuses whoever is not the holder.
pub(super) fn assigned_to(case: &Case<'_>, at: usize) -> Answer {
    match case.status.financings[at].holder == case.actor {
        true => Ok(()),
        false => refuse(Conflict::NotHolder),
    }
}

/// *Live*: the financing is not closed, and more than a hold.
pub(super) fn live(case: &Case<'_>, at: usize) -> Answer {
    let financing = &case.status.financings[at];
    match financing.state {
        FinancingState::Open | FinancingState::Defaulted => Ok(()),
        FinancingState::Hold => {
            refuse_with(Conflict::FinancingState, Detail::Index(financing.index))
        }
        FinancingState::Settled | FinancingState::Released => {
            refuse_with(Conflict::AlreadyClosed, Detail::Index(financing.index))
        }
    }
}

/// The place of the actor's hold with the event's number; a hold that ended, by whatever, is a
/// stale token.
pub(super) fn hold_of(case: &Case<'_>) -> Result<usize, Outcome> {
    let at = numbered(case)?;
    assigned_to(case, at)?;
    let hold = &case.status.financings[at];
    match hold.state {
        FinancingState::Hold => Ok(at),
        _ => refuse_with(Conflict::StaleToken, Detail::Index(hold.index)),
    }
}

/// Refuses a party that is no bank.
pub(super) fn must_be_bank(case: &Case<'_>, party: &str) -> Answer {
    let known = case.context.registry.participant(party);
    match known.is_some_and(|participant| participant.roles & ROLE_BANK != 0) {
        true => Ok(()),
        false => Err(Outcome::NotFound),
    }
}
