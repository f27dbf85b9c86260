//! Programs that are like others but for an operator, a number or a word.
//!
//! A model that has seen a function may know what it does without reading it. One that has seen what a change
//! of one sign does has to read; Liu et al. (CodeExecutor, 2023) made most of their data so. What is changed
//! here are tokens of the text, so that a mutant looks as people write.

use std::ops::Range;

use crate::generate::rng::Rng;

/// A program with one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mutant {
    pub(crate) source: String,
    /// What was changed, for people: ``line 3: `<` became `<=` ``.
    pub(crate) change: String,
}

/// What tokens may become.
const EXCHANGES: &[(&str, &[&str])] = &[
    ("==", &["!=", "<=", ">="]),
    ("!=", &["=="]),
    ("<", &["<=", ">"]),
    ("<=", &["<", ">="]),
    (">", &[">=", "<"]),
    (">=", &[">", "<="]),
    ("+", &["-", "*"]),
    ("-", &["+"]),
    ("*", &["+", "-"]),
    ("//", &["%", "*"]),
    ("%", &["//"]),
    ("/", &["*", "//"]),
    ("&", &["|", "^"]),
    ("|", &["&", "^"]),
    ("^", &["|", "&"]),
    ("<<", &[">>"]),
    (">>", &["<<"]),
    ("+=", &["-=", "*="]),
    ("-=", &["+="]),
    ("*=", &["+="]),
    ("and", &["or"]),
    ("or", &["and"]),
    ("True", &["False"]),
    ("False", &["True"]),
    ("break", &["continue"]),
    ("min", &["max"]),
    ("max", &["min"]),
    ("any", &["all"]),
    ("all", &["any"]),
    ("upper", &["lower"]),
    ("lower", &["upper"]),
    ("startswith", &["endswith"]),
    ("endswith", &["startswith"]),
    ("lstrip", &["rstrip"]),
    ("rstrip", &["lstrip"]),
    ("find", &["rfind"]),
    ("partition", &["rpartition"]),
    ("floor", &["ceil"]),
    ("ceil", &["floor"]),
];

/// Signs that mean something else where no operand stands before them.
const BINARY: [&str; 5] = ["+", "-", "*", "/", "%"];

/// Changes one token of a function's body; `None` where there is none to change.
pub(crate) fn mutant(source: &str, rng: &mut Rng) -> Option<Mutant> {
    let tokens = tokens(source);
    let mut sites = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| &tokens[before]);
        if is_in_body(source, token.start) {
            sites.extend(
                replacement(source, token, before.map(|t| &source[t.clone()]), rng)
                    .map(|new| (token, new)),
            );
        }
    }
    if sites.is_empty() {
        return None;
    }
    let (place, new) = &sites[rng.below(sites.len())];
    let line = source[..place.start].matches('\n').count() + 1;
    let old = &source[(*place).clone()];
    Some(Mutant {
        source: format!("{}{new}{}", &source[..place.start], &source[place.end..]),
        change: format!("line {line}: `{old}` became `{new}`"),
    })
}

