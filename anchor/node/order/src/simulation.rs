//! Runs sets of validators from a seed: the real engine and the real exchange, over simulated time,
//! network and disk, with validators that lie.
//!
//! Applications are called in the one thread of the deterministic runtime, so they must answer at
//! once: what a real one would wait for, a simulated one answers with `None` or `NotYet`, and is
//! asked again when a little time has passed. An application outlives its validator's stops, as a
//! data folder does.
//!
//! # Faults
//!
//! Of the network: [`Link`] loses and scatters messages, [`Noise`] repeats them and lets others
//! overtake them, from the beginning or from [`Event::Noise`] on, [`Event::Cut`] and
//! [`Event::Split`] part validators. Of the machine:
//! [`Event::Stop`] loses what was not synced, [`Event::Blackout`] tears it, [`Event::Flip`] damages
//! what was. Of the validators: [`Role`].
//!
//! # Epochs
//!
//! Who watches a run says in which epoch a validator runs from its next start on ([`Turn`]), as a
//! node does that stops one engine and starts the next. Who is not of the set follows. A validator
//! that gets a new key is another one here, with the same application.
//!
//! # Invariants
//!
//! - The same plan and applications give the same trace.
//! - Nothing here decides: engine, exchange and recovery are those of a node.

mod disk;
mod liar;
mod records;
mod roles;
mod start;
mod wire;

pub use liar::vote_twice;
pub use records::{Noises, Traffic};
#[cfg(test)]
pub(crate) use roles::plausible_message;
pub use roles::{PLAUSIBLE, REPLAYED, Role};

use self::records::{CHANNELS, Records};
use self::wire::{In, Memories, Out, Selves};
use crate::held;
use crate::journal;
use crate::key::Key;
use crate::network::message_bytes_max;
use crate::{Application, Fatal, NetworkConfig, OrderConfig, OrderError, Refused};
use commonware_p2p::Manager as _;
use commonware_p2p::simulated::{self, Network, Oracle};
use commonware_runtime::deterministic::{self, Context};
use commonware_runtime::{Clock as _, Handle, Quota, Supervisor as _};
use commonware_utils::ordered::Set;
use commonware_utils::{NZU32, NZUsize, Probability, TryCollect as _};
use futures::future::join_all;
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::{PublicKey, SecretKey};
use piaogen_verify::evidence::Evidence;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// How often is looked whether the run is done.
const GLANCE: Duration = Duration::from_millis(50);
/// Most messages a second on a channel, of who keeps to the rules and of who does not.
const RATE: NonZeroU32 = NZU32!(1_024);
const RATE_OF_FLOODS: NonZeroU32 = NZU32!(1_000_000);

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

/// What links do besides: over a link alone messages stay in order, and come once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noise {
    /// Of a hundred messages, how many come a second time, later.
    pub repeated_percent: u8,
    /// Of a hundred messages, how many are held up, so that later ones overtake them.
    pub delayed_percent: u8,
    /// How long at most what is repeated or held up takes.
    pub delay: Duration,
}

/// Most members of a network: a set of the most validators, and those who come and go.
pub const MEMBERS_MAX: usize = 128;

/// Some of the members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side(u128);

impl Side {
    /// All that there can be.
    pub const ALL: Side = Side(u128::MAX);

    /// These validators.
    pub fn of(validators: impl IntoIterator<Item = usize>) -> Self {
        Self(
            validators
                .into_iter()
                .fold(0, |all, one| all | 1u128.checked_shl(one as u32).unwrap_or(0)),
        )
    }

    /// Whether a validator is among them.
    pub fn has(self, validator: usize) -> bool {
        Side::of([validator]).0 & self.0 != 0
    }
}

/// What happens to a validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It starts, from what it has on disk.
    Start(usize),
    /// It is gone, without warning. What was not synced is lost.
    Stop(usize),
    /// Nobody hears it, and it hears nobody.
    Cut(usize),
    /// It is connected again, with all.
    Join(usize),
    /// These two do not hear each other.
    Apart(usize, usize),
    /// They hear each other again.
    Together(usize, usize),
    /// Between these and the others nothing passes. Who lies hears and tells both sides: whoever
    /// cuts a network in two is in league with them.
    Split(Side),
    /// All are connected again.
    Heal,
    /// From now on links do this besides.
    Noise(Noise),
    /// All stop at one moment. Of each write that was not synced some bytes survive.
    Blackout,
    /// A bit of what a validator that does not run has synced last flips; the number says which,
    /// counted from the beginning of the file, and around.
    Flip(usize, u64),
}

