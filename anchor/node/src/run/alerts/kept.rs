//! Keeps what the window remembers on disk, so that a restart forgets nothing.
//!
//! ```text
//! alerts/window/
//!   00000000000000000000.fp    named by how many fingerprints came before its first frame
//!   00000000000001234567.fp
//!
//! file  = "PGFP\0\0\0\1" ‖ since u64, then frame ...        all numbers are big-endian
//! frame = CRC-32 of what follows u32 ‖ count u32 ‖ height u64 ‖ total u64 ‖ entry ...
//! entry = fingerprint u64 ‖ shard u32 ‖ log index u64
//! ```
//!
//! One frame a block, in the order in which the window was told, durable before a flush point can
//! cover the block; where it was computed again from rows, one for several blocks, of the height of
//! the last. `total` counts the fingerprints before the frame, so that one that is missing is
//! noticed. Of frames without entries that follow each other there is only the last, since it says
//! the same. A file goes when what it has left the window as of the last flush
//! point: a crash goes back there, and the blocks after it may bring more than a window holds.
//!
//! Invariants
//! - After opening at a height, what was told is exactly what the frames up to that height have, or
//!   `since` says from which height on nothing is missing.
//! - On disk are at most the entries of the window, those since the flush point, those of two files
//!   more, and as many frames without entries.

use anyhow::{Context, Result};
use piaogen_verify::alert::Place;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"PGFP\0\0\0\x01";
const FILE_HEAD: usize = 16;
const FRAME_HEAD: usize = 24;
const ENTRY: usize = 20;
/// Files are an eighth of the window, within these bounds.
const FILE_BYTES: std::ops::RangeInclusive<u64> = 4_096..=64 << 20;

/// Entries after which a frame of several blocks is closed.
const FRAME_ENTRIES: usize = 1 << 16;

/// A fingerprint, and the record that has it.
pub(super) type Entry = (u64, Place);

/// The files, open for appending.
pub(super) struct Kept {
    dir: PathBuf,
    /// Most entries that the window remembers.
    capacity: u64,
    file_bytes: u64,
    /// Total before each file, the oldest first; the last one is written to.
    files: VecDeque<u64>,
    file: File,
    end: u64,
    /// Where the last frame begins, where it has no entries.
    empty: Option<u64>,
    total: u64,
    since: u64,
    /// Heights after the flush point, each with the total after its block.
    marks: VecDeque<(u64, u64)>,
    /// The total as of the flush point.
    flushed: u64,
}

/// A frame as it is read.
struct Frame<'a> {
    height: u64,
    total: u64,
    entries: &'a [u8],
}

/// What was found on disk.
#[derive(Default)]
struct Found {
    files: Vec<u64>,
    since: u64,
    total: u64,
    /// Bytes of the last file that stay.
    end: u64,
    /// Whether the frames reach the height.
    whole: bool,
}

