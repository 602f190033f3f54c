//! The store: blocks go in, become visible at once, and durable at the next flush point.
//!
//! `apply` changes memory (and appends rows); `flush` freezes a height and writes it out while
//! further blocks are applied above it. The steps of a flush and why each crash between them is
//! harmless are in `LAYOUT.md`. A failed write poisons the store: from then on it only answers
//! reads, and opening it again recovers.

use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::blocks::{self, Block, Blocks};
use crate::config::StoreConfig;
use crate::effects::{Digest, FlushPoint, IdPlace, ShardEffects, ShardState};
use crate::error::{During, Result, StoreError};
use crate::files::{Files, Place, create_folder, sync_folder};
use crate::folder::{self, Owner};
use crate::held::Held;
use crate::index::Index;
use crate::overlay::Map;
use crate::shard::{lock, read, write};
use crate::tail;
use crate::tiles;
use crate::undo::Undo;
use crate::view::View;

mod flush;

#[cfg(test)]
use flush::Step;

/// What opening found and did.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Height that all state is at.
    pub height: u64,
    /// State of each shard, the registry's last.
    pub shards: Vec<ShardState>,
    /// What had to be put right, for the log.
    pub notes: Vec<String>,
}

/// Bytes on disk, by store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sizes {
    /// Record logs and the log over the headers.
    pub log: u64,
    /// Status trees, as allocated.
    pub status: u64,
    /// RocksDB.
    pub index: u64,
    /// Rows not yet sealed.
    pub tail: u64,
    /// Blocks and certificates.
    pub blocks: u64,
}

/// What was applied, and how much of it is not yet frozen.
struct Applied {
    height: u64,
    rows: u64,
    bytes: u64,
}

/// The open store, read as of what is applied. All methods may be called from any thread.
pub struct Store {
    root: PathBuf,
    config: StoreConfig,
    recovered: Recovered,
    view: View,
    applied: Mutex<Applied>,
    /// Held locked for as long as a flush runs.
    flushing: Mutex<()>,
    flushed: Mutex<FlushPoint>,
    poisoned: AtomicBool,
    #[cfg(test)]
    fault: Mutex<Option<(Step, bool)>>,
    // Last, so that it is let go when everything else is closed.
    _lock: Held,
}

impl Store {
    /// Opens a data folder, creating it where it does not exist, and recovers it.
    pub fn open(dir: impl AsRef<Path>, config: StoreConfig) -> Result<Self> {
        let root = dir.as_ref().to_owned();
        config.check()?;
        let owner = Owner { chain: config.chain, partitions: config.partitions };
        let (lock, new) = folder::claim(&root, owner)?;
        if new {
            create(&root, &config)?;
            folder::created(&root, owner)?;
        }
        let blocks = Blocks::open(&root, true)?;
        let index = Index::open(&root, config.index_limits(), false)?;
        let point = known_point(&index, config.partitions)?;
        if index.rebuilding()? && !config.repair {
            return Err(StoreError::Refused(
                "a rebuild of the index was interrupted, so ids are missing: rebuild the ids first"
                    .into(),
            ));
        }
        if point.height > blocks.tip().unwrap_or(0) {
            return Err(StoreError::damaged(format!(
                "state is at height {}, but the last block is {:?}: blocks are missing; restore \
                 {}/blocks or start with an empty folder",
                point.height,
                blocks.tip(),
                root.display()
            )));
        }
        let files = Files::new(&root, true, config.open_files);
        let mut notes = Vec::new();
        undo(&root, &files, point.height, &mut notes)?;
        if blocks.tip().is_some_and(|tip| tip > point.height) {
            let blocks = blocks.tip().unwrap_or(0) - point.height;
            notes.push(format!("{blocks} blocks after height {} to execute again", point.height));
        }
        let view = View::open(&point, files, blocks, index, config.tail_chunk_bytes, true)?;
        let (height, shard_states) = (point.height, point.shards.clone());
        Ok(Self {
            recovered: Recovered { height, shards: shard_states, notes },
            root,
            config,
            view,
            applied: Mutex::new(Applied { height, rows: 0, bytes: 0 }),
            flushing: Mutex::new(()),
            flushed: Mutex::new(point),
            poisoned: AtomicBool::new(false),
            #[cfg(test)]
            fault: Mutex::new(None),
            _lock: lock,
        })
    }

