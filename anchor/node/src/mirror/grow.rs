//! Takes what a shard's log has grown by, from the root down.
//!
//! ```text
//! 1  edge       the partial tiles of the new log: they lead to its root
//! 2  path       the tiles that hold the end of the old log: they lead to the old root, or the log
//!               was rewritten
//! 3  descend    level by level, each full tile against the hash in the tile above it
//! 4  entries    each bundle against the tile of its leaves
//! ```
//!
//! Invariants
//! - Nothing is written before step 2 held.

use super::files::{Files, bytes_max};
use super::of_tiles;
use super::pull::{Counts, Gone};
use super::rewritten::difference;
use crate::site::Site;
use anyhow::{Context, Result, bail, ensure};
use piaogen_crypto::Digest;
use piaogen_verify::evidence::Difference;
use piaogen_verify::header::ShardEntry;
use piaogen_verify::merkle::{self, root_of_leaves};
use piaogen_verify::tiles::{LEVELS, Log, Part, Tile, TileHashes, Tiles, WIDTH};
use rayon::prelude::*;
use std::collections::HashMap;

/// A log that does not extend the one that is kept.
#[derive(Debug, thiserror::Error)]
#[error("shard {shard}: a log of {new} leaves does not extend the {old} that are kept")]
pub(super) struct NotExtended {
    pub(super) shard: u32,
    old: u64,
    new: u64,
    /// What of the old log is another in the new one, where that is longer.
    pub(super) difference: Option<Difference>,
}

/// What one shard's log grows by.
pub(super) struct Growth<'a> {
    pub(super) site: &'a Site,
    pub(super) files: &'a Files,
    pub(super) counts: &'a Counts,
    /// What is kept; none before the first.
    pub(super) old: Option<&'a ShardEntry>,
    pub(super) new: &'a ShardEntry,
}

/// Tiles that lead to the root.
pub(super) type Known = HashMap<Tile, Vec<Digest>>;

pub(super) struct Held<'a>(pub(super) &'a Known);

impl Tiles for Held<'_> {
    type Error = anyhow::Error;

    fn tile(&self, tile: &Tile) -> Result<Vec<Digest>> {
        self.0.get(tile).cloned().with_context(|| format!("{tile} was not taken"))
    }
}

