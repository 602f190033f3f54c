//! Checks the receipt of each record that was sent, and says how many, how fast, and what differs.
//!
//! A receipt is checked as a stranger would: against the trust root alone; then its entry against
//! what was sent and the outcome that was known beforehand.
//!
//! Invariants
//! - A record counts as checked only when its receipt verified and every part of its entry fits.
//! - The report keeps a bounded number of mismatches, and counts all.

use crate::source::Generated;
use hdrhistogram::Histogram;
use piaogen_verify::document::Document;
use piaogen_verify::entry::Outcome;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::trust_root::TrustRoot;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};

/// Where receipts come from: a node's folder, or its HTTP API.
pub trait ReceiptSource {
    /// The receipt of the record at an offset, in compact encoding; `None` while there is none yet.
    /// The number of partitions stands for the topic `registry`.
    fn receipt(&mut self, partition: u32, offset: u64) -> Option<Vec<u8>>;
}

/// A record that is in the stream.
#[derive(Clone, Debug)]
pub struct Sent {
    /// What was sent, without document and bytes.
    pub what: Generated,
    /// Its offset.
    pub offset: u64,
    /// When it was given to the sink.
    pub at: Instant,
}

/// What is wrong with the answer to one record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {index} (partition {partition}, offset {offset}): {what}")]
pub struct Mismatch {
    /// Its index in the source.
    pub index: u64,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// What differs.
    pub what: String,
    /// The outcome, where that is all that differs: it is proved, and it is another.
    pub outcome: Option<Outcome>,
}

/// Checks receipts against a trust root.
#[derive(Clone, Debug)]
pub struct Checker {
    trust: TrustRoot,
}

impl Checker {
    /// A checker that trusts this and nothing else.
    pub fn new(trust: TrustRoot) -> Checker {
        Checker { trust }
    }

    /// Checks the receipt of one record, with its document where that is at hand. The answer is the
    /// receipt, read.
    pub fn check(
        &self,
        sent: &Sent,
        receipt: &[u8],
        document: Option<&Document>,
    ) -> Result<Receipt, Mismatch> {
        let mismatch = |what: String| {
            let (index, partition) = (sent.what.index, sent.what.partition);
            Mismatch { index, partition, offset: sent.offset, what, outcome: None }
        };
        let fail = |what: String| Err(mismatch(what));
        let receipt = match Receipt::decode(receipt) {
            Ok(receipt) => receipt,
            Err(error) => return fail(format!("the receipt does not decode: {error}")),
        };
        if let Err(refusal) = receipt.verify(&self.trust) {
            return fail(format!("the receipt does not verify: {refusal}"));
        }
        if let Some(what) = differs(sent, &receipt) {
            return fail(what);
        }
        if let Some(what) = answers_otherwise(sent, &receipt.entry.outcome) {
            let outcome = Some(receipt.entry.outcome);
            return Err(Mismatch { outcome, ..mismatch(what) });
        }
        let differences = document.map(|document| receipt.compare(document)).unwrap_or_default();
        if !receipt.fields.is_empty()
            && let Some(first) = differences.first()
        {
            return fail(format!("the document differs in {}", first.name));
        }
        Ok(receipt)
    }
}

/// The first part of a receipt that is not about the record that was sent.
fn differs(sent: &Sent, receipt: &Receipt) -> Option<String> {
    let (entry, what) = (&receipt.entry, &sent.what);
    let parts = [
        ("shard", receipt.shard.shard == what.partition),
        ("offset", entry.offset == sent.offset),
        ("commitment", entry.commitment == what.commitment),
        ("subject", entry.subject == what.subject),
        ("signer", entry.signer == what.signer),
        ("issue index", entry.issue.is_some() == names_issue(what, &entry.outcome)),
    ];
    let (name, _) = parts.iter().find(|(_, same)| !same)?;
    Some(format!("the {name} of the entry is another"))
}

/// Says so where the outcome is not the one that the record must have.
fn answers_otherwise(sent: &Sent, outcome: &Outcome) -> Option<String> {
    let expected = &sent.what.expected;
    let (wanted, name, details) = (expected.name(), outcome.name(), outcome.explain());
    let differs = !expected.matches(outcome);
    differs.then(|| format!("{wanted} was expected, the outcome is {name} {details}"))
}

/// Whether the entry of a record names an issue index: that of the invoice that it made or changed.
fn names_issue(what: &Generated, outcome: &Outcome) -> bool {
    *outcome == Outcome::Accepted && what.record_kind.is_some_and(|kind| !kind.is_registry())
}

