//! Logs as tiles: files that never change, from which anybody computes proofs (`FORMAT.md` section
//! 11.2).
//!
//! A tile is 256 hashes of one level in eight. The levels between are computed again, so that a
//! reader asks for few tiles and a server stores none that it would have to compute.
//!
//! Invariants
//! - A tile has one path, and a path names one tile.
//! - Of a log of a size, no hash of an incomplete subtree is asked for.

use crate::certificate::Certificate;
use crate::consistency::check_chain;
use crate::encoding::{DecodeError, Reader, put_bytes, put_vint};
use crate::epoch::{Change, headers, put_changes, take_certificate, take_changes};
use crate::header::{Header, SHARDS_MAX, ShardEntry, shards_root};
use crate::merkle::{Hashes, root_of_leaves};
use crate::refusal::{Refusal, Step};
use crate::trust_root::TrustRoot;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;
use piaogen_crypto::Digest;

/// Hashes of a full tile.
pub const WIDTH: u64 = 256;
/// Levels of a tree in one level of tiles.
pub const HEIGHT: u8 = 8;
/// Levels of tiles.
pub const LEVELS: u8 = 8;
/// Most bytes of a head.
pub const HEAD_MAX: u64 = 1 << 21;
const MAGIC: [u8; 3] = *b"PM\x01";
/// Indices are below this: a log has fewer than 2^64 leaves.
const INDEX_END: u64 = 1 << 56;
/// Groups of three digits that an index has at most.
const GROUPS_MAX: usize = 6;

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Log {
    /// The record log of a shard.
    Shard(u32),
    /// The log over the headers.
    History,
}

/// What of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Hashes of a level of tiles.
    Hashes(u8),
    /// What the leaves are made of.
    Entries,
}

impl Part {
    /// How many hashes or entries a log of this size has of it.
    pub fn count(self, size: u64) -> u64 {
        match self {
            Part::Hashes(level) => {
                size.checked_shr(u32::from(HEIGHT) * u32::from(level)).unwrap_or(0)
            }
            Part::Entries => size,
        }
    }
}

/// A tile, or the bundle of entries beside one of level 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Of which log.
    pub log: Log,
    /// What of it.
    pub part: Part,
    /// Its place among those of its level.
    pub index: u64,
    /// How many hashes or entries it has: 1 to 256.
    pub width: u16,
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Log::Shard(shard) => shard.fmt(f),
            Log::History => f.write_str("history"),
        }
    }
}

/// The path below `/v1/tiles/`.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::Hashes(level) => write!(f, "{}/{level}", self.log)?,
            Part::Entries => write!(f, "{}/entries", self.log)?,
        }
        let (mut groups, mut rest) = (Vec::new(), self.index);
        while rest > 0 || groups.is_empty() {
            groups.push(rest % 1_000);
            rest /= 1_000;
        }
        for group in groups.iter().skip(1).rev() {
            write!(f, "/x{group:03}")?;
        }
        write!(f, "/{:03}", groups[0])?;
        match u64::from(self.width) {
            WIDTH => Ok(()),
            width => write!(f, ".p/{width}"),
        }
    }
}

/// A decimal number in its only form.
fn decimal<N: core::str::FromStr + ToString>(text: &str) -> Option<N> {
    text.parse().ok().filter(|number: &N| number.to_string() == text)
}

fn group(text: &str) -> Option<u64> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

impl Tile {
    /// Reads a path as it is written.
    pub fn parse(path: &str) -> Option<Tile> {
        let (log, rest) = path.split_once('/')?;
        let (part, rest) = rest.split_once('/')?;
        let log = match log {
            "history" => Log::History,
            shard => Log::Shard(decimal(shard)?),
        };
        let part = match part {
            "entries" => Part::Entries,
            level => Part::Hashes(decimal(level).filter(|level| *level < LEVELS)?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => {
                let partial = |width: &u16| (1..WIDTH).contains(&u64::from(*width));
                (index, decimal(width).filter(partial)?)
            }
            None => (rest, WIDTH as u16),
        };
        let (first, last) = index.rsplit_once('/').map_or((None, index), |(a, b)| (Some(a), b));
        let mut number = 0u64;
        for (at, text) in first.into_iter().flat_map(|groups| groups.split('/')).enumerate() {
            let group = group(text.strip_prefix('x')?)?;
            if (at == 0 && group == 0) || at + 1 == GROUPS_MAX {
                return None;
            }
            number = number * 1_000 + group;
        }
        let index = number * 1_000 + group(last)?;
        if index >= INDEX_END {
            return None;
        }
        Some(Tile { log, part, index, width })
    }

    /// The number of the first of its hashes among those of its level.
    pub fn first(&self) -> u64 {
        self.index.saturating_mul(WIDTH)
    }

    /// Whether a log of this size has all of it.
    pub fn is_in(&self, size: u64) -> bool {
        let end = self.first().saturating_add(u64::from(self.width));
        end <= self.part.count(size)
    }

    /// The tile of a level at an index, as wide as a log of this size has it.
    pub fn of(log: Log, part: Part, index: u64, size: u64) -> Option<Tile> {
        let width = part.count(size).checked_sub(index.checked_mul(WIDTH)?)?.min(WIDTH) as u16;
        (width > 0).then_some(Tile { log, part, index, width })
    }

    /// The partial tiles of hashes of a log of this size, the lowest first: all that its root is
    /// made of.
    pub fn edge(log: Log, size: u64) -> impl Iterator<Item = Tile> {
        (0..LEVELS).map(Part::Hashes).filter_map(move |part| {
            let tile = Tile::of(log, part, part.count(size) / WIDTH, size)?;
            (u64::from(tile.width) < WIDTH).then_some(tile)
        })
    }

    /// The hashes of a tile.
    pub fn decode(&self, bytes: &[u8]) -> Result<Vec<Digest>, DecodeError> {
        let mut r = Reader::new(bytes);
        let hashes = (0..self.width).map(|_| r.array()).collect::<Result<_, _>>()?;
        r.end()?;
        Ok(hashes)
    }

    /// The items of a bundle.
    pub fn decode_bundle<'a>(&self, bytes: &'a [u8]) -> Result<Vec<&'a [u8]>, DecodeError> {
        let mut r = Reader::new(bytes);
        let mut items = Vec::new();
        for _ in 0..self.width {
            let length = usize::from(r.u16()?);
            items.push(r.take(length)?);
        }
        r.end()?;
        Ok(items)
    }
}

