//! Leads from the validators that one trusts to those of a later epoch (`FORMAT.md` section 7.1).
//!
//! The last header of an epoch names the set of the next, and is certified by its own. So a list of
//! such headers, each with the set that it names, leads from one set to another, and whoever
//! trusts the first may trust the last. Epochs in which the set stayed the same need not be shown:
//! what such a set certifies later says itself in which epoch that was.
//!
//! Invariants
//! - Epochs only grow: a set that was replaced is not trusted again, and changes that lead to the
//!   set which is trusted already are passed over.
//! - Each change is checked before its set is used for the next.

use crate::certificate::{CERTIFICATE_MAX, Certificate, verify_final};
use crate::consistency::{certificate_from_json, check_chain};
use crate::encoding::{DecodeError, Reader, put_bytes, put_vint};
use crate::header::{Header, VALIDATORS_MAX, ValidatorSet};
use crate::json::chain::{header_from_json, header_to_json};
use crate::json::{Json, JsonError, Result as JsonResult, object, parse, wrong};
use crate::refusal::{Refusal, Step};
use crate::trust_root::TrustRoot;
use alloc::string::String;
use alloc::vec::Vec;
use piaogen_crypto::sm2::PublicKey;

/// Most changes of one proof; who is further behind advances a trust root more than once.
pub const CHANGES_MAX: u64 = 64;
/// Most bytes of an epoch proof.
pub const EPOCH_PROOF_MAX: usize = 1 << 20;
/// Most bytes of an epoch proof in JSON.
pub const EPOCH_JSON_MAX: usize = 1 << 22;
/// The key `format` of an epoch proof.
pub const FORMAT: &str = "piaogen/epochs/1";
const MAGIC: [u8; 3] = *b"PV\x01";

/// A step from one validator set to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The last header of an epoch.
    pub header: Header,
    /// Its certificate.
    pub certificate: Vec<u8>,
    /// The set that it names.
    pub next: ValidatorSet,
}

impl Change {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header.encode());
        put_bytes(out, &self.certificate);
        self.next.encode_to(out);
    }

    fn take(r: &mut Reader<'_>) -> Result<Change, DecodeError> {
        let header = Header::decode(r)?;
        let certificate = take_certificate(r)?;
        Ok(Change { header, certificate, next: ValidatorSet::decode(r)? })
    }

    fn to_json(&self) -> Json {
        object([
            ("header", header_to_json(&self.header)),
            ("certificate", Json::hex(&self.certificate)),
            ("validators", set_to_json(&self.next)),
        ])
    }

    fn from_json(json: &Json) -> JsonResult<Change> {
        let o = json.object(&["header", "certificate", "validators"])?;
        Ok(Change {
            header: o.need("header", header_from_json)?,
            certificate: o.need("certificate", certificate_from_json)?,
            next: o.need("validators", |json| {
                let keys = json.list(VALIDATORS_MAX, Json::array)?;
                ValidatorSet::of_compressed(&keys)
                    .map_or_else(|| wrong("must be different keys, ascending"), Ok)
            })?,
        })
    }
}

/// Takes a certificate that decodes.
pub(crate) fn take_certificate(r: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    let bytes = r.bytes("certificate", CERTIFICATE_MAX)?;
    Certificate::decode(bytes)?;
    Ok(bytes.to_vec())
}

/// The keys of a set, ascending.
pub(crate) fn set_to_json(set: &ValidatorSet) -> Json {
    let keys: Vec<_> = set.keys().iter().map(PublicKey::to_compressed).collect();
    Json::hexes(&keys)
}

/// Appends changes behind their count.
pub(crate) fn put_changes(out: &mut Vec<u8>, changes: &[Change]) {
    put_vint(out, changes.len() as u64);
    changes.iter().for_each(|change| change.put(out));
}

/// Takes the changes of a proof.
pub(crate) fn take_changes(r: &mut Reader<'_>) -> Result<Vec<Change>, DecodeError> {
    take_changes_up_to(r, CHANGES_MAX)
}

/// Takes changes, at most so many.
pub(crate) fn take_changes_up_to(
    r: &mut Reader<'_>,
    most: u64,
) -> Result<Vec<Change>, DecodeError> {
    let count = r.count("changes of the validator set", most)?;
    (0..count).map(|_| Change::take(r)).collect()
}

/// Changes as an array.
pub(crate) fn changes_to_json(changes: &[Change]) -> Json {
    Json::List(changes.iter().map(Change::to_json).collect())
}

