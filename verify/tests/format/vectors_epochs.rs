//! Vectors of what later epochs need: epoch proofs, receipts through changes of the validator set,
//! and cosignatures.

#[path = "vectors_followers.rs"]
mod followers;

use super::receipts::step_of;
use super::{hexed, parsed};
use crate::common::chain::Chain;
use crate::common::epochs::{Epochs, TIP};
use crate::common::key_of;
use crate::common::life::Life;
use piaogen_verify::certificate::Certificate;
use piaogen_verify::checkpoint::Checkpoint;
use piaogen_verify::epoch::{Change, EpochProof};
use piaogen_verify::follow::{Follower, Link};
use piaogen_verify::header::{HEADER_LEN, Header};
use piaogen_verify::receipt::Receipt;
use piaogen_verify::refusal::{Refusal, Step};
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::witness::Cosignature;
use serde_json::{Value, json};

/// Epoch proofs, good ones with the trust root to which they lead.
pub(super) fn proofs(chain: &Chain, epochs: &Epochs) -> Value {
    let mut cases = Vec::new();
    let mut whole = epochs.proof();
    whole.changes.insert(1, epochs.change(1));
    let good = [
        ("two_changes", epochs.proof()),
        ("every_epoch", whole),
        ("one_change", EpochProof { changes: vec![epochs.change(0)] }),
        ("none", EpochProof { changes: Vec::new() }),
    ];
    for (name, proof) in good {
        let advanced = proof.advance(&chain.trust).unwrap();
        assert_eq!(EpochProof::from_json(&proof.to_json()).as_ref(), Ok(&proof), "{name}");
        cases.push(json!({
            "name": name, "proof": hexed(proof.encode()), "json": parsed(&proof.to_json()),
            "step": null, "advanced": parsed(&advanced.to_json()),
        }));
    }
    for (name, step, bytes) in bad_proofs(epochs) {
        let decoded = EpochProof::decode(&bytes).map_err(Refusal::from);
        let found = step_of(decoded.and_then(|proof| proof.advance(&chain.trust)));
        assert_eq!(found, step.name(), "{name}");
        cases.push(json!({"name": name, "proof": hexed(bytes), "step": step.name()}));
    }
    json!({"trust_root": parsed(&chain.trust.to_json()), "cases": cases})
}

type Spoil = fn(&Epochs, &mut Vec<Change>);

