//! Python literals: read as source, written as `repr`. Predicting executes
//! nothing, so arguments and edited values must be literals.

use std::fmt::Write as _;

/// A literal value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    /// `None`, `True`, `False`, `...`.
    Constant(&'static str),
    /// A whole number in decimal, with its sign.
    Int(String),
    Float(f64),
    Str(String),
    List(Vec<Literal>),
    Tuple(Vec<Literal>),
    Set(Vec<Literal>),
    Dict(Vec<(Literal, Literal)>),
}

impl Literal {
    /// Reads one literal that takes up the whole text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader::new(text);
        let value = reader.value()?;
        reader.end()?;
        Ok(value)
    }

    /// The text `repr` would give.
    pub(super) fn repr(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Constant("...") => out.push_str("Ellipsis"),
            Self::Constant(text) => out.push_str(text),
            Self::Int(text) => out.push_str(text),
            Self::Float(value) => out.push_str(&float_repr(*value)),
            Self::Str(text) => write_string(text, out),
            Self::List(items) => write_items(items, "[", "]", out),
            Self::Tuple(items) if items.len() == 1 => write_items(items, "(", ",)", out),
            Self::Tuple(items) => write_items(items, "(", ")", out),
            Self::Set(items) if items.is_empty() => out.push_str("set()"),
            Self::Set(items) => write_items(items, "{", "}", out),
            Self::Dict(items) => {
                out.push('{');
                for (i, (key, value)) in items.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    key.write(out);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn write_items(items: &[Literal], open: &str, close: &str, out: &mut String) {
    out.push_str(open);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        item.write(out);
    }
    out.push_str(close);
}

fn write_string(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            // Of the first 256 characters, those that Python does not print.
            '\0'..='\x1f' | '\x7f'..='\u{a0}' | '\u{ad}' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// `repr` of a float: shortest digits, exponent form outside 1e-4..1e16.
fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(rest) => ('-', rest),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = format!("{value}");
    if text.contains('.') {
        text
    } else {
        format!("{text}.0")
    }
}

/// Reads literals from a text, one after the other.
pub(super) struct Reader<'a> {
    rest: &'a str,
}

/// Deepest nesting of brackets.
const MAX_DEPTH: usize = 60;

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            rest: text.trim_start(),
        }
    }

    /// Takes `token` (and the space behind it) if it comes next.
    pub(super) fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    /// Takes `NAME =` if it comes next.
    pub(super) fn take_keyword(&mut self) -> Option<String> {
        let end = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
        let name = &self.rest[..end];
        let after = self.rest[end..].trim_start().strip_prefix('=')?;
        if name.is_empty() || name.starts_with(|c: char| c.is_numeric()) || after.starts_with('=') {
            return None;
        }
        self.rest = after.trim_start();
        Some(name.to_owned())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn end(&self) -> Result<(), String> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(format!("unexpected `{}`", self.shown()))
        }
    }

    pub(super) fn value(&mut self) -> Result<Literal, String> {
        self.nested(0)
    }

    fn shown(&self) -> String {
        self.rest.chars().take(20).collect()
    }

    fn nested(&mut self, depth: usize) -> Result<Literal, String> {
        if depth > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} nested brackets"));
        }
        if self.take("[") {
            return Ok(Literal::List(self.items("]", depth)?.0));
        }
        if self.take("(") {
            let (mut items, comma) = self.items(")", depth)?;
            return match items.pop() {
                Some(single) if items.is_empty() && !comma => Ok(single),
                Some(last) => {
                    items.push(last);
                    Ok(Literal::Tuple(items))
                }
                None => Ok(Literal::Tuple(items)),
            };
        }
        if self.take("{") {
            return self.braces(depth);
        }
        if self.rest.starts_with(['\'', '"']) {
            return self.strings();
        }
        for constant in ["None", "True", "False", "..."] {
            if self.word(constant) {
                return Ok(Literal::Constant(constant));
            }
        }
        if self.take("set()") {
            return Ok(Literal::Set(Vec::new()));
        }
        self.number()
    }

    fn word(&mut self, word: &str) -> bool {
        let follows = |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        self.rest
            .strip_prefix(word)
            .is_some_and(|rest| !follows(rest))
            && self.take(word)
    }

    /// Items up to `close`, and whether the last one had a comma.
    fn items(&mut self, close: &str, depth: usize) -> Result<(Vec<Literal>, bool), String> {
        let mut items = Vec::new();
        let mut comma = false;
        loop {
            if self.take(close) {
                return Ok((items, comma));
            }
            if !items.is_empty() && !comma {
                return Err(format!("expected `,` or `{close}` at `{}`", self.shown()));
            }
            items.push(self.nested(depth + 1)?);
            comma = self.take(",");
        }
    }

    fn braces(&mut self, depth: usize) -> Result<Literal, String> {
        if self.take("}") {
            return Ok(Literal::Dict(Vec::new()));
        }
        let first = self.nested(depth + 1)?;
        if !self.take(":") {
            let mut items = vec![first];
            if self.take(",") {
                items.extend(self.items("}", depth)?.0);
            } else if !self.take("}") {
                return Err(format!("expected `,` or `}}` at `{}`", self.shown()));
            }
            return Ok(Literal::Set(items));
        }
        let mut items = vec![(first, self.nested(depth + 1)?)];
        loop {
            let comma = self.take(",");
            if self.take("}") {
                return Ok(Literal::Dict(items));
            }
            if !comma {
                return Err(format!("expected `,` or `}}` at `{}`", self.shown()));
            }
            let key = self.nested(depth + 1)?;
            if !self.take(":") {
                return Err(format!("expected `:` at `{}`", self.shown()));
            }
            items.push((key, self.nested(depth + 1)?));
        }
    }

    /// One or more adjacent string literals.
    fn strings(&mut self) -> Result<Literal, String> {
        let mut text = String::new();
        while let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"')) {
            let mut chars = self.rest.char_indices().skip(1);
            let end = loop {
                match chars.next() {
                    Some((i, c)) if c == quote => break i,
                    Some((_, '\\')) => text.push(escape(&mut chars)?),
                    Some((_, c)) => text.push(c),
                    None => return Err("a string is not closed".into()),
                }
            };
            self.rest = self.rest[end + 1..].trim_start();
        }
        Ok(Literal::Str(text))
    }

    fn number(&mut self) -> Result<Literal, String> {
        let negative = self.take("-");
        let start = self.rest;
        let mut end = 0;
        for (i, c) in start.char_indices() {
            let sign = matches!(c, '+' | '-') && start[..i].ends_with(['e', 'E']);
            if c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '_') || sign {
                end = i + 1;
            } else {
                break;
            }
        }
        let digits = start[..end].replace('_', "");
        self.rest = start[end..].trim_start();
        let sign = if negative { "-" } else { "" };
        if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            let plain = digits.trim_start_matches('0');
            return Ok(Literal::Int(match plain {
                "" => "0".into(),
                plain => format!("{sign}{plain}"),
            }));
        }
        match digits.parse::<f64>() {
            Ok(value) => Ok(Literal::Float(if negative { -value } else { value })),
            Err(_) => {
                let text: String = start.chars().take(20).collect();
                Err(format!("`{text}` is not a literal"))
            }
        }
    }
}

