//! The chain of headers in an audit: what each says of the rows before it.
//!
//! Blocks are taken in windows. In each, shards run in parallel and give their states block by
//! block; then the headers are compared with these states in order.
//!
//! Invariants
//! - A header is compared with the shards as they are after the cut of the block before it.
//! - A wrong header stops the comparison with rows, not the checks of rows.
//! - A set certifies what its digest is in; that digest follows from the header before.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};

use piaogen_verify::Digest;
use piaogen_verify::certificate::{Certificate, verify_final};
use piaogen_verify::encoding::Reader;
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::header::{Header, ShardEntry, ValidatorSet};
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::{merkle, record, value};
use rayon::prelude::*;

use super::shard::{BlockPart, Frontier, Keys, ShardAudit};
use super::{Audit, Check};
use crate::archive::{ArchivedBlock, Series};
use crate::error::Result;

/// Blocks of one window.
const WINDOW: usize = 256;

/// How much the headers cover.
#[derive(Default)]
pub(super) struct Covered {
    pub(super) rows: u64,
    pub(super) blocks: u64,
    pub(super) height: Option<u64>,
}

/// A block whose header decodes.
struct Block {
    archived: ArchivedBlock,
    header: Header,
    /// It is final, and follows the block before.
    good: bool,
}

/// The chain so far.
struct Chain<'a> {
    audit: &'a Audit<'a>,
    trust: &'a TrustRoot,
    genesis: Option<&'a Genesis>,
    /// Every set that the genesis, the registry or the trust root names, by its digest.
    sets: Sets,
    history: Frontier,
    history_broken: bool,
    last: Option<Block>,
    shards: Vec<ShardEntry>,
    leaves: Vec<Digest>,
    /// Headers no longer cover rows: something before was wrong.
    uncovered: bool,
    covered: Covered,
}

/// Checks blocks and rows.
pub(super) fn check(
    audit: &Audit<'_>,
    trust: &TrustRoot,
    genesis: Option<&Genesis>,
) -> Result<Covered> {
    let (keys, sets) = collect_keys(audit, trust, genesis)?;
    let mut blocks = audit.archive.blocks(0).peekable();
    let shards_archived = audit.archive.shards().last().map_or(0, |last| last + 1);
    // The number of shards is known from the first header; without blocks nothing is covered.
    let count = match blocks.peek() {
        Some(Ok(block)) => decode(block).map_or(0, |header| header.shards.min(4_097)),
        _ => 0,
    };
    let segments = audit.archive.segments();
    let mut shards: Vec<ShardAudit<'_>> = (0..count.max(shards_archived))
        .map(|shard| {
            let own = segments.iter().filter(|s| s.series() == Series::Records(shard)).cloned();
            ShardAudit::new(audit, &keys, shard, own.collect::<VecDeque<_>>())
        })
        .collect();
    let states: Vec<ShardEntry> = (0..count).map(ShardEntry::empty).collect();
    let mut chain = Chain {
        audit,
        trust,
        genesis,
        sets,
        history: Frontier::default(),
        history_broken: false,
        last: None,
        leaves: states.iter().map(ShardEntry::leaf).collect(),
        shards: states,
        uncovered: false,
        covered: Covered::default(),
    };
    loop {
        let window = chain.read_window(&mut blocks)?;
        if window.is_empty() {
            break;
        }
        chain.execute(&window, &mut shards)?;
    }
    if chain.covered.blocks == 0 && !segments.is_empty() {
        audit.find("blocks", None, Check::File, "no block is archived, so nothing covers the rows");
    }
    shards.par_iter_mut().try_for_each(ShardAudit::drain)?;
    Ok(chain.covered)
}

fn decode(block: &ArchivedBlock) -> Option<Header> {
    let mut reader = Reader::new(&block.header);
    let header = Header::decode(&mut reader).ok()?;
    reader.end().ok().map(|()| header)
}

