//! Arithmetic modulo p = 2^256 - 2^224 - 2^96 + 2^64 - 1 in every lane of a vector.
//!
//! An element is five limbs of 52 bits, in Montgomery form with R = 2^260. As p + 1 is divisible by
//! 2^52, the quotient digit of the reduction is the lowest limb itself; and p + 1 has two limbs
//! other than zero, so one digit costs two limb products.
//!
//! Invariants (crypto/DESIGN.md proves them step by step)
//! - Every limb of an element is below 2^52, except where a function says "signed limbs".
//! - Values are bounded, not unique: *tight* is below 2^256 + 2^230, which is below 2 p; everything
//!   else is a few p, as each function says, and always below 16 p.
//! - No branch and no index depends on a value.

use crate::simd::limbs::{MAX_LANES, Step, Vector};

#[cfg(test)]
mod tests;

/// Limbs of an element.
const LIMBS: usize = 5;
/// Bits of a limb.
const BITS: u32 = 52;
const MASK: u64 = (1 << BITS) - 1;

/// p.
pub(super) const P: [u64; LIMBS] =
    [MASK, (1 << 52) - (1 << 44) + (1 << 12) - 1, MASK, MASK, (1 << 48) - (1 << 16) - 1];
/// The limbs of p + 1 that are not zero, with the borrow of limb 1 left in limb 2:
/// p + 1 = P1 2^52 - 2^104 + P4 2^208.
const P1: u64 = (1 << 52) - (1 << 44) + (1 << 12);
const P4: u64 = (1 << 48) - (1 << 16);

/// One, which is R mod p.
pub(super) const ONE: [u64; LIMBS] = [0x10, 0xffff_ffff_0000, 0x0, 0x0, 0x10_0000];
/// R^2 mod p: multiplying by it goes into Montgomery form.
const R2: [u64; LIMBS] =
    [0x200_0000_0300, 0xf_ffff_fff0_0000, 0x1_0000_0002, 0x2000_0000_1000, 0x400_0000];
/// R^3 mod p: multiplying by it mends the inverse of a Montgomery form.
const R3: [u64; LIMBS] =
    [0x1_2000_0001_6000, 0xf_ffff_f800_0000, 0xc0_0000_00ef, 0x9_0000_000a_0000, 0x1_b000_0000];

/// An element in each lane.
#[derive(Clone, Copy)]
pub(super) struct Fe<V>([V; LIMBS]);

/// Columns of a product before reduction: column k has weight 2^(52 k).
struct Columns<V>([V; 2 * LIMBS]);

/// Runs the body for each index, unrolled whatever the optimizer thinks of it.
macro_rules! each {
    ($i:ident in [$($n:literal)+] $body:block) => {
        $({ const $i: usize = $n; $body })+
    };
}

/// Lends each column 2^58 from the one above it, so that no column is negative when it is shifted.
const fn lend(mut columns: [u64; 2 * LIMBS], lowest: usize) -> [u64; 2 * LIMBS] {
    let mut k = lowest;
    while k + 1 < 2 * LIMBS {
        columns[k] = columns[k].wrapping_add(1 << 58);
        columns[k + 1] = columns[k + 1].wrapping_sub(1 << (58 - BITS));
        k += 1;
    }
    columns
}

/// What the columns start from: `multiple` times p in the upper half (which is added to the reduced
/// result), what was lent, and less what the multiplications of `products` products and of the
/// reduction will leave beside the halves. With `reduce` false, nothing but the multiple and the
/// loan.
const fn start<V: Vector>(products: u64, multiple: u64, reduce: bool) -> [u64; 2 * LIMBS] {
    let mut columns = [0u64; 2 * LIMBS];
    let mut k = 0;
    while k < LIMBS {
        columns[LIMBS + k] = multiple * P[k];
        k += 1;
    }
    if !reduce {
        return lend(columns, LIMBS);
    }
    let mut i = 0;
    while i < LIMBS {
        let mut j = 0;
        while j < LIMBS {
            columns = less_offsets::<V>(columns, i + j, products);
            j += 1;
        }
        columns = less_offsets::<V>(columns, i + 1, 1);
        columns = less_offsets::<V>(columns, i + 4, 1);
        i += 1;
    }
    lend(columns, 0)
}

const fn less_offsets<V: Vector>(
    mut columns: [u64; 2 * LIMBS],
    k: usize,
    times: u64,
) -> [u64; 2 * LIMBS] {
    columns[k] = columns[k].wrapping_sub(V::LOW_OFFSET.wrapping_mul(times));
    columns[k + 1] = columns[k + 1].wrapping_sub(V::HIGH_OFFSET.wrapping_mul(times));
    columns
}

