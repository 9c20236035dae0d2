//! Chance that is the same each time: whatever is drawn follows from the seed.

/// `SplitMix64` (Steele, Lea, Flood 2014): enough to vary bytes, and the same everywhere.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// From the first one up to and without the second one.
    pub(crate) fn between(&mut self, first: usize, end: usize) -> usize {
        first + self.below(end - first)
    }

    /// True one time in so many.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn one_of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    /// One of the good ones, and one time in eight one of the bad ones.
    pub(crate) fn mostly<'a>(&mut self, (good, bad): (&[&'a str], &[&'a str])) -> &'a str {
        let of = if self.once_in(8) { bad } else { good };
        self.one_of(of)
    }

    /// At most so many bytes of any kind.
    pub(crate) fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }
}
