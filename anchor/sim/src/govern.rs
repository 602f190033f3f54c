//! Who is of the validator set in which epoch: what authorities say in the stream, and what must
//! come of it.
//!
//! A run with epochs has one machine more than validators at the beginning. It joins; a validator
//! gets another key; one leaves, and may come back. Some records that must be refused stand between.
//! A machine has its keys one after the other, and a key is one member of the simulated network.
//!
//! Invariants
//! - No set is smaller than the first, so that as many may fail as at the beginning; none is larger
//!   than may be.
//! - What must come of it is counted here block by block, without the code that executes it.

use crate::dice::Dice;
use crate::folder::Final;
use crate::plan::Config;
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::SecretKey;
use piaogen_loadgen::genesis::DemoChain;
use piaogen_loadgen::parties::key;
use piaogen_loadgen::source::{Expected, Generated, Registrations, Source as _};
use piaogen_verify::document::Fields;
use piaogen_verify::entry::Outcome;
use piaogen_verify::epoch::Change;
use piaogen_verify::fields::tag;
use piaogen_verify::follow::Link;
use piaogen_verify::header::{Header, NO_SET, VALIDATORS_MAX, ValidatorSet};
use piaogen_verify::record::{Draft, RecordKind};
use piaogen_verify::value;
use std::collections::BTreeSet;

/// The keys of one machine, by their numbers, in the order in which it has them.
pub(crate) type Keys = Vec<usize>;

/// A change of the set.
#[derive(Clone, Debug)]
struct Step {
    /// The keys of the set that results.
    members: Vec<usize>,
    /// How long epochs are from the next on, where that changes.
    blocks: Option<u64>,
    /// How long after the first records it is sent, in milliseconds.
    after_ms: u64,
}

/// All changes of a run.
#[derive(Clone, Debug)]
pub(crate) struct Governed {
    /// How long epochs are at the beginning, where they end at all.
    pub(crate) blocks: Option<u64>,
    /// The keys of each machine.
    pub(crate) machines: Vec<Keys>,
    /// Machines that have one more, behind the others, which is in no set.
    pub(crate) spares: BTreeSet<usize>,
    steps: Vec<Step>,
    /// The secrets of all keys, by number; none before [`Governed::on`].
    pub(crate) secrets: Vec<SecretKey>,
    /// The sets: that of the genesis, and that after each step.
    pub(crate) sets: Vec<ValidatorSet>,
}

/// A record about the set, when it is sent, and the step that it takes where it is accepted.
#[derive(Clone, Debug)]
pub(crate) struct Decree {
    pub(crate) after_ms: u64,
    pub(crate) what: Generated,
    pub(crate) step: Option<usize>,
}

impl Governed {
    /// What a seed says.
    pub(crate) fn new(config: &Config) -> Governed {
        let mut dice = Dice::new(config.seed, 4);
        let n = config.validators;
        let epochs = config.epochs.unwrap_or(config.faults && dice.percent(50));
        let machines = (0..n).map(|one| vec![one]).collect();
        let (secrets, sets) = (Vec::new(), Vec::new());
        let (blocks, steps, spares) = (None, Vec::new(), BTreeSet::new());
        let mut governed = Governed { blocks, machines, spares, steps, secrets, sets };
        if epochs {
            governed.blocks = Some(dice.between(3, 8));
            governed.decide(n, &mut dice);
        }
        governed
    }

    /// Lets the machine behind the others join, a validator change its key, and one leave. Where a
    /// set has as many as may be, who leaves makes room in the same step for who joins.
    fn decide(&mut self, n: usize, dice: &mut Dice) {
        let (joins, new_key) = (n, n + 1);
        self.machines.push(vec![joins]);
        let (leaves, changes) = (dice.place(n), dice.place(n + 1));
        let mut members: Vec<usize> = (0..n).collect();
        let mut after_ms = 0;
        // 0 joins, 1 changes its key, 2 leaves: never fewer than at the beginning.
        let order = [[0, 1, 2], [0, 2, 1], [1, 0, 2]][dice.place(3)];
        let back = dice.percent(40).then_some(3);
        for act in order.into_iter().chain(back) {
            let newest = |machines: &[Keys], machine: usize| machines[machine].last().copied();
            let before = members.clone();
            let full = members.len() as u64 == VALIDATORS_MAX;
            match act {
                0 => {
                    let gone = newest(&self.machines, leaves).filter(|_| full);
                    members.retain(|member| Some(*member) != gone);
                    members.push(joins);
                }
                1 => {
                    let old = newest(&self.machines, changes);
                    self.machines[changes].push(new_key);
                    let member = members.iter_mut().find(|member| Some(**member) == old);
                    // Where it is no member just now it comes back with the old key, if it does.
                    match member {
                        Some(member) => *member = new_key,
                        None => self.machines[changes].truncate(1),
                    }
                }
                2 => {
                    let gone = newest(&self.machines, leaves);
                    members.retain(|member| Some(*member) != gone);
                }
                _ => members.extend(newest(&self.machines, leaves).filter(|_| !full)),
            }
            after_ms += dice.between(100, 1_600);
            if members == before {
                continue;
            }
            let blocks = dice.percent(30).then(|| dice.between(3, 8));
            self.steps.push(Step { members: members.clone(), blocks, after_ms });
        }
    }

