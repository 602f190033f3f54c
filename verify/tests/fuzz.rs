//! Mutates encodings of every kind, and puts random bytes in their place: decoding must never panic,
//! and whatever decodes must encode to the same bytes again.
//!
//! The seed is fixed. `PIAOGEN_FUZZ_SECONDS` makes each target run that long; a failure prints the
//! seed and the input.

#![allow(clippy::unwrap_used)]

mod common;

use common::chain::genesis_file;
use common::{Random, lives};
use piaogen_verify::certificate::Certificate;
use piaogen_verify::checkpoint::Checkpoint;
use piaogen_verify::consistency::Consistency;
use piaogen_verify::encoding::Reader;
use piaogen_verify::entry::Entry;
use piaogen_verify::epoch::EpochProof;
use piaogen_verify::evidence::Evidence;
use piaogen_verify::follow::{Follower, Link};
use piaogen_verify::genesis::Genesis;
use piaogen_verify::header::{Cut, Header};
use piaogen_verify::receipt::Receipt;
use piaogen_verify::status::{History, Status, StatusProof, StatusReceipt};
use piaogen_verify::tiles::{Head, Log, Part, Tile, encode_bundle};
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::witness::Witness;
use piaogen_verify::{json, record};
use std::time::{Duration, Instant};

const ROUNDS: u32 = 3_000;

/// Changes some bytes: flips, overwrites, inserts, removes, repeats, cuts.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let end = (at + random.below(9) as usize).min(bytes.len());
        let interesting = [0, 1, 0x7f, 0x80, 0xff, b'0', b'"', b'}'][random.below(8) as usize];
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = interesting,
            2 => bytes.insert(at, interesting),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            5 if random.below(4) == 0 => bytes.truncate(at),
            _ if at < bytes.len() => bytes[at] = random.next() as u8,
            _ => {}
        }
    }
}

/// Puts random bytes behind a beginning that is right, or none; high ones, which counts and lengths
/// are made of, more often.
fn garble(random: &mut Random, bytes: &mut Vec<u8>) {
    bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
    for _ in 0..random.below(64) {
        bytes.push(if random.below(3) == 0 { 0xff } else { random.next() as u8 });
    }
}

