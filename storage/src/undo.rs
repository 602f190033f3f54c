//! The undo file: what the status files held before a flush overwrote them in place.
//!
//! It is complete on disk before the first byte is overwritten, and deleted after RocksDB has the
//! new height. So while it may be needed it is whole, and a torn one is never needed.

use std::collections::HashMap;
use std::path::Path;

use crate::effects::Digest;
use crate::error::{During, Result};
use crate::files::{Files, delete, sync_folder, write_durably};
use crate::frame;
use crate::tiles::{self, Spot};

const MAGIC: [u8; 4] = *b"PUn1";
const ENTRY: usize = 4 + 1 + 8 + 32;
const FILE: &str = "status.undo";

/// A hash of a status tree: shard, level, index.
pub(crate) type NodePlace = (u32, u8, u64);

/// Old contents of status files, and the height of the flush that overwrites them.
pub(crate) struct Undo {
    pub(crate) height: u64,
    pub(crate) old: HashMap<NodePlace, Digest>,
}

impl Undo {
    /// Reads the undo file; `None` where there is none or it is torn.
    pub(crate) fn load(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = std::fs::read(&path).at("read", &path)?;
        Ok(decode(&bytes))
    }

    /// Notes what is on disk now at `places`, durably.
    pub(crate) fn note(
        dir: &Path,
        files: &Files,
        height: u64,
        places: impl Iterator<Item = NodePlace>,
    ) -> Result<()> {
        let mut places: Vec<NodePlace> = places.collect();
        places.sort_unstable();
        let mut payload = vec![0; 4];
        for of_shard in places.chunk_by(|a, b| a.0 == b.0) {
            let spots = of_shard.iter().map(|(_, level, index)| Spot::of(*level, *index));
            let mut old = vec![[0; 32]; of_shard.len()];
            tiles::read(files, of_shard[0].0, spots.zip(0..).collect(), &mut old)?;
            for ((shard, level, index), old) in of_shard.iter().zip(&old) {
                payload.extend_from_slice(&shard.to_be_bytes());
                payload.push(*level);
                payload.extend_from_slice(&index.to_be_bytes());
                payload.extend_from_slice(old);
            }
        }
        let count = ((payload.len() - 4) / ENTRY) as u32;
        payload[..4].copy_from_slice(&count.to_be_bytes());
        let mut bytes = Vec::new();
        frame::write(&mut bytes, MAGIC, &height.to_be_bytes(), &payload)?;
        write_durably(&dir.join(FILE), &bytes)?;
        sync_folder(dir)
    }

    /// Puts the old bytes back, durably.
    pub(crate) fn restore(&self, files: &Files) -> Result<()> {
        let nodes: Vec<_> = self.old.iter().map(|(place, old)| (*place, *old)).collect();
        write_nodes(files, nodes)
    }

    /// Deletes the file.
    pub(crate) fn release(dir: &Path) -> Result<()> {
        delete(&dir.join(FILE))
    }
}

fn decode(bytes: &[u8]) -> Option<Undo> {
    let (height, payload) = frame::read::<8>(bytes, MAGIC)?;
    let count = frame::read_u32(payload, 0)? as usize;
    if payload.len() - 4 != count.checked_mul(ENTRY)? {
        return None;
    }
    let entry = |bytes: &[u8]| {
        let place = (frame::read_u32(bytes, 0)?, bytes[4], frame::read_u64(bytes, 5)?);
        Some((place, bytes[13..].try_into().ok()?))
    };
    let old = payload[4..].chunks(ENTRY).map(entry).collect::<Option<_>>()?;
    Some(Undo { height: u64::from_be_bytes(height), old })
}

/// Writes hashes to the status files and makes them durable.
pub(crate) fn write_nodes(files: &Files, mut nodes: Vec<(NodePlace, Digest)>) -> Result<()> {
    nodes.sort_unstable_by_key(|(place, _)| *place);
    for of_shard in nodes.chunk_by(|((s, ..), _), ((t, ..), _)| s == t) {
        let spot = |(_, level, index): NodePlace| Spot::of(level, index);
        let hashes = of_shard.iter().map(|(place, hash)| (spot(*place), *hash));
        tiles::write(files, of_shard[0].0.0, hashes.collect())?;
    }
    Ok(())
}

/// What the status files hold at a place; zeros where nothing was ever written.
pub(crate) fn node_on_disk(files: &Files, (shard, level, index): NodePlace) -> Result<Digest> {
    let mut out = [[0; 32]];
    tiles::read(files, shard, vec![(Spot::of(level, index), 0)], &mut out)?;
    Ok(out[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::create_folder;

    #[test]
    fn old_bytes_come_back_and_a_torn_undo_is_none() {
        let dir = tempfile::tempdir().unwrap();
        create_folder(&dir.path().join("shard-0003/status")).unwrap();
        let files = Files::new(dir.path(), true, 64);
        let before = vec![((3, 0, 5), [5; 32]), ((3, 40, 0), [6; 32])];
        write_nodes(&files, before.clone()).unwrap();
        let after = vec![((3, 0, 5), [7; 32]), ((3, 0, 1 << 30), [8; 32]), ((3, 40, 0), [9; 32])];
        let places = after.iter().map(|(place, _)| *place);
        Undo::note(dir.path(), &files, 12, places).unwrap();
        write_nodes(&files, after).unwrap();
        assert_eq!(node_on_disk(&files, (3, 0, 1 << 30)).unwrap(), [8; 32]);

        let path = dir.path().join(FILE);
        let bytes = std::fs::read(&path).unwrap();
        for n in 0..bytes.len() {
            std::fs::write(&path, &bytes[..n]).unwrap();
            assert!(Undo::load(dir.path()).unwrap().is_none(), "cut at {n}");
        }
        std::fs::write(&path, &bytes).unwrap();
        let undo = Undo::load(dir.path()).unwrap().unwrap();
        assert_eq!((undo.height, undo.old.len()), (12, 3));
        undo.restore(&files).unwrap();
        for (place, hash) in before {
            assert_eq!(node_on_disk(&files, place).unwrap(), hash);
        }
        assert_eq!(node_on_disk(&files, (3, 0, 1 << 30)).unwrap(), [0; 32]);
        Undo::release(dir.path()).unwrap();
        assert!(Undo::load(dir.path()).unwrap().is_none());
    }
}
