//! One shard of a snapshot: its entries, rows and statuses, each computed back to the roots that a
//! final header binds, and what follows from them put into the folder.
//!
//! | what | why it is right |
//! |---|---|
//! | levels of the log | the leaves are the hashes of the entries, and lead to the log root |
//! | ids | entries of accepted invoices name subject, place and commitment; there are no others |
//! | status documents and tree | their digests lead to the status root |
//! | waits | follow from accepted `slip_open` entries, block time and policy |
//! | records, of the snapshot's rows or an archive's | commitments are the entries'; signatures hold |
//!
//! Invariants
//! - What is wrong is refused with the part or the shard in the message.

use super::leaves;
use super::restore::Restore;
use super::statuses::Tree;
use anyhow::{Context, Result, ensure};
use piaogen_anchor::log::Log;
use piaogen_anchor::registry::Registry;
use piaogen_crypto::sm2::{self, PublicKey, Signature};
use piaogen_storage::archive::Archive;
use piaogen_storage::snapshot::{Builder, Part, PartInfo, PartKind};
use piaogen_storage::{IdPlace, Row, RowChunk, Wait};
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::header::ShardEntry;
use piaogen_verify::record::{self, RecordKind, SIGNED_LEN};
use piaogen_verify::status::Status;
use rayon::prelude::*;

/// Rows of an archive that are in memory at once.
const TAKEN_ROWS: usize = 4_096;
/// Ids that go into one table of the index.
const TABLE_IDS: usize = 1 << 20;

/// The block of an offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockOf {
    pub(super) height: u64,
    pub(super) time_ms: i64,
    /// The time of the block before: "now" for its records.
    pub(super) now_ms: i64,
    /// Offsets of the shard that it covers.
    from: u64,
    to: u64,
}

/// What is being put together of one shard.
pub(super) struct ShardCheck<'a> {
    restore: &'a Restore<'a>,
    builder: &'a Builder,
    state: ShardEntry,
    log: Log,
    invoices: u64,
    ids: Vec<(Vec<u8>, IdPlace)>,
    block: Option<BlockOf>,
    /// Accepted slips with their blocks.
    pub(super) waits: Vec<Wait>,
}

impl<'a> ShardCheck<'a> {
    pub(super) fn new(restore: &'a Restore<'a>, builder: &'a Builder, shard: u32) -> Self {
        ShardCheck {
            restore,
            builder,
            state: restore.proved.shards[shard as usize],
            log: Log::default(),
            invoices: 0,
            ids: Vec::new(),
            block: None,
            waits: Vec::new(),
        }
    }

