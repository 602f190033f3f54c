//! Numbering schemes and the rules of amounts that go with them (`FORMAT.md` section 2.6).
//!
//! What differs from country to country is a parameter of a scheme in the genesis file, never of
//! the code: tolerances, accepted types, who numbers, which sign a credit has.
//!
//! Invariants
//! - Rules look at the record alone, so that they can run on any lane in any order.
//! - The first rule that fails is the answer, in the order of this file.

pub mod usual;

use crate::entry::Outcome;
use crate::fields::{REQUIRED, Tag, tag};
use crate::record::{Record, RecordKind};
use crate::value::{self, Cause};
use alloc::string::String;
use alloc::vec::Vec;

/// Which sign the amounts of a red invoice have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedSign {
    /// Amounts are negative, as in China.
    Negative,
    /// Amounts are positive, as in an EN 16931 credit note (381).
    Positive,
    /// Both occur.
    Any,
}

/// A numbering scheme.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheme {
    /// Its code, as in the field `scheme`.
    pub code: String,
    /// Numbers are unique within a seller, not within the scheme.
    pub per_seller: bool,
    /// Type codes of blue invoices.
    pub blue_types: Vec<String>,
    /// Type codes of red invoices.
    pub red_types: Vec<String>,
    /// Sign of the amounts of red invoices.
    pub red_sign: RedSign,
    /// Largest difference of totals, in minor units.
    pub tolerance_totals: u64,
    /// Largest difference of tax from taxable × rate in one entry, in minor units.
    pub tolerance_tax: u64,
    /// A red invoice of a used or booked original needs a slip of both sides.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub slips: bool,
    /// Invoices may be voided.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub voidable: bool,
    /// Values of `vat_type` with which the buyer may deduct the tax; none: always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deductible_vat_types: Vec<String>,
}

impl Scheme {
    /// The scheme with this code.
    pub fn find<'a>(schemes: &'a [Scheme], code: &[u8]) -> Option<&'a Scheme> {
        schemes.iter().find(|scheme| scheme.code.as_bytes() == code)
    }
}

/// Checks what can be known from an invoice record alone: required fields, type, references, signs,
/// totals. The answer is the outcome that the record is refused with.
pub fn check_invoice(record: &Record<'_>, schemes: &[Scheme]) -> Result<(), Outcome> {
    if let Some(tag) = REQUIRED.iter().find(|tag| record.get(**tag).is_none()) {
        return Err(malformed(*tag, Cause::Missing));
    }
    let code = record.get(tag::SCHEME).unwrap_or_default();
    let scheme = Scheme::find(schemes, code).ok_or(Outcome::UnknownScheme)?;
    check_type(record, scheme)?;
    check_references(record)?;
    check_sign(record, scheme)?;
    check_totals(record, scheme)
}

fn malformed(tag: Tag, cause: Cause) -> Outcome {
    Outcome::Malformed { tag, cause }
}

fn check_type(record: &Record<'_>, scheme: &Scheme) -> Result<(), Outcome> {
    let code = record.text(tag::TYPE_CODE);
    let among = |types: &[String]| types.iter().any(|accepted| accepted == code);
    let accepted = match record.kind {
        RecordKind::IssueRed => among(&scheme.red_types),
        RecordKind::Import => among(&scheme.blue_types) || among(&scheme.red_types),
        _ => among(&scheme.blue_types),
    };
    if accepted { Ok(()) } else { Err(Outcome::TypeNotAccepted) }
}

fn check_references(record: &Record<'_>) -> Result<(), Outcome> {
    let (preceding, unknown) = (record.get(tag::PRECEDING), record.get(tag::ORIGINAL_UNKNOWN));
    match (record.kind, preceding, unknown) {
        (RecordKind::IssueRed, None, None) => Err(malformed(tag::PRECEDING, Cause::Missing)),
        (RecordKind::IssueRed, Some(_), Some(_))
        | (RecordKind::Issue | RecordKind::Import, _, Some(_)) => {
            Err(malformed(tag::ORIGINAL_UNKNOWN, Cause::NotAllowed))
        }
        _ => Ok(()),
    }
}

fn check_sign(record: &Record<'_>, scheme: &Scheme) -> Result<(), Outcome> {
    let gross = record.amount(tag::TOTAL_GROSS);
    let fits = match (record.kind, scheme.red_sign) {
        (RecordKind::IssueRed, RedSign::Negative) => gross <= 0,
        (RecordKind::IssueRed, RedSign::Positive) => gross >= 0,
        _ => true,
    };
    if fits { Ok(()) } else { Err(malformed(tag::TOTAL_GROSS, Cause::Sign)) }
}

