//! Turns the bytes of a file into text, whichever of a few encodings it has.
//!
//! Chinese issuers still write GB18030, and some tools UTF-16; anything else is named and refused
//! rather than guessed.
//!
//! Invariants
//! - A byte order mark and the XML declaration must agree.
//! - A byte sequence that is not valid in the encoding is refused, never replaced.

use crate::error::ImportError;
use encoding_rs::{
    Encoding, GB18030, GBK, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252, X_USER_DEFINED,
};
use std::borrow::Cow;

/// Most bytes of a file.
pub(crate) const FILE_BYTES_MAX: u64 = 16 << 20;
/// The XML declaration must fit into so many bytes.
const DECLARATION_MAX: usize = 512;

fn not_xml(at: u64, cause: impl Into<String>) -> ImportError {
    ImportError::NotXml { at, cause: cause.into() }
}

/// The text of a file, without its byte order mark.
pub(crate) fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, ImportError> {
    let (value, limit) = (bytes.len() as u64, FILE_BYTES_MAX);
    if value > limit {
        return Err(ImportError::Limit { element: "the file".into(), what: "bytes", value, limit });
    }
    let marked = Encoding::for_bom(bytes);
    let begin = marked.map_or(0, |(_, length)| length);
    let body = &bytes[begin..];
    let sniffed = marked.map(|(encoding, _)| encoding).or_else(|| utf16_without_mark(body));
    let head = match sniffed {
        Some(encoding) if encoding != UTF_8 => {
            let head = &body[..body.len().min(DECLARATION_MAX)];
            encoding.decode_without_bom_handling(head).0
        }
        _ => ascii_head(body),
    };
    let declared = declared_encoding(&head)?;
    let encoding = agree(sniffed, declared)?;
    encoding
        .decode_without_bom_handling_and_without_replacement(body)
        .ok_or_else(|| not_xml(0, format!("bytes that are not valid {}", encoding.name())))
        .and_then(check_characters)
}

fn ascii_head(body: &[u8]) -> Cow<'_, str> {
    // Every byte becomes one character, so that a declaration in any ASCII superset can be read.
    X_USER_DEFINED.decode_without_bom_handling(&body[..body.len().min(DECLARATION_MAX)]).0
}

fn utf16_without_mark(body: &[u8]) -> Option<&'static Encoding> {
    match body {
        [b'<', 0, ..] => Some(UTF_16LE),
        [0, b'<', ..] => Some(UTF_16BE),
        _ => None,
    }
}

/// The encoding that the XML declaration names.
fn declared_encoding(head: &str) -> Result<Option<&'static Encoding>, ImportError> {
    let Some(declaration) = head.strip_prefix("<?xml").and_then(|rest| rest.split("?>").next())
    else {
        return Ok(None);
    };
    let Some((_, after)) = declaration.split_once("encoding") else { return Ok(None) };
    let after = after.trim_start().strip_prefix('=').map(str::trim_start).unwrap_or_default();
    let label = match after.chars().next() {
        Some(quote @ ('"' | '\'')) => after[1..].split(quote).next().unwrap_or_default(),
        _ => return Err(not_xml(0, "the encoding in the XML declaration is not in quotes")),
    };
    if label.eq_ignore_ascii_case("utf-16") {
        return Ok(Some(UTF_16LE));
    }
    let known = Encoding::for_label(label.as_bytes()).filter(|encoding| {
        [UTF_8, GB18030, GBK, UTF_16LE, UTF_16BE, WINDOWS_1252].contains(encoding)
    });
    // GB18030 decodes all that GBK and GB2312 can say.
    let known = known.map(|encoding| if encoding == GBK { GB18030 } else { encoding });
    known.map(Some).ok_or_else(|| {
        let label = crate::error::shorten(label);
        not_xml(0, format!("encoding {label:?}; known are UTF-8, UTF-16, GB18030, ISO-8859-1"))
    })
}

fn agree(
    sniffed: Option<&'static Encoding>,
    declared: Option<&'static Encoding>,
) -> Result<&'static Encoding, ImportError> {
    let wide = |encoding| encoding == UTF_16LE || encoding == UTF_16BE;
    match (sniffed, declared) {
        (None, None) => Ok(UTF_8),
        (Some(encoding), None) => Ok(encoding),
        (None, Some(encoding)) if !wide(encoding) => Ok(encoding),
        // The label `UTF-16` leaves the byte order to the mark.
        (Some(found), Some(named)) if found == named || wide(found) && wide(named) => Ok(found),
        (found, Some(named)) => {
            let found = found.map_or("bytes of one each", Encoding::name);
            let named = named.name();
            Err(not_xml(0, format!("the declaration says {named}, the bytes say {found}")))
        }
    }
}

fn check_characters(text: Cow<'_, str>) -> Result<Cow<'_, str>, ImportError> {
    match text.char_indices().find(|(_, c)| !is_xml_char(*c)) {
        None => Ok(text),
        Some((at, c)) => Err(not_xml(at as u64, format!("character U+{:04X}", c as u32))),
    }
}

/// Whether XML 1.0 has this character.
pub(crate) fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_agree() {
        let text = "<?xml version=\"1.0\" encoding=\"ENC\"?><a>票根</a>";
        let of = |label: &str| text.replace("ENC", label);
        let utf16 = |label: &str, mark: bool, big: bool| {
            let text = of(label);
            let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
            let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
            units.flat_map(bytes).collect::<Vec<u8>>()
        };
        let (gb, gbk) = (of("GB18030"), of("gb2312"));
        for (label, bytes) in [
            ("utf-8", of("utf-8").into_bytes()),
            ("UTF-8", [b"\xef\xbb\xbf".as_slice(), of("UTF-8").as_bytes()].concat()),
            ("GB18030", GB18030.encode(&gb).0.into_owned()),
            ("gb2312", GBK.encode(&gbk).0.into_owned()),
            ("UTF-16", utf16("UTF-16", true, false)),
            ("UTF-16", utf16("UTF-16", true, true)),
            ("utf-16be", utf16("utf-16be", false, true)),
        ] {
            assert_eq!(decode(&bytes).map(Cow::into_owned), Ok(of(label)), "{label}");
        }
    }

    #[test]
    fn what_is_not_text_is_named() {
        for (bytes, cause) in [
            (&b"<?xml version='1.0' encoding='Shift_JIS'?><a/>"[..], "encoding \"Shift_JIS\""),
            (b"\xef\xbb\xbf<?xml version='1.0' encoding='GBK'?><a/>", "the bytes say UTF-8"),
            (b"<?xml version='1.0' encoding='UTF-16'?><a/>", "the declaration says UTF-16LE"),
            (b"<?xml version='1.0' encoding=utf-8?><a/>", "not in quotes"),
            (b"<a>\xff</a>", "not valid UTF-8"),
            (b"<a>\x01</a>", "character U+0001"),
        ] {
            let refused = decode(bytes).expect_err(cause).to_string();
            assert!(refused.contains(cause), "{refused}");
        }
    }
}
