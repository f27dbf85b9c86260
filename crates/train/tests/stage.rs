//! Stage files: what they say together with presets and defaults, and what is refused.

use std::path::Path;

use cwm_train::stage::{PRESETS, Plan, Stage, StageError, preset, print};
use cwm_train::{Optimizer, TrainConfig};
use toml::Table;

const STAGES: [Stage; 3] = [Stage::Pre, Stage::Mid, Stage::Sft];

const FILE: &str = r#"
stage = "pre"
model = { preset = "nano-tiny" }
tokenizer = { kind = "nano" }
rows = { tokens = 512 }
[[source]]
name = "runs"
kind = "windows"
path = "runs.jsonl"
share = 1
[train]
steps = 10
batch_tokens = 64
optimizer = { kind = "adamw", lr = 0.001 }
schedule = { kind = "constant", warmup = 0 }
"#;

fn read(text: &str) -> Result<Plan, StageError> {
    Plan::read(text, None, None, Path::new("/data"), 2)
}

#[test]
fn presets_say_everything_they_mean() {
    for name in PRESETS {
        for stage in STAGES {
            let written: Table = preset(name, stage)
                .expect("a preset")
                .parse()
                .expect("TOML");
            let resolved = print("", Some(stage), Some(name)).expect("a preset");
            let resolved: Table = resolved.parse().expect("what is printed is TOML");
            assert_eq!(resolved, written, "{name} {}", stage.name());
        }
    }
}

#[test]
fn presets_of_the_small_model_run_once_they_have_data() {
    let source = "[[source]]\nname = 'a'\nkind = 'windows'\npath = 'a'\nshare = 1\n";
    for (stage, model) in [
        (Stage::Pre, ""),
        (Stage::Mid, "model = { continue = 'run' }\n"),
        (Stage::Sft, "model = { from = 'run' }\n"),
    ] {
        let text = format!("{model}{source}");
        let plan = Plan::read(&text, Some(stage), Some("nano-small"), Path::new(""), 1);
        plan.expect("nothing is missing");
    }
}

#[test]
fn the_large_preset_lists_what_nobody_has_published() {
    let missing = |stage| match Plan::read("", Some(stage), Some("cwm-32b"), Path::new(""), 1) {
        Err(StageError::Missing(missing)) => missing,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        missing(Stage::Pre),
        [
            "tokenizer.path",
            "train.optimizer.betas",
            "train.optimizer.lr",
            "train.optimizer.weight_decay",
            "train.schedule.kind",
            "source",
        ]
    );
    assert_eq!(missing(Stage::Mid)[0], "model.continue");
    assert_eq!(
        missing(Stage::Sft),
        [
            "model.from",
            "tokenizer.path",
            "train.optimizer.betas",
            "train.optimizer.weight_decay",
            "source",
        ]
    );
}

#[test]
fn the_large_shape_is_that_of_the_model() {
    // The ids are those of the bytes here, since the file of Llama 3 is not ours.
    let text = r#"
        tokenizer = { kind = "bytes" }
        [train]
        optimizer = { lr = 0.001, betas = [0.9, 0.95], weight_decay = 0.1 }
        schedule = { kind = "constant", warmup = 0 }
        [[source]]
        name = "a"
        kind = "text"
        path = "a"
        share = 1
    "#;
    let plan = Plan::read(text, Some(Stage::Pre), Some("cwm-32b"), Path::new(""), 1);
    let plan = plan.expect("nothing is missing");
    let tokenizer = plan.tokenizer().expect("bytes");
    let cwm_train::stage::Begin::Shape(shape) = &plan.model.begin else {
        panic!("{:?}", plan.model);
    };
    let config = shape.config(&tokenizer).expect("the tokenizer's ids");
    config.validate().expect("it can be run");
    let embeddings = 2 * config.vocab_size * config.hidden_size;
    assert_eq!(config.n_params() - embeddings, 31_005_087_744);
    let full = config
        .layer_types
        .iter()
        .filter(|layer| **layer == cwm_model::LayerType::Full);
    assert_eq!(full.count(), 17);
    assert_eq!(
        (plan.train.steps, plan.train.batch_tokens),
        (953_674, 1 << 23)
    );
}

#[test]
fn defaults_are_those_of_the_library() {
    let found = read(FILE).expect("a plan").train;
    let expected = TrainConfig {
        threads: 2,
        ..TrainConfig::new(10, 64, Optimizer::adamw(0.001))
    };
    assert_eq!(found, expected);
}

