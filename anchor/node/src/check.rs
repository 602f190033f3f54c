//! Executes the whole stream again and compares everything with what is stored.
//!
//! The blocks say which records belong together; from those and the genesis alone every leaf, every
//! interior hash, every place in the index, every status and every root must come out as it is
//! stored. It uses the executing code itself, over an index that shows only what was there at the
//! time.
//!
//! Invariants
//! - Statuses are stored as they are now, so those of each time are kept in memory: a few kilobytes
//!   for each invoice of a shard that anything happened to.
//! - Nothing is changed.
//! - What is wrong is a finding; only what keeps from looking is an error.

use crate::run::execute::{to_place, to_status, to_wait};
use crate::run::{parse_block, receipts, shard_entries};
use anyhow::{Context as _, Result, bail};
use piaogen_anchor::log::Log;
use piaogen_anchor::registry::Registry;
use piaogen_anchor::{Context, Effects, Index, Place, Shard, Wait};
use piaogen_crypto::{Digest, Lanes};
use piaogen_ingest::check::{CheckContext, Checker, Keys, Signatures};
use piaogen_ingest::stream::{Batch, Reader, Stream};
use piaogen_storage::archive::{Archive, RowsIter};
use piaogen_storage::{StoreError, StoreReader};
use piaogen_verify::certificate::{Certificate, verify_final};
use piaogen_verify::checked::CheckedBatch;
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::genesis::Genesis;
use piaogen_verify::header::{Cut, Header, NO_SET, ShardEntry, shards_root};
use piaogen_verify::merkle;
use piaogen_verify::status::{Status, ZERO};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: String,
    /// What.
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The height up to which everything was checked.
    pub height: u64,
    /// Blocks.
    pub blocks: u64,
    /// Records executed again.
    pub records: u64,
    /// Of them, accepted.
    pub accepted: u64,
    /// Records in the stream beyond the last flushed block.
    pub unexecuted: u64,
    /// Topics and partitions whose beginning was deleted, with the first offset that was compared
    /// with the stream. What was before it was executed again from the archive.
    pub pruned: Vec<(String, u32, u64)>,
}

/// A check of a data folder at rest.
pub struct Fsck<'a> {
    /// The chain.
    pub genesis: &'a Genesis,
    /// The store.
    pub reader: &'a StoreReader,
    /// The archive.
    pub archive: &'a Archive,
    /// The topic of records.
    pub records: &'a dyn Stream,
    /// The topic of the registry.
    pub registry: &'a dyn Stream,
    /// Whether signatures are checked again.
    pub signatures: bool,
    /// Checks them.
    pub verifier: Arc<Signatures>,
    /// Told how many more records are done.
    pub advance: &'a (dyn Fn(u64) + Sync),
}

/// A block as far as execution needs it.
struct Step {
    height: u64,
    header: Header,
    /// The time of the header before.
    time_before: i64,
    cut: Cut,
}

/// A header with its certificate, empty where it has none.
type Sealed = (Header, Vec<u8>);

/// The registry after each block that changed it, oldest first.
struct Registries(Vec<(u64, Arc<Registry>)>);

impl Registries {
    /// As it was before the block of this height.
    fn before(&self, height: u64) -> Arc<Registry> {
        let at = self.0.partition_point(|(changed, _)| *changed < height);
        self.0[at - 1].1.clone()
    }
}

/// Statuses and their tree, as execution again made them.
#[derive(Default)]
struct Statuses {
    documents: HashMap<u64, Vec<u8>>,
    nodes: HashMap<(u8, u64), Digest>,
    /// By time and invoice, as storage keeps them.
    waits: BTreeMap<(i64, u64), Wait>,
}

/// The index as it was when the log had `below` leaves: numbers as stored, statuses as made again.
struct Then<'a> {
    reader: &'a StoreReader,
    shard: u32,
    below: u64,
    statuses: &'a Statuses,
}

