//! Whole predicted runs, and where they part from reality.

use std::collections::HashMap;
use std::sync::Arc;

use cwm_trace::diff::{Step, What, first_divergence};
use cwm_trace::{EventKind, Local, Trace};
use serde::Serialize;

use crate::frame::{Frame, Origin, Variable};
use crate::predictor::{PredictError, Predictor};

/// A predicted run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its frames, from the call of the entry scope.
    pub frames: Vec<Frame>,
    /// Why there are no more.
    pub end: RunEnd,
}

/// Why a [`Run`] has no more frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// The entry scope ended.
    Finished,
    /// Nobody asked for more.
    Stopped,
    /// The prediction failed.
    Failed(PredictError),
}

impl Run {
    /// Text of the value that the entry scope returned. `None` where the run
    /// is not finished or ended with an exception.
    pub fn output(&self) -> Option<&str> {
        let last = self
            .frames
            .last()
            .filter(|_| self.end == RunEnd::Finished)?;
        output_of(last)
    }
}

/// Text of the value that real frames returned; see [`Run::output`].
pub fn real_output(real: &[Frame]) -> Option<&str> {
    real.last().filter(|_| is_whole(real)).and_then(output_of)
}

fn output_of(last: &Frame) -> Option<&str> {
    let (value, _) = last.value.as_ref()?;
    (last.kind == EventKind::Return).then_some(value)
}

/// Predicts a run from its start and keeps at most `max_frames` frames of it;
/// one more is asked for, to tell a run that just fits from one that goes on.
/// Failures end the run and are part of it.
pub fn predict_all<P: Predictor>(predictor: &mut P, max_frames: usize) -> Run {
    let mut frames: Vec<Frame> = Vec::new();
    let mut next = predictor.start().map(Some);
    let end = loop {
        match next {
            Err(error) => break RunEnd::Failed(error),
            Ok(None) => break RunEnd::Finished,
            Ok(Some(_)) if frames.len() >= max_frames => break RunEnd::Stopped,
            Ok(Some((point, mut frame))) => {
                let earlier = frames
                    .iter()
                    .rev()
                    .find(|f| f.activation == frame.activation && f.has_state());
                if let Err(error) = frame.settle(earlier) {
                    break RunEnd::Failed(error);
                }
                frames.push(frame);
                next = predictor.next(&point);
            }
        }
    };
    Run { frames, end }
}

/// A recording as frames, for [`Reality::trace`](crate::Reality::trace).
/// Values are the most telling texts that the recording has.
pub fn observed(trace: &Trace) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::with_capacity(trace.events.len());
    let mut states: HashMap<u32, usize> = HashMap::new();
    let mut stack = 0_u32;
    for event in &trace.events {
        if event.kind.enters() {
            stack += 1;
        }
        let variable = |local: &Local| Variable {
            name: Arc::clone(&local.name),
            value: Arc::clone(local.value.detailed()),
            origin: Origin::Observed,
            changed: false,
        };
        let function = trace.functions.get(event.function as usize);
        let mut frame = Frame {
            kind: event.kind,
            function: function.map_or_else(|| "?".into(), |function| function.name.clone()),
            line: event.line,
            depth: stack.saturating_sub(1),
            activation: event.activation,
            locals: event.locals.iter().map(variable).collect(),
            value: event
                .value
                .as_ref()
                .map(|v| (Arc::clone(v.detailed()), Origin::Observed)),
            probability: None,
            working: Vec::new(),
        };
        frame.mark_changes(states.get(&event.activation).map(|&index| &frames[index]));
        if frame.has_state() {
            states.insert(event.activation, frames.len());
        }
        if event.kind.leaves() {
            stack = stack.saturating_sub(1);
        }
        frames.push(frame);
    }
    frames
}

/// The first point at which a prediction is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Divergence {
    /// Index of the frame, from 0.
    pub frame: usize,
    /// What about the frame is wrong.
    pub aspect: Aspect,
    /// The variable, where one is wrong.
    pub variable: Option<String>,
    /// What was predicted; `None` where nothing was.
    pub predicted: Option<String>,
    /// Probability of `predicted`, where the model gave one.
    pub probability: Option<f32>,
    /// What really is; `None` where nothing is.
    pub real: Option<String>,
    /// Line of the real frame, or of the predicted one past the real end.
    pub line: u32,
    /// Function of that frame.
    pub function: String,
}

