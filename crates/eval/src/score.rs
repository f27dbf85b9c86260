//! One run against its recording.

use std::collections::BTreeMap;

use cwm_engine::BackendError;
use cwm_engine::live::{LiveError, Point, Predictor};
use cwm_trace::live::Document;
use cwm_trace::{Event, EventKind};

use crate::Report;

/// Frames a free run may take beyond the real length before it is given up.
const SLACK: usize = 8;

/// Scores the prediction of a recorded run into `report`: every frame from
/// the real ones before it, and the whole run from its own frames.
///
/// # Errors
/// When a device fails: the model has not been asked then.
pub(crate) fn score(
    predictor: &Predictor,
    document: &Document,
    report: &mut Report,
) -> Result<(), BackendError> {
    teacher_forced(predictor, &document.events, report)?;
    let real_output = real_output(document);
    let free = free_run(predictor, document)?;
    let exact = free.wrong_at.is_none();
    report.trace_exact.add(exact);
    report.valid_format.add(free.ended);
    report.frames_before_divergence += free.right as u64;
    // A run that raises has no output to be right about.
    if let Some(real) = real_output {
        let is_right = free.output.as_deref() == Some(real);
        report.output_exact.add(is_right);
        if !is_echo(document, real_output) {
            report.output_exact_non_echo.add(is_right);
        }
    }
    Ok(())
}

/// What the model came up with; nothing where it cannot. That a device fails is no fault of the model.
pub(crate) fn answer<T>(result: Result<T, LiveError>) -> Result<Option<T>, BackendError> {
    match result {
        Ok(answer) => Ok(Some(answer)),
        Err(LiveError::Engine(cwm_engine::Error::Backend(error))) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Counts a recorded run that the model cannot read: wrong in everything.
pub(crate) fn score_unreadable(document: &Document, report: &mut Report) {
    report.unreadable += 1;
    report.trace_exact.add(false);
    report.valid_format.add(false);
    let real_output = real_output(document);
    if real_output.is_some() {
        report.output_exact.add(false);
        if !is_echo(document, real_output) {
            report.output_exact_non_echo.add(false);
        }
    }
    for event in document.events.iter().skip(1) {
        report.frame_exact.add(false);
        report.action_exact.add(false);
        if shows_state(event.kind) {
            report.state_exact.add(false);
        }
    }
}

fn teacher_forced(
    predictor: &Predictor,
    events: &[Event],
    report: &mut Report,
) -> Result<(), BackendError> {
    let mut point = Some(predictor.blank());
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            let predicted = match &point {
                Some(point) => answer(predictor.peek(point))?.flatten(),
                None => None,
            };
            let verdict = predicted.map_or(Verdict::default(), |p| Verdict::new(&p.event, event));
            report.frame_exact.add(verdict.frame);
            report.action_exact.add(verdict.action);
            if shows_state(event.kind) {
                report.state_exact.add(verdict.state);
            }
        }
        point = follow(predictor, point, event)?;
    }
    Ok(())
}

/// Goes on with a real event, if the model could follow so far.
fn follow(
    predictor: &Predictor,
    point: Option<Point>,
    event: &Event,
) -> Result<Option<Point>, BackendError> {
    let followed = point.map(|point| answer(predictor.follow(&point, event)));
    Ok(followed.transpose()?.flatten())
}

struct FreeRun {
    right: usize,
    wrong_at: Option<usize>,
    ended: bool,
    output: Option<String>,
}

fn free_run(predictor: &Predictor, document: &Document) -> Result<FreeRun, BackendError> {
    let real = &document.events;
    let mut run = FreeRun {
        right: 0,
        wrong_at: None,
        ended: false,
        output: None,
    };
    let Some(first) = real.first() else {
        return Ok(run);
    };
    let mut point = follow(predictor, Some(predictor.blank()), first)?;
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
        let state = same_state(predicted, real);
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
fn same_state(predicted: &Event, real: &Event) -> bool {
    fn state(event: &Event) -> BTreeMap<&str, &str> {
        event
            .locals
            .iter()
            .map(|l| (&*l.name, &**l.value.detailed()))
            .collect()
    }
    state(predicted) == state(real)
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
