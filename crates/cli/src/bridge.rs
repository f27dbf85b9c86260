//! The engine's predictor and the tracer behind the debugger's traits.

use std::collections::BTreeSet;
use std::sync::Arc;

use cwm_debug::{
    Frame, Landed, Landing, Origin, PredictError, Reality, UNCHANGED, Variable, observed,
};
use cwm_engine::live::{self, LiveError, Point, Predicted, Predictor, literal_repr};
use cwm_trace::live::{Document, Jump, Later, LineKind, Outline};
use cwm_trace::{Entry, EventKind, Local, Trace, Value};

use crate::program::RunArgs;

/// One program's entry under one model.
pub(crate) struct Predicting {
    predictor: Predictor,
    entry: Entry,
}

impl Predicting {
    pub(crate) fn new(predictor: Predictor, entry: Entry) -> Self {
        Self { predictor, entry }
    }
}

impl cwm_debug::Predictor for Predicting {
    type Point = Point;

    fn start(&mut self) -> Result<(Point, Frame), PredictError> {
        let (point, first) = self.predictor.start(&self.entry).map_err(failure)?;
        let mut frame = frame(&first);
        for variable in &mut frame.locals {
            variable.value = first_value(&first, &variable.name);
            variable.origin = Origin::Given;
        }
        Ok((point, frame))
    }

    fn next(&mut self, at: &Point) -> Result<Option<(Point, Frame)>, PredictError> {
        let next = self.predictor.next(at).map_err(failure)?;
        Ok(next.map(|(point, predicted)| (point, frame(&predicted))))
    }

    fn set(
        &mut self,
        at: &Point,
        frame: &Frame,
        name: &str,
        value: &str,
    ) -> Result<(Point, Frame), PredictError> {
        let refuse = |reason: String| PredictError::CannotSet {
            name: name.to_owned(),
            reason,
        };
        if !frame.has_state() {
            return Err(refuse(
                "the activation has ended here; go `back` to a line of it".into(),
            ));
        }
        let value = literal_repr(value).map_err(|e| refuse(e.to_string()))?;
        let point = self.predictor.set(at, name, &value).map_err(failure)?;
        let point = point.ok_or_else(|| refuse("it is not bound here".into()))?;
        let mut frame = frame.clone();
        for variable in frame.locals.iter_mut().filter(|v| *v.name == *name) {
            variable.value = Arc::from(value.as_str());
            variable.origin = Origin::Given;
            variable.changed = true;
        }
        Ok((point, frame))
    }

    fn leap(&mut self, at: &Point) -> Result<Option<(Point, Frame)>, PredictError> {
        let leapt = self.predictor.leap(at).map_err(failure)?;
        Ok(leapt.map(|(point, predicted)| (point, frame(&predicted))))
    }

    fn jump(&mut self, at: &Point, frame: &Frame, jump: Jump) -> Result<Landed, PredictError> {
        let landed = match jump {
            Jump::Ahead(action) => self.predictor.jump(at, action),
            Jump::Behind(action) => {
                let locals = frame.locals.iter().map(|variable| Local {
                    name: variable.name.clone(),
                    value: Value::new(variable.value.clone()),
                });
                let locals: Vec<Local> = locals.collect();
                let later = later(frame, &locals).ok_or_else(|| {
                    PredictError::CannotJump(
                        "one looks back from a line that is about to run, or from a return".into(),
                    )
                })?;
                self.predictor.look_back(later, action)
            }
        };
        let landed = landed.map_err(failure)?;
        Ok(Landed {
            probability: landed.probability,
            landing: match landed.landing {
                live::Landing::Exit(exit) => Landing::Exit(exit),
                live::Landing::State(event) => Landing::State {
                    function: self.predictor.function(&event).to_owned(),
                    event,
                },
            },
        })
    }
}

/// The line, or the value, that a frame shows, for looking back from it.
fn later<'a>(frame: &'a Frame, locals: &'a [Local]) -> Option<Later<'a>> {
    match (frame.kind, &frame.value) {
        (EventKind::Return, Some((value, _))) => Some(Later::Return {
            line: frame.line,
            value,
        }),
        (EventKind::Line, _) => Some(Later::Line {
            line: frame.line,
            locals,
        }),
        _ => None,
    }
}

fn first_value(first: &Predicted, name: &str) -> Arc<str> {
    let found = first.event.locals.iter().find(|l| *l.name == *name);
    found.map_or_else(|| Arc::from(""), |l| l.value.repr.clone())
}

fn failure(error: LiveError) -> PredictError {
    match error {
        LiveError::Engine(cwm_engine::Error::ContextFull { max_positions, .. }) => {
            PredictError::ContextFull {
                limit: max_positions,
            }
        }
        LiveError::Engine(cwm_engine::Error::NothingAllowed { .. }) => {
            PredictError::NothingLegal("the program offers no next line here".into())
        }
        error @ (LiveError::NoJumps | LiveError::InsideLine | LiveError::NoLine(..)) => {
            PredictError::CannotJump(error.to_string())
        }
        error @ (LiveError::Malformed(_) | LiveError::LongValue | LiveError::Endless) => {
            PredictError::Malformed(error.to_string())
        }
        error => PredictError::Other(error.to_string()),
    }
}

/// A predicted frame as the debugger wants it: what it did not touch is
/// marked as unchanged, so that the value's origin stays that of the frame
/// which did.
fn frame(predicted: &Predicted) -> Frame {
    let event = &predicted.event;
    let variable = |local: &cwm_trace::Local| {
        let change = predicted
            .changes
            .iter()
            .find(|(name, _)| *name == local.name);
        let (value, probability) = match change {
            Some((_, probability)) => (local.value.repr.clone(), *probability),
            None => (Arc::from(UNCHANGED), 1.0),
        };
        let origin = Origin::Predicted { probability };
        Variable {
            name: local.name.clone(),
            value,
            origin,
            changed: change.is_some(),
        }
    };
    let value_origin = Origin::Predicted {
        probability: predicted.value_probability.unwrap_or(1.0),
    };
    Frame {
        kind: event.kind,
        function: predicted.function.clone(),
        line: event.line,
        depth: predicted.depth,
        activation: event.activation,
        locals: event.locals.iter().map(variable).collect(),
        value: event.value.as_ref().map(|v| (v.repr.clone(), value_origin)),
        probability: Some(predicted.probability),
        working: predicted.working.clone(),
    }
}

/// The real program, run when asked.
pub(crate) struct Tracing<'a> {
    pub(crate) run: &'a RunArgs,
    pub(crate) file: String,
    pub(crate) source: String,
    pub(crate) entry: Entry,
}

impl Reality for Tracing<'_> {
    fn trace(&mut self) -> Result<Vec<Frame>, String> {
        let trace = self.run.trace(&self.file, &self.source, self.entry.clone());
        trace.map(|t| real_frames(&t)).map_err(|e| format!("{e:#}"))
    }
}

/// The frames of a recorded run as the `live` dialect shows them.
pub(crate) fn real_frames(trace: &Trace) -> Vec<Frame> {
    let document = Document::from_trace(trace);
    observed(&Trace {
        functions: document.functions,
        events: document.events,
        source: document.source,
        ..trace.clone()
    })
}

/// Lines on which a program can stop.
pub(crate) fn code_lines(source: &str) -> BTreeSet<u32> {
    let outline = Outline::new(source);
    let is_code = |&n: &u32| {
        outline
            .line(n)
            .is_some_and(|l| !matches!(l.kind, LineKind::Blank | LineKind::Decorator))
    };
    (1..=outline.len()).filter(is_code).collect()
}
