//! Which runs are worth keeping: complete, short, with small values, and with little idle code.

use std::fmt;
use std::ops::RangeInclusive;

use cwm_trace::{End, EventKind, Local, Trace, Value};
use serde::{Deserialize, Serialize};

use crate::generate::{Level, Program};

/// Bounds on the number of events of a kept trace of a level, as [`Level::number`](crate::Level::number) has it.
pub fn events_of(level: u8) -> RangeInclusive<usize> {
    if level == Level::Six.number() {
        150..=4_000
    } else {
        3..=120
    }
}

/// Characters of the longest value that is kept.
const VALUE_CHARS: usize = 90;

/// Characters of all locals of one event together.
const STATE_CHARS: usize = 200;

/// Digits of the longest number that is kept.
const DIGITS: usize = 4;

/// Digits in a row of the longest text that is kept: there they are characters, not a magnitude.
const TEXT_DIGITS: usize = 10;

/// Largest share of body lines that a kept run may leave out.
const IDLE_SHARE: f64 = 0.6;

/// Why a program is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// The interpreter does not accept it.
    NotPython,
    /// It raises although it is not meant to.
    Raised,
    /// It did not come to its end within the limits.
    Unfinished,
    /// It has fewer or more events than [`events_of`] its level.
    Length,
    /// A value is too long, or a number too large.
    Value,
    /// It shows where an object lies in memory, which is elsewhere in the next run.
    Address,
    /// Much of it is not run.
    Idle,
    /// It is the same as an earlier or excluded program, up to names.
    Repeated,
    /// It is nearly the same as an earlier program.
    NearDuplicate,
    /// It holds a secret, an address or a path of somebody.
    Private,
    /// A benchmark has it too.
    Benchmark,
    /// A file is too long to be looked at.
    FileTooLong,
    /// A file is in no encoding that it names.
    NotText,
    /// The function needs a name that its module does not bind where it can be seen.
    UnknownName,
    /// What it needs comes from two modules under one name.
    NameClash,
    /// It needs a package that is neither its own nor in Python's library.
    ForeignImport,
    /// The file says that it is under another licence than its package.
    Licence,
    /// Its text takes a form that the harvester does not foresee.
    NotUnderstood,
    /// It needs a module whose answers nobody can foresee: chance, the clock, the machine.
    Unpredictable,
    /// With what it needs it is too long.
    ProgramTooLong,
    /// It takes what cannot be made up, and nobody has written an example.
    NoArguments,
    /// It reaches for files, processes or the network.
    Forbidden,
    /// Too few runs on different inputs are worth keeping.
    TooFewInputs,
    /// It gives the same whatever it is given.
    Constant,
    /// A second run is different.
    Nondeterministic,
}

impl fmt::Display for Rejection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NotPython => "not Python",
            Self::Raised => "raised",
            Self::Unfinished => "not finished",
            Self::Length => "too short or too long",
            Self::Value => "large values",
            Self::Address => "addresses of objects",
            Self::Idle => "much idle code",
            Self::Repeated => "repeated",
            Self::NearDuplicate => "nearly a repetition",
            Self::Private => "private",
            Self::Benchmark => "in a benchmark",
            Self::FileTooLong => "file too long",
            Self::NotText => "not in the encoding that it names",
            Self::UnknownName => "needs a name from elsewhere",
            Self::NameClash => "needs two things of one name",
            Self::ForeignImport => "needs another package",
            Self::Licence => "under another licence than the package",
            Self::NotUnderstood => "of a form that is not understood",
            Self::Unpredictable => "depends on chance, the clock or the machine",
            Self::ProgramTooLong => "program too long",
            Self::NoArguments => "takes what cannot be made up",
            Self::Forbidden => "reaches for files, processes or the network",
            Self::TooFewInputs => "too few good runs",
            Self::Constant => "always gives the same",
            Self::Nondeterministic => "not always the same",
        })
    }
}

/// Judges one run of `program`.
pub fn judge(program: &Program, trace: &Trace) -> Result<(), Rejection> {
    match trace.end {
        End::Finished => {}
        End::Raised(_) if program.may_raise => {}
        End::Raised(_) | End::Exited(_) => return Err(Rejection::Raised),
        // A run cut by the limit on events is too long rather than endless.
        End::MaxEvents(_) => return Err(Rejection::Length),
        _ => return Err(Rejection::Unfinished),
    }
    if !events_of(program.level).contains(&trace.events.len()) {
        return Err(Rejection::Length);
    }
    let mut has_address = shows_address(&trace.stdout) || shows_address(&trace.stderr);
    if let End::Raised(error) = &trace.end {
        has_address |= shows_address(error);
    }
    let mut last: &[Local] = &[];
    for event in &trace.events {
        for (place, local) in event.locals.iter().enumerate() {
            // Most variables are what they were, and need no second look.
            let known = last.get(place);
            if known.is_some_and(|known| local.value.shares_texts_with(&known.value)) {
                continue;
            }
            if !is_small(&local.value) {
                return Err(Rejection::Value);
            }
            has_address |= shows_address(local.value.detailed());
        }
        let locals = event.locals.iter();
        if locals
            .map(|local| local.value.detailed().len())
            .sum::<usize>()
            > STATE_CHARS
        {
            return Err(Rejection::Value);
        }
        if let Some(value) = &event.value {
            if !is_small(value) {
                return Err(Rejection::Value);
            }
            has_address |= shows_address(value.detailed());
        }
        last = &event.locals;
    }
    if has_address {
        return Err(Rejection::Address);
    }
    if idle_share(trace) > IDLE_SHARE {
        return Err(Rejection::Idle);
    }
    Ok(())
}

