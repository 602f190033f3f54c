//! Reading the archive: one row by its place, rows in order, a number by its filter, blocks.
//!
//! A row's place in its file follows from its log index, so a single row costs one page of each
//! column. Reading gives back what was sealed; whether that is true is the business of the audit.
//!
//! Invariants
//! - Entries and records come back byte for byte.
//! - Memory is bounded by one batch, whatever the length of the archive.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use piaogen_verify::document::Committer;
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::header::Cut;

use super::manifest::{SegmentInfo, Series};
use super::medium::Ranged;
use super::pages::Page;
use super::rebuild::{Batch, Rebuilt, Wanted};
use super::schema::PAGE_ROWS;
use super::{Archive, schema};
use crate::effects::{Digest, IdPlace, Row};
use crate::error::{Result, StoreError};

/// Rows rebuilt at once when reading in order.
const BATCH_ROWS: usize = 1_024;
/// Blocks read at once.
const BATCH_BLOCKS: usize = 256;
/// Files whose metadata are kept for reading single rows.
const CACHED_FILES: usize = 64;

type Opened = (Ranged, ArrowReaderMetadata);

/// Metadata of the files that rows were asked of lately.
#[derive(Default)]
pub(crate) struct Cache(Mutex<HashMap<String, Opened>>);

impl Cache {
    fn get(&self, path: &str) -> Option<Opened> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    fn put(&self, path: &str, opened: Opened) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() >= CACHED_FILES {
            // Which one goes hardly matters: opening again costs a few reads.
            let gone = files.keys().next().cloned();
            gone.map(|path| files.remove(&path));
        }
        files.insert(path.to_owned(), opened);
    }
}

impl Archive {
    pub(crate) fn unreadable(&self, path: &str, error: &ParquetError) -> StoreError {
        match error {
            ParquetError::External(_) => {
                StoreError::Busy(format!("cannot read {}: {error}", self.medium.name(path)))
            }
            _ => self.damaged(path, &error.to_string()),
        }
    }

    fn missing(&self, path: &str) -> StoreError {
        self.damaged(path, "the file is missing though its manifest is there")
    }

    /// The segment of a series that has an index.
    fn segment_of(&self, series: Series, index: u64) -> Option<SegmentInfo> {
        let known = self.known();
        let links = known.series.get(&series)?;
        let at = links.partition_point(|linked| linked.info.last < index);
        links.get(at).map(|linked| linked.info.clone())
    }

    /// Opens a segment for reading parts of it.
    fn open_parts(&self, segment: &SegmentInfo) -> Result<Opened> {
        if let Some(opened) = self.cache.get(&segment.path) {
            return Ok(opened);
        }
        let file = self.medium.open(&segment.path)?;
        let file = file.ok_or_else(|| self.missing(&segment.path))?;
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load(&file, options)
            .map_err(|error| self.unreadable(&segment.path, &error))?;
        self.cache.put(&segment.path, (file.clone(), metadata.clone()));
        Ok((file, metadata))
    }

