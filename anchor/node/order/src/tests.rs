//! Tests of the crate as a whole: bytes, one validator on disk, four in the simulator.

mod bytes;
mod recall;
mod simulated;
mod single;

use crate::Application;
use piaogen_crypto::{Digest, sm2::SecretKey, sm3};
use std::collections::HashMap;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

const NAMESPACE: &[u8] = b"piaogen-test";
const GENESIS: Digest = [0x67; 32];

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

/// Makes blocks that are nothing but a link to their parent; remembers what was final.
#[derive(Default)]
struct Chain {
    state: Mutex<State>,
    grew: Condvar,
}

#[derive(Default)]
struct State {
    parents: HashMap<Digest, Digest>,
    finals: Vec<(Digest, Vec<u8>)>,
    idle: bool,
    full: bool,
}

fn link(parent: &Digest, view: u64) -> Digest {
    sm3::hash_parts(&[parent, &view.to_be_bytes()])
}

impl Chain {
    /// Finals, once there are at least `count`.
    fn finals(&self, count: usize) -> Vec<(Digest, Vec<u8>)> {
        let until = Instant::now() + Duration::from_secs(60);
        let mut state = self.state.lock().unwrap();
        while state.finals.len() < count {
            assert!(Instant::now() < until, "{} of {count} blocks final", state.finals.len());
            state = self.grew.wait_timeout(state, Duration::from_millis(200)).unwrap().0;
        }
        state.finals.clone()
    }
}

/// Digests from genesis to `last`, walking down.
fn path(parents: &HashMap<Digest, Digest>, last: Digest) -> Vec<Digest> {
    let mut path = vec![last];
    while path[path.len() - 1] != GENESIS {
        path.push(parents[&path[path.len() - 1]]);
    }
    path.reverse();
    path
}

impl Application for Chain {
    fn propose(&self, view: u64, parent: Digest) -> Option<Digest> {
        let mut state = self.state.lock().unwrap();
        if state.idle {
            return None;
        }
        let block = link(&parent, view);
        state.parents.insert(block, parent);
        Some(block)
    }

    fn verify(&self, view: u64, parent: Digest, block: Digest) -> bool {
        self.state.lock().unwrap().parents.insert(block, parent);
        block == link(&parent, view)
    }

    fn finalized(&self, block: Digest, finalization: &[u8]) {
        let mut state = self.state.lock().unwrap();
        if state.full {
            drop(state);
            panic!("the disk is full");
        }
        state.finals.push((block, finalization.to_vec()));
        self.grew.notify_all();
    }
}
