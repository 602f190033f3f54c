//! Each broken file of a table gets the refusal that names what is wrong with it.

mod common;

use common::full::{SHUDIAN, UBL};
use common::{check, shudian, ubl};
use piaogen_import::{ImportError, Imported, Note, Options};
use piaogen_verify::fields::{DOCUMENT, LINE, tag};
use piaogen_verify::record::RecordKind;
use piaogen_verify::value::{self, entries_of};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

type Import = fn(&[u8], &Options) -> Result<Imported, ImportError>;
const UBL_IMPORT: Import = piaogen_import::ubl::import;
const CN_IMPORT: Import = piaogen_import::shudian::import;

#[test]
fn the_full_sample_sets_every_field() {
    let imported = UBL_IMPORT(UBL.as_bytes(), &ubl()).unwrap_or_else(|error| panic!("{error}"));
    check("full", &imported);
    let document = &imported.document;
    let absent: Vec<&str> = DOCUMENT
        .iter()
        .filter(|field| field.tag < 2000 && document.fields.get(field.tag).is_none())
        .map(|field| field.name)
        .collect();
    assert!(absent.is_empty(), "{absent:?}");
    let line = &document.lines[0];
    let absent: Vec<&str> = LINE
        .iter()
        .filter(|field| field.tag < 2000 && line.get(field.tag).is_none())
        .map(|field| field.name)
        .collect();
    assert!(absent.is_empty(), "{absent:?}");
    assert_eq!(imported.notes, []);
    assert_eq!(document.fields.text(tag::SELLER_PARTY), "DE123456789");
    let notes = entries_of(document.fields.get(1001).expect("notes")).expect("notes");
    assert_eq!(notes, [vec![(21, &b"AAI"[..]), (22, "Grüße & Dank".as_bytes())]]);
    let sources = entries_of(document.fields.get(1024).expect("sources")).expect("sources");
    assert_eq!(sources.len(), 2);
    assert_eq!(sources[0][1], (2013, &value::uint(UBL.len() as u64)[..]));
    assert_eq!(sources[1][3].1, piaogen_crypto::sm3::hash(b"abc"));
}

#[test]
fn the_full_shudian_is_read() {
    let options = Options::shudian([1; 16]);
    let imported = CN_IMPORT(SHUDIAN.as_bytes(), &options).unwrap_or_else(|e| panic!("{e}"));
    check("full", &imported);
    let fields = &imported.document.fields;
    assert_eq!(imported.kind, RecordKind::IssueRed);
    assert_eq!((fields.text(tag::TYPE_CODE), fields.text(2020)), ("381", "01"));
    assert_eq!(fields.text(23), "01 电子发票");
    assert_eq!(fields.text(24), "EInvoice 0.37 SWEI4400");
    let rates = entries_of(fields.get(tag::VAT_BREAKDOWN).expect("rates")).expect("rates");
    let categories: Vec<&[u8]> = rates.iter().map(|rate| rate[2].1).collect();
    assert_eq!(categories, [&b"S"[..], b"S", b"E"]);
    // 13.05 for 13.00 is within 0.06 of a line and 1.27 of an invoice.
    let rules: Vec<&str> = imported.notes.iter().filter_map(rule).collect();
    assert_eq!(rules, ["CN-LINE-TAX", "FORMAT-6"]);
    let others = imported.notes.iter().filter(|note| rule(note).is_none());
    let others: Vec<String> = others.map(Note::to_string).collect();
    assert_eq!(others, ["/EInvoice/TaxSupervisionInfo/TaxBureauCode: not carried"]);
}

fn rule(note: &Note) -> Option<&str> {
    match note {
        Note::Difference(difference) => Some(difference.rule),
        _ => None,
    }
}

