//! Tests of receipts: every step refuses, and every byte counts.

use super::*;
use crate::certificate::tests::{certify, validators};
use crate::document::Fields;
use crate::entry::Outcome;
use crate::header::shards_root;
use crate::merkle;
use crate::record::{RecordKind, subject};
use crate::value;

fn document() -> Document {
    let mut fields = Fields::new();
    fields.set_text(tag::NUMBER, "25442000000000000001");
    fields.set_text(tag::SELLER_NAME, "深圳市某某科技有限公司");
    fields.set(tag::CURRENCY, value::currency(*b"CNY", 2));
    fields.set_amount(tag::TOTAL_GROSS, 11_300);
    let mut line = Fields::new();
    line.set_amount(tag::LINE_NET, 10_000);
    let lines = alloc::vec![line.clone(), line];
    let mut document = Document { secret: [1; 16], fields, lines };
    document.seal();
    document
}

/// A receipt at height 1, certified by block 3, and its trust root.
fn receipt() -> (Receipt, TrustRoot) {
    let (keys, set) = validators(4);
    let document = document();
    let entry = Entry {
        kind: Some(RecordKind::Issue),
        offset: 5,
        subject: subject(b"CN-EINV", None, b"25442000000000000001"),
        outcome: Outcome::Accepted,
        commitment: document.commitment(),
        signer: [3; 32],
        issue: Some(2),
        status: [0; 32],
    };
    let leaves: Vec<Digest> =
        (0..7u8).map(|i| if i == 4 { entry.leaf() } else { merkle::leaf(&[i]) }).collect();
    let mut shards: Vec<ShardEntry> = (0..3).map(ShardEntry::empty).collect();
    shards[1].log_size = 7;
    shards[1].log_root = merkle::root_of_leaves(&leaves);
    let shard_leaves: Vec<Digest> = shards.iter().map(ShardEntry::leaf).collect();
    let genesis = Header::genesis([9; 32], 1, 2, &set);
    let mut header = Header { height: 1, shards_root: shards_root(&shards), ..genesis };
    header.history_root = merkle::root_of_leaves(&[genesis.leaf()]);
    let second = Header { height: 2, ..header };
    let history = [genesis.leaf(), header.leaf(), second.leaf()];
    let newer = Header { height: 3, history_root: merkle::root_of_leaves(&history), ..header };
    let receipt = Receipt {
        fields: OpenedField::all_hidden(&document),
        entry,
        log_index: 4,
        inclusion: merkle::prove_inclusion(&leaves[..], 4, 7).unwrap(),
        shard: shards[1],
        shard_proof: merkle::prove_inclusion(&shard_leaves[..], 1, 3).unwrap(),
        header,
        history: Some((newer, merkle::prove_inclusion(&history[..], 1, 3).unwrap())),
        certificate: certify(&newer, &keys, &[0, 2, 3]).encode(),
        changes: Vec::new(),
        cosigned: None,
    };
    let trust = TrustRoot::of_set("test-1", [9; 32], set);
    (receipt, trust)
}

#[test]
fn a_good_receipt_holds_in_both_forms() {
    let (mut receipt, trust) = receipt();
    receipt.show(&document(), &[tag::TOTAL_GROSS]).unwrap();
    let verified = receipt.verify(&trust).unwrap();
    assert_eq!((verified.height, verified.certified_height, verified.signers), (1, 3, 3));
    assert_eq!(Receipt::decode(&receipt.encode()), Ok(receipt.clone()));
    let text = receipt.to_json();
    assert!(text.contains("\"113.00\""), "{text}");
    assert_eq!(Receipt::from_json(&text), Ok(receipt));
}

type Spoil = fn(&mut Receipt);

