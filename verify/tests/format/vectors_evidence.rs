//! Vectors of evidence: of each kind some that prove something, and bad ones for each step.

#[path = "vectors_logs.rs"]
mod logs;

use super::{hexed, parsed};
use crate::common::chain::Chain;
use crate::common::epochs::{Epochs, TIP};
use crate::common::key_of;
use piaogen_crypto::Digest;
use piaogen_verify::checkpoint::Checkpoint;
use piaogen_verify::evidence::{Certified, Evidence, Said, Signer, Verdict};
use piaogen_verify::header::Header;
use piaogen_verify::merkle;
use piaogen_verify::refusal::{Refusal, Step};
use piaogen_verify::trust_root::TrustRoot;
use serde_json::{Value, json};

/// Evidence, good with what it proves, bad with the step that refuses it.
pub(super) fn evidence(chain: &Chain, epochs: &Epochs) -> Value {
    let trust = epochs.watched(&chain.trust, 0);
    let mut cases = Vec::new();
    for (name, evidence) in good(epochs) {
        cases.push(good_case(name, &evidence, &trust));
    }
    let mut steps = Vec::new();
    for (name, step, bytes) in bad(epochs) {
        steps.push(step);
        cases.push(bad_case(name, step, bytes, &trust));
    }
    // Who trusts a later set than that of the genesis.
    let later = TrustRoot { epoch: 3, validators: epochs.set(3), ..trust.clone() };
    let mut of_later = Vec::new();
    for (name, evidence) in logs::good_to_later(epochs) {
        of_later.push(good_case(name, &evidence, &later));
    }
    of_later.push({
        let fork = fork(epochs, 7, (14, 16)).encode();
        bad_case("fork_before_the_trust_root", Step::Epoch, fork, &later)
    });
    for (name, step, evidence) in logs::bad_to_later(epochs) {
        of_later.push(bad_case(name, step, evidence.encode(), &later));
    }
    for mut case in of_later {
        case["trust_root"] = parsed(&later.to_json());
        cases.push(case);
    }
    let mut missing = vec![Step::Decode, Step::Chain, Step::History, Step::Epoch];
    missing.extend([Step::Validators, Step::Quorum, Step::Signature, Step::Witness]);
    missing.extend([Step::Conflict, Step::Inclusion, Step::Shard]);
    missing.retain(|step| !steps.contains(step));
    assert!(missing.is_empty(), "no bad evidence for {missing:?}");
    json!({"trust_root": parsed(&trust.to_json()), "cases": cases})
}

fn good_case(name: &str, evidence: &Evidence, trust: &TrustRoot) -> Value {
    let verdict = evidence.verify(trust).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
    assert_eq!(Evidence::decode(&evidence.encode()).as_ref(), Ok(evidence), "{name}");
    assert_eq!(Evidence::from_json(&evidence.to_json()).as_ref(), Ok(evidence), "{name}");
    json!({
        "name": name, "evidence": hexed(evidence.encode()), "json": parsed(&evidence.to_json()),
        "step": null, "proves": proves(&verdict),
    })
}

fn bad_case(name: &str, step: Step, bytes: Vec<u8>, trust: &TrustRoot) -> Value {
    let decoded = Evidence::decode(&bytes).map_err(Refusal::from);
    let found = decoded.and_then(|evidence| evidence.verify(trust));
    let found = found.map_err(|refusal| refusal.step).map(|verdict| verdict.what);
    assert_eq!(found, Err(step), "{name}");
    json!({"name": name, "evidence": hexed(bytes), "step": step.name()})
}

fn proves(verdict: &Verdict) -> Value {
    let names = |signers: &[Signer]| -> Vec<String> {
        let name = |signer: &Signer| match signer {
            Signer::Validator(key) => hex::encode(key),
            Signer::Witness(name) => name.clone(),
        };
        signers.iter().map(name).collect()
    };
    json!({
        "kind": verdict.kind, "first": names(&verdict.first), "second": names(&verdict.second),
        "liars": names(&verdict.liars), "liars_min": verdict.liars_min,
    })
}

