//! The chain as this node sees it: what is final, what of it is executed, and what proves it.
//!
//! Ordering calls in from its threads (`ordering`); execution has a thread of its own and works one
//! block behind (`execution`). The state between the two is small and under one lock: the last
//! executed tip, and the last final block with what proves it.
//!
//! Invariants
//! - What is provable has a certificate of its own, and is executed.

mod execution;
mod ordering;

use super::epochs::{RECEIPT_CHANGES_MAX, Turn, links};
use super::heads::{Heads, Known, Passed};
use super::intake::Intake;
use super::lock;
use super::metrics::Metrics;
use super::shards::Shards;
use crate::evidence::Keeper;
use piaogen_anchor::block::Tip;
use piaogen_anchor::log::Log;
use piaogen_crypto::{Digest, Lanes};
use piaogen_storage::{Store, StoreError};
use piaogen_verify::epoch::Change;
use piaogen_verify::follow::Link;
use piaogen_verify::header::{Cut, Header, ShardEntry, ValidatorSet, shards_root};
use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// When blocks are made.
#[derive(Clone, Copy, Debug)]
pub struct BlockPolicy {
    /// Between blocks while there is something to agree on.
    pub interval: Duration,
    /// Between blocks otherwise.
    pub idle_interval: Duration,
    /// Most records of one shard in a block.
    pub shard_records: usize,
    /// How far a proposed time may lie after this node's clock.
    pub clock_skew_ms: i64,
}

/// A header with its certificate, and the shards under its `shards_root`.
#[derive(Clone, Debug)]
pub struct Provable {
    /// The header.
    pub header: Header,
    /// Its certificate.
    pub finalization: Vec<u8>,
    /// The shard entries; the registry last.
    pub shards: Shards,
    /// What leads from the genesis to the set that signed the certificate.
    pub changes: Arc<Vec<Change>>,
}

impl Provable {
    /// The changes that a receipt carries: none where there are too many, since then a trust root
    /// that was advanced serves the holder better.
    pub fn changes(&self) -> Vec<Change> {
        self.changes_before(self.header.height)
    }

    /// The same, to the set that signed the block at an earlier height.
    pub fn changes_before(&self, height: u64) -> Vec<Change> {
        let before = self.changes.partition_point(|change| change.header.height < height);
        match before {
            0..=RECEIPT_CHANGES_MAX => self.changes[..before].to_vec(),
            _ => Vec::new(),
        }
    }
}

#[derive(Debug)]
struct State {
    /// The last executed block and the shards after it.
    tip: Tip,
    /// The last final header; its block may not be executed yet.
    last: Header,
    provable: Option<Provable>,
    /// Of those before it, the last below each size that witnesses share: theirs are the receipts
    /// that are cosigned.
    passed: Passed,
    /// The last final blocks, for peers that ask, and for the shards that they were proposed with.
    recent: VecDeque<(Digest, Vec<u8>)>,
    history: Log,
    /// The set of the epoch of the block after the tip, and the header on which that epoch stands.
    set: ValidatorSet,
    ground: Digest,
    /// What leads from the genesis to that set.
    changes: Arc<Vec<Change>>,
    /// The epoch whose engine runs.
    engine: u64,
    last_final: Instant,
    failure: Option<String>,
    stopping: bool,
}

impl State {
    /// Takes the newest header that proves something; which heads are to be kept on disk.
    #[must_use]
    fn prove(&mut self, newest: Provable) -> Vec<Provable> {
        let passed = self.passed.go_on(self.provable.take(), &newest);
        self.provable = Some(newest);
        passed
    }
}

/// To whom the chain hands on what it gets.
#[derive(Debug)]
pub struct Outlets {
    /// Executes final blocks.
    pub finals: Sender<(Header, Cut)>,
    /// Keeps evidence against validators.
    pub evidence: Arc<Keeper>,
    /// Keeps the heads under which receipts are cosigned.
    pub heads: Heads,
}

/// What is shared between ordering, execution and those who ask.
pub struct Chain {
    /// The genesis digest.
    chain: Digest,
    store: Arc<Store>,
    intake: Arc<Intake>,
    metrics: Arc<Metrics>,
    policy: BlockPolicy,
    lanes: Lanes,
    /// The set of the genesis.
    genesis: ValidatorSet,
    state: Mutex<State>,
    changed: Condvar,
    finals: Mutex<Option<Sender<(Header, Cut)>>>,
    evidence: Arc<Keeper>,
    heads: Heads,
}

/// The header with its stored certificate, if it has one, and the shards that it speaks of.
fn provable(
    store: &Store,
    header: &Header,
    shards: Vec<ShardEntry>,
    changes: &Arc<Vec<Change>>,
) -> Result<Option<Provable>, StoreError> {
    let block = store.block(header.height)?;
    Ok(block.filter(|block| !block.finalization.is_empty()).map(|block| Provable {
        header: *header,
        finalization: block.finalization,
        shards: shards.into(),
        changes: changes.clone(),
    }))
}

/// The present time of this machine's clock, milliseconds since 1970. Only proposing reads it.
pub fn clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Where a chain stands when it is opened.
#[derive(Debug)]
pub struct Start {
    /// The last executed block.
    pub tip: Tip,
    /// The last final header.
    pub last: Header,
    /// The log over the digests of all final headers.
    pub history: Log,
    /// The set of the epoch of the block after the tip.
    pub set: ValidatorSet,
    /// The digest of the header on which that epoch stands.
    pub ground: Digest,
    /// What leads from the genesis to that set.
    pub changes: Vec<Change>,
    /// The set of the genesis.
    pub genesis: ValidatorSet,
}