/// What a prediction got wrong, in the order in which it is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// One of the runs is over.
    End,
    /// Kind of event or line: control went elsewhere.
    Place,
    /// A variable has another value, or is bound in one run only.
    Variable,
    /// The value returned, yielded or raised.
    Value,
}

/// Where a predicted run first differs from the real one; `None` if it does
/// not, as far as both are known. The comparison within a frame is
/// [`first_divergence`]'s; this adds who said so, how surely, and where.
///
/// A run that was cut short, on either side, is only compared up to the cut:
/// not having been asked is not being wrong.
pub fn compare(run: &Run, real: &[Frame]) -> Option<Divergence> {
    let steps = |frames: &[Frame]| frames.iter().map(step).collect::<Vec<_>>();
    let found = first_divergence(&steps(&run.frames), &steps(real))?;
    let (ours, theirs) = (run.frames.get(found.frame), real.get(found.frame));
    let (aspect, variable) = match found.what {
        What::Kind | What::Line => (Aspect::Place, None),
        What::Variable { name } => (Aspect::Variable, Some(name)),
        What::Value => (Aspect::Value, None),
        What::Length => (Aspect::End, None),
    };
    let over = if ours.is_some() {
        is_whole(real)
    } else {
        run.end != RunEnd::Stopped
    };
    let place = theirs.or(ours).filter(|_| over || aspect != Aspect::End)?;
    let (predicted, probability) = sourced(ours, aspect, variable.as_deref()).unzip();
    Some(Divergence {
        frame: found.frame,
        aspect,
        predicted,
        probability: probability.flatten(),
        real: sourced(theirs, aspect, variable.as_deref()).map(|(text, _)| text),
        variable: variable.map(|name| name.to_string()),
        line: place.line,
        function: place.function.clone(),
    })
}

fn step(frame: &Frame) -> Step {
    let local = |variable: &Variable| (Arc::clone(&variable.name), Arc::clone(&variable.value));
    Step {
        kind: frame.kind,
        line: frame.line,
        locals: frame.locals.iter().map(local).collect(),
        value: frame.value.as_ref().map(|(text, _)| Arc::clone(text)),
    }
}

/// What a frame says about the aspect in question, and how surely.
fn sourced(
    frame: Option<&Frame>,
    aspect: Aspect,
    variable: Option<&str>,
) -> Option<(String, Option<f32>)> {
    let frame = frame?;
    let (text, origin) = match aspect {
        Aspect::End | Aspect::Place => return Some((place(frame), frame.probability)),
        Aspect::Variable => frame
            .variable(variable?)
            .map(|variable| (&variable.value, variable.origin))?,
        Aspect::Value => frame.value.as_ref().map(|(text, origin)| (text, *origin))?,
    };
    let probability = match origin {
        Origin::Predicted { probability } => Some(probability),
        Origin::Observed | Origin::Given => None,
    };
    Some((text.to_string(), probability))
}

/// Whether real frames reach the end of their entry scope. A recording that
/// hit a limit does not.
pub(crate) fn is_whole(real: &[Frame]) -> bool {
    let ends = |last: &Frame| matches!(last.kind, EventKind::Return | EventKind::Unwind);
    real.first().zip(real.last()).is_some_and(|(first, last)| {
        ends(last) && last.activation == first.activation && last.depth == first.depth
    })
}

/// `line 7 in f`, the words by which people and messages call a place.
pub(crate) fn place(frame: &Frame) -> String {
    let Frame { line, function, .. } = frame;
    match frame.kind {
        EventKind::Line => format!("line {line} in {function}"),
        EventKind::Call => format!("call of {function}, line {line}"),
        EventKind::Resume => format!("resume of {function}, line {line}"),
        EventKind::Return => format!("return from {function}, line {line}"),
        EventKind::Yield => format!("yield from {function}, line {line}"),
        EventKind::Unwind => format!("exception leaves {function}, line {line}"),
        EventKind::Exception => format!("exception in {function}, line {line}"),
    }
}

#[cfg(test)]
mod tests {
    use cwm_trace::{End, Entry, Event, Function, Value};

