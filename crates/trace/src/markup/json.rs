//! The two JSON shapes of traces as text, a string and an object of strings,
//! written exactly as Python's `json.dumps` writes them.
//!
//! One thing differs: where a string holds the text of a special token, its
//! `<` is written `\u003c`, so that no separator can be mistaken for one.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::UNCHANGED;
use super::special::Specials;

/// Appends a string as `json.dumps` with `ensure_ascii` does: everything that
/// is not printable ASCII is escaped, DEL too.
pub(crate) fn write_string(text: &str, specials: Specials, out: &mut String) {
    out.push('"');
    // Nearly all texts stand for themselves.
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'<');
    // Without a way out in the middle the compiler looks at many bytes at once.
    if text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        out.push_str(text);
        out.push('"');
        return;
    }
    for (start, character) in text.char_indices() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' if specials.at(&text[start..]).is_some() => out.push_str("\\u003c"),
            ' '..='~' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // Writing to a `String` cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// Appends a string whose text is the mark for what is unchanged, in a
/// spelling that is not the mark.
pub(crate) fn write_literal_dots(out: &mut String) {
    debug_assert_eq!(UNCHANGED, "..");
    out.push_str("\"\\u002e.\"");
}

/// A string read: its text, and whether it was spelled as the bare mark for an
/// unchanged value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Text<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) mark: bool,
}

/// What is wrong with a piece of JSON, and where in the text that was given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) what: Wrong,
}

/// What is wrong with a piece of JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The text ends too early.
    Cut,
    /// Something else should stand here.
    Expected(&'static str),
    /// A string may not hold this.
    InString(&'static str),
}

/// Reads JSON from a place in a text. After an error the place is that of the
/// fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    specials: Specials,
    /// Byte offset of what comes next.
    pub(crate) at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str, specials: Specials, at: usize) -> Self {
        Self { text, specials, at }
    }

    /// Reads an object whose values are strings. Names may repeat.
    pub(crate) fn object(&mut self) -> Result<Vec<(Text<'a>, Text<'a>)>, Fault> {
        let mut pairs = Vec::new();
        self.token('{', "`{`")?;
        if self.eat('}') {
            return Ok(pairs);
        }
        loop {
            self.space();
            let name = self.string("a name in double quotes")?;
            self.token(':', "`:`")?;
            self.space();
            let value = self.string("a value in double quotes")?;
            pairs.push((name, value));
            if self.eat('}') {
                return Ok(pairs);
            }
            self.token(',', "`,` or `}`")?;
        }
    }

    /// Reads a string; `wanted` names it where there is none.
    pub(crate) fn string(&mut self, wanted: &'static str) -> Result<Text<'a>, Fault> {
        let rest = self.rest();
        if !rest.starts_with('"') {
            return Err(self.missing(wanted));
        }
        self.at += 1;
        let start = self.at;
        let mut owned: Option<String> = None;
        let mut copied = start;
        loop {
            let Some(step) = self
                .rest()
                .find(|c| matches!(c, '"' | '\\' | '<' | '\0'..' '))
            else {
                self.at = self.text.len();
                return Err(self.fault(Wrong::Cut));
            };
            self.at += step;
            match self.text.as_bytes()[self.at] {
                b'"' => break,
                b'\\' => {
                    let out = owned.get_or_insert_default();
                    out.push_str(&self.text[copied..self.at]);
                    out.push(self.escape()?);
                    copied = self.at;
                }
                b'<' if self.specials.at(self.rest()).is_none() => self.at += 1,
                b'<' => return Err(self.fault(Wrong::InString("a special token"))),
                _ => return Err(self.fault(Wrong::InString("a control character"))),
            }
        }
        let raw = &self.text[start..self.at];
        let text = match owned {
            None => Cow::Borrowed(raw),
            Some(mut out) => {
                out.push_str(&self.text[copied..self.at]);
                Cow::Owned(out)
            }
        };
        self.at += 1;
        Ok(Text {
            text,
            mark: raw == UNCHANGED,
        })
    }

    /// Reads one escape, from its backslash on.
    fn escape(&mut self) -> Result<char, Fault> {
        let start = self.at;
        self.at += 1;
        let Some(letter) = self.rest().chars().next() else {
            return Err(self.fault(Wrong::Cut));
        };
        self.at += letter.len_utf8();
        Ok(match letter {
            '"' | '\\' | '/' => letter,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.unicode_escape(start),
            _ => return Err(self.fault_at(start, Wrong::InString("an unknown escape"))),
        })
    }

    /// Reads the digits of a `\u` escape that began at `start`, and the second
    /// half of a surrogate pair where the first is one.
    fn unicode_escape(&mut self, start: usize) -> Result<char, Fault> {
        let first = self.code_unit()?;
        let mut units = [first, 0];
        let mut length = 1;
        if (0xd800..0xdc00).contains(&first) && self.rest().starts_with("\\u") {
            self.at += 2;
            units[1] = self.code_unit()?;
            length = 2;
        }
        let mut characters = char::decode_utf16(units[..length].iter().copied());
        match (characters.next(), characters.next()) {
            (Some(Ok(character)), None) => Ok(character),
            _ => Err(self.fault_at(start, Wrong::InString("half of a surrogate pair"))),
        }
    }

    fn code_unit(&mut self) -> Result<u16, Fault> {
        let rest = self.rest();
        let digits = rest
            .bytes()
            .take(4)
            .take_while(u8::is_ascii_hexdigit)
            .count();
        if digits < 4 {
            self.at += digits;
            return Err(self.missing("four hexadecimal digits"));
        }
        self.at += 4;
        u16::from_str_radix(&rest[..4], 16)
            .map_err(|_| self.fault(Wrong::Expected("four hexadecimal digits")))
    }

    /// Takes a punctuation mark that must come next.
    fn token(&mut self, wanted: char, name: &'static str) -> Result<(), Fault> {
        if self.eat(wanted) {
            Ok(())
        } else {
            Err(self.missing(name))
        }
    }

    /// Takes a punctuation mark if it comes next.
    fn eat(&mut self, wanted: char) -> bool {
        self.space();
        let found = self.rest().starts_with(wanted);
        self.at += usize::from(found);
        found
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn missing(&self, wanted: &'static str) -> Fault {
        let cut = self.rest().is_empty();
        self.fault(if cut {
            Wrong::Cut
        } else {
            Wrong::Expected(wanted)
        })
    }

    fn fault(&self, what: Wrong) -> Fault {
        self.fault_at(self.at, what)
    }

    fn fault_at(&self, at: usize, what: Wrong) -> Fault {
        Fault { at, what }
    }
}
