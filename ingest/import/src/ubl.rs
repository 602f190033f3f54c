//! Reads UBL 2.1 invoices and credit notes as EN 16931 binds them.
//!
//! The maps below are the table of the standard: tag of the field (which is the number of the
//! business term) and path of the element. An invoice and a credit note differ in three names.
//!
//! Invariants
//! - What EN 16931 allows once and stands twice is refused.
//! - The kind is red for a `CreditNote`, and for an `Invoice` with the type code 381 or 396.

mod attachment;
mod line;
mod party;

use crate::carry::{Carrier, Draft, Entry, Map, file_entry, members, set_list};
use crate::currency::Currency;
use crate::error::ImportError;
use crate::source::decode;
use crate::totals;
use crate::tree::{Element, Tree, Vocabulary};
use crate::{Imported, Options};
use piaogen_verify::document::Fields;
use piaogen_verify::fields::{DOCUMENT, tag};
use piaogen_verify::record::RecordKind;
use piaogen_verify::value;

/// Name of the format in the field `sources`.
pub const FORMAT: &str = "UBL-2.1";

const HEAD: &Map = &[
    (2, "cbc:IssueDate"),
    (6, "cbc:TaxCurrencyCode"),
    (7, "cbc:TaxPointDate"),
    (8, "cac:InvoicePeriod/cbc:DescriptionCode"),
    (10, "cbc:BuyerReference"),
    (11, "cac:ProjectReference/cbc:ID"),
    (12, "cac:ContractDocumentReference/cbc:ID"),
    (13, "cac:OrderReference/cbc:ID"),
    (14, "cac:OrderReference/cbc:SalesOrderID"),
    (15, "cac:ReceiptDocumentReference/cbc:ID"),
    (16, "cac:DespatchDocumentReference/cbc:ID"),
    (17, "cac:OriginatorDocumentReference/cbc:ID"),
    (19, "cbc:AccountingCost"),
    (20, "cac:PaymentTerms/cbc:Note"),
    (23, "cbc:ProfileID"),
    (24, "cbc:CustomizationID"),
    (73, "cac:InvoicePeriod/cbc:StartDate"),
    (74, "cac:InvoicePeriod/cbc:EndDate"),
];

const DELIVERY: &Map = &[
    (70, "cac:DeliveryParty/cac:PartyName/cbc:Name"),
    (71, "cac:DeliveryLocation/cbc:ID"),
    (72, "cbc:ActualDeliveryDate"),
    (75, "cac:DeliveryLocation/cac:Address/cbc:StreetName"),
    (76, "cac:DeliveryLocation/cac:Address/cbc:AdditionalStreetName"),
    (77, "cac:DeliveryLocation/cac:Address/cbc:CityName"),
    (78, "cac:DeliveryLocation/cac:Address/cbc:PostalZone"),
    (79, "cac:DeliveryLocation/cac:Address/cbc:CountrySubentity"),
    (80, "cac:DeliveryLocation/cac:Address/cac:Country/cbc:IdentificationCode"),
    (165, "cac:DeliveryLocation/cac:Address/cac:AddressLine/cbc:Line"),
];

const TOTALS: &Map = &[
    (106, "cbc:LineExtensionAmount"),
    (107, "cbc:AllowanceTotalAmount"),
    (108, "cbc:ChargeTotalAmount"),
    (109, "cbc:TaxExclusiveAmount"),
    (112, "cbc:TaxInclusiveAmount"),
    (113, "cbc:PrepaidAmount"),
    (114, "cbc:PayableRoundingAmount"),
    (115, "cbc:PayableAmount"),
];

