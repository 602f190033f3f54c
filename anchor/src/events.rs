//! Executes events: what may happen to an invoice, who may do it, and what it changes (PROTOCOL
//! section 7).
//!
//! One function an event, found by its name in the folder's files, each one page: precondition,
//! effect, answer. An event works on a copy of the status; what it refuses changes nothing. What all
//! events have in common stands here: whose act it is, what it is refused for before its own rule
//! is asked, and what lapses by itself.
//!
//! Invariants
//! - Nothing here reads a clock: time is that of the block before.
//! - An event that is refused leaves no trace but its leaf.
//! - After every event the amounts hold (PROTOCOL section 8), or the status says that they do not.

mod authority;
mod booking;
mod buyer;
mod deduction;
mod financing;
mod payment;
mod red;

use crate::alert::{Alert, AlertKind, Recipient};
use crate::shard::Context;
use piaogen_crypto::Digest;
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::entry::Outcome;
use piaogen_verify::event::shape_of;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::genesis::{ROLE_AUDITOR, ROLE_AUTHORITY, ROLE_BANK};
use piaogen_verify::policy::Policy;
use piaogen_verify::record::{Record, RecordKind};
use piaogen_verify::scheme::Scheme;
use piaogen_verify::status::{
    FinancingState, Lifecycle, Origin, SCOPE_QUERY, Slip, SlipState, Status,
};
use piaogen_verify::value::{self, Cause};

/// What an event says of itself.
pub(crate) type Answer = Result<(), Outcome>;

/// Most entries of a list of a status.
const ENTRIES_MAX: usize = value::LIST_MAX as usize;

/// One event on one invoice.
pub(crate) struct Case<'a> {
    /// What the block gives.
    pub(crate) context: &'a Context<'a>,
    /// The event.
    pub(crate) record: &'a Record<'a>,
    /// The commitment of the event.
    pub(crate) commitment: Digest,
    /// The scheme of the invoice.
    pub(crate) scheme: &'a Scheme,
    /// The participant whose act it is.
    pub(crate) actor: &'a str,
    /// His roles.
    pub(crate) roles: u64,
    /// Log index of the event.
    pub(crate) index: u64,
    /// The invoice.
    pub(crate) subject: &'a [u8],
    /// The status, as the event makes it.
    pub(crate) status: Status,
    /// What others must be told.
    pub(crate) alerts: Vec<Alert>,
    /// Numbers of the holds that ended by themselves since the event before.
    pub(crate) lapsed: Vec<u64>,
}

/// Refuses with a conflict whose name says all.
pub(crate) fn refuse<T>(conflict: Conflict) -> Result<T, Outcome> {
    Err(Outcome::conflict(conflict))
}

/// Refuses with a conflict and its detail.
pub(crate) fn refuse_with<T>(conflict: Conflict, detail: Detail) -> Result<T, Outcome> {
    Err(Outcome::conflict_with(conflict, detail))
}

/// Executes the event of a case: the general rules, then its own, then the seal.
pub(crate) fn execute(case: &mut Case<'_>) -> Answer {
    if let Some(first) = case.status.made_by(&case.commitment()) {
        return Err(Outcome::Replay { first });
    }
    case.admit()?;
    case.lapse();
    rule(case.record.kind)(case)?;
    let (index, commitment, secret) = (case.index, case.commitment(), case.record.secret);
    case.status.seal(index, &commitment, &secret);
    Ok(())
}

/// Whether a query is the actor's right; it changes nothing but that it is on record.
pub(crate) fn query(case: &Case<'_>) -> Answer {
    let may = case.roles & (ROLE_AUTHORITY | ROLE_AUDITOR) != 0
        || case.is_seller()
        || case.is_buyer()
        || case.status.financings.iter().any(|financing| financing.holder == case.actor);
    match may {
        true => Ok(()),
        // Of a third party, a bank alone may be allowed to ask; it is told what its consent lacks.
        false if case.roles & ROLE_BANK != 0 => financing::consented(case, SCOPE_QUERY, None),
        false => refuse(Conflict::NoRight),
    }
}