fn escape(chars: &mut (impl Iterator<Item = (usize, char)> + Clone)) -> Result<char, String> {
    let (_, c) = chars.next().ok_or("a string ends in a backslash")?;
    let next_is_octal = chars.clone().next().is_some_and(|(_, n)| n.is_digit(8));
    if c == '0' && next_is_octal {
        return Err("octal escapes are not read; write `\\x..` in the string".into());
    }
    let mut hex = |len: usize| {
        let digits: String = chars.by_ref().take(len).map(|(_, c)| c).collect();
        u32::from_str_radix(&digits, 16)
            .ok()
            .and_then(char::from_u32)
            .ok_or_else(|| format!("bad escape `\\{c}{digits}`"))
    };
    match c {
        'n' => Ok('\n'),
        't' => Ok('\t'),
        'r' => Ok('\r'),
        '0' => Ok('\0'),
        '\\' | '\'' | '"' => Ok(c),
        'x' => hex(2),
        'u' => hex(4),
        'U' => hex(8),
        other => Err(format!("unknown escape `\\{other}` in a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn writes_what_repr_writes() {
        for (source, repr) in [
            ("1", "1"),
            ("-0012", "-12"),
            ("1_000", "1000"),
            ("1.50", "1.5"),
            ("1e16", "1e+16"),
            ("1e-5", "1e-05"),
            ("-0.0", "-0.0"),
            ("100.", "100.0"),
            ("\"a'b\"", "\"a'b\""),
            ("'a' \"b\"", "'ab'"),
            ("'\\x41\\n'", "'A\\n'"),
            ("'\\0\\xa0\\xe9'", "'\\x00\\xa0é'"),
            ("( 1 , )", "(1,)"),
            ("(1)", "1"),
            ("()", "()"),
            ("{1,2}", "{1, 2}"),
            ("set()", "set()"),
            ("{'a':[1 ,None],}", "{'a': [1, None]}"),
            ("[True,False,]", "[True, False]"),
        ] {
            assert_eq!(
                Literal::parse(source).map(|l| l.repr()).as_deref(),
                Ok(repr)
            );
        }
    }

    #[test]
    fn refuses_what_is_no_literal() {
        for source in [
            "", "x", "1 +", "[1", "'a", "{1:}", "f(1)", "Nonesuch", "'\\q'", "'\\012'", "1 2",
        ] {
            assert!(Literal::parse(source).is_err(), "{source}");
        }
        assert!(Literal::parse(&"[".repeat(10_000)).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = Literal::parse(&text);
        }

        #[test]
        fn repr_reads_back(value in any::<f64>(), text in "\\PC*") {
            let list = Literal::List(vec![Literal::Float(value), Literal::Str(text)]);
            if !value.is_nan() && value.is_finite() {
                prop_assert_eq!(Literal::parse(&list.repr()), Ok(list));
            }
        }
    }
}
