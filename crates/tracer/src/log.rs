//! The event log that the collectors write, and its decoder.
//!
//! A log begins with `CWMLOG`, the version of the format (3), the mode (0: collector in Python, 1: native
//! by the public C API, 2: native by direct reading) and a text, the interpreter's `sys.version`. A stream
//! of records follows. Numbers are unsigned LEB128, signed ones zigzag; a text is its length in bytes and
//! UTF-8. Only what changed is written: the decoder keeps the variables of every activation and hands out
//! full states.
//!
//! The head of a record is one byte. Its three lowest bits are the kind of an event:
//!
//! | kind | event | after the head |
//! |---|---|---|
//! | 0 | call | function, line, changes |
//! | 1 | resume | activation, line, changes |
//! | 2 | line | line, changes |
//! | 3, 4 | return, yield | line, changes, value |
//! | 5 | unwind | line, changes |
//! | 6 | exception | line, value |
//!
//! Calls start activations, numbered from 0 in order. Of the others, all but resume are about the
//! innermost activation that runs, unless bit 3 is set: then the activation's number is the first field.
//! Bit 4 says that there are changes. Bits 5 to 7 are the step from the line of the activation's last
//! record (at first the function's first line): 0, 1, 2, 3, -1, -2, -3 for codes 0 to 6; after code 7 the
//! step is a signed number.
//!
//! A change begins with a key: the variable's number shifted left by two, plus 2 if a value follows (else
//! the variable was unbound), plus 1 if another change follows. A newly bound variable goes to the end of
//! the list of variables, so that the list is in binding order.
//!
//! A value begins with a number whose two lowest bits are a form and whose rest is `n`: 0, a text of `n`
//! bytes; 3, the same, and the text gets the next number; 1, the text of number `n`; 2, a value with the
//! flags `n` (1: has detail, 2: truncated), whose repr, and detail if it has one, follow in the other
//! forms. If `n` is 4 (6 if truncated), the value is an edit of the variable's last one: the numbers of
//! bytes that both texts have in common at the beginning and at the end, and the text between; the whole
//! gets the next number. Only texts of the last two generations are referred to: one ends before the text
//! that would be its 131,073rd or would take it over 8 MiB.
//!
//! Kind 7 is no event; the bits from 3 on say what it is:
//!
//! | code | record | fields |
//! |---|---|---|
//! | 0 | function | name, qualname, first line, number of variables, their names; numbered from 0 in order |
//! | 1 | name | function, name of its next variable (bodies of modules and classes) |
//! | 2 | end | how, then its payload |
//! | 3 | error | which, then its payload |
//! | 4 | file | path, text; numbered from 0 in order |
//! | 5 | place | the file of the next function (0 where nothing is said) |
//! | 6 | segment | a label, bytes printed so far to standard output, and to standard error |
//! | 7 | result | text of what a call gave |
//! | 8 | thread | the name of the thread that this is the log of, if it is not the main one |
//!
//! A log may hold many runs, each after a segment record: functions, texts and suspended activations go
//! on being known, what runs does not.
//!
//! Every thread that is recorded has a log of its own (`windows.rs`), with numbers of its own; files are
//! those of the main thread's log.
//!
//! A process may die in the middle of a record, and the program it runs may scribble over its memory:
//! decoding never fails, it returns what was whole.

use std::sync::Arc;

use cwm_trace::cwm::Moment;
use cwm_trace::{End, Event, EventKind, Function, Local, SourceFile, Thread, Value};

use crate::segment::Segment;
use crate::texts::Texts;

const MARK: &[u8] = b"CWMLOG\x03";
const EXPLICIT: u8 = 8;
const HAS_CHANGES: u8 = 16;
/// The head of a value that is an edit, but for the flag that it is truncated.
const EDIT: u64 = 4 << 2 | 2;
const TRUNCATED: u64 = 2;
const STEPS: [i32; 7] = [0, 1, 2, 3, -1, -2, -3];

/// Why a request could not be run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refusal {
    Syntax {
        line: u32,
        message: String,
        text: String,
    },
    MissingEntry {
        available: Vec<String>,
    },
    BadArguments {
        message: String,
    },
    NoModule {
        message: String,
    },
}

