//! The model's weights, arranged for decoding.
//!
//! Matrices that read the same input are adjacent in the model's parameters (query/key/value;
//! gate/up) and are multiplied as one, so that a token costs four matrix-vector products per
//! layer, each over one contiguous block of memory. With f32 weights nothing is copied: the
//! engine takes over the model's parameters.

use std::ops::{Deref, Range};
use std::sync::Arc;

use cwm_kernels::{INT8_GROUP, MatMut, MatRef, Store, gemm, gemv, gemv_int8, quantize_int8};
use cwm_model::{Config, LayerType, Layout, Model, RunEmbedding};

use crate::error::{Error, Result};

/// How the weight matrices are held in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// 32-bit floats: exact.
    F32,
    /// 8-bit integers with one f32 scale for each 32 weights along a row (1.125 bytes per weight),
    /// quantised at load. The token embeddings that are looked up and the norm weights stay f32.
    Int8,
}

/// How the products of several tokens at once are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numerics {
    /// Every token goes through the same arithmetic whatever it is batched with: any chunking of
    /// the same tokens gives the same bits, for any number of threads.
    Invariant,
    /// Long chunks go through the blocked matrix product, which adds up in another order: faster
    /// prefill, equal to the other only up to rounding (about 1e-5 in the logits of small models).
    /// Has no effect on int8 weights.
    Fast,
}

/// Some of the model's parameters, shared or copied.
#[derive(Clone, Debug)]
pub(crate) struct Floats {
    params: Arc<Vec<f32>>,
    range: Range<usize>,
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.params[self.range.clone()]
    }
}

/// A matrix `[n, k]` that maps `x [k]` to `y [n]`.
#[derive(Debug)]
pub(crate) struct Matrix {
    pub(crate) n: usize,
    pub(crate) k: usize,
    data: Data,
}

#[derive(Debug)]
enum Data {
    F32(Floats),
    Int8 { q: Vec<i8>, scales: Vec<f32> },
}

/// From this many rows on, [`Numerics::Fast`] uses the matrix product.
const GEMM_ROWS: usize = 4;

/// Weights of a block that should stay in the first-level cache beside the inputs.
const BLOCK_BYTES: usize = 16 * 1024;

impl Matrix {
    /// Bytes of the weights.
    pub(crate) fn bytes(&self) -> usize {
        match &self.data {
            Data::F32(w) => size_of_val(&w[..]),
            Data::Int8 { q, scales } => q.len() + size_of_val(&scales[..]),
        }
    }

    /// `y [m, n] = x [m, k] · Wᵀ`.
    pub(crate) fn apply(&self, y: &mut [f32], x: &[f32], numerics: Numerics) {
        let m = x.len() / self.k;
        match &self.data {
            Data::F32(w) if numerics == Numerics::Fast && m >= GEMM_ROWS => {
                let c = MatMut::new(y, m, self.n);
                let (a, b) = (MatRef::new(x, m, self.k), MatRef::new(w, self.n, self.k));
                gemm(c, a, b.t(), Store::Overwrite);
            }
            _ if m == 1 => self.product(y, 0..self.n, x),
            _ => self.apply_row_by_row(y, x),
        }
    }

    /// The batch-invariant product: every token meets every block of weights in a matrix-vector
    /// product of its own, while the block is still in the first-level cache.
    fn apply_row_by_row(&self, y: &mut [f32], x: &[f32]) {
        // A multiple of every row-blocking the kernels use, so that a weight row meets the same
        // code as in the undivided product.
        let block = (BLOCK_BYTES / (4 * self.k)).max(1).next_multiple_of(16);
        for begin in (0..self.n).step_by(block) {
            let rows = begin..(begin + block).min(self.n);
            for (y, x) in y.chunks_exact_mut(self.n).zip(x.chunks_exact(self.k)) {
                self.product(&mut y[rows.clone()], rows.clone(), x);
            }
        }
    }

    /// `y = W[rows] · x`.
    fn product(&self, y: &mut [f32], rows: Range<usize>, x: &[f32]) {
        let span = rows.start * self.k..rows.end * self.k;
        match &self.data {
            Data::F32(w) => gemv(y, &w[span], x),
            Data::Int8 { q, scales } => {
                let groups = self.k.div_ceil(INT8_GROUP);
                gemv_int8(
                    y,
                    &q[span],
                    &scales[rows.start * groups..rows.end * groups],
                    x,
                );
            }
        }
    }
}

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Positions a query sees, itself included; `None` for all.
    pub(crate) window: Option<usize>,
    pub(crate) attention_norm: Floats,
    /// Query, key and value projections: `[(n_heads + 2 n_kv_heads) * head_dim, hidden]`.
    pub(crate) qkv: Matrix,
    /// `[hidden, n_heads * head_dim]`.
    pub(crate) output: Matrix,
    pub(crate) mlp_norm: Floats,
    /// Gate and up projections: `[2 * intermediate, hidden]`.
    pub(crate) gate_up: Matrix,
    /// `[hidden, intermediate]`.
    pub(crate) down: Matrix,
}