/// Two votes of the first validator of an epoch.
pub(crate) fn votes(epochs: &Epochs, epoch: u64, first: Said, second: Said) -> Evidence {
    let key = &epochs.keys[epoch as usize][0];
    let view = 41;
    let changes = if epoch == 0 { Vec::new() } else { epochs.proof().changes };
    Evidence::DoubleVote {
        changes,
        key: key.public_key(),
        epoch,
        view,
        first: epochs.vote(key, first, epoch, view),
        second: epochs.vote(key, second, epoch, view),
    }
}

const ONE: Digest = [0x11; 32];
const TWO: Digest = [0x22; 32];

fn fork(epochs: &Epochs, at: usize, views: (u64, u64)) -> Evidence {
    let other = epochs.forked(at);
    Evidence::Fork { first: epochs.certified(at, views.0), second: other.certified(at, views.1) }
}

/// Block 31 is final, and block 33 of a fork that begins there has another in its place.
fn rewrite(epochs: &Epochs) -> Evidence {
    let other = epochs.forked(31);
    Evidence::Rewrite {
        older: epochs.certified(31, 62),
        newer: other.certified(33, 66),
        other: other.headers[31].digest(),
        proof: other.history_proof(31, 33),
    }
}

fn cosigned(epochs: &Epochs, size: usize, witnesses: &[usize]) -> Checkpoint {
    let mut checkpoint = epochs.checkpoint(size);
    for witness in witnesses {
        checkpoint.signatures.push(epochs.cosign(*witness, size).to_line());
    }
    checkpoint
}

/// Logs of other sizes: the shorter of the chain, the longer of a fork below it.
fn longer(epochs: &Epochs) -> Evidence {
    let other = epochs.forked(29);
    let leaves: Vec<Digest> = other.headers.iter().map(Header::leaf).collect();
    let Ok(proof) = merkle::prove_consistency(&leaves[..], 31, 34);
    Evidence::Cosigned {
        first: cosigned(epochs, 31, &[0, 2]),
        second: cosigned(&other, 34, &[2]),
        prefix: Some((other.root(31), proof)),
    }
}

fn same_size(epochs: &Epochs, first: &[usize], second: &[usize]) -> Evidence {
    let other = epochs.forked(TIP);
    Evidence::Cosigned {
        first: cosigned(epochs, TIP + 1, first),
        second: cosigned(&other, TIP + 1, second),
        prefix: None,
    }
}

fn good(epochs: &Epochs) -> Vec<(&'static str, Evidence)> {
    let (parent, payload) = (40, ONE);
    let mut signed = same_size(epochs, &[0], &[]);
    if let Evidence::Cosigned { second, .. } = &mut signed {
        second.sign(&epochs.keys[0][2]);
    }
    vec![
        ("notarized_twice", {
            let (one, two) =
                (Said::Notarize { parent, payload }, Said::Notarize { parent, payload: TWO });
            votes(epochs, 0, one, two)
        }),
        ("finalized_on_two_parents", {
            let (one, two) =
                (Said::Finalize { parent, payload }, Said::Finalize { parent: 39, payload });
            votes(epochs, 0, one, two)
        }),
        ("finalized_and_timed_out", {
            votes(epochs, 0, Said::Timeout, Said::Finalize { parent, payload })
        }),
        ("of_a_later_epoch", {
            let (one, two) =
                (Said::Finalize { parent, payload }, Said::Finalize { parent, payload: TWO });
            votes(epochs, 3, one, two)
        }),
        ("fork_in_one_view", fork(epochs, 32, (64, 64))),
        ("fork_in_two_views", fork(epochs, 7, (14, 16))),
        ("fork_between_epochs", {
            let mut other = epochs.forked(21);
            other.headers[21].epoch = 1;
            let first = epochs.certified(21, 42);
            Evidence::Fork { first, second: other.certified(21, 42) }
        }),
        ("rewrite", rewrite(epochs)),
        ("one_witness_signed_both", same_size(epochs, &[0, 1], &[1])),
        ("two_witnesses_saw_two_logs", same_size(epochs, &[0], &[2])),
        ("a_witness_and_a_validator", signed),
        ("logs_of_two_sizes", longer(epochs)),
    ]
    .into_iter()
    .chain(logs::good(epochs))
    .collect()
}

