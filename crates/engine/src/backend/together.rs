//! Passes of several threads as one: while one is being computed, those asked for meanwhile wait and go
//! together next.
//!
//! A device reads its weights once for a pass, however many sequences are in it. No thread of its own
//! does this and none waits for others to come: whoever finds no pass under way computes all that are
//! waiting, its own among them. Since a part's logits do not depend on the others, nobody notices but
//! the clock.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{Backend, BackendError, PassPart};

/// Tokens of a pass at most, unless one caller has more.
const TOKENS: usize = 4096;

/// A back end that threads share.
#[derive(Debug)]
pub(crate) struct Together {
    backend: Box<dyn Backend>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Asked>,
    done: HashMap<u64, Answer>,
    next_ticket: u64,
    is_busy: bool,
}

#[derive(Debug)]
struct Asked {
    ticket: u64,
    parts: Vec<PassPart>,
}

type Answer = Result<Vec<f32>, BackendError>;

impl Together {
    pub(crate) fn new(backend: Box<dyn Backend>) -> Self {
        Self {
            backend,
            queue: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// [`Backend::pass`], maybe together with those of other threads.
    pub(crate) fn pass(&self, parts: Vec<PassPart>) -> Answer {
        let mut queue = self.lock();
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push_back(Asked { ticket, parts });
        loop {
            if let Some(answer) = queue.done.remove(&ticket) {
                return answer;
            }
            if queue.is_busy {
                queue = self.wait(queue);
                continue;
            }
            // The oldest go first, so that this ends: its own turn comes.
            let asked = queue.take();
            queue.is_busy = true;
            drop(queue);
            let mut turn = Turn {
                together: self,
                unanswered: asked.iter().map(|asked| asked.ticket).collect(),
                answers: Vec::new(),
            };
            turn.answers = self.compute(asked);
            turn.unanswered.clear();
            drop(turn);
            queue = self.lock();
        }
    }

    /// Computes what was asked; where that fails, each by itself, so that one that has no room does
    /// not keep the others from theirs.
    fn compute(&self, mut asked: Vec<Asked>) -> Vec<(u64, Answer)> {
        if asked.len() == 1 {
            let alone = |asked: Asked| (asked.ticket, self.backend.pass(&asked.parts));
            return asked.into_iter().map(alone).collect();
        }
        let counts: Vec<usize> = asked.iter().map(|asked| asked.parts.len()).collect();
        let mut all: Vec<PassPart> = Vec::new();
        for asked in &mut asked {
            all.append(&mut asked.parts);
        }
        let together = self.backend.pass(&all);
        let vocab_size = self.backend.config().vocab_size;
        let mut parts = &all[..];
        let mut first = 0;
        let mut answers = Vec::new();
        for (asked, n) in asked.into_iter().zip(counts) {
            let (own, others) = parts.split_at(n);
            parts = others;
            let answer = match &together {
                Ok(logits) => {
                    let rows: usize = own.iter().map(|part| part.wanted.len()).sum();
                    let own = logits[first..first + rows * vocab_size].to_vec();
                    first += rows * vocab_size;
                    Ok(own)
                }
                Err(_) => self.backend.pass(own),
            };
            answers.push((asked.ticket, answer));
        }
        answers
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        let waited = self.changed.wait(queue);
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// The oldest that make up a pass.
    fn take(&mut self) -> Vec<Asked> {
        let mut taken: Vec<Asked> = Vec::new();
        let mut tokens = 0;
        while let Some(asked) = self.waiting.front() {
            tokens += asked.parts.iter().map(|part| part.ids.len()).sum::<usize>();
            if tokens > TOKENS && !taken.is_empty() {
                break;
            }
            taken.extend(self.waiting.pop_front());
        }
        taken
    }
}

/// A pass under way. It ends also where the back end panics: who waits for it is told so.
struct Turn<'a> {
    together: &'a Together,
    unanswered: Vec<u64>,
    answers: Vec<(u64, Answer)>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let panicked = |ticket| {
            let problem = "a pass that this one went with ended in a panic".to_owned();
            (ticket, Err(BackendError { problem }))
        };
        let mut queue = self.together.lock();
        queue.done.extend(self.answers.drain(..));
        queue.done.extend(self.unanswered.drain(..).map(panicked));
        queue.is_busy = false;
        drop(queue);
        self.together.changed.notify_all();
    }
}
