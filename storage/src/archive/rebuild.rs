//! Columns back into rows: the entry and the record, byte for byte.
//!
//! Fields are rebuilt into one buffer for a whole batch, and the commitments of the batch are
//! computed together, because that is where the time goes.
//!
//! Invariants
//! - Nothing that a column may hold makes this panic; what forms no record is an error that names
//!   the row.
//! - Commitments are computed, never taken from the column, unless the caller says so.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::LazyLock;

use arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, Int8Array, Int32Array,
    Int64Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Int8Type, Int32Type, Int64Type, TimestampMillisecondType,
};
use piaogen_crypto::Lanes;
use piaogen_crypto::sm2::Signature;
use piaogen_verify::Digest;
use piaogen_verify::document::{Committer, Secret, find};
use piaogen_verify::encoding::{Reader, put_bytes, put_vint, put_zint};
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::record::{self, Class, Draft, REGISTRY_SCHEME, RecordKind};
use piaogen_verify::value;

use super::schema::{self, COLUMNS, HEAD, PRECEDING, Shape};

/// The number of an outcome in entries (`FORMAT.md` section 5), by its name.
static OUTCOMES: LazyLock<HashMap<&'static str, u8>> = LazyLock::new(|| {
    let codes = (0..=u8::MAX).map(|code| (Outcome::name_of_code(code), code));
    let known: HashSet<&str> = Outcome::names().collect();
    codes.filter(|(name, _)| known.contains(name)).collect()
});

/// What is wrong with a row, for the caller to say where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BadRow {
    /// Place in the batch.
    pub(crate) row: usize,
    /// What is wrong.
    pub(crate) what: String,
}

/// The subject that a record with these fields has; empty where a field for it is missing.
pub(crate) fn subject_of<'a>(
    kind: RecordKind,
    get: impl Fn(Tag) -> Option<&'a [u8]>,
    per_seller: bool,
) -> Vec<u8> {
    let registry = |what: &[u8]| record::subject(REGISTRY_SCHEME.as_bytes(), None, what);
    let subject = match kind.class() {
        Class::Invoice | Class::Event => {
            let parts = (get(tag::SCHEME), get(tag::NUMBER), get(tag::SELLER_PARTY));
            match (per_seller, parts) {
                (false, (Some(scheme), Some(number), _)) => {
                    Some(record::subject(scheme, None, number))
                }
                (true, (Some(scheme), Some(number), Some(seller))) => {
                    Some(record::subject(scheme, Some(seller), number))
                }
                _ => None,
            }
        }
        Class::Registry => match kind {
            RecordKind::Policy => Some(registry(record::POLICY_SUBJECT)),
            RecordKind::Validators => Some(registry(record::VALIDATORS_SUBJECT)),
            RecordKind::Revoke => {
                get(tag::REVOKED_KEY).map(|key| registry(hex::encode(key).as_bytes()))
            }
            _ => get(tag::PARTY).map(registry),
        },
    };
    subject.unwrap_or_default()
}

