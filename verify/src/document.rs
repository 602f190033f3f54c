//! A document and its commitment: fields, lines, salts (`FORMAT.md` section 2).
//!
//! The commitment is a hash over salted field digests, so a holder shows any subset of fields and a
//! check of an altered document names the field. Many documents are committed in one call, because
//! that is where the hashes of the pipeline are.
//!
//! Invariants
//! - Fields are in ascending order of tags and each value is canonical.
//! - Salts depend on the secret and the tag alone: the same document gives the same commitment.

use crate::encoding::put_vint;
use crate::fields::{DOCUMENT, LINE, Tag, by_tag, tag};
use crate::merkle;
use crate::value::{self, Cause, Flaw, LINE_BYTES_MAX, LINES_MAX};
use alloc::vec::Vec;
use core::ops::Range;
use piaogen_crypto::{Digest, Lanes, sm3};

/// Length of the secret of a document.
pub const SECRET_LEN: usize = 16;
/// The secret from which the salts of a document come.
pub type Secret = [u8; SECRET_LEN];
/// A salt.
pub type Salt = [u8; 16];

/// Canonical fields: tags ascending, values canonical.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(Tag, Vec<u8>)>);

impl Fields {
    /// No fields.
    pub fn new() -> Fields {
        Fields::default()
    }

    /// Sets a field to canonical bytes (see [`crate::value`]); replaces what was there.
    pub fn set(&mut self, tag: Tag, bytes: Vec<u8>) {
        match self.0.binary_search_by_key(&tag, |(tag, _)| *tag) {
            Ok(at) => self.0[at].1 = bytes,
            Err(at) => self.0.insert(at, (tag, bytes)),
        }
    }

    /// Sets a text field; does nothing where the text is empty.
    pub fn set_text(&mut self, tag: Tag, text: &str) {
        let bytes = value::text(text);
        if !bytes.is_empty() {
            self.set(tag, bytes);
        }
    }

    /// Sets an amount in minor units.
    pub fn set_amount(&mut self, tag: Tag, minor_units: i128) {
        self.set(tag, value::amount(minor_units));
    }

    /// Removes a field.
    pub fn remove(&mut self, tag: Tag) -> Option<Vec<u8>> {
        let at = self.0.binary_search_by_key(&tag, |(tag, _)| *tag).ok()?;
        Some(self.0.remove(at).1)
    }

    /// The canonical bytes of a field.
    pub fn get(&self, tag: Tag) -> Option<&[u8]> {
        find(&self.0, tag)
    }

    /// The amount of a field; zero where it is absent or malformed.
    pub fn amount(&self, tag: Tag) -> i128 {
        self.get(tag).and_then(|bytes| value::amount_of(bytes).ok()).unwrap_or(0)
    }

    /// The text of a field; empty where it is absent.
    pub fn text(&self, tag: Tag) -> &str {
        self.get(tag).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("")
    }

    /// All fields, tags ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Tag, &[u8])> {
        self.0.iter().map(|(tag, bytes)| (*tag, bytes.as_slice()))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields as pairs.
    pub fn pairs(&self) -> &[(Tag, Vec<u8>)] {
        &self.0
    }
}

impl FromIterator<(Tag, Vec<u8>)> for Fields {
    fn from_iter<I: IntoIterator<Item = (Tag, Vec<u8>)>>(pairs: I) -> Fields {
        let mut fields = Fields::new();
        for (tag, bytes) in pairs {
            fields.set(tag, bytes);
        }
        fields
    }
}

/// The value with this tag among ascending pairs.
pub fn find<V: AsRef<[u8]>>(pairs: &[(Tag, V)], tag: Tag) -> Option<&[u8]> {
    let at = pairs.binary_search_by_key(&tag, |(tag, _)| *tag).ok()?;
    Some(pairs[at].1.as_ref())
}

/// The content of one invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The source of the salts. Whoever has it can test guesses of hidden fields.
    pub secret: Secret,
    /// Everything but the lines; the field `lines` is set by [`Document::seal`].
    pub fields: Fields,
    /// The lines, in the order of the document.
    pub lines: Vec<Fields>,
}

impl Document {
    /// Computes the field `lines` from the lines.
    pub fn seal(&mut self) {
        if self.lines.is_empty() {
            self.fields.remove(tag::LINES);
            return;
        }
        let mut bytes = (self.lines.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&merkle::root_of_leaves(&self.line_digests()));
        self.fields.set(tag::LINES, bytes);
    }

    /// The leaves of the tree of lines.
    pub fn line_digests(&self) -> Vec<Digest> {
        let mut encoded = Vec::new();
        let mut salts = Salts::new(self.secret);
        (0u32..)
            .zip(&self.lines)
            .map(|(k, line)| {
                encoded.clear();
                value::put_members(&mut encoded, line.pairs());
                sm3::hash_parts(&[&[0], &salts.get(LINE_SALTS + k), &encoded])
            })
            .collect()
    }

