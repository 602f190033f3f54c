//! `piaogen check`: the bank's one question, answered with a proof.

use super::receipt::{Folder, Target};
use super::{DOCUMENT_MAX, No, Output, Place, read_text};
use crate::run::receipts::Show;
use anyhow::{Context, Result};
use piaogen_verify::check::{Answer, Question, Standing, Verdict, check, not_found};
use piaogen_verify::json;
use piaogen_verify::status::{Right, StatusReceipt};
use piaogen_verify::value::{decimal_string, parse_decimal};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    target: Target,
    /// The document that you were shown, in JSON: it is compared field by field.
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
    /// The amount to lend on, in the invoice's currency: 113.00
    #[arg(long)]
    amount: Option<String>,
    /// The participant who asks; decides what is told.
    #[arg(long, value_name = "PARTY")]
    asker: Option<String>,
    /// Where the proof goes that the answer is drawn from.
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let folder = Folder::open(&arguments.place.config()?)?;
    let prover = folder.prover()?;
    let document = match &arguments.document {
        None => None,
        Some(path) => Some(
            json::document_from_json(&read_text(path, DOCUMENT_MAX)?)
                .with_context(|| format!("document {}", path.display()))?,
        ),
    };
    let Some((shard, row)) = arguments.target.find(&folder, &prover, document.as_ref())? else {
        return say(&not_found(), None, 0, output);
    };
    let proved = prover.status(shard, &row, &Show::Only(Vec::new()), &Right::Public.parts())?;
    let header = &proved.proof.receipt.header;
    let exponent = exponent(&proved, document.as_ref());
    let amount = arguments.amount.as_deref().map(|text| minor_units(text, exponent)).transpose()?;
    let policy = folder.registry()?.policy_at(header.height + 1);
    let standing = Standing {
        receipt: &proved.proof.receipt,
        status: proved.status.as_ref(),
        policy: &policy,
        time_ms: header.time_ms,
    };
    let asker = arguments.asker.as_deref();
    let question = Question { asker, amount, document: document.as_ref() };
    let answer = check(&standing, &question);
    if let Some(path) = &arguments.proof {
        super::receipt::put(Some(path), proved.proof.to_json().into_bytes())?;
    }
    say(&answer, Some(&proved.proof), exponent, output)
}

/// Decimals of the invoice's currency.
fn exponent(
    proved: &crate::run::statuses::Proved,
    document: Option<&piaogen_verify::document::Document>,
) -> u8 {
    let shown = document.map(|document| json::exponent(&document.fields));
    let status = proved.status.as_ref().map(|status| status.facts.currency.1);
    status.or(shown).unwrap_or(2)
}

fn minor_units(text: &str, exponent: u8) -> Result<i128> {
    let (mantissa, scale) =
        parse_decimal(text).with_context(|| format!("--amount {text:?} is no amount"))?;
    let missing = exponent.checked_sub(scale).with_context(|| {
        format!("--amount {text:?} has {scale} decimals, the currency has {exponent}")
    })?;
    Ok(mantissa * 10i128.pow(missing.into()))
}

fn say(answer: &Answer, proof: Option<&StatusReceipt>, exponent: u8, output: Output) -> Result<()> {
    let mut json: serde_json::Value = serde_json::from_str(&answer.to_tree().to_string())?;
    if let Some(proof) = proof {
        let header = &proof.receipt.header;
        json["as_of"] = serde_json::json!({ "height": header.height, "time_ms": header.time_ms });
        json["proof"] = serde_json::from_str(&proof.to_json())?;
    }
    output.print(&json, || text(answer, proof, exponent))?;
    match answer.verdict {
        Verdict::Stop => Err(No("do not lend".into()).into()),
        Verdict::Clear | Verdict::Caution => Ok(()),
    }
}

fn text(answer: &Answer, proof: Option<&StatusReceipt>, exponent: u8) -> String {
    let mut text = format!("{}\n", answer.verdict.name().to_uppercase());
    for finding in &answer.findings {
        let (weight, code) = (finding.weight.name(), finding.code);
        text.push_str(&format!("  {weight:8} {}  [{code}]\n", finding.words));
    }
    if answer.differences.as_ref().is_some_and(Vec::is_empty) {
        text.push_str("  the document is the one that was issued, in every field\n");
    }
    match answer.fits {
        Some(true) => text.push_str("  the amount fits\n"),
        Some(false) => text.push_str("  the amount does not fit\n"),
        None => {}
    }
    if let Some(capacity) = answer.capacity {
        let capacity = decimal_string(capacity.max(0), exponent);
        text.push_str(&format!("  what may still be financed: {capacity}\n"));
    }
    for own in &answer.own {
        let amount = decimal_string(own.assigned, exponent);
        let (id, state) = (own.id, own.state.name());
        text.push_str(&format!("  yours: number {id}, {state}, {amount}\n"));
    }
    if let Some(proof) = proof {
        let header = &proof.receipt.header;
        let (height, time) = (header.height, header.time_ms);
        text.push_str(&format!("  as of block {height} of {time} ms\n"));
    }
    text
}
