//! `piaogen fsck`: executes the whole stream again and compares it with what is stored.

use super::receipt::Folder;
use super::{No, Output, Place, progress};
use crate::check::{Finding, Fsck, Summary};
use crate::setup;
use anyhow::Result;
use piaogen_ingest::check::Signatures;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Take signatures as they were found: faster, and proves less.
    #[arg(long)]
    skip_signatures: bool,
}

/// Most findings that are printed.
const FINDINGS_MAX: usize = 100;

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let config = arguments.place.config()?;
    let folder = Folder::open(&config)?;
    let (records, registry) = setup::streams(&config, &folder.genesis)?;
    let total = folder.reader.flushed().shards.iter().map(|shard| shard.log_size).sum();
    let bar = progress(total, "checking");
    let done = AtomicU64::new(0);
    let advance =
        |records: u64| bar.set_position(done.fetch_add(records, Ordering::Relaxed) + records);
    let fsck = Fsck {
        genesis: &folder.genesis,
        reader: &folder.reader,
        archive: &folder.archive,
        records: &*records,
        registry: &*registry,
        signatures: !arguments.skip_signatures,
        verifier: Arc::new(Signatures::new(config.backend()?, config.limits.key_tables_mib << 20)),
        advance: &advance,
    };
    let (summary, findings) = fsck.run()?;
    bar.finish_and_clear();
    report(&summary, &findings, output)
}

fn report(summary: &Summary, findings: &[Finding], output: Output) -> Result<()> {
    let named: Vec<String> = findings.iter().take(FINDINGS_MAX).map(ToString::to_string).collect();
    let json = serde_json::json!({
        "clean": findings.is_empty(), "height": summary.height, "blocks": summary.blocks,
        "records": summary.records, "accepted": summary.accepted,
        "unexecuted": summary.unexecuted, "findings": named,
        "pruned": summary.pruned.iter().map(|(topic, partition, offset)| serde_json::json!({
            "topic": topic, "partition": partition, "compared_from": offset,
        })).collect::<Vec<_>>(),
    });
    output.print(&json, || {
        let mut text = format!(
            "{} blocks up to height {}, {} records executed again, {} accepted, {} in the stream \
             and not in a flushed block\n",
            summary.blocks, summary.height, summary.records, summary.accepted, summary.unexecuted
        );
        for (topic, partition, offset) in &summary.pruned {
            text.push_str(&format!(
                "{topic} partition {partition}: compared with the stream from offset {offset} on, \
                 below it executed from the archive\n"
            ));
        }
        named.iter().for_each(|line| text.push_str(&format!("FOUND {line}\n")));
        text.push_str(if findings.is_empty() { "clean" } else { "NOT CLEAN" });
        text
    })?;
    match findings.len() {
        0 => Ok(()),
        n => Err(No(format!("{n} findings")).into()),
    }
}