    /// What opening found: where execution goes on.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Applies one block: the effects on each shard that it changed. Visible to reads when this
    /// returns, shard by shard; durable after the next flush.
    ///
    /// `Refused` and `Busy` change nothing; `Busy` means that a flush must be waited for, and does
    /// not happen where [`Store::has_room`].
    pub fn apply(&self, height: u64, effects: Vec<ShardEffects>) -> Result<()> {
        self.check_alive()?;
        let encode = |one: &ShardEffects| tail::encode(&one.rows, self.config.tail_compressed);
        let rows: Vec<_> = effects.par_iter().map(encode).collect::<Result<_>>()?;
        let mut applied = lock(&self.applied)?;
        self.check_apply(height, &applied, &effects)?;
        let pairs = effects.par_iter().zip(&rows);
        pairs.try_for_each(|(one, rows)| self.shard(one.shard)?.check(one, rows))?;
        applied.rows += effects.iter().map(|one| u64::from(one.rows.count)).sum::<u64>();
        applied.bytes += effects.iter().map(memory_of).sum::<u64>();
        let pairs = effects.into_par_iter().zip(&rows);
        let done = pairs.try_for_each(|(one, rows)| {
            self.shard(one.shard)?.apply(height, one, rows, &self.files)
        });
        applied.height = height;
        self.poison_if_failed(done)
    }

    fn check_apply(&self, height: u64, now: &Applied, effects: &[ShardEffects]) -> Result<()> {
        if height != now.height + 1 {
            return Err(StoreError::Refused(format!(
                "block {height} cannot be applied to state at height {}",
                now.height
            )));
        }
        let (rows, bytes) = (self.config.flush_rows, self.config.flush_bytes);
        if !self.room(now) {
            return Err(StoreError::Busy(format!(
                "{} rows and {} bytes are applied and not flushed, the limit is four times {rows} \
                 rows or {bytes} bytes: wait for a flush",
                now.rows, now.bytes
            )));
        }
        let mut shards: Vec<u32> = effects.iter().map(|one| one.shard).collect();
        shards.sort_unstable();
        if shards.windows(2).any(|two| two[0] == two[1]) {
            return Err(StoreError::Refused(format!(
                "block {height} has effects on one shard more than once"
            )));
        }
        Ok(())
    }

    fn room(&self, now: &Applied) -> bool {
        now.rows < 4 * self.config.flush_rows && now.bytes < 4 * self.config.flush_bytes
    }

    /// Whether a block can be applied without waiting for a flush.
    pub fn has_room(&self) -> Result<bool> {
        Ok(self.room(&*lock(&self.applied)?))
    }

    /// Height up to which blocks are applied.
    pub fn height(&self) -> Result<u64> {
        Ok(lock(&self.applied)?.height)
    }

    /// The last flush point: what a crash now would go back to.
    pub fn flushed(&self) -> Result<FlushPoint> {
        Ok(lock(&self.flushed)?.clone())
    }

    /// Whether enough was applied that a flush is due.
    pub fn should_flush(&self) -> Result<bool> {
        let applied = lock(&self.applied)?;
        Ok(applied.rows >= self.config.flush_rows || applied.bytes >= self.config.flush_bytes)
    }

