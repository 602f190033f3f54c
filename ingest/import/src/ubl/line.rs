//! Reads the lines, and the allowances and charges of lines and of the whole invoice.

use crate::carry::{Carrier, Draft, Entry, Map, check_count, check_line, members, set_list};
use crate::error::ImportError;
use crate::tree::Element;
use crate::ubl::use_vat;
use piaogen_verify::document::Fields;
use piaogen_verify::fields::{DOCUMENT, Field, LINE, Tag};

const HEAD: &Map = &[
    (126, "cbc:ID"),
    (127, "cbc:Note"),
    (131, "cbc:LineExtensionAmount"),
    (132, "cac:OrderLineReference/cbc:LineID"),
    (133, "cbc:AccountingCost"),
    (134, "cac:InvoicePeriod/cbc:StartDate"),
    (135, "cac:InvoicePeriod/cbc:EndDate"),
    (146, "cac:Price/cbc:PriceAmount"),
    (149, "cac:Price/cbc:BaseQuantity"),
    (151, "cac:Item/cac:ClassifiedTaxCategory/cbc:ID"),
    (152, "cac:Item/cac:ClassifiedTaxCategory/cbc:Percent"),
    (153, "cac:Item/cbc:Name"),
    (154, "cac:Item/cbc:Description"),
    (155, "cac:Item/cac:SellersItemIdentification/cbc:ID"),
    (156, "cac:Item/cac:BuyersItemIdentification/cbc:ID"),
    (157, "cac:Item/cac:StandardItemIdentification/cbc:ID"),
    (159, "cac:Item/cac:OriginCountry/cbc:IdentificationCode"),
];

/// What EN 16931 demands of a line (rules BR-21, BR-24, BR-25 and BR-26).
const NEEDED: &[&str] =
    &["cbc:ID", "cbc:LineExtensionAmount", "cac:Item/cbc:Name", "cac:Price/cbc:PriceAmount"];

/// Sets the lines.
pub(super) fn lines(
    draft: &mut Draft<'_>,
    root: Element<'_>,
    credit: bool,
) -> Result<(), ImportError> {
    let (name, quantity) = match credit {
        false => ("cac:InvoiceLine", "cbc:InvoicedQuantity"),
        true => ("cac:CreditNoteLine", "cbc:CreditedQuantity"),
    };
    check_count(root, name, root.all(name).count())?;
    for element in root.all(name) {
        let line = line(draft.carrier, element, quantity)?;
        check_line(&line, element)?;
        draft.lines.push(line);
    }
    Ok(())
}

fn line(carrier: Carrier, element: Element<'_>, quantity: &str) -> Result<Fields, ImportError> {
    for path in NEEDED {
        element.need(path)?;
    }
    let mut line = Fields::new();
    carrier.carry_all(&mut line, LINE, HEAD, element)?;
    let quantity = element.need(quantity)?;
    carrier.carry(&mut line, LINE, 129, Some(quantity))?;
    carrier.carry_attribute(&mut line, (LINE, 130), quantity, "unitCode");
    if let Some(base) = element.find("cac:Price/cbc:BaseQuantity")? {
        carrier.carry_attribute(&mut line, (LINE, 150), base, "unitCode");
    }
    if let Some(object) = element.find("cac:DocumentReference")? {
        carrier.carry(&mut line, LINE, 128, object.find("cbc:ID")?)?;
        let code = object.find("cbc:DocumentTypeCode")?;
        code.filter(|code| code.peek() == "130").map(Element::text);
    }
    if let Some(price) = element.find("cac:Price/cac:AllowanceCharge")? {
        if indicator(price)? {
            return Err(price.malformed("is a charge; a price can have an allowance only"));
        }
        carrier.carry(&mut line, LINE, 147, price.find("cbc:Amount")?)?;
        carrier.carry(&mut line, LINE, 148, price.find("cbc:BaseAmount")?)?;
    }
    use_vat(element.find("cac:Item/cac:ClassifiedTaxCategory")?)?;
    item_lists(carrier, &mut line, element)?;
    let (allowances, charges) = both(carrier, element, LINE, [LINE_ALLOWANCE, LINE_CHARGE])?;
    set_list(&mut line, 1027, element, &allowances)?;
    set_list(&mut line, 1028, element, &charges)?;
    Ok(line)
}

