//! Traces on disk, without loss: one JSON object a line.
//!
//! The first line says what the file is, in which version of the format, and
//! everything about the run that is known before its first event. Each event
//! is `{"event": …}` on a line of its own, and the last line is `{"end": …}`.
//! So a file can be written while a program runs, searched with line tools,
//! and a file that was cut off still yields its events.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::{End, Entry, Event, Function, SourceFile, Thread, Trace};

/// What the first line calls the format.
pub const FORMAT: &str = "cwm-trace";

/// The version that [`write()`] writes and [`read`] accepts.
pub const VERSION: u32 = 1;

/// Why a file could not be read in full.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ReadError {
    /// Number of the line at fault, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: Reason,
    /// The trace up to there, if its first line was good. Where the end line
    /// is missing, its end says that the recording is incomplete.
    pub partial: Option<Box<Trace>>,
}

/// What can be wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The file could not be read.
    #[error("cannot read the trace: {0}")]
    Io(#[source] io::Error),
    /// The first line is not that of a trace.
    #[error("not a trace: the first line should be the header of a `{FORMAT}` file ({0})")]
    NotATrace(String),
    /// The file was written by another version of this program.
    #[error(
        "the trace has format version {0}, but only version {VERSION} can be read; \
         record it again or use the version of cwm that wrote it"
    )]
    Version(u64),
    /// A line is not an event or an end.
    #[error("not a line of a trace: {0}")]
    Malformed(String),
    /// An event refers to a code object the header does not list.
    #[error("the event refers to function {index}, but the header lists {known}")]
    NoSuchFunction {
        /// The index in the event.
        index: u32,
        /// How many functions there are.
        known: usize,
    },
    /// The file stops before its end line.
    #[error("the trace is cut off after {0} events")]
    Cut(usize),
    /// Something follows the end line.
    #[error("there is more after the end of the trace")]
    AfterEnd,
}

/// The first line of a file.
#[derive(Serialize)]
struct Header<'a> {
    format: &'static str,
    version: u32,
    python: &'a str,
    file: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    other_files: &'a [SourceFile],
    entry: &'a Entry,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: &'a Option<Thread>,
    functions: &'a [Function],
}

/// Tells what a file is, whatever else its first line holds.
#[derive(Deserialize)]
struct Stamp {
    format: String,
    version: u64,
}

/// The first line of a file, as read.
#[derive(Deserialize)]
struct OwnedHeader {
    python: String,
    file: String,
    source: String,
    #[serde(default)]
    other_files: Vec<SourceFile>,
    entry: Entry,
    #[serde(default)]
    thread: Option<Thread>,
    functions: Vec<Function>,
}

/// Any other line.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Event(&'a Event),
    End(Last<'a>),
}

/// Any other line, as read.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum OwnedLine {
    Event(Event),
    End(OwnedLast),
}

/// What is known once the run is over.
#[derive(Serialize)]
struct Last<'a> {
    how: &'a End,
    stdout: &'a str,
    stderr: &'a str,
}

/// What is known once the run is over, as read.
#[derive(Deserialize)]
struct OwnedLast {
    how: End,
    stdout: String,
    stderr: String,
}

