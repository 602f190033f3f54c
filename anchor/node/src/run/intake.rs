//! Reads the partitions and checks their records ahead of agreement.
//!
//! Each worker takes whichever partition is free and has room, reads a batch, checks it on its lane,
//! and queues it in stream order. Nothing waits for a full batch: what is there is taken.
//!
//! Invariants
//! - A partition is with one worker at a time, so its queue is in stream order.
//! - A queue holds at most its limit, one batch over it, or as much as the next block wants; what
//!   counts is the memory that is taken, not the part of it that is used.

use piaogen_crypto::Lanes;
use piaogen_ingest::check::{CheckContext, Checker, KeyDirectory, Signatures};
use piaogen_ingest::stream::{Batch, Reader, StreamError};
use piaogen_verify::checked::CheckedBatch;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::lock;
use super::metrics::Metrics;

/// What bounds the intake.
#[derive(Clone, Copy, Debug)]
pub struct IntakeLimits {
    /// Workers that read and check.
    pub workers: usize,
    /// Whether each worker stays on one core.
    pub pinned: bool,
    /// Most records of a batch.
    pub batch_records: usize,
    /// Most bytes of a batch.
    pub batch_bytes: usize,
    /// Most bytes that wait in all queues together.
    pub queue_bytes: usize,
}

/// Checked records of one shard that wait for their block.
#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<CheckedBatch>,
    /// For each batch, when the stream took its first record, milliseconds since 1970.
    times: VecDeque<i64>,
    /// Next offset that is not in the queue.
    end: u64,
    bytes: usize,
    /// A block wants the records below this offset, whatever the limit.
    wanted: u64,
}

struct Source {
    reader: Box<dyn Reader>,
    /// Not polled before then: nothing was there.
    rest_until: Option<Instant>,
}

/// The queues of all shards, filled by workers.
pub struct Intake {
    queues: Vec<Mutex<Queue>>,
    sources: Vec<Mutex<Source>>,
    changed: Mutex<u64>,
    signal: Condvar,
    stopping: AtomicBool,
    next_source: AtomicUsize,
    limits: IntakeLimits,
    failure: Mutex<Option<StreamError>>,
    keys: Arc<KeyDirectory>,
    metrics: Arc<Metrics>,
}

/// How long a partition that had nothing is left alone.
const REST: Duration = Duration::from_millis(2);

impl Intake {
    /// An intake over one reader a shard, the registry last.
    pub fn new(
        readers: Vec<Box<dyn Reader>>,
        limits: IntakeLimits,
        keys: Arc<KeyDirectory>,
        metrics: Arc<Metrics>,
    ) -> Intake {
        let queue = |end| Mutex::new(Queue { end, ..Queue::default() });
        let queues = readers.iter().map(|reader| queue(reader.next_offset())).collect();
        let source = |reader| Mutex::new(Source { reader, rest_until: None });
        Intake {
            queues,
            sources: readers.into_iter().map(source).collect(),
            changed: Mutex::new(0),
            signal: Condvar::new(),
            stopping: AtomicBool::new(false),
            next_source: AtomicUsize::new(0),
            limits,
            failure: Mutex::new(None),
            keys,
            metrics,
        }
    }

    /// Keeps the calling worker on a core, where that was asked for; says so where it is refused.
    pub fn pin(&self, worker: usize) {
        if !self.limits.pinned {
            return;
        }
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let core = cores.get(worker % cores.len().max(1)).copied();
        if !core.is_some_and(core_affinity::set_for_current) {
            tracing::warn!(worker, "pin_lanes: the system refuses to keep a lane on one core");
        }
    }

    /// Runs one worker until [`Intake::stop`].
    pub fn work(&self, context: CheckContext, lanes: Lanes, signatures: Arc<Signatures>) {
        let mut checker = Checker::new(context, lanes, signatures);
        let mut batch = Batch::new(self.limits.batch_records, self.limits.batch_bytes);
        while !self.stopping.load(Ordering::Relaxed) {
            let mut found = false;
            for _ in 0..self.sources.len() {
                let shard = self.next_source.fetch_add(1, Ordering::Relaxed) % self.sources.len();
                match self.fill(shard, &mut batch, &mut checker) {
                    Ok(some) => found |= some,
                    Err(error) => return self.fail(error),
                }
            }
            if !found {
                std::thread::sleep(REST / 2);
            }
        }
    }

    fn fail(&self, error: StreamError) {
        lock(&self.failure).get_or_insert(error);
        self.stop();
    }

