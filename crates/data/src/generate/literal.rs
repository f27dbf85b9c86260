//! Literals of typed taste: small numbers, short real words, short collections.
//!
//! The distributions here decide most of what a model trained on the data can do, so they are
//! narrow on purpose: a value that appears in a trace costs one token per character.

use super::context::Context;
use super::exprs;
use super::names::{PEOPLE, WORDS};
use super::rng::Rng;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal),* $(,)?) => {
        /// What a hole of idiom text asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind { $($(#[$doc])* $kind),* }

        impl Kind {
            /// The kind a hole's name stands for.
            pub(crate) fn parse(name: &str) -> Option<Self> {
                Some(match name { $($name => Self::$kind,)* _ => return None })
            }
        }
    };
}

kinds! {
    /// An int, any; `(a,b)`: within these bounds.
    Int = "int",
    /// A small divisor, factor or width: 2, 3, 4, 5, 7, 10.
    Const = "const",
    /// A list of ints; `(a,b)`: bounds of its length, as for all sequences.
    Ints = "ints",
    /// A list of ints from 0 to 9.
    Smalls = "smalls",
    /// A list of distinct ints.
    Uniq = "uniq",
    /// A sorted list of distinct ints.
    Sorted = "sorted",
    /// A list of positive ints.
    Posints = "posints",
    /// A list over very few values, so that equal neighbours occur.
    Runs = "runs",
    /// A tuple of ints.
    Tuple = "tuple",
    /// A set of ints.
    Set = "set",
    /// `(r,c)` bounds of height and width: a list of rows of small ints.
    Matrix = "matrix",
    /// A lower-case word; `(a,b)`: bounds of its length.
    Word = "word",
    /// The same without quotation marks, for use inside a text.
    Bare = "bare",
    /// A word with random capitals.
    Mixed = "mixed",
    /// Letters, digits and signs.
    Str = "str",
    /// Letters in runs, such as `aabccc`.
    Runstr = "runstr",
    /// Digits; the first is not 0.
    Digits = "digits",
    /// A few words with single spaces.
    Sentence = "sentence",
    /// A list of words.
    Words = "words",
    /// A list of first names.
    People = "people",
    /// One first name.
    Person = "person",
    /// A letter.
    Letter = "letter",
    /// A dict of words to ints.
    Dict = "dict",
    /// A dict of letters to ints.
    Letters = "letters",
    /// A list of (word, int) tuples.
    Pairs = "pairs",
    /// A list of (int, int) tuples.
    Points = "points",
    /// Brackets, often balanced.
    Brackets = "brackets",
    /// Text such as `a=1;b=20`.
    Kv = "kv",
    /// Text such as `3,1,4`.
    Csv = "csv",
    /// A list that holds lists of ints and ints.
    Nested = "nested",
    /// A list of 0 and 1, or a list of bools.
    Bits = "bits",
    /// Text of 0 and 1.
    Bitstr = "bitstr",
    /// `True` or `False`.
    Bool = "bool",
    /// A float with one decimal.
    Float = "float",
    /// A letter, mostly one of the last text drawn.
    LetterOf = "letterof",
    /// A short piece, mostly of the last text drawn.
    PieceOf = "pieceof",
    /// An int, mostly one of the last list of ints drawn.
    Member = "member",
    /// A word, mostly one of the last list of words drawn.
    WordOf = "wordof",
    /// A key, mostly of the last dict drawn.
    KeyOf = "keyof",
    /// A valid index of the last sequence drawn.
    Index = "index",
    /// `(x,..)`: an int expression over the given int variables.
    Expr = "expr",
    /// `(x,..)`: a condition on the given int variables.
    Cond = "cond",
    /// `(s)`: a text made from the text variable.
    Text = "text",
    /// `(s)`: a condition on the text variable.
    TextCond = "textcond",
    /// `(c)`: a text made from the variable that holds one character.
    Char = "char",
    /// `(c)`: a condition on the variable that holds one character.
    CharCond = "charcond",
    /// `(xs)`: a list made from the variable that holds a list of ints.
    List = "list",
    /// `(xs)`: an int made from the variable that holds a non-empty list of ints.
    Reduce = "reduce",
    /// `(s)`: an int made from the text variable.
    Measure = "measure",
}

