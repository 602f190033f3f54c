//! One shard of the store: its logs, status, ids and rows, and what of them is still in memory.
//!
//! Shards share nothing but the file cache and RocksDB, so blocks are applied to them in parallel.
//! Reads take the shard's lock for memory only and read files after letting go; a status path alone
//! is read under the lock, since its hashes must be of one tree: that of now, or one of the past
//! (`past`).

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::effects::{
    DOCUMENT_BYTES, Digest, IdPlace, Row, RowChunk, STATUS_DEPTH, ShardEffects, ShardState,
};
use crate::error::{Result, StoreError};
use crate::files::{Files, Place};
use crate::hot::{Hot, is_hot};
use crate::index::{Documents, Index};
use crate::levels::{self, Found, LevelWrite, Levels, LogOf};
use crate::overlay::{Map, Overlay};
use crate::past::{Above, Layer, Past, Was};
use crate::status::{self, Upper};
use crate::tail::{self, Encoded, Rows, Tail};
use crate::tiles::{self, Spot};
use crate::waits::{FrozenWaits, Wait, Waits};

/// Longest subject in bytes.
pub const SUBJECT_BYTES: usize = 1024;

/// An invoice's status and the hashes that prove it, all of one tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatusPath {
    /// The status record; zeros: untouched.
    pub record: Digest,
    /// The sibling on each level, from the record upwards.
    pub siblings: Vec<Digest>,
    /// The status document, if there ever was one.
    pub document: Option<Vec<u8>>,
}

/// What can change.
struct Inner {
    state: ShardState,
    levels: Levels,
    ids: Overlay<Vec<u8>, IdPlace>,
    status: Overlay<(u8, u64), Digest>,
    upper: Mutex<Upper>,
    documents: Overlay<u64, Vec<u8>>,
    past: Past,
    waits: Waits,
}

/// One shard.
pub(crate) struct Shard {
    number: u32,
    inner: RwLock<Inner>,
    hot: Mutex<Hot>,
    tail: Mutex<Tail>,
    last_frame: Mutex<Option<Arc<RowChunk>>>,
}

/// What a flush writes for one shard.
pub(crate) struct Frozen {
    pub(crate) shard: u32,
    pub(crate) state: ShardState,
    pub(crate) levels: Vec<LevelWrite>,
    pub(crate) status: Arc<Map<(u8, u64), Digest>>,
    pub(crate) documents: Arc<Map<u64, Vec<u8>>>,
    pub(crate) ids: Arc<Map<Vec<u8>, IdPlace>>,
    pub(crate) waits: Arc<FrozenWaits>,
    pub(crate) rows: Vec<Place>,
}

pub(crate) fn lock<T>(lock: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    lock.lock().map_err(|_| panicked())
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> Result<RwLockReadGuard<'_, T>> {
    lock.read().map_err(|_| panicked())
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> Result<RwLockWriteGuard<'_, T>> {
    lock.write().map_err(|_| panicked())
}

fn panicked() -> StoreError {
    StoreError::damaged("a thread panicked while it changed the store: stop, and start again")
}

impl Shard {
    /// The shard at a flush point.
    pub(crate) fn open(
        number: u32,
        state: ShardState,
        chunk_bytes: u64,
        files: &Files,
        cut: bool,
    ) -> Result<Self> {
        let inner = Inner {
            state,
            levels: Levels::open(LogOf::Shard(number), state.log_size, files, cut)?,
            ids: Overlay::default(),
            status: Overlay::default(),
            upper: Mutex::default(),
            documents: Overlay::default(),
            past: Past::default(),
            waits: Waits::default(),
        };
        let tail = Tail::open(number, state.log_size, chunk_bytes, files, cut)?;
        let (inner, tail) = (RwLock::new(inner), Mutex::new(tail));
        let (hot, last_frame) = Default::default();
        Ok(Self { number, inner, hot, tail, last_frame })
    }

