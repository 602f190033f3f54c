//! A set of validators in which nobody stays, under load, over a stream whose beginning is gone: one
//! joins with a snapshot, one leaves, every key is replaced; one was away, one lost everything. What
//! was receipted at any time verifies at the end.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

mod common;

use common::five::{
    EPOCH_BLOCKS, ahead, begin, change, configure, fetched, five, five_over, keys, load, offer,
    prune,
};
use common::{Carrier, Chain, Set, copy, kafka, prefix};
use piaogen_crypto::sm2::PublicKey;
use piaogen_node::setup;
use piaogen_node::snapshot::read_manifest;
use piaogen_storage::snapshot::MANIFEST;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::refusal::Step;
use piaogen_verify::trust_root::TrustRoot;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc::{Sender, channel};

/// Who is there at the end.
const LAST: [usize; 4] = [0, 1, 2, 4];

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fetches what a node offers over HTTP, and restores it at another.
fn join(set: &Set, node: usize, from: usize) {
    let output = set.chain(node).restore(&fetched(set, node, from), &set.chain(from));
    assert!(output.status.success(), "{output:?}");
}

/// Whether the block above that of a snapshot has no records, so that its state is the same.
fn same_above(set: &Set, snapshot: &Path) -> bool {
    let height = read_manifest(snapshot).unwrap().height;
    let cut = |height: u64| {
        let block = set.chain(0).json(&["inspect", "block", &height.to_string()]);
        block["cut"].clone()
    };
    cut(height) == cut(height + 1)
}

/// Whoever says that the state is of the block above it, whose records would then never be executed,
/// is refused.
fn too_high(set: &Set, snapshot: &Path) {
    let chain = set.chain(0);
    let (lie, twin) = (set.dir.join("lie"), chain.twin(&set.dir.join("twin")));
    copy(snapshot, &lie);
    let mut manifest = read_manifest(&lie).unwrap();
    manifest.height += 1;
    std::fs::write(lie.join(MANIFEST), manifest.encode()).unwrap();
    let output = twin.restore(&lie, &chain);
    assert!(said(&output).contains("its state is of another height"), "{output:?}");
}

/// Validators that are replaced by records of two of three authorities.
struct Rotation {
    registry: Sender<Vec<u8>>,
    validators: Vec<PublicKey>,
    changes: usize,
}

impl Rotation {
    /// Has others voted in, and waits until they finalize, which they do when the epoch has ended.
    fn change(&mut self, set: &Set, new: Vec<PublicKey>) {
        for record in change(set, &self.validators, &new) {
            self.registry.send(record).unwrap();
        }
        (self.validators, self.changes) = (new, self.changes + 1);
        set.wait(&format!("change {} of the set", self.changes), |set| {
            set.receipt(0, 0, 1).changes.len() == self.changes
        });
    }
}

/// Makes the next key of each of [`LAST`], which everybody may know: it is at the address of the key
/// before it.
fn next_keys(set: &Set) -> Vec<PublicKey> {
    let new = LAST.map(|node| {
        let (chain, key) = (set.chain(node), setup::random_key().unwrap());
        let path = chain.dir.join("next.pem");
        setup::write_new(&path, key.to_pkcs8_pem().as_bytes(), true).unwrap();
        let line = format!(
            "{} = {:?}\n",
            hex::encode(key.public_key().to_compressed()),
            set.members[node].address
        );
        (0..5).for_each(|index| configure(set, index, "[peers.addresses]\n", &line));
        key.public_key()
    });
    new.into()
}

/// Changes the configuration of a node that runs.
fn told(set: &mut Set, node: usize, from: &str, to: &str) {
    assert_eq!(set.end(node), Some(0), "{}", set.log(node));
    let path = set.chain(node).dir.join("node.toml");
    let toml = std::fs::read_to_string(&path).unwrap();
    assert!(toml.contains(from), "{toml}");
    std::fs::write(&path, toml.replacen(from, to, 1)).unwrap();
    set.start(node);
}

const FIRST_KEY: &str = "key = \"validator.pem\"\n";

