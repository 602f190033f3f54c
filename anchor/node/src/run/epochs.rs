//! Runs ordering, one engine for each epoch, and keeps what proves the sets (PROTOCOL section 5).
//!
//! The engine of an epoch knows one validator set. When the last block of the epoch is executed,
//! its engine is stopped, and the next one begins on that block with the set that the block names.
//!
//! Where the node has peers, each engine gets a network of its own with the same peers: those of the
//! set must be among them. A node that is not of the set follows until it is (`piaogen_order`); an
//! observer always does, and ends where its key is voted in.
//!
//! A node may have a second key, which shall replace the first: each epoch has the one that is of its
//! set, so a key changes where an epoch does, without a restart that could come too early or too late.
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
    next_key: Option<Arc<dyn Signer>>,
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
            next_key: parts.next_key.clone(),
            peers: parts.peers.clone(),
            votes: parts.role == Role::Validator,
            restored: restored_epoch(&parts.dir)?,
        })
    }

    /// The key of this node in an epoch with this set.
    fn key(&self, set: &ValidatorSet) -> &Arc<dyn Signer> {
        let of_set = |key: &Arc<dyn Signer>| set.contains(&key.public_key());
        match &self.next_key {
            Some(next) if of_set(next) && of_set(&self.key) => {
                tracing::warn!("`key` and `next_key` are both in the set: only `key` votes here");
                &self.key
            }
            Some(next) if of_set(next) => next,
            _ => &self.key,
        }
    }

    /// Begins the record of the next key, so that it may vote whenever its epoch begins. Where it has
    /// begun already, nobody knows what the key said before this node had it.
    fn expect_next(&self, turn: &Turn) -> Result<()> {
        let Some(next) = &self.next_key else { return Ok(()) };
        let next = next.public_key();
        if !turn.set.contains(&next) {
            piaogen_order::begin_record(&self.signed, &next)?;
        }
        Ok(())
    }

    fn start(&self, chain: &Arc<Chain>, turn: Turn) -> Result<Handle> {
        let keys: Vec<PublicKey> = turn.set.keys().to_vec();
        let directory = self.directory.clone();
        let mut config = OrderConfig::new(self.namespace.clone(), keys, directory, turn.ground);
        let signer = self.key(&turn.set);
        let key = signer.public_key();
        config.epoch = turn.epoch;
        config.votes = self.votes;
        config.signed = self.signed.clone();
        let unsaid = self.unsaid(&turn, &key);
        config.abstains = unsaid.is_some();
        config.finalized = turn.finalized;
        if let Some(why) = unsaid.filter(|_| turn.set.contains(&key)) {
            let alone = match turn.set.keys().len() {
                1 => "; this is its only validator: no block is made until its votes are put back",
                _ => "",
            };
            tracing::warn!(epoch = turn.epoch, "{why}: it is followed without a vote{alone}");
        }
        if let Some(PeersPolicy { mut network, leader_timeout }) = self.peers.clone() {
            // Nobody answers for a key of this node that does not count in this epoch.
            let own = [Some(&self.key), self.next_key.as_ref()].into_iter().flatten();
            let idle = own.map(|own| own.public_key());
            let idle = idle.filter(|own| *own != key && !turn.set.contains(own));
            let idle: Vec<PublicKey> = idle.collect();
            network.peers.retain(|(peer, _)| !idle.contains(peer));
            config.leader_timeout = leader_timeout;
            config.certification_timeout = leader_timeout + leader_timeout / 2;
            config.network = Some(network);
        }
        chain.begin_epoch(turn.epoch, turn.set.contains(&key) && !config.abstains);
        piaogen_order::start(config, signer.clone(), chain.clone())
            .with_context(|| format!("ordering of epoch {} does not start", turn.epoch))
    }
}

impl Engines {
    /// Why it is not known what this key has said in an epoch of which blocks are final here.
    fn unsaid(&self, turn: &Turn, key: &PublicKey) -> Option<&'static str> {
        if piaogen_order::has_votes(&self.directory, turn.epoch) {
            return None;
        }
        if self.restored == Some(turn.epoch) {
            return Some("restored from a snapshot, without the votes of this epoch");
        }
        let new = piaogen_order::is_new_key(&self.signed, key);
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
        engines.expect_next(&turn)?;
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
