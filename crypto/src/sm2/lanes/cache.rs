//! Decides which public keys have a table: those that are used often, within a bound of memory.
//!
//! The cache itself never builds anything, so that a lock around it is held for look-ups only:
//!
//! ```text
//! plan(keys)        under the lock    tables of the keys that have one; keys that deserve one
//! build_tables      outside           by whoever holds the plan
//! insert(tables)    under the lock    the least recently used ones make room
//! ```
//!
//! Invariants
//! - Tables never take more than the bound, counters of keys without a table never more than
//!   [`COUNTERS`]. A stream of new keys can push counters out, and no table.
//! - A table that a plan holds stays alive until the plan is dropped.

use super::super::PublicKey;
use super::table::KeyTable;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Most keys without a table that are counted.
const COUNTERS: usize = 1 << 16;
/// Most keys that one plan asks tables for, lest one batch waits for many.
const PROMOTIONS: usize = 64;
/// The count of a key whose table was asked for.
const ASKED: u32 = u32::MAX;

/// A compressed key as numbers, x first: two keys are nearly always told apart by the first.
type Name = ([u64; 4], u8);

fn name(key: &PublicKey) -> Name {
    let bytes = key.to_compressed();
    let word = |i: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[1 + 8 * i..9 + 8 * i]);
        u64::from_be_bytes(word)
    };
    (core::array::from_fn(word), bytes[0])
}

struct Entry {
    table: Arc<KeyTable>,
    /// The plan that used it last.
    used: u64,
}

/// What [`KeyTables::plan`] says about one batch.
#[derive(Debug, Default)]
pub struct Plan {
    /// The table of each key, where there is one.
    pub tables: Vec<Option<Arc<KeyTable>>>,
    /// Keys that should get a table now, each once.
    pub promote: Vec<PublicKey>,
}

/// What a cache did so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStats {
    /// Signatures whose key had a table.
    pub hits: u64,
    /// Signatures whose key had none.
    pub misses: u64,
    /// Tables taken in.
    pub built: u64,
    /// Tables dropped to make room.
    pub evicted: u64,
    /// Tables held now.
    pub tables: usize,
    /// Memory that they take.
    pub bytes: usize,
}

/// The tables of the keys that are used most.
pub struct KeyTables {
    tables: BTreeMap<Name, Entry>,
    counts: BTreeMap<Name, u32>,
    most: usize,
    promote_after: u32,
    plans: u64,
    stats: CacheStats,
}

impl KeyTables {
    /// A cache of at most `bytes` bytes of tables ([`KeyTable::bytes`] each), which asks for a
    /// key's table when the key has been used `promote_after` times without one.
    #[must_use]
    pub fn new(bytes: usize, promote_after: u32) -> Self {
        Self {
            tables: BTreeMap::new(),
            counts: BTreeMap::new(),
            most: bytes / KeyTable::bytes(),
            promote_after: promote_after.clamp(1, ASKED - 1),
            plans: 0,
            stats: CacheStats::default(),
        }
    }

    /// Looks up the keys of one batch, and counts them.
    pub fn plan(&mut self, keys: &[&PublicKey]) -> Plan {
        self.plans += 1;
        let mut plan = Plan { tables: Vec::with_capacity(keys.len()), promote: Vec::new() };
        for key in keys {
            let name = name(key);
            let table = self.tables.get_mut(&name).map(|entry| {
                entry.used = self.plans;
                entry.table.clone()
            });
            match table {
                Some(_) => self.stats.hits += 1,
                None => {
                    self.stats.misses += 1;
                    self.count(name, key, &mut plan.promote);
                }
            }
            plan.tables.push(table);
        }
        plan
    }

    fn count(&mut self, name: Name, key: &PublicKey, promote: &mut Vec<PublicKey>) {
        if self.most == 0 {
            return;
        }
        if self.counts.len() >= COUNTERS && !self.counts.contains_key(&name) {
            // All counts halve; keys seen once are forgotten, and so are tables asked for in vain.
            self.counts.retain(|_, count| {
                *count = if *count == ASKED { 0 } else { *count / 2 };
                *count > 0
            });
            if self.counts.len() >= COUNTERS {
                self.counts.clear();
            }
        }
        let count = self.counts.entry(name).or_insert(0);
        *count = count.saturating_add(1);
        if *count >= self.promote_after && *count != ASKED && promote.len() < PROMOTIONS {
            *count = ASKED;
            promote.push((*key).clone());
        }
    }

    /// Takes tables in. The least recently used ones make room.
    pub fn insert(&mut self, tables: Vec<KeyTable>) {
        for table in tables.into_iter().take(self.most) {
            let name = name(table.key());
            self.counts.remove(&name);
            let entry = Entry { table: Arc::new(table), used: self.plans };
            if self.tables.insert(name, entry).is_none() {
                self.stats.built += 1;
            }
        }
        self.evict();
        self.stats.tables = self.tables.len();
        self.stats.bytes = self.tables.len() * KeyTable::bytes();
    }

    fn evict(&mut self) {
        let Some(excess @ 1..) = self.tables.len().checked_sub(self.most) else { return };
        let mut by_use: Vec<(u64, Name)> =
            self.tables.iter().map(|(name, entry)| (entry.used, *name)).collect();
        by_use.select_nth_unstable(excess - 1);
        for (_, name) in &by_use[..excess] {
            self.tables.remove(name);
        }
        self.stats.evicted += excess as u64;
    }

    /// What the cache did so far.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.stats
    }
}

impl core::fmt::Debug for KeyTables {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("KeyTables").field("most", &self.most).field("stats", &self.stats).finish()
    }
}
