//! Holds the samples and the manual under `deploy/` against the code that they are about.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

mod tree;

use piaogen_node::config::Config;
use piaogen_node::run::metrics::Metrics;
use piaogen_order::Peer;
use piaogen_verify::entry::Outcome;
use std::collections::BTreeSet;
use tree::{files, none, read, root};

#[test]
fn every_sample_is_a_good_configuration() {
    let samples = files("deploy", |path| path.ends_with(".toml"));
    assert!(samples.len() >= 4, "samples are missing under deploy/");
    for sample in samples {
        if let Err(error) = Config::load(&root().join(&sample.path)) {
            panic!("{}: {error:#}; correct the sample", sample.path);
        }
    }
}

/// Names of series, as far as a text names them.
fn series(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c| !is_name(c));
    words.filter(|word| word.starts_with("piaogen_")).map(String::from).collect()
}

/// The series of a node that has run a little: labelled ones appear with their first value.
fn known() -> BTreeSet<String> {
    let metrics = Metrics::new().unwrap();
    metrics.lag(0, 1);
    metrics.store("log", 1);
    let key = piaogen_crypto::sm2::SecretKey::from_bytes(&[7; 32]).unwrap().public_key();
    let (connected, blocked, limited) = (true, false, [0; 5]);
    let seen = Peer { key, me: true, connected, blocked, votes: 1, view: 1, limited };
    metrics.peers(1, &[seen]);
    let text = metrics.text();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split(' ').next()).map(String::from).collect()
}

#[test]
fn alerts_name_series_that_exist() {
    let known = known();
    let unknown = |name: &String| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        !known.contains(name) && !base.is_some_and(|base| known.contains(base))
    };
    let alerts = series(&read("deploy/prometheus-alerts.yaml"));
    assert!(alerts.len() >= 5, "no series found in the alerts");
    let wrong: Vec<String> = alerts
        .into_iter()
        .filter(unknown)
        .map(|name| format!("deploy/prometheus-alerts.yaml: no node has the series {name}"))
        .collect();
    none(&wrong);
}

#[test]
fn alerts_name_outcomes_that_exist() {
    let alerts = read("deploy/prometheus-alerts.yaml");
    let quoted = alerts.split("outcome").skip(1).filter_map(|after| {
        let after = after.trim_start_matches(['!', '=', '~']);
        after.strip_prefix('"')?.split('"').next()
    });
    let names: Vec<&str> = quoted.flat_map(|names| names.split('|')).collect();
    assert!(names.len() >= 3, "no outcomes found in the alerts");
    for name in names {
        assert!(
            Outcome::names().any(|known| known == name),
            "prometheus-alerts.yaml: no outcome is {name}"
        );
    }
}

#[test]
fn the_manual_explains_every_series_and_every_alert() {
    let manual = read("deploy/OPERATING.md");
    let alerts = read("deploy/prometheus-alerts.yaml");
    let named = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let missing: Vec<String> = known()
        .into_iter()
        .chain(named.map(String::from))
        .filter(|name| !manual.contains(name.as_str()))
        .map(|name| format!("deploy/OPERATING.md does not explain {name}: add a row"))
        .collect();
    none(&missing);
}

#[test]
fn compose_runs_the_sample() {
    let compose = read("deploy/compose.yaml");
    let sample = Config::load(&root().join("deploy/node-compose.toml")).unwrap();
    assert!(compose.contains(&sample.stream.brokers), "other brokers than in compose.yaml");
    let port = sample.address().unwrap().expect("the sample listens").port();
    assert!(compose.contains(&format!(":{port}\"]")), "compose.yaml publishes another port");
    assert!(root().join("deploy/Dockerfile").exists());
    assert!(compose.contains("dockerfile: deploy/Dockerfile"));
}
