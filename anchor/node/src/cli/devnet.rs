//! `piaogen devnet`: several validators on this machine, each a process of its own, over one stream.
//!
//! It makes the chain, starts the processes, sends records, checks every receipt, shows what each
//! validator sees, and ends them in order. What it leaves is a folder to look at.
//!
//! Invariants
//! - No process outlives the command, however it ends.

use super::{No, Output};
use crate::config::Config;
use crate::members::{self, Member};
use crate::run::chain::clock_ms;
use crate::setup;
use crate::sinks::{self, HttpReceipts, StreamSink};
use anyhow::{Context, Result, bail, ensure};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use piaogen_loadgen::drive::{Answers, Plan, drive};
use piaogen_loadgen::generator::{Generator, GeneratorConfig};
use piaogen_loadgen::genesis::{DemoChain, demo_chain};
use piaogen_loadgen::outcomes::{Checker, Report};
use piaogen_loadgen::pace::Schedule;
use piaogen_loadgen::send::Sink;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::trust_root::TrustRoot;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where everything goes; must be new or empty.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// How many validators.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    validators: u32,
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
}

/// Longer than anything takes that has not failed.
const PATIENCE: Duration = Duration::from_secs(120);
const GLANCE: Duration = Duration::from_millis(250);
/// Prefix of the topics in Kafka.
const TOPICS: &str = "devnet";

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let dir = &arguments.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let occupied = std::fs::read_dir(dir)?.next().is_some();
    ensure!(!occupied, "{} is not empty: name a new folder with --dir", dir.display());
    let chain = demo_chain(arguments.seed, arguments.partitions, arguments.validators, clock_ms());
    let (genesis, members) = write(arguments, &chain)?;
    let config = Config::load(&members::folder(dir, 0).join("node.toml"))?;
    if arguments.kafka.is_some() {
        setup::create_topics(&config, &genesis, 1)?;
    }
    let set = Set::start(dir, members)?;
    let table = Table::new(&set);
    let report = load(arguments, &chain, &config, &set, &table)?;
    let sights = set.wait("all validators stand at one root", |sights| {
        table.show(sights);
        let first = &sights[0];
        sights.iter().all(|one| one.lag == 0 && one.root == first.root)
    })?;
    table.clear();
    let ended = set.end();
    finish(arguments, &report, &sights, output)?;
    ended
}

