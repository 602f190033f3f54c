//! One shard of an audit: rows in order, each checked, and the log that they build.
//!
//! Invariants
//! - After a damage the log is unknown; rows behind it are still checked one by one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::Ordering;

use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use piaogen_crypto::Lanes;
use piaogen_crypto::sm2::{self, PublicKey, Signature};
use piaogen_verify::Digest;
use piaogen_verify::document::Committer;
use piaogen_verify::entry::Entry;
use piaogen_verify::header::ShardEntry;
use piaogen_verify::record::{Class, RecordKind};
use piaogen_verify::{merkle, record, status};

use super::super::manifest::{SegmentInfo, day};
use super::super::rebuild::{Batch, Rebuilt, Wanted};
use super::{Audit, Check};
use crate::error::Result;

/// Prefix of an interior hash (`FORMAT.md` section 1).
const INTERIOR_PREFIX: u8 = 1;

/// Rows rebuilt at once: enough to fill lanes, little enough for hundreds of shards.
const BATCH_ROWS: usize = 512;

/// Public keys by key id.
pub(super) type Keys = HashMap<Digest, PublicKey>;

/// The rightmost complete subtrees of a log.
#[derive(Clone, Default)]
pub(super) struct Frontier {
    size: u64,
    hashes: Vec<Digest>,
}

impl Frontier {
    pub(super) fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        // Each trailing one of the size is a complete subtree that the new leaf completes further.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.hashes.pop() {
                hash = merkle::interior(&left, &hash);
            }
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    pub(super) fn root(&self) -> Digest {
        let mut hashes = self.hashes.iter().rev();
        let Some(last) = hashes.next() else { return merkle::empty_root() };
        hashes.fold(*last, |right, left| merkle::interior(left, &right))
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

/// The status tree, of which only what was touched is kept: some two dozen hashes an invoice that
/// anything ever happened to.
#[derive(Default)]
struct StatusTree {
    nodes: HashMap<(u8, u64), Digest>,
    /// What the present block changed.
    changed: BTreeMap<u64, Digest>,
}

impl StatusTree {
    fn get(&self, level: u8, index: u64) -> Digest {
        self.nodes.get(&(level, index)).copied().unwrap_or(status::ZERO)
    }

    /// The record of an invoice, as the present block left it.
    fn record(&self, issue: u64) -> Digest {
        self.changed.get(&issue).copied().unwrap_or_else(|| self.get(0, issue))
    }

    /// Ends a block: hashes what it changed, level by level; the root where anything did.
    fn update(&mut self, lanes: Lanes) -> Option<Digest> {
        let mut level: Vec<(u64, Digest)> = std::mem::take(&mut self.changed).into_iter().collect();
        level.first()?;
        for depth in 0..status::DEPTH {
            self.nodes.extend(level.iter().map(|(index, hash)| ((depth, *index), *hash)));
            let mut parents: Vec<u64> = level.iter().map(|(index, _)| index / 2).collect();
            parents.dedup();
            let children: Vec<Digest> = parents
                .iter()
                .flat_map(|at| [self.get(depth, 2 * at), self.get(depth, 2 * at + 1)])
                .collect();
            let mut hashes = vec![status::ZERO; parents.len()];
            lanes.sm3_pairs(INTERIOR_PREFIX, &children, &mut hashes);
            level = parents.into_iter().zip(hashes).collect();
        }
        level.first().map(|(_, root)| *root)
    }
}

/// What a block says that concerns one shard.
#[derive(Clone, Copy)]
pub(super) struct BlockPart {
    pub(super) height: u64,
    pub(super) time_ms: i64,
    pub(super) next_offset: u64,
}

/// A checked row, as much of it as the log needs.
struct Checked {
    row: Rebuilt,
    leaf: Digest,
}

/// One shard.
pub(super) struct ShardAudit<'a> {
    audit: &'a Audit<'a>,
    keys: &'a Keys,
    segments: VecDeque<SegmentInfo>,
    current: Option<(SegmentInfo, ParquetRecordBatchReader, u64)>,
    ready: VecDeque<Checked>,
    committer: Committer,
    frontier: Frontier,
    status: StatusTree,
    /// The shard after the last block.
    pub(super) state: ShardEntry,
    /// The log is not known from here on.
    pub(super) broken: bool,
}

