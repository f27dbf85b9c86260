//! The fast passes against a slow f64 transformer written from the definition:
//! logits of every row, the loss, and every single gradient by finite
//! differences, on a row with a shared prefix, two documents and sliding
//! layers.

mod common;

use common::{OwnedRow, cosine, lively_model, max_abs_diff, prefix_row, reference, tiny_config};
use cwm_kernels::Precision;
use cwm_model::{Model, Target, Workspace};

fn case(tie: bool) -> (Model, OwnedRow) {
    let model = lively_model(tiny_config(tie), 11);
    let row = prefix_row(model.config.vocab_size as u32, 5);
    (model, row)
}

fn in_f64(params: &[f32]) -> Vec<f64> {
    params.iter().map(|&value| f64::from(value)).collect()
}

#[test]
fn logits_agree_with_the_definition() {
    let (model, row) = case(false);
    let params = in_f64(&model.params);
    let slow = reference::logits(&model, &params, &row.ids, &row.positions, &row.spans);
    let slow: Vec<f32> = slow.iter().flatten().map(|&l| l as f32).collect();
    let fast = model
        .forward(&row.ids, &row.positions, &row.spans, &mut Workspace::new())
        .expect("the row is well formed");
    let difference = max_abs_diff(&slow, &fast);
    println!("max abs diff {difference:e}");
    assert!(difference < 2e-5, "{difference}");
}

#[test]
fn gradients_agree_with_finite_differences_of_the_definition() {
    for tie in [false, true] {
        let (model, row) = case(tie);
        let scale = 0.5;
        let mut grads = vec![0.0; model.params.len()];
        let loss = model
            .forward_backward(&row.view(), scale, &mut grads, &mut Workspace::new())
            .expect("the row is well formed");

        let mut params = in_f64(&model.params);
        let slow = reference::loss(&model, &params, &row.view());
        assert!(
            (loss.loss_sum - slow).abs() < 1e-4,
            "{} {slow}",
            loss.loss_sum
        );
        let weights: f64 = row.targets.iter().map(|t| f64::from(t.weight)).sum();
        assert_eq!(loss.weight_sum, weights);
        assert_eq!(loss.n_targets, row.targets.len());

        let step = 1e-5;
        let mut slope = |index: usize| {
            let value = params[index];
            let mut at = |moved: f64| {
                params[index] = moved;
                reference::loss(&model, &params, &row.view())
            };
            let slope = (at(value + step) - at(value - step)) / (2.0 * step);
            params[index] = value;
            (f64::from(scale) * slope) as f32
        };
        for tensor in model.layout.tensors() {
            // Tying changes the embedding's gradient only.
            if tie && !tensor.name.contains("embed") {
                continue;
            }
            let expected: Vec<f32> = tensor.range().map(&mut slope).collect();
            let found = &grads[tensor.range()];
            let difference = max_abs_diff(&expected, found);
            let likeness = cosine(&expected, found);
            println!(
                "tie={tie} {:50} diff {difference:e} cosine {likeness}",
                tensor.name
            );
            assert!(difference < 2e-4, "{}: {difference}", tensor.name);
            assert!(likeness > 0.999_999, "{}: {likeness}", tensor.name);
        }
    }
}

/// A model and a row large enough that processors which have products in bf16 use them, for the
/// layers, the head and attention. Each tensor's gradient is held against the slope of the loss in
/// its own direction: of bf16, with 8 bits of mantissa, through all layers, half a percent is asked, of
/// f32 the precision of f32.
#[test]
fn large_products_have_the_slopes_that_their_gradients_say() {
    let mut config = tiny_config(false);
    (config.vocab_size, config.max_position_embeddings) = (200, 256);
    (config.hidden_size, config.intermediate_size) = (64, 128);
    (config.n_heads, config.n_kv_heads, config.head_dim) = (2, 1, 32);
    config.sliding_window = 50;
    let mut model = lively_model(config, 3);
    model.params.iter_mut().for_each(|value| *value *= 0.7);
    let mut noise = common::Noise(8);
    let ids: Vec<u32> = (0..130).map(|_| noise.below(200)).collect();
    let target = |row: u32| Target {
        row,
        id: noise.below(200),
        weight: 1.0,
    };
    let row = OwnedRow {
        positions: long_positions(130),
        spans: cwm_model::causal_spans(130),
        targets: (0..130).map(target).collect(),
        ids,
    };
    check_slopes(&model, &row, Precision::F32, (1e-7, 1e-5));
    check_slopes(&model, &row, Precision::Bf16, (2e-4, 5e-3));
}

