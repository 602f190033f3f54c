//! The command line of the load generator: `make`, `send`, `replay`, `scenario`.
//!
//! It is a function with a host, not a program: Kafka is spoken here, and whoever hosts it brings
//! the embedded log and the place where receipts are.
//!
//! Invariants
//! - Nothing is sent to a chain whose genesis was not given: the chain is part of every signature.
//! - Registrations are sent first, and are waited for, before the first record is sent.

mod scenario;

use crate::drive::{Answers, Plan, drive};
use crate::generator::{Generator, GeneratorConfig, Shares};
use crate::genesis::AUTHORITY;
use crate::kafka::{KafkaConfig, KafkaSink};
use crate::outcomes::{Checker, ReceiptSource, Report};
use crate::pace::Schedule;
use crate::pack::{Pack, PackWriter};
use crate::parties::key;
use crate::replay::Replay;
use crate::retail::Retail;
use crate::scenario::{EVENTS_MAX, Load, LoadConfig, Play, RaceReport, Stage};
use crate::send::Sink;
use crate::source::{Registrations, Signatures, Source};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use piaogen_crypto::Lanes;
use piaogen_crypto::sm2::SecretKey;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::trust_root::TrustRoot;
pub use scenario::Scenario;
use serde_json::{Map, Value};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the load generator is to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make records and keep them in a file, to send them later and often.
    Make(Make),
    /// Send generated records, and check the receipt of each.
    Send(Send),
    /// Send the invoices of the UCI "Online Retail" file, and check the receipt of each.
    Replay(ReplayArgs),
    /// Play a season of honest trade and known frauds, or races of two banks, and say what was
    /// caught.
    Scenario(Scenario),
}

/// What came of a command.
pub enum Answer {
    /// A file was made.
    Made,
    /// Records were sent.
    Sent(Box<Report>),
    /// A season was played.
    Played(Box<Play>),
    /// Races were run.
    Raced(RaceReport),
}

impl Answer {
    /// For people.
    pub fn to_text(&self) -> String {
        match self {
            Answer::Made => String::new(),
            Answer::Sent(report) => report.to_text(),
            Answer::Played(play) => play.to_text(),
            Answer::Raced(report) => report.to_text(),
        }
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        match self {
            Answer::Made => Value::Object(Map::new()),
            Answer::Sent(report) => {
                let rows = report.rows().into_iter();
                Value::Object(rows.map(|(name, value, _)| (name, value.into())).collect())
            }
            Answer::Played(play) => play.to_json(),
            Answer::Raced(report) => report.to_json(),
        }
    }

    /// What is wrong; `None` where everything is as it must be.
    pub fn complaint(&self) -> Option<String> {
        match self {
            Answer::Sent(report) if !report.is_good() => Some(format!(
                "{} receipts do not fit, {} records have none",
                report.mismatched, report.unanswered
            )),
            Answer::Played(play) if !play.is_good() => Some(play.complaint()),
            Answer::Raced(report) if !report.is_good() => Some(report.complaint()),
            _ => None,
        }
    }
}

/// What is generated.
#[derive(Clone, Debug, Args)]
pub struct Content {
    /// The genesis file of the chain.
    #[arg(long)]
    pub genesis: PathBuf,
    /// Records, keys and names follow from this number.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Key of an authority (PKCS #8 PEM) that registers sellers; by default the one of a demo chain
    /// with this seed.
    #[arg(long)]
    pub authority_key: Option<PathBuf>,
    /// How many sellers issue.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub sellers: u32,
    /// Bad records among 100,000, spread over all kinds.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(0..=90_000))]
    pub bad: u32,
    /// How many records, events included.
    #[arg(long, default_value_t = 100_000)]
    pub records: u64,
    /// Events for each 100 records of invoices: bookings, deductions, financings and the like, some
    /// to be refused. Their time is that of the genesis; execute them within a day after it.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=EVENTS_MAX))]
    pub events: u64,
    /// Do not sign: for a harness that checks no signatures.
    #[arg(long)]
    pub dummy_signatures: bool,
}

/// `make`
#[derive(Debug, Args)]
pub struct Make {
    /// What to make.
    #[command(flatten)]
    pub content: Content,
    /// The file to write; it must not exist.
    #[arg(long)]
    pub out: PathBuf,
}

