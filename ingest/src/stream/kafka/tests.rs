//! Faults of a cluster, by the client library's mock of one; the real thing is in `tests/kafka.rs`.

use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::stream::{Ack, Batch, NO_ACK};

const TOPIC: &str = "records";
const PATIENCE: Duration = Duration::from_secs(120);

type Mock = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> (Mock, KafkaOptions) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 2, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let options = KafkaOptions { brokers, patience: PATIENCE, ..KafkaOptions::default() };
    (cluster, options)
}

fn write(stream: &KafkaStream, partition: u32, range: std::ops::Range<u64>) {
    let mut writer = stream.writer().unwrap();
    for i in range {
        writer.send_waiting(partition, &i.to_le_bytes(), NO_ACK, PATIENCE).unwrap();
    }
    writer.flush().unwrap();
}

/// Reads numbers until `end` is reached; they have to equal their offsets.
fn read(reader: &mut dyn Reader, end: u64) -> Result<(), StreamError> {
    let begun = Instant::now();
    let mut batch = Batch::new(64, 300);
    while reader.next_offset() < end {
        assert!(begun.elapsed() < PATIENCE, "stuck at {}", reader.next_offset());
        batch.clear();
        let next = reader.next_offset();
        reader.poll(&mut batch, Duration::from_millis(50))?;
        for (i, entry) in (next..).zip(batch.iter()) {
            assert_eq!((entry.offset, entry.payload), (i, &i.to_le_bytes()[..]));
        }
        assert_eq!(reader.next_offset(), next + batch.len() as u64);
    }
    Ok(())
}