    /// Whether every value is canonical and `lines` fits the lines, where they are at hand; names
    /// the first field that is not as it should be.
    pub fn check(&self) -> Result<(), (Tag, Flaw)> {
        for (tag, bytes) in self.fields.iter() {
            let field = by_tag(DOCUMENT, tag).ok_or((tag, Cause::UnknownTag.into()))?;
            value::check(field.kind, bytes).map_err(|flaw| (tag, flaw))?;
        }
        if self.lines.len() > LINES_MAX as usize {
            let limit = u64::from(LINES_MAX);
            return Err((tag::LINES, Flaw::Limit { value: self.lines.len() as u64, limit }));
        }
        let mut encoded = Vec::new();
        for line in &self.lines {
            encoded.clear();
            value::put_members(&mut encoded, line.pairs());
            if encoded.len() as u64 > LINE_BYTES_MAX {
                let (value, limit) = (encoded.len() as u64, LINE_BYTES_MAX);
                return Err((tag::LINES, Flaw::Limit { value, limit }));
            }
            value::members_of(&encoded, LINE).map_err(|flaw| (tag::LINES, flaw))?;
        }
        if self.lines.is_empty() {
            return Ok(());
        }
        let mut sealed = self.clone();
        sealed.seal();
        if sealed.fields.get(tag::LINES) != self.fields.get(tag::LINES) {
            return Err((tag::LINES, Cause::NotCanonical.into()));
        }
        Ok(())
    }

    /// The digest of each field, tags ascending.
    pub fn digests(&self) -> Vec<(Tag, Digest)> {
        let mut salts = Salts::new(self.secret);
        self.fields
            .iter()
            .map(|(tag, bytes)| (tag, field_digest(tag, &salts.get(u32::from(tag)), bytes)))
            .collect()
    }

    /// The commitment over all fields.
    pub fn commitment(&self) -> Digest {
        commitment(&self.digests())
    }
}

/// First salt index of the lines.
pub const LINE_SALTS: u32 = 65_536;

/// The salts of one document, each computed when asked for; neighbours share a hash.
#[derive(Debug)]
pub struct Salts {
    secret: Secret,
    block: Option<(u32, Digest)>,
}

impl Salts {
    /// The salts that come from this secret.
    pub fn new(secret: Secret) -> Salts {
        Salts { secret, block: None }
    }

    /// The salt with this index.
    pub fn get(&mut self, index: u32) -> Salt {
        let j = index / 2;
        let block = match self.block {
            Some((cached, block)) if cached == j => block,
            _ => sm3::hash(&salt_message(&self.secret, j)),
        };
        self.block = Some((j, block));
        half(&block, index)
    }
}

#[inline]
fn salt_message(secret: &Secret, j: u32) -> [u8; 21] {
    let mut message = [2; 21];
    message[1..17].copy_from_slice(secret);
    message[17..].copy_from_slice(&j.to_be_bytes());
    message
}

#[inline]
fn half(block: &Digest, index: u32) -> Salt {
    let mut salt = [0; 16];
    let begin = (index as usize & 1) * 16;
    salt.copy_from_slice(&block[begin..begin + 16]);
    salt
}

/// The digest of one field.
pub fn field_digest(tag: Tag, salt: &Salt, bytes: &[u8]) -> Digest {
    sm3::hash_parts(&[&[3], &tag.to_be_bytes(), salt, bytes])
}

/// Prefix of the commitment of a document.
pub const COMMITMENT_PREFIX: u8 = 4;

/// The commitment over field digests, tags ascending.
pub fn commitment(digests: &[(Tag, Digest)]) -> Digest {
    commitment_under(COMMITMENT_PREFIX, digests)
}

/// The same under the prefix of something else that is made of fields.
pub fn commitment_under(prefix: u8, digests: &[(Tag, Digest)]) -> Digest {
    let mut message = Vec::with_capacity(3 + digests.len() * 34);
    message.push(prefix);
    put_vint(&mut message, digests.len() as u64);
    for (tag, digest) in digests {
        message.extend_from_slice(&tag.to_be_bytes());
        message.extend_from_slice(digest);
    }
    sm3::hash(&message)
}

/// Commits many documents at once, each round of hashes in one call to the lanes.
///
/// Keeps its buffers between calls; they grow to the largest batch and stay.
#[derive(Debug, Default)]
pub struct Committer {
    arena: Vec<u8>,
    ranges: Vec<Range<u32>>,
    salts: Vec<Digest>,
    digests: Vec<Digest>,
}

impl Committer {
    /// The commitments of documents given by secret and ascending fields, in their order.
    /// A batch may hold at most 2^32 bytes of values.
    pub fn commitments<V: AsRef<[u8]>>(
        &mut self,
        lanes: Lanes,
        documents: &[(Secret, &[(Tag, V)])],
        out: &mut Vec<Digest>,
    ) {
        self.commitments_under(COMMITMENT_PREFIX, lanes, documents, out);
    }

