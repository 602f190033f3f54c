//! Holds SM2 to the standard's example, to the `sm2` crate's own scheme, and to every edge of the
//! ranges.

use super::*;
use ::sm2::dsa::signature::{Signer as _, Verifier as _};
use ::sm2::dsa::{SigningKey, VerifyingKey};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

const N: &str = "fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123";
const D: &str = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8";
const P: &str = "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020\
                 ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13";
const K: &str = "59276e27d506861a16680f3ad9c02dccef3cc1fa3cdbe4ce6d54b80deac1bc21";
const R: &str = "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3";
const S: &str = "b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa";
const E: &str = "f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640";
const Z: &str = "b2e14c5c79c6df5b85f4fe7ed8db7a262b9da7e07ccb0ea9f4747b8ccda8a4f3";
const MESSAGE: &[u8] = b"message digest";

fn bytes<const L: usize>(text: &str) -> [u8; L] {
    hex::decode(text).unwrap().try_into().unwrap()
}

/// n plus a small number.
fn n_plus(small: i8) -> [u8; 32] {
    let mut n = bytes::<32>(N);
    n[31] = n[31].checked_add_signed(small).unwrap();
    n
}

fn small(value: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[31] = value;
    bytes
}

fn standard_key() -> SecretKey {
    SecretKey::from_bytes(&bytes(D)).unwrap()
}

#[test]
fn standard_example() {
    let key = PublicKey::from_sec1(&bytes::<65>(P)).unwrap();
    assert_eq!(standard_key().public_key(), key);
    assert_eq!(*key.z(), bytes(Z));
    assert_eq!(key.message_digest(MESSAGE), bytes(E));
    let signature = Signature::from_parts(&bytes(R), &bytes(S));
    assert!(verify(&key, MESSAGE, &signature));
    assert!(!verify(&key, b"message digesu", &signature));
    for bit in 0..512 {
        let mut altered = signature;
        altered.0[bit / 8] ^= 1 << (bit % 8);
        assert!(!verify(&key, MESSAGE, &altered), "bit {bit}");
    }
    assert!(!verify(&SecretKey::from_bytes(&small(9)).unwrap().public_key(), MESSAGE, &signature));
}

/// With the standard's nonce, the signing equation gives the standard's signature.
#[test]
fn standard_example_signature() {
    let k = scalar_in_range(&bytes(K)).unwrap();
    let signature = sign_with_nonce(&standard_key(), &reduce(&bytes(E)), k).unwrap();
    assert_eq!(signature, Signature::from_parts(&bytes(R), &bytes(S)));
}

#[test]
fn signs_and_verifies_as_the_sm2_crate_does() {
    let id = core::str::from_utf8(DEFAULT_ID).unwrap();
    for i in 1..24u8 {
        let secret = sm3::hash(&[i]);
        let message: Vec<u8> = (0..i * 9).collect();
        let ours = SecretKey::from_bytes(&secret).unwrap();
        let theirs = SigningKey::from_slice(id, &secret).unwrap();
        let expected: ::sm2::dsa::Signature = theirs.sign(&message);
        let signature = ours.sign(&message);
        assert_eq!(signature.0[..], expected.to_bytes()[..]);
        assert!(verify(&ours.public_key(), &message, &signature));

        let hedged = ours.sign_with_entropy(&message, &[i; 32]);
        assert_ne!(hedged, signature);
        let hedged_theirs = ::sm2::dsa::Signature::from_slice(&hedged.0).unwrap();
        let key = VerifyingKey::from_sec1_bytes(id, &ours.public_key().to_uncompressed()).unwrap();
        assert!(key.verify(&message, &hedged_theirs).is_ok());
        assert!(verify(&ours.public_key(), &message, &hedged));
    }
}

#[test]
fn numbers_out_of_range_verify_nothing() {
    let key = standard_key().public_key();
    let edges =
        [small(0), small(1), n_plus(-1), n_plus(0), n_plus(1), [0xff; 32], bytes(R), bytes(S)];
    for r in &edges {
        for s in &edges {
            let good = (*r, *s) == (bytes(R), bytes(S));
            let signature = Signature::from_parts(r, s);
            assert_eq!(verify(&key, MESSAGE, &signature), good, "{signature:?}");
        }
    }
}

