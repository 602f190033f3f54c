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
//! - What is provable has a certificate of its own, and is executed.
//! - Nothing is made or voted for in another epoch than the one whose engine runs.

use super::epochs::{RECEIPT_CHANGES_MAX, Turn, change_at, links};
use super::execute::{ExecuteError, Executor};
use super::heads::{Heads, Known, Passed};
use super::intake::Intake;
use super::metrics::Metrics;
use super::shards::Shards;
use super::{lock, parse_block};
use crate::evidence::Keeper;
use piaogen_anchor::block::{Divergence, Judgement, Stand, Tip, follows};
use piaogen_anchor::body::{Body, differences};
use piaogen_anchor::log::Log;
use piaogen_crypto::{Digest, Lanes};
use piaogen_order::{Application, FinalBlock, Identity, Verdict};
use piaogen_storage::{Block, Store, StoreError};
use piaogen_verify::epoch::Change;
use piaogen_verify::evidence::Evidence;
use piaogen_verify::follow::Link;
use piaogen_verify::header::{Cut, Header, ShardEntry, ValidatorSet, shards_root};
use piaogen_verify::merkle;
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

/// How many final blocks are remembered.
const RECENT: usize = 64;
/// How long a check waits at a time for what is not here yet.
const CHECK_WAIT: Duration = Duration::from_millis(50);
/// What a proposed cut may have beyond twice this node's own limit of records: a batch.
const BATCH_MAX: u64 = 1 << 16;

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
        match before.confirm(header) {
            Ok(()) => {}
            Err(Divergence::Roots(own)) => return Err(self.diverged(&before, header, own)),
            Err(Divergence::Set(own)) => {
                let (height, theirs) = (header.height, header.next_validators);
                return Err(ExecuteError::OtherSet { height, own, theirs });
            }
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
        self.metrics.stands(header.height, &shards_root(&done.shards));
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
        // Where this node is behind, the header that proves the block was final before. Read under the
        // lock: a block that is recorded later finds the tip that was just set.
        let mut passed = Vec::new();
        if let Some(next) = self.store.block(header.height + 1)? {
            let (header, _) = parse_block(&next).map_err(ExecuteError::Stored)?;
            let finalization = next.finalization;
            if !finalization.is_empty() && header.shards_root == shards_root(&state.tip.shards) {
                let (shards, changes) = (state.tip.shards.clone().into(), state.changes.clone());
                passed = state.prove(Provable { header, finalization, shards, changes });
            }
        }
        drop(state);
        self.changed.notify_all();
        passed.iter().for_each(|head| self.heads.keep(head));
        Ok(())
    }

    /// Says in which shards this node is another than the validators that agreed on the header.
    fn diverged(&self, before: &Tip, header: &Header, own: Digest) -> ExecuteError {
        self.metrics.disagreed();
        let digest = header.digest();
        let state = lock(&self.state);
        let body = state.recent.iter().find(|(block, _)| *block == digest);
        let theirs = body.and_then(|(_, body)| Body::decode(body)).and_then(|body| body.entries);
        ExecuteError::Diverged {
            height: header.height,
            own,
            theirs: header.shards_root,
            shards: differences(&before.shards, theirs.as_deref()),
        }
    }

    /// The change that a final block is which names this set.
    fn change(&self, header: &Header, set: &ValidatorSet) -> Result<Change, ExecuteError> {
        change_at(&*self.store, header.height, set).map_err(ExecuteError::Stored)
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

    fn record(&self, body: &[u8], finalization: &[u8]) -> Result<(), ExecuteError> {
        let Some(Body { header, cut, .. }) = Body::decode(body) else {
            return Err(ExecuteError::Unreadable { bytes: body.len() });
        };
        let last = lock(&self.state).last;
        if header.height <= last.height {
            // Handed over again after a restart.
            return Ok(());
        }
        if !follows(&last, &header) {
            return Err(ExecuteError::Gap { height: header.height, last: last.height });
        }
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
        if state.recent.len() == RECENT {
            state.recent.pop_front();
        }
        state.recent.push_back((header.digest(), body.to_vec()));
        // Else it is provable when its parent is executed.
        let mut passed = Vec::new();
        if !finalization.is_empty() && state.tip.header.digest() == header.parent {
            let shards = state.tip.shards.clone().into();
            let (finalization, changes) = (finalization.to_vec(), state.changes.clone());
            passed = state.prove(Provable { header, finalization, shards, changes });
        }
        drop(state);
        self.changed.notify_all();
        passed.iter().for_each(|head| self.heads.keep(head));
        if let Some(finals) = lock(&self.finals).as_ref() {
            // The receiver is gone only when execution ended, and has said why.
            let _ = finals.send((header, cut));
        }
        Ok(())
    }

    fn make(&self, tip: &Tip) -> Result<Option<Digest>, ExecuteError> {
        let Some(cut) = self.cut(tip) else { return Ok(None) };
        let header = tip.next(&cut, clock_ms());
        let digest = header.digest();
        let body = Body { header, cut, entries: Some(tip.shards.clone()) };
        self.store.pending_put(header.height, &digest, &body.encode())?;
        Ok(Some(digest))
    }

    /// What is to be said of a proposal, as far as things are here now.
    fn judged(&self, body: &Body, notarized: bool) -> (Tip, Judgement) {
        let (tip, last, engine) = {
            let state = lock(&self.state);
            (state.tip.clone(), state.last.height, state.engine)
        };
        let available = self.intake.ends();
        let latest_ms = (!notarized).then(|| clock_ms().saturating_add(self.policy.clock_skew_ms));
        let stand = Stand { engine, last, tip: &tip, available: &available, latest_ms };
        let judgement = stand.judge(&body.header, &body.cut);
        (tip, judgement)
    }

    /// Checks a proposed block; waits a little for what it needs.
    fn judge(&self, body: &Body, bytes: &[u8], notarized: bool) -> Result<Verdict, ExecuteError> {
        let header = &body.header;
        let mut version = self.intake.version();
        let (mut tip, mut judgement) = self.judged(body, notarized);
        if judgement == Judgement::Unexecuted && self.executed(&header.parent, CHECK_WAIT).is_some()
        {
            version = self.intake.version();
            (tip, judgement) = self.judged(body, notarized);
        }
        if judgement == Judgement::Behind {
            self.fetch(&tip, &body.cut);
            self.intake.wait(version, CHECK_WAIT);
            (tip, judgement) = self.judged(body, notarized);
        }
        match judgement {
            Judgement::OtherEpoch => {
                let (height, epoch) = (header.height, header.epoch);
                tracing::warn!(height, epoch, "a block of another epoch is proposed");
                return Ok(Verdict::Bad);
            }
            Judgement::Settled => {
                // Final in the meantime, or passed over: then nobody asks for long.
                let stored = self.store.block(header.height)?;
                let same = stored.is_some_and(|block| block.header == header.encode());
                return Ok(if same { Verdict::Good } else { Verdict::NotYet });
            }
            Judgement::Unexecuted | Judgement::Behind => return Ok(Verdict::NotYet),
            Judgement::Refused(refusal) => {
                self.disagree(&tip, body, &refusal.to_string());
                return Ok(Verdict::Bad);
            }
            Judgement::Good => {}
        }
        let digest = header.digest();
        if self.store.pending_get(&digest)?.is_none() {
            self.store.pending_put(header.height, &digest, bytes)?;
        }
        Ok(Verdict::Good)
    }

    /// Has the records read that a cut covers.
    fn fetch(&self, tip: &Tip, cut: &Cut) {
        // Others may have other limits, but a proposal must not fill this node's memory.
        let ahead = 2 * self.policy.shard_records as u64 + BATCH_MAX;
        for (shard, (offset, before)) in cut.0.iter().zip(&tip.cut.0).enumerate() {
            self.intake.want(shard, (*offset).min(before.saturating_add(ahead)));
        }
    }

    /// Says loudly that a proposal is not voted for, and where its roots are others.
    fn disagree(&self, tip: &Tip, body: &Body, why: &str) {
        let header = &body.header;
        let own = shards_root(&tip.shards);
        if header.shards_root == own {
            let (height, block) = (header.height, hex::encode(header.digest()));
            tracing::warn!(height, %block, %why, "a proposed block is not voted for");
            return;
        }
        self.metrics.disagreed();
        tracing::error!(
            height = header.height,
            block = %hex::encode(header.digest()),
            own = %hex::encode(own),
            proposed = %hex::encode(header.shards_root),
            shards = %differences(&tip.shards, body.entries.as_deref()),
            "a proposed block has other roots than this node computed: it is not voted for; find \
             out which of the two is wrong"
        );
    }

    fn fatal(&self, what: &str, error: &ExecuteError) {
        self.fail(format!("{what}: {error}"));
    }
}

