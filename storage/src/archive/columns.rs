//! Rows into columns: takes records apart and appends each value to its column.
//!
//! A record is not judged again: execution did that, and the audit does it from the files. So
//! values are looked at as far as their columns need, once, and go from the record's bytes into
//! the column's buffer. A record that cannot be read goes into `raw` as it is.
//!
//! Invariants
//! - Every row adds one value or null to every column.
//! - What a row does not give back by the rules of `rebuild.rs` is stored, not assumed. This holds
//!   for any bytes, whether execution judged them rightly or not.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    FixedSizeBinaryBuilder, Int8Builder, Int32Builder, Int64Builder, ListBuilder, RecordBatch,
    StringBuilder, StructBuilder, TimestampMillisecondBuilder,
};
use piaogen_crypto::Lanes;
use piaogen_verify::Digest;
use piaogen_verify::document::find;
use piaogen_verify::encoding::Reader;
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::record;
use piaogen_verify::value::Members;

use super::parts::{Parts, Value, days};
use super::rebuild::subject_of;
use super::schema::{self, COLUMNS, PRECEDING, Shape};
use crate::effects::RowRef;
use crate::error::{During, Result, StoreError};

/// The column or columns of one field, and how many rows of them are written. Rows without the
/// field are written together when one with it comes: of all columns a record has a few.
struct FieldColumn {
    of: Builders,
    rows: usize,
}

/// The builders of one field.
enum Builders {
    Text(StringBuilder),
    Date(Date32Builder),
    Amount(Decimal128Builder),
    Time(TimestampMillisecondBuilder),
    Digest(FixedSizeBinaryBuilder),
    Currency(StringBuilder, Int8Builder),
    Lines(Int32Builder, FixedSizeBinaryBuilder),
    Flag(BooleanBuilder),
    Preceding(Box<ListBuilder<StructBuilder>>),
}

impl FieldColumn {
    fn new(shape: Shape) -> Self {
        Self { of: Builders::new(shape), rows: 0 }
    }

    /// Appends the value of the row of this number.
    fn push(&mut self, row: usize, value: Value<'_>) -> Option<()> {
        self.fill(row);
        self.rows = row + 1;
        self.of.push(value)
    }

    /// Brings the column to a number of rows; those that are new have no value.
    fn fill(&mut self, rows: usize) {
        let missing = rows - self.rows;
        if missing > 0 {
            self.of.push_absent(missing);
            self.rows = rows;
        }
    }

    fn finish(&mut self, rows: usize, out: &mut Vec<ArrayRef>) {
        self.fill(rows);
        self.rows = 0;
        self.of.finish(out);
    }
}

impl Builders {
    fn new(shape: Shape) -> Self {
        match shape {
            Shape::Text => Self::Text(StringBuilder::new()),
            Shape::Date => Self::Date(Date32Builder::new()),
            Shape::Amount | Shape::Uint => {
                Self::Amount(Decimal128Builder::new().with_data_type(schema::decimal()))
            }
            Shape::Time => Self::Time(TimestampMillisecondBuilder::new().with_timezone("UTC")),
            Shape::Digest => Self::Digest(FixedSizeBinaryBuilder::new(32)),
            Shape::Currency => Self::Currency(StringBuilder::new(), Int8Builder::new()),
            Shape::Lines => Self::Lines(Int32Builder::new(), FixedSizeBinaryBuilder::new(32)),
            Shape::Flag => Self::Flag(BooleanBuilder::new()),
            Shape::Preceding => {
                let members = StructBuilder::from_fields(schema::preceding_members(), 0);
                let list = ListBuilder::new(members).with_field(schema::preceding_element());
                Self::Preceding(Box::new(list))
            }
        }
    }

