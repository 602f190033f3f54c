//! Vectors of what happens to invoices: events, statuses, status proofs, histories; good ones, and
//! bad ones for each step and each flaw.

use super::receipts::step_of;
use super::{hexed, parsed, record_case};
use crate::common::chain::{Chain, blue};
use crate::common::life::{Life, event, opening_of};
use crate::common::{self, Random, lives};
use piaogen_crypto::Digest;
use piaogen_verify::document::field_digest;
use piaogen_verify::entry::Outcome;
use piaogen_verify::event::check_event;
use piaogen_verify::fields::{STATUS, Tag, name_of, tag};
use piaogen_verify::header::ShardEntry;
use piaogen_verify::opening::{self, Content, OpenedField};
use piaogen_verify::record::{self, RecordKind};
use piaogen_verify::refusal::{Refusal, Step};
use piaogen_verify::status::{
    DEPTH, FinancingState, History, Status, StatusProof, StatusReceipt, ZERO,
};
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::{json, merkle, value};
use serde_json::{Map, Value, json};

/// Event records: what is read, and what their shape is refused for.
pub(crate) fn events(chain: &Chain, life: &Life) -> Value {
    let own = |item: &&common::chain::Item| item.entry.kind.is_some_and(|kind| kind as u8 >= 3);
    let mut records: Vec<(&str, Vec<u8>)> =
        life.items.iter().filter(own).map(|item| (item.name, item.bytes.clone())).collect();
    records.extend(shapes(chain));
    records.extend(malformed(chain));
    let mut random = Random(7);
    records.extend((0..60).map(|_| ("random", lives::record_of_any_kind(&mut random))));
    let cases: Vec<Value> = records
        .iter()
        .map(|(name, bytes)| {
            let mut case = record_case(chain, name, bytes);
            if let Ok(record) = record::decode(bytes)
                && record.kind.class() == record::Class::Event
            {
                let refused = check_event(&record).err();
                case["shape"] = refused.map_or(Value::Null, super::outcome_json);
            }
            case
        })
        .collect();
    let all = (0..RecordKind::ALL.len()).map(|_| lives::entry_of_event(&mut random));
    let entries: Vec<Value> = all
        .chain(life.items.iter().map(|item| item.entry.clone()))
        .map(|entry| {
            json!({
                "entry": hexed(entry.encode()),
                "json": parsed(&entry.to_json().to_string()),
                "leaf": hexed(entry.leaf()),
            })
        })
        .collect();
    json!({"cases": cases, "entries": entries})
}

/// Events whose fields are not those of their kind.
fn shapes(chain: &Chain) -> Vec<(&'static str, Vec<u8>)> {
    let id = &chain.genesis.chain;
    let of = |kind, fields: &[(Tag, Vec<u8>)]| event(id, kind, &blue(), fields, (12, 50));
    let amount = |n| (tag::AMOUNT, value::amount(n));
    vec![
        ("missing", of(RecordKind::Book, &[])),
        ("missing_second", of(RecordKind::FinanceHold, &[amount(5)])),
        ("not_allowed", of(RecordKind::Void, &[amount(5)])),
        ("amount_zero", of(RecordKind::Book, &[amount(0)])),
        ("amount_negative", of(RecordKind::Book, &[amount(-1)])),
        (
            "tax_zero_is_fine",
            of(
                RecordKind::SlipOpen,
                &[amount(1), (tag::TAX_AMOUNT, value::amount(0)), (tag::REASON_CODE, b"02".into())],
            ),
        ),
        (
            "common_fields",
            of(
                RecordKind::Query,
                &[
                    (tag::CURRENCY, value::currency(*b"CNY", 2)),
                    (tag::SELLER_PARTY, b"S".to_vec()),
                    (tag::TEXT, b"words".to_vec()),
                    (tag::OPENING, opening_of(&blue())),
                    (tag::EXPECTED_VERSION, value::uint(3)),
                    (tag::ON_BEHALF, b"P".to_vec()),
                ],
            ),
        ),
    ]
}

