//! The columns of the archive's files, and how each is encoded (`ARCHIVE.md`).
//!
//! One table says which fields of a record have columns of their own; everything else of a record
//! is in `fields`, so that rows are complete whatever fields there will be.
//!
//! Invariants
//! - A record and its entry can be rebuilt from a row, byte for byte.
//! - Columns are only ever added; a change of meaning is a new layout version.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use piaogen_verify::fields::{DOCUMENT, EVENT, REGISTRY, Tag, by_tag, tag};
use piaogen_verify::header::HEADER_LEN;

/// Version of the layout, in every manifest and file.
pub const LAYOUT: u32 = 1;
/// Rows of one page: what reading a single row costs.
pub(super) const PAGE_ROWS: usize = 4_096;

/// How a field of a record stands in columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// One text column.
    Text,
    /// One day.
    Date,
    /// Minor units.
    Amount,
    /// A number that is not negative.
    Uint,
    /// Milliseconds since 1970.
    Time,
    /// 32 bytes.
    Digest,
    /// Code and exponent.
    Currency,
    /// Count and root.
    Lines,
    /// True or false.
    Flag,
    /// A list of structs.
    Preceding,
}

/// The fields with columns of their own, tags ascending.
pub(crate) const COLUMNS: &[(Tag, Shape)] = &[
    (tag::NUMBER, Shape::Text),
    (tag::ISSUE_DATE, Shape::Date),
    (tag::TYPE_CODE, Shape::Text),
    (tag::CURRENCY, Shape::Currency),
    (9, Shape::Date),
    (tag::SELLER_NAME, Shape::Text),
    (31, Shape::Text),
    (35, Shape::Text),
    (40, Shape::Text),
    (tag::BUYER_NAME, Shape::Text),
    (48, Shape::Text),
    (50, Shape::Text),
    (55, Shape::Text),
    (tag::TOTAL_NET, Shape::Amount),
    (tag::TOTAL_VAT, Shape::Amount),
    (tag::TOTAL_GROSS, Shape::Amount),
    (tag::AMOUNT_DUE, Shape::Amount),
    (162, Shape::Text),
    (163, Shape::Text),
    (tag::PRECEDING, Shape::Preceding),
    (tag::LINES, Shape::Lines),
    (tag::SCHEME, Shape::Text),
    (tag::SELLER_PARTY, Shape::Text),
    (2007, Shape::Text),
    (tag::ORIGINAL_UNKNOWN, Shape::Flag),
    (2023, Shape::Text),
    (tag::PARTY, Shape::Text),
    (tag::ACTOR, Shape::Text),
    (tag::AMOUNT, Shape::Amount),
    (tag::TAX_AMOUNT, Shape::Amount),
    (tag::REFERENCE, Shape::Text),
    (tag::DIGEST, Shape::Digest),
    (tag::REASON_CODE, Shape::Text),
    (tag::FINANCING, Shape::Uint),
    (tag::FORM, Shape::Text),
    (tag::ADVANCED, Shape::Amount),
    (tag::EXPIRES, Shape::Time),
    (tag::DIVISIBLE, Shape::Flag),
    (tag::ACCOUNT, Shape::Digest),
    (tag::DUE, Shape::Date),
    (tag::MARK, Shape::Text),
    (tag::PERIOD, Shape::Uint),
    (tag::SCOPE, Shape::Uint),
    (tag::TEXT, Shape::Text),
    (tag::FACT, Shape::Text),
    (tag::RED_NUMBER, Shape::Text),
    (tag::SYSTEM, Shape::Text),
    (tag::ON_BEHALF, Shape::Text),
];

/// The members of an entry of `preceding`: tag and whether it is a day; the others are text.
pub(crate) const PRECEDING: &[(Tag, bool)] =
    &[(25, false), (26, true), (2004, false), (2005, false)];
