//! Holds every vector to [`Words`], lane by lane, on edge values and random ones.

extern crate std;

use super::*;
use crate::sm3;
use alloc::vec::Vec;

const LIMB: u64 = (1 << 52) - 1;

/// Everything that a vector does, as words.
struct Trial {
    a: [u64; MAX_LANES],
    b: [u64; MAX_LANES],
}

impl Work for Trial {
    type Output = Vec<[u64; MAX_LANES]>;

    #[inline(always)]
    fn run<V: Vector>(self, token: V::Token) -> Self::Output {
        let (a, b) = (V::load(token, &self.a), V::load(token, &self.b));
        let mut out = Vec::new();
        let mut push = |vector: V| {
            let mut words = [0; MAX_LANES];
            vector.store(&mut words);
            words[V::LANES..].fill(0);
            out.push(words);
        };
        push(V::splat(token, self.a[0]));
        let lines: [[u64; 8]; MAX_LANES] =
            core::array::from_fn(|l| core::array::from_fn(|i| self.a[l] ^ self.b[i]));
        for vector in V::transpose(token, &lines.each_ref()) {
            push(vector);
        }
        push(a.like(self.b[0]));
        push(a.add(b));
        push(a.sub(b));
        push(a.and(b));
        push(a.or(b));
        push(a.xor(b));
        for count in [1, 12, 28, 52, 63] {
            push(a.shl(count));
            push(a.shr(count));
        }
        push(a.select(a.equal(b), b.like(7)));
        // The product as one number modulo 2^64, and its high half to within the allowed one.
        let mask = a.like(LIMB);
        let (x, y) = (a.and(mask), b.and(mask));
        let low = a.like(V::LOW_OFFSET.wrapping_neg());
        let high = a.like(V::HIGH_OFFSET.wrapping_neg());
        let (low, high) = V::multiply_add(low, high, x.factor(), y.factor());
        push(low.add(high.shl(52)));
        let bias = low.like(1 << 53);
        push(high.add(low.add(bias).shr(52)).sub(low.like(2)));
        out
    }
}

fn trials() -> Vec<([u64; MAX_LANES], [u64; MAX_LANES])> {
    let edges =
        [0, 1, 2, LIMB, LIMB - 1, 1 << 51, (1 << 51) - 1, (1 << 51) + 1, 1 << 26, LIMB << 9];
    let mut words: Vec<u64> = edges.into_iter().chain([u64::MAX, 1 << 63]).collect();
    for i in 0..200u32 {
        let digest = sm3::hash(&i.to_be_bytes());
        words.extend(digest.as_chunks::<8>().0.iter().map(|b| u64::from_be_bytes(*b)));
    }
    let at = |i: usize| words[i % words.len()];
    let mut trials = Vec::new();
    for i in 0..words.len() {
        for step in [0, 1, 5, 12] {
            let (a, b) = (i * 3, i * step + step);
            trials.push((core::array::from_fn(|l| at(a + l)), core::array::from_fn(|l| at(b + l))));
        }
    }
    // Every edge against every edge.
    for a in 0..12 {
        for b in 0..12 {
            trials.push(([at(a); MAX_LANES], [at(b); MAX_LANES]));
        }
    }
    trials
}

fn check(lanes: usize, run: impl Fn(Trial) -> Vec<[u64; MAX_LANES]>) {
    for (a, b) in trials() {
        let mut expected = super::run::<Words<MAX_LANES>, _>((), Trial { a, b });
        for words in &mut expected {
            words[lanes..].fill(0);
        }
        assert_eq!(run(Trial { a, b }), expected, "{a:x?} {b:x?}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn avx2_is_words() {
    let Some(token) = Avx2Fma::detect() else { return std::eprintln!("SKIPPED: no AVX2") };
    check(4, |trial| run::<Doubles4, _>(token, trial));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn avx512_is_words() {
    let Some(token) = crate::cpu::Avx512::detect() else {
        return std::eprintln!("SKIPPED: no AVX-512");
    };
    check(8, |trial| run::<Doubles8, _>(token, trial));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn ifma_is_words() {
    let Some(token) = crate::cpu::Avx512Ifma::detect() else {
        return std::eprintln!("SKIPPED: no IFMA");
    };
    check(8, |trial| run::<Madd8, _>(token, trial));
}