    /// Whether effects fit; changes nothing.
    pub(crate) fn check(&self, effects: &ShardEffects, rows: &Encoded) -> Result<()> {
        let size = effects.state.log_size;
        read(&self.inner)?.levels.check(&effects.levels, size)?;
        lock(&self.tail)?.check(rows, size)?;
        let wrong =
            |what: String| StoreError::Refused(format!("effects on shard {}: {what}", self.number));
        let subjects = effects.waits.iter().map(|wait| &wait.subject);
        let mut subjects = effects.ids.iter().map(|(subject, _)| subject).chain(subjects);
        let outside = effects.status_nodes.iter().find(|(level, index, _)| {
            *level > STATUS_DEPTH || *index >> (STATUS_DEPTH - level) != 0
        });
        if let Some((level, index, _)) = outside {
            return Err(wrong(format!("no hash {index} on level {level} of a status tree")));
        }
        if let Some(subject) = subjects.find(|subject| subject.len() > SUBJECT_BYTES) {
            let len = subject.len();
            return Err(wrong(format!("a subject of {len} bytes, the limit is {SUBJECT_BYTES}")));
        }
        let long = effects.status_documents.iter().find(|(_, d)| d.len() > DOCUMENT_BYTES);
        if let Some((issue, document)) = long {
            let len = document.len();
            return Err(wrong(format!(
                "the status document of {issue} has {len} bytes, the limit is {DOCUMENT_BYTES}"
            )));
        }
        Ok(())
    }

    /// Applies the effects of the block of a height, which [`Shard::check`] found right.
    pub(crate) fn apply(
        &self,
        height: u64,
        effects: ShardEffects,
        rows: &Encoded,
        files: &Files,
    ) -> Result<()> {
        lock(&self.tail)?.append(rows, &effects.rows.bytes, files)?;
        let mut inner = write(&self.inner)?;
        inner.levels.append(&effects.levels, effects.state.log_size);
        inner.ids.reserve(effects.ids.len());
        effects.ids.into_iter().for_each(|(subject, place)| inner.ids.insert(subject, place));
        lock(&inner.upper)?.set(&effects.status_nodes);
        let layer = inner.set_statuses(height, effects.status_nodes, effects.status_documents);
        inner.past.push(layer);
        let old = inner.past.forget(height);
        inner.waits.apply(effects.waits_done, effects.waits);
        inner.state = effects.state;
        drop(inner);
        drop(old);
        Ok(())
    }

    /// Freezes what was applied since the last flush, up to a height.
    pub(crate) fn freeze(&self, height: u64) -> Result<Frozen> {
        let rows = lock(&self.tail)?.take_dirty();
        let mut inner = write(&self.inner)?;
        // A shard in which nothing happens any longer lets go of its past here.
        inner.past.forget(height);
        Ok(Frozen {
            shard: self.number,
            state: inner.state,
            levels: inner.levels.to_write(),
            status: inner.status.freeze(),
            documents: inner.documents.freeze(),
            ids: inner.ids.freeze(),
            waits: inner.waits.freeze(),
            rows,
        })
    }

    /// Reads what the past up to a height still has in the files, which a flush is to overwrite.
    pub(crate) fn settle(&self, height: u64, files: &Files, index: &Index) -> Result<()> {
        let wanted = read(&self.inner)?.past.in_files(height);
        let (places, issues) = &wanted;
        let mut nodes = vec![[0; 32]; places.len()];
        tiles::read(files, self.number, spots(places), &mut nodes)?;
        let documents = index.documents_of(self.number, issues)?;
        write(&self.inner)?.past.settle(height, &wanted, &nodes, &documents);
        Ok(())
    }

    /// Forgets what a flush has written.
    pub(crate) fn thaw(&self, frozen: &Frozen) -> Result<()> {
        let mut inner = write(&self.inner)?;
        inner.levels.written(&frozen.levels);
        inner.waits.thaw();
        let dropped = (inner.ids.thaw(), inner.status.thaw(), inner.documents.thaw());
        drop(inner);
        drop(dropped);
        Ok(())
    }

    pub(crate) fn state(&self) -> Result<ShardState> {
        Ok(read(&self.inner)?.state)
    }

    pub(crate) fn find(&self, subject: &[u8], index: &Index) -> Result<Option<IdPlace>> {
        let inner = read(&self.inner)?;
        if let Some(place) = inner.ids.get(subject) {
            return Ok(Some(*place));
        }
        let size = inner.state.log_size;
        drop(inner);
        index.find(self.number, subject, size)
    }

    pub(crate) fn find_many(
        &self,
        subjects: &[&[u8]],
        index: &Index,
    ) -> Result<Vec<Option<IdPlace>>> {
        let inner = read(&self.inner)?;
        let mut found: Vec<_> = subjects.iter().map(|s| inner.ids.get(*s).copied()).collect();
        let size = inner.state.log_size;
        drop(inner);
        let missing: Vec<usize> = (0..found.len()).filter(|i| found[*i].is_none()).collect();
        let keys: Vec<&[u8]> = missing.iter().map(|i| subjects[*i]).collect();
        let places = index.find_many(self.number, &keys, size)?;
        missing.into_iter().zip(places).for_each(|(i, place)| found[i] = place);
        Ok(found)
    }

