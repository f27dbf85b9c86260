//! `cwm reproduce` as a person uses it: a tiny model from generated programs to its card.

mod common;

use std::path::Path;

use common::{Run, cwm};
use serde_json::Value;

const RECIPE: &str = r#"
name = "tiny"
about = "a model that knows nothing"
[inputs]
problems = { about = "problems, which nobody has" }
[[step]]
name = "programs"
about = "generated programs"
run = ["data", "generate", "--seed", "7", "--count", "{scaled:1000}", "--levels", "1,0,0,0", "--out", "{out}/programs.jsonl"]
[[step]]
name = "worked"
about = "their workings"
run = ["data", "work", "--data", "{step:programs}/programs.jsonl", "--out", "{out}/windows.jsonl"]
[[step]]
name = "people"
about = "problems"
optional = true
run = ["data", "work", "--data", "{input:problems}", "--out", "{out}/windows.jsonl"]
[[step]]
name = "train"
about = "training"
run = ["train", "--config", "{file}", "--out", "{out}"]
[step.file]
stage = "pre"
model = { preset = "nano-tiny" }
tokenizer = { kind = "nano" }
rows = { tokens = 256 }
[[step.file.source]]
name = "programs"
kind = "windows"
path = "{step:worked}/windows.jsonl"
share = 1.0
[[step.file.source]]
name = "people"
kind = "windows"
path = "{step:people}/windows.jsonl"
share = 1.0
[step.file.train]
steps = "{scaled:300}"
batch_tokens = 256
threads = 1
checkpoint_every = 2
optimizer = { kind = "adamw", lr = 0.001 }
schedule = { kind = "constant", warmup = 1 }
[[step]]
name = "model"
about = "the model"
run = ["export", "--run", "{step:train}", "--out", "{out}"]
[[step]]
name = "scores"
about = "figures"
stdout = "suite.json"
run = ["eval", "suite", "--json", "--model", "{step:model}", "--generated", "1", "--levels", "1", "--seed", "9", "--threads", "1", ["--mbpp", "{input:problems}"]]
[[step]]
name = "card"
about = "the card"
run = ["card", "--name", "tiny", "--model", "{step:model}", "--suite", "{step:scores}/suite.json", "--run", "{step:train}", "--data", "programs={step:programs}/programs.jsonl", "--out", "{out}/README.md"]
"#;

/// A recipe that is over soon.
const SHORT: &str = r#"
name = "short"
about = "no model"
[inputs]
benchmark = { about = "a file to be found nowhere" }
[[step]]
name = "programs"
about = "programs"
run = ["data", "generate", "--seed", "7", "--count", "2", "--levels", "1,0,0,0", "--out", "{out}/programs.jsonl"]
"#;

fn reproduce(folder: &Path, recipe: &str, args: &[&str]) -> Run {
    std::fs::write(folder.join("r.toml"), recipe).unwrap();
    let args = [&["reproduce", "r.toml", "--out", "out"], args].concat();
    Run {
        output: cwm(folder, &args),
    }
}

/// What the JSON says of each step.
fn column<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    let steps = value["steps"].as_array().expect("steps");
    steps
        .iter()
        .map(|step| step[key].as_str().expect("text"))
        .collect()
}

