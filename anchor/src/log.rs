//! The growing edge of a record log: appends leaves, gives the interior hashes that became complete.
//!
//! Only the frontier is kept, the complete subtrees at the right edge; everything behind it lies in
//! flat files by level. Whole levels are hashed in one call, which is what the lanes want.
//!
//! Invariants
//! - A hash is given out once, when its subtree is complete, and never changes.
//! - The root equals that of RFC 6962 over all leaves ever appended.

use piaogen_crypto::{Digest, Lanes};
use piaogen_verify::merkle::{self, Hashes};

/// The frontier of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    size: u64,
    /// At each level the last complete subtree that has no right sibling yet, where the size has
    /// this bit set.
    edge: Vec<Digest>,
}

impl Log {
    /// The frontier of a log of `size` leaves, read from where its hashes lie.
    pub fn open<H: Hashes + ?Sized>(hashes: &H, size: u64) -> Result<Log, H::Error> {
        let levels = (64 - size.leading_zeros()) as u8;
        let edge = (0..levels)
            .map(|level| match size >> level & 1 {
                1 => hashes.get(level, (size >> level) - 1),
                _ => Ok([0; 32]),
            })
            .collect::<Result<_, _>>()?;
        Ok(Log { size, edge })
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends leaves. Returns the new hashes by level: `[0]` the leaves, `[k]` the interior hashes
    /// over `2^k` leaves that became complete.
    pub fn append(&mut self, lanes: Lanes, leaves: Vec<Digest>) -> Vec<Vec<Digest>> {
        let mut levels = Vec::new();
        let mut fresh = leaves;
        let mut level = 0;
        let appended = fresh.len() as u64;
        while !fresh.is_empty() {
            if self.edge.len() == level {
                self.edge.push([0; 32]);
            }
            let open = self.size >> level & 1 == 1;
            let mut children = Vec::with_capacity(fresh.len() + 1);
            if open {
                children.push(self.edge[level]);
            }
            children.extend_from_slice(&fresh);
            if children.len() % 2 == 1 {
                self.edge[level] = children.pop().unwrap_or_default();
            }
            let mut parents = vec![[0; 32]; children.len() / 2];
            lanes.sm3_pairs(1, &children, &mut parents);
            levels.push(std::mem::replace(&mut fresh, parents));
            level += 1;
        }
        self.size += appended;
        levels
    }

    /// The root over all leaves.
    pub fn root(&self) -> Digest {
        let mut folded: Option<Digest> = None;
        for (level, hash) in self.edge.iter().enumerate() {
            if self.size >> level & 1 == 1 {
                folded = Some(folded.map_or(*hash, |rest| merkle::interior(hash, &rest)));
            }
        }
        folded.unwrap_or_else(merkle::empty_root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_in_any_portions_gives_the_root_and_the_levels_of_the_recursion() {
        let all: Vec<Digest> = (0u64..200).map(|i| merkle::leaf(&i.to_be_bytes())).collect();
        for portion in [1usize, 2, 3, 7, 64, 200] {
            let mut log = Log::default();
            let mut stored: Vec<Vec<Digest>> = Vec::new();
            for leaves in all.chunks(portion) {
                for (level, hashes) in
                    log.append(Lanes::portable(), leaves.to_vec()).into_iter().enumerate()
                {
                    stored.resize(stored.len().max(level + 1), Vec::new());
                    stored[level].extend(hashes);
                }
                let size = log.size() as usize;
                assert_eq!(log.root(), merkle::root_of_leaves(&all[..size]));
                assert_eq!(Log::open(&all[..], log.size()).unwrap().root(), log.root());
            }
            for (level, hashes) in stored.iter().enumerate() {
                assert_eq!(hashes.len(), 200 >> level);
                for (i, hash) in hashes.iter().enumerate() {
                    assert_eq!(Hashes::get(&all[..], level as u8, i as u64), Ok(*hash));
                }
            }
        }
        assert_eq!(Log::default().root(), merkle::empty_root());
    }
}