/// What EN 16931 demands of the head (rules BR-01 to BR-07 and BR-12 to BR-15).
const NEEDED: &[&str] = &[
    "cbc:CustomizationID",
    "cbc:ID",
    "cbc:IssueDate",
    "cac:AccountingSupplierParty/cac:Party/cac:PartyLegalEntity/cbc:RegistrationName",
    "cac:AccountingCustomerParty/cac:Party/cac:PartyLegalEntity/cbc:RegistrationName",
    "cac:LegalMonetaryTotal/cbc:LineExtensionAmount",
    "cac:LegalMonetaryTotal/cbc:TaxExclusiveAmount",
    "cac:LegalMonetaryTotal/cbc:TaxInclusiveAmount",
    "cac:LegalMonetaryTotal/cbc:PayableAmount",
];

/// Reads a UBL `Invoice` or `CreditNote`.
///
/// # Errors
/// Says which element is at fault; see [`ImportError`].
pub fn import(xml: &[u8], options: &Options) -> Result<Imported, ImportError> {
    let text = decode(xml)?;
    let tree = Tree::parse(&text, Vocabulary::Ubl)?;
    let root = tree.root();
    let credit = match root.name() {
        "ubl:Invoice" => false,
        "ubl:CreditNote" => true,
        _ => return Err(root.malformed("is neither a UBL Invoice nor a UBL CreditNote")),
    };
    for path in NEEDED {
        root.need(path)?;
    }
    let code = root.need("cbc:DocumentCurrencyCode")?;
    let currency = Currency::of(code.text())
        .ok_or_else(|| code.malformed("is no currency code of three upper-case letters"))?;
    let mut draft = Draft::new(options, Carrier { currency });
    let kind = head(&mut draft, root, credit)?;
    draft.map(TOTALS, root.need("cac:LegalMonetaryTotal")?)?;
    party::parties(&mut draft, root)?;
    if let Some(delivery) = root.find("cac:Delivery")? {
        draft.map(DELIVERY, delivery)?;
    }
    payment(&mut draft, root, credit)?;
    references(&mut draft, root, kind)?;
    attachment::attachments(&mut draft, root, credit, file_entry(FORMAT, xml))?;
    line::allowances(&mut draft, root)?;
    let tax = taxes(&mut draft, root)?;
    line::lines(&mut draft, root, credit)?;
    totals::check(&mut draft, root.need("cac:LegalMonetaryTotal")?, tax)?;
    draft.finish(kind, &tree)
}

fn head(draft: &mut Draft<'_>, root: Element<'_>, credit: bool) -> Result<RecordKind, ImportError> {
    draft.map(HEAD, root)?;
    let number = root.need("cbc:ID")?;
    set_number(draft, number)?;
    let carrier = draft.carrier;
    let name = if credit { "cbc:CreditNoteTypeCode" } else { "cbc:InvoiceTypeCode" };
    let code = root.need(name)?;
    carrier.carry(&mut draft.fields, DOCUMENT, tag::TYPE_CODE, Some(code))?;
    if !credit {
        carrier.carry(&mut draft.fields, DOCUMENT, 9, root.find("cbc:DueDate")?)?;
    }
    let red = credit || matches!(code.text(), "381" | "396");
    let scheme = &draft.options.scheme;
    let types = if red { &scheme.red_types } else { &scheme.blue_types };
    if !types.iter().any(|accepted| accepted == code.text()) {
        let cause = format!("is no type code that scheme {} accepts here (BR-CL-01)", scheme.code);
        return Err(code.malformed(cause));
    }
    let mut notes = Vec::new();
    for note in root.all("cbc:Note") {
        notes.extend(note_entry(carrier, note)?);
    }
    set_list(&mut draft.fields, 1001, root, &notes)?;
    Ok(if red { RecordKind::IssueRed } else { RecordKind::Issue })
}

/// A note, with the subject code that may stand before it between two `#`.
fn note_entry(carrier: Carrier, note: Element<'_>) -> Result<Option<Entry>, ImportError> {
    let (table, text) = (members(DOCUMENT, 1001), note.text());
    let mut entry = Fields::new();
    let coded = text.strip_prefix('#').and_then(|rest| rest.split_once('#')).filter(|(code, _)| {
        code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    });
    let (code, text) = coded.unwrap_or(("", text));
    carrier.carry_text(&mut entry, (table, 21), note, code)?;
    carrier.carry_text(&mut entry, (table, 22), note, text.trim())?;
    Ok((!entry.is_empty()).then(|| entry.pairs().to_vec()))
}

