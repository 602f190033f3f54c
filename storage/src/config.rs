//! Limits and identity of a store; every default is here.

use crate::effects::Digest;
use crate::error::{Result, StoreError};
use crate::index::IndexLimits;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Digest of the genesis: whose data this is.
    pub chain: Digest,
    /// Partitions of the stream; there is one shard more, for the registry.
    pub partitions: u32,
    /// Bytes of RocksDB's block cache, which also holds filters.
    pub cache_bytes: usize,
    /// Most flat files that are open at once, about.
    pub open_files: usize,
    /// Most RocksDB tables that are open at once.
    pub index_open_files: u32,
    /// Threads with which RocksDB writes and merges.
    pub background_jobs: u32,
    /// Threads that sync logs during a flush.
    pub flush_threads: usize,
    /// Rows after which a flush is due; four times as many block `apply`.
    pub flush_rows: u64,
    /// Bytes in memory after which a flush is due; four times as many block `apply`.
    pub flush_bytes: u64,
    /// Bytes after which a new file of rows is begun.
    pub tail_chunk_bytes: u64,
    /// Compress rows until they are sealed: half the bytes on disk for 2 µs of a core a row.
    pub tail_compressed: bool,
    /// Open even where a rebuild of the ids was interrupted, in order to do it again.
    pub repair: bool,
}

impl StoreConfig {
    /// The defaults, for a chain of so many partitions.
    pub fn new(chain: Digest, partitions: u32) -> Self {
        Self {
            chain,
            partitions,
            cache_bytes: 256 << 20,
            open_files: 384,
            index_open_files: 256,
            background_jobs: 2,
            flush_threads: 4,
            flush_rows: 1_000_000,
            flush_bytes: 512 << 20,
            tail_chunk_bytes: 16 << 20,
            tail_compressed: false,
            repair: false,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let positive = [
            ("partitions", u64::from(self.partitions), 4096),
            ("open_files", self.open_files as u64, 1 << 20),
            ("index_open_files", u64::from(self.index_open_files), 1 << 20),
            ("background_jobs", u64::from(self.background_jobs), 256),
            ("flush_threads", self.flush_threads as u64, 256),
            ("flush_rows", self.flush_rows, 1 << 30),
            ("flush_bytes", self.flush_bytes, 1 << 40),
            ("tail_chunk_bytes", self.tail_chunk_bytes, 1 << 30),
        ];
        match positive.iter().find(|(_, value, most)| *value == 0 || value > most) {
            None => Ok(()),
            Some((name, value, most)) => Err(StoreError::Refused(format!(
                "{name} is {value}, it must be from 1 to {most}: change the configuration"
            ))),
        }
    }

    pub(crate) fn index_limits(&self) -> IndexLimits {
        IndexLimits {
            cache_bytes: self.cache_bytes,
            open_files: self.index_open_files as i32,
            background_jobs: self.background_jobs as i32,
        }
    }
}
