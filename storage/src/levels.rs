//! An append-only Merkle log as flat files, one a level.
//!
//! Only complete hashes are stored, so nothing is ever overwritten and recovery is a cut to size.
//! Hashes that are not yet in the files are kept in memory and can be read like the others. The
//! store hashes nothing: it checks only that the number of hashes given for each level is the one
//! that the sizes demand.

use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::effects::Digest;
use crate::error::{During, Result, StoreError};
use crate::files::{Files, Place, digest_at};

/// Levels that a log can have.
const LEVELS: u8 = 64;

/// Which log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogOf {
    /// The record log of a shard.
    Shard(u32),
    /// The log over the headers.
    History,
}

impl LogOf {
    fn place(self, level: u8) -> Place {
        match self {
            Self::Shard(shard) => Place::Log { shard, level },
            Self::History => Place::History { level },
        }
    }
}

/// Hashes of one level that are not in its file: from index `base` on.
struct Fresh {
    base: u64,
    hashes: Vec<Digest>,
}

/// The levels of one log.
pub(crate) struct Levels {
    of: LogOf,
    size: u64,
    fresh: Vec<Fresh>,
}

/// Bytes to append to one level's file.
pub(crate) struct LevelWrite {
    place: Place,
    base: u64,
    bytes: Vec<u8>,
}

/// Where a hash is.
pub(crate) enum Found {
    Here(Digest),
    InFile(Place),
    Absent,
}

/// Where the hashes of a range are: those in the file come first.
pub(crate) struct FoundMany {
    place: Place,
    in_file: Range<u64>,
    here: Vec<Digest>,
}

