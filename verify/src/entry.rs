//! Leaves: what the record log says of one record (`FORMAT.md` section 5).
//!
//! Refusals are leaves as well as acceptances, so nothing that came through the stream is without
//! an answer, and the answer can be proved.
//!
//! Invariants
//! - An entry has one encoding; its leaf is the hash of it.
//! - An entry says nothing of heights or of a node's clock: the same stream gives the same leaves.

use crate::conflict::{Conflict, Detail};
use crate::encoding::{DecodeError, Reader, put_bytes, put_vint, put_zint};
use crate::fields::{Tag, name_of};
use crate::merkle;
use crate::record::RecordKind;
use crate::value::{Cause, Flaw};
use alloc::string::String;
use alloc::vec::Vec;
use piaogen_crypto::Digest;

const VERSION: u8 = 1;
/// Most bytes of a subject.
pub const SUBJECT_MAX: u64 = 256;

/// What execution said of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It had its effect.
    Accepted,
    /// The same content was accepted before; that receipt is the answer.
    Replay {
        /// Log index of the first.
        first: u64,
    },
    /// The number is used, with other content.
    DupDifferent {
        /// Log index of the first.
        first: u64,
        /// Its commitment.
        commitment: Digest,
    },
    /// The signature does not hold.
    BadSignature,
    /// No participant has the key.
    NotRegistered,
    /// The key is valid no longer.
    KeyRevoked,
    /// The signer's roles do not allow this.
    WrongRole,
    /// An issuer signed for another seller.
    WrongActor,
    /// A field is malformed.
    Malformed {
        /// Which; 0 for the envelope.
        tag: Tag,
        /// Why.
        cause: Cause,
    },
    /// A limit is exceeded.
    Limit {
        /// Which field; 0 for the record.
        tag: Tag,
        /// Its value.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// Amounts do not add up.
    Totals {
        /// Number of the rule.
        rule: u8,
        /// By how much, in minor units.
        difference: i128,
    },
    /// A time lies in the future.
    ClockSkew {
        /// Which field; 0 for the time of signing.
        tag: Tag,
    },
    /// The scheme does not accept invoices of this type.
    TypeNotAccepted,
    /// No such scheme.
    UnknownScheme,
    /// The record stands in a partition that is not its subject's.
    WrongPartition {
        /// The right one.
        expected: u32,
    },
    /// The participant exists.
    PartyExists,
    /// The key is somebody's.
    KeyInUse,
    /// No such participant, key or invoice.
    NotFound,
    /// The authority has signed this proposal, and that counts.
    AlreadySigned,
    /// The proposal is about another validator set than the one that stands.
    StaleSet {
        /// The digest of the one that stands.
        set: Digest,
    },
    /// An event cannot be, as the invoice stands.
    Conflict {
        /// What it conflicts with.
        conflict: Conflict,
        /// The detail, of the conflict's form.
        detail: Detail,
    },
}

impl Outcome {
    /// The number in the leaf.
    pub fn code(&self) -> u8 {
        match self {
            Outcome::Accepted => 0,
            Outcome::Replay { .. } => 1,
            Outcome::DupDifferent { .. } => 2,
            Outcome::BadSignature => 10,
            Outcome::NotRegistered => 11,
            Outcome::KeyRevoked => 12,
            Outcome::WrongRole => 13,
            Outcome::WrongActor => 14,
            Outcome::Malformed { .. } => 20,
            Outcome::Limit { .. } => 21,
            Outcome::Totals { .. } => 22,
            Outcome::ClockSkew { .. } => 23,
            Outcome::TypeNotAccepted => 24,
            Outcome::UnknownScheme => 25,
            Outcome::WrongPartition { .. } => 26,
            Outcome::PartyExists => 30,
            Outcome::KeyInUse => 31,
            Outcome::NotFound => 32,
            Outcome::AlreadySigned => 33,
            Outcome::StaleSet { .. } => 34,
            Outcome::Conflict { conflict, .. } => *conflict as u8,
        }
    }

