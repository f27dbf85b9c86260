//! The native collector against the one in Python on generated programs of every level, on every CPython
//! of the machine: the same traces. 10,000 programs with `CWM_SLOW_TESTS=1`, else a few.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use cwm_data::{Level, generate};
use cwm_trace::Trace;
use cwm_tracer::{Error, Interpreter, Limits, Mode, Request, Values, Worker};

const SEED: u64 = 90210;

/// One CPython for each version that is found, by the names under which version managers and systems
/// install them; the others are named.
fn interpreters() -> Vec<Interpreter> {
    let root = std::process::Command::new("pyenv").arg("root").output();
    let root = root.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    let folders = root.map(|root| Path::new(&root).join("versions"));
    let versions: Vec<PathBuf> = folders
        .and_then(std::fs::read_dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin/python3"))
        .collect();
    let mut found = Vec::new();
    for minor in 8..=13 {
        let names = [
            PathBuf::from(format!("python3.{minor}")),
            PathBuf::from("python3"),
        ];
        let works = |path: &PathBuf| Interpreter::find(Some(path)).ok();
        let py = names.iter().chain(&versions).filter_map(works);
        match py.into_iter().find(|py| py.version.1 == minor) {
            Some(py) => found.push(py),
            None => eprintln!("SKIPPED: no CPython 3.{minor} on this machine"),
        }
    }
    assert!(
        !found.is_empty(),
        "no CPython of 3.8 to 3.13 on this machine"
    );
    found
}

#[test]
fn collectors_agree_on_generated_programs() {
    let count = match std::env::var_os("CWM_SLOW_TESTS") {
        Some(_) => 10_000,
        None => {
            eprintln!("SKIPPED: set CWM_SLOW_TESTS=1 for all 10,000 programs; these are 60");
            60
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for py in interpreters() {
        let next = AtomicUsize::new(0);
        let events = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| compare(&py, &next, count, &events));
            }
        });
        let events = events.into_inner();
        assert!(events > count * 5, "only {events} events");
        eprintln!(
            "{count} programs, {events} events: equal on {}",
            py.version_text()
        );
    }
}

fn compare(py: &Interpreter, next: &AtomicUsize, count: usize, events: &AtomicUsize) {
    let limits = Limits {
        max_events: 2_000,
        ..Limits::default()
    };
    let start = |mode| Worker::start_in(py, &limits, mode, Values::Repr).expect("it starts");
    let (mut native, mut python) = (start(Mode::Direct), start(Mode::Python));
    if native.mode() == Mode::Python {
        eprintln!("SKIPPED: no native collector for {}", py.version_text());
        return;
    }
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= count {
            return;
        }
        let level = Level::ALL[index % Level::ALL.len()];
        let program = generate(SEED, index as u64, level);
        let request = Request {
            file: "program.py",
            source: &program.source,
            entry: program.entry.clone(),
            stdin: b"",
            arguments: &[],
        };
        match (native.trace(&request), python.trace(&request)) {
            (Ok(native), Ok(python)) => {
                events.fetch_add(native.events.len(), Ordering::Relaxed);
                equal(&native, &python, index);
            }
            (Err(a), Err(b)) => assert_eq!(a.to_string(), b.to_string()),
            (Err(a @ Error::Channel { .. }), _) | (_, Err(a)) | (Err(a), _) => {
                panic!("program {index}: {a}")
            }
        }
    }
}

fn equal(native: &Trace, python: &Trace, index: usize) {
    let differing = native
        .events
        .iter()
        .zip(&python.events)
        .position(|(a, b)| a != b);
    if let Some(at) = differing {
        let (a, b) = (&native.events[at], &python.events[at]);
        panic!(
            "program {index}, event {at}: {a:#?} {b:#?}\n{}",
            native.source
        );
    }
    assert_eq!(native.events.len(), python.events.len(), "program {index}");
    assert_eq!(native.functions, python.functions, "program {index}");
    assert_eq!(native.end, python.end, "program {index}");
    assert_eq!(native.stdout, python.stdout, "program {index}");
}
