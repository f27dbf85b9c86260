//! What a program's earlier frames save for the next: windows that begin alike, and guesses at the
//! tokens to come.
//!
//! A line that runs again has a window that begins as it did the last time, so that its cache can be
//! taken over up to the first value that differs; and its frame is told in much the same words. All of
//! it decides how much has to be computed, never what comes out: a cache holds what a fresh pass would,
//! and each guess is verified.

use std::collections::{HashMap, VecDeque};
use std::mem::discriminant;
use std::sync::Arc;

use cwm_tokenizer::nano::{Codec, Token};

use super::grammar::FrameGrammar;
use crate::draft::{Record, class};
use crate::{NgramIndex, PassCosts, Session};

/// Lines whose last windows are kept; each costs a few pages of the cache.
const LINES: usize = 48;

/// Tokens after which the index of what was written begins anew.
const INDEXED: usize = 1 << 16;

/// Tokens to guess at once, at most.
const MOST: usize = 12;

/// The class of guesses by a line's last frame; those by runs of tokens have the first ones.
const BY_LINE: usize = 3;

/// What was seen of one program.
#[derive(Debug)]
pub(super) struct Memory {
    costs: PassCosts,
    lines: HashMap<Key, Arc<Seen>>,
    /// The keys of `lines`, oldest first.
    order: VecDeque<Key>,
    text: NgramIndex,
    record: Record<4>,
    following: Option<Following>,
}

/// How a window begins behind the source: its mark and its line.
type Key = [u32; 2];

/// A window and the frame that followed.
#[derive(Debug)]
struct Seen {
    window: Vec<u32>,
    frame: Vec<u32>,
    /// Holds the source, the window and some of the frame.
    session: Session,
}

/// A frame that is told like one before, other values in the place of some.
#[derive(Debug)]
struct Following {
    seen: Arc<Seen>,
    /// How far in its frame.
    at: usize,
    /// What stands now for what stood then.
    now: HashMap<u32, u32>,
}

impl Memory {
    /// Nothing seen, for passes that cost so much.
    pub(super) fn new(costs: PassCosts) -> Self {
        Self {
            costs,
            lines: HashMap::new(),
            order: VecDeque::new(),
            text: NgramIndex::default(),
            record: Record::default(),
            following: None,
        }
    }

    /// The session that begins with most of `ids`, rolled back to what they have in common, but not to
    /// all of them: `known`, or one of an earlier window of the line.
    pub(super) fn nearest(&self, known: &Session, ids: &[u32], source: usize) -> Option<Session> {
        let most = ids.len().checked_sub(1)?;
        let seen = key(ids, source).and_then(|key| self.lines.get(&key));
        let seen = seen.map(|seen| &seen.session);
        let common = |session: &Session| session.common_prefix(ids).min(most);
        let best = seen.into_iter().chain([known]).max_by_key(|s| common(s))?;
        best.truncate_fork(common(best)).ok()
    }

    /// A frame behind the window `ids` is about to be told.
    pub(super) fn begin(&mut self, codec: &Codec, ids: &[u32]) {
        let source = codec.source();
        if self.text.is_empty() || self.text.len() > INDEXED {
            self.text = NgramIndex::default();
            source.iter().for_each(|&id| self.text.push(id));
        }
        let window = ids.get(source.len()..).unwrap_or_default();
        window.iter().for_each(|&id| self.text.push(id));
        self.record.forget();
        self.following = self.seen(ids, source.len()).map(|seen| {
            let now = match seen.window.len() == window.len() {
                true => {
                    let pairs = seen.window.iter().copied().zip(window.iter().copied());
                    pairs
                        .filter(|&(then, now)| can_stand_for(codec, then, now))
                        .collect()
                }
                false => HashMap::new(),
            };
            Following { seen, at: 0, now }
        });
    }

    /// Legal guesses at what comes next, at most `max`. One that would end the frame is none, since
    /// nothing follows it.
    pub(super) fn ahead(&mut self, grammar: &FrameGrammar<'_>, max: usize) -> Vec<u32> {
        let max = max.min(MOST);
        let count = |class| self.costs.best_draft(self.record.rate(class), max);
        let mut ids = Vec::new();
        let (class, count) =
            if let Some(following) = self.following.as_ref().filter(|f| f.goes_on()) {
                let count = count(BY_LINE);
                following.guess(count.max(1), &mut ids);
                (BY_LINE, count)
            } else if let Some(found) = self.text.find() {
                let class = class(found.length);
                let count = count(class);
                self.text.follow(found, count.max(1), &mut ids);
                (class, count)
            } else {
                return ids;
            };
        self.record.guess(class, ids.clone());
        ids.truncate(count);
        let mut grammar = grammar.clone();
        let goes_on = |&id: &u32| grammar.allows(id) && grammar.take(id, 0.0).is_none();
        let legal = ids.iter().copied().take_while(goes_on).count();
        ids.truncate(legal);
        ids
    }

    /// The frame goes on by a token.
    pub(super) fn accept(&mut self, codec: &Codec, id: u32) {
        self.record.compare(id);
        self.text.push(id);
        if let Some(following) = &mut self.following {
            following.accept(codec, id);
        }
    }

    /// Keeps a window with the frame that followed.
    pub(super) fn keep(&mut self, ids: &[u32], source: usize, frame: Vec<u32>, session: Session) {
        let Some(key) = key(ids, source) else { return };
        let window = ids[source..].to_vec();
        let seen = Arc::new(Seen {
            window,
            frame,
            session,
        });
        if self.lines.insert(key, seen).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > LINES
            && let Some(oldest) = self.order.pop_front()
        {
            self.lines.remove(&oldest);
        }
    }

    fn seen(&self, ids: &[u32], source: usize) -> Option<Arc<Seen>> {
        self.lines.get(&key(ids, source)?).cloned()
    }
}

fn key(ids: &[u32], source: usize) -> Option<Key> {
    ids.get(source..source + 2)?.try_into().ok()
}

/// Whether a token can be in the place of another: a digit for a digit, a name for a name.
fn can_stand_for(codec: &Codec, then: u32, now: u32) -> bool {
    match (codec.token(then), codec.token(now)) {
        (Some(Token::Mark(then)), Some(Token::Mark(now))) => then == now,
        (Some(then), Some(now)) => discriminant(&then) == discriminant(&now),
        _ => false,
    }
}

impl Following {
    fn goes_on(&self) -> bool {
        self.at < self.seen.frame.len()
    }

    fn guess(&self, count: usize, out: &mut Vec<u32>) {
        let then = self.seen.frame[self.at..].iter().take(count);
        out.extend(then.map(|id| self.now.get(id).unwrap_or(id)));
    }

    fn accept(&mut self, codec: &Codec, id: u32) {
        let rest = &self.seen.frame[self.at.min(self.seen.frame.len())..];
        let Some(&then) = rest.first() else { return };
        if can_stand_for(codec, then, id) {
            self.now.insert(then, id);
            self.at += 1;
        } else if let Some(skipped) = rest.iter().position(|&then| then == id) {
            // Something was longer then. Where it is longer now, the place is kept.
            self.at += skipped + 1;
        }
    }
}
