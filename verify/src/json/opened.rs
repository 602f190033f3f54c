//! Shown and hidden fields as JSON (`FORMAT.md` section 9).
//!
//! Invariants
//! - From fields to JSON and back nothing is lost but a shown value that is not canonical.

use super::fields::{name_of_unknown, value_from_json, value_to_json};
use super::tree::{Json, Result, object, wrong};
use crate::fields::{Field, Tag, by_name, by_tag, tag};
use crate::opening::{Content, OpenedField, shown};
use crate::record::FIELDS_MAX;
use crate::value;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The fields as an object, names in the order of tags.
pub(crate) fn opened_to_json(table: &'static [Field], fields: &[OpenedField]) -> Json {
    let exponent = shown(fields, tag::CURRENCY)
        .and_then(|bytes| value::currency_of(bytes).ok())
        .map_or(0, |(_, exponent)| exponent);
    Json::Object(fields.iter().map(|field| field_to_json(table, field, exponent)).collect())
}

fn field_to_json(table: &'static [Field], field: &OpenedField, exponent: u8) -> (String, Json) {
    let known = by_tag(table, field.tag);
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

/// Reads an object of fields of this table, shown or hidden; tags come out ascending.
pub(crate) fn opened_from_json(table: &'static [Field], json: &Json) -> Result<Vec<OpenedField>> {
    let members = json.members()?;
    if members.len() as u64 > FIELDS_MAX {
        return wrong(alloc::format!("has {} fields, above {FIELDS_MAX}", members.len()));
    }
    let currency = members.iter().find(|(name, _)| name == "currency");
    let exponent = match currency {
        Some((name, json)) => {
            let field = field_from_json(table, name, json, 0).map_err(|error| error.under(name))?;
            field.value().and_then(|bytes| bytes.last().copied()).unwrap_or(0)
        }
        None => 0,
    };
    let mut fields = members
        .iter()
        .map(|(name, json)| field_from_json(table, name, json, exponent).map_err(|e| e.under(name)))
        .collect::<Result<Vec<OpenedField>>>()?;
    fields.sort_by_key(|field| field.tag);
    Ok(fields)
}

fn field_from_json(
    table: &'static [Field],
    name: &str,
    json: &Json,
    exponent: u8,
) -> Result<OpenedField> {
    let o = json.object(&["digest", "salt", "value"])?;
    let known = by_name(table, name);
    let tag = known.map(|known| known.tag).or_else(|| unknown_tag(table, name));
    let Some(tag) = tag else { return wrong("is no known field") };
    if o.has("digest") {
        if o.has("salt") || o.has("value") {
            return wrong("must have a digest, or a salt and a value");
        }
        return Ok(OpenedField::hidden(tag, o.need("digest", Json::array)?));
    }
    let salt = o.need("salt", Json::array)?;
    let value = o.need("value", |json| match known {
        Some(known) => value_from_json(known.kind, json, exponent),
        None => wrong("belongs to a field that is not known"),
    })?;
    Ok(OpenedField { tag, content: Content::Shown { salt, value } })
}

/// The tag in a name as `tag_4711`, where this version has no name for it.
fn unknown_tag(table: &'static [Field], name: &str) -> Option<Tag> {
    let tag: Tag = name.strip_prefix("tag_")?.parse().ok()?;
    (name_of_unknown(tag) == name && by_tag(table, tag).is_none()).then_some(tag)
}
