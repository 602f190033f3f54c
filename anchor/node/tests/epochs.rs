//! A chain through its epochs: the validator's key is replaced by a record of the registry, the
//! node goes on with the new one, and everything old still verifies.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Carrier, Chain, PATIENCE, TIME_MS, send_registrations};
use piaogen_crypto::sm2::SecretKey;
use piaogen_loadgen::genesis::DemoChain;
use piaogen_node::setup;
use piaogen_verify::document::Fields;
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::header::ValidatorSet;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::record::{Draft, RecordKind};
use piaogen_verify::refusal::Step;
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::value;
use std::path::Path;

/// Blocks in an epoch: a few, so that a test sees many.
const EPOCH_BLOCKS: u64 = 4;

/// The demo chain with short epochs.
fn chain(dir: &Path) -> Chain {
    let more = "[blocks]\ninterval_ms = 5\nidle_interval_ms = 10";
    let chain = Chain::create(dir, Carrier::Embedded, 2, more);
    let mut file = chain.keys.genesis.file.clone();
    file.epoch_blocks = EPOCH_BLOCKS;
    let bytes = serde_json::to_vec(&file).unwrap();
    std::fs::write(dir.join("genesis.json"), &bytes).unwrap();
    let genesis = Genesis::parse(&bytes).unwrap();
    let trust = TrustRoot::of_genesis(&genesis).to_json();
    std::fs::write(dir.join("trust-root.json"), trust).unwrap();
    Chain { dir: chain.dir, keys: DemoChain { bytes, genesis, ..chain.keys } }
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

fn signed(chain: &Chain, kind: RecordKind, fields: &Fields) -> Vec<u8> {
    let draft = Draft { kind, signed_at: TIME_MS, secret: [0; 16], fields: fields.pairs() };
    draft.sign(&chain.genesis().chain, &chain.keys.authority)
}

fn registration(chain: &Chain, n: u8) -> Vec<u8> {
    let mut fields = Fields::new();
    fields.set_text(tag::PARTY, &format!("P-{n}"));
    fields.set_text(tag::PARTY_NAME, "名称");
    fields.set(tag::ROLES, value::uint(32));
    fields.set(tag::PUBLIC_KEY, key(n).public_key().to_compressed().to_vec());
    signed(chain, RecordKind::Register, &fields)
}

fn rotation(chain: &Chain, base: &SecretKey, new: &SecretKey) -> Vec<u8> {
    let set = |key: &SecretKey| ValidatorSet::new(vec![key.public_key()]).unwrap();
    let mut fields = Fields::new();
    fields.set(tag::VALIDATORS, value::keys(&[new.public_key().to_compressed()]));
    fields.set(tag::BASE, set(base).digest().to_vec());
    signed(chain, RecordKind::Validators, &fields)
}

/// The newest block's height and epoch.
fn height(chain: &Chain) -> (u64, u64) {
    let height = chain.json(&["inspect", "chain"])["tip"].as_u64().unwrap();
    let block = chain.json(&["inspect", "block", &height.to_string()]);
    (height, block["epoch"].as_u64().unwrap())
}

/// Runs the node until blocks of a later epoch than now are made, or it ends by itself.
fn run_into_next_epoch(chain: &Chain) -> Option<String> {
    let node = setup::node_parts(&chain.config()).and_then(piaogen_node::run::Node::start);
    let node = match node {
        Ok(node) => node,
        Err(error) => return Some(format!("{error:#}")),
    };
    let first = node.chain.turn(None).epoch;
    let until = std::time::Instant::now() + PATIENCE;
    while node.failure().is_none() && node.chain.tip().header.epoch < first + 2 {
        assert!(std::time::Instant::now() < until, "stuck in epoch {first}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let failure = node.failure();
    let stopped = node.stop();
    assert_eq!(stopped.is_err(), failure.is_some());
    failure
}

/// The receipt of a registry record, from the folder.
fn receipt(chain: &Chain, offset: u64) -> Receipt {
    let partitions = chain.genesis().file.partitions;
    let output = chain.piaogen(&["receipt", "--at", &format!("{partitions}:{offset}")]);
    let (out, err) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    Receipt::from_json(&out.unwrap()).unwrap_or_else(|error| panic!("{error}: {err:?}"))
}

#[test]
fn a_node_goes_through_epochs_and_restarts_in_any() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain(dir.path());
    send_registrations(&chain, &[registration(&chain, 50)]);
    for _ in 0..3 {
        assert_eq!(run_into_next_epoch(&chain), None);
    }
    let (top, epoch) = height(&chain);
    assert!(epoch >= 4, "{top} {epoch}");
    assert_eq!(epoch, (top - 1) / EPOCH_BLOCKS);
    chain.drain();
    assert_eq!(chain.check(), 1);
    // The set never changed, so nothing leads anywhere.
    let receipt = receipt(&chain, 0);
    assert!(receipt.changes.is_empty() && receipt.header.epoch >= 4);
    assert!(receipt.verify(&TrustRoot::of_genesis(&chain.genesis())).is_ok());
}

#[test]
fn a_lone_validator_that_has_its_next_key_goes_on_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain(dir.path());
    let (old, new) = (chain.keys.validators[0].clone(), key(77));
    let (path, config) = (dir.path().join("next.pem"), dir.path().join("node.toml"));
    setup::write_new(&path, new.to_pkcs8_pem().as_bytes(), true).unwrap();
    let toml = std::fs::read_to_string(&config).unwrap();
    let with = |keys: &str| {
        std::fs::write(&config, toml.replace("key = \"validator.pem\"", keys)).unwrap();
    };
    with("key = \"validator.pem\"\nnext_key = \"validator.pem\"");
    let same = run_into_next_epoch(&chain).unwrap();
    assert!(same.contains("is the same key as `key`"), "{same}");
    with("key = \"validator.pem\"\nnext_key = \"next.pem\"");
    assert_eq!(run_into_next_epoch(&chain), None);
    send_registrations(&chain, &[rotation(&chain, &old, &new)]);
    for _ in 0..2 {
        assert_eq!(run_into_next_epoch(&chain), None);
    }
    let seen = chain.json(&["inspect", "validators"]);
    assert_eq!(seen["keys"], serde_json::json!([hex::encode(new.public_key().to_compressed())]));
    assert_eq!(seen["set"], seen["planned_set"]);
    assert!(seen["epoch_end_height"].as_u64() >= seen["height"].as_u64(), "{seen}");
    with("key = \"next.pem\"");
    assert_eq!(run_into_next_epoch(&chain), None);
    chain.drain();
    assert_eq!(chain.check(), 1);
}

#[test]
fn the_validators_key_is_replaced_at_a_boundary_and_old_receipts_verify() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain(dir.path());
    let (old, new) = (chain.keys.validators[0].clone(), key(77));
    let trust = TrustRoot::of_genesis(&chain.genesis());
    send_registrations(&chain, &[registration(&chain, 50)]);
    chain.drain();
    let first = receipt(&chain, 0);
    assert_eq!(first.verify(&trust).unwrap().epoch, first.header.epoch);
    send_registrations(&chain, &[rotation(&chain, &old, &new)]);
    // The node that has the old key ends when its epoch does, and cannot start again.
    let failure = run_into_next_epoch(&chain).unwrap();
    assert!(failure.contains("is not among"), "{failure}");
    let again = run_into_next_epoch(&chain).unwrap();
    assert!(again.contains("is not among"), "{again}");
    let pem = new.to_pkcs8_pem();
    std::fs::remove_file(dir.path().join("validator.pem")).unwrap();
    setup::write_new(&dir.path().join("validator.pem"), pem.as_bytes(), true).unwrap();
    send_registrations(&chain, &[registration(&chain, 51)]);
    assert_eq!(run_into_next_epoch(&chain), None);
    chain.drain();
    assert_eq!(chain.check(), 3);
    // Who trusts the genesis takes the change; who has advanced takes it or leaves it.
    let newest = receipt(&chain, 2);
    assert_eq!((newest.changes.len(), newest.verify(&trust).map(|v| v.signers)), (1, Ok(1)));
    let mut bare = newest.clone();
    bare.changes.clear();
    assert_eq!(bare.verify(&trust).unwrap_err().step, Step::Validators);
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let output = chain.piaogen(&["trust", "proof", "--out", &file("epochs.json")]);
    assert!(output.status.success(), "{output:?}");
    let advance = [
        "trust",
        "advance",
        "--trust-root",
        &file("trust-root.json"),
        "--proof",
        &file("epochs.json"),
        "--out",
        &file("advanced.json"),
    ];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_piaogen")).args(advance).output();
    assert!(output.unwrap().status.success());
    let advanced = std::fs::read_to_string(file("advanced.json")).unwrap();
    let advanced = TrustRoot::from_json(&advanced).unwrap();
    assert_eq!(advanced.validators, ValidatorSet::new(vec![new.public_key()]).unwrap());
    assert!(bare.verify(&advanced).is_ok() && newest.verify(&advanced).is_ok());
    // The first receipt is as good as ever, and is led to the new set where that is wanted.
    assert!(first.verify(&trust).is_ok());
    assert_eq!(first.verify(&advanced).unwrap_err().step, Step::Epoch);
    std::fs::write(file("first.json"), first.to_json()).unwrap();
    let output = chain.piaogen(&["receipt", "--renew", &file("first.json")]);
    let renewed = Receipt::from_json(&String::from_utf8(output.stdout).unwrap()).unwrap();
    assert_eq!(renewed.header, first.header);
    assert!(renewed.verify(&advanced).is_ok() && renewed.verify(&trust).is_ok());
}

