//! One validator on the real runtime, with its votes on disk.

use super::{Chain, GENESIS, NAMESPACE, PATIENCE, check, secret};
use crate::{Application, Fatal, FinalBlock, Finalized, OrderConfig, OrderError, Refused, start};
use crate::{Identity, Verdict};
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn config(directory: &Path) -> OrderConfig {
    let validators = vec![secret(1).public_key()];
    let signed = directory.join("signed");
    OrderConfig { signed, ..OrderConfig::new(NAMESPACE, validators, directory, GENESIS) }
}

fn keys() -> [PublicKey; 1] {
    [secret(1).public_key()]
}

#[test]
fn fifty_views_a_restart_and_fifty_more() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Arc::new(Chain::default());
    let begin = Instant::now();
    let handle = start(config(directory.path()), &secret(1), chain.clone()).unwrap();
    let finals = chain.finals(50);
    println!("50 views in {:?}", begin.elapsed());
    handle.stop().unwrap();
    check(&finals, &keys());

    let last = chain.finals(50).pop().unwrap();
    let count = chain.finals(50).len();
    let begin = Instant::now();
    let resumed = OrderConfig { finalized: Some(last.finalization), ..config(directory.path()) };
    let handle = start(resumed, &secret(1), chain.clone()).unwrap();
    let finals = chain.finals(count + 50);
    println!("restart and 50 views in {:?}", begin.elapsed());
    assert!(handle.failed().is_none());
    handle.stop().unwrap();
    check(&finals, &keys());
}

#[test]
fn what_the_application_missed_is_handed_to_it_again() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Arc::new(Chain::default());
    let handle = start(config(directory.path()), &secret(1), chain.clone()).unwrap();
    chain.finals(20);
    handle.stop().unwrap();
    // The application forgets the newest five, as if it had been killed before it wrote them.
    let finals = chain.finals(20);
    let kept = finals.len() - 5;
    forget(&chain, kept);
    chain.set(|state| state.idle = true);
    let finalized = Some(finals[kept - 1].finalization.clone());
    let resumed = OrderConfig { finalized, ..config(directory.path()) };
    let handle = start(resumed, &secret(1), chain.clone()).unwrap();
    assert_eq!(chain.finals(finals.len()), finals, "handed over before start returns");
    chain.set(|state| state.idle = false);
    check(&chain.finals(finals.len() + 5), &keys());
    handle.stop().unwrap();
}

/// The application goes back to a height; it still has the bodies that came after.
fn forget(chain: &Chain, height: usize) {
    chain.set(|state| {
        for block in state.blocks.split_off(height) {
            state.last = super::identity(&block.body).unwrap();
            state.bodies.insert(state.last.block, block.body);
        }
        state.last = super::identity(&state.blocks[height - 1].body).unwrap();
    });
}

#[test]
fn a_final_block_that_is_nowhere_is_fatal_in_a_set_of_one() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Arc::new(Chain::default());
    let handle = start(config(directory.path()), &secret(1), chain.clone()).unwrap();
    chain.finals(10);
    handle.stop().unwrap();
    forget(&chain, 5);
    chain.set(|state| state.bodies.clear());
    let finalized = Some(chain.finals(5)[4].finalization.clone());
    let resumed = OrderConfig { finalized, ..config(directory.path()) };
    let error = start(resumed, &secret(1), chain).unwrap_err();
    assert!(matches!(error, OrderError::Fatal(Fatal::BodyMissing { .. })), "{error}");
}

#[test]
fn an_idle_validator_waits_and_then_works_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Arc::new(Chain::default());
    chain.set(|state| state.idle = true);
    let handle = start(config(directory.path()), &secret(1), chain.clone()).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(chain.finals(0).is_empty());
    let begin = Instant::now();
    chain.set(|state| state.idle = false);
    let first = Finalized::decode(&chain.finals(1)[0].finalization).unwrap();
    println!("first block {:?} after the work came", begin.elapsed());
    assert_eq!(first.view, 1, "no views were spent on waiting");
    handle.stop().unwrap();
}

#[test]
fn lost_votes_and_other_chains_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Arc::new(Chain::default());
    let handle = start(config(directory.path()), &secret(1), chain.clone()).unwrap();
    // Not the newest, which may be of any view: the other chain below must have come to it.
    let finalized = Some(chain.finals(5).swap_remove(4).finalization);
    handle.stop().unwrap();

    let empty = tempfile::tempdir().unwrap();
    let lost = OrderConfig { finalized: finalized.clone(), ..config(empty.path()) };
    let error = start(lost, &secret(1), chain.clone()).unwrap_err();
    assert!(matches!(error, OrderError::Refused(Refused::VotesMissing { .. })), "{error}");

    // Where it abstains because it may have voted, nobody else can go on.
    let fresh = empty.path().join("order");
    let alone = OrderConfig { abstains: true, finalized: finalized.clone(), ..config(&fresh) };
    let error = start(alone, &secret(1), chain.clone()).unwrap_err();
    assert!(matches!(error, OrderError::Refused(Refused::AloneWithoutVotes { .. })), "{error}");
    assert!(!fresh.exists(), "so that what is put back finds its place");

    let other = OrderConfig {
        finalized: finalized.clone(),
        namespace: b"another".to_vec(),
        ..config(directory.path())
    };
    let error = start(other, &secret(1), chain.clone()).unwrap_err();
    assert!(matches!(error, OrderError::Refused(Refused::NotSigned { .. })), "{error}");

    // Another chain of the same validator: same views, other blocks.
    let second = tempfile::tempdir().unwrap();
    let chain = Arc::new(Chain::at([9; 32]));
    let config = OrderConfig { genesis: [9; 32], ..config(second.path()) };
    let handle = start(config.clone(), &secret(1), chain.clone()).unwrap();
    chain.finals(20);
    handle.stop().unwrap();
    let error = start(OrderConfig { finalized, ..config }, &secret(1), chain).unwrap_err();
    assert!(matches!(error, OrderError::Fatal(Fatal::Fork { .. })), "{error}");
}

