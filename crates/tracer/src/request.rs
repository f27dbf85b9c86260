//! What to trace, and within which limits.

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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_events: 10_000,
            timeout: Duration::from_secs(10),
            max_value_chars: 2_000,
            memory_bytes: 2 << 30,
            max_output_bytes: 1 << 20,
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
}
