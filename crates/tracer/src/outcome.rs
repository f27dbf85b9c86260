//! How a run of a batch came out, told so that a program can decide what to keep.

use cwm_trace::End;

use crate::process::Ending;
use crate::{Error, Limits};

/// How a run came out.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The entry returned.
    Finished,
    /// An exception left the entry: its `repr`.
    Raised(String),
    /// `sys.exit` left the entry, with this status.
    Exited(i32),
    /// The process left with this status without ending the program, as `os._exit` does.
    Left(i32),
    /// It was stopped at a limit.
    Stopped(Limit),
    /// A signal ended the process: its number.
    Crashed(i32),
    /// The trace could not be recorded to its end: why.
    Failed(String),
    /// It was about to do what a guarded run may not: the audit event (PEP 578) and its object.
    Forbidden(String),
    /// There was nothing to run: see [`Error`].
    Refused(Error),
    /// A second run was different: what of it.
    Nondeterministic(String),
    /// Without tracing the program does something else: what.
    ChangedByTracing(String),
}

/// How `python/guard.py` begins what it writes.
const FORBIDDEN: &str = "forbidden: ";

/// What a run was stopped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// The number of events recorded.
    Events,
    /// Wall time.
    WallTime,
    /// Processor time.
    CpuTime,
    /// Memory.
    Memory,
    /// Output, or the size of a file.
    Output,
}

impl Outcome {
    /// Whether the run is recorded to its end and stands for what the program does.
    pub fn is_sound(&self) -> bool {
        matches!(self, Self::Finished | Self::Raised(_) | Self::Exited(_))
    }

    /// A word for the kind of outcome, for reports and files.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Raised(_) => "raised",
            Self::Exited(_) => "exited",
            Self::Left(_) => "left",
            Self::Stopped(Limit::Events) => "stopped: events",
            Self::Stopped(Limit::WallTime) => "stopped: wall time",
            Self::Stopped(Limit::CpuTime) => "stopped: cpu time",
            Self::Stopped(Limit::Memory) => "stopped: memory",
            Self::Stopped(Limit::Output) => "stopped: output",
            Self::Crashed(_) => "crashed",
            Self::Failed(_) => "failed",
            Self::Forbidden(_) => "forbidden",
            Self::Refused(_) => "refused",
            Self::Nondeterministic(_) => "nondeterministic",
            Self::ChangedByTracing(_) => "changed by tracing",
        }
    }

    /// What there is to say beyond the kind; empty where that is all.
    pub fn detail(&self) -> String {
        match self {
            Self::Finished | Self::Stopped(_) => String::new(),
            Self::Exited(status) | Self::Left(status) => format!("status {status}"),
            Self::Crashed(signal) => format!("signal {signal}"),
            Self::Raised(what)
            | Self::Failed(what)
            | Self::Forbidden(what)
            | Self::Nondeterministic(what)
            | Self::ChangedByTracing(what) => what.clone(),
            Self::Refused(error) => error.to_string(),
        }
    }

    /// From what the log says, or else from what became of the process.
    pub(crate) fn of(end: Option<&End>, ending: Ending, is_flooded: bool) -> Self {
        match end {
            Some(End::Finished) => Self::Finished,
            Some(End::Raised(what)) if is_flooded && what.starts_with("OSError(27") => {
                Self::Stopped(Limit::Output)
            }
            Some(End::Raised(what)) => Self::Raised(what.clone()),
            Some(End::Exited(status)) => Self::Exited(*status),
            Some(End::MaxEvents(_)) => Self::Stopped(Limit::Events),
            Some(End::Timeout(_)) => Self::Stopped(Limit::WallTime),
            Some(End::OutOfMemory) => Self::Stopped(Limit::Memory),
            Some(End::Crashed(why)) => match why.strip_prefix(FORBIDDEN) {
                Some(event) => Self::Forbidden(event.to_owned()),
                None => Self::Failed(why.clone()),
            },
            None => Self::of_process(ending),
        }
    }

    fn of_process(ending: Ending) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let status = match ending {
            Ending::TimedOut => return Self::Stopped(Limit::WallTime),
            Ending::Flooded => return Self::Stopped(Limit::Output),
            Ending::WorkerDied => {
                return Self::Failed("the interpreter's parent process died".to_owned());
            }
            Ending::Left(status) => status,
        };
        match (status.signal(), status.code()) {
            (Some(libc::SIGXCPU), _) => Self::Stopped(Limit::CpuTime),
            (Some(libc::SIGXFSZ), _) => Self::Stopped(Limit::Output),
            (Some(signal), _) => Self::Crashed(signal),
            (None, Some(status)) => Self::Left(status),
            (None, None) => Self::Failed("the interpreter ended in an unknown way".to_owned()),
        }
    }
}

/// The end of a trace whose log does not tell it.
pub(crate) fn end_of(end: Option<End>, ending: Ending, limits: &Limits) -> End {
    end.unwrap_or_else(|| ending.describe(limits))
}
