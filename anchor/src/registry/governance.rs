//! Who finalizes blocks, epoch by epoch, and what authorities have signed that needs more of them
//! (PROTOCOL sections 3.1 and 4.1).
//!
//! Follows from the genesis and the accepted registry records with their heights, and from nothing
//! else; a node makes it again from the registry log. Epochs are counted off when somebody asks,
//! so a block without registry records costs nothing.
//!
//! Invariants
//! - What a block changes is named by no header before the next one's: the set of an epoch is fixed
//!   before the last block of the epoch before is made.
//! - An approval counts as long as the key that gave it is valid, and for [`APPROVAL_EPOCHS`].
//! - Dropping approvals that count no longer changes nothing that follows.

use piaogen_crypto::Digest;
use piaogen_verify::conflict::{Conflict, Detail};
use piaogen_verify::entry::Outcome;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::header::ValidatorSet;
use std::collections::BTreeMap;

/// For how many epochs an approval counts, that in which it was given included.
pub const APPROVAL_EPOCHS: u64 = 30;
/// Most proposals that wait for more authorities.
pub const PROPOSALS_MAX: usize = 64;

/// A set and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetChange {
    /// The first epoch of the set.
    pub epoch: u64,
    /// The height of the block that names it, the last of the epoch before; 0 for the genesis.
    pub named_at: u64,
    /// The set.
    pub set: ValidatorSet,
}

/// The signature of one authority under a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Approval {
    party: String,
    key: Digest,
    epoch: u64,
}

/// Validator sets, past and planned, and open proposals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Governance {
    quorum: Option<u32>,
    /// The newest epoch whose set is fixed.
    epoch: u64,
    /// Its last height.
    last: u64,
    /// Its length.
    blocks: u64,
    /// The sets so far, oldest first; the last one is that of `epoch`.
    sets: Vec<SetChange>,
    /// The set of the epoch after it, as things stand.
    planned: ValidatorSet,
    planned_blocks: u64,
    proposals: BTreeMap<Digest, Vec<Approval>>,
}

impl Governance {
    /// As it is before the first block.
    pub fn genesis(genesis: &Genesis) -> Governance {
        let (set, blocks) = (genesis.validators.clone(), genesis.file.epoch_blocks);
        Governance {
            quorum: genesis.file.authority_quorum,
            epoch: 0,
            last: blocks,
            blocks,
            sets: vec![SetChange { epoch: 0, named_at: 0, set: set.clone() }],
            planned: set,
            planned_blocks: blocks,
            proposals: BTreeMap::new(),
        }
    }

    /// The sets so far, oldest first, as of this block; a set that stays is there once.
    pub fn sets(&self, height: u64) -> Vec<SetChange> {
        let mut sets = self.sets.clone();
        sets.extend(self.fixed_at(height));
        sets
    }

    /// A set that was, is or is planned.
    pub fn set(&self, digest: &Digest) -> Option<&ValidatorSet> {
        let all = self.sets.iter().map(|change| &change.set).chain([&self.planned]);
        all.into_iter().find(|set| set.digest() == *digest)
    }

    /// The set that the header of this height must name, where it is the last of its epoch. All
    /// records of blocks below it are executed, and none of it.
    pub fn next_set(&self, height: u64) -> Option<ValidatorSet> {
        let (_, last, _) = self.span(height.saturating_sub(1));
        (last == height).then(|| self.planned.clone())
    }

    /// The height of the block on which the epoch of the block after this one stands: the last of
    /// the epoch before, or that of the genesis.
    pub fn ground(&self, height: u64) -> u64 {
        let (_, last, blocks) = self.span(height);
        last - blocks
    }

    /// The last height of the epoch of the block after this one.
    pub fn epoch_end(&self, height: u64) -> u64 {
        self.span(height).1
    }

    /// The set of the next epoch that is not fixed, as things stand: what a change is based on.
    pub fn planned(&self) -> &ValidatorSet {
        &self.planned
    }

    /// The proposals that wait for more authorities: the digest, and who has signed so far. Of them
    /// some may not count any longer, which is found when one is signed next.
    pub fn proposals(&self) -> impl ExactSizeIterator<Item = (&Digest, Vec<&str>)> {
        self.proposals.iter().map(|(digest, approvals)| {
            (digest, approvals.iter().map(|approval| approval.party.as_str()).collect())
        })
    }

    /// The newest epoch whose set is fixed when the records of this height are executed: number,
    /// last height, length.
    fn span(&self, height: u64) -> (u64, u64, u64) {
        if height < self.last {
            return (self.epoch, self.last, self.blocks);
        }
        // The first epoch that ends here is followed by ones of the planned length.
        let blocks = self.planned_blocks;
        let ended = 1 + (height - self.last) / blocks;
        (self.epoch + ended, self.last.saturating_add(ended.saturating_mul(blocks)), blocks)
    }

    /// The planned set, where it becomes the set of an epoch at or below this height.
    fn fixed_at(&self, height: u64) -> Option<SetChange> {
        let other = self.sets.last().is_none_or(|change| change.set != self.planned);
        let (epoch, named_at) = (self.epoch + 1, self.last);
        let fixed = height >= self.last && other;
        fixed.then(|| SetChange { epoch, named_at, set: self.planned.clone() })
    }

    /// Counts off the epochs that end at or below this height: what is planned for them is fixed.
    pub(super) fn roll(&mut self, height: u64) {
        let fixed = self.fixed_at(height);
        self.sets.extend(fixed);
        (self.epoch, self.last, self.blocks) = self.span(height);
    }

