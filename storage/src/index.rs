//! RocksDB: ids, status documents, waits, and the flush point.
//!
//! Nothing is written here between flush points, so RocksDB flushes nothing that we did not ask for
//! and its own log is off. Ids arrive as one sorted table a flush, built aside and ingested, which
//! spares the memtable; they may therefore be ahead of the flush point after a crash, and every
//! look-up is made against a log size that hides those. The batch of documents, waits and
//! flush point is what completes a flush.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB,
    DBCompactionStyle, DBCompressionType, FlushOptions, IngestExternalFileOptions, Options,
    SstFileWriter, UniversalCompactOptions, WriteBatch, WriteOptions,
};

use crate::effects::{FlushPoint, IdPlace, read_vint, write_vint};
use crate::error::{During, Result, StoreError};
use crate::files::{create_folder, delete};
use crate::overlay::Map;
use crate::waits::{FrozenWaits, Wait};

const IDS: &str = "ids";
const STATUS: &str = "status";
const WAITS: &str = "waits";
const META: &str = "meta";
const POINT: &[u8] = b"flush";
/// Whether a rebuild of the ids is under way: one byte, 0 or 1.
const REBUILDING: &[u8] = b"rebuilding";

/// Sorted runs of ids at which merging begins.
const RUNS: i32 = 8;

/// Limits that the index keeps.
#[derive(Clone, Copy)]
pub(crate) struct IndexLimits {
    pub(crate) cache_bytes: usize,
    pub(crate) open_files: i32,
    pub(crate) background_jobs: i32,
}

/// New ids of one shard.
pub(crate) type NewIds = (u32, Arc<Map<Vec<u8>, IdPlace>>);

/// New documents of one shard.
pub(crate) type NewDocuments = (u32, Arc<Map<u64, Vec<u8>>>);

/// Changed waits of one shard.
pub(crate) type NewWaits = (u32, Arc<FrozenWaits>);

/// The open database.
pub(crate) struct Index {
    db: DB,
    ids: Options,
    incoming: PathBuf,
}

impl Index {
    /// Opens for writing; creates it where `create`.
    pub(crate) fn open(root: &Path, limits: IndexLimits, create: bool) -> Result<Self> {
        let cache = Cache::new_lru_cache(limits.cache_bytes);
        let mut options = db_options(limits);
        options.create_if_missing(create);
        options.create_missing_column_families(create);
        let ids = ids_options(&cache);
        let (path, incoming) = (root.join("index"), root.join("incoming"));
        let db = DB::open_cf_descriptors(&options, &path, families(&cache)).at("open", &path)?;
        create_folder(&incoming)?;
        for entry in std::fs::read_dir(&incoming).at("list", &incoming)? {
            delete(&entry.at("list", &incoming)?.path())?;
        }
        Ok(Self { db, ids, incoming })
    }

    /// Opens for reading beside a writer, as of now.
    pub(crate) fn open_read_only(root: &Path, limits: IndexLimits) -> Result<Self> {
        let cache = Cache::new_lru_cache(limits.cache_bytes);
        let mut options = db_options(limits);
        // All files are opened at once, so that a writer who deletes one takes nothing from us.
        options.set_max_open_files(-1);
        let path = root.join("index");
        let open = || DB::open_cf_descriptors_read_only(&options, &path, families(&cache), false);
        // A writer may delete a file between our reading its name and opening it.
        let db = (0..4).find_map(|_| open().ok()).map_or_else(open, Ok).at("open", &path)?;
        Ok(Self { db, ids: Options::default(), incoming: root.join("incoming") })
    }

    fn family(&self, name: &str) -> Result<&ColumnFamily> {
        self.db.cf_handle(name).ok_or_else(|| {
            StoreError::damaged(format!(
                "the index has no column family {name}: restore the data folder"
            ))
        })
    }

    /// The last completed flush point.
    pub(crate) fn flush_point(&self) -> Result<Option<FlushPoint>> {
        let found = self.db.get_cf(self.family(META)?, POINT).during(|| reading("flush point"))?;
        let Some(bytes) = found else { return Ok(None) };
        let point = FlushPoint::decode(&bytes);
        let damaged = || StoreError::damaged("the flush point in the index cannot be read");
        point.map(Some).ok_or_else(damaged)
    }

    /// Looks a subject up, as of log size `size`.
    pub(crate) fn find(&self, shard: u32, subject: &[u8], size: u64) -> Result<Option<IdPlace>> {
        let key = id_key(shard, subject);
        let found = self.db.get_pinned_cf(self.family(IDS)?, key).during(|| reading("id"))?;
        found.map_or(Ok(None), |bytes| place(&bytes, size))
    }

