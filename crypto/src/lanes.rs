//! Does many hashes, signatures or verifications in one call, with the best backend of this
//! machine.
//!
//! A [`Lanes`] value names a backend; it is chosen once at start and passed by value to whoever has
//! a batch. A backend other than the portable one holds the token that only its detection can make,
//! and the methods below are the only dispatch.
//!
//! Invariants
//! - The portable backend is the definition; every other one equals it on every input.
//! - Output `i` depends on input `i` alone.

use crate::cpu::{Avx2, Avx512};
#[cfg(target_arch = "x86_64")]
use crate::simd::words;
use crate::sm2::lanes::{Backend as Signing, Item, build_tables, sign_batch, verify_batch};
use crate::{Digest, sm2, sm3};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// What hashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hashing {
    Portable,
    Avx2(Avx2),
    Avx512(Avx512),
}

/// A backend, chosen once at start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lanes {
    name: &'static str,
    hashing: Hashing,
    signing: Signing,
}

impl Lanes {
    /// The reference backend, which runs everywhere.
    #[must_use]
    pub const fn portable() -> Self {
        Self { name: "portable", hashing: Hashing::Portable, signing: Signing::Portable }
    }

    /// The fastest backend that this machine can run.
    #[must_use]
    pub fn detect() -> Self {
        *Self::all().last().expect("the portable backend is always there")
    }

