//! What a larger set costs: blocks, messages, CPU and certificates of 4, 16 and 100 validators.
//!
//! The sets run in the simulator, in one thread: times between validators are those of the stated
//! network, and what is computed takes no simulated time. So intervals and finality are what the
//! network and the protocol cost; the CPU is measured apart, for all validators together, and holds
//! what the simulator itself costs. Bodies are 1,000 bytes; applications answer at once.
//!
//! Run it with `cargo run --release -p piaogen-order --features simulation --example set_speed`;
//! arguments are sizes of sets (without any: 4 16 100).
//!
//! With `-- --record DISK MEMORY` it measures instead what the record of what each key has signed
//! costs (`signed`): sets of four over sockets of this machine, with votes in a folder of a disk, and
//! that record beside them or in a folder of memory (`/dev/shm`), where a sync is free. Runs of both
//! kinds take turns.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on should stop")]

use piaogen_crypto::sm2::SecretKey;
use piaogen_crypto::{Digest, sm3};
use piaogen_order::simulation::{Event, Glance, Link, Look, Plan, Trace, run_watched};
use piaogen_order::{
    Application, FinalBlock, Identity, NetworkConfig, OrderConfig, Verdict, start,
};
use piaogen_verify::certificate::{Certificate, NAMESPACE};
use piaogen_verify::evidence::Evidence;
use piaogen_verify::header::{Cut, HEADER_LEN, SHARD_LEN, ValidatorSet};
use std::collections::HashMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CHAIN: Digest = [0x63; 32];
const GENESIS: Digest = [0x67; 32];
const BODY: usize = 1_000;

/// A chain of blocks that say parent and height, and nothing else.
struct Chain(Mutex<State>);

#[derive(Default)]
struct State {
    bodies: HashMap<Digest, Vec<u8>>,
    finals: Vec<FinalBlock>,
    /// When each of them was handed over.
    times: Vec<Instant>,
    last: Option<Identity>,
}

fn identity(body: &[u8]) -> Option<Identity> {
    let (parent, rest) = body.split_first_chunk::<32>()?;
    let (height, _) = rest.split_first_chunk::<8>()?;
    let height = u64::from_be_bytes(*height);
    Some(Identity { block: sm3::hash(body), parent: *parent, height, closes: false })
}

impl Application for Chain {
    fn identify(&self, body: &[u8]) -> Option<Identity> {
        identity(body)
    }

    fn propose(&self, _: u64, parent: Digest) -> Option<Digest> {
        let last = self.last();
        if last.block != parent {
            return None;
        }
        let mut body = [&parent[..], &(last.height + 1).to_be_bytes()].concat();
        body.resize(BODY, 0);
        let block = sm3::hash(&body);
        self.0.lock().unwrap().bodies.insert(block, body);
        Some(block)
    }

    fn check(&self, _: u64, body: &[u8], _: bool) -> Verdict {
        let Some(identity) = identity(body) else { return Verdict::Bad };
        if identity.parent != self.last().block {
            return Verdict::NotYet;
        }
        self.0.lock().unwrap().bodies.insert(identity.block, body.to_vec());
        Verdict::Good
    }

    fn body(&self, block: Digest) -> Option<Vec<u8>> {
        self.0.lock().unwrap().bodies.get(&block).cloned()
    }

    fn last(&self) -> Identity {
        let genesis = Identity { block: GENESIS, parent: [0; 32], height: 0, closes: false };
        self.0.lock().unwrap().last.unwrap_or(genesis)
    }

    fn finals(&self, from: u64, most: usize, _: usize) -> Vec<FinalBlock> {
        let Some(skip) = from.checked_sub(1) else { return Vec::new() };
        self.0.lock().unwrap().finals.iter().skip(skip as usize).take(most).cloned().collect()
    }

    fn finalized(&self, _: Digest, body: &[u8], finalization: &[u8]) {
        let mut state = self.0.lock().unwrap();
        state.last = identity(body);
        let (body, finalization) = (body.to_vec(), finalization.to_vec());
        state.finals.push(FinalBlock { body, finalization });
        state.times.push(Instant::now());
    }

    fn caught(&self, _: Evidence) {}
}

/// What a run of a set came to.
struct Run {
    trace: Trace,
    blocks: usize,
    /// Mean time between blocks, once all have one.
    interval: Duration,
    cpu: Duration,
    certificate: Vec<u8>,
}

/// What is seen of a set in the run: when all had a block, with how many of the first, and the end.
#[derive(Clone, Copy, Default)]
struct Steady {
    from: Option<(Duration, usize)>,
    to: Option<(Duration, usize)>,
}

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // Linux counts these in hundredths of a second on every architecture.
    Duration::from_millis(ticks * 10)
}

