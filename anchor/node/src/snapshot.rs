//! Snapshots of a node: made beside it, fetched in parts, checked whole, restored into a new folder
//! (LAYOUT section 11).
//!
//! A snapshot is believed in nothing. One certified header, led to from a trust root, binds every
//! shard's log, status and offsets, and all headers before it; from the parts these are computed
//! again, and everything that a node looks up follows from what they bind.
//!
//! | file | topic |
//! |---|---|
//! | `snapshot/make.rs` | from a data folder, beside its node |
//! | `snapshot/fetch.rs` | in parts, from a folder or a node |
//! | `snapshot/restore.rs` | checks all, builds a data folder, copies the archive |
//! | `snapshot/shard.rs`, `snapshot/statuses.rs` | one shard of that |
//! | `snapshot/prune.rs` | what of the stream is needed no more |
//! | `snapshot/stand.rs` | where other nodes stand, who need it too |
//!
//! Invariants
//! - No part is used before the manifest's header is proved final.

pub mod fetch;
pub mod make;
pub(crate) mod prune;
pub mod restore;
mod shard;
pub(crate) mod stand;
mod statuses;

use anyhow::{Context, Result, ensure};
use piaogen_crypto::{Digest, Lanes};
use piaogen_storage::snapshot::{MANIFEST, MANIFEST_BYTES, Manifest};
use piaogen_verify::certificate::Certificate;
use piaogen_verify::encoding::Reader;
use piaogen_verify::epoch::EpochProof;
use piaogen_verify::header::{Header, ShardEntry, shards_root};
use piaogen_verify::trust_root::TrustRoot;
use std::io::Read;
use std::path::Path;

/// What a node keeps in its data folder when it was restored: the epoch of the block after the
/// snapshot. Its key may have voted in that epoch, and this folder would not know.
const RESTORED: &str = "restored";

/// A manifest whose header is final.
#[derive(Clone, Debug)]
pub struct Proved {
    /// The manifest.
    pub manifest: Manifest,
    /// The header that binds the state.
    pub header: Header,
    /// The shards that it binds; the registry last.
    pub shards: Vec<ShardEntry>,
}

/// Reads the manifest of a snapshot in a folder.
pub fn read_manifest(dir: &Path) -> Result<Manifest> {
    let path = dir.join(MANIFEST);
    let mut bytes = Vec::new();
    std::fs::File::open(&path)
        .with_context(|| format!("{}: no snapshot, or not all of one", path.display()))?
        .take(MANIFEST_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| path.display().to_string())?;
    parse_manifest(&bytes)
}

/// Reads the bytes of a manifest.
fn parse_manifest(bytes: &[u8]) -> Result<Manifest> {
    Manifest::decode(bytes).map_err(|what| anyhow::anyhow!("{MANIFEST} of the snapshot: {what}"))
}

/// Checks that a final header, led to from the trust root, binds the state that the manifest says.
pub fn prove(manifest: Manifest, trust: &TrustRoot) -> Result<Proved> {
    let wrong = |what: &str| format!("{MANIFEST} of the snapshot: {what}");
    ensure!(manifest.chain == hex::encode(trust.chain), wrong("it is of another chain"));
    let bytes = |text: &str| hex::decode(text).with_context(|| wrong("what should be hex is not"));
    let mut trusted = trust.clone();
    for proof in &manifest.epochs {
        let proof = EpochProof::decode(&bytes(proof)?).with_context(|| wrong("an epoch proof"))?;
        trusted = proof.advance(&trusted).with_context(|| wrong("the changes of the set"))?;
    }
    let encoded = bytes(&manifest.header)?;
    let mut reader = Reader::new(&encoded);
    let header = Header::decode(&mut reader).with_context(|| wrong("the header"))?;
    reader.end().with_context(|| wrong("the header"))?;
    ensure!(header.chain == trust.chain, wrong("its header is of another chain"));
    let certificate = Certificate::decode(&bytes(&manifest.certificate)?);
    let certificate = certificate.with_context(|| wrong("the certificate"))?;
    trusted.check_final(&header, &certificate).with_context(|| wrong("its header is not final"))?;
    let blocks = manifest.parts_of(piaogen_storage::snapshot::PartKind::Blocks, None);
    let last = blocks.last().map(|part| part.last);
    ensure!(last == Some(header.height), wrong("its last block is not its header's"));
    let shards = manifest.shard_entries().map_err(|what| anyhow::anyhow!(wrong(&what)))?;
    ensure!(
        shards_root(&shards) == header.shards_root && shards.len() == header.shards as usize,
        wrong("its shards are not those that the header binds")
    );
    Ok(Proved { manifest, header, shards })
}

/// The leaves of encoded entries.
fn leaves(lanes: Lanes, entries: &[&[u8]]) -> Vec<Digest> {
    let bytes: usize = entries.iter().map(|entry| entry.len() + 1).sum();
    let mut arena = Vec::with_capacity(bytes);
    let mut ranges = Vec::with_capacity(entries.len());
    for entry in entries {
        let begin = arena.len() as u32;
        arena.push(0);
        arena.extend_from_slice(entry);
        ranges.push(begin..arena.len() as u32);
    }
    let mut leaves = vec![[0; 32]; entries.len()];
    lanes.sm3_ranges(&arena, &ranges, &mut leaves);
    leaves
}

/// The epoch in which a restored node does not vote, unless it has votes of it.
pub fn restored_epoch(dir: &Path) -> Result<Option<u64>> {
    let path = dir.join(RESTORED);
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map(Some).with_context(|| path.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}