/// Whether a place is on an indented line that is no header of a function: defaults are not touched.
fn is_in_body(source: &str, at: usize) -> bool {
    let start = source[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = &source[start..];
    let code = line.trim_start_matches([' ', '\t']);
    code.len() < line.len()
        && !code.starts_with("def ")
        && !code.starts_with('@')
        && !code.starts_with("class ")
}

/// What a token becomes, if it may.
fn replacement(
    source: &str,
    token: &Range<usize>,
    before: Option<&str>,
    rng: &mut Rng,
) -> Option<String> {
    let text = &source[token.clone()];
    if let Ok(number) = text.parse::<u32>() {
        let next = if number == 0 || rng.chance(0.5) {
            number.checked_add(1)?
        } else {
            number - 1
        };
        return Some(next.to_string());
    }
    if BINARY.contains(&text) && !before.is_some_and(ends_operand) {
        return None;
    }
    // A keyword argument or a name of one's own, such as `min=3`, is no builtin.
    let rest = source[token.end..].trim_start();
    if rest.starts_with('=') && !rest.starts_with("==") {
        return None;
    }
    let (_, choices) = EXCHANGES.iter().find(|(old, _)| *old == text)?;
    Some((*rng.pick(choices)).to_owned())
}

fn ends_operand(token: &str) -> bool {
    const WORDS: [&str; 9] = [
        "and", "or", "not", "in", "return", "if", "else", "yield", "lambda",
    ];
    let last = token.chars().next_back();
    last.is_some_and(|c| c.is_alphanumeric() || "_)]}'\"".contains(c)) && !WORDS.contains(&token)
}

/// Where the tokens of a program stand, without comments; of texts only that they are there.
fn tokens(source: &str) -> Vec<Range<usize>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = source[at..].chars().next() {
        let rest = &source[at..];
        let length = if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        } else if c == '#' {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        } else if c == '\'' || c == '"' {
            text_length(rest, c)
        } else if c.is_alphanumeric() || c == '_' {
            let word = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
                .unwrap_or(rest.len());
            word_length(rest, word)
        } else {
            let signs = [
                "**=", "//=", ">>=", "<<=", "...", "**", "//", ">>", "<<", "==", "!=", "<=", ">=",
                "+=", "-=", "*=", "/=", "%=", "->", ":=",
            ];
            signs
                .iter()
                .find(|sign| rest.starts_with(**sign))
                .map_or(c.len_utf8(), |sign| sign.len())
        };
        tokens.push(at..at + length);
        at += length;
    }
    tokens
}

/// The length of a name, of a number with its point, or of a text with its prefix.
fn word_length(rest: &str, word: usize) -> usize {
    if rest.starts_with(|c: char| c.is_ascii_digit()) {
        return word;
    }
    let name = rest[..word].find('.').unwrap_or(word);
    match rest[name..].chars().next() {
        Some(quote @ ('\'' | '"')) if name <= 2 => name + text_length(&rest[name..], quote),
        _ => name,
    }
}

/// The length of a literal text, up to its closing quotation mark.
fn text_length(rest: &str, quote: char) -> usize {
    let triple: String = [quote; 3].iter().collect();
    let close = if rest.starts_with(&triple) {
        triple
    } else {
        quote.to_string()
    };
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(close.len()) {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if rest[at..].starts_with(&close) {
            return at + close.len();
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prop_assert, proptest};
    use std::collections::HashSet;

    const SOURCE: &str = "LIMIT = 3\n\ndef f(x, step=1, *rest):\n    # 1 + 1\n    text = '1 + 1'\n    if x < 10 and -x != 2:\n        return max(x, *rest, key=None) - 1\n    return 'a' + text\n";

    #[test]
    fn what_is_changed_is_code_in_a_body() {
        let mut rng = Rng::new(1, 1, 1);
        let changes: HashSet<_> = (0..400)
            .filter_map(|_| mutant(SOURCE, &mut rng))
            .map(|m| m.change)
            .collect();
        let of = |part: &str| changes.iter().any(|change| change.contains(part));
        for part in [
            "line 6: `<` became",
            "`10` became `11`",
            "`and` became `or`",
            "`!=` became `==`",
            "`max` became `min`",
            "line 7: `-` became `+`",
            "line 8: `+` became",
        ] {
            assert!(of(part), "{part}: {changes:?}");
        }
        for part in [
            "line 1",
            "line 3",
            "line 4",
            "line 5",
            "line 6: `-`",
            "`*` became",
        ] {
            assert!(!of(part), "{part}: {changes:?}");
        }
    }

    #[test]
    fn one_token_differs() {
        let mut rng = Rng::new(2, 2, 2);
        for _ in 0..100 {
            let Mutant { source, .. } =
                mutant(SOURCE, &mut rng).expect("there is something to change");
            let differing = source
                .lines()
                .zip(SOURCE.lines())
                .filter(|(a, b)| a != b)
                .count();
            assert_eq!(
                (differing, source.lines().count()),
                (1, SOURCE.lines().count())
            );
        }
        assert_eq!(mutant("def f(x):\n    return x\n", &mut rng), None);
    }

    proptest! {
        #[test]
        fn any_text_has_tokens(text in "\\PC{0,60}", seed: u64) {
            let tokens = tokens(&text);
            prop_assert!(tokens.windows(2).all(|pair| pair[0].end <= pair[1].start));
            mutant(&text, &mut Rng::new(seed, 0, 0));
        }
    }
}
