//! One loop for all ways to generate: forced tokens without the model, drafts verified in the pass
//! that is made anyway.
//!
//! Which tokens come out follows from the model, the [`Constraint`] and the [`Sampler`] alone. Each
//! position is chosen from its own logits by the sampler in turn, whether the token there was
//! guessed before or not, so that a [`Drafter`] decides how many passes it takes and nothing else.

use crate::constraint::{Constraint, Drafter};
use crate::error::{Error, Result};
use crate::{Choice, Engine, Logits, Mask, Sampler, Session, TokenSet, Want};

/// Where a generation ends at the latest, and how far ahead it may look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits<'a> {
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// Tokens that end it, themselves part of it.
    pub stop: &'a [u32],
    /// Tokens to verify in a pass, at most, besides those that are known.
    pub max_draft: usize,
}

impl Default for Limits<'_> {
    /// 256 tokens, drafts of at most 32, no stop token.
    fn default() -> Self {
        Self {
            max_tokens: 256,
            stop: &[],
            max_draft: 32,
        }
    }
}

/// What a generation asks beside the model.
#[derive(Default)]
pub struct Guides<'a> {
    /// Which tokens are legal; all, where there is none.
    pub constraint: Option<&'a mut dyn Constraint>,
    /// Guesses. It is told of the prompt and of what is generated.
    pub drafter: Option<&'a mut dyn Drafter>,
}

impl std::fmt::Debug for Guides<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guides")
            .field("constraint", &self.constraint.is_some())
            .field("drafter", &self.drafter.is_some())
            .finish()
    }
}

/// A generated token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeneratedToken {
    /// Its id.
    pub id: u32,
    /// How it was chosen; `None` where the constraint left no choice and the model was not asked.
    pub choice: Option<Choice>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenerationEnd {
    /// The constraint is complete.
    Complete,
    /// A stop token came.
    Stop,
    /// As many tokens as were asked for.
    MaxTokens,
    /// The session has no room for the tokens that the next one would follow.
    ContextFull,
}

/// What was generated.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The tokens, in order.
    pub tokens: Vec<GeneratedToken>,
    /// Why there are no more.
    pub end: GenerationEnd,
    /// How many of the tokens are in the session, which holds the prompt and these. To go on, extend it
    /// by the others. Depends on the drafter.
    pub fed: usize,
    /// What it took.
    pub usage: PassUsage,
}

/// What a generation took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassUsage {
    /// Calls of [`Session::extend`], the prompt's among them.
    pub passes: usize,
    /// Tokens that the constraint forced.
    pub forced: usize,
    /// Tokens verified, forced ones among them.
    pub drafted: usize,
    /// Those of them that came true.
    pub accepted: usize,
}

/// Appends `prompt` to the session and generates what follows. An empty prompt goes on from what the
/// session holds.
///
/// # Errors
/// [`Error::EmptyPrompt`] where nothing is there to follow; [`Error::NothingAllowed`] at a dead end of
/// the constraint; what [`Session::extend`] and [`Sampler::sample`] refuse. The session then holds some
/// of the tokens.
pub fn generate(
    engine: &Engine,
    session: &mut Session,
    prompt: &[u32],
    guides: Guides<'_>,
    sampler: &mut Sampler,
    limits: &Limits<'_>,
) -> Result<Generated> {
    let mut pending = prompt.to_vec();
    if let (true, Some(last)) = (prompt.is_empty(), session.len().checked_sub(1)) {
        pending.extend(session.token(last));
        session.rollback(last)?;
    }
    if pending.is_empty() {
        return Err(Error::EmptyPrompt);
    }
    let mut run = Run {
        engine,
        session,
        guides,
        sampler,
        limits,
        pending,
        tokens: Vec::new(),
        usage: PassUsage::default(),
        buffer: Vec::new(),
        legal: TokenSet::default(),
    };
    if let Some(drafter) = &mut run.guides.drafter {
        drafter.accept(prompt);
    }
    let end = run.finish()?;
    let unfed = run.pending.len().min(run.tokens.len());
    Ok(Generated {
        fed: run.tokens.len() - unfed,
        end,
        tokens: run.tokens,
        usage: run.usage,
    })
}

struct Run<'a, 'g> {
    engine: &'a Engine,
    session: &'a mut Session,
    guides: Guides<'g>,
    sampler: &'a mut Sampler,
    limits: &'a Limits<'a>,
    /// Tokens that the session has not been extended by: of the prompt, then generated ones.
    pending: Vec<u32>,
    tokens: Vec<GeneratedToken>,
    usage: PassUsage,
    buffer: Vec<u32>,
    /// What is legal at some place of the pass that is about to be made.
    legal: TokenSet,
}

