//! A run: machines, stream and faults over simulated time, watched at every glance.
//!
//! Producers first register everybody, wait until that is executed somewhere, and then send a load
//! whose outcomes are known beforehand; some records are sent twice, as by a producer that never got
//! its acknowledgement. Where the set changes, authorities say so meanwhile.
//!
//! Invariants
//! - Nothing here reads a clock or a source of randomness but those of the run.

use crate::dice::Dice;
use crate::faults::{AGAIN_MS, Course};
use crate::govern::{Decree, Governed};
use crate::ledger::{Ledger, held};
use crate::machine::{Machine, Said};
use crate::plan::{Config, Fault, Plan, Role};
use crate::replica::{Character, Replica, Shared};
use crate::stream::{Feed, Stream};
use piaogen_crypto::Lanes;
use piaogen_ingest::check::Signatures;
use piaogen_loadgen::generator::{GeneratorConfig, Shares};
use piaogen_loadgen::genesis::{DemoChain, demo_chain};
use piaogen_loadgen::scenario::{Load, LoadConfig};
use piaogen_loadgen::source::{Expected, Generated, Kind, Registrations, Source};
use piaogen_order::simulation::{self, Glance, Look, Noise, Side, Turn};
use piaogen_verify::entry::Outcome;
use piaogen_verify::follow::Follower;
use piaogen_verify::trust_root::TrustRoot;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The time of block 0.
const TIME_MS: i64 = 1_795_000_000_000;
/// How long records are being sent.
const SENDING_MS: u64 = 3_500;

/// Labels of the numbers of first selves and of second ones, with room for each machine.
const FIRST: u64 = 1_000;
const SECOND: u64 = 2_000;
const OTHER: u64 = 3_000;

/// How many blocks an honest validator may be behind the others when a run ends.
pub(crate) const LATE_MAX: u64 = 3;

/// A record that was sent, with the outcome that it must have.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) what: Generated,
    pub(crate) offset: u64,
}

/// Makes another epoch of one.
pub(crate) type Bend = Box<dyn Fn(&mut Turn) + Send>;

/// What is still to be sent.
struct Unsent {
    load: Load,
    decrees: Vec<Decree>,
}

/// A run that is under way.
pub(crate) struct World {
    pub(crate) shared: Arc<Shared>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) governed: Governed,
    pub(crate) trust: TrustRoot,
    /// What was sent, by partition, in the order of the stream.
    pub(crate) sent: Vec<Vec<Sent>>,
    /// Where the records stand that change the set.
    pub(crate) steps: Vec<u64>,
    unsent: Option<Unsent>,
    pub(crate) plan: Plan,
    /// The one fault that there is, where it is one.
    pub(crate) alone: Option<Fault>,
    pub(crate) courses: Vec<Course>,
    pub(crate) apart: BTreeSet<(usize, usize)>,
    /// What becomes of messages now.
    pub(crate) noise: Noise,
    pub(crate) healed: bool,
    /// The highest final block when the run was done: more may come while everything stops.
    pub(crate) ended_at: u64,
    /// Whom the two selves of those talk to who equivocate.
    pub(crate) sides: (Side, Side),
    /// What a bug would make of an epoch that begins.
    pub(crate) bend: Option<Bend>,
    /// Ends the run when all honest have so many blocks, whatever was violated.
    pub(crate) until: Option<usize>,
    witness: Option<Follower>,
    pub(crate) dice: Dice,
}

/// The chain of a run, with its keys.
pub(crate) fn chain(config: &Config, governed: &Governed) -> DemoChain {
    let chain = demo_chain(config.seed, config.partitions, config.validators as u32, TIME_MS);
    match governed.blocks {
        Some(blocks) => chain.with_epochs_of(blocks),
        None => chain,
    }
}

/// One honest machine hears both selves of who equivocates, the others one or the other.
fn sides(config: &Config, plan: &Plan, governed: &Governed) -> (Side, Side) {
    let honest = |machine: &usize| plan.roles[*machine] == Role::Honest;
    let all: Vec<usize> = (0..plan.roles.len()).filter(honest).collect();
    let both = all.get(config.seed as usize % all.len().max(1)).copied();
    let side = |first: bool| {
        let is_of = |machine: usize| {
            let is_first = (machine as u64 + config.seed / 3).is_multiple_of(2);
            !honest(&machine) || Some(machine) == both || is_first == first
        };
        let keys = governed.machines.iter().enumerate().filter(|(machine, _)| is_of(*machine));
        Side::of(keys.flat_map(|(_, keys)| keys.clone()))
    };
    (side(true), side(false))
}