    pub(crate) fn log_hash(&self, level: u8, index: u64, files: &Files) -> Result<Option<Digest>> {
        let (found, size) = {
            let inner = read(&self.inner)?;
            (inner.levels.find(level, index), inner.state.log_size)
        };
        let hot = matches!(found, Found::InFile(_)) && is_hot(level, index, size);
        if hot && let Some(hash) = lock(&self.hot)?.get(level, index) {
            return Ok(Some(hash));
        }
        let hash = resolve(found, index, files)?;
        if let Some(hash) = hash.filter(|_| hot) {
            lock(&self.hot)?.put(level, index, hash);
        }
        Ok(hash)
    }

    pub(crate) fn log_hashes(
        &self,
        level: u8,
        range: Range<u64>,
        files: &Files,
    ) -> Result<Option<Vec<Digest>>> {
        let found = read(&self.inner)?.levels.find_many(level, range);
        found.map(|found| levels::read_many(files, found)).transpose()
    }

    pub(crate) fn status_node(&self, level: u8, index: u64, files: &Files) -> Result<Digest> {
        Ok(self.status_nodes(&[(level, index)], files)?[0])
    }

    pub(crate) fn status_nodes(&self, places: &[(u8, u64)], files: &Files) -> Result<Vec<Digest>> {
        read(&self.inner)?.nodes(self.number, places, files)
    }

    /// Lays an old hash of the status tree over the one on disk.
    pub(crate) fn lay_over(&self, level: u8, index: u64, old: Digest) -> Result<()> {
        write(&self.inner)?.status.insert((level, index), old);
        Ok(())
    }

    /// The path of an invoice in the tree with this root; nothing where that is neither the tree of
    /// now nor kept.
    pub(crate) fn status_path(
        &self,
        issue: u64,
        root: &Digest,
        files: &Files,
        database: &Index,
    ) -> Result<Option<StatusPath>> {
        let inner = read(&self.inner)?;
        let Some(above) = inner.past.above(root, &inner.state.status_root) else {
            return Ok(None);
        };
        let document = match above.document(issue) {
            Some(Was::This(document)) => document.clone(),
            Some(Was::InFiles) => database.document(self.number, issue)?,
            None => inner.document(self.number, issue, database)?,
        };
        let places = status::path_of(issue);
        let found = match *root == [0; 32] {
            true => vec![[0; 32]; places.len()],
            false => inner.nodes_below(&above, self.number, &places, files)?,
        };
        let (record, siblings) = status::split_path(issue, found);
        Ok(Some(StatusPath { record, siblings, document }))
    }

    pub(crate) fn document(&self, issue: u64, index: &Index) -> Result<Option<Vec<u8>>> {
        read(&self.inner)?.document(self.number, issue, index)
    }

    pub(crate) fn statuses(&self, issues: &[u64], index: &Index) -> Result<Vec<Option<Vec<u8>>>> {
        let inner = read(&self.inner)?;
        let found = issues.iter().map(|issue| inner.documents.get(issue).cloned());
        let mut found: Vec<Option<Vec<u8>>> = found.collect();
        let absent = (0..issues.len()).filter(|i| found[*i].is_none());
        let (places, asked): (Vec<usize>, Vec<u64>) = absent.map(|i| (i, issues[i])).unzip();
        let documents = index.documents_of(self.number, &asked)?;
        places.into_iter().zip(documents).for_each(|(i, document)| found[i] = document);
        Ok(found)
    }

    pub(crate) fn documents(&self, from: u64, max: usize, index: &Index) -> Result<Documents> {
        let inner = read(&self.inner)?;
        let on_disk = index.documents(self.number, from, max)?;
        let mut merged: std::collections::BTreeMap<_, _> = on_disk.into_iter().collect();
        for (issue, document) in inner.documents.entries().filter(|(issue, _)| **issue >= from) {
            merged.insert(*issue, document.clone());
        }
        Ok(merged.into_iter().take(max).collect())
    }

    pub(crate) fn waits(&self, until: i64, index: &Index) -> Result<Vec<Wait>> {
        let inner = read(&self.inner)?;
        let Some(from) = inner.waits.from().filter(|from| *from <= until) else {
            return Ok(Vec::new());
        };
        let on_disk = index.waits(self.number, from, until)?;
        Ok(inner.waits.over(on_disk, until))
    }

    pub(crate) fn rows(
        &self,
        from: u64,
        max_rows: u64,
        max_bytes: u64,
        files: &Files,
    ) -> Result<Rows> {
        let frames = lock(&self.tail)?.frames(from, max_rows, max_bytes);
        let frames = frames.into_iter().map(|at| tail::read_frame(files, at).map(Arc::new));
        Ok(tail::rows_of(frames.collect::<Result<_>>()?, from, max_rows))
    }

