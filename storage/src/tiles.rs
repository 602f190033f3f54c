//! The files of a status tree: seven levels of a subtree in one page.
//!
//! A change touches one hash on each level. Were each level a file of its own, as those of logs are,
//! every touched invoice would cost a page of disk and a read for each of them; in tiles, it is a
//! page for seven levels.
//!
//! ```text
//! slot of a tile:   1                      level 7b + 6
//!                 2   3                    level 7b + 5
//!               4 5   6 7
//!                  ...
//!             64 ... 127                   level 7b
//! ```
//!
//! Invariants
//! - A tile is a page, aligned, in the file of its band; slot 0 is empty.
//! - What was never written reads as zeros.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use crate::effects::{Digest, STATUS_DEPTH};
use crate::error::{During, Result};
use crate::files::{Files, Place};

/// Levels of a tile.
pub(crate) const HEIGHT: u8 = 7;
/// Bytes of a tile.
const TILE: usize = 4_096;
/// Bands of a tree: files.
pub(crate) const BANDS: u8 = STATUS_DEPTH / HEIGHT + 1;

/// Where a hash lies: band, tile, slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Spot {
    band: u8,
    tile: u64,
    slot: u8,
}

impl Spot {
    /// Where the hash of a level and index lies.
    pub(crate) fn of(level: u8, index: u64) -> Spot {
        let (band, row) = (level / HEIGHT, level % HEIGHT);
        let width = 1u64 << (HEIGHT - 1 - row);
        Spot { band, tile: index / width, slot: (width + index % width) as u8 }
    }

    fn position(self) -> u64 {
        self.tile * TILE as u64 + u64::from(self.slot) * 32
    }
}

/// Reads hashes from the files of a shard, each into its place of `out`.
pub(crate) fn read(
    files: &Files,
    shard: u32,
    mut spots: Vec<(Spot, usize)>,
    out: &mut [Digest],
) -> Result<()> {
    spots.sort_unstable();
    for of_band in spots.chunk_by(|a, b| a.0.band == b.0.band) {
        let place = Place::Status { shard, band: of_band[0].0.band };
        // A band without file has nothing but zeros.
        let Some(file) = files.existing(place)? else {
            of_band.iter().for_each(|(_, to)| out[*to] = [0; 32]);
            continue;
        };
        for of_tile in of_band.chunk_by(|a, b| a.0.tile == b.0.tile) {
            let tile = Span::read(&file, of_tile.iter().map(|(spot, _)| *spot));
            let tile = tile.during(|| files.cannot_read(place))?;
            of_tile.iter().for_each(|(spot, to)| out[*to] = tile.get(*spot));
        }
    }
    Ok(())
}

/// Writes hashes to the files of a shard and makes them durable.
pub(crate) fn write(files: &Files, shard: u32, mut hashes: Vec<(Spot, Digest)>) -> Result<()> {
    hashes.sort_unstable();
    for of_band in hashes.chunk_by(|a, b| a.0.band == b.0.band) {
        let place = Place::Status { shard, band: of_band[0].0.band };
        let path = files.path(place);
        let file = files.create(place)?;
        for of_tile in of_band.chunk_by(|a, b| a.0.tile == b.0.tile) {
            let spots = of_tile.iter().map(|(spot, _)| *spot);
            let mut tile = Span::read(&file, spots).at("read", &path)?;
            of_tile.iter().for_each(|(spot, hash)| tile.set(*spot, *hash));
            // What lies between is written as it was: half of it on disk is no other than all.
            file.write_all_at(&tile.bytes, tile.first.position()).at("write", &path)?;
        }
        file.sync_data().at("sync", &path)?;
    }
    match hashes.is_empty() {
        true => Ok(()),
        false => files.sync_folder(Place::Status { shard, band: 0 }),
    }
}

/// The part of a tile from one spot to another.
struct Span {
    first: Spot,
    bytes: Vec<u8>,
}

impl Span {
    /// Reads from the first to the last of some spots of one tile, ascending.
    fn read(file: &File, mut spots: impl Iterator<Item = Spot>) -> std::io::Result<Span> {
        let first = spots.next().unwrap_or(Spot { band: 0, tile: 0, slot: 0 });
        let last = spots.last().unwrap_or(first);
        let mut bytes = vec![0; (usize::from(last.slot - first.slot) + 1) * 32];
        let mut done = 0;
        while done < bytes.len() {
            match file.read_at(&mut bytes[done..], first.position() + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // A hash of which only a part is there was not yet written when the file ended.
        bytes[done / 32 * 32..].fill(0);
        Ok(Span { first, bytes })
    }

    fn get(&self, spot: Spot) -> Digest {
        let (hashes, _) = self.bytes.as_chunks::<32>();
        hashes[usize::from(spot.slot - self.first.slot)]
    }

    fn set(&mut self, spot: Spot, hash: Digest) {
        let (hashes, _) = self.bytes.as_chunks_mut::<32>();
        hashes[usize::from(spot.slot - self.first.slot)] = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::create_folder;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn every_hash_has_a_spot_of_its_own() {
        let mut seen = HashSet::new();
        for level in 0..=STATUS_DEPTH {
            for index in (0..300u64).filter(|index| index >> (STATUS_DEPTH - level) == 0) {
                let spot = Spot::of(level, index);
                assert!(spot.band < BANDS && (1..128).contains(&spot.slot));
                assert!(seen.insert((spot.band, spot.position())), "level {level} index {index}");
            }
        }
        // Children stand in the parent's tile, unless a band ends between them.
        for level in (1..STATUS_DEPTH).filter(|level| level % HEIGHT != 0) {
            let (parent, child) = (Spot::of(level, 5), Spot::of(level - 1, 11));
            assert_eq!((parent.band, parent.tile), (child.band, child.tile));
        }
    }

    #[test]
    fn what_is_written_is_read_and_the_rest_is_zeros() {
        let dir = tempfile::tempdir().unwrap();
        create_folder(&dir.path().join("shard-0002/status")).unwrap();
        let files = Files::new(dir.path(), true, 64);
        let mut all = HashMap::new();
        for round in 1..6u8 {
            let mut some = Vec::new();
            for step in 0..50u64 {
                let issue = step * step * 977 * u64::from(round) % 100_000;
                for level in 0..=STATUS_DEPTH {
                    some.push(((level, issue >> level), [round; 32]));
                }
            }
            write(&files, 2, some.iter().map(|((l, i), h)| (Spot::of(*l, *i), *h)).collect())
                .unwrap();
            all.extend(some);
            let asked: Vec<(u8, u64)> = (0..=STATUS_DEPTH)
                .flat_map(|level| (0..400u64).map(move |i| (level, (i * 251) >> level)))
                .chain(all.keys().copied())
                .collect();
            let spots = asked.iter().map(|(l, i)| Spot::of(*l, *i)).zip(0..).collect();
            let mut out = vec![[0xee; 32]; asked.len()];
            read(&files, 2, spots, &mut out).unwrap();
            for (place, hash) in asked.iter().zip(out) {
                assert_eq!(hash, all.get(place).copied().unwrap_or_default(), "{place:?}");
            }
        }
    }
}
