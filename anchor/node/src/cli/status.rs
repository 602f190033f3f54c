//! `piaogen status`: proves what became of an invoice, or that nothing did.
//!
//! A node over HTTP shows what everybody may know; a folder at rest shows its owner all.
//!
//! Invariants
//! - What a node answers is written only where it is of the invoice that was asked for.

use super::receipt::{Folder, Target, shown};
use super::{No, Origin, Output, read_trust_root};
use crate::site::{Site, encoded};
use anyhow::{Context, Result, ensure};
use piaogen_verify::fields::{STATUS, Tag, by_name};
use piaogen_verify::status::{Right, STATUS_RECEIPT_MAX, StatusReceipt};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    origin: Origin,
    #[command(flatten)]
    target: Target,
    /// Fields of the document to show, comma-separated; `all` shows all.
    #[arg(long, value_delimiter = ',', conflicts_with = "from")]
    show: Vec<String>,
    /// Parts of the status to show, comma-separated; `all` shows all. Everybody sees the face.
    #[arg(long, value_delimiter = ',', value_name = "PARTS", conflicts_with = "from")]
    parts: Vec<String>,
    /// With every record that made the status.
    #[arg(long, conflicts_with = "from")]
    history: bool,
    /// Check what the node answers with what you trust beforehand, and write nothing else.
    #[arg(long, value_name = "FILE", requires = "from")]
    trust_root: Option<PathBuf>,
    /// Where the proof goes; standard output without it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the compact form instead of JSON.
    #[arg(long)]
    compact: bool,
}

fn parts(names: &[String]) -> Result<Vec<Tag>> {
    if names.iter().any(|name| name == "all") {
        return Ok(STATUS.iter().map(|field| field.tag).collect());
    }
    let mut tags = Right::Public.parts();
    for name in names {
        let field = by_name(STATUS, name);
        let none = || format!("a status has no part {name:?}; see verify/FORMAT.md");
        tags.push(field.with_context(none)?.tag);
    }
    Ok(tags)
}

/// The proof that a node gives; refused where it is of another invoice.
pub(super) fn ask(
    node: &Site,
    (scheme, number): (&str, &str),
    seller: Option<&str>,
    subject: &[u8],
) -> Result<StatusReceipt> {
    let mut path = format!("status/{}/{}", encoded(scheme), encoded(number));
    if let Some(seller) = seller {
        path.push_str(&format!("?seller={}", encoded(seller)));
    }
    let bytes = node.ask(&path, STATUS_RECEIPT_MAX as u64)?;
    let proof = StatusReceipt::decode(&bytes).context("the node's answer is no status proof")?;
    let own = proof.receipt.entry.subject == subject;
    ensure!(own, No("the node answered with the proof of another invoice".into()));
    Ok(proof)
}

/// The same, refused too where it does not hold.
fn ask_and_check(node: &Site, target: &Target, trust_root: Option<&Path>) -> Result<StatusReceipt> {
    let (number, subject) = target.named()?;
    let proof = ask(node, (&target.scheme, number), target.seller.as_deref(), &subject)?;
    if let Some(path) = trust_root {
        let verified = proof.verify(&read_trust_root(path)?);
        verified.map_err(|refusal| No(format!("the node's answer proves nothing: {refusal}")))?;
    }
    Ok(proof)
}

/// The proof from a folder at rest, with what is to be shown.
fn read(arguments: &Arguments) -> Result<Vec<u8>> {
    let folder = Folder::open(&arguments.origin.config()?)?;
    let prover = folder.prover()?;
    let (shard, row) = arguments.target.row(&folder, &prover)?;
    let (show, parts) = (shown(&arguments.show)?, parts(&arguments.parts)?);
    if arguments.history {
        let history = prover.history_of(shard, &row, &show, &parts)?;
        return Ok(if arguments.compact { history.encode() } else { history.to_json().into() });
    }
    let proof = prover.status(shard, &row, &show, &parts)?.proof;
    Ok(if arguments.compact { proof.encode() } else { proof.to_json().into() })
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let bytes = match arguments.origin.node()? {
        None => read(arguments)?,
        Some(node) => {
            let trust_root = arguments.trust_root.as_deref();
            let proof = ask_and_check(&node, &arguments.target, trust_root)?;
            if arguments.compact { proof.encode() } else { proof.to_json().into() }
        }
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
