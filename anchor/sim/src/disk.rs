//! A disk of byte files on which power can fail at any write.
//!
//! What was written lies in a cache until it is synced. When the power fails, each write that was
//! not synced is kept, lost, or torn at some byte, whatever became of those before it. A process that
//! is only killed leaves the cache as it is.
//!
//! Invariants
//! - What was synced is there after any crash, unless a bit of it is flipped on purpose.
//! - After the fuse has blown nothing is written until the next start.

use crate::dice::Dice;
use std::collections::BTreeMap;

/// The power failed, or the process was killed: nothing can be done any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

/// One change that is not synced.
#[derive(Clone, Debug)]
enum Op {
    Write { at: usize, bytes: Vec<u8> },
    Cut(usize),
}

#[derive(Clone, Debug, Default)]
struct File {
    synced: Vec<u8>,
    cached: Vec<Op>,
    len: usize,
}

fn put(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if image.len() < at + bytes.len() {
        image.resize(at + bytes.len(), 0);
    }
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

impl File {
    fn read(&self) -> Vec<u8> {
        let mut image = self.synced.clone();
        for op in &self.cached {
            match op {
                Op::Write { at, bytes } => put(&mut image, *at, bytes),
                Op::Cut(len) => image.truncate(*len),
            }
        }
        image
    }

    fn sync(&mut self) {
        self.synced = self.read();
        self.cached.clear();
    }
}

/// A disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    files: BTreeMap<&'static str, File>,
    /// After so many more writes and syncs the power fails; whether the last one still takes effect.
    fuse: Option<(u64, bool)>,
    dead: bool,
    /// Says that it synced, and did not: no promise holds on such a disk.
    pub(crate) forgets: bool,
}

