//! `piaogen devnet`: several validators, observers and witnesses on this machine, each a process of
//! its own, over one stream.
//!
//! It makes the chain, starts the processes, sends records, checks every receipt, shows what each
//! sees, checks receipts that demand two witnesses, and ends them in order; with `--trouble` it kills
//! and cuts off meanwhile. What it leaves is a folder to look at.
//!
//! Invariants
//! - No process outlives the command, however it ends.

mod cosigned;
mod processes;
mod sight;
mod trouble;

use super::{No, Output};
use crate::config::Config;
use crate::members::{self, Member};
use crate::run::chain::clock_ms;
use crate::setup::{self, random_key};
use crate::sinks::{HttpReceipts, StreamSink};
use anyhow::{Context, Result, bail, ensure};
use cosigned::{Cosigned, Watch};
use piaogen_loadgen::drive::{Answers, Plan, drive};
use piaogen_loadgen::generator::{Generator, GeneratorConfig};
use piaogen_loadgen::genesis::{DemoChain, demo_chain};
use piaogen_loadgen::outcomes::{Checker, Report};
use piaogen_loadgen::pace::Schedule;
use piaogen_loadgen::send::Sink;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::trust_root::TrustRoot;
use processes::{GLANCE, Kind, Namespace, PATIENCE, Post, Processes};
use sight::{NodeSight, Seen, Sight, Table};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use trouble::{Incident, Trouble};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where everything goes; must be new or empty.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// How many validators.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    validators: u32,
    /// How many observers: nodes without a vote, of which the first is asked for the receipts.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=4))]
    observers: u32,
    /// How many witnesses; receipts of the end demand two of them.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=4))]
    witnesses: u32,
    /// How many invoices are sent.
    #[arg(long, default_value_t = 20_000)]
    records: u64,
    /// How many a second.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Partitions of the stream.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// Everything that is generated follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kafka brokers; without them the embedded log carries the stream to all validators.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// While records are sent, kill each process in turn, then more validators than may fail; then
    /// compare all histories and execute the stream again. Wants four validators.
    #[arg(long)]
    trouble: bool,
    /// Kill the broker too: a program that does so when it is called with `kill`, and starts it
    /// again when it is called with `start`. deploy/kafka is one.
    #[arg(long, value_name = "PROGRAM", requires = "trouble", requires = "kafka")]
    broker: Option<PathBuf>,
    /// A network namespace in which a node runs, once for each, validators first; trouble then cuts
    /// the last validator off. The host's end of its link has its name, and only root may do this: deploy/devnet does.
    #[arg(long, value_name = "NAME=ADDRESS", requires = "trouble")]
    namespace: Vec<Namespace>,
}

/// Prefix of the topics in Kafka.
const TOPICS: &str = "devnet";
/// In a namespace of its own, a node has all ports.
const NAMESPACE_PORTS: [u16; 2] = [9_465, 9_464];

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let dir = &arguments.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let occupied = std::fs::read_dir(dir)?.next().is_some();
    ensure!(!occupied, "{} is not empty: name a new folder with --dir", dir.display());
    ensure!(!arguments.trouble || arguments.validators >= 4, "--trouble wants four validators");
    let nodes = (arguments.validators + arguments.observers) as usize;
    let all = arguments.namespace.is_empty() || arguments.namespace.len() == nodes;
    ensure!(all, "--namespace is named once for each of the {nodes} nodes, or not at all");
    let chain = demo_chain(arguments.seed, arguments.partitions, arguments.validators, clock_ms());
    let (genesis, members) = write(arguments, &chain)?;
    let config = Config::load(&members::folder(dir, 0).join("node.toml"))?;
    if arguments.kafka.is_some() {
        setup::create_topics(&config, &genesis, 1)?;
    }
    let (observers, trust) = (arguments.observers as usize, TrustRoot::of_genesis(&genesis));
    let watch = Watch::new(dir, trust, &members, observers, arguments.witnesses)?;
    let mut all = posts(arguments, &members);
    all.extend(watch.posts.iter().cloned());
    let processes = Processes::new(all)?;
    let table = Table::new(processes.posts.len());
    for index in 0..processes.posts.len() {
        processes.start(index)?;
    }
    let end = play(arguments, &chain, &config, &processes, &watch, &table)?;
    table.clear();
    processes.end()?;
    if arguments.trouble {
        fsck(&processes)?;
    }
    finish(arguments, &end, output)
}

/// What a run came to.
struct End {
    report: Report,
    incidents: Vec<Incident>,
    /// How many blocks all nodes agree on, where that was compared.
    blocks: Option<u64>,
    sights: Vec<Sight>,
    cosigned: Option<Cosigned>,
}