impl Chain {
    /// A chain that stands there.
    pub fn new(
        store: Arc<Store>,
        intake: Arc<Intake>,
        metrics: Arc<Metrics>,
        policy: BlockPolicy,
        lanes: Lanes,
        start: Start,
        outlets: Outlets,
    ) -> Result<Chain, StoreError> {
        // The last block changed nothing: its header speaks of the present state.
        let idle = shards_root(&start.tip.shards) == start.tip.header.shards_root;
        let changes = Arc::new(start.changes);
        let newest = match idle {
            true => provable(&store, &start.tip.header, start.tip.shards.clone(), &changes)?,
            false => None,
        };
        let last = start.last;
        let passed = outlets.heads.open(&Known {
            chain: last.chain,
            executed: start.tip.header.height,
            changes: changes.clone(),
            block: &|height| Ok(store.block(height)?),
        });
        metrics.resumed(last.height);
        metrics.stands(start.tip.header.height, &shards_root(&start.tip.shards));
        let state = State {
            tip: start.tip,
            last,
            provable: newest,
            passed,
            recent: VecDeque::new(),
            history: start.history,
            set: start.set,
            ground: start.ground,
            changes,
            engine: 0,
            last_final: Instant::now(),
            failure: None,
            stopping: false,
        };
        Ok(Chain {
            chain: last.chain,
            store,
            intake,
            metrics,
            policy,
            lanes,
            genesis: start.genesis,
            state: Mutex::new(state),
            changed: Condvar::new(),
            finals: Mutex::new(Some(outlets.finals)),
            evidence: outlets.evidence,
            heads: outlets.heads,
        })
    }

    /// The newest header that proves something, with its shards.
    pub fn provable(&self) -> Option<Provable> {
        lock(&self.state).provable.clone()
    }

    /// Keeps the newest such header on disk: nothing makes it again after a restart where later
    /// blocks are executed.
    pub fn keep_newest(&self) {
        self.provable().iter().for_each(|head| self.heads.keep(head));
    }

    /// The newest such header among the first `size`, as far as they are remembered.
    pub fn provable_below(&self, size: u64) -> Option<Provable> {
        let state = lock(&self.state);
        let mut newest_first = state.provable.iter().chain(state.passed.newest_first());
        newest_first.find(|provable| provable.header.height < size).cloned()
    }

    /// The newest header that proves something, once it is above this height; waits at most so
    /// long.
    pub fn provable_after(&self, height: u64, at_most: Duration) -> Option<Provable> {
        let above = |provable: &Option<Provable>| {
            provable.as_ref().is_some_and(|provable| provable.header.height > height)
        };
        let state = lock(&self.state);
        let waits = |state: &mut State| !state.stopping && !above(&state.provable);
        let (state, _) = self
            .changed
            .wait_timeout_while(state, at_most, waits)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        state.provable.clone().filter(|provable| provable.header.height > height)
    }

    /// The last executed tip.
    pub fn tip(&self) -> Tip {
        lock(&self.state).tip.clone()
    }

    /// The height of the last final block.
    pub fn height(&self) -> u64 {
        lock(&self.state).last.height
    }

    /// Whether every executed record is provable: the last header carries the present roots.
    pub fn settled(&self) -> bool {
        let state = lock(&self.state);
        let root = shards_root(&state.tip.shards);
        state.last.height == state.tip.header.height
            && state.provable.as_ref().is_some_and(|p| p.header.shards_root == root)
    }

    /// Why the chain ended by itself, if it did.
    pub fn failure(&self) -> Option<String> {
        lock(&self.state).failure.clone()
    }

    /// Ends proposing and execution.
    pub fn stop(&self) {
        lock(&self.state).stopping = true;
        *lock(&self.finals) = None;
        self.changed.notify_all();
    }

    /// Records why the chain cannot go on, and ends it.
    pub fn fail(&self, why: String) {
        tracing::error!(%why, "the chain stops");
        lock(&self.state).failure.get_or_insert(why);
        self.stop();
    }

    /// The epoch of the next block, as far as blocks are executed.
    pub fn turn(&self, finalized: Option<Vec<u8>>) -> Turn {
        let state = lock(&self.state);
        let (epoch, _) = state.tip.header.next_epoch();
        Turn { epoch, set: state.set.clone(), ground: state.ground, finalized }
    }

    /// The epoch after this one, once its last block is executed; waits at most so long.
    pub fn turn_after(&self, epoch: u64, at_most: Duration) -> Option<Turn> {
        let state = lock(&self.state);
        let same = |state: &mut State| !state.stopping && state.tip.header.next_epoch().0 == epoch;
        let (state, _) = self
            .changed
            .wait_timeout_while(state, at_most, same)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let ended = !state.stopping && state.tip.header.next_epoch().0 != epoch;
        drop(state);
        ended.then(|| self.turn(None))
    }

    /// The chain's id: the digest of its genesis.
    pub fn id(&self) -> Digest {
        self.chain
    }

    /// Executed blocks from a height on, as they are handed to witnesses.
    pub fn links(&self, height: u64, count: u64) -> anyhow::Result<Vec<Link>> {
        let (end, sets) = {
            let state = lock(&self.state);
            let sets = state.changes.iter().map(|change| change.next.clone());
            let sets: Vec<ValidatorSet> = sets.chain([self.genesis.clone()]).collect();
            (state.tip.header.height + 1, sets)
        };
        links(&*self.store, &sets, height..end.min(height.saturating_add(count)))
    }

    /// Says that the engine of this epoch runs from now on, and no other; with a vote or without.
    pub fn begin_epoch(&self, epoch: u64, votes: bool) {
        lock(&self.state).engine = epoch;
        self.metrics.epoch(epoch, votes);
    }
}
