//! CWM's 256 reserved tokens. Their numbers are those of Meta's code; the
//! prompting guide misprints one (it gives the end of turn as 128008).

/// Number of reserved ids after the ranks.
pub const RESERVED: usize = 256;

/// The reserved tokens that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Special {
    /// Opens every text.
    BeginOfText = 0,
    /// Ends a text, and a trace.
    EndOfText = 1,
    /// Fills up a batch.
    Pad = 4,
    /// Comes before the role of a message.
    StartHeader = 6,
    /// Comes after the role of a message.
    EndHeader = 7,
    /// Ended a message in older formats.
    EndOfMessage = 8,
    /// Ends a message.
    EndOfTurn = 9,
    /// Closes the context and every frame of a trace.
    FrameSep = 100,
    /// Comes before the source line of a frame.
    ActionSep = 101,
    /// Opens a return frame.
    ReturnSep = 102,
    /// Opens a call frame.
    CallSep = 103,
    /// Opens a line frame.
    LineSep = 104,
    /// Opens an exception frame.
    ExceptionSep = 105,
    /// Comes before the value of a return or an exception.
    ArgSep = 106,
    /// Comes before the source of a trace.
    TraceContextStart = 107,
    /// Opened reasoning in supervised fine-tuning.
    ThinkingStart = 120,
    /// Closed reasoning in supervised fine-tuning.
    ThinkingEnd = 121,
}

impl Special {
    /// All of them, in the order of their ids.
    pub const ALL: [Self; 17] = [
        Self::BeginOfText,
        Self::EndOfText,
        Self::Pad,
        Self::StartHeader,
        Self::EndHeader,
        Self::EndOfMessage,
        Self::EndOfTurn,
        Self::FrameSep,
        Self::ActionSep,
        Self::ReturnSep,
        Self::CallSep,
        Self::LineSep,
        Self::ExceptionSep,
        Self::ArgSep,
        Self::TraceContextStart,
        Self::ThinkingStart,
        Self::ThinkingEnd,
    ];

    /// Its place among the reserved ids.
    pub fn offset(self) -> u32 {
        self as u32
    }

    /// Its text, such as `<|frame_sep|>`.
    pub fn text(self) -> &'static str {
        match self {
            Self::BeginOfText => "<|begin_of_text|>",
            Self::EndOfText => "<|end_of_text|>",
            Self::Pad => "<|pad|>",
            Self::StartHeader => "<|start_header_id|>",
            Self::EndHeader => "<|end_header_id|>",
            Self::EndOfMessage => "<|eom_id|>",
            Self::EndOfTurn => "<|eot_id|>",
            Self::FrameSep => "<|frame_sep|>",
            Self::ActionSep => "<|action_sep|>",
            Self::ReturnSep => "<|return_sep|>",
            Self::CallSep => "<|call_sep|>",
            Self::LineSep => "<|line_sep|>",
            Self::ExceptionSep => "<|exception_sep|>",
            Self::ArgSep => "<|arg_sep|>",
            Self::TraceContextStart => "<|trace_context_start|>",
            Self::ThinkingStart => "<|reasoning_thinking_start|>",
            Self::ThinkingEnd => "<|reasoning_thinking_end|>",
        }
    }

    fn at(offset: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|special| special.offset() == u32::from(offset))
    }
}

/// Text of the reserved token at an offset.
pub(super) fn text_of(offset: u8) -> String {
    match Special::at(offset) {
        Some(special) => special.text().to_owned(),
        None => format!("{UNNAMED}{offset}{CLOSE}"),
    }
}

/// Offset of the reserved token with a text.
pub(super) fn offset_of(text: &str) -> Option<u32> {
    if let Some(special) = Special::ALL
        .into_iter()
        .find(|special| special.text() == text)
    {
        return Some(special.offset());
    }
    let digits = text.strip_prefix(UNNAMED)?.strip_suffix(CLOSE)?;
    let offset = digits
        .parse::<u8>()
        .ok()
        .filter(|&offset| text_of(offset) == text)?;
    Some(u32::from(offset))
}

const OPEN: &str = "<|";
const CLOSE: &str = "|>";
const UNNAMED: &str = "<|reserved_special_token_";

/// Length of the longest text, `<|reserved_special_token_255|>`.
const LONGEST: usize = 30;

/// A stretch of a text: either ordinary, or one special token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    Text(&'a str),
    Special(u32),
}

/// Hands over the stretches of a text in order. What reads like a special token and has no `offset`
/// belongs to the ordinary text around it.
pub(super) fn segments<'a>(
    text: &'a str,
    offset: impl Fn(&str) -> Option<u32>,
    mut take: impl FnMut(Segment<'a>),
) {
    let mut done = 0;
    for (start, _) in text.match_indices(OPEN) {
        let Some((offset, length)) = special_at(&text[start..], &offset) else {
            continue;
        };
        if done < start {
            take(Segment::Text(&text[done..start]));
        }
        take(Segment::Special(offset));
        done = start + length;
    }
    if done < text.len() {
        take(Segment::Text(&text[done..]));
    }
}

/// Offset and length of the special token a text starts with. No text of one
/// holds a `|>` before its end, so the first one decides.
fn special_at(text: &str, offset: impl Fn(&str) -> Option<u32>) -> Option<(u32, usize)> {
    let window = &text.as_bytes()[..text.len().min(LONGEST)];
    let close = window
        .windows(CLOSE.len())
        .skip(OPEN.len())
        .position(|w| w == CLOSE.as_bytes())?;
    let length = OPEN.len() + close + CLOSE.len();
    Some((offset(&text[..length])?, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reserved_token_has_its_own_text() {
        let texts: Vec<String> = (0..=255).map(text_of).collect();
        for (offset, text) in (0..).zip(&texts) {
            assert_eq!(offset_of(text), Some(offset), "{text}");
            assert_eq!(special_at(text, offset_of), Some((offset, text.len())));
        }
        assert_eq!(texts.iter().map(String::len).max(), Some(LONGEST));
        assert_eq!(
            offset_of("<|reserved_special_token_100|>"),
            None,
            "that slot has a name"
        );
        assert_eq!(offset_of("<|reserved_special_token_02|>"), None);
        assert_eq!(offset_of("<|reserved_special_token_256|>"), None);
    }

    #[test]
    fn a_text_falls_into_stretches() {
        let split = |text| {
            let mut found = Vec::new();
            let known = |name: &str| offset_of(name).filter(|&offset| offset != 4);
            segments(text, known, |segment| found.push(segment));
            found
        };
        use Segment::{Special, Text};
        assert_eq!(split(""), []);
        assert_eq!(split("<|eot_id|><|eot_id|>"), [Special(9), Special(9)]);
        assert_eq!(
            split("é<|<|eot_id|>|>"),
            [Text("é<|"), Special(9), Text("|>")]
        );
        assert_eq!(split("a<|pad|><|é"), [Text("a<|pad|><|é")]);
        assert_eq!(split("<|>eot_id|>"), [Text("<|>eot_id|>")]);
    }
}
