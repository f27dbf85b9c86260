//! Parts of a trace that are traces themselves: down to some depth, into some of the calls only, or one
//! call out of many.
//!
//! Promises: what comes out keeps the rules of a trace (activations numbered in order of first call, each
//! call closed once if it was before); the same options give the same part, on every machine.

use std::collections::HashMap;
use std::ops::Range;

use crate::random::{fraction, splitmix};
use crate::{End, Entry, Event, EventKind, SourceFile, Trace};

/// What of the calls below the entries is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// How many calls below the entries frames are kept; `None` is all.
    pub depth: Option<u32>,
    /// The probability that a call is stepped into. Of the others only the call and what it gave are
    /// kept.
    pub step_in: f64,
    /// Decides which calls these are.
    pub seed: u64,
}

impl Cut {
    /// Whether everything is kept.
    pub fn is_whole(&self) -> bool {
        self.depth.is_none() && self.step_in >= 1.0
    }
}

/// How much of an activation is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Whole,
    /// The call, and where it leaves and is entered again.
    Ends,
    Nothing,
}

/// The part of a trace that the options describe.
pub fn cut(trace: &Trace, options: &Cut) -> Trace {
    let mut known: HashMap<u32, (Kept, u32)> = HashMap::new();
    let mut stack: Vec<u32> = Vec::new();
    let mut events = Vec::new();
    for event in &trace.events {
        let number = event.activation;
        if event.kind.enters() {
            let caller = stack.last().and_then(|caller| known.get(caller)).copied();
            known
                .entry(number)
                .or_insert_with(|| decide(number, caller, options));
            stack.push(number);
        }
        let kept = known.get(&number).map_or(Kept::Nothing, |&(kept, _)| kept);
        let is_end = event.kind.enters() || event.kind.leaves();
        if kept == Kept::Whole || kept == Kept::Ends && is_end {
            events.push(event.clone());
        }
        if event.kind.leaves()
            && let Some(place) = stack.iter().rposition(|&open| open == number)
        {
            stack.truncate(place);
        }
    }
    renumbered(trace, events, trace.entry.clone(), trace.end.clone())
}

fn decide(number: u32, caller: Option<(Kept, u32)>, options: &Cut) -> (Kept, u32) {
    let Some((caller, depth)) = caller else {
        return (Kept::Whole, 0);
    };
    let depth = depth + 1;
    if caller != Kept::Whole || options.depth.is_some_and(|most| depth > most) {
        return (Kept::Nothing, depth);
    }
    let draw = fraction(splitmix(options.seed ^ splitmix(number.into())));
    let kept = if draw < options.step_in {
        Kept::Whole
    } else {
        Kept::Ends
    };
    (kept, depth)
}

/// A trace for each of the first `most` calls of functions that have a name, in order of call. Each holds
/// what ran while its function did.
pub fn calls(trace: &Trace, most: usize) -> Vec<Trace> {
    calls_in(trace, 0..most)
}

/// The one with a number, from 0, of what [`calls`] gives.
pub fn call(trace: &Trace, number: usize) -> Option<Trace> {
    calls_in(trace, number..number.saturating_add(1)).pop()
}

/// How many traces [`calls`] gives at most.
pub fn count_calls(trace: &Trace) -> usize {
    trace
        .events
        .iter()
        .filter(|event| event.kind == EventKind::Call && is_named(trace, event))
        .count()
}