impl Kind {
    /// Draws one, as Python source.
    pub(crate) fn draw(self, arguments: &[&str], context: &mut Context) -> String {
        let number = |at: usize, default: i64| {
            arguments
                .get(at)
                .and_then(|a| a.parse().ok())
                .unwrap_or(default)
        };
        let bounds = |low: i64, high: i64| (number(0, low), number(1, number(0, high).max(high)));
        let rng = &mut context.rng;
        match self {
            Self::Int if arguments.len() == 2 => rng.range(number(0, 0), number(1, 0)).to_string(),
            Self::Int => int(rng).to_string(),
            Self::Const => constant(rng).to_string(),
            Self::Float => format!("{}.{}", rng.range(0, 12), rng.pick(&[0, 5, 5, 2])),
            Self::Bool => if rng.chance(0.5) { "True" } else { "False" }.into(),
            Self::Ints
            | Self::Smalls
            | Self::Uniq
            | Self::Sorted
            | Self::Posints
            | Self::Runs
            | Self::Tuple
            | Self::Set
            | Self::Bits => {
                let len = length(rng, bounds(2, 5));
                let items = self.int_items(rng, len);
                context.recall.len = items.len();
                context.recall.ints.clone_from(&items);
                let text = join(&items);
                match self {
                    Self::Tuple => format!("({text}{})", if items.len() == 1 { "," } else { "" }),
                    Self::Set if items.is_empty() => "set()".into(),
                    Self::Set => format!("{{{text}}}"),
                    _ => format!("[{text}]"),
                }
            }
            Self::Matrix => {
                let (rows, columns) = bounds(2, 3);
                let height = rng.range(2.min(rows), rows);
                let width = rng.range(2.min(columns), columns);
                let rows: Vec<String> = (0..height)
                    .map(|_| {
                        let row: Vec<i64> = (0..width).map(|_| rng.range(0, 9)).collect();
                        format!("[{}]", join(&row))
                    })
                    .collect();
                context.recall.len = rows.len();
                format!("[{}]", rows.join(", "))
            }
            Self::Nested => nested(context),
            Self::Word
            | Self::Mixed
            | Self::Str
            | Self::Runstr
            | Self::Digits
            | Self::Sentence
            | Self::Brackets
            | Self::Kv
            | Self::Csv
            | Self::Bitstr
            | Self::Person => {
                let text = self.text(rng, bounds(2, 6));
                context.recall.len = text.chars().count();
                context.recall.text.clone_from(&text);
                context.quoted(&text)
            }
            Self::Bare => {
                let (low, high) = bounds(2, 6);
                word(rng, low as usize, high as usize).to_owned()
            }
            Self::Letter => {
                let letter = letter(rng).to_string();
                context.quoted(&letter)
            }
            Self::Words | Self::People => {
                let len = length(rng, bounds(2, 4));
                let words: Vec<String> = (0..len)
                    .map(|_| {
                        if self == Self::People {
                            *rng.pick(PEOPLE)
                        } else {
                            word(rng, 1, 6)
                        }
                    })
                    .map(str::to_owned)
                    .collect();
                context.recall.len = words.len();
                context.recall.words.clone_from(&words);
                let quoted: Vec<String> = words.iter().map(|w| context.quoted(w)).collect();
                format!("[{}]", quoted.join(", "))
            }
            Self::Dict | Self::Letters | Self::Pairs => {
                let len = length(rng, bounds(2, 4));
                self.entries(context, len)
            }
            Self::Points => {
                let len = length(rng, bounds(2, 4));
                let points: Vec<String> = (0..len)
                    .map(|_| format!("({}, {})", rng.range(0, 9), rng.range(-3, 12)))
                    .collect();
                context.recall.len = points.len();
                format!("[{}]", points.join(", "))
            }
            Self::LetterOf
            | Self::PieceOf
            | Self::Member
            | Self::WordOf
            | Self::KeyOf
            | Self::Index => self.recalled(context),
            Self::Expr => exprs::int(arguments, context),
            Self::Cond => exprs::condition(arguments, context),
            Self::Text => exprs::text(first(arguments), context),
            Self::TextCond => exprs::text_condition(first(arguments), context),
            Self::Char => exprs::char_text(first(arguments), context),
            Self::CharCond => exprs::char_condition(first(arguments), context),
            Self::List => exprs::list(first(arguments), context),
            Self::Reduce => exprs::reduce(first(arguments), context),
            Self::Measure => exprs::measure(first(arguments), context),
        }
    }

