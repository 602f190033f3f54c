//! What the archive remembers of pages that were read for one row.
//!
//! Of a record whose id is known, its entry lacks offset and signer. A page of these two columns and
//! the dictionary of signers are unpacked to read one of them, and the next row that is asked for
//! may well be of the same page. So the page stays in memory, in a form of its own: two bytes a row
//! and 32 for each key that signed one.
//!
//! Invariants
//! - What is sealed never changes, so what is here is never stale.
//! - All pages together have at most the bytes that were allowed; what was not asked for longest
//!   goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Most rows of a page: what two bytes can number.
pub(super) const ROWS_MAX: u64 = 1 << 16;

type Key = [u8; 32];

/// Offsets and signers of rows that follow each other.
pub(super) struct Page {
    first: u64,
    offset: u64,
    /// How far each offset lies above one that follows the row before; nothing where all do.
    gaps: Vec<u64>,
    signers: Vec<Key>,
    rows: Vec<u16>,
}

impl Page {
    /// The page of these rows from a log index on: offset and signer of each; nothing where there
    /// are none, too many, or offsets that go back.
    pub(super) fn new(first: u64, rows: &[(u64, Key)]) -> Option<Page> {
        let offset = rows.first()?.0;
        if rows.len() as u64 > ROWS_MAX {
            return None;
        }
        let above =
            |(at, (found, _)): (u64, &(u64, Key))| found.checked_sub(offset)?.checked_sub(at);
        let mut gaps: Vec<u64> = (0..).zip(rows).map(above).collect::<Option<_>>()?;
        if gaps.iter().all(|gap| *gap == 0) {
            gaps = Vec::new();
        }
        let (mut signers, mut numbers) = (Vec::new(), HashMap::new());
        let number = |(_, signer): &(u64, Key)| {
            *numbers.entry(*signer).or_insert_with(|| {
                signers.push(*signer);
                (signers.len() - 1) as u16
            })
        };
        let rows = rows.iter().map(number).collect();
        Some(Page { first, offset, gaps, signers, rows })
    }

    /// Offset and signer of the row with a log index, where it is on the page.
    pub(super) fn get(&self, log_index: u64) -> Option<(u64, Key)> {
        let at = log_index.checked_sub(self.first)?;
        let signer = *self.rows.get(at as usize)?;
        let gap = self.gaps.get(at as usize).copied().unwrap_or_default();
        Some((self.offset + at + gap, self.signers[usize::from(signer)]))
    }

    fn bytes(&self) -> usize {
        size_of::<Page>() + self.gaps.len() * 8 + self.signers.len() * 32 + self.rows.len() * 2
    }
}

/// A page, and when it was last asked for.
type Used = (Arc<Page>, u64);

#[derive(Default)]
struct Held {
    /// By shard and first log index.
    pages: BTreeMap<(u32, u64), Used>,
    bytes: usize,
    tick: u64,
}

/// The pages that are remembered.
pub(crate) struct Pages {
    held: Mutex<Held>,
    bytes_max: usize,
}

impl Pages {
    /// None yet, and at most so many bytes of them.
    pub(crate) fn new(bytes_max: usize) -> Pages {
        Pages { held: Mutex::default(), bytes_max }
    }

    /// Offset and signer of a row, where its page is remembered.
    pub(super) fn get(&self, shard: u32, log_index: u64) -> Option<(u64, Key)> {
        let page = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.tick += 1;
            let tick = held.tick;
            let mut below = held.pages.range_mut((shard, 0)..=(shard, log_index));
            let (_, (page, used)) = below.next_back()?;
            *used = tick;
            page.clone()
        };
        page.get(log_index)
    }

    /// Remembers a page.
    pub(super) fn put(&self, shard: u32, page: Page) {
        let bytes = page.bytes();
        if bytes > self.bytes_max {
            return;
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.bytes + bytes > self.bytes_max {
            held.halve();
        }
        held.tick += 1;
        let (tick, first) = (held.tick, page.first);
        held.bytes += bytes;
        if let Some((old, _)) = held.pages.insert((shard, first), (Arc::new(page), tick)) {
            held.bytes -= old.bytes();
        }
    }
}

impl Held {
    /// Drops the half that was not asked for longest: looking for it is paid once for many pages.
    fn halve(&mut self) {
        let mut ticks: Vec<u64> = self.pages.values().map(|(_, used)| *used).collect();
        let half = ticks.len() / 2;
        let limit = match ticks.is_empty() {
            true => return,
            false => *ticks.select_nth_unstable(half).1,
        };
        self.pages.retain(|_, (_, used)| *used > limit);
        self.bytes = self.pages.values().map(|(page, _)| page.bytes()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(first: u64, rows: u64) -> Page {
        let row = |i| (first + 7 + i, [(i % 5) as u8; 32]);
        Page::new(first, &(0..rows).map(row).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn rows_come_back_with_gaps_and_without() {
        let rows: Vec<(u64, Key)> = (0..300u64).map(|i| (40 + i + i / 7, [i as u8; 32])).collect();
        for rows in [&rows[..], &rows[..5], &rows[9..10]] {
            let page = Page::new(1_000, rows).unwrap();
            for (at, row) in (1_000..).zip(rows) {
                assert_eq!(page.get(at), Some(*row));
            }
            assert_eq!(page.get(999), None);
            assert_eq!(page.get(1_000 + rows.len() as u64), None);
        }
        assert!(Page::new(1_000, &rows[..5]).unwrap().gaps.is_empty());
        for wrong in [vec![], vec![(5, [0; 32]), (4, [0; 32])], vec![(5, [0; 32]), (5, [0; 32])]] {
            assert!(Page::new(0, &wrong).is_none());
        }
        assert!(Page::new(0, &vec![(0, [0; 32]); ROWS_MAX as usize + 1]).is_none());
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_stays() {
        let bytes = page(0, 100).bytes();
        let pages = Pages::new(10 * bytes);
        for number in 0..100 {
            pages.put(number % 3, page(u64::from(number) * 100, 100));
            assert_eq!(pages.get(0, 55), Some((62, [0; 32])), "asked for all the time");
            let held = pages.held.lock().unwrap();
            assert!(held.bytes <= 10 * bytes);
            let sum: usize = held.pages.values().map(|(page, _)| page.bytes()).sum();
            assert_eq!(held.bytes, sum);
        }
        assert_eq!(pages.get(0, 9_950), Some((9_957, [0; 32])));
        assert_eq!(pages.get(1, 9_950), None, "of another shard");
        assert_eq!(pages.get(0, 10_000), None);
        pages.put(0, page(9_900, 100));
        let before = pages.held.lock().unwrap().bytes;
        pages.put(0, page(9_900, 100));
        assert_eq!(pages.held.lock().unwrap().bytes, before, "twice the same");
        let none = Pages::new(bytes - 1);
        none.put(0, page(0, 100));
        assert_eq!(none.get(0, 5), None);
    }
}
