//! Evidence of a validator that votes twice, kept by nodes that are processes: the liar joined after
//! the genesis, and connects to them over the real network.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

mod common;

use common::five::{change, five, keys};
use common::{Chain, Set, Stop, generator, send_registrations};
use piaogen_anchor::body::Body;
use piaogen_node::members;
use piaogen_node::sinks::fetch;
use piaogen_order::simulation::vote_twice;
use piaogen_order::{NetworkConfig, OrderConfig};
use piaogen_verify::certificate::NAMESPACE;
use piaogen_verify::evidence::{Evidence, Signer};
use piaogen_verify::genesis::Genesis;
use piaogen_verify::trust_root::TrustRoot;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Blocks in an epoch: enough to connect in.
const EPOCH_BLOCKS: u64 = 20;
/// Those that run: a quorum of each set. The fifth is the liar.
const HONEST: [usize; 3] = [0, 1, 2];
const LIAR: usize = 4;

/// Makes longer epochs of those that are there.
fn prolong(set: &mut Set) {
    let mut file = set.keys.genesis.file.clone();
    file.epoch_blocks = EPOCH_BLOCKS;
    let bytes = serde_json::to_vec(&file).unwrap();
    let genesis = Genesis::parse(&bytes).unwrap();
    for index in 0..set.members.len() {
        let folder = members::folder(&set.dir, index);
        std::fs::write(folder.join("genesis.json"), &bytes).unwrap();
        let trust = TrustRoot::of_genesis(&genesis).to_json();
        std::fs::write(folder.join("trust-root.json"), trust).unwrap();
    }
    (set.keys.bytes, set.keys.genesis) = (bytes, genesis);
}

/// How the liar reaches the others.
fn disguise(set: &Set, directory: PathBuf) -> OrderConfig {
    let genesis = &set.keys.genesis;
    let namespace = [&NAMESPACE[..], &genesis.chain].concat();
    let peers = set.members.iter().map(|one| (one.key.clone(), one.address.clone()));
    let network = NetworkConfig {
        listen: set.members[LIAR].address.parse().unwrap(),
        peers: peers.collect(),
        any_source: false,
        blocked_for: Duration::from_secs(60),
        body_bytes_max: Body::bytes_max(genesis.file.partitions as usize + 1),
    };
    let validators = keys(set, &[0, 1, 2, LIAR]);
    let ground = genesis.header().digest();
    OrderConfig {
        network: Some(network),
        ..OrderConfig::new(namespace, validators, directory, ground)
    }
}

/// The files of evidence of a node.
fn files(chain: &Chain) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(chain.config().dir.join("evidence")) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    files
}

/// Keeps node 2 from writing evidence: what is no folder takes no file.
fn obstruct(set: &Set) {
    std::fs::write(set.chain(2).config().dir.join("evidence"), "in the way").unwrap();
}

/// Node 1 is killed when it has just caught the liar, and catches it again if it must; the disk of
/// node 2 does not take the file, which holds up nothing, until it does.
fn caught_in_trouble(set: &mut Set) {
    set.wait("the liar is caught", |set| set.log(1).contains("voted twice in one view"));
    set.kill(1);
    set.start(1);
    set.wait("a disk is in trouble", |set| set.log(2).contains("NOT kept"));
    assert!(set.value(2, "piaogen_evidence_unsaved") >= 1);
    set.grow(&HONEST, 3);
    let in_the_way = set.chain(2).config().dir.join("evidence");
    assert!(in_the_way.is_file(), "nothing was written");
    std::fs::remove_file(in_the_way).unwrap();
    set.wait("its disk is good again", |set| {
        set.series(2, "piaogen_evidence_unsaved") == Some(0) && !files(&set.chain(2)).is_empty()
    });
}

/// Waits until the set has changed so often.
fn changed(set: &Set, times: usize) {
    let registry = set.keys.genesis.file.partitions;
    set.wait(&format!("{times} changes of the set"), |set| {
        HONEST.iter().all(|node| set.receipt(*node, registry, 1).changes.len() == times)
    });
}

fn piaogen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_piaogen")).args(arguments).output().unwrap()
}

