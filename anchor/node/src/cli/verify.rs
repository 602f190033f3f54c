//! `piaogen verify`: checks a receipt, a status proof, a history or a consistency proof offline, and
//! a document against the receipt in it.
//!
//! What a file is, it says itself: the magic of the compact form, or the key `format` of the JSON
//! object, which no text inside the object can pretend.
//!
//! Invariants
//! - A proof that cannot be read is refused at the step `decode`; only what cannot be opened, and a
//!   trust root or document that cannot be read, is an error of the caller.
//! - What is proved is said with the block as of which it is.

mod words;

use super::{
    DOCUMENT_MAX, No, Output, RECEIPT_MAX, in_either_form, read_file, read_text, read_trust_root,
};
use anyhow::{Context, Result, ensure};
use piaogen_verify::consistency::{self, Consistency};
use piaogen_verify::document::Document;
use piaogen_verify::json;
use piaogen_verify::receipt::{Difference, DifferenceKind, Receipt, Verified};
use piaogen_verify::record::subject_parts;
use piaogen_verify::refusal::{Refusal, Step};
use piaogen_verify::status::{
    HISTORY_FORMAT, History, STATUS_FORMAT, StatusReceipt, VerifiedStatus,
};
use piaogen_verify::trust_root::TrustRoot;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The receipt, status proof, history or consistency proof, JSON or compact; - is standard
    /// input. Which of them it is, is found out.
    proof: PathBuf,
    /// What you trust beforehand: the chain's trust-root.json.
    #[arg(long, value_name = "FILE")]
    trust_root: PathBuf,
    /// Demand the cosignatures of so many of the trust root's witnesses, whatever it says itself.
    #[arg(long, value_name = "K")]
    witness_quorum: Option<u32>,
    /// Compare this document with the receipt of the invoice, field by field.
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

/// Most bytes of a proof in either form.
const PROOF_MAX: u64 = 16 << 20;

/// What a file may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Receipt,
    Status,
    History,
    Consistency,
}

/// What is proved.
enum Proved {
    Receipt(Box<Receipt>, Verified),
    /// The proof; with how many records, where it is a history.
    Status(Box<StatusReceipt>, VerifiedStatus, Option<usize>),
    Consistency(Box<Consistency>),
}

/// The one member of a proof in JSON by which it is known.
#[derive(serde::Deserialize)]
struct Form {
    format: String,
}

impl Kind {
    /// The kind of proof that these bytes say to be.
    fn of(bytes: &[u8]) -> Result<Kind, Refusal> {
        let refuse = |why: String| Err(Refusal::new(Step::Decode, why));
        match bytes {
            [b'P', b'T', ..] => return Ok(Kind::Receipt),
            [b'P', b'S', ..] => return Ok(Kind::Status),
            [b'P', b'Y', ..] => return Ok(Kind::History),
            [b'P', b'C', ..] => return Ok(Kind::Consistency),
            _ => {}
        }
        // A list would be taken for the members of an object, in their order.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return refuse("neither a compact proof nor an object of JSON".into());
        }
        let form: Form = match serde_json::from_slice(bytes) {
            Ok(form) => form,
            Err(error) => {
                return refuse(format!("neither a compact proof nor one in JSON: {error}"));
            }
        };
        match form.format.as_str() {
            piaogen_verify::receipt::FORMAT => Ok(Kind::Receipt),
            STATUS_FORMAT => Ok(Kind::Status),
            HISTORY_FORMAT => Ok(Kind::History),
            consistency::FORMAT => Ok(Kind::Consistency),
            other => refuse(format!(
                "{other:?} is no receipt, status proof, history or consistency proof of this \
                 version"
            )),
        }
    }
}

/// Reads a receipt in either form.
pub(super) fn read_receipt(path: &Path) -> Result<Result<Receipt, Refusal>> {
    Ok(receipt_of(&read_file(path, RECEIPT_MAX)?))
}

/// The receipt in these bytes.
fn receipt_of(bytes: &[u8]) -> Result<Receipt, Refusal> {
    in_either_form(bytes, Receipt::decode, Receipt::from_json)
}

/// A proof that is of one invoice, and has a receipt in it.
pub(super) enum Proof {
    Receipt(Box<Receipt>),
    Status(Box<StatusReceipt>),
    History(Box<History>),
}

