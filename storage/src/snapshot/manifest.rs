//! The manifest of a snapshot: the state that it holds, what proves it, and its parts.
//!
//! Invariants
//! - A manifest that decodes names parts that cover blocks, logs and rows without gaps or overlaps,
//!   each under the one name that follows from what it holds.

use std::collections::BTreeMap;

use piaogen_crypto::Digest;
use piaogen_verify::header::ShardEntry;
use serde::{Deserialize, Serialize};

use super::part::PART_FILE_BYTES;

/// Value of `format`.
pub const FORMAT: &str = "piaogen/snapshot/1";
/// The name of the file.
pub const MANIFEST: &str = "manifest.json";
/// Most bytes of a manifest.
pub const MANIFEST_BYTES: usize = 256 << 20;

/// What the items of a part are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartKind {
    /// Blocks, by height.
    Blocks = 1,
    /// Entries of a record log that the archive has rows for, by log index.
    Entries = 2,
    /// Entries with their records, by log index: what the archive does not have yet.
    Rows = 3,
    /// Status documents, by issue index.
    Statuses = 4,
}

impl PartKind {
    /// The name in paths and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Entries => "entries",
            Self::Rows => "rows",
            Self::Statuses => "statuses",
        }
    }
}

/// One part.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartInfo {
    /// Its file.
    pub name: String,
    /// What it holds.
    pub kind: PartKind,
    /// Of which shard; `None` for blocks.
    pub shard: Option<u32>,
    /// Index of its first item.
    pub first: u64,
    /// Index of its last item.
    pub last: u64,
    /// How many items it has.
    pub items: u64,
    /// Length of the file.
    pub bytes: u64,
    /// SM3 over the SM3 digests of the file's parts of 65,536 bytes, in hex, as in the archive.
    pub parts_sm3: String,
}

impl PartInfo {
    /// The name of a part that holds this.
    pub(super) fn name_of(kind: PartKind, shard: Option<u32>, first: u64, last: u64) -> String {
        let kind = kind.name();
        match shard {
            Some(shard) => format!("{kind}-{shard:04}-{first:020}-{last:020}.part"),
            None => format!("{kind}-{first:020}-{last:020}.part"),
        }
    }
}

/// A shard at the height of the snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardInfo {
    /// First offset that is not executed.
    pub next_offset: u64,
    /// Leaves in the record log.
    pub log_size: u64,
    /// Root of the record log, in hex.
    pub log_root: String,
    /// Accepted invoices.
    pub invoices: u64,
    /// Root of the status tree, in hex.
    pub status_root: String,
    /// Log index below which there are entries only: the archive had those rows.
    pub sealed: u64,
}

/// The whole manifest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `piaogen/snapshot/1`.
    pub format: String,
    /// The chain, in hex.
    pub chain: String,
    /// The height whose state this is.
    pub height: u64,
    /// The header whose `shards_root` is that of the shards, encoded, in hex: of the height, or of
    /// the one above.
    pub header: String,
    /// Its certificate, in hex.
    pub certificate: String,
    /// Epoch proofs (`FORMAT.md` section 7.1), compact, in hex: from the genesis to the set that
    /// signed the certificate, 64 changes each.
    pub epochs: Vec<String>,
    /// The shards, the registry last.
    pub shards: Vec<ShardInfo>,
    /// The parts.
    pub parts: Vec<PartInfo>,
}

fn digest(text: &str) -> Result<Digest, String> {
    let mut out = [0; 32];
    hex::decode_to_slice(text, &mut out).map_err(|_| format!("{text:?} is no digest"))?;
    Ok(out)
}

