//! Names the step at which a verification fails (`FORMAT.md` sections 9 to 9.2).
//!
//! Invariants
//! - A refusal says which step and what about it; it never holds what an invoice says.

use crate::encoding::DecodeError;
use alloc::string::{String, ToString};

/// The steps of a verification, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The bytes are well formed.
    Decode,
    /// The fields lead to the commitment of the entry.
    Document,
    /// The leaf is in the record log.
    Inclusion,
    /// The shard is in the block.
    Shard,
    /// Every header is of the trust root's chain.
    Chain,
    /// The newer header knows the older one.
    History,
    /// The validator sets follow from each other, and from the one that is trusted.
    Epoch,
    /// The block names the validators that are trusted for it.
    Validators,
    /// Enough of them signed this header.
    Quorum,
    /// Their signatures hold.
    Signature,
    /// Enough witnesses cosigned a log of headers that holds this one.
    Witness,
    /// The record created an invoice.
    Issue,
    /// The fields lead to a status, and fit the record.
    Status,
    /// The status is at the invoice's place under the shard's status root.
    Path,
    /// The records are those that made the status, all of them and no other.
    Records,
    /// What was signed twice excludes each other.
    Conflict,
}

impl Step {
    /// All steps, in their order: a receipt has those up to `Witness`, a status proof those up to
    /// `Path`, a history those up to `Records`; `Conflict` is of evidence alone.
    pub const ALL: [Step; 16] = [
        Step::Decode,
        Step::Document,
        Step::Inclusion,
        Step::Shard,
        Step::Chain,
        Step::History,
        Step::Epoch,
        Step::Validators,
        Step::Quorum,
        Step::Signature,
        Step::Witness,
        Step::Issue,
        Step::Status,
        Step::Path,
        Step::Records,
        Step::Conflict,
    ];
    /// How many of them a receipt has.
    pub const OF_RECEIPT: usize = 11;
    /// How many of them a status proof has.
    pub const OF_STATUS: usize = 14;

    /// The name in `FORMAT.md`, in JSON and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Step::Decode => "decode",
            Step::Document => "document",
            Step::Inclusion => "inclusion",
            Step::Shard => "shard",
            Step::Chain => "chain",
            Step::History => "history",
            Step::Epoch => "epoch",
            Step::Validators => "validators",
            Step::Quorum => "quorum",
            Step::Signature => "signature",
            Step::Witness => "witness",
            Step::Issue => "issue",
            Step::Status => "status",
            Step::Path => "path",
            Step::Records => "records",
            Step::Conflict => "conflict",
        }
    }
}

impl core::fmt::Display for Step {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why something is not proved: the first step that failed. Later steps did not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused at step `{step}`: {detail}")]
pub struct Refusal {
    /// The step.
    pub step: Step,
    /// What about it, for a person.
    pub detail: String,
}

impl Refusal {
    /// A refusal at this step.
    pub fn new(step: Step, detail: impl Into<String>) -> Refusal {
        Refusal { step, detail: detail.into() }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Refusal {
        Refusal::new(Step::Decode, error.to_string())
    }
}