/// Reads as much of a log of one run as is whole and makes sense.
pub(crate) fn decode(bytes: &[u8]) -> Segment {
    let mut only = Segment::default();
    decode_segments(bytes, |segment| only = segment);
    only
}

/// The same for a log of many runs, which are handed over one by one.
pub(crate) fn decode_segments(bytes: &[u8], mut each: impl FnMut(Segment)) {
    let mut decoder = Decoder {
        input: Input { rest: bytes },
        ..Decoder::default()
    };
    if decoder.header().is_none() {
        return each(Segment::default());
    }
    while decoder.record().is_some() {
        if let Some(next) = decoder.next.take() {
            let done = std::mem::replace(&mut decoder.log, next);
            if done.label.is_some() {
                each(done.localised(&decoder.functions, &decoder.files));
            }
        }
    }
    let last = std::mem::take(&mut decoder.log);
    each(last.localised(&decoder.functions, &decoder.files));
}

/// Reads a log of one run without its events, which are handed over one by one as they come; false with
/// it if activations do not leave in the order of a stack, which [`cwm_trace::cwm::Stream`] relies on.
pub(crate) fn decode_each(bytes: &[u8], each: &mut dyn FnMut(&Moment<'_>)) -> (Segment, bool) {
    let mut decoder = Decoder {
        input: Input { rest: bytes },
        each: Some(each),
        ..Decoder::default()
    };
    if decoder.header().is_some() {
        while decoder.record().is_some() {}
    }
    let Decoder {
        log,
        functions,
        files,
        is_unordered,
        ..
    } = decoder;
    (log.localised(&functions, &files), !is_unordered)
}

/// The beginning of a log of one run, up to its first line event.
pub(crate) fn decode_start(bytes: &[u8]) -> Segment {
    let mut decoder = Decoder {
        input: Input { rest: bytes },
        ..Decoder::default()
    };
    let is_line = |event: &Event| event.kind == EventKind::Line;
    if decoder.header().is_some() {
        while !decoder.log.events.last().is_some_and(is_line) && decoder.record().is_some() {}
    }
    let log = std::mem::take(&mut decoder.log);
    log.localised(&decoder.functions, &decoder.files)
}

#[derive(Default)]
struct Decoder<'a> {
    input: Input<'a>,
    /// By function: the names of its variables.
    names: Vec<Vec<Arc<str>>>,
    activations: Vec<State>,
    /// Activations that run, innermost last.
    stack: Vec<u32>,
    /// Texts by their number.
    texts: Texts,
    functions: Vec<Function>,
    files: Vec<SourceFile>,
    /// The file of the next function.
    place: u32,
    log: Segment,
    /// A segment that has just begun.
    next: Option<Segment>,
    /// Takes the events instead of the segment.
    each: Option<&'a mut dyn FnMut(&Moment<'_>)>,
    /// Whether something happened in an activation that was not the innermost one.
    is_unordered: bool,
}

/// What the decoder knows of an activation.
struct State {
    function: u32,
    line: i32,
    /// The number of each variable that is bound, with whether its text has changed at this event, and the
    /// variable, in binding order.
    variables: Vec<(u32, bool)>,
    locals: Vec<Local>,
}

