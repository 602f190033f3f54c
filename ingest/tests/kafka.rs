//! Writes to and reads from a real Kafka broker, and restarts it in between.
//!
//! Runs where `PIAOGEN_KAFKA` names a broker (`host:port`), as `deploy/kafka start` prints it. The
//! broker is killed and started again only where that script runs it.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as its test does")]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use piaogen_ingest::stream::kafka::{KafkaOptions, KafkaStream, ensure_topic};
use piaogen_ingest::stream::{Ack, Batch, NO_ACK, Reader, Stream, StreamError};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const PARTITIONS: u32 = 4;
const RECORDS: u64 = 100_000;
const PATIENCE: Duration = Duration::from_secs(300);

/// A topic of this run alone, deleted at the end.
struct Topic {
    options: KafkaOptions,
    name: String,
}

impl Topic {
    fn new(brokers: &str, what: &str, partitions: u32) -> Topic {
        let options = KafkaOptions {
            brokers: brokers.to_string(),
            compression: "zstd".to_string(),
            fetch_bytes: 4 << 20,
            patience: PATIENCE,
            ..KafkaOptions::default()
        };
        let name = format!("piaogen-test-{}-{what}", std::process::id());
        ensure_topic(&options, &name, partitions, 1).unwrap();
        Topic { options, name }
    }

    fn open(&self) -> KafkaStream {
        KafkaStream::open(&self.options, &self.name).unwrap()
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.options.brokers).create().unwrap()
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let _ = block_on(self.admin().delete_topics(&[&self.name], &AdminOptions::new()));
    }
}

/// The record `i` of a partition: numbered, and of varying length.
fn payload(partition: u32, i: u64) -> Vec<u8> {
    let mut out = vec![b'a' + (i % 26) as u8; (i * 7919 % 1200) as usize];
    out.extend_from_slice(&u64::from(partition).to_le_bytes());
    out.extend_from_slice(&i.to_le_bytes());
    out
}

fn read_to(reader: &mut dyn Reader, partition: u32, end: u64) {
    let mut moved = Instant::now();
    let mut batch = Batch::new(5000, 1 << 20);
    while reader.next_offset() < end {
        assert!(moved.elapsed() < PATIENCE, "stuck at {}", reader.next_offset());
        batch.clear();
        let next = reader.next_offset();
        reader.poll(&mut batch, Duration::from_millis(200)).unwrap();
        if !batch.is_empty() {
            moved = Instant::now();
        }
        assert!(batch.len() <= 5000 && batch.bytes() <= 1 << 20);
        for (i, entry) in (next..).zip(batch.iter()) {
            assert_eq!(entry.offset, i);
            assert!(entry.payload == payload(partition, i), "record {i}");
        }
        assert_eq!(reader.next_offset(), next + batch.len() as u64);
    }
}

