//! Entries, shard entries and headers as JSON (`FORMAT.md` section 9).
//!
//! Invariants
//! - From JSON to bytes and back nothing is lost: what has no words is hex.

use super::tree::{Json, Result, object, wrong};
use super::{error_of_flaw, kind_from_json};
use crate::conflict::{Conflict, Detail, Form};
use crate::entry::{Entry, Outcome, SUBJECT_MAX};
use crate::header::{Header, ShardEntry};
use crate::record::{self, subject_parts};
use crate::value::{Cause, Flaw};
use alloc::string::ToString;
use alloc::vec::Vec;
use piaogen_crypto::Digest;

fn int(n: impl Into<i128>) -> Json {
    Json::Int(n.into())
}

/// At most `limit` digests.
pub(crate) fn digests(json: &Json, limit: u64) -> Result<Vec<Digest>> {
    json.list(limit, Json::array)
}

/// An entry of a record log.
pub(crate) fn entry_to_json(entry: &Entry) -> Json {
    let mut members = Vec::new();
    let mut put = |key: &str, value: Json| members.push((key.to_string(), value));
    put("kind", entry.kind.map_or(Json::Null, |kind| Json::of(kind.name())));
    put("offset", int(entry.offset));
    match readable_subject(&entry.subject) {
        Some((scheme, number)) => {
            put("scheme", Json::of(scheme));
            put("number", Json::of(number));
        }
        None if entry.subject.is_empty() => {}
        None => put("subject", Json::hex(&entry.subject)),
    }
    put("outcome", Json::of(entry.outcome.name()));
    if let Some(detail) = detail_to_json(&entry.outcome) {
        put("detail", detail);
    }
    put("commitment", Json::hex(&entry.commitment));
    put("signer", Json::hex(&entry.signer));
    if let Some(issue) = entry.issue {
        put("issue", int(issue));
    }
    put("status", Json::hex(&entry.status));
    Json::Object(members)
}

/// Scheme and number, where the subject is made of just these.
fn readable_subject(subject: &[u8]) -> Option<(&str, &str)> {
    let (scheme, number) = subject_parts(subject)?;
    let same = record::subject(scheme.as_bytes(), None, number.as_bytes()) == subject;
    same.then_some((scheme, number))
}

fn detail_to_json(outcome: &Outcome) -> Option<Json> {
    Some(match outcome {
        Outcome::Replay { first } => object([("first", int(*first))]),
        Outcome::DupDifferent { first, commitment } => {
            object([("first", int(*first)), ("commitment", Json::hex(commitment))])
        }
        Outcome::Malformed { tag, cause } => {
            object([("tag", int(*tag)), ("cause", Json::of(cause.name()))])
        }
        Outcome::Limit { tag, value, limit } => {
            object([("tag", int(*tag)), ("value", int(*value)), ("limit", int(*limit))])
        }
        Outcome::Totals { rule, difference } => {
            object([("rule", int(*rule)), ("difference", Json::of(difference.to_string()))])
        }
        Outcome::ClockSkew { tag } => object([("tag", int(*tag))]),
        Outcome::WrongPartition { expected } => object([("partition", int(*expected))]),
        Outcome::StaleSet { set } => object([("set", Json::hex(set))]),
        Outcome::Conflict { detail, .. } => match detail {
            Detail::None => return None,
            Detail::Index(n) => object([("index", int(*n))]),
            Detail::Time(ms) => object([("time_ms", int(*ms))]),
            Detail::Amount(n) => object([("amount", Json::of(n.to_string()))]),
            Detail::Number(n) => object([("number", int(*n))]),
            Detail::Digest(digest) => object([("commitment", Json::hex(digest))]),
        },
        _ => return None,
    })
}

/// Reads an entry.
pub(crate) fn entry_from_json(json: &Json) -> Result<Entry> {
    let known = [
        "kind",
        "offset",
        "scheme",
        "number",
        "subject",
        "outcome",
        "detail",
        "commitment",
        "signer",
        "issue",
        "status",
    ];
    let o = json.object(&known)?;
    let kind = o.need("kind", |json| match json {
        Json::Null => Ok(None),
        name => kind_from_json(name).map(Some),
    })?;
    let subject = match (o.has("scheme") || o.has("number"), o.has("subject")) {
        (true, false) => {
            let scheme = o.need("scheme", Json::text)?;
            let number = o.need("number", Json::text)?;
            record::subject(scheme.as_bytes(), None, number.as_bytes())
        }
        (false, true) => o.need("subject", |json| match json.bytes()? {
            hex if hex.is_empty() || readable_subject(&hex).is_some() => {
                wrong("must be given as scheme and number")
            }
            hex => Ok(hex),
        })?,
        (false, false) => Vec::new(),
        (true, true) => return wrong("has a subject twice"),
    };
    if subject.len() as u64 > SUBJECT_MAX || readable_subject(&subject).is_none() && o.has("scheme")
    {
        return wrong(alloc::format!("has a subject above {SUBJECT_MAX} bytes"));
    }
    let name = o.need("outcome", Json::text)?;
    let outcome = match o.has("detail") {
        false => outcome_from_json(name, None)?,
        true => o.need("detail", |detail| outcome_from_json(name, Some(detail)))?,
    };
    Ok(Entry {
        kind,
        offset: o.need("offset", Json::int)?,
        subject,
        outcome,
        commitment: o.need("commitment", Json::array)?,
        signer: o.need("signer", Json::array)?,
        issue: o.maybe("issue", |json| match json.int()? {
            u64::MAX => wrong("is out of range"),
            issue => Ok(issue),
        })?,
        status: o.need("status", Json::array)?,
    })
}

