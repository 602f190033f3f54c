//! A data folder built from what a snapshot holds, without applying block after block.
//!
//! Everything is appended or written where nothing was, in any order of shards, and no file of it is
//! seen by a node before `FORMAT` is there: that is renamed into its place last, so a crash leaves
//! either no data folder or the whole one.
//!
//! Invariants
//! - The folder is at exactly the flush point that `finish` was given, or there is none.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::blocks::{Block, Blocks};
use crate::config::StoreConfig;
use crate::effects::{Digest, FlushPoint, IdPlace, RowChunk};
use crate::error::{Result, StoreError};
use crate::files::Files;
use crate::folder::{self, Owner};
use crate::held::Held;
use crate::index::Index;
use crate::levels::{Levels, LogOf};
use crate::overlay::Map;
use crate::shard::lock;
use crate::store::create;
use crate::tail::{self, Tail};
use crate::undo::write_nodes;
use crate::waits::{FrozenWaits, Wait};

/// Leaves of a log that are kept in memory before its levels are written.
const LEAVES: u64 = 1 << 20;

/// One log that grows.
struct Growing {
    levels: Levels,
    written: u64,
}

/// What one shard has so far.
struct ShardFiles {
    log: Growing,
    tail: Tail,
}

/// A data folder that is being built.
pub struct Builder {
    root: PathBuf,
    config: StoreConfig,
    files: Files,
    blocks: Blocks,
    index: Index,
    history: Mutex<Growing>,
    shards: Vec<Mutex<ShardFiles>>,
    tables: AtomicU64,
    _lock: Held,
}

impl Growing {
    fn open(of: LogOf, files: &Files) -> Result<Self> {
        Ok(Self { levels: Levels::open(of, 0, files, true)?, written: 0 })
    }

    fn append(&mut self, levels: &[Vec<Digest>], files: &Files) -> Result<()> {
        let size = self.levels.size() + levels.first().map_or(0, Vec::len) as u64;
        self.levels.check(levels, size)?;
        self.levels.append(levels, size);
        if size - self.written >= LEAVES { self.write(files) } else { Ok(()) }
    }

    fn write(&mut self, files: &Files) -> Result<()> {
        let writes = self.levels.to_write();
        writes.iter().try_for_each(|write| write.write(files))?;
        self.levels.written(&writes);
        self.written = self.levels.size();
        Ok(())
    }
}

