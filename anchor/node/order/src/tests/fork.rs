//! What is not withstood: f + 1 liars with two selves and a network cut in two make two blocks of
//! one height final. Each half sees true certificates; whoever sees both has evidence, and a witness
//! that followed one half refuses the other.

use super::secret;
use crate::simulation::{Event, Plan, Role, Side, run};
use crate::{Application, FinalBlock, Finalized, Identity, Verdict};
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use piaogen_verify::certificate::{Certificate, NAMESPACE, verify_final};
use piaogen_verify::encoding::Reader;
use piaogen_verify::evidence::{Certified, Evidence, Signer};
use piaogen_verify::follow::{Follower, Link};
use piaogen_verify::header::{HEADER_LEN, Header, ValidatorSet};
use piaogen_verify::merkle;
use piaogen_verify::refusal::Step;
use piaogen_verify::trust_root::TrustRoot;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CHAIN: Digest = [0x63; 32];
const BLOCKS: usize = 12;

fn secrets() -> Vec<SecretKey> {
    (1..=4).map(secret).collect()
}

fn set() -> ValidatorSet {
    ValidatorSet::new(secrets().iter().map(SecretKey::public_key).collect()).unwrap()
}

fn genesis() -> Header {
    Header::genesis(CHAIN, 1, 1, &set())
}

fn decoded(body: &[u8]) -> Option<Header> {
    let mut reader = Reader::new(body);
    let header = Header::decode(&mut reader).ok()?;
    (body.len() == HEADER_LEN && header.chain == CHAIN).then_some(header)
}

/// Makes blocks that are true headers over nothing; `number` tells its times from another's.
struct Headers {
    number: i64,
    state: Mutex<State>,
}

struct State {
    bodies: HashMap<Digest, Vec<u8>>,
    headers: Vec<Header>,
    finals: Vec<FinalBlock>,
}

impl Headers {
    fn new(number: i64) -> Self {
        let (bodies, finals) = (HashMap::new(), Vec::new());
        Self { number, state: Mutex::new(State { bodies, headers: vec![genesis()], finals }) }
    }

    fn height(&self) -> usize {
        self.state.lock().unwrap().finals.len()
    }

    /// All headers but the first, with their certificates.
    fn certified(&self) -> Vec<Certified> {
        let state = self.state.lock().unwrap();
        let pairs = state.headers[1..].iter().zip(&state.finals);
        pairs
            .map(|(header, block)| Certified {
                header: *header,
                certificate: block.finalization.clone(),
                changes: Vec::new(),
            })
            .collect()
    }
}

fn history_root(headers: &[Header]) -> Digest {
    let leaves: Vec<Digest> = headers.iter().map(Header::leaf).collect();
    merkle::root_of_leaves(&leaves)
}

impl Application for Headers {
    fn identify(&self, body: &[u8]) -> Option<Identity> {
        let header = decoded(body)?;
        let (block, parent, height) = (header.digest(), header.parent, header.height);
        Some(Identity { block, parent, height, closes: header.closes_epoch() })
    }

    fn propose(&self, _: u64, parent: Digest) -> Option<Digest> {
        let mut state = self.state.lock().unwrap();
        let last = *state.headers.last()?;
        if last.digest() != parent {
            return None;
        }
        let header = Header {
            height: last.height + 1,
            time_ms: last.time_ms + 1_000 + self.number,
            parent,
            history_root: history_root(&state.headers),
            ..last
        };
        state.bodies.insert(header.digest(), header.encode().to_vec());
        Some(header.digest())
    }

    fn check(&self, _: u64, body: &[u8], _: bool) -> Verdict {
        let mut state = self.state.lock().unwrap();
        let (header, last) = (decoded(body).unwrap(), *state.headers.last().unwrap());
        if header.parent != last.digest() {
            return Verdict::NotYet;
        }
        if header.history_root != history_root(&state.headers) || header.time_ms <= last.time_ms {
            return Verdict::Bad;
        }
        state.bodies.insert(header.digest(), body.to_vec());
        Verdict::Good
    }

    fn body(&self, block: Digest) -> Option<Vec<u8>> {
        self.state.lock().unwrap().bodies.get(&block).cloned()
    }

    fn last(&self) -> Identity {
        let last = *self.state.lock().unwrap().headers.last().unwrap();
        let (block, parent, height) = (last.digest(), last.parent, last.height);
        Identity { block, parent, height, closes: false }
    }

    fn finals(&self, from: u64, most: usize, _: usize) -> Vec<FinalBlock> {
        let state = self.state.lock().unwrap();
        let Some(skip) = from.checked_sub(1) else { return Vec::new() };
        state.finals.iter().skip(skip as usize).take(most).cloned().collect()
    }

    fn finalized(&self, _: Digest, body: &[u8], finalization: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.headers.push(decoded(body).unwrap());
        let (body, finalization) = (body.to_vec(), finalization.to_vec());
        state.finals.push(FinalBlock { body, finalization });
    }

    fn caught(&self, _: Evidence) {}
}

