//! Executes blocks: takes the records of the cut, runs the shards beside each other, stores.
//!
//! Invariants
//! - All shards of a block are executed with the registry as it was before the block.
//! - Storage sees a block whole or not at all.

use super::alerts::{Alerts, Found};
use super::intake::Intake;
use super::lock;
use super::metrics::Metrics;
use piaogen_anchor::block::Tip;
use piaogen_anchor::registry::Registry;
use piaogen_anchor::{Context, Effects, Index, Place, Shard, Wait};
use piaogen_crypto::sm2::PublicKey;
use piaogen_crypto::{Digest, Lanes};
use piaogen_ingest::check::KeyDirectory;
use piaogen_ingest::stream::StreamError;
use piaogen_storage::{IdPlace, RowChunk, ShardEffects, ShardState, Store, StoreError};
use piaogen_verify::checked::CheckedBatch;
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::tag;
use piaogen_verify::header::{Cut, Header, ShardEntry, ValidatorSet};
use piaogen_verify::record;
use piaogen_verify::scheme::Scheme;
use piaogen_verify::status::Status;
use rayon::prelude::*;
use std::sync::{Arc, Mutex};

/// Why a block could not be executed: all are fatal but the first.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The node stops.
    #[error("stopped")]
    Stopped,
    /// Our roots are not those that the validators agreed on.
    #[error(
        "the header of height {height} is final with shards_root {}, this node computed {}: its \
         stream or its state is not the chain's; {shards}. Nothing more is written: keep the data \
         folder for an inquiry and run `piaogen fsck`",
        hex::encode(.theirs), hex::encode(.own)
    )]
    Diverged {
        /// The height of the header.
        height: u64,
        /// The root that this node computed.
        own: Digest,
        /// The root of the final header.
        theirs: Digest,
        /// In which shards, and how.
        shards: String,
    },
    /// The set of the next epoch is not the one that the validators agreed on.
    #[error(
        "the header of height {height} is final and names the validator set {}, this node computed \
         {}: its stream or its state is not the chain's. Nothing more is written: keep the data \
         folder for an inquiry and run `piaogen fsck`",
        hex::encode(.theirs), hex::encode(.own)
    )]
    OtherSet {
        /// The height of the header.
        height: u64,
        /// The digest of the set that this node computed; zeros where it computed none.
        own: Digest,
        /// The digest that the final header has.
        theirs: Digest,
    },
    /// A stored block cannot be read.
    #[error("a stored block: {0:#}")]
    Stored(anyhow::Error),
    /// What became final is no block.
    #[error("a block of {bytes} bytes became final and cannot be read")]
    Unreadable {
        /// Its length.
        bytes: usize,
    },
    /// A block became final before the one below it.
    #[error("block {height} was handed over as final, and the last one here is {last}")]
    Gap {
        /// Its height.
        height: u64,
        /// The last final height.
        last: u64,
    },
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The outbox of alerts failed.
    #[error("the outbox of alerts: {0}")]
    Alerts(#[from] StreamError),
}

/// Runs the shards.
pub struct Executor {
    chain: Digest,
    schemes: Vec<Scheme>,
    clock_skew_ms: i64,
    signatures: bool,
    lanes: Lanes,
    shards: Vec<Mutex<Shard>>,
    registry: Registry,
    keys: Arc<KeyDirectory>,
    intake: Arc<Intake>,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    alerts: Alerts,
    pool: Arc<rayon::ThreadPool>,
    peers: Option<Vec<PublicKey>>,
}

/// What an executor works with.
pub struct ExecutorParts {
    /// The genesis digest.
    pub chain: Digest,
    /// The schemes of the genesis.
    pub schemes: Vec<Scheme>,
    /// How far a record's times may lie in the future.
    pub clock_skew_ms: i64,
    /// Whether signatures count.
    pub signatures: bool,
    /// The lanes that hash.
    pub lanes: Lanes,
    /// The shards, the registry last.
    pub shards: Vec<Shard>,
    /// The registry after the last executed block.
    pub registry: Registry,
    /// The keys that checking sees.
    pub keys: Arc<KeyDirectory>,
    /// Where the records come from.
    pub intake: Arc<Intake>,
    /// Where effects go.
    pub store: Arc<Store>,
    /// What counts them.
    pub metrics: Arc<Metrics>,
    /// Who tells what they concern.
    pub alerts: Alerts,
    /// Of whom this node has an address, where it has peers, and itself.
    pub peers: Option<Vec<PublicKey>>,
    /// The threads that run shards.
    pub pool: Arc<rayon::ThreadPool>,
}

/// Where a block leads.
#[derive(Debug)]
pub struct Executed {
    /// The shards after it, the registry last.
    pub shards: Vec<ShardEntry>,
    /// Where the next block is the last of its epoch, the set that it must name.
    pub next_set: Option<ValidatorSet>,
}

/// The numbers and statuses that a shard of a store knows.
pub struct StoreIndex<'a> {
    /// The store.
    pub store: &'a Store,
    /// The shard.
    pub shard: u32,
}

