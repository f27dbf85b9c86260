//! Serving many requests at once, in steps.
//!
//! A [`Scheduler`] has no thread and no clock. Each [`Scheduler::step`] admits requests from a
//! bounded queue, divides a budget of tokens among those that run, takes them through the engine in
//! one batch and reports what came out. [`Server`] gives a scheduler a thread.
//!
//! # What is promised
//! - **A request in a batch equals its solo run**: its tokens, their scores and its text are the
//!   same bits whatever else is served, however its prompt is cut and its drafts fall, under
//!   [`Numerics::Invariant`](crate::Numerics::Invariant). Only [`Usage::drafted`] and
//!   [`Usage::accepted`] may differ.
//! - **Nobody starves.** A request that finds `n` others waiting is admitted as the `(n + 1) *
//!   oldest_every`-th after it came at the latest, whatever priorities and clients come later.
//!   A request that runs gets at least one token in every step, so it ends after as many steps as
//!   it has prompt and generated tokens at the latest, and then leaves its room to others.
//! - **Memory is bounded.** A request is admitted when all the pages it can grow to are free, and
//!   waits until then; one that can never fit is refused. So nothing that runs is ever evicted.
//! - **Failure is private.** A request that cannot go on ends alone, with an error in its
//!   [`Finish`].
//!
//! [`Usage::drafted`]: crate::Usage::drafted
//! [`Usage::accepted`]: crate::Usage::accepted

mod batch;
mod queue;
mod sequence;
mod server;
mod share;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use server::{Handle, Server, Ticket};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::request::{Event, Finish, Finished, Request, TokenText, Usage};
use crate::session::BatchItem;
use batch::extend_batch;
use queue::{Queue, Waiting};
use sequence::Sequence;
use share::share;

/// The text of tokens, where it is known.
type Text<'a> = Option<&'a (dyn TokenText + Send + Sync)>;

/// What a [`Scheduler`] may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// Requests that may wait. At least 1.
    pub max_waiting: usize,
    /// Requests that may run at once. At least 1.
    pub max_running: usize,
    /// Tokens computed in one step at most: what bounds the time it takes. Not below
    /// `max_running`, so that every request that runs gets one.
    pub step_tokens: usize,
    /// Pages of [`PAGE`](crate::PAGE) positions that the sessions of all requests that run may grow
    /// to together, shared ones counted for each. Sessions that callers hold are not counted.
    pub max_pages: usize,
    /// Guesses of a drafter that are verified in one step, for each request.
    pub max_draft: usize,
    /// At which admission it is the turn of the request that waits longest, whatever its priority;
    /// 1 admits in the order of arrival. At least 1.
    pub oldest_every: usize,
}

impl Default for SchedulerOptions {
    /// 256 that wait, 16 that run, 512 tokens a step, 4096 pages (262,144 positions), 16 guesses,
    /// every fourth admission for the oldest.
    fn default() -> Self {
        Self {
            max_waiting: 256,
            max_running: 16,
            step_tokens: 512,
            max_pages: 4096,
            max_draft: 16,
            oldest_every: 4,
        }
    }
}

impl SchedulerOptions {
    fn check(&self) -> Result<()> {
        let at_least_one = [
            ("max_waiting", self.max_waiting),
            ("max_running", self.max_running),
            ("max_pages", self.max_pages),
            ("oldest_every", self.oldest_every),
        ];
        for (option, value) in at_least_one {
            if value == 0 {
                let problem = "is 0; use 1 or more".to_owned();
                return Err(Error::Option { option, problem });
            }
        }
        if self.step_tokens < self.max_running {
            let problem = format!(
                "is {}; it must be at least `max_running`, which is {}",
                self.step_tokens, self.max_running
            );
            return Err(Error::Option {
                option: "step_tokens",
                problem,
            });
        }
        Ok(())
    }
}

/// Tells the requests of one [`Scheduler`] apart; later ones have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// Serves requests with one engine.
pub struct Scheduler {
    engine: Arc<Engine>,
    options: SchedulerOptions,
    text: Option<Arc<dyn TokenText + Send + Sync>>,
    queue: Queue,
    /// In the order of their admission.
    running: Vec<Sequence>,
    next_id: u64,
    /// Ends that came between two steps.
    ended: Vec<(RequestId, Event)>,
}

impl Scheduler {
    /// A scheduler without requests. It knows no text: its events have none, and it refuses stop
    /// strings.
    ///
    /// # Errors
    /// [`Error::Option`] for options out of their range.
    pub fn new(engine: Arc<Engine>, options: SchedulerOptions) -> Result<Self> {
        options.check()?;
        Ok(Self {
            engine,
            queue: Queue::new(options.oldest_every),
            options,
            text: None,
            running: Vec::new(),
            next_id: 0,
            ended: Vec::new(),
        })
    }

    /// Tells it the text of tokens.
    pub fn with_text(mut self, text: Arc<dyn TokenText + Send + Sync>) -> Self {
        self.text = Some(text);
        self
    }

