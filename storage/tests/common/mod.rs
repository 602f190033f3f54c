//! A made-up chain for tests: deterministic from a seed, kept whole in memory, so that a store at
//! any height can be compared with what it should hold.
//!
//! The store hashes nothing, so any function of two hashes serves as interior hash here.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "a helper of tests")]

use std::collections::{BTreeMap, BTreeSet};

use piaogen_storage::{
    Block, Digest, HEADER_BYTES, IdPlace, RowChunk, STATUS_DEPTH, ShardEffects, ShardState,
    StatusPath, Store, StoreConfig, StoreReader, Wait,
};
use piaogen_verify::status::Origin;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const PARTITIONS: u32 = 3;

pub fn config() -> StoreConfig {
    let mut config = StoreConfig::new([0xc4; 32], PARTITIONS);
    config.cache_bytes = 8 << 20;
    config.open_files = 64;
    config.tail_chunk_bytes = 20_000;
    config
}

pub fn join(left: &Digest, right: &Digest) -> Digest {
    let mut out = [0; 32];
    for i in 0..4 {
        let word = |d: &Digest| u64::from_be_bytes(d[8 * i..8 * i + 8].try_into().unwrap());
        let mixed = word(left)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(23)
            .wrapping_add(word(right).wrapping_mul(0xc2b2_ae3d_27d4_eb4f));
        out[8 * i..8 * i + 8].copy_from_slice(&mixed.to_be_bytes());
    }
    out
}

pub fn block(height: u64) -> Block {
    Block {
        height,
        header: vec![height as u8; HEADER_BYTES],
        cut: height.to_be_bytes().to_vec(),
        finalization: vec![7; (height % 90) as usize],
    }
}

#[derive(Clone, Default)]
pub struct ModelShard {
    pub state: ShardState,
    pub levels: Vec<Vec<Digest>>,
    pub ids: BTreeMap<Vec<u8>, IdPlace>,
    pub status: BTreeMap<(u8, u64), Digest>,
    pub documents: BTreeMap<u64, Vec<u8>>,
    pub waits: BTreeSet<Wait>,
    /// Entry, record and height of each leaf.
    pub rows: Vec<(Vec<u8>, Vec<u8>, u64)>,
}

#[derive(Clone)]
pub struct Model {
    pub seed: u64,
    pub height: u64,
    pub shards: Vec<ModelShard>,
}

/// Appends a leaf; notes the hashes that become complete in `new`.
fn push_leaf(levels: &mut Vec<Vec<Digest>>, new: &mut Vec<Vec<Digest>>, leaf: Digest) {
    let mut hash = leaf;
    for level in 0.. {
        if levels.len() == level {
            levels.push(Vec::new());
        }
        if new.len() == level {
            new.push(Vec::new());
        }
        levels[level].push(hash);
        new[level].push(hash);
        let done = &levels[level];
        if done.len() % 2 == 1 {
            return;
        }
        hash = join(&done[done.len() - 2], &done[done.len() - 1]);
    }
}

impl Model {
    pub fn new(seed: u64) -> Self {
        let shards = vec![ModelShard::default(); PARTITIONS as usize + 1];
        Self { seed, height: 0, shards }
    }

    pub fn at(seed: u64, height: u64) -> Self {
        let mut model = Self::new(seed);
        while model.height < height {
            model.next(20);
        }
        model
    }

    /// Executes the next block, with up to `most` records in each shard.
    pub fn next(&mut self, most: u64) -> Vec<ShardEffects> {
        self.height += 1;
        let height = self.height;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ (height << 20));
        let mut all = Vec::new();
        for (number, shard) in self.shards.iter_mut().enumerate() {
            if rng.random_range(0..4) > 0 {
                all.push(shard.execute(
                    number as u32,
                    height,
                    rng.random_range(0..=most),
                    &mut rng,
                ));
            }
        }
        all
    }
}

