//! Reads X.509 certificates with SM2 keys (RFC 5280, GM/T 0015), as proof of who owns a key.
//!
//! An authority that registers a participant wants three facts of a certificate: whose it is, which
//! key it names, and whether somebody the authority trusts has signed that. The format is read by
//! the `x509-cert` crate; the rules about what a certificate may be used for are here. There is no
//! clock: the dates are given, and whoever asks compares them.
//!
//! Many CAs hand out certificates in pairs, one key to sign with and one, held in escrow, to
//! encrypt with. The second must never sign records, so a certificate whose `keyUsage` does not
//! allow signatures is refused.
//!
//! Invariants
//! - The key of a [`Certificate`] is a point of the curve and may sign, records or certificates.
//! - Signatures are checked over the bytes that were read, never over bytes written again.
//! - Lengths are bounded before anything is decoded; no bytes make it panic.
//! - Revocation is not asked for: that needs a network.

use crate::sm2::{self, PublicKey, Signature};
use ::sm2::elliptic_curve::pkcs8::der::asn1::{BmpString, ObjectIdentifier};
use ::sm2::elliptic_curve::pkcs8::der::{Decode, Encode, Reader, SliceReader, Tag, Tagged};
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use x509_cert::name::Name;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::{TbsCertificate, certificate::Version};

/// Most bytes of one certificate; usual ones have one or two thousand.
pub const CERTIFICATE_MAX: usize = 32 << 10;
/// Most certificates of a chain, and of a file.
pub const CHAIN_MAX: usize = 8;

/// SM2 signature with SM3 (GM/T 0006).
const SM2_WITH_SM3: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.501");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SERIAL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.5");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
const ORGANIZATION_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.97");
/// Extensions that may be critical: key usage and basic constraints are obeyed, alternative names
/// and extended usages (of TLS and mail) take nothing from what is read here.
const UNDERSTOOD: [&str; 4] = ["2.5.29.15", "2.5.29.19", "2.5.29.17", "2.5.29.37"];

/// Why bytes are not a certificate that this project can use, or a chain does not hold. All of
/// these are of the class *Refused*.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Longer than [`CERTIFICATE_MAX`], or a file longer than [`CHAIN_MAX`] of them in PEM.
    #[error("{length} bytes of certificates are above the limit of {limit}; send one chain only")]
    TooLong {
        /// Length found.
        length: usize,
        /// Length allowed.
        limit: usize,
    },
    /// A chain of no certificate, or of too many.
    #[error("{count} certificates, not 1 to {CHAIN_MAX}; send one, and its issuers if need be")]
    Count {
        /// How many.
        count: usize,
    },
    /// Not an X.509 certificate.
    #[error("not an X.509 certificate in PEM or DER; write one with `openssl x509`")]
    Form,
    /// A key of another kind.
    #[error(
        "certificate of a key that is not SM2 (id-ecPublicKey on curve 1.2.156.10197.1.301), or of \
         a point that is not on the curve; send the certificate of an SM2 key"
    )]
    NotSm2,
    /// The key may not sign.
    #[error(
        "certificate of a key that is not for signatures (keyUsage); send the signing certificate \
         of the pair, not the one for encryption"
    )]
    Usage,
    /// An extension that is critical and unknown.
    #[error("critical extension {oid} is not understood; ask the CA for a certificate without it")]
    Extension {
        /// Which.
        oid: String,
    },
    /// The name of the issuer is another than that of the certificate said to be the issuer's.
    #[error("certificate {place} of the chain was issued by another than the next one names")]
    OtherIssuer {
        /// Its place in the chain, 0 for the first.
        place: usize,
    },
    /// The issuer's certificate does not allow it to issue this one.
    #[error(
        "certificate {place} of the chain may not issue the one before it (basicConstraints, \
         keyUsage, path length); send the certificate of the CA"
    )]
    NotCa {
        /// Its place in the chain.
        place: usize,
    },
    /// Signed with another algorithm.
    #[error(
        "certificate {place} of the chain is signed with algorithm {oid}, not with SM2 and SM3 \
         (1.2.156.10197.1.501)"
    )]
    Algorithm {
        /// Its place in the chain.
        place: usize,
        /// The algorithm found.
        oid: String,
    },
    /// The signature is false.
    #[error("signature of certificate {place} of the chain is not its issuer's")]
    Signature {
        /// Its place in the chain.
        place: usize,
    },
}

