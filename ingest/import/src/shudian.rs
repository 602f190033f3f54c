//! Reads the XML of Chinese fully digitalized e-invoices (数电票, root `EInvoice`).
//!
//! The format has no public schema; the elements are those of delivered files. What they become:
//! `InIssuType` is the type code 380 (blue) or 381 (red), since the list of BT-3 is UNTDID 1001;
//! `GeneralOrSpecialVAT` is `vat_type`; the label of `EInvoiceType` is the business process
//! (BT-23); version and tag of the file are the specification (BT-24). The VAT breakdown is summed
//! up from the lines, one entry for each rate.
//!
//! Invariants
//! - The currency is CNY, because the scheme is; the files do not name it.
//! - `EIid` and `InvoiceNumber` are the same 20 digits.
//! - A scalar stands once; nothing stands in a namespace.

mod line;

use crate::carry::{Carrier, Draft, Map, check_count, digits, file_entry, members, set_list};
use crate::currency::Currency;
use crate::error::ImportError;
use crate::source::decode;
use crate::tree::{Element, Tree, Vocabulary};
use crate::{Imported, Options};
use piaogen_verify::document::Fields;
use piaogen_verify::fields::{DOCUMENT, tag};
use piaogen_verify::record::RecordKind;
use piaogen_verify::scheme::credit_code_holds;
use piaogen_verify::value;

/// Name of the format in the field `sources`.
pub const FORMAT: &str = "CN-EINVOICE-XML";

const HEAD: &Map = &[
    (1, "Header/EIid"),
    (2, "TaxSupervisionInfo/IssueTime"),
    (27, "EInvoiceData/SellerInformation/SellerName"),
    (31, "EInvoiceData/SellerInformation/SellerIdNum"),
    (35, "EInvoiceData/SellerInformation/SellerAddr"),
    (42, "EInvoiceData/SellerInformation/SellerTelNum"),
    (44, "EInvoiceData/BuyerInformation/BuyerName"),
    (48, "EInvoiceData/BuyerInformation/BuyerIdNum"),
    (50, "EInvoiceData/BuyerInformation/BuyerAddr"),
    (57, "EInvoiceData/BuyerInformation/BuyerTelNum"),
    (109, "EInvoiceData/BasicInformation/TotalAmWithoutTax"),
    (112, "EInvoiceData/BasicInformation/TotalTax-includedAmount"),
    (2006, "EInvoiceData/SellerInformation/SellerIdNum"),
    (2007, "EInvoiceData/BuyerInformation/BuyerIdNum"),
    (2020, "Header/InherentLabel/GeneralOrSpecialVAT/LabelCode"),
    (2021, "TaxSupervisionInfo/TaxBureauName"),
    (2023, "EInvoiceData/BasicInformation/Drawer"),
    (2024, "EInvoiceData/AdditionalInformation/Remark"),
];

const NEEDED: &[&str] = &[
    "Header/EIid",
    "Header/InherentLabel/InIssuType/LabelCode",
    "EInvoiceData/SellerInformation/SellerIdNum",
    "EInvoiceData/SellerInformation/SellerName",
    "EInvoiceData/BuyerInformation/BuyerName",
    "EInvoiceData/BasicInformation/TotalAmWithoutTax",
    "EInvoiceData/BasicInformation/TotalTaxAm",
    "EInvoiceData/BasicInformation/TotalTax-includedAmount",
    "TaxSupervisionInfo/InvoiceNumber",
    "TaxSupervisionInfo/IssueTime",
];

/// Elements that may stand more than once, even empty.
const REPEATED: &[&str] = &["IssuItemInformation", "Label", "Additional"];

/// Reads an `EInvoice`.
///
/// # Errors
/// Says which element is at fault; see [`ImportError`].
pub fn import(xml: &[u8], options: &Options) -> Result<Imported, ImportError> {
    let text = decode(xml)?;
    let tree = Tree::parse(&text, Vocabulary::Plain)?;
    let root = tree.root();
    if root.name() != "EInvoice" {
        return Err(root.malformed("is not an EInvoice"));
    }
    if let Some(twice) = tree.duplicate_leaf(REPEATED) {
        return Err(twice.malformed("stands more than once; at most one is allowed"));
    }
    for path in NEEDED {
        root.need(path)?;
    }
    let currency = Currency { code: *b"CNY", exponent: 2 };
    let mut draft = Draft::new(options, Carrier { currency });
    draft.map(HEAD, root)?;
    number(&mut draft, root)?;
    let vat = root.need("EInvoiceData/BasicInformation/TotalTaxAm")?;
    draft.fields.set_amount(tag::TOTAL_VAT, line::tax_amount(draft.carrier, vat)?);
    labels(&mut draft, root)?;
    let kind = kind(&mut draft, root)?;
    request_time(&mut draft, root)?;
    accounts(&mut draft, root)?;
    set_list(&mut draft.fields, 1024, root, &[file_entry(FORMAT, xml)])?;
    let data = root.need("EInvoiceData")?;
    check_count(data, line::NAME, data.all(line::NAME).count())?;
    line::lines(&mut draft, data)?;
    totals(&mut draft, data, kind)?;
    draft.finish(kind, &tree)
}

