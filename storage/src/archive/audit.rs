//! Checks an archive from its files alone (`ARCHIVE.md` section 7).
//!
//! Every row's commitment, entry and leaf are computed again, every shard's log is built up from
//! them, and every header is compared with the logs; certificates tie the headers to validators
//! that the caller trusts. What is wrong is named by file, row and check, and the rest is still
//! checked.
//!
//! Invariants
//! - Nothing that an archive holds is believed: neither columns nor manifests nor its genesis file.
//! - Memory is bounded by shards and threads, never by the length of the archive.

mod chain;
mod shard;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parquet::file::reader::Length;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::trust_root::TrustRoot;
use rayon::prelude::*;

use super::FileHasher;
use super::medium::Ranged;
use super::{Archive, SegmentInfo, Series};
use crate::error::{During, Result};

/// How an audit is done.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// Threads; 0 for one a core.
    pub threads: usize,
    /// Check every signature again: slow, and needs the genesis file and the registry's rows.
    pub signatures: bool,
    /// Most findings that are kept; the others are counted.
    pub findings_max: usize,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { threads: 0, signatures: false, findings_max: 100 }
    }
}

/// What was checked when something was found wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Check {
    /// The genesis file belongs to the chain.
    Genesis,
    /// The file is there.
    File,
    /// The file has the length and digest of its manifest.
    Digest,
    /// The file can be read and has the columns of its layout.
    Columns,
    /// Rows follow each other without gaps, in the blocks where they say.
    Order,
    /// The columns of a row form a record and an entry.
    Record,
    /// The leaf follows from the record.
    Leaf,
    /// The signature of a record holds, or does not where that is the outcome.
    Signature,
    /// A header belongs to the chain and follows the one before.
    Header,
    /// The cut of a block is that of its header.
    Cut,
    /// The history root of a header follows from the headers before.
    History,
    /// A quorum of the trusted validators signed the header.
    Certificate,
    /// The shards root of a header follows from the rows.
    ShardsRoot,
}

impl Check {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Genesis => "genesis",
            Self::File => "file",
            Self::Digest => "digest",
            Self::Columns => "columns",
            Self::Order => "order",
            Self::Record => "record",
            Self::Leaf => "leaf",
            Self::Signature => "signature",
            Self::Header => "header",
            Self::Cut => "cut",
            Self::History => "history",
            Self::Certificate => "certificate",
            Self::ShardsRoot => "shards_root",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The file, relative to the archive.
    pub path: String,
    /// Log index, or height in a file of blocks, where one is to blame.
    pub row: Option<u64>,
    /// What was checked.
    pub check: Check,
    /// What is wrong.
    pub detail: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path)?;
        if let Some(row) = self.row {
            write!(f, " row {row}")?;
        }
        write!(f, ": {}: {}", self.check.name(), self.detail)
    }
}

/// How far an audit is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Bytes of files whose digests were computed, of [`Progress::bytes_total`].
    pub bytes: u64,
    /// Bytes of all files.
    pub bytes_total: u64,
    /// Rows checked, of [`Progress::rows_total`].
    pub rows: u64,
    /// All rows.
    pub rows_total: u64,
}

/// What an audit found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Segments, blocks included.
    pub segments: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Rows checked.
    pub rows: u64,
    /// Rows of them that an archived header with its certificate covers.
    pub rows_covered: u64,
    /// Blocks checked.
    pub blocks: u64,
    /// Height of the last header whose roots and certificate were right; `None` where none was.
    pub height: Option<u64>,
    /// Signatures checked, certificates aside.
    pub signatures: u64,
    /// Time taken.
    pub elapsed: Duration,
    /// What is wrong, at most [`AuditOptions::findings_max`].
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub findings_more: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Rows checked in a second.
    pub fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// What all threads of an audit share.
struct Audit<'a> {
    archive: &'a Archive,
    options: &'a AuditOptions,
    progress: &'a (dyn Fn(Progress) + Sync),
    total: Progress,
    bytes: AtomicU64,
    rows: AtomicU64,
    signatures: AtomicU64,
    findings: Mutex<(Vec<Finding>, u64)>,
}

