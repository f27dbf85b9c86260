//! Runs a function on many arguments and keeps the few runs that show most of it.

use std::collections::HashSet;
use std::time::Duration;

use cwm_trace::{EventKind, Trace};
use cwm_tracer::{
    Batch, BatchOptions, Call, Interpreter, Limit, Limits, Outcome, Program, Run, Sharing,
};
use serde::Deserialize;

use crate::filter::Rejection;
use crate::generate::rng::Rng;
use crate::record::ArgumentsFrom;

use super::mutant::{Mutant, mutant};
use super::target::{Arguments, Candidate, Target};

/// What runs are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// Most runs of a function.
    pub inputs: usize,
    /// A function with fewer is not kept.
    pub min_inputs: usize,
    /// Most events of a run.
    pub max_events: usize,
    /// Most characters of a value.
    pub max_value_chars: usize,
    /// Mutants of each function: the same with a token changed, where that changes what it does.
    pub mutants: usize,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            inputs: 6,
            min_inputs: 3,
            max_events: 300,
            max_value_chars: 300,
            mutants: 0,
        }
    }
}

/// Fewest events of a run: the call, a line, the return.
const LEAST_EVENTS: usize = 3;

/// Argument lists that are drawn at first, and that are made from those that work.
const FIRST: usize = 12;
const MORE: usize = 14;

/// How many are tried before all others, since a function that hangs takes its time for each.
const PROBES: usize = 3;

/// Changes that are tried for each mutant that is wanted.
const TRIES_PER_MUTANT: usize = 3;

/// Runs stopped by the clock after which nothing more is tried.
const MOST_HANGS: usize = 2;

/// Exceptions that say that the arguments are of the wrong kind, or that a part is missing.
const MISFITS: [&str; 8] = [
    "TypeError",
    "AttributeError",
    "NameError",
    "ImportError",
    "ModuleNotFoundError",
    "NotImplementedError",
    "RecursionError",
    "UnboundLocalError",
];

/// The interpreters of a thread.
#[derive(Debug)]
pub(crate) struct Examiner {
    /// Tries arguments; a call may notice those before it.
    quick: Batch,
    /// Makes every run twice.
    checked: Batch,
    wanted: Wanted,
}

/// A run that is kept.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) trace: Trace,
    pub(crate) from: ArgumentsFrom,
}

/// What comes of a function.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) kept: Vec<Kept>,
    /// Its mutants, with the words for what was changed.
    pub(crate) mutants: Vec<(String, Vec<Kept>)>,
}

impl Examiner {
    pub(crate) fn start(
        interpreter: &Interpreter,
        wanted: &Wanted,
    ) -> Result<Self, cwm_tracer::Error> {
        let options = BatchOptions {
            limits: Limits {
                max_events: wanted.max_events as u64 + 1,
                // What decides is processor time: a busy machine must not make other data.
                timeout: Duration::from_secs(30),
                cpu_time: Some(Duration::from_secs(1)),
                max_value_chars: wanted.max_value_chars.max(3) + 1,
                memory_bytes: 1 << 30,
                max_output_bytes: 1 << 16,
                file_bytes: 1 << 20,
                ..Limits::default()
            },
            guarded: true,
            sharing: Sharing::Always,
            ..BatchOptions::default()
        };
        let checked = BatchOptions {
            double_run: true,
            sharing: Sharing::WhereUnnoticed,
            ..options.clone()
        };
        Ok(Self {
            quick: Batch::start(interpreter, options)?,
            checked: Batch::start(interpreter, checked)?,
            wanted: wanted.clone(),
        })
    }

    /// The runs of a function that are worth keeping, or why there are too few.
    ///
    /// # Errors
    /// When the interpreter is gone.
    pub(crate) fn examine(
        &mut self,
        target: &Target,
        seed: u64,
    ) -> Result<Result<Examined, Rejection>, cwm_tracer::Error> {
        let Some(mut arguments) = Arguments::new(target, seed) else {
            return Ok(Err(Rejection::NoArguments));
        };
        let mut tries = Tries::default();
        let mut first = arguments.written();
        first.extend(arguments.drawn(FIRST));
        let rest = first.split_off(first.len().min(PROBES));
        for round in [first, rest] {
            if let Err(why) = self.round(target, round, &mut tries)? {
                return Ok(Err(why));
            }
        }
        if tries.good.is_empty() {
            return Ok(Err(Rejection::TooFewInputs));
        }
        // Where much works already, little is gained by more.
        let count = if tries.good.len() < 2 * self.wanted.inputs {
            MORE
        } else {
            MORE / 2
        };
        let mut more = arguments.mutated(&tries.working(), count);
        more.extend(arguments.drawn(count - more.len().min(count)));
        if let Err(why) = self.round(target, more, &mut tries)? {
            return Ok(Err(why));
        }
        let chosen = match tries.chosen(&self.wanted) {
            Ok(chosen) => chosen,
            Err(why) => return Ok(Err(why)),
        };
        let kept = match self.confirmed(&target.source, target, &chosen)? {
            Ok(kept) => kept,
            Err(why) => return Ok(Err(why)),
        };
        let mutants = self.mutants(target, &chosen, &kept, seed)?;
        Ok(Ok(Examined { kept, mutants }))
    }