/// What two honest validators, cut off from each other, take for final; so many liars have two
/// selves and talk to both.
fn halves(seed: u64, liars: usize, blocks: usize) -> (Vec<Certified>, Vec<Certified>) {
    let all: Vec<Arc<Headers>> =
        (0..4 + liars).map(|number| Arc::new(Headers::new(number as i64))).collect();
    let role = Role::Equivocates { first: Side::of([0, 1, 2]), second: Side::of([0, 1, 3]) };
    let start = (0..4).map(|one| (Duration::ZERO, Event::Start(one)));
    let split = [(Duration::ZERO, Event::Split(Side::of([2])))];
    let plan = Plan {
        events: split.into_iter().chain(start).collect(),
        roles: (0..liars).map(|one| (one, role)).collect(),
        limit: Duration::from_secs(120),
        ..Plan::new(seed, [&NAMESPACE[..], &CHAIN].concat(), genesis().digest(), 1_000)
    };
    let (one, other) = (all[2].clone(), all[3].clone());
    let applications = all.iter().map(|one| one.clone() as Arc<dyn Application>).collect();
    let done = move || one.height() >= blocks && other.height() >= blocks;
    let ended = run(plan, secrets(), applications, done);
    if liars == 2 {
        assert!(ended.is_ok(), "seed {seed}: {ended:?}");
    }
    if let Ok(trace) = ended {
        assert_eq!(trace.doubles, [], "the honest vote once");
    }
    (all[2].certified(), all[3].certified())
}

fn key(signer: usize) -> Signer {
    Signer::Validator(secrets()[signer].public_key().to_compressed())
}

#[test]
fn with_one_liar_more_and_a_cut_network_the_chain_forks_and_the_certificates_name_them() {
    let trust = TrustRoot::of_set("cn-test-1", CHAIN, set());
    for seed in 0..10 {
        let (ours, theirs) = halves(seed, 2, BLOCKS);
        let mut named = false;
        for (one, other) in ours.iter().zip(&theirs) {
            assert_eq!(one.header.height, other.header.height);
            assert_ne!(one.header, other.header, "all blocks differ, seed {seed}");
            for half in [one, other] {
                let certificate = Certificate::decode(&half.certificate).unwrap();
                verify_final(&half.header, &certificate, &set()).unwrap();
            }
            let evidence = Evidence::Fork { first: one.clone(), second: other.clone() };
            let evidence = Evidence::decode(&evidence.encode()).unwrap();
            let verdict = evidence.verify(&trust).unwrap();
            assert_eq!((verdict.kind, verdict.liars_min), ("fork", 2));
            let view = |half: &Certified| Finalized::decode(&half.certificate).unwrap().view;
            if view(one) == view(other) {
                let mut liars = verdict.liars.clone();
                liars.sort();
                let mut expected = vec![key(0), key(1)];
                expected.sort();
                assert_eq!(liars, expected, "seed {seed}");
                named = true;
            }
        }
        assert!(named, "in one view both halves had a block, seed {seed}");
    }
}

#[test]
fn a_witness_that_followed_one_half_refuses_the_other() {
    let trust = TrustRoot::of_set("cn-test-1", CHAIN, set());
    let (ours, theirs) = halves(1, 2, BLOCKS);
    let link = |half: &Certified| Link {
        header: half.header,
        certificate: half.certificate.clone(),
        next: None,
    };
    let mut witness = Follower::new(&trust).unwrap();
    let first = Link { header: genesis(), certificate: Vec::new(), next: None };
    witness.take(&first).unwrap();
    let mut other = witness.clone();
    for (one, two) in ours.iter().zip(&theirs) {
        // Whoever sees this half alone finds nothing wrong with it.
        other.take(&link(two)).unwrap();
        if witness.size() > 1 {
            assert_eq!(witness.take(&link(two)).unwrap_err().step, Step::History);
        }
        witness.take(&link(one)).unwrap();
        assert_eq!(witness.take(&link(two)).unwrap_err().step, Step::History, "at its height");
    }
    let (signed, shown) = (witness.newest_final().unwrap(), other.newest_final().unwrap());
    assert_eq!(signed.size.min(shown.size), BLOCKS as u64 + 1);
    assert_ne!(signed.root, shown.root);
}

#[test]
fn with_as_many_liars_as_are_allowed_a_cut_network_makes_one_history_final() {
    for seed in 0..10 {
        let (ours, theirs) = halves(seed, 1, BLOCKS);
        assert!(ours.len().max(theirs.len()) >= BLOCKS, "the larger half goes on, seed {seed}");
        let same = ours.iter().zip(&theirs).all(|(one, other)| one.header == other.header);
        assert!(same, "seed {seed}");
    }
}

#[test]
fn a_double_vote_of_the_engine_is_evidence_that_verifies() {
    let all: Vec<Arc<Headers>> = (0..5).map(|number| Arc::new(Headers::new(number))).collect();
    let role = Role::Equivocates { first: Side::of([1, 2]), second: Side::of([2, 3]) };
    let plan = Plan {
        events: (0..4).map(|one| (Duration::ZERO, Event::Start(one))).collect(),
        roles: vec![(0, role)],
        ..Plan::new(5, [&NAMESPACE[..], &CHAIN].concat(), genesis().digest(), 1_000)
    };
    let watched = all[3].clone();
    let applications = all.iter().map(|one| one.clone() as Arc<dyn Application>).collect();
    let trace = run(plan, secrets(), applications, move || watched.height() >= BLOCKS).unwrap();
    let trust = TrustRoot::of_set("cn-test-1", CHAIN, set());
    let liar: PublicKey = secrets()[0].public_key();
    assert!(!trace.evidence.is_empty());
    for (by, evidence) in &trace.evidence {
        assert_eq!(*by, 2, "who hears both selves");
        let verdict = Evidence::decode(&evidence.encode()).unwrap().verify(&trust).unwrap();
        assert_eq!(verdict.liars, [Signer::Validator(liar.to_compressed())]);
    }
}
