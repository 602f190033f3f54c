//! Hashes with SM3 (GB/T 32905-2016) and authenticates with HMAC-SM3.
//!
//! What we hash is mostly short (one-block field digests, two-block interior hashes), so [`hash`]
//! works on the caller's bytes without a buffer; [`Hasher`] is for input that comes in pieces. The
//! rounds are in `rounds`, once for one message and for many in lanes; who hashes what in which
//! lane is in `many`.
//!
//! Invariants
//! - No branch and no index depends on the content of a message or key, only on lengths.

pub(crate) mod many;
pub(crate) mod rounds;

use crate::Digest;
use zeroize::Zeroize;

/// Bytes of one block.
pub(crate) const BLOCK: usize = 64;

pub(crate) const IV: [u32; 8] = [
    0x7380_166f,
    0x4914_b2b9,
    0x1724_42d7,
    0xda8a_0600,
    0xa96f_30bc,
    0x1631_38aa,
    0xe38d_ee4d,
    0xb0fb_0e4e,
];

/// The compression function.
#[inline(never)]
fn compress(state: &mut [u32; 8], blocks: &[[u8; BLOCK]]) {
    for block in blocks {
        rounds::compress(state, words(block));
    }
}

/// The sixteen words of one block.
#[inline(always)]
fn words(block: &[u8; BLOCK]) -> [u32; 16] {
    core::array::from_fn(|i| {
        u32::from_be_bytes([block[4 * i], block[4 * i + 1], block[4 * i + 2], block[4 * i + 3]])
    })
}

#[inline(always)]
fn to_bytes(state: &[u32; 8]) -> Digest {
    let mut digest = [0; 32];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

/// The end of a message of `length` bytes: what did not fill a block, the padding, the length; and
/// whether that is one block or two.
#[inline(always)]
fn tail(rest: &[u8], length: u64) -> ([[u8; BLOCK]; 2], usize) {
    let mut blocks = [[0; BLOCK]; 2];
    let flat = blocks.as_flattened_mut();
    flat[..rest.len()].copy_from_slice(rest);
    flat[rest.len()] = 0x80;
    let count = if rest.len() < BLOCK - 8 { 1 } else { 2 };
    flat[count * BLOCK - 8..count * BLOCK].copy_from_slice(&length.wrapping_mul(8).to_be_bytes());
    (blocks, count)
}

/// Hashes one message.
#[must_use]
pub fn hash(message: &[u8]) -> Digest {
    let mut state = IV;
    let (blocks, rest) = message.as_chunks::<BLOCK>();
    compress(&mut state, blocks);
    let (last, count) = tail(rest, message.len() as u64);
    compress(&mut state, &last[..count]);
    to_bytes(&state)
}

/// Hashes `prefix`, left, right for each pair.
pub(crate) fn hash_pairs(prefix: u8, pairs: &[[Digest; 2]], out: &mut [Digest]) {
    let mut message = [prefix; 65];
    for (pair, digest) in pairs.iter().zip(out) {
        message[1..].copy_from_slice(pair.as_flattened());
        *digest = hash(&message);
    }
}

/// Hashes the concatenation of `parts`.
#[must_use]
pub fn hash_parts(parts: &[&[u8]]) -> Digest {
    let mut hasher = Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Hashes a message that comes in pieces.
#[derive(Clone)]
pub struct Hasher {
    state: [u32; 8],
    /// The `length % 64` bytes that do not fill a block yet.
    buffer: [u8; BLOCK],
    length: u64,
}

impl Hasher {
    /// Starts with the empty message.
    #[must_use]
    pub fn new() -> Self {
        Self { state: IV, buffer: [0; BLOCK], length: 0 }
    }

    /// Appends `bytes` to the message.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let filled = (self.length % BLOCK as u64) as usize;
        // The standard ends at 2^64 bits; nobody can feed that many, and wrapping is harmless.
        self.length = self.length.wrapping_add(bytes.len() as u64);
        if filled > 0 {
            let taken = bytes.len().min(BLOCK - filled);
            self.buffer[filled..filled + taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if filled + taken < BLOCK {
                return;
            }
            compress(&mut self.state, core::slice::from_ref(&self.buffer));
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        compress(&mut self.state, blocks);
        self.buffer[..rest.len()].copy_from_slice(rest);
    }

    /// The digest of the message so far.
    #[must_use]
    pub fn finalize(mut self) -> Digest {
        let filled = (self.length % BLOCK as u64) as usize;
        let (last, count) = tail(&self.buffer[..filled], self.length);
        compress(&mut self.state, &last[..count]);
        to_bytes(&self.state)
    }

    /// As [`Hasher::finalize`], and leaves nothing of a secret message behind.
    fn finalize_secret(mut self) -> Digest {
        let digest = self.clone().finalize();
        self.state.zeroize();
        self.buffer.zeroize();
        digest
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // The state may be that of a secret message.
        f.debug_struct("Hasher").field("length", &self.length).finish_non_exhaustive()
    }
}

/// HMAC-SM3 of one message under a key of any length.
///
/// Compare the result with a received one in constant time, not with `==`.
#[must_use]
pub fn hmac(key: &[u8], message: &[u8]) -> Digest {
    hmac_parts(key, &[message])
}

/// HMAC-SM3 of the concatenation of `parts`.
#[must_use]
pub fn hmac_parts(key: &[u8], parts: &[&[u8]]) -> Digest {
    let mut pad = [0; BLOCK];
    if key.len() > BLOCK {
        pad[..32].copy_from_slice(&hash(key));
    } else {
        pad[..key.len()].copy_from_slice(key);
    }
    let pass = |mask: u8, parts: &[&[u8]]| {
        let mut masked = pad.map(|byte| byte ^ mask);
        let mut hasher = Hasher::new();
        hasher.update(&masked);
        for part in parts {
            hasher.update(part);
        }
        masked.zeroize();
        hasher.finalize_secret()
    };
    let inner = pass(0x36, parts);
    let outer = pass(0x5c, &[&inner]);
    pad.zeroize();
    outer
}

#[cfg(test)]
#[path = "sm3/tests.rs"]
mod tests;
