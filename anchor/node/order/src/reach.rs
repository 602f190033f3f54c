//! Turns away at once what is sent to a peer that is not connected.
//!
//! The network takes such a message and drops it. Whoever asks something, as the resolvers do, then
//! waits for the answer until it is late before another peer is asked: with keys among the peers
//! that nobody answers for, old ones or ones to come, most of the time would be spent on them. What
//! is turned away goes to another peer with no time lost, and is not held against the first.
//!
//! The network says who is connected where it is asked for the recipients of a message to all. So a
//! channel is asked, and nothing is sent; that counts as a message to each of them, so it is asked
//! no more often than each [`LOOK`].
//!
//! Invariants
//! - Nothing is turned away by what is older than `LOOK`: a peer that has just connected is reached
//!   with the next try.
//! - Messages to several, or to all, pass as they are.

use crate::held;
use crate::key::Key;
use commonware_actor::{Feedback, Unreliable};
use commonware_p2p::{CheckedSender, LimitedSender, Recipients};
use commonware_runtime::IoBufs;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// How often is looked; shorter than the pause before what was turned away is tried again.
const LOOK: Duration = Duration::from_millis(50);

/// Who is connected, as a channel knows it.
#[derive(Clone)]
pub(crate) struct Sight<S>(Arc<Mutex<Look<S>>>);

struct Look<S> {
    channel: S,
    at: Option<Instant>,
    connected: BTreeSet<Key>,
}

impl<S: LimitedSender<PublicKey = Key>> Sight<S> {
    pub(crate) fn new(channel: S) -> Self {
        Self(Arc::new(Mutex::new(Look { channel, at: None, connected: BTreeSet::new() })))
    }

    /// Whether a peer is connected, as was seen less than [`LOOK`] ago.
    fn has(&self, peer: &Key, now: Instant) -> bool {
        let mut look = held(&self.0);
        if look.at.is_none_or(|at| now.duration_since(at) >= LOOK) {
            look.at = Some(now);
            // Where the channel may not be asked yet, what is known stays.
            let connected = look.channel.check(Recipients::All).map(|all| all.recipients()).ok();
            if let Some(connected) = connected {
                look.connected = connected.into_iter().collect();
            }
        }
        look.connected.contains(peer)
    }
}

/// A channel on which single peers are sent something only where they are seen.
#[derive(Clone)]
pub(crate) struct Reached<S> {
    inner: S,
    /// None on channels on which nobody waits for an answer.
    sight: Option<Sight<S>>,
}

impl<S> Reached<S> {
    pub(crate) fn new(inner: S, sight: Option<Sight<S>>) -> Self {
        Self { inner, sight }
    }
}

/// A sender that was checked; none where nobody is there.
pub(crate) struct Present<C>(Option<C>);

impl<S: LimitedSender<PublicKey = Key>> LimitedSender for Reached<S> {
    type PublicKey = Key;
    type Checked<'a> = Present<S::Checked<'a>>;

    fn check(&mut self, recipients: Recipients<Key>) -> Result<Self::Checked<'_>, SystemTime> {
        if let (Recipients::One(peer), Some(sight)) = (&recipients, &self.sight)
            && !sight.has(peer, Instant::now())
        {
            return Ok(Present(None));
        }
        self.inner.check(recipients).map(|checked| Present(Some(checked)))
    }
}

impl<C: CheckedSender<PublicKey = Key>> CheckedSender for Present<C> {
    type PublicKey = Key;

    fn recipients(&self) -> Vec<Key> {
        self.0.as_ref().map_or_else(Vec::new, C::recipients)
    }

    fn send(self, message: impl Into<IoBufs> + Send, priority: bool) -> Unreliable<Feedback> {
        match self.0 {
            Some(checked) => checked.send(message, priority),
            None => Unreliable::rejected(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_p2p::Sender as _;
    use piaogen_crypto::sm2::SecretKey;

    /// A network that says who is connected, how often it was asked, and what was sent to whom.
    #[derive(Clone, Default)]
    struct Net(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        connected: Vec<Key>,
        /// May not be asked for all.
        limited: bool,
        asked: usize,
        sent: Vec<Vec<Key>>,
    }

    struct Checked(Net, Vec<Key>);

    impl LimitedSender for Net {
        type PublicKey = Key;
        type Checked<'a> = Checked;

        fn check(&mut self, recipients: Recipients<Key>) -> Result<Checked, SystemTime> {
            let mut state = held(&self.0);
            let to = match recipients {
                Recipients::One(peer) => vec![peer],
                Recipients::Some(peers) => peers,
                Recipients::All => {
                    state.asked += 1;
                    if state.limited {
                        return Err(SystemTime::UNIX_EPOCH);
                    }
                    state.connected.clone()
                }
            };
            drop(state);
            Ok(Checked(self.clone(), to))
        }
    }

    impl CheckedSender for Checked {
        type PublicKey = Key;

        fn recipients(&self) -> Vec<Key> {
            self.1.clone()
        }

        fn send(self, _: impl Into<IoBufs> + Send, _: bool) -> Unreliable<Feedback> {
            held(&self.0.0).sent.push(self.1);
            Unreliable::new(Feedback::Ok)
        }
    }

    fn key(seed: u8) -> Key {
        SecretKey::from_bytes(&[seed; 32]).unwrap().public_key().into()
    }

    #[test]
    fn who_is_not_connected_is_sent_nothing_and_the_sender_knows() {
        let net = Net::default();
        held(&net.0).connected = vec![key(1)];
        let mut sender = Reached::new(net.clone(), Some(Sight::new(net.clone())));
        assert_eq!(sender.send(Recipients::One(key(1)), vec![1], false), [key(1)]);
        assert!(sender.send(Recipients::One(key(2)), vec![1], false).is_empty());
        let turned_away = sender.check(Recipients::One(key(2))).unwrap();
        assert!(turned_away.send(vec![1], false).is_rejected());
        // Several are sent to as they are, and so is one where nobody looks.
        let both = vec![key(1), key(2)];
        assert_eq!(sender.send(Recipients::Some(both.clone()), vec![1], false), both);
        let mut blind = Reached::new(net.clone(), None);
        assert_eq!(blind.send(Recipients::One(key(2)), vec![1], false), [key(2)]);
        assert_eq!(held(&net.0).sent, [vec![key(1)], both, vec![key(2)]]);
    }

    #[test]
    fn who_connects_or_goes_is_seen_at_the_next_look_and_no_look_is_too_early() {
        let net = Net::default();
        let sight = Sight::new(net.clone());
        let begun = Instant::now();
        assert!(!sight.has(&key(1), begun));
        held(&net.0).connected = vec![key(1)];
        let early = begun + LOOK - Duration::from_nanos(1);
        assert!(!sight.has(&key(1), early) && held(&net.0).asked == 1);
        assert!(sight.has(&key(1), begun + LOOK) && held(&net.0).asked == 2);
        // Where the network cannot be asked, what was known counts; and it is asked again.
        held(&net.0).connected.clear();
        held(&net.0).limited = true;
        assert!(sight.has(&key(1), begun + 2 * LOOK) && held(&net.0).asked == 3);
        held(&net.0).limited = false;
        assert!(!sight.has(&key(1), begun + 3 * LOOK) && held(&net.0).asked == 4);
    }
}
