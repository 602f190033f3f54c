//! What must hold when a run is over, for every honest validator.
//!
//! Invariants
//! - Each check takes what it compares with from elsewhere: outcomes from who sent the records, roots
//!   from one execution without interruption, proofs from `piaogen_verify` and the trust root alone.

use crate::dice::Dice;
use crate::faults::{AGAIN, OVERTAKEN};
use crate::ledger::{Ledger, held};
use crate::machine::Machine;
use crate::plan::Role;
use crate::replica::Inner;
use crate::state::State;
use crate::stream::Feed;
use crate::world::{LATE_MAX, World};
use piaogen_crypto::{Digest, Lanes};
use piaogen_ingest::check::{CheckContext, Checker, KeyDirectory};
use piaogen_loadgen::outcomes::{Checker as Foretold, Sent};
use piaogen_order::simulation::{Noises, Trace};
use piaogen_verify::checked::CheckedBatch;
use piaogen_verify::consistency::Consistency;
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::evidence::{Evidence, Signer};
use piaogen_verify::follow::Follower;
use piaogen_verify::header::shards_root;
use piaogen_verify::opening;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::record::RecordKind;
use piaogen_verify::status::StatusReceipt;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

/// Records of each shard whose receipts are made and checked at each validator.
const RECEIPTS: usize = 3;
/// What travels on each channel (PROTOCOL section 5.2).
const CHANNELS: [&str; 5] = ["votes", "certificates", "views", "bodies", "requests"];
/// Epochs of which each validator's receipts are made and checked.
const EPOCHS: usize = 3;

/// Checks everything; what is wrong is a violation in the ledger.
pub(crate) fn check(world: &World, seed: u64) {
    let mut dice = Dice::new(seed, 3);
    let again = execute_again(world);
    let mut seen = HashSet::new();
    for machine in world.honest() {
        let inner = held(&machine.replica.inner);
        let mut found = Found { who: inner.character.who, ledger: &world.shared.ledger };
        nothing_is_lost(world, &inner, &mut found);
        epochs(world, &inner, &mut found);
        roots(world, &inner, again.as_ref(), &mut found);
        outcomes(world, &inner, &mut found);
        receipts(world, &inner, &mut dice, &mut found);
        earlier_receipts(world, &inner, &mut dice, &mut found);
        history(world, &inner, (&mut dice, &mut seen), &mut found);
    }
    for (who, machine) in world.machines.iter().enumerate() {
        if world.plan.roles[who] != Role::Honest {
            continue;
        }
        regained(machine, &mut Found { who, ledger: &world.shared.ledger });
    }
}

struct Found<'a> {
    who: usize,
    ledger: &'a std::sync::Mutex<Ledger>,
}

impl Found<'_> {
    fn wrong(&mut self, what: String) {
        held(self.ledger).violation(format!("{what} (validator {})", self.who));
    }

    fn count(&self, what: &str) {
        held(self.ledger).count(what);
    }
}

/// P7: what any honest validator ever had as final, all have.
fn nothing_is_lost(world: &World, inner: &Inner, found: &mut Found<'_>) {
    let finals = held(&world.shared.ledger).finals.clone();
    let mut missing = 0;
    for (height, (digest, by)) in finals {
        match inner.blocks.get(height as usize - 1) {
            Some(block) if block.header.digest() == digest => {}
            Some(_) => found.wrong(format!("P7: block {height} is not the one of validator {by}")),
            None => missing += u64::from(height <= world.ended_at),
        }
    }
    // The last few are on their way.
    if missing > LATE_MAX {
        found.wrong(format!("P7: {missing} final blocks of others are missing"));
    }
}

/// The longest chain, executed once more from the stream as it is, without interruption.
pub(crate) fn execute_again(world: &World) -> Option<State> {
    let stream = held(&world.shared.stream);
    let mut feed = Feed::new(vec![0; stream.0.len()]);
    feed.look(&stream, u64::MAX, &mut Dice::new(0, 0)).ok()?;
    let honest = world.honest().map(|machine| held(&machine.replica.inner).blocks.clone());
    let blocks = honest.max_by_key(Vec::len)?;
    let genesis = &world.shared.genesis;
    let context = CheckContext {
        chain: genesis.chain,
        schemes: Arc::new(genesis.file.schemes.clone()),
        partitions: genesis.file.partitions,
        signatures: true,
        fingerprints: false,
    };
    let mut checker = Checker::new(context, Lanes::detect(), world.shared.verifier.clone());
    let mut state = State::new(genesis);
    for block in &blocks {
        let keys = KeyDirectory::default();
        keys.add(state.registry.keys().map(|key| key.public_key.clone()));
        let keys = keys.current();
        let mut batches = Vec::new();
        for (shard, (from, to)) in state.tip.cut.0.iter().zip(&block.cut.0).enumerate() {
            let (arena, places, _) = feed.take(&stream, shard, *from..*to)?;
            batches.push(match places.is_empty() {
                true => CheckedBatch::default(),
                false => checker.check(shard as u32, arena, &places, &keys),
            });
        }
        state.execute(&block.header, &block.cut, &batches);
    }
    Some(state)
}

