//! One request that runs: what it feeds to the engine next, and what comes out of it.
//!
//! `tokens` are prompt and generated tokens; the session has a beginning of them. A pass feeds some
//! of those it lacks and, when it brings all of them, guesses of what follows. Then the walk goes
//! from the last token onwards as long as there is a row of logits for the place it has reached, so
//! each token is chosen as if there had been no guesses: by its own row, its own mask and its own
//! draw. Rows behind a wrong guess are never looked at, and the session forgets them.

use std::collections::VecDeque;

use super::queue::Waiting;
use super::{RequestId, Text};
use crate::Want;
use crate::constraint::Constraint;
use crate::engine::Engine;
use crate::error::Result;
use crate::request::{
    Event, Finish, Finished, Keep, Request, Scored, Source, Stop, TextStream, Token, Usage,
    check_ids,
};
use crate::sample::{Mask, Sampler, TokenLogprob, logprob, top_logprobs};
use crate::session::BatchItem;
use crate::session::{Logits, Session};

/// Tokens of a prompt whose scores are computed in one pass: each takes a row of logits.
const SCORED_ROWS: usize = 64;

/// A request that runs.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) id: RequestId,
    pub(super) request: Request,
    /// Pages that its session can grow to.
    pub(super) pages: usize,
    /// Tokens of the pass in progress that are known to follow the session's.
    pub(super) granted: usize,
    sampler: Sampler,
    session: Session,
    text: TextStream,
    /// Prompt and generated tokens.
    tokens: Vec<u32>,
    /// Length of `tokens` at which it ends at the latest.
    limit: usize,
    vocab_size: usize,
    /// Tokens that the constraint forces next.
    forced: VecDeque<u32>,
    /// The tokens of the pass in progress: the granted ones, then guesses.
    fed: Vec<u32>,
    /// How many of them are a drafter's guesses.
    n_drafted: usize,
    /// How many of the tokens before the end of the pass are known to be right.
    matched: usize,
    /// Scores of the prompt so far.
    prompt_scores: Vec<Scored>,
    usage: Usage,
}

impl Sequence {
    /// A sequence at its start.
    pub(super) fn new(engine: &Engine, waiting: Waiting) -> Self {
        let Waiting {
            id,
            mut request,
            sampler,
            pages,
        } = waiting;
        let tokens = request.prompt.clone();
        let session = request.session.take();
        let session = session.unwrap_or_else(|| Session::new(engine));
        let mut reused = match request.prompt_logprobs {
            Some(_) => 0,
            None => session.common_prefix(&tokens),
        };
        // Its last token has to be read for the logits that follow it.
        reused = reused.min(tokens.len() - 1);
        // Where local layers have forgotten what the prompt needs, it is read again from its start.
        if reused < session.exact_from() {
            reused = 0;
        }
        let session = session
            .truncate_fork(reused)
            .expect("a session can be cut to what it has in common with a prompt");
        if let Some(drafter) = &mut request.drafter {
            drafter.accept(&tokens);
        }
        Self {
            id,
            pages,
            granted: 0,
            sampler,
            session,
            text: TextStream::new(&request.stop_strings),
            limit: request.limit(engine),
            vocab_size: engine.config().vocab_size,
            forced: VecDeque::new(),
            fed: Vec::new(),
            n_drafted: 0,
            matched: reused,
            prompt_scores: Vec::new(),
            usage: Usage {
                prompt: tokens.len(),
                reused,
                ..Usage::default()
            },
            tokens,
            request,
        }
    }

    /// Tokens that the session lacks: at least one.
    pub(super) fn n_pending(&self) -> usize {
        self.tokens.len() - self.session.len()
    }

    /// Is part of its prompt still to be read?
    pub(super) fn is_reading(&self) -> bool {
        self.session.len() < self.usage.prompt
    }

    /// Tokens it could use in the next pass, guesses aside.
    pub(super) fn n_wanted(&self) -> usize {
        match self.request.prompt_logprobs {
            Some(_) if self.is_reading() => self.n_pending().min(SCORED_ROWS),
            _ => self.n_pending(),
        }
    }

    /// Guesses it could use in the next pass, at most `max_draft` of them a drafter's.
    pub(super) fn n_guesses_wanted(&self, max_draft: usize) -> usize {
        if self.granted < self.n_pending() || self.is_reading() {
            return 0;
        }
        let wanted = if !self.forced.is_empty() {
            self.forced.len()
        } else if self.request.drafter.is_some() {
            max_draft
        } else {
            0
        };
        // The last token of all is chosen by the row before it and never fed.
        wanted.min(self.limit.saturating_sub(self.tokens.len() + 1))
    }

