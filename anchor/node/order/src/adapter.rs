//! Speaks for the application to the engine: what the engine asks and reports becomes orders to
//! the exchange, which has the bodies of blocks.
//!
//! The engine knows blocks by digest only. It asks for one (`propose`), asks about one (`verify`,
//! and `certify` when a quorum voted for it), and reports everything that it sees; of the reports
//! finalizations matter here, votes are counted, and evidence of double voting is handed on.

use crate::digest::Digest;
use crate::evidence;
use crate::exchange::{Mailbox, Order};
use crate::key::Key;
use crate::scheme::Scheme;
use crate::{Application, Status};
use commonware_actor::Feedback;
use commonware_consensus::simplex::Plan;
use commonware_consensus::simplex::types::{Activity, Attributable as _, Context};
use commonware_consensus::types::Round;
use commonware_consensus::{Automaton, CertifiableAutomaton, Relay, Reporter, Viewable};
use commonware_p2p::Recipients;
use commonware_utils::Participant;
use commonware_utils::channel::oneshot;
use std::sync::Arc;

/// The engine's view of the application.
#[derive(Clone)]
pub(crate) struct Adapter {
    mailbox: Mailbox,
    status: Arc<Status>,
    scheme: Scheme,
    application: Arc<dyn Application>,
}

impl Adapter {
    pub(crate) fn new(
        mailbox: Mailbox,
        status: Arc<Status>,
        scheme: Scheme,
        application: Arc<dyn Application>,
    ) -> Self {
        Self { mailbox, status, scheme, application }
    }

    fn send(&self, order: Order) -> Feedback {
        // The exchange ends after the engine; what comes too late is found in the journal again.
        match self.mailbox.send(order) {
            Ok(()) => Feedback::Ok,
            Err(_) => Feedback::Closed,
        }
    }

    fn voted(&self, who: Participant, view: u64) {
        self.status.voted(who.get() as usize, view);
    }
}

impl Automaton for Adapter {
    type Context = Context<Digest, Key>;
    type Digest = Digest;

    async fn propose(&mut self, context: Self::Context) -> oneshot::Receiver<Digest> {
        let (response, receiver) = oneshot::channel();
        let ((parent_view, parent), view) = (context.parent, context.view().get());
        self.status.saw(view);
        self.send(Order::Propose { view, parent_view: parent_view.get(), parent, response });
        receiver
    }

    async fn verify(&mut self, context: Self::Context, block: Digest) -> oneshot::Receiver<bool> {
        let (response, receiver) = oneshot::channel();
        let (parent, view) = (context.parent.1, context.view().get());
        self.status.saw(view);
        self.send(Order::Check { view, parent: Some(parent), block, response });
        receiver
    }
}

impl CertifiableAutomaton for Adapter {
    async fn certify(&mut self, round: Round, block: Digest) -> oneshot::Receiver<bool> {
        let (response, receiver) = oneshot::channel();
        self.send(Order::Check { view: round.view().get(), parent: None, block, response });
        receiver
    }
}

impl Relay for Adapter {
    type Digest = Digest;
    type PublicKey = Key;
    type Plan = Plan<Key>;

    fn broadcast(&mut self, block: Digest, plan: Plan<Key>) -> Feedback {
        let recipients = match plan {
            Plan::Prepare { .. } | Plan::Propose { .. } => Recipients::All,
            Plan::Forward { recipients, .. } => recipients,
        };
        self.send(Order::Send { block, recipients })
    }
}

impl Reporter for Adapter {
    type Activity = Activity<Scheme, Digest>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        match &activity {
            Activity::Notarize(vote) => self.voted(vote.signer(), vote.view().get()),
            Activity::Nullify(vote) => self.voted(vote.signer(), vote.view().get()),
            Activity::Finalize(vote) => self.voted(vote.signer(), vote.view().get()),
            Activity::Finalization(finalization) => {
                return self.send(Order::Finalized(finalization.clone()));
            }
            Activity::ConflictingNotarize(_)
            | Activity::ConflictingFinalize(_)
            | Activity::NullifyFinalize(_) => {
                if let Some(evidence) = evidence::of(&activity, &self.scheme)
                    && self.status.is_new_liar(&evidence)
                {
                    self.application.caught(evidence);
                }
            }
            Activity::Notarization(_) | Activity::Certification(_) | Activity::Nullification(_) => {
            }
        }
        Feedback::Ok
    }
}
