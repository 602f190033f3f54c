//! Reads the lines of a 数电票 and sums up their taxes by rate.
//!
//! Issuing software rounds each line and lets the tax of a line be off by 0.06 and that of an
//! invoice by 1.27; both limits are options. A rate that is a text has no arithmetic.

use crate::carry::{Carrier, Draft, Entry, Map, check_line, decimal, members, set_list};
use crate::error::ImportError;
use crate::tree::Element;
use piaogen_verify::document::Fields;
use piaogen_verify::fields::{LINE, Tag, tag};
use piaogen_verify::scheme::{percent_of, round_div};
use piaogen_verify::value::{self, parse_decimal};

/// Name of the element of a line.
pub(super) const NAME: &str = "IssuItemInformation";
/// Tax of a line.
pub(super) const TAX: Tag = 2131;
/// Code list of the 19-digit tax classification.
const TAX_CLASSES: &str = "CN-TAX";
/// What stands for a tax amount where there is none.
const NO_AMOUNT: &str = "***";

const FIELDS: &Map = &[
    (129, "Quantity"),
    (130, "MeaUnits"),
    (131, "Amount"),
    (146, "UnPrice"),
    (153, "ItemName"),
    (2153, "SpecMod"),
];

/// What a rate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    /// UNCL5305: S standard, Z zero, E exempt, O outside the scope of VAT.
    category: Option<&'static str>,
    /// In percent.
    percent: Option<(i128, u8)>,
}

/// Taxable amount and tax of one rate.
struct Sum {
    rate: Rate,
    taxable: i128,
    tax: i128,
}

/// Sets the lines and the VAT breakdown.
pub(super) fn lines(draft: &mut Draft<'_>, data: Element<'_>) -> Result<(), ImportError> {
    let mut sums: Vec<Sum> = Vec::new();
    for element in data.all(NAME) {
        let (line, rate) = line(draft, element)?;
        check_line(&line, element)?;
        check_tax(draft, element, &line, rate)?;
        let (taxable, tax) = (line.amount(tag::LINE_NET), line.amount(TAX));
        match sums.iter_mut().find(|sum| sum.rate == rate) {
            Some(sum) => {
                sum.taxable += taxable;
                sum.tax += tax;
            }
            None => sums.push(Sum { rate, taxable, tax }),
        }
        draft.lines.push(line);
    }
    check_sums(draft, data, &sums)?;
    let entries: Vec<Entry> = sums.iter().map(entry).collect();
    set_list(&mut draft.fields, tag::VAT_BREAKDOWN, data, &entries)
}

/// The differences that the lines gather, for each rate and for the invoice.
fn check_sums(draft: &mut Draft<'_>, data: Element<'_>, sums: &[Sum]) -> Result<(), ImportError> {
    let total = data.need("BasicInformation/TotalTaxAm")?;
    let mut gathered = 0;
    for sum in sums {
        let Some((mantissa, scale)) = sum.rate.percent else { continue };
        let expected = percent_of(sum.taxable, mantissa, scale);
        let tolerance = draft.options.scheme.tolerance_tax;
        draft.rule("FORMAT-6", total, (expected, sum.tax), tolerance)?;
        gathered += (expected - sum.tax).abs();
    }
    let limit = draft.options.invoice_tax_tolerance;
    if gathered > i128::from(limit) {
        draft.rule("CN-INVOICE-TAX", total, (0, gathered), limit)?;
    }
    Ok(())
}

fn entry(sum: &Sum) -> Entry {
    let mut entry = Fields::new();
    entry.set_amount(tag::TAXABLE, sum.taxable);
    entry.set_amount(tag::TAX, sum.tax);
    entry.set_text(118, sum.rate.category.unwrap_or_default());
    if let Some((mantissa, scale)) = sum.rate.percent {
        entry.set(tag::VAT_RATE, value::decimal(mantissa, scale));
    }
    entry.pairs().to_vec()
}

fn line(draft: &mut Draft<'_>, element: Element<'_>) -> Result<(Fields, Rate), ImportError> {
    let carrier = draft.carrier;
    element.need("ItemName")?;
    element.need("Amount")?;
    let mut line = Fields::new();
    carrier.carry_all(&mut line, LINE, FIELDS, element)?;
    let (quantity, price) = (line.get(129).is_some(), line.get(146).is_some());
    if quantity != price {
        let there = if quantity { "Quantity" } else { "UnPrice" };
        let cause = "stands alone; quantity and price are both there or both absent";
        return Err(element.need(there)?.malformed(cause));
    }
    let rate = rate(element.need("TaxRate")?)?;
    line.set_text(151, rate.category.unwrap_or_default());
    if let Some((mantissa, scale)) = rate.percent {
        line.set(152, value::decimal(mantissa, scale));
    }
    if let Some(tax) = element.find("ComTaxAm")?.filter(|tax| !tax.text().is_empty()) {
        line.set_amount(TAX, tax_amount(carrier, tax)?);
    }
    if let Some(code) = element.find("TaxClassificationCode")? {
        let mut entry = Fields::new();
        carrier.carry(&mut entry, members(LINE, 1158), 158, Some(code))?;
        if !entry.is_empty() {
            entry.set_text(2158, TAX_CLASSES);
            set_list(&mut line, 1158, element, &[entry.pairs().to_vec()])?;
        }
    }
    check_amounts(draft, element, &line)?;
    Ok((line, rate))
}

