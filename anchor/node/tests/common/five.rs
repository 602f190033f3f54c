//! Five nodes that know each other, of which the first four are the validators of the genesis: short
//! epochs, three authorities, snapshots that are offered, and a load that goes on meanwhile.

use super::{Carrier, Chain, Set, TIME_MS, generator, send};
use piaogen_crypto::Lanes;
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use piaogen_loadgen::send::Sink;
use piaogen_loadgen::source::Source;
use piaogen_node::config::Carrier as Stream;
use piaogen_node::sinks::StreamSink;
use piaogen_node::{members, setup};
use piaogen_verify::document::Fields;
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::{Founder, Genesis};
use piaogen_verify::header::ValidatorSet;
use piaogen_verify::record::{Draft, RecordKind};
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

/// Blocks in an epoch: a few, so that a test sees many.
pub const EPOCH_BLOCKS: u64 = 10;
/// Partitions of the stream; the registry comes after them.
const PARTITIONS: u32 = 2;

/// The second and third authority.
fn authority(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[80 + number; 32]).unwrap()
}

/// Changes the configuration of a node.
pub fn configure(set: &Set, index: usize, table: &str, more: &str) {
    let path = set.chain(index).dir.join("node.toml");
    let toml = std::fs::read_to_string(&path).unwrap();
    assert!(toml.contains(table), "{toml}");
    std::fs::write(path, toml.replacen(table, &format!("{table}{more}"), 1)).unwrap();
}

/// Makes the nodes, with epochs of [`EPOCH_BLOCKS`]; none runs yet.
pub fn five(dir: &Path) -> Set {
    five_over(dir, Carrier::Shared(&dir.join("stream")))
}

/// The same over this stream, which all share.
pub fn five_over(dir: &Path, carrier: Carrier<'_>) -> Set {
    let frequent = "[blocks]\ninterval_ms = 50\nidle_interval_ms = 100\n[store]\n\
        flush_interval_ms = 300\nsnapshot = \"offered\"\n[limits]\nkey_tables_mib = 16\n\
        queue_mib = 32\n";
    let mut set = Set::create(dir, 5, PARTITIONS, frequent);
    let mut file = set.keys.genesis.file.clone();
    let key = |index: usize| hex::encode(set.members[index].key.to_compressed());
    file.validators = (0..4).map(key).collect();
    file.epoch_blocks = EPOCH_BLOCKS;
    file.participants.extend([2, 3].map(|number| Founder {
        party: format!("A-{number}"),
        name: "authority".into(),
        roles: vec!["authority".into()],
        public_key: hex::encode(authority(number).public_key().to_compressed()),
    }));
    let bytes = serde_json::to_vec(&file).unwrap();
    let genesis = Genesis::parse(&bytes).unwrap();
    for index in 0..5 {
        let folder = members::folder(dir, index);
        std::fs::write(folder.join("genesis.json"), &bytes).unwrap();
        let trust = TrustRoot::of_genesis(&genesis).to_json();
        std::fs::write(folder.join("trust-root.json"), trust).unwrap();
        let toml = std::fs::read_to_string(folder.join("node.toml")).unwrap();
        let toml = toml.replace("embedded_dir = \"../stream\"", &carrier.toml());
        std::fs::write(folder.join("node.toml"), toml).unwrap();
        configure(&set, index, "[peers]\n", "leader_timeout_ms = 1000\n");
        configure(&set, index, "[archive]\n", "segment_age_ms = 1000\n");
    }
    (set.keys.bytes, set.keys.genesis) = (bytes, genesis);
    if let Carrier::Kafka(..) = carrier {
        setup::create_topics(&set.chain(0).config(), &set.keys.genesis, 1).unwrap();
    }
    set
}

/// The records that make other keys the validators: two of the three authorities sign.
pub fn change(set: &Set, base: &[PublicKey], new: &[PublicKey]) -> [Vec<u8>; 2] {
    let sorted = |keys: &[PublicKey]| {
        let mut keys: Vec<[u8; 33]> = keys.iter().map(PublicKey::to_compressed).collect();
        keys.sort_unstable();
        keys
    };
    let base = sorted(base).iter().map(|key| PublicKey::from_compressed(key).unwrap()).collect();
    let mut fields = Fields::new();
    fields.set(tag::VALIDATORS, value::keys(&sorted(new)));
    fields.set(tag::BASE, ValidatorSet::new(base).unwrap().digest().to_vec());
    let (kind, fields) = (RecordKind::Validators, fields.pairs());
    let draft = Draft { kind, signed_at: TIME_MS, secret: [0; 16], fields };
    let chain = &set.keys.genesis.chain;
    [draft.sign(chain, &set.keys.authority), draft.sign(chain, &authority(2))]
}

