//! Looks hashes of a status tree up in bulk: what a block's changes meet, in few reads.
//!
//! A change asks for one sibling on each level. What is on the upper levels is asked for by every
//! block, so it stays in memory once read; it also says where a whole subtree was never touched,
//! and then no file is asked. Below, a tile is read once for all levels that it holds.
//!
//! Invariants
//! - A hash in memory is the newest: `apply` sets it, and reading never replaces one.
//! - A hash is zero if and only if nothing below it was ever touched.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::effects::{Digest, STATUS_DEPTH};
use crate::error::Result;
use crate::files::Files;
use crate::shard::lock;
use crate::tiles::{self, HEIGHT, Spot};
use crate::undo::node_on_disk;

/// The lowest level that is kept: one hash for each 16,384 invoices. Below are two bands, so that a
/// change reads two tiles.
pub(crate) const UPPER: u8 = 2 * HEIGHT;

const ZERO: Digest = [0; 32];

/// Hashes of the upper levels, read or set.
#[derive(Default)]
pub(crate) struct Upper(HashMap<(u8, u64), Digest>);

impl Upper {
    /// Notes new hashes.
    pub(crate) fn set(&mut self, nodes: &[(u8, u64, Digest)]) {
        let upper = nodes.iter().filter(|(level, ..)| *level >= UPPER);
        self.0.extend(upper.map(|(level, index, hash)| ((*level, *index), *hash)));
    }

    /// A hash of level [`UPPER`] or above; `changed` is the one that is in no file yet, if there is.
    fn get(
        &mut self,
        (level, index): (u8, u64),
        changed: Option<&Digest>,
        files: &Files,
        shard: u32,
    ) -> Result<Digest> {
        if let Some(hash) = self.0.get(&(level, index)) {
            return Ok(*hash);
        }
        let hash = match changed {
            Some(hash) => *hash,
            None => node_on_disk(files, (shard, level, index))?,
        };
        self.0.insert((level, index), hash);
        Ok(hash)
    }
}

/// Looks places up, by level and index: in memory, then in the files. `changed` has what is in no
/// file yet.
pub(crate) fn nodes<'a>(
    places: &[(u8, u64)],
    changed: impl Fn(u8, u64) -> Option<&'a Digest>,
    upper: &Mutex<Upper>,
    files: &Files,
    shard: u32,
) -> Result<Vec<Digest>> {
    let mut upper = lock(upper)?;
    let mut out = vec![ZERO; places.len()];
    let mut in_files: Vec<(Spot, usize)> = Vec::new();
    // The last subtree that was asked about, and whether anything below it was touched.
    let mut subtree = (u64::MAX, false);
    for (i, (level, index)) in places.iter().copied().enumerate() {
        if let Some(hash) = changed(level, index) {
            out[i] = *hash;
        } else if level >= UPPER {
            out[i] = upper.get((level, index), None, files, shard)?;
        } else {
            let above = index >> (UPPER - level);
            if subtree.0 != above {
                let hash = upper.get((UPPER, above), changed(UPPER, above), files, shard)?;
                subtree = (above, hash != ZERO);
            }
            if subtree.1 {
                in_files.push((Spot::of(level, index), i));
            }
        }
    }
    // Others go on while the files are read.
    drop(upper);
    tiles::read(files, shard, in_files, &mut out)?;
    Ok(out)
}

/// The places of a proof for an invoice: its pair of records, then a sibling on each level.
pub(crate) fn path_of(issue: u64) -> Vec<(u8, u64)> {
    let above = (1..STATUS_DEPTH).map(|level| (level, (issue >> level) ^ 1));
    [(0, issue & !1), (0, issue | 1)].into_iter().chain(above).collect()
}

/// The record and the siblings, from what was found at [`path_of`] an invoice.
pub(crate) fn split_path(issue: u64, mut found: Vec<Digest>) -> (Digest, Vec<Digest>) {
    let record = found.remove((issue & 1) as usize);
    (record, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::create_folder;

    #[test]
    fn a_subtree_that_nobody_touched_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        create_folder(&dir.path().join("shard-0000/status")).unwrap();
        let files = Files::new(dir.path(), true, 64);
        // What stands there can only be found by reading.
        tiles::write(&files, 0, vec![(Spot::of(0, 0), [5; 32])]).unwrap();
        let upper = Mutex::<Upper>::default();
        let read = || nodes(&[(0, 0)], |_, _| None, &upper, &files, 0).unwrap()[0];
        assert_eq!(read(), ZERO);
        upper.lock().unwrap().set(&[(UPPER, 0, [6; 32]), (UPPER - 1, 0, [7; 32])]);
        assert_eq!(read(), [5; 32]);
    }

    #[test]
    fn what_is_changed_goes_before_what_is_kept_and_that_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        create_folder(&dir.path().join("shard-0000/status")).unwrap();
        let files = Files::new(dir.path(), true, 64);
        let place = (UPPER + 1, 3);
        tiles::write(&files, 0, vec![(Spot::of(place.0, place.1), [1; 32])]).unwrap();
        let upper = Mutex::<Upper>::default();
        assert_eq!(nodes(&[place], |_, _| None, &upper, &files, 0).unwrap(), [[1; 32]]);
        upper.lock().unwrap().set(&[(place.0, place.1, [2; 32])]);
        assert_eq!(nodes(&[place], |_, _| None, &upper, &files, 0).unwrap(), [[2; 32]]);
        let changed = |_, _| Some(&[3; 32]);
        assert_eq!(nodes(&[place], changed, &upper, &files, 0).unwrap(), [[3; 32]]);
    }

    #[test]
    fn the_path_of_an_invoice_comes_apart() {
        for issue in [0u64, 1, 6, 7, (1 << 40) - 1] {
            let found: Vec<Digest> = path_of(issue)
                .iter()
                .map(|(level, index)| {
                    let mut hash = [*level; 32];
                    hash[..8].copy_from_slice(&index.to_be_bytes());
                    hash
                })
                .collect();
            let (record, siblings) = split_path(issue, found);
            let index = |hash: &Digest| u64::from_be_bytes(hash[..8].try_into().unwrap());
            assert_eq!(index(&record), issue);
            assert_eq!(siblings.len(), usize::from(STATUS_DEPTH));
            for (level, sibling) in (0..STATUS_DEPTH).zip(&siblings) {
                assert_eq!((sibling[31], index(sibling)), (level, (issue >> level) ^ 1));
            }
        }
    }
}
