//! Folders that this crate writes are read by `transformers`, which computes the same logits: with
//! `CWM_SLOW_TESTS=1`, where a Python has it.

mod common;

use std::fs;

use common::{lively_model, max_abs_diff, python, tiny_config};
use cwm_model::{CONFIG_FILE, Config, Dtype, LayerType, Model};
use serde_json::{Value, json};

/// Saves a model of `config`, whose class `transformers` knows as `class`, and compares.
fn compare(python: &str, config: Config, class: &str, model_type: &str) {
    for (dtype, shards) in [
        (Dtype::F32, false),
        (Dtype::Bf16, false),
        (Dtype::F16, true),
    ] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        lively_model(config.clone(), 3)
            .save(dir.path(), dtype)
            .expect("saves");
        if shards {
            split(dir.path());
        }
        let path = dir.path().join(CONFIG_FILE);
        let mut file: Value =
            serde_json::from_slice(&fs::read(&path).expect("readable")).expect("JSON");
        file["architectures"] = json!([class]);
        file["model_type"] = json!(model_type);
        fs::write(&path, file.to_string()).expect("writable");

        let ids: Vec<u32> = (0..24).map(|at| (at * 7 + at / 3) % 19).collect();
        let ids_file = dir.path().join("ids.json");
        fs::write(ids_file, json!(ids).to_string()).expect("writable");
        let chosen = python::run(python, "transformers_peer.py", &[dir.path().as_ref()]);
        assert_eq!(chosen.trim(), class);

        let model = Model::load(dir.path()).expect("loads");
        let ours = model.logits(&ids).expect("ids of the vocabulary");
        let theirs = python::floats(&dir.path().join("logits.f32"));
        let difference = max_abs_diff(&ours, &theirs);
        println!("{class} {dtype:?}: max abs diff {difference:e}");
        assert!(difference < 1e-4, "{class} {dtype:?}: {difference}");
    }
}

/// Writes the weights of a folder again, in files of at most 1,000 bytes or one tensor.
fn split(dir: &std::path::Path) {
    let checkpoint = cwm_model::Checkpoint::open(dir).expect("opens");
    checkpoint
        .save_folder(dir, Dtype::F16, 1000, &mut |_| ())
        .expect("saves");
    assert!(dir.join(cwm_model::INDEX_FILE).exists());
}

#[test]
fn logits_agree() {
    let Some(python) = python::python_with("transformers, torch") else {
        return;
    };
    let cwm = Config {
        // `transformers` wants a multiple of the number of heads.
        hidden_size: 12,
        n_previous_embeddings: 0,
        run_embedding: None,
        ..tiny_config(false)
    };
    let llama = Config {
        hidden_size: 12,
        layer_types: vec![LayerType::Full; cwm.n_layers],
        ..tiny_config(true)
    };
    compare(&python, cwm, "CwmForCausalLM", "cwm");
    compare(&python, llama, "LlamaForCausalLM", "llama");
}
