//! The interpreter process: started once, forking a child for every program.
//!
//! Three channels lead to it. Its descriptor 0 is a socket that carries requests and three kinds of
//! five-byte answers (ready, child's process id, child's exit status). Its standard output and error
//! are pipes that its children write to. Events come through a file that children map into memory, so
//! that whatever was recorded survives the death of the process that recorded it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use cwm_trace::{End, Entry, Trace};

use crate::log::{self, Log, Refusal};
use crate::{Error, Interpreter, Limits, Request};

/// The collector: one script in five parts.
const COLLECTOR: &str = concat!(
    include_str!("../python/values.py"),
    include_str!("../python/safe.py"),
    include_str!("../python/recorder.py"),
    include_str!("../python/layout.py"),
    include_str!("../python/collector.py"),
);

/// The native collector as a shared library; empty where it could not be built.
const NATIVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cwm_native.so"));

/// How long an interpreter may take to start, or to notice that its child was killed.
const GRACE: Duration = Duration::from_secs(20);

/// Variables that an interpreter needs to find itself; everything else is hidden from the program, so
/// that a trace does not depend on who made it.
const KEPT_VARIABLES: [&str; 5] = [
    "PATH",
    "HOME",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "TMPDIR",
];

/// Records one run, in a fresh interpreter process.
///
/// # Errors
/// When there is nothing to record: see [`Error`].
pub fn trace(py: &Interpreter, request: &Request<'_>, limits: &Limits) -> Result<Trace, Error> {
    let setup = Setup {
        preload: false,
        wanted: Mode::Direct,
        values: Values::Repr,
    };
    Worker::launch(py, limits, setup)?.trace(request)
}

/// A warm interpreter that records many small programs one after the other, each in a forked child.
///
/// It survives what the programs do; should the interpreter itself die, the next request starts
/// another. Dropping the worker ends it and the program it may be running.
#[derive(Debug)]
pub struct Worker {
    interpreter: Interpreter,
    limits: Limits,
    setup: Setup,
    mode: Mode,
    process: Option<Process>,
}

/// What handles the events inside the interpreter. Both give the same traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collector {
    /// The extension carried inside this crate.
    Native,
    /// Plain Python, several times slower: where the extension could not be built or loaded.
    Python,
}

/// How the collector inside the interpreter gets at the variables. All modes give the same traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Natively, from where the interpreter keeps them in memory. Every place is proved when the
    /// interpreter starts; where one is not as expected, the next mode takes over.
    Direct,
    /// Natively, by the interpreter's public API.
    Api,
    /// In plain Python.
    Python,
}

impl Mode {
    /// What handles the events in this mode.
    pub fn collector(self) -> Collector {
        match self {
            Self::Direct | Self::Api => Collector::Native,
            Self::Python => Collector::Python,
        }
    }
}

/// How objects of the program become text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Values {
    /// By their own `__repr__`, as the program itself would print them. It may have effects, and may
    /// fail or take long, which is contained.
    #[default]
    Repr,
    /// Without running any code of the program: by what they are made of, or by their type.
    Safe,
}

/// How to start an interpreter.
#[derive(Clone, Copy, Debug)]
struct Setup {
    /// Whether to import common modules before the first request.
    preload: bool,
    wanted: Mode,
    values: Values,
}

impl Worker {
    /// Starts an interpreter that holds every program to the same limits.
    ///
    /// # Errors
    /// When the interpreter cannot be started or dies at once.
    pub fn start(py: &Interpreter, limits: &Limits) -> Result<Self, Error> {
        Self::start_with(py, limits, Collector::Native)
    }

    /// The same with a choice of collector; [`Collector::Native`] is only a wish.
    ///
    /// # Errors
    /// When the interpreter cannot be started or dies at once.
    pub fn start_with(py: &Interpreter, limits: &Limits, wanted: Collector) -> Result<Self, Error> {
        let wanted = match wanted {
            Collector::Native => Mode::Direct,
            Collector::Python => Mode::Python,
        };
        Self::start_in(py, limits, wanted, Values::Repr)
    }

    /// The same with a choice of mode, which is only a wish (see [`Worker::mode`]), and of how values
    /// are shown.
    ///
    /// # Errors
    /// When the interpreter cannot be started or dies at once.
    pub fn start_in(
        py: &Interpreter,
        limits: &Limits,
        wanted: Mode,
        values: Values,
    ) -> Result<Self, Error> {
        Self::launch(
            py,
            limits,
            Setup {
                preload: true,
                wanted,
                values,
            },
        )
    }

    fn launch(py: &Interpreter, limits: &Limits, setup: Setup) -> Result<Self, Error> {
        let (process, mode) = Process::start(py, limits, setup)?;
        let process = Some(process);
        Ok(Self {
            interpreter: py.clone(),
            limits: limits.clone(),
            setup,
            mode,
            process,
        })
    }

