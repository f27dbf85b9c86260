//! Windows: what a model sees of a run, made event by event.
//!
//! A window is the context of one line of one activation. It begins with a
//! *header* that says where control is and puts the line in focus, and goes on
//! with what the line does, up to the choice of the next one. When the line
//! calls another activation, that one gets windows of its own; once it is
//! done, its caller's window receives a *back* section with the value and the
//! callee's variables that changed, and nothing else.
//!
//! Some pieces are *predicted* (a model must produce them), the others are
//! *given* (they follow from earlier events by rule): headers, back sections
//! and foci. The layout is specified in `specs/live.md`.
//!
//! Before a frame there may be its *working*: what the parts of the line's
//! expressions come to, step by step. It is scratch paper. A model writes it
//! to get the frame right; once the frame is known it is gone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::flow::Flow;
use super::focus::{Focus, Program};
use super::outline::Outline;
use crate::{Event, EventKind, Local};

/// The fixed words of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mark {
    /// A fresh activation: definition line, arguments, [`Mark::End`].
    Call,
    /// A suspended activation goes on.
    Resume,
    /// A line of an activation is about to run.
    State,
    /// The activation returns the value that follows.
    Return,
    /// The activation yields the value that follows.
    Yield,
    /// The value that follows was raised in, or reached, the activation.
    Exception,
    /// The activation ends because of the exception before.
    Unwind,
    /// A callee is done; its value or exception follows.
    Back,
    /// The name that follows is no longer bound.
    Delete,
    /// Ends a value.
    Item,
    /// Ends a list of variables.
    End,
    /// Ends the text of a line in focus; the lines that may come next follow.
    Next,
    /// A step of a working follows.
    Work,
    /// Asks for the next frame of the activation, past what the line calls.
    Over,
    /// Asks how the activation is left.
    Leave,
    /// Asks for the state in which the line that follows is next about to run.
    Until,
    /// Asks how the run ends.
    Finish,
    /// Asks for the state before, in the same activation.
    Before,
    /// Asks for the state before, in a call that was made meanwhile.
    Into,
    /// Asks for the arguments of the activation.
    Input,
    /// The run ends by itself.
    Normal,
    /// The run ends by an exception that nothing caught.
    Error,
}

/// A word of a window, before any vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A fixed word.
    Mark(Mark),
    /// A line number of the source.
    Line(u32),
    /// One of the lines that the focus of the window lists as next, counted
    /// from 0.
    Choice(u32),
    /// How many items the `for` loop just named has consumed.
    Ordinal(u32),
    /// A variable's name.
    Name(Arc<str>),
    /// A value's text.
    Value(Arc<str>),
    /// A value, with what it may be told by.
    Told(Box<Told>),
    /// A step of a working, such as `7 % 5 = 2`.
    Step(Arc<str>),
    /// The line that is about to run.
    Focus(Box<Focus>),
}

/// A value that a model has to produce. It may be written out or as an edit of
/// what the variable held before; it or its items may be named by a variable
/// that the focus shows with the same value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its text.
    pub text: Arc<str>,
    /// What the variable held before.
    pub before: Option<Arc<str>>,
    /// The variables that the focus shows, with their values, in the order in
    /// which the line names them.
    pub shown: Vec<(Arc<str>, Arc<str>)>,
}

/// A piece and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowPiece {
    /// The word.
    pub piece: Piece,
    /// Whether a model has to produce it; `false`: it follows by rule.
    pub predicted: bool,
}

/// The context of one line of an activation, after the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Its words.
    pub pieces: Vec<WindowPiece>,
    /// Where the header ends and what the line does begins.
    pub header: usize,
    /// Where the working of the frame to come stands.
    working: Option<Range<usize>>,
}

/// The steps before events, by the index of the event in its document.
pub type Workings = BTreeMap<usize, Vec<Arc<str>>>;

impl Window {
    fn work(&mut self, steps: &[Arc<str>]) {
        let start = self.pieces.len();
        for piece in steps.iter().flat_map(step_pieces) {
            self.predicted(piece);
        }
        self.working = Some(start..self.pieces.len());
    }

