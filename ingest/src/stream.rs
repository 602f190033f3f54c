//! Reads and writes topics of records, whatever carries them: Kafka or the embedded log.
//!
//! One topic is one [`Stream`]; a node opens two of them, the records (many partitions) and the
//! registry (one). The traits are object-safe, so that everything above chooses the carrier once,
//! at start. A reader belongs to one partition and one thread; it is told where to start and never
//! remembers: offsets are kept with the state that was built from them, not with the carrier.
//!
//! Invariants
//! - Records of a partition come in offset order, each once. Offsets may have gaps where the
//!   carrier keeps marks of its own (Kafka's transactions); a reader reports real offsets and never
//!   renumbers.
//! - Nothing is skipped in silence: a start that the carrier no longer has is an error.
//! - What a reader shows is durable: neither a killed process nor a power cut takes it away.
//! - Memory is bounded: by the batch for a reader, by a configured queue for a writer.

pub mod kafka;
pub mod log;

use std::ops::Range;
use std::time::{Duration, Instant};

/// The longest payload that a stream carries, in bytes.
///
/// Far above any record that execution accepts, so that a record which is too long still becomes a
/// leaf with that as its reason, and small enough for Kafka's default limits.
pub const MAX_PAYLOAD: usize = 900 * 1024;

/// The token of a record whose acknowledgement nobody waits for.
pub const NO_ACK: u64 = u64::MAX;

/// Why a stream did not do what was asked, by what the caller should do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The request is wrong; trying again changes nothing.
    #[error("refused: {0}")]
    Refused(String),
    /// A limit is reached or the other side is out of reach; the same call may work later.
    #[error("busy: {0}")]
    Busy(String),
    /// The stream is not what it has to be; stop and look.
    #[error("fatal: {0}")]
    Fatal(String),
}

impl StreamError {
    /// Whether the same call may succeed later.
    pub fn is_busy(&self) -> bool {
        matches!(self, StreamError::Busy(_))
    }

    /// A fatal error of the operating system while doing `what`.
    pub(crate) fn io(what: impl std::fmt::Display, error: &std::io::Error) -> StreamError {
        StreamError::Fatal(format!("{what}: {error}; look at the disk, then start again"))
    }
}

/// One record as it lies in a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its offset in the partition.
    pub offset: u64,
    /// When the stream took it, in milliseconds since 1970; informative, no rule reads it.
    pub timestamp: i64,
    /// Its bytes, as they were sent.
    pub payload: &'a [u8],
}

/// Records of one partition, their payloads end to end in one arena.
///
/// Made once and used again: a cleared batch keeps its memory, so reading allocates nothing.
/// The ranges are what lane code wants (many messages inside one arena).
#[derive(Debug)]
pub struct Batch {
    arena: Vec<u8>,
    ranges: Vec<Range<u32>>,
    places: Vec<(u64, i64)>,
    max_records: usize,
    max_bytes: usize,
}

impl Batch {
    /// An empty batch for at most `max_records` records and `max_bytes` bytes of payload.
    ///
    /// Both are raised to one record and lowered to what 32-bit ranges can address; a single record
    /// longer than `max_bytes` is taken when it comes alone, so that it cannot block a partition.
    pub fn new(max_records: usize, max_bytes: usize) -> Batch {
        Batch {
            arena: Vec::new(),
            ranges: Vec::new(),
            places: Vec::new(),
            max_records: max_records.max(1),
            max_bytes: max_bytes.clamp(1, 1 << 30),
        }
    }

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.ranges.clear();
        self.places.clear();
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many bytes of payload it holds.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// Whether it takes no further record, however short.
    pub fn is_full(&self) -> bool {
        self.len() >= self.max_records || self.arena.len() >= self.max_bytes
    }

    /// Whether a payload of `length` bytes still fits.
    pub fn fits(&self, length: usize) -> bool {
        if self.is_empty() {
            return length <= 1 << 30;
        }
        !self.is_full() && length <= self.max_bytes - self.arena.len()
    }

    /// Appends a record; `false`, and no change, when it does not fit.
    #[must_use]
    pub fn push(&mut self, offset: u64, timestamp: i64, payload: &[u8]) -> bool {
        if !self.fits(payload.len()) {
            return false;
        }
        // `fits` keeps the arena at or below 2^30 bytes.
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(payload);
        self.ranges.push(start..self.arena.len() as u32);
        self.places.push((offset, timestamp));
        true
    }