    fn push(&mut self, value: Value<'_>) -> Option<()> {
        match (self, value) {
            (Self::Text(column), Value::Text(text)) => column.append_value(text),
            (Self::Date(column), Value::Date(day)) => column.append_value(day),
            (Self::Amount(column), Value::Amount(amount)) => column.append_value(amount),
            (Self::Time(column), Value::Time(time)) => column.append_value(time),
            (Self::Digest(column), Value::Digest(digest)) => column.append_value(digest).ok()?,
            (Self::Currency(code, exponent), Value::Currency(text, decimals)) => {
                code.append_value(text);
                exponent.append_value(decimals);
            }
            (Self::Lines(count, root), Value::Lines(lines, digest)) => {
                count.append_value(lines);
                root.append_value(digest).ok()?;
            }
            (Self::Flag(column), Value::Flag) => column.append_value(true),
            (Self::Preceding(column), Value::Preceding(entries)) => {
                push_preceding(column, &entries)?;
            }
            _ => return None,
        }
        Some(())
    }

    fn push_absent(&mut self, rows: usize) {
        match self {
            Self::Text(column) => column.append_nulls(rows),
            Self::Date(column) => column.append_nulls(rows),
            Self::Amount(column) => column.append_nulls(rows),
            Self::Time(column) => column.append_nulls(rows),
            Self::Digest(column) => column.append_nulls(rows),
            Self::Currency(code, exponent) => {
                code.append_nulls(rows);
                exponent.append_nulls(rows);
            }
            Self::Lines(count, root) => {
                count.append_nulls(rows);
                root.append_nulls(rows);
            }
            Self::Flag(column) => column.append_n(rows, false),
            Self::Preceding(column) => column.append_nulls(rows),
        }
    }

    fn finish(&mut self, out: &mut Vec<ArrayRef>) {
        match self {
            Self::Text(column) => out.push(Arc::new(column.finish())),
            Self::Date(column) => out.push(Arc::new(column.finish())),
            Self::Amount(column) => out.push(Arc::new(column.finish())),
            Self::Time(column) => out.push(Arc::new(column.finish())),
            Self::Digest(column) => out.push(Arc::new(column.finish())),
            Self::Flag(column) => out.push(Arc::new(column.finish())),
            Self::Preceding(column) => out.push(Arc::new(column.finish())),
            Self::Currency(code, exponent) => {
                out.push(Arc::new(code.finish()));
                out.push(Arc::new(exponent.finish()));
            }
            Self::Lines(count, root) => {
                out.push(Arc::new(count.finish()));
                out.push(Arc::new(root.finish()));
            }
        }
    }
}

