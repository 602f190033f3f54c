//! Keeps bodies of blocks in memory, within bounds, until they are final or forgotten.
//!
//! Invariants
//! - A peer has at most `PUSHED_MAX` bodies here that nobody asked for; its oldest go first, and
//!   take nothing away from another peer.
//! - Of what was asked for, made here or handed on, the last `KEPT` are held.

use crate::Identity;
use crate::digest::Digest;
use crate::key::Key;
use std::collections::{HashMap, VecDeque};

/// Most bodies that one peer may push.
pub(crate) const PUSHED_MAX: usize = 8;
/// Most bodies of other origin.
pub(crate) const KEPT: usize = 128;

type Body = (Identity, Vec<u8>);

#[derive(Default)]
pub(crate) struct Bodies {
    pushed: HashMap<Key, VecDeque<Body>>,
    kept: VecDeque<Body>,
}

fn is(block: &Digest) -> impl Fn(&&Body) -> bool {
    move |(identity, _)| identity.block == block.0
}

impl Bodies {
    pub(crate) fn get(&self, block: &Digest) -> Option<Body> {
        let mut all = self.kept.iter().rev().chain(self.pushed.values().flatten());
        all.find(is(block)).cloned()
    }

    /// Takes a body that a peer sent unasked.
    pub(crate) fn push(&mut self, from: Key, identity: Identity, body: Vec<u8>) {
        let bodies = self.pushed.entry(from).or_default();
        if bodies.iter().any(|(held, _)| *held == identity) {
            return;
        }
        if bodies.len() == PUSHED_MAX {
            bodies.pop_front();
        }
        bodies.push_back((identity, body));
    }

    /// Takes a body that was asked for, made here or handed on.
    pub(crate) fn keep(&mut self, identity: Identity, body: Vec<u8>) {
        if self.kept.iter().any(|(held, _)| *held == identity) {
            return;
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((identity, body));
    }

    /// Forgets what cannot become final any longer, because another block of its height is, or is
    /// so old that nobody asks for it.
    pub(crate) fn release(&mut self, height: u64) {
        for bodies in self.pushed.values_mut() {
            bodies.retain(|(identity, _)| identity.height > height);
        }
        self.kept.retain(|(identity, _)| identity.height + KEPT as u64 > height);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piaogen_crypto::sm2::SecretKey;

    fn peer(seed: u8) -> Key {
        SecretKey::from_bytes(&[seed; 32]).unwrap().public_key().into()
    }

    fn identity(n: u8) -> Identity {
        Identity { block: [n; 32], parent: [n - 1; 32], height: n.into(), closes: false }
    }

    #[test]
    fn a_peer_takes_no_room_from_another_and_what_is_final_goes() {
        let mut bodies = Bodies::default();
        bodies.push(peer(1), identity(1), vec![1]);
        for n in 2..30 {
            bodies.push(peer(2), identity(n), vec![n]);
            bodies.push(peer(2), identity(n), vec![n]);
        }
        let has = |bodies: &Bodies, n: u8| bodies.get(&Digest([n; 32])).is_some();
        assert!(has(&bodies, 1) && has(&bodies, 29));
        let held = (2..30).filter(|n| has(&bodies, *n)).count();
        assert_eq!(held, PUSHED_MAX);
        bodies.keep(identity(3), vec![3]);
        assert_eq!(bodies.get(&Digest([3; 32])), Some((identity(3), vec![3])));
        bodies.release(28);
        assert!(!has(&bodies, 1) && !has(&bodies, 28) && has(&bodies, 29) && has(&bodies, 3));
        for n in 0..=KEPT as u64 {
            let identity = Identity { height: 1_000 + n, ..identity(200) };
            bodies.keep(identity, Vec::new());
        }
        assert!(!has(&bodies, 3));
        assert_eq!(bodies.kept.len(), KEPT);
    }
}
