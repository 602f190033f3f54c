//! Evidence of a record log that was rewritten, good and bad, for the vectors of evidence.

use super::Spoil;
use crate::common::epochs::{Epochs, TIP};
use piaogen_crypto::Digest;
use piaogen_verify::evidence::{Difference, Evidence, LogAt, RewrittenLog, Subtree};
use piaogen_verify::header::{Header, ShardEntry, shards_root};
use piaogen_verify::merkle::{self, leaf};
use piaogen_verify::refusal::Step;

/// The block that has the first log, and the one that has the second.
const BLOCKS: [usize; 2] = [31, TIP];
/// The shard whose log is rewritten.
const SHARD: usize = 1;

/// The leaves of a log, from one on other than they were.
fn leaves(size: u64, other_from: u64) -> Vec<Digest> {
    (0..size)
        .map(|i| leaf(&[&i.to_be_bytes()[..], &[u8::from(i >= other_from)]].concat()))
        .collect()
}

fn shards(log: &[Digest]) -> Vec<ShardEntry> {
    let mut shards: Vec<ShardEntry> = (0..3).map(ShardEntry::empty).collect();
    let (log_size, log_root) = (log.len() as u64, merkle::root_of_leaves(log));
    shards[SHARD] =
        ShardEntry { next_offset: log_size, log_size, log_root, ..ShardEntry::empty(SHARD as u32) };
    shards
}

/// The chain of the epochs, whose shards are these from the first block on, and those in the last.
fn chain(epochs: &Epochs, blocks: [usize; 2], logs: [&[Digest]; 2]) -> Epochs {
    let [first, second] = logs.map(|log| shards_root(&shards(log)));
    epochs.changed(blocks[0], |header| {
        let last = header.height == blocks[1] as u64;
        Header { shards_root: if last { second } else { first }, ..header }
    })
}

fn log_at(epochs: &Epochs, block: usize, log: &[Digest], shard: usize) -> LogAt {
    let shards = shards(log);
    let leaves: Vec<Digest> = shards.iter().map(ShardEntry::leaf).collect();
    let Ok(shard_proof) = merkle::prove_inclusion(&leaves[..], shard as u64, 3);
    let block = epochs.certified(block, 2 * block as u64);
    LogAt { block, shard: shards[shard], shard_proof }
}

fn subtree(log: &[Digest], level: u8, index: u64) -> Subtree {
    let (from, to) = (index << level, (index + 1) << level);
    let hash = merkle::root_of_leaves(&log[from as usize..to as usize]);
    let Ok(proof) = merkle::prove_subtree(log, level, index, log.len() as u64);
    Subtree { hash, proof }
}

/// Evidence of two logs that differ in a subtree, or in nothing but their size or root.
fn rewritten(epochs: &Epochs, logs: [&[Digest]; 2], at: Option<(u8, u64)>) -> RewrittenLog {
    rewritten_in(epochs, BLOCKS, logs, at)
}

fn rewritten_in(
    epochs: &Epochs,
    blocks: [usize; 2],
    logs: [&[Digest]; 2],
    at: Option<(u8, u64)>,
) -> RewrittenLog {
    let chain = chain(epochs, blocks, logs);
    let [older, newer] = logs;
    RewrittenLog {
        older: log_at(&chain, blocks[0], older, SHARD),
        newer: log_at(&chain, blocks[1], newer, SHARD),
        history: chain.history_proof(blocks[0], blocks[1]),
        difference: at.map(|(level, index)| Difference {
            level,
            index,
            older: subtree(older, level, index),
            newer: subtree(newer, level, index),
        }),
    }
}

const NEVER: u64 = u64::MAX;

/// Leaf 700 of 1,000 is another when the log has 1,300.
fn longer(epochs: &Epochs) -> RewrittenLog {
    rewritten(epochs, [&leaves(1_000, NEVER), &leaves(1_300, 700)], Some((0, 700)))
}

fn evidence(rewritten: RewrittenLog) -> Evidence {
    Evidence::RewrittenLog(Box::new(rewritten))
}

