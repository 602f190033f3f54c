//! Decides whether a receipt is true, using nothing but the receipt and a trust root (`FORMAT.md`
//! section 9).
//!
//! A receipt chains four facts, checked cheapest first: the fields hash to the entry's commitment,
//! the entry is in the record log, the log is in the header, and a quorum signed the header.
//!
//! Invariants
//! - No step reads a clock, a network or a disk.
//! - Every length is bounded before anything is allocated.
//! - The first step that fails is named in the `Refusal`; later steps do not run.

use crate::certificate::Certificate;
use crate::consistency::{check_chain, check_history};
use crate::document::{self, Document, Salts};
use crate::encoding::{DecodeError, Reader, put_bytes, put_digests, put_vint};
use crate::entry::Entry;
use crate::epoch::{Change, headers, put_changes, take_certificate, take_changes};
use crate::fields::{DOCUMENT, Kind, Tag, by_tag, name_of, tag};
use crate::header::{Header, ShardEntry};
use crate::merkle::{PROOF_MAX, root_from_inclusion};
use crate::opening;
use crate::refusal::{Refusal, Step};
use crate::trust_root::TrustRoot;
use crate::witness::{Cosigned, check_witnesses};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use piaogen_crypto::Digest;

mod text;

pub use crate::opening::{Content, OpenedField};
pub use text::FORMAT;

/// Most bytes of a receipt.
pub const RECEIPT_MAX: usize = 262_144;
/// Most digests of the proof that a shard is in a block.
pub const SHARD_PROOF_MAX: u64 = 32;
const MAGIC: [u8; 3] = *b"PT\x01";
/// Most bytes of an entry in a proof.
pub const ENTRY_MAX: u64 = 1_024;

/// Evidence that a record has its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The fields of the document, tags ascending; none where nothing is said of the document.
    pub fields: Vec<OpenedField>,
    /// What the record log says of the record.
    pub entry: Entry,
    /// The place of the leaf in the record log.
    pub log_index: u64,
    /// The way from the leaf to the shard's log root.
    pub inclusion: Vec<Digest>,
    /// The shard.
    pub shard: ShardEntry,
    /// The way from the shard to the header's `shards_root`.
    pub shard_proof: Vec<Digest>,
    /// The header.
    pub header: Header,
    /// A newer header, and the way to its `history_root`, where the certificate is of that one.
    pub history: Option<(Header, Vec<Digest>)>,
    /// The certificate of the header, or of the newer one.
    pub certificate: Vec<u8>,
    /// How the verifier comes to the set that signed it, from the one that he trusts.
    pub changes: Vec<Change>,
    /// What witnesses signed, where they did.
    pub cosigned: Option<Cosigned>,
}

/// What a receipt proves beyond its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The height of the block whose roots hold the record.
    pub height: u64,
    /// The time of that block, milliseconds since 1970.
    pub time_ms: i64,
    /// The height of the block that the validators signed: this one, or a newer.
    pub certified_height: u64,
    /// The epoch of that block.
    pub epoch: u64,
    /// How many validators signed.
    pub signers: u32,
    /// How many witnesses that the trust root knows cosigned.
    pub witnesses: u32,
}

