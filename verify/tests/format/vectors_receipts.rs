//! Vectors of what proves something: receipts, consistency proofs, checkpoints; good ones, and bad
//! ones for each step of a verification.

use super::{hexed, parsed};
use crate::common::chain::{Chain, blue, red};
use crate::common::{Random, key_of};
use crate::examples::checkpoint;
use piaogen_crypto::Digest;
use piaogen_verify::certificate::Certificate;
use piaogen_verify::checkpoint::{Checkpoint, SignatureLine};
use piaogen_verify::consistency::Consistency;
use piaogen_verify::document::field_digest;
use piaogen_verify::epoch::Change;
use piaogen_verify::fields::tag;
use piaogen_verify::header::{Header, ShardEntry, ValidatorSet};
use piaogen_verify::receipt::{Content, OpenedField, Receipt};
use piaogen_verify::refusal::{Refusal, Step};
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::witness::Cosigned;
use piaogen_verify::{document, merkle};
use serde_json::{Value, json};

pub(super) fn step_of<T>(result: Result<T, Refusal>) -> Value {
    result.err().map_or(Value::Null, |refusal| refusal.step.name().into())
}

/// What a verifier says of these bytes.
fn judge(bytes: &[u8], trust: &TrustRoot) -> Value {
    let decoded = Receipt::decode(bytes).map_err(Refusal::from);
    step_of(decoded.and_then(|receipt| receipt.verify(trust)))
}

/// Good and bad receipts; a bad one names the step that must refuse it.
pub(crate) fn receipts(chain: &Chain) -> Value {
    let mut cases = Vec::new();
    for (name, receipt) in good(chain) {
        let bytes = receipt.encode();
        assert_eq!(judge(&bytes, &chain.trust), Value::Null, "{name}");
        let json = parsed(&receipt.to_json());
        cases.push(json!({"name": name, "receipt": hexed(bytes), "json": json, "step": null}));
    }
    for (name, step, bytes) in bad(chain) {
        assert_eq!(judge(&bytes, &chain.trust), step.name(), "{name}");
        cases.push(json!({"name": name, "receipt": hexed(bytes), "step": step.name()}));
    }
    let own = &Step::ALL[..Step::OF_RECEIPT];
    let refused = |step: &&Step| cases.iter().any(|case| case["step"] == step.name());
    assert_eq!(own.iter().filter(refused).count(), own.len(), "a bad receipt for each step");
    json!({"trust_root": parsed(&chain.trust.to_json()), "cases": cases})
}

fn good(chain: &Chain) -> Vec<(&'static str, Receipt)> {
    let mut shown = chain.receipt("blue", false);
    let tags: Vec<u16> = blue().fields.iter().map(|(tag, _)| tag).collect();
    shown.show(&blue(), &tags).unwrap();
    let mut some = chain.receipt("red", true);
    some.show(&red(), &[tag::PRECEDING, tag::SELLER_NAME]).unwrap();
    let mut without = chain.receipt("blue", true);
    without.fields.clear();
    let mut four = chain.receipt("blue", false);
    four.certificate = chain.certify(&four.header, &[0, 1, 2, 3]).encode();
    let mut amount = chain.receipt("red", false);
    amount.show(&red(), &[tag::TOTAL_GROSS]).unwrap();
    let currency = amount.fields.iter_mut().find(|field| field.tag == tag::CURRENCY).unwrap();
    *currency = OpenedField::hidden(tag::CURRENCY, currency.digest());
    vec![
        ("all_shown", shown),
        ("some_shown_with_history", some),
        ("no_fields", without),
        ("four_signers", four),
        ("amount_without_currency", amount),
        ("refused", chain.receipt("refused", true)),
        ("replay", chain.receipt("replay", false)),
        ("registry", chain.receipt("register", false)),
        ("unreadable", chain.receipt("unreadable", true)),
    ]
}

