//! Jumps: what an action of a debugger comes to, named at once instead of frame by frame.
//!
//! A jump is asked in a window of its own. [`ahead`] asks from a moment of a run: its header, the action and, unless
//! the line in focus is enough, all locals. [`behind`] asks from what was seen of a later state, where nothing before
//! it is known: of many pasts that may have led there one is wanted. The actions are those of the `nd` dialect
//! (arXiv 2603.09951), on windows. [`asked`] makes such windows out of a recorded run, with their answers. The layout
//! is specified in `specs/live.md`, "Jumps".

use std::collections::HashMap;
use std::sync::Arc;

use super::document::Document;
use super::machine::{Machine, Mark, Piece, Told, Window};
use super::outline::{LineKind, Outline};
use crate::random::{Random, splitmix};
use crate::{Event, EventKind, Local};

/// An action that leads on from a line that is about to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// To the next frame of this activation; what it calls is passed over.
    Over,
    /// To where this activation is left.
    Leave,
    /// To where this line is next about to run, in whatever activation.
    Until(u32),
    /// To the end of the run.
    Finish,
}

/// An action that leads back from a later state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// To the state before, in the same activation.
    Before,
    /// To the state before, the last one of a call that was made meanwhile.
    Into,
    /// To the arguments that the activation was called with.
    Input,
}

/// What was seen of a later state.
#[derive(Clone, Copy, Debug)]
pub enum Later<'a> {
    /// A line is about to run.
    Line {
        /// Its number.
        line: u32,
        /// All locals.
        locals: &'a [Local],
    },
    /// A value is returned.
    Return {
        /// Line that returns it.
        line: u32,
        /// Its text.
        value: &'a Arc<str>,
    },
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Normal,
    /// By an exception that nothing caught.
    Error,
}

impl Exit {
    /// The word for it.
    pub fn mark(self) -> Mark {
        match self {
            Self::Normal => Mark::Normal,
            Self::Error => Mark::Error,
        }
    }

    /// How a recorded run ended; `None` where the recording did.
    pub fn of(document: &Document) -> Option<Self> {
        let last = document.events.last().filter(|_| document.complete)?;
        match last.kind {
            EventKind::Unwind => Some(Self::Error),
            _ => Some(Self::Normal),
        }
    }
}

/// The window that asks where an action leads from where `machine` is. `None` where the running line has made calls
/// already, and where nothing runs.
pub fn ahead(machine: &Machine, action: Ahead) -> Option<Window> {
    let mut window = machine.window()?.clone();
    if window.pieces.len() > window.header {
        return None;
    }
    let mark = match action {
        Ahead::Over => Mark::Over,
        Ahead::Leave => Mark::Leave,
        Ahead::Until(_) => Mark::Until,
        Ahead::Finish => Mark::Finish,
    };
    window.given(Piece::Mark(mark));
    if let Ahead::Until(line) = action {
        window.given(Piece::Line(line));
    }
    if action != Ahead::Over {
        show_all(&mut window, machine.locals());
    }
    Some(window)
}

/// The window that asks what was before a later state.
pub fn behind(later: Later<'_>, action: Behind) -> Window {
    let mut window = Window::default();
    match later {
        Later::Line { line, locals } => {
            window.given(Piece::Mark(Mark::State));
            window.given(Piece::Line(line));
            show_all(&mut window, locals);
        }
        Later::Return { line, value } => {
            window.given(Piece::Mark(Mark::Return));
            window.given(Piece::Line(line));
            window.given(Piece::Value(value.clone()));
            window.given(Piece::Mark(Mark::Item));
        }
    }
    window.given(Piece::Mark(match action {
        Behind::Before => Mark::Before,
        Behind::Into => Mark::Into,
        Behind::Input => Mark::Input,
    }));
    window
}

fn show_all(window: &mut Window, locals: &[Local]) {
    for local in locals {
        window.show(local);
    }
    window.given(Piece::Mark(Mark::End));
}

