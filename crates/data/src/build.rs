//! Generate, run for real, filter, write.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::time::Duration;

use cwm_trace::live::Workings;
use cwm_trace::{Entry, Trace};
use cwm_tracer::{Batch, BatchOptions, Interpreter, Limits};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::filter::{Rejection, events_of, judge};
use crate::fingerprint::{Fingerprint, fingerprint};
use crate::folder::Maker;
use crate::generate::rng::splitmix;
use crate::generate::{Level, Mix, Program, generate};
use crate::harvest::{Corpus, CorpusError};
use crate::minhash::{NearIndex, Signature};
use crate::python::PythonError;
use crate::record::{Origin, Record, write_record};
use crate::rows::Rows;
use crate::sieve::Sieve;
use crate::text::Skip;
use crate::text_source::TextError;

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
    /// Among programs of level 5: the others are short, and what they were before stays what it is; those of level
    /// 6 are the same few hundred algorithms on other inputs, and differ in what they do.
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
    /// Programs generated, or functions and files looked at.
    pub candidates: usize,
    /// Functions of people that are in the records.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub functions: usize,
    /// Programs that were not kept, by reason.
    pub rejected: BTreeMap<Rejection, usize>,
    /// Frames written.
    pub frames: usize,
    /// Texts that were not kept, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<Skip, usize>,
    /// SHA-256 of the written bytes, in hexadecimal; empty where others know it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Report {
    /// Counts candidates that were not kept.
    pub(crate) fn reject(&mut self, reason: Rejection, count: usize) {
        self.candidates += count;
        *self.rejected.entry(reason).or_default() += count;
    }
}

/// Why a build stopped.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The tracer failed.
    #[error("cannot run the programs: {0}")]
    Tracer(#[from] cwm_tracer::Error),
    /// Packages or problems cannot be opened.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// Texts cannot be made.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The interpreter that compares or reads programs is gone.
    #[error(transparent)]
    Python(#[from] PythonError),
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
    let mut builder = Builder::start(plan.clone(), interpreter)?;
    let mut hash = Sha256::new();
    while builder.report.kept < plan.count {
        let wanted = (plan.count - builder.report.kept).min(CHUNK * builder.batches.len());
        for record in builder.records(wanted, &mut Sieve::default())? {
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
pub(crate) struct Builder {
    plan: Plan,
    batches: Vec<Batch>,
    seen: HashSet<Fingerprint>,
    near: NearIndex,
    next: u64,
    report: Report,
}

impl Builder {
    /// Starts the interpreters, with nothing made yet.
    pub(crate) fn start(plan: Plan, interpreter: &Interpreter) -> Result<Self, BuildError> {
        if plan.weights().all(|(_, weight)| weight == 0) {
            return Err(BuildError::NoLevel);
        }
        let options = BatchOptions {
            limits: limits_of(&plan),
            ..BatchOptions::default()
        };
        let batches = (0..plan.threads.max(1))
            .map(|_| Batch::start(interpreter, options.clone()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            batches,
            seen: plan.excluded.clone(),
            near: NearIndex::default(),
            next: 0,
            report: Report::default(),
            plan,
        })
    }

    /// Whether a record of a candidate is kept, and it.
    fn judged(
        &mut self,
        index: u64,
        program: &Program,
        trace: Option<Trace>,
        sieve: &mut Sieve,
    ) -> Result<Option<Record>, BuildError> {
        let level = program.level;
        let checked = self.check(program, trace.as_ref());
        let record = trace.map(|trace| Record {
            id: format!("{}-{index}", self.plan.seed),
            origin: Origin::Generated {
                seed: self.plan.seed,
                index,
                level,
            },
            trace,
            workings: Workings::new(),
        });
        let reason = match (checked, &record) {
            (Err(reason), _) => Some(reason),
            (Ok(()), Some(record)) => sieve.judge(record)?,
            (Ok(()), None) => Some(Rejection::NotPython),
        };
        if let Some(reason) = reason {
            self.report.reject(reason, 1);
            return Ok(None);
        }
        self.take_note(&program.source, &program.entry, level);
        self.report.candidates += 1;
        self.report.kept += 1;
        self.report.frames += record
            .as_ref()
            .map_or(0, |record| record.trace.events.len());
        Ok(record)
    }
}

impl Builder {
    /// Whether a candidate is to be kept.
    fn check(&self, program: &Program, trace: Option<&Trace>) -> Result<(), Rejection> {
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
        }
        Ok(())
    }

    /// Takes note of a program that is kept. What is known follows from what is kept alone, so that a build that
    /// goes on knows what one that was not stopped does.
    fn take_note(&mut self, source: &str, entry: &Entry, level: u8) {
        self.seen.insert(fingerprint(source, entry));
        if self.plan.distinct.looks_at(level) {
            self.near.insert(Signature::of(source, entry));
        }
    }
}

impl Builder {
    /// The next `wanted` records; fewer where the plan wants no more.
    fn records(&mut self, wanted: usize, sieve: &mut Sieve) -> Result<Vec<Record>, BuildError> {
        let wanted = wanted.min(self.plan.count - self.report.kept);
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
            let traced = trace_all(&self.plan, range.clone(), &mut self.batches)?;
            for (index, (program, trace)) in range.zip(traced) {
                if records.len() == wanted {
                    break;
                }
                self.next = index + 1;
                records.extend(self.judged(index, &program, trace, sieve)?);
            }
        }
        Ok(records)
    }
}

impl Maker for Builder {
    fn go_on(&mut self, report: Report, next: u64, _: &[Corpus]) {
        self.report = report;
        self.next = next;
    }

    fn remember(&mut self, rows: &Rows) {
        let Rows::Records(records) = rows else {
            return;
        };
        for Record { trace, origin, .. } in records {
            let level = origin.level().unwrap_or_default();
            self.take_note(&trace.source, &trace.entry, level);
        }
    }

    fn report(&self) -> &Report {
        &self.report
    }

    fn next(&self) -> u64 {
        self.next
    }

    fn corpora(&self) -> &[Corpus] {
        &[]
    }

    fn rows(&mut self, wanted: usize, sieve: &mut Sieve) -> Result<Rows, BuildError> {
        self.records(wanted, sieve).map(Rows::Records)
    }
}

/// Limits on one run of a plan: above what is kept, and for the short levels what they always were, since what a run
/// that is cut is counted as depends on them.
fn limits_of(plan: &Plan) -> Limits {
    let is_long = |(level, weight)| level == Level::Six && weight > 0;
    Limits {
        max_events: if plan.weights().any(is_long) {
            *events_of(Level::Six.number()).end() as u64 + 100
        } else {
            400
        },
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
