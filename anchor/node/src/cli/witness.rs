//! `piaogen witness`: follows the headers of a chain and signs that they are one history; gathers
//! what several witnesses signed.

use super::evidence::accuse;
use super::{Output, read_text, read_trust_root};
use crate::gather::{Gathered, gather};
use crate::history::{Caught, Followed, open_source};
use crate::keys::KeySource;
use crate::run::Fatal;
use crate::run::chain::clock_ms;
use crate::setup::replace;
use crate::site::Busy;
use crate::witness::Witness;
use anyhow::{Context, Result, bail, ensure};
use piaogen_verify::checkpoint::{CHECKPOINT_MAX, Checkpoint};
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::witness::is_witness_name;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    follow: Option<Follow>,
}

/// Follow and sign.
#[derive(Debug, clap::Args)]
struct Follow {
    /// The witness's own folder: what it followed and signed. Never copy it, never restore it from
    /// a backup: a witness that forgot what it signed is worse than none. Any web server may hand
    /// out `checkpoint` and `checkpoints/` in it.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where headers come from: http://HOST:PORT of a node or of a mirror's web server, the folder of a
    /// mirror or of a chain, or a file of links.
    #[arg(long, value_name = "URL|DIR|FILE")]
    from: String,
    /// Where the witness's secret key is, as in `submit`. Used for nothing else.
    #[arg(long, value_name = "KEY")]
    key: KeySource,
    /// The witness's name in checkpoints and trust roots, best a host: witness.example.org.
    #[arg(long)]
    name: String,
    /// The chain's trust root, that of the genesis.
    #[arg(long, value_name = "FILE")]
    trust_root: PathBuf,
    /// Go on, with so many seconds between; once where it is left out.
    #[arg(long, value_name = "SECONDS")]
    every: Option<u64>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Join what several witnesses signed into one checkpoint, over the newest size that enough of
    /// them signed. Two histories are evidence.
    Gather(Gather),
}

#[derive(Debug, clap::Args)]
struct Gather {
    /// What a witness hands out: http://HOST:PORT/PATH, its folder, or one checkpoint in a file.
    /// Once for each witness.
    #[arg(long, value_name = "URL|DIR|FILE", required = true)]
    from: Vec<String>,
    /// A trust root that lists the witnesses (`piaogen trust witnesses`): others are not looked at.
    #[arg(long, value_name = "FILE")]
    trust_root: PathBuf,
    /// How many must have signed; as the trust root demands where it is left out.
    #[arg(long, value_name = "K")]
    quorum: Option<u32>,
    /// Where the checkpoint goes. What is there is joined too, and never replaced by an older one.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Go on, with so many seconds between; once where it is left out.
    #[arg(long, value_name = "SECONDS")]
    every: Option<u64>,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    match (&arguments.what, &arguments.follow) {
        (Some(What::Gather(arguments)), _) => gather_all(arguments, output),
        (None, Some(arguments)) => follow(arguments, output),
        (None, None) => {
            bail!("--dir, --from, --key, --name and --trust-root, or gather: see --help")
        }
    }
}

fn follow(arguments: &Follow, output: Output) -> Result<()> {
    ensure!(
        is_witness_name(&arguments.name),
        "--name must be 1 to 64 bytes without white space and +"
    );
    let trust = read_trust_root(&arguments.trust_root)?;
    let key = arguments.key.open()?;
    let mut witness = Witness::open(&arguments.dir, &trust)?;
    loop {
        let followed =
            open_source(&arguments.from).and_then(|mut source| witness.follow(&mut *source));
        match followed {
            // A source that is away for a while is asked again; what it says wrongly is said.
            Err(error) if arguments.every.is_some() && !error.is::<Fatal>() => {
                tracing::warn!(error = format!("{error:#}"), from = arguments.from, "nothing new");
            }
            Err(error) => return Err(error),
            Ok(Followed::Extended(_)) if arguments.every.is_some() && witness.size() == 0 => {}
            Ok(Followed::Extended(new)) => {
                let seconds = u64::try_from(clock_ms() / 1_000).unwrap_or(0);
                let checkpoint = witness.cosign(&arguments.name, &*key, seconds)?;
                let json = serde_json::json!({
                    "size": checkpoint.size, "root": hex::encode(checkpoint.root), "new": new,
                    "checkpoint": checkpoint.to_note(),
                });
                output.print(&json, || checkpoint.to_note())?;
            }
            Ok(Followed::Split(caught)) => {
                return accuse(&caught, &arguments.dir, "nothing was signed", output);
            }
        }
        let Some(seconds) = arguments.every else { return Ok(()) };
        std::thread::sleep(Duration::from_secs(seconds.max(1)));
    }
}

/// The checkpoint that is to be replaced, if there is one; anything else is not overwritten.
fn present(out: &Path, trust: &TrustRoot) -> Result<Option<Checkpoint>> {
    if !out.exists() {
        return Ok(None);
    }
    let other = || format!("{} is there and is no checkpoint; name another --out", out.display());
    let note = Checkpoint::parse(&read_text(out, CHECKPOINT_MAX as u64)?).with_context(other)?;
    let (chain, wanted) = (&note.chain_id, &trust.chain_id);
    ensure!(chain == wanted, "{} is of chain {chain}, not of {wanted}", out.display());
    Ok(Some(note))
}

fn gather_all(arguments: &Gather, output: Output) -> Result<()> {
    let trust = read_trust_root(&arguments.trust_root)?;
    let (known, out) = (trust.witnesses.len(), &arguments.out);
    ensure!(
        known > 0,
        "{} lists no witnesses: `piaogen trust witnesses` adds them",
        arguments.trust_root.display()
    );
    let quorum = arguments.quorum.unwrap_or(trust.witness_quorum.max(1));
    ensure!(
        (1..=known).contains(&(quorum as usize)),
        "--quorum {quorum}: the trust root lists {known} witnesses; demand 1 to {known}"
    );
    loop {
        let present = present(out, &trust)?;
        // First of all, so that its lines stay where a witness signed again.
        let own = present.iter().map(|_| out.display().to_string());
        let from: Vec<String> = own.chain(arguments.from.iter().cloned()).collect();
        match gather(&from, &trust, quorum) {
            Gathered::Enough(checkpoint) => {
                if present.as_ref() != Some(&checkpoint) {
                    replace(out, checkpoint.to_note().as_bytes())?;
                }
                say(&checkpoint, known, out, output)?;
            }
            Gathered::Few(why) if arguments.every.is_some() => {
                tracing::warn!(why, "nothing new");
            }
            Gathered::Few(why) => return Err(Busy(why).into()),
            Gathered::Split(evidence) => {
                let caught = Caught::new(*evidence, &[], &trust)?;
                let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
                let folder = folder.unwrap_or(Path::new("."));
                return accuse(&caught, folder, "nothing was gathered", output);
            }
        }
        let Some(seconds) = arguments.every else { return Ok(()) };
        std::thread::sleep(Duration::from_secs(seconds.max(1)));
    }
}

fn say(checkpoint: &Checkpoint, known: usize, out: &Path, output: Output) -> Result<()> {
    let names: Vec<&str> = checkpoint.signatures.iter().map(|line| line.name.as_str()).collect();
    let (size, count) = (checkpoint.size, names.len());
    let json = serde_json::json!({
        "size": size, "root": hex::encode(checkpoint.root), "witnesses": names, "out": out,
    });
    output.print(&json, || {
        format!("{}: {size} headers, signed by {count} of {known} witnesses", out.display())
    })
}
