//! Reads seller, buyer, payee and tax representative.
//!
//! The party under which a seller numbers its invoices is its VAT identifier, or where it has none
//! its legal registration, or its first other identifier; without spaces, because people write the
//! same identifier with and without.

use crate::carry::{Draft, Entry, Map, members, set_list};
use crate::error::ImportError;
use crate::tree::Element;
use piaogen_verify::document::Fields;
use piaogen_verify::fields::{DOCUMENT, Kind, Tag, tag};
use piaogen_verify::value;

const SELLER: &Map = &[
    (27, "cac:PartyLegalEntity/cbc:RegistrationName"),
    (28, "cac:PartyName/cbc:Name"),
    (30, "cac:PartyLegalEntity/cbc:CompanyID"),
    (33, "cac:PartyLegalEntity/cbc:CompanyLegalForm"),
    (34, "cbc:EndpointID"),
    (35, "cac:PostalAddress/cbc:StreetName"),
    (36, "cac:PostalAddress/cbc:AdditionalStreetName"),
    (37, "cac:PostalAddress/cbc:CityName"),
    (38, "cac:PostalAddress/cbc:PostalZone"),
    (39, "cac:PostalAddress/cbc:CountrySubentity"),
    (40, "cac:PostalAddress/cac:Country/cbc:IdentificationCode"),
    (41, "cac:Contact/cbc:Name"),
    (42, "cac:Contact/cbc:Telephone"),
    (43, "cac:Contact/cbc:ElectronicMail"),
    (162, "cac:PostalAddress/cac:AddressLine/cbc:Line"),
];

const BUYER: &Map = &[
    (44, "cac:PartyLegalEntity/cbc:RegistrationName"),
    (45, "cac:PartyName/cbc:Name"),
    (47, "cac:PartyLegalEntity/cbc:CompanyID"),
    (49, "cbc:EndpointID"),
    (50, "cac:PostalAddress/cbc:StreetName"),
    (51, "cac:PostalAddress/cbc:AdditionalStreetName"),
    (52, "cac:PostalAddress/cbc:CityName"),
    (53, "cac:PostalAddress/cbc:PostalZone"),
    (54, "cac:PostalAddress/cbc:CountrySubentity"),
    (55, "cac:PostalAddress/cac:Country/cbc:IdentificationCode"),
    (56, "cac:Contact/cbc:Name"),
    (57, "cac:Contact/cbc:Telephone"),
    (58, "cac:Contact/cbc:ElectronicMail"),
    (163, "cac:PostalAddress/cac:AddressLine/cbc:Line"),
];

const PAYEE: &Map = &[(59, "cac:PartyName/cbc:Name"), (61, "cac:PartyLegalEntity/cbc:CompanyID")];

const REPRESENTATIVE: &Map = &[
    (62, "cac:PartyName/cbc:Name"),
    (64, "cac:PostalAddress/cbc:StreetName"),
    (65, "cac:PostalAddress/cbc:AdditionalStreetName"),
    (66, "cac:PostalAddress/cbc:CityName"),
    (67, "cac:PostalAddress/cbc:PostalZone"),
    (68, "cac:PostalAddress/cbc:CountrySubentity"),
    (69, "cac:PostalAddress/cac:Country/cbc:IdentificationCode"),
    (164, "cac:PostalAddress/cac:AddressLine/cbc:Line"),
];

