//! Carries elements into fields: one function reads every type of value, driven by the field table.
//!
//! Invariants
//! - An absent or empty element sets no field; any other sets a canonical value or is refused.
//! - Refusals name the path of the element, not the field.

use crate::currency::Currency;
use crate::error::{Difference, ImportError, Note, shorten};
use crate::tree::{Element, Tree};
use crate::{Imported, Options};
use piaogen_crypto::sm3;
use piaogen_verify::document::{Document, Fields};
use piaogen_verify::fields::{self, DOCUMENT, Field, Kind, Tag, by_tag, tag};
use piaogen_verify::record::{RECORD_MAX, RecordKind};
use piaogen_verify::value::{self, Flaw, LINE_BYTES_MAX, LINES_MAX, LIST_MAX, parse_decimal};

/// One entry of a list.
pub(crate) type Entry = Vec<(Tag, Vec<u8>)>;

/// Which element becomes which field.
pub(crate) type Map = [(Tag, &'static str)];

/// The members of a list field of a document or a line.
pub(crate) fn members(table: &'static [Field], tag: Tag) -> &'static [Field] {
    match by_tag(table, tag).map(|field| field.kind) {
        Some(Kind::List(members)) => members,
        _ => &[],
    }
}

fn refuse(element: Element<'_>, flaw: Flaw) -> ImportError {
    match flaw {
        Flaw::Malformed(cause) => element.malformed(cause.words()),
        Flaw::Limit { value, limit } => {
            ImportError::Limit { element: element.path(), what: "bytes", value, limit }
        }
    }
}

/// Reads values in the currency of the invoice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carrier {
    pub(crate) currency: Currency,
}

impl Carrier {
    /// Sets a field from an element, if the element is there and not empty.
    pub(crate) fn carry(
        &self,
        out: &mut Fields,
        table: &'static [Field],
        tag: Tag,
        element: Option<Element<'_>>,
    ) -> Result<(), ImportError> {
        let Some(element) = element.filter(|element| !element.text().is_empty()) else {
            return Ok(());
        };
        let Some(field) = by_tag(table, tag) else { return Ok(()) };
        let bytes = self.value(field.kind, element)?;
        value::check(field.kind, &bytes).map_err(|flaw| refuse(element, flaw))?;
        out.set(tag, bytes);
        Ok(())
    }

    /// Sets a field from text that does not stand in an element as it is.
    pub(crate) fn carry_text(
        &self,
        out: &mut Fields,
        (table, tag): (&'static [Field], Tag),
        element: Element<'_>,
        text: &str,
    ) -> Result<(), ImportError> {
        let (Some(field), false) = (by_tag(table, tag), text.is_empty()) else { return Ok(()) };
        let bytes = value::text(text);
        value::check(field.kind, &bytes).map_err(|flaw| refuse(element, flaw))?;
        out.set(tag, bytes);
        Ok(())
    }

    /// Sets each field of a map from the element at its path under `parent`.
    pub(crate) fn carry_all(
        &self,
        out: &mut Fields,
        table: &'static [Field],
        map: &Map,
        parent: Element<'_>,
    ) -> Result<(), ImportError> {
        for (tag, path) in map {
            self.carry(out, table, *tag, parent.find(path)?)?;
        }
        Ok(())
    }

    /// Sets a field from an attribute. One that does not fit stays unused and comes up in a note.
    pub(crate) fn carry_attribute(
        &self,
        out: &mut Fields,
        (table, tag): (&'static [Field], Tag),
        element: Element<'_>,
        name: &str,
    ) {
        let (Some(field), Some(text)) = (by_tag(table, tag), element.attribute(name)) else {
            return;
        };
        let bytes = value::text(text);
        if value::check(field.kind, &bytes).is_ok() {
            element.use_attribute(name);
            out.set(tag, bytes);
        }
    }

    fn value(&self, kind: Kind, element: Element<'_>) -> Result<Vec<u8>, ImportError> {
        match kind {
            Kind::Date => date(element),
            Kind::Amount => Ok(value::amount(self.currency.amount(element)?)),
            Kind::Decimal => {
                self.currency.check_named(element)?;
                let (mantissa, scale) = decimal(element)?;
                Ok(value::decimal(mantissa, scale))
            }
            _ => Ok(value::text(element.text())),
        }
    }
}

/// An exact decimal number.
pub(crate) fn decimal(element: Element<'_>) -> Result<(i128, u8), ImportError> {
    parse_decimal(element.text())
        .ok_or_else(|| element.malformed("is no decimal number of at most 18 decimals"))
}

/// A day, `2026-11-21`.
fn date(element: Element<'_>) -> Result<Vec<u8>, ImportError> {
    let read = || {
        let text = element.text().as_bytes();
        let shaped = text.len() == 10 && text[4] == b'-' && text[7] == b'-';
        shaped.then(|| Some((digits(&text[..4])?, digits(&text[5..7])?, digits(&text[8..])?)))?
    };
    let (year, month, day) = read().ok_or_else(|| element.malformed("is no date YYYY-MM-DD"))?;
    Ok(value::date(year, month, day))
}

/// The number that ASCII digits write.
pub(crate) fn digits(text: &[u8]) -> Option<u32> {
    let all = text.iter().all(u8::is_ascii_digit);
    all.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

/// Sets a list field; nothing where there are no entries.
pub(crate) fn set_list(
    out: &mut Fields,
    tag: Tag,
    parent: Element<'_>,
    entries: &[Entry],
) -> Result<(), ImportError> {
    if entries.is_empty() {
        return Ok(());
    }
    let (value, limit) = (entries.len() as u64, LIST_MAX);
    if value > limit {
        let element = format!("{} ({})", parent.path(), fields::name_of(tag));
        return Err(ImportError::Limit { element, what: "entries", value, limit });
    }
    out.set(tag, value::list(entries));
    Ok(())
}

/// Refuses a line whose encoding is too long.
pub(crate) fn check_line(line: &Fields, element: Element<'_>) -> Result<(), ImportError> {
    let mut encoded = Vec::new();
    value::put_members(&mut encoded, line.pairs());
    let (value, limit) = (encoded.len() as u64, LINE_BYTES_MAX);
    if value <= limit {
        return Ok(());
    }
    Err(ImportError::Limit { element: element.path(), what: "bytes of a line", value, limit })
}

/// Refuses too many lines, and none.
pub(crate) fn check_count(root: Element<'_>, name: &str, count: usize) -> Result<(), ImportError> {
    let element = format!("{}/{name}", root.path());
    let (value, limit) = (count as u64, u64::from(LINES_MAX));
    match value {
        0 => Err(ImportError::Missing { element }),
        _ if value > limit => Err(ImportError::Limit { element, what: "lines", value, limit }),
        _ => Ok(()),
    }
}

/// The entry of `sources` for the file itself.
pub(crate) fn file_entry(format: &str, bytes: &[u8]) -> Entry {
    source_entry(bytes, format.as_bytes().to_vec())
}

/// Digest, size and format of bytes that the document came from or with.
pub(crate) fn source_entry(bytes: &[u8], format: Vec<u8>) -> Entry {
    let size = value::uint(bytes.len() as u64);
    vec![(2012, sm3::hash(bytes).to_vec()), (2013, size), (2014, format)]
}

/// A document in the making.
#[derive(Debug)]
pub(crate) struct Draft<'o> {
    pub(crate) options: &'o Options,
    pub(crate) carrier: Carrier,
    pub(crate) fields: Fields,
    pub(crate) lines: Vec<Fields>,
    notes: Vec<Note>,
    left_out: u32,
}

/// Most remarks and differences that are kept: a path costs a walk over the elements beside it.
const NOTES_MAX: usize = 1_000;

impl<'o> Draft<'o> {
    /// A document without fields.
    pub(crate) fn new(options: &'o Options, carrier: Carrier) -> Draft<'o> {
        let (fields, lines, notes) = (Fields::new(), Vec::new(), Vec::new());
        Draft { options, carrier, fields, lines, notes, left_out: 0 }
    }

    /// Adds a remark about an element.
    pub(crate) fn remark(&mut self, element: Element<'_>, text: impl Into<String>) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(Note::Remark { path: element.path(), text: text.into() });
        } else {
            self.left_out += 1;
        }
    }

    /// Compares an amount with what the others make it: refused beyond the tolerance, a note
    /// within it.
    pub(crate) fn rule(
        &mut self,
        rule: &'static str,
        element: Element<'_>,
        (expected, found): (i128, i128),
        tolerance: u64,
    ) -> Result<(), ImportError> {
        if expected == found {
            return Ok(());
        }
        let within = expected.abs_diff(found) <= u128::from(tolerance);
        if within && self.notes.len() >= NOTES_MAX {
            self.left_out += 1;
            return Ok(());
        }
        let exponent = self.carrier.currency.exponent;
        let element = element.path();
        let difference = Difference { rule, element, expected, found, tolerance, exponent };
        if !within {
            return Err(ImportError::Totals(difference));
        }
        self.notes.push(Note::Difference(difference));
        Ok(())
    }

    /// Seals the document and checks it as a whole.
    pub(crate) fn finish(mut self, kind: RecordKind, tree: &Tree) -> Result<Imported, ImportError> {
        let currency = self.carrier.currency;
        self.fields.set(tag::CURRENCY, value::currency(currency.code, currency.exponent));
        self.fields.set_text(tag::SCHEME, &self.options.scheme.code);
        // Tag and length of a value take at most six bytes, head and signature of a record 130.
        let size = self.fields.iter().map(|(_, bytes)| bytes.len() + 6).sum::<usize>() + 130;
        if size > RECORD_MAX {
            let (value, limit) = (size as u64, RECORD_MAX as u64);
            let element = tree.root().path();
            return Err(ImportError::Limit { element, what: "bytes of a record", value, limit });
        }
        let Options { secret, scheme, .. } = self.options;
        let mut document = Document { secret: *secret, fields: self.fields, lines: self.lines };
        document.seal();
        document.check().map_err(|(tag, flaw)| ImportError::Malformed {
            element: format!("{} ({})", tree.root().path(), fields::name_of(tag)),
            value: shorten(document.fields.text(tag)),
            cause: format!("{flaw:?}"),
        })?;
        if self.left_out > 0 {
            let text = format!("{} more remarks and differences are left out", self.left_out);
            self.notes.push(Note::Remark { path: tree.root().path(), text });
        }
        self.notes.extend(tree.unused());
        Ok(Imported { document, kind, scheme: scheme.code.clone(), notes: self.notes })
    }

    /// Sets several fields of the document by a map.
    pub(crate) fn map(&mut self, map: &Map, parent: Element<'_>) -> Result<(), ImportError> {
        self.carrier.carry_all(&mut self.fields, DOCUMENT, map, parent)
    }
}