    /// Reads all of a segment, the first `skip` rows aside, in batches.
    pub(crate) fn scan(
        &self,
        segment: &SegmentInfo,
        skip: u64,
        batch_rows: usize,
    ) -> Result<ParquetRecordBatchReader> {
        let path = &segment.path;
        let file = self.medium.open_whole(path)?.ok_or_else(|| self.missing(path))?;
        let file = Ranged::of_file(file)
            .map_err(|error| self.unreadable(path, &ParquetError::External(Box::new(error))))?;
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options);
        builder
            .and_then(|builder| {
                builder.with_batch_size(batch_rows).with_offset(skip as usize).build()
            })
            .map_err(|error| self.unreadable(path, &error))
    }

    /// Reads the row groups that have these rows, and of each what is needed: some columns, or all.
    fn scan_some(
        &self,
        segment: &SegmentInfo,
        skip: u64,
        rows: usize,
        columns: Option<&[&str]>,
    ) -> Result<ParquetRecordBatchReader> {
        let (file, metadata) = self.open_parts(segment)?;
        let mut skip = skip as usize;
        let groups = metadata.metadata().row_groups();
        let counts = groups.iter().map(|group| group.num_rows() as usize);
        let before = counts
            .take_while(|count| {
                let whole = skip >= *count;
                skip -= if whole { *count } else { 0 };
                whole
            })
            .count();
        let groups = (before..groups.len()).collect();
        let mask = columns.map_or_else(ProjectionMask::all, |columns| {
            ProjectionMask::columns(metadata.parquet_schema(), columns.iter().copied())
        });
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_projection(mask)
            .with_row_groups(groups)
            .with_offset(skip)
            .with_limit(rows)
            .with_batch_size(rows.min(BATCH_ROWS))
            .build()
            .map_err(|error| self.unreadable(&segment.path, &error))
    }

    /// One row; `None` where it is not sealed.
    pub fn row(&self, shard: u32, log_index: u64) -> Result<Option<Row>> {
        let Some((segment, batch)) = self.one(shard, log_index)? else { return Ok(None) };
        let rows = self.rebuild(&segment, &batch, true)?;
        let row = rows.into_iter().next().filter(|row| row.log_index == log_index);
        row.map(Some).ok_or_else(|| self.short(&segment))
    }

    /// The entry of the record that created an invoice, of which the id is known: a page of two
    /// columns, which is remembered, where a row costs one of each. It is not compared with anything:
    /// that its leaf hash is in the log is for the caller to see. `None` where it is not sealed.
    pub fn entry_of(&self, shard: u32, subject: &[u8], id: &IdPlace) -> Result<Option<Entry>> {
        let found = match self.pages.get(shard, id.log_index) {
            Some(found) => Some(found),
            None => self.page_of(shard, id.log_index)?,
        };
        Ok(found.map(|(offset, signer)| Entry {
            kind: Some(id.kind()),
            offset,
            subject: subject.to_vec(),
            outcome: Outcome::Accepted,
            commitment: id.commitment,
            signer,
            issue: Some(id.issue_index),
            status: [0; 32],
        }))
    }

    /// Offset and signer of a row, from its page, which is remembered.
    fn page_of(&self, shard: u32, log_index: u64) -> Result<Option<(u64, Digest)>> {
        let Some(segment) = self.segment_of(Series::Records(shard), log_index) else {
            return Ok(None);
        };
        let wrong = || self.damaged(&segment.path, "its columns are not those of this layout");
        let columns = ["offset", "signer"];
        let skip = log_index - segment.first;
        let skip = skip - skip % PAGE_ROWS as u64;
        let mut rows = Vec::with_capacity(PAGE_ROWS);
        for batch in self.scan_some(&segment, skip, PAGE_ROWS, Some(&columns))? {
            let batch = batch
                .map_err(ParquetError::from)
                .map_err(|error| self.unreadable(&segment.path, &error))?;
            let [offset, signer] = columns.map(|name| batch.column_by_name(name));
            let offset =
                offset.and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(wrong)?;
            let signer = signer.and_then(|c| c.as_binary_opt::<i32>()).ok_or_else(wrong)?;
            for (offset, signer) in offset.values().iter().zip(signer.iter()) {
                let offset = u64::try_from(*offset).map_err(|_| wrong())?;
                let signer = signer.and_then(|key| key.try_into().ok()).ok_or_else(wrong)?;
                rows.push((offset, signer));
            }
        }
        let page = Page::new(segment.first + skip, &rows).ok_or_else(wrong)?;
        let found = page.get(log_index).ok_or_else(|| self.short(&segment))?;
        self.pages.put(shard, page);
        Ok(Some(found))
    }

    fn short(&self, segment: &SegmentInfo) -> StoreError {
        self.damaged(&segment.path, "it has fewer rows than its manifest says")
    }

    /// A batch of one row.
    fn one(&self, shard: u32, log_index: u64) -> Result<Option<(SegmentInfo, RecordBatch)>> {
        let Some(segment) = self.segment_of(Series::Records(shard), log_index) else {
            return Ok(None);
        };
        let batch = self
            .scan_some(&segment, log_index - segment.first, 1, None)?
            .next()
            .transpose()
            .map_err(ParquetError::from)
            .map_err(|error| self.unreadable(&segment.path, &error))?;
        let batch = batch.ok_or_else(|| self.short(&segment))?;
        Ok(Some((segment, batch)))
    }

    fn rebuild(
        &self,
        segment: &SegmentInfo,
        batch: &RecordBatch,
        records: bool,
    ) -> Result<Vec<Row>> {
        let bad = |what: &str| self.damaged(&segment.path, what);
        let wanted = Wanted { records, trust_commitments: true };
        let rebuilt = Batch::new(batch)
            .map_err(|what| bad(&what))?
            .rebuild(self.lanes, &mut Committer::default(), wanted)
            .map_err(|row| bad(&format!("row {} of a batch: {}", row.row, row.what)))?;
        let row = |row: Rebuilt| Row {
            log_index: row.log_index,
            height: row.height,
            time_ms: row.time_ms,
            entry: row.entry,
            record: row.record,
        };
        Ok(rebuilt.into_iter().map(row).collect())
    }

    /// The sealed rows of a shard from a log index on, in order.
    pub fn rows(&self, shard: u32, from: u64) -> RowsIter<'_> {
        RowsIter { records: true, ..self.entries(shard, from) }
    }

    /// The same where only so many are wanted, which are then read and no more.
    pub fn some_rows(&self, shard: u32, from: u64, max: u64) -> impl Iterator<Item = Result<Row>> {
        RowsIter { max: Some(max as usize), ..self.rows(shard, from) }.take(max as usize)
    }

    /// The same without the bytes of records, which are left empty.
    pub fn some_entries(
        &self,
        shard: u32,
        from: u64,
        max: u64,
    ) -> impl Iterator<Item = Result<Row>> {
        RowsIter { max: Some(max as usize), ..self.entries(shard, from) }.take(max as usize)
    }

    /// The same without the bytes of records, which are left empty.
    pub fn entries(&self, shard: u32, from: u64) -> RowsIter<'_> {
        RowsIter {
            archive: self,
            shard,
            records: false,
            max: None,
            next: from,
            current: None,
            ready: Vec::new().into_iter(),
            failed: false,
        }
    }

    /// The sealed rows with this number under this scheme, by log index, oldest first; more than
    /// one where a number was used again and refused. In all shards, or in the one given.
    pub fn find_number(
        &self,
        scheme: &str,
        number: &str,
        shard: Option<u32>,
    ) -> Result<Vec<(u32, u64)>> {
        let mut found = Vec::new();
        for segment in self.segments() {
            let Some(of) = segment.shard.filter(|of| shard.is_none_or(|wanted| wanted == *of))
            else {
                continue;
            };
            let rows = self
                .find_in(&segment, scheme, number)?
                .map_err(|error| self.unreadable(&segment.path, &error))?;
            found.extend(rows.into_iter().map(|row| (of, row)));
        }
        Ok(found)
    }

    fn find_in(
        &self,
        segment: &SegmentInfo,
        scheme: &str,
        number: &str,
    ) -> Result<std::result::Result<Vec<u64>, ParquetError>> {
        let (file, metadata) = self.open_parts(segment)?;
        Ok(find_in_file(file, metadata, scheme, number))
    }

    /// The sealed blocks from a height on, in order.
    pub fn blocks(&self, from: u64) -> BlocksIter<'_> {
        BlocksIter {
            archive: self,
            next: from,
            current: None,
            ready: Vec::new().into_iter(),
            failed: false,
        }
    }
}

