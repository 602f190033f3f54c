//! Serves metrics, health, receipts, headers, tiles and proofs of a running node.
//!
//! Invariants
//! - A status is answered with what everybody may know, whoever asks.
//! - Cosignatures are handed out over this node's own history only.

use crate::run::Node;
use crate::run::chain::Provable;
use crate::run::receipts::{Prover, ROWS_BYTES, Show};
use crate::run::statuses::Ahead;
use crate::site::read_bounded;
use crate::snapshot::stand::Stand;
use anyhow::{Context, Result};
use piaogen_api::{Source, Unanswered};
use piaogen_storage::Store;
use piaogen_verify::checkpoint::{CHECKPOINT_MAX, Checkpoint};
use piaogen_verify::entry::SUBJECT_MAX;
use piaogen_verify::follow::Link;
use piaogen_verify::record;
use piaogen_verify::status::Right;
use piaogen_verify::tiles::{HEIGHT, Log, Part, Tile, encode_bundle};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How many may wait for the header that proves a status, and how long.
const WAITING_MAX: usize = 8;
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of receipts after which an answer has enough: who asks goes on behind them.
const ANSWER_BYTES: usize = 16 << 20;

/// What a node hands out besides what it computes.
#[derive(Clone, Debug, Default)]
pub struct Offers {
    /// The folder of a snapshot.
    pub snapshot: Option<PathBuf>,
    /// A checkpoint with cosignatures for receipts.
    pub cosigned: Option<PathBuf>,
}

/// A running node as the HTTP answers see it.
pub struct Answers {
    node: Arc<Node>,
    offers: Offers,
    waiting: Semaphore,
}

/// What is read, or an error for the log.
fn found<T>(what: &str, result: Result<T>) -> Result<T, Unanswered> {
    result.map_err(|error| {
        tracing::warn!(%what, error = format!("{error:#}"), "a request cannot be answered");
        Unanswered::Failed
    })
}

fn absent(why: impl Into<String>) -> Unanswered {
    Unanswered::Absent(why.into())
}

