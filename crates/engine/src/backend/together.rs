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

#[cfg(test)]
mod tests {
    use cwm_model::Config;

    use super::super::{PageGroup, PageHandle, PageRun};
    use super::*;

    /// Answers with the wanted ids; refuses the token 13, and passes of more than one part where asked.
    #[derive(Debug)]
    struct Echo {
        config: Config,
        is_alone: bool,
    }

    impl Backend for Echo {
        fn config(&self) -> &Config {
            &self.config
        }

        fn n_weight_bytes(&self) -> usize {
            0
        }

        fn bytes_per_token(&self) -> usize {
            0
        }

        fn make_page(&self, _: PageGroup) -> Result<PageHandle, BackendError> {
            Ok(PageHandle(0))
        }

        fn copy_page(
            &self,
            _: PageGroup,
            _: PageHandle,
            _: PageHandle,
        ) -> Result<(), BackendError> {
            Ok(())
        }

        fn drop_page(&self, _: PageGroup, _: PageHandle) {}

        fn pass(&self, parts: &[PassPart]) -> Answer {
            let ids = || parts.iter().flat_map(|part| &part.ids[part.wanted.clone()]);
            let is_bad = ids().any(|&id| id == 13) || (self.is_alone && parts.len() > 1);
            assert!(ids().all(|&id| id != 14), "a broken back end");
            match is_bad {
                true => Err(BackendError {
                    problem: "no room".to_owned(),
                }),
                false => Ok(ids().map(|&id| id as f32).collect()),
            }
        }
    }

    fn together(is_alone: bool) -> Together {
        let mut config = Config::preset("cwm-32b").expect("a preset");
        config.vocab_size = 1;
        Together::new(Box::new(Echo { config, is_alone }))
    }

    fn asked(ticket: u64, ids: &[u32]) -> Asked {
        let part = |&id: &u32| PassPart {
            start: 0,
            before: Vec::new(),
            ids: vec![99, id],
            wanted: 1..2,
            global: PageRun::default(),
            local: PageRun::default(),
        };
        Asked {
            ticket,
            parts: ids.iter().map(part).collect(),
        }
    }

    #[test]
    fn each_gets_its_own_rows() {
        let answers =
            together(false).compute(vec![asked(4, &[1, 2]), asked(9, &[]), asked(5, &[3])]);
        let wanted = [(4, Ok(vec![1.0, 2.0])), (9, Ok(vec![])), (5, Ok(vec![3.0]))];
        assert_eq!(answers, wanted);
    }

    #[test]
    fn one_that_has_no_room_keeps_nobody_from_theirs() {
        let answers = together(true).compute(vec![asked(1, &[7]), asked(2, &[13]), asked(3, &[8])]);
        assert_eq!(answers[0], (1, Ok(vec![7.0])));
        assert!(answers[1].1.is_err());
        assert_eq!(answers[2], (3, Ok(vec![8.0])));
    }

    #[test]
    fn a_pass_takes_the_oldest_up_to_its_size_and_one_at_least() {
        let mut queue = Queue::default();
        let many = vec![1; TOKENS];
        queue.waiting.extend([
            asked(0, &many),
            asked(1, &[1]),
            asked(2, &[2]),
            asked(3, &many),
        ]);
        let taken: Vec<Vec<u64>> = std::iter::from_fn(|| {
            let tickets: Vec<u64> = queue.take().iter().map(|asked| asked.ticket).collect();
            (!tickets.is_empty()).then_some(tickets)
        })
        .collect();
        assert_eq!(taken, [vec![0], vec![1, 2], vec![3]]);
    }

    #[test]
    fn nobody_waits_for_a_pass_that_panicked() {
        let together = together(false);
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            together.pass(asked(0, &[14]).parts)
        }));
        assert!(broken.is_err());
        assert_eq!(together.pass(asked(0, &[5]).parts), Ok(vec![5.0]));
        // Who went with it is told.
        let left: Vec<_> = together.lock().done.drain().collect();
        assert!(matches!(&left[..], [(0, Err(error))] if error.problem.contains("panic")));
    }
}