/// The starts that are used; constants of the vector's type.
struct Starts<V>(V);

impl<V: Vector> Starts<V> {
    const ONE_PRODUCT: [[u64; 2 * LIMBS]; 9] = [
        start::<V>(1, 0, true),
        start::<V>(1, 1, true),
        start::<V>(1, 2, true),
        start::<V>(1, 3, true),
        start::<V>(1, 4, true),
        start::<V>(1, 5, true),
        start::<V>(1, 6, true),
        start::<V>(1, 7, true),
        start::<V>(1, 8, true),
    ];
    const TWO_PRODUCTS: [u64; 2 * LIMBS] = start::<V>(2, 1, true);
    const FOUR_P: [u64; 2 * LIMBS] = start::<V>(0, 4, false);
    const TWELVE_P: [u64; 2 * LIMBS] = start::<V>(0, 12, false);
    /// 2^260 - p, in the upper half.
    const MINUS_P: [u64; 2 * LIMBS] = {
        let mut columns = [0u64; 2 * LIMBS];
        let mut k = 0;
        while k < LIMBS {
            // 2^260 - p = (2^260 - 1 - p) + 1
            columns[LIMBS + k] = (MASK - P[k]) + if k == 0 { 1 } else { 0 };
            k += 1;
        }
        columns
    };
}

impl<V: Vector> Columns<V> {
    #[inline(always)]
    fn start(token: V::Token, words: &[u64; 2 * LIMBS]) -> Self {
        let mut columns = [V::splat(token, words[0]); 2 * LIMBS];
        each!(K in [1 2 3 4 5 6 7 8 9] { columns[K] = V::splat(token, words[K]); });
        Self(columns)
    }

    #[inline(always)]
    fn multiply_add(&mut self, k: usize, a: V::Factor, b: V::Factor) {
        (self.0[k], self.0[k + 1]) = V::multiply_add(self.0[k], self.0[k + 1], a, b);
    }

    /// Adds a product.
    #[inline(always)]
    fn product(&mut self, a: &Fe<V>, b: &Fe<V>) {
        let (a, b) = (a.factors(), b.factors());
        each!(I in [0 1 2 3 4] {
            each!(J in [0 1 2 3 4] { self.multiply_add(I + J, a[I], b[J]); });
        });
    }

    /// A square, added to columns that hold half of what they should start from. (All starts are
    /// even.)
    #[inline(always)]
    fn square(&mut self, a: &Fe<V>) {
        let a = a.factors();
        each!(I in [0 1 2 3] {
            each!(J in [1 2 3 4] {
                if I < J {
                    self.multiply_add(I + J, a[I], a[J]);
                }
            });
        });
        each!(K in [0 1 2 3 4 5 6 7 8 9] { self.0[K] = self.0[K].add(self.0[K]); });
        each!(I in [0 1 2 3 4] { self.multiply_add(2 * I, a[I], a[I]); });
    }

    /// Montgomery's reduction: makes columns 0 to 4 zero by adding multiples of p, and forgets
    /// them.
    #[inline(always)]
    fn reduce(&mut self) {
        let mask = self.0[0].like(MASK);
        let (p1, p4) = (mask.like(P1).factor(), mask.like(P4).factor());
        each!(I in [0 1 2 3 4] {
            let digit = self.0[I].and(mask);
            let carry = self.0[I].shr(BITS);
            self.0[I + 1] = self.0[I + 1].add(carry);
            self.0[I + 2] = self.0[I + 2].sub(digit);
            let digit = digit.factor();
            self.multiply_add(I + 1, digit, p1);
            self.multiply_add(I + 4, digit, p4);
        });
    }

    /// Subtracts from the upper half.
    #[inline(always)]
    fn minus(&mut self, fe: &Fe<V>) {
        each!(I in [0 1 2 3 4] { self.0[LIMBS + I] = self.0[LIMBS + I].sub(fe.0[I]); });
    }

    /// Shifts the upper half left.
    #[inline(always)]
    fn shl(&mut self, count: u32) {
        each!(I in [0 1 2 3 4] { self.0[LIMBS + I] = self.0[LIMBS + I].shl(count); });
    }

