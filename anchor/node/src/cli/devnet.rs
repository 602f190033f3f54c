//! `piaogen devnet`: several validators, observers and witnesses on this machine, each a process of
//! its own, over one stream.
//!
//! It makes the chain, starts the processes, sends records, checks every receipt, shows what each
//! sees, and ends them in order; with `--trouble` it kills and cuts off meanwhile. What it leaves is
//! a folder to look at.
//!
//! Invariants
//! - No process outlives the command, however it ends.

mod processes;
mod sight;
mod trouble;

use super::{No, Output};
use crate::config::Config;
use crate::members::{self, Member};
use crate::run::chain::clock_ms;
use crate::setup::{self, random_key, write_new};
use crate::sinks::{HttpReceipts, StreamSink};
use anyhow::{Context, Result, bail, ensure};
use piaogen_loadgen::drive::{Answers, Plan, drive};
use piaogen_loadgen::generator::{Generator, GeneratorConfig};
use piaogen_loadgen::genesis::{DemoChain, demo_chain};
use piaogen_loadgen::outcomes::{Checker, Report};
use piaogen_loadgen::pace::Schedule;
use piaogen_loadgen::send::Sink;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::trust_root::TrustRoot;
use processes::{GLANCE, Kind, Namespace, PATIENCE, Post, Processes};
use sight::{Seen, Sight, Table};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
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
    /// How many witnesses.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=4))]
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
/// Seconds between two looks of a witness.
const WITNESS_EVERY: &str = "1";

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
    let processes = Processes::new(posts(arguments, &members)?)?;
    let table = Table::new(processes.posts.len());
    for index in 0..processes.posts.len() {
        processes.start(index)?;
    }
    let end = play(arguments, &chain, &config, &processes, &table)?;
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
}

fn play(
    arguments: &Arguments,
    chain: &DemoChain,
    config: &Config,
    processes: &Processes,
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
    let sights = processes.wait("all stand at one root", |sights| {
        table.show(sights);
        together(sights)
    })?;
    let (mut incidents, mut blocks) = (Vec::new(), None);
    if let Some((proved, happened)) = troubled {
        blocks = Some(trouble::after(processes, &trust, &proved)?);
        incidents = happened;
    }
    Ok(End { report, incidents, blocks, sights })
}

/// Whether all nodes have executed everything and stand at one root, and all witnesses signed.
fn together(sights: &[Sight]) -> bool {
    let root = sights.first().and_then(Sight::node).map(|node| node.root);
    sights.iter().all(|sight| match &sight.seen {
        Seen::Silent => false,
        Seen::Node(node) => node.lag == 0 && Some(node.root) == root,
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
    let held = (0..2 * members.len())
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<std::io::Result<Vec<_>>>()
        .context("finding free ports")?;
    for (index, (member, pair)) in members.iter_mut().zip(held.chunks_exact(2)).enumerate() {
        let places = match arguments.namespace.get(index) {
            Some(namespace) => NAMESPACE_PORTS.map(|port| format!("{}:{port}", namespace.address)),
            None => [pair[0].local_addr()?.to_string(), pair[1].local_addr()?.to_string()],
        };
        [member.address, member.http] = places;
    }
    drop(held);
    let stream = match &arguments.kafka {
        Some(brokers) => format!(
            "carrier = \"kafka\"\nbrokers = {brokers:?}\nrecords_topic = \"{TOPICS}-{0}-records\"\n\
             registry_topic = \"{TOPICS}-{0}-registry\"\nalerts_topic = \"\"\n",
            std::process::id()
        ),
        None => "embedded_dir = \"../stream\"\n".into(),
    };
    let more = format!("\n[stream]\n{stream}");
    let genesis = members::write(&arguments.dir, &chain.bytes, &members, &chain.authority, &more)?;
    Ok((genesis, members))
}

/// The processes to be, and the witnesses' folders.
fn posts(arguments: &Arguments, members: &[Member]) -> Result<Vec<Post>> {
    let text = |path: &Path| path.display().to_string();
    let mut posts = Vec::new();
    let folders = members::folders(&arguments.dir, members);
    for (index, (member, folder)) in members.iter().zip(folders).enumerate() {
        let kind =
            Kind::Node { http: member.http.clone(), key: hex::encode(member.key.to_compressed()) };
        let arguments_of_node = ["node", "--log", "info", "--dir"].map(String::from);
        posts.push(Post {
            name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            kind,
            arguments: arguments_of_node.into_iter().chain([text(&folder)]).collect(),
            folder,
            namespace: arguments.namespace.get(index).cloned(),
        });
    }
    let from = format!("http://{}", members[members.len() - 1].http);
    for number in 1..=arguments.witnesses {
        let name = format!("witness-{number}");
        let folder = arguments.dir.join(&name);
        std::fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let key = folder.join("witness.pem");
        write_new(&key, random_key()?.to_pkcs8_pem().as_bytes(), true)?;
        let trust = arguments.dir.join("trust-root.json");
        let options = [
            ("--dir", text(&folder)),
            ("--from", from.clone()),
            ("--key", text(&key)),
            ("--name", format!("{name}.example")),
            ("--trust-root", text(&trust)),
            ("--every", WITNESS_EVERY.into()),
        ];
        let options = options.into_iter().flat_map(|(name, value)| [name.to_string(), value]);
        let arguments = std::iter::once("witness".to_string()).chain(options).collect();
        posts.push(Post { name, kind: Kind::Witness, folder, arguments, namespace: None });
    }
    Ok(posts)
}

/// Registers the participants, and waits until every node knows them.
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
    processes.wait("the participants are registered", |sights| {
        table.show(sights);
        let nodes = sights.iter().filter_map(Sight::node);
        let here = nodes.filter(|node| node.executed_records >= registered).count();
        here == processes.posts.iter().filter(|post| matches!(post.kind, Kind::Node { .. })).count()
    })?;
    Ok(sink)
}

fn generator(arguments: &Arguments, chain: &DemoChain) -> Generator {
    Generator::new(GeneratorConfig::new(arguments.seed, &chain.genesis))
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
    let first_observer = arguments.validators as usize;
    let asked = if arguments.observers > 0 { first_observer } else { 0 };
    let Kind::Node { http, .. } = &processes.posts[asked].kind else {
        bail!("{} serves no receipts", processes.posts[asked].name);
    };
    let mut receipts = HttpReceipts::new(http);
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
    let End { report, incidents, blocks, sights } = end;
    let json = serde_json::json!({
        "validators": arguments.validators, "records": report.sent,
        "receipts_verified": report.checked, "mismatched": report.mismatched,
        "unanswered": report.unanswered, "seconds": report.total.as_secs_f64(),
        "to_receipt_p99_ms": report.to_receipt.value_at_percentile(99.0) / 1_000,
        "incidents": incidents.iter().map(Incident::json).collect::<Vec<_>>(),
        "blocks_compared": blocks,
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