/// The epoch in which a validator runs from its next start on.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Its number.
    pub epoch: u64,
    /// Its set; who is not of it follows.
    pub set: Vec<PublicKey>,
    /// Digest of the block that its first stands on.
    pub ground: Digest,
}

/// How a run stands when it is looked at.
#[derive(Clone, Debug, Default)]
pub struct Glance {
    /// How much simulated time has passed.
    pub now: Duration,
    /// Who was refused a start since the last glance because its votes are damaged, and does not run.
    pub refused: Vec<Damaged>,
}

/// Votes of which a bit has flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Whose.
    pub validator: usize,
    /// Of which epoch.
    pub epoch: u64,
    /// And of which view, at most; any, where nothing is left of them.
    pub view: u64,
}

/// What is said of a run when it is looked at.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// What happens now, beside what was planned.
    pub events: Vec<Event>,
    /// In which epochs applications run from the next start of their validators on. Where nothing
    /// was said yet it is epoch 0, of all validators, on the plan's genesis.
    pub turns: Vec<(usize, Turn)>,
    /// Whether the run is done, once all that was planned has happened.
    pub done: bool,
}

/// A run. [`Plan::new`] has the defaults.
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
    /// What links do besides.
    pub noise: Noise,
    /// Who lies, and how; the others are honest.
    pub roles: Vec<(usize, Role)>,
}

impl Plan {
    /// A quarter of an hour over a good network, on which nothing happens yet.
    pub fn new(
        seed: u64,
        namespace: impl Into<Vec<u8>>,
        genesis: Digest,
        body_bytes_max: usize,
    ) -> Self {
        let (latency, jitter) = (Duration::from_millis(20), Duration::from_millis(5));
        Self {
            seed,
            namespace: namespace.into(),
            genesis,
            body_bytes_max,
            link: Link { latency, jitter, arrive_percent: 100 },
            events: Vec::new(),
            limit: Duration::from_secs(900),
            noise: Noise::default(),
            roles: Vec::new(),
        }
    }