/// Windows that ask of a recorded run, with their answers: one for each of its states from which an action is known to
/// lead somewhere. Which action is a function of `seed`, the source and the place.
pub fn asked(document: &Document, seed: u64) -> Vec<Window> {
    let answers = Answers::new(document);
    let number = document
        .source
        .bytes()
        .fold(0, |hash, byte| splitmix(hash ^ u64::from(byte)));
    let mut machine = Machine::new(&document.source);
    let mut windows = Vec::new();
    for (index, event) in document.events.iter().enumerate() {
        machine.feed(event, answers.definition(event));
        let mut random = Random::new(seed, number ^ index as u64, PURPOSE);
        let window = match answers.draw(index, &mut random) {
            Some(Jump::Ahead(action)) => answers.ahead(&machine, index, action),
            Some(Jump::Behind(action)) => answers.behind(index, action),
            None => None,
        };
        windows.extend(window);
    }
    windows
}

/// Tells the draws of this module from those of others.
const PURPOSE: u64 = 0x6c69_7665_6a70;

/// Of a hundred lines that are asked for with [`Ahead::Until`], so many will run.
const REACHED: u64 = 80;

/// A line that will run is looked for among so many events to come: what lies far away, nobody can name at once.
const HORIZON: usize = 64;

/// An action, in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// Forwards.
    Ahead(Ahead),
    /// Backwards.
    Behind(Behind),
}

/// Shares of the actions. Those that a debugger takes most stand most often, the end of a run least: it is one bit.
/// Line 0 stands for one that is still to be chosen.
const ACTIONS: &[(Jump, u32)] = &[
    (Jump::Ahead(Ahead::Over), 25),
    (Jump::Ahead(Ahead::Leave), 20),
    (Jump::Ahead(Ahead::Until(0)), 15),
    (Jump::Ahead(Ahead::Finish), 5),
    (Jump::Behind(Behind::Before), 15),
    (Jump::Behind(Behind::Into), 5),
    (Jump::Behind(Behind::Input), 15),
];

/// Where a jump through a recorded run leads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome<'a> {
    /// To an event.
    State(&'a Event),
    /// Out of the run.
    Exit(Exit),
}

/// Where jumps through a recorded run lead.
#[derive(Debug)]
pub struct Answers<'a> {
    document: &'a Document,
    outline: Outline,
    exit: Option<Exit>,
    /// By event: the next one and the one before of the same activation.
    next: Vec<Option<usize>>,
    previous: Vec<Option<usize>>,
    /// By line: the last event that is about to run it.
    last: HashMap<u32, usize>,
}

impl<'a> Answers<'a> {
    /// Those of one run.
    pub fn new(document: &'a Document) -> Self {
        let events = &document.events;
        let mut next = vec![None; events.len()];
        let mut previous = vec![None; events.len()];
        let (mut newest, mut last) = (HashMap::new(), HashMap::new());
        for (index, event) in events.iter().enumerate() {
            previous[index] = newest.insert(event.activation, index);
            if let Some(before) = previous[index] {
                next[before] = Some(index);
            }
            if event.kind == EventKind::Line {
                last.insert(event.line, index);
            }
        }
        Self {
            document,
            outline: Outline::new(&document.source),
            exit: Exit::of(document),
            next,
            previous,
            last,
        }
    }

