//! Runs ordering, one engine for each epoch, and keeps what proves the sets (PROTOCOL section 5).
//!
//! The engine of an epoch knows one validator set. When the last block of the epoch is executed,
//! its engine is stopped, and the next one begins on that block with the set that the block names.
//!
//! Where the node has peers, each engine gets a network of its own with the same peers: those of the
//! set must be among them. A node that is not of the set follows until it is (`piaogen_order`); an
//! observer always does, and ends where its key is voted in.
//!
//! Invariants
//! - Two engines never run at once: they would vote with one key.
//! - The engine of an epoch begins on a block that is final and executed here.

use super::chain::Chain;
use super::receipts::Reads;
use super::{NodeParts, PeersPolicy, lock};
use crate::config::Role;
use crate::snapshot::restored_epoch;
use anyhow::{Context, Result};
use piaogen_anchor::registry::SetChange;
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::{PublicKey, Signer};
use piaogen_order::{Handle, OrderConfig, Peer};
use piaogen_verify::certificate::NAMESPACE;
use piaogen_verify::epoch::Change;
use piaogen_verify::follow::Link;
use piaogen_verify::header::ValidatorSet;
use std::ops::Range;
use std::path::PathBuf;
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

/// What every engine is started with.
pub struct Engines {
    namespace: Vec<u8>,
    directory: PathBuf,
    signed: PathBuf,
    key: Arc<dyn Signer>,
    peers: Option<PeersPolicy>,
    votes: bool,
    /// The epoch in which this node, restored from a snapshot, may have voted and not know it.
    restored: Option<u64>,
}

impl Engines {
    /// The engines of this node.
    pub fn new(parts: &NodeParts) -> Result<Engines> {
        Ok(Engines {
            namespace: [&NAMESPACE[..], &parts.genesis.chain].concat(),
            directory: parts.dir.join("order"),
            signed: parts.signed.clone(),
            key: parts.key.clone(),
            peers: parts.peers.clone(),
            votes: parts.role == Role::Validator,
            restored: restored_epoch(&parts.dir)?,
        })
    }

    fn start(&self, chain: &Arc<Chain>, turn: Turn) -> Result<Handle> {
        let keys: Vec<PublicKey> = turn.set.keys().to_vec();
        let directory = self.directory.clone();
        let mut config = OrderConfig::new(self.namespace.clone(), keys, directory, turn.ground);
        config.epoch = turn.epoch;
        config.votes = self.votes;
        config.signed = self.signed.clone();
        let unsaid = self.unsaid(&turn);
        config.abstains = unsaid.is_some();
        config.finalized = turn.finalized;
        if let Some(why) = unsaid.filter(|_| turn.set.contains(&self.key.public_key())) {
            let alone = match turn.set.keys().len() {
                1 => "; this is its only validator: no block is made until its votes are put back",
                _ => "",
            };
            tracing::warn!(epoch = turn.epoch, "{why}: it is followed without a vote{alone}");
        }
        if let Some(PeersPolicy { network, leader_timeout }) = self.peers.clone() {
            config.leader_timeout = leader_timeout;
            config.certification_timeout = leader_timeout + leader_timeout / 2;
            config.network = Some(network);
        }
        chain.begin_epoch(turn.epoch);
        piaogen_order::start(config, self.key.clone(), chain.clone())
            .with_context(|| format!("ordering of epoch {} does not start", turn.epoch))
    }
}

impl Engines {
    /// Why it is not known what this key has said in an epoch of which blocks are final here.
    fn unsaid(&self, turn: &Turn) -> Option<&'static str> {
        if piaogen_order::has_votes(&self.directory, turn.epoch) {
            return None;
        }
        if self.restored == Some(turn.epoch) {
            return Some("restored from a snapshot, without the votes of this epoch");
        }
        let new = piaogen_order::is_new_key(&self.signed, &self.key.public_key());
        let begun = turn.finalized.is_some();
        (new && begun).then_some("this node was given another key after this epoch had begun")
    }
}

/// The engine that runs; none while one epoch is ended and the next not begun.
type Running = Arc<Mutex<Option<Handle>>>;

/// Ordering that runs through the epochs.
#[derive(Debug)]
pub struct Epochs {
    stopping: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<String>>>,
    running: Running,
    thread: JoinHandle<()>,
}

/// Runs engines until told to stop, or until one fails; says why.
fn run(
    engines: &Engines,
    chain: &Arc<Chain>,
    running: &Running,
    mut epoch: u64,
    stopping: &AtomicBool,
) -> Option<String> {
    let end = || {
        let engine = lock(running).take();
        engine.and_then(|engine| engine.stop().err()).map(|error| error.to_string())
    };
    loop {
        if stopping.load(Ordering::SeqCst) {
            return end();
        }
        if let Some(failure) = lock(running).as_ref().and_then(Handle::failed) {
            return Some(failure.to_string());
        }
        let Some(turn) = chain.turn_after(epoch, PATIENCE) else { continue };
        if let Some(failure) = end() {
            return Some(failure);
        }
        epoch = turn.epoch;
        tracing::info!(epoch, validators = turn.set.keys().len(), "an epoch begins");
        match engines.start(chain, turn) {
            Ok(next) => *lock(running) = Some(next),
            Err(error) => return Some(format!("{error:#}")),
        }
    }
}

impl Epochs {
    /// Starts the engine of the present epoch, and a thread that follows the epochs.
    pub fn start(engines: Engines, chain: &Arc<Chain>, turn: Turn) -> Result<Epochs> {
        let epoch = turn.epoch;
        let running: Running = Arc::new(Mutex::new(Some(engines.start(chain, turn)?)));
        let stopping = Arc::new(AtomicBool::new(false));
        let failure = Arc::new(Mutex::new(None));
        let (told, found) = (stopping.clone(), failure.clone());
        let (engine, chain) = (running.clone(), chain.clone());
        let thread = super::spawn("epochs", move || {
            if let Some(why) = run(&engines, &chain, &engine, epoch, &told) {
                lock(&found).get_or_insert(why);
            }
        })?;
        Ok(Epochs { stopping, failure, running, thread })
    }

    /// Why ordering ended by itself, if it did.
    pub fn failed(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    /// The highest view of this epoch that this node has seen, and the validators as it sees them.
    pub fn peers(&self) -> (u64, Vec<Peer>) {
        lock(&self.running)
            .as_ref()
            .map(|engine| (engine.view(), engine.peers()))
            .unwrap_or_default()
    }

    /// Ends ordering, and waits until everything is written.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        // What it failed with was asked for before.
        self.thread.join().ok();
    }
}
