//! Receipts as JSON (`FORMAT.md` section 9).
//!
//! Invariants
//! - From compact to JSON to compact nothing is lost.

use super::{Receipt, SHARD_PROOF_MAX};
use crate::consistency::certificate_from_json;
use crate::epoch::{changes_from_json, changes_to_json};
use crate::fields::DOCUMENT;
use crate::header::Header;
use crate::json::chain::{
    digests, entry_from_json, entry_to_json, header_from_json, header_to_json, shard_from_json,
    shard_to_json,
};
use crate::json::{
    JSON_MAX, Json, JsonError, Result, object, opened_from_json, opened_to_json, parse, wrong,
};
use crate::merkle::PROOF_MAX;
use crate::witness::Cosigned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use piaogen_crypto::Digest;

/// The key `format` of a receipt.
pub const FORMAT: &str = "piaogen/receipt/1";

impl Receipt {
    /// Indented JSON. A shown value that is not canonical, which no true receipt has, is written as
    /// `malformed` and is not read back.
    pub fn to_json(&self) -> String {
        self.to_tree().pretty()
    }

    /// The receipt as a JSON value, to be part of an answer.
    pub fn to_tree(&self) -> Json {
        let mut members = alloc::vec![
            ("format", Json::of(FORMAT)),
            ("fields", opened_to_json(DOCUMENT, &self.fields)),
            ("entry", entry_to_json(&self.entry)),
            ("log_index", Json::Int(self.log_index.into())),
            ("inclusion", Json::hexes(&self.inclusion)),
            ("shard", shard_to_json(&self.shard)),
            ("shard_proof", Json::hexes(&self.shard_proof)),
            ("header", header_to_json(&self.header)),
        ];
        if let Some((newer, proof)) = &self.history {
            let parts = [("header", header_to_json(newer)), ("proof", Json::hexes(proof))];
            members.push(("history", object(parts)));
        }
        members.push(("certificate", Json::hex(&self.certificate)));
        if !self.changes.is_empty() {
            members.push(("changes", changes_to_json(&self.changes)));
        }
        if let Some(cosigned) = &self.cosigned {
            members.push(("cosigned", cosigned.to_json()));
        }
        Json::Object(members.into_iter().map(|(key, json)| (key.to_string(), json)).collect())
    }

    /// Reads JSON.
    pub fn from_json(text: &str) -> core::result::Result<Receipt, JsonError> {
        Receipt::from_tree(&parse(text, JSON_MAX)?)
    }

    /// Reads the JSON value of a receipt.
    pub(crate) fn from_tree(json: &Json) -> Result<Receipt> {
        let known = [
            "format",
            "fields",
            "entry",
            "log_index",
            "inclusion",
            "shard",
            "shard_proof",
            "header",
            "history",
            "certificate",
            "changes",
            "cosigned",
        ];
        let o = json.object(&known)?;
        o.expect_format(FORMAT)?;
        let receipt = Receipt {
            fields: o.need("fields", |json| opened_from_json(DOCUMENT, json))?,
            entry: o.need("entry", entry_from_json)?,
            log_index: o.need("log_index", Json::int)?,
            inclusion: o.need("inclusion", |json| digests(json, PROOF_MAX))?,
            shard: o.need("shard", shard_from_json)?,
            shard_proof: o.need("shard_proof", |json| digests(json, SHARD_PROOF_MAX))?,
            header: o.need("header", header_from_json)?,
            history: o.maybe("history", history_from_json)?,
            certificate: o.need("certificate", certificate_from_json)?,
            changes: o.maybe("changes", changes_from_json)?.unwrap_or_default(),
            cosigned: o.maybe("cosigned", Cosigned::from_json)?,
        };
        match receipt.encode().len() {
            0..=super::RECEIPT_MAX => Ok(receipt),
            n => wrong(alloc::format!("is a receipt of {n} bytes, above {}", super::RECEIPT_MAX)),
        }
    }
}

fn history_from_json(json: &Json) -> Result<(Header, Vec<Digest>)> {
    let o = json.object(&["header", "proof"])?;
    Ok((o.need("header", header_from_json)?, o.need("proof", |json| digests(json, PROOF_MAX))?))
}
