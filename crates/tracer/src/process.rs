//! The interpreter process: started once, forking a child for every program.
//!
//! Three channels lead to it. Its descriptor 0 is a socket that carries requests and three kinds of
//! five-byte answers (ready, child's process id, child's exit status). Its standard output and error
//! are pipes that its children write to. Events come through a file that children map into memory, so
//! that whatever was recorded survives the death of the process that recorded it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use cwm_trace::End;

use crate::channel::{
    Answer, Capture, drain, poll, read_answer, read_some, set_nonblocking, watch,
};
use crate::log;
use crate::segment::Segment;
use crate::windows;
use crate::worker::{Mode, Values};
use crate::{Error, Interpreter, Limits};

/// The collector: one script in eleven parts.
const COLLECTOR: &str = concat!(
    include_str!("../python/values.py"),
    include_str!("../python/safe.py"),
    include_str!("../python/recorder.py"),
    include_str!("../python/events.py"),
    include_str!("../python/layout.py"),
    include_str!("../python/files.py"),
    include_str!("../python/threads.py"),
    include_str!("../python/state.py"),
    include_str!("../python/batch.py"),
    include_str!("../python/guard.py"),
    include_str!("../python/collector.py"),
);

/// Runs that script, which is its first argument, in less memory, so that forking it is cheaper.
const START: &str = include_str!("../python/start.py");

/// The native collector as a shared library; empty where it could not be built.
const NATIVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cwm_native.so"));

/// How long an interpreter may take to start, or to notice that its child was killed.
const GRACE: Duration = Duration::from_secs(20);

/// Variables that an interpreter needs to find itself; everything else is hidden from the program, so
/// that a trace does not depend on who made it.
pub(crate) const KEPT_VARIABLES: [&str; 5] = [
    "PATH",
    "HOME",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "TMPDIR",
];

/// How to start an interpreter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// Whether to import common modules before the first request.
    pub(crate) preload: bool,
    pub(crate) wanted: Mode,
    pub(crate) values: Values,
}

/// What came of a run, the log aside.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) ending: Ending,
    pub(crate) stdout: Capture,
    pub(crate) stderr: Capture,
}

/// What is done when the time of a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// The program is stopped.
    None,
    /// The same, unless another of its runs has begun in the meantime: a run is stopped after its time,
    /// or up to half as much again.
    ForEachRun,
}

/// How the child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Left(ExitStatus),
    TimedOut,
    /// It printed too much.
    Flooded,
    WorkerDied,
}

