//! Checks records as far as they go alone: decode, commit, verify signatures, rules of content.
//!
//! This is where nearly all of the work of a record is, and none of it depends on order, so it runs
//! on lanes ahead of agreement, a batch at a time. Each round of hashes and of signatures is one
//! call to the crypto lanes.
//!
//! Invariants
//! - The result is a function of the bytes, the partition and the key directory alone.
//! - A record that fails one check does not change what is said of another.

mod commit;
mod signatures;

pub use self::signatures::{Signatures, Verifier};

use commit::{Commitments, Hashed};
use piaogen_crypto::sm2::{Job, PublicKey};
use piaogen_crypto::{Digest, Lanes};
use piaogen_verify::checked::{Checked, CheckedBatch, SignatureCheck};
use piaogen_verify::entry::Outcome;
use piaogen_verify::event::check_event;
use piaogen_verify::fields::tag;
use piaogen_verify::fingerprint;
use piaogen_verify::record::{self, Class, Record, SIGNED_LEN};
use piaogen_verify::scheme::{Scheme, check_invoice};
use piaogen_verify::value::{self, Cause};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, RwLock};

/// Keys by their ids. Ids come from outside, hence a keyed hash; a fast one, asked for every record.
pub type Keys = HashMap<Digest, PublicKey, ahash::RandomState>;

/// The keys that a chain knows, by id. Grows as the registry does; a key never changes.
#[derive(Debug, Default)]
pub struct KeyDirectory(RwLock<Arc<Keys>>);

impl KeyDirectory {
    /// The keys as of now.
    pub fn current(&self) -> Arc<Keys> {
        // A poisoned lock still holds a whole map: it is replaced, never changed in place.
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Adds keys.
    pub fn add(&self, keys: impl IntoIterator<Item = PublicKey>) {
        let mut guard = self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut map = Keys::clone(&guard);
        map.extend(keys.into_iter().map(|key| (key.key_id(), key)));
        *guard = Arc::new(map);
    }
}

/// The fingerprints of records, hashed together: each with the number of its record and its place
/// among those of the record's kind.
pub fn fingerprints<'r, 'b: 'r>(
    lanes: Lanes,
    records: impl Iterator<Item = (usize, &'r Record<'b>)>,
) -> Vec<(usize, usize, u64)> {
    let (mut arena, mut ranges, mut of) = (Vec::new(), Vec::new(), Vec::new());
    for (i, record) in records {
        let messages = fingerprint::put_messages(record, &mut arena).into_iter().enumerate();
        for (kind, range) in messages.filter_map(|(kind, range)| Some((kind, range?))) {
            ranges.push(range);
            of.push((i, kind, 0));
        }
    }
    let mut digests = vec![[0; 32]; ranges.len()];
    lanes.sm3_ranges(&arena, &ranges, &mut digests);
    for ((.., bits), digest) in of.iter_mut().zip(&digests) {
        *bits = fingerprint::first_bits(digest);
    }
    of
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
    /// Whether fingerprints are computed.
    pub fingerprints: bool,
}

/// A lane's worker: keeps its buffers from batch to batch.
#[derive(Debug)]
pub struct Checker {
    context: CheckContext,
    lanes: Lanes,
    signatures: Arc<dyn Verifier>,
    commitments: Commitments,
    hashed: Vec<Hashed>,
    ranges: Vec<Range<u32>>,
    /// Digests of what `ranges` cover.
    placed: Vec<Digest>,
}

impl Checker {
    /// A worker for records of this chain. It shares what verifies signatures with others.
    pub fn new(context: CheckContext, lanes: Lanes, signatures: Arc<dyn Verifier>) -> Checker {
        Checker {
            context,
            lanes,
            signatures,
            commitments: Commitments::default(),
            hashed: Vec::new(),
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
        keys: &Keys,
    ) -> CheckedBatch {
        let decoded: Vec<Result<Record<'_>, record::Unreadable>> = places
            .iter()
            .map(|(_, range)| record::decode(&arena[range.start as usize..range.end as usize]))
            .collect();
        self.commitments.of(self.lanes, &decoded, &mut self.hashed);
        let mut subjects = Vec::with_capacity(places.len() * 48);
        let mut records = Vec::with_capacity(places.len());
        for (((offset, range), decoded), hashed) in places.iter().zip(&decoded).zip(&self.hashed) {
            let place = Place { shard, offset: *offset, range: range.clone(), arena: &arena };
            records.push(match decoded {
                Err(unreadable) => place.unreadable(unreadable),
                Ok(record) => self.readable(&place, record, hashed, &mut subjects),
            });
        }
        self.judge(shard, &decoded, &subjects, &mut records);
        if self.context.fingerprints {
            self.compare(&decoded, &mut records);
        }
        self.verify(&decoded, &mut records, keys);
        drop(decoded);
        CheckedBatch { arena, subjects, records }
    }

    /// Whether invoices and events are where they belong, and what their content breaks.
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
                checked.content = match record.kind.class() {
                    Class::Event => check_event(record).err(),
                    _ => check_invoice(record, &self.context.schemes).err(),
                };
            } else {
                checked.early = Some(Outcome::WrongPartition { expected });
            }
        }
    }

    /// The fingerprints by which execution finds what two invoices have in common.
    fn compare(&self, decoded: &[Result<Record<'_>, record::Unreadable>], records: &mut [Checked]) {
        let early = |i: usize| records[i].early.is_some();
        let records_of = (0..).zip(decoded).filter(|(i, _)| !early(*i));
        let readable = records_of.filter_map(|(i, decoded)| Some((i, decoded.as_ref().ok()?)));
        for (i, kind, bits) in fingerprints(self.lanes, readable) {
            records[i].fingerprints[kind] = bits;
        }
    }

    fn readable(
        &self,
        place: &Place<'_>,
        record: &Record<'_>,
        hashed: &Hashed,
        subjects: &mut Vec<u8>,
    ) -> Checked {
        let mut checked = Checked {
            offset: place.offset,
            kind: Some(record.kind),
            signer: record.signer,
            commitment: hashed.commitment,
            opened: hashed.opened,
            signed_at: record.signed_at,
            issued_ms: issued_ms(record),
            subject: 0..0,
            bytes: place.range.clone(),
            seller: place.range_of(record.get(tag::SELLER_PARTY)),
            fingerprints: [0; 3],
            early: None,
            signature: SignatureCheck::Unknown,
            content: None,
        };
        if record.kind.is_registry() != (place.shard == self.context.partitions) {
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
        keys: &Keys,
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
            opened: None,
            signed_at: i64::MIN,
            issued_ms: i64::MIN,
            subject: 0..0,
            bytes: self.range.clone(),
            seller: 0..0,
            fingerprints: [0; 3],
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
