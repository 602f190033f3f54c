//! Says what carries records into a stream.
//!
//! A sink for Kafka is in [`crate::kafka`]; the embedded log's writer is joined in where both are
//! known. Sending is asynchronous: a record is done when its acknowledgement, with its offset, was
//! polled.
//!
//! Invariants
//! - Records of one partition keep the order in which they were sent.
//! - A record that was refused with `Busy` was not taken and may be sent again.

/// Why a sink did not take a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Its queue is full: poll, wait, send again.
    #[error("the stream takes nothing at the moment (its queue is full); poll and send again")]
    Busy,
    /// The stream is lost to this sink.
    #[error("the stream failed: {0}; records without an acknowledgement may be lost, start again")]
    Fatal(String),
}

/// Says that a record is durable in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// What `send` was given.
    pub token: u64,
    /// Its partition; the number of partitions stands for the topic `registry`.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
}

/// Carries records into a stream.
pub trait Sink {
    /// Takes one record for a partition; the number of partitions stands for `registry`.
    fn send(&mut self, partition: u32, payload: &[u8], token: u64) -> Result<(), SendError>;

    /// Appends the acknowledgements that arrived; waits for nothing.
    fn poll_acks(&mut self, out: &mut Vec<Ack>) -> Result<(), SendError>;

    /// Waits until all that was sent is acknowledged; `poll_acks` then gives what is left.
    fn flush(&mut self) -> Result<(), SendError>;
}

/// A sink that keeps everything, for tests.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What was sent, by partition.
    pub partitions: std::collections::BTreeMap<u32, Vec<Vec<u8>>>,
    acks: Vec<Ack>,
}

impl Sink for Memory {
    fn send(&mut self, partition: u32, payload: &[u8], token: u64) -> Result<(), SendError> {
        let stream = self.partitions.entry(partition).or_default();
        self.acks.push(Ack { token, partition, offset: stream.len() as u64 });
        stream.push(payload.to_vec());
        Ok(())
    }

    fn poll_acks(&mut self, out: &mut Vec<Ack>) -> Result<(), SendError> {
        out.append(&mut self.acks);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SendError> {
        Ok(())
    }
}
