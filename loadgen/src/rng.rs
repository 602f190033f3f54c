//! Gives numbers that depend on a seed, a purpose and an index alone.
//!
//! Written out (SplitMix64) and without floating point, so that the same seed gives the same bytes
//! with every compiler, on every machine, in every later version. Not for keys.
//!
//! Invariants
//! - Two purposes with the same index are unrelated; so are two indices with the same purpose.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What numbers are for.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Purpose {
    /// Which kind a record is, and what earlier record it refers to.
    Plan = 1,
    /// Number, time, secret.
    Head = 2,
    /// Parties, lines, amounts.
    Content = 3,
    /// How a bad record is made bad.
    Spoil = 4,
    /// Names and codes of a party.
    Party = 5,
    /// Which story is played, and by whom.
    Story = 6,
    /// The content of a story's invoices.
    Invoice = 7,
}

/// A stream of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64, purpose: Purpose, index: u64) -> Rng {
        let purpose = (purpose as u64).wrapping_mul(GOLDEN);
        Rng(mix(mix(mix(seed.wrapping_add(GOLDEN)) ^ purpose) ^ index.wrapping_mul(GOLDEN)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `bound`; 0 where the bound is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // Multiply and shift: the bias is below 2^-32 for the bounds used here.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True `share` times of 1000.
    pub(crate) fn chance(&mut self, share: u64) -> bool {
        self.below(1_000) < share
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_be_bytes()[..chunk.len()]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_and_never_change() {
        let mut counts = [0u32; 10];
        for i in 0..10_000 {
            let mut rng = Rng::new(7, Purpose::Plan, i);
            counts[rng.below(10) as usize] += 1;
        }
        assert!(counts.iter().all(|n| (850..1_150).contains(n)), "{counts:?}");
        assert_eq!(Rng::new(1, Purpose::Head, 2).next(), 4_484_909_995_116_438_614);
    }
}
