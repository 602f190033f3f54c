//! Reads one partition of a Kafka topic.
//!
//! One client a reader: its queue, its memory bound and its connection belong to one partition, so
//! that a slow shard holds up no other.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::{Observer, passes};
use crate::stream::{Batch, Reader, StreamError};

pub(super) struct KafkaReader {
    consumer: BaseConsumer<Observer>,
    observer: Observer,
    topic: String,
    partition: u32,
    next: u64,
    /// A record that was fetched and did not fit into the batch.
    held: Option<(u64, i64, Vec<u8>)>,
    failed: Option<StreamError>,
}

impl KafkaReader {
    pub(super) fn start(
        consumer: BaseConsumer<Observer>,
        observer: Observer,
        topic: &str,
        partition: u32,
        from: u64,
    ) -> Result<KafkaReader, StreamError> {
        let wrong = |error: KafkaError| {
            StreamError::Fatal(format!("Kafka: assign {topic} partition {partition}: {error}"))
        };
        let offset = Offset::Offset(from as i64); // at most the end, which the broker gave as i64
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition as i32, offset).map_err(wrong)?;
        consumer.assign(&list).map_err(wrong)?;
        Ok(KafkaReader {
            consumer,
            observer,
            topic: topic.to_string(),
            partition,
            next: from,
            held: None,
            failed: None,
        })
    }

    /// Takes the held record; `false` when it still does not fit.
    fn take_held(&mut self, batch: &mut Batch) -> bool {
        let Some((offset, timestamp, payload)) = self.held.take() else { return true };
        if batch.push(offset, timestamp, &payload) {
            self.next = offset + 1;
            return true;
        }
        self.held = Some((offset, timestamp, payload));
        false
    }

    /// Counts what passes by itself, and fails on the rest.
    fn trouble(&self, error: &KafkaError) -> Result<(), StreamError> {
        let code = error.rdkafka_error_code();
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        if !fatal && code.is_some_and(passes) {
            self.observer.0.note(error);
            return Ok(());
        }
        let next = match code {
            Some(
                RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::LogTruncation,
            ) => "Kafka does not have that offset (any more); restore the topic or the state",
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed,
            ) => "check the credentials and the access rights",
            _ => "records may be missing behind it; look at the brokers, then start again",
        };
        Err(StreamError::Fatal(format!(
            "Kafka: read {} partition {} at offset {}: {error}; {next}",
            self.topic, self.partition, self.next
        )))
    }

    fn fill(&mut self, batch: &mut Batch, wait: Duration) -> Result<(), StreamError> {
        let begun = Instant::now();
        let before = batch.len();
        if batch.is_full() || !self.take_held(batch) {
            return Ok(());
        }
        let mut next = self.next;
        let done = loop {
            if batch.is_full() {
                break Ok(());
            }
            let left = match batch.len() > before {
                true => Duration::ZERO,
                false => wait.saturating_sub(begun.elapsed()),
            };
            let message = match self.consumer.poll(left) {
                Some(Ok(message)) => message,
                Some(Err(error)) => match self.trouble(&error) {
                    Ok(()) if left.is_zero() => break Ok(()),
                    Ok(()) => continue,
                    Err(error) => break Err(error),
                },
                None if left.is_zero() || begun.elapsed() >= wait => break Ok(()),
                None => continue,
            };
            let offset = match u64::try_from(message.offset()) {
                Ok(offset) if offset >= next && message.partition() == self.partition as i32 => {
                    offset
                }
                _ => {
                    break Err(StreamError::Fatal(format!(
                        "Kafka: {} partition {}: offset {} of partition {} came where {next} was \
                         next; look at the brokers",
                        self.topic,
                        self.partition,
                        message.offset(),
                        message.partition()
                    )));
                }
            };
            // A record without a value is an empty record: a leaf, and refused as malformed.
            let payload = message.payload().unwrap_or_default();
            let timestamp = message.timestamp().to_millis().unwrap_or(0);
            if !batch.push(offset, timestamp, payload) {
                self.held = Some((offset, timestamp, payload.to_vec()));
                break Ok(());
            }
            next = offset + 1;
        };
        self.next = next;
        done
    }
}

impl Reader for KafkaReader {
    fn poll(&mut self, batch: &mut Batch, wait: Duration) -> Result<(), StreamError> {
        // Once it is in doubt what comes next, nothing does.
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let done = self.fill(batch, wait);
        self.failed = done.as_ref().err().cloned();
        done
    }

    fn next_offset(&self) -> u64 {
        self.next
    }
}
