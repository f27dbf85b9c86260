//! The token list and its lookups.

use std::collections::HashMap;
use std::path::Path;

use cwm_trace::live::{MOST_NEXT, Mark};
use serde::{Deserialize, Serialize};

use super::words;

/// What a token stands for. Lines and symbols are numbered as in the
/// vocabulary; [`Codec`](super::Codec) maps them to those of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// Fills unused places; never predicted.
    Pad,
    /// First token of every context.
    Begin,
    /// The source text follows.
    Source,
    /// A fixed word of a window.
    Mark(Mark),
    /// The value, or item, is that of the variable that follows.
    Same,
    /// The first items of what the variable held before.
    Keep,
    /// The last items of what the variable held before.
    Rest,
    /// A line number.
    Line(u32),
    /// One of the lines that a focus lists, counted from 0.
    Choice(u32),
    /// Nesting depth of a line of source.
    Depth(u32),
    /// Items a `for` loop has consumed (two tokens from 100 on); inside
    /// brackets the comma before the item of this index (modulo 100).
    Ordinal(u32),
    /// An identifier of the program.
    Symbol(u32),
    /// A known identifier or keyword.
    Word(&'static str),
    /// An operator or delimiter.
    Operator(&'static str),
    /// A decimal digit of a number.
    Digit(u8),
    /// A character of a number that is no plain whole number.
    NumberPart(char),
    /// Opens and closes a string: `'` or `"`.
    Quote(char),
    /// A printable ASCII character inside a string or raw text.
    Char(char),
    /// A character that `repr` escapes.
    Escape(char),
    /// A byte of the UTF-8 form of any other character.
    Byte(u8),
    /// Opens and closes text that is shown character by character.
    Raw,
}

const MARKS: &[(Mark, &str)] = &[
    (Mark::Call, "call"),
    (Mark::Resume, "resume"),
    (Mark::State, "state"),
    (Mark::Return, "return"),
    (Mark::Yield, "yield"),
    (Mark::Exception, "exception"),
    (Mark::Unwind, "unwind"),
    (Mark::Back, "back"),
    (Mark::Delete, "delete"),
    (Mark::Item, "item"),
    (Mark::End, "end"),
    (Mark::Next, "next"),
    (Mark::Work, "work"),
];

/// The marks of jumps came later: they stand behind all other tokens, whose ids so stay what they were.
const JUMPS: &[(Mark, &str)] = &[
    (Mark::Over, "over"),
    (Mark::Leave, "leave"),
    (Mark::Until, "until"),
    (Mark::Finish, "finish"),
    (Mark::Before, "before"),
    (Mark::Into, "into"),
    (Mark::Input, "input"),
    (Mark::Normal, "normal"),
    (Mark::Error, "error"),
];

pub(super) const MAX_LINE: u32 = 127;
pub(super) const MAX_DEPTH: u32 = 11;
pub(super) const CHOICES: u32 = MOST_NEXT as u32;
pub(super) const ORDINALS: u32 = 100;
pub(super) const SYMBOLS: u32 = 96;

/// A vocabulary does not fit this program.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// The file cannot be read.
    #[error("cannot read the vocabulary `{path}`: {source}")]
    Io {
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not a vocabulary.
    #[error("`{path}` is not a vocabulary file: {reason}")]
    Format {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The file lists other tokens than this version knows.
    #[error(
        "the vocabulary `{path}` is of another version: token {id} is `{found}`, expected `{expected}`; use the cwm version that trained this model"
    )]
    Differs {
        /// The file.
        path: String,
        /// First id that differs.
        id: usize,
        /// Its token in the file.
        found: String,
        /// Its token here.
        expected: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VocabularyFile {
    format: String,
    tokens: Vec<String>,
}

const FORMAT: &str = "cwm-nano-vocabulary-1";

/// The tokens, in order of id.
#[derive(Debug)]
pub struct Vocabulary {
    tokens: Vec<Token>,
    ids: HashMap<Token, u32>,
    words: HashMap<&'static str, &'static str>,
}

impl Default for Vocabulary {
    fn default() -> Self {
        Self::of(all_tokens())
    }
}

impl Vocabulary {
    fn of(tokens: Vec<Token>) -> Self {
        let ids = tokens
            .iter()
            .enumerate()
            .map(|(i, &t)| (t, i as u32))
            .collect();
        let words = tokens
            .iter()
            .filter_map(|t| match t {
                Token::Word(w) => Some((*w, *w)),
                _ => None,
            })
            .collect();
        Self { tokens, ids, words }
    }

    /// The vocabulary of models that were trained before there were jumps.
    pub fn without_jumps() -> Self {
        let mut tokens = all_tokens();
        tokens.truncate(tokens.len() - JUMPS.len());
        Self::of(tokens)
    }

    /// Whether it has the marks that ask for jumps.
    pub fn has_jumps(&self) -> bool {
        self.ids.contains_key(&Token::Mark(Mark::Over))
    }

    /// Name of the file beside the weights.
    pub const FILE: &str = "vocabulary.json";

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Never true; there for form's sake.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The token of an id as text, for people.
    pub fn name(&self, id: u32) -> String {
        self.tokens
            .get(id as usize)
            .map_or_else(|| format!("<{id}?>"), token_name)
    }

    /// Checks that the file lists exactly this vocabulary, or the one [without jumps](Self::without_jumps), and gives
    /// it.
    pub fn load(path: &Path) -> Result<Self, VocabularyError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| VocabularyError::Io {
            path: shown.clone(),
            source,
        })?;
        let file: VocabularyFile =
            serde_json::from_str(&text).map_err(|e| VocabularyError::Format {
                path: shown.clone(),
                reason: e.to_string(),
            })?;
        if file.format != FORMAT {
            let reason = format!("format is `{}`, expected `{FORMAT}`", file.format);
            return Err(VocabularyError::Format {
                path: shown,
                reason,
            });
        }
        let ours = match Self::without_jumps() {
            older if older.len() == file.tokens.len() => older,
            _ => Self::default(),
        };
        let expected: Vec<String> = ours.tokens.iter().map(token_name).collect();
        let differs = (0..expected.len().max(file.tokens.len()))
            .find(|&i| expected.get(i) != file.tokens.get(i));
        match differs {
            None => Ok(ours),
            Some(id) => {
                let or_none = |t: Option<&String>| t.cloned().unwrap_or_else(|| "nothing".into());
                Err(VocabularyError::Differs {
                    path: shown,
                    id,
                    found: or_none(file.tokens.get(id)),
                    expected: or_none(expected.get(id)),
                })
            }
        }
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        let tokens = self.tokens.iter().map(token_name).collect();
        let file = VocabularyFile {
            format: FORMAT.into(),
            tokens,
        };
        serde_json::to_string(&file).unwrap_or_default()
    }

    /// The id of a token; that of padding for one out of range.
    pub fn id(&self, token: Token) -> u32 {
        self.ids.get(&token).copied().unwrap_or(0)
    }

    /// The token of an id, if there is such an id.
    pub fn token(&self, id: u32) -> Option<Token> {
        self.tokens.get(id as usize).copied()
    }

    /// First and last id of each kind of token that stands in runs: the digits
    /// of a number (lowest first), and the characters of a text.
    pub fn runs(&self) -> Vec<[u32; 2]> {
        let ends = [
            (Token::Digit(0), Token::NumberPart('_')),
            (Token::Char(' '), Token::Escape('\'')),
        ];
        ends.map(|(first, last)| [self.id(first), self.id(last)])
            .to_vec()
    }

    pub(super) fn word(&self, text: &str) -> Option<Token> {
        self.words.get(text).map(|w| Token::Word(w))
    }
}

