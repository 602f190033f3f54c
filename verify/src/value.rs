//! Canonical bytes of field values: check them, make them, read them (`FORMAT.md` section 2.1).
//!
//! Values stay canonical bytes everywhere; they are decoded only where a rule or a person needs the
//! meaning. So a record costs no allocation a field, and what is hashed is what travelled.
//!
//! Invariants
//! - A value has exactly one canonical form; `check` accepts no other.
//! - No floating point: amounts are minor units, quantities and prices exact decimals.

use crate::encoding::{DecodeError, Reader, put_vint, put_zint};
use crate::fields::{Field, Kind, Tag, by_tag};
use crate::header::VALIDATORS_MAX;
use crate::opening;
use alloc::string::String;
use alloc::vec::Vec;
use piaogen_crypto::Digest;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Why a field is malformed; the number is in the leaf (`FORMAT.md` section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// The bytes end early, or more follow.
    Encoding = 1,
    /// No field has this tag.
    UnknownTag = 2,
    /// Tags do not ascend.
    Order = 3,
    /// A required field is absent.
    Missing = 4,
    /// The value has another canonical form.
    NotCanonical = 5,
    /// The field may not stand here.
    NotAllowed = 6,
    /// Characters that the type does not have.
    Characters = 7,
    /// Outside the range of its type.
    Range = 8,
    /// The sign is wrong for this kind of invoice.
    Sign = 9,
    /// A check digit is wrong.
    CheckDigit = 10,
    /// No such kind of record.
    UnknownKind = 11,
}

impl Cause {
    /// All causes, in order of their numbers.
    pub const ALL: [Cause; 11] = [
        Cause::Encoding,
        Cause::UnknownTag,
        Cause::Order,
        Cause::Missing,
        Cause::NotCanonical,
        Cause::NotAllowed,
        Cause::Characters,
        Cause::Range,
        Cause::Sign,
        Cause::CheckDigit,
        Cause::UnknownKind,
    ];

    /// The cause with this number.
    pub fn from_code(code: u8) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| *cause as u8 == code)
    }

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Encoding => "encoding",
            Cause::UnknownTag => "unknown_tag",
            Cause::Order => "order",
            Cause::Missing => "missing",
            Cause::NotCanonical => "not_canonical",
            Cause::NotAllowed => "not_allowed",
            Cause::Characters => "characters",
            Cause::Range => "range",
            Cause::Sign => "sign",
            Cause::CheckDigit => "check_digit",
            Cause::UnknownKind => "unknown_kind",
        }
    }

    /// In words, for messages.
    pub fn words(self) -> &'static str {
        match self {
            Cause::Encoding => "does not decode",
            Cause::UnknownTag => "is no known field",
            Cause::Order => "stands out of order",
            Cause::Missing => "is missing",
            Cause::NotCanonical => "is not in canonical form",
            Cause::NotAllowed => "may not stand here",
            Cause::Characters => "has characters that are not allowed",
            Cause::Range => "is out of range",
            Cause::Sign => "has the wrong sign",
            Cause::CheckDigit => "has a wrong check digit",
            Cause::UnknownKind => "is no known kind",
        }
    }
}

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The value is malformed.
    Malformed(Cause),
    /// A length or count is above its limit.
    Limit {
        /// The value.
        value: u64,
        /// The limit.
        limit: u64,
    },
}

impl From<DecodeError> for Flaw {
    fn from(error: DecodeError) -> Flaw {
        match error {
            DecodeError::Limit { value, limit, .. } => Flaw::Limit { value, limit },
            DecodeError::Integer { .. } => Flaw::Malformed(Cause::NotCanonical),
            _ => Flaw::Malformed(Cause::Encoding),
        }
    }
}

impl From<Cause> for Flaw {
    fn from(cause: Cause) -> Flaw {
        Flaw::Malformed(cause)
    }
}

/// Largest absolute value of an amount or a mantissa, exclusive.
pub const AMOUNT_LIMIT: i128 = 10i128.pow(30);
/// Most decimals of an exact decimal number.
pub const SCALE_MAX: u8 = 18;
/// Most entries of a list.
pub const LIST_MAX: u64 = 64;
/// Most lines of a document.
pub const LINES_MAX: u32 = 10_000;
/// Most bytes of an encoded line.
pub const LINE_BYTES_MAX: u64 = 4_096;
const MEMBERS_MAX: u64 = 64;

