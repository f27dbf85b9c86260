//! Decodes one frame: its tokens are chosen one by one under the grammar, each from its own logits,
//! however many of them one pass was made for.

use cwm_tokenizer::nano::Codec;

use super::grammar::{Draft, FrameGrammar, Legal};
use super::memory::Memory;
use super::predictor::{LiveError, Pace};
use crate::generate::extend_ahead;
use crate::{Engine, Mask, Sampler, Session, TokenSet, greedy};

/// Tokens a value may take.
pub(super) const MAX_VALUE: usize = 600;

/// Tokens a frame may take, besides its working, before it is given up.
pub(super) const MAX_FRAME: usize = 1200;

/// A frame, how likely it is, and a session that holds its window and some of its tokens.
pub(super) struct Decoded {
    pub(super) draft: Draft,
    pub(super) logprob: f64,
    pub(super) session: Session,
}

/// A frame that is being decoded.
pub(super) struct Decoder<'a> {
    pub(super) engine: &'a Engine,
    pub(super) codec: &'a Codec,
    pub(super) pace: Pace,
    /// `None` takes the most probable token.
    pub(super) sampler: Option<Sampler>,
    grammar: FrameGrammar<'a>,
    tokens: Vec<u32>,
    logprob: f64,
    /// Tokens besides those of the working.
    length: usize,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        codec: &'a Codec,
        legal: &'a Legal,
        pace: Pace,
        sampler: Option<Sampler>,
    ) -> Self {
        Self {
            engine,
            codec,
            pace,
            sampler,
            grammar: FrameGrammar::new(codec, legal),
            tokens: Vec::new(),
            logprob: 0.0,
            length: 0,
        }
    }

    /// Decodes the frame behind the window `ids`, of which `known` holds the beginning.
    pub(super) fn decode(
        mut self,
        known: &Session,
        ids: &[u32],
        memory: &mut Memory,
    ) -> Result<Decoded, LiveError> {
        let source = self.codec.source().len();
        let mut session = match self.pace {
            Pace::Plain => known.fork(),
            Pace::Ahead => {
                memory.begin(self.codec, ids);
                let nearest = memory.nearest(known, ids, source);
                nearest.unwrap_or_else(|| known.fork())
            }
        };
        let mut pending = ids[session.len()..].to_vec();
        let draft = loop {
            let whole = self.pass(&mut session, &mut pending, ids.len(), memory)?;
            if let Some(draft) = whole {
                break draft;
            }
        };
        if self.pace == Pace::Ahead {
            memory.keep(ids, source, self.tokens, session.fork());
        }
        Ok(Decoded {
            draft,
            logprob: self.logprob,
            session,
        })
    }

    /// Extends the session by what is pending and guesses behind it, and chooses tokens as far as the
    /// guesses were right, and one more. Those that are not in the session are pending then.
    fn pass(
        &mut self,
        session: &mut Session,
        pending: &mut Vec<u32>,
        window: usize,
        memory: &mut Memory,
    ) -> Result<Option<Draft>, LiveError> {
        let room = self
            .engine
            .max_positions()
            .saturating_sub(session.len() + pending.len());
        let ahead = match self.pace {
            Pace::Plain => Vec::new(),
            Pace::Ahead => memory.ahead(&self.grammar, room),
        };
        let rows = extend_ahead(self.engine, session, pending, &ahead, None)?;
        pending.clear();
        let before = session.len() - ahead.len();
        let mut right = 0;
        let mut logits = Some(rows.row(0));
        let whole = loop {
            let allowed = self.allowed()?;
            let forced = match self.pace {
                Pace::Plain => None,
                Pace::Ahead => allowed.mask().forced(self.engine.config().vocab_size),
            };
            let (id, logprob) = match (forced, logits) {
                (Some(id), _) => (self.forced(id)?, 0.0),
                (None, Some(logits)) => self.choose(logits, &allowed)?,
                (None, None) => break None,
            };
            let whole = self.take(id, logprob);
            if self.pace == Pace::Ahead {
                memory.accept(self.codec, id);
            }
            if whole.is_some() {
                break whole;
            }
            self.check_room(window)?;
            if pending.is_empty() && ahead.get(right) == Some(&id) {
                right += 1;
                logits = Some(rows.row(right));
            } else {
                pending.push(id);
                logits = None;
            }
        };
        session.rollback(before + right)?;
        Ok(whole)
    }

    /// Whether the newest token fits behind the window and those before it: a frame that does not fit
    /// ends in an error, even where forced tokens would need no more room.
    fn check_room(&self, window: usize) -> Result<(), LiveError> {
        let len = window + self.tokens.len() - 1;
        let max_positions = self.engine.max_positions();
        match len < max_positions {
            true => Ok(()),
            false => Err(LiveError::Engine(crate::Error::ContextFull {
                len,
                added: 1,
                max_positions,
            })),
        }
    }

    /// What the frame may go on with.
    fn allowed(&self) -> Result<TokenSet, LiveError> {
        if self.length >= MAX_FRAME {
            return Err(LiveError::Endless);
        }
        if self.grammar.value_len() > MAX_VALUE {
            return Err(LiveError::LongValue);
        }
        let all = 0..self.engine.config().vocab_size as u32;
        Ok(all.filter(|&id| self.grammar.allows(id)).collect())
    }

    fn choose(&mut self, logits: &[f32], allowed: &TokenSet) -> Result<(u32, f64), LiveError> {
        let choice = match &mut self.sampler {
            None => greedy(logits, allowed.mask())?,
            Some(sampler) => sampler.sample(logits, allowed.mask())?,
        };
        Ok((choice.id, choice.logprob))
    }

    /// Takes the only token that is allowed. Where tokens are drawn, one draw is spent on it, as if it
    /// had been one of several.
    fn forced(&mut self, id: u32) -> Result<u32, LiveError> {
        if let Some(sampler) = &mut self.sampler {
            sampler.sample(&[0.0], Mask::all())?;
        }
        Ok(id)
    }

    fn take(&mut self, id: u32, logprob: f64) -> Option<Draft> {
        // The grammar bounds the working by itself.
        if !self.grammar.is_working(id) {
            self.logprob += logprob;
            self.length += 1;
        }
        self.tokens.push(id);
        self.grammar.take(id, logprob)
    }
}
