//! One program's view of the vocabulary.

use std::sync::Arc;

use cwm_trace::live::{Focus, LineKind, Mark, Outline, Piece, Told};

use super::edit::{self, Shape};
use super::lex::{FormatPart, Lexeme, lex};
use super::names::{Context, Names};
use super::notes::{Commas, Notes, comma, number_characters, point_at};
use super::text::{
    StepSpacing, is_number, needs_space, push_chars, push_content, push_content_text, push_number,
    push_number_text, push_raw, push_raw_text, push_string,
};
use super::vocabulary::{MAX_DEPTH, MAX_LINE, ORDINALS, SYMBOLS, Token, Vocabulary};

/// Why a program cannot be shown to the small model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Too many lines.
    #[error(
        "the program has {lines} lines, but this model reads at most {max}; trace a smaller file"
    )]
    TooManyLines {
        /// Lines of the program.
        lines: u32,
        /// Lines there are tokens for.
        max: u32,
    },
    /// Too many distinct names.
    #[error("the program has {names} distinct names, but this model knows at most {max}")]
    TooManyNames {
        /// Distinct identifiers without a word of their own.
        names: usize,
        /// Symbols in the vocabulary.
        max: usize,
    },
    /// Nested too deeply.
    #[error("line {line} is nested {depth} levels deep, but this model knows at most {max}")]
    TooDeep {
        /// The line.
        line: u32,
        /// Its depth.
        depth: u32,
        /// Depths there are tokens for.
        max: u32,
    },
    /// A name that does not occur in the source.
    #[error("the name `{0}` does not occur in the program")]
    UnknownName(String),
}

/// Where numbering begins. Zero when predicting; training shifts both so that
/// every line and symbol token is learnt. Any numbers will do: lines that end
/// up beyond the last token are refused, symbols go round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// Added to line numbers.
    pub line: u32,
    /// Added to symbol numbers, modulo their count.
    pub symbol: u32,
}

impl Offsets {
    /// What `id`, encoded without offsets, is with these. Lines must stay
    /// within [`Codec::MAX_LINES`].
    pub fn shift(self, vocabulary: &Vocabulary, id: u32) -> u32 {
        match vocabulary.token(id) {
            Some(Token::Line(n)) => vocabulary.id(Token::Line(n.saturating_add(self.line))),
            Some(Token::Symbol(n)) => vocabulary.id(self.symbol(n)),
            _ => id,
        }
    }

    /// The token of the program's symbol number `index`.
    fn symbol(self, index: u32) -> Token {
        Token::Symbol((index % SYMBOLS + self.symbol % SYMBOLS) % SYMBOLS)
    }
}

/// Translates one program's source, windows and values.
#[derive(Debug)]
pub struct Codec {
    vocabulary: Arc<Vocabulary>,
    offsets: Offsets,
    names: Names,
    source: Vec<u32>,
}

impl Codec {
    /// Lines a program may have.
    pub const MAX_LINES: u32 = MAX_LINE;

    /// Ordinals there are tokens for; larger ones are written modulo this
    /// inside brackets.
    pub const ORDINALS: u32 = ORDINALS;

    /// Reads the names of `source` and encodes it.
    pub fn new(
        vocabulary: Arc<Vocabulary>,
        source: &str,
        offsets: Offsets,
    ) -> Result<Self, CodecError> {
        let outline = Outline::new(source);
        if outline.len().saturating_add(offsets.line) > MAX_LINE {
            return Err(CodecError::TooManyLines {
                lines: outline.len(),
                max: MAX_LINE,
            });
        }
        let lexemes = lex(source);
        let names = Names::new(&lexemes, &vocabulary);
        if names.symbols.len() > SYMBOLS as usize {
            let (names, max) = (names.symbols.len(), SYMBOLS as usize);
            return Err(CodecError::TooManyNames { names, max });
        }
        let mut codec = Self {
            vocabulary,
            offsets,
            names,
            source: Vec::new(),
        };
        codec.source = codec.encode_source(&lexemes, &outline)?;
        Ok(codec)
    }

    /// The source as ids: the prefix of every context of the program.
    pub fn source(&self) -> &[u32] {
        &self.source
    }

    /// The vocabulary.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Ids that can stand for a variable: the program's own identifiers, and
    /// known words that it uses as variables.
    pub fn name_ids(&self) -> Vec<u32> {
        let symbols = (0..self.names.symbols.len() as u32).map(|i| self.offsets.symbol(i));
        let words = self.names.bound_words.iter().map(|w| Token::Word(w));
        symbols
            .chain(words)
            .map(|t| self.vocabulary.id(t))
            .collect()
    }