impl Index for StoreIndex<'_> {
    type Error = StoreError;

    fn find(&self, subjects: &[&[u8]]) -> Result<Vec<Option<Place>>, StoreError> {
        let found = self.store.find_many(self.shard, subjects)?;
        Ok(found.into_iter().map(|place| place.map(to_place)).collect())
    }

    fn statuses(&self, issues: &[u64]) -> Result<Vec<Option<Status>>, StoreError> {
        let documents = self.store.statuses(self.shard, issues)?;
        let pairs = issues.iter().zip(documents);
        pairs.map(|(issue, document)| to_status(self.shard, *issue, document)).collect()
    }

    fn status_nodes(&self, places: &[(u8, u64)]) -> Result<Vec<Digest>, StoreError> {
        self.store.status_nodes(self.shard, places)
    }

    fn waits(&self, until: i64) -> Result<Vec<Wait>, StoreError> {
        Ok(self.store.waits(self.shard, until)?.into_iter().map(to_wait).collect())
    }
}

/// What execution is told of an id.
pub fn to_place(id: IdPlace) -> Place {
    let IdPlace { log_index, issue_index, commitment, origin } = id;
    Place { log_index, issue_index, commitment, origin }
}

/// What execution is told of a wait.
pub fn to_wait(wait: piaogen_storage::Wait) -> Wait {
    let piaogen_storage::Wait { at, issue_index, log_index, subject } = wait;
    Wait { at, issue_index, log_index, subject }
}

/// A status that was stored, where there is one.
pub fn to_status(
    shard: u32,
    issue: u64,
    document: Option<Vec<u8>>,
) -> Result<Option<Status>, StoreError> {
    let damaged = |error| {
        StoreError::damaged(format!(
            "shard {shard}: the stored status of invoice {issue} cannot be read ({error}); restore \
             the data folder, or start with an empty one and replay the stream"
        ))
    };
    document.map(|bytes| Status::of_stored(&bytes).map_err(damaged)).transpose()
}

type Taken = (CheckedBatch, Vec<i64>);

impl Executor {
    /// An executor with these parts.
    pub fn new(parts: ExecutorParts) -> Executor {
        parts.keys.add(parts.registry.keys().map(|key| key.public_key.clone()));
        let executor = Executor {
            chain: parts.chain,
            schemes: parts.schemes,
            clock_skew_ms: parts.clock_skew_ms,
            signatures: parts.signatures,
            lanes: parts.lanes,
            shards: parts.shards.into_iter().map(Mutex::new).collect(),
            registry: parts.registry,
            keys: parts.keys,
            intake: parts.intake,
            store: parts.store,
            metrics: parts.metrics,
            alerts: parts.alerts,
            pool: parts.pool,
            peers: parts.peers,
        };
        executor.look_ahead(true);
        executor
    }

    /// Says in time of whom of the planned set this node has no address.
    fn look_ahead(&self, news: bool) {
        let Some(peers) = &self.peers else { return };
        let planned = self.registry.governance().planned();
        let missing: Vec<String> = planned
            .keys()
            .iter()
            .filter(|key| !peers.contains(key))
            .map(|key| hex::encode(key.to_compressed()))
            .collect();
        self.metrics.unreachable(missing.len());
        if news && !missing.is_empty() {
            let keys = missing.join(", ");
            tracing::warn!(%keys, "no address in peers.addresses of validators of the next epoch: \
                this node will end when it begins");
        }
    }

    /// Executes a block on top of `before`.
    pub fn execute(
        &mut self,
        before: &Tip,
        header: &Header,
        cut: &Cut,
    ) -> Result<Executed, ExecuteError> {
        let taken: Vec<Option<Taken>> = (0..cut.0.len())
            .map(|shard| match cut.0[shard] == before.cut.0[shard] {
                true => Some(Taken::default()),
                false => self.intake.take(shard, cut.0[shard]),
            })
            .collect();
        let taken: Vec<Taken> =
            taken.into_iter().collect::<Option<_>>().ok_or(ExecuteError::Stopped)?;
        self.observe(&taken);
        let registered = cut.0.last() != before.cut.0.last();
        let mut after = registered.then(|| self.registry.clone());
        let pool = self.pool.clone();
        let done = pool.install(|| self.run(before, header, cut, &taken, after.as_mut()))?;
        let (effects, found): (Vec<ShardEffects>, Vec<Found>) = done.into_iter().unzip();
        // In the outbox before a flush point can cover the block.
        let found = found.into_iter().map(|one| {
            let shard = one.shard as usize;
            (one, &taken[shard].0)
        });
        self.alerts.block(header, self.store.flushed()?.height, found)?;
        self.apply(header.height, effects)?;
        let (batch, _) = &taken[taken.len() - 1];
        if let Some(after) = after {
            self.keys.add(fresh_keys(batch));
            let news = after.governance().planned() != self.registry.governance().planned();
            self.registry = after;
            self.look_ahead(news);
        }
        self.metrics.registry(&self.registry, header.height);
        Ok(Executed {
            shards: self.shards.iter().map(|shard| lock(shard).entry()).collect(),
            next_set: self.registry.governance().next_set(header.height + 1),
        })
    }