/// Final headers carry the roots that follow from the stream.
fn roots(world: &World, inner: &Inner, again: Option<&State>, found: &mut Found<'_>) {
    let Some(again) = again else {
        return found.wrong("P1: the chain covers what is not in the stream".to_owned());
    };
    for block in &inner.blocks {
        let before = &again.after[block.header.height as usize - 1];
        if block.header.shards_root != shards_root(before) {
            let height = block.header.height;
            return found.wrong(format!("block {height} has roots that do not follow"));
        }
    }
    let tip = &inner.state.tip;
    if again.after[tip.header.height as usize] != tip.shards {
        found.wrong(format!("the shards after block {} are others", tip.header.height));
    }
    if tip.cut.0 != held(&world.shared.stream).ends() {
        found.wrong("P1: not all of the stream is executed".to_owned());
    }
}

/// P1 and P3: one leaf a record, in order, with the outcome that was foretold; and no number that
/// was used twice.
fn outcomes(world: &World, inner: &Inner, found: &mut Found<'_>) {
    for (shard, sent) in world.sent.iter().enumerate() {
        let entries = &inner.state.memory[shard].entries;
        if entries.len() != sent.len() {
            let (leaves, records) = (entries.len(), sent.len());
            found.wrong(format!("P1: shard {shard} has {leaves} leaves of {records} records"));
        }
        let mut used = BTreeSet::new();
        for (bytes, sent) in entries.iter().zip(sent) {
            let Ok(entry) = Entry::decode(bytes) else {
                return found.wrong(format!("P1: an entry of shard {shard} does not decode"));
            };
            let same = entry.offset == sent.offset && entry.commitment == sent.what.commitment;
            if !same || !sent.what.expected.matches(&entry.outcome) {
                let (wanted, is) = (sent.what.expected.name(), entry.outcome.name());
                let offset = sent.offset;
                return found.wrong(format!(
                    "P1: the record at {offset} of shard {shard} is {is}, {wanted} was foretold"
                ));
            }
            let created = entry.kind.is_some_and(RecordKind::is_invoice);
            if entry.outcome == Outcome::Accepted && created && !used.insert(entry.subject) {
                found.wrong(format!("P3: a number of shard {shard} is used twice"));
            }
            if matches!(entry.outcome, Outcome::Replay { .. } | Outcome::Conflict { .. }) {
                found.count("who came second was refused");
            }
        }
    }
}

/// P2 and P4: receipts and status proofs hold offline.
fn receipts(world: &World, inner: &Inner, dice: &mut Dice, found: &mut Found<'_>) {
    let Some(last) = inner.blocks.last() else { return };
    let foretold = Foretold::new(world.trust.clone());
    let mut absent = false;
    for (shard, sent) in world.sent.iter().enumerate() {
        for _ in 0..RECEIPTS.min(sent.len()) {
            let index = dice.place(sent.len());
            let what = &sent[index].what;
            let document = what.document.as_ref();
            let shown = document.map(|d| opening::open(d.secret, &d.fields, |_| true));
            let place = (shard, index as u64);
            let (header, certificate) = (&last.header, &last.finalization);
            let fields = shown.filter(|_| what.record_kind.is_some_and(RecordKind::is_invoice));
            let fields = fields.unwrap_or_default();
            let Some(receipt) = inner.state.receipt(place, fields, header, certificate) else {
                found.wrong(format!("P2: no receipt for record {index} of shard {shard}"));
                continue;
            };
            let changes = world.governed.changes(&inner.blocks, header.height);
            let receipt = Receipt { changes, ..receipt };
            let offset = sent[index].offset;
            let one = Sent { what: what.clone(), offset, at: Instant::now() };
            if let Err(mismatch) = foretold.check(&one, &receipt.encode(), document) {
                found.wrong(format!("P2: {mismatch}"));
            }
            found.count("receipts verified");
            let Some(issue) = receipt
                .entry
                .issue
                .filter(|_| receipt.entry.kind.is_some_and(RecordKind::is_invoice))
            else {
                continue;
            };
            let untouched = inner.state.untouched(shard, issue);
            absent |= untouched;
            let proof = inner.state.status(shard, receipt).map(|proof| proof.encode());
            let proof = proof.and_then(|bytes| StatusReceipt::decode(&bytes).ok());
            match proof.map(|proof| (proof.fields.is_empty(), proof.verify(&world.trust))) {
                Some((empty, Ok(_))) if empty == untouched => found.count("statuses verified"),
                Some((_, Err(refusal))) => found.wrong(format!("P4: {refusal}")),
                _ => found.wrong(format!("P4: no status proof for invoice {issue}")),
            }
        }
    }
    if absent {
        found.count("absences proved");
    }
}

