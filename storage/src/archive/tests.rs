//! The archive as a whole: lossless, safe at every step of a crash, wrong wherever it is altered.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Decimal128Type, Int64Type};
use bytes::Bytes;
use object_store::memory::InMemory;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use piaogen_verify::entry::Entry;
use piaogen_verify::trust_root::TrustRoot;

use super::audit::{AuditOptions, Check, Report, verify};
use super::medium::{Local, Medium, Ranged};
use super::*;
use crate::effects::{IdPlace, RowRef};

#[path = "../../tests/mini_chain/mod.rs"]
mod mini_chain;
use mini_chain::{MiniChain, MiniRow, Plan};

const PLAN: Plan = Plan { seed: 7, partitions: 2, blocks: 16, rows: 40, signed: true };

fn config(location: &Path) -> ArchiveConfig {
    let mut config = ArchiveConfig::new(location.display().to_string());
    config.segment_rows = 150;
    config.row_group_rows = 64;
    config
}

fn seal_rows(archive: &Archive, chain: &MiniChain) -> Result<()> {
    for (shard, rows) in (0..).zip(&chain.shards) {
        let from = archive.sealed_up_to(shard)? as usize;
        archive.seal(shard, rows[from..].iter().map(MiniRow::view))?;
    }
    Ok(())
}

fn seal_blocks(archive: &Archive, chain: &MiniChain, up_to: usize) -> Result<()> {
    let from = archive.blocks_sealed_up_to()? as usize;
    let encoded: Vec<_> = chain.blocks[from..up_to.max(from)]
        .iter()
        .map(|block| (block.header.encode(), block.cut.encode(), &block.certificate))
        .collect();
    let blocks =
        encoded.iter().map(|(header, cut, certificate)| BlockRef { header, cut, certificate });
    archive.seal_blocks(blocks).map(|_| ())
}

fn seal_all(archive: &Archive, chain: &MiniChain) -> Result<()> {
    archive.put_genesis(&chain.genesis_bytes)?;
    seal_rows(archive, chain)?;
    seal_blocks(archive, chain, 9)?;
    seal_blocks(archive, chain, chain.blocks.len())
}

fn sealed(chain: &MiniChain) -> (tempfile::TempDir, Archive) {
    let dir = tempfile::tempdir().unwrap();
    let archive = Archive::open(config(dir.path()), chain.genesis.chain).unwrap();
    seal_all(&archive, chain).unwrap();
    (dir, archive)
}

fn check_rows(archive: &Archive, chain: &MiniChain) {
    for (shard, rows) in (0..).zip(&chain.shards) {
        assert_eq!(archive.sealed_up_to(shard).unwrap(), rows.len() as u64);
        let read: Vec<_> = archive.rows(shard, 0).map(|row| row.unwrap()).collect();
        assert_eq!(read.len(), rows.len());
        for (read, written) in read.iter().zip(rows) {
            let read = RowRef {
                log_index: read.log_index,
                height: read.height,
                time_ms: read.time_ms,
                entry: &read.entry,
                record: &read.record,
            };
            assert_eq!(read, written.view());
        }
    }
}

fn audit(archive: &Archive, chain: &MiniChain, signatures: bool) -> Report {
    let trust = TrustRoot::of_genesis(&chain.genesis);
    let options = AuditOptions { threads: 2, signatures, findings_max: 1_000 };
    verify(archive, &trust, &options, &|_| {}).unwrap()
}

/// The entries of records that created invoices, from their ids.
fn check_entries_of(archive: &Archive, shard: u32, rows: &[MiniRow]) {
    let mut invoices = 0;
    for (index, row) in (0..).zip(rows) {
        let entry = Entry::decode(&row.entry).unwrap();
        let Some(id) = IdPlace::of_entry(index, &entry) else { continue };
        let found = archive.entry_of(shard, &entry.subject, &id).unwrap();
        assert_eq!(found, Some(entry));
        let absent = IdPlace { log_index: rows.len() as u64, ..id };
        assert_eq!(archive.entry_of(shard, b"x", &absent).unwrap(), None);
        invoices += 1;
    }
    assert!(invoices > 0 || shard == PLAN.partitions);
}

