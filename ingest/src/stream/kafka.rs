//! Reads and writes topics of Apache Kafka.
//!
//! Kafka orders and keeps the records and does nothing else for us: partitions are assigned by us,
//! each to one reader, and offsets come from the state that was built from them. The group id is
//! there because the client library wants one; no group is joined and no offset committed.
//!
//! A broker that is away is waited for: the client keeps trying, and what it meets on the way is
//! counted in [`Health`]. What could lose a record without anybody noticing is fatal: a start that
//! retention has deleted, a log that became shorter, a batch that does not check. A compacted topic
//! is refused.
//!
//! Invariants
//! - Readers see committed records only; writers are idempotent and wait for all replicas in sync.
//! - No property that these rest on can be changed from the configuration.
//! - A reader holds about `fetch_bytes` of fetched records, a writer at most `queue_bytes` of sent
//!   ones.

mod options;
mod reader;
mod topic;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{Reader, Stream, StreamError, Writer, check_partition, check_start};

pub use self::options::KafkaOptions;
pub use self::topic::ensure_topic;

/// What a client met that it gets over by itself: for metrics and for the log.
#[derive(Debug, Default)]
pub struct Health {
    troubles: AtomicU64,
    last: Mutex<String>,
}

impl Health {
    /// How many troubles there have been: lost connections, brokers without a leader and the like.
    pub fn troubles(&self) -> u64 {
        self.troubles.load(Ordering::Relaxed)
    }

    /// The latest of them, in the client library's words; empty when there was none.
    pub fn last(&self) -> String {
        locked(&self.last).clone()
    }

    fn note(&self, trouble: &dyn std::fmt::Display) {
        self.troubles.fetch_add(1, Ordering::Relaxed);
        *locked(&self.last) = trouble.to_string();
    }
}

/// Takes what the client library reports; one for each client.
#[derive(Clone)]
pub(crate) struct Observer(Arc<Health>);

impl ClientContext for Observer {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if level as i32 <= RDKafkaLogLevel::Warning as i32 {
            self.0.note(&format_args!("{facility}: {message}"));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.note(&format_args!("{error}: {reason}"));
    }
}

impl ConsumerContext for Observer {}

/// One topic of Kafka.
pub struct KafkaStream {
    options: KafkaOptions,
    topic: String,
    partitions: u32,
    health: Arc<Health>,
    /// Asks for offsets. It is given no partition and never fetches.
    control: Mutex<BaseConsumer<Observer>>,
}

impl KafkaStream {
    /// Opens a topic that exists; busy when no broker answers within the configured patience.
    pub fn open(options: &KafkaOptions, topic: &str) -> Result<KafkaStream, StreamError> {
        let health = Arc::new(Health::default());
        let control = options.consumer(Observer(Arc::clone(&health)))?;
        let partitions =
            topic::partitions(&control, topic, options.patience)?.ok_or_else(|| {
                StreamError::Refused(format!(
                    "Kafka at {} has no topic {topic}; create it first (deploy/OPERATING.md)",
                    options.brokers
                ))
            })?;
        if let Some(policy) = topic::cleanup_policy(options, topic)
            && policy.contains("compact")
        {
            return Err(StreamError::Refused(format!(
                "topic {topic} has cleanup.policy={policy}, which deletes records from its middle; \
                 set it to delete, with unlimited retention"
            )));
        }
        Ok(KafkaStream {
            options: options.clone(),
            topic: topic.to_string(),
            partitions,
            health,
            control: Mutex::new(control),
        })
    }

    /// What the clients of this topic met that they get over by themselves.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// The first offset of a partition and the one after its last committed record.
    fn offsets(&self, partition: u32) -> Result<(u64, u64), StreamError> {
        check_partition(&self.topic, partition, self.partitions)?;
        let control = locked(&self.control);
        // Nobody else empties this client's queue of events.
        while control.poll(Duration::ZERO).is_some() {}
        let what = format!("ask for the offsets of {} partition {partition}", self.topic);
        // The topic was there when it was opened: where it is new, the broker may know of it before
        // it has it.
        let new = |code| matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition);
        let (low, high) = retry_while(
            |code| new(code) || passes(code),
            &what,
            self.options.patience,
            |left| control.fetch_watermarks(&self.topic, partition as i32, left),
        )?;
        match (u64::try_from(low), u64::try_from(high)) {
            (Ok(low), Ok(high)) => Ok((low, high)),
            _ => Err(StreamError::Busy(format!("{what}: the answer was {low}..{high}; try again"))),
        }
    }
}

impl Stream for KafkaStream {
    fn name(&self) -> &str {
        &self.topic
    }

    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn reader(&self, partition: u32, from: u64) -> Result<Box<dyn Reader>, StreamError> {
        let (low, high) = self.offsets(partition)?;
        check_start(&self.topic, partition, from, low..high)?;
        let observer = Observer(Arc::clone(&self.health));
        let consumer = self.options.consumer(observer.clone())?;
        let reader = reader::KafkaReader::start(consumer, observer, &self.topic, partition, from)?;
        Ok(Box::new(reader))
    }

    fn writer(&self) -> Result<Box<dyn Writer>, StreamError> {
        let observer = Observer(Arc::clone(&self.health));
        let writer =
            writer::KafkaWriter::start(&self.options, &self.topic, self.partitions, observer)?;
        Ok(Box::new(writer))
    }

    fn start_offset(&self, partition: u32) -> Result<u64, StreamError> {
        Ok(self.offsets(partition)?.0)
    }

    fn delete_before(&self, partition: u32, offset: u64) -> Result<u64, StreamError> {
        let (low, high) = self.offsets(partition)?;
        if offset <= low {
            return Ok(low);
        }
        topic::delete_records(&self.options, &self.topic, partition, offset.min(high))?;
        self.start_offset(partition)
    }

    fn end_offset(&self, partition: u32) -> Result<u64, StreamError> {
        Ok(self.offsets(partition)?.1)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the client gets over this by itself, without skipping anything.
///
/// A list of what is known to pass: what is not on it may have cost a record, and stops the reader.
fn passes(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::WaitingForCoordinator
            | Code::InProgress
            | Code::NodeUpdate
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::RequestTimedOut
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::NetworkException
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::GroupAuthorizationFailed
            | Code::KafkaStorageError
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::PreferredLeaderNotAvailable
            | Code::ThrottlingQuotaExceeded
    )
}

/// Asks until there is an answer, for at most `patience`.
fn retry<T>(
    what: &str,
    patience: Duration,
    ask: impl FnMut(Duration) -> Result<T, KafkaError>,
) -> Result<T, StreamError> {
    retry_while(passes, what, patience, ask)
}

/// The same with what passes here.
fn retry_while<T>(
    passes: impl Fn(RDKafkaErrorCode) -> bool,
    what: &str,
    patience: Duration,
    mut ask: impl FnMut(Duration) -> Result<T, KafkaError>,
) -> Result<T, StreamError> {
    let begun = Instant::now();
    loop {
        let left = patience.saturating_sub(begun.elapsed()).max(Duration::from_millis(100));
        let error = match ask(left) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let code = error.rdkafka_error_code();
        if !code.is_some_and(&passes) {
            return Err(StreamError::Refused(format!(
                "Kafka: {what}: {error}; check the topic, the credentials and the access rights"
            )));
        }
        if begun.elapsed() >= patience {
            return Err(StreamError::Busy(format!(
                "Kafka: {what}: no answer within {} s ({error}); check that the brokers run",
                patience.as_secs_f32()
            )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