impl Proof {
    /// Reads the proof in these bytes, which say to be of this kind; none where that is of no
    /// invoice.
    fn of(kind: Kind, bytes: &[u8]) -> Result<Option<Proof>, Refusal> {
        let status = || in_either_form(bytes, StatusReceipt::decode, StatusReceipt::from_json);
        let history = || in_either_form(bytes, History::decode, History::from_json);
        Ok(match kind {
            Kind::Receipt => Some(Proof::Receipt(Box::new(receipt_of(bytes)?))),
            Kind::Status => Some(Proof::Status(Box::new(status()?))),
            Kind::History => Some(Proof::History(Box::new(history()?))),
            Kind::Consistency => None,
        })
    }

    /// Reads one in either form.
    pub(super) fn read(path: &Path) -> Result<Proof> {
        let bytes = read_file(path, PROOF_MAX)?;
        let proof = Proof::of(Kind::of(&bytes)?, &bytes)?;
        proof.with_context(|| format!("{} is of no invoice", path.display()))
    }

    /// The receipt in it.
    pub(super) fn receipt_mut(&mut self) -> &mut Receipt {
        match self {
            Proof::Receipt(receipt) => receipt,
            Proof::Status(proof) => &mut proof.receipt,
            Proof::History(history) => &mut history.status.receipt,
        }
    }

    /// The compact form, or JSON.
    pub(super) fn to_bytes(&self, compact: bool) -> Vec<u8> {
        match (self, compact) {
            (Proof::Receipt(receipt), true) => receipt.encode(),
            (Proof::Receipt(receipt), false) => receipt.to_json().into_bytes(),
            (Proof::Status(proof), true) => proof.encode(),
            (Proof::Status(proof), false) => proof.to_json().into_bytes(),
            (Proof::History(history), true) => history.encode(),
            (Proof::History(history), false) => history.to_json().into_bytes(),
        }
    }
}

/// Checks the proof in these bytes, whatever kind it is.
fn verify(bytes: &[u8], trust: &TrustRoot) -> Result<Proved, Refusal> {
    Ok(match Proof::of(Kind::of(bytes)?, bytes)? {
        Some(Proof::Receipt(receipt)) => {
            let verified = receipt.verify(trust)?;
            Proved::Receipt(receipt, verified)
        }
        Some(Proof::Status(proof)) => {
            let verified = proof.verify(trust)?;
            Proved::Status(proof, verified, None)
        }
        Some(Proof::History(history)) => {
            let verified = history.verify(trust)?;
            Proved::Status(Box::new(history.status), verified, Some(history.records.len()))
        }
        None => {
            let proof = in_either_form(bytes, Consistency::decode, Consistency::from_json)?;
            proof.verify(trust)?;
            Proved::Consistency(Box::new(proof))
        }
    })
}

/// The trust root with another quorum of its witnesses.
fn demand(mut trust: TrustRoot, witness_quorum: Option<u32>) -> Result<TrustRoot> {
    if let Some(quorum) = witness_quorum {
        let known = trust.witnesses.len();
        ensure!(
            quorum as usize <= known,
            "--witness-quorum {quorum}: the trust root lists {known} witnesses; add them to it"
        );
        trust.witness_quorum = quorum;
    }
    Ok(trust)
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let trust = demand(read_trust_root(&arguments.trust_root)?, arguments.witness_quorum)?;
    let document = match &arguments.document {
        None => None,
        Some(path) => {
            let text = read_text(path, DOCUMENT_MAX)?;
            let parsed = json::document_from_json(&text);
            Some(parsed.with_context(|| format!("document {}", path.display()))?)
        }
    };
    let bytes = read_file(&arguments.proof, PROOF_MAX)?;
    match verify(&bytes, &trust) {
        Ok(proved) => say(&proved, document.as_ref(), &trust, output),
        Err(refusal) => {
            let (step, detail) = (refusal.step.name(), &refusal.detail);
            let json = json!({ "verified": false, "step": step, "detail": detail });
            output.print(&json, || format!("NOT VERIFIED: {refusal}"))?;
            Err(No("this proves nothing".into()).into())
        }
    }
}

