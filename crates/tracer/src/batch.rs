//! Many runs of programs: quick, isolated, and checked.
//!
//! A [`Batch`] holds one warm interpreter, which forks for each program. Calls of one program share a
//! process as long as none can notice the ones before it; what a call does to its process ends with it.
//! A run can be made twice, and a third time without tracing, to find out whether its trace is what the
//! program always does.
//!
//! Promises: as many runs as calls, in their order, whatever the programs do; a call that shares a process
//! has the trace that it would have alone.

use std::sync::Arc;

use cwm_trace::{End, Entry, Trace};

use crate::channel::{encode_batch, encode_programs};
use crate::log::Refusal;
use crate::outcome::end_of;
use crate::process::Ending;
use crate::segment::Segment;
use crate::worker::{Batched, refused};
use crate::{Error, Interpreter, Limit, Limits, Mode, Outcome, Request, Values, Worker};

/// How runs are made.
#[derive(Clone, Debug)]
pub struct BatchOptions {
    /// What holds for each run.
    pub limits: Limits,
    /// How the collector gets at variables; only a wish.
    pub mode: Mode,
    /// How objects become text.
    pub values: Values,
    /// Whether calls of one program may share a process.
    pub sharing: Sharing,
    /// Makes every run twice, the second time with objects at other addresses; one that differs is
    /// [`Outcome::Nondeterministic`].
    pub double_run: bool,
    /// Ends runs that reach for files outside the interpreter's library, for other processes or for the
    /// network, before they do so: [`Outcome::Forbidden`]. This stops accidents, not malice.
    pub guarded: bool,
    /// Makes every run once more without tracing; if result, exception, output or exit status differ it
    /// is [`Outcome::ChangedByTracing`].
    pub check_untraced: bool,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            mode: Mode::Direct,
            values: Values::Repr,
            sharing: Sharing::WhereUnnoticed,
            double_run: false,
            guarded: false,
            check_untraced: false,
        }
    }
}

/// Whether calls of one program may share a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Where no call can notice the ones before it: the program imports only modules without a state of
    /// its concern, and nothing that its code can reach has changed.
    WhereUnnoticed,
    /// Each call has a process of its own.
    Never,
    /// Calls of one program share a process also where one may notice those before it: for trials, whose
    /// traces say what a call is likely to do. Programs share as with [`Self::WhereUnnoticed`].
    Always,
}

/// A program of which runs are made.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Name of the file: what the program sees as its path, and whose folder it imports from.
    pub file: &'a str,
    /// Text of the file. It need not exist on disk.
    pub source: &'a str,
    /// What the program reads from standard input.
    pub stdin: &'a [u8],
    /// What the program finds in `sys.argv` behind its name.
    pub arguments: &'a [String],
}

/// One call of a function of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Name of the function, as bound in the module; dots lead into classes.
    pub function: String,
    /// Argument list as Python source, such as `3, sep=','`.
    pub args: String,
}

/// One run.
#[derive(Debug)]
pub struct Run {
    /// How it came out.
    pub outcome: Outcome,
    /// What was recorded, also where the run did not come to its end; `None` where nothing could run.
    pub trace: Option<Trace>,
    /// Text of what the call gave, where it returned and [`BatchOptions::check_untraced`] is set.
    pub result: Option<String>,
}

impl Run {
    /// The trace, if it stands for what the program does.
    pub fn kept(&self) -> Option<&Trace> {
        self.trace.as_ref().filter(|_| self.outcome.is_sound())
    }
}

/// Makes many runs.
#[derive(Debug)]
pub struct Batch {
    worker: Worker,
    options: BatchOptions,
}

impl Batch {
    /// Starts an interpreter.
    ///
    /// # Errors
    /// When it cannot be started or dies at once.
    pub fn start(py: &Interpreter, options: BatchOptions) -> Result<Self, Error> {
        let worker = Worker::start_in(py, &options.limits, options.mode, options.values)?;
        Ok(Self { worker, options })
    }

    /// Runs a program as a script.
    ///
    /// # Errors
    /// When the interpreter cannot be reached or started again.
    pub fn script(&mut self, program: &Program<'_>) -> Result<Run, Error> {
        let mut runs = self.checked(|batch, flags| batch.pass(program, None, flags))?;
        Ok(runs.pop().expect("a script is one run"))
    }

