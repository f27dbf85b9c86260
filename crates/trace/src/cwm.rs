//! The `cwm` dialect: Meta's execution-trace format, as their code writes it.
//!
//! A [`Document`] is a whole trace in the terms of the format: the source with
//! its entry marked, and one [`Frame`] per event, with every `".."` already
//! resolved. [`render`] writes it, [`parse`] reads it back, and for every
//! document `parse(&render(&d))` is `d` again. `specs/cwm.md` specifies the
//! format; its code blocks are run as tests.
//!
//! [`render_frame`] and [`parse_frame`] do the same one frame at a time, for a
//! program that feeds a model or listens to one. [`Stream`] writes a run that is
//! told as changes.

mod parse;
mod render;
mod scopes;
mod stream;

use std::sync::Arc;

pub use self::parse::{Parsed, parse, parse_frame};
pub use self::render::{render, render_frame, render_prompt};
pub(crate) use self::scopes::Scope;
pub use self::scopes::Scopes;
pub use self::stream::{Moment, Stream};
pub use crate::markup::cursor::{Broken, Found, Reason};
pub use crate::markup::source::{MARKER, strip_marker};

use crate::markup::source::Source;
use crate::markup::special::Specials;
use crate::{Event, EventKind, Trace};

/// Opens a text.
pub const BEGIN_OF_TEXT: &str = "<|begin_of_text|>";
/// Ends a text: the scope the trace began with was left.
pub const END_OF_TEXT: &str = "<|end_of_text|>";
/// Comes between [`BEGIN_OF_TEXT`] and the source.
pub const TRACE_CONTEXT_START: &str = "<|trace_context_start|>";
/// Closes the source and every frame.
pub const FRAME_SEP: &str = "<|frame_sep|>";
/// Comes before the source line of a frame.
pub const ACTION_SEP: &str = "<|action_sep|>";
/// Comes before the value of a return or an exception.
pub const ARG_SEP: &str = "<|arg_sep|>";
/// Opens a [`Frame::Call`].
pub const CALL_SEP: &str = "<|call_sep|>";
/// Opens a [`Frame::Line`].
pub const LINE_SEP: &str = "<|line_sep|>";
/// Opens a [`Frame::Return`].
pub const RETURN_SEP: &str = "<|return_sep|>";
/// Opens a [`Frame::Exception`].
pub const EXCEPTION_SEP: &str = "<|exception_sep|>";

/// Whether a text is that of a special token, such as `<|frame_sep|>`.
///
/// Every `<|reserved_special_token_N|>` with N below 256 counts, even where
/// CWM has given that slot a name.
pub fn is_special(text: &str) -> bool {
    Specials::CWM.is_one(text)
}

/// A trace in the terms of the `cwm` format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The source text, with [`MARKER`] at the end of one line: the entry.
    pub context: String,
    /// What happened, in order, with full values.
    pub frames: Vec<Frame>,
    /// Whether the trace was closed by [`END_OF_TEXT`].
    pub end: bool,
}

/// One record of a trace.
///
/// `src` is the physical source line with its indentation and its newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A scope was entered, or a suspended one was entered again.
    Call {
        /// The arguments, or the state of the scope that goes on.
        locals: Locals,
        /// The line of the definition, or the one that was suspended.
        src: Arc<str>,
    },
    /// A line is about to run.
    Line {
        /// The state before the line runs.
        locals: Locals,
        /// The line.
        src: Arc<str>,
    },
    /// A scope was left, for good or until it goes on.
    Return {
        /// The line that left it.
        src: Arc<str>,
        /// `repr` of the value handed out.
        value: Arc<str>,
    },
    /// An exception was raised in, or reached, a scope.
    Exception {
        /// The line that raised it or that called what did.
        src: Arc<str>,
        /// `repr` of the exception.
        value: Arc<str>,
    },
}

impl Frame {
    /// The source line as written in the frame.
    pub fn src(&self) -> &Arc<str> {
        match self {
            Self::Call { src, .. }
            | Self::Line { src, .. }
            | Self::Return { src, .. }
            | Self::Exception { src, .. } => src,
        }
    }