/// Waits until all who stay have the same blocks but the last few.
fn abreast(set: &Set) {
    set.wait("all are abreast", |set| {
        let heights = LAST.map(|index| set.series(index, "piaogen_block_height"));
        let heights: Option<Vec<u64>> = heights.into_iter().collect();
        heights.is_some_and(|all| all.iter().min().unwrap() + 3 >= *all.iter().max().unwrap())
    });
}

/// Kills the one without which two vote, in the midst of an epoch: no more of it becomes final.
fn halt(set: &mut Set) {
    loop {
        set.kill(1);
        let height = |set: &Set, node| set.series(node, "piaogen_block_height");
        set.wait("who follows has executed what is final", |set| {
            let executed = set.series(0, "piaogen_executed_height");
            executed.is_some() && [0, 2, 4].iter().all(|node| height(set, *node) == executed)
        });
        let height = set.value(0, "piaogen_block_height");
        let left = set.value(0, "piaogen_epoch_end_height").saturating_sub(height);
        // Blocks of the epoch are final, and it has some to go.
        if (2..EPOCH_BLOCKS).contains(&left) {
            return;
        }
        set.start(1);
        set.grow(&[2, 4], 1);
    }
}

/// All keys become others at one boundary, and one node has missed to be told its own: it has it when
/// the epoch has begun, and cannot know what the key said in it before. Where it is needed, the chain
/// stands until its operator says that the key is new.
fn rotate(set: &mut Set, rotation: &mut Rotation) {
    let new = next_keys(set);
    // It knows of the others' keys, and not of its own.
    told(set, 0, "", "");
    for node in &LAST[1..] {
        told(set, *node, FIRST_KEY, &format!("{FIRST_KEY}next_key = \"next.pem\"\n"));
        abreast(set);
    }
    rotation.change(set, new.clone());
    let mut named: Vec<_> = new.iter().map(|key| hex::encode(key.to_compressed())).collect();
    named.sort();
    // It shows what is flushed.
    set.wait("who looks at a folder sees the new set", |set| {
        let seen = set.chain(2).json(&["inspect", "validators"]);
        seen["keys"] == serde_json::json!(named) && seen["set"] == seen["planned_set"]
    });
    let votes = |set: &Set| LAST.map(|node| set.series(node, "piaogen_votes"));
    set.wait("three vote, with other keys", |set| votes(set) == [0, 1, 1, 1].map(Some));
    for (node, key) in LAST.into_iter().zip(new) {
        set.members[node].key = key;
    }
    halt(set);
    told(set, 0, FIRST_KEY, "key = \"next.pem\"\n");
    set.wait("it follows, since it may have voted", |set| {
        set.log(0).contains("another key after this epoch had begun: it is followed without a vote")
    });
    assert_eq!(set.end(0), Some(0), "{}", set.log(0));
    let chain = set.chain(0);
    for begun in [true, false] {
        let stated = chain.json(&["unused", "--never-voted"]);
        assert_eq!(stated["keys"][0]["begun"], begun, "{stated}");
    }
    set.start(0);
    set.grow(&[0, 2, 4], 5);
    set.start(1);
    abreast(set);
    // The old key is not needed any longer.
    told(set, 2, &format!("{FIRST_KEY}next_key"), "key");
    abreast(set);
}

#[test]
fn one_joins_one_leaves_every_key_changes_and_receipts_of_any_time_verify() {
    let root = tempfile::tempdir().unwrap();
    nobody_stays(five(root.path()));
}

#[test]
fn so_they_do_over_kafka() {
    let Some(broker) = kafka("so_they_do_over_kafka") else { return };
    let root = tempfile::tempdir().unwrap();
    let prefix = prefix("joins");
    nobody_stays(five_over(root.path(), Carrier::Kafka(&broker, &prefix)));
}

