//! The `nd` dialect on real runs of generated programs: every sample is read back, and its states are
//! those that a plain tree of the recorded events has.

use std::collections::{BTreeMap, HashMap};

use cwm_data::{Level, generate};
use cwm_trace::cwm::{Frame, Locals};
use cwm_trace::nd::{
    Action, Direction, Document, Exit, Extent, InverseAction, InverseExit, InverseFrame, Run,
    Sampling, Shown, Stop, parse, render, sample, with_main,
};
use cwm_trace::{Entry, Event, EventKind, Trace, cut};
use cwm_tracer::{Batch, BatchOptions, Interpreter, Limits, Program};

const SEED: u64 = 2603;
const PROGRAMS: u64 = 400;

/// An interpreter that makes runs; `None` where there is none.
fn batch() -> Option<Batch> {
    let Ok(interpreter) = Interpreter::find(None) else {
        eprintln!("SKIPPED: no Python interpreter");
        return None;
    };
    let options = BatchOptions {
        limits: Limits {
            max_events: 20_000,
            ..Limits::default()
        },
        ..BatchOptions::default()
    };
    Some(Batch::start(&interpreter, options).expect("it starts"))
}

/// Recorded runs of generated programs.
fn traces(batch: &mut Batch) -> Vec<Trace> {
    let level = |index| Level::ALL[index as usize % Level::ALL.len()];
    let programs: Vec<_> = (0..PROGRAMS)
        .map(|index| generate(SEED, index, level(index)))
        .collect();
    let requests: Vec<_> = programs
        .iter()
        .map(|program| (program.source.as_str(), program.entry.clone()))
        .collect();
    let runs = batch.programs("program.py", &requests).expect("runs");
    runs.into_iter().filter_map(|run| run.trace).collect()
}

/// A state: the event, whether it stands behind the calls it made, and the states one level below it.
struct Node {
    event: usize,
    has_called: bool,
    /// Whether it ends its scope, in the direction of the tree.
    closes: bool,
    below: Vec<Node>,
}

/// Reads one run of a scope, from its call to where it is left, with what it calls.
fn read_scope(events: &[Event], at: &mut usize, level: &mut Vec<Node>) {
    let mut is_first = true;
    while let Some(event) = events.get(*at) {
        if event.kind.enters() && !is_first {
            let caller = level.last_mut().expect("a caller");
            read_scope(events, at, &mut caller.below);
            continue;
        }
        is_first = false;
        level.push(Node {
            event: *at,
            has_called: false,
            closes: event.kind.leaves(),
            below: Vec::new(),
        });
        *at += 1;
        if event.kind.leaves() {
            return;
        }
    }
}

fn forward_tree(events: &[Event]) -> Vec<Node> {
    let (mut roots, mut at) = (Vec::new(), 0);
    while at < events.len() {
        read_scope(events, &mut at, &mut roots);
    }
    roots
}

/// The tree of the way back, of that of the way forward.
fn inverse_tree(events: &[Event], level: &[Node]) -> Vec<Node> {
    let mut inverse = Vec::new();
    for node in level.iter().rev() {
        if !node.below.is_empty() {
            inverse.push(Node {
                event: node.event,
                has_called: true,
                closes: false,
                below: inverse_tree(events, &node.below),
            });
        }
        inverse.push(Node {
            event: node.event,
            has_called: false,
            closes: events[node.event].kind.enters(),
            below: Vec::new(),
        });
    }
    inverse
}

/// A place in a tree: from the root on, which node of each level.
type Path = Vec<usize>;

fn level_of<'t>(roots: &'t [Node], path: &[usize]) -> &'t [Node] {
    let above = &path[..path.len() - 1];
    above
        .iter()
        .fold(roots, |level, &place| &level[place].below)
}

fn node<'t>(roots: &'t [Node], path: &[usize]) -> &'t Node {
    &level_of(roots, path)[*path.last().expect("a node")]
}

fn over(roots: &[Node], path: &Path) -> Option<Path> {
    let mut path = path.clone();
    while let Some(place) = path.pop() {
        path.push(place + 1);
        if level_of(roots, &path).len() > place + 1 {
            return Some(path);
        }
        path.pop();
    }
    None
}