    fn int_items(self, rng: &mut Rng, len: usize) -> Vec<i64> {
        let mut items: Vec<i64> = match self {
            Self::Smalls => (0..len).map(|_| rng.range(0, 9)).collect(),
            Self::Posints => (0..len).map(|_| int(rng).abs().max(1)).collect(),
            Self::Bits => (0..len).map(|_| rng.range(0, 1)).collect(),
            Self::Runs => {
                let values = [rng.range(0, 9), rng.range(0, 9), rng.range(0, 12)];
                (0..len).map(|_| *rng.pick(&values)).collect()
            }
            _ => (0..len).map(|_| int(rng)).collect(),
        };
        if matches!(self, Self::Uniq | Self::Sorted | Self::Set) {
            let mut kept = Vec::new();
            items.retain(|item| {
                let fresh = !kept.contains(item);
                kept.push(*item);
                fresh
            });
        }
        if self == Self::Sorted {
            items.sort_unstable();
        }
        items
    }

    fn text(self, rng: &mut Rng, (low, high): (i64, i64)) -> String {
        let len = length(rng, (low, high));
        match self {
            Self::Word => word(rng, low as usize, high as usize).to_owned(),
            Self::Person => (*rng.pick(PEOPLE)).to_owned(),
            Self::Mixed => {
                let style = rng.below(4);
                let text = word(rng, low as usize, high as usize);
                let mut upper = style == 0;
                text.chars()
                    .enumerate()
                    .map(|(i, c)| {
                        upper = match style {
                            0 | 1 => i == 0,
                            _ => rng.chance(0.4),
                        };
                        if upper { c.to_ascii_uppercase() } else { c }
                    })
                    .collect()
            }
            Self::Str => (0..len)
                .map(|_| match rng.below(10) {
                    0..=4 => letter(rng),
                    5..=7 => digit(rng),
                    8 => letter(rng).to_ascii_uppercase(),
                    _ => *rng.pick(&[' ', '-', '.', '!', '_', ',']),
                })
                .collect(),
            Self::Runstr => {
                let letters = [letter(rng), letter(rng), letter(rng)];
                let mut text = String::new();
                while text.len() < len {
                    let run = rng.range(1, 3) as usize;
                    let chosen = *rng.pick(&letters);
                    text.extend(std::iter::repeat_n(chosen, run.min(len - text.len())));
                }
                text
            }
            Self::Digits => (0..len)
                .map(|i| {
                    if i == 0 {
                        (b'1' + rng.below(9) as u8) as char
                    } else {
                        digit(rng)
                    }
                })
                .collect(),
            Self::Bitstr => (0..len).map(|_| *rng.pick(&['0', '1'])).collect(),
            Self::Csv => {
                let items: Vec<i64> = (0..len).map(|_| int(rng)).collect();
                items
                    .iter()
                    .map(i64::to_string)
                    .collect::<Vec<_>>()
                    .join(",")
            }
            Self::Kv => {
                let count = rng.range(2, 3);
                let parts: Vec<String> = (0..count)
                    .map(|_| format!("{}={}", word(rng, 1, 4), rng.range(0, 20)))
                    .collect();
                parts.join(";")
            }
            Self::Brackets => brackets(rng, len),
            // A sentence; the other kinds are not texts and never get here.
            _ => (0..len)
                .map(|_| word(rng, 1, 6))
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    fn entries(self, context: &mut Context, len: usize) -> String {
        let mut keys: Vec<String> = Vec::new();
        for _ in 0..len {
            let rng = &mut context.rng;
            let key = match (self, rng.below(3)) {
                (Self::Letters, _) => letter(rng).to_string(),
                (_, 0) => (*rng.pick(PEOPLE)).to_owned(),
                _ => word(rng, 2, 5).to_owned(),
            };
            if self == Self::Pairs || !keys.contains(&key) {
                keys.push(key);
            }
        }
        let entries: Vec<String> = keys
            .iter()
            .map(|key| {
                let value = int(&mut context.rng).abs();
                let key = context.quoted(key);
                if self == Self::Pairs {
                    format!("({key}, {value})")
                } else {
                    format!("{key}: {value}")
                }
            })
            .collect();
        context.recall.len = keys.len();
        context.recall.keys = keys;
        let text = entries.join(", ");
        if self == Self::Pairs {
            format!("[{text}]")
        } else {
            format!("{{{text}}}")
        }
    }

    /// A literal that mostly refers to the one drawn last.
    fn recalled(self, context: &mut Context) -> String {
        let Context { rng, recall, .. } = context;
        let hit = rng.chance(0.75);
        let text = match self {
            Self::Index => {
                let last = recall.len.max(1) as i64 - 1;
                let first = if rng.chance(0.2) { -last - 1 } else { 0 };
                return rng.range(first, last).to_string();
            }
            Self::Member if hit && !recall.ints.is_empty() => {
                return rng.pick(&recall.ints).to_string();
            }
            Self::Member => return int(rng).to_string(),
            Self::LetterOf | Self::PieceOf if hit && !recall.text.is_empty() => {
                let chars: Vec<char> = recall.text.chars().collect();
                let at = rng.below(chars.len());
                let len = if self == Self::LetterOf {
                    1
                } else {
                    1 + rng.below(2)
                };
                chars[at..(at + len).min(chars.len())].iter().collect()
            }
            Self::WordOf if hit && !recall.words.is_empty() => rng.pick(&recall.words).clone(),
            Self::KeyOf if hit && !recall.keys.is_empty() => rng.pick(&recall.keys).clone(),
            Self::LetterOf => letter(rng).to_string(),
            _ => word(rng, 1, 4).to_owned(),
        };
        context.quoted(&text)
    }
}

fn first<'a>(arguments: &[&'a str]) -> &'a str {
    arguments.first().copied().unwrap_or("x")
}