/// Writes the folders, on ports that nobody uses.
fn write(arguments: &Arguments, chain: &DemoChain) -> Result<(Genesis, Vec<Member>)> {
    let keys = chain.validators.iter().map(|key| (key.public_key(), Some(key.clone()))).collect();
    let mut members = Member::all(keys, &[])?;
    let held = (0..2 * members.len())
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<std::io::Result<Vec<_>>>()
        .context("finding free ports")?;
    for (member, pair) in members.iter_mut().zip(held.chunks_exact(2)) {
        member.address = pair[0].local_addr()?.to_string();
        member.http = pair[1].local_addr()?.to_string();
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

/// Sends everything, and checks every receipt of the first validator.
fn load(
    arguments: &Arguments,
    chain: &DemoChain,
    config: &Config,
    set: &Set,
    table: &Table,
) -> Result<Report> {
    let (records, registry) = setup::streams(config, &chain.genesis)?;
    let mut sink = StreamSink::open(&*records, &*registry)?;
    let generator = Generator::new(GeneratorConfig::new(arguments.seed, &chain.genesis));
    let registrations = generator.registrations(&chain.authority);
    for (token, record) in (0..).zip(&registrations) {
        sink.send(arguments.partitions, record, token)?;
    }
    sink.flush()?;
    sink.poll_acks(&mut Vec::new())?;
    let registered = registrations.len() as u64;
    set.wait("the participants are registered", |sights| {
        table.show(sights);
        sights.iter().all(|one| one.executed_records >= registered)
    })?;
    let plan = Plan {
        schedule: Schedule::Fixed { per_second: arguments.rate },
        patience: PATIENCE,
        ..Plan::new(arguments.records)
    };
    let checker = Checker::new(TrustRoot::of_genesis(&chain.genesis));
    let mut receipts = HttpReceipts::new(&set.members[0].http);
    let answers = Answers { source: &mut receipts, checker: &checker, watch: None };
    let mut shown = Instant::now();
    let report = drive(&generator, &plan, &mut sink, Some(answers), &mut |_, _| {
        if shown.elapsed() >= GLANCE {
            table.show(&set.look());
            shown = Instant::now();
        }
    })?;
    Ok(report)
}

fn finish(arguments: &Arguments, report: &Report, sights: &[Sight], output: Output) -> Result<()> {
    let json = serde_json::json!({
        "validators": arguments.validators, "records": report.sent,
        "receipts_verified": report.checked, "mismatched": report.mismatched,
        "unanswered": report.unanswered, "seconds": report.total.as_secs_f64(),
        "sights": sights.iter().map(Sight::json).collect::<Vec<_>>(),
    });
    output.print(&json, || {
        let mut text = format!("{}\n", Sight::HEAD);
        sights.iter().for_each(|sight| text.push_str(&format!("{}\n", sight.line())));
        text.push_str(&format!(
            "\n{} records sent, {} receipts verified in {:.1} s; all validators stand at one root\n\
             look next:\n  piaogen fsck --dir {}\n",
            report.sent,
            report.checked,
            report.total.as_secs_f64(),
            members::folder(&arguments.dir, 0).display()
        ));
        text
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

/// What a validator says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sight {
    name: String,
    running: bool,
    height: u64,
    view: u64,
    executed_records: u64,
    lag: u64,
    /// First 48 bits of the root over its shards.
    root: u64,
    votes: u64,
    connected: u64,
}

impl Sight {
    const HEAD: &str =
        "validator      height    view   records     lag  root          votes  peers";

    /// Takes what is needed from the text of `/metrics`.
    fn read(name: &str, key: &str, text: &str) -> Sight {
        let all = |series: &str, label: &str| -> u64 {
            let of = |line: &str| {
                let (name, value) = line.rsplit_once(' ')?;
                let (name, labels) = name.split_once('{').unwrap_or((name, ""));
                (name == series && labels.contains(label)).then(|| value.parse::<f64>().ok())?
            };
            // Counts and numbers of 48 bits are exact.
            text.lines().filter_map(of).sum::<f64>() as u64
        };
        Sight {
            name: name.into(),
            running: true,
            height: all("piaogen_block_height", ""),
            view: all("piaogen_view", ""),
            executed_records: all("piaogen_executed_records_total", ""),
            lag: all("piaogen_lag_records", ""),
            root: all("piaogen_executed_root", ""),
            votes: all("piaogen_peer_votes_total", key),
            connected: all("piaogen_peer_connected", ""),
        }
    }

    fn line(&self) -> String {
        if !self.running {
            return format!("{:<12} does not answer", self.name);
        }
        format!(
            "{:<12} {:>8} {:>7} {:>9} {:>7}  {:012x} {:>6} {:>6}",
            self.name,
            self.height,
            self.view,
            self.executed_records,
            self.lag,
            self.root,
            self.votes,
            self.connected
        )
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "validator": self.name, "height": self.height, "view": self.view,
            "records": self.executed_records, "lag": self.lag,
            "root": format!("{:012x}", self.root), "votes": self.votes,
            "connected": self.connected,
        })
    }
}

/// The validators, drawn on a terminal.
struct Table {
    screen: MultiProgress,
    rows: Vec<ProgressBar>,
}

impl Table {
    fn new(set: &Set) -> Table {
        let screen = MultiProgress::new();
        let style =
            ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let row = |text: &str| {
            let bar = ProgressBar::new_spinner().with_style(style.clone());
            screen.add(bar).with_message(text.to_string())
        };
        let head = row(Sight::HEAD);
        let rows = std::iter::once(head).chain(set.members.iter().map(|_| row(""))).collect();
        Table { screen, rows }
    }

    fn show(&self, sights: &[Sight]) {
        self.rows[0].tick();
        for (row, sight) in self.rows[1..].iter().zip(sights) {
            row.set_message(sight.line());
        }
    }

    fn clear(&self) {
        // Fails where there is no terminal, and nothing to clear.
        let _ = self.screen.clear();
    }
}

/// The processes.
struct Set {
    folders: Vec<PathBuf>,
    members: Vec<Member>,
    nodes: std::cell::RefCell<Vec<Child>>,
}

impl Set {
    fn start(dir: &Path, members: Vec<Member>) -> Result<Set> {
        let program = std::env::current_exe().context("finding this program")?;
        let folders: Vec<PathBuf> =
            (0..members.len()).map(|index| members::folder(dir, index)).collect();
        let set = Set { folders, members, nodes: std::cell::RefCell::default() };
        for folder in &set.folders {
            let log = std::fs::File::create(folder.join("node.log"))?;
            let node = Command::new(&program)
                .args(["node", "--log", "info", "--dir"])
                .arg(folder)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .with_context(|| format!("starting {}", program.display()))?;
            set.nodes.borrow_mut().push(node);
        }
        Ok(set)
    }

    /// What each validator says of itself now.
    fn look(&self) -> Vec<Sight> {
        let sight = |(index, member): (usize, &Member)| {
            let name = format!("validator-{}", index + 1);
            let key = hex::encode(member.key.to_compressed());
            match sinks::fetch(&member.http, "/metrics") {
                Ok(text) => Sight::read(&name, &key, &text),
                Err(_) => Sight { name, ..Sight::default() },
            }
        };
        self.members.iter().enumerate().map(sight).collect()
    }

    /// Waits until what they say is as wanted; an error where one ended or it takes too long.
    fn wait(&self, what: &str, done: impl Fn(&[Sight]) -> bool) -> Result<Vec<Sight>> {
        let until = Instant::now() + PATIENCE;
        loop {
            let sights = self.look();
            if sights.iter().all(|sight| sight.running) && done(&sights) {
                return Ok(sights);
            }
            for (node, folder) in self.nodes.borrow_mut().iter_mut().zip(&self.folders) {
                if let Some(status) = node.try_wait()? {
                    let log = folder.join("node.log");
                    bail!("a validator ended ({status}); {} says why", log.display());
                }
            }
            ensure!(Instant::now() < until, "waited {PATIENCE:?} in vain until {what}");
            std::thread::sleep(GLANCE);
        }
    }

    /// Tells all to end, and waits until they have written what they hold.
    fn end(&self) -> Result<()> {
        let mut nodes = std::mem::take(&mut *self.nodes.borrow_mut());
        nodes.iter().for_each(tell);
        let mut result = Ok(());
        for (node, folder) in nodes.iter_mut().zip(&self.folders) {
            let status = node.wait()?;
            if !status.success() {
                let log = folder.join("node.log");
                result = Err(anyhow::anyhow!("a validator ended badly, see {}", log.display()));
            }
        }
        result
    }
}

/// Asks a process to end in order. The shell's `kill` needs no other program.
fn tell(node: &Child) {
    let command = format!("kill -TERM {}", node.id());
    if let Err(error) = Command::new("sh").args(["-c", &command]).status() {
        tracing::warn!(%error, "a validator could not be told to end");
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        for mut node in self.nodes.take() {
            // It ended by itself, or it is ended here.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_validator_says_is_read_from_its_series() {
        let text = "# HELP piaogen_view x\npiaogen_view 7\npiaogen_lag_records{shard=\"0\"} 2\n\
                    piaogen_lag_records{shard=\"1\"} 3\npiaogen_executed_root 281474976710655\n\
                    piaogen_peer_votes_total{peer=\"02aa\"} 5\n\
                    piaogen_peer_votes_total{peer=\"02bb\"} 9\n\
                    piaogen_peer_connected{peer=\"02aa\"} 1\n";
        let sight = Sight::read("validator-1", "02bb", text);
        assert_eq!((sight.view, sight.lag, sight.votes, sight.connected), (7, 5, 9, 1));
        assert!(sight.line().contains("ffffffffffff"), "{}", sight.line());
        assert_eq!(Sight::default().line().trim(), "does not answer");
    }
}
