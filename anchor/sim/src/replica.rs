//! A validator: the application that ordering asks, with real execution over a simulated stream,
//! disk and clock.
//!
//! What it votes for is decided by `piaogen_anchor::block`, as in a node; here is what a node does
//! around that, without threads: it keeps a proposal before the vote and a final block before it
//! counts, executes what is final as far as the records are here, and makes flush points.
//!
//! Invariants
//! - After the power has failed, or the chain turned out to be another one, nothing is answered.
//! - Nothing is made or voted for in another epoch than the one whose engine runs.
//! - A liar keeps and executes like anybody else; it lies only as its role says.

use crate::dice::Dice;
use crate::disk::Lost;
use crate::folder::{Final, Folder, Found};
use crate::ledger::{Ledger, held};
use crate::plan::Role;
use crate::state::State;
use crate::stream::{Feed, Stream, TailLost};
use piaogen_anchor::block::{Divergence, Judgement, Stand, follows};
use piaogen_anchor::body::Body;
use piaogen_anchor::registry::SetChange;
use piaogen_crypto::{Digest, Lanes};
use piaogen_ingest::check::{CheckContext, Checker, KeyDirectory, Keys, Verifier};
use piaogen_order::simulation::Turn;
use piaogen_order::{Application, FinalBlock, Identity, Verdict};
use piaogen_verify::checked::CheckedBatch;
use piaogen_verify::epoch::Change;
use piaogen_verify::evidence::Evidence;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::header::{Cut, Header, shards_root};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Between blocks while there is something to agree on, in milliseconds.
const INTERVAL_MS: u64 = 150;
/// Between blocks otherwise.
const IDLE_MS: u64 = 900;
/// How many bodies of final blocks are remembered with their entries.
const RECENT: usize = 64;

/// What was done to a disk while its validator was down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Damage {
    /// Nothing.
    #[default]
    None,
    /// A bit flipped.
    Flipped,
    /// Everything is gone.
    Wiped,
}

/// What all validators of a run share.
pub(crate) struct Shared {
    pub(crate) genesis: Arc<Genesis>,
    pub(crate) stream: Mutex<Stream>,
    /// Milliseconds since the run began.
    pub(crate) now_ms: AtomicU64,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) verifier: Arc<dyn Verifier>,
}

impl Shared {
    pub(crate) fn now(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }
}

/// How a validator differs from the others.
#[derive(Clone, Debug)]
pub(crate) struct Character {
    pub(crate) who: usize,
    pub(crate) role: Role,
    /// Most records of a shard that it proposes at once.
    pub(crate) records_max: usize,
    /// Blocks between its flush points.
    pub(crate) flush_every: u64,
}

/// A validator.
pub(crate) struct Replica {
    shared: Arc<Shared>,
    pub(crate) inner: Mutex<Inner>,
}

/// Its state; that of the disk outlives the rest.
pub(crate) struct Inner {
    pub(crate) character: Character,
    pub(crate) folder: Folder,
    pub(crate) feed: Feed,
    /// By how much its clock is ahead, in milliseconds.
    pub(crate) clock_ms: i64,
    pub(crate) state: State,
    pub(crate) blocks: Vec<Final>,
    /// Why it stopped by itself.
    pub(crate) halted: Option<String>,
    /// The epoch whose engine runs.
    engine: u64,
    queue: VecDeque<usize>,
    pending: BTreeMap<Digest, Vec<u8>>,
    recent: VecDeque<(Digest, Vec<u8>)>,
    /// Bodies that it voted for.
    voted: BTreeMap<Digest, u64>,
    last_final_ms: u64,
    keys: KeyDirectory,
    checker: Checker,
    dice: Dice,
}

