//! What is made from a recording directly is what is made from its trace.

mod common;

use common::{any, call, limits, module};
use cwm_trace::cwm::{Document, render};
use cwm_tracer::{Limits, Request, Worker};

fn same(request: &Request<'_>) {
    let mut worker = Worker::start(any(), &limits()).expect("it starts");
    let recording = worker.record(request).expect("a recording");
    let trace = recording.trace();
    assert_eq!(trace.events.len(), recording.events());
    let wanted = render(&Document::from_trace(&trace));
    let found = recording.cwm();
    let differing = wanted.bytes().zip(found.bytes()).position(|(a, b)| a != b);
    let around =
        |text: &str, at: usize| text.get(at.saturating_sub(80)..at + 80).map(str::to_owned);
    let shown = differing.map(|at| (around(&wanted, at), around(&found, at)));
    assert!(shown.is_none(), "{shown:?}");
    assert_eq!(wanted.len(), found.len());
}

#[test]
fn of_the_torture_files() {
    for source in [
        include_str!("torture.py"),
        include_str!("torture_values.py"),
        include_str!("torture_match.py"),
        include_str!("../benches/programs/algos.py"),
    ] {
        same(&module(source));
    }
    let algos = include_str!("../benches/programs/algos.py");
    same(&call(algos, "run", "2"));
}

/// Marks, separators and unchanged values in every place.
#[test]
fn of_texts_that_look_like_the_format() {
    let source = "\
def f(a, b):
    c = '..'
    c = '<|frame_sep|>'  # <|line_sep|>
    a = a + '\\n'
    del b
    b = 'a'; c = c
    return '\u{e9}', c
f('x', 'y')
class K:
    x = 1
    y = x
    del x
def g():
    x = yield 1
    y = yield x
    raise KeyError(y)
i = g()
next(i)
i.send('..')
j = g()
next(j)
i.close()
try:
    next(j)
    next(j)
except KeyError:
    pass
";
    same(&module(source));
}

#[test]
fn of_a_run_that_was_cut() {
    let few = Limits {
        max_events: 57,
        ..limits()
    };
    let mut worker = Worker::start(any(), &few).expect("it starts");
    let source = "def f(n):\n    return f(n + 1)\nf(0)\n";
    let recording = worker.record(&module(source)).expect("a recording");
    let text = recording.cwm();
    assert_eq!(text, render(&Document::from_trace(&recording.trace())));
    assert!(!text.contains("end_of_text"));
}
