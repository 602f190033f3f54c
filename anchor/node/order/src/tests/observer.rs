//! Observers: they follow whoever votes, a lone validator too, and are refused a key that must vote.

use super::{Chain, GENESIS, NAMESPACE, bodies, check, secret};
use crate::{Handle, NetworkConfig, OrderConfig, start};
use piaogen_crypto::sm2::PublicKey;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A lone validator (0) and two observers of it, on this machine.
struct Observed {
    root: tempfile::TempDir,
    addresses: Vec<String>,
    chains: Vec<Arc<Chain>>,
}

fn key(index: u8) -> PublicKey {
    secret(index + 1).public_key()
}

impl Observed {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            addresses: super::set::free(3),
            chains: (0..3).map(|_| Arc::default()).collect(),
        }
    }

    fn config(&self, index: u8) -> OrderConfig {
        let at = usize::from(index);
        let finals = self.chains[at].finals(0);
        // The tables of observers name all but themselves.
        let peers = (0..3).zip(&self.addresses).filter(|(peer, _)| index == 0 || *peer != index);
        OrderConfig {
            finalized: finals.last().map(|block| block.finalization.clone()),
            leader_timeout: Duration::from_millis(500),
            certification_timeout: Duration::from_millis(750),
            network: Some(NetworkConfig {
                listen: self.addresses[at].parse().unwrap(),
                peers: peers.map(|(peer, address)| (key(peer), address.clone())).collect(),
                any_source: false,
                blocked_for: Duration::from_secs(2),
                body_bytes_max: 1_000,
            }),
            votes: index == 0,
            ..config(&self.root.path().join(index.to_string()))
        }
    }

    /// Lets the validator make some blocks, and waits until these have them.
    fn grow(&self, who: &[usize]) {
        self.chains[0].set(|state| state.idle = false);
        self.chains[0].finals(self.chains[0].height() + 10);
        // It would make more than anybody can check while the test waits.
        self.chains[0].set(|state| state.idle = true);
        for index in who {
            self.chains[*index].finals(self.chains[0].height());
        }
    }

    fn start(&self, index: u8) -> Handle {
        let chain = self.chains[usize::from(index)].clone();
        start(self.config(index), &secret(index + 1), chain).unwrap()
    }
}

fn config(directory: &Path) -> OrderConfig {
    OrderConfig::new(NAMESPACE, vec![key(0)], directory, GENESIS)
}

#[test]
fn a_lone_validator_is_followed_while_it_runs() {
    let set = Observed::new();
    let (validator, first) = (set.start(0), set.start(1));
    set.grow(&[1]);
    // One that comes later, and while the other is away.
    first.stop().unwrap();
    let second = set.start(2);
    set.grow(&[2]);
    let first = set.start(1);
    set.grow(&[1, 2]);
    // The validator needs nobody, and is followed again when it is back.
    validator.stop().unwrap();
    let validator = set.start(0);
    set.grow(&[1, 2]);
    for handle in [second, first, validator] {
        assert_eq!(handle.failed(), None);
        handle.stop().unwrap();
    }
    let all: Vec<_> = set.chains.iter().map(|chain| chain.finals(0)).collect();
    for blocks in &all {
        check(blocks, &[key(0)]);
        assert_eq!(bodies(&all[0][..blocks.len()]), bodies(blocks));
    }
}

#[test]
fn an_observer_is_refused_a_key_that_must_vote_and_a_place_without_peers() {
    let set = Observed::new();
    let refused = |config: OrderConfig, seed: u8| {
        start(config, &secret(seed), set.chains[0].clone()).unwrap_err().to_string()
    };
    let error = refused(OrderConfig { votes: false, ..set.config(0) }, 1);
    assert!(error.contains("observer is among the validators"), "{error}");
    let error = refused(OrderConfig { network: None, ..set.config(1) }, 2);
    assert!(error.contains("observer follows its peers"), "{error}");
    // A validator whose table does not name it is refused as before.
    let error = refused(OrderConfig { votes: true, ..set.config(1) }, 2);
    assert!(error.contains("not among the validators"), "{error}");
}
