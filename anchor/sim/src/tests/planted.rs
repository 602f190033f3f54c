//! Bugs that are planted, each of which a check must find.

use super::*;

fn found(report: &Report, whats: &[&str]) {
    let any = |text: &String| whats.iter().any(|what| text.contains(what));
    assert!(report.violations.iter().any(any), "{:?}", report.violations);
}

fn changed(config: &Config, change: impl FnOnce(&mut World)) -> Report {
    let (world, trace) = play(config, Vec::new(), change);
    let world = held(&world);
    report(&world, config, trace)
}

#[test]
fn a_record_that_all_skip_is_found() {
    let report = changed(&Config { faults: false, ..Config::new(4) }, |world| {
        let key = {
            let stream = held(&world.shared.stream);
            (stream.0.len() - 1, stream.0.last().unwrap()[3].offset)
        };
        for machine in &world.machines {
            held(&machine.replica.inner).feed.hidden.insert(key);
        }
    });
    found(&report, &["P1", "roots that do not follow"]);
}

#[test]
fn disks_that_forget_what_they_synced_are_found() {
    let lost = (0..8).filter(|seed| {
        let config = Config { fault: Some(Fault::Kill), ..Config::new(*seed) };
        let report = changed(&config, |world| {
            for machine in &world.machines {
                held(&machine.replica.inner).folder.disk.forgets = true;
            }
        });
        let lost = |text: &String| text.contains("P7") || text.contains("has lost");
        report.violations.iter().any(lost)
    });
    assert!(lost.count() > 0);
}

#[test]
fn validators_that_go_on_with_the_old_set_are_found() {
    let config = Config { faults: false, epochs: Some(true), ..Config::new(5) };
    let report = changed(&config, |world| {
        let old = world.governed.sets[0].keys().to_vec();
        world.bend = Some(Box::new(move |turn| turn.set = old.clone()));
    });
    found(&report, &["a witness refuses", "is not of its set", "it does not go on"]);
}

#[test]
fn one_validator_that_goes_on_with_the_old_set_is_found() {
    // It believes whom nobody else does: it stays behind, or votes where it has no vote.
    let config = Config { faults: false, epochs: Some(true), ..Config::new(6) };
    let report = changed(&config, |world| {
        let old = world.governed.sets[0].keys().to_vec();
        let turns = AtomicU64::new(0);
        let bend = move |turn: &mut simulation::Turn| {
            // Machines begin in the order of their numbers; the first of each epoch is meant.
            if turns.fetch_add(1, Ordering::Relaxed).is_multiple_of(5) {
                turn.set = old.clone();
            }
        };
        world.bend = Some(Box::new(bend));
    });
    found(&report, &["a witness refuses", "is not of its set", "it does not go on"]);
}

#[test]
fn sets_that_were_not_decided_are_found() {
    let config = Config { faults: false, epochs: Some(true), ..Config::new(7) };
    let report = changed(&config, |world| world.governed.sets.swap(1, 2));
    assert!(!report.is_good());
}