fn rule(kind: RecordKind) -> fn(&mut Case<'_>) -> Answer {
    match kind {
        RecordKind::AddFile => authority::add_file,
        RecordKind::Correct => authority::correct,
        RecordKind::Void => authority::void,
        RecordKind::AuthorityFact => authority::authority_fact,
        RecordKind::RiskMark => authority::risk_mark,
        RecordKind::Freeze => authority::freeze,
        RecordKind::Unfreeze => authority::unfreeze,
        RecordKind::RedRequest => red::red_request,
        RecordKind::SlipOpen => red::slip_open,
        RecordKind::SlipConfirm => red::slip_confirm,
        RecordKind::SlipRefuse => red::slip_refuse,
        RecordKind::SlipWithdraw => red::slip_withdraw,
        RecordKind::SlipExpire => red::slip_expire,
        RecordKind::RedApply => red::red_apply,
        RecordKind::Select => deduction::select,
        RecordKind::Unselect => deduction::unselect,
        RecordKind::ConfirmDeduction => deduction::confirm_deduction,
        RecordKind::TransferOut => deduction::transfer_out,
        RecordKind::NonDeductible => deduction::non_deductible,
        RecordKind::ExportRebate => deduction::export_rebate,
        RecordKind::ExportRollback => deduction::export_rollback,
        RecordKind::ClaimOpen => booking::claim_open,
        RecordKind::ClaimClose => booking::claim_close,
        RecordKind::Book => booking::book,
        RecordKind::Unbook => booking::unbook,
        RecordKind::Archive => booking::archive,
        RecordKind::ConfirmRequest => buyer::confirm_request,
        RecordKind::BuyerConfirm => buyer::buyer_confirm,
        RecordKind::BuyerDispute => buyer::buyer_dispute,
        RecordKind::BuyerRefuse => buyer::buyer_refuse,
        RecordKind::DisputeResolve => buyer::dispute_resolve,
        RecordKind::ConsentGrant => financing::consent_grant,
        RecordKind::ConsentRevoke => financing::consent_revoke,
        RecordKind::FinanceHold => financing::finance_hold,
        RecordKind::HoldCancel => financing::hold_cancel,
        RecordKind::HoldExpire => financing::hold_expire,
        RecordKind::FinanceOpen => financing::finance_open,
        RecordKind::Notice => financing::notice,
        RecordKind::NoticeAck => financing::notice_ack,
        RecordKind::RegistryRef => financing::registry_ref,
        RecordKind::ConsentRed => financing::consent_red,
        RecordKind::Release => financing::release,
        RecordKind::Settle => financing::settle,
        RecordKind::FinanceTransfer => financing::finance_transfer,
        RecordKind::TransferAccept => financing::transfer_accept,
        RecordKind::Default => financing::default,
        RecordKind::Cure => financing::cure,
        RecordKind::Payment => payment::payment,
        RecordKind::PaymentAck => payment::payment_ack,
        RecordKind::Query
        | RecordKind::Issue
        | RecordKind::IssueRed
        | RecordKind::Import
        | RecordKind::Register
        | RecordKind::Rotate
        | RecordKind::Revoke
        | RecordKind::Delegate
        | RecordKind::DelegateEnd
        | RecordKind::Policy
        | RecordKind::Validators => |_| refuse(Conflict::NoRight),
    }
}

/// What winds an invoice down is allowed when it is void or fully credited.
fn winds_down(kind: RecordKind) -> bool {
    matches!(
        kind,
        RecordKind::Unselect
            | RecordKind::TransferOut
            | RecordKind::ClaimClose
            | RecordKind::Unbook
            | RecordKind::HoldCancel
            | RecordKind::HoldExpire
            | RecordKind::ConsentRevoke
            | RecordKind::Release
            | RecordKind::Settle
            | RecordKind::Default
            | RecordKind::Cure
            | RecordKind::PaymentAck
    )
}

