//! Lists every field of a document, an event, a status and a registry record: tag, name, type and
//! limit (`FORMAT.md` section 2.2).
//!
//! One table drives decoding, JSON, the archive's columns and the table in `FORMAT.md`, so that a
//! field is added in one line. The tag is the EN 16931 business term where there is one.
//!
//! Invariants
//! - Tags ascend; a tag is never reused.
//! - Members of lists and of lines are in tables of their own and are not fields of a document.

mod life;

pub use life::{EVENT, STATUS};

/// The tag of a field.
pub type Tag = u16;

/// What the bytes of a field mean (`FORMAT.md` section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// NFC text of at most so many bytes.
    Text(u16),
    /// Printable ASCII of at most so many bytes.
    Ascii(u16),
    /// A calendar day.
    Date,
    /// Milliseconds since 1970.
    Time,
    /// Minor units of the document's currency.
    Amount,
    /// An exact decimal number.
    Decimal,
    /// A non-negative integer.
    Uint,
    /// ISO 4217 code and exponent.
    Currency,
    /// 32 bytes.
    Digest,
    /// A compressed public key.
    Key,
    /// Compressed public keys, ascending.
    Keys,
    /// Present or absent.
    Flag,
    /// Count and root of the lines.
    Lines,
    /// Entries of these members.
    List(&'static [Field]),
    /// Fields of a document, shown or hidden.
    Opening,
    /// Places and ids of the records that made a status.
    History,
}

/// One field: its tag, its name in JSON and in the archive, its type, and its EN 16931 name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// BT-n is n, BG-n is 1000 + n, our own are above 2000.
    pub tag: Tag,
    /// Name in JSON, in SQL, and in messages.
    pub name: &'static str,
    /// Type and limit.
    pub kind: Kind,
}

const fn f(tag: Tag, name: &'static str, kind: Kind) -> Field {
    Field { tag, name, kind }
}

use Kind::{Amount, Ascii, Currency, Date, Decimal, Flag, Key, Lines, List, Text, Time, Uint};

