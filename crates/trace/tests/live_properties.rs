//! What holds of the `live` dialect whatever the program, the run or the text.

use std::sync::Arc;

use cwm_trace::live::{
    Document, Machine, Mark, Parsed, Piece, VERSION, Window, Workings, parse, render,
};
use cwm_trace::{End, Entry, Event, EventKind, Function, Local, Trace, Value};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A file whose functions the made-up runs below enter: loops in loops, a
/// generator, a class body, a comprehension and a lambda.
const SOURCE: &str = "\
limit = 3
@cache
def f(n):
    for i in range(n):
        for j in range(limit):
            n += g(j)
    return [x for x in (lambda: 0, n)]
def g(n):
    while n:
        yield n
class A:
    def h(self): return limit
f(1)
";

const KINDS: &[EventKind] = &[
    EventKind::Call,
    EventKind::Resume,
    EventKind::Line,
    EventKind::Return,
    EventKind::Yield,
    EventKind::Unwind,
    EventKind::Exception,
];

fn functions() -> Vec<Function> {
    let function = |qualname: &str, first_line| Function {
        name: qualname.rsplit('.').next().unwrap_or(qualname).to_owned(),
        qualname: qualname.to_owned(),
        first_line,
        file: 0,
    };
    vec![
        function("<module>", 1),
        function("f", 2),
        function("f.<locals>.<listcomp>", 7),
        function("f.<locals>.<lambda>", 7),
        function("g", 8),
        function("A", 11),
        function("A.h", 12),
    ]
}

/// Texts that are likely to be mistaken for something else.
const TRICKY: &[&str] = &[
    "",
    "null",
    "\"",
    "\\",
    "{}",
    "<|end|>",
    "<|line|>1 {}",
    "\n",
    "\r\n",
    "\r",
    "\u{0}",
    "\u{2028}",
    "   1| ",
    "| ",
    "...",
    "😀",
    "__class__",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => select(TRICKY).prop_map(str::to_owned),
        3 => "[a-z0-9', ]{0,6}",
        1 => any::<String>(),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    (
        text(),
        proptest::option::weighted(0.2, text()),
        any::<bool>(),
    )
        .prop_map(|(repr, detail, truncated)| Value {
            repr: repr.into(),
            detail: detail.map(Into::into),
            truncated,
        })
}

/// Few names, so that variables stay, go and come back from frame to frame.
fn locals() -> impl Strategy<Value = Vec<Local>> {
    let name = prop_oneof![
        8 => select(&["limit", "n", "i", "j", "x", "__class__"][..]).prop_map(str::to_owned),
        1 => text(),
    ];
    let few = prop_oneof![4 => "[12]".prop_map(Value::new), 1 => value()];
    let local = (name, few).prop_map(|(name, value)| Local {
        name: name.into(),
        value,
    });
    vec(local, 0..5)
}

/// An event that may fit nowhere.
fn event() -> impl Strategy<Value = Event> {
    let number = || prop_oneof![9 => 0..15_u32, 1 => any::<u32>()];
    let place = (0..4_u32, 0..9_u32, number());
    (
        select(KINDS),
        place,
        locals(),
        proptest::option::of(value()),
    )
        .prop_map(
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

fn trace_of(source: String, events: Vec<Event>, end: End) -> Trace {
    Trace {
        python: "3.11.7".to_owned(),
        file: "example.py".to_owned(),
        source,
        other_files: Vec::new(),
        entry: Entry::Module,
        thread: None,
        functions: functions(),
        events,
        end,
        stdout: String::new(),
        stderr: String::new(),
    }
}

/// One move of a made-up interpreter: a kind, a number that picks what the
/// kind is about, a line, and what is seen.
type Move = (EventKind, Index, u32, Vec<Local>, Value);

/// A run as a recorder sees one: every event belongs to the activation on top
/// of the stack. Where `forgetful`, some ends are not recorded.
fn run(moves: Vec<Move>, forgetful: bool) -> Vec<Event> {
    let functions = functions().len();
    let mut stack: Vec<(u32, u32)> = vec![(0, 0)];
    let mut suspended: Vec<(u32, u32)> = Vec::new();
    let mut made = 1;
    let mut events = vec![Event {
        kind: EventKind::Call,
        activation: 0,
        function: 0,
        line: 1,
        locals: Vec::new(),
        value: None,
    }];
    for (kind, pick, line, locals, value) in moves {
        if stack.is_empty() {
            break;
        }
        match kind {
            EventKind::Call => {
                stack.push((made, pick.index(functions) as u32));
                made += 1;
            }
            EventKind::Resume if suspended.is_empty() => continue,
            EventKind::Resume => stack.push(suspended.remove(pick.index(suspended.len()))),
            _ => {}
        }
        let Some(&(activation, function)) = stack.last() else {
            break;
        };
        let exception = kind == EventKind::Exception;
        let has_value = exception || matches!(kind, EventKind::Return | EventKind::Yield);
        if kind.leaves() {
            stack.pop();
            if kind == EventKind::Yield {
                suspended.push((activation, function));
            } else if forgetful && pick.index(3) == 0 {
                continue;
            }
        }
        events.push(Event {
            kind,
            activation,
            function,
            line,
            locals: if exception { Vec::new() } else { locals },
            value: has_value.then_some(value),
        });
    }
    events
}

fn trace(source: impl Strategy<Value = String>) -> impl Strategy<Value = Trace> {
    let kind = prop_oneof![
        6 => Just(EventKind::Line),
        2 => Just(EventKind::Call),
        1 => select(KINDS),
    ];
    let moves = vec((kind, any::<Index>(), 1..14_u32, locals(), value()), 0..40);
    let end = prop_oneof![Just(End::Finished), Just(End::MaxEvents(9))];
    (source, moves, any::<bool>(), end)
        .prop_map(|(source, moves, forgetful, end)| trace_of(source, run(moves, forgetful), end))
}

/// Runs of [`SOURCE`].
fn document() -> impl Strategy<Value = Document> {
    trace(Just(SOURCE.to_owned())).prop_map(|trace| Document::from_trace(&trace))
}

fn any_source() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        select(SOURCE.lines().collect::<Vec<_>>()).prop_map(str::to_owned),
        text(),
    ];
    let end = select(&["\n", "\r\n", "\r", "", "\n\n"][..]);
    vec((line, end), 0..12)
        .prop_map(|lines| lines.into_iter().map(|(line, end)| line + end).collect())
}

