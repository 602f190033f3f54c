//! Measures the way of rows through the store into the archive, and the archive itself.
//!
//! `archive_speed [ROWS | DIR]`: rows of a small chain made for it (default 300,000, about 490
//! bytes a record), or those in the tail of the data folder DIR, in one shard. Prints microseconds
//! of a core a row, all threads counted, and bytes a row; for a chain also reading and the audit.
//! `COLUMNS=1` adds what each column of the archive costs on disk.

use std::path::Path;
use std::time::Instant;

use parquet::file::reader::{FileReader, SerializedFileReader};
use piaogen_storage::archive::audit::{AuditOptions, verify};
use piaogen_storage::archive::{Archive, ArchiveConfig, BlockRef};
use piaogen_storage::{
    Block, Digest, HEADER_BYTES, IdPlace, Row, RowChunk, ShardEffects, ShardState, Store,
    StoreConfig, StoreReader,
};
use piaogen_verify::entry::Entry;
use piaogen_verify::record;
use piaogen_verify::trust_root::TrustRoot;

#[path = "../tests/mini_chain/mod.rs"]
mod mini_chain;
use mini_chain::{MiniChain, Plan};

type Failed = Box<dyn std::error::Error>;

/// Bytes of rows that are read from the tail at once.
const READ_BYTES: u64 = 1 << 20;
/// Rows of one block.
const BLOCK: usize = 2_048;

/// CPU seconds of this process so far, all threads.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Runs a stage and says what it took of a core.
fn stage<T>(
    name: &str,
    rows: usize,
    work: impl FnOnce() -> Result<T, Failed>,
) -> Result<T, Failed> {
    let (begin, before) = (Instant::now(), cpu());
    let done = work()?;
    let each = |seconds: f64| seconds * 1e6 / rows as f64;
    let (wall, cpu) = (each(begin.elapsed().as_secs_f64()), each(cpu() - before));
    println!("  {name:<24} {cpu:>7.2} us of a core a row, {wall:>7.2} us elapsed");
    Ok(done)
}

fn effects(rows: &[Row], height: u64) -> Result<ShardEffects, Failed> {
    let first = rows[0].log_index;
    let to = first + rows.len() as u64;
    let mut effects = ShardEffects { shard: 0, ..ShardEffects::default() };
    effects.rows = RowChunk::new(first, height, rows[0].time_ms);
    for row in rows {
        effects.rows.push(&row.entry, &row.record)?;
        let entry = Entry::decode(&row.entry)?;
        if let Some(place) = IdPlace::of_entry(row.log_index, &entry) {
            effects.ids.push((entry.subject, place));
        }
    }
    let hashes = |level: u32| -> Vec<Digest> {
        let of = |index: u64| rows[(index << level) as usize % rows.len()].entry[60..92].try_into();
        ((first >> level)..(to >> level)).map(|index| of(index).unwrap_or_default()).collect()
    };
    effects.levels = (0..64).take_while(|level| to >> level > 0).map(hashes).collect();
    effects.state = ShardState { next_offset: to, log_size: to, ..ShardState::default() };
    Ok(effects)
}

/// Applies, flushes, reads back and seals.
fn through(rows: &[Row], chain: Digest) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path().join("data"), StoreConfig::new(chain, 1))?;
    let blocks: Vec<ShardEffects> = (1..)
        .zip(rows.chunks(BLOCK))
        .map(|(height, rows)| effects(rows, height))
        .collect::<Result<_, _>>()?;
    for height in 0..=blocks.len() as u64 {
        let (header, cut) = (vec![0; HEADER_BYTES], vec![0]);
        store.append_block(&Block { height, header, cut, finalization: vec![0] })?;
    }
    stage("store: apply", rows.len(), || {
        for (height, block) in (1..).zip(blocks) {
            store.apply(height, vec![block])?;
        }
        Ok(())
    })?;
    stage("store: flush", rows.len(), || Ok(store.flush()?))?;
    let sizes = store.sizes()?;
    let each = |bytes: u64| bytes as f64 / rows.len() as f64;
    let (log, index, tail) = (each(sizes.log), each(sizes.index), each(sizes.tail));
    println!("  log {log:.1}, index {index:.1}, tail {tail:.1} bytes a row");
    let end = rows.len() as u64;
    let read = |from| store.tail_read(0, from, end - from, READ_BYTES);
    stage("store: read tail", rows.len(), || {
        let mut at = 0;
        while at < end {
            at = read(at)?.end();
        }
        Ok(())
    })?;
    let location = dir.path().join("archive");
    let archive = Archive::open(ArchiveConfig::new(location.display().to_string()), chain)?;
    stage("archive: read tail, seal", rows.len(), || {
        let mut sealer = archive.sealer(0)?;
        while sealer.next_index() < end {
            read(sealer.next_index())?.iter().try_for_each(|row| sealer.push(row))?;
        }
        Ok(sealer.finish()?)
    })?;
    let bytes: u64 = archive.segments().iter().map(|segment| segment.bytes).sum();
    println!("  archive {:.1} bytes a row", each(bytes));
    if std::env::var_os("COLUMNS").is_some() {
        columns(&archive, &location, rows.len())?;
    }
    Ok(())
}

