//! Sends through a real broker and reads back what arrived: same bytes, same order, right offsets.
//!
//! Needs `PIAOGEN_KAFKA=host:port` (`deploy/kafka start` prints it); says so loudly without it.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as its test does")]

use piaogen_crypto::Lanes;
use piaogen_loadgen::drive::{Plan, drive};
use piaogen_loadgen::generator::{Generator, GeneratorConfig, Shares};
use piaogen_loadgen::genesis::demo_chain;
use piaogen_loadgen::kafka::{KafkaConfig, KafkaSink};
use piaogen_loadgen::send::{SendError, Sink};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PARTITIONS: u32 = 3;

fn read(brokers: &str, topic: &str, partition: i32, count: usize) -> Vec<(i64, Vec<u8>)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(0)).unwrap();
    consumer.assign(&list).unwrap();
    let mut out = Vec::new();
    while out.len() < count {
        let message =
            consumer.poll(Duration::from_secs(120)).expect("the record is there").unwrap();
        out.push((message.offset(), message.payload().unwrap_or_default().to_vec()));
    }
    out
}

#[test]
fn records_arrive_in_order_with_the_offsets_that_were_acknowledged() {
    let Ok(brokers) = std::env::var("PIAOGEN_KAFKA") else {
        println!("SKIPPED: no broker; set PIAOGEN_KAFKA to what `deploy/kafka start` prints");
        return;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let config = KafkaConfig::new(&brokers, &format!("loadgen-{now}-"), PARTITIONS);
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let topics = [
        NewTopic::new(&config.records_topic, PARTITIONS as i32, TopicReplication::Fixed(1)),
        NewTopic::new(&config.registry_topic, 1, TopicReplication::Fixed(1)),
    ];
    let created = wait_for(admin.create_topics(&topics, &AdminOptions::new()));
    assert!(created.unwrap().iter().all(Result::is_ok));

    let chain = demo_chain(6, PARTITIONS, 1, 1_795_000_000_000);
    let mut of = GeneratorConfig::new(6, &chain.genesis);
    (of.sellers, of.shares) = (8, Shares::with_bad(20_000));
    let generator = Generator::new(of);
    let made = generator.generate_batch(0..5_000, Lanes::detect());
    let mut sink = KafkaSink::new(config.clone()).unwrap();
    let report = drive(&generator, &Plan::new(5_000), &mut sink, None, &mut |_, _| {}).unwrap();
    assert!(report.is_good(), "{}", report.to_text());

    for partition in 0..=PARTITIONS {
        let sent: Vec<&[u8]> =
            made.iter().filter(|g| g.partition == partition).map(|g| g.record.as_slice()).collect();
        let (topic, at) = match partition == PARTITIONS {
            true => (&config.registry_topic, 0),
            false => (&config.records_topic, partition as i32),
        };
        let arrived = read(&brokers, topic, at, sent.len());
        assert!(arrived.iter().map(|(_, bytes)| bytes.as_slice()).eq(sent), "{partition}");
        assert!((0i64..).zip(&arrived).all(|(at, (offset, _))| at == *offset));
    }
}

#[test]
fn a_broker_that_is_not_there_is_fatal_and_says_so() {
    let mut config = KafkaConfig::new("127.0.0.1:9", "", 2);
    config.options.push(("message.timeout.ms".into(), "1500".into()));
    let mut sink = KafkaSink::new(config).unwrap();
    sink.send(0, b"record", 1).unwrap();
    let error = sink.flush().unwrap_err();
    assert!(matches!(error, SendError::Fatal(_)), "{error}");
    let wrong = KafkaConfig {
        options: vec![("no.such.setting".into(), "1".into())],
        ..KafkaConfig::new("127.0.0.1:9", "", 2)
    };
    assert!(KafkaSink::new(wrong).is_err());
}

/// Waits for one future; the client's own threads do the work.
fn wait_for<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park_timeout(Duration::from_millis(100)),
        }
    }
}
