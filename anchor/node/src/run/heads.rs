//! Keeps the heads under which receipts are cosigned (`storage/LAYOUT.md` section 14).
//!
//! Witnesses meet at every eighth size (`verify/FORMAT.md` section 12.1), and what they signed
//! comes together some blocks later. A receipt that carries it is made under the last header below that
//! size. Header and certificate stay in `blocks`, but the shards as of that header are nowhere once
//! the node has gone on: so they are kept here, as the head that the node handed out then.
//!
//! Invariants
//! - A head that comes from a file is, byte for byte, what the stored block and its shards make.
//! - A file is whole or not there, and of each size there is one: under the highest header.
//! - No file stops a node: what is damaged or of another chain is said, deleted, and missed only
//!   until witnesses have signed the next size.

use super::chain::Provable;
use super::{lock, parse_block};
use crate::setup::{make_folder, replace};
use crate::site::read_bounded;
use anyhow::{Context, Result, ensure};
use piaogen_crypto::Digest;
use piaogen_storage::Block;
use piaogen_verify::epoch::Change;
use piaogen_verify::tiles::{HEAD_MAX, Head};
use piaogen_verify::witness::SHARED_EVERY;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The folder in the data folder.
pub const FOLDER: &str = "heads";
/// How many heads are kept, in memory and on disk: so long may gathering take.
pub const HEADS_MAX: usize = 64;

/// The smallest size at which all witnesses sign, and in whose log this height is.
fn size_above(height: u64) -> u64 {
    (height / SHARED_EVERY + 1).saturating_mul(SHARED_EVERY)
}

/// Heads by the size that each is the newest below.
#[derive(Clone, Debug, Default)]
pub struct Passed(BTreeMap<u64, Provable>);

impl Passed {
    /// Takes what the newest head makes the last of its size; what of that is to be kept on disk.
    #[must_use]
    pub fn go_on(&mut self, before: Option<Provable>, newest: &Provable) -> Vec<Provable> {
        let (height, size) = (newest.header.height, size_above(newest.header.height));
        let before = before.filter(|before| size_above(before.header.height) < size);
        // Above the last header of a size nothing more comes below it.
        let last = (height + 1 == size).then(|| newest.clone());
        let passed: Vec<Provable> = before.into_iter().chain(last).collect();
        passed.iter().cloned().for_each(|head| self.take(head));
        passed
    }

    fn take(&mut self, head: Provable) {
        let height = head.header.height;
        let known = self.0.entry(size_above(height)).or_insert_with(|| head.clone());
        if known.header.height < height {
            *known = head;
        }
        while self.0.len() > HEADS_MAX {
            self.0.pop_first();
        }
    }

    /// Those that are remembered, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Provable> {
        self.0.values().rev()
    }
}

/// What the heads in files must agree with.
pub struct Known<'a> {
    /// The genesis digest.
    pub chain: Digest,
    /// The height that is executed.
    pub executed: u64,
    /// What leads from the genesis to the set of the block after it.
    pub changes: Arc<Vec<Change>>,
    /// The stored block of a height.
    pub block: &'a dyn Fn(u64) -> Result<Option<Block>>,
}

impl Known<'_> {
    /// The head in a file, if it is what it was; nothing where its block is executed again first.
    fn read(&self, path: &Path, size: u64) -> Result<Option<Provable>> {
        let bytes = read_bounded(path, HEAD_MAX)?.context("it is gone")?;
        let head = Head::decode(&bytes).context("it is no head")?;
        let (header, chain) = (head.header, hex::encode(head.header.chain));
        ensure!(header.chain == self.chain, "it is of another chain, {chain}");
        ensure!(size_above(header.height) == size, "it is of block {}", header.height);
        // Of later blocks neither sets nor logs are known before they are executed, and with that
        // their heads come anew.
        if header.height > self.executed + 1 {
            return Ok(None);
        }
        head.check_shards()?;
        let missing = || format!("block {} is not here", header.height);
        let block = (self.block)(header.height)?.with_context(missing)?;
        let (own, _) = parse_block(&block)?;
        let (finalization, changes) = (block.finalization, self.changes.clone());
        ensure!(!finalization.is_empty(), "block {} has no certificate here", header.height);
        let own = Provable { header: own, finalization, shards: head.shards.into(), changes };
        ensure!(own.head().encode() == bytes, "block {} is another here", header.height);
        Ok(Some(own))
    }
}

/// The files.
#[derive(Debug)]
pub struct Heads {
    dir: PathBuf,
    /// By size, the height of the head that is there; 0 where it is to be written again.
    there: Mutex<BTreeMap<u64, u64>>,
}

impl Heads {
    /// The heads in a data folder.
    pub fn of(data: &Path) -> Heads {
        Heads { dir: data.join(FOLDER), there: Mutex::default() }
    }

    fn path(&self, size: u64) -> PathBuf {
        self.dir.join(size.to_string())
    }

    /// Reads what was kept. What does not fit is said and deleted.
    pub fn open(&self, known: &Known<'_>) -> Passed {
        let (mut passed, mut there) = (Passed::default(), lock(&self.there));
        let sizes = self.sizes().unwrap_or_else(|error| {
            tracing::error!(error = format!("{error:#}"), "heads that were kept are not read");
            Vec::new()
        });
        for size in sizes {
            let path = self.path(size);
            match known.read(&path, size) {
                Ok(Some(head)) => {
                    there.insert(size, head.header.height);
                    passed.take(head);
                }
                Ok(None) => {
                    there.insert(size, 0);
                }
                Err(error) => {
                    tracing::error!(
                        path = %path.display(), error = format!("{error:#}"),
                        "a head that was kept is not what it was, and is deleted: receipts under it \
                         are cosigned again with what witnesses sign next"
                    );
                    self.delete(size);
                }
            }
        }
        self.bound(&mut there);
        drop(there);
        passed
    }

    /// The sizes of which there are files. What a crash left of writing one is deleted.
    fn sizes(&self) -> Result<Vec<u64>> {
        let named = || self.dir.display().to_string();
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(named)?,
        };
        let mut sizes = Vec::new();
        for entry in entries {
            let name = entry.with_context(named)?.file_name();
            let Some(name) = name.to_str() else { continue };
            let size = name.strip_suffix(".new").unwrap_or(name).parse::<u64>().ok();
            let Some(size) = size.filter(|size| name.starts_with(&size.to_string())) else {
                continue;
            };
            match name.ends_with(".new") {
                true => self.delete_file(&self.dir.join(name)),
                false => sizes.push(size),
            }
        }
        Ok(sizes)
    }

    fn delete(&self, size: u64) {
        self.delete_file(&self.path(size));
    }

    fn delete_file(&self, path: &Path) {
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "a head is not deleted");
        }
    }

    /// Deletes those of the smallest sizes that are too many.
    fn bound(&self, there: &mut BTreeMap<u64, u64>) {
        while there.len() > HEADS_MAX
            && let Some((size, _)) = there.pop_first()
        {
            self.delete(size);
        }
    }

    /// Keeps a head, durable when this returns. Where the disk does not take it, receipts under it
    /// carry cosignatures until the node ends.
    pub fn keep(&self, head: &Provable) {
        let (height, mut there) = (head.header.height, lock(&self.there));
        let size = size_above(height);
        if there.get(&size).is_some_and(|known| *known >= height) {
            return;
        }
        let bytes = head.head().encode();
        match make_folder(&self.dir).and_then(|()| replace(&self.path(size), &bytes)) {
            Ok(()) => {
                there.insert(size, height);
                self.bound(&mut there);
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), height, "a head is not kept");
            }
        }
    }
}