/// Sets all fields about parties.
pub(super) fn parties(draft: &mut Draft<'_>, root: Element<'_>) -> Result<(), ImportError> {
    let seller = root.need("cac:AccountingSupplierParty/cac:Party")?;
    draft.map(SELLER, seller)?;
    tax_ids(draft, seller, 31, Some(32))?;
    let ids = other_ids(draft, seller)?;
    set_list(&mut draft.fields, 2031, seller, &ids)?;
    set_party(draft, tag::SELLER_PARTY, [31, 30], &ids, seller)?;
    if draft.fields.get(tag::SELLER_PARTY).is_none() {
        // BR-CO-26 asks for one of the three as well.
        let element = format!("{}/cac:PartyTaxScheme/cbc:CompanyID", seller.path());
        return Err(ImportError::Missing { element });
    }
    let buyer = root.need("cac:AccountingCustomerParty/cac:Party")?;
    draft.map(BUYER, buyer)?;
    tax_ids(draft, buyer, 48, None)?;
    let ids = other_ids(draft, buyer)?;
    set_list(&mut draft.fields, 2032, buyer, &ids)?;
    set_party(draft, 2007, [48, 47], &ids, buyer)?;
    if let Some(payee) = root.find("cac:PayeeParty")? {
        draft.map(PAYEE, payee)?;
        let ids = other_ids(draft, payee)?;
        if let Some((_, id)) = ids.first().and_then(|entry| entry.iter().find(|(t, _)| *t == 2030))
        {
            draft.fields.set(60, id.clone());
        }
    }
    if let Some(representative) = root.find("cac:TaxRepresentativeParty")? {
        draft.map(REPRESENTATIVE, representative)?;
        tax_ids(draft, representative, 63, None)?;
    }
    Ok(())
}

/// A party has a tax number for VAT and perhaps one that is local.
fn tax_ids(
    draft: &mut Draft<'_>,
    party: Element<'_>,
    vat: Tag,
    local: Option<Tag>,
) -> Result<(), ImportError> {
    let carrier = draft.carrier;
    for registration in party.all("cac:PartyTaxScheme") {
        let Some(id) = registration.find("cbc:CompanyID")? else { continue };
        let scheme = registration.find("cac:TaxScheme/cbc:ID")?;
        let is_vat = scheme.is_some_and(|scheme| scheme.peek().eq_ignore_ascii_case("VAT"));
        let tag = if is_vat { Some(vat) } else { local };
        let Some(tag) = tag else { continue };
        if draft.fields.get(tag).is_some() {
            return Err(id.malformed("stands more than once; at most one is allowed"));
        }
        if is_vat {
            scheme.map(Element::text);
        }
        carrier.carry(&mut draft.fields, DOCUMENT, tag, Some(id))?;
    }
    Ok(())
}

/// Identifiers with their schemes. The one with scheme `SEPA` is the creditor of a direct debit.
fn other_ids(draft: &mut Draft<'_>, party: Element<'_>) -> Result<Vec<Entry>, ImportError> {
    let (carrier, table) = (draft.carrier, members(DOCUMENT, 2031));
    let mut ids = Vec::new();
    for identification in party.all("cac:PartyIdentification") {
        let Some(id) = identification.find("cbc:ID")? else { continue };
        if id.attribute("schemeID") == Some("SEPA") && draft.fields.get(90).is_none() {
            id.use_attribute("schemeID");
            carrier.carry(&mut draft.fields, DOCUMENT, 90, Some(id))?;
            continue;
        }
        let mut entry = Fields::new();
        carrier.carry(&mut entry, table, 2030, Some(id))?;
        if !entry.is_empty() {
            carrier.carry_attribute(&mut entry, (table, 2029), id, "schemeID");
            ids.push(entry.pairs().to_vec());
        }
    }
    Ok(ids)
}

fn set_party(
    draft: &mut Draft<'_>,
    tag: Tag,
    tags: [Tag; 2],
    ids: &[Entry],
    party: Element<'_>,
) -> Result<(), ImportError> {
    let named = tags.iter().find_map(|tag| draft.fields.get(*tag));
    let first = || {
        let entry = ids.first()?;
        entry.iter().find(|(tag, _)| *tag == 2030).map(|(_, bytes)| bytes.as_slice())
    };
    let Some(bytes) = named.or_else(first) else { return Ok(()) };
    let text: String = String::from_utf8_lossy(bytes).chars().filter(|c| *c != ' ').collect();
    if value::check(Kind::Ascii(64), text.as_bytes()).is_err() {
        return Err(party.malformed(format!("has the identifier {text:?}, which is not ASCII")));
    }
    draft.fields.set_text(tag, &text);
    Ok(())
}
