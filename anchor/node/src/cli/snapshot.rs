//! `piaogen snapshot`: makes, fetches and restores snapshots.

use super::{Output, Place, progress, read_trust_root};
use crate::config::Config;
use crate::setup;
use crate::snapshot::fetch::fetch;
use crate::snapshot::make::make;
use crate::snapshot::restore::{Restore, Target};
use crate::snapshot::{Proved, prove, read_manifest};
use anyhow::{Context, Result, ensure};
use piaogen_storage::archive::{Archive, ArchiveConfig};
use piaogen_storage::snapshot::Replacement;
use piaogen_storage::{StoreConfig, StoreReader};
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
    /// Check one whole, and restore it into a new data folder, or in the place of one.
    Restore {
        #[command(flatten)]
        place: Place,
        /// The snapshot.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// The archive of the node that made it: a folder or s3://bucket/prefix. What lies below the
        /// snapshot, and is not in the archive of this node, comes along.
        #[arg(long, value_name = "LOCATION")]
        archive: String,
        /// What you trust beforehand; default: that of the genesis.
        #[arg(long, value_name = "FILE")]
        trust_root: Option<PathBuf>,
        /// Where the data folder holds older data, put the snapshot in its place once it is checked
        /// whole. Votes stay, and so does what this node has archived.
        #[arg(long)]
        replace: bool,
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
        What::Restore { place, from, archive, trust_root, skip_audit, replace } => {
            let config = place.config()?;
            let genesis = setup::genesis(&config.genesis)?;
            let trust = match trust_root {
                Some(path) => read_trust_root(path)?,
                None => TrustRoot::of_genesis(&genesis),
            };
            let how = How { archive, audited: !skip_audit, replace: *replace };
            restore(&config, from, &trust, &how, output)
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

/// How a snapshot is restored.
struct How<'a> {
    archive: &'a str,
    audited: bool,
    replace: bool,
}

/// Takes the data folder that is to be replaced; nothing where there is none.
fn replaced(config: &Config, store: &StoreConfig, proved: &Proved) -> Result<Option<Replacement>> {
    let replacement = Replacement::begin(&config.dir, store)?;
    if replacement.is_some() {
        let tip = StoreReader::open(&config.dir)?.tip().unwrap_or(0);
        let height = proved.header.height;
        ensure!(
            height >= tip,
            "the snapshot ends at block {height}, and {} has blocks up to {tip}: fetch a newer one",
            config.dir.display()
        );
    }
    Ok(replacement)
}

fn restore(
    config: &Config,
    from: &Path,
    trust: &TrustRoot,
    how: &How<'_>,
    output: Output,
) -> Result<()> {
    let genesis = setup::genesis(&config.genesis)?;
    let proved = prove(read_manifest(from)?, trust)?;
    let options = config.archive.options.clone();
    let source = ArchiveConfig { options, ..ArchiveConfig::new(how.archive) };
    let source = Archive::open_read_only(source, Some(genesis.chain))
        .context("opening the archive to copy from")?;
    std::fs::create_dir_all(&config.dir).with_context(|| config.dir.display().to_string())?;
    let store = setup::store_config(config, &genesis);
    let replacement = match how.replace {
        true => replaced(config, &store, &proved)?,
        false => None,
    };
    let dir = replacement.as_ref().map_or(&*config.dir, Replacement::folder);
    let target = setup::archive(config, genesis.chain)?;
    let total = proved.shards.iter().map(|shard| shard.log_size).sum();
    let bar = progress(total, "restoring");
    let advance = |records: u64| bar.inc(records);
    let restored =
        Restore::new(proved, from, &genesis, config.backend()?, &advance).run(&Target {
            dir,
            store,
            archive: &target,
            source: &source,
            audit: how.audited.then_some(trust),
        })?;
    let replaced = replacement.map(Replacement::put).transpose()?.is_some();
    bar.finish_and_clear();
    let json = serde_json::json!({
        "height": restored.height, "records": restored.records, "invoices": restored.invoices,
        "segments": restored.segments, "rows": restored.rows, "audited": how.audited,
        "replaced": replaced,
    });
    output.print(&json, || {
        let archive = match how.audited {
            true => "audited",
            false => "NOT AUDITED: run piaogen audit verify",
        };
        format!(
            "{}: the state of height {}, {} records, {} invoices, all checked; {} segments of the \
             archive copied and {} rows of it taken, {archive}",
            config.dir.display(),
            restored.height,
            restored.records,
            restored.invoices,
            restored.segments,
            restored.rows
        )
    })
}