#[test]
fn settings_that_a_promise_rests_on_cannot_be_changed() {
    let with = |name: &str, value: &str| {
        let properties = [(name.to_string(), value.to_string())].into();
        KafkaOptions { properties, ..KafkaOptions::default() }
    };
    let observer = || Observer(Arc::default());
    for (name, value) in [
        ("auto.offset.reset", "latest"),
        ("isolation.level", "read_uncommitted"),
        ("enable.idempotence", "false"),
        ("request.required.acks", "1"),
        ("no.such.property", "1"),
        ("security.protocol", "carrier-pigeon"),
    ] {
        let error = with(name, value).consumer(observer()).err().unwrap();
        assert!(matches!(error, StreamError::Refused(_)), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let few = KafkaOptions { fetch_bytes: 1000, ..KafkaOptions::default() };
    assert!(matches!(few.consumer(observer()), Err(StreamError::Refused(_))));
    with("security.protocol", "ssl").consumer(observer()).unwrap();
    with("ssl.endpoint.identification.algorithm", "https").consumer(observer()).unwrap();
}

#[test]
fn records_come_back_in_order_from_any_offset() {
    let (_cluster, options) = cluster();
    let stream = KafkaStream::open(&options, TOPIC).unwrap();
    assert_eq!((stream.name(), stream.partitions()), (TOPIC, 2));
    let mut writer = stream.writer().unwrap();
    for i in 0..1000_u64 {
        writer.send_waiting(1, &i.to_le_bytes(), 5000 + i, PATIENCE).unwrap();
    }
    writer.flush().unwrap();
    let mut acks = Vec::new();
    while acks.len() < 1000 {
        writer.poll_acks(&mut acks).unwrap();
    }
    let expected = (0..1000).map(|offset| Ack { token: 5000 + offset, partition: 1, offset });
    assert!(acks.into_iter().eq(expected));
    assert_eq!((stream.end_offset(0).unwrap(), stream.end_offset(1).unwrap()), (0, 1000));
    for from in [0, 1, 777, 999, 1000] {
        read(&mut *stream.reader(1, from).unwrap(), 1000).unwrap();
    }
    assert!(matches!(stream.reader(1, 1001), Err(StreamError::Fatal(_))));
    assert!(matches!(stream.reader(2, 0), Err(StreamError::Refused(_))));
}

#[test]
fn passing_faults_are_waited_out_and_lose_or_double_nothing() {
    let (cluster, options) = cluster();
    let stream = KafkaStream::open(&options, TOPIC).unwrap();
    let passing = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ];
    cluster.request_errors(RDKafkaApiKey::Produce, &passing);
    write(&stream, 0, 0..500);
    cluster.request_errors(RDKafkaApiKey::Fetch, &passing);
    let mut reader = stream.reader(0, 0).unwrap();
    read(&mut *reader, 500).unwrap();
    assert_eq!(stream.end_offset(0).unwrap(), 500);

    cluster.broker_down(1).unwrap();
    let (mut batch, before, begun) = (Batch::new(1, 1), stream.health().troubles(), Instant::now());
    while stream.health().troubles() == before {
        assert!(begun.elapsed() < PATIENCE, "nobody says that the broker is away");
        reader.poll(&mut batch, Duration::from_millis(300)).unwrap();
        assert!(batch.is_empty());
    }
    assert!(!stream.health().last().is_empty());
    cluster.broker_up(1).unwrap();
    write(&stream, 0, 500..600);
    read(&mut *reader, 600).unwrap();
}

#[test]
fn an_absent_cluster_is_busy_and_an_absent_topic_refused() {
    let (cluster, mut options) = cluster();
    assert!(matches!(KafkaStream::open(&options, "other"), Err(StreamError::Refused(_))));
    let mut stream = KafkaStream::open(&options, TOPIC).unwrap();
    // With what is there it is patient, with what is not it would be for long.
    options.patience = Duration::from_millis(500);
    stream.options.patience = options.patience;
    let mut writer = stream.writer().unwrap();
    cluster.broker_down(1).unwrap();
    writer.send(0, b"a record", 7).unwrap();
    assert!(writer.flush().unwrap_err().is_busy());
    assert!(stream.end_offset(0).unwrap_err().is_busy());
    assert!(KafkaStream::open(&options, TOPIC).err().unwrap().is_busy());
    cluster.broker_up(1).unwrap();
    let begun = Instant::now();
    while let Err(error) = writer.flush() {
        assert!(error.is_busy() && begun.elapsed() < PATIENCE, "{error}");
    }
    let mut acks = Vec::new();
    writer.poll_acks(&mut acks).unwrap();
    assert_eq!(acks, [Ack { token: 7, partition: 0, offset: 0 }]);
}

#[test]
fn what_could_hide_a_loss_is_fatal_and_stays_so() {
    for fault in [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    ] {
        let (cluster, options) = cluster();
        let stream = KafkaStream::open(&options, TOPIC).unwrap();
        write(&stream, 0, 0..10);
        cluster.request_errors(RDKafkaApiKey::Fetch, &[fault; 3]);
        let mut reader = stream.reader(0, 0).unwrap();
        let error = read(&mut *reader, 10).unwrap_err();
        assert!(matches!(error, StreamError::Fatal(_)), "{error}");
        let mut batch = Batch::new(1, 1);
        assert_eq!(reader.poll(&mut batch, Duration::from_millis(200)), Err(error));
        assert!(batch.is_empty());
    }
}

#[test]
fn a_record_that_cannot_be_written_stops_the_writer() {
    let (cluster, options) = cluster();
    let stream = KafkaStream::open(&options, TOPIC).unwrap();
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::Produce, &[denied]);
    let mut writer = stream.writer().unwrap();
    writer.send(0, b"a record", 1).unwrap();
    let error = writer.flush().unwrap_err();
    assert!(matches!(error, StreamError::Fatal(_)), "{error}");
    assert_eq!(writer.send(0, b"another", 2), Err(error));
}

#[test]
fn a_full_queue_is_busy() {
    let (cluster, options) = cluster();
    let options = KafkaOptions { queue_records: 10, ..options };
    let stream = KafkaStream::open(&options, TOPIC).unwrap();
    let mut writer = stream.writer().unwrap();
    cluster.broker_down(1).unwrap();
    for _ in 0..10 {
        writer.send(0, b"", NO_ACK).unwrap();
    }
    assert!(writer.send(0, b"", NO_ACK).unwrap_err().is_busy());
    assert!(matches!(writer.send(2, b"", NO_ACK), Err(StreamError::Refused(_))));
}
