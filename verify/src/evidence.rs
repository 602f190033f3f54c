//! Evidence: two statements that exclude each other, with the signatures of those who made them
//! (`FORMAT.md` section 12.2).
//!
//! Who finds that a validator voted twice, that a chain showed two histories, or that a witness
//! signed two, keeps a file that anybody checks offline. It says what was signed and by whom; it
//! needs nobody's word for it.
//!
//! Invariants
//! - Both statements are checked as a receipt's header is; a refusal names the step. Only what a later
//!   statement binds needs no certificate of its own.
//! - Only who signed both statements of one view, or both logs, is called a liar by name. Of two
//!   certificates of different views over two histories it is known how many lied, not who.

mod led;
mod log;
mod text;
mod vote;

use crate::certificate::Certificate;
use crate::checkpoint::{CHECKPOINT_MAX, Checkpoint};
use crate::consistency::check_chain;
use crate::encoding::{DecodeError, Reader, put_bytes, put_digests, put_vint};
use crate::epoch::{Change, headers, put_changes, take_certificate, take_changes};
use crate::header::{Header, ValidatorSet};
use crate::merkle::{self, PROOF_MAX, root_from_inclusion, verify_consistency};
use crate::refusal::{Refusal, Step};
use crate::trust_root::TrustRoot;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::PublicKey;

pub use log::{Difference, LogAt, RewrittenLog, Subtree};
pub use text::FORMAT;
pub use vote::{Said, Vote};

/// Most bytes of a file of evidence.
pub const EVIDENCE_MAX: usize = 1 << 21;
const MAGIC: [u8; 3] = *b"PE\x01";

/// A header with what makes it final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// The header.
    pub header: Header,
    /// Its certificate.
    pub certificate: Vec<u8>,
    /// How the verifier comes to the set that signed it.
    pub changes: Vec<Change>,
}

impl Certified {
    fn put(&self, out: &mut Vec<u8>) {
        put_changes(out, &self.changes);
        out.extend_from_slice(&self.header.encode());
        put_bytes(out, &self.certificate);
    }

    fn take(r: &mut Reader<'_>) -> Result<Certified, DecodeError> {
        let changes = take_changes(r)?;
        let header = Header::decode(r)?;
        Ok(Certified { header, certificate: take_certificate(r)?, changes })
    }

    fn headers(&self) -> impl Iterator<Item = &Header> {
        core::iter::once(&self.header).chain(headers(&self.changes))
    }

    /// Steps `epoch` to `signature`; who signed.
    fn check(&self, trust: &TrustRoot) -> Result<Side, Refusal> {
        let certificate = Certificate::decode(&self.certificate)?;
        let trust = trust.after(&self.changes)?;
        trust.check_final(&self.header, &certificate)?;
        let set = trust.validators;
        let key = |place: &u32| set.keys().get(*place as usize).map(PublicKey::to_compressed);
        let signers = certificate.signers.iter().filter_map(key).map(Signer::Validator).collect();
        Ok(Side { certificate, set, signers })
    }
}

/// Two statements that exclude each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A validator voted twice in one view.
    DoubleVote {
        /// How the verifier comes to the set that the validator belongs to.
        changes: Vec<Change>,
        /// The validator.
        key: PublicKey,
        /// The epoch of both votes.
        epoch: u64,
        /// Their view.
        view: u64,
        /// A vote.
        first: Vote,
        /// Another.
        second: Vote,
    },
    /// Two final blocks have one height.
    Fork {
        /// A final block.
        first: Certified,
        /// Another.
        second: Certified,
    },
    /// A final block is not in the history of a later one.
    Rewrite {
        /// The earlier block.
        older: Certified,
        /// The later.
        newer: Certified,
        /// The digest of the header that stands at the earlier one's height in the later one's
        /// history.
        other: Digest,
        /// The way from that digest to the later one's `history_root`.
        proof: Vec<Digest>,
    },
    /// Two logs of headers were signed of which neither extends the other.
    Cosigned {
        /// The log that is not longer.
        first: Checkpoint,
        /// The log that is not shorter.
        second: Checkpoint,
        /// Where the second is longer: the root of its first headers, as many as the first has, and
        /// the consistency proof from them.
        prefix: Option<(Digest, Vec<Digest>)>,
    },
    /// The record log of a shard does not extend what it was.
    RewrittenLog(Box<RewrittenLog>),
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signer {
    /// A validator, by its compressed key.
    Validator([u8; 33]),
    /// A witness that the trust root knows, by its name.
    Witness(String),
}

