//! Orders blocks: a BFT engine (commonware simplex) with SM2 votes and SM3 digests, behind one
//! trait.
//!
//! The engine agrees on a chain of digests. What a block holds, where it is kept and whether it is
//! good is the [`Application`]'s business; it makes blocks, checks those of others, and is told
//! when one is final. Nothing of the engine shows in this interface, so that another could stand
//! in.
//!
//! # What is final
//!
//! A block is final once [`Application::finalized`] was called with it. In a set of several, blocks
//! come in order of height, each with a finalization of its own: a block is only voted for by who
//! has the one below it final and executed, and what a validator has missed it gets from its peers.
//! In a set of one there is nobody to ask; should its disk have lost a finalization that was synced,
//! the block becomes final with the one above it, and its own finalization is empty.
//!
//! # A set of several
//!
//! Bodies of blocks travel between the validators, and final blocks to one that was away
//! (`exchange`; PROTOCOL section 5 has the rules and bytes). The same digest may be proposed again
//! in a later view, on top of itself, where a quorum's first votes were not followed by a
//! finalization: nothing is ever built on a block that is not final.
//!
//! # Epochs
//!
//! An engine orders one epoch with one set; the application ends it and starts the next. Validators
//! do not turn at one moment: votes and certificates travel under the number of their epoch, and
//! those of another are passed over. Final blocks are fetched up to the end of the epoch, no
//! further, since another set has signed those behind it. Whoever is not of the set, but has a
//! network, follows: it fetches final blocks and signs nothing. An observer does so always, and is
//! refused a key of the set. A set of one votes with nobody, but answers who follows it.
//!
//! # Restart
//!
//! Votes are written before they count, under [`OrderConfig::directory`] (`votes/` is the engine's,
//! `lock` is held by the running process); the folder must never be deleted or restored from a copy
//! while the key is in use. Should it be, the record under [`OrderConfig::signed`] shows it: a file
//! for each key, named `<compressed key in hexadecimal>.signed`, says how far this key has voted. It
//! is raised before the first vote of a view leaves; votes that do not reach it are refused at a
//! start. Of 1,024 bytes two slots count, at 0 and 512; a write goes to the older one, and of the
//! whole ones the higher counts:
//!
//! | field | bytes |
//! |---|---|
//! | magic | `PSg1` |
//! | epoch | u64, big-endian |
//! | view | u64, big-endian |
//! | check | 12: the beginning of SM3 of the 33 bytes of the compressed key and the 20 before |
//!
//! At a start the engine resumes above
//! [`OrderConfig::finalized`] and above what its own journal finalized. Votes that were damaged
//! since they were synced make the start fail ([`Fatal::VotesDamaged`]); a torn end does not. What
//! the journal finalized
//! later than that is handed to the application before [`start`] returns; of that, a set of several
//! gets from its peers what is not here.
//!
//! # Simulation
//!
//! With the feature `simulation`, the module of that name runs whole sets from a seed, with this
//! engine and the caller's applications, over simulated time, network and disk, and with validators
//! that lie. The example `set_speed` measures with it what a larger set costs.
//!
//! # Bytes of a finalization
//!
//! | field | bytes |
//! |---|---|
//! | epoch | varint, u64 |
//! | view | varint, u64, at least 1 |
//! | parent view | varint, u64; 0 is genesis |
//! | block | 32, the block's digest |
//! | validators | u64, big-endian, 8 bytes: n, the size of the set |
//! | bitmap | ⌈n/8⌉; validator i is bit i mod 8 (1 << (i % 8)) of byte i / 8; unused bits are 0 |
//! | count | varint, u32: signatures that follow, as many as bits are set, at least 1 |
//! | signatures | 64 each, r then s, big-endian, by ascending validator index |
//!
//! Nothing follows. A varint is 7 bits a byte, lowest first, the top bit set while more follow; the
//! shortest form is the only one.
//!
//! Each signature is SM2 (id `1234567812345678`) over
//! `varint(len(namespace ‖ "_FINALIZE")) ‖ namespace ‖ "_FINALIZE" ‖ proposal`, where proposal is
//! the first four fields as they stand. Validator i is the i-th of the set sorted by the 33
//! bytes of the compressed key. Of n validators n − ⌊(n − 1)/3⌋ must have signed.
//!
//! The test `finalization_has_the_documented_bytes` holds an example, made by the engine's encoder.

