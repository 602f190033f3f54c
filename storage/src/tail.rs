//! Rows that are executed but not yet sealed into the archive.
//!
//! Rows are the bulk of what a block brings, so unlike the rest they are not kept in memory: they
//! are written when their block is applied, in frames small enough that one row can be read without
//! much around it, and made durable at the flush point. Every frame names its first log index, so
//! recovery cuts the file at the flush point's log size. Files have a bounded size and are deleted
//! whole once the archive has what is in them.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::effects::{RowChunk, RowRef, row_len};
use crate::error::{During, Result, StoreError};
use crate::files::{Files, Place};
use crate::frame::{self, Head, head_len, read_u32, read_u64};

const MAGIC: [u8; 4] = *b"PTl1";
/// Metadata: first log index, rows, height, block time, raw length, codec.
const META: usize = 8 + 4 + 8 + 8 + 4 + 1;
/// Rows are put into frames of about this many bytes before compression.
const FRAME_BYTES: usize = 128 << 10;
/// Most bytes of rows that one block may bring to one shard.
const BLOCK_BYTES: usize = 1 << 30;

const RAW: u8 = 0;
const LZ4: u8 = 1;

/// One file of rows.
struct Chunk {
    first: u64,
    end: u64,
    bytes: u64,
    /// First log index and position of each frame.
    frames: Vec<(u64, u32)>,
}

/// The tail of one shard.
pub(crate) struct Tail {
    shard: u32,
    chunk_bytes: u64,
    chunks: VecDeque<Chunk>,
    next: u64,
    /// First indices of files written since the last flush point.
    dirty: Vec<u64>,
}

/// The frames of one block's rows, made without any lock.
pub(crate) struct Encoded {
    first: u64,
    count: u32,
    frames: Vec<Frame>,
}

/// One frame: its head, and its payload where that is not a piece of the rows as they are.
struct Frame {
    first: u64,
    head: [u8; head_len(META)],
    /// The rows of the frame among those of the block.
    rows: Range<usize>,
    packed: Option<Vec<u8>>,
}

impl Frame {
    /// What follows the head.
    fn payload<'a>(&'a self, rows: &'a [u8]) -> &'a [u8] {
        self.packed.as_deref().unwrap_or(&rows[self.rows.clone()])
    }
}

/// Where a frame lies.
#[derive(Clone, Copy)]
pub(crate) struct FrameAt {
    place: Place,
    position: u64,
    len: u64,
}

/// Rows read from a tail: whole frames, of which the rows asked for are given out.
#[derive(Default)]
pub struct Rows {
    frames: Vec<Arc<RowChunk>>,
    from: u64,
    to: u64,
}

impl Rows {
    /// The rows, in log order without gaps.
    pub fn iter(&self) -> impl Iterator<Item = RowRef<'_>> {
        let wanted = self.from..self.to;
        let rows = self.frames.iter().flat_map(|frame| frame.rows());
        rows.filter(move |row| wanted.contains(&row.log_index))
    }

    /// Log index after the last row: where to read on.
    pub fn end(&self) -> u64 {
        self.to
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.to == self.from
    }
}

/// Splits the rows of a block into frames, compressed where asked for and where it helps.
pub(crate) fn encode(rows: &RowChunk, compressed: bool) -> Result<Encoded> {
    if rows.bytes.len() > BLOCK_BYTES {
        return Err(StoreError::Refused(format!(
            "the rows of a block and shard have {} bytes, the limit is {BLOCK_BYTES}: make blocks \
             smaller",
            rows.bytes.len()
        )));
    }
    let mut out = Encoded { first: rows.first_index, count: rows.count, frames: Vec::new() };
    let (mut start, mut at, mut done) = (0, 0, 0);
    for n in 1..=rows.count {
        at += row_len(&rows.bytes, at).ok_or_else(|| miscounted(rows))?;
        if at - start >= FRAME_BYTES || n == rows.count {
            let first = rows.first_index + u64::from(done);
            out.frames.push(frame(rows, first, n - done, start..at, compressed)?);
            (start, done) = (at, n);
        }
    }
    if at == rows.bytes.len() { Ok(out) } else { Err(miscounted(rows)) }
}

fn miscounted(rows: &RowChunk) -> StoreError {
    StoreError::Refused(format!(
        "the rows from log index {} are not the {} rows they say to be",
        rows.first_index, rows.count
    ))
}

fn frame(
    rows: &RowChunk,
    first: u64,
    count: u32,
    place: Range<usize>,
    compressed: bool,
) -> Result<Frame> {
    let raw = &rows.bytes[place.clone()];
    let pack = || lz4_flex::block::compress(raw);
    let packed = compressed.then(pack).filter(|packed| packed.len() < raw.len());
    let mut meta = [0; META];
    meta[..8].copy_from_slice(&first.to_be_bytes());
    meta[8..12].copy_from_slice(&count.to_be_bytes());
    meta[12..20].copy_from_slice(&rows.height.to_be_bytes());
    meta[20..28].copy_from_slice(&rows.time_ms.to_be_bytes());
    meta[28..32].copy_from_slice(&(raw.len() as u32).to_be_bytes());
    meta[32] = if packed.is_some() { LZ4 } else { RAW };
    let head = frame::head_of(MAGIC, &meta, packed.as_deref().unwrap_or(raw))?;
    Ok(Frame { first, head, rows: place, packed })
}

