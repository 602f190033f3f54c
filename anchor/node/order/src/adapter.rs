//! Speaks for the application to the engine: what the engine asks and reports becomes calls of
//! `Application`.
//!
//! The engine knows blocks by digest only. It asks for one (`propose`), asks about one (`verify`),
//! and reports everything that it sees; of the reports only finalizations matter here, and evidence
//! of double voting, which is logged.
//!
//! Invariants
//! - Views of finalizations handed on only rise: what was already handed on, at a restart too, is
//!   not handed on again in this run.

use crate::Application;
use crate::digest::Digest;
use crate::finalization::Finalization;
use crate::key::Key;
use crate::scheme::Scheme;
use crate::worker::{Check, Propose, Record, Workers};
use commonware_actor::Feedback;
use commonware_codec::Encode;
use commonware_consensus::simplex::Plan;
use commonware_consensus::simplex::types::{Activity, Context};
use commonware_consensus::{Automaton, CertifiableAutomaton, Relay, Reporter, Viewable};
use commonware_utils::channel::oneshot;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where calls of the application run.
#[derive(Clone)]
pub(crate) enum Calls {
    /// On threads of their own.
    Threads(Workers),
    /// At once, on the caller's thread: for the deterministic runtime, which has only one.
    #[cfg_attr(not(test), allow(dead_code, reason = "simulation only"))]
    Inline(Arc<dyn Application>),
}

/// The engine's view of the application.
#[derive(Clone)]
pub(crate) struct Adapter {
    calls: Calls,
    delivered: Arc<AtomicU64>,
}

impl Adapter {
    /// `delivered` is the highest view whose finalization the application has.
    pub(crate) fn new(calls: Calls, delivered: u64) -> Self {
        Self { calls, delivered: Arc::new(AtomicU64::new(delivered)) }
    }

    fn finalized(&self, finalization: &Finalization) {
        let view = finalization.view().get();
        if self.delivered.fetch_max(view, Ordering::SeqCst) >= view {
            return;
        }
        let (block, bytes) = (finalization.proposal.payload, finalization.encode().to_vec());
        match &self.calls {
            Calls::Threads(workers) => workers.record(Record { block, finalization: bytes }),
            Calls::Inline(application) => application.finalized(block.0, &bytes),
        }
    }
}

impl Automaton for Adapter {
    type Context = Context<Digest, Key>;
    type Digest = Digest;

    async fn propose(&mut self, context: Self::Context) -> oneshot::Receiver<Digest> {
        let (response, receiver) = oneshot::channel();
        let (view, parent) = (context.view().get(), context.parent.1);
        match &self.calls {
            Calls::Threads(workers) => workers.propose(Propose { view, parent, response }),
            Calls::Inline(application) => {
                if let Some(block) = application.propose(view, parent.0) {
                    let _ = response.send(Digest(block));
                }
            }
        }
        receiver
    }

    async fn verify(&mut self, context: Self::Context, block: Digest) -> oneshot::Receiver<bool> {
        let (response, receiver) = oneshot::channel();
        let (view, parent) = (context.view().get(), context.parent.1);
        match &self.calls {
            Calls::Threads(workers) => workers.check(Check { view, parent, block, response }),
            Calls::Inline(application) => {
                let _ = response.send(application.verify(view, parent.0, block.0));
            }
        }
        receiver
    }
}

// A block is durable before `propose` or `verify` answers, so there is nothing left to certify.
impl CertifiableAutomaton for Adapter {}

impl Relay for Adapter {
    type Digest = Digest;
    type PublicKey = Key;
    type Plan = Plan<Key>;

    fn broadcast(&mut self, _: Digest, _: Plan<Key>) -> Feedback {
        // Nobody to send blocks to in a set of one; with peers, blocks leave from here.
        Feedback::Ok
    }
}

impl Reporter for Adapter {
    type Activity = Activity<Scheme, Digest>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        match &activity {
            Activity::Finalization(finalization) => self.finalized(finalization),
            Activity::ConflictingNotarize(_)
            | Activity::ConflictingFinalize(_)
            | Activity::NullifyFinalize(_) => {
                tracing::error!(?activity, "a validator voted twice: keep this line as evidence");
            }
            _ => {}
        }
        Feedback::Ok
    }
}