fn columns(archive: &Archive, location: &Path, rows: usize) -> Result<(), Failed> {
    let mut sizes = std::collections::BTreeMap::<String, (i64, i64)>::new();
    for segment in archive.segments() {
        let file = SerializedFileReader::new(std::fs::File::open(location.join(segment.path))?)?;
        for column in file.metadata().row_groups().iter().flat_map(|group| group.columns()) {
            let size = sizes.entry(column.column_path().string()).or_default();
            size.0 += column.compressed_size();
            size.1 += i64::from(column.bloom_filter_length().unwrap_or(0))
                + i64::from(column.column_index_length().unwrap_or(0))
                + i64::from(column.offset_index_length().unwrap_or(0));
        }
    }
    for (name, (bytes, beside)) in sizes {
        let each = |bytes: i64| bytes as f64 / rows as f64;
        println!("  {name:<34} {:>7.2}  + {:.2}", each(bytes), each(beside));
    }
    Ok(())
}

/// Names the record's own signer in the entry, which folders made for measuring may not do: such
/// rows would go into the archive as raw bytes.
fn own_signer(mut row: Row) -> Row {
    if let (Ok(mut entry), Ok(record)) = (Entry::decode(&row.entry), record::decode(&row.record)) {
        entry.signer = record.signer;
        row.entry = entry.encode();
    }
    row
}

fn main() -> Result<(), Failed> {
    let given = std::env::args().nth(1).unwrap_or_else(|| "300000".into());
    let Ok(rows) = given.parse::<u64>() else {
        let reader = StoreReader::open(&given)?;
        let rows = reader.tail_read(0, 0, u64::MAX, u64::MAX)?;
        let rows: Vec<Row> = rows.iter().map(Row::from).map(own_signer).collect();
        println!("{} rows", rows.len());
        return through(&rows, reader.chain());
    };
    let plan = Plan { seed: 1, partitions: 1, blocks: 100, rows: rows.div_ceil(66), signed: false };
    let mut chain = MiniChain::make(plan);
    let bytes: usize = chain.shards.iter().flatten().map(|row| row.record.len()).sum();
    println!("{} rows, records of {} bytes", chain.rows(), bytes / chain.rows());
    let own = |row: &mini_chain::MiniRow| Row {
        log_index: row.log_index,
        height: row.height,
        time_ms: row.time_ms,
        entry: row.entry.clone(),
        record: row.record.clone(),
    };
    let rows: Vec<Row> = chain.shards[0].iter().map(own).collect();
    through(&rows, chain.genesis.chain)?;
    read_and_audit(&mut chain)
}

fn read_and_audit(chain: &mut MiniChain) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let config = ArchiveConfig::new(dir.path().display().to_string());
    let archive = Archive::open(config, chain.genesis.chain)?;
    archive.put_genesis(&chain.genesis_bytes)?;
    for (shard, rows) in (0..).zip(&chain.shards) {
        archive.seal(shard, rows.iter().map(mini_chain::MiniRow::view))?;
    }
    let encoded: Vec<_> = chain
        .blocks
        .iter()
        .map(|block| (block.header.encode(), block.cut.encode(), &block.certificate))
        .collect();
    archive.seal_blocks(encoded.iter().map(|(header, cut, certificate)| BlockRef {
        header,
        cut,
        certificate,
    }))?;
    let count = chain.rows();
    stage("archive: read", count, || Ok(archive.rows(0, 0).try_for_each(|row| row.map(drop))?))?;
    stage("archive: one row", 200, || {
        for n in 0..200 {
            archive.row(0, n * 7_919 % archive.sealed_up_to(0)?)?.ok_or("a row is missing")?;
        }
        Ok(())
    })?;
    let trust = TrustRoot::of_genesis(&chain.genesis);
    let report = stage("archive: audit", count, || {
        Ok(verify(&archive, &trust, &AuditOptions::default(), &|_| {})?)
    })?;
    println!("  audited {:.0} rows/s, {} wrong", report.rows_per_second(), report.findings.len());
    Ok(())
}
