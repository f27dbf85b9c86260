//! A session: tokens in, logits out, with rollback and fork that cost pages instead of tokens.

use std::sync::Arc;

use cwm_model::Config;

use crate::Mask;
use crate::backend::PassPart;
use crate::decoder::{Segment, Want};
use crate::engine::{Compute, Engine};
use crate::error::{Error, Result};
use crate::kv::{Cache, Growth, Ledger};

/// Tokens computed in one pass; bounds the memory of activations whatever the length of a call.
const CHUNK: usize = 256;

/// The state of one token sequence under one [`Engine`]: its cached keys and values.
///
/// A fork (`clone`, [`Session::fork`], [`Session::truncate_fork`]) shares the pages of 64 positions
/// of its parent; whoever writes into a shared page first copies that page. The two then live
/// independent lives, on any threads.
#[derive(Clone, Debug)]
pub struct Session {
    engine: u64,
    cache: Cache,
}

impl Session {
    /// An empty session of `engine`.
    pub fn new(engine: &Engine) -> Self {
        Self::counted(engine, &Arc::default())
    }

    /// An empty session whose pages, and those of its forks, are counted by `ledger`.
    pub(crate) fn counted(engine: &Engine, ledger: &Arc<Ledger>) -> Self {
        Self {
            engine: engine.id(),
            cache: Cache::new(Arc::clone(engine.cache_shape()), ledger, engine.backend()),
        }
    }

    /// Appends `ids` (a prompt, a forced span, a draft or one sampled token: all the same) at
    /// positions `len()..len() + ids.len()` and returns the logits that `want` names. No tokens
    /// give no logits.
    ///
    /// The logits depend on the tokens alone, bit for bit: not on how they are split into calls, on
    /// rollbacks and forks before, on what is computed with them
    /// ([`Engine::extend_batch`]), or on the number of threads.
    ///
    /// # Errors
    /// [`Error::WrongEngine`], [`Error::UnknownToken`] or [`Error::ContextFull`]; the session is
    /// then unchanged.
    pub fn extend(&mut self, engine: &Engine, ids: &[u32], want: Want) -> Result<Logits> {
        self.extend_among(engine, ids, want, None)
    }

    /// As [`Session::extend`], of which only the logits of `legal` tokens will be read, at any of the
    /// wanted places: those of others may be minus infinity. Where few are legal, little of the head's
    /// weights has to be read.
    ///
    /// # Errors
    /// As [`Session::extend`].
    pub fn extend_among(
        &mut self,
        engine: &Engine,
        ids: &[u32],
        want: Want,
        legal: Option<Mask<'_>>,
    ) -> Result<Logits> {
        self.check(engine, self.len(), ids)?;
        let mut logits = Logits::none(engine);
        let before = remembered(engine, ids.len(), [&*self]);
        for (begin, end) in chunks(ids.len(), CHUNK) {
            let mut work = Work {
                session: self,
                ids: &ids[begin..end],
                want: if end == ids.len() {
                    want
                } else {
                    want.before_last()
                },
                legal,
                logits: &mut logits.data,
            };
            if let Err(error) = compute(engine, std::slice::from_mut(&mut work)) {
                before.iter().for_each(|before| self.cache.restore(before));
                return Err(error);
            }
        }
        Ok(logits)
    }

    /// Refuses `ids` that cannot follow the first `len` tokens, before anything is touched.
    fn check(&self, engine: &Engine, len: usize, ids: &[u32]) -> Result<()> {
        if engine.id() != self.engine {
            return Err(Error::WrongEngine);
        }
        let vocab_size = engine.config().vocab_size;
        if let Some(index) = ids.iter().position(|&id| id as usize >= vocab_size) {
            return Err(Error::UnknownToken {
                id: ids[index],
                index,
                vocab_size,
            });
        }
        let max_positions = engine.max_positions();
        if ids.len() > max_positions - len {
            return Err(Error::ContextFull {
                len,
                added: ids.len(),
                max_positions,
            });
        }
        Ok(())
    }

