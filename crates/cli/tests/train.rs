//! `cwm train` with stage files, as a person uses it.

mod common;

use std::path::Path;

use common::Run;
use serde_json::{Value as Json, json};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("a file");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).expect("a file")
    }

    fn cwm(&self, args: &[&str]) -> Run {
        Run {
            output: common::cwm(self.path(), args),
        }
    }

    fn train(&self, file: &str, out: &str, more: &[&str]) -> Run {
        self.cwm(&[&["train", "--config", file, "--out", out], more].concat())
    }

    fn generate(&self, name: &str, seed: &str) {
        let count = ["--count", "24", "--levels", "25,35,25,15"];
        let args = ["data", "generate", "--seed", seed, "--out", name];
        self.cwm(&[&args[..], &count].concat()).succeeds();
    }

    /// The last event of a kind in the log of a run.
    fn logged(&self, run: &str, event: &str) -> Json {
        let log = self.read(&format!("{run}/train.jsonl"));
        let events = log
            .lines()
            .map(|line| serde_json::from_str::<Json>(line).expect("JSON"));
        let mut found = events.filter(|found| found["event"] == event);
        found.next_back().expect("an event of this kind")
    }
}

const TRAIN: &str = "
[train]
steps = 3
batch_tokens = 512
threads = 1
eval_every = 2
optimizer = { kind = 'adamw', lr = 0.001 }
schedule = { kind = 'constant', warmup = 1 }
";

fn source(table: &str, name: &str, kind: &str, path: &str, more: &str) -> String {
    format!("[[{table}]]\nname = '{name}'\nkind = '{kind}'\npath = '{path}'\n{more}\n")
}

fn stage(stage: &str, model: &str, tokenizer: &str, rows: usize, sources: &[String]) -> String {
    let head = format!(
        "stage = '{stage}'\nmodel = {{ {model} }}\ntokenizer = {{ kind = '{tokenizer}' }}\nrows = {{ tokens = {rows} }}\n"
    );
    [&head, TRAIN, &sources.concat()].concat()
}

/// A run in the `cwm` dialect: an addition.
fn run_of(number: u32) -> Json {
    let text = format!(
        "<|begin_of_text|><|trace_context_start|>def f(a):  # << START_OF_TRACE\n    return a + {number}\n<|frame_sep|>\
         <|call_sep|>{{\"a\": \"1\"}}<|action_sep|>def f(a):\n<|frame_sep|>\
         <|line_sep|>{{\"a\": \"..\"}}<|action_sep|>    return a + {number}\n<|frame_sep|>\
         <|return_sep|><|action_sep|>    return a + {number}\n<|arg_sep|>\"{}\"<|frame_sep|><|end_of_text|>",
        number + 1
    );
    json!({ "text": text, "kind": "cwm", "group": format!("g{number}") })
}

fn lines(values: impl IntoIterator<Item = Json>) -> String {
    values
        .into_iter()
        .map(|value| format!("{value}\n"))
        .collect()
}

fn texts(folder: &Folder) {
    folder.write("runs.jsonl", &lines((0..20).map(run_of)));
    folder.write("dev.jsonl", &lines((20..23).map(run_of)));
    let prose = (0..9).map(|n| json!({ "text": format!("The number {n}. ").repeat(20) }));
    folder.write("prose.jsonl", &lines(prose));
    let dialog = |n: u32| {
        json!({ "messages": [
            { "role": "user", "content": format!("{n}+1?") },
            { "role": "assistant", "content": (n + 1).to_string() },
        ]})
    };
    folder.write("dialogs.jsonl", &lines((0..12).map(dialog)));
}

