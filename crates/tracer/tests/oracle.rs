//! The collector against the oracle (`oracle.py`), event by event, on every CPython of the machine.

mod common;

use std::fs;
use std::process::Command;

use common::{interpreters, limits, module, verify};
use cwm_trace::{Event, EventKind, Trace};
use cwm_tracer::{Interpreter, Limits, Mode, Values, Worker};

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle.py");
const TORTURE: &str = include_str!("torture.py");
const VALUES: &str = include_str!("torture_values.py");
const TABLES: &str = include_str!("torture_tables.py");
/// Needs 3.10.
const MATCH: &str = include_str!("torture_match.py");

/// What the oracle says of a program.
fn expected(py: &Interpreter, source: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let (program, output) = (folder.path().join("program.py"), folder.path().join("out"));
    fs::write(&program, source).expect("the program is written");
    let run = Command::new(&py.path)
        .args(["-s", "-B", "-X", "utf8"])
        .arg(ORACLE)
        .args([&program, &output])
        .env("PYTHONHASHSEED", "0")
        .output()
        .expect("the oracle runs");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{:?}: {said}", py.version);
    let text = fs::read_to_string(output).expect("the oracle has written");
    text.lines().map(str::to_owned).collect()
}

/// An event as the oracle writes it.
fn line(trace: &Trace, event: &Event) -> String {
    let kind = match event.kind {
        EventKind::Call | EventKind::Resume => "call",
        EventKind::Line => "line",
        EventKind::Return | EventKind::Yield | EventKind::Unwind => "return",
        EventKind::Exception => "exception",
    };
    let name = &trace.functions[event.function as usize].name;
    let mut text = format!("{kind} {name}#{}:{}", event.activation, event.line);
    for local in &event.locals {
        text += &format!(" {}={}", local.name, local.value.repr);
    }
    match (&event.value, event.kind) {
        (Some(value), _) => text += &format!(" -> {}", value.repr),
        (None, EventKind::Unwind) => text += " -> None",
        (None, _) => {}
    }
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

/// Compares on every interpreter of a version from `oldest` on, in both native modes; gives the fewest
/// events that a run had.
fn equals_the_oracle(source: &str, oldest: u8) -> usize {
    let mut fewest = usize::MAX;
    for py in interpreters() {
        if py.version.1 < oldest {
            eprintln!("SKIPPED: {:?} is older than 3.{oldest}", py.version);
            continue;
        }
        fewest = fewest.min(equals_the_oracle_on(py, source));
    }
    fewest
}

/// The same on one interpreter.
fn equals_the_oracle_on(py: &Interpreter, source: &str) -> usize {
    let limits = Limits {
        max_events: 100_000,
        timeout: std::time::Duration::from_secs(120),
        ..limits()
    };
    let expected = expected(py, source);
    for mode in [Mode::Direct, Mode::Api] {
        let mut worker = Worker::start_in(py, &limits, mode, Values::Repr).expect("it starts");
        let trace = worker.trace(&module(source)).expect("a trace");
        verify(&trace);
        let found: Vec<_> = trace.events.iter().map(|e| line(&trace, e)).collect();
        let differing = expected.iter().zip(&found).position(|(a, b)| a != b);
        if let Some(at) = differing {
            panic!(
                "{:?} {:?}, event {at}:\n  oracle {}\n  native {}",
                py.version,
                worker.mode(),
                expected[at],
                found[at]
            );
        }
        assert_eq!(expected.len(), found.len(), "{:?} {mode:?}", py.version);
    }
    expected.len()
}

#[test]
fn on_the_torture_file() {
    let events = equals_the_oracle(TORTURE, 8);
    assert!(events >= 360, "only {events} events");
}

#[test]
fn on_values_that_hide_their_changes() {
    let events = equals_the_oracle(VALUES, 8);
    assert!(events >= 200, "only {events} events");
}

#[test]
fn on_tables_that_change_in_one_place() {
    let events = equals_the_oracle(TABLES, 8);
    assert!(events >= 5_000, "only {events} events");
}

#[test]
fn on_patterns() {
    equals_the_oracle(MATCH, 10);
}

/// The encoder in plain Python, the C encoder switched off: nested generators, closures with many
/// variables, long values. It does not look for circles, for which it would hold addresses in variables.
#[test]
fn on_the_json_encoder_of_the_standard_library() {
    if std::env::var_os("CWM_SLOW_TESTS").is_none() {
        eprintln!("SKIPPED: set CWM_SLOW_TESTS=1 to compare on the json encoder");
        return;
    }
    let run = "
c_make_encoder = c_encode_basestring = c_encode_basestring_ascii = None
encode_basestring, encode_basestring_ascii = py_encode_basestring, py_encode_basestring_ascii
records = [
    {'id': n, 'name': 'näme %d' % n, 'tags': ['a', None, n * 0.5], 'in': {'deep': [{'x': (n, True)}]}}
    for n in range(12)
]
text = JSONEncoder(check_circular=False, sort_keys=True).encode(records)
";
    for py in interpreters() {
        let find = "import json.encoder; print(json.encoder.__file__)";
        let output = Command::new(&py.path).args(["-c", find]).output();
        let path = String::from_utf8(output.expect("it runs").stdout).expect("a path");
        let encoder = fs::read_to_string(path.trim()).expect("the encoder");
        let events = equals_the_oracle_on(py, &format!("{encoder}{run}"));
        assert!(events > 4_000, "{:?}: only {events} events", py.version);
    }
}
