//! Texts of runs in the dialects with special tokens: where their frames end, what each token is, where they can be
//! taken up again, and what has to be told there.

use cwm_tokenizer::llama::{Llama, Markup, Special};
use cwm_trace::cwm::{self, Frame, Locals, Scopes};
use cwm_trace::nd::{self, Run, Stop, Walk};

/// What a target of a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Text of no special form.
    Text,
    /// The source of a run.
    Context,
    /// What happens: a call, a line, a return, an exception, the end.
    Event,
    /// The source line of a frame.
    Source,
    /// The variables of a frame.
    Locals,
    /// What is returned or raised.
    Argument,
    /// What a debugger does.
    Action,
}

impl Kind {
    /// Their names, each at the index that its kind has as a number.
    pub(super) const NAMES: [&str; 7] = [
        "text", "context", "event", "source", "locals", "argument", "action",
    ];
}

/// What a text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Plain text, in which nothing is special.
    Plain,
    /// A run in the `cwm` dialect.
    Cwm,
    /// A run in the `nd` dialect, forwards or backwards.
    Nd,
}

impl Dialect {
    /// That of texts of a kind.
    pub(super) fn of(kind: &str) -> Self {
        match kind {
            "cwm" => Self::Cwm,
            "nd" | "nd_inverse" => Self::Nd,
            _ => Self::Plain,
        }
    }

    pub(super) fn markup(self) -> Markup {
        match self {
            Self::Plain | Self::Cwm => Markup::Cwm,
            Self::Nd => Markup::Nd,
        }
    }
}

/// The special ids that give a text its form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    frame_sep: u32,
    action_sep: u32,
    arg_sep: u32,
    src_sep: Option<u32>,
    /// Openings of frames with a value in place of variables.
    valued: [Option<u32>; 4],
}

impl Marks {
    pub(super) fn new(llama: &Llama) -> Self {
        let nd = |text| llama.markup_id(text, Markup::Nd);
        Self {
            frame_sep: llama.id(Special::FrameSep),
            action_sep: llama.id(Special::ActionSep),
            arg_sep: llama.id(Special::ArgSep),
            src_sep: nd(nd::SRC_SEP),
            valued: [
                nd(cwm::RETURN_SEP),
                nd(cwm::EXCEPTION_SEP),
                nd(nd::INV_RETURN_SEP),
                nd(nd::INV_EXCEPTION_SEP),
            ],
        }
    }

    /// Where the units of a text end, the first of which is its context: behind each separator, and at the end.
    pub(super) fn ends(&self, ids: &[u32]) -> Vec<u32> {
        let separators = (1..).zip(ids).filter(|(_, id)| **id == self.frame_sep);
        let mut ends: Vec<u32> = separators.map(|(end, _)| end).collect();
        let last = ids.len() as u32;
        match ends.last() {
            Some(&end) if end == last => {}
            _ => ends.push(last),
        }
        ends
    }

    /// What each token of a frame is, and where in it the frame as a prediction ends: before the action of a
    /// debugger, which is not a prediction.
    pub(super) fn kinds(&self, dialect: Dialect, unit: &[u32]) -> (Vec<Kind>, usize) {
        let valued = unit
            .first()
            .is_some_and(|first| self.valued.contains(&Some(*first)));
        let mut kind = Kind::Event;
        let mut end = unit.len();
        let mut kinds = Vec::with_capacity(unit.len());
        for (index, &id) in unit.iter().enumerate() {
            if index == 0 {
                kinds.push(Kind::Event);
                // In `cwm` the variables follow with no separator before them.
                if dialect == Dialect::Cwm {
                    kind = Kind::Locals;
                }
                continue;
            }
            if id == self.action_sep && dialect == Dialect::Nd {
                kinds.push(kind);
                (kind, end) = (Kind::Action, index + 1);
                continue;
            }
            if id == self.action_sep || Some(id) == self.src_sep {
                kind = Kind::Source;
            } else if id == self.arg_sep && valued {
                kind = Kind::Argument;
            } else if id == self.arg_sep {
                kind = Kind::Locals;
            }
            kinds.push(kind);
        }
        // An exit and the end of the text are events, and nothing else is in their unit.
        if !unit.contains(&self.action_sep) {
            kinds.fill(Kind::Event);
        }
        (kinds, end)
    }
}

