//! Vectors of 32-bit words: 8 lanes with AVX2, 16 with AVX-512, and the hashing that runs on them.
//!
//! There are no closures in here: the compiler does not carry the features of a function into them.
//!
//! Invariants
//! - A vector exists only where its token was detected, and each method needs a vector or a token:
//!   that is what every SAFETY note below rests on.

#![allow(unsafe_code)]

use crate::Digest;
use crate::cpu::{Avx2, Avx512};
use crate::sm3::BLOCK;
use crate::sm3::many::{self, LANES_MAX, Vector};
use crate::sm3::rounds::Word;
use core::arch::x86_64::*;

/// A word in each of eight lanes.
#[derive(Clone, Copy)]
pub(crate) struct Words8(__m256i);

/// A word in each of sixteen lanes.
#[derive(Clone, Copy)]
pub(crate) struct Words16(__m512i);

/// Methods that are all safe for the same reason.
macro_rules! methods {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty { $($body:tt)+ })+) => {
        $(
            #[inline(always)]
            fn $name($($argument: $type),*) -> $result {
                // SAFETY: an argument is a vector or a token, so the instructions are there.
                unsafe { $($body)+ }
            }
        )+
    };
}

impl Word for Words8 {
    methods! {
        fn same(self: Self, value: u32) -> Self { Self(_mm256_set1_epi32(value as i32)) }
        fn add(self: Self, other: Self) -> Self { Self(_mm256_add_epi32(self.0, other.0)) }
        fn xor(self: Self, other: Self) -> Self { Self(_mm256_xor_si256(self.0, other.0)) }
        fn rotate(self: Self, bits: u32) -> Self {
            // Where `bits` is a constant, the compiler makes shifts by constants of these.
            let (left, right) = (self.same(bits).0, self.same(32 - bits).0);
            Self(_mm256_or_si256(
                _mm256_sllv_epi32(self.0, left),
                _mm256_srlv_epi32(self.0, right),
            ))
        }
        fn parity(self: Self, y: Self, z: Self) -> Self {
            Self(_mm256_xor_si256(_mm256_xor_si256(self.0, y.0), z.0))
        }
        fn majority(self: Self, y: Self, z: Self) -> Self {
            let both = _mm256_and_si256(self.0, y.0);
            let either = _mm256_or_si256(self.0, y.0);
            Self(_mm256_or_si256(both, _mm256_and_si256(either, z.0)))
        }
        fn choose(self: Self, y: Self, z: Self) -> Self {
            Self(_mm256_and_si256(y.xor(z).0, self.0)).xor(z)
        }
    }
}

impl Word for Words16 {
    methods! {
        fn same(self: Self, value: u32) -> Self { Self(_mm512_set1_epi32(value as i32)) }
        fn add(self: Self, other: Self) -> Self { Self(_mm512_add_epi32(self.0, other.0)) }
        fn xor(self: Self, other: Self) -> Self { Self(_mm512_xor_si512(self.0, other.0)) }
        fn rotate(self: Self, bits: u32) -> Self {
            Self(_mm512_rolv_epi32(self.0, self.same(bits).0))
        }
        // The constants are the truth tables of the functions, with x as the highest bit.
        fn parity(self: Self, y: Self, z: Self) -> Self {
            Self(_mm512_ternarylogic_epi32::<0x96>(self.0, y.0, z.0))
        }
        fn majority(self: Self, y: Self, z: Self) -> Self {
            Self(_mm512_ternarylogic_epi32::<0xe8>(self.0, y.0, z.0))
        }
        fn choose(self: Self, y: Self, z: Self) -> Self {
            Self(_mm512_ternarylogic_epi32::<0xca>(self.0, y.0, z.0))
        }
    }
}

impl Vector for Words8 {
    type Token = Avx2;
    const LANES: usize = 8;
    const WORTH: usize = 3;