/// Where records go, how fast, and what is written about it.
#[derive(Clone, Debug, Args)]
pub struct Delivery {
    /// Kafka brokers, `host:port`, separated by commas.
    #[arg(long, required_unless_present = "embedded", conflicts_with = "embedded")]
    pub kafka: Option<String>,
    /// What the names of the topics begin with, as `piaogen genesis --topic-prefix` said.
    #[arg(long, default_value = "")]
    pub topic_prefix: String,
    /// A librdkafka setting, `key=value`; may be repeated.
    #[arg(long = "kafka-option", value_parser = key_value)]
    pub kafka_options: Vec<(String, String)>,
    /// Folder of an embedded log.
    #[arg(long)]
    pub embedded: Option<PathBuf>,
    /// Where a node serves receipts (its `listen`), `host:port`; without it none are checked.
    #[arg(long, value_name = "HOST:PORT")]
    pub receipts: Option<String>,
    /// Records a second; as fast as it goes without it.
    #[arg(long)]
    pub rate: Option<u64>,
    /// Follow the hours of a day; a day takes so many seconds and has `--per-day` records.
    #[arg(long, requires = "per_day", conflicts_with = "rate")]
    pub day_s: Option<u64>,
    /// Records a day.
    #[arg(long)]
    pub per_day: Option<u64>,
    /// A burst of so many records a second, on top of `--rate`, for 2 s of every 10 s.
    #[arg(long, requires = "rate", conflicts_with = "day_s")]
    pub burst: Option<u64>,
    /// Sellers are registered: send records alone.
    #[arg(long)]
    pub registered: bool,
    /// Where no receipts can be read, how long to wait after registrations, in milliseconds.
    #[arg(long, default_value_t = 5_000)]
    pub settle_ms: u64,
    /// How long to wait for receipts after the last record, in seconds.
    #[arg(long, default_value_t = 120)]
    pub patience_s: u64,
    /// Write the report as CSV.
    #[arg(long)]
    pub report: Option<PathBuf>,
}

/// `send`
#[derive(Debug, Args)]
pub struct Send {
    /// What to send.
    #[command(flatten)]
    pub content: Content,
    /// Where and how.
    #[command(flatten)]
    pub delivery: Delivery,
    /// Send the records of a file of `make` in place of new ones.
    #[arg(long)]
    pub pack: Option<PathBuf>,
    /// Begin with this record.
    #[arg(long, default_value_t = 0)]
    pub first: u64,
}

/// `replay`
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The genesis file of the chain.
    #[arg(long)]
    pub genesis: PathBuf,
    /// The file, .csv or .csv.gz.
    #[arg(long)]
    pub online_retail: PathBuf,
    /// Pairs of credits and originals; by default `reversal_pairs.csv` beside the file, if there.
    #[arg(long)]
    pub pairs: Option<PathBuf>,
    /// Keys of the sellers follow from this number.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Key of an authority (PKCS #8 PEM) that registers sellers; by default the one of a demo chain
    /// with this seed.
    #[arg(long)]
    pub authority_key: Option<PathBuf>,
    /// How often the file is sent, each time under new numbers.
    #[arg(long, default_value_t = 1)]
    pub rounds: u64,
    /// Send invoices alone: no events of credits on their originals.
    #[arg(long)]
    pub without_reversals: bool,
    /// Write the rows that are no invoices here, as CSV.
    #[arg(long)]
    pub rejects: Option<PathBuf>,
    /// Where and how.
    #[command(flatten)]
    pub delivery: Delivery,
}

/// Brings what the load generator does not know: the embedded log, and where receipts are.
pub trait Host {
    /// A sink into the embedded log of a folder.
    fn embedded(&mut self, folder: &Path, genesis: &Genesis) -> Result<Box<dyn Sink>>;

    /// Receipts of the node at `host:port`.
    fn receipts(&mut self, address: &str) -> Result<Box<dyn ReceiptSource>>;

    /// A chain of its own that runs until the host ends, with the keys of a seed.
    fn stage(&mut self, seed: u64, partitions: u32) -> Result<Stage>;
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as key=value")?;
    Ok((key.into(), value.into()))
}

/// Does it; says what came of it.
pub fn run(command: &Command, host: &mut dyn Host) -> Result<Answer> {
    match command {
        Command::Make(args) => make(args).map(|()| Answer::Made),
        Command::Send(args) => send(args, host).map(|report| Answer::Sent(Box::new(report))),
        Command::Replay(args) => replay(args, host).map(|report| Answer::Sent(Box::new(report))),
        Command::Scenario(args) => scenario::scenario(args, host),
    }
}

