//! Evidence that was made of what somebody kept and what another shows, kept for its readers.
//!
//! Evidence has room for 64 changes of the validator set, the last ones. The changes before them are
//! epoch proofs beside it, which lead who trusts the genesis to where it begins.
//!
//! Invariants
//! - What is caught verifies under the trust root of who caught it, led through the proofs beside it.

use crate::setup::replace;
use anyhow::Result;
use piaogen_verify::epoch::{CHANGES_MAX, Change, EpochProof};
use piaogen_verify::evidence::Evidence;
use piaogen_verify::refusal::Refusal;
use piaogen_verify::trust_root::TrustRoot;
use std::path::{Path, PathBuf};

/// Evidence that verifies, and what its reader needs besides a trust root.
#[derive(Debug)]
pub struct Caught {
    evidence: Evidence,
    what: String,
    /// In their order, each with the epoch to which it leads.
    epochs: Vec<(u64, EpochProof)>,
}

/// The files of what was caught.
#[derive(Debug)]
pub struct Kept {
    /// The evidence.
    pub evidence: PathBuf,
    /// The epoch proofs, in their order.
    pub epochs: Vec<PathBuf>,
}

impl Caught {
    /// Checks what was caught. `left_out` leads from the trust root to where the evidence begins.
    pub fn new(
        evidence: Evidence,
        left_out: &[Change],
        trust: &TrustRoot,
    ) -> Result<Caught, Refusal> {
        let (mut trust, mut epochs) = (trust.clone(), Vec::new());
        for part in left_out.chunks(CHANGES_MAX as usize) {
            let proof = EpochProof { changes: part.to_vec() };
            trust = proof.advance(&trust)?;
            epochs.push((trust.epoch, proof));
        }
        let what = evidence.verify(&trust)?.what;
        Ok(Caught { evidence, what, epochs })
    }

    /// The evidence.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// What it shows, for a person.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Keeps it in a folder, durably, the evidence last.
    pub fn keep(&self, dir: &Path) -> Result<Kept> {
        let mut epochs = Vec::new();
        for (to, proof) in &self.epochs {
            let path = dir.join(format!("epochs-{to}.json"));
            replace(&path, proof.to_json().as_bytes())?;
            epochs.push(path);
        }
        let digest = piaogen_crypto::sm3::hash(&self.evidence.encode());
        let kind = self.evidence.kind();
        let evidence = dir.join(format!("evidence-{kind}-{}.json", hex::encode(&digest[..4])));
        replace(&evidence, self.evidence.to_json().as_bytes())?;
        Ok(Kept { evidence, epochs })
    }
}