fn secrets(count: usize) -> Vec<SecretKey> {
    (1..=count).map(|one| SecretKey::from_bytes(&[one as u8; 32]).unwrap()).collect()
}

fn simulate(count: usize, link: Link, blocks: usize) -> Run {
    let chains: Vec<Arc<Chain>> = (0..count).map(|_| Arc::new(Chain(Mutex::default()))).collect();
    let start = (0..count).map(|one| (Duration::ZERO, Event::Start(one)));
    let namespace = [&NAMESPACE[..], &CHAIN].concat();
    let plan = Plan { link, events: start.collect(), ..Plan::new(1, namespace, GENESIS, BODY) };
    let watched = chains.clone();
    let steady = Arc::new(Mutex::new(Steady::default()));
    let seen = steady.clone();
    let height = |chain: &Arc<Chain>| chain.0.lock().unwrap().finals.len();
    let watch = move |glance: Glance| {
        let now = glance.now;
        let first = height(&watched[0]);
        let mut seen = seen.lock().unwrap();
        if seen.from.is_none() && watched.iter().all(|chain| height(chain) > 0) {
            seen.from = Some((now, first));
        }
        let done = seen.from.is_some_and(|(_, before)| first >= before + blocks);
        if done {
            seen.to.get_or_insert((now, first));
        }
        Look { done, ..Look::default() }
    };
    let applications = chains.iter().map(|chain| chain.clone() as Arc<dyn Application>).collect();
    let before = cpu();
    let trace = run_watched(plan, secrets(count), applications, watch).unwrap();
    let cpu = cpu() - before;
    let finals = chains[0].finals(1, usize::MAX, usize::MAX);
    let certificate = finals.last().unwrap().finalization.clone();
    let Steady { from: Some((from, first)), to: Some((to, last)) } = *steady.lock().unwrap() else {
        panic!("the run ended before it was done");
    };
    let interval = (to - from) / (last - first) as u32;
    Run { trace, blocks: finals.len(), interval, cpu, certificate }
}

/// The median of times.
fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

fn report(count: usize, name: &str, link: Link, blocks: usize) -> Vec<u8> {
    let Run { trace, blocks, interval, cpu, certificate } = simulate(count, link, blocks);
    let each = (blocks * count) as f64;
    let sum = |pick: fn(&piaogen_order::simulation::Traffic) -> u64| {
        trace.traffic.iter().flatten().map(pick).sum::<u64>() as f64 / each
    };
    println!(
        "| {count} | {name} | {blocks} | {:.0} | {:.0} | {:.0} | {:.1} | {:.2} |",
        interval.as_secs_f64() * 1e3,
        median(trace.finality).as_secs_f64() * 1e3,
        sum(|traffic| traffic.messages),
        sum(|traffic| traffic.bytes) / 1e3,
        cpu.as_secs_f64() * 1e3 / each,
    );
    certificate
}

/// Prints how long a certificate is and takes to check, with keys just decoded and keys seen often.
fn check(count: usize, certificate: &[u8]) {
    let keys: Vec<[u8; 33]> = {
        let secrets = secrets(count);
        let mut keys: Vec<[u8; 33]> =
            secrets.iter().map(|secret| secret.public_key().to_compressed()).collect();
        keys.sort_unstable();
        keys
    };
    let decoded = Certificate::decode(certificate).unwrap();
    let time = |set: &dyn Fn() -> Arc<ValidatorSet>| {
        let once = || {
            let set = set();
            let begin = Instant::now();
            decoded.verify(&CHAIN, &set).unwrap();
            begin.elapsed()
        };
        median((0..101).map(|_| once()).collect()).as_secs_f64() * 1e6
    };
    let known = Arc::new(ValidatorSet::of_compressed(&keys).unwrap());
    let new = time(&|| Arc::new(ValidatorSet::of_compressed(&keys).unwrap()));
    let old = time(&|| known.clone());
    let (bytes, signers) = (certificate.len(), decoded.signers.len());
    println!("| {count} | {signers} | {bytes} | {new:.0} | {old:.0} |");
}

/// Blocks of a run over sockets, and how many of the first do not count: who is late joins then.
const SOCKET_BLOCKS: usize = 250;
const SOCKET_SKIP: usize = 50;
/// Runs of each kind.
const TURNS: usize = 7;

