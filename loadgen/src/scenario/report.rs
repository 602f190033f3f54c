//! Says what came of a season or a race: a table for people, JSON for machines.

use super::play::Play;
use super::race::RaceReport;
use super::story::Pattern;
use super::tally::{Near, Row};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Found frauds among found pairs, and found frauds among frauds, in thousandths; `None` where
/// there is nothing to divide by.
fn precision_and_recall(rows: &[(&'static str, Near)]) -> (Option<u64>, Option<u64>) {
    let sum = |of: fn(&Near) -> u64| rows.iter().map(|(_, near)| of(near)).sum::<u64>();
    let found = sum(|near| near.found);
    let fraud_found = sum(|near| if near.fraud { near.found } else { 0 });
    let fraud = sum(|near| if near.fraud { near.pairs } else { 0 });
    ((fraud_found * 1_000).checked_div(found), (fraud_found * 1_000).checked_div(fraud))
}

fn percent(thousandths: Option<u64>) -> String {
    thousandths.map_or("-".into(), |n| format!("{}.{} %", n / 10, n % 10))
}

impl Play {
    fn patterns(&self) -> Vec<(Pattern, Row)> {
        self.tally.rows().iter().map(|(pattern, row)| (*pattern, *row)).collect()
    }

    fn alike(&self) -> Vec<(&'static str, Near)> {
        self.tally.near().iter().map(|(how, near)| (*how, *near)).collect()
    }

    /// Records sent.
    pub fn sent(&self) -> u64 {
        self.acts.iter().map(|act| act.sent).sum()
    }

    /// Why it is not good, in one sentence.
    pub fn complaint(&self) -> String {
        let rows = self.patterns();
        let sum = |of: fn(&Row) -> u64| rows.iter().map(|(_, row)| of(row)).sum::<u64>();
        format!(
            "{} frauds missed, {} answered otherwise, {} honest records refused, {} receipts do not \
             verify, {} records unanswered, {} alerts unsigned",
            sum(|row| row.missed),
            sum(|row| row.otherwise),
            sum(|row| row.false_refusals),
            sum(|row| row.unproved),
            self.acts.iter().map(|act| act.unanswered).sum::<u64>(),
            self.tally.unsigned()
        )
    }

    /// A table for people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:<32} {:>7} {:>8} {:>8} {:>8} {:>7} {:>7} {:>8} {:>11}",
            "pattern",
            "stories",
            "honest",
            "refused",
            "injected",
            "caught",
            "missed",
            "other",
            "alerts"
        );
        for (pattern, row) in self.patterns() {
            let _ = writeln!(
                text,
                "{:<32} {:>7} {:>8} {:>8} {:>8} {:>7} {:>7} {:>8} {:>5}/{:<5}",
                pattern.name(),
                row.stories,
                row.honest,
                row.false_refusals,
                row.injected,
                row.caught,
                row.missed,
                row.otherwise,
                row.told,
                row.alerts
            );
        }
        self.put_alike(&mut text);
        for (kind, count) in self.tally.false_alarms() {
            let _ = writeln!(text, "FALSE ALARM {kind}: {count}");
        }
        for surprise in self.tally.surprises() {
            let _ = writeln!(text, "SURPRISE {surprise}");
        }
        text
    }

    fn put_alike(&self, text: &mut String) {
        if !self.tally.observed() {
            text.push_str("\nno alerts were to be had: what only they tell is not counted\n");
            return;
        }
        let rows = self.alike();
        let _ = writeln!(text, "\n{:<32} {:>7} {:>7}  truth", "alike", "pairs", "found");
        for (how, near) in &rows {
            let truth = match (near.fraud, near.visible) {
                (true, true) => "one trade",
                (true, false) => "one trade, not to be seen by what is compared",
                (false, _) => "honest",
            };
            let _ = writeln!(text, "{how:<32} {:>7} {:>7}  {truth}", near.pairs, near.found);
        }
        let (precision, recall) = precision_and_recall(&rows);
        let _ = writeln!(text, "precision {}, recall {}", percent(precision), percent(recall));
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        let patterns: serde_json::Map<String, Value> = self
            .patterns()
            .into_iter()
            .map(|(pattern, row)| {
                let value = json!({
                    "stories": row.stories, "honest": row.honest,
                    "false_refusals": row.false_refusals, "injected": row.injected,
                    "caught": row.caught, "missed": row.missed, "otherwise": row.otherwise,
                    "unobserved": row.unobserved, "unproved": row.unproved,
                    "alerts": row.alerts, "told": row.told,
                });
                (pattern.name().into(), value)
            })
            .collect();
        let rows = self.alike();
        let alike: serde_json::Map<String, Value> = rows
            .iter()
            .map(|(how, near)| {
                let value = json!({
                    "pairs": near.pairs, "found": near.found, "one_trade": near.fraud,
                    "visible": near.visible,
                });
                ((*how).into(), value)
            })
            .collect();
        let (precision, recall) = precision_and_recall(&rows);
        json!({
            "good": self.is_good(), "records": self.sent(),
            "unanswered": self.acts.iter().map(|act| act.unanswered).sum::<u64>(),
            "patterns": patterns, "alerts_observed": self.tally.observed(),
            "alerts_unsigned": self.tally.unsigned(), "false_alarms": self.tally.false_alarms(),
            "alike": alike, "precision_thousandths": precision, "recall_thousandths": recall,
            "surprises": self.tally.surprises(),
        })
    }
}

impl RaceReport {
    /// Why it is not good, in one sentence.
    pub fn complaint(&self) -> String {
        format!(
            "{} of {} races were decided: both won {}, nobody {}, {} faulty",
            self.decided, self.races, self.both, self.neither, self.faulty
        )
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{} races: {} with one winner and one proof of refusal, {} with two winners, {} with none, \
             {} faulty\nfirst came {} and {} times; sent in {} ms\n",
            self.races,
            self.decided,
            self.both,
            self.neither,
            self.faulty,
            self.wins[0],
            self.wins[1],
            self.sending.as_millis()
        );
        for fault in &self.faults {
            let _ = writeln!(text, "FAULT {fault}");
        }
        text
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        json!({
            "good": self.is_good(), "races": self.races, "decided": self.decided,
            "both": self.both, "neither": self.neither, "faulty": self.faulty,
            "wins": self.wins, "sending_ms": self.sending.as_millis() as u64,
            "faults": self.faults,
        })
    }
}