    fn role(&self, one: usize) -> Option<Role> {
        self.roles.iter().find(|(who, _)| *who == one).map(|(_, role)| *role)
    }
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
    /// There are more than there may be.
    #[error("there are {count} members, at most {MEMBERS_MAX} are simulated; leave some out")]
    Members {
        /// How many there are.
        count: usize,
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
    /// How many different votes honest validators sent.
    pub votes: usize,
    /// Honest validators, and views, of whom votes were sent that exclude each other.
    pub doubles: Vec<(usize, u64)>,
    /// Honest validators, and the epochs in which they sent votes.
    pub voted: BTreeSet<(usize, u64)>,
    /// Who blocked whom, by rising numbers.
    pub blocked: Vec<(usize, usize)>,
    /// Which honest validators caught whom, and with what.
    pub evidence: Vec<(usize, Evidence)>,
    /// What each validator sent on each channel (PROTOCOL section 5.2).
    pub traffic: Vec<[Traffic; CHANNELS]>,
    /// From proposing a block to its being final, at each validator.
    pub finality: Vec<Duration>,
    /// What the noise did.
    pub noise: Noises,
    /// How many bits of votes flipped.
    pub flips: u64,
}

type Net = Oracle<Key, Context>;

/// What goes on when all stop.
struct Course {
    plan: Plan,
    secrets: Vec<SecretKey>,
    applications: Vec<Arc<dyn Application>>,
    events: VecDeque<(Duration, Event)>,
    /// Pairs that are not linked, the lower number first.
    apart: BTreeSet<(usize, usize)>,
    /// By application.
    turns: BTreeMap<usize, Turn>,
    records: Arc<Records>,
    begun: Option<SystemTime>,
    /// Whether the watch is told of damaged votes; else a start that they prevent ends the run.
    told: bool,
    refused: Vec<Damaged>,
}

/// Why the runtime ended.
enum Ended {
    Blackout,
    Done(Box<Result<Trace, SimulationError>>),
}

/// Runs validators with these keys until `done`; validator i works for application i. Those who
/// equivocate have a second application each, behind all others, in the order of `plan.roles`.
///
/// # Errors
/// `Start` where a validator is refused, `Members` where there are too many, `Limit` where it takes
/// too long.
pub fn run(
    plan: Plan,
    secrets: Vec<SecretKey>,
    applications: Vec<Arc<dyn Application>>,
    done: impl Fn() -> bool + Send + 'static,
) -> Result<Trace, SimulationError> {
    let watch = move |_| Look { done: done(), ..Look::default() };
    course(plan, secrets, applications, false)?.play(watch)
}

/// Runs them, and asks `watch` at every glance what happens next. It is told of those whose votes
/// are damaged; the run goes on without them. A `Blackout` must have been planned.
///
/// # Errors
/// As [`run`].
pub fn run_watched(
    plan: Plan,
    secrets: Vec<SecretKey>,
    applications: Vec<Arc<dyn Application>>,
    watch: impl FnMut(Glance) -> Look + Send + 'static,
) -> Result<Trace, SimulationError> {
    course(plan, secrets, applications, true)?.play(watch)
}

fn course(
    mut plan: Plan,
    secrets: Vec<SecretKey>,
    applications: Vec<Arc<dyn Application>>,
    told: bool,
) -> Result<Course, SimulationError> {
    let count = secrets.len();
    if count > MEMBERS_MAX {
        return Err(SimulationError::Members { count });
    }
    Ok(Course {
        events: std::mem::take(&mut plan.events).into(),
        apart: BTreeSet::new(),
        turns: BTreeMap::new(),
        records: Arc::new(Records::new(count)),
        begun: None,
        plan,
        secrets,
        applications,
        told,
        refused: Vec::new(),
    })
}

impl Course {
    /// Runs it, from one blackout to the next.
    fn play(
        mut self,
        mut watch: impl FnMut(Glance) -> Look + Send + 'static,
    ) -> Result<Trace, SimulationError> {
        let mut config = deterministic::Config::new().with_seed(self.plan.seed).with_timeout(None);
        if self.events.iter().any(|(_, event)| *event == Event::Blackout) {
            config = config.with_storage_fault_config(disk::torn());
        }
        let mut runner = deterministic::Runner::new(config);
        loop {
            let (ended, checkpoint) =
                runner.start_and_recover(|context| self.run(context, &mut watch));
            match ended {
                Ended::Blackout => runner = checkpoint.into(),
                Ended::Done(outcome) => return *outcome,
            }
        }
    }

    /// Runs until it is done, or all stop.
    async fn run(&mut self, context: Context, watch: &mut impl FnMut(Glance) -> Look) -> Ended {
        let mut world = World::new(&context, self).await;
        // Links are made by a network that runs: the time that takes is nobody's.
        let begun = *self.begun.get_or_insert(context.current());
        loop {
            let now = context.current().duration_since(begun).unwrap_or_default();
            if let Some(ended) = self.due(&context, &mut world, now).await {
                return ended;
            }
            let look = watch(Glance { now, refused: std::mem::take(&mut self.refused) });
            self.turns.extend(look.turns);
            look.events.into_iter().rev().for_each(|event| self.events.push_front((now, event)));
            if let Some(ended) = self.due(&context, &mut world, now).await {
                return ended;
            }
            if self.events.is_empty() && look.done {
                return Ended::Done(Box::new(Ok(world.trace(&context, self, now).await)));
            }
            if now >= self.plan.limit {
                let limit = self.plan.limit;
                return Ended::Done(Box::new(Err(SimulationError::Limit { limit })));
            }
            context.sleep(GLANCE).await;
        }
    }

    /// Lets happen what is due; how that ended the runtime, if it did.
    async fn due(&mut self, context: &Context, world: &mut World, now: Duration) -> Option<Ended> {
        loop {
            let due = |(at, event): &(Duration, Event)| (*at <= now).then_some(*event);
            // Who starts in one moment does so beside the others.
            let starts: Vec<usize> = self.events.iter().map_while(due).map_while(start).collect();
            if !starts.is_empty() {
                self.events.drain(..starts.len());
                if let Err(error) = world.start(context, &starts, self).await {
                    return Some(Ended::Done(Box::new(Err(error))));
                }
            }
            let event = self.events.front().and_then(due)?;
            self.events.pop_front();
            match event {
                Event::Blackout => return Some(Ended::Blackout),
                event => world.happen(context, event, self).await,
            }
        }
    }

