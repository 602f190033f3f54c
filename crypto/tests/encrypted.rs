//! Opens keys that a passphrase closes: ours and OpenSSL's in both directions, wrong passphrases,
//! documents that ask for too much work, and documents with bytes changed.
//!
//! Where there is no `openssl` command that can do SM2, the exchange says so and passes.

#![allow(clippy::unwrap_used, reason = "a test; helpers outside test functions included")]

mod common;

use common::Random;
use piaogen_crypto::sm2::encrypted::{
    PBKDF2_ITERATIONS_MAX, SCRYPT_MIB_MAX, SCRYPT_WORK_MIB_MAX, is_encrypted,
};
use piaogen_crypto::sm2::{DOCUMENT_MAX, KeyError, SecretKey};
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::der::{Decode, Document, Encode};
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::pkcs5::{EncryptionScheme, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const PASSPHRASE: &[u8] = "ein Satz, 一句话".as_bytes();

fn key() -> SecretKey {
    SecretKey::from_bytes(&[0x42; 32]).unwrap()
}

fn openssl(folder: &Path, arguments: &[&str]) -> bool {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output();
    output.is_ok_and(|output| output.status.success())
}

/// A document with these parameters, in DER.
fn document(scheme: Parameters, data: &[u8]) -> Vec<u8> {
    EncryptedPrivateKeyInfoRef {
        encryption_algorithm: EncryptionScheme::Pbes2(scheme),
        encrypted_data: OctetStringRef::new(data).unwrap(),
    }
    .to_der()
    .unwrap()
}

fn pbkdf2(iterations: u32) -> Parameters {
    Parameters::generate_pbkdf2_sha256_aes256cbc(iterations, &[1; 16], [2; 16]).unwrap()
}

#[test]
fn what_we_close_opens_with_its_passphrase_only() {
    let pem = key().to_pkcs8_encrypted(PASSPHRASE, &[7; 32]);
    assert!(is_encrypted(pem.as_bytes()) && !pem.contains("EC PRIVATE"));
    let opened = SecretKey::from_pkcs8_encrypted(pem.as_bytes(), PASSPHRASE).unwrap();
    assert_eq!(opened.to_bytes(), key().to_bytes());
    for wrong in [&b""[..], b"ein Satz", &PASSPHRASE[1..]] {
        let error = SecretKey::from_pkcs8_encrypted(pem.as_bytes(), wrong).unwrap_err();
        assert_eq!(error, KeyError::Passphrase);
    }
    // Another salt, another document; the plain reader names neither key nor passphrase.
    assert_ne!(pem, key().to_pkcs8_encrypted(PASSPHRASE, &[8; 32]));
    assert_eq!(SecretKey::from_pkcs8(pem.as_bytes()).unwrap_err(), KeyError::SecretKeyPem);
    let (_, der) = Document::from_pem(&pem).unwrap();
    assert!(is_encrypted(der.as_bytes()));
    let opened = SecretKey::from_pkcs8_encrypted(der.as_bytes(), PASSPHRASE).unwrap();
    assert_eq!(opened.to_bytes(), key().to_bytes());
}

#[test]
fn plain_keys_are_told_from_encrypted_ones() {
    assert!(!is_encrypted(key().to_pkcs8_pem().as_bytes()));
    assert!(!is_encrypted(&key().to_pkcs8_der()));
    assert!(!is_encrypted(key().public_key().to_spki_pem().as_bytes()));
    assert!(!is_encrypted(b""));
    let plain = key().to_pkcs8_pem();
    let error = SecretKey::from_pkcs8_encrypted(plain.as_bytes(), PASSPHRASE).unwrap_err();
    assert_eq!(error, KeyError::Encrypted);
    let long = vec![0x30; DOCUMENT_MAX + 1];
    let error = SecretKey::from_pkcs8_encrypted(&long, PASSPHRASE).unwrap_err();
    assert_eq!(error, KeyError::DocumentTooLong { length: DOCUMENT_MAX + 1 });
}

#[test]
fn costs_are_refused_before_they_are_paid() {
    let begin = Instant::now();
    let cost = |scheme: Parameters| {
        SecretKey::from_pkcs8_encrypted(&document(scheme, &[0; 160]), PASSPHRASE).unwrap_err()
    };
    let limit = u64::from(PBKDF2_ITERATIONS_MAX);
    let what = "iterations of PBKDF2";
    assert_eq!(
        cost(pbkdf2(PBKDF2_ITERATIONS_MAX + 1)),
        KeyError::Cost { what, found: limit + 1, limit }
    );
    let scrypt = |log_n, r, p| {
        let params = scrypt::Params::new(log_n, r, p).unwrap();
        cost(Parameters::generate_scrypt_aes256cbc(params, &[1; 16], [2; 16]).unwrap())
    };
    let memory = |found| {
        let what = "MiB of memory for scrypt";
        KeyError::Cost { what, found, limit: SCRYPT_MIB_MAX }
    };
    assert_eq!(scrypt(19, 8, 1), memory(512));
    assert_eq!(scrypt(30, 8, 1), memory(1 << 20));
    assert_eq!(scrypt(14, 1_000, 1), memory(2_000));
    let work = KeyError::Cost {
        what: "MiB of work for scrypt",
        found: 256 * 5,
        limit: SCRYPT_WORK_MIB_MAX,
    };
    assert_eq!(scrypt(18, 8, 5), work);
    assert!(begin.elapsed() < Duration::from_secs(60), "something was derived");
}

#[test]
fn other_schemes_are_named() {
    // PBES2 with PBKDF2 and SM4-CBC (1.2.156.10197.1.104.2), as `openssl pkcs8 -v2 sm4` writes it.
    let known = document(pbkdf2(2_048), &[0; 160]);
    let aes = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];
    let at = known.windows(9).position(|window| window == aes).unwrap();
    let mut sm4 = known.clone();
    // Nine bytes as well, so that no length changes: an object id of nobody's.
    sm4[at..at + 9].copy_from_slice(&[0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x68, 0x02, 0x01]);
    assert!(is_encrypted(&sm4));
    let error = SecretKey::from_pkcs8_encrypted(&sm4, PASSPHRASE).unwrap_err();
    assert_eq!(error, KeyError::Cipher);
    // The right passphrase of something else than an SM2 key.
    let scheme = pbkdf2(1_000);
    let p256 = hex::decode(concat!(
        "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420",
        "0101010101010101010101010101010101010101010101010101010101010101a144034200046ff03b949241",
        "ce1dadd43519e6960e0a85b41a69a05c328103aa2bce1594ca163c4f753a55bf01dc53f6c0b0c7eee78b40c6",
        "ff7d25a96e2282b989cef71c144a"
    ))
    .unwrap();
    let data = scheme.encrypt(PASSPHRASE, &p256).unwrap();
    let error = SecretKey::from_pkcs8_encrypted(&document(scheme, &data), PASSPHRASE).unwrap_err();
    assert_eq!(error, KeyError::SecretKeyDer { length: p256.len() });
}

