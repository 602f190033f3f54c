//! Holds a signature as r || s and turns it to and from ASN.1 DER.
//!
//! The fixed form is what records carry; DER is what OpenSSL, certificates and banks speak. The DER
//! reader takes exactly what the writer makes: shortest lengths, shortest non-negative integers,
//! nothing before or after. Whether r and s are in range is for verification to say.

use super::KeyError;
use alloc::vec::Vec;

/// A signature: r and s, 32 bytes each, big-endian. Any 64 bytes; ranges are checked by
/// verification.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    pub(super) fn from_parts(r: &[u8; 32], s: &[u8; 32]) -> Self {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(r);
        bytes[32..].copy_from_slice(s);
        Self(bytes)
    }

    pub(super) fn r(&self) -> &[u8; 32] {
        self.0.first_chunk().expect("64 bytes have a first half")
    }

    pub(super) fn s(&self) -> &[u8; 32] {
        self.0.last_chunk().expect("64 bytes have a second half")
    }

    /// Reads a DER SEQUENCE of two INTEGERs, strictly.
    ///
    /// # Errors
    /// [`KeyError::SignatureDer`] on anything that [`Signature::to_der`] would not write.
    pub fn from_der(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::read_der(bytes).ok_or(KeyError::SignatureDer { length: bytes.len() })
    }

    fn read_der(bytes: &[u8]) -> Option<Self> {
        let (content, after) = read_element(0x30, bytes)?;
        let (r, rest) = read_element(0x02, content)?;
        let (s, end) = read_element(0x02, rest)?;
        if !after.is_empty() || !end.is_empty() {
            return None;
        }
        Some(Self::from_parts(&read_integer(r)?, &read_integer(s)?))
    }

    /// Writes a DER SEQUENCE of two INTEGERs.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(72);
        for integer in [self.r(), self.s()] {
            let zeros = integer.iter().take_while(|byte| **byte == 0).count().min(31);
            let shortest = &integer[zeros..];
            let sign = shortest[0] >= 0x80;
            content.extend_from_slice(&[0x02, (shortest.len() + usize::from(sign)) as u8]);
            content.extend(sign.then_some(0));
            content.extend_from_slice(shortest);
        }
        content.splice(0..0, [0x30, content.len() as u8]);
        content
    }
}

/// The content of an element with this tag and a length below 128, and what follows it.
fn read_element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match bytes {
        [found, length @ 0..=0x7f, rest @ ..] if *found == tag => {
            rest.split_at_checked(usize::from(*length))
        }
        _ => None,
    }
}

fn read_integer(content: &[u8]) -> Option<[u8; 32]> {
    let magnitude = match content {
        [0, 0x80..=0xff, ..] => &content[1..],
        [0] | [1..=0x7f, ..] => content,
        _ => return None,
    };
    let mut integer = [0; 32];
    integer[32usize.checked_sub(magnitude.len())?..].copy_from_slice(magnitude);
    Some(integer)
}