impl Levels {
    /// The log at `size` leaves; for a writer, files are first cut to that size.
    pub(crate) fn open(of: LogOf, size: u64, files: &Files, cut: bool) -> Result<Self> {
        let mut fresh = Vec::new();
        for level in 0..LEVELS {
            let count = size >> level;
            let place = of.place(level);
            fresh.push(Fresh { base: count, hashes: Vec::new() });
            let Some(file) = files.existing(place)? else {
                if count == 0 {
                    continue;
                }
                return Err(short(files, place, 0, count));
            };
            let path = files.path(place);
            let length = file.metadata().at("examine", &path)?.len();
            if length < count * 32 {
                return Err(short(files, place, length, count));
            }
            if cut && length > count * 32 {
                file.set_len(count * 32).at("cut", &path)?;
            }
        }
        Ok(Self { of, size, fresh })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Whether `levels` is what takes the log to `size` leaves.
    pub(crate) fn check(&self, levels: &[Vec<Digest>], size: u64) -> Result<()> {
        let wanted = |level: usize| {
            let count = |size: u64| if level < 64 { size >> level } else { 0 };
            count(size).checked_sub(count(self.size))
        };
        let depth = levels.len().max(64);
        for level in 0..depth {
            let given = levels.get(level).map_or(0, Vec::len) as u64;
            if wanted(level) != Some(given) {
                return Err(StoreError::Refused(format!(
                    "{given} new hashes on level {level} of log {:?} do not lead from {} to {size} \
                     leaves",
                    self.of, self.size
                )));
            }
        }
        Ok(())
    }

    /// Appends what [`Levels::check`] found right.
    pub(crate) fn append(&mut self, levels: &[Vec<Digest>], size: u64) {
        for (fresh, hashes) in self.fresh.iter_mut().zip(levels) {
            fresh.hashes.extend_from_slice(hashes);
        }
        self.size = size;
    }

    /// Looks a hash up; one in a file is for the caller to read, without holding a lock.
    pub(crate) fn find(&self, level: u8, index: u64) -> Found {
        let Some(fresh) = self.fresh.get(level as usize) else { return Found::Absent };
        if index < fresh.base {
            return Found::InFile(self.of.place(level));
        }
        match fresh.hashes.get((index - fresh.base) as usize) {
            Some(hash) => Found::Here(*hash),
            None => Found::Absent,
        }
    }

    /// Hashes of a range of a level, those that are in memory; nothing where the level does not have
    /// them all.
    pub(crate) fn find_many(&self, level: u8, range: Range<u64>) -> Option<FoundMany> {
        let fresh = self.fresh.get(level as usize)?;
        let end = fresh.base + fresh.hashes.len() as u64;
        if range.start > range.end || range.end > end {
            return None;
        }
        let in_file = range.start..range.end.clamp(range.start, fresh.base.max(range.start));
        let from = (in_file.end - fresh.base.min(in_file.end)) as usize;
        let here = fresh.hashes.get(from..from + (range.end - in_file.end) as usize)?.to_vec();
        Some(FoundMany { place: self.of.place(level), in_file, here })
    }

    /// What has to be written to bring the files up to the present size.
    pub(crate) fn to_write(&self) -> Vec<LevelWrite> {
        let levels = self.fresh.iter().enumerate().filter(|(_, fresh)| !fresh.hashes.is_empty());
        levels
            .map(|(level, fresh)| LevelWrite {
                place: self.of.place(level as u8),
                base: fresh.base,
                bytes: fresh.hashes.concat(),
            })
            .collect()
    }

    /// Forgets what has been written.
    pub(crate) fn written(&mut self, writes: &[LevelWrite]) {
        for write in writes {
            let (Place::Log { level, .. } | Place::History { level }) = write.place else {
                continue;
            };
            let count = write.bytes.len() / 32;
            let fresh = &mut self.fresh[level as usize];
            fresh.hashes.drain(..count);
            fresh.base += count as u64;
        }
    }

    /// Bytes of all levels.
    pub(crate) fn bytes(&self) -> u64 {
        (0..64).map(|level| (self.size >> level) * 32).sum()
    }
}

impl LevelWrite {
    /// Appends to the file and makes it durable. Doing it twice changes nothing.
    pub(crate) fn write(&self, files: &Files) -> Result<()> {
        let file = files.create(self.place)?;
        let path = files.path(self.place);
        file.write_all_at(&self.bytes, self.base * 32).at("append to", &path)?;
        file.sync_data().at("sync", &path)?;
        if self.base == 0 { files.sync_folder(self.place) } else { Ok(()) }
    }
}

/// Reads a hash that [`Levels::find`] said is in a file.
pub(crate) fn read(files: &Files, place: Place, index: u64) -> Result<Digest> {
    match files.existing(place)? {
        Some(file) => digest_at(&file, index).during(|| files.cannot_read(place)),
        None => Err(short(files, place, 0, index + 1)),
    }
}

/// Reads what [`Levels::find_many`] found, in one pass.
pub(crate) fn read_many(files: &Files, found: FoundMany) -> Result<Vec<Digest>> {
    let FoundMany { place, in_file, here } = found;
    if in_file.is_empty() {
        return Ok(here);
    }
    let Some(file) = files.existing(place)? else {
        return Err(short(files, place, 0, in_file.end));
    };
    let mut bytes = vec![0; 32 * (in_file.end - in_file.start) as usize];
    let read = file.read_exact_at(&mut bytes, 32 * in_file.start);
    read.during(|| files.cannot_read(place))?;
    let (hashes, _) = bytes.as_chunks::<32>();
    Ok([hashes, &here].concat())
}

fn short(files: &Files, place: Place, length: u64, count: u64) -> StoreError {
    StoreError::damaged(format!(
        "{} has {length} bytes and should have at least {}: the file is damaged; restore the data \
         folder, or start with an empty one and replay the stream",
        files.path(place).display(),
        count * 32
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::create_folder;

    /// Distinct made-up hashes that take a log from `old` to `new` leaves.
    fn grow(old: u64, new: u64) -> Vec<Vec<Digest>> {
        let hash = |level: u32, index: u64| {
            let mut hash = [level as u8; 32];
            hash[..8].copy_from_slice(&index.to_be_bytes());
            hash
        };
        let levels = (0..64).take_while(|level| new >> level > 0);
        levels
            .map(|level| (old >> level..new >> level).map(|index| hash(level, index)).collect())
            .collect()
    }

    #[test]
    fn hashes_are_readable_before_and_after_writing_and_a_crash_cuts_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        create_folder(&dir.path().join("history")).unwrap();
        let files = Files::new(dir.path(), true, 64);
        let mut log = Levels::open(LogOf::History, 0, &files, true).unwrap();
        let mut size = 0;
        for step in [1, 1, 3, 0, 250, 7, 1000] {
            log.check(&grow(size, size + step), size + step).unwrap();
            log.append(&grow(size, size + step), size + step);
            size += step;
            for write in log.to_write().iter().take(if step == 7 { 0 } else { 64 }) {
                write.write(&files).unwrap();
                log.written(std::slice::from_ref(write));
            }
            for (level, hashes) in grow(0, size).iter().enumerate() {
                for (index, hash) in hashes.iter().enumerate() {
                    let found = match log.find(level as u8, index as u64) {
                        Found::Here(hash) => hash,
                        Found::InFile(place) => read(&files, place, index as u64).unwrap(),
                        Found::Absent => panic!("level {level} index {index} is absent"),
                    };
                    assert_eq!(&found, hash);
                }
                assert!(matches!(log.find(level as u8, hashes.len() as u64), Found::Absent));
                let count = hashes.len() as u64;
                for range in [0..count, count / 2..count, 0..count / 2, 1.min(count)..count, 0..0] {
                    let found = log.find_many(level as u8, range.clone()).unwrap();
                    let (from, to) = (range.start as usize, range.end as usize);
                    assert_eq!(read_many(&files, found).unwrap(), hashes[from..to], "{range:?}");
                }
                assert!(log.find_many(level as u8, 0..count + 1).is_none());
            }
        }
        let mut log = Levels::open(LogOf::History, 255, &files, true).unwrap();
        assert!(matches!(log.find(8, 0), Found::Absent));
        assert!(matches!(log.find(0, 255), Found::Absent));
        log.append(&grow(255, 256), 256);
        assert!(matches!(log.find(8, 0), Found::Here(_)));
        assert!(Levels::open(LogOf::History, 256, &files, true).err().unwrap().is_fatal());
    }

    #[test]
    fn wrong_numbers_of_hashes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path(), true, 64);
        let log = Levels::open(LogOf::Shard(0), 0, &files, true).unwrap();
        let mut levels = grow(0, 5);
        log.check(&levels, 5).unwrap();
        assert!(log.check(&levels, 6).is_err());
        levels[2].push([0; 32]);
        assert!(log.check(&levels, 5).is_err());
        assert!(log.check(&grow(0, 5)[..2], 5).is_err());
        levels = grow(0, 5);
        levels.resize(70, Vec::new());
        log.check(&levels, 5).unwrap();
    }
}
