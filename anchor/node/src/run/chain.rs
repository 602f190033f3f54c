//! The chain as this node sees it: proposes, checks and records blocks, and executes what is final.
//!
//! Ordering calls in from its threads; execution has a thread of its own and works one block behind.
//! The state between the two is small and under one lock: the last executed tip, and the last final
//! block with what proves it.
//!
//! Invariants
//! - A block is on disk before it is voted for, and final on disk before it is executed.
//! - A header is made or voted for only over roots that this node computed itself.
//! - When the roots of a final header differ from our own, the node stops; when the set that it
//!   names does, too.
//! - Nothing is made or voted for in another epoch than the one whose engine runs.

use super::epochs::{RECEIPT_CHANGES_MAX, Turn, change_at, links};
use super::execute::{ExecuteError, Executor};
use super::intake::Intake;
use super::lock;
use super::metrics::Metrics;
use piaogen_anchor::block::Tip;
use piaogen_anchor::log::Log;
use piaogen_crypto::{Digest, Lanes};
use piaogen_order::Application;
use piaogen_storage::{Block, Store, StoreError};
use piaogen_verify::encoding::Reader;
use piaogen_verify::epoch::Change;
use piaogen_verify::follow::Link;
use piaogen_verify::header::{
    Cut, HEADER_LEN, Header, NO_SET, ShardEntry, ValidatorSet, shards_root,
};
use piaogen_verify::merkle;
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
    pub shards: Vec<ShardEntry>,
    /// What leads from the genesis to the set that signed the certificate.
    pub changes: Arc<Vec<Change>>,
}

