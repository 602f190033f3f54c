//! Restores a snapshot: checks every part against the header that binds it, and builds a data folder
//! in which a node goes on as if it had executed the stream itself.
//!
//! The archive comes along: every node has every row in its archive or its tail, one that begins
//! with a snapshot too, so that receipts, `fsck` and `audit` answer for the whole chain. Segments are
//! copied where this node's archive is a beginning of the other. Where it has segments of its own,
//! they stay, and the rows behind them go into the tail, from where the node seals them itself.
//!
//! Invariants
//! - The folder is complete only when everything was checked and all rows are there.
//! - What is in this node's archive stays as it is.
//! - Blocks are those that the header's history binds, each with a certificate of its set.

use super::shard::{ShardCheck, Signed};
use super::{Proved, RESTORED};
use crate::run::parse_block;
use anyhow::{Context, Result, bail, ensure};
use piaogen_anchor::log::Log;
use piaogen_anchor::registry::Registry;
use piaogen_crypto::Lanes;
use piaogen_storage::archive::audit::{self, AuditOptions};
use piaogen_storage::archive::{Archive, Series};
use piaogen_storage::snapshot::{self, Builder, Part, PartInfo, PartKind, ShardInfo};
use piaogen_storage::{Block, FlushPoint, ShardState, StoreConfig, Wait};
use piaogen_verify::certificate::{Certificate, verify_final};
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::genesis::Genesis;
use piaogen_verify::header::{Cut, Header};
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::{merkle, record};
use rayon::prelude::*;
use std::path::Path;

/// A snapshot that is being restored.
pub struct Restore<'a> {
    /// What it is, proved.
    pub proved: Proved,
    /// Where its parts lie.
    pub from: &'a Path,
    /// The chain.
    pub genesis: &'a Genesis,
    /// Lanes that hash and verify.
    pub lanes: Lanes,
    /// Told how many more records are done.
    pub advance: &'a (dyn Fn(u64) + Sync),
    /// Up to when waits were done at the height of the snapshot.
    pub(super) done_ms: i64,
}

/// Where it is restored to.
pub struct Target<'a> {
    /// The data folder.
    pub dir: &'a Path,
    /// How storage is opened.
    pub store: StoreConfig,
    /// This node's archive.
    pub archive: &'a Archive,
    /// The archive that is copied from.
    pub source: &'a Archive,
    /// Against what the copy is audited; without it, it is taken as it is.
    pub audit: Option<&'a TrustRoot>,
}

/// What was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The height whose state it is.
    pub height: u64,
    /// Records of all shards.
    pub records: u64,
    /// Invoices of all shards.
    pub invoices: u64,
    /// Segments of the archive that were copied, or had been.
    pub segments: u64,
    /// Rows that were taken from the other archive into the tail.
    pub rows: u64,
}

/// How the archive comes along.
struct Along<'a> {
    /// Where the tail of each shard begins.
    tails: Vec<u64>,
    /// Where rows are taken from that this node's archive lacks; nothing where segments are copied.
    rows_of: Option<&'a Archive>,
}