impl Index for Then<'_> {
    type Error = StoreError;

    fn find(&self, subjects: &[&[u8]]) -> Result<Vec<Option<Place>>, StoreError> {
        let found = self.reader.find_many(self.shard, subjects)?;
        let then = |place: &Place| place.log_index < self.below;
        Ok(found.into_iter().map(|id| id.map(to_place).filter(then)).collect())
    }

    fn statuses(&self, issues: &[u64]) -> Result<Vec<Option<Status>>, StoreError> {
        let made = |issue| self.statuses.documents.get(issue).cloned();
        issues.iter().map(|issue| to_status(self.shard, *issue, made(issue))).collect()
    }

    fn status_nodes(&self, places: &[(u8, u64)]) -> Result<Vec<Digest>, StoreError> {
        let made = |place| self.statuses.nodes.get(place).copied().unwrap_or(ZERO);
        Ok(places.iter().map(made).collect())
    }

    fn waits(&self, until: i64) -> Result<Vec<Wait>, StoreError> {
        Ok(self.statuses.waits.range(..=(until, u64::MAX)).map(|(_, wait)| wait.clone()).collect())
    }
}

/// What executing one shard again gave: the shard after each block, and what differs.
#[derive(Default)]
struct Outcomes {
    entries: Vec<ShardEntry>,
    findings: Vec<Finding>,
    records: u64,
    accepted: u64,
}

/// Most findings of one shard: one fault shows in everything after it.
const SHARD_FINDINGS_MAX: usize = 20;