const PRECEDING_NAMES: [&str; 4] = ["number", "issue_date", "scheme", "slip_number"];

/// Columns before those of the fields.
pub(crate) const HEAD: usize = 8;

fn moment() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

pub(crate) fn decimal() -> DataType {
    DataType::Decimal128(38, 0)
}

/// The struct of an entry of `preceding`.
pub(crate) fn preceding_members() -> Fields {
    let member = |(name, (_, day)): (&str, &(Tag, bool))| {
        Field::new(name, if *day { DataType::Date32 } else { DataType::Utf8 }, true)
    };
    PRECEDING_NAMES.into_iter().zip(PRECEDING).map(member).collect()
}

/// The element of the list `preceding`.
pub(crate) fn preceding_element() -> Field {
    Field::new("element", DataType::Struct(preceding_members()), true)
}

/// The name of a field's column.
pub(crate) fn name_of(tag: Tag) -> &'static str {
    // An event's `party` is who it is done to or for; the name is taken by registry records.
    if tag == tag::ACTOR {
        return "counterparty";
    }
    let tables = [DOCUMENT, REGISTRY, EVENT];
    tables.into_iter().find_map(|table| by_tag(table, tag)).map_or("", |field| field.name)
}

fn push_columns(out: &mut Vec<Field>, tag: Tag, shape: Shape) {
    let name = name_of(tag);
    match shape {
        Shape::Text => out.push(Field::new(name, DataType::Utf8, true)),
        Shape::Date => out.push(Field::new(name, DataType::Date32, true)),
        Shape::Amount | Shape::Uint => out.push(Field::new(name, decimal(), true)),
        Shape::Time => out.push(Field::new(name, moment(), true)),
        Shape::Digest => out.push(Field::new(name, DataType::FixedSizeBinary(32), true)),
        Shape::Flag => out.push(Field::new(name, DataType::Boolean, false)),
        Shape::Currency => {
            out.push(Field::new("currency", DataType::Utf8, true));
            out.push(Field::new("currency_exponent", DataType::Int8, true));
        }
        Shape::Lines => {
            out.push(Field::new("lines_count", DataType::Int32, true));
            out.push(Field::new("lines_root", DataType::FixedSizeBinary(32), true));
        }
        Shape::Preceding => {
            out.push(Field::new(name, DataType::List(Arc::new(preceding_element())), true));
        }
    }
}

