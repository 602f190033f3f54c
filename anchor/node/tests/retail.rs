//! A year of a real retailer from its CSV to verified receipts, through Kafka and the embedded log.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

mod common;

use common::{Carrier, Chain, data, kafka, prefix, send_all, send_registrations};
use piaogen_loadgen::replay::Replay;
use piaogen_loadgen::retail::Retail;
use piaogen_loadgen::source::Source;
use piaogen_node::run::receipts::{Prover, Show, provable_at_rest};
use piaogen_node::setup;
use piaogen_storage::StoreReader;
use piaogen_verify::trust_root::TrustRoot;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Counts derived from the CSV by a script that shares nothing with this project.
fn expected(csv: &Path) -> BTreeMap<String, i128> {
    let script = std::env::current_dir()
        .expect("a folder to be in")
        .join("../../loadgen/tests/python/retail_counts.py");
    let folder = csv.parent().unwrap();
    let output = Command::new("python3").arg(script).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, count)| (name.to_string(), count.parse().unwrap()))
        .collect()
}

fn replay(chain: &Chain, csv: &Path) -> u64 {
    let pairs = csv.with_file_name("reversal_pairs.csv");
    let retail = Retail::read(csv, Some(&pairs)).unwrap();
    let replay = Replay::new(retail, 1, 1, &chain.genesis()).with_reversals();
    send_registrations(chain, &replay.registrations(&chain.keys.authority));
    chain.drain();
    let records = replay.len().unwrap();
    send_all(chain, &replay, records);
    chain.drain();
    records
}

/// Verifies the receipt of every record against the trust root alone; how often each outcome came.
fn verify_all(chain: &Chain) -> BTreeMap<String, u64> {
    let config = chain.config();
    let trust = TrustRoot::of_genesis(&chain.genesis());
    let reader = StoreReader::open(&config.dir).unwrap();
    let archive = setup::archive_at_rest(&config, Some(trust.chain)).unwrap();
    let provable = provable_at_rest(&chain.genesis(), &archive, &reader).unwrap();
    let shards = provable.shards.clone();
    let prover = Prover { store: &reader, archive: &archive, provable };
    let mut outcomes = BTreeMap::new();
    for shard in &shards[..shards.len() - 1] {
        let mut next = 0;
        while next < shard.log_size {
            for row in prover.rows(shard.shard, next, 1_000).unwrap() {
                let receipt = prover.receipt(shard.shard, &row, &Show::All).unwrap();
                receipt.verify(&trust).unwrap();
                *outcomes.entry(receipt.entry.outcome.name().to_string()).or_default() += 1;
                next += 1;
            }
        }
    }
    outcomes
}

fn gross(chain: &Chain) -> i128 {
    let sql = "SELECT CAST(sum(total_gross) AS VARCHAR) AS s FROM records \
               WHERE outcome = 'ACCEPTED' AND kind IN ('issue', 'issue_red')";
    let answer = chain.json(&["audit", "query", sql]);
    answer["s"].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_year_of_a_retailer_has_the_same_roots_on_both_ways() {
    let test = "a_year_of_a_retailer_has_the_same_roots_on_both_ways";
    let Some(csv) = data(test, "uci-online-retail/online_retail.csv.gz") else { return };
    let expected = expected(&csv);
    let root = tempfile::tempdir().unwrap();
    let embedded = Chain::create(&root.path().join("embedded"), Carrier::Embedded, 4, "");
    let records = replay(&embedded, &csv);
    let outcomes = verify_all(&embedded);
    let invoices = expected["accepted_sales"] + expected["accepted_credits"];
    let accepted = invoices + expected["reversals"];
    assert_eq!(i128::from(outcomes["ACCEPTED"]), accepted);
    assert_eq!(i128::from(outcomes["TYPE_NOT_ACCEPTED"]), expected["refused_TYPE_NOT_ACCEPTED"]);
    // Asked for a penny too much, every credited original says that too much was asked.
    assert_eq!(i128::from(outcomes["FULLY_RED"]), expected["questions_FULLY_RED"]);
    assert_eq!(i128::from(outcomes["AMOUNT_EXCEEDED"]), expected["questions_AMOUNT_EXCEEDED"]);
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
    assert_eq!(outcomes.values().sum::<u64>(), records);
    // All numbers of the file are accounted for: 22,061 sales, 3,836 credits, 3 adjustments.
    assert_eq!(expected["accepted_sales"] + expected["not_invoices"], 22_061);
    assert_eq!(expected["accepted_credits"], 3_836);
    assert_eq!(gross(&embedded), expected["gross_pennies"]);
    embedded.check();

    let Some(broker) = kafka(test) else { return };
    let prefix = prefix("retail");
    let carrier = Carrier::Kafka(&broker, &prefix);
    let kafka = Chain::create(&root.path().join("kafka"), carrier, 4, "");
    replay(&kafka, &csv);
    assert_eq!(kafka.shards(), embedded.shards());
    assert_eq!(verify_all(&kafka), outcomes);
    assert_eq!(gross(&kafka), gross(&embedded));
    kafka.check();
}
