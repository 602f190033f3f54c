//! Prints how fast this machine checks receipts and status proofs, commits documents and decodes
//! records.
//!
//! ```text
//! cargo run --release -p piaogen-verify --example receipt_speed
//! ```

#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::Random;
use common::chain::{Chain, blue, sign};
use common::life::Life;
use piaogen_crypto::{Digest, Lanes};
use piaogen_verify::document::{Committer, Document};
use piaogen_verify::fields::tag;
use piaogen_verify::merkle::{prove_inclusion, root_from_inclusion};
use piaogen_verify::receipt::Receipt;
use piaogen_verify::record::{self, RecordKind};
use piaogen_verify::status::{History, Status, StatusReceipt};
use std::hint::black_box;
use std::time::{Duration, Instant};

const RUN: Duration = Duration::from_secs(1);

/// Calls `f`, which does `batch` things, for a second; prints things a second and time for one.
fn measure(name: &str, batch: u32, mut f: impl FnMut()) {
    f();
    let (begin, mut calls) = (Instant::now(), 0u32);
    while begin.elapsed() < RUN {
        f();
        calls += 1;
    }
    let one = begin.elapsed().as_secs_f64() / f64::from(calls) / f64::from(batch);
    println!("{name:<44} {:>12.0} /s {:>10.2} µs", 1.0 / one, one * 1e6);
}

/// The invoice of the examples with the addresses, accounts and references that most have.
fn usual() -> Document {
    let mut document = blue();
    for (tag, text) in [
        (13, "4500012345"),
        (20, "30 天内付款"),
        (35, "广东省深圳市南山区科苑路 15 号"),
        (42, "0755-26010000"),
        (50, "上海市浦东新区世纪大道 100 号"),
        (57, "021-50470000"),
        (2021, "国家税务总局深圳市税务局"),
    ] {
        document.fields.set_text(tag, text);
    }
    document
}

/// The history of the pledged invoice as in a shard with 16 million records and a million touched
/// invoices, one of 96: the ways are as long as they are there.
fn busy(chain: &Chain, life: &Life) -> History {
    let mut random = Random(1);
    let mut digests = |n: usize| -> Vec<Digest> { (0..n).map(|_| random.array()).collect() };
    let mut history = life.history(chain, "blue");
    let size = 1 << 24;
    let proof = &mut history.status;
    let issue = proof.receipt.entry.issue.unwrap();
    proof.path.siblings[..20].copy_from_slice(&digests(20));
    // Sixteen neighbours in the log share all but their last steps: one root leads to all of them.
    let receipt = &mut proof.receipt;
    let mut leaves: Vec<Digest> = life.leaves[receipt.shard.shard as usize].clone();
    leaves.resize(16, [0; 32]);
    let above = digests(20);
    let way = |index: u64| {
        let below = prove_inclusion(&leaves[..], index, 16).unwrap();
        [below, above.clone()].concat()
    };
    receipt.inclusion = way(receipt.log_index);
    receipt.shard.log_size = size;
    let leaf = receipt.entry.leaf();
    receipt.shard.log_root =
        root_from_inclusion(&leaf, receipt.log_index, size, &receipt.inclusion).unwrap();
    proof.receipt.shard.status_root = proof.path.root(&proof.record(), issue).unwrap();
    let receipt = &mut proof.receipt;
    receipt.shard_proof = digests(7);
    receipt.header.shards = 97;
    let (leaf, shard) = (receipt.shard.leaf(), u64::from(receipt.shard.shard));
    receipt.header.shards_root =
        root_from_inclusion(&leaf, shard, 97, &receipt.shard_proof).unwrap();
    receipt.certificate = chain.certify(&receipt.header, &[0, 1, 3]).encode();
    for record in &mut history.records {
        record.inclusion = way(record.log_index);
    }
    history
}

fn statuses(chain: &Chain) {
    let life = Life::build(chain);
    let history = busy(chain, &life);
    history.verify(&chain.trust).unwrap();
    let mut face = history.status.clone();
    face.hide_but(&[tag::FACE]);
    let status = &life.steps[3];
    for (name, bytes) in [("face", face.encode()), ("history shown", history.status.encode())] {
        println!("status proof, {name}, of {} bytes", bytes.len());
        measure("status proof: decode and verify", 1, || {
            let decoded = StatusReceipt::decode(black_box(&bytes)).unwrap();
            black_box(decoded.verify(&chain.trust).unwrap());
        });
    }
    let bytes = history.encode();
    println!("history of {} events of {} bytes", history.records.len(), bytes.len());
    measure("history: decode and verify", 1, || {
        let decoded = History::decode(black_box(&bytes)).unwrap();
        black_box(decoded.verify(&chain.trust).unwrap());
    });
    let stored = status.encode();
    println!("status document of {} bytes", stored.len());
    measure("status: decode", 1, || {
        black_box(Status::decode(black_box(&stored)).unwrap());
    });
    measure("status: read what was stored", 1, || {
        black_box(Status::of_stored(black_box(&stored)).unwrap());
    });
    measure("status: digest, one alone", 1, || {
        black_box(black_box(status).digest());
    });
    measure("status: open, face shown", 1, || {
        black_box(black_box(status).open(|tag| tag == tag::FACE));
    });
}

fn main() {
    let chain = Chain::build();
    let lanes = Lanes::detect();
    println!("lanes: {}, one thread", lanes.name());
    let receipt = chain.receipt("blue", true).encode();
    println!("receipt of {} bytes, 3 of 4 validators", receipt.len());
    measure("receipt: decode and verify", 1, || {
        let decoded = Receipt::decode(black_box(&receipt)).unwrap();
        black_box(decoded.verify(&chain.trust).unwrap());
    });
    statuses(&chain);
    let document = usual();
    let record = sign(&chain.genesis.chain, RecordKind::Issue, &document, 12);
    println!("record of {} bytes", record.len());
    measure("record: decode", 1, || {
        black_box(record::decode(black_box(&record)).unwrap());
    });
    let decoded = record::decode(&record).unwrap();
    measure("record: JSON to compact", 1, || {
        let text = piaogen_verify::json::record_to_json(&decoded);
        black_box(piaogen_verify::json::record_from_json(&text).unwrap());
    });
    let batch = vec![(document.secret, document.fields.pairs()); 256];
    let (mut committer, mut out) = (Committer::default(), Vec::new());
    measure("document: commitment, 256 at once", 256, || {
        committer.commitments(lanes, black_box(&batch), &mut out);
    });
    measure("document: commitment, one alone", 1, || {
        black_box(black_box(&document).commitment());
    });
}
