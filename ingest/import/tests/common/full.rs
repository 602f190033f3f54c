//! Two invoices that have every element that the maps know, for tests that change one thing in them.

/// A UBL invoice with every business term.
pub const UBL: &str = include_str!("../samples/ubl.xml");

/// A red 数电票 with two rates and one exempt line.
pub const SHUDIAN: &str = include_str!("../samples/shudian.xml");