    methods! {
        fn splat(_token: Avx2, value: u32) -> Self { Self(_mm256_set1_epi32(value as i32)) }
        fn gather(_token: Avx2, words: &[u32; LANES_MAX]) -> Self {
            Self(_mm256_loadu_si256(words.as_ptr().cast()))
        }
        fn load(token: Avx2, blocks: &[[u8; BLOCK]; LANES_MAX]) -> [Self; 16] {
            let mut words = [Self::splat(token, 0); 16];
            for (half, words) in words.chunks_exact_mut(8).enumerate() {
                let mut rows = [_mm256_setzero_si256(); 8];
                for (row, block) in rows.iter_mut().zip(blocks) {
                    *row = swap8(_mm256_loadu_si256(block[32 * half..].as_ptr().cast()));
                }
                for (word, column) in words.iter_mut().zip(transpose8(rows)) {
                    *word = Self(column);
                }
            }
            words
        }
        fn select(mask: u32, yes: Self, no: Self) -> Self {
            let bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let set = _mm256_and_si256(_mm256_set1_epi32(mask as i32), bits);
            Self(_mm256_blendv_epi8(no.0, yes.0, _mm256_cmpeq_epi32(set, bits)))
        }
    }

    #[inline(always)]
    fn store(state: [Self; 8], digests: &mut [Digest; LANES_MAX]) {
        // SAFETY: there are vectors, so there are the instructions; a digest has 32 bytes.
        unsafe {
            let [a, b, c, d, e, f, g, h] = state;
            let rows = transpose8([a.0, b.0, c.0, d.0, e.0, f.0, g.0, h.0]);
            for (digest, row) in digests.iter_mut().zip(rows) {
                _mm256_storeu_si256(digest.as_mut_ptr().cast(), swap8(row));
            }
        }
    }
}

impl Vector for Words16 {
    type Token = Avx512;
    const LANES: usize = 16;
    const WORTH: usize = 3;

    methods! {
        fn splat(_token: Avx512, value: u32) -> Self { Self(_mm512_set1_epi32(value as i32)) }
        fn gather(_token: Avx512, words: &[u32; LANES_MAX]) -> Self {
            Self(_mm512_loadu_si512(words.as_ptr().cast()))
        }
        fn load(token: Avx512, blocks: &[[u8; BLOCK]; LANES_MAX]) -> [Self; 16] {
            let mut rows = [_mm512_setzero_si512(); 16];
            for (row, block) in rows.iter_mut().zip(blocks) {
                *row = swap16(_mm512_loadu_si512(block.as_ptr().cast()));
            }
            let mut words = [Self::splat(token, 0); 16];
            for (word, column) in words.iter_mut().zip(transpose16(rows)) {
                *word = Self(column);
            }
            words
        }
        fn select(mask: u32, yes: Self, no: Self) -> Self {
            Self(_mm512_mask_blend_epi32(mask as __mmask16, no.0, yes.0))
        }
    }

    #[inline(always)]
    fn store(state: [Self; 8], digests: &mut [Digest; LANES_MAX]) {
        // SAFETY: there are vectors, so there are the instructions; a digest has 32 bytes, which is
        // half a vector.
        unsafe {
            let [a, b, c, d, e, f, g, h] = state;
            let a = quads16([a.0, b.0, c.0, d.0]);
            let b = quads16([e.0, f.0, g.0, h.0]);
            let low = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
            let high = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
            for k in 0..4 {
                for (first, index) in [(k, low), (k + 8, high)] {
                    let two = swap16(_mm512_permutex2var_epi64(a[k], index, b[k]));
                    let [one, other] = [first, first + 4];
                    let halves = [_mm512_castsi512_si256(two), _mm512_extracti64x4_epi64::<1>(two)];
                    _mm256_storeu_si256(digests[one].as_mut_ptr().cast(), halves[0]);
                    _mm256_storeu_si256(digests[other].as_mut_ptr().cast(), halves[1]);
                }
            }
        }
    }
}

/// Turns the bytes of each word round.
#[inline(always)]
unsafe fn swap8(words: __m256i) -> __m256i {
    // SAFETY: the caller has a vector.
    unsafe {
        let order = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
        _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(order))
    }
}

/// Turns the bytes of each word round.
#[inline(always)]
unsafe fn swap16(words: __m512i) -> __m512i {
    // SAFETY: the caller has a vector.
    unsafe {
        let order = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
        _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(order))
    }
}