/// Whether `bytes` are the canonical form of a value of this kind.
pub fn check(kind: Kind, bytes: &[u8]) -> Result<(), Flaw> {
    match kind {
        Kind::Text(limit) => check_text(bytes, limit),
        Kind::Ascii(limit) => check_ascii(bytes, limit),
        Kind::Date => date_of(bytes).map(|_| ()),
        Kind::Time => fixed::<8>(bytes).map(|_| ()),
        Kind::Amount => amount_of(bytes).map(|_| ()),
        Kind::Decimal => decimal_of(bytes).map(|_| ()),
        Kind::Uint => uint_of(bytes).map(|_| ()),
        Kind::Currency => currency_of(bytes).map(|_| ()),
        Kind::Digest => fixed::<32>(bytes).map(|_| ()),
        Kind::Key => fixed::<33>(bytes).map(|_| ()),
        Kind::Keys => keys_of(bytes).map(|_| ()),
        Kind::Flag if bytes == [1] => Ok(()),
        Kind::Flag => Err(Cause::NotCanonical.into()),
        Kind::Lines => lines_of(bytes).map(|_| ()),
        Kind::List(members) => check_list(bytes, members),
        Kind::Opening => opening::check(bytes),
        Kind::History => history_of(bytes).map(|_| ()),
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Flaw> {
    bytes.try_into().map_err(|_| Cause::Encoding.into())
}

fn check_length(bytes: &[u8], limit: u16) -> Result<(), Flaw> {
    if bytes.is_empty() {
        return Err(Cause::NotCanonical.into());
    }
    if bytes.len() > usize::from(limit) {
        return Err(Flaw::Limit { value: bytes.len() as u64, limit: u64::from(limit) });
    }
    Ok(())
}

fn check_ascii(bytes: &[u8], limit: u16) -> Result<(), Flaw> {
    check_length(bytes, limit)?;
    if bytes.iter().all(u8::is_ascii_graphic) { Ok(()) } else { Err(Cause::Characters.into()) }
}

fn check_text(bytes: &[u8], limit: u16) -> Result<(), Flaw> {
    check_length(bytes, limit)?;
    if bytes.iter().all(|b| matches!(b, 0x20..=0x7e)) {
        return Ok(());
    }
    let text = core::str::from_utf8(bytes).map_err(|_| Flaw::Malformed(Cause::Characters))?;
    if text.chars().all(is_plain) {
        return Ok(());
    }
    if text.chars().any(|c| c.is_control() && c != '\t' && c != '\n') {
        return Err(Cause::Characters.into());
    }
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => Ok(()),
        IsNormalized::Maybe if text.chars().eq(text.nfc()) => Ok(()),
        _ => Err(Cause::NotCanonical.into()),
    }
}

/// Whether a character may stand in any text, whatever its neighbours: no control, and of the kind
/// that NFC leaves as it is and that combines with nothing. Nearly all of real text is, and the
/// tables of Unicode need not be asked.
fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{2ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{3001}'..='\u{3029}' | '\u{ff01}'..='\u{ff5e}')
}

fn check_list(bytes: &[u8], members: &'static [Field]) -> Result<(), Flaw> {
    each_member(bytes, |_, tag, value| {
        let member = by_tag(members, tag).ok_or(Flaw::Malformed(Cause::UnknownTag))?;
        check(member.kind, value)
    })
}

/// The members of one entry of a list, or of a line: tag and canonical bytes, tags ascending.
pub type Members<'a> = Vec<(Tag, &'a [u8])>;

/// The entries of a list. Their values are not checked.
pub fn entries_of(bytes: &[u8]) -> Result<Vec<Members<'_>>, Flaw> {
    let mut entries: Vec<Members<'_>> = Vec::new();
    each_member(bytes, |entry, tag, value| {
        entries.resize_with(entry + 1, Members::new);
        entries[entry].push((tag, value));
        Ok(())
    })?;
    Ok(entries)
}

/// Calls `visit` with each member of each entry of a list: the entry's number, the tag, the bytes.
/// The values are not checked, and what is malformed is found when it is reached.
pub fn each_member<'a>(
    bytes: &'a [u8],
    mut visit: impl FnMut(usize, Tag, &'a [u8]) -> Result<(), Flaw>,
) -> Result<(), Flaw> {
    let mut reader = Reader::new(bytes);
    let count = reader.count("entries", LIST_MAX)?;
    if count == 0 {
        return Err(Cause::NotCanonical.into());
    }
    for entry in 0..count {
        read_members(&mut reader, |tag, value| visit(entry, tag, value))?;
    }
    Ok(reader.end()?)
}

