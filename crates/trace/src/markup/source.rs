//! The source side of a document: Python's view of lines, and the marker that
//! says where the trace starts.

use std::sync::Arc;

use crate::{Entry, Event, EventKind, Trace};

/// Comment at the end of the line where a trace starts.
pub const MARKER: &str = "  # << START_OF_TRACE";

/// A line without the marker at its end, if there is one.
///
/// The marker is a suffix, not a set of characters: `return CODE` keeps its
/// last letter.
pub fn strip_marker(line: &str) -> &str {
    line.strip_suffix(MARKER).unwrap_or(line)
}

/// The lines of a traced file and which of them is the entry.
#[derive(Debug)]
pub(crate) struct Source {
    /// Each line with one newline, as `linecache.getline` gives it.
    lines: Vec<Arc<str>>,
    /// The same of the further files.
    others: Vec<Vec<Arc<str>>>,
    /// The file of each code object.
    files: Vec<u32>,
    /// Whether the file itself ends its last line.
    ends_with_newline: bool,
    /// Number, from 1, of the line that carries the marker.
    entry: Option<usize>,
    /// Index of the code object of a module that is its own entry.
    module: Option<u32>,
}

impl Source {
    pub(crate) fn of(trace: &Trace) -> Self {
        let text = universal_newlines(&trace.source);
        let lines = lines_of(&text);
        let others = trace.other_files.iter();
        Self {
            others: others
                .map(|file| lines_of(&universal_newlines(&file.text)))
                .collect(),
            files: trace.functions.iter().map(|code| code.file).collect(),
            entry: entry_line(trace, &lines),
            ends_with_newline: text.is_empty() || text.ends_with('\n'),
            module: match trace.entry {
                Entry::Module => trace.events.first().map(|event| event.function),
                Entry::Call { .. } => None,
            },
            lines,
        }
    }

    /// The text with the marker on the entry line and nowhere else.
    pub(crate) fn marked(&self) -> String {
        self.written(self.entry)
    }

    /// The text without a marker.
    pub(crate) fn unmarked(&self) -> String {
        self.written(None)
    }

    /// The lines of all files, each with one newline.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &Arc<str>> {
        self.lines.iter().chain(self.others.iter().flatten())
    }

    fn written(&self, marked: Option<usize>) -> String {
        let size: usize = self.lines.iter().map(|line| line.len()).sum();
        let mut text = String::with_capacity(size + MARKER.len());
        for (number, line) in (1..).zip(&self.lines) {
            text.push_str(line.trim_end_matches('\n'));
            if marked == Some(number) {
                text.push_str(MARKER);
            }
            if number < self.lines.len() || self.ends_with_newline {
                text.push('\n');
            }
        }
        text
    }

    /// The line of an event; empty where the file has no such line.
    pub(crate) fn line(&self, event: &Event) -> Arc<str> {
        let file = self.files.get(event.function as usize).copied();
        self.line_of(file.unwrap_or(0), self.number(event))
    }

    /// The number, from 1, of the line that an event shows.
    pub(crate) fn number(&self, event: &Event) -> usize {
        // Interpreters disagree on the line of a module's call (0 or 1), and
        // neither means anything: the marked line takes its place.
        let module_call = event.kind == EventKind::Call && self.module == Some(event.function);
        match self.entry {
            Some(entry) if module_call => entry,
            _ => event.line as usize,
        }
    }

    /// A line of a file; empty where there is none.
    pub(crate) fn line_of(&self, file: u32, number: usize) -> Arc<str> {
        let lines = match file.checked_sub(1) {
            None => Some(&self.lines),
            Some(other) => self.others.get(other as usize),
        };
        let line = number.checked_sub(1).and_then(|index| lines?.get(index));
        line.cloned().unwrap_or_else(|| "".into())
    }
}

fn lines_of(text: &str) -> Vec<Arc<str>> {
    let lines = text.lines();
    lines
        .map(|line| format!("{}\n", strip_marker(line)).into())
        .collect()
}

/// The text as Python reads it: `\n` for every kind of line end, no byte-order
/// mark.
fn universal_newlines(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn entry_line(trace: &Trace, lines: &[Arc<str>]) -> Option<usize> {
    match &trace.entry {
        Entry::Module => module_line(trace, lines),
        Entry::Call { function, .. } => {
            let code = match trace.events.first() {
                Some(event) => trace.functions.get(event.function as usize),
                None => trace.functions.iter().find(|code| code.name == *function),
            }?;
            Some(definition_line(&code.name, code.first_line as usize, lines))
        }
    }
}

/// The first line the module ran, or its first line that is no comment.
fn module_line(trace: &Trace, lines: &[Arc<str>]) -> Option<usize> {
    let ran = trace
        .events
        .iter()
        .find(|event| event.kind == EventKind::Line);
    ran.map(|event| event.line as usize).or_else(|| {
        let code = |line: &Arc<str>| !matches!(line.trim_start().chars().next(), None | Some('#'));
        lines.iter().position(code).map(|index| index + 1)
    })
}

/// The `def` line of a function whose first line may be that of a decorator.
fn definition_line(name: &str, first: usize, lines: &[Arc<str>]) -> usize {
    let from = first.saturating_sub(1);
    let found = lines.iter().skip(from).position(|line| defines(line, name));
    found.map_or(first, |offset| from + offset + 1)
}

fn defines(line: &str, name: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("async").map_or(line, str::trim_start);
    let Some(after) = line.strip_prefix("def").map(str::trim_start) else {
        return false;
    };
    let Some(after) = after.strip_prefix(name) else {
        return false;
    };
    after.trim_start().starts_with(['(', '[', '\\', '\n'])
}