/// The 20-digit number: the same in two places, beginning with the year of issue.
fn number(draft: &mut Draft<'_>, root: Element<'_>) -> Result<(), ImportError> {
    let number = root.need("Header/EIid")?;
    let text = number.text();
    if text.len() != 20 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(number.malformed("is not a number of 20 digits"));
    }
    let again = root.need("TaxSupervisionInfo/InvoiceNumber")?;
    if again.text() != text {
        return Err(again.malformed(format!("is not the same as Header/EIid = {text:?}")));
    }
    let issued = draft.fields.get(tag::ISSUE_DATE).and_then(|bytes| value::date_of(bytes).ok());
    let (year, _, _) = issued.unwrap_or_default();
    if digits(&text.as_bytes()[..2]) != Some(year % 100) {
        let cause = format!("begins with a year other than that of its issue, {year}");
        if draft.options.number_year_must_fit {
            return Err(number.malformed(cause));
        }
        draft.remark(number, cause);
    }
    for path in
        ["EInvoiceData/SellerInformation/SellerIdNum", "EInvoiceData/BuyerInformation/BuyerIdNum"]
    {
        let Some(id) = root.find(path)? else { continue };
        if id.text().len() == 18 && !credit_code_holds(id.text()) {
            draft.remark(id, "has a wrong check character (GB 32100)");
        }
    }
    Ok(())
}

fn labels(draft: &mut Draft<'_>, root: Element<'_>) -> Result<(), ImportError> {
    let carrier = draft.carrier;
    let text = |path: &str| Ok::<_, ImportError>(root.find(path)?.map_or("", Element::text));
    let kind = "Header/InherentLabel/EInvoiceType";
    if let Some(label) = root.find(kind)? {
        let code = text("Header/InherentLabel/EInvoiceType/LabelCode")?;
        let name = text("Header/InherentLabel/EInvoiceType/LabelName")?;
        let both = format!("{code} {name}");
        carrier.carry_text(&mut draft.fields, (DOCUMENT, 23), label, both.trim())?;
    }
    let header = root.need("Header")?;
    let (version, label) = (text("Header/Version")?, text("Header/EInvoiceTag")?);
    let both = format!("EInvoice {version} {label}");
    carrier.carry_text(&mut draft.fields, (DOCUMENT, 24), header, both.trim())?;
    // The names of codes that are carried say nothing that the codes do not.
    text("Header/InherentLabel/InIssuType/LabelName")?;
    text("Header/InherentLabel/GeneralOrSpecialVAT/LabelName")?;
    if root.find("EInvoiceData/SpecificInformation/Toll")?.is_some() {
        draft.fields.set_text(2009, "08");
    }
    Ok(())
}

fn kind(draft: &mut Draft<'_>, root: Element<'_>) -> Result<RecordKind, ImportError> {
    let code = root.need("Header/InherentLabel/InIssuType/LabelCode")?;
    let (kind, type_code) = match code.text() {
        "Y" => (RecordKind::Issue, "380"),
        "N" => (RecordKind::IssueRed, "381"),
        _ => return Err(code.malformed("is neither Y (blue) nor N (red)")),
    };
    draft.fields.set_text(tag::TYPE_CODE, type_code);
    let red = root.find("EInvoiceData/SpecificInformation/RedEInvoice")?;
    match (kind, red) {
        (RecordKind::Issue, Some(red)) => {
            return Err(red.malformed("stands in a blue invoice; only a red one has an original"));
        }
        (RecordKind::Issue, None) => return Ok(kind),
        _ => {}
    }
    let data = root.need("EInvoiceData")?;
    let number = data.need("SpecificInformation/RedEInvoice/OriginalInvoiceCode")?;
    let slip = data.find("SpecificInformation/RedEInvoice/CreditNoteNumber")?;
    let (carrier, table) = (draft.carrier, members(DOCUMENT, tag::PRECEDING));
    let mut entry = Fields::new();
    carrier.carry(&mut entry, table, 25, Some(number))?;
    carrier.carry(&mut entry, table, 2005, slip)?;
    if number.text() == draft.fields.text(tag::NUMBER) {
        return Err(number.malformed("is the number of the invoice itself"));
    }
    if number.text().len() != 20 {
        draft.remark(number, "is not a number of 20 digits; the original is of an older kind");
    }
    set_list(&mut draft.fields, tag::PRECEDING, data, &[entry.pairs().to_vec()])?;
    Ok(kind)
}