/// P2: what was given out in earlier epochs holds from the genesis on, and for ever.
fn earlier_receipts(world: &World, inner: &Inner, dice: &mut Dice, found: &mut Found<'_>) {
    let ends: Vec<_> = inner.blocks.iter().filter(|block| block.header.closes_epoch()).collect();
    for _ in 0..EPOCHS.min(ends.len()) {
        let block = ends[dice.place(ends.len())];
        let header = &block.header;
        let shard = dice.place(world.sent.len());
        let covered = inner.state.after[header.height as usize - 1][shard].log_size;
        if covered == 0 {
            continue;
        }
        let place = (shard, dice.below(covered));
        let receipt = inner.state.receipt(place, Vec::new(), header, &block.finalization);
        let changes = world.governed.changes(&inner.blocks, header.height);
        let receipt = receipt.map(|receipt| Receipt { changes, ..receipt }.encode());
        let receipt = receipt.and_then(|bytes| Receipt::decode(&bytes).ok());
        match receipt.map(|receipt| receipt.verify(&world.trust)) {
            Some(Ok(_)) => found.count("receipts of earlier epochs verified"),
            Some(Err(refusal)) => found.wrong(format!("P2: epoch {}: {refusal}", header.epoch)),
            None => found.wrong(format!("P2: no receipt of epoch {}", header.epoch)),
        }
    }
}

/// The sets are those that were decided, and when.
fn epochs(world: &World, inner: &Inner, found: &mut Found<'_>) {
    if let Some(what) = world.governed.differs(&inner.blocks, &world.steps) {
        found.wrong(format!("epochs: {what}"));
    }
    let ends = inner.blocks.iter().filter(|block| block.header.closes_epoch());
    let changes = world.governed.changes(&inner.blocks, u64::MAX).len() as u64;
    let mut ledger = held(found.ledger);
    ledger.add("epochs ended", ends.count() as u64);
    ledger.add("sets handed over", changes);
}

/// Who lost its folder has everything again.
fn regained(machine: &Machine, found: &mut Found<'_>) {
    let has = held(&machine.replica.inner).blocks.len() as u64;
    if let Some(height) = machine.wiped.filter(|lost| has + LATE_MAX < *lost) {
        found.wrong(format!("P7: of {height} blocks {has} are there after a loss"));
    }
}

/// What was sent over the network: honest validators vote once and in their epochs, and what they
/// have against others is true and there.
pub(crate) fn network(world: &World, trace: &Trace) {
    let mut ledger = held(&world.shared.ledger);
    noise(&mut ledger, trace, world.alone.is_some());
    for (channel, what) in CHANNELS.iter().enumerate() {
        let bytes = trace.traffic.iter().map(|sent| sent[channel].bytes).sum();
        ledger.add(&format!("bytes sent: {what}"), bytes);
    }
    for (key, view) in &trace.doubles {
        ledger.violation(format!("key {key} votes twice in view {view}"));
    }
    let honest: Vec<usize> =
        world.honest().flat_map(|machine| machine.keys.iter().copied()).collect();
    let blocks = world.honest().map(|machine| held(&machine.replica.inner).blocks.clone());
    let blocks = blocks.max_by_key(Vec::len).unwrap_or_default();
    let set_of = |epoch: u64| {
        let ground = blocks
            .iter()
            .find(|block| block.header.epoch + 1 == epoch && block.header.closes_epoch());
        match (epoch, ground) {
            (0, _) => world.governed.sets.first(),
            (_, ground) => world.governed.set(&ground?.header.next_validators),
        }
    };
    for (key, epoch) in &trace.voted {
        match set_of(*epoch) {
            Some(set) if world.governed.is_of(*key, set) => {
                let later = *key >= world.governed.sets[0].keys().len();
                ledger.add("epochs in which a later key votes", u64::from(later));
            }
            _ => {
                ledger.violation(format!("key {key} votes in epoch {epoch}, and is not of its set"))
            }
        }
    }
    for (by, who) in &trace.blocked {
        let both = honest.contains(by) && honest.contains(who);
        let what = if both { "honest ones blocked by honest ones" } else { "liars blocked" };
        ledger.add(what, u64::from(honest.contains(by)));
    }
    drop(ledger);
    kept(world, trace, &honest);
}