    /// The id of a line number, if the program may have such a line.
    pub fn line_id(&self, line: u32) -> Option<u32> {
        let shifted = line.saturating_add(self.offsets.line);
        (shifted <= MAX_LINE).then(|| self.vocabulary.id(Token::Line(shifted)))
    }

    /// The token of an id, lines numbered as in the program.
    pub fn token(&self, id: u32) -> Option<Token> {
        match self.vocabulary.token(id)? {
            Token::Line(n) => n.checked_sub(self.offsets.line).map(Token::Line),
            token => Some(token),
        }
    }

    /// The identifier an id stands for at the place of a name.
    pub fn name(&self, id: u32) -> Option<Arc<str>> {
        match self.vocabulary.token(id)? {
            Token::Symbol(n) => {
                let index = (n + SYMBOLS - self.offsets.symbol % SYMBOLS) % SYMBOLS;
                self.names.symbols.get(index as usize).cloned()
            }
            Token::Word(w) => Some(Arc::from(w)),
            _ => None,
        }
    }

    /// Appends the ids of a window piece.
    pub fn encode(&self, piece: &Piece, out: &mut Vec<u32>) -> Result<(), CodecError> {
        match piece {
            Piece::Mark(mark) => out.push(self.vocabulary.id(Token::Mark(*mark))),
            Piece::Line(n) => out.push(self.vocabulary.id(self.line_token(*n)?)),
            Piece::Choice(n) => out.push(self.vocabulary.id(Token::Choice(*n))),
            Piece::Ordinal(n) => {
                if *n >= ORDINALS {
                    let high = (n / ORDINALS).min(ORDINALS - 1);
                    out.push(self.vocabulary.id(Token::Ordinal(high)));
                }
                out.push(self.vocabulary.id(Token::Ordinal(n % ORDINALS)));
            }
            Piece::Name(name) => {
                let token = self.resolve(name, Context::Variable);
                let token = token.ok_or_else(|| CodecError::UnknownName(name.to_string()))?;
                out.push(self.vocabulary.id(token));
            }
            Piece::Value(text) => self.encode_value(text, out),
            Piece::Told(told) => self.encode_told(told, out),
            Piece::Step(text) => self.encode_step(text, out),
            Piece::Focus(focus) => self.encode_focus(focus, out)?,
        }
        Ok(())
    }

    /// Appends a line in focus: its text, in which each name is followed,
    /// where it first occurs, by its value and by the lines of its
    /// definitions; then the lines that may come next. In the header of a
    /// loop, the item that is next to be consumed is pointed at.
    fn encode_focus(&self, focus: &Focus, out: &mut Vec<u32>) -> Result<(), CodecError> {
        let mut notes = Notes::default();
        // Where a string is indexed or measured, its characters are told apart
        // by number, as the items of lists always are.
        let numbered = focus.text.contains('[') || focus.text.contains("len(");
        for (name, value) in &focus.values {
            let mut tokens = self.value_tokens(value);
            if let Some(consumed) = focus.consumed {
                tokens = point_at(consumed, &tokens);
            } else if numbered {
                tokens = number_characters(&tokens);
            }
            notes.values.insert(name.to_string(), tokens);
        }
        for (name, lines) in &focus.definitions {
            let lines = lines.iter().map(|&n| self.line_token(n));
            let lines: Vec<Token> = lines.collect::<Result<_, _>>()?;
            notes.definitions.insert(name.to_string(), lines);
        }
        let mut tokens = Vec::new();
        self.tokens(&lex(&focus.text), &mut tokens, false, &mut notes);
        tokens.push(Token::Mark(Mark::Next));
        for &line in &focus.next {
            tokens.push(self.line_token(line)?);
        }
        out.extend(tokens.into_iter().map(|t| self.vocabulary.id(t)));
        Ok(())
    }

    fn line_token(&self, line: u32) -> Result<Token, CodecError> {
        let shifted = line.saturating_add(self.offsets.line);
        match shifted <= MAX_LINE {
            true => Ok(Token::Line(shifted)),
            false => Err(CodecError::TooManyLines {
                lines: line,
                max: MAX_LINE,
            }),
        }
    }

    /// Appends the ids of a value's text. Text that would not come back
    /// unchanged is written character by character between two raw marks.
    pub fn encode_value(&self, text: &str, out: &mut Vec<u32>) {
        let tokens = self.value_tokens(text);
        out.extend(tokens.into_iter().map(|t| self.vocabulary.id(t)));
    }

