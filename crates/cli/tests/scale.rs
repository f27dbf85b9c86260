//! Ladders with the real binary, from a plan to a page.

mod common;

use std::fs;
use std::path::Path;

use common::Run;
use serde_json::Value;

fn cwm(folder: &Path, args: &[&str]) -> Run {
    let output = common::cwm(folder, args);
    Run { output }
}

/// Three sizes that need no file and whose runs take a moment.
const LADDER: &str = r#"
data = "arithmetic"
row_tokens = 32
compute = [4e7, 8e7]

[optimizer]
kind = "adamw"

[schedule]
warmup = 0.1
decay = 0.2

[search]
kind = "quasi-random"
points = 9
lr = [1e-3, 1e-1]
batch_tokens = [32, 512]

[[size]]
name = "a"
hidden_size = 8
n_layers = 1
n_heads = 2
n_kv_heads = 1
head_dim = 4
intermediate_size = 16

[[size]]
name = "b"
hidden_size = 12
n_layers = 1
n_heads = 2
n_kv_heads = 1
head_dim = 4
intermediate_size = 24

[[size]]
name = "c"
hidden_size = 16
n_layers = 1
n_heads = 2
n_kv_heads = 1
head_dim = 8
intermediate_size = 32
"#;

#[test]
fn a_ladder_goes_from_a_plan_to_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("L.toml"), LADDER).unwrap();
    let said = cwm(here, &["scale", "plan", "L.toml", "--out", "ladder"])
        .succeeds()
        .stdout();
    assert!(said.contains("has 54 runs, 54 of them new"), "{said}");
    cwm(here, &["scale", "fit", "ladder"]).fails_with(&["is done", "cwm scale run"]);

    let part = [
        "scale",
        "run",
        "ladder",
        "--threads",
        "2",
        "--max-runs",
        "2",
    ];
    let part = cwm(here, &part).succeeds();
    assert_eq!(part.stdout(), "2 runs done, 0 diverged, 52 still planned\n");
    assert!(part.stderr().contains("run 2 of 2 `"), "{}", part.stderr());
    let all = cwm(here, &["scale", "run", "ladder"]).succeeds().stdout();
    assert!(all.ends_with(" 0 still planned\n"), "{all}");
    let table = fs::read_to_string(here.join("ladder/runs.csv")).unwrap();
    assert_eq!(
        (table.lines().count(), table.matches(",planned,").count()),
        (55, 0)
    );

    let said = cwm(here, &["scale", "fit", "ladder"]).succeeds().stdout();
    assert!(said.starts_with("54 runs are done, 0 diverged"), "{said}");
    for part in ["by\n  4", " *  ", "Best size of each budget", "isoFLOP"] {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
    let args = [
        "scale",
        "fit",
        "ladder",
        "--json",
        "--html",
        "page.html",
        "--predict",
        "1e9",
    ];
    let json = cwm(here, &args).succeeds().stdout();
    let fit: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(fit["budgets"].as_array().unwrap().len(), 2);
    assert_eq!(fit["budgets"][0]["sizes"][2]["size"], "c");
    assert_eq!(fit["predictions"][0]["compute"], 1e9);
    let page = fs::read_to_string(here.join("page.html")).unwrap();
    assert!(
        page.contains("<svg")
            && page.contains("Scaling laws of ladder")
            && !page.contains("<script")
    );
}

/// A table of runs about CWM's published laws: 25 runs at each of 8 budgets.
fn published() -> String {
    let mut table = String::from(
        "id,size,n_params,n_params_ne,flops_per_token,tokens,steps,batch_tokens,lr,seed,state,loss,seconds\n",
    );
    // Noise that is the same everywhere: a linear congruence.
    let mut state = 12345u64;
    for budget in 0..8 {
        let compute = 2e18 * 100f64.powf(f64::from(budget) / 7.0);
        let (lr, batch) = (19.29 * compute.powf(-0.177), 30.17 * compute.powf(0.231));
        for i in -2i32..=2 {
            for j in -2i32..=2 {
                let (u, v) = (0.6 * f64::from(i) + 0.2, 0.6 * f64::from(j) - 0.1);
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let noise = (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5;
                let loss =
                    2.5 - 0.1 * f64::from(budget) + 0.05 * u * u + 0.02 * v * v + 0.004 * noise;
                let batch = (batch * v.exp()).round();
                let steps = (compute / 6e8 / batch).round();
                table.push_str(&format!(
                    "r{budget}_{i}_{j},s,100000000,100000000,600000000,{},{steps},{batch},{},1,done,{loss},\n",
                    steps * batch,
                    lr * u.exp(),
                ));
            }
        }
    }
    table
}

#[test]
fn the_published_laws_come_out_of_a_table() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("runs.csv"), published()).unwrap();
    let args = [
        "scale",
        "fit",
        "runs.csv",
        "--json",
        "--predict",
        "2e19",
        "--predict",
        "1.64e24",
    ];
    let json = cwm(folder.path(), &args).succeeds().stdout();
    let fit: Value = serde_json::from_str(&json).unwrap();
    let laws = &fit["laws"];
    for (law, name, value) in [
        ("lr", "a", 19.29),
        ("lr", "b", -0.177),
        ("batch_tokens", "a", 30.17),
        ("batch_tokens", "b", 0.231),
    ] {
        let estimate = &laws[law][name];
        let [low, high] = ["low", "high"].map(|end| estimate[end].as_f64().expect("an interval"));
        assert!((low..=high).contains(&value), "{law} {name}: {estimate}");
    }
    let lr = fit["predictions"][0]["lr"]["value"].as_f64().unwrap();
    assert!(
        (lr / (19.29 * 2e19f64.powf(-0.177)) - 1.0).abs() < 0.02,
        "{lr}"
    );
    assert_eq!(fit["predictions"][0]["extrapolation"], 1.0);
    assert!(fit["laws"]["loss_of_size_and_tokens"].is_null());
    let notes = fit["notes"].to_string();
    assert!(
        notes.contains("L(N, D) is not fitted: there are"),
        "{notes}"
    );

    let text = cwm(folder.path(), &["scale", "fit", "runs.csv"])
        .succeeds()
        .stdout();
    assert!(
        text.contains("Each budget, predicted from the others"),
        "{text}"
    );
}

#[test]
fn what_is_wrong_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let plan = |ladder: &str| {
        fs::write(here.join("L.toml"), ladder).unwrap();
        cwm(here, &["scale", "plan", "L.toml", "--out", "ladder"])
    };
    plan(&LADDER.replace("points", "dots")).fails_with(&["`L.toml` describes no ladder", "dots"]);
    plan(LADDER).succeeds();
    plan(&LADDER.replace("warmup = 0.1", "warmup = 0.3"))
        .fails_with(&["another `schedule`", "choose another folder"]);
    cwm(here, &["scale", "run", "nowhere"]).fails_with(&["cannot read `nowhere/ladder.toml`"]);
    let table = fs::read_to_string(here.join("ladder/runs.csv")).unwrap();
    fs::write(
        here.join("bad.csv"),
        table.replacen(",planned,", ",ready,", 1),
    )
    .unwrap();
    cwm(here, &["scale", "fit", "bad.csv"])
        .fails_with(&["`bad.csv` is no table of runs: line 2, column `state`: `ready`"]);
    let wrong = cwm(here, &["scale", "fit", "ladder", "--predict", "-3"]);
    assert_eq!(wrong.output.status.code(), Some(2));
}
