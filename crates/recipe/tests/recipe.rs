//! Recipes: what they say with what is given, and what is refused.

use std::collections::BTreeMap;

use cwm_recipe::{Given, Plan, Ready, Recipe, RecipeError, Resolved, digest};

const RECIPE: &str = r#"
name = "small"
about = "a model"
[inputs]
people = { about = "problems, from their authors" }
[[step]]
name = "a"
about = "programs"
run = ["data", "generate", "--count", "{scaled:2000}", "--out", "{out}/a.jsonl"]
[[step]]
name = "b"
about = "problems"
optional = true
run = ["data", "work", "--data", "{input:people}", "--out", "{out}/b.jsonl"]
[[step]]
name = "c"
about = "training"
run = ["train", "--config", "{file}", "--out", "{out}", ["--mbpp", "{input:people}"]]
[step.file]
seed = 3
train = { steps = "{scaled:100}", warmup = "{scaled:10}" }
[[step.file.source]]
name = "first"
path = "{step:a}/a.jsonl"
[[step.file.source]]
name = "second"
path = "{step:b}/b.jsonl"
"#;

fn given(scale: f64, inputs: &[(&str, &str)]) -> Given {
    let pairs = inputs.iter();
    Given {
        out: "/out".to_owned(),
        inputs: pairs
            .map(|(name, path)| (name.to_string(), path.to_string()))
            .collect(),
        scale,
    }
}

fn plan(text: &str, given: &Given) -> Result<Plan, RecipeError> {
    Recipe::parse(text)?.plan(given)
}

fn ready(plan: &Plan, step: usize) -> &Ready {
    match &plan.steps[step] {
        Resolved::Ready(ready) => ready,
        Resolved::Skipped(why) => panic!("{why}"),
    }
}

