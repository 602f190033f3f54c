//! A run: validators, stream and faults over simulated time, watched at every glance.
//!
//! Producers first register everybody, wait until that is executed somewhere, and then send a load
//! whose outcomes are known beforehand; some records are sent twice, as by a producer that never got
//! its acknowledgement.
//!
//! Invariants
//! - Nothing here reads a clock or a source of randomness but those of the run.

use crate::dice::Dice;
use crate::folder::Final;
use crate::ledger::{Ledger, held};
use crate::plan::{Config, Episode, Fault, Plan, Role};
use crate::replica::{Character, Inner, Replica, Shared};
use crate::stream::{Feed, Stream};
use piaogen_crypto::Lanes;
use piaogen_ingest::check::Signatures;
use piaogen_loadgen::generator::{GeneratorConfig, Shares};
use piaogen_loadgen::genesis::{DemoChain, demo_chain};
use piaogen_loadgen::scenario::{Load, LoadConfig};
use piaogen_loadgen::source::{Expected, Generated, Kind, Registrations, Source};
use piaogen_order::simulation::{Event, Look};
use piaogen_verify::entry::Outcome;
use piaogen_verify::follow::{Follower, Link};
use piaogen_verify::header::Header;
use piaogen_verify::trust_root::TrustRoot;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Partitions of the topic of records.
const PARTITIONS: u32 = 2;
/// The time of block 0.
const TIME_MS: i64 = 1_795_000_000_000;
/// A validator that was stopped stays away at least so long: the engine ends at its own pace.
const AGAIN_MS: u64 = 200;
/// How long records are being sent.
const SENDING_MS: u64 = 3_500;
/// How far ahead a clock jumps at least: more than validators allow.
const JUMP_MS: i64 = 61_000;

/// A record that was sent, with the outcome that it must have.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) what: Generated,
    pub(crate) offset: u64,
}

/// A run that is under way.
pub(crate) struct World {
    pub(crate) shared: Arc<Shared>,
    pub(crate) replicas: Vec<Arc<Replica>>,
    pub(crate) trust: TrustRoot,
    /// What was sent, by partition, in the order of the stream.
    pub(crate) sent: Vec<Vec<Sent>>,
    /// What is still to be sent.
    load: Option<Load>,
    plan: Plan,
    begun: Vec<bool>,
    ended: Vec<bool>,
    healed: bool,
    running: Vec<bool>,
    /// When those that are down start again.
    starts: Vec<Option<u64>>,
    /// Whose disk was damaged while it was down.
    damaged: Vec<bool>,
    witness: Follower,
    dice: Dice,
}

/// The chain of a run, with its keys.
pub(crate) fn chain(config: &Config) -> DemoChain {
    demo_chain(config.seed, PARTITIONS, config.validators as u32, TIME_MS)
}

impl World {
    pub(crate) fn new(config: &Config, chain: &DemoChain) -> World {
        let plan = Plan::new(config);
        let mut dice = Dice::new(config.seed, 2);
        let genesis = Arc::new(chain.genesis.clone());
        let partitions = PARTITIONS as usize + 1;
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
        let registrations = Registrations { records: load.registrations(), partitions: PARTITIONS };
        let n = config.validators;
        let replica = |who: usize| {
            let delays = (0..partitions).map(|_| dice.between(0, 400)).collect();
            let character = Character {
                who,
                role: plan.roles[who],
                records_max: dice.between(4, 40) as usize,
                flush_every: dice.between(1, 6),
            };
            let own = Dice::new(config.seed, 100 + who as u64);
            Arc::new(Replica::new(&shared, character, Feed::new(delays), own))
        };
        let replicas = (0..n).map(replica).collect();
        let trust = TrustRoot::of_genesis(&genesis);
        let witness = Follower::new(&trust).expect("the trust root of a genesis is of epoch 0");
        let episodes = plan.episodes.len();
        let mut world = World {
            shared,
            replicas,
            trust,
            sent: vec![Vec::new(); partitions],
            load: Some(load),
            plan,
            begun: vec![false; episodes],
            ended: vec![false; episodes],
            healed: false,
            running: vec![false; n],
            starts: vec![Some(0); n],
            damaged: vec![false; n],
            witness,
            dice,
        };
        world.send_all(&registrations, 0, 1);
        world
    }

    pub(crate) fn link(&self) -> piaogen_order::simulation::Link {
        self.plan.link
    }

    /// Who lies to the network.
    pub(crate) fn roles(&self) -> Vec<(usize, piaogen_order::simulation::Role)> {
        let told = |(who, role): (usize, &Role)| Some((who, role.in_network()?));
        self.plan.roles.iter().enumerate().filter_map(told).collect()
    }

    /// When everything is healed.
    pub(crate) fn heal_ms(&self) -> u64 {
        self.plan.heal_ms
    }

