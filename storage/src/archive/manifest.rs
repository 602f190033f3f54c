//! Manifests: a segment exists if and only if its manifest does.
//!
//! One small JSON object for each segment, so that publication is one atomic write on a disk as in
//! an object store, and nothing is ever rewritten. Each names the digest of the one before it.
//!
//! Invariants
//! - A segment's manifest is written after the segment is durable under its final name.
//! - The manifests of a shard, in order, have neither gaps nor overlaps and form a chain.

use piaogen_crypto::{Digest, sm3};
use piaogen_verify::value::day_of_days;
use serde::{Deserialize, Serialize};

use super::schema::LAYOUT;

/// Value of `format` in a manifest.
pub(super) const FORMAT: &str = "piaogen/segment/1";
/// Most bytes of a manifest.
const MANIFEST_BYTES: usize = 8_192;
const DAY_MS: i64 = 86_400_000;

/// What the segments of an archive are about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Series {
    /// The rows of one shard.
    Records(u32),
    /// The chain's blocks.
    Blocks,
}

impl Series {
    pub(crate) fn folder(self) -> String {
        match self {
            Self::Records(shard) => format!("manifest/{shard:04}/"),
            Self::Blocks => "manifest/blocks/".into(),
        }
    }

    /// The path of a segment.
    pub(crate) fn path(self, date: &str, first: u64, last: u64) -> String {
        match self {
            Self::Records(shard) => {
                format!("records/date={date}/shard={shard:04}/{first:020}-{last:020}.parquet")
            }
            Self::Blocks => format!("blocks/{first:020}-{last:020}.parquet"),
        }
    }
}

impl std::fmt::Display for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Records(shard) => write!(f, "shard {shard}"),
            Self::Blocks => write!(f, "the blocks"),
        }
    }
}

/// One segment, as its manifest says. For blocks, an index is a height.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentInfo {
    /// `piaogen/segment/1`.
    pub format: String,
    /// Layout version of the file.
    pub layout: u32,
    /// The chain, in hex.
    pub chain: String,
    /// The shard; `None` for blocks.
    pub shard: Option<u32>,
    /// Where the file is, relative to the archive.
    pub path: String,
    /// How many rows it has.
    pub rows: u64,
    /// Index of its first row.
    pub first: u64,
    /// Index of its last row.
    pub last: u64,
    /// Height of its first row.
    pub first_height: u64,
    /// Height of its last row.
    pub last_height: u64,
    /// Block time of its first row, milliseconds since 1970.
    pub first_time_ms: i64,
    /// Block time of its last row.
    pub last_time_ms: i64,
    /// Length of the file.
    pub bytes: u64,
    /// SM3 over the SM3 digests of the file's parts of 65,536 bytes, in hex.
    pub parts_sm3: String,
    /// SM3 of the manifest before this one of the series, in hex; `None` for the first.
    pub previous: Option<String>,
}

impl SegmentInfo {
    /// Which series it belongs to.
    pub fn series(&self) -> Series {
        self.shard.map_or(Series::Blocks, Series::Records)
    }

    /// The day of its rows, as in its path; empty for blocks.
    pub fn date(&self) -> String {
        self.shard.map_or_else(String::new, |_| date(self.first_time_ms))
    }

    pub(crate) fn manifest_path(&self) -> String {
        format!("{}{:020}-{:020}.json", self.series().folder(), self.first, self.last)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = serde_json::to_vec_pretty(self).expect("a struct of plain values is JSON");
        out.push(b'\n');
        out
    }

    /// Reads and checks a manifest that was found at `path`.
    pub(crate) fn decode(bytes: &[u8], path: &str, chain: &str) -> Result<Self, String> {
        if bytes.len() > MANIFEST_BYTES {
            return Err(format!("{} bytes are above {MANIFEST_BYTES}", bytes.len()));
        }
        let info: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if info.format != FORMAT {
            return Err(format!("its format is {:?}, not {FORMAT:?}", info.format));
        }
        if info.layout != LAYOUT {
            return Err(format!("its layout is {}, this version reads {LAYOUT}", info.layout));
        }
        if info.chain != chain {
            return Err(format!("it is of chain {}, not {chain}", info.chain));
        }
        let rows = info.last.checked_sub(info.first).and_then(|rows| rows.checked_add(1));
        if rows != Some(info.rows) {
            return Err(format!("{} rows do not reach {} to {}", info.rows, info.first, info.last));
        }
        if info.path != info.series().path(&info.date(), info.first, info.last) {
            return Err(format!("{} is not the path of such a segment", info.path));
        }
        if info.manifest_path() != path {
            return Err(format!("it belongs at {}", info.manifest_path()));
        }
        Ok(info)
    }
}

