//! Commits the records of a batch, and the openings that events bring, each round of hashes in one
//! call to the lanes.
//!
//! An invoice is committed by field, an event whole; of the few registry records each is hashed by
//! itself. What an opening leads to is compared with the invoice in execution, which has no time to
//! hash it.
//!
//! Invariants
//! - The commitment of a record that can be read is [`Record::commitment`], whatever its class.

use piaogen_crypto::{Digest, Lanes};
use piaogen_verify::document::{COMMITMENT_PREFIX, Committer, Secret};
use piaogen_verify::encoding::put_vint;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::opening::{self, Content, OpenedField};
use piaogen_verify::record::{Class, EVENT_PREFIX, Record, Unreadable};
use std::ops::Range;

/// Prefix of the digest of one field (`FORMAT.md` section 2.4).
const FIELD_PREFIX: u8 = 3;

/// Documents committed in one call: enough to fill the lanes, few enough that what is hashed, some
/// 2 KB a document, does not leave the core's own cache between the rounds.
const COMMIT_AT_ONCE: usize = 256;

/// A document as the committer takes it: secret and fields.
type Committed<'a> = (Secret, &'a [(Tag, &'a [u8])]);

/// What is known of a record after hashing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hashed {
    /// The commitment of its content.
    pub(super) commitment: Digest,
    /// The commitment that its opening leads to.
    pub(super) opened: Option<Digest>,
}

/// Messages to be hashed together, and their digests.
#[derive(Debug, Default)]
struct Messages {
    arena: Vec<u8>,
    ranges: Vec<Range<u32>>,
    digests: Vec<Digest>,
}

impl Messages {
    fn clear(&mut self) {
        self.arena.clear();
        self.ranges.clear();
    }

    /// Adds one message; `put` appends its bytes.
    fn add(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let begin = self.arena.len() as u32;
        put(&mut self.arena);
        self.ranges.push(begin..self.arena.len() as u32);
    }

    fn hash(&mut self, lanes: Lanes) -> impl Iterator<Item = Digest> {
        self.digests.clear();
        self.digests.resize(self.ranges.len(), [0; 32]);
        lanes.sm3_ranges(&self.arena, &self.ranges, &mut self.digests);
        self.digests.iter().copied()
    }
}

/// Keeps its buffers from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Commitments {
    committer: Committer,
    /// The commitments of the batch's documents, and those of the call before.
    documents: Vec<Digest>,
    committed: Vec<Digest>,
    messages: Messages,
    shown: Messages,
}

impl Commitments {
    /// What follows from each record, in their order; zeros for one that cannot be read.
    pub(super) fn of(
        &mut self,
        lanes: Lanes,
        decoded: &[Result<Record<'_>, Unreadable>],
        out: &mut Vec<Hashed>,
    ) {
        self.commit_documents(lanes, decoded);
        out.clear();
        out.resize(decoded.len(), Hashed::default());
        let mut documents = self.documents.iter();
        let mut events = Vec::new();
        for (i, (decoded, hashed)) in decoded.iter().zip(out.iter_mut()).enumerate() {
            let Ok(record) = decoded else { continue };
            match record.kind.class() {
                Class::Invoice => {
                    hashed.commitment = documents.next().copied().unwrap_or_default();
                }
                Class::Event => events.push((i, record)),
                Class::Registry => hashed.commitment = record.commitment(),
            }
        }
        if !events.is_empty() {
            self.commit_events(lanes, &events, out);
            self.follow_openings(lanes, &events, out);
        }
    }

    fn commit_documents(&mut self, lanes: Lanes, decoded: &[Result<Record<'_>, Unreadable>]) {
        let documents: Vec<Committed<'_>> = decoded
            .iter()
            .flatten()
            .filter(|record| record.kind.is_invoice())
            .map(|record| (record.secret, record.fields.as_slice()))
            .collect();
        self.documents.clear();
        for documents in documents.chunks(COMMIT_AT_ONCE) {
            self.committer.commitments(lanes, documents, &mut self.committed);
            self.documents.extend_from_slice(&self.committed);
        }
    }

    fn commit_events(&mut self, lanes: Lanes, events: &[(usize, &Record<'_>)], out: &mut [Hashed]) {
        self.messages.clear();
        for (_, record) in events {
            self.messages.add(|arena| {
                arena.push(EVENT_PREFIX);
                arena.extend_from_slice(&record.secret);
                arena.extend_from_slice(record.body());
            });
        }
        for ((i, _), digest) in events.iter().zip(self.messages.hash(lanes)) {
            out[*i].commitment = digest;
        }
    }

    /// The fields that are shown first, then what all fields of each opening lead to.
    fn follow_openings(
        &mut self,
        lanes: Lanes,
        events: &[(usize, &Record<'_>)],
        out: &mut [Hashed],
    ) {
        let openings: Vec<(usize, Vec<OpenedField>)> = events
            .iter()
            .filter_map(|(i, record)| {
                // Decoding the record has checked that the opening decodes.
                Some((*i, opening::decode(record.get(tag::OPENING)?).ok()?))
            })
            .collect();
        self.shown.clear();
        for field in openings.iter().flat_map(|(_, fields)| fields) {
            if let Content::Shown { salt, value } = &field.content {
                self.shown.add(|arena| {
                    arena.push(FIELD_PREFIX);
                    arena.extend_from_slice(&field.tag.to_be_bytes());
                    arena.extend_from_slice(salt);
                    arena.extend_from_slice(value);
                });
            }
        }
        let mut shown = self.shown.hash(lanes);
        self.messages.clear();
        for (_, fields) in &openings {
            self.messages.add(|arena| {
                arena.push(COMMITMENT_PREFIX);
                put_vint(arena, fields.len() as u64);
                for field in fields {
                    arena.extend_from_slice(&field.tag.to_be_bytes());
                    arena.extend_from_slice(&match &field.content {
                        Content::Hidden(digest) => *digest,
                        Content::Shown { .. } => shown.next().unwrap_or_default(),
                    });
                }
            });
        }
        drop(shown);
        for ((i, _), digest) in openings.iter().zip(self.messages.hash(lanes)) {
            out[*i].opened = Some(digest);
        }
    }
}
