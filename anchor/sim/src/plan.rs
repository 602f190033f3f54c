//! What goes wrong in a run, and when: all of it from the seed.
//!
//! Faults come in episodes; then there is a quiet end, in which everything is healed and the chain
//! has to go on. Faults that take from a validator what it had on disk, and lies, befall the same f
//! of n validators in a run: what more than f have lost, nobody has to have. Nor are more than f
//! clocks ahead at one moment: what a quorum of such clocks makes final lies in the future of
//! everybody else, who waits for it. A set of three or fewer has an f of 0, and clocks that keep
//! time.
//!
//! Invariants
//! - The same configuration gives the same plan.

use crate::dice::Dice;
use piaogen_order::simulation::{self, Link, Noise, Side};
use piaogen_verify::genesis::PARTITIONS_MAX;
use piaogen_verify::header::VALIDATORS_MAX;
use std::collections::BTreeSet;
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process is killed, and starts again.
    Kill,
    /// The power fails at some write: what was not synced is kept, lost or torn.
    PowerCut,
    /// A bit of what is on disk flips while a validator is away.
    BitFlip,
    /// A validator loses its data folder, but not its votes.
    Wipe,
    /// A validator is cut off.
    Cut,
    /// The validators are cut into two groups.
    Halves,
    /// A clock jumps far ahead.
    ClockForward,
    /// A clock jumps back.
    ClockBack,
    /// A broker shows a validator nothing new.
    BrokerStalls,
    /// A broker shows a validator other bytes than the rest.
    BrokerLies,
    /// A broker loses the last records of a partition, which its validator has read already. They
    /// stay away, or others come in their places.
    BrokerLosesTail,
    /// A bit of a validator's votes flips while it is away.
    VoteFlip,
    /// Messages come twice.
    Repeats,
    /// Messages overtake each other.
    Overtakes,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 14] = [
        Fault::Kill,
        Fault::PowerCut,
        Fault::BitFlip,
        Fault::Wipe,
        Fault::Cut,
        Fault::Halves,
        Fault::ClockForward,
        Fault::ClockBack,
        Fault::BrokerStalls,
        Fault::BrokerLies,
        Fault::BrokerLosesTail,
        Fault::VoteFlip,
        Fault::Repeats,
        Fault::Overtakes,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::PowerCut => "power-cut",
            Fault::BitFlip => "bit-flip",
            Fault::Wipe => "wipe",
            Fault::Cut => "cut",
            Fault::Halves => "halves",
            Fault::ClockForward => "clock-forward",
            Fault::ClockBack => "clock-back",
            Fault::BrokerStalls => "broker-stalls",
            Fault::BrokerLies => "broker-lies",
            Fault::BrokerLosesTail => "broker-loses-tail",
            Fault::VoteFlip => "vote-flip",
            Fault::Repeats => "repeats",
            Fault::Overtakes => "overtakes",
        }
    }

    /// The fault of this name.
    pub fn of_name(name: &str) -> Option<Fault> {
        Fault::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// Whether it takes from a validator what it had, or makes it another than the rest.
    fn harms(self) -> bool {
        matches!(
            self,
            Fault::BitFlip
                | Fault::Wipe
                | Fault::BrokerLies
                | Fault::BrokerLosesTail
                | Fault::VoteFlip
        )
    }
}