    fn parts(&self, kind: PartKind) -> Vec<&'a PartInfo> {
        self.restore.proved.manifest.parts_of(kind, Some(self.state.shard))
    }

    /// The block that covers an offset.
    fn block_of(&mut self, offset: u64) -> Result<BlockOf> {
        if let Some(block) = self.block.filter(|block| (block.from..block.to).contains(&offset)) {
            return Ok(block);
        }
        let cut = |height: u64| -> Result<(i64, u64)> {
            let (header, cut) = self.restore.block(self.builder, height)?;
            let end = cut.0.get(self.state.shard as usize).copied();
            Ok((header.time_ms, end.context("a cut has too few shards")?))
        };
        // The first height whose cut is behind the offset.
        let (mut low, mut high) = (1, self.restore.proved.manifest.height);
        while low < high {
            let middle = low + (high - low) / 2;
            match cut(middle)?.1 > offset {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        let ((now_ms, from), (time_ms, to)) = (cut(low.saturating_sub(1))?, cut(low)?);
        let shard = self.state.shard;
        ensure!((from..to).contains(&offset), "shard {shard}: no block covers offset {offset}");
        let block = BlockOf { height: low, time_ms, now_ms, from, to };
        self.block = Some(block);
        Ok(block)
    }

    /// Adds entries to the log, and notes what follows from them.
    fn append(
        &mut self,
        part: &Part<'_>,
        entries: &[&[u8]],
        registry: Option<&Registry>,
    ) -> Result<Vec<Entry>> {
        let first = self.log.size();
        let levels = self.log.append(self.restore.lanes, leaves(self.restore.lanes, entries));
        self.builder.log(self.state.shard, &levels)?;
        let decode = |bytes: &[u8]| {
            Entry::decode(bytes).map_err(|error| part.wrong(&format!("an entry: {error}")))
        };
        let decoded = entries.iter().map(|bytes| decode(bytes)).collect::<Result<Vec<_>, _>>()?;
        for (log_index, entry) in (first..).zip(&decoded) {
            if let Some(place) = IdPlace::of_entry(log_index, entry) {
                let (issue, due) = (place.issue_index, self.invoices);
                ensure!(issue == due, part.wrong(&format!("issue index {issue} should be {due}")));
                self.invoices += 1;
                self.ids.push((entry.subject.clone(), place));
            }
            let opened = entry.kind == Some(RecordKind::SlipOpen);
            if let (true, Outcome::Accepted, Some(registry)) = (opened, &entry.outcome, registry) {
                self.wait(log_index, entry, registry)?;
            }
        }
        if self.ids.len() >= TABLE_IDS {
            self.builder.ids(self.state.shard, std::mem::take(&mut self.ids))?;
        }
        Ok(decoded)
    }

    /// When the parties of a slip are to be warned, where that is not over.
    fn wait(&mut self, log_index: u64, entry: &Entry, registry: &Registry) -> Result<()> {
        let block = self.block_of(entry.offset)?;
        let policy = registry.policy_at(block.height);
        let deadline = block.now_ms.saturating_add_unsigned(policy.slip_ms);
        let at = deadline.saturating_sub_unsigned(policy.slip_warning_ms);
        if let Some(issue_index) = entry.issue
            && at > block.now_ms.max(self.restore.done_ms)
        {
            let subject = entry.subject.clone();
            self.waits.push(Wait { at, issue_index, log_index, subject });
        }
        Ok(())
    }

    /// Entries that have no records here. Those of `missing` are taken from another archive, from a
    /// log index on; `each` is told of them as in [`ShardCheck::rows`].
    pub(super) fn entries(
        &mut self,
        registry: &Registry,
        missing: Option<(&Archive, u64)>,
        mut each: impl FnMut(&Part<'_>, &Entry, &[u8], u64) -> Result<()>,
    ) -> Result<()> {
        let mut taken = missing.map(|(source, from)| source.rows(self.state.shard, from));
        let from = missing.map_or(u64::MAX, |(_, from)| from);
        for info in self.parts(PartKind::Entries) {
            let part = self.restore.part(info)?;
            let entries = part.entries()?;
            let decoded = self.append(&part, &entries, Some(registry))?;
            let mut at = from.saturating_sub(info.first).min(info.items) as usize;
            while let Some(rows) = taken.as_mut().filter(|_| at < entries.len()) {
                let end = entries.len().min(at + TAKEN_ROWS);
                let rows: Vec<Row> = rows.take(end - at).collect::<Result<_, _>>()?;
                let first = info.first + at as u64;
                check_taken(&part, first, &rows, &entries[at..end])?;
                let pairs: Vec<(&[u8], &[u8])> =
                    rows.iter().map(|row| (&row.entry[..], &row.record[..])).collect();
                self.keep(&part, first, &pairs, &decoded[at..end], &mut each)?;
                at = end;
            }
            (self.restore.advance)(info.items);
        }
        Ok(())
    }

    /// Rows; `each` is told the entry, the record and the height of each.
    pub(super) fn rows(
        &mut self,
        registry: Option<&Registry>,
        mut each: impl FnMut(&Part<'_>, &Entry, &[u8], u64) -> Result<()>,
    ) -> Result<()> {
        for info in self.parts(PartKind::Rows) {
            let part = self.restore.part(info)?;
            let rows = part.rows()?;
            let entries: Vec<&[u8]> = rows.iter().map(|(entry, _)| *entry).collect();
            let decoded = self.append(&part, &entries, registry)?;
            self.keep(&part, info.first, &rows, &decoded, &mut each)?;
            (self.restore.advance)(info.items);
        }
        Ok(())
    }

    /// Puts rows into the tail whose records are those of their entries.
    fn keep(
        &mut self,
        part: &Part<'_>,
        first: u64,
        rows: &[(&[u8], &[u8])],
        decoded: &[Entry],
        each: &mut impl FnMut(&Part<'_>, &Entry, &[u8], u64) -> Result<()>,
    ) -> Result<()> {
        let commitments: Vec<_> = rows.par_iter().map(|(_, record)| commitment(record)).collect();
        let mut chunk: Option<RowChunk> = None;
        let lines = (first..).zip(rows).zip(decoded).zip(commitments);
        for (((index, (entry_bytes, record)), entry), commitment) in lines {
            let what = || part.wrong(&format!("the record of row {index} is not its entry's"));
            ensure!(commitment == entry.commitment, what());
            let block = self.block_of(entry.offset)?;
            if chunk.as_ref().is_some_and(|chunk| chunk.height != block.height)
                && let Some(full) = chunk.take()
            {
                self.builder.rows(self.state.shard, &full)?;
            }
            let begun = || RowChunk::new(index, block.height, block.time_ms);
            chunk.get_or_insert_with(begun).push(entry_bytes, record)?;
            each(part, entry, record, block.height)?;
        }
        match chunk {
            Some(last) => Ok(self.builder.rows(self.state.shard, &last)?),
            None => Ok(()),
        }
    }

    /// Status documents and their tree.
    pub(super) fn statuses(&self) -> Result<()> {
        let shard = self.state.shard;
        let mut tree = Tree::new(self.builder, shard, self.restore.lanes);
        for info in self.parts(PartKind::Statuses) {
            let part = self.restore.part(info)?;
            let documents = part.statuses()?;
            let digest = |(issue, bytes): &(u64, &[u8])| {
                let status = Status::decode(bytes)
                    .map_err(|error| part.wrong(&format!("the status of {issue}: {error}")))?;
                Ok((*issue, status.digest()))
            };
            let records = documents.par_iter().map(digest).collect::<Result<Vec<_>>>()?;
            for (issue, record) in records {
                let within = issue < self.state.invoices;
                ensure!(within, part.wrong(&format!("there is no invoice {issue}")));
                tree.push(issue, record)?;
            }
            let owned = documents.into_iter().map(|(issue, bytes)| (issue, bytes.to_vec()));
            self.builder.documents(shard, owned.collect())?;
        }
        let root = tree.finish()?;
        ensure!(
            root == self.state.status_root,
            "the status documents of shard {shard} (parts statuses-{shard:04}-…) do not lead to its \
             status root: the snapshot is not of this chain's state"
        );
        Ok(())
    }

    /// Whether the log is the one that the header binds.
    pub(super) fn finish(&mut self) -> Result<()> {
        let shard = self.state.shard;
        self.builder.ids(shard, std::mem::take(&mut self.ids))?;
        ensure!(
            self.log.size() == self.state.log_size && self.log.root() == self.state.log_root,
            "the entries of shard {shard} (parts entries-{shard:04}-… and rows-{shard:04}-…) do not \
             lead to its log root: the snapshot is not of this chain's state"
        );
        // Bound by the same header; execution counts them as they are counted here.
        ensure!(self.invoices == self.state.invoices, "shard {shard}: another number of invoices");
        Ok(())
    }
}

/// Rows of another archive must be those of the entries.
fn check_taken(part: &Part<'_>, first: u64, rows: &[Row], entries: &[&[u8]]) -> Result<()> {
    for (index, entry) in (first..).zip(entries) {
        let row = rows.get((index - first) as usize);
        let same = row.is_some_and(|row| row.log_index == index && row.entry == *entry);
        ensure!(
            same,
            part.wrong(&format!(
                "row {index} of the archive is not the one that it has: name the \
                archive of the node that made the snapshot"
            ))
        );
    }
    Ok(())
}

/// The commitment of a record as it came, readable or not.
fn commitment(bytes: &[u8]) -> piaogen_crypto::Digest {
    record::decode(bytes)
        .map_or_else(|_| record::unreadable_commitment(bytes), |record| record.commitment())
}

/// Signatures of rows, to be checked together.
#[derive(Default)]
pub(super) struct Signed {
    held: Vec<(PublicKey, [u8; SIGNED_LEN], Signature, bool, u64)>,
}

/// Signatures that are checked at once.
const SIGNATURES: usize = 4_096;

impl Signed {
    /// Notes the signature of a row, where its outcome says whether it holds.
    pub(super) fn push(
        &mut self,
        restore: &Restore<'_>,
        registry: &Registry,
        (entry, bytes): (&Entry, &[u8]),
    ) -> Result<()> {
        let Some(valid) = entry.outcome.signature_held() else { return Ok(()) };
        let offset = entry.offset;
        let record = record::decode(bytes)
            .map_err(|_| anyhow::anyhow!("the record at offset {offset} does not decode"))?;
        let key = registry.key(&record.signer);
        let key = key.with_context(|| format!("the signer of offset {offset} is nobody"))?;
        let chain = &restore.proved.header.chain;
        let message = record.signed(chain, &entry.commitment);
        self.held.push((key.public_key.clone(), message, record.signature, valid, offset));
        if self.held.len() >= SIGNATURES { self.check(restore) } else { Ok(()) }
    }

    /// Checks what was noted.
    pub(super) fn check(&mut self, restore: &Restore<'_>) -> Result<()> {
        let held = std::mem::take(&mut self.held);
        let jobs: Vec<sm2::Job<'_>> = held
            .iter()
            .map(|(key, message, signature, ..)| sm2::Job { key, message, signature })
            .collect();
        let mut verdicts = vec![false; jobs.len()];
        restore.lanes.sm2_verify(&jobs, &mut verdicts);
        for ((.., valid, offset), verdict) in held.iter().zip(verdicts) {
            ensure!(
                *valid == verdict,
                "a rows part of the snapshot: the signature at offset {offset} is not what its \
                 outcome says"
            );
        }
        Ok(())
    }
}
