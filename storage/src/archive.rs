//! The archive: Parquet segments of records and blocks that prove themselves (`ARCHIVE.md`).
//!
//! Rows that are final are sealed into segments, each published by its manifest. What is sealed can
//! be read by any tool that reads Parquet, row by row by ours, and checked from the files alone.
//!
//! | file | topic |
//! |---|---|
//! | `archive/schema.rs` | columns and their encodings |
//! | `archive/parts.rs`, `archive/columns.rs`, `archive/rebuild.rs` | rows into columns and back |
//! | `archive/sealer.rs`, `archive/digest.rs` | writing segments; the digest of a file |
//! | `archive/manifest.rs`, `archive/medium.rs` | publication; folder or object store |
//! | `archive/reader.rs`, `archive/pages.rs` | reading rows and blocks; pages that are remembered |
//! | `archive/copy.rs` | the beginning of an archive into another |
//! | `archive/audit.rs` | checking everything |
//!
//! Invariants
//! - A segment exists if and only if its manifest does; what else lies there is a leftover.
//! - One process writes. Readers need no lock, since nothing is ever rewritten.
//! - Blocks are sealed after all rows before them, so the last archived header covers whole logs.

pub mod audit;
mod columns;
mod copy;
mod digest;
mod manifest;
mod medium;
mod pages;
mod parts;
mod reader;
mod rebuild;
mod schema;
mod sealer;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path as StorePath;
use piaogen_crypto::{Digest, Lanes, sm3};

pub use copy::Copied;
pub use manifest::{SegmentInfo, Series};
pub use reader::{ArchivedBlock, BlocksIter, RowsIter};
pub use schema::{LAYOUT, blocks as blocks_schema, records as records_schema};
pub use sealer::{BlockRef, Sealer};

pub(crate) use digest::FileHasher;

use crate::error::{Result, StoreError};
use manifest::{Linked, follows};
use medium::Medium;
use pages::Pages;

/// Where the genesis file lies.
const GENESIS: &str = "genesis.json";
/// Most bytes of a genesis file.
const GENESIS_BYTES: usize = 16 << 20;
/// Most bytes of pages that are remembered: of some 3 million rows where 5,000 keys sign.
const PAGES_BYTES: usize = 64 << 20;

/// How an archive is kept.
#[derive(Clone, Debug)]
pub struct ArchiveConfig {
    /// A folder, or a URL of an object store: `s3://bucket/prefix`.
    pub location: String,
    /// Options of the object store, such as `aws_endpoint`; see the crate `object_store`.
    pub options: BTreeMap<String, String>,
    /// Folder for files on their way to an object store; the system's temporary folder by default.
    pub scratch: Option<PathBuf>,
    /// Most rows of a segment.
    pub segment_rows: u64,
    /// Rows of a row group.
    pub row_group_rows: usize,
    /// Store commitments, 32 bytes a row, though they follow from the rest.
    pub commitments: bool,
}

impl ArchiveConfig {
    /// The defaults, at this location.
    pub fn new(location: impl Into<String>) -> Self {
        Self {
            location: location.into(),
            options: BTreeMap::new(),
            scratch: None,
            segment_rows: 1 << 20,
            row_group_rows: 1 << 17,
            commitments: false,
        }
    }

    fn check(&self) -> Result<()> {
        if (1..=1 << 32).contains(&self.segment_rows)
            && (1..=1 << 24).contains(&self.row_group_rows)
        {
            return Ok(());
        }
        Err(StoreError::Refused(format!(
            "segment_rows = {} must be within 1 and {}, row_group_rows = {} within 1 and {}",
            self.segment_rows,
            1u64 << 32,
            self.row_group_rows,
            1 << 24
        )))
    }
}

/// What is known of the segments.
#[derive(Default)]
struct Known {
    series: BTreeMap<Series, Vec<Linked>>,
    /// Series of which a write failed, so that their manifests must be read again.
    unknown: BTreeSet<Series>,
}

/// An archive.
pub struct Archive {
    medium: Arc<dyn Medium>,
    config: ArchiveConfig,
    chain: Digest,
    lanes: Lanes,
    writable: bool,
    known: Mutex<Known>,
    cache: reader::Cache,
    pages: Pages,
}

impl Archive {
    /// Opens an archive for writing, created where there is none; removes what a crash left.
    pub fn open(config: ArchiveConfig, chain: Digest) -> Result<Self> {
        config.check()?;
        let scratch = config.scratch.as_deref();
        let medium = medium::open(&config.location, &config.options, scratch, true)?;
        Self::open_on(medium, config, Some(chain), true)
    }

    /// Opens an archive for reading, beside a writer or without one. The chain is that of its
    /// genesis file, if none is given.
    pub fn open_read_only(config: ArchiveConfig, chain: Option<Digest>) -> Result<Self> {
        config.check()?;
        let scratch = config.scratch.as_deref();
        let medium = medium::open(&config.location, &config.options, scratch, false)?;
        Self::open_on(medium, config, chain, false)
    }

    /// Opens an archive in an object store that is at hand.
    pub fn open_store(
        store: Arc<dyn ObjectStore>,
        prefix: StorePath,
        config: ArchiveConfig,
        chain: Option<Digest>,
        writable: bool,
    ) -> Result<Self> {
        config.check()?;
        let medium = medium::Remote::new(store, prefix, config.scratch.as_deref())?;
        Self::open_on(Arc::new(medium), config, chain, writable)
    }

