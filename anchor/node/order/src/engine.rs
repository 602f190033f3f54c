//! Starts and stops the engine: checks the configuration, recovers, runs it on a thread of its own.
//!
//! Order of things at a start: the journal is read (`journal`), what the application has not
//! recorded is handed to it, and only then does the engine run, from the highest finalization that
//! either of them knows. `start` returns after that, so a chain that cannot be resumed safely is
//! refused before anything is signed.

use crate::adapter::Adapter;
use crate::digest::{Digest, Sm3};
use crate::error::{Fatal, OrderError, Refused};
use crate::exchange::{Calls, Exchange, Fetch, Inbox, Library, Mailbox, Parts};
use crate::finalization::{self, Finalization};
use crate::journal::{self, Memory};
use crate::key::Key;
use crate::network::{self, Block, Channel, Links, Peers, RATES, Source};
use crate::own::Own;
use crate::scheme::Scheme;
use crate::signed::{Gate, Kept, Place};
use crate::silent;
use crate::worker::{Good, LAG_MAX, Workers, last_words};
use crate::{Application, Handle, Identity, NetworkConfig, OrderConfig, Status, held};
use commonware_codec::Encode;
use commonware_consensus::Viewable;
use commonware_consensus::simplex::elector::RoundRobin;
use commonware_consensus::simplex::{Config, Engine, Floor, ForwardPolicy, SkipBudget, SkipPolicy};
use commonware_consensus::types::{Epoch, ViewDelta};
use commonware_cryptography::certificate::Scheme as _;
use commonware_p2p::{Address, Blocker};
use commonware_parallel::Sequential;
use commonware_resolver::p2p as resolver;
use commonware_runtime::{Clock, Metrics, Spawner, Storage, Supervisor as _};
use commonware_runtime::{Handle as Task, Runner as _, tokio as runtime};
use commonware_utils::channel::mpsc;
use commonware_utils::{NZDuration, NZUsize};
use piaogen_crypto::sm2::Signer;
use rand::CryptoRng;
use std::cmp::Ordering;
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
pub(crate) const VOTES: &str = "votes";
/// How long a stop waits for the engine to write what it holds.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// A leader that was silent for so many certification timeouts, while a quorum was not, is skipped
/// at once.
const SILENCE: u32 = 2;
/// How long a peer may take to answer, and the pause before another is asked.
const ANSWER: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(100);
/// Longest body in a set of one, where none is ever sent.
const BODY_ALONE: usize = 1 << 20;

/// Everything the engine's thread needs.
struct Plan {
    config: OrderConfig,
    scheme: Scheme,
    own: Own,
    me: Key,
    /// How far the key has voted; none where it has no vote in this epoch.
    kept: Option<Kept>,
    /// Where the others are; none where nobody follows a set of one.
    peers: Vec<(Key, Address)>,
    known: Option<Finalization>,
    application: Arc<dyn Application>,
    workers: Workers,
    good: Good,
}

/// Where to go on after a start.
pub(crate) struct Resume {
    /// The highest finalization that is known.
    pub(crate) floor: Option<Finalization>,
    /// Finalizations whose blocks are not here.
    pub(crate) backlog: Vec<Finalization>,
    /// Certificates that the engine should receive again.
    pub(crate) due: Vec<Vec<u8>>,
}

impl Resume {
    /// Where to go on without a vote: nothing was ever signed here in this epoch.
    pub(crate) fn following(known: Option<Finalization>) -> Self {
        Self { floor: known, backlog: Vec::new(), due: Vec::new() }
    }
}

type Started = SyncSender<Result<(), OrderError>>;

