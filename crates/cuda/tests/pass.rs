//! Whole passes on the emulated device beside the processor's: losses, gradients, packing, memory saved.

mod support;

use cwm_cuda::{Gpu, Keep, Network, PackedRow, Workspace};
use cwm_model::{
    Config, LayerType, Model, Outcome, Rope, Row, RunEmbedding, Span, Target, Workspace as OnHost,
};
use support::{Random, alignment, open};

fn config(kind: usize) -> Config {
    let plain = Config {
        vocab_size: 50,
        hidden_size: 48,
        intermediate_size: 56,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 16,
        layer_types: vec![LayerType::Full, LayerType::Sliding],
        sliding_window: 9,
        rms_norm_eps: 1e-5,
        rope: Rope {
            theta: 10_000.0,
            scaling: None,
        },
        max_position_embeddings: 4096,
        n_previous_embeddings: 0,
        run_embedding: None,
        tie_word_embeddings: false,
        bos_token_id: None,
        eos_token_id: Vec::new(),
    };
    match kind {
        0 => plain,
        _ => Config {
            vocab_size: 37,
            hidden_size: 64,
            n_heads: 4,
            n_kv_heads: 2,
            n_layers: 3,
            layer_types: vec![LayerType::Full; 3],
            n_previous_embeddings: 2,
            run_embedding: Some(RunEmbedding {
                kinds: vec![[3, 9], [20, 30]],
                n_places: 4,
            }),
            tie_word_embeddings: true,
            ..plain
        },
    }
}

/// An owned row.
struct Text {
    ids: Vec<u32>,
    positions: Vec<u32>,
    spans: Vec<Span>,
    targets: Vec<Target>,
}

impl Text {
    /// A document of `n` tokens of which the last third sees only the first third and itself; some tokens
    /// are targets, one of them twice.
    fn new(config: &Config, n: u32, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut id = || (random.next() % config.vocab_size as u64) as u32;
        let third = n / 3;
        let span = |row: u32| match row >= n - third && third > 0 {
            true => Span {
                prefix_start: 0,
                prefix_end: third,
                start: n - third,
            },
            false => Span::causal_from(0),
        };
        let mut targets: Vec<Target> = (0..n)
            .step_by(2)
            .map(|row| Target {
                row,
                id: id(),
                weight: 0.5 + (row % 3) as f32,
            })
            .collect();
        targets.push(Target {
            row: 0,
            id: id(),
            weight: 1.0,
        });
        Self {
            ids: (0..n).map(|_| id()).collect(),
            positions: (0..n).collect(),
            spans: (0..n).map(span).collect(),
            targets,
        }
    }

    fn row(&self) -> Row<'_> {
        Row {
            ids: &self.ids,
            positions: &self.positions,
            spans: &self.spans,
            targets: &self.targets,
        }
    }
}

/// A model whose layers do something, and whose norms are not all 1.
fn model(kind: usize) -> Model {
    let mut model = Model::init(config(kind), 11);
    let mut random = Random::new(3);
    for tensor in model.layout.tensors() {
        let factor = if tensor.is_matrix() { 4.0 } else { 1.0 };
        for x in &mut model.params[tensor.range()] {
            *x = *x * factor + random.float(0.02);
        }
    }
    model
}

