//! Holds every operation of the field, on every vector, to the integers modulo p of another
//! library, at the ends of the ranges that its comment allows; and its result to the bound that
//! crypto/DESIGN.md gives.

use super::*;
use crate::simd::limbs::Work;
use crate::sm2::lanes::Backend;
use crate::sm3;
use ::sm2::U256;
use ::sm2::elliptic_curve::bigint::{NonZero, U512};
use alloc::vec::Vec;

type Limbs = [u64; LIMBS];

fn modulus() -> NonZero<U256> {
    let p = "fffffffeffffffffffffffffffffffffffffffff00000000ffffffffffffffff";
    NonZero::new(U256::from_be_hex(p)).unwrap()
}

/// A number modulo p.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mod(U256);

impl Mod {
    fn of(limbs: &Limbs) -> Self {
        limbs.iter().rev().fold(Self(U256::ZERO), |sum, limb| {
            sum.times(Self(U256::from_u64(1 << 52))).plus(Self(U256::from_u64(*limb)))
        })
    }

    fn small(number: u64) -> Self {
        Self(U256::from_u64(number))
    }

    fn plus(self, other: Self) -> Self {
        Self(self.0.add_mod(&other.0, &modulus()))
    }

    fn minus(self, other: Self) -> Self {
        Self(self.0.sub_mod(&other.0, &modulus()))
    }

    fn times(self, other: Self) -> Self {
        Self(self.0.mul_mod(&other.0, &modulus()))
    }

    /// The product in Montgomery form: divided by R.
    fn montgomery(self, other: Self) -> Self {
        let r = Self::of(&ONE);
        let inverse =
            r.0.invert_odd_mod(&::sm2::elliptic_curve::bigint::Odd::new(*modulus()).unwrap());
        self.times(other).times(Self(inverse.unwrap()))
    }
}

/// `multiple` times p plus `more`, as limbs.
fn near(multiple: u64, more: i64) -> Limbs {
    let p = U512::from(&*modulus());
    let value = p.wrapping_mul(&U512::from_u64(multiple));
    let value = if more < 0 {
        value.wrapping_sub(&U512::from_u64(more.unsigned_abs()))
    } else {
        value.wrapping_add(&U512::from_u64(more.unsigned_abs()))
    };
    let bytes = value.to_le_bytes();
    let bit = |i: usize| u64::from(bytes[i / 8] >> (i % 8) & 1);
    core::array::from_fn(|l| (0..52).map(|i| bit(52 * l + i) << i).sum())
}

/// Edges up to `most` times p, and random numbers.
fn numbers(most: u64) -> Vec<Limbs> {
    let mut numbers = alloc::vec![near(0, 0), near(0, 1), near(0, 2), ONE, R2];
    for multiple in 1..=most {
        numbers.extend([near(multiple, -1), near(multiple, 0)]);
    }
    numbers.push([MASK, MASK, MASK, MASK, (1 << 48) - 1]);
    if most > 1 {
        // As tight as a fold leaves it.
        numbers.push([MASK, MASK, MASK, MASK, (1 << 48) + (1 << 21)]);
    }
    for i in 0..8u8 {
        let digest = sm3::hash(&[i]);
        let word = |l: usize| u64::from_be_bytes(digest.as_chunks::<8>().0[l % 4]);
        numbers.push(core::array::from_fn(|l| word(l) >> if l == 4 { 17 } else { 12 }));
    }
    numbers
}

/// The results of each operation on one pair of operands, the bound of each in bits (above 256 by
/// how much: 0 is tight), in the order of `expected`.
struct Trial {
    /// Tight.
    a: Limbs,
    b: Limbs,
    /// Up to 6 p.
    loose: Limbs,
    /// Up to 2 p.
    double: Limbs,
}

impl Work for Trial {
    type Output = Vec<Limbs>;

    #[inline(always)]
    fn run<V: Vector>(self, token: V::Token) -> Vec<Limbs> {
        let fe = |limbs: &Limbs| Fe::<V>::splat(token, limbs);
        let (a, b, loose, double) = (fe(&self.a), fe(&self.b), fe(&self.loose), fe(&self.double));
        let minus_b = b.negate_if(V::splat(token, u64::MAX));
        let results = [
            loose.mul(&double),
            loose.square(),
            loose.mul_sub(&double, &b),
            loose.mul_sub(&double, &minus_b),
            a.mul_shl(&double, 2),
            a.mul_double(&double),
            loose.mul_triple(&double),
            double.square_sub(&a, &b),
            a.square_sub_double(&b),
            loose.square_sub_twice(&double, &a),
            loose.mul_add(&loose, &double, &double),
            a.sub(&b),
            a.sub(&minus_b),
            minus_b.sub(&a),
            a.neg(),
            a.minus_eight_times(),
            a.add(&double),
            double.canonical(),
            loose.reduced(),
            double.to_montgomery(),
            loose.to_plain(),
            double.mend_inverse(),
            Fe::unpack(&double.canonical().pack()),
        ];
        for result in &results {
            for lane in 1..V::LANES {
                assert_eq!(result.limbs_of_lane(lane), result.limbs_of_lane(0));
            }
        }
        results.iter().map(|result| result.limbs_of_lane(0)).collect()
    }
}

