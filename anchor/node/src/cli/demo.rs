//! `piaogen demo`: the whole way of a record on one machine, with something to look at afterwards.

mod story;

use self::story::Story;
use super::{Output, audit, progress};
use crate::config::Config;
use crate::run::chain::clock_ms;
use crate::run::{Fatal, Node};
use crate::setup::{self, write_new};
use crate::sinks::{self, NodeReceipts, StreamSink};
use anyhow::{Context, Result, bail, ensure};
use piaogen_loadgen::drive::{Answers, Plan, drive};
use piaogen_loadgen::generator::{Generator, GeneratorConfig};
use piaogen_loadgen::genesis::demo_chain;
use piaogen_loadgen::outcomes::{Checker, ReceiptSource, Report};
use piaogen_loadgen::source::Source;
use piaogen_verify::document::Document;
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::json::document_to_json;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::trust_root::TrustRoot;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How many invoices.
    #[arg(long, default_value_t = 200_000)]
    records: u64,
    /// Where everything goes; must be new or empty.
    #[arg(long, default_value = "piaogen-demo", value_name = "DIR")]
    dir: PathBuf,
    /// Everything that is generated follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many sellers issue.
    #[arg(long, default_value_t = 1_000)]
    sellers: u32,
    /// Partitions of the stream.
    #[arg(long, default_value_t = 16)]
    partitions: u32,
}

const QUESTION: &str = "SELECT currency, count(*) AS invoices, sum(total_gross) AS gross_minor_units \
    FROM records WHERE outcome = 'ACCEPTED' AND kind IN ('issue', 'issue_red') \
    GROUP BY currency ORDER BY invoices DESC";

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let dir = &arguments.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let occupied = std::fs::read_dir(dir)?.next().is_some();
    ensure!(!occupied, "{} is not empty: name a new folder with --dir", dir.display());
    let chain = demo_chain(arguments.seed, arguments.partitions, 1, clock_ms());
    let genesis = setup::write_chain(dir, &chain.bytes, &chain.validators[0], &chain.authority)?;
    let mut toml = setup::BASE_TOML.to_string();
    toml.push_str("\n[stream]\nembedded_dir = \"stream\"\n");
    write_new(&dir.join("node.toml"), toml.as_bytes(), false)?;
    let config = Config::load(&dir.join("node.toml"))?;
    let parts = setup::node_parts(&config)?;
    let generator = Generator::new(GeneratorConfig {
        sellers: arguments.sellers,
        ..GeneratorConfig::new(arguments.seed, &genesis)
    });
    let mut sink = StreamSink::open(&*parts.records, &*parts.registry)?;
    let lanes = parts.lanes;
    let (rate, portable) = super::bench::glance(lanes)?;
    let node = Arc::new(Node::start(parts)?);
    say(
        output,
        &format!(
            "a chain in {}\nlanes: {} × {}; each verifies about {rate:.0} signatures a second, {:.1} \
             times a portable core",
            dir.display(),
            config.lanes(),
            lanes.name(),
            rate / portable
        ),
    );
    let registrations = generator.registrations(&chain.authority);
    sinks::register(&node, &mut sink, &registrations, arguments.partitions)?;
    say(output, &format!("{} registry records are final", registrations.len()));
    let report = load(arguments, &genesis, &node, &generator, &mut sink)?;
    let shown = prove(dir, &genesis, &node, &generator, arguments)?;
    let finality = node.metrics.finality_quantiles();
    let line = |text: &str| say(output, &format!("  {text}"));
    say(output, "\nthe life of an invoice:");
    Story {
        genesis: &genesis,
        node: &node,
        sink: &mut sink,
        authority: &chain.authority,
        say: &line,
    }
    .tell()?;
    drop(sink);
    let node = Arc::into_inner(node).context("the node is still in use")?;
    node.stop()?;
    finish(arguments, &config, &report, &shown, finality, output)
}

fn say(output: Output, text: &str) {
    if !output.json {
        println!("{text}");
    }
}

fn load(
    arguments: &Arguments,
    genesis: &Genesis,
    node: &Arc<Node>,
    generator: &Generator,
    sink: &mut StreamSink,
) -> Result<Report> {
    let bar = progress(arguments.records, "final");
    let plan = Plan { patience: Duration::from_secs(600), ..Plan::new(arguments.records) };
    let mut receipts = NodeReceipts::new(node.clone());
    let checker = Checker::new(TrustRoot::of_genesis(genesis));
    let answers = Answers { source: &mut receipts, checker: &checker, watch: None };
    let report = drive(generator, &plan, sink, Some(answers), &mut |_, checked| {
        bar.set_position(checked);
    })?;
    bar.finish_and_clear();
    if let Some(failure) = node.failure() {
        return Err(Fatal(failure).into());
    }
    Ok(report)
}

