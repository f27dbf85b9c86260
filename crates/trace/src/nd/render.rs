//! Writes documents.

use std::sync::Arc;

use super::tokens::*;
use super::{
    Action, Document, Exit, InverseAction, InverseExit, InverseFrame, Run, Shown, Stop, Walk,
};
use crate::cwm::{
    ACTION_SEP, ARG_SEP, BEGIN_OF_TEXT, CALL_SEP, END_OF_TEXT, EXCEPTION_SEP, FRAME_SEP, Frame,
    LINE_SEP, Locals, RETURN_SEP, TRACE_CONTEXT_START,
};
use crate::markup::{UNCHANGED, json};

/// Writes a document from the beginning of the text on.
pub fn render(document: &Document) -> String {
    let mut out = [BEGIN_OF_TEXT, TRACE_CONTEXT_START, "\n"].concat();
    out.push_str(&SPECIALS.escape(&document.context));
    out.push_str(FRAME_SEP);
    match &document.run {
        None => {}
        Some(Run::Forward(walk)) => {
            let mut memory = Memory::default();
            let frame = |led: Option<&Action>, frame: &Frame, out: &mut String| {
                memory.goes_by(led);
                write_frame(frame, memory.shown.as_ref(), out);
                memory.shows(frame);
            };
            write_walk(walk, frame, write_action, |exit| exit.token(), &mut out);
        }
        Some(Run::Inverse(walk)) => {
            let frame = |_: Option<&InverseAction>, frame: &InverseFrame, out: &mut String| {
                write_inverse_frame(frame, out);
            };
            let action = |action: &InverseAction, out: &mut String| out.push_str(action.token());
            write_walk(walk, frame, action, |exit| exit.token(), &mut out);
        }
    }
    out
}

/// Writes what follows the separator behind the source.
fn write_walk<F, A, E>(
    walk: &Walk<F, A, E>,
    mut frame: impl FnMut(Option<&A>, &F, &mut String),
    action: impl Fn(&A, &mut String),
    exit_token: impl Fn(&E) -> &'static str,
    out: &mut String,
) {
    frame(None, &walk.start, out);
    for (led, reached) in &walk.moves {
        out.push_str(ACTION_SEP);
        action(led, out);
        out.push_str(FRAME_SEP);
        frame(Some(led), reached, out);
    }
    out.push_str(ACTION_SEP);
    let (asked, exit) = match &walk.stop {
        Stop::Here => return,
        Stop::Asked(asked) => (asked, None),
        Stop::Exit(asked, exit) => (asked, Some(exit)),
    };
    action(asked, out);
    out.push_str(FRAME_SEP);
    if let Some(exit) = exit {
        out.extend([exit_token(exit), TRACE_END, END_OF_TEXT]);
    }
}

/// The state that `..` stands for in the next frame of a forward run: what its scope showed last, as long
/// as no other scope and no jump has come between. Writer and reader keep the same.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) shown: Option<Locals>,
}

impl Memory {
    /// Takes note of the action that leads to the next frame.
    pub(super) fn goes_by(&mut self, action: Option<&Action>) {
        if let Some(Action::Breakpoint(_)) = action {
            self.shown = None;
        }
    }

    /// Takes note of a frame.
    pub(super) fn shows(&mut self, frame: &Frame) {
        match frame {
            Frame::Call { locals, .. } | Frame::Line { locals, .. } => {
                self.shown = Some(locals.clone());
            }
            Frame::Return { .. } => self.shown = None,
            Frame::Exception { .. } => {}
        }
    }
}

fn write_frame(frame: &Frame, shown: Option<&Locals>, out: &mut String) {
    match frame {
        Frame::Call { locals, src } => {
            out.push_str(CALL_SEP);
            write_source(src, out);
            write_locals(locals, false, out);
        }
        Frame::Line { locals, src } => {
            out.push_str(LINE_SEP);
            match shown.and_then(|shown| changes(shown, locals)) {
                Some(changes) => {
                    let rest = changes.len() < locals.len();
                    write_locals(changes, rest, out);
                }
                None => write_locals(locals, false, out),
            }
            write_source(src, out);
        }
        Frame::Return { src, value } => {
            out.push_str(RETURN_SEP);
            write_source(src, out);
            write_value(value, out);
        }
        Frame::Exception { src, value } => {
            out.push_str(EXCEPTION_SEP);
            write_source(src, out);
            write_value(value, out);
        }
    }
}