impl Fsck<'_> {
    /// Checks everything.
    pub fn run(&self) -> Result<(Summary, Vec<Finding>)> {
        let mut findings = Vec::new();
        let (steps, sealed) = self.steps(&mut findings)?;
        let point = self.reader.flushed();
        let (registry, registries) = self.registry(&steps)?;
        self.sets(&sealed, &registries, &mut findings);
        let partitions = self.genesis.file.partitions;
        let mut shards: Vec<Outcomes> = (0..partitions)
            .into_par_iter()
            .map(|shard| self.shard(shard, &steps, &registries))
            .collect::<Result<_>>()?;
        shards.push(registry);
        self.roots(&steps, &shards, &mut findings);
        for (stored, again) in shard_entries(&point.shards).iter().zip(&shards) {
            if again.entries.last().is_some_and(|last| last != stored) {
                findings.push(Finding {
                    place: format!("shard {}", stored.shard),
                    what: format!(
                        "is stored as {stored:?}, executed it is {:?}",
                        again.entries.last()
                    ),
                });
            }
        }
        let mut summary =
            Summary { height: point.height, blocks: steps.len() as u64, ..Summary::default() };
        for shard in &mut shards {
            summary.records += shard.records;
            summary.accepted += shard.accepted;
            findings.append(&mut shard.findings);
        }
        for shard in 0..=partitions {
            let (stream, partition) = self.stream(shard);
            let start = stream.start_offset(partition)?;
            if start > 0 && point.shards[shard as usize].log_size > 0 {
                summary.pruned.push((stream.name().to_owned(), partition, start));
            }
        }
        for partition in 0..partitions {
            let next = point.shards[partition as usize].next_offset;
            summary.unexecuted += self.records.end_offset(partition)?.saturating_sub(next);
        }
        Ok((summary, findings))
    }

    /// Reads the blocks and checks headers; those up to the flush point are executed again.
    fn steps(&self, findings: &mut Vec<Finding>) -> Result<(Vec<Step>, Vec<Sealed>)> {
        let mut steps: Vec<Step> = Vec::new();
        let mut sealed = Vec::new();
        let mut before = self.genesis.header();
        let mut history = Log::default();
        let stored = |level: u8, index: u64| self.reader.history_hash(level, index);
        for block in self.reader.blocks_from(0) {
            let block = block?;
            let (header, cut) = parse_block(&block)?;
            let mut find = |what: &str| {
                let place = format!("block {}", block.height);
                findings.push(Finding { place, what: what.into() });
            };
            if block.height == 0 {
                if header != before {
                    find("is not the genesis");
                }
            } else {
                if header.parent != before.digest() || header.height != before.height + 1 {
                    find("does not follow the block before");
                }
                if header.history_root != history.root() {
                    find("has another history root");
                }
                if (header.epoch, header.validators) != before.next_epoch() {
                    find("has another epoch or other validators than follow from the block before");
                }
                if block.height <= self.reader.flushed().height {
                    let (height, time_before) = (block.height, before.time_ms);
                    steps.push(Step { height, header, time_before, cut });
                }
            }
            let index = history.size();
            let leaf = merkle::leaf(&header.digest());
            if index < self.reader.history_size() && stored(0, index)? != Some(leaf) {
                find("has another hash in the history");
            }
            history.append(Lanes::detect(), vec![leaf]);
            sealed.push((header, block.finalization));
            before = header;
        }
        Ok((steps, sealed))
    }

    /// Each header names the next epoch's set where an epoch ends, and is certified by its own.
    fn sets(&self, sealed: &[Sealed], registries: &Registries, findings: &mut Vec<Finding>) {
        let known = self.reader.flushed().height;
        let newest = registries.before(u64::MAX);
        for (header, finalization) in sealed.iter().filter(|(header, _)| header.height > 0) {
            let mut find = |what: &str| {
                let place = format!("block {}", header.height);
                findings.push(Finding { place, what: what.into() });
            };
            // What is not flushed was not executed again.
            if header.height <= known + 1 {
                let next = registries.before(header.height).governance().next_set(header.height);
                if header.next_validators != next.map_or(NO_SET, |set| set.digest()) {
                    find("does not name the validators of the next epoch, where it ends");
                }
            }
            if finalization.is_empty() {
                continue;
            }
            let held = newest.governance().set(&header.validators).is_some_and(|set| {
                Certificate::decode(finalization)
                    .is_ok_and(|certificate| verify_final(header, &certificate, set).is_ok())
            });
            if !held {
                find("has a certificate that does not hold");
            }
        }
    }

    fn registry(&self, steps: &[Step]) -> Result<(Outcomes, Registries)> {
        let number = self.genesis.file.partitions;
        let mut registry = Registry::genesis(self.genesis);
        let mut registries = vec![(0, Arc::new(registry.clone()))];
        let mut feed = self.feed(number)?;
        let mut again = Again::new(self, number);
        for step in steps {
            let cut = step.cut.0[number as usize];
            let keys = key_map(&registry);
            let batch = feed.take(cut, &keys)?;
            let context = self.context(&registry, step);
            let mut after = registry.clone();
            let effects = again.shard.execute_registry(&context, &mut after, &batch, cut);
            if !effects.registered.is_empty() {
                registry = after;
                registries.push((step.height, Arc::new(registry.clone())));
            }
            again.compare(&effects, &batch)?;
        }
        Ok((again.outcomes, Registries(registries)))
    }

    fn shard(&self, number: u32, steps: &[Step], registries: &Registries) -> Result<Outcomes> {
        let mut feed = self.feed(number)?;
        let mut again = Again::new(self, number);
        let mut known: Option<(Arc<Registry>, Keys)> = None;
        for step in steps {
            let registry = registries.before(step.height);
            if known.as_ref().is_none_or(|(held, _)| !Arc::ptr_eq(held, &registry)) {
                known = Some((registry.clone(), key_map(&registry)));
            }
            let Some((_, keys)) = &known else { continue };
            let cut = step.cut.0[number as usize];
            let batch = feed.take(cut, keys)?;
            let below = again.shard.entry().log_size;
            let statuses = &again.statuses;
            let index = Then { reader: self.reader, shard: number, below, statuses };
            let context = self.context(&registry, step);
            let effects = again.shard.execute(&context, &index, &batch, cut)?;
            again.compare(&effects, &batch)?;
            again.keep(effects);
        }
        again.compare_statuses()?;
        Ok(again.outcomes)
    }

    fn context<'a>(&'a self, registry: &'a Registry, step: &Step) -> Context<'a> {
        Context {
            chain: &self.genesis.chain,
            registry,
            height: step.height,
            policy: registry.policy_at(step.height),
            schemes: &self.genesis.file.schemes,
            time_ms: step.time_before,
            clock_skew_ms: self.genesis.file.clock_skew_ms,
            lanes: Lanes::detect(),
            signatures: self.signatures,
        }
    }

    /// The topic of a shard, and the partition in it.
    fn stream(&self, shard: u32) -> (&dyn Stream, u32) {
        match shard == self.genesis.file.partitions {
            true => (self.registry, 0),
            false => (self.records, shard),
        }
    }

    /// The records of a shard: those that the stream has no more from the archive, then the stream.
    fn feed(&self, number: u32) -> Result<Feed<'_>> {
        let (stream, partition) = self.stream(number);
        let start = stream.start_offset(partition)?;
        let context = CheckContext {
            chain: self.genesis.chain,
            schemes: Arc::new(self.genesis.file.schemes.clone()),
            partitions: self.genesis.file.partitions,
            signatures: self.signatures,
            fingerprints: false,
        };
        Ok(Feed {
            number,
            start,
            sealed: (start > 0).then(|| self.archive.rows(number, 0)),
            reader: stream.reader(partition, start)?,
            checker: Checker::new(context, Lanes::detect(), self.verifier.clone()),
            batch: Batch::new(2_048, 4 << 20),
            waiting: VecDeque::new(),
        })
    }

    /// Each header must carry the roots after the block before it.
    fn roots(&self, steps: &[Step], shards: &[Outcomes], findings: &mut Vec<Finding>) {
        let empty: Vec<ShardEntry> =
            (0..=self.genesis.file.partitions).map(ShardEntry::empty).collect();
        for (i, step) in steps.iter().enumerate() {
            let entries: Vec<ShardEntry> = match i {
                0 => empty.clone(),
                _ => shards.iter().map(|shard| shard.entries[i - 1]).collect(),
            };
            if shards_root(&entries) != step.header.shards_root {
                let place = format!("block {}", step.height);
                findings.push(Finding { place, what: "has another shards root".into() });
                return;
            }
        }
    }
}