#[test]
fn rows_of_every_kind_come_back_byte_for_byte() {
    for seed in 0..12 {
        let chain = MiniChain::make(Plan { seed, blocks: 14, ..PLAN });
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        config.commitments = seed % 2 == 1;
        let archive = Archive::open(config, chain.genesis.chain).unwrap();
        seal_all(&archive, &chain).unwrap();
        check_rows(&archive, &chain);
        for (shard, rows) in (0..).zip(&chain.shards) {
            for index in [0, 1, 63, 64, 149, 150, rows.len() - 1] {
                let found = archive.row(shard, index as u64).unwrap();
                let written = rows.get(index).map(|r| (r.entry.clone(), r.record.clone()));
                assert_eq!(found.map(|row| (row.entry, row.record)), written);
            }
            assert_eq!(archive.row(shard, rows.len() as u64).unwrap(), None);
            check_entries_of(&archive, shard, rows);
            let from = rows.len() as u64 / 2;
            assert_eq!(archive.rows(shard, from).count() as u64, rows.len() as u64 - from);
        }
    }
}

#[test]
fn segments_end_with_days_and_limits_and_manifests_name_them() {
    let chain = MiniChain::make(PLAN);
    let (dir, archive) = sealed(&chain);
    let segments = archive.segments();
    for segment in &segments {
        assert!(segment.rows <= 150);
        assert!(dir.path().join(&segment.path).is_file());
        let records = segment.shard.is_some();
        assert!(!records || segment.path.contains(&format!("date={}/", segment.date())));
    }
    let days: std::collections::BTreeSet<_> = segments.iter().map(SegmentInfo::date).collect();
    assert_eq!(days.into_iter().collect::<Vec<_>>(), ["", "2026-11-21", "2026-11-22"]);
    let blocks: Vec<_> = archive.blocks(0).map(|block| block.unwrap()).collect();
    assert_eq!(blocks.len(), chain.blocks.len());
    for (read, made) in blocks.iter().zip(&chain.blocks) {
        assert_eq!(read.header, made.header.encode());
        assert_eq!((&read.cut, &read.certificate), (&made.cut, &made.certificate));
    }
    assert_eq!(archive.genesis().unwrap().unwrap(), chain.genesis_bytes);
}

#[test]
fn a_number_is_found_by_its_filter() {
    let chain = MiniChain::make(PLAN);
    let (_dir, archive) = sealed(&chain);
    let mut checked = 0;
    for (shard, rows) in (0..2).zip(&chain.shards) {
        for row in rows.iter().step_by(17) {
            let Ok(record) = piaogen_verify::record::decode(&row.record) else { continue };
            let number = record.text(piaogen_verify::fields::tag::NUMBER);
            let found = archive.find_number("CN-EINV", number, None).unwrap();
            assert!(found.contains(&(shard, row.log_index)), "{number}");
            assert!(archive.find_number("OTHER", number, None).unwrap().is_empty());
            assert_eq!(archive.find_number("CN-EINV", number, Some(shard)).unwrap(), found);
            checked += 1;
        }
    }
    assert!(checked > 40);
    assert!(archive.find_number("CN-EINV", "26000000000000000000", None).unwrap().is_empty());
}

#[test]
fn gaps_overlaps_strangers_and_early_blocks_are_refused() {
    let chain = MiniChain::make(PLAN);
    let (dir, archive) = sealed(&chain);
    let refused = |result: Result<()>| matches!(result, Err(StoreError::Refused(_)));
    let rows = &chain.shards[0];
    let seal = |rows: &[MiniRow]| archive.seal(0, rows.iter().map(MiniRow::view)).map(|_| ());
    assert!(refused(seal(&rows[..1])), "overlap");
    let gap =
        MiniRow { log_index: rows.len() as u64 + 1, entry: vec![], record: vec![], ..rows[0] };
    assert!(refused(seal(&[gap])), "gap");
    assert!(refused(archive.put_genesis(b"{}")));
    assert!(refused(Archive::open(config(dir.path()), [9; 32]).map(|_| ())));
    let reader = Archive::open_read_only(config(dir.path()), None).unwrap();
    assert_eq!(reader.chain(), chain.genesis.chain);
    assert!(refused(reader.seal(0, []).map(|_| ())));
    let nowhere = Archive::open_read_only(config(&dir.path().join("none")), None);
    assert!(refused(nowhere.map(|_| ())));
    let empty = tempfile::tempdir().unwrap();
    let archive = Archive::open(config(empty.path()), chain.genesis.chain).unwrap();
    assert!(refused(seal_blocks(&archive, &chain, 3)), "rows first");
    archive.put_genesis(&chain.genesis_bytes).unwrap();
    seal_blocks(&archive, &chain, 1).unwrap();
}

