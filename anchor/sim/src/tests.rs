//! Runs of whole sets: that faults happen and are withstood, what is not withstood and who sees it,
//! and that the checks find planted bugs.

mod beyond;
mod epochs;
mod faults;
mod planted;
mod roles;

use super::*;
use piaogen_verify::header::VALIDATORS_MAX;
use std::sync::atomic::{AtomicU64, Ordering};

fn run(config: &Config) -> Report {
    super::run(config).unwrap()
}

fn good(config: &Config) -> Report {
    let report = run(config);
    assert!(report.is_good(), "seed {}: {:?}\n{:?}", report.seed, report.violations, report.counts);
    report
}

/// Runs seeds on two threads; what happened in all of them together.
fn all_good(seeds: std::ops::Range<u64>, config: impl Fn(u64) -> Config + Sync) -> Report {
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(None::<Report>);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let report = good(&config(seed));
            let mut sum = held(&sum);
            let Some(sum) = &mut *sum else {
                *sum = Some(report);
                continue;
            };
            for (what, times) in report.counts {
                *sum.counts.entry(what).or_default() += times;
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    sum.into_inner().unwrap().expect("there is a seed")
}

/// Fails unless each of these happened.
fn shows(report: &Report, whats: &[&str]) {
    for what in whats {
        assert!(report.count(what) > 0, "{what}: {:?}", report.counts);
    }
}

#[test]
fn four_validators_agree_on_the_same_chain_twice() {
    let config = Config { faults: false, ..Config::new(1) };
    let report = good(&config);
    assert!(report.blocks > 5 && report.records > 120, "{report:?}");
    shows(&report, &["receipts verified", "statuses verified", "absences proved"]);
    assert_eq!(report, run(&config));
    assert_ne!(report.fingerprint, run(&Config { seed: 2, ..config }).fingerprint);
}

#[test]
fn a_seed_with_faults_gives_the_same_run_twice() {
    for seed in 0..6 {
        let config = Config { epochs: Some(seed % 2 == 0), ..Config::new(seed) };
        let report = good(&config);
        assert_eq!(report, run(&config), "seed {seed}");
    }
}

#[test]
fn a_seed_of_each_fault_and_role_gives_the_same_run_twice() {
    let faults = Fault::ALL.map(|fault| Config { fault: Some(fault), ..Config::new(7) });
    let roles = Role::ALL.map(|role| Config { role: Some((role, 1)), ..Config::new(8) });
    for config in faults.into_iter().chain(roles) {
        assert_eq!(run(&config), run(&config), "{config:?}");
    }
}

#[test]
fn many_seeds_hold() {
    let sum = all_good(1_000..1_160, Config::new);
    let faults = Fault::ALL.map(|fault| format!("fault {}", fault.name()));
    shows(&sum, &faults.each_ref().map(String::as_str));
    shows(&sum, &["records sent twice", "who came second was refused", "wrong roots proposed"]);
    shows(&sum, &["sets handed over", "double votes proved", "liars blocked"]);
}

#[test]
fn sets_that_cannot_be_are_refused() {
    let of = |validators| Config { validators, ..Config::new(1) };
    let why = |config: &Config| super::run(config).unwrap_err().to_string();
    assert!(why(&of(101)).contains("validators = 101 is not within 1 to 100"));
    assert!(why(&of(0)).contains("validators = 0 is not within 1 to 100"));
    let liars = Config { role: Some((Role::Floods, 5)), ..of(4) };
    assert!(why(&liars).contains("liars = 5 is above validators = 4"));
}

/// As much as a set of a hundred does in little time.
fn hundred(seed: u64) -> Config {
    Config { validators: VALIDATORS_MAX as usize, records: 40, ..Config::new(seed) }
}

#[test]
#[ignore = "takes a minute: `cargo test --release -p piaogen-sim -- --ignored` (PROTOCOL 5.9)"]
fn a_hundred_validators_hold() {
    good(&Config { faults: false, epochs: Some(false), ..hundred(1) });
    good(&Config { epochs: Some(true), ..hundred(2) });
}

#[test]
#[ignore = "takes minutes: `cargo test --release -p piaogen-sim -- --ignored` (PROTOCOL 5.9)"]
fn a_hundred_validators_of_whom_33_lie_hold() {
    for (seed, role) in (1..).zip(&Role::ALL[1..]) {
        good(&Config { role: Some((*role, 33)), ..hundred(seed) });
    }
}

#[test]
fn thirty_one_validators_of_whom_ten_lie_hold() {
    for (seed, role) in [(1, Role::WrongRoots), (2, Role::Equivocates)] {
        good(&Config { validators: 31, records: 40, role: Some((role, 10)), ..Config::new(seed) });
    }
}

#[test]
fn sets_of_other_sizes_hold() {
    for validators in [1, 2, 3, 5, 7] {
        for epochs in [false, true] {
            let epochs = Some(epochs);
            good(&Config { validators, epochs, ..Config::new(validators as u64) });
        }
    }
}