impl Receipt {
    /// The compact encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        opening::put(&mut out, &self.fields);
        put_bytes(&mut out, &self.entry.encode());
        put_vint(&mut out, self.log_index);
        put_digests(&mut out, &self.inclusion);
        out.extend_from_slice(&self.shard.encode());
        put_digests(&mut out, &self.shard_proof);
        out.extend_from_slice(&self.header.encode());
        match &self.history {
            None => out.push(0),
            Some((newer, proof)) => {
                out.push(1);
                out.extend_from_slice(&newer.encode());
                put_digests(&mut out, proof);
            }
        }
        put_bytes(&mut out, &self.certificate);
        put_changes(&mut out, &self.changes);
        match &self.cosigned {
            None => out.push(0),
            Some(cosigned) => {
                out.push(1);
                cosigned.put(&mut out);
            }
        }
        out
    }

    /// Reads the compact encoding; nothing may follow.
    pub fn decode(bytes: &[u8]) -> Result<Receipt, DecodeError> {
        if bytes.len() > RECEIPT_MAX {
            let (value, limit) = (bytes.len() as u64, RECEIPT_MAX as u64);
            return Err(DecodeError::Limit { what: "receipt", value, limit });
        }
        let mut r = Reader::new(bytes);
        r.fixed("magic of a receipt", &MAGIC)?;
        let fields = opening::take(&mut r)?;
        let entry = Entry::decode(r.bytes("entry", ENTRY_MAX)?)?;
        let log_index = r.vint()?;
        let inclusion = r.digests("inclusion proof", PROOF_MAX)?;
        let shard = ShardEntry::decode(&mut r)?;
        let shard_proof = r.digests("shard proof", SHARD_PROOF_MAX)?;
        let header = Header::decode(&mut r)?;
        let history = match r.u8()? {
            0 => None,
            1 => Some((Header::decode(&mut r)?, r.digests("history proof", PROOF_MAX)?)),
            _ => return Err(DecodeError::Fixed { what: "mark of the history" }),
        };
        let certificate = take_certificate(&mut r)?;
        let changes = take_changes(&mut r)?;
        let cosigned = match r.u8()? {
            0 => None,
            1 => Some(Cosigned::take(&mut r)?),
            _ => return Err(DecodeError::Fixed { what: "mark of the cosignatures" }),
        };
        r.end()?;
        Ok(Receipt {
            fields,
            entry,
            log_index,
            inclusion,
            shard,
            shard_proof,
            header,
            history,
            certificate,
            changes,
            cosigned,
        })
    }

    /// Checks the receipt; the error names the first step that fails.
    pub fn verify(&self, trust: &TrustRoot) -> Result<Verified, Refusal> {
        let certificate = Certificate::decode(&self.certificate)?;
        self.check_document()?;
        self.check_inclusion()?;
        check_shard(&self.header, &self.shard, &self.shard_proof)?;
        let newer = self.history.as_ref().map(|(newer, _)| newer);
        let own = core::iter::once(&self.header).chain(newer);
        check_chain(trust, own.chain(headers(&self.changes)))?;
        if let Some((newer, proof)) = &self.history {
            check_history(&self.header, newer, proof)?;
        }
        let last = newer.unwrap_or(&self.header);
        trust.after(&self.changes)?.check_final(last, &certificate)?;
        let witnesses = check_witnesses(trust, last, self.cosigned.as_ref())?;
        Ok(Verified {
            height: self.header.height,
            time_ms: self.header.time_ms,
            certified_height: last.height,
            epoch: last.epoch,
            signers: certificate.signers.len() as u32,
            witnesses,
        })
    }

    /// The commitment that the fields lead to.
    pub fn commitment(&self) -> Digest {
        opening::commitment(document::COMMITMENT_PREFIX, &self.fields)
    }

    fn check_document(&self) -> Result<(), Refusal> {
        let refuse = |detail: String| Err(Refusal::new(Step::Document, detail));
        if self.fields.is_empty() {
            return Ok(());
        }
        opening::check_fields(DOCUMENT, &self.fields)
            .map_err(|detail| Refusal::new(Step::Document, detail))?;
        if self.commitment() != self.entry.commitment {
            return refuse("the fields do not lead to the commitment of the entry".into());
        }
        Ok(())
    }

    fn check_inclusion(&self) -> Result<(), Refusal> {
        let (index, size) = (self.log_index, self.shard.log_size);
        let root = root_from_inclusion(&self.entry.leaf(), index, size, &self.inclusion);
        if root == Some(self.shard.log_root) {
            return Ok(());
        }
        let detail = alloc::format!("the leaf is not at index {index} of the {size} in the log");
        Err(Refusal::new(Step::Inclusion, detail))
    }

    /// Makes fields visible, given the document. A receipt that says nothing of the document gets
    /// all its fields first. The currency is shown with any amount, which means nothing without it.
    ///
    /// Nothing changes where the document is not the one of the receipt.
    pub fn show(&mut self, document: &Document, tags: &[Tag]) -> Result<(), ShowError> {
        if self.fields.is_empty() {
            if document.commitment() != self.entry.commitment {
                return Err(ShowError::OtherDocument);
            }
            self.fields = OpenedField::all_hidden(document);
        }
        let mut salts = Salts::new(document.secret);
        let mut wanted = tags.to_vec();
        let amounts = tags.iter().any(|tag| by_tag(DOCUMENT, *tag).is_some_and(has_amounts));
        if amounts && document.fields.get(tag::CURRENCY).is_some() {
            wanted.push(tag::CURRENCY);
        }
        let mut shown = self.fields.clone();
        for tag in wanted {
            let value = document.fields.get(tag).ok_or(ShowError::Absent(tag))?.to_vec();
            let at = shown.binary_search_by_key(&tag, |field| field.tag);
            let field = &mut shown[at.map_err(|_| ShowError::Absent(tag))?];
            let digest = field.digest();
            field.content = Content::Shown { salt: salts.get(tag.into()), value };
            if field.digest() != digest {
                return Err(ShowError::Differs(tag));
            }
        }
        self.fields = shown;
        Ok(())
    }

    /// Hides every field again.
    pub fn hide_all(&mut self) {
        for field in &mut self.fields {
            field.content = Content::Hidden(field.digest());
        }
    }

    /// Every field in which a document differs from the receipt, tags ascending. Where the document
    /// has lines, `lines` is computed from them, so that an altered line shows.
    ///
    /// A receipt without fields can only say that the document is another one (tag 0).
    pub fn compare(&self, document: &Document) -> Vec<Difference> {
        let mut document = document.clone();
        if !document.lines.is_empty() {
            document.seal();
        }
        let theirs = document.digests();
        if self.fields.is_empty() {
            let same = document::commitment(&theirs) == self.entry.commitment;
            return if same {
                Vec::new()
            } else {
                alloc::vec![Difference::new(0, DifferenceKind::Differs)]
            };
        }
        let mut out = Vec::new();
        for field in &self.fields {
            match theirs.binary_search_by_key(&field.tag, |(tag, _)| *tag) {
                Ok(at) if theirs[at].1 == field.digest() => {}
                Ok(_) => out.push(Difference::new(field.tag, DifferenceKind::Differs)),
                Err(_) => out.push(Difference::new(field.tag, DifferenceKind::OnlyInReceipt)),
            }
        }
        for (tag, _) in &theirs {
            if self.fields.binary_search_by_key(tag, |field| field.tag).is_err() {
                out.push(Difference::new(*tag, DifferenceKind::OnlyInDocument));
            }
        }
        out.sort_by_key(|difference| difference.tag);
        out
    }
}

