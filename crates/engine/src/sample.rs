//! From logits to a token: masks, greedy choice, seeded sampling, and log-probabilities.
//!
//! Everything here is a pure function of its arguments (and of the seed), single-threaded, summing
//! in f64 in the order of the ids: the same logits give the same choice and the same probabilities
//! on every machine. Ties go to the lowest id. Minus infinity is a legal logit (probability zero);
//! NaN and plus infinity are refused.

use crate::error::{Error, Result};

/// An owned set of token ids, as a bitset over a vocabulary: the storage behind a [`Mask`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSet {
    words: Vec<u64>,
}

impl TokenSet {
    /// An empty set with room for the ids `0..vocab_size` (it grows when larger ids are inserted).
    pub fn new(vocab_size: usize) -> Self {
        Self {
            words: vec![0; vocab_size.div_ceil(64)],
        }
    }

    /// Adds an id; says whether it was new.
    pub fn insert(&mut self, id: u32) -> bool {
        let (word, bit) = (id as usize / 64, 1u64 << (id % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Removes an id; says whether it was there.
    pub fn remove(&mut self, id: u32) -> bool {
        let (word, bit) = (id as usize / 64, 1u64 << (id % 64));
        let Some(word) = self.words.get_mut(word) else {
            return false;
        };
        let there = *word & bit != 0;
        *word &= !bit;
        there
    }

    /// Removes every id and keeps the storage, so that one set serves a whole generation.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// The set as a mask.
    pub fn mask(&self) -> Mask<'_> {
        Mask::from_words(&self.words)
    }
}

impl Extend<u32> for TokenSet {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, ids: I) {
        for id in ids {
            self.insert(id);
        }
    }
}

impl FromIterator<u32> for TokenSet {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        let mut set = Self::default();
        set.extend(ids);
        set
    }
}

/// Which token ids may be chosen: a borrowed bitset over the vocabulary, or everything.
#[derive(Clone, Copy, Debug)]
pub struct Mask<'a> {
    /// Bit `id % 64` of word `id / 64`; ids beyond the end are forbidden. `None` allows every id.
    words: Option<&'a [u64]>,
}

impl<'a> Mask<'a> {
    /// The mask that forbids nothing.
    pub const fn all() -> Self {
        Self { words: None }
    }

    /// Reads bit `id % 64` of `words[id / 64]` as "id is allowed"; ids beyond the end are
    /// forbidden.
    pub const fn from_words(words: &'a [u64]) -> Self {
        Self { words: Some(words) }
    }

    /// May this id be chosen?
    pub fn allows(self, id: u32) -> bool {
        self.words.is_none_or(|words| {
            words
                .get(id as usize / 64)
                .is_some_and(|word| word >> (id % 64) & 1 == 1)
        })
    }

    /// The allowed ids below `vocab_size`, rising.
    pub fn iter(self, vocab_size: usize) -> impl Iterator<Item = u32> + Clone + 'a {
        let n_words = vocab_size.div_ceil(64);
        (0..n_words).flat_map(move |index| {
            let word = match self.words {
                None => u64::MAX,
                Some(words) => words.get(index).copied().unwrap_or(0),
            };
            let rest = vocab_size - index * 64;
            let word = if rest < 64 {
                word & ((1 << rest) - 1)
            } else {
                word
            };
            bits(word).map(move |bit| index as u32 * 64 + bit)
        })
    }

    /// Number of allowed ids below `vocab_size`.
    pub fn count(self, vocab_size: usize) -> usize {
        self.iter(vocab_size).count()
    }

    /// The only allowed id below `vocab_size`, when there is exactly one: such a token needs no
    /// model.
    pub fn forced(self, vocab_size: usize) -> Option<u32> {
        let mut ids = self.iter(vocab_size);
        let id = ids.next()?;
        ids.next().is_none().then_some(id)
    }
}

/// The indices of the set bits, rising.
fn bits(mut word: u64) -> impl Iterator<Item = u32> + Clone {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}

