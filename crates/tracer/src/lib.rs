//! Records what real CPython does when it runs a program: every call, line, return and exception of
//! one file, with the values of all locals, as a [`cwm_trace::Trace`].
//!
//! [`trace`] records one run; a [`Worker`] is a warm interpreter that forks for each of many small
//! programs. Either way the program runs in a process of its own, with limits on time, memory, events
//! and output, and whatever it does (raises, exits, loops, recurses or allocates without end) is a
//! `Trace` with the matching [`cwm_trace::End`]. An [`Error`] means that there was nothing to run: no
//! interpreter, a file that is not Python, a missing entry, unusable arguments.
//!
//! A native collector inside the interpreter handles the events. It reads variables from where the
//! interpreter keeps them in memory, at places that are proved each time an interpreter starts; else by
//! the public C API; and where it cannot be had at all, plain Python does its work ([`Mode`]). Objects
//! are shown by their own `repr`, or without running any code of the program ([`Values`]).
//!
//! The program runs with the rights of the user: this crate isolates failures, not malice.

#[cfg(not(unix))]
compile_error!("cwm-tracer needs fork, so a Unix system");

mod batch;
mod channel;
mod error;
mod interpreter;
mod log;
mod outcome;
mod process;
mod recording;
mod request;
mod segment;
mod suite;
mod syntax;
mod tests;
mod texts;
mod threads;
mod windows;
mod worker;

pub use batch::{Batch, BatchOptions, Call, Program, Run, Sharing};
pub use error::Error;
pub use interpreter::Interpreter;
pub use outcome::{Limit, Outcome};
pub use recording::Recording;
pub use request::{Limits, ModuleRequest, Request};
pub use suite::{Suite, SuiteRequest, WrittenCalls, calls_in_tests};
pub use syntax::check_syntax;
pub use tests::{Test, TestOptions, TestOutput, TestsError, TestsReport, trace_tests};
pub use worker::{
    Collector, Mode, Values, Worker, trace, trace_module, trace_module_threads, trace_threads,
};
