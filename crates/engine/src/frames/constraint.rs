//! [`Frames`]: one trace, followed token by token.

use std::sync::Arc;

use super::automaton::{Between, Effect, State};
use super::grammar::{FrameGrammar, Legal};
use super::sets::SetId;
use crate::error::{Error, Result};
use crate::{Constraint, Mask, TokenSet};

/// A trace of one program as far as it has come: a [`Constraint`] that lets through what the `cwm`
/// dialect can write, and is complete with its end.
///
/// It begins behind the prompt, at the first frame. Frames that are given already are accepted like
/// predicted ones. Cloning copies the history and shares the grammar.
#[derive(Clone, Debug)]
pub struct Frames {
    grammar: Arc<FrameGrammar>,
    state: State,
    /// What each open call last showed.
    scopes: Vec<SetId>,
    /// What each token changed.
    history: Vec<Undo>,
    /// The legal tokens now, once asked for.
    legal: Option<Legal>,
    /// The storage behind a mask of few tokens, and which it holds.
    few: TokenSet,
    in_few: Arc<[u32]>,
}

/// How to take a token back.
#[derive(Clone, Copy, Debug)]
struct Undo {
    state: State,
    scope: ScopeUndo,
}

#[derive(Clone, Copy, Debug)]
enum ScopeUndo {
    Nothing,
    Remove,
    Restore(SetId),
    Reenter(SetId),
}

impl Frames {
    /// A trace of which nothing is written.
    pub fn new(grammar: Arc<FrameGrammar>) -> Self {
        let size = grammar.vocabulary().size();
        Self {
            grammar,
            state: State::Between(Between::Start),
            scopes: Vec::new(),
            history: Vec::new(),
            legal: None,
            few: TokenSet::new(size),
            in_few: Arc::from([]),
        }
    }

    /// Tokens accepted.
    pub fn len(&self) -> usize {
        self.history.len()
    }

    /// Is nothing accepted?
    pub fn is_empty(&self) -> bool {
        self.history.is_empty()
    }

    /// Whether a frame could begin here: behind the prompt, a frame's end or the trace's.
    pub fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Between(_) | State::Done)
    }

    fn legal(&mut self) -> &Legal {
        let (grammar, state) = (&self.grammar, self.state);
        self.legal.get_or_insert_with(|| grammar.legal(state))
    }

    /// The token that must come next, if there is but one.
    fn only(&mut self) -> Option<u32> {
        match self.legal() {
            Legal::Few(ids) => match ids[..] {
                [id] => Some(id),
                _ => None,
            },
            Legal::Many(_) => None,
        }
    }

    fn apply(&mut self, effect: Effect) -> ScopeUndo {
        match effect {
            Effect::Nothing => ScopeUndo::Nothing,
            Effect::Enter(set) => {
                self.scopes.push(set);
                ScopeUndo::Remove
            }
            Effect::Show(set) => match self.scopes.last_mut() {
                Some(scope) => ScopeUndo::Restore(std::mem::replace(scope, set)),
                None => ScopeUndo::Nothing,
            },
            Effect::Leave => self
                .scopes
                .pop()
                .map_or(ScopeUndo::Nothing, ScopeUndo::Reenter),
        }
    }

    fn take_back(&mut self, undo: Undo) {
        self.state = undo.state;
        match undo.scope {
            ScopeUndo::Nothing => {}
            ScopeUndo::Remove => {
                self.scopes.pop();
            }
            ScopeUndo::Restore(set) => {
                if let Some(scope) = self.scopes.last_mut() {
                    *scope = set;
                }
            }
            ScopeUndo::Reenter(set) => self.scopes.push(set),
        }
    }
}

impl Constraint for Frames {
    fn mask(&mut self) -> Mask<'_> {
        if let Legal::Few(ids) = self.legal().clone()
            && !Arc::ptr_eq(&ids, &self.in_few)
        {
            for &id in &self.in_few[..] {
                self.few.remove(id);
            }
            self.few.extend(ids.iter().copied());
            self.in_few = ids;
        }
        match &self.legal {
            Some(Legal::Many(set)) => set.mask(),
            _ => self.few.mask(),
        }
    }

    fn forced(&mut self, out: &mut Vec<u32>) {
        let before = self.len();
        while let Some(id) = self.only() {
            if self.accept(id).is_err() {
                break;
            }
            out.push(id);
        }
        self.rollback(self.len() - before);
    }

    fn accept(&mut self, id: u32) -> Result<()> {
        let known = self.scopes.last().copied();
        let step = self.grammar.step(self.state, id, known);
        let (state, effect) = step.ok_or(Error::NotAllowed {
            id,
            index: self.len(),
        })?;
        let scope = self.apply(effect);
        self.history.push(Undo {
            state: self.state,
            scope,
        });
        self.state = state;
        self.legal = None;
        Ok(())
    }

    fn rollback(&mut self, n: usize) {
        let kept = self.len().saturating_sub(n);
        while self.len() > kept
            && let Some(undo) = self.history.pop()
        {
            self.take_back(undo);
            self.legal = None;
        }
    }

    fn is_complete(&self) -> bool {
        self.state == State::Done
    }
}