/// All weights.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// `[vocab, hidden]`, looked up by token.
    pub(crate) embeddings: Floats,
    /// `[vocab, hidden]` each, looked up by the tokens before, nearest first.
    pub(crate) previous: Vec<Floats>,
    /// `[n_places, hidden]`, looked up by the place of a token in its run.
    pub(crate) run: Option<(RunEmbedding, Floats)>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) final_norm: Floats,
    /// `[vocab, hidden]`.
    pub(crate) head: Matrix,
}

impl Decoder {
    /// Takes over the parameters of `model`, quantising the matrices where asked.
    pub(crate) fn new(model: Model, weights: Weights) -> Result<Self> {
        let Model {
            config,
            layout,
            params,
        } = model;
        check(&config, &layout, params.len())?;
        let hidden = config.hidden_size;
        let source = Source {
            params: Arc::new(params),
            weights,
        };
        let layer = |(kind, at): (&LayerType, &cwm_model::LayerTensors)| Layer {
            window: match kind {
                LayerType::Full => None,
                LayerType::Sliding => Some(config.sliding_window),
            },
            attention_norm: source.floats(&at.attention_norm),
            qkv: source.matrix(at.qkv(), hidden),
            output: source.matrix(at.o.clone(), at.o.len() / hidden),
            mlp_norm: source.floats(&at.mlp_norm),
            gate_up: source.matrix(at.gate_up(), hidden),
            down: source.matrix(at.down.clone(), config.intermediate_size),
        };
        Ok(Self {
            embeddings: source.floats(&layout.embedding()),
            previous: layout
                .previous_embeddings()
                .iter()
                .map(|range| source.floats(range))
                .collect(),
            run: config
                .run_embedding
                .clone()
                .zip(layout.run_embedding().map(|range| source.floats(&range))),
            layers: config
                .layer_types
                .iter()
                .zip(layout.layers())
                .map(layer)
                .collect(),
            final_norm: source.floats(&layout.final_norm()),
            head: source.matrix(layout.head(), hidden),
        })
    }

    /// Bytes read for one decoded token, apart from the cache.
    pub(crate) fn bytes_per_token(&self) -> usize {
        let layer =
            |l: &Layer| l.qkv.bytes() + l.output.bytes() + l.gate_up.bytes() + l.down.bytes();
        self.layers.iter().map(layer).sum::<usize>() + self.head.bytes()
    }
}

/// A model's fields are public: refuses one that was put together from parts that do not fit.
fn check(config: &Config, layout: &Layout, n_params: usize) -> Result<()> {
    let refuse = |problem: String| Err(Error::Model { problem });
    if let Err(error) = config.validate() {
        return refuse(error.to_string());
    }
    if *layout != Layout::new(config) {
        return refuse("its layout was made for another configuration".to_owned());
    }
    if n_params != layout.total() {
        let total = layout.total();
        return refuse(format!(
            "it has {n_params} parameters, its layout asks for {total}"
        ));
    }
    Ok(())
}

/// Where the weights come from and what becomes of them.
struct Source {
    params: Arc<Vec<f32>>,
    weights: Weights,
}

impl Source {
    /// Values kept as f32: shared, or copied where the rest of the parameters is to be freed.
    fn floats(&self, range: &Range<usize>) -> Floats {
        match self.weights {
            Weights::F32 => Floats {
                params: Arc::clone(&self.params),
                range: range.clone(),
            },
            Weights::Int8 => {
                let copy = self.params[range.clone()].to_vec();
                Floats {
                    params: Arc::new(copy),
                    range: 0..range.len(),
                }
            }
        }
    }

    /// The matrix of rows of `k` that lies at `range`.
    fn matrix(&self, range: Range<usize>, k: usize) -> Matrix {
        let n = range.len() / k;
        let data = match self.weights {
            Weights::F32 => Data::F32(self.floats(&range)),
            Weights::Int8 => {
                let (mut q, mut scales) = (vec![0; n * k], vec![0.0; n * k.div_ceil(INT8_GROUP)]);
                quantize_int8(&mut q, &mut scales, &self.params[range], k);
                Data::Int8 { q, scales }
            }
        };
        Matrix { n, k, data }
    }
}
