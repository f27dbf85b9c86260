//! [`Kind`]: what a parameter takes, and random arguments of it.
//!
//! Real functions look for particular texts and numbers. So a part of what is drawn comes from the constants
//! in the function's own code ([`Dictionary`]), as fuzzers do.

use std::fmt::Write as _;

use crate::generate::names::{PEOPLE, WORDS};
use crate::generate::rng::Rng;

/// What a value is, as `python/hints.py` writes it: `list[union[int,none]]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Int,
    Float,
    /// An int or a float.
    Number,
    Bool,
    Str,
    /// A text of one character.
    Char,
    Bytes,
    None,
    Any,
    /// A builtin function of one argument.
    Callable,
    List(Box<Self>),
    Set(Box<Self>),
    Tuple(Vec<Self>),
    /// A tuple of any length.
    TupleOf(Box<Self>),
    Dict(Box<Self>, Box<Self>),
    Union(Vec<Self>),
}

impl Kind {
    /// Reads one; `None` where the text is something else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = parse_kind(text)?;
        rest.is_empty().then_some(kind)
    }
}

fn parse_kind(text: &str) -> Option<(Kind, &str)> {
    let end = text.find(['[', ']', ',']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let Some(inner) = rest.strip_prefix('[') else {
        let kind = match name {
            "int" => Kind::Int,
            "float" => Kind::Float,
            "number" => Kind::Number,
            "bool" => Kind::Bool,
            "str" => Kind::Str,
            "char" => Kind::Char,
            "bytes" => Kind::Bytes,
            "none" => Kind::None,
            "any" => Kind::Any,
            "callable" => Kind::Callable,
            _ => return None,
        };
        return Some((kind, rest));
    };
    let (mut parts, is_open, rest) = parse_parts(inner)?;
    let mut next = || (!parts.is_empty()).then(|| Box::new(parts.remove(0)));
    let kind = match name {
        "list" => Kind::List(next()?),
        "set" => Kind::Set(next()?),
        "dict" => Kind::Dict(next()?, next()?),
        "tuple" if is_open => Kind::TupleOf(next()?),
        "tuple" => Kind::Tuple(parts),
        "union" => Kind::Union(parts),
        _ => return None,
    };
    Some((kind, rest))
}

/// The kinds up to the closing bracket, whether `...` stands at their end, and what comes after.
fn parse_parts(mut text: &str) -> Option<(Vec<Kind>, bool, &str)> {
    let mut parts = Vec::new();
    loop {
        if let Some(rest) = text.strip_prefix("...]") {
            return (!parts.is_empty()).then_some((parts, true, rest));
        }
        let (kind, rest) = parse_kind(text)?;
        parts.push(kind);
        if let Some(rest) = rest.strip_prefix(']') {
            return Some((parts, false, rest));
        }
        text = rest.strip_prefix(',')?;
    }
}

/// Texts and numbers that a function's code mentions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dictionary {
    pub(crate) texts: Vec<String>,
    pub(crate) numbers: Vec<i64>,
}

/// Texts of forms that code likes to take apart.
const FORMS: &[&str] = &[
    "2024-01-15",
    "12:30",
    "1.2.3",
    "a=1",
    "x=1;y=2",
    "key: value",
    "a,b,c",
    "1,2,3",
    "1-3,5",
    "a/b/c.txt",
    "/usr/bin",
    "http://example.com/a?b=1",
    "bob@example.com",
    "ff00aa",
    "#ff8800",
    "1010",
    "XIV",
    "(a(b)c)",
    "[1, 2]",
    "{\"a\": 1}",
    "3.14",
    "-7",
    "1e3",
    "100",
    "007",
    "50%",
    "$5",
    "10kb",
    "2h",
    "True",
    "none",
    "camelCase",
    "snake_case_name",
    "Title Case",
    "UPPER",
    "hello world",
    "a b  c",
    " padded ",
    "tab\there",
    "two\nlines",
    "line 1\nline 2\n",
    "aabbbc",
    "abcabc",
    "level",
    "don't",
    "--flag",
    "%d items",
    "{name}",
    "<b>x</b>",
    "a*b+c",
    "1 + 2",
    "192.168.0.1",
    "ACGT",
    "en_US",
    "a\\b",
];

/// Builtins that take one argument and that programs like to be given.
const FUNCTIONS: &[&str] = &[
    "len", "str", "int", "abs", "bool", "repr", "sum", "max", "list", "sorted",
];

