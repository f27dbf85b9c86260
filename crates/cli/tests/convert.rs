//! `cwm convert` and `cwm quantize`, on the shipped model.

mod common;

use std::path::{Path, PathBuf};

use common::{Run, cwm as cwm_in};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn cwm(args: &[&str]) -> Run {
    Run {
        output: cwm_in(&root(), args),
    }
}

fn json(run: &Run) -> Value {
    serde_json::from_str(&run.stdout()).expect("one JSON object")
}

/// A folder, and the paths of names in it.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }
}

/// The logits of a model for a few ids, as raw bytes.
fn logits(scratch: &Scratch, model: &str) -> Vec<u8> {
    let (ids, out) = (scratch.path("ids.json"), scratch.path("logits.safetensors"));
    std::fs::write(&ids, "[1, 20, 300, 4, 50]").expect("writable");
    cwm(&["logits", "--model", model, "--ids", &ids, "--out", &out]).succeeds();
    std::fs::read(out).expect("readable")
}

#[test]
fn a_model_goes_to_gguf_and_back() {
    let scratch = Scratch::new();
    let (file, folder) = (scratch.path("nano.gguf"), scratch.path("again"));
    let run = cwm(&["convert", "models/nano", "--out", &file, "--json"]).succeeds();
    let report = json(&run);
    assert_eq!(report["format"], "gguf");
    assert_eq!(report["dtype"], "bf16");
    assert!(report["bytes_after"].as_u64() > Some(1_000_000), "{report}");
    cwm(&["convert", &file, "--out", &folder]).succeeds();
    // bf16 to bf16 loses nothing, whatever the order of rows on the way.
    let original = logits(&scratch, "models/nano");
    assert_eq!(logits(&scratch, &file), original);
    assert_eq!(logits(&scratch, &folder), original);
}

#[test]
fn what_lies_beside_the_weights_comes_along() {
    let scratch = Scratch::new();
    let folder = scratch.path("f32");
    let args = ["convert", "models/nano", "--out", &folder, "--dtype", "f32"];
    cwm(&args).succeeds();
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["config.json", "model.safetensors", "vocabulary.json"]
    );
    let left = std::fs::read_dir(scratch.0.path()).expect("readable");
    assert_eq!(left.count(), 1, "no temporary folder stays");

    cwm(&args).fails_with(&["exists already; name another, or remove it first"]);
}

#[test]
fn what_cannot_be_converted_says_what_to_do() {
    let scratch = Scratch::new();
    let out = scratch.path("out");
    cwm(&["convert", "models/nano", "--out", &out, "--dtype", "q4_0"])
        .fails_with(&["folders of safetensors have no q4_0; use `--to gguf`, or `cwm quantize`"]);
    cwm(&["convert", "no/such/model", "--out", &out])
        .fails_with(&["cannot use the model in `no/such/model`"]);
    cwm(&["convert", "README.md", "--out", &out])
        .fails_with(&["README.md is no model that can be read"]);
    cwm(&[
        "quantize",
        "models/nano",
        "--out",
        &out,
        "--format",
        "int8",
        "--text",
        "README.md",
    ])
    .fails_with(&["has no vocabulary for text", "--traces FILE.jsonl"]);
    assert_eq!(
        std::fs::read_dir(scratch.0.path())
            .expect("readable")
            .count(),
        0
    );
}

#[test]
fn quantizing_reports_what_is_lost() {
    let scratch = Scratch::new();
    let data = scratch.path("runs.jsonl");
    let generate = "data generate --count 4 --levels 1,0,0,0 --seed 5 --out";
    let args: Vec<&str> = generate.split(' ').chain([data.as_str()]).collect();
    cwm(&args).succeeds();
    let mut errors = Vec::new();
    for format in ["int8", "int4-g32", "int4-g128"] {
        let out = scratch.path(format);
        let run = cwm(&[
            "quantize",
            "models/nano",
            "--out",
            &out,
            "--format",
            format,
            "--traces",
            &data,
            "--limit",
            "3",
            "--json",
        ])
        .succeeds();
        let report = json(&run);
        assert_eq!(report["format"], format);
        assert!(report["bytes_after"].as_u64() < report["bytes_before"].as_u64());
        assert_eq!(report["traces"]["before"]["items"], 3);
        assert_eq!(report["traces"]["after"]["items"], 3);
        let kinds = report["kinds"].as_array().expect("kinds");
        let of = |name: &str| {
            let kind = kinds.iter().find(|kind| kind["kind"] == name);
            let error = |kind: &Value| kind["worst_error"].as_f64();
            kind.and_then(error).expect("a kind with its error")
        };
        assert_eq!(of("input_layernorm"), 0.0);
        assert!(of("embed_tokens") < 0.01, "{report}");
        errors.push(of("down_proj"));
        logits(&scratch, &out);
    }
    assert!(errors[0] < 0.01 && errors[0] < errors[1], "{errors:?}");
    assert!(errors[1] < errors[2] && errors[2] < 0.2, "{errors:?}");
}