    /// Plans a set and an epoch length for the next epoch that is not fixed.
    pub(super) fn plan(&mut self, set: ValidatorSet, epoch_blocks: Option<u64>) {
        self.planned = set;
        self.planned_blocks = epoch_blocks.unwrap_or(self.planned_blocks);
    }

    /// Counts an authority's signature under a proposal; whether the quorum is complete with it.
    /// `valid` says which keys are valid, `authorities` how many participants may sign.
    pub(super) fn approve(
        &mut self,
        proposal: Digest,
        (party, key): (&str, Digest),
        valid: impl Fn(&Digest) -> bool,
        authorities: usize,
    ) -> Result<bool, Outcome> {
        let epoch = self.epoch;
        self.proposals.retain(|_, approvals| {
            let young = |approval: &Approval| epoch - approval.epoch < APPROVAL_EPOCHS;
            approvals.retain(|approval| young(approval) && valid(&approval.key));
            !approvals.is_empty()
        });
        let quorum = self.quorum.map_or(authorities / 2 + 1, |quorum| quorum as usize);
        let given = self.proposals.get(&proposal).map_or(&[][..], Vec::as_slice);
        if given.iter().any(|approval| approval.party == party) {
            return Err(Outcome::AlreadySigned);
        }
        if given.len() + 1 >= quorum {
            self.proposals.remove(&proposal);
            return Ok(true);
        }
        if given.is_empty() && self.proposals.len() >= PROPOSALS_MAX {
            let limit = Detail::Number(PROPOSALS_MAX as u64);
            return Err(Outcome::conflict_with(Conflict::TooMany, limit));
        }
        let approval = Approval { party: party.into(), key, epoch };
        self.proposals.entry(proposal).or_default().push(approval);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piaogen_crypto::sm2::SecretKey;
    use piaogen_verify::header::NO_SET;

    fn set(n: u8) -> ValidatorSet {
        ValidatorSet::new(vec![SecretKey::from_bytes(&[n; 32]).unwrap().public_key()]).unwrap()
    }

    fn governance(blocks: u64) -> Governance {
        Governance {
            quorum: None,
            epoch: 0,
            last: blocks,
            blocks,
            sets: vec![SetChange { epoch: 0, named_at: 0, set: set(1) }],
            planned: set(1),
            planned_blocks: blocks,
            proposals: BTreeMap::new(),
        }
    }

    /// At which height which set is planned, and which length.
    type Planned = (u64, u8, Option<u64>);

    /// What the headers say when each block's changes are counted block by block.
    fn naive(blocks: u64, changes: &[Planned], heights: u64) -> Vec<Digest> {
        let (mut length, mut planned_length, mut planned) = (blocks, blocks, set(1));
        let (mut last, mut out) = (length, vec![NO_SET]);
        for height in 1..=heights {
            // The header is made before the block's own records are executed.
            if height == last {
                out.push(planned.digest());
                length = planned_length;
                last += length;
            } else {
                out.push(NO_SET);
            }
            for (_, n, blocks) in changes.iter().filter(|(at, ..)| *at == height) {
                planned = set(*n);
                planned_length = blocks.unwrap_or(planned_length);
            }
        }
        out
    }

    #[test]
    fn epochs_that_are_counted_off_late_are_those_that_are_counted_block_by_block() {
        let cases: [(u64, &[Planned]); 7] = [
            (5, &[]),
            (5, &[(1, 2, None)]),
            (5, &[(4, 2, None), (5, 3, None)]),
            (5, &[(5, 2, None), (10, 3, None)]),
            (1, &[(1, 2, None), (2, 3, None), (9, 1, None)]),
            (4, &[(2, 1, Some(7)), (12, 2, Some(1)), (20, 3, None)]),
            (3, &[(3, 2, Some(5)), (7, 1, Some(2)), (8, 2, None)]),
        ];
        for (blocks, changes) in cases {
            let expected = naive(blocks, changes, 40);
            // Rolled by changes only, as a node does it, and asked at every height.
            let mut governance = governance(blocks);
            let mut found = vec![NO_SET];
            for height in 1..=40 {
                let next = governance.next_set(height);
                found.push(next.map_or(NO_SET, |set| set.digest()));
                for (_, n, blocks) in changes.iter().filter(|(at, ..)| *at == height) {
                    governance.roll(height);
                    governance.plan(set(*n), *blocks);
                }
            }
            assert_eq!(found, expected, "{blocks} {changes:?}");
            for change in governance.sets(40).iter().skip(1) {
                assert_eq!(expected[change.named_at as usize], change.set.digest());
            }
        }
    }

    #[test]
    fn a_set_that_stays_is_there_once_and_every_one_is_found() {
        let mut governance = governance(10);
        governance.roll(4);
        governance.plan(set(2), None);
        governance.roll(35);
        governance.plan(set(3), None);
        let found: Vec<(u64, u64)> =
            governance.sets(40).iter().map(|change| (change.epoch, change.named_at)).collect();
        assert_eq!(found, [(0, 0), (1, 10), (4, 40)]);
        assert_eq!(governance.sets(39).len(), 2);
        for n in 1..=3 {
            assert_eq!(governance.set(&set(n).digest()), Some(&set(n)));
        }
        assert_eq!(governance.set(&set(4).digest()), None);
        // A height far away is no work, and nothing overflows.
        governance.next_set(u64::MAX);
        assert_eq!(governance.next_set(10 << 50), Some(set(3)));
        assert_eq!(governance.next_set((10 << 50) + 1), None);
    }
}
