//! Executes the records of one shard in stream order (PROTOCOL section 2).
//!
//! A pure step: checked records and an index in, effects out. The shard itself keeps only the edge
//! of its log and its counters; what is large lies behind [`Index`] and in the effects.
//!
//! Invariants
//! - Every record of the batch gives exactly one leaf, in order.
//! - Effects are complete: applying them to storage, or dropping them together with the shard's new
//!   state, are the only two things that can happen to them.

mod batch;

use self::batch::{Batch, StatusOf};
use crate::alert::Alert;
use crate::log::Log;
use crate::registry::Registry;
use crate::tree::Nodes;
use piaogen_crypto::{Digest, Lanes, sm2};
use piaogen_verify::checked::{Checked, CheckedBatch, SignatureCheck};
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::{ROLE_AUTHORITY, ROLE_IMPORTER, ROLE_ISSUER};
use piaogen_verify::header::ShardEntry;
use piaogen_verify::policy::Policy;
use piaogen_verify::record::{self, Class, RecordKind};
use piaogen_verify::scheme::Scheme;
use piaogen_verify::status::{self, Origin, Status};
use std::collections::BTreeMap;
use std::ops::Range;

/// A day begins up to 14 hours before it does in UTC, and the record does not say where it is.
const FIRST_ZONE_MS: i64 = 14 * 3_600_000;

/// Where a number was used first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index in the record log.
    pub log_index: u64,
    /// Issue index.
    pub issue_index: u64,
    /// Commitment of the record.
    pub commitment: Digest,
    /// What the record was.
    pub origin: Origin,
}

/// A slip that waits for the other side: when its parties are to be warned. In the order of that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait {
    /// When, milliseconds since 1970.
    pub at: i64,
    /// The invoice.
    pub issue_index: u64,
    /// The record that opened the slip.
    pub log_index: u64,
    /// The subject of the invoice.
    pub subject: Vec<u8>,
}

/// What a shard asks storage for.
pub trait Index {
    /// What reading may fail with: always fatal.
    type Error;
    /// Where each of these subjects was used first, in their order; subjects ascend.
    fn find(&self, subjects: &[&[u8]]) -> Result<Vec<Option<Place>>, Self::Error>;
    /// The statuses of these issue indices, ascending, in their order; `None`: untouched.
    fn statuses(&self, issues: &[u64]) -> Result<Vec<Option<Status>>, Self::Error>;
    /// Hashes of the status tree by level and index, in their order; zeros where nothing was ever
    /// set. Those of one level stand together, indices ascending.
    fn status_nodes(&self, places: &[(u8, u64)]) -> Result<Vec<Digest>, Self::Error>;
    /// What waits and is due at a time, in its order.
    fn waits(&self, until: i64) -> Result<Vec<Wait>, Self::Error>;
}

/// What a block gives to all its shards.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The genesis digest.
    pub chain: &'a Digest,
    /// The registry as it was after the block before.
    pub registry: &'a Registry,
    /// The height of the block.
    pub height: u64,
    /// The policy that holds in it.
    pub policy: Policy,
    /// The schemes of the genesis.
    pub schemes: &'a [Scheme],
    /// The time of the header before, milliseconds since 1970.
    pub time_ms: i64,
    /// How far a record's times may lie after it.
    pub clock_skew_ms: i64,
    /// The lanes that hash.
    pub lanes: Lanes,
    /// Whether records whose key was not at hand are verified now; benchmarks leave it out.
    pub signatures: bool,
}

/// What a block did to a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Encoded entries end to end, each behind the prefix byte of a leaf.
    pub entries: Vec<u8>,
    /// Where each entry lies, prefix included.
    pub ranges: Vec<Range<u32>>,
    /// New hashes of the record log by level.
    pub levels: Vec<Vec<Digest>>,
    /// Numbers used for the first time, ascending.
    pub ids: Vec<(Vec<u8>, Place)>,
    /// How often each outcome occurred, by code.
    pub outcomes: BTreeMap<u8, u64>,
    /// Registry records that were accepted; places in the batch.
    pub registered: Vec<usize>,
    /// Hashes of the status tree that changed.
    pub status_nodes: Nodes,
    /// Status documents that changed, by issue index, ascending.
    pub statuses: Vec<(u64, Vec<u8>)>,
    /// What others must be told.
    pub alerts: Vec<Alert>,
    /// Up to when waits are done; nothing where none was due.
    pub waits_done: Option<i64>,
    /// What waits from now on.
    pub waits: Vec<Wait>,
}

/// Bytes of most entries, with their prefix.
const ENTRY_BYTES: usize = 192;

impl Effects {
    /// None yet, with room for the entries of so many records.
    fn with_room_for(records: usize) -> Effects {
        Effects {
            entries: Vec::with_capacity(records * ENTRY_BYTES),
            ranges: Vec::with_capacity(records),
            ..Effects::default()
        }
    }