/// One change of the full sample: what is replaced, by what, and a part of the message.
type Case = (&'static str, &'static str, &'static str);

fn run(cases: &[Case], sample: &str, import: Import, options: &Options) {
    for (from, to, expected) in cases {
        assert!(sample.contains(from), "{from} is not in the sample");
        let changed = sample.replacen(from, to, 1);
        match import(changed.as_bytes(), options) {
            Ok(_) => panic!("{from} -> {to} was not refused; expected {expected}"),
            Err(refused) => {
                let message = refused.to_string();
                assert!(message.contains(expected), "{from} -> {to}: {message}");
            }
        }
    }
}

const XML_CASES: &[Case] = &[
    ("<b:ID>R-2026/1</b:ID>", "<b:ID>R-2026/1</b:IDX>", "not readable as XML"),
    ("</Invoice>", "", "the file ends inside /ubl:Invoice"),
    ("</Invoice>", "</Invoice><Invoice/>", "a second outermost element"),
    ("</Invoice>", "</Invoice>x", "text outside the outermost element"),
    ("<Invoice xmlns", "<!DOCTYPE Invoice><Invoice xmlns", "a DOCTYPE is not allowed"),
    ("R-2026/1", "&x;", "/cbc:ID: the entity &x; is not allowed"),
    ("R-2026/1", "&#0;", "not readable as XML"),
    ("R-2026/1", "&#8;", "reference &#8;"),
    ("R-2026/1", "&", "not readable as XML"),
    ("R-2026/1", "R ]]> 1", "]]> outside a CDATA section"),
    ("currencyID=\"EUR\"", "currencyID=\"&y;\"", "the entity &y; is not allowed"),
    ("currencyID=\"EUR\"", "currencyID=\"EUR\" currencyID=\"EUR\"", "not readable as XML"),
    ("currencyID=\"EUR\"", "currencyID=\"E<R\"", "an attribute with a character"),
    ("<b:ID>R-", "<z:ID>R-", "the prefix \"z\" has no namespace"),
    ("<b:ID>R-", "<1b>R-", "the name \"1b\""),
    (
        "<b:ID>R-",
        "<b:ID xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\" i:nil=\"true\">R-",
        "xsi:nil is not allowed",
    ),
    ("encoding=\"UTF-8\"", "encoding=\"UTF-7\"", "encoding \"UTF-7\""),
    ("version=\"1.0\"", "version=\"1.1\"", "XML version \"1.1\""),
    ("<a:OrderReference>", "<a:OrderReference>text", "text stands beside elements"),
];

const UBL_CASES: &[Case] = &[
    (":Invoice-2", ":Order-2", "is neither a UBL Invoice nor a UBL CreditNote"),
    ("<b:ID>R-2026/1</b:ID>", "", "/ubl:Invoice/cbc:ID is missing or empty"),
    ("<b:ID>R-2026/1</b:ID>", "<b:ID> </b:ID>", "/ubl:Invoice/cbc:ID is missing or empty"),
    ("<b:ID>R-2026/1</b:ID>", "<b:ID>1</b:ID><b:ID>2</b:ID>", "/cbc:ID[2] = \"2\": stands more"),
    ("2026-11-21", "2026-02-30", "/cbc:IssueDate = \"2026-02-30\": is out of range"),
    ("2026-11-21", "21.11.2026", "is no date YYYY-MM-DD"),
    ("2026-11-21", "2026-11-21+01:00", "is no date YYYY-MM-DD"),
    (">380<", ">999<", "/cbc:InvoiceTypeCode = \"999\": is no type code"),
    (">EUR</b:DocumentCurrencyCode>", ">Euro</b:DocumentCurrencyCode>", "is no currency code"),
    ("currencyID=\"EUR\">10.00", "currencyID=\"USD\">10.00", "has currencyID \"USD\""),
    (">10.00<", ">10.005<", "cbc:Amount = \"10.005\": has 3 decimals, and amounts in EUR have 2"),
    (">10.00<", ">1e1<", "is no decimal number"),
    (">10.00<", ">10,00<", "is no decimal number"),
    ("<b:ChargeIndicator>1<", "<b:ChargeIndicator>yes<", "is neither true nor false"),
    (
        "<b:ChargeIndicator>false</b:ChargeIndicator><b:Amount currencyID=\"EUR\">0.0022",
        "<b:ChargeIndicator>true</b:ChargeIndicator><b:Amount currencyID=\"EUR\">0.0022",
        "is a charge; a price can have an allowance only",
    ),
    ("<b:IdentificationCode>DE<", "<b:IdentificationCode>DEU<", "bytes = 3 is above 2"),
    ("<b:IdentificationCode>DE<", "<b:IdentificationCode>Ä<", "has characters that are not"),
    ("YWJj", "YWJ!", "EmbeddedDocumentBinaryObject = \"YWJ!\": is not base64"),
    (
        "<b:CompanyID>LOCAL1</b:CompanyID>",
        "<b:CompanyID>X</b:CompanyID><a:TaxScheme><b:ID>VAT</b:ID></a:TaxScheme>",
        "at most one",
    ),
    ("<b:RegistrationName>Seller GmbH</b:RegistrationName>", "", "RegistrationName is missing"),
    ("currencyID=\"SEK\"", "currencyID=\"EUR\"", "second TaxTotal in one currency (BR-CO-15)"),
    ("a:InvoiceLine>", "a:Invoice_Line>", "not readable as XML"),
    ("<b:PriceAmount currencyID=\"EUR\">33.3333333</b:PriceAmount>", "", "PriceAmount is missing"),
    ("<a:Price>", "<a:Price><b:PriceAmount>1</b:PriceAmount>", "PriceAmount[2]"),
    // The rules of totals, each broken by one changed amount.
    (
        ">3</b:InvoicedQuantity>\n<b:LineExtensionAmount currencyID=\"EUR\">100.00",
        ">3</b:InvoicedQuantity>\n<b:LineExtensionAmount currencyID=\"EUR\">100.01",
        "rule BR-CO-10: /ubl:Invoice/cac:LegalMonetaryTotal/cbc:LineExtensionAmount = 100.00, \
         expected 100.01, tolerance 0.00",
    ),
    (">10.00</b:AllowanceTotalAmount>", ">10.01</b:AllowanceTotalAmount>", "rule BR-CO-11"),
    (">5.00</b:ChargeTotalAmount>", ">5.01</b:ChargeTotalAmount>", "rule BR-CO-12"),
    (">95.00</b:TaxExclusiveAmount>", ">95.01</b:TaxExclusiveAmount>", "rule BR-CO-13"),
    (">18.05<", ">18.06<", "rule BR-CO-14"),
    (">113.05<", ">113.06<", "rule BR-CO-15"),
    (">100.00</b:PayableAmount>", ">100.01</b:PayableAmount>", "rule BR-CO-16"),
    (">95.00</b:TaxableAmount>", ">95.01</b:TaxableAmount>", "rule FORMAT-4"),
    ("</b:TaxExemptionReason>", "</b:TaxExemptionReason><b:Percent>1</b:Percent>", "Percent[2]"),
    (
        "<b:Percent>19</b:Percent>\n<b:TaxExemption",
        "<b:Percent>25</b:Percent>\n<b:TaxExemption",
        "rule BR-CO-17",
    ),
];

#[test]
fn xml_that_is_none_is_named() {
    run(XML_CASES, UBL, UBL_IMPORT, &ubl());
}

#[test]
fn ubl_that_breaks_a_rule_is_named() {
    run(UBL_CASES, UBL, UBL_IMPORT, &ubl());
}

const CN_CASES: &[Case] = &[
    ("<EInvoice>", "<EInvoice xmlns=\"urn:x\">", "the foreign namespace \"urn:x\""),
    ("<Quantity>", "<Quantity xmlns:p=\"urn:x\" p:q=\"1\">", "an attribute of the namespace"),
    ("<EInvoice>", "<!DOCTYPE a [<!ENTITY x \"y\">]><EInvoice>", "a DOCTYPE is not allowed"),
    ("张三", "&x;", "the entity &x; is not allowed"),
    (
        "<Drawer>",
        "<Drawer xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:nil=\"1\">",
        "xsi:nil is not allowed",
    ),
    ("<Drawer>", "<Drawer>a</Drawer><Drawer>", "/Drawer[2] = \"张三\": stands more than once"),
    ("<SpecMod>", "<SpecMod>a</SpecMod><SpecMod>", "/SpecMod[2]"),
    (
        "<BasicInformation>",
        "<BasicInformation><Drawer/></BasicInformation><BasicInformation>",
        "stands more than once",
    ),
    ("<EIid>26442000000000000002", "<EIid>26442000000000000003", "InvoiceNumber = \"264420"),
    ("<EIid>26442000000000000002", "<EIid>2644200000000000000A", "is not a number of 20 digits"),
    ("<IssueTime>2026", "<IssueTime>2025", "begins with a year other than that of its issue"),
    ("<LabelCode>N", "<LabelCode>X", "is neither Y (blue) nor N (red)"),
    ("<LabelCode>N", "<LabelCode>Y", "stands in a blue invoice"),
    (
        "<OriginalInvoiceCode>26442000000000000001</OriginalInvoiceCode>",
        "",
        "OriginalInvoiceCode is missing or empty",
    ),
    (
        "<OriginalInvoiceCode>26442000000000000001",
        "<OriginalInvoiceCode>26442000000000000002",
        "is the number of the invoice itself",
    ),
    ("<Quantity>-2</Quantity>", "", "UnPrice = \"50\": stands alone"),
    ("<TaxRate>0.13<", "<TaxRate>13<", "is 1 or more, which may be meant in percent"),
    ("<TaxRate>6%<", "<TaxRate>600%<", "is not from 0 to 100 %"),
    ("<TaxRate>0.13<", "<TaxRate>高<", "is no decimal number"),
    ("<RequestTime>2026-11-20 07:30:00", "<RequestTime>2026-11-20 25:30:00", "is no time"),
    ("<ComTaxAm>-13.05", "<ComTaxAm>-13.07", "rule CN-LINE-GROSS"),
    ("<ComTaxAm>-3.00", "<ComTaxAm>-3.07", "rule CN-LINE-TAX"),
    ("<ComTaxAm>-3.00", "<ComTaxAm>-3.01", "rule CN-TAX"),
    ("<TotalAmWithoutTax>-160.00", "<TotalAmWithoutTax>-160.01", "rule CN-NET"),
    ("<TotalTax-includedAmount>-176.05", "<TotalTax-includedAmount>-176.04", "rule CN-GROSS"),
    ("<SellerIdNum>", "<SellerIdNum>税", "has characters that are not allowed"),
];

#[test]
fn shudian_that_breaks_a_rule_is_named() {
    run(CN_CASES, SHUDIAN, CN_IMPORT, &Options::shudian([1; 16]));
    let doubled = SHUDIAN.replace("-160.00", "160.00").replace("-100.00", "220.00");
    let doubled = doubled.replace("<UnPrice>50", "<UnPrice>-110").replace("-16.05", "25.60");
    let doubled = doubled.replace("-13.05", "28.60").replace("-113.05", "248.60");
    let positive = doubled.replace("-176.05", "185.60");
    let refused = CN_IMPORT(positive.as_bytes(), &Options::shudian([1; 16]));
    let message = refused.expect_err("a positive red invoice").to_string();
    assert!(message.contains("is positive in a red invoice"), "{message}");
}

#[test]
fn tolerances_are_options() {
    let mut options = Options::shudian([1; 16]);
    options.line_tax_tolerance = 4;
    let refused = CN_IMPORT(SHUDIAN.as_bytes(), &options).expect_err("0.05 is above 0.04");
    assert!(matches!(&refused, ImportError::Totals(d) if d.rule == "CN-LINE-TAX"), "{refused}");
    let mut options = Options::shudian([1; 16]);
    options.invoice_tax_tolerance = 4;
    let refused = CN_IMPORT(SHUDIAN.as_bytes(), &options).expect_err("0.05 is above 0.04");
    assert!(matches!(&refused, ImportError::Totals(d) if d.rule == "CN-INVOICE-TAX"), "{refused}");
    let mut options = ubl();
    options.scheme.tolerance_totals = 1;
    let off = UBL.replacen(">113.05<", ">113.06<", 1);
    let imported = UBL_IMPORT(off.as_bytes(), &options).expect("within the tolerance");
    let rules: Vec<&str> = imported.notes.iter().filter_map(rule).collect();
    assert_eq!(rules, ["BR-CO-15", "BR-CO-16"]);
}

#[test]
fn sizes_are_bounded() {
    let limit = |xml: &str, import: Import| match import(xml.as_bytes(), &ubl()) {
        Err(ImportError::Limit { what, value, limit, .. }) => (what, value, limit),
        other => panic!("{:?}", other.map(|imported| imported.notes)),
    };
    let huge = " ".repeat((16 << 20) + 1);
    assert_eq!(limit(&huge, UBL_IMPORT), ("bytes", (16 << 20) + 1, 16 << 20));
    let deep = "<a>".repeat(65);
    assert_eq!(limit(&deep, CN_IMPORT), ("depth of elements", 65, 64));
    let many = format!("<a>{}</a>", "<b/>".repeat(1_000_000));
    assert_eq!(limit(&many, CN_IMPORT), ("elements", 1_000_001, 1_000_000));
    let wide: String = (0..65).map(|k| format!(" a{k}='1'")).collect();
    assert_eq!(limit(&format!("<a{wide}/>"), CN_IMPORT), ("attributes of one element", 65, 64));
    let begin = UBL.find("<a:InvoiceLine>").expect("a line");
    let line = &UBL[begin..UBL.len() - "</Invoice>".len()];
    let short = "<a:InvoiceLine/>".repeat(10_000);
    let lines = UBL.replacen(line, &format!("{short}{line}"), 1);
    assert_eq!(limit(&lines, UBL_IMPORT), ("lines", 10_001, 10_000));
    let item = UBL.replacen("<b:Name>Paper", &format!("<b:Name>{}", "x".repeat(601)), 1);
    assert_eq!(limit(&item, UBL_IMPORT), ("bytes", 601, 600));
    let notes = UBL.replacen("<b:TaxPointDate>", &"<b:Note>n</b:Note>".repeat(64), 1);
    let notes = notes.replacen("2026-11-20</b:TaxPointDate>", "", 1);
    assert_eq!(limit(&notes, UBL_IMPORT), ("entries", 65, 64));
    let note = format!("<b:Note>{}</b:Note>", "n".repeat(1_000)).repeat(63);
    let record = UBL.replacen("<b:TaxPointDate>2026-11-20</b:TaxPointDate>", &note, 1);
    let record = record.replacen("30 days", &"t".repeat(1_000), 1);
    let (what, value, most) = limit(&record, UBL_IMPORT);
    assert!(what == "bytes of a record" && value > 65_536 && most == 65_536);
}

#[test]
fn remarks_are_bounded() {
    let line = "<IssuItemInformation><ItemName>a</ItemName><Quantity>1</Quantity><UnPrice>5\
                </UnPrice><Amount>0</Amount><TaxRate>0</TaxRate></IssuItemInformation>";
    let many = SHUDIAN.replacen("<IssuItem", &format!("{}<IssuItem", line.repeat(1_500)), 1);
    let imported = CN_IMPORT(many.as_bytes(), &Options::shudian([1; 16])).expect("many lines");
    let text: Vec<String> = imported.notes.iter().map(Note::to_string).collect();
    // 1,500 of these lines, and two differences of the sample.
    assert_eq!(text[1_000], "/EInvoice: 502 more remarks and differences are left out");
}

#[test]
fn a_credit_note_is_red() {
    let credit = UBL
        .replace("xsd:Invoice-2", "xsd:CreditNote-2")
        .replace("<Invoice ", "<CreditNote ")
        .replace("</Invoice>", "</CreditNote>")
        .replace("b:InvoiceTypeCode>380", "b:CreditNoteTypeCode>381")
        .replace("</b:InvoiceTypeCode>", "</b:CreditNoteTypeCode>")
        .replace("a:InvoiceLine>", "a:CreditNoteLine>")
        .replace("b:InvoicedQuantity", "b:CreditedQuantity")
        .replace("<b:DueDate>2026-12-21</b:DueDate>", "")
        .replacen(
            "58</b:PaymentMeansCode>",
            "58</b:PaymentMeansCode><b:PaymentDueDate>2026-12-21</b:PaymentDueDate>",
            1,
        )
        .replace(
            "<a:ProjectReference><b:ID>PR1</b:ID></a:ProjectReference>",
            "<a:AdditionalDocumentReference><b:ID>PR1</b:ID><b:DocumentTypeCode>50\
             </b:DocumentTypeCode></a:AdditionalDocumentReference>",
        );
    let imported = UBL_IMPORT(credit.as_bytes(), &ubl()).unwrap_or_else(|e| panic!("{e}"));
    check("credit", &imported);
    assert_eq!(imported.kind, RecordKind::IssueRed);
    let blue = UBL_IMPORT(UBL.as_bytes(), &ubl()).expect("the sample");
    assert_eq!(imported.notes, []);
    let but = [tag::TYPE_CODE, 1024];
    let rest = |imported: &Imported| {
        let mut fields = imported.document.fields.clone();
        but.iter().for_each(|tag| _ = fields.remove(*tag));
        fields
    };
    assert_eq!(rest(&imported), rest(&blue));
    let red = UBL.replacen(">380<", ">381<", 1);
    let red = UBL_IMPORT(red.as_bytes(), &ubl()).expect("an invoice of type 381");
    assert_eq!(red.kind, RecordKind::IssueRed);
}

#[test]
fn exponents_come_from_the_currency() {
    let dinar = UBL.replace("EUR", "KWD").replace("SEK", "JPY");
    let imported = UBL_IMPORT(dinar.as_bytes(), &ubl()).unwrap_or_else(|e| panic!("{e}"));
    check("KWD", &imported);
    assert_eq!(imported.document.fields.amount(tag::TOTAL_GROSS), 113_050);
    // An amount in yen has another exponent than the document; it is not carried.
    assert_eq!(imported.document.fields.get(111), None);
    assert_eq!(imported.notes.len(), 2);
    let yen = UBL.replace("EUR", "JPY");
    let refused = UBL_IMPORT(yen.as_bytes(), &ubl()).expect_err("sen are gone").to_string();
    assert!(refused.contains("amounts in JPY have 0"), "{refused}");
}

#[test]
fn random_changes_never_panic() {
    let mut random = ChaCha8Rng::seed_from_u64(20_261_121);
    let samples: [(&str, Import, Options); 2] =
        [(UBL, UBL_IMPORT, ubl()), (SHUDIAN, CN_IMPORT, shudian())];
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..20_000 {
        let (sample, import, options) = &samples[round % 2];
        let mut bytes = sample.as_bytes().to_vec();
        for _ in 0..random.random_range(1..3) {
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..6) {
                0 => bytes[at] ^= 1 << random.random_range(0..8),
                1 => bytes[at] = b"<>&;\"'0-.%/ \n"[random.random_range(0..13)],
                2 => drop(bytes.remove(at)),
                3 | 4 if bytes[at].is_ascii_alphanumeric() => {
                    bytes[at] = b"0123456789AZaz"[random.random_range(0..14)];
                }
                _ => {
                    let end = (at + random.random_range(1..40)).min(bytes.len());
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        match import(&bytes, options) {
            Ok(imported) => {
                assert_eq!(imported.document.check(), Ok(()));
                accepted += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    // Both must occur, or the changes are too small or too large to find anything.
    assert!(accepted > 500 && refused > 5_000, "{accepted} {refused}");
}