const TIGHT: u64 = (1 << 48) + (1 << 22);
/// The top limb of p, rounded up.
const TOP: u64 = 1 << 48;

/// What each result is, and what its top limb is below.
fn expected(trial: &Trial) -> Vec<(Mod, u64)> {
    let (a, b) = (Mod::of(&trial.a), Mod::of(&trial.b));
    let (loose, double) = (Mod::of(&trial.loose), Mod::of(&trial.double));
    let times = |n: u64, m: Mod| Mod::small(n).times(m);
    let product = loose.montgomery(double);
    let canonical = TOP - (1 << 16);
    let one = Mod::small(1);
    let r = Mod::of(&ONE);
    alloc::vec![
        (product, 2 * TOP),
        (loose.montgomery(loose), 4 * TOP),
        (product.minus(b), TIGHT),
        (product.plus(b), TIGHT),
        (times(4, a.montgomery(double)), TIGHT),
        (times(2, a.montgomery(double)), 3 * TOP),
        (times(3, product), TIGHT),
        (double.montgomery(double).minus(a).minus(b), TIGHT),
        (a.montgomery(a).minus(b).minus(b), TIGHT),
        (loose.montgomery(loose).minus(double).minus(a).minus(a), TIGHT),
        (loose.montgomery(loose).plus(double.montgomery(double)), TIGHT),
        (a.minus(b), 6 * TOP),
        (a.plus(b), 7 * TOP),
        (Mod::small(0).minus(b).minus(a), 6 * TOP),
        (Mod::small(0).minus(a), 4 * TOP + 1),
        (Mod::small(0).minus(times(8, a)), 12 * TOP + 1),
        (a.plus(double), 4 * TOP),
        (double, canonical),
        (loose, canonical),
        (double.times(r), canonical),
        (loose.montgomery(one), canonical),
        (double.times(r).times(r), 2 * TOP),
        (double, canonical),
    ]
}

fn check(run: impl Fn(Trial) -> Vec<Limbs>) {
    let (tight, doubles, loose) = (numbers(1), numbers(2), numbers(6));
    let count = tight.len().max(doubles.len()).max(loose.len());
    for step in 0..count {
        for i in 0..count {
            let j = i + step;
            let trial = || Trial {
                a: tight[i % tight.len()],
                b: tight[j % tight.len()],
                loose: loose[(i + 3 * step) % loose.len()],
                double: doubles[j % doubles.len()],
            };
            let results = run(trial());
            for (which, (limbs, (value, bound))) in
                results.iter().zip(expected(&trial())).enumerate()
            {
                assert_eq!(Mod::of(limbs), value, "operation {which} step {step} i {i}");
                assert!(limbs[..4].iter().all(|limb| *limb <= MASK), "operation {which}");
                assert!(limbs[4] <= bound, "operation {which}: {:x} {bound:x}", limbs[4]);
            }
        }
    }
}

#[test]
fn operations_are_those_of_integers_modulo_p() {
    check(|trial| crate::simd::limbs::run::<crate::simd::limbs::Words<2>, _>((), trial));
    for backend in Backend::all().into_iter().skip(1) {
        check(|trial| backend.run(trial).unwrap());
    }
}

struct Zeros(Vec<Limbs>);

impl Work for Zeros {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<V: Vector>(self, token: V::Token) -> Vec<u32> {
        let all = u32::MAX >> (32 - V::LANES);
        self.0
            .iter()
            .map(|limbs| {
                let mut fe = Fe::<V>::splat(token, limbs);
                let zeros = fe.zeros();
                assert!(zeros == 0 || zeros == all);
                // One lane alone.
                fe.set_lane(V::LANES - 1, 0);
                assert_eq!(fe.zeros(), zeros | 1 << (V::LANES - 1));
                zeros & 1
            })
            .collect()
    }
}

#[test]
fn zero_is_recognized_in_every_form() {
    for backend in Backend::all().into_iter().skip(1).chain([Backend::Emulated]) {
        for multiple in 0..=15 {
            let more = if multiple == 0 { 1 } else { -1 };
            let zeros = backend.run(Zeros(alloc::vec![near(multiple, 0), near(multiple, more)]));
            assert_eq!(zeros.unwrap(), [1, 0], "{backend:?} {multiple}");
        }
    }
}
