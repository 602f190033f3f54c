//! Sends records to Kafka: idempotent, in order, with an acknowledgement each.
//!
//! The librdkafka producer is used without futures: a token rides along with each message and comes
//! back in the delivery callback, which costs no allocation a record.
//!
//! Invariants
//! - `enable.idempotence` is on and cannot be set: nothing is doubled or reordered by retries.
//! - A message that could not be delivered is fatal, because what follows it may be delivered.

use crate::send::{Ack, SendError, Sink};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Where and how to send.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// Topic of records.
    pub records_topic: String,
    /// Topic of registry records.
    pub registry_topic: String,
    /// Partitions of the topic of records; this number as a partition stands for the registry.
    pub partitions: u32,
    /// Further librdkafka settings: security, compression, batching.
    pub options: Vec<(String, String)>,
}

impl KafkaConfig {
    /// The usual topics, behind a prefix.
    pub fn new(brokers: &str, prefix: &str, partitions: u32) -> KafkaConfig {
        KafkaConfig {
            brokers: brokers.into(),
            records_topic: format!("{prefix}records"),
            registry_topic: format!("{prefix}registry"),
            partitions,
            options: Vec::new(),
        }
    }
}

#[derive(Default)]
struct Deliveries {
    acks: Vec<(u64, bool, i64, i32)>,
    failure: Option<String>,
}

struct Context {
    registry_topic: String,
    deliveries: Mutex<Deliveries>,
}

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        let mut deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(message) => {
                let registry = message.topic() == self.registry_topic;
                let ack = (token as u64, registry, message.offset(), message.partition());
                deliveries.acks.push(ack);
            }
            Err((error, message)) => {
                let (topic, partition) = (message.topic(), message.partition());
                deliveries.failure.get_or_insert_with(|| format!("{topic}/{partition}: {error}"));
            }
        }
    }
}

/// A sink into Kafka.
pub struct KafkaSink {
    producer: BaseProducer<Context>,
    config: KafkaConfig,
}

/// How long `flush` waits for the broker.
const FLUSH: Duration = Duration::from_secs(60);

impl KafkaSink {
    /// Connects; topics are not created here.
    pub fn new(config: KafkaConfig) -> Result<KafkaSink, SendError> {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &config.brokers)
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "500000")
            .set("queue.buffering.max.kbytes", "524288");
        for (key, value) in &config.options {
            client.set(key, value);
        }
        client.set("enable.idempotence", "true").set("acks", "all");
        let context =
            Context { registry_topic: config.registry_topic.clone(), deliveries: Mutex::default() };
        let producer = client.create_with_context(context).map_err(|error| fatal(&error))?;
        Ok(KafkaSink { producer, config })
    }

    fn check(&self) -> Result<(), SendError> {
        let deliveries = self.producer.context().deliveries.lock();
        let deliveries = deliveries.unwrap_or_else(PoisonError::into_inner);
        match &deliveries.failure {
            Some(failure) => Err(SendError::Fatal(failure.clone())),
            None => Ok(()),
        }
    }
}

fn fatal(error: &KafkaError) -> SendError {
    SendError::Fatal(error.to_string())
}

impl Sink for KafkaSink {
    fn send(&mut self, partition: u32, payload: &[u8], token: u64) -> Result<(), SendError> {
        let (topic, partition) = match partition == self.config.partitions {
            true => (&self.config.registry_topic, 0),
            false => (&self.config.records_topic, partition),
        };
        let message: BaseRecord<'_, (), [u8], usize> =
            BaseRecord::with_opaque_to(topic, token as usize)
                .partition(partition as i32)
                .payload(payload);
        match self.producer.send(message) {
            Ok(()) => Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                self.producer.poll(Duration::from_millis(5));
                Err(SendError::Busy)
            }
            Err((error, _)) => Err(fatal(&error)),
        }
    }

    fn poll_acks(&mut self, out: &mut Vec<Ack>) -> Result<(), SendError> {
        self.producer.poll(Duration::ZERO);
        self.check()?;
        let deliveries = self.producer.context().deliveries.lock();
        let mut deliveries = deliveries.unwrap_or_else(PoisonError::into_inner);
        for (token, registry, offset, partition) in deliveries.acks.drain(..) {
            let partition = if registry { self.config.partitions } else { partition as u32 };
            out.push(Ack { token, partition, offset: offset as u64 });
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SendError> {
        self.producer.flush(FLUSH).map_err(|error| fatal(&error))?;
        self.check()
    }
}

impl std::fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSink").field("brokers", &self.config.brokers).finish()
    }
}