impl Replica {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        character: Character,
        feed: Feed,
        dice: Dice,
    ) -> Replica {
        let genesis = &shared.genesis;
        let context = CheckContext {
            chain: genesis.chain,
            schemes: Arc::new(genesis.file.schemes.clone()),
            partitions: genesis.file.partitions,
            signatures: true,
            fingerprints: false,
        };
        let inner = Inner {
            character,
            folder: Folder::default(),
            feed,
            clock_ms: 0,
            state: State::new(genesis),
            blocks: Vec::new(),
            halted: None,
            engine: 0,
            queue: VecDeque::new(),
            pending: BTreeMap::new(),
            recent: VecDeque::new(),
            voted: BTreeMap::new(),
            last_final_ms: 0,
            keys: KeyDirectory::default(),
            checker: Checker::new(context, Lanes::detect(), shared.verifier.clone()),
            dice,
        };
        Replica { shared: shared.clone(), inner: Mutex::new(inner) }
    }

    /// Starts again from what is on disk, to which this was done.
    pub(crate) fn restart(&self, damage: Damage) {
        let mut inner = held(&self.inner);
        let (before, voted) = (inner.blocks.clone(), std::mem::take(&mut inner.voted));
        let damaged = inner.restart(&self.shared);
        let who = inner.character.who;
        let bodies = voted.iter().filter(|(_, height)| **height > inner.blocks.len() as u64);
        let bodies = bodies.filter(|(block, _)| !inner.pending.contains_key(*block)).count();
        let (kept, had) = (inner.blocks.len(), before.len());
        let same = inner.blocks.iter().zip(&before).all(|(now, then)| now.header == then.header);
        let mut ledger = held(&self.shared.ledger);
        if !same {
            ledger.violation(format!("validator {who} finds other final blocks than it recorded"));
        }
        if damage == Damage::Flipped {
            ledger.count(if damaged { "flips noticed" } else { "flips without effect" });
        }
        // What is damaged and found to be so may be less; what is whole is all there.
        let excused = damage == Damage::Wiped || (damage == Damage::Flipped && damaged);
        if !excused && kept < had {
            let text = format!("P7: validator {who} had {had} final blocks, and has {kept}");
            ledger.violation(text);
        }
        if !excused && bodies > 0 {
            ledger.violation(format!("validator {who} has lost {bodies} blocks it voted for"));
        }
    }

    /// The epoch of the block after the last that is executed; its engine runs from now on.
    pub(crate) fn turn(&self) -> Turn {
        let mut inner = held(&self.inner);
        let tip = &inner.state.tip.header;
        let (epoch, validators) = tip.next_epoch();
        let governance = inner.state.registry.governance();
        let ground = governance.ground(tip.height).checked_sub(1);
        let header = ground.map(|at| inner.blocks[at as usize].header);
        let ground = header.unwrap_or_else(|| self.shared.genesis.header()).digest();
        let set = governance.set(&validators).map(|set| set.keys().to_vec()).unwrap_or_default();
        inner.engine = epoch;
        Turn { epoch, set, ground }
    }

    /// Sees what is new in its stream, and executes what can be executed.
    pub(crate) fn poke(&self) {
        let mut inner = held(&self.inner);
        inner.look(&self.shared);
        inner.catch_up(&self.shared);
    }
}

impl Inner {
    /// Whether it answers nothing.
    pub(crate) fn is_out(&self) -> bool {
        self.halted.is_some() || self.folder.disk.is_dead()
    }

    /// The last final header.
    pub(crate) fn last(&self, genesis: &Genesis) -> Header {
        self.blocks.last().map_or_else(|| genesis.header(), |block| block.header)
    }

    /// Whether every record of the stream is executed, and the last header says so.
    pub(crate) fn is_settled(&self, stream: &Stream) -> bool {
        let tip = &self.state.tip;
        self.queue.is_empty()
            && tip.cut.0 == stream.ends()
            && tip.header.shards_root == shards_root(&tip.shards)
    }

    /// Whether the engine that runs is of an epoch whose last block is executed.
    pub(crate) fn epoch_is_over(&self) -> bool {
        self.engine != self.state.tip.header.next_epoch().0
    }

