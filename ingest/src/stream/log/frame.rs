//! Encodes and checks frames: the one unit that a segment is made of.

use crate::stream::MAX_PAYLOAD;

/// Bytes before the payload.
pub(super) const HEADER: usize = 16;

/// A frame that checks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) timestamp: i64,
    pub(super) payload: &'a [u8],
}

/// What the bytes at a position are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded<'a> {
    /// A whole frame that checks.
    Whole(Frame<'a>),
    /// The beginning of a frame of this many bytes, as far as its header tells.
    Short(usize),
    /// No frame of this offset.
    Bad,
}

fn check(offset: u64, length: u32, timestamp: i64, payload: &[u8]) -> u32 {
    let mut head = [0; 20];
    head[..8].copy_from_slice(&offset.to_le_bytes());
    head[8..12].copy_from_slice(&length.to_le_bytes());
    head[12..].copy_from_slice(&timestamp.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head);
    crc.update(payload);
    crc.finalize()
}

/// Appends a frame; the payload is at most [`MAX_PAYLOAD`] long.
pub(super) fn encode(offset: u64, timestamp: i64, payload: &[u8], out: &mut Vec<u8>) {
    let length = payload.len() as u32;
    out.reserve(HEADER + payload.len());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&check(offset, length, timestamp, payload).to_le_bytes());
    out.extend_from_slice(&timestamp.to_le_bytes());
    out.extend_from_slice(payload);
}

/// Looks at the frame that `bytes` begin with and that should have this offset.
pub(super) fn decode(offset: u64, bytes: &[u8]) -> Decoded<'_> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Decoded::Short(HEADER);
    };
    let [a, b, c, d, e, f, g, h, time @ ..] = *header;
    let length = u32::from_le_bytes([a, b, c, d]);
    if length as usize > MAX_PAYLOAD {
        return Decoded::Bad;
    }
    let Some(payload) = rest.get(..length as usize) else {
        return Decoded::Short(HEADER + length as usize);
    };
    let timestamp = i64::from_le_bytes(time);
    if check(offset, length, timestamp, payload) != u32::from_le_bytes([e, f, g, h]) {
        return Decoded::Bad;
    }
    Decoded::Whole(Frame { timestamp, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_other_offset_is_caught() {
        let mut bytes = Vec::new();
        encode(77, 1_700_000_000_000, b"some payload", &mut bytes);
        let whole = Frame { timestamp: 1_700_000_000_000, payload: b"some payload" };
        assert_eq!(decode(77, &bytes), Decoded::Whole(whole));
        assert_eq!(decode(76, &bytes), Decoded::Bad);
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(decode(77, &broken), Decoded::Whole(_)), "bit {bit}");
        }
        for length in 0..bytes.len() {
            let needed = if length < HEADER { HEADER } else { bytes.len() };
            assert_eq!(decode(77, &bytes[..length]), Decoded::Short(needed));
        }
    }

    #[test]
    fn zeros_are_no_frame() {
        for offset in [0, 1, u64::MAX] {
            assert_eq!(decode(offset, &[0; 64]), Decoded::Bad);
        }
    }
}