    pub(crate) fn row(&self, log_index: u64, files: &Files) -> Result<Option<Row>> {
        let within = |frame: &&Arc<RowChunk>| {
            let first = frame.first_index;
            (first..first + u64::from(frame.count)).contains(&log_index)
        };
        // Receipts of fresh records are often asked for one after the other.
        let cached = lock(&self.last_frame)?.as_ref().filter(within).map(Arc::clone);
        let frame = match cached {
            Some(frame) => frame,
            None => {
                let at = {
                    let tail = lock(&self.tail)?;
                    if !(tail.first()..tail.next()).contains(&log_index) {
                        return Ok(None);
                    }
                    tail.frames(log_index, 1, 1).first().copied()
                };
                let Some(at) = at else { return Ok(None) };
                let frame = Arc::new(tail::read_frame(files, at)?);
                *lock(&self.last_frame)? = Some(Arc::clone(&frame));
                frame
            }
        };
        let row = frame.rows().find(|row| row.log_index == log_index);
        Ok(row.map(Row::from))
    }

    pub(crate) fn release(&self, up_to: u64, files: &Files) -> Result<()> {
        lock(&self.tail)?.release(up_to, files)
    }

    /// First log index that the tail still has.
    pub(crate) fn tail_first(&self) -> Result<u64> {
        Ok(lock(&self.tail)?.first())
    }

    /// Bytes of log levels and of the tail.
    pub(crate) fn bytes(&self) -> Result<(u64, u64)> {
        Ok((read(&self.inner)?.levels.bytes(), lock(&self.tail)?.bytes()))
    }
}

impl Inner {
    /// Sets hashes and documents; what they were.
    fn set_statuses(
        &mut self,
        height: u64,
        nodes: Vec<(u8, u64, Digest)>,
        documents: Vec<(u64, Vec<u8>)>,
    ) -> Layer {
        let node = |(level, index, hash)| {
            let place = (level, index);
            (place, self.status.replace(place, hash).map_or(Was::InFiles, Was::This))
        };
        let nodes = nodes.into_iter().map(node).collect();
        let document = |(issue, document)| {
            let old = self.documents.replace(issue, document);
            (issue, old.map_or(Was::InFiles, |old| Was::This(Some(old))))
        };
        let documents = documents.into_iter().map(document).collect();
        Layer::new(height, self.state.status_root, nodes, documents)
    }

    fn document(&self, shard: u32, issue: u64, index: &Index) -> Result<Option<Vec<u8>>> {
        match self.documents.get(&issue) {
            Some(document) => Ok(Some(document.clone())),
            None => index.document(shard, issue),
        }
    }

    /// Hashes of a tree that layers lie above.
    fn nodes_below(
        &self,
        above: &Above<'_>,
        shard: u32,
        places: &[(u8, u64)],
        files: &Files,
    ) -> Result<Vec<Digest>> {
        let mut out = vec![[0; 32]; places.len()];
        let (mut in_files, mut same) = (Vec::new(), (Vec::new(), Vec::new()));
        for (to, place) in places.iter().copied().enumerate() {
            match above.node(place) {
                Some(Was::This(hash)) => out[to] = *hash,
                Some(Was::InFiles) => in_files.push((Spot::of(place.0, place.1), to)),
                None => {
                    same.0.push(place);
                    same.1.push(to);
                }
            }
        }
        tiles::read(files, shard, in_files, &mut out)?;
        let found = self.nodes(shard, &same.0, files)?;
        same.1.into_iter().zip(found).for_each(|(to, hash)| out[to] = hash);
        Ok(out)
    }

    fn nodes(&self, shard: u32, places: &[(u8, u64)], files: &Files) -> Result<Vec<Digest>> {
        let changed = |level: u8, index: u64| self.status.get(&(level, index));
        status::nodes(places, changed, &self.upper, files, shard)
    }
}

/// Where these places lie, each with its number.
fn spots(places: &[(u8, u64)]) -> Vec<(Spot, usize)> {
    places.iter().map(|(level, index)| Spot::of(*level, *index)).zip(0..).collect()
}

/// Reads a hash that is not in memory.
pub(crate) fn resolve(found: Found, index: u64, files: &Files) -> Result<Option<Digest>> {
    match found {
        Found::Here(hash) => Ok(Some(hash)),
        Found::InFile(place) => levels::read(files, place, index).map(Some),
        Found::Absent => Ok(None),
    }
}