/// The schema of `records`, partition columns aside.
pub fn records() -> SchemaRef {
    let mut out = vec![
        Field::new("log_index", DataType::Int64, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("height", DataType::Int64, false),
        Field::new("block_time", moment(), false),
        Field::new("kind", DataType::Utf8, true),
        Field::new("outcome", DataType::Utf8, false),
        Field::new("detail", DataType::Utf8, true),
        Field::new("outcome_data", DataType::Binary, true),
    ];
    COLUMNS.iter().for_each(|(tag, shape)| push_columns(&mut out, *tag, *shape));
    out.extend([
        Field::new("fields", DataType::Binary, true),
        // Of fixed width it could have no dictionary, and there are few signers among many rows.
        Field::new("signer", DataType::Binary, false),
        Field::new("signed_at", moment(), true),
        Field::new("secret", DataType::FixedSizeBinary(16), true),
        Field::new("signature", DataType::FixedSizeBinary(64), true),
        Field::new("raw", DataType::Binary, true),
        Field::new("per_seller", DataType::Boolean, false),
        Field::new("subject", DataType::Binary, true),
        Field::new("issue_index", DataType::Int64, true),
        Field::new("status", DataType::FixedSizeBinary(32), true),
        Field::new("commitment", DataType::FixedSizeBinary(32), true),
        Field::new("leaf", DataType::FixedSizeBinary(32), false),
    ]);
    Arc::new(Schema::new(out))
}

/// The schema of `blocks`.
pub fn blocks() -> SchemaRef {
    let offset = Field::new("element", DataType::Int64, false);
    Arc::new(Schema::new(vec![
        Field::new("height", DataType::Int64, false),
        Field::new("time", moment(), false),
        Field::new("digest", DataType::FixedSizeBinary(32), false),
        Field::new("header", DataType::FixedSizeBinary(HEADER_LEN as i32), false),
        Field::new("cut", DataType::List(Arc::new(offset)), false),
        Field::new("certificate", DataType::Binary, true),
    ]))
}

/// Columns of integers that grow, or nearly so.
const DELTA: [&str; 8] = [
    "log_index",
    "offset",
    "height",
    "block_time",
    "signed_at",
    "issue_index",
    "time",
    "lines_count",
];
/// Columns that look random: compressing them costs time and gains nothing.
const RANDOM: [&str; 8] =
    ["lines_root", "secret", "signature", "commitment", "leaf", "digest", "certificate", "account"];
/// Numbers, names, addresses and key ids: each page has them from end to end, or nobody asks for a
/// range of them, so bounds would exclude nothing.
const UNBOUNDED: [&str; 14] = [
    "number",
    "seller_party",
    "seller_vat_id",
    "buyer_party",
    "buyer_vat_id",
    "seller_name",
    "seller_street",
    "seller_address_line",
    "buyer_name",
    "buyer_street",
    "buyer_address_line",
    "drawer",
    "signer",
    "subject",
];
/// Columns of bytes of many lengths, each value different.
const LENGTHS: [&str; 4] = ["number", "fields", "raw", "outcome_data"];

/// How files of a schema are written.
pub(crate) fn properties(
    schema: &Schema,
    row_group_rows: usize,
    metadata: Vec<(&str, String)>,
) -> WriterProperties {
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    let metadata = metadata.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value));
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by("piaogen".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(row_group_rows))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(1_024)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(vec![SortingColumn {
            column_idx: 0,
            descending: false,
            nulls_first: false,
        }]))
        .set_key_value_metadata(Some(metadata.collect()));
    for field in schema.fields() {
        let name = field.name().as_str();
        let column = || ColumnPath::from(name);
        if DELTA.contains(&name) {
            properties = properties
                .set_column_dictionary_enabled(column(), false)
                .set_column_encoding(column(), Encoding::DELTA_BINARY_PACKED);
        }
        if RANDOM.contains(&name) {
            properties = properties
                .set_column_dictionary_enabled(column(), false)
                .set_column_compression(column(), Compression::UNCOMPRESSED)
                .set_column_statistics_enabled(column(), EnabledStatistics::None);
        }
        if UNBOUNDED.contains(&name) {
            properties =
                properties.set_column_statistics_enabled(column(), EnabledStatistics::None);
        }
        if LENGTHS.contains(&name) {
            properties = properties
                .set_column_dictionary_enabled(column(), false)
                .set_column_encoding(column(), Encoding::DELTA_LENGTH_BYTE_ARRAY);
        }
        match name {
            "number" => {
                properties = properties
                    .set_column_bloom_filter_enabled(column(), true)
                    .set_column_bloom_filter_max_ndv(column(), row_group_rows as u64)
                    .set_column_bloom_filter_fpp(column(), 0.01);
            }
            "fields" | "raw" | "header" | "outcome_data" => {
                properties = properties
                    .set_column_dictionary_enabled(column(), false)
                    .set_column_statistics_enabled(column(), EnabledStatistics::None);
            }
            _ if *field.data_type() == decimal() => {
                properties = properties.set_column_dictionary_enabled(column(), false);
            }
            _ => {}
        }
    }
    properties.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_ascend_and_all_have_names() {
        assert!(COLUMNS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(COLUMNS.iter().all(|(tag, _)| !name_of(*tag).is_empty()));
        let schema = records();
        assert_eq!(schema.field(HEAD).name(), "number");
        let mut names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), schema.fields().len());
    }
}
