//! `piaogen import`: turns an invoice file of another format into a document.

use super::{DOCUMENT_MAX, No, Output, read_file};
use anyhow::{Context, Result};
use piaogen_import::{Options, shudian, ubl};
use piaogen_verify::json::document_to_json;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Which format the file is in.
    format: Format,
    /// The file; - is standard input.
    file: PathBuf,
    /// Where the document goes; standard output without it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Accept a 数电票 number whose first two digits are not the year of issue, with a note.
    #[arg(long)]
    any_year: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// UBL 2.1 Invoice or CreditNote (EN 16931).
    Ubl,
    /// 数电票 XML of the Chinese tax platform.
    Shudian,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let bytes = read_file(&arguments.file, DOCUMENT_MAX)?;
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let imported = match arguments.format {
        Format::Ubl => ubl::import(&bytes, &Options::ubl(secret)),
        Format::Shudian => {
            let number_year_must_fit = !arguments.any_year;
            let options = Options { number_year_must_fit, ..Options::shudian(secret) };
            shudian::import(&bytes, &options)
        }
    };
    let imported =
        imported.map_err(|error| No(format!("{}: refused: {error}", arguments.file.display())))?;
    for note in &imported.notes {
        eprintln!("note: {note}");
    }
    let text = document_to_json(&imported.document);
    match &arguments.out {
        Some(path) => {
            std::fs::write(path, &text).with_context(|| path.display().to_string())?;
            let notes: Vec<String> = imported.notes.iter().map(ToString::to_string).collect();
            let json = serde_json::json!({
                "document": path, "kind": imported.kind.name(), "scheme": imported.scheme,
                "lines": imported.document.lines.len(), "notes": notes,
            });
            output.print(&json, || {
                format!("{} with {} lines", imported.kind.name(), imported.document.lines.len())
            })
        }
        None => {
            println!("{text}");
            Ok(())
        }
    }
}
