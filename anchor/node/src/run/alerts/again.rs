//! What the window remembers, computed again from the rows that are stored.
//!
//! Every node has every row in its archive or its tail, and fingerprints follow from records. So a
//! node that was restored from a snapshot, or whose files of the window are gone, remembers what it
//! would remember had it executed everything itself, and takes nobody's word for it.
//!
//! Rows are read backwards, from the end of each shard, always of the shard that has come down least
//! far: what lies above the block at which that one stands is complete.
//!
//! Invariants
//! - The entries are in the order in which execution brings them: by block, shard, record.

use super::kept::Entry;
use crate::run::receipts::{Reads, rows};
use anyhow::{Context, Result};
use piaogen_crypto::Lanes;
use piaogen_ingest::check::fingerprints;
use piaogen_storage::Row;
use piaogen_storage::archive::Archive;
use piaogen_verify::alert::Place;
use piaogen_verify::entry::{Outcome, outcome_code};
use piaogen_verify::record;
use std::ops::Range;

/// Rows of a shard that are read at once, at least and at most.
const STEP_ROWS: [u64; 2] = [1_024, 65_536];

/// The fingerprints that a block brought.
pub(super) type Brought = (u64, Vec<Entry>);

/// Where rows are read from.
pub(crate) struct Rows<'a, R> {
    pub(crate) archive: &'a Archive,
    pub(crate) store: &'a R,
    pub(crate) lanes: Lanes,
    /// Rows of each shard up to the height at hand; without the registry, whose records have no
    /// fingerprints.
    pub(crate) sizes: Vec<u64>,
}

/// Some rows of a shard.
#[derive(Default)]
struct Batch {
    /// The height of the first.
    height: u64,
    /// Height and fingerprint of each that has any.
    found: Vec<(u64, Entry)>,
}

/// What is read of one shard.
struct Read {
    shard: u32,
    /// First row that was read.
    from: u64,
    /// Its height: above it, all rows of the shard were read. Nothing where all were.
    down_to: Option<u64>,
    /// The highest rows first.
    batches: Vec<Batch>,
}

impl Read {
    /// How many of its fingerprints are of blocks above a height.
    fn above(&self, height: Option<u64>) -> usize {
        let above = |Batch { found, .. }: &Batch| {
            found.len() - found.partition_point(|(at, _)| height.is_some_and(|h| *at <= h))
        };
        self.batches.iter().map(above).sum()
    }
}

impl<R: Reads> Rows<'_, R> {
    /// At least the last so many fingerprints, where there are as many, by block.
    pub(super) fn last(&self, count: usize) -> Result<Vec<Brought>> {
        last(&self.sizes, count, |shard, range| self.read(shard, range))
    }

    fn read(&self, shard: u32, range: Range<u64>) -> Result<Batch> {
        let (mut batch, mut next) = (Batch::default(), range.start);
        while next < range.end {
            let rows = rows(self.archive, self.store, shard, next, range.end - next)?;
            let first = rows.first().filter(|row| row.log_index == next);
            let first = first.with_context(|| format!("shard {shard}: row {next} is missing"))?;
            if next == range.start {
                batch.height = first.height;
            }
            self.fingerprints(shard, &rows, &mut batch.found);
            next += rows.len() as u64;
        }
        Ok(batch)
    }

    /// The fingerprints of rows that were accepted.
    fn fingerprints(&self, shard: u32, rows: &[Row], out: &mut Vec<(u64, Entry)>) {
        let accepted = |row: &&Row| outcome_code(&row.entry) == Some(Outcome::Accepted.code());
        let accepted = rows.iter().filter(accepted);
        let decoded: Vec<_> =
            accepted.filter_map(|row| Some((row, record::decode(&row.record).ok()?))).collect();
        let records = decoded.iter().map(|(_, record)| record).enumerate();
        for (i, _, bits) in fingerprints(self.lanes, records) {
            let (row, _) = &decoded[i];
            out.push((row.height, (bits, Place { shard, log_index: row.log_index })));
        }
    }
}