fn on_device(
    gpu: &Gpu,
    model: &Model,
    rows: &[Row<'_>],
    keep: Keep,
    tokens: usize,
) -> (Vec<Outcome>, Vec<f32>) {
    let run = || {
        let mut network = Network::new(gpu, model)?;
        let mut workspace = Workspace::new(gpu, &model.config, tokens, keep)?;
        let packed = PackedRow::new(&model.config, &model.layout, rows).expect("rows that fit");
        let mut grads = gpu.zeros(model.params.len())?;
        let outcomes = network.forward_backward(&packed, 0.25, &mut grads, &mut workspace)?;
        Ok::<_, cwm_cuda::Error>((outcomes, grads.read(grads.len())?))
    };
    run().expect("the device works")
}

#[test]
fn losses_and_gradients_are_the_processors() {
    let Some(gpu) = open() else { return };
    for kind in 0..2 {
        let model = model(kind);
        let texts = [(70, 1), (1, 2), (33, 3)].map(|(n, seed)| Text::new(&model.config, n, seed));
        let rows = texts.each_ref().map(Text::row);
        let mut grads = vec![0.0; model.params.len()];
        let (mut workspace, mut wanted) = (OnHost::new(), Vec::new());
        for row in &rows {
            let loss = model.forward_backward(row, 0.25, &mut grads, &mut workspace);
            loss.expect("rows that fit");
            wanted.extend_from_slice(workspace.outcomes());
        }
        let (outcomes, found) = on_device(&gpu, &model, &rows, Keep::Everything, 128);
        assert_eq!(outcomes.len(), wanted.len());
        for (found, wanted) in outcomes.iter().zip(&wanted) {
            // Operands are rounded to 8 bits in every product.
            let error = (found.loss - wanted.loss).abs();
            assert!(
                error < 0.05 * (1.0 + wanted.loss.abs()),
                "{found:?}, wanted {wanted:?}"
            );
        }
        for tensor in model.layout.tensors() {
            let (cosine, ratio) = alignment(&found[tensor.range()], &grads[tensor.range()]);
            let is_close = cosine > 0.999 && (ratio - 1.0).abs() < 0.02;
            assert!(
                is_close,
                "kind {kind}: {}: cosine {cosine}, length {ratio}",
                tensor.name
            );
        }
    }
}

#[test]
fn what_is_computed_again_has_the_same_bits() {
    let Some(gpu) = open() else { return };
    let model = model(0);
    let texts = [(40, 1), (20, 2)].map(|(n, seed)| Text::new(&model.config, n, seed));
    let rows = texts.each_ref().map(Text::row);
    let kept = on_device(&gpu, &model, &rows, Keep::Everything, 64);
    assert_eq!(on_device(&gpu, &model, &rows, Keep::Inputs, 64), kept);
    // A workspace that has to grow changes nothing.
    assert_eq!(on_device(&gpu, &model, &rows, Keep::Everything, 8), kept);
}

#[test]
fn rows_in_one_pass_come_out_as_they_do_alone() {
    let Some(gpu) = open() else { return };
    let model = model(1);
    let texts = [(70, 1), (5, 2), (33, 3)].map(|(n, seed)| Text::new(&model.config, n, seed));
    let mut network = Network::new(&gpu, &model).expect("a shape with kernels");
    let mut workspace = Workspace::new(&gpu, &model.config, 64, Keep::Last).expect("memory");
    let mut outcomes = |rows: &[Row<'_>]| {
        let packed = PackedRow::new(&model.config, &model.layout, rows).expect("rows that fit");
        network
            .outcomes(&packed, &mut workspace)
            .expect("the device works")
    };
    let alone: Vec<Outcome> = texts
        .iter()
        .flat_map(|text| outcomes(&[text.row()]))
        .collect();
    let together = outcomes(&texts.each_ref().map(Text::row));
    assert_eq!(together.len(), alone.len());
    for (together, alone) in together.iter().zip(&alone) {
        assert!(
            (together.loss - alone.loss).abs() < 0.02 * (1.0 + alone.loss),
            "{together:?} {alone:?}"
        );
    }
}

#[test]
fn a_row_that_does_not_fit_is_named() {
    let model = model(0);
    let good = Text::new(&model.config, 5, 1);
    let bad = Text {
        ids: vec![1, 2, 99, 4, 5],
        ..Text::new(&model.config, 5, 1)
    };
    let packed = PackedRow::new(&model.config, &model.layout, &[good.row(), bad.row()]);
    let (index, error) = packed.expect_err("99 is outside the vocabulary");
    assert_eq!(index, 1);
    assert!(error.to_string().contains("99"), "{error}");
}