fn join(items: &[i64]) -> String {
    items
        .iter()
        .map(i64::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn length(rng: &mut Rng, (low, high): (i64, i64)) -> usize {
    rng.range(low, high).max(0) as usize
}

/// An int as people write them in small examples: mostly below 20, rarely above 99.
pub(crate) fn int(rng: &mut Rng) -> i64 {
    match rng.below(100) {
        0..=56 => rng.range(0, 9),
        57..=76 => rng.range(10, 20),
        77..=84 => rng.range(-9, -1),
        85..=86 => rng.range(-20, -10),
        87..=97 => rng.range(21, 99),
        _ => rng.range(100, 999),
    }
}

/// A constant that is safe as divisor and modest as factor.
pub(crate) fn constant(rng: &mut Rng) -> i64 {
    [2, 3, 4, 5, 7, 10][rng.weighted(&[10, 8, 3, 4, 2, 5])]
}

/// A letter, often one of the more frequent.
pub(crate) fn letter(rng: &mut Rng) -> char {
    if rng.chance(0.5) {
        *rng.pick(&['a', 'b', 'c', 'e', 'o', 's', 't', 'x'])
    } else {
        (b'a' + rng.below(26) as u8) as char
    }
}

fn digit(rng: &mut Rng) -> char {
    (b'0' + rng.below(10) as u8) as char
}

/// A word of the list within these lengths, or random letters where a few tries find none.
pub(crate) fn word(rng: &mut Rng, low: usize, high: usize) -> &'static str {
    (0..40)
        .map(|_| *rng.pick(WORDS))
        .find(|word| (low..=high).contains(&word.len()))
        .unwrap_or("noon")
}

fn nested(context: &mut Context) -> String {
    let rng = &mut context.rng;
    let count = rng.range(2, 4);
    let parts: Vec<String> = (0..count)
        .map(|i| match rng.below(5) {
            0 if i > 0 => format!("[{}, [{}]]", rng.range(0, 9), rng.range(0, 9)),
            1 | 2 => format!("[{}]", join(&[rng.range(0, 9), rng.range(0, 9)])),
            _ => rng.range(0, 20).to_string(),
        })
        .collect();
    context.recall.len = parts.len();
    format!("[{}]", parts.join(", "))
}

/// Brackets: balanced in about half of the cases, otherwise one is wrong.
fn brackets(rng: &mut Rng, len: usize) -> String {
    const PAIRS: [(char, char); 3] = [('(', ')'), ('[', ']'), ('{', '}')];
    let mut text: Vec<char> = Vec::new();
    let mut open = Vec::new();
    while text.len() + open.len() < len.max(2) {
        if open.is_empty() || rng.chance(0.6) {
            let (left, right) = PAIRS[rng.weighted(&[5, 2, 1])];
            text.push(left);
            open.push(right);
        } else {
            text.extend(open.pop());
        }
    }
    text.extend(open.into_iter().rev());
    if rng.chance(0.45) {
        let at = rng.below(text.len());
        if rng.chance(0.5) {
            text.remove(at);
        } else {
            text[at] = *rng.pick(&['(', ')', ']']);
        }
    }
    text.into_iter().collect()
}