#[test]
fn an_object_store_serves_as_well() {
    let chain = MiniChain::make(PLAN);
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let scratch = tempfile::tempdir().unwrap();
    let open = |writable| {
        let mut config = config(Path::new("memory"));
        config.scratch = Some(scratch.path().to_owned());
        let prefix = StorePath::from("some/prefix");
        let chain = Some(chain.genesis.chain);
        Archive::open_store(store.clone(), prefix, config, chain, writable).unwrap()
    };
    seal_all(&open(true), &chain).unwrap();
    let archive = open(false);
    check_rows(&archive, &chain);
    assert!(archive.row(1, 77).unwrap().is_some());
    let report = audit(&archive, &chain, false);
    assert_eq!((report.findings, report.rows), (vec![], chain.rows() as u64));
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn a_true_archive_is_clean_and_covered() {
    let chain = MiniChain::make(PLAN);
    let (_dir, archive) = sealed(&chain);
    let seen = Mutex::new(audit::Progress::default());
    let trust = TrustRoot::of_genesis(&chain.genesis);
    let options = AuditOptions { threads: 2, signatures: true, findings_max: 1_000 };
    let report = verify(&archive, &trust, &options, &|progress| {
        let mut seen = seen.lock().unwrap();
        seen.rows = seen.rows.max(progress.rows);
        seen.bytes = seen.bytes.max(progress.bytes);
        (seen.rows_total, seen.bytes_total) = (progress.rows_total, progress.bytes_total);
    })
    .unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.rows, chain.rows() as u64);
    assert_eq!(report.height, Some(PLAN.blocks));
    assert_eq!(report.blocks, PLAN.blocks + 1);
    let last: u64 =
        chain.shards.iter().flatten().filter(|r| r.height == PLAN.blocks).count() as u64;
    assert_eq!(report.rows_covered, report.rows - last);
    assert!(report.signatures > report.rows * 3 / 4);
    let seen = seen.into_inner().unwrap();
    assert_eq!((seen.rows, seen.bytes), (seen.rows_total, seen.bytes_total));
}

/// The files of shard 1 with rows, and of the blocks.
fn segment(archive: &Archive, series: Series, at: usize) -> SegmentInfo {
    let own = archive.segments().into_iter().filter(|segment| segment.series() == series);
    own.collect::<Vec<_>>()[at].clone()
}

/// Writes a segment again with other columns, keeping its manifest.
fn rewrite(dir: &Path, path: &str, change: impl Fn(&RecordBatch) -> RecordBatch) {
    let path = dir.join(path);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
    let reader = reader.with_batch_size(1_000).build().unwrap();
    let batches: Vec<_> = reader.map(|batch| change(&batch.unwrap())).collect();
    let options = ArrowWriterOptions::new().with_skip_arrow_metadata(true);
    let file = File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new_with_options(file, batches[0].schema(), options).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
}