impl World {
    pub(crate) fn new(config: &Config, chain: &DemoChain, governed: Governed) -> World {
        let plan = Plan::new(config, governed.machines.len());
        let mut governed = governed;
        governed.spare(plan.votes_flip());
        let governed = governed.on(chain, config.seed);
        let mut dice = Dice::new(config.seed, 2);
        let genesis = Arc::new(chain.genesis.clone());
        let partitions = config.partitions as usize + 1;
        let shared = Arc::new(Shared {
            genesis: genesis.clone(),
            stream: Mutex::new(Stream::new(partitions)),
            now_ms: AtomicU64::new(0),
            ledger: Mutex::new(Ledger::default()),
            verifier: Arc::new(Signatures::new(Lanes::detect(), 4 << 20)),
        });
        let mut invoices = GeneratorConfig::new(config.seed, &genesis);
        (invoices.sellers, invoices.shares) = (6, Shares::with_bad(12_000));
        let load = LoadConfig { invoices, records: config.records, events_per_100: 60 };
        let load = Load::new(load, &genesis, &chain.authority);
        let records = load.registrations();
        let registrations = Registrations { records, partitions: config.partitions };
        let replica = |who: usize, dice: &mut Dice, label: u64| {
            let delays = (0..partitions).map(|_| dice.between(0, 400)).collect();
            let character = Character {
                who,
                role: plan.roles[who],
                records_max: dice.between(4, 40) as usize,
                flush_every: dice.between(1, 6),
            };
            let own = Dice::new(config.seed, label + who as u64);
            Arc::new(Replica::new(&shared, character, Feed::new(delays), own))
        };
        let first: Vec<Arc<Replica>> =
            (0..plan.roles.len()).map(|who| replica(who, &mut dice, FIRST)).collect();
        let machine = |(who, first): (usize, Arc<Replica>)| {
            let two = plan.roles[who] == Role::Equivocates;
            let mut other = Dice::new(config.seed, OTHER + who as u64);
            let second = two.then(|| replica(who, &mut other, SECOND));
            let keys = governed.machines[who].clone();
            let spare = governed.spares.contains(&who).then_some(keys.len() - 1);
            Machine::new(first, second, keys, spare)
        };
        let machines = first.into_iter().enumerate().map(machine).collect();
        let trust = TrustRoot::of_genesis(&genesis);
        let decrees = governed.decrees(chain, config.partitions, config.seed);
        let mut world = World {
            machines,
            witness: Follower::new(&trust).ok(),
            trust,
            sent: vec![Vec::new(); partitions],
            steps: Vec::new(),
            unsent: Some(Unsent { load, decrees }),
            alone: config.fault,
            courses: vec![Course::default(); plan.episodes.len()],
            apart: BTreeSet::new(),
            noise: Noise::default(),
            healed: false,
            ended_at: u64::MAX,
            sides: sides(config, &plan, &governed),
            bend: None,
            until: None,
            shared,
            governed,
            plan,
            dice,
        };
        world.number_seconds();
        world.send_all(&registrations, 0, 1);
        world
    }

    /// Second selves have the applications behind those of all keys, in the order of the roles.
    fn number_seconds(&mut self) {
        let mut next = self.governed.keys();
        for machine in self.machines.iter_mut().filter(|machine| machine.second.is_some()) {
            machine.seconds = (next..next + machine.keys.len()).collect();
            next += machine.keys.len();
        }
    }

    /// What there is of the network.
    pub(crate) fn link(&self) -> simulation::Link {
        self.plan.link
    }

    /// The applications: of all keys, then those of second selves.
    pub(crate) fn applications(&self) -> Vec<Arc<Replica>> {
        let machine = |key| self.governed.machine(key).map(|at| &self.machines[at]);
        let keys = (0..self.governed.keys()).filter_map(machine);
        let first: Vec<_> = keys.map(|machine| machine.replica.clone()).collect();
        let second = self.machines.iter().flat_map(|machine| {
            let second = machine.second.iter().cloned();
            second.flat_map(|one| std::iter::repeat_n(one, machine.keys.len()))
        });
        first.into_iter().chain(second).collect()
    }

    /// Who lies to the network, by key.
    pub(crate) fn roles(&self) -> Vec<(usize, simulation::Role)> {
        let told = |(machine, role): (&Machine, &Role)| {
            let role = role.in_network(self.sides)?;
            Some(machine.keys.iter().map(|key| (*key, role)).collect::<Vec<_>>())
        };
        self.machines.iter().zip(&self.plan.roles).filter_map(told).flatten().collect()
    }

    /// Sends a whole source, over so many milliseconds.
    fn send_all(&mut self, source: &dyn Source, from_ms: u64, over_ms: u64) {
        let records = source.len().unwrap_or(0);
        // What cannot be made shows as missing.
        let batch = source.batch(0..records, Lanes::detect()).unwrap_or_default();
        for (at, what) in (0u64..).zip(batch) {
            let at_ms = from_ms + at * over_ms / records.max(1);
            let again = what.kind == Kind::Blue
                && what.expected == Expected::Exactly(Outcome::Accepted)
                && self.dice.percent(6);
            let twice = again.then(|| {
                let expected = Expected::Replay { of: what.index };
                Generated { expected, kind: Kind::Replay, ..what.clone() }
            });
            self.send(at_ms, what);
            if let Some(what) = twice {
                self.send(at_ms, what);
                held(&self.shared.ledger).count("records sent twice");
            }
        }
    }

