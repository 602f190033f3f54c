//! A season of honest trade and known frauds, and races of two banks, on a node of their own.
#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

use piaogen_loadgen::drive::{Answers, Plan, drive};
use piaogen_loadgen::generator::{GeneratorConfig, Shares};
use piaogen_loadgen::outcomes::{Checker, Report};
use piaogen_loadgen::scenario::{
    Load, LoadConfig, Pattern, RaceConfig, RaceReport, Season, SeasonConfig, Stage, play, race,
};
use piaogen_loadgen::source::{Registrations, Source};
use piaogen_node::stage::OwnChain;
use piaogen_verify::trust_root::TrustRoot;

#[test]
fn every_fraud_is_caught_and_nothing_honest_is_refused() {
    let (mut chain, mut stage) = OwnChain::start(5, 4).unwrap();
    // Long enough for all that must come before the end of what is short-lived.
    let mut config = SeasonConfig::of_records(5, 2_500);
    config.short_ms = 20_000;
    let season = Season::new(config, &stage.genesis, &stage.authority);
    let play = play(&mut stage, season, &mut |_| {}).unwrap();
    assert!(play.is_good(), "{}\n{}", play.complaint(), play.to_text());
    for pattern in Pattern::ALL {
        let row = play.tally.rows()[&pattern];
        // Some frauds are told of, not refused: nothing in them breaks a rule.
        let fraud = row.injected > 0 || pattern != Pattern::Honest && row.alerts > 0;
        let known = fraud == (pattern != Pattern::Honest);
        assert!(row.stories > 0 && known, "{}\n{}", pattern.name(), play.to_text());
        assert_eq!(row.told, row.alerts, "{}\n{}", pattern.name(), play.to_text());
    }
    assert_eq!(play.tally.false_alarms().len(), 0, "{}", play.to_text());
    // Pairs that can be seen are told of, whatever the truth is; no others are.
    for (how, near) in play.tally.near() {
        // Of many alike, each is told beside the one that came last before it, not beside all.
        let found = match near.visible {
            true => near.found == near.pairs,
            false => near.found < near.pairs,
        };
        assert!(found, "{how}\n{}", play.to_text());
    }
    drop(stage);
    chain.stop().unwrap();
}

#[test]
fn of_two_banks_that_race_one_wins_and_the_other_has_the_proof() {
    let (mut chain, mut stage) = OwnChain::start(6, 4).unwrap();
    let races = 300;
    let report = race(&mut stage, &RaceConfig { seed: 6, races }, &mut |_| {}).unwrap();
    assert!(report.is_good(), "{}", report.to_text());
    assert_eq!(report, RaceReport { decided: races, ..report.clone() });
    // Neither producer was always ahead.
    assert!(report.wins.iter().all(|wins| *wins > races / 20), "{:?}", report.wins);
    drop(stage);
    chain.stop().unwrap();
}

fn answered(stage: &mut Stage, source: &dyn Source) -> Report {
    let checker = Checker::new(TrustRoot::of_genesis(&stage.genesis));
    let plan = Plan { patience: stage.patience, ..Plan::new(source.len().unwrap()) };
    let answers = Some(Answers { source: stage.receipts.as_mut(), checker: &checker, watch: None });
    drive(source, &plan, stage.sinks[0].as_mut(), answers, &mut |_, _| {}).unwrap()
}

#[test]
fn a_load_is_answered_as_was_foretold() {
    let (mut chain, mut stage) = OwnChain::start(7, 4).unwrap();
    let mut invoices = GeneratorConfig::new(7, &stage.genesis);
    (invoices.sellers, invoices.shares) = (50, Shares::with_bad(10_000));
    let config = LoadConfig { invoices, records: 6_000, events_per_100: 60 };
    let load = Load::new(config, &stage.genesis, &stage.authority);
    let partitions = stage.genesis.file.partitions;
    let registry = Registrations { records: load.registrations(), partitions };
    let registered = answered(&mut stage, &registry);
    assert!(registered.is_good(), "{}", registered.to_text());
    let report = answered(&mut stage, &load);
    assert!(report.is_good(), "{}", report.to_text());
    assert_eq!((report.checked, &report.outcomes), (6_000, &report.expected));
    for name in ["ENCUMBERED", "HELD", "ALREADY_BOOKED", "NOT_BUYER", "BAD_SIGNATURE"] {
        assert!(report.outcomes.contains_key(name), "{name}\n{}", report.to_text());
    }
    drop(stage);
    chain.stop().unwrap();
}
