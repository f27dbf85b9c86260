//! Reads specifications written as Markdown: a heading names a test, and the
//! fenced blocks under it are its input and what it should give.

#![allow(
    dead_code,
    reason = "each test binary compiles this module and uses a part of it"
)]

use cwm_trace::{End, Entry, Event, EventKind, Function, Local, Trace, Value};

/// A heading with the fenced blocks below it.
#[derive(Debug)]
pub(crate) struct Section {
    /// Text of the heading.
    pub(crate) title: String,
    /// Pairs of language and content; each line of a content ends in a newline.
    pub(crate) blocks: Vec<(String, String)>,
}

impl Section {
    /// Content of the only block of a language.
    pub(crate) fn block(&self, language: &str) -> Option<&str> {
        let mut found = self.blocks.iter().filter(|(known, _)| known == language);
        let (_, content) = found.next()?;
        assert!(
            found.next().is_none(),
            "{}: more than one {language} block",
            self.title
        );
        Some(content)
    }
}

/// The sections of a specification that have blocks.
pub(crate) fn sections(markdown: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in markdown.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => {
                let section = sections
                    .last_mut()
                    .expect("a block before the first heading");
                section.blocks.extend(open.take());
            }
            (Some((_, content)), None) => {
                content.push_str(line);
                content.push('\n');
            }
            (None, None) if line.starts_with('#') => {
                let title = line.trim_start_matches('#').trim().to_owned();
                sections.push(Section {
                    title,
                    blocks: Vec::new(),
                });
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    sections.retain(|section| !section.blocks.is_empty());
    sections
}

/// Builds a trace from a source and a table with one event a line:
///
/// ```text
/// entry f
/// call f 1 {"x": "2"}
/// line f 2 {"x": "2"}
/// return f 2 {"x": "2"} "3"
/// ```
///
/// Locals, a value, both or nothing end a line. A value is its `repr`, or a
/// list of its `repr` and its detailed text. `entry module` records the module; `entry f(2)` is a call whose
/// arguments are known. `end` in the last line says how the run ended if it did not finish, such as
/// `end max_events 9`, `end raised ValueError()`, `end exited 1` or `end timeout 2`.
pub(crate) fn trace(source: &str, table: &str) -> Trace {
    let mut trace = Trace {
        python: "3.11.7".to_owned(),
        file: "example.py".to_owned(),
        source: source.to_owned(),
        other_files: Vec::new(),
        entry: Entry::Module,
        thread: None,
        functions: Vec::new(),
        events: Vec::new(),
        end: End::Finished,
        stdout: String::new(),
        stderr: String::new(),
    };
    let mut activations = Activations::default();
    for row in table.lines() {
        let words: Vec<&str> = row.splitn(4, ' ').collect();
        match words[..] {
            ["entry", "module"] => {}
            ["entry", ..] => trace.entry = entry(&row["entry ".len()..]),
            ["end", "max_events", count] => {
                trace.end = End::MaxEvents(count.parse().expect("a number of events"));
            }
            ["end", "raised", what] => trace.end = End::Raised(what.to_owned()),
            ["end", "exited", status] => {
                trace.end = End::Exited(status.parse().expect("a status"));
            }
            ["end", "timeout", seconds] => {
                trace.end = End::Timeout(seconds.parse().expect("seconds"));
            }
            [kind, function, line, ref rest @ ..] => {
                let line = line.parse().expect("a line number");
                let mut event = event(kind, line, rest.first().copied());
                event.function = function_index(&mut trace.functions, function, line);
                event.activation = activations.of(&event);
                trace.events.push(event);
            }
            _ => panic!("not an event: {row}"),
        }
    }
    trace
}

fn entry(text: &str) -> Entry {
    let (function, args) = match text.split_once('(') {
        Some((function, rest)) => (function, rest.strip_suffix(')').expect("a `)`")),
        None => (text, ""),
    };
    Entry::Call {
        function: function.to_owned(),
        args: args.to_owned(),
    }
}

fn event(kind: &str, line: u32, json: Option<&str>) -> Event {
    let kind: EventKind = serde_json::from_str(&format!("{kind:?}")).expect("a kind of event");
    let mut event = Event {
        kind,
        activation: 0,
        function: 0,
        line,
        locals: Vec::new(),
        value: None,
    };
    for json in serde_json::Deserializer::from_str(json.unwrap_or_default()).into_iter() {
        match json.expect("JSON") {
            serde_json::Value::Object(pairs) => {
                event.locals = pairs
                    .iter()
                    .map(|(name, json)| Local {
                        name: name.as_str().into(),
                        value: value(json),
                    })
                    .collect();
            }
            json => event.value = Some(value(&json)),
        }
    }
    event
}

fn value(json: &serde_json::Value) -> Value {
    let text = |json: &serde_json::Value| json.as_str().expect("a string").to_owned();
    match json.as_array().map(Vec::as_slice) {
        None => Value::new(text(json)),
        Some([repr, detail]) => Value {
            detail: Some(text(detail).into()),
            ..Value::new(text(repr))
        },
        Some(_) => panic!("not a value: {json}"),
    }
}

fn function_index(functions: &mut Vec<Function>, name: &str, first_line: u32) -> u32 {
    let index = functions
        .iter()
        .position(|known| known.name == name)
        .unwrap_or_else(|| {
            let (name, qualname) = (name.to_owned(), name.to_owned());
            functions.push(Function {
                name,
                qualname,
                first_line,
                file: 0,
            });
            functions.len() - 1
        });
    index as u32
}

/// Numbers activations as a recorder does.
#[derive(Default)]
struct Activations {
    made: u32,
    /// Function and activation of each that runs.
    stack: Vec<(u32, u32)>,
    /// The same of each suspended generator.
    suspended: Vec<(u32, u32)>,
}

impl Activations {
    fn of(&mut self, event: &Event) -> u32 {
        let is_its = |&(function, _): &(u32, u32)| function == event.function;
        if event.kind == EventKind::Call {
            self.stack.push((event.function, self.made));
            self.made += 1;
        } else if event.kind == EventKind::Resume {
            let place = self.suspended.iter().position(is_its);
            let resumed = place.expect("a suspended generator");
            self.stack.push(self.suspended.remove(resumed));
        }
        // One whose end the table leaves out lies above.
        let place = self.stack.iter().rposition(is_its);
        let place = place.expect("an open activation");
        let current = self.stack[place];
        if event.kind == EventKind::Yield {
            self.suspended.push(current);
        }
        self.stack
            .truncate(place + usize::from(!event.kind.leaves()));
        current.1
    }
}

/// Checks every section of a specification, of which there must be more than `least`: those with a block
/// called `broken` in one way, the others in another.
pub(crate) fn check_all(spec: &str, least: usize, good: fn(&Section), broken: fn(&Section)) {
    let sections = sections(spec);
    let count = sections.len();
    assert!(count > least, "only {count} sections were found");
    for section in &sections {
        let check = match section.block("broken") {
            Some(_) => broken,
            None => good,
        };
        check(section);
    }
}