impl Decoder<'_> {
    fn header(&mut self) -> Option<()> {
        if self.input.take(MARK.len())? != MARK {
            return None;
        }
        let _mode = self.input.byte()?;
        let _interpreter = self.input.text()?;
        Some(())
    }

    /// Reads one record; `None` at the end of what is whole.
    fn record(&mut self) -> Option<()> {
        let head = self.input.byte()?;
        let kind = match head & 7 {
            0 => EventKind::Call,
            1 => EventKind::Resume,
            2 => EventKind::Line,
            3 => EventKind::Return,
            4 => EventKind::Yield,
            5 => EventKind::Unwind,
            6 => EventKind::Exception,
            _ => return self.other(head >> 3),
        };
        self.event(kind, head)
    }

    fn other(&mut self, code: u8) -> Option<()> {
        match code {
            0 => self.function(),
            1 => {
                let function = self.input.number()? as usize;
                let name = self.input.text()?.into();
                self.names.get_mut(function)?.push(name);
                Some(())
            }
            2 => {
                let end = self.end()?;
                self.log.end.get_or_insert(end);
                Some(())
            }
            3 => {
                self.log.refusal = Some(self.refusal()?);
                Some(())
            }
            4 => {
                let path = self.input.text()?.to_owned();
                let text = self.input.text()?.to_owned();
                self.files.push(SourceFile { path, text });
                Some(())
            }
            5 => {
                self.place = self.input.number()?;
                Some(())
            }
            6 => self.segment(),
            7 => {
                self.log.result = Some(self.input.text()?.to_owned());
                Some(())
            }
            8 => {
                let name = self.input.text()?.to_owned();
                // The number is that of the windows that the log is in.
                self.log.thread = Some(Thread { number: 0, name });
                Some(())
            }
            _ => None,
        }
    }

    fn segment(&mut self) -> Option<()> {
        self.next = Some(Segment {
            label: Some(self.input.text()?.to_owned()),
            printed: [self.input.long()?, self.input.long()?],
            ..Segment::default()
        });
        self.stack.clear();
        Some(())
    }

    fn function(&mut self) -> Option<()> {
        let name = self.input.text()?.to_owned();
        let qualname = self.input.text()?.to_owned();
        let first_line = self.input.number()?;
        let count = self.input.number()?;
        let names: Option<_> = (0..count)
            .map(|_| self.input.text().map(Arc::from))
            .collect();
        self.names.push(names?);
        self.functions.push(Function {
            name,
            qualname,
            first_line,
            file: std::mem::take(&mut self.place),
        });
        Some(())
    }

    fn event(&mut self, kind: EventKind, head: u8) -> Option<()> {
        let activation = self.activation(kind, head)?;
        let step = match STEPS.get(usize::from(head >> 5)) {
            Some(&step) => step,
            None => self.input.signed()?,
        };
        let state = self.activations.get_mut(activation as usize)?;
        state.line = state.line.checked_add(step)?;
        let (function, line) = (state.function, u32::try_from(state.line).ok()?);
        if head & HAS_CHANGES != 0 {
            self.changes(activation)?;
        }
        let value = match kind {
            EventKind::Return | EventKind::Yield | EventKind::Exception => Some(self.value()?),
            _ => None,
        };
        if kind.enters() {
            self.stack.push(activation);
        } else {
            self.is_unordered |= self.stack.last() != Some(&activation);
            if kind.leaves() {
                let place = self.stack.iter().rposition(|&known| known == activation)?;
                self.stack.remove(place);
            }
        }
        if self.log.end.is_some() {
            return Some(());
        }
        let state = self.activations.get_mut(activation as usize)?;
        if let Some(each) = &mut self.each {
            each(&Moment {
                kind,
                function,
                file: self.functions.get(function as usize).map_or(0, |f| f.file),
                line,
                locals: &state.locals,
                variables: &state.variables,
                value: value.as_ref().map(|value| &*value.repr),
            });
            if head & HAS_CHANGES != 0 {
                state.variables.iter_mut().for_each(|known| known.1 = false);
            }
            return Some(());
        }
        let locals = match kind {
            EventKind::Exception => Vec::new(),
            _ => state.locals.clone(),
        };
        self.log.events.push(Event {
            kind,
            activation,
            function,
            line,
            locals,
            value,
        });
        Some(())
    }

    /// The activation that an event is about.
    fn activation(&mut self, kind: EventKind, head: u8) -> Option<u32> {
        if kind == EventKind::Call {
            let function = self.input.number()?;
            let known = self.functions.get(function as usize)?;
            let number = u32::try_from(self.activations.len()).ok()?;
            self.activations.push(State {
                function,
                line: i32::try_from(known.first_line).ok()?,
                variables: Vec::new(),
                locals: Vec::new(),
            });
            return Some(number);
        }
        if head & EXPLICIT != 0 {
            return self.input.number();
        }
        self.stack.last().copied()
    }

    /// Applies changes to the variables of an activation.
    fn changes(&mut self, activation: u32) -> Option<()> {
        loop {
            let key = self.input.number()?;
            let variable = key >> 2;
            let value = match key & 2 {
                0 => None,
                _ => Some(self.value_of(activation, variable)?),
            };
            let state = self.activations.get_mut(activation as usize)?;
            let place = state.variables.iter().position(|known| known.0 == variable);
            match (place, value) {
                (Some(place), Some(value)) => {
                    let local = &mut state.locals[place];
                    state.variables[place].1 = local.value.repr != value.repr;
                    local.value = value;
                }
                (Some(place), None) => {
                    state.variables.remove(place);
                    state.locals.remove(place);
                }
                (None, Some(value)) => {
                    let names = self.names.get(state.function as usize)?;
                    let name = names.get(variable as usize)?.clone();
                    state.variables.push((variable, true));
                    state.locals.push(Local { name, value });
                }
                (None, None) => return None,
            }
            if key & 1 == 0 {
                return Some(());
            }
        }
    }

    /// The new value of a variable, which may be told as an edit of its last one.
    fn value_of(&mut self, activation: u32, variable: u32) -> Option<Value> {
        let mut ahead = Input {
            rest: self.input.rest,
        };
        let head = ahead.long()?;
        if head & !(TRUNCATED << 2) != EDIT {
            return self.value();
        }
        self.input = ahead;
        let (start, end) = (self.input.number()? as usize, self.input.number()? as usize);
        let middle = self.input.text()?;
        let state = self.activations.get(activation as usize)?;
        let mut variables = state.variables.iter();
        let place = variables.position(|known| known.0 == variable)?;
        let last = &*state.locals[place].value.repr;
        // The two parts do not overlap, or a damaged log could make texts of any size.
        let rest = last.len().checked_sub(end).filter(|&rest| start <= rest)?;
        let end = last.get(rest..)?;
        let text: Arc<str> = [last.get(..start)?, middle, end].concat().into();
        self.texts.push(text.clone());
        Some(Value {
            truncated: head >> 2 & TRUNCATED != 0,
            ..Value::new(text)
        })
    }

    fn value(&mut self) -> Option<Value> {
        let head = self.input.long()?;
        if head & 3 != 2 {
            return Some(Value::new(self.text(head)?));
        }
        let flags = head >> 2;
        let repr = self.input.long()?;
        let repr = self.text(repr)?;
        let mut detail = None;
        if flags & 1 != 0 {
            let head = self.input.long()?;
            detail = Some(self.text(head)?);
        }
        Some(Value {
            repr,
            detail,
            truncated: flags & TRUNCATED != 0,
        })
    }

    /// The text that a head of form 0, 1 or 3 announces.
    fn text(&mut self, head: u64) -> Option<Arc<str>> {
        let number = usize::try_from(head >> 2).ok()?;
        match head & 3 {
            1 => self.texts.get(number).cloned(),
            form @ (0 | 3) => {
                let text: Arc<str> = std::str::from_utf8(self.input.take(number)?).ok()?.into();
                if form == 3 {
                    self.texts.push(text.clone());
                }
                Some(text)
            }
            _ => None,
        }
    }

    fn end(&mut self) -> Option<End> {
        Some(match self.input.byte()? {
            0 => End::Finished,
            1 => End::Raised(self.input.text()?.to_owned()),
            2 => End::Exited(self.input.signed()?),
            3 => End::MaxEvents(self.input.long()?),
            4 => End::OutOfMemory,
            5 => End::Crashed(self.input.text()?.to_owned()),
            _ => return None,
        })
    }

    fn refusal(&mut self) -> Option<Refusal> {
        Some(match self.input.byte()? {
            0 => Refusal::Syntax {
                line: self.input.number()?,
                message: self.input.text()?.to_owned(),
                text: self.input.text()?.to_owned(),
            },
            1 => {
                let count = self.input.number()?;
                let names = (0..count).map_while(|_| self.input.text().map(str::to_owned));
                Refusal::MissingEntry {
                    available: names.collect(),
                }
            }
            2 => Refusal::BadArguments {
                message: self.input.text()?.to_owned(),
            },
            3 => Refusal::NoModule {
                message: self.input.text()?.to_owned(),
            },
            _ => return None,
        })
    }
}