    /// Opens its folder; whether something in it was damaged or torn.
    fn restart(&mut self, shared: &Shared) -> bool {
        let Found { blocks, pending, point, effects, cut } =
            self.folder.open(&shared.genesis.header());
        let mut state = State::new(&shared.genesis);
        let restored = effects
            .iter()
            .zip(&blocks)
            .all(|(effects, block)| state.restore(&block.header, &block.cut, effects).is_some());
        let root = shards_root(&state.tip.shards);
        let mut ledger = held(&shared.ledger);
        let refused = !restored || point.is_some_and(|point| point.root != root);
        if refused {
            ledger.count("effects refused at a restart");
            self.folder.forget_effects();
            state = State::new(&shared.genesis);
        }
        ledger.add("files cut at a restart", cut);
        ledger.add("blocks executed again", blocks.len() as u64 - state.tip.header.height);
        drop(ledger);
        self.keys = KeyDirectory::default();
        self.keys.add(state.registry.keys().map(|key| key.public_key.clone()));
        self.queue = (state.tip.header.height as usize..blocks.len()).collect();
        (self.state, self.blocks, self.halted) = (state, blocks, None);
        let digest = |body: Vec<u8>| Some((Body::decode(&body)?.header.digest(), body));
        self.pending = pending.into_iter().filter_map(digest).collect();
        self.recent.clear();
        self.open_stream(shared);
        self.catch_up(shared);
        refused || cut > 0
    }

    /// As a node at its start: final blocks must not cover what the stream does not have.
    fn open_stream(&mut self, shared: &Shared) {
        self.feed.read_again();
        let cut = self.blocks.last().map(|block| &block.cut.0);
        for (partition, end) in self.feed.short(&held(&shared.stream)) {
            let covered = cut.map_or(0, |cut| cut[partition]);
            if covered > end {
                held(&shared.ledger).count("starts refused: the stream lost records");
                self.halted = Some(format!(
                    "partition {partition} ends at {end}, but final blocks cover it up to {covered}"
                ));
            }
        }
    }

    fn look(&mut self, shared: &Shared) {
        let looked = self.feed.look(&held(&shared.stream), shared.now(), &mut self.dice);
        if let Err(TailLost { partition, end, next }) = looked
            && self.halted.is_none()
        {
            held(&shared.ledger).count("stopped: its stream lost records");
            let why = format!("partition {partition} ends at {end}, and was read up to {next}");
            self.halted = Some(why);
        }
    }

    fn clock(&self, shared: &Shared) -> i64 {
        shared.genesis.file.time_ms + 1_000 + shared.now() as i64 + self.clock_ms
    }

    /// Executes final blocks as far as their records are here.
    fn catch_up(&mut self, shared: &Shared) {
        while !self.is_out()
            && let Some(at) = self.queue.front().copied()
        {
            let block = self.blocks[at].clone();
            if let Some(why) = self.differs(shared, &block.header) {
                held(&shared.ledger).count("stopped: another chain than its own");
                self.halted = Some(why);
                return;
            }
            let Some(batches) = self.batches(shared, &block.cut) else { return };
            self.queue.pop_front();
            if self.execute(&block, &batches).is_err() {
                return;
            }
        }
    }

    /// In what a final header is not what this validator computed.
    fn differs(&self, shared: &Shared, header: &Header) -> Option<String> {
        let known =
            self.character.role != Role::Honest && held(&shared.ledger).is_lie(&header.digest());
        if known {
            return None;
        }
        let (height, hex) = (header.height, |digest: &Digest| hex::encode(&digest[..4]));
        match self.state.tip.confirm(header).err()? {
            Divergence::Roots(own) => {
                let theirs = hex(&header.shards_root);
                Some(format!("block {height} is final with root {theirs}, own is {}", hex(&own)))
            }
            Divergence::Set(own) => {
                let theirs = hex(&header.next_validators);
                Some(format!("block {height} is final with set {theirs}, own is {}", hex(&own)))
            }
        }
    }

    fn execute(&mut self, block: &Final, batches: &[CheckedBatch]) -> Result<(), Lost> {
        let registered = batches.last().is_some_and(|batch| !batch.records.is_empty());
        let effects = self.state.execute(&block.header, &block.cut, batches);
        if registered {
            self.keys.add(self.state.registry.keys().map(|key| key.public_key.clone()));
        }
        self.folder.put_effects(&effects)?;
        if block.header.height.is_multiple_of(self.character.flush_every) {
            self.folder.flush(block.header.height, &shards_root(&self.state.tip.shards))?;
        }
        Ok(())
    }