fn with_column(batch: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let at = batch.schema().index_of(name).unwrap();
    let mut columns = batch.columns().to_vec();
    columns[at] = column;
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

fn found(report: &Report) -> Vec<(String, Option<u64>, Check)> {
    report.findings.iter().map(|f| (f.path.clone(), f.row, f.check)).collect()
}

#[test]
fn an_altered_value_is_named_with_its_row_in_any_column() {
    let chain = MiniChain::make(PLAN);
    let names: Vec<String> =
        records_schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut tried = 0;
    for name in &names {
        let (dir, archive) = sealed(&chain);
        // Its first row has an outcome that says that the signature held: all of it is checked.
        let target = segment(&archive, Series::Records(1), 0);
        let changed = AtomicUsize::new(usize::MAX);
        rewrite(dir.path(), &target.path, |batch| {
            let column = batch.column_by_name(name).unwrap();
            // The value of another row, where one differs: every column can be altered so.
            let other = (1..batch.num_rows()).find(|i| {
                let (a, b) = (column.slice(0, 1), column.slice(*i, 1));
                a.to_data() != b.to_data() && column.is_valid(*i)
            });
            let Some(other) = other else { return batch.clone() };
            changed.store(0, Ordering::Relaxed);
            let rest = column.slice(1, batch.num_rows() - 1);
            let parts: [&dyn Array; 2] = [&column.slice(other, 1), &rest];
            with_column(batch, name, arrow::compute::concat(&parts).unwrap())
        });
        if changed.load(Ordering::Relaxed) == usize::MAX {
            continue;
        }
        tried += 1;
        let report = audit(&archive, &chain, true);
        let found = found(&report);
        assert!(found.contains(&(target.path.clone(), None, Check::Digest)), "{name}: {found:?}");
        let row = Some(target.first);
        assert!(
            found.iter().any(|(path, at, _)| *path == target.path && *at == row),
            "{name}: {found:?}"
        );
    }
    assert!(tried > 30, "{tried} of {names:?}");
}

#[test]
fn rows_and_files_that_are_dropped_swapped_or_missing_are_named() {
    let chain = MiniChain::make(PLAN);
    let series = Series::Records(1);
    let check = |spoil: &dyn Fn(&Path, &Archive), expected: &dyn Fn(&Archive) -> Vec<_>| {
        let (dir, archive) = sealed(&chain);
        spoil(dir.path(), &archive);
        let report = audit(&archive, &chain, false);
        let found = found(&report);
        for expected in expected(&archive) {
            assert!(found.contains(&expected), "{expected:?} is not in {found:?}");
        }
        assert!(report.height < Some(PLAN.blocks));
        assert_eq!(archive.segments().len() as u64, report.segments);
    };
    // A row is dropped in the middle of a file.
    check(
        &|dir, archive| {
            rewrite(dir, &segment(archive, series, 1).path, |batch| {
                let (a, b) = (batch.slice(0, 20), batch.slice(21, batch.num_rows() - 21));
                arrow::compute::concat_batches(&batch.schema(), [&a, &b]).unwrap()
            });
        },
        &|archive| {
            let s = segment(archive, series, 1);
            vec![(s.path.clone(), None, Check::Digest), (s.path, Some(s.first + 20), Check::Order)]
        },
    );
    // The last row of a file is dropped.
    check(
        &|dir, archive| {
            let path = segment(archive, series, 1).path;
            rewrite(dir, &path, |batch| batch.slice(0, batch.num_rows() - 1));
        },
        &|archive| vec![(segment(archive, series, 1).path, None, Check::Order)],
    );
    // Two segments are swapped.
    check(
        &|dir, archive| {
            let (a, b) = (segment(archive, series, 0), segment(archive, series, 1));
            let (a, b) = (dir.join(a.path), dir.join(b.path));
            std::fs::rename(&a, dir.join("tmp/c")).unwrap();
            std::fs::rename(&b, &a).unwrap();
            std::fs::rename(dir.join("tmp/c"), &b).unwrap();
        },
        &|archive| {
            let (a, b) = (segment(archive, series, 0), segment(archive, series, 1));
            vec![
                (a.path.clone(), None, Check::Digest),
                (b.path, None, Check::Digest),
                (a.path, Some(0), Check::Order),
            ]
        },
    );
    // A file is missing, or cut short.
    check(
        &|dir, archive| std::fs::remove_file(dir.join(segment(archive, series, 1).path)).unwrap(),
        &|archive| vec![(segment(archive, series, 1).path, None, Check::File)],
    );
    check(
        &|dir, archive| {
            let path = dir.join(segment(archive, series, 1).path);
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(1_000).unwrap();
        },
        &|archive| {
            let path = segment(archive, series, 1).path;
            vec![(path.clone(), None, Check::Digest), (path, None, Check::Columns)]
        },
    );
}

#[test]
fn a_segment_that_is_replaced_with_its_manifest_is_found_by_the_headers() {
    let chain = MiniChain::make(PLAN);
    let (dir, archive) = sealed(&chain);
    drop(archive);
    // Everything about the rows is consistent, but one invoice is another.
    let forged = MiniChain::make(Plan { seed: 8, ..PLAN });
    std::fs::remove_dir_all(dir.path().join("manifest/0001")).unwrap();
    let archive = Archive::open(config(dir.path()), chain.genesis.chain).unwrap();
    let rows = forged.shards[1]
        .iter()
        .zip(&chain.shards[1])
        .map(|(forged, original)| (if forged.log_index == 200 { forged } else { original }).view());
    archive.seal(1, rows).unwrap();
    let report = audit(&archive, &chain, false);
    let height = chain.shards[1][200].height;
    let found = found(&report);
    let blocks = found.iter().find(|(.., check)| *check == Check::ShardsRoot).unwrap();
    assert_eq!(blocks.1, Some(height + 1), "{found:?}");
    let touched: Vec<usize> =
        (0..3).filter(|at| chain.shards[*at].iter().any(|row| row.height == height)).collect();
    let named = format!("block {height} in shards {touched:?}");
    assert!(report.findings.iter().any(|f| f.detail.contains(&named)), "{:?}", report.findings);
    assert_eq!(report.height, Some(height));
}

#[test]
fn a_dropped_last_segment_is_found_by_the_headers() {
    let chain = MiniChain::make(PLAN);
    let (dir, archive) = sealed(&chain);
    let series = Series::Records(0);
    let last = archive.segments().into_iter().rfind(|s| s.series() == series).unwrap();
    std::fs::remove_file(dir.path().join(&last.path)).unwrap();
    std::fs::remove_file(dir.path().join(last.manifest_path())).unwrap();
    let archive = Archive::open_read_only(config(dir.path()), None).unwrap();
    let report = audit(&archive, &chain, false);
    let found = found(&report);
    assert!(found.iter().any(|(.., check)| *check == Check::ShardsRoot), "{found:?}");
    // A manifest that is missing in between is found when opening.
    let first = segment(&archive, series, 0);
    std::fs::remove_file(dir.path().join(first.manifest_path())).unwrap();
    let opened = Archive::open_read_only(config(dir.path()), None).map(|_| ());
    assert!(opened.is_err_and(|error| error.is_fatal() && error.to_string().contains("a gap")));
}

#[test]
fn forged_headers_cuts_and_certificates_are_named() {
    let chain = MiniChain::make(PLAN);
    let column = |batch: &RecordBatch, name: &str, row: usize, at: usize| -> RecordBatch {
        let old = batch.column_by_name(name).unwrap();
        let values: Vec<Option<Vec<u8>>> = (0..batch.num_rows())
            .map(|i| {
                let mut bytes = match old.as_fixed_size_binary_opt() {
                    Some(column) => Some(column.value(i).to_vec()),
                    None => {
                        let column = old.as_binary::<i32>();
                        column.is_valid(i).then(|| column.value(i).to_vec())
                    }
                };
                if let (true, Some(bytes)) = (i == row, &mut bytes) {
                    bytes[at] ^= 1;
                }
                bytes
            })
            .collect();
        let array = arrow::array::BinaryArray::from_iter(values);
        let array = arrow::compute::cast(&array, old.data_type()).unwrap();
        with_column(batch, name, array)
    };
    let cases: [(&str, usize, Check); 6] = [
        ("certificate", 80, Check::Certificate),
        ("certificate", 5, Check::Certificate),
        ("header", 125, Check::Certificate),
        ("header", 157, Check::History),
        ("header", 61, Check::Header),
        ("digest", 0, Check::Header),
    ];
    for (name, byte, check) in cases {
        let (dir, archive) = sealed(&chain);
        let path = segment(&archive, Series::Blocks, 0).path;
        rewrite(dir.path(), &path, |batch| column(batch, name, 4, byte));
        let found = found(&audit(&archive, &chain, false));
        assert!(found.contains(&(path.clone(), Some(4), check)), "{name} {byte}: {found:?}");
    }
    let (_dir, archive) = sealed(&chain);
    let mut trust = TrustRoot::of_genesis(&chain.genesis);
    let stranger = piaogen_crypto::sm2::SecretKey::from_bytes(&[9; 32]).unwrap().public_key();
    trust.validators = piaogen_verify::header::ValidatorSet::new(vec![stranger]).unwrap();
    let report = verify(&archive, &trust, &AuditOptions::default(), &|_| {}).unwrap();
    assert_eq!(report.height, Some(0), "the genesis block alone needs no validators");
    assert!(!report.is_clean());
}

#[test]
fn sums_are_exact() {
    let chain = MiniChain::make(PLAN);
    let (dir, archive) = sealed(&chain);
    let expected: i128 = chain
        .shards
        .iter()
        .flatten()
        .filter_map(|row| piaogen_verify::record::decode(&row.record).ok())
        .map(|record| record.amount(piaogen_verify::fields::tag::TOTAL_GROSS))
        .sum();
    let mut sum = 0;
    let mut rows = 0;
    for segment in archive.segments().iter().filter(|segment| segment.shard.is_some()) {
        let file = File::open(dir.path().join(&segment.path)).unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let column = batch.column_by_name("total_gross").unwrap();
            sum += column.as_primitive::<Decimal128Type>().iter().flatten().sum::<i128>();
            let indexes = batch.column_by_name("log_index").unwrap();
            assert!(indexes.as_primitive::<Int64Type>().values().is_sorted());
            rows += batch.num_rows();
        }
    }
    assert_eq!((sum, rows), (expected, chain.rows()));
}

