//! Starts and stops the engine: checks the configuration, recovers, runs it on a thread of its own.
//!
//! Order of things at a start: the journal is read (`journal`), what the application has not
//! recorded is handed to it, and only then does the engine run, from the highest finalization that
//! either of them knows. `start` returns after that, so a chain that cannot be resumed safely is
//! refused before anything is signed.

use crate::adapter::{Adapter, Calls};
use crate::digest::{Digest, Sm3};
use crate::error::{Fatal, OrderError, Refused};
use crate::finalization::{self, Finalization};
use crate::journal::{self, Memory};
use crate::key::Key;
use crate::scheme::Scheme;
use crate::silent;
use crate::worker::{LAG_MAX, Workers, last_words};
use crate::{Application, Handle, OrderConfig, Status};
use commonware_codec::Encode;
use commonware_consensus::Viewable;
use commonware_consensus::simplex::elector::RoundRobin;
use commonware_consensus::simplex::{Config, Engine, Floor, ForwardPolicy, SkipPolicy};
use commonware_consensus::types::{Epoch, ViewDelta};
use commonware_p2p::Blocker;
use commonware_parallel::Sequential;
use commonware_runtime::{Runner as _, Spawner as _, Supervisor as _, tokio as runtime};
use commonware_utils::{NZDuration, NZUsize};
use piaogen_crypto::sm2::SecretKey;
use std::fs::{File, TryLockError, create_dir_all};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

/// Longest namespace; it is the chain's name.
const NAMESPACE_BYTES_MAX: usize = 128;
const VIEW_RETENTION_MIN: u64 = 2 * LAG_MAX as u64;
const VIEW_RETENTION_MAX: u64 = 4096;
/// Name of the file in the folder that the running process holds locked.
const LOCK: &str = "lock";
/// Name of the folder in the folder that is the engine's.
const VOTES: &str = "votes";
/// How long a stop waits for the engine to write what it holds.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Everything the engine's thread needs.
struct Plan {
    config: OrderConfig,
    scheme: Scheme,
    me: Key,
    known: Option<Finalization>,
    application: Arc<dyn Application>,
    workers: Workers,
}

type Started = SyncSender<Result<(), OrderError>>;

pub(crate) fn start(
    config: OrderConfig,
    secret: &SecretKey,
    application: Arc<dyn Application>,
) -> Result<Handle, OrderError> {
    let scheme = checked(&config, secret)?;
    let known = match &config.finalized {
        Some(bytes) => {
            let finalization = finalization::decode(bytes)?;
            finalization::verify(&finalization, config.epoch, &scheme)?;
            Some(finalization)
        }
        None => None,
    };
    let lock = lock(&config.directory)?;
    let status = Arc::new(Status::default());
    let died = |error: std::io::Error| Fatal::Died {
        what: "starting a thread",
        reason: error.to_string(),
    };
    let (workers, threads) = Workers::start(&application, &status).map_err(died)?;
    let me = Key::from(secret.public_key());
    let plan = Plan { config, scheme, me, known, application, workers };
    let (started, outcome) = sync_channel(1);
    let inner = status.clone();
    let thread = Builder::new()
        .name("order".to_owned())
        .spawn(move || {
            run_thread(plan, &inner, &started);
            // The queues are gone with the engine; what was queued is still recorded.
            for thread in threads {
                let _ = thread.join();
            }
            drop(lock);
        })
        .map_err(died)?;
    let ended = Fatal::Died { what: "the engine", reason: "it ended while starting".to_owned() };
    let outcome = outcome.recv().unwrap_or_else(|_| Err(status.failure().unwrap_or(ended).into()));
    match outcome {
        Ok(()) => Ok(Handle { status, thread: Some(thread) }),
        Err(error) => {
            let _ = thread.join();
            Err(error)
        }
    }
}

fn checked(config: &OrderConfig, secret: &SecretKey) -> Result<Scheme, Refused> {
    let length = config.namespace.len();
    if length == 0 || length > NAMESPACE_BYTES_MAX {
        return Err(Refused::Namespace { length, limit: NAMESPACE_BYTES_MAX });
    }
    let (leader, certification) = (config.leader_timeout, config.certification_timeout);
    if leader.is_zero() || certification <= leader {
        return Err(Refused::Timeouts { leader, certification });
    }
    let value = config.view_retention;
    if !(VIEW_RETENTION_MIN..=VIEW_RETENTION_MAX).contains(&value) {
        let (minimum, maximum) = (VIEW_RETENTION_MIN, VIEW_RETENTION_MAX);
        return Err(Refused::ViewRetention { value, minimum, maximum });
    }
    let validators = finalization::sorted(&config.validators)?;
    let count = validators.len();
    let key = Key::from(secret.public_key()).to_string();
    let scheme = Scheme::signer(&config.namespace, validators, secret.clone())
        .ok_or(Refused::NotAValidator { key })?;
    if count > 1 {
        return Err(Refused::NoNetwork { count });
    }
    Ok(scheme)
}