    /// Every backend that this machine can run, the slowest first.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = Vec::from([Self::portable()]);
        #[cfg(target_arch = "x86_64")]
        {
            let mut add = |name, hashing: Option<Hashing>, signing: Option<Signing>| {
                let found = hashing.zip(signing);
                all.extend(found.map(|(hashing, signing)| Self { name, hashing, signing }));
            };
            let avx512 = || Avx512::detect().map(Hashing::Avx512);
            add("avx2", Avx2::detect().map(Hashing::Avx2), Signing::avx2());
            add("avx512", avx512(), Signing::avx512());
            add("avx512-ifma", avx512(), Signing::ifma());
        }
        all
    }

    /// The backend with this name, where this machine can run it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|lanes| lanes.name == name)
    }

    /// The backend's name, for the log line at start.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Hashes `messages`, of any lengths, into `out`.
    ///
    /// # Panics
    /// If `messages` and `out` differ in length: that is a mistake of the caller, never of input.
    pub fn sm3_many(self, messages: &[&[u8]], out: &mut [Digest]) {
        assert_eq!(messages.len(), out.len(), "one digest for each message");
        self.sm3(|i| messages[i], out);
    }

    fn sm3<'a>(self, message: impl Fn(usize) -> &'a [u8], out: &mut [Digest]) {
        match self.hashing {
            #[cfg(target_arch = "x86_64")]
            Hashing::Avx2(token) => words::hash_avx2(token, message, out),
            #[cfg(target_arch = "x86_64")]
            Hashing::Avx512(token) => words::hash_avx512(token, message, out),
            _ => out.iter_mut().enumerate().for_each(|(i, digest)| *digest = sm3::hash(message(i))),
        }
    }

    /// Hashes the messages that lie at `ranges` of `arena` into `out`.
    ///
    /// # Panics
    /// If `ranges` and `out` differ in length or a range leaves the arena: mistakes of the caller.
    pub fn sm3_ranges(self, arena: &[u8], ranges: &[Range<u32>], out: &mut [Digest]) {
        assert_eq!(ranges.len(), out.len(), "one digest for each range");
        self.sm3(|i| &arena[ranges[i].start as usize..ranges[i].end as usize], out);
    }

    /// Hashes pairs of children into their parents: `out[i]` is SM3 of `prefix`, `children[2 * i]`,
    /// `children[2 * i + 1]`.
    ///
    /// # Panics
    /// If there are not exactly two children for each parent: a mistake of the caller.
    pub fn sm3_pairs(self, prefix: u8, children: &[Digest], out: &mut [Digest]) {
        let (pairs, odd) = children.as_chunks::<2>();
        assert!(odd.is_empty() && pairs.len() == out.len(), "two children for each parent");
        match self.hashing {
            #[cfg(target_arch = "x86_64")]
            Hashing::Avx2(token) => words::hash_pairs_avx2(token, prefix, pairs, out),
            #[cfg(target_arch = "x86_64")]
            Hashing::Avx512(token) => words::hash_pairs_avx512(token, prefix, pairs, out),
            _ => sm3::hash_pairs(prefix, pairs, out),
        }
    }

    /// Verifies `jobs` and writes one verdict for each into `out`, whatever the neighbours are.
    ///
    /// # Panics
    /// If `jobs` and `out` differ in length: a mistake of the caller.
    pub fn sm2_verify(self, jobs: &[sm2::Job<'_>], out: &mut [bool]) {
        self.sm2_verify_known(jobs, &[], out);
    }

    /// As [`Lanes::sm2_verify`], several times faster for the jobs whose key has a table: `tables[i]`
    /// is that of the key of `jobs[i]`, if there is one. A table of another key changes no verdict.
    ///
    /// # Panics
    /// If `jobs` and `out` differ in length: a mistake of the caller.
    pub fn sm2_verify_known(
        self,
        jobs: &[sm2::Job<'_>],
        tables: &[Option<&sm2::KeyTable>],
        out: &mut [bool],
    ) {
        assert_eq!(jobs.len(), out.len(), "one verdict for each job");
        let digests = self.signed_digests(jobs.iter().map(|job| (job.key, job.message)));
        let tables = tables.iter().copied().chain(core::iter::repeat(None));
        let items: Vec<Item<'_>> = jobs
            .iter()
            .zip(&digests)
            .zip(tables)
            .map(|((job, e), table)| Item { key: job.key, e, signature: job.signature, table })
            .collect();
        verify_batch(self.signing, &items, out);
    }

    /// Builds the tables that make later verifications under these keys faster.
    #[must_use]
    pub fn sm2_tables(self, keys: &[&sm2::PublicKey]) -> Vec<sm2::KeyTable> {
        build_tables(self.signing, keys)
    }

    /// Signs each message with its key, as [`sm2::SecretKey::sign`] does.
    ///
    /// # Panics
    /// If `jobs` and `out` differ in length: a mistake of the caller.
    pub fn sm2_sign(self, jobs: &[(&sm2::SecretKey, &[u8])], out: &mut [sm2::Signature]) {
        assert_eq!(jobs.len(), out.len(), "one signature for each job");
        let signed = jobs.iter().map(|(key, message)| (key.public(), *message));
        let digests = self.signed_digests(signed);
        let items: Vec<(&sm2::SecretKey, Digest)> =
            jobs.iter().zip(digests).map(|((key, _), e)| (*key, e)).collect();
        let hash = |messages: &[&[u8]], out: &mut [Digest]| self.sm3_many(messages, out);
        sign_batch(self.signing, &items, &hash, out);
    }

    /// e = SM3(Z || M) for each key and message.
    fn signed_digests<'a>(
        self,
        signed: impl ExactSizeIterator<Item = (&'a sm2::PublicKey, &'a [u8])>,
    ) -> Vec<Digest> {
        let mut arena = Vec::new();
        let mut ends = Vec::with_capacity(signed.len() + 1);
        ends.push(0);
        for (key, message) in signed {
            arena.extend_from_slice(key.z());
            arena.extend_from_slice(message);
            ends.push(arena.len());
        }
        let mut digests = vec![[0; 32]; ends.len() - 1];
        self.sm3(|i| &arena[ends[i]..ends[i + 1]], &mut digests);
        digests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every backend this machine can run; each test below runs on all of them.
    fn backends() -> Vec<Lanes> {
        Lanes::all()
    }

    #[test]
    fn many_and_ranges_equal_single_hashes() {
        let arena: Vec<u8> = (0..600).map(|i| (i * 7) as u8).collect();
        for lanes in backends() {
            for count in [0, 1, 2, 3, 7, 8, 9, 16, 17, 33, 300] {
                // Lengths in no order, each number of bytes in the last block among them.
                let ranges: Vec<Range<u32>> =
                    (0..count).map(|i| i..i + (i * 37 + count) % 300).collect();
                let messages: Vec<&[u8]> =
                    ranges.iter().map(|r| &arena[r.start as usize..r.end as usize]).collect();
                let expected: Vec<Digest> = messages.iter().map(|m| sm3::hash(m)).collect();
                let mut out = vec![[0; 32]; count as usize];
                lanes.sm3_many(&messages, &mut out);
                assert_eq!(out, expected);
                out.fill([0; 32]);
                lanes.sm3_ranges(&arena, &ranges, &mut out);
                assert_eq!(out, expected);
            }
        }
    }

    #[test]
    fn pairs_hash_prefix_left_right() {
        for lanes in backends() {
            for parents in [0, 1, 2, 9, 40] {
                let children: Vec<Digest> = (0..2 * parents).map(|i| [i as u8; 32]).collect();
                let mut out = vec![[0; 32]; parents];
                lanes.sm3_pairs(0x01, &children, &mut out);
                for (i, digest) in out.iter().enumerate() {
                    let (left, right) = (&children[2 * i], &children[2 * i + 1]);
                    assert_eq!(*digest, sm3::hash_parts(&[&[0x01], left, right]));
                }
            }
        }
    }

    #[test]
    fn each_job_of_a_batch_has_its_own_verdict() {
        let keys = [3, 5].map(|d| sm2::SecretKey::from_bytes(&[d; 32]).unwrap());
        let messages: Vec<Vec<u8>> = (0..12).map(|i| vec![i; 20 + usize::from(i)]).collect();
        for lanes in backends() {
            let signing: Vec<(&sm2::SecretKey, &[u8])> =
                messages.iter().enumerate().map(|(i, m)| (&keys[i % 2], &m[..])).collect();
            let mut signatures = vec![sm2::Signature([0; 64]); messages.len()];
            lanes.sm2_sign(&signing, &mut signatures);
            let publics: Vec<_> = signing.iter().map(|(key, _)| key.public_key()).collect();
            assert_eq!(signatures[0], keys[0].sign(&messages[0]));
            for bad in 0..=messages.len() {
                let mut altered = signatures.clone();
                if let Some(signature) = altered.get_mut(bad) {
                    signature.0[63] ^= 1;
                }
                let jobs: Vec<sm2::Job<'_>> = (0..messages.len())
                    .map(|i| sm2::Job {
                        key: &publics[i],
                        message: &messages[i],
                        signature: &altered[i],
                    })
                    .collect();
                let mut verdicts = vec![bad == 0; messages.len()];
                lanes.sm2_verify(&jobs, &mut verdicts);
                let expected: Vec<bool> = (0..messages.len()).map(|i| i != bad).collect();
                assert_eq!(verdicts, expected);
            }
        }
    }
}
