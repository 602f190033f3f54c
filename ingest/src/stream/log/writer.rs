//! Appends frames and makes them durable in groups.
//!
//! `send` copies a frame into the buffer of its partition and returns; a thread of its own commits
//! whatever has gathered, after an interval or a number of bytes, and then publishes the new ends
//! and hands out the acknowledgements. Sending goes on while a commit waits for the disk.
//!
//! Invariants
//! - A commit that fails ends the writer for good: after a failed sync nobody knows what is on the
//!   disk, so nothing is written after it and nothing in doubt is acknowledged.
//! - Frames go to a segment in the order of their offsets, each buffer with one write call.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::ends::{End, Ends, EndsFile};
use super::{LogOptions, WriterLock, frame, segment, sync_folder};
use crate::stream::{Ack, NO_ACK, StreamError, Writer, check_length, check_partition};

/// A buffer that has grown to this is written, to be synced later.
const WRITE_AT: usize = 256 << 10;

/// One partition as its writer sees it.
struct Tail {
    folder: PathBuf,
    log: Arc<File>,
    index: Arc<File>,
    /// Frames that are not written yet, and index entries.
    frames: Vec<u8>,
    entries: Vec<u8>,
    /// Where the segment will end when the buffer is written.
    end: End,
    /// Where the last indexed frame began.
    indexed: Option<u64>,
    last_timestamp: i64,
    /// Files written since the last commit: the open segment if `dirty`, and those left since.
    dirty: bool,
    left: Vec<Arc<File>>,
    new_names: bool,
    /// Who waits for which offset.
    waiting: VecDeque<(u64, u64)>,
}

/// What the sender and the committing thread share.
struct State {
    tails: Vec<Tail>,
    unsynced: usize,
    oldest: Option<Instant>,
    waiting: usize,
    acks: Vec<Ack>,
    failed: Option<StreamError>,
    closing: bool,
}

struct Shared {
    options: LogOptions,
    state: Mutex<State>,
    wake: Condvar,
    /// Held through a commit, so that commits do not overtake each other.
    ends: Mutex<(EndsFile, Ends)>,
}

pub(super) struct LogWriter {
    name: String,
    partitions: u32,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Held for as long as the writer lives.
    _lock: WriterLock,
}

impl LogWriter {
    /// A writer that goes on at `ends`; the caller has recovered the topic and holds the lock.
    pub(super) fn start(
        topic: &Path,
        name: &str,
        options: &LogOptions,
        ends: Ends,
        lock: WriterLock,
    ) -> Result<LogWriter, StreamError> {
        let tails = (0..).zip(&ends.partitions);
        let tails = tails
            .map(|(partition, &end)| Tail::open(segment::folder(topic, partition), end))
            .collect::<Result<Vec<_>, _>>()?;
        let partitions = tails.len() as u32;
        let shared = Arc::new(Shared {
            options: options.clone(),
            state: Mutex::new(State {
                tails,
                unsynced: 0,
                oldest: None,
                waiting: 0,
                acks: Vec::new(),
                failed: None,
                closing: false,
            }),
            wake: Condvar::new(),
            ends: Mutex::new((EndsFile::open_to_write(topic)?, ends)),
        });
        let committer = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(format!("log-{name}"))
            .spawn(move || committer.run())
            .map_err(|e| StreamError::io("start the thread that commits the log", &e))?;
        Ok(LogWriter {
            name: name.to_string(),
            partitions,
            shared,
            thread: Some(thread),
            _lock: lock,
        })
    }
}