/// r and s in range with r + s = n would make the verdict independent of the key: for e chosen as
/// r - x(s G) the equation holds for everybody. Only the check of t stands in the way.
#[test]
fn t_of_zero_verifies_nothing() {
    let s = Scalar::from(12345u64);
    let r = -s;
    let x = (ProjectivePoint::GENERATOR * s).to_affine().x();
    let e: Digest = (r - Scalar::reduce(&x)).to_repr().into();
    let signature = Signature::from_parts(&r.to_repr().into(), &s.to_repr().into());
    assert!(!verify_digest(&standard_key().public_key(), &e, &signature));
}

/// A signature equal in r but with r + n, or s + n, is another encoding of the same numbers.
#[test]
fn unreduced_numbers_verify_nothing() {
    // d = 1: with s small enough, s + n still fits 32 bytes.
    let key = SecretKey::from_bytes(&small(1)).unwrap();
    // s = 1 and t = r + 1 for a free r: choose e to fit, then add n to s.
    let (r, s) = (Scalar::from(77u64), Scalar::ONE);
    let point = ProjectivePoint::GENERATOR * s + key.public_key().point() * (r + s);
    let e: Digest = (r - Scalar::reduce(&point.to_affine().x())).to_repr().into();
    let check = |r: &[u8; 32], s: &[u8; 32]| {
        verify_digest(&key.public_key(), &e, &Signature::from_parts(r, s))
    };
    assert!(check(&small(77), &small(1)));
    assert!(!check(&small(77), &n_plus(1)));
    assert!(!check(&n_plus(77), &small(1)));
}

/// s G + t P at infinity: P = d G, s = -t d.
#[test]
fn infinity_verifies_nothing() {
    let key = standard_key();
    let one_plus_d_inverse = *key.inverse();
    // r = t - s and s = -t d, so r = t (1 + d); take t = 1/(1 + d), then r = 1.
    let s = -(one_plus_d_inverse * key.scalar());
    let signature = Signature::from_parts(&small(1), &s.to_repr().into());
    for e in [small(0), small(1), n_plus(0), n_plus(1)] {
        assert!(!verify_digest(&key.public_key(), &e, &signature));
    }
}

#[test]
fn secret_keys_lie_in_1_to_n_minus_2() {
    for good in [small(1), n_plus(-2), bytes(D)] {
        let key = SecretKey::from_bytes(&good).unwrap();
        assert_eq!(*key.to_bytes(), good);
        assert!(verify(&key.public_key(), b"m", &key.sign(b"m")));
    }
    for bad in [small(0), n_plus(-1), n_plus(0), n_plus(1), [0xff; 32]] {
        assert_eq!(SecretKey::from_bytes(&bad).unwrap_err(), KeyError::SecretKeyRange);
    }
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?} {:#?}", standard_key(), standard_key());
    assert_eq!(shown, "SecretKey(..) SecretKey(..)");
}

#[test]
fn public_keys_are_points_of_the_curve() {
    let key = standard_key().public_key();
    let compressed = key.to_compressed();
    assert_eq!(PublicKey::from_compressed(&compressed).unwrap(), key);
    assert_eq!(PublicKey::from_sec1(&compressed).unwrap(), key);
    assert_eq!(PublicKey::from_sec1(&key.to_uncompressed()).unwrap(), key);

    let mut mirrored = compressed;
    mirrored[0] ^= 1;
    let mirrored = PublicKey::from_compressed(&mirrored).unwrap();
    assert_ne!(mirrored, key);
    assert_ne!(mirrored.key_id(), key.key_id());

    let mut off = key.to_uncompressed();
    off[64] ^= 1;
    assert_eq!(PublicKey::from_sec1(&off).unwrap_err(), KeyError::NotOnCurve);
    // x = p - 1 + 2 = p + 1, an unreduced 1.
    let mut unreduced = [0; 33];
    unreduced[0] = 2;
    unreduced[1..].copy_from_slice(&bytes::<32>(
        "fffffffeffffffffffffffffffffffffffffffff00000000ffffffffffffffff",
    ));
    assert_eq!(PublicKey::from_compressed(&unreduced).unwrap_err(), KeyError::NotOnCurve);
    let no_y = (1..=255).find(|x| {
        let mut point = [0; 33];
        (point[0], point[32]) = (2, *x);
        PublicKey::from_compressed(&point).is_err()
    });
    assert!(no_y.is_some(), "about half of all x have no y");

    let hybrid = |tag| {
        let mut bytes = key.to_uncompressed();
        bytes[0] = tag;
        bytes.to_vec()
    };
    let forms: [&[u8]; 9] = [
        &[],
        &[0],
        &[0; 33],
        &[0; 65],
        &hybrid(6),
        &hybrid(7),
        &hybrid(2),
        &compressed[..32],
        &[5; 33],
    ];
    for form in forms {
        let error = PublicKey::from_sec1(form).unwrap_err();
        assert!(matches!(error, KeyError::PublicKeyForm { .. }), "{form:?}: {error}");
    }
}

