//! Writes a run as it is told: event by event, with what changed.
//!
//! The same text as [`render`](super::render) of a [`Document`](super::Document) of the whole trace, without
//! making either: a recording of millions of events is written as fast as it is read.

use super::{
    ACTION_SEP, ARG_SEP, CALL_SEP, END_OF_TEXT, EXCEPTION_SEP, FRAME_SEP, LINE_SEP, RETURN_SEP,
    render_prompt,
};
use crate::markup::source::Source;
use crate::markup::special::Specials;
use crate::markup::{UNCHANGED, json};
use crate::{Event, EventKind, Local, Trace};

/// Lines behind this one are written anew each time: a damaged recording may name any.
const MOST_LINES: usize = 1 << 16;

/// A text in the making.
#[derive(Debug)]
pub struct Stream {
    source: Source,
    /// By file and line: what follows the locals of a frame, all of it and without its end.
    actions: Vec<Vec<String>>,
    /// By function.
    names: Vec<Names>,
}

/// By variable of a function: the name as a key, and the same with the mark for an unchanged value.
#[derive(Debug, Default)]
struct Names(Vec<[String; 2]>);

impl Names {
    #[inline]
    fn of(&mut self, variable: u32, name: &str) -> &[String; 2] {
        let variable = variable as usize;
        if self.0.get(variable).is_none_or(|texts| texts[0].is_empty()) {
            self.add(variable, name);
        }
        &self.0[variable]
    }

    #[cold]
    fn add(&mut self, variable: usize, name: &str) {
        if self.0.len() <= variable {
            self.0.resize_with(variable + 1, Default::default);
        }
        let mut key = String::new();
        json::write_string(name, Specials::CWM, &mut key);
        key.push_str(": ");
        let mut unchanged = key.clone();
        json::write_string(UNCHANGED, Specials::CWM, &mut unchanged);
        self.0[variable] = [key, unchanged];
    }
}

/// One event, in terms of what changed.
#[derive(Debug)]
pub struct Moment<'a> {
    /// What happened.
    pub kind: EventKind,
    /// The code object, by the number that events of the trace have for it.
    pub function: u32,
    /// The file of the code object.
    pub file: u32,
    /// Line of the event, from 1.
    pub line: u32,
    /// Bound locals in binding order, all of them.
    pub locals: &'a [Local],
    /// For each of them a number of the variable in its function, and whether it has another text than at
    /// the last event of this activation.
    pub variables: &'a [(u32, bool)],
    /// The value that is returned, yielded or raised.
    pub value: Option<&'a str>,
}

impl Stream {
    /// Begins a text with what comes before the first frame. `start` has the trace's events up to the
    /// first line event, at least.
    pub fn begin(start: &Trace, out: &mut String) -> Self {
        let source = Source::of(start);
        out.push_str(&render_prompt(&source.marked()));
        Self {
            source,
            actions: Vec::new(),
            names: Vec::new(),
        }
    }

    /// Appends a frame.
    pub fn frame(&mut self, moment: &Moment<'_>, out: &mut String) {
        match moment.kind {
            EventKind::Call | EventKind::Resume => {
                out.push_str(CALL_SEP);
                self.locals(moment, out);
            }
            EventKind::Line => {
                out.push_str(LINE_SEP);
                self.changes(moment, out);
            }
            EventKind::Return | EventKind::Yield | EventKind::Unwind => out.push_str(RETURN_SEP),
            EventKind::Exception => out.push_str(EXCEPTION_SEP),
        }
        self.action(moment, out);
        if !moment.kind.enters() && moment.kind != EventKind::Line {
            out.push_str(ARG_SEP);
            let value = moment.value.filter(|_| moment.kind != EventKind::Unwind);
            json::write_string(value.unwrap_or("None"), Specials::CWM, out);
        }
        out.push_str(FRAME_SEP);
    }

    /// Ends the text of a run that is complete.
    pub fn end(out: &mut String) {
        out.push_str(END_OF_TEXT);
    }

    /// All locals in full.
    fn locals(&mut self, moment: &Moment<'_>, out: &mut String) {
        let names = self.names(moment.function);
        out.push('{');
        for (place, (local, (variable, _))) in pairs(moment).enumerate() {
            if place > 0 {
                out.push_str(", ");
            }
            out.push_str(&names.of(*variable, &local.name)[0]);
            json::write_string(&local.value.repr, Specials::CWM, out);
        }
        out.push('}');
    }

    /// Those that changed in full, the others by the mark.
    fn changes(&mut self, moment: &Moment<'_>, out: &mut String) {
        let names = self.names(moment.function);
        out.push('{');
        for (place, (local, (variable, is_changed))) in pairs(moment).enumerate() {
            if place > 0 {
                out.push_str(", ");
            }
            let [key, unchanged] = names.of(*variable, &local.name);
            if !is_changed {
                out.push_str(unchanged);
                continue;
            }
            out.push_str(key);
            if *local.value.repr == *UNCHANGED {
                json::write_literal_dots(out);
            } else {
                json::write_string(&local.value.repr, Specials::CWM, out);
            }
        }
        out.push('}');
    }

    fn names(&mut self, function: u32) -> &mut Names {
        let function = function as usize;
        if self.names.len() <= function {
            self.names.resize_with(function + 1, Names::default);
        }
        &mut self.names[function]
    }

    fn action(&mut self, moment: &Moment<'_>, out: &mut String) {
        let event = Event {
            kind: moment.kind,
            activation: 0,
            function: moment.function,
            line: moment.line,
            locals: Vec::new(),
            value: None,
        };
        let number = self.source.number(&event);
        let file = moment.file as usize;
        if number > MOST_LINES {
            out.push_str(ACTION_SEP);
            return out.push_str(&Specials::CWM.escape(&self.source.line_of(moment.file, number)));
        }
        if self.actions.len() <= file {
            self.actions.resize_with(file + 1, Vec::new);
        }
        let lines = &mut self.actions[file];
        if lines.len() <= number {
            lines.resize_with(number + 1, String::new);
        }
        if lines[number].is_empty() {
            lines[number].push_str(ACTION_SEP);
            let line = self.source.line_of(moment.file, number);
            lines[number].push_str(&Specials::CWM.escape(&line));
        }
        out.push_str(&lines[number]);
    }
}

fn pairs<'a>(moment: &Moment<'a>) -> impl Iterator<Item = (&'a Local, &'a (u32, bool))> {
    moment.locals.iter().zip(moment.variables)
}
