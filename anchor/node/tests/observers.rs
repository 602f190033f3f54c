//! Nodes that never vote: two observers of four validators, killed and cut off; one of a lone
//! validator; and one with a key that should vote.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

mod common;

use common::{Set, generator, send_all, send_registrations};
use piaogen_node::history::{Followed, open_source};
use piaogen_node::setup;
use piaogen_node::sinks::fetch;
use piaogen_node::witness::Witness;
use piaogen_verify::follow::{Follower, Link};
use piaogen_verify::merkle;
use piaogen_verify::tiles::{Head, Log, Part, Tile};
use piaogen_verify::trust_root::TrustRoot;
use std::path::Path;

const FREQUENT: &str = "[blocks]\ninterval_ms = 100\n[store]\nflush_interval_ms = 300\n[limits]\n\
    key_tables_mib = 16\nqueue_mib = 32\n";
/// The observers of a set of four.
const WATCHING: [usize; 2] = [4, 5];
const ALL: [usize; 6] = [0, 1, 2, 3, 4, 5];

fn observed(dir: &Path, validators: u32, observers: usize) -> Set {
    let set = Set::observed(dir, validators, observers, 2, FREQUENT);
    for index in 0..set.members.len() {
        let path = set.chain(index).dir.join("node.toml");
        let toml = std::fs::read_to_string(&path).unwrap();
        let toml = toml.replacen("[peers]\n", "[peers]\nleader_timeout_ms = 1000\n", 1);
        std::fs::write(path, toml).unwrap();
    }
    set
}

/// Fills the stream; how many records.
fn fill(set: &Set, invoices: u64) -> u64 {
    let chain = set.chain(0);
    let source = generator(&chain, 20);
    let registrations = source.registrations(&chain.keys.authority);
    send_registrations(&chain, &registrations);
    send_all(&chain, &source, invoices);
    registrations.len() as u64 + invoices
}

/// Takes a file of a node.
fn file(set: &Set, node: usize, path: &str) -> Vec<u8> {
    let url = format!("http://{}/v1/{path}", set.members[node].http);
    let mut response = ureq::get(&url).call().unwrap_or_else(|error| panic!("{url}: {error}"));
    response.body_mut().read_to_vec().unwrap()
}

/// Everything that a node hands out as tiles leads to what its head says.
fn check_tiles(set: &Set, node: usize) -> Head {
    let head = Head::decode(&file(set, node, "head")).unwrap();
    head.verify(&TrustRoot::of_genesis(&set.keys.genesis)).unwrap();
    let take = |log, part, size| {
        let tiles = (0..).map_while(move |index| Tile::of(log, part, index, size));
        tiles.map(move |tile: Tile| (tile, file(set, node, &format!("tiles/{tile}"))))
    };
    for shard in &head.shards {
        let (log, size) = (Log::Shard(shard.shard), shard.log_size);
        let hashes = take(log, Part::Hashes(0), size);
        let hashes: Vec<_> =
            hashes.flat_map(|(tile, bytes)| tile.decode(&bytes).unwrap()).collect();
        assert_eq!(merkle::root_of_leaves(&hashes), shard.log_root);
        let bundles = take(log, Part::Entries, size);
        let leaves = bundles.flat_map(|(tile, bytes)| {
            let items = tile.decode_bundle(&bytes).unwrap();
            items.into_iter().map(merkle::leaf).collect::<Vec<_>>()
        });
        assert!(leaves.eq(hashes.iter().copied()));
        // The tiles above are the subtrees of those below.
        let above = take(log, Part::Hashes(1), size);
        let above: Vec<_> = above.flat_map(|(tile, bytes)| tile.decode(&bytes).unwrap()).collect();
        let subtrees = hashes.chunks_exact(256).map(merkle::root_of_leaves);
        assert!(subtrees.eq(above));
    }
    let mut follower = Follower::new(&TrustRoot::of_genesis(&set.keys.genesis)).unwrap();
    for (tile, bytes) in take(Log::History, Part::Entries, head.header.height + 1) {
        for link in tile.decode_bundle(&bytes).unwrap() {
            follower.take(&Link::decode(link).unwrap()).unwrap();
        }
    }
    assert_eq!(follower.last(), Some(&head.header));
    let hashes = take(Log::History, Part::Hashes(0), head.header.height);
    let hashes: Vec<_> = hashes.flat_map(|(tile, bytes)| tile.decode(&bytes).unwrap()).collect();
    assert_eq!(merkle::root_of_leaves(&hashes), head.header.history_root);
    head
}

