//! What the tests of the whole system share: chains in temporary folders, nodes as processes,
//! streams filled beforehand, roots read from folders.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    missing_docs,
    reason = "each test binary uses a part"
)]

pub mod five;

use piaogen_crypto::Lanes;
use piaogen_ingest::stream::log::{EmbeddedLog, LogOptions};
use piaogen_loadgen::generator::Generator;
use piaogen_loadgen::genesis::{DemoChain, demo_chain};
use piaogen_loadgen::send::{SendError, Sink};
use piaogen_loadgen::source::{Generated, Source};
use piaogen_node::config::Config;
use piaogen_node::members::{self, Member};
use piaogen_node::setup;
use piaogen_node::sinks::{StreamSink, fetch};
use piaogen_node::snapshot::read_manifest;
use piaogen_storage::snapshot::{MANIFEST, PartInfo, PartKind, PartWriter};
use piaogen_verify::genesis::Genesis;
use piaogen_verify::receipt::Receipt;
use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time of block 0 in these tests: before everything that they date.
pub const TIME_MS: i64 = 1_790_000_000_000;

/// Longer than anything takes that has not failed, also where other programs have the machine.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What a node writes to standard error, in its folder.
const LOG: &str = "node.log";

/// A chain in a folder.
pub struct Chain {
    pub dir: PathBuf,
    pub keys: DemoChain,
}

/// What carries a stream in a test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Carrier<'a> {
    /// An embedded log in the chain's folder.
    Embedded,
    /// An embedded log in another folder, shared by several nodes.
    Shared(&'a Path),
    /// Topics of this prefix in the broker at this address.
    Kafka(&'a str, &'a str),
}

impl Carrier<'_> {
    /// What a configuration says of it.
    pub fn toml(&self) -> String {
        match self {
            Carrier::Embedded => "embedded_dir = \"stream\"".to_string(),
            Carrier::Shared(dir) => format!("embedded_dir = {dir:?}"),
            Carrier::Kafka(broker, prefix) => format!(
                "carrier = \"kafka\"\nbrokers = {broker:?}\nrecords_topic = \"{prefix}-records\"\n\
                 registry_topic = \"{prefix}-registry\"\nalerts_topic = \"{prefix}-alerts\""
            ),
        }
    }
}

/// The broker of `PIAOGEN_KAFKA`; says loudly that a test is skipped where there is none.
pub fn kafka(test: &str) -> Option<String> {
    let broker = std::env::var("PIAOGEN_KAFKA").ok().filter(|broker| !broker.is_empty());
    if broker.is_none() {
        eprintln!("SKIPPED: {test} needs a Kafka broker in PIAOGEN_KAFKA (deploy/kafka start)");
    }
    broker
}

/// A prefix of topics that no other run has, on whatever broker.
pub fn prefix(what: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{what}-{}-{}", std::process::id(), now.as_nanos())
}

/// The shared data; says loudly that a test is skipped where it is absent.
pub fn data(test: &str, path: &str) -> Option<PathBuf> {
    let root = std::env::var("PIAOGEN_DATA").map_or_else(
        |_| std::env::current_dir().expect("a folder to be in").join("../../../shared/data"),
        PathBuf::from,
    );
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {test} needs {}", path.display());
    None
}

impl Chain {
    /// Makes a chain in a new folder.
    pub fn create(dir: &Path, carrier: Carrier<'_>, partitions: u32, more_toml: &str) -> Chain {
        std::fs::create_dir_all(dir).unwrap();
        let keys = demo_chain(1, partitions, 1, TIME_MS);
        setup::write_chain(dir, &keys.bytes, &keys.validators[0], &keys.authority).unwrap();
        let stream = carrier.toml();
        let toml =
            format!("listen = \"\"\n{}\n[stream]\n{stream}\n{more_toml}\n", setup::BASE_TOML);
        std::fs::write(dir.join("node.toml"), toml).unwrap();
        let chain = Chain { dir: dir.into(), keys };
        if let Carrier::Kafka(..) = carrier {
            setup::create_topics(&chain.config(), &chain.genesis(), 1).unwrap();
        }
        chain
    }