    /// The records up to a cut, checked; `None` while they are not here.
    fn batches(&mut self, shared: &Shared, cut: &Cut) -> Option<Vec<CheckedBatch>> {
        let stream = held(&shared.stream);
        let taken: Vec<_> = (self.state.tip.cut.0.iter().zip(&cut.0).enumerate())
            .map(|(at, (from, to))| self.feed.take(&stream, at, *from..*to))
            .collect::<Option<_>>()?;
        drop(stream);
        let known = self.keys.current();
        let mut batches = Vec::new();
        for (shard, (arena, places, bent)) in (0u32..).zip(taken) {
            held(&shared.ledger).add("records executed with other bytes", bent);
            // Sometimes a record is checked before its key is here: execution decides then.
            let none = Keys::default();
            let keys = if self.dice.percent(10) { &none } else { &*known };
            batches.push(match places.is_empty() {
                true => CheckedBatch::default(),
                false => self.checker.check(shard, arena, &places, keys),
            });
        }
        Some(batches)
    }

    fn propose(&mut self, shared: &Shared, parent: &Digest) -> Option<Digest> {
        let tip = &self.state.tip;
        if tip.header.digest() != *parent || self.epoch_is_over() {
            return None;
        }
        let stream = held(&shared.stream);
        let (cut, records) = self.feed.cut(&stream, &tip.cut, self.character.records_max);
        drop(stream);
        let settled = records == 0 && tip.header.shards_root == shards_root(&tip.shards);
        let due = if settled { IDLE_MS } else { INTERVAL_MS };
        if shared.now() < self.last_final_ms + due {
            return None;
        }
        let mut tip = tip.clone();
        let lies = self.character.role == Role::WrongRoots;
        if lies {
            let at = self.dice.place(tip.shards.len());
            tip.shards[at].log_root[0] ^= 1;
        }
        let header = tip.next(&cut, self.clock(shared));
        let digest = header.digest();
        if lies {
            held(&shared.ledger).lie(digest);
        }
        let body = Body { header, cut, entries: Some(tip.shards) }.encode();
        self.keep(&header, body).ok()?;
        Some(digest)
    }

    /// Keeps a body that it is about to vote for.
    fn keep(&mut self, header: &Header, body: Vec<u8>) -> Result<(), Lost> {
        let digest = header.digest();
        if !self.pending.contains_key(&digest) {
            self.folder.put_pending(&body)?;
            self.pending.insert(digest, body);
        }
        self.voted.insert(digest, header.height);
        Ok(())
    }

    fn check(&mut self, shared: &Shared, body: &Body, bytes: &[u8], notarized: bool) -> Verdict {
        let (header, cut) = (&body.header, &body.cut);
        let available = self.feed.ends(&held(&shared.stream));
        let skew = shared.genesis.file.clock_skew_ms;
        let stand = Stand {
            engine: self.engine,
            last: self.blocks.len() as u64,
            tip: &self.state.tip,
            available: &available,
            latest_ms: (!notarized).then(|| self.clock(shared) + skew),
        };
        let own = self.character.role == Role::WrongRoots
            && held(&shared.ledger).is_lie(&header.digest());
        match stand.judge(header, cut) {
            Judgement::OtherEpoch => Verdict::Bad,
            Judgement::Settled => {
                let stored = self.blocks.get((header.height as usize).wrapping_sub(1));
                match stored.is_some_and(|block| block.header == *header) {
                    true => Verdict::Good,
                    false => Verdict::NotYet,
                }
            }
            Judgement::Unexecuted => Verdict::NotYet,
            Judgement::Behind => {
                held(&shared.ledger).count("votes withheld: the records are not here");
                Verdict::NotYet
            }
            Judgement::Refused(refusal) if !own => {
                held(&shared.ledger).refused(&refusal);
                Verdict::Bad
            }
            Judgement::Refused(_) | Judgement::Good => match self.keep(header, bytes.to_vec()) {
                Ok(()) => Verdict::Good,
                Err(Lost) => Verdict::NotYet,
            },
        }
    }