/// Events that cannot be read.
fn malformed(chain: &Chain) -> Vec<(&'static str, Vec<u8>)> {
    let opened = |bytes: Vec<u8>| super::raw(chain, RecordKind::Book, &[(tag::OPENING, bytes)]);
    let shown = |tag: Tag, value: &[u8]| {
        let content = Content::Shown { salt: [1; 16], value: value.to_vec() };
        opened(opening::encode(&[OpenedField { tag, content }]))
    };
    let hidden = |tags: &[Tag]| -> Vec<u8> {
        let fields: Vec<OpenedField> =
            tags.iter().map(|tag| OpenedField::hidden(*tag, [9; 32])).collect();
        opened(opening::encode(&fields))
    };
    let many: Vec<Tag> = (1..=129).collect();
    let note = vec![b'x'; 1_000];
    let notes: Vec<Vec<(Tag, Vec<u8>)>> = (0..17).map(|_| vec![(22, note.clone())]).collect();
    let out = vec![
        ("opening_empty", opened(vec![0])),
        ("opening_not_canonical", shown(tag::TOTAL_GROSS, &[0x80, 0])),
        ("opening_of_unknown_field", shown(999, b"x")),
        ("opening_order", hidden(&[2, 1])),
        ("opening_twice", hidden(&[1, 1])),
        ("opening_mark", opened(vec![1, 1, 2])),
        ("opening_trailing", opened([opening_of(&blue()), vec![0]].concat())),
        ("opening_many", hidden(&many)),
        ("opening_large", shown(1001, &value::list(&notes))),
        ("opening_tag", opened([&[1, 0x81, 0x80, 4, 0][..], &[0; 32]].concat())),
        ("opening_count_not_minimal", opened(vec![0x81, 0x00])),
        ("status_field", super::raw(chain, RecordKind::Book, &[(tag::FACE, vec![1])])),
        ("document_field", super::raw(chain, RecordKind::Book, &[(27, b"x".to_vec())])),
    ];
    for (name, bytes) in &out {
        assert!(record::decode(bytes).is_err(), "{name}");
    }
    let unknown = hidden(&[1, 999]);
    assert!(record::decode(&unknown).is_ok());
    [out, vec![("opening_hides_unknown_field", unknown)]].concat()
}

/// Status documents, and how the secret is stirred.
pub(crate) fn statuses(chain: &Chain, life: &Life) -> Value {
    let mut random = Random(8);
    let mut all = life.steps.clone();
    all.extend((0..24).map(|_| lives::status_of(&mut random)));
    let cases: Vec<Value> = all.iter().map(status_case).collect();
    let stirred: Vec<Value> = ["booked", "consent", "pledged", "consent_b"]
        .into_iter()
        .zip(&life.steps)
        .map(|(name, status)| {
            let secret = record::decode(&life.item(chain, name).bytes).unwrap().secret;
            json!({"event": hexed(secret), "after": hexed(status.secret)})
        })
        .collect();
    let good = json::status_to_json(&life.steps[2]);
    let bad = [
        ("face", "\"liens\": 1", "\"liens\": 2"),
        ("word", "\"pledge\"", "\"pledged\""),
        ("version", "\"version\": 3", "\"version\": 2"),
        ("history_order", "\"index\": 7,\n        \"id\"", "\"index\": 6,\n        \"id\""),
        ("face_missing", "\"face\"", "\"faces\""),
    ]
    .map(|(name, from, to)| {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{name}");
        assert!(json::status_from_json(&text).is_err(), "{name}");
        json!({"name": name, "text": text})
    });
    json!({"cases": cases, "stirred": stirred, "bad": bad.to_vec()})
}

fn status_case(status: &Status) -> Value {
    let names = |tag: Tag| STATUS.iter().find(|field| field.tag == tag).unwrap().name;
    let fields = status.fields();
    let values: Map<String, Value> =
        fields.iter().map(|(tag, bytes)| (names(tag).into(), hexed(bytes))).collect();
    json!({
        "status": parsed(&json::status_to_json(status)),
        "values": values,
        "stored": hexed(status.encode()),
        "digest": hexed(status.digest()),
    })
}

fn judge(bytes: &[u8], trust: &TrustRoot) -> Value {
    let decoded = StatusReceipt::decode(bytes).map_err(Refusal::from);
    step_of(decoded.and_then(|proof| proof.verify(trust)))
}