    /// Makes calls of a program; gives one run for each, in order.
    ///
    /// # Errors
    /// When the interpreter cannot be reached or started again.
    pub fn calls(&mut self, program: &Program<'_>, calls: &[Call]) -> Result<Vec<Run>, Error> {
        self.checked(|batch, flags| batch.pass(program, Some(calls), flags))
    }

    /// Runs programs that read nothing, each as a script or as a call of one of its functions; gives one
    /// run for each, in order. Programs share a process where none can notice the ones before it.
    ///
    /// # Errors
    /// When the interpreter cannot be reached or started again.
    pub fn programs(&mut self, file: &str, programs: &[(&str, Entry)]) -> Result<Vec<Run>, Error> {
        self.checked(|batch, flags| batch.pass_programs(file, programs, flags))
    }

    /// The runs, and their outcomes after the checks that are asked for.
    fn checked(
        &mut self,
        mut pass: impl FnMut(&mut Self, &str) -> Result<Vec<Run>, Error>,
    ) -> Result<Vec<Run>, Error> {
        let checks = self.options.check_untraced;
        let guarded = if self.options.guarded { "g" } else { "" };
        let together = if self.options.sharing == Sharing::Always {
            "t"
        } else {
            ""
        };
        let flags = format!("{}{guarded}{together}", if checks { "r" } else { "" });
        let mut runs = pass(self, &flags)?;
        if self.options.double_run {
            for (run, second) in runs.iter_mut().zip(pass(self, &format!("{flags}d"))?) {
                if let Some(what) = difference(run, &second, Compare::Traces) {
                    run.outcome = Outcome::Nondeterministic(what);
                }
            }
        }
        if checks {
            for (run, second) in runs.iter_mut().zip(pass(self, &format!("{flags}u"))?) {
                if !run.outcome.is_sound() {
                    continue;
                }
                if let Some(what) = difference(run, &second, Compare::Outcomes) {
                    run.outcome = Outcome::ChangedByTracing(what);
                }
            }
        }
        Ok(runs)
    }

    /// Makes every run of many programs once.
    fn pass_programs(
        &mut self,
        file: &str,
        programs: &[(&str, Entry)],
        flags: &str,
    ) -> Result<Vec<Run>, Error> {
        let mut runs = Vec::with_capacity(programs.len());
        let shared = match self.options.sharing {
            Sharing::Never => 1,
            Sharing::WhereUnnoticed | Sharing::Always => MOST_CALLS,
        };
        let mut most = shared;
        while runs.len() < programs.len() {
            let left = &programs[runs.len()..];
            // Zero bytes stand between programs in the message.
            let is_plain = |(source, _): &&(&str, Entry)| !source.contains('\0');
            let count = left.iter().take(most).take_while(is_plain).count();
            let some = &left[..count];
            if some.is_empty() {
                runs.push(self.pass_one(file, &left[0], flags)?);
                continue;
            }
            let message = encode_programs(file, some, &format!("{flags}p"));
            let batched = self.worker.run_batch(&message)?;
            let mut made = self.runs_of_programs(file, some, batched);
            let is_short =
                |run: &Run| matches!(run.outcome, Outcome::Stopped(Limit::Memory | Limit::Output));
            most = shared;
            if let Some(at) = made.iter().skip(1).position(is_short) {
                // The ones before it may have taken the room: it is run again by itself.
                made.truncate(at + 1);
                most = 1;
            }
            runs.extend(made);
        }
        Ok(runs)
    }

    /// The same for one program, sent by itself.
    fn pass_one(
        &mut self,
        file: &str,
        (source, entry): &(&str, Entry),
        flags: &str,
    ) -> Result<Run, Error> {
        let program = Program {
            file,
            source,
            stdin: b"",
            arguments: &[],
        };
        let call = match entry {
            Entry::Module => None,
            Entry::Call { function, args } => Some([Call {
                function: function.clone(),
                args: args.clone(),
            }]),
        };
        let calls = call.as_ref().map(|call| &call[..]);
        let mut runs = self.pass(&program, calls, flags)?;
        Ok(runs.pop().expect("one program is one run"))
    }

