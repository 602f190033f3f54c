//! The status trees of the last few heights, which nothing on disk remembers.
//!
//! A status is proved under a final header, and the header that binds the state after a block is
//! that of the next one. By then the block above may be applied. So each block leaves behind, in
//! memory, what it changed as it was before: a layer. An older tree is read through the layers of
//! the blocks above it, and where none of them has a hash, it is the one of now.
//!
//! Most of what a block changes was last written by a flush, and reading it back would cost as much
//! as the block's look-ups did. So a layer only notes that it was in the files. A flush, before it
//! overwrites them, reads what the layers still need.
//!
//! Invariants
//! - Layers reach from the tree of now without a gap to the oldest that is readable.
//! - What a layer has in the files is there unchanged, until [`Past::settle`].
//! - There are at most [`KEPT`] layers of a shard, each as large as what its block changed.

use std::collections::VecDeque;

use crate::effects::Digest;

/// How many heights are kept below the one that is applied.
pub(crate) const KEPT: u64 = 4;

/// What something was before a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Was<T> {
    /// This.
    This(T),
    /// What the files, or RocksDB, have.
    InFiles,
}

/// A status document, where there was one.
type Document = Option<Vec<u8>>;

/// What one block changed of a shard's statuses, as it was before.
pub(crate) struct Layer {
    height: u64,
    root: Digest,
    /// By level and index, ascending.
    nodes: Vec<((u8, u64), Was<Digest>)>,
    /// By issue index, ascending.
    documents: Vec<(u64, Was<Document>)>,
}

/// Sorts by key; of what came twice, the first was there before.
fn sorted<K: Ord + Copy, V>(mut pairs: Vec<(K, V)>) -> Vec<(K, V)> {
    // Execution hands changes over in order, which costs one pass.
    pairs.sort_by_key(|(key, _)| *key);
    pairs.dedup_by_key(|(key, _)| *key);
    pairs
}

fn found<'a, K: Ord, V>(pairs: &'a [(K, V)], key: &K) -> Option<&'a V> {
    let at = pairs.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
    Some(&pairs[at].1)
}

impl Layer {
    /// Of the block of a height, above a tree with this root.
    pub(crate) fn new(
        height: u64,
        root: Digest,
        nodes: Vec<((u8, u64), Was<Digest>)>,
        documents: Vec<(u64, Was<Document>)>,
    ) -> Layer {
        Layer { height, root, nodes: sorted(nodes), documents: sorted(documents) }
    }
}

/// What layers have in the files: places of the tree, and issue indices, both ascending.
pub(crate) type InFiles = (Vec<(u8, u64)>, Vec<u64>);

/// The layers of a shard, the oldest first.
#[derive(Default)]
pub(crate) struct Past(VecDeque<Layer>);

/// A tree of the past: the layers above it.
pub(crate) struct Above<'a>(Vec<&'a Layer>);

impl Past {
    /// Notes what a block changed.
    pub(crate) fn push(&mut self, layer: Layer) {
        self.0.push_back(layer);
    }

    /// Drops what is older than is kept below a height; returned so that freeing it needs no lock.
    pub(crate) fn forget(&mut self, height: u64) -> Vec<Layer> {
        let old = self.0.partition_point(|layer| layer.height + KEPT <= height);
        self.0.drain(..old).collect()
    }

    /// What lies above the tree with this root, where `now` is the root of the present one; nothing
    /// where it is not kept.
    pub(crate) fn above(&self, root: &Digest, now: &Digest) -> Option<Above<'_>> {
        if root == now {
            return Some(Above(Vec::new()));
        }
        let at = self.0.iter().rposition(|layer| layer.root == *root)?;
        Some(Above(self.0.range(at..).collect()))
    }

    /// What the layers up to a height have in the files.
    pub(crate) fn in_files(&self, height: u64) -> InFiles {
        let (mut nodes, mut documents) = (Vec::new(), Vec::new());
        for layer in self.0.iter().filter(|layer| layer.height <= height) {
            let open = |was: &Was<Digest>| *was == Was::InFiles;
            nodes.extend(layer.nodes.iter().filter(|(_, was)| open(was)).map(|(place, _)| *place));
            let open = |was: &Was<Document>| *was == Was::InFiles;
            let issues = layer.documents.iter().filter(|(_, was)| open(was));
            documents.extend(issues.map(|(issue, _)| *issue));
        }
        nodes.sort_unstable();
        documents.sort_unstable();
        // Between two flushes only the first block that changes something finds it in the files.
        debug_assert!(nodes.is_sorted_by(|a, b| a < b) && documents.is_sorted_by(|a, b| a < b));
        (nodes, documents)
    }

    /// Takes in what the files had at these places, of layers up to a height, before they are
    /// overwritten.
    pub(crate) fn settle(
        &mut self,
        height: u64,
        (places, issues): &InFiles,
        nodes: &[Digest],
        documents: &[Document],
    ) {
        for layer in self.0.iter_mut().filter(|layer| layer.height <= height) {
            for (place, was) in layer.nodes.iter_mut().filter(|(_, was)| *was == Was::InFiles) {
                if let Ok(at) = places.binary_search(place) {
                    *was = Was::This(nodes[at]);
                }
            }
            for (issue, was) in layer.documents.iter_mut().filter(|(_, was)| *was == Was::InFiles) {
                if let Ok(at) = issues.binary_search(issue) {
                    *was = Was::This(documents[at].clone());
                }
            }
        }
    }
}

impl Above<'_> {
    /// What a hash of the tree was, if it changed since.
    pub(crate) fn node(&self, place: (u8, u64)) -> Option<&Was<Digest>> {
        self.0.iter().find_map(|layer| found(&layer.nodes, &place))
    }

    /// What a status document was, if it changed since.
    pub(crate) fn document(&self, issue: u64) -> Option<&Was<Document>> {
        self.0.iter().find_map(|layer| found(&layer.documents, &issue))
    }
}