    /// Tokens in the session; the next one gets this position.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Is it empty?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens, in order.
    pub fn tokens(&self) -> impl Iterator<Item = u32> + '_ {
        self.cache.ids().iter().copied()
    }

    /// The token at a position, when the session has reached it.
    pub fn token(&self, position: usize) -> Option<u32> {
        self.cache.id(position)
    }

    /// How many leading tokens the session has in common with `ids`: roll back to it and extend by
    /// the rest to move the session to `ids` at the least cost.
    pub fn common_prefix(&self, ids: &[u32]) -> usize {
        self.tokens().zip(ids).take_while(|(a, b)| a == *b).count()
    }

    /// The least length that [`Session::rollback`] reaches; 0 is always within reach.
    ///
    /// It is 0 unless local layers forget ([`Options::local_slack`](crate::Options::local_slack)),
    /// and at most `len()` less that slack while the session only grows.
    pub fn exact_from(&self) -> usize {
        self.cache.exact_from()
    }

    /// Forgets all tokens from position `to` on. Nothing is recomputed.
    ///
    /// # Errors
    /// [`Error::RollbackForward`] when the session is shorter than `to`;
    /// [`Error::RollbackForgotten`] when `to` lies before [`Session::exact_from`], see
    /// [`Session::rewind`].
    pub fn rollback(&mut self, to: usize) -> Result<()> {
        self.check_reached(to)?;
        self.check_remembered(to)?;
        self.cache.truncate(to);
        Ok(())
    }

    /// Forgets all tokens from position `to` on, at any distance, and returns how many tokens had
    /// to be computed again: none where [`Session::rollback`] would do, otherwise all `to`, because
    /// a local layer's keys and values follow from every layer below at every position before.
    ///
    /// # Errors
    /// [`Error::WrongEngine`] or [`Error::RollbackForward`]; the session is then unchanged.
    pub fn rewind(&mut self, engine: &Engine, to: usize) -> Result<usize> {
        self.check(engine, self.len(), &[])?;
        self.check_reached(to)?;
        if self.check_remembered(to).is_ok() {
            self.cache.truncate(to);
            return Ok(0);
        }
        let ids = self.cache.ids()[..to].to_vec();
        self.or_as_before(engine, |session| {
            session.cache.truncate(0);
            session.extend(engine, &ids, Want::None)
        })?;
        Ok(to)
    }

    /// Puts `ids` in the place of everything from position `at` on and returns the logits that
    /// `want` names, of `ids`. Tokens that stay the same are kept: all of them for [`Want::None`],
    /// all but the last for [`Want::Last`], whose logits need one token to be computed. What local
    /// layers have forgotten is computed again, as by [`Session::rewind`].
    ///
    /// # Errors
    /// [`Error::RollbackForward`] when the session is shorter than `at`, and those of
    /// [`Session::extend`]; the session is then unchanged.
    pub fn edit(&mut self, engine: &Engine, at: usize, ids: &[u32], want: Want) -> Result<Logits> {
        self.check_reached(at)?;
        self.check(engine, at, ids)?;
        let old = &self.cache.ids()[at..];
        let common = old.iter().zip(ids).take_while(|(a, b)| a == b).count();
        let kept = match want {
            Want::None => common,
            Want::Last => common.min(ids.len().saturating_sub(1)),
            Want::All => 0,
        };
        self.or_as_before(engine, |session| {
            session.rewind(engine, at + kept)?;
            session.extend(engine, &ids[kept..], want)
        })
    }

    /// Does `work`, or leaves the session as it was. This processor does not fail once the tokens were
    /// checked, so that nothing has to be kept there.
    fn or_as_before<T>(
        &mut self,
        engine: &Engine,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let before = engine.backend().map(|_| self.cache.clone());
        let result = work(self);
        if let (Err(_), Some(before)) = (&result, before) {
            self.cache.restore(&before);
        }
        result
    }

    /// A second session with the same tokens, sharing every page.
    pub fn fork(&self) -> Self {
        self.clone()
    }

    /// A second session with the first `to` tokens, sharing only the pages they need; this one is
    /// unchanged.
    ///
    /// # Errors
    /// Those of [`Session::rollback`].
    pub fn truncate_fork(&self, to: usize) -> Result<Self> {
        self.check_reached(to)?;
        self.check_remembered(to)?;
        Ok(Self {
            engine: self.engine,
            cache: self.cache.fork_at(to),
        })
    }

    fn check_reached(&self, to: usize) -> Result<()> {
        let len = self.len();
        if to > len {
            Err(Error::RollbackForward { to, len })
        } else {
            Ok(())
        }
    }

    fn check_remembered(&self, to: usize) -> Result<()> {
        let exact_from = self.exact_from();
        if to > 0 && to < exact_from {
            Err(Error::RollbackForgotten {
                to,
                exact_from,
                recompute: to,
            })
        } else {
            Ok(())
        }
    }

    /// Bytes of keys and values it holds, in whole pages, those it shares with others included.
    /// Token ids take 4 bytes each beside them.
    pub fn bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Its cache.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Most bytes of pages that `room` more tokens can take.
    pub(crate) fn growth(&self, room: usize) -> Growth {
        self.cache.growth(room, CHUNK)
    }

    /// Promises it bytes of pages, in the place of any earlier promise.
    pub(crate) fn grant(&mut self, growth: Growth) {
        self.cache.grant(growth);
    }

    /// Pages of 64 positions it holds, those of global and of local layers together.
    pub fn n_pages(&self) -> usize {
        self.cache.n_pages()
    }

    /// Pages it shares with other sessions.
    pub fn n_shared_pages(&self) -> usize {
        self.cache.n_shared_pages()
    }
}

