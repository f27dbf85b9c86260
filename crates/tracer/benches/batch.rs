//! Times isolated programs and calls through a warm interpreter; prints one JSON object.
//!
//! `cargo bench -p cwm-tracer --bench batch [-- PYTHON]`. Wall time, since the work alternates between our
//! process and the interpreter's and so takes one core at a time. Each figure is the median of rounds; the
//! lowest is told beside it. `bare_fork_ms` is what any isolated program costs on this machine before it does
//! anything: an interpreter with nothing loaded that forks, whose child ends at once, and that waits for it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cwm_trace::Entry;
use cwm_tracer::{
    Batch, BatchOptions, Call, Collector, Interpreter, Limits, Outcome, Program, Request, Worker,
};

/// Counts a letter in a word: about 20 events.
const COUNT: &str = "\
total = 0
for letter in 'strawberry':
    if letter == 'r':
        total += 1
print(total)
";

/// A call of it has 5 events or 6.
const SMALL: &str = "\
def f(a, b):
    c = a + b
    if c > 10:
        c = c * 2
    return c
";

/// The same for texts.
const TEXTS: &str = "\
def f(a, b):
    c = a + b
    if len(c) > 3:
        c = c * 2
    return c
";

const PROGRAMS: usize = 200;
const CALLS: usize = 4000;
const ROUNDS: usize = 7;

fn main() {
    let choice = std::env::args()
        .nth(1)
        .filter(|text| !text.starts_with('-'));
    let py = Interpreter::find(choice.as_deref().map(Path::new)).expect("an interpreter");
    let (mut programs, mut calls, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    let mut forks = Vec::new();
    let mut worker = Worker::start(&py, &Limits::default()).expect("it starts");
    let native = worker.collector() == Collector::Native;
    let mut batch = Batch::start(&py, BatchOptions::default()).expect("it starts");
    let mut events = 0;
    for _ in 0..ROUNDS {
        forks.push(bare_fork_ms(&py));
        programs.push(isolated(&mut worker).as_secs_f64() * 1e3 / PROGRAMS as f64);
        let (time, seen) = small_calls(&mut batch, SMALL, |n| format!("{n}, {}", n % 7));
        calls.push(CALLS as f64 / time.as_secs_f64());
        let (time, _) = small_calls(&mut batch, TEXTS, |n| format!("'a{n}', '{}'", n % 7));
        texts.push(CALLS as f64 / time.as_secs_f64());
        events = seen;
    }
    forks.sort_by(f64::total_cmp);
    programs.sort_by(f64::total_cmp);
    calls.sort_by(f64::total_cmp);
    texts.sort_by(f64::total_cmp);
    println!(
        "{{\"python\": \"{}\", \"native\": {native}, \"rounds\": {ROUNDS}, \
         \"isolated_program_ms\": {:.3}, \"isolated_program_lowest_ms\": {:.3}, \
         \"bare_fork_ms\": {:.3}, \"bare_fork_lowest_ms\": {:.3}, \
         \"calls_per_second\": {:.0}, \"calls_per_second_highest\": {:.0}, \
         \"events_per_call\": {:.2}, \"calls_with_texts_per_second\": {:.0}}}",
        py.version_text(),
        programs[ROUNDS / 2],
        programs[0],
        forks[ROUNDS / 2],
        forks[0],
        calls[ROUNDS / 2],
        calls[ROUNDS - 1],
        events as f64 / CALLS as f64,
        texts[ROUNDS / 2],
    );
}

/// Milliseconds of one fork, end and wait, as the interpreter itself times them.
fn bare_fork_ms(py: &Interpreter) -> f64 {
    let script = format!(
        "\
import os, time
began = time.perf_counter()
for _ in range({PROGRAMS}):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
print((time.perf_counter() - began) * 1e3 / {PROGRAMS})
"
    );
    let run = Command::new(&py.path)
        .args(["-c", &script])
        .output()
        .expect("it runs");
    let text = String::from_utf8(run.stdout).expect("a number");
    text.trim().parse().expect("a number")
}

/// A process, a trace and its end for each program.
fn isolated(worker: &mut Worker) -> Duration {
    let request = Request {
        file: "program.py",
        source: COUNT,
        entry: Entry::Module,
        stdin: b"",
        arguments: &[],
    };
    let began = Instant::now();
    for _ in 0..PROGRAMS {
        let trace = worker.trace(&request).expect("a trace");
        assert!(trace.events.len() > 20 && trace.stdout == "3\n");
    }
    began.elapsed()
}

/// Many calls of one program, each with its arguments, and how many events they had.
fn small_calls(
    batch: &mut Batch,
    source: &str,
    args: impl Fn(usize) -> String,
) -> (Duration, usize) {
    let program = Program {
        file: "program.py",
        source,
        stdin: b"",
        arguments: &[],
    };
    let call = |n: usize| Call {
        function: "f".to_owned(),
        args: args(n),
    };
    let calls: Vec<_> = (0..CALLS).map(call).collect();
    let began = Instant::now();
    let runs = batch.calls(&program, &calls).expect("runs");
    let time = began.elapsed();
    assert!(
        runs.iter()
            .all(|run| matches!(run.outcome, Outcome::Finished))
    );
    let events = runs.iter().filter_map(|run| run.kept());
    (time, events.map(|trace| trace.events.len()).sum())
}
