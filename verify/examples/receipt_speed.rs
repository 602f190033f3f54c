//! Prints how fast this machine checks receipts, commits documents and decodes records.
//!
//! ```text
//! cargo run --release -p piaogen-verify --example receipt_speed
//! ```

#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::chain::{Chain, blue, sign};
use piaogen_crypto::Lanes;
use piaogen_verify::document::{Committer, Document};
use piaogen_verify::receipt::Receipt;
use piaogen_verify::record::{self, RecordKind};
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