    /// Why the intake ended by itself, if it did.
    pub fn failure(&self) -> Option<String> {
        lock(&self.failure).as_ref().map(ToString::to_string)
    }

    fn fill(
        &self,
        shard: usize,
        batch: &mut Batch,
        checker: &mut Checker,
    ) -> Result<bool, StreamError> {
        let Ok(mut source) = self.sources[shard].try_lock() else { return Ok(false) };
        if source.rest_until.is_some_and(|until| Instant::now() < until) || !self.has_room(shard) {
            return Ok(false);
        }
        batch.clear();
        source.reader.poll(batch, Duration::ZERO)?;
        let end = source.reader.next_offset();
        if batch.is_empty() {
            source.rest_until = Some(Instant::now() + REST);
            return Ok(false);
        }
        source.rest_until = None;
        let places: Vec<(u64, Range<u32>)> = batch
            .iter()
            .zip(batch.ranges())
            .map(|(entry, range)| (entry.offset, range.clone()))
            .collect();
        let taken_at = batch.get(0).map_or(0, |entry| entry.timestamp);
        let arena = batch.take_arena();
        let keys = self.keys.current();
        let checked = checker.check(shard as u32, arena, &places, &keys);
        self.metrics.checked(checked.records.len(), checked.arena.len());
        let mut queue = lock(&self.queues[shard]);
        queue.bytes += weight(&checked);
        queue.end = end;
        queue.batches.push_back(checked);
        queue.times.push_back(taken_at);
        drop(queue);
        self.notify();
        Ok(true)
    }

    fn has_room(&self, shard: usize) -> bool {
        let queue = lock(&self.queues[shard]);
        queue.bytes < self.limits.queue_bytes / self.queues.len() || queue.end < queue.wanted
    }

    fn notify(&self) {
        *lock(&self.changed) += 1;
        self.signal.notify_all();
    }

    /// A number that changes whenever a queue grew.
    pub fn version(&self) -> u64 {
        *lock(&self.changed)
    }

    /// Waits until the version is another one, at most so long.
    pub fn wait(&self, version: u64, at_most: Duration) {
        let changed = lock(&self.changed);
        let unchanged = |now: &mut u64| *now == version && !self.stopping.load(Ordering::Relaxed);
        // A poisoned lock holds a whole number all the same.
        drop(self.signal.wait_timeout_while(changed, at_most, unchanged));
    }

    /// For each shard the next offset that is not checked yet.
    pub fn ends(&self) -> Vec<u64> {
        self.queues.iter().map(|queue| lock(queue).end).collect()
    }

    /// The furthest cut over what is checked beyond `from`, at most `records_max` records of each
    /// shard, at batch boundaries; and how many records it covers.
    pub fn cut(&self, from: &[u64], records_max: usize) -> (Vec<u64>, usize) {
        let mut records = 0;
        let cut = self
            .queues
            .iter()
            .zip(from)
            .map(|(queue, from)| {
                let queue = lock(queue);
                let mut taken = 0;
                for batch in &queue.batches {
                    let fresh = batch.records.iter().filter(|r| r.offset >= *from).count();
                    if taken > 0 && taken + fresh > records_max {
                        records += taken;
                        return batch.records.first().map_or(*from, |r| r.offset);
                    }
                    taken += fresh;
                }
                records += taken;
                queue.end.max(*from)
            })
            .collect();
        (cut, records)
    }

    /// Has a shard read up to an offset, whatever the limit: a block wants these records.
    pub fn want(&self, shard: usize, offset: u64) {
        let mut queue = lock(&self.queues[shard]);
        queue.wanted = queue.wanted.max(offset);
    }

    /// Takes the records of a shard below `cut`, waiting until all of them are checked, and the times
    /// at which the stream took the batches. `None` when the intake stopped before.
    pub fn take(&self, shard: usize, cut: u64) -> Option<(CheckedBatch, Vec<i64>)> {
        loop {
            let version = self.version();
            let mut queue = lock(&self.queues[shard]);
            if queue.end >= cut {
                return Some(take_below(&mut queue, cut));
            }
            queue.wanted = queue.wanted.max(cut);
            drop(queue);
            if self.stopping.load(Ordering::Relaxed) {
                return None;
            }
            self.wait(version, Duration::from_millis(100));
        }
    }

    /// Ends the workers and whoever waits.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.notify();
    }
}

/// What a batch costs in memory, about.
fn weight(batch: &CheckedBatch) -> usize {
    batch.arena.capacity() + batch.records.len() * 256
}

