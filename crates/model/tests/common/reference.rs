//! The transformer written straight from its definition, in f64, one query,
//! head and key at a time. Slow; its only merit is that it can be checked by
//! reading. Finite differences of it give gradients good to eight digits.

use cwm_model::{Config, LayerType, Model, Row, Span};

/// Logits `[T][vocab]`.
pub(crate) fn logits(
    model: &Model,
    params: &[f64],
    ids: &[u32],
    positions: &[u32],
    spans: &[Span],
) -> Vec<Vec<f64>> {
    let weights = Weights { model, params };
    let config = &model.config;
    let embedding = weights.named("model.embed_tokens");
    let frequencies = config.inv_freq();
    let mut stream: Vec<Vec<f64>> = ids
        .iter()
        .map(|&id| matrix_row(embedding, config.hidden_size, id as usize).to_vec())
        .collect();
    for (token, stream) in stream.iter_mut().enumerate() {
        let mut earlier = token;
        for distance in 1..=config.n_previous_embeddings {
            // The last token seen before this one, in its own document or at
            // the end of its prefix.
            let span = &spans[earlier];
            let own = span.start as usize..earlier;
            let prefix = span.prefix_start as usize..span.prefix_end as usize;
            let Some(before) = prefix.chain(own).last() else {
                break;
            };
            earlier = before;
            let table = weights.named(&format!("model.embed_previous.{distance}"));
            let id = ids[earlier] as usize;
            add(stream, matrix_row(table, config.hidden_size, id));
        }
    }
    if let Some(runs) = &config.run_embedding {
        let table = weights.named("model.embed_run");
        for (token, stream) in stream.iter_mut().enumerate() {
            let span = &spans[token];
            let prefix = span.prefix_start as usize..span.prefix_end as usize;
            let text: Vec<u32> = prefix
                .chain(span.start as usize..token + 1)
                .map(|token| ids[token])
                .collect();
            let in_kind = |[first, last]: &[u32; 2], id: u32| *first <= id && id <= *last;
            let Some(kind) = (runs.kinds.iter()).find(|kind| in_kind(kind, ids[token])) else {
                continue;
            };
            let run = (text.iter().rev()).take_while(|&&id| in_kind(kind, id));
            let place = (run.count() - 1).min(runs.n_places - 1);
            add(stream, matrix_row(table, config.hidden_size, place));
        }
    }
    for layer in 0..config.n_layers {
        let part = |name: &str| weights.named(&format!("model.layers.{layer}.{name}"));
        let normed = norm_all(config, &stream, part("input_layernorm"));
        let heads = |name: &str| -> Vec<Vec<f64>> {
            normed.iter().map(|x| multiply(part(name), x)).collect()
        };
        let (mut q, mut k, v) = (
            heads("self_attn.q_proj"),
            heads("self_attn.k_proj"),
            heads("self_attn.v_proj"),
        );
        for (token, &position) in positions.iter().enumerate() {
            rotate(&frequencies, &mut q[token], position);
            rotate(&frequencies, &mut k[token], position);
        }
        for query in 0..ids.len() {
            let keys: Vec<usize> = (0..ids.len())
                .filter(|&key| sees(config, layer, spans, positions, query, key))
                .collect();
            let attended = attend(config, &q[query], &k, &v, &keys);
            add(
                &mut stream[query],
                &multiply(part("self_attn.o_proj"), &attended),
            );
        }
        let normed = norm_all(config, &stream, part("post_attention_layernorm"));
        for (stream, x) in stream.iter_mut().zip(&normed) {
            let gate = multiply(part("mlp.gate_proj"), x);
            let up = multiply(part("mlp.up_proj"), x);
            let product: Vec<f64> = gate
                .iter()
                .zip(&up)
                .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                .collect();
            add(stream, &multiply(part("mlp.down_proj"), &product));
        }
    }
    let head = match config.tie_word_embeddings {
        true => embedding,
        false => weights.named("lm_head"),
    };
    norm_all(config, &stream, weights.named("model.norm"))
        .iter()
        .map(|x| multiply(head, x))
        .collect()
}