/// Says what is proved, and whether the document is the one of the receipt.
fn say(
    proved: &Proved,
    document: Option<&Document>,
    trust: &TrustRoot,
    output: Output,
) -> Result<()> {
    let (receipt, mut said, text) = match proved {
        Proved::Receipt(receipt, verified) => {
            let (json, text) = of_receipt(receipt, verified, trust);
            (receipt.as_ref(), json, text)
        }
        Proved::Status(proof, verified, records) => {
            let (json, text) = words::of_status(proof, verified, *records, trust);
            (&proof.receipt, json, text)
        }
        Proved::Consistency(proof) => return of_consistency(proof, document, trust, output),
    };
    let differences = document.map(|document| receipt.compare(document));
    if let Some(found) = &differences {
        let named = |d: &Difference| json!({ "field": d.name, "how": how(d.kind) });
        said["document_matches"] = found.is_empty().into();
        said["differences"] = found.iter().map(named).collect::<Vec<Value>>().into();
    }
    output.print(&said, || {
        let mut text = text;
        for difference in differences.iter().flatten() {
            text.push_str(&format!("DIFFERS: {} {}\n", difference.name, how(difference.kind)));
        }
        if differences.as_ref().is_some_and(Vec::is_empty) {
            text.push_str("the document is the one of the receipt, in every field\n");
        }
        text
    })?;
    match differences.unwrap_or_default().as_slice() {
        [] => Ok(()),
        differences => {
            let fields: Vec<&str> = differences.iter().map(|d| d.name.as_str()).collect();
            Err(No(format!("the document was altered: {}", fields.join(", "))).into())
        }
    }
}

fn of_receipt(receipt: &Receipt, verified: &Verified, trust: &TrustRoot) -> (Value, String) {
    let entry = &receipt.entry;
    let (scheme, number) = subject_parts(&entry.subject).unwrap_or(("", ""));
    let (outcome, explained) = (entry.outcome.name(), entry.outcome.explain());
    let json = json!({
        "verified": true, "kind": "receipt", "outcome": outcome, "explanation": explained,
        "scheme": scheme, "number": number, "height": verified.height,
        "time_ms": verified.time_ms, "certified_height": verified.certified_height,
        "signers": verified.signers, "epoch": verified.epoch, "witnesses": verified.witnesses,
    });
    let text = format!(
        "VERIFIED: {scheme} {number}: {outcome} {explained}\nin chain {} by block {} of {} ms, \
         signed by {} validator(s) of epoch {}, cosigned by {} known witness(es)\n",
        trust.chain_id,
        verified.height,
        verified.time_ms,
        verified.signers,
        verified.epoch,
        verified.witnesses
    );
    (json, text)
}

fn of_consistency(
    proof: &Consistency,
    document: Option<&Document>,
    trust: &TrustRoot,
    output: Output,
) -> Result<()> {
    anyhow::ensure!(
        document.is_none(),
        "a consistency proof is of no invoice: leave --document out, or name a receipt"
    );
    let (older, newer) = (proof.older.height, proof.newer.height);
    let json = json!({
        "verified": true, "kind": "consistency", "older": older, "height": newer,
        "time_ms": proof.newer.time_ms,
    });
    output.print(&json, || {
        format!("VERIFIED: block {newer} of chain {} extends block {older}\n", trust.chain_id)
    })
}

fn how(kind: DifferenceKind) -> &'static str {
    match kind {
        DifferenceKind::Differs => "has another value",
        DifferenceKind::OnlyInReceipt => "is missing in the document",
        DifferenceKind::OnlyInDocument => "is not in the receipt",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_its_own_format_says_and_not_what_a_text_in_it_says() {
        let of = |bytes: &str| Kind::of(bytes.as_bytes()).ok();
        let within =
            r#"{"fields": {"remark": "piaogen/history/1"}, "format": "piaogen/receipt/1"}"#;
        let rows = [
            (within, Some(Kind::Receipt)),
            (r#"{"format": "piaogen/status/1", "receipt": {"format": "x"}}"#, Some(Kind::Status)),
            (r#"{"format": "piaogen/history/1"}"#, Some(Kind::History)),
            (r#"{"format": "piaogen/consistency/1"}"#, Some(Kind::Consistency)),
            (r#"{"format": "piaogen/receipt/1", "format": "piaogen/status/1"}"#, None),
            (r#"{"format": "piaogen/trust-root/1"}"#, None),
            (r#"{"remark": "piaogen/history/1"}"#, None),
            (r#"["piaogen/status/1"]"#, None),
            ("PT\u{1}", Some(Kind::Receipt)),
            ("PS", Some(Kind::Status)),
            ("PY", Some(Kind::History)),
            ("PC", Some(Kind::Consistency)),
            ("P", None),
            ("", None),
        ];
        for (bytes, kind) in rows {
            assert_eq!(of(bytes), kind, "{bytes}");
        }
    }
}
