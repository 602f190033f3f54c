//! The running node: intake, ordering, execution, flushing and archiving, joined.
//!
//! Everything that decides lies in crates below; here are the threads and the order in which they
//! begin and end.
//!
//! Invariants
//! - Opening recovers: storage goes back to its last flush point, and the final blocks after it are
//!   executed again from the stream before anything new is proposed.
//! - Stopping loses nothing, and neither does not stopping properly.

pub mod alerts;
pub mod archiver;
pub mod chain;
pub mod epochs;
pub mod execute;
pub mod heads;
pub mod intake;
mod keeping;
pub mod metrics;
mod opening;
pub mod receipts;
pub mod shards;
pub mod statuses;

pub use opening::{parse_block, rebuild_registry, shard_entries};

use alerts::Alerts;
use alerts::again::Rows;
use chain::{BlockPolicy, Chain, Outlets, Start};
use epochs::{Engines, Epochs};
use execute::{Executor, ExecutorParts};
use heads::Heads;
use intake::{Intake, IntakeLimits};
use keeping::Keeper;
use metrics::Metrics;
use opening::{Opened, StoreLog, open_chain, open_readers};

use crate::config::Role;
use crate::evidence::Keeper as EvidenceKeeper;
use anyhow::{Context, Result, ensure};
use archiver::{ArchivePolicy, Archiver};
use piaogen_anchor::log::Log;
use piaogen_anchor::shard::Shard;
use piaogen_crypto::Lanes;
use piaogen_crypto::sm2::{PublicKey, Signer};
use piaogen_ingest::check::{CheckContext, KeyDirectory, Signatures};
use piaogen_ingest::stream::Stream;
use piaogen_order::{NetworkConfig, Peer};
use piaogen_storage::archive::Archive;
use piaogen_storage::{Store, StoreConfig};
use piaogen_verify::genesis::Genesis;
use piaogen_verify::header::Header;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// Locks; what is behind a poisoned lock here is whole, since it is replaced and not patched.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The node no longer knows its own state.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(pub String);

/// A thread that panicked; where, it has said itself.
fn panicked(thread: &str) -> Fatal {
    Fatal(format!("{thread} panicked, and the log says where; a restart recovers"))
}

/// What a node needs in order to run.
pub struct NodeParts {
    /// The data folder.
    pub dir: PathBuf,
    /// The chain.
    pub genesis: Genesis,
    /// The key with which this node votes, where it does, and which its peers know.
    pub key: Arc<dyn Signer>,
    /// The key that takes its place from the first epoch on whose set has it and not the other.
    pub next_key: Option<Arc<dyn Signer>>,
    /// Whether it may vote.
    pub role: Role,
    /// The folder that says how far each key has voted.
    pub signed: PathBuf,
    /// The topic of records.
    pub records: Arc<dyn Stream>,
    /// The topic of the registry.
    pub registry: Arc<dyn Stream>,
    /// Lanes that hash and verify.
    pub lanes: Lanes,
    /// Most bytes of tables of keys that sign often.
    pub key_table_bytes: usize,
    /// What bounds the intake.
    pub intake: IntakeLimits,
    /// Most bytes of remembered fingerprints.
    pub near_duplicate_bytes: usize,
    /// Where alerts are carried to; nowhere where there is none.
    pub alerts: Option<Arc<dyn Stream>>,
    /// When blocks are made.
    pub blocks: BlockPolicy,
    /// How the nodes of the chain reach each other; without it, a validator can only be alone.
    pub peers: Option<PeersPolicy>,
    /// How storage is opened.
    pub store: StoreConfig,
    /// Longest time between flush points.
    pub flush_interval: Duration,
    /// The archive, and when segments are sealed.
    pub archive: Archive,
    /// When segments are sealed.
    pub archive_policy: ArchivePolicy,
    /// Whether signatures are checked; only benchmarks of the other stages leave it out.
    pub signatures: bool,
}

impl NodeParts {
    /// The keys that are this node's.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<dyn Signer>> {
        [Some(&self.key), self.next_key.as_ref()].into_iter().flatten()
    }

    /// Of whom this node has an address, and itself; nothing where it has no peers.
    fn reachable(&self) -> Option<Vec<PublicKey>> {
        let peers = self.peers.as_ref()?.network.peers.iter().map(|(key, _)| key.clone());
        Some(peers.chain(self.keys().map(|key| key.public_key())).collect())
    }
}

/// How the validators of a set reach each other, and how patient they are.
#[derive(Clone, Debug)]
pub struct PeersPolicy {
    /// Where this one listens, and where the others are.
    pub network: NetworkConfig,
    /// How long a leader may take to propose.
    pub leader_timeout: Duration,
}

/// A node that runs.
pub struct Node {
    /// The store, for those who read.
    pub store: Arc<Store>,
    /// The chain.
    pub chain: Arc<Chain>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The archive.
    pub archiver: Arc<Archiver>,
    /// What proves that validators voted twice.
    pub evidence: Arc<EvidenceKeeper>,
    intake: Arc<Intake>,
    ordering: Option<Epochs>,
    executor: Option<JoinHandle<()>>,
    threads: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
    records: Arc<dyn Stream>,
    registry: Arc<dyn Stream>,
    role: Role,
}