    /// Mutants of a function that do something else than it on some of the arguments.
    fn mutants(
        &mut self,
        target: &Target,
        chosen: &[Candidate],
        kept: &[Kept],
        seed: u64,
    ) -> Result<Vec<(String, Vec<Kept>)>, cwm_tracer::Error> {
        let mut rng = Rng::new(seed, 1, 0);
        let mut found: Vec<(String, Vec<Kept>)> = Vec::new();
        for _ in 0..self.wanted.mutants * TRIES_PER_MUTANT {
            if found.len() == self.wanted.mutants {
                break;
            }
            let Some(Mutant { source, change }) = mutant(&target.source, &mut rng) else {
                break;
            };
            if found.iter().any(|(known, _)| *known == change) {
                continue;
            }
            let Ok(runs) = self.confirmed(&source, target, chosen)? else {
                continue;
            };
            let ends = |runs: &[Kept]| -> HashSet<(String, String)> {
                runs.iter()
                    .map(|run| (format!("{:?}", run.trace.entry), end(&run.trace)))
                    .collect()
            };
            if !ends(&runs).is_subset(&ends(kept)) {
                found.push((change, runs));
            }
        }
        Ok(found)
    }

    /// Tries some arguments; says why no more need be tried, if so.
    fn round(
        &mut self,
        target: &Target,
        candidates: Vec<Candidate>,
        tries: &mut Tries,
    ) -> Result<Result<(), Rejection>, cwm_tracer::Error> {
        let runs = self
            .quick
            .calls(&program(&target.source), &calls(target, &candidates))?;
        Ok(tries.add(candidates, runs, &self.wanted))
    }

    /// The chosen runs of a program with the function, made twice.
    fn confirmed(
        &mut self,
        source: &str,
        target: &Target,
        chosen: &[Candidate],
    ) -> Result<Result<Vec<Kept>, Rejection>, cwm_tracer::Error> {
        let runs = self
            .checked
            .calls(&program(source), &calls(target, chosen))?;
        let is_fickle = runs
            .iter()
            .any(|run| matches!(run.outcome, Outcome::Nondeterministic(_)));
        let kept: Vec<_> = chosen
            .iter()
            .zip(runs)
            .filter(|(_, run)| is_good(run, &self.wanted))
            .filter_map(|(candidate, run)| {
                Some(Kept {
                    trace: run.trace?,
                    from: candidate.from,
                })
            })
            .collect();
        Ok(if kept.len() >= self.wanted.min_inputs {
            Ok(kept)
        } else if is_fickle {
            Err(Rejection::Nondeterministic)
        } else {
            Err(Rejection::TooFewInputs)
        })
    }
}

fn program(source: &str) -> Program<'_> {
    Program {
        file: "program.py",
        source,
        stdin: b"",
        arguments: &[],
    }
}

fn calls(target: &Target, candidates: &[Candidate]) -> Vec<Call> {
    let call = |candidate: &Candidate| Call {
        function: target.name.clone(),
        args: candidate.args.clone(),
    };
    candidates.iter().map(call).collect()
}

/// Whether a run can be kept.
fn is_good(run: &Run, wanted: &Wanted) -> bool {
    let is_fit = match &run.outcome {
        Outcome::Finished => true,
        Outcome::Raised(what) => !MISFITS.iter().any(|misfit| what.starts_with(misfit)),
        _ => false,
    };
    is_fit
        && run
            .trace
            .as_ref()
            .is_some_and(|trace| is_small(trace, wanted))
}

fn is_small(trace: &Trace, wanted: &Wanted) -> bool {
    if trace.events.len() < LEAST_EVENTS || trace.events.len() > wanted.max_events {
        return false;
    }
    trace.events.iter().all(|event| {
        let locals = event.locals.iter().map(|local| &local.value);
        let mut values = locals.chain(&event.value);
        values.all(|value| {
            !value.truncated && value.detailed().chars().count() <= wanted.max_value_chars
        })
    })
}

/// A run that might be kept, by what tells it from others.
#[derive(Debug)]
struct Try {
    candidate: Candidate,
    /// The lines it went through, each once.
    lines: HashSet<u32>,
    /// All of them in order.
    path: Vec<u32>,
    /// What it gave or raised.
    result: String,
    has_raised: bool,
}

/// All runs of a function that might be kept.
#[derive(Debug, Default)]
struct Tries {
    good: Vec<Try>,
    hangs: usize,
    total: usize,
    forbidden: usize,
    /// Whether the program cannot be loaded.
    is_refused: bool,
}