/// What honest validators have against others on their disks names liars, to who trusts the genesis
/// alone; and all that they caught is there.
fn kept(world: &World, trace: &Trace, honest: &[usize]) {
    let mut ledger = held(&world.shared.ledger);
    let public = |key: &usize| world.governed.secrets[*key].public_key().to_compressed();
    let honest: Vec<Signer> = honest.iter().map(|key| Signer::Validator(public(key))).collect();
    let against = |evidence: &Evidence| match evidence {
        Evidence::DoubleVote { key, epoch, .. } => Some((key.to_compressed(), *epoch)),
        _ => None,
    };
    let mut all = BTreeSet::new();
    for (who, machine) in world.machines.iter().enumerate() {
        if world.plan.roles[who] != Role::Honest {
            continue;
        }
        for bytes in held(&machine.replica.inner).folder.evidence() {
            let read = Evidence::decode(&bytes).ok();
            let verdict = read.as_ref().and_then(|read| read.verify(&world.trust).ok());
            let liars = verdict.map(|verdict| verdict.liars).unwrap_or_default();
            if liars.is_empty() || liars.iter().any(|liar| honest.contains(liar)) {
                ledger.violation(format!("validator {who} has evidence of no lie: {read:?}"));
            }
            ledger.count("double votes proved");
            let changes = matches!(&read, Some(Evidence::DoubleVote { changes, .. })
                if !changes.is_empty());
            ledger.add("double votes of later sets proved", changes.into());
            all.extend(read.as_ref().and_then(against).map(|against| (who, against)));
        }
    }
    for (by, evidence) in &trace.evidence {
        let who = world.governed.machine(*by);
        let there = who.zip(against(evidence)).is_some_and(|caught| all.contains(&caught));
        match (there, world.plan.episodes.is_empty()) {
            (true, _) => {}
            (false, true) => ledger.violation(format!("key {by} lost evidence: {evidence:?}")),
            (false, false) => ledger.count("evidence lost with a disk"),
        }
    }
}

/// Messages came twice, and overtook each other, where blocks were made while they should have.
/// `alone`, no other fault could be the reason why they did not.
fn noise(ledger: &mut Ledger, trace: &Trace, alone: bool) {
    let Noises { repeated, overtaken } = trace.noise;
    ledger.add("bits flipped in votes", trace.flips);
    let bite =
        [(AGAIN, "messages came twice", repeated), (OVERTAKEN, "messages overtaken", overtaken)];
    for (blocks, what, times) in bite {
        ledger.add(what, times);
        if alone && ledger.counts.contains_key(blocks) && times == 0 {
            ledger.violation(format!("{blocks}, and none did"));
        }
    }
}

/// P5: headers and logs only grow, and every header has its certificate.
/// `seen` are headers with certificates that hold: validators have many in common.
fn history(
    world: &World,
    inner: &Inner,
    (dice, seen): (&mut Dice, &mut HashSet<(Digest, Vec<u8>)>),
    found: &mut Found<'_>,
) {
    let Ok(mut follower) = Follower::new(&world.trust) else { return };
    for link in world.governed.links(&world.shared.genesis.header(), &inner.blocks, 0) {
        let fresh = seen.insert((link.header.digest(), link.certificate.clone()));
        let taken = if fresh { follower.take(&link) } else { follower.take_again(&link) };
        if let Err(refusal) = taken {
            return found.wrong(format!("P5: block {}: {refusal}", link.header.height));
        }
    }
    let height = inner.state.tip.header.height;
    for _ in 0..4 {
        let newer = 2 + dice.below(height.saturating_sub(1));
        let older = 1 + dice.below(newer - 1);
        let pick = |height: u64| inner.blocks.get(height as usize - 1);
        let (Some(old), Some(new)) = (pick(older), pick(newer)) else { continue };
        let proof = Consistency {
            older: old.header,
            newer: new.header,
            proof: inner.state.history(older, newer),
            certificate: new.finalization.clone(),
            changes: world.governed.changes(&inner.blocks, newer),
        };
        if let Err(refusal) = proof.verify(&world.trust) {
            found.wrong(format!("P5: blocks {older} and {newer}: {refusal}"));
        }
        let (before, after) =
            (&inner.state.after[older as usize], &inner.state.after[newer as usize]);
        let grows = |(at, (old, new))| inner.state.log_grows(at, old, new);
        if !before.iter().zip(after).enumerate().all(grows) {
            found.wrong(format!("P5: a log of block {newer} does not extend that of {older}"));
        }
        found.count("consistency proofs verified");
    }
}