/// Where a run can be taken up: for each such unit, counted from 0 behind the context, whether it is one. `None` if
/// the text is not of the dialect.
pub(super) fn starts(dialect: Dialect, text: &str) -> Option<Vec<u32>> {
    let units = |fits: Vec<bool>| {
        let fitting = (1..).zip(fits).filter(|(_, fits)| *fits);
        fitting.map(|(unit, _)| unit).collect()
    };
    match dialect {
        Dialect::Plain => Some(Vec::new()),
        Dialect::Cwm => {
            let parsed = cwm::parse(text);
            let mut stack = Stack::default();
            let fits = parsed.document.frames.iter().map(|frame| {
                stack.apply(frame);
                stack.tells(frame)
            });
            let fits = fits.collect();
            parsed.broken.is_none().then(|| units(fits))
        }
        Dialect::Nd => {
            let parsed = nd::parse(text);
            let fits = match &parsed.document.run {
                Some(Run::Forward(walk)) => {
                    let mut fits: Vec<bool> = walk.frames().map(shows_all).collect();
                    if matches!(walk.stop, Stop::Here) {
                        fits.pop();
                    }
                    fits
                }
                // On the way back a state is told by a later one of its scope, which may be far away.
                Some(Run::Inverse(_)) | None => Vec::new(),
            };
            parsed.broken.is_none().then(|| units(fits))
        }
    }
}

/// What has to be told before a run is taken up at `unit`, as text.
pub(super) fn opening(dialect: Dialect, text: &str, unit: usize) -> String {
    match dialect {
        Dialect::Plain => String::new(),
        Dialect::Cwm => {
            let mut stack = Stack::default();
            let frames = cwm::parse(text).document.frames;
            frames
                .iter()
                .take(unit)
                .for_each(|frame| stack.apply(frame));
            stack.render()
        }
        Dialect::Nd => match nd::parse(text).document.run {
            Some(Run::Forward(walk)) => state(walk, unit - 1),
            Some(Run::Inverse(_)) | None => String::new(),
        },
    }
}

/// Whether what follows a state depends on nothing before it: after an exception, what the scope has bound is
/// still that of an earlier state.
fn shows_all(frame: &Frame) -> bool {
    !matches!(frame, Frame::Exception { .. })
}

/// A state of a walk in full, with the action that leads on from it.
fn state(walk: Walk<Frame, nd::Action, nd::Exit>, index: usize) -> String {
    let start = walk.frames().nth(index).cloned();
    let led = walk.moves.get(index).map(|(action, _)| action.clone());
    let action = led.or(match walk.stop {
        Stop::Here => None,
        Stop::Asked(action) | Stop::Exit(action, _) => Some(action),
    });
    let (Some(start), Some(action)) = (start, action) else {
        return String::new();
    };
    let text = nd::render(&nd::Document {
        context: String::new(),
        run: Some(Run::Forward(Walk {
            start,
            moves: Vec::new(),
            stop: Stop::Asked(action),
        })),
    });
    let prompt = text
        .find(cwm::FRAME_SEP)
        .map(|at| at + cwm::FRAME_SEP.len());
    text[prompt.unwrap_or_default()..].to_owned()
}

/// The open scopes of a run in the `cwm` dialect.
#[derive(Debug, Default)]
struct Stack(Vec<Open>);

#[derive(Debug)]
struct Open {
    locals: Locals,
    src: std::sync::Arc<str>,
    /// Whether a call that this line made is over: what it gave is part of the state, and is not shown.
    called: bool,
}

impl Stack {
    fn apply(&mut self, frame: &Frame) {
        let open = |locals: &Locals, src: &std::sync::Arc<str>| Open {
            locals: locals.clone(),
            src: src.clone(),
            called: false,
        };
        match frame {
            Frame::Call { locals, src } => self.0.push(open(locals, src)),
            Frame::Line { locals, src } => {
                self.0.pop();
                self.0.push(open(locals, src));
            }
            Frame::Return { .. } => {
                self.0.pop();
                if let Some(caller) = self.0.last_mut() {
                    caller.called = true;
                }
            }
            Frame::Exception { .. } => {}
        }
    }

    /// Whether the open scopes, as they were last seen, are all that the next frame depends on.
    fn tells(&self, frame: &Frame) -> bool {
        frame.locals().is_some() && self.0.iter().all(|open| !open.called)
    }

    /// Each scope as if it went on now, from the outermost one: a call frame with all its variables and the line
    /// that it is at, which is how the dialect writes a scope that goes on.
    fn render(&self) -> String {
        let mut out = String::new();
        let mut scopes = Scopes::new();
        for open in &self.0 {
            let frame = Frame::Call {
                locals: open.locals.clone(),
                src: open.src.clone(),
            };
            cwm::render_frame(&frame, &mut scopes, &mut out);
        }
        out
    }
}