    /// Puts a request into the queue.
    ///
    /// # Errors
    /// What [`Request::check`] finds, [`Error::OverBudget`] for a request that can never be
    /// admitted, [`Error::QueueFull`]. The request is dropped.
    pub fn submit(&mut self, request: Request) -> Result<RequestId> {
        let sampler = request.check(&self.engine)?;
        if self.text.is_none() && !request.stop_strings.is_empty() {
            return Err(Error::Request {
                field: "stop_strings",
                problem: "needs the text of tokens; use `stop_ids`, or give the scheduler a \
                          `TokenText`"
                    .to_owned(),
            });
        }
        let pages = request.pages(&self.engine);
        let max_pages = self.options.max_pages;
        if pages > max_pages {
            return Err(Error::OverBudget { pages, max_pages });
        }
        let waiting = self.queue.len();
        if waiting >= self.options.max_waiting {
            return Err(Error::QueueFull { waiting });
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.queue.push(Waiting {
            id,
            request,
            sampler,
            pages,
        });
        Ok(id)
    }

    /// Ends a request, wherever it is: its pages are free at once. The next step reports it. Says
    /// whether there was anything to end.
    pub fn cancel(&mut self, id: RequestId) -> bool {
        let before = self.ended.len();
        self.end(|other, _| (other == id).then_some(Finish::Cancelled));
        self.ended.len() > before
    }

    /// Ends every request.
    pub fn cancel_all(&mut self) {
        self.end(|_, _| Some(Finish::Cancelled));
    }

    /// Requests that wait.
    pub fn n_waiting(&self) -> usize {
        self.queue.len()
    }

    /// Requests that run.
    pub fn n_running(&self) -> usize {
        self.running.len()
    }

    /// Pages that the sessions of the requests that run can grow to.
    pub fn n_pages(&self) -> usize {
        self.running.iter().map(|sequence| sequence.pages).sum()
    }

    /// Is there nothing to do and nothing to report?
    pub fn is_idle(&self) -> bool {
        self.queue.len() == 0 && self.running.is_empty() && self.ended.is_empty()
    }

    /// Does one step at the time `now` (since whatever the deadlines of the requests count from),
    /// and appends to `events` what came of it. The events of one request are in order.
    pub fn step(&mut self, now: Duration, events: &mut Vec<(RequestId, Event)>) {
        self.end(|_, request| {
            let is_late = request.deadline.is_some_and(|deadline| deadline <= now);
            is_late.then_some(Finish::TooLate)
        });
        self.admit();
        events.append(&mut self.ended);
        self.plan();
        self.compute(events);
        events.append(&mut self.ended);
    }

    /// Ends the requests for which `why` has a reason.
    fn end(&mut self, why: impl Fn(RequestId, &Request) -> Option<Finish>) {
        let out = |waiting: &Waiting| why(waiting.id, &waiting.request).is_some();
        for waiting in self.queue.extract(out) {
            if let Some(finish) = why(waiting.id, &waiting.request) {
                self.queue.leave(waiting.request.client);
                self.ended.push((waiting.id, unbegun(&waiting, finish)));
            }
        }
        self.end_running(|sequence| why(sequence.id, &sequence.request));
    }

    /// Ends the sequences for which `why` has a reason.
    fn end_running(&mut self, mut why: impl FnMut(&Sequence) -> Option<Finish>) {
        let (queue, ended) = (&mut self.queue, &mut self.ended);
        let mut running = Vec::with_capacity(self.running.len());
        for sequence in self.running.drain(..) {
            match why(&sequence) {
                None => running.push(sequence),
                Some(finish) => {
                    queue.leave(sequence.request.client);
                    ended.push((sequence.id, sequence.finish(finish)));
                }
            }
        }
        self.running = running;
    }

    /// Starts requests while there is room.
    fn admit(&mut self) {
        while self.running.len() < self.options.max_running {
            let free = self.options.max_pages - self.n_pages();
            let Some(waiting) = self.queue.admit(free) else {
                break;
            };
            self.running.push(Sequence::new(&self.engine, waiting));
        }
    }

    /// Divides the tokens of a step: one for every sequence, then what sequences that generate
    /// have to catch up with, then prompts in even shares, then guesses in even shares.
    fn plan(&mut self) {
        let mut budget = self.options.step_tokens - self.running.len();
        for sequence in &mut self.running {
            sequence.granted = 1;
        }
        for is_reading in [false, true] {
            let wants: Vec<usize> = self
                .running
                .iter()
                .map(|sequence| match sequence.is_reading() == is_reading {
                    true => sequence.n_wanted() - 1,
                    false => 0,
                })
                .collect();
            for (sequence, grant) in self.running.iter_mut().zip(share(budget, &wants)) {
                sequence.granted += grant;
                budget -= grant;
            }
        }
        let max_draft = self.options.max_draft;
        let wants = self.running.iter();
        let wants: Vec<usize> = wants.map(|s| s.n_guesses_wanted(max_draft)).collect();
        for (sequence, grant) in self.running.iter_mut().zip(share(budget, &wants)) {
            sequence.prepare(grant);
        }
    }

    /// Takes the planned tokens through the engine and the sequences as far as that brings them.
    fn compute(&mut self, events: &mut Vec<(RequestId, Event)>) {
        let mut items: Vec<BatchItem<'_>> = self.running.iter_mut().map(Sequence::item).collect();
        let results = extend_batch(&self.engine, &mut items);
        let passes: Vec<_> = items
            .iter()
            .map(|item| (item.want, item.ids.len()))
            .collect();
        let mut results = passes.into_iter().zip(results);
        let text = self.text.as_deref();
        let mut finishes = Vec::with_capacity(self.running.len());
        for sequence in &mut self.running {
            let ((want, n_tokens), result) = results.next().expect("one result for each item");
            self.queue.charge(sequence.request.client, n_tokens);
            finishes.push(match result {
                Ok(logits) => sequence.advance(&self.engine, want, &logits, text, events),
                Err(error) => Some(Finish::Failed(error)),
            });
        }
        let mut finishes = finishes.into_iter();
        self.end_running(|_| finishes.next().flatten());
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("options", &self.options)
            .field("queue", &self.queue)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

/// The end of a request that never ran.
fn unbegun(waiting: &Waiting, finish: Finish) -> Event {
    Event::Finished(Finished {
        finish,
        text: String::new(),
        usage: Usage {
            prompt: waiting.request.prompt.len(),
            ..Usage::default()
        },
        session: None,
    })
}
