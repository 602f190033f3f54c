//! What a validator has executed, with an index in memory, and the proofs of it.
//!
//! Execution is `piaogen_anchor`'s. What a block did is one value, which goes to the index and to the
//! disk alike; at a restart it comes back from there, and every root is computed again from it.
//!
//! Invariants
//! - What is restored has the roots that it is said to have, or is not restored.

use piaogen_anchor::block::Tip;
use piaogen_anchor::log::Log;
use piaogen_anchor::registry::Registry;
use piaogen_anchor::{Context, Effects, Index, Place, Shard, Wait};
use piaogen_crypto::{Digest, Lanes};
use piaogen_verify::checked::CheckedBatch;
use piaogen_verify::encoding::{DecodeError, Reader, put_bytes, put_vint};
use piaogen_verify::entry::Entry;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::header::{Cut, Header, ShardEntry};
use piaogen_verify::merkle;
use piaogen_verify::receipt::{OpenedField, Receipt};
use piaogen_verify::record;
use piaogen_verify::status::{DEPTH, Origin, Status, StatusProof, StatusReceipt, ZERO};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

const ORIGINS: [Origin; 3] = [Origin::Blue, Origin::Red, Origin::Import];
/// Most bytes, or items, of a part of what a block did.
const PART_MAX: u64 = 1 << 20;

/// What a shard knows by heart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    ids: HashMap<Vec<u8>, Place>,
    statuses: BTreeMap<u64, Vec<u8>>,
    nodes: HashMap<(u8, u64), Digest>,
    waits: BTreeMap<(i64, u64), Wait>,
    leaves: Vec<Digest>,
    /// The entries of its log.
    pub(crate) entries: Vec<Vec<u8>>,
}

impl Index for Memory {
    type Error = Infallible;

    fn find(&self, subjects: &[&[u8]]) -> Result<Vec<Option<Place>>, Infallible> {
        Ok(subjects.iter().map(|subject| self.ids.get(*subject).copied()).collect())
    }

    fn statuses(&self, issues: &[u64]) -> Result<Vec<Option<Status>>, Infallible> {
        let read = |issue| self.statuses.get(issue).and_then(|bytes| Status::of_stored(bytes).ok());
        Ok(issues.iter().map(read).collect())
    }

    fn status_nodes(&self, places: &[(u8, u64)]) -> Result<Vec<Digest>, Infallible> {
        Ok(places.iter().map(|place| self.nodes.get(place).copied().unwrap_or(ZERO)).collect())
    }

    fn waits(&self, until: i64) -> Result<Vec<Wait>, Infallible> {
        Ok(self.waits.range(..=(until, u64::MAX)).map(|(_, wait)| wait.clone()).collect())
    }
}

/// What a block did to a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Done {
    entry: ShardEntry,
    entries: Vec<Vec<u8>>,
    ids: Vec<(Vec<u8>, Place)>,
    nodes: Vec<(u8, u64, Digest)>,
    statuses: Vec<(u64, Vec<u8>)>,
    waits_done: Option<i64>,
    waits: Vec<Wait>,
    /// Registry records that were accepted.
    registered: Vec<Vec<u8>>,
}

