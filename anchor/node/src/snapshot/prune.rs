//! Which records of the stream nobody needs any more, and their deletion.
//!
//! A record may go when this node's archive has its row and an audit covers it under a certified
//! header, when a kept snapshot stands behind it, from which any node can begin, and when this node's
//! own flush point does. A margin stays on top, for nodes that are a little behind.
//!
//! Invariants
//! - What is not covered by all of these is refused, with what is missing and for which partition.
//! - Nothing is deleted before everything was found to be so.

use super::{prove, read_manifest};
use crate::cli::Folder;
use crate::run::parse_block;
use anyhow::{Context, Result, bail, ensure};
use piaogen_crypto::Lanes;
use piaogen_ingest::stream::Stream;
use piaogen_storage::archive::audit::{self, AuditOptions};
use piaogen_storage::snapshot;
use piaogen_verify::header::Cut;
use piaogen_verify::trust_root::TrustRoot;
use rayon::prelude::*;
use std::path::Path;

/// How far one partition may be deleted, and why no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Its topic.
    pub(crate) topic: String,
    /// Its number there.
    pub(crate) partition: u32,
    /// First offset that the stream has now.
    pub(crate) start: u64,
    /// First offset that an audited archive does not cover.
    pub(crate) audited: u64,
    /// First offset that the kept snapshot needs.
    pub(crate) snapshot: u64,
    /// First offset that this node needs after a crash.
    pub(crate) flushed: u64,
    /// Offsets below this one go.
    pub(crate) below: u64,
}

/// What may be deleted, by partition; the registry last.
pub(crate) struct Plan<'a> {
    records: &'a dyn Stream,
    registry: &'a dyn Stream,
    /// The partitions.
    pub(crate) reaches: Vec<Reach>,
}

/// The cut whose records an audit of the archive covers.
fn audited(folder: &Folder, trust: &TrustRoot) -> Result<Cut> {
    let report = audit::verify(&folder.archive, trust, &AuditOptions::default(), &|_| ())?;
    if let Some(finding) = report.findings.first() {
        bail!("nothing is pruned, the audit of the archive found: {finding}");
    }
    let height = report.height.filter(|height| *height > 0);
    let height =
        height.context("nothing is pruned: no certified header covers archived rows yet")?;
    // A header speaks of the rows up to the block before it.
    let block = folder.archive.blocks(height - 1).next().transpose()?;
    Ok(block.with_context(|| format!("block {} is not in the archive", height - 1))?.cut)
}

/// Finds out how far each partition may be deleted. `margin` is how many offsets stay besides.
pub(crate) fn plan<'a>(
    folder: &Folder,
    (records, registry): (&'a dyn Stream, &'a dyn Stream),
    trust: &TrustRoot,
    kept: &Path,
    margin: u64,
) -> Result<Plan<'a>> {
    let proved = prove(read_manifest(kept)?, trust).context("the kept snapshot")?;
    let whole = |info| snapshot::read(kept, info, Lanes::detect()).map(|_| ());
    proved.manifest.parts.par_iter().try_for_each(whole).context("the kept snapshot")?;
    let own = folder.reader.block(proved.header.height)?;
    let own = own.context("nothing is pruned: the kept snapshot is newer than this folder")?;
    ensure!(
        parse_block(&own)?.0 == proved.header,
        "nothing is pruned: the kept snapshot is of another history than this folder"
    );
    let covered = audited(folder, trust)?;
    let partitions = records.partitions();
    let mut reaches = Vec::new();
    for (shard, state) in folder.reader.flushed().shards.iter().enumerate() {
        let (stream, partition) = match shard < partitions as usize {
            true => (records, shard as u32),
            false => (registry, 0),
        };
        let audited = covered.0.get(shard).copied().unwrap_or(0);
        let (snapshot, flushed) = (proved.shards[shard].next_offset, state.next_offset);
        reaches.push(Reach {
            topic: stream.name().to_owned(),
            partition,
            start: stream.start_offset(partition)?,
            audited,
            snapshot,
            flushed,
            below: audited.min(snapshot).min(flushed).saturating_sub(margin),
        });
    }
    Ok(Plan { records, registry, reaches })
}

impl Plan<'_> {
    /// Deletes; where each partition begins then, which may be earlier than what was planned, since
    /// a carrier deletes in pieces of its own.
    pub(crate) fn execute(&self) -> Result<Vec<u64>> {
        let partitions = self.records.partitions() as usize;
        let delete = |(shard, reach): (usize, &Reach)| {
            let stream = if shard < partitions { self.records } else { self.registry };
            match reach.below > reach.start {
                true => Ok(stream.delete_before(reach.partition, reach.below)?),
                false => Ok(reach.start),
            }
        };
        self.reaches.iter().enumerate().map(delete).collect()
    }
}