    /// The window without the working of the frame that is known now, if
    /// there is one.
    fn without_working(&self) -> Option<Self> {
        let working = self.working.clone().filter(|range| !range.is_empty())?;
        let mut rest = self.clone();
        rest.pieces.drain(working);
        rest.working = None;
        for word in &mut rest.pieces {
            word.predicted = false;
        }
        Some(rest)
    }

    pub(super) fn given(&mut self, piece: Piece) {
        self.pieces.push(WindowPiece {
            piece,
            predicted: false,
        });
    }

    /// Appends words that have to be predicted.
    pub(super) fn answer(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            self.predicted(piece);
        }
    }

    pub(super) fn predicted(&mut self, piece: Piece) {
        self.pieces.push(WindowPiece {
            piece,
            predicted: true,
        });
    }

    /// A variable and its value follow by rule.
    pub(super) fn show(&mut self, local: &Local) {
        self.given(Piece::Name(local.name.clone()));
        self.given(Piece::Value(local.value.repr.clone()));
        self.given(Piece::Mark(Mark::Item));
    }

    /// A variable and its new value have to be predicted.
    fn assign(&mut self, local: &Local, before: Option<&Local>) {
        self.predicted(Piece::Name(local.name.clone()));
        self.tell(&local.value.repr, before.map(|old| &old.value.repr));
    }

    /// A value has to be predicted.
    pub(super) fn tell(&mut self, text: &Arc<str>, before: Option<&Arc<str>>) {
        let told = Told {
            text: text.clone(),
            before: before.cloned(),
            shown: self.focus().map_or(Vec::new(), Focus::in_order),
        };
        self.predicted(Piece::Told(Box::new(told)));
        self.predicted(Piece::Mark(Mark::Item));
    }

    /// The line in focus.
    pub fn focus(&self) -> Option<&Focus> {
        match self.pieces[..self.header].last().map(|word| &word.piece) {
            Some(Piece::Focus(focus)) => Some(focus),
            _ => None,
        }
    }

    /// The lines that the focus lists as next.
    pub fn next_lines(&self) -> &[u32] {
        self.focus().map_or(&[], |focus| &focus.next)
    }

    /// The mark of a fresh header in this window's place: its own while no
    /// frame has followed.
    fn mark_for_edit(&self) -> Mark {
        match self.pieces.first() {
            Some(WindowPiece {
                piece: Piece::Mark(mark),
                ..
            }) if self.pieces.len() == self.header => *mark,
            _ => Mark::State,
        }
    }
}

/// One run of a code object, as far as it has come.
#[derive(Clone, Debug)]
struct Activation {
    id: u32,
    definition: u32,
    /// Scope line in the outline, 0 for the module.
    scope: u32,
    line: u32,
    locals: Vec<Local>,
    /// State at the last entry, to tell the caller what changed.
    entered_with: Vec<Local>,
    /// Active `for` loops: header line and items consumed.
    loops: Vec<(u32, u32)>,
    raised: Option<Arc<str>>,
    window: Window,
}

/// Turns events into windows.
#[derive(Clone, Debug)]
pub struct Machine {
    program: Arc<Program>,
    stack: Vec<Activation>,
    suspended: Vec<Activation>,
    finished: Vec<Window>,
    keep_finished: bool,
}

impl Machine {
    /// A machine that keeps no finished windows, for predicting.
    pub fn new(source: &str) -> Self {
        Self {
            program: Arc::new(Program::new(source)),
            stack: Vec::new(),
            suspended: Vec::new(),
            finished: Vec::new(),
            keep_finished: false,
        }
    }

    /// All windows of a recorded run, in order of completion, cut-off ones
    /// included. A line that calls others has, besides the window of its end,
    /// one for each of its frames that has a working.
    pub fn windows(document: &super::Document, workings: &Workings) -> Vec<Window> {
        let mut machine = Self {
            keep_finished: true,
            ..Self::new(&document.source)
        };
        for (index, event) in document.events.iter().enumerate() {
            let definition = document
                .functions
                .get(event.function as usize)
                .map_or(event.line, |f| f.first_line);
            if let Some(steps) = workings.get(&index)
                && let Some(top) = machine.stack.last_mut()
            {
                top.window.work(steps);
            }
            machine.feed(event, definition);
        }
        while let Some(activation) = machine.stack.pop() {
            machine.retire(activation.window);
        }
        machine.finished
    }