    /// The source line as it stands in the file: no newline and no marker.
    pub fn code(&self) -> &str {
        let src = self.src();
        strip_marker(src.strip_suffix('\n').unwrap_or(src))
    }

    /// The state a call or line frame shows.
    pub fn locals(&self) -> Option<&Locals> {
        match self {
            Self::Call { locals, .. } | Self::Line { locals, .. } => Some(locals),
            Self::Return { .. } | Self::Exception { .. } => None,
        }
    }

    /// The value a return or exception frame shows.
    pub fn value(&self) -> Option<&Arc<str>> {
        match self {
            Self::Return { value, .. } | Self::Exception { value, .. } => Some(value),
            Self::Call { .. } | Self::Line { .. } => None,
        }
    }
}

/// Bound variables in order, each with the text of its value. No name occurs
/// twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locals(Vec<(Arc<str>, Arc<str>)>);

impl Locals {
    /// Takes over pairs, or gives back the first name that occurs twice.
    pub fn from_pairs(pairs: Vec<(Arc<str>, Arc<str>)>) -> Result<Self, Arc<str>> {
        let mut names: Vec<&Arc<str>> = pairs.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(pair[0].clone()),
            None => Ok(Self(pairs)),
        }
    }

    /// Binds a name, last in order if it is new; gives back its old value.
    pub fn insert(&mut self, name: Arc<str>, value: Arc<str>) -> Option<Arc<str>> {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, slot)) => Some(std::mem::replace(slot, value)),
            None => {
                self.0.push((name, value));
                None
            }
        }
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&Arc<str>> {
        self.0
            .iter()
            .find(|(known, _)| &**known == name)
            .map(|(_, value)| value)
    }

    /// All names and values in order.
    pub fn as_slice(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.0
    }

    /// Names and values in order.
    pub fn iter(&self) -> std::slice::Iter<'_, (Arc<str>, Arc<str>)> {
        self.0.iter()
    }

    /// How many names are bound.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is bound.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// As in a Python `dict`, a name that comes again replaces its value.
impl FromIterator<(Arc<str>, Arc<str>)> for Locals {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(pairs: I) -> Self {
        let mut locals = Self::default();
        for (name, value) in pairs {
            locals.insert(name, value);
        }
        locals
    }
}

impl<'a> IntoIterator for &'a Locals {
    type Item = &'a (Arc<str>, Arc<str>);
    type IntoIter = std::slice::Iter<'a, (Arc<str>, Arc<str>)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Document {
    /// Says a recorded run in the terms of the format.
    ///
    /// A resumed scope becomes a call and a yield a return, as `sys.settrace`
    /// reports them; a scope that an exception leaves returns `None`. Values
    /// are plain `repr`s: the format shows no attributes.
    pub fn from_trace(trace: &Trace) -> Self {
        let source = Source::of(trace);
        Self {
            context: source.marked(),
            frames: trace
                .events
                .iter()
                .map(|event| frame(event, &source))
                .collect(),
            end: trace.end.is_complete(),
        }
    }

    /// Number, from 1, of the first line that carries the marker.
    pub fn entry_line(&self) -> Option<u32> {
        let found = self
            .context
            .lines()
            .position(|line| line.ends_with(MARKER))?;
        u32::try_from(found + 1).ok()
    }
}

/// What an event looks like.
pub(crate) fn frame(event: &Event, source: &Source) -> Frame {
    let src = source.line(event);
    let value = || {
        event
            .value
            .as_ref()
            .map_or_else(|| "None".into(), |value| value.repr.clone())
    };
    match event.kind {
        EventKind::Call | EventKind::Resume => Frame::Call {
            locals: locals(event),
            src,
        },
        EventKind::Line => Frame::Line {
            locals: locals(event),
            src,
        },
        EventKind::Return | EventKind::Yield => Frame::Return {
            src,
            value: value(),
        },
        EventKind::Unwind => Frame::Return {
            src,
            value: "None".into(),
        },
        EventKind::Exception => Frame::Exception {
            src,
            value: value(),
        },
    }
}

/// The state that an event shows.
pub(crate) fn locals(event: &Event) -> Locals {
    event
        .locals
        .iter()
        .map(|local| (local.name.clone(), local.value.repr.clone()))
        .collect()
}