    /// Takes multiples of p off the upper half until it is *tight*. It must be at least 2^208.
    #[inline(always)]
    fn fold(&mut self) {
        let low = self.0[5].like((1 << 48) - 1);
        let top = self.0[9].add(self.0[8].shr(BITS));
        self.0[8] = self.0[8].and(low.like(MASK));
        // What lies above 2^256, and 2^256 = 2^224 + 2^96 - 2^64 + 1 modulo p.
        let over = top.shr(48);
        self.0[9] = top.and(low).add(over.shl(16));
        self.0[5] = self.0[5].add(over);
        self.0[6] = self.0[6].add(over.shl(44)).sub(over.shl(12));
    }

    /// The upper half as an element.
    #[inline(always)]
    fn carry(mut self) -> Fe<V> {
        let mask = self.0[0].like(MASK);
        each!(K in [5 6 7 8] {
            let carry = self.0[K].shr(BITS);
            self.0[K] = self.0[K].and(mask);
            self.0[K + 1] = self.0[K + 1].add(carry);
        });
        Fe([self.0[5], self.0[6], self.0[7], self.0[8], self.0[9]])
    }
}

impl<V: Vector> Fe<V> {
    /// The same element in every lane.
    #[inline(always)]
    pub(super) fn splat(token: V::Token, limbs: &[u64; LIMBS]) -> Self {
        let mut fe = [V::splat(token, limbs[0]); LIMBS];
        each!(I in [1 2 3 4] { fe[I] = V::splat(token, limbs[I]); });
        Self(fe)
    }

    #[inline(always)]
    pub(super) fn token(&self) -> V::Token {
        self.0[0].token()
    }

    #[inline(always)]
    pub(super) fn one(token: V::Token) -> Self {
        Self::splat(token, &ONE)
    }

    #[inline(always)]
    fn factors(&self) -> [V::Factor; LIMBS] {
        let mut factors = [self.0[0].factor(); LIMBS];
        each!(I in [1 2 3 4] { factors[I] = self.0[I].factor(); });
        factors
    }

    #[inline(always)]
    fn product(&self, other: &Self, multiple: usize) -> Columns<V> {
        let mut columns = Columns::<V>::start(self.token(), &Starts::<V>::ONE_PRODUCT[multiple]);
        columns.product(self, other);
        columns.reduce();
        columns
    }

    #[inline(always)]
    fn squared(&self, multiple: usize) -> Columns<V> {
        let mut half = Starts::<V>::ONE_PRODUCT[multiple];
        each!(K in [0 1 2 3 4 5 6 7 8 9] { half[K] >>= 1; });
        let mut columns = Columns::start(self.token(), &half);
        columns.square(self);
        columns.reduce();
        columns
    }

    /// The product, below a b / R + p.
    #[inline(always)]
    pub(super) fn mul(&self, other: &Self) -> Self {
        self.product(other, 0).carry()
    }

    /// The square, below a^2 / R + p.
    #[inline(always)]
    pub(super) fn square(&self) -> Self {
        self.squared(0).carry()
    }

    /// The product less `minus` (signed limbs allowed, between -p and 4 p), tight.
    #[inline(always)]
    pub(super) fn mul_sub(&self, other: &Self, minus: &Self) -> Self {
        let mut columns = self.product(other, 5);
        columns.minus(minus);
        columns.fold();
        columns.carry()
    }

    /// 2^`shift` times the product, tight.
    #[inline(always)]
    pub(super) fn mul_shl(&self, other: &Self, shift: u32) -> Self {
        let mut columns = self.product(other, 1);
        columns.shl(shift);
        columns.fold();
        columns.carry()
    }

    /// 2 times the product, below 2 (a b / R + p).
    #[inline(always)]
    pub(super) fn mul_double(&self, other: &Self) -> Self {
        let mut columns = self.product(other, 0);
        columns.shl(1);
        columns.carry()
    }

    /// 3 times the product, tight.
    #[inline(always)]
    pub(super) fn mul_triple(&self, other: &Self) -> Self {
        let mut columns = self.product(other, 1);
        each!(K in [5 6 7 8 9] { columns.0[K] = columns.0[K].add(columns.0[K].shl(1)); });
        columns.fold();
        columns.carry()
    }

    /// The square less `a` and `b`, which are tight; tight.
    #[inline(always)]
    pub(super) fn square_sub(&self, a: &Self, b: &Self) -> Self {
        let mut columns = self.squared(4);
        columns.minus(a);
        columns.minus(b);
        columns.fold();
        columns.carry()
    }

    /// The square less twice `b`, which is tight; tight.
    #[inline(always)]
    pub(super) fn square_sub_double(&self, b: &Self) -> Self {
        let mut columns = self.squared(4);
        columns.minus(b);
        columns.minus(b);
        columns.fold();
        columns.carry()
    }