fn read_members<'a>(
    reader: &mut Reader<'a>,
    mut visit: impl FnMut(Tag, &'a [u8]) -> Result<(), Flaw>,
) -> Result<(), Flaw> {
    let count = reader.count("members", MEMBERS_MAX)?;
    if count == 0 {
        return Err(Cause::NotCanonical.into());
    }
    let mut last = None;
    for _ in 0..count {
        let tag = reader.u16()?;
        if last.replace(tag).is_some_and(|last| last >= tag) {
            return Err(Cause::Order.into());
        }
        visit(tag, reader.bytes("value", LINE_BYTES_MAX * 4)?)?;
    }
    Ok(())
}

/// The members of an encoded line, each checked against `table`.
pub fn members_of<'a>(bytes: &'a [u8], table: &'static [Field]) -> Result<Members<'a>, Flaw> {
    let mut reader = Reader::new(bytes);
    let mut members = Members::new();
    read_members(&mut reader, |tag, value| {
        members.push((tag, value));
        Ok(())
    })?;
    reader.end()?;
    for (tag, value) in &members {
        let member = by_tag(table, *tag).ok_or(Flaw::Malformed(Cause::UnknownTag))?;
        check(member.kind, value)?;
    }
    Ok(members)
}

/// Appends the encoding of members: count, then tag and value each.
pub fn put_members<V: AsRef<[u8]>>(out: &mut Vec<u8>, members: &[(Tag, V)]) {
    put_vint(out, members.len() as u64);
    for (tag, value) in members {
        out.extend_from_slice(&tag.to_be_bytes());
        crate::encoding::put_bytes(out, value.as_ref());
    }
}

/// The keys of a list of keys, ascending; whether they are points of the curve is not checked.
pub fn keys_of(bytes: &[u8]) -> Result<Vec<[u8; 33]>, Flaw> {
    let mut reader = Reader::new(bytes);
    let count = reader.count("keys", VALIDATORS_MAX)?;
    if count == 0 {
        return Err(Cause::Range.into());
    }
    let mut keys: Vec<[u8; 33]> = Vec::with_capacity(count);
    for _ in 0..count {
        let key = reader.array()?;
        if keys.last().is_some_and(|last| *last >= key) {
            return Err(Cause::Order.into());
        }
        keys.push(key);
    }
    reader.end()?;
    Ok(keys)
}

/// A list of keys; they ascend.
pub fn keys(keys: &[[u8; 33]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + keys.len() * 33);
    put_vint(&mut out, keys.len() as u64);
    keys.iter().for_each(|key| out.extend_from_slice(key));
    out
}

/// A day as year, month, day.
pub fn date_of(bytes: &[u8]) -> Result<(u32, u32, u32), Flaw> {
    let n = u32::from_be_bytes(fixed(bytes)?);
    let (year, month, day) = (n / 10_000, n / 100 % 100, n % 100);
    if (1900..=2199).contains(&year)
        && (1..=12).contains(&month)
        && day >= 1
        && day <= days_in(year, month)
    {
        Ok((year, month, day))
    } else {
        Err(Cause::Range.into())
    }
}