impl Chain<'_> {
    /// The next blocks, each checked by itself and against the one before.
    fn read_window(
        &mut self,
        blocks: &mut impl Iterator<Item = Result<ArchivedBlock>>,
    ) -> Result<Vec<Block>> {
        let mut window: Vec<Block> = Vec::new();
        for next in blocks.take(WINDOW) {
            let archived = match next {
                Ok(archived) => archived,
                Err(error) if !error.is_fatal() => return Err(error),
                Err(error) => {
                    self.audit.find("blocks", None, Check::Columns, error.to_string());
                    break;
                }
            };
            let Some(header) = decode(&archived) else {
                let (path, height) = (archived.path.clone(), archived.height);
                self.audit.find(&path, Some(height), Check::Header, "it does not decode");
                break;
            };
            let mut block = Block { archived, header, good: true };
            let before = window.last().or(self.last.as_ref());
            block.good = self.check_header(&block, before);
            // One wrong header makes all histories behind it wrong.
            if !self.history_broken && self.history.root() != header.history_root {
                self.history_broken = true;
                let detail = "its history root does not follow from the headers before";
                self.find(&block, Check::History, detail);
                block.good = false;
            }
            self.history.push(header.leaf());
            window.push(block);
        }
        window.par_iter_mut().for_each(|block| block.good &= self.check_certificate(block));
        Ok(window)
    }

    fn find(&self, block: &Block, check: Check, detail: impl Into<String>) {
        self.audit.find(&block.archived.path, Some(block.header.height), check, detail);
    }

    fn check_header(&self, block: &Block, before: Option<&Block>) -> bool {
        let good = Cell::new(true);
        let wrong = |check, detail: String| {
            good.set(false);
            self.find(block, check, detail);
        };
        let (header, archived) = (&block.header, &block.archived);
        let same = header.height == archived.height
            && header.time_ms == archived.time_ms
            && header.digest() == archived.digest;
        if !same {
            wrong(Check::Header, "its columns do not say what the header says".into());
        }
        if header.chain != self.trust.chain {
            wrong(Check::Header, "it is of another chain".into());
        }
        if header.cut != archived.cut.digest() {
            wrong(Check::Cut, "the cut is not the one of the header".into());
        }
        if archived.cut.0.len() != self.shards.len() || header.shards as usize != self.shards.len()
        {
            wrong(Check::Cut, format!("it has not {} shards", self.shards.len()));
        }
        match before {
            Some(before) => {
                if header.parent != before.header.digest() {
                    wrong(Check::Header, "it does not follow the header before".into());
                }
                if (header.epoch, header.validators) != before.header.next_epoch() {
                    let what = "its epoch or validators do not follow from the header before";
                    wrong(Check::Header, what.into());
                }
                let pairs = before.archived.cut.0.iter().zip(&archived.cut.0);
                if pairs.into_iter().any(|(old, new)| old > new) {
                    wrong(Check::Cut, "an offset is behind that of the cut before".into());
                }
            }
            None => {
                let expected = self.genesis.map(Genesis::header);
                if expected.is_some_and(|expected| expected != *header) {
                    wrong(Check::Header, "it does not follow from the genesis file".into());
                }
            }
        }
        good.get()
    }

    fn check_certificate(&self, block: &Block) -> bool {
        // The block at height 0 follows from the genesis.
        if block.header.height == 0 {
            return true;
        }
        let held = Certificate::decode(&block.archived.certificate)
            .map_err(|error| format!("it does not decode: {error}"))
            .and_then(|certificate| {
                let named = &block.header.validators;
                let trusted = block.header.epoch == self.trust.epoch;
                if trusted && *named != self.trust.validators.digest() {
                    return Err("its validators are not those of the trust root".into());
                }
                let set = self.sets.get(named).ok_or_else(|| {
                    format!("no record of the registry names the set {}", hex::encode(named))
                })?;
                verify_final(&block.header, &certificate, set)
                    .map_err(|refusal| refusal.to_string())
            });
        match held {
            Ok(()) => true,
            Err(detail) => {
                self.find(block, Check::Certificate, detail);
                false
            }
        }
    }

    /// Executes a window in all shards, and compares each header with what came before it.
    fn execute(&mut self, window: &[Block], shards: &mut [ShardAudit<'_>]) -> Result<()> {
        let changes: Vec<Vec<(usize, ShardEntry)>> = shards
            .par_iter_mut()
            .map(|shard| {
                let at = shard.state.shard as usize;
                let part = |block: &Block| BlockPart {
                    height: block.header.height,
                    time_ms: block.header.time_ms,
                    next_offset: block.archived.cut.0.get(at).copied().unwrap_or(0),
                };
                let parts: Vec<BlockPart> = window.iter().map(part).collect();
                shard.advance(&parts)
            })
            .collect::<Result<_>>()?;
        let mut changes: Vec<_> =
            changes.into_iter().map(|of_shard| of_shard.into_iter().peekable()).collect();
        let mut touched = Vec::new();
        for (at, block) in window.iter().enumerate() {
            self.compare(block, &touched);
            touched.clear();
            for state in changes
                .iter_mut()
                .filter_map(|of_shard| of_shard.next_if(|(place, _)| *place == at))
            {
                let shard = state.1.shard as usize;
                if let (Some(held), Some(leaf)) =
                    (self.shards.get_mut(shard), self.leaves.get_mut(shard))
                {
                    (*held, *leaf) = (state.1, state.1.leaf());
                    touched.push(state.1.shard);
                }
            }
            self.covered.blocks += 1;
        }
        if let Some(broken) = shards.iter().find(|shard| shard.broken)
            && !self.uncovered
        {
            self.uncovered = true;
            let shard = broken.state.shard;
            if let Some(block) = window.last() {
                let detail = format!(
                    "from here on headers cannot be compared with rows: shard {shard} is damaged"
                );
                self.find(block, Check::ShardsRoot, detail);
            }
        }
        if let Some(block) = window.last() {
            let archived = block.archived.clone();
            self.last = Some(Block { archived, header: block.header, good: block.good });
        }
        Ok(())
    }

    /// Whether a header says what the shards are after the block before. `touched` are the shards
    /// which that block changed.
    fn compare(&mut self, block: &Block, touched: &[u32]) {
        self.uncovered |= !block.good;
        if self.uncovered {
            return;
        }
        let rows: u64 = self.shards.iter().map(|shard| shard.log_size).sum();
        let header = &block.header;
        let detail = if rows != header.records {
            format!(
                "the header counts {} rows before it, the archive has {rows}: rows of block {} in \
                 shards {touched:?} were dropped or added, or rows of a shard are missing",
                header.records,
                header.height.saturating_sub(1)
            )
        } else if merkle::root_of_leaves(&self.leaves) != header.shards_root {
            format!(
                "the header's root does not follow from the rows before it: a row of block {} in \
                 shards {touched:?} is not the original",
                header.height.saturating_sub(1)
            )
        } else {
            self.covered.rows = rows;
            self.covered.height = Some(header.height);
            return;
        };
        self.uncovered = true;
        self.find(block, Check::ShardsRoot, detail);
    }
}

