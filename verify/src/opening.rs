//! Fields of which some are shown and the rest are hidden behind their digests (`FORMAT.md`
//! section 2.7).
//!
//! With all digests at hand the commitment can be computed, so that what is shown is proved and
//! nothing else is told. Receipts show fields of a document so, events bring the fields that a
//! status needs, and status proofs show parts of a status document.
//!
//! Invariants
//! - Tags ascend; what is shown hashes to its digest by construction.

use crate::document::{Document, Fields, Salt, Salts, Secret, commitment_under, field_digest};
use crate::encoding::{DecodeError, Reader, put_bytes, put_vint};
use crate::fields::{DOCUMENT, Field, Tag, by_tag, name_of};
use crate::record::{FIELDS_MAX, RECORD_MAX};
use crate::value::{self, Cause, Flaw};
use alloc::string::String;
use alloc::vec::Vec;
use piaogen_crypto::Digest;

/// Most bytes of an opening in an event.
pub const OPENING_MAX: u64 = 16_384;

/// What is said of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Its digest, and nothing else.
    Hidden(Digest),
    /// Its value, and the salt that leads to its digest.
    Shown {
        /// The salt.
        salt: Salt,
        /// The canonical bytes.
        value: Vec<u8>,
    },
}

/// One field, hidden or shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedField {
    /// Which.
    pub tag: Tag,
    /// What is said of it.
    pub content: Content,
}

impl OpenedField {
    /// A hidden field.
    pub fn hidden(tag: Tag, digest: Digest) -> OpenedField {
        OpenedField { tag, content: Content::Hidden(digest) }
    }

    /// The digest of the field.
    pub fn digest(&self) -> Digest {
        match &self.content {
            Content::Hidden(digest) => *digest,
            Content::Shown { salt, value } => field_digest(self.tag, salt, value),
        }
    }

    /// The canonical bytes, where the field is shown.
    pub fn value(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Hidden(_) => None,
            Content::Shown { value, .. } => Some(value),
        }
    }

    /// All fields of a document, hidden.
    pub fn all_hidden(document: &Document) -> Vec<OpenedField> {
        let digests = document.digests().into_iter();
        digests.map(|(tag, digest)| OpenedField::hidden(tag, digest)).collect()
    }
}

/// The fields of a document with these shown, all others hidden.
pub fn open(secret: Secret, fields: &Fields, show: impl Fn(Tag) -> bool) -> Vec<OpenedField> {
    let mut salts = Salts::new(secret);
    fields
        .iter()
        .map(|(tag, value)| {
            let salt = salts.get(u32::from(tag));
            let content = match show(tag) {
                true => Content::Shown { salt, value: value.to_vec() },
                false => Content::Hidden(field_digest(tag, &salt, value)),
            };
            OpenedField { tag, content }
        })
        .collect()
}

/// The canonical bytes of a field, where it is shown.
pub fn shown(fields: &[OpenedField], tag: Tag) -> Option<&[u8]> {
    find(fields, tag)?.value()
}

/// The field with this tag.
pub fn find(fields: &[OpenedField], tag: Tag) -> Option<&OpenedField> {
    let at = fields.binary_search_by_key(&tag, |field| field.tag).ok()?;
    Some(&fields[at])
}

/// The commitment that the fields lead to, under the prefix of what is committed.
pub fn commitment(prefix: u8, fields: &[OpenedField]) -> Digest {
    let digests: Vec<(Tag, Digest)> =
        fields.iter().map(|field| (field.tag, field.digest())).collect();
    commitment_under(prefix, &digests)
}

/// Whether tags ascend and what is shown is canonical under `table`. A hidden field of an unknown
/// tag is no fault. The error is in words.
pub fn check_fields(table: &'static [Field], fields: &[OpenedField]) -> Result<(), String> {
    if fields.windows(2).any(|pair| pair[0].tag >= pair[1].tag) {
        return Err("the fields are not in the order of their tags".into());
    }
    for field in fields {
        let Some(value) = field.value() else { continue };
        let fits = by_tag(table, field.tag).is_some_and(|f| value::check(f.kind, value).is_ok());
        if !fits {
            let name = name_of(field.tag);
            return Err(alloc::format!("the value of {name} is not in canonical form"));
        }
    }
    Ok(())
}

/// Whether these are the canonical bytes of an opening of a document.
pub fn check(bytes: &[u8]) -> Result<(), Flaw> {
    if bytes.len() as u64 > OPENING_MAX {
        return Err(Flaw::Limit { value: bytes.len() as u64, limit: OPENING_MAX });
    }
    let fields = decode(bytes)?;
    if fields.is_empty() || check_fields(DOCUMENT, &fields).is_err() {
        return Err(Cause::NotCanonical.into());
    }
    Ok(())
}

/// Appends the encoding.
pub fn put(out: &mut Vec<u8>, fields: &[OpenedField]) {
    put_vint(out, fields.len() as u64);
    for field in fields {
        put_vint(out, field.tag.into());
        match &field.content {
            Content::Hidden(digest) => {
                out.push(0);
                out.extend_from_slice(digest);
            }
            Content::Shown { salt, value } => {
                out.push(1);
                out.extend_from_slice(salt);
                put_bytes(out, value);
            }
        }
    }
}

/// The encoding.
pub fn encode(fields: &[OpenedField]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, fields);
    out
}

/// Takes fields; values are not checked.
pub fn take(r: &mut Reader<'_>) -> Result<Vec<OpenedField>, DecodeError> {
    let count = r.count("fields", FIELDS_MAX)?;
    let mut fields: Vec<OpenedField> = Vec::with_capacity(count);
    for _ in 0..count {
        let tag = Tag::try_from(r.vint()?).map_err(|_| DecodeError::Fixed { what: "tag" })?;
        if fields.last().is_some_and(|last| last.tag >= tag) {
            return Err(DecodeError::Fixed { what: "order of tags" });
        }
        let content = match r.u8()? {
            0 => Content::Hidden(r.array()?),
            1 => Content::Shown {
                salt: r.array()?,
                value: r.bytes("value", RECORD_MAX as u64)?.to_vec(),
            },
            _ => return Err(DecodeError::Fixed { what: "mark of a field" }),
        };
        fields.push(OpenedField { tag, content });
    }
    Ok(fields)
}

/// Reads fields; nothing may follow, values are not checked.
pub fn decode(bytes: &[u8]) -> Result<Vec<OpenedField>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let fields = take(&mut reader)?;
    reader.end()?;
    Ok(fields)
}
