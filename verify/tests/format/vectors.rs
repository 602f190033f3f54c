//! Makes the golden vectors for verifiers in other languages.

#[path = "vectors_epochs.rs"]
mod epochs;
#[path = "vectors_evidence.rs"]
mod evidence;
#[path = "vectors_life.rs"]
mod life;
#[path = "vectors_receipts.rs"]
mod receipts;
#[path = "vectors_tiles.rs"]
mod tiles;

use crate::common::chain::{Chain, blue, red, sign, wrong_totals};
use crate::common::epochs::Epochs;
use crate::common::life::Life;
use crate::common::{self, Random};
pub(crate) use epochs::cosigned_checkpoint;
pub(crate) use evidence::votes;
use piaogen_crypto::sm3;
use piaogen_verify::certificate::Certificate;
use piaogen_verify::document::{Document, LINE_SALTS, Salts};
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::fields::{Tag, name_of, tag};
use piaogen_verify::record::{self, Record, RecordKind, subject};
use piaogen_verify::scheme::check_totals;
use piaogen_verify::status::{self, StatusProof};
use piaogen_verify::value::{self, put_members};
use piaogen_verify::{encoding, json};
use serde_json::{Map, Value, json};

/// Names and contents of all vector files but the freeze.
pub(crate) fn all(chain: &Chain, later: &Life) -> Vec<(&'static str, Value)> {
    let last = Epochs::build(later);
    vec![
        ("documents.json", documents()),
        ("records.json", records(chain)),
        ("entries.json", entries(chain)),
        ("certificates.json", certificates(chain)),
        ("receipts.json", receipts::receipts(chain)),
        ("consistency.json", receipts::consistency(chain)),
        ("checkpoint.json", receipts::checkpoints(chain)),
        ("status.json", statuses()),
        ("partition.json", partitions()),
        ("events.json", life::events(chain, later)),
        ("statuses.json", life::statuses(chain, later)),
        ("status_proofs.json", life::proofs(chain, later)),
        ("histories.json", life::histories(chain, later)),
        ("epochs.json", epochs::proofs(chain, &last)),
        ("links.json", epochs::links(chain, &last)),
        ("receipts_later.json", epochs::receipts(chain, later, &last)),
        ("cosignatures.json", epochs::cosignatures(chain, &last)),
        ("evidence.json", evidence::evidence(chain, &last)),
        ("tiles.json", tiles::tiles(chain, later, &last)),
    ]
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn hexed(bytes: impl AsRef<[u8]>) -> Value {
    Value::String(hex::encode(bytes))
}

fn documents() -> Value {
    let mut random = Random(1);
    let mut cases = vec![("blue", blue()), ("red", red()), ("wrong_totals", wrong_totals())];
    cases.extend((0..24).map(|_| ("random", common::document_of(&mut random))));
    let cases: Vec<Value> = cases.iter().map(|(name, document)| case(name, document)).collect();
    let good = json::document_to_json(&blue());
    let bad = [
        ("unknown_field", "\"drawer\"", "\"drawn\""),
        ("amount_as_number", "\"134.20\"", "134.20"),
        ("amount_decimals", "\"134.20\"", "\"134.2\""),
        ("amount_sign", "\"134.20\"", "\"+134.20\""),
        ("amount_zeros", "\"134.20\"", "\"0134.20\""),
        ("decimal_zeros", "\"12.5\"", "\"12.50\""),
        ("no_such_day", "2026-11-21", "2026-11-31"),
        ("day_form", "2026-11-21", "2026-1-21"),
        ("not_nfc", "王芳", "e\u{301}"),
        ("control_character", "王芳", "\\u0007"),
        ("space_in_ascii", "26442000000000000001", "2644 2000"),
        ("empty_text", "王芳", ""),
        ("currency", "CNY", "cny"),
        ("exponent", "\"exponent\": 2", "\"exponent\": 5"),
        ("unknown_key_of_currency", "\"exponent\": 2", "\"exponent\": 2, \"x\": 1"),
        ("unknown_key", "\"secret\"", "\"extra\": 1, \"secret\""),
        ("key_twice", "\"drawer\"", "\"drawer\": \"x\", \"drawer\""),
        ("upper_case_hex", "6578616d", "6578616D"),
        ("short_secret", "6578616d", "65"),
        ("format", "document/1", "document/2"),
        ("too_large", "\"134.20\"", "\"10000000000000000000000000000.00\""),
    ];
    let bad = bad.map(|(name, from, to)| {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{name}");
        let error = json::document_from_json(&text).expect_err(name);
        json!({"name": name, "text": text, "path": error.path})
    });
    json!({"cases": cases, "bad": bad.to_vec()})
}

fn case(name: &str, document: &Document) -> Value {
    assert_eq!(document.check(), Ok(()), "{name}");
    let values: Map<String, Value> =
        document.fields.iter().map(|(tag, bytes)| (name_of(tag), hexed(bytes))).collect();
    let digests: Map<String, Value> =
        document.digests().iter().map(|(tag, digest)| (name_of(*tag), hexed(digest))).collect();
    let mut salts = Salts::new(document.secret);
    let lines = (0u32..).zip(&document.lines).map(|(k, line)| {
        let mut bytes = Vec::new();
        put_members(&mut bytes, line.pairs());
        json!({"bytes": hexed(bytes), "salt": hexed(salts.get(LINE_SALTS + k))})
    });
    let lines: Vec<Value> = lines.collect();
    json!({
        "name": name,
        "document": parsed(&json::document_to_json(document)),
        "values": values,
        "digests": digests,
        "lines": lines,
        "commitment": hexed(document.commitment()),
    })
}

fn outcome_json(outcome: Outcome) -> Value {
    let entry = Entry {
        kind: None,
        offset: 0,
        subject: Vec::new(),
        outcome,
        commitment: [0; 32],
        signer: [0; 32],
        issue: None,
        status: [0; 32],
    };
    let entry = parsed(&entry.to_json().to_string());
    let mut out = json!({"outcome": entry["outcome"]});
    if let Some(detail) = entry.get("detail") {
        out["detail"] = detail.clone();
    }
    out
}

fn record_case(chain: &Chain, name: &str, bytes: &[u8]) -> Value {
    let mut out = json!({"name": name, "record": hexed(bytes)});
    match record::decode(bytes) {
        Err(unreadable) => {
            out["refused"] = outcome_json(Outcome::of_flaw(unreadable.tag, unreadable.flaw));
            out["commitment"] = hexed(record::unreadable_commitment(bytes));
        }
        Ok(record) => readable(chain, &record, &mut out),
    }
    out
}

fn readable(chain: &Chain, record: &Record<'_>, out: &mut Value) {
    let commitment = record.commitment();
    let message = record.signed(&chain.genesis.chain, &commitment);
    let keys = (1..=13).map(common::key_of);
    let key = keys.map(|key| key.public_key()).find(|key| key.key_id() == record.signer);
    let holds =
        key.is_some_and(|key| piaogen_crypto::sm2::verify(&key, &message, &record.signature));
    out["json"] = parsed(&json::record_to_json(record));
    out["commitment"] = hexed(commitment);
    out["signed"] = hexed(message);
    out["signature_holds"] = holds.into();
    if let Ok(subject) = record.subject(&chain.genesis.file.schemes) {
        out["subject"] = hexed(&subject);
    }
    if record.kind.is_invoice() {
        let totals = check_totals(record, &chain.genesis.file.schemes[0]);
        out["totals"] = totals.err().map_or(Value::Null, |o| outcome_json(o)["detail"].clone());
    }
}

/// A record with these raw fields, signed by the issuer of the example.
fn raw(chain: &Chain, kind: RecordKind, fields: &[(Tag, Vec<u8>)]) -> Vec<u8> {
    let draft = record::Draft { kind, signed_at: 1, secret: [7; 16], fields };
    draft.sign(&chain.genesis.chain, &common::key_of(12))
}

fn records(chain: &Chain) -> Value {
    let mut cases: Vec<Value> =
        chain.items.iter().map(|item| record_case(chain, item.name, &item.bytes)).collect();
    let id = &chain.genesis.chain;
    let mut add = |name: &str, bytes: &[u8]| cases.push(record_case(chain, name, bytes));
    add("other_chain", &sign(&[1; 32], RecordKind::Issue, &blue(), 12));
    add("unknown_key", &sign(id, RecordKind::Issue, &blue(), 99));
    for (name, tag, change) in totals_changes() {
        let mut document = blue();
        document.fields.set(tag, change);
        add(name, &sign(id, RecordKind::Issue, &document, 12));
    }
    let revoke = [
        (tag::REVOKED_KEY, common::key_of(13).public_key().key_id().to_vec()),
        (tag::REASON, b"lost".to_vec()),
    ];
    add("revoke", &raw(chain, RecordKind::Revoke, &revoke));
    for (name, bytes) in malformed(chain) {
        assert!(record::decode(&bytes).is_err(), "{name}");
        add(name, &bytes);
    }
    let mut random = Random(2);
    for _ in 0..40 {
        add("random", &common::record_of(&mut random));
    }
    let keys: Vec<Value> =
        (1..=13).map(|i| hexed(common::key_of(i).public_key().to_compressed())).collect();
    json!({
        "chain": hexed(id),
        "genesis": String::from_utf8(chain.genesis_file.clone()).unwrap(),
        "keys": keys,
        "tolerance_totals": 0,
        "tolerance_tax": 2,
        "cases": cases,
    })
}

/// Changes of the blue invoice that break each rule of the totals.
fn totals_changes() -> Vec<(&'static str, Tag, Vec<u8>)> {
    let entry = |taxable, tax, rate| {
        vec![
            (tag::TAXABLE, value::amount(taxable)),
            (tag::TAX, value::amount(tax)),
            (tag::VAT_RATE, value::decimal(rate, 1)),
        ]
    };
    let breakdown = |a, b| value::list(&[a, b]);
    vec![
        ("totals_1", tag::TOTAL_VAT, value::amount(1_419)),
        ("totals_2", tag::LINES_NET, value::amount(11_990)),
        ("totals_2_charges", tag::CHARGES_TOTAL, value::amount(7)),
        ("totals_3", tag::AMOUNT_DUE, value::amount(1)),
        (
            "totals_4",
            tag::VAT_BREAKDOWN,
            breakdown(entry(10_001, 1_300, 130), entry(2_000, 120, 60)),
        ),
        (
            "totals_5",
            tag::VAT_BREAKDOWN,
            breakdown(entry(10_000, 1_301, 130), entry(2_000, 120, 60)),
        ),
        (
            "totals_6",
            tag::VAT_BREAKDOWN,
            breakdown(entry(10_000, 1_305, 130), entry(2_000, 115, 60)),
        ),
        (
            "totals_6_half",
            tag::VAT_BREAKDOWN,
            breakdown(entry(9_990, 1_304, 131), entry(2_010, 116, 56)),
        ),
    ]
}

/// Records that cannot be read, one for each way.
fn malformed(chain: &Chain) -> Vec<(&'static str, Vec<u8>)> {
    let good = chain.item("blue").bytes.clone();
    let first = 44 + 16 + 1;
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let one = |tag: Tag, value: Vec<u8>| raw(chain, RecordKind::Issue, &[(tag, value)]);
    let registry = |tag: Tag, value: Vec<u8>| raw(chain, RecordKind::Register, &[(tag, value)]);
    let mut trailing = good.clone();
    trailing.insert(trailing.len() - 64, 0);
    let mut out = vec![
        ("empty", Vec::new()),
        ("magic", with(0, b'Q')),
        ("version", with(2, 2)),
        ("unknown_kind", with(3, 63)),
        ("too_short", good[..107].to_vec()),
        ("no_body", good[..108].to_vec()),
        ("unknown_tag", with(first, 4)),
        ("trailing", trailing),
        ("order", raw(chain, RecordKind::Issue, &[(2, value::date(2026, 1, 1)), (1, vec![b'x'])])),
        ("tag_twice", raw(chain, RecordKind::Issue, &[(1, vec![b'x']), (1, vec![b'y'])])),
        ("count_not_minimal", {
            let mut bytes = good.clone();
            bytes[first - 1] |= 0x80;
            bytes.insert(first, 0);
            bytes
        }),
        ("too_many_fields", {
            let mut bytes = good.clone();
            bytes.splice(first - 1..first, [0x81, 0x01]);
            bytes
        }),
        ("tag_too_large", {
            let mut bytes = good.clone();
            bytes.splice(first..=first, [0x81, 0x80, 0x04]);
            bytes
        }),
        ("line_member_in_document", one(tag::LINE_NET, value::amount(1))),
        ("document_field_in_registry", registry(1, b"x".to_vec())),
        ("key_length", registry(tag::PUBLIC_KEY, vec![2; 32])),
    ];
    out.extend(malformed_values().into_iter().map(|(name, tag, value)| (name, one(tag, value))));
    out
}

fn malformed_values() -> Vec<(&'static str, Tag, Vec<u8>)> {
    let list = |members: Vec<(Tag, Vec<u8>)>| value::list(&[members]);
    vec![
        ("empty_value", 1, Vec::new()),
        ("number_too_long", 1, vec![b'1'; 65]),
        ("ascii_space", 1, b"A 1".to_vec()),
        ("ascii_high", 1, b"\xc3\xa9".to_vec()),
        ("text_not_utf8", 27, b"\xff".to_vec()),
        ("text_control", 27, b"a\x07".to_vec()),
        ("text_c1_control", 27, "a\u{85}".as_bytes().to_vec()),
        ("text_not_nfc", 27, "e\u{301}".as_bytes().to_vec()),
        ("text_hangul_not_nfc", 27, "\u{1100}\u{1161}".as_bytes().to_vec()),
        ("date_short", 2, vec![1, 2, 3]),
        ("date_no_leap", 2, value::date(2100, 2, 29)),
        ("date_year", 2, value::date(1899, 12, 31)),
        ("time_short", 2022, vec![0; 7]),
        ("amount_not_minimal", 112, vec![0x80, 0x00]),
        ("amount_trailing", 112, vec![0x02, 0x00]),
        ("amount_large", 112, value::amount(10i128.pow(30))),
        ("amount_twenty_bytes", 112, vec![0xff; 20]),
        ("amount_129_bits", 112, [vec![0xff; 18], vec![0x04]].concat()),
        ("currency_lower", 5, value::currency(*b"cny", 2)),
        ("currency_exponent", 5, value::currency(*b"CNY", 5)),
        ("currency_short", 5, b"CNY".to_vec()),
        ("flag", 2008, vec![2]),
        ("lines_none", 1025, vec![0; 36]),
        ("lines_many", 1025, [10_001u32.to_be_bytes().to_vec(), vec![0; 32]].concat()),
        ("list_empty", 1003, vec![0]),
        ("list_entry_empty", 1003, vec![1, 0]),
        ("list_too_many", 1003, [vec![65], vec![0; 65]].concat()),
        ("list_unknown_member", 1003, list(vec![(1, b"x".to_vec())])),
        ("list_order", 1003, list(vec![(26, value::date(2026, 1, 1)), (25, b"x".to_vec())])),
        ("list_bad_value", 1023, list(vec![(119, vec![1, 20])])),
        ("list_scale", 1023, list(vec![(119, vec![19, 2])])),
        ("list_trailing", 1003, [list(vec![(25, b"x".to_vec())]), vec![0]].concat()),
        ("list_truncated", 1003, vec![1, 1, 0, 25, 5, b'x']),
    ]
}

fn entries(chain: &Chain) -> Value {
    let mut random = Random(3);
    let mut cases: Vec<(&str, Entry)> =
        chain.items.iter().map(|item| (item.name, item.entry.clone())).collect();
    cases.extend((0..60).map(|_| ("random", common::entry_of(&mut random))));
    let cases: Vec<Value> = cases
        .iter()
        .map(|(name, entry)| {
            json!({
                "name": name,
                "entry": hexed(entry.encode()),
                "json": parsed(&entry.to_json().to_string()),
                "leaf": hexed(entry.leaf()),
            })
        })
        .collect();
    let good = chain.item("blue").entry.encode();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let outcome = 10 + 1 + chain.item("blue").entry.subject.len();
    let bad = [
        ("version", changed(0, 2)),
        ("kind", changed(1, 63)),
        ("outcome", changed(outcome, 99)),
        ("detail_missing", changed(outcome, 1)),
        ("trailing", [&good[..], &[0]].concat()),
        ("short", good[..good.len() - 1].to_vec()),
    ];
    let bad = bad.map(|(name, bytes)| {
        assert!(Entry::decode(&bytes).is_err(), "{name}");
        json!({"name": name, "entry": hexed(bytes)})
    });
    json!({"cases": cases, "bad": bad.to_vec()})
}

fn certificates(chain: &Chain) -> Value {
    let mut random = Random(4);
    let mut cases = vec![chain.certify(&chain.headers[2], &[0, 1, 3])];
    cases.extend((0..20).map(|_| common::certificate_of(&mut random)));
    let good = cases[0].encode();
    let cases: Vec<Value> = cases
        .iter()
        .map(|c| {
            json!({
                "certificate": hexed(c.encode()),
                "epoch": c.epoch,
                "view": c.view,
                "parent": c.parent,
                "payload": hexed(c.payload),
                "validators": c.validators,
                "signers": c.signers,
                "signed": hexed(c.signed(&chain.genesis.chain)),
            })
        })
        .collect();
    // Epoch, view and parent view are one byte each here.
    let bits = 3 + 32 + 8;
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let mut none = good[..bits].to_vec();
    none.extend([0, 0]);
    let bad = [
        ("unused_bit", changed(bits, 0x1b)),
        ("more_signers", changed(bits, 0x0f)),
        ("fewer_signers", changed(bits, 0x03)),
        ("many_validators", changed(bits - 8, 1)),
        ("count", changed(bits + 1, 2)),
        ("no_signers", none),
        ("epoch_not_minimal", [&[0x80, 0x00], &good[1..]].concat()),
        ("trailing", [&good[..], &[0]].concat()),
        ("short", good[..good.len() - 1].to_vec()),
    ];
    let bad = bad.map(|(name, bytes)| {
        assert!(Certificate::decode(&bytes).is_err(), "{name}");
        json!({"name": name, "certificate": hexed(bytes)})
    });
    json!({"chain": hexed(chain.genesis.chain), "cases": cases, "bad": bad.to_vec()})
}

fn statuses() -> Value {
    let mut random = Random(5);
    let cases = (0..12).map(|i| {
        let index = random.wide() >> 24;
        let (proof, record) = match i {
            0 => (StatusProof { siblings: [status::ZERO; 40] }, status::ZERO),
            1 => (StatusProof { siblings: [status::ZERO; 40] }, sm3::hash(b"\x06lien")),
            n if n % 2 == 0 => (common::status_proof_of(&mut random), status::ZERO),
            _ => (common::status_proof_of(&mut random), random.array()),
        };
        let mut bytes = Vec::new();
        proof.encode(&mut bytes);
        json!({
            "index": index,
            "record": hexed(record),
            "proof": hexed(bytes),
            "status_root": proof.root(&record, index).map(hexed),
        })
    });
    let cases: Vec<Value> = cases.collect();
    let zero_sent = [vec![0, 0, 0, 0, 1], vec![0; 32]].concat();
    let bad = [("zero_sent", zero_sent), ("short", vec![0, 0, 0, 0, 2]), ("empty", Vec::new())];
    let bad = bad.map(|(name, bytes)| {
        assert!(StatusProof::decode(&mut encoding::Reader::new(&bytes)).is_err(), "{name}");
        json!({"name": name, "proof": hexed(bytes)})
    });
    json!({"cases": cases, "bad": bad.to_vec()})
}

fn partitions() -> Value {
    let mut cases = Vec::new();
    for (i, partitions) in [1, 2, 3, 96, 4_096].into_iter().enumerate() {
        for seller in [None, Some("91440300MA5EXAMP1F")] {
            for number in ["26442000000000000001", "A-1", "1"] {
                let scheme = if i % 2 == 0 { "CN-EINV" } else { "EN16931" };
                let subject =
                    subject(scheme.as_bytes(), seller.map(str::as_bytes), number.as_bytes());
                cases.push(json!({
                    "scheme": scheme,
                    "seller": seller,
                    "number": number,
                    "subject": hexed(&subject),
                    "partitions": partitions,
                    "partition": record::partition(&subject, partitions),
                }));
            }
        }
    }
    Value::Array(cases)
}
