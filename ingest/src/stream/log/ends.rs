//! Publishes where each partition durably ends, to readers of this process and of others.
//!
//! Two slots are written in turn, each with a sequence and a check, so that a write torn by a power
//! cut, or seen half done by another process, leaves the slot before it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::MAX_PARTITIONS;
use crate::stream::StreamError;

const MAGIC: [u8; 8] = *b"PGLOG\0\0\x01";
const HEAD: usize = 24;
const END: usize = 24;

/// Where one partition durably ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct End {
    /// The offset of the first frame of the last segment.
    pub(super) base: u64,
    /// How many bytes of that segment count.
    pub(super) position: u64,
    /// The offset of the next frame.
    pub(super) next: u64,
}

/// Where all partitions durably end, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) sequence: u64,
    pub(super) partitions: Vec<End>,
}

impl Ends {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + END * self.partitions.len() + 4);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&(self.partitions.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for end in &self.partitions {
            for number in [end.base, end.position, end.next] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out
    }

    fn decode(slot: &[u8]) -> Option<Ends> {
        let count = u32::from_le_bytes(*slot.get(16..)?.first_chunk()?);
        if slot.get(..8)? != MAGIC || count == 0 || count > MAX_PARTITIONS {
            return None;
        }
        let body = slot.get(..HEAD + END * count as usize)?;
        let sum = u32::from_le_bytes(*slot.get(body.len()..)?.first_chunk()?);
        if crc32fast::hash(body) != sum {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(*body.get(at..)?.first_chunk()?));
        let partitions = (0..count as usize)
            .map(|i| {
                let at = HEAD + END * i;
                Some(End { base: number(at)?, position: number(at + 8)?, next: number(at + 16)? })
            })
            .collect::<Option<Vec<End>>>()?;
        Some(Ends { sequence: number(8)?, partitions })
    }
}

/// The open file `ends`.
#[derive(Debug)]
pub(super) struct EndsFile {
    path: PathBuf,
    file: File,
    slot: usize,
    scratch: Vec<u8>,
}

impl EndsFile {
    pub(super) fn path(folder: &Path) -> PathBuf {
        folder.join("ends")
    }

    /// Makes the file for empty partitions; it appears whole or not at all.
    pub(super) fn create(folder: &Path, partitions: u32) -> Result<(), StreamError> {
        let path = Self::path(folder);
        let fresh = folder.join("ends.new");
        let wrong = |e| StreamError::io(format!("make {}", path.display()), &e);
        let ends = Ends { sequence: 0, partitions: vec![End::default(); partitions as usize] };
        let slot = slot_size(partitions);
        let mut bytes = ends.encode();
        bytes.resize(2 * slot, 0);
        fs::write(&fresh, &bytes).map_err(wrong)?;
        File::open(&fresh).and_then(|file| file.sync_all()).map_err(wrong)?;
        fs::rename(&fresh, &path).map_err(wrong)
    }

    pub(super) fn open(folder: &Path) -> Result<EndsFile, StreamError> {
        let path = Self::path(folder);
        let wrong = |e| StreamError::io(format!("open {}", path.display()), &e);
        let file = File::options().read(true).open(&path).map_err(wrong)?;
        Self::over(path, file)
    }

    pub(super) fn open_to_write(folder: &Path) -> Result<EndsFile, StreamError> {
        let path = Self::path(folder);
        let wrong = |e| StreamError::io(format!("open {}", path.display()), &e);
        let file = File::options().read(true).write(true).open(&path).map_err(wrong)?;
        Self::over(path, file)
    }

    fn over(path: PathBuf, file: File) -> Result<EndsFile, StreamError> {
        let length = file
            .metadata()
            .map_err(|e| StreamError::io(format!("look at {}", path.display()), &e))?
            .len();
        if length == 0 || length % 8192 != 0 || length > 2 * slot_size(MAX_PARTITIONS) as u64 {
            return Err(StreamError::Fatal(format!(
                "{}: {length} bytes are no table of ends; restore the topic from a copy",
                path.display()
            )));
        }
        let slot = length as usize / 2;
        Ok(EndsFile { path, file, slot, scratch: vec![0; 2 * slot] })
    }

    /// The newest table.
    pub(super) fn read(&mut self) -> Result<Ends, StreamError> {
        // A writer that laps us twice within one read is possible and rare; a broken file is not.
        for _ in 0..50 {
            self.file
                .read_exact_at(&mut self.scratch, 0)
                .map_err(|e| StreamError::io(format!("read {}", self.path.display()), &e))?;
            let (a, b) = self.scratch.split_at(self.slot);
            let newest = [a, b].into_iter().filter_map(Ends::decode).max_by_key(|e| e.sequence);
            if let Some(ends) = newest {
                return Ok(ends);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(StreamError::Fatal(format!(
            "{}: neither copy of the table of ends checks; restore the topic from a copy",
            self.path.display()
        )))
    }

    /// Writes a table durably into the slot that its sequence names.
    pub(super) fn write(&mut self, ends: &Ends) -> Result<(), StreamError> {
        let at = (ends.sequence % 2) * self.slot as u64;
        self.file
            .write_all_at(&ends.encode(), at)
            .and_then(|()| self.file.sync_data())
            .map_err(|e| StreamError::io(format!("write {}", self.path.display()), &e))
    }
}

/// Bytes of one slot: whole blocks of a disk, so that no write touches the other slot's block.
fn slot_size(partitions: u32) -> usize {
    (HEAD + END * partitions as usize + 4).next_multiple_of(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        EndsFile::create(folder.path(), 3).unwrap();
        let mut file = EndsFile::open_to_write(folder.path()).unwrap();
        let mut ends = file.read().unwrap();
        for sequence in 1..=3 {
            ends.sequence = sequence;
            ends.partitions[1] = End { base: 4, position: 100 * sequence, next: 10 * sequence };
            file.write(&ends).unwrap();
            assert_eq!(EndsFile::open(folder.path()).unwrap().read().unwrap(), ends);
        }
        let bytes = fs::read(EndsFile::path(folder.path())).unwrap();
        assert_eq!(bytes.len(), 8192);
        for at in 4096..4096 + HEAD + 3 * END + 4 {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            fs::write(EndsFile::path(folder.path()), &broken).unwrap();
            let read = EndsFile::open(folder.path()).unwrap().read().unwrap();
            assert_eq!((read.sequence, read.partitions[1].next), (2, 20), "byte {at}");
        }
        fs::write(EndsFile::path(folder.path()), vec![0; 8192]).unwrap();
        let error = EndsFile::open(folder.path()).unwrap().read().unwrap_err();
        assert!(matches!(error, StreamError::Fatal(_)), "{error}");
    }
}
