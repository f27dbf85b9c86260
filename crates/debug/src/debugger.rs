//! [`Debugger`]: motions over a predicted run.
//!
//! Every motion is "go forward frame by frame until something holds", so
//! nesting, recursion and several calls on one line need no special cases:
//! `next` waits for a frame that is no deeper, however many calls that takes.
//! A motion can always end in five ways (arrival, breakpoint, end of the run,
//! exhausted budget, failed prediction), and none of them loses a frame.

use std::collections::BTreeSet;
use std::fmt;

use cwm_trace::EventKind;
use cwm_trace::live::Jump;
use serde::Serialize;

use crate::breakpoint::{Breakpoint, Condition};
use crate::compare::{Run, RunEnd};
use crate::frame::{Frame, Origin, UNCHANGED, Variable};
use crate::jump::Landed;
use crate::predictor::{PredictError, Predictor};
use crate::timeline::{Beginning, Branch, Successor, Timeline};

/// Frames that one command may pass over, unless the caller says otherwise.
pub const DEFAULT_BUDGET: usize = 2000;

/// A way to go forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Motion {
    /// One frame, into calls.
    Step,
    /// To the next frame that is no deeper; from a frame that leaves its
    /// function, to the caller.
    Next,
    /// To the frame that leaves this function, where its value is shown;
    /// from such a frame, to the one that leaves the caller.
    Out,
    /// On to a breakpoint or the end.
    Continue,
    /// To the first frame that is about to run this line, at any depth.
    Until(u32),
}

impl Motion {
    /// Whether the motion that began at `from` is over at `now`.
    fn arrives(self, from: &Frame, now: &Frame) -> bool {
        let level = if from.kind.leaves() {
            from.depth.saturating_sub(1)
        } else {
            from.depth
        };
        match self {
            Self::Step => true,
            Self::Next => now.depth <= level,
            Self::Out => now.depth < level || (now.depth == level && now.kind.leaves()),
            Self::Continue => false,
            Self::Until(line) => now.kind == EventKind::Line && now.line == line,
        }
    }
}

/// Why a motion ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It got where it was going.
    Arrived,
    /// A breakpoint stopped it.
    Breakpoint(u32),
    /// Nothing follows the frame reached.
    Ended,
    /// It passed as many frames as one command may.
    Budget(usize),
    /// The next frame could not be predicted.
    Failed(PredictError),
}

/// How a motion went. The frame reached is [`Debugger::frame`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Frames it passed, the one reached included.
    pub frames: usize,
    /// Why it ended.
    pub stop: Stop,
}

/// The variables visible at the cursor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scope<'a> {
    /// In binding order.
    pub variables: &'a [Variable],
    /// Line before which this state held, where the current frame itself
    /// shows a value instead of a state.
    pub as_of: Option<u32>,
}

/// A line of play: the run as first predicted, or what follows an edit or a leap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fork {
    /// Number by which the user refers to it; 0 is the original run.
    pub number: usize,
    /// The edit that began it.
    pub edit: Option<ForkEdit>,
    /// The leap that began it.
    pub leap: Option<ForkLeap>,
    /// Frames predicted on it, those it shares with others included.
    pub frames: usize,
    /// Whether its end is known.
    pub ended: bool,
    /// Whether the cursor is on it.
    pub current: bool,
}

/// The edit that began a [`Fork`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForkEdit {
    /// Fork on which the edited frame was.
    pub from: usize,
    /// Index of the edited frame.
    pub frame: usize,
    /// Its line.
    pub line: u32,
    /// The variable.
    pub name: String,
    /// Its new value.
    pub value: String,
}

/// The leap that began a [`Fork`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForkLeap {
    /// Fork on which it began.
    pub from: usize,
    /// Index of the frame at which it began.
    pub frame: usize,
    /// The line whose calls it went over.
    pub line: u32,
}

