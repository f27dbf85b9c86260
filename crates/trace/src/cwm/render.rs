//! Writes documents.

use super::scopes::Scope;
use super::{
    ACTION_SEP, ARG_SEP, BEGIN_OF_TEXT, CALL_SEP, Document, END_OF_TEXT, EXCEPTION_SEP, FRAME_SEP,
    Frame, LINE_SEP, Locals, RETURN_SEP, Scopes, TRACE_CONTEXT_START,
};
use crate::markup::special::Specials;
use crate::markup::{UNCHANGED, json};

/// Writes a document from [`BEGIN_OF_TEXT`] on.
pub fn render(document: &Document) -> String {
    let mut out = render_prompt(&document.context);
    let mut scopes = Scopes::new();
    for frame in &document.frames {
        render_frame(frame, &mut scopes, &mut out);
    }
    if document.end {
        out.push_str(END_OF_TEXT);
    }
    out
}

/// Writes what comes before the first frame: what a model is asked with.
pub fn render_prompt(context: &str) -> String {
    [
        BEGIN_OF_TEXT,
        TRACE_CONTEXT_START,
        &Specials::CWM.escape(context),
        FRAME_SEP,
    ]
    .concat()
}

/// Appends one frame, with its closing separator, and goes past it.
pub fn render_frame(frame: &Frame, scopes: &mut Scopes, out: &mut String) {
    match frame {
        Frame::Call { locals, src } => {
            out.push_str(CALL_SEP);
            write_locals(locals, None, out);
            write_action(src, out);
        }
        Frame::Line { locals, src } => {
            out.push_str(LINE_SEP);
            write_locals(locals, Some(scopes.current()), out);
            write_action(src, out);
        }
        Frame::Return { src, value } => {
            out.push_str(RETURN_SEP);
            write_action(src, out);
            write_value(value, out);
        }
        Frame::Exception { src, value } => {
            out.push_str(EXCEPTION_SEP);
            write_action(src, out);
            write_value(value, out);
        }
    }
    out.push_str(FRAME_SEP);
    scopes.apply(frame);
}

/// Appends an object of locals: full values, or only those that differ from
/// what the scope `before` showed.
fn write_locals(locals: &Locals, before: Option<&Scope>, out: &mut String) {
    out.push('{');
    for (place, (name, value)) in locals.iter().enumerate() {
        if place > 0 {
            out.push_str(", ");
        }
        json::write_string(name, Specials::CWM, out);
        out.push_str(": ");
        match before {
            Some(scope) if scope.get(place, name).is_some_and(|(_, old)| old == value) => {
                json::write_string(UNCHANGED, Specials::CWM, out);
            }
            Some(_) if **value == *UNCHANGED => json::write_literal_dots(out),
            _ => json::write_string(value, Specials::CWM, out),
        }
    }
    out.push('}');
}

fn write_action(src: &str, out: &mut String) {
    out.push_str(ACTION_SEP);
    out.push_str(&Specials::CWM.escape(src));
}

fn write_value(value: &str, out: &mut String) {
    out.push_str(ARG_SEP);
    json::write_string(value, Specials::CWM, out);
}
