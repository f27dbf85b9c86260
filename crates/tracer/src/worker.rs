//! A warm interpreter that forks a child for every program, and the traces that come of them.

use cwm_trace::{Entry, SourceFile, Trace};

use crate::channel::{encode, encode_module, with_threads};
use crate::log::{Refusal, decode_each};
use crate::process::{Ending, Outcome, Patience, Process, Setup};
use crate::segment::Segment;
use crate::threads::trace_of_thread;
use crate::{Error, Interpreter, Limits, ModuleRequest, Recording, Request};

/// For an interpreter that records one run: what it needs not is not loaded ahead.
const ONCE: Setup = Setup {
    preload: false,
    wanted: Mode::Direct,
    values: Values::Repr,
};

/// Records one run, in a fresh interpreter process.
///
/// # Errors
/// When there is nothing to record: see [`Error`].
pub fn trace(py: &Interpreter, request: &Request<'_>, limits: &Limits) -> Result<Trace, Error> {
    Worker::launch(py, limits, ONCE)?.trace(request)
}

/// The same for a module that the interpreter is to find.
///
/// # Errors
/// When there is nothing to record: see [`Error`].
pub fn trace_module(
    py: &Interpreter,
    request: &ModuleRequest<'_>,
    limits: &Limits,
) -> Result<Trace, Error> {
    Worker::launch(py, limits, ONCE)?.trace_module(request)
}

/// The same with all threads of the program: see [`Worker::trace_threads`].
///
/// # Errors
/// When there is nothing to record: see [`Error`].
pub fn trace_threads(
    py: &Interpreter,
    request: &Request<'_>,
    limits: &Limits,
) -> Result<Vec<Trace>, Error> {
    Worker::launch(py, limits, ONCE)?.trace_threads(request)
}