/// Good and bad status proofs.
pub(crate) fn proofs(chain: &Chain, life: &Life) -> Value {
    let mut cases = Vec::new();
    for (name, proof) in good(chain, life) {
        let bytes = proof.encode();
        let verified = proof.verify(&chain.trust).unwrap();
        let shown = verified.shown.iter().map(|tag| name_of(*tag));
        cases.push(json!({
            "name": name,
            "proof": hexed(&bytes),
            "json": parsed(&proof.to_json()),
            "step": judge(&bytes, &chain.trust),
            "height": verified.block.height,
            "untouched": verified.untouched(),
            "no_lien": verified.no_lien(),
            "no_booking": verified.no_booking(),
            "shown": shown.collect::<Vec<String>>(),
        }));
    }
    for (name, step, bytes) in bad(chain, life) {
        assert_eq!(judge(&bytes, &chain.trust), step.name(), "{name}");
        cases.push(json!({"name": name, "proof": hexed(bytes), "step": step.name()}));
    }
    json!({"trust_root": parsed(&chain.trust.to_json()), "cases": cases})
}

fn good(chain: &Chain, life: &Life) -> Vec<(&'static str, StatusReceipt)> {
    let all: Vec<Tag> = STATUS.iter().map(|field| field.tag).collect();
    let proof = |name, tags: &[Tag]| life.status_receipt(chain, name, tags);
    let mut through = proof("blue", &[tag::FACE]);
    through.receipt = life.receipt(chain, "blue", true);
    through.receipt.show(&blue(), &[tag::TOTAL_GROSS]).unwrap();
    let earlier = StatusReceipt {
        receipt: chain.receipt("blue", false),
        path: StatusProof { siblings: [ZERO; DEPTH as usize] },
        fields: Vec::new(),
    };
    vec![
        ("face", proof("blue", &[tag::FACE])),
        ("all", proof("blue", &all)),
        ("nothing_shown", proof("blue", &[])),
        ("financings", proof("blue", &[tag::FINANCINGS])),
        ("through_history", through),
        ("untouched_neighbour", proof("neighbour", &[])),
        ("untouched_import", proof("imported", &[])),
        ("untouched_red", proof("red", &[])),
        ("untouched_before_it_was_booked", earlier),
    ]
}

/// The proof with one field as it is given, all above made to fit.
fn with_value(chain: &Chain, life: &Life, tag: Tag, value: &[u8]) -> StatusReceipt {
    let mut proof = life.status_receipt(chain, "blue", &[tag::FACE]);
    let content = Content::Shown { salt: [5; 16], value: value.to_vec() };
    proof.fields.retain(|field| field.tag != tag);
    let at = proof.fields.partition_point(|field| field.tag < tag);
    proof.fields.insert(at, OpenedField { tag, content });
    assert_eq!(proof.fields[at].digest(), field_digest(tag, &[5; 16], value));
    rebuild(chain, life, proof)
}

/// Makes the status root, shard, header and certificate fit the fields.
fn rebuild(chain: &Chain, life: &Life, mut proof: StatusReceipt) -> StatusReceipt {
    let issue = proof.receipt.entry.issue.unwrap();
    let mut shards = life.shards.clone();
    let shard = proof.receipt.shard.shard as usize;
    shards[shard].status_root = proof.path.root(&proof.record(), issue).unwrap();
    let leaves: Vec<Digest> = shards.iter().map(ShardEntry::leaf).collect();
    let receipt = &mut proof.receipt;
    receipt.shard = shards[shard];
    receipt.header.shards_root = merkle::root_of_leaves(&leaves);
    receipt.shard_proof =
        merkle::prove_inclusion(&leaves[..], shard as u64, leaves.len() as u64).unwrap();
    receipt.certificate = chain.certify(&receipt.header, &[0, 1, 3]).encode();
    proof
}

type Spoil = fn(&Chain, &Life, &mut StatusReceipt);