    /// Keeps evidence as a node does, with what leads to the set of the epoch whose engine runs.
    fn caught(&mut self, shared: &Shared, evidence: Evidence) {
        let governance = self.state.registry.governance();
        let change = |named: SetChange| {
            let block = self.blocks.get(named.named_at.checked_sub(1)? as usize)?;
            let (header, certificate) = (block.header, block.finalization.clone());
            Some(Change { header, certificate, next: named.set })
        };
        let sets = governance.sets(self.state.tip.header.height).into_iter();
        let changes: Vec<Change> = sets.filter_map(change).collect();
        if self.folder.put_evidence(&evidence.led_by(&changes).encode()).is_err() {
            held(&shared.ledger).count("evidence lost to a power cut");
        }
    }

    fn record(&mut self, shared: &Shared, body: &[u8], finalization: &[u8]) {
        let who = self.character.who;
        let Some(Body { header, cut, .. }) = Body::decode(body) else {
            return held(&shared.ledger)
                .violation(format!("validator {who} got an unreadable block"));
        };
        let last = self.last(&shared.genesis);
        if header.height <= last.height {
            return;
        }
        if !follows(&last, &header) {
            let (height, last) = (header.height, last.height);
            let text = format!("validator {who} got final block {height} on top of {last}");
            return held(&shared.ledger).violation(text);
        }
        let block = Final { header, cut, finalization: finalization.to_vec() };
        if self.folder.put_block(&block).is_err() {
            return;
        }
        if self.character.role == Role::Honest {
            held(&shared.ledger).is_final(who, &header);
        }
        self.last_final_ms = shared.now();
        self.pending.remove(&header.digest());
        self.recent.push_back((header.digest(), body.to_vec()));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        self.queue.push_back(self.blocks.len());
        self.blocks.push(block);
        self.catch_up(shared);
    }
}

impl Application for Replica {
    fn identify(&self, body: &[u8]) -> Option<Identity> {
        let Body { header, .. } = Body::decode(body)?;
        let ours = header.chain == self.shared.genesis.chain;
        ours.then(|| identity(&header))
    }

    fn propose(&self, _view: u64, parent: Digest) -> Option<Digest> {
        let mut inner = held(&self.inner);
        inner.look(&self.shared);
        inner.catch_up(&self.shared);
        if inner.is_out() { None } else { inner.propose(&self.shared, &parent) }
    }

    fn check(&self, _view: u64, bytes: &[u8], notarized: bool) -> Verdict {
        let Some(body) = Body::decode(bytes) else { return Verdict::Bad };
        let mut inner = held(&self.inner);
        inner.look(&self.shared);
        inner.catch_up(&self.shared);
        match inner.is_out() {
            true => Verdict::NotYet,
            false => inner.check(&self.shared, &body, bytes, notarized),
        }
    }

    fn body(&self, block: Digest) -> Option<Vec<u8>> {
        let inner = held(&self.inner);
        if inner.is_out() {
            return None;
        }
        let recent = inner.recent.iter().find(|(digest, _)| *digest == block);
        recent.map(|(_, body)| body.clone()).or_else(|| inner.pending.get(&block).cloned())
    }

    fn last(&self) -> Identity {
        identity(&held(&self.inner).last(&self.shared.genesis))
    }

    fn finals(&self, from: u64, most: usize, bytes: usize) -> Vec<FinalBlock> {
        let inner = held(&self.inner);
        let (mut found, mut size) = (Vec::new(), 0);
        let first = usize::try_from(from).unwrap_or(usize::MAX).checked_sub(1);
        let Some(blocks) = first.and_then(|first| inner.blocks.get(first..)) else { return found };
        for block in blocks.iter().take(most) {
            let body = block.body();
            size += body.len() + block.finalization.len() + 8;
            if inner.folder.disk.is_dead() || (size > bytes && !found.is_empty()) {
                break;
            }
            found.push(FinalBlock { body, finalization: block.finalization.clone() });
        }
        found
    }

    fn finalized(&self, _block: Digest, body: &[u8], finalization: &[u8]) {
        let mut inner = held(&self.inner);
        if !inner.is_out() {
            inner.record(&self.shared, body, finalization);
        }
    }

    fn caught(&self, evidence: Evidence) {
        // Also where it stopped for another reason.
        held(&self.inner).caught(&self.shared, evidence);
    }
}

fn identity(header: &Header) -> Identity {
    let (block, parent, height) = (header.digest(), header.parent, header.height);
    Identity { block, parent, height, closes: header.closes_epoch() }
}
