//! What a node finds in its folders at the start: where it stands, and from where it reads on.
//!
//! Invariants
//! - Nothing is executed again that is flushed; everything is that is final and not flushed.
//! - A stream that ends before what is final is another stream, and is refused.

use super::chain::Start;
use super::{NodeParts, epochs, receipts};
use anyhow::{Context, Result, bail, ensure};
use piaogen_anchor::block::Tip;
use piaogen_anchor::log::Log;
use piaogen_anchor::registry::Registry;
use piaogen_crypto::{Digest, Lanes};
use piaogen_storage::archive::Archive;
use piaogen_storage::{Block, ShardState, Store};
use piaogen_verify::encoding::Reader;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::header::{Cut, Header, ShardEntry};
use piaogen_verify::merkle::{self, Hashes};
use piaogen_verify::record;

/// Where the hashes of a log are in the store: of a shard, or of the history.
pub(super) struct StoreLog<'a>(pub(super) &'a Store, pub(super) Option<u32>);

impl Hashes for StoreLog<'_> {
    type Error = anyhow::Error;

    fn get(&self, level: u8, index: u64) -> Result<Digest> {
        let hash = match self.1 {
            Some(shard) => self.0.log_hash(shard, level, index)?,
            None => self.0.history_hash(level, index)?,
        };
        hash.with_context(|| format!("hash {index} of level {level} is missing in the store"))
    }
}

/// Reads the header and cut of a stored block.
pub fn parse_block(block: &Block) -> Result<(Header, Cut)> {
    let mut reader = Reader::new(&block.header);
    let header = Header::decode(&mut reader).context("a stored header does not decode")?;
    reader.end().context("a stored header is too long")?;
    let cut = Cut::decode(&block.cut).context("a stored cut does not decode")?;
    ensure!(header.cut == cut.digest(), "block {}: the cut is not the header's", block.height);
    Ok((header, cut))
}

/// The entries of shards from what storage keeps of them.
pub fn shard_entries(states: &[ShardState]) -> Vec<ShardEntry> {
    let entry = |(shard, state): (u32, &ShardState)| match state.log_size {
        0 => ShardEntry { next_offset: state.next_offset, ..ShardEntry::empty(shard) },
        _ => ShardEntry {
            shard,
            next_offset: state.next_offset,
            log_size: state.log_size,
            log_root: state.log_root,
            invoices: state.invoices,
            status_root: state.status_root,
        },
    };
    (0..).zip(states).map(entry).collect()
}

/// Rebuilds the registry from the rows of its shard: archive first, then what is not sealed.
pub fn rebuild_registry<R: receipts::Reads>(
    genesis: &Genesis,
    archive: &Archive,
    store: &R,
    size: u64,
) -> Result<Registry> {
    let shard = genesis.file.partitions;
    let mut registry = Registry::genesis(genesis);
    let mut next = 0;
    while next < size {
        let rows = receipts::rows(archive, store, shard, next, 4_096)?;
        ensure!(!rows.is_empty(), "registry record {next} is neither in the archive nor in tail/");
        for row in rows.into_iter().take((size - next) as usize) {
            let entry = piaogen_verify::entry::Entry::decode(&row.entry)
                .context("a stored registry entry does not decode")?;
            if entry.outcome == piaogen_verify::entry::Outcome::Accepted {
                let decoded = record::decode(&row.record)
                    .map_err(|_| anyhow::anyhow!("registry record {next} does not decode"))?;
                if let Err(outcome) = registry.execute(&decoded, row.height) {
                    bail!("registry record {next} was accepted and is now {}", outcome.name());
                }
            }
            next += 1;
        }
    }
    Ok(registry)
}

/// Where a node stands.
pub(super) struct Opened {
    /// Where its chain stands.
    pub(super) start: Start,
    /// The registry after the executed tip.
    pub(super) registry: Registry,
    /// Final blocks after the executed tip, oldest first.
    pub(super) again: Vec<(Header, Cut)>,
    /// The newest certificate.
    pub(super) finalization: Option<Vec<u8>>,
}

/// Reads where the chain stands; begins it where there is none.
pub(super) fn open_chain(genesis: &Genesis, archive: &Archive, store: &Store) -> Result<Opened> {
    if store.tip().is_none() {
        let header = genesis.header();
        let cut = Cut(vec![0; header.shards as usize]);
        store.append_block(&Block {
            height: 0,
            header: header.encode().to_vec(),
            cut: cut.encode(),
            finalization: Vec::new(),
        })?;
    }
    let executed = store.recovered().height;
    let stored = |height: u64| -> Result<Block> {
        store.block(height)?.with_context(|| format!("block {height} is missing"))
    };
    let (header, cut) = parse_block(&stored(executed)?)?;
    let mut history = Log::open(&StoreLog(store, None), store.history_size()?)?;
    // A store that was never flushed has no history yet; genesis belongs to it.
    if history.size() == 0 {
        let levels = history.append(Lanes::portable(), vec![merkle::leaf(&header.digest())]);
        store.history_append(&levels, 1)?;
    }
    ensure!(
        history.size() == executed + 1,
        "history has {} headers, the state is at height {executed}",
        history.size()
    );
    let shards = shard_entries(&store.recovered().shards);
    let (registry_size, height) = (shards.last().map_or(0, |shard| shard.log_size), executed);
    let registry = rebuild_registry(genesis, archive, store, registry_size)?;
    let governance = registry.governance();
    let next_set = governance.next_set(height + 1);
    let tip = Tip { header, cut, shards, history_root: history.root(), next_set };
    let sets = governance.sets(height);
    let set = sets.last().map_or_else(|| genesis.validators.clone(), |change| change.set.clone());
    let (ground, _) = parse_block(&stored(governance.ground(height))?)?;
    let changes = epochs::changes(store, &sets)?;
    let mut again = Vec::new();
    let mut finalization = Some(stored(executed)?.finalization);
    for block in store.blocks_from(executed + 1) {
        let block = block?;
        again.push(parse_block(&block)?);
        finalization = Some(block.finalization);
    }
    let last = again.last().map_or(tip.header, |(header, _)| *header);
    let ground = ground.digest();
    Ok(Opened {
        start: Start {
            tip,
            last,
            history,
            set,
            ground,
            changes,
            genesis: genesis.validators.clone(),
        },
        registry,
        again,
        finalization: finalization.filter(|bytes| !bytes.is_empty()),
    })
}

/// Readers of all shards, from where execution stands.
pub(super) fn open_readers(
    parts: &NodeParts,
    opened: &Opened,
) -> Result<Vec<Box<dyn piaogen_ingest::stream::Reader>>> {
    let partitions = parts.genesis.file.partitions;
    ensure!(
        parts.records.partitions() == partitions,
        "topic {} has {} partitions, the genesis says {partitions}: they must be equal",
        parts.records.name(),
        parts.records.partitions(),
    );
    let last_cut = opened.again.last().map_or(&opened.start.tip.cut, |(_, cut)| cut);
    let mut readers = Vec::new();
    for (shard, entry) in opened.start.tip.shards.iter().enumerate() {
        let (stream, partition) = match shard < partitions as usize {
            true => (&parts.records, shard as u32),
            false => (&parts.registry, 0),
        };
        let end = stream.end_offset(partition)?;
        ensure!(
            end >= last_cut.0[shard],
            "topic {} partition {partition} ends at offset {end}, but final blocks cover it up to \
             {}: the stream lost records, or it is another stream",
            stream.name(),
            last_cut.0[shard],
        );
        readers.push(stream.reader(partition, entry.next_offset)?);
    }
    Ok(readers)
}
