//! Joins load generators with streams and nodes: sinks that send, sources of receipts.

use crate::run::receipts::{Prover, Show};
use crate::run::{Fatal, Node};
use anyhow::{Context, Result, ensure};
use piaogen_ingest::stream::{self, Stream, StreamError, Writer};
use piaogen_loadgen::outcomes::ReceiptSource;
use piaogen_loadgen::send::{Ack, SendError, Sink};
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sends into two topics of any carrier.
pub struct StreamSink {
    partitions: u32,
    records: Box<dyn Writer>,
    registry: Box<dyn Writer>,
    acks: Vec<stream::Ack>,
}

impl StreamSink {
    /// Opens a writer for each topic.
    pub fn open(records: &dyn Stream, registry: &dyn Stream) -> Result<StreamSink, StreamError> {
        Ok(StreamSink {
            partitions: records.partitions(),
            records: records.writer()?,
            registry: registry.writer()?,
            acks: Vec::new(),
        })
    }
}

fn to_send(error: StreamError) -> SendError {
    match error {
        StreamError::Busy(_) => SendError::Busy,
        other => SendError::Fatal(other.to_string()),
    }
}

impl Sink for StreamSink {
    fn send(&mut self, partition: u32, payload: &[u8], token: u64) -> Result<(), SendError> {
        if partition == self.partitions {
            self.registry.send(0, payload, token).map_err(to_send)
        } else {
            self.records.send(partition, payload, token).map_err(to_send)
        }
    }

    fn poll_acks(&mut self, out: &mut Vec<Ack>) -> Result<(), SendError> {
        for registry in [false, true] {
            self.acks.clear();
            let writer = if registry { &mut self.registry } else { &mut self.records };
            writer.poll_acks(&mut self.acks).map_err(to_send)?;
            out.extend(self.acks.iter().map(|ack| Ack {
                token: ack.token,
                partition: if registry { self.partitions } else { ack.partition },
                offset: ack.offset,
            }));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SendError> {
        for writer in [&mut self.records, &mut self.registry] {
            while let Err(error) = writer.flush() {
                if !error.is_busy() {
                    return Err(to_send(error));
                }
            }
        }
        Ok(())
    }
}

/// Receipts that were read ahead, by partition: the next offset asked for is nearly always the next.
#[derive(Default)]
struct Ahead {
    ready: VecDeque<(u64, Vec<u8>)>,
}

/// Receipts read at once.
const AHEAD: u64 = 256;

fn take_ahead(
    ahead: &mut BTreeMap<u32, Ahead>,
    partition: u32,
    offset: u64,
    fetch: impl FnOnce() -> Result<Vec<Vec<u8>>>,
) -> Option<Vec<u8>> {
    let ahead = ahead.entry(partition).or_default();
    while ahead.ready.front().is_some_and(|(at, _)| *at < offset) {
        ahead.ready.pop_front();
    }
    if ahead.ready.front().is_none_or(|(at, _)| *at != offset) {
        let receipts = match fetch() {
            Ok(receipts) => receipts,
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "receipts are not to be had now");
                return None;
            }
        };
        ahead.ready = receipts
            .into_iter()
            .filter_map(|bytes| {
                let receipt = piaogen_verify::receipt::Receipt::decode(&bytes).ok()?;
                Some((receipt.entry.offset, bytes))
            })
            .collect();
    }
    match ahead.ready.front() {
        Some((at, _)) if *at == offset => ahead.ready.pop_front().map(|(_, bytes)| bytes),
        _ => None,
    }
}

/// Receipts of a node in this process.
pub struct NodeReceipts {
    node: Arc<Node>,
    ahead: BTreeMap<u32, Ahead>,
}

impl NodeReceipts {
    /// Receipts of this node.
    pub fn new(node: Arc<Node>) -> NodeReceipts {
        NodeReceipts { node, ahead: BTreeMap::new() }
    }
}

