//! What can be read of a data folder, for the one who writes it and for others alike.
//!
//! [`crate::Store`] and [`crate::StoreReader`] are both seen through this: they differ in how they
//! open the folder and in what they may do to it, not in what they answer.

use std::ops::Range;
use std::sync::RwLock;

use crate::blocks::{Block, Blocks};
use crate::effects::{Digest, FlushPoint, IdPlace, Row};
use crate::error::{Result, StoreError};
use crate::files::Files;
use crate::index::{Documents, Index};
use crate::levels::{self, Levels, LogOf};
use crate::shard::{Shard, StatusPath, read, resolve};
use crate::tail::Rows;
use crate::waits::Wait;

/// An open data folder, as it is read.
pub struct View {
    pub(crate) files: Files,
    pub(crate) blocks: Blocks,
    pub(crate) index: Index,
    pub(crate) history: RwLock<Levels>,
    pub(crate) shards: Vec<Shard>,
}

impl View {
    /// The folder at a flush point; `write` cuts files to it.
    pub(crate) fn open(
        point: &FlushPoint,
        files: Files,
        blocks: Blocks,
        index: Index,
        chunk_bytes: u64,
        write: bool,
    ) -> Result<Self> {
        let shards = (0..)
            .zip(&point.shards)
            .map(|(number, state)| Shard::open(number, *state, chunk_bytes, &files, write))
            .collect::<Result<_>>()?;
        let history = Levels::open(LogOf::History, point.history_size, &files, write)?;
        Ok(Self { files, blocks, index, history: RwLock::new(history), shards })
    }

    pub(crate) fn shard(&self, shard: u32) -> Result<&Shard> {
        let count = self.shards.len();
        self.shards.get(shard as usize).ok_or_else(|| {
            StoreError::Refused(format!("there is no shard {shard}: this chain has {count}"))
        })
    }

    /// Where a subject was first seen.
    pub fn find(&self, shard: u32, subject: &[u8]) -> Result<Option<IdPlace>> {
        self.shard(shard)?.find(subject, &self.index)
    }

    /// The same for many subjects of a shard; one answer each, in their order.
    pub fn find_many(&self, shard: u32, subjects: &[&[u8]]) -> Result<Vec<Option<IdPlace>>> {
        self.shard(shard)?.find_many(subjects, &self.index)
    }

    /// A complete hash of a shard's record log: level 0 are the leaf hashes.
    pub fn log_hash(&self, shard: u32, level: u8, index: u64) -> Result<Option<Digest>> {
        self.shard(shard)?.log_hash(level, index, &self.files)
    }

    /// The same for a range of a level; nothing where the level does not have them all.
    pub fn log_hashes(
        &self,
        shard: u32,
        level: u8,
        range: Range<u64>,
    ) -> Result<Option<Vec<Digest>>> {
        self.shard(shard)?.log_hashes(level, range, &self.files)
    }

    /// A hash of a shard's status tree; zeros where nothing was ever set.
    pub fn status_node(&self, shard: u32, level: u8, index: u64) -> Result<Digest> {
        self.shard(shard)?.status_node(level, index, &self.files)
    }

    /// Many hashes of a status tree, by level and index, in their order. Cheapest where they are
    /// sorted.
    pub fn status_nodes(&self, shard: u32, places: &[(u8, u64)]) -> Result<Vec<Digest>> {
        self.shard(shard)?.status_nodes(places, &self.files)
    }

    /// The status documents of these issue indices, which ascend, in their order.
    pub fn statuses(&self, shard: u32, issues: &[u64]) -> Result<Vec<Option<Vec<u8>>>> {
        self.shard(shard)?.statuses(issues, &self.index)
    }

    /// An invoice's status with the hashes that prove it under this status root of its shard. A
    /// running store answers for the trees of the last four heights, a reader for the one that it
    /// sees; for others there is nothing.
    pub fn status_path(&self, shard: u32, issue: u64, root: &Digest) -> Result<Option<StatusPath>> {
        self.shard(shard)?.status_path(issue, root, &self.files, &self.index)
    }

    /// An invoice's status document.
    pub fn status_document(&self, shard: u32, issue: u64) -> Result<Option<Vec<u8>>> {
        self.shard(shard)?.document(issue, &self.index)
    }

    /// At most `max` status documents from an issue index on, ascending.
    pub fn status_documents(&self, shard: u32, from: u64, max: usize) -> Result<Documents> {
        self.shard(shard)?.documents(from, max, &self.index)
    }

    /// What waits on a shard and is due at a time, in the order of their times.
    pub fn waits(&self, shard: u32, until: i64) -> Result<Vec<Wait>> {
        self.shard(shard)?.waits(until, &self.index)
    }

    /// Rows of the tail from a log index on: at most `max_rows`, and no more frames once they have
    /// `max_bytes` on disk. Rows sealed and released are skipped: look at the first row's index.
    pub fn tail_read(&self, shard: u32, from: u64, max_rows: u64, max_bytes: u64) -> Result<Rows> {
        self.shard(shard)?.rows(from, max_rows, max_bytes, &self.files)
    }

    /// One row, if the tail still has it.
    pub fn tail_find(&self, shard: u32, log_index: u64) -> Result<Option<Row>> {
        self.shard(shard)?.row(log_index, &self.files)
    }

    /// First log index that the tail of a shard has; its log size where the tail is empty.
    pub fn tail_first(&self, shard: u32) -> Result<u64> {
        self.shard(shard)?.tail_first()
    }

    /// The block at a height.
    pub fn block(&self, height: u64) -> Result<Option<Block>> {
        self.blocks.get(height)
    }

    /// Blocks from a height on, to the last one.
    pub fn blocks_from(&self, height: u64) -> impl Iterator<Item = Result<Block>> {
        (height..).map_while(|height| self.blocks.get(height).transpose())
    }

    /// Height of the last block; `None` before the first.
    pub fn tip(&self) -> Option<u64> {
        self.blocks.tip()
    }

    /// Leaves in the log over the headers. A reader's does not grow, while its blocks may.
    pub fn history_size(&self) -> Result<u64> {
        Ok(read(&self.history)?.size())
    }

    /// A complete hash of the log over the headers.
    pub fn history_hash(&self, level: u8, index: u64) -> Result<Option<Digest>> {
        let found = read(&self.history)?.find(level, index);
        resolve(found, index, &self.files)
    }

    /// The same for a range of a level; nothing where the level does not have them all.
    pub fn history_hashes(&self, level: u8, range: Range<u64>) -> Result<Option<Vec<Digest>>> {
        let found = read(&self.history)?.find_many(level, range);
        found.map(|found| levels::read_many(&self.files, found)).transpose()
    }
}
