//! `piaogen prune`: deletes what of the stream nobody needs any more.

use super::receipt::Folder;
use super::{Output, Place, read_trust_root};
use crate::setup;
use crate::snapshot::prune::{Guards, Reach, plan};
use anyhow::Result;
use piaogen_verify::trust_root::TrustRoot;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// A snapshot that is kept: who needs what is deleted begins with it.
    #[arg(long, value_name = "DIR")]
    snapshot: PathBuf,
    /// How many offsets of each partition stay besides, for nodes that are a little behind.
    #[arg(long, value_name = "OFFSETS", default_value_t = 100_000)]
    margin: u64,
    /// Another node that reads the same stream, http://HOST:PORT: what it needs after a crash stays.
    /// As often as there are nodes; one that does not answer stops everything.
    #[arg(long, value_name = "URL")]
    ask: Vec<String>,
    /// What you trust beforehand; default: that of the genesis.
    #[arg(long, value_name = "FILE")]
    trust_root: Option<PathBuf>,
    /// Only say what would be deleted.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let config = arguments.place.config()?;
    let folder = Folder::open(&config)?;
    let (records, registry) = setup::streams(&config, &folder.genesis)?;
    let trust = match &arguments.trust_root {
        Some(path) => read_trust_root(path)?,
        None => TrustRoot::of_genesis(&folder.genesis),
    };
    let streams = (&*records, &*registry);
    let Arguments { snapshot, margin, ask, .. } = arguments;
    let plan = plan(&folder, streams, &trust, &Guards { kept: snapshot, margin: *margin, ask })?;
    let starts = match arguments.dry_run {
        true => plan.reaches.iter().map(|reach| reach.start.max(reach.below)).collect(),
        false => plan.execute()?,
    };
    let json: Vec<_> = plan.reaches.iter().zip(&starts).map(to_json).collect();
    let json = serde_json::json!({ "dry_run": arguments.dry_run, "partitions": json });
    output.print(&json, || {
        let lines = plan.reaches.iter().zip(&starts).map(|(reach, start)| {
            let verb = if arguments.dry_run { "would begin" } else { "begins" };
            let asked = reach.asked.map_or_else(String::new, |asked| format!(", asked {asked}"));
            format!(
                "{} partition {}: began at {}, {verb} at {start} (audited {}, snapshot {}, flushed \
                 {}{asked})",
                reach.topic,
                reach.partition,
                reach.start,
                reach.audited,
                reach.snapshot,
                reach.flushed
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}

fn to_json((reach, start): (&Reach, &u64)) -> serde_json::Value {
    serde_json::json!({
        "topic": reach.topic, "partition": reach.partition, "began": reach.start, "begins": start,
        "audited": reach.audited, "snapshot": reach.snapshot, "flushed": reach.flushed,
        "asked": reach.asked,
    })
}
