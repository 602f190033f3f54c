//! Says what a source of records is, and signs what sources prepare.
//!
//! A source gives record `i` at any time, so that nothing needs to be kept: what was sent is made
//! again when its receipt is checked, and a duplicate is made from the record it repeats.
//!
//! Invariants
//! - Record `i` is always the same bytes, alone or in a batch.
//! - Every record carries the one outcome that it must have, whatever order partitions run in.

use crate::parties::Party;
use piaogen_crypto::sm2::Signature;
use piaogen_crypto::{Digest, Lanes};
use piaogen_verify::conflict::{Conflict, Detail, Form};
use piaogen_verify::document::{Committer, Document, Secret};
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::fields::Tag;
use piaogen_verify::record::{self, Draft, RecordKind};
use rayon::prelude::*;
use std::ops::Range;

/// What a generated record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A good invoice.
    Blue,
    /// A good red invoice.
    Red,
    /// The signature is of another content, chain, or nothing at all.
    BadSignature,
    /// Nobody has the key.
    UnknownSigner,
    /// The key was revoked.
    RevokedKey,
    /// An issuer registers somebody.
    WrongRole,
    /// An issuer signs for another seller.
    WrongActor,
    /// A field, or the envelope, is malformed.
    Malformed,
    /// A limit is exceeded.
    Limit,
    /// Amounts do not add up.
    Totals,
    /// A record that was sent before.
    Replay,
    /// A number that was used before, with other content.
    DupDifferent,
    /// From the future.
    ClockSkew,
    /// A type that the scheme does not accept.
    TypeNotAccepted,
    /// A scheme that the chain does not have.
    UnknownScheme,
    /// In another partition than its subject's.
    WrongPartition,
    /// Bytes that are no record.
    Undecodable,
    /// A good registry record.
    Registry,
    /// An event; what it must be answered, the story knows in which it stands.
    Event,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 19] = [
        Kind::Blue,
        Kind::Red,
        Kind::BadSignature,
        Kind::UnknownSigner,
        Kind::RevokedKey,
        Kind::WrongRole,
        Kind::WrongActor,
        Kind::Malformed,
        Kind::Limit,
        Kind::Totals,
        Kind::Replay,
        Kind::DupDifferent,
        Kind::ClockSkew,
        Kind::TypeNotAccepted,
        Kind::UnknownScheme,
        Kind::WrongPartition,
        Kind::Undecodable,
        Kind::Registry,
        Kind::Event,
    ];

    /// Whether a record of this kind has its effect.
    pub fn is_good(self) -> bool {
        matches!(self, Kind::Blue | Kind::Red | Kind::Registry | Kind::Event)
    }
}

/// The outcome that a record must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Exactly this.
    Exactly(Outcome),
    /// The same content as record `of` of the source, accepted before.
    Replay {
        /// Which record.
        of: u64,
    },
    /// The number of record `of` of the source.
    DupDifferent {
        /// Which record.
        of: u64,
        /// Its commitment.
        commitment: Digest,
    },
    /// This conflict, with a detail that only the chain knows: a place or a moment.
    Refused(Conflict),
}

impl Expected {
    /// Whether this is the outcome. The log index of a first is not known here and is not compared.
    pub fn matches(&self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Expected::Exactly(expected), outcome) => expected == outcome,
            (Expected::Replay { .. }, Outcome::Replay { .. }) => true,
            (Expected::DupDifferent { commitment, .. }, Outcome::DupDifferent { .. }) => {
                matches!(outcome, Outcome::DupDifferent { commitment: first, .. }
                    if first == commitment)
            }
            (Expected::Refused(expected), Outcome::Conflict { conflict, .. }) => {
                expected == conflict
            }
            _ => false,
        }
    }

    /// Name of the outcome.
    pub fn name(&self) -> &'static str {
        match self {
            Expected::Exactly(outcome) => outcome.name(),
            Expected::Replay { .. } => "REPLAY",
            Expected::DupDifferent { .. } => "DUP_DIFFERENT",
            Expected::Refused(conflict) => conflict.name(),
        }
    }
}

/// A detail of this form that says nothing.
fn blank(form: Form) -> Detail {
    match form {
        Form::None => Detail::None,
        Form::Index => Detail::Index(0),
        Form::Time => Detail::Time(0),
        Form::Amount => Detail::Amount(0),
        Form::Number => Detail::Number(0),
        Form::Digest => Detail::Digest([0; 32]),
    }
}

/// One record, ready to be sent, and what is known of it.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Its place in the source.
    pub index: u64,
    /// What it is.
    pub kind: Kind,
    /// The document behind it; none for a registry record or bytes that are no record.
    pub document: Option<Document>,
    /// The compact bytes.
    pub record: Vec<u8>,
    /// Where it goes. The number of partitions, one above the last, stands for the topic
    /// `registry`.
    pub partition: u32,
    /// What it is about; empty where that cannot be read.
    pub subject: Vec<u8>,
    /// What the record is; `None` where that cannot be read.
    pub record_kind: Option<RecordKind>,
    /// The commitment that its leaf has.
    pub commitment: Digest,
    /// The key id that its leaf names.
    pub signer: Digest,
    /// The outcome that it must have.
    pub expected: Expected,
}

