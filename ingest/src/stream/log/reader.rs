//! Reads one partition up to its durable end, and waits there for more.
//!
//! Waiting is a look at `ends` every half a millisecond: it costs one small read, works between
//! processes, and needs no connection to the writer.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::ends::{End, EndsFile};
use super::segment::{self, Found, Scanner};
use crate::stream::{Batch, Reader, StreamError};

const LOOK_EVERY: Duration = Duration::from_micros(500);

pub(super) struct LogReader {
    name: String,
    folder: PathBuf,
    partition: u32,
    ends: EndsFile,
    end: End,
    base: u64,
    scanner: Scanner,
}

impl LogReader {
    /// A reader at `from`, which the caller has checked to lie inside the partition.
    pub(super) fn open(
        topic: &Path,
        name: &str,
        partition: u32,
        from: u64,
    ) -> Result<LogReader, StreamError> {
        let mut ends = EndsFile::open(topic)?;
        let end = ends.read()?.partitions[partition as usize];
        let folder = segment::folder(topic, partition);
        let bases = segment::bases(&folder)?;
        // A segment beyond the durable end is being written and may still be cut.
        let held = bases.iter().rev().find(|&&base| base <= from && base <= end.base);
        let base = held.copied().ok_or_else(|| missing(&folder, from))?;
        // Segments before the last one are complete.
        let limit = if base == end.base {
            end.position
        } else {
            Scanner::new(&folder, base)?.file_length()?
        };
        let scanner = segment::seek(&folder, base, from, limit)?;
        Ok(LogReader { name: name.to_string(), folder, partition, ends, end, base, scanner })
    }

    /// Bytes of the open segment that may be read.
    fn limit(&self) -> Result<u64, StreamError> {
        let length = self.scanner.file_length()?;
        if self.base < self.end.base {
            return Ok(length);
        }
        if length < self.end.position {
            return Err(StreamError::Fatal(format!(
                "{}: {length} bytes, and {} of them were durable; the file is damaged: restore the \
                 topic from a copy",
                self.scanner.path().display(),
                self.end.position
            )));
        }
        Ok(self.end.position)
    }

    /// Takes frames up to what is known to be durable; `true` when the batch takes no more.
    fn take(&mut self, batch: &mut Batch) -> Result<bool, StreamError> {
        loop {
            let limit = self.limit()?;
            loop {
                if batch.is_full() {
                    return Ok(true);
                }
                let payload = match self.scanner.peek(limit)? {
                    Found::End => break,
                    Found::Bad => return Err(segment::corrupt(&self.scanner)),
                    Found::Frame(offset, frame) => {
                        if !batch.push(offset, frame.timestamp, frame.payload) {
                            return Ok(true);
                        }
                        frame.payload.len()
                    }
                };
                self.scanner.advance(payload);
            }
            if self.base == self.end.base {
                return self.reached_end().map(|()| false);
            }
            let next = self.scanner.next();
            if next == self.base {
                return Err(missing(&self.folder, next));
            }
            self.scanner = Scanner::new(&self.folder, next)?;
            self.base = next;
        }
    }

    /// At the durable end the count of frames has to agree with the published one.
    fn reached_end(&self) -> Result<(), StreamError> {
        if self.scanner.next() == self.end.next {
            return Ok(());
        }
        Err(StreamError::Fatal(format!(
            "{} partition {}: the files end at offset {}, and {} was published; restore the topic \
             from a copy",
            self.name,
            self.partition,
            self.scanner.next(),
            self.end.next
        )))
    }

    /// Looks at `ends`; `true` when there is more to read.
    fn look(&mut self) -> Result<bool, StreamError> {
        let end = self.ends.read()?.partitions[self.partition as usize];
        if end.next < self.end.next {
            return Err(StreamError::Fatal(format!(
                "{} partition {}: its end went back from {} to {}; it is not the same topic any \
                 more: restore it",
                self.name, self.partition, self.end.next, end.next
            )));
        }
        self.end = end;
        Ok(end.next > self.scanner.next())
    }
}

fn missing(folder: &Path, from: u64) -> StreamError {
    StreamError::Fatal(format!(
        "{}: no segment holds offset {from}; restore the topic from a copy",
        folder.display()
    ))
}

impl Reader for LogReader {
    fn poll(&mut self, batch: &mut Batch, wait: Duration) -> Result<(), StreamError> {
        let begun = Instant::now();
        let before = batch.len();
        loop {
            if self.take(batch)? {
                return Ok(());
            }
            if self.look()? {
                continue;
            }
            if batch.len() > before {
                return Ok(());
            }
            let Some(left) = wait.checked_sub(begun.elapsed()).filter(|left| !left.is_zero())
            else {
                return Ok(());
            };
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }

    fn next_offset(&self) -> u64 {
        self.scanner.next()
    }
}
