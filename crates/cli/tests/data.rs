//! Looking at recorded programs with the real binary.

mod common;

use std::fs;
use std::path::Path;

use common::Run;
use serde_json::Value;

fn cwm(args: &[&str]) -> Run {
    let output = common::cwm(Path::new("."), args);
    Run { output }
}

/// A small folder of data, and where it lies.
fn build(folder: &Path, seed: u32) -> String {
    let recipe = folder.join(format!("{seed}.toml"));
    let text = format!(
        "seed = {seed}\nrecords_per_shard = 20\n[[source]]\nkind = 'generated'\nname = 'some'\ncount = 50\nlevels = [1, 1, 1, 1]\n"
    );
    fs::write(&recipe, text).unwrap();
    let out = folder.join(format!("out{seed}")).display().to_string();
    cwm(&[
        "data",
        "build",
        &recipe.display().to_string(),
        "--out",
        &out,
    ])
    .succeeds();
    out
}

#[test]
fn statistics_are_those_of_the_records() {
    let folder = tempfile::tempdir().unwrap();
    let out = build(folder.path(), 1);
    let html = folder.path().join("page.html").display().to_string();
    let said = cwm(&["data", "stats", &out, "--json", "--html", &html])
        .succeeds()
        .stdout();
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&report["records"], &report["groups"]),
        (&50.into(), &50.into())
    );
    assert_eq!(report["licences"]["MIT OR Apache-2.0"], 50);
    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(format!("{out}/manifest.json")).unwrap()).unwrap();
    assert_eq!(
        report["runs"]["events"],
        manifest["sources"][0]["report"]["frames"]
    );
    let sum = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .values()
            .map(|n| n.as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(sum(&report["results"]) + sum(&report["exceptions"]), 50);
    // One shard holds less.
    let part = cwm(&["data", "stats", &format!("{out}/some-00002.parquet")])
        .succeeds()
        .stdout();
    assert!(part.starts_with("10 records of "), "{part}");

    let page = fs::read_to_string(html).unwrap();
    for part in [
        "<!DOCTYPE html>",
        "Events of a run",
        "generated, level 2",
        "</html>",
    ] {
        assert!(page.contains(part), "{part}");
    }
    for foreign in ["<script", "http://", "https://", "src=", "@import"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn records_are_found_drawn_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let out = build(folder.path(), 2);
    let drawn = cwm(&["data", "sample", &out, "--count", "5", "--seed", "9"])
        .succeeds()
        .stdout();
    assert_eq!(drawn.lines().count(), 5);
    let again = cwm(&["data", "sample", &out, "--count", "5", "--seed", "9"])
        .succeeds()
        .stdout();
    assert_eq!(drawn, again);
    let other = cwm(&["data", "sample", &out, "--count", "5", "--seed", "10"])
        .succeeds()
        .stdout();
    assert_ne!(drawn, other);

    let name = drawn.split_whitespace().next().unwrap();
    let shown = cwm(&["data", "show", &out, name]).succeeds().stdout();
    assert!(
        shown.starts_with(&format!("{name}\ngenerated: seed ")),
        "{shown}"
    );
    let json = cwm(&["data", "show", &out, name, "--json"])
        .succeeds()
        .stdout();
    let record: Value = serde_json::from_str(&json).unwrap();
    assert!(shown.contains(record["trace"]["source"].as_str().unwrap()));
    let first = cwm(&["data", "show", &out, "0", "--json"])
        .succeeds()
        .stdout();
    assert!(serde_json::from_str::<Value>(&first).unwrap()["id"].is_string());
    cwm(&["data", "show", &out, "77"]).fails_with(&["has 50 records"]);
    cwm(&["data", "show", &out, "nobody"]).fails_with(&["no record `nobody`", "cwm data sample"]);

    let some = folder.path().join("some.jsonl").display().to_string();
    cwm(&["data", "sample", &out, "--count", "7", "--out", &some]).succeeds();
    let stats = cwm(&["data", "stats", &some]).succeeds().stdout();
    assert!(stats.starts_with("7 records of "), "{stats}");
    cwm(&["data", "stats", &folder.path().display().to_string()]).fails_with(&["holds no shards"]);
    cwm(&["data", "stats", "nowhere.jsonl"]).fails_with(&["cannot read `nowhere.jsonl`"]);
}

#[test]
fn differences_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = build(folder.path(), 3);
    let same = cwm(&["data", "diff", &out, &out]).succeeds().stdout();
    assert_eq!(same, "50 records are the same in both\n");
    let all = folder.path().join("all.jsonl");
    cwm(&[
        "data",
        "sample",
        &out,
        "--count",
        "50",
        "--out",
        &all.display().to_string(),
    ])
    .succeeds();
    let mut lines: Vec<Value> = fs::read_to_string(&all)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let gone = lines.remove(0)["id"].as_str().unwrap().to_owned();
    lines[0]["trace"]["source"] = "x = 1\n".into();
    lines[1]["trace"]["stdout"] = "other".into();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&all, text).unwrap();
    let said = cwm(&["data", "diff", &out, &all.display().to_string(), "--json"])
        .succeeds()
        .stdout();
    let difference: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(difference["same"], 47);
    assert_eq!(difference["only_first"], Value::from(vec![gone]));
    assert_eq!(
        difference["other_program"],
        Value::from(vec![lines[0]["id"].clone()])
    );
    assert_eq!(
        difference["other_run"],
        Value::from(vec![lines[1]["id"].clone()])
    );
    let said = cwm(&["data", "diff", &out, &all.display().to_string()])
        .succeeds()
        .stdout();
    assert!(
        said.contains("1 with another run of the same program"),
        "{said}"
    );
}
