//! Nothing is signed twice: not with an older copy of the votes, not by two processes, not with
//! other bytes by a key that draws its nonces, and not after the key has failed once.

use super::{Chain, GENESIS, NAMESPACE, PATIENCE, check, secret};
use crate::digest::Digest;
use crate::finalization::sorted;
use crate::journal::{WRITE_BUFFER, page_cache, partition, recall};
use crate::key::Key;
use crate::own::Own;
use crate::scheme::Scheme;
use crate::signed::{Kept, Place};
use crate::{Application, Fatal, OrderConfig, OrderError, Refused, start};
use commonware_codec::Encode;
use commonware_consensus::Viewable;
use commonware_consensus::simplex::types::{Artifact, Finalize, Notarize, Nullify, Proposal};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_cryptography::certificate::Scheme as _;
use commonware_runtime::{Runner as _, Supervisor as _, deterministic};
use commonware_storage::journal::segmented::variable::{Config, Journal};
use piaogen_crypto::sm2::{PublicKey, SecretKey, SignError, Signature, Signer};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A key in a device: another nonce each time, and gone after so many signatures.
#[derive(Debug)]
struct Device {
    key: SecretKey,
    signed: AtomicU64,
    until: u64,
}

impl Device {
    fn new(until: u64) -> Arc<Device> {
        Arc::new(Device { key: secret(1), signed: AtomicU64::new(0), until })
    }
}

impl Signer for Device {
    fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    fn try_sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        let number = self.signed.fetch_add(1, Ordering::SeqCst);
        if number >= self.until {
            return Err(SignError { reason: "the token was removed".into() });
        }
        Ok(self.key.sign_with_entropy(message, &number.to_be_bytes()))
    }
}

fn config(folder: &Path) -> OrderConfig {
    let validators = vec![secret(1).public_key()];
    OrderConfig::new(NAMESPACE, validators, folder.join("order"), GENESIS)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn replace(folder: &Path, with: &Path) {
    std::fs::remove_dir_all(folder).unwrap();
    copy(with, folder);
}

fn recorded(folder: &Path) -> Place {
    let kept = Kept::open(&config(folder).signed, &Key::from(secret(1).public_key())).unwrap();
    kept.record.last()
}

#[test]
fn an_older_copy_of_the_votes_is_refused_and_the_newest_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let chain = Arc::new(Chain::default());
    let handle = start(config(folder), &secret(1), chain.clone()).unwrap();
    chain.finals(10);
    handle.stop().unwrap();
    let (order, older, newest) =
        (folder.join("order"), folder.join("older"), folder.join("newest"));
    copy(&order, &older);
    let before = recorded(folder);

    let handle = start(config(folder), &secret(1), chain.clone()).unwrap();
    chain.finals(chain.height() + 10);
    handle.stop().unwrap();
    copy(&order, &newest);
    assert!(recorded(folder) > before, "the record rises");

    // Votes and application as they were then: this is what a restored backup looks like.
    replace(&order, &older);
    let error = start(config(folder), &secret(1), Arc::new(Chain::default())).unwrap_err();
    let place = recorded(folder);
    let OrderError::Refused(Refused::Older { epoch: 0, view, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(view, place.view);
    // Nothing at all is older as well.
    std::fs::remove_dir_all(&order).unwrap();
    let error = start(config(folder), &secret(1), Arc::new(Chain::default())).unwrap_err();
    assert!(matches!(error, OrderError::Refused(Refused::Older { .. })), "{error}");

    replace(&order, &newest);
    let finalized = chain.finals(0).pop().map(|block| block.finalization);
    let handle =
        start(OrderConfig { finalized, ..config(folder) }, &secret(1), chain.clone()).unwrap();
    let finals = chain.finals(chain.height() + 5);
    handle.stop().unwrap();
    check(&finals, &[secret(1).public_key()]);
}

#[test]
fn who_has_signed_nothing_in_an_epoch_needs_no_votes_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let chain = Arc::new(Chain::default());
    let handle = start(config(folder), &secret(1), chain.clone()).unwrap();
    chain.finals(5);
    handle.stop().unwrap();
    let finalized = chain.finals(0).pop().map(|block| block.finalization);
    // Blocks were fetched, and the process ended before it voted. Without a record nobody knows.
    let resumed = |signed: &str| {
        let (directory, signed) = (folder.join(signed).join("order"), folder.join(signed));
        OrderConfig { directory, signed, finalized: finalized.clone(), ..config(folder) }
    };
    let error = start(resumed("unknown"), &secret(1), chain.clone()).unwrap_err();
    assert!(matches!(error, OrderError::Refused(Refused::VotesMissing { .. })), "{error}");
    drop(Kept::open(&folder.join("known"), &Key::from(secret(1).public_key())).unwrap());
    let handle = start(resumed("known"), &secret(1), chain.clone()).unwrap();
    chain.finals(chain.height() + 5);
    handle.stop().unwrap();
    // Now it has voted.
    std::fs::remove_dir_all(folder.join("known").join("order")).unwrap();
    let error = start(resumed("known"), &secret(1), chain.clone()).unwrap_err();
    let refused = |error: &OrderError| {
        matches!(error, OrderError::Refused(Refused::VotesMissing { .. } | Refused::Older { .. }))
    };
    assert!(refused(&error), "{error}");
}

#[test]
fn what_is_recorded_as_final_stands_for_votes_that_are_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let chain = Arc::new(Chain::default());
    let handle = start(config(folder), &secret(1), chain.clone()).unwrap();
    chain.finals(5);
    handle.stop().unwrap();
    copy(&folder.join("order"), &folder.join("older"));
    let finalized = |chain: &Chain| chain.finals(0).pop().map(|block| block.finalization);
    let resumed = OrderConfig { finalized: finalized(&chain), ..config(folder) };
    let handle = start(resumed, &secret(1), chain.clone()).unwrap();
    chain.finals(chain.height() + 5);
    handle.stop().unwrap();
    // As after the block of the last vote became final: nothing is left that could be signed again.
    replace(&folder.join("order"), &folder.join("older"));
    let last = crate::Finalized::decode(&finalized(&chain).unwrap()).unwrap();
    let resumed = OrderConfig { finalized: finalized(&chain), ..config(folder) };
    let outcome = start(resumed, &secret(1), chain.clone());
    if recorded_view(&outcome) > last.view {
        // It was stopped between a vote and its block: then the copy is refused.
        assert!(outcome.is_err());
        return;
    }
    let handle = outcome.unwrap();
    let finals = chain.finals(chain.height() + 5);
    handle.stop().unwrap();
    check(&finals, &[secret(1).public_key()]);
}