#[test]
fn a_preset_is_printed_as_it_was_written_and_a_file_with_all_filled_in() {
    let folder = Folder::new();
    let preset = ["train", "--stage", "sft", "--preset", "cwm-32b", "--print"];
    let printed = folder.cwm(&preset).succeeds().stdout();
    let written = include_str!("../../train/presets/cwm-32b/sft.toml");
    assert_eq!(printed, written);
    folder.write(
        "s.toml",
        "stage = 'pre'\npreset = 'nano-tiny'\n[train]\nsteps = 7\n",
    );
    let printed = folder
        .cwm(&["train", "--config", "s.toml", "--print"])
        .succeeds()
        .stdout();
    let expected = "\
stage = \"pre\"
seed = 1

[model]
preset = \"nano-tiny\"

[tokenizer]
kind = \"nano\"

[rows]
tokens = 1024

[train]
batch_tokens = 4096
checkpoint_every = 100
eval_every = 200
keep_best = true
keep_last = 2
lanes = 4
precision = \"bf16\"
recompute = false
spike_sigma = 0.0
steps = 7

[train.optimizer]
betas = [0.9, 0.95]
clip = 1.0
decay_all = false
embedding_lr = 0.01
eps = 0.00000001
kind = \"muon\"
lr = 0.003
muon_lr = 0.02
weight_decay = 0.02

[train.schedule]
decay_steps = 400
final_ratio = 0.02
kind = \"wsd\"
warmup = 50
";
    assert_eq!(printed, expected);
    let run = [
        "train", "--stage", "pre", "--preset", "cwm-32b", "--out", "run",
    ];
    folder
        .cwm(&run)
        .fails_with(&["have to be set", "train.optimizer.lr", "source"]);
    assert!(!folder.path().join("run").exists());
}

