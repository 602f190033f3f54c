//! Handles of the store's flat files, kept in a bounded cache.
//!
//! Some hundred shards with a file for each level are more files than a process may hold open, so
//! handles are opened when needed and the ones unused for longest are closed. Reads and writes name
//! their position (`pread`, `pwrite`), so a handle has no state and any number of threads share it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{During, Result};

/// A flat file of the store, by what it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Place {
    /// A level of a shard's record log.
    Log { shard: u32, level: u8 },
    /// A band of a shard's status tree.
    Status { shard: u32, band: u8 },
    /// A level of the log over the headers.
    History { level: u8 },
    /// A file of rows, named by its first log index.
    Tail { shard: u32, first: u64 },
}

impl Place {
    /// Folder below the data folder.
    pub(crate) fn folder(self) -> String {
        match self {
            Self::Log { shard, .. } => format!("shard-{shard:04}/log"),
            Self::Status { shard, .. } => format!("shard-{shard:04}/status"),
            Self::History { .. } => "history".to_owned(),
            Self::Tail { shard, .. } => format!("shard-{shard:04}/tail"),
        }
    }

    /// File name in that folder.
    fn name(self) -> String {
        match self {
            Self::Log { level, .. } | Self::History { level } => format!("level-{level:02}"),
            Self::Status { band, .. } => format!("band-{band}"),
            Self::Tail { first, .. } => format!("{first:020}.rows"),
        }
    }
}

/// Number of independently locked parts of the cache.
const SLOTS: usize = 16;

/// An open file and when it was last asked for, in ticks of its slot.
type Handle = (Arc<File>, u64);

#[derive(Default)]
struct Slot {
    open: HashMap<Place, Handle>,
    tick: u64,
}

/// The cache of handles under one data folder.
pub(crate) struct Files {
    root: PathBuf,
    writable: bool,
    per_slot: usize,
    slots: [Mutex<Slot>; SLOTS],
    hasher: RandomState,
}

impl Files {
    /// A cache of at most about `limit` handles.
    pub(crate) fn new(root: &Path, writable: bool, limit: usize) -> Self {
        Self {
            root: root.to_owned(),
            writable,
            per_slot: (limit / SLOTS).max(4),
            slots: Default::default(),
            hasher: RandomState::new(),
        }
    }

    /// Where a file is.
    pub(crate) fn path(&self, place: Place) -> PathBuf {
        self.root.join(place.folder()).join(place.name())
    }

    /// What is said where reading a file failed.
    pub(crate) fn cannot_read(&self, place: Place) -> String {
        format!("cannot read {}", self.path(place).display())
    }

    /// The file, or `None` where it does not exist. Never creates it.
    pub(crate) fn existing(&self, place: Place) -> Result<Option<Arc<File>>> {
        self.get(place, false)
    }

    /// The file, created where it does not exist.
    pub(crate) fn create(&self, place: Place) -> Result<Arc<File>> {
        let file = self.get(place, true)?;
        Ok(file.expect("a file opened with create exists"))
    }

    fn get(&self, place: Place, create: bool) -> Result<Option<Arc<File>>> {
        let mut slot = self.slot(place);
        slot.tick += 1;
        let tick = slot.tick;
        if let Some((file, used)) = slot.open.get_mut(&place) {
            *used = tick;
            return Ok(Some(Arc::clone(file)));
        }
        let path = self.path(place);
        let opened = OpenOptions::new()
            .read(true)
            .write(self.writable)
            .create(create && self.writable)
            .open(&path);
        let file = match opened {
            Err(error) if !create && error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => Arc::new(opened.at("open", &path)?),
        };
        if slot.open.len() >= self.per_slot {
            // Half at once: the cost of looking for the oldest is paid once per that many opens.
            let mut ticks: Vec<u64> = slot.open.values().map(|(_, used)| *used).collect();
            let half = ticks.len() / 2;
            let (_, &mut limit, _) = ticks.select_nth_unstable(half);
            slot.open.retain(|_, (_, used)| *used > limit);
        }
        slot.open.insert(place, (Arc::clone(&file), tick));
        Ok(Some(file))
    }

    /// Closes the file and deletes it.
    pub(crate) fn delete(&self, place: Place) -> Result<()> {
        self.slot(place).open.remove(&place);
        delete(&self.path(place))
    }

    /// Makes creations and deletions in a folder of the store durable.
    pub(crate) fn sync_folder(&self, place: Place) -> Result<()> {
        sync_folder(&self.root.join(place.folder()))
    }

    fn slot(&self, place: Place) -> std::sync::MutexGuard<'_, Slot> {
        let slot = self.hasher.hash_one(place) as usize % SLOTS;
        // A panic while a handle is looked up leaves the map whole.
        self.slots[slot].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads 32 bytes at entry `index` of an array of digests; zeros past the end and in holes.
pub(crate) fn digest_at(file: &File, index: u64) -> std::io::Result<[u8; 32]> {
    let mut digest = [0; 32];
    let mut done = 0;
    while done < 32 {
        match file.read_at(&mut digest[done..], index * 32 + done as u64) {
            Ok(0) => return Ok([0; 32]),
            Ok(n) => done += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(digest)
}

/// Deletes a file; it is no error if there is none.
pub(crate) fn delete(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done.at("delete", path),
    }
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).at("sync", path)
}

/// Creates a folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).at("create", path)
}

/// Writes a whole file and makes its bytes durable; the folder is for the caller to sync.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).at("create", path)?;
    file.write_all(bytes).at("write", path)?;
    file.sync_all().at("sync", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_stays_within_its_limit_and_reads_stay_right() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path(), true, 64);
        create_folder(&dir.path().join("shard-0001/status")).unwrap();
        let place = |band| Place::Status { shard: 1, band };
        for round in 0..3u8 {
            for level in 0..250 {
                let file = files.create(place(level)).unwrap();
                if round == 0 {
                    file.write_all_at(&[level; 32], 64).unwrap();
                }
                assert_eq!(digest_at(&file, 2).unwrap(), [level; 32]);
                assert_eq!(digest_at(&file, 1).unwrap(), [0; 32], "a hole");
                assert_eq!(digest_at(&file, 3).unwrap(), [0; 32], "past the end");
            }
        }
        let open: usize = files.slots.iter().map(|slot| slot.lock().unwrap().open.len()).sum();
        assert!(open <= 64, "{open} handles");
        assert!(files.existing(Place::Status { shard: 1, band: 251 }).unwrap().is_none());
    }
}
