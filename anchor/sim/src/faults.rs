//! Lets faults begin, sees that they bite, and ends them.
//!
//! Who is cut off from whom follows from all faults that go on at a moment, so that one that ends
//! joins nobody whom another still keeps apart.
//!
//! Invariants
//! - After the end of a fault everything is as if it had never been, but for what was lost by it.
//! - A fault that must stop something, and does not, is a violation where no other fault goes on.

use crate::ledger::held;
use crate::machine::{Phase, Said};
use crate::plan::{Episode, Fault, Role};
use crate::replica::Damage;
use crate::world::World;
use piaogen_order::simulation::{Event, Noise};
use std::collections::BTreeSet;

/// How far ahead a clock jumps at least: more than validators allow.
const JUMP_MS: i64 = 61_000;
/// A validator that stopped by itself is started once more after so long.
const ONCE_MORE_MS: u64 = 300;
/// A validator that was stopped stays away at least so long: the engine ends at its own pace.
pub(crate) const AGAIN_MS: u64 = 200;
/// What was under way when a fault began has arrived after so long.
const SETTLE_MS: u64 = 300;
/// Blocks became final in these.
pub(crate) const AGAIN: &str = "blocks made while messages come twice";
pub(crate) const OVERTAKEN: &str = "blocks made while messages overtake each other";
/// Never by itself.
const NEVER: u64 = u64::MAX;

/// How far a fault has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course {
    begun: bool,
    ended: bool,
    mark: Option<Mark>,
}

/// How things stood when a fault had begun to bite.
#[derive(Clone, Debug)]
struct Mark {
    /// Blocks of whom it befalls.
    own: u64,
    /// The highest block that anybody honest has as final.
    best: u64,
    /// What it had executed, and what it was shown.
    cut: Vec<u64>,
    ends: Vec<u64>,
}

impl World {
    /// Lets begin and end what is due.
    pub(crate) fn begin_and_end(&mut self, now: u64, said: &mut Said) {
        for at in 0..self.plan.episodes.len() {
            let episode = self.plan.episodes[at].clone();
            if !self.courses[at].begun && episode.from_ms <= now {
                self.courses[at].begun = true;
                self.count(&format!("fault {}", episode.fault.name()));
                self.begin(&episode, said);
            }
            let active = self.courses[at].begun && !self.courses[at].ended;
            if active && self.courses[at].mark.is_none() && episode.from_ms + SETTLE_MS <= now {
                self.courses[at].mark = Some(self.mark(episode.whom));
            }
            if active && episode.to_ms <= now {
                self.courses[at].ended = true;
                self.judge(at, &episode, now);
                self.end(&episode, now, said);
            }
        }
        self.rearrange(said);
        self.make_noise(said);
        if !self.healed && self.plan.heal_ms <= now {
            self.healed = true;
            self.heal(now);
        }
    }

    fn count(&self, what: &str) {
        held(&self.shared.ledger).count(what);
    }

    fn begin(&mut self, episode: &Episode, said: &mut Said) {
        let Episode { fault, to_ms, whom, how, .. } = *episode;
        match fault {
            Fault::Kill | Fault::BitFlip | Fault::Wipe | Fault::VoteFlip => {
                let (machine, ledger) = (&mut self.machines[whom], &self.shared.ledger);
                if !matches!(machine.phase, Phase::Down(_)) {
                    let power = how.is_multiple_of(2);
                    machine.crash(power, to_ms, &mut self.dice, ledger, said);
                }
                match fault {
                    Fault::Wipe => self.wipe(whom),
                    Fault::BitFlip => self.flip(whom),
                    // What a liar has said binds it to nothing.
                    Fault::VoteFlip if self.plan.roles[whom] == Role::Honest => {
                        // In the votes, or anywhere in the page.
                        let bit = if how & 64 == 0 { (how >> 8) % 4_096 } else { how >> 8 };
                        said.events.push(Event::Flip(self.machines[whom].key(), bit));
                    }
                    _ => {}
                }
            }
            Fault::PowerCut => {
                for replica in self.machines[whom].selves() {
                    held(&replica.inner).folder.disk.arm(how % 24, how & 32 == 0);
                }
            }
            Fault::Cut | Fault::Halves | Fault::Repeats | Fault::Overtakes => {}
            Fault::ClockForward => self.set_clock(whom, JUMP_MS + (how % 600_000) as i64),
            Fault::ClockBack => self.set_clock(whom, -JUMP_MS - (how % 600_000) as i64),
            Fault::BrokerStalls => {
                let selves = self.machines[whom].selves();
                selves.for_each(|replica| held(&replica.inner).feed.stalled = true);
            }
            Fault::BrokerLies => {
                let selves = self.machines[whom].selves();
                selves.for_each(|replica| held(&replica.inner).feed.bend_next = true);
            }
            Fault::BrokerLosesTail => self.lose_tail(whom, how),
        }
    }

