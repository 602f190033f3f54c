//! Measures the archive: rows a second sealed, read and audited, and bytes a row.
//!
//! `archive_speed [ROWS]`: invoices of about 490 bytes in one shard; only the audit has threads.

use std::time::Instant;

use piaogen_storage::RowRef;
use piaogen_storage::archive::audit::{AuditOptions, verify};
use piaogen_storage::archive::{Archive, ArchiveConfig, BlockRef};
use piaogen_verify::trust_root::TrustRoot;

#[path = "../tests/mini_chain/mod.rs"]
mod mini_chain;
use mini_chain::{MiniChain, Plan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rows = std::env::args().nth(1).map_or(Ok(300_000), |text| text.parse::<u64>())?;
    let plan = Plan { seed: 1, partitions: 1, blocks: 100, rows: rows.div_ceil(66), signed: false };
    let chain = MiniChain::make(plan);
    let rows = chain.rows() as f64;
    let bytes: usize = chain.shards.iter().flatten().map(|row| row.record.len()).sum();
    println!("{rows} rows, records of {:.0} bytes", bytes as f64 / rows);
    for commitments in [false, true] {
        let dir = tempfile::tempdir()?;
        let mut config = ArchiveConfig::new(dir.path().display().to_string());
        config.commitments = commitments;
        let archive = Archive::open(config, chain.genesis.chain)?;
        archive.put_genesis(&chain.genesis_bytes)?;
        println!("commitments stored: {commitments}");
        let begin = Instant::now();
        for (shard, rows) in (0..).zip(&chain.shards) {
            archive.seal(
                shard,
                rows.iter().map(|row| RowRef {
                    log_index: row.log_index,
                    height: row.height,
                    time_ms: row.time_ms,
                    entry: &row.entry,
                    record: &row.record,
                }),
            )?;
        }
        let sealed = begin.elapsed().as_secs_f64();
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
        let segments = archive.segments();
        let size: u64 = segments.iter().filter(|s| s.shard.is_some()).map(|s| s.bytes).sum();
        println!("  sealed   {:>9.0} rows/s, {:.1} bytes a row", rows / sealed, size as f64 / rows);
        let begin = Instant::now();
        let read = archive.rows(0, 0).collect::<Result<Vec<_>, _>>()?.len();
        println!("  read     {:>9.0} rows/s", read as f64 / begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        for n in 0..200 {
            archive.row(0, n * 7_919 % read as u64)?.ok_or("a row is missing")?;
        }
        println!("  one row  {:>9.2} ms", begin.elapsed().as_secs_f64() * 5.0);
        let trust = TrustRoot::of_genesis(&chain.genesis);
        let report = verify(&archive, &trust, &AuditOptions::default(), &|_| {})?;
        println!(
            "  audited  {:>9.0} rows/s, {} wrong",
            report.rows_per_second(),
            report.findings.len()
        );
    }
    Ok(())
}
