//! Real functions, cut out of libraries, with runs on inputs that people wrote or that were found by trial.
//!
//! [`corpus`] opens a package and gives its functions as programs that stand alone; [`target`] finds arguments
//! for one, from what tests and docstrings call it with, from the kinds of its parameters, and from what worked
//! ([`kind`], [`mutate`]); [`examine`] runs them, guarded, and keeps the runs that show most, and those of
//! programs that differ from it in a token ([`mutant`]).

mod corpus;
mod examine;
mod kind;
mod mutant;
mod mutate;
mod target;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use cwm_trace::Entry;
use cwm_trace::live::Workings;
use cwm_tracer::Interpreter;

use crate::build::{BuildError, Report};
use crate::filter::Rejection;
use crate::fingerprint::{Fingerprint, fingerprint};
use crate::folder::Maker;
use crate::generate::rng::splitmix;
use crate::minhash::{NearIndex, Signature};
use crate::record::{Harvested, Origin, Record};
use crate::rows::Rows;
use crate::sieve::Sieve;

pub(crate) use corpus::Place;
pub use corpus::{Corpus, CorpusError, Refusal};
pub(crate) use corpus::{FetchedFiles, Fetcher, is_code, library_folder};
use corpus::{Opened, Opener};
pub use examine::Wanted;
use examine::{Examined, Examiner, Kept};
use target::Target;

/// What to harvest.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// In order.
    pub(crate) places: Vec<Place>,
    pub(crate) wanted: Wanted,
    /// SPDX identifiers.
    pub(crate) licences: Vec<String>,
    /// Where packages are kept.
    pub(crate) cache: PathBuf,
    /// The package index, if not that of pip's settings.
    pub(crate) index: Option<String>,
    pub(crate) threads: usize,
}

/// Functions examined at a time.
const CHUNK: usize = 64;

/// What comes of a corpus, in order.
struct Item {
    corpus: usize,
    /// Its place among those of the corpus; the one that opens it is 0.
    number: usize,
    what: What,
}

enum What {
    /// A corpus begins: files and functions in it that cannot be used.
    Begin(BTreeMap<Rejection, usize>),
    Function(Function),
}

struct Function {
    file: String,
    target: Target,
}

type Verdict = Result<Examined, Rejection>;

/// Makes the records of real functions.
pub(crate) struct Harvester {
    plan: Plan,
    examiners: Vec<Examiner>,
    /// What is opened beside the runs.
    opened: Option<Receiver<Result<Opened, CorpusError>>>,
    interpreter: Interpreter,
    corpora: Vec<Corpus>,
    /// What was not examined yet.
    waiting: VecDeque<Item>,
    /// What was, with what came of its function if it is one.
    examined: VecDeque<(Item, Option<Verdict>)>,
    seen: HashSet<Fingerprint>,
    near: NearIndex,
    report: Report,
    /// The next item: corpus and number.
    next: (usize, usize),
}