impl Ending {
    /// The end of a trace whose log does not tell it.
    pub(crate) fn describe(self, limits: &Limits) -> End {
        let status = match self {
            Self::TimedOut => return End::Timeout(limits.timeout.as_secs_f64()),
            Self::Flooded => {
                let most = limits.file_bytes;
                let said = format!("the program printed more than {most} bytes and was stopped");
                return End::Crashed(said);
            }
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

/// The running interpreter and its channels.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    control: UnixStream,
    stdout: ChildStdout,
    stderr: ChildStderr,
    pub(crate) log: File,
    /// What runs of a batch print.
    captures: [File; 2],
    /// Process group of the program being run.
    pub(crate) running: Option<libc::pid_t>,
}

impl Process {
    pub(crate) fn start(
        py: &Interpreter,
        limits: &Limits,
        setup: Setup,
    ) -> Result<(Self, Mode), Error> {
        let cannot_start = |source| Error::CannotStart {
            path: py.path.clone(),
            source,
        };
        let [log, out, err] = [private_file(), private_file(), private_file()];
        let (log, out) = (log.map_err(cannot_start)?, out.map_err(cannot_start)?);
        let err = err.map_err(cannot_start)?;
        let (control, theirs) = UnixStream::pair().map_err(cannot_start)?;
        // Both files are gone from their folders once the interpreter is ready: it holds them open.
        let native = native_file(setup.wanted);
        let native_path = native.as_ref().map_or(Path::new(""), |file| file.path());
        let mut child = command(py, limits, setup)
            .arg(native_path)
            .arg(if setup.wanted == Mode::Direct {
                "direct"
            } else {
                "api"
            })
            .arg(match setup.values {
                Values::Repr => "repr",
                Values::Safe => "safe",
            })
            .args([log.path(), out.path(), err.path()])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .map_err(cannot_start)?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(cannot_start(io::Error::other("no pipes to the process")));
        };
        set_nonblocking(&stdout)
            .and_then(|()| set_nonblocking(&stderr))
            .map_err(cannot_start)?;
        let reopen = |file: &tempfile::NamedTempFile| file.reopen().map_err(cannot_start);
        let file = reopen(&log)?;
        let captures = [reopen(&out)?, reopen(&err)?];
        let mut process = Self {
            child,
            control,
            stdout,
            stderr,
            log: file,
            captures,
            running: None,
        };
        let mode = process.await_ready(&py.path)?;
        Ok((process, mode))
    }

    fn await_ready(&mut self, path: &Path) -> Result<Mode, Error> {
        let (mut stdout, mut stderr) = (Capture::default(), Capture::default());
        let deadline = Instant::now() + GRACE;
        let answer = self
            .pump(deadline, &mut stdout, &mut stderr, 4096, u64::MAX)
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
    pub(crate) fn run(
        &mut self,
        message: &[u8],
        limits: &Limits,
        patience: Patience,
    ) -> Result<Outcome, Error> {
        let channel = |doing| move |source| Error::Channel { doing, source };
        for file in std::iter::once(&self.log).chain(&self.captures) {
            file.set_len(0).map_err(channel("clearing the log"))?;
        }
        let mut outcome = Outcome {
            ending: Ending::WorkerDied,
            stdout: Capture::default(),
            stderr: Capture::default(),
        };
        if self.control.write_all(message).is_err() {
            return Ok(outcome);
        }
        let tick = match patience {
            Patience::None => limits.timeout,
            Patience::ForEachRun => limits.timeout / 2,
        };
        let mut deadline = Instant::now() + tick;
        let mut stopped = None;
        // The runs that had begun at the last tick and at the one before.
        let mut begun = [usize::MAX; 2];
        let cap = limits.max_output_bytes;
        loop {
            let most = stopped.map_or(limits.file_bytes, |_| u64::MAX);
            let answer = self
                .pump(
                    deadline,
                    &mut outcome.stdout,
                    &mut outcome.stderr,
                    cap,
                    most,
                )
                .map_err(channel("waiting for the program"))?;
            match answer {
                Some(Answer::Forked(pid)) => {
                    self.running = Some(pid);
                    // The clock starts with the program.
                    deadline = Instant::now() + tick;
                }
                Some(Answer::Done(status)) => {
                    self.running = None;
                    outcome.ending = stopped.unwrap_or(Ending::Left(status));
                    break;
                }
                Some(Answer::Flooded) => {
                    stopped = Some(Ending::Flooded);
                    deadline = Instant::now() + GRACE;
                    self.kill_program();
                }
                Some(Answer::Ready(_)) => {}
                Some(Answer::Gone) => break,
                None if stopped.is_some() => break,
                None => {
                    if patience == Patience::ForEachRun {
                        let now = self.read_segments()?.len();
                        if begun != [now; 2] {
                            begun = [now, begun[0]];
                            deadline = Instant::now() + tick;
                            continue;
                        }
                    }
                    stopped = Some(Ending::TimedOut);
                    deadline = Instant::now() + GRACE;
                    self.kill_program();
                }
            }
        }
        drain(&mut self.stdout, &mut outcome.stdout, cap);
        drain(&mut self.stderr, &mut outcome.stderr, cap);
        Ok(outcome)
    }

    /// Moves output into the captures until an answer comes, or more than `most` bytes of output have;
    /// `None` at the deadline.
    fn pump(
        &mut self,
        deadline: Instant,
        stdout: &mut Capture,
        stderr: &mut Capture,
        cap: usize,
        most: u64,
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
            if stdout.total.max(stderr.total) > most {
                return Ok(Some(Answer::Flooded));
            }
        }
    }

    /// What the log says of its one run.
    pub(crate) fn read_log(&self) -> Result<Segment, Error> {
        Ok(log::decode(&self.log_bytes()?))
    }

    /// What the logs say: the main thread's first, then those of the others in order.
    pub(crate) fn read_logs(&self) -> Result<Vec<Segment>, Error> {
        let others = windows::other_logs(&self.log).map_err(|source| Error::Channel {
            doing: "reading the log",
            source,
        })?;
        let mut logs = vec![self.read_log()?];
        for (number, bytes) in others {
            let mut log = log::decode(&bytes);
            // Without its first record it is a log that was never begun.
            if let Some(thread) = &mut log.thread {
                thread.number = number;
                logs.push(log);
            }
        }
        Ok(logs)
    }

    /// What the log says of its many runs.
    pub(crate) fn read_segments(&self) -> Result<Vec<Segment>, Error> {
        let mut segments = Vec::new();
        log::decode_segments(&self.log_bytes()?, |segment| segments.push(segment));
        Ok(segments)
    }

    /// What runs of a batch printed, between two places of a stream (0: output, 1: errors).
    pub(crate) fn printed(&self, stream: usize, from: u64, to: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            // A program may cut its own output short: what is not there was not printed.
            match self.captures[stream].read_at(&mut bytes[filled..], from + filled as u64) {
                Ok(count) if count > 0 => filled += count,
                _ => break,
            }
        }
        bytes.truncate(filled);
        bytes
    }

