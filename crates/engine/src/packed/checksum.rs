//! A sum that notices damage at the speed of memory.
//!
//! Eight lanes take turns at the 64-bit words. A lane's step can be undone for a known word, so
//! that one changed word always changes the sum; more of them, words in another order or shifted
//! data go unnoticed once in 2^64. It is no guard against somebody who wants it to hold.

const LANES: usize = 8;

/// Bytes that go through all lanes once.
pub(super) const BLOCK: usize = LANES * size_of::<u64>();

/// An odd number without a pattern, so that multiplying can be undone: 2^64 by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The sum of what was added so far.
pub(super) struct Checksum([u64; LANES]);

impl Checksum {
    pub(super) fn new() -> Self {
        // Lanes differ, so that words that change places change the sum.
        Self(std::array::from_fn(|lane| {
            FACTOR.wrapping_mul(lane as u64 + 1)
        }))
    }

    /// Adds whole blocks, as packed matrices are.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        assert!(rest.is_empty(), "packed weights are whole blocks");
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            for (lane, word) in self.0.iter_mut().zip(words) {
                *lane = step(*lane, u64::from_le_bytes(*word));
            }
        }
    }

    pub(super) fn finish(&self) -> u64 {
        self.0.iter().fold(0, |sum, &lane| step(sum, lane))
    }
}

fn step(lane: u64, word: u64) -> u64 {
    (lane ^ word).wrapping_mul(FACTOR).rotate_left(29)
}

/// The sum of all of `bytes`.
pub(super) fn of(bytes: &[u8]) -> u64 {
    let mut sum = Checksum::new();
    sum.add(bytes);
    sum.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_and_the_order_of_words_count_and_parts_do_not() {
        let bytes: Vec<u8> = (0..3 * BLOCK).map(|at| (at * at / 7) as u8).collect();
        let sum = of(&bytes);
        for bit in 0..8 * bytes.len() {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(of(&other), sum, "bit {bit}");
        }
        for [a, b] in [[0, 8], [0, BLOCK], [BLOCK - 8, BLOCK]] {
            let mut other = bytes.clone();
            (0..8).for_each(|at| other.swap(a + at, b + at));
            assert_ne!(of(&other), sum, "words at {a} and {b}");
        }
        let mut parts = Checksum::new();
        parts.add(&bytes[..BLOCK]);
        parts.add(&bytes[BLOCK..]);
        assert_eq!(parts.finish(), sum);
    }
}
