//! Signs and verifies with SM2 (GB/T 32918.2-2016) on curve sm2p256v1, with SM3.
//!
//! Curve, field and scalar arithmetic come from the `sm2` crate; the signature scheme on top is
//! written out here, because ours keeps Z in the public key and (1+d)^-1 in the secret key,
//! allocates nothing, and cannot fail to sign. A test holds it equal to the crate's own scheme.
//!
//! A signature covers e = SM3(Z || M), where Z binds the signer's distinguishing id, always
//! [`DEFAULT_ID`] here, and the public key.

mod base;
#[cfg(feature = "encrypted")]
pub mod encrypted;
mod key;
pub(crate) mod lanes;
mod nonce;
mod signature;
mod signer;
#[cfg(test)]
mod tests;

pub use self::key::{DOCUMENT_MAX, KeyError, PublicKey, SecretKey};
pub use self::lanes::{CacheStats, KeyTable, KeyTables, Plan};
pub use self::signature::Signature;
pub use self::signer::{SignError, Signer};

use crate::{Digest, sm3};
use ::sm2::elliptic_curve::ops::{MulByGeneratorVartime, Reduce};
use ::sm2::elliptic_curve::{Group, PrimeField, point::AffineCoordinates};
use ::sm2::{FieldBytes, ProjectivePoint, Scalar};
use zeroize::Zeroizing;

/// The distinguishing id of every signer, as the standard recommends where none is agreed.
pub const DEFAULT_ID: &[u8] = b"1234567812345678";

/// One verification of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Who is said to have signed.
    pub key: &'a PublicKey,
    /// The message M itself, not a digest.
    pub message: &'a [u8],
    /// What is said to be the signature.
    pub signature: &'a Signature,
}

/// Whether `signature` is `key`'s signature of `message`. Never panics.
#[must_use]
pub fn verify(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    verify_digest(key, &key.message_digest(message), signature)
}

/// Steps B1 to B7 of the standard, with e given.
pub(crate) fn verify_digest(key: &PublicKey, e: &Digest, signature: &Signature) -> bool {
    let (Some(r), Some(s)) = (scalar_in_range(signature.r()), scalar_in_range(signature.s()))
    else {
        return false;
    };
    let t = r + s;
    if bool::from(t.is_zero()) {
        return false;
    }
    let point = ProjectivePoint::mul_by_generator_and_mul_add_vartime(&s, &t, &key.point());
    if bool::from(point.is_identity()) {
        return false;
    }
    r == reduce(e) + Scalar::reduce(&point.to_affine().x())
}

/// A number in 1..=n-1, or nothing.
fn scalar_in_range(bytes: &[u8; 32]) -> Option<Scalar> {
    let scalar = Option::<Scalar>::from(Scalar::from_repr(FieldBytes::from(*bytes)))?;
    (!bool::from(scalar.is_zero())).then_some(scalar)
}

fn reduce(bytes: &[u8; 32]) -> Scalar {
    Scalar::reduce(&FieldBytes::from(*bytes))
}

/// Steps A3 to A7 of the standard, with e given. The nonce comes from key, digest and `entropy`
/// (RFC 6979 with SM3, section 3.6 for the entropy); the loop is the standard's return to A3.
fn sign_digest(key: &SecretKey, e: &Digest, entropy: &[u8]) -> Signature {
    let e = reduce(e);
    let mut nonces = nonce::Nonces::new(&key.to_bytes(), &e.to_repr().into(), entropy);
    loop {
        let k = nonces.next();
        if let Some(signature) = sign_with_nonce(key, &e, *k) {
            return signature;
        }
    }
}

/// The signature for one nonce, or nothing where the standard wants another nonce.
fn sign_with_nonce(key: &SecretKey, e: &Scalar, k: Scalar) -> Option<Signature> {
    let k = Zeroizing::new(k);
    let x = base::multiply(&k).to_affine().x();
    signature_with_x(key, e, &k, &x.into())
}

/// As [`sign_with_nonce`], with the x of k G given.
fn signature_with_x(key: &SecretKey, e: &Scalar, k: &Scalar, x: &[u8; 32]) -> Option<Signature> {
    let r = *e + reduce(x);
    if bool::from(r.is_zero()) || bool::from((r + *k).is_zero()) {
        return None;
    }
    let s = *key.inverse() * (*k - r * key.scalar());
    (!bool::from(s.is_zero()))
        .then(|| Signature::from_parts(&r.to_repr().into(), &s.to_repr().into()))
}

/// Z of the standard for a point given by its coordinates: x || y.
fn z(x_y: &[u8]) -> Digest {
    const BITS: [u8; 2] = (8 * DEFAULT_ID.len() as u16).to_be_bytes();
    // a, b and the generator's coordinates.
    const CURVE: [u8; 128] = *b"\
        \xff\xff\xff\xfe\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
        \xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xfc\
        \x28\xe9\xfa\x9e\x9d\x9f\x5e\x34\x4d\x5a\x9e\x4b\xcf\x65\x09\xa7\
        \xf3\x97\x89\xf5\x15\xab\x8f\x92\xdd\xbc\xbd\x41\x4d\x94\x0e\x93\
        \x32\xc4\xae\x2c\x1f\x19\x81\x19\x5f\x99\x04\x46\x6a\x39\xc9\x94\
        \x8f\xe3\x0b\xbf\xf2\x66\x0b\xe1\x71\x5a\x45\x89\x33\x4c\x74\xc7\
        \xbc\x37\x36\xa2\xf4\xf6\x77\x9c\x59\xbd\xce\xe3\x6b\x69\x21\x53\
        \xd0\xa9\x87\x7c\xc6\x2a\x47\x40\x02\xdf\x32\xe5\x21\x39\xf0\xa0";
    sm3::hash_parts(&[&BITS, DEFAULT_ID, &CURVE, x_y])
}
