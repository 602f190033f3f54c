//! A season of honest trade and known frauds, and races of two banks, on a node of their own.
#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

use piaogen_loadgen::scenario::{
    Pattern, RaceConfig, RaceReport, Season, SeasonConfig, play, race,
};
use piaogen_node::stage::OwnChain;

#[test]
fn every_fraud_is_caught_and_nothing_honest_is_refused() {
    let (mut chain, mut stage) = OwnChain::start(5, 4).unwrap();
    let config = SeasonConfig::of_records(5, 2_500);
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
