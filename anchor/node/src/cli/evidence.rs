//! `piaogen evidence`: checks that somebody signed two things that exclude each other, and lists what
//! a node has of that.

use super::{No, Output, Place, in_either_form, read_file, read_trust_root};
use crate::evidence::Folder;
use crate::setup;
use anyhow::Result;
use piaogen_verify::evidence::{EVIDENCE_MAX, Evidence, Signer, Verdict};
use piaogen_verify::refusal::{Refusal, Step};
use piaogen_verify::trust_root::TrustRoot;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

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
    /// List the evidence in a node's data folder, and what each file proves to who trusts the genesis.
    List {
        #[command(flatten)]
        place: Place,
    },
}

/// Evidence that was read, and what it proves.
struct Judged {
    evidence: Option<Evidence>,
    verdict: Result<Verdict, Refusal>,
}

impl Judged {
    fn new(bytes: &[u8], trust: &TrustRoot) -> Judged {
        match in_either_form(bytes, Evidence::decode, Evidence::from_json) {
            Ok(evidence) => {
                let verdict = evidence.verify(trust);
                Judged { evidence: Some(evidence), verdict }
            }
            Err(refusal) => Judged { evidence: None, verdict: Err(refusal) },
        }
    }

    /// What who holds this trust root does next, where another one would do.
    fn next_step(&self, trust: &TrustRoot) -> Option<String> {
        let epoch = match self.evidence.as_ref()? {
            Evidence::DoubleVote { epoch, .. } => *epoch,
            Evidence::Fork { first, second } => first.header.epoch.min(second.header.epoch),
            Evidence::Rewrite { older, .. } => older.header.epoch,
            Evidence::RewrittenLog(rewritten) => rewritten.older.block.header.epoch,
            // Witnesses' keys do not change with epochs.
            Evidence::Cosigned { .. } => return None,
        };
        let from = trust.epoch;
        match self.verdict.as_ref().err()?.step {
            Step::Epoch if epoch < from => Some(format!(
                "this trust root knows no set before epoch {from}: take that of the genesis, or one \
                 that was advanced to epoch {epoch} at most"
            )),
            Step::Validators if from < epoch => Some(format!(
                "if the set changed between epochs {from} and {epoch}, the file does not lead all the \
                 way: advance the trust root first (`piaogen trust proof --to-epoch {epoch}`, \
                 `piaogen trust advance`)"
            )),
            _ => None,
        }
    }

    fn json(&self, trust: &TrustRoot) -> Value {
        match &self.verdict {
            Ok(verdict) => json!({
                "proved": true, "kind": verdict.kind, "what": verdict.what,
                "first": names(&verdict.first), "second": names(&verdict.second),
                "liars": names(&verdict.liars), "liars_min": verdict.liars_min,
            }),
            Err(refusal) => json!({
                "proved": false, "step": refusal.step.name(), "detail": refusal.detail,
                "next_step": self.next_step(trust),
            }),
        }
    }

    fn text(&self, trust: &TrustRoot) -> String {
        match &self.verdict {
            Ok(verdict) => proved(verdict, trust),
            Err(refusal) => match self.next_step(trust) {
                Some(next) => format!("NOT PROVED: {refusal}\n{next}"),
                None => format!("NOT PROVED: {refusal}"),
            },
        }
    }
}

fn names(signers: &[Signer]) -> Vec<String> {
    let name = |signer: &Signer| match signer {
        Signer::Validator(key) => format!("validator {}", hex::encode(key)),
        Signer::Witness(name) => format!("witness {name}"),
    };
    signers.iter().map(name).collect()
}

fn proved(verdict: &Verdict, trust: &TrustRoot) -> String {
    let mut text = format!("PROVED in chain {}: {}\n", trust.chain_id, verdict.what);
    for (what, signers) in [("the one", &verdict.first), ("the other", &verdict.second)] {
        text.push_str(&format!("signed {what}:\n  {}\n", names(signers).join("\n  ")));
    }
    match (verdict.liars.is_empty(), verdict.liars_min) {
        (false, _) => {
            text.push_str(&format!("broke the rules:\n  {}", names(&verdict.liars).join("\n  ")));
        }
        (true, 0) => text.push_str("who broke the rules is not proved by this alone"),
        (true, n) => text.push_str(&format!(
            "at least {n} of those who signed in the lower view broke the rules"
        )),
    }
    text
}

/// What evidence that was just made shows, for a person: its kind alone where this trust root has to be
/// advanced first.
pub(super) fn what(evidence: &Evidence, trust: &TrustRoot) -> String {
    let verdict = evidence.verify(trust);
    verdict.map_or_else(|_| evidence.kind().to_owned(), |verdict| verdict.what)
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    match &arguments.what {
        What::Verify { file, trust_root } => verify(file, trust_root, output),
        What::List { place } => list(place, output),
    }
}

fn verify(file: &Path, trust_root: &Path, output: Output) -> Result<()> {
    let trust = read_trust_root(trust_root)?;
    let judged = Judged::new(&read_file(file, 4 * EVIDENCE_MAX as u64)?, &trust);
    output.print(&judged.json(&trust), || judged.text(&trust))?;
    match judged.verdict {
        Ok(_) => Ok(()),
        Err(_) => Err(No("the file proves nothing against anybody".into()).into()),
    }
}

fn list(place: &Place, output: Output) -> Result<()> {
    let config = place.config()?;
    let trust = TrustRoot::of_genesis(&setup::genesis(&config.genesis)?);
    let folder = Folder::of(&config.dir);
    let (mut all, mut text) = (Vec::new(), String::new());
    for (name, bytes) in folder.files()? {
        // One that was moved away meanwhile is none.
        let Some(file) = folder.read(&name)? else { continue };
        let (judged, path) = (Judged::new(&file, &trust), folder.path(&name));
        let mut json = judged.json(&trust);
        (json["file"], json["bytes"]) = (json!(path), json!(bytes));
        all.push(json);
        text.push_str(&format!("{}\n{}\n", path.display(), judged.text(&trust)));
    }
    if all.is_empty() {
        text = format!("no evidence in {}", folder.path("").display());
    }
    output.print(&json!({ "evidence": all }), || text)
}