    /// Lays out the next pass: the granted tokens and at most `max_guesses` guesses.
    pub(super) fn prepare(&mut self, max_guesses: usize) {
        let known = self.session.len()..self.session.len() + self.granted;
        self.matched = known.end;
        self.n_drafted = 0;
        self.fed.clear();
        self.fed.extend_from_slice(&self.tokens[known]);
        if max_guesses == 0 {
            return;
        }
        if self.forced.is_empty() {
            self.draft(max_guesses);
        } else {
            self.fed.extend(self.forced.iter().take(max_guesses));
        }
    }

    /// Appends the drafter's guesses to the pass, up to the first that cannot come.
    fn draft(&mut self, max: usize) {
        let Some(drafter) = &mut self.request.drafter else {
            return;
        };
        let mut guesses = Vec::new();
        drafter.draft(max, &mut guesses);
        guesses.truncate(max);
        let known = |id: &u32| (*id as usize) < self.vocab_size;
        let mut n = guesses.iter().take_while(|id| known(id)).count();
        if let Some(constraint) = &mut self.request.constraint {
            n = n_legal(constraint.as_mut(), &guesses[..n]);
        }
        self.fed.extend_from_slice(&guesses[..n]);
        self.n_drafted = n;
        self.usage.drafted += n;
    }

    /// The pass for the engine.
    pub(super) fn item(&mut self) -> BatchItem<'_> {
        BatchItem {
            want: self.want(),
            session: &mut self.session,
            ids: &self.fed,
        }
    }

    /// Which rows of logits the pass in progress needs.
    fn want(&self) -> Want {
        let has_guesses = self.fed.len() > self.granted;
        let is_scored = self.request.prompt_logprobs.is_some() && self.is_reading();
        if has_guesses || is_scored {
            Want::All
        } else if self.matched == self.tokens.len() && self.tokens.len() < self.limit {
            Want::Last
        } else {
            Want::None
        }
    }

    /// Goes on by what the pass has shown. `want` is that of [`Sequence::item`], whose rows
    /// `logits` are.
    pub(super) fn advance(
        &mut self,
        engine: &Engine,
        want: Want,
        logits: &Logits,
        text: Text<'_>,
        events: &mut Vec<(RequestId, Event)>,
    ) -> Option<Finish> {
        let end = self.session.len();
        let rows = Rows {
            first: match want {
                Want::All => end - self.fed.len(),
                Want::Last => end - 1,
                Want::None => end,
            },
            logits,
        };
        let finish = self.walk(&rows, text, events);
        let cut = self.session.rewind(engine, self.matched);
        finish
            .and_then(|finish| cut.map(|_| finish))
            .unwrap_or_else(|error| Some(Finish::Failed(error)))
    }

    /// Takes token after token, as far as the rows reach.
    fn walk(
        &mut self,
        rows: &Rows<'_>,
        text: Text<'_>,
        events: &mut Vec<(RequestId, Event)>,
    ) -> Result<Option<Finish>> {
        self.score_prompt(rows)?;
        if self.matched < self.tokens.len() {
            return Ok(None);
        }
        if self.tokens.len() == self.usage.prompt && self.request.prompt_logprobs.is_some() {
            let scores = std::mem::take(&mut self.prompt_scores);
            events.push((self.id, Event::Prompt(scores)));
        }
        if self.tokens.len() == self.usage.prompt {
            self.ask_for_forced()?;
        }
        loop {
            if let Some(finish) = self.end() {
                return Ok(Some(finish));
            }
            let is_right = self.matched == self.tokens.len();
            let row = rows.at(self.tokens.len() - 1).filter(|_| is_right);
            let Some(choice) = self.choose(row)? else {
                return Ok(None);
            };
            if let Some(stop) = self.accept(choice, text, events)? {
                return Ok(Some(Finish::Stop(stop)));
            }
        }
    }

    /// Scores the tokens of the prompt that the rows are about.
    fn score_prompt(&mut self, rows: &Rows<'_>) -> Result<()> {
        let Some(n_top) = self.request.prompt_logprobs else {
            return Ok(());
        };
        for position in self.prompt_scores.len()..self.usage.prompt - 1 {
            let Some(row) = rows.at(position) else {
                break;
            };
            let score = score(row, self.tokens[position + 1], n_top)?;
            self.prompt_scores.push(score);
        }
        Ok(())
    }

    /// Why it ends here, if it does.
    fn end(&self) -> Option<Finish> {
        let constraint = self.request.constraint.as_ref();
        if constraint.is_some_and(|constraint| constraint.is_complete()) {
            Some(Finish::Complete)
        } else if self.usage.generated == self.request.max_tokens {
            Some(Finish::Length)
        } else if self.tokens.len() >= self.limit {
            Some(Finish::ContextFull)
        } else {
            None
        }
    }

    /// The next token: a forced one, or a sampled one where there is a row of logits for it. A
    /// forced one that is to be scored waits for its row.
    fn choose(&mut self, row: Option<&[f32]>) -> Result<Option<Choice>> {
        let (id, source) = match (self.forced.front(), row) {
            (Some(&id), _) => (id, Source::Forced),
            (None, Some(row)) => (self.sample(row)?, Source::Sampled),
            (None, None) => return Ok(None),
        };
        let score = match (self.request.logprobs, row) {
            (None, _) => None,
            (Some(_), None) => return Ok(None),
            (Some(n_top), Some(row)) => Some(score(row, id, n_top)?),
        };
        Ok(Some(Choice { id, source, score }))
    }

    fn sample(&mut self, row: &[f32]) -> Result<u32> {
        // The draw belongs to the place, so it does not matter how many tokens before it were
        // forced.
        self.sampler.seek(self.usage.generated as u64);
        let constraint = self.request.constraint.as_mut();
        let mask = constraint.map_or(Mask::all(), |constraint| constraint.mask());
        self.sampler.pick(row, mask)
    }

    /// Makes a choice the next token; the stop that it completes, if any.
    fn accept(
        &mut self,
        choice: Choice,
        text: Text<'_>,
        events: &mut Vec<(RequestId, Event)>,
    ) -> Result<Option<Stop>> {
        let Choice { id, source, score } = choice;
        if let Some(constraint) = &mut self.request.constraint {
            constraint.accept(id)?;
        }
        if source == Source::Forced {
            self.forced.pop_front();
            self.usage.forced += 1;
        }
        self.match_guess(id);
        self.tokens.push(id);
        if let Some(drafter) = &mut self.request.drafter {
            drafter.accept(&[id]);
        }
        let (released, stop) = self.release(id, text);
        let index = self.usage.generated;
        self.usage.generated += 1;
        let token = Token {
            id,
            index,
            source,
            score,
            text: released,
        };
        events.push((self.id, Event::Token(token)));
        if stop.is_none() && self.forced.is_empty() {
            self.ask_for_forced()?;
        }
        Ok(stop)
    }

    /// Notes whether the next token is the one that was fed in its place.
    fn match_guess(&mut self, id: u32) {
        let first = self.session.len() - self.fed.len();
        let is_right = self.matched == self.tokens.len();
        if is_right && self.fed.get(self.matched - first) == Some(&id) {
            self.matched += 1;
            self.usage.accepted += usize::from(self.n_drafted > 0);
        }
    }

    /// The text that is certain since a token, and the stop that it completes.
    fn release(&mut self, id: u32, text: Text<'_>) -> (String, Option<Stop>) {
        if self.request.stop_ids.contains(&id) {
            return (String::new(), Some(Stop::Token(id)));
        }
        let Some(text) = text else {
            return (String::new(), None);
        };
        let mut bytes = Vec::new();
        text.append_bytes(id, &mut bytes);
        let released = self.text.push(&bytes);
        let stop = released.stop;
        let stop = stop.map(|index| Stop::Text(self.request.stop_strings[index].clone()));
        (released.text, stop)
    }

    fn ask_for_forced(&mut self) -> Result<()> {
        if let Some(constraint) = &mut self.request.constraint {
            let mut run = Vec::new();
            constraint.forced(&mut run);
            check_ids("constraint", &run, self.vocab_size)?;
            self.forced.extend(run);
        }
        Ok(())
    }

    /// What to report of it in the end.
    pub(super) fn finish(mut self, finish: Finish) -> Event {
        let is_whole = !matches!(
            finish,
            Finish::Cancelled | Finish::TooLate | Finish::Failed(_)
        );
        let keep = is_whole && self.request.keep == Keep::Session;
        Event::Finished(Finished {
            finish,
            text: self.text.finish(),
            usage: self.usage,
            session: keep.then(|| Box::new(self.session)),
        })
    }
}

