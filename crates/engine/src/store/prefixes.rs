//! Finished sessions, kept because others may begin like them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Stamp;
use crate::radix::Radix;
use crate::session::Session;

#[derive(Debug)]
struct Prefix {
    session: Session,
    used: Stamp,
}

/// Finished sessions, found by how they begin. None of them can do only what another can do too.
#[derive(Debug)]
pub(super) struct Prefixes {
    sessions: BTreeMap<u64, Prefix>,
    radix: Radix,
    next_key: u64,
}

impl Prefixes {
    pub(super) fn new() -> Self {
        Self {
            sessions: BTreeMap::new(),
            radix: Radix::new(),
            next_key: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Keeps a session, unless one that is here serves as well, and lets go of those that it
    /// serves as well as.
    pub(super) fn insert(&mut self, session: Session, used: Stamp) {
        let ids: Vec<u32> = session.tokens().collect();
        let least = session.exact_from();
        if ids.is_empty() {
            return;
        }
        if self.radix.covers(&ids, least) {
            self.find(&ids, used);
            return;
        }
        for key in self.radix.covered_by(&ids, least) {
            self.remove(key);
        }
        self.radix.insert(&ids, self.next_key, least);
        self.sessions
            .insert(self.next_key, Prefix { session, used });
        self.next_key += 1;
    }

    /// The session that has most of the beginning of `ids` to give, and how much; it counts as
    /// used.
    pub(super) fn find(&mut self, ids: &[u32], used: Stamp) -> Option<(&Session, usize)> {
        let (key, len) = self.radix.longest(ids)?;
        let prefix = self.sessions.get_mut(&key)?;
        prefix.used = used;
        Some((&prefix.session, len))
    }

    /// Lets go of a session.
    pub(super) fn remove(&mut self, key: u64) {
        if let Some(prefix) = self.sessions.remove(&key) {
            let ids: Vec<u32> = prefix.session.tokens().collect();
            self.radix.remove(&ids);
        }
    }

    /// Every session with its key and when it was used.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Session, Stamp)> {
        let all = self.sessions.iter();
        all.map(|(key, prefix)| (*key, &prefix.session, prefix.used))
    }

    /// Lets go of the sessions last used `ttl` or longer ago, and says how many they were.
    pub(super) fn expire(&mut self, now: Duration, ttl: Duration) -> usize {
        let is_due = |(_, prefix): &(&u64, &Prefix)| prefix.used.is_due(now, ttl);
        let due: Vec<u64> = (self.sessions.iter().filter(is_due))
            .map(|(key, _)| *key)
            .collect();
        for &key in &due {
            self.remove(key);
        }
        due.len()
    }
}
