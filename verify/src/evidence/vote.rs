//! Two votes of one validator that exclude each other.
//!
//! Invariants
//! - Votes are compared by what they say, never by their signatures: a device may sign one thing
//!   twice with different bytes.

use super::{Evidence, Signer, Verdict, conflict};
use crate::certificate::{FINALIZE, vote_message};
use crate::consistency::check_chain;
use crate::encoding::{DecodeError, Reader, put_vint};
use crate::epoch::{headers, take_changes};
use crate::refusal::{Refusal, Step};
use crate::trust_root::TrustRoot;
use alloc::vec::Vec;
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::{self, PublicKey, Signature};

const NOTARIZE: &[u8] = b"_NOTARIZE";
const TIMEOUT: &[u8] = b"_NULLIFY";

/// What a validator says with a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The proposal is good.
    Notarize {
        /// The view of the block before.
        parent: u64,
        /// The digest of the header.
        payload: Digest,
    },
    /// The proposal is final, as far as this validator sees.
    Finalize {
        /// The view of the block before.
        parent: u64,
        /// The digest of the header.
        payload: Digest,
    },
    /// The view has taken too long and is given up.
    Timeout,
}

/// A vote, without the epoch and view that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// What it says.
    pub said: Said,
    /// The validator's signature.
    pub signature: Signature,
}

impl Said {
    fn code(&self) -> u8 {
        match self {
            Said::Notarize { .. } => 1,
            Said::Finalize { .. } => 2,
            Said::Timeout => 3,
        }
    }

    pub(super) fn proposal(&self) -> Option<(u64, &Digest)> {
        match self {
            Said::Notarize { parent, payload } | Said::Finalize { parent, payload } => {
                Some((*parent, payload))
            }
            Said::Timeout => None,
        }
    }

    /// What is signed for it.
    pub fn message(&self, chain: &Digest, epoch: u64, view: u64) -> Vec<u8> {
        let mut about = Vec::with_capacity(64);
        put_vint(&mut about, epoch);
        put_vint(&mut about, view);
        if let Some((parent, payload)) = self.proposal() {
            put_vint(&mut about, parent);
            about.extend_from_slice(payload);
        }
        let name = match self {
            Said::Notarize { .. } => NOTARIZE,
            Said::Finalize { .. } => FINALIZE,
            Said::Timeout => TIMEOUT,
        };
        vote_message(chain, name, &about)
    }

    /// Whether an honest validator never says both in one view.
    pub fn excludes(&self, other: &Said) -> bool {
        match (self.code(), other.code()) {
            (1, 1) | (2, 2) => self != other,
            (2, 3) | (3, 2) => true,
            _ => false,
        }
    }
}

impl Vote {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.push(self.said.code());
        if let Some((parent, payload)) = self.said.proposal() {
            put_vint(out, parent);
            out.extend_from_slice(payload);
        }
        out.extend_from_slice(&self.signature.0);
    }

    fn take(r: &mut Reader<'_>) -> Result<Vote, DecodeError> {
        let said = match r.u8()? {
            1 => Said::Notarize { parent: r.vint()?, payload: r.array()? },
            2 => Said::Finalize { parent: r.vint()?, payload: r.array()? },
            3 => Said::Timeout,
            _ => return Err(DecodeError::Fixed { what: "kind of a vote" }),
        };
        Ok(Vote { said, signature: Signature(r.array()?) })
    }
}

impl Evidence {
    pub(super) fn verify_votes(&self, trust: &TrustRoot) -> Result<Verdict, Refusal> {
        let Evidence::DoubleVote { changes, key, epoch, view, first, second } = self else {
            return conflict("these are no votes");
        };
        check_chain(trust, headers(changes))?;
        if !first.said.excludes(&second.said) {
            return conflict("an honest validator may say both in one view");
        }
        let trust = trust.after(changes)?;
        if *epoch < trust.epoch {
            let from = trust.epoch;
            let detail =
                alloc::format!("epoch {epoch} is before {from}, from which sets are known");
            return Err(Refusal::new(Step::Epoch, detail));
        }
        if !trust.validators.contains(key) {
            return Err(Refusal::new(Step::Validators, "the key is no validator's"));
        }
        for vote in [first, second] {
            let message = vote.said.message(&trust.chain, *epoch, *view);
            if !sm2::verify(key, &message, &vote.signature) {
                return Err(Refusal::new(Step::Signature, "a vote is not signed by this key"));
            }
        }
        let signer = alloc::vec![Signer::Validator(key.to_compressed())];
        Ok(Verdict {
            kind: self.kind(),
            what: alloc::format!("two votes of one validator in view {view} of epoch {epoch}"),
            first: signer.clone(),
            second: signer.clone(),
            liars: signer,
            liars_min: 1,
        })
    }
}

pub(super) fn take_double_vote(r: &mut Reader<'_>) -> Result<Evidence, DecodeError> {
    let changes = take_changes(r)?;
    let no_key = DecodeError::Fixed { what: "key of a validator" };
    let key = PublicKey::from_compressed(&r.array()?).map_err(|_| no_key)?;
    let (epoch, view) = (r.vint()?, r.vint()?);
    let (first, second) = (Vote::take(r)?, Vote::take(r)?);
    Ok(Evidence::DoubleVote { changes, key, epoch, view, first, second })
}
