//! Verifies and signs many signatures at once, one in each lane of a vector.
//!
//! ```text
//! field      arithmetic modulo p in every lane      scalar  numbers modulo n, digits
//! sum        affine additions that share inversions jacobian  doublings, odd multiples
//! table      multiples of keys and of the generator cache   which keys have tables
//! verify, sign                                      what the rest is for
//! ```
//!
//! Everything is generic over the vector ([`crate::simd::limbs`]) and compiled once for each
//! instruction set. crypto/DESIGN.md has the mathematics and the bounds.
//!
//! Invariants
//! - Each result equals the portable one, whatever the neighbours are.
//! - Secret numbers go through `sign` only, and choose no branch and no address there.

mod cache;
mod field;
mod invert;
mod jacobian;
mod scalar;
mod sign;
mod sum;
mod table;
#[cfg(test)]
mod tests;
mod verify;

pub use self::cache::{CacheStats, KeyTables, Plan};
pub use self::table::KeyTable;
pub(crate) use self::verify::Item;

use super::{PublicKey, SecretKey, Signature};
use crate::Digest;
#[cfg(target_arch = "x86_64")]
use crate::cpu;
use crate::simd::limbs::{self, Words, Work};
use alloc::vec::Vec;

/// The vectors that lanes are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Backend {
    /// None: one after the other.
    Portable,
    /// The definition of the vectors, without vector instructions, to test the lanes by.
    #[cfg(test)]
    Emulated,
    #[cfg(target_arch = "x86_64")]
    Avx2(limbs::Avx2Fma),
    #[cfg(target_arch = "x86_64")]
    Avx512(cpu::Avx512),
    #[cfg(target_arch = "x86_64")]
    Ifma(cpu::Avx512Ifma),
}

impl Backend {
    /// Every backend that this machine can run, the slowest first.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let mut all = alloc::vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        all.extend([Self::avx2(), Self::avx512(), Self::ifma()].into_iter().flatten());
        all
    }

    /// With AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn avx2() -> Option<Self> {
        limbs::Avx2Fma::detect().map(Self::Avx2)
    }

    /// With AVX-512, IFMA not among it.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn avx512() -> Option<Self> {
        cpu::Avx512::detect().map(Self::Avx512)
    }

    /// With AVX-512 IFMA.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn ifma() -> Option<Self> {
        cpu::Avx512Ifma::detect().map(Self::Ifma)
    }

    /// Does the work in lanes, if there are any.
    fn run<W: Work>(self, work: W) -> Option<W::Output> {
        match self {
            Self::Portable => None,
            #[cfg(test)]
            Self::Emulated => Some(limbs::run::<Words<4>, _>((), work)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => Some(limbs::run::<limbs::Doubles4, _>(token, work)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(token) => Some(limbs::run::<limbs::Doubles8, _>(token, work)),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(token) => Some(limbs::run::<limbs::Madd8, _>(token, work)),
        }
    }
}

/// Verifies each item and writes its verdict.
pub(crate) fn verify_batch(backend: Backend, items: &[Item<'_>], out: &mut [bool]) {
    assert_eq!(items.len(), out.len(), "one verdict for each item");
    if backend == Backend::Portable || items.is_empty() {
        return verify::portable(items, out);
    }
    backend.run(verify::Verify { items, out });
}

/// Signs each digest e with its key, as [`SecretKey::sign`] does. `hash` hashes many messages of
/// one length.
pub(crate) fn sign_batch(
    backend: Backend,
    items: &[(&SecretKey, Digest)],
    hash: sign::HashMany<'_>,
    out: &mut [Signature],
) {
    assert_eq!(items.len(), out.len(), "one signature for each item");
    if backend == Backend::Portable || items.is_empty() {
        for ((key, e), signature) in items.iter().zip(out) {
            *signature = super::sign_digest(key, e, &[]);
        }
        return;
    }
    sign::sign(backend, items, hash, out);
}

/// Builds a table for each key.
pub(crate) fn build_tables(backend: Backend, keys: &[&PublicKey]) -> Vec<KeyTable> {
    match backend.run(table::Build(keys)) {
        Some(tables) => tables,
        None => limbs::run::<Words<1>, _>((), table::Build(keys)),
    }
}
