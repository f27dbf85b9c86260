//! Where a predicted run and a real one first part.
//!
//! Both are lists of [`Step`]s, so a prediction in any dialect can be compared
//! with a recording, or two recordings with each other.

use std::fmt;
use std::sync::Arc;

use crate::{Event, EventKind};

/// What a comparison looks at in one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What happened.
    pub kind: EventKind,
    /// Line of the event, 1-based.
    pub line: u32,
    /// The bound variables with the texts of their values.
    pub locals: Vec<(Arc<str>, Arc<str>)>,
    /// The value returned, yielded or raised.
    pub value: Option<Arc<str>>,
}

impl Step {
    /// The step of a recorded event, with the most telling text of each value.
    pub fn from_event(event: &Event) -> Self {
        let locals = event.locals.iter();
        Self {
            kind: event.kind,
            line: event.line,
            locals: locals
                .map(|l| (l.name.clone(), l.value.detailed().clone()))
                .collect(),
            value: event.value.as_ref().map(|value| value.detailed().clone()),
        }
    }

    fn local(&self, name: &str) -> Option<&Arc<str>> {
        self.locals
            .iter()
            .find(|(known, _)| &**known == name)
            .map(|(_, value)| value)
    }
}

/// The first difference between a prediction and reality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Index of the frame, from 0.
    pub frame: usize,
    /// What differs.
    pub what: What,
    /// What was predicted, for people to read.
    pub predicted: String,
    /// What really happened, for people to read.
    pub real: String,
}

/// The part of a frame that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The kind of event.
    Kind,
    /// The line.
    Line,
    /// A variable has another value, is missing, or should not be there.
    Variable {
        /// Its name.
        name: Arc<str>,
    },
    /// The value returned, yielded or raised.
    Value,
    /// One of the two runs is over.
    Length,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            frame,
            what,
            predicted,
            real,
        } = self;
        write!(f, "frame {frame}: ")?;
        match what {
            What::Kind => write!(f, "the event differs")?,
            What::Line => write!(f, "the line differs")?,
            What::Variable { name } => write!(f, "the variable `{name}` differs")?,
            What::Value => write!(f, "the value differs")?,
            What::Length => write!(f, "one run is over")?,
        }
        write!(f, ": predicted {predicted}, really {real}")
    }
}

/// Finds where two runs first part, or `None` if they are the same.
///
/// Within a frame the event is compared first, then the line, the variables in
/// their real order, and the value. The order of variables does not count.
pub fn first_divergence(predicted: &[Step], real: &[Step]) -> Option<Divergence> {
    let pairs = predicted.iter().zip(real).enumerate();
    let within = pairs
        .map(|(frame, (p, r))| step_divergence(frame, p, r))
        .find(Option::is_some);
    within.flatten().or_else(|| {
        let frame = predicted.len().min(real.len());
        (predicted.len() != real.len()).then(|| Divergence {
            frame,
            what: What::Length,
            predicted: next_of(predicted, frame),
            real: next_of(real, frame),
        })
    })
}

fn step_divergence(frame: usize, predicted: &Step, real: &Step) -> Option<Divergence> {
    let found = |what, predicted, real| {
        Some(Divergence {
            frame,
            what,
            predicted,
            real,
        })
    };
    if predicted.kind != real.kind {
        return found(What::Kind, describe(predicted), describe(real));
    }
    if predicted.line != real.line {
        return found(
            What::Line,
            predicted.line.to_string(),
            real.line.to_string(),
        );
    }
    if let Some(name) = differing_variable(predicted, real) {
        let text = |step: &Step| step.local(name).map_or("nothing".into(), |v| v.to_string());
        return found(
            What::Variable { name: name.clone() },
            text(predicted),
            text(real),
        );
    }
    if predicted.value != real.value {
        let text = |step: &Step| {
            step.value
                .as_ref()
                .map_or("nothing".into(), |v| v.to_string())
        };
        return found(What::Value, text(predicted), text(real));
    }
    None
}

fn differing_variable<'a>(predicted: &'a Step, real: &'a Step) -> Option<&'a Arc<str>> {
    if predicted.locals == real.locals {
        return None;
    }
    let wrong = real
        .locals
        .iter()
        .find(|(name, value)| predicted.local(name) != Some(value));
    let extra = || {
        predicted
            .locals
            .iter()
            .find(|(name, _)| real.local(name).is_none())
    };
    wrong.or_else(extra).map(|(name, _)| name)
}

fn next_of(steps: &[Step], frame: usize) -> String {
    steps
        .get(frame)
        .map_or_else(|| "the end".to_owned(), describe)
}

fn describe(step: &Step) -> String {
    format!("{} at line {}", step.kind.name(), step.line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(kind: EventKind, line: u32, locals: &[(&str, &str)], value: Option<&str>) -> Step {
        let locals = locals
            .iter()
            .map(|&(name, value)| (name.into(), value.into()))
            .collect();
        Step {
            kind,
            line,
            locals,
            value: value.map(Into::into),
        }
    }

    fn run() -> Vec<Step> {
        vec![
            step(EventKind::Call, 1, &[("x", "1")], None),
            step(EventKind::Line, 2, &[("x", "1"), ("y", "2")], None),
            step(EventKind::Return, 2, &[], Some("3")),
        ]
    }

    /// The message about the real [`run`] and one whose steps were changed.
    fn message(change: impl FnOnce(&mut Vec<Step>)) -> Option<String> {
        let mut predicted = run();
        change(&mut predicted);
        first_divergence(&predicted, &run()).map(|divergence| divergence.to_string())
    }

    #[test]
    fn equal_runs_do_not_part() {
        assert_eq!(message(|_| {}), None);
        assert_eq!(message(|steps| steps[1].locals.reverse()), None);
        assert_eq!(first_divergence(&[], &[]), None);
    }

    #[test]
    fn the_first_difference_is_named() {
        type Change = fn(&mut Vec<Step>);
        let cases: [(&str, Change); 8] = [
            (
                "frame 0: the event differs: predicted resume at line 1, really call at line 1",
                |steps| {
                    steps[0].kind = EventKind::Resume;
                    steps[1].line = 9;
                },
            ),
            (
                "frame 1: the line differs: predicted 9, really 2",
                |steps| steps[1].line = 9,
            ),
            (
                "frame 1: the variable `y` differs: predicted 9, really 2",
                |steps| {
                    steps[1].locals[1].1 = "9".into();
                    steps[2].value = None;
                },
            ),
            (
                "frame 1: the variable `y` differs: predicted nothing, really 2",
                |steps| {
                    steps[1].locals.pop();
                },
            ),
            (
                "frame 1: the variable `z` differs: predicted 0, really nothing",
                |steps| {
                    steps[1].locals.push(("z".into(), "0".into()));
                },
            ),
            (
                "frame 2: the value differs: predicted nothing, really 3",
                |steps| {
                    steps[2].value = None;
                },
            ),
            (
                "frame 2: one run is over: predicted the end, really return at line 2",
                |steps| {
                    steps.pop();
                },
            ),
            (
                "frame 3: one run is over: predicted call at line 1, really the end",
                |steps| {
                    steps.push(steps[0].clone());
                },
            ),
        ];
        for (expected, change) in cases {
            assert_eq!(message(change).as_deref(), Some(expected));
        }
    }
}
