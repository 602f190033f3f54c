//! Eight lanes with AVX-512 F and DQ, the multiplication made of fused multiply-adds of doubles.
//!
//! For limbs a, b below 2^52, `a * b + 2^104` rounded toward zero lies in [2^104, 2^105), where
//! doubles are 2^52 apart: its mantissa is the high half. `a * b` less that high half, plus 2^52,
//! is exact, and its mantissa is the low half. The rounding is part of the instruction.
#![allow(unsafe_code)]

use super::{MAX_LANES, Step, Vector};
use crate::cpu::Avx512;
use core::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512dq")]
#[inline(never)]
fn enter<S: Step>(step: S) -> S::Output {
    step.run()
}

const TOWARD_ZERO: i32 = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

/// Eight words, and what proves that they may be used.
#[derive(Clone, Copy)]
pub(crate) struct Doubles8(__m512i, Avx512);

impl Vector for Doubles8 {
    type Token = Avx512;
    type Factor = __m512d;
    type Mask = __mmask8;

    const LANES: usize = 8;
    const LOW_OFFSET: u64 = 0x4330 << 48;
    const HIGH_OFFSET: u64 = 0x4670 << 48;

    #[inline(always)]
    fn enter<S: Step>(_: Avx512, step: S) -> S::Output {
        // SAFETY: the token proves that the processor has the features.
        unsafe { enter(step) }
    }

    #[inline(always)]
    fn token(self) -> Avx512 {
        self.1
    }

    #[inline(always)]
    fn factor(self) -> __m512d {
        // SAFETY: a vector exists only where a token was.
        unsafe { _mm512_cvtepi64_pd(self.0) }
    }

    #[inline(always)]
    fn multiply_add(low: Self, high: Self, a: __m512d, b: __m512d) -> (Self, Self) {
        const TWO_104: f64 = f64::from_bits(Doubles8::HIGH_OFFSET);
        const TWO_52: f64 = f64::from_bits(Doubles8::LOW_OFFSET);
        // SAFETY: a vector exists only where a token was.
        unsafe {
            let high_half = _mm512_fmadd_round_pd::<TOWARD_ZERO>(a, b, _mm512_set1_pd(TWO_104));
            let less = _mm512_sub_pd(_mm512_set1_pd(TWO_104 + TWO_52), high_half);
            let low_half = _mm512_fmadd_round_pd::<TOWARD_ZERO>(a, b, less);
            (
                Self(_mm512_add_epi64(low.0, _mm512_castpd_si512(low_half)), low.1),
                Self(_mm512_add_epi64(high.0, _mm512_castpd_si512(high_half)), high.1),
            )
        }
    }

    #[inline(always)]
    fn splat(token: Avx512, word: u64) -> Self {
        // SAFETY: the token proves that the processor has the features.
        Self(unsafe { _mm512_set1_epi64(word as i64) }, token)
    }

    #[inline(always)]
    fn load(token: Avx512, words: &[u64; MAX_LANES]) -> Self {
        // SAFETY: the token proves the features; the array is long enough and need not be aligned.
        Self(unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }, token)
    }

    #[inline(always)]
    fn spread(token: Avx512, bits: u32) -> Self {
        // SAFETY: the token proves that the processor has the features.
        Self(unsafe { _mm512_maskz_set1_epi64(bits as u8, -1) }, token)
    }

    #[inline(always)]
    fn transpose(token: Avx512, lines: &[&[u64; 8]; MAX_LANES]) -> [Self; 8] {
        // SAFETY: the token proves the features; a line is as long as a vector.
        unsafe {
            let mut rows = [_mm512_setzero_si512(); 8];
            for (row, line) in rows.iter_mut().zip(lines) {
                *row = _mm512_loadu_si512(line.as_ptr().cast());
            }
            let mut pairs = rows;
            for i in [0, 2, 4, 6] {
                pairs[i] = _mm512_unpacklo_epi64(rows[i], rows[i + 1]);
                pairs[i + 1] = _mm512_unpackhi_epi64(rows[i], rows[i + 1]);
            }
            let mut words = [Self(rows[0], token); 8];
            for i in [0, 1] {
                let low = _mm512_shuffle_i64x2::<0x88>(pairs[i], pairs[i + 2]);
                let high = _mm512_shuffle_i64x2::<0xdd>(pairs[i], pairs[i + 2]);
                let low2 = _mm512_shuffle_i64x2::<0x88>(pairs[i + 4], pairs[i + 6]);
                let high2 = _mm512_shuffle_i64x2::<0xdd>(pairs[i + 4], pairs[i + 6]);
                words[i] = Self(_mm512_shuffle_i64x2::<0x88>(low, low2), token);
                words[i + 4] = Self(_mm512_shuffle_i64x2::<0xdd>(low, low2), token);
                words[i + 2] = Self(_mm512_shuffle_i64x2::<0x88>(high, high2), token);
                words[i + 6] = Self(_mm512_shuffle_i64x2::<0xdd>(high, high2), token);
            }
            words
        }
    }

    #[inline(always)]
    fn store(self, words: &mut [u64; MAX_LANES]) {
        // SAFETY: a vector exists only where a token was; the array is long enough.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm512_add_epi64(self.0, other.0) }, self.1)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm512_sub_epi64(self.0, other.0) }, self.1)
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm512_and_si512(self.0, other.0) }, self.1)
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm512_or_si512(self.0, other.0) }, self.1)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm512_xor_si512(self.0, other.0) }, self.1)
    }

    #[inline(always)]
    fn shl(self, count: u32) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm512_sll_epi64(self.0, _mm_cvtsi32_si128(count as i32)) }, self.1)
    }

    #[inline(always)]
    fn shr(self, count: u32) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm512_srl_epi64(self.0, _mm_cvtsi32_si128(count as i32)) }, self.1)
    }

    #[inline(always)]
    fn equal(self, other: Self) -> __mmask8 {
        // SAFETY: a vector exists only where a token was.
        unsafe { _mm512_cmpeq_epi64_mask(self.0, other.0) }
    }

    #[inline(always)]
    fn select(self, mask: __mmask8, other: Self) -> Self {
        // SAFETY: a vector exists only where a token was.
        Self(unsafe { _mm512_mask_blend_epi64(mask, other.0, self.0) }, self.1)
    }
}