fn find_in_file(
    file: Ranged,
    metadata: ArrowReaderMetadata,
    scheme: &str,
    number: &str,
) -> std::result::Result<Vec<u64>, ParquetError> {
    let column = |name: &str| {
        let columns = metadata.parquet_schema().columns();
        columns
            .iter()
            .position(|column| column.path().string() == name)
            .ok_or_else(|| ParquetError::General(format!("the file has no column {name}")))
    };
    let (number_at, scheme_at) = (column("number")?, column("scheme")?);
    let mask = ProjectionMask::leaves(
        metadata.parquet_schema(),
        [column("log_index")?, number_at, scheme_at],
    );
    let mut groups = Vec::new();
    let builder =
        ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata.clone());
    for group in 0..metadata.metadata().num_row_groups() {
        let filter = builder.get_row_group_column_bloom_filter(group, number_at)?;
        if filter.is_none_or(|filter| filter.check(&number)) {
            groups.push(group);
        }
    }
    let mut found = Vec::new();
    if groups.is_empty() {
        return Ok(found);
    }
    let reader = builder.with_row_groups(groups).with_projection(mask).build()?;
    for batch in reader {
        let batch = batch?;
        let wrong = || ParquetError::General("the file's columns are of another type".into());
        let text = |name| {
            batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>()).ok_or_else(wrong)
        };
        let (numbers, schemes) = (text("number")?, text("scheme")?);
        let indexes = batch.column_by_name("log_index").ok_or_else(wrong)?;
        let indexes = indexes.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        for row in 0..batch.num_rows() {
            let is = numbers.is_valid(row)
                && numbers.value(row) == number
                && schemes.is_valid(row)
                && schemes.value(row) == scheme;
            if is {
                found.push(indexes.value(row) as u64);
            }
        }
    }
    Ok(found)
}