    fn event(&self, index: usize) -> &'a Event {
        &self.document.events[index]
    }

    fn definition(&self, event: &Event) -> u32 {
        let function = self.document.functions.get(event.function as usize);
        function.map_or(event.line, |f| f.first_line)
    }

    /// A line to ask for at an event, which is a function of `seed`: mostly one that will run soon.
    pub fn line_for(&self, index: usize, seed: u64) -> Option<u32> {
        self.choose_line(index, &mut Random::new(seed, index as u64, PURPOSE))
    }

    /// An action to take at an event; `None` where there is no line to choose. Not every action that is drawn leads
    /// somewhere.
    fn draw(&self, index: usize, random: &mut Random) -> Option<Jump> {
        match random.weighted(ACTIONS)? {
            Jump::Ahead(Ahead::Until(_)) => {
                let line = self.choose_line(index, random)?;
                Some(Jump::Ahead(Ahead::Until(line)))
            }
            jump => Some(jump),
        }
    }

    /// The window that asks where an action leads from event number `index`, which `machine` has been fed last, with
    /// its answer. `None` where no line is about to run, or the recording does not tell.
    ///
    /// # Panics
    /// If there is no such event.
    pub fn ahead(&self, machine: &Machine, index: usize, action: Ahead) -> Option<Window> {
        let mut window = ahead(machine, action)?;
        match self.outcome(index, Jump::Ahead(action))? {
            Outcome::Exit(exit) => window.predicted(Piece::Mark(exit.mark())),
            Outcome::State(event) => match action {
                Ahead::Until(_) => tell_all(&mut window, &event.locals, machine.locals()),
                Ahead::Leave => {
                    // How the locals are left is not asked.
                    let event = Event {
                        locals: Vec::new(),
                        ..event.clone()
                    };
                    window.answer(machine.frame(&event, self.definition(&event)));
                }
                Ahead::Over | Ahead::Finish => {
                    window.answer(machine.frame(event, self.definition(event)));
                }
            },
        }
        Some(window)
    }

    /// Where an action leads from event number `index`. `None` where it cannot be taken, and where the recording does
    /// not tell.
    ///
    /// # Panics
    /// If there is no such event.
    pub fn outcome(&self, index: usize, jump: Jump) -> Option<Outcome<'a>> {
        let at = self.event(index);
        let can_be_taken = match jump {
            Jump::Ahead(_) => at.kind == EventKind::Line || at.kind.enters(),
            Jump::Behind(_) => later(at).is_some(),
        };
        if !can_be_taken {
            return None;
        }
        match jump {
            Jump::Ahead(Ahead::Over) => self.state(self.next[index]),
            Jump::Ahead(Ahead::Leave) => self.state(self.end(index)),
            Jump::Ahead(Ahead::Until(line)) => match self.arrival(index, line) {
                Some(arrival) => Some(Outcome::State(arrival)),
                None => self.exit.map(Outcome::Exit),
            },
            Jump::Ahead(Ahead::Finish) => self.exit.map(Outcome::Exit),
            Jump::Behind(Behind::Into) if self.previous[index] != index.checked_sub(1) => {
                let callee = self.event(index.checked_sub(1)?);
                let gives = matches!(callee.kind, EventKind::Return | EventKind::Yield);
                gives.then_some(Outcome::State(callee))
            }
            Jump::Behind(Behind::Before | Behind::Into) => self.state(self.before(index)),
            Jump::Behind(Behind::Input) => self.state(self.call(index)),
        }
    }

    fn state(&self, index: Option<usize>) -> Option<Outcome<'a>> {
        index.map(|index| Outcome::State(self.event(index)))
    }

    /// The line or the call before, in the same activation.
    fn before(&self, index: usize) -> Option<usize> {
        let mut at = self.previous[index]?;
        while self.event(at).kind == EventKind::Exception {
            at = self.previous[at]?;
        }
        matches!(self.event(at).kind, EventKind::Line | EventKind::Call).then_some(at)
    }

    /// The call of a function, which a module has not.
    fn call(&self, index: usize) -> Option<usize> {
        let mut first = index;
        while let Some(before) = self.previous[first] {
            first = before;
        }
        let call = self.event(first);
        (call.kind == EventKind::Call && call.line > 0).then_some(first)
    }

    /// Where the activation of an event is next left.
    fn end(&self, index: usize) -> Option<usize> {
        let mut at = self.next[index]?;
        while !self.event(at).kind.leaves() {
            at = self.next[at]?;
        }
        Some(at)
    }

    /// Where a line is next about to run.
    fn arrival(&self, index: usize, line: u32) -> Option<&'a Event> {
        let last = *self.last.get(&line)?;
        let later = self.document.events.get(index + 1..=last)?;
        later
            .iter()
            .find(|event| event.kind == EventKind::Line && event.line == line)
    }

    /// A line to ask for: one that runs soon, or one that never will.
    fn choose_line(&self, index: usize, random: &mut Random) -> Option<u32> {
        let lines: Vec<u32> = if random.below(100) < REACHED {
            let end = self.document.events.len().min(index + 1 + HORIZON);
            let soon = self.document.events[index + 1..end].iter();
            soon.filter(|event| event.kind == EventKind::Line)
                .map(|event| event.line)
                .collect()
        } else {
            let runs = |line: &u32| self.last.get(line).is_some_and(|&last| last > index);
            let has_code = |&line: &u32| {
                let kind = self.outline.line(line).map(|info| info.kind);
                matches!(
                    kind,
                    Some(LineKind::Statement | LineKind::For | LineKind::Def)
                )
            };
            (1..=self.outline.len())
                .filter(|line| has_code(line) && !runs(line))
                .collect()
        };
        let chosen = random.below(lines.len() as u64) as usize;
        lines.get(chosen).copied()
    }

    /// The window that asks where an action leads back to from event number `index`, with its answer. `None` where no
    /// line is about to run and no value is returned, where nothing is before, and where the recording does not tell.
    ///
    /// # Panics
    /// If there is no such event.
    pub fn behind(&self, index: usize, action: Behind) -> Option<Window> {
        let Outcome::State(event) = self.outcome(index, Jump::Behind(action))? else {
            return None;
        };
        let later = later(self.event(index))?;
        let known = match later {
            Later::Line { locals, .. } => locals,
            Later::Return { .. } => &[],
        };
        let mut window = behind(later, action);
        match (action, event.kind) {
            (Behind::Input, _) => tell_all(&mut window, &event.locals, known),
            (_, EventKind::Call) => {
                window.predicted(Piece::Mark(Mark::Call));
                tell_all(&mut window, &event.locals, known);
            }
            (_, EventKind::Line) => tell_before(&mut window, event, known),
            (_, kind) => {
                let value = event.value.as_ref()?;
                window.predicted(Piece::Line(event.line));
                window.predicted(Piece::Mark(match kind {
                    EventKind::Yield => Mark::Yield,
                    _ => Mark::Return,
                }));
                window.tell(value.detailed(), None);
            }
        }
        Some(window)
    }
}

