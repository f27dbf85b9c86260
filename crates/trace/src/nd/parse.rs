//! Reads documents. Never panics; what was good before a fault is kept.

use std::sync::Arc;

use super::render::Memory;
use super::tokens::*;
use super::{
    Action, Broken, Document, Exit, InverseAction, InverseExit, InverseFrame, Reason, Run, Shown,
    Stop, Walk,
};
use crate::cwm::{
    ACTION_SEP, ARG_SEP, BEGIN_OF_TEXT, CALL_SEP, END_OF_TEXT, EXCEPTION_SEP, FRAME_SEP, Frame,
    LINE_SEP, Locals, RETURN_SEP, TRACE_CONTEXT_START,
};
use crate::markup::cursor::Cursor;
use crate::markup::json::{Reader, Text};

/// What could be read of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Everything before the fault, or everything.
    pub document: Document,
    /// The fault, if there is one. A text that stops behind a separator has none: it is a whole document
    /// of a run that goes on.
    pub broken: Option<Broken>,
}

/// Reads a text. White space behind the last token is allowed, so that a file may end with a newline.
pub fn parse(text: &str) -> Parsed {
    let mut document = Document::default();
    let broken = read_document(text, &mut document).err();
    Parsed { document, broken }
}

fn read_document(text: &str, document: &mut Document) -> Result<(), Broken> {
    let mut cursor = Cursor::new(text, SPECIALS, 0);
    cursor.token(BEGIN_OF_TEXT, "`<|begin_of_text|>`")?;
    cursor.token(TRACE_CONTEXT_START, "`<|trace_context_start|>`")?;
    cursor.token("\n", "a newline before the source")?;
    document.context = cursor.source()?.into_owned();
    cursor.token(FRAME_SEP, "`<|frame_sep|>` after the source")?;
    if is_over(&cursor) {
        return Ok(());
    }
    if INVERSE_FRAMES
        .iter()
        .any(|token| cursor.rest().starts_with(token))
    {
        let syntax = Syntax {
            frame: |_: Option<&InverseAction>, cursor: &mut Cursor<'_>| inverse_frame(cursor),
            action: inverse_action,
            exits: &[(INV_EXIT_ENTRY, InverseExit::Entry)],
        };
        return read_walk(&mut cursor, syntax, |walk| {
            document.run = Some(Run::Inverse(walk));
        });
    }
    let mut memory = Memory::default();
    let syntax = Syntax {
        frame: |led: Option<&Action>, cursor: &mut Cursor<'_>| {
            memory.goes_by(led);
            let frame = frame(cursor, memory.shown.as_ref())?;
            memory.shows(&frame);
            Ok(frame)
        },
        action,
        exits: &Exit::ALL.map(|exit| (exit.token(), exit)),
    };
    read_walk(&mut cursor, syntax, |walk| {
        document.run = Some(Run::Forward(walk));
    })
}

const INVERSE_FRAMES: [&str; 5] = [
    INV_RETURN_SEP,
    INV_EXCEPTION_SEP,
    INV_LINE_CALL_SEP,
    INV_LINE_SEP,
    INV_CALL_SEP,
];

fn is_over(cursor: &Cursor<'_>) -> bool {
    cursor.rest().trim_start().is_empty()
}

/// How one of the two directions is read.
struct Syntax<'s, ReadFrame, ReadAction, E> {
    /// Reads a frame, given the action that led to it.
    frame: ReadFrame,
    action: ReadAction,
    exits: &'s [(&'static str, E)],
}