/// A set of four over sockets; the times between its blocks, as the first validator has them.
fn over_sockets(votes: &Path, signed: &Path) -> Vec<Duration> {
    let secrets = secrets(4);
    let held: Vec<TcpListener> =
        secrets.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = held.iter().map(|one| one.local_addr().unwrap()).collect();
    drop(held);
    let keys: Vec<_> = secrets.iter().map(SecretKey::public_key).collect();
    let names = addresses.iter().map(ToString::to_string);
    let peers: Vec<_> = keys.iter().cloned().zip(names).collect();
    let chains: Vec<Arc<Chain>> = (0..4).map(|_| Arc::new(Chain(Mutex::default()))).collect();
    let run = |one: usize| {
        let name = one.to_string();
        let mut config = OrderConfig::new(
            [&NAMESPACE[..], &CHAIN].concat(),
            keys.clone(),
            votes.join(&name),
            GENESIS,
        );
        config.signed = signed.join(&name);
        config.network = Some(NetworkConfig {
            listen: addresses[one],
            peers: peers.clone(),
            any_source: false,
            blocked_for: Duration::from_secs(60),
            body_bytes_max: BODY,
        });
        start(config, &secrets[one], chains[one].clone()).unwrap()
    };
    let handles: Vec<_> = (0..4).map(run).collect();
    let height = || chains[0].0.lock().unwrap().finals.len();
    while height() < SOCKET_BLOCKS {
        assert!(handles.iter().all(|handle| handle.failed().is_none()));
        std::thread::sleep(Duration::from_millis(20));
    }
    handles.into_iter().for_each(|handle| handle.stop().unwrap());
    let times = chains[0].0.lock().unwrap().times[SOCKET_SKIP..SOCKET_BLOCKS].to_vec();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// How long one write of a record takes in a folder.
fn sync(folder: &Path) -> Duration {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::create(folder.join("sync")).unwrap();
    file.write_all_at(&[0; 1_024], 0).unwrap();
    file.sync_all().unwrap();
    let once = || {
        let begun = Instant::now();
        file.write_all_at(&[1; 32], 512).unwrap();
        file.sync_data().unwrap();
        begun.elapsed()
    };
    median((0..101).map(|_| once()).collect())
}

/// Prints what the record costs: with it on the disk of the votes, and in memory.
fn record(disk: &Path, memory: &Path) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!("| record | a write, ms | block interval, ms, of each run: median (mean) | median |");
    println!("|---|---|---|---|");
    let mut runs = [Vec::new(), Vec::new()];
    for turn in 0..2 * TURNS {
        let votes = tempfile::tempdir_in(disk).unwrap();
        let signed = tempfile::tempdir_in([disk, memory][turn % 2]).unwrap();
        runs[turn % 2].push(over_sockets(votes.path(), signed.path()));
    }
    for (place, runs) in [disk, memory].into_iter().zip(runs) {
        let shown = |run: &Vec<Duration>| {
            let mean = run.iter().sum::<Duration>() / run.len() as u32;
            format!("{:.1} ({:.1})", ms(median(run.clone())), ms(mean))
        };
        let each: Vec<String> = runs.iter().map(shown).collect();
        let all = median(runs.into_iter().map(median).collect());
        let folder = tempfile::tempdir_in(place).unwrap();
        let write = ms(sync(folder.path()));
        println!("| {} | {write:.2} | {} | {:.1} |", place.display(), each.join(", "), ms(all));
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [flag, disk, memory] if flag == "--record" => record(disk.as_ref(), memory.as_ref()),
        sizes => sets(sizes.iter().map(|size| size.parse().expect("a number")).collect()),
    }
}

/// Measures sets of these sizes in the simulator.
fn sets(given: Vec<usize>) {
    let sizes = if given.is_empty() { vec![4, 16, 100] } else { given };
    let link = |latency, jitter| Link {
        latency: Duration::from_millis(latency),
        jitter: Duration::from_millis(jitter),
        arrive_percent: 100,
    };
    println!(
        "| validators | network | blocks | block interval, ms | proposal to final, ms | \
         messages a block and validator | kB a block and validator | CPU ms a block and validator |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut certificates = Vec::new();
    for count in &sizes {
        let blocks = if *count > 50 { 20 } else { 100 };
        certificates.push(report(*count, "20 ms ± 5", link(20, 5), blocks));
        report(*count, "1 ms", link(1, 0), blocks);
    }
    println!("\n| validators | signatures | bytes | check, new keys, µs | check, known keys, µs |");
    println!("|---|---|---|---|---|");
    sizes.iter().zip(&certificates).for_each(|(count, bytes)| check(*count, bytes));
    println!("\n| partitions | body as proposed, bytes | body as stored, bytes |\n|---|---|---|");
    for partitions in [4usize, 96, 1_024] {
        let stored = HEADER_LEN + Cut(vec![0; partitions + 1]).encode().len();
        println!("| {partitions} | {} | {stored} |", stored + (partitions + 1) * SHARD_LEN);
    }
}
