//! The 数电票 of the shared data: each converts, or is refused for the reason that its index says.

mod common;

use common::{check, data, files, line_decimal, line_text, shudian};
use encoding_rs::GB18030;
use piaogen_import::{ImportError, Imported, Note, Options};
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind;
use piaogen_verify::value::{self, entries_of};

fn import(xml: &[u8]) -> Result<Imported, ImportError> {
    piaogen_import::shudian::import(xml, &shudian())
}

/// What the index says of a number.
fn index(folder: &std::path::Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(folder.join("INDEX.tsv")).expect("the index");
    let rows = text.lines().skip(1).map(|line| {
        let mut cells = line.split('\t').map(str::to_owned);
        (cells.next().expect("a number"), cells.next().expect("a kind"))
    });
    rows.collect()
}

fn check_refused(name: &str, kind: &str, refused: &ImportError) {
    let fits = match (kind, refused) {
        ("must be refused: DOCTYPE", ImportError::Forbidden { what, .. }) => what == "a DOCTYPE",
        (
            "must be refused: EIid differs from InvoiceNumber",
            ImportError::Malformed { element, cause, .. },
        ) => element.ends_with("/InvoiceNumber") && cause.contains("EIid"),
        (
            "must be refused: TotalTaxAm differs from lines by 0.01",
            ImportError::Totals(difference),
        ) => {
            difference.rule == "CN-TAX"
                && difference.element.ends_with("/TotalTaxAm")
                && difference.expected.abs_diff(difference.found) == 1
        }
        _ => false,
    };
    assert!(fits, "{name} ({kind}): {refused}");
}

#[test]
fn each_file_is_as_its_index_says() {
    let Some(folder) = data("china-shudian/synthetic") else { return };
    let files = files(&folder);
    let index = index(&folder);
    assert_eq!(index.len(), files.len());
    for (name, xml) in &files {
        let row = index.iter().find(|(number, _)| name.starts_with(number.as_str()));
        let (number, kind) = row.expect("a row of the index");
        let imported = match import(xml) {
            Err(refused) => {
                check_refused(name, kind, &refused);
                continue;
            }
            Ok(imported) => imported,
        };
        assert!(!kind.starts_with("must be refused"), "{name}");
        check(name, &imported);
        let fields = &imported.document.fields;
        assert_eq!(fields.text(tag::NUMBER), number);
        match kind.strip_prefix("red of ") {
            Some(original) => {
                assert_eq!(imported.kind, RecordKind::IssueRed);
                assert!(fields.amount(tag::TOTAL_GROSS) < 0);
                let entries = entries_of(fields.get(tag::PRECEDING).expect("an original"));
                let entries = entries.expect("entries");
                assert_eq!(entries[0][0], (25, original.as_bytes()), "{name}");
                assert_eq!(entries[0][1].0, 2005, "{name}: slip");
            }
            None => assert_eq!(imported.kind, RecordKind::Issue, "{name}"),
        }
    }
}

#[test]
fn gb18030_equals_its_utf_8() {
    let Some(folder) = data("china-shudian/synthetic") else { return };
    let name = "25442000000000000016-gb18030.xml";
    let bytes = std::fs::read(folder.join(name)).expect("the file");
    let (text, _, broken) = GB18030.decode(&bytes);
    assert!(!broken && bytes != text.as_bytes());
    let utf8 = text.replace("GB18030", "utf-8");
    let mut one = import(&bytes).expect("GB18030");
    let mut other = import(utf8.as_bytes()).expect("UTF-8");
    // The entry of the file itself tells them apart, and only that.
    assert_ne!(one.document.fields.get(1024), other.document.fields.get(1024));
    for imported in [&mut one, &mut other] {
        imported.document.fields.remove(1024);
    }
    assert_eq!(one.document, other.document);
    assert_eq!(one.document.fields.text(tag::SELLER_NAME), "合成测试销售有限公司");
}

#[test]
fn three_hundred_lines() {
    let Some(folder) = data("china-shudian/synthetic") else { return };
    let bytes = std::fs::read(folder.join("25442000000000000017-300-lines.xml")).expect("a file");
    let imported = import(&bytes).expect("300 lines");
    assert_eq!(imported.document.lines.len(), 300);
    assert_eq!(line_text(&imported, 299, "item"), "*日用杂品*ITEM 300");
    assert_eq!(imported.document.fields.amount(tag::TOTAL_VAT), 195_650);
    let bytes = imported.document.fields.get(tag::LINES).expect("lines");
    assert_eq!(value::lines_of(bytes).map(|(count, _)| count), Ok(300));
}

#[test]
fn the_real_file_converts_but_for_its_masked_number() {
    let Some(folder) = data("china-shudian/assets") else { return };
    let bytes = std::fs::read(folder.join("demo.xml")).expect("the file");
    let strict = piaogen_import::shudian::import(&bytes, &Options::shudian([0; 16]));
    let refused = strict.expect_err("digits in order are no number of 2024").to_string();
    assert!(refused.contains("/EInvoice/Header/EIid") && refused.contains("2024"), "{refused}");
    let imported = import(&bytes).expect("the demo");
    check("demo.xml", &imported);
    let fields = &imported.document.fields;
    assert_eq!(fields.amount(tag::TOTAL_GROSS), 1_600_000);
    // 2024-01-24 16:23:48 in China.
    assert_eq!(value::time_of(fields.get(2022).expect("a time")), Ok(1_706_084_628_000));
    assert_eq!(fields.text(2023), "张三");
    assert_eq!(line_decimal(&imported, 0, 152), "1");
    assert_eq!(line_decimal(&imported, 0, 146), "15841.5841584158");
    let paths: Vec<String> = imported.notes.iter().map(Note::to_string).collect();
    assert!(paths.iter().any(|note| note.contains("/TaxBureauSignature/SignatureValue")));
    assert!(paths.iter().any(|note| note.contains("wrong check character")));
}