/// Whom a certificate names: an X.501 name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DistinguishedName(Name);

impl DistinguishedName {
    /// The name as RFC 4514 writes it. It is another's text: it may hold any letters, those that
    /// turn the direction of writing among them.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.to_string()
    }

    /// `commonName`, if there is exactly one and it is text.
    #[must_use]
    pub fn common_name(&self) -> Option<String> {
        self.only(COMMON_NAME)
    }

    /// `organizationName`, if there is exactly one and it is text.
    #[must_use]
    pub fn organization(&self) -> Option<String> {
        self.only(ORGANIZATION)
    }

    /// `organizationIdentifier` (2.5.4.97), if there is exactly one and it is text.
    #[must_use]
    pub fn organization_identifier(&self) -> Option<String> {
        self.only(ORGANIZATION_IDENTIFIER)
    }

    /// `serialNumber` (2.5.4.5; of the subject, not of the certificate), if there is exactly one and
    /// it is text.
    #[must_use]
    pub fn serial_number(&self) -> Option<String> {
        self.only(SERIAL_NUMBER)
    }

    fn only(&self, oid: ObjectIdentifier) -> Option<String> {
        let mut found = self.0.iter().filter(|attribute| attribute.oid == oid);
        let first = found.next()?;
        if found.next().is_some() { None } else { text(first) }
    }
}

/// The text of an attribute, in the encodings that CAs use.
fn text(attribute: &AttributeTypeAndValue) -> Option<String> {
    let bytes = attribute.value.value();
    match attribute.value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => {
            core::str::from_utf8(bytes).ok().map(ToOwned::to_owned)
        }
        Tag::BmpString => BmpString::from_ucs2(bytes).ok().map(|text| text.chars().collect()),
        _ => None,
    }
}

/// A certificate of an SM2 key. Read, not yet believed: see [`check_chain`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    /// Where the signed part lies in `der`.
    signed: core::ops::Range<usize>,
    tbs: TbsCertificate,
    algorithm: AlgorithmIdentifierOwned,
    /// Nothing if it is not one that SM2 makes.
    signature: Option<Signature>,
    key: PublicKey,
    subject: DistinguishedName,
    issuer: DistinguishedName,
    /// Nothing if it may not issue; else how many CAs may follow.
    ca: Option<u8>,
    /// Whether it may sign anything but certificates and lists.
    signs: bool,
}

