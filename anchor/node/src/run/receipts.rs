//! Makes receipts from what is stored, of a running node or of a data folder at rest.
//!
//! The row of a record (its entry and the record itself) comes from the archive, or from the rows
//! that are not sealed yet; hashes come from the flat files; nothing is computed twice.
//!
//! Invariants
//! - A receipt is made against one provable header; everything in it is of that header's sizes.

use super::chain::Provable;
use super::epochs;
use anyhow::{Context, Result, bail, ensure};
use piaogen_crypto::Digest;
use piaogen_storage::archive::Archive;
use piaogen_storage::{Block, FlushPoint, IdPlace, Row, Rows, StatusPath, StoreReader, View};
use piaogen_verify::checkpoint::Checkpoint;
use piaogen_verify::consistency::Consistency;
use piaogen_verify::entry::Entry;
use piaogen_verify::fields::Tag;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::header::{Header, ShardEntry, shards_root};
use piaogen_verify::merkle::{self, Hashes, root_from_inclusion};
use piaogen_verify::opening;
use piaogen_verify::receipt::{OpenedField, Receipt};
use piaogen_verify::record;
use piaogen_verify::tiles::Head;
use piaogen_verify::witness::{Cosigned, WITNESSES_MAX};
use std::ops::Deref;
use std::sync::Arc;

/// What receipts are read from: the store of a running node, or a folder at rest.
pub trait Reads {
    /// A hash of a record log.
    fn log_hash(&self, shard: u32, level: u8, index: u64) -> Result<Option<Digest>>;
    /// How many headers the log over them holds.
    fn headers(&self) -> Result<u64>;
    /// A hash of the log over the headers.
    fn history_hash(&self, level: u8, index: u64) -> Result<Option<Digest>>;
    /// Rows that are not sealed.
    fn tail_read(&self, shard: u32, from: u64, max_rows: u64) -> Result<Rows>;
    /// The first row that is not sealed.
    fn tail_first(&self, shard: u32) -> Result<u64>;
    /// Where a subject was used first.
    fn find(&self, shard: u32, subject: &[u8]) -> Result<Option<IdPlace>>;
    /// A block.
    fn block(&self, height: u64) -> Result<Option<Block>>;
    /// The status of an invoice with the hashes that prove it under this status root; nothing where
    /// that is no longer known.
    fn status_path(&self, shard: u32, issue: u64, root: &Digest) -> Result<Option<StatusPath>>;
}

/// Most bytes of rows that are read at once.
pub(crate) const ROWS_BYTES: u64 = 16 << 20;

impl<S: Deref<Target = View>> Reads for S {
    fn log_hash(&self, shard: u32, level: u8, index: u64) -> Result<Option<Digest>> {
        Ok(View::log_hash(self, shard, level, index)?)
    }
    fn headers(&self) -> Result<u64> {
        Ok(View::history_size(self)?)
    }
    fn history_hash(&self, level: u8, index: u64) -> Result<Option<Digest>> {
        Ok(View::history_hash(self, level, index)?)
    }
    fn tail_read(&self, shard: u32, from: u64, max_rows: u64) -> Result<Rows> {
        Ok(View::tail_read(self, shard, from, max_rows, ROWS_BYTES)?)
    }
    fn tail_first(&self, shard: u32) -> Result<u64> {
        Ok(View::tail_first(self, shard)?)
    }
    fn find(&self, shard: u32, subject: &[u8]) -> Result<Option<IdPlace>> {
        Ok(View::find(self, shard, subject)?)
    }
    fn block(&self, height: u64) -> Result<Option<Block>> {
        Ok(View::block(self, height)?)
    }
    fn status_path(&self, shard: u32, issue: u64, root: &Digest) -> Result<Option<StatusPath>> {
        Ok(View::status_path(self, shard, issue, root)?)
    }
}

struct LogHashes<'a, R>(&'a R, u32);

impl<R: Reads> Hashes for LogHashes<'_, R> {
    type Error = anyhow::Error;

    fn get(&self, level: u8, index: u64) -> Result<Digest> {
        self.0
            .log_hash(self.1, level, index)?
            .with_context(|| format!("shard {}: hash {index} of level {level} is missing", self.1))
    }
}

struct HistoryHashes<'a, R>(&'a R);

impl<R: Reads> Hashes for HistoryHashes<'_, R> {
    type Error = anyhow::Error;

    fn get(&self, level: u8, index: u64) -> Result<Digest> {
        self.0
            .history_hash(level, index)?
            .with_context(|| format!("history: hash {index} of level {level} is missing"))
    }
}

