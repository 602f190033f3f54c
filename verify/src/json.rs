//! Documents and records as JSON, for people and for programs in other languages.
//!
//! The JSON of a value is as strict as its bytes: one form each, exact decimals in strings, unknown
//! and repeated keys refused. A record in JSON carries the signature of the compact one, because
//! the signature is over the commitment.
//!
//! Invariants
//! - Reading what was written gives the same bytes.
//! - Every refusal names the path of the field and the reason.

mod fields;
mod opened;
mod tree;

pub(crate) mod chain;

pub use tree::{Json, JsonError};

pub(crate) use fields::{error_of_flaw, exponent_from_json, exponent_of};
pub(crate) use opened::{opened_from_json, opened_to_json};
pub(crate) use tree::{Object, Result, object, parse, wrong};

use crate::document::{Document, Fields, Secret};
use crate::fields::{DOCUMENT, Field, LINE, REGISTRY, STATUS, Tag, name_of};
use crate::record::{Draft, FIELDS_MAX, RECORD_MAX, Record, RecordKind};
use crate::status::Status;
use crate::value::{self, Cause, Flaw, LINE_BYTES_MAX, LINES_MAX};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use piaogen_crypto::sm2::Signature;

/// Most bytes of a document in JSON.
pub const DOCUMENT_JSON_MAX: usize = 1 << 26;
/// Most bytes of anything else in JSON.
pub const JSON_MAX: usize = 1 << 20;
/// Most bytes of a status proof or a history in JSON.
pub const STATUS_JSON_MAX: usize = 1 << 23;
/// The key `format` of a document.
pub const DOCUMENT_FORMAT: &str = "piaogen/document/1";
/// The key `format` of a record.
pub const RECORD_FORMAT: &str = "piaogen/record/1";
/// The key `format` of a status document.
pub const STATUS_DOCUMENT_FORMAT: &str = "piaogen/status-document/1";

/// The fields of a document as an object.
pub fn fields_to_json<V: AsRef<[u8]>>(pairs: &[(Tag, V)]) -> Json {
    fields::to_json(DOCUMENT, pairs, exponent_of(pairs))
}

/// How many decimals the amounts of these fields have; 0 without a currency.
pub fn exponent(fields: &Fields) -> u8 {
    exponent_of(fields.pairs())
}

/// The fields of a registry record as an object.
pub fn registry_to_json<V: AsRef<[u8]>>(pairs: &[(Tag, V)]) -> Json {
    fields::to_json(REGISTRY, pairs, 0)
}

/// The members of a line as an object; `exponent` is that of the document's currency.
pub fn line_to_json<V: AsRef<[u8]>>(pairs: &[(Tag, V)], exponent: u8) -> Json {
    fields::to_json(LINE, pairs, exponent)
}

/// A document as indented text.
pub fn document_to_json(document: &Document) -> String {
    let exponent = exponent_of(document.fields.pairs());
    let mut members = alloc::vec![
        ("format".to_string(), Json::of(DOCUMENT_FORMAT)),
        ("secret".to_string(), Json::hex(&document.secret)),
        ("fields".to_string(), fields_to_json(document.fields.pairs())),
    ];
    if !document.lines.is_empty() {
        let lines = document.lines.iter().map(|line| line_to_json(line.pairs(), exponent));
        members.push(("lines".to_string(), Json::List(lines.collect())));
    }
    Json::Object(members).pretty()
}

/// Reads a document. Where it has lines but no field `lines`, the field is computed; where it has
/// both, [`Document::check`] says whether they agree.
pub fn document_from_json(text: &str) -> core::result::Result<Document, JsonError> {
    let json = parse(text, DOCUMENT_JSON_MAX)?;
    let object = json.object(&["format", "secret", "fields", "lines"])?;
    object.expect_format(DOCUMENT_FORMAT)?;
    let secret = object.need("secret", Json::array)?;
    let exponent = object.need("fields", exponent_from_json)?;
    let fields = object.need("fields", |json| read_fields(DOCUMENT, json, exponent))?;
    let lines = object.maybe("lines", |json| {
        if *json == Json::List(Vec::new()) {
            return wrong("must not be empty; leave it out");
        }
        json.list(LINES_MAX.into(), |line| read_line(line, exponent))
    })?;
    let fields: Fields = fields.into_iter().collect();
    let mut document = Document { secret, fields, lines: lines.unwrap_or_default() };
    if document.fields.get(crate::fields::tag::LINES).is_none() {
        document.seal();
    }
    Ok(document)
}