impl ModelShard {
    fn execute(
        &mut self,
        number: u32,
        height: u64,
        count: u64,
        rng: &mut ChaCha8Rng,
    ) -> ShardEffects {
        let first = self.state.log_size;
        let mut effects = ShardEffects { shard: number, ..Default::default() };
        effects.rows = RowChunk::new(first, height, height as i64 * 500);
        for log_index in first..first + count {
            let leaf: Digest = rng.random();
            push_leaf(&mut self.levels, &mut effects.levels, leaf);
            let record = vec![rng.random_range(0..4u8); rng.random_range(1..400)];
            effects.rows.push(&leaf, &record).unwrap();
            self.rows.push((leaf.to_vec(), record, height));
            if rng.random_range(0..5) > 0 {
                let subject = format!("\x03CN1\x14{:020}", rng.random::<u64>()).into_bytes();
                let issue_index = self.state.invoices;
                let origins = [Origin::Blue, Origin::Red, Origin::Import];
                let origin = origins[rng.random_range(0..3)];
                let commitment = rng.random();
                let place = IdPlace { log_index, issue_index, commitment, origin };
                self.state.invoices += 1;
                self.ids.insert(subject.clone(), place);
                effects.ids.push((subject, place));
            }
        }
        self.wait(height, rng, &mut effects);
        for _ in 0..rng.random_range(0..3) {
            if self.state.invoices > 0 {
                self.touch(rng.random_range(0..self.state.invoices), rng.random(), &mut effects);
            }
        }
        self.state.log_size += count;
        self.state.next_offset += count;
        self.state.log_root = rng.random();
        self.state.status_root = self.node(STATUS_DEPTH, 0);
        effects.state = self.state;
        effects
    }

    /// A clock of one unit a height: what is due is done, some more begin to wait.
    fn wait(&mut self, height: u64, rng: &mut ChaCha8Rng, effects: &mut ShardEffects) {
        let now = height as i64 - 5;
        if rng.random_range(0..3) == 0 {
            effects.waits_done = Some(now);
            self.waits.retain(|wait| wait.at > now);
        }
        for _ in 0..rng.random_range(0..3) {
            let (at, log_index) = (now + rng.random_range(1..12), self.state.log_size);
            let (issue_index, subject) = (rng.random_range(0..4), rng.random::<[u8; 9]>().to_vec());
            self.waits.retain(|wait| (wait.at, wait.issue_index) != (at, issue_index));
            let wait = Wait { at, issue_index, log_index, subject };
            self.waits.insert(wait.clone());
            effects.waits.push(wait);
        }
    }

    fn touch(&mut self, issue: u64, record: Digest, effects: &mut ShardEffects) {
        let mut hash = record;
        for level in 0..=STATUS_DEPTH {
            let index = issue >> level;
            self.status.insert((level, index), hash);
            effects.status_nodes.push((level, index, hash));
            let even = self.node(level, index & !1);
            hash = join(&even, &self.node(level, index | 1));
        }
        self.documents.insert(issue, record[..7].to_vec());
        effects.status_documents.push((issue, record[..7].to_vec()));
    }

    /// What a store must answer of an invoice.
    pub fn path(&self, issue: u64) -> StatusPath {
        let sibling = |level| self.node(level, (issue >> level) ^ 1);
        StatusPath {
            record: self.node(0, issue),
            siblings: (0..STATUS_DEPTH).map(sibling).collect(),
            document: self.documents.get(&issue).cloned(),
        }
    }

    pub fn node(&self, level: u8, index: u64) -> Digest {
        self.status.get(&(level, index)).copied().unwrap_or_default()
    }
}

