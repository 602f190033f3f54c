//! Holds SM2 keys that are valid by construction, and reads and writes their usual encodings.
//!
//! A public key carries what verification needs of it again and again: the decoded point, its bytes
//! and Z. It is 200 bytes inline without a pointer, so a clone is a copy and never touches a
//! counter shared between threads. Equality and hash go by the point alone.

use super::{Signature, base, scalar_in_range, sign_digest, z};
use crate::{Digest, sm3};
use ::sm2::elliptic_curve::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding,
};
use ::sm2::elliptic_curve::{PrimeField, sec1::ToSec1Point};
use ::sm2::{AffinePoint, ProjectivePoint, Scalar};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};
use zeroize::{Zeroize, Zeroizing};

/// Prefix of the hash that makes a key id of a public key.
const KEY_ID_PREFIX: u8 = 0x05;

/// Most bytes of a key's document in PEM or DER; usual ones have a few hundred.
pub const DOCUMENT_MAX: usize = 16 << 10;

pub(super) fn check_length(document: &[u8]) -> Result<(), KeyError> {
    let length = document.len();
    if length > DOCUMENT_MAX { Err(KeyError::DocumentTooLong { length }) } else { Ok(()) }
}

/// Whether a document is DER: it begins with a SEQUENCE. (PEM begins with text, mostly a hyphen.)
pub(super) fn is_der(document: &[u8]) -> bool {
    document.first() == Some(&0x30)
}

/// Why bytes are not a key or not a signature. All of these are of the class *Refused*: the input
/// is wrong and stays wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Neither a compressed nor an uncompressed point.
    #[error(
        "public key of {length} bytes with first byte {first:#04x} is no SEC1 point; \
         send 33 bytes that begin with 02 or 03, or 65 that begin with 04"
    )]
    PublicKeyForm {
        /// Length found.
        length: usize,
        /// First byte found, 0 if there is none. (A lone 0 is the point at infinity.)
        first: u8,
    },
    /// Coordinates that no point of the curve has.
    #[error("public key is not a point of curve sm2p256v1; send the key that its owner published")]
    NotOnCurve,
    /// The secret number is 0, n-1 or larger.
    #[error("secret key is outside 1..=n-2 of curve sm2p256v1; generate a new one")]
    SecretKeyRange,
    /// Not a PEM document with an SM2 public key.
    #[error("text is no SM2 public key in SPKI PEM; write one with `openssl pkey -pubout`")]
    PublicKeyPem,
    /// Not a DER document with an SM2 public key.
    #[error(
        "{length} bytes are no SM2 public key in SPKI DER; write one with `openssl pkey -pubout \
         -outform DER`"
    )]
    PublicKeyDer {
        /// Length found.
        length: usize,
    },
    /// Not a PEM document with an SM2 secret key.
    #[error("text is no SM2 secret key in unencrypted PKCS#8 PEM; write one with `openssl pkey`")]
    SecretKeyPem,
    /// Not a DER document with an SM2 secret key.
    #[error(
        "{length} bytes are no SM2 secret key in unencrypted PKCS#8 DER; write one with `openssl \
         pkcs8 -topk8 -nocrypt -outform DER`"
    )]
    SecretKeyDer {
        /// Length found.
        length: usize,
    },
    /// No document of a key that a passphrase opens.
    #[error(
        "document is no PKCS#8 ENCRYPTED PRIVATE KEY that can be read here (PBES2 with PBKDF2 or \
         scrypt, and AES); write one with `openssl pkcs8 -topk8 -v2 aes-256-cbc`"
    )]
    Encrypted,
    /// Encrypted in a way that is not read here.
    #[error(
        "key is encrypted with another scheme than PBES2 with PBKDF2 or scrypt, and AES; encrypt \
         it again with `openssl pkcs8 -topk8 -v2 aes-256-cbc` (SM3 and SM4 are not read)"
    )]
    Cipher,
    /// Opening it would take too much work.
    #[error(
        "encrypted key asks for {found} {what}, at most {limit} are done; encrypt it again with less"
    )]
    Cost {
        /// Of what.
        what: &'static str,
        /// How many it asks for.
        found: u64,
        /// Most that are done.
        limit: u64,
    },
    /// The passphrase does not open it.
    #[error("passphrase does not open this key; give the one with which it was encrypted")]
    Passphrase,
    /// Longer than any key that is written here or by OpenSSL.
    #[error(
        "key document of {length} bytes is above the limit of {DOCUMENT_MAX}; send the key only"
    )]
    DocumentTooLong {
        /// Length found.
        length: usize,
    },
    /// Not the one DER form of two integers below 2^256.
    #[error(
        "signature of {length} bytes is not strict DER of two integers of at most 32 bytes; \
         encode it as SEQUENCE of INTEGER r, INTEGER s"
    )]
    SignatureDer {
        /// Length found.
        length: usize,
    },
}