/// Refuses a lone node whose keys are not of the set.
fn of_the_set(parts: &NodeParts, start: &Start) -> Result<()> {
    let epoch = start.last.next_epoch().0;
    // Where an epoch ends among blocks that are executed again, its set is not known yet; who has
    // peers may follow without a vote, and ordering says whether.
    if parts.peers.is_none()
        && parts.role == Role::Validator
        && start.tip.header.next_epoch().0 == epoch
    {
        ensure!(
            parts.keys().any(|key| start.set.contains(&key.public_key())),
            "the key of this node is not among the validators of epoch {epoch}: give it the \
             key of one of them (`key` in its configuration), or have it voted in"
        );
    }
    Ok(())
}

impl Node {
    /// Opens the data folder, recovers, and begins to run.
    pub fn start(parts: NodeParts) -> Result<Node> {
        let genesis = &parts.genesis;
        let metrics = Arc::new(Metrics::new().context("metrics")?);
        metrics.role(parts.role);
        let store = Arc::new(Store::open(&parts.dir, parts.store.clone())?);
        for note in &store.recovered().notes {
            tracing::info!(%note, "recovered");
        }
        let opened = open_chain(genesis, &parts.archive, &store)?;
        of_the_set(&parts, &opened.start)?;
        let readers = open_readers(&parts, &opened)?;
        let keys = Arc::new(KeyDirectory::default());
        let intake = Arc::new(Intake::new(readers, parts.intake, keys.clone(), metrics.clone()));
        let entries = &opened.start.tip.shards;
        let shards = entries
            .iter()
            .map(|entry| {
                let log = Log::open(&StoreLog(&store, Some(entry.shard)), entry.log_size)?;
                ensure!(log.root() == entry.log_root, "shard {}: log root differs", entry.shard);
                Ok(Shard::new(entry, log))
            })
            .collect::<Result<Vec<_>>>()?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(parts.intake.workers)
            .thread_name(|i| format!("shard-{i}"))
            .build()?;
        let partitions = genesis.file.partitions as usize;
        let rows = Rows {
            archive: &parts.archive,
            store: &*store,
            lanes: parts.lanes,
            sizes: entries[..partitions].iter().map(|entry| entry.log_size).collect(),
        };
        let alerts = Alerts::open(
            (&parts.dir, store.recovered().height),
            genesis.chain,
            parts.key.clone(),
            parts.near_duplicate_bytes,
            &rows,
            metrics.clone(),
        )?;
        metrics.registry(&opened.registry, opened.start.tip.header.height);
        let executor = Executor::new(ExecutorParts {
            chain: genesis.chain,
            schemes: genesis.file.schemes.clone(),
            clock_skew_ms: genesis.file.clock_skew_ms,
            signatures: parts.signatures,
            lanes: parts.lanes,
            shards,
            registry: opened.registry.clone(),
            keys,
            intake: intake.clone(),
            store: store.clone(),
            metrics: metrics.clone(),
            alerts,
            pool: Arc::new(pool),
            peers: parts.reachable(),
        });
        let engines = Engines::new(&parts)?;
        let (last, finalized) = (opened.start.last, opened.finalization.clone());
        let node = Node::run(parts, opened, store, intake, metrics, executor)?;
        node.order(engines, last, finalized)
    }

    fn run(
        parts: NodeParts,
        opened: Opened,
        store: Arc<Store>,
        intake: Arc<Intake>,
        metrics: Arc<Metrics>,
        executor: Executor,
    ) -> Result<Node> {
        let archiver = Arc::new(Archiver::new(
            parts.archive,
            store.clone(),
            metrics.clone(),
            parts.archive_policy,
        )?);
        let evidence = Arc::new(EvidenceKeeper::new(&parts.dir, metrics.clone()));
        let (finals, receiver) = std::sync::mpsc::channel();
        for block in &opened.again {
            // The receiver is in this function: sending cannot fail.
            finals.send(block.clone()).ok();
        }
        let chain = Arc::new(Chain::new(
            store.clone(),
            intake.clone(),
            metrics.clone(),
            parts.blocks,
            parts.lanes,
            opened.start,
            Outlets { finals, evidence: evidence.clone(), heads: Heads::of(&parts.dir) },
        )?);
        let stopping = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let context = CheckContext {
            chain: parts.genesis.chain,
            schemes: Arc::new(parts.genesis.file.schemes.clone()),
            partitions: parts.genesis.file.partitions,
            signatures: parts.signatures,
            fingerprints: parts.near_duplicate_bytes > 0,
        };
        let signatures = Arc::new(Signatures::new(parts.lanes, parts.key_table_bytes));
        for i in 0..parts.intake.workers {
            threads.push(lane(i, &intake, &context, parts.lanes, &signatures)?);
        }
        let writer = evidence.clone();
        threads.push(spawn("evidence", move || writer.run())?);
        let (executing, main) = (chain.clone(), chain.clone());
        let executor = spawn("execute", move || executing.execute(executor, &receiver))?;
        let keeper = Keeper {
            store: store.clone(),
            chain: main,
            intake: intake.clone(),
            metrics: metrics.clone(),
            archiver: archiver.clone(),
            signatures,
            stopping: stopping.clone(),
            flush_interval: parts.flush_interval,
        };
        threads.extend(keeper.start(parts.alerts, &parts.dir)?);
        Ok(Node {
            store,
            chain,
            metrics,
            archiver,
            evidence,
            intake,
            ordering: None,
            executor: Some(executor),
            threads,
            stopping,
            records: parts.records,
            registry: parts.registry,
            role: parts.role,
        })
    }

