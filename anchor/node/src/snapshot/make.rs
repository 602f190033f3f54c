//! Makes a snapshot of a data folder, beside its node or after it.
//!
//! It reads the folder as of its last flush point, without the lock: the node is not stopped, nor
//! slowed but by the reading. What it reads of the index is of the moment of opening, logs and rows
//! only grow, and hashes of the status tree, which are written in place, are not read at all: they
//! follow from the documents.
//!
//! Invariants
//! - The leaves that go out lead to the log root of the flush point, or no snapshot is made.
//! - The folder gets its name when it is whole; what was cut short is made anew.

use super::leaves;
use crate::config::Config;
use crate::run::chain::Provable;
use crate::run::receipts::{provable_at_rest, rows};
use crate::setup;
use anyhow::{Context, Result, bail, ensure};
use piaogen_anchor::log::Log;
use piaogen_crypto::Lanes;
use piaogen_storage::StoreReader;
use piaogen_storage::archive::Archive;
use piaogen_storage::snapshot::{
    FORMAT, MANIFEST, Manifest, PartInfo, PartKind, PartWriter, ShardInfo,
};
use piaogen_verify::epoch::{CHANGES_MAX, EpochProof};
use piaogen_verify::genesis::Genesis;
use piaogen_verify::header::ShardEntry;
use rayon::prelude::*;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a header is waited for that carries the roots of a flush point.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rows that are hashed at once.
const BATCH_ROWS: usize = 4_096;

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// The height whose state it is.
    pub height: u64,
    /// Records of all shards.
    pub records: u64,
    /// Invoices of all shards.
    pub invoices: u64,
    /// Parts.
    pub parts: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// What is read from.
struct Source {
    archive: Archive,
    reader: StoreReader,
    provable: Provable,
    /// Rows of each shard that the archive had.
    sealed: Vec<u64>,
}

