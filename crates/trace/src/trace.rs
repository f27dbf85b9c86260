//! [`Trace`] and its parts. Pure data: nothing here renders or parses.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One recorded run, from the call of its entry scope to that scope's end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Version of the interpreter that ran the program, such as `3.11.7`.
    pub python: String,
    /// Name of the traced file, for messages only.
    pub file: String,
    /// Text of the traced file.
    pub source: String,
    /// Further files whose functions appear, where more than one was traced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_files: Vec<SourceFile>,
    /// Which scope was recorded.
    pub entry: Entry,
    /// Which thread this is of, if it is not the main one. Then the entry is the first function of the
    /// traced files that the thread ran; it may have run others after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<Thread>,
    /// Code objects that events refer to by index.
    pub functions: Vec<Function>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// How the recording ended.
    pub end: End,
    /// What the program wrote to standard output (capped).
    pub stdout: String,
    /// What the program wrote to standard error (capped).
    pub stderr: String,
}

impl Trace {
    /// Text of a file by its number in [`Function::file`]; empty where there is no such file.
    pub fn text_of_file(&self, number: u32) -> &str {
        let Some(index) = (number as usize).checked_sub(1) else {
            return &self.source;
        };
        self.other_files.get(index).map_or("", |file| &file.text)
    }

    /// Lines of all files: the traced file first, then the others in order.
    pub fn lines_of_files(&self) -> Vec<Vec<&str>> {
        let others = self.other_files.iter().map(|file| file.text.as_str());
        let texts = std::iter::once(self.source.as_str()).chain(others);
        texts.map(|text| text.lines().collect()).collect()
    }

    /// The number of the file that an event is in.
    pub fn file_of(&self, event: &Event) -> u32 {
        let function = self.functions.get(event.function as usize);
        function.map_or(0, |function| function.file)
    }
}

/// A thread that a program has started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Counted from 1 in order of first appearance; the main thread is 0.
    pub number: u32,
    /// Its name when it first appeared, as `threading` gives it; empty if that does not know it.
    pub name: String,
}

/// A file besides the one that a trace is named after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its path as the interpreter names it.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The scope a trace starts and ends with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The module body: the file run as a script.
    Module,
    /// One call of a function of the module.
    Call {
        /// Name of the function, as bound in the module.
        function: String,
        /// Argument list as Python source, such as `3, sep=','`.
        args: String,
    },
}

/// A code object of the traced file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Bare name: `f`, `<module>`, `<listcomp>`, a class name for its body.
    pub name: String,
    /// Qualified name where the interpreter knows it, else the bare name.
    pub qualname: String,
    /// First line of the definition, 1-based (a decorator line, if any).
    pub first_line: u32,
    /// The file it is in: 0 for [`Trace::file`], `n` for number `n - 1` of [`Trace::other_files`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub file: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Number of the activation (one run of a code object, across all its
    /// suspensions), counted from 0 in order of first call.
    pub activation: u32,
    /// Index into [`Trace::functions`].
    pub function: u32,
    /// Line of the event, 1-based.
    pub line: u32,
    /// Bound locals in binding order: the full state at every kind of event
    /// but `Exception`, where it is empty. `Return`, `Yield` and `Unwind`
    /// carry it so that the effect of an activation's last line is not lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locals: Vec<Local>,
    /// The value returned, yielded or raised; `None` for other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// The kinds of [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A fresh activation begins; locals are its arguments.
    Call,
    /// A suspended generator or coroutine goes on.
    Resume,
    /// A line is about to run; locals are the state before it.
    Line,
    /// The activation ends and hands back a value.
    Return,
    /// The activation hands out a value and is suspended.
    Yield,
    /// The activation ends because an exception passes through it.
    Unwind,
    /// An exception was raised in, or reached, this activation.
    Exception,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Call,
        Self::Resume,
        Self::Line,
        Self::Return,
        Self::Yield,
        Self::Unwind,
        Self::Exception,
    ];

    /// Its name in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Resume => "resume",
            Self::Line => "line",
            Self::Return => "return",
            Self::Yield => "yield",
            Self::Unwind => "unwind",
            Self::Exception => "exception",
        }
    }

    /// Whether the event takes its activation off the stack.
    pub fn leaves(self) -> bool {
        matches!(self, Self::Return | Self::Yield | Self::Unwind)
    }

    /// Whether the event puts its activation on the stack.
    pub fn enters(self) -> bool {
        matches!(self, Self::Call | Self::Resume)
    }
}

/// A bound variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Local {
    /// Its name.
    pub name: Arc<str>,
    /// Its value at the event.
    pub value: Value,
}

/// An object as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// `repr`, addresses removed (`<__main__.Acc object>`), cut with a trailing `...`
    /// when longer than the recorder's cap.
    pub repr: Arc<str>,
    /// The same with instances of the program's own classes written with
    /// their attributes, `Acc(total=3)`; `None` where it equals `repr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Arc<str>>,
    /// Whether the text was cut, or something in it is shown by its type alone because its `repr`
    /// took too long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

impl Value {
    /// A whole value whose attributes need no expansion.
    pub fn new(repr: impl Into<Arc<str>>) -> Self {
        Self {
            repr: repr.into(),
            detail: None,
            truncated: false,
        }
    }

    /// Whether both are made of the very same texts, in the same place of memory: then what is known of one holds for
    /// the other. A recorder shares the texts of what has not changed.
    pub fn shares_texts_with(&self, other: &Self) -> bool {
        let details = match (&self.detail, &other.detail) {
            (None, None) => true,
            (Some(own), Some(others)) => Arc::ptr_eq(own, others),
            _ => false,
        };
        details && Arc::ptr_eq(&self.repr, &other.repr) && self.truncated == other.truncated
    }

    /// The most telling text: with attributes where there are any.
    pub fn detailed(&self) -> &Arc<str> {
        self.detail.as_ref().unwrap_or(&self.repr)
    }
}

/// How a recording ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The entry scope returned.
    Finished,
    /// An exception left the entry scope; its `repr`.
    Raised(String),
    /// `sys.exit` left the entry scope; its status.
    Exited(i32),
    /// The cap on events was reached; the rest of the run is not recorded.
    MaxEvents(u64),
    /// The time limit, in seconds, was reached and the program was stopped.
    Timeout(f64),
    /// The memory limit was reached.
    OutOfMemory,
    /// The interpreter died; what is known of why.
    Crashed(String),
}

impl End {
    /// Whether the trace shows the run to its end.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Finished | Self::Raised(_) | Self::Exited(_))
    }
}
