//! What the tests of the whole system share: chains in temporary folders, nodes as processes,
//! streams filled beforehand, roots read from folders.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    missing_docs,
    reason = "each test binary uses a part"
)]

use piaogen_crypto::Lanes;
use piaogen_loadgen::generator::Generator;
use piaogen_loadgen::genesis::{DemoChain, demo_chain};
use piaogen_loadgen::send::{SendError, Sink};
use piaogen_loadgen::source::{Generated, Source};
use piaogen_node::config::Config;
use piaogen_node::setup;
use piaogen_node::sinks::StreamSink;
use piaogen_verify::genesis::Genesis;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// The time of block 0 in these tests: before everything that they date.
pub const TIME_MS: i64 = 1_790_000_000_000;

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

/// The broker of `PIAOGEN_KAFKA`; says loudly that a test is skipped where there is none.
pub fn kafka(test: &str) -> Option<String> {
    let broker = std::env::var("PIAOGEN_KAFKA").ok().filter(|broker| !broker.is_empty());
    if broker.is_none() {
        eprintln!("SKIPPED: {test} needs a Kafka broker in PIAOGEN_KAFKA (deploy/kafka start)");
    }
    broker
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
        let stream = match carrier {
            Carrier::Embedded => "embedded_dir = \"stream\"".to_string(),
            Carrier::Shared(dir) => format!("embedded_dir = {dir:?}"),
            Carrier::Kafka(broker, prefix) => format!(
                "carrier = \"kafka\"\nbrokers = {broker:?}\nrecords_topic = \"{prefix}-records\"\n\
                 registry_topic = \"{prefix}-registry\""
            ),
        };
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

    /// Starts a node as a process.
    pub fn spawn(&self) -> Child {
        Command::new(env!("CARGO_BIN_EXE_piaogen"))
            .args(["node", "--dir"])
            .arg(&self.dir)
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
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
