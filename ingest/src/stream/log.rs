//! Keeps a topic in files of this machine: durable, ordered, partitioned, with no broker.
//!
//! ```text
//! <folder>/
//!   ends                       where each partition durably ends: two copies, see below
//!   writer.lock                held by the one writer
//!   recovery.lock              held while somebody cuts torn tails
//!   00000/                     one folder a partition
//!     00000000000000000000.log    a segment, named by the offset of its first frame
//!     00000000000000000000.idx    places of some frames in it: a hint, checked on use
//!     00000000000000431882.log
//!
//! segment = frame ...         no gaps; all numbers are little-endian
//!
//!     0           4           8                      16                 16 + length
//!     ├───────────┼───────────┼──────────────────────┼──────────────────┤
//!     │ length u32│ check u32 │ timestamp i64 (ms)   │ payload          │
//!     └───────────┴───────────┴──────────────────────┴──────────────────┘
//!     check = CRC-32 (IEEE) of: offset u64, length u32, timestamp, payload
//!
//! idx = entry ...             about one for every 64 KiB of frames
//!
//!     0                       4                 8
//!     ├───────────────────────┼─────────────────┤
//!     │ offset − first u32    │ position u32    │
//!     └───────────────────────┴─────────────────┘
//!
//! ends = two slots of equal size, a multiple of 4,096 bytes; the valid one with the higher
//!        sequence counts
//!
//!     0            8               16              20             24     24 + 24 n   + 4
//!     ├────────────┼───────────────┼───────────────┼──────────────┼───────────┼──────────┤
//!     │ "PGLOG\0\0\1"│ sequence u64  │ partitions u32│ zero u32     │ n ends    │ CRC-32   │
//!     └────────────┴───────────────┴───────────────┴──────────────┴───────────┴──────────┘
//!     end = first offset of the last segment u64, bytes of it u64, next offset u64
//! ```
//!
//! A group commit writes the frames, `fdatasync`s the segments, then writes the other slot of
//! `ends` and `fdatasync`s that. Readers, in this process or another, look at `ends` and at nothing beyond
//! it; so a reader never shows what a power cut could take away, and never sees half a frame.
//!
//! The offset is in the check but not in the frame: a frame at the wrong place fails like a broken
//! one, and an index entry can be trusted as soon as the frame that it names checks.
//!
//! Whatever lies beyond `ends` belongs to a writer that died. The next one to open the topic keeps
//! the whole frames there, up to the first that does not check, cuts the rest and commits. A frame
//! before `ends` that does not check is corruption and fatal to its reader.
//!
//! Invariants
//! - `ends` never runs ahead of what is on the disk, and never goes back.
//! - One writer a topic, held by a file lock that dies with its process; any number of readers.
//! - Every length read from a file is bounded before anything is allocated.

mod ends;
mod frame;
mod reader;
mod recover;
mod segment;
mod writer;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::ends::{Ends, EndsFile};
use super::{Reader, Stream, StreamError, Writer, check_partition, check_start};

/// The most partitions that a topic of the embedded log can have.
pub const MAX_PARTITIONS: u32 = 4096;

/// How an embedded log writes; readers need none of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// A segment that has reached this many bytes is left for a new one; at most 1 GiB.
    pub segment_bytes: u32,
    /// The oldest frame that is not durable yet waits at most this long for a group commit.
    pub commit_interval: Duration,
    /// So many bytes that are not durable yet start a group commit at once.
    pub commit_bytes: usize,
    /// With so many bytes not durable yet, sending is busy.
    pub queue_bytes: usize,
    /// With so many acknowledgements not taken yet, sending is busy.
    pub queue_acks: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            segment_bytes: 256 << 20,
            commit_interval: Duration::from_millis(10),
            commit_bytes: 8 << 20,
            queue_bytes: 64 << 20,
            queue_acks: 1 << 20,
        }
    }
}

/// One topic in one folder.
#[derive(Debug)]
pub struct EmbeddedLog {
    name: String,
    folder: PathBuf,
    partitions: u32,
    options: LogOptions,
}

impl EmbeddedLog {
    /// Opens the topic in `folder`, making it if there is none; refuses another partition count.
    pub fn create(
        folder: &Path,
        name: &str,
        partitions: u32,
        options: LogOptions,
    ) -> Result<EmbeddedLog, StreamError> {
        if partitions == 0 || partitions > MAX_PARTITIONS {
            return Err(StreamError::Refused(format!(
                "{name}: {partitions} partitions are outside 1..={MAX_PARTITIONS}; choose another"
            )));
        }
        let path = folder.display();
        fs::create_dir_all(folder).map_err(|e| StreamError::io(format!("make {path}"), &e))?;
        {
            let _alone = recovery_lock(folder)?;
            if !EndsFile::path(folder).exists() {
                make_topic(folder, partitions)?;
            }
        }
        let log = Self::open(folder, name, options)?;
        if log.partitions != partitions {
            return Err(StreamError::Refused(format!(
                "{name} in {path} has {} partitions, not {partitions}; a topic keeps its count: \
                 correct the configuration or choose another folder",
                log.partitions
            )));
        }
        Ok(log)
    }