/// The receipt with one field shown as a value that the type does not allow; the commitment, leaf
/// and everything above are made to fit.
fn with_value(chain: &Chain, tag: u16, value: &[u8]) -> Receipt {
    let mut receipt = chain.receipt("blue", false);
    let content = Content::Shown { salt: [5; 16], value: value.to_vec() };
    receipt.fields.retain(|field| field.tag != tag);
    let at = receipt.fields.partition_point(|field| field.tag < tag);
    receipt.fields.insert(at, OpenedField { tag, content });
    let mut digests: Vec<(u16, Digest)> =
        receipt.fields.iter().map(|field| (field.tag, field.digest())).collect();
    digests[at].1 = field_digest(tag, &[5; 16], value);
    receipt.entry.commitment = document::commitment(&digests);
    rebuild(chain, receipt)
}

/// Makes log, shard, header and certificate fit the entry.
fn rebuild(chain: &Chain, mut receipt: Receipt) -> Receipt {
    let shard = receipt.shard.shard as usize;
    let mut leaves = chain.leaves[shard].clone();
    leaves[receipt.log_index as usize] = receipt.entry.leaf();
    receipt.shard.log_root = merkle::root_of_leaves(&leaves);
    receipt.inclusion =
        merkle::prove_inclusion(&leaves[..], receipt.log_index, leaves.len() as u64).unwrap();
    let mut shards = chain.shards.clone();
    shards[shard] = receipt.shard;
    let leaves: Vec<Digest> = shards.iter().map(ShardEntry::leaf).collect();
    receipt.header.shards_root = merkle::root_of_leaves(&leaves);
    receipt.shard_proof =
        merkle::prove_inclusion(&leaves[..], shard as u64, leaves.len() as u64).unwrap();
    receipt.history = None;
    receipt.certificate = chain.certify(&receipt.header, &[0, 1, 3]).encode();
    receipt
}

type Spoil = fn(&Chain, &mut Receipt);