/// What a failing operation did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    NotApplied,
    Applied,
}

/// A folder of which one operation fails, and all after it, as when the process dies there.
struct Failing {
    inner: Local,
    left: AtomicUsize,
    fault: Fault,
    dies: bool,
}

impl Failing {
    fn run<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let left = self.left.load(Ordering::SeqCst);
        if left == 0 {
            return work();
        }
        if left == 1 && self.dies {
            return Err(StoreError::damaged("dead"));
        }
        self.left.store(left - 1, Ordering::SeqCst);
        if left != 2 {
            return work();
        }
        if !self.dies {
            self.left.store(0, Ordering::SeqCst);
        }
        if self.fault == Fault::Applied {
            work()?;
        }
        Err(StoreError::damaged("injected"))
    }
}

impl Medium for Failing {
    fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.inner.list(folder)
    }
    fn read(&self, path: &str) -> Result<Option<Bytes>> {
        self.inner.read(path)
    }
    fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.run(|| self.inner.put(path, bytes))
    }
    fn scratch(&self) -> Result<PathBuf> {
        self.run(|| self.inner.scratch())
    }
    fn sync(&self, file: &File, scratch: &Path) -> Result<()> {
        self.run(|| self.inner.sync(file, scratch))
    }
    fn publish(&self, scratch: &Path, path: &str) -> Result<()> {
        self.run(|| self.inner.publish(scratch, path))
    }
    fn delete(&self, path: &str) -> Result<()> {
        self.run(|| self.inner.delete(path))
    }
    fn open(&self, path: &str) -> Result<Option<Ranged>> {
        self.inner.open(path)
    }
    fn open_whole(&self, path: &str) -> Result<Option<File>> {
        self.inner.open_whole(path)
    }
    fn clear_scratch(&self) -> Result<()> {
        self.inner.clear_scratch()
    }
    fn store(&self) -> (Arc<dyn ObjectStore>, StorePath) {
        self.inner.store()
    }
    fn name(&self, path: &str) -> String {
        self.inner.name(path)
    }
}