fn calls_in(trace: &Trace, wanted: Range<usize>) -> Vec<Trace> {
    // For each call: its activation, and from where to where it ran.
    let mut found: Vec<(u32, Vec<(usize, usize)>)> = Vec::new();
    let mut places: HashMap<u32, usize> = HashMap::new();
    let mut number = 0;
    for (at, event) in trace.events.iter().enumerate() {
        if event.kind == EventKind::Call && number < wanted.end && is_named(trace, event) {
            if wanted.contains(&number) {
                places.insert(event.activation, found.len());
                found.push((event.activation, Vec::new()));
            }
            number += 1;
        }
        let Some(&place) = places.get(&event.activation) else {
            continue;
        };
        let spans = &mut found[place].1;
        if event.kind.enters() {
            spans.push((at, trace.events.len()));
        } else if event.kind.leaves()
            && let Some(last) = spans.last_mut()
        {
            last.1 = at + 1;
        }
    }
    let one = |(activation, spans): (u32, Vec<(usize, usize)>)| {
        let parts = spans.iter().map(|&(from, to)| &trace.events[from..to]);
        let events: Vec<Event> = parts.flatten().cloned().collect();
        let end = end_of(activation, &events, &trace.end);
        let function = &trace.functions[events[0].function as usize];
        let entry = Entry::Call {
            function: function.qualname.clone(),
            args: String::new(),
        };
        renumbered(trace, events, entry, end)
    };
    found.into_iter().map(one).collect()
}

fn is_named(trace: &Trace, event: &Event) -> bool {
    let function = trace.functions.get(event.function as usize);
    function.is_some_and(|function| !function.name.starts_with('<'))
}

/// How a call ended, by its last event.
fn end_of(activation: u32, events: &[Event], whole: &End) -> End {
    let mut own = events
        .iter()
        .rev()
        .filter(|event| event.activation == activation);
    match own.next().map(|event| event.kind) {
        Some(EventKind::Return | EventKind::Yield) => End::Finished,
        Some(EventKind::Unwind) => {
            let raised = own.find(|event| event.kind == EventKind::Exception);
            let value = raised.and_then(|event| event.value.as_ref());
            End::Raised(value.map_or_else(String::new, |value| value.repr.to_string()))
        }
        _ => whole.clone(),
    }
}

/// A trace of some of the events of another: activations, functions and files are numbered anew in order
/// of appearance. What is entered for the first time is called.
fn renumbered(trace: &Trace, mut events: Vec<Event>, entry: Entry, end: End) -> Trace {
    let mut activations = HashMap::new();
    let (mut used, mut functions) = (HashMap::new(), Vec::new());
    let (mut places, mut files) = (HashMap::new(), Vec::new());
    events.retain_mut(|event| {
        let next = activations.len() as u32;
        event.activation = match activations.get(&event.activation) {
            Some(&known) => known,
            None if event.kind.enters() => {
                event.kind = EventKind::Call;
                activations.insert(event.activation, next);
                next
            }
            None => return false,
        };
        event.function = *used.entry(event.function).or_insert_with(|| {
            functions.push(event.function);
            functions.len() as u32 - 1
        });
        true
    });
    let functions = functions.into_iter().filter_map(|number| {
        let mut function = trace.functions.get(number as usize)?.clone();
        function.file = *places.entry(function.file).or_insert_with(|| {
            files.push(function.file);
            files.len() as u32 - 1
        });
        Some(function)
    });
    let functions = functions.collect();
    let mut files = files.into_iter().map(|number| file(trace, number));
    let main = files.next().unwrap_or_else(|| file(trace, 0));
    Trace {
        python: trace.python.clone(),
        file: main.path,
        source: main.text,
        other_files: files.collect(),
        thread: trace.thread.clone(),
        entry,
        functions,
        events,
        end,
        stdout: trace.stdout.clone(),
        stderr: trace.stderr.clone(),
    }
}

