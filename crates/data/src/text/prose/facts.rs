//! What a trace says, one fact after the other.

use std::collections::HashMap;

use cwm_trace::{Event, EventKind, Local, Trace};

use super::fold::fold;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// What follows happens in another function than before, which was called earlier.
    In {
        /// Its name.
        function: String,
    },
    /// A function begins.
    Called {
        /// The line that calls it; none for the entry.
        line: Option<u32>,
        /// Its name.
        function: String,
        /// Names and values of its arguments.
        arguments: Vec<(String, String)>,
    },
    /// A suspended function goes on.
    Resumed {
        /// Its name.
        function: String,
    },
    /// A line has run; what it changed follows.
    Ran {
        /// Its number.
        line: u32,
        /// Its text.
        code: Option<String>,
        /// Whether its condition held, if it is one.
        holds: Option<bool>,
        /// The line of the same function that runs next.
        next: Option<u32>,
    },
    /// A variable has another value.
    Becomes {
        /// Its name.
        name: String,
        /// The value.
        value: String,
        /// The one before, if there was one.
        from: Option<String>,
    },
    /// A variable is gone.
    Unbound {
        /// Its name.
        name: String,
    },
    /// A loop goes round more often than is told one by one.
    Repeats {
        /// The line it begins with.
        line: u32,
        /// Rounds that are summed up.
        times: u32,
    },
    /// What the loop's own variable was in these rounds.
    Took {
        /// Its name.
        name: String,
        /// A value for each round.
        values: Vec<String>,
    },
    /// What variables that changed in these rounds are after them.
    Left {
        /// Names and values.
        variables: Vec<(String, String)>,
    },
    /// A function ends.
    Returned {
        /// Its name.
        function: String,
        /// What it returns.
        value: String,
    },
    /// A function hands something out and waits.
    Yielded {
        /// Its name.
        function: String,
        /// What it hands out.
        value: String,
    },
    /// An exception is raised by, or reaches, a line.
    Raised {
        /// The line.
        line: u32,
        /// The exception.
        value: String,
    },
    /// A function ends by an exception.
    Escaped {
        /// Its name.
        function: String,
    },
}

impl Fact {
    /// Whether a statement, which may leave out what is optional, agrees with the truth.
    pub fn agrees(&self, truth: &Self) -> bool {
        fn may<T: PartialEq>(stated: Option<&T>, truth: Option<&T>) -> bool {
            stated.is_none() || stated == truth
        }
        match (self, truth) {
            (
                Self::Ran {
                    line,
                    code,
                    holds,
                    next,
                },
                Self::Ran {
                    line: true_line,
                    code: true_code,
                    holds: true_holds,
                    next: true_next,
                },
            ) => {
                line == true_line
                    && may(code.as_ref(), true_code.as_ref())
                    && may(holds.as_ref(), true_holds.as_ref())
                    && may(next.as_ref(), true_next.as_ref())
            }
            (
                Self::Becomes { name, value, from },
                Self::Becomes {
                    name: true_name,
                    value: true_value,
                    from: true_from,
                },
            ) => (name, value) == (true_name, true_value) && may(from.as_ref(), true_from.as_ref()),
            _ => self == truth,
        }
    }
}

/// Facts that belong together, of one activation.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) activation: u32,
    pub(super) function: u32,
    /// The line it is about; none if it is about a call or an end.
    pub(super) line: Option<u32>,
    pub(super) facts: Vec<Fact>,
}

/// All that a trace says, rounds of long loops summed up.
///
/// The module's own variables are not in a trace, nor are names that Python makes up for itself.
pub fn facts(trace: &Trace) -> Vec<Fact> {
    let lines: Vec<&str> = trace.source.lines().collect();
    let steps = fold(steps(trace, &lines), &lines);
    let mut facts = Vec::new();
    let mut current = None;
    for step in steps {
        let begins = matches!(
            step.facts.first(),
            Some(Fact::Called { .. } | Fact::Resumed { .. })
        );
        let is_elsewhere = current.is_some_and(|current| current != step.activation);
        if is_elsewhere && !begins {
            let function = name_of(trace, step.function);
            facts.push(Fact::In { function });
        }
        current = Some(step.activation);
        facts.extend(step.facts);
    }
    facts
}

fn name_of(trace: &Trace, function: u32) -> String {
    let function = trace.functions.get(function as usize);
    function.map_or("?", |function| &function.name).to_owned()
}

/// A function that has begun.
#[derive(Default)]
struct Frame {
    /// The line that is running.
    line: Option<u32>,
    /// Whether it has met an exception.
    has_raised: bool,
    /// The variables before it.
    locals: Vec<Local>,
}

