//! The event log that the collectors write, and its decoder.
//!
//! The log is a stream of records: a kind byte, then fields. Numbers are unsigned LEB128; a text is
//! its length in bytes and UTF-8. Only what changed is written: the decoder keeps the variables of
//! every activation and hands out full states.
//!
//! | kind | record | fields |
//! |---|---|---|
//! | 0 | call | activation, function, line, changes |
//! | 1, 2 | resume, line | activation, line, changes |
//! | 3, 4 | return, yield | activation, line, changes, value |
//! | 5 | unwind | activation, line, changes |
//! | 6 | exception | activation, line, value |
//! | 16 | function | name, qualname, first line; numbered from 0 in order |
//! | 17 | name | text; numbered from 0 in order |
//! | 18 | end | how, then its payload |
//! | 19 | error | which, then its payload |
//!
//! Changes are a count, then for each the name's number shifted left by one, plus one if a value
//! follows (else the name was unbound). A value is a flag byte (1: has detail, 2: truncated), its
//! repr, and its detail if it has one. A newly bound name goes to the end of the list of variables, so
//! that the list is in binding order.
//!
//! A process may die in the middle of a record, and the program it runs may scribble over its memory:
//! decoding never fails, it returns what was whole.

use std::sync::Arc;

use cwm_trace::{End, Event, EventKind, Function, Local, Value};

const CALL: u8 = 0;
const RESUME: u8 = 1;
const LINE: u8 = 2;
const RETURN: u8 = 3;
const YIELD: u8 = 4;
const UNWIND: u8 = 5;
const EXCEPTION: u8 = 6;
const FUNCTION: u8 = 16;
const NAME: u8 = 17;
const END: u8 = 18;
const ERROR: u8 = 19;

/// What a log holds.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) functions: Vec<Function>,
    pub(crate) events: Vec<Event>,
    /// How it ended; `None` when the process died first.
    pub(crate) end: Option<End>,
    /// Set instead of events when the request could not be run.
    pub(crate) refusal: Option<Refusal>,
}

/// Why a request could not be run.
#[derive(Debug, PartialEq)]
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
}

/// Reads as much of a log as is whole and makes sense.
pub(crate) fn decode(bytes: &[u8]) -> Log {
    let mut decoder = Decoder {
        input: Input { rest: bytes },
        ..Decoder::default()
    };
    while decoder.record().is_some() {}
    decoder.log
}

#[derive(Default)]
struct Decoder<'a> {
    input: Input<'a>,
    names: Vec<Arc<str>>,
    activations: Vec<State>,
    log: Log,
}

/// What the decoder knows of an activation.
struct State {
    function: u32,
    locals: Vec<Local>,
}

impl Decoder<'_> {
    /// Reads one record; `None` at the end of what is whole.
    fn record(&mut self) -> Option<()> {
        let kind = self.input.byte()?;
        match kind {
            CALL => {
                let number = self.input.number()?;
                let function = self.input.number()?;
                let is_next = number as usize == self.activations.len();
                if !is_next || function as usize >= self.log.functions.len() {
                    return None;
                }
                self.activations.push(State {
                    function,
                    locals: Vec::new(),
                });
                self.state(EventKind::Call, number)
            }
            RESUME | LINE => {
                let number = self.input.number()?;
                let kind = if kind == LINE {
                    EventKind::Line
                } else {
                    EventKind::Resume
                };
                self.state(kind, number)
            }
            RETURN => self.leave(EventKind::Return),
            YIELD => self.leave(EventKind::Yield),
            UNWIND => self.leave(EventKind::Unwind),
            EXCEPTION => self.exception(),
            FUNCTION => {
                let name = self.input.text()?.to_owned();
                let qualname = self.input.text()?.to_owned();
                let first_line = self.input.number()?;
                self.log.functions.push(Function {
                    name,
                    qualname,
                    first_line,
                });
                Some(())
            }
            NAME => {
                let name = self.input.text()?.into();
                self.names.push(name);
                Some(())
            }
            END => {
                self.log.end = Some(self.end()?);
                None
            }
            ERROR => {
                self.log.refusal = Some(self.refusal()?);
                None
            }
            _ => None,
        }
    }

    fn state(&mut self, kind: EventKind, activation: u32) -> Option<()> {
        let line = self.input.number()?;
        let (function, locals) = self.changes(activation)?;
        self.push(kind, activation, function, line, locals, None);
        Some(())
    }

    fn leave(&mut self, kind: EventKind) -> Option<()> {
        let activation = self.input.number()?;
        let line = self.input.number()?;
        let (function, locals) = self.changes(activation)?;
        let value = match kind {
            EventKind::Unwind => None,
            _ => Some(self.input.value()?),
        };
        self.push(kind, activation, function, line, locals, value);
        Some(())
    }

    fn exception(&mut self) -> Option<()> {
        let activation = self.input.number()?;
        let line = self.input.number()?;
        let value = Some(self.input.value()?);
        let function = self.activations.get(activation as usize)?.function;
        self.push(
            EventKind::Exception,
            activation,
            function,
            line,
            Vec::new(),
            value,
        );
        Some(())
    }

    /// Applies changes to an activation; gives its function and full state.
    fn changes(&mut self, activation: u32) -> Option<(u32, Vec<Local>)> {
        let count = self.input.number()?;
        let state = self.activations.get_mut(activation as usize)?;
        for _ in 0..count {
            let key = self.input.number()?;
            let name = self.names.get((key >> 1) as usize)?;
            let place = state.locals.iter().position(|local| local.name == *name);
            if key & 1 == 0 {
                state.locals.remove(place?);
                continue;
            }
            let value = self.input.value()?;
            match place {
                Some(place) => state.locals[place].value = value,
                None => state.locals.push(Local {
                    name: name.clone(),
                    value,
                }),
            }
        }
        Some((state.function, state.locals.clone()))
    }

    fn push(
        &mut self,
        kind: EventKind,
        activation: u32,
        function: u32,
        line: u32,
        locals: Vec<Local>,
        value: Option<Value>,
    ) {
        self.log.events.push(Event {
            kind,
            activation,
            function,
            line,
            locals,
            value,
        });
    }

    fn end(&mut self) -> Option<End> {
        Some(match self.input.byte()? {
            0 => End::Finished,
            1 => End::Raised(self.input.text()?.to_owned()),
            2 => {
                let zigzag = self.input.long()?;
                let status = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
                End::Exited(i32::try_from(status).ok()?)
            }
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

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.long()?).ok()?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        std::str::from_utf8(text).ok()
    }

    fn value(&mut self) -> Option<Value> {
        let flags = self.byte()?;
        let repr = self.text()?.into();
        let detail = if flags & 1 != 0 {
            Some(self.text()?.into())
        } else {
            None
        };
        Some(Value {
            repr,
            detail,
            truncated: flags & 2 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A log of `f(a)` that binds `b`, unbinds `a`, binds it again, and returns.
    const SMALL: &[u8] = b"\x10\x01f\x01f\x01\x11\x01a\x00\x00\x00\x01\x01\x01\x00\x0241\
        \x11\x01b\x02\x00\x02\x02\x00\x03\x00\x0242\x02\x00\x03\x01\x01\x00\x017\
        \x03\x00\x03\x00\x01\x01x\x01y\x12\x00";

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
        fn a_damaged_log_never_panics(at in 0..SMALL.len(), byte: u8) {
            let mut bytes = SMALL.to_vec();
            bytes[at] = byte;
            decode(&bytes);
        }
    }
}
