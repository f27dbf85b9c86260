//! What the tests share: tiny random models, and a slow transformer written
//! from the definition to hold the fast one against.

#![allow(
    dead_code,
    reason = "each test binary compiles this module and uses a part of it"
)]

pub(crate) mod python;
pub(crate) mod reference;

use cwm_model::{Config, LayerType, Llama3Scaling, Model, Rope, RunEmbedding, Span, Target};

/// A small model in which nothing is degenerate: grouped heads, a head width
/// that is not `hidden / heads`, both layer types, scaled RoPE, a window
/// shorter than any test row; untied, also embeddings of earlier tokens and of
/// places in runs.
pub(crate) fn tiny_config(tie_word_embeddings: bool) -> Config {
    use LayerType::{Full, Sliding};
    Config {
        vocab_size: 19,
        hidden_size: 10,
        intermediate_size: 14,
        n_layers: 3,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 6,
        layer_types: vec![Full, Sliding, Full],
        sliding_window: 4,
        rms_norm_eps: 1e-5,
        rope: Rope {
            theta: 100.0,
            scaling: Some(Llama3Scaling {
                factor: 4.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 32,
            }),
        },
        max_position_embeddings: 64,
        n_previous_embeddings: if tie_word_embeddings { 0 } else { 2 },
        run_embedding: (!tie_word_embeddings).then(|| RunEmbedding {
            kinds: vec![[2, 7], [9, 16]],
            n_places: 3,
        }),
        tie_word_embeddings,
        bos_token_id: Some(0),
        eos_token_id: vec![1],
    }
}

/// [`Model::init`] made lively: weights so large that a wrong mask or angle
/// shows, and norms that differ from one another.
pub(crate) fn lively_model(config: Config, seed: u64) -> Model {
    let mut model = Model::init(config, seed);
    let mut noise = Noise(seed);
    for tensor in model.layout.clone().tensors() {
        let values = &mut model.params[tensor.range()];
        match tensor.shape.as_slice() {
            [_, inputs] => {
                let scale = 2.0 / (*inputs as f32).sqrt();
                values.fill_with(|| scale * noise.next());
            }
            _ => values.fill_with(|| 1.0 + 0.3 * noise.next()),
        }
    }
    model
}

/// Uniform in `[-1, 1)`: a linear congruential generator, enough for tests.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> f32 {
        self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        self.0 = (self.0)
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(limit)) as u32
    }
}

/// A row that owns its parts.
pub(crate) struct OwnedRow {
    pub(crate) ids: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    pub(crate) spans: Vec<Span>,
    pub(crate) targets: Vec<Target>,
}

impl OwnedRow {
    pub(crate) fn view(&self) -> cwm_model::Row<'_> {
        cwm_model::Row {
            ids: &self.ids,
            positions: &self.positions,
            spans: &self.spans,
            targets: &self.targets,
        }
    }
}

/// Two groups side by side. In the first, a prefix of five tokens is shared by
/// two continuations that do not see each other and start at the same
/// position; the second is an ordinary document. Targets skip tokens, repeat a
/// row, and weigh differently.
pub(crate) fn prefix_row(vocab_size: u32, seed: u64) -> OwnedRow {
    let mut noise = Noise(seed);
    let span = |prefix_start, prefix_end, start| Span {
        prefix_start,
        prefix_end,
        start,
    };
    let mut spans = vec![span(0, 0, 0); 5];
    let mut positions: Vec<u32> = (0..5).collect();
    spans.extend([span(0, 5, 5); 6]);
    positions.extend(5..11);
    spans.extend([span(0, 5, 11); 4]);
    positions.extend(5..9);
    spans.extend([span(15, 15, 15); 7]);
    positions.extend(0..7);
    let ids: Vec<u32> = spans.iter().map(|_| noise.below(vocab_size)).collect();
    let targets = [4_u32, 4, 6, 7, 9, 10, 11, 12, 14, 16, 18, 19, 21]
        .iter()
        .enumerate()
        .map(|(index, &row)| Target {
            row,
            id: noise.below(vocab_size),
            weight: 0.25 + 0.25 * (index % 4) as f32,
        })
        .collect();
    OwnedRow {
        ids,
        positions,
        spans,
        targets,
    }
}

pub(crate) fn max_abs_diff(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    // `f32::max` would pass over a NaN.
    differences.fold(0.0, |most, d| if d > most || d.is_nan() { d } else { most })
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        (a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b))).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
