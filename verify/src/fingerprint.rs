//! Fingerprints of a trade: what two invoices with different numbers have in common when they are
//! one trade (`FORMAT.md` section 14).
//!
//! They are of low entropy, so they never leave the validators; what they find is an alert, never a
//! refusal. Texts are normalized first, so that spacing, width and case hide nothing.
//!
//! Invariants
//! - Equal after normalization gives equal fingerprints; the three kinds never meet.

use crate::document::Fields;
use crate::encoding::put_bytes;
use crate::fields::{Tag, tag};
use crate::record::{Record, RecordKind};
use crate::value;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use piaogen_crypto::{Digest, sm3};
use unicode_normalization::UnicodeNormalization;

/// What two invoices have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Fingerprint {
    /// Seller, buyer, gross, currency, issue date (FP2).
    Amount = 2,
    /// Seller, buyer, order or contract, gross (FP3).
    Order = 3,
    /// Seller, buyer, lines (FP4).
    Lines = 4,
    /// A file in which an invoice exists.
    File = 5,
    /// The number of a financing in an external registry.
    RegistryNumber = 6,
}

impl Fingerprint {
    /// All of them.
    pub const ALL: [Fingerprint; 5] = [
        Fingerprint::Amount,
        Fingerprint::Order,
        Fingerprint::Lines,
        Fingerprint::File,
        Fingerprint::RegistryNumber,
    ];

    /// What records of this kind have, in the order of [`put_messages`].
    pub fn of_kind(kind: RecordKind) -> &'static [Fingerprint] {
        match kind {
            RecordKind::Issue | RecordKind::Import => &Fingerprint::ALL[..3],
            RecordKind::AddFile => &[Fingerprint::File],
            RecordKind::RegistryRef => &[Fingerprint::RegistryNumber],
            _ => &[],
        }
    }

    /// The kind of the alert where two records have the same.
    pub fn alert(self) -> &'static str {
        match self {
            Fingerprint::Amount => "near_amount",
            Fingerprint::Order => "near_order",
            Fingerprint::Lines => "near_lines",
            Fingerprint::File => "file_elsewhere",
            Fingerprint::RegistryNumber => "registry_number_elsewhere",
        }
    }
}

const PREFIX: u8 = 16;
const LINES_PREFIX: u8 = 17;
/// Ids of the buyer, the first that is there.
const BUYER_IDS: [Tag; 3] = [tag::BUYER_PARTY, tag::BUYER_VAT_ID, tag::BUYER_LEGAL_ID];
/// What binds a trade, the first that is there.
const ORDERS: [Tag; 2] = [tag::ORDER, tag::CONTRACT];

/// Trimmed, NFKC, upper case, inner white space as one space.
pub fn normal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        out.push_str(text);
        out.make_ascii_uppercase();
        return out;
    }
    for word in text.nfkc().collect::<String>().split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().flat_map(char::to_uppercase));
    }
    out
}

/// Most fingerprints of a record.
pub const FINGERPRINTS_MAX: usize = 3;

/// Appends what is hashed for each fingerprint of a record; its place in `out`, in the order of
/// [`Fingerprint::of_kind`], `None` where the record lacks what the fingerprint is of.
pub fn put_messages(
    record: &Record<'_>,
    out: &mut Vec<u8>,
) -> [Option<Range<u32>>; FINGERPRINTS_MAX] {
    match record.kind {
        RecordKind::Issue | RecordKind::Import => put_trade(record, out),
        RecordKind::AddFile => {
            let digest = record.get(tag::DIGEST).unwrap_or_default();
            [Some(put_parts(out, Fingerprint::File, &[digest])), None, None]
        }
        RecordKind::RegistryRef => {
            let (system, number) = (record.text(tag::SYSTEM), record.text(tag::REFERENCE));
            let (system, number) = (normal(system), normal(number));
            let parts = [system.as_bytes(), number.as_bytes()];
            [Some(put_parts(out, Fingerprint::RegistryNumber, &parts)), None, None]
        }
        _ => [None, None, None],
    }
}

fn put_parts(out: &mut Vec<u8>, kind: Fingerprint, parts: &[&[u8]]) -> Range<u32> {
    let begin = out.len() as u32;
    out.extend_from_slice(&[PREFIX, kind as u8]);
    parts.iter().for_each(|part| put_bytes(out, part));
    begin..out.len() as u32
}

fn put_trade(record: &Record<'_>, out: &mut Vec<u8>) -> [Option<Range<u32>>; FINGERPRINTS_MAX] {
    let text = |tags: &[Tag]| {
        let found = tags.iter().map(|tag| record.text(*tag)).find(|text| !text.is_empty());
        found.map(normal)
    };
    let (Some(seller), Some(buyer)) = (text(&[tag::SELLER_PARTY]), text(&BUYER_IDS)) else {
        return [None, None, None];
    };
    let (seller, buyer) = (seller.as_bytes(), buyer.as_bytes());
    let get = |tag: Tag| record.get(tag).unwrap_or_default();
    let (gross, currency) = (get(tag::TOTAL_GROSS), get(tag::CURRENCY));
    let amount = [seller, buyer, gross, currency, get(tag::ISSUE_DATE)];
    let amount = put_parts(out, Fingerprint::Amount, &amount);
    let order = text(&ORDERS).map(|order| {
        put_parts(out, Fingerprint::Order, &[seller, buyer, order.as_bytes(), gross, currency])
    });
    let lines = record
        .get(tag::LINES_FINGERPRINT)
        .map(|lines| put_parts(out, Fingerprint::Lines, &[seller, buyer, lines]));
    [Some(amount), order, lines]
}