    /// The same under the prefix of something else that is made of fields.
    pub fn commitments_under<V: AsRef<[u8]>>(
        &mut self,
        prefix: u8,
        lanes: Lanes,
        documents: &[(Secret, &[(Tag, V)])],
        out: &mut Vec<Digest>,
    ) {
        self.hash_salts(lanes, documents);
        self.hash_fields(lanes, documents);
        self.begin();
        let mut digests = self.digests.iter();
        for (_, fields) in documents {
            let begin = self.arena.len() as u32;
            self.arena.push(prefix);
            put_vint(&mut self.arena, fields.len() as u64);
            for ((tag, _), digest) in fields.iter().zip(digests.by_ref()) {
                let mut piece = [0; 34];
                piece[..2].copy_from_slice(&tag.to_be_bytes());
                piece[2..].copy_from_slice(digest);
                self.arena.extend_from_slice(&piece);
            }
            self.ranges.push(begin..self.arena.len() as u32);
        }
        out.clear();
        out.resize(documents.len(), [0; 32]);
        lanes.sm3_ranges(&self.arena, &self.ranges, out);
    }

    fn begin(&mut self) {
        self.arena.clear();
        self.ranges.clear();
    }

    fn hash_salts<V>(&mut self, lanes: Lanes, documents: &[(Secret, &[(Tag, V)])]) {
        self.begin();
        for (secret, fields) in documents {
            for j in salt_blocks(fields) {
                let begin = self.arena.len() as u32;
                self.arena.extend_from_slice(&salt_message(secret, j));
                self.ranges.push(begin..begin + 21);
            }
        }
        self.salts.clear();
        self.salts.resize(self.ranges.len(), [0; 32]);
        lanes.sm3_ranges(&self.arena, &self.ranges, &mut self.salts);
    }

    fn hash_fields<V: AsRef<[u8]>>(&mut self, lanes: Lanes, documents: &[(Secret, &[(Tag, V)])]) {
        self.begin();
        let mut blocks = self.salts.iter();
        for (_, fields) in documents {
            let mut current: Option<(u32, &Digest)> = None;
            for (tag, bytes) in fields.iter() {
                let j = u32::from(*tag) / 2;
                if current.is_none_or(|(held, _)| held != j) {
                    current = blocks.next().map(|block| (j, block));
                }
                let Some((_, block)) = current else { break };
                let begin = self.arena.len() as u32;
                let mut head = [3; 19];
                head[1..3].copy_from_slice(&tag.to_be_bytes());
                head[3..].copy_from_slice(&half(block, u32::from(*tag)));
                self.arena.extend_from_slice(&head);
                self.arena.extend_from_slice(bytes.as_ref());
                self.ranges.push(begin..self.arena.len() as u32);
            }
        }
        self.digests.clear();
        self.digests.resize(self.ranges.len(), [0; 32]);
        lanes.sm3_ranges(&self.arena, &self.ranges, &mut self.digests);
    }
}

/// The salt blocks that ascending fields need, each once.
fn salt_blocks<V>(fields: &[(Tag, V)]) -> impl Iterator<Item = u32> {
    let mut last = None;
    fields.iter().filter_map(move |(tag, _)| {
        let j = u32::from(*tag) / 2;
        (last.replace(j) != Some(j)).then_some(j)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn document(seed: u8) -> Document {
        let mut fields = Fields::new();
        fields.set_text(tag::NUMBER, "25442000000000000001");
        fields.set_text(tag::SELLER_NAME, "深圳市某某科技有限公司");
        fields.set(tag::ISSUE_DATE, value::date(2026, 11, 21));
        fields.set(tag::CURRENCY, value::currency(*b"CNY", 2));
        fields.set_amount(tag::TOTAL_GROSS, 11_300 + i128::from(seed));
        let mut line = Fields::new();
        line.set_text(153, "纸");
        line.set_amount(tag::LINE_NET, 10_000);
        let mut document = Document { secret: [seed; 16], fields, lines: vec![line.clone(), line] };
        document.seal();
        document
    }

    #[test]
    fn many_at_once_equal_one_at_a_time() {
        let documents: Vec<Document> = (0..9).map(document).collect();
        let views: Vec<_> = documents.iter().map(|d| (d.secret, d.fields.pairs())).collect();
        let mut out = Vec::new();
        Committer::default().commitments(Lanes::portable(), &views, &mut out);
        let expected: Vec<Digest> = documents.iter().map(Document::commitment).collect();
        assert_eq!(out, expected);
    }

    #[test]
    fn every_change_shows_in_its_own_digest() {
        let original = document(1);
        let mut altered = original.clone();
        altered.fields.set_amount(tag::TOTAL_GROSS, 99);
        altered.lines[1].set_amount(tag::LINE_NET, 1);
        altered.seal();
        let differing: Vec<Tag> = original
            .digests()
            .iter()
            .zip(altered.digests())
            .filter(|(a, b)| **a != *b)
            .map(|(a, _)| a.0)
            .collect();
        assert_eq!(differing, [tag::TOTAL_GROSS, tag::LINES]);
        assert_eq!(original.check(), Ok(()));
    }

    #[test]
    fn lines_that_do_not_fit_their_root_are_named() {
        let mut document = document(1);
        document.lines.pop();
        assert_eq!(document.check(), Err((tag::LINES, Cause::NotCanonical.into())));
    }
}