impl Harvester {
    pub(crate) fn start(plan: Plan, interpreter: &Interpreter) -> Result<Self, BuildError> {
        let start = |_| Examiner::start(interpreter, &plan.wanted);
        let examiners = (0..plan.threads.max(1))
            .map(start)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            examiners,
            opened: None,
            interpreter: interpreter.clone(),
            corpora: Vec::new(),
            waiting: VecDeque::new(),
            examined: VecDeque::new(),
            seen: HashSet::new(),
            near: NearIndex::default(),
            report: Report::default(),
            next: (0, 0),
            plan,
        })
    }

    /// Opens the rest of the places in a thread of its own, a few ahead.
    fn open_rest(&mut self) -> Result<(), BuildError> {
        let Plan {
            places,
            cache,
            index,
            licences,
            ..
        } = &self.plan;
        let places = places[self.corpora.len().min(places.len())..].to_vec();
        let (cache, index, licences) = (cache.clone(), index.clone(), licences.clone());
        let fetcher = Fetcher::start(&self.interpreter, cache, index, licences);
        let opener = fetcher.and_then(|fetcher| Opener::start(&self.interpreter, fetcher));
        let mut opener = opener.map_err(CorpusError::from)?;
        let (sender, receiver) = sync_channel(2);
        std::thread::spawn(move || {
            for place in &places {
                let opened = opener.open(place);
                let is_over = opened.is_err();
                // Nobody waits for more once the harvester is gone.
                if sender.send(opened).is_err() || is_over {
                    break;
                }
            }
        });
        self.opened = Some(receiver);
        Ok(())
    }

    /// Takes in the next corpus, if there is one.
    fn take_in(&mut self) -> Result<bool, BuildError> {
        let receiver = match &self.opened {
            Some(receiver) => receiver,
            None => {
                self.open_rest()?;
                return self.take_in();
            }
        };
        let Ok(opened) = receiver.recv() else {
            return Ok(false);
        };
        let Opened {
            about,
            targets,
            rejected,
        } = opened?;
        let corpus = self.corpora.len();
        let done = if corpus == self.next.0 {
            self.next.1
        } else {
            0
        };
        let functions = targets
            .into_iter()
            .map(|(file, target)| What::Function(Function { file, target }));
        let items = std::iter::once(What::Begin(rejected))
            .chain(functions)
            .enumerate()
            .skip(done);
        self.waiting.extend(items.map(|(number, what)| Item {
            corpus,
            number,
            what,
        }));
        self.corpora.push(about);
        Ok(true)
    }

    /// Examines what comes next; whether there was anything.
    fn examine_some(&mut self) -> Result<bool, BuildError> {
        while self.waiting.len() < CHUNK && self.take_in()? {}
        let some: Vec<_> = self
            .waiting
            .drain(..self.waiting.len().min(CHUNK))
            .collect();
        let verdicts = self.verdicts(&some)?;
        let is_over = some.is_empty();
        self.examined.extend(some.into_iter().zip(verdicts));
        Ok(!is_over)
    }

    /// What comes of some functions, in their order, whichever thread takes which.
    fn verdicts(&mut self, items: &[Item]) -> Result<Vec<Option<Verdict>>, BuildError> {
        let next = AtomicUsize::new(0);
        let seed = self.plan.seed;
        let work = |examiner: &mut Examiner| -> Result<Vec<(usize, Verdict)>, cwm_tracer::Error> {
            let mut made = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                match items.get(at).map(|item| &item.what) {
                    None => return Ok(made),
                    Some(What::Begin(_)) => {}
                    Some(What::Function(function)) => {
                        made.push((at, examiner.examine(&function.target, function.seed(seed))?));
                    }
                }
            }
        };
        let parts: Vec<_> = std::thread::scope(|scope| {
            let handles: Vec<_> = self
                .examiners
                .iter_mut()
                .map(|examiner| scope.spawn(|| work(examiner)))
                .collect();
            let join = |handle: std::thread::ScopedJoinHandle<'_, _>| {
                handle
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            handles.into_iter().map(join).collect()
        });
        let mut verdicts: Vec<_> = items.iter().map(|_| None).collect();
        for part in parts {
            for (at, verdict) in part? {
                verdicts[at] = Some(verdict);
            }
        }
        Ok(verdicts)
    }

    /// The records of a function that is kept.
    fn judged(
        &mut self,
        at: usize,
        function: &Function,
        verdict: Verdict,
        sieve: &mut Sieve,
    ) -> Result<Vec<Record>, BuildError> {
        let examined = match verdict {
            Ok(examined) => examined,
            Err(reason) => return Ok(self.rejected(reason)),
        };
        let (source, name) = (&function.target.source, &function.target.name);
        if let Some(reason) = self.known(source, name) {
            return Ok(self.rejected(reason));
        }
        let corpus = &self.corpora[at];
        let Examined { kept, mutants } = examined;
        let mut records = function.records(corpus, None, kept);
        for (number, (change, kept)) in (1..).zip(mutants) {
            records.extend(function.records(corpus, Some((number, change)), kept));
        }
        for record in &records {
            if let Some(reason) = sieve.judge(record)? {
                return Ok(self.rejected(reason));
            }
        }
        for record in &records {
            self.take_note(&record.trace.source, name);
        }
        self.report.candidates += 1;
        self.report.functions += 1;
        self.report.kept += records.len();
        let frames = records.iter().map(|record| record.trace.events.len());
        self.report.frames += frames.sum::<usize>();
        Ok(records)
    }

    /// Whether a function is there already, or nearly.
    fn known(&self, source: &str, name: &str) -> Option<Rejection> {
        let entry = entry(name);
        if self.seen.contains(&fingerprint(source, &entry)) {
            return Some(Rejection::Repeated);
        }
        let near = self.near.find(&Signature::of(source, &entry));
        near.map(|_| Rejection::NearDuplicate)
    }

    /// Takes note of a function that is kept, or of a mutant of one.
    fn take_note(&mut self, source: &str, name: &str) {
        let entry = entry(name);
        if self.seen.insert(fingerprint(source, &entry)) {
            self.near.insert(Signature::of(source, &entry));
        }
    }

    fn rejected(&mut self, reason: Rejection) -> Vec<Record> {
        self.report.reject(reason, 1);
        Vec::new()
    }
}

