//! Flushes, seals and carries alerts, beside execution.
//!
//! Invariants
//! - After a failure nothing more is written, so that it can be looked into.

use super::alerts::Courier;
use super::archiver::Archiver;
use super::chain::Chain;
use super::intake::Intake;
use super::metrics::Metrics;
use super::spawn;
use anyhow::Result;
use piaogen_ingest::check::Signatures;
use piaogen_ingest::stream::Stream;
use piaogen_storage::Store;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Flushes and archives beside execution.
#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) store: Arc<Store>,
    pub(super) chain: Arc<Chain>,
    pub(super) intake: Arc<Intake>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) archiver: Arc<Archiver>,
    pub(super) signatures: Arc<Signatures>,
    pub(super) stopping: Arc<AtomicBool>,
    pub(super) flush_interval: Duration,
}

impl Keeper {
    /// Starts the threads that flush, seal and carry alerts.
    pub(super) fn start(
        self,
        alerts: Option<Arc<dyn Stream>>,
        dir: &Path,
    ) -> Result<Vec<JoinHandle<()>>> {
        let mut threads = Vec::new();
        if let Some(topic) = alerts {
            let courier = Courier { dir: dir.into(), topic, stopping: self.stopping.clone() };
            let carrying = self.clone();
            threads.push(spawn("alerts", move || carrying.carry(&courier))?);
        }
        let sealing = self.clone();
        threads.push(spawn("flush", move || self.flush())?);
        threads.push(spawn("archive", move || sealing.archive())?);
        Ok(threads)
    }

    /// Whether to end: after a failure nothing more is written, so that it can be looked into.
    fn ended(&self) -> bool {
        self.stopping.load(Ordering::SeqCst) || self.chain.failure().is_some()
    }

    fn flush(&self) {
        let mut last = Instant::now();
        while !self.ended() {
            std::thread::sleep(Duration::from_millis(20));
            self.metrics.key_tables(&self.signatures.stats());
            let due =
                self.store.should_flush().unwrap_or(false) || last.elapsed() >= self.flush_interval;
            if !due {
                continue;
            }
            let begun = Instant::now();
            match self.store.flush() {
                Ok(height) => self.metrics.flushed(height, begun.elapsed().as_secs_f64()),
                Err(error) => return self.fail(&format!("flushing: {error}")),
            }
            last = Instant::now();
            if let Ok(sizes) = self.store.sizes() {
                for (name, bytes) in [
                    ("log", sizes.log),
                    ("status", sizes.status),
                    ("index", sizes.index),
                    ("tail", sizes.tail),
                    ("blocks", sizes.blocks),
                ] {
                    self.metrics.store(name, bytes);
                }
            }
        }
    }

    fn carry(&self, courier: &Courier) {
        if let Err(error) = courier.run() {
            self.fail(&format!("carrying alerts: {error:#}"));
        }
    }

    fn archive(&self) {
        while !self.ended() {
            match self.archiver.seal_due() {
                Ok(true) => {}
                Ok(false) => std::thread::sleep(Duration::from_millis(50)),
                Err(error) => return self.fail(&format!("archiving: {error:#}")),
            }
        }
    }

    fn fail(&self, why: &str) {
        self.chain.fail(why.into());
        self.intake.stop();
    }
}
