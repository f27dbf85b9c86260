//! Candidates of a plan: generated, run and judged by threads of their own, a little ahead of who takes them.
//!
//! What a candidate is follows from its number and the plan alone. The threads only decide when it is there, so
//! that the one who takes them may compare and write meanwhile.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use cwm_trace::Trace;
use cwm_tracer::{Batch, BatchOptions, Error, Interpreter, Limits};

use crate::build::Plan;
use crate::filter::{Rejection, events_of, judge};
use crate::fingerprint::{Fingerprint, fingerprint};
use crate::generate::rng::splitmix;
use crate::generate::{Level, Program, generate};
use crate::minhash::Signature;

/// The most candidates of short programs that share a process, if they can.
const CHUNK: usize = 512;
/// The same where programs run for long: their traces fill the memory.
const LONG_CHUNK: usize = 96;
/// The fewest.
const LEAST: usize = 8;
/// Chunks that are ready, of each thread, while it makes another.
const AHEAD: usize = 1;

/// A program, its run, and what can be said of it without knowing the others.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) index: u64,
    pub(crate) program: Program,
    /// `None` where it is not Python, or cannot be called so.
    pub(crate) trace: Option<Trace>,
    pub(crate) judged: Result<(), Rejection>,
    pub(crate) fingerprint: Fingerprint,
    /// For programs that are compared for being nearly the same.
    pub(crate) signature: Option<Signature>,
}

type Made = Result<Vec<Candidate>, Error>;

/// Gives the candidates of a plan one after the other.
#[derive(Debug)]
pub(crate) struct Candidates {
    plan: Arc<Plan>,
    /// Interpreters of no thread.
    idle: Vec<Batch>,
    threads: Vec<JoinHandle<Batch>>,
    /// The next chunks are taken from these in turn, one from each.
    made: VecDeque<Receiver<Made>>,
    /// Chunks that are still to be taken.
    chunks: usize,
    ready: std::vec::IntoIter<Candidate>,
}

impl Candidates {
    /// Starts the interpreters, with nothing made yet.
    pub(crate) fn start(plan: Arc<Plan>, interpreter: &Interpreter) -> Result<Self, Error> {
        let options = BatchOptions {
            limits: limits(&plan),
            ..BatchOptions::default()
        };
        let idle = (0..plan.threads.max(1))
            .map(|_| Batch::start(interpreter, options.clone()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            plan,
            idle,
            threads: Vec::new(),
            made: VecDeque::new(),
            chunks: 0,
            ready: Vec::new().into_iter(),
        })
    }

    /// The candidate behind the last one; the first is number `next`. About `wanted` more are expected to be taken:
    /// the threads do not go far beyond.
    pub(crate) fn take(&mut self, next: u64, wanted: usize) -> Result<Candidate, Error> {
        loop {
            if let Some(candidate) = self.ready.next() {
                return Ok(candidate);
            }
            if self.chunks == 0 {
                self.gather();
                self.send_out(next, wanted);
            }
            let receiver = self.made.pop_front().expect("there are threads");
            let Ok(made) = receiver.recv() else {
                // Only a panic ends a thread before it has sent its chunks.
                self.made.push_back(receiver);
                self.gather();
                unreachable!("a thread without a panic sends all its chunks");
            };
            self.made.push_back(receiver);
            self.chunks -= 1;
            self.ready = made?.into_iter();
        }
    }

    /// Lets the threads make the candidates from `next` on.
    fn send_out(&mut self, next: u64, wanted: usize) {
        let threads = self.idle.len();
        // Nearly all candidates are kept.
        let share = (wanted + wanted / 16).div_ceil(threads).max(LEAST);
        let chunk = share.min(largest_chunk(&self.plan)) as u64;
        let end = next + (share * threads) as u64;
        let starts = (next..end).step_by(chunk as usize);
        let chunks: Vec<_> = starts.map(|at| at..(at + chunk).min(end)).collect();
        self.chunks = chunks.len();
        for (thread, mut batch) in std::mem::take(&mut self.idle).into_iter().enumerate() {
            let own: Vec<_> = chunks
                .iter()
                .skip(thread)
                .step_by(threads)
                .cloned()
                .collect();
            let (sender, receiver) = sync_channel(AHEAD);
            let plan = self.plan.clone();
            self.made.push_back(receiver);
            self.threads.push(std::thread::spawn(move || {
                for range in own {
                    // Nobody listens any more where enough was taken.
                    if sender.send(run(&plan, range, &mut batch)).is_err() {
                        break;
                    }
                }
                batch
            }));
        }
    }

    /// Ends the threads, with what they are about to make, and takes their interpreters back.
    fn gather(&mut self) {
        self.made.clear();
        self.chunks = 0;
        for thread in self.threads.drain(..) {
            let batch = thread.join();
            self.idle
                .push(batch.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    }
}

impl Drop for Candidates {
    fn drop(&mut self) {
        self.made.clear();
        for thread in self.threads.drain(..) {
            // A panic of a thread has been passed on by who waited for its candidates.
            drop(thread.join());
        }
    }
}

/// Generates, runs and judges the candidates of a range, in order.
fn run(plan: &Plan, range: Range<u64>, batch: &mut Batch) -> Made {
    let program = |index: u64| generate(plan.seed, index, level_of(plan, index));
    let programs: Vec<_> = range.clone().map(program).collect();
    let sources = programs.iter();
    let sources: Vec<_> = sources.map(|p| (&*p.source, p.entry.clone())).collect();
    let runs = batch.programs("program.py", &sources)?;
    let all = range.zip(programs).zip(runs);
    let candidate = |((index, program), run): ((u64, Program), cwm_tracer::Run)| {
        let Program { source, entry, .. } = &program;
        let trace = run.trace;
        let judged = match &trace {
            Some(trace) => judge(&program, trace),
            None => Err(Rejection::NotPython),
        };
        let is_compared = judged.is_ok() && plan.distinct.looks_at(program.level);
        Candidate {
            index,
            fingerprint: fingerprint(source, entry),
            signature: is_compared.then(|| Signature::of(source, entry)),
            judged,
            trace,
            program,
        }
    };
    Ok(all.map(candidate).collect())
}

fn has_long(plan: &Plan) -> bool {
    let mut weights = plan.weights();
    weights.any(|(level, weight)| level == Level::Six && weight > 0)
}

fn largest_chunk(plan: &Plan) -> usize {
    if has_long(plan) { LONG_CHUNK } else { CHUNK }
}

/// Limits on one run: above what is kept, and for the short levels what they always were, since what a run that is
/// cut is counted as depends on them.
fn limits(plan: &Plan) -> Limits {
    let longest = *events_of(Level::Six.number()).end() as u64;
    Limits {
        max_events: if has_long(plan) { longest + 100 } else { 400 },
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
