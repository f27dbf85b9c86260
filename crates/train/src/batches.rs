//! Which examples make up each batch, and which lane works on which example.
//!
//! Promises: which examples a batch has is a pure function of seed, place in the run and data set, so a run can go on anywhere, on any number of ranks; each part of the data is drawn as
//! often as its share says and visits all its examples once before any of them again; and the
//! assignment of examples to lanes depends only on their lengths.

use crate::dataset::{Dataset, Example, Part};

/// Draws of which each part gets its share, to the nearest whole number.
const ROUND: u64 = 1024;

/// An example with its index in the data set.
#[derive(Clone, Debug)]
pub(crate) struct Indexed {
    pub(crate) index: usize,
    pub(crate) example: Example,
}

/// Draws batches. Remembers what the last one needed, which its results do not depend on.
#[derive(Debug)]
pub(crate) struct Batches {
    seed: u64,
    rows: u64,
    parts: Vec<Drawn>,
    /// Parts of the draws of the round that was needed last, and how many draws of the same part
    /// come before in the round.
    round: Option<(u64, Vec<(usize, u64)>)>,
    /// A batch that was drawn before it was asked for, with its first draw.
    ahead: Option<(u64, Vec<Indexed>)>,
}

/// A part of the data, and the order of the epoch that was needed last.
#[derive(Debug)]
struct Drawn {
    start: usize,
    len: usize,
    /// Draws of every round.
    draws: u64,
    order: Option<(u64, Vec<usize>)>,
}

impl Batches {
    /// Batches of about `batch_tokens` tokens of `data`, which must not be empty.
    pub(crate) fn new(seed: u64, data: &dyn Dataset, batch_tokens: usize) -> Self {
        let parts = data.parts();
        let draws = apportion(&parts);
        let drawn = |(part, draws): (&Part, u64)| Drawn {
            start: part.examples.start,
            len: part.examples.len(),
            draws,
            order: None,
        };
        Self {
            seed,
            rows: batch_tokens.div_ceil(data.row_tokens()).max(1) as u64,
            parts: parts.iter().zip(draws).map(drawn).collect(),
            round: None,
            ahead: None,
        }
    }

    /// The examples of the batch that begins with draw number `first` (from 0).
    pub(crate) fn batch(&mut self, data: &dyn Dataset, first: u64) -> Vec<Indexed> {
        match self.ahead.take() {
            Some((drawn, batch)) if drawn == first => batch,
            _ => self.draw(data, first),
        }
    }

    /// Draws a batch that will be asked for next, while there is time.
    pub(crate) fn prepare(&mut self, data: &dyn Dataset, first: u64) {
        self.ahead = Some((first, self.draw(data, first)));
    }

    fn draw(&mut self, data: &dyn Dataset, first: u64) -> Vec<Indexed> {
        (first..first + self.rows)
            .map(|draw| {
                let index = self.index(draw);
                let example = data.example(index);
                Indexed { index, example }
            })
            .collect()
    }

    /// The example of a draw (from 0).
    fn index(&mut self, draw: u64) -> usize {
        let (round, place) = (draw / ROUND, (draw % ROUND) as usize);
        if self.round.as_ref().is_none_or(|(known, _)| *known != round) {
            self.round = Some((round, self.deal(round)));
        }
        let (part, before) = self
            .round
            .as_ref()
            .map_or((0, 0), |(_, dealt)| dealt[place]);
        // Parts have seeds of their own, or those of one length would be in one order.
        let seed = self.seed.wrapping_add((part as u64) << 32);
        let part = &mut self.parts[part];
        let nth = round * part.draws + before;
        let (epoch, place) = (nth / part.len as u64, (nth % part.len as u64) as usize);
        if part.order.as_ref().is_none_or(|(known, _)| *known != epoch) {
            part.order = Some((epoch, permutation(part.len, seed, epoch)));
        }
        part.start + part.order.as_ref().map_or(place, |(_, order)| order[place])
    }