    fn wipe(&mut self, whom: usize) {
        let machine = &mut self.machines[whom];
        let lost = held(&machine.replica.inner).blocks.len() as u64;
        machine.selves().for_each(|replica| held(&replica.inner).folder.wipe());
        machine.wiped = Some(lost.max(machine.wiped.unwrap_or(0)));
        machine.damage = Damage::Wiped;
    }

    fn flip(&mut self, whom: usize) {
        let machine = &mut self.machines[whom];
        let flipped = held(&machine.replica.inner).folder.disk.flip(&mut self.dice);
        if let Some(name) = flipped {
            machine.damage = machine.damage.max(Damage::Flipped);
            self.count(&format!("bits flipped in {name}"));
        }
    }

    fn set_clock(&mut self, whom: usize, ahead_ms: i64) {
        let selves = self.machines[whom].selves();
        selves.for_each(|replica| held(&replica.inner).clock_ms = ahead_ms);
    }

    fn lose_tail(&mut self, whom: usize, how: u64) {
        let stream = held(&self.shared.stream);
        let partition = (how >> 8) as usize % stream.0.len();
        let (most, replaced) = (1 + how as usize % 16, how & 1 << 20 == 0);
        for replica in self.machines[whom].selves() {
            let feed = &mut held(&replica.inner).feed;
            let lost = feed.lose_tail(&stream, (partition, most), replaced, &mut self.dice);
            let what = if replaced { "replaced" } else { "lost" };
            held(&self.shared.ledger).add(&format!("records {what} by a broker"), lost as u64);
        }
    }

    fn end(&mut self, episode: &Episode, now: u64, said: &mut Said) {
        let whom = episode.whom;
        // Another of its kind may still go on there.
        let mut others = self.courses.iter().zip(&self.plan.episodes);
        let goes_on = others.any(|(course, other)| {
            course.begun && !course.ended && (other.fault, other.whom) == (episode.fault, whom)
        });
        if goes_on {
            return;
        }
        match episode.fault {
            Fault::Kill
            | Fault::BitFlip
            | Fault::Wipe
            | Fault::VoteFlip
            | Fault::BrokerLies
            | Fault::Cut
            | Fault::Halves
            | Fault::Repeats
            | Fault::Overtakes => {}
            Fault::PowerCut => {
                let selves = self.machines[whom].selves();
                selves.for_each(|replica| held(&replica.inner).folder.disk.disarm());
            }
            Fault::ClockForward | Fault::ClockBack => self.set_clock(whom, 0),
            Fault::BrokerStalls => {
                let selves = self.machines[whom].selves();
                selves.for_each(|replica| held(&replica.inner).feed.stalled = false);
            }
            Fault::BrokerLosesTail => self.restore_tail(whom, now, said),
        }
    }

    /// The broker has its records again, and whoever stopped for that is started.
    fn restore_tail(&mut self, whom: usize, now: u64, said: &mut Said) {
        let machine = &mut self.machines[whom];
        machine.selves().for_each(|replica| held(&replica.inner).feed.restore_tail());
        let halted = machine.selves().any(|one| held(&one.inner).halted.is_some());
        if machine.is_running() && halted {
            machine.stop(now + AGAIN_MS, &self.shared.ledger, said);
        } else if machine.phase == Phase::Down(NEVER) {
            machine.phase = Phase::Down(now + AGAIN_MS);
        }
    }

