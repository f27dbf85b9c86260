//! The `nd` dialect: what a neural debugger reads and writes (arXiv
//! 2603.09951). A run is a chain of states, and between two of them stands the
//! action of a debugger that leads from one to the other, so a model can be
//! asked for the next line, for the end of a call, or for its arguments.
//!
//! [`Forward`] and [`Inverse`] are a recorded run as states and actions, in the
//! two directions; [`sample`] takes walks through them. A [`Document`] is a
//! source with one walk: [`render`] writes it, [`parse`] reads it back, and for
//! every document `parse(&render(&d))` is `d` again. `specs/nd.md` specifies
//! the format and says what in it is our choice; its code blocks are run as
//! tests.

mod forward;
mod inverse;
mod main_call;
mod parse;
mod render;
mod sample;
mod tokens;
mod tree;

use std::sync::Arc;

pub use self::forward::Forward;
pub use self::inverse::Inverse;
pub use self::main_call::with_main;
pub use self::parse::{Parsed, parse};
pub use self::render::render;
pub use self::sample::{Direction, Extent, Sampling, sample};
pub use self::tokens::*;
pub use crate::markup::cursor::{Broken, Reason};

use crate::End;
use crate::cwm::{Frame, Locals};

/// Changes when the same documents become other texts. A text does not say it, since a model reads
/// every word: what stores texts does.
pub const VERSION: u32 = 1;

/// A source and what a debugger saw of a run of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The source text.
    pub context: String,
    /// The run; `None` where no state has been reached yet.
    pub run: Option<Run>,
}

/// States and actions, in one of the two directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// As the program ran. The frames are those of the `cwm` dialect.
    Forward(Walk<Frame, Action, Exit>),
    /// From a later state back to the earlier ones.
    Inverse(Walk<InverseFrame, InverseAction, InverseExit>),
}

/// A chain of frames `F`, with actions `A` between them, that may come to an exit `E`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk<F, A, E> {
    /// The first state.
    pub start: F,
    /// Each action with the state it led to.
    pub moves: Vec<(A, F)>,
    /// What comes behind the last state.
    pub stop: Stop<A, E>,
}

impl<F, A, E> Walk<F, A, E> {
    /// All states in order.
    pub fn frames(&self) -> impl Iterator<Item = &F> {
        std::iter::once(&self.start).chain(self.moves.iter().map(|(_, frame)| frame))
    }
}

/// What comes behind the last state of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop<A, E> {
    /// Nothing: no action has been chosen.
    Here,
    /// An action whose outcome is open: what a model is asked with.
    Asked(A),
    /// An action that led out of the run.
    Exit(A, E),
}

/// Where an action leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<E> {
    /// To a state, by its number.
    State(usize),
    /// Out of the run.
    Exit(E),
}

/// What a debugger can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Go to the next state, into a call and out of it.
    StepInto,
    /// Go to the next state that is not in a call made here.
    StepOver,
    /// Go to where the scope is left.
    StepReturn,
    /// Go to where a line with this text, newline included, is next about to run, in whatever scope.
    Breakpoint(Arc<str>),
    /// Go to the end of the run.
    Continue,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Normal,
    /// Because something went wrong: an exception that nothing caught, a status that is not 0, a limit
    /// of memory, a crash.
    Error,
    /// Not at all in the time that it had.
    Never,
}

impl Exit {
    /// What the end of a recording says of the run; `None` where it says only that the recorder stopped.
    pub fn of(end: &End) -> Option<Self> {
        match end {
            End::Finished | End::Exited(0) => Some(Self::Normal),
            End::Raised(_) | End::Exited(_) | End::OutOfMemory | End::Crashed(_) => {
                Some(Self::Error)
            }
            End::Timeout(_) => Some(Self::Never),
            End::MaxEvents(_) => None,
        }
    }
}

/// A state of a run that is followed backwards.
///
/// `src` is the physical source line with its indentation and its newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InverseFrame {
    /// A scope has been left, for good or until it goes on.
    Return {
        /// The line that left it.
        src: Arc<str>,
        /// `repr` of the value handed out.
        value: Arc<str>,
    },
    /// An exception has been raised in, or has reached, a scope.
    Exception {
        /// The line that raised it or that called what did.
        src: Arc<str>,
        /// `repr` of the exception.
        value: Arc<str>,
    },
    /// A line has made its calls.
    LineCall {
        /// The line.
        src: Arc<str>,
        /// The state before the line ran.
        shown: Shown,
    },
    /// A line is about to run.
    Line {
        /// The line.
        src: Arc<str>,
        /// The state before the line runs.
        shown: Shown,
    },
    /// A scope has been entered, or a suspended one has been entered again.
    Call {
        /// The line of the definition, or the one that was suspended.
        src: Arc<str>,
        /// The arguments, or the state of the scope that goes on.
        locals: Locals,
    },
}

/// As much of an earlier state as is said on the way back to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The variables that have another value in the state shown before, which is a later one.
    pub listed: Locals,
    /// Whether more are bound: those have the values they have later.
    pub rest: bool,
}

/// What a debugger can do backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InverseAction {
    /// Go to the state before, into a call by its end and out of it by its beginning.
    StepInto,
    /// Go to the state before that is not in a call made here.
    StepOver,
    /// Go to where the scope was entered: to its arguments.
    StepCall,
}

/// Where a run that is followed backwards ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InverseExit {
    /// At its beginning.
    Entry,
}

/// Goes from the first of `states` on as `choose` says, until it chooses nothing, or what cannot be
/// done, or the run is over. `None` where there is no state.
fn walk<F, A, E>(
    states: usize,
    mut choose: impl FnMut(usize) -> Option<A>,
    next: impl Fn(usize, &A) -> Option<Next<E>>,
    mut frame: impl FnMut(usize) -> F,
) -> Option<Walk<F, A, E>> {
    if states == 0 {
        return None;
    }
    let start = frame(0);
    let (mut state, mut moves) = (0, Vec::new());
    let stop = loop {
        let Some(action) = choose(state) else {
            break Stop::Here;
        };
        match next(state, &action) {
            None => break Stop::Here,
            Some(Next::Exit(exit)) => break Stop::Exit(action, exit),
            Some(Next::State(reached)) => {
                moves.push((action, frame(reached)));
                state = reached;
            }
        }
    };
    Some(Walk { start, moves, stop })
}