    /// Which part each draw of a round is from, shuffled.
    fn deal(&self, round: u64) -> Vec<(usize, u64)> {
        let cards: Vec<usize> = (self.parts.iter().enumerate())
            .flat_map(|(at, part)| std::iter::repeat_n(at, part.draws as usize))
            .collect();
        let mut dealt = vec![0; self.parts.len()];
        permutation(cards.len(), !self.seed, round)
            .into_iter()
            .map(|card| {
                let part = cards[card];
                dealt[part] += 1;
                (part, dealt[part] - 1)
            })
            .collect()
    }
}

/// Draws of a round for each part: [`ROUND`] in all, at least one each, else by the shares
/// (largest remainders).
fn apportion(parts: &[Part]) -> Vec<u64> {
    let whole: f64 = parts.iter().map(|part| part.share).sum();
    let free = ROUND - parts.len() as u64;
    let exact: Vec<f64> = (parts.iter())
        .map(|part| (part.share / whole * ROUND as f64 - 1.0).max(0.0))
        .collect();
    let scale = free as f64 / exact.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let exact: Vec<f64> = exact.iter().map(|draws| draws * scale).collect();
    let mut draws: Vec<u64> = exact.iter().map(|draws| draws.floor() as u64).collect();
    let mut by_rest: Vec<usize> = (0..parts.len()).collect();
    by_rest.sort_by(|&a, &b| {
        exact[b]
            .fract()
            .total_cmp(&exact[a].fract())
            .then(a.cmp(&b))
    });
    let left = free - draws.iter().sum::<u64>();
    for at in by_rest.into_iter().cycle().take(left as usize) {
        draws[at] += 1;
    }
    draws.into_iter().map(|draws| draws + 1).collect()
}

/// A uniform random permutation of `0..len`, fixed by `seed` and `epoch` (Fisher-Yates).
pub fn permutation(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut random = SplitMix64(SplitMix64(seed).next() ^ SplitMix64(!epoch).next());
    let mut order: Vec<usize> = (0..len).collect();
    for last in (1..len).rev() {
        order.swap(last, random.below(last as u64 + 1) as usize);
    }
    order
}

