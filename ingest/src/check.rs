//! Checks records as far as they go alone: decode, commit, verify signatures, rules of content.
//!
//! This is where nearly all of the work of a record is, and none of it depends on order, so it runs
//! on lanes ahead of agreement, a batch at a time. Each round of hashes and of signatures is one
//! call to the crypto lanes.
//!
//! Invariants
//! - The result is a function of the bytes, the partition and the key directory alone.
//! - A record that fails one check does not change what is said of another.

mod signatures;

pub use self::signatures::Signatures;

use piaogen_crypto::sm2::{Job, PublicKey};
use piaogen_crypto::{Digest, Lanes};
use piaogen_verify::checked::{Checked, CheckedBatch, SignatureCheck};
use piaogen_verify::document::{Committer, Secret};
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::record::{self, Record, SIGNED_LEN};
use piaogen_verify::scheme::{Scheme, check_invoice};
use piaogen_verify::value::{self, Cause};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, RwLock};

/// A document as the committer takes it: secret and fields.
type Committed<'a> = (Secret, &'a [(Tag, &'a [u8])]);

/// The keys that a chain knows, by id. Grows as the registry does; a key never changes.
#[derive(Debug, Default)]
pub struct KeyDirectory(RwLock<Arc<HashMap<Digest, PublicKey>>>);

impl KeyDirectory {
    /// The keys as of now.
    pub fn current(&self) -> Arc<HashMap<Digest, PublicKey>> {
        // A poisoned lock still holds a whole map: it is replaced, never changed in place.
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Adds keys.
    pub fn add(&self, keys: impl IntoIterator<Item = PublicKey>) {
        let mut guard = self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut map = HashMap::clone(&guard);
        map.extend(keys.into_iter().map(|key| (key.key_id(), key)));
        *guard = Arc::new(map);
    }
}

/// What checking needs to know of the chain.
#[derive(Clone, Debug)]
pub struct CheckContext {
    /// The genesis digest.
    pub chain: Digest,
    /// The schemes of the genesis.
    pub schemes: Arc<Vec<Scheme>>,
    /// Partitions of the topic `records`; the shard of this number is the registry.
    pub partitions: u32,
    /// Whether signatures are checked. Benchmarks of the rest of the pipeline leave it out.
    pub signatures: bool,
}

/// A lane's worker: keeps its buffers from batch to batch.
#[derive(Debug)]
pub struct Checker {
    context: CheckContext,
    lanes: Lanes,
    signatures: Arc<Signatures>,
    committer: Committer,
    commitments: Vec<Digest>,
    ranges: Vec<Range<u32>>,
    placed: Vec<Digest>,
}

impl Checker {
    /// A worker for records of this chain. It shares the tables of keys with others.
    pub fn new(context: CheckContext, lanes: Lanes, signatures: Arc<Signatures>) -> Checker {
        Checker {
            context,
            lanes,
            signatures,
            committer: Committer::default(),
            commitments: Vec::new(),
            ranges: Vec::new(),
            placed: Vec::new(),
        }
    }

    /// Checks a batch of records of one shard: `arena` holds their bytes, `places` their offsets
    /// and ranges in stream order.
    pub fn check(
        &mut self,
        shard: u32,
        arena: Vec<u8>,
        places: &[(u64, Range<u32>)],
        keys: &HashMap<Digest, PublicKey>,
    ) -> CheckedBatch {
        let decoded: Vec<Result<Record<'_>, record::Unreadable>> = places
            .iter()
            .map(|(_, range)| record::decode(&arena[range.start as usize..range.end as usize]))
            .collect();
        self.commit(&decoded);
        let mut subjects = Vec::with_capacity(places.len() * 48);
        let mut records = Vec::with_capacity(places.len());
        let mut commitments = self.commitments.iter();
        for ((offset, range), decoded) in places.iter().zip(&decoded) {
            let place = Place { shard, offset: *offset, range: range.clone(), arena: &arena };
            records.push(match decoded {
                Err(unreadable) => place.unreadable(unreadable),
                Ok(record) => {
                    let computed = match record.kind.is_invoice() {
                        true => commitments.next().copied().unwrap_or_default(),
                        false => record.commitment(),
                    };
                    self.readable(&place, record, computed, &mut subjects)
                }
            });
        }
        self.judge(shard, &decoded, &subjects, &mut records);
        self.verify(&decoded, &mut records, keys);
        drop(decoded);
        CheckedBatch { arena, subjects, records }
    }

    /// Whether invoices are where they belong, and what their content breaks.
    fn judge(
        &mut self,
        shard: u32,
        decoded: &[Result<Record<'_>, record::Unreadable>],
        subjects: &[u8],
        records: &mut [Checked],
    ) {
        let partitions = self.context.partitions;
        if shard == partitions {
            return;
        }
        // Each lies behind its prefix; where there is none, an empty message keeps the places.
        self.ranges.clear();
        self.ranges.extend(records.iter().map(|record| match record.subject.is_empty() {
            true => 0..0,
            false => record.subject.start - 1..record.subject.end,
        }));
        self.placed.clear();
        self.placed.resize(records.len(), [0; 32]);
        self.lanes.sm3_ranges(subjects, &self.ranges, &mut self.placed);
        for ((checked, decoded), placed) in records.iter_mut().zip(decoded).zip(&self.placed) {
            let (None, Ok(record)) = (checked.early, decoded) else { continue };
            let expected = record::partition_of(placed, partitions);
            if expected == shard {
                checked.content = check_invoice(record, &self.context.schemes).err();
            } else {
                checked.early = Some(Outcome::WrongPartition { expected });
            }
        }
    }

    fn commit(&mut self, decoded: &[Result<Record<'_>, record::Unreadable>]) {
        let documents: Vec<Committed<'_>> = decoded
            .iter()
            .flatten()
            .filter(|record| record.kind.is_invoice())
            .map(|record| (record.secret, record.fields.as_slice()))
            .collect();
        self.committer.commitments(self.lanes, &documents, &mut self.commitments);
    }

    fn readable(
        &self,
        place: &Place<'_>,
        record: &Record<'_>,
        commitment: Digest,
        subjects: &mut Vec<u8>,
    ) -> Checked {
        let mut checked = Checked {
            offset: place.offset,
            kind: Some(record.kind),
            signer: record.signer,
            commitment,
            signed_at: record.signed_at,
            issued_ms: issued_ms(record),
            subject: 0..0,
            bytes: place.range.clone(),
            seller: place.range_of(record.get(tag::SELLER_PARTY)),
            early: None,
            signature: SignatureCheck::Unknown,
            content: None,
        };
        if record.kind.is_invoice() == (place.shard == self.context.partitions) {
            checked.early = Some(Outcome::Malformed { tag: 0, cause: Cause::NotAllowed });
            return checked;
        }
        subjects.push(record::PARTITION_PREFIX);
        let begin = subjects.len() as u32;
        match record.put_subject(&self.context.schemes, subjects) {
            Ok(()) => checked.subject = begin..subjects.len() as u32,
            Err(tag) => {
                checked.early = Some(Outcome::Malformed { tag, cause: Cause::Missing });
            }
        }
        checked
    }

    fn verify(
        &self,
        decoded: &[Result<Record<'_>, record::Unreadable>],
        records: &mut [Checked],
        keys: &HashMap<Digest, PublicKey>,
    ) {
        if !self.context.signatures {
            records.iter_mut().for_each(|checked| checked.signature = SignatureCheck::Valid);
            return;
        }
        let mut asked: Vec<(usize, &PublicKey, [u8; SIGNED_LEN])> = Vec::new();
        for (i, (record, checked)) in decoded.iter().zip(records.iter()).enumerate() {
            if let (Ok(record), None, Some(key)) =
                (record, checked.early, keys.get(&checked.signer))
            {
                asked.push((i, key, record.signed(&self.context.chain, &checked.commitment)));
            }
        }
        let jobs: Vec<Job<'_>> = asked
            .iter()
            .filter_map(|(i, key, message)| {
                let signature = &decoded[*i].as_ref().ok()?.signature;
                Some(Job { key, message, signature })
            })
            .collect();
        let mut verdicts = vec![false; jobs.len()];
        self.signatures.verify(&jobs, &mut verdicts);
        for ((i, _, _), valid) in asked.iter().zip(verdicts) {
            records[*i].signature =
                if valid { SignatureCheck::Valid } else { SignatureCheck::Invalid };
        }
    }
}

struct Place<'a> {
    shard: u32,
    offset: u64,
    range: Range<u32>,
    arena: &'a [u8],
}

impl Place<'_> {
    fn unreadable(&self, unreadable: &record::Unreadable) -> Checked {
        let bytes = &self.arena[self.range.start as usize..self.range.end as usize];
        Checked {
            offset: self.offset,
            kind: unreadable.kind,
            signer: unreadable.signer,
            commitment: record::unreadable_commitment(bytes),
            signed_at: i64::MIN,
            issued_ms: i64::MIN,
            subject: 0..0,
            bytes: self.range.clone(),
            seller: 0..0,
            early: Some(Outcome::of_flaw(unreadable.tag, unreadable.flaw)),
            signature: SignatureCheck::Unknown,
            content: None,
        }
    }

    /// Where a value that was borrowed from the arena lies in it.
    fn range_of(&self, value: Option<&[u8]>) -> Range<u32> {
        let Some(value) = value else { return 0..0 };
        let begin = value.as_ptr().addr() - self.arena.as_ptr().addr();
        begin as u32..(begin + value.len()) as u32
    }
}

fn issued_ms(record: &Record<'_>) -> i64 {
    record
        .get(tag::ISSUE_DATE)
        .and_then(|bytes| value::date_of(bytes).ok())
        .map_or(i64::MIN, |(y, m, d)| value::days_since_1970(y, m, d) * 86_400_000)
}

#[cfg(test)]
mod tests;
