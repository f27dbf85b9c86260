//! Generate, run for real, filter, write.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::sync::Arc;

use cwm_trace::live::Workings;
use cwm_tracer::Interpreter;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::candidates::{Candidate, Candidates};
use crate::filter::Rejection;
use crate::fingerprint::{Fingerprint, fingerprint};
use crate::folder::Maker;
use crate::generate::{Level, Mix};
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
    pub(crate) fn weights(&self) -> impl Iterator<Item = (Level, u32)> {
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
    pub(crate) fn looks_at(self, level: u8) -> bool {
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

/// The most records in hand at once, per thread.
const CHUNK: usize = 512;

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
        let wanted = (plan.count - builder.report.kept).min(CHUNK * plan.threads.max(1));
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
    plan: Arc<Plan>,
    candidates: Candidates,
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
        let plan = Arc::new(plan);
        let candidates = Candidates::start(plan.clone(), interpreter)?;
        Ok(Self {
            candidates,
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
        candidate: Candidate,
        sieve: &mut Sieve,
    ) -> Result<Option<Record>, BuildError> {
        let checked = self.check(&candidate);
        let Candidate {
            index,
            program,
            trace,
            fingerprint,
            signature,
            ..
        } = candidate;
        let record = trace.map(|trace| Record {
            id: format!("{}-{index}", self.plan.seed),
            origin: Origin::Generated {
                seed: self.plan.seed,
                index,
                level: program.level,
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
        self.take_note(fingerprint, signature);
        self.report.candidates += 1;
        self.report.kept += 1;
        self.report.frames += record
            .as_ref()
            .map_or(0, |record| record.trace.events.len());
        Ok(record)
    }

    /// Whether a candidate is to be kept.
    fn check(&self, candidate: &Candidate) -> Result<(), Rejection> {
        candidate.judged?;
        if self.seen.contains(&candidate.fingerprint) {
            return Err(Rejection::Repeated);
        }
        match &candidate.signature {
            Some(signature) if self.near.find(signature).is_some() => Err(Rejection::NearDuplicate),
            _ => Ok(()),
        }
    }

    /// Takes note of a program that is kept. What is known follows from what is kept alone, so that a build that
    /// goes on knows what one that was not stopped does.
    fn take_note(&mut self, fingerprint: Fingerprint, signature: Option<Signature>) {
        self.seen.insert(fingerprint);
        if let Some(signature) = signature {
            self.near.insert(signature);
        }
    }

    /// The next `wanted` records; fewer where the plan wants no more.
    fn records(&mut self, wanted: usize, sieve: &mut Sieve) -> Result<Vec<Record>, BuildError> {
        let wanted = wanted.min(self.plan.count - self.report.kept);
        let mut records = Vec::with_capacity(wanted);
        while records.len() < wanted {
            let (kept, candidates) = (self.report.kept, self.report.candidates);
            if candidates > 2000 && kept * 50 < candidates {
                return Err(BuildError::Barren { kept, candidates });
            }
            let candidate = self.candidates.take(self.next, self.plan.count - kept)?;
            self.next = candidate.index + 1;
            records.extend(self.judged(candidate, sieve)?);
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
            let is_compared = self.plan.distinct.looks_at(level);
            let signature = is_compared.then(|| Signature::of(&trace.source, &trace.entry));
            self.take_note(fingerprint(&trace.source, &trace.entry), signature);
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