impl<'a> ShardAudit<'a> {
    pub(super) fn new(
        audit: &'a Audit<'a>,
        keys: &'a Keys,
        shard: u32,
        segments: VecDeque<SegmentInfo>,
    ) -> Self {
        Self {
            audit,
            keys,
            segments,
            current: None,
            ready: VecDeque::new(),
            committer: Committer::default(),
            frontier: Frontier::default(),
            status: StatusTree::default(),
            state: ShardEntry::empty(shard),
            broken: false,
        }
    }

    fn path(&self) -> String {
        match &self.current {
            Some((segment, ..)) => segment.path.clone(),
            None => format!("records of shard {}", self.state.shard),
        }
    }

    /// Executes blocks; the states of the shard where they change, by place in `blocks`.
    pub(super) fn advance(&mut self, blocks: &[BlockPart]) -> Result<Vec<(usize, ShardEntry)>> {
        let mut changes = Vec::new();
        for (at, block) in blocks.iter().enumerate() {
            if self.broken {
                break;
            }
            let before = self.state;
            while let Some(row) = self.take_of(block)? {
                self.apply(row, block, before.next_offset);
            }
            self.state.next_offset = block.next_offset;
            if let Some(root) = self.status.update(self.audit.archive.lanes) {
                self.state.status_root = root;
            }
            if self.state != before {
                self.state.log_root = self.frontier.root();
                changes.push((at, self.state));
            }
        }
        Ok(changes)
    }

    /// The next row, if it is of this block or, against all order, of one before.
    fn take_of(&mut self, block: &BlockPart) -> Result<Option<Checked>> {
        if self.ready.is_empty() && !self.fill()? {
            return Ok(None);
        }
        let due = self.ready.front().is_some_and(|next| next.row.height <= block.height);
        Ok(if due { self.ready.pop_front() } else { None })
    }

    fn apply(&mut self, checked: Checked, block: &BlockPart, from_offset: u64) {
        let row = &checked.row;
        let said = self.state_of(row);
        let wrong = |detail: String| {
            self.audit.find(&self.path(), Some(row.log_index), Check::Order, detail);
        };
        if row.height != block.height {
            wrong(format!("it is of block {}, behind rows of {}", row.height, block.height));
        }
        if row.time_ms != block.time_ms {
            wrong(format!(
                "its block time is {}, that of its block {}",
                row.time_ms, block.time_ms
            ));
        }
        if !(from_offset..block.next_offset).contains(&row.offset) {
            wrong(format!(
                "its offset {} is not within {from_offset} and {}, which block {} covers",
                row.offset, block.next_offset, block.height
            ));
        }
        if let Some(what) = said {
            wrong(what);
        }
        self.frontier.push(checked.leaf);
        self.state.log_size = self.frontier.size();
    }

    /// Notes what a row says of an invoice: its number or its status. What is wrong with it, in
    /// words. The status that a refused event met is not compared: its row says not of which
    /// invoice.
    fn state_of(&mut self, row: &Rebuilt) -> Option<String> {
        let kind = row.kind();
        let class = kind.map(RecordKind::class);
        let (invoices, touched) = (self.state.invoices, row.status != status::ZERO);
        match (class, row.issue) {
            (Some(Class::Event), None) => None,
            (Some(Class::Event), Some(issue)) if issue >= invoices => {
                Some(format!("it changes invoice {issue}, and there are {invoices}"))
            }
            (Some(Class::Event), Some(issue)) if kind == Some(RecordKind::Query) => {
                let stands = self.status.record(issue) == row.status;
                (!stands).then(|| format!("it is a query, and changes the status of {issue}"))
            }
            (Some(Class::Event), Some(issue)) if touched => {
                self.status.changed.insert(issue, row.status);
                None
            }
            (Some(Class::Event), Some(issue)) => {
                Some(format!("it is an event on invoice {issue} and leaves it untouched"))
            }
            (_, _) if touched => Some("it says a status, which only an event has".into()),
            (_, Some(issue)) => {
                self.state.invoices += 1;
                let due = issue == invoices;
                (!due).then(|| format!("its issue index {issue} should be {invoices}"))
            }
            (_, None) => None,
        }
    }

