//! Every official EN 16931 example in UBL becomes a document that the chain accepts.

mod common;

use common::{check, data, files, line_decimal, line_text, ubl};
use piaogen_import::{Imported, Note};
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind::{self, Issue, IssueRed};
use piaogen_verify::value::entries_of;

/// File, number in the document, seller, kind, lines, amount due in minor units. All of them keep
/// BR-CO-10 to BR-CO-17, so none may be refused.
type Row = (&'static str, &'static str, &'static str, RecordKind, usize, i128);
const EXAMPLES: &[Row] = &[
    ("BIS3_Invoice_negativ.XML", "12345", "DK12345678", Issue, 1, -78_217_943),
    ("BIS3_Invoice_positive.XML", "12345", "DK12345678", Issue, 1, 78_217_943),
    (
        "FT G2G_TD01 con Allegato, Bonifico e Split Payment.xml",
        "1316/85",
        "IT01598570354",
        Issue,
        1,
        124_600,
    ),
    ("guide-example1.xml", "12115118", "NL8200.98.395.B.01", Issue, 20, 25_033),
    ("guide-example2.xml", "TOSL108", "NO123456789MVA", Issue, 5, 80_178),
    ("guide-example3.xml", "TOSL108", "DK16356706", Issue, 2, 112_500),
    ("issue116.xml", "2018210", "SE123456789001", Issue, 4, 83_000),
    ("sample-discount-price.xml", "test%20decimal%201", "HR46830600751", Issue, 1, 1_515),
    ("ubl-tc434-creditnote1.xml", "018304%20/%2028865", "BE0000000196", IssueRed, 1, 10_011),
    ("ubl-tc434-example1.xml", "12115118", "NL8200.98.395.B.01", Issue, 20, 25_033),
    ("ubl-tc434-example10.xml", "12115118", "NL8200.98.395.B.01", Issue, 20, 25_033),
    ("ubl-tc434-example2.xml", "TOSL108", "NO123456789MVA", Issue, 5, 80_178),
    ("ubl-tc434-example3.xml", "TOSL108", "DK16356706", Issue, 2, 200_500),
    ("ubl-tc434-example4.xml", "TOSL110", "DK16356706", Issue, 3, 467_500),
    ("ubl-tc434-example5.xml", "TOSL110", "NL16356706", Issue, 3, 233_750),
    ("ubl-tc434-example6.xml", "TOSL110", "DK123456789MVA", Issue, 3, 467_500),
    ("ubl-tc434-example7.xml", "INVOICE_test_7", "5532331183", Issue, 2, 320_000),
    ("ubl-tc434-example8.xml", "1100512149", "NL809561074B01", Issue, 10, 109_978),
    ("ubl-tc434-example9.xml", "20150483", "NL809163160B01", Issue, 1, 17_787),
];

#[test]
fn all_examples_convert() {
    let Some(folder) = data("en16931-examples/ubl/examples") else { return };
    let files = files(&folder);
    for (name, xml) in &files {
        let imported = piaogen_import::ubl::import(xml, &ubl());
        let imported = imported.unwrap_or_else(|refused| panic!("{name}: {refused}"));
        check(name, &imported);
        let fields = &imported.document.fields;
        let lines = imported.document.lines.len();
        let (number, seller) = (fields.text(tag::NUMBER), fields.text(tag::SELLER_PARTY));
        let due = fields.amount(tag::AMOUNT_DUE);
        let found = (name.as_str(), number, seller, imported.kind, lines, due);
        assert!(EXAMPLES.contains(&found), "{found:?}");
    }
    assert_eq!(files.len(), EXAMPLES.len());
}

fn imported(name: &str) -> Option<Imported> {
    let folder = data("en16931-examples/ubl/examples")?;
    let xml = std::fs::read(folder.join(name)).expect("the example");
    Some(piaogen_import::ubl::import(&xml, &ubl()).unwrap_or_else(|e| panic!("{name}: {e}")))
}

#[test]
fn every_group_of_a_rich_example_is_carried() {
    let Some(imported) = imported("ubl-tc434-example5.xml") else { return };
    let fields = &imported.document.fields;
    for (tag, expected) in [
        (6, "EUR"),
        (10, "qwerty"),
        (14, "123"),
        (27, "SellerCompany"),
        (28, "SelCo"),
        (32, "NL16356706"),
        (49, "info@buyercompany.dk"),
        (60, "DK16356608"),
        (62, "Dick Panama"),
        (70, "Logistic service Ltd"),
        (89, "123456"),
        (91, "DK1212341234123412"),
    ] {
        assert_eq!(fields.text(tag), expected, "{tag}");
    }
    assert_eq!(fields.amount(111), 62_862);
    assert_eq!(fields.amount(tag::PREPAID), 233_750);
    for (list, count) in [(1001, 1), (1003, 1), (1020, 1), (1021, 1), (1023, 2), (1024, 3)] {
        let bytes = fields.get(list).expect("a list");
        assert_eq!(entries_of(bytes).map(|entries| entries.len()), Ok(count), "{list}");
    }
    assert_eq!(line_text(&imported, 0, "buyer_item"), "BUY123");
    assert_eq!(line_decimal(&imported, 0, 129), "1000");
    assert!(
        imported.notes.iter().any(|note| matches!(note,
        Note::NotCarried { path, .. } if path.ends_with("EmbeddedDocumentBinaryObject/@filename")))
    );
}

#[test]
fn a_credit_note_without_original_says_so() {
    let Some(imported) = imported("ubl-tc434-creditnote1.xml") else { return };
    assert_eq!(imported.document.fields.get(tag::ORIGINAL_UNKNOWN), Some(&[1][..]));
    assert!(imported.notes.iter().any(|note| note.to_string().contains("BG-3")));
}

#[test]
fn prices_keep_decimals_beyond_those_of_the_currency() {
    let Some(imported) = imported("sample-discount-price.xml") else { return };
    assert_eq!(line_decimal(&imported, 0, 147), "0.0022");
    assert_eq!(line_decimal(&imported, 0, 148), "0.1234");
}