/// Some rows of a shard from `from` on, in log order; none at the end of the log.
pub fn rows<R: Reads>(
    archive: &Archive,
    store: &R,
    shard: u32,
    from: u64,
    max: u64,
) -> Result<Vec<Row>> {
    if let Some(found) = sealed_rows(archive, shard, from, max)? {
        return Ok(found);
    }
    let found = store.tail_read(shard, from, max);
    let first = found.as_ref().ok().and_then(|rows| rows.iter().next().map(|row| row.log_index));
    // The node may have sealed the row since the first look, and let go of it.
    if first != Some(from)
        && let Some(found) = sealed_rows(archive, shard, from, max)?
    {
        return Ok(found);
    }
    Ok(found?.iter().map(Row::from).collect())
}

/// Those that the archive has; nothing where the first of them is not sealed.
fn sealed_rows(archive: &Archive, shard: u32, from: u64, max: u64) -> Result<Option<Vec<Row>>> {
    if from >= archive.sealed_up_to(shard)? {
        return Ok(None);
    }
    let (mut found, mut bytes) = (Vec::new(), 0);
    for row in archive.some_rows(shard, from, max) {
        let row = row?;
        bytes += (row.entry.len() + row.record.len()) as u64;
        found.push(row);
        if bytes > ROWS_BYTES {
            break;
        }
    }
    Ok(Some(found))
}

/// The log index of the record at an offset of the stream, in a log of this size. Offsets may have
/// gaps, so the index is at most the offset, and they grow together.
pub fn index_of_offset(
    size: u64,
    offset: u64,
    entry: impl Fn(u64) -> Result<Entry>,
) -> Result<Option<u64>> {
    let (mut low, mut high) = (0, size.min(offset.saturating_add(1)));
    // Nearly always there are no gaps, and the last candidate is the one.
    let mut middle = high.saturating_sub(1);
    while low < high {
        match entry(middle)?.offset.cmp(&offset) {
            std::cmp::Ordering::Equal => return Ok(Some(middle)),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
        middle = low + (high - low) / 2;
    }
    Ok(None)
}

impl Provable {
    /// The state of a shard under the header.
    pub fn shard(&self, shard: u32) -> Result<&ShardEntry> {
        let shards = &self.shards;
        shards.get(shard as usize).with_context(|| {
            format!("there is no shard {shard}; they are 0 to {}", shards.len() - 1)
        })
    }

    /// The receipt of an entry with the proof that it is in its shard's log; without fields.
    pub fn receipt(
        &self,
        shard: ShardEntry,
        log_index: u64,
        entry: Entry,
        inclusion: Vec<Digest>,
    ) -> Receipt {
        let shard_proof = self.shards.proof(shard.shard);
        Receipt {
            fields: Vec::new(),
            entry,
            log_index,
            inclusion,
            shard,
            shard_proof,
            header: self.header,
            history: None,
            certificate: self.finalization.clone(),
            changes: self.changes(),
            cosigned: None,
        }
    }

    /// The height whose proof leads a receipt to the header, which must be a later one.
    pub fn renewable(&self, receipt: &Receipt) -> Result<u64> {
        let (old, new) = (receipt.header.height, self.header.height);
        ensure!(old < new, "the receipt is of height {old}, the newest header is {new}");
        Ok(old)
    }

    /// Leads a receipt to the header by the proof of its own.
    pub fn renew(&self, receipt: &mut Receipt, proof: Vec<Digest>) {
        receipt.history = Some((self.header, proof));
        receipt.certificate = self.finalization.clone();
        receipt.changes = self.changes();
        receipt.cosigned = None;
    }

    /// The head that it is.
    pub fn head(&self) -> Head {
        let (header, certificate) = (self.header, self.finalization.clone());
        Head { header, certificate, changes: self.changes(), shards: self.shards.to_vec() }
    }

    /// That the header extends an older one, by the proof of that.
    pub fn consistency(&self, older: Header, proof: Vec<Digest>) -> Consistency {
        let (newer, certificate) = (self.header, self.finalization.clone());
        Consistency { older, newer, proof, certificate, changes: self.changes() }
    }
}

/// The newest header of a receipt.
fn newest(receipt: &Receipt) -> &Header {
    receipt.history.as_ref().map_or(&receipt.header, |(newer, _)| newer)
}

/// The height of the header of a receipt that must be in the log of the first `size` headers, which
/// witnesses have signed, and of which so many are known here.
pub fn cosignable(receipt: &Receipt, size: u64, known: u64) -> Result<u64> {
    let height = newest(receipt).height;
    ensure!(
        height < size,
        "the checkpoint is over {size} headers, and the receipt ends with block {height}: let the \
         witnesses catch up, and then --attach their cosignatures to this receipt"
    );
    ensure!(size <= known, "the checkpoint is over {size} headers, here are {known}");
    Ok(height)
}

/// Has a receipt carry cosignatures, whose proof must lead from its newest header to their root.
pub fn carry(receipt: &mut Receipt, cosigned: Cosigned) -> Result<()> {
    let (header, size) = (newest(receipt), cosigned.size);
    ensure!(
        root_from_inclusion(&header.leaf(), header.height, size, &cosigned.proof)
            == Some(cosigned.root),
        "the checkpoint, the receipt and what is kept here are not of one history: `piaogen \
         witness gather` says whether witnesses signed two"
    );
    let count = cosigned.cosignatures.len();
    ensure!(
        (1..=WITNESSES_MAX as usize).contains(&count),
        "the checkpoint has {count} cosignatures, a receipt carries 1 to {WITNESSES_MAX}"
    );
    receipt.cosigned = Some(cosigned);
    Ok(())
}

/// The cosignatures of a checkpoint, with the proof that a receipt's newest header is in its log.
pub fn cosigned(checkpoint: &Checkpoint, proof: Vec<Digest>) -> Cosigned {
    let (size, root) = (checkpoint.size, checkpoint.root);
    Cosigned { size, root, proof, cosignatures: checkpoint.cosignatures() }
}

impl From<Head> for Provable {
    fn from(head: Head) -> Provable {
        let (header, shards) = (head.header, head.shards.into());
        let changes = Arc::new(head.changes);
        Provable { header, finalization: head.certificate, shards, changes }
    }
}

/// Answers what a data folder can prove.
pub struct Prover<'a, R> {
    /// Where hashes lie.
    pub store: &'a R,
    /// Where rows lie.
    pub archive: &'a Archive,
    /// The header against which everything is proved.
    pub provable: Provable,
}