    fn observe(&self, taken: &[Taken]) {
        let now = super::chain::clock_ms();
        for time in taken.iter().flat_map(|(_, times)| times).filter(|time| **time > 0) {
            self.metrics.finality((now - time).max(0) as f64 / 1000.0);
        }
    }

    fn run(
        &self,
        before: &Tip,
        header: &Header,
        cut: &Cut,
        taken: &[Taken],
        after: Option<&mut Registry>,
    ) -> Result<Vec<(ShardEffects, Found)>, ExecuteError> {
        let context = Context {
            chain: &self.chain,
            registry: &self.registry,
            height: header.height,
            policy: self.registry.policy_at(header.height),
            schemes: &self.schemes,
            time_ms: before.header.time_ms,
            clock_skew_ms: self.clock_skew_ms,
            lanes: self.lanes,
            signatures: self.signatures,
        };
        let registry = self.shards.len() - 1;
        let mut all: Vec<(ShardEffects, Found)> = (0..registry)
            .into_par_iter()
            .map(|shard| {
                let index = StoreIndex { store: &self.store, shard: shard as u32 };
                let fresh = cut.0[shard] != before.cut.0[shard];
                if !fresh && index.waits(context.time_ms)?.is_empty() {
                    return Ok(None);
                }
                let mut state = lock(&self.shards[shard]);
                let first = state.entry().log_size;
                let batch = &taken[shard].0;
                let effects = state.execute(&context, &index, batch, cut.0[shard])?;
                self.to_storage(&state, first, header, batch, effects).map(Some)
            })
            .filter_map(Result::transpose)
            .collect::<Result<_, StoreError>>()?;
        if let Some(after) = after {
            let mut state = lock(&self.shards[registry]);
            let first = state.entry().log_size;
            let batch = &taken[registry].0;
            let effects = state.execute_registry(&context, after, batch, cut.0[registry]);
            all.push(self.to_storage(&state, first, header, batch, effects)?);
        }
        Ok(all)
    }

    fn to_storage(
        &self,
        shard: &Shard,
        first: u64,
        header: &Header,
        batch: &CheckedBatch,
        mut effects: Effects,
    ) -> Result<(ShardEffects, Found), StoreError> {
        for (code, count) in &effects.outcomes {
            self.metrics.executed(Outcome::name_of_code(*code), *count);
        }
        let found = Found::of(shard.entry().shard, first, batch, &mut effects);
        let rows = RowChunk::new(first, header.height, header.time_ms);
        Ok((to_storage(shard, rows, batch, effects)?, found))
    }

    /// Applies a block, after a flush where too much waits for one.
    fn apply(&self, height: u64, effects: Vec<ShardEffects>) -> Result<(), ExecuteError> {
        while !self.store.has_room()? {
            self.store.flush()?;
        }
        Ok(self.store.apply(height, effects)?)
    }
}

/// What storage is told of a block's effects on a shard that now stands behind it. `rows` is empty
/// and begins where the shard's log ended before.
pub fn to_storage(
    shard: &Shard,
    mut rows: RowChunk,
    batch: &CheckedBatch,
    effects: Effects,
) -> Result<ShardEffects, StoreError> {
    let records: usize = batch.records.iter().map(|record| batch.bytes(record).len()).sum();
    rows.reserve(batch.records.len(), effects.entries.len() + records);
    for (entry, record) in effects.iter().zip(&batch.records) {
        rows.push(entry, batch.bytes(record))?;
    }
    let entry = shard.entry();
    let id = |(subject, place): (Vec<u8>, Place)| {
        let Place { log_index, issue_index, commitment, origin } = place;
        (subject, IdPlace { log_index, issue_index, commitment, origin })
    };
    let wait = |wait: Wait| {
        let Wait { at, issue_index, log_index, subject } = wait;
        piaogen_storage::Wait { at, issue_index, log_index, subject }
    };
    Ok(ShardEffects {
        shard: entry.shard,
        levels: effects.levels,
        ids: effects.ids.into_iter().map(id).collect(),
        status_nodes: effects.status_nodes,
        status_documents: effects.statuses,
        waits_done: effects.waits_done,
        waits: effects.waits.into_iter().map(wait).collect(),
        rows,
        state: ShardState {
            next_offset: entry.next_offset,
            log_size: entry.log_size,
            log_root: entry.log_root,
            invoices: entry.invoices,
            status_root: entry.status_root,
        },
    })
}

/// The keys that registry records bring, valid or not: knowing a key grants nothing.
fn fresh_keys(batch: &CheckedBatch) -> Vec<PublicKey> {
    batch
        .records
        .iter()
        .filter_map(|checked| record::decode(batch.bytes(checked)).ok())
        .filter_map(|record| record.get(tag::PUBLIC_KEY)?.try_into().ok())
        .filter_map(|bytes: &[u8; 33]| PublicKey::from_compressed(bytes).ok())
        .collect()
}
