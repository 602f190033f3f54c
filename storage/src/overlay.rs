//! A map in memory over something on disk, which can be frozen while it is being written out.
//!
//! Between flush points changes are only here, and reads look here first. A flush freezes what
//! there is and writes it, while new changes go into a fresh map above; when it is on disk, the
//! frozen one is dropped. Keys come from outside, hence a keyed hash; a fast one, since every record is
//! looked up and inserted.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// A map under a hash whose key nobody outside knows.
pub(crate) type Map<K, V> = HashMap<K, V, ahash::RandomState>;

/// A map of changes, and the frozen one below it.
pub(crate) struct Overlay<K, V> {
    active: Map<K, V>,
    frozen: Arc<Map<K, V>>,
}

impl<K, V> Default for Overlay<K, V> {
    fn default() -> Self {
        Self { active: Map::default(), frozen: Arc::default() }
    }
}

impl<K: Hash + Eq, V> Overlay<K, V> {
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.active.insert(key, value);
    }

    /// Inserts, and says what was here before.
    pub(crate) fn replace(&mut self, key: K, value: V) -> Option<V>
    where
        K: Copy,
        V: Clone,
    {
        self.active.insert(key, value).or_else(|| self.frozen.get(&key).cloned())
    }

    pub(crate) fn reserve(&mut self, more: usize) {
        self.active.reserve(more);
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.active.get(key).or_else(|| self.frozen.get(key))
    }

    /// Entries of both maps; where both have a key, the frozen one comes first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&K, &V)> {
        self.frozen.iter().chain(&self.active)
    }

    /// Freezes the changes. Only one flush runs at a time, so nothing is frozen already.
    pub(crate) fn freeze(&mut self) -> Arc<Map<K, V>> {
        debug_assert!(self.frozen.is_empty(), "two flushes at once");
        self.frozen = Arc::new(std::mem::take(&mut self.active));
        Arc::clone(&self.frozen)
    }

    /// Drops the frozen changes, now on disk; returned so that freeing them needs no lock.
    pub(crate) fn thaw(&mut self) -> Arc<Map<K, V>> {
        std::mem::take(&mut self.frozen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_frozen_stays_visible_below_what_is_new() {
        let mut map = Overlay::default();
        map.insert("a", 1);
        map.insert("b", 1);
        let frozen = map.freeze();
        assert_eq!(map.replace("b", 3), Some(1));
        assert_eq!((map.replace("b", 2), map.replace("d", 1)), (Some(3), None));
        assert_eq!((map.get("a"), map.get("b"), map.get("c")), (Some(&1), Some(&2), None));
        assert_eq!(frozen["b"], 1);
        map.thaw();
        assert_eq!((map.get("a"), map.get("b")), (None, Some(&2)));
    }
}
