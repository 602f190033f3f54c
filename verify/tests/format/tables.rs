//! Writes the tables of fields into `FORMAT.md`.

use piaogen_verify::fields::{DOCUMENT, Field, Kind, LINE, REGISTRY, Tag};

const BEGIN: &str = "<!-- fields: begin (written by the tests from verify/src/fields.rs) -->\n";
const END: &str = "<!-- fields: end -->";

/// The document with its tables as the code has them.
pub(crate) fn replace(text: &str) -> String {
    let (before, rest) = text.split_once(BEGIN).expect("the mark where the tables begin");
    let (_, after) = rest.split_once(END).expect("the mark where the tables end");
    let mut tables = String::new();
    table(&mut tables, "document", DOCUMENT);
    table(&mut tables, "line", LINE);
    table(&mut tables, "registry", REGISTRY);
    format!("{before}{BEGIN}{tables}\n{END}{after}")
}

fn table(out: &mut String, name: &str, fields: &'static [Field]) {
    out.push_str(&format!("\n#### `{name}`\n\n"));
    out.push_str("| tag | name | EN 16931 | type |\n|---|---|---|---|\n");
    for field in fields {
        let kind = kind_name(name, field);
        out.push_str(&format!(
            "| {} | `{}` | {} | {kind} |\n",
            field.tag,
            field.name,
            term(field.tag)
        ));
    }
    for field in fields {
        if let Kind::List(members) = field.kind {
            table(out, &format!("{name}.{}", field.name), members);
        }
    }
}

/// Business terms are numbers up to 165, groups 1000 and up to 32 more.
fn term(tag: Tag) -> String {
    match tag {
        1..=1000 => format!("BT-{tag}"),
        1001..=1032 => format!("BG-{}", tag - 1000),
        _ => "-".into(),
    }
}

fn kind_name(table: &str, field: &Field) -> String {
    match field.kind {
        Kind::Text(limit) => format!("text({limit})"),
        Kind::Ascii(limit) => format!("ascii({limit})"),
        Kind::Date => "date".into(),
        Kind::Time => "time".into(),
        Kind::Amount => "amount".into(),
        Kind::Decimal => "decimal".into(),
        Kind::Uint => "uint".into(),
        Kind::Currency => "currency".into(),
        Kind::Digest => "digest".into(),
        Kind::Key => "key".into(),
        Kind::Flag => "flag".into(),
        Kind::Lines => "lines".into(),
        Kind::List(_) => format!("list of `{table}.{}`", field.name),
    }
}
