//! Requests that wait, and who is next.
//!
//! Next is the request with the highest priority among those that there is room for; of equal
//! priority, one of the client that got least so far; of one client, the oldest. Every so many
//! admissions it is the turn of the oldest request of all, and then nothing else is admitted until
//! there is room for it. So a request that found `n` others waiting is admitted as the
//! `(n + 1) * oldest_every`-th after its arrival at the latest, whatever arrives later.

use std::collections::BTreeMap;

use super::RequestId;
use crate::request::Request;
use crate::sample::Sampler;

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) id: RequestId,
    pub(super) request: Request,
    pub(super) sampler: Sampler,
    /// Pages that its session can grow to.
    pub(super) pages: usize,
}

/// What a client who has requests has got.
#[derive(Clone, Copy, Debug)]
struct Account {
    /// Tokens computed for it.
    tokens: u64,
    /// Its requests that wait or run.
    requests: usize,
}

/// The requests that wait, oldest first, and the accounts of their clients.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Vec<Waiting>,
    accounts: BTreeMap<u64, Account>,
    /// Admissions since it was last the turn of the oldest.
    since_oldest: usize,
    oldest_every: usize,
}

impl Queue {
    pub(super) fn new(oldest_every: usize) -> Self {
        Self {
            waiting: Vec::new(),
            accounts: BTreeMap::new(),
            since_oldest: 0,
            oldest_every,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Puts a request at the end.
    ///
    /// A client that had none begins with what the client that got least has: time spent away earns
    /// nothing.
    pub(super) fn push(&mut self, waiting: Waiting) {
        let least = self.accounts.values().map(|account| account.tokens).min();
        let account = self.accounts.entry(waiting.request.client);
        let account = account.or_insert(Account {
            tokens: least.unwrap_or(0),
            requests: 0,
        });
        account.requests += 1;
        self.waiting.push(waiting);
    }

    /// Takes out the request that is next, where there is one with room for its pages.
    pub(super) fn admit(&mut self, free_pages: usize) -> Option<Waiting> {
        let is_turn_of_oldest = self.since_oldest + 1 >= self.oldest_every;
        let index = if is_turn_of_oldest {
            0
        } else {
            self.best(free_pages)?
        };
        if self.waiting.get(index)?.pages > free_pages {
            return None;
        }
        // The oldest may have come first by its own merits as well.
        self.since_oldest = if index == 0 { 0 } else { self.since_oldest + 1 };
        Some(self.waiting.remove(index))
    }

    /// The index of the best request that there is room for.
    fn best(&self, free_pages: usize) -> Option<usize> {
        let rank = |waiting: &Waiting| {
            let Request {
                client, priority, ..
            } = waiting.request;
            let got = self
                .accounts
                .get(&client)
                .map_or(0, |account| account.tokens);
            (std::cmp::Reverse(priority), got)
        };
        let fitting = self.waiting.iter().enumerate();
        let fitting = fitting.filter(|(_, waiting)| waiting.pages <= free_pages);
        let best = fitting.min_by_key(|(_, waiting)| rank(waiting));
        best.map(|(index, _)| index)
    }

    /// Takes out the requests that `is_out` holds true of.
    pub(super) fn extract(&mut self, is_out: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        self.waiting
            .extract_if(.., |waiting| is_out(waiting))
            .collect()
    }

    /// Notes that `tokens` were computed for a client.
    pub(super) fn charge(&mut self, client: u64, tokens: usize) {
        if let Some(account) = self.accounts.get_mut(&client) {
            account.tokens += tokens as u64;
        }
    }

    /// Notes that a request of a client is over, admitted or not.
    pub(super) fn leave(&mut self, client: u64) {
        if let Some(account) = self.accounts.get_mut(&client) {
            account.requests -= 1;
            if account.requests == 0 {
                self.accounts.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::SamplerOptions;

    #[test]
    fn a_client_without_requests_has_no_account() {
        let mut queue = Queue::new(4);
        for (id, client) in [(0, 7), (1, 7), (2, 8)] {
            let mut request = Request::new(vec![1], 1);
            request.client = client;
            queue.push(Waiting {
                id: RequestId(id),
                request,
                sampler: Sampler::new(SamplerOptions::GREEDY).expect("greedy is in range"),
                pages: 1,
            });
        }
        for (client, n_left) in [(7, 2), (8, 1), (7, 0)] {
            queue.charge(client, 10);
            queue.leave(client);
            assert_eq!(queue.accounts.len(), n_left);
        }
    }
}
