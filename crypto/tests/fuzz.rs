//! Mutates signatures, keys and certificates in their encodings: reading must never panic, and what
//! is read must be written as it was where there is one way only to write it.
//!
//! The seed is fixed. `PIAOGEN_FUZZ_SECONDS` makes each target run that long; a failure prints the
//! round and the input.

#![allow(clippy::unwrap_used)]

mod common;

use common::Random;
use piaogen_crypto::sm2::{PublicKey, SecretKey, Signature};
use std::time::{Duration, Instant};

const ROUNDS: u32 = 4_000;

/// Changes some bytes: flips, overwrites with bytes that mean something in DER and PEM, inserts,
/// removes, repeats, cuts.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    const INTERESTING: [u8; 16] =
        [0, 1, 2, 3, 4, 6, 0x30, 0x31, 0x7f, 0x80, 0x81, 0x82, 0xa0, 0xff, b'-', b'\n'];
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(9)).min(bytes.len());
        let interesting = INTERESTING[random.below(INTERESTING.len())];
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = interesting,
            2 => bytes.insert(at, interesting),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            5 if random.below(4) == 0 => bytes.truncate(at),
            _ if at < bytes.len() => bytes[at] = random.next() as u8,
            _ => {}
        }
    }
}

/// Runs one target: `seed` makes an encoding, `again` reads it and writes what it read, `None` if
/// it is refused; `same` says whether what is written may stand for what was read.
fn target(
    name: &str,
    seed: impl Fn(&mut Random) -> Vec<u8>,
    again: impl Fn(&[u8]) -> Option<Vec<u8>>,
    same: impl Fn(&[u8], &[u8]) -> bool,
) {
    let seconds = std::env::var("PIAOGEN_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| Duration::from_secs(text.parse().unwrap()));
    let begin = Instant::now();
    let (mut rounds, mut accepted) = (0, 0);
    while seconds.map_or(rounds < ROUNDS, |limit| begin.elapsed() < limit) {
        let mut random = Random::new(u64::from(rounds) + 1);
        let mut bytes = seed(&mut random);
        assert_eq!(again(&bytes).as_ref(), Some(&bytes), "{name}: round {rounds}");
        mutate(&mut random, &mut bytes);
        if let Some(written) = again(&bytes) {
            let input = hex::encode(&bytes);
            assert!(same(&bytes, &written), "{name}: round {rounds}: {input}");
            assert_eq!(again(&written), Some(written), "{name}: round {rounds}: {input}");
            accepted += 1;
        }
        rounds += 1;
    }
    println!("{name}: {rounds} rounds, {accepted} mutations accepted");
    assert!(accepted < rounds, "{name}: nothing was ever refused");
}

fn equal(read: &[u8], written: &[u8]) -> bool {
    read == written
}

fn secret(random: &mut Random) -> SecretKey {
    loop {
        let bytes = std::array::from_fn(|_| random.next() as u8);
        if let Ok(key) = SecretKey::from_bytes(&bytes) {
            return key;
        }
    }
}

#[test]
fn signatures() {
    let signature = |random: &mut Random| {
        let mut bytes: [u8; 64] = std::array::from_fn(|_| random.next() as u8);
        // Leading zeros and ones, where integers change their length.
        bytes[..random.below(33)].fill(0);
        bytes[32] &= [0xff, 0x7f, 0][random.below(3)];
        Signature(bytes).to_der()
    };
    let again = |bytes: &[u8]| Signature::from_der(bytes).ok().map(|signature| signature.to_der());
    target("signature", signature, again, equal);
}

#[test]
fn public_keys() {
    let der = |random: &mut Random| secret(random).public_key().to_spki_der();
    let again = |bytes: &[u8]| PublicKey::from_spki(bytes).ok().map(|key| key.to_spki_der());
    // A point may also come compressed; it is written in full.
    let same = |read: &[u8], written: &[u8]| read == written || read.len() + 32 == written.len();
    target("SPKI DER", der, again, same);
    let text = |random: &mut Random| secret(random).public_key().to_spki_pem().into_bytes();
    let again =
        |bytes: &[u8]| PublicKey::from_spki(bytes).ok().map(|key| key.to_spki_pem().into_bytes());
    // Ends of lines, and text before and after, are free.
    target("SPKI PEM", text, again, |_, _| true);
}

#[test]
fn secret_keys() {
    let der = |random: &mut Random| secret(random).to_pkcs8_der().to_vec();
    let again = |bytes: &[u8]| SecretKey::from_pkcs8(bytes).ok().map(|k| k.to_pkcs8_der().to_vec());
    // The public key may be left out, and attributes may follow.
    target("PKCS#8 DER", der, again, |_, _| true);
    let text = |random: &mut Random| secret(random).to_pkcs8_pem().as_bytes().to_vec();
    let again = |bytes: &[u8]| {
        SecretKey::from_pkcs8(bytes).ok().map(|key| key.to_pkcs8_pem().as_bytes().to_vec())
    };
    target("PKCS#8 PEM", text, again, |_, _| true);
}

#[cfg(feature = "certificate")]
#[test]
fn certificates() {
    use common::{Draft, oid, pem};
    use piaogen_crypto::certificate::{Certificate, check_chain};
    let der = |random: &mut Random| {
        let (issuer, subject) = (secret(random), secret(random));
        let issuer_name: &[(&[u8], &str)] = &[(oid::COMMON_NAME, "CA")];
        let name: &[(&[u8], &str)] = &[(oid::ORGANIZATION, "示例"), (oid::COMMON_NAME, "x")];
        let draft = Draft::new(name, issuer_name, &subject.public_key());
        match random.below(3) {
            0 => draft.ca(Some(random.below(3) as u8)),
            1 => draft.usage(0x80),
            _ => draft,
        }
        .sign(&issuer)
    };
    let again = |bytes: &[u8]| {
        let found = Certificate::read(bytes).ok()?;
        // Whatever can be asked of it is answered.
        for certificate in &found {
            let names = [certificate.subject(), certificate.issuer()];
            assert!(names.iter().all(|name| name.text().len() < 16 * bytes.len()));
            let _ = (certificate.number(), certificate.validity(), certificate.validity_text());
            let _ = (names[0].common_name(), names[1].organization_identifier());
        }
        let _ = check_chain(&found);
        Some(found[0].as_der().to_vec())
    };
    target("certificate DER", der, again, equal);
    let text = |random: &mut Random| pem("CERTIFICATE", &der(random)).into_bytes();
    let again_text = |bytes: &[u8]| again(bytes).map(|der| pem("CERTIFICATE", &der).into_bytes());
    target("certificate PEM", text, again_text, |_, _| true);
}
