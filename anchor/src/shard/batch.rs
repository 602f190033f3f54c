//! One block's records on one shard, while they are executed: what is known of numbers and
//! statuses, and what becomes of them.
//!
//! Storage is asked once for all records together, before the first; digests of all new statuses
//! are computed together, after the last. Between the two, records only meet maps.
//!
//! Invariants
//! - Every accepted event gives a status of its own, even where another follows in the same block.
//! - A status that is written last is the one that storage gets.

use super::{Context, Effects, Index, Place, Wait};
use crate::alert::{Alert, AlertKind, Recipient};
use crate::events::{self, Case};
use ahash::RandomState;
use piaogen_crypto::Digest;
use piaogen_verify::checked::{Checked, CheckedBatch};
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::document::{COMMITMENT_PREFIX, Committer, Fields, Secret};
use piaogen_verify::encoding::Reader;
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::opening;
use piaogen_verify::record::{self, Class, Record, RecordKind};
use piaogen_verify::scheme::Scheme;
use piaogen_verify::status::{Facts, Lifecycle, Origin, STATUS_PREFIX, SlipState, Status, ZERO};
use std::collections::{BTreeMap, HashMap};

/// Where numbers were used first. Numbers come from outside, hence a keyed hash.
type Known<'a> = HashMap<&'a [u8], Place, RandomState>;

/// The status digest that a leaf says.
#[derive(Clone, Copy, Debug)]
pub(super) enum StatusOf {
    /// Untouched, or not of an invoice.
    Untouched,
    /// The digest that stands in the tree before the block.
    Before(u64),
    /// The status made by the event of this number in the block.
    Made(usize),
}

/// A status in the block.
struct Touched {
    status: Status,
    /// The digest before the block, or the number of the event that made it.
    of: StatusOf,
}

/// A status as the committer takes it: secret and fields.
type View<'a> = (Secret, &'a [(Tag, Vec<u8>)]);

/// A status that an event made: what its digest is of.
struct Made {
    issue: u64,
    secret: Secret,
    fields: Fields,
}

/// The records of one block on one shard.
pub(super) struct Batch<'a> {
    context: &'a Context<'a>,
    batch: &'a CheckedBatch,
    first_log: u64,
    first_issue: u64,
    known: Known<'a>,
    ids: Vec<(&'a [u8], Place)>,
    before: HashMap<u64, (Status, Digest)>,
    touched: HashMap<u64, Touched>,
    made: Vec<Made>,
    /// Issue index of what each accepted record was about.
    issues: Vec<Option<u64>>,
    alerts: Vec<Alert>,
    /// What was due before the first record.
    due: Vec<Wait>,
    /// What begins to wait.
    waits: Vec<Wait>,
}