    /// Looks many subjects up at once.
    pub(crate) fn find_many(
        &self,
        shard: u32,
        subjects: &[&[u8]],
        size: u64,
    ) -> Result<Vec<Option<IdPlace>>> {
        let keys: Vec<Vec<u8>> = subjects.iter().map(|subject| id_key(shard, subject)).collect();
        let order = sorted(keys.iter().map(Vec::as_slice));
        let sorted_keys = order.iter().map(|(_, key, _)| *key);
        let found = self.db.batched_multi_get_cf(self.family(IDS)?, sorted_keys, true);
        let mut places = vec![None; keys.len()];
        for ((_, _, i), found) in order.iter().zip(found) {
            if let Some(bytes) = found.during(|| reading("id"))? {
                places[*i] = place(&bytes, size)?;
            }
        }
        Ok(places)
    }

    /// A status document.
    pub(crate) fn document(&self, shard: u32, issue: u64) -> Result<Option<Vec<u8>>> {
        let key = document_key(shard, issue);
        self.db.get_cf(self.family(STATUS)?, key).during(|| reading("status document"))
    }

    /// The status documents of these issue indices, which ascend.
    pub(crate) fn documents_of(&self, shard: u32, issues: &[u64]) -> Result<Vec<Option<Vec<u8>>>> {
        if issues.is_empty() {
            return Ok(Vec::new());
        }
        debug_assert!(issues.is_sorted());
        let keys: Vec<[u8; 12]> = issues.iter().map(|issue| document_key(shard, *issue)).collect();
        let found = self.db.batched_multi_get_cf(self.family(STATUS)?, &keys, true);
        let document = |found: std::result::Result<Option<rocksdb::DBPinnableSlice<'_>>, _>| {
            found.map(|slice| slice.map(|bytes| bytes.to_vec())).during(|| reading("status"))
        };
        found.into_iter().map(document).collect()
    }

    /// Status documents from an issue index on, at most `max`.
    pub(crate) fn documents(&self, shard: u32, from: u64, max: usize) -> Result<Documents> {
        let start = document_key(shard, from);
        let mode = rocksdb::IteratorMode::From(&start, rocksdb::Direction::Forward);
        let mut found = Vec::new();
        for entry in self.db.iterator_cf(self.family(STATUS)?, mode).take(max) {
            let (key, value) = entry.during(|| reading("status document"))?;
            if key.get(..4) != Some(&shard.to_be_bytes()) {
                break;
            }
            let issue = crate::frame::read_u64(&key, 4).unwrap_or_default();
            found.push((issue, value.into_vec()));
        }
        Ok(found)
    }

    /// The waits of a shard between two times, in their order.
    pub(crate) fn waits(&self, shard: u32, from: i64, until: i64) -> Result<Vec<Wait>> {
        let start = wait_key(shard, from, 0);
        let mode = rocksdb::IteratorMode::From(&start, rocksdb::Direction::Forward);
        let damaged = || StoreError::damaged("a wait in the index cannot be read");
        let mut found = Vec::new();
        for entry in self.db.iterator_cf(self.family(WAITS)?, mode) {
            let (key, value) = entry.during(|| reading("wait"))?;
            if key.get(..4) != Some(&shard.to_be_bytes()) {
                break;
            }
            let wait = wait_of(&key, &value).ok_or_else(damaged)?;
            if wait.at > until {
                break;
            }
            found.push(wait);
        }
        Ok(found)
    }

    /// Adds ids, durably. `name` names the table on its way in.
    pub(crate) fn add_ids(&self, name: u64, mut shards: Vec<NewIds>) -> Result<()> {
        shards.retain(|(_, ids)| !ids.is_empty());
        shards.sort_unstable_by_key(|(shard, _)| *shard);
        if shards.is_empty() {
            return Ok(());
        }
        let path = self.incoming.join(format!("{name:020}.sst"));
        let write = || -> std::result::Result<(), rocksdb::Error> {
            let mut table = SstFileWriter::create(&self.ids);
            table.open(&path)?;
            let (mut key, mut value) = (Vec::new(), Vec::new());
            for (shard, ids) in &shards {
                let ids: Vec<_> = ids.iter().collect();
                for (_, subject, i) in sorted(ids.iter().map(|(subject, _)| subject.as_slice())) {
                    let place = ids[i].1;
                    key.clear();
                    key.extend_from_slice(&shard.to_be_bytes());
                    key.extend_from_slice(subject);
                    value.clear();
                    place.encode(&mut value);
                    table.put(&key, &value)?;
                }
            }
            table.finish()
        };
        write().at("write", &path)?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        let ids = self.family(IDS)?;
        self.db.ingest_external_file_cf_opts(ids, &options, vec![&path]).at("ingest", &path)?;
        delete(&path)
    }

    /// Writes documents, waits and the flush point, and makes them durable together.
    pub(crate) fn complete(
        &self,
        point: &FlushPoint,
        documents: &[NewDocuments],
        waits: &[NewWaits],
    ) -> Result<()> {
        let mut batch = WriteBatch::default();
        let status = self.family(STATUS)?;
        for (shard, documents) in documents {
            for (issue, document) in documents.iter() {
                batch.put_cf(status, document_key(*shard, *issue), document);
            }
        }
        let family = self.family(WAITS)?;
        for (shard, waits) in waits {
            if let Some(done) = waits.done {
                let (from, to) = (wait_key(*shard, i64::MIN, 0), wait_key(*shard, done, u64::MAX));
                // The end is exclusive, and no issue index is so large.
                batch.delete_range_cf(family, from, to);
            }
            for wait in waits.iter() {
                let mut value = Vec::with_capacity(wait.subject.len() + 10);
                write_vint(&mut value, wait.log_index);
                value.extend_from_slice(&wait.subject);
                batch.put_cf(family, wait_key(*shard, wait.at, wait.issue_index), value);
            }
        }
        let meta = self.family(META)?;
        batch.put_cf(meta, POINT, point.encode());
        self.write(batch).during(|| format!("cannot write the flush point of {}", point.height))
    }

    /// Writes a batch and flushes what it may have touched, all together.
    fn write(&self, batch: WriteBatch) -> Result<()> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        let families = [self.family(STATUS)?, self.family(WAITS)?, self.family(META)?];
        let done = self.db.write_opt(batch, &options).and_then(|()| {
            let mut flush = FlushOptions::default();
            flush.set_wait(true);
            self.db.flush_cfs_opt(&families, &flush)
        });
        done.during(|| "cannot write to the index".to_owned())
    }

    /// Notes that the ids are incomplete, or complete again.
    pub(crate) fn set_rebuilding(&self, rebuilding: bool) -> Result<()> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(META)?, REBUILDING, [u8::from(rebuilding)]);
        self.write(batch)
    }

    /// Whether a rebuild of the ids was begun and not finished.
    pub(crate) fn rebuilding(&self) -> Result<bool> {
        let found = self.db.get_cf(self.family(META)?, REBUILDING).during(|| reading("note"))?;
        Ok(found.is_some_and(|value| value != [0]))
    }

    /// Whether merging of ids lags so far behind that look-ups would suffer.
    pub(crate) fn lags(&self) -> Result<bool> {
        let name = "rocksdb.num-files-at-level0";
        let files = self.db.property_int_value_cf(self.family(IDS)?, name);
        let files = files.during(|| reading("number of tables"))?;
        Ok(files.is_some_and(|files| files > 4 * RUNS as u64))
    }

    /// Deletes all ids, to build them again.
    pub(crate) fn clear_ids(&mut self) -> Result<()> {
        let done = self.db.drop_cf(IDS).and_then(|()| self.db.create_cf(IDS, &self.ids));
        done.during(|| "cannot empty the ids".to_owned())
    }

    /// Merges all sorted runs of ids into one.
    pub(crate) fn merge_ids(&self) -> Result<()> {
        self.db.compact_range_cf(self.family(IDS)?, None::<&[u8]>, None::<&[u8]>);
        Ok(())
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let mut total = 0;
        for family in [IDS, STATUS, WAITS, META] {
            let name = "rocksdb.total-sst-files-size";
            let size = self.db.property_int_value_cf(self.family(family)?, name);
            total += size.during(|| reading("size"))?.unwrap_or_default();
        }
        Ok(total)
    }
}

