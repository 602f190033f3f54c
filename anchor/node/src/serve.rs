//! Serves metrics, health, receipts, headers and tiles of a running node.

use crate::run::Node;
use crate::run::receipts::{Prover, ROWS_BYTES, Show};
use anyhow::{Context, Result, ensure};
use piaogen_api::Source;
use piaogen_verify::follow::Link;
use piaogen_verify::tiles::{HEIGHT, Head, Log, Part, Tile, encode_bundle};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A running node as the HTTP answers see it, and the folder of the snapshot that it offers.
pub struct Answers(pub Arc<Node>, pub Option<PathBuf>);

impl Answers {
    fn collect(&self, partition: u32, offset: u64, count: u64) -> Result<Vec<Vec<u8>>> {
        let Some(provable) = self.0.chain.provable() else { return Ok(Vec::new()) };
        let store = &*self.0.store;
        let prover = Prover { store, archive: self.0.archiver.archive(), provable };
        let Some(first) = prover.index_of_offset(partition, offset)? else {
            return Ok(Vec::new());
        };
        let rows = prover.rows(partition, first, count)?;
        rows.iter().map(|row| Ok(prover.receipt(partition, row, &Show::All)?.encode())).collect()
    }

    /// A tile, where the newest header proves all of it.
    fn read(&self, tile: &Tile) -> Result<Option<Vec<u8>>> {
        let Some(provable) = self.0.chain.provable() else { return Ok(None) };
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
            (Part::Hashes(level), log) => return Ok(Some(self.hashes(tile, log, level)?)),
            (Part::Entries, Log::History) => {
                let links = self.0.chain.links(tile.first(), tile.width.into())?;
                links.iter().map(Link::encode).collect()
            }
            (Part::Entries, Log::Shard(shard)) => self.entries(tile, shard)?,
        };
        ensure!(items.len() == usize::from(tile.width), "{tile} is not whole; ask again");
        let bundle = encode_bundle(items.iter().map(Vec::as_slice));
        bundle.map(Some).context("an item of a bundle is too long")
    }

    fn hashes(&self, tile: &Tile, log: Log, level: u8) -> Result<Vec<u8>> {
        let (store, level) = (&self.0.store, HEIGHT * level);
        let range = tile.first()..tile.first() + u64::from(tile.width);
        let hashes = match log {
            Log::History => store.history_hashes(level, range)?,
            Log::Shard(shard) => store.log_hashes(shard, level, range)?,
        };
        Ok(hashes.with_context(|| format!("{tile} is not whole"))?.concat())
    }

    /// The entries of a bundle: archive and tail may each have a part of it.
    fn entries(&self, tile: &Tile, shard: u32) -> Result<Vec<Vec<u8>>> {
        let (store, archive) = (&self.0.store, self.0.archiver.archive());
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
        self.0.role().name()
    }

    fn metrics(&self) -> String {
        self.0.peers();
        self.0.metrics.text()
    }

    fn failure(&self) -> Option<String> {
        self.0.failure()
    }

    fn unready(&self) -> Option<String> {
        match self.0.chain.provable() {
            Some(_) => None,
            None => Some("no block was made final since the start".into()),
        }
    }

    fn headers(&self, height: u64, count: u64) -> Result<Vec<Vec<u8>>, String> {
        let links = self.0.chain.links(height, count).map_err(|error| format!("{error:#}"))?;
        Ok(links.iter().map(Link::encode).collect())
    }

    fn snapshot(&self, file: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(dir) = &self.1 else { return Ok(None) };
        match std::fs::read(dir.join(file)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn head(&self) -> Result<Option<Vec<u8>>, String> {
        let head = self.0.chain.provable().map(|provable| Head {
            changes: provable.changes(),
            header: provable.header,
            certificate: provable.finalization,
            shards: provable.shards,
        });
        Ok(head.map(|head| head.encode()))
    }

    fn tile(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        let tile = Tile::parse(path).ok_or_else(|| format!("{path} names no tile"))?;
        self.read(&tile).map_err(|error| format!("{error:#}"))
    }

    fn receipts(&self, partition: u32, offset: u64, count: u64) -> Result<Vec<Vec<u8>>, String> {
        self.collect(partition, offset, count).map_err(|error| format!("{error:#}"))
    }
}

/// Serves on a thread of its own until the returned sender is dropped; so many requests at a time.
pub fn start(
    address: SocketAddr,
    node: Arc<Node>,
    requests: usize,
    snapshot: Option<PathBuf>,
) -> Result<(tokio::sync::oneshot::Sender<()>, std::thread::JoinHandle<std::io::Result<()>>)> {
    // Bound here, so that an address in use is an error of the start.
    drop(std::net::TcpListener::bind(address).with_context(|| format!("listening on {address}"))?);
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("http".into()).spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let until = async move {
            // Either way, the node ends.
            let _ = ended.await;
        };
        let answers = Arc::new(Answers(node, snapshot));
        runtime.block_on(piaogen_api::serve(address, answers, requests, until))
    })?;
    Ok((end, thread))
}
