//! What ordering asks of the chain: blocks to propose, a judgement of those of others, and a place
//! for what is final.
//!
//! Invariants
//! - A block is on disk before it is voted for, and final on disk before it is executed.
//! - A header is made or voted for only over roots that this node computed itself.
//! - Nothing is made or voted for in another epoch than the one whose engine runs.

use super::{Chain, Provable, State, clock_ms};
use crate::run::execute::ExecuteError;
use crate::run::lock;
use piaogen_anchor::block::{Judgement, Stand, Tip, follows};
use piaogen_anchor::body::{Body, differences};
use piaogen_crypto::Digest;
use piaogen_order::{Application, FinalBlock, Identity, Verdict};
use piaogen_storage::Block;
use piaogen_verify::evidence::Evidence;
use piaogen_verify::header::{Cut, shards_root};
use std::time::{Duration, Instant};

/// How many final blocks are remembered.
const RECENT: usize = 64;
/// How long a check waits at a time for what is not here yet.
const CHECK_WAIT: Duration = Duration::from_millis(50);
/// What a proposed cut may have beyond twice this node's own limit of records: a batch.
const BATCH_MAX: u64 = 1 << 16;

impl Chain {
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
