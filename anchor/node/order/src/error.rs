//! Names what can go wrong with ordering, by class: the input is refused, or the process must stop.
//!
//! There is no Busy class here: the engine waits, it never pushes back.

use std::path::PathBuf;
use std::time::Duration;

/// Why ordering did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The configuration or an input is wrong; nothing was changed.
    #[error("ordering refused: {0}")]
    Refused(#[from] Refused),
    /// The process no longer knows its own state; stop it, restart recovers.
    #[error("ordering failed: {0}")]
    Fatal(#[from] Fatal),
}

/// What is wrong with a configuration or a finalization.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// The validator set is empty or too large.
    #[error(
        "order.validators has {count} keys, from 1 to {limit} are allowed; correct the genesis file"
    )]
    Validators {
        /// How many were given.
        count: usize,
        /// Most that are allowed.
        limit: u32,
    },
    /// A validator is listed twice.
    #[error("order.validators lists the key {key} twice; one validator has one vote, remove one")]
    DuplicateValidator {
        /// The key, compressed, in hexadecimal.
        key: String,
    },
    /// The secret key does not belong to the set.
    #[error(
        "the key {key} of this node is not among the validators of this epoch; give the node the \
         secret key of one of them, have this key voted in, or name it in peers.addresses of every \
         node to follow without a vote"
    )]
    NotAValidator {
        /// The key, compressed, in hexadecimal.
        key: String,
    },
    /// The only validator has lost its votes, and nobody else can make a block.
    #[error(
        "the key {key} is the only validator of this epoch, and its votes are not in {directory}: it \
         was restored from a snapshot, may have voted since, and has nobody to follow. End it, put \
         back its own {directory} as it was last, and start it again. Without those votes no block \
         can follow in this chain; what it has certified stays good",
        directory = directory.display()
    )]
    AloneWithoutVotes {
        /// The key, compressed, in hexadecimal.
        key: String,
        /// The folder of the engine.
        directory: PathBuf,
    },
    /// Who never votes has a key that must.
    #[error(
        "the key {key} of this observer is among the validators of this epoch, which would wait for \
         a vote that never comes; give the observer a key of its own (piaogen keygen), or run it as \
         a validator"
    )]
    Votes {
        /// The key, compressed, in hexadecimal.
        key: String,
    },
    /// Who never votes has nobody to follow.
    #[error(
        "an observer follows its peers, and nothing says where they are; give peers.listen and \
         peers.addresses"
    )]
    NobodyToFollow,
    /// More than one validator, and no network between them.
    #[error(
        "order.validators has {count} keys, and nothing says how they reach each other; give \
         peers.listen and peers.addresses"
    )]
    NoNetwork {
        /// How many were given.
        count: usize,
    },
    /// A validator has no address.
    #[error("peers.addresses has no address for the validator {key}; add it")]
    NoAddress {
        /// The key, compressed, in hexadecimal.
        key: String,
    },
    /// An address cannot be read.
    #[error("peers.addresses: {address:?} of {key} is not host:port; correct it")]
    Address {
        /// The key, compressed, in hexadecimal.
        key: String,
        /// What was given.
        address: String,
    },
    /// Nobody can listen there.
    #[error("peers.listen = {address} cannot be listened on: {reason}; choose another")]
    Listen {
        /// What was given.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The namespace is empty or too long.
    #[error("order.namespace is {length} bytes, from 1 to {limit} are allowed; choose another")]
    Namespace {
        /// Its length in bytes.
        length: usize,
        /// Most bytes allowed.
        limit: usize,
    },
    /// The timeouts contradict each other.
    #[error(
        "order.certification_timeout ({certification:?}) must be above order.leader_timeout \
         ({leader:?}), and that above zero; raise it"
    )]
    Timeouts {
        /// The leader timeout.
        leader: Duration,
        /// The certification timeout.
        certification: Duration,
    },
    /// How many views are kept is out of range.
    #[error("order.view_retention is {value}, from {minimum} to {maximum} are allowed")]
    ViewRetention {
        /// What was given.
        value: u64,
        /// Least that is allowed.
        minimum: u64,
        /// Most that is allowed.
        maximum: u64,
    },
    /// The folder cannot be used.
    #[error("folder {directory} of the votes cannot be used: {reason}; check path and permissions",
        directory = directory.display())]
    Directory {
        /// The folder.
        directory: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Another process orders with the same votes.
    #[error("folder {directory} is in use by another process; stop that one first",
        directory = directory.display())]
    InUse {
        /// The folder.
        directory: PathBuf,
    },
    /// The record of what was signed cannot be used.
    #[error(
        "record {path} of what this key has signed cannot be used: {reason}; check path and disk, \
         do not delete it: without it an older copy of the votes is not recognized",
        path = path.display()
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process votes with the same key.
    #[error("record {path} is in use by another process with the same key; stop that one first",
        path = path.display())]
    KeyInUse {
        /// The file.
        path: PathBuf,
    },
    /// The votes are an older copy.
    #[error(
        "this key has voted up to view {view} of epoch {epoch} ({path}), and the votes in \
         {directory} do not reach it: they are an older copy, and voting on could fork the chain; \
         restore the newest. If it is lost, this key must not vote in this epoch again: have \
         another voted in",
        directory = directory.display(), path = path.display()
    )]
    Older {
        /// The folder of the engine.
        directory: PathBuf,
        /// The record.
        path: PathBuf,
        /// The epoch of the last vote.
        epoch: u64,
        /// The view of the last vote.
        view: u64,
    },
    /// Blocks were finalized, and the votes that led to them are gone.
    #[error(
        "{directory} holds no votes, but the application has finalized view {view}; voting again \
         without them could fork the chain: restore the folder, or start from an empty data folder",
        directory = directory.display()
    )]
    VotesMissing {
        /// The folder of the engine.
        directory: PathBuf,
        /// The view that the application has finalized.
        view: u64,
    },
    /// The bytes are no finalization.
    #[error("finalization of {length} bytes cannot be read: {reason}")]
    Malformed {
        /// How many bytes were given.
        length: usize,
        /// What the decoder said.
        reason: String,
    },
    /// The finalization is of another epoch.
    #[error("finalization is of epoch {found}, expected epoch {expected}")]
    Epoch {
        /// The epoch found.
        found: u64,
        /// The epoch expected.
        expected: u64,
    },
    /// The finalization is not signed by a quorum of the set.
    #[error(
        "finalization of view {view} is not signed by {quorum} of {validators} validators over \
         these bytes; check the chain id and the validator set"
    )]
    NotSigned {
        /// Its view.
        view: u64,
        /// Signatures needed.
        quorum: u32,
        /// Validators in the set.
        validators: usize,
    },
}