/// A chosen token and how sure the model was of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The token.
    pub id: u32,
    /// Natural log of its probability among the *allowed* tokens (temperature 1, renormalised).
    /// Zero when forced.
    pub logprob: f64,
    /// Its probability over the *whole* vocabulary (temperature 1). Small where the mask had to
    /// overrule the model.
    pub prob: f64,
}

/// The allowed token with the highest logit.
///
/// # Errors
/// [`Error::NothingAllowed`] when the mask is empty, or every allowed logit is minus infinity;
/// [`Error::BadLogit`] when any logit is NaN or plus infinity.
pub fn greedy(logits: &[f32], mask: Mask<'_>) -> Result<Choice> {
    let whole = log_sum_exp(logits)?;
    let mut best: Option<(u32, f32)> = None;
    for id in mask.iter(logits.len()) {
        let logit = logits[id as usize];
        if logit > best.map_or(f32::NEG_INFINITY, |(_, top)| top) {
            best = Some((id, logit));
        }
    }
    let (id, _) = best.ok_or(Error::NothingAllowed {
        vocab_size: logits.len(),
    })?;
    Ok(choice(logits, mask, id, whole))
}

/// Describes the choice of `id`, an allowed id with a finite logit.
fn choice(logits: &[f32], mask: Mask<'_>, id: u32, whole: f64) -> Choice {
    let logit = f64::from(logits[id as usize]);
    let allowed = mask.iter(logits.len()).map(|id| logits[id as usize]);
    Choice {
        id,
        logprob: (logit - log_sum_exp_of(allowed)).min(0.0),
        prob: (logit - whole).exp().min(1.0),
    }
}

/// `ln(sum(exp(logits)))`, computed in f64 without overflow.
///
/// # Errors
/// [`Error::BadLogit`] for NaN or plus infinity.
pub fn log_sum_exp(logits: &[f32]) -> Result<f64> {
    let bad = |value: &f32| value.is_nan() || *value == f32::INFINITY;
    if let Some(index) = logits.iter().position(bad) {
        return Err(Error::BadLogit {
            id: index as u32,
            value: logits[index],
        });
    }
    Ok(log_sum_exp_of(logits.iter().copied()))
}

/// [`log_sum_exp`] of values already known to be neither NaN nor plus infinity.
fn log_sum_exp_of(values: impl Iterator<Item = f32> + Clone) -> f64 {
    let max = f64::from(values.clone().fold(f32::NEG_INFINITY, f32::max));
    if max == f64::NEG_INFINITY {
        return max;
    }
    max + values
        .map(|value| (f64::from(value) - max).exp())
        .sum::<f64>()
        .ln()
}

/// Natural log-probability of `id` under the softmax of `logits`.
///
/// # Errors
/// [`Error::UnknownToken`] when `id` has no logit, [`Error::BadLogit`] as in [`log_sum_exp`].
pub fn logprob(logits: &[f32], id: u32) -> Result<f64> {
    let logit = logits.get(id as usize).ok_or(Error::UnknownToken {
        id,
        index: 0,
        vocab_size: logits.len(),
    })?;
    Ok(f64::from(*logit) - log_sum_exp(logits)?)
}

/// Turns logits into natural log-probabilities in place.
///
/// # Errors
/// [`Error::BadLogit`] as in [`log_sum_exp`]; the slice is then unchanged.
pub fn log_softmax(logits: &mut [f32]) -> Result<()> {
    let whole = log_sum_exp(logits)?;
    if whole == f64::NEG_INFINITY {
        return Err(Error::NothingAllowed {
            vocab_size: logits.len(),
        });
    }
    for logit in logits {
        *logit = (f64::from(*logit) - whole) as f32;
    }
    Ok(())
}

/// What a [`Sampler`] does to the distribution before it draws, in this order: mask, temperature,
/// top-k, top-p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerOptions {
    /// Divides the logits; 0 means greedy. Finite, at least 0.
    pub temperature: f32,
    /// Keep only this many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of likeliest tokens whose probabilities sum to at least this; in (0,
    /// 1].
    pub top_p: f32,
    /// Start of the random sequence: equal seeds and logits give equal tokens.
    pub seed: u64,
}