fn spoils() -> Vec<(&'static str, Step, Spoil)> {
    vec![
        ("entry_changed", Step::Inclusion, |_, _, p| p.receipt.entry.offset += 1),
        ("status_root", Step::Shard, |_, _, p| p.receipt.shard.status_root[0] ^= 1),
        ("signature", Step::Signature, |_, _, p| {
            *p.receipt.certificate.last_mut().unwrap() ^= 1;
        }),
        ("of_an_event", Step::Issue, |c, l, p| p.receipt = l.receipt(c, "booked", false)),
        ("of_a_refused_record", Step::Issue, |c, l, p| p.receipt = l.receipt(c, "refused", false)),
        ("of_a_replay", Step::Issue, |c, l, p| p.receipt = l.receipt(c, "replay", false)),
        ("of_a_participant", Step::Issue, |c, l, p| p.receipt = l.receipt(c, "register", false)),
        ("value_changed", Step::Path, |_, _, p| {
            let face = p.fields.iter_mut().find(|field| field.tag == tag::FACE).unwrap();
            let Content::Shown { salt, .. } = &mut face.content else { panic!("shown") };
            salt[0] ^= 1;
        }),
        ("field_left_out", Step::Path, |_, _, p| drop(p.fields.pop())),
        ("said_to_be_untouched", Step::Path, |_, _, p| p.fields.clear()),
        ("older_status", Step::Path, |_, l, p| {
            p.fields = l.steps[0].open(|tag| tag == tag::FACE);
        }),
        ("of_another_invoice", Step::Status, |c, l, p| {
            let fields = l.steps[3].open(|tag| tag == tag::COMMITMENT);
            *p = StatusReceipt { fields, ..l.status_receipt(c, "neighbour", &[]) };
        }),
        ("of_another_invoice_hidden", Step::Path, |c, l, p| {
            let fields = l.steps[3].open(|_| false);
            *p = StatusReceipt { fields, ..l.status_receipt(c, "neighbour", &[]) };
        }),
        ("sibling", Step::Path, |_, _, p| p.path.siblings[39][0] ^= 1),
        ("neighbour_as_touched", Step::Path, |c, l, p| {
            let fields = core::mem::take(&mut p.fields);
            let mut other = l.status_receipt(c, "neighbour", &[]);
            other.fields = fields;
            *p = other;
        }),
        ("before_it_was_booked", Step::Path, |c, _, p| p.receipt = c.receipt("blue", false)),
    ]
}

fn bad(chain: &Chain, life: &Life) -> Vec<(&'static str, Step, Vec<u8>)> {
    let spoiled = spoils().into_iter().map(|(name, step, spoil)| {
        let mut proof = life.status_receipt(chain, "blue", &[tag::FACE]);
        spoil(chain, life, &mut proof);
        (name, step, proof.encode())
    });
    let mut out: Vec<(&'static str, Step, Vec<u8>)> = spoiled.collect();
    let bytes = life.status_receipt(chain, "blue", &[tag::FACE]).encode();
    let with = |at: usize, byte: u8| {
        let mut changed = bytes.clone();
        changed[at] = byte;
        changed
    };
    let inner = 3 + 2;
    out.extend([
        ("empty", Step::Decode, Vec::new()),
        ("magic", Step::Decode, with(1, b'T')),
        ("version", Step::Decode, with(2, 2)),
        ("magic_of_the_receipt", Step::Decode, with(inner, b'Q')),
        ("trailing", Step::Decode, [&bytes[..], &[0]].concat()),
        ("short", Step::Decode, bytes[..bytes.len() - 1].to_vec()),
        ("a_receipt", Step::Decode, life.receipt(chain, "blue", false).encode()),
    ]);
    let face = |word: &[u8]| {
        let members = vec![
            (tag::VERSION, value::uint(1)),
            (tag::LIFECYCLE, word.to_vec()),
            (tag::RISK, b"normal".to_vec()),
            (tag::LIENS, value::uint(0)),
            (tag::BUYER, b"none".to_vec()),
        ];
        value::list(&[members])
    };
    let two = [&[2][..], &face(b"active")[1..], &face(b"active")[1..]].concat();
    let lacking = value::list(&[vec![(tag::VERSION, value::uint(1))]]);
    assert!(with_value(chain, life, tag::FACE, &face(b"active")).verify(&chain.trust).is_ok());
    for (name, tag, value) in [
        ("commitment_of_another", tag::COMMITMENT, vec![7; 32]),
        ("origin_empty", tag::ORIGIN, Vec::new()),
        ("unknown_field_shown", 4999, b"x".to_vec()),
        ("history_order", tag::HISTORY, [&[2, 5][..], &[0; 16], &[5], &[0; 16]].concat()),
        ("face_twice", tag::FACE, two),
        ("face_lacks_members", tag::FACE, lacking),
        ("face_of_unknown_words", tag::FACE, face(b"pending")),
    ] {
        out.push((name, Step::Status, with_value(chain, life, tag, &value).encode()));
    }
    out
}

/// Good and bad histories.
pub(crate) fn histories(chain: &Chain, life: &Life) -> Value {
    let judge = |bytes: &[u8]| {
        let decoded = History::decode(bytes).map_err(Refusal::from);
        step_of(decoded.and_then(|history| history.verify(&chain.trust)))
    };
    let mut cases = Vec::new();
    for (name, of) in [("blue", "blue"), ("untouched", "neighbour"), ("red", "red")] {
        let history = life.history(chain, of);
        let bytes = history.encode();
        assert_eq!(judge(&bytes), Value::Null, "{name}");
        let json = parsed(&history.to_json());
        cases.push(json!({"name": name, "history": hexed(bytes), "json": json, "step": null}));
    }
    for (name, step, spoil) in history_spoils() {
        let mut history = life.history(chain, "blue");
        spoil(chain, life, &mut history);
        let bytes = history.encode();
        assert_eq!(judge(&bytes), step.name(), "{name}");
        cases.push(json!({"name": name, "history": hexed(bytes), "step": step.name()}));
    }
    let bytes = life.history(chain, "blue").encode();
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("magic", [b"PS", &bytes[2..]].concat()),
        ("trailing", [&bytes[..], &[0]].concat()),
        ("short", bytes[..bytes.len() - 1].to_vec()),
    ] {
        assert_eq!(judge(&bytes), Step::Decode.name(), "{name}");
        cases.push(json!({"name": name, "history": hexed(bytes), "step": Step::Decode.name()}));
    }
    json!({"trust_root": parsed(&chain.trust.to_json()), "cases": cases})
}