    fn check_alive(&self) -> Result<()> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(StoreError::damaged(
                "an earlier write failed, so nothing more is written: stop, and start again to \
                 recover",
            ));
        }
        Ok(())
    }

    fn poison_if_failed<T>(&self, done: Result<T>) -> Result<T> {
        if done.is_err() {
            self.poisoned.store(true, Ordering::Release);
        }
        done
    }

    fn poison_if_fatal<T>(&self, done: Result<T>) -> Result<T> {
        match done {
            Err(error) if error.is_fatal() => self.poison_if_failed(Err(error)),
            done => done,
        }
    }

    /// State of a shard, as applied.
    pub fn state(&self, shard: u32) -> Result<ShardState> {
        self.shard(shard)?.state()
    }

    /// Deletes whole files of rows below a log index, because the archive has them. Rows that are
    /// not yet durable stay.
    pub fn tail_release(&self, shard: u32, up_to: u64) -> Result<()> {
        self.check_alive()?;
        let found = self.shard(shard)?;
        let durable = lock(&self.flushed)?.shards[shard as usize].log_size;
        self.poison_if_failed(found.release(up_to.min(durable), &self.files))
    }

    /// Appends a final block; durable when this returns. Heights begin with 0 and have no gaps.
    pub fn append_block(&self, block: &Block) -> Result<()> {
        self.check_alive()?;
        self.poison_if_fatal(self.blocks.append(block))
    }

    /// Keeps the body of a proposed block; durable when this returns.
    pub fn pending_put(&self, height: u64, digest: &Digest, body: &[u8]) -> Result<()> {
        self.check_alive()?;
        self.poison_if_fatal(self.blocks.pending_put(height, digest, body))
    }

    /// The body of a proposed block, by its digest.
    pub fn pending_get(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        self.blocks.pending_get(digest)
    }

    /// Forgets proposed bodies at or below a final height.
    pub fn pending_release(&self, up_to: u64) -> Result<()> {
        self.blocks.pending_release(up_to)
    }

    /// Appends to the log over the headers what takes it to `size` leaves. After opening it may be
    /// behind the blocks: the caller brings it up from them.
    pub fn history_append(&self, levels: &[Vec<Digest>], size: u64) -> Result<()> {
        self.check_alive()?;
        let blocks = self.blocks.tip().map_or(0, |tip| tip + 1);
        if size > blocks {
            return Err(StoreError::Refused(format!(
                "a history of {size} headers cannot be kept with {blocks} blocks"
            )));
        }
        let mut history = write(&self.history)?;
        history.check(levels, size)?;
        history.append(levels, size);
        Ok(())
    }

    /// Deletes all ids and builds them again from rows: shard, subject, place, in any order.
    /// Flushes first. Returns how many there were. If it is interrupted, the
    /// store opens only to do it again (`StoreConfig::repair`).
    pub fn rebuild_ids(
        &mut self,
        mut rows: impl Iterator<Item = (u32, Vec<u8>, IdPlace)>,
    ) -> Result<u64> {
        self.flush()?;
        self.index.set_rebuilding(true)?;
        self.view.index.clear_ids()?;
        let mut count = 0;
        for batch in 0.. {
            let mut shards = vec![Map::default(); self.shards.len()];
            let mut taken = 0;
            for (shard, subject, place) in rows.by_ref().take(self.config.flush_rows as usize) {
                self.shard(shard)?;
                shards[shard as usize].insert(subject, place);
                taken += 1;
            }
            if taken == 0 {
                break;
            }
            count += taken;
            let ids = shards.into_iter().enumerate().map(|(i, ids)| (i as u32, ids.into()));
            let done = self.index.add_ids(batch, ids.collect());
            self.poison_if_failed(done)?;
        }
        self.index.set_rebuilding(false)?;
        Ok(count)
    }

    /// Merges the index into its smallest form. Takes long, and as much space again.
    pub fn merge_index(&self) -> Result<()> {
        self.index.merge_ids()
    }

    /// Bytes on disk, by store.
    pub fn sizes(&self) -> Result<Sizes> {
        let mut sizes = Sizes {
            log: read(&self.history)?.bytes(),
            blocks: self.blocks.bytes(),
            index: self.index.bytes()?,
            ..Sizes::default()
        };
        for (i, shard) in self.shards.iter().enumerate() {
            let (log, tail) = shard.bytes()?;
            sizes.log += log;
            sizes.tail += tail;
            for band in 0..tiles::BANDS {
                let path = self.files.path(Place::Status { shard: i as u32, band });
                // Sparse files: what counts is what is allocated. A missing one has nothing.
                sizes.status += std::fs::metadata(path).map_or(0, |file| file.blocks() * 512);
            }
        }
        Ok(sizes)
    }
}

impl Deref for Store {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

/// What effects hold in memory until they are flushed, about.
fn memory_of(effects: &ShardEffects) -> u64 {
    let hashes = effects.levels.iter().map(Vec::len).sum::<usize>() * 32;
    let ids: usize = effects.ids.iter().map(|(subject, _)| subject.len() + 112).sum();
    let nodes = effects.status_nodes.len() * 64;
    let documents: usize = effects.status_documents.iter().map(|(_, d)| d.len() + 64).sum();
    let waits: usize = effects.waits.iter().map(|wait| wait.subject.len() + 64).sum();
    (hashes + ids + nodes + documents + waits) as u64
}

/// Makes the folders and files of an empty store. Doing it twice changes nothing.
pub(crate) fn create(root: &Path, config: &StoreConfig) -> Result<()> {
    let shards = config.partitions + 1;
    create_folder(&root.join("history"))?;
    for shard in 0..shards {
        for place in [
            Place::Log { shard, level: 0 },
            Place::Status { shard, band: 0 },
            Place::Tail { shard, first: 0 },
        ] {
            create_folder(&root.join(place.folder()))?;
        }
        sync_folder(&root.join(format!("shard-{shard:04}")))?;
    }
    blocks::create(root)?;
    let shards = vec![ShardState::default(); shards as usize];
    let index = Index::open(root, config.index_limits(), true)?;
    index.complete(&FlushPoint { height: 0, history_size: 0, shards }, &[], &[])?;
    sync_folder(root)
}

/// The flush point that RocksDB is at.
pub(crate) fn known_point(index: &Index, partitions: u32) -> Result<FlushPoint> {
    let point = index.flush_point()?;
    point.filter(|point| point.shards.len() == partitions as usize + 1).ok_or_else(|| {
        StoreError::damaged(
            "the index has no flush point for this chain's shards: restore the data folder, or \
             start with an empty one and replay the stream",
        )
    })
}

/// Takes back what an interrupted flush overwrote.
fn undo(root: &Path, files: &Files, height: u64, notes: &mut Vec<String>) -> Result<()> {
    if let Some(undo) = Undo::load(root)?.filter(|undo| undo.height > height) {
        undo.restore(files)?;
        notes.push(format!(
            "{} status hashes put back: the flush of height {} was interrupted",
            undo.old.len(),
            undo.height
        ));
    }
    Undo::release(root)?;
    sync_folder(root).during(|| "cannot finish recovery".to_owned())
}

#[cfg(test)]
mod tests;