/// Most mismatches that a report keeps.
pub const MISMATCHES_MAX: usize = 100;
/// Longest latency that is told apart, in microseconds: an hour.
const LATENCY_MAX_US: u64 = 3_600_000_000;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Records given to the sink.
    pub sent: u64,
    /// Records that the stream acknowledged.
    pub acked: u64,
    /// Bytes of records given to the sink.
    pub bytes: u64,
    /// Records whose receipt was checked and fits.
    pub checked: u64,
    /// Records that had no receipt when waiting ended.
    pub unanswered: u64,
    /// From the first record sent to the last acknowledged.
    pub sending: Duration,
    /// From the first record sent to the last receipt.
    pub total: Duration,
    /// How often each outcome was expected, among records sent.
    pub expected: BTreeMap<&'static str, u64>,
    /// How often each outcome came, among receipts that fit.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Receipts that do not verify or do not fit: how many.
    pub mismatched: u64,
    /// The first of them.
    pub mismatches: Vec<Mismatch>,
    /// From sending to acknowledgement, in microseconds.
    pub to_ack: Histogram<u64>,
    /// From sending to a receipt, in microseconds.
    pub to_receipt: Histogram<u64>,
}

impl Default for Report {
    fn default() -> Report {
        let histogram =
            || Histogram::new_with_max(LATENCY_MAX_US, 3).expect("the bounds are constants");
        Report {
            sent: 0,
            acked: 0,
            bytes: 0,
            checked: 0,
            unanswered: 0,
            sending: Duration::ZERO,
            total: Duration::ZERO,
            expected: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            mismatched: 0,
            mismatches: Vec::new(),
            to_ack: histogram(),
            to_receipt: histogram(),
        }
    }
}

/// The percentiles that are reported.
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 100.0];

impl Report {
    /// Whether everything that was sent was acknowledged, and every receipt that came fits.
    pub fn is_good(&self) -> bool {
        self.acked == self.sent && self.mismatched == 0 && self.unanswered == 0
    }

    /// Counts one verdict.
    pub fn add(&mut self, verdict: Result<Receipt, Mismatch>, latency: Duration) {
        record(&mut self.to_receipt, latency);
        match verdict {
            Ok(receipt) => {
                self.checked += 1;
                *self.outcomes.entry(receipt.entry.outcome.name()).or_default() += 1;
            }
            Err(mismatch) => {
                self.mismatched += 1;
                if self.mismatches.len() < MISMATCHES_MAX {
                    self.mismatches.push(mismatch);
                }
            }
        }
    }

    /// Counts one acknowledgement.
    pub fn add_ack(&mut self, latency: Duration) {
        self.acked += 1;
        record(&mut self.to_ack, latency);
    }

    /// Records acknowledged per second of sending.
    pub fn per_second(&self) -> u64 {
        let nanos = self.sending.as_nanos().max(1);
        u64::try_from(u128::from(self.acked) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
    }

    /// All numbers as rows: metric, value, unit.
    pub fn rows(&self) -> Vec<(String, u64, &'static str)> {
        let mut rows = vec![
            ("sent".into(), self.sent, "records"),
            ("acknowledged".into(), self.acked, "records"),
            ("bytes".into(), self.bytes, "bytes"),
            ("checked".into(), self.checked, "receipts"),
            ("mismatched".into(), self.mismatched, "receipts"),
            ("unanswered".into(), self.unanswered, "records"),
            ("sending".into(), self.sending.as_millis() as u64, "ms"),
            ("total".into(), self.total.as_millis() as u64, "ms"),
            ("throughput".into(), self.per_second(), "records/s"),
        ];
        for (name, histogram) in [("to_ack", &self.to_ack), ("to_receipt", &self.to_receipt)] {
            for percent in PERCENTILES.iter().filter(|_| !histogram.is_empty()) {
                let value = histogram.value_at_percentile(*percent);
                rows.push((format!("{name}_p{percent}"), value, "us"));
            }
        }
        for (group, counts) in [("expected", &self.expected), ("outcome", &self.outcomes)] {
            rows.extend(counts.iter().map(|(k, n)| (format!("{group}_{k}"), *n, "records")));
        }
        rows
    }

    /// Writes [`Report::rows`] as CSV.
    pub fn write_csv(&self, mut out: impl Write) -> std::io::Result<()> {
        writeln!(out, "metric,value,unit")?;
        for (metric, value, unit) in self.rows() {
            writeln!(out, "{metric},{value},{unit}")?;
        }
        Ok(())
    }

    /// For people: the rows in columns, then mismatches.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (metric, value, unit) in self.rows() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{metric:<32} {value:>14} {unit}");
        }
        for mismatch in &self.mismatches {
            let _ = writeln!(text, "MISMATCH {mismatch}");
        }
        text
    }
}

fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX_US);
    histogram.saturating_record(micros.clamp(1, LATENCY_MAX_US));
}