#[test]
fn key_id_is_the_hash_of_prefix_and_coordinates() {
    let key = standard_key().public_key();
    assert_eq!(key.key_id(), sm3::hash_parts(&[&[0x05], &bytes::<65>(P)[1..]]));
}

#[test]
fn pem_comes_back_as_it_went() {
    let key = standard_key();
    let secret = key.to_pkcs8_pem();
    assert!(secret.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert_eq!(*SecretKey::from_pkcs8_pem(&secret).unwrap().to_bytes(), bytes(D));
    let public = key.public_key().to_spki_pem();
    assert_eq!(PublicKey::from_spki_pem(&public).unwrap(), key.public_key());

    for text in ["", "junk", &secret, &public[..public.len() / 2], &public.replace('A', "*")] {
        assert_eq!(PublicKey::from_spki_pem(text).unwrap_err(), KeyError::PublicKeyPem);
    }
    for text in ["", "junk", &public, &secret[..secret.len() / 2]] {
        assert_eq!(SecretKey::from_pkcs8_pem(text).unwrap_err(), KeyError::SecretKeyPem);
    }
}

#[test]
fn der_comes_back_as_it_went() {
    for r in [small(0), small(1), small(0x7f), small(0x80), bytes(R), [0xff; 32], n_plus(-1)] {
        for s in [small(0), small(0xff), bytes(S), [0x7f; 32]] {
            let signature = Signature::from_parts(&r, &s);
            assert_eq!(Signature::from_der(&signature.to_der()), Ok(signature));
        }
    }
    let der = Signature::from_parts(&small(1), &small(0x80)).to_der();
    assert_eq!(der, [0x30, 7, 2, 1, 1, 2, 2, 0, 0x80]);
}

#[test]
fn der_in_any_other_form_is_refused() {
    let table: [(&str, &str); 17] = [
        ("", "empty"),
        ("30", "no length"),
        ("3000", "no integers"),
        ("3003020101", "one integer"),
        ("3006020101020102ff", "bytes after"),
        ("30090201010201020201ff", "a third integer"),
        ("3007020101020102", "length beyond the end"),
        ("3005020101020102", "length short of the end"),
        ("308106020101020102", "length in the long form"),
        ("3080020101020102", "indefinite length"),
        ("3106020101020102", "a set"),
        ("3006030101020102", "a bit string"),
        ("300702020001020102", "zero in front of r"),
        ("30070201010202007f", "zero in front of s"),
        ("3006020181020102", "negative r"),
        ("3006020101020180", "negative s"),
        ("30050200020102", "r without a byte"),
    ];
    for (text, why) in table {
        let der = hex::decode(text).unwrap();
        let error = KeyError::SignatureDer { length: der.len() };
        assert_eq!(Signature::from_der(&der), Err(error), "{why}");
    }
    let long = |byte: &str| format!("3026022100{}020101", byte.repeat(32));
    assert!(Signature::from_der(&hex::decode(long("ff")).unwrap()).is_ok());
    let over = format!("30260221{}020101", "01".repeat(33));
    assert!(Signature::from_der(&hex::decode(over).unwrap()).is_err());

    let good = Signature::from_parts(&bytes(R), &bytes(S)).to_der();
    for length in 0..good.len() {
        assert!(Signature::from_der(&good[..length]).is_err(), "cut at {length}");
    }
    assert!(KeyError::SignatureDer { length: 3 }.to_string().contains("3 bytes"));
}
