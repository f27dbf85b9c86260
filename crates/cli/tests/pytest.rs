//! `cwm trace --pytest`, as a person uses it. Needs an interpreter with pytest, which
//! `CWM_PYTEST_PYTHONS` may name; without one the tests say that they skipped.

mod common;

use std::path::Path;
use std::process::Command;

use common::{cwm, text};
use serde_json::Value as Json;

const TESTS: &str = "\
def half(n):
    return n // 2

def halves(n):
    found = []
    while n:
        n = half(n)
        found.append(n)
    return found

def test_good():
    assert halves(4) == [2, 1, 0]

def test_bad():
    assert half(3) == 2
";

/// A Python with pytest.
fn python() -> Option<String> {
    let named = std::env::var("CWM_PYTEST_PYTHONS").unwrap_or_default();
    let found = named.split(':').chain(["python3"]).find(|python| {
        let output = Command::new(python).args(["-c", "import pytest"]).output();
        output.is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        eprintln!("SKIPPED: no Python with pytest");
    }
    found.map(str::to_owned)
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("test_halves.py"), TESTS).expect("a file");
    folder
}

fn index(folder: &Path, name: &str) -> Vec<Json> {
    let text = std::fs::read_to_string(folder.join(name).join("index.jsonl")).expect("an index");
    let lines = text.lines().map(serde_json::from_str);
    lines.map(|line| line.expect("a line of JSON")).collect()
}

#[test]
fn tests_become_a_folder_of_traces() {
    let Some(python) = python() else { return };
    let folder = folder();
    let base = ["trace", "--pytest", "--python", &python, "--out"];
    let run = |name: &str, more: &[&str]| {
        let pytest = ["--", "-p", "no:cacheprovider"];
        let output = cwm(folder.path(), &[&base[..], &[name], more, &pytest].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        (index(folder.path(), name), output)
    };
    let (lines, output) = run("all", &[]);
    assert!(
        text(&output.stdout).contains("1 failed, 1 passed"),
        "{}",
        text(&output.stdout)
    );
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["test"], "test_halves.py::test_good");
    assert_eq!(
        (&lines[0]["outcome"], &lines[1]["outcome"]),
        (&"passed".into(), &"failed".into())
    );
    assert_eq!(lines[0]["frames"], 26);
    let shown = cwm(folder.path(), &["trace", "view", "all/000000.json"]);
    assert!(
        text(&shown.stdout).contains("call halves  # n = 4"),
        "{}",
        text(&shown.stdout)
    );
    let counts = cwm(folder.path(), &["trace", "view", "all", "--json"]);
    assert!(
        text(&counts.stdout).contains("\"traces\":2"),
        "{}",
        text(&counts.stderr)
    );

    let (lines, _) = run("shallow", &["--stack-depth", "1"]);
    assert_eq!(lines[0]["frames"], 17);
    let (lines, _) = run("over", &["--step-in", "0", "--seed", "7"]);
    assert_eq!(lines[0]["frames"], 5);
    let (lines, output) = run("calls", &["--per-call", "--dialect", "cwm", "--json"]);
    let functions: Vec<_> = lines.iter().map(|line| line["function"].as_str()).collect();
    let (half, halves) = (Some("half"), Some("halves"));
    let good = [None, Some("test_good"), halves, half, half, half];
    let bad = [None, Some("test_bad"), half];
    assert_eq!(functions, [&good[..], &bad].concat());
    let summary: Json = serde_json::from_slice(&output.stdout).expect("JSON only");
    assert_eq!(
        (&summary["traces"], &summary["status"]),
        (&9.into(), &1.into())
    );
    let file = folder
        .path()
        .join("calls")
        .join(lines[3]["file"].as_str().expect("a file"));
    let trace = std::fs::read_to_string(file).expect("a trace");
    assert_eq!(cwm_trace::cwm::parse(&trace).broken, None);

    let again = cwm(folder.path(), &[&base[..], &["all"]].concat());
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("choose a folder that holds no traces"));
    let none = cwm(
        folder.path(),
        &[&base[..], &["none", "--", "-k", "nothing"]].concat(),
    );
    assert!(
        text(&none.stderr).contains("pytest found no tests"),
        "{}",
        text(&none.stderr)
    );
}

#[test]
fn what_does_not_go_together_is_refused() {
    let folder = folder();
    for args in [
        &["trace", "--pytest"][..],
        &["trace", "--pytest", "--out", "x", "--timeout", "3"],
        &["trace", "--pytest", "--out", "x", "--entry", "f"],
        &["trace", "--pytest", "--out", "x", "--double-run"],
        &["trace", "p.py", "--stack-depth", "1"],
    ] {
        let output = cwm(folder.path(), args);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?} {}",
            text(&output.stderr)
        );
    }
    for (args, said) in [
        (["--step-in", "2"], "between 0 and 1"),
        (["--include", "gone"], "there is no `gone`"),
    ] {
        let output = cwm(
            folder.path(),
            &[&["trace", "--pytest", "--out", "x"], &args[..]].concat(),
        );
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output.stderr).contains(said),
            "{}",
            text(&output.stderr)
        );
    }
}