/// How a validator behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// By the protocol.
    Honest,
    /// Proposes headers over wrong roots, and votes for those of its kind.
    WrongRoots,
    /// Keeps bodies, votes, certificates and answers to itself, from some or from all.
    Withholds,
    /// Sends old messages again and again, later those of others too.
    Replays,
    /// Sends more than anybody may, and garbage.
    Floods,
    /// Is two with one key, each with an execution of its own, and tells one to some validators and
    /// the other to the rest; one honest validator hears both.
    Equivocates,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 6] = [
        Role::Honest,
        Role::WrongRoots,
        Role::Withholds,
        Role::Replays,
        Role::Floods,
        Role::Equivocates,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Role::Honest => "honest",
            Role::WrongRoots => "wrong-roots",
            Role::Withholds => "withholds",
            Role::Replays => "replays",
            Role::Floods => "floods",
            Role::Equivocates => "equivocates",
        }
    }

    /// What the network is told of it; who lies about roots speaks like anybody else. Who
    /// equivocates tells these two sides.
    pub(crate) fn in_network(self, (first, second): (Side, Side)) -> Option<simulation::Role> {
        match self {
            Role::Honest | Role::WrongRoots => None,
            Role::Withholds => Some(simulation::Role::Withholds),
            Role::Replays => Some(simulation::Role::Replays),
            Role::Floods => Some(simulation::Role::Floods),
            Role::Equivocates => Some(simulation::Role::Equivocates { first, second }),
        }
    }

    /// The role of this name.
    pub fn of_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything follows from it.
    pub seed: u64,
    /// How many validators there are.
    pub validators: usize,
    /// Partitions of the topic of records.
    pub partitions: u32,
    /// Records that are sent, beside those of the registry.
    pub records: u64,
    /// Only this goes wrong; without it, what the seed says.
    pub fault: Option<Fault>,
    /// Whether anything goes wrong at all, the network's losses included.
    pub faults: bool,
    /// So many validators behave like this; without it, what the seed says.
    pub role: Option<(Role, usize)>,
    /// Whether the validator set changes, in epochs; without it, what the seed says.
    pub epochs: Option<bool>,
}

impl Config {
    /// The usual run of a seed, with four validators and two partitions.
    pub fn new(seed: u64) -> Config {
        let (validators, partitions, records) = (4, 2, 120);
        let (fault, role, epochs) = (None, None, None);
        Config { seed, validators, partitions, records, fault, faults: true, role, epochs }
    }

    /// Whether there is such a run.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let (validators, liars) = (self.validators, self.role.map_or(0, |(_, liars)| liars));
        if validators == 0 || validators as u64 > VALIDATORS_MAX {
            return Err(ConfigError::Validators { validators });
        }
        let partitions = self.partitions;
        if !(1..=PARTITIONS_MAX).contains(&partitions) {
            return Err(ConfigError::Partitions { partitions });
        }
        match liars > validators {
            true => Err(ConfigError::Liars { liars, validators }),
            false => Ok(()),
        }
    }
}

/// What cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no such set.
    #[error("validators = {validators} is not within 1 to {VALIDATORS_MAX}; take another number")]
    Validators {
        /// How many were asked for.
        validators: usize,
    },
    /// There is no such topic.
    #[error("partitions = {partitions} is not within 1 to {PARTITIONS_MAX}; take another number")]
    Partitions {
        /// How many were asked for.
        partitions: u32,
    },
    /// More lie than there are.
    #[error("liars = {liars} is above validators = {validators}; take fewer, or more validators")]
    Liars {
        /// How many should lie.
        liars: usize,
        /// Of how many.
        validators: usize,
    },
}

/// One thing that goes wrong, from when to when.
#[derive(Clone, Debug)]
pub(crate) struct Episode {
    pub(crate) fault: Fault,
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
    pub(crate) whom: usize,
    /// What more there is to say: which write, which half, how far a clock jumps.
    pub(crate) how: u64,
}

/// What goes wrong in a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) episodes: Vec<Episode>,
    pub(crate) roles: Vec<Role>,
    pub(crate) link: Link,
    /// When everything is healed.
    pub(crate) heal_ms: u64,
}

/// Faults begin after this.
const BEGIN_MS: u64 = 400;
/// And before this.
const END_MS: u64 = 6_000;

impl Episode {
    /// What it does to messages on their way.
    pub(crate) fn noise(&self) -> Noise {
        let share = 20 + (self.how % 30) as u8;
        let delay = Duration::from_millis(50 + (self.how >> 8) % 400);
        match self.fault {
            Fault::Repeats => Noise { repeated_percent: share, delay, ..Noise::default() },
            Fault::Overtakes => Noise { delayed_percent: share, delay, ..Noise::default() },
            _ => Noise::default(),
        }
    }
}

impl Plan {
    /// Whose votes are damaged.
    pub(crate) fn votes_flip(&self) -> BTreeSet<usize> {
        let flips = self.episodes.iter().filter(|episode| episode.fault == Fault::VoteFlip);
        flips.map(|episode| episode.whom).collect()
    }