impl Application for Chain {
    fn identify(&self, body: &[u8]) -> Option<Identity> {
        let Body { header, .. } = Body::decode(body)?;
        let (block, parent, height) = (header.digest(), header.parent, header.height);
        let closes = header.closes_epoch();
        (header.chain == self.chain).then_some(Identity { block, parent, height, closes })
    }

    fn propose(&self, _view: u64, parent: Digest) -> Option<Digest> {
        let tip = self.executed(&parent, Duration::from_secs(1))?;
        if !self.in_epoch(&tip) {
            // The epoch is over, and its engine is about to be stopped.
            std::thread::sleep(Duration::from_millis(20));
            return None;
        }
        match self.make(&tip) {
            Ok(digest) => digest,
            Err(error) => {
                let height = tip.header.height;
                self.fatal(&format!("making a block after height {height}"), &error);
                None
            }
        }
    }

    fn check(&self, _view: u64, bytes: &[u8], notarized: bool) -> Verdict {
        let Some(body) = Body::decode(bytes) else { return Verdict::Bad };
        match self.judge(&body, bytes, notarized) {
            Ok(verdict) => verdict,
            Err(error) => {
                self.fatal(&format!("checking a block of height {}", body.header.height), &error);
                Verdict::NotYet
            }
        }
    }

