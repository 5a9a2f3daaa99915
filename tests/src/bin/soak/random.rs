//! Chance that can be had again: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators), which is
//! enough to choose whom to kill.

use std::time::Duration;

/// A source of numbers that follow from its seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// `stream` gives each thread its own, so that one's speed does not change another's choices.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0xA076_1D64_78BD_642F));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("less than a usize")
    }

    /// From the first to both together.
    pub(crate) fn time(&mut self, least: Duration, more: Duration) -> Duration {
        least + more * u32::try_from(self.below(1001)).expect("at most 1000") / 1000
    }
}
