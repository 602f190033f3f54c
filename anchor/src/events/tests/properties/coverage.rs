//! Which answers and which changes of state a run of schedules has met.

use crate::events::tests::model::{Act, Invoice};
use piaogen_verify::record::RecordKind;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A change of one part: which part, from, to.
pub(crate) type Change = (&'static str, &'static str, &'static str);

/// How often each answer to each kind, and each change of a part, occurred.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    pub(crate) answers: BTreeMap<(RecordKind, &'static str), u64>,
    pub(crate) changes: BTreeMap<Change, u64>,
    /// How often a kind was so answered that many milliseconds beside the end that it asks about.
    ends: BTreeMap<(RecordKind, i64, &'static str), u64>,
}

impl Coverage {
    pub(crate) fn note(&mut self, kind: RecordKind, answer: &'static str) {
        *self.answers.entry((kind, answer)).or_default() += 1;
    }

    /// Notes an answer where now is the end of what it asks about, or one millisecond beside it.
    pub(crate) fn note_end(&mut self, act: &Act, answer: &'static str, before: &Invoice, now: i64) {
        let end = match act.kind {
            RecordKind::HoldExpire => {
                let hold = before.financings.iter().find(|f| Some(f.id) == act.financing);
                hold.filter(|hold| hold.state == "hold").and_then(|hold| hold.expires)
            }
            RecordKind::SlipConfirm | RecordKind::SlipRefuse | RecordKind::SlipExpire => {
                let pending = before.slip.as_ref().filter(|slip| slip.state == "pending");
                pending.and_then(|slip| slip.deadline)
            }
            _ => None,
        };
        if let Some(beside) = end.map(|end| now - end).filter(|beside| beside.abs() <= 1) {
            *self.ends.entry((act.kind, beside, answer)).or_default() += 1;
        }
    }

    /// How often that was so.
    pub(crate) fn at_end(&self, kind: RecordKind, beside: i64, answer: &'static str) -> u64 {
        self.ends.get(&(kind, beside, answer)).copied().unwrap_or(0)
    }

    pub(crate) fn note_changes(&mut self, before: &Invoice, after: &Invoice) {
        let state = |invoice: &Invoice| invoice.slip.as_ref().map_or("none", |slip| slip.state);
        let mut parts = vec![
            ("lifecycle", before.lifecycle(), after.lifecycle()),
            ("risk", before.risk, after.risk),
            ("slip", state(before), state(after)),
            ("deduction", before.deduction, after.deduction),
            ("word", before.word.state, after.word.state),
        ];
        for financing in &after.financings {
            let known = before.financings.iter().find(|known| known.id == financing.id);
            parts.push(("financing", known.map_or("none", |known| known.state), financing.state));
        }
        for part in parts.into_iter().filter(|(_, from, to)| from != to) {
            *self.changes.entry(part).or_default() += 1;
        }
    }

    pub(crate) fn add(&mut self, other: &Coverage) {
        for (pair, count) in &other.answers {
            *self.answers.entry(*pair).or_default() += count;
        }
        for (change, count) in &other.changes {
            *self.changes.entry(*change).or_default() += count;
        }
        for (end, count) in &other.ends {
            *self.ends.entry(*end).or_default() += count;
        }
    }

    pub(crate) fn count(&self, kind: RecordKind, answer: &'static str) -> u64 {
        self.answers.get(&(kind, answer)).copied().unwrap_or(0)
    }

    /// For people.
    pub(crate) fn report(&self) -> String {
        let total: u64 = self.answers.values().sum();
        let accepted: u64 =
            self.answers.iter().filter(|((_, name), _)| *name == "ACCEPTED").map(|(_, n)| n).sum();
        let mut out = format!(
            "{total} events, {accepted} accepted; {} pairs of kind and answer, {} changes of state",
            self.answers.len(),
            self.changes.len()
        );
        let mut last = None;
        for ((kind, answer), count) in &self.answers {
            if last != Some(*kind) {
                let _ = write!(out, "\n{}:", kind.name());
                last = Some(*kind);
            }
            let _ = write!(out, " {answer} {count}");
        }
        for ((part, from, to), count) in &self.changes {
            let _ = write!(out, "\n{part} {from} -> {to} {count}");
        }
        for ((kind, beside, answer), count) in &self.ends {
            let _ = write!(out, "\n{} {answer} at {beside:+} ms {count}", kind.name());
        }
        out
    }
}