    /// Checks the rows behind the last block, or behind a damage. They count, but nothing covers
    /// them.
    pub(super) fn drain(&mut self) -> Result<()> {
        loop {
            self.ready.clear();
            if !self.fill()? && self.current.is_none() && self.segments.is_empty() {
                return Ok(());
            }
        }
    }

    /// Reads and checks the next batch. False where there is none, or where it is damaged.
    fn fill(&mut self) -> Result<bool> {
        let archive = self.audit.archive;
        loop {
            let Some((segment, reader, next)) = &mut self.current else {
                let Some(segment) = self.segments.pop_front() else { return Ok(false) };
                match archive.scan(&segment, 0, BATCH_ROWS) {
                    Ok(reader) => {
                        let first = segment.first;
                        self.current = Some((segment, reader, first));
                        continue;
                    }
                    Err(error) if !error.is_fatal() => return Err(error),
                    Err(error) => {
                        return Ok(self.damaged(&segment.path, Check::Columns, &error.to_string()));
                    }
                }
            };
            let (path, last, expected) = (segment.path.clone(), segment.last, *next);
            match reader.next().transpose() {
                Ok(None) if expected == last + 1 => self.current = None,
                Ok(None) => {
                    let what = format!("its last row is {expected} - 1, its manifest says {last}");
                    self.current = None;
                    return Ok(self.damaged(&path, Check::Order, &what));
                }
                Ok(Some(batch)) => {
                    *next += batch.num_rows() as u64;
                    let segment = segment.clone();
                    return self.check_batch(&segment, &batch, expected);
                }
                Err(error) => {
                    self.current = None;
                    return Ok(self.damaged(&path, Check::Columns, &error.to_string()));
                }
            }
        }
    }

    fn damaged(&mut self, path: &str, check: Check, what: &str) -> bool {
        self.broken = true;
        self.audit.find(path, None, check, what);
        false
    }

    fn check_batch(
        &mut self,
        segment: &SegmentInfo,
        batch: &arrow::array::RecordBatch,
        first: u64,
    ) -> Result<bool> {
        let path = &segment.path;
        let columns = match Batch::new(batch) {
            Ok(columns) => columns,
            Err(what) => return Ok(self.damaged(path, Check::Columns, &what)),
        };
        let lanes = self.audit.archive.lanes;
        let wanted = Wanted { records: self.audit.options.signatures, trust_commitments: false };
        let rebuilt = match columns.rebuild(lanes, &mut self.committer, wanted) {
            Ok(rebuilt) => rebuilt,
            Err(bad) => {
                self.audit.find(path, Some(first + bad.row as u64), Check::Record, bad.what);
                self.broken = true;
                return Ok(false);
            }
        };
        let leaves = self.leaves(&rebuilt);
        for (i, (row, leaf)) in rebuilt.into_iter().zip(leaves).enumerate() {
            let index = first + i as u64;
            let find = |check, detail: &str| self.audit.find(path, Some(index), check, detail);
            if row.log_index != index {
                find(Check::Order, &format!("log index {} stands in its place", row.log_index));
                self.broken = true;
            }
            if day(row.time_ms) != day(segment.first_time_ms) {
                find(Check::Order, "its block time is not of the day of its path");
            }
            self.check_row(&columns, i, &row, &leaf, &find);
            self.ready.push_back(Checked { row, leaf });
        }
        if self.audit.options.signatures {
            self.check_signatures(path);
        }
        self.audit.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        self.audit.tell();
        Ok(!self.broken)
    }

    fn leaves(&self, rows: &[Rebuilt]) -> Vec<Digest> {
        let mut arena = Vec::with_capacity(rows.len() * 192);
        let mut ranges = Vec::with_capacity(rows.len());
        for row in rows {
            let begin = arena.len() as u32;
            arena.push(0);
            arena.extend_from_slice(&row.entry);
            ranges.push(begin..arena.len() as u32);
        }
        let mut leaves = vec![[0; 32]; rows.len()];
        self.audit.archive.lanes.sm3_ranges(&arena, &ranges, &mut leaves);
        leaves
    }

