//! From Python text to lexemes: enough of the lexical grammar to tell
//! strings, numbers, names and operators apart in sources and in `repr`s.

use super::words;

/// A lexical unit; nothing of the text but spacing is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lexeme {
    Name(String),
    /// Digits of a plain decimal whole number.
    Integer(String),
    /// Any other number, as written.
    Number(String),
    /// A string without interpolation: prefix (`""`, `r`, `b`) and content
    /// after escapes were resolved.
    Text {
        prefix: &'static str,
        content: String,
    },
    /// The parts of an f-string.
    Format(Vec<FormatPart>),
    Operator(&'static str),
    /// Any other character.
    Other(char),
    /// A new physical line begins outside a string; its number.
    Line(u32),
}

/// Part of an f-string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FormatPart {
    Literal(String),
    /// A replacement field: its expression and what follows it verbatim
    /// (`!r`, `:>5`).
    Field {
        expression: Vec<Lexeme>,
        suffix: String,
    },
}

/// Lexes a source text or a value. Comments and spacing are dropped. Never
/// fails: an open string runs to the end of its line.
pub(super) fn lex(text: &str) -> Vec<Lexeme> {
    let chars: Vec<char> = text.chars().collect();
    let mut lexer = Lexer {
        chars: &chars,
        at: 0,
        line: 1,
        out: Vec::new(),
    };
    lexer.run();
    lexer.out
}

struct Lexer<'a> {
    chars: &'a [char],
    at: usize,
    line: u32,
    out: Vec<Lexeme>,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn run(&mut self) {
        while let Some(c) = self.peek(0) {
            match c {
                '\n' => {
                    self.at += 1;
                    self.line += 1;
                    self.out.push(Lexeme::Line(self.line));
                }
                '#' => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                '\\' if self.peek(1) == Some('\n') => self.at += 1,
                c if c.is_whitespace() => self.at += 1,
                '\'' | '"' => self.string(""),
                c if c.is_ascii_digit() => self.number(),
                '.' if self.peek(1).is_some_and(|c| c.is_ascii_digit()) => self.number(),
                c if c.is_alphabetic() || c == '_' => self.name(),
                _ => self.operator(c),
            }
        }
    }

    fn operator(&mut self, c: char) {
        let found = words::OPERATORS
            .iter()
            .find(|o| o.chars().enumerate().all(|(i, c)| self.peek(i) == Some(c)));
        match found {
            Some(operator) => {
                self.at += operator.chars().count();
                self.out.push(Lexeme::Operator(operator));
            }
            None => {
                self.at += 1;
                self.out.push(Lexeme::Other(c));
            }
        }
    }

    fn name(&mut self) {
        let start = self.at;
        while self
            .peek(0)
            .is_some_and(|c| c.is_alphanumeric() || c == '_')
        {
            self.at += 1;
        }
        let name: String = self.chars[start..self.at].iter().collect();
        if matches!(self.peek(0), Some('\'' | '"')) && name.len() <= 2 {
            let prefix = match name.to_ascii_lowercase().as_str() {
                "f" | "rf" | "fr" => Some("f"),
                "r" => Some("r"),
                "b" | "br" | "rb" => Some("b"),
                "u" => Some(""),
                _ => None,
            };
            if let Some(prefix) = prefix {
                return self.string(prefix);
            }
        }
        self.out.push(Lexeme::Name(name));
    }

    fn number(&mut self) {
        let start = self.at;
        let radix = self.peek(0) == Some('0')
            && matches!(self.peek(1), Some('x' | 'X' | 'o' | 'O' | 'b' | 'B'));
        while let Some(c) = self.peek(0) {
            let exponent_sign = !radix
                && matches!(c, '+' | '-')
                && matches!(self.chars[self.at - 1], 'e' | 'E')
                && self.at > start;
            if c.is_ascii_alphanumeric() || c == '.' || c == '_' || exponent_sign {
                self.at += 1;
            } else {
                break;
            }
        }
        let text: String = self.chars[start..self.at].iter().collect();
        let plain = text.replace('_', "");
        if plain.bytes().all(|b| b.is_ascii_digit()) && (plain.len() == 1 || plain == text) {
            return self.out.push(Lexeme::Integer(plain));
        }
        let digits = |prefix: usize, radix: u32| i128::from_str_radix(&plain[prefix..], radix).ok();
        let value = match plain.get(..2) {
            Some("0x" | "0X") => digits(2, 16),
            Some("0o" | "0O") => digits(2, 8),
            Some("0b" | "0B") => digits(2, 2),
            _ if plain.bytes().all(|b| b.is_ascii_digit()) => digits(0, 10),
            _ => None,
        };
        self.out.push(match value {
            Some(value) => Lexeme::Integer(value.to_string()),
            None => Lexeme::Number(text),
        });
    }

    fn string(&mut self, prefix: &'static str) {
        let quote = self.chars[self.at];
        let triple = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        let width = if triple { 3 } else { 1 };
        self.at += width;
        let start = self.at;
        while let Some(c) = self.peek(0) {
            if c == '\\' {
                self.line += u32::from(self.peek(1) == Some('\n'));
                self.at += 2;
                continue;
            }
            let closes = c == quote
                && (!triple || (self.peek(1) == Some(quote) && self.peek(2) == Some(quote)));
            if closes || (c == '\n' && !triple) {
                break;
            }
            if c == '\n' {
                self.line += 1;
            }
            self.at += 1;
        }
        let end = self.at.min(self.chars.len());
        let body = &self.chars[start.min(end)..end];
        if self.peek(0) == Some(quote) {
            self.at += width;
        }
        self.out.push(if prefix == "f" {
            Lexeme::Format(format_parts(body))
        } else {
            let content = if prefix == "r" {
                body.iter().collect()
            } else {
                unescape(body)
            };
            Lexeme::Text {
                prefix: if prefix == "b" { "b" } else { "" },
                content,
            }
        });
    }
}

