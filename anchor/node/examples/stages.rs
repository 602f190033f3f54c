//! Measures each stage of the pipeline alone, on generated records.
//!
//! `cargo run --release -p piaogen-node --example stages -- [RECORDS] [FOLDER]`
//!
//! Signatures are dummies and not checked, but in the line that says so: what is measured is the
//! rest of the pipeline. One thread for each stage, so that the sum of the times says what a core
//! can carry.

use anyhow::Result;
use piaogen_anchor::log::Log;
use piaogen_anchor::registry::Registry;
use piaogen_anchor::{Context, Effects, Index, Place, Shard};
use piaogen_crypto::Lanes;
use piaogen_ingest::check::{CheckContext, Checker};
use piaogen_ingest::stream::log::{EmbeddedLog, LogOptions};
use piaogen_ingest::stream::{Batch, NO_ACK, Stream};
use piaogen_loadgen::generator::{Generator, GeneratorConfig, Shares};
use piaogen_loadgen::genesis::demo_chain;
use piaogen_loadgen::source::Signatures;
use piaogen_node::run::shard_entries;
use piaogen_storage::archive::{Archive, ArchiveConfig};
use piaogen_storage::{RowChunk, ShardEffects, ShardState, Store, StoreConfig};
use piaogen_verify::checked::CheckedBatch;
use piaogen_verify::header::ShardEntry;
use piaogen_verify::record;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BLOCK: usize = 20_000;

struct Nothing;

impl Index for Nothing {
    type Error = std::convert::Infallible;

    fn find(&self, subjects: &[&[u8]]) -> Result<Vec<Option<Place>>, Self::Error> {
        Ok(vec![None; subjects.len()])
    }
}

struct Stored<'a>(&'a Store);

impl Index for Stored<'_> {
    type Error = piaogen_storage::StoreError;

    fn find(&self, subjects: &[&[u8]]) -> Result<Vec<Option<Place>>, Self::Error> {
        let found = self.0.find_many(0, subjects)?;
        Ok(found
            .into_iter()
            .map(|place| {
                place.map(|place| Place {
                    log_index: place.log_index,
                    issue_index: place.issue_index,
                    commitment: place.commitment,
                })
            })
            .collect())
    }
}

fn say(stage: &str, records: usize, took: Duration) {
    let each = took.as_secs_f64() * 1e6 / records as f64;
    println!("{stage:<34} {:>10.0} records/s {each:>8.2} us each", 1e6 / each);
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let records: usize = arguments.next().map_or(Ok(200_000), |text| text.parse())?;
    let folder = arguments
        .next()
        .unwrap_or_else(|| std::env::temp_dir().join("piaogen-stages").display().to_string());
    let folder = Path::new(&folder);
    let chain = demo_chain(1, 1, 1, 1_790_000_000_000);
    let config = GeneratorConfig {
        sellers: 5_000,
        shares: Shares::with_bad(0),
        signatures: Signatures::Dummy,
        ..GeneratorConfig::new(1, &chain.genesis)
    };
    let generator = Generator::new(config);
    let begun = Instant::now();
    let mut payloads: Vec<Vec<u8>> = Vec::with_capacity(records);
    for at in (0..records as u64).step_by(4_096) {
        let batch = generator.generate_batch(at..(at + 4_096).min(records as u64), Lanes::detect());
        payloads.extend(batch.into_iter().map(|generated| generated.record));
    }
    say("generate (all cores, unsigned)", records, begun.elapsed());
    let bytes: usize = payloads.iter().map(Vec::len).sum();
    println!("mean record: {} bytes", bytes / records);

    let stream = stream(folder, &payloads)?;
    let blocks = read(&*stream, records)?;
    decode(&payloads);
    let checked = check(&chain.genesis, blocks)?;
    execute(&chain.genesis, &checked, records)?;
    store(folder, &chain.genesis, &checked, records)
}

fn stream(folder: &Path, payloads: &[Vec<u8>]) -> Result<Box<dyn Stream>> {
    let log = EmbeddedLog::create(&folder.join("stream"), "records", 1, LogOptions::default())?;
    let begun = Instant::now();
    let mut writer = log.writer()?;
    for payload in payloads {
        writer.send_waiting(0, payload, NO_ACK, Duration::from_secs(60))?;
    }
    writer.flush()?;
    say("embedded log: write, durable", payloads.len(), begun.elapsed());
    Ok(Box::new(log))
}

type Block = (Vec<u8>, Vec<(u64, Range<u32>)>);

fn read(stream: &dyn Stream, records: usize) -> Result<Vec<Block>> {
    let end = stream.end_offset(0)?;
    let mut reader = stream.reader(0, end - records as u64)?;
    let mut batch = Batch::new(2_048, 4 << 20);
    let mut blocks = Vec::new();
    let mut reading = Duration::ZERO;
    while reader.next_offset() < end {
        batch.clear();
        let begun = Instant::now();
        reader.poll(&mut batch, Duration::from_millis(100))?;
        reading += begun.elapsed();
        let places =
            batch.iter().zip(batch.ranges()).map(|(entry, range)| (entry.offset, range.clone()));
        blocks.push((batch.arena().to_vec(), places.collect()));
    }
    say("embedded log: read", records, reading);
    Ok(blocks)
}

fn decode(payloads: &[Vec<u8>]) {
    let begun = Instant::now();
    let fields: usize = payloads
        .iter()
        .filter_map(|bytes| record::decode(bytes).ok())
        .map(|r| r.fields.len())
        .sum();
    say("decode and check values", payloads.len(), begun.elapsed());
    println!("mean fields: {}", fields / payloads.len());
}

