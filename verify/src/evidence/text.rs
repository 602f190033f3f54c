//! Evidence as JSON (`FORMAT.md` section 12.2).
//!
//! Invariants
//! - From compact to JSON to compact nothing is lost.

use super::log::LEVEL_MAX;
use super::{
    Certified, Difference, EVIDENCE_MAX, Evidence, LogAt, RewrittenLog, Said, Subtree, Vote,
};
use crate::checkpoint::Checkpoint;
use crate::consistency::certificate_from_json;
use crate::epoch::{changes_from_json, changes_to_json};
use crate::json::chain::{
    digests, header_from_json, header_to_json, shard_from_json, shard_to_json,
};
use crate::json::{Json, JsonError, Object, Result, STATUS_JSON_MAX, object, parse, wrong};
use crate::merkle::PROOF_MAX;
use crate::receipt::SHARD_PROOF_MAX;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use piaogen_crypto::sm2::{PublicKey, Signature};

/// The key `format` of evidence.
pub const FORMAT: &str = "piaogen/evidence/1";

type Members = Vec<(&'static str, Json)>;

fn tree(members: Members) -> Json {
    Json::Object(members.into_iter().map(|(key, json)| (key.to_string(), json)).collect())
}

impl Certified {
    fn members(&self) -> Members {
        let mut members = alloc::vec![
            ("header", header_to_json(&self.header)),
            ("certificate", Json::hex(&self.certificate)),
        ];
        if !self.changes.is_empty() {
            members.push(("changes", changes_to_json(&self.changes)));
        }
        members
    }

    fn to_json(&self) -> Json {
        tree(self.members())
    }

    fn from_json(json: &Json) -> Result<Certified> {
        Certified::of(&json.object(&["header", "certificate", "changes"])?)
    }

    fn of(o: &Object<'_>) -> Result<Certified> {
        Ok(Certified {
            header: o.need("header", header_from_json)?,
            certificate: o.need("certificate", certificate_from_json)?,
            changes: o.maybe("changes", changes_from_json)?.unwrap_or_default(),
        })
    }
}

impl LogAt {
    fn to_json(&self) -> Json {
        let mut members = self.block.members();
        members.push(("shard", shard_to_json(&self.shard)));
        members.push(("shard_proof", Json::hexes(&self.shard_proof)));
        tree(members)
    }

    fn from_json(json: &Json) -> Result<LogAt> {
        let o = json.object(&["header", "certificate", "changes", "shard", "shard_proof"])?;
        Ok(LogAt {
            block: Certified::of(&o)?,
            shard: o.need("shard", shard_from_json)?,
            shard_proof: o.need("shard_proof", |json| digests(json, SHARD_PROOF_MAX))?,
        })
    }
}

impl Subtree {
    fn to_json(&self) -> Json {
        object([("hash", Json::hex(&self.hash)), ("proof", Json::hexes(&self.proof))])
    }

    fn from_json(json: &Json) -> Result<Subtree> {
        let o = json.object(&["hash", "proof"])?;
        let hash = o.need("hash", Json::array)?;
        Ok(Subtree { hash, proof: o.need("proof", |json| digests(json, PROOF_MAX))? })
    }
}

impl Difference {
    fn to_json(&self) -> Json {
        object([
            ("level", Json::Int(self.level.into())),
            ("index", Json::Int(self.index.into())),
            ("older", self.older.to_json()),
            ("newer", self.newer.to_json()),
        ])
    }

    fn from_json(json: &Json) -> Result<Difference> {
        let o = json.object(&["level", "index", "older", "newer"])?;
        Ok(Difference {
            level: o.need("level", |json| match json.int()? {
                level @ 0..=LEVEL_MAX => Ok(level),
                level => wrong(alloc::format!("is level {level}, above {LEVEL_MAX}")),
            })?,
            index: o.need("index", Json::int)?,
            older: o.need("older", Subtree::from_json)?,
            newer: o.need("newer", Subtree::from_json)?,
        })
    }
}

impl RewrittenLog {
    fn members(&self) -> Members {
        let mut members = alloc::vec![
            ("older", self.older.to_json()),
            ("newer", self.newer.to_json()),
            ("history", Json::hexes(&self.history)),
        ];
        if let Some(difference) = &self.difference {
            members.push(("difference", difference.to_json()));
        }
        members
    }

    fn of(o: &Object<'_>) -> Result<RewrittenLog> {
        Ok(RewrittenLog {
            older: o.need("older", LogAt::from_json)?,
            newer: o.need("newer", LogAt::from_json)?,
            history: o.need("history", |json| digests(json, PROOF_MAX))?,
            difference: o.maybe("difference", Difference::from_json)?,
        })
    }
}

impl Vote {
    fn to_json(&self) -> Json {
        let kind = match self.said {
            Said::Notarize { .. } => "notarize",
            Said::Finalize { .. } => "finalize",
            Said::Timeout => "timeout",
        };
        let mut members = alloc::vec![("kind", Json::of(kind))];
        if let Some((parent, payload)) = self.said.proposal() {
            members.push(("parent", Json::Int(parent.into())));
            members.push(("payload", Json::hex(payload)));
        }
        members.push(("signature", Json::hex(&self.signature.0)));
        tree(members)
    }

    fn from_json(json: &Json) -> Result<Vote> {
        let o = json.object(&["kind", "parent", "payload", "signature"])?;
        let proposal = |o: &Object<'_>| -> Result<_> {
            Ok((o.need("parent", Json::int)?, o.need("payload", Json::array)?))
        };
        let said = match o.need("kind", Json::text)? {
            "notarize" => {
                let (parent, payload) = proposal(&o)?;
                Said::Notarize { parent, payload }
            }
            "finalize" => {
                let (parent, payload) = proposal(&o)?;
                Said::Finalize { parent, payload }
            }
            "timeout" if !o.has("parent") && !o.has("payload") => Said::Timeout,
            other => return wrong(alloc::format!("is no vote of kind {other:?}")),
        };
        Ok(Vote { said, signature: Signature(o.need("signature", Json::array)?) })
    }
}