impl Answers {
    fn prover(&self, provable: Provable) -> Prover<'_, Store> {
        Prover { store: &self.node.store, archive: self.node.archiver.archive(), provable }
    }

    fn provable(&self) -> Result<Provable, Unanswered> {
        self.node.chain.provable().ok_or_else(|| absent("no header proves anything yet"))
    }

    /// The checkpoint that is handed out with receipts, as it is now, and the newest header in its
    /// log; none before there is one.
    fn cosigned(&self) -> Result<Option<(Provable, Checkpoint)>, Unanswered> {
        let none = || absent("this node hands out no cosignatures: its store.cosigned is empty");
        let path = self.offers.cosigned.as_ref().ok_or_else(none)?;
        let read = || -> Result<Option<Checkpoint>> {
            let Some(note) = read_bounded(path, CHECKPOINT_MAX as u64)? else { return Ok(None) };
            let note = String::from_utf8(note).context("the checkpoint is no text")?;
            Ok(Some(Checkpoint::parse(&note)?))
        };
        let Some(checkpoint) = found("cosignatures", read())? else { return Ok(None) };
        // Witnesses may follow a node that is ahead of this one.
        let known = self.node.store.history_size().map_err(Into::into);
        if checkpoint.size > found("the log of headers", known)? {
            return Ok(None);
        }
        let provable = self.node.chain.provable_below(checkpoint.size);
        Ok(provable.map(|provable| (provable, checkpoint)))
    }

    fn collect(
        &self,
        provable: Provable,
        cosigned: Option<&Checkpoint>,
        (partition, offset): (u32, u64),
        count: u64,
    ) -> Result<Vec<Vec<u8>>> {
        let prover = self.prover(provable);
        let Some(first) = prover.index_of_offset(partition, offset)? else {
            return Ok(Vec::new());
        };
        let (mut receipts, mut bytes) = (Vec::new(), 0);
        for row in prover.rows(partition, first, count)? {
            let mut receipt = prover.receipt(partition, &row, &Show::All)?;
            if let Some(checkpoint) = cosigned {
                prover.cosign(&mut receipt, checkpoint)?;
            }
            let receipt = receipt.encode();
            bytes += receipt.len();
            receipts.push(receipt);
            if bytes > ANSWER_BYTES {
                break;
            }
        }
        Ok(receipts)
    }

    /// The proof of a status under this header; none where no such invoice is provable.
    fn status_under(&self, provable: Provable, subject: &[u8]) -> Result<Option<Vec<u8>>> {
        let partitions = provable.shards.len() as u32 - 1;
        let (shard, prover) = (record::partition(subject, partitions), self.prover(provable));
        let Some(place) = self.node.store.find(shard, subject)? else { return Ok(None) };
        let Some(entry) = prover.created(shard, subject, &place)? else { return Ok(None) };
        // Which fields a document has is nobody's business either.
        let receipt = prover.receipt_of(shard, place.log_index, entry)?;
        Ok(Some(prover.status_beside(receipt, &Right::Public.parts())?.proof.encode()))
    }

    /// The proof of a status under the newest header. The store remembers the state under it; only
    /// where blocks without certificates of their own lie above is the next header waited for.
    fn status_of(&self, subject: &[u8]) -> Result<Option<Vec<u8>>, Unanswered> {
        let until = Instant::now() + PATIENCE;
        let busy = || Unanswered::Busy(Ahead.to_string());
        // Not 404: who asks while the node starts is not to take it for an answer about the invoice.
        let mut provable = self.node.chain.provable().ok_or_else(busy)?;
        let mut turn = None;
        loop {
            let height = provable.header.height;
            match self.status_under(provable, subject) {
                Err(error) if error.is::<Ahead>() => {}
                other => return found("a status", other),
            }
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Err(busy());
            }
            // Who was slow and is asking of an older header than the newest waits for nobody.
            provable = match self.node.chain.provable_after(height, Duration::ZERO) {
                Some(newer) => newer,
                None => {
                    if turn.is_none() {
                        turn = Some(self.waiting.try_acquire().map_err(|_| busy())?);
                    }
                    self.node.chain.provable_after(height, rest).ok_or_else(busy)?
                }
            };
        }
    }

    /// A tile, where the newest header proves all of it. The newest header itself joins its log
    /// when its block is executed.
    fn read(&self, tile: &Tile) -> Result<Option<Vec<u8>>> {
        let Some(provable) = self.node.chain.provable() else { return Ok(None) };
        let size = match tile.log {
            Log::History => provable.header.height + 1,
            Log::Shard(shard) => match provable.shards.get(shard as usize) {
                Some(entry) => entry.log_size,
                None => return Ok(None),
            },
        };
        if !tile.is_in(size) {
            return Ok(None);
        }
        let items = match (tile.part, tile.log) {
            (Part::Hashes(level), log) => return self.hashes(tile, log, level),
            (Part::Entries, Log::History) => {
                let links = self.node.chain.links(tile.first(), tile.width.into())?;
                links.iter().map(Link::encode).collect()
            }
            (Part::Entries, Log::Shard(shard)) => self.entries(tile, shard)?,
        };
        if items.len() < usize::from(tile.width) {
            return Ok(None);
        }
        let bundle = encode_bundle(items.iter().map(Vec::as_slice));
        bundle.map(Some).context("an item of a bundle is too long")
    }

    fn hashes(&self, tile: &Tile, log: Log, level: u8) -> Result<Option<Vec<u8>>> {
        let (store, level) = (&self.node.store, HEIGHT * level);
        let range = tile.first()..tile.first() + u64::from(tile.width);
        let hashes = match log {
            Log::History => store.history_hashes(level, range)?,
            Log::Shard(shard) => store.log_hashes(shard, level, range)?,
        };
        Ok(hashes.map(|hashes| hashes.concat()))
    }

    /// The entries of a bundle: archive and tail may each have a part of it.
    fn entries(&self, tile: &Tile, shard: u32) -> Result<Vec<Vec<u8>>> {
        let (store, archive) = (&self.node.store, self.node.archiver.archive());
        let mut items = Vec::new();
        while items.len() < usize::from(tile.width) {
            let from = tile.first() + items.len() as u64;
            let max = tile.first() + u64::from(tile.width) - from;
            let before = items.len();
            if from < archive.sealed_up_to(shard)? {
                let rows = archive.some_entries(shard, from, max);
                items.extend(rows.map(|row| Ok(row?.entry)).collect::<Result<Vec<_>>>()?);
            } else {
                let rows = store.tail_read(shard, from, max, ROWS_BYTES)?;
                items.extend(rows.iter().map(|row| row.entry.to_vec()));
            }
            if items.len() == before {
                break;
            }
        }
        Ok(items)
    }
}

