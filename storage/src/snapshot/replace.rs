//! A data folder that a snapshot takes the place of.
//!
//! The new one is built inside the old, and moved out when it is whole: until then the old one is
//! what it was, and votes, stream and archive that lie in it stay where they are.
//!
//! Invariants
//! - The folder is the old one, or the new one, or one that only another restore takes.

use std::path::{Path, PathBuf};

use crate::config::StoreConfig;
use crate::error::Result;
use crate::folder::{self, Owner};
use crate::held::Held;

/// The right to replace a data folder, held while this value lives.
pub struct Replacement {
    root: PathBuf,
    inner: PathBuf,
    owner: Owner,
    _lock: Held,
}

impl Replacement {
    /// Takes a folder that holds data of this chain; nothing where it holds none, so that there is
    /// nothing to replace.
    pub fn begin(dir: impl AsRef<Path>, config: &StoreConfig) -> Result<Option<Self>> {
        let root = dir.as_ref().to_owned();
        let owner = Owner { chain: config.chain, partitions: config.partitions };
        let claimed = folder::claim_replaced(&root, owner)?;
        Ok(claimed.map(|(lock, inner)| Self { root, inner, owner, _lock: lock }))
    }

    /// Where the new folder is built.
    pub fn folder(&self) -> &Path {
        &self.inner
    }

    /// Puts the new folder, which is whole, in the place of the old one.
    pub fn put(self) -> Result<()> {
        // Whole, or the old one stays.
        folder::owner(&self.inner)?;
        folder::replace(&self.root, self.owner)
    }
}