impl Tail {
    /// The tail up to log size `size`. A writer cuts off what lies past it.
    pub(crate) fn open(
        shard: u32,
        size: u64,
        chunk_bytes: u64,
        files: &Files,
        cut: bool,
    ) -> Result<Self> {
        let mut tail =
            Self { shard, chunk_bytes, chunks: VecDeque::new(), next: size, dirty: Vec::new() };
        let firsts = chunk_files(&files.path(tail.place(0)))?;
        for (i, &first) in firsts.iter().enumerate() {
            if first >= size {
                if cut {
                    files.delete(tail.place(first))?;
                }
                continue;
            }
            let until = firsts.get(i + 1).map_or(size, |next| size.min(*next));
            let chunk = tail.walk(first, until, files)?;
            let file = files.existing(tail.place(first))?;
            if let Some(file) = file.filter(|_| cut && until == size) {
                file.set_len(chunk.bytes).at("cut", &files.path(tail.place(first)))?;
            }
            tail.chunks.push_back(chunk);
        }
        Ok(tail)
    }

    /// Walks the frames of a file up to log index `until`, which must be the end of one.
    fn walk(&self, first: u64, until: u64, files: &Files) -> Result<Chunk> {
        let place = self.place(first);
        let path = files.path(place);
        let file = open(files, place)?;
        let mut chunk = Chunk { first, end: first, bytes: 0, frames: Vec::new() };
        let length = file.metadata().at("examine", &path)?.len();
        while chunk.end < until {
            let mut bytes = [0; head_len(META)];
            let head = match file.read_exact_at(&mut bytes, chunk.bytes) {
                Ok(()) => frame::head::<META>(&bytes, MAGIC),
                Err(_) => None,
            };
            let end = head.as_ref().and_then(|head| {
                let (first, count) = (read_u64(&head.meta, 0)?, read_u32(&head.meta, 8)?);
                let whole = chunk.bytes + head.frame_len() <= length;
                (whole && first == chunk.end).then(|| first.checked_add(u64::from(count)))?
            });
            let (Some(head), Some(end)) = (head, end.filter(|end| *end <= until)) else {
                return Err(StoreError::damaged(format!(
                    "{} is broken at byte {}, log index {}, before the flush point's {until}: \
                     restore the data folder, or start with an empty one and replay the stream",
                    path.display(),
                    chunk.bytes,
                    chunk.end
                )));
            };
            chunk.frames.push((chunk.end, chunk.bytes as u32));
            chunk.bytes += head.frame_len();
            chunk.end = end;
        }
        Ok(chunk)
    }

    /// Whether a block's rows come next.
    pub(crate) fn check(&self, rows: &Encoded, size: u64) -> Result<()> {
        if rows.first == self.next && rows.first + u64::from(rows.count) == size {
            return Ok(());
        }
        Err(StoreError::Refused(format!(
            "{} rows from log index {} of shard {} do not lead from {} to log size {size}",
            rows.count, rows.first, self.shard, self.next
        )))
    }

    /// Writes what [`Tail::check`] found right. `bytes` are the rows that were encoded: they go to
    /// the file from where they are, each frame behind its head.
    pub(crate) fn append(&mut self, rows: &Encoded, bytes: &[u8], files: &Files) -> Result<()> {
        if rows.count == 0 {
            return Ok(());
        }
        let full = self.chunks.back().is_none_or(|last| last.bytes >= self.chunk_bytes);
        if full {
            let first = self.next;
            self.chunks.push_back(Chunk { first, end: first, bytes: 0, frames: Vec::new() });
        }
        let shard = self.shard;
        let Some(last) = self.chunks.back_mut() else { return Ok(()) };
        let place = Place::Tail { shard, first: last.first };
        let file = files.create(place)?;
        for frame in &rows.frames {
            let begin = last.bytes;
            for part in [&frame.head, frame.payload(bytes)] {
                file.write_all_at(part, last.bytes).at("append to", &files.path(place))?;
                last.bytes += part.len() as u64;
            }
            last.frames.push((frame.first, begin as u32));
        }
        last.end += u64::from(rows.count);
        self.next = last.end;
        if self.dirty.last() != Some(&last.first) {
            self.dirty.push(last.first);
        }
        Ok(())
    }

    /// Files that have to be synced for what was appended to be durable.
    pub(crate) fn take_dirty(&mut self) -> Vec<Place> {
        let shard = self.shard;
        self.dirty.drain(..).map(|first| Place::Tail { shard, first }).collect()
    }

