//! A lexer of Python for counting and comparing: tolerant, without a grammar, the same on every machine.
//!
//! Any text has tokens. What is not Python comes out as single characters; a text that is not closed ends with
//! its line or the source.

/// A piece of a source text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// An identifier or keyword.
    Word(&'a str),
    /// A number as it is written.
    Number(&'a str),
    /// A text literal: the letters before it, and what is between its quotation marks.
    Text { prefix: &'a str, content: &'a str },
    /// An operator or a sign, as long as Python has it.
    Sign(&'a str),
    /// The end of a line that has other tokens; blank lines and comments have none.
    Newline,
    /// A line begins further in than the last one.
    Indent,
    /// It begins less far in; once, however many blocks end.
    Dedent,
}

const SIGNS: &[&str] = &[
    "**=", "//=", ">>=", "<<=", "...", "**", "//", ">>", "<<", "==", "!=", "<=", ">=", "->", ":=",
    "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "@=",
];

/// The tokens of a source text, without comments.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::with_capacity(source.len() / 3);
    let mut rest = source;
    let (mut depth, mut margin, mut at_start) = (0usize, 0, true);
    while let Some(c) = rest.chars().next() {
        if at_start && depth == 0 && !"\n\r#".contains(c) {
            let indent = rest.len() - rest.trim_start_matches([' ', '\t']).len();
            rest = &rest[indent..];
            // Lines without code say nothing of blocks.
            if rest.is_empty() || rest.starts_with(['\n', '\r', '#']) {
                continue;
            }
            if indent != margin {
                tokens.push(if indent > margin {
                    Token::Indent
                } else {
                    Token::Dedent
                });
                margin = indent;
            }
            at_start = false;
            continue;
        }
        let len = match c {
            '\n' => {
                if !at_start && depth == 0 {
                    tokens.push(Token::Newline);
                    at_start = true;
                }
                1
            }
            '#' => rest.find('\n').unwrap_or(rest.len()),
            c if c.is_whitespace() => c.len_utf8(),
            '\\' => 1,
            _ => {
                let (token, len) = token(rest, c);
                match token {
                    Token::Sign("(" | "[" | "{") => depth += 1,
                    Token::Sign(")" | "]" | "}") => depth = depth.saturating_sub(1),
                    _ => {}
                }
                tokens.push(token);
                len
            }
        };
        rest = &rest[len..];
    }
    if !at_start {
        tokens.push(Token::Newline);
    }
    tokens
}

/// The token that `rest` begins with, and its length; `first` is its first character, and no space.
fn token(rest: &str, first: char) -> (Token<'_>, usize) {
    if first == '\'' || first == '"' {
        return text(rest, 0);
    }
    let is_inner = |c: char| c.is_alphanumeric() || c == '_';
    let end = |inner: &dyn Fn(char) -> bool| rest.find(|c| !inner(c)).unwrap_or(rest.len());
    if first.is_alphabetic() || first == '_' {
        let end = end(&is_inner);
        let is_prefix = end <= 2 && rest[..end].chars().all(|c| "rbfuRBFU".contains(c));
        if is_prefix && rest[end..].starts_with(['\'', '"']) {
            return text(rest, end);
        }
        return (Token::Word(&rest[..end]), end);
    }
    let fraction = first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit());
    if first.is_ascii_digit() || fraction {
        // `1.real` is no Python, so a dot behind digits is theirs.
        let end = end(&|c| is_inner(c) || c == '.');
        return (Token::Number(&rest[..end]), end);
    }
    let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
    let len = sign.map_or(first.len_utf8(), |sign| sign.len());
    (Token::Sign(&rest[..len]), len)
}

/// The literal whose quotation mark is at `mark`.
fn text(rest: &str, mark: usize) -> (Token<'_>, usize) {
    let quoted = &rest[mark..];
    let triple = quoted.starts_with("'''") || quoted.starts_with("\"\"\"");
    let quote = &quoted[..if triple { 3 } else { 1 }];
    let body = &quoted[quote.len()..];
    let prefix = &rest[..mark];
    let (mut at, mut escaped) = (0, false);
    for c in body.chars() {
        let ends = !escaped && body[at..].starts_with(quote);
        if ends || (c == '\n' && !triple && !escaped) {
            break;
        }
        escaped = !escaped && c == '\\';
        at += c.len_utf8();
    }
    let closing = if body[at..].starts_with(quote) {
        quote.len()
    } else {
        0
    };
    let token = Token::Text {
        prefix,
        content: &body[..at],
    };
    (token, mark + quote.len() + at + closing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(source: &str) -> String {
        let tokens = tokens(source);
        let words = tokens.iter().map(|token| match token {
            Token::Word(text) | Token::Number(text) | Token::Sign(text) => (*text).to_owned(),
            Token::Text { prefix, content } => format!("{prefix}<{content}>"),
            Token::Newline => "/".to_owned(),
            Token::Indent => "[".to_owned(),
            Token::Dedent => "]".to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn lines_and_blocks_are_told() {
        let source = "# note\nif x:  # why\n\n    y = 1\nz = f(\n    2)\n";
        assert_eq!(shown(source), "if x : / [ y = 1 / ] z = f ( 2 ) /");
        assert_eq!(shown("x"), "x /");
    }

    #[test]
    fn literals_are_whole() {
        assert_eq!(
            shown("a = f'{x!r:>4}' + rb\"q\""),
            "a = f<{x!r:>4}> + rb<q> /"
        );
        assert_eq!(shown(r"s = 'it\'s' + '#'"), r"s = <it\'s> + <#> /");
        assert_eq!(shown("'''a\n'b'''\nx"), "<a\n'b> / x /");
        assert_eq!(
            shown("1.5e3 .5 0x1f 1_000 x.y"),
            "1.5e3 .5 0x1f 1_000 x . y /"
        );
        assert_eq!(shown("'open\nx"), "<open> / x /");
    }

    #[test]
    fn signs_are_as_long_as_they_can_be() {
        assert_eq!(shown("a**=b//c:=d->e"), "a **= b // c := d -> e /");
    }

    proptest! {
        #[test]
        fn any_text_has_tokens(text in "[a-z0-9_'\"\\\\\n\t #.:=()\\[\\]é]{0,60}") {
            tokens(&text);
        }
    }
}
