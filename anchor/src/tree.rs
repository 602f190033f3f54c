//! The status tree: new hashes for changed statuses (FORMAT section 6).
//!
//! Level by level, all changes of a block together, so that what the paths share is hashed once and
//! the lanes are full. What is above the last invoice is known to be zero and is not read.
//!
//! Invariants
//! - The result is that of setting the records one by one, in any order.

use crate::shard::Index;
use piaogen_crypto::{Digest, Lanes};
use piaogen_verify::status::{DEPTH, ZERO};

/// The hashes of a tree that changed: level, index, new value.
pub type Nodes = Vec<(u8, u64, Digest)>;

/// Sets the records at these issue indices, ascending and different; returns all hashes that
/// change, and the new root. `invoices` is how many the shard has, after the block.
pub fn update<I: Index>(
    lanes: Lanes,
    index: &I,
    invoices: u64,
    changed: &[(u64, Digest)],
) -> Result<(Nodes, Digest), I::Error> {
    let mut nodes: Nodes = Vec::with_capacity(changed.len() * 24);
    let mut level: Vec<(u64, Digest)> = changed.to_vec();
    for depth in 0..DEPTH {
        nodes.extend(level.iter().map(|(at, hash)| (depth, *at, *hash)));
        level = parents(lanes, index, invoices, depth, &level)?;
    }
    let root = level.first().map_or(ZERO, |(_, root)| *root);
    nodes.push((DEPTH, 0, root));
    Ok((nodes, root))
}

fn parents<I: Index>(
    lanes: Lanes,
    index: &I,
    invoices: u64,
    depth: u8,
    level: &[(u64, Digest)],
) -> Result<Vec<(u64, Digest)>, I::Error> {
    let pairs: Vec<&[(u64, Digest)]> = level.chunk_by(|(a, _), (b, _)| a / 2 == b / 2).collect();
    let lonely = pairs.iter().filter(|pair| pair.len() == 1);
    let siblings: Vec<(u8, u64)> = lonely
        .map(|pair| (depth, pair[0].0 ^ 1))
        .filter(|(_, at)| holds_invoices(depth, *at, invoices))
        .collect();
    let read = index.status_nodes(&siblings)?;
    let mut read = siblings.iter().map(|(_, at)| *at).zip(read).peekable();
    let mut children = Vec::with_capacity(pairs.len() * 2);
    for pair in &pairs {
        let (at, hash) = pair[0];
        let other = match pair.get(1) {
            Some((_, other)) => *other,
            None => read.next_if(|(sibling, _)| *sibling == at ^ 1).map_or(ZERO, |(_, hash)| hash),
        };
        children.extend(if at % 2 == 0 { [hash, other] } else { [other, hash] });
    }
    let mut hashes = vec![ZERO; pairs.len()];
    lanes.sm3_pairs(1, &children, &mut hashes);
    let parent = |(i, pair): (usize, &&[(u64, Digest)])| {
        let zero = children[2 * i] == ZERO && children[2 * i + 1] == ZERO;
        (pair[0].0 / 2, if zero { ZERO } else { hashes[i] })
    };
    Ok(pairs.iter().enumerate().map(parent).collect())
}

/// Whether any invoice stands under a hash; where none does it is zero.
fn holds_invoices(depth: u8, at: u64, invoices: u64) -> bool {
    at << depth < invoices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{Place, Wait};
    use piaogen_verify::status::{Status, StatusProof, interior};
    use std::collections::HashMap;
    use std::convert::Infallible;

    #[derive(Default)]
    struct Stored(HashMap<(u8, u64), Digest>);

    impl Index for Stored {
        type Error = Infallible;

        fn find(&self, subjects: &[&[u8]]) -> Result<Vec<Option<Place>>, Infallible> {
            Ok(vec![None; subjects.len()])
        }

        fn statuses(&self, issues: &[u64]) -> Result<Vec<Option<Status>>, Infallible> {
            Ok(vec![None; issues.len()])
        }

        fn status_nodes(&self, places: &[(u8, u64)]) -> Result<Vec<Digest>, Infallible> {
            Ok(places.iter().map(|at| self.0.get(at).copied().unwrap_or(ZERO)).collect())
        }

        fn waits(&self, _: i64) -> Result<Vec<Wait>, Infallible> {
            Ok(Vec::new())
        }
    }

    fn naive(records: &HashMap<u64, Digest>, depth: u8, at: u64) -> Digest {
        let span = 1u64 << depth;
        if !records.keys().any(|issue| issue / span == at) {
            return ZERO;
        }
        match depth {
            0 => records[&at],
            _ => {
                interior(&naive(records, depth - 1, 2 * at), &naive(records, depth - 1, 2 * at + 1))
            }
        }
    }

    #[test]
    fn many_at_once_equal_a_naive_tree_block_after_block() {
        let (mut stored, mut records) = (Stored::default(), HashMap::new());
        let mut seed = 7u64;
        for block in 0..12u8 {
            let mut changed = std::collections::BTreeMap::new();
            for _ in 0..1 + block * 3 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                changed.insert(seed >> 33 & 0x3ff, [block + 1; 32]);
            }
            records.extend(changed.iter().map(|(at, hash)| (*at, *hash)));
            let changed: Vec<_> = changed.into_iter().collect();
            let (nodes, root) = update(Lanes::detect(), &stored, 1024, &changed).unwrap();
            stored.0.extend(nodes.into_iter().map(|(depth, at, hash)| ((depth, at), hash)));
            assert_eq!(root, naive(&records, 40, 0));
            for at in [0, 5, changed[0].0] {
                let mut proof = StatusProof { siblings: [ZERO; 40] };
                for (depth, sibling) in (0u8..).zip(&mut proof.siblings) {
                    let place = (depth, (at >> depth) ^ 1);
                    *sibling = stored.0.get(&place).copied().unwrap_or(ZERO);
                }
                let record = records.get(&at).copied().unwrap_or(ZERO);
                assert_eq!(proof.root(&record, at), Some(root));
            }
        }
    }
}