/// The bits of a fingerprint that are remembered; never zero.
pub fn first_bits(digest: &Digest) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(bytes).max(1)
}

/// The field `lines_fingerprint`: over item, quantity and net amount of each line, in whatever order
/// the lines stand. `None` without lines.
pub fn of_lines(lines: &[Fields]) -> Option<Digest> {
    let mut digests: Vec<Digest> = lines
        .iter()
        .map(|line| {
            let items = [tag::LINE_STANDARD_ITEM, tag::LINE_SELLER_ITEM, tag::LINE_ITEM];
            let item = items.iter().map(|tag| line.text(*tag)).find(|text| !text.is_empty());
            let mut message = alloc::vec![LINES_PREFIX];
            put_bytes(&mut message, normal(item.unwrap_or("")).as_bytes());
            put_bytes(&mut message, line.get(tag::LINE_QUANTITY).unwrap_or_default());
            put_bytes(&mut message, &value::amount(line.amount(tag::LINE_NET)));
            sm3::hash(&message)
        })
        .collect();
    digests.sort_unstable();
    let parts: Vec<&[u8]> = digests.iter().map(|digest| &digest[..]).collect();
    (!parts.is_empty()).then(|| sm3::hash_parts(&parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Draft, decode};
    use piaogen_crypto::sm2::SecretKey;

    fn messages(kind: RecordKind, change: impl Fn(&mut Fields)) -> Vec<Option<Vec<u8>>> {
        let mut fields = Fields::new();
        fields.set_text(tag::NUMBER, "1");
        fields.set_text(tag::SELLER_PARTY, "s1");
        fields.set_text(tag::BUYER_PARTY, "B1");
        fields.set_text(tag::ORDER, "PO  7");
        fields.set(tag::CURRENCY, value::currency(*b"CNY", 2));
        fields.set(tag::ISSUE_DATE, value::date(2026, 11, 21));
        fields.set_amount(tag::TOTAL_GROSS, 100);
        fields.set(tag::LINES_FINGERPRINT, alloc::vec![7; 32]);
        change(&mut fields);
        let draft = Draft { kind, signed_at: 1, secret: [1; 16], fields: fields.pairs() };
        let bytes = draft.sign(&[0; 32], &SecretKey::from_bytes(&[7; 32]).unwrap());
        let mut out = Vec::new();
        let places = put_messages(&decode(&bytes).unwrap(), &mut out);
        let cut = |place: Range<u32>| out[place.start as usize..place.end as usize].to_vec();
        places.into_iter().map(|place| place.map(cut)).collect()
    }

    #[test]
    fn what_is_the_same_trade_has_the_same_fingerprints() {
        let first = messages(RecordKind::Issue, |_| {});
        assert!(first.iter().all(Option::is_some));
        let again = messages(RecordKind::Import, |fields| {
            fields.set_text(tag::NUMBER, "2");
            fields.set_text(tag::SELLER_PARTY, "S1");
            fields.set_text(tag::ORDER, "\u{ff30}o 7");
        });
        assert_eq!(first, again);
        let other_day = messages(RecordKind::Issue, |fields| {
            fields.set(tag::ISSUE_DATE, value::date(2026, 11, 22));
        });
        assert_ne!(first[0], other_day[0]);
        assert_eq!(first[1..], other_day[1..]);
        let other_buyer =
            messages(RecordKind::Issue, |fields| fields.set_text(tag::BUYER_PARTY, "B2"));
        assert!(first.iter().zip(&other_buyer).all(|(a, b)| a != b));
    }

    #[test]
    fn what_is_missing_gives_none() {
        let bare = messages(RecordKind::Issue, |fields| {
            fields.remove(tag::ORDER);
            fields.remove(tag::LINES_FINGERPRINT);
        });
        assert_eq!(bare.iter().filter(|message| message.is_some()).count(), 1);
        let nobody = messages(RecordKind::Issue, |fields| {
            fields.remove(tag::BUYER_PARTY);
        });
        assert_eq!(nobody, [None, None, None]);
        assert_eq!(messages(RecordKind::IssueRed, |_| {}), [None, None, None]);
    }

    #[test]
    fn lines_count_in_any_order() {
        let line = |item: &str, net: i128| {
            let mut line = Fields::new();
            line.set_text(tag::LINE_ITEM, item);
            line.set_amount(tag::LINE_NET, net);
            line
        };
        let (a, b) = (line("纸", 100), line("Pen", 200));
        let there = of_lines(&[a.clone(), b.clone()]);
        assert_eq!(there, of_lines(&[line("PEN", 200), a.clone()]));
        assert_ne!(there, of_lines(&[a, b.clone(), b]));
        assert_eq!(of_lines(&[]), None);
    }
}