/// A point of the curve other than infinity.
#[derive(Clone)]
pub struct PublicKey {
    point: AffinePoint,
    /// 04 || x || y.
    bytes: [u8; 65],
    z: Digest,
}

impl PublicKey {
    /// Reads a compressed point.
    ///
    /// # Errors
    /// [`KeyError::PublicKeyForm`] or [`KeyError::NotOnCurve`].
    pub fn from_compressed(bytes: &[u8; 33]) -> Result<Self, KeyError> {
        Self::from_sec1(bytes)
    }

    /// Reads a point, compressed (33 bytes) or not (65 bytes).
    ///
    /// # Errors
    /// [`KeyError::PublicKeyForm`] or [`KeyError::NotOnCurve`].
    pub fn from_sec1(bytes: &[u8]) -> Result<Self, KeyError> {
        match (bytes.len(), bytes.first()) {
            (33, Some(2 | 3)) | (65, Some(4)) => {}
            (length, first) => {
                return Err(KeyError::PublicKeyForm { length, first: first.copied().unwrap_or(0) });
            }
        }
        let key = ::sm2::PublicKey::from_sec1_bytes(bytes).map_err(|_| KeyError::NotOnCurve)?;
        Ok(Self::from_inner(&key))
    }

    fn from_inner(key: &::sm2::PublicKey) -> Self {
        let mut bytes = [0; 65];
        bytes.copy_from_slice(key.to_sec1_point(false).as_bytes());
        Self { point: *key.as_affine(), bytes, z: z(&bytes[1..]) }
    }

    /// The generator itself, the public key of d = 1.
    pub(super) fn generator() -> Self {
        let key = ::sm2::PublicKey::from_affine(AffinePoint::GENERATOR);
        Self::from_inner(&key.expect("the generator is not infinity"))
    }

    /// Reads an SPKI document (RFC 5280) in PEM.
    ///
    /// # Errors
    /// [`KeyError::PublicKeyPem`] or [`KeyError::DocumentTooLong`].
    pub fn from_spki_pem(pem: &str) -> Result<Self, KeyError> {
        check_length(pem.as_bytes())?;
        let key = ::sm2::PublicKey::from_public_key_pem(pem).map_err(|_| KeyError::PublicKeyPem)?;
        Ok(Self::from_inner(&key))
    }

    /// Reads an SPKI document (RFC 5280) in DER, with the point compressed or not.
    ///
    /// # Errors
    /// [`KeyError::PublicKeyDer`] or [`KeyError::DocumentTooLong`].
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        check_length(der)?;
        let key = ::sm2::PublicKey::from_public_key_der(der)
            .map_err(|_| KeyError::PublicKeyDer { length: der.len() })?;
        Ok(Self::from_inner(&key))
    }

    /// Reads an SPKI document, whichever of PEM and DER it is in.
    ///
    /// # Errors
    /// As [`PublicKey::from_spki_pem`] or [`PublicKey::from_spki_der`].
    pub fn from_spki(document: &[u8]) -> Result<Self, KeyError> {
        check_length(document)?;
        if is_der(document) {
            return Self::from_spki_der(document);
        }
        Self::from_spki_pem(core::str::from_utf8(document).map_err(|_| KeyError::PublicKeyPem)?)
    }

    /// Writes an SPKI document in DER.
    #[must_use]
    pub fn to_spki_der(&self) -> Vec<u8> {
        ::sm2::PublicKey::from_affine(self.point)
            .ok()
            .and_then(|key| key.to_public_key_der().ok())
            .expect("a valid point encodes")
            .into_vec()
    }

    /// Writes an SPKI document in PEM.
    #[must_use]
    pub fn to_spki_pem(&self) -> String {
        ::sm2::PublicKey::from_affine(self.point)
            .ok()
            .and_then(|key| key.to_public_key_pem(LineEnding::LF).ok())
            .expect("a valid point encodes")
    }

    /// The parity of y as 02 or 03, then x.
    #[must_use]
    pub fn to_compressed(&self) -> [u8; 33] {
        let mut bytes = [0; 33];
        bytes.copy_from_slice(&self.bytes[..33]);
        bytes[0] = 2 + (self.bytes[64] & 1);
        bytes
    }

    /// 04, x, y.
    #[must_use]
    pub fn to_uncompressed(&self) -> [u8; 65] {
        self.bytes
    }

    /// The name of this key in records: SM3 of 0x05, x, y.
    #[must_use]
    pub fn key_id(&self) -> Digest {
        let mut message = self.bytes;
        message[0] = KEY_ID_PREFIX;
        sm3::hash(&message)
    }

    /// Z, the hash of the default distinguishing id, the curve and this key.
    #[must_use]
    pub fn z(&self) -> &Digest {
        &self.z
    }

    /// e = SM3(Z || M), which a signature of `message` covers.
    #[must_use]
    pub fn message_digest(&self, message: &[u8]) -> Digest {
        sm3::hash_parts(&[&self.z, message])
    }

    pub(super) fn point(&self) -> ProjectivePoint {
        self.point.into()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for PublicKey {}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", hex::encode(self.to_compressed()))
    }
}