pub(super) fn good(epochs: &Epochs) -> Vec<(&'static str, Evidence)> {
    let of = |old, new, from, at| {
        evidence(rewritten(epochs, [&leaves(old, NEVER), &leaves(new, from)], at))
    };
    vec![
        ("a_leaf_is_another", evidence(longer(epochs))),
        ("a_subtree_of_256_is_another", of(1_000, 1_300, 700, Some((8, 2)))),
        ("the_whole_log_is_another", of(1, 2, 0, Some((0, 0)))),
        ("the_last_complete_subtree", of(12, 13, 11, Some((2, 2)))),
        ("the_log_is_shorter", of(1_000, 999, NEVER, None)),
        ("the_log_is_gone", of(1_000, 0, NEVER, None)),
        ("another_log_as_long", of(1_000, 1_000, 999, None)),
        ("rewritten_between_epochs", evidence(between_epochs(epochs))),
    ]
}

/// A log that was rewritten since an epoch before that of the later block.
fn between_epochs(epochs: &Epochs) -> RewrittenLog {
    let logs: [&[Digest]; 2] = [&leaves(1_000, NEVER), &leaves(1_300, 700)];
    rewritten_in(epochs, [15, TIP], logs, Some((0, 700)))
}

/// What proves something to who trusts the set of the last epoch, and none before.
pub(super) fn good_to_later(epochs: &Epochs) -> Vec<(&'static str, Evidence)> {
    let mut unsigned = between_epochs(epochs);
    *unsigned.older.block.certificate.last_mut().unwrap() ^= 1;
    vec![
        ("of_the_trust_roots_epoch", evidence(longer(epochs))),
        ("older_log_of_an_earlier_epoch", evidence(between_epochs(epochs))),
        ("older_log_of_an_earlier_epoch_needs_no_certificate", evidence(unsigned)),
    ]
}

/// What does not.
pub(super) fn bad_to_later(epochs: &Epochs) -> Vec<(&'static str, Step, Evidence)> {
    let mut unsigned = between_epochs(epochs);
    *unsigned.newer.block.certificate.last_mut().unwrap() ^= 1;
    let mut elsewhere = between_epochs(epochs);
    elsewhere.history[0][0] ^= 1;
    let early = rewritten_in(epochs, [5, 15], [&leaves(2, NEVER), &leaves(1, NEVER)], None);
    vec![
        ("newer_log_not_certified", Step::Signature, evidence(unsigned)),
        ("older_log_not_in_the_history", Step::History, evidence(elsewhere)),
        ("both_logs_of_earlier_epochs", Step::Epoch, evidence(early)),
    ]
}

/// Evidence of a subtree of a level, encoded.
pub(super) fn of_level(epochs: &Epochs, level: u8) -> Vec<u8> {
    let mut log = longer(epochs);
    log.difference.as_mut().unwrap().level = level;
    evidence(log).encode()
}

/// Spoils of the log that grew.
pub(super) fn bad() -> Vec<(&'static str, Step, Spoil)> {
    fn edit(evidence: &mut Evidence, edit: impl Fn(&mut RewrittenLog, &mut Difference)) {
        let Evidence::RewrittenLog(log) = evidence else { panic!("a log") };
        let mut difference = log.difference.clone().unwrap();
        edit(log, &mut difference);
        log.difference = Some(difference);
    }
    let mut all: Vec<(&'static str, Step, Spoil)> = vec![
        ("older_hash", Step::Inclusion, |_, l| edit(l, |_, d| d.older.hash[0] ^= 1)),
        ("newer_hash", Step::Inclusion, |_, l| edit(l, |_, d| d.newer.hash[0] ^= 1)),
        ("older_proof", Step::Inclusion, |_, l| edit(l, |_, d| d.older.proof[3][0] ^= 1)),
        ("proof_longer", Step::Inclusion, |_, l| edit(l, |_, d| d.newer.proof.push([1; 32]))),
        ("proof_shorter", Step::Inclusion, |_, l| {
            edit(l, |_, d| d.newer.proof.truncate(2));
        }),
        ("another_place", Step::Inclusion, |_, l| edit(l, |_, d| d.index ^= 1)),
        ("beyond_the_log", Step::Inclusion, |_, l| edit(l, |_, d| d.index = 1_000)),
        ("another_level", Step::Inclusion, |_, l| edit(l, |_, d| d.level = 1)),
        ("log_root", Step::Inclusion, |_, l| edit(l, |log, _| log.older.shard.log_root[0] ^= 1)),
        ("shard_entry", Step::Shard, |_, l| edit(l, |log, _| log.newer.shard.invoices += 1)),
        ("shard_proof", Step::Shard, |_, l| edit(l, |log, _| log.older.shard_proof[0][0] ^= 1)),
        ("log_of_another_chain", Step::Chain, |_, l| {
            edit(l, |log, _| log.older.block.header.chain[0] ^= 1);
        }),
        ("history_of_the_log", Step::History, |_, l| edit(l, |log, _| log.history[0][0] ^= 1)),
        ("log_not_certified", Step::Signature, |_, l| {
            edit(l, |log, _| *log.newer.block.certificate.last_mut().unwrap() ^= 1);
        }),
        ("older_log_not_certified", Step::Signature, |_, l| {
            edit(l, |log, _| *log.older.block.certificate.last_mut().unwrap() ^= 1);
        }),
        ("log_without_changes", Step::Validators, |_, l| {
            edit(l, |log, _| log.newer.block.changes.clear());
        }),
    ];
    all.extend(spoils_of_statements());
    all
}

