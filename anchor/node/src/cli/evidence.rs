//! `piaogen evidence`: checks that somebody signed two things that exclude each other.

use super::{No, Output, in_either_form, read_file, read_trust_root};
use anyhow::Result;
use piaogen_verify::evidence::{EVIDENCE_MAX, Evidence, Signer};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Say what a file of evidence proves, offline.
    Verify {
        /// The evidence, JSON or compact; - is standard input.
        file: PathBuf,
        /// What you trust beforehand: the chain's trust-root.json.
        #[arg(long, value_name = "FILE")]
        trust_root: PathBuf,
    },
}

fn name(signer: &Signer) -> String {
    match signer {
        Signer::Validator(key) => format!("validator {}", hex::encode(key)),
        Signer::Witness(name) => format!("witness {name}"),
    }
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let What::Verify { file, trust_root } = &arguments.what;
    let trust = read_trust_root(trust_root)?;
    let bytes = read_file(file, 4 * EVIDENCE_MAX as u64)?;
    let evidence = in_either_form(&bytes, Evidence::decode, Evidence::from_json);
    let verdict = match evidence.and_then(|evidence| evidence.verify(&trust)) {
        Ok(verdict) => verdict,
        Err(refusal) => {
            let json = serde_json::json!({
                "proved": false, "step": refusal.step.name(), "detail": refusal.detail,
            });
            output.print(&json, || format!("NOT PROVED: {refusal}"))?;
            return Err(No("the file proves nothing against anybody".into()).into());
        }
    };
    let names = |signers: &[Signer]| signers.iter().map(name).collect::<Vec<_>>();
    let (first, second) = (names(&verdict.first), names(&verdict.second));
    let liars = names(&verdict.liars);
    let json = serde_json::json!({
        "proved": true, "kind": verdict.kind, "what": verdict.what, "first": first,
        "second": second, "liars": liars, "liars_min": verdict.liars_min,
    });
    output.print(&json, || {
        let mut text = format!("PROVED in chain {}: {}\n", trust.chain_id, verdict.what);
        for (what, signers) in [("the one", &first), ("the other", &second)] {
            text.push_str(&format!("signed {what}:\n  {}\n", signers.join("\n  ")));
        }
        match (liars.is_empty(), verdict.liars_min) {
            (false, _) => text.push_str(&format!("broke the rules:\n  {}", liars.join("\n  "))),
            (true, 0) => text.push_str("who broke the rules is not proved by this alone"),
            (true, n) => text.push_str(&format!(
                "at least {n} of those who signed in the lower view broke the rules"
            )),
        }
        text
    })
}
