//! Texts of special tokens, and how a program that contains one is written.
//!
//! Each dialect has its own names; every one knows those of CWM and of all
//! reserved slots of its vocabulary. In the text form of a trace the separators are ordinary characters, so a
//! program whose own text holds `<|frame_sep|>` would break it. Source text is
//! escaped by one backslash after the `<`; text that already has backslashes
//! there gains one more, so the way back is exact. (Values are JSON strings,
//! which have an escape of their own: see `json`.)

use std::borrow::Cow;

/// Names of CWM's special tokens, without `<|` and `|>`.
const CWM_NAMES: [&str; 17] = [
    "begin_of_text",
    "end_of_text",
    "pad",
    "start_header_id",
    "end_header_id",
    "eom_id",
    "eot_id",
    "frame_sep",
    "action_sep",
    "return_sep",
    "call_sep",
    "line_sep",
    "exception_sep",
    "arg_sep",
    "trace_context_start",
    "reasoning_thinking_start",
    "reasoning_thinking_end",
];

const RESERVED: &str = "reserved_special_token_";

/// No name is longer than `reserved_special_token_255` or the two about
/// reasoning.
const LONGEST_NAME: usize = 26;

/// The special tokens of a dialect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Specials {
    /// Names besides CWM's, without `<|` and `|>`, none longer than [`LONGEST_NAME`].
    own: &'static [&'static str],
}

impl Specials {
    /// Those of CWM's vocabulary: its names, and every
    /// `<|reserved_special_token_N|>` with N below 256, even where CWM has given
    /// that slot a name.
    pub(crate) const CWM: Self = Self { own: &[] };

    /// Those of CWM's vocabulary and these.
    pub(crate) const fn and(own: &'static [&'static str]) -> Self {
        Self { own }
    }

    /// Length in bytes of the special token a text starts with.
    pub(crate) fn at(self, text: &str) -> Option<usize> {
        let bars = text.strip_prefix('<').and_then(|text| self.bars(text));
        bars.map(|length| length + 1)
    }

    /// Where the first special token of a text is, as start and length.
    pub(crate) fn find(self, text: &str) -> Option<(usize, usize)> {
        text.match_indices('<')
            .find_map(|(start, _)| Some((start, self.at(&text[start..])?)))
    }

    /// Whether a text is that of a special token and nothing else.
    pub(crate) fn is_one(self, text: &str) -> bool {
        self.at(text) == Some(text.len())
    }

    /// Source text with every special token in it made harmless.
    pub(crate) fn escape(self, text: &str) -> Cow<'_, str> {
        self.rewrite(text, |backslashes| Some(backslashes + 1))
    }

    /// The inverse of [`Specials::escape`].
    pub(crate) fn unescape(self, text: &str) -> Cow<'_, str> {
        self.rewrite(text, |backslashes| backslashes.checked_sub(1))
    }

    /// Length of the `|name|>` a text starts with.
    fn bars(self, text: &str) -> Option<usize> {
        let inner = text.strip_prefix('|')?;
        let window = &inner.as_bytes()[..inner.len().min(LONGEST_NAME + 2)];
        let length = window.windows(2).position(|pair| pair == b"|>")?;
        self.is_name(inner.get(..length)?).then_some(length + 3)
    }

    fn is_name(self, name: &str) -> bool {
        CWM_NAMES.contains(&name) || self.own.contains(&name) || is_reserved(name)
    }

    /// Changes the number of backslashes in every `<`, backslashes, `|name|>`.
    fn rewrite(self, text: &str, change: impl Fn(usize) -> Option<usize>) -> Cow<'_, str> {
        let mut out = String::new();
        let mut copied = 0;
        for (start, _) in text.match_indices('<') {
            let after = &text[start + 1..];
            let rest = after.trim_start_matches('\\');
            let backslashes = after.len() - rest.len();
            if self.bars(rest).is_none() {
                continue;
            }
            if let Some(wanted) = change(backslashes) {
                out.push_str(&text[copied..=start]);
                out.extend(std::iter::repeat_n('\\', wanted));
                copied = start + 1 + backslashes;
            }
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(&text[copied..]);
        Cow::Owned(out)
    }
}

fn is_reserved(name: &str) -> bool {
    name.strip_prefix(RESERVED).is_some_and(|digits| {
        digits
            .parse::<u8>()
            .is_ok_and(|number| number.to_string() == digits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_exactly() {
        for text in [
            "<|pad|>",
            "<|reserved_special_token_0|>",
            "<|reserved_special_token_255|>",
        ] {
            assert!(Specials::CWM.is_one(text), "{text}");
        }
        for text in [
            "<|pad|",
            "<|pad|> ",
            "<|Pad|>",
            "<||>",
            "<|>",
            "|pad|>",
            "<|reserved_special_token_256|>",
            "<|reserved_special_token_007|>",
            "<|reserved_special_token_+7|>",
            "",
        ] {
            assert!(!Specials::CWM.is_one(text), "{text}");
        }
        assert_eq!(
            CWM_NAMES
                .iter()
                .map(|name| name.len())
                .max()
                .max(Some(RESERVED.len() + 3)),
            Some(26)
        );
    }

    #[test]
    fn one_backslash_is_added_and_taken_away() {
        for (text, escaped) in [
            ("plain < | text", "plain < | text"),
            ("<|eot_id|>", r"<\|eot_id|>"),
            (r"<\|eot_id|>", r"<\\|eot_id|>"),
            (r"a<|pad|><|pad|>é", r"a<\|pad|><\|pad|>é"),
            (r"<\|no_such|>", r"<\|no_such|>"),
            ("<<|pad|>", r"<<\|pad|>"),
        ] {
            assert_eq!(Specials::CWM.escape(text), escaped);
            assert_eq!(Specials::CWM.unescape(escaped), text);
            assert_eq!(Specials::CWM.find(escaped), None);
        }
    }

    #[test]
    fn names_of_one_dialect_are_plain_text_in_another() {
        let specials = Specials::and(&["step_into"]);
        assert!(specials.is_one("<|step_into|>") && specials.is_one("<|pad|>"));
        assert_eq!(specials.escape("<|step_into|>"), r"<\|step_into|>");
        assert_eq!(Specials::CWM.escape("<|step_into|>"), "<|step_into|>");
    }
}