    /// The square less `a` and twice `b`, which are below 2 p; tight.
    #[inline(always)]
    pub(super) fn square_sub_twice(&self, a: &Self, b: &Self) -> Self {
        let mut columns = self.squared(8);
        columns.minus(a);
        columns.minus(b);
        columns.minus(b);
        columns.fold();
        columns.carry()
    }

    /// `self * a + b * c` with one reduction, tight.
    #[inline(always)]
    pub(super) fn mul_add(&self, a: &Self, b: &Self, c: &Self) -> Self {
        let mut columns = Columns::<V>::start(self.token(), &Starts::<V>::TWO_PRODUCTS);
        columns.product(self, a);
        columns.product(b, c);
        columns.reduce();
        columns.fold();
        columns.carry()
    }

    /// `self - other + 4 p`. Both may have signed limbs; `other - self` must be at most 4 p.
    #[inline(always)]
    pub(super) fn sub(&self, other: &Self) -> Self {
        let mut columns = Columns::<V>::start(self.token(), &Starts::<V>::FOUR_P);
        each!(I in [0 1 2 3 4] { columns.0[LIMBS + I] = columns.0[LIMBS + I].add(self.0[I]); });
        columns.minus(other);
        columns.carry()
    }

    /// `4 p - self`, for `self` at most 4 p.
    #[inline(always)]
    pub(super) fn neg(&self) -> Self {
        let mut columns = Columns::<V>::start(self.token(), &Starts::<V>::FOUR_P);
        columns.minus(self);
        columns.carry()
    }

    /// `12 p - 8 self`, for `self` at most 1.5 p.
    #[inline(always)]
    pub(super) fn minus_eight_times(&self) -> Self {
        let mut columns = Columns::<V>::start(self.token(), &Starts::<V>::TWELVE_P);
        each!(I in [0 1 2 3 4] {
            columns.0[LIMBS + I] = columns.0[LIMBS + I].sub(self.0[I].shl(3));
        });
        columns.carry()
    }

    /// The sum.
    #[inline(always)]
    pub(super) fn add(&self, other: &Self) -> Self {
        let mut sum = *self;
        let mask = self.0[0].like(MASK);
        each!(I in [0 1 2 3 4] { sum.0[I] = sum.0[I].add(other.0[I]); });
        each!(I in [0 1 2 3] {
            sum.0[I + 1] = sum.0[I + 1].add(sum.0[I].shr(BITS));
            sum.0[I] = sum.0[I].and(mask);
        });
        sum
    }

    /// Negated where `sign` is all ones, as it is where `sign` is zero: signed limbs.
    #[inline(always)]
    pub(super) fn negate_if(&self, sign: V) -> Self {
        let mut fe = *self;
        each!(I in [0 1 2 3 4] { fe.0[I] = fe.0[I].xor(sign).sub(sign); });
        fe
    }

    /// `self` where the mask says yes, `other` elsewhere.
    #[inline(always)]
    pub(super) fn select(&self, mask: V::Mask, other: &Self) -> Self {
        let mut fe = *self;
        each!(I in [0 1 2 3 4] { fe.0[I] = fe.0[I].select(mask, other.0[I]); });
        fe
    }

    /// The limbs of one row of a table where the mask says yes, `self` elsewhere.
    #[inline(always)]
    pub(super) fn or_row(&self, mask: V::Mask, row: &[u64; LIMBS]) -> Self {
        let mut fe = *self;
        each!(I in [0 1 2 3 4] { fe.0[I] = fe.0[I].like(row[I]).select(mask, fe.0[I]); });
        fe
    }

    /// The one form below p of an element below 2 p.
    #[inline(always)]
    pub(super) fn canonical(&self) -> Self {
        let mut less = Columns::<V>::start(self.token(), &Starts::<V>::MINUS_P);
        each!(I in [0 1 2 3 4] { less.0[LIMBS + I] = less.0[LIMBS + I].add(self.0[I]); });
        let mut less = less.carry();
        // Bit 260 says that p could be subtracted.
        let yes = less.0[4].like(0).sub(less.0[4].shr(BITS));
        less.0[4] = less.0[4].and(yes.like(MASK));
        let mut fe = *self;
        each!(I in [0 1 2 3 4] { fe.0[I] = fe.0[I].xor(fe.0[I].xor(less.0[I]).and(yes)); });
        fe
    }

    /// The product, as a function of its own.
    pub(super) fn times(&self, other: &Self) -> Self {
        V::enter(self.token(), Product(self, other))
    }

    /// The one form below p of an element of any bound.
    pub(super) fn reduced(&self) -> Self {
        V::enter(self.token(), Reduced(self.times(&Self::one(self.token()))))
    }

