//! What eight 64-bit words do in AVX-512, whatever multiplies them: the methods of
//! [`super::Vector`] that the vectors for AVX-512 and for IFMA have in common.
//!
//! Invariants
//! - Used only for a vector that is a `__m512i` and a token which includes AVX-512 F and DQ.

/// The methods, for vectors made from `$token`.
macro_rules! plain_methods {
    ($token:ty) => {
        #[inline(always)]
        fn splat(token: $token, word: u64) -> Self {
            // SAFETY: the token proves that the processor has the features.
            Self(unsafe { _mm512_set1_epi64(word as i64) }, token)
        }

        #[inline(always)]
        fn load(token: $token, words: &[u64; MAX_LANES]) -> Self {
            // SAFETY: the token proves the features; the array is long enough and need not be aligned.
            Self(unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }, token)
        }

        #[inline(always)]
        fn transpose(token: $token, lines: &[&[u64; 8]; MAX_LANES]) -> [Self; 8] {
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
    };
}

pub(super) use plain_methods;
