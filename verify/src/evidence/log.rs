//! A record log that a later block rewrote, though the earlier block is in its history.
//!
//! That there is no consistency proof cannot be shown. What can: that the later log is not longer,
//! and yet another; or that one and the same subtree, complete in both, has one hash in the one and
//! another in the other. Hash by hash down to a leaf this is found by whoever has both logs, and a
//! few digests show it to everybody else.
//!
//! *Why must the later block know the earlier one?* In two histories the same records may have other
//! outcomes, since time and cuts differ. In one, a log only grows. So the certificate of the later block
//! alone proves that it was rewritten; that of the earlier one says who signed both, to who still trusts
//! its set.
//!
//! Invariants
//! - Only complete subtrees are compared: what is incomplete changes as a log grows.

use super::{Certified, Verdict, conflict};
use crate::consistency::{check_chain, check_history};
use crate::encoding::{DecodeError, Reader, put_digests, put_vint};
use crate::header::ShardEntry;
use crate::merkle::{PROOF_MAX, root_from_subtree};
use crate::receipt::{SHARD_PROOF_MAX, check_shard};
use crate::refusal::{Refusal, Step};
use crate::trust_root::TrustRoot;
use alloc::string::String;
use alloc::vec::Vec;
use piaogen_crypto::Digest;

/// The highest level that a subtree may have.
pub(super) const LEVEL_MAX: u8 = 63;

/// A record log as of a final block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogAt {
    /// The block.
    pub block: Certified,
    /// What it says of the shard.
    pub shard: ShardEntry,
    /// The way from there to the header's `shards_root`.
    pub shard_proof: Vec<Digest>,
}

/// The hash of a subtree of a log, and the way from there to the log's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subtree {
    /// Its hash.
    pub hash: Digest,
    /// The way to the root.
    pub proof: Vec<Digest>,
}

/// A subtree that is one thing in the one log and another in the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its level: it has 2^level leaves.
    pub level: u8,
    /// Its place on that level.
    pub index: u64,
    /// What it is in the earlier log.
    pub older: Subtree,
    /// What it is in the later one.
    pub newer: Subtree,
}

/// A log that does not extend what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewrittenLog {
    /// What it was.
    pub older: LogAt,
    /// What it became.
    pub newer: LogAt,
    /// The way from the earlier header to the later one's `history_root`.
    pub history: Vec<Digest>,
    /// Where the later log is longer: what of the earlier one is another there.
    pub difference: Option<Difference>,
}

impl LogAt {
    fn put(&self, out: &mut Vec<u8>) {
        self.block.put(out);
        out.extend_from_slice(&self.shard.encode());
        put_digests(out, &self.shard_proof);
    }

    fn take(r: &mut Reader<'_>) -> Result<LogAt, DecodeError> {
        let block = Certified::take(r)?;
        let shard = ShardEntry::decode(r)?;
        Ok(LogAt { block, shard, shard_proof: r.digests("shard proof", SHARD_PROOF_MAX)? })
    }
}

impl Subtree {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash);
        put_digests(out, &self.proof);
    }

    fn take(r: &mut Reader<'_>) -> Result<Subtree, DecodeError> {
        let hash = r.array()?;
        Ok(Subtree { hash, proof: r.digests("proof of a subtree", PROOF_MAX)? })
    }
}

