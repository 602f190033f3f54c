//! Says why a file is refused, and what a person should know of one that is not.
//!
//! Every message names the element by its path, the value, what is wrong with it and the next step.
//! All of them are of the class Refused: the same bytes will be refused again.

use piaogen_verify::value::decimal_string;
use std::fmt;

/// Why a file does not become a document. Always the class Refused: the input is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The bytes are no XML that we read.
    #[error("not readable as XML at byte {at}: {cause}; check the file or its declared encoding")]
    NotXml {
        /// About where, in bytes of the text.
        at: u64,
        /// What is wrong.
        cause: String,
    },
    /// Something that invoices do not need and attackers like.
    #[error("{place}: {what} is not allowed in an invoice; remove it at the source")]
    Forbidden {
        /// Path of the element, or the whole file.
        place: String,
        /// What was found.
        what: String,
    },
    /// An element that must be there is absent or empty.
    #[error("{element} is missing or empty; an invoice of this format must have it")]
    Missing {
        /// Its path.
        element: String,
    },
    /// A value cannot be what it should be.
    #[error("{element} = {value:?}: {cause}; correct the value at the source")]
    Malformed {
        /// Path of the element.
        element: String,
        /// The value, shortened.
        value: String,
        /// What is wrong.
        cause: String,
    },
    /// A size is above its limit.
    #[error("{element}: {what} = {value} is above {limit}; shorten it or split the invoice")]
    Limit {
        /// Path of the element, or the whole file.
        element: String,
        /// What is measured.
        what: &'static str,
        /// The measure.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// Amounts do not add up.
    #[error("{0}; correct the amounts at the source or raise the tolerance of the scheme")]
    Totals(Difference),
}

/// An amount that is not what the others make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The rule: an EN 16931 id such as `BR-CO-10`, or one that begins with `CN-` or `FORMAT-`.
    pub rule: &'static str,
    /// Path of the element that holds `found`.
    pub element: String,
    /// What the other amounts make it, in minor units.
    pub expected: i128,
    /// What the file says, in minor units.
    pub found: i128,
    /// Largest difference allowed, in minor units.
    pub tolerance: u64,
    /// Decimals of the currency.
    pub exponent: u8,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |amount| decimal_string(amount, self.exponent);
        write!(
            f,
            "rule {}: {} = {}, expected {}, tolerance {}",
            self.rule,
            self.element,
            show(self.found),
            show(self.expected),
            show(i128::from(self.tolerance)),
        )
    }
}

/// What a person should know about a file that was converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The document has no field for this element or attribute.
    NotCarried {
        /// Its path; `@name` at the end for an attribute.
        path: String,
        /// How many times it occurs.
        count: u32,
    },
    /// Amounts differ within the tolerance.
    Difference(Difference),
    /// Something looks wrong or was written in another way.
    Remark {
        /// Path of the element.
        path: String,
        /// What.
        text: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::NotCarried { path, count: 1 } => write!(f, "{path}: not carried"),
            Note::NotCarried { path, count } => write!(f, "{path}: not carried ({count} times)"),
            Note::Difference(difference) => write!(f, "{difference}"),
            Note::Remark { path, text } => write!(f, "{path}: {text}"),
        }
    }
}

/// The beginning of a value, for messages.
pub(crate) fn shorten(value: &str) -> String {
    const SHOWN: usize = 80;
    match value.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}
