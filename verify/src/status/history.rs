//! The history of an invoice: every record that made its status, each with its leaf (`FORMAT.md`
//! section 9.2).
//!
//! The status itself says which records made it. So a history is checked against a status proof,
//! and can neither hide an event nor bring one that did not happen.
//!
//! Invariants
//! - Records stand in the order of the log; the record that created the invoice is the one of the
//!   status proof's receipt.
//! - Queries and refused records change no status and are no part of it.

use super::answer::VerifiedStatus;
use super::receipt::{STATUS_RECEIPT_MAX, StatusReceipt};
use crate::encoding::{DecodeError, Reader, put_bytes, put_digests, put_vint};
use crate::entry::{Entry, Outcome};
use crate::fields::tag;
use crate::merkle::{PROOF_MAX, root_from_inclusion};
use crate::receipt::ENTRY_MAX;
use crate::record::{Class, RecordKind};
use crate::refusal::{Refusal, Step};
use crate::trust_root::TrustRoot;
use crate::value::{self, HISTORY_MAX, RecordId};
use alloc::string::String;
use alloc::vec::Vec;
use piaogen_crypto::Digest;

/// Most bytes of a history.
pub const HISTORY_PROOF_MAX: usize = 2_097_152;
const MAGIC: [u8; 3] = *b"PY\x01";

/// One record that made a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRecord {
    /// The place of its leaf in the record log.
    pub log_index: u64,
    /// What the record log says of it.
    pub entry: Entry,
    /// The way from the leaf to the shard's log root.
    pub inclusion: Vec<Digest>,
}

/// Evidence of everything that happened to an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The status that the records made; it shows the part `history`, or the invoice is untouched.
    pub status: StatusReceipt,
    /// The records after the one that created the invoice, in the order of the log.
    pub records: Vec<HistoryRecord>,
}

impl History {
    /// The compact encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_bytes(&mut out, &self.status.encode());
        put_vint(&mut out, self.records.len() as u64);
        for record in &self.records {
            put_vint(&mut out, record.log_index);
            put_bytes(&mut out, &record.entry.encode());
            put_digests(&mut out, &record.inclusion);
        }
        out
    }

    /// Reads the compact encoding; nothing may follow.
    pub fn decode(bytes: &[u8]) -> Result<History, DecodeError> {
        if bytes.len() > HISTORY_PROOF_MAX {
            let (value, limit) = (bytes.len() as u64, HISTORY_PROOF_MAX as u64);
            return Err(DecodeError::Limit { what: "history", value, limit });
        }
        let mut r = Reader::new(bytes);
        r.fixed("magic of a history", &MAGIC)?;
        let status = StatusReceipt::decode(r.bytes("status proof", STATUS_RECEIPT_MAX as u64)?)?;
        let count = r.count("records", HISTORY_MAX)?;
        let mut records = Vec::new();
        for _ in 0..count {
            records.push(HistoryRecord {
                log_index: r.vint()?,
                entry: Entry::decode(r.bytes("entry", ENTRY_MAX)?)?,
                inclusion: r.digests("inclusion proof", PROOF_MAX)?,
            });
        }
        r.end()?;
        Ok(History { status, records })
    }

    /// Checks the history; the error names the first step that fails.
    pub fn verify(&self, trust: &TrustRoot) -> Result<VerifiedStatus, Refusal> {
        let verified = self.status.verify(trust)?;
        let expected = self.expected(&verified)?;
        if self.records.len() != expected.len() {
            let (found, made) = (self.records.len(), expected.len());
            return refuse(alloc::format!("{found} records are here, {made} made the status"));
        }
        for (number, (record, (index, id))) in self.records.iter().zip(expected).enumerate() {
            self.check_record(record, index, &id)
                .map_err(|what| Refusal::new(Step::Records, alloc::format!("{number}: {what}")))?;
        }
        let last = self.records.last().map_or(&verified.record, |record| &record.entry.status);
        if *last != verified.record {
            return refuse("the last record led to another status".into());
        }
        Ok(verified)
    }

    /// The records that made the status, by its own word.
    fn expected(&self, verified: &VerifiedStatus) -> Result<Vec<(u64, RecordId)>, Refusal> {
        match self.status.part(tag::HISTORY) {
            Some(bytes) => {
                // What is shown is canonical by now; this cannot fail, but need not be believed.
                value::history_of(bytes)
                    .or_else(|_| refuse("the history is not in canonical form".into()))
            }
            None if verified.untouched() => Ok(Vec::new()),
            None => refuse("the status does not show its history".into()),
        }
    }

    fn check_record(
        &self,
        record: &HistoryRecord,
        index: u64,
        id: &RecordId,
    ) -> Result<(), &'static str> {
        let (receipt, entry) = (&self.status.receipt, &record.entry);
        let changes = |kind: RecordKind| kind.class() == Class::Event && kind != RecordKind::Query;
        if record.log_index != index {
            return Err("it stands at another place than the status says");
        }
        if index <= receipt.log_index {
            return Err("it stands before the record that created the invoice");
        }
        if entry.outcome != Outcome::Accepted || !entry.kind.is_some_and(changes) {
            return Err("it is no accepted event that changes a status");
        }
        if entry.subject != receipt.entry.subject || entry.issue != receipt.entry.issue {
            return Err("it is about another invoice");
        }
        if entry.commitment[..id.len()] != id[..] {
            return Err("its commitment is another than the status says");
        }
        let (size, root) = (receipt.shard.log_size, receipt.shard.log_root);
        match root_from_inclusion(&entry.leaf(), index, size, &record.inclusion) {
            Some(found) if found == root => Ok(()),
            _ => Err("its leaf is not in the record log"),
        }
    }
}

fn refuse<T>(detail: String) -> Result<T, Refusal> {
    Err(Refusal::new(Step::Records, detail))
}
