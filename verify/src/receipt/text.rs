//! Receipts as JSON (`FORMAT.md` section 9).
//!
//! Invariants
//! - From compact to JSON to compact nothing is lost.

use super::{Content, Receipt, ReceiptField, SHARD_PROOF_MAX};
use crate::consistency::certificate_from_json;
use crate::fields::{DOCUMENT, Tag, by_name, by_tag, tag};
use crate::header::Header;
use crate::json::chain::{
    digests, entry_from_json, entry_to_json, header_from_json, header_to_json, shard_from_json,
    shard_to_json,
};
use crate::json::{
    JSON_MAX, Json, JsonError, Result, name_of_unknown, object, parse, value_from_json,
    value_to_json, wrong,
};
use crate::merkle::PROOF_MAX;
use crate::record::FIELDS_MAX;
use crate::value;
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
        let currency = self.fields.iter().find(|field| field.tag == tag::CURRENCY);
        let exponent = currency
            .and_then(ReceiptField::value)
            .and_then(|bytes| value::currency_of(bytes).ok())
            .map_or(0, |(_, exponent)| exponent);
        let fields = self.fields.iter().map(|field| field_to_json(field, exponent)).collect();
        let mut members = alloc::vec![
            ("format", Json::of(FORMAT)),
            ("fields", Json::Object(fields)),
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
        Json::Object(members.into_iter().map(|(key, json)| (key.to_string(), json)).collect())
    }

    /// Reads JSON.
    pub fn from_json(text: &str) -> core::result::Result<Receipt, JsonError> {
        let json = parse(text, JSON_MAX)?;
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
        ];
        let o = json.object(&known)?;
        o.expect_format(FORMAT)?;
        let receipt = Receipt {
            fields: o.need("fields", fields_from_json)?,
            entry: o.need("entry", entry_from_json)?,
            log_index: o.need("log_index", Json::int)?,
            inclusion: o.need("inclusion", |json| digests(json, PROOF_MAX))?,
            shard: o.need("shard", shard_from_json)?,
            shard_proof: o.need("shard_proof", |json| digests(json, SHARD_PROOF_MAX))?,
            header: o.need("header", header_from_json)?,
            history: o.maybe("history", history_from_json)?,
            certificate: o.need("certificate", certificate_from_json)?,
        };
        match receipt.encode().len() {
            0..=super::RECEIPT_MAX => Ok(receipt),
            n => wrong(alloc::format!("is a receipt of {n} bytes, above {}", super::RECEIPT_MAX)),
        }
    }
}

fn field_to_json(field: &ReceiptField, exponent: u8) -> (String, Json) {
    let known = by_tag(DOCUMENT, field.tag);
    let name = known.map_or_else(|| name_of_unknown(field.tag), |known| known.name.to_string());
    let json = match &field.content {
        Content::Hidden(digest) => object([("digest", Json::hex(digest))]),
        Content::Shown { salt, value } => {
            let value = match known {
                Some(known) => value_to_json(known.kind, value, exponent),
                None => object([("malformed", Json::hex(value))]),
            };
            object([("salt", Json::hex(salt)), ("value", value)])
        }
    };
    (name, json)
}

fn fields_from_json(json: &Json) -> Result<Vec<ReceiptField>> {
    let members = json.members()?;
    if members.len() as u64 > FIELDS_MAX {
        return wrong(alloc::format!("has {} fields, above {FIELDS_MAX}", members.len()));
    }
    let currency = members.iter().find(|(name, _)| name == "currency");
    let exponent = match currency {
        Some((name, json)) => {
            let field = field_from_json(name, json, 0).map_err(|error| error.under(name))?;
            field.value().and_then(|bytes| bytes.last().copied()).unwrap_or(0)
        }
        None => 0,
    };
    let mut fields = members
        .iter()
        .map(|(name, json)| field_from_json(name, json, exponent).map_err(|e| e.under(name)))
        .collect::<Result<Vec<ReceiptField>>>()?;
    fields.sort_by_key(|field| field.tag);
    Ok(fields)
}

fn field_from_json(name: &str, json: &Json, exponent: u8) -> Result<ReceiptField> {
    let o = json.object(&["digest", "salt", "value"])?;
    let known = by_name(DOCUMENT, name);
    let tag = known.map(|known| known.tag).or_else(|| unknown_tag(name));
    let Some(tag) = tag else { return wrong("is no known field") };
    if o.has("digest") {
        if o.has("salt") || o.has("value") {
            return wrong("must have a digest, or a salt and a value");
        }
        return Ok(ReceiptField::hidden(tag, o.need("digest", Json::array)?));
    }
    let salt = o.need("salt", Json::array)?;
    let value = o.need("value", |json| match known {
        Some(known) => value_from_json(known.kind, json, exponent),
        None => wrong("belongs to a field that is not known"),
    })?;
    Ok(ReceiptField { tag, content: Content::Shown { salt, value } })
}

/// The tag in a name as `tag_4711`, where this version has no name for it.
fn unknown_tag(name: &str) -> Option<Tag> {
    let tag: Tag = name.strip_prefix("tag_")?.parse().ok()?;
    (name_of_unknown(tag) == name && by_tag(DOCUMENT, tag).is_none()).then_some(tag)
}

fn history_from_json(json: &Json) -> Result<(Header, Vec<Digest>)> {
    let o = json.object(&["header", "proof"])?;
    Ok((o.need("header", header_from_json)?, o.need("proof", |json| digests(json, PROOF_MAX))?))
}
