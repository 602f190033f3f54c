//! Sets over a simulated network in the deterministic runtime, and the exchange by itself.

use super::{Chain, GENESIS, NAMESPACE, bodies, check, secret};
use crate::digest::Digest;
use crate::exchange::{Calls, Exchange, Order, Parts};
use crate::finalization::sorted;
use crate::key::Key;
use crate::scheme::Scheme;
use crate::simulation::{
    Event, Glance, Link, Look, MEMBERS_MAX, Plan, SimulationError, Trace, run, run_watched,
};
use crate::worker::{Good, Open};
use crate::{Application, FinalBlock, Identity, VALIDATORS_MAX, Verdict, silent};
use commonware_runtime::deterministic;
use commonware_runtime::{Clock as _, Runner as _, Spawner as _, Supervisor as _};
use commonware_utils::channel::{mpsc, oneshot};
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use piaogen_verify::evidence::Evidence;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const BLOCKS: usize = 20;
const BODY_MAX: usize = 1_000;

fn secrets() -> Vec<SecretKey> {
    (1..=4).map(secret).collect()
}

fn keys() -> Vec<PublicKey> {
    secrets().iter().map(SecretKey::public_key).collect()
}

fn scheme(secret: &SecretKey) -> Scheme {
    Scheme::signer(NAMESPACE, sorted(&keys()).unwrap(), secret.clone()).unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// All four start at once, and then this happens, after so many milliseconds.
fn plan(seed: u64, arrive_percent: u8, more: &[(u64, Event)]) -> Plan {
    let latency = Duration::from_millis(20);
    let start = (0..4).map(|one| (Duration::ZERO, Event::Start(one)));
    let more = more.iter().map(|(at, event)| (Duration::from_millis(*at), *event));
    Plan {
        link: Link { latency, jitter: Duration::from_millis(5), arrive_percent },
        events: start.chain(more).collect(),
        ..Plan::new(seed, NAMESPACE, GENESIS, BODY_MAX)
    }
}

/// Runs until each of four has `BLOCKS` blocks final after all that happens.
fn simulate(plan: Plan, blocks: usize) -> (Trace, Vec<Arc<Chain>>) {
    let chains: Vec<Arc<Chain>> = (0..4).map(|_| Arc::default()).collect();
    let watched = chains.clone();
    let done = move || watched.iter().all(|chain| chain.height() >= blocks);
    let applications = chains.iter().map(|chain| chain.clone() as Arc<dyn Application>);
    let trace = run(plan, secrets(), applications.collect(), done).unwrap();
    (trace, chains)
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
    let (trace, chains) = simulate(plan(7, 100, &[]), BLOCKS);
    compare(&chains);
    assert_eq!(trace, simulate(plan(7, 100, &[]), BLOCKS).0);
    assert_ne!(trace, simulate(plan(8, 100, &[]), BLOCKS).0);
}

#[test]
fn four_validators_agree_over_a_bad_network() {
    compare(&simulate(plan(3, 80, &[]), BLOCKS).1);
}

#[test]
fn validators_that_stop_and_are_cut_off_catch_up_over_a_bad_network() {
    let events = [
        (1_000, Event::Stop(2)),
        (2_500, Event::Cut(1)),
        // Two of four make no block.
        (4_500, Event::Start(2)),
        (6_500, Event::Join(1)),
        (7_000, Event::Stop(0)),
        (7_100, Event::Stop(3)),
        (8_000, Event::Start(0)),
        (8_500, Event::Start(3)),
    ];
    for seed in 0..3 {
        compare(&simulate(plan(seed, 90, &events), 5 * BLOCKS).1);
    }
}

#[test]
fn what_is_not_done_in_time_is_said() {
    let events = [(500, Event::Stop(0)), (500, Event::Stop(1))];
    let plan = Plan { limit: seconds(30), ..plan(1, 100, &events) };
    let chains: Vec<Arc<dyn Application>> =
        (0..4).map(|_| Arc::new(Chain::default()) as Arc<dyn Application>).collect();
    let error = run(plan, secrets(), chains, || false).unwrap_err();
    assert!(error.to_string().contains("30s of simulated time"), "{error}");
}

/// Finds nothing good for a while, as who has a wrong clock; what a quorum has voted for it takes by
/// the rules, if it keeps them.
struct Choosy {
    chain: Arc<Chain>,
    refuses: AtomicBool,
    by_the_rules: bool,
}

impl Application for Choosy {
    fn identify(&self, body: &[u8]) -> Option<Identity> {
        self.chain.identify(body)
    }

    fn propose(&self, view: u64, parent: [u8; 32]) -> Option<[u8; 32]> {
        self.chain.propose(view, parent)
    }

    fn check(&self, view: u64, body: &[u8], notarized: bool) -> Verdict {
        let takes = notarized && self.by_the_rules;
        match self.refuses.load(Ordering::Relaxed) && !takes {
            true => Verdict::Bad,
            false => self.chain.check(view, body, notarized),
        }
    }

    fn body(&self, block: [u8; 32]) -> Option<Vec<u8>> {
        self.chain.body(block)
    }

    fn last(&self) -> Identity {
        self.chain.last()
    }

    fn finals(&self, from: u64, most: usize, bytes: usize) -> Vec<FinalBlock> {
        Application::finals(self.chain.as_ref(), from, most, bytes)
    }

    fn finalized(&self, block: [u8; 32], body: &[u8], finalization: &[u8]) {
        self.chain.finalized(block, body, finalization);
    }

    fn caught(&self, _: Evidence) {}
}

/// Validator 3 refuses what it is asked to vote for until 4 s; before that, validator 1 is cut off for
/// good. Whether the other three go on.
fn goes_on_without(by_the_rules: bool, cut_ms: u64) -> bool {
    let chains: Vec<Arc<Chain>> = (0..4).map(|_| Arc::default()).collect();
    let refuses = AtomicBool::new(true);
    let choosy = Arc::new(Choosy { chain: chains[3].clone(), refuses, by_the_rules });
    let mut applications: Vec<Arc<dyn Application>> =
        chains.iter().map(|chain| chain.clone() as Arc<dyn Application>).collect();
    applications[3] = choosy.clone();
    let cut = plan(cut_ms, 100, &[(cut_ms, Event::Cut(1))]);
    let latency = Duration::from_millis(120);
    let plan = Plan { link: Link { latency, ..cut.link }, limit: seconds(60), ..cut };
    let watched = chains.clone();
    let watch = move |glance: Glance| {
        choosy.refuses.store(glance.now < seconds(4), Ordering::Relaxed);
        let done = [0, 2, 3].iter().all(|one| watched[*one].height() >= BLOCKS + 10);
        Look { done, ..Look::default() }
    };
    run_watched(plan, secrets(), applications, watch).is_ok()
}

#[test]
fn who_refused_a_block_takes_it_from_a_quorum_and_the_set_goes_on() {
    let cuts = || (0..12).map(|at| 2_000 + 50 * at);
    let (halted, on): (Vec<u64>, Vec<u64>) = cuts().partition(|at| !goes_on_without(true, *at));
    assert!(halted.is_empty(), "halted after cuts at {halted:?} ms, went on after {on:?}");
    assert!(cuts().any(|at| !goes_on_without(false, at)), "the rule makes no difference");
}

/// Runs so many that start at once, until each has a block.
fn so_many(count: usize) -> Result<Trace, SimulationError> {
    let secret = |one: usize| SecretKey::from_bytes(&[one as u8 + 1; 32]).unwrap();
    let chains: Vec<Arc<Chain>> = (0..count).map(|_| Arc::default()).collect();
    let watched = chains.clone();
    let done = move || watched.iter().all(|chain| chain.height() > 0);
    let applications = chains.iter().map(|chain| chain.clone() as Arc<dyn Application>);
    let events = (0..count).map(|one| (Duration::ZERO, Event::Start(one))).collect();
    let plan = Plan { events, limit: seconds(60), ..Plan::new(1, NAMESPACE, GENESIS, BODY_MAX) };
    run(plan, (0..count).map(secret).collect(), applications.collect(), done)
}

#[test]
fn a_hundred_agree_and_no_more_are_taken() {
    assert!(so_many(VALIDATORS_MAX as usize).is_ok());
    let refused = so_many(VALIDATORS_MAX as usize + 1).unwrap_err().to_string();
    assert!(refused.contains("101 keys, from 1 to 100 are allowed"), "{refused}");
    let refused = so_many(MEMBERS_MAX + 1).unwrap_err().to_string();
    assert!(refused.contains("129 members, at most 128"), "{refused}");
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
        quiet: Duration::from_secs(3_600),
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
