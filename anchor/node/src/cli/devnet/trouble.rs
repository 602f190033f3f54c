//! Trouble for a devnet under load: processes are killed one by one, more of them than may fail,
//! the broker is killed, a validator is cut off from the network; and each time the chain must do
//! what PROTOCOL section 5 says of it.
//!
//! Invariants
//! - What one incident broke is whole again, and has caught up, before the next begins.
//! - What was proved before is kept, and is checked again when all is over.

use super::processes::{Kind, Processes};
use super::sight::{Sight, Table};
use crate::history::open_source;
use crate::sinks::HttpReceipts;
use anyhow::{Context, Result, bail, ensure};
use piaogen_crypto::Digest;
use piaogen_loadgen::outcomes::ReceiptSource;
use piaogen_verify::follow::Follower;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::trust_root::TrustRoot;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Blocks that the others must make without who is away.
const BLOCKS: u64 = 4;
/// For so long a chain that must halt is looked at, again and again until it stands still: what was
/// under way when too many were killed becomes final, and a live one would make several blocks.
const HALTED: Duration = Duration::from_secs(6);
/// How long the broker, or who is cut off, is away.
const AWAY: Duration = Duration::from_secs(5);

/// What happened, and what it cost.
#[derive(Clone, Debug)]
pub(super) struct Incident {
    what: String,
    /// From the fault until all stand together again.
    seconds: f64,
    /// Blocks that were made meanwhile.
    blocks: u64,
    /// Whether records were sent all the while.
    loaded: bool,
}

impl Incident {
    pub(super) fn line(&self) -> String {
        let idle = if self.loaded { "" } else { ", without load" };
        let (seconds, blocks) = (self.seconds, self.blocks);
        format!("{:<44} whole again after {seconds:>5.1} s, {blocks} blocks{idle}", self.what)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "what": self.what, "seconds": self.seconds, "blocks": self.blocks,
            "under_load": self.loaded,
        })
    }
}

/// Who is troubled, and by what.
pub(super) struct Trouble<'a> {
    pub(super) processes: &'a Processes,
    pub(super) table: &'a Table,
    /// The first so many processes are validators.
    pub(super) validators: usize,
    /// A program that knows `kill` and `start`.
    pub(super) broker: Option<&'a Path>,
    /// Whether records are being sent.
    pub(super) loaded: &'a AtomicBool,
}

/// What was proved before the trouble began.
pub(super) struct Proved(Receipt);

/// The receipt of the first record of the first partition, from a node; waits for it.
fn first_receipt(http: &str) -> Result<Receipt> {
    let mut receipts = HttpReceipts::new(http);
    let until = Instant::now() + super::PATIENCE;
    loop {
        if let Some(bytes) = receipts.receipt(0, 0) {
            return Receipt::decode(&bytes).context("the first record's receipt");
        }
        ensure!(Instant::now() < until, "{http} has no receipt of the first record");
        std::thread::sleep(super::GLANCE);
    }
}

