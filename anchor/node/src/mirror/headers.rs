//! The headers that a mirror keeps: bundles of links, and the tiles of the log over them, which are
//! computed here.
//!
//! Invariants
//! - The bundles up to the size at which the follower rests are there, the last one as wide as that.

use super::Mirror;
use super::files::Files;
use crate::history::{FOLLOWER, Headers};
use anyhow::{Context, Result, ensure};
use piaogen_crypto::Digest;
use piaogen_verify::follow::{Follower, Link};
use piaogen_verify::merkle::root_of_leaves;
use piaogen_verify::tiles::{LEVELS, Log, Part, Tile, WIDTH, encode_bundle};
use piaogen_verify::trust_root::TrustRoot;

/// The bundle with a height, as wide as so many headers have it.
fn bundle_of(height: u64, size: u64) -> Result<Tile> {
    let tile = Tile::of(Log::History, Part::Entries, height / WIDTH, size);
    tile.with_context(|| format!("there are {size} headers, {height} is not among them"))
}

/// A header from the bundles of so many headers.
pub(super) fn link(files: &Files, height: u64, size: u64) -> Result<Link> {
    let tile = bundle_of(height, size)?;
    let bytes = files.need(&tile)?;
    let items = tile.decode_bundle(&bytes)?;
    let link = Link::decode(items[(height - tile.first()) as usize])?;
    ensure!(link.header.height == height, "v1/tiles/{tile} has other headers than it should");
    Ok(link)
}

/// Whether the last header that was followed is there.
pub(super) fn stands(files: &Files, follower: &Follower) -> bool {
    let size = follower.size();
    let found = size.checked_sub(1).and_then(|height| link(files, height, size).ok());
    found.as_ref() == follower.last_link()
}

impl Headers for Mirror {
    fn trust(&self) -> &TrustRoot {
        &self.trust
    }

    fn follower(&self) -> &Follower {
        &self.follower
    }

    fn link(&self, height: u64) -> Result<Link> {
        link(&self.files, height, self.size())
    }

    fn append(&mut self, links: &[Link], follower: Follower) -> Result<()> {
        let (mut rest, mut size) = (links, self.size());
        while !rest.is_empty() {
            let within = size % WIDTH;
            let mut items = Vec::new();
            for height in size - within..size {
                items.push(self.link(height)?.encode());
            }
            let (now, later) = rest.split_at(rest.len().min((WIDTH - within) as usize));
            items.extend(now.iter().map(Link::encode));
            (rest, size) = (later, size + now.len() as u64);
            put_bundle(&self.files, &bundle_of(size - 1, size)?, &items)?;
        }
        self.files.sync()?;
        let rest = follower.rest().context("the last header that is kept is certified")?;
        self.files.replace(FOLLOWER, &rest)?;
        self.follower = follower;
        Ok(())
    }
}

fn put_bundle(files: &Files, tile: &Tile, items: &[Vec<u8>]) -> Result<()> {
    let bundle = encode_bundle(items.iter().map(Vec::as_slice)).context("a link is too long")?;
    files.put(tile, &bundle)
}

impl Mirror {
    /// Makes what so many headers have as files and `old` of them had not.
    pub(super) fn history_tiles(&self, old: u64, size: u64) -> Result<()> {
        let last = bundle_of(size - 1, size)?;
        if self.files.has(&last) {
            self.files.found(&last);
        } else {
            let heights = last.first()..size;
            let items = heights.map(|height| Ok(self.link(height)?.encode()));
            put_bundle(&self.files, &last, &items.collect::<Result<Vec<_>>>()?)?;
        }
        for part in (0..LEVELS).map(Part::Hashes) {
            let from = part.count(old) / WIDTH;
            let tiles = (from..).map_while(|index| Tile::of(Log::History, part, index, size));
            for tile in tiles {
                match self.files.has(&tile) {
                    true => self.files.found(&tile),
                    false => self.files.put(&tile, &self.computed(&tile, size)?.concat())?,
                }
            }
        }
        Ok(())
    }

    /// The hashes of a tile of the log over the headers, from what is below it.
    fn computed(&self, tile: &Tile, size: u64) -> Result<Vec<Digest>> {
        let below = match tile.part {
            Part::Hashes(level @ 1..) => Part::Hashes(level - 1),
            _ => {
                let bundle = Tile { part: Part::Entries, ..*tile };
                let links = crate::history::decode_links(&bundle, &self.files.need(&bundle)?)?;
                return Ok(links.iter().map(|link| link.header.leaf()).collect());
            }
        };
        let children = tile.first()..tile.first() + u64::from(tile.width);
        children
            .map(|index| {
                let child = Tile::of(tile.log, below, index, size);
                let hashes = child.and_then(|child| self.files.hashes(&child));
                let hashes = hashes.with_context(|| format!("a tile below {tile} is missing"))?;
                Ok(root_of_leaves(&hashes))
            })
            .collect()
    }
}
