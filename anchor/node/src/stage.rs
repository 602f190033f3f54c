//! A chain for a scenario: made from a seed in a temporary folder, run in this process, gone with
//! it.
//!
//! Invariants
//! - Nothing of it is left when it is dropped, and nothing outside its folder is touched.

use crate::config::Config;
use crate::run::alerts::outbox;
use crate::run::chain::clock_ms;
use crate::run::{Fatal, Node};
use crate::setup::{self, write_new};
use crate::sinks::{NodeReceipts, StreamSink};
use anyhow::{Context, Result};
use piaogen_ingest::stream::{Batch, Reader, Stream};
use piaogen_loadgen::genesis::demo_chain;
use piaogen_loadgen::scenario::{AlertSource, Stage};
use piaogen_verify::alert::SignedAlert;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Blocks come soon, so that time passes and deadlines end even while nothing is sent.
const BLOCKS: &str = "\n[blocks]\ninterval_ms = 100\nidle_interval_ms = 250\n";
const STREAM: &str = "\n[stream]\nembedded_dir = \"stream\"\n";
/// Longer than anything takes that has not failed.
const PATIENCE: Duration = Duration::from_secs(300);

/// The alerts in the outbox of a node that runs.
struct Outbox {
    reader: Box<dyn Reader>,
    batch: Batch,
}

impl Outbox {
    fn open(dir: &Path) -> Result<Outbox> {
        Ok(Outbox { reader: outbox(dir)?.reader(0, 0)?, batch: Batch::new(10_000, 8 << 20) })
    }
}

impl AlertSource for Outbox {
    fn alerts(&mut self) -> Result<Vec<SignedAlert>> {
        let mut alerts = Vec::new();
        loop {
            self.batch.clear();
            self.reader.poll(&mut self.batch, Duration::from_millis(50))?;
            if self.batch.is_empty() {
                return Ok(alerts);
            }
            for entry in self.batch.iter() {
                let line = std::str::from_utf8(entry.payload).context("an alert is not UTF-8")?;
                alerts.push(SignedAlert::from_json(line).context("an alert is malformed")?);
            }
        }
    }
}

/// A chain with a node of its own.
pub struct OwnChain {
    node: Option<Arc<Node>>,
    folder: TempDir,
}

impl OwnChain {
    /// Makes the chain of a seed, starts its node, and gives what a scenario needs of it.
    pub fn start(seed: u64, partitions: u32) -> Result<(OwnChain, Stage)> {
        let folder = tempfile::tempdir().context("making a temporary folder")?;
        let dir = folder.path();
        let chain = demo_chain(seed, partitions, 1, clock_ms());
        let (validator, authority) = (&chain.validators[0], &chain.authority);
        let genesis = setup::write_chain(dir, &chain.bytes, validator, authority)?;
        let toml = format!("listen = \"\"\n{}{STREAM}{BLOCKS}", setup::BASE_TOML);
        write_new(&dir.join("node.toml"), toml.as_bytes(), false)?;
        let config = Config::load(&dir.join("node.toml"))?;
        let parts = setup::node_parts(&config)?;
        let sink = StreamSink::open(&*parts.records, &*parts.registry)?;
        let node = Arc::new(Node::start(parts)?);
        let stage = Stage {
            genesis,
            authority: chain.authority,
            // The embedded log has one writer; those who race share it.
            sinks: vec![Box::new(sink)],
            receipts: Box::new(NodeReceipts::new(node.clone())),
            alerts: Some(Box::new(Outbox::open(&config.dir)?)),
            patience: PATIENCE,
        };
        Ok((OwnChain { node: Some(node), folder }, stage))
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// The node.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_deref()
    }

    /// Ends the node, after everything else that uses it was dropped; an error where it failed.
    pub fn stop(&mut self) -> Result<()> {
        let Some(node) = self.node.take() else { return Ok(()) };
        if let Some(failure) = node.failure() {
            return Err(Fatal(failure).into());
        }
        Arc::into_inner(node).context("the node is still in use")?.stop()
    }
}