    /// Gives these machines one more key each.
    pub(crate) fn spare(&mut self, machines: BTreeSet<usize>) {
        for machine in &machines {
            let key = self.keys();
            self.machines[*machine].push(key);
        }
        self.spares = machines;
    }

    /// How many keys there are in all.
    pub(crate) fn keys(&self) -> usize {
        self.machines.iter().map(Vec::len).sum()
    }

    /// The machine that has a key.
    pub(crate) fn machine(&self, key: usize) -> Option<usize> {
        self.machines.iter().position(|keys| keys.contains(&key))
    }

    /// The same on a chain: with secrets and sets.
    pub(crate) fn on(self, chain: &DemoChain, seed: u64) -> Governed {
        let mut secrets = chain.validators.clone();
        let more = self.keys().saturating_sub(secrets.len()) as u64;
        secrets.extend((0..more).map(|index| key(seed, "later validator", index)));
        let set = |members: &[usize]| {
            let keys = members.iter().map(|member| secrets[*member].public_key()).collect();
            ValidatorSet::new(keys).expect("members are different keys, a hundred at most")
        };
        let after = self.steps.iter().map(|step| set(&step.members));
        let sets = std::iter::once(chain.genesis.validators.clone()).chain(after).collect();
        Governed { secrets, sets, ..self }
    }

    /// The records that say so, in their order, and some that must be refused.
    pub(crate) fn decrees(&self, chain: &DemoChain, partitions: u32, seed: u64) -> Vec<Decree> {
        let seller = key(seed, "seller", 0);
        let (mut records, mut told) = (Vec::new(), Vec::new());
        for (at, step) in self.steps.iter().enumerate() {
            let (base, next) = (&self.sets[at], &self.sets[at + 1]);
            records.push(proposal(chain, &chain.authority, base, next, step.blocks));
            told.push((step.after_ms, Outcome::Accepted, Some(at)));
            // It stands on a set that is planned no more, or comes of somebody who may not.
            records.push(proposal(chain, &chain.authority, base, &self.sets[0], None));
            let stale = Outcome::StaleSet { set: next.digest() };
            told.push((step.after_ms + 20, stale, None));
            records.push(proposal(chain, &seller, next, &self.sets[0], None));
            told.push((step.after_ms + 40, Outcome::WrongRole, None));
        }
        let len = records.len() as u64;
        let source = Registrations { records, partitions };
        // What cannot be made shows as missing.
        let made = source.batch(0..len, piaogen_crypto::Lanes::detect()).unwrap_or_default();
        let decree = |(what, (after_ms, outcome, step))| {
            let what = Generated { expected: Expected::Exactly(outcome), ..what };
            Decree { after_ms, what, step }
        };
        made.into_iter().zip(told).map(decree).collect()
    }

    /// The set that stands when everything that was decided holds.
    pub(crate) fn last(&self) -> Digest {
        self.sets.last().map_or(NO_SET, ValidatorSet::digest)
    }

    /// The set of this digest.
    pub(crate) fn set(&self, digest: &Digest) -> Option<&ValidatorSet> {
        self.sets.iter().find(|set| set.digest() == *digest)
    }

    /// Whether a key is of a set.
    pub(crate) fn is_of(&self, key: usize, set: &ValidatorSet) -> bool {
        set.contains(&self.secrets[key].public_key())
    }

    /// The headers from the genesis on, as they are handed to witnesses, without the first so many.
    pub(crate) fn links(&self, genesis: &Header, blocks: &[Final], skip: usize) -> Vec<Link> {
        let first = Link { header: *genesis, certificate: Vec::new(), next: None };
        let link = |block: &Final| {
            let (header, certificate) = (block.header, block.finalization.clone());
            Link { header, certificate, next: self.set(&header.next_validators).cloned() }
        };
        let rest = blocks.iter().skip(skip.saturating_sub(1)).map(link);
        std::iter::once(first).skip(skip).chain(rest).collect()
    }

