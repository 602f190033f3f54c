//! Two banks race for the same invoice, again and again, from two producers at once.
//!
//! Who is first in the partition wins; the place of each record there is known from its
//! acknowledgement, so the truth is known without asking the chain.
//!
//! Invariants
//! - Every race has two records, of two banks, for one invoice that is free.
//! - A race counts as decided only where both answers are proved by receipts.

use super::deal::offered;
use super::play::Stage;
use super::season::{Act, Script, Season, SeasonConfig, script};
use super::story::{FIRST, LATER, OK, Pattern, Story};
use crate::drive::{Answers, Plan, drive};
use crate::outcomes::{Checker, Sent};
use crate::rng::{Purpose, Rng};
use crate::send::{Ack, SendError, Sink};
use crate::source::{Expected, Generated, Source};
use anyhow::{Context, Result, bail, ensure};
use piaogen_crypto::Lanes;
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::entry::Outcome;
use piaogen_verify::record::RecordKind;
use piaogen_verify::trust_root::TrustRoot;
use rayon::prelude::*;
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Both sorts of races, in turn.
const SCRIPTS: &[Script] =
    &[script(Pattern::DoublePledge, 1, held), script(Pattern::DoublePledge, 1, opened)];

fn held(story: &mut Story<'_>) {
    let deal = offered(story, 2);
    for bank in &deal.banks[..2] {
        let hold = deal.hold(story, deal.invoice.gross);
        story.event(LATER, *bank, hold, OK);
    }
}

fn opened(story: &mut Story<'_>) {
    let deal = offered(story, 2);
    for bank in &deal.banks[..2] {
        story.event(LATER, *bank, deal.open(deal.invoice.gross), OK);
    }
}

