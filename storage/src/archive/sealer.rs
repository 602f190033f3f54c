//! Writing segments: rows into a scratch file, the file under its name, then its manifest.
//!
//! A crash before the manifest leaves a file that nothing names; it is removed at the next opening,
//! and the caller, who still has the rows, seals them again.
//!
//! Invariants
//! - Rows come in log order without gaps, from where the series ends.
//! - A segment's rows are of one day, by block time in UTC, which is in its path.
//! - After a failure, what is sealed is read from the manifests again before anything is written.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, FixedSizeBinaryBuilder, Int64Builder, ListBuilder, RecordBatch,
    TimestampMillisecondBuilder,
};
use arrow::datatypes::{DataType, Field, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use piaogen_verify::encoding::Reader;
use piaogen_verify::header::{Cut, HEADER_LEN, Header};

use super::Archive;
use super::columns::Columns;
use super::digest::FileHasher;
use super::manifest::{FORMAT, Linked, SegmentInfo, Series, date, day, follows};
use super::schema::{self, LAYOUT};
use crate::effects::RowRef;
use crate::error::{During, Result, StoreError};
use crate::files::delete;

/// Rows that go to the encoder at once: few enough to stay in the processor's cache.
const BATCH_ROWS: usize = 1_024;
/// Blocks of one row group; certificates are large.
const BLOCK_GROUP_ROWS: usize = 16_384;

/// A file, its digest so far, and its length.
struct Hashing {
    file: BufWriter<File>,
    hasher: FileHasher,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Where a row or block stands.
#[derive(Clone, Copy)]
struct Place {
    index: u64,
    height: u64,
    time_ms: i64,
}

/// A segment that is being written to a scratch file.
struct Segment<'a> {
    archive: &'a Archive,
    series: Series,
    scratch: PathBuf,
    writer: Option<ArrowWriter<Hashing>>,
    first: Place,
    last: Place,
    rows: u64,
}

impl Drop for Segment<'_> {
    fn drop(&mut self) {
        // What is not published is of no use; if it cannot be removed, the next opening does it.
        if self.writer.take().is_some() {
            let _ = delete(&self.scratch);
        }
    }
}

impl<'a> Segment<'a> {
    fn create(
        archive: &'a Archive,
        series: Series,
        schema: SchemaRef,
        first: Place,
    ) -> Result<Self> {
        let scratch = archive.medium.scratch()?;
        let file = File::create(&scratch).at("create", &scratch)?;
        let file = BufWriter::with_capacity(1 << 20, file);
        let hashing = Hashing { file, hasher: FileHasher::new(archive.lanes), bytes: 0 };
        let shard = match series {
            Series::Records(shard) => shard.to_string(),
            Series::Blocks => "blocks".into(),
        };
        let metadata = vec![
            ("piaogen.layout", LAYOUT.to_string()),
            ("piaogen.chain", hex::encode(archive.chain)),
            ("piaogen.shard", shard),
            ("piaogen.first", first.index.to_string()),
        ];
        let group = match series {
            Series::Records(_) => archive.config.row_group_rows,
            Series::Blocks => BLOCK_GROUP_ROWS,
        };
        let properties = schema::properties(&schema, group, metadata);
        let options =
            ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer =
            ArrowWriter::try_new_with_options(hashing, schema, options).at("begin", &scratch)?;
        Ok(Self { archive, series, scratch, writer: Some(writer), first, last: first, rows: 0 })
    }

    fn write(&mut self, batch: &RecordBatch, last: Place) -> Result<()> {
        let writer = self.writer.as_mut().expect("a segment is written before it is published");
        writer.write(batch).at("write", &self.scratch)?;
        self.rows += batch.num_rows() as u64;
        self.last = last;
        Ok(())
    }

    /// Makes the segment part of the archive.
    fn publish(mut self) -> Result<SegmentInfo> {
        let published = self.try_publish();
        if published.is_err() {
            let _ = delete(&self.scratch);
            self.archive.known().unknown.insert(self.series);
        }
        published
    }