    pub fn config(&self) -> Config {
        Config::load(&self.dir.join("node.toml")).unwrap()
    }

    pub fn genesis(&self) -> Genesis {
        self.keys.genesis.clone()
    }

    pub fn sink(&self) -> StreamSink {
        let (records, registry) = setup::streams(&self.config(), &self.genesis()).unwrap();
        StreamSink::open(&*records, &*registry).unwrap()
    }

    /// Like [`Chain::sink`], into segments so small that a test can have many.
    pub fn small_sink(&self) -> StreamSink {
        let (config, partitions) = (self.config(), self.genesis().file.partitions);
        let options = LogOptions { segment_bytes: 16 << 10, ..LogOptions::default() };
        let open = |topic: &str, partitions: u32| {
            let folder = config.embedded_dir().join(topic);
            EmbeddedLog::create(&folder, topic, partitions, options.clone()).unwrap()
        };
        let stream = &config.stream;
        StreamSink::open(&open(&stream.records_topic, partitions), &open(&stream.registry_topic, 1))
            .unwrap()
    }

    /// The same chain with a data folder and an archive of its own, in another folder.
    pub fn twin(&self, dir: &Path) -> Chain {
        std::fs::create_dir_all(dir).unwrap();
        for name in ["genesis.json", "node.toml", "trust-root.json", "validator.pem"] {
            std::fs::copy(self.dir.join(name), dir.join(name)).unwrap();
        }
        Chain { dir: dir.into(), keys: self.keys.clone() }
    }

    /// Restores a snapshot of another node of the chain.
    pub fn restore(&self, snapshot: &Path, of: &Chain) -> Output {
        self.restore_with(snapshot, of, &[])
    }

    /// The same with more arguments.
    pub fn restore_with(&self, snapshot: &Path, of: &Chain, more: &[&str]) -> Output {
        let (from, archive) = (snapshot.to_str().unwrap(), of.dir.join("archive"));
        let archive = archive.to_str().unwrap();
        let restore = ["snapshot", "restore", "--from", from, "--archive", archive];
        self.piaogen(&[&restore, more].concat())
    }

    /// Runs a subcommand on the chain's folder.
    pub fn piaogen(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_piaogen"));
        command.args(arguments).arg("--dir").arg(&self.dir);
        command.output().unwrap()
    }

