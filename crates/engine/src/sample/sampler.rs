//! Seeded sampling from a distribution that was bent and cut.
//!
//! The order of operations is fixed:
//!
//! 1. **bias**: numbers are added to the logits of single tokens;
//! 2. **mask**: what is not allowed is left out;
//! 3. **temperature** divides what is left;
//! 4. **top-k** keeps the k likeliest;
//! 5. **top-p** keeps the fewest likeliest of these that hold the share p of *their* probability;
//! 6. **min-p** keeps of these the ones at least p times as likely as the likeliest.
//!
//! Then one number in [0, 1) chooses among the rest, taken by falling probability where top-k or
//! top-p cut, and by rising id otherwise. The number is a function of the seed and of how many
//! were drawn before, which [`Sampler::seek`] sets: so the choice at a place of a text does not
//! depend on how the places before it were filled.

use super::choice::{best, check_logits, choice};
use super::{Choice, Mask};
use crate::error::{Error, Result};

/// How a [`Sampler`] bends and cuts the distribution before it draws. The order is bias, mask,
/// temperature, top-k, top-p, min-p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerOptions {
    /// Divides the logits; 0 means greedy. Finite, at least 0.
    pub temperature: f32,
    /// Keep only this many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of likeliest tokens whose probabilities sum to at least this; in (0,
    /// 1].
    pub top_p: f32,
    /// Keep only tokens at least this many times as likely as the likeliest; in [0, 1].
    pub min_p: f32,
    /// Start of the random sequence: equal seeds and logits give equal tokens.
    pub seed: u64,
}

impl SamplerOptions {
    /// The model's own distribution: temperature 1, nothing cut, seed 0.
    pub const PLAIN: Self = Self {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed: 0,
    };

    /// The likeliest token, always.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        ..Self::PLAIN
    };

    /// Refuses what is out of range.
    fn check(&self) -> Result<()> {
        let ranges = [
            (
                "temperature",
                self.temperature,
                self.temperature.is_finite() && self.temperature >= 0.0,
                "finite and at least 0",
            ),
            (
                "top_p",
                self.top_p,
                self.top_p > 0.0 && self.top_p <= 1.0,
                "above 0 and at most 1",
            ),
            (
                "min_p",
                self.min_p,
                (0.0..=1.0).contains(&self.min_p),
                "at least 0 and at most 1",
            ),
        ];
        for (parameter, value, is_good, range) in ranges {
            if !is_good {
                return Err(Error::SamplerParameter {
                    parameter,
                    value,
                    range,
                });
            }
        }
        Ok(())
    }
}

/// A token that may be drawn.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    /// Its logit, biased and divided by the temperature.
    logit: f64,
    /// Its probability relative to that of the likeliest candidate.
    weight: f64,
}