fn write_inverse_frame(frame: &InverseFrame, out: &mut String) {
    match frame {
        InverseFrame::Return { src, value } => {
            out.push_str(INV_RETURN_SEP);
            write_source(src, out);
            write_value(value, out);
        }
        InverseFrame::Exception { src, value } => {
            out.push_str(INV_EXCEPTION_SEP);
            write_source(src, out);
            write_value(value, out);
        }
        InverseFrame::LineCall { src, shown } => {
            out.push_str(INV_LINE_CALL_SEP);
            write_source(src, out);
            write_shown(shown, out);
        }
        InverseFrame::Line { src, shown } => {
            out.push_str(INV_LINE_SEP);
            write_source(src, out);
            write_shown(shown, out);
        }
        InverseFrame::Call { src, locals } => {
            out.push_str(INV_CALL_SEP);
            write_source(src, out);
            write_locals(locals, false, out);
        }
    }
}

fn write_source(src: &str, out: &mut String) {
    out.push_str(SRC_SEP);
    out.push_str(&SPECIALS.escape(src));
}

fn write_value(value: &str, out: &mut String) {
    out.push_str(ARG_SEP);
    json::write_string(value, SPECIALS, out);
}

fn write_shown(shown: &Shown, out: &mut String) {
    write_locals(&shown.listed, shown.rest, out);
}

/// Variables by what was shown last: those that differ, if that tells the state; it does not where one is
/// no longer bound.
fn changes<'a>(shown: &Locals, locals: &'a Locals) -> Option<Vec<&'a (Arc<str>, Arc<str>)>> {
    let known = shown.iter().zip(locals);
    let stays = locals.len() >= shown.len() && known.clone().all(|(old, new)| old.0 == new.0);
    let changed = known.filter(|(old, new)| old.1 != new.1);
    let new = locals.iter().skip(shown.len());
    stays.then(|| changed.map(|(_, new)| new).chain(new).collect())
}

/// Appends an object of variables, with the mark for all others where there are `rest`.
fn write_locals<'a>(
    locals: impl IntoIterator<Item = &'a (Arc<str>, Arc<str>)>,
    rest: bool,
    out: &mut String,
) {
    out.push_str(ARG_SEP);
    out.push('{');
    let mut separator = "";
    if rest {
        for part in [UNCHANGED, UNCHANGED] {
            out.push_str(separator);
            json::write_string(part, SPECIALS, out);
            separator = ": ";
        }
        separator = ", ";
    }
    for (name, value) in locals {
        out.push_str(separator);
        match **name == *UNCHANGED {
            true => json::write_literal_dots(out),
            false => json::write_string(name, SPECIALS, out),
        }
        out.push_str(": ");
        json::write_string(value, SPECIALS, out);
        separator = ", ";
    }
    out.push('}');
}

fn write_action(action: &Action, out: &mut String) {
    out.push_str(action.token());
    if let Action::Breakpoint(src) = action {
        out.push_str(&SPECIALS.escape(src));
    }
}

impl Action {
    /// The token that stands for it; behind that of a breakpoint stands the line.
    pub fn token(&self) -> &'static str {
        match self {
            Self::StepInto => STEP_INTO,
            Self::StepOver => STEP_OVER,
            Self::StepReturn => STEP_RETURN,
            Self::Breakpoint(_) => BREAKPOINT,
            Self::Continue => CONTINUE,
        }
    }
}

impl InverseAction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::StepInto, Self::StepOver, Self::StepCall];

    /// The token that stands for it.
    pub fn token(self) -> &'static str {
        match self {
            Self::StepInto => INV_STEP_INTO,
            Self::StepOver => INV_STEP_OVER,
            Self::StepCall => INV_STEP_CALL,
        }
    }
}

impl Exit {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Normal, Self::Error, Self::Never];

    /// The token that stands for it.
    pub fn token(self) -> &'static str {
        match self {
            Self::Normal => EXIT_NORMAL,
            Self::Error => EXIT_ERROR,
            Self::Never => EXIT_NEVER,
        }
    }
}

impl InverseExit {
    /// The token that stands for it.
    pub fn token(self) -> &'static str {
        INV_EXIT_ENTRY
    }
}