impl Certificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// Any but those of chains.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > CERTIFICATE_MAX {
            return Err(CertificateError::TooLong { length: der.len(), limit: CERTIFICATE_MAX });
        }
        let (signed, algorithm, signature) = parts(der).ok_or(CertificateError::Form)?;
        let tbs =
            TbsCertificate::from_der(&der[signed.clone()]).map_err(|_| CertificateError::Form)?;
        let spki = tbs.subject_public_key_info().to_der().map_err(|_| CertificateError::Form)?;
        let key = PublicKey::from_spki_der(&spki).map_err(|_| CertificateError::NotSm2)?;
        let (ca, signs) = usage(&tbs)?;
        if ca.is_none() && !signs {
            return Err(CertificateError::Usage);
        }
        Ok(Self {
            der: der.to_vec(),
            subject: DistinguishedName(tbs.subject().clone()),
            issuer: DistinguishedName(tbs.issuer().clone()),
            signature: Signature::from_der(&signature).ok(),
            signed,
            tbs,
            algorithm,
            key,
            ca,
            signs,
        })
    }

    /// Reads a certificate in PEM or DER, and those that follow it in a PEM file.
    ///
    /// # Errors
    /// As [`Certificate::from_der`]; [`CertificateError::Count`].
    pub fn read(bytes: &[u8]) -> Result<Vec<Self>, CertificateError> {
        let limit = CHAIN_MAX * 2 * CERTIFICATE_MAX;
        if bytes.len() > limit {
            return Err(CertificateError::TooLong { length: bytes.len(), limit });
        }
        if bytes.first() == Some(&0x30) {
            return Ok(Vec::from([Self::from_der(bytes)?]));
        }
        let mut text = core::str::from_utf8(bytes).map_err(|_| CertificateError::Form)?;
        let mut found = Vec::new();
        while let Some((document, rest)) = next_pem(text) {
            if found.len() == CHAIN_MAX {
                return Err(CertificateError::Count { count: CHAIN_MAX + 1 });
            }
            found.push(Self::from_pem(document)?);
            text = rest;
        }
        if found.is_empty() { Err(CertificateError::Form) } else { Ok(found) }
    }

    fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        use ::sm2::elliptic_curve::pkcs8::der::Document;
        let (label, document) = Document::from_pem(pem).map_err(|_| CertificateError::Form)?;
        if label != "CERTIFICATE" {
            return Err(CertificateError::Form);
        }
        Self::from_der(document.as_bytes())
    }

    /// The bytes that were read, in DER.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Whose key it is.
    #[must_use]
    pub fn subject(&self) -> &DistinguishedName {
        &self.subject
    }

    /// Who says so.
    #[must_use]
    pub fn issuer(&self) -> &DistinguishedName {
        &self.issuer
    }

    /// The issuer's number for it, in hex.
    #[must_use]
    pub fn number(&self) -> String {
        hex::encode(self.tbs.serial_number().as_bytes())
    }

    /// The first and the last second of its validity, in seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn validity(&self) -> (u64, u64) {
        let validity = self.tbs.validity();
        let seconds = |time: &x509_cert::time::Time| time.to_unix_duration().as_secs();
        (seconds(&validity.not_before), seconds(&validity.not_after))
    }

    /// As [`Certificate::validity`], written like 2026-11-21T10:00:00Z.
    #[must_use]
    pub fn validity_text(&self) -> (String, String) {
        let validity = self.tbs.validity();
        let text = |time: &x509_cert::time::Time| time.to_date_time().to_string();
        (text(&validity.not_before), text(&validity.not_after))
    }

    /// Whether it may sign records: its `keyUsage`, if there is one, allows signatures of data.
    #[must_use]
    pub fn may_sign(&self) -> bool {
        self.signs
    }

    /// Whether it names itself as its issuer.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether `issuer` issued it, as the certificate at `place` of a chain with `below` CAs
    /// between the two ends that are not self-issued.
    fn check(&self, issuer: &Self, place: usize, below: usize) -> Result<(), CertificateError> {
        if self.issuer != issuer.subject {
            return Err(CertificateError::OtherIssuer { place });
        }
        if issuer.ca.is_none_or(|most| below > usize::from(most)) {
            return Err(CertificateError::NotCa { place: place + 1 });
        }
        self.check_signature(issuer, place)
    }

    fn check_signature(&self, issuer: &Self, place: usize) -> Result<(), CertificateError> {
        let null = |parameters: &x509_cert::der::Any| parameters.is_null();
        let plain = self.algorithm.parameters.as_ref().is_none_or(null);
        if self.algorithm.oid != SM2_WITH_SM3
            || !plain
            || self.tbs.signature().oid != self.algorithm.oid
        {
            return Err(CertificateError::Algorithm { place, oid: self.algorithm.oid.to_string() });
        }
        let signed = &self.der[self.signed.clone()];
        match &self.signature {
            Some(signature) if sm2::verify(&issuer.key, signed, signature) => Ok(()),
            _ => Err(CertificateError::Signature { place }),
        }
    }
}