#[test]
fn each_step_refuses_by_its_name() {
    let (good, trust) = receipt();
    let cases: [(Step, Spoil); 12] = [
        (Step::Decode, |r| r.certificate.clear()),
        (Step::Document, |r| r.fields[0].tag += 1),
        (Step::Document, |r| drop(r.fields.pop())),
        (Step::Document, |r| r.fields.swap(0, 1)),
        (Step::Inclusion, |r| r.entry.offset += 1),
        (Step::Inclusion, |r| r.log_index += 1),
        (Step::Inclusion, |r| r.shard.log_size = 0),
        (Step::Shard, |r| r.shard.invoices += 1),
        (Step::Chain, |r| r.header.chain = [8; 32]),
        (Step::History, |r| r.header.time_ms += 1),
        (Step::Quorum, |r| r.history = None),
        (Step::Signature, |r| *r.certificate.last_mut().unwrap() ^= 1),
    ];
    for (i, (step, spoil)) in cases.into_iter().enumerate() {
        let mut receipt = good.clone();
        spoil(&mut receipt);
        assert_eq!(receipt.verify(&trust).map_err(|r| r.step), Err(step), "case {i}");
    }
    let others = TrustRoot { validators: validators(5).1, ..trust };
    assert_eq!(good.verify(&others).map_err(|r| r.step), Err(Step::Validators));
}

#[test]
fn every_byte_of_a_receipt_counts() {
    let (mut receipt, trust) = receipt();
    receipt.show(&document(), &[tag::TOTAL_GROSS]).unwrap();
    let bytes = receipt.encode();
    for at in 0..bytes.len() {
        for mask in [1, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= mask;
            if let Ok(other) = Receipt::decode(&changed) {
                assert_eq!(other.encode(), changed, "byte {at} has two encodings");
                assert!(other.verify(&trust).is_err(), "byte {at} does not count");
            }
        }
    }
}

#[test]
fn an_altered_document_is_compared_field_by_field() {
    let (receipt, _) = receipt();
    assert_eq!(receipt.compare(&document()), []);
    let mut altered = document();
    altered.fields.set_amount(tag::TOTAL_GROSS, 99);
    altered.fields.remove(tag::SELLER_NAME);
    altered.fields.set_text(tag::BUYER_NAME, "x");
    altered.lines[1].set_amount(tag::LINE_NET, 1);
    let found: Vec<(Tag, DifferenceKind)> =
        receipt.compare(&altered).iter().map(|d| (d.tag, d.kind)).collect();
    let expected = [
        (tag::SELLER_NAME, DifferenceKind::OnlyInReceipt),
        (tag::BUYER_NAME, DifferenceKind::OnlyInDocument),
        (tag::TOTAL_GROSS, DifferenceKind::Differs),
        (tag::LINES, DifferenceKind::Differs),
    ];
    assert_eq!(found, expected);
    let bare = Receipt { fields: Vec::new(), ..receipt };
    assert_eq!(bare.compare(&document()), []);
    assert_eq!(bare.compare(&altered)[0].tag, 0);
}

#[test]
fn fields_are_shown_only_from_the_right_document() {
    let (mut receipt, trust) = receipt();
    receipt.fields.clear();
    let mut other = document();
    other.secret = [2; 16];
    assert_eq!(receipt.show(&other, &[tag::NUMBER]), Err(ShowError::OtherDocument));
    receipt.show(&document(), &[tag::NUMBER]).unwrap();
    assert_eq!(
        receipt.show(&other, &[tag::TOTAL_GROSS]),
        Err(ShowError::Differs(tag::TOTAL_GROSS))
    );
    assert_eq!(receipt.show(&document(), &[9]), Err(ShowError::Absent(9)));
    let shown = |r: &Receipt| r.fields.iter().filter(|field| field.value().is_some()).count();
    assert_eq!(shown(&receipt), 1);
    assert!(receipt.verify(&trust).is_ok());
    receipt.hide_all();
    assert_eq!(shown(&receipt), 0);
    assert!(receipt.verify(&trust).is_ok());
}