fn write(stream: &KafkaStream, from: u64, to: u64) {
    let mut writer = stream.writer().unwrap();
    let mut acks = Vec::new();
    for i in from..to {
        for partition in 0..stream.partitions() {
            let token = i * u64::from(PARTITIONS) + u64::from(partition);
            let bytes = payload(partition, i);
            while let Err(error) = writer.send(partition, &bytes, token) {
                assert!(error.is_busy(), "{error}");
                writer.poll_acks(&mut acks).unwrap();
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }
    writer.flush().unwrap();
    let begun = Instant::now();
    let count = (to - from) * u64::from(stream.partitions());
    while (acks.len() as u64) < count && begun.elapsed() < PATIENCE {
        writer.poll_acks(&mut acks).unwrap();
    }
    acks.sort_unstable_by_key(|ack| ack.token);
    let expected = (from..to).flat_map(|offset| {
        (0..stream.partitions()).map(move |partition| {
            let token = offset * u64::from(PARTITIONS) + u64::from(partition);
            Ack { token, partition, offset }
        })
    });
    assert!(acks.into_iter().eq(expected), "each record acknowledged once, at its offset");
}

fn offsets_and_restarts(brokers: &str) {
    let topic = Topic::new(brokers, "restarts", PARTITIONS);
    let stream = topic.open();
    assert_eq!(stream.partitions(), PARTITIONS);
    let each = RECORDS / u64::from(PARTITIONS);
    write(&stream, 0, each);
    for partition in 0..PARTITIONS {
        assert_eq!(stream.start_offset(partition).unwrap(), 0);
        assert_eq!(stream.end_offset(partition).unwrap(), each);
        for from in [0, 1, 12_345, each - 1, each] {
            read_to(&mut *stream.reader(partition, from).unwrap(), partition, each);
        }
        // Stop somewhere inside, and go on with another client at exactly the next offset.
        let mut batch = Batch::new(777, 1 << 30);
        let mut reader = stream.reader(partition, 100).unwrap();
        while batch.is_empty() {
            reader.poll(&mut batch, Duration::from_secs(5)).unwrap();
        }
        let next = reader.next_offset();
        assert_eq!(next, 100 + batch.len() as u64);
        drop(reader);
        read_to(&mut *topic.open().reader(partition, next).unwrap(), partition, each);
    }
    let other = ensure_topic(&topic.options, &topic.name, PARTITIONS + 1, 1);
    assert!(matches!(other, Err(StreamError::Refused(_))));
    ensure_topic(&topic.options, &topic.name, PARTITIONS, 1).unwrap();
}

fn missing_offsets(brokers: &str) {
    let topic = Topic::new(brokers, "retention", 1);
    let stream = topic.open();
    write(&stream, 0, 1000);
    let mut behind = stream.reader(0, 0).unwrap();
    read_to(&mut *behind, 0, 1);

    for (below, begins) in [(0, 0), (600, 600), (300, 600)] {
        assert_eq!(stream.delete_before(0, below).unwrap(), begins);
        assert_eq!(stream.start_offset(0).unwrap(), begins);
    }
    for from in [0, 599, 1001] {
        let error = stream.reader(0, from).err().unwrap();
        assert!(matches!(error, StreamError::Fatal(_)), "{error}");
        assert!(error.to_string().contains("600..=1000"), "{error}");
    }
    read_to(&mut *stream.reader(0, 600).unwrap(), 0, 1000);
    assert_eq!(stream.delete_before(0, u64::MAX).unwrap(), 1000, "all that there is, and no more");
    assert!(matches!(stream.delete_before(1, 0), Err(StreamError::Refused(_))));
}

/// Markers and aborted records take offsets that a reader never shows and never renumbers.
fn transactions(brokers: &str) {
    let topic = Topic::new(brokers, "transactions", 1);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", &topic.name)
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    for (text, commit) in [("first", true), ("aborted", false), ("second", true)] {
        producer.begin_transaction().unwrap();
        for _ in 0..2 {
            let record = BaseRecord::<(), str>::to(&topic.name).partition(0).payload(text);
            producer.send(record).map_err(|(e, _)| e).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        match commit {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
    }
    let stream = topic.open();
    let mut reader = stream.reader(0, 0).unwrap();
    let mut batch = Batch::new(100, 10_000);
    let begun = Instant::now();
    while batch.len() < 4 && begun.elapsed() < PATIENCE {
        reader.poll(&mut batch, Duration::from_millis(100)).unwrap();
    }
    let read: Vec<_> = batch.iter().map(|e| (e.offset, e.payload)).collect();
    let (first, second) = (&b"first"[..], &b"second"[..]);
    assert_eq!(read, [(0, first), (1, first), (6, second), (7, second)]);
    assert_eq!((reader.next_offset(), stream.end_offset(0).unwrap()), (8, 9));
}

/// Runs `deploy/kafka` for the broker under test; where that fails, what it says is said.
fn script(port: &str, command: &str) -> Option<String> {
    let path = std::env::current_dir().expect("a folder to be in").join("../deploy/kafka");
    let done = Command::new(path).arg(command).env("PIAOGEN_KAFKA_PORT", port).output().ok()?;
    let said = String::from_utf8_lossy(&done.stdout).trim().to_string();
    if !done.status.success() {
        println!("{command}: {}", String::from_utf8_lossy(&done.stderr));
    }
    done.status.success().then_some(said)
}

/// TLS and a password are properties of the client library, which reach it as they are.
fn encrypted_and_with_a_password(brokers: &str) {
    let port = brokers.rsplit(':').next().unwrap_or_default();
    let Some(said) = script(port, "secured") else {
        println!("SKIPPED: the broker at {brokers} is not run by deploy/kafka; TLS was not tried");
        return;
    };
    let [address, certificate, user, password] =
        said.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let topic = Topic::new(brokers, "secured", 1);
    let with = |change: (&str, &str), seconds: u64| {
        let mut properties = BTreeMap::from([
            ("security.protocol", "SASL_SSL"),
            ("ssl.ca.location", certificate),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", user),
            ("sasl.password", password),
        ]);
        properties.insert(change.0, change.1);
        let own = |(name, value): (&str, &str)| (name.to_string(), value.to_string());
        let options = KafkaOptions {
            brokers: address.to_string(),
            properties: properties.into_iter().map(own).collect(),
            patience: Duration::from_secs(seconds),
            ..KafkaOptions::default()
        };
        KafkaStream::open(&options, &topic.name)
    };
    let stream = with(("sasl.username", user), PATIENCE.as_secs()).unwrap();
    write(&stream, 0, 1000);
    read_to(&mut *stream.reader(0, 0).unwrap(), 0, 1000);
    let system = "/etc/ssl/certs/ca-certificates.crt";
    for (change, said) in [
        (("sasl.password", "wrong"), "uthentication"),
        (("security.protocol", "SASL_PLAINTEXT"), ""),
        (("ssl.ca.location", system), "ertificate"),
    ] {
        let error = with(change, 10).err().expect("refused");
        assert!(!matches!(error, StreamError::Fatal(_)), "{change:?}: {error}");
        assert!(error.to_string().contains(said), "{change:?}: {error}");
    }
}

fn broker_killed_while_writing_and_reading(brokers: &str) {
    let port = brokers.rsplit(':').next().unwrap_or_default();
    if script(port, "status").as_deref() != Some(brokers) {
        println!("SKIPPED: the broker at {brokers} is not run by deploy/kafka; it is not killed");
        return;
    }
    let topic = Topic::new(brokers, "killed", 2);
    let stream = topic.open();
    let count = RECORDS;
    std::thread::scope(|scope| {
        for partition in 0..2 {
            let mut reader = stream.reader(partition, 0).unwrap();
            scope.spawn(move || read_to(&mut *reader, partition, count));
        }
        scope.spawn(|| {
            for command in ["kill", "stop"] {
                std::thread::sleep(Duration::from_millis(150));
                script(port, command).unwrap();
                assert_eq!(script(port, "start").as_deref(), Some(brokers));
            }
        });
        write(&stream, 0, count);
    });
    assert_eq!(stream.end_offset(0).unwrap(), count);
    println!(
        "the clients got over {} troubles, the last: {}",
        stream.health().troubles(),
        stream.health().last()
    );
    assert!(stream.health().troubles() > 0, "the broker was not away at all");
    let mut writer = stream.writer().unwrap();
    writer.send(0, &payload(0, count), NO_ACK).unwrap();
    writer.flush().unwrap();
    read_to(&mut *stream.reader(0, count).unwrap(), 0, count + 1);
}

/// One test, because its parts share a broker that one of them kills.
#[test]
fn a_real_broker() {
    let Ok(brokers) = std::env::var("PIAOGEN_KAFKA") else {
        println!("SKIPPED: PIAOGEN_KAFKA is not set; start a broker with deploy/kafka start");
        eprintln!("SKIPPED: PIAOGEN_KAFKA is not set; start a broker with deploy/kafka start");
        return;
    };
    offsets_and_restarts(&brokers);
    missing_offsets(&brokers);
    transactions(&brokers);
    encrypted_and_with_a_password(&brokers);
    broker_killed_while_writing_and_reading(&brokers);
}