impl Writer for LogWriter {
    fn send(&mut self, partition: u32, payload: &[u8], token: u64) -> Result<(), StreamError> {
        check_partition(&self.name, partition, self.partitions)?;
        check_length(payload)?;
        let options = &self.shared.options;
        let mut guard = self.shared.state();
        let state = &mut *guard;
        state.check()?;
        let size = frame::HEADER + payload.len();
        if state.unsynced > 0 && state.unsynced + size > options.queue_bytes {
            self.shared.wake.notify_one();
            return Err(StreamError::Busy(format!(
                "{}: {} bytes wait for the disk, at most {} may; try again",
                self.name, state.unsynced, options.queue_bytes
            )));
        }
        if token != NO_ACK && state.waiting + state.acks.len() >= options.queue_acks {
            return Err(StreamError::Busy(format!(
                "{}: {} acknowledgements are open or not taken, at most {} may be; take them",
                self.name,
                state.waiting + state.acks.len(),
                options.queue_acks
            )));
        }
        let tail = &mut state.tails[partition as usize];
        if let Err(error) = tail.append(payload, token, options.segment_bytes) {
            state.failed = Some(error.clone());
            return Err(error);
        }
        state.waiting += usize::from(token != NO_ACK);
        state.unsynced += size;
        let first = state.oldest.is_none();
        if first {
            state.oldest = Some(Instant::now());
        }
        // Only the send that crosses the mark wakes the committer, not every one after it.
        let marked =
            state.unsynced >= options.commit_bytes && state.unsynced - size < options.commit_bytes;
        drop(guard);
        if first || marked {
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    fn poll_acks(&mut self, out: &mut Vec<Ack>) -> Result<(), StreamError> {
        let mut state = self.shared.state();
        out.append(&mut state.acks);
        state.check()
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        self.shared.commit()
    }
}

impl Drop for LogWriter {
    /// Commits what is left; whoever needs to know how that went flushes first.
    fn drop(&mut self) {
        self.shared.state().closing = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has already been printed, and its writer is gone.
            let _ = thread.join();
        }
    }
}

impl State {
    fn check(&self) -> Result<(), StreamError> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

/// What one commit has to sync, gathered under the lock and done without it.
struct Work {
    files: Vec<Arc<File>>,
    folders: Vec<PathBuf>,
    ends: Vec<End>,
    bytes: usize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The committing thread: waits until something has gathered for long enough, and commits it.
    fn run(&self) {
        let mut state = self.state();
        loop {
            if state.failed.is_some() {
                return;
            }
            let due = match state.oldest {
                _ if state.closing || state.unsynced >= self.options.commit_bytes => Duration::ZERO,
                Some(oldest) => self.options.commit_interval.saturating_sub(oldest.elapsed()),
                None => Duration::from_secs(3600),
            };
            if !due.is_zero() {
                let woken = self.wake.wait_timeout(state, due);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let last = state.closing;
            drop(state);
            if self.commit().is_err() || last {
                return;
            }
            state = self.state();
        }
    }

    /// Makes everything sent so far durable, publishes it, and hands out the acknowledgements.
    fn commit(&self) -> Result<(), StreamError> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        state.check()?;
        let done = state.gather().and_then(|work| {
            drop(state);
            if work.bytes > 0 {
                sync_all(&work)?;
                ends.1.sequence += 1;
                ends.1.partitions.clone_from(&work.ends);
                let (file, table) = &mut *ends;
                file.write(table)?;
            }
            Ok(work)
        });
        let mut state = self.state();
        match done {
            Ok(work) => {
                state.release(&work);
                Ok(())
            }
            Err(error) => {
                state.failed = Some(error.clone());
                Err(error)
            }
        }
    }
}

fn sync_all(work: &Work) -> Result<(), StreamError> {
    for file in &work.files {
        file.sync_data().map_err(|e| StreamError::io("sync a segment", &e))?;
    }
    work.folders.iter().try_for_each(|folder| sync_folder(folder))
}

impl State {
    /// Writes all buffers and lists what has to be synced.
    fn gather(&mut self) -> Result<Work, StreamError> {
        let mut work = Work {
            files: Vec::new(),
            folders: Vec::new(),
            ends: Vec::with_capacity(self.tails.len()),
            bytes: std::mem::take(&mut self.unsynced),
        };
        self.oldest = None;
        for tail in &mut self.tails {
            tail.write()?;
            work.files.append(&mut tail.left);
            if std::mem::take(&mut tail.dirty) {
                work.files.push(Arc::clone(&tail.log));
            }
            if std::mem::take(&mut tail.new_names) {
                work.folders.push(tail.folder.clone());
            }
            work.ends.push(tail.end);
        }
        Ok(work)
    }