impl Run<'_, '_> {
    fn finish(&mut self) -> Result<GenerationEnd> {
        let mut end = self.begin()?;
        while end.is_none() {
            if self.pending.len() > self.room() {
                return Ok(GenerationEnd::ContextFull);
            }
            let ahead = self.look_ahead()?;
            let rows = self.pass(&ahead)?;
            end = self.verify(&ahead, &rows)?;
        }
        Ok(end.unwrap_or(GenerationEnd::MaxTokens))
    }

    /// What is over or forced before the model is asked at all.
    fn begin(&mut self) -> Result<Option<GenerationEnd>> {
        if self.limits.max_tokens == 0 {
            return Ok(Some(GenerationEnd::MaxTokens));
        }
        if self.is_complete() {
            return Ok(Some(GenerationEnd::Complete));
        }
        let first = self.tokens.len();
        let end = self.take_forced()?;
        self.pending
            .extend(self.tokens[first..].iter().map(|token| token.id));
        self.tell_drafter(first);
        Ok(end)
    }

    fn room(&self) -> usize {
        self.engine.max_positions() - self.session.len()
    }

    fn is_complete(&self) -> bool {
        let constraint = self.guides.constraint.as_ref();
        constraint.is_some_and(|constraint| constraint.is_complete())
    }

    /// Guesses what comes behind the pending tokens: what the drafter says as long as it is legal, and
    /// what is forced then.
    fn look_ahead(&mut self) -> Result<Vec<u32>> {
        let vocab_size = self.engine.config().vocab_size;
        self.legal.clear();
        if let Some(constraint) = &mut self.guides.constraint {
            self.legal.insert_all(constraint.mask(), vocab_size);
        }
        let Some(drafter) = &mut self.guides.drafter else {
            return Ok(Vec::new());
        };
        let left = self.limits.max_tokens - self.tokens.len();
        let room = self.engine.max_positions() - self.session.len() - self.pending.len();
        // The last token has no need to be verified in a pass: it follows from the one before.
        let max = self.limits.max_draft.min(left - 1).min(room);
        let mut draft = Vec::new();
        drafter.draft(max, &mut draft);
        let known = draft.iter().position(|&id| id as usize >= vocab_size);
        draft.truncate(known.unwrap_or(draft.len()).min(max));
        let Some(constraint) = &mut self.guides.constraint else {
            return Ok(draft);
        };
        let legal = (&mut self.legal, vocab_size);
        let ahead = legal_part(*constraint, &draft, max, &mut self.buffer, legal)?;
        constraint.rollback(ahead.len());
        Ok(ahead)
    }

    /// Extends the session by what is pending and ahead.
    fn pass(&mut self, ahead: &[u32]) -> Result<Rows> {
        let pending = std::mem::take(&mut self.pending);
        let constrained = self.guides.constraint.is_some();
        let legal = constrained.then(|| self.legal.mask());
        let rows = extend_ahead(self.engine, self.session, &pending, ahead, legal)?;
        self.usage.passes += rows.passes;
        self.usage.drafted += ahead.len();
        Ok(rows)
    }

    /// Chooses tokens by the logits as far as they reach: to the first that was not guessed.
    fn verify(&mut self, ahead: &[u32], rows: &Rows) -> Result<Option<GenerationEnd>> {
        let before = self.session.len() - ahead.len();
        let first = self.tokens.len();
        let mut right = 0;
        let mut end = None;
        while end.is_none() && self.pending.is_empty() {
            let new = self.tokens.len();
            end = self.choose(rows.row(right))?;
            for token in &self.tokens[new..] {
                if self.pending.is_empty() && ahead.get(right) == Some(&token.id) {
                    right += 1;
                } else {
                    self.pending.push(token.id);
                }
            }
        }
        self.session.rollback(before + right)?;
        self.usage.accepted += right;
        self.tell_drafter(first);
        Ok(end)
    }

    /// Chooses one token, and takes those that are forced behind it.
    fn choose(&mut self, logits: &[f32]) -> Result<Option<GenerationEnd>> {
        let mask = match &mut self.guides.constraint {
            Some(constraint) => constraint.mask(),
            None => Mask::all(),
        };
        let choice = self.sampler.sample(logits, mask)?;
        match self.take(choice.id, Some(choice))? {
            Some(end) => Ok(Some(end)),
            None => self.take_forced(),
        }
    }