fn read_genesis(path: &Path) -> Result<Genesis> {
    let bytes = std::fs::read(path).with_context(|| {
        format!("{} cannot be read; make it with `piaogen genesis`", path.display())
    })?;
    Ok(Genesis::parse(&bytes)?)
}

fn authority(file: Option<&Path>, seed: u64, genesis: &Genesis) -> Result<SecretKey> {
    let key = match file {
        None => key(seed, "authority", 0),
        Some(path) => {
            let pem = std::fs::read_to_string(path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            SecretKey::from_pkcs8_pem(&pem).with_context(|| path.display().to_string())?
        }
    };
    if genesis.participants.iter().any(|(_, _, _, known)| *known == key.public_key()) {
        return Ok(key);
    }
    bail!(
        "the genesis has no participant with the authority's key; give it with --authority-key \
         (a demo chain names {AUTHORITY} with the key of its seed: give that --seed)"
    )
}

/// Records for the topic `registry`.
type Registry = Vec<Vec<u8>>;

/// The records that are wanted, and the registrations that must be in a block before them; these
/// are left out where they are not wanted.
fn generated(
    content: &Content,
    genesis: &Genesis,
    first: u64,
    registered: bool,
) -> Result<(Box<dyn Source>, Registry)> {
    let authority = || authority(content.authority_key.as_deref(), content.seed, genesis);
    let records = first.saturating_add(content.records);
    let mut config = GeneratorConfig::new(content.seed, genesis);
    config.sellers = content.sellers;
    config.shares = Shares::with_bad(content.bad);
    config.records = Some(records);
    if content.dummy_signatures {
        config.signatures = Signatures::Dummy;
    }
    if content.events > 0 {
        let config = LoadConfig { invoices: config, records, events_per_100: content.events };
        let load = Load::new(config, genesis, &authority()?);
        let registrations = if registered { Vec::new() } else { load.registrations() };
        return Ok((Box::new(load), registrations));
    }
    let generator = Generator::new(config);
    let registrations =
        if registered { Vec::new() } else { generator.registrations(&authority()?) };
    Ok((Box::new(generator), registrations))
}

fn bar(what: &'static str, length: u64) -> ProgressBar {
    // Draws nothing where standard error is no terminal.
    let style = ProgressStyle::with_template("{msg:10} {bar:32} {pos}/{len} {per_sec} {eta}");
    let bar = ProgressBar::new(length).with_message(what);
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}

fn make(args: &Make) -> Result<()> {
    let genesis = read_genesis(&args.content.genesis)?;
    let content = &args.content;
    let (source, registrations) = generated(content, &genesis, 0, false)?;
    let partitions = genesis.file.partitions;
    let mut out =
        PackWriter::create(&args.out, &genesis.chain, partitions, content.records, &registrations)
            .with_context(|| format!("{} cannot be made", args.out.display()))?;
    let bar = bar("making", content.records);
    let mut at = 0;
    while at < content.records {
        let next = (at + 8_192).min(content.records);
        for generated in source.batch(at..next, Lanes::detect())? {
            out.push(&generated)?;
        }
        bar.set_position(next);
        at = next;
    }
    out.finish()?;
    bar.finish();
    Ok(())
}

fn send(args: &Send, host: &mut dyn Host) -> Result<Report> {
    let content = &args.content;
    let genesis = read_genesis(&content.genesis)?;
    let plan = plan(&args.delivery, args.first, content.records)?;
    if let Some(path) = &args.pack {
        let pack =
            Pack::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        if pack.chain != genesis.chain || pack.partitions != genesis.file.partitions {
            bail!("{} was made for another chain; make it again", path.display());
        }
        let plan = Plan { records: pack.records.saturating_sub(args.first), ..plan };
        let registrations = pack.registrations.clone();
        return deliver(&pack, registrations, &plan, &args.delivery, &genesis, host);
    }
    let registered = args.delivery.registered;
    let (source, registrations) = generated(content, &genesis, args.first, registered)?;
    deliver(source.as_ref(), registrations, &plan, &args.delivery, &genesis, host)
}

fn replay(args: &ReplayArgs, host: &mut dyn Host) -> Result<Report> {
    let genesis = read_genesis(&args.genesis)?;
    let beside = args.online_retail.with_file_name("reversal_pairs.csv");
    let pairs = args.pairs.clone().or_else(|| beside.exists().then_some(beside));
    let retail = Retail::read(&args.online_retail, pairs.as_deref())?;
    eprintln!(
        "{} rows: {} invoices to send; {} numbers are no invoices, {} rows are in none",
        retail.rows,
        retail.invoices.len(),
        retail.not_invoices,
        retail.reported.len()
    );
    if let Some(path) = &args.rejects {
        write_rejects(&retail, path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let replay = Replay::new(retail, args.seed, args.rounds, &genesis);
    let replay = if args.without_reversals { replay } else { replay.with_reversals() };
    let registrations = match args.delivery.registered {
        true => Vec::new(),
        false => {
            let authority = authority(args.authority_key.as_deref(), args.seed, &genesis)?;
            replay.registrations(&authority)
        }
    };
    let plan = plan(&args.delivery, 0, replay.len().unwrap_or(0))?;
    deliver(&replay, registrations, &plan, &args.delivery, &genesis, host)
}

/// Writes the rows that are in no invoice: row, invoice number, reason.
pub fn write_rejects(retail: &Retail, path: &Path) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(out, "row,invoice,reason")?;
    for reported in &retail.reported {
        // Quoted, because a number that could not be read may be anything.
        let number = reported.number.replace('"', "\"\"");
        writeln!(out, "{},\"{number}\",{}", reported.row, reported.reason.name())?;
    }
    out.flush()
}

fn plan(delivery: &Delivery, first: u64, records: u64) -> Result<Plan> {
    let schedule = match (delivery.rate, delivery.day_s, delivery.per_day, delivery.burst) {
        (_, Some(0), _, _) => bail!("--day-s = 0 is below 1; give the seconds that a day takes"),
        (_, Some(seconds), Some(per_day), _) => {
            Schedule::Day { per_day, length: Duration::from_secs(seconds) }
        }
        (Some(base), _, _, Some(peak)) => Schedule::Burst {
            base,
            peak: base.saturating_add(peak),
            every: Duration::from_secs(10),
            length: Duration::from_secs(2),
        },
        (Some(per_second), ..) => Schedule::Fixed { per_second },
        _ => Schedule::Fastest,
    };
    let patience = Duration::from_secs(delivery.patience_s);
    Ok(Plan { first, schedule, patience, ..Plan::new(records) })
}

fn deliver(
    source: &dyn Source,
    registrations: Vec<Vec<u8>>,
    plan: &Plan,
    delivery: &Delivery,
    genesis: &Genesis,
    host: &mut dyn Host,
) -> Result<Report> {
    let partitions = genesis.file.partitions;
    let mut sink: Box<dyn Sink> = match (&delivery.kafka, &delivery.embedded) {
        (Some(brokers), _) => {
            let mut config = KafkaConfig::new(brokers, &delivery.topic_prefix, partitions);
            config.options.clone_from(&delivery.kafka_options);
            Box::new(KafkaSink::new(config)?)
        }
        (None, Some(folder)) => host.embedded(folder, genesis)?,
        (None, None) => bail!("no stream to send to; give --kafka or --embedded"),
    };
    let mut receipts = match &delivery.receipts {
        Some(address) => Some(host.receipts(address)?),
        None => None,
    };
    let checker = Checker::new(TrustRoot::of_genesis(genesis));
    if !registrations.is_empty() && !delivery.registered {
        let registry = Registrations { records: registrations, partitions };
        let plan = Plan { patience: plan.patience, ..Plan::new(registry.records.len() as u64) };
        let answers = answers(receipts.as_mut(), &checker);
        let has_answers = answers.is_some();
        let report = drive(&registry, &plan, sink.as_mut(), answers, &mut |_, _| {})?;
        if !report.is_good() {
            bail!("not all sellers could be registered:\n{}", report.to_text());
        }
        if !has_answers {
            std::thread::sleep(Duration::from_millis(delivery.settle_ms));
        }
    }
    let bar = bar("sending", plan.records);
    let answers = answers(receipts.as_mut(), &checker);
    let shown = answers.is_some();
    let report = drive(source, plan, sink.as_mut(), answers, &mut |sent, checked| {
        bar.set_position(if shown { checked } else { sent });
    })?;
    bar.finish_and_clear();
    if let Some(path) = &delivery.report {
        let file = std::fs::File::create(path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        report.write_csv(std::io::BufWriter::new(file))?;
    }
    Ok(report)
}

fn answers<'a>(
    receipts: Option<&'a mut Box<dyn ReceiptSource>>,
    checker: &'a Checker,
) -> Option<Answers<'a>> {
    receipts.map(|source| Answers { source: source.as_mut(), checker, watch: None })
}