impl Generated {
    /// The entry that its leaf must have, but for what only the chain knows: offset, log index of a
    /// first (here its index in the source), places and moments in a conflict, issue index, status.
    pub fn expected_entry(&self) -> Entry {
        let outcome = match &self.expected {
            Expected::Exactly(outcome) => *outcome,
            Expected::Replay { of } => Outcome::Replay { first: *of },
            Expected::DupDifferent { of, commitment } => {
                Outcome::DupDifferent { first: *of, commitment: *commitment }
            }
            Expected::Refused(conflict) => {
                Outcome::conflict_with(*conflict, blank(conflict.form()))
            }
        };
        Entry {
            kind: self.record_kind,
            offset: 0,
            subject: self.subject.clone(),
            outcome,
            commitment: self.commitment,
            signer: self.signer,
            issue: None,
            status: [0; 32],
        }
    }
}

/// Why a source has no records to give.
#[derive(Debug, thiserror::Error)]
#[error("records cannot be read: {0}; make the file again with `loadgen make`")]
pub struct SourceError(pub String);

/// Whether records are really signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signatures {
    /// By the keys of their signers.
    Real,
    /// With zeros, and lines replaced by a made-up root: fast, for harnesses that check no
    /// signatures. No record of kind `BadSignature` is made.
    Dummy,
}

/// A source of records.
pub trait Source: Sync {
    /// How many there are; `None` where there is no end.
    fn len(&self) -> Option<u64>;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Records of a range, signed on all threads, in order.
    fn batch(&self, range: Range<u64>, lanes: Lanes) -> Result<Vec<Generated>, SourceError>;

    /// The document of a record again, without signing it; `None` where there is none to be had.
    fn document(&self, index: u64) -> Option<Document>;
}

/// Registry records that must all be accepted, as a source.
#[derive(Clone, Debug)]
pub struct Registrations {
    /// The records, in their order.
    pub records: Vec<Vec<u8>>,
    /// Partitions of the topic `records`: this number stands for the topic `registry`.
    pub partitions: u32,
}

impl Source for Registrations {
    fn len(&self) -> Option<u64> {
        Some(self.records.len() as u64)
    }

    fn batch(&self, range: Range<u64>, _: Lanes) -> Result<Vec<Generated>, SourceError> {
        let read = |index: u64| {
            let bytes = &self.records[index as usize];
            let bad = |what: &str| SourceError(format!("registration {index} {what}"));
            let record = record::decode(bytes).map_err(|_| bad("does not decode"))?;
            let subject = record.subject(&[]).map_err(|_| bad("has no subject"))?;
            Ok(Generated {
                index,
                kind: Kind::Registry,
                document: None,
                partition: self.partitions,
                subject,
                record_kind: Some(record.kind),
                commitment: record.commitment(),
                signer: record.signer,
                expected: Expected::Exactly(Outcome::Accepted),
                record: bytes.clone(),
            })
        };
        (range.start..range.end.min(self.records.len() as u64)).map(read).collect()
    }

    fn document(&self, _: u64) -> Option<Document> {
        None
    }
}

/// What is done to a record after it was signed, or in place of it.
#[derive(Clone, Debug, Default)]
pub(crate) enum Damage {
    /// Nothing.
    #[default]
    None,
    /// One bit of the signature is another.
    SignatureBit(usize),
    /// It is signed for another chain.
    OtherChain,
    /// Another kind stands in the envelope.
    KindByte(u8),
    /// It ends early.
    Truncate(usize),
    /// These bytes are sent in its place.
    Replace(Vec<u8>),
}

impl Damage {
    fn leaves_it_readable(&self) -> bool {
        matches!(self, Damage::None | Damage::SignatureBit(_) | Damage::OtherChain)
    }
}

/// A record before it is signed.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) index: u64,
    pub(crate) kind: Kind,
    pub(crate) expected: Expected,
    pub(crate) document: Option<Document>,
    pub(crate) record_kind: RecordKind,
    pub(crate) signed_at: i64,
    pub(crate) secret: Secret,
    pub(crate) fields: Vec<(Tag, Vec<u8>)>,
    /// Whether the fields can be read again.
    pub(crate) readable: bool,
    pub(crate) signer: &'a Party,
    pub(crate) partition: u32,
    pub(crate) subject: Vec<u8>,
    pub(crate) damage: Damage,
}

