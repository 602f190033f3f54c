//! What is taken from the votes on disk, for every place at which a validator can have stopped.

use super::{GENESIS, NAMESPACE, secret};
use crate::digest::Digest;
use crate::finalization::{Finalization, sorted};
use crate::journal::{Memory, WRITE_BUFFER, page_cache, partition, recall};
use crate::scheme::Scheme;
use commonware_codec::{Decode, Encode};
use commonware_consensus::Viewable;
use commonware_consensus::simplex::types::{
    Artifact, Certificate, Finalize, Notarization, Notarize, Nullify, Proposal,
};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_cryptography::certificate::Verifier as _;
use commonware_parallel::Sequential;
use commonware_runtime::{Runner as _, Supervisor as _, deterministic};
use commonware_storage::journal::segmented::variable::{Config, Journal};
use commonware_utils::iter::NonEmpty;
use std::path::Path;

type Entry = Artifact<Scheme, Digest>;

fn scheme(validators: u8) -> Scheme {
    let keys: Vec<_> = (1..=validators).map(|seed| secret(seed).public_key()).collect();
    Scheme::signer(NAMESPACE, sorted(&keys).unwrap(), secret(1)).unwrap()
}

fn proposal(view: u64) -> Proposal<Digest> {
    let round = Round::new(Epoch::new(0), View::new(view));
    let block = if view == 0 { GENESIS } else { [u8::try_from(view).unwrap(); 32] };
    Proposal::new(round, View::new(view.saturating_sub(1)), Digest(block))
}

fn notarize(view: u64) -> Entry {
    Artifact::Notarize(Notarize::sign(&scheme(1), proposal(view)).unwrap())
}

fn notarization(view: u64) -> Entry {
    let vote = Notarize::sign(&scheme(1), proposal(view)).unwrap();
    let votes = NonEmpty::new(vote, std::iter::empty().take(0));
    Artifact::Notarization(
        Notarization::from_owned_notarizes(&scheme(1), votes, &Sequential).unwrap(),
    )
}

fn nullify(view: u64) -> Entry {
    Artifact::Nullify(Nullify::sign::<Digest>(&scheme(1), proposal(view).round).unwrap())
}

fn finalize(view: u64) -> Entry {
    Artifact::Finalize(Finalize::sign(&scheme(1), proposal(view)).unwrap())
}

fn finalization(view: u64) -> Finalization {
    let vote = Finalize::sign(&scheme(1), proposal(view)).unwrap();
    let votes = NonEmpty::new(vote, std::iter::empty().take(0));
    Finalization::from_owned_finalizes(&scheme(1), votes, &Sequential).unwrap()
}

/// Writes a journal and reads it back as a member of a set of `validators`.
fn after(validators: u8, entries: Vec<Entry>) -> Memory {
    deterministic::Runner::default().start(|context| async move {
        let config = Config {
            partition: partition(0),
            compression: None,
            codec_config: 1,
            page_cache: page_cache(),
            write_buffer: WRITE_BUFFER,
        };
        let mut journal = Journal::init(context.child("writer"), config).await.unwrap();
        for entry in entries {
            journal = journal.append(entry.view().get(), &entry).await.unwrap().0;
        }
        drop(journal.sync_all().await.unwrap());
        let scheme = scheme(validators);
        let reader = context.child("reader");
        recall(reader, &partition(0), &scheme, Path::new("votes"), 0).await.unwrap()
    })
}

fn due(memory: &Memory) -> Vec<u64> {
    let read = |bytes: &Vec<u8>| {
        let made = Certificate::<Scheme, Digest>::decode_cfg(bytes.clone(), &1).unwrap();
        assert!(made.verify(&mut rand::rng(), &scheme(1), &Sequential));
        assert!(matches!(made, Certificate::Notarization(_)));
        made.view().get()
    };
    memory.due.iter().map(read).collect()
}

#[test]
fn nothing_written_is_said_to_be_nothing() {
    let memory = after(1, vec![]);
    assert!(memory.missing && memory.due.is_empty() && memory.finalizations.is_empty());
}

#[test]
fn a_finalize_vote_of_a_set_of_one_is_a_finalization() {
    let memory = after(1, vec![notarize(1), notarization(1), finalize(1)]);
    assert!(!memory.missing);
    assert_eq!(memory.finalizations[&1].encode(), finalization(1).encode());
    assert!(due(&memory).is_empty());
}

#[test]
fn a_proposal_that_was_voted_for_is_taken_up() {
    let done = [notarize(1), notarization(1), finalize(1)];
    let memory = after(1, [&done[..], &[notarize(2)]].concat());
    assert_eq!(memory.finalizations.keys().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(due(&memory), [2]);
}

#[test]
fn what_was_settled_is_left_alone() {
    let last = Artifact::Finalization(finalization(1));
    let memory = after(1, vec![notarize(1), last.clone(), notarize(2), notarization(2)]);
    assert!(due(&memory).is_empty(), "the engine has the certificate");
    let memory = after(1, vec![last, notarize(2), nullify(2)]);
    assert!(due(&memory).is_empty(), "the validator gave the view up");
    assert_eq!(memory.finalizations.len(), 1);
}

#[test]
fn one_vote_of_many_is_nothing_yet() {
    let memory = after(2, vec![notarize(1), finalize(1), notarize(2)]);
    assert!(memory.finalizations.is_empty() && memory.due.is_empty());
    assert_eq!(scheme(2).certificate_codec_config(), 2);
}