    fn value_tokens(&self, text: &str) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut notes = Notes::default();
        if self
            .tokens(&lex(text), &mut tokens, true, &mut notes)
            .is_none()
            || self.text_of(&tokens, needs_space).as_deref() != Some(text)
        {
            tokens = raw(text);
        }
        tokens
    }

    /// Appends the ids of a value in the shortest of the ways in which it can
    /// be told; if there is a choice, written out.
    fn encode_told(&self, told: &Told, out: &mut Vec<u32>) {
        let shown = told.shown.iter().filter_map(|(name, text)| {
            let name = self.resolve(name, Context::Variable)?;
            Some((self.value_tokens(text), vec![Token::Same, name]))
        });
        let shown: Vec<(Vec<Token>, Vec<Token>)> = shown.collect();
        let shorten = |value: &[Token]| {
            let found = shown.iter().find(|(shown, _)| shown == value);
            found
                .filter(|_| value.len() > 2)
                .map(|(_, name)| name.clone())
        };
        let whole = self.value_tokens(&told.text);
        let edited = told.before.as_deref().and_then(|before| {
            let old = self.value_tokens(before);
            let edited = edit::edit(&old, &whole, shorten)?;
            let back = edit::apply(&old, &self.expand(&edited, &told.shown)?)?;
            (back == whole).then_some(edited)
        });
        let ways = [
            shorten(&whole),
            edit::with_short_items(&whole, shorten),
            edited,
        ];
        let shortest = ways.into_iter().flatten().min_by_key(Vec::len);
        let best = shortest
            .filter(|way| way.len() < whole.len())
            .unwrap_or(whole);
        out.extend(best.into_iter().map(|t| self.vocabulary.id(t)));
    }

    /// Puts values in the place of the variables that are named for them.
    fn expand(&self, tokens: &[Token], shown: &[(Arc<str>, Arc<str>)]) -> Option<Vec<Token>> {
        let mut out = Vec::new();
        let mut tokens = tokens.iter().copied();
        while let Some(token) = tokens.next() {
            if token != Token::Same {
                out.push(token);
                continue;
            }
            let name = self.name(self.vocabulary.id(tokens.next()?))?;
            let (_, text) = shown.iter().find(|(known, _)| *known == name)?;
            out.extend(self.value_tokens(text));
        }
        Some(out)
    }

    /// The text of a value that was told; `None` if the ids are no value.
    /// `before` is what the variable held, `shown` what the focus shows.
    pub fn decode_told(
        &self,
        ids: &[u32],
        before: Option<&str>,
        shown: &[(Arc<str>, Arc<str>)],
    ) -> Option<String> {
        let tokens = self.expand(&self.tokens_of(ids)?, shown)?;
        if edit::is_edit(&tokens) {
            let old = self.value_tokens(before?);
            return self.text_of(&edit::apply(&old, &tokens)?, needs_space);
        }
        self.text_of(&tokens, needs_space)
    }

    /// What can be edited in the value of this text.
    pub fn shape(&self, text: &str) -> Option<Shape> {
        edit::shape(&self.value_tokens(text))
    }

    /// Appends the ids of a step of a working; its spacing is not kept.
    fn encode_step(&self, text: &str, out: &mut Vec<u32>) {
        let mut tokens = Vec::new();
        if self
            .tokens(&lex(text), &mut tokens, true, &mut Notes::default())
            .is_none()
        {
            tokens = raw(text);
        }
        out.extend(tokens.into_iter().map(|t| self.vocabulary.id(t)));
    }

    /// The text of a value's ids; `None` if they are no value.
    pub fn decode_value(&self, ids: &[u32]) -> Option<String> {
        self.text_of(&self.tokens_of(ids)?, needs_space)
    }

    /// The text of a step's ids; `None` if they are no step.
    pub fn decode_step(&self, ids: &[u32]) -> Option<String> {
        let mut spacing = StepSpacing::default();
        let spaced = |previous, token| spacing.needs_space(previous, token);
        self.text_of(&self.tokens_of(ids)?, spaced)
    }

    fn tokens_of(&self, ids: &[u32]) -> Option<Vec<Token>> {
        ids.iter().map(|&id| self.vocabulary.token(id)).collect()
    }

    fn resolve(&self, name: &str, context: Context) -> Option<Token> {
        if let Some(word) = self.names.word(name, context, &self.vocabulary) {
            return Some(word);
        }
        self.names.index.get(name).map(|&i| self.offsets.symbol(i))
    }

    fn encode_source(&self, lexemes: &[Lexeme], outline: &Outline) -> Result<Vec<u32>, CodecError> {
        let mut tokens = vec![Token::Begin, Token::Source];
        let mut start = 0;
        let mut line = 1;
        for end in 0..=lexemes.len() {
            let next_line = match lexemes.get(end) {
                Some(Lexeme::Line(n)) => *n,
                Some(_) => continue,
                None => 0,
            };
            let info = outline.line(line);
            // A docstring says nothing of what happens, and takes a token for each of its characters.
            let is_docstring = info.is_some_and(|info| info.kind == LineKind::Blank);
            if start < end && !is_docstring {
                tokens.push(Token::Line(line + self.offsets.line));
                if let Some(info) = info.filter(|l| l.kind != LineKind::Continuation) {
                    let depth = u32::from(info.depth);
                    if depth > MAX_DEPTH {
                        return Err(CodecError::TooDeep {
                            line,
                            depth,
                            max: MAX_DEPTH,
                        });
                    }
                    tokens.push(Token::Depth(depth));
                }
                let mut notes = Notes::default();
                self.tokens(&lexemes[start..end], &mut tokens, false, &mut notes);
            }
            start = end + 1;
            line = next_line;
        }
        Ok(tokens.into_iter().map(|t| self.vocabulary.id(t)).collect())
    }

    /// Tokens of lexemes. In `strict` mode (values) gives `None` where a
    /// lexeme has no token that would come back as it is.
    fn tokens(
        &self,
        lexemes: &[Lexeme],
        out: &mut Vec<Token>,
        strict: bool,
        notes: &mut Notes,
    ) -> Option<()> {
        let mut commas = Commas::default();
        for (i, lexeme) in lexemes.iter().enumerate() {
            match lexeme {
                Lexeme::Name(name) => {
                    let context = Context::of(lexemes, i);
                    match self.resolve(name, context) {
                        Some(token) => out.push(token),
                        None if strict => return None,
                        None => push_chars(name, out),
                    }
                    notes.write(name, context, out);
                }
                Lexeme::Integer(digits) => {
                    out.extend(digits.bytes().rev().map(|b| Token::Digit(b - b'0')));
                }
                Lexeme::Number(text) => push_number(text, out),
                Lexeme::Text { prefix, content } => {
                    out.extend(self.vocabulary.word(prefix));
                    push_string(content, out);
                }
                Lexeme::Format(parts) => {
                    out.extend(self.vocabulary.word("f"));
                    out.push(Token::Quote('\''));
                    for part in parts {
                        match part {
                            FormatPart::Literal(text) => push_content(text, '\'', out),
                            FormatPart::Field { expression, suffix } => {
                                out.push(Token::Operator("{"));
                                self.tokens(expression, out, strict, notes)?;
                                push_chars(suffix, out);
                                out.push(Token::Operator("}"));
                            }
                        }
                    }
                    out.push(Token::Quote('\''));
                }
                Lexeme::Operator(operator) => {
                    let last = matches!(
                        lexemes.get(i + 1),
                        Some(Lexeme::Operator(")" | "]" | "}")) | None
                    );
                    out.push(commas.token(operator, last));
                }
                Lexeme::Other(_) | Lexeme::Line(_) if strict => return None,
                Lexeme::Other(c) => push_chars(c.encode_utf8(&mut [0; 4]), out),
                Lexeme::Line(_) => {}
            }
        }
        Some(())
    }

    /// Writes tokens; `needs_space` says whether a space stands between two.
    fn text_of(
        &self,
        tokens: &[Token],
        mut needs_space: impl FnMut(Option<Token>, Token) -> bool,
    ) -> Option<String> {
        let mut out = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let token = comma(tokens[at]);
            let previous = at.checked_sub(1).map(|i| comma(tokens[i]));
            if needs_space(previous, token) {
                out.push(b' ');
            }
            match token {
                Token::Digit(_) | Token::NumberPart(_) => {
                    let len = tokens[at..].iter().take_while(|t| is_number(t)).count();
                    push_number_text(&tokens[at..at + len], &mut out);
                    at += len;
                    continue;
                }
                Token::Quote(_) | Token::Raw => {
                    let len = tokens[at + 1..].iter().position(|t| *t == token)?;
                    let mark = if let Token::Quote(q) = token {
                        Some(q as u8)
                    } else {
                        None
                    };
                    out.extend(mark);
                    let content = &tokens[at + 1..at + 1 + len];
                    match token {
                        Token::Raw => push_raw_text(content, &mut out)?,
                        _ => push_content_text(content, &mut out)?,
                    }
                    out.extend(mark);
                    at += len + 2;
                    continue;
                }
                Token::Operator(text) | Token::Word(text) => out.extend(text.bytes()),
                Token::Symbol(_) => {
                    let name = self.name(self.vocabulary.id(token))?;
                    out.extend(name.bytes());
                }
                _ => return None,
            }
            at += 1;
        }
        String::from_utf8(out).ok()
    }
}

/// Text character by character, between two raw marks.
fn raw(text: &str) -> Vec<Token> {
    let mut tokens = vec![Token::Raw];
    push_raw(text, &mut tokens);
    tokens.push(Token::Raw);
    tokens
}

#[cfg(test)]
mod tests;