fn read_fields(table: &'static [Field], json: &Json, exponent: u8) -> Result<Vec<(Tag, Vec<u8>)>> {
    let pairs = fields::from_json(table, json, exponent)?;
    match pairs.len() as u64 {
        0..=FIELDS_MAX => Ok(pairs),
        n => wrong(alloc::format!("has {n} fields, above {FIELDS_MAX}")),
    }
}

fn read_line(json: &Json, exponent: u8) -> Result<Fields> {
    let pairs = fields::from_json(LINE, json, exponent)?;
    if pairs.is_empty() {
        return wrong("must not be empty");
    }
    let mut bytes = Vec::new();
    value::put_members(&mut bytes, &pairs);
    match bytes.len() as u64 {
        0..=LINE_BYTES_MAX => Ok(pairs.into_iter().collect()),
        n => wrong(alloc::format!("has {n} bytes, above {LINE_BYTES_MAX}")),
    }
}

/// A record as one line.
pub fn record_to_json(record: &Record<'_>) -> String {
    let body = match record.kind.is_registry() {
        true => registry_to_json(&record.fields),
        false => {
            let (table, exponent) = (record.kind.table(), exponent_of(&record.fields));
            let fields = fields::to_json(table, &record.fields, exponent);
            object([("secret", Json::hex(&record.secret)), ("fields", fields)])
        }
    };
    object([
        ("format", Json::of(RECORD_FORMAT)),
        ("kind", Json::of(record.kind.name())),
        ("signer", Json::hex(&record.signer)),
        ("signed_at", Json::Int(record.signed_at.into())),
        ("body", body),
        ("signature", Json::hex(&record.signature.0)),
    ])
    .to_string()
}

/// Reads a record into its compact encoding.
pub fn record_from_json(text: &str) -> core::result::Result<Vec<u8>, JsonError> {
    let json = parse(text, JSON_MAX)?;
    let object = json.object(&["format", "kind", "signer", "signed_at", "body", "signature"])?;
    object.expect_format(RECORD_FORMAT)?;
    let kind = object.need("kind", kind_from_json)?;
    let signer = object.need("signer", Json::array)?;
    let signed_at = object.need("signed_at", Json::int)?;
    let (secret, fields) = object.need("body", |body| read_body(kind, body))?;
    let signature = Signature(object.need("signature", Json::array)?);
    let draft = Draft { kind, signed_at, secret, fields: &fields };
    let bytes = draft.encode(&signer, &signature);
    if bytes.len() > RECORD_MAX {
        return wrong(alloc::format!("is a record of {} bytes, above {RECORD_MAX}", bytes.len()));
    }
    Ok(bytes)
}

/// A status document as indented text. Whoever has it can show any part of it.
pub fn status_to_json(status: &Status) -> String {
    let fields = status.fields();
    let fields = fields::to_json(STATUS, fields.pairs(), exponent_of(fields.pairs()));
    object([
        ("format", Json::of(STATUS_DOCUMENT_FORMAT)),
        ("secret", Json::hex(&status.secret)),
        ("status", fields),
    ])
    .pretty()
}

/// Reads a status document.
pub fn status_from_json(text: &str) -> core::result::Result<Status, JsonError> {
    let json = parse(text, JSON_MAX)?;
    let object = json.object(&["format", "secret", "status"])?;
    object.expect_format(STATUS_DOCUMENT_FORMAT)?;
    let secret = object.need("secret", Json::array)?;
    let exponent = object.need("status", exponent_from_json)?;
    object.need("status", |json| {
        let fields: Fields = read_fields(STATUS, json, exponent)?.into_iter().collect();
        Status::of_fields(secret, &fields)
            .map_err(|error| error_of_flaw(error.flaw).under(&name_of(error.tag)))
    })
}

type Body = (Secret, Vec<(Tag, Vec<u8>)>);