/// A seeded sampler. It owns its random state, so one sampler belongs to one generation; `Clone`
/// repeats its future.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    state: u64,
    /// Candidates of the draw in progress, kept to reuse the storage: (id, scaled logit, weight).
    candidates: Vec<(u32, f64, f64)>,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    ///
    /// # Errors
    /// [`Error::SamplerParameter`] when an option is outside the range its field names.
    pub fn new(options: SamplerOptions) -> Result<Self> {
        let SamplerOptions {
            temperature,
            top_p,
            seed,
            ..
        } = options;
        if !temperature.is_finite() || temperature < 0.0 {
            return Err(Error::SamplerParameter {
                parameter: "temperature",
                value: temperature,
                range: "finite and at least 0",
            });
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(Error::SamplerParameter {
                parameter: "top_p",
                value: top_p,
                range: "above 0 and at most 1",
            });
        }
        Ok(Self {
            options,
            state: seed,
            candidates: Vec::new(),
        })
    }

    /// Draws an allowed token. The reported probabilities are the model's own (temperature 1, no
    /// truncation).
    ///
    /// # Errors
    /// As [`greedy`].
    pub fn sample(&mut self, logits: &[f32], mask: Mask<'_>) -> Result<Choice> {
        if self.options.temperature == 0.0 {
            return greedy(logits, mask);
        }
        let whole = log_sum_exp(logits)?;
        self.collect_candidates(logits, mask);
        if self.candidates.is_empty() {
            return Err(Error::NothingAllowed {
                vocab_size: logits.len(),
            });
        }
        if self.options.top_k > 0 || self.options.top_p < 1.0 {
            self.truncate_candidates();
        }
        let id = self.draw();
        Ok(choice(logits, mask, id, whole))
    }

    /// Fills `candidates` with the allowed ids of non-zero probability and their weights relative
    /// to the likeliest.
    fn collect_candidates(&mut self, logits: &[f32], mask: Mask<'_>) {
        let temperature = f64::from(self.options.temperature);
        self.candidates.clear();
        for id in mask.iter(logits.len()) {
            let logit = logits[id as usize];
            if logit > f32::NEG_INFINITY {
                self.candidates
                    .push((id, f64::from(logit) / temperature, 0.0));
            }
        }
        let top = self
            .candidates
            .iter()
            .map(|c| c.1)
            .fold(f64::NEG_INFINITY, f64::max);
        for (_, logit, weight) in &mut self.candidates {
            *weight = (*logit - top).exp();
        }
    }

    /// Applies top-k, then top-p, to candidates sorted by falling logit and rising id. At least one
    /// survives.
    fn truncate_candidates(&mut self) {
        self.candidates
            .sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if self.options.top_k > 0 {
            self.candidates.truncate(self.options.top_k);
        }
        let total: f64 = self.candidates.iter().map(|c| c.2).sum();
        let enough = f64::from(self.options.top_p) * total;
        let mut sum = 0.0;
        let before = |(_, _, weight): &(u32, f64, f64)| {
            let keep = sum < enough;
            sum += weight;
            keep
        };
        let keep = self
            .candidates
            .iter()
            .map(before)
            .take_while(|keep| *keep)
            .count();
        self.candidates.truncate(keep.max(1));
    }

    /// Draws one of the candidates in proportion to its weight.
    fn draw(&mut self) -> u32 {
        let total: f64 = self.candidates.iter().map(|c| c.2).sum();
        let mut left = self.uniform() * total;
        for &(id, _, weight) in &self.candidates {
            if left < weight {
                return id;
            }
            left -= weight;
        }
        // Rounding can leave a sliver past the last candidate that has any weight.
        self.candidates
            .iter()
            .rev()
            .find(|c| c.2 > 0.0)
            .map_or(self.candidates[0].0, |c| c.0)
    }

    /// The next number in [0, 1): SplitMix64 (Steele, Lea & Flood, 2014), its upper 53 bits.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}