/// What evidence proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The kind of evidence.
    pub kind: &'static str,
    /// What was said twice, for a person.
    pub what: String,
    /// Who signed the first statement.
    pub first: Vec<Signer>,
    /// Who signed the second.
    pub second: Vec<Signer>,
    /// Who signed both, and by that alone broke the rules.
    pub liars: Vec<Signer>,
    /// How many at least broke them, named or not.
    pub liars_min: u32,
}

impl Evidence {
    /// The name of the kind in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Evidence::DoubleVote { .. } => "double_vote",
            Evidence::Fork { .. } => "fork",
            Evidence::Rewrite { .. } => "rewrite",
            Evidence::Cosigned { .. } => "cosigned",
            Evidence::RewrittenLog(_) => "rewritten_log",
        }
    }

    /// The compact encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        match self {
            Evidence::DoubleVote { changes, key, epoch, view, first, second } => {
                out.push(1);
                put_changes(&mut out, changes);
                out.extend_from_slice(&key.to_compressed());
                put_vint(&mut out, *epoch);
                put_vint(&mut out, *view);
                first.put(&mut out);
                second.put(&mut out);
            }
            Evidence::Fork { first, second } => {
                out.push(2);
                first.put(&mut out);
                second.put(&mut out);
            }
            Evidence::Rewrite { older, newer, other, proof } => {
                out.push(3);
                older.put(&mut out);
                newer.put(&mut out);
                out.extend_from_slice(other);
                put_digests(&mut out, proof);
            }
            Evidence::Cosigned { first, second, prefix } => {
                out.push(4);
                put_bytes(&mut out, first.to_note().as_bytes());
                put_bytes(&mut out, second.to_note().as_bytes());
                out.push(prefix.is_some().into());
                if let Some((root, proof)) = prefix {
                    out.extend_from_slice(root);
                    put_digests(&mut out, proof);
                }
            }
            Evidence::RewrittenLog(rewritten) => {
                out.push(5);
                rewritten.put(&mut out);
            }
        }
        out
    }

    /// Reads the compact encoding; nothing may follow.
    pub fn decode(bytes: &[u8]) -> Result<Evidence, DecodeError> {
        if bytes.len() > EVIDENCE_MAX {
            let (value, limit) = (bytes.len() as u64, EVIDENCE_MAX as u64);
            return Err(DecodeError::Limit { what: "evidence", value, limit });
        }
        let mut r = Reader::new(bytes);
        r.fixed("magic of evidence", &MAGIC)?;
        let evidence = match r.u8()? {
            1 => vote::take_double_vote(&mut r)?,
            2 => {
                let first = Certified::take(&mut r)?;
                Evidence::Fork { first, second: Certified::take(&mut r)? }
            }
            3 => {
                let (older, newer) = (Certified::take(&mut r)?, Certified::take(&mut r)?);
                let other = r.array()?;
                Evidence::Rewrite { older, newer, other, proof: r.digests("proof", PROOF_MAX)? }
            }
            4 => take_cosigned(&mut r)?,
            5 => Evidence::RewrittenLog(Box::new(RewrittenLog::take(&mut r)?)),
            _ => return Err(DecodeError::Fixed { what: "kind of evidence" }),
        };
        r.end()?;
        Ok(evidence)
    }

    /// Checks the evidence and says what it proves; the error names the first step that fails.
    pub fn verify(&self, trust: &TrustRoot) -> Result<Verdict, Refusal> {
        match self {
            Evidence::DoubleVote { .. } => self.verify_votes(trust),
            Evidence::Fork { first, second } => {
                check_chain(trust, first.headers().chain(second.headers()))?;
                if first.header.height != second.header.height || first.header == second.header {
                    return conflict("these are not two blocks of one height");
                }
                let what = alloc::format!("two final blocks of height {}", first.header.height);
                blame(self.kind(), what, first, second, trust)
            }
            Evidence::Rewrite { older, newer, other, proof } => {
                check_chain(trust, older.headers().chain(newer.headers()))?;
                let (low, high) = (older.header.height, newer.header.height);
                let root = root_from_inclusion(&merkle::leaf(other), low, high, proof);
                if root != Some(newer.header.history_root) {
                    let detail = alloc::format!(
                        "the history of block {high} does not hold that digest at height {low}"
                    );
                    return Err(Refusal::new(Step::History, detail));
                }
                if *other == older.header.digest() {
                    return conflict("the later block's history holds the earlier block");
                }
                let what = alloc::format!(
                    "final block {high} has a history without final block {low}, and another there"
                );
                blame(self.kind(), what, older, newer, trust)
            }
            Evidence::Cosigned { first, second, prefix } => {
                verify_cosigned(trust, first, second, prefix.as_ref())
            }
            Evidence::RewrittenLog(rewritten) => rewritten.verify(self.kind(), trust),
        }
    }
}