    /// The entries, in log order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        // A leaf is hashed with its prefix byte; the entry begins behind it.
        self.ranges.iter().map(|r| &self.entries[r.start as usize + 1..r.end as usize])
    }
}

/// One shard between blocks.
#[derive(Clone, Debug)]
pub struct Shard {
    number: u32,
    next_offset: u64,
    invoices: u64,
    status_root: Digest,
    log: Log,
}

impl Shard {
    /// A shard that stands at `entry`, with the edge of its log.
    pub fn new(entry: &ShardEntry, log: Log) -> Shard {
        Shard {
            number: entry.shard,
            next_offset: entry.next_offset,
            invoices: entry.invoices,
            status_root: entry.status_root,
            log,
        }
    }

    /// Takes another status tree, as a test made it.
    #[cfg(test)]
    pub(crate) fn set_status_root(&mut self, root: Digest) {
        self.status_root = root;
    }

    /// Where it stands.
    pub fn entry(&self) -> ShardEntry {
        ShardEntry {
            shard: self.number,
            next_offset: self.next_offset,
            log_size: self.log.size(),
            log_root: self.log.root(),
            invoices: self.invoices,
            status_root: self.status_root,
        }
    }

    /// Executes the records of one block, up to the offset of its cut, after it warned those whose
    /// slips are about to lapse; a block without records may be due for that alone. An error leaves
    /// the shard as it was.
    pub fn execute<I: Index>(
        &mut self,
        context: &Context<'_>,
        index: &I,
        batch: &CheckedBatch,
        cut: u64,
    ) -> Result<Effects, I::Error> {
        let signatures = signatures(context, batch);
        let refusals: Vec<Option<Outcome>> = batch
            .records
            .iter()
            .zip(signatures)
            .map(|(record, valid)| refuse(context, batch, record, valid))
            .collect();
        let first = (self.log.size(), self.invoices);
        let mut run = Batch::begin(context, index, batch, &refusals, first)?;
        run.warn();
        let outcomes: Vec<(Outcome, StatusOf)> = batch
            .records
            .iter()
            .zip(refusals)
            .enumerate()
            .map(|(i, (record, refusal))| run.execute(i, record, refusal))
            .collect();
        let digests = run.digests();
        let mut effects = Effects::with_room_for(batch.records.len());
        for (i, (record, (outcome, status))) in batch.records.iter().zip(outcomes).enumerate() {
            let status = run.resolve(status, &digests);
            let issue = run.issue_of(i, record, &outcome);
            put(record, batch.subject(record), outcome, issue, status, &mut effects);
        }
        let (issued, changed) = run.finish(&digests, &mut effects);
        if !changed.is_empty() {
            let invoices = self.invoices + issued;
            let (nodes, root) = crate::tree::update(context.lanes, index, invoices, &changed)?;
            effects.status_nodes = nodes;
            self.status_root = root;
        }
        self.finish(context, &mut effects, cut);
        Ok(effects)
    }

    /// Executes the records of the registry shard, which change `registry`, and are judged by it as
    /// it becomes record by record.
    pub fn execute_registry(
        &mut self,
        context: &Context<'_>,
        registry: &mut Registry,
        batch: &CheckedBatch,
        cut: u64,
    ) -> Effects {
        let mut effects = Effects::default();
        for (i, record) in batch.records.iter().enumerate() {
            let outcome = match register(context, registry, batch, record) {
                Ok(()) => {
                    effects.registered.push(i);
                    Outcome::Accepted
                }
                Err(outcome) => outcome,
            };
            put(record, batch.subject(record), outcome, None, status::ZERO, &mut effects);
        }
        self.finish(context, &mut effects, cut);
        effects
    }

    fn finish(&mut self, context: &Context<'_>, effects: &mut Effects, cut: u64) {
        let mut leaves = vec![[0; 32]; effects.ranges.len()];
        context.lanes.sm3_ranges(&effects.entries, &effects.ranges, &mut leaves);
        effects.levels = self.log.append(context.lanes, leaves);
        self.invoices += effects.ids.len() as u64;
        self.next_offset = cut;
    }
}

fn put(
    record: &Checked,
    subject: &[u8],
    outcome: Outcome,
    issue: Option<u64>,
    status: Digest,
    effects: &mut Effects,
) {
    let entry = Entry {
        kind: record.kind,
        offset: record.offset,
        subject,
        outcome,
        commitment: record.commitment,
        signer: record.signer,
        issue,
        status,
    };
    *effects.outcomes.entry(outcome.code()).or_default() += 1;
    let begin = effects.entries.len() as u32;
    effects.entries.push(0);
    entry.encode_to(&mut effects.entries);
    effects.ranges.push(begin..effects.entries.len() as u32);
}