#[test]
fn openssl_opens_ours_and_we_open_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    if !openssl(path, &["genpkey", "-algorithm", "SM2", "-out", "theirs.pem"]) {
        eprintln!("SKIPPED: no openssl command that can generate an SM2 key");
        return;
    }
    let write = |name: &str, bytes: &[u8]| std::fs::write(path.join(name), bytes).unwrap();
    let read = |name: &str| std::fs::read(path.join(name)).unwrap();
    write("pass", PASSPHRASE);
    write("wrong", b"another");
    write("ours.pem", key().to_pkcs8_encrypted(PASSPHRASE, &[9; 32]).as_bytes());
    let open = ["pkey", "-in", "ours.pem", "-out", "opened.pem", "-passin"];
    assert!(!openssl(path, &[&open[..], &["file:wrong"]].concat()));
    assert!(openssl(path, &[&open[..], &["file:pass"]].concat()));
    let opened = SecretKey::from_pkcs8(&read("opened.pem")).unwrap();
    assert_eq!(opened.to_bytes(), key().to_bytes());

    let theirs = SecretKey::from_pkcs8(&read("theirs.pem")).unwrap();
    let close = ["pkcs8", "-topk8", "-in", "theirs.pem", "-passout", "file:pass", "-out", "closed"];
    for how in [
        &["-v2", "aes-256-cbc"][..],
        &["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512", "-iter", "10000"],
        &["-scrypt"],
        &["-v2", "aes-256-cbc", "-outform", "DER"],
    ] {
        assert!(openssl(path, &[&close[..], how].concat()), "{how:?}");
        assert!(is_encrypted(&read("closed")), "{how:?}");
        let opened = SecretKey::from_pkcs8_encrypted(&read("closed"), PASSPHRASE);
        assert_eq!(opened.unwrap().to_bytes(), theirs.to_bytes(), "{how:?}");
        let error = SecretKey::from_pkcs8_encrypted(&read("closed"), b"another").unwrap_err();
        assert_eq!(error, KeyError::Passphrase, "{how:?}");
    }
    // Schemes that are not read here, where this OpenSSL has them.
    for how in [&["-v2", "sm4-cbc"][..], &["-v1", "PBE-SHA1-3DES"], &["-v2", "des3"]] {
        if openssl(path, &[&close[..], how].concat()) {
            let error = SecretKey::from_pkcs8_encrypted(&read("closed"), PASSPHRASE).unwrap_err();
            assert_eq!(error, KeyError::Cipher, "{how:?}");
        }
    }
}

