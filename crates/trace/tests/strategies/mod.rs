//! Documents and traces that property tests are made of.

#![allow(
    dead_code,
    reason = "each test binary compiles this module and uses a part of it"
)]

use std::sync::Arc;

use cwm_trace::cwm::{self, Frame, Locals};
use cwm_trace::{End, Entry, Event, EventKind, Function, Local, Trace, Value};
use proptest::collection::vec;
use proptest::prelude::*;

/// Texts that are likely to be mistaken for something else.
const TRICKY: &[&str] = &[
    "..",
    ".",
    "...",
    "",
    "<|frame_sep|>",
    "<|end_of_text|>",
    "<|reserved_special_token_255|>",
    "<",
    "<|",
    "|>",
    "\\",
    "frame_sep",
    "\"",
    "\u{7f}",
    "\u{0}",
    "\r\n",
    "😀",
    cwm::MARKER,
];

/// Texts that hold them, and others.
pub(crate) fn text() -> impl Strategy<Value = Arc<str>> {
    let piece = prop_oneof![
        3 => proptest::sample::select(TRICKY).prop_map(str::to_owned),
        1 => any::<String>(),
        2 => "[a-z0-9', ]{0,6}",
    ];
    vec(piece, 0..4).prop_map(|pieces| pieces.concat().into())
}

/// Few names, so that variables stay, go and come back from frame to frame.
pub(crate) fn locals() -> impl Strategy<Value = Locals> {
    let name = prop_oneof![8 => "[abc]".prop_map(Into::into), 1 => text()];
    let value = prop_oneof![2 => Just("..".into()), 4 => "[12]".prop_map(Into::into), 2 => text()];
    vec((name, value), 0..5).prop_map(|pairs| pairs.into_iter().collect())
}

/// Any frame of the `cwm` and `nd` dialects.
pub(crate) fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (locals(), text()).prop_map(|(locals, src)| Frame::Call { locals, src }),
        (locals(), text()).prop_map(|(locals, src)| Frame::Line { locals, src }),
        (locals(), text()).prop_map(|(locals, src)| Frame::Line { locals, src }),
        (text(), text()).prop_map(|(src, value)| Frame::Return { src, value }),
        (text(), text()).prop_map(|(src, value)| Frame::Exception { src, value }),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    (text(), proptest::option::of(text()), any::<bool>()).prop_map(|(repr, detail, truncated)| {
        Value {
            repr,
            detail,
            truncated,
        }
    })
}

fn event(functions: u32) -> impl Strategy<Value = Event> {
    let kind = proptest::sample::select(
        &[
            EventKind::Call,
            EventKind::Resume,
            EventKind::Line,
            EventKind::Return,
            EventKind::Yield,
            EventKind::Unwind,
            EventKind::Exception,
        ][..],
    );
    let local = (text(), value()).prop_map(|(name, value)| Local { name, value });
    let place = (any::<u32>(), 0..functions, 0..9_u32);
    (kind, place, vec(local, 0..4), proptest::option::of(value())).prop_map(
        |(kind, (activation, function, line), locals, value)| Event {
            kind,
            activation,
            function,
            line,
            locals,
            value,
        },
    )
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::Finished),
        any::<String>().prop_map(End::Raised),
        any::<i32>().prop_map(End::Exited),
        any::<u64>().prop_map(End::MaxEvents),
        proptest::num::f64::NORMAL.prop_map(End::Timeout),
        Just(End::OutOfMemory),
        any::<String>().prop_map(End::Crashed),
    ]
}

/// Any events, also ones that no program could cause.
pub(crate) fn trace() -> impl Strategy<Value = Trace> {
    let function =
        (any::<String>(), any::<String>(), 0..9_u32).prop_map(|(name, qualname, first_line)| {
            Function {
                name,
                qualname,
                first_line,
                file: 0,
            }
        });
    let entry = prop_oneof![
        Just(Entry::Module),
        (any::<String>(), any::<String>())
            .prop_map(|(function, args)| Entry::Call { function, args }),
    ];
    let source = "(def f\\(\\):|x = 1|  # << START_OF_TRACE|\n|\r|\r\n|<\\|pad\\|>|é){0,12}";
    let texts = (
        any::<String>(),
        any::<String>(),
        source,
        any::<String>(),
        any::<String>(),
    );
    (
        texts,
        entry,
        vec(function, 1..4),
        vec(event(4), 0..8),
        end(),
    )
        .prop_map(
            |((python, file, source, stdout, stderr), entry, functions, mut events, end)| {
                for event in &mut events {
                    event.function %= functions.len() as u32;
                }
                Trace {
                    python,
                    file,
                    source,
                    other_files: Vec::new(),
                    entry,
                    thread: None,
                    functions,
                    events,
                    end,
                    stdout,
                    stderr,
                }
            },
        )
}