impl Difference {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.level);
        put_vint(out, self.index);
        self.older.put(out);
        self.newer.put(out);
    }

    fn take(r: &mut Reader<'_>) -> Result<Difference, DecodeError> {
        let level = r.u8()?;
        if level > LEVEL_MAX {
            let (value, limit) = (level.into(), LEVEL_MAX.into());
            return Err(DecodeError::Limit { what: "level of a subtree", value, limit });
        }
        let index = r.vint()?;
        let (older, newer) = (Subtree::take(r)?, Subtree::take(r)?);
        Ok(Difference { level, index, older, newer })
    }

    /// Step `inclusion`: both hashes are in their logs.
    fn check(&self, older: &ShardEntry, newer: &ShardEntry) -> Result<(), Refusal> {
        for (log, subtree) in [(older, &self.older), (newer, &self.newer)] {
            let (level, index, size) = (self.level, self.index, log.log_size);
            let root = root_from_subtree(&subtree.hash, level, index, size, &subtree.proof);
            if root != Some(log.log_root) {
                let detail = alloc::format!(
                    "subtree {index} of level {level} is not so in the log of {size} leaves"
                );
                return Err(Refusal::new(Step::Inclusion, detail));
            }
        }
        Ok(())
    }

    /// Which entries of the log are not what they were.
    fn entries(&self) -> String {
        let (first, count) = (self.index << self.level, 1u64 << self.level);
        match count {
            1 => alloc::format!("entry {first}"),
            _ => alloc::format!("one of entries {first} to {}", first + (count - 1)),
        }
    }
}

impl RewrittenLog {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        self.older.put(out);
        self.newer.put(out);
        put_digests(out, &self.history);
        out.push(self.difference.is_some().into());
        if let Some(difference) = &self.difference {
            difference.put(out);
        }
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<RewrittenLog, DecodeError> {
        let (older, newer) = (LogAt::take(r)?, LogAt::take(r)?);
        let history = r.digests("history proof", PROOF_MAX)?;
        let difference = match r.u8()? {
            0 => None,
            1 => Some(Difference::take(r)?),
            _ => return Err(DecodeError::Fixed { what: "mark of a difference" }),
        };
        Ok(RewrittenLog { older, newer, history, difference })
    }

    pub(super) fn verify(&self, kind: &'static str, trust: &TrustRoot) -> Result<Verdict, Refusal> {
        let (older, newer) = (&self.older, &self.newer);
        let (old, new) = (&older.shard, &newer.shard);
        if self.difference.is_some() != (new.log_size > old.log_size) {
            return conflict(
                "a difference belongs to a second log that is longer, and to no other",
            );
        }
        if let Some(difference) = &self.difference {
            difference.check(old, new)?;
        }
        for log in [older, newer] {
            check_shard(&log.block.header, &log.shard, &log.shard_proof)?;
        }
        check_chain(trust, older.block.headers().chain(newer.block.headers()))?;
        check_history(&older.block.header, &newer.block.header, &self.history)?;
        let what = self.found()?;
        // A set that handed over before the trust root's is asked nothing any more.
        let first = match older.block.header.epoch < trust.epoch {
            true => Vec::new(),
            false => older.block.check(trust)?.signers,
        };
        let second = newer.block.check(trust)?.signers;
        // A log that one has computed oneself only grows: who signed both let go of the first.
        let liars: Vec<_> = first.iter().filter(|one| second.contains(one)).cloned().collect();
        Ok(Verdict { kind, what, liars_min: liars.len() as u32, first, second, liars })
    }

    /// Step `conflict`: what was rewritten.
    fn found(&self) -> Result<String, Refusal> {
        let (old, new) = (&self.older.shard, &self.newer.shard);
        let (low, high) = (self.older.block.header.height, self.newer.block.header.height);
        if old.shard != new.shard {
            return conflict("these are logs of two shards");
        }
        let (shard, size, later) = (old.shard, old.log_size, new.log_size);
        match &self.difference {
            Some(difference) if difference.older.hash == difference.newer.hash => {
                conflict("the subtree is the same in both logs")
            }
            Some(difference) => Ok(alloc::format!(
                "the log of shard {shard} was rewritten between final blocks {low} and {high}: \
                 {} is another",
                difference.entries()
            )),
            None if later < size => Ok(alloc::format!(
                "the log of shard {shard} has {size} entries in final block {low}, and {later} in \
                 final block {high}"
            )),
            None if old.log_root == new.log_root => conflict("the log is the same in both blocks"),
            None => Ok(alloc::format!(
                "the log of shard {shard} has {size} entries in final blocks {low} and {high}, and \
                 not the same"
            )),
        }
    }
}
