//! A session: tokens in, logits out, with rollback and fork that cost pages instead of tokens.

use crate::decoder::Want;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::kv::Cache;

/// Tokens computed together; bounds the memory of activations whatever the length of a call.
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
        Self {
            engine: engine.id(),
            cache: Cache::new(engine.page_shape()),
        }
    }

    /// Appends `ids` (a prompt, a forced span, a draft or one sampled token: all the same) at
    /// positions `len()..len() + ids.len()` and returns the logits that `want` names. No tokens
    /// give no logits.
    ///
    /// Under [`Numerics::Invariant`](crate::Numerics::Invariant) the logits depend on the tokens
    /// alone, bit for bit: not on how they are split into calls, on rollbacks and forks before, or
    /// on the number of threads.
    ///
    /// # Errors
    /// [`Error::WrongEngine`], [`Error::UnknownToken`] or [`Error::ContextFull`]; the session is
    /// then unchanged.
    pub fn extend(&mut self, engine: &Engine, ids: &[u32], want: Want) -> Result<Logits> {
        self.check(engine, ids)?;
        let mut logits = Logits {
            data: Vec::new(),
            vocab_size: engine.config().vocab_size,
        };
        let context = engine.context();
        engine.with_workspace(|workspace| {
            let n_chunks = ids.len().div_ceil(CHUNK);
            for (index, chunk) in ids.chunks(CHUNK).enumerate() {
                let is_last = index + 1 == n_chunks;
                let want = if want == Want::Last && !is_last {
                    Want::None
                } else {
                    want
                };
                self.cache.reserve(chunk);
                let threads = engine.options().threads;
                workspace.run(
                    &context,
                    &mut self.cache,
                    chunk,
                    want,
                    threads,
                    &mut logits.data,
                );
                self.cache.commit(chunk.len());
            }
        });
        Ok(logits)
    }

    /// Refuses what [`Session::extend`] cannot do, before anything is touched.
    fn check(&self, engine: &Engine, ids: &[u32]) -> Result<()> {
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
        let (len, max_positions) = (self.len(), engine.max_positions());
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
        self.cache.ids()
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

    /// Forgets all tokens from position `to` on. Exact at any distance; nothing is recomputed.
    ///
    /// # Errors
    /// [`Error::RollbackForward`] when the session is shorter than `to`.
    pub fn rollback(&mut self, to: usize) -> Result<()> {
        self.check_reached(to)?;
        self.cache.truncate(to);
        Ok(())
    }

    /// A second session with the same tokens, sharing every page.
    pub fn fork(&self) -> Self {
        self.clone()
    }

    /// A second session with the first `to` tokens, sharing only the pages they need; this one is
    /// unchanged.
    ///
    /// # Errors
    /// [`Error::RollbackForward`] when the session is shorter than `to`.
    pub fn truncate_fork(&self, to: usize) -> Result<Self> {
        self.check_reached(to)?;
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

    /// Pages of 64 positions it holds.
    pub fn n_pages(&self) -> usize {
        self.cache.n_pages()
    }

    /// Pages it shares with other sessions.
    pub fn n_shared_pages(&self) -> usize {
        self.cache.n_shared_pages()
    }
}

/// Rows of logits, one for each token that was asked for, in the order of the tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    data: Vec<f32>,
    vocab_size: usize,
}

impl Logits {
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
