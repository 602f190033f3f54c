//! `piaogen witness`: follows the headers of a chain and signs that they are one history.

use super::evidence::what;
use super::{No, Output, read_trust_root};
use crate::history::{Followed, open_source};
use crate::keys::KeySource;
use crate::run::Fatal;
use crate::run::chain::clock_ms;
use crate::witness::Witness;
use anyhow::{Result, ensure};
use piaogen_verify::witness::is_witness_name;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The witness's own folder: what it followed and signed. Never copy it, never restore it from
    /// a backup: a witness that forgot what it signed is worse than none.
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

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
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
            Ok(Followed::Split(evidence)) => {
                let path = witness.keep(&evidence)?;
                let what = what(&evidence, &trust);
                let json = serde_json::json!({
                    "split": true, "kind": evidence.kind(), "what": what,
                    "evidence": path, "size": witness.size(),
                });
                output.print(&json, || format!("SPLIT VIEW: {what}"))?;
                let why = format!("nothing was signed; the evidence is in {}", path.display());
                return Err(No(why).into());
            }
        }
        let Some(seconds) = arguments.every else { return Ok(()) };
        std::thread::sleep(Duration::from_secs(seconds.max(1)));
    }
}