/// Draws arguments.
pub(crate) struct Drawer<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) dictionary: &'a Dictionary,
}

impl Drawer<'_> {
    /// A value of the kind, as Python source.
    pub(crate) fn draw(&mut self, kind: &Kind) -> String {
        self.value(kind, 0)
    }

    fn value(&mut self, kind: &Kind, depth: usize) -> String {
        match kind {
            Kind::Int => self.int().to_string(),
            Kind::Float => self.float(),
            Kind::Number if self.rng.chance(0.8) => self.int().to_string(),
            Kind::Number => self.float(),
            Kind::Bool => (if self.rng.chance(0.5) {
                "True"
            } else {
                "False"
            })
            .to_owned(),
            Kind::Str => quoted(&self.text()),
            Kind::Char => quoted(&self.character().to_string()),
            Kind::Bytes => format!("b{}", quoted(&self.plain_text())),
            Kind::None => "None".to_owned(),
            Kind::Any => {
                let kind = self.some_kind(depth);
                self.value(&kind, depth)
            }
            Kind::Callable => (*self.rng.pick(FUNCTIONS)).to_owned(),
            Kind::List(item) => format!("[{}]", self.items(item, depth).join(", ")),
            Kind::Set(item) => self.set(item, depth),
            Kind::Tuple(parts) => {
                let parts: Vec<_> = parts
                    .iter()
                    .map(|part| self.value(part, depth + 1))
                    .collect();
                tuple(&parts)
            }
            Kind::TupleOf(item) => tuple(&self.items(item, depth)),
            Kind::Dict(key, value) => self.dict(key, value, depth),
            Kind::Union(parts) if parts.is_empty() => "None".to_owned(),
            Kind::Union(parts) => {
                // What has something in it is drawn more often than `None`.
                let weights: Vec<_> = parts
                    .iter()
                    .map(|part| if *part == Kind::None { 1 } else { 4 })
                    .collect();
                let part = &parts[self.rng.weighted(&weights)];
                self.value(part, depth)
            }
        }
    }

    /// A kind for a parameter or item of which nothing is known.
    fn some_kind(&mut self, depth: usize) -> Kind {
        let any = || Box::new(Kind::Any);
        let scalars = 6;
        let weights = [30, 30, 4, 4, 3, 3, 16, 4, 6];
        match self.rng.weighted(if depth > 0 {
            &weights[..scalars]
        } else {
            &weights
        }) {
            0 => Kind::Int,
            1 => Kind::Str,
            2 => Kind::Float,
            3 => Kind::Bool,
            4 => Kind::None,
            5 => Kind::Char,
            6 => Kind::List(any()),
            7 => Kind::TupleOf(any()),
            _ => Kind::Dict(Box::new(Kind::Str), any()),
        }
    }

    fn int(&mut self) -> i64 {
        let numbers = &self.dictionary.numbers;
        match self
            .rng
            .weighted(&[50, 20, 8, 4, 8, if numbers.is_empty() { 0 } else { 14 }])
        {
            0 => self.rng.range(0, 12),
            1 => self.rng.range(10, 99),
            2 => self.rng.range(-12, -1),
            3 => self.rng.range(100, 2000),
            4 => 1 << self.rng.range(0, 8),
            _ => self.rng.pick(numbers) + self.rng.range(-1, 1),
        }
    }

    fn float(&mut self) -> String {
        let whole = self.rng.range(-9, 99);
        format!("{whole}.{}", self.rng.pick(&["0", "5", "25", "1", "75"]))
    }

    fn character(&mut self) -> char {
        const SOME: &[u8] = b"abcdefxyzABZ0159 -_.,:;/";
        char::from(*self.rng.pick(SOME))
    }

    fn text(&mut self) -> String {
        let texts = &self.dictionary.texts;
        let known = if texts.is_empty() { 0 } else { 18 };
        match self.rng.weighted(&[24, 14, 22, 6, 4, 8, known, known / 2]) {
            0 => (*self.rng.pick(WORDS)).to_owned(),
            1 => self.phrase(),
            2 => (*self.rng.pick(FORMS)).to_owned(),
            3 => (0..self.rng.range(1, 8))
                .map(|_| self.character())
                .collect(),
            4 => String::new(),
            5 => self.rng.range(0, 3000).to_string(),
            6 => self.rng.pick(texts).clone(),
            _ => {
                let text = self.rng.pick(texts).clone();
                let around = self.plain_text();
                match self.rng.below(3) {
                    0 => text + &around,
                    1 => around + &text,
                    _ => format!("{around}{text}{}", self.rng.pick(WORDS)),
                }
            }
        }
    }

    fn plain_text(&mut self) -> String {
        let words = if self.rng.chance(0.2) { PEOPLE } else { WORDS };
        (*self.rng.pick(words)).to_owned()
    }

    fn phrase(&mut self) -> String {
        let words = (0..self.rng.range(2, 4)).map(|_| *self.rng.pick(WORDS));
        let mut text = words
            .collect::<Vec<_>>()
            .join(*self.rng.pick(&[" ", " ", "-", "_", ", "]));
        if self.rng.chance(0.3) {
            text.get_mut(..1).map(str::make_ascii_uppercase);
        }
        text
    }

    fn items(&mut self, item: &Kind, depth: usize) -> Vec<String> {
        let most = [6, 3, 2][depth.min(2)];
        let least = i64::from(!self.rng.chance(0.12));
        let count = self.rng.range(least, most);
        // Items of one list are mostly of one kind.
        let is_same = *item == Kind::Any && self.rng.chance(0.85);
        let deeper = self.rng.below(2);
        let same = is_same.then(|| self.some_kind(depth + deeper));
        let kind = same.as_ref().unwrap_or(item);
        let mut items: Vec<_> = (0..count).map(|_| self.value(kind, depth + 1)).collect();
        if items.len() > 2 && self.rng.chance(0.2) {
            let (from, to) = (self.rng.below(items.len()), self.rng.below(items.len()));
            items[to] = items[from].clone();
        }
        items
    }

    fn set(&mut self, item: &Kind, depth: usize) -> String {
        // Sets hold what has a hash.
        let item = if *item == Kind::Any { &Kind::Int } else { item };
        let mut items = self.items(item, depth);
        items.sort();
        items.dedup();
        if items.is_empty() {
            "set()".to_owned()
        } else {
            format!("{{{}}}", items.join(", "))
        }
    }

    fn dict(&mut self, key: &Kind, value: &Kind, depth: usize) -> String {
        let key = if *key == Kind::Any { &Kind::Str } else { key };
        let mut keys = self.items(key, depth);
        if *key == Kind::Str && !self.dictionary.texts.is_empty() {
            for key in &mut keys {
                if self.rng.chance(0.4) {
                    *key = quoted(self.rng.pick::<String>(&self.dictionary.texts));
                }
            }
        }
        let mut seen = std::collections::HashSet::new();
        keys.retain(|key| seen.insert(key.clone()));
        let pairs: Vec<_> = keys
            .into_iter()
            .map(|key| format!("{key}: {}", self.value(value, depth + 1)))
            .collect();
        format!("{{{}}}", pairs.join(", "))
    }
}

