//! Engines that take turns, without a node around them: each ends with the last block of its epoch,
//! the next begins on that block with another set. Over sockets, with the votes of all epochs in one
//! folder, as nodes have them.

use super::set::free;
use super::{Chain, GENESIS, NAMESPACE, bodies, identity, secret};
use crate::{Finalized, Handle, NetworkConfig, OrderConfig, has_votes, start};
use piaogen_crypto::sm2::PublicKey;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Blocks in an epoch.
const EPOCH: usize = 4;
/// Who votes in each epoch: one leaves and another joins, that one is alone, others come back.
const SETS: [&[usize]; 5] = [&[0, 1, 2, 3], &[0, 1, 2, 4], &[4], &[4, 3], &[0, 1, 2, 3]];

/// Five who know each other, and what runs of them, with its epoch.
struct Five {
    root: TempDir,
    addresses: Vec<String>,
    chains: Vec<Arc<Chain>>,
    running: Vec<Option<(u64, Handle)>>,
}

fn key(index: usize) -> PublicKey {
    secret(index as u8 + 1).public_key()
}

fn set(epoch: u64) -> Vec<PublicKey> {
    SETS[epoch as usize].iter().map(|index| key(*index)).collect()
}

impl Five {
    fn new() -> Self {
        let chain = || {
            let chain = Chain::default();
            chain.set(|state| state.epoch_blocks = EPOCH as u64);
            Arc::new(chain)
        };
        Self {
            root: tempfile::tempdir().unwrap(),
            addresses: free(5),
            chains: (0..5).map(|_| chain()).collect(),
            running: (0..5).map(|_| None).collect(),
        }
    }

    fn directory(&self, index: usize) -> PathBuf {
        self.root.path().join(index.to_string())
    }

    /// Starts the engine of an epoch, whose ground is there, and of which nothing is final here.
    fn start(&mut self, index: usize, epoch: u64) {
        let chain = self.chains[index].clone();
        let ends = chain.finals(EPOCH * epoch as usize);
        let ground = ends.last().map_or(GENESIS, |block| identity(&block.body).unwrap().block);
        chain.set(|state| state.ground = ground);
        let config = OrderConfig {
            epoch,
            leader_timeout: Duration::from_millis(500),
            certification_timeout: Duration::from_millis(750),
            network: Some(NetworkConfig {
                listen: self.addresses[index].parse().unwrap(),
                peers: (0..5).map(key).zip(self.addresses.clone()).collect(),
                any_source: false,
                blocked_for: Duration::from_secs(2),
                body_bytes_max: 1_000,
            }),
            ..OrderConfig::new(NAMESPACE, set(epoch), self.directory(index), ground)
        };
        let handle = start(config, &secret(index as u8 + 1), chain).unwrap();
        self.running[index] = Some((epoch, handle));
    }

    /// Stops an engine; its epoch.
    fn stop(&mut self, index: usize) -> u64 {
        let (epoch, handle) = self.running[index].take().unwrap();
        assert_eq!(handle.failed(), None);
        self.chains[index].set(|state| assert!(state.caught.is_empty()));
        handle.stop().unwrap();
        epoch
    }

    /// Waits for the end of an epoch, and goes on with the next.
    fn turn(&mut self, index: usize) {
        let epoch = self.running[index].as_ref().unwrap().0;
        self.chains[index].finals(EPOCH * (epoch as usize + 1));
        self.stop(index);
        self.start(index, epoch + 1);
    }
}

#[test]
fn each_epoch_stands_on_the_last_and_has_the_votes_of_its_own_set() {
    let mut five = Five::new();
    (0..5).for_each(|index| five.start(index, 0));
    five.chains[1].finals(EPOCH);
    assert_eq!(five.stop(1), 0);
    for _ in 1..SETS.len() {
        // Who turns first is gone for the others: they have the end of the epoch from it.
        [4, 0, 2, 3].into_iter().for_each(|index| five.turn(index));
    }
    // One was away for as many epochs, in some of which it should have voted.
    five.start(1, 1);
    (2..SETS.len()).for_each(|_| five.turn(1));
    let blocks = EPOCH * SETS.len();
    (0..5).for_each(|index| drop(five.chains[index].finals(blocks)));
    (0..5).for_each(|index| assert_eq!(five.stop(index), SETS.len() as u64 - 1));
    let first = five.chains[0].finals(blocks);
    for chain in &five.chains {
        let finals = chain.finals(blocks);
        assert_eq!(finals.len(), blocks, "nothing stands on the last block of the last epoch");
        assert_eq!(bodies(&finals), bodies(&first));
        for (at, block) in finals.iter().enumerate() {
            let epoch = (at / EPOCH) as u64;
            Finalized::check(&block.finalization, NAMESPACE, epoch, &set(epoch)).unwrap();
            assert_eq!(identity(&block.body).unwrap().closes, (at + 1) % EPOCH == 0);
        }
    }
    for (epoch, who) in SETS.iter().enumerate() {
        for index in [0, 2, 3, 4] {
            let voted = has_votes(&five.directory(index), epoch as u64);
            assert_eq!(voted, who.contains(&index), "validator {index} in epoch {epoch}");
        }
    }
}