#[test]
fn a_failure_at_any_step_loses_nothing_and_doubles_nothing() {
    let chain = MiniChain::make(Plan { rows: 12, blocks: 12, ..PLAN });
    let mut progress = BTreeMap::new();
    for fault in [Fault::NotApplied, Fault::Applied] {
        for dies in [false, true] {
            for step in 2.. {
                let dir = tempfile::tempdir().unwrap();
                let inner = Local::open(dir.path(), true).unwrap();
                let left = AtomicUsize::new(step);
                let medium = Arc::new(Failing { inner, left, fault, dies });
                let own = config(dir.path());
                let chain_id = Some(chain.genesis.chain);
                let archive =
                    Archive::open_on(medium.clone(), own.clone(), chain_id, true).unwrap();
                if seal_all(&archive, &chain).is_ok() {
                    // The step lies behind the last operation.
                    assert!(step > 12);
                    break;
                }
                let archive = if dies {
                    drop(archive);
                    // What a write that was cut short leaves as well.
                    let torn = dir.path().join("records/date=2026-11-21/shard=0000/torn.parquet");
                    std::fs::create_dir_all(torn.parent().unwrap()).unwrap();
                    std::fs::write(&torn, b"PAR1").unwrap();
                    std::fs::write(dir.path().join("tmp/torn.tmp"), b"x").unwrap();
                    let archive = Archive::open(own, chain.genesis.chain).unwrap();
                    assert!(!torn.exists());
                    archive
                } else {
                    archive
                };
                let rows: u64 = (0..3).map(|shard| archive.sealed_up_to(shard).unwrap()).sum();
                *progress.entry((dies, rows)).or_insert(0) += 1;
                seal_all(&archive, &chain).unwrap();
                check_rows(&archive, &chain);
                let report = audit(&archive, &chain, false);
                assert_eq!(report.findings, [], "step {step} {fault:?} dies {dies}");
                let reopened = Archive::open(config(dir.path()), chain.genesis.chain).unwrap();
                assert_eq!(reopened.segments(), archive.segments());
                let files = archive.medium.list("records").unwrap().len();
                let blocks = archive.medium.list("blocks").unwrap().len();
                assert_eq!(files + blocks, archive.segments().len());
                assert!(archive.medium.list("tmp").unwrap().is_empty());
            }
        }
    }
    // Failures were met before, between and after segments.
    assert!(progress.len() > 6, "{progress:?}");
}

