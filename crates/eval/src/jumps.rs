//! Jumps: how often a model that is asked where an action of a debugger leads names it right.
//!
//! Of every recorded run each action is asked for once, at a place that the run's text decides. Forwards and backwards
//! alike an answer is right if it is what really was there. Only for the arguments of a call that is not all: what
//! gives the same value was found too, and whether it does is seen by running the function with them
//! ([`Jumps::run_inputs`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use cwm_engine::live::{Landing, Predictor};
use cwm_engine::{BackendError, Engine};
use cwm_tokenizer::nano::Vocabulary;
use cwm_trace::live::{Ahead, Answers, Behind, Document, Jump, Outcome, later};
use cwm_trace::{Entry, Event, EventKind, Trace};
use cwm_tracer::{Request, Worker};
use serde_json::{Value, json};

use crate::Rate;
use crate::score::answer;

/// What was asked, and how much of it was right.
#[derive(Clone, Debug, Default)]
pub struct Jumps {
    /// Right answers by action: `over` (past calls that the line makes, where a run has such a line), `leave`,
    /// `until`, `finish`, `before`, `into`, `input`.
    pub by_action: BTreeMap<&'static str, Rate>,
    /// Arguments with which the function gives the wanted value, among those asked for; empty until
    /// [`Self::run_inputs`].
    pub input_runs: Rate,
    guesses: Vec<Guess>,
}

/// Arguments that a model named for a value.
#[derive(Clone, Debug)]
struct Guess {
    source: String,
    function: String,
    /// As to be written in a call; `None` where the model named none.
    args: Option<String>,
    value: Arc<str>,
    is_exact: bool,
}

/// The action that a question asks for.
const ACTIONS: [&str; 7] = [
    "over", "leave", "until", "finish", "before", "into", "input",
];

impl Jumps {
    /// Asks a model about one recorded run.
    pub(crate) fn ask(
        engine: &Arc<Engine>,
        vocabulary: &Arc<Vocabulary>,
        document: &Document,
    ) -> Result<Self, BackendError> {
        let mut jumps = Self::default();
        let predictor = Predictor::new(engine.clone(), vocabulary.clone(), &document.source);
        let Some(predictor) = answer(predictor)? else {
            return Ok(jumps);
        };
        let questions = questions(document);
        let mut point = predictor.blank();
        for (index, event) in document.events.iter().enumerate() {
            let Some(next) = answer(predictor.follow(&point, event))? else {
                break;
            };
            point = next;
            for &(_, action, jump, outcome) in questions.iter().filter(|q| q.0 == index) {
                let landed = match (jump, later(event)) {
                    (Jump::Ahead(jump), _) => answer(predictor.jump(&point, jump))?,
                    (Jump::Behind(jump), Some(later)) => answer(predictor.look_back(later, jump))?,
                    (Jump::Behind(_), None) => None,
                };
                let landing = landed.map(|landed| landed.landing);
                let is_right = landing.as_ref().is_some_and(|found| same(found, outcome));
                jumps.by_action.entry(action).or_default().add(is_right);
                if jump == Jump::Behind(Behind::Input) {
                    let guess = Guess::new(document, event, landing.as_ref(), is_right);
                    jumps.guesses.extend(guess);
                }
            }
        }
        Ok(jumps)
    }

    /// Runs functions with the arguments that were named for their values.
    ///
    /// # Errors
    /// When the interpreter is lost.
    pub fn run_inputs(&mut self, worker: &mut Worker) -> Result<(), cwm_tracer::Error> {
        for guess in std::mem::take(&mut self.guesses) {
            let is_right = guess.is_exact || guess.gives_the_value(worker)?;
            self.input_runs.add(is_right);
        }
        Ok(())
    }

    /// Adds what was asked of other runs.
    pub fn merge(&mut self, other: Self) {
        for (action, rate) in other.by_action {
            self.by_action.entry(action).or_default().merge(rate);
        }
        self.input_runs.merge(other.input_runs);
        self.guesses.extend(other.guesses);
    }