/// The tags that the rules look at.
pub mod tag {
    use super::Tag;
    /// Invoice number (BT-1).
    pub const NUMBER: Tag = 1;
    /// Issue date (BT-2).
    pub const ISSUE_DATE: Tag = 2;
    /// Type code (BT-3).
    pub const TYPE_CODE: Tag = 3;
    /// Currency (BT-5).
    pub const CURRENCY: Tag = 5;
    /// Seller name (BT-27).
    pub const SELLER_NAME: Tag = 27;
    /// Buyer name (BT-44).
    pub const BUYER_NAME: Tag = 44;
    /// Sum of the lines' net amounts (BT-106).
    pub const LINES_NET: Tag = 106;
    /// Sum of allowances (BT-107).
    pub const ALLOWANCES_TOTAL: Tag = 107;
    /// Sum of charges (BT-108).
    pub const CHARGES_TOTAL: Tag = 108;
    /// Total without VAT (BT-109).
    pub const TOTAL_NET: Tag = 109;
    /// Total VAT (BT-110).
    pub const TOTAL_VAT: Tag = 110;
    /// Total with VAT (BT-112).
    pub const TOTAL_GROSS: Tag = 112;
    /// Paid amount (BT-113).
    pub const PREPAID: Tag = 113;
    /// Rounding amount (BT-114).
    pub const ROUNDING: Tag = 114;
    /// Amount due (BT-115).
    pub const AMOUNT_DUE: Tag = 115;
    /// Preceding invoices (BG-3).
    pub const PRECEDING: Tag = 1003;
    /// VAT breakdown (BG-23).
    pub const VAT_BREAKDOWN: Tag = 1023;
    /// Lines (BG-25).
    pub const LINES: Tag = 1025;
    /// Numbering scheme.
    pub const SCHEME: Tag = 2001;
    /// Seller as registered.
    pub const SELLER_PARTY: Tag = 2006;
    /// The original of a red invoice is not known.
    pub const ORIGINAL_UNKNOWN: Tag = 2008;
    /// Party of a registry record.
    pub const PARTY: Tag = 3001;
    /// Its name.
    pub const PARTY_NAME: Tag = 3002;
    /// Its roles.
    pub const ROLES: Tag = 3003;
    /// A public key.
    pub const PUBLIC_KEY: Tag = 3004;
    /// Key id to revoke.
    pub const REVOKED_KEY: Tag = 3005;
    /// Why.
    pub const REASON: Tag = 3006;
    /// In which kinds of records, bit k for kind k.
    pub const KINDS: Tag = 3008;
    /// Until when.
    pub const UNTIL: Tag = 3009;
    /// The height from which a policy holds.
    pub const EFFECTIVE_HEIGHT: Tag = 3010;
    /// The keys of a validator set.
    pub const VALIDATORS: Tag = 3022;
    /// The digest of the set that they replace.
    pub const BASE: Tag = 3023;
    /// Blocks in an epoch.
    pub const EPOCH_BLOCKS: Tag = 3024;
    pub use super::life::tag::*;
    /// Type of VAT invoice.
    pub const VAT_TYPE: Tag = 2020;
    /// Due date (BT-9).
    pub const DUE_DATE: Tag = 9;
    /// Buyer as registered.
    pub const BUYER_PARTY: Tag = 2007;
    /// Taxable amount of a VAT breakdown entry (BT-116).
    pub const TAXABLE: Tag = 116;
    /// Tax of a VAT breakdown entry (BT-117).
    pub const TAX: Tag = 117;
    /// VAT category of a VAT breakdown entry (BT-118).
    pub const VAT_CATEGORY: Tag = 118;
    /// Why an entry is exempt (BT-120).
    pub const EXEMPTION_REASON: Tag = 120;
    /// The same as a code (BT-121).
    pub const EXEMPTION_CODE: Tag = 121;
    /// Rate of a VAT breakdown entry (BT-119).
    pub const VAT_RATE: Tag = 119;
    /// Contract (BT-12).
    pub const CONTRACT: Tag = 12;
    /// Order (BT-13).
    pub const ORDER: Tag = 13;
    /// Legal id of the buyer (BT-47).
    pub const BUYER_LEGAL_ID: Tag = 47;
    /// VAT id of the buyer (BT-48).
    pub const BUYER_VAT_ID: Tag = 48;
    /// What the lines say, in any order.
    pub const LINES_FINGERPRINT: Tag = 2033;
    /// Quantity of a line (BT-129).
    pub const LINE_QUANTITY: Tag = 129;
    /// Item of a line (BT-153).
    pub const LINE_ITEM: Tag = 153;
    /// The seller's id of an item (BT-155).
    pub const LINE_SELLER_ITEM: Tag = 155;
    /// The standard id of an item (BT-157).
    pub const LINE_STANDARD_ITEM: Tag = 157;
    /// Net amount of a line (BT-131).
    pub const LINE_NET: Tag = 131;
}

const NOTES: &[Field] = &[f(21, "subject_code", Ascii(8)), f(22, "note", Text(1000))];
const IDS: &[Field] = &[f(2029, "id_scheme", Ascii(16)), f(2030, "id", Text(64))];
const PRECEDING: &[Field] = &[
    f(25, "number", Ascii(64)),
    f(26, "issue_date", Date),
    f(2004, "scheme", Ascii(16)),
    f(2005, "slip_number", Ascii(32)),
];
const ACCOUNTS: &[Field] =
    &[f(84, "account", Text(64)), f(85, "account_name", Text(300)), f(86, "bank", Text(300))];