pub(crate) fn start(
    config: OrderConfig,
    signer: Arc<dyn Signer>,
    application: Arc<dyn Application>,
) -> Result<Handle, OrderError> {
    let own = Own::from(signer);
    let (scheme, peers) = checked(&config, &own)?;
    let known = match &config.finalized {
        Some(bytes) => {
            let finalization = finalization::decode(bytes)?;
            finalization::verify(&finalization, config.epoch, &scheme)?;
            Some(finalization)
        }
        None => None,
    };
    let lock = lock(&config.directory)?;
    let me = Key::from(own.public_key());
    let kept = scheme.me().map(|_| Kept::open(&config.signed, &me)).transpose()?;
    let keys = finalization::sort_validators(&config.validators)?;
    let status = Arc::new(Status::new(keys, own.public_key()));
    let failing = status.clone();
    own.on_failure(move |error| failing.fail(Fatal::Signing { reason: error.reason.clone() }));
    let good = Good::default();
    let died = |error: std::io::Error| Fatal::Died {
        what: "starting a thread",
        reason: error.to_string(),
    };
    let (workers, threads) = Workers::start(&application, &status, &good).map_err(died)?;
    let plan = Plan { config, scheme, own, me, kept, peers, known, application, workers, good };
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

/// The scheme of this validator, and where the others are.
pub(crate) fn checked(
    config: &OrderConfig,
    own: &Own,
) -> Result<(Scheme, Vec<(Key, Address)>), Refused> {
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
    let public = own.public_key();
    let key = Key::from(public.clone()).to_string();
    let signer = Scheme::signer(&config.namespace, validators.clone(), own.clone());
    let of_set = signer.is_some();
    let signer = signer.filter(|_| !config.abstains);
    let named = |network: &NetworkConfig| network.peers.iter().any(|(peer, _)| *peer == public);
    let scheme = match (signer, &config.network) {
        (Some(_), _) if !config.votes => return Err(Refused::Votes { key }),
        (Some(scheme), _) => scheme,
        (None, None) if !config.votes => return Err(Refused::NobodyToFollow),
        (None, None) if of_set && count > 1 => return Err(Refused::NoNetwork { count }),
        (None, None) if of_set => {
            let directory = config.directory.clone();
            return Err(Refused::AloneWithoutVotes { key, directory });
        }
        // An observer, and who is named as a peer, only follow; any other key is a mistake.
        (None, Some(network)) if !config.votes || named(network) => {
            Scheme::verifier(&config.namespace, validators)
        }
        (None, _) => return Err(Refused::NotAValidator { key }),
    };
    let Some(network) = &config.network else {
        return match alone(&scheme) {
            true => Ok((scheme, Vec::new())),
            false => Err(Refused::NoNetwork { count }),
        };
    };
    let peers = network::addresses(config, network, &Key::from(public))?;
    if peers.is_empty() {
        return Ok((scheme, peers));
    }
    // Bound here, so that an address in use is an error of the start.
    std::net::TcpListener::bind(network.listen).map_err(|error| Refused::Listen {
        address: network.listen.to_string(),
        reason: error.to_string(),
    })?;
    Ok((scheme, peers))
}

/// Whether this validator is the whole set, so that there is nobody to vote with.
fn alone(scheme: &Scheme) -> bool {
    scheme.me().is_some() && scheme.participants().len() == 1
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

fn run_thread(mut plan: Plan, status: &Arc<Status>, started: &Started) {
    let settings = runtime::Config::new()
        .with_storage_directory(plan.config.directory.join(VOTES))
        .with_worker_threads(2);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let status = status.clone();
        runtime::Runner::new(settings).start(|context| async move {
            match prepare(&context, &mut plan).await {
                Ok(resume) => run(context, plan, resume, &status, started).await,
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
            *held(&status.links) = None;
        });
    }));
    if let Err(panic) = outcome {
        let reason = last_words(panic.as_ref());
        status.fail(Fatal::Died { what: "the engine", reason });
    }
}

/// Reads the journal, brings the application up to it, and finds where to go on.
async fn prepare(context: &runtime::Context, plan: &mut Plan) -> Result<Resume, OrderError> {
    let Plan { config, scheme, known, application, kept, .. } = plan;
    if scheme.me().is_none() {
        let epoch = config.epoch;
        tracing::info!(epoch, "not of the set of this epoch: its blocks are followed");
        return Ok(Resume::following(known.clone()));
    }
    let (child, partition) = (context.child("recall"), journal::partition(config.epoch));
    let recorded = known.as_ref().map_or(0, |known| known.view().get());
    let mut memory =
        journal::recall(child, &partition, scheme, &config.directory, recorded).await?;
    if let Some(kept) = kept {
        // A block may be fetched before the first vote of an epoch is written, and then be all there is.
        let unsigned = kept.record.last() < Place { epoch: config.epoch, view: 1 };
        memory.missing &= kept.fresh || !unsigned;
        not_older(context, config, kept, recorded, &memory).await?;
    }
    resume(config, scheme, known.as_ref(), memory, application.as_ref())
}

/// Refuses votes that do not reach what this key has signed; begins a record that says nothing.
async fn not_older(
    context: &runtime::Context,
    config: &OrderConfig,
    kept: &mut Kept,
    recorded: u64,
    memory: &Memory,
) -> Result<(), OrderError> {
    let last = kept.record.last();
    let reached = match last.epoch.cmp(&config.epoch) {
        // Nothing was signed in this epoch yet.
        Ordering::Less => true,
        // Above what is recorded as final nothing is signed that was signed before.
        Ordering::Equal => recorded >= last.view || memory.reaches(last.view),
        // The application has less than the votes (5.4 of the protocol); they must be all there.
        Ordering::Greater => {
            let child = context.child("later");
            journal::reaches(child, last.epoch, last.view, &config.directory).await?
        }
    };
    if !reached {
        let (directory, path) = (config.directory.clone(), kept.path.clone());
        let Place { epoch, view } = last;
        return Err(Refused::Older { directory, path, epoch, view }.into());
    }
    let place = Place { epoch: config.epoch, view: memory.voted.max(recorded) };
    if kept.fresh && place.view > 0 {
        let path = kept.path.display();
        tracing::warn!(%path, view = place.view, "no record of what was signed: made from the votes");
        kept.record.raise(place).map_err(|error| {
            let path = kept.path.clone();
            OrderError::from(Fatal::Record { path, reason: error.to_string() })
        })?;
    }
    Ok(())
}