/// What may be said of any invoice, red, void or frozen.
fn is_of_the_authorities(kind: RecordKind) -> bool {
    matches!(
        kind,
        RecordKind::AuthorityFact
            | RecordKind::RiskMark
            | RecordKind::Freeze
            | RecordKind::Unfreeze
    )
}

impl<'a> Case<'a> {
    /// What any event is refused for, before its own rule is asked.
    fn admit(&self) -> Answer {
        let kind = self.record.kind;
        let roles = shape_of(kind).map_or(0, |shape| shape.roles);
        if roles != 0 && self.roles & roles == 0 {
            return Err(Outcome::WrongRole);
        }
        if let Some(bytes) = self.record.get(tag::CURRENCY) {
            let (code, exponent) = self.status.facts.currency;
            if bytes != value::currency(code, exponent) {
                return refuse(Conflict::Currency);
            }
        }
        if let Some(seen) = self.uint(tag::EXPECTED_VERSION)
            && seen != self.status.version()
        {
            let version = Detail::Number(self.status.version());
            return refuse_with(Conflict::StaleVersion, version);
        }
        if !self.status.has_room() {
            return refuse_with(Conflict::HistoryFull, Detail::Number(value::HISTORY_MAX));
        }
        if is_of_the_authorities(kind) {
            return Ok(());
        }
        if !self.status.freezes.is_empty() {
            let orders = self.status.freezes.len() as u64;
            return refuse_with(Conflict::Frozen, Detail::Number(orders));
        }
        if self.status.origin == Origin::Red
            && !matches!(kind, RecordKind::AddFile | RecordKind::Correct)
        {
            return refuse(Conflict::RedInvoice);
        }
        match self.status.lifecycle() {
            Lifecycle::Void if !winds_down(kind) => refuse(Conflict::AlreadyVoid),
            Lifecycle::FullRed if !winds_down(kind) => refuse(Conflict::FullyRed),
            _ => Ok(()),
        }
    }

    /// Ends what has ended by itself: holds, claims and slips whose time is over. Consents stay, to
    /// be answered with the time at which they ended.
    fn lapse(&mut self) {
        let now = self.now();
        for hold in &mut self.status.financings {
            if hold.state == FinancingState::Hold && hold.expires.is_some_and(|at| at <= now) {
                hold.state = FinancingState::Released;
                self.lapsed.push(hold.id);
            }
        }
        self.status.claims.retain(|claim| claim.expires > now);
        // A pending slip past its deadline is answered with that deadline, so it is left to the
        // rules of slips; it blocks nothing: see `live_slip`.
    }

    /// Whether a slip is live now: confirmed, or pending before its deadline.
    pub(crate) fn live_slip(&self) -> Option<&Slip> {
        let now = self.now();
        self.status.live_slip().filter(|slip| {
            slip.state == SlipState::Confirmed || slip.deadline.is_none_or(|at| at > now)
        })
    }

    /// The time of the block before.
    pub(crate) fn now(&self) -> i64 {
        self.context.time_ms
    }

    /// The policy of the block.
    pub(crate) fn policy(&self) -> &Policy {
        &self.context.policy
    }

    /// The commitment of the event.
    pub(crate) fn commitment(&self) -> Digest {
        self.commitment
    }

    /// A number of the event.
    pub(crate) fn uint(&self, tag: Tag) -> Option<u64> {
        value::uint_of(self.record.get(tag)?).ok()
    }

    /// A time of the event.
    pub(crate) fn time(&self, tag: Tag) -> Option<i64> {
        value::time_of(self.record.get(tag)?).ok()
    }

    /// An amount of the event, in minor units.
    pub(crate) fn amount(&self, tag: Tag) -> Option<i128> {
        value::amount_of(self.record.get(tag)?).ok()
    }

