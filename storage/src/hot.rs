//! Hashes of a record log that many proofs go through, in memory.
//!
//! A proof has a hash of each level. Those of the upper levels are few and are in many proofs, and the
//! last ones of each level are in every proof of a log of that size. Each would be a read of a file.
//!
//! Invariants
//! - Only complete hashes are here, which never change: nothing is ever stale.
//! - There are at most [`MOST`] of a shard; one more, and all are read again.

use crate::effects::Digest;
use crate::overlay::Map;

/// The lowest level that is kept whole: one hash for each 256 records.
const LOWEST: u8 = 8;
/// Most hashes that are kept of a shard: about a megabyte.
const MOST: usize = 1 << 14;
/// How many of the last hashes of a lower level are kept.
const LAST: u64 = 2;

/// The hashes that are kept, by level and index.
#[derive(Default)]
pub(crate) struct Hot(Map<(u8, u64), Digest>);

/// Whether a hash is worth keeping, of a log of this size.
pub(crate) fn is_hot(level: u8, index: u64, size: u64) -> bool {
    level >= LOWEST || index + LAST >= size >> level
}

impl Hot {
    pub(crate) fn get(&self, level: u8, index: u64) -> Option<Digest> {
        self.0.get(&(level, index)).copied()
    }

    pub(crate) fn put(&mut self, level: u8, index: u64, hash: Digest) {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert((level, index), hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_levels_and_the_edge_are_hot() {
        assert!(is_hot(8, 0, 1 << 20) && is_hot(30, 0, 1 << 40));
        assert!(is_hot(0, 999, 1_000) && is_hot(0, 998, 1_000) && !is_hot(0, 997, 1_000));
        assert!(is_hot(3, 124, 1_000) && is_hot(3, 123, 1_000) && !is_hot(3, 122, 1_000));
    }

    #[test]
    fn memory_is_bounded() {
        let mut hot = Hot::default();
        for index in 0..3 * MOST as u64 {
            hot.put(9, index, [1; 32]);
            assert_eq!(hot.get(9, index), Some([1; 32]));
            assert!(hot.0.len() <= MOST);
        }
        assert_eq!(hot.get(10, 0), None);
    }
}