const ALLOWANCES: &[Field] = &[
    f(92, "amount", Amount),
    f(93, "base", Amount),
    f(94, "percent", Decimal),
    f(95, "vat_category", Ascii(8)),
    f(96, "vat_rate", Decimal),
    f(97, "reason", Text(300)),
    f(98, "reason_code", Ascii(8)),
];
const CHARGES: &[Field] = &[
    f(99, "amount", Amount),
    f(100, "base", Amount),
    f(101, "percent", Decimal),
    f(102, "vat_category", Ascii(8)),
    f(103, "vat_rate", Decimal),
    f(104, "reason", Text(300)),
    f(105, "reason_code", Ascii(8)),
];
const VAT_BREAKDOWN: &[Field] = &[
    f(116, "taxable", Amount),
    f(117, "tax", Amount),
    f(118, "category", Ascii(8)),
    f(119, "rate", Decimal),
    f(120, "exemption_reason", Text(300)),
    f(121, "exemption_code", Ascii(32)),
];
const SOURCES: &[Field] = &[
    f(122, "id", Text(200)),
    f(123, "description", Text(300)),
    f(124, "location", Text(500)),
    f(2011, "sha256", Kind::Digest),
    f(2012, "sm3", Kind::Digest),
    f(2013, "size", Uint),
    f(2014, "format", Ascii(32)),
];
const LINE_ALLOWANCES: &[Field] = &[
    f(136, "amount", Amount),
    f(137, "base", Amount),
    f(138, "percent", Decimal),
    f(139, "reason", Text(300)),
    f(140, "reason_code", Ascii(8)),
];
const LINE_CHARGES: &[Field] = &[
    f(141, "amount", Amount),
    f(142, "base", Amount),
    f(143, "percent", Decimal),
    f(144, "reason", Text(300)),
    f(145, "reason_code", Ascii(8)),
];
const CLASSIFICATIONS: &[Field] =
    &[f(158, "code", Ascii(32)), f(2158, "list", Ascii(16)), f(2159, "list_version", Ascii(16))];
const ATTRIBUTES: &[Field] = &[f(160, "name", Text(100)), f(161, "value", Text(300))];