impl Maker for Harvester {
    fn go_on(&mut self, report: Report, next: u64, corpora: &[Corpus]) {
        self.report = report;
        self.next = ((next >> 32) as usize, (next & 0xffff_ffff) as usize);
        self.corpora = corpora.iter().take(self.next.0).cloned().collect();
    }

    fn remember(&mut self, rows: &Rows) {
        let Rows::Records(records) = rows else {
            return;
        };
        for record in records {
            if let Entry::Call { function, .. } = &record.trace.entry {
                self.take_note(&record.trace.source, function);
            }
        }
    }

    fn rows(&mut self, wanted: usize, sieve: &mut Sieve) -> Result<Rows, BuildError> {
        let mut records = Vec::new();
        while records.len() < wanted {
            let Some((item, verdict)) = self.examined.pop_front() else {
                if !self.examine_some()? {
                    break;
                }
                continue;
            };
            self.next = (item.corpus, item.number + 1);
            match (item.what, verdict) {
                (What::Begin(rejected), _) => {
                    for (reason, count) in rejected {
                        self.report.reject(reason, count);
                    }
                }
                (What::Function(function), Some(verdict)) => {
                    records.extend(self.judged(item.corpus, &function, verdict, sieve)?);
                }
                (What::Function(_), None) => {}
            }
        }
        Ok(Rows::Records(records))
    }

    fn report(&self) -> &Report {
        &self.report
    }

    fn next(&self) -> u64 {
        (self.next.0 as u64) << 32 | self.next.1 as u64
    }

    fn corpora(&self) -> &[Corpus] {
        // Others are open already, but nothing of them is in the report.
        let begun = self.next.0 + usize::from(self.next.1 > 0);
        &self.corpora[..begun.min(self.corpora.len())]
    }
}

impl Function {
    /// A seed that other functions and corpora do not change.
    fn seed(&self, seed: u64) -> u64 {
        let mut state = seed ^ (self.target.line as u64) << 32;
        for byte in self.file.bytes().chain(self.target.name.bytes()) {
            state = splitmix(&mut state) ^ u64::from(byte);
        }
        state
    }

    /// The records of its runs, or of those of a mutant: its number, and what was changed.
    fn records(
        &self,
        corpus: &Corpus,
        mutant: Option<(usize, String)>,
        kept: Vec<Kept>,
    ) -> Vec<Record> {
        let Corpus {
            name,
            version,
            licence,
            ..
        } = corpus;
        let mut group = format!("{name}-{version}/{}:{}", self.file, self.target.name);
        if let Some((number, _)) = &mutant {
            group += &format!("~{number}");
        }
        let record = |(number, kept): (usize, Kept)| Record {
            id: format!("{group}/{number}"),
            origin: Origin::Harvested(Harvested {
                package: name.clone(),
                version: version.clone(),
                licence: licence.clone(),
                file: self.file.clone(),
                line: self.target.line,
                arguments: kept.from,
                mutation: mutant.as_ref().map(|(_, change)| change.clone()),
            }),
            trace: kept.trace,
            workings: Workings::new(),
        };
        kept.into_iter().enumerate().map(record).collect()
    }
}

/// A function, whatever it is called with.
fn entry(function: &str) -> Entry {
    Entry::Call {
        function: function.to_owned(),
        args: String::new(),
    }
}