impl Builder {
    /// Begins in a new folder, or anew in one whose restore was cut short. `tails` is where the rows
    /// of each shard begin.
    pub fn begin(dir: impl AsRef<Path>, config: StoreConfig, tails: &[u64]) -> Result<Self> {
        config.check()?;
        let root = dir.as_ref().to_owned();
        let lock = folder::claim_restore(&root)?;
        create(&root, &config)?;
        let files = Files::new(&root, true, config.open_files);
        let shard = |(number, first): (u32, &u64)| {
            let log = Growing::open(LogOf::Shard(number), &files)?;
            let tail = Tail::open(number, *first, config.tail_chunk_bytes, &files, true)?;
            Ok(Mutex::new(ShardFiles { log, tail }))
        };
        let shards = (0..).zip(tails).map(shard).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            blocks: Blocks::open(&root, true)?,
            index: Index::open(&root, config.index_limits(), false)?,
            history: Mutex::new(Growing::open(LogOf::History, &files)?),
            shards,
            files,
            root,
            config,
            tables: AtomicU64::new(0),
            _lock: lock,
        })
    }

    fn shard(&self, shard: u32) -> Result<&Mutex<ShardFiles>> {
        self.shards.get(shard as usize).ok_or_else(|| {
            StoreError::Refused(format!(
                "there is no shard {shard}: {} are built",
                self.shards.len()
            ))
        })
    }

    /// Appends blocks, from height 0 on.
    pub fn blocks(&self, blocks: &[Block]) -> Result<()> {
        self.blocks.append_all(blocks)
    }

    /// A block that was appended.
    pub fn block(&self, height: u64) -> Result<Option<Block>> {
        self.blocks.get(height)
    }

    /// Appends to the log over the headers: new hashes by level.
    pub fn history(&self, levels: &[Vec<Digest>]) -> Result<()> {
        lock(&self.history)?.append(levels, &self.files)
    }

    /// Appends to the record log of a shard: new hashes by level.
    pub fn log(&self, shard: u32, levels: &[Vec<Digest>]) -> Result<()> {
        lock(self.shard(shard)?)?.log.append(levels, &self.files)
    }

    /// Adds ids of a shard.
    pub fn ids(&self, shard: u32, ids: Vec<(Vec<u8>, IdPlace)>) -> Result<()> {
        while self.index.lags()? {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let ids: Map<Vec<u8>, IdPlace> = ids.into_iter().collect();
        let name = self.tables.fetch_add(1, Ordering::Relaxed);
        self.index.add_ids(name, vec![(shard, Arc::new(ids))])
    }

    /// Adds status documents of a shard.
    pub fn documents(&self, shard: u32, documents: Vec<(u64, Vec<u8>)>) -> Result<()> {
        let documents: Map<u64, Vec<u8>> = documents.into_iter().collect();
        self.index.complete(&self.nothing(), &[(shard, Arc::new(documents))], &[])
    }

    /// The flush point that stands in the index until the last one is written.
    fn nothing(&self) -> FlushPoint {
        let shards = vec![Default::default(); self.shards.len()];
        FlushPoint { height: 0, history_size: 0, shards }
    }

    /// Writes hashes of a shard's status tree: level, index, hash.
    pub fn status_nodes(&self, shard: u32, nodes: &[(u8, u64, Digest)]) -> Result<()> {
        let place = |(level, index, hash): &(u8, u64, Digest)| ((shard, *level, *index), *hash);
        write_nodes(&self.files, nodes.iter().map(place).collect())
    }

    /// Appends rows of one block to those of a shard.
    pub fn rows(&self, shard: u32, rows: &RowChunk) -> Result<()> {
        let encoded = tail::encode(rows, self.config.tail_compressed)?;
        let mut files = lock(self.shard(shard)?)?;
        files.tail.check(&encoded, rows.first_index + u64::from(rows.count))?;
        files.tail.append(&encoded, &rows.bytes, &self.files)
    }

    /// Completes the folder at a flush point; `waits` are those of each shard.
    pub fn finish(self, point: &FlushPoint, waits: Vec<(u32, Vec<Wait>)>) -> Result<()> {
        let mut history = lock(&self.history)?;
        history.write(&self.files)?;
        let grown = |what: &str| StoreError::Refused(format!("{what} does not reach the point"));
        if history.levels.size() != point.history_size {
            return Err(grown("the history"));
        }
        drop(history);
        for (shard, state) in self.shards.iter().zip(&point.shards) {
            let mut files = lock(shard)?;
            files.log.write(&self.files)?;
            if files.log.levels.size() != state.log_size || files.tail.next() != state.log_size {
                return Err(grown("a log"));
            }
            let dirty = files.tail.take_dirty();
            dirty.into_iter().try_for_each(|place| tail::sync(&self.files, place))?;
        }
        self.blocks.sync_index()?;
        let frozen = |(shard, waits): (u32, Vec<Wait>)| {
            let entry = |wait: Wait| ((wait.at, wait.issue_index), (wait.log_index, wait.subject));
            let new = waits.into_iter().map(entry).collect();
            (shard, Arc::new(FrozenWaits { done: None, new }))
        };
        let waits: Vec<_> = waits.into_iter().map(frozen).collect();
        self.index.complete(point, &[], &waits)?;
        let owner = Owner { chain: self.config.chain, partitions: self.config.partitions };
        folder::created(&self.root, owner)
    }
}
