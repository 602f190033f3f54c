//! Holds SM3 and HMAC-SM3 to the vectors of the standard and of others, and to the `sm3` crate.

use super::*;
use ::sm3::Digest as _;
use alloc::vec::Vec;

fn digest(text: &str) -> Digest {
    hex::decode(text).unwrap().try_into().unwrap()
}

#[test]
fn standard_examples() {
    let one = digest("66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0");
    assert_eq!(hash(b"abc"), one);
    let two = digest("debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732");
    assert_eq!(hash(&b"abcd".repeat(16)), two);
}

#[test]
fn equals_the_sm3_crate_at_every_length() {
    let message: Vec<u8> = (0..517u32).map(|i| (i * i) as u8).collect();
    for length in 0..message.len() {
        let message = &message[..length];
        let expected: Digest = ::sm3::Sm3::digest(message).into();
        assert_eq!(hash(message), expected, "length {length}");
    }
}

#[test]
fn pieces_hash_as_the_whole() {
    let message: Vec<u8> = (0..300u32).map(|i| i as u8).collect();
    let expected = hash(&message);
    for piece in 1..=300 {
        let parts: Vec<&[u8]> = message.chunks(piece).collect();
        assert_eq!(hash_parts(&parts), expected, "pieces of {piece}");
    }
    assert_eq!(hash_parts(&[&message, &[], &[]]), expected);
    assert_eq!(Hasher::default().finalize(), hash(&[]));
}

#[test]
fn hmac_examples_of_gmt_0042() {
    let key: Vec<u8> = (1..=0x20).collect();
    let message = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq".repeat(2);
    let mac = digest("ca05e144ed05d1857840d1f318a4a8669e559fc8391f414485bfdf7bb408963a");
    assert_eq!(hmac(&key, &message), mac);
    let mac = digest("2e87f1d16862e6d964b50a5200bf2b10b764faa9680a296a2405f24bec39f882");
    assert_eq!(hmac(b"Jefe", b"what do ya want for nothing?"), mac);
}

#[test]
fn hmac_hashes_only_keys_longer_than_a_block() {
    let key = [0x61; 65];
    assert_eq!(hmac(&key, b"m"), hmac(&hash(&key), b"m"));
    assert_ne!(hmac(&key[..64], b"m"), hmac(&hash(&key[..64]), b"m"));
    // Padding with zeros is part of the definition.
    assert_eq!(hmac(b"k", b"m"), hmac(b"k\0", b"m"));
}
