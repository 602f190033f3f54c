//! `piaogen audit`: verifies and queries the archive, from its files alone.

use super::{No, Output, RECEIPT_MAX, progress, read_text};
use crate::config::Config;
use crate::setup;
use anyhow::{Context, Result};
use piaogen_storage::archive::audit::{self, AuditOptions, Report};
use piaogen_storage::archive::{Archive, ArchiveConfig};
use piaogen_verify::trust_root::TrustRoot;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Recompute leaves, log roots, headers and certificates from the files.
    Verify {
        #[command(flatten)]
        source: Source,
        /// What you trust beforehand; default: trust-root.json in the folder of --dir.
        #[arg(long, value_name = "FILE")]
        trust_root: Option<PathBuf>,
        /// Check every signature again: slow.
        #[arg(long)]
        signatures: bool,
    },
    /// Answer a question in SQL: tables `records` and `blocks`.
    Query {
        #[command(flatten)]
        source: Source,
        /// The question.
        sql: String,
        /// How the answer is printed.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        /// Most memory that the query takes before it goes to disk.
        #[arg(long, default_value_t = 1_024)]
        memory_mib: usize,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// Comma-separated values with a head line.
    Csv,
    /// One JSON object a line.
    Json,
}

/// Where the archive lies.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// Folder of a chain, as `piaogen genesis` and `piaogen demo` make it.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Configuration file of a node.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The archive alone: a folder or s3://bucket/prefix.
    #[arg(long, value_name = "LOCATION")]
    archive: Option<String>,
}

impl Source {
    fn open(&self) -> Result<Archive> {
        let config = match (&self.dir, &self.config, &self.archive) {
            (_, _, Some(location)) => ArchiveConfig::new(location),
            (_, Some(file), _) => setup::archive_config(&Config::load(file)?),
            (Some(dir), _, _) => setup::archive_config(&Config::load(&dir.join("node.toml"))?),
            (None, None, None) => ArchiveConfig::new("archive"),
        };
        Ok(Archive::open_read_only(config, None)?)
    }

    fn trust_root(&self, named: Option<&PathBuf>) -> Result<TrustRoot> {
        let path = match (named, &self.dir) {
            (Some(path), _) => path.clone(),
            (None, Some(dir)) => dir.join("trust-root.json"),
            (None, None) => anyhow::bail!("--trust-root FILE is needed without --dir"),
        };
        let text = read_text(&path, RECEIPT_MAX)?;
        TrustRoot::from_json(&text).with_context(|| path.display().to_string())
    }
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    match &arguments.what {
        What::Verify { source, trust_root, signatures } => {
            let trust = source.trust_root(trust_root.as_ref())?;
            verify(&source.open()?, &trust, *signatures, output)
        }
        What::Query { source, sql, format, memory_mib } => {
            let format = if output.json { Format::Json } else { *format };
            query(&source.open()?, sql, format, *memory_mib)
        }
    }
}

fn verify(archive: &Archive, trust: &TrustRoot, signatures: bool, output: Output) -> Result<()> {
    let options = AuditOptions { signatures, ..AuditOptions::default() };
    let bar = progress(0, "verifying");
    let report = audit::verify(archive, trust, &options, &|at| {
        bar.set_length(at.rows_total);
        bar.set_position(at.rows);
    })?;
    bar.finish_and_clear();
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let json = serde_json::json!({
        "clean": report.is_clean(), "segments": report.segments, "bytes": report.bytes,
        "rows": report.rows, "rows_covered": report.rows_covered, "blocks": report.blocks,
        "height": report.height, "signatures": report.signatures,
        "rows_per_second": report.rows_per_second() as u64,
        "findings": findings, "findings_more": report.findings_more,
    });
    output.print(&json, || text(&report))?;
    if report.is_clean() {
        Ok(())
    } else {
        let count = report.findings.len() as u64 + report.findings_more;
        Err(No(format!("{count} findings")).into())
    }
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "{} rows in {} segments ({} bytes), {} of them under a certified header, {} blocks up to \
         height {}; {} rows a second\n",
        report.rows,
        report.segments,
        report.bytes,
        report.rows_covered,
        report.blocks,
        report.height.map_or("none".into(), |height| height.to_string()),
        report.rows_per_second() as u64
    );
    for finding in &report.findings {
        text.push_str(&format!("FOUND {finding}\n"));
    }
    if report.findings_more > 0 {
        text.push_str(&format!("and {} more\n", report.findings_more));
    }
    text.push_str(if report.is_clean() { "clean" } else { "NOT CLEAN" });
    text
}

#[cfg(feature = "query")]
fn query(archive: &Archive, sql: &str, format: Format, memory_mib: usize) -> Result<()> {
    let format = match format {
        Format::Table => piaogen_query::Format::Table,
        Format::Csv => piaogen_query::Format::Csv,
        Format::Json => piaogen_query::Format::Json,
    };
    let options = piaogen_query::QueryOptions {
        memory_bytes: memory_mib << 20,
        ..piaogen_query::QueryOptions::default()
    };
    let mut out = std::io::stdout().lock();
    piaogen_query::query(archive, sql, format, &options, &mut out)?;
    Ok(())
}

#[cfg(not(feature = "query"))]
fn query(_: &Archive, _: &str, _: Format, _: usize) -> Result<()> {
    anyhow::bail!(
        "this binary was built without the feature `query`; build it with default features"
    )
}

/// Answers a question about an archive as a table, for the demo.
pub(super) fn ask(archive: &Archive, sql: &str) -> Result<()> {
    query(archive, sql, Format::Table, 1_024)
}
