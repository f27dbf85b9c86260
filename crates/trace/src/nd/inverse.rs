//! A recorded run backwards: from its last state to its first.

use std::collections::HashMap;
use std::sync::Arc;

use super::tree::{Place, Ways, depths, ways};
use super::{InverseAction, InverseExit, InverseFrame, Next, Run, Shown, walk};
use crate::cwm::{self, Frame, Locals, Scope};
use crate::markup::source::Source;
use crate::{Event, EventKind, Trace};

/// A run in the direction against which it ran. Its states are the events of the trace, the last one
/// first; an event that made calls stands there twice, before them and behind them.
#[derive(Debug)]
pub struct Inverse<'a> {
    trace: &'a Trace,
    source: Source,
    states: Vec<State>,
    ways: Vec<Ways>,
    /// By event: the last one of its activation, itself included, that has locals.
    holders: Vec<usize>,
}

/// A state of the way back.
#[derive(Clone, Copy, Debug)]
struct State {
    /// The event.
    event: usize,
    /// Whether its calls have been made.
    has_called: bool,
    depth: u32,
}

impl<'a> Inverse<'a> {
    /// The states of a trace.
    pub fn of(trace: &'a Trace) -> Self {
        let mut states = states(&depths(&trace.events));
        states.reverse();
        let levels: Vec<_> = states
            .iter()
            .map(|state| (state.depth, place(&trace.events[state.event], state)))
            .collect();
        Self {
            trace,
            source: Source::of(trace),
            ways: ways(&levels),
            holders: holders(trace),
            states,
        }
    }

    /// The source text, as it stands before the states.
    pub fn context(&self) -> String {
        self.source.unmarked()
    }

    /// How many states there are.
    pub fn states(&self) -> usize {
        self.states.len()
    }

    /// The number of the event that a state is of, and whether it is the state behind the calls that the
    /// event made.
    ///
    /// # Panics
    /// If there is no such state.
    pub fn event(&self, state: usize) -> (usize, bool) {
        let State {
            event, has_called, ..
        } = self.states[state];
        (event, has_called)
    }

    /// Where an action leads from a state. `None` where it cannot be taken: a scope that is being entered
    /// has no earlier state; and where the recording does not tell.
    ///
    /// # Panics
    /// If there is no such state.
    pub fn next(&self, state: usize, action: &InverseAction) -> Option<Next<InverseExit>> {
        let Ways { over, close } = self.ways[state];
        let found = match action {
            InverseAction::StepInto => Some(state + 1).filter(|&next| next < self.states()),
            InverseAction::StepOver => over,
            InverseAction::StepCall => return close.map(Next::State),
        };
        Some(found.map_or(Next::Exit(InverseExit::Entry), Next::State))
    }

    /// Goes from the last moment of the run back as `choose` says, which is given the number of a state;
    /// until it chooses nothing, or what cannot be done, or the beginning is reached.
    pub fn walk(&self, choose: impl FnMut(usize) -> Option<InverseAction>) -> Option<Run> {
        let mut memory = Memory::default();
        let next = |state, action: &InverseAction| self.next(state, action);
        let frame = |state| self.frame(state, &mut memory);
        walk(self.states(), choose, next, frame).map(Run::Inverse)
    }

    fn frame(&self, state: usize, memory: &mut Memory) -> InverseFrame {
        let State {
            event, has_called, ..
        } = self.states[state];
        let frame = cwm::frame(&self.trace.events[event], &self.source);
        if has_called {
            let locals = cwm::locals(&self.trace.events[self.holders[event]]);
            let shown = memory.show(locals);
            return InverseFrame::LineCall {
                src: frame.src().clone(),
                shown,
            };
        }
        match frame {
            Frame::Call { locals, src } => {
                memory.leave();
                InverseFrame::Call { src, locals }
            }
            Frame::Line { locals, src } => InverseFrame::Line {
                src,
                shown: memory.show(locals),
            },
            Frame::Return { src, value } => {
                memory.enter();
                InverseFrame::Return { src, value }
            }
            Frame::Exception { src, value } => InverseFrame::Exception { src, value },
        }
    }
}

/// The events in order, each that made calls a second time behind them. Calls that are not over are not
/// behind anything.
fn states(depths: &[u32]) -> Vec<State> {
    let mut states = Vec::with_capacity(depths.len());
    let mut callers: Vec<State> = Vec::new();
    for (event, &depth) in depths.iter().enumerate() {
        while let Some(caller) = callers.pop_if(|caller| caller.depth >= depth) {
            states.push(State {
                has_called: true,
                ..caller
            });
        }
        let state = State {
            event,
            has_called: false,
            depth,
        };
        states.push(state);
        if depths.get(event + 1).is_some_and(|&next| next > depth) {
            callers.push(state);
        }
    }
    states
}

fn place(event: &Event, state: &State) -> Place {
    if state.has_called {
        Place::Inside
    } else if event.kind.leaves() {
        Place::Opens
    } else if event.kind.enters() {
        Place::Closes
    } else {
        Place::Inside
    }
}

/// For each event the last one of its activation that has locals: all but exceptions do.
fn holders(trace: &Trace) -> Vec<usize> {
    let mut last: HashMap<u32, usize> = HashMap::new();
    let holder = |(number, event): (usize, &Event)| {
        if event.kind == EventKind::Exception {
            return last.get(&event.activation).copied().unwrap_or(number);
        }
        last.insert(event.activation, number);
        number
    };
    trace.events.iter().enumerate().map(holder).collect()
}

/// What each scope has shown last; the scopes are those that the way back has entered by their ends.
#[derive(Debug, Default)]
struct Memory {
    base: Option<Scope>,
    entered: Vec<Option<Scope>>,
}

impl Memory {
    fn enter(&mut self) {
        self.entered.push(None);
    }

    fn leave(&mut self) {
        if self.entered.pop().is_none() {
            self.base = None;
        }
    }

    /// What is said of a state. Nothing is said of the first one of a scope: nobody has seen what it
    /// could differ from.
    fn show(&mut self, locals: Locals) -> Shown {
        let before = self.entered.last_mut().unwrap_or(&mut self.base);
        let differs = |later: &Scope, place, pair: &(Arc<str>, Arc<str>)| {
            later.get(place, &pair.0).is_none_or(|old| old.1 != pair.1)
        };
        let listed: Locals = match before {
            None => Locals::default(),
            Some(later) => {
                let pairs = locals.iter().enumerate();
                let changed = pairs.filter(|&(place, pair)| differs(later, place, pair));
                changed.map(|(_, pair)| pair.clone()).collect()
            }
        };
        let rest = listed.len() < locals.len();
        *before = Some(Scope::showing(locals));
        Shown { listed, rest }
    }
}
