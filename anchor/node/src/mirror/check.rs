//! Checks a mirror with nothing but its files and a trust root.
//!
//! From the leaves up, the other way than it was taken: every header is followed and every
//! certificate checked, every entry is hashed, every tile computed, and the roots are those of the
//! head.
//!
//! Invariants
//! - What is counted was read and led to a root that the head's header binds.

use super::files::{Files, HEAD};
use super::grow::check_entries;
use super::{logs, of_tiles, verify_head};
use crate::history::decode_links;
use anyhow::{Context, Result, ensure};
use piaogen_crypto::Digest;
use piaogen_verify::follow::Follower;
use piaogen_verify::merkle::{self, root_of_leaves};
use piaogen_verify::tiles::{HEIGHT, LEVELS, Log, Part, Tile, TileHashes, Tiles, WIDTH};
use piaogen_verify::trust_root::TrustRoot;
use rayon::prelude::*;
use std::path::Path;

/// Bundles that are read side by side before their tiles are joined.
const CHUNK: u64 = 1_024;

/// What was found right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The height of the head.
    pub height: u64,
    /// Headers, followed from the first on.
    pub headers: u64,
    /// Entries, in all shards.
    pub entries: u64,
    /// Tiles of hashes.
    pub tiles: u64,
}

/// Checks everything that the head of a mirror names; the error names what is wrong.
pub fn check(dir: &Path, trust: &TrustRoot) -> Result<Checked> {
    let files = Files::new(dir);
    let head = files.head()?.with_context(|| format!("{} has no {HEAD}", dir.display()))?.0;
    head.check_shards().context(HEAD)?;
    let size = head.header.height.checked_add(1).context("the head's height")?;
    let mut follower = Follower::new(trust)?;
    let mut checked = Checked { height: head.header.height, headers: size, ..Checked::default() };
    for tile in (0..).map_while(|i| Tile::of(Log::History, Part::Entries, i, size)) {
        let links = decode_links(&tile, &files.need(&tile)?);
        for link in links.with_context(|| format!("v1/tiles/{tile}"))? {
            follower.take(&link).with_context(|| format!("v1/tiles/{tile}"))?;
        }
    }
    let last = follower.last_link().context("there is no header")?;
    verify_head(&head, trust, &follower, last)?;
    ensure!(
        follower.newest_final().is_some_and(|log| log.size == size),
        "the last of the headers has no certificate"
    );
    for log in logs(head.shards.len()) {
        let size = head.size(log).unwrap_or(0);
        let (root, tiles) = check_log(&files, log, size)?;
        checked.tiles += tiles;
        let expected = match log {
            Log::History => follower.newest_final().map(|log| log.root),
            Log::Shard(shard) => {
                checked.entries += size;
                head.shards.get(shard as usize).map(|shard| shard.log_root)
            }
        };
        ensure!(Some(root) == expected, "log {log}: its tiles do not lead to the head's root");
    }
    Ok(checked)
}

/// The hashes of each level of tiles that are not in a full one yet.
struct Rows(Vec<Vec<Digest>>);

impl Tiles for &Rows {
    type Error = std::convert::Infallible;

    fn tile(&self, tile: &Tile) -> Result<Vec<Digest>, Self::Error> {
        let Part::Hashes(level) = tile.part else { return Ok(Vec::new()) };
        Ok(self.0[usize::from(level)].clone())
    }
}

/// Computes all tiles of a log from its bundles; its root, and how many they are.
fn check_log(files: &Files, log: Log, size: u64) -> Result<(Digest, u64)> {
    let mut rows = Rows(vec![Vec::new(); usize::from(LEVELS)]);
    let mut tiles = 0;
    let bundles = size.div_ceil(WIDTH);
    for from in (0..bundles).step_by(CHUNK as usize) {
        let chunk = from..bundles.min(from + CHUNK);
        let leaves: Vec<(Tile, Vec<Digest>)> = chunk
            .into_par_iter()
            .map(|index| leaves(files, log, index, size))
            .collect::<Result<_>>()?;
        for (tile, hashes) in leaves {
            tiles += 1;
            rows.0[0] = hashes;
            let (mut tile, mut level) = (tile, 0);
            // A tile that is full is one hash of the one above.
            while rows.0[level].len() as u64 == WIDTH {
                let root = root_of_leaves(&std::mem::take(&mut rows.0[level]));
                level += 1;
                rows.0[level].push(root);
                tile = Tile { index: tile.index / WIDTH, ..tile };
                if rows.0[level].len() as u64 == WIDTH {
                    compare(files, Tile { part: Part::Hashes(level as u8), ..tile }, &rows, level)?;
                    tiles += 1;
                }
            }
        }
    }
    for tile in Tile::edge(log, size).filter(|tile| tile.part != Part::Hashes(0)) {
        let Part::Hashes(level) = tile.part else { continue };
        compare(files, tile, &rows, usize::from(level))?;
        tiles += 1;
    }
    let hashes = TileHashes { tiles: &rows, log, size };
    Ok((of_tiles(merkle::root(&hashes, size))?, tiles))
}

fn compare(files: &Files, tile: Tile, rows: &Rows, level: usize) -> Result<()> {
    let same = files.tile(&tile)? == rows.0[level];
    ensure!(same, "v1/tiles/{tile} is not what the {HEIGHT} levels below it lead to");
    Ok(())
}

/// A tile of leaves that is what its bundle leads to.
fn leaves(files: &Files, log: Log, index: u64, size: u64) -> Result<(Tile, Vec<Digest>)> {
    let tile = Tile::of(log, Part::Hashes(0), index, size).context("a tile of the log")?;
    let bundle = Tile { part: Part::Entries, ..tile };
    let hashes = files.tile(&tile)?;
    let bytes = files.need(&bundle)?;
    match log {
        Log::Shard(_) => check_entries(&bundle, &bytes, &hashes)?,
        Log::History => {
            let links = decode_links(&bundle, &bytes)?;
            let same = links.iter().map(|link| link.header.leaf()).eq(hashes.iter().copied());
            ensure!(same, "v1/tiles/{tile} is not what the headers lead to");
        }
    }
    Ok((tile, hashes))
}
