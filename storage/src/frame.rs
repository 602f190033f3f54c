//! Checksummed frames: what a file that is appended to consists of.
//!
//! The head has a checksum of its own, so that recovery can walk a file by heads alone and trust
//! the metadata it finds there without reading payloads. A frame that is incomplete or fails its
//! checksum is reported as torn; whether that is a crash or damage is for the caller to decide,
//! who knows what lies behind it.

use crate::error::{Result, StoreError};

/// Bytes of a head besides its metadata: magic, length, two checksums.
const FIXED: usize = 16;

/// The head of a frame with `M` bytes of metadata.
#[derive(Clone, Copy)]
pub(crate) struct Head<const M: usize> {
    /// Metadata, as the kind of frame defines it.
    pub(crate) meta: [u8; M],
    /// Payload length in bytes.
    pub(crate) len: u32,
    crc: u32,
}

/// Length of a head with `m` bytes of metadata.
pub(crate) const fn head_len(m: usize) -> usize {
    m + FIXED
}

/// Appends a frame to `out`.
pub(crate) fn write<const M: usize>(
    out: &mut Vec<u8>,
    magic: [u8; 4],
    meta: &[u8; M],
    payload: &[u8],
) -> Result<()> {
    let start = out.len();
    out.extend_from_slice(&magic);
    out.extend_from_slice(meta);
    put_sums(out, start, payload)?;
    out.extend_from_slice(payload);
    Ok(())
}

/// The head of a frame of `H` = [`head_len`] bytes with this payload, which then follows it.
pub(crate) fn head_of<const M: usize, const H: usize>(
    magic: [u8; 4],
    meta: &[u8; M],
    payload: &[u8],
) -> Result<[u8; H]> {
    let mut out = Vec::with_capacity(H);
    out.extend_from_slice(&magic);
    out.extend_from_slice(meta);
    put_sums(&mut out, 0, payload)?;
    let mut head = [0; H];
    head.copy_from_slice(&out);
    Ok(head)
}

/// Appends length and checksums behind magic and metadata.
fn put_sums(out: &mut Vec<u8>, start: usize, payload: &[u8]) -> Result<()> {
    let len = u32::try_from(payload.len()).map_err(|_| {
        StoreError::Refused(format!(
            "a frame of {} bytes is above the limit of 4294967295 bytes",
            payload.len()
        ))
    })?;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&crc32fast::hash(payload).to_be_bytes());
    let crc = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
    Ok(())
}

/// Reads the head at the start of `bytes`; `None` where there is no intact one.
pub(crate) fn head<const M: usize>(bytes: &[u8], magic: [u8; 4]) -> Option<Head<M>> {
    let bytes = bytes.get(..head_len(M))?;
    let (checked, crc) = bytes.split_at(head_len(M) - 4);
    if checked[..4] != magic || crc32fast::hash(checked).to_be_bytes() != crc {
        return None;
    }
    Some(Head {
        meta: checked[4..4 + M].try_into().ok()?,
        len: read_u32(checked, 4 + M)?,
        crc: read_u32(checked, 8 + M)?,
    })
}

impl<const M: usize> Head<M> {
    /// Length of the whole frame.
    pub(crate) fn frame_len(&self) -> u64 {
        head_len(M) as u64 + u64::from(self.len)
    }

    /// The payload, where `frame` begins with this head and the payload is whole.
    pub(crate) fn payload<'a>(&self, frame: &'a [u8]) -> Option<&'a [u8]> {
        let payload = frame.get(head_len(M)..)?.get(..self.len as usize)?;
        self.is_of(payload).then_some(payload)
    }

    /// Whether this is the whole payload that the head speaks of.
    pub(crate) fn is_of(&self, payload: &[u8]) -> bool {
        payload.len() == self.len as usize && crc32fast::hash(payload) == self.crc
    }
}

/// Reads a whole frame at the start of `bytes`.
pub(crate) fn read<const M: usize>(bytes: &[u8], magic: [u8; 4]) -> Option<([u8; M], &[u8])> {
    let head = head::<M>(bytes, magic)?;
    Some((head.meta, head.payload(bytes)?))
}

/// A big-endian `u32` at a place.
#[inline]
pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A big-endian `u64` at a place.
pub(crate) fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_truncation_and_every_flipped_byte_is_noticed() {
        let mut bytes = Vec::new();
        write(&mut bytes, *b"Test", &[7u8; 8], b"some payload").unwrap();
        assert_eq!(read::<8>(&bytes, *b"Test"), Some(([7u8; 8], b"some payload".as_slice())));
        assert_eq!(read::<8>(&bytes, *b"Tost"), None);
        for n in 0..bytes.len() {
            assert_eq!(read::<8>(&bytes[..n], *b"Test"), None, "cut at {n}");
            let mut bad = bytes.clone();
            bad[n] ^= 1;
            assert_eq!(read::<8>(&bad, *b"Test"), None, "flipped at {n}");
        }
    }
}
