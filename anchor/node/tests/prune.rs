//! What stops `piaogen prune`: whatever is not known to be safe is refused, and then nothing is gone.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

mod common;

use common::{Carrier, Chain, copy, generator, send, send_all, send_registrations};
use piaogen_crypto::Lanes;
use piaogen_loadgen::send::Sink;
use piaogen_loadgen::source::Source;
use piaogen_node::setup;
use piaogen_node::snapshot::read_manifest;
use piaogen_storage::snapshot::MANIFEST;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

const PARTITIONS: u32 = 2;
const RECORDS: u64 = 3_000;

/// Where each partition begins; the registry last.
fn starts(chain: &Chain) -> Vec<u64> {
    let (records, registry) = setup::streams(&chain.config(), &chain.genesis()).unwrap();
    let records = (0..PARTITIONS).map(|partition| records.start_offset(partition).unwrap());
    records.chain([registry.start_offset(0).unwrap()]).collect()
}

/// A chain that has executed and archived some thousand records.
fn filled(dir: &Path, carrier: Carrier<'_>) -> Chain {
    let chain = Chain::create(dir, carrier, PARTITIONS, "");
    let generator = generator(&chain, 20);
    send_registrations(&chain, &generator.registrations(&chain.keys.authority));
    chain.drain();
    if matches!(carrier, Carrier::Kafka(..)) {
        send_all(&chain, &generator, RECORDS);
    } else {
        let mut sink = chain.small_sink();
        for generated in generator.batch(0..RECORDS, Lanes::detect()).unwrap() {
            send(&mut sink, generated.partition, &generated.record, generated.index);
        }
        sink.flush().unwrap();
    }
    chain.drain();
    chain
}

fn snapshot(chain: &Chain, to: PathBuf) -> PathBuf {
    chain.json(&["snapshot", "make", "--to", to.to_str().unwrap()]);
    to
}

/// Pruning with this snapshot fails with these words and this code, and nothing is gone.
fn refused(chain: &Chain, snapshot: &Path, more: &[&str], code: i32, words: &str) {
    let before = starts(chain);
    let arguments = ["prune", "--snapshot", snapshot.to_str().unwrap(), "--margin", "10"];
    let output = chain.piaogen(&[&arguments, more].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(words), "{words}: {output:?}");
    assert_eq!(output.status.code(), Some(code), "{words}: {output:?}");
    assert_eq!(starts(chain), before, "{words}");
}

/// Somebody who answers every request with this, so often; where.
fn answering(body: String, times: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().take(times) {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
    });
    url
}

/// What a node says that stands so.
fn stand(chain: &[u8], next_offsets: &[u64]) -> String {
    let chain = hex::encode(chain);
    serde_json::json!({ "chain": chain, "height": 9, "next_offsets": next_offsets }).to_string()
}