    /// What came of one process: at least one run.
    fn runs_of_programs(
        &self,
        file: &str,
        programs: &[(&str, Entry)],
        batched: Batched,
    ) -> Vec<Run> {
        let Batched {
            segments,
            printed,
            ending,
            is_flooded,
        } = batched;
        let run = |(source, entry): &(&str, Entry), segment, printed: &[Vec<u8>; 2]| {
            let program = Program {
                file,
                source,
                stdin: b"",
                arguments: &[],
            };
            let shared = Shared {
                python: self.worker.interpreter().version_text(),
                program: &program,
                ending,
                is_flooded,
                limits: self.worker.limits(),
            };
            shared.run(entry.clone(), segment, printed)
        };
        let pairs = segments.into_iter().zip(&printed);
        let mut runs: Vec<_> = programs
            .iter()
            .zip(pairs)
            .filter(|(_, (segment, _))| segment.label.is_some())
            .map(|(program, (segment, printed))| run(program, segment, printed))
            .collect();
        if runs.is_empty() {
            // It died before the first program.
            runs.push(run(&programs[0], Segment::default(), &Default::default()));
        }
        runs
    }

    /// Makes every run once, in as many processes as that takes.
    fn pass(
        &mut self,
        program: &Program<'_>,
        calls: Option<&[Call]>,
        flags: &str,
    ) -> Result<Vec<Run>, Error> {
        let Some(calls) = calls else {
            let batched =
                self.worker
                    .run_batch(&encode_batch(program, &[], &format!("{flags}s")))?;
            return Ok(self.runs(program, None, batched, 1));
        };
        let mut runs = Vec::with_capacity(calls.len());
        // A program of which a second call would notice the first: it is not asked again.
        let mut is_alone = self.options.sharing == Sharing::Never;
        while runs.len() < calls.len() {
            let left = &calls[runs.len()..];
            let (some, flags) = match is_alone {
                true => (&left[..1], format!("{flags}1")),
                false => (&left[..left.len().min(MOST_CALLS)], flags.to_owned()),
            };
            let batched = self
                .worker
                .run_batch(&encode_batch(program, some, &flags))?;
            let made = self.runs(program, Some(some), batched, some.len());
            is_alone |= made.len() == 1 && some.len() > 1;
            runs.extend(made);
        }
        Ok(runs)
    }

    /// What came of one process: at least one run. If the program cannot be loaded, that is the outcome
    /// of all calls.
    fn runs(
        &self,
        program: &Program<'_>,
        calls: Option<&[Call]>,
        batched: Batched,
        wanted: usize,
    ) -> Vec<Run> {
        let Batched {
            segments,
            printed,
            ending,
            is_flooded,
        } = batched;
        let shared = Shared {
            python: self.worker.interpreter().version_text(),
            program,
            ending,
            is_flooded,
            limits: self.worker.limits(),
        };
        let mut pairs = segments.into_iter().zip(printed);
        let Some((mut load, loading)) = pairs.next() else {
            let nothing = || (Segment::default(), [Vec::new(), Vec::new()]);
            let run = |at| shared.run(entry(calls, at), nothing().0, &nothing().1);
            return (0..wanted).map(run).collect();
        };
        let mut runs = Vec::new();
        for (at, (segment, [out, err])) in pairs.enumerate() {
            // What the program printed while it was loaded is part of each run.
            let printed = [
                [&loading[0][..], &out].concat(),
                [&loading[1][..], &err].concat(),
            ];
            runs.push(shared.run(entry(calls, at), segment, &printed));
        }
        if !runs.is_empty() {
            return runs;
        }
        if calls.is_some() && load.end == Some(End::Finished) {
            // It died before the first call.
            load.end = None;
        }
        let again = || Segment {
            end: load.end.clone(),
            refusal: load.refusal.clone(),
            ..Segment::default()
        };
        let mut others: Vec<_> = (1..wanted)
            .map(|at| shared.run(entry(calls, at), again(), &loading))
            .collect();
        others.insert(0, shared.run(entry(calls, 0), load, &loading));
        others
    }
}