#[test]
fn a_file_changes_what_it_names_of_a_preset() {
    let text = r#"
        preset = "cwm-32b"
        stage = "sft"
        [tokenizer]
        kind = "bytes"
        [model]
        preset = "nano-tiny"
        [train]
        schedule = { kind = "cosine", warmup = 5, final_ratio = 0.1 }
        optimizer = { betas = [0.9, 0.99], weight_decay = 0.0 }
        [[source]]
        name = "d"
        kind = "dialogs"
        path = ["a", "/b"]
        share = 2
    "#;
    let plan = read(text).expect("a plan");
    assert_eq!(plan.train.optimizer.lr, 1e-5);
    assert_eq!(plan.train.optimizer.betas, [0.9, 0.99]);
    assert_eq!(plan.row_tokens, 32_768);
    let (source, share) = &plan.sources[0];
    assert_eq!(*share, 2.0);
    assert_eq!(source.paths, [Path::new("/data/a"), Path::new("/b")]);
    let printed = print(text, None, None).expect("a table");
    let again = print(&printed, None, None).expect("a table");
    assert_eq!(printed, again, "what is printed needs no preset");
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let source = |more: &str| FILE.replace("share = 1", &format!("share = 1\n{more}"));
    let dialogs = |more: &str| source(more).replace("\"windows\"", "\"dialogs\"");
    let set = |from: &str, to: &str| {
        assert!(FILE.contains(from), "{from}");
        FILE.replace(from, to)
    };
    let cases = [
        (set("rows = ", "rowz = 1\nrows = "), "unknown field `rowz`"),
        (
            set("steps = 10", "steps = 10\nstepz = 1"),
            "unknown field `stepz`",
        ),
        (source("colour = 3"), "unknown field `colour`"),
        (
            set("lr = 0.001", "lr = 0.001, beta = 1"),
            "unknown field `beta`",
        ),
        (
            set(
                "preset = \"nano-tiny\"",
                "preset = \"nano-tiny\", from = \"x\"",
            ),
            "not exactly one",
        ),
        (
            set("preset = \"nano-tiny\"", "max_position_embeddings = 9"),
            "not exactly one",
        ),
        (
            set(
                "preset = \"nano-tiny\"",
                "preset = \"nano-tiny\", num_hidden_layers = 4",
            ),
            "`model.num_hidden_layers` goes with `from` alone",
        ),
        (
            set("preset = \"nano-tiny\"", "continue = \"x\""),
            "by --resume",
        ),
        (
            set(
                "preset = \"nano-tiny\"",
                "preset = \"nano-tiny\", rope_scaling = { factor = 2.0, low_freq_factor = 1.0, high_freq_factor = 4.0, original_max_position_embeddings = 64 }",
            ),
            "`mid` switches it on",
        ),
        (
            set("kind = \"nano\"", "kind = \"nano\", path = \"x\""),
            "needs no file",
        ),
        (
            set("kind = \"nano\"", "kind = \"llama\""),
            "`tokenizer.path` is missing",
        ),
        (set("share = 1", "share = 0"), "must be above 0"),
        (set("share = 1", ""), "is missing: say how often"),
        (set("tokens = 512", "tokens = 1"), "`rows.tokens`"),
        (
            set("steps = 10", "steps = 10\nseed = 3"),
            "stands at the top",
        ),
        (set("steps = 10", "steps = 0"), "`steps` must be at least 1"),
        (
            source("only = [\"cwm\"]"),
            "`only of source `runs`` does not go with kind `windows`",
        ),
        (
            source("learn = [\"user\"]"),
            "does not go with kind `windows`",
        ),
        (
            source("weights = { event = 1.0 }"),
            "none of `working`, `action`, `state`, `output`",
        ),
        (
            source("weights = { action = -1.0 }"),
            "must not be negative",
        ),
        (
            dialogs("weights = { assistant = 1.0 }"),
            "does not go with kind `dialogs`",
        ),
        (dialogs("learn = []"), "names nobody"),
        (dialogs("learn = [\"nobody\"]"), "unknown variant `nobody`"),
        (dialogs("tool_share = 0.5"), "unless `learn` has \"tool\""),
        (dialogs("learn = [\"tool\"]\ntool_share = 1.5"), "0..=1"),
        (
            format!("{FILE}\n[[held_out]]\nname = 'h'\nkind = 'windows'\npath = 'h'\nshare = 1"),
            "means nothing",
        ),
        (
            format!("{FILE}\n[[source]]\nname = 'runs'\nkind = 'windows'\npath = 'h'\nshare = 1"),
            "two sources named `runs`",
        ),
        (
            format!(
                "{FILE}\n[[held_out]]\nname = 'h'\nkind = 'windows'\npath = ['h', './runs.jsonl']"
            ),
            "`path of source `runs`` is `/data/runs.jsonl`, which held-out source `h` measures on",
        ),
        (
            set("stage = \"pre\"", "stage = \"post\""),
            "unknown variant `post`",
        ),
        (
            format!("preset = \"huge\"\n{FILE}"),
            "`huge` is none of `cwm-32b`",
        ),
        ("stage = ".to_owned(), "TOML"),
        (
            String::new(),
            "stage\n  model\n  tokenizer.kind\n  rows.tokens\n  source\n",
        ),
    ];
    for (text, part) in cases {
        let error = read(&text).expect_err(&text).to_string();
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    let said = Plan::read(FILE, Some(Stage::Mid), None, Path::new(""), 1);
    let said = said.expect_err("two stages").to_string();
    assert!(said.contains("--stage says `mid`"), "{said}");
}