/// What makes it impossible to go on.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Fatal {
    /// The votes on disk cannot be read.
    #[error("votes in {directory} cannot be read: {reason}; check the disk and restore the folder",
        directory = directory.display())]
    Journal {
        /// The folder of the engine.
        directory: PathBuf,
        /// What the storage said.
        reason: String,
    },
    /// The record of what was signed cannot be written.
    #[error("record {path} of what was signed cannot be written: {reason}; check the disk",
        path = path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The key does not sign.
    #[error("the key of this validator does not sign: {reason}; no vote is cast without it")]
    Signing {
        /// What the key's device said.
        reason: String,
    },
    /// A bit of the votes on disk has flipped.
    #[error(
        "the votes of view {view} in {directory} are damaged: a bit of what was written has flipped; \
         who votes without them may vote twice. Let this node follow, with another key that the \
         others name among their peers, until a block of a later view is final; then start it with \
         its own key again",
        directory = directory.display()
    )]
    VotesDamaged {
        /// The folder of the engine.
        directory: PathBuf,
        /// Whose votes.
        view: u64,
    },
    /// A block is final and its body is nowhere.
    #[error(
        "block {block} of view {view} is final and its body is not here; there is nobody to ask in \
         a set of one: restore the data folder"
    )]
    BodyMissing {
        /// The block.
        block: String,
        /// The view.
        view: u64,
    },
    /// Two blocks are final at one view.
    #[error(
        "view {view} has two final blocks, {ours} here and {theirs} in the application; the data \
         of two chains is mixed, or a key signed twice: do not restart, find out which"
    )]
    Fork {
        /// The view.
        view: u64,
        /// The block that the votes on disk finalized.
        ours: String,
        /// The block that the application finalized.
        theirs: String,
    },
    /// The engine or the application stopped in the middle of work.
    #[error("{what} stopped: {reason}; restart recovers")]
    Died {
        /// Which part.
        what: &'static str,
        /// Its last words.
        reason: String,
    },
}