    /// Deletes the files whose rows are all below `up_to`.
    pub(crate) fn release(&mut self, up_to: u64, files: &Files) -> Result<()> {
        while self.chunks.front().is_some_and(|chunk| chunk.end <= up_to) {
            let Some(chunk) = self.chunks.pop_front() else { break };
            files.delete(self.place(chunk.first))?;
            // One after the other on disk too, so that a crash leaves no gap between files.
            files.sync_folder(self.place(chunk.first))?;
            self.dirty.retain(|first| *first != chunk.first);
        }
        Ok(())
    }

    /// The first log index that is still here; the log size where the tail is empty.
    pub(crate) fn first(&self) -> u64 {
        self.chunks.front().map_or(self.next, |chunk| chunk.first)
    }

    /// Where the tail ends.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Bytes of the files.
    pub(crate) fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    /// The frames from log index `from` on, until they hold `rows` rows or `bytes` bytes.
    pub(crate) fn frames(&self, from: u64, rows: u64, bytes: u64) -> Vec<FrameAt> {
        let mut found = Vec::new();
        let mut total = 0;
        // What was released is skipped, not counted.
        let from = from.max(self.first());
        let chunks = self.chunks.partition_point(|chunk| chunk.end <= from);
        for chunk in self.chunks.range(chunks..) {
            let frames =
                chunk.frames.partition_point(|(first, _)| *first <= from).saturating_sub(1);
            for (i, (first, position)) in chunk.frames.iter().enumerate().skip(frames) {
                if *first >= from.saturating_add(rows) || (total >= bytes && !found.is_empty()) {
                    return found;
                }
                let next = chunk.frames.get(i + 1).map_or(chunk.bytes, |(_, at)| u64::from(*at));
                let (position, place) = (u64::from(*position), self.place(chunk.first));
                total += next - position;
                found.push(FrameAt { place, position, len: next - position });
            }
        }
        found
    }

    fn place(&self, first: u64) -> Place {
        Place::Tail { shard: self.shard, first }
    }
}

/// Makes a file of rows durable.
pub(crate) fn sync(files: &Files, place: Place) -> Result<()> {
    // A file that is gone was released meanwhile.
    let Some(file) = files.existing(place)? else { return Ok(()) };
    file.sync_data().at("sync", &files.path(place))?;
    files.sync_folder(place)
}

/// Reads and unpacks a frame.
pub(crate) fn read_frame(files: &Files, at: FrameAt) -> Result<RowChunk> {
    let path = files.path(at.place);
    let file = open(files, at.place)?;
    let mut head = [0; head_len(META)];
    let mut payload = vec![0; (at.len as usize).saturating_sub(head.len())];
    file.read_exact_at(&mut head, at.position).at("read", &path)?;
    file.read_exact_at(&mut payload, at.position + head.len() as u64).at("read", &path)?;
    decode(&head, payload).ok_or_else(|| {
        StoreError::damaged(format!(
            "{} is broken at byte {}: restore the data folder, or start with an empty one and \
             replay the stream",
            path.display(),
            at.position
        ))
    })
}

fn decode(head: &[u8], payload: Vec<u8>) -> Option<RowChunk> {
    let head: Head<META> = frame::head(head, MAGIC)?;
    head.is_of(&payload).then_some(())?;
    let meta = &head.meta;
    let raw = read_u32(meta, 28)? as usize;
    let bytes = match meta[32] {
        RAW => payload,
        LZ4 => lz4_flex::block::decompress(&payload, raw).ok()?,
        _ => return None,
    };
    (bytes.len() == raw).then_some(RowChunk {
        first_index: read_u64(meta, 0)?,
        count: read_u32(meta, 8)?,
        height: read_u64(meta, 12)?,
        time_ms: i64::from_be_bytes(meta[20..28].try_into().ok()?),
        bytes,
    })
}

/// Gives out rows `from` to at most `max_rows` on, out of frames that hold them.
pub(crate) fn rows_of(frames: Vec<Arc<RowChunk>>, from: u64, max_rows: u64) -> Rows {
    let end = frames.last().map_or(from, |last| last.first_index + u64::from(last.count));
    let first = frames.first().map_or(from, |frame| frame.first_index.max(from));
    Rows { frames, from: first, to: end.min(first.saturating_add(max_rows)) }
}

fn open(files: &Files, place: Place) -> Result<Arc<File>> {
    match files.existing(place)? {
        Some(file) => Ok(file),
        None => Err(StoreError::Refused(format!(
            "{} is gone: its rows were sealed; look in the archive",
            files.path(place).display()
        ))),
    }
}

/// First log indices of the files in the folder of `one`, ascending.
fn chunk_files(one: &Path) -> Result<Vec<u64>> {
    let folder = one.parent().unwrap_or(one);
    let mut firsts = Vec::new();
    for entry in std::fs::read_dir(folder).at("list", folder)? {
        let name = entry.at("list", folder)?.file_name();
        let first = |name: &str| name.strip_suffix(".rows")?.parse::<u64>().ok();
        firsts.extend(name.to_str().and_then(first));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

#[cfg(test)]
mod tests;