/// Status documents with their issue indices, ascending.
pub type Documents = Vec<(u64, Vec<u8>)>;

fn reading(what: &str) -> String {
    format!("cannot read a {what} from the index")
}

fn id_key(shard: u32, subject: &[u8]) -> Vec<u8> {
    [&shard.to_be_bytes(), subject].concat()
}

/// Times ascend as bytes do: the sign is turned over.
fn wait_key(shard: u32, at: i64, issue: u64) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&shard.to_be_bytes());
    key[4..12].copy_from_slice(&(at as u64 ^ 1 << 63).to_be_bytes());
    key[12..].copy_from_slice(&issue.to_be_bytes());
    key
}

fn wait_of(key: &[u8], mut value: &[u8]) -> Option<Wait> {
    let at = (crate::frame::read_u64(key, 4)? ^ 1 << 63) as i64;
    let issue_index = crate::frame::read_u64(key, 12)?;
    let log_index = read_vint(&mut value)?;
    Some(Wait { at, issue_index, log_index, subject: value.to_vec() })
}

fn document_key(shard: u32, issue: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&shard.to_be_bytes());
    key[4..].copy_from_slice(&issue.to_be_bytes());
    key
}

/// Sorts keys; gives each with its place before.
///
/// Numbers of a chain share a long beginning. The eight bytes after it, taken out once, decide
/// nearly every comparison without following a pointer.
fn sorted<'a>(keys: impl Iterator<Item = &'a [u8]>) -> Vec<(u64, &'a [u8], usize)> {
    let mut keys: Vec<_> = keys.enumerate().map(|(i, key)| (0, key, i)).collect();
    let Some(&(_, first, _)) = keys.first() else { return keys };
    let common = |key: &[u8]| first.iter().zip(key).take_while(|(a, b)| a == b).count();
    let shared = keys.iter().fold(first.len(), |shared, (_, key, _)| shared.min(common(key)));
    for (head, key, _) in &mut keys {
        let mut bytes = [0; 8];
        let rest = &key[shared..];
        let len = rest.len().min(8);
        bytes[..len].copy_from_slice(&rest[..len]);
        *head = u64::from_be_bytes(bytes);
    }
    keys.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(b.1)));
    keys
}

