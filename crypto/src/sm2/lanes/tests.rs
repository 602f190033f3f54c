//! Holds every backend's verdicts and signatures to the portable ones, and shows that no signature
//! can harm its neighbours.

extern crate std;

use super::super::{scalar_in_range, sign_digest, verify_digest};
use super::*;
use crate::sm3;
use ::sm2::elliptic_curve::{PrimeField, point::AffineCoordinates};
use ::sm2::{ProjectivePoint, Scalar};
use alloc::vec;

fn hash_all(messages: &[&[u8]], out: &mut [Digest]) {
    for (message, digest) in messages.iter().zip(out) {
        *digest = sm3::hash(message);
    }
}

/// Every backend but the portable one.
fn backends() -> Vec<Backend> {
    let mut backends = vec![Backend::Emulated];
    backends.extend(Backend::all().into_iter().skip(1));
    backends
}

#[derive(Clone)]
struct Case {
    key: PublicKey,
    e: Digest,
    signature: Signature,
}

fn secret(seed: usize) -> SecretKey {
    SecretKey::from_bytes(&sm3::hash(&seed.to_be_bytes())).unwrap()
}

fn honest(secrets: &[SecretKey], i: usize) -> Case {
    let secret = &secrets[i % secrets.len()];
    let e = sm3::hash(&i.to_le_bytes());
    Case { key: secret.public_key(), e, signature: sign_digest(secret, &e, &[]) }
}

fn bytes(scalar: &Scalar) -> [u8; 32] {
    scalar.to_repr().into()
}

/// A true signature with s and t chosen: r = t - s, and e so that it holds. (The real e is a hash
/// and cannot be chosen; r can be searched for a few bits, d freely.)
fn chosen(d: &Scalar, s: Scalar, t: Scalar) -> Case {
    let key = SecretKey::from_bytes(&bytes(d)).unwrap().public_key();
    let point = ProjectivePoint::GENERATOR * s + key.point() * t;
    let r = t - s;
    let e = bytes(&(r - super::super::reduce(&point.to_affine().x().into())));
    Case { key, e, signature: Signature::from_parts(&bytes(&r), &bytes(&s)) }
}

fn power_of_two(exponent: usize) -> Scalar {
    (0..exponent).fold(Scalar::ONE, |power, _| power.double())
}

/// Jobs in which two points of one x meet: as equal and as opposite points, in the tree and in the
/// chain of doublings, and at its end.
fn poisonous() -> Vec<Case> {
    let mut cases = Vec::new();
    // The key's last window meets the generator's first one: with d = 2^-252, 2^252 P = G; t below
    // 2^253 and odd has the top digit 1; s = +-1 modulo 2^12 has the lowest digit +-1.
    let d = power_of_two(252).invert().unwrap();
    for low in [1u64, (1 << 13) - 1, (1 << 12) + 1, (1 << 12) - 1] {
        for high in 1..5u64 {
            let s = power_of_two(13) * Scalar::from(high * 77) + Scalar::from(low);
            for t in [Scalar::from(2 * high + 1), power_of_two(200) + Scalar::from(high | 1)] {
                cases.push(chosen(&d, s, t));
            }
        }
    }
    // The last addition of the chain: t = n - 6 ends with 32 a = -3 and the digit -3.
    for t in [6u64, 4, 2] {
        for t in [Scalar::from(t), -Scalar::from(t)] {
            cases.push(chosen(&Scalar::from(9u64), Scalar::from(1234u64), t));
        }
    }
    // s G = t P, at the very end of both ways.
    let d = Scalar::from(987_654_321u64);
    for t in [Scalar::from(31u64), power_of_two(255) + Scalar::from(5u64)] {
        cases.push(chosen(&d, t * d, t));
    }
    cases
}

fn tables_of(backend: Backend, cases: &[Case]) -> Vec<KeyTable> {
    let mut keys: Vec<&PublicKey> = Vec::new();
    for case in cases {
        if !keys.contains(&&case.key) {
            keys.push(&case.key);
        }
    }
    build_tables(backend, &keys)
}

fn verdicts(backend: Backend, cases: &[Case], tables: &[KeyTable]) -> Vec<bool> {
    let find = |key: &PublicKey| tables.iter().find(|table| table.key() == key);
    let items: Vec<Item<'_>> = cases
        .iter()
        .map(|case| Item {
            key: &case.key,
            e: &case.e,
            signature: &case.signature,
            table: find(&case.key),
        })
        .collect();
    let mut out = vec![false; items.len()];
    verify_batch(backend, &items, &mut out);
    out
}

/// The verdicts with tables, without, and with tables for some, are the portable ones.
fn check(backend: Backend, cases: &[Case]) {
    let expected: Vec<bool> =
        cases.iter().map(|case| verify_digest(&case.key, &case.e, &case.signature)).collect();
    let tables = tables_of(backend, cases);
    for tables in [&tables[..], &[], &tables[..tables.len() / 2]] {
        let found = verdicts(backend, cases, tables);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "{backend:?}, {} tables, job {i}", tables.len());
        }
    }
}

