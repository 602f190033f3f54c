//! What is watched over a whole run: every final header, every lie, what happened how often, and
//! what must not have happened.
//!
//! Invariants
//! - A header that an honest validator recorded as final is never forgotten here.

use piaogen_anchor::block::HeaderRefusal;
use piaogen_crypto::Digest;
use piaogen_verify::header::Header;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a run has one thread, and a panic in it ends the run.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Most violations that are kept: one fault shows in everything after it.
const VIOLATIONS_MAX: usize = 20;

/// What is watched.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) finals: BTreeMap<u64, (Digest, usize)>,
    lies: BTreeSet<Digest>,
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) violations: Vec<String>,
}

impl Ledger {
    /// Counts what happened.
    pub(crate) fn count(&mut self, what: &str) {
        self.add(what, 1);
    }

    /// Counts what happened several times.
    pub(crate) fn add(&mut self, what: &str, times: u64) {
        if times > 0 {
            *self.counts.entry(what.to_owned()).or_default() += times;
        }
    }

    /// Notes what must not happen.
    pub(crate) fn violation(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }

    /// A validator that is honest has a header recorded as final.
    pub(crate) fn is_final(&mut self, who: usize, header: &Header) {
        let (digest, height) = (header.digest(), header.height);
        if self.is_lie(&digest) {
            self.violation(format!("block {height} is final with wrong roots"));
        }
        let (first, by) = *self.finals.entry(height).or_insert((digest, who));
        if first != digest {
            self.violation(format!("safety: validators {by} and {who} differ in block {height}"));
        }
    }

    /// A liar made this header.
    pub(crate) fn lie(&mut self, digest: Digest) {
        self.lies.insert(digest);
        self.count("wrong roots proposed");
    }

    /// Whether a liar made it.
    pub(crate) fn is_lie(&self, digest: &Digest) -> bool {
        self.lies.contains(digest)
    }

    /// A proposal was not voted for.
    pub(crate) fn refused(&mut self, refusal: &HeaderRefusal) {
        self.count(match refusal {
            HeaderRefusal::Time => "proposals refused: time",
            HeaderRefusal::Cut(_) => "proposals refused: cut",
            HeaderRefusal::Differs(_) => "proposals refused: roots",
        });
    }
}
