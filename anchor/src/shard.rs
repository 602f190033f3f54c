//! Executes the records of one shard in stream order (PROTOCOL section 2).
//!
//! A pure step: checked records and an index in, effects out. The shard itself keeps only the edge
//! of its log and its counters; what is large lies behind [`Index`] and in the effects.
//!
//! Invariants
//! - Every record of the batch gives exactly one leaf, in order.
//! - Effects are complete: applying them to storage, or dropping them together with the shard's new
//!   state, are the only two things that can happen to them.

use crate::log::Log;
use crate::registry::Registry;
use piaogen_crypto::{Digest, Lanes, sm2};
use piaogen_verify::checked::{Checked, CheckedBatch, SignatureCheck};
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::{ROLE_AUTHORITY, ROLE_ISSUER};
use piaogen_verify::header::ShardEntry;
use piaogen_verify::record::{self, RecordKind};
use piaogen_verify::status;
use std::collections::HashMap;
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
}

/// What a shard asks storage for.
pub trait Index {
    /// What reading may fail with: always fatal.
    type Error;
    /// Where each of these subjects was used first, in their order; subjects ascend.
    fn find(&self, subjects: &[&[u8]]) -> Result<Vec<Option<Place>>, Self::Error>;
}

/// What a block gives to all its shards.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The genesis digest.
    pub chain: &'a Digest,
    /// The registry as it was after the block before.
    pub registry: &'a Registry,
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
    pub outcomes: HashMap<u8, u64>,
    /// Registry records that were accepted; places in the batch.
    pub registered: Vec<usize>,
}

impl Effects {
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
    log: Log,
}

impl Shard {
    /// A shard that stands at `entry`, with the edge of its log.
    pub fn new(entry: &ShardEntry, log: Log) -> Shard {
        Shard { number: entry.shard, next_offset: entry.next_offset, invoices: entry.invoices, log }
    }

    /// Where it stands.
    pub fn entry(&self) -> ShardEntry {
        ShardEntry {
            shard: self.number,
            next_offset: self.next_offset,
            log_size: self.log.size(),
            log_root: self.log.root(),
            invoices: self.invoices,
            status_root: status::ZERO,
        }
    }

    /// Executes the records of one block, up to the offset of its cut. An error leaves the shard
    /// as it was.
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
        let mut known = find_known(index, batch, &refusals)?;
        let mut effects = Effects::default();
        for (record, refusal) in batch.records.iter().zip(refusals) {
            let outcome = match refusal {
                Some(outcome) => outcome,
                None => self.issue(record, batch.subject(record), &mut known, &mut effects),
            };
            self.put(record, batch.subject(record), outcome, &mut effects);
        }
        effects.ids.sort_unstable_by(|a, b| a.0.cmp(&b.0));
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
            self.put(record, batch.subject(record), outcome, &mut effects);
        }
        self.finish(context, &mut effects, cut);
        effects
    }

    fn issue<'a>(
        &self,
        record: &Checked,
        subject: &'a [u8],
        known: &mut HashMap<&'a [u8], Place>,
        effects: &mut Effects,
    ) -> Outcome {
        if let Some(first) = known.get(subject) {
            return if first.commitment == record.commitment {
                Outcome::Replay { first: first.log_index }
            } else {
                Outcome::DupDifferent { first: first.log_index, commitment: first.commitment }
            };
        }
        let place = Place {
            log_index: self.log.size() + effects.ranges.len() as u64,
            issue_index: self.invoices + effects.ids.len() as u64,
            commitment: record.commitment,
        };
        known.insert(subject, place);
        effects.ids.push((subject.to_vec(), place));
        Outcome::Accepted
    }

    fn put(&self, record: &Checked, subject: &[u8], outcome: Outcome, effects: &mut Effects) {
        let issued =
            outcome == Outcome::Accepted && record.kind.is_some_and(RecordKind::is_invoice);
        let entry = Entry {
            kind: record.kind,
            offset: record.offset,
            subject,
            outcome,
            commitment: record.commitment,
            signer: record.signer,
            issue: issued.then(|| self.invoices + effects.ids.len() as u64 - 1),
            status: status::ZERO,
        };
        *effects.outcomes.entry(outcome.code()).or_default() += 1;
        let begin = effects.entries.len() as u32;
        effects.entries.push(0);
        entry.encode_to(&mut effects.entries);
        effects.ranges.push(begin..effects.entries.len() as u32);
    }

    fn finish(&mut self, context: &Context<'_>, effects: &mut Effects, cut: u64) {
        let mut leaves = vec![[0; 32]; effects.ranges.len()];
        context.lanes.sm3_ranges(&effects.entries, &effects.ranges, &mut leaves);
        effects.levels = self.log.append(context.lanes, leaves);
        self.invoices += effects.ids.len() as u64;
        self.next_offset = cut;
    }
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
    if roles & (ROLE_AUTHORITY | ROLE_ISSUER) == 0 {
        return Some(Outcome::WrongRole);
    }
    let seller = batch.seller(record);
    if roles & ROLE_AUTHORITY == 0 && !seller.is_empty() && seller != key.party.as_bytes() {
        return Some(Outcome::WrongActor);
    }
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
    registry.execute(&decoded)
}

fn find_known<'a, I: Index>(
    index: &I,
    batch: &'a CheckedBatch,
    refusals: &[Option<Outcome>],
) -> Result<HashMap<&'a [u8], Place>, I::Error> {
    let mut subjects: Vec<&'a [u8]> = batch
        .records
        .iter()
        .zip(refusals)
        .filter(|(_, refusal)| refusal.is_none())
        .map(|(record, _)| batch.subject(record))
        .collect();
    subjects.sort_unstable();
    subjects.dedup();
    let mut known = HashMap::with_capacity(subjects.len());
    for (subject, place) in subjects.iter().zip(index.find(&subjects)?) {
        if let Some(place) = place {
            known.insert(*subject, place);
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests;