#[test]
fn a_model_is_made_kept_and_made_anew_from_what_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let scaled = ["--scale", "0.01", "--json"];
    let run = reproduce(here, RECIPE, &scaled).succeeds();
    let first: Value = serde_json::from_str(&run.stdout()).unwrap();
    let made = ["made", "made", "skipped", "made", "made", "made", "made"];
    assert_eq!(column(&first, "state"), made);
    assert_eq!(first["rehearsal"], true);
    let differences = first["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 4, "{first}");
    let card = first["card"].as_str().unwrap();
    for part in [
        "# Model card: tiny",
        "**Note**: It is a rehearsal: counts are multiplied by 0.01.",
        "Step `people` was skipped",
        "| programs | 10 | ",
        "generator, seed 7",
        "| steps | 3 of 3 |",
        "| level 1 | 1 | ",
    ] {
        assert!(card.contains(part), "`{part}` is not in:\n{card}");
    }

    let run = reproduce(here, RECIPE, &scaled).succeeds();
    let again: Value = serde_json::from_str(&run.stdout()).unwrap();
    let kept = made.map(|state| if state == "made" { "kept" } else { state });
    assert_eq!(column(&again, "state"), kept, "{}", run.stderr());
    assert_eq!(again["card"], first["card"]);

    // A step in the middle: what stands behind it is made anew, what stands before is kept.
    let longer = RECIPE.replace("{scaled:300}", "{scaled:400}");
    let run = reproduce(here, &longer, &scaled).succeeds();
    let third: Value = serde_json::from_str(&run.stdout()).unwrap();
    let states = ["kept", "kept", "skipped", "made", "made", "made", "made"];
    assert_eq!(column(&third, "state"), states, "{}", run.stderr());
    assert!(
        third["card"]
            .as_str()
            .unwrap()
            .contains("| steps | 4 of 4 |")
    );

    // As if training had been killed after its first checkpoint.
    std::fs::remove_dir_all(here.join("out/train/step-000004")).unwrap();
    let record = here.join("out/train.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    std::fs::remove_file(&record).unwrap();
    std::fs::write(here.join("out/train.begun"), value["key"].as_str().unwrap()).unwrap();
    let run = reproduce(
        here,
        &longer,
        &["--scale", "0.01", "--only", "train", "--json"],
    )
    .succeeds();
    let only: Value = serde_json::from_str(&run.stdout()).unwrap();
    let states = ["kept", "kept", "skipped", "made", "kept", "kept", "kept"];
    assert_eq!(column(&only, "state"), states);
    let log = std::fs::read_to_string(here.join("out/train/train.jsonl")).unwrap();
    assert!(log.contains("\"event\":\"resume\",\"step\":2"), "{log}");
}

#[test]
fn hashes_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let run = reproduce(here, SHORT, &["--json"]).succeeds();
    let first: Value = serde_json::from_str(&run.stdout()).unwrap();
    assert_eq!(column(&first, "hashes"), ["not stated"]);
    assert_eq!(first["rehearsal"], false);
    let sum = first["steps"][0]["record"]["products"][0]["sha256"].as_str();
    let stating = |sum: &str| format!("{SHORT}sha256 = {{ \"programs.jsonl\" = \"{sum}\" }}\n");
    let run = reproduce(here, &stating(sum.unwrap()), &[]).succeeds();
    assert!(run.stdout().contains("same"), "{}", run.stdout());
    assert!(!run.stderr().contains("warning"), "{}", run.stderr());
    let other = "0".repeat(64);
    let run = reproduce(here, &stating(&other), &[]).succeeds();
    assert!(run.stdout().contains("kept"), "{}", run.stdout());
    assert!(run.stdout().contains("differs"), "{}", run.stdout());
    assert!(run.stderr().contains("`cwm doctor`"), "{}", run.stderr());
    let run = reproduce(here, &stating(&other), &["--scale", "0.5"]).succeeds();
    assert!(run.stdout().contains("not compared"), "{}", run.stdout());
    let run = reproduce(here, SHORT, &["--force", "--json"]).succeeds();
    let forced: Value = serde_json::from_str(&run.stdout()).unwrap();
    assert_eq!(column(&forced, "state"), ["made"]);
    std::fs::write(here.join("out/programs/programs.jsonl"), "").unwrap();
    let run = reproduce(here, SHORT, &[]).succeeds();
    assert!(run.stderr().contains("gone or damaged"), "{}", run.stderr());
}

#[test]
fn what_cannot_be_made_is_told_before_anything_is() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let more = |step: &str| format!("{SHORT}[[step]]\nname = \"b\"\nabout = \"\"\n{step}\n");
    let cases: [(String, &[&str], &[&str]); 9] = [
        (
            more("colour = 1\nrun = [\"data\"]"),
            &[],
            &["`r.toml`", "unknown field `colour`"],
        ),
        (
            more("run = [\"data\", \"{input:benchmark}\"]"),
            &[],
            &[
                "step `b` needs the input `benchmark`",
                "--set benchmark=PATH",
                "found nowhere",
            ],
        ),
        (
            more("run = [\"data\"]").replace("name = \"b\"", "name = \"programs\""),
            &[],
            &["`programs` stands in the recipe twice"],
        ),
        (
            more("run = [\"data\", \"{step:c}\"]"),
            &[],
            &["`c`, which does not exist"],
        ),
        (
            more("run = [\"data\", \"{step:b}\"]"),
            &[],
            &["does not stand above it"],
        ),
        (
            SHORT.to_owned(),
            &["--set", "other=r.toml"],
            &["no input `other`", "`benchmark`"],
        ),
        (
            SHORT.to_owned(),
            &["--set", "benchmark=absent"],
            &["`benchmark`", "`absent`"],
        ),
        (SHORT.to_owned(), &["--scale", "0"], &["--scale is 0"]),
        (
            SHORT.to_owned(),
            &["--only", "z"],
            &["no step `z`", "--list"],
        ),
    ];
    for (recipe, args, parts) in cases {
        reproduce(here, &recipe, args).fails_with(parts);
        assert!(!here.join("out/programs").exists());
    }
    let failing =
        more("run = [\"data\", \"work\", \"--data\", \"absent\", \"--out\", \"{out}/b\"]");
    reproduce(here, &failing, &[]).fails_with(&[
        "cannot make step `b`",
        "`cwm data work --data absent",
        "failed",
    ]);
    assert!(
        here.join("out/programs.json").exists(),
        "what was made is kept"
    );
    let unread = more("run = [\"data\", \"{step:programs}\"]");
    std::fs::remove_dir_all(here.join("out")).unwrap();
    reproduce(here, &unread, &["--only", "b"]).fails_with(&["`programs`, which is not made yet"]);
}

#[test]
fn the_recipe_of_the_shipped_model_is_part_of_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run {
        output: cwm(folder.path(), &["reproduce", "nano", "--list"]),
    };
    let shown = run.succeeds().stdout();
    for part in [
        "inputs, given with --set",
        "  humaneval ",
        "\nsteps\n",
        "  levels ",
        "(optional)",
    ] {
        assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
    }
    let run = Run {
        output: cwm(folder.path(), &["reproduce", "nano", "--out", "out"]),
    };
    run.fails_with(&["--set examples=PATH"]);
}