/// Compares all that a store answers with the model.
pub fn compare(store: &Store, model: &Model) {
    assert_eq!(store.height().unwrap(), model.height);
    for (number, shard) in model.shards.iter().enumerate() {
        let number = number as u32;
        assert_eq!(store.state(number).unwrap(), shard.state, "shard {number}");
        let subjects: Vec<&[u8]> = shard.ids.keys().map(Vec::as_slice).collect();
        let found = store.find_many(number, &subjects).unwrap();
        let wanted: Vec<_> = shard.ids.values().copied().map(Some).collect();
        assert_eq!(found, wanted);
        for (level, hashes) in shard.levels.iter().enumerate() {
            for (index, hash) in hashes.iter().enumerate() {
                let found = store.log_hash(number, level as u8, index as u64).unwrap();
                assert_eq!(found.as_ref(), Some(hash), "level {level} index {index}");
            }
            assert_eq!(store.log_hash(number, level as u8, hashes.len() as u64).unwrap(), None);
        }
        for (&(level, index), hash) in &shard.status {
            assert_eq!(&store.status_node(number, level, index).unwrap(), hash);
        }
        for &issue in shard.documents.keys().take(20) {
            let path = store.status_path(number, issue, &shard.state.status_root);
            let path = path.unwrap().unwrap();
            let top =
                path.siblings.iter().enumerate().fold(path.record, |hash, (level, sibling)| {
                    let left = issue >> level & 1 == 0;
                    if left { join(&hash, sibling) } else { join(sibling, &hash) }
                });
            assert_eq!(top, shard.state.status_root, "the path leads to the status root");
        }
        let documents: Vec<_> = shard.documents.clone().into_iter().collect();
        assert_eq!(store.status_documents(number, 0, usize::MAX).unwrap(), documents);
        for until in [i64::MIN, -1, model.height as i64 - 3, i64::MAX] {
            let due = shard.waits.iter().filter(|wait| wait.at <= until);
            let due: Vec<_> = due.cloned().collect();
            assert_eq!(store.waits(number, until).unwrap(), due, "shard {number}");
        }
        let from = store.tail_first(number).unwrap();
        let rows = store.tail_read(number, from, u64::MAX, u64::MAX).unwrap();
        check_rows(shard, from, rows.iter());
        if from < shard.state.log_size {
            let row = store.tail_find(number, shard.state.log_size - 1).unwrap().unwrap();
            assert_eq!(row.entry, shard.rows[row.log_index as usize].0);
        }
    }
}

/// Compares what a store answers of the trees of heights before the present one with the models of
/// those heights, the newest of which comes last.
pub fn compare_past(store: &Store, past: &[Model], readable: usize) {
    for model in &past[past.len().saturating_sub(readable)..] {
        for (number, shard) in model.shards.iter().enumerate() {
            // What was touched since is what may be wrong.
            let now = &past[past.len() - 1].shards[number];
            for issue in now.documents.keys().copied().chain([0, 1, 5, (1 << 40) - 1]) {
                let path = store.status_path(number as u32, issue, &shard.state.status_root);
                let (path, height) = (path.unwrap(), model.height);
                assert_eq!(path, Some(shard.path(issue)), "{issue} of {number} as of {height}");
            }
        }
    }
}

fn check_rows<'a>(
    shard: &ModelShard,
    from: u64,
    rows: impl Iterator<Item = piaogen_storage::RowRef<'a>>,
) {
    let mut next = from;
    for row in rows {
        let (entry, record, height) = &shard.rows[row.log_index as usize];
        assert_eq!(row.log_index, next);
        assert_eq!((row.entry, row.record, row.height), (&entry[..], &record[..], *height));
        assert_eq!(row.time_ms, *height as i64 * 500);
        next += 1;
    }
    assert_eq!(next, shard.state.log_size, "rows are missing");
}

/// The same through a reader.
pub fn compare_reader(reader: &StoreReader, model: &Model) {
    assert_eq!(reader.flushed().height, model.height);
    for (number, shard) in model.shards.iter().enumerate() {
        let number = number as u32;
        assert_eq!(reader.flushed().shards[number as usize], shard.state);
        let subjects: Vec<&[u8]> = shard.ids.keys().map(Vec::as_slice).collect();
        let wanted: Vec<_> = shard.ids.values().copied().map(Some).collect();
        assert_eq!(reader.find_many(number, &subjects).unwrap(), wanted);
        for (level, hashes) in shard.levels.iter().enumerate() {
            let last = hashes.len() as u64;
            assert_eq!(reader.log_hash(number, level as u8, last).unwrap(), None);
            let found = reader.log_hash(number, level as u8, last - 1).unwrap();
            assert_eq!(found.as_ref(), hashes.last());
        }
        for (&(level, index), hash) in &shard.status {
            assert_eq!(&reader.status_node(number, level, index).unwrap(), hash);
        }
        let waits: Vec<_> = shard.waits.iter().cloned().collect();
        assert_eq!(reader.waits(number, i64::MAX).unwrap(), waits, "shard {number}");
        let from = reader.tail_first(number).unwrap();
        let rows = reader.tail_read(number, from, u64::MAX, u64::MAX).unwrap();
        check_rows(shard, from, rows.iter());
    }
}