impl<'a> Restore<'a> {
    /// A snapshot in a folder whose manifest is proved.
    pub fn new(
        proved: Proved,
        from: &'a Path,
        genesis: &'a Genesis,
        lanes: Lanes,
        advance: &'a (dyn Fn(u64) + Sync),
    ) -> Restore<'a> {
        Restore { proved, from, genesis, lanes, advance, done_ms: i64::MIN }
    }

    pub(super) fn part<'p>(&self, info: &'p PartInfo) -> Result<Part<'p>> {
        Ok(snapshot::read(self.from, info, self.lanes)?)
    }

    /// A block that was put into the folder.
    pub(super) fn block(&self, builder: &Builder, height: u64) -> Result<(Header, Cut)> {
        let block = builder.block(height)?.with_context(|| format!("block {height} is missing"))?;
        parse_block(&block)
    }

    /// Checks everything and builds the folder.
    pub fn run(mut self, target: &Target<'_>) -> Result<Restored> {
        let genesis = self.genesis.chain == self.proved.header.chain;
        ensure!(genesis, "the snapshot is not of the chain of this genesis");
        let along = self.along(target)?;
        let builder = Builder::begin(target.dir, target.store.clone(), &along.tails)?;
        self.blocks(&builder)?;
        let height = self.proved.manifest.height;
        if height > 0 {
            self.done_ms = self.block(&builder, height - 1)?.0.time_ms;
        }
        let registry = self.registry(&builder)?;
        self.certificates(&builder, &registry)?;
        let partitions = self.genesis.file.partitions;
        let waits = (0..partitions)
            .into_par_iter()
            .map(|shard| Ok((shard, self.shard(&builder, shard, &registry, &along)?)));
        let waits: Vec<(u32, Vec<Wait>)> = waits.collect::<Result<_>>()?;
        let segments = match along.rows_of {
            Some(_) => 0,
            None => self.copy_archive(target)?,
        };
        audit(target)?;
        let (last, _) = self.block(&builder, self.proved.header.height)?;
        let epoch = last.next_epoch().0.to_string();
        crate::setup::replace(&target.dir.join(RESTORED), epoch.as_bytes())?;
        let entries = &self.proved.shards;
        let state = |entry: &piaogen_verify::header::ShardEntry| ShardState {
            next_offset: entry.next_offset,
            log_size: entry.log_size,
            log_root: entry.log_root,
            invoices: entry.invoices,
            status_root: entry.status_root,
        };
        let shards = entries.iter().map(state).collect();
        builder.finish(&FlushPoint { height, history_size: height + 1, shards }, waits)?;
        Ok(Restored {
            height,
            records: entries.iter().map(|entry| entry.log_size).sum(),
            invoices: entries.iter().map(|entry| entry.invoices).sum(),
            segments,
            rows: along.rows(&self.proved.manifest.shards),
        })
    }

    /// How much of an archive lies below the snapshot.
    fn limit(&self) -> impl Fn(Series) -> u64 {
        let (shards, blocks) = (&self.proved.manifest.shards, self.proved.header.height + 1);
        move |series| match series {
            Series::Records(shard) => shards.get(shard as usize).map_or(0, |s| s.log_size),
            Series::Blocks => blocks,
        }
    }

    /// Looks how the archive can come along.
    fn along<'t>(&self, target: &Target<'t>) -> Result<Along<'t>> {
        let mut along = Along { tails: Vec::new(), rows_of: None };
        let copied = target.archive.begins(target.source, self.limit());
        self.reached(target.source)?;
        for (shard, info) in (0u32..).zip(&self.proved.manifest.shards) {
            let own = target.archive.sealed_up_to(shard)?;
            ensure!(
                own <= info.log_size,
                "the archive of this node has {own} rows of shard {shard}, the snapshot {}: fetch a \
                 newer snapshot, or name an empty archive",
                info.log_size
            );
            along.tails.push(if copied { info.sealed } else { own.min(info.sealed) });
        }
        along.rows_of = (!copied).then_some(target.source);
        Ok(along)
    }

    /// Puts the blocks into the folder: a chain from the genesis to the header.
    fn blocks(&self, builder: &Builder) -> Result<()> {
        let (height, proving) = (self.proved.manifest.height, self.proved.header);
        let (mut history, mut before) = (Log::default(), None);
        for info in self.proved.manifest.parts_of(PartKind::Blocks, None) {
            let part = self.part(info)?;
            let blocks = part.blocks()?;
            let mut leaves = Vec::new();
            let mut root = None;
            for block in &blocks {
                let header = self.follows(&part, block, before.as_ref())?;
                if header.height == proving.height {
                    root = Some(std::mem::take(&mut leaves));
                }
                leaves.push(merkle::leaf(&header.digest()));
                before = Some(header);
            }
            builder.blocks(&blocks)?;
            if let Some(below) = root {
                builder.history(&history.append(self.lanes, below))?;
                ensure!(
                    history.root() == proving.history_root,
                    "the blocks of the snapshot (parts blocks-…) are not those that its header \
                     binds"
                );
                // Of the proving header only what is executed is in the history.
                leaves.truncate((height + 1 - proving.height) as usize);
            }
            builder.history(&history.append(self.lanes, leaves))?;
        }
        ensure!(before == Some(proving), "the last block of the snapshot is not its header");
        // A header speaks of the state before its own block: that is the state of its height only
        // where the block has no records.
        let (_, cut) = self.block(builder, height)?;
        let offsets = self.proved.shards.iter().map(|shard| shard.next_offset);
        ensure!(
            cut.0.iter().copied().eq(offsets),
            "the cut of block {height} is not where the shards of the snapshot stand: its state is \
             of another height"
        );
        Ok(())
    }

    fn follows(&self, part: &Part<'_>, block: &Block, before: Option<&Header>) -> Result<Header> {
        let wrong = |what: &str| part.wrong(&format!("block {}: {what}", block.height));
        let (header, cut) = parse_block(block).map_err(|error| wrong(&format!("{error:#}")))?;
        ensure!(header.height == block.height, wrong("its header is of another height"));
        ensure!(cut.0.len() == self.proved.shards.len(), wrong("its cut has other shards"));
        let good = match before {
            None => header == self.genesis.header(),
            Some(before) => {
                header.chain == before.chain
                    && header.parent == before.digest()
                    && (header.epoch, header.validators) == before.next_epoch()
            }
        };
        ensure!(good, wrong("it does not follow the block before"));
        Ok(header)
    }

    /// Every block has a certificate of the set of its epoch.
    fn certificates(&self, builder: &Builder, registry: &Registry) -> Result<()> {
        (1..=self.proved.header.height).into_par_iter().try_for_each(|height| {
            let block = builder.block(height)?.context("a block is missing")?;
            let (header, _) = parse_block(&block)?;
            let set = registry.governance().set(&header.validators);
            let held = set.is_some_and(|set| {
                Certificate::decode(&block.finalization)
                    .is_ok_and(|certificate| verify_final(&header, &certificate, set).is_ok())
            });
            ensure!(held, "block {height} of the snapshot has a certificate that does not hold");
            Ok(())
        })
    }

    /// The registry, executed again from its rows.
    fn registry(&self, builder: &Builder) -> Result<Registry> {
        let mut registry = Registry::genesis(self.genesis);
        let partitions = self.genesis.file.partitions;
        let mut check = ShardCheck::new(self, builder, partitions);
        check.rows(None, |part, entry, bytes, height| {
            if entry.outcome != Outcome::Accepted {
                return Ok(());
            }
            let decoded =
                record::decode(bytes).map_err(|_| part.wrong("a record does not decode"))?;
            match registry.execute(&decoded, height) {
                Ok(()) => Ok(()),
                Err(other) => bail!(part.wrong(&format!(
                    "the record at offset {} was accepted and is now {}",
                    entry.offset,
                    other.name()
                ))),
            }
        })?;
        check.finish()?;
        check.statuses()?;
        // Keys may be known by later records only, so signatures are checked in a second reading:
        // what is not known to be the chain's is not kept in memory.
        let mut signed = Signed::default();
        for info in self.proved.manifest.parts_of(PartKind::Rows, Some(partitions)) {
            let part = self.part(info)?;
            for (entry, bytes) in part.rows()? {
                let entry = Entry::decode(entry)
                    .map_err(|error| part.wrong(&format!("an entry: {error}")))?;
                signed.push(self, &registry, (&entry, bytes))?;
            }
        }
        signed.check(self)?;
        Ok(registry)
    }

    fn shard(
        &self,
        builder: &Builder,
        shard: u32,
        registry: &Registry,
        along: &Along<'_>,
    ) -> Result<Vec<Wait>> {
        let mut check = ShardCheck::new(self, builder, shard);
        let mut signed = Signed::default();
        let mut sign = |entry: &Entry, bytes: &[u8]| signed.push(self, registry, (entry, bytes));
        let missing = along.rows_of.map(|source| (source, along.tails[shard as usize]));
        check.entries(registry, missing, |_, entry, bytes, _| sign(entry, bytes))?;
        check.rows(Some(registry), |_, entry, bytes, _| sign(entry, bytes))?;
        signed.check(self)?;
        check.finish()?;
        check.statuses()?;
        Ok(std::mem::take(&mut check.waits))
    }

    /// Copies what of an archive lies below the snapshot; the rest is in the rows.
    fn copy_archive(&self, target: &Target<'_>) -> Result<u64> {
        let copied = target.archive.copy_from(target.source, self.limit())?;
        self.reached(target.archive)?;
        Ok(copied.segments)
    }

    /// Whether an archive has all rows that the snapshot does not have.
    fn reached(&self, archive: &Archive) -> Result<()> {
        for (shard, info) in (0u32..).zip(&self.proved.manifest.shards) {
            let sealed = archive.sealed_up_to(shard)?;
            ensure!(
                sealed >= info.sealed,
                "the archive has {sealed} rows of shard {shard} below the snapshot, which has those \
                 from {} on: name the archive of the node that made the snapshot",
                info.sealed
            );
        }
        Ok(())
    }
}

impl Along<'_> {
    /// Rows below those of the snapshot that are not in this node's archive.
    fn rows(&self, shards: &[ShardInfo]) -> u64 {
        self.tails.iter().zip(shards).map(|(tail, info)| info.sealed - tail).sum()
    }
}

/// Audits the archive that the node will have, if that is asked for and there is any.
fn audit(target: &Target<'_>) -> Result<()> {
    let Some(trust) = target.audit.filter(|_| !target.archive.segments().is_empty()) else {
        return Ok(());
    };
    let report = audit::verify(target.archive, trust, &AuditOptions::default(), &|_| ())?;
    if let Some(finding) = report.findings.first() {
        bail!("the archive of this node is not the chain's: {finding}");
    }
    Ok(())
}
