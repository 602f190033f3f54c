//! Reads and writes secret keys that a passphrase opens: PKCS#8 `ENCRYPTED PRIVATE KEY`, PBES2.
//!
//! Key derivation and ciphers are those of the `pkcs5` crate: PBKDF2 with SHA-2 or scrypt, AES in
//! CBC or GCM, as OpenSSL writes and reads them. PBES2 with SM3 and SM4 (GM/T 0091) is not among
//! them, and is refused by name.
//!
//! Invariants
//! - The cost of a derivation is read from the document and compared with a limit before any of it
//!   is done: who hands over a file cannot make the reader work or allocate for long.
//! - Whatever was decrypted is overwritten when dropped.

use super::key::{check_length, is_der};
use super::{KeyError, SecretKey};
use alloc::string::String;
use pkcs8::der::asn1::{AnyRef, OctetStringRef};
use pkcs8::der::pem::PemLabel;
use pkcs8::der::{Decode, Document, Encode, SecretDocument};
use pkcs8::pkcs5::pbes2::{EncryptionScheme as Cipher, Kdf, Parameters};
use pkcs8::pkcs5::{EncryptionScheme, Error as Pkcs5Error, scrypt};
use pkcs8::{AlgorithmIdentifierRef, EncryptedPrivateKeyInfoRef};

/// Most iterations of PBKDF2 that are done for a document: seconds.
pub const PBKDF2_ITERATIONS_MAX: u32 = 10_000_000;
/// Most memory that scrypt may take for a document, in MiB.
pub const SCRYPT_MIB_MAX: u64 = 256;
/// Most work of scrypt: memory times its parallelization, in MiB.
pub const SCRYPT_WORK_MIB_MAX: u64 = 1_024;
/// What is written: scrypt with 16 MiB, five times over. OpenSSL reads no more than 32 MiB.
const SCRYPT_LOG_N: u8 = 14;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 5;
/// What is random in a document: salt, then the cipher's initial block.
pub const RANDOM_LENGTH: usize = 32;

const LABEL: &str = EncryptedPrivateKeyInfoRef::PEM_LABEL;

/// Whether a document says of itself that it is encrypted; nothing else of it is looked at.
#[must_use]
pub fn is_encrypted(document: &[u8]) -> bool {
    if is_der(document) {
        return is_encrypted_der(document);
    }
    document.trim_ascii_start().starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
}

/// An algorithm, whichever, and what it made; nothing else.
fn is_encrypted_der(der: &[u8]) -> bool {
    AnyRef::from_der(der)
        .and_then(|any| {
            any.sequence(|reader| {
                AlgorithmIdentifierRef::decode(reader)?;
                <&OctetStringRef>::decode(reader).map(|_| ())
            })
        })
        .is_ok()
}

impl SecretKey {
    /// Reads an encrypted PKCS#8 document (RFC 5958, RFC 8018), PEM or DER.
    ///
    /// # Errors
    /// [`KeyError::Encrypted`] where it is none; [`KeyError::Cipher`] and [`KeyError::Cost`] before
    /// anything was derived; [`KeyError::Passphrase`] where this passphrase does not open it.
    pub fn from_pkcs8_encrypted(document: &[u8], passphrase: &[u8]) -> Result<Self, KeyError> {
        check_length(document)?;
        let der = if is_der(document) {
            Document::from_der(document).map_err(|_| KeyError::Encrypted)?
        } else {
            let text = core::str::from_utf8(document).map_err(|_| KeyError::Encrypted)?;
            let (label, der) = Document::from_pem(text).map_err(|_| KeyError::Encrypted)?;
            if label != LABEL {
                return Err(KeyError::Encrypted);
            }
            der
        };
        // The decoder stops at algorithms that it does not know, too.
        let info = EncryptedPrivateKeyInfoRef::from_der(der.as_bytes()).map_err(|_| {
            if is_encrypted_der(der.as_bytes()) { KeyError::Cipher } else { KeyError::Encrypted }
        })?;
        check_cost(&info.encryption_algorithm)?;
        let opened: SecretDocument = info.decrypt(passphrase).map_err(|error| match error {
            pkcs8::Error::EncryptedPrivateKey(
                Pkcs5Error::UnsupportedAlgorithm { .. } | Pkcs5Error::NoPbes1CryptSupport,
            ) => KeyError::Cipher,
            // A wrong passphrase gives other bytes: wrong padding, or, rarely, no document.
            _ => KeyError::Passphrase,
        })?;
        match Self::from_pkcs8_der(opened.as_bytes()) {
            Err(KeyError::SecretKeyDer { .. }) if starts_as_key(opened.as_bytes()) => {
                Err(KeyError::SecretKeyDer { length: opened.as_bytes().len() })
            }
            Err(KeyError::SecretKeyDer { .. }) => Err(KeyError::Passphrase),
            other => other,
        }
    }