    use super::*;

    fn event(kind: EventKind, activation: u32, line: u32, locals: &[(&str, &str)]) -> Event {
        let local = |&(name, value): &(&str, &str)| Local {
            name: name.into(),
            value: Value::new(value),
        };
        Event {
            kind,
            activation,
            function: activation.min(1),
            line,
            locals: locals.iter().map(local).collect(),
            value: kind.leaves().then(|| Value::new("0")),
        }
    }

    /// `f(1)`, which calls `g()` once.
    fn recording() -> Trace {
        let function = |name: &str| Function {
            name: name.into(),
            qualname: name.into(),
            first_line: 1,
            file: 0,
        };
        Trace {
            python: "3.11.7".into(),
            file: "t.py".into(),
            source: String::new(),
            other_files: Vec::new(),
            entry: Entry::Module,
            thread: None,
            functions: vec![function("f"), function("g")],
            events: vec![
                event(EventKind::Call, 0, 1, &[("a", "1")]),
                event(EventKind::Line, 0, 2, &[("a", "1")]),
                event(EventKind::Call, 1, 5, &[]),
                event(EventKind::Return, 1, 6, &[]),
                event(EventKind::Line, 0, 3, &[("a", "1"), ("b", "0")]),
                event(EventKind::Return, 0, 3, &[]),
            ],
            end: End::Finished,
            stdout: String::new(),
            stderr: String::new(),
        }
    }

    fn finished(frames: Vec<Frame>) -> Run {
        Run {
            frames,
            end: RunEnd::Finished,
        }
    }

    #[test]
    fn a_recording_becomes_observed_frames() {
        let frames = observed(&recording());
        let shape: Vec<_> = frames.iter().map(|f| (&*f.function, f.depth)).collect();
        let expected = [("f", 0), ("f", 0), ("g", 1), ("g", 1), ("f", 0), ("f", 0)];
        assert_eq!(shape, expected);
        let [a, b] = &frames[4].locals[..] else {
            panic!("two variables")
        };
        assert_eq!((a.changed, b.changed), (false, true));
        assert!(frames.iter().all(|frame| frame.probability.is_none()));
        assert_eq!(b.origin, Origin::Observed);
        assert_eq!(real_output(&frames), Some("0"));
        assert_eq!(real_output(&frames[..4]), None, "g returned, f did not");
    }

    #[test]
    fn every_aspect_is_reported_with_both_sides() {
        type Change = fn(&mut Vec<Frame>);
        type Sides<'a> = (Option<&'a str>, Option<&'a str>);
        let cases: [(Change, usize, Aspect, Sides<'_>); 5] = [
            (
                |frames| frames[4].line = 9,
                4,
                Aspect::Place,
                (Some("line 9 in f"), Some("line 3 in f")),
            ),
            (
                |frames| frames[1].locals[0].value = "7".into(),
                1,
                Aspect::Variable,
                (Some("7"), Some("1")),
            ),
            (
                |frames| drop(frames[4].locals.pop()),
                4,
                Aspect::Variable,
                (None, Some("0")),
            ),
            (
                |frames| frames[3].value = None,
                3,
                Aspect::Value,
                (None, Some("0")),
            ),
            (
                |frames| frames.truncate(5),
                5,
                Aspect::End,
                (None, Some("return from f, line 3")),
            ),
        ];
        let real = observed(&recording());
        assert_eq!(compare(&finished(real.clone()), &real), None);
        for (change, frame, aspect, sides) in cases {
            let mut frames = real.clone();
            change(&mut frames);
            let found = compare(&finished(frames), &real).expect("a difference");
            assert_eq!((found.frame, found.aspect), (frame, aspect));
            assert_eq!((found.predicted.as_deref(), found.real.as_deref()), sides);
        }
    }

    #[test]
    fn a_difference_says_how_sure_the_model_was() {
        let real = observed(&recording());
        let mut frames = real.clone();
        frames[4].locals[1].value = "5".into();
        frames[4].locals[1].origin = Origin::Predicted { probability: 0.3 };
        let found = compare(&finished(frames), &real).expect("a difference");
        assert_eq!(found.variable.as_deref(), Some("b"));
        assert_eq!(found.probability, Some(0.3));
    }
}