/// Validator sets by their digests.
type Sets = HashMap<Digest, ValidatorSet>;

/// The public keys of all who ever took part, and all validator sets, from the genesis and the
/// registry's rows. That a set is known says nothing: headers say which is whose.
fn collect_keys(
    audit: &Audit<'_>,
    trust: &TrustRoot,
    genesis: Option<&Genesis>,
) -> Result<(Keys, Sets)> {
    let mut keys = Keys::new();
    let mut sets = Sets::from([(trust.validators.digest(), trust.validators.clone())]);
    let Some(genesis) = genesis else { return Ok((keys, sets)) };
    sets.insert(genesis.validators.digest(), genesis.validators.clone());
    for (.., key) in &genesis.participants {
        keys.insert(key.key_id(), key.clone());
    }
    for row in audit.archive.rows(genesis.file.partitions, 0) {
        let row = match row {
            Err(error) if error.is_fatal() => break,
            row => row?,
        };
        let accepted =
            Entry::decode(&row.entry).is_ok_and(|entry| entry.outcome == Outcome::Accepted);
        let Ok(record) = record::decode(&row.record) else { continue };
        let bytes = record.get(tag::PUBLIC_KEY).and_then(|bytes| bytes.try_into().ok());
        if let (true, Some(bytes)) = (accepted, bytes)
            && let Ok(key) = piaogen_crypto::sm2::PublicKey::from_compressed(bytes)
        {
            keys.insert(key.key_id(), key);
        }
        let set = record.get(tag::VALIDATORS).and_then(|bytes| value::keys_of(bytes).ok());
        if let Some(set) = set.and_then(|keys| ValidatorSet::of_compressed(&keys)) {
            sets.insert(set.digest(), set);
        }
    }
    Ok((keys, sets))
}