fn bad_proofs(epochs: &Epochs) -> Vec<(&'static str, Step, Vec<u8>)> {
    let mut out: Vec<(&'static str, Step, Vec<u8>)> = spoils()
        .into_iter()
        .map(|(name, step, spoil)| {
            let mut proof = epochs.proof();
            spoil(epochs, &mut proof.changes);
            (name, step, proof.encode())
        })
        .collect();
    let one = EpochProof { changes: vec![epochs.change(0)] }.encode();
    // Four keys of 33 bytes stand last, behind their count.
    let set = one.len() - 4 * 33 - 1;
    let with = |at: usize, bytes: &[u8]| [&one[..at], bytes].concat();
    let swapped = [&one[set + 34..set + 67], &one[set + 1..set + 34], &one[set + 67..]].concat();
    out.extend([
        ("magic", Step::Decode, with(1, &one[2..])),
        ("short", Step::Decode, one[..one.len() - 1].to_vec()),
        ("trailing", Step::Decode, [&one[..], &[0]].concat()),
        ("too_many_changes", Step::Decode, [&one[..3], &[65], &one[4..]].concat()),
        ("empty_set", Step::Decode, with(set, &[0])),
        ("keys_not_ascending", Step::Decode, with(set + 1, &swapped)),
        ("key_twice", Step::Decode, {
            let first = &one[set + 1..set + 34];
            with(set + 1, &[first, first, &one[set + 67..]].concat())
        }),
        ("key_off_the_curve", Step::Decode, {
            let last = [&[3u8][..], &[0xff; 32]].concat();
            with(one.len() - 33, &last)
        }),
        ("set_too_large", Step::Decode, { with(set, &[&[101][..], &[2; 101 * 33]].concat()) }),
        ("certificate", Step::Decode, {
            let at = 4 + HEADER_LEN;
            [&one[..at], &[0][..], &one[set..]].concat()
        }),
    ]);
    out
}

/// The change with another header, which the right set certifies.
fn with_header(epochs: &Epochs, change: &mut Change, edit: fn(&mut Header)) {
    let epoch = change.header.epoch;
    edit(&mut change.header);
    let signed = Header { epoch, ..change.header };
    let mut certificate = epochs.certify(&signed, 7, 1);
    certificate.epoch = change.header.epoch;
    certificate.payload = change.header.digest();
    let message = certificate.signed(&change.header.chain);
    let keys = &epochs.keys[epoch as usize][1..];
    certificate.signatures = keys.iter().map(|key| key.sign(&message)).collect();
    change.certificate = certificate.encode();
}

fn spoils() -> Vec<(&'static str, Step, Spoil)> {
    vec![
        ("chain", Step::Chain, |_, c| c[1].header.chain[0] ^= 1),
        ("not_the_last_of_its_epoch", Step::Epoch, |e, c| {
            c[0].header = e.headers[9];
            c[0].certificate = e.certify(&e.headers[9], 18, 1).encode();
        }),
        ("another_set_beside_it", Step::Epoch, |e, c| c[0].next = e.set(3)),
        ("the_same_change_twice", Step::Epoch, |_, c| c[1] = c[0].clone()),
        ("nothing_follows", Step::Epoch, |e, c| {
            with_header(e, &mut c[1], |header| header.epoch = u64::MAX);
        }),
        ("first_change_left_out", Step::Validators, |_, c| drop(c.remove(0))),
        ("in_the_wrong_order", Step::Validators, |_, c| c.swap(0, 1)),
        ("signed_by_the_next_set", Step::Signature, |e, c| {
            let mut certificate = e.certify(&c[0].header, 20, 1);
            let message = certificate.signed(&c[0].header.chain);
            let keys = &e.keys[1][1..];
            certificate.signatures = keys.iter().map(|key| key.sign(&message)).collect();
            c[0].certificate = certificate.encode();
        }),
        ("two_of_four", Step::Quorum, |e, c| {
            c[0].certificate = e.certify(&c[0].header, 20, 2).encode();
        }),
        ("certificate_of_another_block", Step::Quorum, |e, c| {
            c[1].certificate = e.certify(&e.headers[29], 60, 1).encode();
        }),
        ("epoch_of_the_certificate", Step::Quorum, |e, c| {
            let mut certificate = e.certify(&c[0].header, 20, 1);
            certificate.epoch = 1;
            c[0].certificate = certificate.encode();
        }),
        ("signature", Step::Signature, |_, c| *c[1].certificate.last_mut().unwrap() ^= 1),
        ("later_set_without_quorum", Step::Quorum, |e, c| {
            c[1].certificate = e.certify(&c[1].header, 60, 3).encode();
        }),
    ]
}

type SpoilLink = fn(&Epochs, &mut Link);

/// Headers in a row: a good one, and the same with one link spoiled, which is refused.
pub(super) fn links(chain: &Chain, epochs: &Epochs) -> Value {
    let good: Vec<Link> = (0..=TIP).map(|height| epochs.link(height)).collect();
    let mut follower = Follower::new(&chain.trust).unwrap();
    for link in &good {
        follower.take(link).unwrap();
    }
    let last = follower.newest_final().unwrap();
    assert_eq!((last.size, last.root), (TIP as u64, epochs.root(TIP)), "33 has no certificate");
    let mut cases = Vec::new();
    for (name, at, step, spoil) in bad_links() {
        let mut link = good[at].clone();
        spoil(epochs, &mut link);
        let bytes = link.encode();
        let mut follower = Follower::new(&chain.trust).unwrap();
        assert!(good[..at].iter().all(|link| follower.take(link).is_ok()));
        let before = follower.newest_final();
        let decoded = Link::decode(&bytes).map_err(Refusal::from);
        let found = step_of(decoded.and_then(|link| follower.take(&link)));
        assert_eq!(found, step.name(), "{name}");
        assert_eq!((follower.size(), follower.newest_final()), (at as u64, before), "{name}");
        assert_eq!(follower.take(&good[at]), Ok(()), "{name}: the right one is still taken");
        cases.push(json!({"name": name, "at": at, "link": hexed(bytes), "step": step.name()}));
    }
    let rested = followers::followers(chain, epochs, &good);
    let good: Vec<Value> = good.iter().map(|link| hexed(link.encode())).collect();
    json!({
        "trust_root": parsed(&chain.trust.to_json()), "links": good, "cases": cases,
        "final": {"size": last.size, "root": hexed(last.root)}, "followers": rested,
    })
}

/// The link with another header, which its set certifies.
fn sealed(epochs: &Epochs, link: &mut Link, edit: fn(&mut Header)) {
    let set = link.header.epoch;
    edit(&mut link.header);
    let epoch = link.header.epoch;
    let mut certificate = epochs.certify(&Header { epoch: set, ..link.header }, 9, 1);
    (certificate.epoch, certificate.payload) = (epoch, link.header.digest());
    let message = certificate.signed(&link.header.chain);
    let keys = &epochs.keys[set as usize][1..];
    certificate.signatures = keys.iter().map(|key| key.sign(&message)).collect();
    link.certificate = certificate.encode();
}

fn bad_links() -> Vec<(&'static str, usize, Step, SpoilLink)> {
    vec![
        ("chain", 5, Step::Chain, |e, l| sealed(e, l, |h| h.chain[0] ^= 1)),
        ("not_the_genesis", 0, Step::History, |e, l| *l = e.link(1)),
        ("parent", 5, Step::History, |e, l| sealed(e, l, |h| h.parent[0] ^= 1)),
        ("history", 5, Step::History, |e, l| sealed(e, l, |h| h.history_root[0] ^= 1)),
        ("height", 5, Step::History, |e, l| sealed(e, l, |h| h.height += 1)),
        ("time", 5, Step::History, |e, l| sealed(e, l, |h| h.time_ms -= 2_000)),
        ("left_out", 5, Step::History, |e, l| *l = e.link(6)),
        ("of_a_fork", 8, Step::History, |e, l| *l = e.forked(7).link(8)),
        ("epoch_too_early", 5, Step::Epoch, |e, l| sealed(e, l, |h| h.epoch = 1)),
        ("epoch_goes_on", 11, Step::Epoch, |e, l| sealed(e, l, |h| h.epoch = 0)),
        ("validators", 11, Step::Epoch, |e, l| sealed(e, l, |h| h.validators[0] ^= 1)),
        ("set_is_missing", 10, Step::Epoch, |_, l| l.next = None),
        ("another_set", 10, Step::Epoch, |e, l| l.next = Some(e.set(3))),
        ("set_within_the_epoch", 5, Step::Epoch, |e, l| l.next = Some(e.set(1))),
        ("epoch_ends_unsigned", 10, Step::Epoch, |_, l| l.certificate.clear()),
        ("signature", 5, Step::Signature, |_, l| *l.certificate.last_mut().unwrap() ^= 1),
        ("of_the_old_set", 11, Step::Signature, |e, l| {
            let mut certificate = e.certify(&l.header, 9, 1);
            let message = certificate.signed(&l.header.chain);
            let keys = &e.keys[0][1..];
            certificate.signatures = keys.iter().map(|key| key.sign(&message)).collect();
            l.certificate = certificate.encode();
        }),
        ("too_few", 5, Step::Quorum, |e, l| {
            l.certificate = e.certify(&l.header, 9, 2).encode();
        }),
        ("certificate", 5, Step::Decode, |_, l| l.certificate = vec![0]),
    ]
}

/// The trust roots of the receipts: of the genesis, of the last epoch, and with witnesses.
fn trusts(chain: &Chain, epochs: &Epochs) -> [(&'static str, TrustRoot); 4] {
    let advanced = epochs.proof().advance(&chain.trust).unwrap();
    [
        ("genesis", chain.trust.clone()),
        ("advanced", advanced.clone()),
        ("one_witness", epochs.watched(&chain.trust, 1)),
        ("two_witnesses", epochs.watched(&advanced, 2)),
    ]
}

/// Receipts that were led to a later epoch.
pub(super) fn receipts(chain: &Chain, life: &Life, epochs: &Epochs) -> Value {
    let trusts = trusts(chain, epochs);
    let mut cases = Vec::new();
    let mut add = |name: &str, trust: &str, receipt: &Receipt, step: Option<Step>| {
        let (_, root) = trusts.iter().find(|(known, _)| *known == trust).unwrap();
        let found = receipt.verify(root);
        let wanted = step.map(Step::name);
        assert_eq!(found.as_ref().err().map(|refusal| refusal.step.name()), wanted, "{name}");
        let mut case = json!({
            "name": name, "trust": trust, "receipt": hexed(receipt.encode()), "step": wanted,
        });
        if let Ok(verified) = found {
            case["json"] = parsed(&receipt.to_json());
            case["witnesses"] = verified.witnesses.into();
            case["epoch"] = verified.epoch.into();
        }
        cases.push(case);
    };
    let whole = epochs.receipt(chain, life, "blue");
    let mut bare = whole.clone();
    bare.changes.clear();
    let old = life.receipt(chain, "blue", true);
    add("through_changes", "genesis", &whole, None);
    add("of_the_first_epoch", "genesis", &old, None);
    add("to_an_advanced_trust_root", "advanced", &bare, None);
    let mut short = whole.clone();
    short.changes.truncate(1);
    add("no_changes", "genesis", &bare, Some(Step::Validators));
    add("last_change_left_out", "genesis", &short, Some(Step::Validators));
    add("changes_that_were_taken", "advanced", &whole, None);
    let mut descending = whole.clone();
    descending.changes.swap(0, 1);
    add("changes_that_were_taken_descend", "advanced", &descending, Some(Step::Epoch));
    add("older_than_the_trust_root", "advanced", &old, Some(Step::Epoch));
    let mut spoiled = whole.clone();
    spoiled.changes[0].next = epochs.set(3);
    add("another_set", "genesis", &spoiled, Some(Step::Epoch));
    let mut spoiled = whole.clone();
    spoiled.changes[1].header.chain[3] ^= 1;
    add("chain_of_a_change", "genesis", &spoiled, Some(Step::Chain));
    let mut spoiled = whole.clone();
    spoiled.certificate = epochs.certify(&epochs.headers[TIP - 1], 64, 2).encode();
    add("three_of_five", "genesis", &spoiled, Some(Step::Quorum));
    for (name, trust, witnesses, step) in [
        ("one_cosigned", "one_witness", &[1][..], None),
        ("all_cosigned", "one_witness", &[2, 0, 1], None),
        ("two_cosigned", "two_witnesses", &[0, 2], None),
        ("cosigned_and_not_asked_for", "genesis", &[0], None),
        ("nobody_cosigned", "one_witness", &[], Some(Step::Witness)),
        ("one_of_two", "two_witnesses", &[2], Some(Step::Witness)),
        ("one_twice", "two_witnesses", &[2, 2], Some(Step::Witness)),
    ] {
        let mut receipt = if trust == "two_witnesses" { bare.clone() } else { whole.clone() };
        receipt.cosigned = Some(epochs.cosigned(witnesses));
        add(name, trust, &receipt, step);
    }
    add("no_cosignatures", "one_witness", &whole, Some(Step::Witness));
    for (name, spoil) in spoils_of_witnesses() {
        let mut receipt = whole.clone();
        receipt.cosigned = Some(epochs.cosigned(&[0, 1]));
        spoil(epochs, &mut receipt);
        add(name, "one_witness", &receipt, Some(Step::Witness));
    }
    let trusts: serde_json::Map<String, Value> =
        trusts.iter().map(|(name, root)| ((*name).into(), parsed(&root.to_json()))).collect();
    json!({"trust_roots": trusts, "cases": cases})
}

type SpoilReceipt = fn(&Epochs, &mut Receipt);

fn spoils_of_witnesses() -> Vec<(&'static str, SpoilReceipt)> {
    vec![
        ("cosignature_changed", |_, r| {
            r.cosigned.as_mut().unwrap().cosignatures[1].signature.0[9] ^= 1;
        }),
        ("time_changed", |_, r| r.cosigned.as_mut().unwrap().cosignatures[0].time += 1),
        ("strangers_only", |_, r| {
            for one in &mut r.cosigned.as_mut().unwrap().cosignatures {
                one.hint[0] ^= 1;
            }
        }),
        ("log_without_the_header", |e, r| {
            let cosigned = r.cosigned.as_mut().unwrap();
            let size = TIP - 1;
            cosigned.size = size as u64;
            cosigned.root = e.root(size);
            cosigned.cosignatures = vec![e.cosign(0, size)];
        }),
        ("proof_changed", |_, r| r.cosigned.as_mut().unwrap().proof[0][0] ^= 1),
        ("cosigned_log_of_a_fork", |e, r| {
            let fork = e.forked(31);
            r.cosigned = Some(fork.cosigned(&[0, 1]));
        }),
        ("cosigned_log_of_another_size", |e, r| {
            r.cosigned.as_mut().unwrap().cosignatures = vec![e.cosign(0, TIP)];
        }),
    ]
}

/// The checkpoint of the newest block with lines of validators and witnesses.
pub(crate) fn cosigned_checkpoint(epochs: &Epochs) -> Checkpoint {
    let mut checkpoint = epochs.checkpoint(TIP + 1);
    checkpoint.sign(&epochs.keys[3][0]);
    checkpoint.signatures.push(epochs.cosign(0, TIP + 1).to_line());
    checkpoint.signatures.push(epochs.cosign(1, TIP + 1).to_line());
    checkpoint
}

/// Checkpoints with lines of witnesses.
pub(super) fn cosignatures(chain: &Chain, epochs: &Epochs) -> Value {
    let trust = epochs.watched(&epochs.proof().advance(&chain.trust).unwrap(), 2);
    let good = cosigned_checkpoint(epochs);
    let changed = |spoil: fn(&Epochs, &mut Checkpoint)| {
        let mut checkpoint = good.clone();
        spoil(epochs, &mut checkpoint);
        checkpoint
    };
    let cases = [
        ("good", good.clone()),
        ("of_nobody", changed(|_, c| c.signatures.clear())),
        (
            "of_a_stranger",
            changed(|_, c| {
                c.signatures.truncate(1);
                let line = Cosignature::sign("w9.example", &key_of(77), c, 5).to_line();
                c.signatures.push(line);
            }),
        ),
        (
            "known_name_of_another_key",
            changed(|_, c| {
                let line = Cosignature::sign("w0.example", &key_of(77), c, 5).to_line();
                c.signatures[1] = line;
            }),
        ),
        ("twice", changed(|e, c| c.signatures.push(e.cosign(1, TIP + 1).to_line()))),
        (
            "short_line",
            changed(|_, c| {
                c.signatures[1].bytes.pop();
            }),
        ),
        ("another_root", Checkpoint { root: [1; 32], ..good.clone() }),
        ("time", changed(|_, c| c.signatures[2].bytes[11] ^= 1)),
        ("signature", changed(|_, c| c.signatures[1].bytes[70] ^= 1)),
    ];
    let cases = cases.map(|(name, checkpoint)| {
        let note = checkpoint.to_note();
        assert_eq!(Checkpoint::parse(&note).as_ref(), Ok(&checkpoint));
        let found = trust.witnesses_of(&checkpoint, &checkpoint.cosignatures());
        let times: Vec<u64> = checkpoint.cosignatures().iter().map(|one| one.time).collect();
        let mut case = json!({"name": name, "note": note, "times": times});
        match found {
            Ok(places) => case["witnesses"] = places.into(),
            Err(refusal) => case["step"] = refusal.step.name().into(),
        }
        case
    });
    json!({"trust_root": parsed(&trust.to_json()), "cases": cases.to_vec()})
}

/// A certificate by the wrong keys is refused, whatever it says.
#[test]
fn a_set_that_was_replaced_certifies_nothing_more() {
    let chain = Chain::build();
    let epochs = Epochs::build(&Life::build(&chain));
    let advanced = epochs.proof().advance(&chain.trust).unwrap();
    let header = Header { epoch: 3, ..epochs.headers[TIP] };
    let old = Header { epoch: 0, ..header };
    let mut certificate: Certificate = epochs.certify(&old, 9, 0);
    certificate.epoch = 3;
    certificate.payload = header.digest();
    let message = certificate.signed(&header.chain);
    certificate.signatures = epochs.keys[0].iter().map(|key| key.sign(&message)).collect();
    let refused = advanced.check_final(&header, &certificate).unwrap_err();
    assert_eq!(refused.step, Step::Quorum, "four keys where five are trusted");
    let named = Header { validators: epochs.set(0).digest(), ..header };
    certificate.payload = named.digest();
    assert_eq!(advanced.check_final(&named, &certificate).unwrap_err().step, Step::Validators);
}