    fn try_publish(&mut self) -> Result<SegmentInfo> {
        let medium = &self.archive.medium;
        let mut writer = self.writer.take().expect("a segment is published once");
        let last = parquet::file::metadata::KeyValue::new(
            "piaogen.last".to_owned(),
            self.last.index.to_string(),
        );
        writer.append_key_value_metadata(last);
        let mut hashing = writer.into_inner().at("finish", &self.scratch)?;
        hashing.flush().at("write", &self.scratch)?;
        medium.sync(hashing.file.get_ref(), &self.scratch)?;
        let previous = {
            let known = self.archive.known();
            known.series.get(&self.series).and_then(|links| links.last().cloned())
        };
        let info = SegmentInfo {
            format: FORMAT.into(),
            layout: LAYOUT,
            chain: hex::encode(self.archive.chain),
            shard: match self.series {
                Series::Records(shard) => Some(shard),
                Series::Blocks => None,
            },
            path: self.series.path(&date(self.first.time_ms), self.first.index, self.last.index),
            rows: self.rows,
            first: self.first.index,
            last: self.last.index,
            first_height: self.first.height,
            last_height: self.last.height,
            first_time_ms: self.first.time_ms,
            last_time_ms: self.last.time_ms,
            bytes: hashing.bytes,
            parts_sm3: hex::encode(hashing.hasher.finalize()),
            previous: previous.as_ref().map(|last| hex::encode(last.digest)),
        };
        follows(previous.as_ref(), &info).map_err(StoreError::Refused)?;
        medium.publish(&self.scratch, &info.path)?;
        let manifest = info.encode();
        medium.put(&info.manifest_path(), &manifest)?;
        let linked = Linked::new(info.clone(), &manifest);
        self.archive.known().series.entry(self.series).or_default().push(linked);
        Ok(info)
    }
}

/// Seals the rows of one shard. Dropped before [`Sealer::finish`], the segment that is being
/// written is forgotten; segments that were full are sealed.
pub struct Sealer<'a> {
    archive: &'a Archive,
    shard: u32,
    next: u64,
    columns: Columns,
    segment: Option<Segment<'a>>,
    last: Option<Place>,
    sealed: Vec<SegmentInfo>,
}

impl Sealer<'_> {
    /// The log index that the next row must have.
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// Adds a row. Rows that fill a segment, or end a day, are sealed here.
    pub fn push(&mut self, row: RowRef<'_>) -> Result<()> {
        let place = Place { index: row.log_index, height: row.height, time_ms: row.time_ms };
        if place.index != self.next {
            return Err(StoreError::Refused(format!(
                "row {} of shard {} was given to the archive, the next is {}: ask sealed_up_to \
                 and begin there",
                place.index, self.shard, self.next
            )));
        }
        if let Some(segment) = &self.segment {
            let rows = place.index - segment.first.index;
            let full = rows >= self.archive.config.segment_rows;
            if full || day(segment.first.time_ms) != day(place.time_ms) {
                self.seal_segment()?;
            }
        }
        if self.segment.is_none() {
            let series = Series::Records(self.shard);
            self.segment = Some(Segment::create(self.archive, series, schema::records(), place)?);
        }
        self.columns.push(row)?;
        self.next += 1;
        self.last = Some(place);
        if self.columns.len() >= BATCH_ROWS {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let (Some(segment), Some(last)) = (&mut self.segment, self.last) else { return Ok(()) };
        if self.columns.len() > 0 {
            segment.write(&self.columns.finish()?, last)?;
        }
        Ok(())
    }

    fn seal_segment(&mut self) -> Result<()> {
        self.write()?;
        if let Some(segment) = self.segment.take() {
            self.sealed.push(segment.publish()?);
        }
        Ok(())
    }

    /// Seals what is left, and says which segments were made.
    pub fn finish(mut self) -> Result<Vec<SegmentInfo>> {
        self.seal_segment()?;
        Ok(std::mem::take(&mut self.sealed))
    }
}

/// A final block, to be archived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockRef<'a> {
    /// The header, encoded.
    pub header: &'a [u8],
    /// The cut, encoded.
    pub cut: &'a [u8],
    /// The certificate; empty at height 0.
    pub certificate: &'a [u8],
}

