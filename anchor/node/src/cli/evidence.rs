//! `piaogen evidence`: checks that somebody signed two things that exclude each other, and lists what
//! a node has of that.

use super::{No, Output, Place, in_either_form, read_file, read_trust_root};
use crate::evidence::Folder;
use crate::history::{Caught, Kept};
use crate::setup;
use anyhow::Result;
use piaogen_verify::epoch::Change;
use piaogen_verify::evidence::{Certified, EVIDENCE_MAX, Evidence, Signer, Verdict};
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
        let begin = |first: Option<&Change>, epoch| first.map_or(epoch, |one| one.header.epoch);
        let begins = |block: &Certified| begin(block.changes.first(), block.header.epoch);
        // From which epoch on it can be led, and which one is the last that it is about.
        let (first, last) = match self.evidence.as_ref()? {
            Evidence::DoubleVote { changes, epoch, .. } => (begin(changes.first(), *epoch), *epoch),
            Evidence::Fork { first, second } => {
                (begins(first).max(begins(second)), first.header.epoch.min(second.header.epoch))
            }
            Evidence::Rewrite { older, newer, .. } => {
                (begins(older).max(begins(newer)), older.header.epoch)
            }
            Evidence::RewrittenLog(rewritten) => {
                let newer = &rewritten.newer.block;
                (begins(newer), newer.header.epoch)
            }
            // Witnesses' keys do not change with epochs.
            Evidence::Cosigned { .. } => return None,
        };
        let from = trust.epoch;
        match self.verdict.as_ref().err()?.step {
            Step::Epoch if last < from => Some(format!(
                "this trust root knows no set before epoch {from}: take that of the genesis, or one \
                 that was advanced to epoch {last} at most"
            )),
            Step::Validators if from < first => Some(format!(
                "if the set changed between epochs {from} and {first}, the file does not lead all the \
                 way: advance the trust root first (`piaogen trust advance`), by the epochs-….json beside \
                 the file or `piaogen trust proof --to-epoch {first}`"
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
        if signers.is_empty() {
            text.push_str(&format!(
                "{what} is in the history of the other, and of an epoch before this trust root's: \
                 who signed it is not said\n"
            ));
            continue;
        }
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

/// Keeps what was caught in a folder and says what it proves: an answer of no, with what was not done.
pub(super) fn accuse(caught: &Caught, dir: &Path, undone: &str, output: Output) -> Result<()> {
    let kept = caught.keep(dir)?;
    let (key, title) = match caught.evidence() {
        Evidence::RewrittenLog(_) => ("rewritten", "REWRITTEN LOG"),
        _ => ("split", "SPLIT VIEW"),
    };
    let json = json!({
        key: true, "kind": caught.evidence().kind(), "what": caught.what(),
        "evidence": kept.evidence, "epochs": kept.epochs,
    });
    output.print(&json, || format!("{title}: {}{}", caught.what(), lead(&kept)))?;
    Err(No(format!("{undone}; the evidence is in {}", kept.evidence.display())).into())
}

/// How who trusts the genesis comes to where evidence begins that has no room for all changes.
fn lead(kept: &Kept) -> String {
    let mut text = String::new();
    if !kept.epochs.is_empty() {
        text.push_str("\nit begins after many changes of the validators; from the genesis:");
    }
    let mut trust = "trust-root.json";
    for proof in &kept.epochs {
        let proof = proof.display();
        text.push_str(&format!(
            "\n  piaogen trust advance --trust-root {trust} --proof {proof} --out led.json"
        ));
        trust = "led.json";
    }
    if !kept.epochs.is_empty() {
        let evidence = kept.evidence.display();
        text.push_str(&format!("\n  piaogen evidence verify {evidence} --trust-root {trust}"));
    }
    text
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