    /// Parts two, or joins them again.
    fn set_apart(&mut self, one: usize, other: usize, apart: bool) {
        let pair = (one.min(other), one.max(other));
        if apart && one != other {
            self.apart.insert(pair);
        } else {
            self.apart.remove(&pair);
        }
    }

    /// Notes who hears whom from now on; the pairs of whom that changes.
    fn rearrange(&mut self, event: Event) -> Vec<(usize, usize)> {
        let before = self.apart.clone();
        let all = 0..self.secrets.len();
        match event {
            Event::Cut(one) => all.for_each(|other| self.set_apart(one, other, true)),
            Event::Join(one) => all.for_each(|other| self.set_apart(one, other, false)),
            Event::Split(side) => {
                for (one, other) in
                    all.clone().flat_map(|one| all.clone().map(move |two| (one, two)))
                {
                    let honest = self.plan.role(one).or(self.plan.role(other)).is_none();
                    if honest && side.has(one) && !side.has(other) {
                        self.set_apart(one, other, true);
                    }
                }
            }
            Event::Apart(one, other) => self.set_apart(one, other, true),
            Event::Together(one, other) => self.set_apart(one, other, false),
            Event::Heal => self.apart.clear(),
            _ => {}
        }
        before.symmetric_difference(&self.apart).copied().collect()
    }
}

/// Up to which view votes are damaged, where that is the error.
fn damaged(error: &OrderError) -> Option<u64> {
    match error {
        OrderError::Fatal(Fatal::VotesDamaged { view, .. }) => Some(*view),
        OrderError::Refused(Refused::VotesMissing { .. }) => Some(u64::MAX),
        _ => None,
    }
}

/// Who starts in an event.
fn start(event: Event) -> Option<usize> {
    match event {
        Event::Start(one) => Some(one),
        _ => None,
    }
}

/// What all validators share while none of it stops.
#[derive(Clone)]
struct Shared {
    names: Arc<[Key]>,
    oracle: Net,
    selves: Selves,
    memories: Memories,
    noise: Arc<Mutex<Noise>>,
}

/// All validators.
struct World {
    shared: Shared,
    running: Vec<Option<Handle<()>>>,
}

impl World {
    async fn new(context: &Context, course: &Course) -> Self {
        let keys: Vec<PublicKey> = course.secrets.iter().map(SecretKey::public_key).collect();
        let names: Arc<[Key]> = keys.into_iter().map(Key::from).collect();
        let limits = simulated::Config {
            max_size: message_bytes_max(course.plan.body_bytes_max),
            max_peers_per_set: NonZeroUsize::new(names.len()).unwrap_or(NonZeroUsize::MIN),
            disconnect_on_block: true,
            tracked_peer_sets: NZUsize!(1),
        };
        let (network, oracle) =
            Network::new_with_peers(context.child("network"), limits, names.to_vec()).await;
        network.start();
        let peers = names.iter().cloned().try_collect();
        let _ = oracle.manager().track(0, peers.unwrap_or_else(|_| Set::default()));
        let running = names.iter().map(|_| None).collect();
        let noise = Arc::new(Mutex::new(course.plan.noise));
        let (selves, memories) = (Selves::default(), Memories::default());
        let shared = Shared { names, oracle, selves, memories, noise };
        let count = shared.names.len();
        let pairs = (0..count).flat_map(|one| (one + 1..count).map(move |two| (one, two)));
        shared.link(course, pairs).await;
        Self { shared, running }
    }

    /// Starts these.
    async fn start(
        &mut self,
        context: &Context,
        who: &[usize],
        course: &mut Course,
    ) -> Result<(), SimulationError> {
        let (shared, known) = (&self.shared, &*course);
        let starts = who.iter().map(|one| shared.start(context, *one, known));
        for (one, started) in who.iter().zip(join_all(starts).await) {
            match started {
                Ok(running) => self.running[*one] = Some(running),
                Err(error) => {
                    let view = damaged(&error).filter(|_| course.told);
                    let failed = SimulationError::Start { validator: *one, error };
                    let view = view.ok_or(failed)?;
                    let epoch = self.shared.config(*one, *one, course).epoch;
                    course.refused.push(Damaged { validator: *one, epoch, view });
                }
            }
        }
        Ok(())
    }

