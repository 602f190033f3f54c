//! Sends a source at a pace, collects acknowledgements and receipts, and reports.
//!
//! Records are made on other threads, a few batches ahead, so that signing does not disturb the
//! pace. What waits for a receipt is kept without its bytes and is bounded: when too much waits,
//! sending pauses until receipts come.
//!
//! Invariants
//! - Records are sent in the order of their indices, so that duplicates follow what they repeat.
//! - Memory is bounded by `pending_max` and the batches ahead, not by the length of the run.

use crate::outcomes::{Checker, Mismatch, ReceiptSource, Report, Sent};
use crate::pace::Schedule;
use crate::send::{Ack, SendError, Sink};
use crate::source::{Generated, Source, SourceError};
use piaogen_crypto::Lanes;
use piaogen_verify::receipt::Receipt;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// What to send, and how to wait.
#[derive(Clone, Debug)]
pub struct Plan {
    /// First record of the source.
    pub first: u64,
    /// How many.
    pub records: u64,
    /// When they are due.
    pub schedule: Schedule,
    /// How long to wait for receipts after the last record.
    pub patience: Duration,
    /// Most records that may wait for acknowledgement or receipt.
    pub pending_max: usize,
    /// One of so many receipts is also compared with its document, made again.
    pub compare_every: u64,
    /// Records in one batch.
    pub batch: u64,
}

impl Plan {
    /// So many records from the first, as fast as it goes.
    pub fn new(records: u64) -> Plan {
        Plan {
            first: 0,
            records,
            schedule: Schedule::Fastest,
            patience: Duration::from_secs(60),
            pending_max: 200_000,
            compare_every: 64,
            batch: 1_024,
        }
    }
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The stream failed.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The source has no more records.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The stream takes or acknowledges nothing.
    #[error(
        "nothing moved for {seconds} s while {pending} records wait for {what}; is it running?"
    )]
    Stalled {
        /// For how long.
        seconds: u64,
        /// How many wait.
        pending: usize,
        /// For what.
        what: &'static str,
    },
}

/// Receipts and how to check them.
pub struct Answers<'a> {
    /// Where they come from.
    pub source: &'a mut dyn ReceiptSource,
    /// What checks them.
    pub checker: &'a Checker,
    /// Who is told of each answer.
    pub watch: Option<&'a mut dyn Watch>,
}

/// Is told what was answered to each record.
pub trait Watch {
    /// The receipt of a record, checked; or what is wrong with it.
    fn answered(&mut self, sent: &Sent, answer: &Result<Receipt, Mismatch>);
}

/// Receipts that are fetched before a round of checking begins.
const ROUND: usize = 512;
/// Nothing acknowledged for so long is a stall.
const STALL: Duration = Duration::from_secs(120);

struct Run<'a, 'b> {
    source: &'a dyn Source,
    plan: &'a Plan,
    sink: &'a mut dyn Sink,
    answers: Option<Answers<'b>>,
    begin: Instant,
    last_move: Instant,
    unacked: HashMap<u64, (Generated, Instant)>,
    // By partition, in order of offsets: only the front can have a receipt before the rest.
    waiting: BTreeMap<u32, VecDeque<Sent>>,
    waiting_count: usize,
    acks: Vec<Ack>,
    report: Report,
}

/// Sends records of a source; `progress` is told how many were sent and checked.
pub fn drive(
    source: &dyn Source,
    plan: &Plan,
    sink: &mut dyn Sink,
    answers: Option<Answers<'_>>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, DriveError> {
    let end =
        plan.first + plan.records.min(source.len().unwrap_or(u64::MAX).saturating_sub(plan.first));
    std::thread::scope(|scope| {
        let (to, from) = sync_channel(4);
        scope.spawn(move || {
            let mut at = plan.first;
            while at < end {
                let next = (at + plan.batch.max(1)).min(end);
                // The receiver is gone when the run ended early.
                if to.send(source.batch(at..next, Lanes::detect())).is_err() {
                    return;
                }
                at = next;
            }
        });
        let now = Instant::now();
        let run = Run {
            source,
            plan,
            sink,
            answers,
            begin: now,
            last_move: now,
            unacked: HashMap::new(),
            waiting: BTreeMap::new(),
            waiting_count: 0,
            acks: Vec::new(),
            report: Report::default(),
        };
        run.all(from, progress)
    })
}

type Batches = Receiver<Result<Vec<Generated>, SourceError>>;