/// One session's part of [`Engine::extend_batch`].
#[derive(Debug)]
pub struct BatchItem<'a> {
    /// The session that is extended.
    pub session: &'a mut Session,
    /// The tokens to append.
    pub ids: &'a [u32],
    /// Whose logits to return.
    pub want: Want,
}

impl Engine {
    /// Extends many sessions, reading the weights once for all of them, and returns the logits of
    /// each: the same, bit for bit, as [`Session::extend`] would one by one.
    ///
    /// # Errors
    /// Those of [`Session::extend`], for the first item that has one; no session is changed then.
    pub fn extend_batch(&self, items: &mut [BatchItem<'_>]) -> Result<Vec<Logits>> {
        for item in &*items {
            item.session.check(self, item.session.len(), item.ids)?;
        }
        let mut logits: Vec<Logits> = items.iter().map(|_| Logits::none(self)).collect();
        let n_tokens = items.iter().map(|item| item.ids.len()).sum();
        let before = remembered(self, n_tokens, items.iter().map(|item| &*item.session));
        let mut done = vec![0; items.len()];
        loop {
            let mut work = next_pass(items, &mut done, &mut logits);
            if work.is_empty() {
                return Ok(logits);
            }
            if let Err(error) = compute(self, &mut work) {
                for (item, before) in items.iter_mut().zip(&before) {
                    item.session.cache.restore(before);
                }
                return Err(error);
            }
        }
    }
}

/// As many tokens of `items` as go through the model together, behind those that are `done`.
fn next_pass<'a>(
    items: &'a mut [BatchItem<'_>],
    done: &mut [usize],
    logits: &'a mut [Logits],
) -> Vec<Work<'a>> {
    let mut room = CHUNK;
    let mut work = Vec::new();
    for ((item, done), logits) in items.iter_mut().zip(done).zip(logits) {
        let n = (item.ids.len() - *done).min(room);
        if n == 0 {
            continue;
        }
        let ids = &item.ids[*done..*done + n];
        *done += n;
        room -= n;
        let is_last = *done == item.ids.len();
        work.push(Work {
            session: &mut *item.session,
            ids,
            want: if is_last {
                item.want
            } else {
                item.want.before_last()
            },
            legal: None,
            logits: &mut logits.data,
        });
    }
    work
}

