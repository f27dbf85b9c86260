//! The identifiers of a program: which of them are known words, and which are
//! symbols of its own.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::lex::{FormatPart, Lexeme};
use super::vocabulary::{Token, Vocabulary};
use super::words;

/// Where a name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    Variable,
    Attribute,
    /// Before a `=` inside a call.
    KeywordArgument,
}

impl Context {
    pub(super) fn of(lexemes: &[Lexeme], at: usize) -> Self {
        let is = |i: Option<usize>, o: &str| {
            i.and_then(|i| lexemes.get(i))
                .is_some_and(|l| *l == Lexeme::Operator(operator(o)))
        };
        let before = at.checked_sub(1);
        if is(before, ".") {
            Self::Attribute
        } else if is(Some(at + 1), "=")
            && (is(before, "(") || is(before, ","))
            && !in_definition(lexemes, at)
        {
            Self::KeywordArgument
        } else {
            Self::Variable
        }
    }
}

/// Whether the line of `at` is a `def`, where `name=` is a parameter.
fn in_definition(lexemes: &[Lexeme], at: usize) -> bool {
    let line = lexemes[..at]
        .iter()
        .rev()
        .take_while(|l| !matches!(l, Lexeme::Line(_)));
    line.into_iter()
        .any(|l| matches!(l, Lexeme::Name(n) if n == "def" || n == "lambda"))
}

fn operator(text: &str) -> &'static str {
    words::OPERATORS
        .iter()
        .find(|o| **o == text)
        .copied()
        .unwrap_or("")
}

/// The identifiers of a program.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Names the program gives to functions, classes and attributes: never
    /// taken for a known method.
    own: BTreeSet<String>,
    pub(super) symbols: Vec<Arc<str>>,
    pub(super) index: HashMap<Arc<str>, u32>,
    /// Known words that the program binds as variables.
    pub(super) bound_words: BTreeSet<&'static str>,
}

impl Names {
    pub(super) fn new(lexemes: &[Lexeme], vocabulary: &Vocabulary) -> Self {
        let mut names = Self::default();
        names.collect_own(lexemes);
        names.collect_symbols(lexemes, vocabulary);
        names
    }

    fn collect_own(&mut self, lexemes: &[Lexeme]) {
        for (i, lexeme) in lexemes.iter().enumerate() {
            let Lexeme::Name(name) = lexeme else { continue };
            let previous = i.checked_sub(1).map(|p| &lexemes[p]);
            let defined = matches!(previous, Some(Lexeme::Name(p)) if p == "def" || p == "class");
            let assigned = previous == Some(&Lexeme::Operator("."))
                && matches!(lexemes.get(i + 1), Some(Lexeme::Operator(o)) if is_assignment(o));
            if (defined && !name.starts_with("__")) || assigned {
                self.own.insert(name.clone());
            }
        }
    }

    fn collect_symbols(&mut self, lexemes: &[Lexeme], vocabulary: &Vocabulary) {
        for (i, lexeme) in lexemes.iter().enumerate() {
            match lexeme {
                Lexeme::Name(name) => {
                    let context = Context::of(lexemes, i);
                    match self.word(name, context, vocabulary) {
                        // An attribute is no variable, however its line reads.
                        Some(Token::Word(word))
                            if context == Context::Variable && is_bound(lexemes, i) =>
                        {
                            self.bound_words.insert(word);
                        }
                        Some(_) => {}
                        None => self.add(name),
                    }
                    // A keyword argument's name is a parameter, hence a
                    // variable, of one of the program's own functions.
                    if context == Context::KeywordArgument {
                        let as_variable = self.word(name, Context::Variable, vocabulary);
                        if as_variable.is_none() {
                            self.add(name);
                        }
                    }
                }
                Lexeme::Format(parts) => {
                    for part in parts {
                        if let FormatPart::Field { expression, .. } = part {
                            self.collect_symbols(expression, vocabulary);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn add(&mut self, name: &str) {
        if !self.index.contains_key(name) {
            let name: Arc<str> = Arc::from(name);
            self.index.insert(name.clone(), self.symbols.len() as u32);
            self.symbols.push(name);
        }
    }

    /// The word a name stands for in its context, if it is not a symbol.
    pub(super) fn word(
        &self,
        name: &str,
        context: Context,
        vocabulary: &Vocabulary,
    ) -> Option<Token> {
        if self.own.contains(name) {
            return None;
        }
        let known = match context {
            Context::Attribute => words::METHODS.contains(&name) || words::BUILTINS.contains(&name),
            Context::KeywordArgument if words::KEYWORD_ARGUMENTS.contains(&name) => true,
            _ => words::KEYWORDS.contains(&name) || words::BUILTINS.contains(&name),
        };
        if known { vocabulary.word(name) } else { None }
    }
}

fn is_assignment(operator: &str) -> bool {
    operator.ends_with('=') && !matches!(operator, "==" | "!=" | "<=" | ">=")
}

/// Whether the name at `i` may be a variable that is bound here.
fn is_bound(lexemes: &[Lexeme], i: usize) -> bool {
    let Lexeme::Name(name) = &lexemes[i] else {
        return false;
    };
    let reserved =
        words::KEYWORDS.contains(&name.as_str()) && !words::SOFT.contains(&name.as_str());
    if reserved || name.starts_with("__") {
        return false;
    }
    let next = lexemes.get(i + 1);
    let previous = i.checked_sub(1).map(|p| &lexemes[p]);
    let is_name = |l: Option<&Lexeme>, words: &[&str]| matches!(l, Some(Lexeme::Name(n)) if words.contains(&n.as_str()));
    matches!(next, Some(Lexeme::Operator(o)) if is_assignment(o) || *o == "," || *o == ")")
        || is_name(next, &["in"])
        || is_name(previous, &["as", "for"])
}