mod adapter;
mod digest;
mod engine;
mod error;
mod evidence;
mod exchange;
mod finalization;
mod journal;
mod key;
mod network;
mod own;
pub mod ports;
mod reach;
mod scheme;
mod signed;
mod silent;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
#[cfg(test)]
mod tests;
mod wire;
mod worker;

pub use error::{Fatal, OrderError, Refused};
pub use finalization::{FINALIZATION_BYTES_MAX, Finalized, sort_validators};
pub use scheme::VALIDATORS_MAX;

use piaogen_crypto::Digest;
use piaogen_crypto::sm2::{PublicKey, Signer};
use piaogen_verify::evidence::Evidence;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;

/// Which block a body is of, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The block's digest.
    pub block: Digest,
    /// Digest of the block that it stands on.
    pub parent: Digest,
    /// Its height, one above its parent's.
    pub height: u64,
    /// Whether it is the last of its epoch.
    pub closes: bool,
}

/// What the application says of a proposed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is good, and durable here.
    Good,
    /// It is not, and never will be.
    Bad,
    /// Something that it needs is not here yet; ask again.
    NotYet,
}

/// A final block, as validators hand it to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalBlock {
    /// Its body.
    pub body: Vec<u8>,
    /// Its finalization, in the engine's encoding.
    pub finalization: Vec<u8>,
}

/// What the node gives to ordering: makes and checks blocks.
///
/// `propose`, `check` and `finalized` are called from three threads, one call of each at a time; the
/// others from any, at any time, and they must be quick. A method that cannot do its work (a full
/// disk) panics: ordering then stops, and [`Handle::failed`] says why.
pub trait Application: Send + Sync + 'static {
    /// What the bytes say of themselves, and nothing else; `None` when they are no body of a block of
    /// this chain. A body that this takes is bound by the digest that it returns.
    fn identify(&self, body: &[u8]) -> Option<Identity>;

    /// Makes a block on top of `parent` and returns its digest, or `None` when there was nothing to
    /// propose within the wait; then it is asked again. The block is durable before this returns.
    ///
    /// `parent` is final, though it may not be recorded or executed yet. A block that is returned
    /// may be passed over (a timeout, a crash before the vote was written), so what it held is
    /// proposed again unless it is an ancestor of the parent of a later call.
    /// May wait, best not longer than a second or two: `stop` waits for it.
    fn propose(&self, view: u64, parent: Digest) -> Option<Digest>;

    /// Checks a block that was proposed; it is durable here when this returns `Good`.
    ///
    /// Where the block is `notarized`, a quorum has found it good in this view. Then the verdict must
    /// be the same for all who have the same stream, now or later: what depends on this validator
    /// alone, such as its clock, was for the quorum to judge. Else part of the set may stand for ever
    /// at a view that the rest has left.
    ///
    /// May wait a little for what is not here yet, best not longer than a tenth of a second.
    fn check(&self, view: u64, body: &[u8], notarized: bool) -> Verdict;

    /// The body of a block that was proposed or became final not long ago, if it is here.
    fn body(&self, block: Digest) -> Option<Vec<u8>>;

    /// The last block that is recorded as final; at the beginning, genesis.
    fn last(&self) -> Identity;

    /// Final blocks from a height on, in order, without gaps; none where that height is not final
    /// here. At most `most`, and of `bytes` bytes together unless the first is longer.
    fn finals(&self, from: u64, most: usize, bytes: usize) -> Vec<FinalBlock>;

    /// A block became final. Durable when this returns.
    ///
    /// Called too for a block that this validator never checked, when the others were faster.
    /// Heights rise by one from call to call. `finalization` is in the engine's encoding (see the
    /// crate's documentation).
    fn finalized(&self, block: Digest, body: &[u8], finalization: &[u8]);

    /// A validator voted twice in one view. Told once of each validator from a start on, and of no two
    /// votes whose signatures do not hold. The evidence names the votes and not how a verifier comes to
    /// the set of their epoch: who follows the headers adds that ([`Evidence::led_by`]).
    fn caught(&self, evidence: Evidence);
}

