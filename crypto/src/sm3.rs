//! Hashes with SM3 (GB/T 32905-2016) and authenticates with HMAC-SM3.
//!
//! What we hash is mostly short (one-block field digests, two-block interior hashes), so [`hash`]
//! works on the caller's bytes without a buffer; [`Hasher`] is for input that comes in pieces. The
//! compression function is unrolled, so that no word of the state ever moves.
//!
//! Invariants
//! - No branch and no index depends on the content of a message or key, only on lengths.

use crate::Digest;
use zeroize::Zeroize;

/// Bytes of one block.
const BLOCK: usize = 64;

const IV: [u32; 8] = [
    0x7380_166f,
    0x4914_b2b9,
    0x1724_42d7,
    0xda8a_0600,
    0xa96f_30bc,
    0x1631_38aa,
    0xe38d_ee4d,
    0xb0fb_0e4e,
];

/// The round constants, rotated as the rounds use them.
const T: [u32; 64] = {
    let mut t = [0; 64];
    let mut j = 0;
    while j < 64 {
        let base: u32 = if j < 16 { 0x79cc_4519 } else { 0x7a87_9d8a };
        t[j] = base.rotate_left(j as u32 % 32);
        j += 1;
    }
    t
};

/// Words j and j+4 of the expanded message feed round j; the words live in a ring of sixteen, so
/// word j+4 is made when round j needs it.
#[inline(always)]
fn expand(w: &mut [u32; 16], j: usize) {
    let x = w[j % 16] ^ w[(j + 7) % 16] ^ w[(j + 13) % 16].rotate_left(15);
    let p1 = x ^ x.rotate_left(15) ^ x.rotate_left(23);
    w[j % 16] = p1 ^ w[(j + 3) % 16].rotate_left(7) ^ w[(j + 10) % 16];
}

macro_rules! round {
    ($ff:ident, $gg:ident, $w:ident, $j:expr,
     $a:ident, $b:ident, $c:ident, $d:ident, $e:ident, $f:ident, $g:ident, $h:ident) => {{
        let j: usize = $j;
        if j >= 12 {
            expand(&mut $w, j + 4);
        }
        let (w, w_and_4) = ($w[j % 16], $w[j % 16] ^ $w[(j + 4) % 16]);
        let a12 = $a.rotate_left(12);
        let ss1 = $e.wrapping_add(T[j]).wrapping_add(a12).rotate_left(7);
        let tt1 = $ff($a, $b, $c).wrapping_add($d).wrapping_add(w_and_4).wrapping_add(ss1 ^ a12);
        let tt2 = $gg($e, $f, $g).wrapping_add($h).wrapping_add(w).wrapping_add(ss1);
        $b = $b.rotate_left(9);
        $d = tt1;
        $f = $f.rotate_left(19);
        $h = tt2 ^ tt2.rotate_left(9) ^ tt2.rotate_left(17);
    }};
}

/// Groups of four rounds, after each of which every variable has its own name back.
macro_rules! rounds {
    ($ff:ident, $gg:ident, $w:ident, $($j:expr),+;
     $a:ident, $b:ident, $c:ident, $d:ident, $e:ident, $f:ident, $g:ident, $h:ident) => {
        $(
            round!($ff, $gg, $w, $j, $a, $b, $c, $d, $e, $f, $g, $h);
            round!($ff, $gg, $w, $j + 1, $d, $a, $b, $c, $h, $e, $f, $g);
            round!($ff, $gg, $w, $j + 2, $c, $d, $a, $b, $g, $h, $e, $f);
            round!($ff, $gg, $w, $j + 3, $b, $c, $d, $a, $f, $g, $h, $e);
        )+
    };
}

#[inline(always)]
fn parity(x: u32, y: u32, z: u32) -> u32 {
    x ^ y ^ z
}

#[inline(always)]
fn majority(x: u32, y: u32, z: u32) -> u32 {
    (x & y) | ((x | y) & z)
}

#[inline(always)]
fn choose(x: u32, y: u32, z: u32) -> u32 {
    ((y ^ z) & x) ^ z
}

/// The compression function.
#[inline(never)]
fn compress(state: &mut [u32; 8], blocks: &[[u8; BLOCK]]) {
    for block in blocks {
        let mut w = words(block);
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
        rounds!(parity, parity, w, 0, 4, 8, 12; a, b, c, d, e, f, g, h);
        rounds!(majority, choose, w, 16, 20, 24, 28, 32, 36; a, b, c, d, e, f, g, h);
        rounds!(majority, choose, w, 40, 44, 48, 52, 56, 60; a, b, c, d, e, f, g, h);
        for (old, new) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *old ^= new;
        }
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