impl<R: Reads> Prover<'_, R> {
    /// The row of a record, if it is provable yet.
    pub fn row(&self, shard: u32, log_index: u64) -> Result<Option<Row>> {
        if log_index >= self.provable.shard(shard)?.log_size {
            return Ok(None);
        }
        let row = match log_index < self.archive.sealed_up_to(shard)? {
            true => self.archive.row(shard, log_index)?,
            false => rows(self.archive, self.store, shard, log_index, 1)?.into_iter().next(),
        };
        let row = row.with_context(|| {
            format!("shard {shard}: row {log_index} is neither in the archive nor in tail/")
        })?;
        Ok(Some(row))
    }

    /// The entry of the record that created an invoice, if it is provable yet. Where the archive
    /// gives it for less than a row, its leaf says that it is the one.
    pub fn created(&self, shard: u32, subject: &[u8], id: &IdPlace) -> Result<Option<Entry>> {
        if id.log_index >= self.provable.shard(shard)?.log_size {
            return Ok(None);
        }
        if let Some(entry) = self.archive.entry_of(shard, subject, id)?
            && self.store.log_hash(shard, 0, id.log_index)? == Some(entry.leaf())
        {
            return Ok(Some(entry));
        }
        let Some(row) = self.row(shard, id.log_index)? else { return Ok(None) };
        Ok(Some(Entry::decode(&row.entry).context("a stored entry does not decode")?))
    }

    /// Provable rows of a shard from a log index on, at most `max`.
    pub fn rows(&self, shard: u32, from: u64, max: u64) -> Result<Vec<Row>> {
        let max = max.min(self.provable.shard(shard)?.log_size.saturating_sub(from));
        if max == 0 {
            return Ok(Vec::new());
        }
        rows(self.archive, self.store, shard, from, max)
    }

    /// The log index of the record at an offset of the stream, if it is provable yet.
    pub fn index_of_offset(&self, shard: u32, offset: u64) -> Result<Option<u64>> {
        index_of_offset(self.provable.shard(shard)?.log_size, offset, |index| {
            let row = self.row(shard, index)?.context("a row below the log's size")?;
            Entry::decode(&row.entry).context("a stored entry does not decode")
        })
    }

    /// The proof that a leaf is in a shard's log of this size.
    pub fn inclusion(&self, shard: u32, index: u64, size: u64) -> Result<Vec<Digest>> {
        merkle::prove_inclusion(&LogHashes(self.store, shard), index, size)
    }

    /// The receipt of a row, showing these fields.
    pub fn receipt(&self, shard: u32, row: &Row, show: &Show) -> Result<Receipt> {
        let entry = Entry::decode(&row.entry).context("a stored entry does not decode")?;
        let receipt = self.receipt_of(shard, row.log_index, entry)?;
        Ok(Receipt { fields: fields(&row.record, show), ..receipt })
    }

    /// The receipt of an entry, without fields.
    pub fn receipt_of(&self, shard: u32, log_index: u64, entry: Entry) -> Result<Receipt> {
        let state = *self.provable.shard(shard)?;
        let inclusion = self.inclusion(shard, log_index, state.log_size)?;
        Ok(self.provable.receipt(state, log_index, entry, inclusion))
    }

    /// Leads a receipt to the newest provable header.
    pub fn renew(&self, receipt: &mut Receipt) -> Result<()> {
        let proof = self.history(self.provable.renewable(receipt)?)?;
        self.provable.renew(receipt, proof);
        Ok(())
    }

    /// Puts the cosignatures of a checkpoint into a receipt whose newest header is in its log.
    pub fn cosign(&self, receipt: &mut Receipt, checkpoint: &Checkpoint) -> Result<()> {
        let height = cosignable(receipt, checkpoint.size, self.store.headers()?)?;
        let history = HistoryHashes(self.store);
        let proof = merkle::prove_inclusion(&history, height, checkpoint.size)?;
        carry(receipt, cosigned(checkpoint, proof))
    }

    /// The proof of the header at a height in the newest header's history.
    pub fn history(&self, height: u64) -> Result<Vec<Digest>> {
        merkle::prove_inclusion(&HistoryHashes(self.store), height, self.provable.header.height)
    }

    /// The proof that the header at one height is extended by that at a later one, where that one
    /// is provable and has a certificate of its own.
    pub fn consistency(&self, older: u64, newer: u64) -> Result<Option<Consistency>> {
        if older >= newer || newer > self.provable.header.height {
            return Ok(None);
        }
        let header = |height: u64| -> Result<(Header, Vec<u8>)> {
            let block = self.store.block(height)?.with_context(|| format!("no block {height}"))?;
            Ok((super::parse_block(&block)?.0, block.finalization))
        };
        let ((older, _), (newer, certificate)) = (header(older)?, header(newer)?);
        if certificate.is_empty() {
            return Ok(None);
        }
        let history = HistoryHashes(self.store);
        let proof = merkle::prove_inclusion(&history, older.height, newer.height)?;
        let changes = self.provable.changes_before(newer.height);
        Ok(Some(Consistency { older, newer, proof, certificate, changes }))
    }
}