/// At least the last so many fingerprints of shards of these sizes, by block.
fn last(
    sizes: &[u64],
    count: usize,
    read: impl Fn(u32, Range<u64>) -> Result<Batch>,
) -> Result<Vec<Brought>> {
    let step = (count / sizes.len().max(1)) as u64;
    let step = step.clamp(STEP_ROWS[0], STEP_ROWS[1]);
    let begun = |(shard, size): (u32, &u64)| {
        let down_to = (*size > 0).then_some(u64::MAX);
        Read { shard, from: *size, down_to, batches: Vec::new() }
    };
    let mut reads: Vec<Read> = (0..).zip(sizes).map(begun).collect();
    loop {
        let height = reads.iter().filter_map(|read| read.down_to).max();
        let complete: usize = reads.iter().map(|read| read.above(height)).sum();
        let least = reads.iter_mut().find(|read| read.down_to == height);
        let Some(least) = least.filter(|_| height.is_some() && complete < count) else {
            return Ok(by_block(reads, height));
        };
        let from = least.from.saturating_sub(step);
        let batch = read(least.shard, from..least.from)?;
        least.down_to = (from > 0).then_some(batch.height);
        least.from = from;
        least.batches.push(batch);
    }
}

/// Fingerprints of blocks above a height, by block.
fn by_block(reads: Vec<Read>, above: Option<u64>) -> Vec<Brought> {
    let mut all: Vec<(u64, Entry)> = Vec::new();
    for read in reads {
        let found = read.batches.into_iter().rev().flat_map(|batch| batch.found);
        all.extend(found.filter(|(height, _)| above.is_none_or(|above| *height > above)));
    }
    // Within a block, the order of shards and records stays.
    all.sort_by_key(|(height, _)| *height);
    let blocks = all.chunk_by(|(a, _), (b, _)| a == b);
    blocks.map(|block| (block[0].0, block.iter().map(|(_, entry)| *entry).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The height of a row: shards grow at different paces, one only at the beginning.
    fn height(shard: u32, log_index: u64) -> u64 {
        1 + log_index / [7, 40, 900, 3][shard as usize]
    }

    /// Most rows have a fingerprint, some two, some none.
    fn entries(shard: u32, log_index: u64) -> Vec<(u64, Entry)> {
        let count = [1, 2, 0, 1][(log_index % 4) as usize];
        let at = Place { shard, log_index };
        (0..count).map(|i| (height(shard, log_index), (log_index * 4 + i + 1, at))).collect()
    }

    #[test]
    fn the_last_ones_are_those_of_a_list_of_all() {
        let sizes = [9_000, 20_000, 3_100, 0];
        let mut all: Vec<(u64, Entry)> = Vec::new();
        for (shard, size) in (0..).zip(sizes) {
            all.extend((0..size).flat_map(|log_index| entries(shard, log_index)));
        }
        all.sort_by_key(|(height, (_, at))| (*height, at.shard, at.log_index));
        let read = |shard, range: Range<u64>| {
            let height = height(shard, range.start);
            Ok(Batch { height, found: range.flat_map(|i| entries(shard, i)).collect() })
        };
        for count in [0, 1, 10, 900, 2_500, 12_000, 40_000, usize::MAX] {
            let found: Vec<(u64, Entry)> = last(&sizes, count, read)
                .unwrap()
                .into_iter()
                .flat_map(|(height, entries)| entries.into_iter().map(move |e| (height, e)))
                .collect();
            assert!(found.len() >= count.min(all.len()), "{count}: {}", found.len());
            assert!(all.ends_with(&found), "{count}");
            let bound = count.saturating_add(sizes.len() * 2 * STEP_ROWS[0] as usize);
            assert!(found.len() <= bound.max(count.saturating_mul(2)), "{count}: {}", found.len());
        }
        assert!(last(&[], 5, read).unwrap().is_empty());
        assert!(last(&sizes, 5, |_, _| anyhow::bail!("gone")).is_err());
    }
}