fn has_amounts(field: &crate::fields::Field) -> bool {
    match field.kind {
        Kind::Amount => true,
        Kind::List(members) => members.iter().any(|member| member.kind == Kind::Amount),
        _ => false,
    }
}

/// Why fields cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShowError {
    /// The document is not the one of the receipt.
    #[error("the document is not the one of the receipt; compare them to see where they differ")]
    OtherDocument,
    /// The field is not in the document, or not in the receipt.
    #[error("{} is not in the document or not in the receipt; leave it out", name_of(*.0))]
    Absent(Tag),
    /// The field has another value in the document.
    #[error("{} differs between document and receipt", name_of(*.0))]
    Differs(Tag),
}

/// How a document differs from a receipt in one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// Both have the field, with other values.
    Differs,
    /// The document lacks the field.
    OnlyInReceipt,
    /// The receipt lacks the field.
    OnlyInDocument,
}

/// One field in which a document differs from a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which field; 0 for the document as a whole.
    pub tag: Tag,
    /// Its name.
    pub name: String,
    /// How it differs.
    pub kind: DifferenceKind,
}

impl Difference {
    fn new(tag: Tag, kind: DifferenceKind) -> Difference {
        let name = if tag == 0 { "document".into() } else { name_of(tag) };
        Difference { tag, name, kind }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.kind {
            DifferenceKind::Differs if self.tag == tag::LINES => {
                write!(f, "lines: the lines of the document are not those of the receipt")
            }
            DifferenceKind::Differs if self.tag == 0 => {
                write!(f, "the document is not the one of the receipt, which names no fields")
            }
            DifferenceKind::Differs => write!(f, "{name} has another value in the receipt"),
            DifferenceKind::OnlyInReceipt => write!(f, "{name} is missing in the document"),
            DifferenceKind::OnlyInDocument => write!(f, "{name} is not in the receipt"),
        }
    }
}

/// Step `shard`: the shard is so in the block.
pub(crate) fn check_shard(
    header: &Header,
    entry: &ShardEntry,
    proof: &[Digest],
) -> Result<(), Refusal> {
    let (shard, shards) = (entry.shard, header.shards);
    let root = root_from_inclusion(&entry.leaf(), shard.into(), shards.into(), proof);
    if root == Some(header.shards_root) {
        return Ok(());
    }
    let height = header.height;
    let detail = alloc::format!("shard {shard} of {shards} is not so in block {height}");
    Err(Refusal::new(Step::Shard, detail))
}

#[cfg(test)]
mod tests;
