//! Engines, texts, constraints, drafters and random requests for the tests of the scheduler.

use std::sync::{Arc, LazyLock};

use cwm_engine::{
    Constraint, Drafter, Engine, Error, Mask, Options, Request, Result, SamplerOptions, TokenSet,
    TokenText,
};

use crate::common::{N_CONFIGS, Random, model};

/// Ids of the test models.
pub(crate) const VOCAB: usize = 67;

/// Positions of the test engines.
pub(crate) const POSITIONS: usize = 150;

/// One engine for each shape.
pub(crate) fn engine(kind: usize) -> Arc<Engine> {
    static ENGINES: LazyLock<Vec<Arc<Engine>>> = LazyLock::new(|| {
        let options = Options {
            max_positions: Some(POSITIONS),
            ..Options::default()
        };
        let make = |kind| Engine::new(model(kind, 7), options.clone()).expect("they fit");
        (0..N_CONFIGS).map(|kind| Arc::new(make(kind))).collect()
    });
    Arc::clone(&ENGINES[kind])
}

/// Few letters, so that stop strings come up; some tokens of two, one without text, and a character
/// in two halves.
#[derive(Debug)]
pub(crate) struct Letters;

impl TokenText for Letters {
    fn append_bytes(&self, id: u32, out: &mut Vec<u8>) {
        match id {
            0 => {}
            1..8 => out.push(0xc3),
            8..16 => out.push(0xa9),
            16..32 => out.extend([b'a' + (id % 4) as u8, b'a' + (id % 3) as u8]),
            _ => out.push(b'a' + (id % 5) as u8),
        }
    }
}

/// A made-up grammar: which tokens may follow depends on the last one, and some are forced.
#[derive(Debug)]
pub(crate) struct Rule {
    seen: Vec<u32>,
    allowed: TokenSet,
    complete_at: usize,
    stuck_at: usize,
}

impl Rule {
    pub(crate) fn new(complete_at: usize, stuck_at: usize) -> Self {
        Self {
            seen: Vec::new(),
            allowed: TokenSet::new(VOCAB),
            complete_at,
            stuck_at,
        }
    }

    /// The token that has to follow `last`: runs of up to three.
    fn forced_after(last: u32) -> Option<u32> {
        (last % 9 < 3).then_some((last + 1) % VOCAB as u32)
    }

    fn allows(&self, id: u32) -> bool {
        let last = self.seen.last().copied().unwrap_or(5);
        if self.seen.len() >= self.stuck_at {
            return false;
        }
        match Self::forced_after(last) {
            Some(forced) => id == forced,
            None => !(id * 7 + last).is_multiple_of(3),
        }
    }
}

impl Constraint for Rule {
    fn mask(&mut self) -> Mask<'_> {
        self.allowed.clear();
        for id in 0..VOCAB as u32 {
            if self.allows(id) {
                self.allowed.insert(id);
            }
        }
        self.allowed.mask()
    }

    fn forced(&mut self, out: &mut Vec<u32>) {
        let mut last = self.seen.last().copied().unwrap_or(5);
        let room = self.stuck_at.saturating_sub(self.seen.len());
        for _ in 0..room {
            let Some(id) = Self::forced_after(last) else {
                break;
            };
            out.push(id);
            last = id;
        }
    }

    fn accept(&mut self, id: u32) -> Result<()> {
        if !self.allows(id) {
            return Err(Error::NothingAllowed { vocab_size: VOCAB });
        }
        self.seen.push(id);
        Ok(())
    }

    fn rollback(&mut self, n: usize) {
        self.seen.truncate(self.seen.len().saturating_sub(n));
    }

    fn is_complete(&self) -> bool {
        self.seen.len() >= self.complete_at
    }
}

/// Knows what will come, and lies now and then, or has lost its place.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) truth: Vec<u32>,
    pub(crate) seen: usize,
    /// How many tokens it leaves out before its first guess.
    pub(crate) skip: usize,
    /// Of a hundred guesses, how many are wrong.
    pub(crate) lies: usize,
    pub(crate) random: Random,
}

impl Drafter for Oracle {
    fn draft(&mut self, max: usize, out: &mut Vec<u32>) {
        let truth = self.truth.get(self.seen + self.skip..).unwrap_or_default();
        for &id in truth.iter().chain(&[3, 99, 4]).take(max) {
            let lies = self.random.below(100) < self.lies;
            // Some lies are no tokens at all.
            out.push(if lies {
                self.random.below(80) as u32
            } else {
                id
            });
        }
    }

    fn accept(&mut self, ids: &[u32]) {
        let end = self.seen + ids.len();
        if let Some(truth) = self.truth.get(self.seen..end) {
            assert_eq!(truth, ids, "it is told of every token in order");
        }
        self.seen = end;
    }

    fn rollback(&mut self, n: usize) {
        self.seen -= n;
    }
}

/// A random request, which can be made as often as it is needed.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    seed: u64,
}

impl Spec {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The request without a drafter.
    pub(crate) fn request(&self) -> Request {
        let mut random = Random(self.seed);
        let n = [1, 2, 20, 63, 64, 65, 110, 140][random.below(8)];
        let prompt = random.ids(n, VOCAB);
        let mut request = Request::new(prompt, random.below(30));
        if random.below(3) > 0 {
            request.sampling = SamplerOptions {
                temperature: 0.3 + random.below(20) as f32 / 10.0,
                top_k: [0, 0, 5, 40][random.below(4)],
                top_p: [1.0, 0.9][random.below(2)],
                min_p: [0.0, 0.05][random.below(2)],
                seed: random.next(),
            };
        }
        if random.below(3) == 0 {
            request.logit_bias = vec![(random.below(VOCAB) as u32, 2.5), (70 % 67, -1.0)];
            request.logit_bias.dedup_by_key(|pair| pair.0);
        }
        if random.below(4) == 0 {
            request.stop_ids = random.ids(2, VOCAB);
        }
        if random.below(3) == 0 {
            let stops = ["ab", "é", "bca", "aa", "dcb"];
            let n = 1 + random.below(2);
            request.stop_strings = (0..n).map(|_| stops[random.below(5)].to_owned()).collect();
        }
        if random.below(3) == 0 {
            request.logprobs = Some(random.below(4));
        }
        if random.below(4) == 0 {
            request.prompt_logprobs = Some(random.below(3));
        }
        if random.below(3) == 0 {
            let stuck_at = if random.below(4) == 0 {
                random.below(20)
            } else {
                1000
            };
            request.constraint = Some(Box::new(Rule::new(1 + random.below(40), stuck_at)));
        }
        request.client = random.below(3) as u64;
        request.priority = random.below(3) as i32;
        request
    }

    /// The request with a drafter that knows the truth more or less.
    pub(crate) fn drafted(&self, output: &[u32], random: &mut Random) -> Request {
        let mut request = self.request();
        let truth = [&request.prompt, output].concat();
        request.drafter = Some(Box::new(Oracle {
            truth,
            seen: 0,
            skip: usize::from(random.below(4) == 0),
            lies: [0, 10, 60, 100][random.below(4)],
            random: random.clone(),
        }));
        request
    }
}
