//! Runs whole sets of validators from a seed, with faults and liars, and checks what Piaogen
//! promises.
//!
//! The consensus engine is the real one, in the deterministic runtime of `piaogen_order`'s
//! `simulation`; what a validator votes for and what records do is `piaogen_anchor`; records are
//! made, signed and foretold by `piaogen_loadgen` and checked as a node checks them. Simulated are
//! time, network, disk, brokers and clocks. So a seed that fails fails again, and can be looked at.
//!
//! | promise | how it is checked |
//! |---|---|
//! | one chain | a header of each height among all honest validators, at every glance |
//! | P1 | one leaf a record, in order, with the outcome that was foretold when it was sent; all roots from one execution without interruption |
//! | P2 | receipts of every honest validator verify from the trust root |
//! | P3 | records sent twice and frauds of the load: who comes second is refused |
//! | P4 | status proofs, of untouched invoices too |
//! | P5 | a witness follows whom it happens to ask; consistency proofs of headers and logs |
//! | P6 | not here: it is a property of Parquet files, tested where they are made (PROTOCOL section 5.9) |
//! | P7 | what was final at any honest validator is final at all, and is still there after a crash |
//! | epochs | each block is of the epoch and set that were decided in the stream, counted block by block; receipts of each epoch verify from the genesis; who is not of a set votes for nothing in its epoch |
//! | votes | no honest validator votes twice; the evidence that honest ones have on disk verifies from the genesis, and names liars only; none is lost without a fault of the disk |
//! | faults bite | who is cut off gets nothing, halves without a quorum halt, what a broker holds back is not executed; who lost its folder has all blocks again; messages that come twice or overtake each other are counted; whose votes are damaged is refused a start |
//! | it goes on | after the last fault every record becomes final and provable at all |
//!
//! The simulated data folder follows the order of durability of a node's, with simpler files: the
//! files themselves are tested in `storage`, with real crashes.
//!
//! Good starting points: `plan.rs` says what goes wrong, `faults.rs` lets it, `govern.rs` says who is
//! of which set, `checks.rs` judges.

#![forbid(unsafe_code)]

mod checks;
mod dice;
mod disk;
mod faults;
mod folder;
mod govern;
mod ledger;
mod machine;
mod plan;
mod replica;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod world;

pub use plan::{Config, ConfigError, Fault, Role};

use govern::Governed;
use ledger::held;
use piaogen_anchor::body::Body;
use piaogen_order::Application;
use piaogen_order::simulation::{self, Event, SimulationError, Trace};
use piaogen_verify::certificate::NAMESPACE;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use world::World;

/// How long after the last fault everything must be done, in simulated time.
const PATIENCE_MS: u64 = 120_000;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The same for the same run, every message and write of the engine included.
    pub fingerprint: String,
    /// How much simulated time passed.
    pub elapsed: Duration,
    /// Final blocks.
    pub blocks: u64,
    /// Records that were sent.
    pub records: u64,
    /// What happened, and how often.
    pub counts: BTreeMap<String, u64>,
    /// What must not have happened.
    pub violations: Vec<String>,
}

impl Report {
    /// Whether every check held.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty()
    }

    /// How often something happened.
    pub fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }
}

/// Runs a seed.
///
/// # Errors
/// Where there is no such run.
pub fn run(config: &Config) -> Result<Report, ConfigError> {
    config.check()?;
    let (world, trace) = play(config, Vec::new(), |_| {});
    Ok(report(&held(&world), config, trace))
}

/// Runs a seed in a world that is changed first, with what else happens in the network. The trace is
/// there where the run came to its end.
fn play(
    config: &Config,
    events: Vec<(Duration, Event)>,
    change: impl FnOnce(&mut World),
) -> (Arc<Mutex<World>>, Option<Trace>) {
    let governed = Governed::new(config);
    let chain = world::chain(config, &governed);
    let mut world = World::new(config, &chain, governed);
    change(&mut world);
    let genesis = chain.genesis.header();
    let namespace = [&NAMESPACE[..], &chain.genesis.chain].concat();
    let body_bytes_max = Body::bytes_max(genesis.shards as usize);
    let plan = simulation::Plan {
        link: world.link(),
        limit: Duration::from_millis(world.plan.heal_ms + PATIENCE_MS),
        roles: world.roles(),
        events,
        ..simulation::Plan::new(config.seed, namespace, genesis.digest(), body_bytes_max)
    };
    let applications = world.applications().into_iter().map(|one| one as Arc<dyn Application>);
    let (applications, secrets) = (applications.collect(), world.governed.secrets.clone());
    let world = Arc::new(Mutex::new(world));
    let watched = world.clone();
    let watch = move |glance| held(&watched).look(glance);
    let ended = simulation::run_watched(plan, secrets, applications, watch);
    let trace = match ended {
        Ok(trace) => Some(trace),
        Err(error) => {
            let world = held(&world);
            held(&world.shared.ledger).violation(match error {
                SimulationError::Limit { .. } => format!("it does not go on: {}", world.missing()),
                error => error.to_string(),
            });
            None
        }
    };
    (world, trace)
}

/// Checks what came of a run.
fn report(world: &World, config: &Config, trace: Option<Trace>) -> Report {
    if let Some(trace) = &trace {
        checks::network(world, trace);
    }
    if held(&world.shared.ledger).violations.is_empty() {
        checks::check(world, config.seed);
    }
    let ledger = held(&world.shared.ledger);
    let limit = Duration::from_millis(world.plan.heal_ms + PATIENCE_MS);
    let (fingerprint, elapsed) =
        trace.map_or((String::new(), limit), |trace| (trace.fingerprint, trace.elapsed));
    Report {
        seed: config.seed,
        fingerprint,
        elapsed,
        blocks: ledger.finals.keys().next_back().copied().unwrap_or(0),
        records: world.sent.iter().map(|sent| sent.len() as u64).sum(),
        counts: ledger.counts.clone(),
        violations: ledger.violations.clone(),
    }
}