    /// Starts ordering; where it does not start, everything else ends.
    fn order(mut self, engines: Engines, last: Header, finalized: Option<Vec<u8>>) -> Result<Node> {
        match order(engines, &self.chain, last, finalized) {
            Ok(ordering) => {
                self.ordering = Some(ordering);
                Ok(self)
            }
            Err(error) => {
                // Why ordering does not start is the answer, whatever else goes wrong now.
                self.stop().ok();
                Err(error)
            }
        }
    }

    /// Why the node ended by itself, if it did.
    pub fn failure(&self) -> Option<String> {
        let ordering = self.ordering.as_ref().and_then(Epochs::failed);
        self.chain.failure().or_else(|| self.intake.failure()).or(ordering)
    }

    /// What the node is there for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The validators of the set, as this one sees them; also measured.
    pub fn peers(&self) -> Vec<Peer> {
        let Some(ordering) = &self.ordering else { return Vec::new() };
        let (view, peers) = ordering.peers();
        self.metrics.peers(view, &peers);
        peers
    }

    /// Whether everything that is in the stream now is executed and provable. Also measures the lag
    /// of each shard.
    pub fn drained(&self) -> Result<bool> {
        let tip = self.chain.tip();
        let mut lags = 0;
        for (shard, state) in tip.shards.iter().enumerate() {
            let end = match shard < self.records.partitions() as usize {
                true => self.records.end_offset(shard as u32)?,
                false => self.registry.end_offset(0)?,
            };
            let lag = end.saturating_sub(state.next_offset);
            self.metrics.lag(shard, lag);
            lags += lag;
        }
        Ok(lags == 0 && self.chain.settled())
    }

    /// Waits until everything that is in the stream now is executed and provable.
    pub fn drain(&self, mut progress: impl FnMut(&Node)) -> Result<()> {
        loop {
            if let Some(failure) = self.failure() {
                return Err(Fatal(failure).into());
            }
            if self.drained()? {
                return Ok(());
            }
            progress(self);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the node: flushes, seals what is in the archive's reach, and waits for all threads.
    pub fn stop(mut self) -> Result<()> {
        let failure = self.failure();
        if let Some(ordering) = self.ordering.take() {
            ordering.stop();
        }
        self.chain.stop();
        if let Some(executor) = self.executor.take() {
            executor.join().map_err(|_| panicked("execution"))?;
        }
        self.intake.stop();
        self.evidence.end();
        self.stopping.store(true, Ordering::SeqCst);
        for thread in std::mem::take(&mut self.threads) {
            let name = thread.thread().name().unwrap_or("a thread").to_string();
            thread.join().map_err(|_| panicked(&name))?;
        }
        if let Some(failure) = failure {
            return Err(Fatal(failure).into());
        }
        self.store.flush()?;
        self.chain.keep_newest();
        self.archiver.seal_all()?;
        Ok(())
    }
}

/// Starts ordering in the epoch of the block after the last final one. Where epochs ended among
/// blocks that are executed again, that is waited for: only then their sets are known.
fn order(
    engines: Engines,
    chain: &Arc<Chain>,
    last: Header,
    finalized: Option<Vec<u8>>,
) -> Result<Epochs> {
    let (epoch, _) = last.next_epoch();
    while chain.turn(None).epoch != epoch {
        if let Some(why) = chain.failure() {
            return Err(Fatal(why).into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // A finalization of the epoch before is no vote of this one's engine.
    let turn = chain.turn(finalized.filter(|_| last.epoch == epoch && last.height > 0));
    Epochs::start(engines, chain, turn).context("ordering does not start")
}

/// A worker that reads and checks records.
fn lane(
    number: usize,
    intake: &Arc<Intake>,
    context: &CheckContext,
    lanes: Lanes,
    signatures: &Arc<Signatures>,
) -> Result<JoinHandle<()>> {
    let (intake, context, signatures) = (intake.clone(), context.clone(), signatures.clone());
    spawn(&format!("lane-{number}"), move || {
        intake.pin(number);
        intake.work(context, lanes, signatures);
    })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .with_context(|| format!("starting thread {name}"))
}
