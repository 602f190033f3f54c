//! Makes evidence of a record log that its chain rewrote: what was kept against what a source has.
//!
//! The two logs are compared from the root down: of the subtrees that the old log is made of the
//! first that is another in the new one, then the first of its halves, and so on to a leaf, or as
//! far as the source gives its tiles.
//!
//! Invariants
//! - No hash is compared that does not lead to the root of its log.

use super::grow::{Growth, Held, Known, NotExtended};
use super::{Mirror, of_tiles};
use crate::history::{Caught, Headers};
use anyhow::{Context, Result, ensure};
use piaogen_crypto::Digest;
use piaogen_verify::evidence::{Certified, Difference, Evidence, LogAt, RewrittenLog, Subtree};
use piaogen_verify::header::ShardEntry;
use piaogen_verify::merkle::{self, Hashes, interior};
use piaogen_verify::tiles::{HEIGHT, Head, Log, Part, Tile, TileError, TileHashes};

/// A subtree, and its hash in both logs.
struct Place {
    level: u8,
    index: u64,
    hashes: [Digest; 2],
}

/// The logs that are compared: what is kept, and what the source has.
struct Logs<'a> {
    growth: &'a Growth<'a>,
    known: Known,
}

impl Logs<'_> {
    fn log(&self) -> Log {
        Log::Shard(self.growth.new.shard)
    }

    fn ours(&self) -> impl Hashes<Error = TileError<anyhow::Error>> {
        let size = self.growth.old_size();
        TileHashes { tiles: self.growth.files, log: self.log(), size }
    }

    fn theirs(&self) -> impl Hashes<Error = TileError<anyhow::Error>> {
        let size = self.growth.new.log_size;
        TileHashes { tiles: Held(&self.known), log: self.log(), size }
    }

    fn at(&self, level: u8, index: u64) -> Result<Place> {
        let ours = of_tiles(self.ours().get(level, index))?;
        let theirs = of_tiles(self.theirs().get(level, index))?;
        Ok(Place { level, index, hashes: [ours, theirs] })
    }

    /// Of the subtrees that the old log is made of, from the left, the first that is another.
    fn top(&self) -> Result<Place> {
        let (size, mut begin) = (self.growth.old_size(), 0);
        for level in (0..64).rev().filter(|level| size >> level & 1 == 1) {
            let place = self.at(level, begin >> level)?;
            if place.hashes[0] != place.hashes[1] {
                return Ok(place);
            }
            begin += 1 << level;
        }
        anyhow::bail!("the logs do not differ")
    }

    /// The first half of a subtree that is another; an error where it is not known.
    fn below(&mut self, place: &Place) -> Result<Place> {
        if place.level.is_multiple_of(HEIGHT) {
            let part = Part::Hashes(place.level / HEIGHT - 1);
            let tile = Tile::of(self.log(), part, place.index, self.growth.new.log_size);
            let tile = tile.context("a tile of the log")?;
            let hashes = self.growth.full(&tile, &self.known)?;
            self.known.insert(tile, hashes);
        }
        let (level, index) = (place.level - 1, 2 * place.index);
        let (left, right) = (self.at(level, index)?, self.at(level, index + 1)?);
        let whole = [0, 1].map(|side| interior(&left.hashes[side], &right.hashes[side]));
        ensure!(whole == place.hashes, "a tile below level {} is damaged", place.level);
        Ok(if left.hashes[0] == left.hashes[1] { right } else { left })
    }

    fn prove(&self, place: &Place) -> Result<Difference> {
        let (level, index) = (place.level, place.index);
        let (old, new) = (self.growth.old_size(), self.growth.new.log_size);
        let [ours, theirs] = place.hashes;
        let older = of_tiles(merkle::prove_subtree(&self.ours(), level, index, old))?;
        let newer = of_tiles(merkle::prove_subtree(&self.theirs(), level, index, new))?;
        Ok(Difference {
            level,
            index,
            older: Subtree { hash: ours, proof: older },
            newer: Subtree { hash: theirs, proof: newer },
        })
    }
}

/// Where the log that a source has is another than the one that is kept, and shorter. `known` are the
/// tiles of the new log that were taken: those in which the old one ends, and those at its end.
pub(super) fn difference(growth: &Growth<'_>, known: Known) -> Result<Difference> {
    let mut logs = Logs { growth, known };
    let root = of_tiles(merkle::root(&logs.ours(), growth.old_size()))?;
    ensure!(
        growth.old.is_some_and(|old| old.log_root == root),
        "the tiles that are kept do not lead to the root that is kept: run piaogen mirror check"
    );
    let mut place = logs.top()?;
    while place.level > 0 {
        match logs.below(&place) {
            Ok(below) => place = below,
            Err(error) => {
                // A larger subtree proves as much.
                tracing::warn!(error = format!("{error:#}"), "which entry it is was not found");
                break;
            }
        }
    }
    logs.prove(&place)
}

impl Mirror {
    /// Evidence of a log that the later of two heads of one history rewrote. The tiles of the log
    /// over the headers up to it are there.
    pub(super) fn rewritten(&self, what: NotExtended, old: &Head, new: &Head) -> Result<Caught> {
        let (low, high) = (old.header.height, new.header.height);
        let size = high.checked_add(1).context("the head's height")?;
        let hashes = TileHashes { tiles: &self.files, log: Log::History, size };
        let history = of_tiles(merkle::prove_inclusion(&hashes, low, high))?;
        let (older, newer) = (self.log_at(old, what.shard)?, self.log_at(new, what.shard)?);
        let difference = what.difference;
        let rewritten = RewrittenLog { older, newer, history, difference };
        let evidence = Evidence::RewrittenLog(Box::new(rewritten));
        let left_out = self.follower.left_out(high);
        Caught::new(evidence, left_out, &self.trust).context("the two logs are no evidence")
    }

    fn log_at(&self, head: &Head, shard: u32) -> Result<LogAt> {
        let followed = self.follower.certified(&self.link(head.header.height)?);
        let block = Certified { certificate: head.certificate.clone(), ..followed };
        let leaves: Vec<Digest> = head.shards.iter().map(ShardEntry::leaf).collect();
        let entry = *head.shards.get(shard as usize).context("a shard of the head")?;
        let Ok(shard_proof) =
            merkle::prove_inclusion(&leaves[..], shard.into(), leaves.len() as u64);
        Ok(LogAt { block, shard: entry, shard_proof })
    }
}
