//! `piaogen trust`: leads a trust root to the validators of today, and says which witnesses count.

use super::receipt::{Folder, put};
use super::{No, Output, Place, in_either_form, read_file, read_trust_root};
use crate::setup::public_key;
use anyhow::{Context, Result, bail};
use piaogen_verify::epoch::{CHANGES_MAX, EPOCH_JSON_MAX, EpochProof};
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::witness::Witness;
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
    /// List the witnesses whose cosignatures count, in place of those that are listed, and how many
    /// must have signed.
    Witnesses {
        /// The trust root that you hold.
        #[arg(long, value_name = "FILE")]
        trust_root: PathBuf,
        /// A witness: its name, and its public key (SPKI, as `keygen --public` writes it). Once for
        /// each; where there are none, none count.
        #[arg(long, value_name = "NAME=FILE")]
        witness: Vec<NamedKey>,
        /// How many of them must have cosigned a receipt.
        #[arg(long, value_name = "K")]
        quorum: u32,
        /// Where the new trust root goes.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// Where the public key of a name is.
#[derive(Clone, Debug)]
struct NamedKey {
    name: String,
    file: PathBuf,
}

impl std::str::FromStr for NamedKey {
    type Err = String;

    fn from_str(text: &str) -> Result<NamedKey, String> {
        match text.split_once('=') {
            Some((name, file)) if !name.is_empty() && !file.is_empty() => {
                Ok(NamedKey { name: name.into(), file: file.into() })
            }
            _ => Err(format!("{text:?} is not NAME=FILE")),
        }
    }
}

/// The trust root with these witnesses.
fn witnessed(trust: TrustRoot, witnesses: &[NamedKey], quorum: u32) -> Result<TrustRoot> {
    let witness = |named: &NamedKey| -> Result<Witness> {
        Ok(Witness { name: named.name.clone(), key: public_key(&named.file)? })
    };
    let witnesses = witnesses.iter().map(witness).collect::<Result<Vec<_>>>()?;
    let known = witnesses.len();
    anyhow::ensure!(
        quorum as usize <= known,
        "--quorum {quorum} of {known} witnesses: demand at most as many as are listed"
    );
    let trust = TrustRoot { witnesses, witness_quorum: quorum, ..trust };
    // Read as any reader will: names and keys must be good, and none there twice.
    TrustRoot::from_json(&trust.to_json()).context("these are no witnesses of a trust root")
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
        What::Witnesses { trust_root, witness, quorum, out } => {
            let trust = witnessed(read_trust_root(trust_root)?, witness, *quorum)?;
            std::fs::write(out, trust.to_json()).with_context(|| out.display().to_string())?;
            let known = trust.witnesses.len();
            let json = serde_json::json!({
                "witnesses": known, "witness_quorum": quorum, "trust_root": out,
            });
            output.print(&json, || {
                format!("{}: {quorum} of {known} witness(es) must have cosigned", out.display())
            })
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