#[test]
fn a_wrong_configuration_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let good = config(directory.path());
    let key = |seed| SecretKey::public_key(&secret(seed));
    let cases: Vec<(OrderConfig, &str)> = vec![
        (OrderConfig { validators: vec![], ..good.clone() }, "has 0 keys"),
        (OrderConfig { validators: vec![key(1), key(1)], ..good.clone() }, "twice"),
        (OrderConfig { validators: (1..=101).map(key).collect(), ..good.clone() }, "has 101 keys"),
        (OrderConfig { validators: vec![key(2)], ..good.clone() }, "not among"),
        (OrderConfig { validators: vec![key(1), key(2)], ..good.clone() }, "peers.listen"),
        (OrderConfig { namespace: vec![], ..good.clone() }, "0 bytes"),
        (OrderConfig { leader_timeout: Duration::from_secs(900), ..good.clone() }, "above"),
        (OrderConfig { view_retention: 3, ..good.clone() }, "from 32 to 4096"),
        (OrderConfig { finalized: Some(vec![1, 2]), ..good.clone() }, "2 bytes"),
    ];
    for (config, expected) in cases {
        let error = start(config, &secret(1), Arc::new(Chain::default())).unwrap_err();
        assert!(matches!(error, OrderError::Refused(_)));
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_folder_is_for_one_process_and_must_be_a_folder() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Arc::new(Chain::default());
    let handle = start(config(directory.path()), &secret(1), chain.clone()).unwrap();
    let error = start(config(directory.path()), &secret(1), chain.clone()).unwrap_err();
    assert!(matches!(error, OrderError::Refused(Refused::InUse { .. })), "{error}");
    handle.stop().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = start(config(&file), &secret(1), chain).unwrap_err();
    assert!(matches!(error, OrderError::Refused(Refused::Directory { .. })), "{error}");
}

#[test]
fn an_application_that_cannot_write_stops_ordering() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Arc::new(Chain::default());
    let handle = start(config(directory.path()), &secret(1), chain.clone()).unwrap();
    chain.finals(3);
    chain.set(|state| state.full = true);
    let until = Instant::now() + PATIENCE;
    while handle.failed().is_none() {
        assert!(Instant::now() < until, "the failure went unnoticed");
        std::thread::sleep(Duration::from_millis(20));
    }
    let error = handle.stop().unwrap_err();
    assert!(error.to_string().contains("the disk is full"), "{error}");
    // The next run goes on where it stopped.
    chain.set(|state| state.full = false);
    let before = chain.finals(3);
    let finalized = before.last().map(|block| block.finalization.clone());
    let resumed = OrderConfig { finalized, ..config(directory.path()) };
    let handle = start(resumed, &secret(1), chain.clone()).unwrap();
    check(&chain.finals(before.len() + 5), &keys());
    handle.stop().unwrap();
}

#[test]
fn a_slow_recorder_holds_proposals_back() {
    struct Slow(Chain);
    impl Application for Slow {
        fn identify(&self, body: &[u8]) -> Option<Identity> {
            self.0.identify(body)
        }
        fn propose(&self, view: u64, parent: piaogen_crypto::Digest) -> Option<[u8; 32]> {
            let ahead = view.saturating_sub(self.0.height() as u64);
            assert!(ahead < 25, "{ahead} views ahead of what is recorded");
            self.0.propose(view, parent)
        }
        fn check(&self, _: u64, _: &[u8], _: bool) -> Verdict {
            Verdict::NotYet
        }
        fn body(&self, block: [u8; 32]) -> Option<Vec<u8>> {
            self.0.body(block)
        }
        fn last(&self) -> Identity {
            self.0.last()
        }
        fn finals(&self, from: u64, most: usize, bytes: usize) -> Vec<FinalBlock> {
            Application::finals(&self.0, from, most, bytes)
        }
        fn finalized(&self, block: [u8; 32], body: &[u8], finalization: &[u8]) {
            std::thread::sleep(Duration::from_millis(40));
            self.0.finalized(block, body, finalization);
        }
        fn caught(&self, _: piaogen_verify::evidence::Evidence) {}
    }
    let directory = tempfile::tempdir().unwrap();
    let chain = Arc::new(Slow(Chain::default()));
    let handle = start(config(directory.path()), &secret(1), chain.clone()).unwrap();
    check(&chain.0.finals(60), &keys());
    handle.stop().unwrap();
}