/// A number d in 1..=n-2; overwritten when dropped, never printed.
#[derive(Clone)]
pub struct SecretKey {
    d: Scalar,
    /// (1+d)^-1, which every signature needs.
    inverse: Scalar,
    public: PublicKey,
}

impl SecretKey {
    /// Takes d, big-endian. Random bytes are refused with a chance of 2^-32.
    ///
    /// # Errors
    /// [`KeyError::SecretKeyRange`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let d = Zeroizing::new(scalar_in_range(bytes).ok_or(KeyError::SecretKeyRange)?);
        // 1+d is zero for d = n-1, which can sign nothing.
        let inverse = Option::from((*d + Scalar::ONE).invert()).ok_or(KeyError::SecretKeyRange)?;
        let point = base::multiply(&d).to_affine();
        let public = ::sm2::PublicKey::from_affine(point).map_err(|_| KeyError::SecretKeyRange)?;
        Ok(Self { d: *d, inverse, public: PublicKey::from_inner(&public) })
    }

    /// d, big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.d.to_repr().into())
    }

    /// Reads an unencrypted PKCS#8 document (RFC 5958) in PEM.
    ///
    /// # Errors
    /// [`KeyError::SecretKeyPem`], [`KeyError::SecretKeyRange`] or [`KeyError::DocumentTooLong`].
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyError> {
        check_length(pem.as_bytes())?;
        let key = ::sm2::SecretKey::from_pkcs8_pem(pem).map_err(|_| KeyError::SecretKeyPem)?;
        Self::from_bytes(&Zeroizing::new(key.to_bytes().into()))
    }

    /// Reads an unencrypted PKCS#8 document (RFC 5958) in DER.
    ///
    /// # Errors
    /// [`KeyError::SecretKeyDer`], [`KeyError::SecretKeyRange`] or [`KeyError::DocumentTooLong`].
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        check_length(der)?;
        let key = ::sm2::SecretKey::from_pkcs8_der(der)
            .map_err(|_| KeyError::SecretKeyDer { length: der.len() })?;
        Self::from_bytes(&Zeroizing::new(key.to_bytes().into()))
    }

    /// Reads an unencrypted PKCS#8 document, whichever of PEM and DER it is in.
    ///
    /// # Errors
    /// As [`SecretKey::from_pkcs8_pem`] or [`SecretKey::from_pkcs8_der`].
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, KeyError> {
        check_length(document)?;
        if is_der(document) {
            return Self::from_pkcs8_der(document);
        }
        Self::from_pkcs8_pem(core::str::from_utf8(document).map_err(|_| KeyError::SecretKeyPem)?)
    }

    /// Writes an unencrypted PKCS#8 document in DER.
    #[must_use]
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        ::sm2::SecretKey::from_bytes(&(*self.to_bytes()).into())
            .ok()
            .and_then(|key| key.to_pkcs8_der().ok())
            .expect("a valid scalar encodes")
            .to_bytes()
    }

    /// Writes an unencrypted PKCS#8 document in PEM.
    #[must_use]
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        ::sm2::SecretKey::from_bytes(&(*self.to_bytes()).into())
            .ok()
            .and_then(|key| key.to_pkcs8_pem(LineEnding::LF).ok())
            .expect("a valid scalar encodes")
    }

    /// The public key that belongs to this one.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public.clone()
    }

    /// Signs `message` (the message itself) under [`super::DEFAULT_ID`]; the nonce is derived from
    /// key and message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.sign_with_entropy(message, &[])
    }

    /// As [`SecretKey::sign`], with fresh randomness mixed into the nonce, which makes attacks by
    /// injected faults harder. Weak or repeated entropy does no harm.
    #[must_use]
    pub fn sign_with_entropy(&self, message: &[u8], entropy: &[u8]) -> Signature {
        sign_digest(self, &self.public.message_digest(message), entropy)
    }

    /// As [`SecretKey::public_key`], without a copy.
    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn scalar(&self) -> &Scalar {
        &self.d
    }

    pub(super) fn inverse(&self) -> &Scalar {
        &self.inverse
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.d.zeroize();
        self.inverse.zeroize();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}