    /// The block structure of the source.
    pub fn outline(&self) -> &Outline {
        &self.program.outline
    }

    /// The control flow of the source.
    pub fn flow(&self) -> &Flow {
        &self.program.flow
    }

    /// The words that the statement about to run in the running activation
    /// is made of, with all its lines; strings and comments count.
    pub fn words(&self) -> impl Iterator<Item = &Arc<str>> {
        let line = self.line().unwrap_or(0);
        let lines = self.program.flow.statement(line).unwrap_or(line..=line);
        let indexes = lines.filter_map(|n| (n as usize).checked_sub(1));
        indexes.filter_map(|i| self.program.words.get(i)).flatten()
    }

    /// The pieces that a model has to produce for `event`.
    pub fn frame(&self, event: &Event, definition: u32) -> Vec<Piece> {
        let mut next = Self {
            keep_finished: true,
            finished: Vec::new(),
            ..self.clone()
        };
        let known = next.window().map_or(0, |window| window.pieces.len());
        next.feed(event, definition);
        let window = match event.kind {
            EventKind::Line => next.finished.last(),
            kind if kind.leaves() => next.finished.last(),
            kind if kind.enters() => {
                let caller = next.stack.len().checked_sub(2);
                caller.map(|index| &next.stack[index].window)
            }
            _ => next.window(),
        };
        let pieces = window.and_then(|window| window.pieces.get(known..));
        let predicted = pieces.into_iter().flatten().filter(|word| word.predicted);
        predicted.map(|word| word.piece.clone()).collect()
    }

    /// The window of the running activation; `None` once the run is over.
    pub fn window(&self) -> Option<&Window> {
        self.stack.last().map(|a| &a.window)
    }

    /// Number of activations on the stack.
    pub fn depth(&self) -> usize {
        self.stack.len()
    }

    /// Id of the running activation.
    pub fn activation(&self) -> Option<u32> {
        self.stack.last().map(|a| a.id)
    }

    /// Line of the last frame of the running activation.
    pub fn line(&self) -> Option<u32> {
        self.stack.last().map(|a| a.line)
    }

    /// Line of the running activation's definition, 0 for the module.
    pub fn definition(&self) -> Option<u32> {
        self.stack.last().map(|a| a.definition)
    }

    /// Scope line of the running activation in the outline (0: module).
    pub fn scope(&self) -> Option<u32> {
        self.stack.last().map(|a| a.scope)
    }

    /// Whether an exception has reached the running activation and is not
    /// known to be handled.
    pub fn raised(&self) -> bool {
        self.stack.last().is_some_and(|a| a.raised.is_some())
    }

    /// Locals of the running activation after its last frame.
    pub fn locals(&self) -> &[Local] {
        self.stack.last().map_or(&[], |a| &a.locals)
    }

    /// Id, line, and locals of the newest suspended activation of the
    /// function defined at `definition`.
    pub fn suspended(&self, definition: u32) -> Option<(u32, u32, &[Local])> {
        let found = self
            .suspended
            .iter()
            .rev()
            .find(|a| a.definition == definition)?;
        Some((found.id, found.line, &found.locals))
    }

    /// Replaces the value of a local of the running activation, which gets a
    /// fresh window. Returns whether there is such a local.
    pub fn set_local(&mut self, name: &str, value: &str) -> bool {
        let Some(mut top) = self.stack.pop() else {
            return false;
        };
        let slot = top.locals.iter_mut().find(|l| *l.name == *name);
        let found = slot.is_some();
        if let Some(local) = slot {
            local.value = crate::Value::new(value);
            // The caller is told what the activation changed, not what was
            // edited from outside.
            for entered in top.entered_with.iter_mut().filter(|l| *l.name == *name) {
                entered.value = crate::Value::new(value);
            }
            let mark = top.window.mark_for_edit();
            let old = std::mem::take(&mut top.window);
            self.retire(old);
            top.window = self.header(mark, &top);
        }
        self.stack.push(top);
        found
    }