fn into(roots: &[Node], path: &Path) -> Option<Path> {
    if node(roots, path).below.is_empty() {
        return over(roots, path);
    }
    Some([&path[..], &[0]].concat())
}

fn close(roots: &[Node], path: &Path) -> Option<Path> {
    let (&place, above) = path.split_last()?;
    let later = &level_of(roots, path)[place + 1..];
    let steps = later.iter().position(|node| node.closes)?;
    Some([above, &[place + 1 + steps]].concat())
}

/// The lines of a program with their ends.
fn line(trace: &Trace, event: &Event) -> String {
    // The call of a module shows the first line that runs.
    let is_module = trace.entry == Entry::Module && event.activation == 0;
    let number = match is_module && event.kind == EventKind::Call {
        true => trace
            .events
            .iter()
            .find(|e| e.kind == EventKind::Line)
            .map_or(0, |e| e.line),
        false => event.line,
    };
    let line = trace.source.lines().nth(number as usize - 1);
    line.map_or_else(String::new, |line| format!("{line}\n"))
}

fn state(event: &Event) -> BTreeMap<&str, &str> {
    let locals = event.locals.iter();
    locals
        .map(|local| (&*local.name, &*local.value.repr))
        .collect()
}

fn map(locals: &Locals) -> BTreeMap<&str, &str> {
    locals
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect()
}

fn value(event: &Event) -> &str {
    match &event.value {
        Some(value) if event.kind != EventKind::Unwind => &value.repr,
        _ => "None",
    }
}

fn check_frame(trace: &Trace, event: &Event, frame: &Frame) {
    assert_eq!(**frame.src(), *line(trace, event), "{event:?}");
    match frame {
        Frame::Call { locals, .. } => {
            assert!(event.kind.enters(), "{event:?}");
            assert_eq!(map(locals), state(event));
        }
        Frame::Line { locals, .. } => {
            assert_eq!(event.kind, EventKind::Line);
            assert_eq!(map(locals), state(event));
        }
        Frame::Return { value: given, .. } => {
            assert!(event.kind.leaves(), "{event:?}");
            assert_eq!(**given, *value(event));
        }
        Frame::Exception { value: given, .. } => {
            assert_eq!(event.kind, EventKind::Exception);
            assert_eq!(**given, *value(event));
        }
    }
}