fn days_in(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
pub fn days_since_1970(year: u32, month: u32, day: u32) -> i64 {
    // Years begin in March, so that the leap day is the last of its year.
    let y = i64::from(year) - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The day that is so many days after 1970-01-01, as year, month, day.
pub fn day_of_days(days: i64) -> (u32, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

/// Milliseconds since 1970.
pub fn time_of(bytes: &[u8]) -> Result<i64, Flaw> {
    Ok(i64::from_be_bytes(fixed(bytes)?))
}

/// Minor units.
pub fn amount_of(bytes: &[u8]) -> Result<i128, Flaw> {
    let mut reader = Reader::new(bytes);
    let amount = reader.zint()?;
    reader.end()?;
    if amount.checked_abs().is_some_and(|n| n < AMOUNT_LIMIT) {
        Ok(amount)
    } else {
        Err(Cause::Range.into())
    }
}

/// An exact decimal as mantissa and scale: mantissa × 10^−scale.
pub fn decimal_of(bytes: &[u8]) -> Result<(i128, u8), Flaw> {
    let mut reader = Reader::new(bytes);
    let scale = reader.u8()?;
    let mantissa = reader.zint()?;
    reader.end()?;
    if scale > SCALE_MAX || mantissa.checked_abs().is_none_or(|n| n >= AMOUNT_LIMIT) {
        return Err(Cause::Range.into());
    }
    if scale > 0 && divides_by_ten(mantissa) {
        return Err(Cause::NotCanonical.into());
    }
    Ok((mantissa, scale))
}

/// Division of 128 bits is slow, and most numbers are short.
fn divides_by_ten(number: i128) -> bool {
    i64::try_from(number).map_or_else(|_| number % 10 == 0, |short| short % 10 == 0)
}

/// A non-negative integer.
pub fn uint_of(bytes: &[u8]) -> Result<u64, Flaw> {
    let mut reader = Reader::new(bytes);
    let value = reader.vint()?;
    reader.end()?;
    Ok(value)
}

/// ISO 4217 code and exponent.
pub fn currency_of(bytes: &[u8]) -> Result<([u8; 3], u8), Flaw> {
    let [a, b, c, exponent] = fixed(bytes)?;
    if ![a, b, c].iter().all(u8::is_ascii_uppercase) {
        return Err(Cause::Characters.into());
    }
    if exponent > 4 {
        return Err(Cause::Range.into());
    }
    Ok(([a, b, c], exponent))
}

/// Count and root of the lines.
pub fn lines_of(bytes: &[u8]) -> Result<(u32, Digest), Flaw> {
    let mut reader = Reader::new(bytes);
    let count = reader.u32()?;
    let root = reader.array()?;
    reader.end()?;
    match count {
        0 => Err(Cause::Range.into()),
        n if n > LINES_MAX => Err(Flaw::Limit { value: n.into(), limit: LINES_MAX.into() }),
        _ => Ok((count, root)),
    }
}

/// Most records of which a status may be made.
pub const HISTORY_MAX: u64 = 256;
/// The first half of a record's commitment: enough to know it again.
pub type RecordId = [u8; 16];

/// The records that made a status: log index and id, in ascending order.
pub fn history_of(bytes: &[u8]) -> Result<Vec<(u64, RecordId)>, Flaw> {
    let mut reader = Reader::new(bytes);
    let count = reader.count("records of a status", HISTORY_MAX)?;
    if count == 0 {
        return Err(Cause::NotCanonical.into());
    }
    let mut history: Vec<(u64, RecordId)> = Vec::with_capacity(count);
    for _ in 0..count {
        let index = reader.vint()?;
        if history.last().is_some_and(|(last, _)| *last >= index) {
            return Err(Cause::Order.into());
        }
        history.push((index, reader.array()?));
    }
    reader.end()?;
    Ok(history)
}

/// Canonical bytes of the records that made a status; there is at least one.
pub fn history(records: &[(u64, RecordId)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + records.len() * 20);
    put_vint(&mut out, records.len() as u64);
    for (index, id) in records {
        put_vint(&mut out, *index);
        out.extend_from_slice(id);
    }
    out
}

/// Canonical text: NFC, outer white space removed.
pub fn text(text: &str) -> Vec<u8> {
    text.trim().nfc().collect::<String>().into_bytes()
}

/// Canonical bytes of a day.
pub fn date(year: u32, month: u32, day: u32) -> Vec<u8> {
    (year * 10_000 + month * 100 + day).to_be_bytes().to_vec()
}

/// Canonical bytes of a moment.
pub fn time(ms: i64) -> Vec<u8> {
    ms.to_be_bytes().to_vec()
}

/// Canonical bytes of an amount in minor units.
pub fn amount(minor_units: i128) -> Vec<u8> {
    let mut out = Vec::new();
    put_zint(&mut out, minor_units);
    out
}

/// Canonical bytes of mantissa × 10^−scale: trailing zeros are dropped.
pub fn decimal(mut mantissa: i128, mut scale: u8) -> Vec<u8> {
    while scale > 0 && mantissa % 10 == 0 {
        mantissa /= 10;
        scale -= 1;
    }
    let mut out = alloc::vec![scale];
    put_zint(&mut out, mantissa);
    out
}

/// Canonical bytes of a non-negative integer.
pub fn uint(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_vint(&mut out, value);
    out
}

/// Canonical bytes of a currency.
pub fn currency(code: [u8; 3], exponent: u8) -> Vec<u8> {
    alloc::vec![code[0], code[1], code[2], exponent]
}

/// Canonical bytes of a list.
pub fn list<V: AsRef<[u8]>>(entries: &[Vec<(Tag, V)>]) -> Vec<u8> {
    let mut out = Vec::new();
    put_vint(&mut out, entries.len() as u64);
    for entry in entries {
        put_members(&mut out, entry);
    }
    out
}

/// Reads a decimal string: optional sign, digits, optional fraction. `None` when it is none, or too
/// long for the limits of a decimal. Returns mantissa and scale as written.
pub fn parse_decimal(text: &str) -> Option<(i128, u8)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > usize::from(SCALE_MAX) {
        return None;
    }
    let mut mantissa: i128 = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if !byte.is_ascii_digit() {
            return None;
        }
        mantissa = mantissa * 10 + i128::from(byte - b'0');
        if mantissa >= AMOUNT_LIMIT {
            return None;
        }
    }
    Some((if negative { -mantissa } else { mantissa }, fraction.len() as u8))
}

/// Writes mantissa × 10^−scale as a decimal string with exactly `scale` decimals.
pub fn decimal_string(mantissa: i128, scale: u8) -> String {
    let digits =
        alloc::format!("{:0width$}", mantissa.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    let sign = if mantissa < 0 { "-" } else { "" };
    if scale == 0 {
        alloc::format!("{sign}{whole}")
    } else {
        alloc::format!("{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::{DOCUMENT, by_name};

    fn kind(name: &str) -> Kind {
        by_name(DOCUMENT, name).expect("a field").kind
    }

    #[test]
    fn plain_characters_are_what_unicode_says() {
        use unicode_normalization::char::canonical_combining_class;
        for c in (0..=0x10_ffff).filter_map(char::from_u32).filter(|c| is_plain(*c)) {
            assert!(!c.is_control(), "{c:?}");
            assert_eq!(canonical_combining_class(c), 0, "{c:?}");
            assert!(is_nfc_quick([c].into_iter()) == IsNormalized::Yes, "{c:?}");
        }
    }

    #[test]
    fn each_flaw_is_named() {
        let cases: &[(&str, &[u8], Flaw)] = &[
            ("number", b"", Cause::NotCanonical.into()),
            ("number", b"A 1", Cause::Characters.into()),
            ("number", &[b'1'; 65], Flaw::Limit { value: 65, limit: 64 }),
            ("seller_name", "e\u{301}".as_bytes(), Cause::NotCanonical.into()),
            ("seller_name", b"a\x00", Cause::Characters.into()),
            ("seller_name", b"\xff", Cause::Characters.into()),
            ("issue_date", &20_260_230u32.to_be_bytes(), Cause::Range.into()),
            ("issue_date", &18_991_231u32.to_be_bytes(), Cause::Range.into()),
            ("issue_date", &[0; 3], Cause::Encoding.into()),
            ("total_gross", &[0x80, 0x00], Cause::NotCanonical.into()),
            ("total_gross", &[], Cause::Encoding.into()),
            ("currency", b"eur\x02", Cause::Characters.into()),
            ("currency", b"EUR\x05", Cause::Range.into()),
            ("original_unknown", &[0], Cause::NotCanonical.into()),
            ("lines", &[0; 36], Cause::Range.into()),
            ("preceding", &[0], Cause::NotCanonical.into()),
            ("preceding", &[65], Flaw::Limit { value: 65, limit: 64 }),
        ];
        for (name, bytes, flaw) in cases {
            assert_eq!(check(kind(name), bytes), Err(*flaw), "{name} {bytes:?}");
        }
        assert_eq!(decimal_of(&decimal(AMOUNT_LIMIT, 0)), Err(Cause::Range.into()));
        assert_eq!(decimal_of(&[1, 20]), Err(Cause::NotCanonical.into()));
        assert_eq!(decimal_of(&[19, 2]), Err(Cause::Range.into()));
    }

    #[test]
    fn decimals_read_and_print() {
        for (text, mantissa, scale) in
            [("0.125", 125, 3), ("-1.50", -150, 2), ("7", 7, 0), (".5", 5, 1), ("-0.07", -7, 2)]
        {
            assert_eq!(parse_decimal(text), Some((mantissa, scale)));
        }
        assert_eq!(decimal_string(-7, 2), "-0.07");
        assert_eq!(decimal_string(11_300, 2), "113.00");
        assert_eq!(decimal_string(5, 0), "5");
        for bad in ["", "-", ".", "1e5", "1,5", "0.1234567890123456789", "NaN"] {
            assert_eq!(parse_decimal(bad), None, "{bad}");
        }
        assert_eq!(decimal_of(&decimal(1500, 3)), Ok((15, 1)));
        assert_eq!(decimal_of(&decimal(0, 3)), Ok((0, 0)));
    }

    #[test]
    fn calendar_agrees_with_itself() {
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        assert_eq!(days_since_1970(2026, 11, 21), 20_778);
        for days in (-25_000..84_000).step_by(13) {
            let (year, month, day) = day_of_days(days);
            assert_eq!(days_since_1970(year, month, day), days);
            assert_eq!(date_of(&date(year, month, day)), Ok((year, month, day)));
        }
    }
}
