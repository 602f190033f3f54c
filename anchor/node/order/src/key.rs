//! Gives the engine SM2: public keys that name validators, and signatures.
//!
//! A key is its 33 compressed bytes wherever the engine orders, hashes or sends it; the decoded
//! point is kept beside them, so that a signature is checked without decoding the key again.
//!
//! Invariants
//! - A `Key` always holds a point on the curve: decoding refuses everything else.
//! - Order of keys is the order of their compressed bytes; validator indices follow it.

use bytes::BufMut;
use commonware_codec::{Buf, Error, FixedArray, FixedSize, Read, ReadExt, Write};
use commonware_utils::{Array, Span, union_unique};
use piaogen_crypto::sm2;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

const KEY_LENGTH: usize = 33;
const SIGNATURE_LENGTH: usize = 64;

/// An SM2 public key, as the engine sees it.
#[derive(Clone, FixedArray)]
pub struct Key {
    raw: [u8; KEY_LENGTH],
    point: sm2::PublicKey,
}

impl Key {
    /// The key as the crypto crate knows it.
    pub fn point(&self) -> &sm2::PublicKey {
        &self.point
    }
}

impl From<sm2::PublicKey> for Key {
    fn from(point: sm2::PublicKey) -> Self {
        Self { raw: point.to_compressed(), point }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl Eq for Key {}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.raw.cmp(&other.raw)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.raw.hash(state);
    }
}

impl Write for Key {
    fn write(&self, buf: &mut impl BufMut) {
        self.raw.write(buf);
    }
}

impl Read for Key {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        let raw = <[u8; KEY_LENGTH]>::read(buf)?;
        let point = sm2::PublicKey::from_compressed(&raw)
            .map_err(|_| Error::Invalid("sm2 public key", "not a compressed point on the curve"))?;
        Ok(Self { raw, point })
    }
}

impl FixedSize for Key {
    const SIZE: usize = KEY_LENGTH;
}

impl Span for Key {}
impl Array for Key {}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.raw
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.raw
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.raw))
    }
}

impl commonware_cryptography::PublicKey for Key {}

impl commonware_cryptography::Verifier for Key {
    type Signature = Signature;

    fn verify(&self, namespace: &[u8], message: &[u8], signature: &Signature) -> bool {
        let signed = union_unique(namespace, message);
        sm2::verify(&self.point, &signed, &sm2::Signature(signature.0))
    }
}

/// An SM2 signature, r then s, as the engine sees it. Whether it is valid only `verify` says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FixedArray)]
#[fixed_array(infallible)]
#[repr(transparent)]
pub struct Signature(pub [u8; SIGNATURE_LENGTH]);

impl Write for Signature {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.write(buf);
    }
}

impl Read for Signature {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        Ok(Self(<[u8; SIGNATURE_LENGTH]>::read(buf)?))
    }
}

impl FixedSize for Signature {
    const SIZE: usize = SIGNATURE_LENGTH;
}

impl Span for Signature {}
impl Array for Signature {}

impl AsRef<[u8]> for Signature {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Signature {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl commonware_cryptography::Signature for Signature {}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_codec::{DecodeExt, Encode};
    use commonware_cryptography::Verifier as _;

    fn secret(seed: u8) -> sm2::SecretKey {
        sm2::SecretKey::from_bytes(&[seed; 32]).unwrap()
    }

    fn sign(secret: &sm2::SecretKey, namespace: &[u8], message: &[u8]) -> Signature {
        crate::own::Own::from(secret.clone()).sign(namespace, message).unwrap()
    }

    #[test]
    fn signatures_are_deterministic_and_bound_to_namespace_key_and_message() {
        let (a, b) = (secret(1), secret(2));
        let key = Key::from(a.public_key());
        let signature = sign(&a, b"ns", b"message");
        assert_eq!(signature, sign(&a, b"ns", b"message"));
        assert!(key.verify(b"ns", b"message", &signature));
        assert!(!key.verify(b"nsm", b"essage", &signature));
        assert!(!key.verify(b"ns", b"massage", &signature));
        assert!(!Key::from(b.public_key()).verify(b"ns", b"message", &signature));
        let mut bent = signature;
        bent.0[63] ^= 1;
        assert!(!key.verify(b"ns", b"message", &bent));
        assert!(!key.verify(b"ns", b"message", &Signature([0; 64])));
    }

    #[test]
    fn keys_are_33_bytes_on_the_wire_and_points_only() {
        let key = Key::from(secret(1).public_key());
        let bytes = key.encode();
        assert_eq!(bytes.len(), 33);
        assert_eq!(Key::decode(bytes.clone()).unwrap(), key);
        let mut bad = bytes.to_vec();
        bad[0] = 4;
        assert!(Key::decode(bad).is_err());
        assert!(Key::decode(vec![2; 32]).is_err());
    }
}