/// Checks that each certificate of a chain is issued by the next, and a self-issued last one by
/// itself; the first is the one that is wanted. Whether the last one is to be trusted, whether they
/// are valid today and whether they are revoked is not asked.
///
/// The distinguishing id of every issuer is [`sm2::DEFAULT_ID`], as GM/T 0015 has it.
///
/// # Errors
/// The errors of chains, for the first certificate that does not hold.
pub fn check_chain(chain: &[Certificate]) -> Result<(), CertificateError> {
    if chain.is_empty() || chain.len() > CHAIN_MAX {
        return Err(CertificateError::Count { count: chain.len() });
    }
    let mut below = 0;
    for (place, pair) in chain.windows(2).enumerate() {
        below += usize::from(place > 0 && !pair[0].is_self_issued());
        pair[0].check(&pair[1], place, below)?;
    }
    match chain.last() {
        Some(last) if last.is_self_issued() => last.check_signature(last, chain.len() - 1),
        _ => Ok(()),
    }
}

/// Where the signed part lies, the algorithm, and the bytes of the signature.
fn parts(der: &[u8]) -> Option<(core::ops::Range<usize>, AlgorithmIdentifierOwned, Vec<u8>)> {
    use ::sm2::elliptic_curve::pkcs8::der::{Header, asn1::BitString};
    let mut reader = SliceReader::new(der).ok()?;
    let outer = Header::decode(&mut reader).ok()?;
    let start = usize::try_from(reader.position()).ok()?;
    if outer.tag() != Tag::Sequence || reader.remaining_len() != outer.length() {
        return None;
    }
    let length = reader.tlv_bytes().ok()?.len();
    let algorithm = AlgorithmIdentifierOwned::decode(&mut reader).ok()?;
    let signature = BitString::decode(&mut reader).ok()?;
    reader.finish().ok()?;
    Some((start..start + length, algorithm, signature.as_bytes()?.to_vec()))
}

/// Whether it may issue, and how many CAs may then follow; whether it may sign anything else.
fn usage(tbs: &TbsCertificate) -> Result<(Option<u8>, bool), CertificateError> {
    let extensions = tbs.extensions().map_or(&[][..], |list| &list[..]);
    if !extensions.is_empty() && tbs.version() != Version::V3 {
        return Err(CertificateError::Form);
    }
    for (i, extension) in extensions.iter().enumerate() {
        let oid = extension.extn_id;
        if extensions[..i].iter().any(|earlier| earlier.extn_id == oid) {
            return Err(CertificateError::Form);
        }
        if extension.critical && !UNDERSTOOD.contains(&oid.to_string().as_str()) {
            return Err(CertificateError::Extension { oid: oid.to_string() });
        }
    }
    let constraints =
        tbs.get_extension::<BasicConstraints>().map_err(|_| CertificateError::Form)?;
    let usage = tbs.get_extension::<KeyUsage>().map_err(|_| CertificateError::Form)?;
    let may = |allowed: fn(&KeyUsage) -> bool| usage.as_ref().is_none_or(|(_, u)| allowed(u));
    let ca = constraints
        .filter(|(_, constraints)| constraints.ca && may(KeyUsage::key_cert_sign))
        .map(|(_, constraints)| constraints.path_len_constraint.unwrap_or(u8::MAX));
    Ok((ca, may(|usage| usage.digital_signature() || usage.non_repudiation())))
}

/// The next PEM document, and what follows it.
fn next_pem(text: &str) -> Option<(&str, &str)> {
    const END: &str = "-----END ";
    let from = text.find("-----BEGIN ")?;
    let end = from + text[from..].find(END)? + END.len();
    let end = end + text[end..].find("-----")? + 5;
    Some((&text[from..end], &text[end..]))
}
