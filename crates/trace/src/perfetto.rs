//! A recorded run as a timeline: the JSON trace format that Perfetto
//! (<https://ui.perfetto.dev>) and Chrome's `about:tracing` open.
//!
//! A trace holds no clock, so the time axis counts events: event `n` happens
//! at microsecond `n`. Each activation is a slice, each of its lines a slice
//! inside it, and what a line calls lies inside the line's slice. Exceptions
//! are instants. Format: "Trace Event Format", the `B`, `E`, `i` and `M`
//! phases.
//!
//! Promises: slices nest whatever the trace holds; those that a cut recording
//! left open end with it.

use serde_json::{Map, Value as Json, json};

use crate::{Event, EventKind, Trace};

/// Renders a run.
pub fn perfetto(trace: &Trace) -> Json {
    let mut timeline = Timeline {
        files: trace.lines_of_files(),
        events: vec![json!({
            "ph": "M", "pid": 1, "tid": 1, "name": "process_name",
            "args": {"name": trace.file},
        })],
        stack: Vec::new(),
    };
    for (time, event) in trace.events.iter().enumerate() {
        let name = trace
            .functions
            .get(event.function as usize)
            .map_or("?", |f| f.qualname.as_str());
        timeline.event(time, event, trace.file_of(event), name);
    }
    while !timeline.stack.is_empty() {
        timeline.leave(trace.events.len(), Map::new());
    }
    json!({
        "traceEvents": timeline.events,
        "displayTimeUnit": "ms",
        "otherData": {"python": trace.python, "time": "one microsecond is one event"},
    })
}

struct Timeline<'a> {
    files: Vec<Vec<&'a str>>,
    events: Vec<Json>,
    /// For each open activation, whether a line's slice is open in it.
    stack: Vec<bool>,
}

impl Timeline<'_> {
    fn event(&mut self, time: usize, event: &Event, file: u32, name: &str) {
        match event.kind {
            EventKind::Call | EventKind::Resume => {
                self.begin(time, name.to_owned(), locals(event));
                self.stack.push(false);
            }
            EventKind::Line => {
                let Some(open) = self.stack.last_mut() else {
                    return;
                };
                if std::mem::replace(open, true) {
                    self.end(time, Map::new());
                }
                let index = (event.line as usize).wrapping_sub(1);
                let line = self.files.get(file as usize).and_then(|f| f.get(index));
                let text = line.map_or("", |line| line.trim());
                self.begin(time, format!("{}: {text}", event.line), locals(event));
            }
            EventKind::Return | EventKind::Yield | EventKind::Unwind => {
                let value = event.value.as_ref().map(|v| v.detailed().to_string());
                let value = value.map(|v| ("value".to_owned(), Json::String(v)));
                self.leave(time, value.into_iter().collect());
            }
            EventKind::Exception => {
                let value = event.value.as_ref().map(|v| v.detailed().to_string());
                self.events.push(json!({
                    "ph": "i", "s": "t", "pid": 1, "tid": 1, "ts": time,
                    "name": value.unwrap_or_default(), "cat": "exception",
                }));
            }
        }
    }

    fn begin(&mut self, time: usize, name: String, args: Map<String, Json>) {
        self.events.push(json!({
            "ph": "B", "pid": 1, "tid": 1, "ts": time, "name": name, "args": args,
        }));
    }

    fn end(&mut self, time: usize, args: Map<String, Json>) {
        self.events.push(json!({
            "ph": "E", "pid": 1, "tid": 1, "ts": time, "args": args,
        }));
    }

    /// Ends the innermost activation, its line first.
    fn leave(&mut self, time: usize, args: Map<String, Json>) {
        match self.stack.pop() {
            Some(true) => self.end(time, Map::new()),
            Some(false) => {}
            None => return,
        }
        self.end(time, args);
    }
}

fn locals(event: &Event) -> Map<String, Json> {
    let texts = event.locals.iter().map(|local| {
        let text = Json::String(local.value.detailed().to_string());
        (local.name.to_string(), text)
    });
    texts.collect()
}