impl Audit<'_> {
    fn find(&self, path: &str, row: Option<u64>, check: Check, detail: impl Into<String>) {
        let finding = Finding { path: path.to_owned(), row, check, detail: detail.into() };
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        if findings.0.len() < self.options.findings_max {
            findings.0.push(finding);
        } else {
            findings.1 += 1;
        }
    }

    fn tell(&self) {
        let (bytes, rows) = (self.bytes.load(Ordering::Relaxed), self.rows.load(Ordering::Relaxed));
        (self.progress)(Progress { bytes, rows, ..self.total });
    }

    /// Whether the file is there and is the one of the manifest.
    fn check_file(&self, segment: &SegmentInfo) -> Result<()> {
        let Some(file) = self.archive.medium.open_whole(&segment.path)? else {
            self.find(&segment.path, None, Check::File, "the file is missing");
            return Ok(());
        };
        let name = || format!("cannot read {}", self.archive.medium.name(&segment.path));
        let file = Ranged::of_file(file).during(name)?;
        let mut hasher = FileHasher::new(self.archive.lanes);
        let mut at = 0;
        while at < file.len() {
            use parquet::file::reader::ChunkReader;
            let length = (file.len() - at).min(1 << 20) as usize;
            hasher.update(&file.get_bytes(at, length).during(name)?);
            at += length as u64;
            self.bytes.fetch_add(length as u64, Ordering::Relaxed);
        }
        if at != segment.bytes {
            let detail = format!("it has {at} bytes, its manifest says {}", segment.bytes);
            self.find(&segment.path, None, Check::Digest, detail);
        } else if hex::encode(hasher.finalize()) != segment.parts_sm3 {
            let detail = "its digest is not the one of its manifest: the file was changed";
            self.find(&segment.path, None, Check::Digest, detail);
        }
        self.tell();
        Ok(())
    }

    fn genesis(&self, trust: &TrustRoot) -> Result<Option<Genesis>> {
        let Some(bytes) = self.archive.genesis()? else {
            self.find(super::GENESIS, None, Check::Genesis, "the file is missing");
            return Ok(None);
        };
        match Genesis::parse(&bytes) {
            Ok(genesis) if genesis.chain == trust.chain => return Ok(Some(genesis)),
            Ok(_) => {
                let detail = "it is not the genesis of the trust root's chain";
                self.find(super::GENESIS, None, Check::Genesis, detail);
            }
            Err(error) => self.find(super::GENESIS, None, Check::Genesis, error.to_string()),
        }
        Ok(None)
    }
}

/// Checks an archive against a trust root. `progress` is called from any thread.
///
/// # Errors
/// Only where the archive could not be read for a reason that says nothing about it; what is wrong
/// with it is in the report.
pub fn verify(
    archive: &Archive,
    trust: &TrustRoot,
    options: &AuditOptions,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Report> {
    let begin = Instant::now();
    let segments = archive.segments();
    let of_records = |segment: &&SegmentInfo| segment.series() != Series::Blocks;
    let total = Progress {
        bytes_total: segments.iter().map(|segment| segment.bytes).sum(),
        rows_total: segments.iter().filter(of_records).map(|segment| segment.rows).sum(),
        ..Progress::default()
    };
    let audit = Audit {
        archive,
        options,
        progress,
        total,
        bytes: AtomicU64::new(0),
        rows: AtomicU64::new(0),
        signatures: AtomicU64::new(0),
        findings: Mutex::default(),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
    let pool = pool.during(|| "cannot start the threads of the audit".into())?;
    let covered = pool.install(|| -> Result<chain::Covered> {
        segments.par_iter().try_for_each(|segment| audit.check_file(segment))?;
        let genesis = audit.genesis(trust)?;
        chain::check(&audit, trust, genesis.as_ref())
    })?;
    let (mut findings, findings_more) =
        audit.findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    findings.sort_by(|a, b| (&a.path, a.row).cmp(&(&b.path, b.row)));
    Ok(Report {
        segments: segments.len() as u64,
        bytes: total.bytes_total,
        rows: audit.rows.into_inner(),
        rows_covered: covered.rows,
        blocks: covered.blocks,
        height: covered.height,
        signatures: audit.signatures.into_inner(),
        elapsed: begin.elapsed(),
        findings,
        findings_more,
    })
}