impl ReceiptSource for NodeReceipts {
    fn receipt(&mut self, partition: u32, offset: u64) -> Option<Vec<u8>> {
        let node = &self.node;
        take_ahead(&mut self.ahead, partition, offset, || {
            let Some(provable) = node.chain.provable() else { return Ok(Vec::new()) };
            let archive = node.archiver.archive();
            let prover = Prover { store: &*node.store, archive, provable };
            let Some(first) = prover.index_of_offset(partition, offset)? else {
                return Ok(Vec::new());
            };
            let rows = prover.rows(partition, first, AHEAD)?;
            rows.iter()
                .map(|row| Ok(prover.receipt(partition, row, &Show::All)?.encode()))
                .collect()
        })
    }
}

/// Receipts of a node behind HTTP.
pub struct HttpReceipts {
    address: String,
    connection: Option<TcpStream>,
    ahead: BTreeMap<u32, Ahead>,
    /// It did not answer, and is not asked before.
    away_until: Option<Instant>,
}

/// How long a node that did not answer is left alone.
const AWAY: Duration = Duration::from_millis(250);

impl HttpReceipts {
    /// Receipts of the node at `host:port`.
    pub fn new(address: &str) -> HttpReceipts {
        let address = address.trim_start_matches("http://").trim_end_matches('/').to_string();
        HttpReceipts { address, connection: None, ahead: BTreeMap::new(), away_until: None }
    }
}

impl ReceiptSource for HttpReceipts {
    fn receipt(&mut self, partition: u32, offset: u64) -> Option<Vec<u8>> {
        let HttpReceipts { address, connection, ahead, away_until } = self;
        if away_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        take_ahead(ahead, partition, offset, || {
            let path = format!("/v1/receipts/{partition}/{offset}?count={AHEAD}");
            let answer = get(address, connection, &path);
            *away_until = answer.is_err().then(|| Instant::now() + AWAY);
            split(&answer?)
        })
    }
}

/// Most bytes of an answer: as many receipts as are asked for, each at its limit.
const BODY_MAX: usize = 256 << 20;

/// A machine that is cut off does not even refuse.
const CONNECT: Duration = Duration::from_secs(2);

fn connect(address: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// One GET on a connection that is kept. Only what our own server answers is understood.
fn get(address: &str, connection: &mut Option<TcpStream>, path: &str) -> Result<Vec<u8>> {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => {
            let stream = connect(address).with_context(|| format!("connecting to {address}"))?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 16 << 10, "the answer's head is longer than 16 KiB");
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
        .context("the answer has no content-length")?;
    ensure!(length <= BODY_MAX, "the answer has {length} bytes, above {BODY_MAX}");
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    ensure!(head.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(&body).trim());
    *connection = Some(stream);
    Ok(body)
}

/// One GET of a text, on a connection of its own.
pub fn fetch(address: &str, path: &str) -> Result<String> {
    Ok(String::from_utf8(get(address, &mut None, path)?)?)
}

/// The first receipts of a partition that carry cosignatures, at most so many, from a node's port.
pub fn cosigned_receipts(address: &str, partition: u32, count: u64) -> Result<Vec<Vec<u8>>> {
    let path = format!("/v1/receipts/{partition}/0?count={count}&cosigned=1");
    split(&get(address, &mut None, &path)?)
}

/// The receipts of an answer, each behind its length.
pub(crate) fn split(mut body: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut receipts = Vec::new();
    while let Some((length, rest)) = body.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (receipt, rest) = rest.split_at_checked(length).context("the answer is cut short")?;
        receipts.push(receipt.to_vec());
        body = rest;
    }
    Ok(receipts)
}

/// Sends registry records and waits until they are executed, so that they count for what follows.
pub fn register(
    node: &Node,
    sink: &mut dyn Sink,
    records: &[Vec<u8>],
    partitions: u32,
) -> Result<()> {
    for (token, record) in (0..).zip(records) {
        sink.send(partitions, record, token)?;
    }
    sink.flush()?;
    sink.poll_acks(&mut Vec::new())?;
    let wanted = records.len() as u64;
    let begun = Instant::now();
    while node.chain.tip().shards[partitions as usize].log_size < wanted {
        if let Some(failure) = node.failure() {
            return Err(Fatal(failure).into());
        }
        ensure!(begun.elapsed() < Duration::from_secs(300), "registrations do not become final");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
