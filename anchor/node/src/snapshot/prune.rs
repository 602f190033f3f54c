//! Which records of the stream nobody needs any more, and their deletion.
//!
//! A record may go when this node's archive has its row and an audit covers it under a certified
//! header, when a kept snapshot stands behind it, from which any node can begin, and when the flush
//! points do: this node's own, and those of the others that are asked. A margin stays on top, for
//! nodes that are a little behind and were not.
//!
//! Invariants
//! - What is not covered by all of these stays; what cannot be found out is refused.
//! - Nothing is deleted before everything was found to be so.

use super::stand::Stand;
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
    /// First offset that one of those that were asked needs; nothing where nobody was.
    pub(crate) asked: Option<u64>,
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

/// What is asked before anything is deleted.
pub(crate) struct Guards<'a> {
    /// The snapshot that is kept.
    pub(crate) kept: &'a Path,
    /// How many offsets stay besides.
    pub(crate) margin: u64,
    /// Where other nodes answer.
    pub(crate) ask: &'a [String],
}

/// Finds out how far each partition may be deleted.
pub(crate) fn plan<'a>(
    folder: &Folder,
    (records, registry): (&'a dyn Stream, &'a dyn Stream),
    trust: &TrustRoot,
    guards: &Guards<'_>,
) -> Result<Plan<'a>> {
    let Guards { kept, margin, ask } = guards;
    let (chain, shards) = (&folder.genesis.chain, folder.reader.flushed().shards.len());
    let stands = ask.iter().map(|node| Stand::ask(node, chain, shards));
    let stands = stands.collect::<Result<Vec<_>>>()?;
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
        let asked = stands.iter().map(|stand| stand.next_offsets[shard]).min();
        reaches.push(Reach {
            topic: stream.name().to_owned(),
            partition,
            start: stream.start_offset(partition)?,
            audited,
            snapshot,
            flushed,
            asked,
            below: audited
                .min(snapshot)
                .min(flushed)
                .min(asked.unwrap_or(u64::MAX))
                .saturating_sub(*margin),
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
            if reach.below <= reach.start {
                return Ok(reach.start);
            }
            stream.delete_before(reach.partition, reach.below).with_context(|| {
                let Reach { topic, partition, below, .. } = reach;
                format!(
                    "{topic} partition {partition} could not be deleted below {below}; those before \
                     it were: run it again"
                )
            })
        };
        self.reaches.iter().enumerate().map(delete).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piaogen_ingest::stream::{Reader, StreamError, Writer};
    use std::sync::Mutex;

    /// A topic whose deletions fail at a partition, before or behind their effect.
    struct Failing {
        partitions: u32,
        starts: Mutex<Vec<u64>>,
        /// Partition, and whether it takes effect all the same.
        fails: Mutex<Option<(u32, bool)>>,
    }

    impl Failing {
        fn new(partitions: u32, fails: Option<(u32, bool)>) -> Failing {
            let starts = Mutex::new(vec![0; partitions as usize]);
            Failing { partitions, starts, fails: Mutex::new(fails) }
        }

        fn starts(&self) -> Vec<u64> {
            self.starts.lock().unwrap().clone()
        }
    }

    impl Stream for Failing {
        fn name(&self) -> &str {
            "topic"
        }
        fn partitions(&self) -> u32 {
            self.partitions
        }
        fn reader(&self, _: u32, _: u64) -> Result<Box<dyn Reader>, StreamError> {
            Err(StreamError::Refused("nothing is read".into()))
        }
        fn writer(&self) -> Result<Box<dyn Writer>, StreamError> {
            Err(StreamError::Refused("nothing is written".into()))
        }
        fn start_offset(&self, partition: u32) -> Result<u64, StreamError> {
            Ok(self.starts.lock().unwrap()[partition as usize])
        }
        fn delete_before(&self, partition: u32, offset: u64) -> Result<u64, StreamError> {
            let mut fails = self.fails.lock().unwrap();
            let failing = fails.take_if(|(at, _)| *at == partition);
            if failing.is_none_or(|(_, applied)| applied) {
                self.starts.lock().unwrap()[partition as usize] = offset;
            }
            match failing {
                Some(_) => Err(StreamError::Busy("the broker is away".into())),
                None => Ok(offset),
            }
        }
        fn end_offset(&self, _: u32) -> Result<u64, StreamError> {
            Ok(1_000)
        }
    }

    fn plan<'a>(records: &'a Failing, registry: &'a Failing, below: [u64; 4]) -> Plan<'a> {
        let reach = |(shard, below): (u32, u64)| {
            let (stream, partition) = match shard < records.partitions {
                true => (records, shard),
                false => (registry, 0),
            };
            let start = stream.start_offset(partition).unwrap();
            let (audited, snapshot, flushed) = (below, below, below);
            let topic = stream.name().to_owned();
            Reach { topic, partition, start, audited, snapshot, flushed, asked: None, below }
        };
        let reaches = (0..).zip(below).map(reach).collect();
        Plan { records, registry, reaches }
    }

    #[test]
    fn a_deletion_that_fails_is_named_and_the_same_run_again_ends_it() {
        let below = [10, 0, 30, 7];
        for (partition, of_registry) in [(0, false), (2, false), (0, true)] {
            for applied in [false, true] {
                let fails = Some((partition, applied));
                let records = Failing::new(3, fails.filter(|_| !of_registry));
                let registry = Failing::new(1, fails.filter(|_| of_registry));
                let error = plan(&records, &registry, below).execute().unwrap_err();
                let said = format!("{error:#}");
                let named = format!("topic partition {partition} could not be deleted below");
                assert!(said.contains(&named) && said.contains("the broker is away"), "{said}");
                let (reached, at) = ([records.starts(), registry.starts()].concat(), 3);
                let failed = if of_registry { at } else { partition as usize };
                for (shard, start) in reached.iter().enumerate() {
                    let done = shard < failed || (shard == failed && applied);
                    assert_eq!(*start, if done { below[shard] } else { 0 }, "{said}");
                }
                let again = plan(&records, &registry, below).execute().unwrap();
                assert_eq!(again, below, "where each begins now");
                assert_eq!([records.starts(), registry.starts()].concat(), below);
            }
        }
    }
}