    /// All payloads, end to end.
    pub fn arena(&self) -> &[u8] {
        &self.arena
    }

    /// Takes the payloads out, end to end; the batch is empty then.
    ///
    /// What is taken has no more than twice the room that it needs: it may wait for long, and the
    /// room of the longest batch would wait with each short one.
    pub fn take_arena(&mut self) -> Vec<u8> {
        let room = self.arena.capacity();
        let taken = if self.arena.len() < room / 2 {
            self.arena.clone()
        } else {
            std::mem::replace(&mut self.arena, Vec::with_capacity(room))
        };
        self.clear();
        taken
    }

    /// Where each payload lies in the arena.
    pub fn ranges(&self) -> &[Range<u32>] {
        &self.ranges
    }

    /// The record at place `i`, if there is one.
    pub fn get(&self, i: usize) -> Option<Entry<'_>> {
        let (&(offset, timestamp), range) = (self.places.get(i)?, self.ranges.get(i)?);
        let payload = &self.arena[range.start as usize..range.end as usize];
        Some(Entry { offset, timestamp, payload })
    }

    /// The records in offset order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Entry<'_>> + '_ {
        self.places.iter().zip(&self.ranges).map(|(&(offset, timestamp), range)| Entry {
            offset,
            timestamp,
            payload: &self.arena[range.start as usize..range.end as usize],
        })
    }
}

/// Reads one partition forward.
pub trait Reader: Send {
    /// Appends the next records to `batch`, starting exactly at [`Reader::next_offset`].
    ///
    /// Returns when the batch is full, when something arrived and nothing more is at hand, or when
    /// `wait` is over. A carrier that is out of reach for a while is waited for and is no error.
    fn poll(&mut self, batch: &mut Batch, wait: Duration) -> Result<(), StreamError>;

    /// The smallest offset that the next record can have.
    fn next_offset(&self) -> u64;
}

/// A record that is durable: which one, and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The token given to [`Writer::send`].
    pub token: u64,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
}

/// Appends records to the partitions of one topic.
pub trait Writer: Send {
    /// Queues one payload for a partition; busy, and nothing queued, when the queue is full.
    ///
    /// Payloads of one partition are written in the order in which they were sent. The token comes
    /// back in [`Writer::poll_acks`]; with [`NO_ACK`] nothing does.
    fn send(&mut self, partition: u32, payload: &[u8], token: u64) -> Result<(), StreamError>;

    /// Moves the acknowledgements that have come since the last call to the end of `out`.
    fn poll_acks(&mut self, out: &mut Vec<Ack>) -> Result<(), StreamError>;

    /// Returns when everything sent is durable; busy when that takes longer than configured.
    fn flush(&mut self) -> Result<(), StreamError>;

    /// Like [`Writer::send`], waiting up to `patience` for room in the queue.
    fn send_waiting(
        &mut self,
        partition: u32,
        payload: &[u8],
        token: u64,
        patience: Duration,
    ) -> Result<(), StreamError> {
        let begun = Instant::now();
        loop {
            match self.send(partition, payload, token) {
                Err(StreamError::Busy(_)) if begun.elapsed() < patience => {
                    std::thread::sleep(Duration::from_micros(200));
                }
                other => return other,
            }
        }
    }
}

/// One topic.
pub trait Stream: Send + Sync {
    /// The name of the topic.
    fn name(&self) -> &str;

    /// How many partitions it has; this never changes.
    fn partitions(&self) -> u32;

    /// A reader of `partition` that starts at offset `from`.
    ///
    /// Fatal when the stream does not have that offset: below its start (retention took it) or
    /// above its end (the stream lost records, or it is another stream).
    fn reader(&self, partition: u32, from: u64) -> Result<Box<dyn Reader>, StreamError>;

    /// A writer; a carrier may allow only one at a time.
    fn writer(&self) -> Result<Box<dyn Writer>, StreamError>;

    /// The first offset that can be read.
    fn start_offset(&self, partition: u32) -> Result<u64, StreamError>;