/// A seeded sampler. It owns its random state, so one sampler belongs to one generation; `Clone`
/// repeats its future.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    /// What is added to single logits, by rising id.
    bias: Vec<(u32, f32)>,
    state: u64,
    /// Candidates of the draw in progress, kept to reuse the storage.
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    ///
    /// # Errors
    /// [`Error::SamplerParameter`] when an option is outside the range its field names.
    pub fn new(options: SamplerOptions) -> Result<Self> {
        options.check()?;
        Ok(Self {
            options,
            bias: Vec::new(),
            state: options.seed,
            candidates: Vec::new(),
        })
    }

    /// Adds `bias` to the logits of single tokens of a vocabulary before anything else is done
    /// to them. The probabilities that are reported stay those of the model.
    ///
    /// # Errors
    /// [`Error::Request`] for an id that is outside the vocabulary or named twice,
    /// [`Error::SamplerParameter`] for a number that is not finite.
    pub fn with_bias(mut self, bias: &[(u32, f32)], vocab_size: usize) -> Result<Self> {
        for &(id, value) in bias {
            if id as usize >= vocab_size {
                let problem = format!("names token {id}; ids are below {vocab_size}");
                return Err(Error::Request {
                    field: "logit_bias",
                    problem,
                });
            }
            if !value.is_finite() {
                return Err(Error::SamplerParameter {
                    parameter: "logit_bias",
                    value,
                    range: "finite; a token that must not come is for a mask",
                });
            }
        }
        self.bias = bias.to_vec();
        self.bias.sort_unstable_by_key(|&(id, _)| id);
        if let Some(pair) = self.bias.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::Request {
                field: "logit_bias",
                problem: format!("names token {} twice; add the two numbers up", pair[0].0),
            });
        }
        Ok(self)
    }

    /// Sets how many numbers have been drawn: the next choice is the one that follows `n` others.
    pub fn seek(&mut self, n: u64) {
        self.state = self.options.seed.wrapping_add(GAMMA.wrapping_mul(n));
    }

    /// Draws an allowed token. The reported probabilities are the model's own (no bias, temperature
    /// 1, nothing cut).
    ///
    /// # Errors
    /// As [`greedy`](crate::greedy).
    pub fn sample(&mut self, logits: &[f32], mask: Mask<'_>) -> Result<Choice> {
        let id = self.pick(logits, mask)?;
        Ok(choice(logits, mask, id))
    }

    /// As [`Sampler::sample`], without the probabilities and what they cost.
    ///
    /// # Errors
    /// As [`greedy`](crate::greedy).
    pub fn pick(&mut self, logits: &[f32], mask: Mask<'_>) -> Result<u32> {
        let is_greedy = self.options.temperature == 0.0;
        if is_greedy && self.bias.is_empty() {
            return best(logits, mask);
        }
        check_logits(logits)?;
        self.collect_candidates(logits, mask);
        if self.candidates.is_empty() {
            return Err(Error::NothingAllowed {
                vocab_size: logits.len(),
            });
        }
        if is_greedy {
            return Ok(self.first_best());
        }
        self.weigh_candidates();
        self.cut_candidates();
        Ok(self.draw())
    }

    /// Fills `candidates` with the allowed ids of non-zero probability and their biased logits.
    fn collect_candidates(&mut self, logits: &[f32], mask: Mask<'_>) {
        self.candidates.clear();
        let mut bias = self.bias.iter().copied().peekable();
        for id in mask.iter(logits.len()) {
            while bias.next_if(|&(other, _)| other < id).is_some() {}
            let logit = logits[id as usize];
            if logit > f32::NEG_INFINITY {
                let added = bias.next_if(|&(other, _)| other == id);
                self.candidates.push(Candidate {
                    id,
                    logit: f64::from(logit) + added.map_or(0.0, |(_, value)| f64::from(value)),
                    weight: 0.0,
                });
            }
        }
    }

    /// The likeliest candidate, of equal ones the first.
    fn first_best(&self) -> u32 {
        let better = |best: Candidate, next: &Candidate| {
            if next.logit > best.logit { *next } else { best }
        };
        self.candidates
            .iter()
            .skip(1)
            .fold(self.candidates[0], better)
            .id
    }

    /// Applies the temperature and sets the weights.
    fn weigh_candidates(&mut self) {
        let temperature = f64::from(self.options.temperature);
        let mut top = f64::NEG_INFINITY;
        for candidate in &mut self.candidates {
            candidate.logit /= temperature;
            top = top.max(candidate.logit);
        }
        for candidate in &mut self.candidates {
            candidate.weight = (candidate.logit - top).exp();
        }
    }

    /// Applies top-k, top-p and min-p. At least one candidate survives.
    fn cut_candidates(&mut self) {
        let SamplerOptions {
            top_k,
            top_p,
            min_p,
            ..
        } = self.options;
        let by_rank =
            |a: &Candidate, b: &Candidate| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id));
        if (1..self.candidates.len()).contains(&top_k) {
            // Moves the best to the front without sorting the rest of a large vocabulary.
            self.candidates.select_nth_unstable_by(top_k - 1, by_rank);
            self.candidates.truncate(top_k);
        }
        if top_k > 0 || top_p < 1.0 {
            self.candidates.sort_unstable_by(by_rank);
            self.cut_tail(f64::from(top_p));
        }
        if min_p > 0.0 {
            // The likeliest has weight 1 and stays.
            self.candidates.retain(|c| c.weight >= f64::from(min_p));
        }
    }

    /// Keeps the fewest of the sorted candidates that hold `share` of the probability.
    fn cut_tail(&mut self, share: f64) {
        let total: f64 = self.candidates.iter().map(|c| c.weight).sum();
        let enough = share * total;
        let mut sum = 0.0;
        let before = |candidate: &Candidate| {
            let keep = sum < enough;
            sum += candidate.weight;
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
        let total: f64 = self.candidates.iter().map(|c| c.weight).sum();
        let mut left = self.uniform() * total;
        for candidate in &self.candidates {
            if left < candidate.weight {
                return candidate.id;
            }
            left -= candidate.weight;
        }
        // Rounding can leave a sliver past the last candidate that has any weight.
        self.candidates
            .iter()
            .rev()
            .find(|c| c.weight > 0.0)
            .map_or(self.candidates[0].id, |c| c.id)
    }

    /// The next number in [0, 1): SplitMix64 (Steele, Lea & Flood, 2014), its upper 53 bits.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(GAMMA);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// By how much SplitMix64's state grows with each number.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
