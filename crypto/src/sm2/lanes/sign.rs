//! Signs in lanes, with the bytes that [`SecretKey::sign`] gives.
//!
//! Nonces come first, all hashes of one step of their derivation in one call of a batch of hashes.
//! Then k G: one point for each window of k, chosen by reading the whole row and masking, summed as
//! a tree. Then the signing equation, one by one.
//!
//! Invariants
//! - No branch, address or count of steps depends on a key or on a nonce that is used. Signatures
//!   that the lanes cannot make (chance below 2^-31 each: a nonce out of range, r or s zero, two
//!   summands of one x) are made one by one.
//! - Whatever held a secret is overwritten before it is freed.

use super::super::{SecretKey, Signature, reduce, sign_digest, signature_with_x};
use super::field::Fe;
use super::invert::ConstantTime;
use super::scalar::{self, Multiplier, Number, Odd};
use super::sum::{Point, sum_windows};
use super::table::{SECRET_WIDTH, SecretRow, secret_base};
use crate::Digest;
use crate::simd::limbs::{MAX_LANES, Vector, Work};
use alloc::vec;
use alloc::vec::Vec;
use zeroize::{Zeroize, Zeroizing};

/// Nonces whose multiples are summed together.
const CHUNK: usize = 256;
/// Bytes of a block of SM3.
const BLOCK: usize = 64;

/// Hashes many messages of one length.
pub(crate) type HashMany<'a> = &'a dyn Fn(&[&[u8]], &mut [Digest]);

/// One HMAC for each key and message; the messages lie one after the other, `length` bytes each.
fn hmacs(keys: &[Digest], messages: &[u8], length: usize, hash: HashMany<'_>, out: &mut [Digest]) {
    let mut inner = keyed(keys, 0x36, messages, length);
    hash_rows(&inner, BLOCK + length, hash, out);
    inner.zeroize();
    let mut outer = keyed(keys, 0x5c, out.as_flattened(), 32);
    hash_rows(&outer, BLOCK + 32, hash, out);
    outer.zeroize();
}

/// Each key, padded and masked, before its message.
fn keyed(keys: &[Digest], mask: u8, messages: &[u8], length: usize) -> Vec<u8> {
    let mut rows = vec![mask; keys.len() * (BLOCK + length)];
    let messages = messages.chunks_exact(length);
    for ((row, key), message) in rows.chunks_exact_mut(BLOCK + length).zip(keys).zip(messages) {
        for (byte, key) in row.iter_mut().zip(key) {
            *byte ^= key;
        }
        row[BLOCK..].copy_from_slice(message);
    }
    rows
}

fn hash_rows(rows: &[u8], length: usize, hash: HashMany<'_>, out: &mut [Digest]) {
    let rows: Vec<&[u8]> = rows.chunks_exact(length).collect();
    hash(&rows, out);
}

/// The first nonce of each signature, as [`super::super::nonce`] derives it; out of range with a
/// chance of 2^-32.
fn nonces(items: &[(&SecretKey, Digest)], hash: HashMany<'_>) -> Zeroizing<Vec<Digest>> {
    const LENGTH: usize = 32 + 1 + 32 + 32;
    let count = items.len();
    let mut k = Zeroizing::new(vec![[0; 32]; count]);
    let mut v = Zeroizing::new(vec![[1; 32]; count]);
    let mut next = Zeroizing::new(vec![[0; 32]; count]);
    let mut messages = Zeroizing::new(vec![0; count * LENGTH]);
    for step in [0, 1] {
        for ((message, (key, e)), v) in messages.chunks_exact_mut(LENGTH).zip(items).zip(&*v) {
            message[..32].copy_from_slice(v);
            message[32] = step;
            message[33..65].copy_from_slice(&*key.to_bytes());
            message[65..].copy_from_slice(&scalar::to_bytes(&scalar::reduce(e)));
        }
        hmacs(&k, &messages, LENGTH, hash, &mut next);
        core::mem::swap(&mut k, &mut next);
        hmacs(&k, v.as_flattened(), 32, hash, &mut next);
        core::mem::swap(&mut v, &mut next);
    }
    hmacs(&k, v.as_flattened(), 32, hash, &mut next);
    next
}

/// The x of k G for each k in 1..=n-1, or zero where the lanes could not find it.
struct Multiply<'a>(&'a [Number]);

