//! Says which vector instructions this processor has, as values that only detection can make.
//!
//! A function that uses instructions which not every processor has takes the token of its set, or a
//! vector that was made with one. So the question "may this run here?" is answered by the type.
//!
//! Invariants
//! - A token exists only where the processor and the operating system support its whole set.

/// The processor has AVX2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Avx2(());

/// The processor has AVX-512 F, BW, DQ and VL: all that have AVX-512 at all, but for one card of
/// 2016.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Avx512(());

/// The processor has AVX-512 IFMA beside the set of [`Avx512`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Avx512Ifma(());

#[cfg(target_arch = "x86_64")]
mod detected {
    use super::{Avx2, Avx512, Avx512Ifma};

    cpufeatures::new!(avx2, "avx2");
    cpufeatures::new!(ifma, "avx512ifma");
    cpufeatures::new!(avx512, "avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl");

    impl Avx2 {
        pub(crate) fn detect() -> Option<Self> {
            avx2::get().then_some(Self(()))
        }
    }

    impl Avx512 {
        pub(crate) fn detect() -> Option<Self> {
            avx512::get().then_some(Self(()))
        }
    }

    impl Avx512Ifma {
        pub(crate) fn detect() -> Option<Self> {
            (avx512::get() && ifma::get()).then_some(Self(()))
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod detected {
    use super::{Avx2, Avx512, Avx512Ifma};

    impl Avx512Ifma {
        pub(crate) fn detect() -> Option<Self> {
            None
        }
    }

    impl Avx2 {
        pub(crate) fn detect() -> Option<Self> {
            None
        }
    }

    impl Avx512 {
        pub(crate) fn detect() -> Option<Self> {
            None
        }
    }
}