fn nobody_stays(mut set: Set) {
    let (mut sink, registered) = begin(&mut set);
    let (registry, records) = channel();
    let chain = set.chain(0);
    let (first, sent, validators) = std::thread::scope(|scope| {
        let sender = scope.spawn(move || load(&chain, &mut sink, &records));
        let mut rotation = Rotation { registry, validators: keys(&set, &[0, 1, 2, 3]), changes: 0 };
        let first = set.receipt(0, 0, 1);
        set.grow(&[0, 1, 2, 3], 20);
        // More than the margin of pruning and a segment.
        ahead(&set, 0, &[0, 0], 300);
        let mut snapshot = offer(&set, 0);
        while same_above(&set, &snapshot) {
            set.grow(&[0], 1);
            snapshot = offer(&set, 0);
        }
        too_high(&set, &snapshot);
        set.grow(&[0, 1, 2, 3], 10);
        prune(&set, &snapshot, &[1, 2, 3], &[0, 0]);
        join(&set, 4, 0);
        set.start(4);
        set.grow(&[0, 1, 2, 3, 4], 5);
        rotation.change(&set, keys(&set, &LAST));
        assert_eq!(set.end(3), Some(0), "{}", set.log(3));
        // Three of the new set are a quorum, and the one that joined is needed for it.
        set.kill(1);
        set.grow(&[0, 2, 4], 5);
        set.start(1);
        abreast(&set);
        rotate(&mut set, &mut rotation);
        set.grow(&LAST, 3);
        set.kill(1);
        set.grow(&[0, 2, 4], 3);
        set.start(1);
        set.grow(&LAST, 2);
        drop(rotation.registry);
        (first, sender.join().unwrap(), rotation.validators)
    });
    finish(&mut set, registered + sent);
    assert!(validators.iter().all(|key| !set.keys.genesis.validators.contains(key)));
    all_times(&set, &first, &validators);
}

/// All have everything from the first record on, and agree.
fn finish(set: &mut Set, records: u64) {
    set.settle(&LAST);
    set.grow(&LAST, 2);
    for index in LAST {
        assert_eq!(set.end(index), Some(0), "{}", set.log(index));
    }
    for index in LAST {
        assert_eq!(set.chain(index).check(), records, "node {index}");
        assert_eq!(set.chain(index).shards(), set.chain(0).shards(), "node {index}");
        let fsck = set.chain(index).json(&["fsck"]);
        assert!(fsck["pruned"][0]["compared_from"].as_u64() > Some(0), "{fsck:#}");
    }
}

