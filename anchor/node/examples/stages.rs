//! Measures each stage of the pipeline alone, on generated records.
//!
//! `cargo run --release -p piaogen-node --example stages -- [RECORDS] [FOLDER]`
//!
//! Signatures are dummies and not checked, but in the lines that say so: what is measured first is
//! the rest of the pipeline. One thread for each stage, so that the sum of the times says what a core
//! can carry.

use anyhow::{Context as _, Result, ensure};
use piaogen_anchor::log::Log;
use piaogen_anchor::registry::Registry;
use piaogen_anchor::{Context, Index, Place, Shard, Wait};
use piaogen_crypto::{Digest, Lanes};
use piaogen_ingest::check::{self, CheckContext, Checker};
use piaogen_ingest::stream::log::{EmbeddedLog, LogOptions};
use piaogen_ingest::stream::{Batch, NO_ACK, Stream};
use piaogen_loadgen::generator::{Generator, GeneratorConfig, Shares};
use piaogen_loadgen::genesis::demo_chain;
use piaogen_loadgen::source::Signatures;
use piaogen_node::run::execute::{StoreIndex, to_storage};
use piaogen_node::run::shard_entries;
use piaogen_storage::archive::{Archive, ArchiveConfig};
use piaogen_storage::{RowChunk, Store, StoreConfig};
use piaogen_verify::checked::{Checked, CheckedBatch, SignatureCheck};
use piaogen_verify::genesis::Genesis;
use piaogen_verify::header::ShardEntry;
use piaogen_verify::policy::Policy;
use piaogen_verify::record;
use piaogen_verify::status::Status;
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

    fn statuses(&self, issues: &[u64]) -> Result<Vec<Option<Status>>, Self::Error> {
        Ok(vec![None; issues.len()])
    }

    fn status_nodes(&self, places: &[(u8, u64)]) -> Result<Vec<Digest>, Self::Error> {
        Ok(vec![[0; 32]; places.len()])
    }

    fn waits(&self, _: i64) -> Result<Vec<Wait>, Self::Error> {
        Ok(Vec::new())
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
    let generator = Generator::new(generator_config(&chain.genesis, Signatures::Dummy));
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
    let mut registry = Registry::genesis(&chain.genesis);
    for record in generator.registrations(&chain.authority) {
        let decoded = record::decode(&record).ok().context("a registration decodes")?;
        registry.execute(&decoded, 0).ok().context("a registration is accepted")?;
    }
    let checked = check(&chain.genesis, blocks);
    execute(&chain.genesis, &registry, &checked, records)?;
    store(folder, &chain.genesis, &registry, &checked, records)?;
    signatures(&chain.genesis, &registry, records.min(100_000))
}

/// Signing, and checking with signatures under keys that have been seen before.
fn signatures(genesis: &Genesis, registry: &Registry, records: usize) -> Result<()> {
    let generator = Generator::new(generator_config(genesis, Signatures::Real));
    let begun = Instant::now();
    let made = generator.generate_batch(0..records as u64, Lanes::detect());
    say("generate and sign (all cores)", records, begun.elapsed());
    let keys: check::Keys =
        registry.keys().map(|key| (key.public_key.key_id(), key.public_key.clone())).collect();
    let lanes = Lanes::detect();
    let mut checker = Checker::new(check_context(genesis, true), lanes, tables(lanes));
    // A batch asks for a few tables at most, so it takes two rounds until all keys have theirs.
    for round in ["check with signatures, new keys", "the same again", "the same, all with tables"]
    {
        let mut took = Duration::ZERO;
        for chunk in made.chunks(2_048) {
            let (mut arena, mut places) = (Vec::new(), Vec::new());
            for (offset, generated) in (0..).zip(chunk) {
                let begin = arena.len() as u32;
                arena.extend_from_slice(&generated.record);
                places.push((offset, begin..arena.len() as u32));
            }
            let begun = Instant::now();
            let checked = checker.check(0, arena, &places, &keys);
            took += begun.elapsed();
            let valid = |record: &Checked| record.signature == SignatureCheck::Valid;
            ensure!(checked.records.iter().all(valid), "a signature does not hold");
        }
        say(round, records, took);
    }
    Ok(())
}

fn generator_config(genesis: &Genesis, signatures: Signatures) -> GeneratorConfig {
    GeneratorConfig {
        sellers: 5_000,
        shares: Shares::with_bad(0),
        signatures,
        ..GeneratorConfig::new(1, genesis)
    }
}

fn check_context(genesis: &Genesis, signatures: bool) -> CheckContext {
    CheckContext {
        chain: genesis.chain,
        schemes: Arc::new(genesis.file.schemes.clone()),
        partitions: 1,
        signatures,
        fingerprints: false,
    }
}

fn tables(lanes: Lanes) -> Arc<check::Signatures> {
    Arc::new(check::Signatures::new(lanes, 512 << 20))
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

fn check(genesis: &Genesis, blocks: Vec<Block>) -> Vec<CheckedBatch> {
    let lanes = Lanes::detect();
    let mut checker = Checker::new(check_context(genesis, false), lanes, tables(lanes));
    let keys = check::Keys::default();
    let records: usize = blocks.iter().map(|(_, places)| places.len()).sum();
    let begun = Instant::now();
    let checked =
        blocks.into_iter().map(|(arena, places)| checker.check(0, arena, &places, &keys)).collect();
    say("check: decode, commit, rules", records, begun.elapsed());
    checked
}

fn execute(
    genesis: &Genesis,
    registry: &Registry,
    checked: &[CheckedBatch],
    records: usize,
) -> Result<()> {
    let mut shard = Shard::new(&ShardEntry::empty(0), Log::default());
    let begun = Instant::now();
    for batch in checked {
        let Ok(_) = shard.execute(&context(genesis, registry), &Nothing, batch, 0);
    }
    say("execute: outcomes, leaves, log", records, begun.elapsed());
    Ok(())
}

fn context<'a>(genesis: &'a Genesis, registry: &'a Registry) -> Context<'a> {
    Context {
        chain: &genesis.chain,
        registry,
        height: 1,
        policy: Policy::default(),
        schemes: &genesis.file.schemes,
        time_ms: genesis.file.time_ms,
        clock_skew_ms: 60_000,
        lanes: Lanes::detect(),
        signatures: false,
    }
}

fn store(
    folder: &Path,
    genesis: &Genesis,
    registry: &Registry,
    checked: &[CheckedBatch],
    records: usize,
) -> Result<()> {
    let store = Store::open(folder.join("data"), StoreConfig::new(genesis.chain, 1))?;
    let mut shard = Shard::new(&shard_entries(&store.recovered().shards)[0], Log::default());
    let (mut executing, mut applying) = (Duration::ZERO, Duration::ZERO);
    let time = genesis.file.time_ms;
    // Blocks must be there before a flush reaches their height.
    let header = vec![0; piaogen_storage::HEADER_BYTES];
    for height in 0..=(records / 2_048 + 2) as u64 {
        let (cut, finalization) = (vec![0], vec![0]);
        store.append_block(&piaogen_storage::Block {
            height,
            header: header.clone(),
            cut,
            finalization,
        })?;
    }
    for (height, batch) in (1..).zip(checked) {
        let begun = Instant::now();
        let first = shard.entry().log_size;
        let index = StoreIndex { store: &store, shard: 0 };
        let effects = shard.execute(&context(genesis, registry), &index, batch, 0)?;
        executing += begun.elapsed();
        let begun = Instant::now();
        let effects = to_storage(&shard, RowChunk::new(first, height, time), batch, effects)?;
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