fn feed(machine: &mut Machine, document: &Document, event: &Event) {
    let function = &document.functions[event.function as usize];
    machine.feed(event, function.first_line);
}

/// Numbers of predicted words by what they are, in the order of [`KINDS`].
fn predicted(windows: &[Window]) -> [usize; 7] {
    let mut counts = [0; 7];
    for window in windows {
        let mut previous: Option<&Piece> = None;
        for word in window.pieces.iter().filter(|word| word.predicted) {
            let is_entry = matches!(previous, Some(Piece::Mark(Mark::Call | Mark::Resume)));
            let kind = match &word.piece {
                Piece::Mark(Mark::Call) => Some(0),
                Piece::Mark(Mark::Resume) => Some(1),
                Piece::Choice(_) => Some(2),
                Piece::Line(_) if !is_entry => Some(2),
                Piece::Mark(Mark::Return) => Some(3),
                Piece::Mark(Mark::Yield) => Some(4),
                Piece::Mark(Mark::Unwind) => Some(5),
                Piece::Mark(Mark::Exception) => Some(6),
                _ => None,
            };
            if let Some(kind) = kind {
                counts[kind] += 1;
            }
            previous = Some(&word.piece);
        }
    }
    counts
}

proptest! {
    #[test]
    fn a_document_comes_back(trace in trace(any_source())) {
        let document = Document::from_trace(&trace);
        let parsed = parse(&render(&document));
        prop_assert_eq!(parsed, Parsed { document, broken: None });
    }

    /// A file on disk may claim anything; a document is well nested even so.
    #[test]
    fn events_in_any_order_make_a_document(
        source in any_source(),
        events in vec(event(), 0..30),
        complete in any::<bool>(),
    ) {
        let end = if complete { End::Finished } else { End::OutOfMemory };
        let document = Document::from_trace(&trace_of(source, events, end));
        let parsed = parse(&render(&document));
        prop_assert_eq!(parsed, Parsed { document, broken: None });
    }

    /// A text cut anywhere gives a beginning of the document and says where.
    #[test]
    fn a_cut_text_keeps_what_was_good(trace in trace(any_source()), cut in any::<Index>()) {
        let document = Document::from_trace(&trace);
        let text = render(&document);
        let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
        let cut = &text[..places[cut.index(places.len())]];
        let parsed = parse(cut);
        let found = parsed.document;
        prop_assert_eq!(&found.events[..], &document.events[..found.events.len()]);
        prop_assert_eq!(&found.functions[..], &document.functions[..found.functions.len()]);
        // Every whole line but the first holds a line of source or a frame.
        let lines = found.source.lines().count() + found.events.len() + 1;
        prop_assert!(lines >= cut.matches('\n').count());
        if let Some(broken) = parsed.broken {
            prop_assert_eq!(broken.line, cut.lines().count().max(1));
        }
        let again = parse(&render(&found));
        prop_assert_eq!(again, Parsed { document: found, broken: None });
    }

    /// What could be read of any text is a document like any other.
    #[test]
    fn no_text_makes_the_parser_panic(pieces in vec(prop_oneof![
        select(&[
            "<|live|>1\n", "   1| def f():\n", "   2| ", "<|call|>1 0 f {}\n", "<|call|>", "1 ",
            "<|call|>1 1 f {\"x\":\"1\"}\n", "<|line|>1 {\"x\":\"2\"}\n", "<|line|>", "{\"x\":null}",
            "<|yield|>1 {} \"1\"\n", "<|resume|>1 0 {}\n", "<|return|>1 {} \"1\"\n", "{}", "\n",
            "<|unwind|>1 {}\n", "<|exception|>1 \"E()\"\n", "<|end|>\n", "99999999999", "<|", "|>",
        ][..]).prop_map(str::to_owned),
        text(),
    ], 0..20)) {
        for header in ["", "<|live|>1\n   1| x\n<|call|>1 0 f {}\n"] {
            let text = header.to_owned() + &pieces.concat();
            let document = parse(&text).document;
            let again = parse(&render(&document));
            prop_assert_eq!(again, Parsed { document, broken: None });
        }
    }

    #[test]
    fn any_events_make_windows(
        source in any_source(),
        events in vec(event(), 0..30),
    ) {
        let document = Document { source, functions: functions(), events, complete: false };
        for window in Machine::windows(&document, &Workings::new()) {
            prop_assert!(window.header <= window.pieces.len());
            prop_assert!(window.pieces[..window.header].iter().all(|word| !word.predicted));
        }
    }

    /// A run that is predicted is shown just as one that was recorded: after
    /// each event the machine's window is the one that the windows of the run
    /// so far end with, and the finished ones before it never change.
    #[test]
    fn feeding_gives_the_windows_of_the_run_so_far(document in document()) {
        let mut machine = Machine::new(&document.source);
        let whole = Machine::windows(&document, &Workings::new());
        for (at, event) in document.events.iter().enumerate() {
            feed(&mut machine, &document, event);
            let so_far = Document {
                events: document.events[..=at].to_vec(),
                complete: false,
                ..document.clone()
            };
            let windows = Machine::windows(&so_far, &Workings::new());
            // Callers hold the call at least; a fresh top window holds nothing.
            let is_fresh = machine.window().is_some_and(|top| top.pieces.len() == top.header);
            let open = machine.depth() - usize::from(is_fresh);
            let finished = windows.len() - open;
            prop_assert_eq!(&windows[..finished], &whole[..finished]);
            if !is_fresh {
                prop_assert_eq!(machine.window(), windows.get(finished));
            }
        }
    }

    /// Windows hold every event once, whatever workings there are, and every
    /// step once.
    #[test]
    fn windows_predict_every_event(document in document(), worked in vec(0..40_usize, 0..8)) {
        let steps = |at| (at, vec![Arc::from("1 + 1 = 2"); 1 + at % 3]);
        let first = |at: &usize| *at > 0 && *at < document.events.len();
        let workings: Workings = worked.into_iter().filter(first).map(steps).collect();
        let windows = Machine::windows(&document, &workings);
        let found = predicted(&windows);
        let written = windows.iter().flat_map(|window| &window.pieces);
        let written = written.filter(|word| matches!(word.piece, Piece::Step(_)));
        prop_assert_eq!(written.count(), workings.values().map(Vec::len).sum::<usize>());
        let count = |kind| document.events.iter().filter(|e| e.kind == kind).count();
        let mut expected = [0, 1, 2, 3, 4, 5, 6].map(|kind| count(KINDS[kind]));
        // The entry of the run has no caller that could have predicted it.
        expected[0] -= document.events.first().map_or(0, |_| 1);
        prop_assert_eq!(found, expected);
    }
}