fn push_preceding(list: &mut ListBuilder<StructBuilder>, entries: &[Members<'_>]) -> Option<()> {
    for entry in entries {
        let members = list.values();
        for (i, (tag, day)) in PRECEDING.iter().enumerate() {
            let member = find(entry, *tag);
            if *day {
                members.field_builder::<Date32Builder>(i)?.append_option(member.and_then(days));
            } else {
                let text = member.and_then(|bytes| std::str::from_utf8(bytes).ok());
                members.field_builder::<StringBuilder>(i)?.append_option(text);
            }
        }
        members.append(true);
    }
    list.append(true);
    Some(())
}

/// Builds the columns of `records`.
pub(crate) struct Columns {
    lanes: Lanes,
    commitments: bool,
    rows: usize,
    log_index: Int64Builder,
    offset: Int64Builder,
    height: Int64Builder,
    block_time: TimestampMillisecondBuilder,
    kind: StringBuilder,
    outcome: StringBuilder,
    detail: StringBuilder,
    outcome_data: BinaryBuilder,
    own: Vec<FieldColumn>,
    fields: BinaryBuilder,
    signer: BinaryBuilder,
    signed_at: TimestampMillisecondBuilder,
    secret: FixedSizeBinaryBuilder,
    signature: FixedSizeBinaryBuilder,
    raw: BinaryBuilder,
    per_seller: BooleanBuilder,
    subject: BinaryBuilder,
    issue_index: Int64Builder,
    status: FixedSizeBinaryBuilder,
    commitment: FixedSizeBinaryBuilder,
    /// Leaf prefix and entry of each row, to be hashed together.
    entries: Vec<u8>,
    ranges: Vec<Range<u32>>,
    rest: Vec<u8>,
}

impl Columns {
    /// Empty columns; with `commitments`, the commitment is stored though it can be computed.
    pub(crate) fn new(lanes: Lanes, commitments: bool) -> Self {
        let moments = || TimestampMillisecondBuilder::new().with_timezone("UTC");
        Self {
            lanes,
            commitments,
            rows: 0,
            log_index: Int64Builder::new(),
            offset: Int64Builder::new(),
            height: Int64Builder::new(),
            block_time: moments(),
            kind: StringBuilder::new(),
            outcome: StringBuilder::new(),
            detail: StringBuilder::new(),
            outcome_data: BinaryBuilder::new(),
            own: COLUMNS.iter().map(|(_, shape)| FieldColumn::new(*shape)).collect(),
            fields: BinaryBuilder::new(),
            signer: BinaryBuilder::new(),
            signed_at: moments(),
            secret: FixedSizeBinaryBuilder::new(16),
            signature: FixedSizeBinaryBuilder::new(64),
            raw: BinaryBuilder::new(),
            per_seller: BooleanBuilder::new(),
            subject: BinaryBuilder::new(),
            issue_index: Int64Builder::new(),
            status: FixedSizeBinaryBuilder::new(32),
            commitment: FixedSizeBinaryBuilder::new(32),
            entries: Vec::new(),
            ranges: Vec::new(),
            rest: Vec::new(),
        }
    }

    /// Rows since the last batch.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Appends a row. After an error the columns are unusable.
    pub(crate) fn push(&mut self, row: RowRef<'_>) -> Result<()> {
        let refuse = |what: &str| {
            StoreError::Refused(format!(
                "the row with log index {} cannot be archived: {what}",
                row.log_index
            ))
        };
        let entry = Entry::decode(row.entry).map_err(|error| refuse(&error.to_string()))?;
        let wide = || refuse("an index is above 2^63");
        self.log_index.append_value(i64::try_from(row.log_index).map_err(|_| wide())?);
        self.height.append_value(i64::try_from(row.height).map_err(|_| wide())?);
        self.offset.append_value(i64::try_from(entry.offset).map_err(|_| wide())?);
        let issue = entry.issue.map(i64::try_from).transpose().map_err(|_| wide())?;
        self.issue_index.append_option(issue);
        self.block_time.append_value(row.time_ms);
        let begin = u32::try_from(self.entries.len()).map_err(|_| wide())?;
        self.entries.push(0);
        self.entries.extend_from_slice(row.entry);
        self.ranges.push(begin..self.entries.len() as u32);
        self.push_record(&entry, row.record)
            .ok_or_else(|| refuse("its record is not canonical"))?;
        self.push_entry(&entry, row.entry).ok_or_else(|| refuse("its entry is not canonical"))?;
        self.rows += 1;
        Ok(())
    }

    fn push_entry(&mut self, entry: &Entry, bytes: &[u8]) -> Option<()> {
        self.kind.append_option(entry.kind.map(record::RecordKind::name));
        self.outcome.append_value(entry.outcome.name());
        let detail = entry.outcome.explain();
        self.detail.append_option((!detail.is_empty()).then_some(detail));
        let data = outcome_data(bytes)?;
        self.outcome_data.append_option((!data.is_empty()).then_some(data));
        self.signer.append_value(entry.signer);
        push_fixed(&mut self.status, (entry.status != [0; 32]).then_some(&entry.status))?;
        push_fixed(&mut self.commitment, self.commitments.then_some(&entry.commitment))
    }

    fn push_record(&mut self, entry: &Entry, bytes: &[u8]) -> Option<()> {
        let Some(parts) = self.take_apart(entry, bytes) else {
            self.fields.append_null();
            self.signed_at.append_null();
            self.secret.append_null();
            self.signature.append_null();
            self.raw.append_value(bytes);
            self.per_seller.append_value(false);
            self.subject.append_option((!entry.subject.is_empty()).then_some(&entry.subject));
            return Some(());
        };
        let is =
            |per_seller| subject_of(parts.kind, |tag| parts.get(tag), per_seller) == entry.subject;
        let plain = is(false);
        let per_seller = !plain && is(true);
        self.per_seller.append_value(per_seller);
        self.subject.append_option((!plain && !per_seller).then_some(&entry.subject));
        self.signed_at.append_value(parts.signed_at);
        push_fixed(&mut self.secret, parts.secret)?;
        self.signature.append_value(parts.signature).ok()?;
        self.raw.append_null();
        self.fields.append_option((!self.rest.is_empty()).then_some(&self.rest));
        let row = self.rows;
        let mut own = self.own.iter_mut().zip(parts.own);
        own.try_for_each(|(column, value)| match value {
            Some(value) => column.push(row, value),
            None => Some(()),
        })
    }

    /// Takes a record apart, if its place is in columns: where it can be read, and says of kind and
    /// signer what its entry says.
    fn take_apart<'r>(&mut self, entry: &Entry, bytes: &'r [u8]) -> Option<Parts<'r>> {
        // Only these outcomes are given to records that cannot be read, and to others as well.
        let doubtful = matches!(entry.outcome, Outcome::Malformed { .. } | Outcome::Limit { .. });
        if doubtful && record::decode(bytes).is_err() {
            return None;
        }
        let parts = Parts::take(bytes, &mut self.rest)?;
        (Some(parts.kind) == entry.kind && *parts.signer == entry.signer).then_some(parts)
    }

    /// The rows so far, and empty columns again.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch> {
        let mut leaves: Vec<Digest> = vec![[0; 32]; self.ranges.len()];
        self.lanes.sm3_ranges(&self.entries, &self.ranges, &mut leaves);
        let mut leaf = FixedSizeBinaryBuilder::with_capacity(leaves.len(), 32);
        let hashed = leaves.iter().try_for_each(|hash| leaf.append_value(hash));
        hashed.during(|| "cannot build the column of leaves".into())?;
        let mut out: Vec<ArrayRef> = vec![
            Arc::new(self.log_index.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.height.finish()),
            Arc::new(self.block_time.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.outcome.finish()),
            Arc::new(self.detail.finish()),
            Arc::new(self.outcome_data.finish()),
        ];
        self.own.iter_mut().for_each(|column| column.finish(self.rows, &mut out));
        let tail: [ArrayRef; 12] = [
            Arc::new(self.fields.finish()),
            Arc::new(self.signer.finish()),
            Arc::new(self.signed_at.finish()),
            Arc::new(self.secret.finish()),
            Arc::new(self.signature.finish()),
            Arc::new(self.raw.finish()),
            Arc::new(self.per_seller.finish()),
            Arc::new(self.subject.finish()),
            Arc::new(self.issue_index.finish()),
            Arc::new(self.status.finish()),
            Arc::new(self.commitment.finish()),
            Arc::new(leaf.finish()),
        ];
        out.extend(tail);
        self.entries.clear();
        self.ranges.clear();
        self.rows = 0;
        RecordBatch::try_new(schema::records(), out)
            .during(|| "cannot build a batch of rows".into())
    }
}

fn push_fixed<const N: usize>(
    column: &mut FixedSizeBinaryBuilder,
    value: Option<&[u8; N]>,
) -> Option<()> {
    match value {
        Some(value) => column.append_value(value).ok(),
        None => {
            column.append_null();
            Some(())
        }
    }
}

/// The detail of an entry, as it is encoded.
fn outcome_data(entry: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(entry);
    reader.take(10).ok()?;
    reader.bytes("subject", piaogen_verify::entry::SUBJECT_MAX).ok()?;
    reader.u8().ok()?;
    reader.bytes("detail", 64).ok()
}