    /// What befalls so many machines.
    pub(crate) fn new(config: &Config, machines: usize) -> Plan {
        let mut dice = Dice::new(config.seed, 1);
        let n = config.validators;
        let f = n.saturating_sub(1) / 3;
        let frail: Vec<usize> = (0..f).map(|i| (dice.place(n) + i) % n).collect();
        let mut roles = vec![Role::Honest; machines];
        let (role, liars) = config.role.unwrap_or_else(|| {
            let lies = config.faults && config.fault.is_none() && dice.percent(25);
            // Half of those that lie do so about roots.
            let role = if dice.percent(50) { 1 } else { 2 + dice.place(Role::ALL.len() - 2) };
            (Role::ALL[role], if lies { f } else { 0 })
        });
        let first = frail.first().copied().unwrap_or(0);
        (0..liars.min(n)).for_each(|i| roles[(first + i) % n] = role);
        let count = if config.faults { dice.between(2, 6) } else { 0 };
        let mut episodes: Vec<Episode> =
            (0..count).filter_map(|_| episode(config, machines, &frail, &mut dice)).collect();
        episodes.sort_by_key(|episode| episode.from_ms);
        // Who is alone for good waits for nobody's clock.
        if machines > 1 {
            episodes = with_clocks(episodes, f);
        }
        let end = episodes.iter().map(|episode| episode.to_ms).max().unwrap_or(0);
        let bad = config.faults && config.fault.is_none();
        let link = Link {
            latency: Duration::from_millis(if bad { dice.between(2, 60) } else { 10 }),
            jitter: Duration::from_millis(if bad { dice.between(0, 20) } else { 2 }),
            arrive_percent: if bad && dice.percent(50) { dice.between(80, 99) as u8 } else { 100 },
        };
        Plan { episodes, roles, link, heal_ms: end + 200 }
    }
}

/// The same without what would have more than `f` clocks ahead at one moment.
fn with_clocks(episodes: Vec<Episode>, f: usize) -> Vec<Episode> {
    let mut kept: Vec<Episode> = Vec::new();
    for episode in episodes {
        // They come in the order in which they begin.
        let ahead = kept
            .iter()
            .filter(|one| one.fault == Fault::ClockForward && one.to_ms >= episode.from_ms);
        let mut machines: BTreeSet<usize> = ahead.map(|one| one.whom).collect();
        machines.insert(episode.whom);
        if episode.fault != Fault::ClockForward || machines.len() <= f {
            kept.push(episode);
        }
    }
    kept
}

fn episode(config: &Config, machines: usize, frail: &[usize], dice: &mut Dice) -> Option<Episode> {
    let fault = config.fault.unwrap_or_else(|| Fault::ALL[dice.place(Fault::ALL.len())]);
    let from_ms = dice.between(BEGIN_MS, END_MS);
    let to_ms = from_ms + dice.between(300, 2_500);
    let any = dice.place(machines);
    let how = dice.below(1 << 32);
    // A set that none may fail of is harmed by nothing.
    let whom = if fault.harms() { *frail.get(dice.place(frail.len()))? } else { any };
    Some(Episode { fault, from_ms, to_ms, whom, how })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_clocks_are_ahead_at_one_moment_than_may_fail() {
        for n in [1, 2, 3, 4, 5, 7] {
            let mut jumps = 0;
            for seed in 0..300 {
                for (fault, epochs) in [(None, 0), (Some(Fault::ClockForward), 1)] {
                    let config = Config { validators: n, fault, ..Config::new(seed) };
                    let plan = Plan::new(&config, n + epochs);
                    let jump = |one: &&Episode| one.fault == Fault::ClockForward;
                    let ahead: Vec<&Episode> = plan.episodes.iter().filter(jump).collect();
                    jumps += ahead.len();
                    // Most are ahead at the beginning of one of them.
                    for begins in &ahead {
                        let at =
                            |one: &&&Episode| (one.from_ms..=one.to_ms).contains(&begins.from_ms);
                        let now: BTreeSet<usize> =
                            ahead.iter().filter(at).map(|one| one.whom).collect();
                        assert!(n + epochs == 1 || now.len() <= (n - 1) / 3, "{n}: {seed}");
                    }
                }
            }
            assert_eq!(jumps > 0, n == 1 || n > 3, "{n}: {jumps}");
        }
    }
}
