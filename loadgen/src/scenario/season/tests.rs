//! Stories against the rules of records and fingerprints, and the tally against made-up answers.

use super::*;
use crate::genesis::{DemoChain, demo_chain};
use piaogen_verify::document::COMMITMENT_PREFIX;
use piaogen_verify::entry::Outcome;
use piaogen_verify::event::check_event;
use piaogen_verify::fingerprint::of_lines;
use piaogen_verify::opening;
use piaogen_verify::record::decode;
use piaogen_verify::scheme::{check_invoice, usual};
use piaogen_verify::status::Facts;
use std::collections::{HashMap, HashSet};

const NOW: i64 = 1_795_000_000_000;

fn chain() -> DemoChain {
    demo_chain(7, 5, 1, NOW)
}

fn season(stories: u64) -> Season {
    let chain = chain();
    let mut config = SeasonConfig::of_records(7, 0);
    config.stories = stories;
    let mut season = Season::new(config, &chain.genesis, &chain.authority);
    season.clock = [NOW, NOW + 1_000, NOW + 2_000, NOW + 20_000];
    season
}

fn records(season: &Season) -> Vec<Generated> {
    let all = (0..ACTS).flat_map(|act| {
        let act = season.act(act);
        act.batch(0..act.len().unwrap(), Lanes::detect()).unwrap()
    });
    all.collect()
}

#[test]
fn a_sketch_takes_the_same_course_as_the_story_itself() {
    let season = season(200);
    for index in 0..200 {
        let (sketch, full) = (season.story(index, false), season.story(index, true));
        let course = |story: &Story<'_>| -> Vec<_> {
            let of = |s: &Step| (s.act, s.actor, s.kind, s.fraud, s.because, s.alerts.clone());
            story.steps.iter().map(of).collect()
        };
        assert_eq!(course(&sketch), course(&full), "story {index}");
        assert_eq!(sketch.pairs, full.pairs);
        let of_act = |act| full.steps.iter().filter(|step| step.act == act).count();
        for act in 0..ACTS {
            let length = season.lengths[season.config.script(index)][act];
            assert_eq!(of_act(act), usize::from(length), "story {index}");
        }
    }
}

#[test]
fn every_record_is_well_formed_and_opens_what_is_untouched() {
    let season = season(SCRIPTS.len() as u64 * 3);
    let records = records(&season);
    assert_eq!(records.len() as u64, season.records());
    let mut issued: HashMap<Vec<u8>, Digest> = HashMap::new();
    for generated in &records {
        let record = decode(&generated.record).unwrap();
        assert_eq!(record.commitment(), generated.commitment);
        assert_eq!(record.subject(&usual::all()), Ok(generated.subject.clone()));
        if record.kind.is_invoice() {
            let document = generated.document.as_ref().unwrap();
            assert_eq!(check_invoice(&record, &usual::all()), Ok(()), "{}", generated.index);
            if generated.expected == crate::source::Expected::Exactly(Outcome::Accepted) {
                assert_eq!(document.check(), Ok(()));
                assert!(issued.insert(generated.subject.clone(), generated.commitment).is_none());
            }
        } else {
            assert_eq!(check_event(&record), Ok(()), "{:?}", record.kind);
        }
    }
    let mut opened = HashSet::new();
    for generated in &records {
        let record = decode(&generated.record).unwrap();
        let Some(bytes) = record.get(tag::OPENING) else { continue };
        let fields = opening::decode(bytes).unwrap();
        assert!(Facts::of_opening(&fields).is_ok());
        let same = issued.get(&generated.subject).is_some_and(|commitment| {
            opening::commitment(COMMITMENT_PREFIX, &fields) == *commitment
        });
        if generated.expected == crate::source::Expected::Exactly(Outcome::Accepted) {
            assert!(same);
            opened.insert(generated.subject.clone());
        }
    }
    assert!(opened.len() > 60, "{}", opened.len());
}

#[test]
fn what_is_alike_shares_a_fingerprint_and_nothing_else_does() {
    let season = season(SCRIPTS.len() as u64 * 16);
    let mut seen: HashMap<(u8, Vec<u8>), (u64, u64)> = HashMap::new();
    let (mut found, mut wanted) = (HashSet::new(), HashSet::new());
    for index in 0..season.config.stories {
        let story = season.story(index, true);
        let visible = story.pairs.iter().filter(|pair| pair.visible);
        wanted.extend(visible.map(|p| ((index, p.places.0), (index, p.places.1))));
        for step in &story.steps {
            let Some(document) = step.document.as_ref().filter(|_| !step.fraud) else { continue };
            let place = (index, step.place);
            for (number, key) in fingerprints(step, document) {
                if let Some(before) = seen.insert((number, key), place)
                    && before != place
                {
                    found.insert((before, place));
                }
            }
        }
    }
    assert_eq!(found, wanted);
    assert!(wanted.len() > 20, "{}", wanted.len());
}

/// What two invoices have in common, without the code that is to find it.
fn fingerprints(step: &Step, document: &Document) -> Vec<(u8, Vec<u8>)> {
    if step.kind == piaogen_verify::record::RecordKind::IssueRed {
        return Vec::new();
    }
    let text = |tag| document.fields.text(tag).trim().to_uppercase();
    let parties = format!("{}|{}", text(tag::SELLER_PARTY), text(tag::BUYER_PARTY));
    if text(tag::BUYER_PARTY).is_empty() {
        return Vec::new();
    }
    let gross = document.fields.amount(tag::TOTAL_GROSS);
    let day = document.fields.get(tag::ISSUE_DATE).unwrap();
    let order = text(tag::ORDER);
    vec![
        (2, format!("{parties}|{gross}|{day:?}").into_bytes()),
        (3, format!("{parties}|{gross}|{order}").into_bytes()),
        (4, format!("{parties}|{:?}", of_lines(&document.lines)).into_bytes()),
    ]
}
