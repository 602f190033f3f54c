//! The `loadgen` command: plays the outside world against a stream, and checks every receipt.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use piaogen_ingest::stream::log::{EmbeddedLog, LogOptions};
use piaogen_loadgen::cli::{Command, Delivery, Host, run};
use piaogen_loadgen::outcomes::ReceiptSource;
use piaogen_loadgen::send::Sink;
use piaogen_node::cli::{exit_code, start_log};
use piaogen_node::sinks::{HttpReceipts, StreamSink};
use piaogen_verify::genesis::Genesis;
use std::path::Path;
use std::process::ExitCode;

/// Makes, signs and sends records at a rate, waits for receipts, checks each one.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, about, max_term_width = 100)]
struct Arguments {
    /// Print the report as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// Knows the embedded log and the node's HTTP port.
struct Here;

impl Host for Here {
    fn embedded(&mut self, folder: &Path, genesis: &Genesis) -> Result<Box<dyn Sink>> {
        let open = |topic: &str, partitions: u32| {
            EmbeddedLog::create(&folder.join(topic), topic, partitions, LogOptions::default())
        };
        let records = open("records", genesis.file.partitions)?;
        let registry = open("registry", 1)?;
        Ok(Box::new(StreamSink::open(&records, &registry).context("opening the embedded log")?))
    }

    fn receipts(&mut self, delivery: &Delivery) -> Result<Option<Box<dyn ReceiptSource>>> {
        Ok(delivery
            .receipts
            .as_ref()
            .map(|address| Box::new(HttpReceipts::new(address)) as Box<dyn ReceiptSource>))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log("warn", false);
    exit_code(generate(&arguments))
}

fn generate(arguments: &Arguments) -> Result<()> {
    let Some(report) = run(&arguments.command, &mut Here)? else { return Ok(()) };
    if arguments.json {
        let rows: serde_json::Map<String, serde_json::Value> =
            report.rows().into_iter().map(|(name, value, _)| (name, value.into())).collect();
        println!("{:#}", serde_json::Value::Object(rows));
    } else {
        print!("{}", report.to_text());
    }
    ensure!(
        report.is_good(),
        "{} receipts do not fit, {} records have none",
        report.mismatched,
        report.unanswered
    );
    Ok(())
}
