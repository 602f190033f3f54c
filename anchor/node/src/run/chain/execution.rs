//! Executes final blocks, one behind the last that is final.
//!
//! Invariants
//! - When the roots of a final header differ from our own, the node stops; when the set that it
//!   names does, too.

use super::{Chain, Provable};
use crate::run::epochs::change_at;
use crate::run::execute::{ExecuteError, Executor};
use crate::run::{lock, parse_block};
use piaogen_anchor::block::{Divergence, Tip};
use piaogen_anchor::body::{Body, differences};
use piaogen_crypto::Digest;
use piaogen_verify::epoch::Change;
use piaogen_verify::header::{Cut, Header, ValidatorSet, shards_root};
use piaogen_verify::merkle;
use std::sync::Arc;
use std::time::Instant;

impl Chain {
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
}
