//! That one header extends another, so that nobody rewrote history between them (`FORMAT.md`
//! section 11).
//!
//! Invariants
//! - The newer header is final and its history holds the older one at its height.

use crate::certificate::Certificate;
use crate::encoding::{DecodeError, Reader, put_bytes, put_digests};
use crate::epoch::{
    Change, EPOCH_JSON_MAX, changes_from_json, changes_to_json, headers, put_changes,
    take_certificate, take_changes,
};
use crate::header::Header;
use crate::json::chain::{digests, header_from_json, header_to_json};
use crate::json::{Json, JsonError, parse, wrong};
use crate::merkle::{PROOF_MAX, root_from_inclusion};
use crate::refusal::{Refusal, Step};
use crate::trust_root::TrustRoot;
use alloc::string::String;
use alloc::vec::Vec;
use piaogen_crypto::Digest;

const MAGIC: [u8; 3] = *b"PC\x01";
/// The key `format` of a consistency proof in JSON.
pub const FORMAT: &str = "piaogen/consistency/1";

/// Evidence that `newer` extends `older`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consistency {
    /// The older header.
    pub older: Header,
    /// The newer header.
    pub newer: Header,
    /// The way from the older header to the newer one's `history_root`.
    pub proof: Vec<Digest>,
    /// The certificate of the newer header.
    pub certificate: Vec<u8>,
    /// How the verifier comes to the set that signed it, from the one that he trusts.
    pub changes: Vec<Change>,
}

impl Consistency {
    /// The compact encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.older.encode());
        out.extend_from_slice(&self.newer.encode());
        put_digests(&mut out, &self.proof);
        put_bytes(&mut out, &self.certificate);
        put_changes(&mut out, &self.changes);
        out
    }

    /// Reads the compact encoding; nothing may follow.
    pub fn decode(bytes: &[u8]) -> Result<Consistency, DecodeError> {
        let mut r = Reader::new(bytes);
        r.fixed("magic of a consistency proof", &MAGIC)?;
        let (older, newer) = (Header::decode(&mut r)?, Header::decode(&mut r)?);
        let proof = r.digests("history proof", PROOF_MAX)?;
        let certificate = take_certificate(&mut r)?;
        let changes = take_changes(&mut r)?;
        r.end()?;
        Ok(Consistency { older, newer, proof, certificate, changes })
    }

    /// Indented JSON.
    pub fn to_json(&self) -> String {
        let mut members = alloc::vec![
            ("format", Json::of(FORMAT)),
            ("older", header_to_json(&self.older)),
            ("newer", header_to_json(&self.newer)),
            ("proof", Json::hexes(&self.proof)),
            ("certificate", Json::hex(&self.certificate)),
        ];
        if !self.changes.is_empty() {
            members.push(("changes", changes_to_json(&self.changes)));
        }
        Json::Object(members.into_iter().map(|(key, json)| (key.into(), json)).collect()).pretty()
    }

    /// Reads JSON.
    pub fn from_json(text: &str) -> Result<Consistency, JsonError> {
        let json = parse(text, EPOCH_JSON_MAX)?;
        let o = json.object(&["format", "older", "newer", "proof", "certificate", "changes"])?;
        o.expect_format(FORMAT)?;
        Ok(Consistency {
            older: o.need("older", header_from_json)?,
            newer: o.need("newer", header_from_json)?,
            proof: o.need("proof", |json| digests(json, PROOF_MAX))?,
            certificate: o.need("certificate", certificate_from_json)?,
            changes: o.maybe("changes", changes_from_json)?.unwrap_or_default(),
        })
    }

    /// Checks the evidence; the error names the first step that fails.
    pub fn verify(&self, trust: &TrustRoot) -> Result<(), Refusal> {
        let certificate = Certificate::decode(&self.certificate)?;
        check_chain(trust, [&self.older, &self.newer].into_iter().chain(headers(&self.changes)))?;
        check_history(&self.older, &self.newer, &self.proof)?;
        trust.after(&self.changes)?.check_final(&self.newer, &certificate)
    }
}

/// A certificate in hex that decodes.
pub(crate) fn certificate_from_json(json: &Json) -> Result<Vec<u8>, JsonError> {
    let bytes = json.bytes()?;
    match Certificate::decode(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => wrong(alloc::format!("is no certificate: {error}")),
    }
}

/// Step `chain`: every header is of the trust root's chain.
pub(crate) fn check_chain<'a>(
    trust: &TrustRoot,
    mut headers: impl Iterator<Item = &'a Header>,
) -> Result<(), Refusal> {
    if headers.all(|header| header.chain == trust.chain) {
        Ok(())
    } else {
        let detail = alloc::format!("a header is of another chain than {}", trust.chain_id);
        Err(Refusal::new(Step::Chain, detail))
    }
}

/// Step `history`: the newer header's history holds the older header at its height.
pub(crate) fn check_history(
    older: &Header,
    newer: &Header,
    proof: &[Digest],
) -> Result<(), Refusal> {
    let root = root_from_inclusion(&older.leaf(), older.height, newer.height, proof);
    if root == Some(newer.history_root) {
        Ok(())
    } else {
        let (low, high) = (older.height, newer.height);
        let detail = alloc::format!("the history of block {high} does not hold block {low}");
        Err(Refusal::new(Step::History, detail))
    }
}