/// An invoice number has no spaces here; EN 16931 allows any text. What is not printable ASCII, and
/// the percent sign, is written as `%` and two hexadecimal digits a byte, so that different numbers
/// stay different.
fn ascii_number(number: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'%';
    let mut out = String::new();
    for byte in value::text(number) {
        match plain(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn set_number(draft: &mut Draft<'_>, number: Element<'_>) -> Result<(), ImportError> {
    let written = ascii_number(number.text());
    let carrier = draft.carrier;
    carrier.carry_text(&mut draft.fields, (DOCUMENT, tag::NUMBER), number, &written)?;
    if written != number.text() {
        draft.remark(number, format!("has characters beyond 21-7E; written as {written}"));
    }
    Ok(())
}

fn payment(draft: &mut Draft<'_>, root: Element<'_>, credit: bool) -> Result<(), ImportError> {
    const MEANS: &Map = &[
        (81, "cbc:PaymentMeansCode"),
        (87, "cac:CardAccount/cbc:PrimaryAccountNumberID"),
        (88, "cac:CardAccount/cbc:HolderName"),
        (89, "cac:PaymentMandate/cbc:ID"),
        (91, "cac:PaymentMandate/cac:PayerFinancialAccount/cbc:ID"),
    ];
    const ACCOUNT: &Map =
        &[(84, "cbc:ID"), (85, "cbc:Name"), (86, "cac:FinancialInstitutionBranch/cbc:ID")];
    let carrier = draft.carrier;
    let mut accounts = Vec::new();
    for (place, means) in root.all("cac:PaymentMeans").enumerate() {
        if let Some(account) = means.find("cac:PayeeFinancialAccount")? {
            let mut entry = Fields::new();
            carrier.carry_all(&mut entry, members(DOCUMENT, 1017), ACCOUNT, account)?;
            accounts.extend((!entry.is_empty()).then(|| entry.pairs().to_vec()));
        }
        // Several means share one code; more values of the others are left for the notes.
        if place > 0 {
            for (tag, name) in [(81, "cbc:PaymentMeansCode"), (83, "cbc:PaymentID")] {
                let same = |element: &Element<'_>| element.peek() == draft.fields.text(tag);
                means.all(name).filter(same).for_each(|element| _ = element.text());
            }
            continue;
        }
        draft.map(MEANS, means)?;
        carrier.carry(&mut draft.fields, DOCUMENT, 83, means.all("cbc:PaymentID").next())?;
        if let Some(code) = means.find("cbc:PaymentMeansCode")? {
            carrier.carry_attribute(&mut draft.fields, (DOCUMENT, 82), code, "name");
        }
        if credit {
            let due = means.find("cbc:PaymentDueDate")?;
            carrier.carry(&mut draft.fields, DOCUMENT, 9, due)?;
        }
    }
    set_list(&mut draft.fields, 1017, root, &accounts)
}

fn references(
    draft: &mut Draft<'_>,
    root: Element<'_>,
    kind: RecordKind,
) -> Result<(), ImportError> {
    let carrier = draft.carrier;
    let table = members(DOCUMENT, tag::PRECEDING);
    let mut entries = Vec::new();
    for reference in root.all("cac:BillingReference") {
        let Some(original) = reference.find("cac:InvoiceDocumentReference")? else { continue };
        let number = original.need("cbc:ID")?;
        let mut entry = Fields::new();
        carrier.carry_text(&mut entry, (table, 25), number, &ascii_number(number.text()))?;
        carrier.carry(&mut entry, table, 26, original.find("cbc:IssueDate")?)?;
        entries.push(entry.pairs().to_vec());
    }
    set_list(&mut draft.fields, tag::PRECEDING, root, &entries)?;
    if kind == RecordKind::IssueRed && entries.is_empty() {
        draft.fields.set(tag::ORIGINAL_UNKNOWN, vec![1]);
        draft.remark(root, "names no preceding invoice (BG-3); its original counts as unknown");
    }
    Ok(())
}

/// Total VAT and its breakdown. Returns the `TaxTotal` in the currency of the invoice.
fn taxes<'t>(draft: &mut Draft<'_>, root: Element<'t>) -> Result<Element<'t>, ImportError> {
    let carrier = draft.carrier;
    let accounting = draft.fields.text(6).to_owned();
    let mut main = None;
    for total in root.all("cac:TaxTotal") {
        let amount = total.need("cbc:TaxAmount")?;
        let named = amount.attribute("currencyID").unwrap_or(carrier.currency.name());
        if named == carrier.currency.name() {
            if main.replace(total).is_some() {
                return Err(total.malformed("is a second TaxTotal in one currency (BR-CO-15)"));
            }
            carrier.carry(&mut draft.fields, DOCUMENT, tag::TOTAL_VAT, Some(amount))?;
        } else if named == accounting {
            accounting_tax(draft, amount, &accounting)?;
        }
    }
    let missing = |path| ImportError::Missing { element: format!("{}/{path}", root.path()) };
    let main = main.ok_or_else(|| missing("cac:TaxTotal/cbc:TaxAmount"))?;
    breakdown(draft, main)?;
    Ok(main)
}

/// The tax in the accounting currency (BT-111). Amounts of a document have one exponent, so it is
/// carried where that of the accounting currency is the same.
fn accounting_tax(
    draft: &mut Draft<'_>,
    amount: Element<'_>,
    accounting: &str,
) -> Result<(), ImportError> {
    let exponent = draft.carrier.currency.exponent;
    match Currency::of(accounting).filter(|currency| currency.exponent == exponent) {
        Some(currency) => {
            Carrier { currency }.carry(&mut draft.fields, DOCUMENT, 111, Some(amount))
        }
        None => Ok(()),
    }
}

fn breakdown(draft: &mut Draft<'_>, total: Element<'_>) -> Result<(), ImportError> {
    const ENTRY: &Map = &[
        (116, "cbc:TaxableAmount"),
        (117, "cbc:TaxAmount"),
        (118, "cac:TaxCategory/cbc:ID"),
        (119, "cac:TaxCategory/cbc:Percent"),
        (120, "cac:TaxCategory/cbc:TaxExemptionReason"),
        (121, "cac:TaxCategory/cbc:TaxExemptionReasonCode"),
    ];
    let mut entries = Vec::new();
    for subtotal in total.all("cac:TaxSubtotal") {
        for path in ["cbc:TaxableAmount", "cbc:TaxAmount", "cac:TaxCategory/cbc:ID"] {
            subtotal.need(path)?;
        }
        use_vat(subtotal.find("cac:TaxCategory")?)?;
        let mut entry = Fields::new();
        draft.carrier.carry_all(&mut entry, members(DOCUMENT, 1023), ENTRY, subtotal)?;
        entries.push(entry.pairs().to_vec());
    }
    if entries.is_empty() {
        let element = format!("{}/cac:TaxSubtotal", total.path());
        return Err(ImportError::Missing { element });
    }
    set_list(&mut draft.fields, tag::VAT_BREAKDOWN, total, &entries)
}

/// Uses the tax scheme of a tax category, which says `VAT` wherever it says anything.
fn use_vat(category: Option<Element<'_>>) -> Result<(), ImportError> {
    let Some(category) = category else { return Ok(()) };
    let scheme = category.find("cac:TaxScheme/cbc:ID")?;
    scheme.filter(|scheme| scheme.peek().eq_ignore_ascii_case("VAT")).map(Element::text);
    Ok(())
}
