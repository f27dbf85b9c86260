//! [`FrameGrammar`]: one program's frames, and which tokens are legal in each state that was met.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::automaton::{Effect, Program, State};
use super::sets::{SetId, Sets};
use super::vocabulary::FrameVocabulary;
use crate::TokenSet;

/// Up to so many legal tokens are kept as a list.
const FEW: usize = 1024;

/// What is kept of legal tokens, in bytes, before all of it is forgotten.
const KEPT: usize = 64 << 20;

/// What a trace of one program may look like, for any number of traces ([`Frames`](super::Frames))
/// on any threads. It remembers what it found to be legal, so that they help each other.
#[derive(Debug)]
pub struct FrameGrammar {
    vocabulary: Arc<FrameVocabulary>,
    program: Program,
    tables: Mutex<Tables>,
}

#[derive(Debug)]
struct Tables {
    sets: Sets,
    legal: HashMap<State, Legal>,
    /// Bytes that `legal` takes.
    kept: usize,
}

/// The tokens that are legal in a state, rising.
#[derive(Clone, Debug)]
pub(super) enum Legal {
    Few(Arc<[u32]>),
    Many(Arc<TokenSet>),
}

impl FrameGrammar {
    /// The grammar of traces of a program whose files have these texts, the first one that of the
    /// context. A marker of the entry in them is not taken for part of its line.
    pub fn new(vocabulary: Arc<FrameVocabulary>, sources: &[&str]) -> Self {
        let program = Program::new(sources);
        let tables = Tables {
            sets: program.sets(),
            legal: HashMap::new(),
            kept: 0,
        };
        Self {
            vocabulary,
            program,
            tables: Mutex::new(tables),
        }
    }

    /// The vocabulary it was made for.
    pub fn vocabulary(&self) -> &Arc<FrameVocabulary> {
        &self.vocabulary
    }

    /// Where a token leads, if it is legal; `known` is what the innermost scope shows.
    pub(super) fn step(
        &self,
        state: State,
        id: u32,
        known: Option<SetId>,
    ) -> Option<(State, Effect)> {
        let bytes = self.vocabulary.bytes(id);
        if bytes.is_empty() {
            let separators = self.vocabulary.separators();
            return self.program.separator(state, id, separators, known);
        }
        let sets = &mut self.tables().sets;
        let specials = self.vocabulary.specials();
        let mut step = |state, &byte| self.program.byte(state, byte, sets, specials);
        let state = bytes.iter().try_fold(state, &mut step)?;
        Some((state, Effect::Nothing))
    }

    /// The legal tokens of a state, found once.
    pub(super) fn legal(&self, state: State) -> Legal {
        let mut tables = self.tables();
        if let Some(legal) = tables.legal.get(&state) {
            return legal.clone();
        }
        let legal = self.find(state, &mut tables.sets);
        tables.kept += size_of::<(State, Legal)>()
            + match &legal {
                Legal::Few(ids) => size_of_val(&ids[..]),
                Legal::Many(_) => self.vocabulary.size() / 8,
            };
        if tables.kept > KEPT {
            tables.kept = 0;
            tables.legal.clear();
        }
        tables.legal.insert(state, legal.clone());
        legal
    }

    fn find(&self, state: State, sets: &mut Sets) -> Legal {
        let vocabulary = &self.vocabulary;
        let separators = vocabulary.separators();
        // What the innermost scope shows changes where a separator leads, never whether it is legal.
        let is_legal = |id: &u32| {
            let step = self.program.separator(state, *id, separators, None);
            step.is_some()
        };
        let mut ids: Vec<u32> = separators.all().into_iter().filter(is_legal).collect();
        let specials = vocabulary.specials();
        let mut step = |_, state, byte| self.program.byte(state, byte, sets, specials);
        match state.inside().zip(state.closed()) {
            None => vocabulary.walk(None, state, step, &mut ids),
            Some((inside, closed)) => {
                // Most tokens stay in the string, and are the same whatever stands around it.
                let in_string = vocabulary.in_string(inside);
                for &node in &in_string.ends {
                    vocabulary.walk(Some(node), closed, &mut step, &mut ids);
                }
                if ids.len() + in_string.ids.len() > FEW {
                    let mut set = in_string.set.clone();
                    set.extend(ids);
                    return Legal::Many(Arc::new(set));
                }
                ids.extend_from_slice(&in_string.ids);
            }
        }
        if ids.len() > FEW {
            return Legal::Many(Arc::new(ids.into_iter().collect()));
        }
        ids.sort_unstable();
        Legal::Few(ids.into())
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