fn conflict<T>(why: &str) -> Result<T, Refusal> {
    Err(Refusal::new(Step::Conflict, why))
}

fn take_cosigned(r: &mut Reader<'_>) -> Result<Evidence, DecodeError> {
    let mut note = || {
        let bytes = r.bytes("checkpoint", CHECKPOINT_MAX as u64)?;
        let note = core::str::from_utf8(bytes).ok().and_then(|text| Checkpoint::parse(text).ok());
        note.ok_or(DecodeError::Fixed { what: "checkpoint" })
    };
    let (first, second) = (note()?, note()?);
    let prefix = match r.u8()? {
        0 => None,
        1 => Some((r.array()?, r.digests("consistency proof", PROOF_MAX)?)),
        _ => return Err(DecodeError::Fixed { what: "mark of the prefix" }),
    };
    Ok(Evidence::Cosigned { first, second, prefix })
}

/// A final header: its certificate, the set that signed it, and who of them did.
struct Side {
    certificate: Certificate,
    set: ValidatorSet,
    signers: Vec<Signer>,
}

/// Checks both certificates: steps `epoch` to `signature` of the first, then of the second. Says who
/// signed what.
fn blame(
    kind: &'static str,
    what: String,
    first: &Certified,
    second: &Certified,
    trust: &TrustRoot,
) -> Result<Verdict, Refusal> {
    let (one, other) = (first.check(trust)?, second.check(trust)?);
    let mut liars = Vec::new();
    let mut liars_min = 0;
    if one.certificate.epoch == other.certificate.epoch && one.set == other.set {
        // Two quorums of one set share so many. In one view they signed both; else so many of those
        // who signed in the lower view must have let the chain go on without that block.
        liars_min = (2 * one.set.quorum() - one.set.keys().len()) as u32;
        if one.certificate.view == other.certificate.view {
            let both = |signer: &&Signer| other.signers.contains(signer);
            liars = one.signers.iter().filter(both).cloned().collect();
        }
    }
    Ok(Verdict { kind, what, first: one.signers, second: other.signers, liars, liars_min })
}

fn verify_cosigned(
    trust: &TrustRoot,
    first: &Checkpoint,
    second: &Checkpoint,
    prefix: Option<&(Digest, Vec<Digest>)>,
) -> Result<Verdict, Refusal> {
    if first.chain_id != trust.chain_id || second.chain_id != trust.chain_id {
        let detail = alloc::format!("a checkpoint is not of {}", trust.chain_id);
        return Err(Refusal::new(Step::Chain, detail));
    }
    let other = match prefix {
        None if first.size == second.size => second.root,
        Some((root, proof)) if first.size < second.size => {
            let (old, new) = (first.size, second.size);
            if !verify_consistency(old, new, root, &second.root, proof) {
                let detail = alloc::format!("the log of {new} does not extend that one of {old}");
                return Err(Refusal::new(Step::History, detail));
            }
            *root
        }
        _ => return conflict("a prefix belongs to a second log that is longer, and to no other"),
    };
    if other == first.root {
        return conflict("one log extends the other");
    }
    let (first_signers, second_signers) = (known(trust, first)?, known(trust, second)?);
    let liars: Vec<Signer> =
        first_signers.iter().filter(|signer| second_signers.contains(signer)).cloned().collect();
    let (low, high) = (first.size, second.size);
    Ok(Verdict {
        kind: "cosigned",
        what: alloc::format!(
            "logs of {low} and {high} headers, neither of which extends the other"
        ),
        liars_min: liars.len() as u32,
        first: first_signers,
        second: second_signers,
        liars,
    })
}

/// The validators and witnesses of the trust root that signed a checkpoint; at least one.
fn known(trust: &TrustRoot, checkpoint: &Checkpoint) -> Result<Vec<Signer>, Refusal> {
    let validators = checkpoint.signers(trust)?;
    let witnesses = trust.witnesses_of(checkpoint, &checkpoint.cosignatures())?;
    let key = |place: &u32| trust.validators.keys().get(*place as usize);
    let witness = |place: &u32| trust.witnesses.get(*place as usize);
    let mut found: Vec<Signer> = validators
        .iter()
        .filter_map(key)
        .map(|key| Signer::Validator(key.to_compressed()))
        .collect();
    found.extend(witnesses.iter().filter_map(witness).map(|w| Signer::Witness(w.name.to_string())));
    if found.is_empty() {
        return Err(Refusal::new(Step::Quorum, "nobody whom the trust root knows signed it"));
    }
    Ok(found)
}