impl Source for Answers {
    fn role(&self) -> &'static str {
        self.node.role().name()
    }

    fn metrics(&self) -> String {
        self.node.peers();
        self.node.evidence.measure();
        self.node.metrics.text()
    }

    fn failure(&self) -> Option<String> {
        self.node.failure()
    }

    fn unready(&self) -> Option<String> {
        match self.node.chain.provable() {
            Some(_) => None,
            None => Some("no block was made final since the start".into()),
        }
    }

    fn headers(&self, height: u64, count: u64) -> Result<Vec<Vec<u8>>, Unanswered> {
        let links = found("headers", self.node.chain.links(height, count))?;
        Ok(links.iter().map(Link::encode).collect())
    }

    fn snapshot(&self, file: &str) -> Result<Option<Vec<u8>>, Unanswered> {
        let Some(dir) = &self.offers.snapshot else { return Ok(None) };
        match std::fs::read(dir.join(file)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => found("a snapshot", other.map(Some).with_context(|| file.to_string())),
        }
    }

    fn evidence_files(&self) -> Result<String, Unanswered> {
        let files = found("evidence", self.node.evidence.folder().files())?;
        let file = |(name, bytes)| serde_json::json!({"file": name, "bytes": bytes});
        let files: Vec<_> = files.into_iter().map(file).collect();
        Ok(serde_json::json!({ "evidence": files }).to_string())
    }

    fn evidence(&self, file: &str) -> Result<Option<Vec<u8>>, Unanswered> {
        found("evidence", self.node.evidence.folder().read(file))
    }

    fn flushed(&self) -> Result<String, Unanswered> {
        let point = found("the flush point", self.node.store.flushed().map_err(Into::into))?;
        let stand = Stand::of(&self.node.chain.id(), &point);
        found("the flush point", serde_json::to_string(&stand).map_err(Into::into))
    }

    fn head(&self) -> Result<Option<Vec<u8>>, Unanswered> {
        Ok(self.node.chain.provable().map(|provable| provable.head().encode()))
    }

    fn tile(&self, path: &str) -> Result<Option<Vec<u8>>, Unanswered> {
        let tile = Tile::parse(path).ok_or_else(|| absent("the path names no tile"))?;
        found("a tile", self.read(&tile))
    }

    fn receipts(
        &self,
        partition: u32,
        offset: u64,
        count: u64,
        cosigned: bool,
    ) -> Result<Vec<Vec<u8>>, Unanswered> {
        let proves = match cosigned {
            true => self.cosigned()?.map(|(provable, checkpoint)| (provable, Some(checkpoint))),
            false => self.node.chain.provable().map(|provable| (provable, None)),
        };
        let Some((provable, checkpoint)) = proves else { return Ok(Vec::new()) };
        let shards = provable.shards.len();
        if partition as usize >= shards {
            return Err(absent(format!(
                "there is no shard {partition}; they end at {}",
                shards - 1
            )));
        }
        let at = (partition, offset);
        found("receipts", self.collect(provable, checkpoint.as_ref(), at, count))
    }

    fn status(
        &self,
        scheme: &str,
        number: &str,
        seller: Option<&str>,
    ) -> Result<Vec<u8>, Unanswered> {
        let seller = seller.map(str::as_bytes);
        let subject = record::subject(scheme.as_bytes(), seller, number.as_bytes());
        let proof = match subject.len() as u64 {
            0..=SUBJECT_MAX => self.status_of(&subject)?,
            _ => None,
        };
        proof.ok_or_else(|| absent("no such invoice was accepted, or it is not provable yet"))
    }

    fn consistency(&self, older: u64, newer: u64) -> Result<Vec<u8>, Unanswered> {
        let provable = self.provable()?;
        let newest = provable.header.height;
        let proof = found("consistency", self.prover(provable).consistency(older, newer))?;
        let none = || {
            absent(format!(
                "block {newer} has no certificate here, or is not proved yet (the newest is {newest})"
            ))
        };
        Ok(proof.ok_or_else(none)?.encode())
    }
}

/// Serves on a thread of its own until the returned sender is dropped; so many requests at a time.
pub fn start(
    address: SocketAddr,
    node: Arc<Node>,
    requests: usize,
    offers: Offers,
) -> Result<(tokio::sync::oneshot::Sender<()>, std::thread::JoinHandle<std::io::Result<()>>)> {
    // Bound here, so that an address in use is an error of the start.
    let listener =
        std::net::TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("http".into()).spawn(move || {
        // What blocks has threads of its own.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let until = async move {
            // Either way, the node ends.
            let _ = ended.await;
        };
        let answers = Arc::new(Answers { node, offers, waiting: Semaphore::new(WAITING_MAX) });
        runtime.block_on(piaogen_api::serve(listener, answers, requests, until))
    })?;
    Ok((end, thread))
}
