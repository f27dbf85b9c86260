//! Times the making of texts from a recording, by processor time on one core; prints one JSON object.
//!
//! `cargo bench -p cwm-tracer --bench render [-- PYTHON]`. Each figure is the median of rounds; the highest is
//! told beside it.

use std::path::Path;

use cwm_trace::Entry;
use cwm_tracer::{Interpreter, Limits, Recording, Request, Worker};

const ROUNDS: usize = 9;
const WORKLOADS: [(&str, &str, &str); 2] = [
    ("algos", include_str!("programs/algos.py"), "100"),
    ("sudoku", include_str!("programs/sudoku.py"), "1"),
];

fn main() {
    let choice = std::env::args()
        .nth(1)
        .filter(|text| !text.starts_with('-'));
    let py = Interpreter::find(choice.as_deref().map(Path::new)).expect("an interpreter");
    let limits = Limits {
        max_events: 10_000_000,
        ..Limits::default()
    };
    let mut worker = Worker::start(&py, &limits).expect("it starts");
    let mut results = Vec::new();
    for (name, source, times) in WORKLOADS {
        let request = Request {
            file: "program.py",
            source,
            entry: Entry::Call {
                function: "run".to_owned(),
                args: times.to_owned(),
            },
            stdin: b"",
            arguments: &[],
        };
        let recording = worker.record(&request).expect("a recording");
        results.push(measure(name, &recording));
    }
    println!("[{}]", results.join(", "));
}

/// Processor time of this process, which has one thread: other work on the machine hardly changes it.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure is ours, and the clock is one that every Unix has.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Events a second and bytes of text an event.
fn measure(name: &str, recording: &Recording) -> String {
    let events = recording.events();
    let mut rates = Vec::new();
    let mut size = 0;
    for _ in 0..ROUNDS {
        let began = cpu_seconds();
        size = recording.cwm().len();
        rates.push(events as f64 / (cpu_seconds() - began));
    }
    rates.sort_by(f64::total_cmp);
    format!(
        "{{\"workload\": \"{name}\", \"events\": {events}, \"log_bytes_per_event\": {:.2}, \
         \"text_bytes_per_event\": {:.1}, \"cwm_events_per_second\": {:.0}, \
         \"cwm_events_per_second_highest\": {:.0}, \"rounds\": {ROUNDS}}}",
        recording.bytes() as f64 / events as f64,
        size as f64 / events as f64,
        rates[ROUNDS / 2],
        rates[ROUNDS - 1],
    )
}
