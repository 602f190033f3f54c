//! `piaogen snapshot`: makes, fetches and restores snapshots.

use super::{Output, Place, progress, read_trust_root};
use crate::config::Config;
use crate::setup;
use crate::snapshot::fetch::fetch;
use crate::snapshot::make::make;
use crate::snapshot::restore::{Restore, Target};
use crate::snapshot::{prove, read_manifest};
use anyhow::{Context, Result};
use piaogen_storage::archive::{Archive, ArchiveConfig};
use piaogen_verify::trust_root::TrustRoot;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make one of a data folder, beside its node.
    Make {
        #[command(flatten)]
        place: Place,
        /// The new folder.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Fetch one in parts; what was cut short goes on where it was.
    Fetch {
        /// A node that serves one, http://HOST:PORT, or a folder.
        #[arg(long, value_name = "FROM")]
        from: String,
        /// Where it is put.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// What you trust beforehand.
        #[arg(long, value_name = "FILE")]
        trust_root: PathBuf,
    },
    /// Check one whole, and restore it into a new data folder.
    Restore {
        #[command(flatten)]
        place: Place,
        /// The snapshot.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// The archive of the node that made it: a folder or s3://bucket/prefix. What lies below the
        /// snapshot is copied into the archive of this node.
        #[arg(long, value_name = "LOCATION")]
        archive: String,
        /// What you trust beforehand; default: that of the genesis.
        #[arg(long, value_name = "FILE")]
        trust_root: Option<PathBuf>,
        /// Take the archive as it is; `piaogen audit verify` checks it later.
        #[arg(long)]
        skip_audit: bool,
    },
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    match &arguments.what {
        What::Make { place, to } => {
            let config = place.config()?;
            let made = make(&config, to, config.backend()?)?;
            let json = serde_json::json!({
                "height": made.height, "records": made.records, "invoices": made.invoices,
                "parts": made.parts, "bytes": made.bytes,
            });
            output.print(&json, || {
                format!(
                    "{}: the state of height {}, {} records, {} invoices, in {} parts, {} bytes",
                    to.display(),
                    made.height,
                    made.records,
                    made.invoices,
                    made.parts,
                    made.bytes
                )
            })
        }
        What::Fetch { from, to, trust_root } => {
            get(from, to, &read_trust_root(trust_root)?, output)
        }
        What::Restore { place, from, archive, trust_root, skip_audit } => {
            let config = place.config()?;
            let genesis = setup::genesis(&config.genesis)?;
            let trust = match trust_root {
                Some(path) => read_trust_root(path)?,
                None => TrustRoot::of_genesis(&genesis),
            };
            restore(&config, from, archive, &trust, !skip_audit, output)
        }
    }
}

fn get(from: &str, to: &Path, trust: &TrustRoot, output: Output) -> Result<()> {
    let bar = progress(0, "fetching");
    let lanes = piaogen_crypto::Lanes::detect();
    let fetched = fetch(from, to, trust, lanes, &|bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    let manifest = &fetched.proved.manifest;
    let json = serde_json::json!({
        "height": manifest.height, "parts": manifest.parts.len(), "fresh": fetched.fresh,
        "again": fetched.again, "bytes": manifest.bytes(),
    });
    output.print(&json, || {
        let again = match fetched.again.as_slice() {
            [] => String::new(),
            names => format!("; wrong at first: {}", names.join(", ")),
        };
        format!(
            "{}: the state of height {} in {} parts, {} of them fetched now{again}",
            to.display(),
            manifest.height,
            manifest.parts.len(),
            fetched.fresh
        )
    })
}

fn restore(
    config: &Config,
    from: &Path,
    archive: &str,
    trust: &TrustRoot,
    audited: bool,
    output: Output,
) -> Result<()> {
    let genesis = setup::genesis(&config.genesis)?;
    let proved = prove(read_manifest(from)?, trust)?;
    let source =
        ArchiveConfig { options: config.archive.options.clone(), ..ArchiveConfig::new(archive) };
    let source = Archive::open_read_only(source, Some(genesis.chain))
        .context("opening the archive to copy from")?;
    std::fs::create_dir_all(&config.dir).with_context(|| config.dir.display().to_string())?;
    let target = setup::archive(config, genesis.chain)?;
    let total = proved.shards.iter().map(|shard| shard.log_size).sum();
    let bar = progress(total, "restoring");
    let advance = |records: u64| bar.inc(records);
    let restored =
        Restore::new(proved, from, &genesis, config.backend()?, &advance).run(&Target {
            dir: &config.dir,
            store: setup::store_config(config, &genesis),
            archive: &target,
            source: &source,
            audit: audited.then_some(trust),
        })?;
    bar.finish_and_clear();
    let json = serde_json::json!({
        "height": restored.height, "records": restored.records, "invoices": restored.invoices,
        "segments": restored.segments, "audited": audited,
    });
    output.print(&json, || {
        let archive = if audited { "audited" } else { "NOT AUDITED: run piaogen audit verify" };
        format!(
            "{}: the state of height {}, {} records, {} invoices, all checked; {} segments of the \
             archive, {archive}",
            config.dir.display(),
            restored.height,
            restored.records,
            restored.invoices,
            restored.segments
        )
    })
}
