//! What goes between us and the interpreter: requests and answers on a socket, output in pipes.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use cwm_trace::Entry;

use crate::batch::{Call, Program};
use crate::worker::Mode;
use crate::{ModuleRequest, Request};

/// Answers of the interpreter.
pub(crate) enum Answer {
    Ready(Mode),
    Forked(libc::pid_t),
    Done(ExitStatus),
    /// The program printed more than it may.
    Flooded,
    Gone,
}

/// Output of a program, of which only the first bytes are kept.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    bytes: Vec<u8>,
    /// How many there were.
    pub(crate) total: u64,
}

impl Capture {
    pub(crate) fn keep(&mut self, bytes: &[u8], cap: usize) {
        self.total += bytes.len() as u64;
        let room = cap.saturating_sub(self.bytes.len());
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub(crate) fn into_text(self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A request as the collector reads it.
pub(crate) fn encode(request: &Request<'_>) -> Vec<u8> {
    let (kind, function, args) = match &request.entry {
        Entry::Module => (0, "", ""),
        Entry::Call { function, args } => (1, function.as_str(), args.as_str()),
    };
    let fields = [
        request.file.as_bytes(),
        request.source.as_bytes(),
        function.as_bytes(),
        args.as_bytes(),
        request.stdin,
        &joined(request.arguments),
    ];
    message(kind, &fields)
}

/// The same request with all threads recorded: the second byte of its kind says so.
pub(crate) fn with_threads(mut message: Vec<u8>) -> Vec<u8> {
    if let Some(byte) = message.get_mut(1) {
        *byte |= 1;
    }
    message
}

/// The same of a module: its name in the place of the file's, and the folder in the place of the text.
pub(crate) fn encode_module(request: &ModuleRequest<'_>) -> Vec<u8> {
    let fields = [
        request.module.as_bytes(),
        request.folder.as_os_str().as_encoded_bytes(),
        b"",
        b"",
        request.stdin,
        &joined(request.arguments),
    ];
    message(2, &fields)
}

/// The same of many calls in one program, or of the program itself; the letters of `flags` are those of
/// `python/batch.py`.
pub(crate) fn encode_batch(program: &Program<'_>, calls: &[Call], flags: &str) -> Vec<u8> {
    let texts = calls.iter().flat_map(|call| [&call.function, &call.args]);
    let texts = texts.flat_map(|text| [text.as_bytes(), b"\0"]);
    let fields = [
        program.file.as_bytes(),
        program.source.as_bytes(),
        flags.as_bytes(),
        &texts.collect::<Vec<_>>().concat(),
        program.stdin,
        &joined(program.arguments),
    ];
    message(3, &fields)
}

/// The same of many programs of one file name, each a script or a call of a function of it.
pub(crate) fn encode_programs(file: &str, programs: &[(&str, Entry)], flags: &str) -> Vec<u8> {
    let mut parts = Vec::new();
    for (source, entry) in programs {
        let (function, args) = match entry {
            Entry::Module => ("", ""),
            Entry::Call { function, args } => (&**function, &**args),
        };
        for text in [source, function, args] {
            parts.extend(text.as_bytes());
            parts.push(0);
        }
    }
    let fields = [file.as_bytes(), b"", flags.as_bytes(), &parts, b"", b""];
    message(3, &fields)
}

/// Arguments of a program cannot hold a zero byte, so one ends each.
pub(crate) fn joined(arguments: &[String]) -> Vec<u8> {
    let ended = arguments.iter().flat_map(|text| [text.as_bytes(), b"\0"]);
    ended.collect::<Vec<_>>().concat()
}

/// The kind and the lengths of the fields, then the fields.
pub(crate) fn message(kind: u32, fields: &[&[u8]; 6]) -> Vec<u8> {
    let mut message = kind.to_le_bytes().to_vec();
    for field in fields {
        message.extend((field.len() as u32).to_le_bytes());
    }
    message.extend(fields.concat());
    message
}

pub(crate) fn read_answer(control: &mut UnixStream) -> io::Result<Answer> {
    let mut message = [0; 5];
    match control.read_exact(&mut message) {
        Ok(()) => {}
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Ok(Answer::Gone),
                _ => Err(error),
            };
        }
    }
    let [kind, number @ ..] = message;
    let number = i32::from_le_bytes(number);
    match kind {
        b'H' if number == 0 => Ok(Answer::Ready(Mode::Python)),
        b'H' if number == 1 => Ok(Answer::Ready(Mode::Api)),
        b'H' => Ok(Answer::Ready(Mode::Direct)),
        b'P' => Ok(Answer::Forked(number)),
        b'D' => Ok(Answer::Done(ExitStatus::from_raw(number))),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "an answer of unknown kind",
        )),
    }
}

pub(crate) fn watch(fd: i32) -> libc::pollfd {
    libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }
}

pub(crate) fn poll(watched: &mut [libc::pollfd], left: Duration) -> io::Result<()> {
    // Rounded up, so that a wait of less than a millisecond does not become a busy one.
    let millis = i32::try_from(left.as_millis().saturating_add(1)).unwrap_or(i32::MAX);
    // SAFETY: the pointer and the count describe one live, exclusively borrowed slice.
    let ready = unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, millis) };
    if ready >= 0 {
        return Ok(());
    }
    for fd in watched.iter_mut() {
        fd.revents = 0;
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted {
        Ok(())
    } else {
        Err(error)
    }
}

pub(crate) fn set_nonblocking(pipe: &impl AsRawFd) -> io::Result<()> {
    let fd = pipe.as_raw_fd();
    // SAFETY: `fcntl` with these commands reads and writes flags of an open descriptor of ours.
    let outcome = unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        if flags < 0 {
            flags
        } else {
            libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK)
        }
    };
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Reads once; false when the pipe is closed for good.
pub(crate) fn read_some(pipe: &mut impl Read, capture: &mut Capture, cap: usize) -> bool {
    let mut buffer = [0; 16 << 10];
    match pipe.read(&mut buffer) {
        Ok(0) => false,
        Ok(count) => {
            capture.keep(&buffer[..count], cap);
            true
        }
        Err(error) => {
            matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            )
        }
    }
}

/// Reads what is left in a pipe whose writers are gone.
pub(crate) fn drain(pipe: &mut impl Read, capture: &mut Capture, cap: usize) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count) = pipe.read(&mut buffer) {
        if count == 0 {
            break;
        }
        capture.keep(&buffer[..count], cap);
    }
}