    fn take_forced(&mut self) -> Result<Option<GenerationEnd>> {
        loop {
            let mut forced = std::mem::take(&mut self.buffer);
            forced.clear();
            if let Some(constraint) = &mut self.guides.constraint {
                constraint.forced(&mut forced);
            }
            for &id in &forced {
                self.usage.forced += 1;
                if let Some(end) = self.take(id, None)? {
                    return Ok(Some(end));
                }
            }
            let is_over = forced.is_empty();
            self.buffer = forced;
            if is_over {
                return Ok(None);
            }
        }
    }

    /// One more token; whether it is the last.
    fn take(&mut self, id: u32, choice: Option<Choice>) -> Result<Option<GenerationEnd>> {
        if let Some(constraint) = &mut self.guides.constraint {
            constraint.accept(id)?;
        }
        self.tokens.push(GeneratedToken { id, choice });
        Ok(if self.is_complete() {
            Some(GenerationEnd::Complete)
        } else if self.limits.stop.contains(&id) {
            Some(GenerationEnd::Stop)
        } else if self.tokens.len() >= self.limits.max_tokens {
            Some(GenerationEnd::MaxTokens)
        } else {
            None
        })
    }

    fn tell_drafter(&mut self, first: usize) {
        if let Some(drafter) = &mut self.guides.drafter {
            let new: Vec<u32> = self.tokens[first..].iter().map(|token| token.id).collect();
            drafter.accept(&new);
        }
    }
}

/// Logits behind the last known token and behind each one ahead.
pub(crate) struct Rows {
    logits: Logits,
    /// Rows before these.
    first: usize,
    /// Calls of [`Session::extend`] that it took.
    passes: usize,
}

impl Rows {
    /// The logits behind `index` tokens ahead.
    pub(crate) fn row(&self, index: usize) -> &[f32] {
        self.logits.row(self.first + index)
    }
}

/// From so many known tokens on, a pass of their own costs less than rows of logits that nobody reads.
const OWN_PASS: usize = 48;

/// Extends the session by tokens that are known, at least one, and by guesses. Only logits of `legal`
/// tokens will be read.
pub(crate) fn extend_ahead(
    engine: &Engine,
    session: &mut Session,
    known: &[u32],
    ahead: &[u32],
    legal: Option<Mask<'_>>,
) -> Result<Rows> {
    if ahead.is_empty() {
        let logits = session.extend_among(engine, known, Want::Last, legal)?;
        return Ok(Rows {
            logits,
            first: 0,
            passes: 1,
        });
    }
    let mut rest = known;
    if let (OWN_PASS.., Some((last, before))) = (known.len(), known.split_last()) {
        session.extend(engine, before, Want::None)?;
        rest = std::slice::from_ref(last);
    }
    let logits = session.extend_among(engine, &[rest, ahead].concat(), Want::All, legal)?;
    Ok(Rows {
        logits,
        first: rest.len() - 1,
        passes: 1 + usize::from(rest.len() < known.len()),
    })
}

/// The beginning of a draft that is legal, with what is forced behind it, at most `max` tokens: a
/// constraint may force tokens for ever. It has accepted them afterwards. What is legal at places where
/// there is a choice goes into `legal`, a set of ids below a size.
fn legal_part(
    constraint: &mut dyn Constraint,
    draft: &[u32],
    max: usize,
    forced: &mut Vec<u32>,
    (legal, vocab_size): (&mut TokenSet, usize),
) -> Result<Vec<u32>> {
    let mut ahead = Vec::new();
    let mut draft = draft.iter().copied().peekable();
    while let Some(id) = draft.next_if(|&id| ahead.len() < max && constraint.mask().allows(id)) {
        constraint.accept(id)?;
        ahead.push(id);
        while ahead.len() < max {
            forced.clear();
            if !constraint.is_complete() {
                constraint.forced(forced);
            }
            if forced.is_empty() {
                break;
            }
            forced.truncate(max - ahead.len());
            for &id in &*forced {
                constraint.accept(id)?;
                ahead.push(id);
                if draft.next_if_eq(&id).is_none() {
                    // What the draft says behind this was meant for another text.
                    while draft.next().is_some() {}
                }
            }
        }
        if constraint.is_complete() {
            break;
        }
        legal.insert_all(constraint.mask(), vocab_size);
    }
    Ok(ahead)
}
