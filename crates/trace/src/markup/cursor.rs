//! A place in a text that is being read, and what is said of a text that is
//! broken there.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::json::{Fault, Reader, Wrong};
use super::special::Specials;

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
    /// `..` stands where no state has been shown that it could stand for.
    #[error("`..` stands for what was shown before, but here nothing was")]
    NothingShown,
    /// `..` is not the first pair of a state, or not paired with itself.
    #[error("`..` may stand once in a state, as its first pair, `\"..\": \"..\"`")]
    MisplacedMark,
}

/// The beginning of what stands in the wrong place, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    text: String,
    /// Whether it is a special token of the dialect.
    is_special: bool,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_special {
            write!(f, "`{}`", self.text)
        } else {
            write!(f, "{:?}", self.text)
        }
    }
}

/// Longest piece of text a message quotes, in characters.
const QUOTED: usize = 20;

/// A place in a text of a dialect.
pub(crate) struct Cursor<'a> {
    pub(crate) text: &'a str,
    pub(crate) specials: Specials,
    /// Byte offset of what comes next; never inside a character.
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str, specials: Specials, at: usize) -> Self {
        Self { text, specials, at }
    }

    pub(crate) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(crate) fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    pub(crate) fn token(&mut self, token: &str, wanted: &'static str) -> Result<(), Broken> {
        if self.eat(token) {
            Ok(())
        } else {
            Err(self.missing(wanted))
        }
    }

    /// Takes everything before the next special token.
    fn plain(&mut self) -> Result<&'a str, Broken> {
        let rest = self.rest();
        let Some((length, _)) = self.specials.find(rest) else {
            return Err(Broken {
                offset: self.text.len(),
                reason: Reason::Cut,
            });
        };
        self.at += length;
        Ok(&rest[..length])
    }

    /// Takes source text, up to the next special token.
    pub(crate) fn source(&mut self) -> Result<Cow<'a, str>, Broken> {
        Ok(self.specials.unescape(self.plain()?))
    }

    /// The same, of a frame.
    pub(crate) fn source_line(&mut self) -> Result<Arc<str>, Broken> {
        Ok(self.source()?.into())
    }

    /// Takes the text of a value.
    pub(crate) fn value(&mut self) -> Result<Arc<str>, Broken> {
        let value = self.json(|reader| reader.string("a value in double quotes"))?;
        Ok(value.text.into())
    }

    /// Reads a JSON value.
    pub(crate) fn json<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, Fault>,
    ) -> Result<T, Broken> {
        let mut reader = Reader::new(self.text, self.specials, self.at);
        let value = read(&mut reader).map_err(|fault| self.fault(fault))?;
        self.at = reader.at;
        Ok(value)
    }

    pub(crate) fn nothing_more(&mut self) -> Result<(), Broken> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        if self.rest().is_empty() {
            Ok(())
        } else {
            Err(self.missing("the end of the text"))
        }
    }

    pub(crate) fn missing(&self, wanted: &'static str) -> Broken {
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
                found: found(rest, self.specials),
            },
            Wrong::InString(what) => Reason::InString(what),
        };
        Broken {
            offset: fault.at,
            reason,
        }
    }
}

/// The beginning of what stands in the wrong place.
fn found(rest: &str, specials: Specials) -> Found {
    let special = specials.at(rest);
    let length = special.unwrap_or_else(|| {
        let plain = specials.find(rest).map_or(rest.len(), |(start, _)| start);
        rest[..plain]
            .char_indices()
            .nth(QUOTED)
            .map_or(plain, |(end, _)| end)
    });
    Found {
        text: rest[..length].to_owned(),
        is_special: special.is_some(),
    }
}