/// Holds loss and gradients of a pass in `precision` to the definition in f64, within these
/// relative tolerances.
fn check_slopes(
    model: &Model,
    row: &OwnedRow,
    precision: Precision,
    (loss_tolerance, tolerance): (f64, f64),
) {
    let mut grads = vec![0.0; model.params.len()];
    let mut workspace = Workspace::in_precision(precision);
    let loss = model
        .forward_backward(&row.view(), 1.0, &mut grads, &mut workspace)
        .expect("the row is well formed");
    let params = in_f64(&model.params);
    let slow = reference::loss(model, &params, &row.view());
    let error = (loss.loss_sum - slow).abs() / slow;
    println!("loss {} {slow}: {error:e}", loss.loss_sum);
    assert!(error < loss_tolerance, "{} {slow}", loss.loss_sum);
    for tensor in model.layout.tensors() {
        let gradient = in_f64(&grads[tensor.range()]);
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let at = |step: f64| {
            let mut params = params.clone();
            let moved = params[tensor.range()].iter_mut().zip(&gradient);
            moved.for_each(|(value, g)| *value += step * g / norm);
            reference::loss(model, &params, &row.view())
        };
        let slope = (at(1e-4) - at(-1e-4)) / 2e-4;
        let error = (slope - norm).abs() / norm;
        println!("{:50} {error:e}", tensor.name);
        assert!(error < tolerance, "{}: {slope} {norm}", tensor.name);
    }
}

#[test]
fn forward_backward_adds_and_repeats_to_the_bit() {
    let (model, row) = case(false);
    let mut workspace = Workspace::new();
    let mut once = vec![0.0; model.params.len()];
    let first = model.forward_backward(&row.view(), 0.1, &mut once, &mut workspace);
    let first = first.expect("the row is well formed");

    // A longer row in between leaves its traces in every buffer.
    let long: Vec<u32> = (0..40).map(|i| i % 19).collect();
    let spans = cwm_model::causal_spans(40);
    model
        .forward(&long, &long_positions(40), &spans, &mut workspace)
        .expect("the row is well formed");

    let mut again = vec![0.0; model.params.len()];
    let second = model.forward_backward(&row.view(), 0.1, &mut again, &mut workspace);
    assert_eq!(first, second.expect("the row is well formed"));
    assert_eq!(once, again);

    let forward_only = model.loss(&row.view(), &mut workspace);
    assert_eq!(first, forward_only.expect("the row is well formed"));

    let mut from_one = vec![1.0; model.params.len()];
    model
        .forward_backward(&row.view(), 0.1, &mut from_one, &mut workspace)
        .expect("the row is well formed");
    let expected: Vec<f32> = once.iter().map(|g| 1.0 + g).collect();
    assert!(max_abs_diff(&expected, &from_one) < 1e-5);
}

#[test]
fn computing_activations_again_changes_no_bit_and_takes_less_memory() {
    let (model, row) = case(false);
    let pass = |mut workspace: Workspace| {
        let mut grads = vec![0.0; model.params.len()];
        let mut loss = Default::default();
        // Twice, so that buffers which were used before are met too.
        for _ in 0..2 {
            grads.fill(0.0);
            loss = model
                .forward_backward(&row.view(), 0.5, &mut grads, &mut workspace)
                .expect("the row is well formed");
        }
        let bits: Vec<u32> = grads.iter().map(|g| g.to_bits()).collect();
        (loss, bits, workspace.outcomes().to_vec())
    };
    let kept = pass(Workspace::new());
    assert_eq!(kept, pass(Workspace::new().recomputing(true)));

    let (loss, _, outcomes) = kept;
    let sum: f64 = outcomes.iter().map(|outcome| outcome.loss).sum();
    assert_eq!(outcomes.len(), row.targets.len());
    assert!(
        (sum - loss.loss_sum).abs() < 1e-9,
        "{sum} {}",
        loss.loss_sum
    );
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.correct).count(),
        loss.correct
    );

    let mut config = tiny_config(false);
    config.n_layers = 12;
    config.layer_types = vec![cwm_model::LayerType::Full; 12];
    let bytes = |mut workspace: Workspace| {
        workspace.reserve_training(&config, 512);
        workspace.bytes()
    };
    let (all, inputs) = (
        bytes(Workspace::new()),
        bytes(Workspace::new().recomputing(true)),
    );
    assert!(inputs * 2 < all, "{inputs} of {all}");
}

