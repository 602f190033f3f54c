//! The shards under one header, and the tree over them, which every proof goes through.
//!
//! Invariants
//! - The tree is hashed once a header, when somebody asks; clones share it.

use piaogen_crypto::Digest;
use piaogen_verify::header::ShardEntry;
use piaogen_verify::merkle::{self, Hashes};
use std::convert::Infallible;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// The entries of all shards; the registry last.
#[derive(Clone, Debug)]
pub struct Shards(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    entries: Vec<ShardEntry>,
    tree: OnceLock<Tree>,
}

/// The complete hashes over some leaves, by level.
#[derive(Debug)]
struct Tree(Vec<Vec<Digest>>);

impl Hashes for Tree {
    type Error = Infallible;

    fn get(&self, level: u8, index: u64) -> Result<Digest, Infallible> {
        Ok(self.0[usize::from(level)][index as usize])
    }
}

impl Tree {
    fn over(leaves: Vec<Digest>) -> Tree {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|below| below.len() > 1) {
            let (pairs, _) = below.as_chunks::<2>();
            levels.push(pairs.iter().map(|[left, right]| merkle::interior(left, right)).collect());
        }
        Tree(levels)
    }
}

impl Shards {
    /// The proof that the entry of a shard is under the header.
    pub fn proof(&self, shard: u32) -> Vec<Digest> {
        let Inner { entries, tree } = &*self.0;
        let tree = tree.get_or_init(|| Tree::over(entries.iter().map(ShardEntry::leaf).collect()));
        let Ok(proof) = merkle::prove_inclusion(tree, shard.into(), entries.len() as u64);
        proof
    }
}

impl From<Vec<ShardEntry>> for Shards {
    fn from(entries: Vec<ShardEntry>) -> Shards {
        Shards(Arc::new(Inner { entries, tree: OnceLock::new() }))
    }
}

impl Deref for Shards {
    type Target = [ShardEntry];

    fn deref(&self) -> &[ShardEntry] {
        &self.0.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piaogen_verify::header::shards_root;

    #[test]
    fn each_shard_is_proved_under_the_root() {
        for count in 1..=40 {
            let entries: Vec<ShardEntry> = (0..count)
                .map(|shard| ShardEntry { next_offset: 7, ..ShardEntry::empty(shard) })
                .collect();
            let (root, shards) = (shards_root(&entries), Shards::from(entries));
            for entry in shards.iter() {
                let (index, size) = (u64::from(entry.shard), u64::from(count));
                let proof = shards.proof(entry.shard);
                let found = merkle::root_from_inclusion(&entry.leaf(), index, size, &proof);
                assert_eq!(found, Some(root), "{index} of {size}");
            }
        }
    }
}
