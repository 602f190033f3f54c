//! Names segments, lists them, and finds the place of an offset inside one.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::frame::{self, Decoded};
use crate::stream::StreamError;

/// A frame that begins so many bytes after the last indexed one is indexed too.
pub(super) const INDEX_STRIDE: u64 = 64 << 10;

/// Bytes of one index entry.
pub(super) const INDEX_ENTRY: usize = 8;

/// How many bytes are read at once, before a longer frame asks for more.
const READ_AT_ONCE: usize = 256 << 10;

/// The folder of a partition.
pub(super) fn folder(topic: &Path, partition: u32) -> PathBuf {
    topic.join(format!("{partition:05}"))
}

/// The file of frames of the segment that begins at `base`.
pub(super) fn log_path(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:020}.log"))
}

/// The index of that segment.
pub(super) fn index_path(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:020}.idx"))
}

/// The first offsets of the segments in a folder, ascending.
pub(super) fn bases(folder: &Path) -> Result<Vec<u64>, StreamError> {
    let wrong = |e| StreamError::io(format!("list {}", folder.display()), &e);
    let mut bases = Vec::new();
    for entry in fs::read_dir(folder).map_err(wrong)? {
        let name = entry.map_err(wrong)?.file_name();
        let base = name.to_str().and_then(|name| name.strip_suffix(".log"));
        bases.extend(base.filter(|b| b.len() == 20).and_then(|b| b.parse::<u64>().ok()));
    }
    bases.sort_unstable();
    Ok(bases)
}

/// The first offset that a partition still has.
pub(super) fn first_base(folder: &Path) -> Result<u64, StreamError> {
    bases(folder)?.first().copied().ok_or_else(|| {
        StreamError::Fatal(format!(
            "{}: no segment is left; restore the topic from a copy",
            folder.display()
        ))
    })
}