    /// Sends a whole source, over so many milliseconds.
    fn send_all(&mut self, source: &dyn Source, from_ms: u64, over_ms: u64) {
        let records = source.len().unwrap_or(0);
        // What cannot be made shows as missing.
        let batch = source.batch(0..records, Lanes::detect()).unwrap_or_default();
        let mut stream = held(&self.shared.stream);
        for (at, what) in (0u64..).zip(batch) {
            let at_ms = from_ms + at * over_ms / records.max(1);
            let partition = what.partition as usize;
            let offset = stream.send(partition, at_ms, what.record.clone(), &mut self.dice);
            let again = what.kind == Kind::Blue
                && what.expected == Expected::Exactly(Outcome::Accepted)
                && self.dice.percent(6);
            self.sent[partition].push(Sent { what: what.clone(), offset });
            if again {
                let offset = stream.send(partition, at_ms, what.record.clone(), &mut self.dice);
                let expected = Expected::Replay { of: what.index };
                let what = Generated { expected, kind: Kind::Replay, ..what };
                self.sent[partition].push(Sent { what, offset });
                held(&self.shared.ledger).count("records sent twice");
            }
        }
    }

    /// What happens at a glance, and whether the run is done.
    pub(crate) fn look(&mut self, now: Duration) -> Look {
        let now = now.as_millis() as u64;
        self.shared.now_ms.store(now, Ordering::SeqCst);
        self.replicas.iter().for_each(|replica| replica.poke());
        let mut events = Vec::new();
        self.produce(now);
        self.begin_and_end(now, &mut events);
        self.find_dead(now, &mut events);
        self.start(now, &mut events);
        self.watch();
        let failed = !held(&self.shared.ledger).violations.is_empty();
        Look { events, done: failed || (self.healed && self.is_settled()) }
    }

    fn produce(&mut self, now: u64) {
        let registry = PARTITIONS as usize;
        let end = held(&self.shared.stream).ends()[registry];
        let mut tips = self.replicas.iter().map(|replica| {
            let inner = held(&replica.inner);
            inner.state.tip.cut.0[registry]
        });
        if self.load.is_some()
            && tips.any(|executed| executed >= end)
            && let Some(load) = self.load.take()
        {
            self.send_all(&load, now, SENDING_MS);
        }
    }

    fn is_settled(&self) -> bool {
        if self.load.is_some() {
            return false;
        }
        let stream = held(&self.shared.stream);
        self.replicas.iter().zip(&self.running).all(|(replica, running)| {
            let inner = held(&replica.inner);
            inner.character.role != Role::Honest || (*running && inner.is_settled(&stream))
        })
    }

    /// Why the run is not done.
    pub(crate) fn missing(&self) -> String {
        let stream = held(&self.shared.stream);
        let one = |(who, replica): (usize, &Arc<Replica>)| {
            let inner = held(&replica.inner);
            let (height, cut) = (inner.state.tip.header.height, &inner.state.tip.cut.0);
            let settled = inner.is_settled(&stream);
            let (finals, running) = (inner.blocks.len(), self.running[who]);
            format!(
                "{who}: running {running}, settled {settled}, {finals} final, executed {height} \
                 up to {cut:?} of {:?}",
                stream.ends()
            )
        };
        let all: Vec<String> = self.replicas.iter().enumerate().map(one).collect();
        all.join("; ")
    }

    fn begin_and_end(&mut self, now: u64, events: &mut Vec<Event>) {
        for at in 0..self.plan.episodes.len() {
            let episode = self.plan.episodes[at].clone();
            if !self.begun[at] && episode.from_ms <= now {
                self.begun[at] = true;
                held(&self.shared.ledger).count(&format!("fault {}", episode.fault.name()));
                self.begin(&episode, events);
            }
            if !self.ended[at] && episode.to_ms <= now {
                self.ended[at] = true;
                self.end(&episode, events);
            }
        }
        if !self.healed && self.plan.heal_ms <= now {
            self.healed = true;
            self.heal(now, events);
        }
    }

    fn begin(&mut self, episode: &Episode, events: &mut Vec<Event>) {
        let whom = episode.whom;
        let replica = self.replicas[whom].clone();
        let mut inner = held(&replica.inner);
        match episode.fault {
            Fault::Kill | Fault::BitFlip | Fault::Wipe => {
                if self.running[whom] {
                    let power = episode.how.is_multiple_of(2);
                    let (lost, torn) = inner.folder.disk.crash(power, &mut self.dice);
                    self.stop(&mut inner, episode.to_ms, (lost, torn), events);
                }
                if episode.fault == Fault::Wipe {
                    inner.folder.wipe();
                    self.damaged[whom] = true;
                } else if episode.fault == Fault::BitFlip
                    && let Some(name) = inner.folder.disk.flip(&mut self.dice)
                {
                    held(&self.shared.ledger).count(&format!("bits flipped in {name}"));
                    self.damaged[whom] = true;
                }
            }
            Fault::PowerCut => inner.folder.disk.arm(episode.how % 24, episode.how & 32 == 0),
            Fault::Cut => events.push(Event::Cut(whom)),
            Fault::Halves => events.extend(self.halves(episode)),
            Fault::ClockForward => inner.clock_ms = JUMP_MS + (episode.how % 600_000) as i64,
            Fault::ClockBack => inner.clock_ms = -JUMP_MS - (episode.how % 600_000) as i64,
            Fault::BrokerStalls => inner.feed.stalled = true,
            Fault::BrokerLies => inner.feed.bend_next = true,
        }
    }

