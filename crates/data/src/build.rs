//! Generate, run for real, filter, write.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::time::Duration;

use cwm_trace::Trace;
use cwm_trace::live::Workings;
use cwm_tracer::{Batch, BatchOptions, Interpreter, Limits};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::filter::{Rejection, judge};
use crate::fingerprint::{Fingerprint, fingerprint};
use crate::generate::rng::splitmix;
use crate::generate::{Level, Mix, Program, generate};
use crate::minhash::{NearIndex, Signature};
use crate::record::{Record, write_record};

/// What to build. The result depends on `seed`, `count`, `mix`, `drills`, `distinct`, `excluded` and
/// the interpreter's version alone.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seed of the generator.
    pub seed: u64,
    /// Records to write.
    pub count: usize,
    /// Relative weight of each level of programs.
    pub mix: Mix,
    /// Relative weight of drills.
    pub drills: u32,
    /// Where near-duplicates are left out.
    pub distinct: Distinct,
    /// Programs that run at the same time.
    pub threads: usize,
    /// Programs that must not appear, such as those of evaluations.
    pub excluded: HashSet<Fingerprint>,
}

impl Plan {
    /// Levels with their weights; drills last, so that a plan without them draws as if there were none.
    fn weights(&self) -> impl Iterator<Item = (Level, u32)> {
        self.mix.weights().chain([(Level::Drill, self.drills)])
    }
}

/// Where a program that is nearly the same as one that is kept is left out ([`NearIndex`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distinct {
    /// Among programs of level 5: the others are short, and what they were before stays what it is.
    #[default]
    Wide,
    /// Among all programs and drills.
    All,
}

impl Distinct {
    /// Whether programs of a level, as [`Level::number`] has it, are compared.
    fn looks_at(self, level: u8) -> bool {
        self == Self::All || level == Level::Five.number()
    }
}

/// How the candidates fared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Records written.
    pub kept: usize,
    /// Programs generated.
    pub candidates: usize,
    /// Programs that were not kept, by reason.
    pub rejected: BTreeMap<Rejection, usize>,
    /// Frames written.
    pub frames: usize,
    /// SHA-256 of the written bytes, in hexadecimal; empty where others know it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
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
    let mut builder = Builder::start(plan, interpreter)?;
    let mut hash = Sha256::new();
    while builder.report.kept < plan.count {
        let wanted = (plan.count - builder.report.kept).min(CHUNK * builder.batches.len());
        for record in builder.records(wanted)? {
            let mut line = Vec::new();
            write_record(&mut line, &record)?;
            hash.update(&line);
            out.write_all(&line)?;
        }
        progress(builder.report.kept);
    }
    out.flush()?;
    let mut report = builder.report;
    report.sha256 = hex(&hash.finalize());
    Ok(report)
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes the records of a plan, some at a time: which ones follow from the plan and what was made before.
#[derive(Debug)]
pub struct Builder<'a> {
    plan: &'a Plan,
    batches: Vec<Batch>,
    seen: HashSet<Fingerprint>,
    near: NearIndex,
    next: u64,
    report: Report,
}

impl<'a> Builder<'a> {
    /// Starts the interpreters, with nothing made yet.
    ///
    /// # Errors
    /// [`BuildError::NoLevel`], or what the tracer says.
    pub fn start(plan: &'a Plan, interpreter: &Interpreter) -> Result<Self, BuildError> {
        if plan.weights().all(|(_, weight)| weight == 0) {
            return Err(BuildError::NoLevel);
        }
        let options = BatchOptions {
            limits: limits(),
            ..BatchOptions::default()
        };
        let batches = (0..plan.threads.max(1))
            .map(|_| Batch::start(interpreter, options.clone()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            plan,
            batches,
            seen: plan.excluded.clone(),
            near: NearIndex::default(),
            next: 0,
            report: Report::default(),
        })
    }

    /// Goes on after records that were made before: `report` and `next` are what [`Self::report`] and
    /// [`Self::next`] said then.
    pub fn go_on<'r>(
        &mut self,
        report: Report,
        next: u64,
        records: impl Iterator<Item = &'r Record>,
    ) {
        for Record { level, trace, .. } in records {
            self.seen.insert(fingerprint(&trace.source, &trace.entry));
            if self.plan.distinct.looks_at(*level) {
                self.near.insert(Signature::of(&trace.source, &trace.entry));
            }
        }
        self.report = report;
        self.next = next;
    }

    /// How the candidates fared so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The index of the next candidate.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The next `wanted` records.
    ///
    /// # Errors
    /// [`BuildError::Barren`], or what the tracer says.
    pub fn records(&mut self, wanted: usize) -> Result<Vec<Record>, BuildError> {
        let threads = self.batches.len();
        let mut records = Vec::with_capacity(wanted);
        while records.len() < wanted {
            let (kept, candidates) = (self.report.kept, self.report.candidates);
            if candidates > 2000 && kept * 50 < candidates {
                return Err(BuildError::Barren { kept, candidates });
            }
            // Nearly all candidates are kept.
            let left = (wanted - records.len()).div_ceil(threads);
            let share = (left + left / 16).clamp(LEAST, CHUNK);
            let range = self.next..self.next + (share * threads) as u64;
            let traced = trace_all(self.plan, range.clone(), &mut self.batches)?;
            for (index, (program, trace)) in range.zip(traced) {
                if records.len() == wanted {
                    break;
                }
                self.next = index + 1;
                records.extend(self.judged(index, &program, trace));
            }
        }
        Ok(records)
    }

    /// The record of a candidate that is kept.
    fn judged(&mut self, index: u64, program: &Program, trace: Option<Trace>) -> Option<Record> {
        self.report.candidates += 1;
        if let Err(reason) = self.check(program, trace.as_ref()) {
            *self.report.rejected.entry(reason).or_default() += 1;
            return None;
        }
        let trace = trace?;
        self.report.kept += 1;
        self.report.frames += trace.events.len();
        Some(Record {
            id: format!("{}-{index}", self.plan.seed),
            seed: self.plan.seed,
            index,
            level: program.level,
            trace,
            workings: Workings::new(),
        })
    }

    /// Whether a candidate is to be kept. What is known afterwards follows from what is kept alone, so that a
    /// build that goes on knows what one that was not stopped does.
    fn check(&mut self, program: &Program, trace: Option<&Trace>) -> Result<(), Rejection> {
        judge(program, trace.ok_or(Rejection::NotPython)?)?;
        let print = fingerprint(&program.source, &program.entry);
        if self.seen.contains(&print) {
            return Err(Rejection::Repeated);
        }
        if self.plan.distinct.looks_at(program.level) {
            let signature = Signature::of(&program.source, &program.entry);
            if self.near.find(&signature).is_some() {
                return Err(Rejection::NearDuplicate);
            }
            self.near.insert(signature);
        }
        self.seen.insert(print);
        Ok(())
    }
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