#[test]
fn changed_bytes_never_panic_and_never_give_another_key() {
    let closed = |scheme: Parameters| {
        let data = scheme.encrypt(PASSPHRASE, &key().to_pkcs8_der()).unwrap();
        document(scheme, &data)
    };
    let der = closed(pbkdf2(100));
    let cheap = scrypt::Params::new(2, 1, 1).unwrap();
    let other = closed(Parameters::generate_scrypt_aes256cbc(cheap, &[1; 16], [2; 16]).unwrap());
    let pem = Document::from_der(&der).unwrap().to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF);
    let pem = pem.unwrap().into_bytes();
    for round in 0..3_000 {
        let mut random = Random::new(round + 1);
        let mut bytes = [&der, &other, &pem][random.below(3)].clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len().max(1));
            match random.below(4) {
                _ if bytes.is_empty() => bytes.push(random.next() as u8),
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes.truncate(at),
                2 => bytes.insert(at, random.next() as u8),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Ok(read) = SecretKey::from_pkcs8_encrypted(&bytes, PASSPHRASE) {
            // CBC has no tag: bytes that the reader of keys does not look at may have changed.
            assert_eq!(read.to_bytes(), key().to_bytes(), "round {round}");
        }
        let _ = is_encrypted(&bytes);
    }
}

#[test]
fn random_bytes_are_no_key_and_open_nothing() {
    let der = document(pbkdf2(100), &[0; 160]);
    let pem = key().to_pkcs8_encrypted(PASSPHRASE, &[7; 32]).into_bytes();
    for round in 0..3_000 {
        let mut random = Random::new(round + 1);
        // Behind a beginning that is right, or none.
        let good = [&der, &pem][random.below(2)];
        let mut bytes = good[..random.below(good.len())].to_vec();
        bytes.extend((0..random.below(300)).map(|_| random.next() as u8));
        let opened = SecretKey::from_pkcs8_encrypted(&bytes, PASSPHRASE);
        assert!(opened.is_err(), "round {round}: {}", hex::encode(&bytes));
        assert!(SecretKey::from_pkcs8(&bytes).is_err(), "round {round}");
        let _ = is_encrypted(&bytes);
    }
}