    /// The links between two groups: who is in which, the bits of a number say.
    fn halves(&self, episode: &Episode) -> Vec<Event> {
        let n = self.replicas.len();
        let side = |one: usize| episode.how >> (one % 31) & 1 == 1 || one == episode.whom;
        let pairs = (0..n).flat_map(|one| (0..one).map(move |other| (one, other)));
        let apart = pairs.filter(|(one, other)| side(*one) != side(*other));
        apart.map(|(one, other)| Event::Apart(one, other)).collect()
    }

    fn end(&mut self, episode: &Episode, events: &mut Vec<Event>) {
        let mut inner = held(&self.replicas[episode.whom].inner);
        match episode.fault {
            Fault::Kill | Fault::BitFlip | Fault::Wipe | Fault::BrokerLies => {}
            Fault::PowerCut => inner.folder.disk.disarm(),
            Fault::Cut => events.push(Event::Join(episode.whom)),
            Fault::Halves => events.extend((0..self.replicas.len()).map(Event::Join)),
            Fault::ClockForward | Fault::ClockBack => inner.clock_ms = 0,
            Fault::BrokerStalls => inner.feed.stalled = false,
        }
    }

    /// Everything works again; who was shown other bytes begins with an empty data folder.
    fn heal(&mut self, now: u64, events: &mut Vec<Event>) {
        for (who, replica) in self.replicas.clone().iter().enumerate() {
            events.push(Event::Join(who));
            let mut inner = held(&replica.inner);
            inner.clock_ms = 0;
            inner.feed.stalled = false;
            inner.folder.disk.disarm();
            if inner.feed.is_bent() {
                inner.feed.straighten();
                inner.folder.wipe();
                self.damaged[who] = true;
                if self.running[who] {
                    self.stop(&mut inner, now + AGAIN_MS, (0, 0), events);
                }
            }
            if !self.running[who] {
                self.starts[who] = Some(now + AGAIN_MS);
            }
        }
    }

    fn stop(
        &mut self,
        inner: &mut Inner,
        again_ms: u64,
        lost: (u64, u64),
        events: &mut Vec<Event>,
    ) {
        let who = inner.character.who;
        inner.halted = Some("it is not running".to_owned());
        let mut ledger = held(&self.shared.ledger);
        ledger.count("stops");
        ledger.add("writes lost", lost.0);
        ledger.add("writes torn", lost.1);
        events.push(Event::Stop(who));
        self.running[who] = false;
        self.starts[who] = Some(again_ms);
    }

    /// Those whose power failed in a write, and those that stopped by themselves.
    fn find_dead(&mut self, now: u64, events: &mut Vec<Event>) {
        for (who, replica) in self.replicas.clone().iter().enumerate() {
            if !self.running[who] {
                continue;
            }
            let mut inner = held(&replica.inner);
            if inner.folder.disk.is_dead() {
                held(&self.shared.ledger).count("power failed in a write");
                let lost = inner.folder.disk.crash(true, &mut self.dice);
                let again = now + self.dice.between(100, 1_500);
                self.stop(&mut inner, again, lost, events);
            } else if let Some(why) = inner.halted.clone() {
                let cause = inner.feed.is_bent();
                self.stop(&mut inner, u64::MAX, (0, 0), events);
                if !cause {
                    held(&self.shared.ledger).violation(format!("validator {who} stopped: {why}"));
                }
            }
        }
    }

    fn start(&mut self, now: u64, events: &mut Vec<Event>) {
        for who in 0..self.replicas.len() {
            if self.running[who] || self.starts[who].is_none_or(|at| at > now) {
                continue;
            }
            let excused = std::mem::take(&mut self.damaged[who]);
            self.replicas[who].restart(excused);
            (self.running[who], self.starts[who]) = (true, None);
            events.push(Event::Start(who));
        }
    }

    /// A witness follows whoever it happens to ask.
    fn watch(&mut self) {
        let at = self.dice.place(self.replicas.len());
        let inner = held(&self.replicas[at].inner);
        let links = links(&self.shared.genesis.header(), &inner.blocks);
        for link in links.skip(self.witness.size() as usize) {
            if let Err(refusal) = self.witness.take(&link) {
                let text = format!("P5: a witness refuses a block of validator {at}: {refusal}");
                return held(&self.shared.ledger).violation(text);
            }
        }
    }
}

/// The headers from the genesis on, as they are handed to witnesses.
pub(crate) fn links<'a>(genesis: &Header, blocks: &'a [Final]) -> impl Iterator<Item = Link> + 'a {
    let first = Link { header: *genesis, certificate: Vec::new(), next: None };
    let link = |block: &Final| {
        let (header, certificate) = (block.header, block.finalization.clone());
        Link { header, certificate, next: None }
    };
    std::iter::once(first).chain(blocks.iter().map(link))
}
