//! Four lanes with AVX2 and FMA, the multiplication made of fused multiply-adds of doubles.
//!
//! As with AVX-512, but there the instruction itself rounds toward zero and here it rounds to
//! nearest. So the high half is `a * b / 2^52` to the nearest integer, and the low half lies in
//! [-2^51, 2^51]; one more addition makes its bits an integer.
#![allow(unsafe_code)]

use super::{MAX_LANES, Step, Vector};
use core::arch::x86_64::*;

/// The processor has AVX2 and FMA.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Avx2Fma(());

cpufeatures::new!(features, "avx2", "fma");

impl Avx2Fma {
    pub(crate) fn detect() -> Option<Self> {
        features::get().then_some(Self(()))
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline(never)]
fn enter<S: Step>(step: S) -> S::Output {
    step.run()
}

#[inline(always)]
pub(super) fn prefetch(line: &[u64; 8]) {
    // SAFETY: every x86-64 processor has the instruction, and it reads nothing.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
}

/// Four words.
#[derive(Clone, Copy)]
pub(crate) struct Doubles4(__m256i);

impl Vector for Doubles4 {
    type Token = Avx2Fma;
    type Factor = __m256d;
    type Mask = __m256i;

    const LANES: usize = 4;
    const LOW_OFFSET: u64 = 0x4338 << 48;
    const HIGH_OFFSET: u64 = 0x4670 << 48;

    #[inline(always)]
    fn enter<S: Step>(_: Avx2Fma, step: S) -> S::Output {
        // SAFETY: the token proves that the processor has the features.
        unsafe { enter(step) }
    }

    #[inline(always)]
    fn token(self) -> Avx2Fma {
        Avx2Fma(())
    }

    #[inline(always)]
    fn factor(self) -> __m256d {
        // 2^52 written over the limb makes the double 2^52 + limb.
        const TWO_52: u64 = 0x4330 << 48;
        // SAFETY: a vector exists only where a token was.
        unsafe {
            let tagged = _mm256_or_si256(self.0, _mm256_set1_epi64x(TWO_52 as i64));
            _mm256_sub_pd(_mm256_castsi256_pd(tagged), _mm256_set1_pd(f64::from_bits(TWO_52)))
        }
    }

    #[inline(always)]
    fn multiply_add(low: Self, high: Self, a: __m256d, b: __m256d) -> (Self, Self) {
        const TWO_104: f64 = f64::from_bits(Doubles4::HIGH_OFFSET);
        const THREE_51: f64 = f64::from_bits(Doubles4::LOW_OFFSET);
        // SAFETY: a vector exists only where a token was.
        unsafe {
            let two_104 = _mm256_set1_pd(TWO_104);
            let high_half = _mm256_fmadd_pd(a, b, two_104);
            let low_half = _mm256_fmadd_pd(a, b, _mm256_sub_pd(two_104, high_half));
            let low_half = _mm256_add_pd(low_half, _mm256_set1_pd(THREE_51));
            (
                Self(_mm256_add_epi64(low.0, _mm256_castpd_si256(low_half))),
                Self(_mm256_add_epi64(high.0, _mm256_castpd_si256(high_half))),
            )
        }
    }

    #[inline(always)]
    fn splat(_: Avx2Fma, word: u64) -> Self {
        // SAFETY: the token proves that the processor has the features.
        Self(unsafe { _mm256_set1_epi64x(word as i64) })
    }

    #[inline(always)]
    fn load(_: Avx2Fma, words: &[u64; MAX_LANES]) -> Self {
        // SAFETY: the token proves the features; the array is long enough and need not be aligned.
        Self(unsafe { _mm256_loadu_si256(words.as_ptr().cast()) })
    }

    #[inline(always)]
    fn transpose(_: Avx2Fma, lines: &[&[u64; 8]; MAX_LANES]) -> [Self; 8] {
        // SAFETY: the token proves the features; a line is as long as two vectors.
        unsafe {
            let mut words = [Self(_mm256_setzero_si256()); 8];
            for half in [0, 4] {
                let row = |lane: usize| lines[lane].as_ptr().add(half).cast();
                let [a, b] = [_mm256_loadu_si256(row(0)), _mm256_loadu_si256(row(1))];
                let [c, d] = [_mm256_loadu_si256(row(2)), _mm256_loadu_si256(row(3))];
                let (ab, ab1) = (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
                let (cd, cd1) = (_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
                words[half] = Self(_mm256_permute2x128_si256::<0x20>(ab, cd));
                words[half + 1] = Self(_mm256_permute2x128_si256::<0x20>(ab1, cd1));
                words[half + 2] = Self(_mm256_permute2x128_si256::<0x31>(ab, cd));
                words[half + 3] = Self(_mm256_permute2x128_si256::<0x31>(ab1, cd1));
            }
            words
        }
    }

    #[inline(always)]
    fn store(self, words: &mut [u64; MAX_LANES]) {
        // SAFETY: a vector exists only where a token was; the array is long enough.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm256_add_epi64(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm256_sub_epi64(self.0, other.0) })
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm256_and_si256(self.0, other.0) })
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm256_or_si256(self.0, other.0) })
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm256_xor_si256(self.0, other.0) })
    }

    #[inline(always)]
    fn shl(self, count: u32) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm256_sll_epi64(self.0, _mm_cvtsi32_si128(count as i32)) })
    }

    #[inline(always)]
    fn shr(self, count: u32) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm256_srl_epi64(self.0, _mm_cvtsi32_si128(count as i32)) })
    }

    #[inline(always)]
    fn equal(self, other: Self) -> __m256i {
        // SAFETY: a vector exists only where a token was.
        unsafe { _mm256_cmpeq_epi64(self.0, other.0) }
    }

    #[inline(always)]
    fn select(self, mask: __m256i, other: Self) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm256_blendv_epi8(other.0, self.0, mask) })
    }
}
