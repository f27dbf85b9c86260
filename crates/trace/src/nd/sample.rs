//! Walks through a recorded run, by the policy of the paper.
//!
//! Promise: a document is a function of trace, sampling and number, on every machine.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Action, Document, Forward, Inverse, InverseAction, with_main};
use crate::random::Random;
use crate::{Trace, cut};

/// Which documents are wanted of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Which way they go.
    pub direction: Direction,
    /// What they are of.
    pub extent: Extent,
    /// Decides everything that is left to chance.
    pub seed: u64,
}

/// Which way a document goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// As the program ran.
    Forward,
    /// From the end of the run to its beginning.
    Inverse,
}

/// What a document is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The run, from its beginning to its end.
    Run,
    /// One call of a function that has a name, each of the run as likely as the next; the run where there
    /// is none.
    Call,
}

/// Of a hundred breakpoints that could be set on a line that will run or on one that will not, so many
/// are on one that will.
const REACHED: u32 = 80;

/// A kind of action, before it is known what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Into,
    Over,
    Return,
    Breakpoint,
    Continue,
}

/// Shares of the actions. A document follows one row of its direction, each as likely as the other. The
/// first row of the forward ones is the paper's as printed: its sum is 80, and weights need no other.
const FORWARD: [&[(Kind, u32)]; 2] = [
    &[
        (Kind::Into, 35),
        (Kind::Over, 10),
        (Kind::Return, 20),
        (Kind::Breakpoint, 10),
        (Kind::Continue, 5),
    ],
    &[(Kind::Into, 50), (Kind::Over, 50)],
];

/// The paper gives none for the way back. These are those forward of the actions that have a
/// counterpart.
const INVERSE: [&[(InverseAction, u32)]; 2] = [
    &[
        (InverseAction::StepInto, 35),
        (InverseAction::StepOver, 10),
        (InverseAction::StepCall, 20),
    ],
    &[(InverseAction::StepInto, 50), (InverseAction::StepOver, 50)],
];

/// Distinguish the random streams of a document.
const EXTENT: u64 = 0x6e64_6361_6c6c;
const ACTIONS: u64 = 0x6e64_7374_6570;

/// The document with a number of a trace. Each number gives another walk; none repeats an earlier one
/// but by chance.
///
/// Equal numbers draw alike whatever the trace, beginning with the row of shares: give each document of a
/// data set a number of its own.
///
/// A document ends where the run does, or where the recording does. Forwards a run that is one call
/// starts in a `main` that makes the call ([`with_main`]); backwards it does not.
pub fn sample(trace: &Trace, sampling: &Sampling, number: u64) -> Document {
    let part = match sampling.extent {
        Extent::Run => None,
        Extent::Call => {
            let count = cut::count_calls(trace);
            let mut random = Random::new(sampling.seed, number, EXTENT);
            cut::call(trace, random.below(count as u64) as usize)
        }
    };
    let trace = part.as_ref().unwrap_or(trace);
    let mut random = Random::new(sampling.seed, number, ACTIONS);
    match sampling.direction {
        Direction::Forward => forward(&with_main(trace), &mut random),
        Direction::Inverse => inverse(trace, &mut random),
    }
}

fn forward(trace: &Trace, random: &mut Random) -> Document {
    let forward = Forward::of(trace);
    let lines = Lines::of(&forward);
    let mix = FORWARD[random.below(2) as usize];
    let run = forward.walk(|state| {
        let possible = |&&(kind, _): &&(Kind, u32)| match plain(kind) {
            Some(action) => forward.next(state, &action).is_some(),
            None => lines.any(state),
        };
        let kinds: Vec<_> = mix.iter().filter(possible).copied().collect();
        let kind = random.weighted(&kinds)?;
        plain(kind).or_else(|| lines.choose(state, random).map(Action::Breakpoint))
    });
    Document {
        context: forward.context(),
        run,
    }
}

/// The action of a kind; `None` for a breakpoint, which needs a line.
fn plain(kind: Kind) -> Option<Action> {
    match kind {
        Kind::Into => Some(Action::StepInto),
        Kind::Over => Some(Action::StepOver),
        Kind::Return => Some(Action::StepReturn),
        Kind::Continue => Some(Action::Continue),
        Kind::Breakpoint => None,
    }
}

fn inverse(trace: &Trace, random: &mut Random) -> Document {
    let inverse = Inverse::of(trace);
    let mix = INVERSE[random.below(2) as usize];
    let run = inverse.walk(|state| {
        let possible = |(action, _): &&(InverseAction, u32)| inverse.next(state, action).is_some();
        let actions: Vec<_> = mix.iter().filter(possible).copied().collect();
        random.weighted(&actions)
    });
    Document {
        context: inverse.context(),
        run,
    }
}

/// The lines of a program that can be stopped at: all but empty ones and comments. Lines with the same
/// text are one, as they are for a breakpoint.
struct Lines {
    /// Each with the last state in which it is about to run.
    lines: Vec<(Arc<str>, Option<usize>)>,
    /// Whether a breakpoint that is not reached has an outcome.
    may_miss: bool,
}

impl Lines {
    fn of(forward: &Forward<'_>) -> Self {
        let mut places: HashMap<Arc<str>, usize> = HashMap::new();
        let mut lines: Vec<(Arc<str>, Option<usize>)> = Vec::new();
        let is_code =
            |line: &&Arc<str>| !matches!(line.trim_start().chars().next(), None | Some('#'));
        for line in forward.source().lines().filter(is_code) {
            places.entry(line.clone()).or_insert_with(|| {
                lines.push((line.clone(), None));
                lines.len() - 1
            });
        }
        for (state, event) in forward.lines() {
            if let Some(&place) = places.get(&forward.source().line(event)) {
                lines[place].1 = Some(state);
            }
        }
        Self {
            lines,
            may_miss: forward.exit().is_some(),
        }
    }

    /// The lines that will run, or will not, behind a state.
    fn behind(&self, state: usize, runs: bool) -> impl Iterator<Item = &Arc<str>> {
        let is_it = move |last: Option<usize>| last.is_some_and(|last| last > state) == runs;
        let lines = self.lines.iter().filter(move |&&(_, last)| is_it(last));
        lines.map(|(line, _)| line)
    }

    /// Whether there is a breakpoint to set.
    fn any(&self, state: usize) -> bool {
        match self.may_miss {
            true => !self.lines.is_empty(),
            false => self.behind(state, true).next().is_some(),
        }
    }

    fn choose(&self, state: usize, random: &mut Random) -> Option<Arc<str>> {
        let count = |runs| self.behind(state, runs).count() as u64;
        let (reached, missed) = (count(true), count(false) * u64::from(self.may_miss));
        let weight = |count, weight| if count == 0 { 0 } else { weight };
        let sides = [
            (true, weight(reached, REACHED)),
            (false, weight(missed, 100 - REACHED)),
        ];
        let runs = random.weighted(&sides)?;
        let place = random.below(if runs { reached } else { missed });
        self.behind(state, runs).nth(place as usize).cloned()
    }
}