fn outcome_from_json(name: &str, detail: Option<&Json>) -> Result<Outcome> {
    let plain = [
        Outcome::Accepted,
        Outcome::BadSignature,
        Outcome::NotRegistered,
        Outcome::KeyRevoked,
        Outcome::WrongRole,
        Outcome::WrongActor,
        Outcome::TypeNotAccepted,
        Outcome::UnknownScheme,
        Outcome::PartyExists,
        Outcome::KeyInUse,
        Outcome::NotFound,
        Outcome::AlreadySigned,
    ];
    let Some(detail) = detail else {
        let plain = plain.into_iter().find(|outcome| outcome.name() == name);
        let conflict = || {
            let known = Conflict::from_name(name).filter(|known| known.form() == Form::None);
            known.map(Outcome::conflict)
        };
        return match plain.or_else(conflict) {
            Some(outcome) => Ok(outcome),
            None => wrong(alloc::format!("has the outcome {name:?}, unknown or without detail")),
        };
    };
    match name {
        "REPLAY" => {
            let first = detail.object(&["first"])?.need("first", Json::int)?;
            Ok(Outcome::Replay { first })
        }
        "DUP_DIFFERENT" => {
            let o = detail.object(&["first", "commitment"])?;
            let commitment = o.need("commitment", Json::array)?;
            Ok(Outcome::DupDifferent { first: o.need("first", Json::int)?, commitment })
        }
        "MALFORMED" => {
            let o = detail.object(&["tag", "cause"])?;
            let cause = o.need("cause", cause_from_json)?;
            Ok(Outcome::Malformed { tag: o.need("tag", Json::int)?, cause })
        }
        "LIMIT" => {
            let o = detail.object(&["tag", "value", "limit"])?;
            let (tag, value) = (o.need("tag", Json::int)?, o.need("value", Json::int)?);
            Ok(Outcome::Limit { tag, value, limit: o.need("limit", Json::int)? })
        }
        "TOTALS" => {
            let o = detail.object(&["rule", "difference"])?;
            let difference = o.need("difference", difference_from_json)?;
            Ok(Outcome::Totals { rule: o.need("rule", Json::int)?, difference })
        }
        "CLOCK_SKEW" => {
            Ok(Outcome::ClockSkew { tag: detail.object(&["tag"])?.need("tag", Json::int)? })
        }
        "WRONG_PARTITION" => {
            let expected = detail.object(&["partition"])?.need("partition", Json::int)?;
            Ok(Outcome::WrongPartition { expected })
        }
        "STALE_SET" => {
            Ok(Outcome::StaleSet { set: detail.object(&["set"])?.need("set", Json::array)? })
        }
        _ => match Conflict::from_name(name) {
            Some(conflict) => Ok(Outcome::Conflict {
                conflict,
                detail: conflict_detail_from_json(conflict.form(), detail)?,
            }),
            None => wrong(alloc::format!("does not belong to the outcome {name:?}")),
        },
    }
}

fn conflict_detail_from_json(form: Form, json: &Json) -> Result<Detail> {
    Ok(match form {
        Form::None => return wrong("has a detail, and this outcome has none"),
        Form::Index => Detail::Index(json.object(&["index"])?.need("index", Json::int)?),
        Form::Time => Detail::Time(json.object(&["time_ms"])?.need("time_ms", Json::int)?),
        Form::Amount => {
            Detail::Amount(json.object(&["amount"])?.need("amount", difference_from_json)?)
        }
        Form::Number => Detail::Number(json.object(&["number"])?.need("number", Json::int)?),
        Form::Digest => {
            Detail::Digest(json.object(&["commitment"])?.need("commitment", Json::array)?)
        }
    })
}

fn cause_from_json(json: &Json) -> Result<Cause> {
    let name = json.text()?;
    let found = Cause::ALL.into_iter().find(|cause| cause.name() == name);
    found.ok_or_else(|| error_of_flaw(Flaw::Malformed(Cause::Range)))
}

fn difference_from_json(json: &Json) -> Result<i128> {
    let text = json.text()?;
    match text.parse::<i128>() {
        Ok(n) if n.to_string() == text => Ok(n),
        _ => wrong("must be a whole number in a string"),
    }
}

