//! A set that changes over the network: one validator leaves and follows on, one joins that followed
//! before, and one is away while epochs end.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

mod common;

use common::five::{EPOCH_BLOCKS, change, five, keys};
use common::{Set, generator, send_registrations};
use piaogen_verify::header::ValidatorSet;
use piaogen_verify::trust_root::TrustRoot;

const ALL: [usize; 5] = [0, 1, 2, 3, 4];

#[test]
fn a_set_changes_while_it_runs_and_who_was_away_comes_through_the_epochs() {
    let root = tempfile::tempdir().unwrap();
    let mut set = five(root.path());
    let chain = set.chain(0);
    let mut records = generator(&chain, 20).registrations(&chain.keys.authority);
    let new = [0, 1, 2, 4];
    records.extend(change(&set, &keys(&set, &[0, 1, 2, 3]), &keys(&set, &new)));
    send_registrations(&chain, &records);
    ALL.into_iter().for_each(|index| set.start(index));
    // Through two boundaries; the fifth has followed, and is a validator from the second epoch on.
    set.grow(&ALL, 2 * EPOCH_BLOCKS + 2);
    let joined = |set: &Set| set.log(4).contains("not of the set of this epoch");
    set.wait("the fifth followed", joined);
    let left = |set: &Set| set.log(3).contains("not of the set of this epoch");
    set.wait("the fourth follows", left);
    // Three of the new set are a quorum, and the one that joined is needed for it.
    set.kill(1);
    set.grow(&[0, 2, 3, 4], 3 * EPOCH_BLOCKS);
    set.start(1);
    set.kill(2);
    set.grow(&[0, 1, 3, 4], 2 * EPOCH_BLOCKS);
    set.start(2);
    set.grow(&ALL, 2);
    let trust = TrustRoot::of_genesis(&set.keys.genesis);
    let partitions = set.keys.genesis.file.partitions;
    for node in ALL {
        let receipt = set.receipt(node, partitions, 5 * EPOCH_BLOCKS);
        assert!(receipt.verify(&trust).unwrap().signers >= 3);
        assert_eq!(receipt.changes.len(), 1);
        assert_eq!(receipt.changes[0].next, ValidatorSet::new(keys(&set, &new)).unwrap());
    }
    for index in ALL {
        assert_eq!(set.end(index), Some(0), "{}", set.log(index));
    }
    for index in ALL {
        assert_eq!(set.chain(index).check(), records.len() as u64, "node {index}");
        assert_eq!(set.chain(index).shards(), set.chain(0).shards(), "node {index}");
    }
}

#[test]
fn who_is_neither_of_the_set_nor_a_peer_ends_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    let mut set = five(root.path());
    let path = set.chain(4).dir.join("node.toml");
    let toml = std::fs::read_to_string(&path).unwrap();
    let own = hex::encode(set.members[4].key.to_compressed());
    let others: Vec<&str> = toml.lines().filter(|line| !line.starts_with(&own)).collect();
    std::fs::write(&path, others.join("\n")).unwrap();
    set.start(4);
    assert_ne!(set.ended(4), Some(0));
    assert!(set.log(4).contains("is not among the validators of this epoch"), "{}", set.log(4));
}
