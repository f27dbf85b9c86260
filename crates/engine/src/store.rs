//! Sessions under a memory budget: named ones that their owners come back to, and finished ones
//! that stay behind because others may begin like them.
//!
//! What holds:
//! - The pages of all sessions of a store, lent ones and their forks included, together with what
//!   lent ones were promised, stay within the budget as long as no one takes more than was promised.
//!   A page that many share counts once.
//! - A session is there whole or not at all: eviction takes its global and local pages together,
//!   never its tail. Least recently used goes first, named and finished ones alike; what is pinned
//!   or lent stays.
//! - A request that does not fit even then is refused, and nothing is evicted for it.
//! - A beginning that [`SessionStore::open`] finds is exact: one that local layers have forgotten is
//!   not found.
//!
//! Time is what the caller says: a [`Duration`] since a moment of the caller's choosing.

mod budget;
mod prefixes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::kv::{Growth, Ledger};
use crate::session::Session;
use prefixes::Prefixes;

/// Limits of a [`SessionStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Bytes of keys and values, in whole pages.
    pub budget: usize,
    /// How long a session that nobody uses stays, unless [`SessionStore::set_ttl`] says otherwise;
    /// `None` for as long as there is room.
    pub ttl: Option<Duration>,
}

/// When something was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    at: Duration,
    /// Orders what happened at the same time.
    tick: u64,
}

impl Stamp {
    fn is_due(self, now: Duration, ttl: Duration) -> bool {
        now.saturating_sub(self.at) >= ttl
    }
}

#[derive(Debug)]
struct Named {
    /// `None` while it is lent.
    session: Option<Session>,
    /// Number of the last time it was lent: a name may be deleted and made again meanwhile.
    lease: u64,
    is_pinned: bool,
    ttl: Option<Duration>,
    used: Stamp,
}

/// What [`SessionStore::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// A session with the first `saved` of the tokens.
    pub session: Session,
    /// Tokens that need not be computed.
    pub saved: usize,
}

/// A session taken out of its store by [`SessionStore::lend`].
#[derive(Debug)]
pub struct Lent {
    /// The session.
    pub session: Session,
    name: String,
    lease: u64,
}

impl Lent {
    /// The name under which it will be put back.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Sessions of one [`Engine`] under a memory budget.
#[derive(Debug)]
pub struct SessionStore {
    options: StoreOptions,
    /// An empty session, of which all others are forks.
    blank: Session,
    named: BTreeMap<String, Named>,
    finished: Prefixes,
    tick: u64,
}

impl SessionStore {
    /// An empty store.
    pub fn new(engine: &Engine, options: StoreOptions) -> Self {
        Self {
            options,
            blank: Session::counted(engine, &Arc::default()),
            named: BTreeMap::new(),
            finished: Prefixes::new(),
            tick: 0,
        }
    }

    /// Makes an empty session of that name.
    ///
    /// # Errors
    /// [`Error::SessionExists`].
    pub fn create(&mut self, name: &str, now: Duration) -> Result<()> {
        self.adopt(name, self.blank.fork(), now)
    }

    /// Gives a name to a session that this store has lent or opened, or to a fork of one.
    ///
    /// # Errors
    /// [`Error::SessionExists`] or [`Error::ForeignSession`].
    pub fn adopt(&mut self, name: &str, session: Session, now: Duration) -> Result<()> {
        self.expire(now);
        self.check_own(&session)?;
        let used = self.stamp(now);
        let ttl = self.options.ttl;
        match self.named.entry(name.to_owned()) {
            Entry::Occupied(_) => Err(Error::SessionExists {
                name: name.to_owned(),
            }),
            Entry::Vacant(place) => {
                place.insert(Named {
                    session: Some(at_rest(session)),
                    lease: 0,
                    is_pinned: false,
                    ttl,
                    used,
                });
                self.shrink();
                Ok(())
            }
        }
    }

    /// Makes a session of the name `to` with the tokens of `from`, sharing every page.
    ///
    /// # Errors
    /// [`Error::UnknownSession`], [`Error::SessionInUse`] or [`Error::SessionExists`].
    pub fn fork(&mut self, from: &str, to: &str, now: Duration) -> Result<()> {
        let fork = self.get(from, now)?.fork();
        self.adopt(to, fork, now)
    }

    /// A session to look at or fork; it counts as used.
    ///
    /// # Errors
    /// [`Error::UnknownSession`] or [`Error::SessionInUse`].
    pub fn get(&mut self, name: &str, now: Duration) -> Result<&Session> {
        self.expire(now);
        let used = self.stamp(now);
        let named = self.named_mut(name)?;
        let session = named.session.as_ref().ok_or_else(|| in_use(name))?;
        named.used = used;
        Ok(session)
    }

    /// Takes a session out to work with, promised memory for `room` tokens beyond its length, or
    /// beyond the shortest that it is cut back to. Its place stays taken until it is given back or
    /// deleted. The promise ends when the session is given back or dropped. Forks of it are
    /// promised nothing; the first change after a fork may take a page more than was promised,
    /// because what both have is copied.
    ///
    /// # Errors
    /// [`Error::UnknownSession`], [`Error::SessionInUse`] or [`Error::OutOfBudget`].
    pub fn lend(&mut self, name: &str, room: usize, now: Duration) -> Result<Lent> {
        let growth = self.get(name, now)?.growth(room);
        self.make_room(growth, Some(name))?;
        let lease = self.tick;
        let named = self.named_mut(name)?;
        named.lease = lease;
        let mut session = named.session.take().ok_or_else(|| in_use(name))?;
        session.grant(growth);
        Ok(Lent {
            session,
            name: name.to_owned(),
            lease,
        })
    }