fn steps(trace: &Trace, lines: &[&str]) -> Vec<Step> {
    let mut frames: HashMap<u32, Frame> = HashMap::new();
    let mut stack: Vec<u32> = Vec::new();
    let mut steps = Vec::new();
    for event in &trace.events {
        let step = |line, facts| Step {
            activation: event.activation,
            function: event.function,
            line,
            facts,
        };
        let frame = frames.entry(event.activation).or_default();
        // A line that yields has not ended: it goes on when its function does.
        let ends_line = matches!(
            event.kind,
            EventKind::Line | EventKind::Return | EventKind::Unwind
        );
        if let Some(line) = frame.line.filter(|_| ends_line) {
            let next = (event.kind == EventKind::Line).then_some(event.line);
            let facts = ran(line, next, frame, event, lines);
            if facts.len() > 1 || !frame.has_raised {
                steps.push(step(Some(line), facts));
            }
        }
        match event.kind {
            EventKind::Exception => frame.has_raised = true,
            EventKind::Yield | EventKind::Resume => {}
            _ => {
                *frame = Frame {
                    line: (event.kind == EventKind::Line).then_some(event.line),
                    has_raised: false,
                    locals: event.locals.clone(),
                };
            }
        }
        let caller = stack.last().and_then(|caller| frames.get(caller)?.line);
        if let Some(fact) = happened(trace, event, caller) {
            steps.push(step(None, vec![fact]));
        }
        if event.kind.enters() {
            stack.push(event.activation);
        } else if event.kind.leaves() {
            stack.retain(|&activation| activation != event.activation);
        }
    }
    steps
}

/// The end of a line, and what it changed.
fn ran(line: u32, next: Option<u32>, frame: &Frame, event: &Event, lines: &[&str]) -> Vec<Fact> {
    let code = code_of(lines, line);
    let mut facts = vec![Fact::Ran {
        line,
        code: (!code.is_empty()).then(|| code.to_owned()),
        holds: next.and_then(|next| holds(lines, line, next)),
        next,
    }];
    let old = |name: &str| frame.locals.iter().find(|local| &*local.name == name);
    for local in event.locals.iter().filter(|local| is_own(local)) {
        let (value, before) = (local.value.detailed(), old(&local.name));
        let before = before.map(|local| local.value.detailed().to_string());
        if before.as_deref() != Some(&**value) {
            facts.push(Fact::Becomes {
                name: local.name.to_string(),
                value: value.to_string(),
                from: before,
            });
        }
    }
    let is_there = |name: &str| event.locals.iter().any(|local| &*local.name == name);
    for local in frame.locals.iter().filter(|local| is_own(local)) {
        if !is_there(&local.name) {
            let name = local.name.to_string();
            facts.push(Fact::Unbound { name });
        }
    }
    facts
}

/// What an event says by itself.
fn happened(trace: &Trace, event: &Event, caller: Option<u32>) -> Option<Fact> {
    let function = name_of(trace, event.function);
    let value = event.value.as_ref();
    let value = value.map_or(String::new(), |value| value.detailed().to_string());
    let fact = match event.kind {
        EventKind::Line => return None,
        EventKind::Call => {
            let own = event.locals.iter().filter(|local| is_own(local));
            let pair = |local: &Local| (local.name.to_string(), local.value.detailed().to_string());
            Fact::Called {
                line: caller,
                function,
                arguments: own.map(pair).collect(),
            }
        }
        EventKind::Resume => Fact::Resumed { function },
        EventKind::Return => Fact::Returned { function, value },
        EventKind::Yield => Fact::Yielded { function, value },
        EventKind::Unwind => Fact::Escaped { function },
        EventKind::Exception => Fact::Raised {
            line: event.line,
            value,
        },
    };
    Some(fact)
}

/// Whether the program itself named it.
fn is_own(local: &Local) -> bool {
    !local.name.starts_with('.')
}

/// Text of a line without its margins.
pub(super) fn code_of<'a>(lines: &[&'a str], line: u32) -> &'a str {
    let index = (line as usize).checked_sub(1);
    index
        .and_then(|index| lines.get(index))
        .map_or("", |text| text.trim())
}

/// Columns before the text of a line.
pub(super) fn indent_of(lines: &[&str], line: u32) -> usize {
    let index = (line as usize).checked_sub(1);
    let text = index.and_then(|index| lines.get(index)).copied();
    text.map_or(0, |text| text.len() - text.trim_start().len())
}

/// Whether the condition on a line held, if the line is nothing but a condition: then the line
/// below it, which is reached in no other way, comes next.
fn holds(lines: &[&str], line: u32, next: u32) -> Option<bool> {
    let code = code_of(lines, line);
    let is_condition = ["if ", "elif ", "while "]
        .iter()
        .any(|start| code.starts_with(start));
    if !is_condition || !code.ends_with(':') {
        return None;
    }
    let last = u32::try_from(lines.len()).ok()?;
    let is_code = |&line: &u32| !matches!(code_of(lines, line).chars().next(), None | Some('#'));
    let below = (line + 1..=last).find(is_code)?;
    (indent_of(lines, below) > indent_of(lines, line)).then_some(next == below)
}
