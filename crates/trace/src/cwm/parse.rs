//! Reads documents. Never panics; what was good before a fault is kept.

use std::sync::Arc;

use super::scopes::Scope;
use super::{
    ACTION_SEP, ARG_SEP, BEGIN_OF_TEXT, CALL_SEP, Document, END_OF_TEXT, EXCEPTION_SEP, FRAME_SEP,
    Frame, LINE_SEP, Locals, RETURN_SEP, Scopes, TRACE_CONTEXT_START,
};
use crate::markup::cursor::{Broken, Cursor, Reason};
use crate::markup::json::{Reader, Text};
use crate::markup::special::Specials;

/// What could be read of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Everything before the fault, or everything.
    pub document: Document,
    /// The fault, if there is one. A text that stops between two frames has
    /// none: it is a whole document without an end.
    pub broken: Option<Broken>,
}

/// Reads a text from [`BEGIN_OF_TEXT`] on. White space after [`END_OF_TEXT`]
/// is allowed, so that a file may end with a newline.
pub fn parse(text: &str) -> Parsed {
    let mut document = Document::default();
    let broken = read_document(text, &mut document).err();
    Parsed { document, broken }
}

fn read_document(text: &str, document: &mut Document) -> Result<(), Broken> {
    let mut cursor = Cursor::new(text, Specials::CWM, 0);
    cursor.token(BEGIN_OF_TEXT, "`<|begin_of_text|>`")?;
    cursor.token(TRACE_CONTEXT_START, "`<|trace_context_start|>`")?;
    document.context = cursor.source()?.into_owned();
    cursor.token(FRAME_SEP, "`<|frame_sep|>` after the source")?;
    let mut scopes = Scopes::new();
    while !cursor.rest().is_empty() {
        if cursor.rest().starts_with(END_OF_TEXT) {
            cursor.at += END_OF_TEXT.len();
            document.end = true;
            return cursor.nothing_more();
        }
        let (frame, next) = parse_frame(text, cursor.at, &mut scopes)?;
        document.frames.push(frame);
        cursor.at = next;
    }
    Ok(())
}

/// Reads the frame that starts at a byte offset of a text, up to and with its
/// closing [`FRAME_SEP`], and goes past it. Gives the frame and the offset of
/// what follows; on an error `scopes` is as before.
///
/// # Panics
///
/// If `start` is past the end of the text or inside a character.
pub fn parse_frame(
    text: &str,
    start: usize,
    scopes: &mut Scopes,
) -> Result<(Frame, usize), Broken> {
    let mut cursor = Cursor::new(text, Specials::CWM, start);
    let frame = if cursor.eat(CALL_SEP) {
        Frame::Call {
            locals: locals(&mut cursor, None)?,
            src: action(&mut cursor)?,
        }
    } else if cursor.eat(LINE_SEP) {
        Frame::Line {
            locals: locals(&mut cursor, Some(scopes.current()))?,
            src: action(&mut cursor)?,
        }
    } else if cursor.eat(RETURN_SEP) {
        Frame::Return {
            src: action(&mut cursor)?,
            value: value(&mut cursor)?,
        }
    } else if cursor.eat(EXCEPTION_SEP) {
        Frame::Exception {
            src: action(&mut cursor)?,
            value: value(&mut cursor)?,
        }
    } else {
        return Err(cursor.missing("the start of a frame"));
    };
    cursor.token(FRAME_SEP, "`<|frame_sep|>`")?;
    scopes.apply(&frame);
    Ok((frame, cursor.at))
}

fn action(cursor: &mut Cursor<'_>) -> Result<Arc<str>, Broken> {
    cursor.token(ACTION_SEP, "`<|action_sep|>`")?;
    cursor.source_line()
}

fn value(cursor: &mut Cursor<'_>) -> Result<Arc<str>, Broken> {
    cursor.token(ARG_SEP, "`<|arg_sep|>`")?;
    cursor.value()
}

fn locals(cursor: &mut Cursor<'_>, before: Option<&Scope>) -> Result<Locals, Broken> {
    let start = cursor.at;
    let pairs = cursor.json(Reader::object)?;
    let pairs = pairs.into_iter().enumerate();
    let pairs = pairs.map(|(place, (name, value))| resolve(place, name, value, before));
    pairs
        .collect::<Result<_, _>>()
        .and_then(|pairs| Locals::from_pairs(pairs).map_err(Reason::Twice))
        .map_err(|reason| Broken {
            offset: start,
            reason,
        })
}

/// The variable a pair stands for. `before` is the scope of a line frame; in a
/// call frame all values are full and `..` is a value like any other.
fn resolve(
    place: usize,
    name: Text<'_>,
    value: Text<'_>,
    before: Option<&Scope>,
) -> Result<(Arc<str>, Arc<str>), Reason> {
    let known = before.and_then(|scope| scope.get(place, &name.text));
    match (known, before) {
        (Some(pair), _) if value.mark => Ok(pair.clone()),
        (None, Some(_)) if value.mark => Err(Reason::NeverShown(name.text.into())),
        (Some((known, _)), _) => Ok((known.clone(), value.text.into())),
        (None, _) => Ok((name.text.into(), value.text.into())),
    }
}
