//! Numbers modulo n as four words, least first: what verification computes with r, s and e, and the
//! digits of multipliers. Public values only, unless a function says otherwise.
//!
//! A multiplier k below n is written with odd digits only: for window width w,
//! k = sum of d_i 2^(w i) with d_i odd and |d_i| below 2^w. No digit is zero, so each window adds
//! exactly one of 2^(w-1) points or its negative. That wants an odd k; for an even one take n - k,
//! which is odd, and negate.

use crate::Digest;
use crate::simd::limbs::{MAX_LANES, Vector};
use zeroize::Zeroize;

/// A number below 2^256, least word first.
pub(super) type Number = [u64; 4];

/// The order of the curve.
pub(super) const N: Number =
    [0x53bb_f409_39d5_4123, 0x7203_df6b_21c6_052b, 0xffff_ffff_ffff_ffff, 0xffff_fffe_ffff_ffff];

/// p - n: an x modulo n below this has two x modulo p.
const P_LESS_N: Number = [0xac44_0bf6_c62a_bedc, 0x8dfc_2093_de39_fad5, 0, 0];

/// Whether two numbers below p are this modulo n.
pub(super) fn is_ambiguous(x: &Number) -> bool {
    sub(x, &P_LESS_N).1
}

/// From 32 bytes, big-endian.
pub(super) fn from_bytes(bytes: &[u8; 32]) -> Number {
    let mut number = [0; 4];
    for (word, bytes) in number.iter_mut().rev().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_be_bytes(*bytes);
    }
    number
}

/// To 32 bytes, big-endian.
pub(super) fn to_bytes(number: &Number) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (word, bytes) in number.iter().rev().zip(bytes.as_chunks_mut::<8>().0) {
        *bytes = word.to_be_bytes();
    }
    bytes
}

/// The sum and whether it overflowed.
fn add(a: &Number, b: &Number) -> (Number, bool) {
    let mut sum = [0; 4];
    let mut carry = false;
    for i in 0..4 {
        (sum[i], carry) = a[i].carrying_add(b[i], carry);
    }
    (sum, carry)
}

/// The difference and whether it is negative.
fn sub(a: &Number, b: &Number) -> (Number, bool) {
    let mut difference = [0; 4];
    let mut borrow = false;
    for i in 0..4 {
        (difference[i], borrow) = a[i].borrowing_sub(b[i], borrow);
    }
    (difference, borrow)
}

/// `yes` or `no` without a branch.
fn select(condition: bool, yes: &Number, no: &Number) -> Number {
    let mask = u64::from(core::hint::black_box(condition)).wrapping_neg();
    core::array::from_fn(|i| (yes[i] & mask) | (no[i] & !mask))
}

/// Whether the number lies in 1..=n-1.
pub(super) fn in_range(number: &Number) -> bool {
    *number != [0; 4] && sub(number, &N).1
}

/// Takes n off a number below 2 n, given with its overflow.
fn reduce_once(number: &Number, overflow: bool) -> Number {
    let (less, borrow) = sub(number, &N);
    select(borrow && !overflow, number, &less)
}

/// e modulo n: 2^256 is less than 2 n.
pub(super) fn reduce(e: &Digest) -> Number {
    reduce_once(&from_bytes(e), false)
}

/// The sum modulo n.
pub(super) fn add_mod(a: &Number, b: &Number) -> Number {
    let (sum, overflow) = add(a, b);
    reduce_once(&sum, overflow)
}

/// The difference modulo n.
pub(super) fn sub_mod(a: &Number, b: &Number) -> Number {
    let (difference, borrow) = sub(a, b);
    select(borrow, &add(&difference, &N).0, &difference)
}

/// An odd multiplier and whether its multiple must be negated.
#[derive(Clone, Copy)]
pub(super) struct Odd {
    pub(super) number: Number,
    pub(super) negated: bool,
}

impl Odd {
    /// Of `k` in 1..=n-1. No branch depends on `k`.
    pub(super) fn new(k: &Number) -> Self {
        let negated = k[0] & 1 == 0;
        Self { number: select(negated, &sub(&N, k).0, k), negated }
    }
}

/// An odd multiplier in each lane.
#[derive(Clone, Copy)]
pub(super) struct Multiplier<V> {
    /// Least word first.
    words: [V; 4],
    /// All ones where the multiple must be negated.
    negated: V,
}