/// Deletes a segment; its index first, which is nothing without it.
pub(super) fn delete(folder: &Path, base: u64) -> Result<(), StreamError> {
    for path in [index_path(folder, base), log_path(folder, base)] {
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(StreamError::io(format!("delete {}", path.display()), &e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Opens the frames of a segment for reading.
pub(super) fn open_log(folder: &Path, base: u64) -> Result<File, StreamError> {
    let path = log_path(folder, base);
    File::open(&path).map_err(|e| StreamError::io(format!("open {}", path.display()), &e))
}

/// Walks the frames of one segment from a place where a frame begins.
#[derive(Debug)]
pub(super) struct Scanner {
    file: File,
    path: PathBuf,
    buffer: Vec<u8>,
    /// Where unread bytes begin in the buffer.
    begin: usize,
    /// Where read bytes end in the buffer.
    filled: usize,
    /// The place in the file of the next frame.
    position: u64,
    /// The offset of the next frame.
    next: u64,
}

/// What a scanner found.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// The next frame and its offset; its bytes are counted as read.
    Frame(u64, frame::Frame<'a>),
    /// Exactly the limit: every frame before it was whole.
    End,
    /// No frame that checks, though the limit is further on.
    Bad,
}

impl Scanner {
    pub(super) fn new(folder: &Path, base: u64) -> Result<Scanner, StreamError> {
        Ok(Scanner {
            file: open_log(folder, base)?,
            path: log_path(folder, base),
            buffer: Vec::new(),
            begin: 0,
            filled: 0,
            position: 0,
            next: base,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// How many bytes the file has now.
    pub(super) fn file_length(&self) -> Result<u64, StreamError> {
        let wrong = |e| StreamError::io(format!("look at {}", self.path.display()), &e);
        Ok(self.file.metadata().map_err(wrong)?.len())
    }

    /// Goes on at another place, where the frame `next` begins.
    pub(super) fn jump(&mut self, position: u64, next: u64) {
        (self.begin, self.filled, self.position, self.next) = (0, 0, position, next);
    }

    /// The length of the next payload, if its frame lies whole in front of `limit`, without
    /// counting it as read.
    pub(super) fn peek(&mut self, limit: u64) -> Result<Found<'_>, StreamError> {
        if self.position >= limit {
            return Ok(Found::End);
        }
        let mut needed = frame::HEADER;
        loop {
            if self.position + needed as u64 > limit {
                return Ok(Found::Bad);
            }
            if self.filled - self.begin < needed && !self.fill(needed, limit)? {
                return Ok(Found::Bad);
            }
            // The borrow checker wants the decision before the borrow that is returned.
            match frame::decode(self.next, &self.buffer[self.begin..self.filled]) {
                Decoded::Short(more) => needed = more,
                Decoded::Bad => return Ok(Found::Bad),
                Decoded::Whole(_) => break,
            }
        }
        let at = self.begin + frame::HEADER;
        let head = &self.buffer[self.begin..at];
        let length = head.first_chunk().map_or(0, |b| u32::from_le_bytes(*b)) as usize;
        let timestamp = head.last_chunk().map_or(0, |b| i64::from_le_bytes(*b));
        if self.position + (frame::HEADER + length) as u64 > limit {
            return Ok(Found::Bad);
        }
        let payload = &self.buffer[at..at + length];
        Ok(Found::Frame(self.next, frame::Frame { timestamp, payload }))
    }

    /// Counts the frame just seen, of so many payload bytes, as read.
    pub(super) fn advance(&mut self, payload: usize) {
        self.begin += frame::HEADER + payload;
        self.position += (frame::HEADER + payload) as u64;
        self.next += 1;
    }

    /// Reads on until `needed` bytes are at hand; `false` when the file ends before.
    fn fill(&mut self, needed: usize, limit: u64) -> Result<bool, StreamError> {
        self.buffer.copy_within(self.begin..self.filled, 0);
        self.filled -= self.begin;
        self.begin = 0;
        if self.buffer.len() < needed.max(READ_AT_ONCE) {
            self.buffer.resize(needed.max(READ_AT_ONCE), 0);
        }
        while self.filled < needed {
            let at = self.position + self.filled as u64;
            let room = (self.buffer.len() - self.filled) as u64;
            let want = room.min(limit.saturating_sub(at)) as usize;
            let into = &mut self.buffer[self.filled..self.filled + want];
            let wrong = |e| StreamError::io(format!("read {}", self.path.display()), &e);
            match self.file.read_at(into, at) {
                Ok(0) => return Ok(false),
                Ok(read) => self.filled += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(wrong(e)),
            }
        }
        Ok(true)
    }
}

/// A scanner of the segment that begins at `base`, at the frame `offset` or where that would begin.
///
/// The index is asked first and believed only if the frame that it names checks; without a good
/// entry the whole segment is walked, which is slower and as right.
pub(super) fn seek(
    folder: &Path,
    base: u64,
    offset: u64,
    limit: u64,
) -> Result<Scanner, StreamError> {
    let mut scanner = Scanner::new(folder, base)?;
    for (next, position) in entries_before(folder, base, offset).into_iter().rev().take(4) {
        scanner.jump(position, next);
        if position < limit && matches!(scanner.peek(limit)?, Found::Frame(..)) {
            break;
        }
        scanner.jump(0, base);
    }
    while scanner.next < offset {
        let payload = match scanner.peek(limit)? {
            Found::Frame(_, frame) => frame.payload.len(),
            Found::End => {
                return Err(StreamError::Fatal(format!(
                    "{}: it ends before offset {offset}; restore the topic from a copy",
                    scanner.path.display()
                )));
            }
            Found::Bad => return Err(corrupt(&scanner)),
        };
        scanner.advance(payload);
    }
    Ok(scanner)
}

/// The error of a frame that was durable and does not check any more.
pub(super) fn corrupt(scanner: &Scanner) -> StreamError {
    StreamError::Fatal(format!(
        "{}: the frame of offset {} at byte {} does not check; the file is damaged: restore the \
         topic from a copy",
        scanner.path.display(),
        scanner.next,
        scanner.position
    ))
}

/// Index entries at or before `offset`, ascending; none when the index is not there or is nonsense.
fn entries_before(folder: &Path, base: u64, offset: u64) -> Vec<(u64, u64)> {
    let Ok(bytes) = fs::read(index_path(folder, base)) else { return Vec::new() };
    let entries = bytes.as_chunks::<INDEX_ENTRY>().0.iter().map(|&[a, b, c, d, e, f, g, h]| {
        let first = u64::from(u32::from_le_bytes([a, b, c, d]));
        (base.saturating_add(first), u64::from(u32::from_le_bytes([e, f, g, h])))
    });
    entries.take_while(|&(at, _)| at <= offset).collect()
}