/// A receipt that a node's folder answers with.
fn from_folder(chain: &Chain, arguments: &[&str]) -> Receipt {
    let output = chain.piaogen(&[&["receipt"], arguments].concat());
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    Receipt::from_json(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The very first receipt and the newest, against the trust root of the genesis and one that was led
/// to the validators of today.
fn all_times(set: &Set, first: &Receipt, validators: &[PublicKey]) {
    let trust = TrustRoot::of_genesis(&set.keys.genesis);
    assert!(first.changes.is_empty() && first.verify(&trust).is_ok());
    let chain = set.chain(4);
    let last = chain.shards()[0]["next_offset"].as_u64().unwrap() - 1;
    let newest = from_folder(&chain, &["--at", &format!("0:{last}")]);
    assert_eq!(newest.changes.len(), 2);
    assert!(newest.verify(&trust).unwrap().signers >= 3);
    let mut bare = newest.clone();
    bare.changes.clear();
    assert_eq!(bare.verify(&trust).unwrap_err().step, Step::Validators);
    let file = |name: &str| chain.dir.join(name).to_str().unwrap().to_owned();
    let proof = chain.piaogen(&["trust", "proof", "--out", &file("epochs.json")]);
    assert!(proof.status.success(), "{proof:?}");
    let advanced = Command::new(env!("CARGO_BIN_EXE_piaogen"))
        .args(["trust", "advance", "--trust-root", &file("trust-root.json")])
        .args(["--proof", &file("epochs.json"), "--out", &file("advanced.json")])
        .output()
        .unwrap();
    assert!(advanced.status.success(), "{advanced:?}");
    let advanced = std::fs::read_to_string(file("advanced.json")).unwrap();
    let advanced = TrustRoot::from_json(&advanced).unwrap();
    assert_eq!(advanced.validators.keys().len(), validators.len());
    assert!(validators.iter().all(|key| advanced.validators.contains(key)));
    assert!(bare.verify(&advanced).is_ok() && newest.verify(&advanced).is_ok());
    // The first is of keys that are worth nothing to who trusts a later set, until it is renewed.
    assert_eq!(first.verify(&advanced).unwrap_err().step, Step::Epoch);
    std::fs::write(file("first.json"), first.to_json()).unwrap();
    let renewed = from_folder(&chain, &["--renew", &file("first.json")]);
    assert_eq!((renewed.header, &renewed.entry), (first.header, &first.entry));
    assert!(renewed.verify(&advanced).is_ok() && renewed.verify(&trust).is_ok());
}

/// Starts a node that cannot go on, and is told the next step.
fn cannot_begin(set: &mut Set, node: usize) {
    set.start(node);
    assert_ne!(set.ended(node), Some(0));
    let log = set.log(node);
    let last = log.lines().last().unwrap();
    for words in ["what follows was deleted", "snapshot fetch", "snapshot restore --replace"] {
        assert!(last.contains(words), "{words}: {log}");
    }
}

/// Puts a new snapshot of node 0 in the place of what a node has; the answer.
fn replace(set: &Set, node: usize) -> serde_json::Value {
    offer(set, 0);
    let from = fetched(set, node, 0);
    let chain = set.chain(node);
    let output = chain.restore(&from, &set.chain(0));
    assert!(said(&output).contains("with --replace"), "{output:?}");
    let output = chain.restore_with(&from, &set.chain(0), &["--replace", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Where each partition goes on for a node at rest.
fn had(chain: &Chain) -> Vec<u64> {
    let shards = chain.shards();
    let shards = shards.as_array().unwrap().iter();
    shards.map(|shard| shard["next_offset"].as_u64().unwrap()).collect()
}

#[test]
fn who_was_away_or_lost_everything_comes_back_over_a_pruned_stream() {
    let root = tempfile::tempdir().unwrap();
    let mut set = five(root.path());
    let all = [0, 1, 2, 3];
    let (mut sink, registered) = begin(&mut set);
    let (registry, records) = channel();
    let chain = set.chain(0);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(move || load(&chain, &mut sink, &records));
        set.grow(&all, EPOCH_BLOCKS);
        let old = offer(&set, 1);
        set.grow(&all, EPOCH_BLOCKS);
        set.kill(3);
        set.grow(&[0, 1, 2], EPOCH_BLOCKS);
        // By more than the margin of pruning and a segment.
        let away = had(&set.chain(3));
        ahead(&set, 0, &away, 300);
        let snapshot = offer(&set, 0);
        set.grow(&[0, 1, 2], 5);
        prune(&set, &snapshot, &[1, 2], &away);
        cannot_begin(&mut set, 3);
        // What is older than what it has is no way back.
        let back = set.chain(3).restore_with(&old, &set.chain(1), &["--replace"]);
        assert!(said(&back).contains("fetch a newer one"), "{back:?}");
        let answer = replace(&set, 3);
        assert_eq!((&answer["replaced"], &answer["segments"]), (&true.into(), &0.into()));
        assert!(answer["rows"].as_u64() > Some(0), "its archive stays, and lacks some: {answer}");
        set.start(3);
        set.grow(&all, 2 * EPOCH_BLOCKS);
        // It votes again, and is needed.
        set.kill(2);
        set.grow(&[0, 1, 3], 5);
        set.start(2);
        set.grow(&all, 2);
        set.kill(1);
        std::fs::remove_dir_all(set.chain(1).config().dir).unwrap();
        cannot_begin(&mut set, 1);
        replace(&set, 1);
        set.start(1);
        set.wait("it follows, since it may have voted", |set| {
            set.log(1).contains("it is followed without a vote")
        });
        set.grow(&all, 2 * EPOCH_BLOCKS);
        set.kill(2);
        set.grow(&[0, 1, 3], 5);
        set.start(2);
        set.grow(&all, 2);
        drop(registry);
        sender.join().unwrap()
    });
    set.settle(&all);
    set.grow(&all, 2);
    for index in all {
        assert_eq!(set.end(index), Some(0), "{}", set.log(index));
    }
    for index in all {
        assert_eq!(set.chain(index).check(), registered + sent, "node {index}");
        assert_eq!(set.chain(index).shards(), set.chain(0).shards(), "node {index}");
    }
}