    async fn happen(&mut self, context: &Context, event: Event, course: &mut Course) {
        match event {
            Event::Stop(one) => {
                if let Some(running) = self.running[one].take() {
                    running.abort();
                    // That it was aborted is what it answers.
                    let _ = running.await;
                }
            }
            Event::Flip(one, at) => {
                let votes = partition(&self.shared.config(one, one, course), one, 0);
                if disk::flip(context, &votes, at).await {
                    course.records.flipped();
                } else {
                    tracing::warn!(validator = one, "no votes of which a bit could flip");
                }
            }
            Event::Cut(_)
            | Event::Join(_)
            | Event::Apart(..)
            | Event::Together(..)
            | Event::Split(_)
            | Event::Heal => {
                let pairs = course.rearrange(event);
                self.shared.link(course, pairs).await;
            }
            Event::Noise(noise) => {
                course.plan.noise = noise;
                *held(&self.shared.noise) = noise;
            }
            Event::Start(_) | Event::Blackout => {}
        }
    }

    async fn trace(&self, context: &Context, course: &Course, elapsed: Duration) -> Trace {
        let number = |key: &Key| self.shared.names.iter().position(|name| name == key);
        let blocked = self.shared.oracle.blocked().await.unwrap_or_default();
        let mut blocked: Vec<(usize, usize)> =
            blocked.iter().filter_map(|(from, to)| Some((number(from)?, number(to)?))).collect();
        blocked.sort_unstable();
        let records = &course.records;
        Trace {
            fingerprint: context.auditor().state(),
            elapsed,
            votes: records.votes(),
            doubles: records.doubles(),
            voted: records.voted(),
            blocked,
            evidence: records.evidence(),
            traffic: records.traffic(),
            finality: records.finality(),
            noise: records.noise(),
            flips: records.flips(),
        }
    }
}

impl Shared {
    /// Links those of these pairs who are not apart, and parts those who are.
    async fn link(&self, course: &Course, pairs: impl IntoIterator<Item = (usize, usize)>) {
        let Link { latency, jitter, arrive_percent } = course.plan.link;
        let success_rate = Probability::new(arrive_percent.min(100).into(), 100);
        let Some(success_rate) = success_rate else { return };
        let link = simulated::Link { latency, jitter, success_rate };
        let ways = pairs.into_iter().flat_map(|(one, two)| [(one, two), (two, one)]);
        let change = async |(one, two): (usize, usize)| {
            let (from, to) = (self.names[one].clone(), self.names[two].clone());
            // That there is one already, or none, is no error.
            let _ = match course.apart.contains(&(one.min(two), one.max(two))) {
                true => self.oracle.remove_link(from, to).await,
                false => self.oracle.add_link(from, to, link.clone()).await,
            };
        };
        join_all(ways.map(change)).await;
    }

    /// How a validator is started for an application.
    fn config(&self, one: usize, application: usize, course: &Course) -> OrderConfig {
        let plan = &course.plan;
        let turn = course.turns.get(&application).cloned().unwrap_or_else(|| Turn {
            epoch: 0,
            set: self.names.iter().map(|name| name.point().clone()).collect(),
            ground: plan.genesis,
        });
        let network = NetworkConfig {
            // Nothing listens.
            listen: ([127, 0, 0, 1], 0).into(),
            peers: Vec::new(),
            any_source: false,
            blocked_for: Duration::from_secs(3_600),
            body_bytes_max: plan.body_bytes_max,
        };
        let namespace = plan.namespace.clone();
        let folder = format!("validator-{one}");
        OrderConfig {
            network: Some(network),
            epoch: turn.epoch,
            ..OrderConfig::new(namespace, turn.set, folder, turn.ground)
        }
    }

    /// Takes the place of a validator on all channels of the network.
    async fn register(&self, one: usize, plan: &Plan) -> Result<Vec<(Out, In)>, Refused> {
        let control = self.oracle.control(self.names[one].clone());
        let rate = if plan.role(one) == Some(Role::Floods) { RATE_OF_FLOODS } else { RATE };
        let mut links = Vec::new();
        for channel in 0..CHANNELS as u64 {
            let link = control.register(channel, Quota::per_second(rate)).await;
            links.push(link.map_err(|_| Refused::Directory {
                directory: format!("validator-{one}").into(),
                reason: "the simulated network is closed".to_owned(),
            })?);
        }
        Ok(links)
    }
}

/// Name of the journal of one self of a validator.
fn partition(config: &OrderConfig, one: usize, which: usize) -> String {
    format!("{}-{one}-{which}", journal::partition(config.epoch))
}