fn key_map(registry: &Registry) -> Keys {
    registry.keys().map(|key| (key.public_key.key_id(), key.public_key.clone())).collect()
}

/// A shard executed again, beside what is stored of it.
struct Again<'a> {
    fsck: &'a Fsck<'a>,
    number: u32,
    shard: Shard,
    statuses: Statuses,
    outcomes: Outcomes,
    /// Next index on each level.
    written: Vec<u64>,
}

impl<'a> Again<'a> {
    fn new(fsck: &'a Fsck<'a>, number: u32) -> Again<'a> {
        let shard = Shard::new(&ShardEntry::empty(number), Log::default());
        Again {
            fsck,
            number,
            shard,
            statuses: Statuses::default(),
            outcomes: Outcomes::default(),
            written: Vec::new(),
        }
    }

    /// Notes the statuses that a block made.
    fn keep(&mut self, effects: Effects) {
        let nodes = effects.status_nodes.into_iter();
        self.statuses.nodes.extend(nodes.map(|(level, at, hash)| ((level, at), hash)));
        self.statuses.documents.extend(effects.statuses);
        if let Some(done) = effects.waits_done {
            self.statuses.waits.retain(|(at, _), _| *at > done);
        }
        let waits = effects.waits.into_iter();
        self.statuses.waits.extend(waits.map(|wait| ((wait.at, wait.issue_index), wait)));
    }

    /// Every status, every hash of their tree and every wait must be stored as the last block left
    /// it, and no others.
    fn compare_statuses(&mut self) -> Result<()> {
        let (reader, number) = (self.fsck.reader, self.number);
        let mut places: Vec<((u8, u64), Digest)> = self.statuses.nodes.drain().collect();
        places.sort_unstable();
        for part in places.chunks(4_096) {
            let asked: Vec<(u8, u64)> = part.iter().map(|(place, _)| *place).collect();
            let stored = reader.status_nodes(number, &asked)?;
            for (((level, at), hash), stored) in part.iter().zip(stored) {
                if *hash != stored {
                    let what = format!("the hash {at} on level {level} of the status tree");
                    self.find_status(&format!("{what} is another"));
                }
            }
        }
        let mut from = 0;
        loop {
            let documents = reader.status_documents(number, from, 1_024)?;
            let Some((last, _)) = documents.last() else { break };
            from = last + 1;
            for (issue, stored) in documents {
                if self.statuses.documents.remove(&issue).is_none_or(|made| made != stored) {
                    self.find_status(&format!("the stored status of invoice {issue} is another"));
                }
            }
        }
        for issue in std::mem::take(&mut self.statuses.documents).into_keys() {
            self.find_status(&format!("the status of invoice {issue} is not stored"));
        }
        let stored = reader.waits(number, i64::MAX)?.into_iter().map(to_wait);
        if !stored.eq(std::mem::take(&mut self.statuses.waits).into_values()) {
            self.find_status("the stored waits (slips whose parties are to be warned) are others");
        }
        Ok(())
    }

    fn find_status(&mut self, what: &str) {
        if self.outcomes.findings.len() < SHARD_FINDINGS_MAX {
            let place = format!("shard {}", self.number);
            self.outcomes.findings.push(Finding { place, what: what.into() });
        }
    }

    fn find(&mut self, index: u64, what: &str) {
        if self.outcomes.findings.len() < SHARD_FINDINGS_MAX {
            let place = format!("shard {} log index {index}", self.number);
            self.outcomes.findings.push(Finding { place, what: what.into() });
        }
    }

    fn compare(&mut self, effects: &Effects, batch: &CheckedBatch) -> Result<()> {
        self.compare_hashes(effects)?;
        let first = self.outcomes.records;
        let mut at = 0;
        while at < batch.records.len() {
            let from = first + at as u64;
            let wanted = (batch.records.len() - at) as u64;
            let rows =
                receipts::rows(self.fsck.archive, self.fsck.reader, self.number, from, wanted)?;
            if rows.is_empty() {
                self.find(from, "the row is neither in the archive nor in tail/");
                break;
            }
            let fresh = effects.iter().zip(&batch.records).skip(at).zip(&rows);
            let mut wrong = Vec::new();
            for ((entry, record), row) in fresh {
                if row.entry != entry {
                    wrong.push((row.log_index, "the stored entry is another"));
                } else if row.record != batch.bytes(record) {
                    wrong.push((row.log_index, "the stored record is not the stream's"));
                }
            }
            wrong.into_iter().for_each(|(index, what)| self.find(index, what));
            at += rows.len();
        }
        for (subject, place) in &effects.ids {
            let stored = self.fsck.reader.find(self.number, subject)?;
            if stored.map(to_place) != Some(*place) {
                self.find(place.log_index, "the index does not have its number");
            }
        }
        let records = batch.records.len() as u64;
        self.outcomes.records += records;
        self.outcomes.accepted +=
            effects.outcomes.get(&Outcome::Accepted.code()).copied().unwrap_or(0);
        self.outcomes.entries.push(self.shard.entry());
        (self.fsck.advance)(records);
        Ok(())
    }

    fn compare_hashes(&mut self, effects: &Effects) -> Result<()> {
        for (level, hashes) in effects.levels.iter().enumerate() {
            if self.written.len() == level {
                self.written.push(0);
            }
            for hash in hashes {
                let index = self.written[level];
                let stored = self.fsck.reader.log_hash(self.number, level as u8, index)?;
                if stored != Some(*hash) {
                    self.find(index << level, &format!("the hash on level {level} is another"));
                }
                self.written[level] += 1;
            }
        }
        Ok(())
    }
}

