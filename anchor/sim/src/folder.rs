//! A data folder on a simulated disk: what a validator keeps, in which order it is made durable, and
//! what it finds again.
//!
//! | file | a frame is | synced |
//! |---|---|---|
//! | `pending` | the body of a proposed block | before the vote |
//! | `blocks` | a final block with its finalization | before it counts as final |
//! | `effects` | what a block did | at a flush |
//! | `points` | a flush point: height, length of `effects`, root | at a flush, after `effects` |
//! | `evidence` | evidence of a double vote | when it is caught |
//!
//! The order is that of PROTOCOL section 5 and of `storage`; the files are simpler.
//!
//! Invariants
//! - A frame that is torn or damaged is never read, nor is one behind it in the same file.
//! - A flush point counts only where all effects up to it are whole.

use crate::disk::{Disk, Lost};
use piaogen_anchor::block::follows;
use piaogen_anchor::body::Body;
use piaogen_crypto::Digest;
use piaogen_verify::encoding::{DecodeError, Reader, put_bytes};
use piaogen_verify::header::{Cut, Header};
use std::ops::Range;

const PENDING: &str = "pending";
const BLOCKS: &str = "blocks";
const EFFECTS: &str = "effects";
const POINTS: &str = "points";
const EVIDENCE: &str = "evidence";
const HEAD: usize = 8;
/// Most bytes of a frame.
const FRAME_MAX: u64 = 1 << 24;

/// A final block.
#[derive(Clone, Debug)]
pub(crate) struct Final {
    pub(crate) header: Header,
    pub(crate) cut: Cut,
    pub(crate) finalization: Vec<u8>,
}

/// Up to where effects are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) height: u64,
    effects: u64,
    /// The root over the shards after the block.
    pub(crate) root: Digest,
}

/// What a folder holds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) blocks: Vec<Final>,
    pub(crate) pending: Vec<Vec<u8>>,
    /// The newest flush point, and the effects up to it, one for each block.
    pub(crate) point: Option<Point>,
    pub(crate) effects: Vec<Vec<u8>>,
    /// Files that did not end with a whole frame, or not where a flush point says.
    pub(crate) cut: u64,
}

/// Appends a frame: length, checksum over both, payload.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes().to_vec();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    let sum = sum(&out);
    out[4..HEAD].copy_from_slice(&sum);
    out
}

fn sum(frame: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..4]);
    hasher.update(&frame[HEAD..]);
    hasher.finalize().to_be_bytes()
}

/// The payloads of the whole frames from the beginning on.
fn frames(bytes: &[u8]) -> Vec<Range<usize>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(head) = bytes.get(at..at + HEAD) {
        let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let end = at + HEAD + len as usize;
        let whole = u64::from(len) <= FRAME_MAX
            && bytes.get(at..end).is_some_and(|frame| frame[4..HEAD] == sum(frame));
        if !whole {
            break;
        }
        found.push(at + HEAD..end);
        at = end;
    }
    found
}

/// A data folder.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    pub(crate) disk: Disk,
    /// Length of `effects`.
    effects: u64,
}

impl Folder {
    /// Keeps the body of a proposal; durable when this returns.
    pub(crate) fn put_pending(&mut self, body: &[u8]) -> Result<(), Lost> {
        self.disk.append(PENDING, &frame(body))?;
        self.disk.sync(PENDING)
    }

    /// Keeps a final block; durable when this returns.
    pub(crate) fn put_block(&mut self, block: &Final) -> Result<(), Lost> {
        let mut payload = block.header.encode().to_vec();
        put_bytes(&mut payload, &block.cut.encode());
        put_bytes(&mut payload, &block.finalization);
        self.disk.append(BLOCKS, &frame(&payload))?;
        self.disk.sync(BLOCKS)
    }

    /// Keeps evidence; durable when this returns.
    pub(crate) fn put_evidence(&mut self, evidence: &[u8]) -> Result<(), Lost> {
        self.disk.append(EVIDENCE, &frame(evidence))?;
        self.disk.sync(EVIDENCE)
    }

    /// The evidence that is there and whole.
    pub(crate) fn evidence(&self) -> Vec<Vec<u8>> {
        let bytes = self.disk.read(EVIDENCE);
        frames(&bytes).into_iter().map(|range| bytes[range].to_vec()).collect()
    }

    /// Keeps what a block did, until a flush in the cache only.
    pub(crate) fn put_effects(&mut self, effects: &[u8]) -> Result<(), Lost> {
        let frame = frame(effects);
        self.disk.append(EFFECTS, &frame)?;
        self.effects += frame.len() as u64;
        Ok(())
    }