/// Which fields a receipt shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    /// All of them.
    All,
    /// These.
    Only(Vec<Tag>),
}

fn fields(bytes: &[u8], show: &Show) -> Vec<OpenedField> {
    let Ok(record) = record::decode(bytes) else { return Vec::new() };
    if !record.kind.is_invoice() {
        return Vec::new();
    }
    let shown = |tag| match show {
        Show::All => true,
        Show::Only(tags) => tags.contains(&tag),
    };
    let fields = record.fields.iter().map(|(tag, value)| (*tag, value.to_vec()));
    opening::open(record.secret, &fields.collect(), shown)
}

/// The newest header of a folder at rest that carries the roots of its flush point.
pub fn provable_at_rest(
    genesis: &Genesis,
    archive: &Archive,
    reader: &StoreReader,
) -> Result<Provable> {
    let point: &FlushPoint = reader.flushed();
    let shards = super::shard_entries(&point.shards);
    let root = shards_root(&shards);
    for height in [point.height + 1, point.height] {
        let Some(block) = reader.block(height)? else { continue };
        let (header, _): (Header, _) = super::parse_block(&block)?;
        if header.shards_root == root && !block.finalization.is_empty() {
            let size = shards.last().map_or(0, |shard| shard.log_size);
            let registry = super::rebuild_registry(genesis, archive, reader, size)?;
            let sets = registry.governance().sets(height.saturating_sub(1));
            let changes = Arc::new(epochs::changes(reader, &sets)?);
            let (shards, finalization) = (shards.into(), block.finalization);
            return Ok(Provable { header, finalization, shards, changes });
        }
    }
    bail!(
        "no final header carries the roots of height {} yet; run the node until it is idle",
        point.height
    )
}