impl Provable {
    /// The changes that a receipt carries: none where there are too many, since then a trust root
    /// that was advanced serves the holder better.
    pub fn changes(&self) -> Vec<Change> {
        match self.changes.len() {
            0..=RECEIPT_CHANGES_MAX => self.changes.to_vec(),
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

/// What is shared between ordering, execution and those who ask.
pub struct Chain {
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
        shards,
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
    /// A chain that stands there; final blocks are sent to `finals` for execution.
    pub fn new(
        store: Arc<Store>,
        intake: Arc<Intake>,
        metrics: Arc<Metrics>,
        policy: BlockPolicy,
        lanes: Lanes,
        start: Start,
        finals: Sender<(Header, Cut)>,
    ) -> Result<Chain, StoreError> {
        // The last block changed nothing: its header speaks of the present state.
        let idle = shards_root(&start.tip.shards) == start.tip.header.shards_root;
        let changes = Arc::new(start.changes);
        let newest = match idle {
            true => provable(&store, &start.tip.header, start.tip.shards.clone(), &changes)?,
            false => None,
        };
        let state = State {
            tip: start.tip,
            last: start.last,
            provable: newest,
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
            store,
            intake,
            metrics,
            policy,
            lanes,
            genesis: start.genesis,
            state: Mutex::new(state),
            changed: Condvar::new(),
            finals: Mutex::new(Some(finals)),
        })
    }

    /// The newest header that proves something, with its shards.
    pub fn provable(&self) -> Option<Provable> {
        lock(&self.state).provable.clone()
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

    /// Executes final blocks as they come, until the sender is gone. Runs on its own thread.
    pub fn execute(
        &self,
        mut executor: Executor,
        finals: &std::sync::mpsc::Receiver<(Header, Cut)>,
    ) {
        while let Ok((header, cut)) = finals.recv() {
            match self.execute_one(&mut executor, &header, &cut) {
                Ok(()) => {}
                Err(ExecuteError::Stopped) => return,
                Err(error) => return self.fail(error.to_string()),
            }
        }
    }

    fn execute_one(
        &self,
        executor: &mut Executor,
        header: &Header,
        cut: &Cut,
    ) -> Result<(), ExecuteError> {
        let before = self.tip();
        let own = shards_root(&before.shards);
        if own != header.shards_root {
            return Err(ExecuteError::Diverged { height: header.height });
        }
        let named = before.next_set.as_ref().map_or(NO_SET, ValidatorSet::digest);
        if named != header.next_validators {
            return Err(ExecuteError::Diverged { height: header.height });
        }
        let change = match &before.next_set {
            Some(set) => Some(self.change(header, set)?),
            None => None,
        };
        let begun = Instant::now();
        let done = executor.execute(&before, header, cut)?;
        self.metrics.execution(begun.elapsed().as_secs_f64());
        let mut state = lock(&self.state);
        let digest = merkle::leaf(&header.digest());
        let levels = state.history.append(self.lanes, vec![digest]);
        let size = state.history.size();
        self.store.history_append(&levels, size)?;
        state.tip = Tip {
            header: *header,
            cut: cut.clone(),
            shards: done.shards,
            history_root: state.history.root(),
            next_set: done.next_set,
        };
        if let Some(change) = change {
            state.ground = header.digest();
            if change.next != state.set {
                state.set = change.next.clone();
                Arc::make_mut(&mut state.changes).push(change);
            }
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// The change that a final block is which names this set.
    fn change(&self, header: &Header, set: &ValidatorSet) -> Result<Change, ExecuteError> {
        change_at(&*self.store, header.height, set)
            .map_err(|_| ExecuteError::Missing { block: header.digest() })
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

    /// Says that the engine of this epoch runs from now on, and no other.
    pub fn begin_epoch(&self, epoch: u64) {
        lock(&self.state).engine = epoch;
    }

    /// Whether the block after this one is for the engine that runs.
    fn in_epoch(&self, tip: &Tip) -> bool {
        lock(&self.state).engine == tip.header.next_epoch().0
    }

    /// Waits until the block `parent` is executed, at most so long.
    fn executed(&self, parent: &Digest, at_most: Duration) -> Option<Tip> {
        let state = lock(&self.state);
        let other = |state: &mut State| !state.stopping && state.tip.header.digest() != *parent;
        let (state, _) = self
            .changed
            .wait_timeout_while(state, at_most, other)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let here = !state.stopping && state.tip.header.digest() == *parent;
        here.then(|| state.tip.clone())
    }

    /// Waits until it is time for a block; the cut that it shall have, or `None` while there is
    /// nothing to agree on.
    fn cut(&self, tip: &Tip) -> Option<Cut> {
        let begun = Instant::now();
        let patience = Duration::from_secs(1);
        loop {
            let version = self.intake.version();
            let (since, settled, stopping) = {
                let state = lock(&self.state);
                let settled = tip.header.shards_root == shards_root(&tip.shards);
                (state.last_final.elapsed(), settled, state.stopping)
            };
            if stopping {
                return None;
            }
            let (cut, records) = self.intake.cut(&tip.cut.0, self.policy.shard_records);
            let due = if records == 0 && settled {
                self.policy.idle_interval
            } else {
                self.policy.interval
            };
            let full = records >= self.policy.shard_records;
            if since >= due || full {
                return Some(Cut(cut));
            }
            if begun.elapsed() >= patience {
                return None;
            }
            let rest = (due - since).min(patience);
            // New records matter only while there is nothing else to agree on.
            if records == 0 && settled {
                self.intake.wait(version, rest);
            } else {
                std::thread::sleep(rest.min(Duration::from_millis(10)));
            }
        }
    }

    fn record(&self, header: Header, cut: Cut, finalization: &[u8]) -> Result<(), ExecuteError> {
        let block = Block {
            height: header.height,
            header: header.encode().to_vec(),
            cut: cut.encode(),
            finalization: finalization.to_vec(),
        };
        self.store.append_block(&block)?;
        self.store.pending_release(header.height)?;
        let mut state = lock(&self.state);
        self.metrics.finalized(header.height, state.last_final.elapsed().as_secs_f64());
        state.last = header;
        state.last_final = Instant::now();
        // A header can be made and voted for only after the execution of its parent.
        if !finalization.is_empty() && state.tip.header.digest() == header.parent {
            let shards = state.tip.shards.clone();
            let (finalization, changes) = (finalization.to_vec(), state.changes.clone());
            state.provable = Some(Provable { header, finalization, shards, changes });
        }
        drop(state);
        if let Some(finals) = lock(&self.finals).as_ref() {
            // The receiver is gone only when execution ended, and has said why.
            let _ = finals.send((header, cut));
        }
        Ok(())
    }

    /// Records the block and those below it that have no certificate of their own.
    fn finalize(&self, digest: &Digest, finalization: &[u8]) -> Result<(), ExecuteError> {
        let last = lock(&self.state).last;
        if last.digest() == *digest {
            return Ok(());
        }
        let mut blocks = vec![self.pending(digest)?];
        while let Some((header, _)) = blocks.last()
            && header.height > last.height + 1
        {
            let parent = header.parent;
            blocks.push(self.pending(&parent)?);
        }
        if blocks.last().is_some_and(|(header, _)| header.height <= last.height) {
            // Handed over again after a restart: recorded already.
            return Ok(());
        }
        while let Some((header, cut)) = blocks.pop() {
            let certificate = if blocks.is_empty() { finalization } else { &[] };
            self.record(header, cut, certificate)?;
        }
        Ok(())
    }

    fn pending(&self, digest: &Digest) -> Result<(Header, Cut), ExecuteError> {
        let missing = || ExecuteError::Missing { block: *digest };
        let body = self.store.pending_get(digest)?.ok_or_else(missing)?;
        let (header, cut) = parse_body(&body).ok_or_else(missing)?;
        (header.digest() == *digest && header.cut == cut.digest())
            .then_some((header, cut))
            .ok_or_else(missing)
    }

    /// Whether a block is the last of its epoch, is here, and is not final yet.
    fn last_and_not_final(&self, block: &Digest) -> bool {
        self.pending(block).is_ok_and(|(header, _)| {
            header.closes_epoch() && lock(&self.state).last.height < header.height
        })
    }

    fn make(&self, tip: &Tip) -> Result<Option<Digest>, ExecuteError> {
        let Some(cut) = self.cut(tip) else { return Ok(None) };
        let header = tip.next(&cut, clock_ms());
        let digest = header.digest();
        let mut body = header.encode().to_vec();
        body.extend_from_slice(&cut.encode());
        self.store.pending_put(header.height, &digest, &body)?;
        Ok(Some(digest))
    }
}

/// Header and cut of a block's body.
pub fn parse_body(body: &[u8]) -> Option<(Header, Cut)> {
    let (header, cut) = body.split_at_checked(HEADER_LEN)?;
    Some((Header::decode(&mut Reader::new(header)).ok()?, Cut::decode(cut).ok()?))
}

impl Application for Chain {
    fn propose(&self, _view: u64, parent: Digest) -> Option<Digest> {
        // Nothing stands on the last block of an epoch in that epoch: it is proposed again.
        if self.last_and_not_final(&parent) {
            return Some(parent);
        }
        let tip = self.executed(&parent, Duration::from_secs(1))?;
        if !self.in_epoch(&tip) {
            // The epoch is over, and its engine is about to be stopped.
            std::thread::sleep(Duration::from_millis(20));
            return None;
        }
        match self.make(&tip) {
            Ok(digest) => digest,
            Err(error) => {
                self.fail(format!("making a block after height {}: {error}", tip.header.height));
                None
            }
        }
    }

    fn verify(&self, _view: u64, parent: Digest, block: Digest) -> bool {
        if block == parent {
            return self.last_and_not_final(&block);
        }
        let Some(tip) = self.executed(&parent, Duration::from_secs(1)) else { return false };
        if !self.in_epoch(&tip) {
            tracing::warn!(block = %hex::encode(block), "proposed in an epoch that ended");
            return false;
        }
        let latest = clock_ms().saturating_add(self.policy.clock_skew_ms);
        let checked =
            self.pending(&block).map_err(|error| error.to_string()).and_then(|(header, cut)| {
                tip.check(&header, &cut, &self.intake.ends(), latest)
                    .map_err(|refusal| refusal.to_string())
            });
        if let Err(why) = &checked {
            tracing::warn!(block = %hex::encode(block), %why, "a proposed block is not voted for");
        }
        checked.is_ok()
    }

    fn finalized(&self, block: Digest, finalization: &[u8]) {
        if let Err(error) = self.finalize(&block, finalization) {
            self.fail(format!("recording a final block: {error}"));
        }
    }
}
