//! Four validators over a simulated network in the deterministic runtime.

use super::{Chain, GENESIS, NAMESPACE, path, secret};
use crate::adapter::{Adapter, Calls};
use crate::digest::Digest;
use crate::engine::settings;
use crate::finalization::sorted;
use crate::key::Key;
use crate::scheme::Scheme;
use crate::{Finalized, OrderConfig};
use commonware_consensus::simplex::{Engine, max_payload_size};
use commonware_p2p::max_message_size;
use commonware_p2p::simulated::{Config, Link, Network};
use commonware_runtime::{Clock as _, Quota, Runner as _, Supervisor as _, deterministic};
use commonware_utils::{NZU32, NZUsize, Probability, probability};
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use std::sync::Arc;
use std::time::Duration;

const VIEWS: u64 = 20;

/// Runs until each of four has `VIEWS` views final; the trace, and each one's finals.
fn run(seed: u64, success_rate: Probability) -> (String, Vec<Arc<Chain>>) {
    let runner =
        deterministic::Config::new().with_seed(seed).with_timeout(Some(Duration::from_secs(600)));
    deterministic::Runner::new(runner).start(|context| async move {
        let secrets: Vec<SecretKey> = (1..=4).map(secret).collect();
        let keys: Vec<PublicKey> = secrets.iter().map(SecretKey::public_key).collect();
        let names: Vec<Key> = keys.iter().cloned().map(Key::from).collect();
        let limits = Config {
            max_size: max_message_size(&[max_payload_size::<Scheme, Digest>(4)]),
            max_peers_per_set: NZUsize!(4),
            disconnect_on_block: true,
            tracked_peer_sets: NZUsize!(1),
        };
        let (network, oracle) =
            Network::new_with_peers(context.child("network"), limits, names.clone()).await;
        network.start();
        let link = Link {
            latency: Duration::from_millis(20),
            jitter: Duration::from_millis(5),
            success_rate,
        };
        for from in &names {
            for to in names.iter().filter(|to| *to != from) {
                oracle.add_link(from.clone(), to.clone(), link.clone()).await.unwrap();
            }
        }
        let mut chains = Vec::new();
        let mut engines = Vec::new();
        for (index, (secret, name)) in secrets.into_iter().zip(&names).enumerate() {
            let chain = Arc::new(Chain::default());
            chains.push(chain.clone());
            let config = OrderConfig {
                // The simulated disk is one for all.
                epoch: 0,
                ..OrderConfig::new(NAMESPACE, keys.clone(), format!("{index}"), GENESIS)
            };
            let scheme = Scheme::signer(NAMESPACE, sorted(&keys).unwrap(), secret).unwrap();
            let adapter = Adapter::new(Calls::Inline(chain), 0);
            let control = oracle.control(name.clone());
            let mut config = settings(&config, scheme, None, adapter, control.clone());
            config.partition = format!("validator-{index}");
            let context = context.child("validator").with_attribute("index", index);
            let engine = Engine::new(context.child("engine"), config);
            let quota = Quota::per_second(NZU32!(1024));
            engines.push(engine.start(
                control.register(0, quota).await.unwrap(),
                control.register(1, quota).await.unwrap(),
                control.register(2, quota).await.unwrap(),
            ));
        }
        while chains.iter().any(|chain| top(chain) < VIEWS) {
            context.sleep(Duration::from_millis(100)).await;
        }
        (context.auditor().state(), chains)
    })
}

fn top(chain: &Chain) -> u64 {
    let state = chain.state.lock().unwrap();
    state.finals.last().map_or(0, |(_, bytes)| Finalized::decode(bytes).unwrap().view)
}

fn check(chains: &[Arc<Chain>]) {
    let keys: Vec<PublicKey> = (1..=4).map(|seed| secret(seed).public_key()).collect();
    // A certificate may come before the block; the others have it.
    let all = |chain: &Arc<Chain>| chain.state.lock().unwrap().parents.clone();
    let parents = chains.iter().flat_map(all).collect();
    let last = |chain: &Arc<Chain>| path(&parents, chain.finals(1).pop().unwrap().0);
    let longest = chains.iter().map(last).max_by_key(Vec::len).unwrap();
    for chain in chains {
        let own = last(chain);
        assert_eq!(longest[..own.len()], own[..], "one chain");
        for (block, bytes) in chain.finals(1) {
            let read = Finalized::check(&bytes, NAMESPACE, 0, &keys).unwrap();
            assert_eq!(read.block, block);
            assert!(longest.contains(&block));
        }
    }
}

#[test]
fn four_validators_agree_and_the_same_seed_gives_the_same_trace() {
    let (trace, chains) = run(7, probability!(1.0));
    check(&chains);
    assert_eq!(trace, run(7, probability!(1.0)).0);
    assert_ne!(trace, run(8, probability!(1.0)).0);
}

#[test]
fn four_validators_agree_over_a_bad_network() {
    check(&run(3, probability!(0.8)).1);
}