fn item_lists(
    carrier: Carrier,
    line: &mut Fields,
    element: Element<'_>,
) -> Result<(), ImportError> {
    const ATTRIBUTE: &Map = &[(160, "cbc:Name"), (161, "cbc:Value")];
    let Some(item) = element.find("cac:Item")? else { return Ok(()) };
    let (mut attributes, mut classifications) = (Vec::new(), Vec::new());
    for property in item.all("cac:AdditionalItemProperty") {
        let mut entry = Fields::new();
        carrier.carry_all(&mut entry, members(LINE, 1032), ATTRIBUTE, property)?;
        attributes.extend((!entry.is_empty()).then(|| entry.pairs().to_vec()));
    }
    let table = members(LINE, 1158);
    for classification in item.all("cac:CommodityClassification") {
        let code = classification.find("cbc:ItemClassificationCode")?;
        let mut entry = Fields::new();
        carrier.carry(&mut entry, table, 158, code)?;
        let Some(code) = code.filter(|_| !entry.is_empty()) else { continue };
        carrier.carry_attribute(&mut entry, (table, 2158), code, "listID");
        carrier.carry_attribute(&mut entry, (table, 2159), code, "listVersionID");
        classifications.push(entry.pairs().to_vec());
    }
    set_list(line, 1032, item, &attributes)?;
    set_list(line, 1158, item, &classifications)
}

type Members = (Tag, &'static Map);
const LINE_ALLOWANCE: Members = (
    1027,
    &[
        (136, "cbc:Amount"),
        (137, "cbc:BaseAmount"),
        (138, "cbc:MultiplierFactorNumeric"),
        (139, "cbc:AllowanceChargeReason"),
        (140, "cbc:AllowanceChargeReasonCode"),
    ],
);
const LINE_CHARGE: Members = (
    1028,
    &[
        (141, "cbc:Amount"),
        (142, "cbc:BaseAmount"),
        (143, "cbc:MultiplierFactorNumeric"),
        (144, "cbc:AllowanceChargeReason"),
        (145, "cbc:AllowanceChargeReasonCode"),
    ],
);
const ALLOWANCE: Members = (
    1020,
    &[
        (92, "cbc:Amount"),
        (93, "cbc:BaseAmount"),
        (94, "cbc:MultiplierFactorNumeric"),
        (95, "cac:TaxCategory/cbc:ID"),
        (96, "cac:TaxCategory/cbc:Percent"),
        (97, "cbc:AllowanceChargeReason"),
        (98, "cbc:AllowanceChargeReasonCode"),
    ],
);
const CHARGE: Members = (
    1021,
    &[
        (99, "cbc:Amount"),
        (100, "cbc:BaseAmount"),
        (101, "cbc:MultiplierFactorNumeric"),
        (102, "cac:TaxCategory/cbc:ID"),
        (103, "cac:TaxCategory/cbc:Percent"),
        (104, "cbc:AllowanceChargeReason"),
        (105, "cbc:AllowanceChargeReasonCode"),
    ],
);

/// Sets the allowances and charges of the whole invoice.
pub(super) fn allowances(draft: &mut Draft<'_>, root: Element<'_>) -> Result<(), ImportError> {
    let (allowances, charges) = both(draft.carrier, root, DOCUMENT, [ALLOWANCE, CHARGE])?;
    set_list(&mut draft.fields, 1020, root, &allowances)?;
    set_list(&mut draft.fields, 1021, root, &charges)
}

fn both(
    carrier: Carrier,
    parent: Element<'_>,
    table: &'static [Field],
    [allowance, charge]: [Members; 2],
) -> Result<(Vec<Entry>, Vec<Entry>), ImportError> {
    let (mut allowances, mut charges) = (Vec::new(), Vec::new());
    for element in parent.all("cac:AllowanceCharge") {
        element.need("cbc:Amount")?;
        let (list, (tag, map)) = match indicator(element)? {
            false => (&mut allowances, allowance),
            true => (&mut charges, charge),
        };
        let mut entry = Fields::new();
        carrier.carry_all(&mut entry, members(table, tag), map, element)?;
        use_vat(element.find("cac:TaxCategory")?)?;
        list.push(entry.pairs().to_vec());
    }
    Ok((allowances, charges))
}

/// Whether it is a charge; false for an allowance.
fn indicator(element: Element<'_>) -> Result<bool, ImportError> {
    let indicator = element.need("cbc:ChargeIndicator")?;
    match indicator.text() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(indicator.malformed("is neither true nor false")),
    }
}