/// `sum(weight * cross-entropy)` of a row's targets.
pub(crate) fn loss(model: &Model, params: &[f64], row: &Row<'_>) -> f64 {
    let logits = logits(model, params, row.ids, row.positions, row.spans);
    let cost = |target: &cwm_model::Target| {
        let logits = &logits[target.row as usize];
        let total: f64 = logits.iter().map(|l| l.exp()).sum();
        f64::from(target.weight) * (total.ln() - logits[target.id as usize])
    };
    row.targets.iter().map(cost).sum()
}

struct Weights<'a> {
    model: &'a Model,
    params: &'a [f64],
}

impl<'a> Weights<'a> {
    fn named(&self, name: &str) -> &'a [f64] {
        let name = format!("{name}.weight");
        let tensor = self.model.layout.tensor(&name);
        &self.params[tensor.expect("the layout has Hugging Face's names").range()]
    }
}

fn matrix_row(matrix: &[f64], cols: usize, row: usize) -> &[f64] {
    &matrix[row * cols..(row + 1) * cols]
}

fn multiply(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    matrix
        .chunks_exact(x.len())
        .map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum())
        .collect()
}

fn add(to: &mut [f64], from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

fn norm_all(config: &Config, rows: &[Vec<f64>], weight: &[f64]) -> Vec<Vec<f64>> {
    let norm = |x: &Vec<f64>| {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let root = (mean + f64::from(config.rms_norm_eps)).sqrt();
        x.iter().zip(weight).map(|(x, w)| x / root * w).collect()
    };
    rows.iter().map(norm).collect()
}

/// Pairs `(j, j + head_dim / 2)` turn by `position * frequency_j`.
fn rotate(frequencies: &[f32], x: &mut [f64], position: u32) {
    let half = frequencies.len();
    for head in x.chunks_exact_mut(2 * half) {
        for (pair, frequency) in frequencies.iter().enumerate() {
            // The angle is f32 by definition, see `RopeTable`.
            let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
            let (a, b) = (head[pair], head[pair + half]);
            head[pair] = a * cos - b * sin;
            head[pair + half] = b * cos + a * sin;
        }
    }
}

fn sees(
    config: &Config,
    layer: usize,
    spans: &[Span],
    positions: &[u32],
    query: usize,
    key: usize,
) -> bool {
    let span = spans[query];
    let key_index = key as u32;
    let in_prefix = span.prefix_start <= key_index && key_index < span.prefix_end;
    let in_document = span.start <= key_index && key <= query;
    let near =
        i64::from(positions[query]) - i64::from(positions[key]) < config.sliding_window as i64;
    (in_prefix || in_document) && (config.layer_types[layer] == LayerType::Full || near)
}

fn attend(config: &Config, q: &[f64], k: &[Vec<f64>], v: &[Vec<f64>], keys: &[usize]) -> Vec<f64> {
    let width = config.head_dim;
    let mut out = Vec::new();
    for (head, q) in q.chunks_exact(width).enumerate() {
        let shared = head / (config.n_heads / config.n_kv_heads);
        let score = |&key: &usize| {
            let products = q.iter().zip(matrix_row(&k[key], width, shared));
            (products.map(|(q, k)| q * k).sum::<f64>() / (width as f64).sqrt()).exp()
        };
        let scores: Vec<f64> = keys.iter().map(score).collect();
        let total: f64 = scores.iter().sum();
        let mut mixed = vec![0.0; width];
        for (&key, score) in keys.iter().zip(&scores) {
            for (mixed, v) in mixed.iter_mut().zip(matrix_row(&v[key], width, shared)) {
                *mixed += score / total * v;
            }
        }
        out.extend(mixed);
    }
    out
}