    /// Everything works again; who was shown other bytes begins with an empty data folder.
    fn heal(&mut self, now: u64) {
        for whom in 0..self.machines.len() {
            self.set_clock(whom, 0);
            for replica in self.machines[whom].selves() {
                let mut inner = held(&replica.inner);
                inner.feed.stalled = false;
                inner.folder.disk.disarm();
            }
            let machine = &mut self.machines[whom];
            let bent = machine.selves().any(|replica| held(&replica.inner).feed.is_bent());
            if bent {
                machine.selves().for_each(|replica| held(&replica.inner).feed.straighten());
                self.wipe(whom);
            }
            let machine = &mut self.machines[whom];
            match machine.phase {
                Phase::Running | Phase::Turning(_) if bent => machine.empty = true,
                Phase::Down(at) if at > now + AGAIN_MS => {
                    machine.phase = Phase::Down(now + AGAIN_MS);
                }
                _ => {}
            }
        }
    }

    /// Who is kept apart by what goes on now.
    fn rearrange(&mut self, said: &mut Said) {
        let mut apart = BTreeSet::new();
        for (course, episode) in self.courses.iter().zip(&self.plan.episodes) {
            let goes_on = course.begun && !course.ended;
            let side: &dyn Fn(usize) -> bool = match episode.fault {
                Fault::Cut => &|machine| machine == episode.whom,
                Fault::Halves => &|machine| is_first(episode, machine),
                _ => continue,
            };
            if !goes_on {
                continue;
            }
            let is_here = |one| self.governed.machine(one).is_some_and(side);
            let here: Vec<bool> = (0..self.governed.keys()).map(is_here).collect();
            let pairs = (0..here.len()).flat_map(|one| (0..one).map(move |other| (other, one)));
            apart.extend(pairs.filter(|(one, other)| here[*one] != here[*other]));
        }
        let again = self.apart.difference(&apart).map(|(one, two)| Event::Together(*one, *two));
        said.events.extend(again);
        let anew = apart.difference(&self.apart).map(|(one, two)| Event::Apart(*one, *two));
        said.events.extend(anew);
        self.apart = apart;
    }

    /// What becomes of messages by what goes on now.
    fn make_noise(&mut self, said: &mut Said) {
        let all = self.courses.iter().zip(&self.plan.episodes);
        let going = all.filter(|(course, _)| course.begun && !course.ended);
        let noise =
            going.map(|(_, episode)| episode.noise()).fold(Noise::default(), |all, one| Noise {
                repeated_percent: all.repeated_percent.max(one.repeated_percent),
                delayed_percent: all.delayed_percent.max(one.delayed_percent),
                delay: all.delay.max(one.delay),
            });
        if noise != self.noise {
            self.noise = noise;
            said.events.push(Event::Noise(noise));
        }
    }

    fn mark(&self, whom: usize) -> Mark {
        let inner = held(&self.machines[whom].replica.inner);
        Mark {
            own: inner.blocks.len() as u64,
            best: self.best(),
            cut: inner.state.tip.cut.0.clone(),
            ends: inner.feed.ends(&held(&self.shared.stream)),
        }
    }

    /// The highest block that anybody honest has as final.
    pub(crate) fn best(&self) -> u64 {
        held(&self.shared.ledger).finals.keys().next_back().copied().unwrap_or(0)
    }

