//! What to trace, and within which limits.

use std::path::Path;
use std::time::Duration;

use cwm_trace::Entry;

/// Bounds on one run. They hold for the program; set-up of the interpreter is not counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Events recorded before the program is stopped.
    pub max_events: u64,
    /// Wall time before the program is stopped.
    pub timeout: Duration,
    /// Characters of one value; what is longer is cut and ends in `...`.
    pub max_value_chars: usize,
    /// Address space of the program, in bytes.
    pub memory_bytes: u64,
    /// Bytes kept of each of standard output and standard error; what is beyond is dropped.
    pub max_output_bytes: usize,
    /// Processor time of the program, counted in whole seconds; by default two seconds more than the
    /// wall time, so that a busy machine does not change what is reported.
    pub cpu_time: Option<Duration>,
    /// Bytes that the program may print to one stream, or write to one file.
    pub file_bytes: u64,
    /// Processes and threads that the program may have at a time besides those that its user already
    /// has when the interpreter starts; by default as many as the system lets it. The system does not
    /// hold its superuser to it.
    pub processes: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_events: 10_000,
            timeout: Duration::from_secs(10),
            max_value_chars: 2_000,
            memory_bytes: 2 << 30,
            max_output_bytes: 1 << 20,
            cpu_time: None,
            file_bytes: 256 << 20,
            processes: None,
        }
    }
}

/// One run to record.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Name of the file: what the program sees as its path, and whose folder it imports from.
    pub file: &'a str,
    /// Text of the file. It need not exist on disk.
    pub source: &'a str,
    /// Which scope to record.
    pub entry: Entry,
    /// What the program reads from standard input.
    pub stdin: &'a [u8],
    /// What the program finds in `sys.argv` behind its name.
    pub arguments: &'a [String],
}

/// One run of a module that the interpreter is to find, as `python -m` runs it. All files of the
/// module's package are traced.
#[derive(Clone, Debug)]
pub struct ModuleRequest<'a> {
    /// Its name, such as `json.tool`; of a package, its `__main__` is run.
    pub module: &'a str,
    /// Where the interpreter looks first.
    pub folder: &'a Path,
    /// What the program reads from standard input.
    pub stdin: &'a [u8],
    /// What the program finds in `sys.argv` behind its name.
    pub arguments: &'a [String],
}
