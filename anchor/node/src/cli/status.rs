//! `piaogen status`: proves what became of an invoice, or that nothing did.

use super::receipt::{Folder, Target, shown};
use super::{Output, Place};
use anyhow::{Context, Result};
use piaogen_verify::fields::{STATUS, Tag, by_name, tag};
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