    /// How much runs of a batch printed to a stream.
    pub(crate) fn printed_bytes(&self, stream: usize) -> u64 {
        self.captures[stream]
            .metadata()
            .map_or(0, |data| data.len())
    }

    /// The log of the main thread, as far as it is whole.
    pub(crate) fn log_bytes(&self) -> Result<Vec<u8>, Error> {
        windows::main_log(&self.log).map_err(|source| Error::Channel {
            doing: "reading the log",
            source,
        })
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
    let most = limits.timeout.as_secs().saturating_add(2);
    let cpu_seconds = limits.cpu_time.map_or(most, whole_seconds).min(1 << 30);
    let mut command = Command::new(&py.path);
    command.args(["-s", "-B", "-u", "-X", "utf8", "-c"]);
    match setup.preload {
        true => command.args([START, COLLECTOR]),
        // For one program alone it does not pay.
        false => command.arg(COLLECTOR),
    };
    command.args([
        limits.max_events.to_string(),
        limits.max_value_chars.max(1).to_string(),
        limits.memory_bytes.min(i64::MAX as u64).to_string(),
        cpu_seconds.to_string(),
        limits.file_bytes.min(i64::MAX as u64).to_string(),
        limits.processes.map_or(-1, process_limit).to_string(),
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

/// Rounded up: a limit of nothing would stop every program.
fn whole_seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

/// The limit counts all threads of the user, so those that exist come on top.
fn process_limit(more: u32) -> i64 {
    i64::from(more) + threads_of_user()
}

/// How many threads this user has, where `/proc` tells; the interpreter, which is to come, included.
fn threads_of_user() -> i64 {
    use std::os::unix::fs::MetadataExt;
    // SAFETY: `getuid` cannot fail and touches no memory.
    let user = unsafe { libc::getuid() };
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return 1;
    };
    let own = processes.flatten().filter(|entry| {
        let is_process = entry.file_name().to_string_lossy().parse::<u32>().is_ok();
        is_process && entry.metadata().is_ok_and(|data| data.uid() == user)
    });
    let threads = own.map(|entry| std::fs::read_dir(entry.path().join("task")));
    // The interpreter itself and its child.
    2 + threads
        .flatten()
        .map(|tasks| tasks.count() as i64)
        .sum::<i64>()
}

/// A private file for the log or for output, in memory where the system offers that.
fn private_file() -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("cwm-trace-");
    builder
        .tempfile_in("/dev/shm")
        .or_else(|_| builder.tempfile())
}

/// The native collector as a file that Python can load, if there is one and it is wanted.
pub(crate) fn native_file(wanted: Mode) -> Option<tempfile::NamedTempFile> {
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
