//! Exchanges bodies of blocks and final blocks with the other validators, and brings what the engine
//! asks together with them.
//!
//! The engine agrees on digests. Before the application can check one, its body must be here; before
//! it can record one as final, the bodies and certificates of all below must be. Proposers push
//! bodies to everybody; what is missing is asked for, by digest or by height, until it comes. One
//! task does all of it, so there are no locks and no races; the waiting is the application's and is
//! done elsewhere (`worker`).
//!
//! Invariants
//! - The application gets final blocks in order of height, without gaps, each with its own
//!   certificate, checked; in a set of one, where nobody else has one, a certificate may be missing.
//! - A body is passed on only under the digest that the application finds in it.
//! - Nothing is built on a block that is not final: where its finalization does not come, the same
//!   block is proposed again (PROTOCOL section 5.1).
//! - What is behind the end of the epoch is neither asked for nor believed: another set signs it.
//! - Memory is bounded: `PUSHED_MAX` bodies of each peer, `KEPT` heights of others.

mod bodies;

use self::bodies::Bodies;
use crate::digest::Digest;
use crate::finalization::{self, Finalization};
use crate::key::Key;
use crate::scheme::Scheme;
use crate::wire::{BATCH_BLOCKS, BATCH_BYTES, Want, read_batch, write_batch};
use crate::worker::{Check, Good, Open, Propose, Record, Workers};
use crate::{Application, FinalBlock, Identity};
use bytes::Bytes;
use commonware_codec::Encode;
use commonware_consensus::Viewable;
use commonware_p2p::{Blocker, Receiver, Recipients, Sender};
use commonware_resolver::p2p::{Mailbox as Fetcher, Producer};
use commonware_resolver::{Consumer, Delivery, Outcome, Resolution, Resolver as _};
use commonware_runtime::{Clock, Spawner};
use commonware_utils::channel::{mpsc, oneshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How often is looked after what waits.
const TICK: Duration = Duration::from_millis(25);
/// Most finalizations that wait for what is below them; of more, the oldest are fetched by height.
const FINALS_MAX: usize = 64;

/// Where orders are sent to.
pub(crate) type Mailbox = mpsc::UnboundedSender<Order>;
/// Asks peers for something until it comes.
pub(crate) type Fetch = Fetcher<Want, Key>;

/// What the engine, or the network, wants of the exchange. As many as they have open: the engine
/// asks one thing a view, the network answers what was asked.
#[derive(Debug)]
pub(crate) enum Order {
    /// A block on top of `parent`, or the parent again.
    Propose { view: u64, parent_view: u64, parent: Digest, response: oneshot::Sender<Digest> },
    /// Whether a block is good; without a parent a quorum voted for it already.
    Check { view: u64, parent: Option<Digest>, block: Digest, response: oneshot::Sender<bool> },
    /// The body of a block goes to these.
    Send { block: Digest, recipients: Recipients<Key> },
    /// A block became final.
    Finalized(Finalization),
    /// A peer answered.
    Answer { want: Want, bytes: Bytes, response: oneshot::Sender<Outcome> },
}

/// Where calls of the application run.
pub(crate) enum Calls {
    /// On threads of their own.
    Threads(Workers),
    /// In the task of the exchange: for the deterministic runtime, which has only one thread.
    #[cfg_attr(not(any(test, feature = "simulation")), allow(dead_code, reason = "for simulation"))]
    Inline(Open, Vec<Propose>),
}

/// What an exchange works with.
pub(crate) struct Parts<S, B> {
    pub(crate) application: Arc<dyn Application>,
    pub(crate) calls: Calls,
    pub(crate) good: Good,
    pub(crate) scheme: Scheme,
    pub(crate) epoch: u64,
    /// The last block that the application has recorded.
    pub(crate) last: Identity,
    /// Finalizations above that, whose blocks are not here.
    pub(crate) backlog: Vec<Finalization>,
    /// The highest view that is final.
    pub(crate) final_view: u64,
    /// How long a leader waits for the finalization of a parent before it proposes it again.
    pub(crate) patience: Duration,
    /// After how long without a final block peers are asked for the next one, whether or not anything
    /// says that there is one: they may be in a later epoch, whose certificates do not come here.
    pub(crate) quiet: Duration,
    /// Sends bodies to peers.
    pub(crate) sender: S,
    pub(crate) blocker: B,
    /// Asks peers; there are none in a set of one.
    pub(crate) fetch: Option<Fetch>,
    pub(crate) body_bytes_max: usize,
}

/// A proposal whose parent is not final yet.
struct Held {
    request: Propose,
    parent_view: u64,
    until: SystemTime,
}

/// A check whose body is not here yet.
struct Waiting {
    view: u64,
    parent: Option<Digest>,
    block: Digest,
    response: oneshot::Sender<bool>,
}

/// The task.
pub(crate) struct Exchange<E, S, B> {
    context: E,
    parts: Parts<S, B>,
    bodies: Bodies,
    held: Vec<Held>,
    waiting: Vec<Waiting>,
    /// Finalizations by view that are not handed on yet.
    finals: BTreeMap<u64, Finalization>,
    /// What peers are asked for.
    wanted: BTreeSet<Want>,
    /// When there was a final block last; at the start, so long ago that one is asked for.
    moved: SystemTime,
    /// Whether the last block of the epoch was handed on.
    ended: bool,
}

impl<E, S, B> Exchange<E, S, B>
where
    E: Clock + Spawner,
    S: Sender<PublicKey = Key>,
    B: Blocker<PublicKey = Key>,
{
    pub(crate) fn new(context: E, mut parts: Parts<S, B>) -> Self {
        let backlog = std::mem::take(&mut parts.backlog);
        let now = context.current();
        Self {
            // At the start the others are asked at once: who is several epochs behind would wait at the
            // beginning of each, and with short ones never come up.
            moved: now.checked_sub(parts.quiet).unwrap_or(now),
            context,
            parts,
            bodies: Bodies::default(),
            held: Vec::new(),
            waiting: Vec::new(),
            finals: backlog.into_iter().map(|one| (one.view().get(), one)).collect(),
            wanted: BTreeSet::new(),
            ended: false,
        }
    }

    /// Works until all senders of orders are gone.
    pub(crate) async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut pushed: impl Receiver<PublicKey = Key>,
    ) {
        let mut due = self.context.current() + TICK;
        let mut connected = true;
        loop {
            let tick = self.context.sleep_until(due);
            tokio::select! {
                biased;
                () = tick => {
                    self.tick();
                    due = self.context.current() + TICK;
                }
                // Before orders: a body comes before the vote that makes the engine ask about it.
                message = pushed.recv(), if connected => match message {
                    Ok((from, bytes)) => self.pushed(from, bytes.into()),
                    Err(_) => connected = false,
                },
                order = orders.recv() => match order {
                    Some(order) => self.carry_out(order).await,
                    None => return,
                },
            }
        }
    }

    async fn carry_out(&mut self, order: Order) {
        match order {
            Order::Propose { view, parent_view, parent, response } => {
                let request = Propose { view, parent, response };
                let until = self.context.current() + self.parts.patience;
                self.held.push(Held { request, parent_view, until });
                self.propose();
            }
            Order::Check { view, parent, block, response } => {
                let check = Waiting { view, parent, block, response };
                if let Some(check) = self.check(check) {
                    self.want(Want::Body(check.block));
                    self.waiting.push(check);
                }
            }
            Order::Send { block, recipients } => self.send(block, recipients),
            Order::Finalized(finalization) => self.finalized(finalization),
            Order::Answer { want, bytes, response } => {
                self.wanted.remove(&want);
                let outcome = match want {
                    Want::Body(block) => self.got_body(block, bytes),
                    Want::Finals(from) => self.got_finals(from, bytes).await,
                };
                let _ = response.send(outcome);
            }
        }
    }

    /// Looks after what waits for time to pass, or for the application.
    fn tick(&mut self) {
        self.propose();
        let before = self.waiting.len();
        self.waiting.retain(|check| !check.response.is_closed());
        if self.waiting.len() != before {
            self.forget_wants();
        }
        let quiet = self.moved + self.parts.quiet <= self.context.current();
        if quiet || !self.finals.is_empty() {
            self.advance();
        }
        if let Calls::Inline(open, proposals) = &mut self.parts.calls {
            for _ in 0..open.len() {
                open.turn(self.parts.application.as_ref(), &self.parts.good);
            }
            for request in std::mem::take(proposals) {
                self.begin(request);
            }
        }
    }

    /// Begins the proposals whose parent is final, and proposes those parents again whose
    /// finalization does not come.
    fn propose(&mut self) {
        let now = self.context.current();
        for held in std::mem::take(&mut self.held) {
            if held.request.response.is_closed() {
                continue;
            }
            if held.parent_view <= self.parts.final_view {
                self.begin(held.request);
            } else if held.until <= now && self.body(&held.request.parent).is_some() {
                let Propose { view, parent, response } = held.request;
                tracing::info!(view, block = %parent, "proposed again: it is not final yet");
                let _ = response.send(parent);
            } else {
                self.held.push(held);
            }
        }
    }

    fn begin(&mut self, request: Propose) {
        match &mut self.parts.calls {
            Calls::Threads(workers) => workers.propose(request),
            Calls::Inline(_, proposals) => {
                if request.response.is_closed() {
                    return;
                }
                match self.parts.application.propose(request.view, request.parent.0) {
                    Some(block) => {
                        self.parts.good.add(Digest(block));
                        let _ = request.response.send(Digest(block));
                    }
                    None => proposals.push(request),
                }
            }
        }
    }

    /// Has a block checked whose body is here; else gives the check back.
    fn check(&mut self, check: Waiting) -> Option<Waiting> {
        let Waiting { view, parent, block, response } = check;
        let Some((identity, body)) = self.body(&block) else {
            return Some(Waiting { view, parent, block, response });
        };
        let (on, certify) = (Digest(identity.parent), parent.is_none());
        // Either it stands on the parent, or it is the parent, proposed again.
        if parent.is_some_and(|parent| parent != on && parent != block) {
            tracing::warn!(view, %block, %on, "a proposed block stands on another than it should");
            let _ = response.send(false);
        } else if self.parts.good.has(&block) {
            let _ = response.send(true);
        } else {
            let check = Check { view, block, body, certify, response };
            match &mut self.parts.calls {
                Calls::Threads(workers) => workers.check(check),
                Calls::Inline(open, _) => {
                    open.add(check);
                    open.turn(self.parts.application.as_ref(), &self.parts.good);
                }
            }
        }
        None
    }

    /// The body of a block, from memory or from the application.
    fn body(&mut self, block: &Digest) -> Option<(Identity, Vec<u8>)> {
        if let Some(found) = self.bodies.get(block) {
            return Some(found);
        }
        let body = self.parts.application.body(block.0)?;
        let identity = self.parts.application.identify(&body)?;
        if identity.block != block.0 {
            return None;
        }
        self.bodies.keep(identity, body.clone());
        Some((identity, body))
    }

    fn send(&mut self, block: Digest, recipients: Recipients<Key>) {
        if self.parts.fetch.is_none() {
            return;
        }
        let Some((_, body)) = self.body(&block) else {
            tracing::warn!(%block, "a block is to be sent whose body is not here");
            return;
        };
        if body.len() > self.parts.body_bytes_max {
            let (bytes, limit) = (body.len(), self.parts.body_bytes_max);
            tracing::error!(%block, bytes, limit, "a body is too long to be sent");
            return;
        }
        self.parts.sender.send(recipients, body, true);
    }

    /// A peer pushed a body.
    fn pushed(&mut self, from: Key, body: Bytes) {
        let fits = body.len() <= self.parts.body_bytes_max;
        let identity = fits.then(|| self.parts.application.identify(&body)).flatten();
        let Some(identity) = identity else {
            tracing::warn!(peer = %from, bytes = body.len(), "a peer sent what is no block");
            self.parts.blocker.block(from);
            return;
        };
        if identity.height <= self.parts.last.height {
            return;
        }
        self.bodies.push(from, identity, body.to_vec());
        self.arrived(Digest(identity.block));
    }

    /// A body is here now: whatever waited for it goes on.
    fn arrived(&mut self, block: Digest) {
        for check in std::mem::take(&mut self.waiting) {
            if check.block != block {
                self.waiting.push(check);
            } else if let Some(check) = self.check(check) {
                self.waiting.push(check);
            }
        }
        self.forget_wants();
        self.advance();
    }

    fn finalized(&mut self, finalization: Finalization) {
        let view = finalization.view().get();
        self.parts.final_view = self.parts.final_view.max(view);
        self.finals.insert(view, finalization);
        if self.finals.len() > FINALS_MAX {
            self.finals.pop_first();
        }
        self.advance();
        self.propose();
    }

    /// Hands final blocks to the application as far as they follow each other, and asks for the next
    /// where it is not here.
    fn advance(&mut self) {
        while let Some(view) = self.next() {
            let Some(finalization) = self.finals.remove(&view) else { break };
            let block = finalization.proposal.payload;
            let Some((identity, body)) = self.body(&block) else { break };
            if identity.height > self.parts.last.height {
                let finalization = finalization.encode().to_vec();
                self.hand_on(identity, FinalBlock { body, finalization });
            }
        }
        let behind = matches!(&self.parts.calls, Calls::Threads(workers) if workers.behind());
        let quiet = self.moved + self.parts.quiet <= self.context.current();
        if (quiet || !self.finals.is_empty()) && !behind && !self.ended {
            self.want(Want::Finals(self.parts.last.height + 1));
        }
    }

    /// The view of a finalization that can be handed on now, or that is of no use.
    fn next(&mut self) -> Option<u64> {
        let candidates: Vec<(u64, Digest)> =
            self.finals.iter().map(|(view, one)| (*view, one.proposal.payload)).collect();
        let last = self.parts.last;
        candidates.into_iter().find_map(|(view, block)| {
            let (identity, _) = self.body(&block)?;
            let follows = identity.parent == last.block && identity.height == last.height + 1;
            (follows || identity.height <= last.height).then_some(view)
        })
    }

    fn hand_on(&mut self, identity: Identity, block: FinalBlock) {
        let FinalBlock { body, finalization } = block;
        self.bodies.keep(identity, body.clone());
        match &self.parts.calls {
            Calls::Threads(workers) => {
                workers.record(Record { block: Digest(identity.block), body, finalization });
            }
            Calls::Inline(..) => {
                self.parts.application.finalized(identity.block, &body, &finalization);
            }
        }
        self.parts.last = identity;
        self.moved = self.context.current();
        self.ended |= identity.closes;
        self.bodies.release(identity.height);
        self.forget_wants();
    }

    fn want(&mut self, want: Want) {
        let Some(fetch) = &mut self.parts.fetch else { return };
        if self.wanted.insert(want) {
            tracing::debug!(%want, "peers are asked");
            fetch.fetch(want);
        }
    }

    /// Takes back what is not needed any longer.
    fn forget_wants(&mut self) {
        let next = self.parts.last.height + 1;
        let bodies: BTreeSet<Digest> = self.waiting.iter().map(|check| check.block).collect();
        let needed = move |want: &Want| match want {
            Want::Body(block) => bodies.contains(block),
            Want::Finals(from) => *from == next,
        };
        let before = self.wanted.len();
        self.wanted.retain(&needed);
        if self.wanted.len() != before
            && let Some(fetch) = &mut self.parts.fetch
        {
            fetch.retain(move |want, ()| needed(want));
        }
    }

    fn got_body(&mut self, block: Digest, body: Bytes) -> Outcome {
        let fits = body.len() <= self.parts.body_bytes_max;
        let identity = fits.then(|| self.parts.application.identify(&body)).flatten();
        match identity.filter(|identity| identity.block == block.0) {
            Some(identity) => {
                self.bodies.keep(identity, body.to_vec());
                self.arrived(block);
                Outcome::Resolved(Resolution::Complete)
            }
            None => Outcome::Invalid,
        }
    }

    async fn got_finals(&mut self, from: u64, bytes: Bytes) -> Outcome {
        if from != self.parts.last.height + 1 || self.ended {
            return Outcome::Ignored;
        }
        let (application, scheme) = (self.parts.application.clone(), self.parts.scheme.clone());
        let (last, epoch) = (self.parts.last, self.parts.epoch);
        let checking = self.context.child("batch").shared(true).spawn(move |_| async move {
            checked_batch(application.as_ref(), &scheme, epoch, last, &bytes)
        });
        let Ok(Some(blocks)) = checking.await else { return Outcome::Invalid };
        for (identity, mut block) in blocks {
            // What was pushed says more than what is stored.
            if let Some((_, body)) = self.bodies.get(&Digest(identity.block)) {
                block.body = body;
            }
            self.hand_on(identity, block);
        }
        self.advance();
        Outcome::Resolved(Resolution::Complete)
    }
}

