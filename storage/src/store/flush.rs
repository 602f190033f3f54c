//! The flush: what was applied up to one height is frozen, written out and let go.
//!
//! Every step that changes the disk is a [`Step`], so that the tests can let each fail, before and
//! after it took effect. Blocks go on being applied meanwhile; only freezing and letting go take
//! the locks that `apply` takes.

use super::Store;
use crate::effects::FlushPoint;
use crate::error::{Result, StoreError};
use crate::levels::LevelWrite;
use crate::shard::{Frozen, Shard, lock, read, write};
use crate::tail;
use crate::undo::{Undo, write_nodes};

/// A height frozen for flushing.
struct Freeze {
    point: FlushPoint,
    history: Vec<LevelWrite>,
    shards: Vec<Frozen>,
}

/// The steps of a flush that change the disk, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Append,
    Undo,
    InPlace,
    Ids,
    Point,
    Release,
}

impl Store {
    /// Makes everything applied so far durable and returns that height. Runs beside `apply`; a
    /// second flush waits for the first.
    pub fn flush(&self) -> Result<u64> {
        let _only = lock(&self.flushing)?;
        self.check_alive()?;
        let freeze = match self.freeze() {
            Ok(None) => return Ok(lock(&self.flushed)?.height),
            Ok(Some(freeze)) => freeze,
            Err(error @ StoreError::Refused(_)) => return Err(error),
            Err(error) => return self.poison_if_failed(Err(error)),
        };
        let done = self.write_out(&freeze).and_then(|()| self.thaw(&freeze));
        self.poison_if_failed(done)?;
        let height = freeze.point.height;
        *lock(&self.flushed)? = freeze.point;
        Ok(height)
    }

    fn thaw(&self, freeze: &Freeze) -> Result<()> {
        let mut pairs = self.shards.iter().zip(&freeze.shards);
        pairs.try_for_each(|(shard, frozen)| shard.thaw(frozen))?;
        write(&self.history)?.written(&freeze.history);
        Ok(())
    }

    /// Freezes the applied height; `None` where nothing changed since the last flush.
    fn freeze(&self) -> Result<Option<Freeze>> {
        let mut applied = lock(&self.applied)?;
        let tip = self.blocks.tip().unwrap_or(0);
        if applied.height > tip {
            return Err(StoreError::Refused(format!(
                "state of height {} cannot become durable before its block; the last is {tip}",
                applied.height
            )));
        }
        let history = read(&self.history)?;
        let flushed = lock(&self.flushed)?;
        if applied.height == flushed.height && history.size() == flushed.history_size {
            return Ok(None);
        }
        let freeze = |shard: &Shard| shard.freeze(applied.height);
        let shards: Vec<Frozen> = self.shards.iter().map(freeze).collect::<Result<_>>()?;
        (applied.rows, applied.bytes) = (0, 0);
        let point = FlushPoint {
            height: applied.height,
            history_size: history.size(),
            shards: shards.iter().map(|shard| shard.state).collect(),
        };
        Ok(Some(Freeze { point, history: history.to_write(), shards }))
    }

    fn write_out(&self, freeze: &Freeze) -> Result<()> {
        let height = freeze.point.height;
        let changed = || {
            let shards = freeze.shards.iter();
            shards.flat_map(|one| {
                one.status.iter().map(|((level, at), hash)| ((one.shard, *level, *at), *hash))
            })
        };
        let overwrites = changed().next().is_some();
        self.step(Step::Append, || self.append(freeze))?;
        self.shards.iter().try_for_each(|one| one.settle(height, &self.files, &self.index))?;
        if overwrites {
            let places = changed().map(|(place, _)| place);
            self.step(Step::Undo, || Undo::note(&self.root, &self.files, height, places))?;
            self.step(Step::InPlace, || write_nodes(&self.files, changed().collect()))?;
        }
        self.step(Step::Ids, || {
            while self.index.lags()? {
                // Look-ups would slow down for good; slowing the stream down is the lesser evil.
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            let ids = freeze.shards.iter().map(|one| (one.shard, one.ids.clone()));
            self.index.add_ids(height, ids.collect())
        })?;
        self.step(Step::Point, || {
            let documents = freeze.shards.iter().map(|one| (one.shard, one.documents.clone()));
            let waits = freeze.shards.iter().map(|one| (one.shard, one.waits.clone()));
            let (documents, waits): (Vec<_>, Vec<_>) = (documents.collect(), waits.collect());
            self.index.complete(&freeze.point, &documents, &waits)
        })?;
        if overwrites {
            self.step(Step::Release, || Undo::release(&self.root))?;
        }
        Ok(())
    }

    /// Appends to the level files and syncs them and the rows, some shards at a time: what takes
    /// long here is waiting for the disk.
    fn append(&self, freeze: &Freeze) -> Result<()> {
        freeze.history.iter().try_for_each(|level| level.write(&self.files))?;
        self.blocks.sync_index()?;
        let one = |shard: &Frozen| -> Result<()> {
            shard.levels.iter().try_for_each(|level| level.write(&self.files))?;
            shard.rows.iter().try_for_each(|place| tail::sync(&self.files, *place))
        };
        let share = freeze.shards.len().div_ceil(self.config.flush_threads).max(1);
        std::thread::scope(|scope| {
            let parts = freeze.shards.chunks(share);
            let threads: Vec<_> =
                parts.map(|part| scope.spawn(move || part.iter().try_for_each(one))).collect();
            let panicked = || StoreError::damaged("a thread that wrote logs panicked");
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| panicked())?)
        })
    }

    #[cfg(not(test))]
    fn step(&self, _: Step, action: impl FnOnce() -> Result<()>) -> Result<()> {
        action()
    }

    /// A step that a test may let fail before its action, or after it took effect.
    #[cfg(test)]
    fn step(&self, step: Step, action: impl FnOnce() -> Result<()>) -> Result<()> {
        let fault = *lock(&self.fault)?;
        let failed = || Err(StoreError::damaged(format!("fault at {step:?}")));
        if fault == Some((step, false)) {
            return failed();
        }
        action()?;
        if fault == Some((step, true)) { failed() } else { Ok(()) }
    }
}