/// Calls sent to one process: bounds what is to be held of their traces at a time.
const MOST_CALLS: usize = 1000;

fn entry(calls: Option<&[Call]>, at: usize) -> Entry {
    match calls.and_then(|calls| calls.get(at)) {
        None => Entry::Module,
        Some(call) => Entry::Call {
            function: call.function.clone(),
            args: call.args.clone(),
        },
    }
}

/// What the runs of one process have in common.
struct Shared<'a> {
    python: String,
    program: &'a Program<'a>,
    ending: Ending,
    is_flooded: bool,
    limits: &'a Limits,
}

impl Shared<'_> {
    fn run(&self, entry: Entry, segment: Segment, printed: &[Vec<u8>; 2]) -> Run {
        if let Some(refusal) = segment.refusal {
            return Run {
                outcome: Outcome::Refused(self.refused(entry, refusal)),
                trace: None,
                result: None,
            };
        }
        let outcome = Outcome::of(segment.end.as_ref(), self.ending, self.is_flooded);
        let text = |bytes: &[u8]| {
            let kept = bytes.len().min(self.limits.max_output_bytes);
            String::from_utf8_lossy(&bytes[..kept]).into_owned()
        };
        let trace = Trace {
            python: self.python.clone(),
            file: self.program.file.to_owned(),
            source: self.program.source.to_owned(),
            other_files: segment.files,
            entry,
            thread: None,
            functions: segment.functions,
            events: segment.events,
            end: end_of(segment.end, self.ending, self.limits),
            stdout: text(&printed[0]),
            stderr: text(&printed[1]),
        };
        Run {
            outcome,
            trace: Some(trace),
            result: segment.result,
        }
    }

    fn refused(&self, entry: Entry, refusal: Refusal) -> Error {
        let Program {
            file,
            source,
            stdin,
            arguments,
        } = *self.program;
        let request = Request {
            file,
            source,
            entry,
            stdin,
            arguments,
        };
        refused(&request, refusal)
    }
}

/// What two runs of the same are compared by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    /// Everything that was recorded.
    Traces,
    /// What a person sees without a tracer.
    Outcomes,
}

/// What is different in the second run, if anything is.
fn difference(first: &Run, second: &Run, by: Compare) -> Option<String> {
    let said = |what: &str, a: &str, b: &str| {
        let cut = |text: &str| text.chars().take(200).collect::<String>();
        (a != b).then(|| format!("{what}: `{}`, then `{}`", cut(a), cut(b)))
    };
    let how = |run: &Run| format!("{} {}", run.outcome.kind(), run.outcome.detail());
    let outcome = said("outcome", &how(first), &how(second));
    let (Some(a), Some(b)) = (&first.trace, &second.trace) else {
        return outcome;
    };
    let result = |run: &Run| run.result.clone().unwrap_or_default();
    outcome
        .or_else(|| said("result", &result(first), &result(second)))
        .or_else(|| said("standard output", &a.stdout, &b.stdout))
        .or_else(|| said("standard error", &a.stderr, &b.stderr))
        .or_else(|| events_difference(a, b).filter(|_| by == Compare::Traces))
}

fn events_difference(first: &Trace, second: &Trace) -> Option<String> {
    let stops = matches!(first.end, End::Timeout(_) | End::Crashed(_));
    let differing = first
        .events
        .iter()
        .zip(&second.events)
        .position(|(a, b)| a != b);
    let at = match differing {
        Some(at) => at,
        // A run that was stopped by a clock has not always come as far.
        None if stops || first.events.len() == second.events.len() => return None,
        None => first.events.len().min(second.events.len()),
    };
    let Some(event) = first.events.get(at) else {
        return Some(format!("event {at} is only in the second run"));
    };
    let other = second.events.get(at);
    let changed = event.locals.iter().find(|local| {
        let found = other.and_then(|other| other.locals.iter().find(|l| l.name == local.name));
        found.is_some_and(|found| found != *local)
    });
    let name = changed.map_or_else(
        || Arc::from("the value or the line"),
        |local| local.name.clone(),
    );
    Some(format!("event {at}, line {}: {name}", event.line))
}
