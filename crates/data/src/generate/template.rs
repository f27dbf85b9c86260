//! The little language in which idioms are written: Python text with holes.
//!
//! | hole | becomes |
//! |---|---|
//! | `$role` | an identifier, the same at each use in one program; distinct roles get distinct names |
//! | `«a\|b\|c»` | one of the alternatives, each with the same chance; they nest and may span lines |
//! | `@kind`, `@kind(a,b)` | a fresh literal or expression of that kind, see [`super::literal::Kind`] |
//! | `@@`, `\\\|` | a plain `@` or `\|` |
//!
//! Lines left blank by an empty alternative disappear.

use super::context::Context;
use super::literal::Kind;

/// A parsed piece of idiom text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Text(String),
    Name(String),
    Choice(Vec<Vec<Part>>),
    Hole(Kind, Vec<Part>),
}

/// Idiom text ready for expansion.
pub(crate) type Template = Vec<Part>;

/// Parses idiom text; the error names the offending piece.
pub(crate) fn parse(text: &str) -> Result<Template, String> {
    let mut parser = Parser {
        chars: text.chars().collect(),
        at: 0,
    };
    let parts = parser.sequence(&[])?;
    match parser.peek() {
        None => Ok(parts),
        Some(stray) => Err(format!("stray {stray:?} in idiom text {text:?}")),
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn identifier(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_alphanumeric()) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    /// Parts up to, not including, a character of `stops` outside any nested hole.
    fn sequence(&mut self, stops: &[char]) -> Result<Template, String> {
        let mut parts = Template::new();
        let mut text = String::new();
        let mut depth = 0usize;
        while let Some(c) = self.peek() {
            if depth == 0 && stops.contains(&c) {
                break;
            }
            self.at += 1;
            let part = match c {
                '$' => Part::Name(self.identifier()),
                '«' => self.choice()?,
                '@' if self.peek() == Some('@') => {
                    self.at += 1;
                    text.push('@');
                    continue;
                }
                '@' => self.hole()?,
                '\\' if self.peek() == Some('|') => {
                    self.at += 1;
                    text.push('|');
                    continue;
                }
                plain => {
                    match plain {
                        '(' => depth += 1,
                        ')' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    // Parentheses only nest inside a hole's arguments.
                    if !stops.contains(&')') {
                        depth = 0;
                    }
                    text.push(plain);
                    continue;
                }
            };
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(part);
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(parts)
    }

    fn choice(&mut self) -> Result<Part, String> {
        let mut alternatives = vec![self.sequence(&['|', '»'])?];
        while self.peek() == Some('|') {
            self.at += 1;
            alternatives.push(self.sequence(&['|', '»'])?);
        }
        if self.peek() != Some('»') {
            return Err("a choice lacks its closing »".into());
        }
        self.at += 1;
        Ok(Part::Choice(alternatives))
    }

    fn hole(&mut self) -> Result<Part, String> {
        let name = self.identifier();
        let kind = Kind::parse(&name).ok_or_else(|| format!("unknown hole @{name}"))?;
        let mut arguments = Template::new();
        if self.peek() == Some('(') {
            self.at += 1;
            arguments = self.sequence(&[')'])?;
            if self.peek() != Some(')') {
                return Err(format!("@{name} lacks its closing parenthesis"));
            }
            self.at += 1;
        }
        Ok(Part::Hole(kind, arguments))
    }
}

/// Fills the holes of `template` with choices from `context`.
pub(crate) fn expand(template: &[Part], context: &mut Context) -> String {
    let mut out = String::new();
    for part in template {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Name(role) => out.push_str(&context.name(role)),
            Part::Choice(alternatives) => {
                let chosen = context.rng.below(alternatives.len());
                out.push_str(&expand(&alternatives[chosen], context));
            }
            Part::Hole(kind, arguments) => {
                let arguments = expand(arguments, context);
                let arguments: Vec<&str> = arguments
                    .split(',')
                    .map(str::trim)
                    .filter(|a| !a.is_empty())
                    .collect();
                out.push_str(&kind.draw(&arguments, context));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expanded(text: &str) -> String {
        expand(&parse(text).expect("valid"), &mut Context::new(1, 2, 3))
    }

    #[test]
    fn plain_text_and_escapes_stay() {
        assert_eq!(
            expanded("@@property a \\| b (c) {x}"),
            "@property a | b (c) {x}"
        );
    }

    #[test]
    fn a_role_keeps_its_name_and_roles_differ() {
        let text = expanded("$x1 $x2 $x1");
        let names: Vec<&str> = text.split(' ').collect();
        assert_eq!(names[0], names[2]);
        assert_ne!(names[0], names[1]);
    }

    #[test]
    fn choices_nest() {
        assert!(["a", "b1", "b2"].contains(&expanded("«a|b«1|2»»").as_str()));
    }

    #[test]
    fn arguments_may_hold_parentheses() {
        let parts = parse("@int((1),5)x").expect("valid");
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[1], Part::Text("x".into()));
    }

    #[test]
    fn broken_text_is_named() {
        assert!(parse("a «b|c").is_err());
        assert!(parse("@nosuch").is_err_and(|e| e.contains("nosuch")));
        assert!(parse("@int(1").is_err());
        assert!(parse("a»").is_ok_and(|p| p == vec![Part::Text("a»".into())]));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[a-z$@«»|(),\\\\ ]{0,40}") {
            let _ = parse(&text);
        }
    }
}
