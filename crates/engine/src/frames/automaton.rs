//! The frames of one program as an automaton over bytes and separators. Its states are small, made
//! when they are met, and equal where what may follow is equal.

use cwm_trace::cwm::{BEGIN_OF_TEXT, FRAME_SEP, TRACE_CONTEXT_START, render_prompt, strip_marker};

use super::names::names;
use super::sets::{SetId, Sets};
use super::string::{Inside, SpecialTexts, Step};
use super::vocabulary::FrameTokens;
use super::words::{Span, Words};

/// What may be written for one program, besides the form of frames.
#[derive(Debug)]
pub(super) struct Program {
    /// Names with their closing quotes.
    names: Words,
    /// Whether a variable can have a name that is not among them.
    is_open: bool,
    /// Source lines with their newlines, special tokens in them escaped.
    lines: Words,
}

/// Which frame it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Call,
    Line,
    Return,
    Exception,
}

impl Kind {
    fn has_value(self) -> bool {
        matches!(self, Self::Return | Self::Exception)
    }
}

/// Where a trace stands between frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Between {
    /// Nothing has happened.
    Start,
    /// A call is open.
    InCall,
    /// Every call has returned.
    Over,
}

/// The variables of a frame that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Locals {
    pub(super) kind: Kind,
    /// Those that the scope showed before, which can be unchanged.
    known: SetId,
    /// Those listed so far.
    pub(super) listed: SetId,
}

/// How far a trace has come: all that what may follow depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    Between(Between),
    /// `{` is next.
    Open(Locals),
    /// The first variable, or the end of the list.
    First(Locals),
    Name(Locals, Span),
    /// A name that is not in the source.
    OtherName(Locals, Inside),
    /// `: "` after a name; whether the scope showed the variable before.
    Colon(Locals, u8, bool),
    Value(Locals, Inside),
    /// The next variable, or the end of the list.
    After(Locals),
    /// ` "` after a comma.
    Comma(Locals, u8),
    /// The separator before the source line is next.
    Action(Option<Locals>, Kind),
    /// In the source line; `None` before its first byte.
    Line(Kind, Option<Span>),
    /// The source line is written.
    LineEnd(Kind),
    /// The quote of a value is next.
    Quote,
    Argument(Inside),
    /// The end of the frame is next.
    FrameEnd,
    Done,
}

const COLON: &[u8] = b": \"";
const COMMA: &[u8] = b" \"";

/// What a separator does to the scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    /// A call begins, whose scope shows these variables.
    Enter(SetId),
    /// The innermost scope shows these.
    Show(SetId),
    /// The innermost call is over.
    Leave,
}

impl Program {
    /// What may be written for a program of these files.
    pub(super) fn new(sources: &[&str]) -> Self {
        let found = names(sources);
        let quoted = |name: &String| format!("{name}\"").into_bytes();
        let mut lines: Vec<Vec<u8>> = sources.iter().flat_map(|text| lines(text)).collect();
        if lines.is_empty() {
            // The line of an event in a file without lines.
            lines.push(b"\n".to_vec());
        }
        let ascii = found.listed.iter().filter(|name| name.is_ascii());
        Self {
            names: Words::new(ascii.map(quoted), b'"'),
            is_open: found.is_open,
            lines: Words::new(lines, b'\n'),
        }
    }

    pub(super) fn sets(&self) -> Sets {
        Sets::new(self.names.len())
    }

    /// Where a separator leads, if it may come next. `known` is what the innermost scope shows;
    /// `None` outside of all.
    pub(super) fn separator(
        &self,
        state: State,
        id: u32,
        tokens: &FrameTokens,
        known: Option<SetId>,
    ) -> Option<(State, Effect)> {
        let open = |kind, known| {
            let listed = SetId::EMPTY;
            State::Open(Locals {
                kind,
                known,
                listed,
            })
        };
        let place = known.map_or(Between::Over, |_| Between::InCall);
        let goes_on = (State::Between(place), Effect::Nothing);
        Some(match state {
            State::Between(Between::Over) if id == tokens.end => (State::Done, Effect::Nothing),
            State::Between(Between::Start | Between::InCall) if id == tokens.call => {
                (open(Kind::Call, SetId::EMPTY), Effect::Nothing)
            }
            State::Between(Between::InCall) if id == tokens.line => (
                open(Kind::Line, known.unwrap_or(SetId::EMPTY)),
                Effect::Nothing,
            ),
            State::Between(Between::InCall) if id == tokens.returns => {
                (State::Action(None, Kind::Return), Effect::Nothing)
            }
            State::Between(Between::InCall) if id == tokens.exception => {
                (State::Action(None, Kind::Exception), Effect::Nothing)
            }
            State::Action(locals, kind) if id == tokens.action => {
                let effect = match (kind, locals) {
                    (Kind::Call, Some(locals)) => Effect::Enter(locals.listed),
                    (Kind::Line, Some(locals)) => Effect::Show(locals.listed),
                    (Kind::Return, _) => Effect::Leave,
                    _ => Effect::Nothing,
                };
                (State::Line(kind, None), effect)
            }
            State::LineEnd(kind) if kind.has_value() && id == tokens.argument => {
                (State::Quote, Effect::Nothing)
            }
            State::LineEnd(kind) if !kind.has_value() && id == tokens.frame => goes_on,
            State::FrameEnd if id == tokens.frame => goes_on,
            _ => return None,
        })
    }