/// A tax amount, where `***` stands for none.
pub(super) fn tax_amount(carrier: Carrier, element: Element<'_>) -> Result<i128, ImportError> {
    if element.text() == NO_AMOUNT { Ok(0) } else { carrier.currency.amount(element) }
}

/// Net and tax make the gross of the line; quantity and price should make its net.
fn check_amounts(
    draft: &mut Draft<'_>,
    element: Element<'_>,
    line: &Fields,
) -> Result<(), ImportError> {
    let net = line.amount(tag::LINE_NET);
    let gross = element.find("TotaltaxIncludedAmount")?;
    if let Some(gross) = gross.filter(|gross| !gross.text().is_empty()) {
        let found = draft.carrier.currency.amount(gross)?;
        let expected = net + line.amount(TAX);
        draft.rule("CN-LINE-GROSS", gross, (expected, found), 0)?;
    }
    let of = |tag| line.get(tag).and_then(|bytes| value::decimal_of(bytes).ok());
    if let (Some((quantity, q)), Some((price, p))) = (of(129), of(146)) {
        let scale = u32::from(q) + u32::from(p);
        let minor = quantity.checked_mul(price).and_then(|product| product.checked_mul(100));
        let product = minor.map(|minor| round_div(minor, 10i128.pow(scale)));
        let limit = u128::from(draft.options.line_net_tolerance);
        if product.is_none_or(|product| product.abs_diff(net) > limit) {
            let amount = element.need("Amount")?;
            draft.remark(amount, "differs from quantity × price by more than 0.01");
        }
    }
    Ok(())
}

/// Compares the tax of a line with net × rate.
fn check_tax(
    draft: &mut Draft<'_>,
    element: Element<'_>,
    line: &Fields,
    rate: Rate,
) -> Result<(), ImportError> {
    let Some((mantissa, scale)) = rate.percent else { return Ok(()) };
    let expected = percent_of(line.amount(tag::LINE_NET), mantissa, scale);
    let found = line.amount(TAX);
    let at = element.find("ComTaxAm")?.unwrap_or(element);
    draft.rule("CN-LINE-TAX", at, (expected, found), draft.options.line_tax_tolerance)
}

/// `0.13`, `13%`, `免税`, `不征税`, or `***` where the tax is not on the whole amount.
fn rate(element: Element<'_>) -> Result<Rate, ImportError> {
    let text = element.text();
    let named = |category, percent| Ok(Rate { category, percent });
    match text {
        "免税" => return named(Some("E"), Some((0, 0))),
        "不征税" => return named(Some("O"), None),
        "零税率" | "出口零税率" => return named(Some("Z"), Some((0, 0))),
        NO_AMOUNT => return named(None, None),
        _ => {}
    }
    let (mantissa, scale) = match text.strip_suffix(['%', '％']) {
        Some(percent) => {
            parse_decimal(percent.trim()).ok_or_else(|| element.malformed("is no percentage"))?
        }
        None => fraction(element)?,
    };
    let normal = value::decimal_of(&value::decimal(mantissa, scale));
    let (mantissa, scale) = normal.map_err(|_| element.malformed("has too many digits"))?;
    let too_large = 10i128.pow(u32::from(scale)) * 100;
    if mantissa < 0 || mantissa > too_large {
        return Err(element.malformed("is not from 0 to 100 %"));
    }
    let category = if mantissa == 0 { "Z" } else { "S" };
    named(Some(category), Some((mantissa, scale)))
}

/// A rate as a fraction of one, in percent.
fn fraction(element: Element<'_>) -> Result<(i128, u8), ImportError> {
    let (mantissa, scale) = decimal(element)?;
    if mantissa >= 10i128.pow(u32::from(scale)) {
        let cause = "is 1 or more, which may be meant in percent; write 0.13 or 13%";
        return Err(element.malformed(cause));
    }
    Ok(match scale {
        0 => (mantissa * 100, 0),
        1 => (mantissa * 10, 0),
        _ => (mantissa, scale - 2),
    })
}
