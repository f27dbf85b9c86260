//! Strings, numbers and raw text as tokens, and tokens as text.

use super::vocabulary::Token;
use super::words;

pub(super) fn push_chars(text: &str, out: &mut Vec<Token>) {
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(Token::Char(c)),
            '\n' | '\r' | '\t' => out.push(Token::Escape(c)),
            c if c.is_ascii() => {
                out.extend(format!("\\x{:02x}", c as u32).chars().map(Token::Char));
            }
            c => out.extend(c.encode_utf8(&mut [0; 4]).bytes().map(Token::Byte)),
        }
    }
}

/// Characters as they are. A control character without a token is the escape
/// of a backslash, which raw text has no other use for, and its two digits.
pub(super) fn push_raw(text: &str, out: &mut Vec<Token>) {
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(Token::Escape(c)),
            c if c.is_ascii_control() => {
                out.push(Token::Escape('\\'));
                out.extend(format!("{:02x}", c as u32).chars().map(Token::Char));
            }
            c => push_chars(c.encode_utf8(&mut [0; 4]), out),
        }
    }
}

pub(super) fn push_raw_text(tokens: &[Token], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = tokens;
    while let [token, after @ ..] = rest {
        rest = after;
        out.push(match token {
            Token::Char(c) => *c as u8,
            Token::Byte(b) => *b,
            Token::Escape('\\') => match after {
                [Token::Char(high), Token::Char(low), after @ ..]
                    if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
                {
                    rest = after;
                    (high.to_digit(16)? * 16 + low.to_digit(16)?) as u8
                }
                _ => b'\\',
            },
            Token::Escape(c) => *c as u8,
            _ => return None,
        });
    }
    Some(())
}

pub(super) fn push_string(content: &str, out: &mut Vec<Token>) {
    let quote = if content.contains('\'') && !content.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(Token::Quote(quote));
    push_content(content, quote, out);
    out.push(Token::Quote(quote));
}

pub(super) fn push_content(content: &str, quote: char, out: &mut Vec<Token>) {
    for c in content.chars() {
        match c {
            '\\' => out.push(Token::Escape('\\')),
            '\'' if quote == '\'' => out.push(Token::Escape('\'')),
            c => push_chars(c.encode_utf8(&mut [0; 4]), out),
        }
    }
}

pub(super) fn push_number(text: &str, out: &mut Vec<Token>) {
    for c in text.chars() {
        out.push(match c {
            '0'..='9' => Token::Digit(c as u8 - b'0'),
            '.' | 'e' | '+' | '-' | 'j' | '_' => Token::NumberPart(c),
            'E' => Token::NumberPart('e'),
            c => Token::Char(c),
        });
    }
}

pub(super) fn is_number(token: &Token) -> bool {
    matches!(token, Token::Digit(_) | Token::NumberPart(_))
}

pub(super) fn push_number_text(tokens: &[Token], out: &mut Vec<u8>) {
    let start = out.len();
    let mut plain = true;
    for token in tokens {
        match token {
            Token::Digit(d) => out.push(b'0' + d),
            Token::NumberPart(c) => {
                plain = false;
                out.push(*c as u8);
            }
            _ => {}
        }
    }
    if plain {
        out[start..].reverse();
    }
}

pub(super) fn push_content_text(tokens: &[Token], out: &mut Vec<u8>) -> Option<()> {
    for token in tokens {
        match token {
            Token::Char(c) => out.push(*c as u8),
            Token::Byte(b) => out.push(*b),
            Token::Escape(c) => {
                let (_, text) = words::ESCAPES.iter().find(|(e, _)| e == c)?;
                out.extend(text.bytes());
            }
            _ => return None,
        }
    }
    Some(())
}

pub(super) fn needs_space(previous: Option<Token>, token: Token) -> bool {
    let Some(previous) = previous else {
        return false;
    };
    let is_word = |t: Token| matches!(t, Token::Word(_) | Token::Symbol(_));
    match (previous, token) {
        (Token::Operator(","), Token::Operator(")")) => false,
        (Token::Operator("," | ":"), _) => true,
        (Token::Word("b"), Token::Quote(_)) => false,
        (p, Token::Quote(_)) => is_word(p),
        (p, t) => is_word(p) && (is_word(t) || is_number(&t)),
    }
}

/// The spacing of the steps of a working: `[0] + -1 == 2 = True`. Where
/// values are shown inside, they keep the spacing of `repr`.
#[derive(Debug, Default)]
pub(super) struct StepSpacing {
    brackets: Vec<&'static str>,
    /// Whether the token before was an operator between two operands.
    after_binary: bool,
}

impl StepSpacing {
    /// Whether a space stands before `token`.
    pub(super) fn needs_space(&mut self, previous: Option<Token>, token: Token) -> bool {
        let ends_operand = matches!(
            previous,
            Some(
                Token::Digit(_)
                    | Token::NumberPart(_)
                    | Token::Quote(_)
                    | Token::Raw
                    | Token::Word(_)
                    | Token::Symbol(_)
                    | Token::Operator(")" | "]" | "}")
            )
        );
        let in_index = self.brackets.last() == Some(&"[");
        let is_binary = match token {
            Token::Operator("=") => true,
            Token::Operator("," | ":" | "." | "(" | ")" | "[" | "]" | "{" | "}") => false,
            Token::Operator(_) => ends_operand,
            _ => false,
        } && self.brackets.is_empty();
        let needs = match (previous, token) {
            (None, _) => false,
            (Some(Token::Operator(":")), _) if in_index => false,
            _ if is_binary || self.after_binary => true,
            (Some(Token::Operator(".")), _) => false,
            (_, Token::Word(_) | Token::Symbol(_)) if ends_operand => true,
            _ => needs_space(previous, token),
        };
        self.after_binary = is_binary;
        match token {
            Token::Operator(open @ ("(" | "[" | "{")) => self.brackets.push(open),
            Token::Operator(")" | "]" | "}") => {
                self.brackets.pop();
            }
            _ => {}
        }
        needs
    }
}