/// The promise of the dialect: the context is bounded by the program, not by
/// the length of the run.
#[test]
fn a_long_run_needs_no_longer_windows() {
    let longest = |rounds: u32| {
        let mut events = vec![Event {
            kind: EventKind::Call,
            activation: 0,
            function: 0,
            line: 0,
            locals: Vec::new(),
            value: None,
        }];
        for round in 0..rounds {
            for line in [1, 2] {
                let local = |name: &str, value: u32| Local {
                    name: name.into(),
                    value: Value::new((value % 10).to_string()),
                };
                let locals = vec![local("i", round), local("s", round * 7 + line)];
                events.push(Event {
                    kind: EventKind::Line,
                    line,
                    locals,
                    ..events[0].clone()
                });
            }
        }
        let document = Document {
            source: "for i in it:\n    s = i\n".to_owned(),
            functions: functions(),
            events,
            complete: false,
        };
        let windows = Machine::windows(&document, &Workings::new());
        windows.iter().map(|window| window.pieces.len()).max()
    };
    assert_eq!(longest(5_000), longest(100));
}

/// The version in the text is the one the specification shows.
#[test]
fn the_version_is_the_specified_one() {
    assert!(include_str!("../specs/live.md").contains(&format!("<|live|>{VERSION}\n")));
}