/// The column or columns of one field.
enum FieldColumn<'a> {
    Text(&'a StringArray),
    Date(&'a arrow::array::Date32Array),
    Amount(&'a arrow::array::Decimal128Array),
    Uint(&'a arrow::array::Decimal128Array),
    Time(&'a arrow::array::TimestampMillisecondArray),
    Digest(&'a FixedSizeBinaryArray),
    Currency(&'a StringArray, &'a Int8Array),
    Lines(&'a Int32Array, &'a FixedSizeBinaryArray),
    Flag(&'a BooleanArray),
    Preceding(&'a ListArray),
}

impl FieldColumn<'_> {
    fn is_absent(&self, row: usize) -> bool {
        match self {
            Self::Text(column) => column.is_null(row),
            Self::Date(column) => column.is_null(row),
            Self::Amount(column) | Self::Uint(column) => column.is_null(row),
            Self::Time(column) => column.is_null(row),
            Self::Digest(column) => column.is_null(row),
            Self::Currency(code, exponent) => code.is_null(row) && exponent.is_null(row),
            Self::Lines(count, root) => count.is_null(row) && root.is_null(row),
            Self::Flag(column) => !column.value(row),
            Self::Preceding(column) => column.is_null(row),
        }
    }

    /// Appends the canonical value, if the row has one.
    fn value(&self, row: usize, out: &mut Vec<u8>) -> Result<bool, &'static str> {
        if self.is_absent(row) {
            return Ok(false);
        }
        match self {
            Self::Text(column) => out.extend_from_slice(column.value(row).as_bytes()),
            Self::Date(column) => put_day(out, column.value(row))?,
            Self::Amount(column) => put_zint(out, column.value(row)),
            Self::Uint(column) => {
                let number = u64::try_from(column.value(row));
                put_vint(out, number.map_err(|_| "a number is not within 64 bits")?);
            }
            Self::Time(column) => out.extend_from_slice(&column.value(row).to_be_bytes()),
            Self::Digest(column) => out.extend_from_slice(column.value(row)),
            Self::Currency(code, exponent) if code.is_valid(row) && exponent.is_valid(row) => {
                out.extend_from_slice(code.value(row).as_bytes());
                out.push(exponent.value(row) as u8);
            }
            Self::Lines(count, root) if count.is_valid(row) && root.is_valid(row) => {
                out.extend_from_slice(&count.value(row).to_be_bytes());
                out.extend_from_slice(root.value(row));
            }
            Self::Flag(_) => out.push(1),
            Self::Preceding(column) => put_preceding(out, &column.value(row))?,
            Self::Currency(..) | Self::Lines(..) => {
                return Err("one of two columns of a field is null");
            }
        }
        Ok(true)
    }
}

fn put_day(out: &mut Vec<u8>, days: i32) -> Result<(), &'static str> {
    // The years of a day are 1900 to 2199.
    if !(-25_567..84_006).contains(&days) {
        return Err("a day is out of range");
    }
    let (year, month, day) = value::day_of_days(i64::from(days));
    out.extend_from_slice(&(year * 10_000 + month * 100 + day).to_be_bytes());
    Ok(())
}

fn put_preceding(out: &mut Vec<u8>, entries: &dyn Array) -> Result<(), &'static str> {
    let entries: &StructArray = entries.as_struct();
    put_vint(out, entries.len() as u64);
    for row in 0..entries.len() {
        let mut members: Vec<(Tag, Vec<u8>)> = Vec::new();
        for ((tag, day), column) in PRECEDING.iter().zip(entries.columns()) {
            if column.is_null(row) {
                continue;
            }
            let mut bytes = Vec::new();
            if *day {
                put_day(&mut bytes, column.as_primitive::<Date32Type>().value(row))?;
            } else {
                bytes.extend_from_slice(column.as_string::<i32>().value(row).as_bytes());
            }
            members.push((*tag, bytes));
        }
        value::put_members(out, &members);
    }
    Ok(())
}

/// The columns of a batch of `records`.
pub(crate) struct Batch<'a> {
    rows: usize,
    log_index: &'a Int64Array,
    offset: &'a Int64Array,
    height: &'a Int64Array,
    block_time: &'a arrow::array::TimestampMillisecondArray,
    kind: &'a StringArray,
    outcome: &'a StringArray,
    detail: &'a StringArray,
    outcome_data: &'a BinaryArray,
    own: Vec<FieldColumn<'a>>,
    fields: &'a BinaryArray,
    signer: &'a BinaryArray,
    signed_at: &'a arrow::array::TimestampMillisecondArray,
    secret: &'a FixedSizeBinaryArray,
    signature: &'a FixedSizeBinaryArray,
    raw: &'a BinaryArray,
    per_seller: &'a BooleanArray,
    subject: &'a BinaryArray,
    issue_index: &'a Int64Array,
    status: &'a FixedSizeBinaryArray,
    commitment: &'a FixedSizeBinaryArray,
    leaf: &'a FixedSizeBinaryArray,
}

/// One row, rebuilt.
#[derive(Clone, Debug)]
pub(crate) struct Rebuilt {
    pub(crate) log_index: u64,
    pub(crate) offset: u64,
    pub(crate) height: u64,
    pub(crate) time_ms: i64,
    /// The entry, encoded.
    pub(crate) entry: Vec<u8>,
    /// The record, encoded; empty where it was not asked for.
    pub(crate) record: Vec<u8>,
    /// The commitment in the entry.
    pub(crate) commitment: Digest,
    /// Issue index and status, which the sums over a shard need.
    pub(crate) issue: Option<u64>,
    pub(crate) status: Digest,
}

impl Rebuilt {
    /// The kind that the entry says.
    pub(crate) fn kind(&self) -> Option<RecordKind> {
        RecordKind::from_code(*self.entry.get(1)?)
    }
}

/// What to rebuild.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// The bytes of records.
    pub(crate) records: bool,
    /// Commitments from the column where it has them, in place of computing them.
    pub(crate) trust_commitments: bool,
}

impl<'a> Batch<'a> {
    /// The columns of a batch that has exactly the schema of `records`.
    pub(crate) fn new(batch: &'a RecordBatch) -> Result<Self, String> {
        if batch.schema().fields() != schema::records().fields() {
            return Err("the file's columns are not those of this layout".into());
        }
        let mut at = HEAD;
        let mut next = || {
            at += 1;
            batch.column(at - 1)
        };
        let own = COLUMNS
            .iter()
            .map(|(_, shape)| match shape {
                Shape::Text => FieldColumn::Text(next().as_string()),
                Shape::Date => FieldColumn::Date(next().as_primitive::<Date32Type>()),
                Shape::Amount => FieldColumn::Amount(next().as_primitive::<Decimal128Type>()),
                Shape::Uint => FieldColumn::Uint(next().as_primitive::<Decimal128Type>()),
                Shape::Time => FieldColumn::Time(next().as_primitive::<TimestampMillisecondType>()),
                Shape::Digest => FieldColumn::Digest(next().as_fixed_size_binary()),
                Shape::Currency => {
                    FieldColumn::Currency(next().as_string(), next().as_primitive::<Int8Type>())
                }
                Shape::Lines => FieldColumn::Lines(
                    next().as_primitive::<Int32Type>(),
                    next().as_fixed_size_binary(),
                ),
                Shape::Flag => FieldColumn::Flag(next().as_boolean()),
                Shape::Preceding => FieldColumn::Preceding(next().as_list()),
            })
            .collect();
        let c = |i: usize| batch.column(i);
        Ok(Self {
            rows: batch.num_rows(),
            log_index: c(0).as_primitive::<Int64Type>(),
            offset: c(1).as_primitive::<Int64Type>(),
            height: c(2).as_primitive::<Int64Type>(),
            block_time: c(3).as_primitive::<TimestampMillisecondType>(),
            kind: c(4).as_string(),
            outcome: c(5).as_string(),
            detail: c(6).as_string(),
            outcome_data: c(7).as_binary(),
            own,
            fields: next().as_binary(),
            signer: next().as_binary(),
            signed_at: next().as_primitive::<TimestampMillisecondType>(),
            secret: next().as_fixed_size_binary(),
            signature: next().as_fixed_size_binary(),
            raw: next().as_binary(),
            per_seller: next().as_boolean(),
            subject: next().as_binary(),
            issue_index: next().as_primitive::<Int64Type>(),
            status: next().as_fixed_size_binary(),
            commitment: next().as_fixed_size_binary(),
            leaf: next().as_fixed_size_binary(),
        })
    }

    /// The column `leaf` of a row.
    pub(crate) fn leaf(&self, row: usize) -> Digest {
        fixed(self.leaf, row)
    }

    /// The column `commitment` of a row.
    pub(crate) fn commitment(&self, row: usize) -> Option<Digest> {
        self.commitment.is_valid(row).then(|| fixed(self.commitment, row))
    }

    /// The column `detail` of a row.
    pub(crate) fn detail(&self, row: usize) -> &'a str {
        if self.detail.is_valid(row) { self.detail.value(row) } else { "" }
    }

    /// Rebuilds all rows.
    pub(crate) fn rebuild(
        &self,
        lanes: Lanes,
        committer: &mut Committer,
        wanted: Wanted,
    ) -> Result<Vec<Rebuilt>, BadRow> {
        let mut parsed = Parsed::default();
        for row in 0..self.rows {
            self.parse(row, &mut parsed).map_err(|what| BadRow { row, what: what.into() })?;
        }
        let pairs: Vec<(Tag, &[u8])> =
            parsed.pairs.iter().map(|(tag, range)| (*tag, &parsed.values[range.clone()])).collect();
        let commitments = self.commitments(&parsed, &pairs, lanes, committer, wanted);
        (0..self.rows)
            .map(|row| {
                let fields = &pairs[parsed.rows[row].1.clone()];
                let kind = parsed.rows[row].0;
                self.row(row, kind, fields, commitments[row], wanted)
                    .map_err(|what| BadRow { row, what: what.into() })
            })
            .collect()
    }

    fn kind(&self, row: usize) -> Result<Option<RecordKind>, &'static str> {
        if self.kind.is_null(row) {
            return Ok(None);
        }
        let name = self.kind.value(row);
        let found = RecordKind::ALL.iter().find(|kind| kind.name() == name);
        found.copied().map(Some).ok_or("no record has this kind")
    }

    /// Collects the fields of a row, tags ascending.
    fn parse(&self, row: usize, out: &mut Parsed) -> Result<(), &'static str> {
        let begin = out.pairs.len();
        if self.raw.is_valid(row) {
            if !self.only_raw(row) {
                return Err("it has raw bytes and other columns of a record");
            }
            out.rows.push((self.kind(row)?, begin..begin));
            return Ok(());
        }
        let kind = self.kind(row)?.ok_or("a record without kind has no raw bytes")?;
        if self.subject.is_valid(row) && self.per_seller.value(row) {
            return Err("its subject is given, and said to follow from the seller");
        }
        if kind.is_registry() && (self.secret.is_valid(row) || self.per_seller.value(row)) {
            return Err("it is a record of the registry, but has columns of an invoice");
        }
        for ((tag, _), column) in COLUMNS.iter().zip(&self.own) {
            let at = out.values.len();
            if column.value(row, &mut out.values)? {
                out.pairs.push((*tag, at..out.values.len()));
            }
        }
        if self.fields.is_valid(row) {
            let bytes = self.fields.value(row);
            let mut reader = Reader::new(bytes);
            while reader.remaining() > 0 {
                let wrong = "the column fields does not decode";
                let tag = reader.vint().map_err(|_| wrong)?;
                let value = reader.bytes("value", u64::MAX).map_err(|_| wrong)?;
                let at = out.values.len();
                out.values.extend_from_slice(value);
                let tag = Tag::try_from(tag).map_err(|_| wrong)?;
                if COLUMNS.binary_search_by_key(&tag, |(own, _)| *own).is_ok() {
                    return Err("the column fields has a field that has a column of its own");
                }
                out.pairs.push((tag, at..out.values.len()));
            }
        }
        out.pairs[begin..].sort_by_key(|(tag, _)| *tag);
        out.rows.push((Some(kind), begin..out.pairs.len()));
        Ok(())
    }

    /// Whether a row with raw bytes has nothing else of a record, as it must: what stands in a
    /// column is either part of the record or a lie.
    fn only_raw(&self, row: usize) -> bool {
        self.own.iter().all(|column| column.is_absent(row))
            && self.fields.is_null(row)
            && self.signed_at.is_null(row)
            && self.secret.is_null(row)
            && self.signature.is_null(row)
            && !self.per_seller.value(row)
    }

    fn commitments(
        &self,
        parsed: &Parsed,
        pairs: &[(Tag, &[u8])],
        lanes: Lanes,
        committer: &mut Committer,
        wanted: Wanted,
    ) -> Vec<Digest> {
        let mut out = vec![[0; 32]; self.rows];
        let (mut documents, mut events) = (Vec::new(), Vec::new());
        let (mut of_documents, mut of_events) = (Vec::new(), Vec::new());
        for (row, (kind, range)) in parsed.rows.iter().enumerate() {
            let fields = &pairs[range.clone()];
            match (self.commitment(row).filter(|_| wanted.trust_commitments), kind) {
                (Some(stored), _) => out[row] = stored,
                _ if self.raw.is_valid(row) => {
                    let bytes = self.raw.value(row);
                    out[row] = record::decode(bytes)
                        .map_or_else(|_| record::unreadable_commitment(bytes), |r| r.commitment());
                }
                (None, Some(kind)) if kind.is_registry() => {
                    let draft = Draft { kind: *kind, signed_at: 0, secret: [0; 16], fields };
                    out[row] = draft.commitment();
                }
                (None, Some(kind)) if kind.class() == Class::Event => {
                    events.push((self.secret(row), fields));
                    of_events.push(row);
                }
                _ => {
                    documents.push((self.secret(row), fields));
                    of_documents.push(row);
                }
            }
        }
        let mut computed = Vec::new();
        committer.commitments(lanes, &documents, &mut computed);
        of_documents.iter().zip(computed).for_each(|(row, commitment)| out[*row] = commitment);
        let computed = commit_events(lanes, &events);
        of_events.iter().zip(computed).for_each(|(row, commitment)| out[*row] = commitment);
        out
    }

    fn secret(&self, row: usize) -> Secret {
        if self.secret.is_valid(row) { fixed(self.secret, row) } else { [0; 16] }
    }

    fn row(
        &self,
        row: usize,
        kind: Option<RecordKind>,
        fields: &[(Tag, &[u8])],
        commitment: Digest,
        wanted: Wanted,
    ) -> Result<Rebuilt, &'static str> {
        let index = |column: &Int64Array| {
            u64::try_from(column.value(row)).map_err(|_| "an index is negative")
        };
        let signer = self.signer.value(row).try_into();
        let signer: Digest = signer.map_err(|_| "a signer is no key id")?;
        let issue = self.issue_index.is_valid(row).then(|| index(self.issue_index)).transpose()?;
        let status = if self.status.is_valid(row) { fixed(self.status, row) } else { [0; 32] };
        let offset = index(self.offset)?;
        let name = self.outcome.value(row);
        let outcome = OUTCOMES.get(name).ok_or("there is no such outcome")?;
        let mut entry = Vec::with_capacity(192);
        entry.extend_from_slice(&[1, kind.map_or(0, |kind| kind as u8)]);
        entry.extend_from_slice(&offset.to_be_bytes());
        put_bytes(&mut entry, &self.subject(row, kind, fields));
        entry.push(*outcome);
        let data = &self.outcome_data;
        put_bytes(&mut entry, if data.is_valid(row) { data.value(row) } else { &[] });
        entry.extend_from_slice(&commitment);
        entry.extend_from_slice(&signer);
        put_vint(&mut entry, issue.map_or(0, |issue| issue + 1));
        entry.extend_from_slice(&status);
        if self.raw.is_valid(row) && readable(self.raw.value(row), kind, &signer) {
            return Err("its record can be read, but is not in columns");
        }
        let record = match (wanted.records, kind) {
            (false, _) => Vec::new(),
            (true, _) if self.raw.is_valid(row) => self.raw.value(row).to_vec(),
            (true, Some(kind)) => self.record(row, kind, fields, &signer)?,
            (true, None) => return Err("a record without kind has no raw bytes"),
        };
        let (log_index, height) = (index(self.log_index)?, index(self.height)?);
        let time_ms = self.block_time.value(row);
        Ok(Rebuilt { log_index, offset, height, time_ms, entry, record, commitment, issue, status })
    }

    fn subject(&self, row: usize, kind: Option<RecordKind>, fields: &[(Tag, &[u8])]) -> Vec<u8> {
        match kind {
            _ if self.subject.is_valid(row) => self.subject.value(row).to_vec(),
            Some(kind) if self.raw.is_null(row) => {
                subject_of(kind, |tag| find(fields, tag), self.per_seller.value(row))
            }
            _ => Vec::new(),
        }
    }

    fn record(
        &self,
        row: usize,
        kind: RecordKind,
        fields: &[(Tag, &[u8])],
        signer: &Digest,
    ) -> Result<Vec<u8>, &'static str> {
        if self.signature.is_null(row) || self.signed_at.is_null(row) {
            return Err("a record without raw bytes has no signature");
        }
        let draft =
            Draft { kind, signed_at: self.signed_at.value(row), secret: self.secret(row), fields };
        Ok(draft.encode(signer, &Signature(fixed(self.signature, row))))
    }
}