    fn body(&self, block: Digest) -> Option<Vec<u8>> {
        let recent = {
            let state = lock(&self.state);
            state.recent.iter().find(|(digest, _)| *digest == block).map(|(_, body)| body.clone())
        };
        let found = match recent {
            Some(body) => Ok(Some(body)),
            None => self.store.pending_get(&block),
        };
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "a proposed block cannot be read");
            None
        })
    }

    fn last(&self) -> Identity {
        let last = lock(&self.state).last;
        let (block, closes) = (last.digest(), last.closes_epoch());
        Identity { block, parent: last.parent, height: last.height, closes }
    }

    fn finals(&self, from: u64, most: usize, bytes: usize) -> Vec<FinalBlock> {
        let (mut blocks, mut size) = (Vec::new(), 0);
        while blocks.len() < most {
            let height = from.saturating_add(blocks.len() as u64);
            let block = match self.store.block(height) {
                Ok(Some(block)) if !block.finalization.is_empty() => block,
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "a final block cannot be read");
                    break;
                }
            };
            let body = [block.header, block.cut].concat();
            size += body.len() + block.finalization.len() + 8;
            if size > bytes && !blocks.is_empty() {
                break;
            }
            blocks.push(FinalBlock { body, finalization: block.finalization });
        }
        blocks
    }

    fn finalized(&self, _block: Digest, body: &[u8], finalization: &[u8]) {
        if let Err(error) = self.record(body, finalization) {
            self.fatal("recording a final block", &error);
        }
    }

    fn caught(&self, evidence: Evidence) {
        let changes = lock(&self.state).changes.clone();
        self.evidence.caught(evidence.led_by(&changes));
    }
}
