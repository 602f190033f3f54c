//! `piaogen mirror`: keeps the logs of a chain as files, checks such a folder, and proves from it.

use super::evidence::accuse;
use super::receipt::{Wanted, stream_place};
use super::verify::read_receipt;
use super::{No, Output, read_trust_root};
use crate::mirror::{Mirror, Pulled, TileProver, check};
use crate::site::Site;
use anyhow::{Context, Result, bail};
use piaogen_verify::trust_root::TrustRoot;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest time for one file.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a file is asked for where the mirror goes on by itself.
const TRIES: u32 = 6;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    pull: Option<Pull>,
}

/// Take what a source has.
#[derive(Debug, clap::Args)]
struct Pull {
    /// A node or a web server with a mirror, http://HOST:PORT, or the folder of a mirror.
    #[arg(long, value_name = "FROM")]
    from: String,
    /// The mirror's folder; any web server may hand it out.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The chain's trust root, that of the genesis.
    #[arg(long, value_name = "FILE")]
    trust_root: PathBuf,
    /// Go on, with so many seconds between; once where it is left out.
    #[arg(long, value_name = "SECONDS")]
    every: Option<u64>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Compute everything in a mirror again, offline, from the first header on.
    Check {
        /// The mirror's folder.
        dir: PathBuf,
        /// The chain's trust root, that of the genesis.
        #[arg(long, value_name = "FILE")]
        trust_root: PathBuf,
    },
    /// Make a receipt or a consistency proof from the files of a mirror alone. By number, every entry
    /// of its shard is read.
    Prove(Prove),
}

#[derive(Debug, clap::Args)]
struct Prove {
    /// The mirror's folder.
    dir: PathBuf,
    #[command(flatten)]
    wanted: Wanted,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    match (&arguments.what, &arguments.pull) {
        (Some(What::Check { dir, trust_root }), _) => {
            check_all(dir, &read_trust_root(trust_root)?, output)
        }
        (Some(What::Prove(prove)), _) => prove_one(prove, output),
        (None, Some(pull)) => pull_all(pull, output),
        (None, None) => bail!("--from, --to and --trust-root, or check or prove: see --help"),
    }
}

fn pull_all(arguments: &Pull, output: Output) -> Result<()> {
    let trust = read_trust_root(&arguments.trust_root)?;
    let mut mirror = Mirror::open(&arguments.to, &trust)?;
    let tries = if arguments.every.is_some() { TRIES } else { 1 };
    let site = Site::open(&arguments.from, "", PATIENCE)?.trying(tries);
    loop {
        match mirror.pull(&site) {
            // A source that is away for a while is asked again; what it says wrongly is said.
            Err(error) if arguments.every.is_some() => {
                tracing::warn!(error = format!("{error:#}"), from = arguments.from, "nothing new");
            }
            Err(error) => return Err(error),
            Ok(pulled) => say(pulled, &arguments.to, output)?,
        }
        let Some(seconds) = arguments.every else { return Ok(()) };
        std::thread::sleep(Duration::from_secs(seconds.max(1)));
    }
}

/// Says what was taken; a source that rewrote something is an answer of no.
fn say(pulled: Pulled, to: &Path, output: Output) -> Result<()> {
    match pulled {
        Pulled::Grown { height, headers, entries, files, bytes } => {
            let json = serde_json::json!({
                "height": height, "headers": headers, "entries": entries, "files": files,
                "bytes": bytes,
            });
            output.print(&json, || {
                format!("block {height}: {headers} new headers, {entries} new entries")
            })
        }
        Pulled::Split(caught) | Pulled::Rewritten(caught) => {
            accuse(&caught, to, "nothing of it is handed out", output)
        }
    }
}

fn check_all(dir: &Path, trust: &TrustRoot, output: Output) -> Result<()> {
    match check(dir, trust) {
        Ok(checked) => {
            let (height, entries, tiles) = (checked.height, checked.entries, checked.tiles);
            let json = serde_json::json!({
                "clean": true, "height": height, "headers": checked.headers, "entries": entries,
                "tiles": tiles,
            });
            output.print(&json, || {
                format!("block {height} and all before it: {entries} entries, {tiles} tiles, right")
            })
        }
        Err(error) => {
            let why = format!("{error:#}");
            let json = serde_json::json!({ "clean": false, "what": why });
            output.print(&json, || format!("NOT RIGHT: {why}"))?;
            Err(No("the mirror is not what its head says".into()).into())
        }
    }
}

fn prove_one(arguments: &Prove, output: Output) -> Result<()> {
    let prover = TileProver::open(&arguments.dir)?;
    let (wanted, which) = (&arguments.wanted, &arguments.wanted.which);
    if let Some(height) = which.consistency {
        return wanted.write_consistency(&prover.consistency(height)?);
    }
    if let Some(path) = &which.attach {
        let note = wanted.checkpoint()?.context("--attach wants --cosigned")?;
        return wanted.attach(path, |receipt| prover.cosign(receipt, &note), output);
    }
    let checkpoint = wanted.checkpoint()?;
    let mut receipt = if let Some(path) = &which.renew {
        let mut receipt = read_receipt(path)??;
        prover.renew(&mut receipt)?;
        receipt
    } else {
        let (shard, index) = place(wanted, &prover)?;
        prover.receipt(shard, index)?
    };
    if let Some(checkpoint) = &checkpoint {
        prover.cosign(&mut receipt, checkpoint)?;
    }
    wanted.write(&receipt, output)
}

fn place(wanted: &Wanted, prover: &TileProver) -> Result<(u32, u64)> {
    if let Some(at) = &wanted.which.at {
        let (partition, offset) = stream_place(at)?;
        let none = || format!("no record at partition {partition} offset {offset}");
        return Ok((partition, prover.at(partition, offset)?.with_context(none)?));
    }
    let (number, subject) = wanted.named()?;
    let none = || format!("{} {number} was not accepted up to the mirror's head", wanted.scheme);
    prover.find(&subject)?.with_context(none)
}
