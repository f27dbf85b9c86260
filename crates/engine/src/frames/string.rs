//! The inside of a JSON string, byte by byte, exactly as the dialect writes it: `json.dumps` with
//! ASCII only, one spelling for each text, and no text of a special token.

use cwm_tokenizer::llama::{RESERVED, Special};

/// How far a string has come. From each of these states it can be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Inside {
    /// The string so far is this many dots, and two dots must not be all of it where they are not
    /// `bare`: they would be the mark of an unchanged value.
    Dots { count: u8, bare: bool },
    /// Anywhere else; the number is the node of [`SPECIALS`] whose text was just read.
    Plain(u16),
    /// After a backslash; `first` where it opens the value of a line frame.
    Escape { first: bool },
    /// After `\u` and some digits.
    Hex { value: u16, digits: u8, first: bool },
    /// After the first half of a surrogate pair: `\`, then `u`.
    Half { is_escaped: bool },
    /// In the digits of the second half.
    SecondHalf { value: u16, digits: u8 },
    /// `<` was escaped, which is done only in the text of a special token; this much of it was read.
    InSpecial(u16),
    /// `\u002e` opened the value, which is done only for two dots that are no mark: `.` is next, then
    /// the end.
    EscapedDot { is_alone: bool },
}

/// What a byte leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The string goes on.
    To(Inside),
    /// It was the closing quote.
    End,
}

impl Inside {
    /// A string in which two dots mean nothing.
    pub(super) const START: Self = Self::Plain(0);

    /// The value of a line frame; whether the variable can be unchanged.
    pub(super) fn value(bare: bool) -> Self {
        Self::Dots { count: 0, bare }
    }
}

/// The texts of special tokens as a tree. `<` begins each of them and is nowhere else in one, so a
/// text that stops matching can only begin anew.
#[derive(Debug)]
pub(super) struct SpecialTexts {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    children: Vec<(u8, u16)>,
    is_whole: bool,
}

/// What comes after a byte of a special token's text.
enum Match {
    Part(u16),
    Whole,
    Nothing,
}

impl SpecialTexts {
    pub(super) fn new() -> Self {
        let mut texts = Self {
            nodes: vec![Node::default()],
        };
        for special in Special::ALL {
            texts.insert(special.text());
        }
        for number in 0..RESERVED {
            texts.insert(&format!("<|reserved_special_token_{number}|>"));
        }
        texts
    }

    fn insert(&mut self, text: &str) {
        let mut node = 0;
        for byte in text.bytes() {
            let known = self.child(node, byte);
            node = known.unwrap_or_else(|| {
                let new = self.nodes.len() as u16;
                self.nodes[usize::from(node)].children.push((byte, new));
                self.nodes.push(Node::default());
                new
            });
        }
        self.nodes[usize::from(node)].is_whole = true;
    }

    fn child(&self, node: u16, byte: u8) -> Option<u16> {
        let children = &self.nodes[usize::from(node)].children;
        let found = children.iter().find(|(label, _)| *label == byte);
        found.map(|&(_, child)| child)
    }

    fn go_on(&self, node: u16, byte: u8) -> Match {
        match self.child(node, byte) {
            Some(child) if self.nodes[usize::from(child)].is_whole => Match::Whole,
            Some(child) => Match::Part(child),
            None => Match::Nothing,
        }
    }

    /// Goes on by a byte, where the string may.
    pub(super) fn step(&self, at: Inside, byte: u8) -> Option<Step> {
        let to = match at {
            Inside::Dots { count, bare } => return self.step_at_start(count, bare, byte),
            Inside::Plain(node) => return self.step_plain(node, byte),
            Inside::Escape { first } => match byte {
                b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => Inside::START,
                b'u' => Inside::Hex {
                    value: 0,
                    digits: 0,
                    first,
                },
                _ => return None,
            },
            Inside::Hex {
                value,
                digits,
                first,
            } => {
                let (value, digits) = hex(value, digits, byte)?;
                let is_legal = WRITTEN.iter().any(|range| meets(range, value, digits))
                    || first && meets(&DOT, value, digits);
                match (is_legal, digits) {
                    (false, _) => return None,
                    (true, 4) => self.escaped(value),
                    (true, _) => Inside::Hex {
                        value,
                        digits,
                        first,
                    },
                }
            }
            Inside::Half { is_escaped: false } if byte == b'\\' => {
                Inside::Half { is_escaped: true }
            }
            Inside::Half { is_escaped: true } if byte == b'u' => Inside::SecondHalf {
                value: 0,
                digits: 0,
            },
            Inside::SecondHalf { value, digits } => {
                let (value, digits) = hex(value, digits, byte)?;
                match (meets(&SECOND_HALVES, value, digits), digits) {
                    (false, _) => return None,
                    (true, 4) => Inside::START,
                    (true, _) => Inside::SecondHalf { value, digits },
                }
            }
            Inside::InSpecial(node) => match self.go_on(node, byte) {
                Match::Part(node) => Inside::InSpecial(node),
                Match::Whole => Inside::START,
                Match::Nothing => return None,
            },
            Inside::EscapedDot { is_alone: true } if byte == b'.' => {
                Inside::EscapedDot { is_alone: false }
            }
            Inside::EscapedDot { is_alone: false } if byte == b'"' => return Some(Step::End),
            Inside::Half { .. } | Inside::EscapedDot { .. } => return None,
        };
        Some(Step::To(to))
    }

