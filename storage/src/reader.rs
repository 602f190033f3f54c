//! Reading a data folder beside the node, or after it: without the lock, changing nothing.
//!
//! It sees the flush point at the time of opening. Logs and rows are append-only and cut by size;
//! where a flush is being written, or was interrupted, the old status bytes are taken from its undo
//! file. Status hashes that a later flush overwrites no longer match: open again.

use std::collections::HashMap;
use std::path::Path;

use crate::blocks::{Block, Blocks};
use crate::config::StoreConfig;
use crate::effects::{Digest, FlushPoint, IdPlace, Row, STATUS_DEPTH};
use crate::error::{Result, StoreError};
use crate::files::Files;
use crate::folder;
use crate::index::{Documents, Index};
use crate::levels::{Levels, LogOf};
use crate::shard::{Shard, StatusPath, resolve};
use crate::store::known_point;
use crate::tail::Rows;
use crate::undo::{NodePlace, Undo, node_on_disk};

/// A data folder opened for reading.
pub struct StoreReader {
    chain: Digest,
    point: FlushPoint,
    files: Files,
    blocks: Blocks,
    index: Index,
    history: Levels,
    shards: Vec<Shard>,
    undo: HashMap<NodePlace, Digest>,
}

impl StoreReader {
    /// Opens a data folder as of its last flush point.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let root = dir.as_ref();
        let owner = folder::owner(root)?;
        let config = StoreConfig::new(owner.chain, owner.partitions);
        let index = Index::open_read_only(root, config.index_limits())?;
        let point = known_point(&index, owner.partitions)?;
        let files = Files::new(root, false, config.open_files);
        let undo = Undo::load(root)?.filter(|undo| undo.height > point.height);
        let open = |(i, state): (usize, &_)| Shard::open(i as u32, *state, 1, &files, false);
        let shards = point.shards.iter().enumerate().map(open).collect::<Result<_>>()?;
        let history = Levels::open(LogOf::History, point.history_size, &files, false)?;
        let blocks = Blocks::open(root, false)?;
        let undo = undo.map(|undo| undo.old).unwrap_or_default();
        Ok(Self { chain: owner.chain, point, files, blocks, index, history, shards, undo })
    }

    /// Whose data it is.
    pub fn chain(&self) -> Digest {
        self.chain
    }

    /// The flush point that is read.
    pub fn flushed(&self) -> &FlushPoint {
        &self.point
    }

    fn shard(&self, shard: u32) -> Result<&Shard> {
        let count = self.shards.len();
        self.shards.get(shard as usize).ok_or_else(|| {
            StoreError::Refused(format!("there is no shard {shard}: this chain has {count}"))
        })
    }

    /// Where a subject was first seen.
    pub fn find(&self, shard: u32, subject: &[u8]) -> Result<Option<IdPlace>> {
        self.shard(shard)?.find(subject, &self.index)
    }

    /// The same for many subjects of a shard.
    pub fn find_many(&self, shard: u32, subjects: &[&[u8]]) -> Result<Vec<Option<IdPlace>>> {
        self.shard(shard)?.find_many(subjects, &self.index)
    }

    /// A complete hash of a shard's record log.
    pub fn log_hash(&self, shard: u32, level: u8, index: u64) -> Result<Option<Digest>> {
        self.shard(shard)?.log_hash(level, index, &self.files)
    }

    /// A hash of a shard's status tree; zeros where nothing was ever set.
    pub fn status_node(&self, shard: u32, level: u8, index: u64) -> Result<Digest> {
        self.shard(shard)?;
        match self.undo.get(&(shard, level, index)) {
            Some(old) => Ok(*old),
            None => node_on_disk(&self.files, (shard, level, index)),
        }
    }

    /// An invoice's status with the hashes that prove it.
    pub fn status_path(&self, shard: u32, issue: u64) -> Result<StatusPath> {
        let siblings =
            (0..STATUS_DEPTH).map(|level| self.status_node(shard, level, (issue >> level) ^ 1));
        Ok(StatusPath {
            record: self.status_node(shard, 0, issue)?,
            siblings: siblings.collect::<Result<_>>()?,
            document: self.index.document(shard, issue)?,
            state: self.point.shards[shard as usize],
        })
    }

    /// An invoice's status document.
    pub fn status_document(&self, shard: u32, issue: u64) -> Result<Option<Vec<u8>>> {
        self.index.document(shard, issue)
    }

    /// At most `max` status documents from an issue index on, ascending.
    pub fn status_documents(&self, shard: u32, from: u64, max: usize) -> Result<Documents> {
        self.index.documents(shard, from, max)
    }

    /// Rows of the tail from a log index on, as [`crate::Store::tail_read`] gives them.
    pub fn tail_read(&self, shard: u32, from: u64, max_rows: u64, max_bytes: u64) -> Result<Rows> {
        self.shard(shard)?.rows(from, max_rows, max_bytes, &self.files)
    }

    /// One row, if the tail still has it.
    pub fn tail_find(&self, shard: u32, log_index: u64) -> Result<Option<Row>> {
        self.shard(shard)?.row(log_index, &self.files)
    }

    /// First log index that the tail of a shard has.
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

    /// Height of the last block.
    pub fn tip(&self) -> Option<u64> {
        self.blocks.tip()
    }

    /// Leaves in the log over the headers; later blocks are in `block` but not yet here.
    pub fn history_size(&self) -> u64 {
        self.point.history_size
    }

    /// A complete hash of the log over the headers.
    pub fn history_hash(&self, level: u8, index: u64) -> Result<Option<Digest>> {
        resolve(self.history.find(level, index), index, &self.files)
    }
}
