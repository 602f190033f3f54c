//! Properties: what is encoded comes back, what is changed is refused, and trees agree with an
//! oracle and with published roots.

#![allow(clippy::unwrap_used)]

mod common;

use common::chain::{Chain, blue};
use common::epochs::Epochs;
use common::life::Life;
use common::lives::{entry_of_event, history_of, record_of_any_kind, status_of, status_receipt_of};
use common::{Random, document_of, entry_of, receipt_of, record_of};
use piaogen_crypto::Digest;
use piaogen_verify::consistency::Consistency;
use piaogen_verify::entry::Entry;
use piaogen_verify::epoch::EpochProof;
use piaogen_verify::fields::tag;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::status::{History, Status, StatusReceipt};
use piaogen_verify::{json, merkle, record};
use proptest::prelude::*;
use std::sync::LazyLock;

static CHAIN: LazyLock<Chain> = LazyLock::new(Chain::build);
static LIFE: LazyLock<Life> = LazyLock::new(|| Life::build(&CHAIN));
static EPOCHS: LazyLock<Epochs> = LazyLock::new(|| Epochs::build(&LIFE));

/// The root by the words of RFC 6962, over the data of the leaves.
fn naive_root(data: &[Vec<u8>]) -> Digest {
    match data.len() {
        0 => piaogen_crypto::sm3::hash(b""),
        1 => piaogen_crypto::sm3::hash_parts(&[&[0], &data[0]]),
        n => {
            let k = (0..).map(|i| 1 << i).take_while(|k| *k < n).last().unwrap();
            let (left, right) = (naive_root(&data[..k]), naive_root(&data[k..]));
            piaogen_crypto::sm3::hash_parts(&[&[1], &left, &right])
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn documents_round_trip(seed: u64) {
        let document = document_of(&mut Random(seed));
        let read = json::document_from_json(&json::document_to_json(&document)).unwrap();
        prop_assert_eq!(read.commitment(), document.commitment());
        prop_assert_eq!(read, document);
    }

    #[test]
    fn records_round_trip(seed: u64) {
        let bytes = record_of(&mut Random(seed));
        let record = record::decode(&bytes).unwrap();
        prop_assert_eq!(json::record_from_json(&json::record_to_json(&record)).unwrap(), bytes);
    }

    #[test]
    fn entries_and_receipts_round_trip(seed: u64) {
        let mut random = Random(seed);
        let entry = entry_of(&mut random);
        prop_assert_eq!(Entry::decode(&entry.encode()).unwrap(), entry);
        let receipt = receipt_of(&mut random);
        prop_assert_eq!(&Receipt::decode(&receipt.encode()).unwrap(), &receipt);
        prop_assert_eq!(&Receipt::from_json(&receipt.to_json()).unwrap(), &receipt);
    }

    #[test]
    fn events_statuses_and_histories_round_trip(seed: u64) {
        let mut random = Random(seed);
        let bytes = record_of_any_kind(&mut random);
        let record = record::decode(&bytes).unwrap();
        prop_assert_eq!(json::record_from_json(&json::record_to_json(&record)).unwrap(), bytes);
        let entry = entry_of_event(&mut random);
        prop_assert_eq!(Entry::decode(&entry.encode()).unwrap(), entry);
        let status = status_of(&mut random);
        prop_assert_eq!(&Status::decode(&status.encode()).unwrap(), &status);
        prop_assert_eq!(&Status::of_stored(&status.encode()).unwrap(), &status);
        prop_assert_eq!(&json::status_from_json(&json::status_to_json(&status)).unwrap(), &status);
        let proof = status_receipt_of(&mut random);
        prop_assert_eq!(&StatusReceipt::decode(&proof.encode()).unwrap(), &proof);
        prop_assert_eq!(&StatusReceipt::from_json(&proof.to_json()).unwrap(), &proof);
        let history = history_of(&mut random);
        prop_assert_eq!(&History::decode(&history.encode()).unwrap(), &history);
        prop_assert_eq!(&History::from_json(&history.to_json()).unwrap(), &history);
    }

    #[test]
    fn no_changed_status_proof_holds(
        at: prop::sample::Index,
        change in 1u8..,
        which in 0usize..3,
    ) {
        let name = ["blue", "neighbour", "red"][which];
        let history = LIFE.history(&CHAIN, name);
        prop_assert!(history.verify(&CHAIN.trust).is_ok());
        let mut bytes = history.status.encode();
        let place = at.index(bytes.len());
        bytes[place] ^= change;
        if let Ok(changed) = StatusReceipt::decode(&bytes) {
            prop_assert!(changed.verify(&CHAIN.trust).is_err(), "{name}: {place} ^ {change}");
        }
        let mut bytes = history.encode();
        let place = at.index(bytes.len());
        bytes[place] ^= change;
        if let Ok(changed) = History::decode(&bytes) {
            prop_assert!(changed.verify(&CHAIN.trust).is_err(), "{name}: {place} ^ {change}");
        }
    }

    #[test]
    fn what_is_hidden_still_proves(shown: u64, kept: u64) {
        let pick = |bits: u64| move |tag: &u16| bits >> (tag % 64) & 1 == 1;
        let all: Vec<u16> = LIFE.steps[3].fields().iter().map(|(tag, _)| tag).collect();
        let tags: Vec<u16> = all.iter().copied().filter(pick(shown)).collect();
        let mut proof = LIFE.status_receipt(&CHAIN, "blue", &tags);
        let full = proof.verify(&CHAIN.trust).unwrap();
        prop_assert_eq!(&full.parts, &all);
        prop_assert!(tags.iter().all(|tag| full.shown.contains(tag)));
        let tags: Vec<u16> = all.iter().copied().filter(pick(kept)).collect();
        proof.hide_but(&tags);
        let less = proof.verify(&CHAIN.trust).unwrap();
        prop_assert_eq!(less.record, full.record);
        prop_assert!(less.shown.iter().all(|tag| full.shown.contains(tag)));
        prop_assert_eq!(less.no_lien(), false);
        proof.show(&LIFE.steps[3], &[tag::FACE, tag::FINANCINGS]).unwrap();
        let again = proof.verify(&CHAIN.trust).unwrap();
        prop_assert!(again.shown.contains(&tag::CURRENCY), "amounts mean nothing without it");
        prop_assert_eq!(again.face.unwrap().liens, 1);
        prop_assert!(proof.show(&LIFE.steps[2], &[tag::FACE]).is_err());
    }

    #[test]
    fn no_changed_receipt_holds(at: prop::sample::Index, change in 1u8.., which in 0usize..4) {
        let name = ["blue", "refused", "unreadable", "register"][which];
        let mut receipt = CHAIN.receipt(name, which % 2 == 0);
        if name == "blue" {
            receipt.show(&blue(), &[1, 112]).unwrap();
        }
        let mut bytes = receipt.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        if let Ok(changed) = Receipt::decode(&bytes) {
            prop_assert!(changed.verify(&CHAIN.trust).is_err(), "{name}: byte {at} ^ {change}");
        }
    }

    /// No byte of a receipt, an epoch proof or a consistency proof is without meaning.
    #[test]
    fn no_changed_proof_of_later_epochs_holds(
        at: prop::sample::Index,
        change in 1u8..,
        which in 0usize..3,
    ) {
        let trust = EPOCHS.watched(&CHAIN.trust, 2);
        let mut receipt = EPOCHS.receipt(&CHAIN, &LIFE, "blue");
        receipt.cosigned = Some(EPOCHS.cosigned(&[0, 2]));
        let proof = EPOCHS.proof();
        let bytes = match which {
            0 => receipt.encode(),
            1 => proof.encode(),
            _ => Consistency {
                older: EPOCHS.headers[6],
                newer: EPOCHS.headers[33],
                proof: EPOCHS.history_proof(6, 33),
                certificate: EPOCHS.certified(33, 66).certificate,
                changes: proof.changes.clone(),
            }
            .encode(),
        };
        let holds = |bytes: &[u8]| match which {
            0 => Receipt::decode(bytes).is_ok_and(|receipt| receipt.verify(&trust).is_ok()),
            1 => EpochProof::decode(bytes).is_ok_and(|proof| proof.advance(&trust).is_ok()),
            _ => Consistency::decode(bytes).is_ok_and(|proof| proof.verify(&trust).is_ok()),
        };
        prop_assert!(holds(&bytes));
        let mut changed = bytes;
        let place = at.index(changed.len());
        changed[place] ^= change;
        prop_assert!(!holds(&changed), "{which}: {place} ^ {change}");
    }

    /// From whichever epoch one starts, the rest of the proof leads to the same set.
    #[test]
    fn every_part_of_an_epoch_proof_composes(cut in 0usize..3, with_idle: bool) {
        let mut changes = EPOCHS.proof().changes;
        if with_idle {
            changes.insert(1, EPOCHS.change(1));
        }
        let whole = EpochProof { changes: changes.clone() }.advance(&CHAIN.trust).unwrap();
        prop_assert_eq!(&whole.validators, &EPOCHS.set(3));
        prop_assert_eq!(whole.epoch, 3);
        let cut = cut.min(changes.len());
        let rest = EpochProof { changes: changes.split_off(cut) };
        let middle = EpochProof { changes }.advance(&CHAIN.trust).unwrap();
        prop_assert_eq!(rest.advance(&middle).unwrap(), whole);
    }

    #[test]
    fn trees_agree_with_the_naive_root(n in 0usize..70, seed: u64) {
        let mut random = Random(seed);
        let data: Vec<Vec<u8>> = (0..n).map(|_| random.array::<5>().to_vec()).collect();
        let leaves: Vec<Digest> = data.iter().map(|item| merkle::leaf(item)).collect();
        let expected = naive_root(&data);
        prop_assert_eq!(merkle::root_of_leaves(&leaves), expected);
        prop_assert_eq!(merkle::root(&leaves[..], n as u64).unwrap(), expected);
        if n > 0 {
            let index = random.below(n as u64);
            let proof = merkle::prove_inclusion(&leaves[..], index, n as u64).unwrap();
            let leaf = leaves[index as usize];
            let root = merkle::root_from_inclusion(&leaf, index, n as u64, &proof);
            prop_assert_eq!(root, Some(expected));
            let old = 1 + random.below(n as u64);
            let old_root = naive_root(&data[..old as usize]);
            let proof = merkle::prove_consistency(&leaves[..], old, n as u64).unwrap();
            prop_assert!(merkle::verify_consistency(old, n as u64, &old_root, &expected, &proof));
        }
    }
}

#[test]
fn predicates_say_what_is_proved_and_of_when() {
    let verify = |invoice, tags: &[u16]| {
        LIFE.status_receipt(&CHAIN, invoice, tags).verify(&CHAIN.trust).unwrap()
    };
    let neighbour = verify("neighbour", &[]);
    assert!(neighbour.untouched() && neighbour.no_lien() && neighbour.no_booking());
    assert_eq!(neighbour.as_of(), "as of block 6, 2026-11-21 00:00:12 UTC");
    let blue = verify("blue", &[tag::FACE]);
    assert!(!blue.untouched() && !blue.no_lien() && !blue.no_booking());
    let face = blue.face.clone().unwrap();
    assert_eq!((face.version, face.liens, face.booked), (4, 1, true));
    assert!(blue.lacks(tag::CLAIMS) && !blue.lacks(tag::FINANCINGS));
    let hidden = verify("blue", &[]);
    assert_eq!((hidden.face, hidden.record), (None, blue.record));
    let old = LIFE.status_receipt(&CHAIN, "neighbour", &[]).receipt;
    assert!(old.header.height == 6 && old.verify(&CHAIN.trust).is_ok());
}

#[test]
fn trees_have_the_published_roots() {
    let folder = std::env::var("PIAOGEN_DATA").unwrap_or_else(|_| "../../shared/data".into());
    let path = format!("{folder}/merkle-transparency-dev/rfc6962_reference.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("SKIPPED: {path} is not there; set PIAOGEN_DATA to the folder of data");
        return;
    };
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    let strings = |name: &str| -> Vec<String> {
        let items = vectors[name].as_array().unwrap().iter();
        items.map(|item| item.as_str().unwrap().to_owned()).collect()
    };
    let inputs = strings("leaf_inputs_hex");
    let leaves: Vec<Digest> =
        inputs.iter().map(|input| merkle::leaf(&hex::decode(input).unwrap())).collect();
    let roots = strings("sm3_roots_by_size");
    assert_eq!(roots.len(), leaves.len() + 1);
    for (size, expected) in roots.iter().enumerate() {
        assert_eq!(&hex::encode(merkle::root_of_leaves(&leaves[..size])), expected, "size {size}");
    }
}