/// Whether a file proves something to who has this trust root, and what was said.
fn verifies(file: &Path, trust: &Path) -> (bool, String) {
    let (file, trust) = (file.to_str().unwrap(), trust.to_str().unwrap());
    let output = piaogen(&["evidence", "verify", file, "--trust-root", trust]);
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// A trust root that was advanced as a node's folder says.
fn advanced(chain: &Chain, name: &str, more: &[&str]) -> PathBuf {
    let file = |name: &str| chain.dir.join(name).to_str().unwrap().to_owned();
    let (proof, out) = (file(&format!("{name}-epochs.json")), file(&format!("{name}.json")));
    let made = chain.piaogen(&[&["trust", "proof", "--out", &proof], more].concat());
    assert!(made.status.success(), "{made:?}");
    let (trust, advance) = (file("trust-root.json"), ["trust", "advance", "--out", &out]);
    let led = piaogen(&[&advance[..], &["--trust-root", &trust, "--proof", &proof]].concat());
    assert!(led.status.success(), "{led:?}");
    out.into()
}

/// A node names the liar, from its folder and over HTTP, to who trusts the genesis alone; the first
/// of its files.
fn names(set: &Set, node: usize) -> (String, Vec<u8>) {
    let liar = set.members[LIAR].key.to_compressed();
    let listed = set.chain(node).json(&["evidence", "list"]);
    let listed = listed["evidence"].as_array().unwrap();
    assert!(!listed.is_empty());
    for one in listed {
        assert_eq!((&one["proved"], &one["kind"]), (&true.into(), &"double_vote".into()), "{one}");
        assert_eq!(one["liars"], serde_json::json!([format!("validator {}", hex::encode(liar))]));
    }
    let http = &set.members[node].http;
    let served: serde_json::Value =
        serde_json::from_str(&fetch(http, "/v1/evidence").unwrap()).unwrap();
    let names: Vec<&str> = served["evidence"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["file"].as_str().unwrap())
        .collect();
    assert!(names.len() >= listed.len(), "{served}");
    assert!(fetch(http, "/v1/evidence/..%2F..%2Fvalidator.pem").is_err());
    let text = fetch(http, &format!("/v1/evidence/{}", names[0])).unwrap();
    let evidence = Evidence::from_json(&text).unwrap();
    let verdict = evidence.verify(&TrustRoot::of_genesis(&set.keys.genesis)).unwrap();
    assert_eq!(verdict.liars, [Signer::Validator(liar)]);
    let Evidence::DoubleVote { changes, epoch, .. } = evidence else { panic!("votes") };
    assert!(changes.len() == 1 && epoch >= 1, "the liar is of a later set");
    assert!(set.value(node, "piaogen_evidence_files") >= names.len() as u64);
    assert_eq!(set.value(node, "piaogen_evidence_unsaved"), 0);
    (names[0].to_owned(), text.into_bytes())
}

#[test]
fn who_joined_later_and_votes_twice_is_named_to_everybody_for_good() {
    let root = tempfile::tempdir().unwrap();
    let mut set = five(root.path());
    prolong(&mut set);
    let chain = set.chain(0);
    let (first, second) = (keys(&set, &[0, 1, 2, 3]), keys(&set, &[0, 1, 2, LIAR]));
    let mut records = generator(&chain, 20).registrations(&chain.keys.authority);
    records.extend(change(&set, &first, &second));
    send_registrations(&chain, &records);
    HONEST.into_iter().for_each(|index| set.start(index));
    changed(&set, 1);
    obstruct(&set);
    let (done, config) = (AtomicBool::new(false), disguise(&set, root.path().join("liar")));
    let secret = set.members[LIAR].secret.clone().unwrap();
    let lies = std::thread::scope(|scope| {
        let (told, config) = (&done, &config);
        let over = move || told.load(Ordering::SeqCst);
        // It ends, too, where what is waited for does not come.
        let stopping = Stop(told);
        let liar = scope.spawn(move || vote_twice(config, secret, over).unwrap());
        caught_in_trouble(&mut set);
        set.wait("all have evidence", |set| {
            HONEST.iter().all(|node| !files(&set.chain(*node)).is_empty())
        });
        drop(stopping);
        liar.join().unwrap()
    });
    assert!(lies > 0);
    let kept = HONEST.map(|node| names(&set, node));
    assert!(set.value(0, "piaogen_evidence_total") >= 1);
    // It outlives the process, however that ends, and the chain went on meanwhile.
    set.kill(0);
    set.start(0);
    set.grow(&HONEST, 2);
    assert_eq!(names(&set, 0), kept[0]);
    assert_eq!(set.value(0, "piaogen_evidence_total"), 0, "nobody votes twice any more");
    assert_eq!(set.end(0), Some(0), "{}", set.log(0));
    set.start(0);
    set.grow(&HONEST, 2);
    assert_eq!(names(&set, 0), kept[0]);
    // The liar is voted out; what it did is proved to who trusts the genesis, or its own set.
    send_registrations(&chain, &change(&set, &second, &first));
    changed(&set, 2);
    for node in HONEST {
        assert_eq!(set.end(node), Some(0), "{}", set.log(node));
    }
    judged(&chain, &chain.config().dir.join("evidence").join(&kept[0].0));
}

/// What a file proves against the trust root of the genesis and against those that were advanced.
fn judged(chain: &Chain, file: &Path) {
    let evidence = Evidence::from_json(&std::fs::read_to_string(file).unwrap()).unwrap();
    let Evidence::DoubleVote { epoch, .. } = &evidence else { panic!("votes") };
    let genesis = chain.dir.join("trust-root.json");
    let (proved, said) = verifies(file, &genesis);
    assert!(proved && said.contains("PROVED") && said.contains("broke the rules"), "{said}");
    // To the set of the liar, and past it.
    let own = advanced(chain, "own", &["--to-epoch", &epoch.to_string()]);
    assert!(verifies(file, &own).0);
    let past = advanced(chain, "past", &[]);
    let (proved, said) = verifies(file, &past);
    assert!(!proved && said.contains("`epoch`"), "{said}");
    assert!(said.contains("take that of the genesis"), "{said}");
    // Without the changes, as the engine sees it, the genesis does not suffice.
    let Evidence::DoubleVote { key, epoch, view, first, second, .. } = evidence else {
        panic!("votes")
    };
    let bare = Evidence::DoubleVote { changes: Vec::new(), key, epoch, view, first, second };
    let path = chain.dir.join("bare.json");
    std::fs::write(&path, bare.to_json()).unwrap();
    let (proved, said) = verifies(&path, &genesis);
    assert!(!proved && said.contains("`validators`"), "{said}");
    assert!(said.contains(&format!("trust proof --to-epoch {epoch}")), "{said}");
    assert!(verifies(&path, &own).0);
}
