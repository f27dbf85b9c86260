//! One program's view of the vocabulary.

use std::sync::Arc;

use cwm_trace::live::{Focus, LineKind, Mark, Outline, Piece};

use super::lex::{FormatPart, Lexeme, lex};
use super::names::{Context, Names};
use super::notes::{Commas, Notes, comma, number_characters, point_at};
use super::text::{
    is_number, needs_space, push_chars, push_content, push_content_text, push_number,
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
            let mut ids = Vec::new();
            self.encode_value(value, &mut ids);
            let mut tokens: Vec<Token> = ids
                .iter()
                .filter_map(|&id| self.vocabulary.token(id))
                .collect();
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
        let mut tokens = Vec::new();
        let mut notes = Notes::default();
        if self
            .tokens(&lex(text), &mut tokens, true, &mut notes)
            .is_none()
            || self.text_of(&tokens).as_deref() != Some(text)
        {
            tokens.clear();
            tokens.push(Token::Raw);
            push_raw(text, &mut tokens);
            tokens.push(Token::Raw);
        }
        out.extend(tokens.into_iter().map(|t| self.vocabulary.id(t)));
    }

    /// The text of a value's ids; `None` if they are no value.
    pub fn decode_value(&self, ids: &[u32]) -> Option<String> {
        let tokens: Option<Vec<Token>> = ids.iter().map(|&id| self.vocabulary.token(id)).collect();
        self.text_of(&tokens?)
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
            if start < end {
                tokens.push(Token::Line(line + self.offsets.line));
                let info = outline.line(line);
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

    /// Writes tokens with the spacing of `repr`.
    fn text_of(&self, tokens: &[Token]) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use cwm_trace::live::Mark;

    const SOURCE: &str = "\
class Acc:
    def __init__(self, total):
        self.count = total

def f(text, key=None):
    # a comment
    items = text.split(',')
    return [f\"{x!r}={len(x)}\" for x in items]
";

    fn codec(offsets: Offsets) -> Codec {
        Codec::new(Arc::new(Vocabulary::default()), SOURCE, offsets).unwrap()
    }

    fn shown(codec: &Codec, ids: &[u32]) -> String {
        ids.iter()
            .map(|&i| codec.vocabulary().name(i))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn source_is_lines_depths_and_symbols() {
        let c = codec(Offsets::default());
        assert_eq!(
            shown(&c, c.source()),
            "<begin> <source> L1 D0 w:class $0 o:: \
             L2 D1 w:def w:__init__ o:( w:self #1 $1 o:) o:: \
             L3 D2 w:self o:. $2 o:= $1 \
             L5 D0 w:def $3 o:( $4 #1 $5 o:= w:None o:) o:: \
             L7 D1 $6 o:= $4 o:. w:split o:( q:' c:, q:' o:) \
             L8 D1 w:return o:[ w:f q:' o:{ $7 c:! c:r o:} c:= o:{ w:len o:( $7 o:) o:} q:' \
             w:for $7 w:in $6 o:]"
        );
    }

    #[test]
    fn values_come_back_unchanged() {
        for offsets in [
            Offsets::default(),
            Offsets {
                line: 9,
                symbol: 93,
            },
        ] {
            let c = codec(offsets);
            for text in [
                "1203",
                "-7",
                "[1, -20, 300]",
                "3.14",
                "1e-05",
                "-0.0",
                "inf",
                "(1,)",
                "()",
                "{'a': [1, 2], 'b': {}}",
                "{1, 2}",
                "set()",
                "\"it's\"",
                "'it\\'s \"x\"'",
                "'tab\\t nl\\n back\\\\ bell\\x07'",
                "'é漢🙂'",
                "b'ab'",
                "Acc(count=3)",
                "[Acc(count=3), None, True]",
                "KeyError('x')",
                "<function f>",
                "<generator object f>",
                "<class 'int'>",
                "<weird  thing at all>",
                "unterminated 'str...",
                "range(0, 5)",
                "deque([1, 2], maxlen=3)",
                "1j",
                "",
                "12 34",
                "'\\u200b'",
                "a\nb",
                "bell \u{7} and \\x07",
            ] {
                let mut ids = Vec::new();
                c.encode_value(text, &mut ids);
                assert_eq!(c.decode_value(&ids).as_deref(), Some(text));
            }
        }
    }

    #[test]
    fn commas_in_brackets_are_numbered() {
        let c = codec(Offsets::default());
        for (text, expected) in [
            ("[[7, 8], 9]", "o:[ o:[ d:7 #1 d:8 o:] #1 d:9 o:]"),
            ("(1,)", "o:( d:1 o:, o:)"),
            ("{1: 2, 3: 4}", "o:{ d:1 o:: d:2 #1 d:3 o:: d:4 o:}"),
            ("'a,b'", "q:' c:a c:, c:b q:'"),
        ] {
            let mut ids = Vec::new();
            c.encode_value(text, &mut ids);
            assert_eq!(shown(&c, &ids), expected);
        }
    }

    fn focus(text: &str, values: &[(&str, &str)], definitions: &[(&str, &[u32])]) -> String {
        focus_at(text, values, definitions, None)
    }

    fn focus_at(
        text: &str,
        values: &[(&str, &str)],
        definitions: &[(&str, &[u32])],
        consumed: Option<u32>,
    ) -> String {
        let c = codec(Offsets::default());
        let values = values.iter().map(|&(n, v)| (n.into(), v.into()));
        let definitions = definitions.iter().map(|&(n, l)| (n.into(), l.to_vec()));
        let focus = Focus {
            text: text.into(),
            values: values.collect(),
            definitions: definitions.collect(),
            consumed,
            next: vec![7, 3],
        };
        let mut ids = Vec::new();
        c.encode(&Piece::Focus(Box::new(focus)), &mut ids).unwrap();
        shown(&c, &ids)
    }

    #[test]
    fn a_focus_has_each_value_behind_its_name() {
        assert_eq!(
            focus(
                "items = text.split(key)",
                &[("text", "'ab'")],
                &[("split", &[2])]
            ),
            "$6 o:= $4 q:' c:a c:b q:' <item> o:. w:split L2 <item> o:( $5 o:) <next> L7 L3"
        );
        // Only once, and where the name is a variable.
        assert_eq!(
            focus("f(text, key=key + key)", &[("key", "5")], &[("f", &[5])]),
            "$3 L5 <item> o:( $4 #1 w:key o:= $5 d:5 <item> o:+ $5 o:) <next> L7 L3"
        );
    }

    #[test]
    fn characters_are_numbered_where_they_are_indexed() {
        let expected = "$4 q:' c:a #1 c:b q:' <item> o:[ d:0 o:] <next> L7 L3";
        assert_eq!(focus("text[0]", &[("text", "'ab'")], &[]), expected);
        let plain = focus("text + ''", &[("text", "'ab'")], &[]);
        assert!(!plain.contains('#'), "{plain}");
    }

    #[test]
    fn a_loop_points_at_its_next_item() {
        for (consumed, value, expected) in [
            (0, "[7, 8]", "o:[ <next> d:7 #1 d:8 o:]"),
            (1, "[7, 8]", "o:[ d:7 #1 <next> d:8 o:]"),
            (2, "[7, 8]", "o:[ d:7 #1 d:8 <next> o:]"),
            (3, "[7, 8]", "o:[ d:7 #1 d:8 o:]"),
            (0, "()", "o:( <next> o:)"),
            (1, "(5,)", "o:( d:5 o:, <next> o:)"),
            (
                1,
                "[[1, 2], [3]]",
                "o:[ o:[ d:1 #1 d:2 o:] #1 <next> o:[ d:3 o:] o:]",
            ),
            (
                1,
                "{'a': 1, 'b': 2}",
                "o:{ q:' c:a q:' o:: d:1 #1 <next> q:' c:b q:' o:: d:2 o:}",
            ),
            (1, "'ab'", "q:' c:a <next> c:b q:'"),
            (2, "'ab'", "q:' c:a c:b <next> q:'"),
            (0, "12", "d:2 d:1"),
        ] {
            let found = focus_at("for x in text:", &[("text", value)], &[], Some(consumed));
            let expected = format!("w:for $7 w:in $4 {expected} <item> o:: <next> L7 L3");
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn digits_stand_lowest_first() {
        let c = codec(Offsets::default());
        let mut ids = Vec::new();
        c.encode_value("120", &mut ids);
        assert_eq!(shown(&c, &ids), "d:0 d:2 d:1");
        ids.clear();
        c.encode_value("1.25", &mut ids);
        assert_eq!(shown(&c, &ids), "d:1 n:. d:2 d:5");
    }

    #[test]
    fn pieces_and_names() {
        let c = codec(Offsets { line: 3, symbol: 5 });
        let mut ids = Vec::new();
        for piece in [
            Piece::Mark(Mark::State),
            Piece::Line(7),
            Piece::Ordinal(7),
            Piece::Ordinal(123),
            Piece::Name("items".into()),
        ] {
            c.encode(&piece, &mut ids).unwrap();
        }
        assert_eq!(shown(&c, &ids), "<state> L10 #7 #1 #23 $11");
        assert_eq!(c.token(ids[1]), Some(Token::Line(7)));
        assert_eq!(c.name(ids[5]).as_deref(), Some("items"));
        let missing = c.encode(&Piece::Name("nothing".into()), &mut ids);
        assert_eq!(missing, Err(CodecError::UnknownName("nothing".into())));
        let names: Vec<_> = c.name_ids().iter().filter_map(|&i| c.name(i)).collect();
        assert!(names.iter().any(|n| &**n == "self"), "{names:?}");
    }

    #[test]
    fn an_attribute_is_no_variable() {
        // `x.append` in a tuple of targets, and cut off from its object.
        for source in ["x.append, y = 1, 2\n", ".append,def f(x):\n"] {
            let v = Arc::new(Vocabulary::default());
            let c = Codec::new(v, source, Offsets::default()).unwrap();
            for id in c.name_ids() {
                let name = c.name(id).unwrap();
                assert_ne!(&*name, "append", "{source}");
                c.encode(&Piece::Name(name), &mut Vec::new()).unwrap();
            }
        }
    }

    #[test]
    fn too_large_programs_are_refused() {
        let v = Arc::new(Vocabulary::default());
        let long = "x = 1\n".repeat(200);
        let error = Codec::new(v.clone(), &long, Offsets::default()).unwrap_err();
        assert!(matches!(error, CodecError::TooManyLines { lines: 200, .. }));
        let names: String = (0..100).map(|i| format!("v{i} = 1;")).collect();
        let error = Codec::new(v, &names, Offsets::default()).unwrap_err();
        assert!(matches!(error, CodecError::TooManyNames { names: 100, .. }));
    }
}