fn play(
    arguments: &Arguments,
    chain: &DemoChain,
    config: &Config,
    processes: &Processes,
    watch: &Watch,
    table: &Table,
) -> Result<End> {
    let trust = TrustRoot::of_genesis(&chain.genesis);
    let mut sink = register(arguments, chain, config, processes, table)?;
    let loaded = AtomicBool::new(true);
    let trouble = Trouble {
        processes,
        table,
        validators: arguments.validators as usize,
        broker: arguments.broker.as_deref(),
        loaded: &loaded,
    };
    let (report, troubled) = std::thread::scope(|scope| {
        let troubled = arguments.trouble.then(|| scope.spawn(|| trouble.run()));
        let report = load(arguments, chain, &mut sink, processes, table);
        loaded.store(false, Ordering::SeqCst);
        let troubled = troubled.map(|running| running.join());
        anyhow::Ok((report?, troubled))
    })?;
    let troubled =
        troubled.map(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    let troubled = troubled.transpose()?;
    let connected = u64::from(arguments.validators);
    let sights = processes.wait("all stand at one root, and are connected", |sights| {
        table.show(sights);
        together(sights, connected)
    })?;
    let (mut incidents, mut blocks) = (Vec::new(), None);
    if let Some((proved, happened)) = troubled {
        blocks = Some(trouble::after(processes, &trust, &proved)?);
        incidents = happened;
    }
    let http = asked(arguments, processes)?;
    let cosigned = watch.check(&arguments.dir, http, arguments.partitions, processes, table)?;
    Ok(End { report, incidents, blocks, sights, cosigned })
}

/// Whether all nodes have executed everything, stand at one root and are connected with so many
/// validators, and all witnesses signed.
fn together(sights: &[Sight], connected: u64) -> bool {
    let root = sights.first().and_then(Sight::node).map(|node| node.root);
    sights.iter().all(|sight| match &sight.seen {
        Seen::Silent => false,
        Seen::Node(node) => node.lag == 0 && Some(node.root) == root && node.connected == connected,
        Seen::Witness { .. } => true,
    })
}

/// Writes the folders, on ports that nobody uses.
fn write(arguments: &Arguments, chain: &DemoChain) -> Result<(Genesis, Vec<Member>)> {
    let keys = chain.validators.iter().map(|key| (key.public_key(), Some(key.clone()))).collect();
    let mut members = Member::all(keys, &[])?;
    let made = |_| random_key().map(|key| (key.public_key(), Some(key)));
    let observers = (0..arguments.observers).map(made).collect::<Result<_>>()?;
    members.extend(Member::observers(observers, &[], members.len())?);
    let free = piaogen_order::ports::free(2 * members.len()).context("finding free ports")?;
    for (index, (member, pair)) in members.iter_mut().zip(free.chunks_exact(2)).enumerate() {
        let places = match arguments.namespace.get(index) {
            Some(namespace) => NAMESPACE_PORTS.map(|port| format!("{}:{port}", namespace.address)),
            None => [pair[0].to_string(), pair[1].to_string()],
        };
        [member.address, member.http] = places;
    }
    let stream = match &arguments.kafka {
        Some(brokers) => format!(
            "carrier = \"kafka\"\nbrokers = {brokers:?}\nrecords_topic = \"{TOPICS}-{0}-records\"\n\
             registry_topic = \"{TOPICS}-{0}-registry\"\nalerts_topic = \"\"\n",
            std::process::id()
        ),
        None => "embedded_dir = \"../stream\"\n".into(),
    };
    let more = format!("\n[stream]\n{stream}{}", cosigned::TOML);
    let genesis = members::write(&arguments.dir, &chain.bytes, &members, &chain.authority, &more)?;
    Ok((genesis, members))
}

/// The nodes to be.
fn posts(arguments: &Arguments, members: &[Member]) -> Vec<Post> {
    let folders = members::folders(&arguments.dir, members);
    let post = |(index, (member, folder)): (usize, (&Member, PathBuf))| {
        let kind =
            Kind::Node { http: member.http.clone(), key: hex::encode(member.key.to_compressed()) };
        let arguments_of_node = ["node", "--log", "info", "--dir"].map(String::from);
        let place = folder.display().to_string();
        Post {
            name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            kind,
            arguments: arguments_of_node.into_iter().chain([place]).collect(),
            folder,
            namespace: arguments.namespace.get(index).cloned(),
        }
    };
    members.iter().zip(folders).enumerate().map(post).collect()
}

/// Registers the participants, and waits until every node knows them, and is connected with every
/// validator: agreement needs less, but what is lost then is no news.
fn register(
    arguments: &Arguments,
    chain: &DemoChain,
    config: &Config,
    processes: &Processes,
    table: &Table,
) -> Result<StreamSink> {
    let (records, registry) = setup::streams(config, &chain.genesis)?;
    let mut sink = StreamSink::open(&*records, &*registry)?;
    let generator = generator(arguments, chain);
    let registrations = generator.registrations(&chain.authority);
    for (token, record) in (0..).zip(&registrations) {
        sink.send(arguments.partitions, record, token)?;
    }
    sink.flush()?;
    sink.poll_acks(&mut Vec::new())?;
    let registered = registrations.len() as u64;
    let validators = u64::from(arguments.validators);
    processes.wait("the participants are registered, and all are connected", |sights| {
        table.show(sights);
        let nodes = sights.iter().filter_map(Sight::node);
        let ready =
            |node: &&NodeSight| node.executed_records >= registered && node.connected == validators;
        let here = nodes.filter(ready).count();
        here == processes.posts.iter().filter(|post| matches!(post.kind, Kind::Node { .. })).count()
    })?;
    Ok(sink)
}

fn generator(arguments: &Arguments, chain: &DemoChain) -> Generator {
    Generator::new(GeneratorConfig::new(arguments.seed, &chain.genesis))
}

/// Where receipts are asked for: at the first observer, or else validator.
fn asked<'a>(arguments: &Arguments, processes: &'a Processes) -> Result<&'a str> {
    let first_observer = arguments.validators as usize;
    let asked = if arguments.observers > 0 { first_observer } else { 0 };
    match &processes.posts[asked].kind {
        Kind::Node { http, .. } => Ok(http),
        Kind::Witness => bail!("{} serves no receipts", processes.posts[asked].name),
    }
}