    fn step_at_start(&self, count: u8, bare: bool, byte: u8) -> Option<Step> {
        match byte {
            b'.' if count < 2 => {
                let count = count + 1;
                Some(Step::To(Inside::Dots { count, bare }))
            }
            b'"' if count == 2 && !bare => None,
            b'\\' => Some(Step::To(Inside::Escape { first: count == 0 })),
            _ => self.step_plain(0, byte),
        }
    }

    fn step_plain(&self, node: u16, byte: u8) -> Option<Step> {
        let to = match byte {
            b'"' => return Some(Step::End),
            b'\\' => Inside::Escape { first: false },
            b' '..=b'~' => match self.go_on(node, byte) {
                Match::Part(node) => Inside::Plain(node),
                Match::Whole => return None,
                Match::Nothing => Inside::Plain(self.child(0, byte).unwrap_or(0)),
            },
            _ => return None,
        };
        Some(Step::To(to))
    }

    /// After four digits that may stand there.
    fn escaped(&self, value: u16) -> Inside {
        match value {
            0x2e => Inside::EscapedDot { is_alone: true },
            0x3c => Inside::InSpecial(self.child(0, b'<').unwrap_or(0)),
            0xd800..0xdc00 => Inside::Half { is_escaped: false },
            _ => Inside::START,
        }
    }
}

/// The code units that are written as `\u` and four digits, first halves of pairs among them. Those
/// between have letters of their own, or stand for themselves; `<` is special.
const WRITTEN: [[u16; 2]; 6] = [
    [0x0000, 0x0007],
    [0x000b, 0x000b],
    [0x000e, 0x001f],
    [0x003c, 0x003c],
    [0x007f, 0xdbff],
    [0xe000, 0xffff],
];
const SECOND_HALVES: [u16; 2] = [0xdc00, 0xdfff];
const DOT: [u16; 2] = [0x002e, 0x002e];

/// Whether the digits read so far can become a number of the range.
fn meets(range: &[u16; 2], value: u16, digits: u8) -> bool {
    let open = 4 * (4 - u32::from(digits));
    let low = u32::from(value) << open;
    let high = low | ((1 << open) - 1);
    low <= u32::from(range[1]) && high >= u32::from(range[0])
}

/// One more digit, in small letters.
fn hex(value: u16, digits: u8, byte: u8) -> Option<(u16, u8)> {
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => return None,
    };
    Some((value << 4 | u16::from(digit), digits + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(start: Inside, text: &str) -> bool {
        let specials = SpecialTexts::new();
        let mut at = start;
        for (index, byte) in text.bytes().enumerate() {
            match specials.step(at, byte) {
                Some(Step::To(next)) => at = next,
                Some(Step::End) => return index + 1 == text.len(),
                None => return false,
            }
        }
        false
    }

    #[test]
    fn each_text_has_one_spelling() {
        for text in [
            r#"""#,
            r#"'a\"b\\\\n/\u00e9\u007f'""#,
            r#"'\ud83d\ude00\u2028'""#,
            r#"\b\f\n\r\t\u0000\u001f\u000b""#,
            r#"<|x|> <\\|pad|> <|pad""#,
            r#"\u003c|pad|>""#,
            r#"a\u003c|reserved_special_token_12|>b""#,
            r#"<<|pad |>""#,
            r#"..""#,
        ] {
            assert!(reads(Inside::START, text), "{text}");
        }
        for text in [
            "é\"",
            "\t\"",
            r#"\u000a""#,
            r#"\u0041""#,
            r#"\u00E9""#,
            r#"\x41""#,
            r#"\/""#,
            r#"\ud83d!""#,
            r#"\ude00""#,
            r#"\ud83d\ud83d""#,
            r#"<|pad|>""#,
            r#"<|pad<|pad|>""#,
            r#"\u003c|x|>""#,
            r#"\u003c""#,
            r#"\u002e.""#,
            "\u{7f}\"",
        ] {
            assert!(!reads(Inside::START, text), "{text}");
        }
    }

    #[test]
    fn two_dots_are_a_mark_only_where_there_is_something_unchanged() {
        let (known, new) = (Inside::value(true), Inside::value(false));
        assert!(reads(known, r#"..""#) && !reads(new, r#"..""#));
        for text in [
            r#".""#,
            r#"...""#,
            r#"..x""#,
            r#"..\n""#,
            r#"\u002e.""#,
            r#"""#,
        ] {
            assert!(reads(known, text) && reads(new, text), "{text}");
        }
        for text in [r#".\u002e""#, r#"\u002e""#, r#"\u002ex""#, r#"\u002e..""#] {
            assert!(!reads(known, text) && !reads(new, text), "{text}");
        }
    }
}
