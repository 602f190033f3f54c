//! The stream, and what each validator's broker shows of it, when.
//!
//! Offsets have holes, as those of a real broker do. A record is shown some time after it was sent,
//! to each validator another; a broker may show nothing new for a while, or other bytes than it
//! shows to the rest.
//!
//! Invariants
//! - What was shown stays shown, but where a broker loses its tail; and a record never comes before
//!   the one below it.

use crate::dice::Dice;
use piaogen_verify::header::Cut;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A record in the stream.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) offset: u64,
    /// When it was sent, milliseconds from the beginning of the run.
    pub(crate) at_ms: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The next offset behind so many records.
fn end(items: &[Item], count: usize) -> u64 {
    count.checked_sub(1).map_or(0, |last| items[last].offset + 1)
}

/// The partitions; the registry is the last.
#[derive(Clone, Debug)]
pub(crate) struct Stream(pub(crate) Vec<Vec<Item>>);

impl Stream {
    /// An empty one.
    pub(crate) fn new(partitions: usize) -> Stream {
        Stream(vec![Vec::new(); partitions])
    }

    /// Appends a record; sometimes behind a hole. Its offset.
    pub(crate) fn send(
        &mut self,
        partition: usize,
        at_ms: u64,
        bytes: Vec<u8>,
        dice: &mut Dice,
    ) -> u64 {
        let items = &mut self.0[partition];
        let next = items.last().map_or(0, |last| last.offset + 1);
        let offset = next + u64::from(dice.percent(5));
        let at_ms = at_ms.max(items.last().map_or(0, |last| last.at_ms));
        items.push(Item { offset, at_ms, bytes });
        offset
    }

    /// The cut behind everything.
    pub(crate) fn ends(&self) -> Vec<u64> {
        let end = |items: &Vec<Item>| items.last().map_or(0, |last| last.offset + 1);
        self.0.iter().map(end).collect()
    }
}

/// A broker has fewer records than were read of it: partition, where it ends, what was next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TailLost {
    pub(crate) partition: usize,
    pub(crate) end: u64,
    pub(crate) next: u64,
}

/// What a validator sees of the stream.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    /// By how much each partition is late, in milliseconds.
    pub(crate) delays: Vec<u64>,
    /// Whether nothing new is shown.
    pub(crate) stalled: bool,
    /// Whether the next new record is shown with another bit.
    pub(crate) bend_next: bool,
    /// Records that are shown with other bytes: partition and offset.
    bent: BTreeMap<(usize, u64), Vec<u8>>,
    /// Records that are never shown.
    pub(crate) hidden: BTreeSet<(usize, u64)>,
    /// How many records of each partition were shown.
    seen: Vec<usize>,
    /// How many the broker has of the partitions whose end it lost.
    kept: BTreeMap<usize, usize>,
}

impl Feed {
    /// What is shown at once, and late by this.
    pub(crate) fn new(delays: Vec<u64>) -> Feed {
        let seen = vec![0; delays.len()];
        let (bent, hidden) = (BTreeMap::new(), BTreeSet::new());
        let kept = BTreeMap::new();
        Feed { delays, stalled: false, bend_next: false, bent, hidden, seen, kept }
    }

    /// Looks what is new.
    pub(crate) fn look(
        &mut self,
        stream: &Stream,
        now_ms: u64,
        dice: &mut Dice,
    ) -> Result<(), TailLost> {
        if self.stalled {
            return Ok(());
        }
        for (partition, kept) in &self.kept {
            let (partition, seen) = (*partition, self.seen[*partition]);
            if *kept < seen {
                let items = &stream.0[partition];
                let (end, next) = (end(items, *kept), end(items, seen));
                return Err(TailLost { partition, end, next });
            }
        }
        for (partition, items) in stream.0.iter().enumerate() {
            if self.kept.contains_key(&partition) {
                continue;
            }
            while let Some(item) = items.get(self.seen[partition])
                && item.at_ms + self.delays[partition] <= now_ms
            {
                self.seen[partition] += 1;
                if std::mem::take(&mut self.bend_next) {
                    let mut bytes = item.bytes.clone();
                    let at = dice.place(bytes.len());
                    bytes[at] ^= 1 << dice.below(8);
                    self.bent.insert((partition, item.offset), bytes);
                }
            }
        }
        Ok(())
    }