    /// Opens the topic in `folder`, which must exist; cuts torn tails if no writer is alive.
    pub fn open(
        folder: &Path,
        name: &str,
        options: LogOptions,
    ) -> Result<EmbeddedLog, StreamError> {
        if !(4096..=1 << 30).contains(&options.segment_bytes) {
            return Err(StreamError::Refused(format!(
                "{name}: segment_bytes = {} is outside 4096..=1073741824; correct it",
                options.segment_bytes
            )));
        }
        if !EndsFile::path(folder).exists() {
            return Err(StreamError::Refused(format!(
                "{}: no topic here; create it first",
                folder.display()
            )));
        }
        let _alone = recovery_lock(folder)?;
        let ends = match writer_lock(folder)? {
            Some(_held) => recover::recover(folder)?,
            None => EndsFile::open(folder)?.read()?,
        };
        let partitions = ends.partitions.len() as u32; // bounded by MAX_PARTITIONS when read
        Ok(EmbeddedLog {
            name: name.to_string(),
            folder: folder.to_path_buf(),
            partitions,
            options,
        })
    }

    fn ends(&self) -> Result<Ends, StreamError> {
        EndsFile::open(&self.folder)?.read()
    }
}

impl Stream for EmbeddedLog {
    fn name(&self) -> &str {
        &self.name
    }

    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn reader(&self, partition: u32, from: u64) -> Result<Box<dyn Reader>, StreamError> {
        let held = self.start_offset(partition)?..self.end_offset(partition)?;
        check_start(&self.name, partition, from, held)?;
        Ok(Box::new(reader::LogReader::open(&self.folder, &self.name, partition, from)?))
    }

    fn writer(&self) -> Result<Box<dyn Writer>, StreamError> {
        let alone = recovery_lock(&self.folder)?;
        let Some(lock) = writer_lock(&self.folder)? else {
            return Err(StreamError::Refused(format!(
                "{} in {}: another writer has it open; a topic has one writer at a time",
                self.name,
                self.folder.display()
            )));
        };
        let ends = recover::recover(&self.folder)?;
        drop(alone);
        Ok(Box::new(writer::LogWriter::start(&self.folder, &self.name, &self.options, ends, lock)?))
    }

    fn start_offset(&self, partition: u32) -> Result<u64, StreamError> {
        check_partition(&self.name, partition, self.partitions)?;
        segment::first_base(&segment::folder(&self.folder, partition))
    }

    /// Deletes whole segments, the oldest first, so that what is left has no gap after a crash.
    /// The one that is written to always stays.
    fn delete_before(&self, partition: u32, offset: u64) -> Result<u64, StreamError> {
        check_partition(&self.name, partition, self.partitions)?;
        let end = self.ends()?.partitions[partition as usize];
        let folder = segment::folder(&self.folder, partition);
        let bases = segment::bases(&folder)?;
        for two in bases.windows(2).filter(|two| two[1] <= offset && two[1] <= end.base) {
            segment::delete(&folder, two[0])?;
            sync_folder(&folder)?;
        }
        segment::first_base(&folder)
    }

    fn end_offset(&self, partition: u32) -> Result<u64, StreamError> {
        check_partition(&self.name, partition, self.partitions)?;
        Ok(self.ends()?.partitions[partition as usize].next)
    }
}

/// Waits for the lock that whoever looks beyond `ends` holds.
fn recovery_lock(folder: &Path) -> Result<File, StreamError> {
    let path = folder.join("recovery.lock");
    let wrong = |e| StreamError::io(format!("lock {}", path.display()), &e);
    let file = open_lock(&path).map_err(wrong)?;
    file.lock().map_err(wrong)?;
    Ok(file)
}

/// The right to write, held while this value lives.
struct WriterLock(File);

impl Drop for WriterLock {
    /// Lets go of it also where a process that is just being started by another thread still has
    /// the open file.
    fn drop(&mut self) {
        // Where that fails, the lock ends with the last who has the file open.
        let _ = self.0.unlock();
    }
}

/// The writer's lock, or nothing when a writer is alive.
fn writer_lock(folder: &Path) -> Result<Option<WriterLock>, StreamError> {
    let path = folder.join("writer.lock");
    let wrong = |e| StreamError::io(format!("lock {}", path.display()), &e);
    let file = open_lock(&path).map_err(wrong)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(WriterLock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(wrong(e)),
    }
}

fn open_lock(path: &Path) -> std::io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}

/// Makes empty partitions, then `ends`: with `ends` there, the topic is whole.
fn make_topic(folder: &Path, partitions: u32) -> Result<(), StreamError> {
    let wrong = |e| StreamError::io(format!("make a topic in {}", folder.display()), &e);
    for partition in 0..partitions {
        let path = segment::folder(folder, partition);
        fs::create_dir_all(&path).map_err(wrong)?;
        File::create(segment::log_path(&path, 0)).map_err(wrong)?;
        sync_folder(&path)?;
    }
    EndsFile::create(folder, partitions)?;
    sync_folder(folder)
}

/// Makes the names in a folder durable.
fn sync_folder(path: &Path) -> Result<(), StreamError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| StreamError::io(format!("sync {}", path.display()), &e))
}

#[cfg(test)]
mod tests;
