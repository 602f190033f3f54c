//! `piaogen trust`: leads a trust root to the validators of today.

use super::receipt::{Folder, put};
use super::{No, Output, Place, in_either_form, read_file, read_trust_root};
use anyhow::{Context, Result, bail};
use piaogen_verify::epoch::{CHANGES_MAX, EPOCH_JSON_MAX, EpochProof};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make an epoch proof from a chain's folder: every change of the validator set, or some.
    Proof {
        #[command(flatten)]
        place: Place,
        /// Begin with the set of this epoch: changes that lead to it are left out.
        #[arg(long, value_name = "EPOCH", default_value_t = 0)]
        from_epoch: u64,
        /// Lead to the set of this epoch and no further.
        #[arg(long, value_name = "EPOCH", default_value_t = u64::MAX, hide_default_value = true)]
        to_epoch: u64,
        /// Write the compact form instead of JSON.
        #[arg(long)]
        compact: bool,
        /// Where it goes; standard output without it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check an epoch proof, and write the trust root to which it leads.
    Advance {
        /// The trust root that you hold.
        #[arg(long, value_name = "FILE")]
        trust_root: PathBuf,
        /// The epoch proof, JSON or compact; - is standard input.
        #[arg(long, value_name = "FILE")]
        proof: PathBuf,
        /// Where the new trust root goes.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    match &arguments.what {
        What::Proof { place, from_epoch, to_epoch, compact, out } => {
            let folder = Folder::open(&place.config()?)?;
            let mut changes = folder.prover()?.provable.changes.to_vec();
            changes.retain(|change| (*from_epoch..*to_epoch).contains(&change.header.epoch));
            if let Some(beyond) = changes.get(CHANGES_MAX as usize) {
                let (count, last) = (changes.len(), beyond.header.epoch);
                bail!(
                    "{count} changes, and a proof has {CHANGES_MAX} at most: make it in parts, this one \
                     --to-epoch {last} and the next --from-epoch {last}"
                );
            }
            let proof = EpochProof { changes };
            let bytes = if *compact { proof.encode() } else { proof.to_json().into_bytes() };
            put(out.as_deref(), bytes)
        }
        What::Advance { trust_root, proof, out } => {
            let trust = read_trust_root(trust_root)?;
            let bytes = read_file(proof, EPOCH_JSON_MAX as u64)?;
            let proof = in_either_form(&bytes, EpochProof::decode, EpochProof::from_json);
            match proof.and_then(|proof| proof.advance(&trust)) {
                Ok(advanced) => {
                    std::fs::write(out, advanced.to_json())
                        .with_context(|| out.display().to_string())?;
                    let (epoch, count) = (advanced.epoch, advanced.validators.keys().len());
                    let json = serde_json::json!({
                        "advanced": epoch > trust.epoch, "epoch": epoch, "validators": count,
                        "trust_root": out,
                    });
                    output.print(&json, || {
                        format!("{}: epoch {epoch}, {count} validator(s)", out.display())
                    })
                }
                Err(refusal) => {
                    let json = serde_json::json!({
                        "advanced": false, "step": refusal.step.name(), "detail": refusal.detail,
                    });
                    output.print(&json, || format!("NOT ADVANCED: {refusal}"))?;
                    Err(No("the proof leads nowhere".into()).into())
                }
            }
        }
    }
}