/// What cannot be done, and what can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No variable of that name is bound where the user stands.
    #[error("no variable `{name}` here; there {}", bound_text(.known))]
    NoVariable {
        /// The name.
        name: String,
        /// Names that are bound.
        known: Vec<String>,
    },
    /// A value cannot be set at this kind of frame.
    #[error("variables can be set where a line is about to run, not at a {0}; `step` first")]
    NotSettable(&'static str),
    /// The line holds no code.
    #[error("line {line} holds no code; {}", nearest_text(.nearest))]
    NoCode {
        /// The line.
        line: u32,
        /// Lines with code around it, ascending.
        nearest: Vec<u32>,
    },
    /// No such breakpoint.
    #[error("no breakpoint {0}; `breakpoints` lists them")]
    NoBreakpoint(u32),
    /// No such fork.
    #[error("no fork {0}; `forks` lists them")]
    NoFork(usize),
    /// Nothing to undo.
    #[error("nothing to go back to: this is where the session began")]
    NoHistory,
    /// The predictor refused or failed.
    #[error(transparent)]
    Predict(#[from] PredictError),
}

fn bound_text(known: &[String]) -> String {
    match known {
        [] => "are none".into(),
        [one] => format!("is only {one}"),
        _ => format!("are {}", known.join(", ")),
    }
}

fn nearest_text(lines: &[u32]) -> String {
    match lines {
        [] => "the program has no code".into(),
        [one] => format!("the nearest line with code is {one}"),
        [first, rest @ ..] => rest.iter().fold(
            format!("the nearest lines with code are {first}"),
            |text, line| format!("{text} and {line}"),
        ),
    }
}

/// A predicted run under control.
pub struct Debugger<P: Predictor> {
    predictor: P,
    timeline: Timeline<P::Point>,
    lines: BTreeSet<u32>,
    breakpoints: Vec<Breakpoint>,
    last_breakpoint: u32,
    budget: usize,
}

// By hand: what a predictor remembers need not be printable.
impl<P: Predictor> fmt::Debug for Debugger<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Debugger")
            .field("frame", self.frame())
            .field("index", &self.index())
            .field("fork", &self.fork())
            .field("breakpoints", &self.breakpoints)
            .finish_non_exhaustive()
    }
}

impl<P: Predictor> Debugger<P> {
    /// Predicts the first frame and stands there. `lines` are those that can
    /// be stopped at.
    ///
    /// # Errors
    ///
    /// Whatever [`Predictor::start`] fails with: without a first frame there
    /// is nothing to debug.
    pub fn new(
        mut predictor: P,
        lines: BTreeSet<u32>,
        budget: usize,
    ) -> Result<Self, PredictError> {
        let (point, mut frame) = predictor.start()?;
        frame.settle(None)?;
        Ok(Self {
            predictor,
            timeline: Timeline::new(point, frame),
            lines,
            breakpoints: Vec::new(),
            last_breakpoint: 0,
            budget: budget.max(1),
        })
    }

    /// Where the user stands.
    pub fn frame(&self) -> &Frame {
        &self.timeline.current().frame
    }

    /// Number of frames before the current one.
    pub fn index(&self) -> usize {
        self.timeline.current().index
    }

    /// Number of the current fork; 0 is the original run.
    pub fn fork(&self) -> usize {
        self.timeline.current().branch
    }

    /// Goes forward, `count` times over, as one command. Frames known from
    /// before are walked again; unknown ones are predicted.
    pub fn advance(&mut self, motion: Motion, count: usize) -> Moved {
        let origin = self.timeline.cursor();
        let mut frames = 0;
        let mut stop = Stop::Arrived;
        for _ in 0..count {
            stop = self.travel(motion, &mut frames);
            if stop != Stop::Arrived {
                break;
            }
        }
        self.timeline.commit(origin);
        Moved { frames, stop }
    }

    fn travel(&mut self, motion: Motion, passed: &mut usize) -> Stop {
        let from = self.timeline.cursor();
        loop {
            if *passed == self.budget {
                return Stop::Budget(self.budget);
            }
            match self.forward() {
                Ok(true) => *passed += 1,
                Ok(false) => return Stop::Ended,
                Err(error) => return Stop::Failed(error),
            }
            let now = self.frame();
            if let Some(breakpoint) = self.breakpoints.iter().find(|b| b.stops_at(now)) {
                return Stop::Breakpoint(breakpoint.id);
            }
            if motion.arrives(&self.timeline.node(from).frame, now) {
                return Stop::Arrived;
            }
        }
    }

    /// Moves one frame on; `false` at the end of the run. On failure nothing
    /// has changed, and the same question can be asked again.
    fn forward(&mut self) -> Result<bool, PredictError> {
        match self.timeline.current().successor {
            Successor::Node(next) => self.timeline.go(next),
            Successor::End => return Ok(false),
            Successor::Unknown => {
                let Some((point, mut frame)) =
                    self.predictor.next(&self.timeline.current().point)?
                else {
                    self.timeline.end();
                    return Ok(false);
                };
                frame.settle(
                    self.timeline
                        .state_of(frame.activation, self.timeline.cursor()),
                )?;
                self.timeline.extend(point, frame);
            }
        }
        Ok(true)
    }

    /// Where an action leads from here, at once. Nothing moves.
    ///
    /// # Errors
    ///
    /// Whatever [`Predictor::jump`] fails with.
    pub fn jump(&mut self, jump: Jump) -> Result<Landed, CommandError> {
        let node = self.timeline.current();
        Ok(self.predictor.jump(&node.point, &node.frame, jump)?)
    }

