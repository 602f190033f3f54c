//! One part of a snapshot: a head, and items compressed together.
//!
//! Invariants
//! - What is unpacked is bounded before it is unpacked, and an item before it is given out.
//! - A part that is not what its manifest says is refused by name.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use piaogen_crypto::{Digest, Lanes};

use super::manifest::{PartInfo, PartKind};
use crate::archive::FileHasher;
use crate::blocks::{BLOCK_BYTES, Block, HEADER_BYTES};
use crate::effects::{DOCUMENT_BYTES, read_vint, row_len, write_vint};
use crate::error::{During, Result, StoreError};
use crate::frame::read_u32;

const MAGIC: [u8; 4] = *b"PSp1";
/// Magic, kind, shard, first, last, items, raw length.
const HEAD: usize = 4 + 1 + 4 + 8 + 8 + 4 + 4;
/// The shard in the head of a part of blocks.
const NO_SHARD: u32 = u32::MAX;
/// Bytes of items after which a part is closed.
pub const PART_BYTES: usize = 16 << 20;
/// Most bytes of the items of a part: those of the last item may come on top.
const RAW_BYTES: usize = PART_BYTES + (2 << 20);
/// Most bytes of the file of a part: what does not compress grows a little.
pub const PART_FILE_BYTES: usize = RAW_BYTES + (1 << 20);
/// Fast enough to be none of what making and reading cost.
const ZSTD_LEVEL: i32 = 1;

/// Writes the parts of one kind and shard.
pub struct PartWriter<'a> {
    dir: &'a Path,
    lanes: Lanes,
    kind: PartKind,
    shard: Option<u32>,
    raw: Vec<u8>,
    first: u64,
    last: u64,
    items: u64,
    done: Vec<PartInfo>,
}

impl<'a> PartWriter<'a> {
    /// A writer into this folder.
    pub fn new(dir: &'a Path, lanes: Lanes, kind: PartKind, shard: Option<u32>) -> Self {
        let (raw, done) = (Vec::new(), Vec::new());
        Self { dir, lanes, kind, shard, raw, first: 0, last: 0, items: 0, done }
    }

    fn item(&mut self, index: u64, put: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        if self.items == 0 {
            self.first = index;
        }
        put(&mut self.raw);
        self.last = index;
        self.items += 1;
        if self.raw.len() >= PART_BYTES { self.close() } else { Ok(()) }
    }

    /// Adds a block.
    pub fn block(&mut self, block: &Block) -> Result<()> {
        self.item(block.height, |out| {
            let length = block.header.len() + 4 + block.cut.len() + block.finalization.len();
            out.extend_from_slice(&(length as u32).to_be_bytes());
            out.extend_from_slice(&block.header);
            out.extend_from_slice(&(block.cut.len() as u32).to_be_bytes());
            out.extend_from_slice(&block.cut);
            out.extend_from_slice(&block.finalization);
        })
    }

    /// Adds an entry.
    pub fn entry(&mut self, log_index: u64, entry: &[u8]) -> Result<()> {
        self.item(log_index, |out| {
            write_vint(out, entry.len() as u64);
            out.extend_from_slice(entry);
        })
    }

    /// Adds an entry and its record.
    pub fn row(&mut self, log_index: u64, entry: &[u8], record: &[u8]) -> Result<()> {
        self.item(log_index, |out| {
            out.extend_from_slice(&(entry.len() as u32).to_be_bytes());
            out.extend_from_slice(&(record.len() as u32).to_be_bytes());
            out.extend_from_slice(entry);
            out.extend_from_slice(record);
        })
    }

    /// Adds a status document.
    pub fn status(&mut self, issue: u64, document: &[u8]) -> Result<()> {
        self.item(issue, |out| {
            write_vint(out, issue);
            write_vint(out, document.len() as u64);
            out.extend_from_slice(document);
        })
    }