#[test]
fn placeholders_become_paths_and_numbers() {
    let plan = plan(RECIPE, &given(1.0, &[("people", "/p.jsonl")])).expect("a plan");
    assert!(plan.differences.is_empty(), "{:?}", plan.differences);
    let expected = [
        "data",
        "generate",
        "--count",
        "2000",
        "--out",
        "/out/a/a.jsonl",
    ];
    assert_eq!(ready(&plan, 0).arguments, expected);
    let train = ready(&plan, 2);
    let expected = [
        "train",
        "--config",
        "/out/c.toml",
        "--out",
        "/out/c",
        "--mbpp",
        "/p.jsonl",
    ];
    assert_eq!(train.arguments, expected);
    let file: toml::Table = train
        .file
        .as_deref()
        .expect("a file")
        .parse()
        .expect("TOML");
    assert_eq!(file["train"]["steps"].as_integer(), Some(100));
    assert_eq!(file["source"][1]["path"].as_str(), Some("/out/b/b.jsonl"));
    assert_eq!(train.steps.iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(train.inputs.iter().collect::<Vec<_>>(), ["people"]);
}

#[test]
fn what_is_absent_is_left_out_where_it_may_be_and_told() {
    let plan = plan(RECIPE, &given(0.01, &[])).expect("a plan");
    assert!(matches!(&plan.steps[1], Resolved::Skipped(_)));
    let train = ready(&plan, 2);
    assert_eq!(train.arguments.len(), 5, "{:?}", train.arguments);
    let file: toml::Table = train
        .file
        .as_deref()
        .expect("a file")
        .parse()
        .expect("TOML");
    assert_eq!(file["source"].as_array().map(Vec::len), Some(1));
    assert_eq!(file["train"]["steps"].as_integer(), Some(1));
    assert_eq!(file["train"]["warmup"].as_integer(), Some(1), "never 0");
    assert_eq!(ready(&plan, 0).arguments[3], "20");
    assert_eq!(train.steps.iter().collect::<Vec<_>>(), ["a"]);
    assert_eq!(
        plan.differences,
        [
            "It is a rehearsal: counts are multiplied by 0.01.",
            "Step `b` was skipped, since input `people` was not given.",
            "Step `c` did without `--mbpp {input:people}`, since input `people` was not given.",
            "Step `c` did without `second`, since step `b` was skipped.",
        ]
    );
}

#[test]
fn a_key_is_that_of_what_is_run_and_read_wherever_it_is() {
    let here = given(1.0, &[("people", "/p.jsonl")]);
    let there = Given {
        out: "/elsewhere".to_owned(),
        ..given(1.0, &[("people", "/q.jsonl")])
    };
    let key = |text: &str, given: &Given, sum: &str| {
        let plan = plan(text, given).expect("a plan");
        let reads = BTreeMap::from([("step:a".to_owned(), sum.to_owned())]);
        ready(&plan, 2).key(&reads)
    };
    let first = key(RECIPE, &here, "1");
    assert_eq!(first, key(RECIPE, &there, "1"));
    assert_ne!(first, key(RECIPE, &here, "2"));
    assert_ne!(first, key(RECIPE, &given(0.5, &[("people", "/p")]), "1"));
    assert_ne!(
        first,
        key(&RECIPE.replace("seed = 3", "seed = 4"), &here, "1")
    );
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let set = |from: &str, to: &str| {
        assert!(RECIPE.contains(from), "{from}");
        RECIPE.replace(from, to)
    };
    let cases = [
        (
            set("optional = true", "optionl = true"),
            "unknown field `optionl`",
        ),
        (
            set(
                "{ about = \"problems, from",
                "{ from = 1, about = \"problems, from",
            ),
            "unknown field `from`",
        ),
        (
            set("name = \"b\"", "name = \"a\""),
            "step `a` stands in the recipe twice",
        ),
        (set("name = \"a\"", "name = \"a/b\""), "letters, digits"),
        (
            set("{step:a}", "{step:z}"),
            "reads step `z`, which does not exist",
        ),
        (
            set("\"{scaled:2000}\"", "\"{step:c}\""),
            "reads step `c`, which does not stand above it",
        ),
        (
            set("\"{scaled:2000}\"", "\"{step:a}\""),
            "does not stand above it",
        ),
        (set("\"{scaled:2000}\"", "\"{input:z}\""), "reads input `z`"),
        (
            set("\"{scaled:2000}\"", "\"{file}\""),
            "has no table `[step.file]`",
        ),
        (
            set("\"--config\", \"{file}\", ", ""),
            "does not name as `{file}`",
        ),
        (
            set("{scaled:2000}", "{scale:2000}"),
            "placeholder `{scale:2000}`",
        ),
        (
            set("\"data\", \"generate\"", "\"trace\", \"generate\""),
            "runs `trace`, which is none of",
        ),
        (
            set("about = \"programs\"", "about = \"\"\nstdout = \"../x\""),
            "no plain name",
        ),
        (
            set(
                "about = \"programs\"",
                "about = \"\"\nsha256 = { x = \"12\" }",
            ),
            "product of step `a`",
        ),
        (
            set("problems, from their authors\"", "\", sha256 = \"12\""),
            "input `people`",
        ),
        (
            set("optional = true", ""),
            "step `b` needs the input `people`; give it with `--set people=PATH`. It is: problems, from",
        ),
        (set("name = \"second\"", "name = \"{step:b}\""), ""),
        (
            set("seed = 3", "seed = \"{step:b}\""),
            "step `c` needs step `b`, which is skipped",
        ),
    ];
    for (text, part) in cases {
        match plan(&text, &given(1.0, &[])) {
            Err(error) => assert!(
                error.to_string().contains(part),
                "`{part}` is not in: {error}"
            ),
            Ok(_) => assert!(part.is_empty(), "{part}"),
        }
    }
    let strange = plan(RECIPE, &given(1.0, &[("z", "/z")])).expect_err("no such input");
    assert_eq!(
        strange.to_string(),
        "the recipe has no input `z`; it has `people`"
    );
}

#[test]
fn a_folder_has_the_digest_of_its_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("in")).expect("a folder");
    std::fs::write(at("in/b"), "").expect("a file");
    std::fs::write(at("a"), "abc").expect("a file");
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(digest(&at("a")).expect("a file"), abc);
    let before = digest(folder.path()).expect("a folder");
    std::fs::rename(at("in/b"), at("in/c")).expect("a file");
    assert_ne!(
        digest(folder.path()).expect("a folder"),
        before,
        "names count"
    );
    assert!(digest(&at("z")).is_err());
}
