//! A recorded run as states and the actions of a debugger between them.

use super::tree::{Place, Ways, depths, ways};
use super::{Action, Exit, Next, Run, walk};
use crate::cwm::{self, Frame};
use crate::markup::source::Source;
use crate::{Event, EventKind, Trace};

/// A run in the direction in which it ran. Its states are the events of the trace, by their numbers.
///
/// The states of a call are one level below those of the scope that made it.
#[derive(Debug)]
pub struct Forward<'a> {
    trace: &'a Trace,
    source: Source,
    ways: Vec<Ways>,
    exit: Option<Exit>,
}

impl<'a> Forward<'a> {
    /// The states of a trace.
    pub fn of(trace: &'a Trace) -> Self {
        let depths = depths(&trace.events).into_iter();
        let states: Vec<_> = depths.zip(trace.events.iter().map(place)).collect();
        Self {
            trace,
            source: Source::of(trace),
            ways: ways(&states),
            exit: Exit::of(&trace.end),
        }
    }

    /// The source text, as it stands before the states.
    pub fn context(&self) -> String {
        self.source.unmarked()
    }

    /// How many states there are.
    pub fn states(&self) -> usize {
        self.ways.len()
    }

    /// A state as it is shown.
    ///
    /// # Panics
    /// If there is no such state.
    pub fn frame(&self, state: usize) -> Frame {
        cwm::frame(&self.trace.events[state], &self.source)
    }

    /// Where an action leads from a state. `None` where it cannot be taken: a scope that is being left is
    /// not left once more; and where the recording does not tell.
    ///
    /// # Panics
    /// If there is no such state.
    pub fn next(&self, state: usize, action: &Action) -> Option<Next<Exit>> {
        let Ways { over, close } = self.ways[state];
        let found = match action {
            Action::StepInto => Some(state + 1).filter(|&next| next < self.states()),
            Action::StepOver => over,
            Action::StepReturn if self.trace.events[state].kind.leaves() => return None,
            Action::StepReturn => close,
            Action::Breakpoint(src) => self.line_behind(state, src),
            Action::Continue => None,
        };
        found.map(Next::State).or(self.exit.map(Next::Exit))
    }

    /// Goes from the first state on as `choose` says, which is given the number of a state; until it
    /// chooses nothing, or what cannot be done, or the run is over.
    pub fn walk(&self, choose: impl FnMut(usize) -> Option<Action>) -> Option<Run> {
        let next = |state, action: &Action| self.next(state, action);
        walk(self.states(), choose, next, |state| self.frame(state)).map(Run::Forward)
    }

    /// How the run ended, where that is known.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// The lines of the program.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// The states in which a line is about to run.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &'a Event)> + use<'a> {
        let events = self.trace.events.iter().enumerate();
        events.filter(|(_, event)| event.kind == EventKind::Line)
    }

    fn line_behind(&self, state: usize, src: &str) -> Option<usize> {
        let is_it =
            |event: &Event| event.kind == EventKind::Line && *self.source.line(event) == *src;
        let behind = &self.trace.events[state + 1..];
        behind.iter().position(is_it).map(|steps| state + 1 + steps)
    }
}

fn place(event: &Event) -> Place {
    if event.kind.enters() {
        Place::Opens
    } else if event.kind.leaves() {
        Place::Closes
    } else {
        Place::Inside
    }
}