    /// The broker loses the last records that it has shown of a partition, at most so many. Others
    /// come in their places where `replaced`; else nothing does. How many it lost.
    pub(crate) fn lose_tail(
        &mut self,
        stream: &Stream,
        (partition, most): (usize, usize),
        replaced: bool,
        dice: &mut Dice,
    ) -> usize {
        let seen = self.seen[partition];
        let kept = seen - most.min(seen);
        if replaced {
            for item in &stream.0[partition][kept..seen] {
                let mut bytes = item.bytes.clone();
                let at = dice.place(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
                self.bent.insert((partition, item.offset), bytes);
            }
        } else if kept < seen {
            let least = self.kept.entry(partition).or_insert(kept);
            *least = kept.min(*least);
        }
        seen - kept
    }

    /// The next offset of each partition whose end the broker has lost.
    pub(crate) fn short(&self, stream: &Stream) -> Vec<(usize, u64)> {
        let end =
            |(partition, kept): (&usize, &usize)| (*partition, end(&stream.0[*partition], *kept));
        self.kept.iter().map(end).collect()
    }

    /// Whether the broker has lost the end of a partition.
    pub(crate) fn is_short(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Reads again from the beginning on what the broker has.
    pub(crate) fn read_again(&mut self) {
        for (partition, kept) in &self.kept {
            self.seen[*partition] = self.seen[*partition].min(*kept);
        }
    }

    /// The broker has again what it lost.
    pub(crate) fn restore_tail(&mut self) {
        self.kept.clear();
    }

    /// Whether other bytes are or were shown here.
    pub(crate) fn is_bent(&self) -> bool {
        self.bend_next || !self.bent.is_empty()
    }

    /// Shows what the others see.
    pub(crate) fn straighten(&mut self) {
        self.bend_next = false;
        self.bent.clear();
    }

    /// For each partition the next offset that is not here.
    pub(crate) fn ends(&self, stream: &Stream) -> Vec<u64> {
        stream.0.iter().zip(&self.seen).map(|(items, seen)| end(items, *seen)).collect()
    }

    /// Whether there is something that a broker which does not stall would have shown by now.
    pub(crate) fn is_behind(&self, stream: &Stream, now_ms: u64) -> bool {
        stream.0.iter().enumerate().any(|(partition, items)| {
            let next = items.get(self.seen[partition]);
            next.is_some_and(|item| item.at_ms + self.delays[partition] <= now_ms)
        })
    }

    /// A cut behind at most so many records of each partition more than another cut, and how many
    /// records it has more.
    pub(crate) fn cut(&self, stream: &Stream, from: &Cut, most: usize) -> (Cut, usize) {
        let mut records = 0;
        let ahead = |(partition, before): (usize, &u64)| {
            let shown = stream.0[partition][..self.seen[partition]].iter();
            let fresh = shown.filter(|item| item.offset >= *before).take(most);
            records += fresh.clone().count();
            fresh.last().map_or(*before, |last| last.offset + 1)
        };
        let offsets = from.0.iter().enumerate().map(ahead).collect();
        (Cut(offsets), records)
    }

    /// The records of a partition between two cuts, where all are here; and how many of them are
    /// shown with other bytes.
    #[expect(clippy::type_complexity, reason = "what an arena is made of")]
    pub(crate) fn take(
        &self,
        stream: &Stream,
        partition: usize,
        offsets: Range<u64>,
    ) -> Option<(Vec<u8>, Vec<(u64, Range<u32>)>, u64)> {
        if self.ends(stream)[partition] < offsets.end {
            return None;
        }
        let (mut arena, mut places, mut bent) = (Vec::new(), Vec::new(), 0);
        for item in stream.0[partition].iter().filter(|item| offsets.contains(&item.offset)) {
            let key = (partition, item.offset);
            if self.hidden.contains(&key) {
                continue;
            }
            let other = self.bent.get(&key);
            bent += u64::from(other.is_some());
            let begin = arena.len() as u32;
            arena.extend_from_slice(other.unwrap_or(&item.bytes));
            places.push((item.offset, begin..arena.len() as u32));
        }
        Some((arena, places, bent))
    }
}
