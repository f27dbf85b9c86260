//! The whole run as a `live` document, and its text form.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::outline::{LineKind, Outline};
use crate::{Event, EventKind, Function, Local, Trace, Value};

/// Version of the dialect, written into the first line of the text form.
pub const VERSION: u32 = 1;

/// Name of a module's code object. Its call event has line 0, whatever the
/// interpreter's version says.
const MODULE: &str = "<module>";

/// One run in the `live` dialect.
///
/// Compared with the [`Trace`] it comes from: values are their detailed
/// texts; frames of other files than the first, of comprehensions, generator expressions, lambdas and class
/// bodies are folded into the line that ran them; locals are in the order in
/// which names appeared; every activation on the stack is the caller of the
/// one above it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// The program's text.
    pub source: String,
    /// Functions in order of first call; `first_line` is the line of the
    /// call event.
    pub functions: Vec<Function>,
    /// The frames.
    pub events: Vec<Event>,
    /// Whether the entry scope was seen to end.
    pub complete: bool,
}

impl Document {
    /// Renders a trace into the dialect.
    pub fn from_trace(trace: &Trace) -> Self {
        let source = normalise_newlines(&trace.source);
        let outline = Outline::new(&source);
        let folded: Vec<bool> = trace
            .functions
            .iter()
            .map(|f| f.file != 0 || is_folded(f, &outline))
            .collect();
        let mut builder = Builder::new(source);
        for event in &trace.events {
            let function = event.function as usize;
            match trace.functions.get(function) {
                Some(f) if !folded[function] => builder.push(event, f),
                _ => {}
            }
        }
        let mut document = builder.document;
        document.complete = trace.end.is_complete() && builder.stack.is_empty();
        document
    }
}