    /// Goes over the calls of the line that is about to run, to what follows in the same activation, without the frames
    /// in between. That is another line of play, a fork; a leap that was taken before is taken again.
    ///
    /// # Errors
    ///
    /// Whatever [`Predictor::leap`] fails with, and [`PredictError::CannotJump`] where it leads out of the run.
    pub fn leap(&mut self) -> Result<(), CommandError> {
        let origin = self.timeline.cursor();
        match self.timeline.leapt() {
            Some(known) => self.timeline.go(known),
            None => {
                let leapt = self.predictor.leap(&self.timeline.current().point)?;
                let (point, mut frame) = leapt.ok_or_else(|| {
                    PredictError::CannotJump(
                        "the run seems to end inside this line; `step` into it".into(),
                    )
                })?;
                frame.settle(self.timeline.state_of(frame.activation, origin))?;
                self.timeline.leap(point, frame);
            }
        }
        self.timeline.commit(origin);
        Ok(())
    }

    /// Undoes the last command that moved, whatever it was.
    ///
    /// # Errors
    ///
    /// [`CommandError::NoHistory`] where nothing has moved yet.
    pub fn back(&mut self) -> Result<(), CommandError> {
        if self.timeline.undo() {
            Ok(())
        } else {
            Err(CommandError::NoHistory)
        }
    }

    /// Returns to the first frame of the original run. Forks are kept.
    pub fn reset(&mut self) {
        let origin = self.timeline.cursor();
        self.timeline.go(0);
        self.timeline.commit(origin);
    }