type SpoilHistory = fn(&Chain, &Life, &mut History);

fn history_spoils() -> Vec<(&'static str, Step, SpoilHistory)> {
    use Step::Records;
    vec![
        ("entry_of_the_invoice", Step::Inclusion, |_, _, h| {
            h.status.receipt.entry.offset += 1;
        }),
        ("status_left_out", Step::Path, |_, _, h| h.status.fields.clear()),
        ("hidden", Records, |_, _, h| h.status.hide_but(&[tag::FACE])),
        ("first_left_out", Records, |_, _, h| drop(h.records.remove(0))),
        ("last_left_out", Records, |_, _, h| drop(h.records.pop())),
        ("swapped", Records, |_, _, h| h.records.swap(0, 1)),
        ("twice", Records, |_, _, h| h.records[1] = h.records[0].clone()),
        ("one_more", Records, |_, _, h| h.records.push(h.records[3].clone())),
        ("log_index", Records, |_, _, h| h.records[1].log_index += 1),
        ("entry_changed", Records, |_, _, h| h.records[2].entry.status[0] ^= 1),
        ("outcome_changed", Records, |_, _, h| {
            h.records[2].entry.outcome = Outcome::Replay { first: 4 };
        }),
        ("proof_changed", Records, |_, _, h| h.records[2].inclusion[0][0] ^= 1),
        ("event_on_an_untouched_invoice", Records, |c, l, h| {
            let records = core::mem::take(&mut h.records);
            *h = History { records, ..l.history(c, "neighbour") };
        }),
        ("query_in_place_of_an_event", Records, |c, l, h| {
            let item = l.item(c, "query");
            h.records[3].entry = item.entry.clone();
        }),
    ]
}

/// What a bank is shown must not depend on others' financings.
#[test]
fn parts_are_shown_by_right() {
    use piaogen_verify::status::Right;
    let chain = Chain::build();
    let life = Life::build(&chain);
    let mut status = life.steps[3].clone();
    let sees =
        |status: &Status, party: &str, tag: Tag| Right::parts_for(status, party).contains(&tag);
    assert_eq!(Right::of(&status, "BANK-A"), Right::Holder);
    assert_eq!(Right::of(&status, "BANK-B"), Right::Public);
    assert!(sees(&status, "BANK-A", tag::FINANCINGS));
    assert!(!sees(&status, "BANK-B", tag::FINANCINGS));
    assert!(!sees(&status, "BANK-A", tag::BOOKINGS));
    let mut other = status.financings[0].clone();
    other.holder = "BANK-B".into();
    other.state = FinancingState::Released;
    status.financings.push(other);
    assert!(!sees(&status, "BANK-A", tag::FINANCINGS));
    assert_eq!(Right::of(&status, &status.facts.seller), Right::Seller);
    assert!(!sees(&status, &status.facts.seller, tag::BOOKINGS));
    assert_eq!(Right::Authority.parts().len(), STATUS.len());
}
