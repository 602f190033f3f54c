//! Field values as JSON (`FORMAT.md` sections 2.1 and 2.2).
//!
//! Reading is as strict as the compact encoding: the JSON form of a value is unique too, so a value
//! that would have to be rounded, padded or normalized is refused with the reason.
//!
//! Invariants
//! - What is read is canonical.
//! - Amounts have exactly the decimals of the currency beside them; without a currency they are in
//!   minor units.

use super::opened::{opened_from_json, opened_to_json};
use super::tree::{Json, JsonError, Object, Result, object, wrong};
use crate::document::find;
use crate::fields::{DOCUMENT, Field, Kind, Tag, by_name, by_tag, tag};
use crate::header::VALIDATORS_MAX;
use crate::opening;
use crate::value::{self, Flaw, HISTORY_MAX, LIST_MAX};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The fields as an object, names in the order of tags.
pub(crate) fn to_json<V: AsRef<[u8]>>(
    table: &'static [Field],
    pairs: &[(Tag, V)],
    exponent: u8,
) -> Json {
    let member = |(tag, bytes): &(Tag, V)| match by_tag(table, *tag) {
        Some(field) => {
            (field.name.to_string(), value_to_json(field.kind, bytes.as_ref(), exponent))
        }
        None => (name_of_unknown(*tag), malformed(bytes.as_ref())),
    };
    Json::Object(pairs.iter().map(member).collect())
}

/// The exponent of the currency among these fields; 0 where there is none.
pub(crate) fn exponent_of<V: AsRef<[u8]>>(pairs: &[(Tag, V)]) -> u8 {
    let currency = find(pairs, tag::CURRENCY).and_then(|bytes| value::currency_of(bytes).ok());
    currency.map_or(0, |(_, exponent)| exponent)
}

/// The name of a tag that this version does not know.
pub(crate) fn name_of_unknown(tag: Tag) -> String {
    alloc::format!("tag_{tag}")
}

/// Bytes that are no canonical value: shown, never read back.
fn malformed(bytes: &[u8]) -> Json {
    object([("malformed", Json::hex(bytes))])
}

/// One value.
pub(crate) fn value_to_json(kind: Kind, bytes: &[u8], exponent: u8) -> Json {
    match value::check(kind, bytes) {
        Ok(()) => canonical_to_json(kind, bytes, exponent).unwrap_or_else(|_| malformed(bytes)),
        Err(_) => malformed(bytes),
    }
}

fn canonical_to_json(kind: Kind, bytes: &[u8], exponent: u8) -> core::result::Result<Json, Flaw> {
    Ok(match kind {
        Kind::Text(_) | Kind::Ascii(_) => Json::of(String::from_utf8_lossy(bytes)),
        Kind::Date => {
            let (year, month, day) = value::date_of(bytes)?;
            Json::of(alloc::format!("{year:04}-{month:02}-{day:02}"))
        }
        Kind::Time => Json::Int(value::time_of(bytes)?.into()),
        Kind::Amount => Json::of(value::decimal_string(value::amount_of(bytes)?, exponent)),
        Kind::Decimal => {
            let (mantissa, scale) = value::decimal_of(bytes)?;
            Json::of(value::decimal_string(mantissa, scale))
        }
        Kind::Uint => Json::Int(value::uint_of(bytes)?.into()),
        Kind::Currency => {
            let (code, exponent) = value::currency_of(bytes)?;
            let code = Json::of(String::from_utf8_lossy(&code));
            object([("code", code), ("exponent", Json::Int(exponent.into()))])
        }
        Kind::Digest | Kind::Key => Json::hex(bytes),
        Kind::Keys => Json::hexes(&value::keys_of(bytes)?),
        Kind::Flag => Json::Flag(true),
        Kind::Lines => {
            let (count, root) = value::lines_of(bytes)?;
            object([("count", Json::Int(count.into())), ("root", Json::hex(&root))])
        }
        Kind::List(members) => Json::List(
            value::entries_of(bytes)?
                .iter()
                .map(|entry| to_json(members, entry, exponent))
                .collect(),
        ),
        Kind::Opening => opened_to_json(DOCUMENT, &opening::decode(bytes)?),
        Kind::History => Json::List(
            value::history_of(bytes)?
                .iter()
                .map(|(index, id)| {
                    object([("index", Json::Int((*index).into())), ("id", Json::hex(id))])
                })
                .collect(),
        ),
    })
}

/// Reads an object of fields of this table; tags come out ascending.
pub(crate) fn from_json(
    table: &'static [Field],
    json: &Json,
    exponent: u8,
) -> Result<Vec<(Tag, Vec<u8>)>> {
    let mut pairs = Vec::new();
    for (name, value) in json.members()? {
        let read = || match by_name(table, name) {
            Some(field) => Ok((field.tag, value_from_json(field.kind, value, exponent)?)),
            None => wrong("is no known field"),
        };
        pairs.push(read().map_err(|error| error.under(name))?);
    }
    pairs.sort_by_key(|(tag, _)| *tag);
    Ok(pairs)
}

