//! Makes a good record wrong in one known way.
//!
//! Each way changes one thing, so that the outcome is the same whichever of the stateless checks
//! runs first; the record is signed after it was spoiled.
//!
//! Invariants
//! - What a way returns is the outcome by the rules of `anchor/PROTOCOL.md` section 2.

use crate::rng::Rng;
use crate::source::{Damage, Expected, Prepared};
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::record::{RECORD_MAX, RecordKind};
use piaogen_verify::value::{self, Cause, LIST_MAX};

/// A way to spoil a record: changes it and says its outcome.
pub(crate) type Way = fn(&mut Prepared<'_>) -> Outcome;

fn set(prepared: &mut Prepared<'_>, tag: Tag, bytes: Vec<u8>) {
    match prepared.fields.binary_search_by_key(&tag, |(tag, _)| *tag) {
        Ok(at) => prepared.fields[at].1 = bytes,
        Err(at) => prepared.fields.insert(at, (tag, bytes)),
    }
}

fn remove(prepared: &mut Prepared<'_>, tag: Tag) {
    prepared.fields.retain(|(held, _)| *held != tag);
}

fn amount(prepared: &Prepared<'_>, tag: Tag) -> i128 {
    let found = prepared.fields.iter().find(|(held, _)| *held == tag);
    found.and_then(|(_, bytes)| value::amount_of(bytes).ok()).unwrap_or(0)
}

fn unreadable(prepared: &mut Prepared<'_>, tag: Tag, cause: Cause) -> Outcome {
    prepared.readable = false;
    Outcome::Malformed { tag, cause }
}

fn missing(prepared: &mut Prepared<'_>, tag: Tag) -> Outcome {
    remove(prepared, tag);
    if tag == tag::NUMBER {
        prepared.subject.clear();
    }
    Outcome::Malformed { tag, cause: Cause::Missing }
}

const SPACE_IN_CODE: &[u8] = b"3 0";
const BELL: &[u8] = b"Bell \x07 Ltd";
// An e followed by a combining acute accent: two characters where NFC has one.
const DECOMPOSED: &[u8] = b"Socie\xcc\x81te\xcc\x81";

/// Malformed in a field or in the envelope.
pub(crate) const MALFORMED: &[Way] = &[
    |p| missing(p, tag::TOTAL_GROSS),
    |p| missing(p, tag::ISSUE_DATE),
    |p| missing(p, tag::SELLER_NAME),
    |p| missing(p, tag::NUMBER),
    |p| {
        set(p, tag::SELLER_NAME, BELL.to_vec());
        unreadable(p, tag::SELLER_NAME, Cause::Characters)
    },
    |p| {
        set(p, tag::BUYER_NAME, DECOMPOSED.to_vec());
        unreadable(p, tag::BUYER_NAME, Cause::NotCanonical)
    },
    |p| {
        set(p, tag::ISSUE_DATE, 20_260_230u32.to_be_bytes().to_vec());
        unreadable(p, tag::ISSUE_DATE, Cause::Range)
    },
    |p| {
        set(p, 4, b"new".to_vec());
        unreadable(p, 4, Cause::UnknownTag)
    },
    |p| {
        p.fields.swap(0, 1);
        let tag = p.fields[1].0;
        unreadable(p, tag, Cause::Order)
    },
    |p| {
        let number = p.fields[0].clone();
        p.fields.insert(0, number);
        unreadable(p, tag::NUMBER, Cause::Order)
    },
    |p| {
        set(p, tag::CURRENCY, b"cny\x02".to_vec());
        unreadable(p, tag::CURRENCY, Cause::Characters)
    },
    |p| {
        set(p, tag::TOTAL_NET, vec![0x80, 0x00]);
        unreadable(p, tag::TOTAL_NET, Cause::NotCanonical)
    },
    |p| {
        set(p, tag::TYPE_CODE, SPACE_IN_CODE.to_vec());
        unreadable(p, tag::TYPE_CODE, Cause::Characters)
    },
    |p| {
        set(p, tag::TOTAL_VAT, Vec::new());
        unreadable(p, tag::TOTAL_VAT, Cause::Encoding)
    },
    |p| {
        set(p, tag::VAT_BREAKDOWN, vec![0]);
        unreadable(p, tag::VAT_BREAKDOWN, Cause::NotCanonical)
    },
    |p| {
        set(p, tag::ORIGINAL_UNKNOWN, vec![1]);
        Outcome::Malformed { tag: tag::ORIGINAL_UNKNOWN, cause: Cause::NotAllowed }
    },
    |p| {
        p.record_kind = RecordKind::IssueRed;
        set(p, tag::TYPE_CODE, b"381".to_vec());
        Outcome::Malformed { tag: tag::PRECEDING, cause: Cause::Missing }
    },
    |p| {
        p.record_kind = RecordKind::IssueRed;
        set(p, tag::TYPE_CODE, b"381".to_vec());
        set(p, tag::ORIGINAL_UNKNOWN, vec![1]);
        Outcome::Malformed { tag: tag::TOTAL_GROSS, cause: Cause::Sign }
    },
    |p| {
        p.damage = Damage::KindByte(63);
        Outcome::Malformed { tag: 0, cause: Cause::UnknownKind }
    },
];

/// Above a limit.
pub(crate) const LIMIT: &[Way] = &[
    |p| over_text(p, tag::SELLER_NAME, "有限公司".repeat(26), 300),
    |p| over_text(p, tag::BUYER_NAME, "Long Name ".repeat(31), 300),
    |p| over_text(p, tag::NUMBER, "9".repeat(65), 64),
    |p| {
        let entry = vec![(25, b"1".to_vec())];
        let mut list = vec![LIST_MAX as u8 + 1];
        list.extend_from_slice(&value::list(&[entry])[1..].repeat(LIST_MAX as usize + 1));
        set(p, tag::PRECEDING, list);
        p.readable = false;
        Outcome::Limit { tag: tag::PRECEDING, value: LIST_MAX + 1, limit: LIST_MAX }
    },
];

fn over_text(prepared: &mut Prepared<'_>, tag: Tag, text: String, limit: u64) -> Outcome {
    let bytes = text.trim_end().as_bytes().to_vec();
    let value = bytes.len() as u64;
    set(prepared, tag, bytes);
    prepared.readable = false;
    Outcome::Limit { tag, value, limit }
}

/// A record of one byte more than there may be.
pub(crate) fn too_large(prepared: &mut Prepared<'_>) -> Outcome {
    prepared.damage = Damage::Replace(vec![b'P'; RECORD_MAX + 1]);
    Outcome::Limit { tag: 0, value: RECORD_MAX as u64 + 1, limit: RECORD_MAX as u64 }
}

/// Totals that do not add up, one for each rule that a record has.
pub(crate) const TOTALS: &[Way] = &[
    |p| {
        let gross = amount(p, tag::TOTAL_GROSS) + 1;
        set(p, tag::TOTAL_GROSS, value::amount(gross));
        Outcome::Totals { rule: 1, difference: 1 }
    },
    |p| {
        let net = amount(p, tag::LINES_NET) + 250;
        set(p, tag::LINES_NET, value::amount(net));
        Outcome::Totals { rule: 2, difference: -250 }
    },
    |p| {
        let gross = amount(p, tag::TOTAL_GROSS);
        set(p, tag::AMOUNT_DUE, value::amount(gross - 100));
        Outcome::Totals { rule: 3, difference: -100 }
    },
    |p| {
        // Net and what depends on it are 7 more, the breakdown is not.
        for tag in [tag::LINES_NET, tag::TOTAL_NET, tag::TOTAL_GROSS] {
            let value = amount(p, tag) + 7;
            set(p, tag, value::amount(value));
        }
        Outcome::Totals { rule: 4, difference: -7 }
    },
    |p| {
        for tag in [tag::TOTAL_VAT, tag::TOTAL_GROSS] {
            let value = amount(p, tag) - 3;
            set(p, tag, value::amount(value));
        }
        Outcome::Totals { rule: 5, difference: 3 }
    },
    |p| {
        // One entry of rate 13 % whose tax is 1,000,000 too much, and totals to match.
        let net = amount(p, tag::TOTAL_NET);
        let right = piaogen_verify::scheme::percent_of(net, 13, 0);
        let tax = right + 1_000_000;
        let entry = vec![
            (tag::TAXABLE, value::amount(net)),
            (tag::TAX, value::amount(tax)),
            (tag::VAT_RATE, value::decimal(13, 0)),
        ];
        set(p, tag::VAT_BREAKDOWN, value::list(&[entry]));
        set(p, tag::TOTAL_VAT, value::amount(tax));
        set(p, tag::TOTAL_GROSS, value::amount(net + tax));
        Outcome::Totals { rule: 6, difference: 1_000_000 }
    },
];

/// Times far after any block.
pub(crate) const CLOCK_SKEW: &[Way] = &[
    |p| {
        p.signed_at += 20 * 365 * 86_400_000;
        Outcome::ClockSkew { tag: 0 }
    },
    |p| {
        set(p, tag::ISSUE_DATE, value::date(2199, 12, 31));
        Outcome::ClockSkew { tag: tag::ISSUE_DATE }
    },
];

/// Bytes that are no record.
pub(crate) fn undecodable(prepared: &mut Prepared<'_>, rng: &mut Rng) -> Outcome {
    prepared.damage = match rng.below(4) {
        0 => Damage::Truncate(1 + rng.below(107) as usize),
        1 => {
            let mut noise = Vec::from(rng.bytes::<200>());
            noise[0] = 0xff;
            noise.truncate(1 + rng.below(200) as usize);
            Damage::Replace(noise)
        }
        2 => Damage::Replace(br#"{"kind":"issue"}"#.to_vec()),
        _ => Damage::Replace([&b"PR\x02"[..], &rng.bytes::<160>()].concat()),
    };
    Outcome::Malformed { tag: 0, cause: Cause::Encoding }
}

/// Spoils in one of these ways.
pub(crate) fn spoil(prepared: &mut Prepared<'_>, rng: &mut Rng, ways: &[Way]) {
    prepared.expected = Expected::Exactly(rng.pick(ways)(prepared));
}
