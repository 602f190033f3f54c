//! Writes to a Kafka topic: idempotent, each record acknowledged by all replicas in sync.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};

use super::{KafkaOptions, Observer, locked};
use crate::stream::{Ack, NO_ACK, StreamError, Writer, check_length, check_partition};

/// Takes delivery reports, on the client library's thread.
struct Reports {
    observer: Observer,
    topic: String,
    acks: Mutex<Vec<Ack>>,
    /// Acknowledgements that are awaited or not taken.
    owed: AtomicUsize,
    failed: Mutex<Option<StreamError>>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.observer.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.fail(&format!("{error}: {reason}"));
        }
        self.observer.error(error, reason);
    }
}

impl ProducerContext for Reports {
    /// The token. It travels as a number, so that a record costs no allocation.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        match result {
            Ok(message) => {
                let token = token as u64;
                if token == NO_ACK {
                    return;
                }
                match (u32::try_from(message.partition()), u64::try_from(message.offset())) {
                    (Ok(partition), Ok(offset)) => {
                        locked(&self.acks).push(Ack { token, partition, offset });
                    }
                    _ => self.fail("a record was written and its offset is unknown"),
                }
            }
            Err((error, _)) => self.fail(&error.to_string()),
        }
    }
}

impl Reports {
    /// The first failure stays: what follows it is its consequence.
    fn fail(&self, why: &str) {
        locked(&self.failed).get_or_insert_with(|| {
            StreamError::Fatal(format!(
                "Kafka: write to {}: {why}; records sent and not acknowledged may be missing: look \
                 at the brokers and the access rights, then start again",
                self.topic
            ))
        });
    }

    fn check(&self) -> Result<(), StreamError> {
        locked(&self.failed).clone().map_or(Ok(()), Err)
    }
}

pub(super) struct KafkaWriter {
    producer: ThreadedProducer<Reports>,
    topic: String,
    partitions: u32,
    options: KafkaOptions,
}

impl KafkaWriter {
    pub(super) fn start(
        options: &KafkaOptions,
        topic: &str,
        partitions: u32,
        observer: Observer,
    ) -> Result<KafkaWriter, StreamError> {
        let reports = Reports {
            observer,
            topic: topic.to_string(),
            acks: Mutex::new(Vec::new()),
            owed: AtomicUsize::new(0),
            failed: Mutex::new(None),
        };
        Ok(KafkaWriter {
            producer: options.producer(reports)?,
            topic: topic.to_string(),
            partitions,
            options: options.clone(),
        })
    }

    fn reports(&self) -> &Reports {
        self.producer.client().context()
    }
}

impl Writer for KafkaWriter {
    fn send(&mut self, partition: u32, payload: &[u8], token: u64) -> Result<(), StreamError> {
        check_partition(&self.topic, partition, self.partitions)?;
        check_length(payload)?;
        self.reports().check()?;
        let opaque = usize::try_from(token).map_err(|_| {
            StreamError::Refused(format!("token {token} does not fit this machine's words"))
        })?;
        let owed = &self.reports().owed;
        if token != NO_ACK && owed.load(Ordering::Relaxed) >= self.options.queue_records {
            return Err(StreamError::Busy(format!(
                "Kafka: write to {}: {} acknowledgements are open or not taken; take them",
                self.topic, self.options.queue_records
            )));
        }
        let record = BaseRecord::<(), [u8], usize>::with_opaque_to(&self.topic, opaque)
            .partition(partition as i32)
            .payload(payload);
        match self.producer.send(record) {
            Ok(()) => {
                owed.fetch_add(usize::from(token != NO_ACK), Ordering::Relaxed);
                Ok(())
            }
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                Err(StreamError::Busy(format!(
                    "Kafka: write to {}: the queue of {} records or {} bytes is full; try again",
                    self.topic, self.options.queue_records, self.options.queue_bytes
                )))
            }
            Err((error, _)) => {
                self.reports().fail(&error.to_string());
                self.reports().check()
            }
        }
    }

    fn poll_acks(&mut self, out: &mut Vec<Ack>) -> Result<(), StreamError> {
        let reports = self.reports();
        let mut acks = locked(&reports.acks);
        reports.owed.fetch_sub(acks.len(), Ordering::Relaxed);
        out.append(&mut acks);
        drop(acks);
        reports.check()
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        let begun = Instant::now();
        let flushed = self.producer.flush(self.options.patience);
        self.reports().check()?;
        let open = self.producer.in_flight_count();
        if flushed.is_err() || open > 0 {
            return Err(StreamError::Busy(format!(
                "Kafka: write to {}: about {open} records are not durable after {} s; check that \
                 the brokers run, then flush again",
                self.topic,
                begun.elapsed().as_secs_f32()
            )));
        }
        Ok(())
    }
}