    /// Takes the next event of a [`super::Document`]. `definition` is the
    /// first line of its function, 0 for the module.
    /// Events that do not belong to the running activation are ignored.
    pub fn feed(&mut self, event: &Event, definition: u32) {
        match event.kind {
            EventKind::Call => self.call(event, definition),
            EventKind::Resume => self.resume(event),
            _ if self.activation() != Some(event.activation) => {}
            EventKind::Line => self.line_event(event),
            EventKind::Exception => self.exception(event),
            EventKind::Return | EventKind::Yield | EventKind::Unwind => self.leave(event),
        }
    }

    fn call(&mut self, event: &Event, definition: u32) {
        if let Some(caller) = self.stack.last_mut() {
            let window = &mut caller.window;
            window.predicted(Piece::Mark(Mark::Call));
            window.predicted(Piece::Line(event.line));
            for argument in &event.locals {
                window.assign(argument, None);
            }
            window.predicted(Piece::Mark(Mark::End));
        }
        self.clear_working();
        let scope = self.program.outline.definition(definition);
        let mut activation = Activation {
            id: event.activation,
            definition,
            scope,
            line: event.line,
            locals: event.locals.clone(),
            entered_with: event.locals.clone(),
            loops: Vec::new(),
            raised: None,
            window: Window::default(),
        };
        activation.window = self.header(Mark::Call, &activation);
        self.stack.push(activation);
    }

    fn resume(&mut self, event: &Event) {
        let Some(at) = self.suspended.iter().position(|a| a.id == event.activation) else {
            return;
        };
        let mut activation = self.suspended.remove(at);
        if let Some(caller) = self.stack.last_mut() {
            caller.window.predicted(Piece::Mark(Mark::Resume));
            caller.window.predicted(Piece::Line(activation.definition));
        }
        self.clear_working();
        activation.line = event.line;
        activation.locals = event.locals.clone();
        activation.entered_with = event.locals.clone();
        activation.raised = None;
        activation.window = self.header(Mark::Resume, &activation);
        self.stack.push(activation);
    }

    fn line_event(&mut self, event: &Event) {
        let Some(mut top) = self.stack.pop() else {
            return;
        };
        top.change_to(&event.locals);
        if !self.program.flow.may_be_unwinding(event.line) {
            top.raised = None;
        }
        let next = top.window.next_lines();
        let choice = next.iter().position(|&line| line == event.line);
        top.window.predicted(match choice {
            Some(index) => Piece::Choice(index as u32),
            None => Piece::Line(event.line),
        });
        top.visit(event.line, &self.program.outline);
        let fresh = self.header(Mark::State, &top);
        let old = std::mem::replace(&mut top.window, fresh);
        self.retire(old);
        self.stack.push(top);
    }

    fn exception(&mut self, event: &Event) {
        let Some(top) = self.stack.last_mut() else {
            return;
        };
        let value = text_of(event);
        top.window.predicted(Piece::Mark(Mark::Exception));
        top.window.predicted(Piece::Value(value.clone()));
        top.window.predicted(Piece::Mark(Mark::Item));
        top.raised = Some(value);
        self.clear_working();
    }

    fn leave(&mut self, event: &Event) {
        let Some(mut top) = self.stack.pop() else {
            return;
        };
        if !event.locals.is_empty() {
            top.change_to(&event.locals);
        }
        let mark = match event.kind {
            EventKind::Yield => Mark::Yield,
            EventKind::Unwind => Mark::Unwind,
            _ => Mark::Return,
        };
        top.window.predicted(Piece::Mark(mark));
        if mark != Mark::Unwind {
            top.window.tell(&text_of(event), None);
        }
        if let Some(caller) = self.stack.last_mut() {
            let window = &mut caller.window;
            window.given(Piece::Mark(Mark::Back));
            if mark == Mark::Unwind {
                window.given(Piece::Mark(Mark::Unwind));
            }
            let value = match mark {
                Mark::Unwind => top.raised.clone().unwrap_or_else(|| Arc::from("None")),
                _ => text_of(event),
            };
            window.given(Piece::Value(value));
            window.given(Piece::Mark(Mark::Item));
            for local in top.changed_since_entry() {
                window.show(local);
            }
            window.given(Piece::Mark(Mark::End));
        }
        let window = std::mem::take(&mut top.window);
        self.retire(window);
        if event.kind == EventKind::Yield {
            self.suspended.push(top);
        }
    }

