//! Hashes many messages at once, each in a lane of its own.
//!
//! Every lane carries one message at a time. One step takes one block of each lane's message into
//! the state; a lane whose message ends gives its digest and takes the next message, so messages of
//! any lengths mix without sorting. When too few are left to fill the lanes, they are finished one
//! by one.
//!
//! Invariants
//! - A digest depends on its own message alone, also where a lane idles on stale blocks.
//! - The blocks and digests that were staged are overwritten at the end of each call.

use super::rounds::{self, Word};
use super::{BLOCK, IV, to_bytes, words};
use crate::Digest;

/// The most lanes that any vector has.
pub(crate) const LANES_MAX: usize = 16;

/// A vector of words, one for each lane.
pub(crate) trait Vector: Word {
    /// Shows that the processor can do it.
    type Token: Copy;
    /// How many lanes: 2 to [`LANES_MAX`].
    const LANES: usize;
    /// Below this many messages, one after the other is as fast.
    const WORTH: usize;

    /// `value` in every lane.
    fn splat(token: Self::Token, value: u32) -> Self;
    /// One word for each lane; those behind the last lane are not read.
    fn gather(token: Self::Token, words: &[u32; LANES_MAX]) -> Self;
    /// The words of one block for each lane; blocks behind the last lane are not read.
    fn load(token: Self::Token, blocks: &[[u8; BLOCK]; LANES_MAX]) -> [Self; 16];
    /// The state of each lane in the byte order of digests; what lies behind the last lane stays.
    fn store(state: [Self; 8], digests: &mut [Digest; LANES_MAX]);
    /// Lanes of `yes` where `mask` has a bit, lowest lane first, else those of `no`.
    fn select(mask: u32, yes: Self, no: Self) -> Self;
}

/// A message on its way.
#[derive(Clone, Copy)]
struct Lane<'a> {
    /// What has not been taken yet.
    rest: &'a [u8],
    /// Whether the end of the message has been marked.
    marked: bool,
    /// Bytes of the whole message.
    length: u64,
    /// Where the digest belongs.
    place: usize,
}

impl<'a> Lane<'a> {
    fn new(message: &'a [u8], place: usize) -> Self {
        Self { rest: message, marked: false, length: message.len() as u64, place }
    }

    /// Writes the next block, and says whether it is the last one.
    #[inline(always)]
    fn fill(&mut self, block: &mut [u8; BLOCK]) -> bool {
        if let Some((whole, rest)) = self.rest.split_first_chunk() {
            *block = *whole;
            self.rest = rest;
            return false;
        }
        *block = [0; BLOCK];
        if !self.marked {
            copy_short(self.rest, block);
            let end = self.rest.len();
            block[end] = 0x80;
            self.marked = true;
            self.rest = &[];
            if end > BLOCK - 9 {
                return false;
            }
        }
        block[BLOCK - 8..].copy_from_slice(&self.length.wrapping_mul(8).to_be_bytes());
        true
    }

    /// Takes what is left into the state of this lane alone.
    fn finish(mut self, mut state: [u32; 8]) -> Digest {
        let mut block = [0; BLOCK];
        loop {
            let last = self.fill(&mut block);
            rounds::compress(&mut state, words(&block));
            if last {
                return to_bytes(&state);
            }
        }
    }
}

