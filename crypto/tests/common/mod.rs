//! Makes certificates without another library, and random numbers without randomness.
//!
//! The writer of DER here is the simplest one, so that tests can also write what no CA would.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use piaogen_crypto::sm2::{PublicKey, SecretKey};

/// xorshift64*: the same numbers for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Object identifiers as DER has them, without tag and length.
pub mod oid {
    pub const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    pub const SERIAL_NUMBER: &[u8] = &[0x55, 4, 5];
    pub const ORGANIZATION: &[u8] = &[0x55, 4, 10];
    pub const ORGANIZATION_IDENTIFIER: &[u8] = &[0x55, 4, 97];
    pub const SM2_WITH_SM3: &[u8] = &[0x2a, 0x81, 0x1c, 0xcf, 0x55, 1, 0x83, 0x75];
    pub const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    pub const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
    pub const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
    pub const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
}

/// A tag, the length, the parts one after the other.
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len();
    let mut out = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    out.extend(content);
    out
}

/// A name of attributes in UTF-8.
pub fn name(attributes: &[(&[u8], &str)]) -> Vec<u8> {
    let sets: Vec<Vec<u8>> = attributes
        .iter()
        .map(|(oid, text)| {
            let pair = tlv(0x30, &[&tlv(6, &[oid]), &tlv(0x0c, &[text.as_bytes()])]);
            tlv(0x31, &[&pair])
        })
        .collect();
    tlv(0x30, &sets.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// A certificate that is to be signed.
#[derive(Clone)]
pub struct Draft {
    pub subject: Vec<u8>,
    pub issuer: Vec<u8>,
    pub spki: Vec<u8>,
    pub algorithm: &'static [u8],
    /// Identifier, whether critical, content.
    pub extensions: Vec<(&'static [u8], bool, Vec<u8>)>,
}

impl Draft {
    /// A certificate to sign records with.
    pub fn new(subject: &[(&[u8], &str)], issuer: &[(&[u8], &str)], key: &PublicKey) -> Self {
        // digitalSignature, nonRepudiation.
        let usage = (oid::KEY_USAGE, true, tlv(3, &[&[6, 0xc0]]));
        Self {
            subject: name(subject),
            issuer: name(issuer),
            spki: key.to_spki_der(),
            algorithm: oid::SM2_WITH_SM3,
            extensions: vec![usage],
        }
    }

    /// A certificate to issue others with, and at most so many CAs below it.
    pub fn ca(mut self, most: Option<u8>) -> Self {
        let most = most.map(|most| tlv(2, &[&[most]])).unwrap_or_default();
        let constraints = tlv(0x30, &[&[1, 1, 0xff], &most]);
        // keyCertSign, cRLSign.
        self.extensions = vec![
            (oid::BASIC_CONSTRAINTS, true, constraints),
            (oid::KEY_USAGE, true, tlv(3, &[&[1, 6]])),
        ];
        self
    }

    /// With other bits of keyUsage, the first one in 0x80.
    pub fn usage(mut self, bits: u8) -> Self {
        self.extensions.retain(|(oid, ..)| *oid != oid::KEY_USAGE);
        let unused = bits.trailing_zeros() as u8;
        self.extensions.push((oid::KEY_USAGE, true, tlv(3, &[&[unused, bits]])));
        self
    }

    pub fn sign(&self, key: &SecretKey) -> Vec<u8> {
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|(oid, critical, content)| {
                let critical: &[u8] = if *critical { &[1, 1, 0xff] } else { &[] };
                tlv(0x30, &[&tlv(6, &[oid]), critical, &tlv(4, &[content])])
            })
            .collect();
        let algorithm = tlv(0x30, &[&tlv(6, &[self.algorithm])]);
        let validity =
            tlv(0x30, &[&tlv(0x17, &[b"260101000000Z"]), &tlv(0x18, &[b"20560101000000Z"])]);
        let mut parts: Vec<Vec<u8>> = vec![
            tlv(0xa0, &[&[2, 1, 2]]),
            tlv(2, &[&[0x12, 0x34]]),
            algorithm.clone(),
            self.issuer.clone(),
            validity,
            self.subject.clone(),
            self.spki.clone(),
        ];
        if !extensions.is_empty() {
            parts.push(tlv(0xa3, &[&tlv(0x30, &[&extensions])]));
        }
        let signed = tlv(0x30, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let signature = tlv(3, &[&[0], &key.sign(&signed).to_der()]);
        tlv(0x30, &[&signed, &algorithm, &signature])
    }
}

/// A document in PEM, in lines of 64 letters.
pub fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (i, chunk) in der.chunks(3).enumerate() {
        if i > 0 && i % 16 == 0 {
            text.push('\n');
        }
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = (word >> (18 - 6 * place)) as usize % 64;
            text.push(if place > chunk.len() { '=' } else { char::from(ALPHABET[sextet]) });
        }
    }
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}
