//! `piaogen status`: proves what became of an invoice, or that nothing did.

use super::receipt::{Folder, Target, shown};
use super::{No, Output, Place};
use anyhow::{Context, Result};
use piaogen_verify::fields::{STATUS, Tag, by_name, tag};
use piaogen_verify::record::subject_parts;
use piaogen_verify::refusal::{Refusal, Step};
use piaogen_verify::status::{History, StatusReceipt, VerifiedStatus};
use piaogen_verify::trust_root::TrustRoot;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    target: Target,
    /// Fields of the document to show, comma-separated; `all` shows all.
    #[arg(long, value_delimiter = ',')]
    show: Vec<String>,
    /// Parts of the status to show, comma-separated; `all` shows all. Everybody sees the face.
    #[arg(long, value_delimiter = ',', value_name = "PARTS")]
    parts: Vec<String>,
    /// With every record that made the status.
    #[arg(long)]
    history: bool,
    /// Where the proof goes; standard output without it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the compact form instead of JSON.
    #[arg(long)]
    compact: bool,
}

/// Parts that every proof shows: what everybody may know.
pub(super) const PUBLIC: [Tag; 3] = [tag::FACE, tag::ORIGIN, tag::COMMITMENT];

fn parts(names: &[String]) -> Result<Vec<Tag>> {
    if names.iter().any(|name| name == "all") {
        return Ok(STATUS.iter().map(|field| field.tag).collect());
    }
    let mut tags = PUBLIC.to_vec();
    for name in names {
        let field = by_name(STATUS, name);
        let none = || format!("a status has no part {name:?}; see verify/FORMAT.md");
        tags.push(field.with_context(none)?.tag);
    }
    Ok(tags)
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let folder = Folder::open(&arguments.place.config()?)?;
    let prover = folder.prover()?;
    let (shard, row) = arguments.target.row(&folder, &prover)?;
    let (show, parts) = (shown(&arguments.show)?, parts(&arguments.parts)?);
    let bytes = if arguments.history {
        let history = prover.history_of(shard, &row, &show, &parts)?;
        if arguments.compact { history.encode() } else { history.to_json().into_bytes() }
    } else {
        let proof = prover.status(shard, &row, &show, &parts)?.proof;
        if arguments.compact { proof.encode() } else { proof.to_json().into_bytes() }
    };
    let length = bytes.len();
    super::receipt::put(arguments.out.as_deref(), bytes)?;
    match &arguments.out {
        None => Ok(()),
        Some(path) => output.print(&serde_json::json!({ "proof": path, "bytes": length }), || {
            format!("{}: {length} bytes", path.display())
        }),
    }
}

/// What was checked: the invoice's receipt, what is proved, and how many records its history has.
pub(super) struct Checked {
    scheme: String,
    number: String,
    proved: VerifiedStatus,
    records: Option<usize>,
}

/// Checks a status proof or a history in either form; `None` where the bytes are neither.
pub(super) fn verify(bytes: &[u8], trust: &TrustRoot) -> Option<Result<Checked, Refusal>> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let says = |format: &str| text.contains(&format!("{format:?}"));
    let refused = |why: String| Refusal::new(Step::Decode, why);
    if bytes.starts_with(b"PY") || says("piaogen/history/1") {
        let history = match bytes.starts_with(b"PY") {
            true => History::decode(bytes).map_err(Refusal::from),
            false => History::from_json(text).map_err(|error| refused(error.to_string())),
        };
        return Some(history.and_then(|history| {
            let proved = history.verify(trust)?;
            Ok(checked(&history.status, proved, Some(history.records.len())))
        }));
    }
    if bytes.starts_with(b"PS") || says("piaogen/status/1") {
        let proof = match bytes.starts_with(b"PS") {
            true => StatusReceipt::decode(bytes).map_err(Refusal::from),
            false => StatusReceipt::from_json(text).map_err(|error| refused(error.to_string())),
        };
        return Some(proof.and_then(|proof| {
            let proved = proof.verify(trust)?;
            Ok(checked(&proof, proved, None))
        }));
    }
    None
}

fn checked(proof: &StatusReceipt, proved: VerifiedStatus, records: Option<usize>) -> Checked {
    let (scheme, number) = subject_parts(&proof.receipt.entry.subject).unwrap_or_default();
    Checked { scheme: scheme.into(), number: number.into(), proved, records }
}

/// Says what a proof proves, or at which step it fails.
pub(super) fn say(
    verdict: Result<Checked, Refusal>,
    trust: &TrustRoot,
    output: Output,
) -> Result<()> {
    let checked = match verdict {
        Ok(checked) => checked,
        Err(refusal) => {
            let (step, detail) = (refusal.step.name(), &refusal.detail);
            let json = serde_json::json!({ "verified": false, "step": step, "detail": detail });
            output.print(&json, || format!("NOT VERIFIED: {refusal}"))?;
            return Err(No("the proof proves nothing".into()).into());
        }
    };
    let Checked { scheme, number, proved, records } = &checked;
    let face = proved.face.as_ref();
    let json = serde_json::json!({
        "verified": true, "scheme": scheme, "number": number,
        "height": proved.block.height, "time_ms": proved.block.time_ms,
        "untouched": proved.untouched(), "no_lien": proved.no_lien(),
        "no_booking": proved.no_booking(), "records": records,
        "lifecycle": face.map(|face| face.lifecycle.name()),
        "liens": face.map(|face| face.liens), "frozen": face.map(|face| face.frozen),
    });
    output.print(&json, || {
        let mut said = Vec::new();
        if proved.untouched() {
            said.push("nothing ever happened to it".to_string());
        }
        if let Some(face) = face.filter(|_| !proved.untouched()) {
            said.push(format!("it is {}, with {} liens", face.lifecycle.name(), face.liens));
        }
        if proved.no_booking() {
            said.push("nobody has booked it".into());
        }
        if let Some(records) = records {
            said.push(format!("{records} records made its status, and no others"));
        }
        let (chain, as_of) = (&trust.chain_id, proved.as_of());
        format!("VERIFIED: {scheme} {number}: {}\nin chain {chain}, {as_of}\n", said.join("; "))
    })
}