/// Two processes that vote with one key could fork the chain: only one gets the folder.
fn lock(directory: &Path) -> Result<File, Refused> {
    let named = || directory.to_path_buf();
    let unusable = |error: std::io::Error| Refused::Directory {
        directory: named(),
        reason: error.to_string(),
    };
    create_dir_all(directory).map_err(unusable)?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join(LOCK))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Refused::InUse { directory: named() }),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

fn run_thread(plan: Plan, status: &Arc<Status>, started: &Started) {
    let settings = runtime::Config::new()
        .with_storage_directory(plan.config.directory.join(VOTES))
        .with_worker_threads(2);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let status = status.clone();
        runtime::Runner::new(settings).start(|context| async move {
            match prepare(&context, &plan).await {
                Ok((floor, memory)) => {
                    run(context, plan, floor, memory, &status, started).await;
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        });
    }));
    if let Err(panic) = outcome {
        let reason = last_words(panic.as_ref());
        status.fail(Fatal::Died { what: "the engine", reason });
    }
}

/// Reads the journal, brings the application up to it, and finds where to go on.
async fn prepare(
    context: &runtime::Context,
    plan: &Plan,
) -> Result<(Option<Finalization>, Memory), OrderError> {
    let Plan { config, scheme, known, .. } = plan;
    let memory =
        journal::recall(context.child("recall"), config.epoch, scheme, &config.directory).await?;
    let mut recorded = 0;
    if let Some(known) = known {
        recorded = known.view().get();
        if memory.empty {
            let directory = config.directory.clone();
            return Err(Refused::VotesMissing { directory, view: recorded }.into());
        }
        if let Some(ours) = memory.finalizations.get(&recorded)
            && ours.proposal != known.proposal
        {
            let (ours, theirs) = (ours.proposal.payload, known.proposal.payload);
            let (ours, theirs) = (ours.to_string(), theirs.to_string());
            return Err(Fatal::Fork { view: recorded, ours, theirs }.into());
        }
    }
    for (view, finalization) in memory.finalizations.range(recorded + 1..) {
        finalization::verify(finalization, config.epoch, scheme)?;
        tracing::info!(view, "finalization handed to the application again");
        plan.application.finalized(finalization.proposal.payload.0, &finalization.encode());
    }
    let ours = memory.finalizations.last_key_value().map(|(_, finalization)| finalization);
    let floor = ours.into_iter().chain(known).max_by_key(|finalization| finalization.view());
    Ok((floor.cloned(), memory))
}

async fn run(
    context: runtime::Context,
    plan: Plan,
    floor: Option<Finalization>,
    memory: Memory,
    status: &Status,
    started: &Started,
) {
    let Plan { config, scheme, me, workers, .. } = plan;
    let delivered = floor.as_ref().map_or(0, |finalization| finalization.view().get());
    tracing::info!(view = delivered, directory = %config.directory.display(), "ordering resumes");
    let adapter = Adapter::new(Calls::Threads(workers), delivered);
    let settings = settings(&config, scheme, floor, adapter, silent::channel(&me, Vec::new()).0);
    let engine = Engine::new(context.child("engine"), settings);
    let mut engine = engine.start(
        silent::channel(&me, Vec::new()),
        silent::channel(&me, memory.due),
        silent::channel(&me, Vec::new()),
    );
    let _ = started.send(Ok(()));
    tokio::select! {
        () = status.told_to_stop() => {
            if let Err(error) = context.stop(0, Some(STOP_WAIT)).await {
                tracing::warn!(%error, "the engine did not stop in time");
            }
            let _ = tokio::time::timeout(STOP_WAIT, &mut engine).await;
        }
        ended = &mut engine => {
            let reason = ended.map_or_else(|error| error.to_string(), |()| "it ended".to_owned());
            status.fail(Fatal::Died { what: "the engine", reason });
        }
    }
}

/// Settings of the engine, the same for one validator and for many.
pub(crate) fn settings<B: Blocker<PublicKey = Key>>(
    config: &OrderConfig,
    scheme: Scheme,
    floor: Option<Finalization>,
    adapter: Adapter,
    blocker: B,
) -> Config<Scheme, RoundRobin<Sm3>, B, Digest, Adapter, Adapter, Adapter, Sequential> {
    Config {
        scheme,
        elector: RoundRobin::default(),
        blocker,
        automaton: adapter.clone(),
        relay: adapter.clone(),
        reporter: adapter,
        track_historical_votes: false,
        strategy: Sequential,
        partition: journal::partition(config.epoch),
        mailbox_size: NZUsize!(1024),
        epoch: Epoch::new(config.epoch),
        floor: floor.map_or(Floor::Genesis(Digest(config.genesis)), Floor::Finalized),
        replay_buffer: journal::REPLAY_BUFFER,
        write_buffer: journal::WRITE_BUFFER,
        page_cache: journal::page_cache(),
        leader_timeout: config.leader_timeout,
        certification_timeout: config.certification_timeout,
        timeout_retry: config.certification_timeout,
        view_retention: ViewDelta::new(config.view_retention),
        // A leader that is only waiting for records must not be skipped early.
        skip: SkipPolicy::Disabled,
        fetch_timeout: NZDuration!(Duration::from_secs(1)),
        fetch_retry_delay: Duration::from_millis(100),
        forward: ForwardPolicy::Disabled,
    }
}
