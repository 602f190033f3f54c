//! A set of validators in which nobody stays, under load, over a stream whose beginning is gone: one
//! joins with a snapshot, one leaves, every key is replaced; one was away, one lost everything. What
//! was receipted at any time verifies at the end.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

mod common;

use common::five::{
    EPOCH_BLOCKS, begin, change, configure, fetched, five, five_with, keys, load, offer, prune,
};
use common::{Chain, Set, copy, free};
use piaogen_crypto::sm2::{PublicKey, SecretKey};
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
    /// Has others voted in, which takes effect when the epoch ends.
    fn decide(&mut self, set: &Set, new: Vec<PublicKey>) {
        for record in change(set, &self.validators, &new) {
            self.registry.send(record).unwrap();
        }
        (self.validators, self.changes) = (new, self.changes + 1);
    }

    /// Waits until those who were voted in finalize.
    fn effect(&self, set: &Set) {
        set.wait(&format!("change {} of the set", self.changes), |set| {
            set.receipt(0, 0, 1).changes.len() == self.changes
        });
    }

    /// Gives a validator another key: before the epoch begins in which it counts, or after that.
    fn replace(
        &mut self,
        set: &mut Set,
        node: usize,
        (new, address): &(SecretKey, String),
        before: bool,
    ) {
        let old = set.members[node].key.clone();
        let with = |key: &PublicKey| if *key == old { new.public_key() } else { key.clone() };
        self.decide(set, self.validators.iter().map(with).collect());
        if !before {
            self.effect(set);
        }
        assert_eq!(set.end(node), Some(0), "{}", set.log(node));
        let path = set.chain(node).dir.join("validator.pem");
        std::fs::remove_file(&path).unwrap();
        setup::write_new(&path, new.to_pkcs8_pem().as_bytes(), true).unwrap();
        set.members[node].key = new.public_key();
        let path = set.chain(node).dir.join("node.toml");
        let toml = std::fs::read_to_string(&path).unwrap();
        let listen = |address: &str| format!("leader_timeout_ms = 1000\nlisten = {address:?}");
        let old = listen(&set.members[node].address);
        assert!(toml.contains(&old), "{toml}");
        std::fs::write(&path, toml.replace(&old, &listen(address))).unwrap();
        set.start(node);
        if before {
            self.effect(set);
        }
        abreast(set);
    }
}

/// Waits until all who stay have the same blocks but the last few.
fn abreast(set: &Set) {
    set.wait("all are abreast", |set| {
        let heights = LAST.map(|index| set.series(index, "piaogen_block_height").unwrap_or(0));
        heights.iter().min().unwrap() + 3 >= *heights.iter().max().unwrap()
    });
}

// Where a machine is quick, an epoch may end before a validator was given its new key; then two of four
// follow without a vote, and the epoch never ends.
#[test]
#[ignore = "epochs of seconds race with the changes of keys: run it by hand"]
fn one_joins_one_leaves_every_key_changes_and_receipts_of_any_time_verify() {
    let root = tempfile::tempdir().unwrap();
    // Longer than it takes to connect with all who are there, of nine who may be.
    let mut set = five_with(root.path(), 80);
    let new: Vec<(SecretKey, String)> =
        free(4).into_iter().map(|address| (setup::random_key().unwrap(), address)).collect();
    // Everybody knows the keys to come, each at an address of its own.
    for (key, address) in &new {
        let key = hex::encode(key.public_key().to_compressed());
        let line = format!("{key} = {address:?}\n");
        (0..5).for_each(|index| configure(&set, index, "[peers.addresses]\n", &line));
    }
    let (mut sink, registered) = begin(&mut set);
    let (registry, records) = channel();
    let chain = set.chain(0);
    let (first, sent, validators) = std::thread::scope(|scope| {
        let sender = scope.spawn(move || load(&chain, &mut sink, &records));
        let mut rotation = Rotation { registry, validators: keys(&set, &[0, 1, 2, 3]), changes: 0 };
        let first = set.receipt(0, 0, 1);
        set.grow(&[0, 1, 2, 3], 20);
        let snapshot = offer(&set, 0);
        too_high(&set, &snapshot);
        set.grow(&[0, 1, 2, 3], 10);
        prune(&set, &snapshot, &[1, 2, 3]);
        join(&set, 4, 0);
        set.start(4);
        set.grow(&[0, 1, 2, 3, 4], 5);
        rotation.decide(&set, keys(&set, &LAST));
        rotation.effect(&set);
        assert_eq!(set.end(3), Some(0), "{}", set.log(3));
        // Three of the new set are a quorum, and the one that joined is needed for it.
        set.kill(1);
        set.grow(&[0, 2, 4], 5);
        set.start(1);
        abreast(&set);
        for (node, new) in LAST.into_iter().zip(&new) {
            rotation.replace(&mut set, node, new, node != 0);
        }
        set.grow(&LAST, 3);
        set.kill(2);
        set.grow(&[0, 1, 4], 3);
        set.start(2);
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
    set.wait("all have executed everything, and it is provable", |set| {
        let root = |index: usize| set.series(index, "piaogen_executed_root");
        let lag = |index: usize| set.series(index, "piaogen_lag_records");
        LAST.iter().all(|i| lag(*i) == Some(0) && root(*i) == root(0))
    });
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
    assert_eq!(newest.changes.len(), 1 + LAST.len());
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
        let snapshot = offer(&set, 0);
        set.grow(&[0, 1, 2], 5);
        prune(&set, &snapshot, &[1, 2]);
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
    set.wait("all have executed everything", |set| {
        all.iter().all(|i| set.series(*i, "piaogen_lag_records") == Some(0))
    });
    set.grow(&all, 2);
    for index in all {
        assert_eq!(set.end(index), Some(0), "{}", set.log(index));
    }
    for index in all {
        assert_eq!(set.chain(index).check(), registered + sent, "node {index}");
        assert_eq!(set.chain(index).shards(), set.chain(0).shards(), "node {index}");
    }
}
