//! The blocks and their certificates: durable one by one, because a final block is never undone and
//! all state can be executed again from them and the stream.
//!
//! `blocks` is append-only with one fsync a height; `index` says where each is and may lag behind.
//! At most one frame can be torn, the last: it is cut off on opening. Bodies of proposed blocks are
//! small files of their own under `pending/`, durable before a proposal is answered.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::effects::Digest;
use crate::error::{During, Result, StoreError};
use crate::files::{create_folder, delete, sync_folder, write_durably};
use crate::folder::hex;
use crate::frame::{self, Head, head_len, read_u32, read_u64};
use piaogen_verify::header::HEADER_LEN;

const MAGIC: [u8; 4] = *b"PBk1";
const PENDING_MAGIC: [u8; 4] = *b"PPd1";
/// Length of a header.
pub const HEADER_BYTES: usize = HEADER_LEN;
/// Most bytes of one block with its certificate, or of one proposed body.
pub const BLOCK_BYTES: usize = 1 << 20;
/// Most proposed blocks that are kept at once.
pub const PENDING_BLOCKS: usize = 1024;

const ENTRY: u64 = 16;
const HEAD: u64 = head_len(8) as u64;

/// A final block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Its height.
    pub height: u64,
    /// The header, [`HEADER_BYTES`] long.
    pub header: Vec<u8>,
    /// The cut that it agrees on.
    pub cut: Vec<u8>,
    /// Its certificate in the engine's bytes; empty for the block at height 0.
    pub finalization: Vec<u8>,
}

/// The block files.
pub(crate) struct Blocks {
    folder: PathBuf,
    file: File,
    index: File,
    end: Mutex<End>,
}

/// Where the files end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct End {
    count: u64,
    bytes: u64,
}

/// Creates the files of an empty store.
pub(crate) fn create(root: &Path) -> Result<()> {
    let folder = root.join("blocks");
    create_folder(&folder.join("pending"))?;
    for name in ["blocks", "index"] {
        let path = folder.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        file.and_then(|file| file.sync_all()).at("create", &path)?;
    }
    sync_folder(&folder)
}

impl Blocks {
    /// Opens the files. A writer cuts a torn frame off and brings the index up; a reader just stops
    /// before it.
    pub(crate) fn open(root: &Path, writable: bool) -> Result<Self> {
        let folder = root.join("blocks");
        let open = |name: &str| {
            let path = folder.join(name);
            OpenOptions::new().read(true).write(writable).open(&path).at("open", &path)
        };
        let (file, index) = (open("blocks")?, open("index")?);
        let end = Mutex::new(End { count: 0, bytes: 0 });
        let blocks = Self { folder, file, index, end };
        let end = blocks.recover(writable)?;
        *blocks.end() = end;
        if writable {
            blocks.drop_torn_bodies()?;
        }
        Ok(blocks)
    }

    /// Finds the end: from the last right entry of the index on, frame by frame.
    fn recover(&self, writable: bool) -> Result<End> {
        let path = self.folder.join("blocks");
        let length = self.file.metadata().at("examine", &path)?.len();
        let mut end = self.last_indexed(length)?;
        let indexed = end.count;
        let mut entries = Vec::new();
        while let Some(head) = self.whole_frame(end, length) {
            entries.extend_from_slice(&entry(end.bytes, head.frame_len()));
            end = End { count: end.count + 1, bytes: end.bytes + head.frame_len() };
        }
        if end.bytes < length {
            self.check_torn(end, length)?;
        }
        if writable {
            self.file.set_len(end.bytes).at("cut", &path)?;
            let path = self.folder.join("index");
            self.index.write_all_at(&entries, indexed * ENTRY).at("write", &path)?;
            self.index.set_len(end.count * ENTRY).at("cut", &path)?;
        }
        Ok(end)
    }

    /// The end of the last block that the index has right.
    fn last_indexed(&self, length: u64) -> Result<End> {
        let path = self.folder.join("index");
        let mut count = self.index.metadata().at("examine", &path)?.len() / ENTRY;
        while count > 0 {
            if let Some((position, len)) = self.entry(count - 1)? {
                let start = End { count: count - 1, bytes: position };
                let found = self.whole_frame(start, length);
                if found.is_some_and(|head| head.frame_len() == len) {
                    return Ok(End { count, bytes: position + len });
                }
            }
            count -= 1;
        }
        Ok(End { count: 0, bytes: 0 })
    }

