//! Results as a table, CSV or JSON, written batch by batch.
//!
//! A table takes its widths from its first rows, so that it can be written before the last row is
//! known; a later value that is wider stands out of line rather than being cut.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::Format;

/// Rows that a table's widths are taken from.
const WIDTH_ROWS: usize = 1_000;

/// Writes batches in one format.
pub(crate) struct Writer<'a> {
    format: Format,
    out: &'a mut dyn Write,
    names: Vec<String>,
    rows: u64,
    /// Rows held back until the widths are known; `None` after that.
    held: Option<Vec<Vec<String>>>,
    widths: Vec<usize>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(format: Format, schema: &Schema, out: &'a mut dyn Write) -> Self {
        let names = schema.fields().iter().map(|field| field.name().clone()).collect();
        Self { format, out, names, rows: 0, held: Some(Vec::new()), widths: Vec::new() }
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.rows += batch.num_rows() as u64;
        match self.format {
            Format::Json => {
                let builder = WriterBuilder::new().with_explicit_nulls(true);
                let mut writer = builder.build::<_, LineDelimited>(&mut *self.out);
                writer.write(&exact(batch)?)?;
                writer.finish()
            }
            Format::Csv => {
                self.csv_header()?;
                for row in cells(batch)? {
                    self.csv_line(&row)?;
                }
                Ok(())
            }
            Format::Table => {
                for row in cells(batch)? {
                    match &mut self.held {
                        Some(held) if held.len() < WIDTH_ROWS => held.push(row),
                        Some(_) => {
                            self.table_head()?;
                            self.table_line(&row)?;
                        }
                        None => self.table_line(&row)?,
                    }
                }
                Ok(())
            }
        }
    }

    /// Writes what is held back, and says how many rows there were.
    pub(crate) fn finish(mut self) -> Result<u64, ArrowError> {
        match self.format {
            Format::Json => {}
            Format::Csv => self.csv_header()?,
            Format::Table => self.table_head()?,
        }
        self.out.flush()?;
        Ok(self.rows)
    }

    fn csv_header(&mut self) -> Result<(), ArrowError> {
        if self.held.take().is_some() {
            let names = std::mem::take(&mut self.names);
            self.csv_line(&names)?;
        }
        Ok(())
    }

    fn csv_line(&mut self, cells: &[String]) -> Result<(), ArrowError> {
        for (at, cell) in cells.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if cell.contains([',', '"', '\n', '\r']) {
                write!(self.out, "{comma}\"{}\"", cell.replace('"', "\"\""))?;
            } else {
                write!(self.out, "{comma}{cell}")?;
            }
        }
        Ok(self.out.write_all(b"\r\n")?)
    }

    fn table_head(&mut self) -> Result<(), ArrowError> {
        let Some(held) = self.held.take() else { return Ok(()) };
        let names = std::mem::take(&mut self.names);
        self.widths = names.iter().map(|name| width(name)).collect();
        for row in &held {
            let widths = self.widths.iter_mut().zip(row);
            widths.for_each(|(widest, cell)| *widest = (*widest).max(width(cell)));
        }
        self.table_line(&names)?;
        let rules: Vec<String> = self.widths.iter().map(|width| "-".repeat(*width)).collect();
        self.table_line(&rules)?;
        held.iter().try_for_each(|row| self.table_line(row))
    }

    fn table_line(&mut self, cells: &[String]) -> Result<(), ArrowError> {
        let mut line = String::new();
        for (at, cell) in cells.iter().enumerate() {
            line.push_str(if at == 0 { "" } else { "  " });
            // Line breaks within a value would look like rows.
            line.extend(cell.chars().map(|c| if c.is_control() { ' ' } else { c }));
            let padding =
                self.widths.get(at).map_or(0, |widest| widest.saturating_sub(width(cell)));
            line.extend(std::iter::repeat_n(' ', padding));
        }
        Ok(writeln!(self.out, "{}", line.trim_end())?)
    }
}

/// Columns that a text takes on a terminal: characters of Chinese, Japanese and Korean take two.
fn width(text: &str) -> usize {
    let wide = |c: char| {
        matches!(u32::from(c),
            0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff
            | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x20000..=0x3fffd)
    };
    text.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}

/// The batch with its decimal columns as text: a JSON reader may round what is written as a number.
fn exact(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if matches!(column.data_type(), DataType::Decimal128(..) | DataType::Decimal256(..)) {
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
            columns.push(text(column)?);
        } else {
            fields.push(field.clone());
            columns.push(column.clone());
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn text(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
    let value = |row| match column.is_null(row) {
        true => Ok(None),
        false => formatter.value(row).try_to_string().map(Some),
    };
    let values = (0..column.len()).map(value).collect::<Result<Vec<Option<String>>, _>>()?;
    Ok(Arc::new(StringArray::from(values)))
}

/// The values of a batch as text; null is empty.
fn cells(batch: &RecordBatch) -> Result<Vec<Vec<String>>, ArrowError> {
    let options = FormatOptions::default();
    let formatters = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()?;
    (0..batch.num_rows())
        .map(|row| {
            formatters
                .iter()
                .map(|formatter| formatter.value(row).try_to_string())
                .collect::<Result<Vec<_>, _>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Decimal128Array, Int64Array, StringArray};
    use std::sync::Arc;

    fn written(format: Format, rows: usize) -> String {
        let text: Vec<Option<&str>> =
            [Some("深圳"), None, Some("a,\"b\"\n")].into_iter().cycle().take(rows).collect();
        let wide = Decimal128Array::from_iter_values((0..rows).map(|_| 10i128.pow(29)));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from_iter_values(0..rows as i64))),
            ("name", Arc::new(StringArray::from(text))),
            ("sum", Arc::new(wide.with_precision_and_scale(38, 0).unwrap())),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut out = Vec::new();
        let mut writer = Writer::new(format, &batch.schema(), &mut out);
        writer.write(&batch).unwrap();
        assert_eq!(writer.finish().unwrap(), rows as u64);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_format_is_as_its_readers_expect() {
        let sum = "100000000000000000000000000000";
        assert_eq!(
            written(Format::Csv, 3),
            format!("n,name,sum\r\n0,深圳,{sum}\r\n1,,{sum}\r\n2,\"a,\"\"b\"\"\n\",{sum}\r\n")
        );
        assert_eq!(
            written(Format::Json, 2),
            format!(
                "{{\"n\":0,\"name\":\"深圳\",\"sum\":\"{sum}\"}}\n\
                 {{\"n\":1,\"name\":null,\"sum\":\"{sum}\"}}\n"
            )
        );
        let table = written(Format::Table, 3);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[2], format!("0  深圳    {sum}"));
        assert_eq!(lines[4], format!("2  a,\"b\"   {sum}"));
        assert_eq!(written(Format::Table, 2_500).lines().count(), 2_502);
    }

    #[test]
    fn an_empty_result_has_its_header() {
        assert_eq!(written(Format::Csv, 0), "n,name,sum\r\n");
        assert_eq!(written(Format::Table, 0).lines().count(), 2);
        assert_eq!(written(Format::Json, 0), "");
    }
}
