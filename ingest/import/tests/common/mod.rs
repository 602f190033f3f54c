//! What the tests of both formats share: where the data is, and what every import must satisfy.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

pub mod full;

use piaogen_crypto::sm2::SecretKey;
use piaogen_import::{Imported, Options};
use piaogen_verify::fields::{LINE, tag};
use piaogen_verify::record::{Draft, decode};
use piaogen_verify::scheme::{check_invoice, usual};
use piaogen_verify::value;
use std::path::PathBuf;

/// A folder of the shared data, or `None` with a loud line.
pub fn data(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("PIAOGEN_DATA").map(PathBuf::from).unwrap_or_else(|| {
        std::env::current_dir().expect("a folder to be in").join("../../../shared/data")
    });
    let path = root.join(folder);
    if path.is_dir() {
        return Some(path);
    }
    println!("SKIPPED: {} is not there; set PIAOGEN_DATA", path.display());
    None
}

/// The files of a folder by name.
pub fn files(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("xml")))
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("a readable file"))
        })
        .collect();
    files.sort();
    files
}

/// The document is canonical, holders' rule 7 holds, and the chain accepts the record made of it.
pub fn check(name: &str, imported: &Imported) {
    let document = &imported.document;
    assert_eq!(document.check(), Ok(()), "{name}");
    let lines: i128 = document.lines.iter().map(|line| line.amount(tag::LINE_NET)).sum();
    let net = document.fields.get(tag::LINES_NET).map_or(tag::TOTAL_NET, |_| tag::LINES_NET);
    assert_eq!(lines, document.fields.amount(net), "{name}: lines");
    let key = SecretKey::from_bytes(&[7; 32]).expect("a key");
    let draft = Draft {
        kind: imported.kind,
        signed_at: 1_700_000_000_000,
        secret: document.secret,
        fields: document.fields.pairs(),
    };
    let bytes = draft.sign(&[9; 32], &key);
    let record = decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let schemes = [usual::en16931(), usual::cn_einv()];
    assert_eq!(check_invoice(&record, &schemes), Ok(()), "{name}");
    assert_eq!(record.text(tag::SCHEME), imported.scheme, "{name}");
    assert_eq!(record.commitment(), document.commitment(), "{name}");
}

/// The text of a member of a line.
pub fn line_text(imported: &Imported, line: usize, name: &str) -> String {
    let field = piaogen_verify::fields::by_name(LINE, name).expect("a member of lines");
    imported.document.lines[line].text(field.tag).to_owned()
}

/// A decimal member of a line.
pub fn line_decimal(imported: &Imported, line: usize, tag: u16) -> String {
    let bytes = imported.document.lines[line].get(tag).expect("a decimal");
    let (mantissa, scale) = value::decimal_of(bytes).expect("a decimal");
    value::decimal_string(mantissa, scale)
}

/// Options for UBL with a fixed secret.
pub fn ubl() -> Options {
    Options::ubl([3; 16])
}

/// Options for 数电票 with a fixed secret. The synthetic files have numbers of 2025 and dates of
/// 2010, and the de-identified one has the digits in order for a number.
pub fn shudian() -> Options {
    Options { number_year_must_fit: false, ..Options::shudian([3; 16]) }
}
