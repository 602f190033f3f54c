//! Every official EN 16931 example in UBL becomes a document that the chain accepts.

mod common;

use common::{check, data, files, line_decimal, line_text, ubl};
use piaogen_import::{Imported, Note};
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind;
use piaogen_verify::value::{entries_of, lines_of};

/// File, number as written, kind, lines, amount due in minor units.
const EXAMPLES: &[(&str, &str, RecordKind, u32, i128)] = &[];

fn imported(name: &str) -> Option<Imported> {
    let folder = data("en16931-examples/ubl/examples")?;
    let xml = std::fs::read(folder.join(name)).expect("the example");
    Some(piaogen_import::ubl::import(&xml, &ubl()).unwrap_or_else(|e| panic!("{name}: {e}")))
}

#[test]
fn all_examples_convert() {
    let Some(folder) = data("en16931-examples/ubl/examples") else { return };
    let mut seen = Vec::new();
    for (name, xml) in files(&folder) {
        let imported = piaogen_import::ubl::import(&xml, &ubl());
        let imported = imported.unwrap_or_else(|refused| panic!("{name}: {refused}"));
        check(&name, &imported);
        let fields = &imported.document.fields;
        println!("{name}: {} {:?} {:?} {} lines", fields.text(tag::NUMBER), fields.text(2006), imported.kind, imported.document.lines.len());
        for note in &imported.notes { println!("    {note}"); }
        seen.push(name);
    }
    let _ = (lines_of, entries_of, line_decimal, line_text, EXAMPLES, Note::NotCarried{path:String::new(),count:1}, seen);
    let _ = imported;
}