/// Reads changes under a key that is left out where there are none.
pub(crate) fn changes_from_json(json: &Json) -> JsonResult<Vec<Change>> {
    let changes = json.list(CHANGES_MAX, Change::from_json)?;
    if changes.is_empty() { wrong("is left out where there are none") } else { Ok(changes) }
}

/// The changes that evidence carries, of all that lead from the genesis on: the last ones, where there
/// are more than a proof may have.
pub(crate) fn newest(all: &[Change]) -> &[Change] {
    &all[all.len().saturating_sub(CHANGES_MAX as usize)..]
}

/// The headers of changes.
pub(crate) fn headers(changes: &[Change]) -> impl Iterator<Item = &Header> {
    changes.iter().map(|change| &change.header)
}

impl TrustRoot {
    /// The trust root to which changes lead: steps `epoch`, `validators`, `quorum` and `signature`
    /// of each, in their order. Whether the headers are of the chain was checked.
    pub(crate) fn after(&self, changes: &[Change]) -> Result<TrustRoot, Refusal> {
        let mut trust = self.clone();
        let mut before = None;
        for change in changes {
            let header = &change.header;
            let refuse = |what| {
                let detail = alloc::format!("block {} {what}", header.height);
                Err(Refusal::new(Step::Epoch, detail))
            };
            if before.replace(header.epoch).is_some_and(|before| before >= header.epoch) {
                return refuse("is not of a later epoch than the change before it");
            }
            if header.epoch < trust.epoch {
                continue;
            }
            if !header.closes_epoch() {
                return refuse("is not the last of its epoch");
            }
            if header.next_validators != change.next.digest() {
                return refuse("names another set than the one beside it");
            }
            let Some(next) = header.epoch.checked_add(1) else {
                return refuse("is of an epoch that nothing follows");
            };
            trust.check_final(header, &Certificate::decode(&change.certificate)?)?;
            trust.epoch = next;
            trust.validators = change.next.clone();
        }
        Ok(trust)
    }

    /// Whether a header is final under this trust root: steps `epoch`, `validators`, `quorum`,
    /// `signature`.
    pub fn check_final(&self, header: &Header, certificate: &Certificate) -> Result<(), Refusal> {
        if header.epoch < self.epoch {
            let detail = alloc::format!(
                "block {} is of epoch {}, and sets are trusted from epoch {} on; use an older \
                 trust root, or lead a receipt to a newer header",
                header.height,
                header.epoch,
                self.epoch
            );
            return Err(Refusal::new(Step::Epoch, detail));
        }
        verify_final(header, certificate, &self.validators)
    }
}

/// The changes that lead from one validator set to another, as a file of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochProof {
    /// The changes, oldest first.
    pub changes: Vec<Change>,
}

impl EpochProof {
    /// The compact encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_changes(&mut out, &self.changes);
        out
    }

    /// Reads the compact encoding; nothing may follow.
    pub fn decode(bytes: &[u8]) -> Result<EpochProof, DecodeError> {
        if bytes.len() > EPOCH_PROOF_MAX {
            let (value, limit) = (bytes.len() as u64, EPOCH_PROOF_MAX as u64);
            return Err(DecodeError::Limit { what: "epoch proof", value, limit });
        }
        let mut r = Reader::new(bytes);
        r.fixed("magic of an epoch proof", &MAGIC)?;
        let changes = take_changes(&mut r)?;
        r.end()?;
        Ok(EpochProof { changes })
    }

    /// Indented JSON.
    pub fn to_json(&self) -> String {
        object([("format", Json::of(FORMAT)), ("changes", changes_to_json(&self.changes))]).pretty()
    }

    /// Reads JSON.
    pub fn from_json(text: &str) -> Result<EpochProof, JsonError> {
        let json = parse(text, EPOCH_JSON_MAX)?;
        let o = json.object(&["format", "changes"])?;
        o.expect_format(FORMAT)?;
        let changes = o.need("changes", |json| json.list(CHANGES_MAX, Change::from_json))?;
        Ok(EpochProof { changes })
    }

    /// The trust root to which the proof leads: steps `decode`, `chain`, then those of each change.
    pub fn advance(&self, trust: &TrustRoot) -> Result<TrustRoot, Refusal> {
        check_chain(trust, headers(&self.changes))?;
        trust.after(&self.changes)
    }
}