impl Disk {
    fn burn(&mut self) -> Result<(), bool> {
        if self.dead {
            return Err(false);
        }
        match &mut self.fuse {
            Some((0, effect)) => {
                let effect = *effect;
                (self.fuse, self.dead) = (None, true);
                Err(effect)
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Appends to a file.
    pub(crate) fn append(&mut self, name: &'static str, bytes: &[u8]) -> Result<(), Lost> {
        let burnt = self.burn();
        if burnt.is_ok() || burnt == Err(true) {
            let file = self.files.entry(name).or_default();
            file.cached.push(Op::Write { at: file.len, bytes: bytes.to_vec() });
            file.len += bytes.len();
        }
        burnt.map_err(|_| Lost)
    }

    /// Makes durable what was written to a file.
    pub(crate) fn sync(&mut self, name: &'static str) -> Result<(), Lost> {
        let burnt = self.burn();
        if (burnt.is_ok() || burnt == Err(true)) && !self.forgets {
            self.files.entry(name).or_default().sync();
        }
        burnt.map_err(|_| Lost)
    }

    /// Shortens a file, and syncs it.
    pub(crate) fn truncate(&mut self, name: &'static str, len: usize) {
        let file = self.files.entry(name).or_default();
        file.cached.push(Op::Cut(len));
        file.len = len;
        file.sync();
    }

    /// What a file holds.
    pub(crate) fn read(&self, name: &'static str) -> Vec<u8> {
        self.files.get(name).map(File::read).unwrap_or_default()
    }

    /// Lets the power fail after so many more writes and syncs.
    pub(crate) fn arm(&mut self, writes: u64, effect: bool) {
        self.fuse = Some((writes, effect));
    }

    /// Takes the fuse out.
    pub(crate) fn disarm(&mut self) {
        self.fuse = None;
    }

    /// Whether the power has failed.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    /// The process is gone; with `power`, so is what the cache held, or parts of it. Returns how many
    /// writes were lost and how many torn.
    pub(crate) fn crash(&mut self, power: bool, dice: &mut Dice) -> (u64, u64) {
        let (mut lost, mut torn) = (0, 0);
        (self.dead, self.fuse) = (false, None);
        for file in self.files.values_mut().filter(|_| power) {
            for op in std::mem::take(&mut file.cached) {
                match (dice.below(3), op) {
                    (0, _) => lost += 1,
                    (1, Op::Write { at, bytes }) if bytes.len() > 1 => {
                        torn += 1;
                        let whole = 1 + dice.place(bytes.len() - 1);
                        put(&mut file.synced, at, &bytes[..whole]);
                    }
                    (_, Op::Write { at, bytes }) => put(&mut file.synced, at, &bytes),
                    (_, Op::Cut(len)) => file.synced.truncate(len),
                }
            }
            file.len = file.synced.len();
        }
        (lost, torn)
    }

    /// Flips one bit of what is synced; in which file.
    pub(crate) fn flip(&mut self, dice: &mut Dice) -> Option<&'static str> {
        let filled: Vec<&'static str> = self
            .files
            .iter()
            .filter(|(_, file)| !file.synced.is_empty())
            .map(|(n, _)| *n)
            .collect();
        let name = *filled.get(dice.place(filled.len()))?;
        let file = self.files.get_mut(name)?;
        let at = dice.place(file.synced.len());
        file.synced[at] ^= 1 << dice.below(8);
        Some(name)
    }

    /// Everything is gone.
    pub(crate) fn wipe(&mut self) {
        *self = Disk { forgets: self.forgets, ..Disk::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_synced_stays_and_the_rest_is_kept_lost_or_torn() {
        let (mut kept, mut lost, mut torn) = (0, 0, 0);
        for seed in 0..100 {
            let mut dice = Dice::new(seed, 0);
            let mut disk = Disk::default();
            disk.append("a", b"first").unwrap();
            disk.sync("a").unwrap();
            disk.append("a", b"second").unwrap();
            assert_eq!(disk.read("a"), b"firstsecond");
            disk.clone().crash(false, &mut dice);
            assert_eq!(disk.read("a"), b"firstsecond", "a kill leaves the cache");
            disk.crash(true, &mut dice);
            let left = disk.read("a");
            assert!(b"firstsecond".starts_with(&left) && left.starts_with(b"first"));
            match left.len() {
                5 => lost += 1,
                11 => kept += 1,
                _ => torn += 1,
            }
        }
        assert!(kept > 5 && lost > 5 && torn > 5, "{kept} {lost} {torn}");
    }

    #[test]
    fn a_fuse_blows_at_its_write_with_or_without_effect() {
        for effect in [false, true] {
            let mut disk = Disk::default();
            disk.arm(2, effect);
            disk.append("a", b"x").unwrap();
            disk.sync("a").unwrap();
            assert_eq!(disk.append("a", b"y"), Err(Lost));
            assert!(disk.is_dead());
            assert_eq!(disk.append("a", b"z"), Err(Lost));
            assert_eq!(disk.read("a"), if effect { &b"xy"[..] } else { b"x" });
            disk.crash(true, &mut Dice::new(1, 1));
            disk.append("a", b"z").unwrap();
        }
    }

    #[test]
    fn a_later_write_may_stay_where_an_earlier_is_lost() {
        let holes = (0..100).filter(|seed| {
            let mut disk = Disk::default();
            disk.append("a", b"1").unwrap();
            disk.append("a", b"2").unwrap();
            disk.crash(true, &mut Dice::new(*seed, 0));
            disk.read("a") == [0, b'2']
        });
        assert!(holes.count() > 5);
    }

    #[test]
    fn a_flip_changes_one_bit_and_a_disk_that_forgets_syncs_nothing() {
        let mut disk = Disk::default();
        assert_eq!(disk.flip(&mut Dice::new(1, 1)), None);
        disk.append("a", &[0; 9]).unwrap();
        disk.sync("a").unwrap();
        assert_eq!(disk.flip(&mut Dice::new(1, 1)), Some("a"));
        assert_eq!(disk.read("a").iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        disk.wipe();
        disk.forgets = true;
        disk.append("a", b"x").unwrap();
        disk.sync("a").unwrap();
        let gone = (0..50).filter(|seed| {
            let mut disk = disk.clone();
            disk.crash(true, &mut Dice::new(*seed, 0));
            disk.read("a").is_empty()
        });
        assert!(gone.count() > 5);
    }
}