    fn close(&mut self) -> Result<()> {
        if self.items == 0 {
            return Ok(());
        }
        let name = PartInfo::name_of(self.kind, self.shard, self.first, self.last);
        let path = self.dir.join(&name);
        let mut bytes = self.head();
        let packed = zstd::bulk::compress(&self.raw, ZSTD_LEVEL).at("pack", &path)?;
        bytes.extend_from_slice(&packed);
        let mut file = File::create(&path).at("create", &path)?;
        file.write_all(&bytes).at("write", &path)?;
        file.sync_all().at("sync", &path)?;
        self.done.push(PartInfo {
            name,
            kind: self.kind,
            shard: self.shard,
            first: self.first,
            last: self.last,
            items: self.items,
            bytes: bytes.len() as u64,
            parts_sm3: hex::encode(digest_of(self.lanes, &bytes)),
        });
        self.raw.clear();
        self.items = 0;
        Ok(())
    }

    fn head(&self) -> Vec<u8> {
        let mut head = MAGIC.to_vec();
        head.push(self.kind as u8);
        head.extend_from_slice(&self.shard.unwrap_or(NO_SHARD).to_be_bytes());
        head.extend_from_slice(&self.first.to_be_bytes());
        head.extend_from_slice(&self.last.to_be_bytes());
        head.extend_from_slice(&(self.items as u32).to_be_bytes());
        head.extend_from_slice(&(self.raw.len() as u32).to_be_bytes());
        head
    }

    /// Closes the last part; all that were written, in order.
    pub fn finish(mut self) -> Result<Vec<PartInfo>> {
        self.close()?;
        Ok(self.done)
    }
}

fn digest_of(lanes: Lanes, bytes: &[u8]) -> Digest {
    let mut hasher = FileHasher::new(lanes);
    hasher.update(bytes);
    hasher.finalize()
}

/// Whether these bytes are the part that the manifest names; says why not.
pub fn check(info: &PartInfo, lanes: Lanes, bytes: &[u8]) -> Result<()> {
    if bytes.len() as u64 != info.bytes {
        let what = format!("it has {} bytes, the manifest says {}", bytes.len(), info.bytes);
        return Err(wrong(info, &what));
    }
    match hex::encode(digest_of(lanes, bytes)) == info.parts_sm3 {
        true => Ok(()),
        false => Err(wrong(info, "its digest is not the one in the manifest: it was changed")),
    }
}

fn wrong(info: &PartInfo, what: &str) -> StoreError {
    StoreError::Refused(format!("part {} of the snapshot: {what}; fetch it again", info.name))
}

/// A part whose bytes are those of the manifest, unpacked.
pub struct Part<'a> {
    info: &'a PartInfo,
    raw: Vec<u8>,
}

/// Reads a part from a folder and checks it.
pub fn read<'a>(dir: &Path, info: &'a PartInfo, lanes: Lanes) -> Result<Part<'a>> {
    let path = dir.join(&info.name);
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(|error| wrong(info, &error.to_string()))?;
    file.take(info.bytes + 1).read_to_end(&mut bytes).at("read", &path)?;
    check(info, lanes, &bytes)?;
    let expected = PartWriter {
        first: info.first,
        last: info.last,
        items: info.items,
        ..PartWriter::new(dir, lanes, info.kind, info.shard)
    };
    let head = expected.head();
    let (same, packed) = (bytes.get(..HEAD - 4), bytes.get(HEAD..).unwrap_or_default());
    let raw = read_u32(&bytes, HEAD - 4).filter(|raw| *raw as usize <= RAW_BYTES);
    let (true, Some(raw)) = (same == Some(&head[..HEAD - 4]), raw) else {
        return Err(wrong(info, "its head is not what the manifest says, or too long"));
    };
    let raw = zstd::bulk::decompress(packed, raw as usize)
        .ok()
        .filter(|unpacked| unpacked.len() == raw as usize);
    let raw = raw.ok_or_else(|| wrong(info, "it does not unpack to the length that it says"))?;
    Ok(Part { info, raw })
}

fn take<'a>(bytes: &mut &'a [u8], length: u64, most: usize) -> Option<&'a [u8]> {
    let length = usize::try_from(length).ok().filter(|length| *length <= most)?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

