//! `piaogen node`: runs a node until it is told to end.

use super::Place;
use crate::run::{Fatal, Node};
use crate::{serve, setup};
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// End when everything that is in the stream at the start is executed and provable.
    #[arg(long)]
    until_drained: bool,
    /// Do not check signatures. For benchmarks of the other stages only: the chain then says nothing.
    #[arg(long, hide = true)]
    unchecked_signatures: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let config = arguments.place.config()?;
    let mut parts = setup::node_parts(&config)?;
    parts.signatures = !arguments.unchecked_signatures;
    let told = end_on_signal()?;
    tracing::info!(lanes = config.lanes(), backend = parts.lanes.name(), "starting");
    let node = Arc::new(Node::start(parts)?);
    let server = match config.address()? {
        Some(address) => {
            let offers =
                serve::Offers { snapshot: config.snapshot_dir(), cosigned: config.cosigned_file() };
            Some(serve::start(address, node.clone(), config.limits.http_requests, offers)?)
        }
        None => None,
    };
    eprintln!("running at height {}", node.chain.height());
    let mut last_lag = std::time::Instant::now();
    while !told.load(Ordering::SeqCst) && node.failure().is_none() {
        std::thread::sleep(Duration::from_millis(50));
        if arguments.until_drained && node.drained()? {
            break;
        }
        if last_lag.elapsed() > Duration::from_secs(5) {
            // For the series of lag; a broker that is out of reach is reported by its own.
            let _ = node.drained();
            last_lag = std::time::Instant::now();
        }
    }
    if let Some((end, thread)) = server {
        drop(end);
        if thread.join().is_err() {
            tracing::warn!("the HTTP thread panicked");
        }
    }
    match Arc::try_unwrap(node) {
        Ok(node) => node.stop(),
        Err(_) => Err(Fatal("the HTTP server still holds the node".into()).into()),
    }
}

/// A flag that SIGINT and SIGTERM set.
fn end_on_signal() -> Result<Arc<AtomicBool>> {
    let told = Arc::new(AtomicBool::new(false));
    let flag = told.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut int), Ok(mut term)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
            flag.store(true, Ordering::SeqCst);
        });
    })?;
    Ok(told)
}