/// The unread part of a log.
#[derive(Default)]
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn long(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn number(&mut self) -> Option<u32> {
        u32::try_from(self.long()?).ok()
    }

    fn signed(&mut self) -> Option<i32> {
        let zigzag = self.long()?;
        i32::try_from((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)).ok()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.long()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A log of `f(a)` that binds `b`, unbinds `a`, binds it again, and returns.
    const SMALL: &[u8] = b"CWMLOG\x03\x02\x043.11\
        \x07\x01f\x01f\x01\x02\x01a\x01b\
        \x10\x00\x02\x0841\
        \x32\x07\x0842\x00\
        \x12\x02\x047\
        \x03\x06\x04x\x04y\x17\x00";

    /// A call whose argument is a long text, returned by its number.
    const LONG: &[u8] = b"CWMLOG\x03\x02\x043.11\
        \x07\x01f\x01f\x05\x01\x01a\
        \x10\x00\x02\x5f'all of twenty-four ch'\
        \xe3\x14\x01\x17\x00";

    #[test]
    fn long_texts_are_known_by_their_number_and_lines_by_their_step() {
        let log = decode(LONG);
        assert_eq!(log.end, Some(End::Finished));
        assert_eq!(
            log.events.iter().map(|e| e.line).collect::<Vec<_>>(),
            [5, 15]
        );
        let value = log.events[1].value.as_ref();
        assert_eq!(value, Some(&log.events[0].locals[0].value));
    }

    #[test]
    fn variables_are_listed_in_binding_order() {
        let log = decode(SMALL);
        assert_eq!(log.end, Some(End::Finished));
        let names = |event: &Event| {
            event
                .locals
                .iter()
                .map(|l| format!("{}={}", l.name, l.value.repr))
                .collect::<Vec<_>>()
        };
        let states: Vec<_> = log.events.iter().map(names).collect();
        assert_eq!(
            states[..3],
            [vec!["a=41"], vec!["b=42"], vec!["b=42", "a=7"]]
        );
        let value = log.events[3]
            .value
            .as_ref()
            .map(|v| (&*v.repr, v.detailed().as_ref()));
        assert_eq!(value, Some(("x", "y")));
    }

    /// A call and a line that changes its argument by an edit.
    const EDITED: &[u8] = b"CWMLOG\x03\x02\x043.11\
        \x07\x01f\x01f\x05\x01\x01a\
        \x10\x00\x02\x24[1, 2, 3]\
        \x32\x02\x12\x04\x04\x0222\
        \x03\x01\x17\x00";

    #[test]
    fn an_edit_keeps_the_beginning_and_the_end_of_the_last_text() {
        let log = decode(EDITED);
        assert_eq!(log.end, Some(End::Finished));
        assert_eq!(&*log.events[1].locals[0].value.repr, "[1, 22, 3]");
        let value = log.events[2].value.as_ref();
        assert_eq!(value, Some(&log.events[1].locals[0].value));
    }

    #[test]
    fn an_edit_may_be_truncated() {
        let mut bytes = EDITED.to_vec();
        let head = bytes.windows(2).position(|pair| pair == [2, 0x12]);
        bytes[head.unwrap() + 1] = 0x1a;
        let log = decode(&bytes);
        let truncated = |at: usize| log.events[at].locals[0].value.truncated;
        assert_eq!([truncated(0), truncated(1)], [false, true]);
        assert_eq!(&*log.events[1].locals[0].value.repr, "[1, 22, 3]");
    }

    #[test]
    fn a_cut_log_gives_the_events_before_the_cut() {
        let whole = decode(SMALL).events;
        for cut in 0..SMALL.len() {
            let part = decode(&SMALL[..cut]);
            assert!(part.end.is_none() || cut == SMALL.len());
            assert_eq!(part.events[..], whole[..part.events.len()], "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            decode(&bytes);
        }

        #[test]
        fn a_damaged_log_never_panics(at in 0..200usize, byte: u8) {
            for log in [SMALL, LONG, EDITED] {
                let mut bytes = log.to_vec();
                bytes[at % log.len()] = byte;
                decode(&bytes);
            }
        }
    }
}
