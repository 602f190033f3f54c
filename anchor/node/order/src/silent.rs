//! Channels of a validator that is alone: nothing leaves, and nothing arrives but what it was
//! given.
//!
//! The engine always wants three channels to its peers. A set of one has none; what it votes
//! reaches its own certificates inside the engine. What may arrive is what the validator itself had
//! ready before it stopped (see `journal`), handed in as if a peer had kept it.

use crate::key::Key;
use crate::network::Links;
use commonware_actor::{Feedback, Unreliable};
use commonware_p2p::{BlockedSubscription, Blocker, CheckedSender, LimitedSender, Message};
use commonware_p2p::{PeerSetSubscription, Provider, Receiver, Recipients, TrackedPeers};
use commonware_runtime::{IoBuf, IoBufs};
use commonware_utils::NZUsize;
use commonware_utils::channel::{mpsc, ring};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::time::SystemTime;

/// Takes messages and sends them nowhere.
#[derive(Clone, Debug)]
pub(crate) struct Nobody;

impl LimitedSender for Nobody {
    type PublicKey = Key;
    type Checked<'a> = Self;

    fn check(&mut self, _: Recipients<Key>) -> Result<Self, SystemTime> {
        Ok(Self)
    }
}

impl CheckedSender for Nobody {
    type PublicKey = Key;

    fn recipients(&self) -> Vec<Key> {
        Vec::new()
    }

    fn send(self, _: impl Into<IoBufs> + Send, _: bool) -> Unreliable<Feedback> {
        Unreliable::new(Feedback::Ok)
    }
}

impl Blocker for Nobody {
    type PublicKey = Key;

    fn block(&mut self, peer: Key) -> Feedback {
        tracing::error!(%peer, "the engine rejected a message of this validator itself");
        Feedback::Ok
    }

    fn blocked(&mut self) -> BlockedSubscription<Key> {
        ring::channel(NZUsize!(1)).1
    }
}

impl Provider for Nobody {
    type PublicKey = Key;

    async fn peer_set(&mut self, _: u64) -> Option<TrackedPeers<Key>> {
        None
    }

    async fn subscribe(&mut self) -> PeerSetSubscription<Key> {
        mpsc::unbounded_channel().1
    }
}

/// Yields the messages that it was made with, then waits for ever.
#[derive(Debug)]
pub(crate) struct Remembered {
    messages: VecDeque<(Key, Vec<u8>)>,
}

impl Receiver for Remembered {
    type Error = Infallible;
    type PublicKey = Key;

    async fn recv(&mut self) -> Result<Message<Key>, Infallible> {
        match self.messages.pop_front() {
            Some((from, bytes)) => Ok((from, IoBuf::from(bytes))),
            None => std::future::pending().await,
        }
    }

    fn capacity(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }
}

/// A channel to nobody, on which `messages` of `from` wait to be received.
fn channel(from: &Key, messages: Vec<Vec<u8>>) -> (Nobody, Remembered) {
    let messages = messages.into_iter().map(|bytes| (from.clone(), bytes)).collect();
    (Nobody, Remembered { messages })
}

/// Links to nobody; `certificates` are received as if this validator had sent them.
pub(crate) fn links(
    me: &Key,
    certificates: Vec<Vec<u8>>,
) -> Links<Nobody, Remembered, Nobody, Remembered, Nobody, Nobody> {
    let silent = || channel(me, Vec::new());
    Links {
        votes: silent(),
        certificates: channel(me, certificates),
        views: silent(),
        bodies: silent(),
        requests: silent(),
        blocker: Nobody,
        peers: Nobody,
    }
}