#[test]
fn windows_are_trained_on_and_gone_on_with_in_the_next_stage() {
    let folder = Folder::new();
    folder.generate("a.jsonl", "3");
    folder.generate("b.jsonl", "4");
    let a = source(
        "source",
        "a",
        "windows",
        "a.jsonl",
        "share = 1\nweights = { working = 0.5 }",
    );
    let held = source("held_out", "dev", "windows", "b.jsonl", "");
    folder.write(
        "pre.toml",
        &stage(
            "pre",
            "preset = 'nano-tiny'",
            "nano",
            768,
            &[a.clone(), held],
        ),
    );
    let run = folder.train("pre.toml", "pre", &[]).succeeds().stderr();
    assert!(
        run.contains("`a`: ") && run.contains("rows of 768 tokens"),
        "{run}"
    );
    let evaluation = folder.logged("pre", "evaluation");
    let kinds = |event: &Json| {
        let kinds = event["kinds"].as_array().expect("a list").iter();
        kinds
            .map(|kind| kind["name"].as_str().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        kinds(&evaluation),
        ["action", "state", "output"],
        "{evaluation}"
    );
    assert!(
        evaluation["frames"]
            .as_u64()
            .is_some_and(|frames| frames > 50),
        "{evaluation}"
    );

    // Mid-training counts on from step 3.
    let b = source("source", "b", "windows", "b.jsonl", "share = 0.3");
    let file = stage(
        "mid",
        "continue = 'pre', max_position_embeddings = 8192",
        "nano",
        1024,
        &[a, b],
    );
    folder.write("mid.toml", &file);
    folder
        .train("mid.toml", "mid", &[])
        .fails_with(&["counted together"]);
    folder.write("mid.toml", &file.replace("steps = 3", "steps = 5"));
    let run = folder.train("mid.toml", "mid", &[]).succeeds().stderr();
    assert!(
        run.contains("step 3 of 5") && run.contains("finished at step 5"),
        "{run}"
    );
    assert_eq!(folder.logged("mid", "step")["step"], 5);
    let export = ["export", "--run", "mid", "--out", "model"];
    folder.cwm(&export).succeeds();
    assert!(folder.read("model/config.json").contains("8192"));

    // A resumed run keeps what it was begun with, except for what changes no bits.
    let upkeep = "steps = 6\nrecompute = true\nkeep_best = true";
    folder.write("mid.toml", &file.replace("steps = 3", upkeep));
    folder.train("mid.toml", "mid", &["--resume"]).succeeds();
    let longer = file.replace("8192", "16384");
    folder.write("mid.toml", &longer.replace("steps = 3", "steps = 7"));
    folder
        .train("mid.toml", "mid", &["--resume"])
        .fails_with(&["`model.max_position_embeddings` is not what this run was begun with"]);
    let other = file.replace("steps = 3", "steps = 7\nlanes = 2");
    folder.write("mid.toml", &other);
    folder
        .train("mid.toml", "mid", &["--resume"])
        .fails_with(&["`train.lanes` cannot change"]);
    folder.write(
        "mid.toml",
        &file
            .replace("steps = 3", "steps = 7")
            .replace("share = 0.3", "share = 0.4"),
    );
    folder
        .train("mid.toml", "mid", &["--resume"])
        .fails_with(&["was trained on data"]);
    folder
        .train("mid.toml", "mid", &["--resume", "--new-data"])
        .succeeds();

    // The model that was exported is one to begin with, and a run begun with it goes on by the same command.
    let quick = [
        "train", "--data", "a.jsonl", "--from", "model", "--out", "quick",
    ];
    let quick = [&quick[..], &["--batch-tokens", "512", "--threads", "1"]].concat();
    folder
        .cwm(&[&quick[..], &["--steps", "1"]].concat())
        .succeeds();
    folder
        .cwm(&[&quick[..], &["--steps", "2", "--resume"]].concat())
        .succeeds();
    let sft = stage(
        "sft",
        "from = 'model'",
        "nano",
        768,
        &[source("source", "a", "windows", "a.jsonl", "share = 1")],
    );
    folder.write("sft.toml", &sft);
    let vocabulary = folder.read("model/vocabulary.json");
    let strange = vocabulary.replacen("<call>", "<llac>", 1);
    assert_ne!(vocabulary, strange);
    folder.write("model/vocabulary.json", &strange);
    folder
        .train("sft.toml", "sft", &[])
        .fails_with(&["is of another version", "<llac>"]);
    folder.write("model/vocabulary.json", &vocabulary);
    folder.train("sft.toml", "sft", &[]).succeeds();
}

#[test]
fn texts_and_dialogs_are_trained_on_with_bytes() {
    let folder = Folder::new();
    texts(&folder);
    let runs = source(
        "source",
        "runs",
        "text",
        "runs.jsonl",
        "share = 0.7\nonly = ['cwm']",
    );
    let prose = source("source", "prose", "text", "prose.jsonl", "share = 0.3");
    let held = source("held_out", "dev", "text", "dev.jsonl", "");
    folder.write(
        "pre.toml",
        &stage(
            "pre",
            "preset = 'nano-tiny'",
            "bytes",
            512,
            &[runs.clone(), prose, held],
        ),
    );
    // What a start with another vocabulary left is not taken for that of the run.
    std::fs::create_dir(folder.path().join("pre")).expect("a folder");
    folder.write("pre/vocabulary.json", "{}");
    folder.train("pre.toml", "pre", &[]).succeeds();
    assert!(!folder.path().join("pre/vocabulary.json").exists());
    folder.write("pre/vocabulary.json", "{}");
    std::fs::create_dir(folder.path().join("shipped")).expect("a folder");
    folder.write("shipped/vocabulary.json", "{}");
    folder
        .cwm(&["export", "--run", "pre", "--out", "shipped"])
        .succeeds();
    assert_eq!(
        folder.read("shipped/cwm-tokenizer.json"),
        folder.read("pre/cwm-tokenizer.json")
    );
    assert!(!folder.path().join("shipped/vocabulary.json").exists());
    let evaluation = folder.logged("pre", "evaluation");
    // Three frames and the end of each of three runs.
    assert_eq!(evaluation["frames"], 12, "{evaluation}");

    let dialogs = source(
        "source",
        "d",
        "dialogs",
        "dialogs.jsonl",
        "share = 1\nthink = 'tokens'",
    );
    let sft = stage("sft", "from = 'pre'", "bytes", 256, &[dialogs]);
    folder.write("sft.toml", &sft);
    folder.train("sft.toml", "sft", &[]).succeeds();
    assert_eq!(
        folder.logged("sft", "step")["kinds"][0]["name"],
        "assistant"
    );

    // The vocabulary of a run is kept.
    let note: Json = serde_json::from_str(&folder.read("sft/cwm-tokenizer.json")).expect("JSON");
    assert_eq!(note["kind"], "bytes");
    folder.write("nano.toml", &sft.replace("'bytes'", "'nano'"));
    folder
        .train("nano.toml", "sft", &["--resume"])
        .fails_with(&["tokenizer `bytes` of 512 ids"]);
    folder
        .train("nano.toml", "other", &[])
        .fails_with(&["tokenizer `bytes` of 512 ids"]);
    folder.write(
        "llama.toml",
        &sft.replace("kind = 'bytes'", "kind = 'llama', path = 'no.model'"),
    );
    folder
        .train("llama.toml", "other", &[])
        .fails_with(&["cannot read the tokenizer", "no.model"]);
}

#[test]
fn what_is_held_out_is_not_trained_on() {
    let folder = Folder::new();
    texts(&folder);
    let all = lines((0..23).map(run_of));
    folder.write("all.jsonl", &all);
    let runs = source("source", "runs", "text", "all.jsonl", "share = 1");
    let held = source("held_out", "dev", "text", "dev.jsonl", "");
    let file = stage("pre", "preset = 'nano-tiny'", "bytes", 512, &[runs, held]);
    folder.write("s.toml", &file);
    let run = folder.train("s.toml", "run", &[]).succeeds().stderr();
    assert!(
        run.contains("left out, of a group that is held out: 3"),
        "{run}"
    );
    folder.write("same.jsonl", &all);
    folder.write("s.toml", &file.replace("dev.jsonl", "same.jsonl"));
    let parts = [
        "source `runs` has nothing to train on",
        "of a group that is held out: 23",
    ];
    folder.train("s.toml", "other", &[]).fails_with(&parts);
}

#[test]
fn data_that_cannot_be_used_is_refused() {
    let folder = Folder::new();
    texts(&folder);
    folder.generate("a.jsonl", "3");
    folder.write("empty.jsonl", "");
    folder.write("damaged.parquet", "PAR1 and then nothing");
    folder.write("damaged.text.parquet", "PAR1 and then nothing");
    folder.write(
        "broken.jsonl",
        "{\"text\": \"fine\"}\n\n{\"txet\": \"x\"}\n",
    );
    folder.write(
        "dialog.jsonl",
        "{\"messages\": [{\"role\": \"me\", \"content\": \"\"}]}\n",
    );
    let cases: [(&str, &str, &str, &[&str]); 9] = [
        (
            "windows",
            "bytes",
            "a.jsonl",
            &[
                "needs a tokenizer of kind `nano`",
                "one run has one tokenizer",
            ],
        ),
        (
            "text",
            "nano",
            "runs.jsonl",
            &["needs a tokenizer of kind `bytes` or `llama`"],
        ),
        (
            "windows",
            "nano",
            "empty.jsonl",
            &["source `s` has nothing to train on: its files are empty"],
        ),
        (
            "windows",
            "nano",
            "damaged.parquet",
            &["source `s`", "damaged.parquet"],
        ),
        (
            "windows",
            "nano",
            "missing.jsonl",
            &["cannot read", "missing.jsonl", "No such file"],
        ),
        (
            "text",
            "bytes",
            "damaged.text.parquet",
            &["source `s`", "damaged.text.parquet"],
        ),
        ("text", "bytes", "damaged.parquet", &["no shard of texts"]),
        (
            "text",
            "bytes",
            "broken.jsonl",
            &["line 3 of", "unknown field `txet`"],
        ),
        (
            "dialogs",
            "bytes",
            "dialog.jsonl",
            &["line 1 of", "role `me` is none of"],
        ),
    ];
    for (number, (kind, tokenizer, path, parts)) in cases.into_iter().enumerate() {
        let sources = [source("source", "s", kind, path, "share = 1")];
        folder.write(
            "s.toml",
            &stage("pre", "preset = 'nano-tiny'", tokenizer, 256, &sources),
        );
        let run = folder.train("s.toml", &format!("run{number}"), &[]);
        for part in parts {
            assert_eq!(run.stderr().matches(part).count(), 1, "{}", run.stderr());
        }
        run.fails_with(parts);
    }
    let sources = [source("source", "s", "text", "runs.jsonl", "share = 1")];
    folder.write(
        "s.toml",
        &stage("pre", "preset = 'nano-tiny'", "bytes", 5000, &sources),
    );
    folder
        .train("s.toml", "long", &[])
        .fails_with(&["`rows.tokens` is 5000", "4096 positions"]);
    folder.write("s.toml", "stage = 'pre'\ncolour = 1\n");
    folder
        .train("s.toml", "x", &[])
        .fails_with(&["cannot use the stage file `s.toml`", "model"]);
    folder
        .train("none.toml", "x", &[])
        .fails_with(&["cannot read `none.toml`"]);
    let both = folder.train("s.toml", "x", &["--steps", "3"]);
    assert_eq!(both.output.status.code(), Some(2), "{}", both.stderr());
    let both = folder.cwm(&[
        "train", "--data", "a.jsonl", "--config", "s.toml", "--out", "x",
    ]);
    assert_eq!(both.output.status.code(), Some(2), "{}", both.stderr());
    let strange = [
        "train", "--data", "a.jsonl", "--preset", "cwm-32b", "--out", "x",
    ];
    folder.cwm(&strange).fails_with(&["none of `tiny`"]);
}

#[test]
fn the_running_mean_and_kept_checkpoints_can_be_exported() {
    let folder = Folder::new();
    folder.generate("a.jsonl", "5");
    let data = source("source", "a", "windows", "a.jsonl", "share = 1.0");
    let file = stage("pre", "preset = 'nano-tiny'", "nano", 512, &[data]);
    let with_mean = file.replace(
        "threads = 1",
        "threads = 1\nema = 0.9\ncheckpoint_every = 2",
    );
    folder.write("pre.toml", &with_mean.replace("eval_every = 2\n", ""));
    folder.train("pre.toml", "run", &[]).succeeds();
    let export = |out: &str, more: &[&str]| {
        let args = ["export", "--run", "run", "--dtype", "f32", "--out", out];
        folder.cwm(&[&args[..], more].concat())
    };
    export("last", &[]).succeeds();
    export("mean", &["--ema"]).succeeds();
    export("second", &["--step", "2"]).succeeds();
    let weights = |out: &str| {
        std::fs::read(folder.path().join(out).join("model.safetensors")).expect("weights")
    };
    let [last, mean, second] = ["last", "mean", "second"].map(weights);
    assert_eq!(last.len(), mean.len());
    assert!(last != mean && last != second && mean != second);
    let at_two = std::fs::read(folder.path().join("run/step-000002/model.safetensors"));
    assert!(second == at_two.expect("weights"));
    export("none", &["--step", "7"]).fails_with(&["step-000007"]);

    folder.write("plain.toml", &file);
    folder.train("plain.toml", "plain", &[]).succeeds();
    let args = ["export", "--run", "plain", "--ema", "--out", "none"];
    folder.cwm(&args).fails_with(&["keeps no running mean"]);
}

#[test]
fn a_stage_makes_the_model_that_it_begins_with_deeper() {
    let folder = Folder::new();
    folder.generate("a.jsonl", "5");
    let sources = [source("source", "a", "windows", "a.jsonl", "share = 1")];
    let file = |model: &str, steps: u64| {
        let text = stage("pre", model, "nano", 512, &sources);
        text.replace("steps = 3", &format!("steps = {steps}"))
            .replace("eval_every = 2\n", "")
    };
    folder.write("s.toml", &file("preset = 'nano-tiny'", 1));
    folder.train("s.toml", "shallow", &[]).succeeds();
    for (layers, part) in [(1, "can only be made deeper"), (5, "in two stages")] {
        let model = format!("from = 'shallow', num_hidden_layers = {layers}");
        folder.write("d.toml", &file(&model, 1));
        folder
            .train("d.toml", "none", &[])
            .fails_with(&[&format!("`model.num_hidden_layers` is {layers}"), part]);
    }
    let deeper = "from = 'shallow', num_hidden_layers = 3";
    folder.write("d.toml", &file(deeper, 1));
    folder.train("d.toml", "deep", &[]).succeeds();
    let config = folder.read("deep/step-000001/config.json");
    assert!(config.contains("\"num_hidden_layers\": 3"), "{config}");
    // What goes on is the deeper model.
    folder.write("d.toml", &file(deeper, 2));
    folder.train("d.toml", "deep", &["--resume"]).succeeds();
    folder.write(
        "d.toml",
        &file("from = 'shallow', num_hidden_layers = 4", 3),
    );
    folder
        .train("d.toml", "deep", &["--resume"])
        .fails_with(&["`model.num_hidden_layers` is not what this run was begun with"]);
}