impl Kept {
    /// Opens the files at a height for a window of so many entries; tells all that they have up to
    /// there. What lies beyond is cut off: its blocks are executed again.
    pub(super) fn open(
        dir: &Path,
        height: u64,
        capacity: usize,
        mut tell: impl FnMut(Entry),
    ) -> Result<Kept> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let mut found = read(dir, height, &mut tell)?;
        if !found.whole && height > 0 {
            found.since = height + 1;
        }
        for stale in firsts(dir)?.into_iter().filter(|first| !found.files.contains(first)) {
            let path = path(dir, stale);
            fs::remove_file(&path).with_context(|| format!("deleting {}", path.display()))?;
        }
        let capacity = capacity as u64;
        let file_bytes =
            (capacity * ENTRY as u64 / 8).clamp(*FILE_BYTES.start(), *FILE_BYTES.end());
        let Found { files, since, total, end, .. } = found;
        let (files, file, end) = match files.last().copied() {
            Some(last) => {
                let path = path(dir, last);
                let opened = File::options().read(true).write(true).open(&path);
                let file = opened.with_context(|| format!("opening {}", path.display()))?;
                file.set_len(end).with_context(|| format!("cutting {}", path.display()))?;
                (files.into(), file, end)
            }
            None => ([total].into(), begin(dir, total, since)?, FILE_HEAD as u64),
        };
        let mut kept = Kept {
            dir: dir.to_owned(),
            capacity,
            file_bytes,
            files,
            file,
            end,
            empty: None,
            total,
            since,
            marks: VecDeque::new(),
            flushed: total,
        };
        if kept.since != since_of(&kept.dir, &kept.files)? {
            kept.next_file()?;
        }
        // From now on the frames reach this height, whatever was cut off.
        kept.block(height, &[], height)?;
        Ok(kept)
    }

    /// Begins anew at a height with what blocks up to there brought, of which nothing is missing that
    /// the window would remember. A crash on the way leaves less, which is noticed.
    pub(super) fn anew(
        dir: &Path,
        height: u64,
        capacity: usize,
        blocks: &[(u64, Vec<Entry>)],
    ) -> Result<Kept> {
        for first in firsts(dir)? {
            let path = path(dir, first);
            fs::remove_file(&path).with_context(|| format!("deleting {}", path.display()))?;
        }
        let mut kept = Kept::open(dir, 0, capacity, |_| ())?;
        let mut entries = Vec::new();
        for (at, brought) in blocks {
            entries.extend_from_slice(brought);
            if entries.len() >= FRAME_ENTRIES {
                kept.block(*at, &entries, *at)?;
                entries.clear();
            }
        }
        kept.block(height, &entries, height)?;
        Ok(kept)
    }

    /// From which height on nothing is missing; 0: nothing ever was.
    pub(super) fn since(&self) -> u64 {
        self.since
    }

    /// Keeps what a block brought, durably; a crash goes back to no height below `flushed`.
    pub(super) fn block(&mut self, height: u64, entries: &[Entry], flushed: u64) -> Result<()> {
        while let Some((_, total)) = self.marks.front().filter(|(height, _)| *height <= flushed) {
            self.flushed = *total;
            self.marks.pop_front();
        }
        if self.end >= self.file_bytes && !entries.is_empty() {
            self.next_file()?;
        }
        let bytes = frame(height, self.total, entries);
        let at = self.empty.filter(|_| entries.is_empty()).unwrap_or(self.end);
        let name = || format!("writing to {}", self.dir.display());
        self.file.write_all_at(&bytes, at).with_context(name)?;
        self.file.sync_data().with_context(name)?;
        self.end = at + bytes.len() as u64;
        self.empty = entries.is_empty().then_some(at);
        self.total += entries.len() as u64;
        self.marks.push_back((height, self.total));
        Ok(())
    }

    /// Goes on in a new file, and lets those go of which the window has nothing any more.
    fn next_file(&mut self) -> Result<()> {
        if self.files.back() == Some(&self.total) {
            // Nothing is in it but a head: it is written again.
            self.files.pop_back();
        }
        self.file = begin(&self.dir, self.total, self.since)?;
        (self.end, self.empty) = (FILE_HEAD as u64, None);
        self.files.push_back(self.total);
        let oldest = self.flushed.saturating_sub(self.capacity);
        while self.files.get(1).is_some_and(|next| *next <= oldest) {
            let Some(first) = self.files.pop_front() else { break };
            let path = path(&self.dir, first);
            fs::remove_file(&path).with_context(|| format!("deleting {}", path.display()))?;
        }
        Ok(())
    }
}

fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.fp"))
}

/// The files of a folder, ascending.
fn firsts(dir: &Path) -> Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let name = entry?.file_name();
        let first: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(".fp")?.parse().ok());
        firsts.extend(first);
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// A new file with nothing in it, whose name is durable.
fn begin(dir: &Path, total: u64, since: u64) -> Result<File> {
    let path = path(dir, total);
    let make = || -> std::io::Result<File> {
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        file.write_all_at(&[&MAGIC[..], &since.to_be_bytes()].concat(), 0)?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(file)
    };
    make().with_context(|| format!("making {}", path.display()))
}

/// The height that the head of the last file says.
fn since_of(dir: &Path, files: &VecDeque<u64>) -> Result<u64> {
    let Some(last) = files.back() else { return Ok(0) };
    let bytes = fs::read(path(dir, *last)).context("reading the head of a file")?;
    Ok(head(&bytes).unwrap_or_default())
}

fn head(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.strip_prefix(MAGIC)?.get(..8)?.try_into().ok()?))
}

