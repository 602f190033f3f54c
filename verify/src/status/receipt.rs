//! Decides what became of an invoice, as of a block, using nothing but the proof and a trust root
//! (`FORMAT.md` section 9.1).
//!
//! A status proof is the receipt of the record that created the invoice, with one more way: from
//! the invoice's status to the status root of the same shard in the same block. An untouched
//! invoice has the zero record there, so "nothing ever happened to it" is proved as a lien is.
//!
//! Invariants
//! - No step reads a clock, a network or a disk; how old a proof is, its block says.
//! - Fields that are hidden are there with their digests: what is absent is proved to be absent.

use super::answer::VerifiedStatus;
use super::part::{One, Value};
use super::parts::Face;
use super::{DEPTH, STATUS_PREFIX, Status, StatusProof, ZERO};
use crate::encoding::{DecodeError, Reader, put_bytes};
use crate::entry::Outcome;
use crate::fields::{Kind, STATUS, Tag, by_tag, tag};
use crate::opening::{self, Content, OpenedField};
use crate::receipt::{RECEIPT_MAX, Receipt};
use crate::record::RecordKind;
use crate::refusal::{Refusal, Step};
use crate::trust_root::TrustRoot;
use alloc::string::String;
use alloc::vec::Vec;
use piaogen_crypto::Digest;

/// Most bytes of a status proof.
pub const STATUS_RECEIPT_MAX: usize = 524_288;
const MAGIC: [u8; 3] = *b"PS\x01";

/// Evidence of what became of an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReceipt {
    /// The receipt of the record that created the invoice, from the block that this is of.
    pub receipt: Receipt,
    /// The way from the status record to the shard's status root.
    pub path: StatusProof,
    /// The fields of the status document, tags ascending; none where the invoice is untouched.
    pub fields: Vec<OpenedField>,
}

impl StatusReceipt {
    /// A proof that shows these parts of a status, and the currency with any amount; without a
    /// status, of an untouched invoice.
    pub fn new(
        receipt: Receipt,
        path: StatusProof,
        status: Option<&Status>,
        tags: &[Tag],
    ) -> StatusReceipt {
        let wanted = with_currency(tags);
        let fields = status.map(|status| status.open(|tag| wanted.contains(&tag)));
        StatusReceipt { receipt, path, fields: fields.unwrap_or_default() }
    }