impl<'a> Batch<'a> {
    /// Asks storage for all that the records need. `first` is where the log and the issue indices
    /// of the shard stand.
    pub(super) fn begin<I: Index>(
        context: &'a Context<'a>,
        index: &I,
        batch: &'a CheckedBatch,
        refusals: &[Option<Outcome>],
        first: (u64, u64),
    ) -> Result<Batch<'a>, I::Error> {
        let known = find_known(index, batch, refusals)?;
        let events = batch.records.iter().zip(refusals).filter(|(record, refusal)| {
            refusal.is_none() && record.kind.is_some_and(|kind| kind.class() == Class::Event)
        });
        let mut issues: Vec<u64> = events
            .filter_map(|(record, _)| Some(known.get(batch.subject(record))?.issue_index))
            .collect();
        let due = index.waits(context.time_ms)?;
        issues.extend(due.iter().map(|wait| wait.issue_index));
        issues.sort_unstable();
        issues.dedup();
        let leaves: Vec<(u8, u64)> = issues.iter().map(|issue| (0, *issue)).collect();
        let (statuses, digests) = (index.statuses(&issues)?, index.status_nodes(&leaves)?);
        let found = issues.into_iter().zip(statuses).zip(digests);
        let before = found
            .filter_map(|((issue, status), digest)| Some((issue, (status?, digest))))
            .collect();
        Ok(Batch {
            context,
            batch,
            first_log: first.0,
            first_issue: first.1,
            known,
            ids: Vec::new(),
            before,
            touched: HashMap::new(),
            made: Vec::new(),
            issues: Vec::with_capacity(batch.records.len()),
            alerts: Vec::new(),
            due,
            waits: Vec::new(),
        })
    }

    /// Warns those whose slips are due for it, as things stood after the block before: so it does
    /// not matter which records share a block.
    pub(super) fn warn(&mut self) {
        for wait in &self.due {
            if let Some((status, _)) = self.before.get(&wait.issue_index) {
                warn(status, wait, self.context.time_ms, &mut self.alerts);
            }
        }
    }

    /// Executes the record of this number, unless it is refused already.
    pub(super) fn execute(
        &mut self,
        number: usize,
        record: &Checked,
        refusal: Option<Outcome>,
    ) -> (Outcome, StatusOf) {
        let log_index = self.first_log + number as u64;
        self.issues.push(None);
        if let Some(outcome) = refusal {
            return (outcome, StatusOf::Untouched);
        }
        match record.kind {
            Some(kind) if kind.class() == Class::Event => self.event(record, log_index),
            kind => (self.issue(record, kind, log_index), StatusOf::Untouched),
        }
    }

    fn issue(&mut self, record: &Checked, kind: Option<RecordKind>, log_index: u64) -> Outcome {
        let subject = self.batch.subject(record);
        if let Some(first) = self.known.get(subject) {
            if first.commitment == record.commitment {
                return Outcome::Replay { first: first.log_index };
            }
            let (kind, to) = (AlertKind::DupDifferent, Recipient::Authorities);
            self.alerts.push(Alert { kind, to, subject: subject.to_vec(), log_index });
            return Outcome::DupDifferent { first: first.log_index, commitment: first.commitment };
        }
        let place = Place {
            log_index,
            issue_index: self.first_issue + self.ids.len() as u64,
            commitment: record.commitment,
            origin: match kind {
                Some(RecordKind::IssueRed) => Origin::Red,
                Some(RecordKind::Import) => Origin::Import,
                _ => Origin::Blue,
            },
        };
        self.known.insert(subject, place);
        self.ids.push((subject, place));
        self.note(place.issue_index);
        Outcome::Accepted
    }

    fn note(&mut self, issue: u64) {
        if let Some(last) = self.issues.last_mut() {
            *last = Some(issue);
        }
    }

    fn event(&mut self, record: &Checked, log_index: u64) -> (Outcome, StatusOf) {
        let subject = self.batch.subject(record);
        let Some(place) = self.known.get(subject).copied() else {
            return (Outcome::NotFound, StatusOf::Untouched);
        };
        let issue = place.issue_index;
        let stands = self.stands(issue);
        let decoded = match record::decode(self.batch.bytes(record)) {
            Ok(decoded) => decoded,
            Err(unreadable) => {
                return (Outcome::of_flaw(unreadable.tag, unreadable.flaw), stands);
            }
        };
        match self.run(record, &decoded, place, log_index) {
            Err(outcome) => (outcome, stands),
            Ok(None) => {
                self.note(issue);
                (Outcome::Accepted, stands)
            }
            Ok(Some(status)) => {
                if decoded.kind == RecordKind::SlipOpen {
                    self.wait(&status, issue, subject);
                }
                let of = StatusOf::Made(self.made.len());
                let (secret, fields) = (status.secret, status.fields());
                self.made.push(Made { issue, secret, fields });
                self.touched.insert(issue, Touched { status, of });
                self.note(issue);
                (Outcome::Accepted, of)
            }
        }
    }

    /// Notes when the parties of a fresh slip are to be warned; that may be at once.
    fn wait(&mut self, status: &Status, issue_index: u64, subject: &[u8]) {
        let Some(slip) = &status.slip else { return };
        let Some(deadline) = slip.deadline else { return };
        let at = deadline.saturating_sub_unsigned(self.context.policy.slip_warning_ms);
        let wait = Wait { at, issue_index, log_index: slip.index, subject: subject.to_vec() };
        match at <= self.context.time_ms {
            true => warn(status, &wait, self.context.time_ms, &mut self.alerts),
            false => self.waits.push(wait),
        }
    }

    /// The status digest of an invoice as it stands.
    fn stands(&self, issue: u64) -> StatusOf {
        match self.touched.get(&issue) {
            Some(touched) => touched.of,
            None if self.before.contains_key(&issue) => StatusOf::Before(issue),
            None => StatusOf::Untouched,
        }
    }

    /// Runs an event; the status that it makes, or none where it only asks.
    fn run(
        &mut self,
        checked: &Checked,
        record: &Record<'_>,
        place: Place,
        log_index: u64,
    ) -> Result<Option<Status>, Outcome> {
        let subject = self.batch.subject(checked);
        let (actor, roles) = self.context.registry.actor(record, self.context.time_ms)?;
        let scheme = scheme_of(self.context.schemes, subject).ok_or(Outcome::UnknownScheme)?;
        let touched = self.touched.get(&place.issue_index).map(|touched| &touched.status);
        let before = || self.before.get(&place.issue_index).map(|(status, _)| status);
        let status = match touched.or_else(before) {
            Some(status) => status.clone(),
            None => opened(checked, record, &place)?,
        };
        let mut case = Case {
            context: self.context,
            record,
            commitment: checked.commitment,
            scheme,
            actor: &actor,
            roles,
            index: log_index,
            subject,
            status,
            alerts: Vec::new(),
            lapsed: Vec::new(),
        };
        if record.kind == RecordKind::Query {
            return events::query(&case).map(|()| None);
        }
        events::execute(&mut case)?;
        let (status, alerts) = (case.status, case.alerts);
        self.alerts.extend(alerts);
        Ok(Some(status))
    }

    /// The digests of all statuses that events made, in their order.
    pub(super) fn digests(&self) -> Vec<Digest> {
        let views: Vec<View<'_>> =
            self.made.iter().map(|made| (made.secret, made.fields.pairs())).collect();
        let mut out = Vec::new();
        let mut committer = Committer::default();
        committer.commitments_under(STATUS_PREFIX, self.context.lanes, &views, &mut out);
        out
    }

    /// The digest that a leaf says.
    pub(super) fn resolve(&self, status: StatusOf, digests: &[Digest]) -> Digest {
        match status {
            StatusOf::Untouched => ZERO,
            StatusOf::Before(issue) => self.before.get(&issue).map_or(ZERO, |(_, digest)| *digest),
            StatusOf::Made(number) => digests[number],
        }
    }

    /// The issue index that the leaf of a record names.
    pub(super) fn issue_of(
        &self,
        number: usize,
        record: &Checked,
        outcome: &Outcome,
    ) -> Option<u64> {
        let named = *outcome == Outcome::Accepted && record.kind.is_some();
        self.issues[number].filter(|_| named)
    }

    /// Hands numbers, statuses and alerts to the effects. Returns how many invoices are new, and
    /// the digest of each status that changed, by issue index, ascending.
    pub(super) fn finish(
        self,
        digests: &[Digest],
        effects: &mut Effects,
    ) -> (u64, Vec<(u64, Digest)>) {
        let issued = self.ids.len() as u64;
        effects.ids =
            self.ids.into_iter().map(|(subject, place)| (subject.to_vec(), place)).collect();
        effects.ids.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let made = self.made.iter().zip(digests).map(|(made, digest)| (made.issue, *digest));
        let last: BTreeMap<u64, Digest> = made.collect();
        let mut statuses: Vec<(u64, Vec<u8>)> = self
            .touched
            .into_iter()
            .map(|(issue, touched)| (issue, touched.status.encode()))
            .collect();
        statuses.sort_unstable_by_key(|(issue, _)| *issue);
        effects.statuses = statuses;
        effects.alerts = self.alerts;
        effects.waits_done = (!self.due.is_empty()).then_some(self.context.time_ms);
        effects.waits = self.waits;
        (issued, last.into_iter().collect())
    }
}