/// What one can look back from.
pub fn later(event: &Event) -> Option<Later<'_>> {
    match (event.kind, &event.value) {
        (EventKind::Line, _) => Some(Later::Line {
            line: event.line,
            locals: &event.locals,
        }),
        (EventKind::Return, Some(value)) => Some(Later::Return {
            line: event.line,
            value: value.detailed(),
        }),
        _ => None,
    }
}

/// A line before: what its locals were where they differ.
fn tell_before(window: &mut Window, before: &Event, known: &[Local]) {
    window.predicted(Piece::Line(before.line));
    for local in known {
        if !before.locals.iter().any(|old| old.name == local.name) {
            window.predicted(Piece::Mark(Mark::Delete));
            window.predicted(Piece::Name(local.name.clone()));
        }
    }
    let differs = |local: &&Local| !known.contains(local);
    let changed: Vec<Local> = before.locals.iter().filter(differs).cloned().collect();
    tell_all(window, &changed, known);
}

/// Variables with values that have to be produced; `known` is what they may be told by.
fn tell_all(window: &mut Window, locals: &[Local], known: &[Local]) {
    for local in locals {
        window.predicted(Piece::Name(local.name.clone()));
        let before = known.iter().find(|old| old.name == local.name);
        let told = Told {
            text: local.value.repr.clone(),
            before: before.map(|old| old.value.repr.clone()),
            shown: Vec::new(),
        };
        window.predicted(Piece::Told(Box::new(told)));
        window.predicted(Piece::Mark(Mark::Item));
    }
    window.predicted(Piece::Mark(Mark::End));
}