impl Done {
    fn new(entry: ShardEntry, batch: &CheckedBatch, effects: Effects) -> Done {
        let entries = effects.iter().map(<[u8]>::to_vec).collect();
        let registered = effects.registered.iter();
        Done {
            entry,
            entries,
            registered: registered.map(|at| batch.bytes(&batch.records[*at]).to_vec()).collect(),
            ids: effects.ids,
            nodes: effects.status_nodes,
            statuses: effects.statuses,
            waits_done: effects.waits_done,
            waits: effects.waits,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.entry.encode());
        for list in [&self.entries, &self.registered] {
            put_vint(out, list.len() as u64);
            list.iter().for_each(|bytes| put_bytes(out, bytes));
        }
        put_vint(out, self.ids.len() as u64);
        for (subject, place) in &self.ids {
            put_bytes(out, subject);
            put_vint(out, place.log_index);
            put_vint(out, place.issue_index);
            out.extend_from_slice(&place.commitment);
            out.push(ORIGINS.iter().position(|origin| *origin == place.origin).unwrap_or(0) as u8);
        }
        put_vint(out, self.nodes.len() as u64);
        for (level, at, hash) in &self.nodes {
            out.push(*level);
            put_vint(out, *at);
            out.extend_from_slice(hash);
        }
        put_vint(out, self.statuses.len() as u64);
        for (issue, bytes) in &self.statuses {
            put_vint(out, *issue);
            put_bytes(out, bytes);
        }
        out.push(u8::from(self.waits_done.is_some()));
        out.extend_from_slice(&self.waits_done.unwrap_or(0).to_be_bytes());
        put_vint(out, self.waits.len() as u64);
        for wait in &self.waits {
            out.extend_from_slice(&wait.at.to_be_bytes());
            put_vint(out, wait.issue_index);
            put_vint(out, wait.log_index);
            put_bytes(out, &wait.subject);
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Done, DecodeError> {
        let entry = ShardEntry::decode(r)?;
        let list = |r: &mut Reader<'_>| -> Result<Vec<Vec<u8>>, DecodeError> {
            let count = r.count("records", PART_MAX)?;
            (0..count).map(|_| Ok(r.bytes("record", PART_MAX)?.to_vec())).collect()
        };
        let (entries, registered) = (list(r)?, list(r)?);
        let count = r.count("ids", PART_MAX)?;
        let id = |_| {
            let subject = r.bytes("subject", PART_MAX)?.to_vec();
            let (log_index, issue_index, commitment) = (r.vint()?, r.vint()?, r.array()?);
            let origin = ORIGINS.get(usize::from(r.u8()?)).copied();
            let origin = origin.ok_or(DecodeError::Fixed { what: "origin" })?;
            Ok((subject, Place { log_index, issue_index, commitment, origin }))
        };
        let ids = (0..count).map(id).collect::<Result<_, DecodeError>>()?;
        let count = r.count("hashes", PART_MAX)?;
        let node = |_| Ok((r.u8()?, r.vint()?, r.array()?));
        let nodes = (0..count).map(node).collect::<Result<_, DecodeError>>()?;
        let count = r.count("statuses", PART_MAX)?;
        let status = |_| Ok((r.vint()?, r.bytes("status", PART_MAX)?.to_vec()));
        let statuses = (0..count).map(status).collect::<Result<_, DecodeError>>()?;
        let (any, at) = (r.u8()?, r.i64()?);
        let count = r.count("waits", PART_MAX)?;
        let wait = |_| {
            let (at, issue_index, log_index) = (r.i64()?, r.vint()?, r.vint()?);
            let subject = r.bytes("subject", PART_MAX)?.to_vec();
            Ok(Wait { at, issue_index, log_index, subject })
        };
        let waits = (0..count).map(wait).collect::<Result<_, DecodeError>>()?;
        let waits_done = (any == 1).then_some(at);
        Ok(Done { entry, entries, ids, nodes, statuses, waits_done, waits, registered })
    }
}

impl Memory {
    fn apply(&mut self, done: Done) {
        self.leaves.extend(done.entries.iter().map(|entry| merkle::leaf(entry)));
        self.entries.extend(done.entries);
        self.ids.extend(done.ids);
        self.nodes.extend(done.nodes.into_iter().map(|(level, at, hash)| ((level, at), hash)));
        self.statuses.extend(done.statuses);
        if let Some(until) = done.waits_done {
            self.waits.retain(|(at, _), _| *at > until);
        }
        self.waits.extend(done.waits.into_iter().map(|wait| ((wait.at, wait.issue_index), wait)));
    }
}

/// What was executed, up to a block.
#[derive(Clone, Debug)]
pub(crate) struct State {
    genesis: Arc<Genesis>,
    pub(crate) tip: Tip,
    pub(crate) registry: Registry,
    history: Log,
    shards: Vec<Shard>,
    pub(crate) memory: Vec<Memory>,
    /// The shards after each block.
    pub(crate) after: Vec<Vec<ShardEntry>>,
    headers: Vec<Digest>,
}

impl State {
    /// Before the first block.
    pub(crate) fn new(genesis: &Arc<Genesis>) -> State {
        let header = genesis.header();
        let entries: Vec<ShardEntry> = (0..header.shards).map(ShardEntry::empty).collect();
        let registry = Registry::genesis(genesis);
        let mut history = Log::default();
        history.append(Lanes::portable(), vec![header.leaf()]);
        let tip = Tip {
            header,
            cut: Cut(vec![0; entries.len()]),
            shards: entries.clone(),
            history_root: history.root(),
            next_set: registry.governance().next_set(1),
        };
        State {
            genesis: genesis.clone(),
            tip,
            registry,
            history,
            shards: entries.iter().map(|entry| Shard::new(entry, Log::default())).collect(),
            memory: vec![Memory::default(); entries.len()],
            after: vec![entries],
            headers: vec![header.leaf()],
        }
    }

    /// Executes the next block over the records between its cut and the one before; says what it did,
    /// as it is kept on disk.
    pub(crate) fn execute(
        &mut self,
        header: &Header,
        cut: &Cut,
        batches: &[CheckedBatch],
    ) -> Vec<u8> {
        let before = self.registry.clone();
        let context = Context {
            chain: &self.genesis.chain,
            registry: &before,
            height: header.height,
            policy: before.policy_at(header.height),
            schemes: &self.genesis.file.schemes,
            time_ms: self.tip.header.time_ms,
            clock_skew_ms: self.genesis.file.clock_skew_ms,
            lanes: Lanes::detect(),
            signatures: true,
        };
        let registry = self.shards.len() - 1;
        let mut encoded = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            let (shard, offset) = (&mut self.shards[number], cut.0[number]);
            let effects = if number == registry {
                shard.execute_registry(&context, &mut self.registry, batch, offset)
            } else {
                let Ok(effects) = shard.execute(&context, &self.memory[number], batch, offset);
                effects
            };
            let done = Done::new(shard.entry(), batch, effects);
            done.put(&mut encoded);
            self.memory[number].apply(done);
        }
        self.advance(header, cut);
        encoded
    }