/// Reads the exponent of the currency in an object of fields; 0 where there is none.
pub(crate) fn exponent_from_json(json: &Json) -> Result<u8> {
    let members = json.members()?;
    let Some((name, value)) = members.iter().find(|(name, _)| name == "currency") else {
        return Ok(0);
    };
    let bytes = value_from_json(Kind::Currency, value, 0).map_err(|error| error.under(name))?;
    Ok(bytes.last().copied().unwrap_or(0))
}

/// Reads one value.
pub(crate) fn value_from_json(kind: Kind, json: &Json, exponent: u8) -> Result<Vec<u8>> {
    let bytes = match kind {
        Kind::Text(_) | Kind::Ascii(_) => json.text()?.as_bytes().to_vec(),
        Kind::Date => date_from_json(json)?,
        Kind::Time => value::time(json.int()?),
        Kind::Amount => amount_from_json(json, exponent)?,
        Kind::Decimal => decimal_from_json(json)?,
        Kind::Uint => value::uint(json.int()?),
        Kind::Currency => currency_from_json(&json.object(&["code", "exponent"])?)?,
        Kind::Digest | Kind::Key => json.bytes()?,
        Kind::Keys => value::keys(&json.list(VALIDATORS_MAX, Json::array)?),
        Kind::Flag if *json == Json::Flag(true) => alloc::vec![1],
        Kind::Flag => return wrong("must be true, or be absent"),
        Kind::Lines => lines_from_json(&json.object(&["count", "root"])?)?,
        Kind::List(members) => {
            let entries = json.list(LIST_MAX, |entry| from_json(members, entry, exponent))?;
            value::list(&entries)
        }
        Kind::Opening => opening::encode(&opened_from_json(DOCUMENT, json)?),
        Kind::History => value::history(&json.list(HISTORY_MAX, |entry| {
            let o = entry.object(&["index", "id"])?;
            Ok((o.need("index", Json::int)?, o.need("id", Json::array)?))
        })?),
    };
    value::check(kind, &bytes).map_err(error_of_flaw)?;
    Ok(bytes)
}

/// What is wrong with a value, in words.
pub(crate) fn error_of_flaw(flaw: Flaw) -> JsonError {
    let reason = match flaw {
        Flaw::Malformed(cause) => cause.words().to_string(),
        Flaw::Limit { value, limit } => alloc::format!("has {value}, above {limit}"),
    };
    JsonError { path: String::new(), reason }
}

fn date_from_json(json: &Json) -> Result<Vec<u8>> {
    let text = json.text()?;
    let number = |range: core::ops::Range<usize>| {
        let digits = text.get(range)?;
        let all = digits.bytes().all(|byte| byte.is_ascii_digit());
        all.then(|| digits.parse::<u32>().ok()).flatten()
    };
    let dashes = text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    match (dashes, number(0..4), number(5..7), number(8..10)) {
        (true, Some(year), Some(month), Some(day)) => Ok(value::date(year, month, day)),
        _ => wrong("must be a day as \"2026-11-21\""),
    }
}

fn amount_from_json(json: &Json, exponent: u8) -> Result<Vec<u8>> {
    let text = json.text()?;
    let Some((minor, decimals)) = value::parse_decimal(text) else {
        return wrong("must be an amount as \"113.00\"");
    };
    if decimals != exponent {
        return wrong(alloc::format!("has {decimals} decimals, the currency has {exponent}"));
    }
    same_again(text, value::decimal_string(minor, exponent))?;
    Ok(value::amount(minor))
}

fn decimal_from_json(json: &Json) -> Result<Vec<u8>> {
    let text = json.text()?;
    let Some((mantissa, scale)) = value::parse_decimal(text) else {
        return wrong("must be a decimal number as \"0.125\"");
    };
    let bytes = value::decimal(mantissa, scale);
    let (mantissa, scale) = value::decimal_of(&bytes).map_err(error_of_flaw)?;
    same_again(text, value::decimal_string(mantissa, scale))?;
    Ok(bytes)
}

fn same_again(text: &str, canonical: String) -> Result<()> {
    if text == canonical { Ok(()) } else { wrong(alloc::format!("must be written {canonical:?}")) }
}

fn currency_from_json(object: &Object<'_>) -> Result<Vec<u8>> {
    let code = object.need("code", |code| {
        let code = code.text()?.as_bytes();
        code.try_into().or_else(|_| wrong("must be three letters"))
    })?;
    Ok(value::currency(code, object.need("exponent", Json::int)?))
}

fn lines_from_json(object: &Object<'_>) -> Result<Vec<u8>> {
    let mut bytes = object.need("count", Json::int::<u32>)?.to_be_bytes().to_vec();
    bytes.extend_from_slice(&object.need("root", Json::array::<32>)?);
    Ok(bytes)
}
