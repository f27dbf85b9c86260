//! `cwm data generate`, as a person uses it: levels, near-duplicates and coverage.

mod common;

use std::path::Path;

use common::{cwm, text};
use serde_json::Value as Json;

/// What the command says, and the levels of the programs it writes.
fn levels(folder: &Path, args: &str) -> (String, Vec<u64>) {
    let fixed = "data generate --seed 3 --count 40 --out a.jsonl";
    let args = fixed.split(' ').chain(args.split_whitespace());
    let output = cwm(folder, &args.collect::<Vec<_>>());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let written = std::fs::read_to_string(folder.join("a.jsonl")).expect("a file");
    let level = |line: &str| {
        let record: Json = serde_json::from_str(line).expect("JSON");
        record["origin"]["level"].as_u64().expect("a number")
    };
    (said, written.lines().map(level).collect())
}

#[test]
fn levels_are_mixed_as_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let of = |args: &str| levels(folder.path(), args).1;
    let usual = of("");
    assert!((1..=5).all(|level| usual.contains(&level)), "{usual:?}");
    assert!(of("--levels 0,0,0,0,1").iter().all(|&level| level == 5));
    assert!(!of("--levels 1,1,1,1").contains(&5));
    assert!(of("--levels 0,0,0,0,0,1").iter().all(|&level| level == 6));
    let wrong = cwm(
        folder.path(),
        &[
            "data", "generate", "--levels", "1,2", "--seed", "1", "--count", "1", "--out", "b",
        ],
    );
    let said = text(&wrong.stderr);
    assert!(said.contains("`1,2` is not six whole numbers"), "{said}");
}

#[test]
fn coverage_counts_what_was_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let (said, _) = levels(folder.path(), "--distinct all --coverage c.json");
    assert!(said.contains("builtins and methods"), "{said}");
    let read = std::fs::read_to_string(folder.path().join("c.json")).expect("a file");
    let coverage: Json = serde_json::from_str(&read).expect("JSON");
    assert_eq!(coverage["programs"], 40);
    assert!(coverage["functions"]["len"].as_u64() > Some(3), "{read}");
    assert!(coverage["statements"]["def"].as_u64() > Some(3), "{read}");
}