fn bad(chain: &Chain) -> Vec<(&'static str, Step, Vec<u8>)> {
    let spoils: Vec<(&'static str, Step, Spoil)> =
        [spoils_below(), spoils_above(), spoils_of_signatures()].concat();
    let mut out: Vec<(&'static str, Step, Vec<u8>)> = spoils
        .into_iter()
        .map(|(name, step, spoil)| {
            let mut receipt = chain.receipt("blue", true);
            receipt.show(&blue(), &[tag::NUMBER]).unwrap();
            spoil(chain, &mut receipt);
            (name, step, receipt.encode())
        })
        .collect();
    let bytes = chain.receipt("blue", true).encode();
    let with = |at: usize, byte: u8| {
        let mut changed = bytes.clone();
        changed[at] = byte;
        changed
    };
    let not_minimal = [&bytes[..3], &[bytes[3] | 0x80, 0], &bytes[4..]].concat();
    out.extend([
        ("empty", Step::Decode, Vec::new()),
        ("magic", Step::Decode, with(1, b'R')),
        ("version", Step::Decode, with(2, 2)),
        ("mark_of_a_field", Step::Decode, with(5, 2)),
        ("tag_order", Step::Decode, with(4, 3)),
        ("count_not_minimal", Step::Decode, not_minimal),
        ("trailing", Step::Decode, [&bytes[..], &[0]].concat()),
        ("short", Step::Decode, bytes[..bytes.len() - 1].to_vec()),
    ]);
    for (name, tag, value) in [
        ("value_not_canonical", tag::TOTAL_GROSS, &[0x80, 0x00][..]),
        ("value_of_unknown_field", 999, b"x"),
        ("value_not_nfc", tag::SELLER_NAME, "e\u{301}".as_bytes()),
    ] {
        out.push((name, Step::Document, with_value(chain, tag, value).encode()));
    }
    out
}

fn spoils_below() -> Vec<(&'static str, Step, Spoil)> {
    vec![
        ("certificate_empty", Step::Decode, |_, r| r.certificate.clear()),
        ("value_changed", Step::Document, |_, r| {
            let Content::Shown { value, .. } = &mut r.fields[0].content else { panic!("shown") };
            value[0] ^= 1;
        }),
        ("salt_changed", Step::Document, |_, r| {
            let Content::Shown { salt, .. } = &mut r.fields[0].content else { panic!("shown") };
            salt[15] ^= 1;
        }),
        ("field_left_out", Step::Document, |_, r| drop(r.fields.pop())),
        ("fields_of_another", Step::Document, |c, r| r.fields = c.receipt("red", true).fields),
        ("entry_changed", Step::Inclusion, |_, r| r.entry.offset += 1),
        ("outcome_changed", Step::Inclusion, |c, r| {
            *r = c.receipt("refused", true);
            r.entry.outcome = piaogen_verify::entry::Outcome::Accepted;
        }),
        ("log_index", Step::Inclusion, |_, r| r.log_index ^= 1),
        ("log_index_outside", Step::Inclusion, |_, r| r.log_index = r.shard.log_size),
        ("inclusion_longer", Step::Inclusion, |_, r| r.inclusion.push([0; 32])),
        ("log_size", Step::Inclusion, |_, r| r.shard.log_size = 1 << 60),
        ("log_empty", Step::Inclusion, |_, r| r.shard.log_size = 0),
        ("another_shard", Step::Shard, |_, r| r.shard.shard ^= 1),
        ("shard_outside", Step::Shard, |_, r| r.shard.shard = 3),
        ("status_root", Step::Shard, |_, r| r.shard.status_root[0] ^= 1),
        ("next_offset", Step::Shard, |_, r| r.shard.next_offset += 1),
        ("shard_proof_short", Step::Shard, |_, r| r.shard_proof.truncate(1)),
        ("header_of_block_1", Step::Shard, |c, r| r.header = c.headers[1]),
        ("shards", Step::Shard, |_, r| r.header.shards = 1),
    ]
}

fn spoils_above() -> Vec<(&'static str, Step, Spoil)> {
    vec![
        ("chain_of_header", Step::Chain, |_, r| r.header.chain[0] ^= 1),
        ("chain_of_newer", Step::Chain, |_, r| r.history.as_mut().unwrap().0.chain[0] ^= 1),
        ("height", Step::History, |_, r| r.header.height -= 1),
        ("time", Step::History, |_, r| r.header.time_ms += 1),
        ("newer_is_older", Step::History, |c, r| {
            r.history = Some((c.headers[1], Vec::new()));
            r.certificate = c.certify(&c.headers[1], &[0, 1, 3]).encode();
        }),
        ("history_of_itself", Step::History, |c, r| {
            r.history = Some((c.headers[2], Vec::new()));
            r.certificate = c.certify(&c.headers[2], &[0, 1, 3]).encode();
        }),
        ("change_that_ends_no_epoch", Step::Epoch, |c, r| {
            let (header, next) = (c.headers[3], c.trust.validators.clone());
            let certificate = c.certify(&header, &[0, 1, 3]).encode();
            r.changes = vec![Change { header, certificate, next }];
        }),
        ("cosigned_log_of_nothing", Step::Witness, |_, r| {
            let (size, root, proof) = (4, [0; 32], Vec::new());
            r.cosigned = Some(Cosigned { size, root, proof, cosignatures: Vec::new() });
        }),
        ("other_validators", Step::Validators, |c, r| {
            r.header.validators[0] ^= 1;
            r.history = None;
            r.certificate = c.certify(&r.header, &[0, 1, 3]).encode();
        }),
        ("certificate_of_another_block", Step::Quorum, |_, r| r.history = None),
        ("two_of_four", Step::Quorum, |c, r| {
            r.certificate = c.certify(&c.headers[3], &[0, 3]).encode();
        }),
        ("epoch_of_certificate", Step::Quorum, |c, r| {
            let header = Header { epoch: 1, ..c.headers[3] };
            let mut certificate = c.certify(&header, &[0, 1, 3]);
            certificate.payload = c.headers[3].digest();
            r.certificate = certificate.encode();
        }),
        ("set_of_five", Step::Quorum, |c, r| {
            let mut certificate = c.certify(&c.headers[3], &[0, 1, 3]);
            certificate.validators = 5;
            certificate.signers = vec![0, 1, 2, 3];
            certificate.signatures.push(certificate.signatures[0]);
            r.certificate = certificate.encode();
        }),
        ("view_changed", Step::Signature, |c, r| {
            let mut certificate = c.certify(&c.headers[3], &[0, 1, 3]);
            certificate.view += 1;
            r.certificate = certificate.encode();
        }),
    ]
}

fn spoils_of_signatures() -> Vec<(&'static str, Step, Spoil)> {
    vec![
        ("last_signature", Step::Signature, |_, r| *r.certificate.last_mut().unwrap() ^= 1),
        ("signatures_swapped", Step::Signature, |c, r| {
            let mut certificate = c.certify(&c.headers[3], &[0, 1, 3]);
            certificate.signatures.swap(0, 2);
            r.certificate = certificate.encode();
        }),
        ("signature_of_another_signer", Step::Signature, |c, r| {
            let mut certificate = c.certify(&c.headers[3], &[0, 1, 3]);
            certificate.signers = vec![0, 2, 3];
            r.certificate = certificate.encode();
        }),
        ("one_good_signature_of_three", Step::Signature, |c, r| {
            let mut certificate = c.certify(&c.headers[3], &[0, 1, 3]);
            certificate.signatures = vec![certificate.signatures[0]; 3];
            r.certificate = certificate.encode();
        }),
        ("votes_to_notarize", Step::Signature, |c, r| {
            let certificate = c.certify(&c.headers[3], &[0, 1, 3]);
            let signed = certificate.signed(&c.genesis.chain);
            let name = b"piaogen/order/1\n".len() + 32;
            let mut other = vec![58];
            other.extend(&signed[1..=name]);
            other.extend(b"_NOTARIZE");
            other[0] = (name + 9) as u8;
            other.extend(&signed[1 + name + 9..]);
            r.certificate = resigned(c, certificate, &other);
        }),
        ("votes_of_another_chain", Step::Signature, |c, r| {
            let certificate = c.certify(&c.headers[3], &[0, 1, 3]);
            let other = certificate.signed(&[1; 32]);
            r.certificate = resigned(c, certificate, &other);
        }),
        ("zero_signatures", Step::Signature, |c, r| {
            let mut certificate = c.certify(&c.headers[3], &[0, 1, 3]);
            certificate.signatures = vec![piaogen_crypto::sm2::Signature([0; 64]); 3];
            r.certificate = certificate.encode();
        }),
    ]
}

fn resigned(chain: &Chain, mut certificate: Certificate, message: &[u8]) -> Vec<u8> {
    certificate.signatures =
        certificate.signers.iter().map(|i| chain.keys[*i as usize].sign(message)).collect();
    certificate.encode()
}

/// Consistency of headers, and of record logs.
pub(crate) fn consistency(chain: &Chain) -> Value {
    let good = |older: usize, newer: usize| Consistency {
        older: chain.headers[older],
        newer: chain.headers[newer],
        proof: chain.history_proof(older, newer),
        certificate: chain.certify(&chain.headers[newer], &[1, 2, 3]).encode(),
        changes: Vec::new(),
    };
    let changed = |spoil: fn(&mut Consistency)| {
        let mut consistency = good(1, 3);
        spoil(&mut consistency);
        consistency.encode()
    };
    let fork = Consistency {
        older: Header { time_ms: 1, ..chain.headers[1] },
        certificate: chain.certify(&chain.headers[3], &[0, 1, 2]).encode(),
        ..good(1, 3)
    };
    let cases = [
        ("one_to_three", good(1, 3).encode()),
        ("zero_to_one", good(0, 1).encode()),
        ("two_to_three", good(2, 3).encode()),
        ("magic", changed(|_| ()).split_off(1)),
        ("fork", fork.encode()),
        ("backwards", changed(|c| core::mem::swap(&mut c.older, &mut c.newer))),
        ("chain", changed(|c| c.older.chain[0] ^= 1)),
        ("proof", changed(|c| c.proof[0][0] ^= 1)),
        ("signature", changed(|c| *c.certificate.last_mut().unwrap() ^= 1)),
    ];
    let cases = cases.map(|(name, bytes)| {
        let decoded = Consistency::decode(&bytes).map_err(Refusal::from);
        let step = step_of(decoded.and_then(|proof| proof.verify(&chain.trust)));
        json!({"name": name, "consistency": hexed(bytes), "step": step})
    });
    let trust = parsed(&chain.trust.to_json());
    json!({"trust_root": trust, "cases": cases.to_vec(), "logs": logs()})
}

fn logs() -> Vec<Value> {
    let mut random = Random(6);
    let leaves: Vec<Digest> = (0..40).map(|_| random.array()).collect();
    let mut out = Vec::new();
    for _ in 0..30 {
        let new = 1 + random.below(40);
        let old = 1 + random.below(new);
        let (old_root, new_root) = (
            merkle::root_of_leaves(&leaves[..old as usize]),
            merkle::root_of_leaves(&leaves[..new as usize]),
        );
        let mut proof = merkle::prove_consistency(&leaves[..], old, new).unwrap();
        if random.below(4) == 0 {
            match random.below(3) {
                0 => proof.push([0; 32]),
                1 => proof.truncate(proof.len().saturating_sub(1)),
                _ => proof.reverse(),
            }
        }
        let holds = merkle::verify_consistency(old, new, &old_root, &new_root, &proof);
        let proof: Vec<Value> = proof.iter().map(hexed).collect();
        out.push(json!({
            "old_size": old, "new_size": new, "old_root": hexed(old_root),
            "new_root": hexed(new_root), "proof": proof, "holds": holds,
        }));
    }
    out
}

/// Checkpoints, good and bad.
pub(crate) fn checkpoints(chain: &Chain) -> Value {
    let good = checkpoint(chain);
    let note = good.to_note();
    let mut witnessed = good.clone();
    let line = SignatureLine { name: "witness.example/w1".into(), bytes: vec![7; 76] };
    witnessed.signatures.push(line);
    let mut unsigned = good.clone();
    unsigned.signatures.clear();
    let mut stranger = unsigned.clone();
    stranger.sign(&key_of(9));
    let mut spoiled = good.clone();
    spoiled.signatures[1].bytes[10] ^= 1;
    let mut short = good.clone();
    short.signatures[1].bytes.pop();
    let mut twice = good.clone();
    twice.sign(&chain.keys[0]);
    let root = Checkpoint { root: [1; 32], ..good.clone() };
    let cases = [
        ("good", note.clone()),
        ("with_witness", witnessed.to_note()),
        ("signed_twice", twice.to_note()),
        ("unsigned", unsigned.to_note()),
        ("stranger", stranger.to_note()),
        ("signature", spoiled.to_note()),
        ("signature_short", short.to_note()),
        ("other_root", root.to_note()),
        ("other_size", note.replacen("\n4\n", "\n5\n", 1)),
        ("other_chain", note.replacen("example-1", "example-2", 1)),
        ("size_form", note.replacen("\n4\n", "\n04\n", 1)),
        ("extension_line", note.replacen("\n4\n", "\n4\nmore\n", 1)),
        ("no_blank_line", note.replacen("\n\n", "\n", 1)),
        ("no_last_line_feed", note.trim_end().into()),
        ("no_padding", note.replacen("=\n\n", "\n\n", 1)),
    ];
    let cases = cases.map(|(name, note)| {
        let verdict = Checkpoint::parse(&note).and_then(|parsed| parsed.verify(&chain.trust));
        match verdict {
            Ok(signers) => json!({"name": name, "note": note, "signers": signers, "step": null}),
            Err(refusal) => json!({"name": name, "note": note, "step": refusal.step.name()}),
        }
    });
    json!({"trust_root": parsed(&chain.trust.to_json()), "cases": cases.to_vec()})
}

/// The set of validators must come out the same whatever order its keys stand in.
#[test]
fn the_trust_root_does_not_depend_on_the_order_of_keys() {
    let chain = Chain::build();
    let mut keys = chain.trust.validators.keys().to_vec();
    keys.reverse();
    assert_eq!(ValidatorSet::new(keys).unwrap().digest(), chain.trust.validators.digest());
}
