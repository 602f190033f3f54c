//! Sets over a simulated network in the deterministic runtime, and the exchange by itself.

use super::{Chain, GENESIS, NAMESPACE, bodies, check, secret};
use crate::digest::Digest;
use crate::engine::{Member, Resume, start_member};
use crate::exchange::{Calls, Exchange, Order, Parts};
use crate::finalization::{self, sorted};
use crate::key::Key;
use crate::network::{Links, message_bytes_max};
use crate::scheme::Scheme;
use crate::worker::{Good, Open};
use crate::{Application, NetworkConfig, OrderConfig, Status, silent};
use commonware_p2p::Manager as _;
use commonware_p2p::simulated::{Config, Link, Network, Oracle};
use commonware_runtime::deterministic;
use commonware_runtime::{Clock as _, Quota, Runner as _, Spawner as _, Supervisor as _};
use commonware_utils::channel::{mpsc, oneshot};
use commonware_utils::ordered::Set;
use commonware_utils::{NZU32, NZUsize, Probability, TryCollect as _, probability};
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use std::sync::Arc;
use std::time::Duration;

const BLOCKS: usize = 20;
const BODY_MAX: usize = 1_000;

fn secrets() -> Vec<SecretKey> {
    (1..=4).map(secret).collect()
}

fn keys() -> Vec<PublicKey> {
    secrets().iter().map(SecretKey::public_key).collect()
}

fn config(index: usize) -> OrderConfig {
    let listen = "127.0.0.1:1".parse().unwrap();
    let network = NetworkConfig {
        listen,
        peers: Vec::new(),
        any_source: false,
        blocked_for: Duration::from_secs(60),
        body_bytes_max: BODY_MAX,
    };
    let config = OrderConfig::new(NAMESPACE, keys(), format!("{index}"), GENESIS);
    OrderConfig { network: Some(network), ..config }
}

fn scheme(secret: &SecretKey) -> Scheme {
    Scheme::signer(NAMESPACE, sorted(&keys()).unwrap(), secret.clone()).unwrap()
}

type SimulatedOracle = Oracle<Key, deterministic::Context>;

/// Starts a validator on the simulated network.
async fn start(
    context: &deterministic::Context,
    oracle: &SimulatedOracle,
    index: usize,
    chain: &Arc<Chain>,
) {
    let secret = &secrets()[index];
    let me = Key::from(secret.public_key());
    let control = oracle.control(me.clone());
    let quota = Quota::per_second(NZU32!(1024));
    let links = Links {
        votes: control.register(0, quota).await.unwrap(),
        certificates: control.register(1, quota).await.unwrap(),
        views: control.register(2, quota).await.unwrap(),
        bodies: control.register(3, quota).await.unwrap(),
        requests: control.register(4, quota).await.unwrap(),
        blocker: control,
        peers: oracle.manager(),
    };
    let member = Member {
        application: chain.clone(),
        calls: Calls::Inline(Open::default(), Vec::new()),
        good: Good::default(),
        scheme: scheme(secret),
        me,
        status: Arc::new(Status::new(
            finalization::sort_validators(&keys()).unwrap(),
            keys()[0].clone(),
        )),
        // The simulated disk is one for all.
        partition: format!("validator-{index}"),
    };
    let context = context.child("validator").with_attribute("index", index);
    let resume = Resume { floor: None, backlog: Vec::new(), due: Vec::new() };
    start_member(context, &config(index), resume, member, links);
}

/// Runs until each of four has `BLOCKS` blocks final; the trace, and the chains. `late` starts when
/// the others have them.
fn run(seed: u64, success_rate: Probability, late: Option<usize>) -> (String, Vec<Arc<Chain>>) {
    let runner =
        deterministic::Config::new().with_seed(seed).with_timeout(Some(Duration::from_secs(900)));
    deterministic::Runner::new(runner).start(|context| async move {
        let names: Vec<Key> = keys().into_iter().map(Key::from).collect();
        let limits = Config {
            max_size: message_bytes_max(4, BODY_MAX),
            max_peers_per_set: NZUsize!(4),
            disconnect_on_block: true,
            tracked_peer_sets: NZUsize!(1),
        };
        let (network, oracle) =
            Network::new_with_peers(context.child("network"), limits, names.clone()).await;
        network.start();
        let peers: Set<Key> = names.clone().into_iter().try_collect().unwrap();
        oracle.manager().track(0, peers);
        let latency = Duration::from_millis(20);
        let link = Link { latency, jitter: Duration::from_millis(5), success_rate };
        for from in &names {
            for to in names.iter().filter(|to| *to != from) {
                oracle.add_link(from.clone(), to.clone(), link.clone()).await.unwrap();
            }
        }
        let chains: Vec<Arc<Chain>> = (0..4).map(|_| Arc::default()).collect();
        let (first, second): (Vec<usize>, Vec<usize>) = (0..4).partition(|i| Some(*i) != late);
        for group in [first, second] {
            for index in &group {
                start(&context, &oracle, *index, &chains[*index]).await;
            }
            while group.iter().any(|index| chains[*index].height() < BLOCKS) {
                context.sleep(Duration::from_millis(100)).await;
            }
        }
        (context.auditor().state(), chains)
    })
}

