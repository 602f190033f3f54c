//! The data that goes in and out: what execution hands over, and what the store gives back.
//!
//! Plain values without behaviour; the crate that executes knows nothing of disks, and the store
//! hashes nothing.

use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::record::RecordKind;
use piaogen_verify::status::Origin;

use crate::error::{Result, StoreError};
use crate::frame::{read_u32, read_u64};
use crate::waits::Wait;

/// An SM3 digest.
pub type Digest = [u8; 32];

/// Deepest level of the status tree: the status root's place.
pub const STATUS_DEPTH: u8 = 40;

/// Longest status document, and longest entry of a row, in bytes.
pub const DOCUMENT_BYTES: usize = 65_536;

/// Where a shard stands after a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShardState {
    /// First offset of the partition that is not yet executed.
    pub next_offset: u64,
    /// Leaves in the record log.
    pub log_size: u64,
    /// Root of the record log. Of a shard that nothing was ever applied to, zeros.
    pub log_root: Digest,
    /// Invoices accepted, which is the next issue index.
    pub invoices: u64,
    /// Root of the status tree.
    pub status_root: Digest,
}

impl ShardState {
    /// Bytes of an encoded state.
    pub(crate) const BYTES: usize = 88;

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.next_offset.to_be_bytes());
        out.extend_from_slice(&self.log_size.to_be_bytes());
        out.extend_from_slice(&self.log_root);
        out.extend_from_slice(&self.invoices.to_be_bytes());
        out.extend_from_slice(&self.status_root);
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            next_offset: read_u64(bytes, 0)?,
            log_size: read_u64(bytes, 8)?,
            log_root: bytes.get(16..48)?.try_into().ok()?,
            invoices: read_u64(bytes, 48)?,
            status_root: bytes.get(56..88)?.try_into().ok()?,
        })
    }
}

/// What the store knows of a subject: its first accepted record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdPlace {
    /// Index in the shard's record log.
    pub log_index: u64,
    /// Issue index, below 2^40.
    pub issue_index: u64,
    /// Commitment of the record.
    pub commitment: Digest,
    /// What the record was.
    pub origin: Origin,
}

/// Origins by their number in an id's value.
const ORIGINS: [Origin; 3] = [Origin::Blue, Origin::Red, Origin::Import];

impl IdPlace {
    /// The place that the leaf at a log index gives to its subject; `None` where its record created
    /// no invoice. From these the ids can be rebuilt.
    pub fn of_entry<S>(log_index: u64, entry: &Entry<S>) -> Option<Self> {
        let origin = match entry.kind? {
            RecordKind::Issue => Origin::Blue,
            RecordKind::IssueRed => Origin::Red,
            RecordKind::Import => Origin::Import,
            _ => return None,
        };
        let issue_index = entry.issue.filter(|_| entry.outcome == Outcome::Accepted)?;
        Some(Self { log_index, issue_index, commitment: entry.commitment, origin })
    }

    /// The kind of the record.
    pub(crate) fn kind(&self) -> RecordKind {
        match self.origin {
            Origin::Blue => RecordKind::Issue,
            Origin::Red => RecordKind::IssueRed,
            Origin::Import => RecordKind::Import,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let origin = match self.origin {
            Origin::Blue => 0,
            Origin::Red => 1,
            Origin::Import => 2,
        };
        write_vint(out, self.log_index);
        write_vint(out, self.issue_index << 2 | origin);
        out.extend_from_slice(&self.commitment);
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let log_index = read_vint(&mut bytes)?;
        let issue = read_vint(&mut bytes)?;
        Some(Self {
            log_index,
            issue_index: issue >> 2,
            commitment: bytes.try_into().ok()?,
            origin: *ORIGINS.get((issue & 3) as usize)?,
        })
    }
}

pub(crate) fn write_vint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn read_vint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// One executed record, borrowed from where it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowRef<'a> {
    /// Index in the shard's record log.
    pub log_index: u64,
    /// Height of the block that it is part of.
    pub height: u64,
    /// Time of that block, in milliseconds since 1970.
    pub time_ms: i64,
    /// Entry of the leaf.
    pub entry: &'a [u8],
    /// The record as it came in the stream.
    pub record: &'a [u8],
}

/// One executed record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Index in the shard's record log.
    pub log_index: u64,
    /// Height of the block that it is part of.
    pub height: u64,
    /// Time of that block, in milliseconds since 1970.
    pub time_ms: i64,
    /// Entry of the leaf.
    pub entry: Vec<u8>,
    /// The record as it came in the stream.
    pub record: Vec<u8>,
}

impl From<RowRef<'_>> for Row {
    fn from(row: RowRef<'_>) -> Self {
        Self {
            log_index: row.log_index,
            height: row.height,
            time_ms: row.time_ms,
            entry: row.entry.to_vec(),
            record: row.record.to_vec(),
        }
    }
}

/// The rows of one block and shard, in log order, in one buffer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RowChunk {
    /// Log index of the first row.
    pub first_index: u64,
    /// Height of the block.
    pub height: u64,
    /// Time of the block.
    pub time_ms: i64,
    /// Number of rows.
    pub count: u32,
    /// For each row: entry length `u32`, record length `u32`, entry, record.
    pub bytes: Vec<u8>,
}

impl RowChunk {
    /// An empty chunk.
    pub fn new(first_index: u64, height: u64, time_ms: i64) -> Self {
        Self { first_index, height, time_ms, ..Self::default() }
    }