/// How validators reach each other.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Where this validator listens for the others.
    pub listen: SocketAddr,
    /// Where each of the others is reached, `host:port`: all of the set, and those who are of an
    /// earlier or a later one.
    pub peers: Vec<(PublicKey, String)>,
    /// Whether a peer may come from another address than that: names are used, or addresses are
    /// translated on the way. Its key is asked for either way.
    pub any_source: bool,
    /// How long a peer that sent something invalid is not listened to.
    pub blocked_for: Duration,
    /// Longest body of a block.
    pub body_bytes_max: usize,
}

/// How to order.
#[derive(Clone, Debug)]
pub struct OrderConfig {
    /// Name that separates this chain's signatures from those of any other: the chain id.
    pub namespace: Vec<u8>,
    /// Keys of the validators, in any order.
    pub validators: Vec<PublicKey>,
    /// Folder of the engine's votes, used by nothing else.
    pub directory: PathBuf,
    /// Folder of the records of what each key has signed; best on another disk than `directory`,
    /// and never restored together with it.
    pub signed: PathBuf,
    /// Number of the validator set.
    pub epoch: u64,
    /// Digest that the first block of the epoch stands on.
    pub genesis: Digest,
    /// Newest finalization that the application has recorded, as it was given to it.
    pub finalized: Option<Vec<u8>>,
    /// How long a leader may take to propose before its view is skipped.
    pub leader_timeout: Duration,
    /// How long a view may take from its beginning to a certificate before it is skipped.
    pub certification_timeout: Duration,
    /// How many views below the newest final one the engine remembers.
    pub view_retention: u64,
    /// How the validators reach each other, and who only follows. A set of one needs none.
    pub network: Option<NetworkConfig>,
    /// Whether this node may vote at all. One that may not is refused where its key is of the set.
    pub votes: bool,
    /// Whether to follow this epoch without a vote, though the key is one of its set: it may have
    /// voted before, and its votes are not here.
    pub abstains: bool,
}

/// Whether a folder that says how far keys have voted knows others, and not this one: who votes has
/// been given another key.
pub fn is_new_key(signed: &Path, key: &PublicKey) -> bool {
    signed::is_new(signed, &key.clone().into())
}

/// Begins the record of a key that has voted nowhere, so that it may vote in an epoch that has begun;
/// whether there was none before. Who calls this for a key that has voted lets it vote twice.
///
/// # Errors
/// `Refused` where the folder cannot be written, or another process votes with the key.
pub fn begin_record(signed: &Path, key: &PublicKey) -> Result<bool, Refused> {
    Ok(signed::Kept::open(signed, &key.clone().into())?.fresh)
}

/// Whether a folder has votes of an epoch.
pub fn has_votes(directory: &Path, epoch: u64) -> bool {
    directory.join(engine::VOTES).join(journal::partition(epoch)).exists()
}

impl OrderConfig {
    /// Defaults for a set of the given size: a validator that is alone waits for itself patiently,
    /// many skip a silent leader after two seconds.
    pub fn new(
        namespace: impl Into<Vec<u8>>,
        validators: Vec<PublicKey>,
        directory: impl Into<PathBuf>,
        genesis: Digest,
    ) -> Self {
        let patience = if validators.len() == 1 { 60 } else { 2 };
        let directory: PathBuf = directory.into();
        let mut signed = directory.clone().into_os_string();
        signed.push(".signed");
        Self {
            namespace: namespace.into(),
            validators,
            directory,
            signed: signed.into(),
            epoch: 0,
            genesis,
            finalized: None,
            leader_timeout: Duration::from_secs(patience),
            certification_timeout: Duration::from_secs(patience + patience / 2),
            view_retention: 64,
            network: None,
            votes: true,
            abstains: false,
        }
    }
}

/// Starts ordering on a thread of its own, after recovery; see the crate's documentation.
///
/// # Errors
/// `Refused` when the configuration, the key or `finalized` is wrong, or the votes are missing or an
/// older copy; a key that is not of the set is wrong where there is no network, one that is of it
/// where it never votes;
/// `Fatal` when the votes cannot be read or contradict the application.
pub fn start(
    config: OrderConfig,
    key: impl Into<Arc<dyn Signer>>,
    application: Arc<dyn Application>,
) -> Result<Handle, OrderError> {
    engine::start(config, key.into(), application)
}