/// The rows of a shard, in order; ends after the first error.
pub struct RowsIter<'a> {
    archive: &'a Archive,
    shard: u32,
    records: bool,
    /// How many are wanted, where not all to the end of the log.
    max: Option<usize>,
    next: u64,
    current: Option<(SegmentInfo, ParquetRecordBatchReader)>,
    ready: std::vec::IntoIter<Row>,
    failed: bool,
}

impl RowsIter<'_> {
    fn step(&mut self) -> Result<Option<Row>> {
        loop {
            if let Some(row) = self.ready.next() {
                if row.log_index != self.next {
                    let path = self.current.as_ref().map_or("", |(segment, _)| &segment.path);
                    return Err(self.archive.damaged(
                        path,
                        &format!("row {} stands where {} should", row.log_index, self.next),
                    ));
                }
                self.next += 1;
                return Ok(Some(row));
            }
            let Some((segment, reader)) = &mut self.current else {
                let series = Series::Records(self.shard);
                let Some(segment) = self.archive.segment_of(series, self.next) else {
                    return Ok(None);
                };
                let skip = self.next - segment.first;
                let reader = match self.max {
                    None => self.archive.scan(&segment, skip, BATCH_ROWS)?,
                    Some(rows) => self.archive.scan_some(&segment, skip, rows, None)?,
                };
                self.current = Some((segment, reader));
                continue;
            };
            match reader.next().transpose() {
                Ok(Some(batch)) => {
                    let rows = self.archive.rebuild(segment, &batch, self.records)?;
                    self.ready = rows.into_iter();
                }
                Ok(None) if self.next <= segment.last => {
                    let what = "it has fewer rows than its manifest says";
                    return Err(self.archive.damaged(&segment.path, what));
                }
                Ok(None) => self.current = None,
                Err(error) => {
                    return Err(self.archive.damaged(&segment.path, &error.to_string()));
                }
            }
        }
    }
}

impl Iterator for RowsIter<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        step.transpose()
    }
}