    fn advance(&mut self, header: &Header, cut: &Cut) {
        let shards: Vec<ShardEntry> = self.shards.iter().map(Shard::entry).collect();
        self.history.append(Lanes::portable(), vec![header.leaf()]);
        self.headers.push(header.leaf());
        self.after.push(shards.clone());
        self.tip = Tip {
            header: *header,
            cut: cut.clone(),
            shards,
            history_root: self.history.root(),
            next_set: self.registry.governance().next_set(header.height + 1),
        };
    }

    /// Takes a block's effects from the disk; `None` where they are not what they say.
    pub(crate) fn restore(&mut self, header: &Header, cut: &Cut, effects: &[u8]) -> Option<()> {
        let mut reader = Reader::new(effects);
        for number in 0..self.shards.len() {
            let done = Done::take(&mut reader).ok()?;
            let entry = done.entry;
            for bytes in &done.registered {
                self.registry.execute(&record::decode(bytes).ok()?, header.height).ok()?;
            }
            let memory = &mut self.memory[number];
            memory.apply(done);
            let mut log = Log::default();
            log.append(Lanes::detect(), memory.leaves.clone());
            let status = memory.nodes.get(&(DEPTH, 0)).copied().unwrap_or(ZERO);
            let same = log.size() == entry.log_size
                && log.root() == entry.log_root
                && status == entry.status_root
                && cut.0.get(number) == Some(&entry.next_offset);
            self.shards[number] = same.then(|| Shard::new(&entry, log))?;
        }
        reader.end().ok()?;
        self.advance(header, cut);
        Some(())
    }

    /// The receipt of a record against a header over the shards after the block before.
    pub(crate) fn receipt(
        &self,
        (shard, index): (usize, u64),
        fields: Vec<OpenedField>,
        header: &Header,
        certificate: &[u8],
    ) -> Option<Receipt> {
        let shards = self.after.get(header.height.checked_sub(1)? as usize)?;
        let entry = shards.get(shard)?;
        let memory = &self.memory[shard];
        let bytes = memory.entries.get(index as usize).filter(|_| index < entry.log_size)?;
        let Ok(inclusion) = merkle::prove_inclusion(
            &memory.leaves[..entry.log_size as usize],
            index,
            entry.log_size,
        );
        let leaves: Vec<Digest> = shards.iter().map(ShardEntry::leaf).collect();
        let Ok(shard_proof) =
            merkle::prove_inclusion(&leaves[..], shard as u64, leaves.len() as u64);
        Some(Receipt {
            fields,
            entry: Entry::decode(bytes).ok()?,
            log_index: index,
            inclusion,
            shard: *entry,
            shard_proof,
            header: *header,
            history: None,
            certificate: certificate.to_vec(),
            changes: Vec::new(),
            cosigned: None,
        })
    }

    /// The proof of an invoice's status as it is now, where the receipt is of now too.
    pub(crate) fn status(&self, shard: usize, receipt: Receipt) -> Option<StatusReceipt> {
        let issue = receipt.entry.issue?;
        let memory = &self.memory[shard];
        let sibling = |depth: usize| {
            let place = (depth as u8, issue >> depth ^ 1);
            memory.nodes.get(&place).copied().unwrap_or(ZERO)
        };
        let path = StatusProof { siblings: std::array::from_fn(sibling) };
        let status = memory.statuses.get(&issue).and_then(|bytes| Status::of_stored(bytes).ok());
        Some(StatusReceipt::new(receipt, path, status.as_ref(), &[]))
    }

    /// Whether nothing ever happened to an invoice.
    pub(crate) fn untouched(&self, shard: usize, issue: u64) -> bool {
        !self.memory[shard].statuses.contains_key(&issue)
    }

    /// The way from an older header to the history of a newer one.
    pub(crate) fn history(&self, older: u64, newer: u64) -> Vec<Digest> {
        let Ok(proof) = merkle::prove_inclusion(&self.headers[..newer as usize], older, newer);
        proof
    }

    /// Whether a shard's log of an older size is the beginning of the one of a newer size, by proof.
    pub(crate) fn log_grows(&self, shard: usize, older: &ShardEntry, newer: &ShardEntry) -> bool {
        let (m, n) = (older.log_size, newer.log_size);
        let Some(leaves) = self.memory[shard].leaves.get(..n as usize) else { return false };
        if m == 0 || m == n {
            return m == 0 || older.log_root == newer.log_root;
        }
        let Ok(proof) = merkle::prove_consistency(leaves, m, n);
        merkle::verify_consistency(m, n, &older.log_root, &newer.log_root, &proof)
    }
}
