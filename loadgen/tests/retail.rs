//! Compares the replay of the real file with counts that an independent script derives from it.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as its test does")]

use piaogen_crypto::Lanes;
use piaogen_loadgen::genesis::demo_chain;
use piaogen_loadgen::replay::Replay;
use piaogen_loadgen::retail::{Reason, Retail};
use piaogen_loadgen::source::{Expected, Kind, Source};
use piaogen_verify::conflict::Detail;
use piaogen_verify::entry::Outcome;
use piaogen_verify::event::check_event;
use piaogen_verify::fields::tag;
use piaogen_verify::record::{self, Record, RecordKind};
use piaogen_verify::scheme::{check_invoice, usual};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn folder() -> Option<PathBuf> {
    let root = match std::env::var_os("PIAOGEN_DATA") {
        Some(root) => PathBuf::from(root),
        None => std::env::current_dir().expect("a folder to be in").join("../../shared/data"),
    };
    let folder = root.join("uci-online-retail");
    folder.join("online_retail.csv.gz").exists().then_some(folder)
}

fn read(folder: &std::path::Path) -> Retail {
    let pairs = folder.join("reversal_pairs.csv");
    Retail::read(&folder.join("online_retail.csv.gz"), Some(&pairs)).unwrap()
}

/// What is expected of an event on an original.
fn count_event(record: &Record<'_>, expected: &Expected, add: &mut impl FnMut(&str, i128)) {
    assert_eq!(check_event(record), Ok(()));
    let question = record.text(tag::RED_NUMBER).ends_with("-more");
    match expected {
        Expected::Exactly(Outcome::Accepted) => {
            assert!(!question);
            add("reversals", 1);
            add("pennies_credited", record.amount(tag::AMOUNT));
            add("reversals_without_lines", i128::from(record.get(tag::LINES_RED).is_none()));
            // The first event of an original opens it.
            add("originals_credited", i128::from(record.get(tag::OPENING).is_some()));
        }
        Expected::Exactly(Outcome::Conflict { conflict, detail }) => {
            assert!(question);
            add(&format!("questions_{}", conflict.name()), 1);
            if let Detail::Amount(remains) = detail {
                assert_eq!(record.amount(tag::AMOUNT), remains + 1);
                add("pennies_remaining", *remains);
            }
        }
        other => panic!("{other:?}"),
    }
}

/// What the replay makes of the file, in the words of the script.
fn counts(replay: &Replay) -> BTreeMap<String, i128> {
    let retail = replay.retail();
    let mut counts: BTreeMap<String, i128> = BTreeMap::new();
    let mut add = |name: &str, n: i128| *counts.entry(name.into()).or_default() += n;
    let length = replay.len().unwrap();
    for begin in (0..length).step_by(4_096) {
        for generated in replay.batch(begin..(begin + 4_096).min(length), Lanes::detect()).unwrap()
        {
            let record = record::decode(&generated.record).unwrap();
            if record.kind == RecordKind::RedApply {
                count_event(&record, &generated.expected, &mut add);
                continue;
            }
            let outcome = check_invoice(&record, &usual::all());
            let outcome = outcome.err().unwrap_or(Outcome::Accepted);
            assert!(generated.expected.matches(&outcome), "{}", record.text(tag::NUMBER));
            let document = generated.document.unwrap();
            assert_eq!(document.check(), Ok(()), "{}", record.text(tag::NUMBER));
            add("lines", document.lines.len() as i128);
            if outcome != Outcome::Accepted {
                assert_eq!(generated.kind, Kind::TypeNotAccepted);
                add(&format!("refused_{}", outcome.name()), 1);
                continue;
            }
            let gross = record.amount(tag::TOTAL_GROSS);
            add("gross_pennies", gross);
            if record.kind == RecordKind::Issue {
                add("accepted_sales", 1);
                add("gross_pennies_sales", gross);
                continue;
            }
            add("accepted_credits", 1);
            add("gross_pennies_credits", gross);
            let named = document.fields.get(tag::PRECEDING);
            add("credits_with_originals", i128::from(named.is_some()));
            let entries = named.map_or(0, |b| piaogen_verify::value::entries_of(b).unwrap().len());
            add("originals_named", entries as i128);
        }
    }
    let mut credits: BTreeMap<usize, i128> = BTreeMap::new();
    retail.reversals.iter().for_each(|r| *credits.entry(r.original).or_default() += 1);
    let several = credits.values().filter(|n| **n > 1).count();
    add("originals_credited_more_than_once", several as i128);
    assert_eq!(retail.pairs_unfit, 0);
    add("rows", i128::from(retail.rows));
    add("not_invoices", i128::from(retail.not_invoices));
    for reason in [Reason::NotAnInvoice, Reason::Unreadable, Reason::Sign] {
        let rows = retail.reported.iter().filter(|r| r.reason == reason).count();
        add(&format!("rows_{}", reason.name()), rows as i128);
    }
    counts
}