/// A bundle of these items, each at most 65,535 bytes long; `None` where one is longer.
pub fn encode_bundle<'a>(items: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for item in items {
        out.extend_from_slice(&u16::try_from(item.len()).ok()?.to_be_bytes());
        out.extend_from_slice(item);
    }
    Some(out)
}

/// Who has tiles of hashes of one log.
pub trait Tiles {
    /// What reading may fail with.
    type Error;
    /// The hashes of a tile, exactly as many as it is wide.
    fn tile(&self, tile: &Tile) -> Result<Vec<Digest>, Self::Error>;
}

/// The hashes of a log of a size, read from tiles: what proofs are made of.
#[derive(Clone, Copy, Debug)]
pub struct TileHashes<T> {
    /// Who has the tiles.
    pub tiles: T,
    /// Which log.
    pub log: Log,
    /// Its number of leaves.
    pub size: u64,
}

/// Why a hash is not read from tiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TileError<E> {
    /// A tile could not be read.
    Read(E),
    /// The log has no such hash, or the tile not as many as it should have.
    Absent {
        /// Its level in the tree.
        level: u8,
        /// Its place on that level.
        index: u64,
    },
}

impl<T: Tiles> Hashes for TileHashes<T> {
    type Error = TileError<T::Error>;

    fn get(&self, level: u8, index: u64) -> Result<Digest, Self::Error> {
        let absent = || TileError::Absent { level, index };
        let (of_tile, row) = (level / HEIGHT, level % HEIGHT);
        let first = index.checked_mul(1 << row).ok_or_else(absent)?;
        let part = Part::Hashes(of_tile);
        let tile = Tile::of(self.log, part, first / WIDTH, self.size).ok_or_else(absent)?;
        let hashes = self.tiles.tile(&tile).map_err(TileError::Read)?;
        let from = (first % WIDTH) as usize;
        let below = hashes.get(from..from + (1 << row)).ok_or_else(absent)?;
        Ok(root_of_leaves(below))
    }
}

/// The newest header that proves something, with all shards under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The header.
    pub header: Header,
    /// Its certificate.
    pub certificate: Vec<u8>,
    /// How the verifier comes to the set that signed it, from the one that he trusts.
    pub changes: Vec<Change>,
    /// The shard entries; the registry last.
    pub shards: Vec<ShardEntry>,
}

impl Head {
    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.header.encode());
        put_bytes(&mut out, &self.certificate);
        put_changes(&mut out, &self.changes);
        put_vint(&mut out, self.shards.len() as u64);
        for shard in &self.shards {
            out.extend_from_slice(&shard.encode());
        }
        out
    }

    /// Reads the encoding; nothing may follow.
    pub fn decode(bytes: &[u8]) -> Result<Head, DecodeError> {
        if bytes.len() as u64 > HEAD_MAX {
            let (value, limit) = (bytes.len() as u64, HEAD_MAX);
            return Err(DecodeError::Limit { what: "head", value, limit });
        }
        let mut r = Reader::new(bytes);
        r.fixed("magic of a head", &MAGIC)?;
        let header = Header::decode(&mut r)?;
        let certificate = take_certificate(&mut r)?;
        let changes = take_changes(&mut r)?;
        let count = r.count("shard entries", SHARDS_MAX)?;
        let shards = (0..count).map(|_| ShardEntry::decode(&mut r)).collect::<Result<_, _>>()?;
        r.end()?;
        Ok(Head { header, certificate, changes, shards })
    }

    /// Checks the head; the error names the first step that fails.
    pub fn verify(&self, trust: &TrustRoot) -> Result<(), Refusal> {
        let certificate = Certificate::decode(&self.certificate)?;
        self.check_shards()?;
        check_chain(trust, core::iter::once(&self.header).chain(headers(&self.changes)))?;
        trust.after(&self.changes)?.check_final(&self.header, &certificate)
    }

    /// Step `shard` alone, for who has followed the headers: the entries are those under the header.
    pub fn check_shards(&self) -> Result<(), Refusal> {
        let numbered = (0..).zip(&self.shards).all(|(number, shard)| shard.shard == number);
        if numbered && shards_root(&self.shards) == self.header.shards_root {
            return Ok(());
        }
        let height = self.header.height;
        let detail = alloc::format!("the shards beside block {height} are not those under it");
        Err(Refusal::new(Step::Shard, detail))
    }

    /// How many leaves a log has, where there is such a log.
    pub fn size(&self, log: Log) -> Option<u64> {
        match log {
            Log::Shard(shard) => self.shards.get(shard as usize).map(|shard| shard.log_size),
            Log::History => Some(self.header.height.saturating_add(1)),
        }
    }
}
