//! Which examples make up each batch, and which thread works on which example.
//!
//! Promises: the order is a pure function of the seed and the position ([`Cursor`]); an epoch
//! visits every example exactly once; a batch never spans two epochs; and the assignment of
//! examples to threads depends only on their lengths, so a run repeats bit for bit.

use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Example};

/// Position in the endless sequence of shuffled epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Passes over the data already completed.
    pub epoch: u64,
    /// Examples already taken from the current pass.
    pub offset: usize,
}

/// An example with its index in the data set.
#[derive(Clone, Debug)]
pub(crate) struct Indexed {
    pub(crate) index: usize,
    pub(crate) example: Example,
}

/// Draws batches. Holds the permutation of one epoch only.
#[derive(Debug)]
pub(crate) struct Batches {
    seed: u64,
    cursor: Cursor,
    /// Epoch that `order` belongs to.
    shuffled: Option<u64>,
    order: Vec<usize>,
}

impl Batches {
    pub(crate) fn new(seed: u64, cursor: Cursor) -> Self {
        Self {
            seed,
            cursor,
            shuffled: None,
            order: Vec::new(),
        }
    }

    pub(crate) fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Takes examples until their tokens reach `batch_tokens` or the epoch ends; at least one.
    /// `data` must not be empty.
    pub(crate) fn next(&mut self, data: &dyn Dataset, batch_tokens: usize) -> Vec<Indexed> {
        if self.cursor.offset >= data.len() {
            self.cursor = Cursor {
                epoch: self.cursor.epoch + 1,
                offset: 0,
            };
        }
        if self.shuffled != Some(self.cursor.epoch) {
            self.order = permutation(data.len(), self.seed, self.cursor.epoch);
            self.shuffled = Some(self.cursor.epoch);
        }
        let mut batch = Vec::new();
        let mut tokens = 0;
        for &index in &self.order[self.cursor.offset..] {
            let example = data.example(index);
            tokens += example.ids.len();
            batch.push(Indexed { index, example });
            if tokens >= batch_tokens {
                break;
            }
        }
        self.cursor.offset += batch.len();
        batch
    }
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

    fn indices(batch: &[Indexed]) -> Vec<usize> {
        batch.iter().map(|item| item.index).collect()
    }

    #[test]
    fn an_epoch_visits_every_example_once_and_epochs_differ() {
        let data = dataset(&[5, 3, 9, 1, 7, 2, 2, 8, 4, 6, 3]);
        let mut batches = Batches::new(7, Cursor::default());
        let mut seen: Vec<Vec<usize>> = vec![Vec::new(); 3];
        while batches.cursor().epoch < 3 {
            let batch = batches.next(&data, 10);
            let Some(epoch) = seen.get_mut(batches.cursor().epoch as usize) else {
                break;
            };
            let tokens: usize = batch.iter().map(|item| item.example.ids.len()).sum();
            let at_end = batches.cursor().offset == data.len();
            assert!(tokens >= 10 || at_end, "short batch inside an epoch");
            let last = batch.last().map_or(0, |item| item.example.ids.len());
            assert!(tokens - last < 10, "a batch stops as soon as it is full");
            epoch.extend(indices(&batch));
        }
        assert_ne!(seen[0], seen[1]);
        assert_ne!(seen[1], seen[2]);
        for mut epoch in seen {
            epoch.sort_unstable();
            assert_eq!(epoch, (0..11).collect::<Vec<_>>());
        }
    }

    #[test]
    fn batches_are_a_function_of_seed_and_cursor() {
        let data = dataset(&[4; 23]);
        let mut straight = Batches::new(3, Cursor::default());
        let mut other_seed = Batches::new(4, Cursor::default());
        let mut differs = false;
        for _ in 0..15 {
            let mut resumed = Batches::new(3, straight.cursor());
            let batch = indices(&straight.next(&data, 12));
            assert_eq!(batch, indices(&resumed.next(&data, 12)));
            assert_eq!(straight.cursor(), resumed.cursor());
            differs |= batch != indices(&other_seed.next(&data, 12));
        }
        assert!(differs, "the seed changes the order");
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