/// Whether the signature of each record holds. Where the key was not at hand when the record was
/// checked, because it was registered while the record was on its way, that is found out now, for
/// all such records in one call.
fn signatures(context: &Context<'_>, batch: &CheckedBatch) -> Vec<bool> {
    let mut valid: Vec<bool> = batch
        .records
        .iter()
        .map(|record| match record.signature {
            SignatureCheck::Valid => true,
            SignatureCheck::Invalid => false,
            SignatureCheck::Unknown => !context.signatures,
        })
        .collect();
    let asked: Vec<(usize, &sm2::PublicKey, Message, sm2::Signature)> = batch
        .records
        .iter()
        .enumerate()
        .filter(|(i, record)| {
            !valid[*i] && record.signature == SignatureCheck::Unknown && record.early.is_none()
        })
        .filter_map(|(i, record)| {
            let (key, _) = context.registry.signer(&record.signer).ok()?;
            let (message, signature) = signed(context, batch, record)?;
            Some((i, &key.public_key, message, signature))
        })
        .collect();
    let jobs: Vec<sm2::Job<'_>> = asked
        .iter()
        .map(|(_, key, message, signature)| sm2::Job { key, message, signature })
        .collect();
    let mut verdicts = vec![false; jobs.len()];
    context.lanes.sm2_verify(&jobs, &mut verdicts);
    for ((i, ..), verdict) in asked.iter().zip(verdicts) {
        valid[*i] = verdict;
    }
    valid
}

type Message = [u8; record::SIGNED_LEN];

/// What the signer of a record signed, and the signature.
fn signed(
    context: &Context<'_>,
    batch: &CheckedBatch,
    record: &Checked,
) -> Option<(Message, sm2::Signature)> {
    let decoded = record::decode(batch.bytes(record)).ok()?;
    Some((decoded.signed(context.chain, &record.commitment), decoded.signature))
}

/// Checks 1 to 11: the refusal that does not depend on the shard.
fn refuse(
    context: &Context<'_>,
    batch: &CheckedBatch,
    record: &Checked,
    valid: bool,
) -> Option<Outcome> {
    if let Some(early) = record.early {
        return Some(early);
    }
    let (key, roles) = match context.registry.signer(&record.signer) {
        Ok(signer) => signer,
        Err(outcome) => return Some(outcome),
    };
    if !valid {
        return Some(Outcome::BadSignature);
    }
    let wanted = match record.kind {
        Some(kind) if kind.class() == Class::Event => return late_or_content(context, record),
        Some(RecordKind::Import) => ROLE_AUTHORITY | ROLE_IMPORTER,
        _ => ROLE_AUTHORITY | ROLE_ISSUER,
    };
    if roles & wanted == 0 {
        return Some(Outcome::WrongRole);
    }
    let seller = batch.seller(record);
    if roles & (ROLE_AUTHORITY | ROLE_IMPORTER) == 0
        && !seller.is_empty()
        && seller != key.party.as_bytes()
    {
        return Some(Outcome::WrongActor);
    }
    late_or_content(context, record)
}

fn late_or_content(context: &Context<'_>, record: &Checked) -> Option<Outcome> {
    record.content.or_else(|| late(context, record))
}

fn late(context: &Context<'_>, record: &Checked) -> Option<Outcome> {
    let latest = context.time_ms.saturating_add(context.clock_skew_ms);
    if record.signed_at > latest {
        Some(Outcome::ClockSkew { tag: 0 })
    } else if record.issued_ms > latest.saturating_add(FIRST_ZONE_MS) {
        Some(Outcome::ClockSkew { tag: tag::ISSUE_DATE })
    } else {
        None
    }
}

/// As [`signatures`], of a registry record: the record before it may have brought its key.
fn signature_holds(
    context: &Context<'_>,
    batch: &CheckedBatch,
    record: &Checked,
    key: &sm2::PublicKey,
) -> bool {
    match record.signature {
        SignatureCheck::Valid => true,
        SignatureCheck::Invalid => false,
        SignatureCheck::Unknown if !context.signatures => true,
        // The key was registered while the record was on its way.
        SignatureCheck::Unknown => signed(context, batch, record)
            .is_some_and(|(message, signature)| sm2::verify(key, &message, &signature)),
    }
}

fn register(
    context: &Context<'_>,
    registry: &mut Registry,
    batch: &CheckedBatch,
    record: &Checked,
) -> Result<(), Outcome> {
    if let Some(early) = record.early {
        return Err(early);
    }
    let (key, _) = registry.signer(&record.signer)?;
    if !signature_holds(context, batch, record, &key.public_key) {
        return Err(Outcome::BadSignature);
    }
    if record.signed_at > context.time_ms.saturating_add(context.clock_skew_ms) {
        return Err(Outcome::ClockSkew { tag: 0 });
    }
    let decoded = record::decode(batch.bytes(record))
        .map_err(|unreadable| Outcome::of_flaw(unreadable.tag, unreadable.flaw))?;
    registry.execute(&decoded, context.height)
}

#[cfg(test)]
mod tests;
