//! A machine: a validator with its keys, one after the other, and how it starts, stops and turns
//! from one epoch to the next.
//!
//! Invariants
//! - Its engine runs for the epoch of the block after the last that it has executed, or is about to
//!   be started for it.
//! - It has one key at a time: that of the set, else the one it had. While its votes are damaged it
//!   has a key that votes nowhere, and follows (PROTOCOL section 5.5).

use crate::dice::Dice;
use crate::govern::Governed;
use crate::ledger::{Ledger, held};
use crate::replica::{Damage, Replica};
use piaogen_crypto::sm2::PublicKey;
use piaogen_order::Finalized;
use piaogen_order::simulation::{Damaged, Event, Turn};
use std::sync::{Arc, Mutex};

/// How long it is away while it turns; the engine ends at its own pace.
const TURN_MS: u64 = 100;

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its engine runs.
    Running,
    /// Its engine has ended with the epoch, and that of the next starts at this time.
    Turning(u64),
    /// Its process is gone. It starts again at this time, from what it has on disk.
    Down(u64),
}

/// A machine.
pub(crate) struct Machine {
    pub(crate) replica: Arc<Replica>,
    /// Its other self, where it equivocates.
    pub(crate) second: Option<Arc<Replica>>,
    /// Its keys, by number, and the applications of its second self under them.
    pub(crate) keys: Vec<usize>,
    pub(crate) seconds: Vec<usize>,
    /// Which of its keys it has now.
    at: usize,
    /// Which of them votes nowhere, where its votes will be damaged.
    spare: Option<usize>,
    /// The epoch and view of its votes that are damaged, until they bind it no more.
    pub(crate) damaged: Option<(u64, u64)>,
    pub(crate) phase: Phase,
    /// What was done to its disk while it was down.
    pub(crate) damage: Damage,
    /// How many blocks it had when it lost its folder, until it has them again.
    pub(crate) wiped: Option<u64>,
    /// Whether its folder was emptied while it ran, so that it must start again.
    pub(crate) empty: bool,
    /// Whether it was started again after it had stopped for what its stream had lost.
    pub(crate) tried: bool,
}

/// What a start or a stop says to the network.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) events: Vec<Event>,
    pub(crate) turns: Vec<(usize, Turn)>,
}

impl Machine {
    pub(crate) fn new(
        replica: Arc<Replica>,
        second: Option<Arc<Replica>>,
        keys: Vec<usize>,
        spare: Option<usize>,
    ) -> Machine {
        Machine {
            spare,
            damaged: None,
            replica,
            second,
            keys,
            seconds: Vec::new(),
            at: 0,
            phase: Phase::Down(0),
            damage: Damage::None,
            wiped: None,
            empty: false,
            tried: false,
        }
    }

    /// Itself, and its second self where it has one.
    pub(crate) fn selves(&self) -> impl Iterator<Item = &Arc<Replica>> {
        std::iter::once(&self.replica).chain(&self.second)
    }

    /// The key that it has now.
    pub(crate) fn key(&self) -> usize {
        self.keys[self.at]
    }

    pub(crate) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Its process is gone, or its power: with the power goes what no disk has.
    pub(crate) fn crash(
        &mut self,
        power: bool,
        again_ms: u64,
        dice: &mut Dice,
        ledger: &Mutex<Ledger>,
        said: &mut Said,
    ) {
        for replica in self.selves() {
            let (lost, torn) = held(&replica.inner).folder.disk.crash(power, dice);
            let mut ledger = held(ledger);
            ledger.add("writes lost", lost);
            ledger.add("writes torn", torn);
        }
        self.stop(again_ms, ledger, said);
    }

    /// Its process ends, and what it wrote stays.
    pub(crate) fn stop(&mut self, again_ms: u64, ledger: &Mutex<Ledger>, said: &mut Said) {
        for replica in self.selves() {
            held(&replica.inner).halted.get_or_insert("it is not running".to_owned());
        }
        held(ledger).count("stops");
        if self.is_running() {
            said.events.push(Event::Stop(self.key()));
        }
        self.phase = Phase::Down(again_ms);
    }

    /// Ends the engine where the epoch is over.
    pub(crate) fn turn(&mut self, now: u64, ledger: &Mutex<Ledger>, said: &mut Said) {
        if self.is_running() && self.selves().any(|replica| held(&replica.inner).epoch_is_over()) {
            held(ledger).count("turns to another epoch");
            said.events.push(Event::Stop(self.key()));
            self.phase = Phase::Turning(now + TURN_MS);
        }
    }

    /// Starts it where it is time. `bend` is what a bug would make of an epoch.
    pub(crate) fn start(
        &mut self,
        now: u64,
        governed: &Governed,
        bend: Option<&dyn Fn(&mut Turn)>,
        said: &mut Said,
    ) {
        match self.phase {
            Phase::Turning(at) if at <= now => {}
            Phase::Down(at) if at <= now => {
                let damage = std::mem::take(&mut self.damage);
                self.selves().for_each(|replica| replica.restart(damage));
            }
            _ => return,
        }
        let mut turn = self.replica.turn();
        if let Some(bend) = bend {
            bend(&mut turn);
        }
        let public = |key: &usize| governed.secrets[*key].public_key();
        let is_of = |key: &usize, set: &[PublicKey]| set.contains(&public(key));
        let member = self.keys.iter().position(|key| is_of(key, &turn.set));
        let spare = self.spare.filter(|_| self.damaged.is_some());
        self.at = spare.or(member).unwrap_or(self.at);
        said.turns.push((self.key(), turn));
        if let Some(second) = &self.second {
            said.turns.push((self.seconds[self.at], second.turn()));
        }
        said.events.push(Event::Start(self.key()));
        self.phase = Phase::Running;
    }

    /// It was refused a start, since its votes are damaged; it starts again with another key.
    pub(crate) fn refused(&mut self, damaged: Damaged, again_ms: u64, ledger: &Mutex<Ledger>) {
        let Damaged { validator, epoch, view } = damaged;
        let mut ledger = held(ledger);
        ledger.count("starts refused: votes are damaged");
        if self.spare.is_none() || self.damaged.is_some() {
            ledger.violation(format!("the votes of key {validator} are damaged, and none flipped"));
        }
        for replica in self.selves() {
            held(&replica.inner).halted.get_or_insert("it was refused a start".to_owned());
        }
        self.damaged = Some((epoch, view));
        self.phase = Phase::Down(again_ms);
    }

    /// Takes its own key again where a later block than its damaged votes is final.
    pub(crate) fn forgive(&mut self, again_ms: u64, ledger: &Mutex<Ledger>, said: &mut Said) {
        let Some(damaged) = self.damaged.filter(|_| self.is_running()) else { return };
        let last = held(&self.replica.inner).blocks.last().map(|block| block.finalization.clone());
        let last = last.and_then(|bytes| Finalized::decode(&bytes).ok());
        if last.is_some_and(|last| (last.epoch, last.view) > damaged) {
            self.damaged = None;
            held(ledger).count("followed, and votes again");
            self.stop(again_ms, ledger, said);
        }
    }

    /// Notes that it has again what it lost.
    pub(crate) fn regain(&mut self, ledger: &Mutex<Ledger>) {
        let height = held(&self.replica.inner).blocks.len() as u64;
        if self.is_running() && self.wiped.is_some_and(|lost| lost <= height) {
            self.wiped = None;
            held(ledger).count("lost its folder, and has all blocks again");
        }
    }
}