    /// What handles the events of this worker.
    pub fn collector(&self) -> Collector {
        self.mode.collector()
    }

    /// How it gets at the variables.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Records one run.
    ///
    /// # Errors
    /// When there is nothing to record: see [`Error`]. The worker stays usable.
    pub fn trace(&mut self, request: &Request<'_>) -> Result<Trace, Error> {
        let mut process = match self.process.take() {
            Some(process) => process,
            None => self.another()?,
        };
        let mut outcome = process.run(request, &self.limits)?;
        if outcome.ending == Ending::WorkerDied && process.running.is_none() {
            // It died before this program began, and so for another reason.
            process = self.another()?;
            outcome = process.run(request, &self.limits)?;
        }
        let log = process.read_log()?;
        if outcome.ending != Ending::WorkerDied {
            self.process = Some(process);
        }
        self.assemble(request, outcome, log)
    }

    fn another(&self) -> Result<Process, Error> {
        Ok(Process::start(&self.interpreter, &self.limits, self.setup)?.0)
    }

    fn assemble(&self, request: &Request<'_>, run: Outcome, log: Log) -> Result<Trace, Error> {
        if let Some(refusal) = log.refusal {
            return Err(refused(request, refusal));
        }
        let end = log.end.unwrap_or_else(|| run.ending.describe(&self.limits));
        Ok(Trace {
            python: self.interpreter.version_text(),
            file: request.file.to_owned(),
            source: request.source.to_owned(),
            entry: request.entry.clone(),
            functions: log.functions,
            events: log.events,
            end,
            stdout: run.stdout.into_text(),
            stderr: run.stderr.into_text(),
        })
    }
}

fn refused(request: &Request<'_>, refusal: Refusal) -> Error {
    let file = request.file.to_owned();
    let (name, args) = match &request.entry {
        Entry::Module => (String::new(), String::new()),
        Entry::Call { function, args } => (function.clone(), args.clone()),
    };
    match refusal {
        Refusal::Syntax {
            line,
            message,
            text,
        } => Error::NotPython {
            file,
            line,
            message,
            text,
        },
        Refusal::MissingEntry { available } => Error::MissingEntry {
            file,
            name,
            available,
        },
        Refusal::BadArguments { message } => Error::BadArguments {
            function: name,
            args,
            message,
        },
    }
}

/// What came of a run, the log aside.
struct Outcome {
    ending: Ending,
    stdout: Capture,
    stderr: Capture,
}

/// How the child ended.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Left(ExitStatus),
    TimedOut,
    WorkerDied,
}

impl Ending {
    /// The end of a trace whose log does not tell it.
    fn describe(&self, limits: &Limits) -> End {
        let status = match self {
            Self::TimedOut => return End::Timeout(limits.timeout.as_secs_f64()),
            Self::WorkerDied => {
                return End::Crashed("the interpreter's parent process died".to_owned());
            }
            Self::Left(status) => status,
        };
        match (status.signal(), status.code()) {
            (Some(libc::SIGXCPU), _) => End::Timeout(limits.timeout.as_secs_f64()),
            (Some(signal), _) => End::Crashed(describe_signal(signal)),
            (None, Some(code)) => End::Crashed(format!(
                "the interpreter left with status {code} without ending the program, as os._exit does"
            )),
            (None, None) => End::Crashed("the interpreter ended in an unknown way".to_owned()),
        }
    }
}

fn describe_signal(signal: i32) -> String {
    let what = match signal {
        libc::SIGSEGV => "segmentation fault, often the C stack running out in a deep recursion",
        libc::SIGABRT => "abort",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "arithmetic fault",
        libc::SIGILL => "illegal instruction",
        libc::SIGKILL => "killed, by itself or by the system when memory ran out",
        _ => return format!("the interpreter was ended by signal {signal}"),
    };
    format!("the interpreter was ended by signal {signal} ({what})")
}

/// Output of a program, of which only the first bytes are kept.
#[derive(Debug, Default)]
struct Capture {
    bytes: Vec<u8>,
}

