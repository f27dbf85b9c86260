//! The small vocabulary shared by the operations: attention masks and shapes, rotary tables,
//! optimiser settings and results.

/// The keys that one query row may see: `prefix_start..prefix_end` (all of them before `start`)
/// and `start..=i`, where `i` is the row itself.
///
/// Two ranges express every mask in use: plain causal attention is `start = 0` with an empty
/// prefix; packed documents set `start` to the first row of the document; a sliding window moves
/// `start` along; a window that always keeps the beginning of the document (the source code of
/// a traced program, say) has that beginning as its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First key of the prefix.
    pub prefix_start: u32,
    /// One past the last key of the prefix; equal to `prefix_start` when there is none.
    pub prefix_end: u32,
    /// First key of the range that ends with the row itself.
    pub start: u32,
}

impl Span {
    /// A span without a prefix: row `i` sees `start..=i`.
    #[must_use]
    pub fn causal_from(start: u32) -> Self {
        Self {
            prefix_start: 0,
            prefix_end: 0,
            start,
        }
    }

    /// The visible keys of row `i` as two half-open ranges in increasing order.
    #[must_use]
    pub fn ranges(&self, i: usize) -> [std::ops::Range<usize>; 2] {
        [
            self.prefix_start as usize..self.prefix_end as usize,
            self.start as usize..i + 1,
        ]
    }

    /// Panics unless the span is well formed for row `i`.
    pub(crate) fn check(&self, i: usize) {
        let prefix = self.prefix_start..self.prefix_end;
        assert!(
            self.prefix_start <= self.prefix_end
                && (prefix.is_empty() || self.prefix_end <= self.start)
                && self.start as usize <= i,
            "the span of row {i} is malformed: {self:?} (wanted prefix_start <= prefix_end <= \
             start <= {i})"
        );
    }
}

/// What the operands of a matrix product may be rounded to; products are summed in f32 either way.
///
/// A caller chooses it, never the processor: in f32 a result has the same accuracy everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Nothing is lost.
    #[default]
    F32,
    /// 8 bits of mantissa where the processor multiplies that faster ([`Level::Avx512Bf16`] and
    /// up) and the product is large enough to gain; f32 elsewhere.
    ///
    /// [`Level::Avx512Bf16`]: crate::Level::Avx512Bf16
    Bf16,
}

/// Heads and widths of grouped-query attention. Scores are scaled by `1/sqrt(head_dim)`; query
/// head `h` reads key/value head `h / (n_heads / n_kv_heads)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads.
    pub n_heads: usize,
    /// Key/value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
}

impl AttentionShape {
    /// Query heads that share one key/value head.
    #[must_use]
    pub fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// Width of a query or output row: `n_heads * head_dim`.
    #[must_use]
    pub fn q_width(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Width of a key or value row: `n_kv_heads * head_dim`.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// The factor applied to scores, `1/sqrt(head_dim)`.
    #[must_use]
    pub fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Panics unless the heads divide evenly and nothing is zero.
    pub(crate) fn check(&self) {
        assert!(
            self.n_kv_heads > 0
                && self.head_dim > 0
                && self.n_heads > 0
                && self.n_heads.is_multiple_of(self.n_kv_heads),
            "an attention shape needs n_kv_heads dividing n_heads and no zeros, got {self:?}"
        );
    }
}

/// Which way [`rope`](crate::rope) turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Rotate by the position's angle.
    Forward,
    /// Rotate back (sine negated): the gradient of `Forward`, which is orthogonal.
    Backward,
}

/// Cosines and sines of the rotary angles, `[n_positions, head_dim / 2]` each.
#[derive(Clone, Debug)]
pub struct RopeTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl RopeTable {
    /// Tabulates `position * inv_freq[j]` for positions `0..n_positions`.
    ///
    /// The angle is an f32 product, as in the reference implementations of the Llama family, so
    /// that long contexts see the same rounding as the weights were trained with.
    #[must_use]
    pub fn new(inv_freq: &[f32], n_positions: usize) -> Self {
        let angles =
            (0..n_positions).flat_map(|p| inv_freq.iter().map(move |f| f64::from(p as f32 * f)));
        let (cos, sin) = angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip();
        Self {
            cos,
            sin,
            half: inv_freq.len(),
        }
    }

    /// Half the head width: how many pairs are rotated.
    #[must_use]
    pub fn half_dim(&self) -> usize {
        self.half
    }

    /// How many positions are tabulated.
    #[must_use]
    pub fn n_positions(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }

    /// The cosines and sines of one position, `head_dim / 2` each.
    ///
    /// # Panics
    /// If the position is not tabulated.
    #[must_use]
    pub fn row(&self, position: u32) -> (&[f32], &[f32]) {
        let position = position as usize;
        assert!(
            position < self.n_positions(),
            "position {position} is outside the rotary table of {} positions",
            self.n_positions()
        );
        let range = position * self.half..(position + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

/// What [`cross_entropy`](crate::cross_entropy) found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// Sum over rows of `weight * -ln p(target)`.
    pub loss_sum: f64,
    /// Rows of non-zero weight whose largest logit is the target's (first one on ties).
    pub correct: usize,
}

/// Settings of the AdamW optimiser, with the meaning they have in `torch.optim.AdamW`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the running mean of gradients.
    pub beta1: f32,
    /// Decay of the running mean of squared gradients.
    pub beta2: f32,
    /// Added to the root of the second moment, against division by zero.
    pub eps: f32,
    /// Decoupled weight decay: parameters shrink by `lr * weight_decay` per step.
    pub weight_decay: f32,
}