/// Splits the body of an f-string into literals and fields.
fn format_parts(body: &[char]) -> Vec<FormatPart> {
    let mut parts = Vec::new();
    let mut literal: Vec<char> = Vec::new();
    let mut i = 0;
    while i < body.len() {
        match body[i] {
            '{' | '}' if body.get(i + 1) == Some(&body[i]) => {
                literal.push(body[i]);
                i += 2;
            }
            '{' => {
                if !literal.is_empty() {
                    parts.push(FormatPart::Literal(unescape(&literal)));
                    literal.clear();
                }
                let (field, next) = format_field(body, i + 1);
                parts.push(field);
                i = next;
            }
            c => {
                literal.push(c);
                i += 1;
            }
        }
    }
    if !literal.is_empty() {
        parts.push(FormatPart::Literal(unescape(&literal)));
    }
    parts
}

fn format_field(body: &[char], start: usize) -> (FormatPart, usize) {
    let mut depth = 0usize;
    let mut end = start;
    let mut suffix_at = None;
    while end < body.len() {
        match body[end] {
            '(' | '[' | '{' => depth += 1,
            '}' if depth == 0 => break,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ':' if depth == 0 && suffix_at.is_none() => suffix_at = Some(end),
            '!' if depth == 0 && suffix_at.is_none() && body.get(end + 1) != Some(&'=') => {
                suffix_at = Some(end);
            }
            _ => {}
        }
        end += 1;
    }
    let split = suffix_at.unwrap_or(end);
    let expression: String = body[start..split].iter().collect();
    let field = FormatPart::Field {
        expression: lex(&expression),
        suffix: body[split..end].iter().collect(),
    };
    (field, end + 1)
}

/// Resolves the escapes of a literal. Unknown ones stay as written.
fn unescape(body: &[char]) -> String {
    let mut out = String::with_capacity(body.len());
    let mut i = 0;
    while i < body.len() {
        if body[i] != '\\' || i + 1 >= body.len() {
            out.push(body[i]);
            i += 1;
            continue;
        }
        let code = |len: usize| {
            let hex: String = body.get(i + 2..i + 2 + len)?.iter().collect();
            u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32)
        };
        let (resolved, len) = match body[i + 1] {
            'n' => (Some('\n'), 2),
            't' => (Some('\t'), 2),
            'r' => (Some('\r'), 2),
            '0' => (Some('\0'), 2),
            '\n' => (None, 2),
            c @ ('\\' | '\'' | '"') => (Some(c), 2),
            'x' if code(2).is_some() => (code(2), 4),
            'u' if code(4).is_some() => (code(4), 6),
            'U' if code(8).is_some() => (code(8), 10),
            _ => (Some('\\'), 1),
        };
        out.extend(resolved);
        i += len;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Lexeme {
        Lexeme::Name(text.into())
    }

    #[test]
    fn numbers() {
        let kinds = |t: &str| lex(t);
        assert_eq!(kinds("012"), [Lexeme::Integer("012".into())]);
        assert_eq!(
            kinds("0x1F 1_000"),
            [Lexeme::Integer("31".into()), Lexeme::Integer("1000".into())]
        );
        assert_eq!(kinds("1e-05"), [Lexeme::Number("1e-05".into())]);
        assert_eq!(kinds("1-5").len(), 3);
        assert_eq!(kinds(".5"), [Lexeme::Number(".5".into())]);
    }

    #[test]
    fn strings_and_fields() {
        assert_eq!(
            lex(r#"f"a{x!r:>3}{{b" "it's\n""#),
            [
                Lexeme::Format(vec![
                    FormatPart::Literal("a".into()),
                    FormatPart::Field {
                        expression: vec![name("x")],
                        suffix: "!r:>3".into()
                    },
                    FormatPart::Literal("{b".into()),
                ]),
                Lexeme::Text {
                    prefix: "",
                    content: "it's\n".into()
                },
            ]
        );
    }

    #[test]
    fn lines_are_counted_through_long_strings() {
        let lexemes = lex("x = '''a\nb'''\ny");
        assert_eq!(lexemes[3], Lexeme::Line(3));
        assert_eq!(lexemes[4], name("y"));
        for text in ["\"\"\"\\\na\"\"\"\ny", "'a\\\nb'\ny", "f'a\\\nb'\ny"] {
            assert_eq!(lex(text)[1..], [Lexeme::Line(3), name("y")], "{text}");
        }
    }

    #[test]
    fn anything_lexes() {
        for text in [
            "'",
            "'''",
            "f'{",
            "f'{a",
            "\\",
            "0x",
            "é🙂$?`",
            "'\\",
            "1.2.3e",
        ] {
            lex(text);
        }
    }
}