    /// Out of Montgomery form, the one form below p.
    pub(super) fn to_plain(self) -> Self {
        V::enter(self.token(), Reduced(self.times(&Self::splat(self.token(), &[1, 0, 0, 0, 0]))))
    }

    /// Into Montgomery form, the one form below p.
    pub(super) fn to_montgomery(self) -> Self {
        V::enter(self.token(), Reduced(self.times(&Self::splat(self.token(), &R2))))
    }

    /// The inverse of which `self` is the plain inverse of the Montgomery form: times R^3.
    pub(super) fn mend_inverse(self) -> Self {
        self.times(&Self::splat(self.token(), &R3))
    }

    /// Which lanes are zero modulo p: a bit for each, of an element of any bound.
    pub(super) fn zeros(&self) -> u32 {
        let reduced = self.reduced();
        let mut all = reduced.0[0];
        each!(I in [1 2 3 4] { all = all.or(reduced.0[I]); });
        let mut words = [1; MAX_LANES];
        all.store(&mut words);
        let mut zeros = 0;
        for (lane, word) in words.iter().take(V::LANES).enumerate() {
            zeros |= u32::from(*word == 0) << lane;
        }
        zeros
    }

    /// From 256-bit numbers, least word first, a number a lane.
    #[inline(always)]
    pub(super) fn unpack(words: &[V; 4]) -> Self {
        let mask = words[0].like(MASK);
        Self([
            words[0].and(mask),
            words[0].shr(52).or(words[1].shl(12)).and(mask),
            words[1].shr(40).or(words[2].shl(24)).and(mask),
            words[2].shr(28).or(words[3].shl(36)).and(mask),
            words[3].shr(16),
        ])
    }

    /// To 256-bit numbers; the element must be below 2^256.
    #[inline(always)]
    pub(super) fn pack(&self) -> [V; 4] {
        let limbs = &self.0;
        [
            limbs[0].or(limbs[1].shl(52)),
            limbs[1].shr(12).or(limbs[2].shl(40)),
            limbs[2].shr(24).or(limbs[3].shl(28)),
            limbs[3].shr(36).or(limbs[4].shl(16)),
        ]
    }

    /// Reads one lane's numbers, each of four words, least first.
    #[inline(always)]
    pub(super) fn load(token: V::Token, numbers: &[[u64; MAX_LANES]; 4]) -> Self {
        Self::unpack(&[
            V::load(token, &numbers[0]),
            V::load(token, &numbers[1]),
            V::load(token, &numbers[2]),
            V::load(token, &numbers[3]),
        ])
    }

    /// The words of a canonical element, lane by lane.
    #[inline(always)]
    pub(super) fn store(&self) -> [[u64; MAX_LANES]; 4] {
        let packed = self.pack();
        let mut numbers = [[0; MAX_LANES]; 4];
        each!(I in [0 1 2 3] { packed[I].store(&mut numbers[I]); });
        numbers
    }

    /// The limbs in one lane.
    pub(super) fn limbs_of_lane(&self, lane: usize) -> [u64; LIMBS] {
        let mut words = [0; MAX_LANES];
        self.0.map(|limb| {
            limb.store(&mut words);
            words[lane]
        })
    }

    /// Lane i has what was in lane i + `by`, the last lane before the first.
    pub(super) fn rotate(&self, by: usize) -> Self {
        let token = self.token();
        let mut words = [0; MAX_LANES];
        Self(self.0.map(|limb| {
            limb.store(&mut words);
            words[..V::LANES].rotate_left(by);
            V::load(token, &words)
        }))
    }

    /// Puts a small number in place of one lane.
    pub(super) fn set_lane(&mut self, lane: usize, number: u64) {
        let token = self.token();
        let mut words = [0; MAX_LANES];
        for (i, limb) in self.0.iter_mut().enumerate() {
            limb.store(&mut words);
            words[lane] = if i == 0 { number } else { 0 };
            *limb = V::load(token, &words);
        }
    }
}

struct Product<'a, V>(&'a Fe<V>, &'a Fe<V>);

impl<V: Vector> Step for Product<'_, V> {
    type Output = Fe<V>;

    #[inline(always)]
    fn run(self) -> Fe<V> {
        self.0.mul(self.1)
    }
}

struct Reduced<V>(Fe<V>);

impl<V: Vector> Step for Reduced<V> {
    type Output = Fe<V>;

    #[inline(always)]
    fn run(self) -> Fe<V> {
        self.0.canonical()
    }
}