/// Tells seller, buyer and lien holders of a slip that still waits, and of which something can come.
fn warn(status: &Status, wait: &Wait, now: i64, alerts: &mut Vec<Alert>) {
    let slip = status.slip.as_ref().filter(|slip| slip.index == wait.log_index);
    let Some(slip) = slip.filter(|slip| slip.state == SlipState::Pending) else { return };
    if matches!(status.lifecycle(), Lifecycle::Void | Lifecycle::FullRed) {
        return;
    }
    let kind = match slip.deadline.is_some_and(|deadline| deadline > now) {
        true => AlertKind::SlipLapsing,
        false => AlertKind::SlipLapsed,
    };
    let facts = &status.facts;
    let live = status.liens().filter(|lien| lien.expires.is_none_or(|at| at > now));
    let mut parties: Vec<&String> = live.map(|lien| &lien.holder).collect();
    parties.extend([Some(&facts.seller), facts.buyer.as_ref()].into_iter().flatten());
    parties.sort_unstable();
    parties.dedup();
    for party in parties {
        let (to, subject) = (Recipient::Party(party.clone()), wait.subject.clone());
        alerts.push(Alert { kind, to, subject, log_index: wait.log_index });
    }
}

/// The status of an untouched invoice, from what the event shows of it.
fn opened(checked: &Checked, record: &Record<'_>, place: &Place) -> Result<Status, Outcome> {
    let needs =
        |tag: Tag| Outcome::conflict_with(Conflict::NeedsOpening, Detail::Number(u64::from(tag)));
    let bytes = record.get(tag::OPENING).ok_or(needs(tag::TOTAL_GROSS))?;
    let fields =
        opening::decode(bytes).map_err(|error| Outcome::of_flaw(tag::OPENING, error.into()))?;
    let computed = || opening::commitment(COMMITMENT_PREFIX, &fields);
    if checked.opened.unwrap_or_else(computed) != place.commitment {
        let stands = Detail::Digest(place.commitment);
        return Err(Outcome::conflict_with(Conflict::OpeningDiffers, stands));
    }
    let facts = Facts::of_opening(&fields).map_err(needs)?;
    Ok(Status::new(facts, place.origin, place.commitment))
}

fn scheme_of<'a>(schemes: &'a [Scheme], subject: &[u8]) -> Option<&'a Scheme> {
    Scheme::find(schemes, Reader::new(subject).bytes("scheme", 64).ok()?)
}

fn find_known<'a, I: Index>(
    index: &I,
    batch: &'a CheckedBatch,
    refusals: &[Option<Outcome>],
) -> Result<Known<'a>, I::Error> {
    let mut subjects: Vec<&'a [u8]> = batch
        .records
        .iter()
        .zip(refusals)
        .filter(|(_, refusal)| refusal.is_none())
        .map(|(record, _)| batch.subject(record))
        .collect();
    subjects.sort_unstable();
    subjects.dedup();
    let mut known = Known::with_capacity_and_hasher(subjects.len(), RandomState::new());
    for (subject, place) in subjects.iter().zip(index.find(&subjects)?) {
        if let Some(place) = place {
            known.insert(*subject, place);
        }
    }
    Ok(known)
}
