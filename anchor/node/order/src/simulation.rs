//! Runs sets of validators from a seed: the real engine and the real exchange, over simulated time,
//! network and disk.
//!
//! Applications are called in the one thread of the deterministic runtime, so they must answer at
//! once: what a real one would wait for, a simulated one answers with `None` or `NotYet`, and is
//! asked again when a little time has passed. An application outlives its validator's stops, as a
//! data folder does.
//!
//! Invariants
//! - The same plan and applications give the same trace.
//! - Nothing here decides: engine, exchange and recovery are those of a node.

use crate::engine::{Member, resume, start_member};
use crate::exchange::Calls;
use crate::finalization::{self, sorted};
use crate::journal;
use crate::key::Key;
use crate::network::{Links, message_bytes_max};
use crate::scheme::Scheme;
use crate::worker::{Good, Open};
use crate::{Application, NetworkConfig, OrderConfig, OrderError, Refused, Status};
use commonware_p2p::Manager as _;
use commonware_p2p::simulated::{self, Network, Oracle};
use commonware_runtime::deterministic::{self, Context};
use commonware_runtime::{Clock as _, Handle, Quota, Runner as _, Spawner as _, Supervisor as _};
use commonware_utils::ordered::Set;
use commonware_utils::{NZU32, NZUsize, Probability, TryCollect as _};
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// How often is looked whether the run is done.
const GLANCE: Duration = Duration::from_millis(50);

/// What the links between validators are like.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// How long a message takes.
    pub latency: Duration,
    /// By how much that varies.
    pub jitter: Duration,
    /// Of a hundred messages, how many arrive.
    pub arrive_percent: u8,
}

/// What happens to a validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It starts, from what it has on disk.
    Start(usize),
    /// It is gone, without warning.
    Stop(usize),
    /// Nobody hears it, and it hears nobody.
    Cut(usize),
    /// It is connected again, with all.
    Join(usize),
    /// These two do not hear each other.
    Apart(usize, usize),
}

/// What is said of a run when it is looked at.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// What happens now, beside what was planned.
    pub events: Vec<Event>,
    /// Whether the run is done, once all that was planned has happened.
    pub done: bool,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything random follows from it.
    pub seed: u64,
    /// The chain's name.
    pub namespace: Vec<u8>,
    /// Digest that the first block stands on.
    pub genesis: Digest,
    /// Longest body of a block.
    pub body_bytes_max: usize,
    /// All links.
    pub link: Link,
    /// What happens, and when; by rising time.
    pub events: Vec<(Duration, Event)>,
    /// Longest simulated time.
    pub limit: Duration,
}

/// Why a simulation ended without being done.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// A validator did not start.
    #[error("validator {validator} does not start: {error}")]
    Start {
        /// Which.
        validator: usize,
        /// Why.
        error: OrderError,
    },
    /// The simulated time is over.
    #[error("not done after {limit:?} of simulated time")]
    Limit {
        /// The limit.
        limit: Duration,
    },
}

/// A run that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The same for the same run.
    pub fingerprint: String,
    /// How much simulated time passed.
    pub elapsed: Duration,
}

type Net = Oracle<Key, Context>;

/// What all validators share.
struct World {
    plan: Plan,
    secrets: Vec<SecretKey>,
    keys: Vec<PublicKey>,
    names: Vec<Key>,
    oracle: Net,
    running: Vec<Option<Handle<()>>>,
}

/// Runs validators with these keys until `done`; validator i works for application i.
///
/// # Errors
/// `Start` where a validator is refused, `Limit` where it takes too long.
pub fn run(
    plan: Plan,
    secrets: Vec<SecretKey>,
    applications: Vec<Arc<dyn Application>>,
    done: impl Fn() -> bool + Send + 'static,
) -> Result<Trace, SimulationError> {
    let watch = move |_| Look { events: Vec::new(), done: done() };
    run_watched(plan, secrets, applications, watch)
}

/// Runs them, and asks `watch` at every glance what happens next; it is told how much simulated time
/// has passed.
///
/// # Errors
/// As [`run`].
pub fn run_watched(
    plan: Plan,
    secrets: Vec<SecretKey>,
    applications: Vec<Arc<dyn Application>>,
    mut watch: impl FnMut(Duration) -> Look + Send + 'static,
) -> Result<Trace, SimulationError> {
    let config = deterministic::Config::new().with_seed(plan.seed).with_timeout(None);
    deterministic::Runner::new(config).start(|context| async move {
        let begun = context.current();
        let elapsed = |context: &Context| context.current().duration_since(begun);
        let mut world = World::new(&context, plan, secrets).await;
        let mut events = std::mem::take(&mut world.plan.events).into_iter().peekable();
        loop {
            let now = elapsed(&context).unwrap_or_default();
            while let Some((_, event)) = events.next_if(|(at, _)| *at <= now) {
                world.happen(&context, event, &applications).await?;
            }
            let look = watch(now);
            for event in look.events {
                world.happen(&context, event, &applications).await?;
            }
            if events.peek().is_none() && look.done {
                return Ok(Trace { fingerprint: context.auditor().state(), elapsed: now });
            }
            if now >= world.plan.limit {
                return Err(SimulationError::Limit { limit: world.plan.limit });
            }
            context.sleep(GLANCE).await;
        }
    })
}