    /// Sends a record; its offset.
    fn send(&mut self, at_ms: u64, what: Generated) -> u64 {
        let partition = what.partition as usize;
        let bytes = what.record.clone();
        let mut stream = held(&self.shared.stream);
        let offset = stream.send(partition, at_ms, bytes, &mut self.dice);
        self.sent[partition].push(Sent { what, offset });
        offset
    }

    /// What happens at a glance, and whether the run is done.
    pub(crate) fn look(&mut self, glance: Glance) -> Look {
        let now = glance.now.as_millis() as u64;
        self.shared.now_ms.store(now, Ordering::SeqCst);
        self.machines.iter().flat_map(Machine::selves).for_each(|replica| replica.poke());
        let mut said = Said::default();
        for damaged in glance.refused {
            let machine = self.governed.machine(damaged.validator);
            if let Some(machine) = machine.and_then(|at| self.machines.get_mut(at)) {
                machine.refused(damaged, now + AGAIN_MS, &self.shared.ledger);
            }
        }
        self.produce(now);
        self.begin_and_end(now, &mut said);
        self.find_dead(now, &mut said);
        let ledger = &self.shared.ledger;
        for machine in &mut self.machines {
            machine.forgive(now + AGAIN_MS, ledger, &mut said);
            machine.turn(now, ledger, &mut said);
            machine.start(
                now,
                &self.governed,
                self.bend.as_deref().map(|bend| bend as _),
                &mut said,
            );
            machine.regain(ledger);
        }
        self.watch();
        let Said { events, turns } = said;
        let done = self.is_done();
        if done {
            self.ended_at = self.best();
        }
        Look { events, turns, done }
    }

    fn is_done(&self) -> bool {
        if let Some(blocks) = self.until {
            let enough = |machine: &Machine| held(&machine.replica.inner).blocks.len() >= blocks;
            return self.honest().all(enough);
        }
        !held(&self.shared.ledger).violations.is_empty() || (self.healed && self.is_settled())
    }

    fn produce(&mut self, now: u64) {
        let registry = self.shared.genesis.file.partitions as usize;
        let end = held(&self.shared.stream).ends()[registry];
        let executed = self
            .machines
            .iter()
            .any(|machine| held(&machine.replica.inner).state.tip.cut.0[registry] >= end);
        if !executed {
            return;
        }
        let Some(Unsent { load, decrees }) = self.unsent.take() else { return };
        self.send_all(&load, now, SENDING_MS);
        for Decree { after_ms, what, step } in decrees {
            let offset = self.send(now + after_ms, what);
            self.steps.extend(step.map(|_| offset));
        }
    }

    /// Those that keep to the protocol.
    pub(crate) fn honest(&self) -> impl Iterator<Item = &Machine> {
        let roles = self.machines.iter().zip(&self.plan.roles);
        roles.filter(|(_, role)| **role == Role::Honest).map(|(machine, _)| machine)
    }

    /// Whether every honest validator has everything final, executed and provable, and the last set
    /// that was decided has made a block.
    fn is_settled(&self) -> bool {
        let (stream, best) = (held(&self.shared.stream), self.best());
        self.unsent.is_none()
            && self.honest().all(|machine| {
                let inner = held(&machine.replica.inner);
                machine.is_running()
                    && inner.is_settled(&stream)
                    && inner.blocks.len() as u64 + LATE_MAX >= best
                    && inner.state.tip.header.validators == self.governed.last()
            })
    }

    /// Why the run is not done.
    pub(crate) fn missing(&self) -> String {
        let stream = held(&self.shared.stream);
        let one = |(who, machine): (usize, &Machine)| {
            let inner = held(&machine.replica.inner);
            let (height, cut) = (inner.state.tip.header.height, &inner.state.tip.cut.0);
            let (epoch, _) = inner.state.tip.header.next_epoch();
            let settled = inner.is_settled(&stream);
            let (finals, phase) = (inner.blocks.len(), machine.phase);
            format!(
                "{who}: {phase:?}, settled {settled}, {finals} final, executed {height} in epoch \
                 {epoch} up to {cut:?} of {:?}",
                stream.ends()
            )
        };
        let all: Vec<String> = self.machines.iter().enumerate().map(one).collect();
        all.join("; ")
    }

    /// A witness follows whoever it happens to ask.
    fn watch(&mut self) {
        let at = self.dice.place(self.machines.len());
        let Some(witness) = &mut self.witness else { return };
        let inner = held(&self.machines[at].replica.inner);
        let (genesis, skip) = (self.shared.genesis.header(), witness.size() as usize);
        for link in self.governed.links(&genesis, &inner.blocks, skip) {
            if let Err(refusal) = witness.take(&link) {
                let text = format!("P5: a witness refuses a block of validator {at}: {refusal}");
                return held(&self.shared.ledger).violation(text);
            }
        }
    }
}