impl Trouble<'_> {
    /// All of it, one after the other.
    pub(super) fn run(&self) -> Result<(Proved, Vec<Incident>)> {
        let Kind::Node { http, .. } = &self.processes.posts[0].kind else {
            bail!("the first process of a devnet is a validator");
        };
        let proved = Proved(first_receipt(http)?);
        let mut incidents = Vec::new();
        for index in 0..self.processes.posts.len() {
            let what = format!("{} is killed", self.processes.posts[index].name);
            incidents.push(self.incident(what, || self.kill_one(index))?);
        }
        let many = (self.validators - 1) / 3 + 1;
        let what = format!("{many} of {} validators are killed", self.validators);
        incidents.push(self.incident(what, || self.kill_many(many))?);
        if let Some(program) = self.broker {
            let what = "the broker is killed".to_string();
            incidents.push(self.incident(what, || self.kill_broker(program))?);
        }
        let last = self.validators - 1;
        if self.processes.posts[last].namespace.is_some() {
            let what = format!("{} is cut off", self.processes.posts[last].name);
            incidents.push(self.incident(what, || self.cut_off(last))?);
        }
        Ok((proved, incidents))
    }

    fn incident(&self, what: String, happen: impl Fn() -> Result<()>) -> Result<Incident> {
        let (began, before) = (Instant::now(), self.height()?);
        let loaded = self.loaded.load(Ordering::SeqCst);
        happen().with_context(|| what.clone())?;
        self.together().with_context(|| what.clone())?;
        let blocks = self.height()?.saturating_sub(before);
        let seconds = began.elapsed().as_secs_f64();
        let loaded = loaded && self.loaded.load(Ordering::SeqCst);
        let incident = Incident { what, seconds, blocks, loaded };
        self.table.say(&incident.line());
        Ok(incident)
    }

    /// The height of who is ahead; waits until all nodes that run answer.
    fn height(&self) -> Result<u64> {
        let runs = self.processes.running();
        let answers = |sights: &[Sight]| {
            runs.iter().filter(|index| self.is_node(**index)).all(|at| sights[*at].node().is_some())
        };
        let sights = self.processes.wait("all nodes that run answer", answers)?;
        sights.iter().filter_map(height).max().context("no node runs")
    }

    fn is_node(&self, index: usize) -> bool {
        matches!(self.processes.posts[index].kind, Kind::Node { .. })
    }

    /// Waits until every process has reached where the chain stands now.
    fn together(&self) -> Result<()> {
        let height = self.height()?;
        let there = |sight: &Sight| match &sight.seen {
            super::sight::Seen::Silent => false,
            super::sight::Seen::Node(node) => node.height >= height,
            // Of the block before the newest, at least: the log that a witness signs ends below it.
            super::sight::Seen::Witness { size, .. } => *size >= height,
        };
        let what = format!("all have reached block {height}");
        self.processes.wait(&what, |sights| sights.iter().all(there)).map(|_| ())
    }

    /// Waits until the chain has grown without these.
    fn grows_without(&self, away: &[usize]) -> Result<()> {
        let height = self.height()? + BLOCKS;
        let quorum = self.validators - (self.validators - 1) / 3;
        let what = format!("{quorum} validators have reached block {height}");
        let done = |sights: &[Sight]| {
            let there = |index: &usize| {
                !away.contains(index) && self::height(&sights[*index]) >= Some(height)
            };
            (0..self.validators).filter(there).count() >= quorum
        };
        self.processes.wait(&what, done).map(|_| ())
    }

    fn kill_one(&self, index: usize) -> Result<()> {
        self.processes.kill(index)?;
        self.grows_without(&[index])?;
        self.processes.start(index)
    }

    /// More than may fail: the chain halts, and goes on when they are back.
    fn kill_many(&self, many: usize) -> Result<()> {
        for index in 0..many {
            self.processes.kill(index)?;
        }
        let (until, first) = (Instant::now() + super::PATIENCE, self.height()?);
        let mut before = first;
        loop {
            std::thread::sleep(HALTED);
            let after = self.height()?;
            if after <= before {
                break;
            }
            let late = Instant::now() > until;
            ensure!(!late, "without a quorum the chain went from {first} to {after}");
            before = after;
        }
        for index in 0..many {
            self.processes.start(index)?;
        }
        self.grows_without(&[])
    }

    /// Without the stream there are no records to agree on; with it, all come.
    fn kill_broker(&self, program: &Path) -> Result<()> {
        let tell = |what: &str| {
            let mut command = Command::new(program);
            let status = command.arg(what).stdin(Stdio::null()).stdout(Stdio::null()).status();
            let status = status.with_context(|| format!("starting {}", program.display()))?;
            ensure!(status.success(), "`{} {what}` failed ({status})", program.display());
            Ok(())
        };
        tell("kill")?;
        std::thread::sleep(AWAY);
        self.processes.alive()?;
        tell("start")?;
        let records = |sights: &[Sight]| -> u64 {
            let of = |sight: &Sight| sight.node().map(|node| node.executed_records);
            sights.iter().filter_map(of).min().unwrap_or(0)
        };
        let before = records(&self.processes.look());
        if !self.loaded.load(Ordering::SeqCst) {
            return self.grows_without(&[]);
        }
        self.processes.wait("records arrive again", |now| records(now) > before).map(|_| ())
    }

    fn cut_off(&self, index: usize) -> Result<()> {
        self.processes.cut(index, true)?;
        self.grows_without(&[index])?;
        std::thread::sleep(AWAY);
        self.processes.alive()?;
        self.processes.cut(index, false)
    }
}

fn height(sight: &Sight) -> Option<u64> {
    sight.node().map(|node| node.height)
}

/// Checks what every node shows after the trouble: one history, certified block by block, and the
/// receipt of before. Says how long the history is.
pub(super) fn after(processes: &Processes, trust: &TrustRoot, proved: &Proved) -> Result<u64> {
    proved.0.verify(trust).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    let mut history: BTreeMap<u64, Digest> = BTreeMap::new();
    for post in &processes.posts {
        let Kind::Node { http, .. } = &post.kind else { continue };
        let mut follower = Follower::new(trust)?;
        let mut source = open_source(&format!("http://{http}"))?;
        loop {
            let links = source.links(follower.size(), 500)?;
            if links.is_empty() {
                break;
            }
            for link in links {
                follower.take(&link).with_context(|| post.name.clone())?;
                let (height, digest) = (link.header.height, link.header.digest());
                let other = *history.entry(height).or_insert(digest) != digest;
                ensure!(!other, "{} has another block {height}", post.name);
            }
        }
        let again = first_receipt(http)?;
        again.verify(trust).map_err(|refusal| anyhow::anyhow!("{}: {refusal}", post.name))?;
        let same = again.entry == proved.0.entry;
        ensure!(same, "{} says something else of the first record", post.name);
    }
    Ok(history.len() as u64)
}