impl<V: Vector> Multiplier<V> {
    /// One of these a lane; the last one fills up. No branch depends on a number.
    #[inline(always)]
    pub(super) fn load<'a>(token: V::Token, odd: impl Fn(usize) -> &'a Odd) -> Self {
        let (mut words, mut negated) = ([[0; MAX_LANES]; 4], [0; MAX_LANES]);
        for lane in 0..V::LANES {
            let odd = odd(lane);
            negated[lane] = u64::from(odd.negated).wrapping_neg();
            for (words, word) in words.iter_mut().zip(odd.number) {
                words[lane] = word;
            }
        }
        let multiplier = Self {
            words: [
                V::load(token, &words[0]),
                V::load(token, &words[1]),
                V::load(token, &words[2]),
                V::load(token, &words[3]),
            ],
            negated: V::load(token, &negated),
        };
        words.zeroize();
        multiplier
    }

    /// Zero in every lane.
    pub(super) fn zero(token: V::Token) -> Self {
        let zero = V::splat(token, 0);
        Self { words: [zero; 4], negated: zero }
    }

    /// The digits of window `i` of windows of `WIDTH` bits: the index of each magnitude among 1, 3,
    /// 5, .., and all ones where it is negative. No branch or address depends on a number.
    #[inline(always)]
    pub(super) fn digit<const WIDTH: usize>(&self, i: usize) -> (V, V) {
        let from = WIDTH * i + 1;
        let (word, shift) = (from / 64, (from % 64) as u32);
        // The top window of some widths lies above the number.
        let mut value = self.negated.like(0);
        if let Some(low) = self.words.get(word) {
            value = low.shr(shift);
        }
        if let (Some(high), 1..) = (self.words.get(word + 1), shift) {
            value = value.or(high.shl(64 - shift));
        }
        let value = value.and(value.like((1 << WIDTH) - 1));
        if i + 1 == windows(WIDTH) {
            return (value, self.negated);
        }
        // Of a value v the digit is 2 v + 1 - 2^WIDTH: negative where the highest bit is missing.
        let sign = value.shr(WIDTH as u32 - 1).sub(value.like(1));
        let index = value.xor(sign).and(value.like((1 << (WIDTH - 1)) - 1));
        (index, sign.xor(self.negated))
    }
}

/// How many windows of `width` bits a multiplier below 2^256 has. Of its 255 bits above the lowest
/// the top window then holds less than `width`, so that its digit is positive.
pub(super) const fn windows(width: usize) -> usize {
    255 / width + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::limbs::Words;
    use crate::sm3;
    use ::sm2::Scalar;
    use ::sm2::elliptic_curve::PrimeField;

    fn scalar(number: &Number) -> Scalar {
        Scalar::from_repr(to_bytes(number).into()).unwrap()
    }

    fn numbers() -> alloc::vec::Vec<Number> {
        let mut numbers = alloc::vec![[0; 4], [1, 0, 0, 0], [2, 0, 0, 0], [1, 0, 0, 1 << 63]];
        for less in [1, 2, 3] {
            numbers.push(sub(&N, &[less, 0, 0, 0]).0);
        }
        numbers.extend((0..40u8).map(|i| reduce(&sm3::hash(&[i]))));
        numbers
    }

    #[test]
    fn sums_and_differences_are_those_of_the_curve_crate() {
        for a in numbers() {
            assert_eq!(from_bytes(&to_bytes(&a)), a);
            assert_eq!(in_range(&a), a != [0; 4]);
            for b in numbers() {
                assert_eq!(scalar(&add_mod(&a, &b)), scalar(&a) + scalar(&b));
                assert_eq!(scalar(&sub_mod(&a, &b)), scalar(&a) - scalar(&b));
            }
        }
        assert!(!in_range(&N));
        assert!(!in_range(&[u64::MAX; 4]));
        assert_eq!(reduce(&to_bytes(&N)), [0; 4]);
        assert_eq!(reduce(&[0xff; 32]), sub(&[u64::MAX; 4], &N).0);
    }

    fn digits_add_up<const WIDTH: usize>() {
        for k in numbers().into_iter().filter(in_range) {
            let odd = Odd::new(&k);
            let multiplier = Multiplier::<Words<1>>::load((), |_| &odd);
            let mut sum = Scalar::ZERO;
            for i in (0..windows(WIDTH)).rev() {
                for _ in 0..WIDTH {
                    sum = sum.double();
                }
                let (index, sign) = multiplier.digit::<WIDTH>(i);
                let [index, sign] = [index, sign].map(|vector| {
                    let mut words = [0; MAX_LANES];
                    vector.store(&mut words);
                    words[0]
                });
                assert!(index < 1 << (WIDTH - 1), "width {WIDTH} window {i}");
                assert!(sign == 0 || sign == u64::MAX, "width {WIDTH} window {i}");
                let digit = Scalar::from(2 * index + 1);
                sum = if sign == 0 { sum + digit } else { sum - digit };
            }
            assert_eq!(sum, scalar(&k), "width {WIDTH}");
        }
    }

    #[test]
    fn odd_digits_add_up_to_the_number() {
        digits_add_up::<2>();
        digits_add_up::<5>();
        digits_add_up::<6>();
        digits_add_up::<8>();
        digits_add_up::<12>();
        digits_add_up::<13>();
    }
}