/// What is raced.
#[derive(Clone, Debug)]
pub struct RaceConfig {
    /// Everything but the order of arrival follows from it.
    pub seed: u64,
    /// How many invoices are raced for.
    pub races: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaceReport {
    /// Invoices that were raced for.
    pub races: u64,
    /// Races with one winner, who came first, and one who holds the proof of his refusal.
    pub decided: u64,
    /// Races in which both won.
    pub both: u64,
    /// Races in which nobody won.
    pub neither: u64,
    /// Races with one winner and another fault: the wrong one, another answer, no proof.
    pub faulty: u64,
    /// How often each producer's bank was first.
    pub wins: [u64; 2],
    /// From the first record of a race sent to the last acknowledged.
    pub sending: Duration,
    /// The first faults, in words.
    pub faults: Vec<String>,
}

impl RaceReport {
    /// Whether every race was decided.
    pub fn is_good(&self) -> bool {
        self.decided == self.races
    }
}

/// Records that one producer sends before it waits for the other.
const CHUNK: usize = 64;
/// Nothing acknowledged for so long is a stall.
const STALL: Duration = Duration::from_secs(120);
/// Most faults that are kept.
const FAULTS_MAX: usize = 20;

/// Races two banks for each of many invoices; `progress` is told how many races were answered.
pub fn race(
    stage: &mut Stage,
    config: &RaceConfig,
    progress: &mut dyn FnMut(u64),
) -> Result<RaceReport> {
    let season = SeasonConfig::of_scripts(config.seed, config.races, SCRIPTS);
    let mut season = Season::new(season, &stage.genesis, &stage.authority);
    let place = stage.register(season.registrations(stage.genesis.file.time_ms - 10_000))?;
    season.clock[FIRST] = stage.look(place)?.time_ms;
    let checker = Checker::new(TrustRoot::of_genesis(&stage.genesis));
    prepare(stage, &season, &checker)?;
    season.clock[LATER] = stage.look(place)?.time_ms;
    let act = season.act(LATER);
    let records = act.batch(0..act.len().unwrap_or(0), Lanes::detect())?;
    let begun = Instant::now();
    let acks = send_at_once(stage, config.seed, &records)?;
    let mut report =
        RaceReport { races: config.races, sending: begun.elapsed(), ..RaceReport::default() };
    let sent = in_order(&act, records, &acks, &mut report)?;
    judge(stage, &checker, &sent, &mut report, progress)?;
    Ok(report)
}

/// Issues the invoices, and lets both banks lend.
fn prepare(stage: &mut Stage, season: &Season, checker: &Checker) -> Result<()> {
    let act = season.act(FIRST);
    let plan = Plan { patience: stage.patience, ..Plan::new(act.len().unwrap_or(0)) };
    let answers = Answers { source: stage.receipts.as_mut(), checker, watch: None };
    let sink = stage.sinks.first_mut().context("a stage without a producer")?;
    let report = drive(&act, &plan, sink.as_mut(), Some(answers), &mut |_, _| {})?;
    ensure!(report.is_good(), "the invoices could not be issued:\n{}", report.to_text());
    Ok(())
}

type Shared<'a> = Mutex<&'a mut Box<dyn Sink + Send>>;

/// Sends even records from one producer and odd ones from another; the acknowledgement of each.
fn send_at_once(stage: &mut Stage, seed: u64, records: &[Generated]) -> Result<Vec<Ack>> {
    let sinks: Vec<Shared<'_>> = stage.sinks.iter_mut().map(Mutex::new).collect();
    ensure!(!sinks.is_empty(), "a stage without a producer");
    let (barrier, acks) = (Barrier::new(2), Mutex::new(Vec::new()));
    let produce = |side: usize| -> Result<()> {
        let sink = &sinks[side % sinks.len()];
        let mine: Vec<&Generated> = records.iter().skip(side).step_by(2).collect();
        let mut failure = None;
        for (number, chunk) in (0..).zip(mine.chunks(CHUNK)) {
            barrier.wait();
            // Each begins somewhere else, so that neither is always ahead.
            let mut rng = Rng::new(seed, Purpose::Story, 1 << 61 | number << 1 | side as u64);
            let begin = rng.below(chunk.len() as u64) as usize;
            for record in chunk[begin..].iter().chain(&chunk[..begin]) {
                // The other waits at the barrier: who failed goes on in form.
                if failure.is_none() {
                    failure = send(sink, record, &acks).err();
                }
            }
        }
        match failure {
            None => drain(sink, records.len(), &acks),
            Some(error) => Err(error),
        }
    };
    let outcomes = std::thread::scope(|scope| {
        let threads = [0, 1].map(|side| scope.spawn(move || produce(side)));
        threads.map(|thread| thread.join().unwrap_or_else(|_| bail!("a producer panicked")))
    });
    for outcome in outcomes {
        outcome?;
    }
    Ok(acks.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn send(sink: &Shared<'_>, record: &Generated, acks: &Mutex<Vec<Ack>>) -> Result<()> {
    let begun = Instant::now();
    loop {
        let mut held = sink.lock().unwrap_or_else(PoisonError::into_inner);
        match held.send(record.partition, &record.record, record.index) {
            Ok(()) => return Ok(()),
            Err(SendError::Busy) if begun.elapsed() < STALL => {
                take(held.as_mut(), acks)?;
                drop(held);
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn take(sink: &mut dyn Sink, acks: &Mutex<Vec<Ack>>) -> Result<()> {
    let mut acks = acks.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(sink.poll_acks(&mut acks)?)
}

/// Waits until everything that both sent is acknowledged.
fn drain(sink: &Shared<'_>, wanted: usize, acks: &Mutex<Vec<Ack>>) -> Result<()> {
    let begun = Instant::now();
    sink.lock().unwrap_or_else(PoisonError::into_inner).flush()?;
    while acks.lock().unwrap_or_else(PoisonError::into_inner).len() < wanted {
        take(sink.lock().unwrap_or_else(PoisonError::into_inner).as_mut(), acks)?;
        ensure!(begun.elapsed() < STALL, "the stream acknowledges nothing any more");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The records with their places and the answers that follow from these, by partition and offset.
fn in_order(
    act: &Act<'_>,
    mut records: Vec<Generated>,
    acks: &[Ack],
    report: &mut RaceReport,
) -> Result<Vec<Sent>> {
    let mut offsets = vec![None; records.len()];
    for ack in acks {
        offsets[ack.token as usize] = Some(ack.offset);
    }
    let offsets: Vec<u64> =
        offsets.into_iter().collect::<Option<_>>().context("a record was not acknowledged")?;
    for (pair, records) in offsets.chunks_exact(2).zip(records.chunks_exact_mut(2)) {
        let first = usize::from(pair[1] < pair[0]);
        report.wins[first] += 1;
        let story = act.season.story(act.story_of(records[0].index), false);
        let until = story.clock[FIRST] + super::story::DAY_MS;
        let (conflict, detail) = match records[0].record_kind {
            Some(RecordKind::FinanceHold) => (Conflict::Held, Detail::Time(until)),
            _ => (Conflict::Encumbered, Detail::Number(1)),
        };
        let second = Outcome::conflict_with(conflict, detail);
        records[first].expected = Expected::Exactly(Outcome::Accepted);
        records[1 - first].expected = Expected::Exactly(second);
    }
    let at = Instant::now();
    let mut sent: Vec<Sent> = (records.into_iter().zip(offsets))
        .map(|(what, offset)| Sent { what, offset, at })
        .collect();
    sent.sort_unstable_by_key(|sent| (sent.what.partition, sent.offset));
    Ok(sent)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Waiting,
    /// As it must be.
    Right,
    Wrong {
        accepted: bool,
    },
}

/// Reads the receipt of each record, and decides the races.
fn judge(
    stage: &mut Stage,
    checker: &Checker,
    sent: &[Sent],
    report: &mut RaceReport,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut verdicts = vec![Verdict::Waiting; sent.len()];
    for (round, chunk) in (0..).zip(sent.chunks(512)) {
        let mut receipts = Vec::with_capacity(chunk.len());
        for sent in chunk {
            receipts.push(fetch(stage, sent)?);
        }
        let checked: Vec<_> = (chunk.par_iter().zip(&receipts))
            .map(|(sent, bytes)| checker.check(sent, bytes, None))
            .collect();
        for (sent, answer) in chunk.iter().zip(checked) {
            let verdict = match answer {
                Ok(_) => Verdict::Right,
                Err(mismatch) => {
                    let accepted = mismatch.outcome == Some(Outcome::Accepted);
                    if report.faults.len() < FAULTS_MAX {
                        report.faults.push(mismatch.to_string());
                    }
                    Verdict::Wrong { accepted }
                }
            };
            verdicts[sent.what.index as usize] = verdict;
        }
        progress((round + 1) * 256);
    }
    let mut wanted = vec![false; sent.len()];
    for sent in sent {
        let accepted = sent.what.expected == Expected::Exactly(Outcome::Accepted);
        wanted[sent.what.index as usize] = accepted;
    }
    for (pair, wanted) in verdicts.chunks_exact(2).zip(wanted.chunks_exact(2)) {
        let won = |side: usize| match pair[side] {
            Verdict::Right => wanted[side],
            Verdict::Wrong { accepted } => accepted,
            Verdict::Waiting => false,
        };
        match (won(0), won(1)) {
            (true, true) => report.both += 1,
            (false, false) => report.neither += 1,
            _ if pair == [Verdict::Right; 2] => report.decided += 1,
            _ => report.faulty += 1,
        }
    }
    Ok(())
}

fn fetch(stage: &mut Stage, sent: &Sent) -> Result<Vec<u8>> {
    let begun = Instant::now();
    loop {
        if let Some(bytes) = stage.receipts.receipt(sent.what.partition, sent.offset) {
            return Ok(bytes);
        }
        ensure!(
            begun.elapsed() < stage.patience,
            "no receipt of partition {} offset {}; is the node running?",
            sent.what.partition,
            sent.offset
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