/// The blocks of a batch up to the end of the epoch, if each is final and follows the one before.
pub(crate) fn checked_batch(
    application: &dyn Application,
    scheme: &Scheme,
    epoch: u64,
    mut last: Identity,
    bytes: &[u8],
) -> Option<Vec<(Identity, FinalBlock)>> {
    let mut blocks = Vec::new();
    for block in read_batch(bytes)? {
        let identity = application.identify(&block.body)?;
        let finalization = finalization::decode(&block.finalization).ok()?;
        let follows = identity.parent == last.block && identity.height == last.height + 1;
        let certified = finalization.proposal.payload.0 == identity.block
            && finalization::verify(&finalization, epoch, scheme).is_ok();
        if !follows || !certified {
            return None;
        }
        last = identity;
        blocks.push((identity, block));
        if identity.closes {
            // Those behind are for the engine of the next epoch, which knows who signs them.
            break;
        }
    }
    Some(blocks)
}

/// Hands answers of peers to the exchange.
#[derive(Clone)]
pub(crate) struct Inbox(pub(crate) Mailbox);

impl Consumer for Inbox {
    type Key = Want;
    type Value = Bytes;
    type Subscriber = ();
    type Outcome = Outcome;

    fn deliver(
        &mut self,
        delivery: Delivery<Want, ()>,
        bytes: Bytes,
    ) -> oneshot::Receiver<Outcome> {
        let (response, receiver) = oneshot::channel();
        // Where the exchange has ended, the response is dropped, which says nothing of the peer.
        let _ = self.0.send(Order::Answer { want: delivery.key, bytes, response });
        receiver
    }
}

/// Answers peers from what the application has.
#[derive(Clone)]
pub(crate) struct Library(pub(crate) Arc<dyn Application>);

impl Producer for Library {
    type Key = Want;

    fn produce(&mut self, want: Want) -> oneshot::Receiver<Bytes> {
        let (sender, receiver) = oneshot::channel();
        let found = match want {
            Want::Body(block) => self.0.body(block.0),
            Want::Finals(from) => {
                let blocks = self.0.finals(from, BATCH_BLOCKS, BATCH_BYTES);
                (!blocks.is_empty()).then(|| write_batch(&blocks))
            }
        };
        if let Some(bytes) = found {
            let _ = sender.send(bytes.into());
        }
        receiver
    }
}