    /// A text of the event.
    pub(crate) fn text(&self, tag: Tag) -> Option<String> {
        Some(self.record.get(tag).map(|_| self.record.text(tag))?.to_owned())
    }

    /// A digest of the event.
    pub(crate) fn digest(&self, tag: Tag) -> Option<Digest> {
        self.record.get(tag)?.try_into().ok()
    }

    /// A flag of the event.
    pub(crate) fn flag(&self, tag: Tag) -> bool {
        self.record.get(tag).is_some()
    }

    /// A field of the event that its shape requires.
    pub(crate) fn needed<T>(&self, tag: Tag, value: Option<T>) -> Result<T, Outcome> {
        value.ok_or(Outcome::Malformed { tag, cause: Cause::Missing })
    }

    /// A field that is well formed and says what cannot be.
    pub(crate) fn out_of_range<T>(&self, tag: Tag) -> Result<T, Outcome> {
        Err(Outcome::Malformed { tag, cause: Cause::Range })
    }

    /// Whether the actor is an authority.
    pub(crate) fn is_authority(&self) -> bool {
        self.roles & ROLE_AUTHORITY != 0
    }

    /// Whether the actor is the seller.
    pub(crate) fn is_seller(&self) -> bool {
        self.status.facts.seller == self.actor
    }

    /// Whether the actor is the buyer.
    pub(crate) fn is_buyer(&self) -> bool {
        self.status.facts.buyer.as_deref() == Some(self.actor)
    }

    /// Refuses whoever is not the seller.
    pub(crate) fn must_be_seller(&self) -> Answer {
        if self.is_seller() { Ok(()) } else { refuse(Conflict::NotSeller) }
    }

    /// Refuses whoever is not the buyer.
    pub(crate) fn must_be_buyer(&self) -> Answer {
        if self.is_buyer() { Ok(()) } else { refuse(Conflict::NotBuyer) }
    }

    /// Refuses one more entry of a list that is full.
    pub(crate) fn must_fit(&self, entries: usize) -> Answer {
        match entries < ENTRIES_MAX {
            true => Ok(()),
            false => refuse_with(Conflict::TooMany, Detail::Number(ENTRIES_MAX as u64)),
        }
    }

    /// Tells somebody.
    pub(crate) fn alert(&mut self, kind: AlertKind, to: Recipient) {
        let (subject, log_index) = (self.subject.to_vec(), self.index);
        self.alerts.push(Alert { kind, to, subject, log_index });
    }

    /// Tells every holder of a lien.
    pub(crate) fn alert_holders(&mut self, kind: AlertKind) {
        let mut holders: Vec<String> =
            self.status.liens().map(|lien| lien.holder.clone()).collect();
        holders.sort_unstable();
        holders.dedup();
        for holder in holders {
            self.alert(kind, Recipient::Party(holder));
        }
    }

    /// Tells the seller and the buyer, but not the actor himself.
    pub(crate) fn alert_sides(&mut self, kind: AlertKind) {
        let facts = &self.status.facts;
        let (sides, actor) = ([Some(facts.seller.clone()), facts.buyer.clone()], self.actor);
        for side in sides.into_iter().flatten().filter(|side| side != actor) {
            self.alert(kind, Recipient::Party(side));
        }
    }

    /// Tells lien holders where less is left than they must have.
    pub(crate) fn alert_shortfall(&mut self) {
        if self.status.face().over_financed {
            self.alert_holders(AlertKind::OverFinanced);
        }
    }

    /// What changed amounts leave behind: tells lien holders of a status that is over-financed, and
    /// units of one that is over-booked. To be called by whatever lowers what remains.
    pub(crate) fn alert_excess(&mut self) {
        self.alert_shortfall();
        if self.status.booked() > self.status.remainder() {
            let units: Vec<String> =
                self.status.bookings.iter().map(|booking| booking.unit.clone()).collect();
            for unit in units {
                self.alert(AlertKind::OverBooked, Recipient::Party(unit));
            }
        }
    }
}

#[cfg(test)]
mod tests;
