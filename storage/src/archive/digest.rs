//! The digest of a file: SM3 over the SM3 digests of its parts.
//!
//! One SM3 over a whole file is one chain of compressions, which neither lanes nor threads make
//! faster; parts are hashed side by side. With a shell and OpenSSL:
//! `split -b 65536 --filter='openssl dgst -sm3 -binary' FILE | openssl dgst -sm3`.
//!
//! Invariants
//! - The digest depends on the bytes alone, not on how they come.

use piaogen_crypto::{Digest, Lanes, sm3};

/// Bytes of a part; the last may have less.
const PART: usize = 64 << 10;
/// Parts hashed at once.
const AT_ONCE: usize = 16;

/// The digest of a file as far as it has come.
pub(crate) struct FileHasher {
    lanes: Lanes,
    /// Bytes whose parts are not hashed yet.
    pending: Vec<u8>,
    over: sm3::Hasher,
}

impl FileHasher {
    /// Of no bytes.
    pub(crate) fn new(lanes: Lanes) -> Self {
        Self { lanes, pending: Vec::with_capacity(PART * AT_ONCE), over: sm3::Hasher::new() }
    }

    /// Adds bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PART * AT_ONCE - self.pending.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == PART * AT_ONCE {
                self.hash_parts();
            }
        }
    }

    fn hash_parts(&mut self) {
        let parts = self.pending.chunks_exact(PART);
        let last = parts.remainder();
        let whole: Vec<&[u8]> = parts.collect();
        let mut digests = [[0; 32]; AT_ONCE];
        self.lanes.sm3_many(&whole, &mut digests[..whole.len()]);
        self.over.update(digests[..whole.len()].as_flattened());
        if !last.is_empty() {
            self.over.update(&sm3::hash(last));
        }
        self.pending.clear();
    }

    /// The digest.
    pub(crate) fn finalize(mut self) -> Digest {
        self.hash_parts();
        self.over.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_parts_however_the_bytes_come() {
        for len in [0, 1, PART - 1, PART, PART + 1, AT_ONCE * PART, 2 * AT_ONCE * PART + 77] {
            let bytes: Vec<u8> = (0..len).map(|i| (i ^ (i >> 9)) as u8).collect();
            let parts: Vec<Digest> = bytes.chunks(PART).map(sm3::hash).collect();
            for step in [1 << 20, 65_537, 30_011] {
                let mut hasher = FileHasher::new(Lanes::detect());
                bytes.chunks(step).for_each(|bytes| hasher.update(bytes));
                assert_eq!(hasher.finalize(), sm3::hash(parts.as_flattened()), "{len} {step}");
            }
        }
    }
}