/// Sends everything, and checks every receipt of the first observer, or else validator.
fn load(
    arguments: &Arguments,
    chain: &DemoChain,
    sink: &mut StreamSink,
    processes: &Processes,
    table: &Table,
) -> Result<Report> {
    let plan = Plan {
        schedule: Schedule::Fixed { per_second: arguments.rate },
        patience: PATIENCE,
        ..Plan::new(arguments.records)
    };
    let checker = Checker::new(TrustRoot::of_genesis(&chain.genesis));
    let mut receipts = HttpReceipts::new(asked(arguments, processes)?);
    let answers = Answers { source: &mut receipts, checker: &checker, watch: None };
    let mut shown = Instant::now();
    let generator = generator(arguments, chain);
    let report = drive(&generator, &plan, sink, Some(answers), &mut |_, _| {
        if shown.elapsed() >= GLANCE {
            table.show(&processes.look());
            shown = Instant::now();
        }
    })?;
    Ok(report)
}

/// Executes the stream again for each node, now at rest.
fn fsck(processes: &Processes) -> Result<()> {
    let program = std::env::current_exe().context("finding this program")?;
    for post in &processes.posts {
        let Kind::Node { .. } = post.kind else { continue };
        let mut command = Command::new(&program);
        let status =
            command.arg("fsck").arg("--dir").arg(&post.folder).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "{}: `piaogen fsck` found something ({status})", post.name);
    }
    Ok(())
}

fn finish(arguments: &Arguments, end: &End, output: Output) -> Result<()> {
    let End { report, incidents, blocks, sights, cosigned } = end;
    let json = serde_json::json!({
        "validators": arguments.validators, "records": report.sent,
        "receipts_verified": report.checked, "mismatched": report.mismatched,
        "unanswered": report.unanswered, "seconds": report.total.as_secs_f64(),
        "to_receipt_p99_ms": report.to_receipt.value_at_percentile(99.0) / 1_000,
        "incidents": incidents.iter().map(Incident::json).collect::<Vec<_>>(),
        "blocks_compared": blocks, "cosigned": cosigned.as_ref().map(Cosigned::json),
        "sights": sights.iter().map(Sight::json).collect::<Vec<_>>(),
    });
    output.print(&json, || {
        let mut lines: Vec<String> = incidents.iter().map(Incident::line).collect();
        if let Some(blocks) = blocks {
            lines.push(format!(
                "{blocks} blocks are the same and certified everywhere; the first receipt still \
                 verifies;\nthe stream executed again gives every node's state\n"
            ));
        }
        lines.push(Sight::HEAD.into());
        lines.extend(sights.iter().map(Sight::line));
        lines.extend(cosigned.iter().map(|cosigned| format!("\n{}", cosigned.line())));
        lines.push(format!(
            "\n{} records sent, {} receipts verified in {:.1} s; all nodes stand at one root\n\
             look next:\n  piaogen fsck --dir {}",
            report.sent,
            report.checked,
            report.total.as_secs_f64(),
            members::folder(&arguments.dir, 0).display()
        ));
        lines.join("\n")
    })?;
    match report.is_good() {
        true => Ok(()),
        false => Err(No(format!(
            "{} receipts do not fit, {} are missing",
            report.mismatched, report.unanswered
        ))
        .into()),
    }
}