    /// Makes room for so many rows of so many bytes in all, so that appending them copies nothing.
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        self.bytes.reserve(rows * 8 + bytes);
    }

    /// Appends a row. Entry and record must be at most 65,536 bytes and some envelope each;
    /// longer than `u32` is refused.
    #[inline]
    pub fn push(&mut self, entry: &[u8], record: &[u8]) -> Result<()> {
        let too_long =
            |_| StoreError::Refused("a row is above the limit of 4294967295 bytes".into());
        let lengths = (
            u32::try_from(entry.len()).map_err(too_long)?,
            u32::try_from(record.len()).map_err(too_long)?,
        );
        self.bytes.extend_from_slice(&lengths.0.to_be_bytes());
        self.bytes.extend_from_slice(&lengths.1.to_be_bytes());
        self.bytes.extend_from_slice(entry);
        self.bytes.extend_from_slice(record);
        self.count += 1;
        Ok(())
    }

    /// The rows. Ends early where the buffer does not hold `count` of them.
    pub fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        let mut at = 0;
        (0..u64::from(self.count)).map_while(move |i| {
            let len = row_len(&self.bytes, at)?;
            let entry_end = at + 8 + read_u32(&self.bytes, at)? as usize;
            let row = RowRef {
                log_index: self.first_index + i,
                height: self.height,
                time_ms: self.time_ms,
                entry: &self.bytes[at + 8..entry_end],
                record: &self.bytes[entry_end..at + len],
            };
            at += len;
            Some(row)
        })
    }
}

/// Length of the row at a place, heads included, where it is whole.
#[inline]
pub(crate) fn row_len(bytes: &[u8], at: usize) -> Option<usize> {
    let entry = read_u32(bytes, at)? as usize;
    let record = read_u32(bytes, at + 4)? as usize;
    let len = 8usize.checked_add(entry)?.checked_add(record)?;
    (bytes.len().checked_sub(at)? >= len).then_some(len)
}

/// What one block did to one shard.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShardEffects {
    /// Which shard.
    pub shard: u32,
    /// New hashes of the record log: `[0]` leaf hashes, `[k]` interior hashes that became complete.
    pub levels: Vec<Vec<Digest>>,
    /// Subjects seen for the first time.
    pub ids: Vec<(Vec<u8>, IdPlace)>,
    /// Hashes of the status tree that changed: level, index, new value.
    pub status_nodes: Vec<(u8, u64, Digest)>,
    /// Status documents that changed, by issue index.
    pub status_documents: Vec<(u64, Vec<u8>)>,
    /// Up to when waits are done: before the new ones.
    pub waits_done: Option<i64>,
    /// What begins to wait.
    pub waits: Vec<Wait>,
    /// The rows: as many as new leaves, from the old log size on.
    pub rows: RowChunk,
    /// Where the shard stands afterwards.
    pub state: ShardState,
}

/// A height for which all state is on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlushPoint {
    /// The height; 0 for a new store.
    pub height: u64,
    /// Leaves in the log over the headers.
    pub history_size: u64,
    /// State of each shard, the registry's last.
    pub shards: Vec<ShardState>,
}

impl FlushPoint {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![1];
        out.extend_from_slice(&self.height.to_be_bytes());
        out.extend_from_slice(&self.history_size.to_be_bytes());
        out.extend_from_slice(&(self.shards.len() as u32).to_be_bytes());
        self.shards.iter().for_each(|shard| shard.encode(&mut out));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let count = read_u32(bytes, 17)? as usize;
        let states = bytes.get(21..)?;
        if bytes[0] != 1 || states.len() != count.checked_mul(ShardState::BYTES)? {
            return None;
        }
        Some(Self {
            height: read_u64(bytes, 1)?,
            history_size: read_u64(bytes, 9)?,
            shards: states
                .chunks(ShardState::BYTES)
                .map(ShardState::decode)
                .collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_round_trip() {
        let cases = [0, 1, 127, 128, 1 << 35, u64::MAX];
        for (log_index, origin) in cases.into_iter().zip(ORIGINS.into_iter().cycle()) {
            let (issue_index, commitment) = (log_index >> 24, [9; 32]);
            let place = IdPlace { log_index, issue_index, commitment, origin };
            let mut bytes = Vec::new();
            place.encode(&mut bytes);
            assert_eq!(IdPlace::decode(&bytes), Some(place));
            assert_eq!(IdPlace::decode(&bytes[..bytes.len() - 1]), None);
            bytes.push(0);
            assert_eq!(IdPlace::decode(&bytes), None);
        }
        let unknown = [&[0, 3][..], &[9; 32]].concat();
        assert_eq!(IdPlace::decode(&unknown), None, "there is no fourth origin");
        let state = ShardState { next_offset: 1, log_size: 2, invoices: 3, ..Default::default() };
        let point = FlushPoint { height: 7, history_size: 8, shards: vec![state; 3] };
        let bytes = point.encode();
        assert_eq!(FlushPoint::decode(&bytes), Some(point));
        for n in 0..bytes.len() {
            assert_eq!(FlushPoint::decode(&bytes[..n]), None);
        }
    }

    #[test]
    fn rows_come_back_and_a_short_buffer_ends_early() {
        let mut chunk = RowChunk::new(5, 2, -1);
        chunk.push(b"entry", b"record").unwrap();
        chunk.push(b"", b"r").unwrap();
        let rows: Vec<_> = chunk.rows().collect();
        assert_eq!((rows[0].entry, rows[0].record), (&b"entry"[..], &b"record"[..]));
        assert_eq!((rows[1].log_index, rows[1].record), (6, &b"r"[..]));
        chunk.bytes.pop();
        assert_eq!(chunk.rows().count(), 1);
    }
}