type Spoil = fn(&Epochs, &mut Evidence);

fn bad(epochs: &Epochs) -> Vec<(&'static str, Step, Vec<u8>)> {
    let mut out = Vec::new();
    let mut add = |base: fn(&Epochs) -> Evidence, name, step, spoil: Spoil| {
        let mut evidence = base(epochs);
        spoil(epochs, &mut evidence);
        out.push((name, step, evidence.encode()));
    };
    let voted: fn(&Epochs) -> Evidence = |e| {
        let said = |payload| Said::Finalize { parent: 40, payload };
        votes(e, 3, said(ONE), said(TWO))
    };
    for (name, step, spoil) in spoils_of_votes() {
        add(voted, name, step, spoil);
    }
    for (name, step, spoil) in spoils_of_forks() {
        add(|e| fork(e, 32, (64, 64)), name, step, spoil);
    }
    for (name, step, spoil) in spoils_of_rewrites() {
        add(rewrite, name, step, spoil);
    }
    for (name, step, spoil) in spoils_of_logs() {
        add(longer, name, step, spoil);
    }
    for (name, step, spoil) in logs::bad() {
        add(|e| logs::good(e).swap_remove(0).1, name, step, spoil);
    }
    let bytes = fork(epochs, 7, (14, 16)).encode();
    let kind = |kind: u8| [&bytes[..3], &[kind], &bytes[4..]].concat();
    out.extend([
        ("empty", Step::Decode, Vec::new()),
        ("magic", Step::Decode, bytes[1..].to_vec()),
        ("kind", Step::Decode, kind(6)),
        ("another_kind", Step::Decode, kind(3)),
        ("short", Step::Decode, bytes[..bytes.len() - 1].to_vec()),
        ("trailing", Step::Decode, [&bytes[..], &[0]].concat()),
        ("no_checkpoint", Step::Decode, [&bytes[..3], &[4, 1, b'x', 1, b'x', 0]].concat()),
        ("level_of_a_subtree", Step::Decode, logs::of_level(epochs, 64)),
        ("key_off_the_curve", Step::Decode, {
            let mut voted = votes(epochs, 0, Said::Timeout, Said::Timeout).encode();
            voted[6..38].fill(0xff);
            voted
        }),
    ]);
    out
}

fn spoils_of_votes() -> Vec<(&'static str, Step, Spoil)> {
    fn edit(evidence: &mut Evidence, edit: impl Fn(&mut Said, &mut Said)) {
        let Evidence::DoubleVote { first, second, .. } = evidence else { panic!("votes") };
        edit(&mut first.said, &mut second.said);
    }
    vec![
        ("vote_twice_the_same", Step::Conflict, |_, v| edit(v, |a, b| *b = *a)),
        ("notarized_and_finalized", Step::Conflict, |_, v| {
            edit(v, |a, _| *a = Said::Notarize { parent: 40, payload: ONE });
        }),
        ("notarized_and_timed_out", Step::Conflict, |_, v| {
            edit(v, |a, b| {
                *a = Said::Notarize { parent: 40, payload: ONE };
                *b = Said::Timeout;
            });
        }),
        ("timed_out_twice", Step::Conflict, |_, v| {
            edit(v, |a, b| (*a, *b) = (Said::Timeout, Said::Timeout));
        }),
        ("vote_not_signed", Step::Signature, |_, v| {
            edit(v, |_, b| *b = Said::Finalize { parent: 40, payload: [0x33; 32] });
        }),
        ("vote_of_another_view", Step::Signature, |_, v| {
            let Evidence::DoubleVote { view, .. } = v else { panic!("votes") };
            *view += 1;
        }),
        ("vote_of_an_earlier_epoch", Step::Epoch, |_, v| {
            let Evidence::DoubleVote { epoch, .. } = v else { panic!("votes") };
            *epoch = 2;
        }),
        ("key_of_nobody", Step::Validators, |_, v| {
            let Evidence::DoubleVote { key, .. } = v else { panic!("votes") };
            *key = key_of(99).public_key();
        }),
        ("votes_without_changes", Step::Validators, |_, v| {
            let Evidence::DoubleVote { changes, .. } = v else { panic!("votes") };
            changes.clear();
        }),
        ("change_of_another_chain", Step::Chain, |_, v| {
            let Evidence::DoubleVote { changes, .. } = v else { panic!("votes") };
            changes[0].header.chain[1] ^= 1;
        }),
    ]
}

