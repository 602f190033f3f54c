//! Tests of the crate as a whole: bytes, one validator on disk, sets in the simulator and over
//! sockets.

mod bytes;
mod disk;
mod fork;
mod observer;
mod once;
mod recall;
mod roles;
mod set;
mod simulated;
mod single;
mod turns;

use crate::{Application, FinalBlock, Finalized, Identity, Verdict};
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use piaogen_crypto::{Digest, sm3};
use piaogen_verify::evidence::Evidence;
use std::collections::HashMap;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

const NAMESPACE: &[u8] = b"piaogen-test";
const GENESIS: Digest = [0x67; 32];
/// Parent, height, view, root.
const BODY: usize = 32 + 8 + 8 + 32;

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

/// Makes blocks that are a link to their parent with a root that all must agree on; remembers what
/// was final.
struct Chain {
    state: Mutex<State>,
    grew: Condvar,
}

struct State {
    /// Proposed and not final.
    bodies: HashMap<Digest, Vec<u8>>,
    /// From height 1 on.
    blocks: Vec<FinalBlock>,
    last: Identity,
    /// What was handed over against validators.
    caught: Vec<Evidence>,
    /// Proposes nothing.
    idle: bool,
    /// Cannot record.
    full: bool,
    /// Proposes wrong roots.
    liar: bool,
    /// Added to the views in its blocks, so that they are others than another's.
    twist: u64,
    /// Of so many blocks one closes its epoch; none where it is zero.
    epoch_blocks: u64,
    /// The block that the epoch stands on whose engine runs.
    ground: Digest,
    /// How many bodies it found good, and bad.
    verdicts: (u64, u64),
}

impl Default for Chain {
    fn default() -> Self {
        let state = State {
            bodies: HashMap::new(),
            blocks: Vec::new(),
            last: Identity { block: GENESIS, parent: [0; 32], height: 0, closes: false },
            idle: false,
            full: false,
            liar: false,
            twist: 0,
            epoch_blocks: 0,
            ground: GENESIS,
            caught: Vec::new(),
            verdicts: (0, 0),
        };
        Self { state: Mutex::new(state), grew: Condvar::new() }
    }
}

/// What every honest application computes of a block's parent.
fn root(parent: &Digest) -> Digest {
    sm3::hash_parts(&[b"root", parent])
}

impl Chain {
    fn at(genesis: Digest) -> Self {
        let chain = Self::default();
        chain.state.lock().unwrap().last.block = genesis;
        chain
    }

    /// Finals from height 1 on, once there are at least `count`: longer than that takes, however busy
    /// the machine is, is only waited for what has failed.
    fn finals(&self, count: usize) -> Vec<FinalBlock> {
        self.finals_within(count, Duration::from_secs(300)).unwrap_or_else(|found| {
            panic!("{found} of {count} blocks final");
        })
    }

    fn finals_within(&self, count: usize, limit: Duration) -> Result<Vec<FinalBlock>, usize> {
        let until = Instant::now() + limit;
        let mut state = self.state.lock().unwrap();
        while state.blocks.len() < count {
            if Instant::now() >= until {
                return Err(state.blocks.len());
            }
            state = self.grew.wait_timeout(state, Duration::from_millis(50)).unwrap().0;
        }
        Ok(state.blocks.clone())
    }

    fn height(&self) -> usize {
        self.state.lock().unwrap().blocks.len()
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }
}

/// A block of the last view there is closes the epoch.
fn identity(body: &[u8]) -> Option<Identity> {
    if body.len() != BODY {
        return None;
    }
    let parent = body[..32].try_into().unwrap();
    let height = u64::from_be_bytes(body[32..40].try_into().unwrap());
    let closes = body[40..48] == [0xff; 8];
    Some(Identity { block: sm3::hash(body), parent, height, closes })
}

/// Fails unless these are one chain from genesis, each block with a certificate of its own.
fn check(blocks: &[FinalBlock], keys: &[PublicKey]) {
    let mut parent = GENESIS;
    for (block, height) in blocks.iter().zip(1..) {
        let identity = identity(&block.body).unwrap();
        assert_eq!((identity.parent, identity.height), (parent, height));
        assert_eq!(block.body[48..], root(&parent), "height {height}");
        let read = Finalized::check(&block.finalization, NAMESPACE, 0, keys).unwrap();
        assert_eq!(read.block, identity.block);
        parent = identity.block;
    }
}

/// Bodies, which are the same everywhere; certificates need not be.
fn bodies(blocks: &[FinalBlock]) -> Vec<Vec<u8>> {
    blocks.iter().map(|block| block.body.clone()).collect()
}

impl Application for Chain {
    fn identify(&self, body: &[u8]) -> Option<Identity> {
        identity(body)
    }

    fn propose(&self, view: u64, parent: Digest) -> Option<Digest> {
        let mut state = self.state.lock().unwrap();
        if state.idle {
            return None;
        }
        let on = match state.last {
            last if last.block == parent => last,
            // Final, and not recorded yet.
            _ => identity(state.bodies.get(&parent)?)?,
        };
        if on.closes && on.block != state.ground {
            return None;
        }
        let height = on.height + 1;
        let root = if state.liar { [0; 32] } else { root(&parent) };
        let closes = state.epoch_blocks > 0 && height.is_multiple_of(state.epoch_blocks);
        let said = if closes { u64::MAX } else { view + state.twist };
        let body = [&parent[..], &height.to_be_bytes(), &said.to_be_bytes(), &root].concat();
        let block = sm3::hash(&body);
        state.bodies.insert(block, body);
        Some(block)
    }

    fn check(&self, _: u64, body: &[u8], _: bool) -> Verdict {
        let mut state = self.state.lock().unwrap();
        let identity = identity(body).unwrap();
        if identity.height <= state.last.height {
            let same = state.blocks[identity.height as usize - 1].body == body;
            return if same { Verdict::Good } else { Verdict::NotYet };
        }
        if state.last.block != identity.parent {
            return Verdict::NotYet;
        }
        if body[48..] != root(&identity.parent) || identity.height != state.last.height + 1 {
            state.verdicts.1 += 1;
            return Verdict::Bad;
        }
        state.verdicts.0 += 1;
        state.bodies.insert(identity.block, body.to_vec());
        Verdict::Good
    }

    fn body(&self, block: Digest) -> Option<Vec<u8>> {
        self.state.lock().unwrap().bodies.get(&block).cloned()
    }

    fn last(&self) -> Identity {
        self.state.lock().unwrap().last
    }

    fn finals(&self, from: u64, most: usize, bytes: usize) -> Vec<FinalBlock> {
        let state = self.state.lock().unwrap();
        let mut size = 0;
        let fits = |block: &&FinalBlock| {
            size += block.body.len() + block.finalization.len();
            size <= bytes
        };
        if from == 0 {
            return Vec::new();
        }
        let blocks = state.blocks.iter().skip(from as usize - 1).take(most);
        blocks.take_while(fits).cloned().collect()
    }

    fn finalized(&self, block: Digest, body: &[u8], finalization: &[u8]) {
        let mut state = self.state.lock().unwrap();
        if state.full {
            drop(state);
            panic!("the disk is full");
        }
        let identity = identity(body).unwrap();
        assert_eq!(identity.block, block);
        assert_eq!(identity.parent, state.last.block, "without gaps");
        state.last = identity;
        state.blocks.push(FinalBlock { body: body.to_vec(), finalization: finalization.to_vec() });
        self.grew.notify_all();
    }

    fn caught(&self, evidence: Evidence) {
        self.set(|state| state.caught.push(evidence));
    }
}
