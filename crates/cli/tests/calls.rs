//! `cwm trace FILE --calls CALLS`, as a person uses it.

mod common;

use common::{cwm, text};
use serde_json::Value as Json;

const PROGRAM: &str = "\
def add(a, b=1, **more):
    c = a + b
    return c, more
";

/// Calls of a program that imports this have a process each.
const LEAVE: &str = "\
def leave():
    import os
    os._exit(3)
";

/// A folder with a program and these calls.
fn folder(program: &str, calls: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("p.py"), program).expect("a file");
    std::fs::write(folder.path().join("c.jsonl"), calls).expect("a file");
    folder
}

fn lines(bytes: &[u8]) -> Vec<Json> {
    let lines = text(bytes);
    let lines = lines.lines().map(serde_json::from_str);
    lines.map(|line| line.expect("a line of JSON")).collect()
}

#[test]
fn each_call_is_a_line_and_bad_lines_are_told() {
    let calls =
        br#"{"function": "add", "args": ["[1] # one", "[2]"], "kwargs": {"z": "(3)", "a b": "4"}}
{"function": "add", "args": ["1, 2"]}

{"function": "add", "args": [1]}
no json
{"function": "add", "argumens": []}
{"function": "add", "kwargs": {"a": "1", "a": "2"}}
{"function": "leave"}
{"function": "gone"}
{"function": "add", "args": ["1)(2"]}
{"function": "add", "args": ["'x'"], "kwargs": {"b": "'y'"}}"#;
    let folder = folder(&format!("{PROGRAM}{LEAVE}"), calls);
    let output = cwm(folder.path(), &["trace", "p.py", "--calls", "c.jsonl"]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    for number in [4, 5, 6, 7] {
        let start = format!("warning: line {number} of `c.jsonl` is no call and left out: ");
        assert!(said.contains(&start), "{said}");
    }
    let lines = lines(&output.stdout);
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            format!(
                "{} {} {} {}",
                line["index"], line["line"], line["args"], line["outcome"]
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            r##"0 1 "([1] # one\n), ([2]), z=((3)), **{\"a b\": 4}" "finished""##,
            r#"1 2 "(1, 2)" "raised""#,
            r#"2 8 "" "left""#,
            r#"3 9 "" "refused""#,
            r#"4 10 "(1)(2)" "refused""#,
            r#"5 11 "'x', b='y'" "finished""#,
        ]
    );
    let value = |line: &Json| {
        let events = line["trace"]["events"].as_array().expect("events");
        events.last().expect("an event")["value"]["repr"].clone()
    };
    assert_eq!(value(&lines[0]), "([1, 2], {'z': 3, 'a b': 4})");
    assert_eq!(value(&lines[5]), "('xy', {})");
    assert_eq!(lines[2]["detail"], "status 3");
    assert!(lines[3]["trace"].is_null());
    assert!(
        said.contains("6 calls") && said.contains("lines left out: 4"),
        "{said}"
    );
}

#[test]
fn traces_go_to_a_file_and_the_summary_is_json() {
    let calls = r#"{"function": "add", "args": ["1"]}"#;
    let folder = folder(PROGRAM, &[calls; 1200].join("\n").into_bytes());
    let args = [
        "trace", "p.py", "--calls", "c.jsonl", "--out", "t.jsonl", "--json",
    ];
    let checks = [
        "--double-run",
        "--check-untraced",
        "--values=safe",
        "--dialect",
        "cwm",
    ];
    let output = cwm(folder.path(), &[&args[..], &checks[..]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let summary = &lines(&output.stdout)[0];
    assert_eq!(summary["calls"], 1200);
    assert_eq!(summary["outcomes"]["finished"], 1200);
    let traces = lines(&std::fs::read(folder.path().join("t.jsonl")).expect("a file"));
    assert_eq!(traces.len(), 1200);
    assert_eq!(traces[1199]["index"], 1199);
    let trace = traces[0]["trace"].as_str().expect("a text");
    assert_eq!(cwm_trace::cwm::parse(trace).broken, None);

    let output = cwm(folder.path(), &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = cwm(
        folder.path(),
        &["trace", "view", "t.jsonl", "--record", "7"],
    );
    assert!(
        text(&shown.stdout).contains("call add"),
        "{}",
        text(&shown.stderr)
    );
    let counts = cwm(folder.path(), &["trace", "view", "t.jsonl", "--json"]);
    assert_eq!(lines(&counts.stdout)[0]["traces"], 1200);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let folder = folder(PROGRAM, b"");
    for args in [
        &["trace", "p.py", "--calls", "c.jsonl", "--json"][..],
        &["trace", "p.py", "--calls", "c.jsonl", "--entry", "add"],
        &["trace", "--calls", "c.jsonl"],
        &["trace", "p.py", "--double-run"],
    ] {
        let output = cwm(folder.path(), args);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?} {}",
            text(&output.stderr)
        );
    }
    let output = cwm(
        folder.path(),
        &["trace", "p.py", "--calls", "nowhere.jsonl"],
    );
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("cannot read `nowhere.jsonl`"), "{said}");
}
