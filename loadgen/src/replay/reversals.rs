//! Turns inferred reversals into events on their originals, with the answer that each must get.
//!
//! The answers follow from the file alone: what remains of an original is its gross less what the
//! credits before have taken. At the end of a round each credited original is asked for one penny
//! more than remains, so that the refusal proves the remainder.
//!
//! Invariants
//! - The first event of an original opens it; it is accepted, so that no later one needs to.

use crate::retail::{LINES_OF_EVENT_MAX, Retail};
use crate::source::Expected;
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::value;
use std::collections::{BTreeMap, BTreeSet};

/// A credit's effect on one original, or the question how much remains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Apply {
    /// The credit; none for the question.
    pub(super) credit: Option<usize>,
    pub(super) original: usize,
    pub(super) amount: i128,
    /// Number of the line, its net amount, what is credited of it.
    pub(super) lines: Vec<(u32, i128, i128)>,
    /// The original is untouched before.
    pub(super) opens: bool,
    pub(super) expected: Expected,
}

/// One record of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// An invoice of the file.
    Invoice(usize),
    /// An event on one.
    Apply(Apply),
}

/// What credits have taken of an original.
#[derive(Default)]
struct Taken {
    amount: i128,
    lines: BTreeMap<u32, i128>,
}

/// All invoices in the order of the file, without events.
pub(super) fn invoices(retail: &Retail) -> Vec<Item> {
    (0..retail.invoices.len()).map(Item::Invoice).collect()
}

/// All invoices, each credit followed by what it does to its originals; then the questions.
pub(super) fn with_events(retail: &Retail) -> Vec<Item> {
    let mut taken: BTreeMap<usize, Taken> = BTreeMap::new();
    let mut items = Vec::new();
    let mut reversals = retail.reversals.iter().peekable();
    for at in 0..retail.invoices.len() {
        items.push(Item::Invoice(at));
        while let Some(reversal) = reversals.next_if(|reversal| reversal.credit == at) {
            let gross = gross(retail, reversal.original);
            let before = taken.entry(reversal.original).or_default();
            let opens = before.amount == 0;
            let amount = reversal.lines.iter().map(|line| line.2).sum();
            let mut lines = reversal.lines.clone();
            let known = before.lines.keys().chain(lines.iter().map(|(number, ..)| number));
            // Neither an event nor a status lists more; the amount says what is credited anyhow.
            if known.collect::<BTreeSet<_>>().len() > LINES_OF_EVENT_MAX {
                lines.clear();
            }
            let expected = answer(before, amount, &lines, gross);
            if expected == Outcome::Accepted {
                before.amount += amount;
                for (number, _, credited) in &lines {
                    *before.lines.entry(*number).or_default() += credited;
                }
            }
            items.push(Item::Apply(Apply {
                credit: Some(at),
                original: reversal.original,
                amount,
                lines,
                opens,
                expected: Expected::Exactly(expected),
            }));
        }
    }
    for (original, taken) in &taken {
        let (gross, lines) = (gross(retail, *original), Vec::new());
        let amount = gross - taken.amount + 1;
        let expected = Expected::Exactly(answer(taken, amount, &lines, gross));
        let (original, opens) = (*original, taken.amount == 0);
        items.push(Item::Apply(Apply { credit: None, original, amount, lines, opens, expected }));
    }
    items
}

fn gross(retail: &Retail, invoice: usize) -> i128 {
    retail.invoices[invoice].lines.iter().map(|line| line.net).sum()
}

/// The outcome that the file demands.
fn answer(taken: &Taken, amount: i128, lines: &[(u32, i128, i128)], gross: i128) -> Outcome {
    let exceeded =
        |remains| Outcome::conflict_with(Conflict::AmountExceeded, Detail::Amount(remains));
    if taken.amount == gross {
        return Outcome::conflict(Conflict::FullyRed);
    }
    if amount > gross - taken.amount {
        return exceeded(gross - taken.amount);
    }
    for (number, of, credited) in lines {
        let before = taken.lines.get(number).copied().unwrap_or(0);
        if before + credited > *of {
            return exceeded(of - before);
        }
    }
    Outcome::Accepted
}

impl Apply {
    /// The field `lines`, where the lines are named.
    pub(super) fn lines_field(&self) -> Option<Vec<u8>> {
        let entry = |(number, of, credited): &(u32, i128, i128)| -> Vec<(Tag, Vec<u8>)> {
            vec![
                (tag::LINE_NUMBER, value::uint(u64::from(*number))),
                (tag::LINE_OF, value::amount(*of)),
                (tag::LINE_RED, value::amount(*credited)),
            ]
        };
        let entries: Vec<Vec<(Tag, Vec<u8>)>> = self.lines.iter().map(entry).collect();
        (!entries.is_empty()).then(|| value::list(&entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,\
        Country\n\
        1,A,A,3,2010-12-01 08:26:00,1.00,17850,France\n\
        1,B,B,2,2010-12-01 08:26:00,2.00,17850,France\n\
        C2,A,A,-2,2010-12-02 08:26:00,1.00,17850,France\n\
        C3,A,A,-1,2010-12-03 08:26:00,1.00,17850,France\n\
        C3,B,B,-2,2010-12-03 08:26:00,2.00,17850,France\n\
        C4,B,B,-1,2010-12-04 08:26:00,2.00,17850,France\n";

    fn applies(pairs: &str) -> Vec<(Option<usize>, i128, &'static str, bool)> {
        let mut retail = Retail::read_rows(SHOP.as_bytes(), "shop").unwrap();
        let pairs = format!("credit,original,credit_row,original_row,quantity\n{pairs}");
        retail.read_pairs(pairs.as_bytes(), "pairs").unwrap();
        let of = |item| match item {
            Item::Invoice(_) => None,
            Item::Apply(a) => Some((a.credit, a.amount, a.expected.name(), a.opens)),
        };
        with_events(&retail).into_iter().filter_map(of).collect()
    }

    #[test]
    fn credits_end_at_the_remainder_and_nothing_goes_beyond_it() {
        let part = applies("C2,1,2,0,2\n");
        let exceeded = "AMOUNT_EXCEEDED";
        assert_eq!(part, [(Some(1), 200, "ACCEPTED", true), (None, 501, exceeded, false)]);
        let whole = applies("C2,1,2,0,2\nC3,1,3,0,1\nC3,1,4,1,2\nC4,1,5,1,1\n");
        let expected = [
            (Some(1), 200, "ACCEPTED", true),
            (Some(2), 500, "ACCEPTED", false),
            (Some(3), 200, "FULLY_RED", false),
            (None, 1, "FULLY_RED", false),
        ];
        assert_eq!(whole, expected);
        // More pieces of a line than are left, though the invoice has room.
        let line = applies("C2,1,2,0,2\nC3,1,3,0,2\n");
        assert_eq!(line[1], (Some(2), 200, exceeded, false));
    }
}
