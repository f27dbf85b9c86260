//! Drafts without a second model: what followed the last time that the newest tokens stood in the
//! text.
//!
//! [`NgramIndex`] finds that place, [`PassCosts`] says what a pass over several tokens takes, and
//! [`NgramDrafter`] puts both together: it drafts as much as pays by the guesses that came true so
//! far, which may be nothing. It goes on comparing what it would have guessed, so that it begins again
//! when that pays.

use std::collections::HashMap;
use std::time::Instant;

use crate::constraint::Drafter;
use crate::error::{Error, Result};
use crate::{Engine, Session, Want};

/// Lengths of the runs that are looked up, longest first.
const LENGTHS: [usize; 7] = [16, 12, 8, 6, 4, 3, 2];

/// Where runs of tokens stood last.
#[derive(Clone, Debug, Default)]
pub struct NgramIndex {
    tokens: Vec<u32>,
    tables: [Table; LENGTHS.len()],
}

/// The places of runs of one length.
#[derive(Clone, Debug, Default)]
struct Table {
    /// The place behind a run's last occurrence, by its hash.
    latest: HashMap<u64, u32>,
    /// For each place from the length on, the one that it took the place of.
    before: Vec<Option<u32>>,
}

/// A run that stands at the end of the text and stood in it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Tokens of the run.
    pub length: usize,
    /// Index of the token that followed it.
    pub next: usize,
}

impl NgramIndex {
    /// Tokens of the text.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Is there no text?
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Goes on by a token.
    pub fn push(&mut self, id: u32) {
        let len = self.tokens.len();
        for (table, length) in self.tables.iter_mut().zip(LENGTHS) {
            if let Some(start) = len.checked_sub(length) {
                let hash = hash(&self.tokens[start..]);
                table.before.push(table.latest.insert(hash, len as u32));
            }
        }
        self.tokens.push(id);
    }

    /// Forgets the last token.
    pub fn pop(&mut self) {
        if self.tokens.pop().is_none() {
            return;
        }
        let len = self.tokens.len();
        for (table, length) in self.tables.iter_mut().zip(LENGTHS) {
            if let Some(start) = len.checked_sub(length) {
                let hash = hash(&self.tokens[start..]);
                match table.before.pop().flatten() {
                    Some(place) => table.latest.insert(hash, place),
                    None => table.latest.remove(&hash),
                };
            }
        }
    }

    /// The longest run at the end of the text that stood in it before, where it stood last.
    pub fn find(&self) -> Option<Found> {
        self.tables.iter().zip(LENGTHS).find_map(|(table, length)| {
            let run = &self.tokens[self.tokens.len().checked_sub(length)?..];
            let next = *table.latest.get(&hash(run))? as usize;
            // Different runs may have equal hashes.
            (self.tokens[next - length..next] == *run).then_some(Found { length, next })
        })
    }

    /// Appends `count` tokens that followed. Where the text ends before that, it is taken to go on as
    /// it did: what repeats itself does so for longer than once.
    pub fn follow(&self, found: Found, count: usize, out: &mut Vec<u32>) {
        let start = out.len();
        for index in 0..count {
            let id = match self.tokens.get(found.next + index) {
                Some(&id) => id,
                None => out[start + found.next + index - self.tokens.len()],
            };
            out.push(id);
        }
    }
}

