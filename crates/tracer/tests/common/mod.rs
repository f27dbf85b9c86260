//! What the tests share: every interpreter of the machine, and a compact text of a trace.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use cwm_trace::{Entry, Event, EventKind, Trace};
use cwm_tracer::{Interpreter, Limits, Request, Worker};

/// The minor versions of CPython 3 that the tests look for.
const WANTED: [u8; 6] = [8, 9, 10, 11, 12, 13];

/// One interpreter for each version found; versions that are absent are named on standard error.
pub(crate) fn interpreters() -> &'static [Interpreter] {
    static FOUND: OnceLock<Vec<Interpreter>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut found = Vec::new();
        for minor in WANTED {
            let candidates = candidates(minor);
            let works = |path: &PathBuf| {
                let py = Interpreter::find(Some(path)).ok()?;
                (py.version.1 == minor).then_some(py)
            };
            match candidates.iter().find_map(works) {
                Some(py) => found.push(py),
                None => eprintln!("SKIPPED: no CPython 3.{minor} on this machine"),
            }
        }
        assert!(
            !found.is_empty(),
            "no CPython of 3.8 to 3.13 on this machine"
        );
        found
    })
}

fn candidates(minor: u8) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from(format!("python3.{minor}"))];
    let root = Command::new("pyenv").arg("root").output();
    let root = root.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    let versions = root.map(|root| Path::new(&root).join("versions"));
    for entry in versions
        .and_then(std::fs::read_dir)
        .into_iter()
        .flatten()
        .flatten()
    {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(&format!("3.{minor}."))
        {
            paths.push(entry.path().join("bin/python3"));
        }
    }
    paths.push(PathBuf::from("python3"));
    paths
}

/// The interpreter that tests use where the version does not matter.
pub(crate) fn any() -> &'static Interpreter {
    let all = interpreters();
    all.iter().find(|py| py.version.1 == 11).unwrap_or(&all[0])
}

/// Limits short enough for tests of what never ends.
pub(crate) fn limits() -> Limits {
    Limits {
        memory_bytes: 1 << 30,
        ..Limits::default()
    }
}

/// The module run as a script.
pub(crate) fn module(source: &str) -> Request<'_> {
    Request {
        file: "program.py",
        source,
        entry: Entry::Module,
        stdin: b"",
        arguments: &[],
    }
}

/// One call in the module.
pub(crate) fn call<'a>(source: &'a str, function: &str, args: &str) -> Request<'a> {
    let entry = Entry::Call {
        function: function.to_owned(),
        args: args.to_owned(),
    };
    Request {
        file: "program.py",
        source,
        entry,
        stdin: b"",
        arguments: &[],
    }
}

/// Runs `check` on the trace of the request by every interpreter of the machine.
pub(crate) fn on_each(request: &Request<'_>, check: impl Fn(&Interpreter, &Trace)) {
    for (py, worker) in interpreters().iter().zip(workers()) {
        // A failed test leaves nothing behind in a worker.
        let mut worker = worker.lock().unwrap_or_else(PoisonError::into_inner);
        let trace = worker
            .trace(request)
            .unwrap_or_else(|e| panic!("{:?}: {e}", py.version));
        drop(worker);
        verify(&trace);
        check(py, &trace);
    }
}

/// One warm worker for each interpreter, for all tests of a file.
fn workers() -> &'static [Mutex<Worker>] {
    static WORKERS: OnceLock<Vec<Mutex<Worker>>> = OnceLock::new();
    WORKERS.get_or_init(|| {
        let start = |py| Mutex::new(Worker::start(py, &limits()).expect("the worker starts"));
        interpreters().iter().map(start).collect()
    })
}

/// Stack discipline, which every trace must keep: an activation enters once before anything else,
/// and does nothing while suspended or after its end.
pub(crate) fn verify(trace: &Trace) {
    let mut running: Vec<bool> = Vec::new();
    for (at, event) in trace.events.iter().enumerate() {
        let index = event.activation as usize;
        let state = running.get(index).copied();
        match event.kind {
            EventKind::Call => {
                assert_eq!(
                    index,
                    running.len(),
                    "event {at}: activations are numbered in order"
                );
                running.push(true);
            }
            EventKind::Resume => {
                assert_eq!(
                    state,
                    Some(false),
                    "event {at}: resumed while not suspended"
                );
                running[index] = true;
            }
            kind => {
                assert_eq!(
                    state,
                    Some(true),
                    "event {at}: {kind:?} of one that does not run"
                );
                running[index] = !kind.leaves();
            }
        }
        assert!((event.function as usize) < trace.functions.len());
        let lines = trace.text_of_file(trace.file_of(event)).lines().count() as u32;
        assert!(
            (1..=lines).contains(&event.line),
            "event {at} is on line {}",
            event.line
        );
        assert_eq!(event.value.is_some(), has_value(event.kind), "event {at}");
    }
    if trace.end.is_complete() {
        let open = running.iter().take(1).any(|&runs| runs);
        assert!(!open, "the entry ended");
    }
}

fn has_value(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Return | EventKind::Yield | EventKind::Exception
    )
}

/// One line for each event: kind, function, line, then locals or value with attributes.
pub(crate) fn text(trace: &Trace) -> String {
    trace
        .events
        .iter()
        .map(|event| line(trace, event) + "\n")
        .collect()
}

pub(crate) fn line(trace: &Trace, event: &Event) -> String {
    let kind = format!("{:?}", event.kind).to_lowercase();
    let name = &trace.functions[event.function as usize].name;
    let mut line = format!("{kind} {name}#{}:{}", event.activation, event.line);
    for local in &event.locals {
        line += &format!(" {}={}", local.name, local.value.detailed());
    }
    if let Some(value) = &event.value {
        line += &format!(" -> {}", value.detailed());
    }
    line
}
