//! What lanes learn of a record ahead of agreement, handed from checking to execution.
//!
//! The two are crates that do not know each other; this is their common word. Everything here
//! follows from the record alone, or from the key that it names, which never changes.
//!
//! Invariants
//! - `early` set: nothing else of the record counts (PROTOCOL checks 1–4).
//! - `signature` unknown: the key was not at hand; execution decides again with the registry.

use crate::Digest;
use crate::entry::Outcome;
use crate::fingerprint::FINGERPRINTS_MAX;
use crate::record::RecordKind;
use alloc::vec::Vec;
use core::ops::Range;

/// Whether a signature holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureCheck {
    /// It holds.
    Valid,
    /// It does not.
    Invalid,
    /// The key was not known when the record was checked.
    Unknown,
}

/// One record, checked as far as it goes alone.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its place in the stream's partition.
    pub offset: u64,
    /// What it is; `None` where that could not be read.
    pub kind: Option<RecordKind>,
    /// The key id that it names.
    pub signer: Digest,
    /// The commitment of its content.
    pub commitment: Digest,
    /// The commitment that the opening of an event leads to; `None` where it brings none, or where
    /// nobody has computed it.
    pub opened: Option<Digest>,
    /// Its time of signing, milliseconds since 1970.
    pub signed_at: i64,
    /// First millisecond of its issue date; the smallest value where it has none.
    pub issued_ms: i64,
    /// Where the subject lies among those of the batch; empty where it could not be read.
    pub subject: Range<u32>,
    /// Where the bytes of the record lie in the batch.
    pub bytes: Range<u32>,
    /// Where the value of `seller_party` lies in the batch; empty where there is none.
    pub seller: Range<u32>,
    /// The first 64 bits of its fingerprints, in their order; zero where there is none, or where
    /// nobody asks for them.
    pub fingerprints: [u64; FINGERPRINTS_MAX],
    /// The refusal of checks 1–4.
    pub early: Option<Outcome>,
    /// Check 7.
    pub signature: SignatureCheck,
    /// The refusal of check 10.
    pub content: Option<Outcome>,
}

/// Records of one shard in stream order, with their bytes.
#[derive(Clone, Debug, Default)]
pub struct CheckedBatch {
    /// The bytes of the records, end to end.
    pub arena: Vec<u8>,
    /// The subjects, each behind the prefix under which it is hashed.
    pub subjects: Vec<u8>,
    /// What was learned of each.
    pub records: Vec<Checked>,
}

impl CheckedBatch {
    /// The bytes of a record of this batch.
    #[inline]
    pub fn bytes(&self, record: &Checked) -> &[u8] {
        &self.arena[record.bytes.start as usize..record.bytes.end as usize]
    }

    /// What a record of this batch is about; empty where that could not be read.
    #[inline]
    pub fn subject(&self, record: &Checked) -> &[u8] {
        &self.subjects[record.subject.start as usize..record.subject.end as usize]
    }

    /// The `seller_party` of a record of this batch; empty where it has none.
    #[inline]
    pub fn seller(&self, record: &Checked) -> &[u8] {
        &self.arena[record.seller.start as usize..record.seller.end as usize]
    }
}