/// What the demo shows of one receipt.
struct Shown {
    number: String,
    receipt_bytes: usize,
    altered: Vec<String>,
}

/// Writes the receipt of one invoice, its document, and an altered document, and compares them.
fn prove(
    dir: &Path,
    genesis: &Genesis,
    node: &Arc<Node>,
    generator: &Generator,
    arguments: &Arguments,
) -> Result<Shown> {
    let trust = TrustRoot::of_genesis(genesis);
    let mut receipts = NodeReceipts::new(node.clone());
    for offset in 0..arguments.records {
        let bytes = receipts.receipt(0, offset).context("a receipt of partition 0")?;
        let mut receipt = Receipt::decode(&bytes)?;
        let Some(document) = document_of(generator, arguments.records, &receipt) else { continue };
        receipt.verify(&trust)?;
        receipt.hide_all();
        receipt.show(&document, &[tag::NUMBER, tag::TOTAL_GROSS])?;
        receipt.verify(&trust)?;
        let mut altered = document.clone();
        altered.fields.set_amount(tag::TOTAL_GROSS, document.fields.amount(tag::TOTAL_GROSS) + 1);
        let names = receipt.compare(&altered).into_iter().map(|d| d.name).collect();
        let write = |name: &str, text: String| {
            std::fs::write(dir.join(name), text).with_context(|| name.to_string())
        };
        write("receipt.json", receipt.to_json())?;
        write("document.json", document_to_json(&document))?;
        write("altered.json", document_to_json(&altered))?;
        let number = document.fields.text(tag::NUMBER).into();
        return Ok(Shown { number, receipt_bytes: receipt.encode().len(), altered: names });
    }
    bail!("no accepted invoice is in partition 0; use more --records")
}

/// The document of an accepted receipt, made again by the generator.
fn document_of(generator: &Generator, records: u64, receipt: &Receipt) -> Option<Document> {
    receipt.entry.issue?;
    (0..records.min(100_000)).find_map(|index| {
        let document = generator.document(index)?;
        (document.commitment() == receipt.entry.commitment).then_some(document)
    })
}

fn finish(
    arguments: &Arguments,
    config: &Config,
    report: &Report,
    shown: &Shown,
    finality: (f64, f64),
    output: Output,
) -> Result<()> {
    let dir = arguments.dir.display();
    let seconds = report.total.as_secs_f64();
    let rate = (report.checked as f64 / seconds.max(1e-9)) as u64;
    let json = serde_json::json!({
        "records": report.sent, "receipts_verified": report.checked,
        "mismatched": report.mismatched, "unanswered": report.unanswered,
        "seconds": seconds, "records_per_second": rate,
        "lanes": config.lanes(), "backend": config.backend()?.name(),
        "finality_p50_s": finality.0, "finality_p99_s": finality.1,
        "outcomes": report.outcomes, "expected": report.expected,
        "altered_fields": shown.altered, "receipt_bytes": shown.receipt_bytes,
    });
    output.print(&json, || {
        let mut text = format!(
            "\n{} records sent, {} receipts verified in {seconds:.1} s: {rate} records a second, \
             generating and signing included\n\n{:<20} {:>10} {:>10}\n",
            report.sent, report.checked, "outcome", "expected", "came"
        );
        for (name, expected) in &report.expected {
            let came = report.outcomes.get(name).copied().unwrap_or(0);
            text.push_str(&format!("{name:<20} {expected:>10} {came:>10}\n"));
        }
        text.push_str(&format!(
            "\nreceipt of {}: {} bytes, verified offline\none unit added to a total: caught in {}\n",
            shown.number,
            shown.receipt_bytes,
            shown.altered.join(", ")
        ));
        text
    })?;
    ensure!(
        report.is_good(),
        "{} receipts do not fit, {} are missing",
        report.mismatched,
        report.unanswered
    );
    ensure!(shown.altered == ["total_gross"], "the altered field was not named");
    if !output.json {
        println!("\n{QUESTION}");
        let chain = setup::genesis(&config.genesis)?.chain;
        audit::ask(&setup::archive_at_rest(config, Some(chain))?, QUESTION)?;
        println!(
            "\nlook next:\n  piaogen verify {dir}/receipt.json --trust-root {dir}/trust-root.json \
             --document {dir}/altered.json\n  piaogen fsck --dir {dir}\n  piaogen audit verify \
             --dir {dir}\n  piaogen receipt --dir {dir} --number {} --show all\n  piaogen inspect \
             --dir {dir} chain",
            shown.number
        );
    }
    Ok(())
}
