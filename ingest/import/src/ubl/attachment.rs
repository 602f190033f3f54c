//! Reads the supporting documents: references, and the digests of attached files.
//!
//! An attached file itself is not part of a document; its SM3 digest, size and media type are, so
//! that the file can be shown to be the one that came with the invoice.

use crate::carry::{Draft, Entry, Map, members, set_list, source_entry};
use crate::error::ImportError;
use crate::tree::Element;
use piaogen_verify::document::Fields;
use piaogen_verify::fields::{DOCUMENT, Tag};

/// Sets the field `sources`, the file itself first, and what else stands among the references.
pub(super) fn attachments(
    draft: &mut Draft<'_>,
    root: Element<'_>,
    credit: bool,
    file: Entry,
) -> Result<(), ImportError> {
    const SOURCE: &Map = &[
        (122, "cbc:ID"),
        (123, "cbc:DocumentDescription"),
        (124, "cac:Attachment/cac:ExternalReference/cbc:URI"),
    ];
    let carrier = draft.carrier;
    let mut entries = vec![file];
    for reference in root.all("cac:AdditionalDocumentReference") {
        let code = reference.find("cbc:DocumentTypeCode")?;
        // 130 is the invoiced object; a credit note has its project here, with 50.
        let scalar: Option<Tag> = match code.map(Element::peek) {
            Some("130") => Some(18),
            Some("50") if credit => Some(11),
            _ => None,
        };
        if let Some(tag) = scalar {
            code.map(Element::text);
            let id = reference.need("cbc:ID")?;
            if draft.fields.get(tag).is_some() {
                return Err(id.malformed("stands more than once; at most one is allowed"));
            }
            carrier.carry(&mut draft.fields, DOCUMENT, tag, Some(id))?;
            continue;
        }
        let mut entry = Fields::new();
        carrier.carry_all(&mut entry, members(DOCUMENT, 1024), SOURCE, reference)?;
        if let Some(object) = reference.find(EMBEDDED)? {
            attached(&mut entry, object)?;
        }
        entries.extend((!entry.is_empty()).then(|| entry.pairs().to_vec()));
    }
    set_list(&mut draft.fields, 1024, root, &entries)
}

const EMBEDDED: &str = "cac:Attachment/cbc:EmbeddedDocumentBinaryObject";

/// Of an attached file the document keeps digest, size and media type.
fn attached(entry: &mut Fields, object: Element<'_>) -> Result<(), ImportError> {
    let bytes = base64(object.text()).ok_or_else(|| object.malformed("is not base64"))?;
    let format = object.attribute("mimeCode").unwrap_or("application/octet-stream");
    let format = if format.len() <= 32 && format.bytes().all(|b| b.is_ascii_graphic()) {
        object.use_attribute("mimeCode");
        format
    } else {
        "application/octet-stream"
    };
    for (tag, bytes) in source_entry(&bytes, format.as_bytes().to_vec()) {
        entry.set(tag, bytes);
    }
    Ok(())
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits, mut padding) = (0u32, 0u32, 0usize);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        held = held << 6 | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    let expected = match bits {
        0 => 0,
        4 => 2,
        2 => 1,
        _ => return None,
    };
    (padding == expected && held == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_strict() {
        for (text, expected) in [
            ("", Some(&b""[..])),
            ("Zg==", Some(b"f")),
            ("Zm8=", Some(b"fo")),
            (" Zm9v\n YmFy ", Some(b"foobar")),
            ("+/+/", Some(b"\xfb\xff\xbf")),
            ("Zg", None),
            ("Zh==", None),
            ("Z", None),
            ("Zg==Zg==", None),
            ("Zm9v====", None),
            ("Zm-v", None),
        ] {
            assert_eq!(base64(text).as_deref(), expected, "{text}");
        }
    }
}