/// FNV-1a over ids.
fn hash(ids: &[u32]) -> u64 {
    ids.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &id| {
        (hash ^ u64::from(id)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What a pass takes, by the number of its tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct PassCosts {
    /// Rising numbers of tokens with seconds (or any other unit).
    points: Vec<(usize, f64)>,
}

impl PassCosts {
    /// Measured costs: numbers of tokens, rising from 1, each with its cost in any one unit. Between
    /// two of them costs lie on a line, and on the last such line beyond.
    ///
    /// # Errors
    /// [`Error::Option`] where they are none such.
    pub fn new(points: &[(usize, f64)]) -> Result<Self> {
        let rises = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let begins = points.first().is_some_and(|&(tokens, _)| tokens == 1);
        let are_costs = points
            .iter()
            .all(|&(_, cost)| cost.is_finite() && cost > 0.0);
        if !(rises && begins && are_costs) {
            return Err(Error::Option {
                option: "pass costs",
                problem: "must be positive, for numbers of tokens that rise from 1".to_owned(),
            });
        }
        Ok(Self {
            points: points.to_vec(),
        })
    }

    /// Measures passes of 1 to 32 tokens behind a context of this many. It takes about as long as
    /// decoding 100 tokens.
    ///
    /// # Errors
    /// [`Error::ContextFull`] for a context that leaves no room.
    pub fn measure(engine: &Engine, context: usize) -> Result<Self> {
        let vocab_size = engine.config().vocab_size;
        let ids: Vec<u32> = (0..context + 32).map(|i| (i % vocab_size) as u32).collect();
        let mut session = Session::new(engine);
        session.extend(engine, &ids[..context], Want::None)?;
        let mut points = Vec::new();
        for tokens in [1, 2, 4, 8, 16, 32] {
            let mut least = f64::INFINITY;
            for _ in 0..3 {
                let start = Instant::now();
                session.extend(engine, &ids[context..context + tokens], Want::All)?;
                least = least.min(start.elapsed().as_secs_f64());
                session.rollback(context)?;
            }
            points.push((tokens, least.max(f64::MIN_POSITIVE)));
        }
        Self::new(&points)
    }

    /// The cost of a pass of `tokens` tokens, at least one.
    pub fn of(&self, tokens: usize) -> f64 {
        let upper = self.points.partition_point(|&(n, _)| n < tokens);
        let upper = upper.clamp(1, self.points.len().max(2) - 1);
        let (n0, cost0) = self.points[upper - 1];
        let Some(&(n1, cost1)) = self.points.get(upper) else {
            return cost0;
        };
        let part = (tokens as f64 - n0 as f64) / (n1 - n0) as f64;
        cost0 + part * (cost1 - cost0)
    }

    /// How many tokens to draft, at most `max`, where each comes true with this probability if those
    /// before it did: what gives most tokens for the cost.
    pub fn best_draft(&self, acceptance: f64, max: usize) -> usize {
        let mut best = (0, 1.0 / self.of(1));
        let (mut expected, mut likely) = (1.0, 1.0);
        for count in 1..=max {
            likely *= acceptance;
            expected += likely;
            let speed = expected / self.of(1 + count);
            if speed > best.1 {
                best = (count, speed);
            }
        }
        best.0
    }
}

/// How often guesses came true: those that did and all, newer ones counting more.
#[derive(Clone, Copy, Debug)]
struct Rate {
    hits: f64,
    trials: f64,
}

/// What an old guess still counts when a new one is known.
const DECAY: f64 = 0.9;

impl Default for Rate {
    /// Before anything is known: half of the guesses come true, held loosely.
    fn default() -> Self {
        Self {
            hits: 1.0,
            trials: 2.0,
        }
    }
}

/// The last guess, compared with what comes, and how such guesses went before, by classes of equally
/// good evidence.
#[derive(Clone, Debug)]
pub(crate) struct Record<const CLASSES: usize> {
    rates: [Rate; CLASSES],
    guess: Option<Guess>,
}

#[derive(Clone, Debug)]
struct Guess {
    class: usize,
    ids: Vec<u32>,
    hits: usize,
}

impl<const CLASSES: usize> Default for Record<CLASSES> {
    fn default() -> Self {
        Self {
            rates: [Rate::default(); CLASSES],
            guess: None,
        }
    }
}

impl<const CLASSES: usize> Record<CLASSES> {
    /// How often a guess of this class comes true if those before it did.
    pub(crate) fn rate(&self, class: usize) -> f64 {
        let Rate { hits, trials } = self.rates[class];
        hits / trials
    }

    /// A guess of what comes next.
    pub(crate) fn guess(&mut self, class: usize, ids: Vec<u32>) {
        self.settle(false);
        let hits = 0;
        self.guess = Some(Guess { class, ids, hits });
    }

    /// What really came.
    pub(crate) fn compare(&mut self, id: u32) {
        let Some(guess) = &mut self.guess else { return };
        let is_right = guess.ids.get(guess.hits) == Some(&id);
        guess.hits += usize::from(is_right);
        if !is_right || guess.hits == guess.ids.len() {
            self.settle(!is_right);
        }
    }

    /// Nothing that the guess was about will come.
    pub(crate) fn forget(&mut self) {
        self.guess = None;
    }

    fn settle(&mut self, missed: bool) {
        if let Some(Guess { class, hits, .. }) = self.guess.take() {
            let rate = &mut self.rates[class];
            rate.hits = DECAY * rate.hits + hits as f64;
            rate.trials = DECAY * rate.trials + (hits + usize::from(missed)) as f64;
        }
    }
}

/// A [`Drafter`] for one session, by an [`NgramIndex`] over its prompt and what was generated.
#[derive(Clone, Debug)]
pub struct NgramDrafter {
    index: NgramIndex,
    costs: PassCosts,
    /// By how long the run was that was found: longer ones are better evidence.
    record: Record<3>,
}

/// Which rate the guesses from a run of this length belong to.
pub(crate) fn class(length: usize) -> usize {
    match length {
        ..4 => 0,
        4..8 => 1,
        _ => 2,
    }
}

impl NgramDrafter {
    /// A drafter for an engine whose passes cost so much.
    pub fn new(costs: PassCosts) -> Self {
        Self {
            index: NgramIndex::default(),
            costs,
            record: Record::default(),
        }
    }

    /// The tokens seen.
    pub fn index(&self) -> &NgramIndex {
        &self.index
    }
}

impl Drafter for NgramDrafter {
    fn draft(&mut self, max: usize, out: &mut Vec<u32>) {
        let Some(found) = self.index.find() else {
            return self.record.forget();
        };
        let class = class(found.length);
        let count = self.costs.best_draft(self.record.rate(class), max);
        // One token is guessed in any case, to learn whether it would have been right.
        let mut ids = Vec::with_capacity(count.max(1));
        self.index.follow(found, count.max(1), &mut ids);
        out.extend_from_slice(&ids[..count]);
        self.record.guess(class, ids);
    }

    fn accept(&mut self, ids: &[u32]) {
        for &id in ids {
            self.record.compare(id);
            self.index.push(id);
        }
    }

    fn rollback(&mut self, n: usize) {
        self.record.forget();
        for _ in 0..n.min(self.index.len()) {
            self.index.pop();
        }
    }
}