/// Opens a folder at a flush point that a final header proves.
fn open(config: &Config, genesis: &Genesis) -> Result<Source> {
    let begun = Instant::now();
    loop {
        // The archive first: what it has then is below any flush point that is read after it.
        let archive = setup::archive_at_rest(config, Some(genesis.chain))?;
        let reader = StoreReader::open(&config.dir)?;
        let states = &reader.flushed().shards;
        let mut sealed = Vec::new();
        let mut released = false;
        for shard in 0..states.len() as u32 {
            sealed.push(archive.sealed_up_to(shard)?);
            released |= reader.tail_first(shard)? > sealed[shard as usize];
        }
        let late = begun.elapsed() > PATIENCE;
        match provable_at_rest(genesis, &archive, &reader) {
            Ok(provable) if !released => {
                // The registry's records are needed to check anything, so all its rows go along.
                sealed[states.len() - 1] = 0;
                return Ok(Source { archive, reader, provable, sealed });
            }
            Ok(_) if late => bail!("rows are sealed faster than they can be read; try again"),
            Err(error) if late => return Err(error),
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Makes a snapshot in a new folder.
pub fn make(config: &Config, to: &Path, lanes: Lanes) -> Result<Made> {
    ensure!(!to.exists(), "{} is there already: name a new folder", to.display());
    let genesis = setup::genesis(&config.genesis)?;
    let fresh = with_ending(to, ".new");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).with_context(|| fresh.display().to_string())?;
    }
    std::fs::create_dir_all(&fresh).with_context(|| fresh.display().to_string())?;
    let source = open(config, &genesis)?;
    let made = source.write(&fresh, lanes)?;
    std::fs::rename(&fresh, to).with_context(|| to.display().to_string())?;
    let above = to.parent().filter(|above| !above.as_os_str().is_empty());
    File::open(above.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(made)
}

/// A path with something behind its last name.
pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl Source {
    fn write(&self, dir: &Path, lanes: Lanes) -> Result<Made> {
        let shards = self.provable.shards.len() as u32;
        // Rows first: the node may seal them meanwhile.
        let tails = (0..shards).into_par_iter().map(|shard| self.shard(dir, shard, lanes));
        let mut parts: Vec<PartInfo> = tails.collect::<Result<Vec<_>>>()?.concat();
        parts.extend(self.blocks(dir, lanes)?);
        let header = &self.provable.header;
        let proofs = self.provable.changes.chunks(CHANGES_MAX as usize);
        let proof = |changes: &[_]| hex::encode(EpochProof { changes: changes.to_vec() }.encode());
        let manifest = Manifest {
            format: FORMAT.into(),
            chain: hex::encode(self.reader.chain()),
            height: self.reader.flushed().height,
            header: hex::encode(header.encode()),
            certificate: hex::encode(&self.provable.finalization),
            epochs: proofs.map(proof).collect(),
            shards: self.provable.shards.iter().zip(&self.sealed).map(shard_info).collect(),
            parts,
        };
        let bytes = manifest.encode();
        Manifest::decode(&bytes)
            .map_err(|what| anyhow::anyhow!("the manifest is wrong: {what}"))?;
        setup::write_new(&dir.join(MANIFEST), &bytes, false)?;
        File::open(dir)?.sync_all()?;
        Ok(Made {
            height: manifest.height,
            records: manifest.shards.iter().map(|shard| shard.log_size).sum(),
            invoices: manifest.shards.iter().map(|shard| shard.invoices).sum(),
            parts: manifest.parts.len(),
            bytes: manifest.bytes() + bytes.len() as u64,
        })
    }

    fn blocks(&self, dir: &Path, lanes: Lanes) -> Result<Vec<PartInfo>> {
        let mut parts = PartWriter::new(dir, lanes, PartKind::Blocks, None);
        for block in self.reader.blocks_from(0) {
            let block = block?;
            if block.height > self.provable.header.height {
                break;
            }
            parts.block(&block)?;
        }
        Ok(parts.finish()?)
    }

    /// The parts of a shard; its leaves must lead to its root.
    fn shard(&self, dir: &Path, shard: u32, lanes: Lanes) -> Result<Vec<PartInfo>> {
        let state = self.provable.shards[shard as usize];
        let sealed = self.sealed[shard as usize];
        // Rows that are not sealed are read first, since the node may let them go.
        let tail = self.rows(dir, &state, sealed, lanes)?;
        let mut parts = PartWriter::new(dir, lanes, PartKind::Entries, Some(shard));
        let (mut log, mut waiting) = (Log::default(), Vec::new());
        let mut hash = |waiting: &mut Vec<Vec<u8>>| {
            let entries: Vec<&[u8]> = waiting.iter().map(Vec::as_slice).collect();
            log.append(lanes, leaves(lanes, &entries));
            waiting.clear();
        };
        for row in self.archive.entries(shard, 0).take(sealed as usize) {
            let row = row?;
            parts.entry(row.log_index, &row.entry)?;
            waiting.push(row.entry);
            if waiting.len() == BATCH_ROWS {
                hash(&mut waiting);
            }
        }
        hash(&mut waiting);
        let mut infos = parts.finish()?;
        for info in &tail {
            let part = piaogen_storage::snapshot::read(dir, info, lanes)?;
            let entries: Vec<&[u8]> = part.rows()?.iter().map(|(entry, _)| *entry).collect();
            log.append(lanes, leaves(lanes, &entries));
        }
        ensure!(
            log.size() == state.log_size && log.root() == state.log_root,
            "shard {shard}: the rows of archive and tail do not lead to the root of its log: run \
             `piaogen audit verify`, which names the row"
        );
        infos.extend(tail);
        infos.extend(self.statuses(dir, shard, lanes)?);
        Ok(infos)
    }

    fn rows(
        &self,
        dir: &Path,
        state: &ShardEntry,
        from: u64,
        lanes: Lanes,
    ) -> Result<Vec<PartInfo>> {
        let mut parts = PartWriter::new(dir, lanes, PartKind::Rows, Some(state.shard));
        let mut next = from;
        while next < state.log_size {
            let most = (state.log_size - next).min(BATCH_ROWS as u64);
            let found = rows(&self.archive, &self.reader, state.shard, next, most)?;
            let here = found.first().is_some_and(|row| row.log_index == next);
            ensure!(here, "shard {}: row {next} was sealed meanwhile; try again", state.shard);
            for row in &found {
                parts.row(row.log_index, &row.entry, &row.record)?;
            }
            next += found.len() as u64;
        }
        Ok(parts.finish()?)
    }

    fn statuses(&self, dir: &Path, shard: u32, lanes: Lanes) -> Result<Vec<PartInfo>> {
        let mut parts = PartWriter::new(dir, lanes, PartKind::Statuses, Some(shard));
        let mut from = 0;
        loop {
            let documents = self.reader.status_documents(shard, from, BATCH_ROWS)?;
            let Some((last, _)) = documents.last() else { break };
            from = last + 1;
            for (issue, document) in &documents {
                parts.status(*issue, document)?;
            }
        }
        Ok(parts.finish()?)
    }
}

fn shard_info((entry, sealed): (&ShardEntry, &u64)) -> ShardInfo {
    ShardInfo {
        next_offset: entry.next_offset,
        log_size: entry.log_size,
        log_root: hex::encode(entry.log_root),
        invoices: entry.invoices,
        status_root: hex::encode(entry.status_root),
        sealed: (*sealed).min(entry.log_size),
    }
}
