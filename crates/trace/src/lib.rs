//! The vocabulary of recorded executions.
//!
//! A [`Trace`] is *data*: every call, line, return and exception of one run
//! of a Python program, with the locals each line saw. A *dialect* is a
//! rendering of it for a model to read. This crate knows no Python
//! interpreter, no model and no token ids.
//!
//! * [`cwm`]: Meta's format, exactly as their code writes it.
//! * [`live`]: ours: numbered lines and only the live call stack.
//! * [`nd`]: states between the actions of a debugger, forwards and backwards.
//! * [`cut`]: parts of a trace that are traces.
//! * [`diff`]: where two traces first part.
//! * [`json`]: a trace as one JSON object, written quickly.
//! * [`jsonl`]: the lossless form on disk; [`parquet`]: the same as a table.
//! * [`listing`] and [`perfetto`]: for people; [`statistics`]: for many
//!   traces.

pub mod columns;
pub mod cut;
pub mod cwm;
pub mod diff;
pub mod json;
pub mod jsonl;
mod kinds;
pub mod listing;
pub mod live;
mod markup;
pub mod nd;
pub mod parquet;
pub mod perfetto;
mod random;
pub mod statistics;
mod trace;

pub use kinds::type_of;
pub use trace::{End, Entry, Event, EventKind, Function, Local, SourceFile, Thread, Trace, Value};
