//! One run against its recording: every frame predicted from the real ones before it, and the whole run
//! from its own frames.

use std::collections::{BTreeMap, HashMap};

use cwm_engine::BackendError;
use cwm_engine::live::{LiveError, Predicted, Predictor};
use cwm_trace::live::{Document, LineKind, Outline};
use cwm_trace::{Event, EventKind, Local, type_of};

/// Frames a free run may take beyond the real length before it is given up.
const SLACK: usize = 8;

/// How the prediction of one run fared.
#[derive(Clone, Debug)]
pub(crate) struct RunScore {
    /// Each frame but the first, which is given.
    pub(crate) frames: Vec<FrameScore>,
    /// Right frames of the free run before its first wrong one.
    pub(crate) right: usize,
    /// Whether the free run is right to its end.
    pub(crate) exact: bool,
    /// Whether the free run came to an end.
    pub(crate) ended: bool,
    /// Whether its value is the real one; `None` where the real run gives none.
    pub(crate) output: Option<bool>,
    /// Whether the real value is the first argument.
    pub(crate) is_echo: bool,
    /// Whether the program could be shown to the model.
    pub(crate) readable: bool,
}

/// How the prediction of one frame fared, given the real frames before it.
#[derive(Clone, Debug)]
pub(crate) struct FrameScore {
    /// What really happened.
    pub(crate) kind: EventKind,
    /// Activations below it on the stack.
    pub(crate) depth: usize,
    /// Whether kind, line, state and value are right.
    pub(crate) frame: bool,
    /// Whether kind and line are right.
    pub(crate) action: bool,
    /// Whether the locals are right, where the kind shows them.
    pub(crate) state: Option<bool>,
    /// What the model held the frame to be worth; `None` where it made none.
    pub(crate) probability: Option<f32>,
    /// Type of each value that is new, and whether it is right.
    pub(crate) values: Vec<(&'static str, bool)>,
    /// What those who know nothing would have got.
    pub(crate) trivial: Trivial,
}

/// Predictions that need no model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trivial {
    /// The next line of the source with the locals as they were: the whole frame.
    pub(crate) next_line_frame: bool,
    /// The same: kind and line.
    pub(crate) next_line_action: bool,
    /// The locals as they were; `None` where the frame shows none.
    pub(crate) unchanged_state: Option<bool>,
}

/// Scores the prediction of a recorded run; without a predictor the program cannot be shown to the model,
/// and everything is wrong.
///
/// # Errors
/// When a device fails: the model has not been asked then.
pub(crate) fn score(
    predictor: Option<&Predictor>,
    document: &Document,
) -> Result<RunScore, BackendError> {
    let real_output = real_output(document);
    let free = match predictor {
        Some(predictor) => free_run(predictor, document)?,
        None => FreeRun::default(),
    };
    Ok(RunScore {
        frames: teacher_forced(predictor, document)?,
        right: free.right,
        exact: predictor.is_some() && free.wrong_at.is_none(),
        ended: free.ended,
        // A run that raises has no output to be right about.
        output: real_output.map(|real| free.output.as_deref() == Some(real)),
        is_echo: is_echo(document, real_output),
        readable: predictor.is_some(),
    })
}

/// What the model came up with; nothing where it cannot. That a device fails is no fault of the model.
pub(crate) fn answer<T>(result: Result<T, LiveError>) -> Result<Option<T>, BackendError> {
    match result {
        Ok(answer) => Ok(Some(answer)),
        Err(LiveError::Engine(cwm_engine::Error::Backend(error))) => Err(error),
        Err(_) => Ok(None),
    }
}

fn teacher_forced(
    predictor: Option<&Predictor>,
    document: &Document,
) -> Result<Vec<FrameScore>, BackendError> {
    let mut past = Past::new(&document.source);
    let mut at = predictor.map(|predictor| (predictor, predictor.blank()));
    let mut frames = Vec::new();
    for (index, event) in document.events.iter().enumerate() {
        if index > 0 {
            let predicted = match &at {
                Some((predictor, point)) => answer(predictor.peek(point))?.flatten(),
                None => None,
            };
            frames.push(past.judge(predicted.as_ref(), event));
        }
        past.add(event);
        if let Some((predictor, point)) = at.take() {
            at = answer(predictor.follow(&point, event))?.map(|point| (predictor, point));
        }
    }
    Ok(frames)
}

/// What is known of a run before a frame: who is on the stack, where, and with what.
struct Past {
    outline: Outline,
    stack: Vec<u32>,
    activations: HashMap<u32, Event>,
}

impl Past {
    fn new(source: &str) -> Self {
        Self {
            outline: Outline::new(source),
            stack: Vec::new(),
            activations: HashMap::new(),
        }
    }

    fn add(&mut self, event: &Event) {
        if event.kind.enters() {
            self.stack.push(event.activation);
        }
        if event.kind.leaves() {
            self.stack.pop();
        }
        if shows_state(event.kind) {
            self.activations.insert(event.activation, event.clone());
        }
    }

    fn judge(&self, predicted: Option<&Predicted>, real: &Event) -> FrameScore {
        let verdict = predicted.map_or_else(Verdict::default, |p| Verdict::new(&p.event, real));
        let enters = usize::from(real.kind.enters());
        FrameScore {
            kind: real.kind,
            depth: (self.stack.len() + enters).saturating_sub(1),
            frame: verdict.frame,
            action: verdict.action,
            state: shows_state(real.kind).then_some(verdict.state),
            probability: predicted.map(|p| p.probability),
            values: self.values(predicted, real),
            trivial: self.trivial(real),
        }
    }