impl Run<'_, '_> {
    fn all(
        mut self,
        batches: Batches,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Report, DriveError> {
        for batch in batches {
            for generated in batch? {
                self.hold_pace()?;
                self.send_one(generated)?;
            }
            self.collect()?;
            progress(self.report.sent, self.report.checked);
        }
        self.flush()?;
        self.report.sending = self.begin.elapsed();
        self.report.total = self.report.sending;
        let deadline = Instant::now() + self.plan.patience;
        while self.waiting_count > 0 && Instant::now() < deadline {
            if self.check_round() == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.report.total = self.begin.elapsed();
            progress(self.report.sent, self.report.checked);
        }
        self.report.unanswered = self.waiting_count as u64;
        Ok(self.report)
    }

    fn hold_pace(&mut self) -> Result<(), DriveError> {
        loop {
            let due = self.plan.schedule.due(self.begin.elapsed());
            let pending = self.unacked.len() + self.waiting_count;
            if self.report.sent < due && pending < self.plan.pending_max {
                return Ok(());
            }
            let moved = self.collect()?;
            if self.report.sent < due && self.last_move.elapsed() > STALL {
                let seconds = STALL.as_secs();
                let what = if self.unacked.is_empty() { "receipts" } else { "the stream" };
                return Err(DriveError::Stalled { seconds, pending, what });
            }
            if !moved {
                std::thread::sleep(Duration::from_micros(500));
            }
        }
    }

    fn send_one(&mut self, mut generated: Generated) -> Result<(), DriveError> {
        let at = Instant::now();
        let (token, partition) = (generated.index, generated.partition);
        let bytes = std::mem::take(&mut generated.record);
        loop {
            match self.sink.send(partition, &bytes, token) {
                Ok(()) => break,
                Err(SendError::Busy) if self.last_move.elapsed() <= STALL => {
                    if !self.collect()? {
                        std::thread::sleep(Duration::from_micros(500));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.report.sent += 1;
        self.report.bytes += bytes.len() as u64;
        *self.report.expected.entry(generated.expected.name()).or_default() += 1;
        generated.document = None;
        self.unacked.insert(token, (generated, at));
        Ok(())
    }

    /// Takes what arrived; says whether anything did.
    fn collect(&mut self) -> Result<bool, DriveError> {
        let acked = self.take_acks()?;
        let checked = self.check_round();
        if acked + checked > 0 || self.unacked.is_empty() && self.waiting_count == 0 {
            self.last_move = Instant::now();
        }
        Ok(acked + checked > 0)
    }

    fn take_acks(&mut self) -> Result<usize, DriveError> {
        self.acks.clear();
        self.sink.poll_acks(&mut self.acks)?;
        for ack in &self.acks {
            let Some((what, at)) = self.unacked.remove(&ack.token) else { continue };
            self.report.add_ack(at.elapsed());
            if self.answers.is_some() {
                let sent = Sent { what, offset: ack.offset, at };
                self.waiting.entry(ack.partition).or_default().push_back(sent);
                self.waiting_count += 1;
            }
        }
        Ok(self.acks.len())
    }

    fn flush(&mut self) -> Result<(), DriveError> {
        self.sink.flush()?;
        self.last_move = Instant::now();
        while !self.unacked.is_empty() {
            if self.take_acks()? > 0 {
                self.last_move = Instant::now();
            } else if self.last_move.elapsed() > STALL {
                let (seconds, pending) = (STALL.as_secs(), self.unacked.len());
                return Err(DriveError::Stalled { seconds, pending, what: "the stream" });
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// Fetches and checks receipts that are there; says how many.
    fn check_round(&mut self) -> usize {
        let Some(answers) = &mut self.answers else { return 0 };
        let mut found: Vec<(Sent, Vec<u8>, Instant)> = Vec::new();
        for queue in self.waiting.values_mut() {
            while found.len() < ROUND
                && let Some(sent) = queue.front()
                && let Some(bytes) = answers.source.receipt(sent.what.partition, sent.offset)
            {
                found.extend(queue.pop_front().map(|sent| (sent, bytes, Instant::now())));
            }
        }
        self.waiting_count -= found.len();
        let (checker, source, every) = (answers.checker, self.source, self.plan.compare_every);
        let verdicts: Vec<_> = found
            .par_iter()
            .map(|(sent, bytes, _)| {
                let compare = every > 0 && sent.what.index.is_multiple_of(every);
                let document = if compare { source.document(sent.what.index) } else { None };
                checker.check(sent, bytes, document.as_ref())
            })
            .collect();
        for ((sent, _, seen), verdict) in found.iter().zip(verdicts) {
            if let Some(watch) = &mut answers.watch {
                watch.answered(sent, &verdict);
            }
            self.report.add(verdict, seen.duration_since(sent.at));
        }
        found.len()
    }
}
