//! Status proofs and histories as JSON (`FORMAT.md` sections 9.1 and 9.2).
//!
//! Invariants
//! - From compact to JSON to compact nothing is lost.

use super::history::{HISTORY_PROOF_MAX, History, HistoryRecord};
use super::receipt::{STATUS_RECEIPT_MAX, StatusReceipt};
use super::{DEPTH, StatusProof, ZERO};
use crate::fields::STATUS;
use crate::json::chain::{digests, entry_from_json, entry_to_json};
use crate::json::{
    Json, JsonError, Result, STATUS_JSON_MAX, object, opened_from_json, opened_to_json, parse,
    wrong,
};
use crate::merkle::PROOF_MAX;
use crate::receipt::Receipt;
use crate::value::HISTORY_MAX;
use alloc::string::String;
use piaogen_crypto::Digest;

/// The key `format` of a status proof.
pub const STATUS_FORMAT: &str = "piaogen/status/1";
/// The key `format` of a history.
pub const HISTORY_FORMAT: &str = "piaogen/history/1";

impl StatusReceipt {
    /// Indented JSON. A shown value that is not canonical, which no true proof has, is written as
    /// `malformed` and is not read back.
    pub fn to_json(&self) -> String {
        self.to_tree().pretty()
    }

    /// The proof as a JSON value, to be part of an answer.
    pub fn to_tree(&self) -> Json {
        object([
            ("format", Json::of(STATUS_FORMAT)),
            ("receipt", self.receipt.to_tree()),
            ("path", path_to_json(&self.path)),
            ("status", opened_to_json(STATUS, &self.fields)),
        ])
    }

    /// Reads JSON.
    pub fn from_json(text: &str) -> core::result::Result<StatusReceipt, JsonError> {
        StatusReceipt::from_tree(&parse(text, STATUS_JSON_MAX)?)
    }

    fn from_tree(json: &Json) -> Result<StatusReceipt> {
        let o = json.object(&["format", "receipt", "path", "status"])?;
        o.expect_format(STATUS_FORMAT)?;
        let proof = StatusReceipt {
            receipt: o.need("receipt", Receipt::from_tree)?,
            path: o.need("path", path_from_json)?,
            fields: o.need("status", |json| opened_from_json(STATUS, json))?,
        };
        at_most("a status proof", proof.encode().len(), STATUS_RECEIPT_MAX)?;
        Ok(proof)
    }
}

impl History {
    /// Indented JSON, as of a status proof.
    pub fn to_json(&self) -> String {
        self.to_tree().pretty()
    }

    /// The history as a JSON value, to be part of an answer.
    pub fn to_tree(&self) -> Json {
        let record = |record: &HistoryRecord| {
            object([
                ("log_index", Json::Int(record.log_index.into())),
                ("entry", entry_to_json(&record.entry)),
                ("inclusion", Json::hexes(&record.inclusion)),
            ])
        };
        object([
            ("format", Json::of(HISTORY_FORMAT)),
            ("status", self.status.to_tree()),
            ("records", Json::List(self.records.iter().map(record).collect())),
        ])
    }

    /// Reads JSON.
    pub fn from_json(text: &str) -> core::result::Result<History, JsonError> {
        let json = parse(text, STATUS_JSON_MAX)?;
        let o = json.object(&["format", "status", "records"])?;
        o.expect_format(HISTORY_FORMAT)?;
        let history = History {
            status: o.need("status", StatusReceipt::from_tree)?,
            records: o.need("records", |json| json.list(HISTORY_MAX, record_from_json))?,
        };
        at_most("a history", history.encode().len(), HISTORY_PROOF_MAX)?;
        Ok(history)
    }
}

fn record_from_json(json: &Json) -> Result<HistoryRecord> {
    let o = json.object(&["log_index", "entry", "inclusion"])?;
    Ok(HistoryRecord {
        log_index: o.need("log_index", Json::int)?,
        entry: o.need("entry", entry_from_json)?,
        inclusion: o.need("inclusion", |json| digests(json, PROOF_MAX))?,
    })
}

/// The siblings that are not zero, each with its level.
fn path_to_json(path: &StatusProof) -> Json {
    let sent = path.siblings.iter().enumerate().filter(|(_, sibling)| **sibling != ZERO);
    let sibling = |(level, digest): (usize, &Digest)| {
        object([("level", Json::Int(level as i128)), ("digest", Json::hex(digest))])
    };
    Json::List(sent.map(sibling).collect())
}

fn path_from_json(json: &Json) -> Result<StatusProof> {
    let siblings = json.list(DEPTH.into(), |json| {
        let o = json.object(&["level", "digest"])?;
        let level: u8 = o.need("level", |json| match json.int()? {
            level if level < DEPTH => Ok(level),
            _ => wrong(alloc::format!("must be below {DEPTH}")),
        })?;
        let digest = o.need("digest", |json| match json.array()? {
            ZERO => wrong("must not be zero; leave it out"),
            digest => Ok(digest),
        })?;
        Ok((level, digest))
    })?;
    if siblings.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return wrong("must have its levels in ascending order");
    }
    let mut path = StatusProof { siblings: [ZERO; DEPTH as usize] };
    for (level, digest) in siblings {
        path.siblings[usize::from(level)] = digest;
    }
    Ok(path)
}

fn at_most(what: &str, length: usize, limit: usize) -> Result<()> {
    match length <= limit {
        true => Ok(()),
        false => wrong(alloc::format!("is {what} of {length} bytes, above {limit}")),
    }
}