/// Lines end as Python ends them, at `\n`, `\r\n` or a lone `\r`; the text
/// form keeps lines, so a file that has any text ends with a newline.
fn normalise_newlines(source: &str) -> String {
    let mut text = source.replace("\r\n", "\n").replace('\r', "\n");
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn is_folded(function: &Function, outline: &Outline) -> bool {
    if function.name == MODULE {
        return false;
    }
    let definition = outline.definition(function.first_line);
    function.name.starts_with('<')
        || outline
            .line(definition)
            .is_some_and(|l| l.kind == LineKind::Class)
}

/// The variable that `super()` captures; no line of a program names it.
const IMPLICIT: &str = "__class__";

/// Applies the full state `new` to `known`, keeping first-appearance order.
fn merge(known: &mut Vec<Local>, new: &[Local]) {
    known.retain(|old| new.iter().any(|l| l.name == old.name));
    for local in new.iter().filter(|l| &*l.name != IMPLICIT) {
        let value = Value::new(local.value.detailed().clone());
        match known.iter_mut().find(|l| l.name == local.name) {
            Some(slot) => slot.value = value,
            None => known.push(Local {
                name: local.name.clone(),
                value,
            }),
        }
    }
}

struct Frame {
    activation: u32,
    function: u32,
    /// Line of its last event.
    line: u32,
    locals: Vec<Local>,
}

/// Builds a well-nested document out of events.
struct Builder {
    document: Document,
    stack: Vec<Frame>,
    suspended: Vec<Frame>,
}

impl Builder {
    fn new(source: String) -> Self {
        Self {
            document: Document {
                source,
                ..Document::default()
            },
            stack: Vec::new(),
            suspended: Vec::new(),
        }
    }

    fn push(&mut self, event: &Event, function: &Function) {
        let mut line = event.line;
        match event.kind {
            EventKind::Call => {
                if function.name == MODULE {
                    line = 0;
                }
                // No recorder numbers two live activations alike; a file may.
                if self.is_live(event.activation) {
                    return;
                }
                let function = intern(&mut self.document.functions, &function.qualname, line);
                let activation = event.activation;
                self.stack.push(Frame {
                    activation,
                    function,
                    line,
                    locals: Vec::new(),
                });
            }
            EventKind::Resume => {
                let Some(at) = self
                    .suspended
                    .iter()
                    .position(|f| f.activation == event.activation)
                else {
                    return;
                };
                let frame = self.suspended.remove(at);
                self.stack.push(frame);
            }
            _ => {
                let Some(depth) = self
                    .stack
                    .iter()
                    .rposition(|f| f.activation == event.activation)
                else {
                    return;
                };
                while self.stack.len() > depth + 1 {
                    self.leave_unseen();
                }
            }
        }
        let Some(top) = self.stack.last_mut() else {
            return;
        };
        top.line = line;
        if event.kind != EventKind::Exception && !(event.kind.leaves() && event.locals.is_empty()) {
            merge(&mut top.locals, &event.locals);
        }
        let locals = match event.kind {
            EventKind::Exception => Vec::new(),
            _ => top.locals.clone(),
        };
        self.document.events.push(Event {
            kind: event.kind,
            activation: event.activation,
            function: top.function,
            line,
            locals,
            value: value_of(event),
        });
        if event.kind.leaves()
            && let Some(frame) = self.stack.pop()
            && event.kind == EventKind::Yield
        {
            self.suspended.push(frame);
        }
    }

    /// Ends the top activation whose own end was not recorded.
    fn leave_unseen(&mut self) {
        if let Some(frame) = self.stack.pop() {
            self.document.events.push(Event {
                kind: EventKind::Unwind,
                activation: frame.activation,
                function: frame.function,
                line: frame.line,
                locals: frame.locals,
                value: None,
            });
        }
    }

    fn is_live(&self, activation: u32) -> bool {
        self.stack
            .iter()
            .chain(&self.suspended)
            .any(|f| f.activation == activation)
    }
}

/// Index of the function of that name and line, listed if it was not yet.
fn intern(functions: &mut Vec<Function>, qualname: &str, line: u32) -> u32 {
    let known = |f: &Function| f.first_line == line && f.qualname == qualname;
    functions.iter().position(known).unwrap_or_else(|| {
        functions.push(named(qualname, line));
        functions.len() - 1
    }) as u32
}

/// The detailed value of a kind of event that has one.
fn value_of(event: &Event) -> Option<Value> {
    let has_value = matches!(
        event.kind,
        EventKind::Return | EventKind::Yield | EventKind::Exception
    );
    has_value.then(|| {
        let text = event
            .value
            .as_ref()
            .map_or_else(|| Arc::from("None"), |v| v.detailed().clone());
        Value::new(text)
    })
}

fn named(qualname: &str, first_line: u32) -> Function {
    let name = qualname.rsplit('.').next().unwrap_or(qualname);
    Function {
        name: name.to_owned(),
        qualname: qualname.to_owned(),
        first_line,
        file: 0,
    }
}

/// Writes the text form.
pub fn render(document: &Document) -> String {
    let mut out = format!("<|live|>{VERSION}\n");
    for (index, line) in document.source.lines().enumerate() {
        let _ = writeln!(out, "{:>4}| {line}", index + 1);
    }
    let mut states = HashMap::new();
    for event in &document.events {
        render_event(&mut out, event, document, &mut states);
    }
    if document.complete {
        out.push_str("<|end|>\n");
    }
    out
}

fn render_event(
    out: &mut String,
    event: &Event,
    document: &Document,
    states: &mut HashMap<u32, Vec<Local>>,
) {
    let line = event.line;
    let state = states.entry(event.activation).or_default();
    let changes = |state: &[Local]| Json::Object(changes(state, &event.locals));
    let value = || {
        Json::String(
            event
                .value
                .as_ref()
                .map_or(String::new(), |v| v.repr.to_string()),
        )
    };
    let _ = match event.kind {
        EventKind::Call => {
            let name = document
                .functions
                .get(event.function as usize)
                .map_or("?", |f| f.qualname.as_str());
            writeln!(
                out,
                "<|call|>{line} {} {name} {}",
                event.activation,
                changes(&[])
            )
        }
        EventKind::Resume => {
            writeln!(
                out,
                "<|resume|>{line} {} {}",
                event.activation,
                changes(&[])
            )
        }
        EventKind::Line => writeln!(out, "<|line|>{line} {}", changes(state)),
        EventKind::Return => writeln!(out, "<|return|>{line} {} {}", changes(state), value()),
        EventKind::Yield => writeln!(out, "<|yield|>{line} {} {}", changes(state), value()),
        EventKind::Unwind => writeln!(out, "<|unwind|>{line} {}", changes(state)),
        EventKind::Exception => writeln!(out, "<|exception|>{line} {}", value()),
    };
    match event.kind {
        EventKind::Exception => {}
        EventKind::Return | EventKind::Unwind => {
            states.remove(&event.activation);
        }
        _ => state.clone_from(&event.locals),
    }
}

/// Names that changed, with their new text; `null` for names that vanished.
fn changes(old: &[Local], new: &[Local]) -> Map<String, Json> {
    let mut map = Map::new();
    for gone in old.iter().filter(|o| !new.iter().any(|n| n.name == o.name)) {
        map.insert(gone.name.to_string(), Json::Null);
    }
    for local in new {
        let same = old
            .iter()
            .any(|o| o.name == local.name && o.value.repr == local.value.repr);
        if !same {
            map.insert(
                local.name.to_string(),
                Json::String(local.value.repr.to_string()),
            );
        }
    }
    map
}

/// What [`parse`] made of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// Everything before the first fault.
    pub document: Document,
    /// The first fault, if there is one.
    pub broken: Option<Broken>,
}

