//! Remembers the fingerprints of the last so many: exact about what it can miss.
//!
//! A ring in the order of arrival with a hash table over it. A match among what the ring holds is
//! always found; what left it is missed, and nothing else. Fingerprints are the first 64 bits of an
//! SM3 digest: among a billion remembered ones, one new in about twenty billion meets a stranger.
//!
//! Invariants
//! - The table holds the newest place in the ring of each remembered fingerprint, and no other.

use hashbrown::HashTable;
use piaogen_verify::alert::Place;

#[derive(Clone, Copy)]
struct Entry {
    fingerprint: u64,
    at: Place,
}

/// The last so many fingerprints.
pub struct Window {
    ring: Vec<Entry>,
    /// Where the next one goes, once the ring is full.
    next: usize,
    capacity: usize,
    table: HashTable<u32>,
}

/// Bytes that one remembered fingerprint takes: its entry, and its share of the table.
const ENTRY_BYTES: usize = size_of::<Entry>() + 10;

impl Window {
    /// A window of at most so many bytes.
    pub fn new(bytes: usize) -> Window {
        let capacity = (bytes / ENTRY_BYTES).min(u32::MAX as usize);
        Window { ring: Vec::new(), next: 0, capacity, table: HashTable::new() }
    }

    /// How many fingerprints it remembers now.
    pub fn remembered(&self) -> usize {
        self.ring.len()
    }

    /// How many it can remember.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Remembers a fingerprint; the newest record that had the same one, if it is remembered.
    pub fn put(&mut self, fingerprint: u64, at: Place) -> Option<Place> {
        if self.capacity == 0 {
            return None;
        }
        let slot = self.take_slot(Entry { fingerprint, at });
        let Window { ring, table, .. } = self;
        match table.find_mut(hash(fingerprint), |i| ring[*i as usize].fingerprint == fingerprint) {
            Some(known) => {
                let before = ring[*known as usize].at;
                *known = slot;
                // The slot itself holds the new entry, so `before` is of another one.
                Some(before)
            }
            None => {
                table.insert_unique(hash(fingerprint), slot, |i| {
                    hash(ring[*i as usize].fingerprint)
                });
                None
            }
        }
    }

    /// Puts an entry into the ring, and lets the oldest go where it is full.
    fn take_slot(&mut self, entry: Entry) -> u32 {
        if self.ring.len() < self.capacity {
            self.ring.push(entry);
            return self.ring.len() as u32 - 1;
        }
        let slot = self.next as u32;
        let oldest = self.ring[self.next].fingerprint;
        // Only where nothing newer has the same fingerprint does the table point here.
        if let Ok(held) = self.table.find_entry(hash(oldest), |i| *i == slot) {
            held.remove();
        }
        self.ring[self.next] = entry;
        self.next = (self.next + 1) % self.capacity;
        slot
    }
}

/// Fingerprints are random already; what is left is to use their upper half too.
fn hash(fingerprint: u64) -> u64 {
    fingerprint.rotate_left(32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn it_finds_what_a_list_of_the_last_ones_finds() {
        let capacity = 100;
        let mut window = Window::new(capacity * ENTRY_BYTES);
        let mut naive: VecDeque<(u64, u64)> = VecDeque::new();
        let mut seed = 1u64;
        let mut matches = 0;
        for i in 0..20_000u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            let fingerprint = (seed >> 40) % 300;
            let at = Place { shard: 1, log_index: i };
            if naive.len() == capacity {
                naive.pop_front();
            }
            let expected = naive.iter().rev().find(|(f, _)| *f == fingerprint).map(|(_, at)| *at);
            naive.push_back((fingerprint, i));
            assert_eq!(window.put(fingerprint, at).map(|at| at.log_index), expected, "{i}");
            matches += u32::from(expected.is_some());
        }
        assert_eq!(window.remembered(), capacity);
        assert!(matches > 1_000);
    }

    #[test]
    fn a_window_of_nothing_remembers_nothing() {
        let mut window = Window::new(0);
        let at = Place { shard: 0, log_index: 0 };
        assert_eq!((window.put(1, at), window.put(1, at), window.remembered()), (None, None, 0));
    }
}
