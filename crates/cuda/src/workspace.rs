//! Device memory of a pass: activations kept for the way back, gradients in flight, and one chunk of the
//! head.

use cwm_model::{Config, Outcome};
use half::bf16;

use crate::device::{Buffer, Gpu};
use crate::error::Error;
use crate::ops::{RowSums, norm_partial_len, qkv_width};
use crate::row::head_rows;

/// What a pass leaves behind; see [`cwm_model::Workspace::recomputing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Activations of every layer, for the way back.
    Everything,
    /// What every layer was given, from which its activations are computed again.
    Inputs,
    /// The last residual stream only.
    Last,
}

/// Memory for passes over rows of up to so many tokens; grows where a row is longer.
#[derive(Debug)]
pub struct Workspace {
    gpu: Gpu,
    config: Config,
    keep: Keep,
    tokens: usize,
    /// The residual stream that each layer is given `[T, hidden]`, and the last one; two that take turns
    /// for [`Keep::Last`].
    pub(crate) inputs: Vec<Buffer<f32>>,
    /// One for each layer, or one that all share.
    pub(crate) layers: Vec<Layer>,
    pub(crate) shared: Shared,
    /// Only where gradients are computed.
    pub(crate) gradients: Option<Gradients>,
    pub(crate) head: Head,
}

/// What one layer computed.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Rotated queries and keys, and values, side by side.
    pub(crate) qkv: Buffer<bf16>,
    /// `[T, n_heads * head_dim]`.
    pub(crate) attended: Buffer<bf16>,
    pub(crate) sums: RowSums,
    /// Residual stream between attention and feed-forward `[T, hidden]`.
    pub(crate) middle: Buffer<f32>,
    /// `[T, 2 * intermediate]`.
    pub(crate) gate_up: Buffer<bf16>,
    /// Inverse root mean squares of the two norms' inputs `[T]`.
    pub(crate) attention_inverse: Buffer<f32>,
    pub(crate) mlp_inverse: Buffer<f32>,
}

/// Values that live within one layer's pass.
#[derive(Debug)]
pub(crate) struct Shared {
    /// `[T, hidden]`.
    pub(crate) normed: Buffer<bf16>,
    /// `[T, intermediate]`.
    pub(crate) product: Buffer<bf16>,
}

/// Gradients with respect to activations.
#[derive(Debug)]
pub(crate) struct Gradients {
    /// Of the residual stream `[T, hidden]`, and rounded for products.
    pub(crate) residual: Buffer<f32>,
    pub(crate) rounded: Buffer<bf16>,
    pub(crate) normed: Buffer<bf16>,
    pub(crate) product: Buffer<bf16>,
    pub(crate) gate_up: Buffer<bf16>,
    pub(crate) attended: Buffer<bf16>,
    pub(crate) qkv: Buffer<bf16>,
    /// What a layer put out when it was computed again.
    pub(crate) again: Option<Buffer<f32>>,
    /// Sums of parts: of norms' gradients, of rows that are added up.
    pub(crate) partial: Buffer<f32>,
}

/// One chunk of targets.
#[derive(Debug)]
pub(crate) struct Head {
    /// Residual stream of the targets' rows `[n, hidden]`.
    pub(crate) gathered: Buffer<f32>,
    pub(crate) normed: Buffer<bf16>,
    pub(crate) inverse: Buffer<f32>,
    pub(crate) logits: Buffer<f32>,
    pub(crate) d_logits: Buffer<bf16>,
    pub(crate) d_gathered: Buffer<f32>,
    pub(crate) d_normed: Buffer<bf16>,
    pub(crate) losses: Buffer<f32>,
    pub(crate) correct: Buffer<u32>,
    /// Of the targets of all chunks.
    pub(crate) all_losses: Buffer<f32>,
    pub(crate) all_correct: Buffer<u32>,
}

impl Workspace {
    /// For rows of up to `tokens` tokens. Without gradients, `keep` is [`Keep::Last`].
    ///
    /// # Errors
    /// When it does not fit in device memory.
    pub fn new(gpu: &Gpu, config: &Config, tokens: usize, keep: Keep) -> Result<Self, Error> {
        let zeros = |width: usize| gpu.zeros(tokens * width);
        let inputs = match keep {
            Keep::Everything | Keep::Inputs => config.n_layers + 1,
            Keep::Last => 2,
        };
        let layers = match keep {
            Keep::Everything => config.n_layers,
            Keep::Inputs | Keep::Last => 1,
        };
        Ok(Self {
            inputs: repeated(inputs, || zeros(config.hidden_size))?,
            layers: repeated(layers, || Layer::new(gpu, config, tokens))?,
            shared: Shared {
                normed: gpu.zeros(tokens * config.hidden_size)?,
                product: gpu.zeros(tokens * config.intermediate_size)?,
            },
            gradients: match keep {
                Keep::Last => None,
                _ => Some(Gradients::new(gpu, config, tokens, keep)?),
            },
            head: Head::new(gpu, config, tokens)?,
            gpu: gpu.clone(),
            config: config.clone(),
            keep,
            tokens,
        })
    }

    /// What is kept of a pass.
    pub fn keep(&self) -> Keep {
        self.keep
    }