/// Reads a walk and hands over what could be read of it.
fn read_walk<'a, F, A, E, ReadFrame, ReadAction>(
    cursor: &mut Cursor<'a>,
    mut syntax: Syntax<'_, ReadFrame, ReadAction, E>,
    found: impl FnOnce(Walk<F, A, E>),
) -> Result<(), Broken>
where
    ReadFrame: FnMut(Option<&A>, &mut Cursor<'a>) -> Result<F, Broken>,
    ReadAction: Fn(&mut Cursor<'a>) -> Result<A, Broken>,
    E: Copy,
{
    let mut walk = Walk {
        start: (syntax.frame)(None, cursor)?,
        moves: Vec::new(),
        stop: Stop::Here,
    };
    let result = read_moves(cursor, &mut syntax, &mut walk);
    found(walk);
    result
}

fn read_moves<'a, F, A, E, ReadFrame, ReadAction>(
    cursor: &mut Cursor<'a>,
    syntax: &mut Syntax<'_, ReadFrame, ReadAction, E>,
    walk: &mut Walk<F, A, E>,
) -> Result<(), Broken>
where
    ReadFrame: FnMut(Option<&A>, &mut Cursor<'a>) -> Result<F, Broken>,
    ReadAction: Fn(&mut Cursor<'a>) -> Result<A, Broken>,
    E: Copy,
{
    loop {
        cursor.token(ACTION_SEP, "`<|action_sep|>`")?;
        if is_over(cursor) {
            return Ok(());
        }
        let action = (syntax.action)(cursor)?;
        cursor.token(FRAME_SEP, "`<|frame_sep|>`")?;
        if is_over(cursor) {
            walk.stop = Stop::Asked(action);
            return Ok(());
        }
        let mut exits = syntax.exits.iter();
        if let Some(&(_, exit)) = exits.find(|(token, _)| cursor.eat(token)) {
            return match end(cursor) {
                Ok(()) => {
                    walk.stop = Stop::Exit(action, exit);
                    cursor.nothing_more()
                }
                Err(broken) => {
                    walk.stop = Stop::Asked(action);
                    Err(broken)
                }
            };
        }
        match (syntax.frame)(Some(&action), cursor) {
            Ok(frame) => walk.moves.push((action, frame)),
            Err(broken) => {
                walk.stop = Stop::Asked(action);
                return Err(broken);
            }
        }
    }
}

fn end(cursor: &mut Cursor<'_>) -> Result<(), Broken> {
    cursor.token(TRACE_END, "`<|trace_end|>`")?;
    cursor.token(END_OF_TEXT, "`<|end_of_text|>`")
}

fn frame(cursor: &mut Cursor<'_>, shown: Option<&Locals>) -> Result<Frame, Broken> {
    if cursor.eat(CALL_SEP) {
        let src = source_line(cursor)?;
        let locals = full_locals(cursor)?;
        Ok(Frame::Call { locals, src })
    } else if cursor.eat(LINE_SEP) {
        let start = cursor.at;
        let Shown { listed, rest } = read_shown(cursor)?;
        let locals = match (rest, shown) {
            (false, _) => listed,
            (true, Some(shown)) => shown.iter().chain(&listed).cloned().collect(),
            (true, None) => return Err(nothing_shown(start)),
        };
        let src = source_line(cursor)?;
        Ok(Frame::Line { locals, src })
    } else if cursor.eat(RETURN_SEP) {
        let src = source_line(cursor)?;
        let value = value(cursor)?;
        Ok(Frame::Return { src, value })
    } else if cursor.eat(EXCEPTION_SEP) {
        let src = source_line(cursor)?;
        let value = value(cursor)?;
        Ok(Frame::Exception { src, value })
    } else {
        Err(cursor.missing("the start of a frame"))
    }
}

fn inverse_frame(cursor: &mut Cursor<'_>) -> Result<InverseFrame, Broken> {
    if cursor.eat(INV_RETURN_SEP) {
        let src = source_line(cursor)?;
        let value = value(cursor)?;
        Ok(InverseFrame::Return { src, value })
    } else if cursor.eat(INV_EXCEPTION_SEP) {
        let src = source_line(cursor)?;
        let value = value(cursor)?;
        Ok(InverseFrame::Exception { src, value })
    } else if cursor.eat(INV_LINE_CALL_SEP) {
        let src = source_line(cursor)?;
        let shown = read_shown(cursor)?;
        Ok(InverseFrame::LineCall { src, shown })
    } else if cursor.eat(INV_LINE_SEP) {
        let src = source_line(cursor)?;
        let shown = read_shown(cursor)?;
        Ok(InverseFrame::Line { src, shown })
    } else if cursor.eat(INV_CALL_SEP) {
        let src = source_line(cursor)?;
        let locals = full_locals(cursor)?;
        Ok(InverseFrame::Call { src, locals })
    } else {
        Err(cursor.missing("the start of a frame of an inverse run"))
    }
}

fn action(cursor: &mut Cursor<'_>) -> Result<Action, Broken> {
    let plain = [
        Action::StepInto,
        Action::StepOver,
        Action::StepReturn,
        Action::Continue,
    ];
    if let Some(action) = plain.into_iter().find(|action| cursor.eat(action.token())) {
        return Ok(action);
    }
    cursor.token(BREAKPOINT, "an action")?;
    Ok(Action::Breakpoint(cursor.source_line()?))
}

fn inverse_action(cursor: &mut Cursor<'_>) -> Result<InverseAction, Broken> {
    let mut all = InverseAction::ALL.into_iter();
    all.find(|action| cursor.eat(action.token()))
        .ok_or_else(|| cursor.missing("an inverse action"))
}

fn source_line(cursor: &mut Cursor<'_>) -> Result<Arc<str>, Broken> {
    cursor.token(SRC_SEP, "`<|src_sep|>`")?;
    cursor.source_line()
}

fn value(cursor: &mut Cursor<'_>) -> Result<Arc<str>, Broken> {
    cursor.token(ARG_SEP, "`<|arg_sep|>`")?;
    cursor.value()
}

/// Reads a state in which every variable is listed.
fn full_locals(cursor: &mut Cursor<'_>) -> Result<Locals, Broken> {
    let start = cursor.at;
    match read_shown(cursor)? {
        Shown { rest: true, .. } => Err(nothing_shown(start)),
        Shown { listed, .. } => Ok(listed),
    }
}

/// Reads a state: the variables that are listed, and whether there is the mark for all others.
fn read_shown(cursor: &mut Cursor<'_>) -> Result<Shown, Broken> {
    cursor.token(ARG_SEP, "`<|arg_sep|>`")?;
    let offset = cursor.at;
    let pairs = cursor.json(Reader::object)?;
    let is_mark = |(name, value): &(Text<'_>, Text<'_>)| name.mark && value.mark;
    let rest = pairs.first().is_some_and(is_mark);
    let pairs = pairs.into_iter().skip(usize::from(rest));
    let broken = |reason| Broken { offset, reason };
    let listed = pairs.map(|(name, value)| match name.mark {
        true => Err(broken(Reason::MisplacedMark)),
        false => Ok((name.text.into(), value.text.into())),
    });
    let listed = listed.collect::<Result<_, _>>()?;
    let listed = Locals::from_pairs(listed).map_err(|name| broken(Reason::Twice(name)))?;
    Ok(Shown { listed, rest })
}

fn nothing_shown(offset: usize) -> Broken {
    Broken {
        offset,
        reason: Reason::NothingShown,
    }
}