fn spoils_of_forks() -> Vec<(&'static str, Step, Spoil)> {
    fn edit(evidence: &mut Evidence, edit: impl Fn(&mut Certified, &mut Certified)) {
        let Evidence::Fork { first, second } = evidence else { panic!("a fork") };
        edit(first, second);
    }
    vec![
        ("the_same_block_twice", Step::Conflict, |_, f| edit(f, |a, b| *b = a.clone())),
        ("two_heights", Step::Conflict, |e, f| edit(f, |_, b| *b = e.certified(31, 62))),
        ("fork_of_another_chain", Step::Chain, |_, f| edit(f, |_, b| b.header.chain[0] ^= 1)),
        ("fork_not_certified", Step::Quorum, |_, f| edit(f, |_, b| b.header.records += 1)),
        ("fork_of_too_few", Step::Quorum, |e, f| {
            edit(f, |_, b| b.certificate = e.certify(&b.header, 64, 3).encode());
        }),
        ("fork_signature", Step::Signature, |_, f| {
            edit(f, |_, b| *b.certificate.last_mut().unwrap() ^= 1);
        }),
        ("first_signature", Step::Signature, |_, f| {
            edit(f, |a, _| *a.certificate.last_mut().unwrap() ^= 1);
        }),
        ("fork_without_changes", Step::Validators, |_, f| edit(f, |_, b| b.changes.clear())),
    ]
}

fn spoils_of_rewrites() -> Vec<(&'static str, Step, Spoil)> {
    fn edit(evidence: &mut Evidence, edit: impl Fn(&mut Digest, &mut Vec<Digest>)) {
        let Evidence::Rewrite { other, proof, .. } = evidence else { panic!("a rewrite") };
        edit(other, proof);
    }
    vec![
        ("digest_is_not_there", Step::History, |_, r| edit(r, |other, _| other[0] ^= 1)),
        ("rewrite_proof", Step::History, |_, r| edit(r, |_, proof| proof[0][0] ^= 1)),
        ("rewrite_proof_longer", Step::History, |_, r| edit(r, |_, proof| proof.push(ONE))),
        ("nothing_was_rewritten", Step::Conflict, |e, r| {
            *r = Evidence::Rewrite {
                older: e.certified(31, 62),
                newer: e.certified(33, 66),
                other: e.headers[31].digest(),
                proof: e.history_proof(31, 33),
            };
        }),
        ("earlier_is_later", Step::History, |_, r| {
            let Evidence::Rewrite { older, newer, .. } = r else { panic!("a rewrite") };
            core::mem::swap(older, newer);
        }),
        ("rewrite_not_certified", Step::Signature, |_, r| {
            let Evidence::Rewrite { newer, .. } = r else { panic!("a rewrite") };
            *newer.certificate.last_mut().unwrap() ^= 1;
        }),
    ]
}

