//! A load against its promises: the same bytes, the wanted ratio, order, and distances.

use super::*;
use crate::generator::Shares;
use crate::genesis::{DemoChain, demo_chain};
use crate::source::Kind;
use std::collections::{BTreeMap, BTreeSet, HashMap};

fn chain() -> DemoChain {
    demo_chain(7, 5, 1, 1_795_000_000_000)
}

fn load(records: u64, events_per_100: u64, seed: u64) -> Load {
    let chain = chain();
    let mut invoices = GeneratorConfig::new(seed, &chain.genesis);
    (invoices.sellers, invoices.shares) = (50, Shares::with_bad(20_000));
    let config = LoadConfig { invoices, records, events_per_100 };
    Load::new(config, &chain.genesis, &chain.authority)
}

#[test]
fn the_same_seed_gives_the_same_bytes_in_any_batch() {
    let (a, b) = (load(3_000, 60, 7), load(3_000, 60, 7));
    assert_eq!(a.registrations(), b.registrations());
    let whole = a.batch(0..4_000, Lanes::detect()).unwrap();
    assert_eq!(whole.len(), 3_000);
    assert_eq!(whole[0].index, 0);
    for range in [0..1, 700..760, 1_255..1_400, 2_999..3_100] {
        for generated in b.batch(range, Lanes::portable()).unwrap() {
            let same = &whole[generated.index as usize];
            assert_eq!(
                (&generated.record, generated.partition, generated.expected),
                (&same.record, same.partition, same.expected)
            );
            assert_eq!(b.document(generated.index), same.document);
        }
    }
    let other = load(3_000, 60, 8).batch(0..10, Lanes::detect()).unwrap();
    assert!(other.iter().zip(&whole).all(|(other, whole)| other.record != whole.record));
}

#[test]
fn the_ratio_is_what_is_wanted() {
    for (records, wanted) in [(40_000, 5), (40_000, 60), (40_000, 200), (2_000_000, 60)] {
        let load = load(records, wanted, 7);
        let (mut events, mut others) = (0, 0);
        for round in 0..load.rounds.len() as u64 {
            for item in load.items(round) {
                let event = match item {
                    Item::Plain(_) => false,
                    Item::Step { story, step } => load.course(story)[step],
                };
                *if event { &mut events } else { &mut others } += 1;
            }
        }
        let total = events + others;
        assert!((records..records + records / 50).contains(&total), "{total} of {records}");
        let per_100 = events as f64 * 100.0 / others as f64;
        assert!((per_100 - wanted as f64).abs() < 0.5, "{per_100} for {wanted}");
    }
}

#[test]
fn rounds_start_where_their_records_do_and_everything_keeps_its_order() {
    let load = load(60_000, 60, 7);
    let (mut at, mut plain) = (0, 0);
    let mut steps: HashMap<u64, Vec<u64>> = HashMap::new();
    for (round, placed) in (0..).zip(&load.rounds) {
        assert_eq!(placed.start, at);
        for item in load.items(round) {
            match item {
                Item::Plain(index) => {
                    assert_eq!(index, plain);
                    plain += 1;
                }
                Item::Step { story, step } => {
                    let places = steps.entry(story).or_default();
                    assert_eq!(places.len(), step, "story {story}");
                    places.push(at);
                }
            }
            at += 1;
        }
    }
    // Most follow soon, and some long after.
    let distances: Vec<u64> =
        steps.values().filter(|places| places.len() > 1).map(|p| p[1] - p[0]).collect();
    let share = |far: u64| distances.iter().filter(|d| **d > far).count() * 100 / distances.len();
    assert!((30..60).contains(&share(500)), "{}", share(500));
    assert!((2..10).contains(&share(10_000)), "{}", share(10_000));
}

#[test]
fn every_script_is_told_and_none_waits_for_a_policy_or_a_deadline() {
    let cast = sketch_cast();
    for script in SCRIPTS {
        assert!(sketch(&cast, script, 0).steps.iter().all(|step| step.act <= LATER));
    }
    let load = load(6_000, 200, 7);
    let stories = load.stories * load.rounds.len() as u64;
    let told: BTreeSet<usize> =
        (0..stories).map(|story| load.season.config().script(story)).collect();
    assert_eq!(told.len(), SCRIPTS.len());
    let made = load.batch(0..6_000, Lanes::detect()).unwrap();
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for generated in made.iter().filter(|generated| generated.kind == Kind::Event) {
        *outcomes.entry(generated.expected.name()).or_default() += 1;
    }
    for name in ["ACCEPTED", "ENCUMBERED", "HELD", "ALREADY_BOOKED", "BOOKED_ELSEWHERE", "REPLAY"] {
        assert!(outcomes.contains_key(name), "{name} of {outcomes:?}");
    }
}
