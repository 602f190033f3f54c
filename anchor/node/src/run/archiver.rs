//! Seals rows into the archive while the node runs.
//!
//! A segment is sealed when enough rows of a shard wait, or when the oldest has waited long enough;
//! only rows that are flushed, so that the archive is never ahead of the state. Rows leave the tail
//! when their segment is published.
//!
//! Invariants
//! - Every executed row is in the archive or in the tail, at every moment.

use super::lock;
use super::metrics::Metrics;
use anyhow::{Result, anyhow, ensure};
use piaogen_storage::archive::{Archive, BlockRef};
use piaogen_storage::{FlushPoint, Store};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes of rows that are read at once while sealing: few, so that they are still in the processor's
/// cache when they are sealed, and their memory is used again.
const READ_BYTES: u64 = 1 << 20;

/// When segments are sealed.
#[derive(Clone, Copy, Debug)]
pub struct ArchivePolicy {
    /// Rows of one shard that make a segment.
    pub segment_rows: u64,
    /// The longest that a row waits.
    pub segment_age: Duration,
    /// Shards that are sealed at the same time, each by a thread of its own.
    pub threads: usize,
}

/// Seals segments.
pub struct Archiver {
    archive: Archive,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    policy: ArchivePolicy,
    /// When all was sealed last; held locked while sealing.
    sealed_at: Mutex<Instant>,
}

impl Archiver {
    /// An archiver for this store.
    ///
    /// Refuses an archive that has rows which the store does not have: they were sealed from another
    /// data folder, and what this one executes would never be sealed.
    pub fn new(
        archive: Archive,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
        policy: ArchivePolicy,
    ) -> Result<Archiver> {
        for (shard, state) in (0u32..).zip(&store.flushed()?.shards) {
            let sealed = archive.sealed_up_to(shard)?;
            ensure!(
                sealed <= state.log_size,
                "the archive has {sealed} rows of shard {shard}, the data folder {}: they are not of \
                 one node; name the archive that belongs to this folder, or an empty one",
                state.log_size,
            );
        }
        Ok(Archiver { archive, store, metrics, policy, sealed_at: Mutex::new(Instant::now()) })
    }

    /// The archive.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Seals all shards when one of them is due; whether there was anything.
    ///
    /// All together, because a header is archived with the rows that it speaks of.
    pub fn seal_due(&self) -> Result<bool> {
        let mut sealed_at = lock(&self.sealed_at);
        let flushed = self.store.flushed()?;
        let (mut most, mut any) = (0, false);
        for (shard, state) in (0u32..).zip(&flushed.shards) {
            let waiting = state.log_size.saturating_sub(self.archive.sealed_up_to(shard)?);
            any |= waiting > 0;
            most = most.max(waiting);
        }
        let old = any && sealed_at.elapsed() >= self.policy.segment_age;
        if !any {
            *sealed_at = Instant::now();
        }
        if !old && most < self.policy.segment_rows {
            return Ok(false);
        }
        self.seal(&flushed)?;
        *sealed_at = Instant::now();
        Ok(true)
    }

    /// Seals everything that is flushed.
    pub fn seal_all(&self) -> Result<()> {
        let _only = lock(&self.sealed_at);
        self.seal(&self.store.flushed()?)
    }

    fn seal(&self, flushed: &FlushPoint) -> Result<()> {
        self.seal_rows(flushed)?;
        // The header after the flush point carries the roots of the rows that are sealed now.
        let last = (flushed.height + 1).min(self.store.tip().unwrap_or(0));
        let from = self.archive.blocks_sealed_up_to()?;
        let mut blocks = Vec::new();
        for block in self.store.blocks_from(from) {
            let block = block?;
            if block.height > last {
                break;
            }
            blocks.push(block);
        }
        self.archive.seal_blocks(blocks.iter().map(|block| BlockRef {
            header: &block.header,
            cut: &block.cut,
            certificate: &block.finalization,
        }))?;
        Ok(())
    }

    /// Seals the rows of all shards, some shards side by side: the whole backlog waits for this,
    /// and one thread would keep one core busy with it.
    fn seal_rows(&self, flushed: &FlushPoint) -> Result<()> {
        let mut waiting = Vec::new();
        for (shard, state) in (0u32..).zip(&flushed.shards) {
            let rows = state.log_size.saturating_sub(self.archive.sealed_up_to(shard)?);
            if rows > 0 {
                waiting.push((rows, shard, state.log_size));
            }
        }
        // The largest first, so that no thread begins with one when the others are at an end.
        waiting.sort_unstable_by(|a, b| b.cmp(a));
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            while let Some((_, shard, size)) = waiting.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.seal_shard(*shard, *size)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let helpers = self.policy.threads.min(waiting.len()).saturating_sub(1);
            let begin = |i| std::thread::Builder::new().name(format!("seal-{i}"));
            let helpers = (1..=helpers)
                .map(|i| begin(i).spawn_scoped(scope, work))
                .collect::<std::io::Result<Vec<_>>>()?;
            let own = work();
            helpers.into_iter().try_for_each(|helper| {
                helper.join().map_err(|_| anyhow!("a thread that seals panicked"))?
            })?;
            own
        })
    }

    fn seal_shard(&self, shard: u32, size: u64) -> Result<()> {
        let from = self.archive.sealed_up_to(shard)?;
        if from >= size {
            return Ok(());
        }
        let mut sealer = self.archive.sealer(shard)?;
        while sealer.next_index() < size {
            let next = sealer.next_index();
            let rows = self.store.tail_read(shard, next, size - next, READ_BYTES)?;
            ensure!(!rows.is_empty(), "shard {shard}: row {next} is not in tail/");
            for row in rows.iter().take_while(|row| row.log_index < size) {
                sealer.push(row)?;
            }
        }
        sealer.finish()?;
        self.store.tail_release(shard, size)?;
        self.metrics.archived(size - from);
        Ok(())
    }
}