fn long_positions(n: u32) -> Vec<u32> {
    (0..n).collect()
}

/// More targets than one chunk of the head: chunking must not show.
#[test]
fn many_targets_equal_the_sum_of_their_parts() {
    let (model, row) = case(false);
    let target = |index: u32| Target {
        row: index % row.ids.len() as u32,
        id: index % 19,
        weight: 1.0,
    };
    let all: Vec<Target> = (0..700).map(target).collect();
    let mut workspace = Workspace::new();
    let mut run = |targets: &[Target], grads: &mut [f32]| {
        let row = cwm_model::Row {
            targets,
            ..row.view()
        };
        let loss = model.forward_backward(&row, 1e-2, grads, &mut workspace);
        loss.expect("the row is well formed")
    };
    let mut whole = vec![0.0; model.params.len()];
    let mut parts = whole.clone();
    let together = run(&all, &mut whole);
    let apart = [run(&all[..77], &mut parts), run(&all[77..], &mut parts)];
    let sum: f64 = apart.iter().map(|loss| loss.loss_sum).sum();
    assert!((together.loss_sum - sum).abs() < 1e-3);
    assert_eq!(together.n_targets, 700);
    assert_eq!(together.correct, apart[0].correct + apart[1].correct);
    assert!(max_abs_diff(&whole, &parts) < 1e-4);
}

/// A continuation of a shared prefix computes what it would alone.
#[test]
fn prefix_sharing_equals_separate_runs() {
    let (model, row) = case(false);
    let vocab = model.config.vocab_size;
    let logits = model
        .forward(&row.ids, &row.positions, &row.spans, &mut Workspace::new())
        .expect("the row is well formed");
    for own in [5..11, 11..15] {
        let alone: Vec<u32> = (row.ids[..5].iter())
            .chain(&row.ids[own.clone()])
            .copied()
            .collect();
        let alone = model.logits(&alone).expect("the ids are in the vocabulary");
        let shared = &logits[own.start * vocab..own.end * vocab];
        assert!(max_abs_diff(&alone[5 * vocab..], shared) < 1e-5);
    }
    let alone = model
        .logits(&row.ids[15..])
        .expect("the ids are in the vocabulary");
    assert!(max_abs_diff(&alone, &logits[15 * vocab..]) < 1e-5);
}

/// What one thread holds while training: a 20M-parameter model at 1,024
/// tokens, and nothing more once reserved.
#[test]
fn training_memory_is_bounded_and_reserved_once() {
    let mut config = tiny_config(false);
    (
        config.vocab_size,
        config.hidden_size,
        config.intermediate_size,
    ) = (1024, 384, 1024);
    (
        config.n_layers,
        config.n_heads,
        config.n_kv_heads,
        config.head_dim,
    ) = (12, 6, 2, 64);
    config.layer_types = vec![cwm_model::LayerType::Full; 12];
    let mut workspace = Workspace::new();
    workspace.reserve_training(&config, 1024);
    let bytes = workspace.bytes();
    println!("{} parameters: {} MB", config.n_params(), bytes / 1_000_000);
    assert!((18_000_000..22_000_000).contains(&config.n_params()));
    assert!(bytes < 300_000_000, "{bytes}");

    let (model, row) = case(false);
    let mut workspace = Workspace::new();
    let mut grads = vec![0.0; model.params.len()];
    let mut bytes_after = || {
        let loss = model.forward_backward(&row.view(), 1.0, &mut grads, &mut workspace);
        loss.expect("the row is well formed");
        workspace.bytes()
    };
    assert_eq!(bytes_after(), bytes_after());
}