    /// What leads from the genesis to the set of the block of this height.
    pub(crate) fn changes(&self, blocks: &[Final], height: u64) -> Vec<Change> {
        let below = blocks.iter().take_while(|block| block.header.height < height);
        let ends = below.filter(|block| {
            let header = &block.header;
            header.closes_epoch() && header.next_validators != header.validators
        });
        let change = |block: &Final| {
            let next = self.set(&block.header.next_validators)?.clone();
            let (header, certificate) = (block.header, block.finalization.clone());
            Some(Change { header, certificate, next })
        };
        ends.filter_map(change).collect()
    }

    /// The first block that is not of the epoch and set that were decided, or names another set than
    /// that; `offsets` says where each step stands in the stream of the registry.
    pub(crate) fn differs(&self, blocks: &[Final], offsets: &[u64]) -> Option<String> {
        let (mut epoch, mut set, mut planned) = (0, 0, 0);
        let mut length = self.blocks?;
        let mut last = length;
        for block in blocks {
            let header = &block.header;
            let height = header.height;
            if (header.epoch, header.validators) != (epoch, self.sets[set].digest()) {
                return Some(format!("block {height} is not of epoch {epoch} and of set {set}"));
            }
            let named = if height == last { self.sets[planned].digest() } else { NO_SET };
            if header.next_validators != named {
                return Some(format!("block {height} does not name set {planned}"));
            }
            if height == last {
                (epoch, set, last) = (epoch + 1, planned, last + length);
            }
            let cut = block.cut.0.last().copied().unwrap_or(0);
            while offsets.get(planned).is_some_and(|offset| *offset < cut) {
                length = self.steps[planned].blocks.unwrap_or(length);
                planned += 1;
            }
        }
        None
    }
}

fn proposal(
    chain: &DemoChain,
    signer: &SecretKey,
    base: &ValidatorSet,
    set: &ValidatorSet,
    blocks: Option<u64>,
) -> Vec<u8> {
    let keys: Vec<[u8; 33]> = set.keys().iter().map(|key| key.to_compressed()).collect();
    let mut fields = Fields::new();
    fields.set(tag::VALIDATORS, value::keys(&keys));
    fields.set(tag::BASE, base.digest().to_vec());
    if let Some(blocks) = blocks {
        fields.set(tag::EPOCH_BLOCKS, value::uint(blocks));
    }
    let (kind, signed_at) = (RecordKind::Validators, chain.genesis.file.time_ms);
    let draft = Draft { kind, signed_at, secret: [0; 16], fields: fields.pairs() };
    draft.sign(&chain.genesis.chain, signer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_never_shrink_below_the_first_and_keys_are_one_machine_s() {
        let (mut rotated, mut back) = (0, 0);
        for seed in 0..200 {
            let config = Config { epochs: Some(true), ..Config::new(seed) };
            let governed = Governed::new(&config);
            assert!(governed.steps.len() >= 2);
            for step in &governed.steps {
                let machines: std::collections::BTreeSet<_> =
                    step.members.iter().map(|key| governed.machine(*key).unwrap()).collect();
                assert_eq!(machines.len(), step.members.len(), "a machine votes once");
                assert!((4..=5).contains(&machines.len()), "seed {seed}");
            }
            assert!(governed.steps.iter().any(|step| step.members.len() == 5));
            let mut all: Vec<usize> = governed.machines.concat();
            all.sort_unstable();
            assert_eq!(all, (0..governed.keys()).collect::<Vec<_>>());
            rotated += usize::from(governed.keys() == 6);
            back += usize::from(governed.steps.len() > 3);
        }
        assert!(rotated > 100 && back > 40, "{rotated} {back}");
    }

    #[test]
    fn in_the_largest_set_who_joins_takes_the_place_of_who_leaves() {
        for seed in 0..100 {
            let validators = VALIDATORS_MAX as usize;
            let config = Config { epochs: Some(true), validators, ..Config::new(seed) };
            let governed = Governed::new(&config);
            assert!(governed.steps.iter().all(|step| step.members.len() == validators));
            let joins = |step: &Step| step.members.contains(&validators);
            assert!(governed.steps.iter().any(joins), "seed {seed}");
        }
    }
}