    /// The head of the frame at a place, if the whole frame is intact and has the next height.
    fn whole_frame(&self, at: End, length: u64) -> Option<Head<8>> {
        let mut bytes = [0; HEAD as usize];
        self.file.read_exact_at(&mut bytes, at.bytes).ok()?;
        let head = frame::head::<8>(&bytes, MAGIC)?;
        let fits = at.bytes + head.frame_len() <= length && head.len as usize <= BLOCK_BYTES;
        if !fits || u64::from_be_bytes(head.meta) != at.count {
            return None;
        }
        let mut bytes = vec![0; head.frame_len() as usize];
        self.file.read_exact_at(&mut bytes, at.bytes).ok()?;
        head.payload(&bytes).map(|_| head)
    }

    /// A torn append leaves at most one frame's bytes and nothing whole behind them.
    fn check_torn(&self, end: End, length: u64) -> Result<()> {
        let path = self.folder.join("blocks");
        let rest = length - end.bytes;
        let mut whole_behind = rest > HEAD + BLOCK_BYTES as u64;
        if !whole_behind {
            let mut bytes = vec![0; rest as usize];
            self.file.read_exact_at(&mut bytes, end.bytes).at("read", &path)?;
            whole_behind =
                (1..bytes.len()).any(|at| frame::read::<8>(&bytes[at..], MAGIC).is_some());
        }
        if whole_behind {
            return Err(StoreError::damaged(format!(
                "{} is broken at byte {}, height {}, with more behind it, which no crash leaves: \
                 restore the file, or take the blocks from another validator",
                path.display(),
                end.bytes,
                end.count
            )));
        }
        Ok(())
    }

    /// Appends a block and makes it durable.
    pub(crate) fn append(&self, block: &Block) -> Result<()> {
        self.append_all(std::slice::from_ref(block))
    }

    /// Appends blocks and makes them durable together.
    pub(crate) fn append_all(&self, blocks: &[Block]) -> Result<()> {
        let mut end = self.end();
        let (mut bytes, mut entries) = (Vec::new(), Vec::new());
        for (block, next) in blocks.iter().zip(end.count..) {
            if block.height != next {
                return Err(StoreError::Refused(format!(
                    "block {} was given, the next height is {next}",
                    block.height
                )));
            }
            let frame = encode(block)?;
            entries.extend_from_slice(&entry(end.bytes + bytes.len() as u64, frame.len() as u64));
            bytes.extend_from_slice(&frame);
        }
        let path = self.folder.join("blocks");
        self.file.write_all_at(&bytes, end.bytes).at("append to", &path)?;
        self.file.sync_data().at("sync", &path)?;
        let path = self.folder.join("index");
        self.index.write_all_at(&entries, end.count * ENTRY).at("append to", &path)?;
        let count = end.count + blocks.len() as u64;
        *end = End { count, bytes: end.bytes + bytes.len() as u64 };
        Ok(())
    }

    /// Makes the index durable; that it lags is no harm, only slower to open.
    pub(crate) fn sync_index(&self) -> Result<()> {
        self.index.sync_data().at("sync", &self.folder.join("index"))
    }

    /// The block at a height.
    pub(crate) fn get(&self, height: u64) -> Result<Option<Block>> {
        if height >= self.end().count {
            return Ok(None);
        }
        let path = self.folder.join("blocks");
        let found = self.entry(height)?.filter(|(_, len)| *len <= HEAD + BLOCK_BYTES as u64);
        let block = match found {
            None => None,
            Some((position, len)) => {
                let mut bytes = vec![0; len as usize];
                self.file.read_exact_at(&mut bytes, position).at("read", &path)?;
                decode(&bytes).filter(|block| block.height == height)
            }
        };
        block.map(Some).ok_or_else(|| {
            StoreError::damaged(format!(
                "{} is broken at height {height}: restore the file, or take the blocks from \
                 another validator",
                path.display()
            ))
        })
    }

    /// Height of the last block.
    pub(crate) fn tip(&self) -> Option<u64> {
        self.end().count.checked_sub(1)
    }

    /// Bytes of the blocks and their index.
    pub(crate) fn bytes(&self) -> u64 {
        let end = self.end();
        end.bytes + end.count * ENTRY
    }