fn compare(chains: &[Arc<Chain>]) {
    let all: Vec<_> = chains.iter().map(|chain| chain.finals(BLOCKS)).collect();
    let longest = bodies(all.iter().max_by_key(|blocks| blocks.len()).unwrap());
    for blocks in &all {
        check(blocks, &keys());
        assert_eq!(longest[..blocks.len()], bodies(blocks), "one chain");
    }
}

#[test]
fn four_validators_agree_and_the_same_seed_gives_the_same_trace() {
    let (trace, chains) = run(7, probability!(1.0), None);
    compare(&chains);
    assert_eq!(trace, run(7, probability!(1.0), None).0);
    assert_ne!(trace, run(8, probability!(1.0), None).0);
}

#[test]
fn four_validators_agree_over_a_bad_network() {
    compare(&run(3, probability!(0.8), None).1);
}

#[test]
fn a_validator_that_starts_late_catches_up_over_a_bad_network() {
    compare(&run(5, probability!(0.8), Some(2)).1);
}

/// An exchange of validator 0 with nobody to talk to, and what it works for.
async fn alone(
    context: &deterministic::Context,
    patience: Duration,
) -> (mpsc::UnboundedSender<Order>, Arc<Chain>) {
    let chain = Arc::new(Chain::default());
    let me = Key::from(secrets()[0].public_key());
    let links = silent::links(&me, Vec::new());
    let parts = Parts {
        application: chain.clone(),
        calls: Calls::Inline(Open::default(), Vec::new()),
        good: Good::default(),
        scheme: scheme(&secrets()[0]),
        epoch: 0,
        last: chain.last(),
        backlog: Vec::new(),
        final_view: 0,
        patience,
        sender: links.bodies.0,
        blocker: links.blocker,
        fetch: None,
        body_bytes_max: BODY_MAX,
    };
    let (mailbox, orders) = mpsc::unbounded_channel();
    let pushed = links.bodies.1;
    context.child("exchange").spawn(move |context| async move {
        Exchange::new(context, parts).run(orders, pushed).await;
    });
    (mailbox, chain)
}

#[test]
fn a_parent_that_does_not_become_final_is_proposed_again_and_never_built_upon() {
    deterministic::Runner::default().start(|context| async move {
        let patience = Duration::from_secs(1);
        let (orders, chain) = alone(&context, patience).await;
        // View 1: a block on genesis, which is final.
        let (response, first) = oneshot::channel();
        let parent = Digest(GENESIS);
        orders.send(Order::Propose { view: 1, parent_view: 0, parent, response }).unwrap();
        let block = first.await.unwrap();
        // View 2: it is notarized, and its finalization does not come.
        let (response, mut second) = oneshot::channel();
        let again = Order::Propose { view: 2, parent_view: 1, parent: block, response };
        orders.send(again).unwrap();
        context.sleep(patience / 2).await;
        assert!(second.try_recv().is_err(), "it waits first");
        context.sleep(patience).await;
        assert_eq!(second.try_recv().unwrap(), block);
        // Others check it like the first time: on top of itself, or of its parent, and nothing else.
        for (parent, good) in [(block, true), (Digest(GENESIS), true), (Digest([1; 32]), false)] {
            let (response, verdict) = oneshot::channel();
            orders.send(Order::Check { view: 2, parent: Some(parent), block, response }).unwrap();
            assert_eq!(verdict.await.unwrap(), good, "{parent}");
        }
        assert_eq!(chain.height(), 0);
    });
}

#[test]
fn what_a_quorum_found_good_is_never_called_bad_only_not_voted_for() {
    deterministic::Runner::default().start(|context| async move {
        let (orders, chain) = alone(&context, Duration::from_secs(1)).await;
        chain.set(|state| state.liar = true);
        let block = Digest(chain.propose(1, GENESIS).unwrap());
        let (response, verdict) = oneshot::channel();
        let parent = Some(Digest(GENESIS));
        orders.send(Order::Check { view: 1, parent, block, response }).unwrap();
        assert!(!verdict.await.unwrap());
        let (response, mut verdict) = oneshot::channel();
        orders.send(Order::Check { view: 1, parent: None, block, response }).unwrap();
        context.sleep(Duration::from_secs(5)).await;
        assert!(matches!(verdict.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
    });
}