fn frame(height: u64, total: u64, entries: &[Entry]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&height.to_be_bytes());
    bytes.extend_from_slice(&total.to_be_bytes());
    for (fingerprint, at) in entries {
        bytes.extend_from_slice(&fingerprint.to_be_bytes());
        bytes.extend_from_slice(&at.shard.to_be_bytes());
        bytes.extend_from_slice(&at.log_index.to_be_bytes());
    }
    let check = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&check.to_be_bytes());
    bytes
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The frame at the beginning of these bytes, where it is whole.
fn frame_of(bytes: &[u8]) -> Option<Frame<'_>> {
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (check, count) = (word(0)?, word(4)? as usize);
    let rest = bytes.get(4..count.checked_mul(ENTRY)?.checked_add(FRAME_HEAD)?)?;
    (crc32fast::hash(rest) == check).then_some(())?;
    Some(Frame {
        height: u64_at(bytes, 8)?,
        total: u64_at(bytes, 16)?,
        entries: &rest[FRAME_HEAD - 4..],
    })
}

/// Reads the files up to a height, and stops at the first frame that is not whole, does not go on
/// from the one before, or is beyond.
fn read(dir: &Path, height: u64, tell: &mut impl FnMut(Entry)) -> Result<Found> {
    let mut found = Found::default();
    for (i, first) in firsts(dir)?.into_iter().enumerate() {
        let path = path(dir, first);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let goes_on = i == 0 || first == found.total;
        let Some(since) = head(&bytes).filter(|_| goes_on) else { break };
        (found.since, found.total, found.end) = (since, first, FILE_HEAD as u64);
        found.files.push(first);
        while (found.end as usize) < bytes.len() {
            let frame = frame_of(&bytes[found.end as usize..]);
            let Some(frame) = frame.filter(|frame| frame.total == found.total) else {
                return Ok(found);
            };
            found.whole |= frame.height >= height;
            if frame.height > height {
                return Ok(found);
            }
            for entry in frame.entries.chunks_exact(ENTRY) {
                let at = |at| u64_at(entry, at).unwrap_or_default();
                tell((at(0), Place { shard: (at(8) >> 32) as u32, log_index: at(12) }));
            }
            found.total += (frame.entries.len() / ENTRY) as u64;
            found.end += (FRAME_HEAD + frame.entries.len()) as u64;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 500;

    fn open(dir: &Path, height: u64) -> (Kept, Vec<u64>) {
        let mut told = Vec::new();
        let kept = Kept::open(dir, height, CAPACITY, |(fingerprint, at)| {
            assert_eq!(at, place(fingerprint));
            told.push(fingerprint);
        });
        (kept.unwrap(), told)
    }

    fn place(fingerprint: u64) -> Place {
        Place { shard: (fingerprint % 97) as u32, log_index: fingerprint << 20 }
    }

    /// What the block of a height brings: often nothing, fingerprints counted from its height.
    fn brought(height: u64) -> Vec<Entry> {
        let count = [0, 3, 0, 0, 40, 1][(height % 6) as usize];
        (0..count).map(|i| (height * 100 + i, place(height * 100 + i))).collect()
    }

    /// The blocks of these heights, without a flush between them.
    fn run(kept: &mut Kept, heights: std::ops::RangeInclusive<u64>) {
        let flushed = heights.start() - 1;
        heights.for_each(|height| kept.block(height, &brought(height), flushed).unwrap());
    }

    /// The last of all that blocks up to a height brought, as the window remembers it.
    fn remembered(told: impl Iterator<Item = u64>) -> Vec<u64> {
        let all: Vec<u64> = told.collect();
        all[all.len().saturating_sub(CAPACITY)..].to_vec()
    }

    fn expected(height: u64) -> Vec<u64> {
        remembered((1..=height).flat_map(|h| brought(h).into_iter().map(|(f, _)| f)))
    }

    #[test]
    fn a_restart_at_any_flush_point_tells_what_was_told_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let (mut kept, told) = open(dir.path(), 0);
        assert!(told.is_empty());
        let mut height = 0;
        // Blocks on, and back to a flush point before them, as after a crash; or to the same.
        for (on, back) in [(7, 0), (9, 9), (1, 1), (5, 0), (200, 3), (600, 600), (50, 0), (2, 1)] {
            run(&mut kept, height + 1..=height + on - back);
            run(&mut kept, height + on - back + 1..=height + on);
            drop(kept);
            height += on - back;
            let (again, told) = open(dir.path(), height);
            assert_eq!(remembered(told.into_iter()), expected(height), "{height}");
            assert_eq!(again.since(), 0, "{height}");
            kept = again;
        }
        (height + 1..=height + 200).for_each(|height| run(&mut kept, height..=height));
        let bytes: u64 =
            fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
        assert!(kept.total > 3 * CAPACITY as u64, "{}", kept.total);
        let most = (CAPACITY * ENTRY) as u64 + 3 * kept.file_bytes;
        assert!(bytes < most, "{bytes} bytes, {most} at most");
    }

    #[test]
    fn blocks_that_bring_nothing_take_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let (mut kept, _) = open(dir.path(), 0);
        kept.block(1, &brought(1), 0).unwrap();
        (2..500).for_each(|height| kept.block(height, &[], height - 1).unwrap());
        let end = kept.end;
        drop(kept);
        assert!(end < 200, "{end}");
        // The last frame says of all blocks before it that they brought nothing.
        let (kept, told) = open(dir.path(), 300);
        assert_eq!((told.len(), kept.since()), (3, 0));
    }

    #[test]
    fn what_is_torn_past_the_flush_point_is_done_again_and_before_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (mut kept, _) = open(dir.path(), 0);
        run(&mut kept, 1..=5);
        let at_five = kept.end;
        run(&mut kept, 6..=11);
        drop(kept);
        let file = path(dir.path(), 0);
        let bytes = fs::read(&file).unwrap();
        let around = at_five as usize - 1..at_five as usize + 2;
        for cut in (0..bytes.len()).step_by(29).chain(around) {
            fs::write(&file, &bytes[..cut]).unwrap();
            let (mut kept, told) = open(dir.path(), 5);
            let whole = cut as u64 >= at_five;
            assert_eq!(kept.since(), if whole { 0 } else { 6 }, "{cut}");
            assert!(expected(5).starts_with(&told), "{cut}");
            assert!(!whole || told == expected(5), "{cut}");
            // It goes on from there, and stays said.
            run(&mut kept, 6..=8);
            drop(kept);
            let (kept, again) = open(dir.path(), 8);
            let since_then: Vec<u64> = (6..=8).flat_map(brought).map(|(f, _)| f).collect();
            assert_eq!(again, [told, since_then].concat(), "{cut}");
            assert_eq!(kept.since(), if whole { 0 } else { 6 }, "{cut}");
            drop(kept);
            for first in firsts(dir.path()).unwrap() {
                fs::remove_file(path(dir.path(), first)).unwrap();
            }
        }
        for at in (0..bytes.len()).step_by(7) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&file, &changed).unwrap();
            let (kept, told) = open(dir.path(), 5);
            assert!(expected(5).starts_with(&told), "{at}");
            // A changed `since` is said too; nothing else of the head is read.
            assert_eq!(kept.since() == 0, at as u64 >= at_five, "{at}");
            drop(kept);
            for first in firsts(dir.path()).unwrap() {
                fs::remove_file(path(dir.path(), first)).unwrap();
            }
        }
    }

    #[test]
    fn what_begins_anew_is_what_was_told_and_cut_short_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (mut kept, _) = open(dir.path(), 0);
        run(&mut kept, 1..=30);
        drop(kept);
        let blocks: Vec<_> = (1..=30).map(|height| (height, brought(height))).collect();
        let kept = Kept::anew(dir.path(), 30, CAPACITY, &blocks).unwrap();
        assert_eq!(kept.since(), 0);
        drop(kept);
        let (mut kept, told) = open(dir.path(), 30);
        assert_eq!((remembered(told.into_iter()), kept.since()), (expected(30), 0));
        run(&mut kept, 31..=40);
        drop(kept);
        let (kept, told) = open(dir.path(), 40);
        assert_eq!((remembered(told.into_iter()), kept.since()), (expected(40), 0));
        drop(kept);
        // Killed before the last frame: what is there does not reach the height.
        drop(Kept::anew(dir.path(), 29, CAPACITY, &blocks[..29]).unwrap());
        assert_eq!(open(dir.path(), 30).0.since(), 31);
    }

    #[test]
    fn files_that_are_gone_are_said() {
        let dir = tempfile::tempdir().unwrap();
        let (mut kept, _) = open(dir.path(), 0);
        run(&mut kept, 1..=20);
        drop(kept);
        fs::remove_dir_all(dir.path()).unwrap();
        let (kept, told) = open(dir.path(), 20);
        assert_eq!((told.len(), kept.since()), (0, 21));
    }
}