    /// Deletes records of a partition below an offset, as far as the carrier does it in pieces of
    /// its own; the first offset that can be read then. What is at or above the offset stays.
    fn delete_before(&self, partition: u32, offset: u64) -> Result<u64, StreamError>;

    /// The next offset to be written, as far as durable.
    fn end_offset(&self, partition: u32) -> Result<u64, StreamError>;
}

/// Refuses a payload that no carrier takes.
fn check_length(payload: &[u8]) -> Result<(), StreamError> {
    if payload.len() <= MAX_PAYLOAD {
        return Ok(());
    }
    Err(StreamError::Refused(format!(
        "a payload of {} bytes is above the {MAX_PAYLOAD} that a stream carries; split the record",
        payload.len()
    )))
}

/// Refuses a partition that the topic does not have.
fn check_partition(name: &str, partition: u32, partitions: u32) -> Result<(), StreamError> {
    if partition < partitions {
        return Ok(());
    }
    Err(StreamError::Refused(format!(
        "partition {partition} of {name}: it has {partitions}, numbered from 0; check the routing"
    )))
}

/// Refuses to start reading where the stream has nothing.
fn check_start(name: &str, partition: u32, from: u64, held: Range<u64>) -> Result<(), StreamError> {
    let why = if from < held.start {
        "what follows was deleted; get a snapshot of another node (`piaogen snapshot fetch`), put it \
         in the place of this node's data (`piaogen snapshot restore --replace`) and start again"
    } else if from > held.end {
        "the stream has lost records or is another one; restore it before going on"
    } else {
        return Ok(());
    };
    Err(StreamError::Fatal(format!(
        "{name} partition {partition}: offset {from} is outside {}..={}; {why}",
        held.start, held.end
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_and_takes_one_long_record_alone() {
        let mut batch = Batch::new(3, 10);
        assert!(batch.push(7, 70, b"abcd") && batch.push(8, 80, b"") && batch.push(9, 90, b"efg"));
        assert!(batch.is_full() && !batch.push(10, 100, b""));
        let read: Vec<_> = batch.iter().map(|e| (e.offset, e.timestamp, e.payload)).collect();
        assert_eq!(read, [(7, 70, &b"abcd"[..]), (8, 80, b""), (9, 90, b"efg")]);
        assert_eq!((batch.bytes(), &batch.arena()[4..7]), (7, &b"efg"[..]));
        assert_eq!(batch.get(2), batch.iter().nth(2));
        assert_eq!(batch.get(3), None);

        batch.clear();
        assert!(batch.is_empty() && batch.bytes() == 0);
        assert!(batch.push(1, 0, &[0; 11]), "alone");
        assert!(batch.is_full() && !batch.push(2, 0, b""));
        batch.clear();
        assert!(batch.push(1, 0, b"12345") && !batch.push(2, 0, b"123456"));
        assert!(!batch.is_full() && batch.push(2, 0, b"12345") && batch.is_full());
    }

    #[test]
    fn what_is_taken_out_of_a_batch_has_no_room_to_spare() {
        let mut batch = Batch::new(usize::MAX, 1 << 20);
        for bytes in [1, 1 << 20, 5, 1 << 19, (1 << 19) - 1, 0, 1 << 20] {
            assert!(batch.push(0, 0, &vec![7; bytes]));
            let taken = batch.take_arena();
            assert_eq!(taken, vec![7; bytes]);
            assert!(taken.capacity() <= 2 * bytes + 8, "{} for {bytes}", taken.capacity());
            assert!(batch.is_empty() && batch.bytes() == 0);
        }
        // The batch itself keeps its room.
        assert!(batch.arena.capacity() >= 1 << 20);
    }

    #[test]
    fn starts_outside_the_stream_are_fatal() {
        assert_eq!(check_start("t", 0, 5, 5..9), Ok(()));
        assert_eq!(check_start("t", 0, 9, 5..9), Ok(()));
        for from in [4, 10] {
            assert!(matches!(check_start("t", 0, from, 5..9), Err(StreamError::Fatal(_))));
        }
        assert!(matches!(check_partition("t", 3, 3), Err(StreamError::Refused(_))));
        assert!(matches!(check_length(&vec![0; MAX_PAYLOAD + 1]), Err(StreamError::Refused(_))));
    }
}
