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
    let limits = Limits {
        max_events: 100_000,
        ..limits()
    };
    let mut fewest = usize::MAX;
    for py in interpreters() {
        if py.version.1 < oldest {
            eprintln!("SKIPPED: {:?} is older than 3.{oldest}", py.version);
            continue;
        }
        let expected = expected(py, source);
        fewest = fewest.min(expected.len());
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
    }
    fewest
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
fn on_patterns() {
    equals_the_oracle(MATCH, 10);
}
