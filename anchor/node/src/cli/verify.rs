//! `piaogen verify`: checks a receipt, a status proof or a history offline, and a document against
//! a receipt.

use super::{
    DOCUMENT_MAX, No, Output, RECEIPT_MAX, in_either_form, read_file, read_text, read_trust_root,
};
use anyhow::{Context, Result, ensure};
use piaogen_verify::json;
use piaogen_verify::receipt::{DifferenceKind, Receipt};
use piaogen_verify::record::subject_parts;
use piaogen_verify::refusal::Refusal;
use piaogen_verify::trust_root::TrustRoot;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The receipt, status proof or history, JSON or compact; - is standard input.
    receipt: PathBuf,
    /// What you trust beforehand: the chain's trust-root.json.
    #[arg(long, value_name = "FILE")]
    trust_root: PathBuf,
    /// Demand the cosignatures of so many of the trust root's witnesses, whatever it says itself.
    #[arg(long, value_name = "K")]
    witness_quorum: Option<u32>,
    /// Compare this document with the receipt, field by field.
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

/// Most bytes of a proof in either form.
const PROOF_MAX: u64 = 16 << 20;

/// Reads a receipt in either form.
pub(super) fn read_receipt(path: &Path) -> Result<Result<Receipt, Refusal>> {
    Ok(receipt_of(read_file(path, RECEIPT_MAX)?))
}

/// The receipt in these bytes.
fn receipt_of(bytes: Vec<u8>) -> Result<Receipt, Refusal> {
    in_either_form(bytes, b"PT", Receipt::decode, Receipt::from_json)
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
    let bytes = read_file(&arguments.receipt, PROOF_MAX)?;
    if let Some(verdict) = super::status::verify(&bytes, &trust) {
        return super::status::say(verdict, &trust, output);
    }
    let verdict = receipt_of(bytes)
        .and_then(|receipt| receipt.verify(&trust).map(|verified| (receipt, verified)));
    let (receipt, verified) = match verdict {
        Ok(both) => both,
        Err(refusal) => {
            let json = serde_json::json!({
                "verified": false, "step": refusal.step.name(), "detail": refusal.detail,
            });
            output.print(&json, || format!("NOT VERIFIED: {refusal}"))?;
            return Err(No("the receipt proves nothing".into()).into());
        }
    };
    let differences = document.map(|document| receipt.compare(&document)).unwrap_or_default();
    let entry = &receipt.entry;
    let (scheme, number) = subject_parts(&entry.subject).unwrap_or(("", ""));
    let named: Vec<serde_json::Value> = differences
        .iter()
        .map(|d| serde_json::json!({ "field": d.name, "how": how(d.kind) }))
        .collect();
    let json = serde_json::json!({
        "verified": true, "outcome": entry.outcome.name(), "explanation": entry.outcome.explain(),
        "scheme": scheme, "number": number, "height": verified.height,
        "time_ms": verified.time_ms, "certified_height": verified.certified_height,
        "signers": verified.signers, "epoch": verified.epoch, "witnesses": verified.witnesses,
        "document_matches": arguments.document.as_ref().map(|_| differences.is_empty()),
        "differences": named,
    });
    output.print(&json, || {
        let mut text = format!(
            "VERIFIED: {scheme} {number}: {} {}\nin chain {} by block {} of {} ms, signed by {} \
             validator(s) of epoch {}, cosigned by {} known witness(es)\n",
            entry.outcome.name(),
            entry.outcome.explain(),
            trust.chain_id,
            verified.height,
            verified.time_ms,
            verified.signers,
            verified.epoch,
            verified.witnesses
        );
        for difference in &differences {
            text.push_str(&format!("DIFFERS: {} {}\n", difference.name, how(difference.kind)));
        }
        if arguments.document.is_some() && differences.is_empty() {
            text.push_str("the document is the one of the receipt, in every field\n");
        }
        text
    })?;
    if differences.is_empty() {
        Ok(())
    } else {
        let fields: Vec<&str> = differences.iter().map(|d| d.name.as_str()).collect();
        Err(No(format!("the document was altered: {}", fields.join(", "))).into())
    }
}

fn how(kind: DifferenceKind) -> &'static str {
    match kind {
        DifferenceKind::Differs => "has another value",
        DifferenceKind::OnlyInReceipt => "is missing in the document",
        DifferenceKind::OnlyInDocument => "is not in the receipt",
    }
}
