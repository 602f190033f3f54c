//! What waits for a moment: deadlines of a shard whose parties are to be told before they pass.
//!
//! Like documents, waits live in RocksDB and what changed since the last flush in memory. They are
//! taken from the front only, in the order of their times, so what is done is one time, and what
//! is deleted is a range.
//!
//! Invariants
//! - A wait whose time is not later than what is done is seen no more, wherever it still lies.
//! - What is seen is what the applied blocks left, so after a crash it is that of the flush point.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Something that is to be looked at when its time has come.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Wait {
    /// Its time, in milliseconds since 1970.
    pub at: i64,
    /// Issue index of the invoice.
    pub issue_index: u64,
    /// Index, in the shard's record log, of the record that began to wait.
    pub log_index: u64,
    /// The subject of the invoice.
    pub subject: Vec<u8>,
}

/// Time and issue index: what a wait is found by.
type Key = (i64, u64);
type Rest = (u64, Vec<u8>);
type Map = BTreeMap<Key, Rest>;

/// What a flush writes: what is done first, then what is new.
#[derive(Default, Debug)]
pub(crate) struct FrozenWaits {
    /// All whose time is not later are to be deleted.
    pub(crate) done: Option<i64>,
    /// What waits since.
    pub(crate) new: Map,
}

/// The changes of a shard's waits, and the frozen ones below them.
#[derive(Default)]
pub(crate) struct Waits {
    active: Map,
    frozen: Arc<FrozenWaits>,
    /// Up to when all are done, as far as is known since the store was opened.
    done: Option<i64>,
    /// Whether a flush has yet to write that.
    unwritten: bool,
}

impl FrozenWaits {
    /// The new waits.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Wait> {
        self.new.iter().map(whole)
    }
}

fn whole((key, rest): (&Key, &Rest)) -> Wait {
    Wait { at: key.0, issue_index: key.1, log_index: rest.0, subject: rest.1.clone() }
}

impl Waits {
    /// First all up to `done` are done, where it says so; then the new ones wait.
    pub(crate) fn apply(&mut self, done: Option<i64>, new: Vec<Wait>) {
        if let Some(done) = done.filter(|done| self.done.is_none_or(|before| before < *done)) {
            (self.done, self.unwritten) = (Some(done), true);
            self.active.retain(|(at, _), _| *at > done);
        }
        for wait in new {
            self.active.insert((wait.at, wait.issue_index), (wait.log_index, wait.subject));
        }
    }

    /// Where to begin to look; `None`: there can be none.
    pub(crate) fn from(&self) -> Option<i64> {
        self.done.map_or(Some(i64::MIN), |done| done.checked_add(1))
    }

    /// Lays the changes over what is on disk, up to a time.
    pub(crate) fn over(&self, on_disk: Vec<Wait>, until: i64) -> Vec<Wait> {
        let Some(from) = self.from().filter(|from| *from <= until) else { return Vec::new() };
        let range = (from, 0)..=(until, u64::MAX);
        let on_disk = on_disk.into_iter().filter(|wait| range.contains(&(wait.at, 0)));
        let mut all: BTreeMap<Key, Wait> =
            on_disk.map(|wait| ((wait.at, wait.issue_index), wait)).collect();
        for map in [&self.frozen.new, &self.active] {
            all.extend(map.range(range.clone()).map(|entry| (*entry.0, whole(entry))));
        }
        all.into_values().collect()
    }

    /// Freezes the changes for a flush.
    pub(crate) fn freeze(&mut self) -> Arc<FrozenWaits> {
        let done = std::mem::take(&mut self.unwritten).then_some(self.done).flatten();
        self.frozen = Arc::new(FrozenWaits { done, new: std::mem::take(&mut self.active) });
        self.frozen.clone()
    }

    /// Drops the frozen changes, now on disk.
    pub(crate) fn thaw(&mut self) {
        self.frozen = Arc::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(at: i64, issue_index: u64) -> Wait {
        Wait { at, issue_index, log_index: 7, subject: b"s".to_vec() }
    }

    fn times(waits: &Waits, on_disk: &[Wait], until: i64) -> Vec<(i64, u64)> {
        let found = waits.over(on_disk.to_vec(), until);
        found.into_iter().map(|wait| (wait.at, wait.issue_index)).collect()
    }

    #[test]
    fn what_is_done_is_seen_no_more_wherever_it_lies() {
        let mut waits = Waits::default();
        let on_disk = [wait(i64::MIN, 9), wait(3, 1), wait(5, 1), wait(i64::MAX, 2)];
        waits.apply(None, vec![wait(4, 1), wait(5, 0)]);
        assert_eq!(times(&waits, &on_disk, 5), [(i64::MIN, 9), (3, 1), (4, 1), (5, 0), (5, 1)]);
        assert_eq!(times(&waits, &on_disk, 4), [(i64::MIN, 9), (3, 1), (4, 1)]);
        let frozen = waits.freeze();
        assert_eq!((frozen.done, frozen.iter().count()), (None, 2));
        waits.apply(Some(4), vec![wait(6, 3)]);
        assert_eq!(times(&waits, &on_disk, 6), [(5, 0), (5, 1), (6, 3)]);
        waits.thaw();
        waits.apply(Some(2), Vec::new());
        let frozen = waits.freeze();
        assert_eq!((frozen.done, frozen.iter().count()), (Some(4), 1));
        assert_eq!(waits.freeze().done, None, "once is enough");
        waits.apply(Some(i64::MAX), Vec::new());
        assert_eq!(times(&waits, &on_disk, i64::MAX), []);
    }
}
