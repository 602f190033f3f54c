//! Reads and writes the primitive encodings of `FORMAT.md` section 1.
//!
//! One `Reader` over a borrowed slice serves every decoder, so that bounds, minimal integers and
//! trailing bytes are checked in one place; writing is plain functions on `Vec<u8>`.
//!
//! Invariants
//! - Nothing is allocated for a length before the bytes behind it are known to be there.
//! - Every value has exactly one encoding; another one is an error, not an alternative.

use alloc::vec::Vec;
use piaogen_crypto::Digest;

/// Why bytes are not what the format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends before the value does.
    #[error("the input ends at byte {at}, {missing} bytes too early")]
    Short {
        /// Where the value begins.
        at: usize,
        /// How many bytes are missing.
        missing: usize,
    },
    /// An integer is longer than it needs to be, or too large.
    #[error("the integer at byte {at} is not minimal or too large")]
    Integer {
        /// Where the integer begins.
        at: usize,
    },
    /// A count or a length is above its limit.
    #[error("{what} = {value} is above {limit}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// Bytes follow where nothing may follow.
    #[error("{extra} bytes follow the end")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A fixed value (magic, version, flag) is another.
    #[error("{what} is not as the format says")]
    Fixed {
        /// What it is.
        what: &'static str,
    },
}

/// Takes values from the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// How many bytes were taken.
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Takes `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            return Err(DecodeError::Short { at: self.at, missing: n - self.remaining() });
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// Takes an array of fixed length.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// Takes one byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// Takes a big-endian `u16`.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Takes a big-endian `u32`.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Takes a big-endian `u64`.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Takes a big-endian `i64`.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// Takes a minimal unsigned LEB128 below 2^64.
    #[inline]
    pub fn vint(&mut self) -> Result<u64, DecodeError> {
        let at = self.at;
        // Nearly all lengths and tags are one byte.
        if let Some(&first) = self.bytes.get(at)
            && first < 0x80
        {
            self.at += 1;
            return Ok(u64::from(first));
        }
        let wide = self.leb128(10)?;
        u64::try_from(wide).map_err(|_| DecodeError::Integer { at })
    }

    /// Takes a minimal zigzag LEB128 of a signed integer of 128 bits.
    pub fn zint(&mut self) -> Result<i128, DecodeError> {
        let wide = self.leb128(19)?;
        Ok((wide >> 1) as i128 ^ -((wide & 1) as i128))
    }

    fn leb128(&mut self, bytes_max: u32) -> Result<u128, DecodeError> {
        let at = self.at;
        // Nearly all are short; 128 bits are needed for the longest only.
        let mut short: u64 = 0;
        for (i, byte) in (0usize..9).zip(&self.bytes[at..]) {
            short |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.at = at + i + 1;
                return match byte {
                    0 if i > 0 => Err(DecodeError::Integer { at }),
                    _ => Ok(short.into()),
                };
            }
        }
        let mut value: u128 = 0;
        for i in 0..bytes_max {
            let byte = self.u8()?;
            let bits = u128::from(byte & 0x7f);
            // The nineteenth byte has room for two bits only.
            if i == 18 && bits > 3 {
                return Err(DecodeError::Integer { at });
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                return if byte == 0 && i > 0 {
                    Err(DecodeError::Integer { at })
                } else {
                    Ok(value)
                };
            }
        }
        Err(DecodeError::Integer { at })
    }

    /// Takes a count that may be at most `limit`.
    #[inline]
    pub fn count(&mut self, what: &'static str, limit: u64) -> Result<usize, DecodeError> {
        let value = self.vint()?;
        if value > limit {
            return Err(DecodeError::Limit { what, value, limit });
        }
        usize::try_from(value).map_err(|_| DecodeError::Limit { what, value, limit })
    }

    /// Takes a length of at most `limit`, then as many bytes.
    #[inline]
    pub fn bytes(&mut self, what: &'static str, limit: u64) -> Result<&'a [u8], DecodeError> {
        let length = self.count(what, limit)?;
        self.take(length)
    }

    /// Takes at most `limit` digests behind their count.
    pub fn digests(&mut self, what: &'static str, limit: u64) -> Result<Vec<Digest>, DecodeError> {
        let count = self.count(what, limit)?;
        let bytes = self.take(count * 32)?;
        Ok(bytes.chunks_exact(32).map(to_digest).collect())
    }

    /// Takes bytes that must be exactly these.
    pub fn fixed(&mut self, what: &'static str, expected: &[u8]) -> Result<(), DecodeError> {
        if self.take(expected.len())? == expected {
            Ok(())
        } else {
            Err(DecodeError::Fixed { what })
        }
    }

    /// Takes all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    /// Ends the reading: nothing may be left.
    pub fn end(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { extra }),
        }
    }
}

fn to_digest(bytes: &[u8]) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(bytes);
    digest
}

/// Appends a minimal unsigned LEB128.
#[inline]
pub fn put_vint(out: &mut Vec<u8>, value: u64) {
    put_leb128(out, u128::from(value));
}

/// Appends a zigzag LEB128.
pub fn put_zint(out: &mut Vec<u8>, value: i128) {
    put_leb128(out, ((value << 1) ^ (value >> 127)) as u128);
}

fn put_leb128(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length and the bytes.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_vint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a count and the digests.
pub fn put_digests(out: &mut Vec<u8>, digests: &[Digest]) {
    put_vint(out, digests.len() as u64);
    for digest in digests {
        out.extend_from_slice(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_round_trip() {
        for n in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_vint(&mut out, n);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.vint(), Ok(n));
            assert_eq!(reader.end(), Ok(()));
        }
        for n in [0, -1, 1, -64, 64, i128::MAX, i128::MIN, -16_846_960] {
            let mut out = Vec::new();
            put_zint(&mut out, n);
            assert!(out.len() <= 19);
            assert_eq!(Reader::new(&out).zint(), Ok(n));
        }
    }

    #[test]
    fn integers_that_are_not_minimal_are_refused() {
        for bytes in [&[0x80, 0x00][..], &[0xff, 0x80, 0x00], &[0xff; 11], &[0xff; 20]] {
            assert!(matches!(Reader::new(bytes).vint(), Err(DecodeError::Integer { .. })));
        }
        let mut above = alloc::vec![0xff; 9];
        above.push(0x02);
        assert!(Reader::new(&above).vint().is_err());
        let mut wide = alloc::vec![0xff; 18];
        wide.push(0x04);
        assert!(Reader::new(&wide).zint().is_err());
    }

    #[test]
    fn a_length_beyond_the_input_allocates_nothing() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(matches!(
            Reader::new(&bytes).bytes("value", u64::MAX),
            Err(DecodeError::Short { .. })
        ));
        assert_eq!(
            Reader::new(&bytes).bytes("value", 10),
            Err(DecodeError::Limit { what: "value", value: 0xffff_ffff, limit: 10 })
        );
    }
}
