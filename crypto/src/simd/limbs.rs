//! Vectors of 64-bit words that hold limbs of 52 bits, with the one multiplication that large
//! numbers are made of: 52 by 52 bits, the low and the high half each added to an accumulator.
//!
//! Processors with IFMA have just that instruction. On the others the two halves come out of the
//! mantissas of fused multiply-adds of doubles, which is exact and leaves known constants in the
//! accumulators; the caller starts its accumulators lower by so much ([`Vector::LOW_OFFSET`],
//! [`Vector::HIGH_OFFSET`]). Everything else is plain integer arithmetic modulo 2^64.
//!
//! Invariants
//! - A vector comes from a token of its instruction set or from another vector, so whoever holds
//!   one may use its instructions.
//! - [`Words`] is the definition; every other vector equals it lane by lane.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod ifma;
#[cfg(target_arch = "x86_64")]
mod plain512;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
pub(crate) use self::{
    avx2::{Avx2Fma, Doubles4},
    avx512::Doubles8,
    ifma::Madd8,
};

/// Asks for a line of a table ahead of its use.
#[inline(always)]
pub(crate) fn prefetch(line: &[u64; 8]) {
    #[cfg(target_arch = "x86_64")]
    avx2::prefetch(line);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// The most lanes of any vector.
pub(crate) const MAX_LANES: usize = 8;

/// Some work that is compiled once for each instruction set.
pub(crate) trait Work {
    /// What it gives back.
    type Output;

    /// Does the work with vectors made from `token`. Implementations are `#[inline(always)]`, and
    /// so is everything below them that handles vectors.
    fn run<V: Vector>(self, token: V::Token) -> Self::Output;
}

/// A part of some work that stays a function of its own, compiled for the instruction set of the
/// vectors in it. Without such borders everything would be inlined into one function that takes
/// minutes to compile.
pub(crate) trait Step {
    /// What it gives back.
    type Output;

    /// Does it. Implementations are `#[inline(always)]`.
    fn run(self) -> Self::Output;
}

/// Some work on vectors `V`, as a step.
pub(crate) struct Whole<V: Vector, W>(V::Token, W);

impl<V: Vector, W: Work> Step for Whole<V, W> {
    type Output = W::Output;

    #[inline(always)]
    fn run(self) -> W::Output {
        self.1.run::<V>(self.0)
    }
}

/// Does `work` with vectors `V`.
pub(crate) fn run<V: Vector, W: Work>(token: V::Token, work: W) -> W::Output {
    V::enter(token, Whole::<V, W>(token, work))
}

/// A vector of [`Vector::LANES`] words of 64 bits. All arithmetic is modulo 2^64.
pub(crate) trait Vector: Copy {
    /// What proves that the instructions are there.
    type Token: Copy;
    /// A limb below 2^52 made ready for multiplication.
    type Factor: Copy;
    /// A yes or no for each lane.
    type Mask: Copy;

    /// How many words.
    const LANES: usize;
    /// What each multiplication adds to `low` beside the low half.
    const LOW_OFFSET: u64;
    /// What each multiplication adds to `high` beside the high half.
    const HIGH_OFFSET: u64;

    /// Does `step` in a function compiled for the instruction set, and not inlined.
    fn enter<S: Step>(token: Self::Token, step: S) -> S::Output;
    /// The same word in every lane.
    fn splat(token: Self::Token, word: u64) -> Self;
    /// The first [`Vector::LANES`] of `words`.
    fn load(token: Self::Token, words: &[u64; MAX_LANES]) -> Self;
    /// Eight words of each lane, turned into eight vectors.
    fn transpose(token: Self::Token, lines: &[&[u64; 8]; MAX_LANES]) -> [Self; 8];
    /// Writes the first [`Vector::LANES`] of `words`.
    fn store(self, words: &mut [u64; MAX_LANES]);
    /// The token that this vector was made from.
    fn token(self) -> Self::Token;
    /// Lane by lane.
    fn add(self, other: Self) -> Self;
    /// Lane by lane.
    fn sub(self, other: Self) -> Self;
    /// Lane by lane.
    fn and(self, other: Self) -> Self;
    /// Lane by lane.
    fn or(self, other: Self) -> Self;
    /// Lane by lane.
    fn xor(self, other: Self) -> Self;
    /// All lanes by the same `count` below 64, a constant after inlining.
    fn shl(self, count: u32) -> Self;
    /// All lanes by the same `count` below 64, a constant after inlining; zeros come in.
    fn shr(self, count: u32) -> Self;
    /// Makes limbs ready; each must be below 2^52.
    fn factor(self) -> Self::Factor;
    /// Adds the low 52 bits of `a * b`, and [`Vector::LOW_OFFSET`], to `low`; the bits from 52 on,
    /// and [`Vector::HIGH_OFFSET`], to `high`. (Halves that differ from these by a multiple of 2^52
    /// carried from one to the other are allowed; the low half is then negative.)
    fn multiply_add(low: Self, high: Self, a: Self::Factor, b: Self::Factor) -> (Self, Self);
    /// Which lanes are equal.
    fn equal(self, other: Self) -> Self::Mask;
    /// `self` where the mask says yes, `other` elsewhere.
    fn select(self, mask: Self::Mask, other: Self) -> Self;

    /// The same word in every lane.
    #[inline(always)]
    fn like(self, word: u64) -> Self {
        Self::splat(self.token(), word)
    }
}

/// Words without vector instructions: the definition, and the vector of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Words<const N: usize>([u64; N]);

impl<const N: usize> Words<N> {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self(core::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl<const N: usize> Vector for Words<N> {
    type Token = ();
    type Factor = Self;
    type Mask = [bool; N];

    const LANES: usize = N;
    const LOW_OFFSET: u64 = 0;
    const HIGH_OFFSET: u64 = 0;

    #[inline(never)]
    fn enter<S: Step>((): (), step: S) -> S::Output {
        step.run()
    }

    #[inline(always)]
    fn splat((): (), word: u64) -> Self {
        Self([word; N])
    }

    #[inline(always)]
    fn load((): (), words: &[u64; MAX_LANES]) -> Self {
        Self(core::array::from_fn(|i| words[i]))
    }

    #[inline(always)]
    fn transpose((): (), lines: &[&[u64; 8]; MAX_LANES]) -> [Self; 8] {
        core::array::from_fn(|word| Self(core::array::from_fn(|lane| lines[lane][word])))
    }

    #[inline(always)]
    fn store(self, words: &mut [u64; MAX_LANES]) {
        words[..N].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn token(self) {}

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, u64::wrapping_add)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, u64::wrapping_sub)
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self.zip(other, |a, b| a ^ b)
    }

    #[inline(always)]
    fn shl(self, count: u32) -> Self {
        Self(self.0.map(|word| word << count))
    }

    #[inline(always)]
    fn shr(self, count: u32) -> Self {
        Self(self.0.map(|word| word >> count))
    }

    #[inline(always)]
    fn factor(self) -> Self {
        debug_assert!(self.0.iter().all(|limb| limb >> 52 == 0), "{self:x?}");
        self
    }

    #[inline(always)]
    fn multiply_add(low: Self, high: Self, a: Self, b: Self) -> (Self, Self) {
        const MASK: u64 = (1 << 52) - 1;
        let product = |i: usize| u128::from(a.0[i]) * u128::from(b.0[i]);
        (
            Self(core::array::from_fn(|i| low.0[i].wrapping_add(product(i) as u64 & MASK))),
            Self(core::array::from_fn(|i| high.0[i].wrapping_add((product(i) >> 52) as u64))),
        )
    }

    #[inline(always)]
    fn equal(self, other: Self) -> [bool; N] {
        core::array::from_fn(|i| self.0[i] == other.0[i])
    }

    #[inline(always)]
    fn select(self, mask: [bool; N], other: Self) -> Self {
        // Arithmetic in place of a branch: the mask may be secret.
        Self(core::array::from_fn(|i| {
            let bits = u64::from(mask[i]).wrapping_neg();
            (self.0[i] & bits) | (other.0[i] & !bits)
        }))
    }
}