#[test]
fn the_replay_equals_what_an_independent_script_counts() {
    let Some(folder) = folder() else {
        println!("SKIPPED: no Online Retail data; set PIAOGEN_DATA to the folder that has it");
        return;
    };
    let script =
        std::env::current_dir().expect("a folder to be in").join("tests/python/retail_counts.py");
    let output = match std::process::Command::new("python3").arg(script).arg(&folder).output() {
        Ok(output) => output,
        Err(error) => {
            println!("SKIPPED: no python3 here: {error}");
            return;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected: BTreeMap<String, i128> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, n)| (name.to_string(), n.parse().unwrap()))
        .collect();
    let chain = demo_chain(1, 8, 1, 1_795_000_000_000);
    let replay = Replay::new(read(&folder), 1, 1, &chain.genesis).with_reversals();
    assert_eq!(counts(&replay), expected);
    // The oddities of the data that concern reversals, in figures.
    assert_eq!(expected["originals_credited_more_than_once"], 466);
    assert_eq!(expected["reversals_without_lines"], 1, "one credit takes 101 lines back");
    assert_eq!((expected["reversals"], expected["originals_credited"]), (3_717, 3_142));
    let questions = (expected["questions_FULLY_RED"], expected["questions_AMOUNT_EXCEEDED"]);
    assert_eq!(questions, (140, 3_002));
    let (lines, reported) = (expected["lines"], replay.retail().reported.len() as i128);
    assert_eq!(lines + reported, expected["rows"]);
}

#[test]
fn rounds_have_new_numbers_originals_and_buyers() {
    let Some(folder) = folder() else {
        println!("SKIPPED: no Online Retail data; set PIAOGEN_DATA to the folder that has it");
        return;
    };
    let retail = read(&folder);
    let chain = demo_chain(1, 8, 1, 1_795_000_000_000);
    let at = retail.invoices.iter().position(|i| !i.originals.is_empty()).unwrap() as u64;
    let per_round = retail.invoices.len() as u64;
    let replay = Replay::new(retail, 1, 3, &chain.genesis);
    assert_eq!(replay.len(), Some(3 * per_round));
    let first = replay.document(at).unwrap();
    let third = replay.document(at + 2 * per_round).unwrap();
    let (number, buyer) = (first.fields.text(tag::NUMBER), first.fields.text(2007));
    assert_eq!(third.fields.text(tag::NUMBER), format!("{number}-r2"));
    assert_eq!(third.fields.text(2007), format!("{buyer}-r2"));
    assert_ne!(first.secret, third.secret);
    let entries = piaogen_verify::value::entries_of(third.fields.get(tag::PRECEDING).unwrap());
    assert!(entries.unwrap()[0].iter().any(|(tag, b)| *tag == 25 && b.ends_with(b"-r2")));
    assert_eq!(first.fields.amount(tag::TOTAL_GROSS), third.fields.amount(tag::TOTAL_GROSS));
}