impl Work for Multiply<'_> {
    type Output = Vec<Number>;

    #[inline(always)]
    fn run<V: Vector>(self, token: V::Token) -> Vec<Number> {
        let mut found = Vec::with_capacity(self.0.len());
        let (mut points, mut prefixes) = (Vec::<Point<V>>::new(), Vec::new());
        for numbers in self.0.chunks(CHUNK) {
            let groups = numbers.len().div_ceil(V::LANES);
            push_points(token, numbers, groups, &mut points);
            let windows = scalar::windows(SECRET_WIDTH);
            let mut marked = vec![0u32; groups];
            let mark = |group: usize, lane: usize| marked[group] |= 1u32 << lane;
            sum_windows::<V, ConstantTime>(&mut points, (windows, 1), groups, &mut prefixes, mark);
            for (i, _) in numbers.iter().enumerate() {
                let (group, lane) = (i / V::LANES, i % V::LANES);
                if lane == 0 {
                    points[group].x = points[group].x.to_plain();
                }
                let words = points[group].x.store();
                let good = marked[group] >> lane & 1 == 0;
                found.push(if good { words.map(|word| word[lane]) } else { [0; 4] });
            }
            wipe(token, &mut points, &mut prefixes);
        }
        found
    }
}

/// The points whose sums are wanted, window by window, group by group.
#[inline(always)]
fn push_points<V: Vector>(
    token: V::Token,
    numbers: &[Number],
    groups: usize,
    points: &mut Vec<Point<V>>,
) {
    let mut multipliers = Vec::with_capacity(groups);
    for numbers in numbers.chunks(V::LANES) {
        // The sign makes no difference to x.
        let mut odd = [Odd::new(&numbers[0]); MAX_LANES];
        for (odd, number) in odd.iter_mut().zip(numbers) {
            *odd = Odd::new(number);
        }
        multipliers.push(Multiplier::<V>::load(token, |lane| &odd[lane]));
        odd.iter_mut().for_each(|odd| odd.number.zeroize());
    }
    points.clear();
    for (window, row) in secret_base().iter().enumerate() {
        for multiplier in &multipliers {
            let (index, sign) = multiplier.digit::<SECRET_WIDTH>(window);
            points.push(choose(row, index, sign));
        }
    }
    multipliers.fill(Multiplier::zero(token));
    zeroize::optimization_barrier(&multipliers[..]);
}

/// Reads a whole row and keeps the point that each lane's index names.
#[inline(always)]
fn choose<V: Vector>(row: &SecretRow, index: V, sign: V) -> Point<V> {
    let token = index.token();
    let (mut x, mut y) = (Fe::splat(token, &row[0][0]), Fe::splat(token, &row[0][1]));
    for (i, candidate) in row.iter().enumerate().skip(1) {
        let mask = index.equal(index.like(i as u64));
        x = x.or_row(mask, &candidate[0]);
        y = y.or_row(mask, &candidate[1]);
    }
    Point { x, y: y.negate_if(sign) }
}

/// Overwrites what sums of secret multiples were in.
#[inline(always)]
fn wipe<V: Vector>(token: V::Token, points: &mut [Point<V>], prefixes: &mut [Fe<V>]) {
    for point in points.iter_mut() {
        *point = Point::blank(token);
    }
    for prefix in prefixes.iter_mut() {
        *prefix = Fe::one(token);
    }
    zeroize::optimization_barrier(&points[..]);
    zeroize::optimization_barrier(&prefixes[..]);
}

/// The x of k G for each k in 1..=n-1, or zero where the lanes could not find it; nothing if there
/// are no lanes.
pub(super) fn multiply(backend: super::Backend, numbers: &[Number]) -> Vec<Number> {
    backend.run(Multiply(numbers)).unwrap_or_default()
}

/// Signs each digest with its key.
pub(super) fn sign(
    backend: super::Backend,
    items: &[(&SecretKey, Digest)],
    hash: HashMany<'_>,
    out: &mut [Signature],
) {
    let nonces = nonces(items, hash);
    let mut numbers = Zeroizing::new(Vec::with_capacity(items.len()));
    for nonce in nonces.iter() {
        let number = scalar::from_bytes(nonce);
        // Out of range, it is replaced by 1, and by another way below.
        numbers.push(if scalar::in_range(&number) { number } else { [1, 0, 0, 0] });
    }
    let found = Zeroizing::new(multiply(backend, &numbers));
    for (i, ((key, e), signature)) in items.iter().zip(out).enumerate() {
        let k = super::super::scalar_in_range(&nonces[i]).map(Zeroizing::new);
        let x = found.get(i).filter(|x| **x != [0; 4]);
        let made =
            k.zip(x).and_then(|(k, x)| signature_with_x(key, &reduce(e), &k, &scalar::to_bytes(x)));
        *signature = made.unwrap_or_else(|| sign_digest(key, e, &[]));
    }
}