/// Steele, Lea and Flood's SplitMix64: tiny, seedable by any number, and fixed for ever by its
/// definition, so old runs resume in the same order whatever the version of any library.
#[derive(Debug)]
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound` (Lemire's multiplication with rejection; `bound` > 0).
    fn below(&mut self, bound: u64) -> u64 {
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.next()) * u128::from(bound);
            if wide as u64 >= threshold {
                return (wide >> 64) as u64;
            }
        }
    }
}

/// Spreads jobs over `workers` by longest processing time first: the longest job left goes to the
/// least loaded worker, ties to the lowest index. Returns the jobs of each worker.
pub(crate) fn assign(costs: &[usize], workers: usize) -> Vec<Vec<usize>> {
    let mut by_cost: Vec<usize> = (0..costs.len()).collect();
    by_cost.sort_by_key(|&job| (std::cmp::Reverse(costs[job]), job));
    let mut load = vec![0usize; workers];
    let mut jobs = vec![Vec::new(); workers];
    for job in by_cost {
        let worker = (0..workers).min_by_key(|&w| load[w]).unwrap_or(0);
        load[worker] += costs[job];
        jobs[worker].push(job);
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Examples;

    fn dataset(lengths: &[usize]) -> Examples {
        Examples::new(
            lengths
                .iter()
                .map(|&n| Example::causal(vec![1; n]))
                .collect(),
            "lengths",
        )
    }

    /// Two parts, 3 draws of the first for each of the second.
    struct Mixed(Examples, usize);

    impl Dataset for Mixed {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn example(&self, index: usize) -> Example {
            self.0.example(index)
        }

        fn fingerprint(&self) -> String {
            "mixed".to_owned()
        }

        fn row_tokens(&self) -> usize {
            self.0.row_tokens()
        }

        fn parts(&self) -> Vec<Part> {
            let part = |name: &str, examples, share| Part {
                name: name.to_owned(),
                examples,
                share,
            };
            vec![
                part("often", 0..self.1, 0.75),
                part("seldom", self.1..self.len(), 0.25),
            ]
        }
    }

    fn indices(batch: &[Indexed]) -> Vec<usize> {
        batch.iter().map(|item| item.index).collect()
    }

    #[test]
    fn an_epoch_visits_every_example_once_and_epochs_differ() {
        let data = dataset(&[5, 3, 9, 1, 7, 2, 2, 8, 4, 6, 3]);
        // Rows of at most 9 tokens: two make up a batch of 10.
        let mut batches = Batches::new(7, &data, 10);
        let drawn: Vec<usize> = (0..33)
            .flat_map(|batch| indices(&batches.batch(&data, 2 * batch)))
            .collect();
        assert_eq!(drawn.len(), 66);
        let epochs: Vec<&[usize]> = drawn.chunks(11).collect();
        assert_eq!(epochs.len(), 6);
        for epoch in &epochs {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..11).collect::<Vec<_>>());
        }
        assert!(epochs.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_batch_is_a_function_of_seed_and_number() {
        let data = dataset(&[4; 23]);
        let mut straight = Batches::new(3, &data, 12);
        let mut other_seed = Batches::new(4, &data, 12);
        let mut differs = false;
        for batch in 0..15 {
            let found = indices(&straight.batch(&data, 3 * batch));
            assert_eq!(found.len(), 3);
            let mut fresh = Batches::new(3, &data, 12);
            assert_eq!(found, indices(&fresh.batch(&data, 3 * batch)));
            differs |= found != indices(&other_seed.batch(&data, 3 * batch));
        }
        assert!(differs, "the seed changes the order");
        assert_eq!(
            indices(&straight.batch(&data, 2)),
            indices(&Batches::new(3, &data, 12).batch(&data, 2)),
            "going back is possible"
        );
    }

    #[test]
    fn parts_are_drawn_by_their_shares_and_each_in_epochs_of_its_own() {
        let data = Mixed(dataset(&[1; 50]), 43);
        let mut batches = Batches::new(5, &data, 1);
        let drawn: Vec<usize> = (0..3 * ROUND)
            .flat_map(|batch| indices(&batches.batch(&data, batch)))
            .collect();
        for round in drawn.chunks(ROUND as usize) {
            let seldom = round.iter().filter(|&&index| index >= 43).count();
            assert_eq!(seldom as u64, ROUND / 4);
        }
        for part in [0..43, 43..50] {
            let of_part: Vec<usize> = (drawn.iter().copied())
                .filter(|index| part.contains(index))
                .collect();
            for epoch in of_part.chunks_exact(part.len()) {
                let mut sorted = epoch.to_vec();
                sorted.sort_unstable();
                assert_eq!(sorted, part.clone().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn small_shares_are_never_rounded_to_nothing() {
        let part = |share| Part {
            name: String::new(),
            examples: 0..1,
            share,
        };
        let draws = apportion(&[part(1e-9), part(0.6), part(0.4)]);
        assert_eq!(draws.iter().sum::<u64>(), ROUND);
        assert_eq!(draws[0], 1);
        assert!((613..=615).contains(&draws[1]), "{draws:?}");
        assert_eq!(apportion(&[part(3.0)]), [ROUND]);
    }

    #[test]
    fn permutations_are_uniform_enough() {
        let mut counts = [[0u32; 4]; 4];
        for epoch in 0..4_000 {
            for (place, item) in permutation(4, 11, epoch).into_iter().enumerate() {
                counts[place][item] += 1;
            }
        }
        // Expected 1000 each, standard deviation 27: five of them leave no room for bias.
        assert!(
            counts.iter().flatten().all(|&n| (865..1135).contains(&n)),
            "{counts:?}"
        );
    }

    #[test]
    fn the_longest_jobs_are_spread_first() {
        assert_eq!(assign(&[3, 9, 4, 5, 1], 2), [vec![1, 0], vec![3, 2, 4]]);
        assert_eq!(assign(&[2], 3), [vec![0], vec![], vec![]]);
    }
}