    /// Grows for a row of `tokens` tokens with `targets` targets.
    pub(crate) fn reserve(&mut self, tokens: usize, targets: usize) -> Result<(), Error> {
        if tokens > self.tokens {
            // What is there is given back first, since both may not fit.
            self.inputs.clear();
            self.layers.clear();
            self.gradients = None;
            *self = Self::new(&self.gpu, &self.config, tokens, self.keep)?;
        }
        if targets > self.head.all_correct.len() {
            self.head = Head::new(&self.gpu, &self.config, targets)?;
        }
        Ok(())
    }
}

impl Workspace {
    /// Grows the room for sums of parts to `len` numbers.
    pub(crate) fn reserve_partial(&mut self, len: usize) -> Result<(), Error> {
        if let Some(gradients) = &mut self.gradients
            && gradients.partial.len() < len
        {
            gradients.partial = self.gpu.zeros(len.next_power_of_two())?;
        }
        Ok(())
    }
}

/// Bytes of a workspace for each token, apart from the head's.
pub fn bytes_per_token(config: &Config, keep: Keep) -> usize {
    let (hidden, inner, shape) = (
        config.hidden_size,
        config.intermediate_size,
        config.attention_shape(),
    );
    let (full, half) = (size_of::<f32>(), size_of::<bf16>());
    let input = full * hidden;
    let attention = half * (qkv_width(shape) + shape.q_width()) + full * (2 * shape.n_heads + 2);
    let layer = attention + full * hidden + half * 2 * inner;
    let shared = half * (hidden + inner);
    let gradients =
        full * hidden + half * (2 * hidden + 3 * inner + shape.q_width() + qkv_width(shape));
    match keep {
        Keep::Everything => config.n_layers * (input + layer) + input + shared + gradients,
        Keep::Inputs => config.n_layers * input + 2 * input + layer + shared + gradients,
        Keep::Last => 2 * input + layer + shared,
    }
}

impl Layer {
    fn new(gpu: &Gpu, config: &Config, tokens: usize) -> Result<Self, Error> {
        let shape = config.attention_shape();
        Ok(Self {
            qkv: gpu.zeros(tokens * qkv_width(shape))?,
            attended: gpu.zeros(tokens * shape.q_width())?,
            sums: RowSums {
                lse: gpu.zeros(tokens * shape.n_heads)?,
                delta: gpu.zeros(tokens * shape.n_heads)?,
            },
            middle: gpu.zeros(tokens * config.hidden_size)?,
            gate_up: gpu.zeros(tokens * 2 * config.intermediate_size)?,
            attention_inverse: gpu.zeros(tokens)?,
            mlp_inverse: gpu.zeros(tokens)?,
        })
    }
}

impl Gradients {
    fn new(gpu: &Gpu, config: &Config, tokens: usize, keep: Keep) -> Result<Self, Error> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let shape = config.attention_shape();
        let again = (keep == Keep::Inputs).then(|| gpu.zeros(tokens * hidden));
        Ok(Self {
            residual: gpu.zeros(tokens * hidden)?,
            rounded: gpu.zeros(tokens * hidden)?,
            normed: gpu.zeros(tokens * hidden)?,
            product: gpu.zeros(tokens * inner)?,
            gate_up: gpu.zeros(tokens * 2 * inner)?,
            attended: gpu.zeros(tokens * shape.q_width())?,
            qkv: gpu.zeros(tokens * qkv_width(shape))?,
            again: again.transpose()?,
            partial: gpu.zeros(norm_partial_len(gpu, hidden))?,
        })
    }
}

impl Head {
    /// For so many targets of a row.
    fn new(gpu: &Gpu, config: &Config, targets: usize) -> Result<Self, Error> {
        let (hidden, vocab) = (config.hidden_size, config.vocab_size);
        let rows = head_rows(config).min(targets);
        Ok(Self {
            all_losses: gpu.zeros(targets)?,
            all_correct: gpu.zeros(targets)?,
            gathered: gpu.zeros(rows * hidden)?,
            normed: gpu.zeros(rows * hidden)?,
            inverse: gpu.zeros(rows)?,
            logits: gpu.zeros(rows * vocab)?,
            d_logits: gpu.zeros(rows * vocab)?,
            d_gathered: gpu.zeros(rows * hidden)?,
            d_normed: gpu.zeros(rows * hidden)?,
            losses: gpu.zeros(rows)?,
            correct: gpu.zeros(rows)?,
        })
    }
}

impl Head {
    /// How the first `n` targets came out, once all work before has been done.
    pub(crate) fn outcomes(&self, n: usize) -> Result<Vec<Outcome>, Error> {
        let (losses, correct) = (self.all_losses.read(n)?, self.all_correct.read(n)?);
        let pairs = losses.into_iter().zip(correct);
        let outcome = |(loss, correct)| Outcome {
            loss: f64::from(loss),
            correct: correct != 0,
        };
        Ok(pairs.map(outcome).collect())
    }
}

fn repeated<T>(n: usize, mut make: impl FnMut() -> Result<T, Error>) -> Result<Vec<T>, Error> {
    (0..n).map(|_| make()).collect()
}
