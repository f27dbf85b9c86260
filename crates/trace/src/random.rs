//! Chance that is a function of numbers: the same draws on every machine.

/// One step of splitmix64 (Steele, Lea and Flood, 2014).
pub(crate) fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_add(INCREMENT);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;

/// A draw as a number in [0, 1): 53 bits are what spreads evenly.
pub(crate) fn fraction(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1u64 << 53) as f64
}

/// A stream of draws.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The stream with this number of a seed, for a purpose: of two that differ in any of these, neither
    /// tells of the other.
    pub(crate) fn new(seed: u64, number: u64, purpose: u64) -> Self {
        Self(splitmix(seed ^ splitmix(number ^ splitmix(purpose))))
    }

    /// A number below `count`, each as likely as the next; 0 where there is none.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        // The upper half of a product: one draw in 2^64 / count too many for some, which no sample shows.
        ((u128::from(self.draw()) * u128::from(count)) >> 64) as u64
    }

    /// One of some, in proportion to their weights; `None` where there are none or all weigh nothing.
    pub(crate) fn weighted<T: Copy>(&mut self, choices: &[(T, u32)]) -> Option<T> {
        let total = choices.iter().map(|&(_, weight)| u64::from(weight)).sum();
        let mut left = self.below(total);
        for &(choice, weight) in choices {
            match left.checked_sub(weight.into()) {
                Some(rest) => left = rest,
                None => return Some(choice),
            }
        }
        None
    }

    fn draw(&mut self) -> u64 {
        let drawn = splitmix(self.0);
        self.0 = self.0.wrapping_add(INCREMENT);
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_shares() {
        let mut random = Random::new(1, 2, 3);
        let mut counts = [0_u32; 3];
        for _ in 0..10_000 {
            counts[random.weighted(&[(0, 1), (1, 0), (2, 3)]).unwrap_or(1)] += 1;
        }
        assert!(
            counts[1] == 0 && counts[0].abs_diff(2_500) < 150,
            "{counts:?}"
        );
        assert_eq!(random.weighted::<u8>(&[]), None);
        assert_eq!(random.weighted(&[(7, 0)]), None);
    }

    #[test]
    fn streams_differ() {
        let draws = |seed, number, purpose| Random::new(seed, number, purpose).below(u64::MAX);
        let all = [
            draws(1, 2, 3),
            draws(2, 1, 3),
            draws(1, 3, 2),
            draws(3, 2, 1),
        ];
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one));
        }
        assert_eq!(draws(1, 2, 3), all[0]);
    }
}
