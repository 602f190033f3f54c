//! Votes on a disk that loses, tears or damages them: whoever comes back votes for nothing else than
//! before.

use super::{Chain, GENESIS, NAMESPACE, bodies, check, secret};
use crate::simulation::{Event, Plan, SimulationError, Trace, run};
use crate::{Application, Fatal, OrderError};
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use std::sync::Arc;
use std::time::Duration;

const BLOCKS: usize = 30;

fn secrets() -> Vec<SecretKey> {
    (1..=4).map(secret).collect()
}

fn simulate(seed: u64, events: &[(u64, Event)]) -> Result<Trace, SimulationError> {
    let chains: Vec<Arc<Chain>> = (0..4).map(|_| Arc::default()).collect();
    let watched = chains.clone();
    let done = move || watched.iter().all(|chain| chain.height() >= BLOCKS);
    let applications = chains.iter().map(|chain| chain.clone() as Arc<dyn Application>);
    let start = (0..4).map(|one| (Duration::ZERO, Event::Start(one)));
    let events = events.iter().map(|(at, event)| (Duration::from_millis(*at), *event));
    let plan = Plan {
        events: start.chain(events).collect(),
        ..Plan::new(seed, NAMESPACE, GENESIS, 1_000)
    };
    let trace = run(plan, secrets(), applications.collect(), done)?;
    let keys: Vec<PublicKey> = secrets().iter().map(SecretKey::public_key).collect();
    let all: Vec<_> = chains.iter().map(|chain| chain.finals(BLOCKS)).collect();
    let longest = bodies(all.iter().max_by_key(|blocks| blocks.len()).unwrap());
    for blocks in &all {
        check(blocks, &keys);
        assert_eq!(longest[..blocks.len()], bodies(blocks), "one chain, seed {seed}");
    }
    assert_eq!((trace.doubles.as_slice(), trace.blocked.as_slice()), (&[][..], &[][..]));
    Ok(trace)
}

#[test]
fn what_was_not_synced_is_lost_and_nobody_votes_twice() {
    for seed in 0..50 {
        let events: Vec<(u64, Event)> = (0..12)
            .flat_map(|i| {
                let (one, at) = ((seed as usize + i) % 4, 300 + 211 * i as u64 + seed * 7);
                [(at, Event::Stop(one)), (at + 50, Event::Start(one))]
            })
            .collect();
        simulate(seed, &events).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn what_was_not_synced_is_torn_for_all_at_once_and_nobody_votes_twice() {
    for seed in 0..50 {
        let mut events = Vec::new();
        for i in 0..8 {
            let at = 300 + 350 * i + seed * 11;
            events.push((at, Event::Blackout));
            events.extend((0..4).map(|one| (at + 50, Event::Start(one))));
        }
        simulate(seed, &events).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn a_flipped_bit_is_noticed_or_does_no_harm() {
    let (mut refused, mut harmless) = (0, 0);
    for seed in 0..50 {
        // In the votes, or anywhere in the page.
        let bit = if seed % 3 == 0 { seed * 677 } else { seed * 31 };
        let events = [
            (1_000 + seed * 13, Event::Stop(1)),
            (1_500 + seed * 13, Event::Flip(1, bit)),
            (1_600 + seed * 13, Event::Start(1)),
        ];
        match simulate(seed, &events) {
            Ok(_) => harmless += 1,
            Err(SimulationError::Start { validator: 1, error }) => {
                let damaged = matches!(error, OrderError::Fatal(Fatal::VotesDamaged { .. }));
                assert!(damaged, "seed {seed}: {error}");
                refused += 1;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(refused > 5 && harmless > 5, "{refused} refused, {harmless} harmless");
}