    /// Writes an encrypted PKCS#8 document in PEM: scrypt and AES-256-CBC. `random` is fresh
    /// randomness, never used before.
    #[must_use]
    pub fn to_pkcs8_encrypted(&self, passphrase: &[u8], random: &[u8; RANDOM_LENGTH]) -> String {
        let params =
            scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P).expect("these are in range");
        let (salt, iv) = random.split_at(16);
        let iv = iv.try_into().expect("half of 32 bytes");
        let document = Parameters::generate_scrypt_aes256cbc(params, salt, iv)
            .and_then(|scheme| {
                let data = scheme.encrypt(passphrase, &self.to_pkcs8_der())?;
                Ok((scheme, data))
            })
            .expect("a salt of 16 bytes and a document of less than 1 KiB are in range");
        let (scheme, data) = document;
        let info = EncryptedPrivateKeyInfoRef {
            encryption_algorithm: EncryptionScheme::Pbes2(scheme),
            encrypted_data: OctetStringRef::new(&data).expect("some hundred bytes"),
        };
        let der = info.to_der().expect("some hundred bytes");
        Document::from_der(&der)
            .and_then(|document| document.to_pem(LABEL, pkcs8::LineEnding::LF))
            .expect("what was just encoded is a document")
    }
}

/// A PKCS#8 document of another algorithm than ours: its passphrase was right.
fn starts_as_key(der: &[u8]) -> bool {
    pkcs8::PrivateKeyInfoRef::from_der(der).is_ok()
}

fn check_cost(scheme: &EncryptionScheme) -> Result<(), KeyError> {
    let EncryptionScheme::Pbes2(Parameters { kdf, encryption }) = scheme else {
        return Err(KeyError::Cipher);
    };
    if !matches!(
        encryption,
        Cipher::Aes128Cbc { .. }
            | Cipher::Aes192Cbc { .. }
            | Cipher::Aes256Cbc { .. }
            | Cipher::Aes128Gcm { .. }
            | Cipher::Aes256Gcm { .. }
    ) {
        return Err(KeyError::Cipher);
    }
    match kdf {
        Kdf::Pbkdf2(params) => {
            let found = params.iteration_count;
            if found == 0 || found > PBKDF2_ITERATIONS_MAX {
                let (found, limit) = (found.into(), PBKDF2_ITERATIONS_MAX.into());
                return Err(KeyError::Cost { what: "iterations of PBKDF2", found, limit });
            }
            Ok(())
        }
        Kdf::Scrypt(params) => {
            let (n, r) = (params.cost_parameter, u64::from(params.block_size));
            if !n.is_power_of_two() || n < 2 || r == 0 || params.parallelization == 0 {
                return Err(KeyError::Cipher);
            }
            // In u128 nothing overflows: n has 64 bits, the others 16.
            let bytes = 128 * u128::from(n) * u128::from(r);
            let mib = u64::try_from(bytes >> 20).unwrap_or(u64::MAX);
            let work = mib.saturating_mul(params.parallelization.into());
            for (what, found, limit) in [
                ("MiB of memory for scrypt", mib, SCRYPT_MIB_MAX),
                ("MiB of work for scrypt", work, SCRYPT_WORK_MIB_MAX),
            ] {
                if found > limit {
                    return Err(KeyError::Cost { what, found, limit });
                }
            }
            Ok(())
        }
        _ => Err(KeyError::Cipher),
    }
}