    fn entry(&self, height: u64) -> Result<Option<(u64, u64)>> {
        let mut bytes = [0; ENTRY as usize];
        if self.index.read_exact_at(&mut bytes, height * ENTRY).is_err() {
            return Ok(None);
        }
        let right = crc32fast::hash(&bytes[..12]).to_be_bytes() == bytes[12..];
        let place = || Some((read_u64(&bytes, 0)?, u64::from(read_u32(&bytes, 8)?)));
        Ok(if right { place() } else { None })
    }

    fn end(&self) -> std::sync::MutexGuard<'_, End> {
        // A panic cannot leave the two numbers half changed.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the body of a proposed block, durably.
    pub(crate) fn pending_put(&self, height: u64, digest: &Digest, body: &[u8]) -> Result<()> {
        if body.len() > BLOCK_BYTES {
            return Err(too_long(body.len()));
        }
        if self.pending_files()?.len() >= PENDING_BLOCKS {
            return Err(StoreError::Busy(format!(
                "{PENDING_BLOCKS} proposed blocks are kept already, which is the limit: none of \
                 them has become final"
            )));
        }
        let mut meta = [0; 40];
        meta[..8].copy_from_slice(&height.to_be_bytes());
        meta[8..].copy_from_slice(digest);
        let mut bytes = Vec::new();
        frame::write(&mut bytes, PENDING_MAGIC, &meta, body)?;
        write_durably(&self.pending(digest), &bytes)?;
        sync_folder(&self.folder.join("pending"))
    }

    /// The body of a proposed block.
    pub(crate) fn pending_get(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let found = read_pending(&self.pending(digest))?;
        Ok(found.filter(|(_, of, _)| of == digest).map(|(_, _, body)| body))
    }

    /// Forgets the bodies at or below a height: one of them is final.
    pub(crate) fn pending_release(&self, up_to: u64) -> Result<()> {
        for path in self.pending_files()? {
            if read_pending(&path)?.is_none_or(|(height, ..)| height <= up_to) {
                delete(&path)?;
            }
        }
        Ok(())
    }

    fn drop_torn_bodies(&self) -> Result<()> {
        for path in self.pending_files()? {
            if read_pending(&path)?.is_none() {
                delete(&path)?;
            }
        }
        Ok(())
    }

    fn pending(&self, digest: &Digest) -> PathBuf {
        self.folder.join("pending").join(hex(digest))
    }

    fn pending_files(&self) -> Result<Vec<PathBuf>> {
        let folder = self.folder.join("pending");
        let entries = std::fs::read_dir(&folder).at("list", &folder)?;
        entries.map(|entry| Ok(entry.at("list", &folder)?.path())).collect()
    }
}