/// The keys of some members.
pub fn keys(set: &Set, who: &[usize]) -> Vec<PublicKey> {
    who.iter().map(|index| set.members[*index].key.clone()).collect()
}

/// Sends registrations into the stream, an embedded one of small files, and starts the four; how many records.
pub fn begin(set: &mut Set) -> (StreamSink, u64) {
    let chain = set.chain(0);
    let registrations = generator(&chain, 20).registrations(&chain.keys.authority);
    let mut sink = match chain.config().stream.carrier {
        Stream::Embedded => chain.small_sink(),
        Stream::Kafka => chain.sink(),
    };
    registrations.iter().for_each(|record| send(&mut sink, PARTITIONS, record, 0));
    sink.flush().unwrap();
    (0..4).for_each(|index| set.start(index));
    let registered = registrations.len() as u64;
    set.wait("all are registered", |set| {
        (0..4).all(|i| set.series(i, "piaogen_executed_records_total") >= Some(registered))
    });
    (sink, registered)
}

/// Sends invoices at a steady rate, and what comes for the registry, until no more can come; how many
/// records.
pub fn load(chain: &Chain, sink: &mut StreamSink, registry: &Receiver<Vec<u8>>) -> u64 {
    let generator = generator(chain, 20);
    let begun = Instant::now();
    let (mut at, mut more) = (0, 0);
    loop {
        match registry.try_recv() {
            Ok(record) => {
                send(sink, PARTITIONS, &record, 0);
                more += 1;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => break,
        }
        let next = (begun.elapsed().as_millis() as u64 / 2).min(at + 512);
        for generated in generator.batch(at..next, Lanes::detect()).unwrap() {
            send(sink, generated.partition, &generated.record, generated.index);
        }
        sink.poll_acks(&mut Vec::new()).unwrap();
        at = next;
        std::thread::sleep(Duration::from_millis(20));
    }
    sink.flush().unwrap();
    at + more
}

/// Waits until a node has so many more records of each partition on disk than `than`.
pub fn ahead(set: &Set, node: usize, than: &[u64], more: u64) {
    set.wait(&format!("node {node} is {more} ahead of {than:?}"), |set| {
        let ahead = |flushed: Vec<u64>| {
            flushed.iter().zip(than).take(PARTITIONS as usize).all(|(at, from)| *at >= from + more)
        };
        set.flushed(node).is_some_and(ahead)
    });
}

/// Makes a snapshot of a running node in the folder that it offers.
pub fn offer(set: &Set, node: usize) -> PathBuf {
    let to = set.chain(node).dir.join("offered");
    let _ = std::fs::remove_dir_all(&to);
    set.chain(node).json(&["snapshot", "make", "--to", to.to_str().unwrap()]);
    to
}

/// Fetches for a node what another offers over HTTP.
pub fn fetched(set: &Set, node: usize, from: usize) -> PathBuf {
    let (chain, dir) = (set.chain(node), set.chain(node).dir.join("fetched"));
    let _ = std::fs::remove_dir_all(&dir);
    let trust = chain.dir.join("trust-root.json");
    let url = format!("http://{}", set.members[from].http);
    let output = Command::new(env!("CARGO_BIN_EXE_piaogen"))
        .args(["snapshot", "fetch", "--from", &url, "--to", dir.to_str().unwrap()])
        .args(["--trust-root", trust.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    dir
}

/// What node 0 has archived and audited, what stands in the snapshot, and what the others who are
/// asked have on disk, goes; of each partition more than `least`, as soon as that may be.
pub fn prune(set: &Set, snapshot: &Path, asked: &[usize], least: &[u64]) {
    let urls: Vec<String> =
        asked.iter().map(|index| format!("http://{}", set.members[*index].http)).collect();
    let run = |more: &[&str]| {
        let all = ["prune", "--snapshot", snapshot.to_str().unwrap(), "--margin", "100"];
        let ask = urls.iter().flat_map(|url| ["--ask", url]);
        let arguments: Vec<&str> = all.into_iter().chain(ask).chain(more.iter().copied()).collect();
        set.chain(0).json(&arguments)
    };
    set.wait(&format!("of each partition more than {least:?} may go"), |_| {
        let planned = run(&["--dry-run"]);
        assert_eq!(planned["partitions"][0]["began"], 0, "{planned:#}");
        let begins = |at: usize| planned["partitions"][at]["begins"].as_u64();
        (0..PARTITIONS as usize).all(|at| begins(at) > Some(least[at]))
    });
    let pruned = run(&[]);
    for partition in 0..PARTITIONS as usize {
        let reach = &pruned["partitions"][partition];
        let begins = reach["begins"].as_u64().unwrap();
        for bound in ["snapshot", "asked", "audited", "flushed"] {
            let needed = reach[bound].as_u64().unwrap();
            assert!(begins > 0 && begins + 100 <= needed, "{bound}: {pruned:#}");
        }
    }
}