    /// Whether a fault did what it must, as it ends.
    fn judge(&self, at: usize, episode: &Episode, now: u64) {
        let Some(then) = &self.courses[at].mark else { return };
        let here = self.mark(episode.whom);
        let went_on = here.best > then.best;
        let mut wrong = None;
        match episode.fault {
            Fault::Cut if here.own > then.own => {
                wrong = Some(format!("{} is cut off, and gets blocks", episode.whom));
            }
            Fault::Cut if went_on => self.count("cut off, and left behind"),
            Fault::Halves if self.has_quorum(episode) => {
                self.count(if went_on { "the larger half goes on" } else { "a half is slow" });
            }
            Fault::Halves if went_on => {
                wrong = Some("a half without a quorum makes blocks final".to_owned());
            }
            Fault::Halves => self.count("halves without a quorum halt"),
            Fault::BrokerStalls => {
                let inner = held(&self.machines[episode.whom].replica.inner);
                let beyond = |(cut, end): (&u64, &u64)| cut > end;
                if then.ends != here.ends {
                    wrong = Some("a broker that stalls shows more".to_owned());
                } else if here.cut.iter().zip(&then.ends).any(beyond) {
                    wrong = Some("records were executed that were not shown".to_owned());
                } else if inner.feed.is_behind(&held(&self.shared.stream), now) {
                    self.count("records held back by a broker");
                    held(&self.shared.ledger).add("blocks made meanwhile", here.best - then.best);
                }
            }
            // Whether messages did is known at the end.
            Fault::Repeats if went_on => self.count(AGAIN),
            Fault::Overtakes if went_on => self.count(OVERTAKEN),
            Fault::BrokerLosesTail if self.is_down(episode.whom) && went_on => {
                self.count("stopped for its stream, and the others went on");
            }
            _ => {}
        }
        // Another fault could be the reason.
        if let (Some(what), Some(_)) = (wrong, self.alone) {
            let what = format!("fault {}: {what}", episode.fault.name());
            held(&self.shared.ledger).violation(what);
        }
    }

    fn is_down(&self, whom: usize) -> bool {
        matches!(self.machines[whom].phase, Phase::Down(_))
    }

    /// Whether one of two halves has a quorum of the set that makes the next block.
    fn has_quorum(&self, episode: &Episode) -> bool {
        let tips = self.machines.iter().map(|machine| {
            let inner = held(&machine.replica.inner);
            (inner.state.tip.header.height, inner.state.tip.header.next_epoch().1)
        });
        let newest = tips.max_by_key(|(height, _)| *height).map(|(_, set)| set);
        let Some(set) = newest.and_then(|digest| self.governed.set(&digest)) else { return true };
        let all = set.keys().len();
        let keys = (0..self.governed.keys()).filter(|key| self.governed.is_of(*key, set));
        let machines = keys.filter_map(|key| self.governed.machine(key));
        let first = machines.filter(|machine| is_first(episode, *machine)).count();
        first.max(all - first) >= all - (all - 1) / 3
    }

    /// Those whose power failed in a write, and those that stopped by themselves.
    pub(crate) fn find_dead(&mut self, now: u64, said: &mut Said) {
        for whom in 0..self.machines.len() {
            let (machine, ledger) = (&mut self.machines[whom], &self.shared.ledger);
            if !machine.is_running() {
                continue;
            }
            if std::mem::take(&mut machine.empty) {
                machine.stop(now + AGAIN_MS, ledger, said);
                continue;
            }
            let dead = machine.selves().any(|one| held(&one.inner).folder.disk.is_dead());
            let halted = machine.selves().find_map(|one| held(&one.inner).halted.clone());
            if dead {
                held(ledger).count("power failed in a write");
                let again = now + self.dice.between(100, 1_500);
                machine.crash(true, again, &mut self.dice, ledger, said);
            } else if let Some(why) = halted {
                let short = machine.selves().any(|one| held(&one.inner).feed.is_short());
                let bent = machine.selves().any(|one| held(&one.inner).feed.is_bent());
                // An operator starts it once more; what that does not mend waits for the end.
                let again = match short && !std::mem::replace(&mut machine.tried, true) {
                    true => now + ONCE_MORE_MS,
                    false => NEVER,
                };
                machine.stop(again, ledger, said);
                if !short && !bent {
                    held(ledger).violation(format!("validator {whom} stopped: {why}"));
                }
            }
        }
    }
}

/// In which of two groups a machine is, the bits of a number say.
fn is_first(episode: &Episode, machine: usize) -> bool {
    episode.how >> (machine % 31) & 1 == 1 || machine == episode.whom
}