/// A shard entry.
pub(crate) fn shard_to_json(shard: &ShardEntry) -> Json {
    object([
        ("shard", int(shard.shard)),
        ("next_offset", int(shard.next_offset)),
        ("log_size", int(shard.log_size)),
        ("log_root", Json::hex(&shard.log_root)),
        ("invoices", int(shard.invoices)),
        ("status_root", Json::hex(&shard.status_root)),
    ])
}

/// Reads a shard entry.
pub(crate) fn shard_from_json(json: &Json) -> Result<ShardEntry> {
    let known = ["shard", "next_offset", "log_size", "log_root", "invoices", "status_root"];
    let o = json.object(&known)?;
    Ok(ShardEntry {
        shard: o.need("shard", Json::int)?,
        next_offset: o.need("next_offset", Json::int)?,
        log_size: o.need("log_size", Json::int)?,
        log_root: o.need("log_root", Json::array)?,
        invoices: o.need("invoices", Json::int)?,
        status_root: o.need("status_root", Json::array)?,
    })
}

/// A header.
pub(crate) fn header_to_json(header: &Header) -> Json {
    object([
        ("chain", Json::hex(&header.chain)),
        ("height", int(header.height)),
        ("epoch", int(header.epoch)),
        ("time_ms", int(header.time_ms)),
        ("parent", Json::hex(&header.parent)),
        ("cut", Json::hex(&header.cut)),
        ("shards_root", Json::hex(&header.shards_root)),
        ("history_root", Json::hex(&header.history_root)),
        ("validators", Json::hex(&header.validators)),
        ("next_validators", Json::hex(&header.next_validators)),
        ("shards", int(header.shards)),
        ("records", int(header.records)),
    ])
}

/// Reads a header.
pub(crate) fn header_from_json(json: &Json) -> Result<Header> {
    let known = [
        "chain",
        "height",
        "epoch",
        "time_ms",
        "parent",
        "cut",
        "shards_root",
        "history_root",
        "validators",
        "next_validators",
        "shards",
        "records",
    ];
    let o = json.object(&known)?;
    Ok(Header {
        chain: o.need("chain", Json::array)?,
        height: o.need("height", Json::int)?,
        epoch: o.need("epoch", Json::int)?,
        time_ms: o.need("time_ms", Json::int)?,
        parent: o.need("parent", Json::array)?,
        cut: o.need("cut", Json::array)?,
        shards_root: o.need("shards_root", Json::array)?,
        history_root: o.need("history_root", Json::array)?,
        validators: o.need("validators", Json::array)?,
        next_validators: o.need("next_validators", Json::array)?,
        shards: o.need("shards", Json::int)?,
        records: o.need("records", Json::int)?,
    })
}

impl Header {
    /// The header as JSON.
    pub fn to_json(&self) -> Json {
        header_to_json(self)
    }
}

impl Entry {
    /// The entry as JSON.
    pub fn to_json(&self) -> Json {
        entry_to_json(self)
    }
}

impl ShardEntry {
    /// The shard entry as JSON.
    pub fn to_json(&self) -> Json {
        shard_to_json(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::outcomes;

    #[test]
    fn entries_with_every_outcome_round_trip() {
        let subjects =
            [record::subject(b"CN-EINV", None, b"1"), Vec::new(), alloc::vec![5, 0xff, 1]];
        for (i, outcome) in outcomes().into_iter().enumerate() {
            let entry = Entry {
                kind: (i > 0).then_some(record::RecordKind::IssueRed),
                offset: u64::MAX,
                subject: subjects[i % 3].clone(),
                outcome,
                commitment: [1; 32],
                signer: [2; 32],
                issue: i.is_multiple_of(2).then_some(u64::MAX - 1),
                status: [0; 32],
            };
            assert_eq!(entry_from_json(&entry_to_json(&entry)), Ok(entry));
        }
    }

    #[test]
    fn a_detail_belongs_to_its_outcome() {
        let entry = |outcome: &str, detail: &str| {
            let zeros = "00".repeat(32);
            let text = alloc::format!(
                r#"{{"kind":null,"offset":1,"outcome":"{outcome}",{detail}"commitment":"{zeros}",
                "signer":"{zeros}","status":"{zeros}"}}"#
            );
            entry_from_json(&super::super::parse(&text, 4096).unwrap())
        };
        assert!(entry("ACCEPTED", "").is_ok());
        assert!(entry("REPLAY", "").is_err());
        assert!(entry("REPLAY", r#""detail":{"first":1},"#).is_ok());
        assert!(entry("ACCEPTED", r#""detail":{"first":1},"#).is_err());
        assert!(entry("TOTALS", r#""detail":{"rule":1,"difference":"+5"},"#).is_err());
        assert!(entry("ACCEPTED", r#""subject":"","#).is_err());
    }
}