impl Manifest {
    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = serde_json::to_vec_pretty(self).expect("a struct of plain values is JSON");
        out.push(b'\n');
        out
    }

    /// Reads a manifest, and checks that its parts cover what it says.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MANIFEST_BYTES {
            return Err(format!("{} bytes are above {MANIFEST_BYTES}", bytes.len()));
        }
        let found: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if found.format != FORMAT {
            return Err(format!("its format is {:?}, not {FORMAT:?}", found.format));
        }
        found.shard_entries()?;
        found.parts.iter().try_for_each(check_part)?;
        found.covers()?;
        Ok(found)
    }

    /// The shards as the header's `shards_root` binds them.
    pub fn shard_entries(&self) -> Result<Vec<ShardEntry>, String> {
        let entry = |(shard, info): (u32, &ShardInfo)| {
            let own = ShardEntry {
                shard,
                next_offset: info.next_offset,
                log_size: info.log_size,
                log_root: digest(&info.log_root)?,
                invoices: info.invoices,
                status_root: digest(&info.status_root)?,
            };
            match info.sealed <= info.log_size {
                true => Ok(own),
                false => Err(format!("shard {shard}: more rows are sealed than there are")),
            }
        };
        if !(2..=4_097).contains(&self.shards.len()) {
            return Err(format!("{} shards are outside 2 to 4097", self.shards.len()));
        }
        (0..).zip(&self.shards).map(entry).collect()
    }

    /// The parts of one kind and shard, ascending.
    pub fn parts_of(&self, kind: PartKind, shard: Option<u32>) -> Vec<&PartInfo> {
        let of = |part: &&PartInfo| part.kind == kind && part.shard == shard;
        let mut parts: Vec<&PartInfo> = self.parts.iter().filter(of).collect();
        parts.sort_by_key(|part| part.first);
        parts
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    fn covers(&self) -> Result<(), String> {
        // Gathered at once: a manifest may name many parts and many shards.
        let mut all: BTreeMap<(PartKind, Option<u32>), Vec<&PartInfo>> = BTreeMap::new();
        for part in &self.parts {
            all.entry((part.kind, part.shard)).or_default().push(part);
        }
        all.values_mut().for_each(|parts| parts.sort_by_key(|part| part.first));
        let mut take = |kind, shard| all.remove(&(kind, shard)).unwrap_or_default();
        let blocks = take(PartKind::Blocks, None);
        let ends = [self.height.checked_add(1), self.height.checked_add(2)];
        let end = blocks.last().map_or(0, |part| part.last + 1);
        if !ends.contains(&Some(end)) {
            return Err(format!("its blocks end before {end}, its height is {}", self.height));
        }
        chained(&blocks, 0..end)?;
        for (shard, info) in (0u32..).zip(&self.shards) {
            chained(&take(PartKind::Entries, Some(shard)), 0..info.sealed)?;
            chained(&take(PartKind::Rows, Some(shard)), info.sealed..info.log_size)?;
            let statuses = take(PartKind::Statuses, Some(shard));
            let disorder = statuses.windows(2).find(|two| two[0].last >= two[1].first);
            if let Some(two) = disorder {
                return Err(format!("{} and {} overlap", two[0].name, two[1].name));
            }
        }
        match all.is_empty() {
            true => Ok(()),
            false => Err("it has parts of shards that there are not".into()),
        }
    }
}

/// Whether parts lead from one index to another.
fn chained(parts: &[&PartInfo], range: std::ops::Range<u64>) -> Result<(), String> {
    let mut next = range.start;
    for part in parts {
        if part.first != next || part.items != part.last - part.first + 1 {
            return Err(format!("{} does not begin at {next}, or has gaps", part.name));
        }
        next = part.last + 1;
    }
    match next == range.end {
        true => Ok(()),
        false => Err(format!("its parts end at {next}, not at {}", range.end)),
    }
}