/// The fields of a document.
pub const DOCUMENT: &[Field] = &[
    f(1, "number", Ascii(64)),
    f(2, "issue_date", Date),
    f(3, "type_code", Ascii(8)),
    f(5, "currency", Currency),
    f(6, "tax_currency", Ascii(3)),
    f(7, "tax_point_date", Date),
    f(8, "tax_point_code", Ascii(8)),
    f(9, "due_date", Date),
    f(10, "buyer_reference", Text(200)),
    f(11, "project", Text(200)),
    f(12, "contract", Text(200)),
    f(13, "order", Text(200)),
    f(14, "sales_order", Text(200)),
    f(15, "receiving_advice", Text(200)),
    f(16, "despatch_advice", Text(200)),
    f(17, "tender", Text(200)),
    f(18, "invoiced_object", Text(200)),
    f(19, "buyer_accounting", Text(200)),
    f(20, "payment_terms", Text(1000)),
    f(23, "process", Text(300)),
    f(24, "specification", Text(500)),
    f(27, "seller_name", Text(300)),
    f(28, "seller_trading_name", Text(300)),
    f(30, "seller_legal_id", Text(64)),
    f(31, "seller_vat_id", Text(64)),
    f(32, "seller_tax_id", Text(64)),
    f(33, "seller_legal_info", Text(1000)),
    f(34, "seller_endpoint", Text(200)),
    f(35, "seller_street", Text(300)),
    f(36, "seller_street_2", Text(300)),
    f(37, "seller_city", Text(100)),
    f(38, "seller_postcode", Text(32)),
    f(39, "seller_region", Text(100)),
    f(40, "seller_country", Ascii(2)),
    f(41, "seller_contact", Text(200)),
    f(42, "seller_phone", Text(64)),
    f(43, "seller_email", Text(200)),
    f(44, "buyer_name", Text(300)),
    f(45, "buyer_trading_name", Text(300)),
    f(47, "buyer_legal_id", Text(64)),
    f(48, "buyer_vat_id", Text(64)),
    f(49, "buyer_endpoint", Text(200)),
    f(50, "buyer_street", Text(300)),
    f(51, "buyer_street_2", Text(300)),
    f(52, "buyer_city", Text(100)),
    f(53, "buyer_postcode", Text(32)),
    f(54, "buyer_region", Text(100)),
    f(55, "buyer_country", Ascii(2)),
    f(56, "buyer_contact", Text(200)),
    f(57, "buyer_phone", Text(64)),
    f(58, "buyer_email", Text(200)),
    f(59, "payee_name", Text(300)),
    f(60, "payee_id", Text(64)),
    f(61, "payee_legal_id", Text(64)),
    f(62, "representative_name", Text(300)),
    f(63, "representative_vat_id", Text(64)),
    f(64, "representative_street", Text(300)),
    f(65, "representative_street_2", Text(300)),
    f(66, "representative_city", Text(100)),
    f(67, "representative_postcode", Text(32)),
    f(68, "representative_region", Text(100)),
    f(69, "representative_country", Ascii(2)),
    f(70, "delivery_name", Text(300)),
    f(71, "delivery_location", Text(64)),
    f(72, "delivery_date", Date),
    f(73, "period_start", Date),
    f(74, "period_end", Date),
    f(75, "delivery_street", Text(300)),
    f(76, "delivery_street_2", Text(300)),
    f(77, "delivery_city", Text(100)),
    f(78, "delivery_postcode", Text(32)),
    f(79, "delivery_region", Text(100)),
    f(80, "delivery_country", Ascii(2)),
    f(81, "payment_means", Ascii(8)),
    f(82, "payment_means_text", Text(100)),
    f(83, "remittance", Text(200)),
    f(87, "card_number", Text(32)),
    f(88, "card_holder", Text(200)),
    f(89, "mandate", Text(64)),
    f(90, "creditor", Text(64)),
    f(91, "debited_account", Text(64)),
    f(106, "lines_net", Amount),
    f(107, "allowances_total", Amount),
    f(108, "charges_total", Amount),
    f(109, "total_net", Amount),
    f(110, "total_vat", Amount),
    f(111, "total_vat_accounting", Amount),
    f(112, "total_gross", Amount),
    f(113, "prepaid", Amount),
    f(114, "rounding", Amount),
    f(115, "amount_due", Amount),
    f(162, "seller_address_line", Text(300)),
    f(163, "buyer_address_line", Text(300)),
    f(164, "representative_address_line", Text(300)),
    f(165, "delivery_address_line", Text(300)),
    f(1001, "notes", List(NOTES)),
    f(1003, "preceding", List(PRECEDING)),
    f(1017, "accounts", List(ACCOUNTS)),
    f(1020, "allowances", List(ALLOWANCES)),
    f(1021, "charges", List(CHARGES)),
    f(1023, "vat_breakdown", List(VAT_BREAKDOWN)),
    f(1024, "sources", List(SOURCES)),
    f(1025, "lines", Lines),
    f(2001, "scheme", Ascii(16)),
    f(2002, "legacy_code", Ascii(12)),
    f(2006, "seller_party", Ascii(64)),
    f(2007, "buyer_party", Ascii(64)),
    f(2008, "original_unknown", Flag),
    f(2009, "special_business", Ascii(8)),
    f(2020, "vat_type", Ascii(8)),
    f(2021, "bureau", Text(100)),
    f(2022, "requested_at", Time),
    f(2023, "drawer", Text(100)),
    f(2024, "remark", Text(1000)),
    f(2031, "seller_ids", List(IDS)),
    f(2032, "buyer_ids", List(IDS)),
    f(2033, "lines_fingerprint", Kind::Digest),
];