impl World {
    async fn new(context: &Context, plan: Plan, secrets: Vec<SecretKey>) -> Self {
        let keys: Vec<PublicKey> = secrets.iter().map(SecretKey::public_key).collect();
        let names: Vec<Key> = keys.iter().cloned().map(Key::from).collect();
        let limits = simulated::Config {
            max_size: message_bytes_max(plan.body_bytes_max),
            max_peers_per_set: NonZeroUsize::new(keys.len()).unwrap_or(NonZeroUsize::MIN),
            disconnect_on_block: true,
            tracked_peer_sets: NZUsize!(1),
        };
        let (network, oracle) =
            Network::new_with_peers(context.child("network"), limits, names.clone()).await;
        network.start();
        let peers = names.clone().into_iter().try_collect();
        let _ = oracle.manager().track(0, peers.unwrap_or_else(|_| Set::default()));
        let running = keys.iter().map(|_| None).collect();
        let world = Self { plan, secrets, keys, names, oracle, running };
        for one in 0..world.names.len() {
            world.connect(one).await;
        }
        world
    }

    /// Links a validator with all others; what is linked stays so.
    async fn connect(&self, one: usize) {
        let Link { latency, jitter, arrive_percent } = self.plan.link;
        let success_rate = Probability::new(arrive_percent.min(100).into(), 100);
        let Some(success_rate) = success_rate else { return };
        let link = simulated::Link { latency, jitter, success_rate };
        for other in (0..self.names.len()).filter(|other| *other != one) {
            for (from, to) in [(one, other), (other, one)] {
                let (from, to) = (self.names[from].clone(), self.names[to].clone());
                let _ = self.oracle.add_link(from, to, link.clone()).await;
            }
        }
    }

    async fn happen(
        &mut self,
        context: &Context,
        event: Event,
        applications: &[Arc<dyn Application>],
    ) -> Result<(), SimulationError> {
        match event {
            Event::Start(one) => {
                let application = applications[one].clone();
                let started = self.start(context, one, application).await;
                let failed = |error| SimulationError::Start { validator: one, error };
                self.running[one] = Some(started.map_err(failed)?);
            }
            Event::Stop(one) => {
                if let Some(running) = self.running[one].take() {
                    running.abort();
                }
            }
            Event::Cut(one) => {
                for other in (0..self.names.len()).filter(|other| *other != one) {
                    self.part(one, other).await;
                }
            }
            Event::Apart(one, other) => self.part(one, other).await,
            Event::Join(one) => self.connect(one).await,
        }
        Ok(())
    }

    async fn part(&self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            let (from, to) = (self.names[from].clone(), self.names[to].clone());
            let _ = self.oracle.remove_link(from, to).await;
        }
    }

    fn config(&self, one: usize) -> OrderConfig {
        let network = NetworkConfig {
            // Nothing listens.
            listen: ([127, 0, 0, 1], 0).into(),
            peers: Vec::new(),
            any_source: false,
            blocked_for: Duration::from_secs(3_600),
            body_bytes_max: self.plan.body_bytes_max,
        };
        let namespace = self.plan.namespace.clone();
        let folder = format!("validator-{one}");
        OrderConfig {
            network: Some(network),
            ..OrderConfig::new(namespace, self.keys.clone(), folder, self.plan.genesis)
        }
    }

    /// Starts a validator like a node does: it recalls its votes, hands over what the application
    /// missed, and goes on. The task that is returned takes all others of the validator with it.
    async fn start(
        &self,
        context: &Context,
        one: usize,
        application: Arc<dyn Application>,
    ) -> Result<Handle<()>, OrderError> {
        let (config, secret) = (self.config(one), &self.secrets[one]);
        let key = || Refused::NotAValidator { key: self.names[one].to_string() };
        let set = sorted(&self.keys)?;
        let scheme = Scheme::signer(&config.namespace, set, secret.clone()).ok_or_else(key)?;
        // The simulated disk is one for all.
        let partition = format!("{}-{one}", journal::partition(config.epoch));
        let context = context.child("validator").with_attribute("validator", one);
        let recall = context.child("recall");
        let memory = journal::recall(recall, &partition, &scheme, &config.directory).await?;
        // The newest certificate that the application has, as a node would have it from its store.
        let newest = application.finals(application.last().height, 1, usize::MAX).pop();
        let known = newest.map(|block| finalization::decode(&block.finalization)).transpose()?;
        let resume = resume(&config, &scheme, known.as_ref(), memory, application.as_ref())?;
        let member = Member {
            application,
            calls: Calls::Inline(Open::default(), Vec::new()),
            good: Good::default(),
            scheme,
            me: self.names[one].clone(),
            status: Arc::new(Status::new(
                finalization::sort_validators(&self.keys)?,
                secret.public_key(),
            )),
            partition,
        };
        let control = self.oracle.control(self.names[one].clone());
        let quota = Quota::per_second(NZU32!(1024));
        let closed = |_| Refused::Directory {
            directory: config.directory.clone(),
            reason: "the simulated network is closed".to_owned(),
        };
        let links = Links {
            votes: control.register(0, quota).await.map_err(closed)?,
            certificates: control.register(1, quota).await.map_err(closed)?,
            views: control.register(2, quota).await.map_err(closed)?,
            bodies: control.register(3, quota).await.map_err(closed)?,
            requests: control.register(4, quota).await.map_err(closed)?,
            blocker: control,
            peers: self.oracle.manager(),
        };
        let all = config.clone();
        Ok(context.child("tasks").spawn(move |context| async move {
            let (engine, exchange) =
                start_member(context.child("set"), &all, resume, member, links);
            if let Some(engine) = engine {
                let _ = engine.await;
            }
            let _ = exchange.await;
        }))
    }
}