/// Writes a trace. Give it a buffered writer: there is one write per token.
///
/// # Errors
///
/// Those of the writer; and `InvalidInput` for a time limit that is not a
/// finite number, which JSON cannot say.
pub fn write(trace: &Trace, mut out: impl Write) -> io::Result<()> {
    if matches!(trace.end, End::Timeout(seconds) if !seconds.is_finite()) {
        let message = "the time limit of the trace is not a finite number";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let Trace {
        python,
        file,
        source,
        other_files,
        entry,
        thread,
        functions,
        events,
        end,
        stdout,
        stderr,
    } = trace;
    let header = Header {
        format: FORMAT,
        version: VERSION,
        python,
        file,
        source,
        other_files,
        entry,
        thread,
        functions,
    };
    write_line(&header, &mut out)?;
    for event in events {
        write_line(&Line::Event(event), &mut out)?;
    }
    write_line(
        &Line::End(Last {
            how: end,
            stdout,
            stderr,
        }),
        &mut out,
    )?;
    out.flush()
}

fn write_line(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// Reads a trace.
///
/// # Errors
///
/// Says which line is at fault and why, and hands over what was read before.
pub fn read(input: impl BufRead) -> Result<Trace, ReadError> {
    let mut lines = Lines {
        input,
        buffer: Vec::new(),
        number: 0,
    };
    let mut trace = match read_header(&mut lines) {
        Ok(trace) => trace,
        Err(reason) => {
            return Err(ReadError {
                line: lines.number,
                reason,
                partial: None,
            });
        }
    };
    match read_body(&mut lines, &mut trace) {
        Ok(()) => Ok(trace),
        Err(reason) => {
            let partial = Some(Box::new(trace));
            Err(ReadError {
                line: lines.number,
                reason,
                partial,
            })
        }
    }
}

fn read_header(lines: &mut Lines<impl BufRead>) -> Result<Trace, Reason> {
    let foreign = |error: serde_json::Error| Reason::NotATrace(explain(&error));
    let line = lines
        .next()?
        .ok_or_else(|| Reason::NotATrace("the file is empty".to_owned()))?;
    let stamp: Stamp = serde_json::from_slice(line).map_err(foreign)?;
    if stamp.format != FORMAT {
        return Err(Reason::NotATrace(format!("it says `{}`", stamp.format)));
    }
    if stamp.version != u64::from(VERSION) {
        return Err(Reason::Version(stamp.version));
    }
    let header: OwnedHeader = serde_json::from_slice(line).map_err(foreign)?;
    Ok(Trace {
        python: header.python,
        file: header.file,
        source: header.source,
        other_files: header.other_files,
        entry: header.entry,
        thread: header.thread,
        functions: header.functions,
        events: Vec::new(),
        end: End::Crashed("the trace on disk is incomplete".to_owned()),
        stdout: String::new(),
        stderr: String::new(),
    })
}

fn read_body(lines: &mut Lines<impl BufRead>, trace: &mut Trace) -> Result<(), Reason> {
    loop {
        let Some(line) = lines.next()? else {
            return Err(Reason::Cut(trace.events.len()));
        };
        match serde_json::from_slice(line) {
            Ok(OwnedLine::Event(event)) => {
                let known = trace.functions.len();
                if event.function as usize >= known {
                    return Err(Reason::NoSuchFunction {
                        index: event.function,
                        known,
                    });
                }
                trace.events.push(event);
            }
            Ok(OwnedLine::End(last)) => {
                (trace.end, trace.stdout, trace.stderr) = (last.how, last.stdout, last.stderr);
                return if lines.next()?.is_some() {
                    Err(Reason::AfterEnd)
                } else {
                    Ok(())
                };
            }
            // Half a line at the end of a file is a cut, whatever it holds.
            Err(_) if !line.ends_with(b"\n") => return Err(Reason::Cut(trace.events.len())),
            Err(error) => return Err(Reason::Malformed(explain(&error))),
        }
    }
}

/// What a JSON error says, without its own line number: each line is parsed by
/// itself, so that number is always 1.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(what) => format!("{what}, column {}", error.column()),
        None => text,
    }
}

/// Lines of a file, counted; as bytes, for half a line may be half a character.
struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    number: usize,
}

impl<R: BufRead> Lines<R> {
    /// The next line with its newline, or `None` at the end of the file.
    fn next(&mut self) -> Result<Option<&[u8]>, Reason> {
        self.buffer.clear();
        self.number += 1;
        match self.input.read_until(b'\n', &mut self.buffer) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(&self.buffer)),
            Err(error) => Err(Reason::Io(error)),
        }
    }
}