    /// The name in JSON, in the archive and in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Accepted => "ACCEPTED",
            Outcome::Replay { .. } => "REPLAY",
            Outcome::DupDifferent { .. } => "DUP_DIFFERENT",
            Outcome::BadSignature => "BAD_SIGNATURE",
            Outcome::NotRegistered => "NOT_REGISTERED",
            Outcome::KeyRevoked => "KEY_REVOKED",
            Outcome::WrongRole => "WRONG_ROLE",
            Outcome::WrongActor => "WRONG_ACTOR",
            Outcome::Malformed { .. } => "MALFORMED",
            Outcome::Limit { .. } => "LIMIT",
            Outcome::Totals { .. } => "TOTALS",
            Outcome::ClockSkew { .. } => "CLOCK_SKEW",
            Outcome::TypeNotAccepted => "TYPE_NOT_ACCEPTED",
            Outcome::UnknownScheme => "UNKNOWN_SCHEME",
            Outcome::WrongPartition { .. } => "WRONG_PARTITION",
            Outcome::PartyExists => "PARTY_EXISTS",
            Outcome::KeyInUse => "KEY_IN_USE",
            Outcome::NotFound => "NOT_FOUND",
            Outcome::AlreadySigned => "ALREADY_SIGNED",
            Outcome::StaleSet { .. } => "STALE_SET",
            Outcome::Conflict { conflict, .. } => conflict.name(),
        }
    }

    /// Every name but those of conflicts.
    const PLAIN_NAMES: [&'static str; 20] = [
        "ACCEPTED",
        "REPLAY",
        "DUP_DIFFERENT",
        "BAD_SIGNATURE",
        "NOT_REGISTERED",
        "KEY_REVOKED",
        "WRONG_ROLE",
        "WRONG_ACTOR",
        "MALFORMED",
        "LIMIT",
        "TOTALS",
        "CLOCK_SKEW",
        "TYPE_NOT_ACCEPTED",
        "UNKNOWN_SCHEME",
        "WRONG_PARTITION",
        "PARTY_EXISTS",
        "KEY_IN_USE",
        "NOT_FOUND",
        "ALREADY_SIGNED",
        "STALE_SET",
    ];

    /// The name of the outcome with this number; for numbers that a leaf cannot have, `UNKNOWN`.
    pub fn name_of_code(code: u8) -> &'static str {
        const CODES: [u8; 20] =
            [0, 1, 2, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 25, 26, 30, 31, 32, 33, 34];
        match CODES.iter().position(|known| *known == code) {
            Some(at) => Outcome::PLAIN_NAMES[at],
            None => Conflict::from_code(code).map_or("UNKNOWN", Conflict::name),
        }
    }

    /// Every name, for metrics that must exist before the first refusal.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Outcome::PLAIN_NAMES.into_iter().chain(Conflict::ALL.iter().map(|known| known.name()))
    }

    /// A conflict whose name says all.
    pub fn conflict(conflict: Conflict) -> Outcome {
        Outcome::conflict_with(conflict, Detail::None)
    }

    /// A conflict with a detail, which must be of its form.
    pub fn conflict_with(conflict: Conflict, detail: Detail) -> Outcome {
        debug_assert_eq!(conflict.form(), detail.form(), "{conflict:?}");
        Outcome::Conflict { conflict, detail }
    }

    /// The outcome for a flaw of a field.
    pub fn of_flaw(tag: Tag, flaw: Flaw) -> Outcome {
        match flaw {
            Flaw::Malformed(cause) => Outcome::Malformed { tag, cause },
            Flaw::Limit { value, limit } => Outcome::Limit { tag, value, limit },
        }
    }

    /// Whether the signature of a record with this outcome held when it was executed; `None` where
    /// the outcome does not say, since it may have been found before the signature was looked at.
    pub fn signature_held(&self) -> Option<bool> {
        match self {
            Outcome::BadSignature => Some(false),
            Outcome::NotRegistered
            | Outcome::KeyRevoked
            | Outcome::Malformed { .. }
            | Outcome::Limit { .. }
            | Outcome::WrongPartition { .. } => None,
            _ => Some(true),
        }
    }

    /// What a person is told beside the name; empty where the name says all.
    pub fn explain(&self) -> String {
        match self {
            Outcome::Replay { first } => alloc::format!("first accepted at log index {first}"),
            Outcome::DupDifferent { first, .. } => {
                alloc::format!("the number was first used at log index {first}")
            }
            Outcome::Malformed { tag: 0, cause } => {
                alloc::format!("the envelope {}", cause.words())
            }
            Outcome::Malformed { tag, cause } => {
                alloc::format!("{} {}", name_of(*tag), cause.words())
            }
            Outcome::Limit { tag, value, limit } => {
                let what = if *tag == 0 { "the record".into() } else { name_of(*tag) };
                alloc::format!("{what} has {value}, above {limit}")
            }
            Outcome::Totals { rule, difference } => {
                alloc::format!("rule {rule} fails by {difference} minor units")
            }
            Outcome::ClockSkew { tag: 0 } => "the time of signing lies in the future".into(),
            Outcome::ClockSkew { tag } => {
                alloc::format!("{} lies in the future", name_of(*tag))
            }
            Outcome::WrongPartition { expected } => {
                alloc::format!("the subject belongs to partition {expected}")
            }
            Outcome::AlreadySigned => "this authority's signature is counted already".into(),
            Outcome::StaleSet { set } => {
                alloc::format!("the set that stands is {}; propose again", hex::encode(set))
            }
            Outcome::Conflict { conflict, detail } => conflict.explain(detail),
            _ => String::new(),
        }
    }

    fn put_detail(&self, out: &mut Vec<u8>) {
        match self {
            Outcome::Replay { first } => out.extend_from_slice(&first.to_be_bytes()),
            Outcome::DupDifferent { first, commitment } => {
                out.extend_from_slice(&first.to_be_bytes());
                out.extend_from_slice(commitment);
            }
            Outcome::Malformed { tag, cause } => {
                out.extend_from_slice(&tag.to_be_bytes());
                out.push(*cause as u8);
            }
            Outcome::Limit { tag, value, limit } => {
                out.extend_from_slice(&tag.to_be_bytes());
                put_vint(out, *value);
                put_vint(out, *limit);
            }
            Outcome::Totals { rule, difference } => {
                out.push(*rule);
                put_zint(out, *difference);
            }
            Outcome::ClockSkew { tag } => out.extend_from_slice(&tag.to_be_bytes()),
            Outcome::WrongPartition { expected } => {
                out.extend_from_slice(&expected.to_be_bytes());
            }
            Outcome::StaleSet { set } => out.extend_from_slice(set),
            Outcome::Conflict { detail, .. } => detail.put(out),
            _ => {}
        }
    }

    fn decode(code: u8, detail: &[u8]) -> Result<Outcome, DecodeError> {
        let mut r = Reader::new(detail);
        let outcome = match code {
            0 => Outcome::Accepted,
            1 => Outcome::Replay { first: r.u64()? },
            2 => Outcome::DupDifferent { first: r.u64()?, commitment: r.array()? },
            10 => Outcome::BadSignature,
            11 => Outcome::NotRegistered,
            12 => Outcome::KeyRevoked,
            13 => Outcome::WrongRole,
            14 => Outcome::WrongActor,
            20 => Outcome::Malformed {
                tag: r.u16()?,
                cause: Cause::from_code(r.u8()?).ok_or(DecodeError::Fixed { what: "cause" })?,
            },
            21 => Outcome::Limit { tag: r.u16()?, value: r.vint()?, limit: r.vint()? },
            22 => Outcome::Totals { rule: r.u8()?, difference: r.zint()? },
            23 => Outcome::ClockSkew { tag: r.u16()? },
            24 => Outcome::TypeNotAccepted,
            25 => Outcome::UnknownScheme,
            26 => Outcome::WrongPartition { expected: r.u32()? },
            30 => Outcome::PartyExists,
            31 => Outcome::KeyInUse,
            32 => Outcome::NotFound,
            33 => Outcome::AlreadySigned,
            34 => Outcome::StaleSet { set: r.array()? },
            code => {
                let conflict = Conflict::from_code(code);
                let conflict = conflict.ok_or(DecodeError::Fixed { what: "outcome" })?;
                Outcome::Conflict { conflict, detail: Detail::take(conflict.form(), &mut r)? }
            }
        };
        r.end()?;
        Ok(outcome)
    }
}

