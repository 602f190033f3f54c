//! A record in its parts, for the columns: framing and the values that have columns of their own.
//!
//! `record::decode` asks of every value whether it is canonical, which costs more than everything
//! else that sealing does with a record. Here only that is checked without which the columns would
//! not give the same bytes back.
//!
//! Invariants
//! - Whatever is taken apart here is rebuilt byte for byte by `rebuild.rs`; `None` otherwise.
//! - Everything that `record::decode` accepts is taken apart here.

use piaogen_verify::Digest;
use piaogen_verify::document::{SECRET_LEN, Secret};
use piaogen_verify::encoding::{Reader, put_bytes, put_vint};
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::record::{FIELDS_MAX, RECORD_MAX, RecordKind};
use piaogen_verify::value::{self, Members};

use super::schema::{COLUMNS, PRECEDING, Shape};

const MAGIC: &[u8] = b"PR\x01";
const SIGNATURE: usize = 64;

/// The value of a field, as its column takes it.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value<'a> {
    Text(&'a str),
    /// Days since 1970.
    Date(i32),
    Amount(i128),
    /// Milliseconds since 1970.
    Time(i64),
    Digest(&'a Digest),
    Currency(&'a str, i8),
    Lines(i32, Digest),
    Flag,
    Preceding(Vec<Members<'a>>),
}

impl<'a> Value<'a> {
    /// The value of these bytes; `None` where the column would not give them back.
    fn of(shape: Shape, bytes: &'a [u8]) -> Option<Self> {
        Some(match shape {
            Shape::Text => Self::Text(std::str::from_utf8(bytes).ok()?),
            Shape::Date => Self::Date(days(bytes)?),
            Shape::Amount => Self::Amount(value::amount_of(bytes).ok()?),
            Shape::Uint => Self::Amount(value::uint_of(bytes).ok()?.into()),
            Shape::Time => Self::Time(value::time_of(bytes).ok()?),
            Shape::Digest => Self::Digest(bytes.try_into().ok()?),
            Shape::Currency => {
                let (code, exponent) = bytes.split_at_checked(3)?;
                let [exponent] = *exponent else { return None };
                Self::Currency(std::str::from_utf8(code).ok()?, i8::try_from(exponent).ok()?)
            }
            Shape::Lines => {
                let (lines, digest) = value::lines_of(bytes).ok()?;
                Self::Lines(i32::try_from(lines).ok()?, digest)
            }
            Shape::Flag => (bytes == [1]).then_some(Self::Flag)?,
            Shape::Preceding => {
                let entries = value::entries_of(bytes).ok()?;
                let fits = |(tag, bytes): &(Tag, &[u8])| match PRECEDING
                    .iter()
                    .find(|(known, _)| known == tag)
                {
                    Some((_, true)) => days(bytes).is_some(),
                    Some((_, false)) => std::str::from_utf8(bytes).is_ok(),
                    None => false,
                };
                entries.iter().flatten().all(fits).then_some(Self::Preceding(entries))?
            }
        })
    }
}

/// A day as its column has it.
pub(super) fn days(bytes: &[u8]) -> Option<i32> {
    let (year, month, day) = value::date_of(bytes).ok()?;
    i32::try_from(value::days_since_1970(year, month, day)).ok()
}

/// A record in its parts.
pub(super) struct Parts<'a> {
    pub(super) kind: RecordKind,
    pub(super) signer: &'a Digest,
    pub(super) signed_at: i64,
    pub(super) secret: Option<&'a Secret>,
    pub(super) signature: &'a [u8; SIGNATURE],
    /// The values of the fields with columns of their own.
    pub(super) own: [Option<Value<'a>>; COLUMNS.len()],
    /// The field of a registry record that is in its subject and has no column.
    revoked_key: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    /// Takes a record apart; its other fields go into `rest`, in the encoding of the column.
    pub(super) fn take(bytes: &'a [u8], rest: &mut Vec<u8>) -> Option<Self> {
        rest.clear();
        if bytes.len() > RECORD_MAX {
            return None;
        }
        let (bytes, signature) = bytes.split_last_chunk::<SIGNATURE>()?;
        let bytes = bytes.strip_prefix(MAGIC)?;
        let (&kind, bytes) = bytes.split_first()?;
        let kind = RecordKind::from_code(kind)?;
        let (signer, bytes) = bytes.split_first_chunk()?;
        let (signed_at, mut bytes) = bytes.split_first_chunk()?;
        let mut secret = None;
        if !kind.is_registry() {
            let (first, body) = bytes.split_first_chunk::<SECRET_LEN>()?;
            (secret, bytes) = (Some(first), body);
        }
        let signed_at = i64::from_be_bytes(*signed_at);
        let own = [const { None }; COLUMNS.len()];
        let mut parts = Self { kind, signer, signed_at, secret, signature, own, revoked_key: None };
        parts.take_fields(bytes, rest)?;
        Some(parts)
    }

    fn take_fields(&mut self, body: &'a [u8], rest: &mut Vec<u8>) -> Option<()> {
        let mut reader = Reader::new(body);
        let mut own = COLUMNS.iter().zip(&mut self.own).peekable();
        let mut last = None;
        for _ in 0..reader.count("fields", FIELDS_MAX).ok()? {
            let tag = Tag::try_from(reader.vint().ok()?).ok()?;
            let bytes = reader.bytes("value", RECORD_MAX as u64).ok()?;
            if last.replace(tag).is_some_and(|last| last >= tag) {
                return None;
            }
            while own.next_if(|((next, _), _)| *next < tag).is_some() {}
            if let Some(((_, shape), value)) = own.next_if(|((next, _), _)| *next == tag) {
                *value = Some(Value::of(*shape, bytes)?);
                continue;
            }
            if tag == tag::REVOKED_KEY {
                self.revoked_key = Some(bytes);
            }
            put_vint(rest, u64::from(tag));
            put_bytes(rest, bytes);
        }
        reader.end().ok()
    }

    /// The bytes of a field that may be in the subject.
    pub(super) fn get(&self, tag: Tag) -> Option<&[u8]> {
        if tag == tag::REVOKED_KEY {
            return self.revoked_key;
        }
        let at = COLUMNS.binary_search_by_key(&tag, |(own, _)| *own).ok()?;
        match &self.own[at] {
            Some(Value::Text(text)) => Some(text.as_bytes()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piaogen_crypto::sm2::Signature;
    use piaogen_verify::record::{self, Draft};

    fn encode(kind: RecordKind, fields: &[(Tag, Vec<u8>)]) -> Vec<u8> {
        let draft = Draft { kind, signed_at: 7, secret: [5; 16], fields };
        draft.encode(&[3; 32], &Signature([4; 64]))
    }

    #[test]
    fn what_no_column_would_give_back_is_not_taken_apart() {
        let take = |kind, fields: &[(Tag, Vec<u8>)]| {
            Parts::take(&encode(kind, fields), &mut Vec::new()).is_some()
        };
        let currency = value::currency(*b"CNY", 2);
        let entry = vec![(25, b"1".to_vec())];
        let good: [(Tag, Vec<u8>); 9] = [
            (tag::NUMBER, b"1".to_vec()),
            (tag::CURRENCY, currency.clone()),
            (tag::TOTAL_NET, value::amount(-5)),
            (tag::PRECEDING, value::list(std::slice::from_ref(&entry))),
            (tag::ORIGINAL_UNKNOWN, vec![1]),
            (tag::DIGEST, vec![7; 32]),
            (tag::FINANCING, value::uint(u64::MAX)),
            (tag::EXPIRES, value::time(i64::MIN)),
            (65_000, b"unknown".to_vec()),
        ];
        assert!(take(RecordKind::Issue, &good));
        let mut strange = entry.clone();
        strange.push((2_999, b"x".to_vec()));
        let bad: [(Tag, Vec<u8>); 12] = [
            (tag::NUMBER, vec![0xff]),
            (tag::CURRENCY, [&currency[..], &[0]].concat()),
            (tag::CURRENCY, b"CNY".to_vec()),
            (tag::CURRENCY, b"CNY\x80".to_vec()),
            (tag::TOTAL_NET, vec![0x80, 0]),
            (tag::ISSUE_DATE, vec![0; 4]),
            (tag::ORIGINAL_UNKNOWN, vec![0]),
            (tag::LINES, vec![0xff; 36]),
            (tag::PRECEDING, value::list(&[strange])),
            (tag::DIGEST, vec![7; 31]),
            (tag::FINANCING, vec![0x80, 0]),
            (tag::EXPIRES, vec![0; 7]),
        ];
        for field in bad {
            assert!(!take(RecordKind::Issue, std::slice::from_ref(&field)), "{field:?}");
        }
        let twice = [(tag::NUMBER, vec![b'1']), (tag::NUMBER, vec![b'1'])];
        assert!(!take(RecordKind::Issue, &twice));
    }

    #[test]
    fn framing_is_judged_as_decoding_judges_it() {
        let fields = [(tag::NUMBER, b"1".to_vec()), (tag::SCHEME, b"CN".to_vec())];
        for kind in [RecordKind::Issue, RecordKind::Book, RecordKind::Register] {
            let fields = if kind.is_registry() { &[] } else { &fields[..] };
            let bytes = encode(kind, fields);
            assert!(record::decode(&bytes).is_ok());
            for end in 0..=bytes.len() {
                let taken = Parts::take(&bytes[..end], &mut Vec::new()).is_some();
                assert_eq!(taken, record::decode(&bytes[..end]).is_ok(), "{kind:?} cut at {end}");
            }
            for at in 0..4 {
                let mut bytes = bytes.clone();
                // No kind has a number above 127.
                bytes[at] ^= 0x80;
                assert!(Parts::take(&bytes, &mut Vec::new()).is_none());
            }
        }
    }
}