fn tuple(parts: &[String]) -> String {
    match parts {
        [one] => format!("({one},)"),
        _ => format!("({})", parts.join(", ")),
    }
}

/// A text as a literal, as Python's `repr` writes those without exotic characters.
pub(crate) fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read() {
        let list = |kind| Kind::List(Box::new(kind));
        let cases = [
            ("int", Some(Kind::Int)),
            ("list[str]", Some(list(Kind::Str))),
            (
                "union[int,none]",
                Some(Kind::Union(vec![Kind::Int, Kind::None])),
            ),
            (
                "dict[str,list[any]]",
                Some(Kind::Dict(Box::new(Kind::Str), Box::new(list(Kind::Any)))),
            ),
            (
                "tuple[int,str]",
                Some(Kind::Tuple(vec![Kind::Int, Kind::Str])),
            ),
            (
                "tuple[float,...]",
                Some(Kind::TupleOf(Box::new(Kind::Float))),
            ),
            ("list", None),
            ("list[", None),
            ("list[]", None),
            ("dict[int]", None),
            ("tuple[...]", None),
            ("int]", None),
            ("object", None),
        ];
        for (text, kind) in cases {
            assert_eq!(Kind::parse(text), kind, "{text}");
        }
    }

    #[test]
    fn texts_are_quoted_as_python_does() {
        let cases = [
            ("a", "'a'"),
            ("it's", "\"it's\""),
            ("\"'", "'\"\\''"),
            ("a\\b\n", "'a\\\\b\\n'"),
            ("\x01", "'\\x01'"),
        ];
        for (text, literal) in cases {
            assert_eq!(quoted(text), literal);
        }
    }
}
