//! Liars of each role in sets of four and seven, from many seeds: one block a height, the chain goes
//! on, and who is caught is blocked or named.

use super::{Chain, GENESIS, NAMESPACE, bodies, check, secret};
use crate::Application;
use crate::simulation::{Event, Noise, PLAUSIBLE, Plan, REPLAYED, Role, Side, Trace, run};
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use piaogen_verify::evidence::Evidence;
use std::sync::Arc;
use std::time::Duration;

const BODY_MAX: usize = 1_000;
/// How many seeds each of the cases has; of a set of seven a fifth of it.
const SEEDS: u64 = 50;

fn secrets(count: usize) -> Vec<SecretKey> {
    (1..=count as u8).map(secret).collect()
}

fn keys(count: usize) -> Vec<PublicKey> {
    secrets(count).iter().map(SecretKey::public_key).collect()
}

/// The first f of n validators lie so.
fn plan(seed: u64, count: usize, role: impl Fn(usize) -> Role) -> Plan {
    let liars = (count - 1) / 3;
    Plan {
        events: (0..count).map(|one| (Duration::ZERO, Event::Start(one))).collect(),
        roles: (0..liars).map(|one| (one, role(one))).collect(),
        ..Plan::new(seed, NAMESPACE, GENESIS, BODY_MAX)
    }
}

/// Runs until each honest validator has so many blocks; fails unless these are one chain, and no
/// honest validator ever voted twice.
fn survive(plan: Plan, count: usize, blocks: usize) -> Trace {
    let two = |role: &Role| matches!(role, Role::Equivocates { .. });
    let second = plan.roles.iter().filter(|(_, role)| two(role)).count();
    let chains: Vec<Arc<Chain>> = (0..count + second).map(|_| Arc::default()).collect();
    chains[count..].iter().for_each(|chain| chain.set(|state| state.twist = 1_000_000));
    let lies = |one: &usize| plan.roles.iter().any(|(liar, _)| liar == one);
    let honest: Vec<Arc<Chain>> =
        (0..count).filter(|one| !lies(one)).map(|one: usize| chains[one].clone()).collect();
    let watched = honest.clone();
    let done = move || watched.iter().all(|chain| chain.height() >= blocks);
    let applications = chains.iter().map(|chain| chain.clone() as Arc<dyn Application>);
    let seed = plan.seed;
    let trace = run(plan, secrets(count), applications.collect(), done);
    let trace = trace.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let all: Vec<_> = honest.iter().map(|chain| chain.finals(blocks)).collect();
    let longest = bodies(all.iter().max_by_key(|blocks| blocks.len()).unwrap());
    for blocks in &all {
        check(blocks, &keys(count));
        assert_eq!(longest[..blocks.len()], bodies(blocks), "one chain, seed {seed}");
    }
    assert!(trace.votes > blocks, "votes are seen");
    assert_eq!(trace.doubles, [], "seed {seed}");
    trace
}

/// Whether all honest validators have blocked all of the first so many, and nobody else.
fn all_blocked(trace: &Trace, count: usize) -> bool {
    let liars = (count - 1) / 3;
    let expected = (liars..count).flat_map(|by| (0..liars).map(move |liar| (by, liar)));
    trace.blocked == expected.collect::<Vec<_>>()
}