/// Decodes an id's value; one at or past the log size is of a block that was not applied.
fn place(bytes: &[u8], size: u64) -> Result<Option<IdPlace>> {
    match IdPlace::decode(bytes) {
        Some(place) => Ok((place.log_index < size).then_some(place)),
        None => Err(StoreError::damaged("an id in the index cannot be read: rebuild the ids")),
    }
}

fn db_options(limits: IndexLimits) -> Options {
    let mut options = Options::default();
    // Documents and flush point are one state: all families are flushed together or none is.
    options.set_atomic_flush(true);
    options.set_max_background_jobs(limits.background_jobs);
    options.set_max_open_files(limits.open_files);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(4 << 20);
    options.set_stats_dump_period_sec(0);
    options
}

fn families(cache: &Cache) -> Vec<ColumnFamilyDescriptor> {
    let mut status = Options::default();
    let mut table = table_options(cache);
    table.set_bloom_filter(10.0, false);
    status.set_block_based_table_factory(&table);
    status.set_compression_type(DBCompressionType::Lz4);
    vec![
        ColumnFamilyDescriptor::new("default", Options::default()),
        ColumnFamilyDescriptor::new(IDS, ids_options(cache)),
        ColumnFamilyDescriptor::new(STATUS, status),
        ColumnFamilyDescriptor::new(WAITS, Options::default()),
        ColumnFamilyDescriptor::new(META, Options::default()),
    ]
}

fn table_options(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(16 << 10);
    table.set_format_version(6);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(16 << 10);
    table.set_whole_key_filtering(true);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_top_level_index_and_filter(true);
    table
}

fn ids_options(cache: &Cache) -> Options {
    let mut options = Options::default();
    let mut table = table_options(cache);
    // Quick filters for fresh tables, small ones for those that stay. A false alarm costs more
    // than a hundred right answers, and there are several tables to ask: hence 15 bits.
    table.set_hybrid_ribbon_filter(15.0, 1);
    table.set_block_size(8 << 10);
    options.set_block_based_table_factory(&table);
    // Commitments are random; what is around them is worth 12 bytes an id, at nearly no cost.
    options.set_compression_type(DBCompressionType::Zstd);
    options.set_compression_options(-14, 1, 0, 0);
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_level_zero_file_num_compaction_trigger(RUNS);
    options.set_level_zero_slowdown_writes_trigger(1 << 20);
    options.set_level_zero_stop_writes_trigger(1 << 20);
    let mut universal = UniversalCompactOptions::default();
    universal.set_max_size_amplification_percent(400);
    options.set_universal_compaction_options(&universal);
    options.set_target_file_size_base(256 << 20);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_as_bytes_are() {
        let cases: [&[&[u8]]; 5] = [
            &[],
            &[b"one"],
            &[b"", b"\0", b"\0\0", b"a"],
            &[b"same12345678z", b"same12345678a", b"same12345678", b"same2", b"same"],
            &[b"\xff\xff", b"\x00", b"\x7f", b"\xff"],
        ];
        for keys in cases {
            let found: Vec<&[u8]> = sorted(keys.iter().copied()).iter().map(|k| k.1).collect();
            let mut wanted = keys.to_vec();
            wanted.sort();
            assert_eq!(found, wanted);
            assert!(sorted(keys.iter().copied()).iter().all(|(_, key, i)| keys[*i] == *key));
        }
    }
}