/// The view that a refusal names; 0 without one.
fn recorded_view<T>(outcome: &Result<T, OrderError>) -> u64 {
    match outcome {
        Err(OrderError::Refused(Refused::Older { view, .. })) => *view,
        _ => 0,
    }
}

#[test]
fn an_older_epoch_begins_only_with_all_votes_of_the_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let chain = Arc::new(Chain::default());
    let later = OrderConfig { epoch: 3, ..config(folder) };
    let handle = start(later, &secret(1), chain.clone()).unwrap();
    chain.finals(5);
    handle.stop().unwrap();
    assert_eq!(recorded(folder).epoch, 3);
    // The application lost its data, the votes are all there: it begins again.
    let handle = start(config(folder), &secret(1), Arc::new(Chain::default())).unwrap();
    handle.stop().unwrap();
    std::fs::remove_dir_all(folder.join("order/votes/epoch-3")).unwrap();
    let error = start(config(folder), &secret(1), Arc::new(Chain::default())).unwrap_err();
    assert!(matches!(error, OrderError::Refused(Refused::Older { epoch: 3, .. })), "{error}");
}

#[test]
fn a_record_that_is_missing_is_made_from_the_votes_and_two_processes_are_one_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let chain = Arc::new(Chain::default());
    let handle = start(config(folder), &secret(1), chain.clone()).unwrap();
    chain.finals(5);
    // Another folder of votes, the same record: two processes with one key.
    let twin = OrderConfig { directory: folder.join("twin"), ..config(folder) };
    let error = start(twin, &secret(1), Arc::new(Chain::default())).unwrap_err();
    assert!(matches!(error, OrderError::Refused(Refused::KeyInUse { .. })), "{error}");
    handle.stop().unwrap();
    let before = recorded(folder);
    std::fs::remove_dir_all(folder.join("order.signed")).unwrap();
    let finalized = chain.finals(0).pop().map(|block| block.finalization);
    chain.set(|state| state.idle = true);
    let handle =
        start(OrderConfig { finalized, ..config(folder) }, &secret(1), chain.clone()).unwrap();
    handle.stop().unwrap();
    assert!(recorded(folder) >= before, "what the votes say is in the new record");
}

#[test]
fn a_record_that_is_broken_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let signed = folder.join("order.signed");
    std::fs::create_dir_all(&signed).unwrap();
    let chain = Arc::new(Chain::default());
    let key = Key::from(secret(1).public_key());
    drop(Kept::open(&signed, &key).unwrap());
    let path = signed.join(format!("{key}.signed"));
    std::fs::write(&path, b"").unwrap();
    let error = start(config(folder), &secret(1), chain).unwrap_err();
    assert!(matches!(error, OrderError::Refused(Refused::Record { .. })), "{error}");
}