    pub(crate) fn open_on(
        medium: Arc<dyn Medium>,
        config: ArchiveConfig,
        chain: Option<Digest>,
        writable: bool,
    ) -> Result<Self> {
        let genesis = medium.read(GENESIS)?;
        let own = genesis.as_deref().map(|bytes| sm3::hash_parts(&[&[9], bytes]));
        let chain = match (chain, own) {
            (Some(chain), Some(own)) if chain != own => {
                return Err(StoreError::Refused(format!(
                    "{} is the genesis of chain {}, not of {}: this is another chain's archive",
                    medium.name(GENESIS),
                    hex::encode(own),
                    hex::encode(chain)
                )));
            }
            (Some(chain), _) | (None, Some(chain)) => chain,
            (None, None) => {
                return Err(StoreError::Refused(format!(
                    "there is no {}: this is no archive, or nothing is sealed yet",
                    medium.name(GENESIS)
                )));
            }
        };
        let lanes = Lanes::detect();
        let (known, cache) = (Mutex::default(), reader::Cache::default());
        let pages = Pages::new(PAGES_BYTES);
        let archive = Self { medium, config, chain, lanes, writable, known, cache, pages };
        archive.load()?;
        if writable {
            archive.remove_leftovers()?;
        }
        Ok(archive)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change under this lock is one assignment or push.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self) -> Result<()> {
        let mut known = Known::default();
        for path in self.medium.list("manifest")? {
            // What is not named like a manifest is a leftover of a write that was cut short.
            if !path.ends_with(".json") {
                continue;
            }
            let linked = self.read_manifest(&path)?;
            let series = known.series.entry(linked.info.series()).or_default();
            follows(series.last(), &linked.info).map_err(|what| self.damaged(&path, &what))?;
            series.push(linked);
        }
        *self.known() = known;
        Ok(())
    }

    fn read_manifest(&self, path: &str) -> Result<Linked> {
        let bytes = self.medium.read(path)?.ok_or_else(|| self.damaged(path, "it is gone"))?;
        let info = SegmentInfo::decode(&bytes, path, &hex::encode(self.chain))
            .map_err(|what| self.damaged(path, &what))?;
        Ok(Linked::new(info, &bytes))
    }

    fn damaged(&self, path: &str, what: &str) -> StoreError {
        StoreError::damaged(format!(
            "{}: {what}; restore the archive from a copy, or seal it anew elsewhere",
            self.medium.name(path)
        ))
    }

    /// Reads a series' manifests again after a failure: a write that failed may have taken effect.
    fn refresh(&self, series: Series) -> Result<()> {
        if !self.known().unknown.contains(&series) {
            return Ok(());
        }
        let mut links: Vec<Linked> = Vec::new();
        for path in self.medium.list(series.folder().trim_end_matches('/'))? {
            if path.ends_with(".json") {
                let linked = self.read_manifest(&path)?;
                follows(links.last(), &linked.info).map_err(|what| self.damaged(&path, &what))?;
                links.push(linked);
            }
        }
        let mut known = self.known();
        known.series.insert(series, links);
        known.unknown.remove(&series);
        Ok(())
    }

    fn remove_leftovers(&self) -> Result<()> {
        self.medium.clear_scratch()?;
        let named: BTreeSet<String> =
            self.segments().into_iter().map(|segment| segment.path).collect();
        for folder in ["records", "blocks"] {
            for path in self.medium.list(folder)? {
                if !named.contains(&path) {
                    self.medium.delete(&path)?;
                }
            }
        }
        let manifests = self.medium.list("manifest")?;
        manifests
            .iter()
            .filter(|path| !path.ends_with(".json"))
            .try_for_each(|path| self.medium.delete(path))
    }

    /// The chain.
    pub fn chain(&self) -> Digest {
        self.chain
    }

    /// The next log index of a shard that is to be sealed: all below are in the archive.
    pub fn sealed_up_to(&self, shard: u32) -> Result<u64> {
        self.next(Series::Records(shard))
    }

    /// The next height that is to be sealed.
    pub fn blocks_sealed_up_to(&self) -> Result<u64> {
        self.next(Series::Blocks)
    }

    fn next(&self, series: Series) -> Result<u64> {
        self.refresh(series)?;
        let known = self.known();
        let last = known.series.get(&series).and_then(|links| links.last());
        Ok(last.map_or(0, |last| last.info.last + 1))
    }

    /// All segments, series by series, in order.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let known = self.known();
        known.series.values().flatten().map(|linked| linked.info.clone()).collect()
    }

    /// The shards that have rows.
    pub fn shards(&self) -> Vec<u32> {
        let shard = |series: &Series| match series {
            Series::Records(shard) => Some(*shard),
            Series::Blocks => None,
        };
        self.known().series.keys().filter_map(shard).collect()
    }

    /// Keeps the genesis file, by whose digest the chain is named.
    pub fn put_genesis(&self, bytes: &[u8]) -> Result<()> {
        self.check_writable()?;
        if bytes.len() > GENESIS_BYTES || sm3::hash_parts(&[&[9], bytes]) != self.chain {
            return Err(StoreError::Refused(
                "these bytes are not the genesis file of the archive's chain".into(),
            ));
        }
        if self.medium.read(GENESIS)?.as_deref() == Some(bytes) {
            return Ok(());
        }
        self.medium.put(GENESIS, bytes)
    }

    /// The genesis file.
    pub fn genesis(&self) -> Result<Option<Bytes>> {
        self.medium.read(GENESIS)
    }

    /// The same place for asynchronous readers: a store, and the archive's path in it.
    pub fn store(&self) -> (Arc<dyn ObjectStore>, StorePath) {
        self.medium.store()
    }

    fn check_writable(&self) -> Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(StoreError::Refused("the archive was opened for reading only".into()))
    }
}
