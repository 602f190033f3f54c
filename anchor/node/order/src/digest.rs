//! Gives the engine SM3: its digest as the payload of a proposal, and its hasher.
//!
//! The engine is generic over both, so blocks are named by SM3 digests and nothing else is hashed
//! with another function. `Digest` is a plain array of 32 bytes on the wire.

use bytes::BufMut;
use commonware_codec::{Buf, Error, FixedArray, FixedSize, Read, ReadExt, Write};
use commonware_math::algebra::Random;
use commonware_parallel::Strategy;
use commonware_utils::{Array, Span};
use piaogen_crypto::sm3;
use rand::CryptoRng;
use std::fmt;
use std::ops::Deref;

const LENGTH: usize = 32;

/// An SM3 digest, as the engine sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FixedArray)]
#[fixed_array(infallible)]
#[repr(transparent)]
pub struct Digest(pub [u8; LENGTH]);

impl Write for Digest {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.write(buf);
    }
}

impl Read for Digest {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        Ok(Self(<[u8; LENGTH]>::read(buf)?))
    }
}

impl FixedSize for Digest {
    const SIZE: usize = LENGTH;
}

impl Span for Digest {}
impl Array for Digest {}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Digest {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl commonware_cryptography::Digest for Digest {
    const EMPTY: Self = Self([0; LENGTH]);
}

impl Random for Digest {
    fn random(mut rng: impl CryptoRng) -> Self {
        let mut bytes = [0; LENGTH];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

/// SM3, streaming or in one go.
#[derive(Default)]
pub(crate) struct Sm3 {
    inner: sm3::Hasher,
}

impl commonware_cryptography::Hasher for Sm3 {
    type Digest = Digest;

    fn hash(parts: &[&[u8]]) -> Digest {
        Digest(sm3::hash_parts(parts))
    }

    fn hash_pair(left: &[&[u8]], right: &[&[u8]], _: &impl Strategy) -> (Digest, Digest) {
        (Self::hash(left), Self::hash(right))
    }

    fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.inner.update(bytes);
        self
    }

    fn finalize(self) -> (Self, Digest) {
        let digest = Digest(self.inner.finalize());
        (Self::default(), digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_codec::{DecodeExt, Encode};
    use commonware_cryptography::Hasher as _;

    #[test]
    fn streaming_equals_one_go_and_the_standards_vector() {
        let expected = "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0";
        let mut hasher = Sm3::default();
        hasher.update(b"a").update(b"bc");
        let (again, streamed) = hasher.finalize();
        assert_eq!(streamed.to_string(), expected);
        assert_eq!(Sm3::hash(&[b"ab", b"c"]), streamed);
        assert_eq!(again.finalize().1, Sm3::hash(&[]));
    }

    #[test]
    fn digest_is_its_32_bytes_on_the_wire() {
        let digest = Digest([7; 32]);
        assert_eq!(digest.encode().as_ref(), &[7; 32]);
        assert_eq!(Digest::decode(digest.encode()).unwrap(), digest);
        assert!(Digest::decode(vec![7; 31]).is_err());
    }
}
