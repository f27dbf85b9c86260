//! The working of lines: what the parts of their expressions come to.
//!
//! `a[i] + 1 > b` is one line and four operations. A small model that has to
//! take them at one go must learn each combination; one that writes down the
//! value of each part learns each operation once. The steps are made by
//! `python/known.py`, `python/longhand.py` and `python/working.py`, which evaluate literals, operators and harmless
//! built-ins on the values that a focus shows, in a real interpreter.

use std::collections::BTreeMap;
use std::sync::Arc;

use cwm_trace::live::{Document, Focus, LineKind, Machine, Window, Workings};
use cwm_trace::{Event, EventKind};
use cwm_tracer::Interpreter;
use serde::{Serialize, Serializer};

use crate::python::{Python, PythonError};

const SCRIPT: &str = concat!(
    include_str!("../python/known.py"),
    include_str!("../python/longhand.py"),
    include_str!("../python/working.py"),
);

/// Variables and their values.
type Values = Vec<(Arc<str>, Arc<str>)>;

/// A line that ran.
#[derive(Debug)]
struct Line {
    /// What was known when it began.
    focus: Focus,
    /// The calls it made: the function's name and what came back, where that
    /// is the value of the call.
    calls: Vec<(String, Option<Arc<str>>)>,
    /// The events that end its frames: those of its calls, then the one after
    /// which the next line begins.
    ends: Vec<usize>,
}

impl Line {
    /// Whether its last frame has ended.
    fn is_done(&self) -> bool {
        self.ends.len() > self.calls.len()
    }
}

/// As the script wants it: statement, variables, items consumed, calls.
impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let values: BTreeMap<_, _> = self.focus.values.iter().cloned().collect();
        let consumed = self.focus.consumed;
        (&self.focus.text, values, consumed, &self.calls).serialize(serializer)
    }
}

/// A running interpreter that evaluates the parts of lines.
#[derive(Debug)]
pub struct Evaluator(Python);

impl Evaluator {
    /// Starts one.
    ///
    /// # Errors
    /// When the interpreter cannot be started.
    pub fn start(interpreter: &Interpreter) -> Result<Self, PythonError> {
        Python::start(interpreter, SCRIPT, "evaluates parts of lines").map(Self)
    }

    /// The working of each frame of a run that has one.
    ///
    /// # Errors
    /// When the interpreter is gone.
    pub fn workings(&mut self, document: &Document) -> Result<Workings, PythonError> {
        let lines = lines(document);
        let request = (&lines, rebound(&document.source));
        let answer: Vec<Vec<Vec<Arc<str>>>> = self.0.ask(&request)?;
        // A line whose end was not recorded has one part too many.
        let parts = lines.iter().zip(answer);
        let parts = parts.flat_map(|(line, parts)| line.ends.iter().copied().zip(parts));
        Ok(parts.filter(|(_, steps)| !steps.is_empty()).collect())
    }
}

/// Follows a run and notes its lines.
struct Follower<'a> {
    document: &'a Document,
    machine: Machine,
    lines: Vec<Line>,
    /// The line in hand, by activation.
    open: BTreeMap<u32, usize>,
    /// For each activation on the stack, the line whose call it is, if what it
    /// gives back is the value of that call.
    callers: Vec<Option<usize>>,
    /// The variables that a loop's header iterates over, as they were when the
    /// loop began, by activation and line.
    loops: BTreeMap<(u32, u32), Values>,
}

/// The lines of a run, each with what it called.
fn lines(document: &Document) -> Vec<Line> {
    let mut follower = Follower {
        document,
        machine: Machine::new(&document.source),
        lines: Vec::new(),
        open: BTreeMap::new(),
        callers: Vec::new(),
        loops: BTreeMap::new(),
    };
    for (index, event) in document.events.iter().enumerate() {
        follower.event(index, event);
    }
    follower.lines
}

impl Follower<'_> {
    fn event(&mut self, index: usize, event: &Event) {
        if event.kind.enters() {
            self.enter(index, event);
        } else if let Some(line) = self.line_of(event.activation) {
            self.lines[line].ends.push(index);
        }
        if event.kind.leaves() {
            let caller = self.callers.pop().flatten();
            if event.kind == EventKind::Return
                && let Some(call) = caller.and_then(|line| self.lines[line].calls.last_mut())
            {
                call.1 = event.value.as_ref().map(|value| value.detailed().clone());
            }
        }
        let function = self.document.functions.get(event.function as usize);
        let definition = function.map_or(event.line, |f| f.first_line);
        self.machine.feed(event, definition);
        if event.kind == EventKind::Line {
            self.begin(event);
        }
    }

    /// The line in hand of an activation, unless it is done.
    fn line_of(&self, activation: u32) -> Option<usize> {
        let line = *self.open.get(&activation)?;
        (!self.lines[line].is_done()).then_some(line)
    }

    fn enter(&mut self, index: usize, event: &Event) {
        let caller = self.machine.activation();
        let line = caller.and_then(|caller| self.line_of(caller));
        if let Some(line) = line {
            let function = self.document.functions.get(event.function as usize);
            let name = function.map_or_else(String::new, |f| f.name.clone());
            self.lines[line].ends.push(index);
            self.lines[line].calls.push((name, None));
        }
        // What a generator that goes on hands out is no value of a call.
        self.callers
            .push(line.filter(|_| event.kind == EventKind::Call));
    }

    /// A line is about to run.
    fn begin(&mut self, event: &Event) {
        let Some(focus) = self.machine.window().and_then(Window::focus) else {
            return;
        };
        let mut focus = focus.clone();
        let kind = self.machine.outline().line(event.line).map(|l| l.kind);
        let place = (event.activation, event.line);
        // A continued line is no expression by itself. The header of a loop is
        // evaluated once: its values must be those of that time still.
        let is_known = match focus.consumed {
            _ if kind == Some(LineKind::Continuation) => false,
            Some(0) => {
                self.loops.insert(place, iterated(&focus));
                true
            }
            Some(_) => self.loops.get(&place) == Some(&iterated(&focus)),
            None => true,
        };
        if !is_known {
            focus.text = Arc::from("");
        }
        self.open.insert(event.activation, self.lines.len());
        self.lines.push(Line {
            focus,
            calls: Vec::new(),
            ends: Vec::new(),
        });
    }
}

/// The names that a program declares `global` or `nonlocal`: a call may bind
/// them anew. Taken from the text, so there may be some too many.
fn rebound(source: &str) -> Vec<&str> {
    let declared = source.split(['\n', ';', ':']).filter_map(|statement| {
        let statement = statement.trim_start();
        let of = |word| statement.strip_prefix(word);
        of("global ").or_else(|| of("nonlocal "))
    });
    let names = declared.flat_map(|names| names.split('#').next().unwrap_or_default().split(','));
    names.map(str::trim).collect()
}

/// The variables that the header of a `for` loop names behind its `in`.
fn iterated(focus: &Focus) -> Values {
    let (_, iterable) = focus.text.split_once(" in ").unwrap_or_default();
    let words = iterable.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    let values = focus.values.iter();
    let named = values.filter(|(name, _)| words.clone().any(|word| *word == **name));
    named.cloned().collect()
}
