//! Verifies the signatures of batches, with tables for the keys that sign often.
//!
//! A table makes a verification several times cheaper and takes some 90 KB, so they are kept within
//! a bound of memory, shared by all workers, for the keys that are met again and again. Tables are
//! built outside the lock, by the worker that met the key once too often.
//!
//! Invariants
//! - A verdict follows from key, message and signature alone, never from which tables are there.

use piaogen_crypto::Lanes;
use piaogen_crypto::sm2::{CacheStats, Job, KeyTables, PublicKey};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A key that signed so often gets a table. Building one costs about seven verifications without
/// it and is repaid after nine with it, so a key that has come back four times is worth the bet.
const USES: u32 = 4;

/// What verifies the signatures of whole batches: the lanes of this machine ([`Signatures`]), or a
/// card beside it. One serves all workers.
///
/// A call waits for its verdicts, but only the worker that made it waits: as many batches are under
/// way as there are workers. So a device that works while it is fed, and that wants more at once than
/// one worker has, collects what several calls bring, and answers each when its own part is done;
/// with more workers than cores (`lanes` in the configuration) the cores check other records
/// meanwhile.
///
/// An implementation gives the verdict of each job by that job alone. One that loses its device goes
/// on with the processor, or does not return: a wrong verdict would be executed.
pub trait Verifier: fmt::Debug + Send + Sync {
    /// Writes a verdict for each job; there are as many places as jobs.
    fn verify(&self, jobs: &[Job<'_>], out: &mut [bool]);
}

/// Verifies signatures in lanes; one for all workers of a node.
#[derive(Debug)]
pub struct Signatures {
    lanes: Lanes,
    tables: Mutex<KeyTables>,
}

impl Signatures {
    /// Verifies in `lanes`, with at most `table_bytes` of tables.
    pub fn new(lanes: Lanes, table_bytes: usize) -> Signatures {
        Signatures { lanes, tables: Mutex::new(KeyTables::new(table_bytes, USES)) }
    }

    /// What the tables were good for so far.
    pub fn stats(&self) -> CacheStats {
        self.lock().stats()
    }

    fn lock(&self) -> MutexGuard<'_, KeyTables> {
        // Whatever a panic left there is only a cache, and its tables are whole.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verifier for Signatures {
    fn verify(&self, jobs: &[Job<'_>], out: &mut [bool]) {
        let keys: Vec<&PublicKey> = jobs.iter().map(|job| job.key).collect();
        let plan = self.lock().plan(&keys);
        if !plan.promote.is_empty() {
            let built = self.lanes.sm2_tables(&plan.promote.iter().collect::<Vec<_>>());
            self.lock().insert(built);
        }
        let tables: Vec<_> = plan.tables.iter().map(Option::as_deref).collect();
        self.lanes.sm2_verify_known(jobs, &tables, out);
    }
}