/// The members of a line.
pub const LINE: &[Field] = &[
    f(126, "id", Text(64)),
    f(127, "note", Text(1000)),
    f(128, "object", Text(200)),
    f(129, "quantity", Decimal),
    f(130, "unit", Text(32)),
    f(131, "net", Amount),
    f(132, "order_line", Text(64)),
    f(133, "buyer_accounting", Text(200)),
    f(134, "period_start", Date),
    f(135, "period_end", Date),
    f(146, "price", Decimal),
    f(147, "price_discount", Decimal),
    f(148, "gross_price", Decimal),
    f(149, "price_quantity", Decimal),
    f(150, "price_unit", Text(32)),
    f(151, "vat_category", Ascii(8)),
    f(152, "vat_rate", Decimal),
    f(153, "item", Text(600)),
    f(154, "description", Text(1000)),
    f(155, "seller_item", Text(64)),
    f(156, "buyer_item", Text(64)),
    f(157, "standard_item", Text(64)),
    f(159, "origin", Ascii(2)),
    f(1027, "allowances", List(LINE_ALLOWANCES)),
    f(1028, "charges", List(LINE_CHARGES)),
    f(1032, "attributes", List(ATTRIBUTES)),
    f(1158, "classifications", List(CLASSIFICATIONS)),
    f(2131, "tax", Amount),
    f(2153, "model", Text(300)),
];

/// The fields of a registry record.
pub const REGISTRY: &[Field] = &[
    f(3001, "party", Ascii(64)),
    f(3002, "name", Text(300)),
    f(3003, "roles", Uint),
    f(3004, "public_key", Key),
    f(3005, "key", Kind::Digest),
    f(3006, "reason", Text(300)),
    f(3008, "kinds", Uint),
    f(3009, "until", Time),
    f(3010, "effective_height", Uint),
    f(3011, "lien_blocks", Uint),
    f(3012, "hold_max_ms", Uint),
    f(3013, "slip_ms", Uint),
    f(3014, "claim_max_ms", Uint),
    f(3015, "partial_financing", Uint),
    f(3016, "confirmation_required", Uint),
    f(3017, "imported_financeable", Uint),
    f(3018, "disclose_capacity", Uint),
    f(3019, "tolerance", Uint),
    f(3020, "open_period", Uint),
    f(3021, "slip_warning_ms", Uint),
    f(3022, "validators", Kind::Keys),
    f(3023, "base", Kind::Digest),
    f(3024, "epoch_blocks", Uint),
];

/// The fields that a document must have.
pub const REQUIRED: &[Tag] = &[
    tag::NUMBER,
    tag::ISSUE_DATE,
    tag::TYPE_CODE,
    tag::CURRENCY,
    tag::SELLER_NAME,
    tag::TOTAL_NET,
    tag::TOTAL_GROSS,
    tag::SCHEME,
    tag::SELLER_PARTY,
];

/// Finds a field by its tag.
pub fn by_tag(table: &'static [Field], tag: Tag) -> Option<&'static Field> {
    table.binary_search_by_key(&tag, |field| field.tag).ok().map(|i| &table[i])
}

/// Finds a field by its name.
pub fn by_name(table: &'static [Field], name: &str) -> Option<&'static Field> {
    table.iter().find(|field| field.name == name)
}

/// The name of a field for messages: `total_gross`, or the number of an unknown tag.
pub fn name_of(tag: Tag) -> alloc::string::String {
    let tables = [DOCUMENT, REGISTRY, LINE, EVENT, STATUS];
    match tables.into_iter().find_map(|table| by_tag(table, tag)) {
        Some(field) => field.name.into(),
        None => alloc::format!("tag {tag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(table: &'static [Field]) {
        assert!(table.windows(2).all(|pair| pair[0].tag < pair[1].tag));
        for field in table {
            assert_eq!(by_name(table, field.name).map(|found| found.tag), Some(field.tag));
            if let Kind::List(members) = field.kind {
                check(members);
            }
        }
    }

    #[test]
    fn tags_ascend_and_names_are_unique() {
        check(DOCUMENT);
        check(LINE);
        check(REGISTRY);
        check(EVENT);
        check(STATUS);
    }

    #[test]
    fn required_fields_exist() {
        assert!(REQUIRED.iter().all(|tag| by_tag(DOCUMENT, *tag).is_some()));
    }
}