/// Runs one target: `seed` makes an encoding, `again` decodes and encodes it, `None` if refused.
fn target(
    name: &str,
    seed: impl Fn(&mut Random) -> Vec<u8>,
    again: impl Fn(&[u8]) -> Option<Vec<u8>>,
) {
    let seconds = std::env::var("PIAOGEN_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| Duration::from_secs(text.parse().unwrap()));
    let begin = Instant::now();
    let (mut rounds, mut accepted) = (0u32, 0u32);
    loop {
        let goes_on = seconds.map_or(rounds < ROUNDS, |limit| begin.elapsed() < limit);
        if !goes_on {
            break;
        }
        let mut random = Random(u64::from(rounds) << 8);
        let original = seed(&mut random);
        assert_eq!(again(&original).as_ref(), Some(&original), "{name}: seed {rounds}");
        for _ in 0..4 {
            let mut changed = original.clone();
            match random.below(8) {
                0 => garble(&mut random, &mut changed),
                _ => mutate(&mut random, &mut changed),
            }
            if let Some(bytes) = again(&changed) {
                accepted += 1;
                assert_eq!(
                    hex::encode(&bytes),
                    hex::encode(&changed),
                    "{name}: two encodings of one value, seed {rounds}"
                );
            }
        }
        rounds += 1;
    }
    println!("{name}: {rounds} rounds, {accepted} changed inputs were accepted");
}

#[test]
fn records() {
    target("record", common::record_of, |bytes| {
        let record = record::decode(bytes).ok()?;
        Some(record.draft().encode(&record.signer, &record.signature))
    });
}

#[test]
fn entries() {
    target(
        "entry",
        |r| common::entry_of(r).encode(),
        |bytes| Some(Entry::decode(bytes).ok()?.encode()),
    );
}

#[test]
fn receipts() {
    target(
        "receipt",
        |r| common::receipt_of(r).encode(),
        |bytes| {
            let receipt = Receipt::decode(bytes).ok()?;
            // What decodes has a JSON form; with canonical values it comes back the same.
            if let Ok(other) = Receipt::from_json(&receipt.to_json()) {
                assert_eq!(other, receipt);
            }
            Some(receipt.encode())
        },
    );
}

#[test]
fn certificates() {
    target(
        "certificate",
        |r| common::certificate_of(r).encode(),
        |bytes| Some(Certificate::decode(bytes).ok()?.encode()),
    );
}

#[test]
fn cuts_and_headers() {
    target("cut", |r| common::cut_of(r).encode(), |bytes| Some(Cut::decode(bytes).ok()?.encode()));
    target(
        "header",
        |r| common::header_of(r).encode().to_vec(),
        |bytes| {
            let mut reader = Reader::new(bytes);
            let header = Header::decode(&mut reader).ok()?;
            reader.end().ok()?;
            Some(header.encode().to_vec())
        },
    );
}

#[test]
fn records_of_any_kind() {
    target("record of any kind", lives::record_of_any_kind, |bytes| {
        let record = record::decode(bytes).ok()?;
        // What is said of its shape must never panic, whatever it is.
        let _ = piaogen_verify::event::check_event(&record);
        Some(record.draft().encode(&record.signer, &record.signature))
    });
}

#[test]
fn entries_of_events() {
    target(
        "entry of an event",
        |r| lives::entry_of_event(r).encode(),
        |bytes| Some(Entry::decode(bytes).ok()?.encode()),
    );
}

#[test]
fn statuses() {
    target(
        "status",
        |r| lives::status_of(r).encode(),
        |bytes| {
            // Damage on the disk is an error or another status, and no more than that; what is
            // right is read alike.
            let stored = Status::of_stored(bytes);
            if let Ok(status) = &stored {
                let _ = (status.face(), status.capacity(), status.digest());
            }
            let status = Status::decode(bytes).ok()?;
            assert_eq!(stored.as_ref(), Ok(&status));
            let again = json::status_from_json(&json::status_to_json(&status));
            assert_eq!(again.as_ref(), Ok(&status));
            Some(status.encode())
        },
    );
}

#[test]
fn status_receipts() {
    target(
        "status receipt",
        |r| lives::status_receipt_of(r).encode(),
        |bytes| {
            let proof = StatusReceipt::decode(bytes).ok()?;
            if let Ok(other) = StatusReceipt::from_json(&proof.to_json()) {
                assert_eq!(other, proof);
            }
            Some(proof.encode())
        },
    );
}

#[test]
fn histories() {
    target(
        "history",
        |r| lives::history_of(r).encode(),
        |bytes| {
            let history = History::decode(bytes).ok()?;
            if let Ok(other) = History::from_json(&history.to_json()) {
                assert_eq!(other, history);
            }
            Some(history.encode())
        },
    );
}

#[test]
fn status_proofs() {
    target(
        "status proof",
        |r| {
            let mut out = Vec::new();
            common::status_proof_of(r).encode(&mut out);
            out
        },
        |bytes| {
            let mut reader = Reader::new(bytes);
            let proof = StatusProof::decode(&mut reader).ok()?;
            reader.end().ok()?;
            let mut out = Vec::new();
            proof.encode(&mut out);
            Some(out)
        },
    );
}

#[test]
fn consistency_proofs_and_checkpoints() {
    target(
        "consistency",
        |r| common::consistency_of(r).encode(),
        |bytes| Some(Consistency::decode(bytes).ok()?.encode()),
    );
    target(
        "checkpoint",
        |r| common::checkpoint_of(r).to_note().into_bytes(),
        |bytes| {
            let note = std::str::from_utf8(bytes).ok()?;
            Some(Checkpoint::parse(note).ok()?.to_note().into_bytes())
        },
    );
}

#[test]
fn epoch_proofs() {
    target(
        "epoch proof",
        |r| EpochProof { changes: common::changes_of(r) }.encode(),
        |bytes| {
            let proof = EpochProof::decode(bytes).ok()?;
            assert_eq!(EpochProof::from_json(&proof.to_json()).as_ref(), Ok(&proof));
            Some(proof.encode())
        },
    );
}

#[test]
fn links() {
    target(
        "link",
        |r| common::link_of(r).encode(),
        |bytes| Some(Link::decode(bytes).ok()?.encode()),
    );
}

#[test]
fn followers_at_rest() {
    let chain = common::chain::Chain::build();
    let epochs = common::epochs::Epochs::build(&common::life::Life::build(&chain));
    let mut follower = Follower::new(&chain.trust).unwrap();
    let rests: Vec<Vec<u8>> = (0..common::epochs::TIP)
        .filter_map(|height| {
            follower.take(&epochs.link(height)).unwrap();
            follower.rest()
        })
        .collect();
    target(
        "follower at rest",
        |r| rests[r.below(rests.len() as u64) as usize].clone(),
        |bytes| Follower::resume(&chain.trust, bytes).ok()?.rest(),
    );
}

#[test]
fn tiles() {
    target(
        "head",
        |r| common::head_of(r).encode(),
        |bytes| Some(Head::decode(bytes).ok()?.encode()),
    );
    let path = |random: &mut Random| {
        let log =
            if random.below(3) == 0 { Log::History } else { Log::Shard(random.wide() as u32) };
        let part = match random.below(3) {
            0 => Part::Entries,
            _ => Part::Hashes(random.below(8) as u8),
        };
        let index = random.wide() >> 8;
        Tile { log, part, index, width: 1 + random.below(256) as u16 }.to_string().into_bytes()
    };
    target("path of a tile", path, |bytes| {
        let path = std::str::from_utf8(bytes).ok()?;
        Some(Tile::parse(path)?.to_string().into_bytes())
    });
    let tile = |width| Tile { log: Log::History, part: Part::Entries, index: 0, width };
    let bundle = |random: &mut Random| {
        let items: Vec<_> = (0..3).map(|_| random.digests(4).concat()).collect();
        encode_bundle(items.iter().map(Vec::as_slice)).unwrap()
    };
    target("bundle", bundle, |bytes| encode_bundle(tile(3).decode_bundle(bytes).ok()?));
    let hashes = |random: &mut Random| (0..5).flat_map(|_| random.array::<32>()).collect();
    target("tile", hashes, |bytes| Some(tile(5).decode(bytes).ok()?.concat()));
}

#[test]
fn evidence() {
    target(
        "evidence",
        |r| common::evidence_of(r).encode(),
        |bytes| {
            let evidence = Evidence::decode(bytes).ok()?;
            assert_eq!(Evidence::from_json(&evidence.to_json()).as_ref(), Ok(&evidence));
            Some(evidence.encode())
        },
    );
}

/// JSON has white space and order, so here the value that is read must survive its own encoding.
fn json_target<T: PartialEq + std::fmt::Debug>(
    name: &str,
    seed: impl Fn(&mut Random) -> String,
    read: impl Fn(&str) -> Option<T>,
    write: impl Fn(&T) -> String,
) {
    target(
        name,
        |r| seed(r).into_bytes(),
        |bytes| {
            let text = std::str::from_utf8(bytes).ok()?;
            let value = read(text)?;
            let written = write(&value);
            assert_eq!(read(&written), Some(value), "{name}: {text}");
            Some(bytes.to_vec())
        },
    );
}

#[test]
fn documents_as_json() {
    json_target(
        "document.json",
        |r| json::document_to_json(&common::document_of(r)),
        |text| json::document_from_json(text).ok(),
        json::document_to_json,
    );
}

#[test]
fn records_as_json() {
    json_target(
        "record.json",
        |r| {
            let bytes = common::record_of(r);
            json::record_to_json(&record::decode(&bytes).unwrap())
        },
        |text| json::record_from_json(text).ok(),
        |bytes| json::record_to_json(&record::decode(bytes).expect("what JSON gives decodes")),
    );
}

#[test]
fn receipts_as_json() {
    json_target(
        "receipt.json",
        |r| common::receipt_of(r).to_json(),
        |text| {
            let receipt = Receipt::from_json(text).ok()?;
            assert_eq!(Receipt::decode(&receipt.encode()).as_ref(), Ok(&receipt));
            Some(receipt)
        },
        Receipt::to_json,
    );
}

#[test]
fn records_of_any_kind_as_json() {
    json_target(
        "record of any kind.json",
        |r| {
            let bytes = lives::record_of_any_kind(r);
            json::record_to_json(&record::decode(&bytes).unwrap())
        },
        |text| json::record_from_json(text).ok(),
        |bytes| json::record_to_json(&record::decode(bytes).expect("what JSON gives decodes")),
    );
}

#[test]
fn statuses_as_json() {
    json_target(
        "status.json",
        |r| json::status_to_json(&lives::status_of(r)),
        |text| json::status_from_json(text).ok(),
        json::status_to_json,
    );
}

#[test]
fn status_receipts_as_json() {
    json_target(
        "status receipt.json",
        |r| lives::status_receipt_of(r).to_json(),
        |text| {
            let proof = StatusReceipt::from_json(text).ok()?;
            assert_eq!(StatusReceipt::decode(&proof.encode()).as_ref(), Ok(&proof));
            Some(proof)
        },
        StatusReceipt::to_json,
    );
}

#[test]
fn histories_as_json() {
    json_target(
        "history.json",
        |r| lives::history_of(r).to_json(),
        |text| {
            let history = History::from_json(text).ok()?;
            assert_eq!(History::decode(&history.encode()).as_ref(), Ok(&history));
            Some(history)
        },
        History::to_json,
    );
}

#[test]
fn epoch_proofs_and_evidence_as_json() {
    json_target(
        "epoch proof.json",
        |r| EpochProof { changes: common::changes_of(r) }.to_json(),
        |text| {
            let proof = EpochProof::from_json(text).ok()?;
            assert_eq!(EpochProof::decode(&proof.encode()).as_ref(), Ok(&proof));
            Some(proof)
        },
        EpochProof::to_json,
    );
    json_target(
        "evidence.json",
        |r| common::evidence_of(r).to_json(),
        |text| {
            let evidence = Evidence::from_json(text).ok()?;
            assert_eq!(Evidence::decode(&evidence.encode()).as_ref(), Ok(&evidence));
            Some(evidence)
        },
        Evidence::to_json,
    );
    json_target(
        "consistency.json",
        |r| common::consistency_of(r).to_json(),
        |text| Consistency::from_json(text).ok(),
        Consistency::to_json,
    );
}

#[test]
fn genesis_files_and_trust_roots() {
    let file = genesis_file();
    let mut root = TrustRoot::of_genesis(&Genesis::parse(&file).unwrap());
    let trust = root.to_json();
    root.witnesses = (0..3)
        .map(|i| Witness {
            name: format!("w{i}.example"),
            key: common::key_of(40 + i).public_key(),
        })
        .collect();
    root.witness_quorum = 2;
    let watched = root.to_json();
    json_target(
        "trust root",
        |r| if r.below(2) == 0 { trust.clone() } else { watched.clone() },
        |text| TrustRoot::from_json(text).ok(),
        TrustRoot::to_json,
    );
    target(
        "genesis",
        |_| file.clone(),
        |bytes| {
            let genesis = Genesis::parse(bytes).ok()?;
            assert_eq!(genesis.header().shards, genesis.file.partitions + 1);
            Some(bytes.to_vec())
        },
    );
}