fn note_from_json(json: &Json) -> Result<Checkpoint> {
    Checkpoint::parse(json.text()?).or_else(|refusal| wrong(refusal.detail))
}

impl Evidence {
    /// Indented JSON.
    pub fn to_json(&self) -> String {
        let mut members =
            alloc::vec![("format", Json::of(FORMAT)), ("kind", Json::of(self.kind()))];
        match self {
            Evidence::DoubleVote { changes, key, epoch, view, first, second } => {
                members.extend([
                    ("key", Json::hex(&key.to_compressed())),
                    ("epoch", Json::Int((*epoch).into())),
                    ("view", Json::Int((*view).into())),
                    ("first", first.to_json()),
                    ("second", second.to_json()),
                ]);
                if !changes.is_empty() {
                    members.push(("changes", changes_to_json(changes)));
                }
            }
            Evidence::Fork { first, second } => {
                members.extend([("first", first.to_json()), ("second", second.to_json())]);
            }
            Evidence::Rewrite { older, newer, other, proof } => members.extend([
                ("older", older.to_json()),
                ("newer", newer.to_json()),
                ("other", Json::hex(other)),
                ("proof", Json::hexes(proof)),
            ]),
            Evidence::Cosigned { first, second, prefix } => {
                members.extend([
                    ("first", Json::of(first.to_note())),
                    ("second", Json::of(second.to_note())),
                ]);
                if let Some((root, proof)) = prefix {
                    let parts = [("root", Json::hex(root)), ("proof", Json::hexes(proof))];
                    members.push(("prefix", object(parts)));
                }
            }
            Evidence::RewrittenLog(rewritten) => members.extend(rewritten.members()),
        }
        tree(members).pretty()
    }

    /// Reads JSON.
    pub fn from_json(text: &str) -> core::result::Result<Evidence, JsonError> {
        let json = parse(text, STATUS_JSON_MAX)?;
        let kind = json.members()?.iter().find(|(key, _)| key == "kind");
        let evidence = match kind.map(|(_, kind)| kind.text()).transpose()? {
            Some("double_vote") => double_vote(&json)?,
            Some("fork") => {
                let o = known(&json, &["first", "second"])?;
                let first = o.need("first", Certified::from_json)?;
                Evidence::Fork { first, second: o.need("second", Certified::from_json)? }
            }
            Some("rewrite") => {
                let o = known(&json, &["older", "newer", "other", "proof"])?;
                Evidence::Rewrite {
                    older: o.need("older", Certified::from_json)?,
                    newer: o.need("newer", Certified::from_json)?,
                    other: o.need("other", Json::array)?,
                    proof: o.need("proof", |json| digests(json, PROOF_MAX))?,
                }
            }
            Some("cosigned") => {
                let o = known(&json, &["first", "second", "prefix"])?;
                let prefix = o.maybe("prefix", |json| {
                    let o = json.object(&["root", "proof"])?;
                    let root = o.need("root", Json::array)?;
                    Ok((root, o.need("proof", |json| digests(json, PROOF_MAX))?))
                })?;
                let first = o.need("first", note_from_json)?;
                Evidence::Cosigned { first, second: o.need("second", note_from_json)?, prefix }
            }
            Some("rewritten_log") => {
                let o = known(&json, &["older", "newer", "history", "difference"])?;
                Evidence::RewrittenLog(Box::new(RewrittenLog::of(&o)?))
            }
            _ => return wrong("has no kind that is known"),
        };
        match evidence.encode().len() {
            0..=EVIDENCE_MAX => Ok(evidence),
            n => wrong(alloc::format!("is evidence of {n} bytes, above {EVIDENCE_MAX}")),
        }
    }
}

/// The object of a kind: `format`, `kind` and these keys.
fn known<'a>(json: &'a Json, keys: &[&str]) -> Result<Object<'a>> {
    let o = json.object(&[&["format", "kind"], keys].concat())?;
    o.expect_format(FORMAT)?;
    Ok(o)
}

fn double_vote(json: &Json) -> Result<Evidence> {
    let o = known(json, &["key", "epoch", "view", "first", "second", "changes"])?;
    Ok(Evidence::DoubleVote {
        changes: o.maybe("changes", changes_from_json)?.unwrap_or_default(),
        key: o.need("key", |json| {
            PublicKey::from_compressed(&json.array()?).or_else(|_| wrong("is no public key"))
        })?,
        epoch: o.need("epoch", Json::int)?,
        view: o.need("view", Json::int)?,
        first: o.need("first", Vote::from_json)?,
        second: o.need("second", Vote::from_json)?,
    })
}
