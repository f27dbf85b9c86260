//! A recorded run as people read it: the lines in the order in which they
//! ran, indented by call depth, with what changed behind each as a comment.
//!
//! Promises: one line of output for each event, whatever the trace holds; a
//! value is cut, with a visible mark, and never spread over lines.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::{End, Entry, Event, EventKind, Local, Thread, Trace, Value};

/// Values are cut at this many characters unless the caller wants otherwise.
pub const DEFAULT_VALUE_WIDTH: usize = 60;

/// Renders a run. Values longer than `value_width` characters are cut.
pub fn listing(trace: &Trace, value_width: usize) -> String {
    let mut out = heading(trace);
    let mut writer = Writer {
        files: trace.lines_of_files(),
        known: HashMap::new(),
        depth: 0,
        value_width,
    };
    for (index, event) in trace.events.iter().enumerate() {
        let name = trace
            .functions
            .get(event.function as usize)
            .map_or("?", |f| f.qualname.as_str());
        let text = writer.event(event, trace.file_of(event), name);
        let _ = writeln!(out, "{index:>6}  {text}");
    }
    for (stream, text) in [("stdout", &trace.stdout), ("stderr", &trace.stderr)] {
        if !text.is_empty() {
            let _ = writeln!(out, "\n{stream}:\n{}", text.trim_end_matches('\n'));
        }
    }
    out
}

/// What was run, by which interpreter, and how it ended.
fn heading(trace: &Trace) -> String {
    let what = match &trace.entry {
        Entry::Module => trace.file.clone(),
        Entry::Call { function, args } => format!("{function}({args}) in {}", trace.file),
    };
    let what = match &trace.thread {
        None => what,
        Some(Thread { number, name }) if name.is_empty() => {
            format!("thread {number} of {}", trace.file)
        }
        Some(Thread { number, name }) => format!("thread {number} ({name}) of {}", trace.file),
    };
    let python = match trace.python.as_str() {
        "" => String::new(),
        version => format!(", Python {version}"),
    };
    let n = trace.events.len();
    format!("{what}{python}: {n} events, {}\n", ending(&trace.end))
}

/// How the recording ended, in words.
pub fn ending(end: &End) -> String {
    match end {
        End::Finished => "finished".to_owned(),
        End::Raised(what) => format!("raised {what}"),
        End::Exited(status) => format!("exited with status {status}"),
        End::MaxEvents(limit) => format!("cut at the limit of {limit} events"),
        End::Timeout(seconds) => format!("cut after {seconds} s"),
        End::OutOfMemory => "cut at the memory limit".to_owned(),
        End::Crashed(why) => format!("the interpreter died ({why})"),
    }
}

struct Writer<'a> {
    files: Vec<Vec<&'a str>>,
    /// Last known locals by activation.
    known: HashMap<u32, Vec<Local>>,
    depth: usize,
    value_width: usize,
}

impl Writer<'_> {
    fn event(&mut self, event: &Event, file: u32, name: &str) -> String {
        if event.kind.leaves() {
            self.depth = self.depth.saturating_sub(1);
        }
        let indent = "    ".repeat(self.depth);
        if event.kind.enters() {
            self.depth += 1;
        }
        let what = match (event.kind, &event.value) {
            (EventKind::Line, _) => self.source(file, event.line),
            (EventKind::Call, _) => format!("call {name}"),
            (EventKind::Resume, _) => format!("resume {name}"),
            (EventKind::Unwind, _) => format!("unwind {name}"),
            (kind, value) => {
                let verb = match kind {
                    EventKind::Yield => "yield",
                    EventKind::Exception => "exception",
                    _ => "return",
                };
                let value = value.as_ref().map_or_else(String::new, |v| self.value(v));
                format!("{verb} {value}")
            }
        };
        let changes = self.changes(event);
        let comment = if changes.is_empty() { "" } else { "  # " };
        format!("{indent}{what}{comment}{changes}")
    }

    fn source(&self, file: u32, line: u32) -> String {
        let text = (line as usize)
            .checked_sub(1)
            .and_then(|index| self.files.get(file as usize)?.get(index))
            .map_or("", |text| text.trim_end());
        format!("{line:>4} | {text}")
    }

    /// What differs from the activation's last state, which is replaced.
    fn changes(&mut self, event: &Event) -> String {
        if event.kind == EventKind::Exception {
            return String::new();
        }
        let old = self
            .known
            .insert(event.activation, event.locals.clone())
            .unwrap_or_default();
        let is_old = |local: &&Local| old.iter().any(|o| o == *local);
        let bound = event.locals.iter().filter(|l| !is_old(l));
        let bound = bound.map(|l| format!("{} = {}", l.name, self.value(&l.value)));
        let is_bound = |name: &Arc<str>| event.locals.iter().any(|l| l.name == *name);
        let gone = old.iter().filter(|o| !is_bound(&o.name));
        let gone = gone.map(|o| format!("del {}", o.name));
        gone.chain(bound).collect::<Vec<_>>().join(", ")
    }

    fn value(&self, value: &Value) -> String {
        let text = value.detailed();
        let mut shown: String = text.chars().take(self.value_width).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        shown.replace(['\n', '\r'], "⏎")
    }
}
