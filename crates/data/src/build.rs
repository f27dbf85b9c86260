//! Generate, run for real, filter, write.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::time::Duration;

use cwm_trace::Trace;
use cwm_trace::live::Workings;
use cwm_tracer::{Batch, BatchOptions, Interpreter, Limits};
use sha2::{Digest, Sha256};

use crate::filter::{Rejection, judge};
use crate::fingerprint::{Fingerprint, fingerprint};
use crate::generate::rng::splitmix;
use crate::generate::{Level, Program, generate};
use crate::record::{Record, write_record};

/// What to build. The result depends on `seed`, `count`, `mix`, `drills`, `excluded` and
/// the interpreter's version alone.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seed of the generator.
    pub seed: u64,
    /// Records to write.
    pub count: usize,
    /// Relative weight of each level of programs.
    pub mix: [u32; 4],
    /// Relative weight of drills.
    pub drills: u32,
    /// Programs that run at the same time.
    pub threads: usize,
    /// Programs that must not appear, such as those of evaluations.
    pub excluded: HashSet<Fingerprint>,
}

impl Plan {
    /// Levels with their weights; drills last, so that a plan without them draws as if there were none.
    fn weights(&self) -> impl Iterator<Item = (Level, u32)> {
        let programs = Level::ALL.into_iter().zip(self.mix);
        programs.chain([(Level::Drill, self.drills)])
    }
}

/// How the candidates fared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records written.
    pub kept: usize,
    /// Programs generated.
    pub candidates: usize,
    /// Programs that were not kept, by reason.
    pub rejected: BTreeMap<Rejection, usize>,
    /// Frames written.
    pub frames: usize,
    /// SHA-256 of the written bytes, in hexadecimal.
    pub sha256: String,
}

/// Why a build stopped.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The tracer failed.
    #[error("cannot run the programs: {0}")]
    Tracer(#[from] cwm_tracer::Error),
    /// The output cannot be written.
    #[error("cannot write the records: {0}")]
    Write(#[from] io::Error),
    /// All weights are zero.
    #[error("the weights of all levels are zero")]
    NoLevel,
    /// Hardly any candidate is usable.
    #[error("only {kept} of {candidates} generated programs are usable; is the interpreter sound?")]
    Barren {
        /// Usable ones.
        kept: usize,
        /// Generated ones.
        candidates: usize,
    },
}

/// The most candidates in hand at once, per thread: so many share a process, if they can.
const CHUNK: usize = 512;
/// The fewest.
const LEAST: usize = 8;

/// Writes `plan.count` records. `progress` is told how many there are.
///
/// # Errors
/// [`BuildError`]; what was written before stays whole lines.
pub fn build(
    plan: &Plan,
    interpreter: &Interpreter,
    out: &mut impl Write,
    mut progress: impl FnMut(usize),
) -> Result<Report, BuildError> {
    if plan.weights().all(|(_, weight)| weight == 0) {
        return Err(BuildError::NoLevel);
    }
    let options = BatchOptions {
        limits: limits(),
        ..BatchOptions::default()
    };
    let threads = plan.threads.max(1);
    let mut batches = (0..threads)
        .map(|_| Batch::start(interpreter, options.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    let mut report = Report::default();
    let mut hash = Sha256::new();
    let mut seen = plan.excluded.clone();
    let mut next = 0;
    while report.kept < plan.count {
        if report.candidates > 2000 && report.kept * 50 < report.candidates {
            let (kept, candidates) = (report.kept, report.candidates);
            return Err(BuildError::Barren { kept, candidates });
        }
        // Nearly all candidates are kept.
        let wanted = (plan.count - report.kept).div_ceil(threads);
        let share = (wanted + wanted / 16).clamp(LEAST, CHUNK);
        let end = next + (share * threads) as u64;
        let traced = trace_all(plan, next..end, &mut batches)?;
        for (index, (program, trace)) in (next..end).zip(traced) {
            if report.kept == plan.count {
                break;
            }
            report.candidates += 1;
            let trace = match (check(&program, trace.as_ref(), &mut seen), trace) {
                (Ok(()), Some(trace)) => trace,
                (Err(reason), _) => {
                    *report.rejected.entry(reason).or_default() += 1;
                    continue;
                }
                (Ok(()), None) => continue,
            };
            report.frames += trace.events.len();
            let record = Record {
                id: format!("{}-{index}", plan.seed),
                seed: plan.seed,
                index,
                level: program.level,
                trace,
                workings: Workings::new(),
            };
            let mut line = Vec::new();
            write_record(&mut line, &record)?;
            hash.update(&line);
            out.write_all(&line)?;
            report.kept += 1;
        }
        progress(report.kept);
        next = end;
    }
    out.flush()?;
    report.sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(report)
}

/// Limits on one run: far above what is kept.
pub fn limits() -> Limits {
    Limits {
        max_events: 400,
        timeout: Duration::from_secs(5),
        ..Limits::default()
    }
}

/// The level of a candidate: a function of seed and index.
fn level_of(plan: &Plan, index: u64) -> Level {
    let total: u64 = plan.weights().map(|(_, w)| u64::from(w)).sum();
    let mut index = index;
    let mut state = plan.seed ^ splitmix(&mut index);
    let mut place = splitmix(&mut state) % total.max(1);
    for (level, weight) in plan.weights() {
        if place < u64::from(weight) {
            return level;
        }
        place -= u64::from(weight);
    }
    Level::One
}

type Traced = (Program, Option<Trace>);

/// Generates and runs the candidates of a range, in order.
fn trace_all(
    plan: &Plan,
    range: std::ops::Range<u64>,
    batches: &mut [Batch],
) -> Result<Vec<Traced>, BuildError> {
    let indexes: Vec<u64> = range.collect();
    let share = indexes.len().div_ceil(batches.len());
    let run = |batch: &mut Batch, indexes: &[u64]| -> Result<Vec<Traced>, cwm_tracer::Error> {
        let program = |&index: &u64| generate(plan.seed, index, level_of(plan, index));
        let programs: Vec<_> = indexes.iter().map(program).collect();
        let sources = programs.iter();
        let sources: Vec<_> = sources.map(|p| (&*p.source, p.entry.clone())).collect();
        let runs = batch.programs("program.py", &sources)?;
        // What is not Python, or cannot be called so, has no trace.
        let traces = runs.into_iter().map(|run| run.trace);
        Ok(programs.into_iter().zip(traces).collect())
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = batches
            .iter_mut()
            .zip(indexes.chunks(share))
            .map(|(batch, part)| scope.spawn(move || run(batch, part)))
            .collect();
        handles
            .into_iter()
            .map(|h| {
                h.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    let mut all = Vec::new();
    for part in parts {
        all.extend(part?);
    }
    Ok(all)
}

/// Whether a candidate is to be kept.
fn check(
    program: &Program,
    trace: Option<&Trace>,
    seen: &mut HashSet<Fingerprint>,
) -> Result<(), Rejection> {
    judge(program, trace.ok_or(Rejection::NotPython)?)?;
    if seen.insert(fingerprint(&program.source, &program.entry)) {
        Ok(())
    } else {
        Err(Rejection::Repeated)
    }
}