/// Where all is right, and yet nothing contradicts.
fn spoils_of_statements() -> Vec<(&'static str, Step, Spoil)> {
    fn put(evidence: &mut Evidence, log: RewrittenLog) {
        *evidence = Evidence::RewrittenLog(Box::new(log));
    }
    vec![
        ("the_log_only_grew", Step::Conflict, |e, l| {
            let logs: [&[Digest]; 2] = [&leaves(1_000, NEVER), &leaves(1_300, 1_000)];
            put(l, rewritten(e, logs, Some((0, 700))));
        }),
        ("the_same_log", Step::Conflict, |e, l| {
            let log = leaves(1_000, NEVER);
            put(l, rewritten(e, [&log, &log], None));
        }),
        ("difference_left_out", Step::Conflict, |e, l| {
            put(l, RewrittenLog { difference: None, ..longer(e) });
        }),
        ("difference_of_one_size", Step::Conflict, |e, l| {
            let logs: [&[Digest]; 2] = [&leaves(1_000, NEVER), &leaves(1_000, 700)];
            put(l, rewritten(e, logs, Some((0, 700))));
        }),
        // The last 232 leaves are one hash in the first log, and part of a larger one in the second.
        ("an_incomplete_subtree", Step::Inclusion, |e, l| {
            let (older, newer) = (leaves(1_000, NEVER), leaves(1_300, 1_000));
            let mut log = rewritten(e, [&older, &newer], Some((8, 2)));
            let Ok(proof) = merkle::prove_inclusion(&older[..], 999, 1_000);
            let difference = log.difference.as_mut().unwrap();
            difference.index = 3;
            difference.older.hash = merkle::root_of_leaves(&older[768..]);
            difference.older.proof = proof[proof.len() - 2..].to_vec();
            difference.newer = subtree(&newer, 8, 3);
            put(l, log);
        }),
        ("logs_of_two_shards", Step::Conflict, |e, l| {
            let logs: [&[Digest]; 2] = [&leaves(1_000, NEVER), &leaves(999, NEVER)];
            let chain = chain(e, BLOCKS, logs);
            let newer = log_at(&chain, BLOCKS[1], logs[1], SHARD + 1);
            put(l, RewrittenLog { newer, ..rewritten(e, logs, None) });
        }),
        // Of two histories each log may be the true one of its own.
        ("log_of_a_fork", Step::History, |e, l| {
            let log = longer(e);
            let fork = RewrittenLog { newer: longer(&e.forked(30)).newer, ..log };
            put(l, fork);
        }),
        ("newer_log_first", Step::History, |e, l| {
            let log = rewritten(e, [&leaves(999, NEVER), &leaves(1_000, NEVER)], Some((0, 7)));
            let (older, newer) = (log.newer, log.older);
            put(l, RewrittenLog { older, newer, history: log.history, difference: None });
        }),
    ]
}