/// Who was blocked by anybody.
fn blocked(trace: &Trace) -> Vec<usize> {
    let mut all: Vec<usize> = trace.blocked.iter().map(|(_, who)| *who).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Sets and how many seeds each has.
fn cases() -> impl Iterator<Item = (usize, u64)> {
    let of = |count: usize, seeds: u64| (0..seeds).map(move |seed| (count, seed));
    of(4, SEEDS).chain(of(7, SEEDS / 5))
}

/// One honest validator hears both selves, the others hear one or the other, as the seed says.
fn equivocates(seed: u64, count: usize) -> impl Fn(usize) -> Role {
    let liars = (count - 1) / 3;
    let both = count - 1 - seed as usize % (count - liars);
    move |_| {
        let is_first = |one: &usize| (*one as u64 + seed / 3).is_multiple_of(2);
        let of = |first: bool| {
            let told = |one: &usize| *one < liars || *one == both || is_first(one) == first;
            Side::of((0..count).filter(told))
        };
        Role::Equivocates { first: of(true), second: of(false) }
    }
}

#[test]
fn who_equivocates_forks_nothing_and_only_liars_are_blocked_and_named() {
    let (mut runs, mut caught, mut named) = (0, 0, 0);
    for (count, seed) in cases() {
        let trace = survive(plan(seed, count, equivocates(seed, count)), count, 40);
        let liars = (count - 1) / 3;
        assert!(blocked(&trace).iter().all(|who| *who < liars), "{count}, seed {seed}");
        let keys = &keys(count)[..liars];
        for (_, evidence) in &trace.evidence {
            let against =
                matches!(evidence, Evidence::DoubleVote { key, .. } if keys.contains(key));
            assert!(against, "{count}, seed {seed}: {evidence:?}");
        }
        runs += 1;
        caught += usize::from(!trace.blocked.is_empty());
        named += usize::from(!trace.evidence.is_empty());
    }
    // Where one self falls behind, it says nothing that the other's words exclude.
    println!("{caught} of {runs} caught, {named} named");
    assert!(caught * 10 > runs * 9 && named * 10 > runs * 9, "{caught} and {named} of {runs}");
}

#[test]
fn who_withholds_only_makes_it_slower() {
    for (count, seed) in cases() {
        let trace = survive(plan(seed, count, |_| Role::Withholds), count, 10);
        assert_eq!(trace.blocked, [], "silence is no lie: {count}, seed {seed}");
        assert_eq!(trace.evidence, []);
    }
}

#[test]
fn who_replays_is_passed_over_and_blocked_when_it_speaks_for_others() {
    for (count, seed) in cases() {
        // As long as it sends what it sent before, that is no offence.
        let early = Plan { limit: REPLAYED, ..plan(seed, count, |_| Role::Replays) };
        let trace = survive(early, count, 5);
        assert_eq!(trace.blocked, [], "{count}, seed {seed}");
        let mut late = plan(seed, count, |_| Role::Replays);
        late.events.push((2 * REPLAYED, Event::Heal));
        let trace = survive(late, count, 10);
        assert!(all_blocked(&trace, count), "{count}, seed {seed}: {:?}", trace.blocked);
    }
}

#[test]
fn who_floods_stops_nobody_and_is_blocked_for_garbage() {
    for (count, seed) in cases() {
        let mut plan = plan(seed, count, |_| Role::Floods);
        plan.events.push((PLAUSIBLE + Duration::from_secs(1), Event::Heal));
        let trace = survive(plan, count, 10);
        assert!(all_blocked(&trace, count), "{count}, seed {seed}: {:?}", trace.blocked);
        assert_eq!(trace.evidence, []);
    }
}

#[test]
fn messages_that_come_twice_and_out_of_order_change_nothing() {
    let noise =
        Noise { repeated_percent: 30, delayed_percent: 20, delay: Duration::from_millis(300) };
    for seed in 0..SEEDS / 5 {
        let plan = Plan { noise, ..plan(seed, 4, |_| Role::Withholds) };
        let plan = Plan { roles: Vec::new(), ..plan };
        let trace = survive(plan.clone(), 4, 20);
        assert_eq!(trace.blocked, [], "seed {seed}");
        let silent = survive(Plan { noise: Noise::default(), ..plan }, 4, 20);
        assert_ne!(trace.fingerprint, silent.fingerprint);
    }
}

#[test]
fn halves_of_a_split_set_halt_and_go_on_when_it_heals() {
    let events = [
        (2_000, Event::Split(Side::of([0, 1]))),
        (12_000, Event::Heal),
        (14_000, Event::Split(Side::of([2]))),
        (24_000, Event::Heal),
    ];
    for seed in 0..SEEDS / 5 {
        let mut plan = Plan { roles: Vec::new(), ..plan(seed, 4, |_| Role::Withholds) };
        plan.events.extend(events.map(|(at, event)| (Duration::from_millis(at), event)));
        assert_eq!(survive(plan, 4, 30).blocked, [], "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_liars() {
    for role in [equivocates(3, 4)(0), Role::Withholds, Role::Replays, Role::Floods] {
        let run = |seed| survive(plan(seed, 4, |_| role), 4, 5);
        assert_eq!(run(3), run(3), "{role:?}");
        assert_ne!(run(3).fingerprint, run(4).fingerprint, "{role:?}");
    }
}
