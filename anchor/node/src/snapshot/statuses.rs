//! The status tree of a shard, built again from its documents.
//!
//! A record of the tree is the digest of its document, so documents that lead to the root are the
//! right ones, all of them and no others. Subtrees over 16,384 invoices are done one by one, so that
//! memory is bounded by them and their number.
//!
//! Invariants
//! - Documents come in ascending order of issue index.

use anyhow::Result;
use piaogen_crypto::{Digest, Lanes};
use piaogen_storage::snapshot::Builder;
use piaogen_verify::status::{DEPTH, ZERO};

/// Levels of the subtrees that are done one by one.
const SUBTREE: u8 = 14;
/// Hashes that are written together, and synced.
const WRITE_NODES: usize = 1 << 19;

/// A tree that grows to the right.
pub(super) struct Tree<'a> {
    builder: &'a Builder,
    shard: u32,
    lanes: Lanes,
    /// Records of the subtree at hand.
    records: Vec<(u64, Digest)>,
    /// Roots of the subtrees before it.
    upper: Vec<(u64, Digest)>,
    nodes: Vec<(u8, u64, Digest)>,
}

/// Hashes a sparse level up to another; what is met on the way goes to `nodes`.
fn climb(
    lanes: Lanes,
    levels: std::ops::Range<u8>,
    mut level: Vec<(u64, Digest)>,
    nodes: &mut Vec<(u8, u64, Digest)>,
) -> Vec<(u64, Digest)> {
    for depth in levels {
        nodes.extend(level.iter().map(|(at, hash)| (depth, *at, *hash)));
        let pairs: Vec<&[(u64, Digest)]> =
            level.chunk_by(|(a, _), (b, _)| a / 2 == b / 2).collect();
        let mut children = vec![ZERO; pairs.len() * 2];
        for (i, pair) in pairs.iter().enumerate() {
            for (at, hash) in *pair {
                children[2 * i + (at % 2) as usize] = *hash;
            }
        }
        let mut hashes = vec![ZERO; pairs.len()];
        lanes.sm3_pairs(1, &children, &mut hashes);
        level = pairs.iter().map(|pair| pair[0].0 / 2).zip(hashes).collect();
    }
    level
}

impl<'a> Tree<'a> {
    pub(super) fn new(builder: &'a Builder, shard: u32, lanes: Lanes) -> Tree<'a> {
        let (records, upper, nodes) = (Vec::new(), Vec::new(), Vec::new());
        Tree { builder, shard, lanes, records, upper, nodes }
    }

    /// Adds the record of an invoice.
    pub(super) fn push(&mut self, issue: u64, record: Digest) -> Result<()> {
        let other = |(last, _): &(u64, Digest)| last >> SUBTREE != issue >> SUBTREE;
        if self.records.last().is_some_and(other) {
            self.close()?;
        }
        self.records.push((issue, record));
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let records = std::mem::take(&mut self.records);
        self.upper.extend(climb(self.lanes, 0..SUBTREE, records, &mut self.nodes));
        if self.nodes.len() >= WRITE_NODES {
            self.builder.status_nodes(self.shard, &self.nodes)?;
            self.nodes.clear();
        }
        Ok(())
    }

    /// Ends the tree; its root.
    pub(super) fn finish(mut self) -> Result<Digest> {
        self.close()?;
        let upper = std::mem::take(&mut self.upper);
        let root = climb(self.lanes, SUBTREE..DEPTH, upper, &mut self.nodes);
        let root = root.first().map_or(ZERO, |(_, root)| *root);
        if root != ZERO {
            self.nodes.push((DEPTH, 0, root));
        }
        self.builder.status_nodes(self.shard, &self.nodes)?;
        Ok(root)
    }
}