#[test]
fn a_witness_signs_what_a_folder_and_a_node_show_and_receipts_carry_it() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain(dir.path());
    send_registrations(&chain, &[registration(&chain, 50)]);
    assert_eq!(run_into_next_epoch(&chain), None);
    chain.drain();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let key = key(88);
    let pem = key.to_pkcs8_pem();
    setup::write_new(&dir.path().join("witness.pem"), pem.as_bytes(), true).unwrap();
    let witness = |from: &str| {
        let arguments = [
            "witness",
            "--dir",
            &file("witness"),
            "--from",
            from,
            "--key",
            &file("witness.pem"),
            "--name",
            "w.example",
            "--trust-root",
            &file("trust-root.json"),
        ];
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_piaogen")).args(arguments).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    witness(dir.path().to_str().unwrap());
    let address = piaogen_order::ports::free(1).unwrap()[0];
    let node = piaogen_node::run::Node::start(setup::node_parts(&chain.config()).unwrap()).unwrap();
    let node = std::sync::Arc::new(node);
    let (end, served) =
        piaogen_node::serve::start(address, node.clone(), 16, Default::default()).unwrap();
    witness(&format!("http://{address}"));
    drop(end);
    served.join().unwrap().unwrap();
    std::sync::Arc::into_inner(node).unwrap().stop().unwrap();
    // The checkpoint is over blocks of the folder; a receipt that ends below it carries it.
    chain.drain();
    witness(dir.path().to_str().unwrap());
    let partitions = chain.genesis().file.partitions;
    let output = chain.piaogen(&[
        "receipt",
        "--at",
        &format!("{partitions}:0"),
        "--cosigned",
        &file("witness/checkpoint"),
    ]);
    assert!(output.status.success(), "{output:?}");
    std::fs::write(file("receipt.json"), &output.stdout).unwrap();
    let mut trust = TrustRoot::of_genesis(&chain.genesis());
    let known =
        piaogen_verify::witness::Witness { name: "w.example".into(), key: key.public_key() };
    trust.witnesses = vec![known];
    std::fs::write(file("watched.json"), trust.to_json()).unwrap();
    let verify = |receipt: &str, quorum: &str| {
        let arguments =
            ["verify", receipt, "--trust-root", &file("watched.json"), "--witness-quorum", quorum];
        std::process::Command::new(env!("CARGO_BIN_EXE_piaogen")).args(arguments).output().unwrap()
    };
    assert!(verify(&file("receipt.json"), "1").status.success());
    assert_eq!(verify(&file("receipt.json"), "2").status.code(), Some(2), "one is known");
    let plain = chain.piaogen(&["receipt", "--at", &format!("{partitions}:0")]);
    std::fs::write(file("plain.json"), &plain.stdout).unwrap();
    let refused = verify(&file("plain.json"), "1");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("`witness`"), "{refused:?}");
    assert!(verify(&file("plain.json"), "0").status.success());
}