    /// The new values of a frame: locals that are not as they were, and what is handed out.
    fn values(&self, predicted: Option<&Predicted>, real: &Event) -> Vec<(&'static str, bool)> {
        let before = self.locals_of(real.activation);
        let text_in = |locals: &[Local], name: &str| {
            let found = locals.iter().find(|l| &*l.name == name);
            found.map(|l| l.value.detailed().clone())
        };
        let mut values = Vec::new();
        if shows_state(real.kind) {
            for local in &real.locals {
                let text = Some(local.value.detailed().clone());
                if text_in(before, &local.name) != text {
                    let told = predicted.and_then(|p| text_in(&p.event.locals, &local.name));
                    values.push((type_of(local.value.detailed()), told == text));
                }
            }
        }
        if let Some(value) = &real.value {
            let told = predicted.and_then(|p| p.event.value.as_ref());
            let is_right = told.is_some_and(|told| told.detailed() == value.detailed());
            values.push((type_of(value.detailed()), is_right));
        }
        values
    }

    fn locals_of(&self, activation: u32) -> &[Local] {
        let last = self.activations.get(&activation);
        last.map_or(&[], |event| &event.locals)
    }

    fn trivial(&self, real: &Event) -> Trivial {
        let guess = self.stack.last().map(|top| {
            let last = self.activations.get(top);
            Event {
                kind: EventKind::Line,
                activation: *top,
                function: last.map_or(0, |event| event.function),
                line: self.line_after(last.map_or(0, |event| event.line)),
                locals: self.locals_of(*top).to_vec(),
                value: None,
            }
        });
        let verdict = guess.map_or_else(Verdict::default, |guess| Verdict::new(&guess, real));
        let shows = shows_state(real.kind) && !real.kind.enters();
        Trivial {
            next_line_frame: verdict.frame,
            next_line_action: verdict.action,
            unchanged_state: shows
                .then(|| states_equal(self.locals_of(real.activation), &real.locals)),
        }
    }

    /// The first line below that has code of its own.
    fn line_after(&self, line: u32) -> u32 {
        let is_code = |number: &u32| {
            let info = self.outline.line(*number);
            info.is_none_or(|i| !matches!(i.kind, LineKind::Blank | LineKind::Continuation))
        };
        (line + 1..).find(is_code).unwrap_or(line + 1)
    }
}

#[derive(Default)]
struct FreeRun {
    right: usize,
    wrong_at: Option<usize>,
    ended: bool,
    output: Option<String>,
}

fn free_run(predictor: &Predictor, document: &Document) -> Result<FreeRun, BackendError> {
    let real = &document.events;
    let mut run = FreeRun::default();
    let Some(first) = real.first() else {
        return Ok(run);
    };
    let mut point = answer(predictor.follow(&predictor.blank(), first))?;
    for index in 1..real.len() * 2 + SLACK {
        let Some(before) = point else {
            break;
        };
        let Some((at, predicted)) = answer(predictor.next(&before))?.flatten() else {
            break;
        };
        let is_right = real
            .get(index)
            .is_some_and(|e| Verdict::new(&predicted.event, e).frame);
        if run.wrong_at.is_none() {
            if is_right {
                run.right += 1;
            } else {
                run.wrong_at = Some(index);
            }
        }
        if at.is_over() {
            run.ended = true;
            run.output = output_of(&predicted.event).map(str::to_owned);
            break;
        }
        point = Some(at);
    }
    let short = run.right + 1 < real.len();
    if run.wrong_at.is_none() && (short || !run.ended) {
        run.wrong_at = Some(run.right + 1);
    }
    Ok(run)
}

#[derive(Default)]
struct Verdict {
    frame: bool,
    action: bool,
    state: bool,
}

impl Verdict {
    fn new(predicted: &Event, real: &Event) -> Self {
        let action = predicted.kind == real.kind && predicted.line == real.line;
        let state = states_equal(&predicted.locals, &real.locals);
        let text = |e: &Event| e.value.as_ref().map(|v| v.detailed().clone());
        let value = text(predicted) == text(real);
        Self {
            frame: action && state && value,
            action,
            state,
        }
    }
}

/// Same names with the same texts; the order of names is no part of a state.
fn states_equal(one: &[Local], other: &[Local]) -> bool {
    fn state(locals: &[Local]) -> BTreeMap<&str, &str> {
        let texts = locals.iter().map(|l| (&*l.name, &**l.value.detailed()));
        texts.collect()
    }
    state(one) == state(other)
}

fn shows_state(kind: EventKind) -> bool {
    matches!(kind, EventKind::Call | EventKind::Resume | EventKind::Line)
}

/// What the entry scope returned; `None` where it raised or was not seen to end.
fn real_output(document: &Document) -> Option<&str> {
    let last = document.events.last().filter(|_| document.complete);
    last.and_then(output_of)
}

fn output_of(event: &Event) -> Option<&str> {
    (event.kind == EventKind::Return).then(|| event.value.as_ref().map(|v| &**v.detailed()))?
}

/// Whether the output is merely the first argument (never so for a module).
fn is_echo(document: &Document, output: Option<&str>) -> bool {
    let first = document.events.first().and_then(|e| e.locals.first());
    first.is_some_and(|l| Some(&**l.value.detailed()) == output)
}