fn file(trace: &Trace, number: u32) -> SourceFile {
    match number.checked_sub(1) {
        None => SourceFile {
            path: trace.file.clone(),
            text: trace.source.clone(),
        },
        Some(other) => {
            let known = trace.other_files.get(other as usize).cloned();
            known.unwrap_or_else(|| SourceFile {
                path: String::new(),
                text: String::new(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Function;

    /// Two entries; `f` calls `g` twice, which calls `h`, a generator that goes on in the second call.
    fn trace() -> Trace {
        let kinds = "f( f. g( g. h( h. h< g) f. g( h> h) g) f) f( f! f|";
        let mut numbers = [("f", 0), ("g", 0), ("h", 0)]
            .into_iter()
            .collect::<HashMap<_, _>>();
        let mut count = 0;
        let events = kinds.split(' ').map(|text| {
            let (name, kind) = text.split_at(1);
            let kind = match kind {
                "(" => EventKind::Call,
                ">" => EventKind::Resume,
                "." => EventKind::Line,
                ")" => EventKind::Return,
                "<" => EventKind::Yield,
                "!" => EventKind::Exception,
                _ => EventKind::Unwind,
            };
            if kind == EventKind::Call {
                numbers.insert(name, count);
                count += 1;
            }
            Event {
                kind,
                activation: numbers[name],
                function: "fgh".find(name).unwrap_or(0) as u32,
                line: 1,
                locals: Vec::new(),
                value: None,
            }
        });
        let function = |(at, name): (usize, &str)| Function {
            name: name.to_owned(),
            qualname: name.to_owned(),
            first_line: 1,
            file: u32::from(at == 2),
        };
        Trace {
            python: String::new(),
            file: "a.py".to_owned(),
            source: "a".to_owned(),
            other_files: vec![SourceFile {
                path: "b.py".to_owned(),
                text: "b".to_owned(),
            }],
            thread: None,
            entry: Entry::Module,
            events: events.collect(),
            functions: ["f", "g", "h"]
                .into_iter()
                .enumerate()
                .map(function)
                .collect(),
            end: End::Finished,
            stdout: String::new(),
            stderr: String::new(),
        }
    }

    /// Function, activation and kind of each event.
    fn text(trace: &Trace) -> String {
        let one = |event: &Event| {
            let name = &trace.functions[event.function as usize].name;
            let kind = match event.kind {
                EventKind::Call => '(',
                EventKind::Resume => '>',
                EventKind::Line => '.',
                EventKind::Return => ')',
                EventKind::Yield => '<',
                EventKind::Exception => '!',
                EventKind::Unwind => '|',
            };
            format!("{name}{}{kind}", event.activation)
        };
        trace.events.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn part(depth: Option<u32>, step_in: f64) -> String {
        let seed = 1;
        text(&cut(
            &trace(),
            &Cut {
                depth,
                step_in,
                seed,
            },
        ))
    }

    #[test]
    fn frames_are_kept_down_to_a_depth() {
        assert_eq!(part(None, 1.0), text(&trace()));
        assert_eq!(part(Some(0), 1.0), "f0( f0. f0. f0) f1( f1! f1|");
        assert_eq!(
            part(Some(1), 1.0),
            "f0( f0. g1( g1. g1) f0. g2( g2) f0) f3( f3! f3|"
        );
    }

    #[test]
    fn a_call_that_is_not_stepped_into_keeps_its_ends() {
        assert_eq!(
            part(None, 0.0),
            "f0( f0. g1( g1) f0. g2( g2) f0) f3( f3! f3|"
        );
        let whole = Cut {
            depth: None,
            step_in: 1.0,
            seed: 0,
        };
        assert!(
            whole.is_whole()
                && !Cut {
                    depth: Some(9),
                    ..whole
                }
                .is_whole()
        );
    }

    #[test]
    fn calls_are_traces_of_their_own() {
        let found = calls(&trace(), 9);
        let texts: Vec<_> = found.iter().map(text).collect();
        assert_eq!(
            texts,
            [
                "f0( f0. g1( g1. h2( h2. h2< g1) f0. g3( h2> h2) g3) f0)",
                "g0( g0. h1( h1. h1< g0)",
                "h0( h0. h0< h0> h0)",
                "g0( h1( h1) g0)",
                "f0( f0! f0|",
            ]
        );
        assert_eq!((&*found[2].file, found[2].other_files.len()), ("b.py", 0));
        assert_eq!(
            (&*found[1].file, &*found[1].other_files[0].path),
            ("a.py", "b.py")
        );
        assert_eq!(found[4].end, End::Raised(String::new()));
        assert_eq!(calls(&trace(), 1).len(), 1);
        assert_eq!(count_calls(&trace()), 5);
        assert_eq!(call(&trace(), 2).as_ref(), Some(&found[2]));
        assert_eq!(call(&trace(), 5), None);
    }
}