    /// Takes the working out of the window on top, which goes on after the
    /// frame that the working was for.
    fn clear_working(&mut self) {
        if let Some(top) = self.stack.last_mut()
            && let Some(rest) = top.window.without_working()
        {
            let with_working = std::mem::replace(&mut top.window, rest);
            self.retire(with_working);
        }
    }

    fn retire(&mut self, window: Window) {
        if self.keep_finished && window.pieces.len() > window.header {
            self.finished.push(window);
        }
    }

    /// The header of the line that `activation`, which is not (or no longer)
    /// on the stack, is about to run.
    fn header(&self, mark: Mark, activation: &Activation) -> Window {
        let mut window = Window::default();
        window.given(Piece::Mark(mark));
        window.given(Piece::Line(activation.line));
        if let Some(consumed) = activation.consumed() {
            window.given(Piece::Ordinal(consumed));
        }
        let focus = match mark {
            Mark::Call => {
                for argument in &activation.locals {
                    window.show(argument);
                }
                window.given(Piece::Mark(Mark::End));
                self.program.before(activation.scope)
            }
            _ => self.focus(activation),
        };
        window.given(Piece::Focus(Box::new(focus)));
        window.header = window.pieces.len();
        window
    }

    /// The focus of the line that `activation`, which is not (or no longer)
    /// on the stack, is about to run.
    fn focus(&self, activation: &Activation) -> Focus {
        let globals = match self.stack.first() {
            Some(module) if module.scope == 0 => module.locals.as_slice(),
            _ => &[],
        };
        Focus {
            consumed: activation.consumed(),
            ..self
                .program
                .focus(activation.line, &activation.locals, globals)
        }
    }
}

impl Activation {
    /// Writes what changed and takes over the new state.
    fn change_to(&mut self, locals: &[Local]) {
        for old in &self.locals {
            if !locals.iter().any(|l| l.name == old.name) {
                self.window.predicted(Piece::Mark(Mark::Delete));
                self.window.predicted(Piece::Name(old.name.clone()));
            }
        }
        for local in changed(&self.locals, locals) {
            let before = self.locals.iter().find(|old| old.name == local.name);
            self.window.assign(local, before);
        }
        self.locals = locals.to_vec();
    }

    fn changed_since_entry(&self) -> Vec<&Local> {
        let was_there = |l: &Local| self.entered_with.iter().any(|e| e.name == l.name);
        changed(&self.entered_with, &self.locals)
            .into_iter()
            .filter(|l| was_there(l))
            .collect()
    }

    /// Items consumed by the `for` loop that the line about to run heads.
    fn consumed(&self) -> Option<u32> {
        let found = self.loops.iter().find(|(header, _)| *header == self.line);
        found.map(|&(_, consumed)| consumed)
    }

    /// Notes that `line` is about to run, and counts the items that the `for`
    /// loop it may head has consumed.
    fn visit(&mut self, line: u32, outline: &Outline) {
        let previous = std::mem::replace(&mut self.line, line);
        self.loops
            .retain(|&(header, _)| line >= header && line <= outline.block_end(header));
        if !outline.is_for(line) {
            return;
        }
        let inside = previous >= line && previous <= outline.block_end(line);
        match self.loops.iter_mut().find(|(header, _)| *header == line) {
            Some((_, consumed)) if inside => *consumed += 1,
            Some((_, consumed)) => *consumed = 0,
            None => self.loops.push((line, 0)),
        }
    }
}

/// The words of one step of a working.
pub fn step_pieces(step: &Arc<str>) -> [Piece; 3] {
    let text = Piece::Step(step.clone());
    [Piece::Mark(Mark::Work), text, Piece::Mark(Mark::Item)]
}

fn changed<'a>(old: &[Local], new: &'a [Local]) -> Vec<&'a Local> {
    new.iter()
        .filter(|l| !old.iter().any(|o| o == *l))
        .collect()
}

fn text_of(event: &Event) -> Arc<str> {
    event
        .value
        .as_ref()
        .map_or_else(|| Arc::from("None"), |v| v.detailed().clone())
}