fn check(
    genesis: &piaogen_verify::genesis::Genesis,
    blocks: Vec<Block>,
) -> Result<Vec<CheckedBatch>> {
    let context = CheckContext {
        chain: genesis.chain,
        schemes: Arc::new(genesis.file.schemes.clone()),
        partitions: 1,
        signatures: false,
    };
    let mut checker = Checker::new(context, Lanes::detect());
    let keys = HashMap::new();
    let records: usize = blocks.iter().map(|(_, places)| places.len()).sum();
    let begun = Instant::now();
    let checked =
        blocks.into_iter().map(|(arena, places)| checker.check(0, arena, &places, &keys)).collect();
    say("check: decode, commit, rules", records, begun.elapsed());
    Ok(checked)
}

fn trusting(checked: &[CheckedBatch], registry: &Registry) -> Vec<CheckedBatch> {
    // Sellers are not registered here: the authority's key stands for all of them.
    let signer = registry.keys().next().map(|key| key.public_key.key_id()).unwrap_or_default();
    let mut all = checked.to_vec();
    all.iter_mut().flat_map(|batch| &mut batch.records).for_each(|record| record.signer = signer);
    all
}

fn execute(
    genesis: &piaogen_verify::genesis::Genesis,
    checked: &[CheckedBatch],
    records: usize,
) -> Result<()> {
    let registry = Registry::genesis(genesis);
    let batches = trusting(checked, &registry);
    let mut shard = Shard::new(&ShardEntry::empty(0), Log::default());
    let begun = Instant::now();
    for batch in &batches {
        let Ok(_) = shard.execute(&context(genesis, &registry), &Nothing, batch, 0);
    }
    say("execute: outcomes, leaves, log", records, begun.elapsed());
    Ok(())
}

fn context<'a>(
    genesis: &'a piaogen_verify::genesis::Genesis,
    registry: &'a Registry,
) -> Context<'a> {
    Context {
        chain: &genesis.chain,
        registry,
        time_ms: genesis.file.time_ms,
        clock_skew_ms: 60_000,
        lanes: Lanes::detect(),
        signatures: false,
    }
}

fn store(
    folder: &Path,
    genesis: &piaogen_verify::genesis::Genesis,
    checked: &[CheckedBatch],
    records: usize,
) -> Result<()> {
    let registry = Registry::genesis(genesis);
    let batches = trusting(checked, &registry);
    let store = Store::open(folder.join("data"), StoreConfig::new(genesis.chain, 1))?;
    let mut shard = Shard::new(&shard_entries(&store.recovered().shards)[0], Log::default());
    let (mut executing, mut applying) = (Duration::ZERO, Duration::ZERO);
    let time = genesis.file.time_ms;
    // Blocks must be there before a flush reaches their height.
    let header = vec![0; 232];
    for height in 0..=(records / 2_048 + 2) as u64 {
        let (cut, finalization) = (vec![0], vec![0]);
        store.append_block(&piaogen_storage::Block {
            height,
            header: header.clone(),
            cut,
            finalization,
        })?;
    }
    for (height, batch) in (1..).zip(&batches) {
        let begun = Instant::now();
        let first = shard.entry().log_size;
        let effects = shard.execute(&context(genesis, &registry), &Stored(&store), batch, 0)?;
        executing += begun.elapsed();
        let begun = Instant::now();
        let effects = to_storage(&shard, first, height, time, batch, effects)?;
        store.apply(height, vec![effects])?;
        applying += begun.elapsed();
    }
    say("execute with the index", records, executing);
    say("store: apply", records, applying);
    let begun = Instant::now();
    store.flush()?;
    say("store: flush", records, begun.elapsed());
    let sizes = store.sizes()?;
    let each = |bytes: u64| bytes as f64 / records as f64;
    println!(
        "log {:.1} index {:.1} status {:.1} tail {:.1} bytes a record",
        each(sizes.log),
        each(sizes.index),
        each(sizes.status),
        each(sizes.tail)
    );
    let archive = Archive::open(
        ArchiveConfig::new(folder.join("archive").display().to_string()),
        genesis.chain,
    )?;
    let begun = Instant::now();
    let mut sealer = archive.sealer(0)?;
    while sealer.next_index() < records as u64 {
        let rows = store.tail_read(0, sealer.next_index(), BLOCK as u64, 16 << 20)?;
        rows.iter().try_for_each(|row| sealer.push(row))?;
    }
    let segments = sealer.finish()?;
    say("archive: read tail, seal", records, begun.elapsed());
    let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    println!("archive {:.1} bytes a record", each(bytes));
    Ok(())
}

fn to_storage(
    shard: &Shard,
    first: u64,
    height: u64,
    time: i64,
    batch: &CheckedBatch,
    effects: Effects,
) -> Result<ShardEffects> {
    let mut rows = RowChunk::new(first, height, time);
    for (entry, record) in effects.iter().zip(&batch.records) {
        rows.push(entry, batch.bytes(record))?;
    }
    let entry = shard.entry();
    Ok(ShardEffects {
        levels: effects.levels,
        ids: effects
            .ids
            .into_iter()
            .map(|(subject, place)| {
                let Place { log_index, issue_index, commitment } = place;
                (subject, piaogen_storage::IdPlace { log_index, issue_index, commitment })
            })
            .collect(),
        rows,
        state: ShardState {
            next_offset: entry.next_offset,
            log_size: entry.log_size,
            log_root: entry.log_root,
            invoices: entry.invoices,
            status_root: entry.status_root,
        },
        ..ShardEffects::default()
    })
}
