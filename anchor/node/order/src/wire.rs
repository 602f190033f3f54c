//! What validators send each other beside votes: names of what is asked for, and batches of final
//! blocks.
//!
//! The bytes are in PROTOCOL section 5.2. A body is the application's and travels as it is.
//!
//! Invariants
//! - Every length is checked against what is there before anything is copied.

use crate::FinalBlock;
use crate::digest::Digest;
use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, FixedSize, Read, ReadExt, Write};
use commonware_utils::Span;
use std::fmt;

/// Most final blocks in one answer.
pub(crate) const BATCH_BLOCKS: usize = 64;
/// Most bytes of final blocks in one answer, unless the first is longer.
pub(crate) const BATCH_BYTES: usize = 256 << 10;

const BODY: u8 = 0;
const FINALS: u8 = 1;

/// Something that a peer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Want {
    /// The body of this block.
    Body(Digest),
    /// Final blocks from this height on.
    Finals(u64),
}

impl Want {
    /// Longest encoding.
    pub(crate) const BYTES_MAX: usize = 1 + Digest::SIZE;
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(block) => write!(f, "body {block}"),
            Self::Finals(height) => write!(f, "final blocks from {height}"),
        }
    }
}

impl Write for Want {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Body(block) => {
                BODY.write(buf);
                block.write(buf);
            }
            Self::Finals(height) => {
                FINALS.write(buf);
                height.write(buf);
            }
        }
    }
}

impl EncodeSize for Want {
    fn encode_size(&self) -> usize {
        match self {
            Self::Body(_) => 1 + Digest::SIZE,
            Self::Finals(_) => 1 + u64::SIZE,
        }
    }
}

impl Read for Want {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        match u8::read(buf)? {
            BODY => Ok(Self::Body(Digest::read(buf)?)),
            FINALS => Ok(Self::Finals(u64::read(buf)?)),
            other => Err(Error::InvalidEnum(other)),
        }
    }
}

impl Span for Want {}

/// Writes a batch of final blocks.
pub(crate) fn write_batch(blocks: &[FinalBlock]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in blocks {
        for part in [&block.body, &block.finalization] {
            // Both are far below 4 GiB: they were read from messages or made of bounded parts.
            bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

/// Reads a batch; `None` when it is not exactly one, is empty, or has too many blocks.
pub(crate) fn read_batch(mut bytes: &[u8]) -> Option<Vec<FinalBlock>> {
    let mut blocks = Vec::new();
    while !bytes.is_empty() {
        if blocks.len() == BATCH_BLOCKS {
            return None;
        }
        let body = take(&mut bytes)?.to_vec();
        let finalization = take(&mut bytes)?.to_vec();
        blocks.push(FinalBlock { body, finalization });
    }
    (!blocks.is_empty()).then_some(blocks)
}

fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *bytes = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_codec::{DecodeExt, Encode};

    #[test]
    fn names_have_the_documented_bytes() {
        for (want, expected) in [
            (Want::Body(Digest([7; 32])), [&[0][..], &[7; 32]].concat()),
            (Want::Finals(0x0102), vec![1, 0, 0, 0, 0, 0, 0, 1, 2]),
        ] {
            assert_eq!(want.encode().to_vec(), expected);
            assert_eq!(want.encode_size(), expected.len());
            assert!(expected.len() <= Want::BYTES_MAX);
            assert_eq!(Want::decode(expected.clone()).unwrap(), want);
            assert!(Want::decode(expected[..expected.len() - 1].to_vec()).is_err());
            assert!(Want::decode([&expected[..], &[0]].concat()).is_err());
        }
        assert!(Want::decode(vec![2; 33]).is_err());
    }

    #[test]
    fn batches_are_read_exactly_and_bounded() {
        let block = |n: u8| FinalBlock { body: vec![n; 3], finalization: vec![n; 2] };
        let blocks = [block(1), block(2)];
        let bytes = write_batch(&blocks);
        let expected =
            [0, 0, 0, 3, 1, 1, 1, 0, 0, 0, 2, 1, 1, 0, 0, 0, 3, 2, 2, 2, 0, 0, 0, 2, 2, 2];
        assert_eq!(bytes, expected);
        assert_eq!(read_batch(&bytes).unwrap(), blocks);
        for cut in 0..bytes.len() {
            let whole = cut == bytes.len() / 2;
            assert_eq!(read_batch(&bytes[..cut]).is_some(), whole, "cut at {cut}");
        }
        assert_eq!(read_batch(&u32::MAX.to_be_bytes()), None);
        let many = vec![block(3); BATCH_BLOCKS];
        assert_eq!(read_batch(&write_batch(&many)).unwrap().len(), BATCH_BLOCKS);
        assert_eq!(read_batch(&write_batch(&[&many[..], &[block(4)]].concat())), None);
    }
}