/// Whether a record belongs into columns: it can be read and is as its entry says.
fn readable(bytes: &[u8], kind: Option<RecordKind>, signer: &Digest) -> bool {
    record::decode(bytes).is_ok_and(|record| Some(record.kind) == kind && record.signer == *signer)
}

/// The body of an event: secret and fields.
type Body<'a> = (Secret, &'a [(Tag, &'a [u8])]);

/// The commitments of events with these secrets and fields, computed together.
fn commit_events(lanes: Lanes, events: &[Body<'_>]) -> Vec<Digest> {
    let mut arena = Vec::new();
    let mut ranges = Vec::with_capacity(events.len());
    for (secret, fields) in events {
        let begin = arena.len() as u32;
        arena.push(record::EVENT_PREFIX);
        arena.extend_from_slice(secret);
        put_vint(&mut arena, fields.len() as u64);
        for (tag, value) in *fields {
            put_vint(&mut arena, u64::from(*tag));
            put_bytes(&mut arena, value);
        }
        ranges.push(begin..arena.len() as u32);
    }
    let mut out = vec![[0; 32]; events.len()];
    lanes.sm3_ranges(&arena, &ranges, &mut out);
    out
}

/// The fields of the rows of a batch.
#[derive(Default)]
struct Parsed {
    values: Vec<u8>,
    pairs: Vec<(Tag, Range<usize>)>,
    rows: Vec<(Option<RecordKind>, Range<usize>)>,
}

/// A value of a column whose width is part of the checked schema.
fn fixed<const N: usize>(column: &FixedSizeBinaryArray, row: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(column.value(row));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_number() {
        assert_eq!(OUTCOMES.len(), Outcome::names().count());
        assert!(Outcome::names().all(|name| Outcome::name_of_code(OUTCOMES[name]) == name));
    }

    #[test]
    fn days_at_the_limits_are_kept() {
        for (year, month, day) in [(1900, 1, 1), (2199, 12, 31)] {
            let mut out = Vec::new();
            let days = value::days_since_1970(year, month, day);
            put_day(&mut out, i32::try_from(days).unwrap()).unwrap();
            assert_eq!(out, value::date(year, month, day));
        }
        for (year, month, day) in [(1899, 12, 31), (2200, 1, 1)] {
            let days = value::days_since_1970(year, month, day);
            assert!(put_day(&mut Vec::new(), i32::try_from(days).unwrap()).is_err());
        }
    }
}
