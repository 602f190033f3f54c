//! Runs of whole sets: that faults happen and are withstood, and that the checks find planted bugs.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

fn good(config: &Config) -> Report {
    let report = run(config);
    assert!(report.is_good(), "seed {}: {:?}\n{:?}", report.seed, report.violations, report.counts);
    report
}

/// Runs seeds on all threads; what happened in all of them together.
fn all_good(seeds: std::ops::Range<u64>, config: impl Fn(u64) -> Config + Sync) -> Report {
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(good(&config(seeds.end)));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let report = good(&config(seed));
            let mut sum = held(&sum);
            for (what, times) in report.counts {
                *sum.counts.entry(what).or_default() += times;
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    sum.into_inner().unwrap()
}

#[test]
fn four_validators_agree_on_the_same_chain_twice() {
    let config = Config { faults: false, ..Config::new(1) };
    let report = good(&config);
    assert!(report.blocks > 5 && report.records > 120, "{report:?}");
    for what in ["receipts verified", "statuses verified", "absences proved"] {
        assert!(report.count(what) > 0, "{what}: {:?}", report.counts);
    }
    assert_eq!(report, run(&config));
    assert_ne!(report.fingerprint, run(&Config { seed: 2, ..config }).fingerprint);
}

#[test]
fn a_seed_with_faults_gives_the_same_run_twice() {
    for seed in 0..6 {
        let report = good(&Config::new(seed));
        assert_eq!(report, run(&Config::new(seed)), "seed {seed}");
    }
}

#[test]
fn many_seeds_hold() {
    let sum = all_good(100..180, Config::new);
    for fault in Fault::ALL {
        assert!(sum.count(&format!("fault {}", fault.name())) > 0, "{:?}", sum.counts);
    }
    for what in ["records sent twice", "who came second was refused", "wrong roots proposed"] {
        assert!(sum.count(what) > 0, "{what}: {:?}", sum.counts);
    }
}

#[test]
fn sets_of_other_sizes_hold() {
    for validators in [2, 3, 5, 7] {
        good(&Config { validators, ..Config::new(validators as u64) });
    }
}

#[test]
fn each_fault_happens_and_is_withstood() {
    let shown: [(Fault, &[&str]); 10] = [
        (Fault::Kill, &["stops", "writes lost", "writes torn", "blocks executed again"]),
        (Fault::PowerCut, &["power failed in a write", "files cut at a restart"]),
        (Fault::BitFlip, &["files cut at a restart", "stops"]),
        (Fault::Wipe, &["stops"]),
        (Fault::Cut, &["fault cut"]),
        (Fault::Halves, &["fault halves"]),
        (Fault::ClockForward, &["proposals refused: time"]),
        (Fault::ClockBack, &["proposals refused: time"]),
        (Fault::BrokerStalls, &["fault broker-stalls"]),
        (
            Fault::BrokerLies,
            &["records executed with other bytes", "stopped: another chain than its own"],
        ),
    ];
    for (fault, whats) in shown {
        let sum = all_good(0..6, |seed| Config { fault: Some(fault), ..Config::new(seed) });
        for what in whats {
            assert!(sum.count(what) > 0, "{}: {what}: {:?}", fault.name(), sum.counts);
        }
    }
}

fn liars(seed: u64, liars: usize) -> Config {
    Config { role: Some((Role::WrongRoots, liars)), faults: false, ..Config::new(seed) }
}

#[test]
fn wrong_roots_of_as_many_as_may_lie_are_never_final() {
    let sum = all_good(0..6, |seed| liars(seed, 1));
    assert!(sum.count("wrong roots proposed") > 0, "{:?}", sum.counts);
    assert!(sum.count("proposals refused: roots") > 0, "{:?}", sum.counts);
}

#[test]
fn who_withholds_replays_or_floods_is_withstood() {
    for role in [Role::Withholds, Role::Replays, Role::Floods] {
        let lies = |seed| Config { role: Some((role, 1)), faults: false, ..Config::new(seed) };
        all_good(0..4, lies);
        // It makes a difference that somebody lies.
        let honest = run(&Config { faults: false, ..Config::new(0) });
        assert_ne!(run(&lies(0)).fingerprint, honest.fingerprint, "{}", role.name());
    }
}

#[test]
fn wrong_roots_of_a_quorum_are_found_by_the_one_who_is_honest() {
    let report = run(&liars(3, 3));
    let found = |what: &str| report.violations.iter().any(|text| text.contains(what));
    assert!(found("wrong roots") || found("stopped: block"), "{:?}", report.violations);
}

#[test]
fn a_record_that_all_skip_is_found() {
    let report = play(&Config { faults: false, ..Config::new(4) }, |world| {
        let key = {
            let stream = held(&world.shared.stream);
            (stream.0.len() - 1, stream.0.last().unwrap()[3].offset)
        };
        for replica in &world.replicas {
            held(&replica.inner).feed.hidden.insert(key);
        }
    });
    let found = |what: &str| report.violations.iter().any(|text| text.contains(what));
    assert!(found("P1") || found("roots that do not follow"), "{:?}", report.violations);
}

#[test]
fn disks_that_forget_what_they_synced_are_found() {
    let found = (0..8).filter(|seed| {
        let config = Config { fault: Some(Fault::Kill), ..Config::new(*seed) };
        let report = play(&config, |world| {
            for replica in &world.replicas {
                held(&replica.inner).folder.disk.forgets = true;
            }
        });
        let lost = |text: &String| text.contains("P7") || text.contains("has lost");
        report.violations.iter().any(lost)
    });
    assert!(found.count() > 0);
}