/// One entry of a record log; its subject is owned, or borrowed where it is only written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<S = Vec<u8>> {
    /// What the record is; `None` where that could not be read.
    pub kind: Option<RecordKind>,
    /// Its place in the stream's partition.
    pub offset: u64,
    /// What it is about; empty where that could not be read.
    pub subject: S,
    /// What execution said.
    pub outcome: Outcome,
    /// The commitment of its content.
    pub commitment: Digest,
    /// The key id that it names.
    pub signer: Digest,
    /// The issue index of the invoice that it created, or whose status it changed.
    pub issue: Option<u64>,
    /// The status digest that results.
    pub status: Digest,
}

impl<S: AsRef<[u8]>> Entry<S> {
    /// Appends the encoding.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.push(self.kind.map_or(0, |kind| kind as u8));
        out.extend_from_slice(&self.offset.to_be_bytes());
        put_bytes(out, self.subject.as_ref());
        out.push(self.outcome.code());
        // A detail is far below 128 bytes, so its length is one byte, written when it is known.
        let at = out.len();
        out.push(0);
        self.outcome.put_detail(out);
        out[at] = (out.len() - at - 1) as u8;
        out.extend_from_slice(&self.commitment);
        out.extend_from_slice(&self.signer);
        put_vint(out, self.issue.map_or(0, |issue| issue + 1));
        out.extend_from_slice(&self.status);
    }

    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(192);
        self.encode_to(&mut out);
        out
    }

    /// The leaf.
    pub fn leaf(&self) -> Digest {
        merkle::leaf(&self.encode())
    }
}