    fn check_row(
        &self,
        columns: &Batch<'_>,
        at: usize,
        row: &Rebuilt,
        leaf: &Digest,
        find: &dyn Fn(Check, &str),
    ) {
        if columns.commitment(at).is_some_and(|stored| stored != row.commitment) {
            find(Check::Leaf, "its commitment does not follow from its record");
        }
        if columns.leaf(at) != *leaf {
            find(Check::Leaf, "its leaf does not follow from its record: a column was changed");
            return;
        }
        match Entry::decode(&row.entry) {
            Err(error) => find(Check::Record, &format!("its entry does not decode: {error}")),
            Ok(entry) if entry.outcome.explain() != columns.detail(at) => {
                find(Check::Record, "the column detail does not say what outcome_data says");
            }
            Ok(_) => {}
        }
    }

    /// Checks the signatures of the rows just read, where their outcomes depend on them.
    fn check_signatures(&self, path: &str) {
        struct Held<'k> {
            key: &'k PublicKey,
            message: [u8; record::SIGNED_LEN],
            signature: Signature,
            index: u64,
            valid: bool,
        }
        let mut held: Vec<Held<'_>> = Vec::new();
        let find = |index, detail: &str| {
            self.audit.find(path, Some(index), Check::Signature, detail);
        };
        for Checked { row, .. } in &self.ready {
            let Ok(entry) = Entry::decode(&row.entry) else { continue };
            let Some(valid) = entry.outcome.signature_held() else { continue };
            let index = row.log_index;
            let Ok(record) = record::decode(&row.record) else {
                find(index, "its record does not decode, though its outcome needs that");
                continue;
            };
            let Some(key) = self.keys.get(&record.signer) else {
                if valid {
                    find(index, "no participant in the archive has its signer's key");
                }
                continue;
            };
            let message = record.signed(&self.audit.archive.chain, &row.commitment);
            held.push(Held { key, message, signature: record.signature, index, valid });
        }
        let jobs: Vec<sm2::Job<'_>> = held
            .iter()
            .map(|h| sm2::Job { key: h.key, message: &h.message, signature: &h.signature })
            .collect();
        let mut verdicts = vec![false; jobs.len()];
        self.audit.archive.lanes.sm2_verify(&jobs, &mut verdicts);
        for (held, verdict) in held.iter().zip(verdicts) {
            match (held.valid, verdict) {
                (true, false) => find(held.index, "its signature does not hold"),
                (false, true) => {
                    find(held.index, "its signature holds, its outcome says otherwise")
                }
                _ => {}
            }
        }
        self.audit.signatures.fetch_add(held.len() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontier_has_the_root_of_its_leaves() {
        let mut frontier = Frontier::default();
        let mut leaves = Vec::new();
        assert_eq!(frontier.root(), merkle::empty_root());
        for n in 0..70u64 {
            let leaf = merkle::leaf(&n.to_be_bytes());
            leaves.push(leaf);
            frontier.push(leaf);
            assert_eq!(frontier.root(), merkle::root_of_leaves(&leaves));
            assert_eq!(frontier.size(), n + 1);
        }
    }

    #[test]
    fn the_status_tree_agrees_with_its_proofs() {
        let mut tree = StatusTree::default();
        let (a, b, c) = ([1; 32], [2; 32], [3; 32]);
        assert_eq!(tree.update(Lanes::detect()), None);
        tree.changed.extend([(5, c), (6, b)]);
        assert_eq!(tree.record(5), c);
        tree.update(Lanes::detect()).unwrap();
        tree.changed.extend([(5, a), (1 << 33, b)]);
        let root = tree.update(Lanes::detect()).unwrap();
        assert_eq!((tree.record(5), tree.record(7)), (a, status::ZERO));
        let mut proof = status::StatusProof { siblings: [status::ZERO; 40] };
        for level in 0..40u8 {
            proof.siblings[usize::from(level)] = tree.get(level, (5 >> level) ^ 1);
        }
        assert_eq!(proof.root(&a, 5), Some(root));
        assert_ne!(proof.root(&b, 5), Some(root));
    }
}
