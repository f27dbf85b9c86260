//! The forward pass over new tokens of one or more sequences, each behind its cached prefix.
//!
//! The rows of all sequences go through each product together, so that the weights are read once;
//! they only meet in the products, where a row does not notice the others, and in the attention of
//! their own sequence. Every other kernel is called once per row, with slices whose lengths depend
//! on the model and the position only. So the result depends on a sequence's tokens alone: not on
//! how they are cut into calls, nor on what else is computed with them, nor on the threads.
//!
//! There are two ways to share a pass among threads. The weights of most models are read from memory,
//! once: there each product is shared ([`Pool::run`] inside the kernels). Those of a small model lie in
//! every core's cache, and its products are over before a second thread has begun; there each thread
//! takes some of the rows through a whole layer, and the threads meet once a layer.

mod part;
mod text;

use std::ops::Range;

use cwm_kernels::{AttentionShape, Pool, RopeTable};

use crate::Mask;
use crate::kv::Cache;
use crate::weights::Decoder;
use part::Part;

/// The sizes a forward pass needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dims {
    pub(crate) hidden: usize,
    pub(crate) inner: usize,
    pub(crate) attention: AttentionShape,
    pub(crate) eps: f32,
}

impl Dims {
    fn q_dim(&self) -> usize {
        self.attention.q_width()
    }

    fn kv_dim(&self) -> usize {
        self.attention.kv_width()
    }

    fn qkv_dim(&self) -> usize {
        self.q_dim() + 2 * self.kv_dim()
    }
}

/// What a pass reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) decoder: &'a Decoder,
    pub(crate) rope: &'a RopeTable,
    pub(crate) pool: &'a Pool,
    pub(crate) dims: Dims,
    /// How threads share a pass.
    pub(crate) sharing: Sharing,
}

/// How threads share a pass, by what is read of the weights for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Products, whatever the rows.
    Products,
    /// Rows, where each thread gets some; else products.
    RowsOrProducts,
    /// Rows, where each thread gets some; else nothing.
    Rows,
}

impl Sharing {
    /// The way for a model of so many bytes of weights. The bounds are by measurements of the shipped
    /// model on a processor with 1 MiB of second-level cache a core: in 8 bits (1.4 MB) one row takes
    /// 38 us with one thread and with two, in f32 (5.2 MB) 78 and 57 us; eight rows are faster by rows
    /// in both, as long as every core has the weights near.
    pub(crate) fn of(weight_bytes: usize) -> Self {
        match weight_bytes >> 20 {
            0..2 => Self::Rows,
            2..8 => Self::RowsOrProducts,
            _ => Self::Products,
        }
    }
}

impl Context<'_> {
    /// In how many parts a pass over so many rows is shared.
    fn n_parts(&self, rows: usize) -> usize {
        let worth_a_thread = match self.sharing {
            Sharing::Products => return 1,
            // Fewer would be faster by products.
            Sharing::RowsOrProducts => 4,
            Sharing::Rows => 2,
        };
        self.pool.threads().min(rows / worth_a_thread).max(1)
    }
}

/// Which tokens of a chunk need their final hidden state, and so their logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// No logits: only fill the cache.
    None,
    /// The logits after the last token.
    Last,
    /// The logits after every token.
    All,
}

impl Want {
    /// What is wanted of a part of the tokens that is not the last.
    pub(crate) fn before_last(self) -> Self {
        match self {
            Self::All => Self::All,
            Self::Last | Self::None => Self::None,
        }
    }

    /// Which of `n` tokens are wanted.
    pub(crate) fn of(self, n: usize) -> Range<usize> {
        match self {
            Self::None => n..n,
            Self::Last => n.saturating_sub(1)..n,
            Self::All => 0..n,
        }
    }
}

/// New tokens of one sequence.
#[derive(Debug)]
pub(crate) struct Segment<'a> {
    /// Rows for the tokens are reserved in it; they are not committed by the pass.
    pub(crate) cache: &'a mut Cache,
    pub(crate) ids: &'a [u32],
    pub(crate) want: Want,
    /// Tokens whose logits are of interest; all, where it says nothing.
    pub(crate) legal: Option<Mask<'a>>,
    /// Where the wanted logits are appended.
    pub(crate) logits: &'a mut Vec<f32>,
}

/// The buffers of one forward pass; any session of the engine may use them next.
#[derive(Debug)]
pub(crate) struct Workspace {
    parts: Vec<Part>,
    /// What a part of a small model's pass is computed with: the thread that has taken it.
    alone: Pool,
}

impl Default for Workspace {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            alone: Pool::solo(),
        }
    }
}

impl Workspace {
    /// Runs the new tokens of `segments`, for which their caches have reserved rows.
    pub(crate) fn run(&mut self, context: &Context<'_>, segments: &mut [Segment<'_>]) {
        let layers = &context.decoder.layers[..];
        let rows = segments.iter().map(|segment| segment.ids.len()).sum();
        let n_parts = context.n_parts(rows);
        if self.parts.len() < n_parts {
            self.parts.resize_with(n_parts, Part::default);
        }
        let parts = &mut self.parts[..n_parts];
        for (index, part) in parts.iter_mut().enumerate() {
            part.begin(
                rows * index / n_parts..rows * (index + 1) / n_parts,
                segments,
            );
        }
        let inside = Context {
            pool: match context.sharing {
                Sharing::Products => context.pool,
                Sharing::RowsOrProducts if n_parts == 1 => context.pool,
                _ => &self.alone,
            },
            ..*context
        };
        let all = |piece: &part::Piece| piece.tokens.clone();
        let wanted = |piece: &part::Piece| piece.wanted.clone();
        on_parts(context.pool, parts, |part| part.embed(&inside, segments));
        for index in 0..layers.len() {
            on_parts(context.pool, parts, |part| {
                if index > 0 {
                    part.attend(&inside, index - 1, segments, all);
                    part.finish(&inside, &layers[index - 1]);
                }
                part.project(&inside, &layers[index]);
            });
            // Later rows look at these keys and values, in whichever part they are.
            for part in &*parts {
                part.store(&inside, index, segments);
            }
        }
        // The keys and values of the last layer are needed, but of the rest only wanted rows.
        let direct = n_parts == 1 && segments.len() == 1;
        let legal = match segments {
            [segment] => segment.legal,
            _ => None,
        };
        on_parts(context.pool, parts, |part| {
            if let Some(last) = layers.last() {
                part.attend(&inside, layers.len() - 1, segments, wanted);
                part.keep(&inside);
                part.finish(&inside, last);
            }
            if !direct {
                part.head(&inside, legal);
            }
        });
        match (parts, segments) {
            ([part], [segment]) => part.head_into(&inside, segment),
            (parts, segments) => parts.iter().for_each(|part| part.hand_out(segments)),
        }
    }
}

/// Does `work` with every part, shared by the threads of `pool`.
fn on_parts(pool: &Pool, parts: &mut [Part], work: impl Fn(&mut Part) + Sync) {
    pool.for_each_chunk(parts, 1, |_, parts| parts.iter_mut().for_each(&work));
}