    /// Puts a lent session back.
    ///
    /// # Errors
    /// [`Error::UnknownSession`] when its name has been deleted since, or [`Error::ForeignSession`]
    /// when another store's session was put in its place; the session is dropped then.
    pub fn give_back(&mut self, lent: Lent, now: Duration) -> Result<()> {
        self.check_own(&lent.session)?;
        let used = self.stamp(now);
        let named = self.named_mut(&lent.name)?;
        if named.lease != lent.lease {
            return Err(Error::UnknownSession { name: lent.name });
        }
        named.session = Some(at_rest(lent.session));
        named.used = used;
        self.expire(now);
        self.shrink();
        Ok(())
    }

    /// Opens a session for a request of these tokens: one that has the longest beginning of them
    /// that some finished session has, and promised memory for the rest and `room` more. At least
    /// the last token is left to compute, because its logits will be wanted.
    ///
    /// The session has no name and is not kept: see [`SessionStore::adopt`] and
    /// [`SessionStore::keep`].
    ///
    /// # Errors
    /// [`Error::OutOfBudget`].
    pub fn open(&mut self, ids: &[u32], room: usize, now: Duration) -> Result<Opened> {
        self.expire(now);
        let used = self.stamp(now);
        let useful = &ids[..ids.len().saturating_sub(1)];
        let mut session = match self.finished.find(useful, used) {
            Some((session, len)) => session.truncate_fork(len)?,
            None => self.blank.fork(),
        };
        let saved = session.len();
        let growth = session.growth((ids.len() - saved).saturating_add(room));
        self.make_room(growth, None)?;
        session.grant(growth);
        Ok(Opened { session, saved })
    }

    /// Keeps a session that has no name, or a fork of one that goes on, for others that begin like
    /// it.
    ///
    /// # Errors
    /// [`Error::ForeignSession`].
    pub fn keep(&mut self, session: Session, now: Duration) -> Result<()> {
        self.check_own(&session)?;
        let used = self.stamp(now);
        self.finished.insert(at_rest(session), used);
        self.expire(now);
        self.shrink();
        Ok(())
    }

    /// Takes the name from a session and keeps the session for others that begin like it. A pin
    /// goes with the name.
    ///
    /// # Errors
    /// [`Error::UnknownSession`] or [`Error::SessionInUse`].
    pub fn finish(&mut self, name: &str, now: Duration) -> Result<()> {
        let session = self.get(name, now)?.fork();
        self.named.remove(name);
        self.keep(session, now)
    }

    /// Protects a session from eviction and from its time to live.
    ///
    /// # Errors
    /// [`Error::UnknownSession`].
    pub fn pin(&mut self, name: &str) -> Result<()> {
        self.named_mut(name)?.is_pinned = true;
        Ok(())
    }

    /// Ends the protection by [`SessionStore::pin`].
    ///
    /// # Errors
    /// [`Error::UnknownSession`].
    pub fn unpin(&mut self, name: &str) -> Result<()> {
        self.named_mut(name)?.is_pinned = false;
        Ok(())
    }

    /// Says how long a session stays after its last use; `None` for as long as there is room.
    ///
    /// # Errors
    /// [`Error::UnknownSession`].
    pub fn set_ttl(&mut self, name: &str, ttl: Option<Duration>) -> Result<()> {
        self.named_mut(name)?.ttl = ttl;
        Ok(())
    }

    /// Removes a session, pinned or lent as it may be. The pages of a lent one live as long as who
    /// has it keeps it.
    ///
    /// # Errors
    /// [`Error::UnknownSession`].
    pub fn delete(&mut self, name: &str) -> Result<()> {
        self.named_mut(name)?;
        self.named.remove(name);
        Ok(())
    }

    /// Removes the sessions whose time to live has passed and says how many they were. Every call
    /// that is told the time does this first.
    pub fn expire(&mut self, now: Duration) -> usize {
        let before = self.named.len();
        self.named.retain(|_, named| {
            let stays = named.is_pinned || named.session.is_none();
            stays || !named.ttl.is_some_and(|ttl| named.used.is_due(now, ttl))
        });
        let n_named = before - self.named.len();
        let ttl = self.options.ttl;
        n_named + ttl.map_or(0, |ttl| self.finished.expire(now, ttl))
    }

    /// Names of all sessions, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// Finished sessions that others may begin like.
    pub fn n_finished(&self) -> usize {
        self.finished.len()
    }

    /// Its limits.
    pub fn options(&self) -> StoreOptions {
        self.options
    }

    /// Bytes of the pages of all its sessions, lent ones included, shared pages counted once.
    pub fn held_bytes(&self) -> usize {
        self.ledger().held()
    }

    /// Bytes that lent sessions may still take.
    pub fn promised_bytes(&self) -> usize {
        self.ledger().promised()
    }

    fn ledger(&self) -> &Arc<Ledger> {
        self.blank.cache().ledger()
    }

    fn stamp(&mut self, now: Duration) -> Stamp {
        self.tick += 1;
        Stamp {
            at: now,
            tick: self.tick,
        }
    }

    fn named_mut(&mut self, name: &str) -> Result<&mut Named> {
        let unknown = || Error::UnknownSession {
            name: name.to_owned(),
        };
        self.named.get_mut(name).ok_or_else(unknown)
    }

    fn check_own(&self, session: &Session) -> Result<()> {
        if Arc::ptr_eq(session.cache().ledger(), self.ledger()) {
            Ok(())
        } else {
            Err(Error::ForeignSession)
        }
    }
}

/// A session that is promised nothing any more.
fn at_rest(mut session: Session) -> Session {
    session.grant(Growth::default());
    session
}

fn in_use(name: &str) -> Error {
    Error::SessionInUse {
        name: name.to_owned(),
    }
}