#[test]
fn batches_of_every_size() {
    let secrets: Vec<SecretKey> = (0..5).map(secret).collect();
    let mut cases: Vec<Case> = (0..513).map(|i| honest(&secrets, i)).collect();
    for (i, case) in cases.iter_mut().enumerate().filter(|(i, _)| i % 3 == 1) {
        case.signature.0[i % 64] ^= 1 << (i % 8);
    }
    for backend in backends() {
        for size in [0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 127, 129] {
            check(backend, &cases[..size]);
        }
    }
    for backend in Backend::all().into_iter().skip(1) {
        check(backend, &cases[..511]);
        check(backend, &cases);
    }
}

#[test]
fn edges_of_the_ranges() {
    let secrets = [secret(1)];
    let good = honest(&secrets, 0);
    let n_plus = |more: i8| {
        let mut n = bytes(&-Scalar::ONE);
        n[31] = n[31].checked_add_signed(more + 1).unwrap();
        n
    };
    let small = |value: u8| {
        let mut small = [0; 32];
        small[31] = value;
        small
    };
    let edges =
        [small(0), small(1), small(2), n_plus(-2), n_plus(-1), n_plus(0), n_plus(1), [255; 32]];
    let mut cases = vec![good.clone()];
    for r in &edges {
        for s in edges.iter().chain([good.signature.s()]) {
            cases.push(Case { signature: Signature::from_parts(r, s), ..good.clone() });
        }
    }
    // True signatures with r or s at an edge; t = 0; the sum at infinity.
    let d = Scalar::from(3u64);
    for (s, t) in [(Scalar::ONE, Scalar::from(2u64)), (-Scalar::ONE, Scalar::from(5u64))] {
        cases.push(chosen(&d, s, t));
    }
    cases.push(chosen(&d, Scalar::from(7u64), Scalar::from(8u64)));
    cases.push(chosen(&d, Scalar::from(7u64), Scalar::from(6u64)));
    let t_zero = Scalar::from(12345u64);
    cases.push(chosen(&d, t_zero, Scalar::ZERO));
    let mut infinite = chosen(&d, Scalar::ONE, Scalar::ONE);
    let t = Scalar::from(55u64);
    infinite.signature = Signature::from_parts(&bytes(&(t + t * d)), &bytes(&-(t * d)));
    cases.push(infinite);
    for backend in backends() {
        check(backend, &cases);
    }
}

#[test]
fn poison_harms_nobody() {
    let poison = poisonous();
    assert!(poison.iter().all(|case| verify_digest(&case.key, &case.e, &case.signature)));
    let secrets: Vec<SecretKey> = (0..7).map(secret).collect();
    for backend in backends() {
        check(backend, &poison);
        let mut cases = Vec::new();
        for (i, case) in poison.iter().enumerate() {
            cases.extend((0..3).map(|j| honest(&secrets, 3 * i + j)));
            let mut forged = case.clone();
            forged.e[0] ^= 1;
            cases.extend([case.clone(), forged]);
        }
        check(backend, &cases);
    }
}

#[test]
fn poison_in_a_large_batch() {
    let poison = poisonous();
    let secrets: Vec<SecretKey> = (0..64).map(secret).collect();
    let honest: Vec<Case> = (0..256).map(|i| honest(&secrets, i)).collect();
    let cases: Vec<Case> = (0..4096)
        .map(|i| if i % 97 == 13 { &poison[i / 97 % poison.len()] } else { &honest[i % 256] })
        .cloned()
        .collect();
    for backend in Backend::all().into_iter().skip(1) {
        for tables in [tables_of(backend, &cases), Vec::new()] {
            assert!(verdicts(backend, &cases, &tables).iter().all(|verdict| *verdict));
        }
    }
}

/// `PIAOGEN_RANDOM` says how many; 100,000 are what a release should see.
#[test]
fn random_signatures() {
    let count = std::env::var("PIAOGEN_RANDOM").map_or(1500, |text| text.parse().unwrap());
    let secrets: Vec<SecretKey> = (100..140).map(secret).collect();
    for start in (0..count).step_by(2000) {
        let mut cases: Vec<Case> =
            (start..count.min(start + 2000)).map(|i| honest(&secrets, i)).collect();
        for (i, case) in cases.iter_mut().enumerate() {
            let random = sm3::hash(&(start + i).to_be_bytes());
            match random[0] % 8 {
                0 => case.signature.0[usize::from(random[1]) % 64] ^= 1 << (random[2] % 8),
                1 => case.e[usize::from(random[1]) % 32] ^= 1 << (random[2] % 8),
                2 => case.key = secrets[usize::from(random[1]) % 40].public_key(),
                _ => {}
            }
        }
        for backend in Backend::all().into_iter().skip(1) {
            check(backend, &cases);
        }
    }
}

