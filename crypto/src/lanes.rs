//! Does many hashes, signatures or verifications in one call, with the best backend of this
//! machine.
//!
//! A [`Lanes`] value names a backend; it is chosen once at start and passed by value to whoever has
//! a batch. Today there is one backend, portable, and [`Lanes::detect`] returns it. AVX2 and
//! AVX-512 backends belong behind the same value: each becomes a variant of the private [`Backend`]
//! holding a token that only its detection can construct, and the methods below are the only
//! dispatch.
//!
//! Invariants
//! - The portable backend is the definition; every other one equals it on every input.
//! - Output `i` depends on input `i` alone.

use crate::sm3;
use crate::{Digest, sm2};
use core::ops::Range;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Backend {
    Portable,
}

/// A backend, chosen once at start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lanes(Backend);

impl Lanes {
    /// The reference backend, which runs everywhere.
    #[must_use]
    pub fn portable() -> Self {
        Self(Backend::Portable)
    }

    /// The fastest backend that this machine can run; for now always [`Lanes::portable`].
    #[must_use]
    pub fn detect() -> Self {
        Self::portable()
    }

    /// The backend's name, for the log line at start.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Backend::Portable => "portable",
        }
    }

    /// Hashes `messages`, of any lengths, into `out`.
    ///
    /// # Panics
    /// If `messages` and `out` differ in length: that is a mistake of the caller, never of input.
    pub fn sm3_many(self, messages: &[&[u8]], out: &mut [Digest]) {
        assert_eq!(messages.len(), out.len(), "one digest for each message");
        match self.0 {
            Backend::Portable => {
                for (message, digest) in messages.iter().zip(out) {
                    *digest = sm3::hash(message);
                }
            }
        }
    }

    /// Hashes the messages that lie at `ranges` of `arena` into `out`.
    ///
    /// # Panics
    /// If `ranges` and `out` differ in length or a range leaves the arena: mistakes of the caller.
    pub fn sm3_ranges(self, arena: &[u8], ranges: &[Range<u32>], out: &mut [Digest]) {
        assert_eq!(ranges.len(), out.len(), "one digest for each range");
        match self.0 {
            Backend::Portable => {
                for (range, digest) in ranges.iter().zip(out) {
                    *digest = sm3::hash(&arena[range.start as usize..range.end as usize]);
                }
            }
        }
    }

    /// Hashes pairs of children into their parents: `out[i]` is SM3 of `prefix`, `children[2 * i]`,
    /// `children[2 * i + 1]`.
    ///
    /// # Panics
    /// If there are not exactly two children for each parent: a mistake of the caller.
    pub fn sm3_pairs(self, prefix: u8, children: &[Digest], out: &mut [Digest]) {
        let (pairs, odd) = children.as_chunks::<2>();
        assert!(odd.is_empty() && pairs.len() == out.len(), "two children for each parent");
        match self.0 {
            Backend::Portable => portable_pairs(prefix, pairs, out),
        }
    }

    /// Verifies `jobs` and writes one verdict for each into `out`, whatever the neighbours are.
    ///
    /// # Panics
    /// If `jobs` and `out` differ in length: a mistake of the caller.
    pub fn sm2_verify(self, jobs: &[sm2::Job<'_>], out: &mut [bool]) {
        assert_eq!(jobs.len(), out.len(), "one verdict for each job");
        match self.0 {
            Backend::Portable => {
                for (job, verdict) in jobs.iter().zip(out) {
                    *verdict = sm2::verify(job.key, job.message, job.signature);
                }
            }
        }
    }

    /// Signs each message with its key, as [`sm2::SecretKey::sign`] does.
    ///
    /// # Panics
    /// If `jobs` and `out` differ in length: a mistake of the caller.
    pub fn sm2_sign(self, jobs: &[(&sm2::SecretKey, &[u8])], out: &mut [sm2::Signature]) {
        assert_eq!(jobs.len(), out.len(), "one signature for each job");
        match self.0 {
            Backend::Portable => {
                for ((key, message), signature) in jobs.iter().zip(out) {
                    *signature = key.sign(message);
                }
            }
        }
    }
}

fn portable_pairs(prefix: u8, pairs: &[[Digest; 2]], out: &mut [Digest]) {
    let mut message = [prefix; 65];
    for (pair, digest) in pairs.iter().zip(out) {
        message[1..].copy_from_slice(pair.as_flattened());
        *digest = sm3::hash(&message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    /// Every backend this machine can run; each test below runs on all of them.
    fn backends() -> Vec<Lanes> {
        vec![Lanes::portable(), Lanes::detect()]
    }

    #[test]
    fn many_and_ranges_equal_single_hashes() {
        let arena: Vec<u8> = (0..600).map(|i| (i * 7) as u8).collect();
        for lanes in backends() {
            for count in [0, 1, 3, 16, 33] {
                let ranges: Vec<Range<u32>> = (0..count).map(|i| i..i * 16 + i % 5).collect();
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