fn proposal(view: u64) -> Proposal<Digest> {
    let round = Round::new(Epoch::new(0), View::new(view));
    Proposal::new(round, View::new(view - 1), Digest([7; 32]))
}

fn device_scheme(device: Arc<Device>) -> Scheme {
    let keys: Vec<_> = (1..=4).map(|seed| secret(seed).public_key()).collect();
    let own = Own::from(device as Arc<dyn Signer>);
    Scheme::signer(NAMESPACE, sorted(&keys).unwrap(), own).unwrap()
}

#[test]
fn a_vote_is_cast_again_with_the_same_bytes_also_after_a_restart() {
    let device = Device::new(u64::MAX);
    let signed = |message: &[u8]| device.try_sign(message).unwrap();
    assert_ne!(signed(b"vote"), signed(b"vote"), "the device draws its nonces");
    let scheme = device_scheme(device.clone());
    let cast = |scheme: &Scheme| {
        [
            Artifact::Notarize(Notarize::sign(scheme, proposal(9)).unwrap()),
            Artifact::Nullify(Nullify::sign::<Digest>(scheme, proposal(9).round).unwrap()),
            Artifact::Finalize(Finalize::sign(scheme, proposal(8)).unwrap()),
        ]
    };
    let first = cast(&scheme);
    let bytes = first.each_ref().map(|vote| vote.encode().to_vec());
    assert_eq!(cast(&scheme).map(|vote| vote.encode().to_vec()), bytes);
    // Another process knows what the first wrote, and nothing else.
    let other = device_scheme(device.clone());
    assert_ne!(cast(&other).map(|vote| vote.encode().to_vec()), bytes);
    let restarted = device_scheme(device);
    let reader = restarted.clone();
    deterministic::Runner::default().start(|context| async move {
        let config = Config {
            partition: partition(0),
            compression: None,
            codec_config: 4,
            page_cache: page_cache(),
            write_buffer: WRITE_BUFFER,
        };
        let mut journal = Journal::init(context.child("writer"), config).await.unwrap();
        for vote in first {
            journal = journal.append(vote.view().get(), &vote).await.unwrap().0;
        }
        drop(journal.sync_all().await.unwrap());
        let memory =
            recall(context.child("reader"), &partition(0), &reader, Path::new("votes"), 0).await;
        let memory = memory.unwrap();
        assert!(memory.reaches(9) && !memory.reaches(10));
    });
    assert_eq!(cast(&restarted).map(|vote| vote.encode().to_vec()), bytes);
}

#[test]
fn after_a_failure_nothing_is_signed_any_more() {
    let device = Device::new(1);
    let own = Own::from(device.clone() as Arc<dyn Signer>);
    let failures = Arc::new(AtomicU64::new(0));
    let counter = failures.clone();
    own.on_failure(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let first = own.vote(b"ns", b"a").unwrap();
    assert_eq!(own.vote(b"ns", b"b"), None);
    assert_eq!(own.vote(b"ns", b"b"), None, "a vote that failed is not cast again");
    assert_eq!(own.sign(b"ns", b"c"), None);
    assert_eq!(own.vote(b"ns", b"a"), Some(first), "what was said may be repeated");
    assert_eq!(device.signed.load(Ordering::SeqCst), 2, "the device is left alone");
    assert_eq!(failures.load(Ordering::SeqCst), 1);
    let keys = [secret(1).public_key()];
    let silent = Scheme::signer(NAMESPACE, sorted(&keys).unwrap(), own).unwrap();
    assert!(silent.me().is_some() && Notarize::sign(&silent, proposal(9)).is_none());
}

#[test]
fn a_token_that_is_removed_stops_the_validator_and_it_goes_on_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let chain = Arc::new(Chain::default());
    let handle = start(config(folder), Device::new(20) as Arc<dyn Signer>, chain.clone()).unwrap();
    let begin = Instant::now();
    while handle.failed().is_none() {
        assert!(begin.elapsed() < PATIENCE, "it did not say so");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(matches!(handle.failed(), Some(Fatal::Signing { .. })), "{:?}", handle.failed());
    let _ = handle.stop();
    let height = chain.last().height;
    let finalized = chain.finals(0).pop().map(|block| block.finalization);
    let resumed = OrderConfig { finalized, ..config(folder) };
    let back = Device::new(u64::MAX) as Arc<dyn Signer>;
    let handle = start(resumed, back, chain.clone()).unwrap();
    let finals = chain.finals(height as usize + 5);
    handle.stop().unwrap();
    check(&finals, &[secret(1).public_key()]);
}