    /// Forks: replaces one variable and stands at the edited frame. The run
    /// as it was predicted before stays on its own fork.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotSettable`] at frames without state,
    /// [`CommandError::NoVariable`] for unknown names, and the predictor's
    /// own.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), CommandError> {
        let node = self.timeline.current();
        if !node.frame.has_state() {
            return Err(CommandError::NotSettable(kind_noun(node.frame.kind)));
        }
        if node.frame.variable(name).is_none() {
            return Err(self.no_variable(name));
        }
        if value == UNCHANGED {
            let reason = format!("`{UNCHANGED}` is no value");
            return Err(PredictError::CannotSet {
                name: name.into(),
                reason,
            }
            .into());
        }
        let (point, mut frame) = self.predictor.set(&node.point, &node.frame, name, value)?;
        // The edit is measured against the frame it replaces.
        frame.settle(Some(&node.frame))?;
        let Some(edited) = frame.locals.iter_mut().find(|v| &*v.name == name) else {
            return Err(PredictError::Malformed(format!(
                "the frame after setting `{name}` does not bind it"
            ))
            .into());
        };
        edited.origin = Origin::Given;
        edited.changed = true;
        let origin = self.timeline.cursor();
        self.timeline.fork(point, frame, name.into(), value.into());
        self.timeline.commit(origin);
        Ok(())
    }

    /// Goes to a fork, to where the user last stood on it.
    ///
    /// # Errors
    ///
    /// [`CommandError::NoFork`] for an unknown number.
    pub fn switch(&mut self, number: usize) -> Result<(), CommandError> {
        let branch = self
            .timeline
            .branches()
            .get(number)
            .ok_or(CommandError::NoFork(number))?
            .visited;
        let origin = self.timeline.cursor();
        self.timeline.go(branch);
        self.timeline.commit(origin);
        Ok(())
    }

    /// All forks, the original run first.
    pub fn forks(&self) -> Vec<Fork> {
        let describe = |(number, branch): (usize, &Branch)| {
            let (first, tip) = (
                self.timeline.node(branch.first),
                self.timeline.node(branch.tip),
            );
            Fork {
                number,
                edit: match &branch.beginning {
                    Beginning::Edit(edit) => Some(ForkEdit {
                        from: edit.from,
                        frame: first.index,
                        line: first.frame.line,
                        name: edit.name.clone(),
                        value: edit.value.clone(),
                    }),
                    _ => None,
                },
                leap: match (&branch.beginning, first.parent) {
                    (&Beginning::Leap { from }, Some(parent)) => Some(ForkLeap {
                        from,
                        frame: first.index - 1,
                        line: self.timeline.node(parent).frame.line,
                    }),
                    _ => None,
                },
                frames: tip.index + 1,
                ended: tip.successor == Successor::End,
                current: number == self.fork(),
            }
        };
        self.timeline
            .branches()
            .iter()
            .enumerate()
            .map(describe)
            .collect()
    }

    /// Adds a breakpoint, or replaces the condition of the one already on
    /// that line.
    ///
    /// # Errors
    ///
    /// [`CommandError::NoCode`] where the line cannot be stopped at.
    pub fn break_at(
        &mut self,
        line: u32,
        condition: Option<Condition>,
    ) -> Result<&Breakpoint, CommandError> {
        self.require_code(line)?;
        let index = match self.breakpoints.iter().position(|b| b.line == line) {
            Some(index) => {
                self.breakpoints[index].condition = condition;
                index
            }
            None => {
                self.last_breakpoint += 1;
                self.breakpoints.push(Breakpoint {
                    id: self.last_breakpoint,
                    line,
                    condition,
                });
                self.breakpoints.len() - 1
            }
        };
        Ok(&self.breakpoints[index])
    }

    /// Checks that a line can be stopped at.
    ///
    /// # Errors
    ///
    /// [`CommandError::NoCode`], with the nearest lines that can.
    pub fn require_code(&self, line: u32) -> Result<(), CommandError> {
        if self.lines.contains(&line) {
            return Ok(());
        }
        let before = self.lines.range(..line).next_back();
        let after = self.lines.range(line..).next();
        Err(CommandError::NoCode {
            line,
            nearest: before.into_iter().chain(after).copied().collect(),
        })
    }

    /// Removes a breakpoint.
    ///
    /// # Errors
    ///
    /// [`CommandError::NoBreakpoint`] for an unknown number.
    pub fn delete(&mut self, id: u32) -> Result<Breakpoint, CommandError> {
        let index = self.breakpoints.iter().position(|b| b.id == id);
        index
            .map(|index| self.breakpoints.remove(index))
            .ok_or(CommandError::NoBreakpoint(id))
    }

    /// All breakpoints, oldest first.
    pub fn breakpoints(&self) -> &[Breakpoint] {
        &self.breakpoints
    }

    /// What is visible where the user stands. Where the frame shows a value,
    /// this is the state of *its own* activation before its last line, never
    /// that of another call.
    pub fn scope(&self) -> Scope<'_> {
        let frame = self.frame();
        if frame.has_state() {
            return Scope {
                variables: &frame.locals,
                as_of: None,
            };
        }
        match self
            .timeline
            .state_of(frame.activation, self.timeline.cursor())
        {
            Some(state) => Scope {
                variables: &state.locals,
                as_of: Some(state.line),
            },
            None => Scope {
                variables: &[],
                as_of: None,
            },
        }
    }

    /// The variable called `name` where the user stands.
    ///
    /// # Errors
    ///
    /// [`CommandError::NoVariable`], with the names there are.
    pub fn variable(&self, name: &str) -> Result<&Variable, CommandError> {
        let found = self
            .scope()
            .variables
            .iter()
            .find(|variable| &*variable.name == name);
        found.ok_or_else(|| self.no_variable(name))
    }

    fn no_variable(&self, name: &str) -> CommandError {
        let known = self
            .scope()
            .variables
            .iter()
            .map(|v| v.name.to_string())
            .collect();
        CommandError::NoVariable {
            name: name.into(),
            known,
        }
    }

    /// The call stack: the current frame, then the line each caller stands
    /// on, innermost first.
    pub fn stack(&self) -> Vec<&Frame> {
        let mut stack: Vec<&Frame> = Vec::new();
        for node in self.timeline.path_back(self.timeline.cursor()) {
            if stack
                .last()
                .is_none_or(|inner| node.frame.depth < inner.depth)
            {
                stack.push(&node.frame);
            }
        }
        stack
    }

    /// All that was predicted on the current fork, also beyond the cursor,
    /// and the index of the first frame that was edited by hand or leapt to.
    pub fn predicted(&self) -> (Run, Option<usize>) {
        let tip = self.timeline.branches()[self.fork()].tip;
        let mut frames: Vec<Frame> = self
            .timeline
            .path_back(tip)
            .map(|node| node.frame.clone())
            .collect();
        frames.reverse();
        let end = match self.timeline.node(tip).successor {
            Successor::End => RunEnd::Finished,
            Successor::Unknown | Successor::Node(_) => RunEnd::Stopped,
        };
        (Run { frames, end }, self.timeline.first_change())
    }

    /// Whether the frame at `index` on the current path was leapt to.
    pub(crate) fn begins_with_leap(&self, index: Option<usize>) -> bool {
        let mut path = self.timeline.path_back(self.timeline.cursor());
        let found = path.find(|node| Some(node.index) == index);
        found.is_some_and(|node| {
            let branch = &self.timeline.branches()[node.branch];
            matches!(branch.beginning, Beginning::Leap { .. })
        })
    }
}

fn kind_noun(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Unwind | EventKind::Exception => "raised exception",
        other => other.name(),
    }
}