/// A sealed block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArchivedBlock {
    /// The height in the column.
    pub height: u64,
    /// The time in the column.
    pub time_ms: i64,
    /// The digest in the column.
    pub digest: [u8; 32],
    /// The header, encoded.
    pub header: Vec<u8>,
    /// The cut.
    pub cut: Cut,
    /// The certificate; empty at height 0.
    pub certificate: Vec<u8>,
    /// The file that it was read from.
    pub path: Arc<str>,
}

/// The sealed blocks, in order; ends after the first error.
pub struct BlocksIter<'a> {
    archive: &'a Archive,
    next: u64,
    current: Option<(SegmentInfo, ParquetRecordBatchReader)>,
    ready: std::vec::IntoIter<ArchivedBlock>,
    failed: bool,
}

impl BlocksIter<'_> {
    fn step(&mut self) -> Result<Option<ArchivedBlock>> {
        loop {
            if let Some(block) = self.ready.next() {
                if block.height != self.next {
                    let what = format!("height {} stands where {} should", block.height, self.next);
                    return Err(self.archive.damaged(&block.path, &what));
                }
                self.next += 1;
                return Ok(Some(block));
            }
            let Some((segment, reader)) = &mut self.current else {
                let Some(segment) = self.archive.segment_of(Series::Blocks, self.next) else {
                    return Ok(None);
                };
                let reader =
                    self.archive.scan(&segment, self.next - segment.first, BATCH_BLOCKS)?;
                self.current = Some((segment, reader));
                continue;
            };
            let bad = |what: &str| self.archive.damaged(&segment.path, what);
            match reader.next().transpose() {
                Ok(Some(batch)) => {
                    let path = Arc::from(segment.path.as_str());
                    let blocks = read_blocks(&batch, &schema::blocks(), &path);
                    self.ready = blocks.map_err(|what| bad(&what))?.into_iter();
                }
                Ok(None) if self.next <= segment.last => {
                    return Err(bad("it has fewer blocks than its manifest says"));
                }
                Ok(None) => self.current = None,
                Err(error) => return Err(bad(&error.to_string())),
            }
        }
    }
}

impl Iterator for BlocksIter<'_> {
    type Item = Result<ArchivedBlock>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        step.transpose()
    }
}

fn read_blocks(
    batch: &RecordBatch,
    expected: &SchemaRef,
    path: &Arc<str>,
) -> std::result::Result<Vec<ArchivedBlock>, String> {
    use arrow::datatypes::TimestampMillisecondType;
    if batch.schema().fields() != expected.fields() {
        return Err("the file's columns are not those of this layout".into());
    }
    let heights = batch.column(0).as_primitive::<Int64Type>();
    let times = batch.column(1).as_primitive::<TimestampMillisecondType>();
    let (digests, headers) =
        (batch.column(2).as_fixed_size_binary(), batch.column(3).as_fixed_size_binary());
    let cuts = batch.column(4).as_list::<i32>();
    let certificates = batch.column(5).as_binary::<i32>();
    let index = |n: i64| u64::try_from(n).map_err(|_| "an index is negative".to_owned());
    (0..batch.num_rows())
        .map(|row| {
            let offsets = cuts.value(row);
            let offsets = offsets.as_primitive::<Int64Type>();
            let cut = offsets
                .values()
                .iter()
                .map(|n| index(*n))
                .collect::<std::result::Result<_, String>>()?;
            let mut digest = [0; 32];
            digest.copy_from_slice(digests.value(row));
            let certificate =
                if certificates.is_valid(row) { certificates.value(row) } else { &[] };
            Ok(ArchivedBlock {
                height: index(heights.value(row))?,
                time_ms: times.value(row),
                digest,
                header: headers.value(row).to_vec(),
                cut: Cut(cut),
                certificate: certificate.to_vec(),
                path: path.clone(),
            })
        })
        .collect()
}