/// Ordering that runs. Dropping it asks ordering to end without waiting.
#[derive(Debug)]
pub struct Handle {
    status: Arc<Status>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Why ordering ended by itself, if it did.
    pub fn failed(&self) -> Option<Fatal> {
        self.status.failure()
    }

    /// The highest view that this validator has seen.
    pub fn view(&self) -> u64 {
        self.status.view.load(Ordering::Relaxed)
    }

    /// The validators of the set, as this one sees them, in the order of certificates.
    pub fn peers(&self) -> Vec<Peer> {
        self.status.peers()
    }

    /// Ends ordering and waits until everything is written.
    ///
    /// # Errors
    /// What had gone wrong, if ordering had already failed.
    pub fn stop(mut self) -> Result<(), OrderError> {
        self.status.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.status.failure().map_or(Ok(()), |failure| Err(failure.into()))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.status.stop();
    }
}

/// A validator, as another sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its key.
    pub key: PublicKey,
    /// Whether this is the validator that is asked.
    pub me: bool,
    /// Whether there is a connection now.
    pub connected: bool,
    /// Whether it is not listened to, because it sent something invalid.
    pub blocked: bool,
    /// Votes of it that were counted since the start.
    pub votes: u64,
    /// The highest view in which it voted.
    pub view: u64,
    /// How many messages of it had to wait, because it sends more than a peer may: on each channel, in
    /// the order of PROTOCOL section 5.2.
    pub limited: [u64; 5],
}

/// What the network says of its peers, by key.
type Links = Box<dyn Fn() -> network::Seen + Send>;

/// What the threads of ordering tell each other.
#[derive(Default)]
struct Status {
    failure: Mutex<Option<Fatal>>,
    ending: AtomicBool,
    end: Notify,
    view: AtomicU64,
    me: Option<PublicKey>,
    votes: Mutex<Vec<Votes>>,
    links: Mutex<Option<Links>>,
    /// Compressed keys of those who voted twice.
    liars: Mutex<BTreeSet<[u8; 33]>>,
}

/// Votes of one validator.
#[derive(Clone, Debug)]
struct Votes {
    key: PublicKey,
    count: u64,
    view: u64,
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Status").field("failure", &self.failure()).finish_non_exhaustive()
    }
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is behind these locks is replaced or counted up, never half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Status {
    /// The status of a validator of this set, in the order of certificates.
    fn new(validators: Vec<PublicKey>, me: PublicKey) -> Self {
        let votes = validators.into_iter().map(|key| Votes { key, count: 0, view: 0 }).collect();
        Self { me: Some(me), votes: Mutex::new(votes), ..Self::default() }
    }

    fn stop(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.end.notify_one();
    }

    fn ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    async fn told_to_stop(&self) {
        self.end.notified().await;
    }

    fn fail(&self, failure: Fatal) {
        tracing::error!(%failure, "ordering ends");
        held(&self.failure).get_or_insert(failure);
        self.stop();
    }

    fn failure(&self) -> Option<Fatal> {
        held(&self.failure).clone()
    }

    fn saw(&self, view: u64) {
        self.view.fetch_max(view, Ordering::Relaxed);
    }

    fn voted(&self, validator: usize, view: u64) {
        self.saw(view);
        if let Some(votes) = held(&self.votes).get_mut(validator) {
            votes.count += 1;
            votes.view = votes.view.max(view);
        }
    }

    /// Whether this is the first evidence against a validator.
    fn is_new_liar(&self, evidence: &Evidence) -> bool {
        let Evidence::DoubleVote { key, epoch, view, .. } = evidence else { return false };
        let first = held(&self.liars).insert(key.to_compressed());
        if first {
            let validator = hex::encode(key.to_compressed());
            tracing::error!(%validator, epoch, view, "a validator voted twice in one view");
        }
        first
    }

    fn peers(&self) -> Vec<Peer> {
        let seen = held(&self.links).as_ref().map(|links| links()).unwrap_or_default();
        let peer = |votes: &Votes| {
            let name = hex::encode(votes.key.to_compressed());
            Peer {
                me: self.me.as_ref() == Some(&votes.key),
                connected: seen.connected.contains(&name),
                blocked: seen.blocked.contains(&name),
                limited: seen.limited.get(&name).copied().unwrap_or_default(),
                key: votes.key.clone(),
                votes: votes.count,
                view: votes.view,
            }
        };
        held(&self.votes).iter().map(peer).collect()
    }
}