/// The rules of totals over the fields of a record; rules are numbered as in `FORMAT.md`.
pub fn check_totals(record: &Record<'_>, scheme: &Scheme) -> Result<(), Outcome> {
    let amount = |tag| record.amount(tag);
    let (net, vat, gross) =
        (amount(tag::TOTAL_NET), amount(tag::TOTAL_VAT), amount(tag::TOTAL_GROSS));
    let totals = scheme.tolerance_totals;
    rule(1, gross - net - vat, totals)?;
    if record.get(tag::LINES_NET).is_some() {
        let lines = amount(tag::LINES_NET) - amount(tag::ALLOWANCES_TOTAL);
        rule(2, net - lines - amount(tag::CHARGES_TOTAL), totals)?;
    }
    if record.get(tag::AMOUNT_DUE).is_some() {
        let due = gross - amount(tag::PREPAID) + amount(tag::ROUNDING);
        rule(3, amount(tag::AMOUNT_DUE) - due, totals)?;
    }
    match record.get(tag::VAT_BREAKDOWN) {
        Some(bytes) => check_breakdown(bytes, net, vat, scheme),
        None => Ok(()),
    }
}

fn check_breakdown(bytes: &[u8], net: i128, vat: i128, scheme: &Scheme) -> Result<(), Outcome> {
    #[derive(Default)]
    struct Rate {
        taxable: i128,
        tax: i128,
        percent: Option<(i128, u8)>,
    }
    let broken = |_| malformed(tag::VAT_BREAKDOWN, Cause::Encoding);
    let mut rates: [Option<Rate>; value::LIST_MAX as usize] = [const { None }; _];
    value::each_member(bytes, |entry, tag, bytes| {
        let rate = rates[entry].get_or_insert_default();
        match tag {
            tag::TAXABLE => rate.taxable = value::amount_of(bytes)?,
            tag::TAX => rate.tax = value::amount_of(bytes)?,
            tag::VAT_RATE => rate.percent = Some(value::decimal_of(bytes)?),
            _ => {}
        }
        Ok(())
    })
    .map_err(broken)?;
    let (mut taxable_sum, mut tax_sum, mut worst_tax) = (0i128, 0i128, 0i128);
    for Rate { taxable, tax, percent } in rates.into_iter().map_while(|rate| rate) {
        taxable_sum += taxable;
        tax_sum += tax;
        if let Some((mantissa, scale)) = percent {
            let difference = tax - percent_of(taxable, mantissa, scale);
            if difference.abs() > worst_tax.abs() {
                worst_tax = difference;
            }
        }
    }
    rule(4, taxable_sum - net, scheme.tolerance_totals)?;
    rule(5, tax_sum - vat, scheme.tolerance_totals)?;
    rule(6, worst_tax, scheme.tolerance_tax)
}

/// `amount × mantissa / 10^scale / 100`, half away from zero; saturates instead of overflowing, and
/// a saturated value differs from any tax that can be written.
pub fn percent_of(amount: i128, mantissa: i128, scale: u8) -> i128 {
    let divisor = 10i128.pow(u32::from(scale.min(value::SCALE_MAX)) + 2);
    match amount.checked_mul(mantissa) {
        Some(product) => round_div(product, divisor),
        None => i128::MAX / 4,
    }
}

/// Division rounded half away from zero; the divisor is positive.
pub fn round_div(dividend: i128, divisor: i128) -> i128 {
    // Division of 128 bits is slow, and most amounts are short.
    let (quotient, rest) = match (i64::try_from(dividend), i64::try_from(divisor)) {
        (Ok(dividend), Ok(divisor)) => ((dividend / divisor).into(), (dividend % divisor).into()),
        _ => (dividend / divisor, dividend % divisor),
    };
    // The doubled remainder fits: divisors here are powers of ten far below 2^126.
    if rest.abs() * 2 >= divisor { quotient + dividend.signum() } else { quotient }
}

fn rule(rule: u8, difference: i128, tolerance: u64) -> Result<(), Outcome> {
    if difference.unsigned_abs() <= u128::from(tolerance) {
        Ok(())
    } else {
        Err(Outcome::Totals { rule, difference })
    }
}

/// Whether a unified social credit code (GB 32100-2015) has the right check character.
pub fn credit_code_holds(code: &str) -> bool {
    const ALPHABET: &[u8] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
    let value = |c: u8| ALPHABET.iter().position(|a| *a == c).map(|at| at as u32);
    let bytes = code.as_bytes();
    if bytes.len() != 18 {
        return false;
    }
    let (mut sum, mut weight) = (0, 1);
    for byte in &bytes[..17] {
        let Some(v) = value(*byte) else { return false };
        sum += v * weight;
        weight = weight * 3 % 31;
    }
    value(bytes[17]) == Some((31 - sum % 31) % 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_codes_of_real_companies_hold() {
        for code in ["91440300708461136T", "91120118MA06R1D13A", "915300007194052520"] {
            assert!(credit_code_holds(code), "{code}");
        }
        for code in ["11330102MB1234567A", "91440300708461136X", "", "9144030070846113I6"] {
            assert!(!credit_code_holds(code), "{code}");
        }
    }

    #[test]
    fn halves_round_away_from_zero() {
        for (dividend, expected) in [(5, 1), (4, 0), (-5, -1), (-4, 0), (15, 2), (0, 0)] {
            assert_eq!(round_div(dividend, 10), expected);
        }
        assert_eq!(percent_of(10_000, 13, 0), 1_300);
        assert_eq!(percent_of(333, 175, 1), 58);
    }
}
