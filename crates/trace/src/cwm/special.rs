//! Texts of special tokens, and how a program that contains one is written.
//!
//! In the text form of a trace the separators are ordinary characters, so a
//! program whose own text holds `<|frame_sep|>` would break it. Source text is
//! escaped by one backslash after the `<`; text that already has backslashes
//! there gains one more, so the way back is exact. (Values are JSON strings,
//! which have an escape of their own: see `json`.)

use std::borrow::Cow;

/// Names of CWM's special tokens, without `<|` and `|>`.
const NAMES: [&str; 17] = [
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

/// Whether a text is that of a special token, such as `<|frame_sep|>`.
///
/// Every `<|reserved_special_token_N|>` with N below 256 counts, even where
/// CWM has given that slot a name.
pub fn is_special(text: &str) -> bool {
    text.strip_prefix('<')
        .and_then(bars)
        .is_some_and(|length| length + 1 == text.len())
}

/// Length in bytes of the special token a text starts with.
pub(super) fn special_at(text: &str) -> Option<usize> {
    text.strip_prefix('<')
        .and_then(bars)
        .map(|length| length + 1)
}

/// Where the first special token of a text is, as start and length.
pub(super) fn find_special(text: &str) -> Option<(usize, usize)> {
    text.match_indices('<')
        .find_map(|(start, _)| Some((start, special_at(&text[start..])?)))
}

/// Source text with every special token in it made harmless.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    rewrite(text, |backslashes| Some(backslashes + 1))
}

/// The inverse of [`escape`].
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    rewrite(text, |backslashes| backslashes.checked_sub(1))
}

/// Length of the `|name|>` a text starts with.
fn bars(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('|')?;
    let window = &inner.as_bytes()[..inner.len().min(LONGEST_NAME + 2)];
    let length = window.windows(2).position(|pair| pair == b"|>")?;
    is_name(inner.get(..length)?).then_some(length + 3)
}

fn is_name(name: &str) -> bool {
    NAMES.contains(&name)
        || name.strip_prefix(RESERVED).is_some_and(|digits| {
            digits
                .parse::<u8>()
                .is_ok_and(|number| number.to_string() == digits)
        })
}

/// Changes the number of backslashes in every `<`, backslashes, `|name|>`.
fn rewrite(text: &str, change: impl Fn(usize) -> Option<usize>) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    for (start, _) in text.match_indices('<') {
        let after = &text[start + 1..];
        let rest = after.trim_start_matches('\\');
        let backslashes = after.len() - rest.len();
        if bars(rest).is_none() {
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
            assert!(is_special(text), "{text}");
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
            assert!(!is_special(text), "{text}");
        }
        assert_eq!(
            NAMES
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
            assert_eq!(escape(text), escaped);
            assert_eq!(unescape(escaped), text);
            assert_eq!(find_special(escaped), None);
        }
    }
}