fn entry(position: u64, len: u64) -> [u8; ENTRY as usize] {
    let mut bytes = [0; ENTRY as usize];
    bytes[..8].copy_from_slice(&position.to_be_bytes());
    bytes[8..12].copy_from_slice(&(len as u32).to_be_bytes());
    let crc = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn too_long(len: usize) -> StoreError {
    StoreError::Refused(format!("a block of {len} bytes is above the limit of {BLOCK_BYTES} bytes"))
}

fn encode(block: &Block) -> Result<Vec<u8>> {
    if block.header.len() != HEADER_BYTES {
        return Err(StoreError::Refused(format!(
            "a header has {HEADER_BYTES} bytes, {} were given",
            block.header.len()
        )));
    }
    let mut payload = block.header.clone();
    payload.extend_from_slice(&(block.cut.len() as u32).to_be_bytes());
    payload.extend_from_slice(&block.cut);
    payload.extend_from_slice(&block.finalization);
    if payload.len() > BLOCK_BYTES {
        return Err(too_long(payload.len()));
    }
    let mut bytes = Vec::new();
    frame::write(&mut bytes, MAGIC, &block.height.to_be_bytes(), &payload)?;
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Option<Block> {
    let (height, payload) = frame::read::<8>(bytes, MAGIC)?;
    let cut_len = read_u32(payload, HEADER_BYTES)? as usize;
    let rest = &payload[HEADER_BYTES + 4..];
    Some(Block {
        height: u64::from_be_bytes(height),
        header: payload[..HEADER_BYTES].to_vec(),
        cut: rest.get(..cut_len)?.to_vec(),
        finalization: rest[cut_len..].to_vec(),
    })
}

/// Height, digest and body in a file under `pending/`; `None` where it is torn or missing.
fn read_pending(path: &Path) -> Result<Option<(u64, Digest, Vec<u8>)>> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = std::fs::read(path).at("read", path)?;
    let Some((meta, body)) = frame::read::<40>(&bytes, PENDING_MAGIC) else { return Ok(None) };
    let digest = meta[8..].try_into().expect("a slice of 32 bytes");
    Ok(read_u64(&meta, 0).map(|height| (height, digest, body.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(height: u64) -> Block {
        Block {
            height,
            header: vec![height as u8; HEADER_BYTES],
            cut: vec![1; 3 + height as usize],
            finalization: vec![2; 5],
        }
    }

    fn filled(count: u64) -> (tempfile::TempDir, Vec<u8>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path()).unwrap();
        let blocks = Blocks::open(dir.path(), true).unwrap();
        (0..count).for_each(|height| blocks.append(&block(height)).unwrap());
        assert!(matches!(blocks.append(&block(count + 1)), Err(StoreError::Refused(_))));
        let read = |name| std::fs::read(dir.path().join("blocks").join(name)).unwrap();
        let (file, index) = (read("blocks"), read("index"));
        (dir, file, index)
    }

    fn check(dir: &Path, count: u64) {
        let blocks = Blocks::open(dir, true).unwrap();
        assert_eq!(blocks.tip(), count.checked_sub(1));
        for height in 0..count {
            assert_eq!(blocks.get(height).unwrap(), Some(block(height)));
        }
        assert_eq!(blocks.get(count).unwrap(), None);
        blocks.append(&block(count)).unwrap();
        assert_eq!(blocks.get(count).unwrap(), Some(block(count)));
    }

    #[test]
    fn a_frame_torn_at_any_byte_is_cut_off_and_the_index_is_brought_up() {
        let (dir, file, index) = filled(5);
        let last = file.len() - encode(&block(4)).unwrap().len();
        for cut in last..file.len() {
            for index_len in [0, 17, 64, 80] {
                for garbage in [0, 9] {
                    let mut bytes = file[..cut].to_vec();
                    bytes.resize(cut + garbage, 0);
                    std::fs::write(dir.path().join("blocks/blocks"), &bytes).unwrap();
                    std::fs::write(dir.path().join("blocks/index"), &index[..index_len]).unwrap();
                    check(dir.path(), 4);
                }
            }
        }
    }

    #[test]
    fn an_index_broken_at_any_byte_is_rebuilt() {
        let (dir, file, index) = filled(4);
        for at in 0..index.len() {
            let mut bad = index.clone();
            bad[at] ^= 0x40;
            // The last entry decides where the walk begins; break it and those before it.
            bad[at / 16 * 16..].fill(0);
            std::fs::write(dir.path().join("blocks/blocks"), &file).unwrap();
            std::fs::write(dir.path().join("blocks/index"), &bad).unwrap();
            check(dir.path(), 4);
        }
    }

    #[test]
    fn damage_in_the_middle_is_not_taken_for_a_crash() {
        let (dir, mut file, index) = filled(5);
        file[40] ^= 1;
        std::fs::write(dir.path().join("blocks/blocks"), &file).unwrap();
        let blocks = Blocks::open(dir.path(), true).unwrap();
        assert!(blocks.get(0).err().unwrap().is_fatal());
        assert_eq!(blocks.get(1).unwrap(), Some(block(1)));
        std::fs::write(dir.path().join("blocks/index"), &index[..0]).unwrap();
        assert!(Blocks::open(dir.path(), true).err().unwrap().is_fatal());
    }

    #[test]
    fn bodies_of_proposals_survive_and_go_when_final() {
        let (dir, ..) = filled(1);
        let blocks = Blocks::open(dir.path(), true).unwrap();
        blocks.pending_put(3, &[3; 32], b"three").unwrap();
        blocks.pending_put(4, &[4; 32], b"four").unwrap();
        let path = dir.path().join("blocks/pending").join(hex(&[5; 32]));
        let whole = std::fs::read(blocks.pending(&[4; 32])).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let blocks = Blocks::open(dir.path(), true).unwrap();
            assert!(!path.exists(), "torn at {cut}");
            assert_eq!(blocks.pending_get(&[4; 32]).unwrap(), Some(b"four".to_vec()));
        }
        blocks.pending_release(3).unwrap();
        assert_eq!(blocks.pending_get(&[3; 32]).unwrap(), None);
        assert_eq!(blocks.pending_get(&[4; 32]).unwrap(), Some(b"four".to_vec()));
        let long = blocks.pending_put(5, &[6; 32], &vec![0; BLOCK_BYTES + 1]);
        assert!(matches!(long, Err(StoreError::Refused(_))));
    }
}