/// The number of the outcome in an encoded entry, without decoding the rest.
pub fn outcome_code(entry: &[u8]) -> Option<u8> {
    let mut r = Reader::new(entry.get(10..)?);
    r.bytes("subject", SUBJECT_MAX).ok()?;
    r.u8().ok()
}

impl Entry {
    /// Reads an entry; nothing may follow.
    pub fn decode(bytes: &[u8]) -> Result<Entry, DecodeError> {
        let mut r = Reader::new(bytes);
        r.fixed("entry version", &[VERSION])?;
        let kind = match r.u8()? {
            0 => None,
            code => Some(
                RecordKind::from_code(code).ok_or(DecodeError::Fixed { what: "record kind" })?,
            ),
        };
        let offset = r.u64()?;
        let subject = r.bytes("subject", SUBJECT_MAX)?.to_vec();
        let code = r.u8()?;
        let outcome = Outcome::decode(code, r.bytes("detail", 64)?)?;
        let (commitment, signer) = (r.array()?, r.array()?);
        let issue = r.vint()?.checked_sub(1);
        let status = r.array()?;
        r.end()?;
        Ok(Entry { kind, offset, subject, outcome, commitment, signer, issue, status })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::conflict::Form;
    use alloc::vec;

    /// One outcome of each kind.
    pub(crate) fn outcomes() -> Vec<Outcome> {
        vec![
            Outcome::Accepted,
            Outcome::Replay { first: 7 },
            Outcome::DupDifferent { first: 300, commitment: [3; 32] },
            Outcome::BadSignature,
            Outcome::NotRegistered,
            Outcome::KeyRevoked,
            Outcome::WrongRole,
            Outcome::WrongActor,
            Outcome::Malformed { tag: 112, cause: Cause::Range },
            Outcome::Limit { tag: 0, value: 70_000, limit: 65_536 },
            Outcome::Totals { rule: 1, difference: -5 },
            Outcome::ClockSkew { tag: 2 },
            Outcome::TypeNotAccepted,
            Outcome::UnknownScheme,
            Outcome::WrongPartition { expected: 3 },
            Outcome::PartyExists,
            Outcome::KeyInUse,
            Outcome::NotFound,
            Outcome::AlreadySigned,
            Outcome::StaleSet { set: [4; 32] },
        ]
        .into_iter()
        .chain(Conflict::ALL.iter().map(|conflict| {
            let detail = match conflict.form() {
                Form::None => Detail::None,
                Form::Index => Detail::Index(9),
                Form::Time => Detail::Time(-3),
                Form::Amount => Detail::Amount(-7),
                Form::Number => Detail::Number(300),
                Form::Digest => Detail::Digest([8; 32]),
            };
            Outcome::conflict_with(*conflict, detail)
        }))
        .collect()
    }

    #[test]
    fn entries_with_every_outcome_round_trip() {
        for (outcome, name) in outcomes().into_iter().zip(Outcome::names()) {
            assert_eq!(outcome.name(), name);
            assert_eq!(Outcome::name_of_code(outcome.code()), name);
            let entry = Entry {
                kind: Some(RecordKind::Issue),
                offset: 1 << 40,
                subject: crate::record::subject(b"CN-EINV", None, b"1"),
                outcome,
                commitment: [1; 32],
                signer: [2; 32],
                issue: Some(0),
                status: [0; 32],
            };
            let bytes = entry.encode();
            assert_eq!(outcome_code(&bytes), Some(entry.outcome.code()));
            assert_eq!(Entry::decode(&bytes), Ok(entry));
            for end in 0..bytes.len() {
                assert!(Entry::decode(&bytes[..end]).is_err());
            }
        }
    }
}
