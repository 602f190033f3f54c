//! Measures what changing statuses costs as a shard grows.
//!
//! `cargo run --release -p piaogen-node --example status_speed -- [CHANGES] [TOUCHED] [FOLDER]`
//!
//! For shards of 1, 10 and 100 million invoices: blocks of CHANGES (default 10,000) changes at
//! random places, half of them on invoices that were touched before, after TOUCHED (default
//! 200,000) others; one thread. Printed are the time of each step for a change, what a block of a
//! single change costs, and what a touched invoice takes on disk. Invoices themselves are only
//! counted: the tree does not depend on them.

use anyhow::Result;
use piaogen_anchor::{Index, tree};
use piaogen_crypto::{Digest, Lanes, sm3};
use piaogen_node::run::execute::StoreIndex;
use piaogen_storage::{Block, HEADER_BYTES, ShardEffects, ShardState, Store, StoreConfig};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// About what a booked and pledged invoice has.
const DOCUMENT: usize = 700;
const BLOCKS: u64 = 10;

struct Run {
    store: Store,
    height: u64,
    invoices: u64,
    seed: u64,
    touched: Vec<u64>,
}

#[derive(Default)]
struct Times {
    read: Duration,
    tree: Duration,
    apply: Duration,
}

impl Run {
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.seed >> 20
    }

    fn place(&mut self, again: bool) -> u64 {
        let random = self.random();
        match again && !self.touched.is_empty() {
            true => self.touched[(random % self.touched.len() as u64) as usize],
            false => random % self.invoices,
        }
    }

    /// One block of changes.
    fn block(&mut self, changes: u64, again: bool, times: &mut Times) -> Result<()> {
        self.height += 1;
        let (cut, finalization) = (vec![0], vec![0]);
        let header = vec![0; HEADER_BYTES];
        self.store.append_block(&Block { height: self.height, header, cut, finalization })?;
        let changed: BTreeMap<u64, Digest> = (0..changes)
            .map(|n| {
                let at = self.place(again && n % 2 == 0);
                (at, sm3::hash(&[at.to_be_bytes(), self.height.to_be_bytes()].concat()))
            })
            .collect();
        let issues: Vec<u64> = changed.keys().copied().collect();
        let index = StoreIndex { store: &self.store, shard: 0 };
        let begun = Instant::now();
        self.store.statuses(0, &issues)?;
        let leaves: Vec<(u8, u64)> = issues.iter().map(|issue| (0, *issue)).collect();
        index.status_nodes(&leaves)?;
        times.read += begun.elapsed();
        let begun = Instant::now();
        let changed: Vec<(u64, Digest)> = changed.into_iter().collect();
        let (nodes, root) = tree::update(Lanes::detect(), &index, self.invoices, &changed)?;
        times.tree += begun.elapsed();
        let state =
            ShardState { invoices: self.invoices, status_root: root, ..ShardState::default() };
        let documents = issues.iter().map(|issue| (*issue, document(*issue, self.height)));
        let effects = ShardEffects {
            status_nodes: nodes,
            status_documents: documents.collect(),
            state,
            ..ShardEffects::default()
        };
        let begun = Instant::now();
        self.store.apply(self.height, vec![effects])?;
        times.apply += begun.elapsed();
        self.touched.extend(issues);
        Ok(())
    }
}

/// Bytes that compress about as little as secrets and digests do.
fn document(issue: u64, height: u64) -> Vec<u8> {
    let seed = sm3::hash(&[issue.to_be_bytes(), height.to_be_bytes()].concat());
    let mut bytes = vec![b'a'; DOCUMENT];
    bytes[..32].copy_from_slice(&seed);
    bytes
}

fn measure(folder: &Path, invoices: u64, changes: u64, touched: u64) -> Result<()> {
    let folder = folder.join(invoices.to_string());
    let mut config = StoreConfig::new([1; 32], 1);
    config.flush_bytes = 1 << 30;
    let store = Store::open(&folder, config)?;
    let genesis =
        Block { height: 0, header: vec![0; HEADER_BYTES], cut: vec![0], finalization: Vec::new() };
    store.append_block(&genesis)?;
    let mut run = Run { store, height: 0, invoices, seed: invoices, touched: Vec::new() };
    let mut ignored = Times::default();
    while (run.touched.len() as u64) < touched {
        run.block(20_000.min(touched), false, &mut ignored)?;
        run.store.flush()?;
    }
    let (before, mut times, mut flushing) = (run.store.sizes()?, Times::default(), Duration::ZERO);
    for _ in 0..BLOCKS {
        run.block(changes, true, &mut times)?;
        let begun = Instant::now();
        run.store.flush()?;
        flushing += begun.elapsed();
    }
    let mut single = Times::default();
    for _ in 0..200 {
        run.block(1, true, &mut single)?;
    }
    let each = |took: Duration, of: u64| took.as_secs_f64() * 1e6 / of as f64;
    let all = changes * BLOCKS;
    println!(
        "{invoices:>11} invoices: read {:>5.2} tree {:>5.2} apply {:>5.2} flush {:>6.2} us a \
         change; alone {:>6.1} us; {:.0} bytes of tree and {:.0} of index a touched invoice",
        each(times.read, all),
        each(times.tree, all),
        each(times.apply, all),
        each(flushing, all),
        each(single.read + single.tree + single.apply, 200),
        before.status as f64 / touched as f64,
        before.index as f64 / touched as f64,
    );
    Ok(())
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let changes = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let touched = arguments.next().map_or(Ok(200_000), |text| text.parse())?;
    let folder = arguments
        .next()
        .unwrap_or_else(|| std::env::temp_dir().join("piaogen-status").display().to_string());
    for invoices in [1_000_000, 10_000_000, 100_000_000] {
        measure(Path::new(&folder), invoices, changes, touched)?;
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
