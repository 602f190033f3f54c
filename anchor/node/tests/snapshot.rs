//! Snapshots: refused where any part is another, whole or not at all when killed, in the place of
//! older data or not, and over a topic whose beginning is gone.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

mod common;
#[path = "common/web.rs"]
mod web;

use common::{Carrier, Chain, copy, forge, generator, send, send_all};
use piaogen_crypto::Lanes;
use piaogen_loadgen::send::Sink;
use piaogen_loadgen::source::Source;
use piaogen_node::snapshot::read_manifest;
use piaogen_storage::Block;
use piaogen_storage::snapshot::{MANIFEST, Manifest, PartInfo, PartKind, PartWriter, read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const RECORDS: u64 = 3_000;

/// A chain that was run in two goes, so that a part of its rows is sealed and the rest is not, and
/// a snapshot of it.
fn made(dir: &Path) -> (Chain, PathBuf) {
    let stream = dir.join("stream");
    let chain = Chain::create(&dir.join("chain"), Carrier::Shared(&stream), 2, "");
    let generator = generator(&chain, 20);
    common::send_registrations(&chain, &generator.registrations(&chain.keys.authority));
    chain.drain();
    send_all(&chain, &generator, RECORDS);
    chain.drain();
    let mut node = chain.spawn();
    let mut sink = chain.sink();
    for generated in generator.batch(RECORDS..RECORDS + 500, Lanes::detect()).unwrap() {
        send(&mut sink, generated.partition, &generated.record, generated.index);
    }
    sink.flush().unwrap();
    let wanted = RECORDS + 500;
    let rows = || -> u64 {
        let reader = piaogen_storage::StoreReader::open(chain.config().dir).unwrap();
        reader.flushed().shards.iter().map(|shard| shard.log_size).sum()
    };
    node.wait(&format!("{wanted} rows are on disk"), || rows() >= wanted);
    let to = dir.join("snapshot");
    chain.json(&["snapshot", "make", "--to", to.to_str().unwrap()]);
    node.kill();
    (chain, to)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

type Forge = fn(&mut PartWriter<'_>, &Path, &PartInfo);

/// Writes the blocks of a part again, that of height 2 changed.
fn other_block(parts: &mut PartWriter<'_>, dir: &Path, info: &PartInfo, at: impl Fn(&mut Block)) {
    for mut block in read(dir, info, Lanes::detect()).unwrap().blocks().unwrap() {
        if block.height == 2 {
            at(&mut block);
        }
        parts.block(&block).unwrap();
    }
}

/// Writes the rows of a part again, the last one changed.
fn other_row(
    parts: &mut PartWriter<'_>,
    dir: &Path,
    info: &PartInfo,
    change: impl Fn(&mut Vec<u8>, &mut Vec<u8>),
) {
    let part = read(dir, info, Lanes::detect()).unwrap();
    for (index, (entry, record)) in (info.first..).zip(part.rows().unwrap()) {
        let (mut entry, mut record) = (entry.to_vec(), record.to_vec());
        if index == info.last {
            change(&mut entry, &mut record);
        }
        parts.row(index, &entry, &record).unwrap();
    }
}

/// Parts whose digests are right, and whose items are not; how each is refused.
const LIES: [(PartKind, Forge, &str); 5] = [
    (
        PartKind::Blocks,
        |parts, dir, info| other_block(parts, dir, info, |block| block.finalization[100] ^= 1),
        "block 2 of the snapshot has a certificate that does not hold",
    ),
    (
        PartKind::Blocks,
        |parts, dir, info| other_block(parts, dir, info, |block| block.header[50] ^= 1),
        "part blocks-",
    ),
    (
        PartKind::Entries,
        |parts, dir, info| {
            let part = read(dir, info, Lanes::detect()).unwrap();
            for (index, entry) in (info.first..).zip(part.entries().unwrap()) {
                let mut entry = entry.to_vec();
                // A byte of the subject: another number is used up.
                entry[30] ^= u8::from(index == 7);
                parts.entry(index, &entry).unwrap();
            }
        },
        "parts entries-0000",
    ),
    // The signature is no part of the commitment, and is checked all the same.
    (
        PartKind::Rows,
        |parts, dir, info| {
            other_row(parts, dir, info, |_, record| {
                let end = record.len();
                record[end - 1] ^= 1;
            })
        },
        "the signature at offset",
    ),
    (
        PartKind::Rows,
        |parts, dir, info| {
            other_row(parts, dir, info, |entry, _| {
                let end = entry.len();
                entry[end - 40] ^= 1;
            })
        },
        "rows-",
    ),
];

/// Manifests that say what no header says.
const CHANGES: [fn(&mut Manifest); 4] = [
    |m| m.shards[0].invoices += 1,
    |m| m.shards[1].next_offset += 1,
    |m| m.height += 2,
    |m| m.certificate = m.certificate.replacen('1', "2", 1),
];

#[test]
fn every_part_that_is_another_is_refused_and_the_true_one_is_restored_after_it() {
    let root = tempfile::tempdir().unwrap();
    let (chain, snapshot) = made(root.path());
    let manifest = read_manifest(&snapshot).unwrap();
    let twin = chain.twin(&root.path().join("twin"));
    let lie = root.path().join("lie");
    let refused = |words: &str| {
        let output = twin.restore(&lie, &chain);
        assert!(!output.status.success() && said(&output).contains(words), "{words}: {output:?}");
    };
    for kind in [PartKind::Blocks, PartKind::Entries, PartKind::Rows] {
        let part = manifest.parts.iter().find(|part| part.kind == kind).unwrap();
        copy(&snapshot, &lie);
        let mut bytes = std::fs::read(lie.join(&part.name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(lie.join(&part.name), &bytes).unwrap();
        refused(&part.name);
    }
    for (kind, write, words) in LIES {
        copy(&snapshot, &lie);
        forge(&lie, kind, write);
        refused(words);
        let node = twin.piaogen(&["node", "--until-drained"]);
        assert!(said(&node).contains("restore") && !node.status.success(), "{node:?}");
    }
    for change in CHANGES {
        copy(&snapshot, &lie);
        let mut other = manifest.clone();
        change(&mut other);
        std::fs::write(lie.join(MANIFEST), other.encode()).unwrap();
        refused(MANIFEST);
    }
    // An archive that is not the one of the snapshot's node, and then the right one.
    let empty = chain.twin(&root.path().join("empty"));
    std::fs::create_dir_all(empty.dir.join("archive")).unwrap();
    let output = twin.restore(&snapshot, &empty);
    assert!(said(&output).contains("name the archive of the node that made"), "{output:?}");
    let output = twin.restore(&snapshot, &chain);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(twin.json(&["fsck"])["clean"], true);
    // Once there is a data folder, nothing is restored over it.
    assert!(said(&twin.restore(&snapshot, &chain)).contains("holds data already"));
}

/// Runs a command, killed later each time, until it has made something; how often it ran and was killed.
fn killed_until(arguments: &[&str], whole: &Path) -> (usize, usize) {
    let (mut runs, mut kills, mut ms) = (0, 0, 1);
    while !whole.exists() {
        let mut command = Command::new(env!("CARGO_BIN_EXE_piaogen"));
        let mut child =
            command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(ms));
        child.kill().unwrap();
        (runs, kills) = (runs + 1, kills + usize::from(!child.wait().unwrap().success()));
        // A machine that is slow is not to be met at every moment.
        ms += 7 + ms / 8;
        assert!(ms < 60_000, "{arguments:?} does not end");
    }
    (runs, kills)
}

/// What had come whole was never asked for again, in so many runs.
fn fetched_once(asked: &web::Asked, fetched: &Path, fetches: usize) {
    let manifest = read_manifest(fetched).unwrap();
    let parts = asked.lock().unwrap().iter().filter(|path| path.ends_with(".part")).count();
    let most = manifest.parts.len() + fetches;
    assert!((manifest.parts.len()..=most).contains(&parts), "{parts} of {most}");
}

#[test]
fn killed_at_any_moment_there_is_nothing_or_all() {
    let root = tempfile::tempdir().unwrap();
    let (chain, snapshot) = made(root.path());
    let trust = chain.dir.join("trust-root.json");
    let (again, fetched) = (root.path().join("again"), root.path().join("fetched"));
    let twin = chain.twin(&root.path().join("twin"));
    let archive = chain.dir.join("archive");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let site = root.path().join("site");
    std::fs::create_dir_all(site.join("v1")).unwrap();
    std::os::unix::fs::symlink(&snapshot, site.join("v1/snapshot")).unwrap();
    let (url, asked) = web::serve(&site, Duration::from_millis(5));
    let make = ["snapshot", "make", "--dir", &text(&chain.dir), "--to", &text(&again)];
    let fetch = [
        "snapshot",
        "fetch",
        "--from",
        &url,
        "--to",
        &text(&fetched),
        "--trust-root",
        &text(&trust),
    ];
    let restore = [
        "snapshot",
        "restore",
        "--dir",
        &text(&twin.dir),
        "--from",
        &text(&fetched),
        "--archive",
        &text(&archive),
    ];
    let data = twin.config().dir;
    let done: [(&[&str], &Path, &str); 3] =
        [(&make, &again, MANIFEST), (&fetch, &fetched, MANIFEST), (&restore, &data, "FORMAT")];
    for (arguments, folder, whole) in done {
        // Where this process was not woken in time to kill it, it is tried once more.
        let killed = || {
            let _ = std::fs::remove_dir_all(folder);
            asked.lock().unwrap().clear();
            killed_until(arguments, &folder.join(whole))
        };
        let often = (0..20).map(|_| killed()).find(|(_, kills)| *kills > 1);
        let (runs, _) = often.unwrap_or_else(|| panic!("{arguments:?} was never killed"));
        if arguments[1] == "fetch" {
            fetched_once(&asked, &fetched, runs);
        }
    }
    let manifest = read_manifest(&fetched).unwrap();
    // A part that is torn is fetched again, and named; all others stay.
    let torn = &manifest.parts[0];
    std::fs::write(fetched.join(&torn.name), b"torn").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_piaogen")).args(fetch).arg("--json").output();
    let answer: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    assert_eq!((&answer["fresh"], &answer["again"][0]), (&1.into(), &torn.name[..].into()));
    assert_eq!(read_manifest(&again).unwrap().shards, manifest.shards);
    assert_eq!(twin.json(&["fsck"])["clean"], true);
}

#[test]
fn over_kafka_a_pruned_topic_is_begun_with_a_snapshot() {
    let Some(broker) = common::kafka("over_kafka_a_pruned_topic_is_begun_with_a_snapshot") else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let prefix = common::prefix("snapshot");
    let carrier = Carrier::Kafka(&broker, &prefix);
    let chain = Chain::create(&root.path().join("chain"), carrier, 2, "");
    let generator = generator(&chain, 20);
    let registrations = generator.registrations(&chain.keys.authority);
    common::send_registrations(&chain, &registrations);
    chain.drain();
    send_all(&chain, &generator, RECORDS);
    chain.drain();
    let snapshot = root.path().join("snapshot");
    chain.json(&["snapshot", "make", "--to", snapshot.to_str().unwrap()]);
    let prune = ["prune", "--snapshot", snapshot.to_str().unwrap(), "--margin", "10"];
    let pruned = chain.json(&prune);
    for partition in [0, 1, 2] {
        let reach = &pruned["partitions"][partition];
        let begins = reach["begins"].as_u64().unwrap();
        assert_eq!(begins + 10, reach["snapshot"].as_u64().unwrap(), "{pruned:#}");
        assert_eq!(reach["audited"], reach["flushed"], "{pruned:#}");
    }
    let records = RECORDS + registrations.len() as u64;
    assert_eq!(chain.check(), records);
    let twin = chain.twin(&root.path().join("twin"));
    assert!(twin.restore(&snapshot, &chain).status.success());
    assert_eq!(twin.shards(), chain.shards());
    std::fs::rename(chain.config().dir.join("order"), twin.config().dir.join("order")).unwrap();
    let more = generator.batch(RECORDS..RECORDS + 100, Lanes::detect()).unwrap();
    let mut sink = twin.sink();
    more.iter().for_each(|one| send(&mut sink, one.partition, &one.record, one.index));
    sink.flush().unwrap();
    twin.drain();
    assert_eq!(twin.check(), records + 100);
    assert_eq!(twin.json(&["fsck"])["pruned"].as_array().unwrap().len(), 3);
}
