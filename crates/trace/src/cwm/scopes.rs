//! The stack of activations that gives `".."` its meaning.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::{Frame, Locals};

/// What each live scope last showed: the state between two frames of a trace.
///
/// Any sequence of frames has a meaning, also one that returns more often than
/// it calls: below the calls lies a scope in which nothing is bound.
#[derive(Clone, Debug, Default)]
pub struct Scopes {
    base: Scope,
    calls: Vec<Scope>,
}

impl Scopes {
    /// No call has been made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many calls are open.
    pub fn depth(&self) -> usize {
        self.calls.len()
    }

    /// What the innermost scope last showed.
    pub fn locals(&self) -> &Locals {
        &self.current().locals
    }

    /// Goes past a frame.
    pub fn apply(&mut self, frame: &Frame) {
        match frame {
            Frame::Call { locals, .. } => self.calls.push(Scope::showing(locals.clone())),
            Frame::Line { locals, .. } => {
                *self.calls.last_mut().unwrap_or(&mut self.base) = Scope::showing(locals.clone());
            }
            Frame::Return { .. } => {
                if self.calls.pop().is_none() {
                    self.base = Scope::default();
                }
            }
            Frame::Exception { .. } => {}
        }
    }

    pub(super) fn current(&self) -> &Scope {
        self.calls.last().unwrap_or(&self.base)
    }
}

/// What one scope last showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    locals: Locals,
    /// Names to positions, made when a scope is too large to search through.
    index: OnceCell<HashMap<Arc<str>, usize>>,
}

/// Up to here a search is cheaper than hashing.
const SMALL: usize = 32;

impl Scope {
    pub(crate) fn showing(locals: Locals) -> Self {
        Self {
            locals,
            index: OnceCell::new(),
        }
    }

    /// The name and value of a variable. It is looked for at `place` first:
    /// variables seldom move from one frame of a scope to the next.
    pub(crate) fn get(&self, place: usize, name: &str) -> Option<&(Arc<str>, Arc<str>)> {
        let pairs = self.locals.as_slice();
        let here = pairs.get(place).filter(|(known, _)| &**known == name);
        if here.is_some() || pairs.len() <= SMALL {
            return here.or_else(|| pairs.iter().find(|(known, _)| &**known == name));
        }
        let index = self.index.get_or_init(|| {
            pairs
                .iter()
                .enumerate()
                .map(|(place, (name, _))| (name.clone(), place))
                .collect()
        });
        index.get(name).map(|&place| &pairs[place])
    }
}