impl Part<'_> {
    /// What is wrong with this part, by its name.
    pub fn wrong(&self, what: &str) -> StoreError {
        wrong(self.info, what)
    }

    fn items<'a, T>(
        &'a self,
        mut one: impl FnMut(&mut &'a [u8], u64) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut rest = &self.raw[..];
        let mut items = Vec::new();
        for index in (self.info.first..).take(self.info.items as usize) {
            let item = one(&mut rest, index);
            items.push(item.ok_or_else(|| self.wrong(&format!("item {index} does not decode")))?);
        }
        match rest.is_empty() {
            true => Ok(items),
            false => Err(self.wrong("bytes follow its last item")),
        }
    }

    /// The blocks of a part of blocks.
    pub fn blocks(&self) -> Result<Vec<Block>> {
        self.items(|bytes, height| {
            let length = read_u32(bytes, 0)?;
            take(bytes, 4, 4)?;
            let body = take(bytes, u64::from(length), BLOCK_BYTES)?;
            let (header, mut rest) = body.split_at_checked(HEADER_BYTES)?;
            let length = read_u32(rest, 0)?;
            take(&mut rest, 4, 4)?;
            let cut = take(&mut rest, u64::from(length), BLOCK_BYTES)?;
            let (header, finalization) = (header.to_vec(), rest.to_vec());
            Some(Block { height, header, cut: cut.to_vec(), finalization })
        })
    }

    /// The entries of a part of entries.
    pub fn entries(&self) -> Result<Vec<&[u8]>> {
        self.items(|bytes, _| {
            let length = read_vint(bytes)?;
            take(bytes, length, DOCUMENT_BYTES)
        })
    }

    /// Entries and records of a part of rows.
    pub fn rows(&self) -> Result<Vec<(&[u8], &[u8])>> {
        self.items(|bytes, _| {
            let (length, entry) = (row_len(bytes, 0)?, read_u32(bytes, 0)? as usize);
            let row = take(bytes, length as u64, RAW_BYTES)?;
            row[8..].split_at_checked(entry)
        })
    }

    /// The documents of a part of statuses, ascending within the range that it says.
    pub fn statuses(&self) -> Result<Vec<(u64, &[u8])>> {
        let (mut next, last) = (self.info.first, self.info.last);
        let found = self.items(|bytes, _| {
            let issue = read_vint(bytes).filter(|issue| (next..=last).contains(issue))?;
            next = issue + 1;
            let length = read_vint(bytes)?;
            Some((issue, take(bytes, length, DOCUMENT_BYTES)?))
        })?;
        match next == last + 1 {
            true => Ok(found),
            false => Err(self.wrong("its last item is not the one that the manifest says")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dir: &Path) -> Vec<PartInfo> {
        let lanes = Lanes::detect();
        let mut entries = PartWriter::new(dir, lanes, PartKind::Entries, Some(3));
        (7..12u64).for_each(|i| entries.entry(i, &vec![i as u8; i as usize]).unwrap());
        let mut rows = PartWriter::new(dir, lanes, PartKind::Rows, Some(3));
        (12..14u64).for_each(|i| rows.row(i, b"entry", &[i as u8]).unwrap());
        let mut statuses = PartWriter::new(dir, lanes, PartKind::Statuses, Some(3));
        [2, 900].iter().for_each(|i| statuses.status(*i, b"document").unwrap());
        let mut blocks = PartWriter::new(dir, lanes, PartKind::Blocks, None);
        (0..3).for_each(|height| blocks.block(&block(height)).unwrap());
        let all = [entries, rows, statuses, blocks];
        all.into_iter().flat_map(|writer| writer.finish().unwrap()).collect()
    }

    fn block(height: u64) -> Block {
        let cut = vec![1; 9];
        Block { height, header: vec![2; HEADER_BYTES], cut, finalization: vec![3; height as usize] }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let lanes = Lanes::detect();
        let infos = written(dir.path());
        let read: Vec<Part<'_>> =
            infos.iter().map(|info| read(dir.path(), info, lanes).unwrap()).collect();
        let entries = read[0].entries().unwrap();
        assert_eq!(entries, (7..12u64).map(|i| vec![i as u8; i as usize]).collect::<Vec<_>>());
        assert_eq!(read[1].rows().unwrap()[1], (&b"entry"[..], &[13u8][..]));
        assert_eq!(read[2].statuses().unwrap()[1], (900, &b"document"[..]));
        assert_eq!(read[3].blocks().unwrap(), (0..3).map(block).collect::<Vec<_>>());
        // What is of another kind does not decode, or not to its end.
        assert!(read[0].rows().is_err() && read[2].blocks().is_err());
    }

    #[test]
    fn every_changed_byte_is_refused_by_name_and_so_is_a_changed_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let lanes = Lanes::detect();
        for info in written(dir.path()) {
            let path = dir.path().join(&info.name);
            let bytes = std::fs::read(&path).unwrap();
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                std::fs::write(&path, &changed).unwrap();
                let refused = read(dir.path(), &info, lanes).err().unwrap();
                assert!(matches!(&refused, StoreError::Refused(why) if why.contains(&info.name)));
                // With a digest to match, it decodes to something, or not at all, and no panic.
                let parts_sm3 = hex::encode(digest_of(lanes, &changed));
                let lie = PartInfo { parts_sm3, ..info.clone() };
                if let Ok(part) = read(dir.path(), &lie, lanes) {
                    let _ = (part.blocks(), part.entries(), part.rows(), part.statuses());
                }
            }
            std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
            assert!(read(dir.path(), &info, lanes).is_err());
            std::fs::write(&path, &bytes).unwrap();
            let lie = PartInfo { first: info.first + 1, ..info.clone() };
            assert!(read(dir.path(), &lie, lanes).is_err());
            std::fs::remove_file(&path).unwrap();
            assert!(read(dir.path(), &info, lanes).is_err());
        }
    }

    /// Items that somebody made up, under a manifest to match: refused, or read as far as they go.
    #[test]
    fn items_of_any_bytes_are_refused_or_read() {
        let dir = tempfile::tempdir().unwrap();
        let (lanes, mut state) = (Lanes::detect(), 1u64);
        // SplitMix64: the same number, the same bytes.
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let kinds = [
            (PartKind::Blocks, None),
            (PartKind::Entries, Some(3)),
            (PartKind::Rows, Some(3)),
            (PartKind::Statuses, Some(3)),
        ];
        let (mut decoded, mut refused) = (0, 0);
        for round in 0..2_000 {
            let (kind, shard) = kinds[round % kinds.len()];
            let mut part = PartWriter::new(dir.path(), lanes, kind, shard);
            // Of few bytes some are items by chance.
            let most = [3, 400][(next() % 2) as usize];
            part.raw = (0..next() % most)
                .map(|_| [0, 1, 4, 0xff, next() as u8][(next() % 5) as usize])
                .collect();
            (part.first, part.items) =
                ([0, 7, u64::MAX - 9][(next() % 3) as usize], 1 + next() % 4);
            part.last = part.first + part.items - 1 + next() % 3;
            let info = part.finish().unwrap().remove(0);
            let part = read(dir.path(), &info, lanes).unwrap();
            let good = match kind {
                PartKind::Blocks => part.blocks().is_ok(),
                PartKind::Entries => part.entries().is_ok(),
                PartKind::Rows => part.rows().is_ok(),
                PartKind::Statuses => part.statuses().is_ok(),
            };
            if good {
                decoded += 1
            } else {
                refused += 1
            }
            std::fs::remove_file(dir.path().join(&info.name)).unwrap();
        }
        assert!(decoded > 0 && refused > 0, "{decoded} {refused}");
    }

    #[test]
    fn parts_are_closed_when_they_are_full() {
        let dir = tempfile::tempdir().unwrap();
        let mut rows = PartWriter::new(dir.path(), Lanes::detect(), PartKind::Rows, Some(0));
        let record = vec![7; 900_000];
        (0..40u64).for_each(|i| rows.row(i, b"e", &record).unwrap());
        let infos = rows.finish().unwrap();
        assert_eq!(infos.len(), 3);
        assert_eq!(infos.iter().map(|info| info.items).sum::<u64>(), 40);
        assert!(infos.windows(2).all(|two| two[0].last + 1 == two[1].first));
        for info in &infos {
            assert!(read(dir.path(), info, Lanes::detect()).unwrap().rows().is_ok());
        }
    }
}
