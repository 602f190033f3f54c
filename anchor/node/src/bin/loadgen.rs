//! The `loadgen` command: plays the outside world against a stream, and checks every receipt.

use anyhow::{Context, Result};
use clap::Parser;
use piaogen_ingest::stream::log::{EmbeddedLog, LogOptions};
use piaogen_loadgen::cli::{Command, Host, run};
use piaogen_loadgen::outcomes::ReceiptSource;
use piaogen_loadgen::scenario::Stage;
use piaogen_loadgen::send::Sink;
use piaogen_node::cli::{No, exit_code, start_log};
use piaogen_node::sinks::{HttpReceipts, StreamSink};
use piaogen_node::stage::OwnChain;
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

/// Knows the embedded log and the node's HTTP port, and runs a chain where one is wanted.
#[derive(Default)]
struct Here {
    chain: Option<OwnChain>,
}

impl Host for Here {
    fn embedded(&mut self, folder: &Path, genesis: &Genesis) -> Result<Box<dyn Sink>> {
        let open = |topic: &str, partitions: u32| {
            EmbeddedLog::create(&folder.join(topic), topic, partitions, LogOptions::default())
        };
        let records = open("records", genesis.file.partitions)?;
        let registry = open("registry", 1)?;
        Ok(Box::new(StreamSink::open(&records, &registry).context("opening the embedded log")?))
    }

    fn receipts(&mut self, address: &str) -> Result<Box<dyn ReceiptSource>> {
        Ok(Box::new(HttpReceipts::new(address)))
    }

    fn stage(&mut self, seed: u64, partitions: u32) -> Result<Stage> {
        let (chain, stage) = OwnChain::start(seed, partitions)?;
        self.chain = Some(chain);
        Ok(stage)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log("warn", false);
    exit_code(generate(&arguments))
}

fn generate(arguments: &Arguments) -> Result<()> {
    let mut here = Here::default();
    let answer = run(&arguments.command, &mut here)?;
    if let Some(mut chain) = here.chain.take() {
        chain.stop()?;
    }
    if arguments.json {
        println!("{:#}", answer.to_json());
    } else {
        print!("{}", answer.to_text());
    }
    match answer.complaint() {
        Some(complaint) => Err(No(complaint).into()),
        None => Ok(()),
    }
}
