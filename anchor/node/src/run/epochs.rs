//! Runs ordering, one engine for each epoch, and keeps what proves the sets (PROTOCOL section 5).
//!
//! The engine of an epoch knows one validator set. When the last block of the epoch is executed,
//! its engine is stopped, and the next one begins on that block with the set that the block names.
//!
//! Invariants
//! - Two engines never run at once: they would vote with one key.
//! - The engine of an epoch begins on a block that is final and executed here.

use super::chain::Chain;
use super::receipts::Reads;
use anyhow::{Context, Result};
use piaogen_anchor::registry::SetChange;
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use piaogen_order::{Handle, OrderConfig};
use piaogen_verify::certificate::NAMESPACE;
use piaogen_verify::epoch::Change;
use piaogen_verify::follow::Link;
use piaogen_verify::header::ValidatorSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Most changes of the set that a receipt carries; who is further behind advances his trust root.
pub const RECEIPT_CHANGES_MAX: usize = 16;
/// How often the end of an epoch is looked for.
const PATIENCE: Duration = Duration::from_millis(20);

/// An epoch that an engine can begin, or go on with.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Its number.
    pub epoch: u64,
    /// Its validators.
    pub set: ValidatorSet,
    /// The digest of the header before its first.
    pub ground: Digest,
    /// The newest finalization in it, where there is one.
    pub finalized: Option<Vec<u8>>,
}

/// What leads from the genesis to each of these sets: the block that names it, with its
/// certificate. The first is that of the genesis.
pub fn changes<R: Reads>(store: &R, sets: &[SetChange]) -> Result<Vec<Change>> {
    sets.iter().skip(1).map(|change| change_at(store, change.named_at, &change.set)).collect()
}

/// The change that the block of this height is.
pub fn change_at<R: Reads>(store: &R, height: u64, set: &ValidatorSet) -> Result<Change> {
    let missing = || format!("block {height}, which names a validator set, is missing");
    let block = store.block(height)?.with_context(missing)?;
    let (header, _) = super::parse_block(&block)?;
    Ok(Change { header, certificate: block.finalization, next: set.clone() })
}

/// Blocks as they are handed to witnesses. `sets` are all that are known, in any order; what stands
/// on a set that is not known yet, because its block is not executed here, is left out.
pub fn links<R: Reads>(store: &R, sets: &[ValidatorSet], heights: Range<u64>) -> Result<Vec<Link>> {
    let digests: Vec<Digest> = sets.iter().map(ValidatorSet::digest).collect();
    let mut out = Vec::new();
    for height in heights {
        let block = store.block(height)?.with_context(|| format!("block {height} is missing"))?;
        let (header, _) = super::parse_block(&block)?;
        let named = digests.iter().position(|digest| *digest == header.next_validators);
        let next = match (header.closes_epoch(), named) {
            (false, _) => None,
            (true, Some(at)) => Some(sets[at].clone()),
            (true, None) => break,
        };
        out.push(Link { header, certificate: block.finalization, next });
    }
    Ok(out)
}

/// Ordering that runs through the epochs.
#[derive(Debug)]
pub struct Epochs {
    stopping: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<String>>>,
    thread: JoinHandle<()>,
}

/// What every engine is started with.
struct Engines {
    chain: Arc<Chain>,
    namespace: Vec<u8>,
    directory: PathBuf,
    key: SecretKey,
}

impl Engines {
    fn start(&self, turn: Turn) -> Result<Handle> {
        let keys: Vec<PublicKey> = turn.set.keys().to_vec();
        let directory = self.directory.clone();
        let mut config = OrderConfig::new(self.namespace.clone(), keys, directory, turn.ground);
        config.epoch = turn.epoch;
        config.finalized = turn.finalized;
        self.chain.begin_epoch(turn.epoch);
        piaogen_order::start(config, &self.key, self.chain.clone())
            .with_context(|| format!("ordering of epoch {} does not start", turn.epoch))
    }

    /// Runs engines until told to stop, or until one fails.
    fn run(&self, mut engine: Handle, mut epoch: u64, stopping: &AtomicBool) -> Option<String> {
        loop {
            if stopping.load(Ordering::SeqCst) {
                return engine.stop().err().map(|error| error.to_string());
            }
            if let Some(failure) = engine.failed() {
                return Some(failure.to_string());
            }
            let Some(turn) = self.chain.turn_after(epoch, PATIENCE) else { continue };
            if let Err(error) = engine.stop() {
                return Some(error.to_string());
            }
            epoch = turn.epoch;
            tracing::info!(epoch, validators = turn.set.keys().len(), "an epoch begins");
            match self.start(turn) {
                Ok(next) => engine = next,
                Err(error) => return Some(format!("{error:#}")),
            }
        }
    }
}

impl Epochs {
    /// Starts the engine of the present epoch, and a thread that follows the epochs.
    pub fn start(
        chain: &Arc<Chain>,
        genesis: &Digest,
        dir: &Path,
        key: &SecretKey,
        turn: Turn,
    ) -> Result<Epochs> {
        let engines = Engines {
            chain: chain.clone(),
            namespace: [&NAMESPACE[..], genesis].concat(),
            directory: dir.join("order"),
            key: key.clone(),
        };
        let epoch = turn.epoch;
        let engine = engines.start(turn)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let failure = Arc::new(Mutex::new(None));
        let (told, found) = (stopping.clone(), failure.clone());
        let thread = super::spawn("epochs", move || {
            if let Some(why) = engines.run(engine, epoch, &told) {
                super::lock(&found).get_or_insert(why);
            }
        })?;
        Ok(Epochs { stopping, failure, thread })
    }

    /// Why ordering ended by itself, if it did.
    pub fn failed(&self) -> Option<String> {
        super::lock(&self.failure).clone()
    }

    /// Ends ordering, and waits until everything is written.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        // What it failed with was asked for before.
        self.thread.join().ok();
    }
}