    /// Acknowledges what the work made durable.
    fn release(&mut self, work: &Work) {
        for (partition, (tail, end)) in (0..).zip(self.tails.iter_mut().zip(&work.ends)) {
            while let Some(&(offset, token)) = tail.waiting.front()
                && offset < end.next
            {
                tail.waiting.pop_front();
                self.waiting -= 1;
                self.acks.push(Ack { token, partition, offset });
            }
        }
    }
}

impl Tail {
    fn open(folder: PathBuf, end: End) -> Result<Tail, StreamError> {
        let (log, index) = open_segment(&folder, end.base)?;
        Ok(Tail {
            folder,
            log: Arc::new(log),
            index: Arc::new(index),
            frames: Vec::new(),
            entries: Vec::new(),
            end,
            indexed: None,
            last_timestamp: 0,
            dirty: false,
            left: Vec::new(),
            new_names: false,
            waiting: VecDeque::new(),
        })
    }

    fn append(
        &mut self,
        payload: &[u8],
        token: u64,
        segment_bytes: u32,
    ) -> Result<(), StreamError> {
        if self.end.position >= u64::from(segment_bytes) {
            self.roll()?;
        }
        let End { base, position, next } = self.end;
        if self.indexed.is_none_or(|last| position - last >= segment::INDEX_STRIDE) {
            // A segment stays far below 4 GiB, so both numbers fit.
            self.entries.extend_from_slice(&((next - base) as u32).to_le_bytes());
            self.entries.extend_from_slice(&(position as u32).to_le_bytes());
            self.indexed = Some(position);
        }
        // The clock may step back; the stream's time does not.
        self.last_timestamp = self.last_timestamp.max(now());
        frame::encode(next, self.last_timestamp, payload, &mut self.frames);
        self.end.position += (frame::HEADER + payload.len()) as u64;
        self.end.next += 1;
        if token != NO_ACK {
            self.waiting.push_back((next, token));
        }
        if self.frames.len() >= WRITE_AT { self.write() } else { Ok(()) }
    }

    /// Leaves the segment for a new one that begins at the next offset.
    fn roll(&mut self) -> Result<(), StreamError> {
        self.write()?;
        if std::mem::take(&mut self.dirty) {
            self.left.push(Arc::clone(&self.log));
        }
        let next = self.end.next;
        let (log, index) = open_segment(&self.folder, next)?;
        (self.log, self.index) = (Arc::new(log), Arc::new(index));
        self.end = End { base: next, position: 0, next };
        self.indexed = None;
        self.new_names = true;
        Ok(())
    }

    /// Hands the buffers to the operating system.
    fn write(&mut self) -> Result<(), StreamError> {
        if self.frames.is_empty() {
            return Ok(());
        }
        (&*self.log)
            .write_all(&self.frames)
            .and_then(|()| (&*self.index).write_all(&self.entries))
            .map_err(|e| {
                let path = segment::log_path(&self.folder, self.end.base);
                StreamError::io(format!("write {}", path.display()), &e)
            })?;
        self.frames.clear();
        self.entries.clear();
        self.dirty = true;
        Ok(())
    }
}

/// Opens a segment and its index for appending, making them if need be.
fn open_segment(folder: &Path, base: u64) -> Result<(File, File), StreamError> {
    let open = |path: PathBuf| {
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|e| StreamError::io(format!("open {}", path.display()), &e))
    };
    Ok((open(segment::log_path(folder, base))?, open(segment::index_path(folder, base))?))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