    /// The compact encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_bytes(&mut out, &self.receipt.encode());
        self.path.encode(&mut out);
        opening::put(&mut out, &self.fields);
        out
    }

    /// Reads the compact encoding; nothing may follow.
    pub fn decode(bytes: &[u8]) -> Result<StatusReceipt, DecodeError> {
        if bytes.len() > STATUS_RECEIPT_MAX {
            let (value, limit) = (bytes.len() as u64, STATUS_RECEIPT_MAX as u64);
            return Err(DecodeError::Limit { what: "status proof", value, limit });
        }
        let mut r = Reader::new(bytes);
        r.fixed("magic of a status proof", &MAGIC)?;
        let receipt = Receipt::decode(r.bytes("receipt", RECEIPT_MAX as u64)?)?;
        let path = StatusProof::decode(&mut r)?;
        let fields = opening::take(&mut r)?;
        r.end()?;
        Ok(StatusReceipt { receipt, path, fields })
    }

    /// Checks the proof; the error names the first step that fails.
    pub fn verify(&self, trust: &TrustRoot) -> Result<VerifiedStatus, Refusal> {
        let block = self.receipt.verify(trust)?;
        let issue = self.check_issue()?;
        let face = self.check_fields()?;
        self.check_path(issue)?;
        let seen = |field: &&OpenedField| field.value().is_some();
        Ok(VerifiedStatus {
            block,
            issue,
            record: self.record(),
            face,
            parts: self.fields.iter().map(|field| field.tag).collect(),
            shown: self.fields.iter().filter(seen).map(|field| field.tag).collect(),
        })
    }

    /// The status record that the fields lead to: zero where there are none.
    pub fn record(&self) -> Digest {
        match self.fields.is_empty() {
            true => ZERO,
            false => opening::commitment(STATUS_PREFIX, &self.fields),
        }
    }

    /// The canonical bytes of a part, where it is shown.
    pub fn part(&self, tag: Tag) -> Option<&[u8]> {
        opening::shown(&self.fields, tag)
    }

    fn check_issue(&self) -> Result<u64, Refusal> {
        let entry = &self.receipt.entry;
        let created =
            entry.outcome == Outcome::Accepted && entry.kind.is_some_and(RecordKind::is_invoice);
        match entry.issue.filter(|_| created) {
            Some(issue) => Ok(issue),
            None => Err(Refusal::new(Step::Issue, "the record did not create an invoice")),
        }
    }

    fn check_fields(&self) -> Result<Option<Face>, Refusal> {
        let refuse = |detail: String| Refusal::new(Step::Status, detail);
        if self.fields.is_empty() {
            return Ok(Some(Face::untouched()));
        }
        opening::check_fields(STATUS, &self.fields).map_err(refuse)?;
        let commitment = &self.receipt.entry.commitment;
        if self.part(tag::COMMITMENT).is_some_and(|shown| shown != commitment) {
            return Err(refuse("the status is of an invoice with another commitment".into()));
        }
        let Some(face) = self.part(tag::FACE) else { return Ok(None) };
        match One::<Face>::take(Some(face)) {
            Ok(face) => Ok(Some(face.0)),
            Err(_) => Err(refuse("the face says what this version does not know".into())),
        }
    }

    fn check_path(&self, issue: u64) -> Result<(), Refusal> {
        if self.path.root(&self.record(), issue) == Some(self.receipt.shard.status_root) {
            return Ok(());
        }
        let shard = self.receipt.shard.shard;
        let detail = match issue >> DEPTH {
            0 => alloc::format!("the status of invoice {issue} of shard {shard} is another"),
            _ => alloc::format!("invoice {issue} is above 2^{DEPTH}, outside any status tree"),
        };
        Err(Refusal::new(Step::Path, detail))
    }

    /// Makes parts visible, given the status; nothing changes where it is another status. The
    /// currency is shown with any amount.
    pub fn show(&mut self, status: &Status, tags: &[Tag]) -> Result<(), StatusShowError> {
        let wanted = with_currency(tags);
        let shown: Vec<Tag> = self.shown().collect();
        let fields = status.open(|tag| wanted.contains(&tag) || shown.contains(&tag));
        if self.fields.is_empty() || opening::commitment(STATUS_PREFIX, &fields) != self.record() {
            return Err(StatusShowError);
        }
        self.fields = fields;
        Ok(())
    }

    /// Hides every part but these.
    pub fn hide_but(&mut self, tags: &[Tag]) {
        let kept = with_currency(tags);
        for field in self.fields.iter_mut().filter(|field| !kept.contains(&field.tag)) {
            field.content = Content::Hidden(field.digest());
        }
    }

    fn shown(&self) -> impl Iterator<Item = Tag> {
        self.fields.iter().filter(|field| field.value().is_some()).map(|field| field.tag)
    }
}

/// The status is not the one of the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the status is not the one of the proof; ask for a proof of this status")]
pub struct StatusShowError;

/// These tags, and the currency where one of them has an amount, which means nothing without it.
fn with_currency(tags: &[Tag]) -> Vec<Tag> {
    let mut wanted = tags.to_vec();
    if tags.iter().filter_map(|tag| by_tag(STATUS, *tag)).any(|field| has_amounts(field.kind)) {
        wanted.push(tag::CURRENCY);
    }
    wanted
}

fn has_amounts(kind: Kind) -> bool {
    match kind {
        Kind::Amount => true,
        Kind::List(members) => members.iter().any(|member| has_amounts(member.kind)),
        _ => false,
    }
}