#[test]
fn observers_follow_whoever_is_killed_and_answer_like_validators() {
    let root = tempfile::tempdir().unwrap();
    let mut set = observed(root.path(), 4, 2);
    let records = fill(&set, 2_000);
    ALL.into_iter().for_each(|index| set.start(index));
    set.grow(&ALL, 3);
    for index in ALL {
        let role = if index < 4 { "validator" } else { "observer" };
        let (http, ready) = (&set.members[index].http, format!("ok {role}\n"));
        let series = format!("piaogen_role{{role=\"{role}\"}} 1\n");
        set.wait(&format!("node {index} is ready as {role}"), |_| {
            fetch(http, "/health/ready").is_ok_and(|said| said == ready)
                && fetch(http, "/metrics").is_ok_and(|text| text.contains(&series))
        });
    }
    // An observer is killed twice, once while a validator is away; nobody waits for it.
    set.kill(4);
    set.grow(&[0, 1, 2, 3, 5], 3);
    set.kill(2);
    set.start(4);
    set.grow(&[0, 1, 3, 4, 5], 3);
    set.kill(4);
    set.start(2);
    set.start(4);
    set.grow(&ALL, 3);
    // Without observers the set goes on; with two validators away nobody does.
    WATCHING.into_iter().for_each(|index| set.kill(index));
    set.grow(&[0, 1, 2, 3], 3);
    WATCHING.into_iter().for_each(|index| set.start(index));
    set.grow(&ALL, 2);
    set.settle(&ALL);
    let trust = TrustRoot::of_genesis(&set.keys.genesis);
    let entries = ALL.map(|index| {
        let receipt = set.receipt(index, 0, 1);
        assert!(receipt.verify(&trust).unwrap().signers >= 3);
        receipt.entry
    });
    assert!(entries.iter().all(|entry| *entry == entries[0]));
    let heads = [0, 4, 5].map(|node| check_tiles(&set, node));
    assert!(heads.iter().all(|head| head.shards == heads[0].shards));
    // Observers voted for nothing: only validators are known by their votes.
    for index in ALL {
        let text = fetch(&set.members[index].http, "/metrics").unwrap();
        let votes = text.lines().filter(|line| line.starts_with("piaogen_peer_votes_total{"));
        assert_eq!(votes.count(), 4, "{text}");
    }
    for index in ALL {
        assert_eq!(set.end(index), Some(0), "{}", set.log(index));
    }
    let shards = set.chain(0).shards();
    for index in ALL {
        assert_eq!(set.chain(index).shards(), shards, "node {index}");
    }
    assert_eq!(set.chain(4).check(), records);
}

#[test]
fn an_observer_of_a_lone_validator_follows_live() {
    let root = tempfile::tempdir().unwrap();
    let mut set = observed(root.path(), 1, 1);
    fill(&set, 200);
    set.start(0);
    set.start(1);
    set.grow(&[0, 1], 3);
    set.kill(1);
    set.grow(&[0], 3);
    set.start(1);
    set.grow(&[0, 1], 2);
    set.kill(0);
    set.start(0);
    set.grow(&[0, 1], 2);
    set.settle(&[0, 1]);
    let trust = TrustRoot::of_genesis(&set.keys.genesis);
    set.receipt(1, 0, 1).verify(&trust).unwrap();
    // A witness asks the observer, who voted for nothing, and signs what the validator made final.
    let from = format!("http://{}", set.members[1].http);
    let mut witness = Witness::open(&root.path().join("witness"), &trust).unwrap();
    let followed = witness.follow(&mut *open_source(&from).unwrap()).unwrap();
    assert!(matches!(followed, Followed::Extended(6..)), "{followed:?}");
    let key = setup::random_key().unwrap();
    assert_eq!(witness.cosign("w.example", &key, 100).unwrap().size, witness.size());
    for index in [0, 1] {
        assert_eq!(set.end(index), Some(0), "{}", set.log(index));
    }
    assert_eq!(set.chain(0).shards(), set.chain(1).shards());
}

#[test]
fn an_observer_with_a_key_that_votes_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut set = observed(root.path(), 4, 1);
    let key = set.chain(1).dir.join("validator.pem");
    std::fs::copy(key, set.chain(4).dir.join("observer.pem")).unwrap();
    set.start(4);
    assert_eq!(set.ended(4), Some(2), "{}", set.log(4));
    let log = set.log(4);
    assert!(log.contains("this observer is among the validators"), "{log}");
    // A copy of a validator's configuration without peers is no observer either.
    let path = set.chain(0).dir.join("node.toml");
    let toml = std::fs::read_to_string(&path).unwrap();
    let alone = toml.split("\n[peers]").next().unwrap();
    std::fs::write(&path, format!("role = \"observer\"\n{alone}")).unwrap();
    set.start(0);
    assert_eq!(set.ended(0), Some(2), "{}", set.log(0));
    assert!(set.log(0).contains("follows its peers"), "{}", set.log(0));
}