    /// Runs a subcommand that must succeed; its JSON answer.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.piaogen(&[arguments, &["--json"]].concat());
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {out}\n{err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// Runs a node until everything in the stream is executed and provable.
    pub fn drain(&self) {
        let output = self.piaogen(&["node", "--until-drained", "--log", "info"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts a node as a process, which ends with the value.
    pub fn spawn(&self) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_piaogen"));
        command.args(["node", "--log", "info", "--dir"]).arg(&self.dir);
        let log = self.dir.join(LOG);
        let file = File::options().create(true).append(true).open(&log).unwrap();
        Running { child: Some(command.stderr(file).spawn().unwrap()), log }
    }

    /// Everything that must be the same after any run over the same stream.
    pub fn shards(&self) -> serde_json::Value {
        self.json(&["inspect", "chain"])["shards"].clone()
    }

    /// Fails unless `fsck` and `audit verify` find nothing; how many records there are.
    pub fn check(&self) -> u64 {
        let fsck = self.json(&["fsck"]);
        assert_eq!(fsck["clean"], true, "{fsck:#}");
        assert_eq!(fsck["unexecuted"], 0, "{fsck:#}");
        let audit = self.json(&["audit", "verify"]);
        assert_eq!(audit["clean"], true, "{audit:#}");
        assert_eq!(audit["rows"], fsck["records"], "{audit:#}");
        assert_eq!(audit["rows_covered"], fsck["records"], "{audit:#}");
        fsck["records"].as_u64().unwrap()
    }
}

/// A process that is killed with this value, however a test ends.
pub struct Running {
    child: Option<Child>,
    log: PathBuf,
}

impl Running {
    /// One whose words go somewhere else.
    pub fn new(child: Child) -> Running {
        Running { child: Some(child), log: PathBuf::new() }
    }

    /// Kills it with SIGKILL; fails where it had ended by itself.
    pub fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(ended, None, "it ended by itself\n{}", last_words(&self.log));
    }

    /// Waits until something is true; fails with the log.
    pub fn wait(&mut self, what: &str, done: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            let late = ended.is_some() || Instant::now() > until;
            assert!(!late, "in vain: {what}; {ended:?}\n{}", last_words(&self.log));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The last lines of a log.
fn last_words(log: &Path) -> String {
    let log = std::fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Says that it is enough, also where a test fails: who goes on until then is waited for.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A chain of several validators, each a process of its own in a folder of its own.
pub struct Set {
    pub dir: PathBuf,
    pub keys: DemoChain,
    pub members: Vec<Member>,
    nodes: Mutex<Vec<Option<Child>>>,
}

/// Addresses of this machine that nobody uses.
pub fn free(count: usize) -> Vec<String> {
    piaogen_order::ports::free(count).unwrap().iter().map(ToString::to_string).collect()
}

impl Set {
    /// Makes a chain of so many validators over one embedded log.
    pub fn create(dir: &Path, validators: u32, partitions: u32, more_toml: &str) -> Set {
        Set::observed(dir, validators, 0, partitions, more_toml)
    }

    /// A lone validator that runs and has executed registrations and so many records.
    pub fn lone(dir: &Path, partitions: u32, more_toml: &str, records: u64) -> Set {
        let mut set = Set::create(dir, 1, partitions, more_toml);
        let chain = set.chain(0);
        let source = generator(&chain, 20);
        // A block knows the participants of the one before it.
        let registrations = source.registrations(&chain.keys.authority);
        send_registrations(&chain, &registrations);
        set.start(0);
        let executed = |set: &Set| set.series(0, "piaogen_executed_records_total").unwrap_or(0);
        let known = registrations.len() as u64;
        set.wait("the participants are registered", |set| executed(set) >= known);
        send_all(&chain, &source, records);
        set.wait("all is executed", |set| executed(set) >= known + records);
        set
    }

    /// A chain of validators and observers, who stand behind the validators.
    pub fn observed(
        dir: &Path,
        validators: u32,
        observers: usize,
        partitions: u32,
        more_toml: &str,
    ) -> Set {
        std::fs::create_dir_all(dir).unwrap();
        let keys = demo_chain(1, partitions, validators, TIME_MS);
        let pairs = keys.validators.iter().map(|key| (key.public_key(), Some(key.clone())));
        let mut members = Member::all(pairs.collect(), &[]).unwrap();
        let watching = (0..observers).map(|_| setup::random_key().unwrap());
        let watching = watching.map(|key| (key.public_key(), Some(key))).collect();
        members.extend(Member::observers(watching, &[], members.len()).unwrap());
        let addresses = free(2 * members.len());
        for (member, pair) in members.iter_mut().zip(addresses.chunks_exact(2)) {
            (member.address, member.http) = (pair[0].clone(), pair[1].clone());
        }
        let more = format!("\n[stream]\nembedded_dir = \"../stream\"\n{more_toml}\n");
        members::write(dir, &keys.bytes, &members, &keys.authority, &more).unwrap();
        let nodes = Mutex::new(members.iter().map(|_| None).collect());
        Set { dir: dir.into(), keys, members, nodes }
    }

    /// The chain as one node has it.
    pub fn chain(&self, index: usize) -> Chain {
        let folder = members::folders(&self.dir, &self.members).swap_remove(index);
        Chain { dir: folder, keys: self.keys.clone() }
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, Vec<Option<Child>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn start(&mut self, index: usize) {
        let chain = self.chain(index);
        let log = File::options().create(true).append(true).open(chain.dir.join(LOG)).unwrap();
        let node = Command::new(env!("CARGO_BIN_EXE_piaogen"))
            .args(["node", "--log", "info", "--dir"])
            .arg(&chain.dir)
            .stderr(log)
            .spawn()
            .unwrap();
        self.nodes()[index] = Some(node);
    }

    /// Kills a validator with SIGKILL; fails where it had ended by itself.
    pub fn kill(&mut self, index: usize) {
        let mut node = self.nodes()[index].take().unwrap();
        let ended = node.try_wait().unwrap();
        node.kill().unwrap();
        node.wait().unwrap();
        assert_eq!(ended, None, "node {index} ended by itself\n{}", self.log(index));
    }

    /// Tells a validator to end; its exit code.
    pub fn end(&mut self, index: usize) -> Option<i32> {
        let id = self.nodes()[index].as_ref().unwrap().id();
        let command = format!("kill -TERM {id}");
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
        self.ended(index)
    }

    /// Waits until a validator ends; its exit code.
    pub fn ended(&mut self, index: usize) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.nodes()[index].as_mut().unwrap().try_wait().unwrap();
            if let Some(status) = status {
                self.nodes()[index] = None;
                return status.code();
            }
            assert!(Instant::now() < until, "node {index} does not end\n{}", self.log(index));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Those that ended by themselves.
    fn gone(&self) -> Vec<(usize, ExitStatus)> {
        let mut nodes = self.nodes();
        let ended = nodes.iter_mut().enumerate().filter_map(|(index, node)| {
            let status = node.as_mut()?.try_wait().unwrap()?;
            Some((index, status))
        });
        ended.collect()
    }

    pub fn log(&self, index: usize) -> String {
        std::fs::read_to_string(self.chain(index).dir.join(LOG)).unwrap_or_default()
    }

    /// The sum of a series of a validator; nothing where it does not answer.
    pub fn series(&self, index: usize, name: &str) -> Option<u64> {
        let text = fetch(&self.members[index].http, "/metrics").ok()?;
        let value = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let series = series.split('{').next()?;
            (series == name).then(|| value.parse::<f64>().ok())?
        };
        Some(text.lines().filter_map(value).sum::<f64>() as u64)
    }

    /// The same of one that runs: it is asked until it answers.
    pub fn value(&self, index: usize, name: &str) -> u64 {
        let value = Cell::new(None);
        self.wait(&format!("node {index} says {name}"), |set| {
            value.set(set.series(index, name));
            value.get().is_some()
        });
        value.get().unwrap()
    }

    /// Of each partition, the registry last, the first offset that a node does not have on disk yet;
    /// nothing where it does not answer.
    pub fn flushed(&self, index: usize) -> Option<Vec<u64>> {
        let text = fetch(&self.members[index].http, "/v1/flushed").ok()?;
        let stand: serde_json::Value = serde_json::from_str(&text).ok()?;
        stand["next_offsets"].as_array()?.iter().map(serde_json::Value::as_u64).collect()
    }

    /// Waits until these have executed all that is in the stream now, have it on disk, and stand at
    /// one root.
    pub fn settle(&self, who: &[usize]) {
        let chain = self.chain(who[0]);
        let (records, registry) = setup::streams(&chain.config(), &chain.genesis()).unwrap();
        let ends =
            (0..records.partitions()).map(|partition| records.end_offset(partition).unwrap());
        let ends: Vec<u64> = ends.chain([registry.end_offset(0).unwrap()]).collect();
        self.wait(&format!("{who:?} have executed all up to {ends:?}"), |set| {
            let root = |index: usize| set.series(index, "piaogen_executed_root");
            let first = root(who[0]);
            let there = |index: &usize| {
                set.flushed(*index).as_ref() == Some(&ends) && root(*index) == first
            };
            first.is_some() && who.iter().all(there)
        });
    }

    /// The receipt of the first record of a partition, once a node has one of this height or later.
    pub fn receipt(&self, index: usize, partition: u32, height: u64) -> Receipt {
        let until = Instant::now() + PATIENCE;
        let url = format!("http://{}/v1/receipts/{partition}/0", self.members[index].http);
        let ask = || ureq::get(&url).call().ok()?.body_mut().read_to_vec().ok();
        loop {
            let answer = ask().filter(|bytes| bytes.len() > 4);
            match answer.map(|bytes| Receipt::decode(&bytes[4..]).unwrap()) {
                Some(receipt) if receipt.header.height >= height => return receipt,
                _ => assert!(Instant::now() < until, "node {index}: {}", self.log(index)),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until something is true; fails with the logs, and at once where one ended.
    pub fn wait(&self, what: &str, done: impl Fn(&Set) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            let gone = self.gone();
            if !gone.is_empty() || Instant::now() > until {
                let tail = |index: usize| last_words(&self.chain(index).dir.join(LOG));
                let logs: Vec<String> = (0..self.members.len()).map(tail).collect();
                panic!("in vain: {what}; ended: {gone:?}\n{}", logs.join("\n----\n"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until these have so many more blocks than the highest of them has now.
    pub fn grow(&self, who: &[usize], more: u64) {
        let height = |index: &usize| self.series(*index, "piaogen_block_height").unwrap_or(0);
        let goal = who.iter().map(height).max().unwrap() + more;
        self.wait(&format!("{who:?} at height {goal}"), |_| who.iter().all(|i| height(i) >= goal));
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        for mut node in self.nodes().iter_mut().filter_map(Option::take) {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// Sends one payload, waiting for room.
pub fn send(sink: &mut dyn Sink, partition: u32, payload: &[u8], token: u64) {
    let mut acks = Vec::new();
    while let Err(error) = sink.send(partition, payload, token) {
        assert_eq!(error, SendError::Busy);
        sink.poll_acks(&mut acks).unwrap();
        acks.clear();
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends registry records, durable when it returns.
pub fn send_registrations(chain: &Chain, registrations: &[Vec<u8>]) {
    let mut sink = chain.sink();
    let partitions = chain.genesis().file.partitions;
    for (token, record) in (0..).zip(registrations) {
        send(&mut sink, partitions, record, token);
    }
    sink.flush().unwrap();
}

/// Sends all records of a source, durable when it returns. The records, without their bytes.
pub fn send_all(chain: &Chain, source: &dyn Source, records: u64) -> Vec<Generated> {
    let mut sink = chain.sink();
    let mut sent = Vec::new();
    let mut at = 0;
    while at < records {
        let next = (at + 4_096).min(records);
        for mut generated in source.batch(at..next, Lanes::detect()).unwrap() {
            send(&mut sink, generated.partition, &generated.record, generated.index);
            generated.record = Vec::new();
            generated.document = None;
            sent.push(generated);
        }
        sink.poll_acks(&mut Vec::new()).unwrap();
        at = next;
    }
    sink.flush().unwrap();
    sent
}

/// The generator of these tests.
pub fn generator(chain: &Chain, sellers: u32) -> Generator {
    let config = piaogen_loadgen::generator::GeneratorConfig {
        sellers,
        ..piaogen_loadgen::generator::GeneratorConfig::new(1, &chain.genesis())
    };
    Generator::new(config)
}

/// Copies the files of a folder.
pub fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Writes the first part of a kind again with other items, and a manifest to match.
pub fn forge(dir: &Path, kind: PartKind, write: impl Fn(&mut PartWriter<'_>, &Path, &PartInfo)) {
    let mut manifest = read_manifest(dir).unwrap();
    let at = manifest.parts.iter().position(|part| part.kind == kind).unwrap();
    let info = manifest.parts[at].clone();
    let mut parts = PartWriter::new(dir, Lanes::detect(), kind, info.shard);
    write(&mut parts, dir, &info);
    let new = parts.finish().unwrap().remove(0);
    manifest.parts[at] = new;
    std::fs::write(dir.join(MANIFEST), manifest.encode()).unwrap();
}
