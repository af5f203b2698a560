//! Chance that can be repeated: every series prints its seed, and `DOORWARD_SEED` sets it.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// SplitMix64: enough to choose places, and the same for ever.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From `DOORWARD_SEED`, or a new seed; says which, with the name of the series.
    #[must_use]
    pub fn seeded(series: &str) -> Self {
        let given = std::env::var("DOORWARD_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        eprintln!("{series}: DOORWARD_SEED={seed}");
        Self(seed)
    }

    /// The next number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.word().checked_rem(bound as u64).unwrap_or(0)).unwrap_or(0)
    }

    /// A number from 1 to below 2^(`bits` + 1), whose size is as likely to be small as large.
    pub fn magnitude(&mut self, bits: u32) -> usize {
        let least = 1 << self.below(bits as usize + 1);
        least + self.below(least)
    }

    /// One or the other.
    pub fn coin(&mut self) -> bool {
        self.word() & 1 == 1
    }

    /// Puts things in a random order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for end in (1..things.len()).rev() {
            things.swap(end, self.below(end + 1));
        }
    }
}