impl Capture {
    fn keep(&mut self, bytes: &[u8], cap: usize) {
        let room = cap.saturating_sub(self.bytes.len());
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn into_text(self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// The running interpreter and its channels.
#[derive(Debug)]
struct Process {
    child: Child,
    control: UnixStream,
    stdout: ChildStdout,
    stderr: ChildStderr,
    log: File,
    /// Process group of the program being run.
    running: Option<libc::pid_t>,
}

/// Answers of the interpreter.
enum Answer {
    Ready(Mode),
    Forked(libc::pid_t),
    Done(ExitStatus),
    Gone,
}

impl Process {
    fn start(py: &Interpreter, limits: &Limits, setup: Setup) -> Result<(Self, Mode), Error> {
        let cannot_start = |source| Error::CannotStart {
            path: py.path.clone(),
            source,
        };
        let log = log_file().map_err(cannot_start)?;
        let (control, theirs) = UnixStream::pair().map_err(cannot_start)?;
        // Both files are gone from their folders once the interpreter is ready: it holds them open.
        let native = native_file(setup.wanted);
        let native_path = native.as_ref().map_or(Path::new(""), |file| file.path());
        let mut child = command(py, limits, setup)
            .args([log.path(), native_path])
            .arg(if setup.wanted == Mode::Direct {
                "direct"
            } else {
                "api"
            })
            .arg(match setup.values {
                Values::Repr => "repr",
                Values::Safe => "safe",
            })
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .map_err(cannot_start)?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(cannot_start(io::Error::other("no pipes to the process")));
        };
        set_nonblocking(&stdout)
            .and_then(|()| set_nonblocking(&stderr))
            .map_err(cannot_start)?;
        let file = log.reopen().map_err(cannot_start)?;
        let mut process = Self {
            child,
            control,
            stdout,
            stderr,
            log: file,
            running: None,
        };
        let mode = process.await_ready(&py.path)?;
        Ok((process, mode))
    }

    fn await_ready(&mut self, path: &Path) -> Result<Mode, Error> {
        let (mut stdout, mut stderr) = (Capture::default(), Capture::default());
        let deadline = Instant::now() + GRACE;
        let answer = self
            .pump(deadline, &mut stdout, &mut stderr, 4096)
            .map_err(|source| Error::Channel {
                doing: "starting it",
                source,
            })?;
        if let Some(Answer::Ready(mode)) = answer {
            return Ok(mode);
        }
        let said = stderr.into_text();
        let last = said.lines().last().unwrap_or("it said nothing").to_owned();
        Err(Error::DiedAtStart {
            path: path.to_owned(),
            said: last,
        })
    }

    /// Runs one program to its end, or to the end of its time.
    fn run(&mut self, request: &Request<'_>, limits: &Limits) -> Result<Outcome, Error> {
        let channel = |doing| move |source| Error::Channel { doing, source };
        self.log.set_len(0).map_err(channel("clearing the log"))?;
        let mut outcome = Outcome {
            ending: Ending::WorkerDied,
            stdout: Capture::default(),
            stderr: Capture::default(),
        };
        if self.control.write_all(&encode(request)).is_err() {
            return Ok(outcome);
        }
        let mut deadline = Instant::now() + limits.timeout;
        let mut timed_out = false;
        let cap = limits.max_output_bytes;
        loop {
            let answer = self
                .pump(deadline, &mut outcome.stdout, &mut outcome.stderr, cap)
                .map_err(channel("waiting for the program"))?;
            match answer {
                Some(Answer::Forked(pid)) => {
                    self.running = Some(pid);
                    // The clock starts with the program.
                    deadline = Instant::now() + limits.timeout;
                }
                Some(Answer::Done(status)) => {
                    self.running = None;
                    outcome.ending = if timed_out {
                        Ending::TimedOut
                    } else {
                        Ending::Left(status)
                    };
                    break;
                }
                Some(Answer::Ready(_)) => {}
                Some(Answer::Gone) => break,
                None if timed_out => break,
                None => {
                    timed_out = true;
                    deadline = Instant::now() + GRACE;
                    self.kill_program();
                }
            }
        }
        drain(&mut self.stdout, &mut outcome.stdout, cap);
        drain(&mut self.stderr, &mut outcome.stderr, cap);
        Ok(outcome)
    }

    /// Moves output into the captures until an answer comes; `None` at the deadline.
    fn pump(
        &mut self,
        deadline: Instant,
        stdout: &mut Capture,
        stderr: &mut Capture,
        cap: usize,
    ) -> io::Result<Option<Answer>> {
        let mut watched = [
            watch(self.control.as_raw_fd()),
            watch(self.stdout.as_raw_fd()),
            watch(self.stderr.as_raw_fd()),
        ];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            poll(&mut watched, left)?;
            for (index, fd) in watched.iter_mut().enumerate() {
                let open = match index {
                    _ if fd.revents == 0 => true,
                    0 => return read_answer(&mut self.control).map(Some),
                    1 => read_some(&mut self.stdout, stdout, cap),
                    _ => read_some(&mut self.stderr, stderr, cap),
                };
                if !open {
                    // `poll` skips negative descriptors: a closed pipe must not spin the loop.
                    fd.fd = -1;
                }
            }
        }
    }

    fn read_log(&self) -> Result<Log, Error> {
        let channel = |source| Error::Channel {
            doing: "reading the log",
            source,
        };
        let mut head = [0; 8];
        let held = self.log.metadata().map_err(channel)?.len();
        if held < 8 {
            return Ok(Log::default());
        }
        self.log.read_exact_at(&mut head, 0).map_err(channel)?;
        let length = u64::from_le_bytes(head).min(held - 8);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.log.read_exact_at(&mut bytes, 8).map_err(channel)?;
        Ok(log::decode(&bytes))
    }

    fn kill_program(&mut self) {
        if let Some(group) = self.running {
            // SAFETY: `kill` touches no memory of ours. The group is that of a child that the
            // interpreter has not waited for yet, so the number cannot belong to anything else.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        } else {
            // It never told of a child: the interpreter itself hangs.
            let _ = self.child.kill();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.kill_program();
        }
        // Both fail only if the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(py: &Interpreter, limits: &Limits, setup: Setup) -> Command {
    // One more second than the wall clock allows: the wall clock is the one to report.
    let cpu_seconds = limits.timeout.as_secs().saturating_add(2).min(1 << 30);
    let mut command = Command::new(&py.path);
    command.args(["-s", "-B", "-u", "-X", "utf8", "-c", COLLECTOR]);
    command.args([
        limits.max_events.to_string(),
        limits.max_value_chars.max(1).to_string(),
        limits.memory_bytes.min(i64::MAX as u64).to_string(),
        cpu_seconds.to_string(),
        u8::from(setup.preload).to_string(),
    ]);
    let kept = KEPT_VARIABLES
        .iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().envs(kept);
    command.envs([
        ("PYTHONHASHSEED", "0"),
        ("TZ", "UTC"),
        ("LC_ALL", "C.UTF-8"),
    ]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A private file for the log, in memory where the system offers that.
fn log_file() -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("cwm-trace-");
    builder
        .tempfile_in("/dev/shm")
        .or_else(|_| builder.tempfile())
}

/// The native collector as a file that Python can load, if there is one and it is wanted.
fn native_file(wanted: Mode) -> Option<tempfile::NamedTempFile> {
    if wanted == Mode::Python || NATIVE.is_empty() {
        return None;
    }
    let mut file = tempfile::Builder::new()
        .prefix("cwm-native-")
        .suffix(".so")
        .tempfile()
        .ok()?;
    file.write_all(NATIVE).ok()?;
    Some(file)
}

/// A request as the collector reads it: six lengths or flags, then the fields.
fn encode(request: &Request<'_>) -> Vec<u8> {
    let (is_call, function, args) = match &request.entry {
        Entry::Module => (0u32, "", ""),
        Entry::Call { function, args } => (1, function.as_str(), args.as_str()),
    };
    let fields = [
        request.file.as_bytes(),
        request.source.as_bytes(),
        function.as_bytes(),
        args.as_bytes(),
        request.stdin,
    ];
    let mut message = is_call.to_le_bytes().to_vec();
    for field in fields {
        message.extend((field.len() as u32).to_le_bytes());
    }
    message.extend(fields.concat());
    message
}

fn read_answer(control: &mut UnixStream) -> io::Result<Answer> {
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

fn watch(fd: i32) -> libc::pollfd {
    libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }
}

fn poll(watched: &mut [libc::pollfd], left: Duration) -> io::Result<()> {
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

fn set_nonblocking(pipe: &impl AsRawFd) -> io::Result<()> {
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
fn read_some(pipe: &mut impl Read, capture: &mut Capture, cap: usize) -> bool {
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
fn drain(pipe: &mut impl Read, capture: &mut Capture, cap: usize) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count) = pipe.read(&mut buffer) {
        if count == 0 {
            break;
        }
        capture.keep(&buffer[..count], cap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without the native collector the log is larger, and only that.
    #[test]
    fn plain_code_takes_at_most_eight_bytes_an_event() {
        let py = Interpreter::find(None).expect("an interpreter");
        let mut worker = Worker::start(&py, &Limits::default()).expect("it starts");
        if worker.collector() == Collector::Python {
            eprintln!("SKIPPED: no native collector for {:?}", py.version);
            return;
        }
        let request = Request {
            file: "algos.py",
            source: include_str!("../benches/programs/algos.py"),
            entry: Entry::Call {
                function: "run".to_owned(),
                args: "3".to_owned(),
            },
            stdin: b"",
        };
        let trace = worker.trace(&request).expect("a trace");
        assert_eq!(trace.end, End::Finished);
        let mut head = [0; 8];
        let process = worker.process.as_ref().expect("the process lives");
        process.log.read_exact_at(&mut head, 0).expect("a log");
        let (bytes, events) = (u64::from_le_bytes(head), trace.events.len() as u64);
        assert!(events > 2_000 && bytes <= 8 * events, "{bytes} / {events}");
    }
}