/// A segment and the digest of its manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Linked {
    pub(crate) info: SegmentInfo,
    pub(crate) digest: Digest,
}

impl Linked {
    pub(crate) fn new(info: SegmentInfo, manifest: &[u8]) -> Self {
        Self { info, digest: sm3::hash(manifest) }
    }
}

/// Whether `next` may follow `last`; says why not.
pub(crate) fn follows(last: Option<&Linked>, next: &SegmentInfo) -> Result<(), String> {
    let expected = last.map_or(0, |last| last.info.last + 1);
    if next.first != expected {
        let what = if next.first > expected { "a gap" } else { "an overlap" };
        return Err(format!(
            "{what} in {}: {} begins at {}, expected {expected}",
            next.series(),
            next.manifest_path(),
            next.first
        ));
    }
    if next.previous != last.map(|last| hex::encode(last.digest)) {
        return Err(format!(
            "{} does not name the manifest before it: one of them is not the original",
            next.manifest_path()
        ));
    }
    Ok(())
}

/// The day of a moment, UTC, counted from 1970.
pub(crate) fn day(time_ms: i64) -> i64 {
    time_ms.div_euclid(DAY_MS)
}

/// The day of a moment, UTC, as in paths.
pub(crate) fn date(time_ms: i64) -> String {
    let (year, month, day) = day_of_days(day(time_ms));
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(first: u64, last: u64) -> SegmentInfo {
        SegmentInfo {
            format: FORMAT.into(),
            layout: LAYOUT,
            chain: "c".into(),
            shard: Some(3),
            path: Series::Records(3).path("2026-11-21", first, last),
            rows: last - first + 1,
            first,
            last,
            first_height: 1,
            last_height: 2,
            first_time_ms: 1_795_219_200_000,
            last_time_ms: 1_795_219_200_001,
            bytes: 9,
            parts_sm3: "00".into(),
            previous: None,
        }
    }

    #[test]
    fn manifests_read_back_and_wrong_ones_are_refused() {
        let good = info(0, 9);
        let path = good.manifest_path();
        assert_eq!(SegmentInfo::decode(&good.encode(), &path, "c"), Ok(good.clone()));
        let spoil: [fn(&mut SegmentInfo); 7] = [
            |m| m.format.push('x'),
            |m| m.layout = 2,
            |m| m.chain.push('x'),
            |m| m.rows = 9,
            |m| m.last = u64::MAX,
            |m| m.path.push('x'),
            |m| m.first_time_ms -= 1,
        ];
        for (i, spoil) in spoil.iter().enumerate() {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert!(SegmentInfo::decode(&bad.encode(), &path, "c").is_err(), "case {i}");
        }
        assert!(SegmentInfo::decode(&good.encode(), "manifest/0004/x.json", "c").is_err());
        assert!(SegmentInfo::decode(&[b' '; 9_000], &path, "c").is_err());
    }

    #[test]
    fn a_series_has_no_gap_no_overlap_and_no_replacement() {
        let first = Linked::new(info(0, 9), b"manifest");
        let next = |begin, previous: Option<&Linked>| {
            let mut next = info(begin, 19);
            next.previous = previous.map(|last| hex::encode(last.digest));
            follows(Some(&first), &next)
        };
        assert_eq!(next(10, Some(&first)), Ok(()));
        assert!(next(11, Some(&first)).is_err_and(|what| what.contains("a gap")));
        assert!(next(9, Some(&first)).is_err_and(|what| what.contains("an overlap")));
        assert!(next(10, None).is_err());
        assert!(follows(None, &info(1, 2)).is_err());
    }
}