impl Prepared<'_> {
    pub(crate) fn draft(&self) -> Draft<'_, Vec<u8>> {
        Draft {
            kind: self.record_kind,
            signed_at: self.signed_at,
            secret: self.secret,
            fields: &self.fields,
        }
    }

    fn message(&self, chain: &Digest, commitment: &Digest) -> [u8; record::SIGNED_LEN] {
        let mut chain = *chain;
        if matches!(self.damage, Damage::OtherChain) {
            chain[0] ^= 1;
        }
        record::signed(&chain, self.record_kind, self.signed_at, commitment)
    }

    fn finish(self, commitment: Digest, signature: &Signature) -> Generated {
        let mut bytes = self.draft().encode(&self.signer.key_id, signature);
        let end = bytes.len();
        match &self.damage {
            Damage::None | Damage::OtherChain => {}
            Damage::SignatureBit(bit) => bytes[end - 1 - bit / 8 % 64] ^= 1 << (bit % 8),
            Damage::KindByte(kind) => bytes[3] = *kind,
            Damage::Truncate(length) => bytes.truncate(*length),
            Damage::Replace(other) => bytes.clone_from(other),
        }
        if self.readable && self.damage.leaves_it_readable() {
            return Generated {
                index: self.index,
                kind: self.kind,
                document: self.document,
                record: bytes,
                partition: self.partition,
                subject: self.subject,
                record_kind: Some(self.record_kind),
                commitment,
                signer: self.signer.key_id,
                expected: self.expected,
            };
        }
        // What can still be read of it is what its leaf says.
        let read = record::decode(&bytes).err();
        Generated {
            index: self.index,
            kind: self.kind,
            document: None,
            partition: self.partition,
            subject: Vec::new(),
            record_kind: read.and_then(|read| read.kind),
            commitment: record::unreadable_commitment(&bytes),
            signer: read.map_or([0; 32], |read| read.signer),
            expected: self.expected,
            record: bytes,
        }
    }
}

/// Records signed in one call of the lanes; enough to fill the widest, few enough for a cache.
const CHUNK: u64 = 128;

/// Prepares, commits and signs a range on all threads.
pub(crate) fn sign_range<'a>(
    range: Range<u64>,
    chain: &Digest,
    lanes: Lanes,
    signatures: Signatures,
    prepare: impl Fn(u64) -> Prepared<'a> + Sync,
) -> Vec<Generated> {
    let starts: Vec<u64> = range.clone().step_by(CHUNK as usize).collect();
    starts
        .into_par_iter()
        .flat_map_iter(|start| {
            let end = (start + CHUNK).min(range.end);
            let prepared: Vec<Prepared<'a>> = (start..end).map(&prepare).collect();
            sign_chunk(prepared, chain, lanes, signatures)
        })
        .collect()
}

/// Commits and signs records that are prepared already, on all threads, in order.
pub(crate) fn sign_all(
    prepared: Vec<Prepared<'_>>,
    chain: &Digest,
    lanes: Lanes,
    signatures: Signatures,
) -> Vec<Generated> {
    let mut chunks: Vec<Vec<Prepared<'_>>> = Vec::new();
    for one in prepared {
        match chunks.last_mut().filter(|chunk| (chunk.len() as u64) < CHUNK) {
            Some(chunk) => chunk.push(one),
            None => chunks.push(vec![one]),
        }
    }
    chunks
        .into_par_iter()
        .flat_map_iter(|chunk| sign_chunk(chunk, chain, lanes, signatures))
        .collect()
}

fn sign_chunk(
    prepared: Vec<Prepared<'_>>,
    chain: &Digest,
    lanes: Lanes,
    how: Signatures,
) -> Vec<Generated> {
    let commitments = commit(&prepared, lanes);
    let mut signatures = vec![Signature([0; 64]); prepared.len()];
    if how == Signatures::Real {
        let messages: Vec<_> =
            prepared.iter().zip(&commitments).map(|(p, c)| p.message(chain, c)).collect();
        let jobs: Vec<_> =
            prepared.iter().zip(&messages).map(|(p, m)| (&p.signer.key, m.as_slice())).collect();
        lanes.sm2_sign(&jobs, &mut signatures);
    }
    prepared
        .into_iter()
        .zip(commitments)
        .zip(&signatures)
        .map(|((prepared, commitment), signature)| prepared.finish(commitment, signature))
        .collect()
}

fn commit(prepared: &[Prepared<'_>], lanes: Lanes) -> Vec<Digest> {
    let views: Vec<_> = prepared.iter().map(|p| (p.secret, p.fields.as_slice())).collect();
    let mut commitments = Vec::new();
    Committer::default().commitments(lanes, &views, &mut commitments);
    for (prepared, commitment) in prepared.iter().zip(&mut commitments) {
        // Registry records commit to their body; fields out of order share no blocks of salts.
        if !prepared.record_kind.is_invoice() || !prepared.readable {
            *commitment = prepared.draft().commitment();
        }
    }
    commitments
}
