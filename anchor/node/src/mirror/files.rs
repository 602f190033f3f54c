//! The files of a mirror: tiles, bundles and the head, below the folder that a web server hands out.
//!
//! Invariants
//! - A file has its name when its bytes are durable; whoever reads it sees all of it or none.

use crate::disk::{self, Disk, Plain};
use crate::site::read_bounded;
use anyhow::{Context, Result};
use piaogen_crypto::Digest;
use piaogen_verify::tiles::{HEAD_MAX, Head, Log, Part, Tile, Tiles, WIDTH};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The path of the head.
pub(super) const HEAD: &str = "v1/head";

/// Most bytes of an item of a bundle.
fn item_max(log: Log) -> u64 {
    match log {
        Log::History => piaogen_verify::follow::LINK_MAX,
        Log::Shard(_) => piaogen_verify::receipt::ENTRY_MAX,
    }
}

/// Most bytes of a tile or bundle.
pub(super) fn bytes_max(tile: &Tile) -> u64 {
    match tile.part {
        Part::Hashes(_) => 32 * u64::from(tile.width),
        Part::Entries => u64::from(tile.width) * (2 + item_max(tile.log)),
    }
}

/// The folder of a mirror.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    /// Folders with names that may not be durable yet.
    fresh: Mutex<BTreeSet<PathBuf>>,
}

impl Files {
    pub(super) fn new(dir: &Path) -> Files {
        Files::on(Arc::new(Plain), dir)
    }

    pub(super) fn on(disk: Arc<dyn Disk>, dir: &Path) -> Files {
        Files { dir: dir.to_path_buf(), disk, fresh: Mutex::default() }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, tile: &Tile) -> PathBuf {
        self.dir.join(format!("v1/tiles/{tile}"))
    }

    /// The bytes of a tile or bundle, where it is there.
    pub(super) fn read(&self, tile: &Tile) -> Result<Option<Vec<u8>>> {
        read_bounded(&self.path(tile), bytes_max(tile))
    }

    /// The same, where it must be.
    pub(super) fn need(&self, tile: &Tile) -> Result<Vec<u8>> {
        self.read(tile)?.with_context(|| format!("v1/tiles/{tile} is missing"))
    }

    /// The hashes of a tile, where they are there and whole.
    pub(super) fn hashes(&self, tile: &Tile) -> Option<Vec<Digest>> {
        tile.decode(&self.read(tile).ok()??).ok()
    }

    pub(super) fn has(&self, tile: &Tile) -> bool {
        self.path(tile).is_file()
    }

    /// Writes a tile or bundle; its name is durable after [`Files::sync`].
    pub(super) fn put(&self, tile: &Tile, bytes: &[u8]) -> Result<()> {
        let path = self.path(tile);
        let folder = path.parent().unwrap_or(&self.dir);
        let put = self.disk.create_folder(folder);
        put.and_then(|()| disk::put(&*self.disk, &path, bytes))
            .with_context(|| format!("writing {}", path.display()))?;
        self.found(tile);
        Ok(())
    }

    /// Has the name of a file that is there made durable by the next [`Files::sync`]. Whoever gave it
    /// may have been killed before that.
    pub(super) fn found(&self, tile: &Tile) {
        let path = self.path(tile);
        let folder = path.parent().unwrap_or(&self.dir);
        let mut named = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let above = folder.ancestors().take_while(|above| above.starts_with(&self.dir));
        for folder in above {
            if !named.insert(folder.to_path_buf()) {
                break;
            }
        }
    }

    /// Makes all names durable that were given or found.
    pub(super) fn sync(&self) -> Result<()> {
        let mut named = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        for folder in std::mem::take(&mut *named) {
            let synced = self.disk.sync(&folder);
            synced.with_context(|| format!("syncing {}", folder.display()))?;
        }
        Ok(())
    }

    /// Replaces a file of the folder, durably.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.dir.join(name);
        let replaced = disk::replace(&*self.disk, &path, bytes);
        replaced.with_context(|| format!("writing {}", path.display()))
    }

    /// The head that is handed out, with its bytes.
    pub(super) fn head(&self) -> Result<Option<(Head, Vec<u8>)>> {
        self.head_at(HEAD)
    }

    /// A head in a file of the folder.
    pub(super) fn head_at(&self, name: &str) -> Result<Option<(Head, Vec<u8>)>> {
        let path = self.dir.join(name);
        let Some(bytes) = read_bounded(&path, HEAD_MAX)? else { return Ok(None) };
        let head = Head::decode(&bytes).with_context(|| path.display().to_string())?;
        Ok(Some((head, bytes)))
    }

    /// Hands out a head, all of which is there.
    pub(super) fn publish(&self, bytes: &[u8]) -> Result<()> {
        self.sync()?;
        self.replace(HEAD, bytes)
    }

    /// Deletes the partial files of an index but those that these sizes of the log name.
    pub(super) fn sweep(&self, log: Log, part: Part, index: u64, sizes: &[u64]) -> Result<()> {
        let full = self.path(&Tile { log, part, index, width: WIDTH as u16 });
        let folder = PathBuf::from(format!("{}.p", full.display()));
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.with_context(|| folder.display().to_string())?,
        };
        let named: Vec<PathBuf> = sizes
            .iter()
            .filter_map(|size| Tile::of(log, part, index, *size))
            .map(|tile| self.path(&tile))
            .collect();
        let mut left = false;
        for entry in entries {
            let path = entry?.path();
            match named.contains(&path) {
                true => left = true,
                false => self.disk.remove(&path).with_context(|| path.display().to_string())?,
            }
        }
        if !left {
            let removed = self.disk.remove_folder(&folder);
            removed.with_context(|| folder.display().to_string())?;
        }
        Ok(())
    }
}

impl Tiles for &Files {
    type Error = anyhow::Error;

    fn tile(&self, tile: &Tile) -> Result<Vec<Digest>> {
        let hashes = tile.decode(&self.need(tile)?);
        hashes.with_context(|| format!("v1/tiles/{tile}"))
    }
}