/// Where a text stopped being a `live` document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the live text: {reason}")]
pub struct Broken {
    /// Line of the text, 1-based.
    pub line: usize,
    /// What was expected or wrong.
    pub reason: String,
}

/// Reads the text form. Never panics; a broken text yields what was good.
pub fn parse(text: &str) -> Parsed {
    let mut parser = Parser::default();
    let mut broken = None;
    for (index, line) in text.lines().enumerate() {
        if let Err(reason) = parser.line(index, line) {
            broken = Some(Broken {
                line: index + 1,
                reason,
            });
            break;
        }
    }
    if broken.is_none() && text.is_empty() {
        broken = Some(Broken {
            line: 1,
            reason: "the text is empty".into(),
        });
    }
    Parsed {
        document: parser.document,
        broken,
    }
}

#[derive(Default)]
struct Parser {
    document: Document,
    source_lines: usize,
    stack: Vec<Frame>,
    suspended: Vec<Frame>,
}

impl Parser {
    fn line(&mut self, index: usize, text: &str) -> Result<(), String> {
        if index == 0 {
            return match text.strip_prefix("<|live|>") {
                Some(v) if v == VERSION.to_string() => Ok(()),
                Some(v) => Err(format!(
                    "version `{v}` is not supported, expected {VERSION}"
                )),
                None => Err(format!("expected `<|live|>{VERSION}`")),
            };
        }
        if self.document.complete {
            return Err("text after `<|end|>`".into());
        }
        if text == "<|end|>" {
            self.document.complete = true;
            return Ok(());
        }
        if let Some(rest) = text.strip_prefix("<|") {
            let (mark, rest) = rest.split_once("|>").ok_or("unclosed frame mark `<|`")?;
            return self.frame(mark, rest);
        }
        self.source_line(text)
    }

    fn source_line(&mut self, text: &str) -> Result<(), String> {
        if !self.document.events.is_empty() {
            return Err("expected a frame such as `<|line|>`".into());
        }
        let expected = self.source_lines + 1;
        let (number, line) = text.split_once("| ").ok_or("expected `NUMBER| SOURCE`")?;
        if number.trim_start().parse() != Ok(expected) {
            return Err(format!("expected source line {expected}, found `{number}`"));
        }
        self.document.source.push_str(line);
        self.document.source.push('\n');
        self.source_lines = expected;
        Ok(())
    }

    fn frame(&mut self, mark: &str, rest: &str) -> Result<(), String> {
        let (line, rest) = number(rest)?;
        match mark {
            "call" => self.call(line, rest),
            "resume" => self.resume(line, rest),
            "line" => self.step(EventKind::Line, line, rest),
            "return" => self.step(EventKind::Return, line, rest),
            "yield" => self.step(EventKind::Yield, line, rest),
            "unwind" => self.step(EventKind::Unwind, line, rest),
            "exception" => self.step(EventKind::Exception, line, rest),
            other => Err(format!("unknown frame `<|{other}|>`")),
        }
    }

    fn call(&mut self, line: u32, rest: &str) -> Result<(), String> {
        let (activation, rest) = number(rest)?;
        let (name, rest) = rest.split_once(' ').ok_or("expected a function name")?;
        if self
            .stack
            .iter()
            .chain(&self.suspended)
            .any(|f| f.activation == activation)
        {
            return Err(format!("activation {activation} is called twice"));
        }
        let (changes, _) = payload(EventKind::Call, rest)?;
        let mut locals = Vec::new();
        apply(&mut locals, changes)?;
        let function = intern(&mut self.document.functions, name, line);
        self.stack.push(Frame {
            activation,
            function,
            line,
            locals,
        });
        self.push(EventKind::Call, line, None);
        Ok(())
    }