    /// Makes a flush point of everything up to a height.
    pub(crate) fn flush(&mut self, height: u64, root: &Digest) -> Result<(), Lost> {
        self.disk.sync(EFFECTS)?;
        let mut payload = height.to_be_bytes().to_vec();
        payload.extend_from_slice(&self.effects.to_be_bytes());
        payload.extend_from_slice(root);
        self.disk.append(POINTS, &frame(&payload))?;
        self.disk.sync(POINTS)
    }

    /// Reads what is whole, and cuts off the rest.
    pub(crate) fn open(&mut self, genesis: &Header) -> Found {
        let mut found = Found::default();
        let pending = self.disk.read(PENDING);
        let whole = frames(&pending);
        found.pending = whole.iter().map(|range| pending[range.clone()].to_vec()).collect();
        self.keep(PENDING, whole.last().map_or(0, |range| range.end), &mut found);
        let evidence = frames(&self.disk.read(EVIDENCE)).last().map_or(0, |range| range.end);
        self.keep(EVIDENCE, evidence, &mut found);
        self.open_blocks(genesis, &mut found);
        self.open_effects(&mut found);
        found
    }

    fn open_blocks(&mut self, genesis: &Header, found: &mut Found) {
        let bytes = self.disk.read(BLOCKS);
        let (mut last, mut end) = (*genesis, 0);
        for range in frames(&bytes) {
            let Ok(block) = block_of(&bytes[range.clone()]) else { break };
            if !follows(&last, &block.header) || block.cut.digest() != block.header.cut {
                break;
            }
            (last, end) = (block.header, range.end);
            found.blocks.push(block);
        }
        self.keep(BLOCKS, end, found);
    }

    fn open_effects(&mut self, found: &mut Found) {
        let bytes = self.disk.read(EFFECTS);
        let whole = frames(&bytes);
        let points = self.disk.read(POINTS);
        let ranges = frames(&points);
        let read: Vec<Point> =
            ranges.iter().filter_map(|range| point_of(&points[range.clone()]).ok()).collect();
        // Effects begin with block 1, so a point counts that many frames.
        let good = |point: &&Point| {
            let last = (point.height as usize).checked_sub(1).and_then(|at| whole.get(at));
            last.is_some_and(|range| range.end as u64 == point.effects)
                && point.height <= found.blocks.len() as u64
        };
        found.point = read.iter().rev().find(good).copied();
        let kept =
            read.iter().take_while(|point| found.point.is_some_and(|p| point.height <= p.height));
        let end = kept.count().checked_sub(1).map_or(0, |at| ranges[at].end);
        self.keep(POINTS, end, found);
        self.effects = found.point.map_or(0, |point| point.effects);
        let blocks = found.point.map_or(0, |point| point.height) as usize;
        found.effects = whole[..blocks].iter().map(|range| bytes[range.clone()].to_vec()).collect();
        self.disk.truncate(EFFECTS, self.effects as usize);
    }

    fn keep(&mut self, name: &'static str, end: usize, found: &mut Found) {
        if self.disk.read(name).len() > end {
            found.cut += 1;
            self.disk.truncate(name, end);
        }
    }

    /// Begins anew with nothing executed; the blocks stay.
    pub(crate) fn forget_effects(&mut self) {
        self.disk.truncate(EFFECTS, 0);
        self.disk.truncate(POINTS, 0);
        self.effects = 0;
    }

    /// Begins anew with nothing.
    pub(crate) fn wipe(&mut self) {
        self.disk.wipe();
        self.effects = 0;
    }
}

fn block_of(payload: &[u8]) -> Result<Final, DecodeError> {
    let mut reader = Reader::new(payload);
    let header = Header::decode(&mut reader)?;
    let cut = Cut::decode(reader.bytes("cut", FRAME_MAX)?)?;
    let finalization = reader.bytes("finalization", FRAME_MAX)?.to_vec();
    reader.end()?;
    Ok(Final { header, cut, finalization })
}

fn point_of(payload: &[u8]) -> Result<Point, DecodeError> {
    let mut reader = Reader::new(payload);
    let point = Point { height: reader.u64()?, effects: reader.u64()?, root: reader.array()? };
    reader.end()?;
    Ok(point)
}

impl Final {
    /// The body as it is handed to others: without entries.
    pub(crate) fn body(&self) -> Vec<u8> {
        Body { header: self.header, cut: self.cut.clone(), entries: None }.encode()
    }
}