#[test]
fn a_table_of_another_key_changes_nothing() {
    let secrets: Vec<SecretKey> = (0..2).map(secret).collect();
    let cases: Vec<Case> = (0..8).map(|i| honest(&secrets, i)).collect();
    for backend in backends() {
        let tables = build_tables(backend, &[&cases[1].key, &cases[0].key]);
        let items: Vec<Item<'_>> = cases
            .iter()
            .enumerate()
            .map(|(i, case)| Item {
                key: &case.key,
                e: &case.e,
                signature: &case.signature,
                table: Some(&tables[i % 2]),
            })
            .collect();
        let mut out = vec![false; 8];
        verify_batch(backend, &items, &mut out);
        assert_eq!(out, [true; 8]);
    }
}

#[test]
fn signatures_are_the_portable_ones() {
    let secrets: Vec<SecretKey> = (0..3).map(secret).collect();
    for backend in backends() {
        for size in [0, 1, 3, 4, 7, 8, 9, 17, 257] {
            let digests: Vec<Digest> =
                (0..size).map(|i: usize| sm3::hash(&i.to_be_bytes())).collect();
            let items: Vec<_> =
                digests.iter().enumerate().map(|(i, e)| (&secrets[i % 3], *e)).collect();
            let mut out = vec![Signature([0; 64]); size];
            sign_batch(backend, &items, &hash_all, &mut out);
            for ((key, e), signature) in items.iter().zip(out) {
                assert_eq!(signature, sign_digest(key, e, &[]), "{backend:?}, {size}");
            }
        }
    }
}

/// The lanes' k G, for k at the edges.
#[test]
fn multiples_of_the_generator() {
    let mut ks = vec![Scalar::ONE, Scalar::from(2u64), -Scalar::ONE, -Scalar::from(2u64)];
    for exponent in (0..256).step_by(5) {
        ks.extend([power_of_two(exponent), power_of_two(exponent) - Scalar::ONE]);
        ks.push(-power_of_two(exponent));
    }
    ks.retain(|k| !bool::from(k.is_zero()));
    let numbers: Vec<[u64; 4]> = ks.iter().map(|k| scalar::from_bytes(&bytes(k))).collect();
    for backend in backends() {
        let found = sign::multiply(backend, &numbers);
        assert_eq!(found.len(), ks.len());
        for (k, x) in ks.iter().zip(found) {
            let expected = (ProjectivePoint::GENERATOR * *k).to_affine().x();
            assert_eq!(scalar::to_bytes(&x)[..], expected[..], "{backend:?} {k:?}");
        }
    }
    assert!(scalar_in_range(&[0; 32]).is_none());
}

/// The rows of a table are the multiples they claim to be.
#[test]
fn tables_hold_odd_multiples() {
    let key = secret(5).public_key();
    let r = Scalar::from(5u64);
    let cases = [chosen(&Scalar::from(5u64), r, r)];
    for backend in backends() {
        let tables = build_tables(backend, &[&key, &cases[0].key]);
        assert_eq!(tables[0].key(), &key);
        assert_eq!(tables[1].key(), &cases[0].key);
        let portable = build_tables(Backend::Portable, &[&key]);
        assert!(tables[0].same_points(&portable[0]), "{backend:?}");
        assert!(!tables[1].same_points(&portable[0]), "{backend:?}");
    }
}

#[test]
fn cache_promotes_evicts_and_counts() {
    let keys: Vec<PublicKey> = (0..6).map(|i| secret(i).public_key()).collect();
    let build = |keys: &[PublicKey]| {
        build_tables(Backend::Portable, &keys.iter().collect::<Vec<&PublicKey>>())
    };
    let mut cache = KeyTables::new(3 * KeyTable::bytes() + 1, 2);
    let all: Vec<&PublicKey> = keys.iter().collect();
    let plan = cache.plan(&all[..3]);
    assert!(plan.tables.iter().all(Option::is_none) && plan.promote.is_empty());
    let plan = cache.plan(&[all[0], all[0], all[1]]);
    assert_eq!(plan.promote, [keys[0].clone(), keys[1].clone()], "each once");
    assert!(cache.plan(&[all[0]]).promote.is_empty(), "asked for already");
    cache.insert(build(&plan.promote));
    let plan = cache.plan(&[all[0], all[2]]);
    assert_eq!(plan.tables[0].as_ref().map(|table| table.key()), Some(&keys[0]));
    assert_eq!(plan.promote, [keys[2].clone()]);
    cache.insert(build(&plan.promote));
    assert_eq!(cache.stats().tables, 3);
    // Key 1 is the least recently used.
    cache.plan(&[all[2]]);
    cache.insert(build(&keys[3..4]));
    let plan = cache.plan(&all[..4]);
    let present: Vec<bool> = plan.tables.iter().map(Option::is_some).collect();
    assert_eq!(present, [true, false, true, true]);
    let stats = cache.stats();
    assert_eq!((stats.built, stats.evicted, stats.tables), (4, 1, 3));
    assert_eq!(stats.bytes, 3 * KeyTable::bytes());
    assert_eq!((stats.hits, stats.misses), (5, 9));
    // More at once than there is room for.
    cache.insert(build(&keys));
    assert_eq!(cache.stats().tables, 3);
    let mut none = KeyTables::new(0, 1);
    assert!(none.plan(&all).promote.is_empty());
    none.insert(build(&keys[..1]));
    assert_eq!(none.stats().tables, 0);
}
