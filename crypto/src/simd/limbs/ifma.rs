//! Eight lanes with AVX-512 IFMA, whose one instruction is the multiplication wanted.
#![allow(unsafe_code)]

use super::plain512::plain_methods;
use super::{MAX_LANES, Step, Vector};
use crate::cpu::Avx512Ifma;
use core::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
#[inline(never)]
fn enter<S: Step>(step: S) -> S::Output {
    step.run()
}

/// Eight words, and what proves that they may be used.
#[derive(Clone, Copy)]
pub(crate) struct Madd8(__m512i, Avx512Ifma);

impl Vector for Madd8 {
    type Token = Avx512Ifma;
    type Factor = Self;
    type Mask = __mmask8;

    const LANES: usize = 8;
    const LOW_OFFSET: u64 = 0;
    const HIGH_OFFSET: u64 = 0;

    #[inline(always)]
    fn enter<S: Step>(_: Avx512Ifma, step: S) -> S::Output {
        // SAFETY: the token proves that the processor has the features.
        unsafe { enter(step) }
    }

    #[inline(always)]
    fn token(self) -> Avx512Ifma {
        self.1
    }

    #[inline(always)]
    fn factor(self) -> Self {
        self
    }

    #[inline(always)]
    fn multiply_add(low: Self, high: Self, a: Self, b: Self) -> (Self, Self) {
        // SAFETY: a vector exists only where a token was.
        unsafe {
            (
                Self(_mm512_madd52lo_epu64(low.0, a.0, b.0), low.1),
                Self(_mm512_madd52hi_epu64(high.0, a.0, b.0), high.1),
            )
        }
    }

    plain_methods!(Avx512Ifma);
}