/// How often something was seen, by name.
#[derive(Default)]
struct Seen(BTreeMap<&'static str, usize>);

impl Seen {
    fn count(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    fn at_least(&self, names: &[&'static str], count: usize) {
        for name in names {
            let found = self.0.get(name).copied().unwrap_or(0);
            assert!(found >= count, "{name}: {found} of {count}; {:?}", self.0);
        }
    }
}

/// The document, which must come back from its text.
fn read_back(document: &Document) -> Document {
    let parsed = parse(&render(document));
    assert_eq!(parsed.broken, None);
    assert_eq!(&parsed.document, document);
    parsed.document
}

fn check_forward(trace: &Trace, document: &Document, seen: &mut Seen) {
    let Some(Run::Forward(walk)) = &document.run else {
        panic!("not a forward run");
    };
    assert_eq!(document.context, trace.source);
    let roots = forward_tree(&trace.events);
    let go = |path: &Path, action: &Action| match action {
        Action::StepInto => into(&roots, path),
        Action::StepOver => over(&roots, path),
        Action::StepReturn => close(&roots, path),
        Action::Continue => None,
        Action::Breakpoint(wanted) => {
            let is_it = |path: &Path| {
                let event = &trace.events[node(&roots, path).event];
                event.kind == EventKind::Line && *line(trace, event) == **wanted
            };
            std::iter::successors(into(&roots, path), |path| into(&roots, path)).find(is_it)
        }
    };
    let mut path = vec![0];
    check_frame(trace, &trace.events[0], &walk.start);
    for (action, frame) in &walk.moves {
        seen.count(action.token());
        path = go(&path, action).expect("a state");
        check_frame(trace, &trace.events[node(&roots, &path).event], frame);
    }
    match &walk.stop {
        Stop::Exit(action, exit) => {
            seen.count(exit.token());
            assert_eq!(go(&path, action), None);
            assert_eq!(Some(*exit), Exit::of(&trace.end));
        }
        // Nobody knows what comes behind the last event of a run that was cut.
        Stop::Here => assert!(Exit::of(&trace.end).is_none() && into(&roots, &path).is_none()),
        Stop::Asked(_) => panic!("a question"),
    }
}

/// Reads the variables that a frame of the way back shows against the event. `later` is the state that its
/// scope has shown before.
fn check_shown<'t>(
    now: BTreeMap<&'t str, &'t str>,
    shown: &Shown,
    later: &mut Option<BTreeMap<&'t str, &'t str>>,
) {
    let listed = map(&shown.listed);
    let mut rest = false;
    for (name, value) in &now {
        let is_new = later
            .as_ref()
            .is_some_and(|later| later.get(name) != Some(value));
        rest |= !is_new;
        assert_eq!(listed.get(name), is_new.then_some(value), "{name}");
    }
    assert!(listed.keys().all(|name| now.contains_key(name)));
    assert_eq!(shown.rest, rest);
    *later = Some(now);
}

fn check_inverse(trace: &Trace, document: &Document, seen: &mut Seen) {
    let Some(Run::Inverse(walk)) = &document.run else {
        panic!("not an inverse run");
    };
    assert_eq!(document.context, trace.source);
    let roots = inverse_tree(&trace.events, &forward_tree(&trace.events));
    let go = |path: &Path, action: &InverseAction| match action {
        InverseAction::StepInto => into(&roots, path),
        InverseAction::StepOver => over(&roots, path),
        InverseAction::StepCall => close(&roots, path),
    };
    let mut scopes: Vec<Option<BTreeMap<&str, &str>>> = Vec::new();
    let mut check = |node: &Node, frame: &InverseFrame| {
        let event = &trace.events[node.event];
        let (src, called) = match frame {
            InverseFrame::LineCall { src, shown } => {
                // An exception has no locals: those of its scope before.
                let before = trace.events[..=node.event].iter().rev().find(|other| {
                    other.activation == event.activation && other.kind != EventKind::Exception
                });
                let scope = scopes.last_mut().expect("a scope");
                check_shown(state(before.expect("a state")), shown, scope);
                (src, true)
            }
            InverseFrame::Line { src, shown } => {
                assert_eq!(event.kind, EventKind::Line);
                check_shown(state(event), shown, scopes.last_mut().expect("a scope"));
                (src, false)
            }
            InverseFrame::Call { src, locals } => {
                assert!(event.kind.enters(), "{event:?}");
                assert_eq!(map(locals), state(event));
                scopes.pop();
                (src, false)
            }
            InverseFrame::Return { src, value: given } => {
                assert!(event.kind.leaves(), "{event:?}");
                assert_eq!(**given, *value(event));
                scopes.push(None);
                (src, false)
            }
            InverseFrame::Exception { src, value: given } => {
                assert_eq!(event.kind, EventKind::Exception);
                assert_eq!(**given, *value(event));
                (src, false)
            }
        };
        assert_eq!(called, node.has_called);
        assert_eq!(**src, *line(trace, event));
    };
    let mut path = vec![0];
    check(node(&roots, &path), &walk.start);
    for (action, frame) in &walk.moves {
        seen.count(action.token());
        path = go(&path, action).expect("a state");
        check(node(&roots, &path), frame);
    }
    let Stop::Exit(action, InverseExit::Entry) = &walk.stop else {
        panic!("no exit: {:?}", walk.stop);
    };
    assert_eq!(go(&path, action), None);
}

fn sampling(direction: Direction) -> Sampling {
    Sampling {
        direction,
        extent: Extent::Run,
        seed: SEED,
    }
}

/// Samples documents of a run and of some of its calls, in both directions, and checks them.
fn check_all(trace: &Trace, numbers: &mut impl Iterator<Item = u64>, seen: &mut Seen) {
    let calls = (0..2).filter_map(|number| cut::call(trace, number));
    for part in std::iter::once(trace.clone()).chain(calls) {
        let wrapped = with_main(&part);
        let kinds = part.events.iter().map(|event| event.kind.name());
        kinds.for_each(|kind| seen.count(kind));
        for number in numbers.by_ref().take(4) {
            let document = sample(&part, &sampling(Direction::Forward), number);
            check_forward(&wrapped, &read_back(&document), seen);
            let document = sample(&part, &sampling(Direction::Inverse), number);
            let document = read_back(&document);
            if part.end.is_complete() {
                check_inverse(&part, &document, seen);
            }
        }
    }
}

#[test]
fn samples_are_what_a_tree_of_the_events_says() {
    let Some(mut batch) = batch() else { return };
    let mut seen = Seen::default();
    let mut numbers = 0..;
    for trace in &traces(&mut batch) {
        check_all(trace, &mut numbers, &mut seen);
    }
    let actions = [
        Action::StepInto,
        Action::StepOver,
        Action::StepReturn,
        Action::Breakpoint("".into()),
    ];
    seen.at_least(&actions.map(|action| action.token()), 100);
    seen.at_least(&InverseAction::ALL.map(InverseAction::token), 100);
    seen.at_least(&[Exit::Normal.token(), Exit::Error.token()], 3);
    seen.at_least(&EventKind::ALL.map(EventKind::name), 10);
}

/// What generated programs do not do: coroutines, context managers, generators that are closed.
#[test]
fn samples_of_a_program_with_everything_are_right_too() {
    let Some(mut batch) = batch() else { return };
    let program = Program {
        file: "torture.py",
        source: include_str!("../../tracer/tests/torture.py"),
        stdin: b"",
        arguments: &[],
    };
    let run = batch.script(&program).expect("a run");
    let mut seen = Seen::default();
    let mut numbers = 0..200;
    let trace = run.trace.expect("a trace");
    assert!(trace.end.is_complete(), "{:?}", trace.end);
    while !numbers.is_empty() {
        check_all(&trace, &mut numbers, &mut seen);
    }
    seen.at_least(&EventKind::ALL.map(EventKind::name), 100);
}

/// The `main` that a call is given does what it would have done. Only what the call leaves to be cleaned
/// up behind it, such as a generator that is closed, is not in the recording of the call alone.
#[test]
fn main_is_what_python_runs() {
    let Some(mut batch) = batch() else { return };
    let (mut compared, mut equal) = (0, 0);
    for trace in &traces(&mut batch) {
        let wrapped = with_main(trace);
        if wrapped.entry == trace.entry || !trace.end.is_complete() {
            continue;
        }
        let request = (wrapped.source.as_str(), wrapped.entry.clone());
        let mut runs = batch.programs("program.py", &[request]).expect("a run");
        let real = runs.pop().and_then(|run| run.trace).expect("a trace");
        assert_eq!(wrapped.end, real.end);
        let (made, real) = (events(&wrapped), events(&real));
        // `main` calls, and then it returns, or has an exception and is left by it.
        let end = made
            .iter()
            .rev()
            .take_while(|(event, ..)| event.activation == 0)
            .count();
        let (start, end) = made.split_at(made.len() - end);
        assert!(
            real.starts_with(start),
            "{start:?}\n{real:?}\n{}",
            wrapped.source
        );
        assert!(real.ends_with(end), "{end:?}\n{real:?}\n{}", wrapped.source);
        let between = &real[start.len()..real.len() - end.len()];
        assert!(
            between.iter().all(|(event, ..)| event.activation > 0),
            "{between:?}"
        );
        compared += 1;
        equal += usize::from(between.is_empty());
    }
    assert!(compared > 100, "only {compared} calls were compared");
    assert!(equal * 10 > compared * 9, "{equal} of {compared} are equal");
}

/// The events, with the functions by their names.
fn events(trace: &Trace) -> Vec<(Event, &str, u32)> {
    let mut numbers = HashMap::new();
    let one = |event: &Event| {
        let function = &trace.functions[event.function as usize];
        let next = numbers.len() as u32;
        let number = *numbers.entry(event.function).or_insert(next);
        let event = Event {
            function: number,
            ..event.clone()
        };
        (event, function.name.as_str(), function.first_line)
    };
    trace.events.iter().map(one).collect()
}
