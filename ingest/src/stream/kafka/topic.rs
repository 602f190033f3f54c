//! Creates topics and looks at how they are set.

use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::options::MAX_BATCH;
use super::{Health, KafkaOptions, Observer, passes, retry};
use crate::stream::StreamError;

/// How long to wait for how a topic is set, which is nice to know.
const LOOK: Duration = Duration::from_secs(3);

/// Creates a topic that keeps everything, unless it exists; refuses another partition count.
///
/// With three or more copies, two have to be in sync before a record counts as written.
pub fn ensure_topic(
    options: &KafkaOptions,
    topic: &str,
    partitions: u32,
    copies: u32,
) -> Result<(), StreamError> {
    let (Ok(count), Ok(replication)) = (i32::try_from(partitions), i32::try_from(copies)) else {
        return Err(StreamError::Refused(format!(
            "topic {topic}: {partitions} partitions with {copies} copies; both are far smaller"
        )));
    };
    let admin = options.admin()?;
    let consumer = options.consumer(Observer(Health::default().into()))?;
    let begun = Instant::now();
    let largest = MAX_BATCH.to_string();
    let in_sync = if copies >= 3 { "2" } else { "1" };
    while super::topic::partitions(&consumer, topic, options.patience)?.is_none() {
        let new = NewTopic::new(topic, count, TopicReplication::Fixed(replication))
            .set("cleanup.policy", "delete")
            .set("retention.ms", "-1")
            .set("retention.bytes", "-1")
            .set("max.message.bytes", &largest)
            .set("min.insync.replicas", in_sync);
        let what = format!("create topic {topic} with {partitions} partitions, {copies} copies");
        let limits = AdminOptions::new()
            .request_timeout(Some(options.patience))
            .operation_timeout(Some(options.patience));
        let answers = retry(&what, options.patience, |_| {
            block_on(admin.create_topics(std::slice::from_ref(&new), &limits))
        })?;
        for (_, code) in answers.into_iter().filter_map(Result::err) {
            if code != RDKafkaErrorCode::TopicAlreadyExists && !passes(code) {
                return Err(StreamError::Refused(format!(
                    "Kafka: {what}: {code}; check the numbers and the access rights"
                )));
            }
        }
        if begun.elapsed() >= options.patience {
            return Err(StreamError::Busy(format!(
                "Kafka: {what}: not there after {} s; check that the brokers run",
                options.patience.as_secs_f32()
            )));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let found = super::topic::partitions(&consumer, topic, options.patience)?;
    if found == Some(partitions) {
        return Ok(());
    }
    Err(StreamError::Refused(format!(
        "topic {topic} has {} partitions, not {partitions}; a topic keeps its count: correct the \
         configuration or choose another topic",
        found.unwrap_or(0)
    )))
}

/// Deletes the records of a partition below an offset, on all brokers.
pub(super) fn delete_records(
    options: &KafkaOptions,
    topic: &str,
    partition: u32,
    offset: u64,
) -> Result<(), StreamError> {
    let what = format!("delete the records of {topic} partition {partition} below {offset}");
    let refused = |error: &dyn std::fmt::Display| {
        StreamError::Refused(format!("Kafka: {what}: {error}; check the access rights (DELETE)"))
    };
    let mut below = TopicPartitionList::new();
    let at = i64::try_from(offset).map_err(|error| refused(&error))?;
    let place = below.add_partition_offset(topic, partition as i32, Offset::Offset(at));
    place.map_err(|error| refused(&error))?;
    let admin = options.admin()?;
    let limits = AdminOptions::new()
        .request_timeout(Some(options.patience))
        .operation_timeout(Some(options.patience));
    let answer =
        retry(&what, options.patience, |_| block_on(admin.delete_records(&below, &limits)))?;
    let elements = answer.elements();
    elements.iter().try_for_each(|element| element.error()).map_err(|error| refused(&error))
}

/// How many partitions a topic has once each of them has a leader; nothing when it does not exist.
pub(super) fn partitions(
    consumer: &BaseConsumer<Observer>,
    topic: &str,
    patience: Duration,
) -> Result<Option<u32>, StreamError> {
    let what = format!("ask for topic {topic}");
    let begun = Instant::now();
    loop {
        let answer = retry(&what, patience, |left| consumer.fetch_metadata(Some(topic), left))
            .map_err(|error| with_cause(consumer, error))?;
        let Some(found) = answer.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None if found.partitions().iter().all(|p| p.leader() >= 0) => {
                let count = u32::try_from(found.partitions().len()).unwrap_or(0);
                return Ok(Some(count).filter(|&count| count > 0));
            }
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition,
            ) => return Ok(None),
            Some(code) if !passes(code) => {
                return Err(StreamError::Refused(format!(
                    "Kafka: {what}: {code}; check its name and the access rights"
                )));
            }
            _ if begun.elapsed() >= patience => {
                return Err(StreamError::Busy(format!(
                    "Kafka: {what}: partitions without a leader after {} s; check the brokers",
                    patience.as_secs_f32()
                )));
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// A wrong password or certificate looks like a broker that is away, until one hears what the
/// client said of the connection. That comes with its events.
fn with_cause(consumer: &BaseConsumer<Observer>, error: StreamError) -> StreamError {
    while consumer.poll(Duration::ZERO).is_some() {}
    match (error, consumer.context().0.last()) {
        (StreamError::Busy(said), last) if !last.is_empty() => {
            StreamError::Busy(format!("{said}; the connection: {last}"))
        }
        (error, _) => error,
    }
}

/// The topic's clean-up policy, if the cluster tells us.
///
/// Not everybody may ask for it, so no answer is no error: creating the topic set it right.
pub(super) fn cleanup_policy(options: &KafkaOptions, topic: &str) -> Option<String> {
    let admin = options.admin().ok()?;
    let limits = AdminOptions::new().request_timeout(Some(options.patience.min(LOOK)));
    let asked = [ResourceSpecifier::Topic(topic)];
    let answers = block_on(admin.describe_configs(&asked, &limits)).ok()?;
    let resource = answers.into_iter().next()?.ok()?;
    resource.get("cleanup.policy")?.value.clone()
}
