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
//! A block is final once [`Application::finalized`] was called with it **or with a block that
//! stands on it**. In a set of one every block gets a finalization of its own as long as the disk
//! keeps what was synced; with more validators a view may be skipped over after its block was built
//! upon, and then only the descendant's finalization shows it.
//!
//! # Restart
//!
//! Votes are written before they count, under [`OrderConfig::directory`] (`votes/` is the engine's,
//! `lock` is held by the running process); the folder must never be deleted or restored from a copy
//! while the key is in use. At a start the engine resumes above
//! [`OrderConfig::finalized`] and above what its own journal finalized, and everything that the
//! journal finalized later than that is handed to the application before [`start`] returns.
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
mod finalization;
mod journal;
mod key;
mod scheme;
mod silent;
#[cfg(test)]
mod tests;
mod worker;

pub use error::{Fatal, OrderError, Refused};
pub use finalization::{FINALIZATION_BYTES_MAX, Finalized, sort_validators};
pub use scheme::VALIDATORS_MAX;

use piaogen_crypto::Digest;
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;

/// What the node gives to ordering: makes and checks blocks.
///
/// `propose`, `verify` and `finalized` are called from three threads, one call of each at a time.
/// A method that cannot do its work (a full disk) panics: ordering then stops, and
/// [`Handle::failed`] says why.
pub trait Application: Send + Sync + 'static {
    /// Makes a block on top of `parent` and returns its digest, or `None` when there was nothing to
    /// propose within the wait; then it is asked again. The block is durable before this returns.
    ///
    /// `parent` need not be final yet: it is the newest block that the validators voted for. A
    /// block that is returned may be passed over (a timeout, a crash before the vote was written),
    /// so what it held is proposed again unless it is an ancestor of the parent of a later call.
    /// May wait, best not longer than a second or two: `stop` waits for it.
    fn propose(&self, view: u64, parent: Digest) -> Option<Digest>;

    /// Checks a block that another proposed; it is durable here when this returns `true`.
    fn verify(&self, view: u64, parent: Digest, block: Digest) -> bool;

    /// A block became final, and with it every block below it. Durable when this returns.
    ///
    /// Called too for a block that this validator never checked, when the others were faster.
    ///
    /// `finalization` is in the engine's encoding (see the crate's documentation). Views rise from
    /// call to call; after a restart a call may come again for a block that is already recorded.
    fn finalized(&self, block: Digest, finalization: &[u8]);
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
    /// Number of the validator set.
    pub epoch: u64,
    /// Digest that the first block stands on.
    pub genesis: Digest,
    /// Newest finalization that the application has recorded, as it was given to it.
    pub finalized: Option<Vec<u8>>,
    /// How long a leader may take to propose before its view is skipped.
    pub leader_timeout: Duration,
    /// How long a view may take from its beginning to a certificate before it is skipped.
    pub certification_timeout: Duration,
    /// How many views below the newest final one the engine remembers.
    pub view_retention: u64,
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
        Self {
            namespace: namespace.into(),
            validators,
            directory: directory.into(),
            epoch: 0,
            genesis,
            finalized: None,
            leader_timeout: Duration::from_secs(patience),
            certification_timeout: Duration::from_secs(patience + patience / 2),
            view_retention: 64,
        }
    }
}

/// Starts ordering on a thread of its own, after recovery; see the crate's documentation.
///
/// # Errors
/// `Refused` when the configuration, the key or `finalized` is wrong, or the votes are missing;
/// `Fatal` when the votes cannot be read or contradict the application.
pub fn start(
    config: OrderConfig,
    secret: &SecretKey,
    application: Arc<dyn Application>,
) -> Result<Handle, OrderError> {
    engine::start(config, secret, application)
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

/// What the threads of ordering tell each other.
#[derive(Debug, Default)]
struct Status {
    failure: Mutex<Option<Fatal>>,
    ending: AtomicBool,
    end: Notify,
}

impl Status {
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
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.stop();
    }

    fn failure(&self) -> Option<Fatal> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