fn spoils_of_logs() -> Vec<(&'static str, Step, Spoil)> {
    fn edit(
        evidence: &mut Evidence,
        edit: impl Fn(&mut Checkpoint, &mut Checkpoint, &mut Option<(Digest, Vec<Digest>)>),
    ) {
        let Evidence::Cosigned { first, second, prefix } = evidence else { panic!("logs") };
        edit(first, second, prefix);
    }
    vec![
        ("log_of_another_chain", Step::Chain, |_, l| {
            edit(l, |a, _, _| a.chain_id = "example-2".into());
        }),
        ("no_prefix", Step::Conflict, |_, l| edit(l, |_, _, prefix| *prefix = None)),
        ("shorter_log_second", Step::Conflict, |_, l| {
            edit(l, |a, b, _| core::mem::swap(a, b));
        }),
        ("prefix_of_one_size", Step::Conflict, |e, l| {
            let Evidence::Cosigned { prefix, .. } = l.clone() else { panic!("logs") };
            *l = same_size(e, &[0], &[0]);
            edit(l, |_, _, own| *own = prefix.clone());
        }),
        ("prefix_is_not_consistent", Step::History, |_, l| {
            edit(l, |_, _, prefix| prefix.as_mut().unwrap().0[0] ^= 1);
        }),
        ("one_log_extends_the_other", Step::Conflict, |e, l| {
            let leaves: Vec<Digest> = e.headers.iter().map(Header::leaf).collect();
            let Ok(proof) = merkle::prove_consistency(&leaves[..], 31, 34);
            *l = Evidence::Cosigned {
                first: cosigned(e, 31, &[0]),
                second: cosigned(e, 34, &[1]),
                prefix: Some((e.root(31), proof)),
            };
        }),
        ("one_log_twice", Step::Conflict, |e, l| {
            let log = cosigned(e, 20, &[0]);
            *l = Evidence::Cosigned { first: log.clone(), second: log, prefix: None };
        }),
        ("log_of_nobody", Step::Quorum, |_, l| edit(l, |a, _, _| a.signatures.clear())),
        ("second_log_of_nobody", Step::Quorum, |_, l| edit(l, |_, b, _| b.signatures.clear())),
        ("cosignature", Step::Witness, |_, l| {
            edit(l, |_, b, _| b.signatures[0].bytes[40] ^= 1);
        }),
        ("signature_of_a_validator", Step::Signature, |e, l| {
            edit(l, |a, _, _| {
                a.sign(&e.keys[0][1]);
                a.signatures.last_mut().unwrap().bytes[40] ^= 1;
            });
        }),
    ]
}

/// Whoever trusts witnesses only is told who signed, whatever the validators did.
#[test]
fn a_trust_root_without_witnesses_knows_no_cosigner() {
    let chain = Chain::build();
    let epochs = Epochs::build(&crate::common::life::Life::build(&chain));
    let evidence = same_size(&epochs, &[0], &[0]);
    let trust: &TrustRoot = &chain.trust;
    assert_eq!(evidence.verify(trust).map_err(|refusal| refusal.step), Err(Step::Quorum));
}

#[test]
fn the_same_vote_with_another_signature_is_no_second_vote() {
    let chain = Chain::build();
    let epochs = Epochs::build(&crate::common::life::Life::build(&chain));
    let trust = epochs.watched(&chain.trust, 0);
    let said = Said::Finalize { parent: 40, payload: ONE };
    let mut evidence = votes(&epochs, 0, said, said);
    let key = &epochs.keys[0][0];
    let Evidence::DoubleVote { epoch, view, second, .. } = &mut evidence else { panic!("votes") };
    // As a device signs that draws its nonces.
    let message = said.message(&epochs.headers[0].chain, *epoch, *view);
    let again = key.sign_with_entropy(&message, b"another nonce");
    assert_ne!(again, second.signature);
    second.signature = again;
    assert_eq!(evidence.verify(&trust).unwrap_err().step, Step::Conflict);
    let other = Said::Finalize { parent: 40, payload: TWO };
    votes(&epochs, 0, said, other).verify(&trust).unwrap();
}
