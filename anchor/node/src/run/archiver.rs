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
use anyhow::Result;
use piaogen_storage::archive::Archive;
use piaogen_storage::Store;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// When segments are sealed.
#[derive(Clone, Copy, Debug)]
pub struct ArchivePolicy {
    /// Rows of one shard that make a segment.
    pub segment_rows: u64,
    /// The longest that a row waits.
    pub segment_age: Duration,
}

/// Seals segments.
pub struct Archiver {
    archive: Archive,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    policy: ArchivePolicy,
    /// When each shard was last sealed up to its end; one sealing at a time.
    sealed_at: Mutex<Vec<Instant>>,
}

impl Archiver {
    /// An archiver for this store.
    pub fn new(
        archive: Archive,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
        policy: ArchivePolicy,
    ) -> Result<Archiver> {
        let shards = store.recovered().shards.len();
        Ok(Archiver {
            archive,
            store,
            metrics,
            policy,
            sealed_at: Mutex::new(vec![Instant::now(); shards]),
        })
    }

    /// The archive.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Seals what is due; whether there was anything.
    pub fn seal_due(&self) -> Result<bool> {
        let mut sealed_at = lock(&self.sealed_at);
        let flushed = self.store.flushed()?;
        let mut any = false;
        for (shard, state) in (0u32..).zip(&flushed.shards) {
            let at = &mut sealed_at[shard as usize];
            let waiting = state.log_size.saturating_sub(self.archive.sealed_up_to(shard)?);
            if waiting == 0 {
                *at = Instant::now();
            }
            let old = waiting > 0 && at.elapsed() >= self.policy.segment_age;
            if old || waiting >= self.policy.segment_rows {
                self.seal(shard, state.log_size)?;
                *at = Instant::now();
                any = true;
            }
        }
        if any {
            self.archive.seal_blocks(&self.store, flushed.height)?;
        }
        Ok(any)
    }

    /// Seals everything that is flushed.
    pub fn seal_all(&self) -> Result<()> {
        let _only = lock(&self.sealed_at);
        let flushed = self.store.flushed()?;
        for (shard, state) in (0u32..).zip(&flushed.shards) {
            while self.archive.sealed_up_to(shard)? < state.log_size {
                self.seal(shard, state.log_size)?;
            }
        }
        let tip = self.store.tip().unwrap_or(0);
        self.archive.seal_blocks(&self.store, tip)?;
        Ok(())
    }

    fn seal(&self, shard: u32, size: u64) -> Result<()> {
        let from = self.archive.sealed_up_to(shard)?;
        let to = size.min(from + self.policy.segment_rows);
        self.archive.seal(&self.store, shard, to)?;
        self.store.tail_release(shard, to)?;
        self.metrics.archived(to - from);
        Ok(())
    }
}