#[test]
fn a_copy_that_fails_at_any_step_goes_on_and_is_a_beginning_of_the_original() {
    let chain = MiniChain::make(Plan { rows: 12, blocks: 12, ..PLAN });
    let (_original, source) = sealed(&chain);
    let all = source.segments();
    let whole = |archive: &Archive| archive.copy_from(&source, |_| u64::MAX);
    for fault in [Fault::NotApplied, Fault::Applied] {
        for step in 2.. {
            let dir = tempfile::tempdir().unwrap();
            let inner = Local::open(dir.path(), true).unwrap();
            let (left, dies) = (AtomicUsize::new(step), true);
            let medium = Arc::new(Failing { inner, left, fault, dies });
            let chain_id = Some(chain.genesis.chain);
            let archive =
                Archive::open_on(medium.clone(), config(dir.path()), chain_id, true).unwrap();
            archive.medium.put(GENESIS, &chain.genesis_bytes).ok();
            if whole(&archive).is_ok() {
                assert!(step > 3 * all.len());
                break;
            }
            drop(archive);
            let archive = Archive::open(config(dir.path()), chain.genesis.chain).unwrap();
            archive.put_genesis(&chain.genesis_bytes).unwrap();
            assert!(all.starts_with(&archive.segments()), "a beginning, in order");
            assert_eq!(whole(&archive).unwrap().segments, all.len() as u64);
            assert_eq!(whole(&archive).unwrap().bytes, 0, "all is there");
            assert_eq!(archive.segments(), all);
            assert_eq!(audit(&archive, &chain, false).findings, []);
        }
    }
}

#[test]
fn a_copy_ends_at_its_limit_and_mixes_nothing() {
    let chain = MiniChain::make(PLAN);
    let (original, source) = sealed(&chain);
    let dir = tempfile::tempdir().unwrap();
    let archive = Archive::open(config(dir.path()), chain.genesis.chain).unwrap();
    // 150 rows are a segment: one of them ends below 200, and of the blocks those up to 8.
    let limit = |series| if series == Series::Blocks { 9 } else { 200 };
    archive.copy_from(&source, limit).unwrap();
    assert_eq!(archive.sealed_up_to(0).unwrap(), 150);
    assert_eq!(archive.blocks_sealed_up_to().unwrap(), 9);
    // What is sealed here from then on is this archive's own, and nothing is copied behind it.
    archive.put_genesis(&chain.genesis_bytes).unwrap();
    archive.seal(0, chain.shards[0][150..170].iter().map(MiniRow::view)).unwrap();
    let refused = archive.copy_from(&source, |_| u64::MAX).unwrap_err();
    assert!(refused.to_string().contains("copy into an empty archive"), "{refused}");
    // A file that was changed is not copied.
    let segment = segment(&source, Series::Records(1), 0);
    let path = original.path().join(&segment.path);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let fresh = tempfile::tempdir().unwrap();
    let fresh = Archive::open(config(fresh.path()), chain.genesis.chain).unwrap();
    let refused = fresh.copy_from(&source, |_| u64::MAX).unwrap_err();
    assert!(refused.to_string().contains(&segment.path), "{refused}");
}