impl Tries {
    fn add(
        &mut self,
        candidates: Vec<Candidate>,
        runs: Vec<Run>,
        wanted: &Wanted,
    ) -> Result<(), Rejection> {
        for (candidate, run) in candidates.into_iter().zip(runs) {
            self.total += 1;
            match &run.outcome {
                Outcome::Stopped(Limit::WallTime | Limit::CpuTime | Limit::Memory) => {
                    self.hangs += 1
                }
                Outcome::Forbidden(_) => self.forbidden += 1,
                Outcome::Refused(cwm_tracer::Error::NotPython { .. }) => self.is_refused = true,
                _ => {}
            }
            if !is_good(&run, wanted) {
                continue;
            }
            let has_raised = matches!(run.outcome, Outcome::Raised(_));
            if let Some(trace) = run.trace {
                self.good.push(Try::new(candidate, &trace, has_raised));
            }
        }
        if self.is_refused {
            return Err(Rejection::NotPython);
        }
        if self.hangs >= MOST_HANGS {
            return Err(Rejection::Unfinished);
        }
        if self.forbidden * 2 > self.total {
            return Err(Rejection::Forbidden);
        }
        Ok(())
    }

    /// Arguments that did not raise, or all that did something if there are none.
    fn working(&self) -> Vec<&str> {
        let args = |only: fn(&&Try) -> bool| {
            self.good
                .iter()
                .filter(only)
                .map(|t| &*t.candidate.args)
                .collect::<Vec<_>>()
        };
        let returned = args(|t| !t.has_raised);
        if returned.is_empty() {
            args(|_| true)
        } else {
            returned
        }
    }

    /// The arguments whose runs show most: first those that reach new lines, then those that take new ways,
    /// then those that give new results.
    fn chosen(mut self, wanted: &Wanted) -> Result<Vec<Candidate>, Rejection> {
        let returned = self.good.iter().filter(|t| !t.has_raised);
        let results: HashSet<_> = returned.clone().map(|t| &t.result).collect();
        if returned.count() < 2 {
            return Err(Rejection::TooFewInputs);
        }
        if results.len() < 2 {
            return Err(Rejection::Constant);
        }
        let mut shown = Shown::default();
        let mut chosen = Vec::new();
        let most_raised = (wanted.inputs / 3).max(1);
        while chosen.len() < wanted.inputs && !self.good.is_empty() {
            let worth = |t: &Try| {
                let is_allowed = !t.has_raised || shown.raised < most_raised;
                (is_allowed, shown.worth(t))
            };
            let best = (0..self.good.len())
                .max_by_key(|&at| (worth(&self.good[at]), std::cmp::Reverse(at)));
            let Some(best) =
                best.filter(|&at| worth(&self.good[at]).0 && worth(&self.good[at]).1 > 0)
            else {
                break;
            };
            let best = self.good.swap_remove(best);
            shown.add(&best);
            chosen.push(best.candidate);
        }
        if chosen.len() < wanted.min_inputs {
            Err(Rejection::TooFewInputs)
        } else {
            Ok(chosen)
        }
    }
}

impl Try {
    fn new(candidate: Candidate, trace: &Trace, has_raised: bool) -> Self {
        let lines = trace
            .events
            .iter()
            .filter(|event| event.kind == EventKind::Line);
        let path: Vec<_> = lines.map(|event| event.line).collect();
        Self {
            candidate,
            lines: path.iter().copied().collect(),
            path,
            result: end(trace),
            has_raised,
        }
    }
}

/// What the last event gave, or raised.
fn end(trace: &Trace) -> String {
    let value = trace.events.last().and_then(|event| event.value.as_ref());
    value.map_or_else(String::new, |value| value.detailed().to_string())
}

/// What the chosen runs show already.
#[derive(Debug, Default)]
struct Shown {
    lines: HashSet<u32>,
    paths: HashSet<Vec<u32>>,
    results: HashSet<String>,
    raised: usize,
}

impl Shown {
    /// How much a run adds; 0 where there is one like it.
    fn worth(&self, run: &Try) -> usize {
        let lines = run.lines.difference(&self.lines).count();
        let path = usize::from(!self.paths.contains(&run.path));
        let result = usize::from(!self.results.contains(&run.result));
        let returned = usize::from(!run.has_raised);
        if lines + path + result == 0 {
            return 0;
        }
        // What people chose as examples is worth more than what was drawn.
        let written = usize::from(run.candidate.from == ArgumentsFrom::Written);
        lines * 32 + path * 8 + result * 8 + returned * 6 + written * 3
    }

    fn add(&mut self, run: &Try) {
        self.lines.extend(&run.lines);
        self.paths.insert(run.path.clone());
        self.results.insert(run.result.clone());
        self.raised += usize::from(run.has_raised);
    }
}
