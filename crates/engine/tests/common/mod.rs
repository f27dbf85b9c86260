//! Tiny random models whose logits are lively enough that a wrong mask or position shows.

#![allow(dead_code, reason = "each test file uses a part of this")]

use cwm_model::{Config, LayerType, Llama3Scaling, Model, Rope, RunEmbedding};

/// A small deterministic generator (SplitMix64) for weights and tokens.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Uniform in [-1, 1).
    pub(crate) fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn ids(&mut self, n: usize, vocab_size: usize) -> Vec<u32> {
        (0..n).map(|_| self.below(vocab_size) as u32).collect()
    }
}

/// Shapes with odd widths, grouped queries, and windows far shorter than the texts of the tests.
pub(crate) fn config(kind: usize) -> Config {
    let (hidden_size, head_dim, n_heads, n_kv_heads, window, layers) = match kind {
        0 => (24, 8, 6, 2, 5, "fsf"),
        1 => (40, 16, 3, 1, 70, "sfs"),
        2 => (33, 6, 4, 4, 1, "fs"),
        _ => (64, 16, 4, 2, 64, "s"),
    };
    let layer_types = layers.chars().map(|layer| match layer {
        'f' => LayerType::Full,
        _ => LayerType::Sliding,
    });
    Config {
        vocab_size: 67,
        hidden_size,
        intermediate_size: 2 * hidden_size + 3,
        n_layers: layers.len(),
        n_heads,
        n_kv_heads,
        head_dim,
        layer_types: layer_types.collect(),
        sliding_window: window,
        rms_norm_eps: 1e-5,
        rope: Rope {
            theta: 10_000.0,
            scaling: (kind == 0).then_some(Llama3Scaling {
                factor: 16.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 64,
            }),
        },
        max_position_embeddings: 400,
        n_previous_embeddings: [0, 1, 3, 0][kind],
        run_embedding: (kind >= 2).then(|| RunEmbedding {
            kinds: vec![[0, 20], [25, 66]],
            n_places: [2, 9][kind - 2],
        }),
        tie_word_embeddings: kind == 1,
        bos_token_id: Some(0),
        eos_token_id: vec![1],
    }
}

/// Number of shapes that [`config`] knows.
pub(crate) const N_CONFIGS: usize = 4;

/// A model of shape `kind` with weights of about unit gain instead of the small ones training
/// starts from.
pub(crate) fn model(kind: usize, seed: u64) -> Model {
    let mut model = Model::init(config(kind), seed);
    let mut random = Random(seed ^ 0xa5a5);
    let layout = model.layout.clone();
    for spec in layout.tensors() {
        let values = &mut model.params[spec.offset..spec.offset + spec.len];
        match spec.shape.last() {
            Some(&k) if spec.shape.len() == 2 => {
                let gain = 2.0 / (k as f32).sqrt();
                values.fill_with(|| gain * random.signed());
            }
            _ => values.fill_with(|| 1.0 + 0.2 * random.signed()),
        }
    }
    model
}
