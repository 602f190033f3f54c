//! One liar more than may be: what is not withstood, and who sees it.
//!
//! Nothing that a receipt's holder can do helps against a set that lies; but the set cannot take
//! back what it signed, and whoever compares two histories, or executes the stream, finds out.

use super::*;
use crate::machine::Machine;
use piaogen_order::Finalized;
use piaogen_order::simulation::Side;
use piaogen_verify::evidence::{Certified, Evidence, Signer};
use piaogen_verify::follow::{Follower, Link};
use piaogen_verify::refusal::Step;

fn lie(role: Role, liars: usize, seed: u64) -> Config {
    let epochs = Some(false);
    Config { role: Some((role, liars)), faults: false, epochs, ..Config::new(seed) }
}

/// Such a run must only not go on.
fn halts(role: Role, seed: u64) -> bool {
    let report = run(&lie(role, 2, seed));
    let stuck = |text: &String| text.starts_with("it does not go on");
    assert!(report.violations.iter().all(stuck), "seed {seed}: {:?}", report.violations);
    !report.is_good()
}

#[test]
fn two_of_four_that_flood_or_replay_halt_the_chain_and_fork_nothing() {
    assert!((0..3).all(|seed| halts(Role::Floods, seed)));
    (0..3).for_each(|seed| {
        halts(Role::Replays, seed);
    });
}

#[test]
fn two_of_four_that_withhold_halt_the_chain_or_slow_it_and_fork_nothing() {
    (0..3).for_each(|seed| {
        halts(Role::Withholds, seed);
    });
}

#[test]
fn two_of_four_make_no_wrong_root_final() {
    // A quorum needs an honest one, who computes the roots.
    let sum = all_good(0..3, |seed| lie(Role::WrongRoots, 2, seed));
    shows(&sum, &["wrong roots proposed", "proposals refused: roots"]);
}

#[test]
fn a_quorum_certifies_wrong_roots_and_whoever_executes_the_stream_stops() {
    let (world, _) = play(&lie(Role::WrongRoots, 3, 3), Vec::new(), |_| {});
    let world = held(&world);
    let violations = held(&world.shared.ledger).violations.clone();
    let found = |what: &str| violations.iter().any(|text| text.contains(what));
    assert!(found("wrong roots") || found("stopped: block"), "{violations:?}");
    // A witness sees one history with true certificates: it is not for that.
    let honest = world.honest().next().expect("one is honest");
    let links = links(&world, honest);
    let mut witness = Follower::new(&world.trust).unwrap();
    links.iter().for_each(|link| witness.take(link).unwrap());
    // An auditor that executes the stream finds the block.
    let again = checks::execute_again(&world).expect("the stream has all that is final");
    let wrong = links[1..].iter().find(|link| {
        let before = &again.after[link.header.height as usize - 1];
        link.header.shards_root != piaogen_verify::header::shards_root(before)
    });
    assert!(wrong.is_some());
}

fn links(world: &World, machine: &Machine) -> Vec<Link> {
    let genesis = world.shared.genesis.header();
    world.governed.links(&genesis, &held(&machine.replica.inner).blocks, 0)
}

const BLOCKS: usize = 12;

/// Two liars of four with two selves, and a network that parts the two honest ones.
fn forked(seed: u64) -> Arc<Mutex<World>> {
    let config = lie(Role::Equivocates, 2, seed);
    let governed = Governed::new(&config);
    let machines = governed.machines.len();
    let liars = plan::Plan::new(&config, machines).roles;
    let honest: Vec<usize> = (0..machines).filter(|at| liars[*at] == Role::Honest).collect();
    let without = |who: usize| Side::of((0..machines).filter(move |at| *at != who));
    let split = (Duration::ZERO, Event::Split(Side::of([honest[0]])));
    let sides = (without(honest[1]), without(honest[0]));
    let (world, _) = play(&config, vec![split], |world| {
        world.sides = sides;
        world.until = Some(BLOCKS);
    });
    world
}

#[test]
fn two_of_four_with_two_selves_and_a_cut_network_fork_the_chain_and_witnesses_prove_it() {
    let mut named = 0;
    for seed in 0..4 {
        let world = forked(seed);
        let world = held(&world);
        let violations = held(&world.shared.ledger).violations.clone();
        assert!(violations.iter().any(|text| text.contains("safety")), "{violations:?}");
        let halves: Vec<Vec<Link>> = world.honest().map(|one| links(&world, one)).collect();
        let [ours, theirs] = &halves[..] else { panic!("two are honest") };
        let first = ours.iter().zip(theirs).position(|(one, other)| one.header != other.header);
        let fork = first.expect("the halves differ");
        // Each half by itself is a true chain; who followed one refuses the other.
        let follow = |links: &[Link]| {
            let mut witness = Follower::new(&world.trust).unwrap();
            links.iter().for_each(|link| witness.take(link).unwrap());
            witness
        };
        let mut witness = follow(&ours[..=fork]);
        follow(theirs);
        let refusal = witness.take(&theirs[fork]).unwrap_err();
        assert_eq!(refusal.step, Step::History, "seed {seed}");
        if let Some(next) = theirs.get(fork + 1) {
            assert_eq!(witness.take(next).unwrap_err().step, Step::History, "seed {seed}");
        }
        // Two certificates of one height are evidence; of one view they name the liars.
        let key = |machine: &Machine| {
            Signer::Validator(world.governed.secrets[machine.keys[0]].public_key().to_compressed())
        };
        let honest: Vec<Signer> = world.honest().map(key).collect();
        for (one, other) in ours[fork..].iter().zip(&theirs[fork..]) {
            let certified = |link: &Link| Certified {
                header: link.header,
                certificate: link.certificate.clone(),
                changes: Vec::new(),
            };
            let (first, second) = (certified(one), certified(other));
            let evidence = Evidence::Fork { first, second }.encode();
            let verdict = Evidence::decode(&evidence).unwrap().verify(&world.trust).unwrap();
            assert_eq!((verdict.kind, verdict.liars_min), ("fork", 2), "seed {seed}");
            let view = |link: &Link| Finalized::decode(&link.certificate).unwrap().view;
            if view(one) == view(other) {
                assert_eq!(verdict.liars.len(), 2, "seed {seed}");
                assert!(verdict.liars.iter().all(|liar| !honest.contains(liar)), "seed {seed}");
                named += 1;
            }
        }
    }
    assert!(named > 0, "in one view both halves had a block");
}

#[test]
fn two_of_four_whose_brokers_lost_records_halt_the_chain_until_these_are_back() {
    let epochs = Some(false);
    let config = Config { fault: Some(Fault::BrokerLosesTail), epochs, ..Config::new(11) };
    let (world, trace) = play(&config, Vec::new(), |world| {
        let mut episodes = world.plan.episodes[..1].to_vec();
        episodes.extend(episodes.clone());
        for (whom, episode) in episodes.iter_mut().enumerate() {
            // The last records of one partition, and none in their places.
            (episode.whom, episode.how) = (whom, 15 | 1 << 20);
            (episode.from_ms, episode.to_ms) = (1_500, 9_000);
        }
        world.courses = vec![Default::default(); episodes.len()];
        (world.plan.episodes, world.plan.heal_ms) = (episodes, 9_200);
    });
    let report = report(&held(&world), &config, trace);
    assert!(report.is_good(), "{:?}", report.violations);
    shows(&report, &["stopped: its stream lost records"]);
    assert_eq!(report.count("stopped for its stream, and the others went on"), 0);
}
