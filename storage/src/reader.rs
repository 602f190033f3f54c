//! Reading a data folder beside the node, or after it: without the lock, changing nothing.
//!
//! It sees the flush point at the time of opening. Logs and rows are append-only and cut by size;
//! where a flush is being written, or was interrupted, the old status bytes of its undo file lie
//! over those on disk. Status hashes that a later flush overwrites no longer match: open again.

use std::ops::Deref;
use std::path::Path;

use crate::blocks::Blocks;
use crate::config::StoreConfig;
use crate::effects::{Digest, FlushPoint};
use crate::error::Result;
use crate::files::Files;
use crate::folder;
use crate::index::Index;
use crate::store::known_point;
use crate::undo::Undo;
use crate::view::View;

/// A data folder opened for reading.
pub struct StoreReader {
    chain: Digest,
    point: FlushPoint,
    view: View,
}

impl StoreReader {
    /// Opens a data folder as of its last flush point.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let root = dir.as_ref();
        let owner = folder::owner(root)?;
        let config = StoreConfig::new(owner.chain, owner.partitions);
        let index = Index::open_read_only(root, config.index_limits())?;
        let point = known_point(&index, owner.partitions)?;
        let files = Files::new(root, false, config.open_files);
        let undo = Undo::load(root)?.filter(|undo| undo.height > point.height);
        let blocks = Blocks::open(root, false)?;
        let view = View::open(&point, files, blocks, index, 1, false)?;
        for ((shard, level, at), old) in undo.into_iter().flat_map(|undo| undo.old) {
            view.shard(shard)?.lay_over(level, at, old)?;
        }
        Ok(Self { chain: owner.chain, point, view })
    }

    /// Whose data it is.
    pub fn chain(&self) -> Digest {
        self.chain
    }

    /// The flush point that is read.
    pub fn flushed(&self) -> &FlushPoint {
        &self.point
    }

    /// Leaves in the log over the headers; later blocks are in `block` but not yet here.
    pub fn history_size(&self) -> u64 {
        self.point.history_size
    }
}

impl Deref for StoreReader {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}