/// Copies fewer than 64 bytes by few moves of fixed sizes, which may overlap: a call of `memcpy`
/// for each block would cost more than hashing it.
#[inline(always)]
fn copy_short(from: &[u8], to: &mut [u8; BLOCK]) {
    macro_rules! ends {
        ($size:literal) => {
            if let (Some(first), Some(last)) =
                (from.first_chunk::<$size>(), from.last_chunk::<$size>())
            {
                let end = from.len().min(BLOCK);
                to[..$size].copy_from_slice(first);
                to[end - $size..end].copy_from_slice(last);
                return;
            }
        };
    }
    ends!(32);
    ends!(16);
    ends!(8);
    ends!(4);
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// The state before the first block.
#[inline(always)]
fn initial<V: Vector>(token: V::Token) -> [V; 8] {
    let mut state = [V::splat(token, 0); 8];
    for (word, value) in state.iter_mut().zip(IV) {
        *word = V::splat(token, value);
    }
    state
}

/// Hashes `message(0)`, `message(1)` and so on, one for each place of `out`.
#[inline(always)]
pub(crate) fn hash<'a, V: Vector>(
    token: V::Token,
    message: impl Fn(usize) -> &'a [u8],
    out: &mut [Digest],
) {
    let count = out.len();
    let initial = initial::<V>(token);
    let mut state = initial;
    let mut blocks = [[0; BLOCK]; LANES_MAX];
    let mut digests = [[0; 32]; LANES_MAX];
    let mut lanes = [Lane::new(&[], 0); LANES_MAX];
    let mut next = count.min(V::LANES);
    for (place, lane) in lanes[..next].iter_mut().enumerate() {
        *lane = Lane::new(message(place), place);
    }
    // A bit for each lane that has a message.
    let mut active = (1u32 << next) - 1;
    while active.count_ones() as usize >= V::WORTH {
        let mut ended = 0;
        for (bit, (lane, block)) in lanes.iter_mut().zip(&mut blocks).take(V::LANES).enumerate() {
            if active >> bit & 1 == 1 && lane.fill(block) {
                ended |= 1 << bit;
            }
        }
        rounds::compress(&mut state, V::load(token, &blocks));
        if ended == 0 {
            continue;
        }
        V::store(state, &mut digests);
        for (word, initial) in state.iter_mut().zip(initial) {
            *word = V::select(ended, initial, *word);
        }
        for (bit, (lane, digest)) in lanes.iter_mut().zip(&digests).take(V::LANES).enumerate() {
            if ended >> bit & 1 == 0 {
                continue;
            }
            out[lane.place] = *digest;
            if next < count {
                *lane = Lane::new(message(next), next);
                next += 1;
            } else {
                active &= !(1 << bit);
            }
        }
    }
    V::store(state, &mut digests);
    for (bit, (lane, digest)) in lanes.iter().zip(&digests).enumerate() {
        if active >> bit & 1 == 1 {
            out[lane.place] = lane.finish(from_bytes(digest));
        }
    }
    // Keys and nonces pass through on their way to signatures; a few wide stores for each call.
    blocks.fill([0; BLOCK]);
    digests.fill([0; 32]);
    zeroize::optimization_barrier(&blocks);
    zeroize::optimization_barrier(&digests);
}

fn from_bytes(state: &Digest) -> [u32; 8] {
    core::array::from_fn(|i| {
        u32::from_be_bytes([state[4 * i], state[4 * i + 1], state[4 * i + 2], state[4 * i + 3]])
    })
}

/// Hashes `prefix`, left, right for each pair: 65 bytes, of which the second block has only one.
#[inline(always)]
pub(crate) fn hash_pairs<V: Vector>(
    token: V::Token,
    prefix: u8,
    pairs: &[[Digest; 2]],
    out: &mut [Digest],
) {
    let initial = initial::<V>(token);
    let mut blocks = [[prefix; BLOCK]; LANES_MAX];
    let mut ends = [0; LANES_MAX];
    let mut digests = [[0; 32]; LANES_MAX];
    for (pairs, out) in pairs.chunks(V::LANES).zip(out.chunks_mut(V::LANES)) {
        if pairs.len() < V::WORTH {
            super::hash_pairs(prefix, pairs, out);
            continue;
        }
        for ((pair, block), end) in pairs.iter().zip(&mut blocks).zip(&mut ends) {
            let children = pair.as_flattened();
            block[1..].copy_from_slice(&children[..BLOCK - 1]);
            *end = u32::from_be_bytes([children[BLOCK - 1], 0x80, 0, 0]);
        }
        let mut state = initial;
        rounds::compress(&mut state, V::load(token, &blocks));
        let mut last = [V::splat(token, 0); 16];
        last[0] = V::gather(token, &ends);
        last[15] = V::splat(token, 65 * 8);
        rounds::compress(&mut state, last);
        V::store(state, &mut digests);
        out.copy_from_slice(&digests[..out.len()]);
    }
}
