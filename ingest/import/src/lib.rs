//! Turns an invoice in a foreign format into a document: bytes in, fields and lines out.
//!
//! Each format has one table that says which element becomes which field, so that a reader can
//! compare it with the standard line by line. Whatever the tables do not mention is not lost in
//! silence: it is listed in the notes, by its path.
//!
//! Invariants
//! - No input or output: the caller reads the file and gives the secret of the document.
//! - Everything is bounded before it is kept: bytes, depth, elements, lines.
//! - Amounts stay exact: what the currency cannot hold is refused, never rounded.
//! - A document that comes out passes `Document::check` and the rules of its scheme.
//!
//! ```
//! use piaogen_import::{ImportError, Options, ubl};
//! let refused = ubl::import(b"<!DOCTYPE Invoice><Invoice/>", &Options::ubl([7; 16]));
//! assert!(matches!(refused, Err(ImportError::Forbidden { .. })));
//! ```

mod carry;
mod currency;
mod error;
pub mod shudian;
mod source;
mod totals;
mod tree;
pub mod ubl;

pub use error::{Difference, ImportError, Note};

use piaogen_verify::document::{Document, Secret};
use piaogen_verify::record::RecordKind;
use piaogen_verify::scheme::{Scheme, usual};

/// What the caller decides about an import.
#[derive(Clone, Debug)]
pub struct Options {
    /// The secret of the document; fresh random bytes for each document.
    pub secret: Secret,
    /// Scheme whose code the document gets, with its types and tolerances.
    pub scheme: Scheme,
    /// Largest difference of a line's tax from net × rate, in minor units (`CN-EINV` only).
    pub line_tax_tolerance: u64,
    /// Largest sum of those differences in one invoice, in minor units (`CN-EINV` only).
    pub invoice_tax_tolerance: u64,
    /// Difference of a line's net from quantity × price above which there is a note, in minor
    /// units (`CN-EINV` only).
    pub line_net_tolerance: u64,
    /// Refuse a number whose first two digits are not the year of issue (`CN-EINV` only); where
    /// false, there is a note.
    pub number_year_must_fit: bool,
}

impl Options {
    fn of(secret: Secret, scheme: Scheme) -> Options {
        Options {
            secret,
            scheme,
            line_tax_tolerance: 6,
            invoice_tax_tolerance: 127,
            line_net_tolerance: 1,
            number_year_must_fit: true,
        }
    }

    /// Defaults for [`ubl::import`]: scheme [`usual::en16931`].
    pub fn ubl(secret: Secret) -> Options {
        Options::of(secret, usual::en16931())
    }

    /// Defaults for [`shudian::import`]: scheme [`usual::cn_einv`].
    pub fn shudian(secret: Secret) -> Options {
        Options::of(secret, usual::cn_einv())
    }
}

/// What came of an import.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The document, sealed.
    pub document: Document,
    /// Blue or red.
    pub kind: RecordKind,
    /// Code of the numbering scheme.
    pub scheme: String,
    /// What a person should know: what was not carried, which amounts differ.
    pub notes: Vec<Note>,
}