    fn resume(&mut self, line: u32, rest: &str) -> Result<(), String> {
        let (activation, rest) = number(rest)?;
        let at = self
            .suspended
            .iter()
            .position(|f| f.activation == activation)
            .ok_or_else(|| format!("activation {activation} is not suspended"))?;
        let (changes, _) = payload(EventKind::Resume, rest)?;
        let mut locals = Vec::new();
        apply(&mut locals, changes)?;
        let frame = self.suspended.remove(at);
        self.stack.push(Frame { locals, ..frame });
        self.push(EventKind::Resume, line, None);
        Ok(())
    }

    /// A frame of the running activation.
    fn step(&mut self, kind: EventKind, line: u32, rest: &str) -> Result<(), String> {
        let top = self
            .stack
            .last_mut()
            .ok_or("no activation is on the stack")?;
        let (changes, value) = payload(kind, rest)?;
        apply(&mut top.locals, changes)?;
        self.push(kind, line, value);
        if kind.leaves()
            && let Some(frame) = self.stack.pop()
            && kind == EventKind::Yield
        {
            self.suspended.push(frame);
        }
        Ok(())
    }

    /// Records an event of the running activation.
    fn push(&mut self, kind: EventKind, line: u32, value: Option<Value>) {
        let Some(top) = self.stack.last_mut() else {
            return;
        };
        top.line = line;
        let locals = match kind {
            EventKind::Exception => Vec::new(),
            _ => top.locals.clone(),
        };
        let (activation, function) = (top.activation, top.function);
        self.document.events.push(Event {
            kind,
            activation,
            function,
            line,
            locals,
            value,
        });
    }
}

/// The changes and the value that end a frame, as far as its kind has them.
fn payload(kind: EventKind, text: &str) -> Result<(Map<String, Json>, Option<Value>), String> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Json>();
    let mut next = |what: &str| -> Result<Json, String> {
        values
            .next()
            .ok_or_else(|| format!("expected {what}"))?
            .map_err(|e| format!("expected {what}: {}", without_place(&e.to_string())))
    };
    let changes = match kind {
        EventKind::Exception => Map::new(),
        _ => match next("an object of changes")? {
            Json::Object(map) => map,
            _ => return Err("changes must be a JSON object".into()),
        },
    };
    let value = match kind {
        EventKind::Return | EventKind::Yield | EventKind::Exception => match next("a value")? {
            Json::String(text) => Some(Value::new(text)),
            _ => return Err("a value must be a JSON string".into()),
        },
        _ => None,
    };
    match values.next() {
        None => Ok((changes, value)),
        Some(_) => Err("unexpected text at the end of the frame".into()),
    }
}

/// A JSON error without the place, which counts from the middle of the line.
fn without_place(error: &str) -> &str {
    error
        .rsplit_once(" at line ")
        .map_or(error, |(message, _)| message)
}

fn number(text: &str) -> Result<(u32, &str), String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number = text[..end].parse().map_err(|_| match end {
        0 => format!("expected a number at `{text}`"),
        _ => format!("the number {} is too large", &text[..end]),
    })?;
    Ok((
        number,
        text[end..].strip_prefix(' ').unwrap_or(&text[end..]),
    ))
}

fn apply(locals: &mut Vec<Local>, changes: Map<String, Json>) -> Result<(), String> {
    for (name, change) in changes {
        let at = locals.iter().position(|l| *l.name == *name);
        match (change, at) {
            (Json::Null, Some(at)) => {
                locals.remove(at);
            }
            (Json::String(text), Some(at)) => locals[at].value = Value::new(text),
            (Json::String(text), None) => {
                locals.push(Local {
                    name: Arc::from(name),
                    value: Value::new(text),
                });
            }
            (Json::Null, None) => {
                return Err(format!("`{name}` cannot vanish, for it is not bound"));
            }
            (_, _) => {
                return Err(format!(
                    "the change of `{name}` must be a JSON string or null"
                ));
            }
        }
    }
    Ok(())
}
