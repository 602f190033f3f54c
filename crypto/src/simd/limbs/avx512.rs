//! Eight lanes with AVX-512 F and DQ, the multiplication made of fused multiply-adds of doubles.
//!
//! For limbs a, b below 2^52, `a * b + 2^104` rounded toward zero lies in [2^104, 2^105), where
//! doubles are 2^52 apart: its mantissa is the high half. `a * b` less that high half, plus 2^52,
//! is exact, and its mantissa is the low half. The rounding is part of the instruction.
#![allow(unsafe_code)]

use super::plain512::plain_methods;
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

    plain_methods!(Avx512);
}