/// Whether a text has the address of an object in it. The tracer takes them out of what it renders itself, not out
/// of texts that the program makes.
fn shows_address(text: &str) -> bool {
    text.contains(" at 0x")
}

fn is_small(value: &Value) -> bool {
    let text = value.detailed();
    !value.truncated && text.len() <= VALUE_CHARS && has_small_numbers(text)
}

/// Whether no run of digits is too long, in a text or outside.
fn has_small_numbers(text: &str) -> bool {
    let mut quote = None;
    let mut digits = 0;
    for c in text.bytes() {
        digits = if c.is_ascii_digit() { digits + 1 } else { 0 };
        match (quote, c) {
            (None, b'\'' | b'"') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
        if digits > if quote.is_some() { TEXT_DIGITS } else { DIGITS } {
            return false;
        }
    }
    true
}

/// Share of indented lines that carry code of their own and were never reached.
fn idle_share(trace: &Trace) -> f64 {
    let reached: std::collections::HashSet<u32> = trace
        .events
        .iter()
        .filter(|event| event.kind == EventKind::Line)
        .map(|event| event.line)
        .collect();
    let body: Vec<u32> = (1u32..)
        .zip(trace.source.lines())
        .filter(|(_, line)| line.starts_with(' ') && has_own_code(line.trim()))
        .map(|(number, _)| number)
        .collect();
    let idle = body
        .iter()
        .filter(|number| !reached.contains(number))
        .count();
    idle as f64 / body.len().max(1) as f64
}

/// Whether a line is one that the interpreter reports by itself.
fn has_own_code(code: &str) -> bool {
    const SILENT: [&str; 8] = ["", "else:", "try:", "finally:", "pass", "}", "]", ")"];
    const SILENT_STARTS: [&str; 6] = ["#", "\"\"\"", "nonlocal ", "global ", "def ", "@"];
    !SILENT.contains(&code) && !SILENT_STARTS.iter().any(|start| code.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cwm_trace::{Entry, Event};

    fn program() -> Program {
        Program {
            source: String::new(),
            entry: Entry::Module,
            level: 1,
            family: "grammar",
            may_raise: false,
        }
    }

    fn line(number: u32, value: &str) -> Event {
        Event {
            kind: EventKind::Line,
            activation: 0,
            function: 0,
            line: number,
            locals: vec![Local {
                name: "x".into(),
                value: Value::new(value),
            }],
            value: None,
        }
    }

    fn trace(source: &str, events: Vec<Event>) -> Trace {
        Trace {
            python: "3.11.7".into(),
            file: "program.py".into(),
            source: source.into(),
            other_files: Vec::new(),
            entry: Entry::Module,
            thread: None,
            functions: Vec::new(),
            events,
            end: End::Finished,
            stdout: String::new(),
            stderr: String::new(),
        }
    }

    #[test]
    fn a_plain_run_is_kept() {
        let run = trace(
            "x = 1\ny = 2\nz = 3\n",
            (1..4).map(|n| line(n, "[1, 22]")).collect(),
        );
        assert_eq!(judge(&program(), &run), Ok(()));
    }

    #[test]
    fn each_fault_is_told_apart() {
        let good = trace("x = 1\n", (1..4).map(|n| line(n, "1")).collect());
        let check = |change: &dyn Fn(&mut Trace)| {
            let mut run = good.clone();
            change(&mut run);
            judge(&program(), &run)
        };
        assert_eq!(check(&|run| run.events.truncate(2)), Err(Rejection::Length));
        assert_eq!(
            check(&|run| run.end = End::MaxEvents(200)),
            Err(Rejection::Length)
        );
        assert_eq!(
            check(&|run| run.end = End::Timeout(5.0)),
            Err(Rejection::Unfinished)
        );
        assert_eq!(
            check(&|run| run.end = End::Raised("E()".into())),
            Err(Rejection::Raised)
        );
        assert_eq!(
            check(&|run| run.events[0] = line(1, "12345")),
            Err(Rejection::Value)
        );
        assert_eq!(
            check(&|run| run.events[0] = line(1, &"ab".repeat(50))),
            Err(Rejection::Value)
        );
        assert_eq!(
            check(&|run| run.events[0] = line(1, "'<f at 0x7f00>'")),
            Err(Rejection::Address)
        );
        assert_eq!(
            check(&|run| run.stdout = "<f at 0x7f00>\n".into()),
            Err(Rejection::Address)
        );
        assert_eq!(
            check(&|run| run.source =
                "if x:\n  a = 1\n  b = 2\nelse:\n  c = 1\n  d = 2\n  e = 3\n  f = 4\n".into()),
            Err(Rejection::Idle)
        );
    }

    #[test]
    fn digits_in_texts_may_be_more_than_in_numbers() {
        assert!(has_small_numbers("['101101', 9999]"));
        assert!(!has_small_numbers("['101101', 10000]"));
        assert!(!has_small_numbers("'00000000000'"));
        assert!(has_small_numbers("\"it's\""));
    }

    #[test]
    fn an_exception_is_kept_where_it_is_meant() {
        let mut run = trace("x = 1\n", (1..4).map(|n| line(n, "1")).collect());
        run.end = End::Raised("ValueError('no')".into());
        let meant = Program {
            may_raise: true,
            ..program()
        };
        assert_eq!(judge(&meant, &run), Ok(()));
    }
}