fn take_below(queue: &mut Queue, cut: u64) -> (CheckedBatch, Vec<i64>) {
    let (mut whole, mut times) = (CheckedBatch::default(), Vec::new());
    reserve(&mut whole, queue, cut);
    while let Some(front) = queue.batches.front_mut() {
        let below = front.records.partition_point(|record| record.offset < cut);
        if below == 0 {
            break;
        }
        let weight_before = weight(front);
        if below == front.records.len() {
            queue.bytes -= weight_before;
            times.extend(queue.times.pop_front());
            if let Some(batch) = queue.batches.pop_front() {
                append(&mut whole, batch);
            }
            continue;
        }
        // A cut inside a batch: another validator's. The bytes are shared out by copying.
        let rest = front.records.split_off(below);
        let head = CheckedBatch {
            arena: front.arena.clone(),
            subjects: front.subjects.clone(),
            records: std::mem::take(&mut front.records),
        };
        front.records = rest;
        queue.bytes -= weight_before - weight(front);
        append(&mut whole, head);
        break;
    }
    (whole, times)
}

/// Makes room once for all batches below `cut` where they are several.
fn reserve(whole: &mut CheckedBatch, queue: &Queue, cut: u64) {
    let below = |batch: &&CheckedBatch| batch.records.first().is_some_and(|r| r.offset < cut);
    let below = || queue.batches.iter().take_while(below);
    if below().nth(1).is_some() {
        whole.arena.reserve_exact(below().map(|batch| batch.arena.len()).sum());
        whole.subjects.reserve_exact(below().map(|batch| batch.subjects.len()).sum());
        whole.records.reserve_exact(below().map(|batch| batch.records.len()).sum());
    }
}

fn append(whole: &mut CheckedBatch, batch: CheckedBatch) {
    if whole.records.is_empty() && whole.arena.capacity() == 0 {
        *whole = batch;
        return;
    }
    // Blocks are bounded far below 2^32 bytes a shard by the queue's limit.
    let shift = whole.arena.len() as u32;
    let subjects = whole.subjects.len() as u32;
    whole.arena.extend_from_slice(&batch.arena);
    whole.subjects.extend_from_slice(&batch.subjects);
    whole.records.extend(batch.records.into_iter().map(|mut record| {
        record.bytes = record.bytes.start + shift..record.bytes.end + shift;
        record.seller = record.seller.start + shift..record.seller.end + shift;
        record.subject = record.subject.start + subjects..record.subject.end + subjects;
        record
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use piaogen_verify::scheme::Scheme;

    /// A partition whose first records fill a batch, and in which the others come one at a time.
    struct Trickle {
        next: u64,
        burst: u64,
    }

    impl Reader for Trickle {
        fn poll(&mut self, batch: &mut Batch, _: Duration) -> Result<(), StreamError> {
            while batch.push(self.next, 0, &[0; 1000]) {
                self.next += 1;
                if self.next > self.burst {
                    break;
                }
            }
            Ok(())
        }

        fn next_offset(&self) -> u64 {
            self.next
        }
    }

    #[test]
    fn what_waits_takes_no_more_memory_than_is_counted() {
        let (batch_bytes, queue_bytes) = (1 << 20, 4 << 20);
        let limits = IntakeLimits {
            workers: 1,
            pinned: false,
            batch_records: 1 << 20,
            batch_bytes,
            queue_bytes,
        };
        let reader = Box::new(Trickle { next: 0, burst: 1000 });
        let metrics = Arc::new(Metrics::new().unwrap());
        let intake = Intake::new(vec![reader], limits, Arc::default(), metrics);
        let context = CheckContext {
            chain: [0; 32],
            schemes: Arc::new(Vec::<Scheme>::new()),
            partitions: 1,
            signatures: false,
            fingerprints: false,
        };
        let signatures = Arc::new(Signatures::new(Lanes::detect(), 0));
        let mut checker = Checker::new(context, Lanes::detect(), signatures);
        let mut batch = Batch::new(limits.batch_records, limits.batch_bytes);
        let mut fills = 0;
        while intake.fill(0, &mut batch, &mut checker).unwrap() {
            fills += 1;
        }
        let queue = lock(&intake.queues[0]);
        let taken: usize = queue.batches.iter().map(|batch| batch.arena.capacity()).sum();
        assert!(fills > 1000, "{fills}");
        assert!(taken <= queue_bytes + batch_bytes, "{taken} bytes of {fills} batches");
    }
}