/// Compares the journal with what the application has recorded, and hands over what is missing.
pub(crate) fn resume(
    config: &OrderConfig,
    scheme: &Scheme,
    known: Option<&Finalization>,
    memory: Memory,
    application: &dyn Application,
) -> Result<Resume, OrderError> {
    let mut recorded = 0;
    if let Some(known) = known {
        recorded = known.view().get();
        if memory.missing {
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
    let mut backlog = Vec::new();
    for (view, finalization) in memory.finalizations.range(recorded + 1..) {
        finalization::verify(finalization, config.epoch, scheme)?;
        if hand_over(application, finalization, config.validators.len() == 1) {
            tracing::info!(view, "finalization handed to the application again");
        } else if config.validators.len() == 1 {
            let (block, view) = (finalization.proposal.payload.to_string(), *view);
            return Err(Fatal::BodyMissing { block, view }.into());
        } else {
            backlog.push(finalization.clone());
        }
    }
    let ours = memory.finalizations.last_key_value().map(|(_, finalization)| finalization);
    let floor = ours.into_iter().chain(known).max_by_key(|finalization| finalization.view());
    Ok(Resume { floor: floor.cloned(), backlog, due: memory.due })
}

/// Hands a final block to the application if its body is here and follows the last one; `alone`,
/// those below it too, which nobody else has a certificate for. Whether it is recorded now.
fn hand_over(application: &dyn Application, finalization: &Finalization, alone: bool) -> bool {
    let last = application.last();
    let mut blocks: Vec<(Identity, Vec<u8>)> = Vec::new();
    let mut next = finalization.proposal.payload.0;
    while next != last.block {
        let found = application.body(next).and_then(|body| {
            let identity = application.identify(&body)?;
            (identity.block == next).then_some((identity, body))
        });
        let Some((identity, body)) = found else { return false };
        if identity.height <= last.height {
            // Recorded already, or of no use: another block of this height is.
            break;
        }
        next = identity.parent;
        blocks.push((identity, body));
        if !alone && next != last.block {
            return false;
        }
    }
    let own = finalization.encode();
    while let Some((identity, body)) = blocks.pop() {
        let certificate = if blocks.is_empty() { own.as_ref() } else { &[] };
        application.finalized(identity.block, &body, certificate);
    }
    true
}

async fn run(
    context: runtime::Context,
    plan: Plan,
    resume: Resume,
    status: &Arc<Status>,
    started: &Started,
) {
    let Plan { mut config, scheme, own, me, kept, peers, application, workers, good, .. } = plan;
    if peers.is_empty() {
        config.network = None;
    }
    let gate = kept.map(|kept| Gate::new(kept, status.clone()));
    let view = resume.floor.as_ref().map_or(0, |finalization| finalization.view().get());
    let directory = config.directory.display();
    tracing::info!(view, %directory, peers = peers.len(), "ordering resumes");
    let member = Member {
        application,
        calls: Calls::Threads(workers),
        good,
        scheme,
        me: me.clone(),
        status: status.clone(),
        partition: journal::partition(config.epoch),
    };
    let parts = context.child("set");
    let quiet = silent::links(&me, resume.due.clone());
    let (engine, exchange) = match &config.network {
        Some(network) => {
            let links = network::connect(&parts, &config, network, peers, own, RATES);
            let seen = context.child("seen");
            *held(&status.links) = Some(Box::new(move || network::seen(&seen)));
            match links.of_epoch(&parts, config.epoch).await {
                Ok(links) if alone(&member.scheme) => {
                    let links = links.without_votes(quiet).gated(gate);
                    start_member(parts, &config, resume, member, links)
                }
                Ok(links) => start_member(parts, &config, resume, member, links.gated(gate)),
                Err(error) => {
                    let reason = error.to_string();
                    let failure = Fatal::Died { what: "the network", reason };
                    let _ = started.send(Err(failure.into()));
                    return;
                }
            }
        }
        None => start_member(parts, &config, resume, member, quiet.gated(gate)),
    };
    let _ = started.send(Ok(()));
    let votes = engine.is_some();
    let mut engine = Box::pin(async move {
        match engine {
            Some(engine) => engine.await,
            // Nothing runs that could end.
            None => std::future::pending().await,
        }
    });
    tokio::select! {
        () = status.told_to_stop() => {
            if let Err(error) = context.stop(0, Some(STOP_WAIT)).await {
                tracing::warn!(%error, "the engine did not stop in time");
            }
            if votes {
                let _ = tokio::time::timeout(STOP_WAIT, &mut engine).await;
            }
            // What the engine has reported is handed on before the queues go.
            let _ = tokio::time::timeout(STOP_WAIT, exchange).await;
        }
        ended = &mut engine => {
            let reason = ended.map_or_else(|error| error.to_string(), |()| "it ended".to_owned());
            status.fail(Fatal::Died { what: "the engine", reason });
        }
    }
}

/// A validator, whatever it runs on.
pub(crate) struct Member {
    pub(crate) application: Arc<dyn Application>,
    pub(crate) calls: Calls,
    pub(crate) good: Good,
    pub(crate) scheme: Scheme,
    pub(crate) me: Key,
    pub(crate) status: Arc<Status>,
    /// Name of the engine's journal.
    pub(crate) partition: String,
}

/// Starts engine and exchange over these links, on any runtime; who only follows has no engine.
pub(crate) fn start_member<E, V, W, S, R, B, P>(
    context: E,
    config: &OrderConfig,
    resume: Resume,
    member: Member,
    links: Links<V, W, S, R, B, P>,
) -> (Option<Task<()>>, Task<()>)
where
    E: Clock + CryptoRng + Spawner + Storage + Metrics,
    V: Channel,
    W: Source,
    S: Channel,
    R: Source,
    B: Block,
    P: Peers,
{
    let Member { application, calls, good, scheme, me, status, partition } = member;
    let (mailbox, orders) = mpsc::unbounded_channel();
    let (sender, pushed) = links.bodies;
    let told = application.clone();
    let follows = scheme.me().is_none();
    // Without a network there is nobody to ask, and nobody who asks.
    let fetch = config.network.is_some().then(|| {
        let peers = (links.peers, links.blocker.clone(), links.requests);
        fetching(context.child("fetch"), me, mailbox.clone(), application.clone(), peers)
    });
    let parts = Parts {
        last: application.last(),
        application,
        calls,
        good,
        scheme: scheme.clone(),
        epoch: config.epoch,
        final_view: resume.floor.as_ref().map_or(0, |floor| floor.view().get()),
        backlog: resume.backlog,
        patience: config.leader_timeout / 2,
        quiet: if follows { Duration::ZERO } else { config.certification_timeout },
        sender,
        blocker: links.blocker.clone(),
        fetch,
        body_bytes_max: config.network.as_ref().map_or(BODY_ALONE, |one| one.body_bytes_max),
    };
    let exchange = context.child("exchange").spawn(move |context| async move {
        Exchange::new(context, parts).run(orders, pushed).await;
    });
    if follows {
        return (None, exchange);
    }
    let adapter = Adapter::new(mailbox, status, scheme.clone(), told);
    let settings =
        Config { partition, ..settings(config, scheme, resume.floor, adapter, links.blocker) };
    let engine = Engine::new(context.child("engine"), settings);
    (Some(engine.start(links.votes, links.certificates, links.views)), exchange)
}

/// Starts what asks peers, and answers them; `peers` are who they are, who blocks them, and the
/// channel to them.
pub(crate) fn fetching<E, S, R, B, P>(
    context: E,
    me: Key,
    mailbox: Mailbox,
    application: Arc<dyn Application>,
    peers: (P, B, (S, R)),
) -> Fetch
where
    E: Clock + CryptoRng + Spawner + Metrics,
    S: Channel,
    R: Source,
    B: Block,
    P: Peers,
{
    let (peer_provider, blocker, requests) = peers;
    let settings = resolver::Config {
        peer_provider,
        blocker,
        consumer: Inbox(mailbox),
        producer: Library(application),
        mailbox_size: NZUsize!(1024),
        me: Some(me),
        fetch_timeout: NZDuration!(ANSWER),
        fetch_retry_delay: RETRY,
        priority_requests: false,
        priority_responses: false,
    };
    let (engine, fetch) = resolver::Engine::new(context, settings);
    engine.start(requests);
    fetch
}

/// Settings of the engine.
fn settings<B: Blocker<PublicKey = Key>>(
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
        // Two votes that exclude each other are evidence for as long as their view is remembered.
        track_historical_votes: true,
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
        skip: match config.validators.len() {
            // A leader that is only waiting for records must not be skipped early.
            1 => SkipPolicy::Disabled,
            // In a set of several, one that has nothing to say says so in time.
            _ => SkipPolicy::Enabled {
                timeout: config.certification_timeout * SILENCE,
                budget: SkipBudget::Participants,
            },
        },
        fetch_timeout: NZDuration!(Duration::from_secs(1)),
        fetch_retry_delay: Duration::from_millis(100),
        forward: ForwardPolicy::Disabled,
    }
}