/// What sessions were before work of several passes, of which a later one may fail; nothing where that
/// cannot be, or where a single pass leaves them unchanged by itself.
fn remembered<'a>(
    engine: &Engine,
    n_tokens: usize,
    sessions: impl IntoIterator<Item = &'a Session>,
) -> Vec<Cache> {
    match engine.backend() {
        Some(_) if n_tokens > CHUNK => (sessions.into_iter())
            .map(|session| session.cache.clone())
            .collect(),
        _ => Vec::new(),
    }
}

/// A part of a session's new tokens that goes through the model in one pass.
struct Work<'a> {
    session: &'a mut Session,
    ids: &'a [u32],
    want: Want,
    legal: Option<Mask<'a>>,
    logits: &'a mut Vec<f32>,
}

/// One pass. The ids were checked.
///
/// # Errors
/// Those of a back end; nothing is committed then.
fn compute(engine: &Engine, work: &mut [Work<'_>]) -> Result<()> {
    let computed = reserve(work).and_then(|()| match engine.compute() {
        Compute::Here(processor) => {
            let mut segments: Vec<Segment<'_>> = work.iter_mut().map(Work::segment).collect();
            processor.run(&mut segments);
            Ok(())
        }
        Compute::There(together) => {
            let lookback = lookback(engine.config());
            let part = |work: &Work<'_>| work.part(lookback);
            let all = together.pass(work.iter().map(part).collect())?;
            let mut rows = all.chunks_exact(engine.config().vocab_size);
            for work in &mut *work {
                let wanted = rows.by_ref().take(work.want.of(work.ids.len()).len());
                wanted.for_each(|row| work.logits.extend_from_slice(row));
            }
            Ok(())
        }
    });
    for work in work {
        match computed {
            Ok(()) => work.session.cache.commit(work.ids.len()),
            Err(_) => work.session.cache.truncate(work.session.len()),
        }
    }
    computed
}

/// Makes rows for all new tokens.
fn reserve(work: &mut [Work<'_>]) -> Result<()> {
    for work in work {
        work.session.cache.reserve(work.ids)?;
    }
    Ok(())
}

/// How many tokens before it the embedding of a token depends on.
fn lookback(config: &Config) -> usize {
    let runs = config.run_embedding.as_ref();
    let in_run = runs.map_or(0, |runs| runs.n_places);
    config.n_previous_embeddings.max(in_run)
}

impl Work<'_> {
    fn segment(&mut self) -> Segment<'_> {
        Segment {
            cache: &mut self.session.cache,
            ids: self.ids,
            want: self.want,
            legal: self.legal,
            logits: &mut *self.logits,
        }
    }

    /// The same for a back end.
    fn part(&self, lookback: usize) -> PassPart {
        let cache = &self.session.cache;
        let [global, local] = cache.runs();
        let start = cache.len();
        PassPart {
            start,
            before: cache.ids()[start.saturating_sub(lookback)..].to_vec(),
            ids: self.ids.to_vec(),
            wanted: self.want.of(self.ids.len()),
            global,
            local,
        }
    }
}

/// `0..len` in pieces of at most `longest`.
fn chunks(len: usize, longest: usize) -> impl Iterator<Item = (usize, usize)> {
    let begins = (0..len).step_by(longest);
    begins.map(move |begin| (begin, len.min(begin + longest)))
}

/// Rows of logits, one for each token that was asked for, in the order of the tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    data: Vec<f32>,
    vocab_size: usize,
}

impl Logits {
    fn none(engine: &Engine) -> Self {
        Self {
            data: Vec::new(),
            vocab_size: engine.config().vocab_size,
        }
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.data.len() / self.vocab_size
    }

    /// The logits of the token after the `index`-th wanted one.
    ///
    /// # Panics
    /// When `index` is not below [`Logits::n_rows`].
    pub fn row(&self, index: usize) -> &[f32] {
        &self.data[index * self.vocab_size..][..self.vocab_size]
    }

    /// The last row, when there is any.
    pub fn last(&self) -> Option<&[f32]> {
        self.rows().next_back()
    }

    /// All rows.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.data.chunks_exact(self.vocab_size)
    }

    /// All rows in one slice, `[n_rows, vocab_size]`.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }
}
