//! Agreement with Hugging Face's `CwmForCausalLM` in f32 on two small random
//! models: logits, every hidden state, RoPE frequencies, greedy decoding,
//! packed documents, gradients, and parameters after three AdamW steps.
//!
//! The fixtures lie outside the repository; without them these tests say so
//! and pass, and `gradients.rs` still holds the passes to the definition.

mod common;

use std::path::Path;

use common::{cosine, max_abs_diff};
use cwm_model::{Model, Row, Target, Workspace, causal_spans, packed_spans};
use safetensors::SafeTensors;

struct Fixture {
    name: &'static str,
    model: Model,
    expected: Vec<u8>,
}

/// The fixtures, or nothing and a note.
fn fixtures() -> Vec<Fixture> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/fixtures");
    let mut found = Vec::new();
    for name in ["cwm_tiny_a", "cwm_tiny_b"] {
        let dir = Path::new(root).join(name);
        if !dir.exists() {
            println!("skipped: fixture {name} is not beside this checkout");
            continue;
        }
        let model = Model::load(&dir).expect("the fixture loads");
        let expected = std::fs::read(dir.join("expected.safetensors")).expect("readable");
        found.push(Fixture {
            name,
            model,
            expected,
        });
    }
    found
}

impl Fixture {
    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.expected).expect("well formed")
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensors = self.tensors();
        let view = tensors.tensor(name).expect("the fixture has it");
        let (values, _) = view.data().as_chunks();
        values
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let tensors = self.tensors();
        let view = tensors.tensor(name).expect("the fixture has it");
        let (values, _) = view.data().as_chunks();
        let ids = values.iter().map(|&bytes| i64::from_le_bytes(bytes));
        ids.map(|id| u32::try_from(id).expect("an id")).collect()
    }

    fn compare(&self, what: &str, found: &[f32], tolerance: f32) {
        let difference = max_abs_diff(found, &self.floats(what));
        println!("{} {what}: max abs diff {difference:e}", self.name);
        assert!(
            difference <= tolerance,
            "{} {what}: {difference}",
            self.name
        );
    }
}

#[test]
fn rope_frequencies() {
    for fixture in fixtures() {
        let expected = fixture.floats("inv_freq");
        let found = fixture.model.config.inv_freq();
        let relative = found
            .iter()
            .zip(&expected)
            .map(|(f, e)| ((f - e) / e).abs());
        let worst = relative.fold(0.0, f32::max);
        println!("{} inv_freq: max relative diff {worst:e}", fixture.name);
        assert_eq!(found.len(), expected.len());
        assert!(worst <= 2e-7, "{worst}");
    }
}

#[test]
fn logits_and_hidden_states() {
    for fixture in fixtures() {
        let ids = fixture.ids("input_ids");
        let logits = fixture.model.logits(&ids).expect("valid ids");
        fixture.compare("logits", &logits, 1e-4);
        let states = fixture.model.hidden_states(&ids).expect("valid ids");
        assert_eq!(states.len(), fixture.model.config.n_layers + 1);
        for (index, state) in states.iter().enumerate() {
            fixture.compare(&format!("hidden.{index}"), state, 1e-4);
        }
    }
}

#[test]
fn greedy_continuation() {
    for fixture in fixtures() {
        // The fixture generated with padding id 0, and `generate` masks every
        // prompt token equal to it. In one fixture 0 is also the id that opens
        // the prompt, so there the reference never saw its first token.
        let all = fixture.ids("greedy_ids");
        let masked = usize::from(all[0] == 0);
        let expected = &all[masked..];
        let mut ids = expected[..40 - masked].to_vec();
        while ids.len() < expected.len() {
            let logits = fixture.model.logits(&ids).expect("valid ids");
            let last = &logits[logits.len() - fixture.model.config.vocab_size..];
            let best = (0..last.len()).max_by(|&a, &b| last[a].total_cmp(&last[b]));
            ids.push(best.expect("a vocabulary") as u32);
        }
        assert_eq!(ids, expected, "{}", fixture.name);
        println!("{}: 32 greedy ids equal", fixture.name);
    }
}

#[test]
fn packed_documents() {
    for fixture in fixtures() {
        let ids = fixture.ids("input_ids");
        let (positions, spans) = packed_spans(&[37, 63]);
        assert_eq!(positions, fixture.ids("packed.position_ids"));
        let model = &fixture.model;
        let packed = model
            .forward(&ids, &positions, &spans, &mut Workspace::new())
            .expect("a valid row");
        fixture.compare("packed.logits", &packed, 1e-4);
        let mut apart = model.logits(&ids[..37]).expect("valid ids");
        apart.extend(model.logits(&ids[37..]).expect("valid ids"));
        let difference = max_abs_diff(&packed, &apart);
        println!("{} packed against separate: {difference:e}", fixture.name);
        assert!(difference <= 1e-5, "{difference}");
    }
}