    /// Goes on by a byte, where the trace may.
    pub(super) fn byte(
        &self,
        state: State,
        byte: u8,
        sets: &mut Sets,
        specials: &SpecialTexts,
    ) -> Option<State> {
        match state {
            State::Open(locals) => (byte == b'{').then_some(State::First(locals)),
            State::First(locals) => match byte {
                b'"' => self.name(locals, sets),
                b'}' => Some(State::Action(Some(locals), locals.kind)),
                _ => None,
            },
            State::Name(locals, span) => self.in_name(locals, span, byte, sets, specials),
            State::OtherName(locals, _) | State::Value(locals, _) => {
                let inside = state.inside()?;
                match specials.step(inside, byte)? {
                    Step::To(inside) if matches!(state, State::Value(..)) => {
                        Some(State::Value(locals, inside))
                    }
                    Step::To(inside) => Some(State::OtherName(locals, inside)),
                    Step::End => state.closed(),
                }
            }
            State::Colon(locals, read, is_known) => {
                let expected = COLON[usize::from(read)];
                let is_last = usize::from(read) + 1 == COLON.len();
                match (byte == expected, is_last) {
                    (false, _) => None,
                    (true, false) => Some(State::Colon(locals, read + 1, is_known)),
                    (true, true) => Some(State::Value(
                        locals,
                        match locals.kind {
                            Kind::Line => Inside::value(is_known),
                            _ => Inside::START,
                        },
                    )),
                }
            }
            State::After(locals) => match byte {
                b',' if self.has_more(locals, sets) => Some(State::Comma(locals, 0)),
                b'}' => Some(State::Action(Some(locals), locals.kind)),
                _ => None,
            },
            State::Comma(locals, read) if byte == COMMA[usize::from(read)] => match read {
                0 => Some(State::Comma(locals, 1)),
                _ => self.name(locals, sets),
            },
            State::Line(kind, span) => {
                let span = span.or_else(|| self.lines.start())?;
                let span = self.lines.step(span, byte)?;
                Some(match self.lines.complete(span) {
                    Some(_) => State::LineEnd(kind),
                    None => State::Line(kind, Some(span)),
                })
            }
            State::Quote => (byte == b'"').then_some(State::Argument(Inside::START)),
            State::Argument(inside) => match specials.step(inside, byte)? {
                Step::To(inside) => Some(State::Argument(inside)),
                Step::End => state.closed(),
            },
            _ => None,
        }
    }

    /// Whether another variable can follow.
    fn has_more(&self, locals: Locals, sets: &Sets) -> bool {
        self.is_open || !sets.contains_all(locals.listed, 0, self.names.len() as u32)
    }

    /// After the quote that opens a name.
    fn name(&self, locals: Locals, sets: &Sets) -> Option<State> {
        match self.names.start() {
            Some(span) => self
                .has_more(locals, sets)
                .then_some(State::Name(locals, span)),
            None => self
                .is_open
                .then_some(State::OtherName(locals, Inside::START)),
        }
    }

    fn in_name(
        &self,
        locals: Locals,
        span: Span,
        byte: u8,
        sets: &mut Sets,
        specials: &SpecialTexts,
    ) -> Option<State> {
        let Some(span) = self.names.step(span, byte) else {
            // Listed names are plain text, so that another one is in the same place of its string.
            let other = State::OtherName(locals, Inside::START);
            return self
                .is_open
                .then(|| self.byte(other, byte, sets, specials))?;
        };
        if !self.is_open && sets.contains_all(locals.listed, span.low, span.high) {
            return None;
        }
        let Some(name) = self.names.complete(span) else {
            return Some(State::Name(locals, span));
        };
        if sets.contains(locals.listed, name) {
            return None;
        }
        let listed = sets.with(locals.listed, name);
        let is_known = sets.contains(locals.known, name);
        Some(State::Colon(Locals { listed, ..locals }, 0, is_known))
    }
}

impl State {
    /// Where in a string it is, if it is in one whose bytes do not depend on the program.
    pub(super) fn inside(self) -> Option<Inside> {
        match self {
            Self::OtherName(_, inside) | Self::Value(_, inside) | Self::Argument(inside) => {
                Some(inside)
            }
            _ => None,
        }
    }

    /// What follows that string.
    pub(super) fn closed(self) -> Option<Self> {
        match self {
            // Nothing is known of such a variable; that it is unchanged cannot be ruled out.
            Self::OtherName(locals, _) => Some(Self::Colon(locals, 0, true)),
            Self::Value(locals, _) => Some(Self::After(locals)),
            Self::Argument(_) => Some(Self::FrameEnd),
            _ => None,
        }
    }
}

/// The lines of a file as frames show them.
fn lines(source: &str) -> Vec<Vec<u8>> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let bare: String = source
        .lines()
        .flat_map(|line| [strip_marker(line), "\n"])
        .collect();
    let prompt = render_prompt(&bare);
    let escaped = prompt
        .strip_prefix(BEGIN_OF_TEXT)
        .and_then(|text| text.strip_prefix(TRACE_CONTEXT_START))
        .and_then(|text| text.strip_suffix(FRAME_SEP));
    let lines = escaped.unwrap_or_default().split_inclusive('\n');
    lines.map(|line| line.as_bytes().to_vec()).collect()
}