/// Rows of eight words become columns.
#[inline(always)]
unsafe fn transpose8(rows: [__m256i; 8]) -> [__m256i; 8] {
    // SAFETY: the caller has vectors.
    unsafe {
        let [a, b, c, d, e, f, g, h] = rows;
        let (top, bottom) = (quads8([a, b, c, d]), quads8([e, f, g, h]));
        let mut columns = rows;
        for k in 0..4 {
            columns[k] = _mm256_permute2x128_si256::<0x20>(top[k], bottom[k]);
            columns[4 + k] = _mm256_permute2x128_si256::<0x31>(top[k], bottom[k]);
        }
        columns
    }
}

/// Four rows of eight words become four vectors: half h of vector k is column 4h + k.
#[inline(always)]
unsafe fn quads8(rows: [__m256i; 4]) -> [__m256i; 4] {
    // SAFETY: the caller has vectors.
    unsafe {
        let [a, b, c, d] = rows;
        let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(ab, cd),
            _mm256_unpackhi_epi64(ab, cd),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ]
    }
}

/// Four rows of sixteen words become four vectors: quarter q of vector k is column 4q + k.
#[inline(always)]
unsafe fn quads16(rows: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the caller has vectors.
    unsafe {
        let [a, b, c, d] = rows;
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ]
    }
}

/// Rows of sixteen words become columns.
#[inline(always)]
unsafe fn transpose16(rows: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: the caller has vectors.
    unsafe {
        let mut quads = [[rows[0]; 4]; 4];
        for (quad, rows) in quads.iter_mut().zip(rows.as_chunks().0) {
            *quad = quads16(*rows);
        }
        let mut columns = rows;
        for k in 0..4 {
            let [a, b, c, d] = [quads[0][k], quads[1][k], quads[2][k], quads[3][k]];
            // Quarters 0 and 2, then 1 and 3, of two quads each.
            let (ab, cd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
            columns[k] = _mm512_shuffle_i32x4::<0x88>(ab, cd);
            columns[8 + k] = _mm512_shuffle_i32x4::<0xdd>(ab, cd);
            let (ab, cd) = (_mm512_shuffle_i32x4::<0xdd>(a, b), _mm512_shuffle_i32x4::<0xdd>(c, d));
            columns[4 + k] = _mm512_shuffle_i32x4::<0x88>(ab, cd);
            columns[12 + k] = _mm512_shuffle_i32x4::<0xdd>(ab, cd);
        }
        columns
    }
}

/// What callers see: hashing compiled for one instruction set.
macro_rules! entries {
    ($vector:ident, $token:ident, $features:literal, $hash:ident, $hash_pairs:ident) => {
        /// See [`many::hash`].
        pub(crate) fn $hash<'a>(
            token: $token,
            message: impl Fn(usize) -> &'a [u8],
            out: &mut [Digest],
        ) {
            #[target_feature(enable = $features)]
            fn compiled<'a>(
                token: $token,
                message: impl Fn(usize) -> &'a [u8],
                out: &mut [Digest],
            ) {
                many::hash::<$vector>(token, message, out);
            }
            // SAFETY: the token shows that the processor has the features.
            unsafe { compiled(token, message, out) }
        }

        /// See [`many::hash_pairs`].
        pub(crate) fn $hash_pairs(
            token: $token,
            prefix: u8,
            pairs: &[[Digest; 2]],
            out: &mut [Digest],
        ) {
            #[target_feature(enable = $features)]
            fn compiled(token: $token, prefix: u8, pairs: &[[Digest; 2]], out: &mut [Digest]) {
                many::hash_pairs::<$vector>(token, prefix, pairs, out);
            }
            // SAFETY: the token shows that the processor has the features.
            unsafe { compiled(token, prefix, pairs, out) }
        }
    };
}

entries!(Words8, Avx2, "avx2", hash_avx2, hash_pairs_avx2);
entries!(
    Words16,
    Avx512,
    "avx2,avx512f,avx512bw,avx512dq,avx512vl",
    hash_avx512,
    hash_pairs_avx512
);