#[test]
fn a_snapshot_that_is_not_whole_or_not_of_this_folder_stops_it() {
    let root = tempfile::tempdir().unwrap();
    let stream = root.path().join("stream");
    let chain = filled(&root.path().join("chain"), Carrier::Shared(&stream));
    let kept = snapshot(&chain, root.path().join("kept"));
    let lie = root.path().join("lie");
    refused(&chain, &root.path().join("none"), &[], 2, "no snapshot, or not all of one");
    let manifest = read_manifest(&kept).unwrap();
    let part = manifest.parts.last().unwrap();
    copy(&kept, &lie);
    std::fs::remove_file(lie.join(&part.name)).unwrap();
    refused(&chain, &lie, &[], 2, &part.name);
    copy(&kept, &lie);
    let mut bytes = std::fs::read(kept.join(&part.name)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(lie.join(&part.name), bytes).unwrap();
    refused(&chain, &lie, &[], 2, &part.name);
    let mut other = manifest.clone();
    other.certificate = manifest.certificate.replacen('1', "2", 1);
    std::fs::write(lie.join(MANIFEST), other.encode()).unwrap();
    refused(&chain, &lie, &[], 2, MANIFEST);
    let mut other = manifest.clone();
    other.chain = "00".repeat(32);
    std::fs::write(lie.join(MANIFEST), other.encode()).unwrap();
    refused(&chain, &lie, &[], 2, "it is of another chain");
    // A node that executed the same stream by itself, at another time, has another history.
    let twin = chain.twin(&root.path().join("twin"));
    twin.drain();
    let others = snapshot(&twin, root.path().join("others"));
    refused(&chain, &others, &[], 2, "of another history");
    // And one that stands where the first snapshot was made is behind the next.
    let behind = chain.twin(&root.path().join("behind"));
    assert!(behind.restore(&kept, &chain).status.success());
    send_registrations(&chain, &[b"one more".to_vec()]);
    chain.drain();
    let newer = snapshot(&chain, root.path().join("newer"));
    refused(&behind, &newer, &[], 2, "newer than this folder");
}

#[test]
fn an_archive_that_does_not_cover_it_or_a_node_that_needs_it_stops_it() {
    let root = tempfile::tempdir().unwrap();
    let chain = filled(&root.path().join("chain"), Carrier::Embedded);
    let kept = snapshot(&chain, root.path().join("kept"));
    let toml = std::fs::read_to_string(chain.dir.join("node.toml")).unwrap();
    let elsewhere = toml.replace("location = \"archive\"", "location = \"elsewhere\"");
    std::fs::write(chain.dir.join("node.toml"), elsewhere).unwrap();
    std::fs::create_dir(chain.dir.join("elsewhere")).unwrap();
    refused(&chain, &kept, &[], 2, "genesis: the file is missing");
    let genesis = chain.dir.join("elsewhere/genesis.json");
    std::fs::copy(chain.dir.join("genesis.json"), genesis).unwrap();
    refused(&chain, &kept, &[], 2, "no certified header covers archived rows yet");
    // What is archived is not what was said.
    copy_tree(&chain.dir.join("archive"), &chain.dir.join("elsewhere"));
    let segment = first_segment(&chain.dir.join("elsewhere/records"));
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    refused(&chain, &kept, &[], 2, "the audit of the archive found");
    std::fs::write(chain.dir.join("node.toml"), toml).unwrap();
    asked(&chain, &kept);
    // With everything in order, and nobody who needs more.
    let arguments = ["prune", "--snapshot", kept.to_str().unwrap(), "--margin", "10"];
    chain.json(&[&arguments[..], &["--dry-run"]].concat());
    assert_eq!(starts(&chain), [0, 0, 0], "only said");
    chain.json(&["prune", "--snapshot", kept.to_str().unwrap()]);
    assert_eq!(starts(&chain), [0, 0, 0], "within the margin");
    let pruned = chain.json(&arguments);
    let begun = starts(&chain);
    for (partition, begins) in begun.iter().enumerate().take(PARTITIONS as usize) {
        let reach = &pruned["partitions"][partition];
        assert!(
            *begins > 0 && reach["begins"] == *begins && reach["asked"].is_null(),
            "{pruned:#}"
        );
    }
    assert_eq!(chain.json(&arguments)["partitions"][0]["began"], begun[0], "again: no more");
    assert_eq!(starts(&chain), begun);
    chain.check();
}

/// Others who read the stream too: what they do not say, and what they need.
fn asked(chain: &Chain, kept: &Path) {
    let id = chain.genesis().chain;
    let away = format!("http://{}", common::free(1)[0]);
    refused(chain, kept, &["--ask", &away], 2, "does not say what it needs");
    refused(chain, kept, &["--ask", "https://a.example"], 2, "only http:// is spoken");
    for (answer, words) in [
        ("[]".to_string(), "no flush point"),
        ("x".repeat(300 << 10), "does not say what it needs"),
        (stand(&[7; 32], &[9, 9, 9]), "of another chain"),
        (stand(&id, &[9, 9]), "another number of shards"),
    ] {
        let node = answering(answer, 1);
        refused(chain, kept, &["--ask", &node], 2, words);
        // Also where another has nothing against it.
        let (good, bad) = (answering(stand(&id, &[9_999; 3]), 1), answering("{}".into(), 1));
        refused(chain, kept, &["--ask", &good, "--ask", &bad], 2, "no flush point");
    }
    // One that needs all stops it, without an error; of two, who needs more counts.
    let ahead = answering(stand(&id, &[9_999; 3]), 1);
    let behind = answering(stand(&id, &[15, 700, 0]), 1);
    let arguments = ["prune", "--snapshot", kept.to_str().unwrap(), "--margin", "10"];
    let planned =
        chain.json(&[&arguments[..], &["--dry-run", "--ask", &ahead, "--ask", &behind]].concat());
    let begins = |partition: usize| planned["partitions"][partition]["begins"].as_u64().unwrap();
    assert_eq!([0, 1, 2].map(begins), [5, 690, 0], "{planned:#}");
    assert_eq!(planned["partitions"][1]["asked"], 700);
    let empty = answering(stand(&id, &[0; 3]), 1);
    chain.json(&[&arguments[..], &["--ask", &empty]].concat());
    assert_eq!(starts(chain), [0, 0, 0]);
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy_tree(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

fn first_segment(dir: &Path) -> PathBuf {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    if paths[0].is_dir() { first_segment(&paths[0]) } else { paths.remove(0) }
}

#[test]
fn over_kafka_a_broker_that_is_away_stops_it_and_records_go_one_by_one() {
    let Some(broker) = common::kafka("over_kafka_a_broker_that_is_away_stops_it") else { return };
    let root = tempfile::tempdir().unwrap();
    let prefix = common::prefix("prune");
    let chain = filled(&root.path().join("chain"), Carrier::Kafka(&broker, &prefix));
    let kept = snapshot(&chain, root.path().join("kept"));
    let toml = std::fs::read_to_string(chain.dir.join("node.toml")).unwrap();
    let away = &common::free(1)[0];
    std::fs::write(chain.dir.join("node.toml"), toml.replace(&broker, away)).unwrap();
    let arguments = ["prune", "--snapshot", kept.to_str().unwrap(), "--margin", "10"];
    let output = chain.piaogen(&arguments);
    assert_eq!(output.status.code(), Some(3), "busy: {output:?}");
    std::fs::write(chain.dir.join("node.toml"), toml).unwrap();
    assert_eq!(starts(&chain), [0, 0, 0]);
    // No partition stands in another's way, and of none goes more than one of the nodes needs.
    let behind = answering(stand(&chain.genesis().chain, &[15, 700, 0]), 1);
    chain.json(&[&arguments[..], &["--ask", &behind]].concat());
    assert_eq!(starts(&chain), [5, 690, 0]);
    refused(&chain, &kept, &["--ask", &answering("{}".into(), 1)], 2, "no flush point");
    chain.json(&arguments);
    let flushed = chain.shards();
    let bounds = starts(&chain).into_iter().zip(flushed.as_array().unwrap().clone());
    for (begins, shard) in bounds {
        assert_eq!(begins + 10, shard["next_offset"].as_u64().unwrap(), "{flushed:#}");
    }
    chain.check();
}
