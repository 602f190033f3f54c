//! Serves metrics, health, receipts and headers of a running node.

use crate::run::Node;
use crate::run::receipts::{Prover, Show};
use anyhow::{Context, Result};
use piaogen_api::Source;
use piaogen_verify::follow::Link;
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

    fn receipts(&self, partition: u32, offset: u64, count: u64) -> Result<Vec<Vec<u8>>, String> {
        self.collect(partition, offset, count).map_err(|error| format!("{error:#}"))
    }
}

/// Serves on a thread of its own until the returned sender is dropped.
pub fn start(
    address: SocketAddr,
    node: Arc<Node>,
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
        runtime.block_on(piaogen_api::serve(address, Arc::new(Answers(node, snapshot)), until))
    })?;
    Ok((end, thread))
}