/// `2024-01-24 16:23:48`, Chinese time.
fn request_time(draft: &mut Draft<'_>, root: Element<'_>) -> Result<(), ImportError> {
    let Some(element) = root.find("EInvoiceData/BasicInformation/RequestTime")? else {
        return Ok(());
    };
    if element.text().is_empty() {
        return Ok(());
    }
    const HOUR_MS: i64 = 3_600_000;
    let time = local_time(element.text().as_bytes());
    let local = time.ok_or_else(|| element.malformed("is no time YYYY-MM-DD hh:mm:ss"))?;
    draft.fields.set(2022, value::time(local - 8 * HOUR_MS));
    Ok(())
}

fn local_time(text: &[u8]) -> Option<i64> {
    let shape: Vec<u8> = text.iter().map(|b| if b.is_ascii_digit() { b'0' } else { *b }).collect();
    if !matches!(&shape[..], b"0000-00-00 00:00:00" | b"0000-00-00T00:00:00") {
        return None;
    }
    let (year, month, day) = (digits(&text[..4])?, digits(&text[5..7])?, digits(&text[8..10])?);
    value::date_of(&value::date(year, month, day)).ok()?;
    let (hour, minute, second) =
        (digits(&text[11..13])?, digits(&text[14..16])?, digits(&text[17..])?);
    let fits = hour < 24 && minute < 60 && second < 60;
    let seconds = i64::from(hour * 3_600 + minute * 60 + second);
    fits.then(|| (value::days_since_1970(year, month, day) * 86_400 + seconds) * 1_000)
}

fn accounts(draft: &mut Draft<'_>, root: Element<'_>) -> Result<(), ImportError> {
    const ACCOUNT: &Map = &[(84, "SellerBankAccNum"), (86, "SellerBankName")];
    let seller = root.need("EInvoiceData/SellerInformation")?;
    let mut entry = Fields::new();
    draft.carrier.carry_all(&mut entry, members(DOCUMENT, 1017), ACCOUNT, seller)?;
    if entry.is_empty() {
        return Ok(());
    }
    set_list(&mut draft.fields, 1017, seller, &[entry.pairs().to_vec()])
}

fn totals(draft: &mut Draft<'_>, data: Element<'_>, kind: RecordKind) -> Result<(), ImportError> {
    let basic = data.need("BasicInformation")?;
    let tolerance = draft.options.scheme.tolerance_totals;
    let lines = |draft: &Draft<'_>, tag| draft.lines.iter().map(|line| line.amount(tag)).sum();
    let (net, tax): (i128, i128) = (lines(draft, tag::LINE_NET), lines(draft, line::TAX));
    let of = |draft: &Draft<'_>, tag| draft.fields.amount(tag);
    let total = of(draft, tag::TOTAL_NET) + of(draft, tag::TOTAL_VAT);
    for (rule, path, expected, tag) in [
        ("CN-NET", "TotalAmWithoutTax", net, tag::TOTAL_NET),
        ("CN-TAX", "TotalTaxAm", tax, tag::TOTAL_VAT),
        ("CN-GROSS", "TotalTax-includedAmount", total, tag::TOTAL_GROSS),
    ] {
        let found = of(draft, tag);
        draft.rule(rule, basic.need(path)?, (expected, found), tolerance)?;
    }
    let gross = basic.need("TotalTax-includedAmount")?;
    let amount = of(draft, tag::TOTAL_GROSS);
    match kind {
        RecordKind::IssueRed if amount > 0 => Err(gross.malformed("is positive in a red invoice")),
        RecordKind::Issue if amount < 0 => Err(gross.malformed("is negative in a blue invoice")),
        _ => Ok(()),
    }
}
