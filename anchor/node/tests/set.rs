//! Four validators as four processes over one stream: killed in turn, killed in pairs, and one that
//! is shown another stream.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

mod common;

use common::{Chain, PATIENCE, Set, Stop, generator, send, send_registrations};
use piaogen_crypto::Lanes;
use piaogen_loadgen::outcomes::ReceiptSource;
use piaogen_loadgen::send::Sink;
use piaogen_loadgen::source::Source;
use piaogen_node::sinks::HttpReceipts;
use piaogen_verify::trust_root::TrustRoot;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ALL: [usize; 4] = [0, 1, 2, 3];
/// Records a second.
const RATE: u64 = 1_000;

/// Four validators with blocks and flush points often, so that a kill hits all of it, and that skip
/// a silent leader soon.
fn four(dir: &Path) -> Set {
    let frequent = "[blocks]\ninterval_ms = 100\n[store]\nflush_interval_ms = 300\n[limits]\n\
        key_tables_mib = 16\nqueue_mib = 32\n";
    let set = Set::create(dir, 4, 2, frequent);
    for index in ALL {
        let path = set.chain(index).dir.join("node.toml");
        let toml = std::fs::read_to_string(&path).unwrap();
        let toml = toml.replacen("[peers]\n", "[peers]\nleader_timeout_ms = 1000\n", 1);
        std::fs::write(path, toml).unwrap();
    }
    set
}

/// Sends records at a steady rate until it is told to stop; how many.
fn load(chain: &Chain, stop: &AtomicBool) -> u64 {
    let generator = generator(chain, 20);
    let mut sink = chain.sink();
    let begun = Instant::now();
    let mut at = 0;
    while !stop.load(Ordering::SeqCst) {
        let due = begun.elapsed().as_millis() as u64 * RATE / 1_000;
        let next = due.min(at + 512);
        for generated in generator.batch(at..next, Lanes::detect()).unwrap() {
            send(&mut sink, generated.partition, &generated.record, generated.index);
        }
        sink.poll_acks(&mut Vec::new()).unwrap();
        at = next;
        std::thread::sleep(Duration::from_millis(20));
    }
    sink.flush().unwrap();
    at
}

/// Kills each in turn, then two together.
fn kills(set: &mut Set) {
    for index in ALL {
        set.kill(index);
        let others: Vec<usize> = ALL.into_iter().filter(|other| *other != index).collect();
        set.grow(&others, 3);
        set.start(index);
        set.grow(&ALL, 2);
    }
    set.kill(1);
    set.kill(2);
    // What was under way becomes final, and then nothing does.
    let heights = |set: &Set| [0, 3].map(|index| set.value(index, "piaogen_block_height"));
    let (until, first) = (Instant::now() + PATIENCE, heights(set));
    loop {
        let before = heights(set);
        std::thread::sleep(Duration::from_millis(2_500));
        if before == heights(set) {
            break;
        }
        assert!(Instant::now() < until, "two of four make no block: {first:?} to {before:?}");
    }
    set.start(1);
    set.start(2);
    set.grow(&ALL, 3);
}

/// Waits until all have executed everything and can prove it, and ends them in order.
fn settle(set: &mut Set, records: u64) {
    set.settle(&ALL);
    set.wait("all can prove it", |set| {
        let proved = |index: &usize| {
            let mut receipts = HttpReceipts::new(&set.members[*index].http);
            receipts.receipt(0, 0).is_some()
        };
        ALL.iter().all(proved)
    });
    for index in ALL {
        assert_eq!(set.end(index), Some(0), "{}", set.log(index));
    }
    let shards = set.chain(0).shards();
    for index in ALL {
        assert_eq!(set.chain(index).shards(), shards, "validator {index}");
        assert_eq!(set.chain(index).check(), records, "validator {index}");
    }
}

#[test]
fn four_processes_lose_nothing_whoever_is_killed() {
    let root = tempfile::tempdir().unwrap();
    let mut set = four(root.path());
    let chain = set.chain(0);
    let registrations = generator(&chain, 20).registrations(&chain.keys.authority);
    send_registrations(&chain, &registrations);
    let registered = registrations.len() as u64;
    ALL.into_iter().for_each(|index| set.start(index));
    set.wait("all are registered", |set| {
        ALL.iter().all(|i| set.series(*i, "piaogen_executed_records_total") >= Some(registered))
    });
    let stop = AtomicBool::new(false);
    let (early, sent) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| load(&chain, &stop));
        let stopping = Stop(&stop);
        let early = set.receipt(0, 0, 1);
        kills(&mut set);
        drop(stopping);
        (early, sender.join().unwrap())
    });
    let trust = TrustRoot::of_genesis(&set.keys.genesis);
    let later = set.receipt(3, 0, 1);
    settle(&mut set, registered + sent);
    early.verify(&trust).unwrap();
    later.verify(&trust).unwrap();
    assert_eq!(early.entry, later.entry);
    assert!(later.header.height > early.header.height);
}

#[test]
fn who_is_shown_another_stream_stops_and_says_where() {
    let root = tempfile::tempdir().unwrap();
    let mut set = four(root.path());
    // The last validator reads a stream of its own, in which one record is another.
    let path = set.chain(3).dir.join("node.toml");
    let toml = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, toml.replace("\"../stream\"", "\"other\"")).unwrap();
    for index in [0, 3] {
        let chain = set.chain(index);
        let generator = generator(&chain, 20);
        let mut sink = chain.sink();
        for record in generator.registrations(&chain.keys.authority) {
            send(&mut sink, 2, &record, 0);
        }
        for generated in generator.batch(0..200, Lanes::detect()).unwrap() {
            send(&mut sink, generated.partition, &generated.record, 0);
        }
        let record = if index == 0 { b"one" } else { b"two" };
        send(&mut sink, 1, record, 0);
        sink.flush().unwrap();
    }
    ALL.into_iter().for_each(|index| set.start(index));
    assert_eq!(set.ended(3), Some(4), "{}", set.log(3));
    let log = set.log(3);
    let last = log.lines().last().unwrap();
    assert!(last.contains("1 of 3 shards differ: shard 1 here next offset"), "{log}");
    assert!(last.contains("shards_root") && last.contains("fsck"), "{log}");
    // What it has stays as it is, and whoever starts it again learns the same.
    let kept = set.chain(3).shards();
    set.start(3);
    assert_eq!(set.ended(3), Some(4), "{}", set.log(3));
    let again = set.log(3);
    let roots = last.split("; ").next().unwrap();
    assert_eq!(again.lines().last().unwrap().split("; ").next(), Some(roots), "{again}");
    assert!(again.len() > log.len());
    assert_eq!(set.chain(3).shards(), kept);
    // The others go on without it.
    set.grow(&[0, 1, 2], 3);
    for index in [0, 1, 2] {
        assert_eq!(set.end(index), Some(0), "{}", set.log(index));
    }
    assert_eq!(set.chain(0).shards(), set.chain(2).shards());
    assert_ne!(set.chain(0).shards(), set.chain(3).shards());
}
