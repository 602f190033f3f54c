//! Recomputes the totals of an EN 16931 invoice (BR-CO-10 to BR-CO-17 and FORMAT rule 4).
//!
//! The official schematron compares exactly, BR-CO-17 apart, where the tax of an entry may be off
//! by less than one unit of the currency; what the scheme says on top can only be stricter there,
//! because a record beyond the scheme's tolerance would be refused anyway.

use crate::carry::Draft;
use crate::error::ImportError;
use crate::tree::Element;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::scheme::percent_of;
use piaogen_verify::value;

fn sum(draft: &Draft<'_>, list: Tag, member: Tag) -> i128 {
    let entries = draft.fields.get(list).map(value::entries_of).and_then(Result::ok);
    entries.unwrap_or_default().iter().map(|entry| amount(entry, member)).sum()
}

fn amount(entry: &[(Tag, &[u8])], member: Tag) -> i128 {
    let bytes = entry.iter().find(|(tag, _)| *tag == member).map(|(_, bytes)| *bytes);
    bytes.and_then(|bytes| value::amount_of(bytes).ok()).unwrap_or(0)
}

/// Checks the totals of a document whose fields and lines are set. `totals` is the element
/// `LegalMonetaryTotal`, `tax` the `TaxTotal` in the currency of the invoice.
pub(crate) fn check(
    draft: &mut Draft<'_>,
    totals: Element<'_>,
    tax: Element<'_>,
) -> Result<(), ImportError> {
    let tolerance = draft.options.scheme.tolerance_totals;
    let of = |draft: &Draft<'_>, tag| draft.fields.amount(tag);
    let at = |path| Ok::<_, ImportError>(totals.find(path)?.unwrap_or(totals));
    let (lines_net, net, vat, gross) = (
        of(draft, tag::LINES_NET),
        of(draft, tag::TOTAL_NET),
        of(draft, tag::TOTAL_VAT),
        of(draft, tag::TOTAL_GROSS),
    );
    let (allowances, charges) = (of(draft, tag::ALLOWANCES_TOTAL), of(draft, tag::CHARGES_TOTAL));
    let due = gross - of(draft, tag::PREPAID) + of(draft, tag::ROUNDING);
    let lines = draft.lines.iter().map(|line| line.amount(tag::LINE_NET)).sum();
    let (payable, taxable) =
        (of(draft, tag::AMOUNT_DUE), sum(draft, tag::VAT_BREAKDOWN, tag::TAXABLE));
    let rules = [
        ("BR-CO-10", at("cbc:LineExtensionAmount")?, lines, lines_net),
        ("BR-CO-11", at("cbc:AllowanceTotalAmount")?, sum(draft, 1020, 92), allowances),
        ("BR-CO-12", at("cbc:ChargeTotalAmount")?, sum(draft, 1021, 99), charges),
        ("BR-CO-13", at("cbc:TaxExclusiveAmount")?, lines_net - allowances + charges, net),
        (
            "BR-CO-14",
            tax.find("cbc:TaxAmount")?.unwrap_or(tax),
            sum(draft, tag::VAT_BREAKDOWN, tag::TAX),
            vat,
        ),
        ("BR-CO-15", at("cbc:TaxInclusiveAmount")?, net + vat, gross),
        ("BR-CO-16", at("cbc:PayableAmount")?, due, payable),
        ("FORMAT-4", tax, net, taxable),
    ];
    for (rule, element, expected, found) in rules {
        draft.rule(rule, element, (expected, found), tolerance)?;
    }
    check_breakdown(draft, tax)
}

fn check_breakdown(draft: &mut Draft<'_>, tax: Element<'_>) -> Result<(), ImportError> {
    let Some(bytes) = draft.fields.get(tag::VAT_BREAKDOWN).map(<[u8]>::to_vec) else {
        return Ok(());
    };
    let unit = 10u64.pow(u32::from(draft.carrier.currency.exponent));
    let entries = value::entries_of(&bytes).unwrap_or_default();
    for (entry, element) in entries.iter().zip(tax.all("cac:TaxSubtotal")) {
        let rate = entry.iter().find(|(tag, _)| *tag == tag::VAT_RATE);
        let rate = rate.and_then(|(_, bytes)| value::decimal_of(bytes).ok());
        let (expected, limit) = match rate {
            Some((mantissa, scale)) => {
                let taxable = amount(entry, tag::TAXABLE);
                (percent_of(taxable, mantissa, scale), unit - 1)
            }
            // Without a rate the tax must round to zero units of the currency.
            None => (0, (unit / 2).saturating_sub(1)),
        };
        let tolerance = limit.min(draft.options.scheme.tolerance_tax);
        let found = amount(entry, tag::TAX);
        draft.rule("BR-CO-17", element, (expected, found), tolerance)?;
    }
    Ok(())
}
