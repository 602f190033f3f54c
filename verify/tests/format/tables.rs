//! Writes the tables of fields, kinds, parameters and conflicts into `FORMAT.md`.

use piaogen_verify::conflict::{Conflict, Form};
use piaogen_verify::event::{SHAPES, Shape};
use piaogen_verify::fields::{DOCUMENT, EVENT, Field, Kind, LINE, REGISTRY, STATUS, Tag, name_of};
use piaogen_verify::genesis::{ROLE_AUTHORITY, ROLE_BANK, ROLE_COURT};
use piaogen_verify::policy::Policy;

/// The document with its tables as the code has them.
pub(crate) fn replace(text: &str) -> String {
    let mut out = text.to_owned();
    for (name, block) in [
        ("fields", fields()),
        ("events", events()),
        ("parameters", parameters()),
        ("conflicts", conflicts()),
    ] {
        out = replace_block(&out, name, &block);
    }
    out
}

fn replace_block(text: &str, name: &str, block: &str) -> String {
    let begin = format!("<!-- {name}: begin");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no mark {begin}"));
    let (mark, rest) = rest.split_once("-->\n").expect("the end of the mark");
    let end = format!("<!-- {name}: end -->");
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no mark {end}"));
    format!("{before}{begin}{mark}-->\n{block}\n{end}{after}")
}

fn fields() -> String {
    let mut tables = String::new();
    table(&mut tables, "document", DOCUMENT);
    table(&mut tables, "line", LINE);
    table(&mut tables, "registry", REGISTRY);
    table(&mut tables, "event", EVENT);
    table(&mut tables, "status", STATUS);
    tables
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
        Kind::Keys => "keys".into(),
        Kind::Flag => "flag".into(),
        Kind::Lines => "lines".into(),
        Kind::List(_) => format!("list of `{table}.{}`", field.name),
        Kind::Opening => "opening".into(),
        Kind::History => "history".into(),
    }
}

fn events() -> String {
    let mut out = String::from("\n| kind | name | roles | required | optional |\n");
    out.push_str("|---|---|---|---|---|\n");
    for shape in SHAPES {
        out.push_str(&format!(
            "| {} | `{}` | {} | {} | {} |\n",
            shape.kind as u8,
            shape.kind.name(),
            roles(shape),
            names(shape.required),
            names(shape.optional)
        ));
    }
    out
}

fn roles(shape: &Shape) -> String {
    let known = [(ROLE_AUTHORITY, "authority"), (ROLE_BANK, "bank"), (ROLE_COURT, "court")];
    assert_eq!(known.iter().fold(shape.roles, |left, (role, _)| left & !role), 0);
    let found: Vec<&str> =
        known.iter().filter(|(role, _)| shape.roles & role != 0).map(|(_, name)| *name).collect();
    if found.is_empty() { "-".into() } else { found.join(" or ") }
}

/// Names of fields of an event; several fields of other tables have the same tag.
fn names(tags: &[Tag]) -> String {
    let name = |tag: &Tag| {
        let field = EVENT.iter().find(|field| field.tag == *tag).expect("a field of events");
        format!("`{}`", field.name)
    };
    let found: Vec<String> = tags.iter().map(name).collect();
    if found.is_empty() { "-".into() } else { found.join(" ") }
}

fn parameters() -> String {
    let mut out = String::from("\n| field | until a policy says otherwise |\n|---|---|\n");
    for (tag, value) in Policy::default().values() {
        out.push_str(&format!("| `{}` | {value} |\n", name_of(tag)));
    }
    out
}

fn conflicts() -> String {
    let mut out = String::from("\n| outcome | name | detail | in words |\n|---|---|---|---|\n");
    for conflict in Conflict::ALL {
        let detail = match conflict.form() {
            Form::None => "empty",
            Form::Index => "`u64` index",
            Form::Time => "`i64` time_ms",
            Form::Amount => "`zint` amount",
            Form::Number => "`vint` number",
            Form::Digest => "32 bytes commitment",
        };
        out.push_str(&format!(
            "| {} | `{}` | {detail} | {} |\n",
            *conflict as u8,
            conflict.name(),
            conflict.words().replace("{}", "…")
        ));
    }
    out
}
