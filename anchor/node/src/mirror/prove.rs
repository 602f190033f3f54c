//! Makes receipts and consistency proofs from the tiles of a mirror alone.
//!
//! A mirror has entries and no records, so its receipts show no field; the holder of the document
//! compares commitments, or shows fields himself.
//!
//! Invariants
//! - A proof that does not lead to the head's root is an error here, and is not handed out.

use super::files::{Files, HEAD};
use super::{headers, of_tiles};
use crate::run::chain::Provable;
use crate::run::receipts::{carry, cosignable, cosigned, index_of_offset};
use anyhow::{Context, Result, ensure};
use piaogen_crypto::Digest;
use piaogen_verify::checkpoint::Checkpoint;
use piaogen_verify::consistency::Consistency;
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::header::ShardEntry;
use piaogen_verify::merkle::{self, root_from_inclusion};
use piaogen_verify::receipt::Receipt;
use piaogen_verify::record::partition;
use piaogen_verify::tiles::{Log, Part, Tile, TileHashes, WIDTH};
use std::cell::RefCell;
use std::path::Path;

/// What a mirror proves.
pub struct TileProver {
    files: Files,
    provable: Provable,
    /// The bundle that was read last.
    bundle: RefCell<Option<(Tile, Vec<u8>)>>,
}

impl TileProver {
    /// Opens the folder of a mirror, against its head.
    pub fn open(dir: &Path) -> Result<TileProver> {
        let files = Files::new(dir);
        let head = files.head()?.with_context(|| format!("{} has no {HEAD}", dir.display()))?.0;
        ensure!(!head.shards.is_empty(), "the head has no shards");
        Ok(TileProver { files, provable: head.into(), bundle: RefCell::new(None) })
    }

    /// The height of the head.
    pub fn height(&self) -> u64 {
        self.provable.header.height
    }

    /// An entry of a shard's log, below its size.
    fn entry(&self, state: &ShardEntry, index: u64) -> Result<Entry> {
        let tile = Tile::of(Log::Shard(state.shard), Part::Entries, index / WIDTH, state.log_size);
        let tile = tile.context("an entry above the log's size")?;
        let mut bundle = self.bundle.borrow_mut();
        if bundle.as_ref().is_none_or(|(known, _)| *known != tile) {
            *bundle = Some((tile, self.files.need(&tile)?));
        }
        let bytes = bundle.as_ref().map_or(&[][..], |(_, bytes)| bytes);
        let named = || format!("v1/tiles/{tile}");
        let items = tile.decode_bundle(bytes).with_context(named)?;
        Entry::decode(items[(index - tile.first()) as usize]).with_context(named)
    }

    /// The place of the record at an offset of the stream.
    pub fn at(&self, shard: u32, offset: u64) -> Result<Option<u64>> {
        let state = self.provable.shard(shard)?;
        index_of_offset(state.log_size, offset, |index| self.entry(state, index))
    }

    /// The shard of a subject, and the place of the first record about it that was accepted. Every
    /// entry before it is read: a mirror has no index.
    pub fn find(&self, subject: &[u8]) -> Result<Option<(u32, u64)>> {
        let partitions = self.provable.shards.len() as u32 - 1;
        ensure!(partitions > 0, "the head has no partitions");
        let state = self.provable.shard(partition(subject, partitions))?;
        for index in 0..state.log_size {
            let entry = self.entry(state, index)?;
            if entry.subject == subject && entry.outcome == Outcome::Accepted {
                return Ok(Some((state.shard, index)));
            }
        }
        Ok(None)
    }

    /// The receipt of an entry, without fields.
    pub fn receipt(&self, shard: u32, index: u64) -> Result<Receipt> {
        let state = *self.provable.shard(shard)?;
        let size = state.log_size;
        ensure!(index < size, "the log of shard {shard} has {size} entries, {index} is not one");
        let entry = self.entry(&state, index)?;
        let (leaf, log) = (entry.leaf(), Log::Shard(shard));
        let proof = self.proof(log, index, size, &leaf, &state.log_root)?;
        Ok(self.provable.receipt(state, index, entry, proof))
    }

    /// Leads a receipt to the head.
    pub fn renew(&self, receipt: &mut Receipt) -> Result<()> {
        let height = self.provable.renewable(receipt)?;
        let proof = self.history(height, &receipt.header.leaf())?;
        self.provable.renew(receipt, proof);
        Ok(())
    }

    /// Puts the cosignatures of a checkpoint into a receipt whose newest header is in its log.
    pub fn cosign(&self, receipt: &mut Receipt, checkpoint: &Checkpoint) -> Result<()> {
        let height = cosignable(receipt, checkpoint.size, self.height() + 1)?;
        let proof = self.proof_in(Log::History, height, checkpoint.size)?;
        carry(receipt, cosigned(checkpoint, proof))
    }

    /// That the head extends the block of a height.
    pub fn consistency(&self, height: u64) -> Result<Consistency> {
        let newest = self.height();
        ensure!(height < newest, "the newest block of the mirror is {newest}, not above {height}");
        let older = headers::link(&self.files, height, newest + 1)?.header;
        let proof = self.history(height, &older.leaf())?;
        Ok(self.provable.consistency(older, proof))
    }

    fn history(&self, height: u64, leaf: &Digest) -> Result<Vec<Digest>> {
        let header = &self.provable.header;
        self.proof(Log::History, height, header.height, leaf, &header.history_root)
    }

    /// The proof that a leaf is in the first `size` of a log, whose root it must lead to.
    fn proof(
        &self,
        log: Log,
        index: u64,
        size: u64,
        leaf: &Digest,
        root: &Digest,
    ) -> Result<Vec<Digest>> {
        let proof = self.proof_in(log, index, size)?;
        ensure!(
            root_from_inclusion(leaf, index, size, &proof) == Some(*root),
            "the tiles of log {log} do not lead from {index} to the head: run piaogen mirror check"
        );
        Ok(proof)
    }

    /// The proof as the tiles have it, which may lead anywhere.
    fn proof_in(&self, log: Log, index: u64, size: u64) -> Result<Vec<Digest>> {
        // Tiles are as wide as the head has them, also of an older size.
        let all = match log {
            Log::Shard(_) => size,
            Log::History => self.height() + 1,
        };
        let hashes = TileHashes { tiles: &self.files, log, size: all };
        of_tiles(merkle::prove_inclusion(&hashes, index, size))
    }
}