    /// Rates by action, and `input_runs`.
    pub fn rates(&self) -> impl Iterator<Item = (&'static str, Rate)> + '_ {
        let by_action = self.by_action.iter().map(|(action, rate)| (*action, *rate));
        by_action.chain(std::iter::once(("input_runs", self.input_runs)))
    }

    /// An object; every rate is `{"value", "count", "wilson95"}`.
    pub fn to_json(&self) -> Value {
        let rate = |rate: Rate| json!({"value": rate.value(), "count": rate.count, "wilson95": rate.wilson()});
        self.rates()
            .map(|(action, of)| (action.to_owned(), rate(of)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

impl Guess {
    /// `None` for a function that cannot be called by its name alone.
    fn new(
        document: &Document,
        event: &Event,
        landing: Option<&Landing>,
        is_exact: bool,
    ) -> Option<Self> {
        let function = document.functions.get(event.function as usize)?;
        let args = match landing {
            Some(Landing::State(call)) => {
                let pairs = call.locals.iter();
                let pairs = pairs.map(|local| format!("{}={}", local.name, local.value.repr));
                Some(pairs.collect::<Vec<_>>().join(", "))
            }
            _ => None,
        };
        (!function.qualname.contains('.')).then(|| Self {
            source: document.source.clone(),
            function: function.qualname.clone(),
            args,
            value: event
                .value
                .as_ref()
                .map_or("None".into(), |v| v.detailed().clone()),
            is_exact,
        })
    }

    fn gives_the_value(self, worker: &mut Worker) -> Result<bool, cwm_tracer::Error> {
        let Some(args) = self.args else {
            return Ok(false);
        };
        let request = Request {
            file: "program.py",
            source: &self.source,
            entry: Entry::Call {
                function: self.function,
                args,
            },
            stdin: b"",
            arguments: &[],
        };
        match worker.trace(&request) {
            Ok(trace) => Ok(value(&trace).is_some_and(|found| *found == self.value)),
            Err(
                cwm_tracer::Error::NotPython { .. }
                | cwm_tracer::Error::MissingEntry { .. }
                | cwm_tracer::Error::BadArguments { .. },
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What the call that a run is returned.
fn value(trace: &Trace) -> Option<&Arc<str>> {
    let last = trace
        .events
        .last()
        .filter(|last| last.kind == EventKind::Return)?;
    last.value
        .as_ref()
        .filter(|_| trace.end.is_complete())
        .map(|value| value.detailed())
}

/// What to ask of a run: event, action, and where it leads.
fn questions(document: &Document) -> Vec<(usize, &'static str, Jump, Outcome<'_>)> {
    let answers = Answers::new(document);
    let count = document.events.len();
    let seed = document.source.bytes().fold(0_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let first = (seed >> 20) as usize % count.max(1);
    let around = || (first..count).chain(0..first);
    let mut questions = Vec::new();
    for action in ACTIONS {
        let found = around().filter_map(|index| {
            let jump = match action {
                "over" => Jump::Ahead(Ahead::Over),
                "leave" => Jump::Ahead(Ahead::Leave),
                "until" => Jump::Ahead(Ahead::Until(answers.line_for(index, seed)?)),
                "finish" => Jump::Ahead(Ahead::Finish),
                "before" => Jump::Behind(Behind::Before),
                "into" => Jump::Behind(Behind::Into),
                _ => Jump::Behind(Behind::Input),
            };
            let outcome = answers.outcome(index, jump)?;
            Some((index, action, jump, outcome))
        });
        let is_telling =
            |&(index, _, jump, _): &(usize, _, Jump, _)| is_telling(document, index, jump);
        let mut found = found.peekable();
        let fallback = found.peek().copied();
        questions.extend(found.find(is_telling).or(fallback));
    }
    questions
}

/// Whether a question asks for more than a frame would: a call lies between, or a value has to be explained.
fn is_telling(document: &Document, index: usize, jump: Jump) -> bool {
    let enters = |index: usize| document.events.get(index).is_some_and(|e| e.kind.enters());
    match jump {
        Jump::Ahead(Ahead::Over) => enters(index + 1),
        Jump::Behind(Behind::Into) => {
            index > 0 && document.events[index - 1].activation != document.events[index].activation
        }
        Jump::Behind(Behind::Input) => document.events[index].kind == EventKind::Return,
        _ => true,
    }
}

/// Whether a landing is what really was there. Of an event that leaves an activation the value counts alone.
fn same(found: &Landing, real: Outcome<'_>) -> bool {
    match (found, real) {
        (Landing::Exit(found), Outcome::Exit(real)) => *found == real,
        (Landing::State(found), Outcome::State(real)) => {
            let value = |event: &Event| event.value.as_ref().map(|v| v.detailed().clone());
            let locals = || {
                found.locals.len() == real.locals.len()
                    && real.locals.iter().all(|local| found.locals.contains(local))
            };
            let shows_locals = matches!(real.kind, EventKind::Line | EventKind::Call);
            found.kind == real.kind
                && (found.line == real.line || !shows_locals)
                && value(found) == value(real)
                && (!shows_locals || locals())
        }
        _ => false,
    }
}