#[test]
fn training() {
    for fixture in fixtures() {
        let mut model = fixture.model.clone();
        let ids = fixture.ids("input_ids");
        let (positions, spans) = packed_spans(&[ids.len()]);
        assert_eq!(spans, causal_spans(ids.len()));
        let targets: Vec<Target> = (ids[1..].iter().zip(0..))
            .map(|(&id, row)| Target {
                row,
                id,
                weight: 1.0,
            })
            .collect();
        let row = Row {
            ids: &ids,
            positions: &positions,
            spans: &spans,
            targets: &targets,
        };
        let scale = 1.0 / targets.len() as f32;
        let settings = cwm_kernels::AdamW {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
        };
        let total = model.layout.total();
        let (mut first, mut second) = (vec![0.0; total], vec![0.0; total]);
        let mut workspace = Workspace::new();
        for step in 0..3 {
            let mut grads = vec![0.0; total];
            let loss = model
                .forward_backward(&row, scale, &mut grads, &mut workspace)
                .expect("a valid row");
            let mean = (loss.loss_sum / loss.weight_sum) as f32;
            fixture.compare(&format!("train.loss{step}"), &[mean], 2e-5);
            if step == 0 {
                check_gradients(&fixture, &model, &grads);
            }
            cwm_kernels::adamw(
                &mut model.params,
                &mut first,
                &mut second,
                &grads,
                &settings,
                step + 1,
                1.0,
            );
        }
        for tensor in model.layout.tensors() {
            let name = format!("train.param.{}", tensor.name);
            if fixture.tensors().tensor(&name).is_ok() {
                // A step moves a weight by at most about lr, in the direction
                // of a gradient's sign: where a gradient is all rounding
                // error, so is its sign.
                let found = &model.params[tensor.range()];
                let expected = fixture.floats(&name);
                let likeness = cosine(found, &expected);
                let far = (found.iter().zip(&expected))
                    .filter(|(f, e)| (*f - *e).abs() > 2e-5)
                    .count();
                println!(
                    "{} {name}: cosine {likeness}, {far} of {} differ by more than 2e-5",
                    fixture.name, tensor.len
                );
                fixture.compare(&name, found, 6e-3);
                assert!(likeness > 0.999_999, "{name}: {likeness}");
                assert!(far * 1000 <= tensor.len, "{name}: {far}");
            }
        }
    }
}

fn check_gradients(fixture: &Fixture, model: &Model, grads: &[f32]) {
    let norm = cwm_kernels::sum_of_squares(grads).sqrt() as f32;
    fixture.compare("train.gnorm0", &[norm], 1e-4);
    let mut compared = 0;
    for tensor in model.layout.tensors() {
        let name = format!("train.grad.{}", tensor.name);
        if fixture.tensors().tensor(&name).is_ok() {
            let (found, expected) = (&grads[tensor.range()], fixture.floats(&name));
            let likeness = cosine(found, &expected);
            println!("{} {name}: cosine {likeness:.9}", fixture.name);
            assert!(likeness >= 0.9999, "{name}: {likeness}");
            fixture.compare(&name, found, 1e-5);
            compared += 1;
        }
    }
    assert_eq!(compared, 21, "embeddings, two layers, final norm, head");
}

/// Saving and loading again keeps F32 exact and the others close, and the
/// written config means the same model.
#[test]
fn round_trip_of_every_type() {
    use cwm_model::Dtype;
    for fixture in fixtures() {
        let ids = fixture.ids("input_ids");
        let exact = fixture.model.logits(&ids).expect("valid ids");
        for (dtype, least) in [
            (Dtype::F32, 1.0),
            (Dtype::Bf16, 0.999),
            (Dtype::Int8Group32, 0.99),
        ] {
            let dir = tempfile::tempdir().expect("a temporary folder");
            fixture.model.save(dir.path(), dtype).expect("saves");
            let again = Model::load(dir.path()).expect("loads");
            assert_eq!(again.config, fixture.model.config);
            let logits = again.logits(&ids).expect("valid ids");
            let (difference, likeness) = (max_abs_diff(&logits, &exact), cosine(&logits, &exact));
            println!(
                "{} {dtype:?}: logits differ by {difference:e}, cosine {likeness:.6}",
                fixture.name
            );
            assert!(likeness >= least - 1e-12, "{dtype:?}: {likeness}");
            assert!(dtype != Dtype::F32 || again.params == fixture.model.params);
        }
    }
}