impl Growth<'_> {
    fn log(&self) -> Log {
        Log::Shard(self.new.shard)
    }

    pub(super) fn old_size(&self) -> u64 {
        self.old.map_or(0, |old| old.log_size)
    }

    /// Takes everything; an error is [`NotExtended`] where the log was rewritten, and [`Gone`] where a
    /// file is not there.
    pub(super) fn run(&self) -> Result<()> {
        let (old, new) = (self.old_size(), self.new.log_size);
        let not_extended = |difference| NotExtended { shard: self.new.shard, old, new, difference };
        if new <= old {
            let same = self.old.is_none_or(|old| old.log_root == self.new.log_root);
            return if new == old && same { Ok(()) } else { Err(not_extended(None).into()) };
        }
        let mut known = self.edge()?;
        if let Some(kept) = self.old.filter(|kept| kept.log_size > 0) {
            self.path(&mut known)?;
            if self.root(&known, old)? != kept.log_root {
                let found = difference(self, known);
                let found = found.with_context(|| not_extended(None).to_string())?;
                return Err(not_extended(Some(found)).into());
            }
        }
        self.descend(&known)?;
        self.counts.entries(new - old);
        Ok(())
    }

    /// The root of the first leaves of the new log.
    fn root(&self, known: &Known, size: u64) -> Result<Digest> {
        let tiles = TileHashes { tiles: Held(known), log: self.log(), size: self.new.log_size };
        of_tiles(merkle::root(&tiles, size))
    }

    /// The partial tiles. Those that the old log has as well are read here, and fetched only where
    /// they do not lead to the root.
    fn edge(&self) -> Result<Known> {
        for trusting in [true, false] {
            let mut known = Known::new();
            for tile in Tile::edge(self.log(), self.new.log_size) {
                let old = Tile::of(tile.log, tile.part, tile.index, self.old_size());
                let kept = (trusting && old == Some(tile)).then(|| self.files.hashes(&tile));
                let hashes = match kept.flatten() {
                    Some(hashes) => hashes,
                    None => self.fetch_hashes(&tile)?,
                };
                known.insert(tile, hashes);
            }
            if self.root(&known, self.new.log_size)? == self.new.log_root {
                return Ok(known);
            }
        }
        bail!(
            "shard {}: the tiles at the end of its log do not lead to the root that the head names",
            self.new.shard
        )
    }

    /// Adds the tiles in which the old log ends, from above.
    fn path(&self, known: &mut Known) -> Result<()> {
        for part in (0..LEVELS).rev().map(Part::Hashes) {
            let index = part.count(self.old_size()) / WIDTH;
            let Some(tile) = Tile::of(self.log(), part, index, self.new.log_size) else { continue };
            if !known.contains_key(&tile) {
                let hashes = self.full(&tile, known)?;
                known.insert(tile, hashes);
            }
        }
        Ok(())
    }

    /// Takes all that is new, level by level.
    fn descend(&self, known: &Known) -> Result<()> {
        for part in (0..LEVELS).rev().map(Part::Hashes) {
            let from = part.count(self.old_size()) / WIDTH;
            let to = part.count(self.new.log_size).div_ceil(WIDTH);
            (from..to).into_par_iter().try_for_each(|index| {
                let tile = Tile::of(self.log(), part, index, self.new.log_size);
                let tile = tile.context("a tile of the log")?;
                match known.get(&tile) {
                    Some(hashes) => self.keep(&tile, hashes),
                    None => self.keep(&tile, &self.full(&tile, known)?),
                }
            })?;
        }
        Ok(())
    }

    /// The hashes of a full tile: those that are here, or fetched, that have the root which the tile
    /// above names.
    pub(super) fn full(&self, tile: &Tile, known: &Known) -> Result<Vec<Digest>> {
        let Part::Hashes(level) = tile.part else { bail!("{tile} has no hashes") };
        let (part, index) = (Part::Hashes(level + 1), tile.index / WIDTH);
        let above = Tile::of(tile.log, part, index, self.new.log_size);
        let above = above.context("a full tile has one above it")?;
        let read = || self.files.hashes(&above);
        let named = known.get(&above).cloned().or_else(read);
        let named = named.with_context(|| format!("{above} was taken and is not there"))?;
        let expected = named[(tile.index % WIDTH) as usize];
        let kept = self.files.hashes(tile).filter(|kept| root_of_leaves(kept) == expected);
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let hashes = self.fetch_hashes(tile)?;
        ensure!(
            root_of_leaves(&hashes) == expected,
            "v1/tiles/{tile} does not have the root that v1/tiles/{above} names"
        );
        Ok(hashes)
    }

    /// Writes a tile that was checked, and takes the entries of its leaves.
    fn keep(&self, tile: &Tile, hashes: &[Digest]) -> Result<()> {
        match self.files.hashes(tile).as_deref() == Some(hashes) {
            true => self.files.found(tile),
            false => self.files.put(tile, &hashes.concat())?,
        }
        if tile.part != Part::Hashes(0) {
            return Ok(());
        }
        let bundle = Tile { part: Part::Entries, ..*tile };
        if let Some(bytes) = self.files.read(&bundle).ok().flatten()
            && check_entries(&bundle, &bytes, hashes).is_ok()
        {
            self.files.found(&bundle);
            return Ok(());
        }
        let bytes = self.fetch(&bundle)?;
        check_entries(&bundle, &bytes, hashes)?;
        self.files.put(&bundle, &bytes)
    }

    fn fetch_hashes(&self, tile: &Tile) -> Result<Vec<Digest>> {
        tile.decode(&self.fetch(tile)?).with_context(|| format!("v1/tiles/{tile}"))
    }

    fn fetch(&self, tile: &Tile) -> Result<Vec<u8>> {
        let path = format!("v1/tiles/{tile}");
        let bytes = self.site.get(&path, bytes_max(tile))?.ok_or(Gone(path))?;
        self.counts.file(bytes.len());
        Ok(bytes)
    }
}

/// Whether the entries of a bundle are what these leaves were made of.
pub(super) fn check_entries(bundle: &Tile, bytes: &[u8], leaves: &[Digest]) -> Result<()> {
    let items = bundle.decode_bundle(bytes).with_context(|| format!("v1/tiles/{bundle}"))?;
    for (item, (leaf, index)) in items.into_iter().zip(leaves.iter().zip(bundle.first()..)) {
        ensure!(
            merkle::leaf(item) == *leaf,
            "v1/tiles/{bundle}: entry {index} is not what the leaf in the tile was made of"
        );
    }
    Ok(())
}
