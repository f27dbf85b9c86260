//! The native collector against the one in Python: the same traces, to the last byte.

mod common;

use common::{call, interpreters, limits, module, text, verify};
use cwm_trace::Trace;
use cwm_tracer::{Collector, Limits, Mode, Request, Values, Worker};

/// Runs requests in every mode of every interpreter and compares.
fn agree(requests: &[Request<'_>], limits: &Limits) {
    agree_on(Values::Repr, requests, limits);
}

fn agree_on(values: Values, requests: &[Request<'_>], limits: &Limits) {
    for py in interpreters() {
        let mut python = Worker::start_in(py, limits, Mode::Python, values).expect("it starts");
        assert_eq!(python.collector(), Collector::Python);
        let expected: Vec<_> = requests
            .iter()
            .map(|request| python.trace(request).expect("a trace"))
            .collect();
        for mode in [Mode::Direct, Mode::Api] {
            let mut native = Worker::start_in(py, limits, mode, values).expect("it starts");
            if native.mode() != mode {
                eprintln!("SKIPPED: no {mode:?} mode for {:?}", py.version);
                continue;
            }
            for (request, expected) in requests.iter().zip(&expected) {
                let found = native.trace(request).expect("a trace");
                verify(&found);
                let what = format!("{:?} {mode:?} {}", py.version, request.source);
                compare(expected, &found, &what);
            }
        }
    }
}

/// The interpreters whose frames we can read are those of the table, on the system it is for.
#[test]
fn every_known_version_is_read_directly() {
    for py in interpreters() {
        let worker = Worker::start(py, &limits()).expect("it starts");
        if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            assert_eq!(worker.mode(), Mode::Direct, "{:?}", py.version);
        } else {
            eprintln!("SKIPPED: {:?} is not read directly here", py.version);
        }
    }
}

fn compare(expected: &Trace, found: &Trace, what: &str) {
    let (left, right) = (text(expected), text(found));
    let differing = left
        .lines()
        .zip(right.lines())
        .enumerate()
        .find(|(_, (a, b))| a != b);
    assert!(differing.is_none(), "{what}: {differing:#?}");
    assert_eq!(expected.events.len(), found.events.len(), "{what}");
    assert_eq!(expected.end, found.end, "{what}");
    // Where the collector in Python raises a recursion error its own frame is in the traceback.
    if !expected.stderr.contains("RecursionError") {
        assert_eq!(expected.stderr, found.stderr, "{what}");
    }
    assert!(
        expected.events == found.events && expected.functions == found.functions,
        "{what}"
    );
    assert_eq!(expected.stdout, found.stdout, "{what}");
}

const TORTURE: &str = include_str!("torture.py");

#[test]
fn on_the_torture_file() {
    agree(
        &[module(TORTURE), call(TORTURE, "everything", "")],
        &limits(),
    );
}

/// With attributes of objects, with subclasses of builtins, and with texts that are cut.
#[test]
fn on_tables_that_change_in_one_place() {
    let requests = [module(include_str!("torture_tables.py"))];
    let short = Limits {
        max_value_chars: 60,
        ..limits()
    };
    agree(&requests, &limits());
    agree_on(Values::Safe, &requests, &short);
}

#[test]
fn on_objects_that_answer_with_code_of_their_own() {
    let requests = [module(include_str!("torture_strangers.py"))];
    agree_on(Values::Safe, &requests, &limits());
}

/// Where they cannot disturb the collector in Python.
#[test]
fn on_classes_and_functions_that_change() {
    let source = include_str!("torture_strangers.py");
    let some = source.replace("containers(), instances(), ", "");
    agree(&[module(&some)], &limits());
}

#[test]
fn on_values_of_every_kind_and_length() {
    let source = "def f(*vs):\n    w = vs\n    return w\n";
    let values = [
        "0, -1, 2**62, -2**63, 2**63, 2**64, 10**40, 10**5000",
        "0.1, 1e16, 1e-5, -0.0, 1e300, 5e-324, float('nan'), float('-inf')",
        "'', 'a', \"'\", '\"', '\\'\"', '\\n\\r\\t\\\\\\x00\\x1f\\x7f', 'é', '\\udc80', '漢字'",
        "[], (), {}, set(), frozenset(), [1], (1,), {1: 2}, {1}, frozenset({1})",
        "{'a', 'b', 'c'}, {(1, 2): [3, {4: {5}}]}, [[[[[[[]]]]]]]",
        "b'a', range(3), None, True, ..., 1j, int, len, f",
        "'x' * 1996, 'x' * 1999, 'x' * 3000, [1] * 665, [1] * 700, ['a' * 50] * 60",
    ];
    let requests: Vec<_> = values.iter().map(|args| call(source, "f", args)).collect();
    agree(&requests, &limits());
    agree(
        &requests,
        &Limits {
            max_value_chars: 20,
            ..limits()
        },
    );
}

#[test]
fn when_cut_short() {
    let endless = "n = 0\nxs = []\nwhile True:\n    n += 1\n    xs.append(n)\n";
    let deep = "def f(n):\n    return f(n + 1)\nf(0)\n";
    let few = Limits {
        max_events: 500,
        ..limits()
    };
    agree(&[module(endless), module(deep), call(deep, "f", "1")], &few);
    agree(&[module(deep)], &limits());
}

#[test]
fn on_a_log_of_many_windows() {
    let source = "def f(n):\n    s = ''\n    for i in range(n):\n        s = str(i) * 400\n";
    agree(&[call(source, "f", "1000")], &limits());
}