impl Archive {
    /// Begins to seal rows of a shard, from [`Archive::sealed_up_to`] on.
    pub fn sealer(&self, shard: u32) -> Result<Sealer<'_>> {
        self.check_writable()?;
        let next = self.sealed_up_to(shard)?;
        let columns = Columns::new(self.lanes, self.config.commitments);
        let (segment, last, sealed) = (None, None, Vec::new());
        Ok(Sealer { archive: self, shard, next, columns, segment, last, sealed })
    }

    /// Seals rows of a shard.
    pub fn seal<'r>(
        &self,
        shard: u32,
        rows: impl IntoIterator<Item = RowRef<'r>>,
    ) -> Result<Vec<SegmentInfo>> {
        let mut sealer = self.sealer(shard)?;
        rows.into_iter().try_for_each(|row| sealer.push(row))?;
        sealer.finish()
    }

    /// Seals blocks, from [`Archive::blocks_sealed_up_to`] on, as one segment. All rows of the
    /// blocks before the last one given must be sealed: its header speaks of them.
    pub fn seal_blocks<'b>(
        &self,
        blocks: impl IntoIterator<Item = BlockRef<'b>>,
    ) -> Result<Option<SegmentInfo>> {
        self.check_writable()?;
        let first = self.blocks_sealed_up_to()?;
        let mut columns = BlockColumns::new();
        let mut segment: Option<Segment<'_>> = None;
        let mut last = None;
        for (next, block) in (first..).zip(blocks) {
            let header = columns.push(&block)?;
            if header.height != next || header.chain != self.chain {
                return Err(StoreError::Refused(format!(
                    "block {} was given to the archive, the next of its chain is {next}",
                    header.height
                )));
            }
            let place =
                Place { index: header.height, height: header.height, time_ms: header.time_ms };
            if segment.is_none() {
                segment = Some(Segment::create(self, Series::Blocks, schema::blocks(), place)?);
            }
            last = Some((place, header));
            if let Some(segment) = &mut segment
                && columns.rows >= BATCH_ROWS
            {
                segment.write(&columns.finish()?, place)?;
            }
        }
        let (Some(mut segment), Some((place, header))) = (segment, last) else { return Ok(None) };
        self.check_rows(&header)?;
        if columns.rows > 0 {
            segment.write(&columns.finish()?, place)?;
        }
        segment.publish().map(Some)
    }

    /// Whether the rows that a header speaks of are sealed, as far as their number says.
    fn check_rows(&self, header: &Header) -> Result<()> {
        let mut sealed = 0;
        for shard in self.shards() {
            sealed += self.sealed_up_to(shard)?;
        }
        if sealed >= header.records {
            return Ok(());
        }
        Err(StoreError::Refused(format!(
            "block {} speaks of {} rows, {sealed} are sealed: seal the rows first",
            header.height, header.records
        )))
    }
}

/// Builds the columns of `blocks`.
struct BlockColumns {
    rows: usize,
    height: Int64Builder,
    time: TimestampMillisecondBuilder,
    digest: FixedSizeBinaryBuilder,
    header: FixedSizeBinaryBuilder,
    cut: ListBuilder<Int64Builder>,
    certificate: BinaryBuilder,
}

impl BlockColumns {
    fn new() -> Self {
        let offset = Field::new("element", DataType::Int64, false);
        Self {
            rows: 0,
            height: Int64Builder::new(),
            time: TimestampMillisecondBuilder::new().with_timezone("UTC"),
            digest: FixedSizeBinaryBuilder::new(32),
            header: FixedSizeBinaryBuilder::new(HEADER_LEN as i32),
            cut: ListBuilder::new(Int64Builder::new()).with_field(offset),
            certificate: BinaryBuilder::new(),
        }
    }

    fn push(&mut self, block: &BlockRef<'_>) -> Result<Header> {
        let refuse =
            |what: &str| StoreError::Refused(format!("a block cannot be archived: {what}"));
        let mut reader = Reader::new(block.header);
        let header = Header::decode(&mut reader).map_err(|error| refuse(&error.to_string()))?;
        reader.end().map_err(|error| refuse(&error.to_string()))?;
        let cut = Cut::decode(block.cut).map_err(|error| refuse(&error.to_string()))?;
        let wide = |_| refuse("a number is above 2^63");
        self.height.append_value(i64::try_from(header.height).map_err(wide)?);
        self.time.append_value(header.time_ms);
        let fixed = |_| refuse("its header has another length");
        self.digest.append_value(header.digest()).map_err(fixed)?;
        self.header.append_value(block.header).map_err(fixed)?;
        for offset in &cut.0 {
            self.cut.values().append_value(i64::try_from(*offset).map_err(wide)?);
        }
        self.cut.append(true);
        self.certificate
            .append_option((!block.certificate.is_empty()).then_some(block.certificate));
        self.rows += 1;
        Ok(header)
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.height.finish()),
            Arc::new(self.time.finish()),
            Arc::new(self.digest.finish()),
            Arc::new(self.header.finish()),
            Arc::new(self.cut.finish()),
            Arc::new(self.certificate.finish()),
        ];
        self.rows = 0;
        RecordBatch::try_new(schema::blocks(), columns)
            .during(|| "cannot build a batch of blocks".into())
    }
}
