//! Whom to let go so that others fit.

use std::collections::HashMap;

use super::SessionStore;
use crate::error::{Error, Result};
use crate::kv::{Growth, Holding};
use crate::session::Session;

/// A session that can be evicted.
#[derive(Clone, Debug)]
pub(super) enum Victim {
    Named(String),
    Finished(u64),
}

/// Tells how many bytes would be free without some sessions: a page is free once all that hold it
/// are gone.
#[derive(Debug, Default)]
struct Freed {
    /// Holders of each page that are to go.
    going: HashMap<usize, usize>,
    bytes: usize,
}

impl Freed {
    /// Counts `session` as gone.
    fn add(&mut self, session: &Session) {
        for Holding {
            page,
            n_holders,
            bytes,
        } in session.cache().holdings()
        {
            let going = self.going.entry(page).or_default();
            *going += 1;
            if *going == n_holders {
                self.bytes += bytes;
            }
        }
    }

    /// Bytes that are free then.
    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl SessionStore {
    /// Evicts what it takes for `growth` to fit, sparing `spared`; nothing when it would not be
    /// enough.
    pub(super) fn make_room(&mut self, growth: Growth, spared: Option<&str>) -> Result<()> {
        let needed = growth.bytes();
        let taken = self.held_bytes() + self.promised_bytes();
        let missing = (taken + needed).saturating_sub(self.options.budget);
        let (victims, freed) = self.victims(missing, spared);
        if freed < missing {
            return Err(Error::OutOfBudget {
                needed,
                budget: self.options.budget,
                kept: taken - freed,
            });
        }
        self.evict(victims);
        Ok(())
    }

    /// Evicts what can be evicted while the budget is overdrawn: sessions came back with more than
    /// they were promised.
    pub(super) fn shrink(&mut self) {
        let taken = self.held_bytes() + self.promised_bytes();
        let (victims, _) = self.victims(taken.saturating_sub(self.options.budget), None);
        self.evict(victims);
    }

    /// The least recently used sessions that free `missing` bytes together, or all that may go, and
    /// how much they free.
    fn victims(&self, missing: usize, spared: Option<&str>) -> (Vec<Victim>, usize) {
        let mut freed = Freed::default();
        let mut victims = Vec::new();
        if missing > 0 {
            let mut evictable = self.evictable(spared);
            evictable.sort_unstable_by_key(|(tick, ..)| *tick);
            for (_, session, victim) in evictable {
                if freed.bytes() >= missing {
                    break;
                }
                freed.add(session);
                victims.push(victim);
            }
        }
        (victims, freed.bytes())
    }

    /// The sessions that may go, each with when it was used; empty ones would free nothing.
    pub(super) fn evictable(&self, spared: Option<&str>) -> Vec<(u64, &Session, Victim)> {
        let named = self.named.iter().filter_map(|(name, named)| {
            let may_go = !named.is_pinned && spared != Some(name.as_str());
            let session = named.session.as_ref().filter(|_| may_go)?;
            Some((named.used.tick, session, Victim::Named(name.clone())))
        });
        let finished = (self.finished.iter())
            .map(|(key, session, used)| (used.tick, session, Victim::Finished(key)));
        named
            .chain(finished)
            .filter(|(_, session, _)| session.bytes() > 0)
            .collect()
    }

    fn evict(&mut self, victims: Vec<Victim>) {
        for victim in victims {
            match victim {
                Victim::Named(name) => {
                    self.named.remove(&name);
                }
                Victim::Finished(key) => self.finished.remove(key),
            }
        }
    }
}