/// Records of one partition, checked, in stream order.
struct Feed<'a> {
    number: u32,
    /// Where the stream begins.
    start: u64,
    /// Rows of the archive below that.
    sealed: Option<RowsIter<'a>>,
    reader: Box<dyn Reader>,
    checker: Checker,
    batch: Batch,
    waiting: VecDeque<(u64, Vec<u8>)>,
}

/// How long the stream may give nothing while records are missing.
const PATIENCE: u32 = 300;

impl Feed<'_> {
    /// Reads on in the archive, up to an offset, or to where the stream begins.
    fn take_sealed(&mut self, cut: u64) -> Result<()> {
        while let Some(rows) = &mut self.sealed {
            if self.waiting.back().is_some_and(|(offset, _)| *offset >= cut) {
                break;
            }
            let Some(row) = rows.next().transpose()? else {
                self.sealed = None;
                break;
            };
            let entry = Entry::decode(&row.entry).context("an archived entry does not decode")?;
            match entry.offset < self.start {
                true => self.waiting.push_back((entry.offset, row.record)),
                false => self.sealed = None,
            }
        }
        Ok(())
    }

    /// The records below an offset that were not taken yet.
    fn take(&mut self, cut: u64, keys: &Keys) -> Result<CheckedBatch> {
        self.take_sealed(cut)?;
        let mut idle = 0;
        while self.reader.next_offset() < cut {
            self.batch.clear();
            self.reader.poll(&mut self.batch, Duration::from_millis(100))?;
            idle = if self.batch.is_empty() { idle + 1 } else { 0 };
            if idle > PATIENCE {
                let (at, number) = (self.reader.next_offset(), self.number);
                bail!(
                    "shard {number}: the stream gives nothing after offset {at}, blocks say {cut}"
                );
            }
            self.waiting
                .extend(self.batch.iter().map(|entry| (entry.offset, entry.payload.to_vec())));
        }
        let (mut arena, mut places): (Vec<u8>, Vec<(u64, Range<u32>)>) = Default::default();
        while self.waiting.front().is_some_and(|(offset, _)| *offset < cut) {
            let Some((offset, bytes)) = self.waiting.pop_front() else { break };
            let begin = u32::try_from(arena.len()).context("a block of more than 4 GiB")?;
            arena.extend_from_slice(&bytes);
            places.push((offset, begin..arena.len() as u32));
        }
        Ok(self.checker.check(self.number, arena, &places, keys))
    }
}