fn all_tokens() -> Vec<Token> {
    let mut tokens = vec![Token::Pad, Token::Begin, Token::Source, Token::Raw];
    tokens.extend(MARKS.iter().map(|&(m, _)| Token::Mark(m)));
    tokens.extend([Token::Same, Token::Keep, Token::Rest]);
    tokens.extend((0..10).map(Token::Digit));
    tokens.extend(['.', 'e', '+', '-', 'j', '_'].map(Token::NumberPart));
    tokens.extend(['\'', '"'].map(Token::Quote));
    tokens.extend((b' '..=b'~').map(|b| Token::Char(b as char)));
    tokens.extend(words::ESCAPES.iter().map(|&(c, _)| Token::Escape(c)));
    tokens.extend(words::OPERATORS.iter().map(|o| Token::Operator(o)));
    let mut seen = std::collections::HashSet::new();
    let lists = [
        words::KEYWORDS,
        words::BUILTINS,
        words::METHODS,
        words::KEYWORD_ARGUMENTS,
        words::STRING_PREFIXES,
    ];
    for word in lists.into_iter().flatten() {
        if seen.insert(*word) {
            tokens.push(Token::Word(word));
        }
    }
    tokens.extend((0..CHOICES).map(Token::Choice));
    tokens.extend((0..=MAX_LINE).map(Token::Line));
    tokens.extend((0..=MAX_DEPTH).map(Token::Depth));
    tokens.extend((0..ORDINALS).map(Token::Ordinal));
    tokens.extend((0..SYMBOLS).map(Token::Symbol));
    tokens.extend((0x80..=0xff).map(Token::Byte));
    tokens.extend(JUMPS.iter().map(|&(m, _)| Token::Mark(m)));
    tokens
}

fn token_name(token: &Token) -> String {
    match *token {
        Token::Pad => "<pad>".into(),
        Token::Begin => "<begin>".into(),
        Token::Source => "<source>".into(),
        Token::Raw => "<raw>".into(),
        Token::Mark(mark) => {
            let name = MARKS
                .iter()
                .chain(JUMPS)
                .find(|(m, _)| *m == mark)
                .map_or("?", |(_, n)| n);
            format!("<{name}>")
        }
        Token::Same => "<same>".into(),
        Token::Keep => "<keep>".into(),
        Token::Rest => "<rest>".into(),
        Token::Line(n) => format!("L{n}"),
        Token::Choice(n) => format!("N{n}"),
        Token::Depth(n) => format!("D{n}"),
        Token::Ordinal(n) => format!("#{n}"),
        Token::Symbol(n) => format!("${n}"),
        Token::Word(w) => format!("w:{w}"),
        Token::Operator(o) => format!("o:{o}"),
        Token::Digit(d) => format!("d:{d}"),
        Token::NumberPart(c) => format!("n:{c}"),
        Token::Quote(c) => format!("q:{c}"),
        Token::Char(c) => format!("c:{c}"),
        Token::Escape(c) => format!("e:{}", c.escape_default()),
        Token::Byte(b) => format!("b:{b:02x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_distinct_and_fit() {
        let v = Vocabulary::default();
        assert_eq!(v.ids.len(), v.tokens.len());
        assert!(v.len() < 1024, "{}", v.len());
        let names: std::collections::HashSet<_> = v.tokens.iter().map(token_name).collect();
        assert_eq!(names.len(), v.len());
    }
}