/// The same of a module.
///
/// # Errors
/// When there is nothing to record: see [`Error`].
pub fn trace_module_threads(
    py: &Interpreter,
    request: &ModuleRequest<'_>,
    limits: &Limits,
) -> Result<Vec<Trace>, Error> {
    Worker::launch(py, limits, ONCE)?.trace_module_threads(request)
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
        let (outcome, log) = self.run(&encode(request))?;
        if let Some(refusal) = log.refusal {
            return Err(refused(request, refusal));
        }
        let (file, source) = (request.file.to_owned(), request.source.to_owned());
        let main = SourceFile {
            path: file,
            text: source,
        };
        Ok(self.assemble(main, request.entry.clone(), outcome, log))
    }

    /// Records one run of a module. Only modules that were not imported before it are recorded in full,
    /// which is why [`trace_module()`] uses a fresh interpreter.
    ///
    /// # Errors
    /// When there is nothing to record: see [`Error`]. The worker stays usable.
    pub fn trace_module(&mut self, request: &ModuleRequest<'_>) -> Result<Trace, Error> {
        let (outcome, log) = self.run(&encode_module(request))?;
        self.assemble_module(request, outcome, log)
    }

    /// The same with all threads of the module: see [`Worker::trace_threads`].
    ///
    /// # Errors
    /// When there is nothing to record: see [`Error`]. The worker stays usable.
    pub fn trace_module_threads(
        &mut self,
        request: &ModuleRequest<'_>,
    ) -> Result<Vec<Trace>, Error> {
        let message = with_threads(encode_module(request));
        let (outcome, logs) = self.run_with(&message, Patience::None, Process::read_logs)?;
        let ending = outcome.ending;
        let mut logs = logs.into_iter();
        let main = self.assemble_module(request, outcome, logs.next().unwrap_or_default())?;
        Ok(self.with_threads(main, ending, logs))
    }

    fn assemble_module(
        &self,
        request: &ModuleRequest<'_>,
        outcome: Outcome,
        mut log: Segment,
    ) -> Result<Trace, Error> {
        if let Some(Refusal::NoModule { message }) = log.refusal {
            return Err(Error::NoModule {
                module: request.module.to_owned(),
                message,
            });
        }
        let main = SourceFile {
            path: request.module.to_owned(),
            text: String::new(),
        };
        let main = match log.files.is_empty() {
            true => main,
            false => log.files.remove(0),
        };
        if let Some(refusal) = log.refusal.take() {
            let request = Request {
                file: &main.path,
                source: &main.text,
                entry: Entry::Module,
                stdin: request.stdin,
                arguments: request.arguments,
            };
            return Err(refused(&request, refusal));
        }
        Ok(self.assemble(main, Entry::Module, outcome, log))
    }

    /// Records one run and keeps it as it was written.
    ///
    /// # Errors
    /// When there is nothing to record: see [`Error`]. The worker stays usable.
    pub fn record(&mut self, request: &Request<'_>) -> Result<Recording, Error> {
        let message = encode(request);
        let (outcome, bytes) = self.run_with(&message, Patience::None, Process::log_bytes)?;
        let (mut log, _) = decode_each(&bytes, &mut |_| {});
        if let Some(refusal) = log.refusal.take() {
            return Err(refused(request, refusal));
        }
        let main = SourceFile {
            path: request.file.to_owned(),
            text: request.source.to_owned(),
        };
        let frame = self.assemble(main, request.entry.clone(), outcome, log);
        Ok(Recording::new(bytes, frame))
    }

    /// Records one run with all its threads: the trace of the main one first, then those that the program
    /// started, in the order in which they came to the program's own code; those that did not have none.
    /// Threads that the interpreter waits for at its end are waited for.
    ///
    /// # Errors
    /// When there is nothing to record: see [`Error`]. The worker stays usable.
    pub fn trace_threads(&mut self, request: &Request<'_>) -> Result<Vec<Trace>, Error> {
        let message = with_threads(encode(request));
        let (outcome, logs) = self.run_with(&message, Patience::None, Process::read_logs)?;
        let ending = outcome.ending;
        let mut logs = logs.into_iter();
        let mut main_log = logs.next().unwrap_or_default();
        if let Some(refusal) = main_log.refusal.take() {
            return Err(refused(request, refusal));
        }
        let main = SourceFile {
            path: request.file.to_owned(),
            text: request.source.to_owned(),
        };
        let main = self.assemble(main, request.entry.clone(), outcome, main_log);
        Ok(self.with_threads(main, ending, logs))
    }

    /// The trace of the main thread, then those of the others.
    fn with_threads(
        &self,
        main: Trace,
        ending: Ending,
        logs: impl Iterator<Item = Segment>,
    ) -> Vec<Trace> {
        let mut traces = vec![main];
        for log in logs {
            let trace = trace_of_thread(&traces[0], log, || ending.describe(&self.limits));
            traces.push(trace);
        }
        traces
    }

    /// Runs many calls of one program, as far as they go in one process.
    pub(crate) fn run_batch(&mut self, message: &[u8]) -> Result<Batched, Error> {
        let cap = self.limits.max_output_bytes as u64;
        let file_bytes = self.limits.file_bytes;
        let (outcome, batched) = self.run_with(message, Patience::ForEachRun, |process| {
            let mut printed = Vec::new();
            let segments = process.read_segments()?;
            let ends = [process.printed_bytes(0), process.printed_bytes(1)];
            for (at, segment) in segments.iter().enumerate() {
                let to = segments.get(at + 1).map_or(ends, |next| next.printed);
                printed.push([0, 1].map(|stream| {
                    let from = segment.printed[stream];
                    process.printed(stream, from, to[stream].min(from + cap))
                }));
            }
            Ok(Batched {
                segments,
                printed,
                ending: Ending::WorkerDied,
                is_flooded: ends.iter().any(|&end| end >= file_bytes),
            })
        })?;
        Ok(Batched {
            ending: outcome.ending,
            ..batched
        })
    }

    /// Runs one request to its end.
    fn run(&mut self, message: &[u8]) -> Result<(Outcome, Segment), Error> {
        self.run_with(message, Patience::None, Process::read_log)
    }

    fn run_with<T>(
        &mut self,
        message: &[u8],
        patience: Patience,
        read: impl Fn(&Process) -> Result<T, Error>,
    ) -> Result<(Outcome, T), Error> {
        let mut process = match self.process.take() {
            Some(process) => process,
            None => self.another()?,
        };
        let mut outcome = process.run(message, &self.limits, patience)?;
        if outcome.ending == Ending::WorkerDied && process.running.is_none() {
            // It died before this program began, and so for another reason.
            process = self.another()?;
            outcome = process.run(message, &self.limits, patience)?;
        }
        let log = read(&process)?;
        if outcome.ending != Ending::WorkerDied {
            self.process = Some(process);
        }
        Ok((outcome, log))
    }

    fn another(&self) -> Result<Process, Error> {
        Ok(Process::start(&self.interpreter, &self.limits, self.setup)?.0)
    }

    pub(crate) fn interpreter(&self) -> &Interpreter {
        &self.interpreter
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn assemble(&self, main: SourceFile, entry: Entry, run: Outcome, log: Segment) -> Trace {
        let end = log.end.unwrap_or_else(|| run.ending.describe(&self.limits));
        Trace {
            python: self.interpreter.version_text(),
            file: main.path,
            source: main.text,
            other_files: log.files,
            entry,
            thread: None,
            functions: log.functions,
            events: log.events,
            end,
            stdout: run.stdout.into_text(),
            stderr: run.stderr.into_text(),
        }
    }
}

/// What came of a request for many runs.
#[derive(Debug)]
pub(crate) struct Batched {
    /// The loading of the program, and each run that began.
    pub(crate) segments: Vec<Segment>,
    /// What each printed to standard output and standard error.
    pub(crate) printed: Vec<[Vec<u8>; 2]>,
    pub(crate) ending: Ending,
    /// Whether something printed all that it may.
    pub(crate) is_flooded: bool,
}

pub(crate) fn refused(request: &Request<'_>, refusal: Refusal) -> Error {
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
        Refusal::NoModule { message } => Error::NoModule {
            module: file,
            message,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use cwm_trace::End;

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
            arguments: &[],
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