/// A token that was decided on.
#[derive(Debug)]
struct Choice {
    id: u32,
    source: Source,
    score: Option<Scored>,
}

/// The rows of logits of a pass, by position.
#[derive(Debug)]
struct Rows<'a> {
    /// Position of the token after which the first row comes.
    first: usize,
    logits: &'a Logits,
}

impl<'a> Rows<'a> {
    /// The logits after the token at `position`.
    fn at(&self, position: usize) -> Option<&'a [f32]> {
        let index = position.checked_sub(self.first)?;
        (index < self.logits.n_rows()).then(|| self.logits.row(index))
    }
}

fn score(row: &[f32], id: u32, n_top: usize) -> Result<Scored> {
    let token = TokenLogprob {
        id,
        logprob: logprob(row, id)?,
    };
    let top = match n_top {
        0 => Vec::new(),
        _ => top_logprobs(row, n_top)?,
    };
    Ok(Scored { token, top })
}

/// How many of `guesses` the constraint would allow one after the other.
fn n_legal(constraint: &mut dyn Constraint, guesses: &[u32]) -> usize {
    let mut n = 0;
    for &id in guesses {
        if !constraint.mask().allows(id) || constraint.accept(id).is_err() {
            break;
        }
        n += 1;
    }
    constraint.rollback(n);
    n
}
