//! Settles what a dead writer left beyond the durable ends: keeps whole frames, cuts the rest.
//!
//! Everything before an end was synced and is taken as it is, so opening costs the length of the
//! unfinished tail and not that of the topic. Cut first, sync, publish: a crash in the middle
//! leaves a topic that the next recovery settles in the same way.

use std::fs::{self, File};
use std::path::Path;

use super::ends::{End, Ends, EndsFile};
use super::segment::{self, Found, INDEX_ENTRY, Scanner};
use super::sync_folder;
use crate::stream::StreamError;

/// Settles all partitions; the caller holds the recovery lock and the writer lock.
pub(super) fn recover(topic: &Path) -> Result<Ends, StreamError> {
    let mut file = EndsFile::open_to_write(topic)?;
    let published = file.read()?;
    let mut ends = published.clone();
    for (partition, end) in (0..).zip(&mut ends.partitions) {
        *end = settle(&segment::folder(topic, partition), *end)?;
    }
    if ends != published {
        ends.sequence += 1;
        file.write(&ends)?;
    }
    Ok(ends)
}

/// Settles one partition and gives its new end.
fn settle(folder: &Path, published: End) -> Result<End, StreamError> {
    let bases = segment::bases(folder)?;
    let mut end = published;
    let mut dirty = false;
    loop {
        let (clean, seen) = walk(folder, end)?;
        dirty |= !clean || seen != end;
        end = seen;
        if !clean || end.next == end.base || !bases.contains(&end.next) {
            break;
        }
        end = End { base: end.next, position: 0, next: end.next };
        dirty = true;
    }
    for &base in bases.iter().filter(|&&base| base > end.base) {
        remove(&segment::log_path(folder, base))?;
        dirty = true;
    }
    cut_index(folder, &end)?;
    if dirty {
        set_length(&segment::log_path(folder, end.base), end.position)?;
        for &base in bases.iter().filter(|&&base| published.base <= base && base <= end.base) {
            sync(&segment::log_path(folder, base))?;
        }
        sync_folder(folder)?;
    }
    Ok(end)
}

/// Walks the frames from an end to the end of its segment; also tells whether all were whole.
fn walk(folder: &Path, end: End) -> Result<(bool, End), StreamError> {
    let mut scanner = Scanner::new(folder, end.base)?;
    let length = scanner.file_length()?;
    if length < end.position {
        return Err(StreamError::Fatal(format!(
            "{}: {length} bytes, and {} of them were durable; the file is damaged: restore the \
             topic from a copy",
            scanner.path().display(),
            end.position
        )));
    }
    scanner.jump(end.position, end.next);
    let clean = loop {
        let payload = match scanner.peek(length)? {
            Found::Frame(_, frame) => frame.payload.len(),
            Found::End => break true,
            Found::Bad => break false,
        };
        scanner.advance(payload);
    };
    Ok((clean, End { position: scanner.position(), next: scanner.next(), ..end }))
}

/// Cuts the last index down to whole entries of frames that are left, so that the next ones align.
fn cut_index(folder: &Path, end: &End) -> Result<(), StreamError> {
    let path = segment::index_path(folder, end.base);
    if !path.exists() {
        return Ok(());
    }
    let bytes =
        fs::read(&path).map_err(|e| StreamError::io(format!("read {}", path.display()), &e))?;
    let entries = bytes.as_chunks::<INDEX_ENTRY>().0.iter();
    let kept = entries
        .take_while(|[_, _, _, _, at @ ..]| u64::from(u32::from_le_bytes(*at)) < end.position)
        .count()
        * INDEX_ENTRY;
    if kept == bytes.len() { Ok(()) } else { set_length(&path, kept as u64) }
}

fn set_length(path: &Path, length: u64) -> Result<(), StreamError> {
    let wrong = |e| StreamError::io(format!("cut {}", path.display()), &e);
    let file = File::options().write(true).open(path).map_err(wrong)?;
    file.set_len(length).map_err(wrong)
}

fn sync(path: &Path) -> Result<(), StreamError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|e| StreamError::io(format!("sync {}", path.display()), &e))
}

fn remove(path: &Path) -> Result<(), StreamError> {
    let wrong = |e| StreamError::io(format!("remove {}", path.display()), &e);
    fs::remove_file(path).map_err(wrong)?;
    match fs::remove_file(path.with_extension("idx")) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(wrong(e)),
        _ => Ok(()),
    }
}
