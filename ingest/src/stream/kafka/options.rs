//! Says how to reach Kafka, and turns that into the client library's properties.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::BaseConsumer;

use super::Observer;
use crate::stream::{MAX_PAYLOAD, StreamError};

/// How to reach Kafka and how much memory to give to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaOptions {
    /// Brokers to begin with, `host:port` separated by commas.
    pub brokers: String,
    /// Further properties of the client library: `security.protocol`, `ssl.*`, `sasl.*` and others.
    pub properties: BTreeMap<String, String>,
    /// How a writer packs its batches: `none`, `lz4`, `zstd`, `gzip` or `snappy`.
    pub compression: String,
    /// How many fetched bytes wait in a reader; one response above it may be at hand.
    pub fetch_bytes: usize,
    /// With so many bytes sent and not durable yet, sending is busy.
    pub queue_bytes: usize,
    /// With so many records sent and not durable yet, or not taken acknowledgements, it is too.
    pub queue_records: usize,
    /// How long a writer waits for a batch to fill.
    pub linger: Duration,
    /// A batch is at most so long.
    pub batch_bytes: usize,
    /// How long to wait for an answer before saying busy.
    pub patience: Duration,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        KafkaOptions {
            brokers: "127.0.0.1:9092".to_string(),
            properties: BTreeMap::new(),
            compression: "lz4".to_string(),
            fetch_bytes: 16 << 20,
            queue_bytes: 64 << 20,
            queue_records: 200_000,
            linger: Duration::from_millis(5),
            batch_bytes: 900 << 10,
            patience: Duration::from_secs(30),
        }
    }
}

/// Properties that a promise rests on, or that have a setting of their own; with their aliases.
const OURS: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.commit.enable",
    "auto.offset.reset",
    "batch.num.messages",
    "batch.size",
    "bootstrap.servers",
    "check.crcs",
    "compression.codec",
    "compression.type",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "isolation.level",
    "linger.ms",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "message.max.bytes",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "receive.message.max.bytes",
    "request.required.acks",
    "retries",
    "transactional.id",
];

/// The longest batch that our topics take: the longest payload and room for its frame.
pub(super) const MAX_BATCH: usize = MAX_PAYLOAD + (64 << 10);

impl KafkaOptions {
    fn base(&self) -> Result<ClientConfig, StreamError> {
        let in_range = |name: &str, value: usize, least: usize, most: usize| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(StreamError::Refused(format!("{name} = {value} is outside {least}..={most}")))
        };
        in_range("fetch_bytes", self.fetch_bytes, 4 << 20, 1 << 30)?;
        in_range("queue_bytes", self.queue_bytes, 1 << 20, 2 << 30)?;
        in_range("queue_records", self.queue_records, 1, 10_000_000)?;
        in_range("batch_bytes", self.batch_bytes, 1 << 10, MAX_PAYLOAD)?;
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "piaogen")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true")
            .set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in &self.properties {
            if OURS.contains(&name.as_str()) {
                return Err(StreamError::Refused(format!(
                    "Kafka property {name} is set by the node itself; remove it"
                )));
            }
            config.set(name, value);
        }
        Ok(config)
    }

    /// A client that reads; it is given partitions by hand.
    pub(super) fn consumer(
        &self,
        observer: Observer,
    ) -> Result<BaseConsumer<Observer>, StreamError> {
        let mut config = self.base()?;
        if config.get("group.id").is_none() {
            config.set("group.id", "piaogen");
        }
        // A quarter a response, so that a fetched response adds little above the bound.
        let response = (self.fetch_bytes / 4).max(MAX_BATCH);
        let number = |n: usize| n.to_string();
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "false")
            .set("allow.auto.create.topics", "false")
            .set("check.crcs", "true")
            .set("max.poll.interval.ms", "86400000")
            .set("queued.min.messages", "10000000")
            .set("queued.max.messages.kbytes", number(self.fetch_bytes >> 10))
            .set("fetch.message.max.bytes", number(response))
            .set("fetch.max.bytes", number(response))
            .set("message.max.bytes", number(MAX_BATCH))
            .set("receive.message.max.bytes", number(response + (1 << 20)))
            // A full queue is looked at again soon; the default second would starve a fast reader.
            .set("fetch.queue.backoff.ms", "2")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "100");
        create(&config, observer)
    }

    /// A client that writes, with whatever takes its delivery reports.
    pub(super) fn producer<C, P>(&self, context: C) -> Result<P, StreamError>
    where
        C: rdkafka::ClientContext,
        P: FromClientConfigAndContext<C>,
    {
        let mut config = self.base()?;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", "5")
            // Never given up: giving up in the middle would leave a hole that order cannot show.
            .set("message.timeout.ms", "0")
            .set("compression.type", &self.compression)
            .set("linger.ms", self.linger.as_millis().to_string())
            .set("batch.size", self.batch_bytes.to_string())
            .set("batch.num.messages", "100000")
            .set("message.max.bytes", MAX_BATCH.to_string())
            .set("queue.buffering.max.messages", self.queue_records.to_string())
            .set("queue.buffering.max.kbytes", (self.queue_bytes >> 10).to_string());
        create(&config, context)
    }

    /// A client that creates and describes topics.
    pub(super) fn admin(
        &self,
    ) -> Result<rdkafka::admin::AdminClient<rdkafka::client::DefaultClientContext>, StreamError>
    {
        create(&self.base()?, rdkafka::client::DefaultClientContext)
    }
}

fn create<C, T>(config: &ClientConfig, context: C) -> Result<T, StreamError>
where
    C: rdkafka::ClientContext,
    T: FromClientConfigAndContext<C>,
{
    config.create_with_context(context).map_err(|error| {
        StreamError::Refused(format!("Kafka settings: {error}; correct that property"))
    })
}
