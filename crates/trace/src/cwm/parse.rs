//! Reads documents. Never panics; what was good before a fault is kept.

use std::fmt;
use std::sync::Arc;

use super::json::{Fault, Reader, Text, Wrong};
use super::scopes::Scope;
use super::special::{find_special, special_at, unescape};
use super::{
    ACTION_SEP, ARG_SEP, BEGIN_OF_TEXT, CALL_SEP, Document, END_OF_TEXT, EXCEPTION_SEP, FRAME_SEP,
    Frame, LINE_SEP, Locals, RETURN_SEP, Scopes, TRACE_CONTEXT_START,
};

/// What could be read of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Everything before the fault, or everything.
    pub document: Document,
    /// The fault, if there is one. A text that stops between two frames has
    /// none: it is a whole document without an end.
    pub broken: Option<Broken>,
}

/// Where and why a text stops being a trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {reason}")]
pub struct Broken {
    /// Byte offset of the fault in the text.
    pub offset: usize,
    /// What is wrong there.
    pub reason: Reason,
}

/// What can be wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The text ends inside the context or inside a frame.
    #[error("the text is cut off")]
    Cut,
    /// Something else should stand here.
    #[error("expected {wanted}, found {found}")]
    Expected {
        /// What should stand here.
        wanted: &'static str,
        /// The beginning of what does.
        found: Found,
    },
    /// A JSON string holds what it may not.
    #[error("a string holds {0}")]
    InString(&'static str),
    /// A variable is listed twice.
    #[error("the variable `{0}` is listed twice")]
    Twice(Arc<str>),
    /// A variable is said to be unchanged, but its scope has not shown it.
    #[error("the variable `{0}` is `..` but has no earlier value in its scope")]
    NeverShown(Arc<str>),
}

/// The beginning of what stands in the wrong place, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found(String);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_token(&self.0) {
            write!(f, "`{}`", self.0)
        } else {
            write!(f, "{:?}", self.0)
        }
    }
}

fn is_token(text: &str) -> bool {
    special_at(text) == Some(text.len())
}

/// Longest piece of text a message quotes, in characters.
const QUOTED: usize = 20;

/// Reads a text from [`BEGIN_OF_TEXT`] on. White space after [`END_OF_TEXT`]
/// is allowed, so that a file may end with a newline.
pub fn parse(text: &str) -> Parsed {
    let mut document = Document::default();
    let broken = read_document(text, &mut document).err();
    Parsed { document, broken }
}

fn read_document(text: &str, document: &mut Document) -> Result<(), Broken> {
    let mut cursor = Cursor { text, at: 0 };
    cursor.token(BEGIN_OF_TEXT, "`<|begin_of_text|>`")?;
    cursor.token(TRACE_CONTEXT_START, "`<|trace_context_start|>`")?;
    document.context = unescape(cursor.plain()?).into_owned();
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
    let mut cursor = Cursor { text, at: start };
    let frame = if cursor.eat(CALL_SEP) {
        Frame::Call {
            locals: cursor.locals(None)?,
            src: cursor.action()?,
        }
    } else if cursor.eat(LINE_SEP) {
        Frame::Line {
            locals: cursor.locals(Some(scopes.current()))?,
            src: cursor.action()?,
        }
    } else if cursor.eat(RETURN_SEP) {
        Frame::Return {
            src: cursor.action()?,
            value: cursor.value()?,
        }
    } else if cursor.eat(EXCEPTION_SEP) {
        Frame::Exception {
            src: cursor.action()?,
            value: cursor.value()?,
        }
    } else {
        return Err(cursor.missing("the start of a frame"));
    };
    cursor.token(FRAME_SEP, "`<|frame_sep|>`")?;
    scopes.apply(&frame);
    Ok((frame, cursor.at))
}

/// A place in a text.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn token(&mut self, token: &str, wanted: &'static str) -> Result<(), Broken> {
        if self.eat(token) {
            Ok(())
        } else {
            Err(self.missing(wanted))
        }
    }

    /// Takes everything before the next special token.
    fn plain(&mut self) -> Result<&'a str, Broken> {
        let rest = self.rest();
        let Some((length, _)) = find_special(rest) else {
            return Err(Broken {
                offset: self.text.len(),
                reason: Reason::Cut,
            });
        };
        self.at += length;
        Ok(&rest[..length])
    }

    fn action(&mut self) -> Result<Arc<str>, Broken> {
        self.token(ACTION_SEP, "`<|action_sep|>`")?;
        Ok(unescape(self.plain()?).into())
    }

    fn value(&mut self) -> Result<Arc<str>, Broken> {
        self.token(ARG_SEP, "`<|arg_sep|>`")?;
        let value = self.json(|reader| reader.string("a value in double quotes"))?;
        Ok(value.text.into())
    }

    fn locals(&mut self, before: Option<&Scope>) -> Result<Locals, Broken> {
        let start = self.at;
        let pairs = self.json(Reader::object)?;
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

    fn json<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, Fault>,
    ) -> Result<T, Broken> {
        let mut reader = Reader::new(self.text, self.at);
        let value = read(&mut reader).map_err(|fault| self.fault(fault))?;
        self.at = reader.at;
        Ok(value)
    }

    fn nothing_more(&mut self) -> Result<(), Broken> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        if self.rest().is_empty() {
            Ok(())
        } else {
            Err(self.missing("the end of the text"))
        }
    }

    fn missing(&self, wanted: &'static str) -> Broken {
        self.fault(Fault {
            at: self.at,
            what: Wrong::Expected(wanted),
        })
    }

    fn fault(&self, fault: Fault) -> Broken {
        let rest = &self.text[fault.at..];
        let reason = match fault.what {
            _ if rest.is_empty() => Reason::Cut,
            Wrong::Cut => Reason::Cut,
            Wrong::Expected(wanted) => Reason::Expected {
                wanted,
                found: found(rest),
            },
            Wrong::InString(what) => Reason::InString(what),
        };
        Broken {
            offset: fault.at,
            reason,
        }
    }
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

fn found(rest: &str) -> Found {
    let length = special_at(rest).unwrap_or_else(|| {
        let plain = find_special(rest).map_or(rest.len(), |(start, _)| start);
        rest[..plain]
            .char_indices()
            .nth(QUOTED)
            .map_or(plain, |(end, _)| end)
    });
    Found(rest[..length].to_owned())
}