fn check_part(part: &PartInfo) -> Result<(), String> {
    let name = PartInfo::name_of(part.kind, part.shard, part.first, part.last);
    let blocks = part.kind == PartKind::Blocks;
    if part.name != name || blocks != part.shard.is_none() {
        return Err(format!("{:?} should be {name}", part.name));
    }
    let span = part.last.checked_sub(part.first).and_then(|span| span.checked_add(1));
    if part.last == u64::MAX || !span.is_some_and(|span| (1..=span).contains(&part.items)) {
        return Err(format!("{name}: {} items do not fit its range", part.items));
    }
    if part.bytes > PART_FILE_BYTES as u64 {
        return Err(format!("{name}: {} bytes are above {PART_FILE_BYTES}", part.bytes));
    }
    digest(&part.parts_sm3).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(kind: PartKind, shard: Option<u32>, first: u64, last: u64) -> PartInfo {
        PartInfo {
            name: PartInfo::name_of(kind, shard, first, last),
            kind,
            shard,
            first,
            last,
            items: last - first + 1,
            bytes: 100,
            parts_sm3: "00".repeat(32),
        }
    }

    fn manifest() -> Manifest {
        let zero = "00".repeat(32);
        let shard = |log_size, sealed| ShardInfo {
            next_offset: 9,
            log_size,
            log_root: zero.clone(),
            invoices: 1,
            status_root: zero.clone(),
            sealed,
        };
        let mut sparse = part(PartKind::Statuses, Some(0), 3, 90);
        sparse.items = 2;
        Manifest {
            format: FORMAT.into(),
            chain: zero.clone(),
            height: 8,
            header: String::new(),
            certificate: String::new(),
            epochs: Vec::new(),
            shards: vec![shard(30, 20), shard(4, 0)],
            parts: vec![
                part(PartKind::Blocks, None, 0, 5),
                part(PartKind::Blocks, None, 6, 9),
                part(PartKind::Entries, Some(0), 0, 19),
                part(PartKind::Rows, Some(0), 20, 29),
                sparse,
                part(PartKind::Rows, Some(1), 0, 3),
            ],
        }
    }

    #[test]
    fn a_manifest_round_trips_and_every_hole_is_refused() {
        let whole = manifest();
        assert_eq!(Manifest::decode(&whole.encode()).unwrap(), whole);
        for missing in [0, 1, 2, 3, 5] {
            let mut less = whole.clone();
            less.parts.remove(missing);
            assert!(Manifest::decode(&less.encode()).is_err(), "without part {missing}");
        }
        let changes: [fn(&mut Manifest); 9] = [
            |m| m.format = "piaogen/snapshot/2".into(),
            |m| m.height = 7,
            |m| m.shards[0].sealed = 31,
            |m| m.shards[1].log_root.push('0'),
            |m| m.parts[2].name = "../entries".into(),
            |m| m.parts[4].items = 89,
            |m| m.parts[3].bytes = 1 << 40,
            |m| m.parts[5].shard = Some(2),
            |m| m.parts.push(part(PartKind::Statuses, Some(0), 90, 91)),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut other = whole.clone();
            change(&mut other);
            assert!(Manifest::decode(&other.encode()).is_err(), "change {i}");
        }
    }

    #[test]
    fn numbers_at_their_ends_and_changed_bytes_are_refused_or_mean_the_same() {
        let text = String::from_utf8(manifest().encode()).unwrap();
        let numbers: Vec<&str> =
            text.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty()).collect();
        for number in numbers {
            for end in ["0", "1", "18446744073709551615", "18446744073709551614", "4294967296"] {
                for key in ["\": ", "-"] {
                    let other = text.replacen(&format!("{key}{number}"), &format!("{key}{end}"), 1);
                    let _ = Manifest::decode(other.as_bytes());
                }
            }
        }
        let wide = [0, 1, u64::MAX - 1, u64::MAX];
        for (first, last) in wide.into_iter().flat_map(|first| wide.map(|last| (first, last))) {
            for (at, items) in (0..6).flat_map(|at| wide.map(|items| (at, items))) {
                let mut other = manifest();
                let PartInfo { kind, shard, .. } = other.parts[at];
                let name = PartInfo::name_of(kind, shard, first, last);
                other.parts[at] = PartInfo { name, first, last, items, ..other.parts[at].clone() };
                (other.height, other.shards[0].log_size) = (last, last);
                let _ = Manifest::decode(&other.encode());
            }
        }
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut other = text.clone().into_bytes();
                other[at] ^= 1 << bit;
                if let Ok(found) = Manifest::decode(&other) {
                    assert_eq!(Manifest::decode(&found.encode()), Ok(found));
                }
            }
        }
    }

    #[test]
    fn many_parts_of_many_shards_are_gathered_once() {
        let mut many = manifest();
        let shard = many.shards[1].clone();
        many.shards.truncate(1);
        many.shards.resize(4_097, ShardInfo { log_size: 40, ..shard });
        many.parts.truncate(5);
        for number in 1..4_097 {
            let row = |index| part(PartKind::Rows, Some(number), index, index);
            many.parts.extend((0..40).map(row));
        }
        assert_eq!(Manifest::decode(&many.encode()), Ok(many));
    }
}
