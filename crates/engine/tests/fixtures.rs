//! Parity with `transformers`: logits and greedy continuations of the tiny CWM fixtures, through
//! sessions.

use std::path::PathBuf;

use cwm_engine::{Engine, Mask, Options, Session, Want, greedy};
use cwm_model::{Checkpoint, Model};
use safetensors::SafeTensors;

/// The folder of a fixture, or `None` (said aloud) where the shared data is not mounted.
fn fixture(name: &str) -> Option<PathBuf> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/fixtures");
    let dir = PathBuf::from(root).join(name);
    if !dir.is_dir() {
        eprintln!("SKIPPED: fixture `{name}` is not here ({})", dir.display());
        return None;
    }
    Some(dir)
}

fn ids(expected: &SafeTensors<'_>, name: &str) -> Vec<u32> {
    let tensor = expected.tensor(name).expect("the fixture has this tensor");
    let values = tensor.data().chunks_exact(8);
    values
        .map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes")) as u32)
        .collect()
}

fn floats(expected: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = expected.tensor(name).expect("the fixture has this tensor");
    let values = tensor.data().chunks_exact(4);
    values
        .map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes")))
        .collect()
}

/// Continues `prompt` greedily by `n` tokens.
fn continue_greedily(engine: &Engine, prompt: &[u32], n: usize) -> Vec<u32> {
    let mut session = Session::new(engine);
    let mut logits = session
        .extend(engine, prompt, Want::Last)
        .expect("the prompt fits");
    while session.len() < prompt.len() + n {
        let row = logits.last().expect("one row was wanted");
        let choice = greedy(row, Mask::all()).expect("the logits are finite");
        logits = session
            .extend(engine, &[choice.id], Want::Last)
            .expect("the token fits");
    }
    session.tokens().collect()
}

/// Compares a fixture with sessions. `unseen` leading tokens of the prompt were hidden from the
/// reference when it generated (but not when it computed the logits).
fn check(name: &str, unseen: usize) {
    let Some(dir) = fixture(name) else { return };
    let file = std::fs::read(dir.join("expected.safetensors")).expect("the fixture is readable");
    let expected = SafeTensors::deserialize(&file).expect("the fixture is valid");
    let input = ids(&expected, "input_ids");
    let reference = floats(&expected, "logits");
    let continuation = ids(&expected, "greedy_ids");
    let options = Options {
        max_positions: Some(512),
        ..Options::default()
    };
    let model = Model::load(&dir).expect("the fixture loads");
    let checkpoint = Checkpoint::open(&dir).expect("the fixture opens");
    for engine in [
        Engine::new(model, options.clone()).expect("the options fit"),
        Engine::open(&checkpoint, options).expect("the options fit"),
    ] {
        let mut session = Session::new(&engine);
        let mut logits = Vec::new();
        for chunk in input.chunks(23) {
            let rows = session
                .extend(&engine, chunk, Want::All)
                .expect("the ids fit");
            logits.extend_from_slice(rows.as_slice());
        }
        assert_eq!(logits.len(), reference.len());
        let error = logits
            .iter()
            .zip(&reference)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(error < 1e-4, "{name}: logits differ by {error}");

        let expected = &continuation[unseen..];
        let got = continue_greedily(&engine, &expected[..40 - unseen], 32);
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn cwm_tiny_a() {
    check("cwm_tiny_a", 0);
}

/// The fixture was generated with `pad_token_id=0`, and 0 is also this model's BOS: `generate` took
/// the first token for padding and masked it. Leaving it out is the same, since positions only
/// enter through their differences.
#[test]
fn cwm_tiny_b() {
    check("cwm_tiny_b", 1);
}
