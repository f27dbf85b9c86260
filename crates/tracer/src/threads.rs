//! Traces of the threads that a program has started, made from their logs.

use cwm_trace::{End, Entry, EventKind, Trace};

use crate::segment::Segment;

/// The trace of one thread of a run whose main thread has the trace `main`; `of_process` says how the
/// process ended.
pub(crate) fn trace_of_thread(
    main: &Trace,
    log: Segment,
    of_process: impl FnOnce() -> End,
) -> Trace {
    let end = match &log.end {
        Some(End::Finished) => end_of_events(&log),
        Some(end) => end.clone(),
        None if main.end.is_complete() => {
            End::Crashed("the thread was still running when the program ended".to_owned())
        }
        None => match &main.end {
            // How the main thread ended says nothing of the others, but for what ends them all.
            End::MaxEvents(_) | End::Crashed(_) => {
                End::Crashed("the thread was still running when the recording ended".to_owned())
            }
            _ => of_process(),
        },
    };
    let first = log.events.first();
    let first = first.and_then(|event| log.functions.get(event.function as usize));
    Trace {
        python: main.python.clone(),
        file: main.file.clone(),
        source: main.source.clone(),
        other_files: main.other_files.clone(),
        entry: Entry::Call {
            function: first
                .map(|function| function.name.clone())
                .unwrap_or_default(),
            args: String::new(),
        },
        thread: log.thread,
        functions: log.functions,
        events: log.events,
        end,
        stdout: String::new(),
        stderr: String::new(),
    }
}

/// A thread whose last act was to let an exception through was ended by it.
fn end_of_events(log: &Segment) -> End {
    let is_raised = log
        .events
        .last()
        .is_some_and(|e| e.kind == EventKind::Unwind);
    let errors = log
        .events
        .iter()
        .rev()
        .filter(|e| e.kind == EventKind::Exception);
    let mut errors = errors.filter_map(|event| event.value.as_ref());
    match errors.next() {
        Some(error) if is_raised => End::Raised(error.repr.to_string()),
        _ => End::Finished,
    }
}