fn read_body(kind: RecordKind, body: &Json) -> Result<Body> {
    if kind.is_registry() {
        return Ok(([0; 16], read_fields(REGISTRY, body, 0)?));
    }
    let body = body.object(&["secret", "fields"])?;
    let secret = body.need("secret", Json::array)?;
    let exponent = body.need("fields", exponent_from_json)?;
    Ok((secret, body.need("fields", |json| read_fields(kind.table(), json, exponent))?))
}

pub(crate) fn kind_from_json(json: &Json) -> Result<RecordKind> {
    let name = json.text()?;
    RecordKind::ALL
        .iter()
        .copied()
        .find(|kind| kind.name() == name)
        .ok_or_else(|| error_of_flaw(Flaw::Malformed(Cause::UnknownKind)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::tag;
    use crate::record;
    use piaogen_crypto::sm2::SecretKey;

    fn document() -> Document {
        let mut fields = Fields::new();
        fields.set_text(tag::NUMBER, "25442000000000000001");
        fields.set_text(tag::SELLER_NAME, "深圳市某某科技有限公司");
        fields.set(tag::ISSUE_DATE, value::date(2026, 11, 21));
        fields.set(tag::CURRENCY, value::currency(*b"CNY", 2));
        fields.set_amount(tag::TOTAL_GROSS, -11_300);
        fields.set(2022, value::time(-5));
        fields.set(tag::ORIGINAL_UNKNOWN, alloc::vec![1]);
        let entry = alloc::vec![
            (tag::TAXABLE, value::amount(10_000)),
            (tag::VAT_RATE, value::decimal(13, 0)),
        ];
        fields.set(tag::VAT_BREAKDOWN, value::list(&[entry]));
        let source = alloc::vec![(2011, alloc::vec![7; 32]), (2013, value::uint(u64::MAX))];
        fields.set(1024, value::list(&[source]));
        let mut line = Fields::new();
        line.set_text(153, "纸\n张");
        line.set(129, value::decimal(125, 3));
        line.set_amount(tag::LINE_NET, 10_000);
        let mut document = Document { secret: [1; 16], fields, lines: alloc::vec![line] };
        document.seal();
        document
    }

    #[test]
    fn documents_and_records_round_trip() {
        let document = document();
        assert_eq!(document.check(), Ok(()));
        assert_eq!(document_from_json(&document_to_json(&document)), Ok(document.clone()));
        let draft = Draft {
            kind: RecordKind::IssueRed,
            signed_at: 7,
            secret: document.secret,
            fields: document.fields.pairs(),
        };
        let bytes = draft.sign(&[9; 32], &SecretKey::from_bytes(&[7; 32]).unwrap());
        let text = record_to_json(&record::decode(&bytes).unwrap());
        assert!(!text.contains('\n'));
        assert_eq!(record_from_json(&text), Ok(bytes));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_path() {
        let text = document_to_json(&document());
        let cases = [
            ("\"-113.00\"", "\"-113.0\"", "fields.total_gross has 1 decimals, the currency has 2"),
            ("\"-113.00\"", "-113.00", "fields.total_gross must be a string"),
            ("\"-113.00\"", "\"-0113.00\"", "fields.total_gross must be written \"-113.00\""),
            ("\"13\"", "\"13.0\"", "fields.vat_breakdown[0].rate must be written \"13\""),
            ("\"100.00\"", "\"x\"", "taxable must be an amount as \"113.00\""),
            ("2026-11-21", "2026-02-30", "fields.issue_date is out of range"),
            ("\"rate\"", "\"rat\"", "fields.vat_breakdown[0].rat is no known field"),
            ("\"CNY\"", "\"cny\"", "fields.currency has characters that are not allowed"),
            ("\"secret\"", "\"secrets\"", "secrets is unknown here"),
            ("0.125", "0.1250", "lines[0].quantity must be written \"0.125\""),
            (": true", ": false", "fields.original_unknown must be true, or be absent"),
            ("document/1", "document/2", "format is \"piaogen/document/2\", not"),
            ("25442000000000000001", "", "fields.number is not in canonical form"),
        ];
        for (good, bad, message) in cases {
            let error = document_from_json(&text.replacen(good, bad, 1)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn lines_without_their_field_are_sealed() {
        let document = document();
        let mut open = document.clone();
        open.fields.remove(tag::LINES);
        assert_eq!(document_from_json(&document_to_json(&open)), Ok(document));
    }
}
