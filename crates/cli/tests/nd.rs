//! `cwm trace --dialect nd`, as a person uses it.

mod common;

use std::path::Path;

use common::{cwm, text};
use cwm_trace::Trace;
use cwm_trace::nd::{Direction, Document, Extent, Parsed, Sampling, parse, sample};
use serde_json::Value as Json;

const PROGRAM: &str = "\
def count(text, letter):
    total = 0
    for ch in text:
        if ch == letter:
            total += 1
    return total
";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("p.py"), PROGRAM).expect("a file");
    folder
}

/// What is printed for one call of the program.
fn traced(folder: &Path, dialect: &[&str]) -> String {
    let call = ["trace", "p.py", "--entry", "count", "--args", "'ab', 'b'"];
    let output = cwm(folder, &[&call[..], &["--dialect"], dialect].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn read(text: &str) -> Document {
    let Parsed { document, broken } = parse(text);
    assert_eq!(broken, None, "{text}");
    document
}

fn sampled(trace: &Trace, direction: Direction, seed: u64, number: u64) -> Document {
    let extent = Extent::Run;
    let sampling = Sampling {
        direction,
        extent,
        seed,
    };
    sample(trace, &sampling, number)
}

#[test]
fn a_text_is_a_function_of_seed_and_direction() {
    let folder = folder();
    let json = traced(folder.path(), &["json"]);
    let trace = cwm_trace::jsonl::read(json.as_bytes()).expect("a trace");
    let unseeded = traced(folder.path(), &["nd"]);
    assert_eq!(read(&unseeded), sampled(&trace, Direction::Forward, 0, 0));
    for (seed, number) in [("1", 1), ("2", 2), ("3", 3)] {
        let forward = traced(folder.path(), &["nd", "--seed", seed]);
        assert!(
            forward.contains("\ndef main():\n    return count('ab', 'b')\n"),
            "{forward}"
        );
        let expected = sampled(&trace, Direction::Forward, number, 0);
        assert_eq!(read(&forward), expected);

        let flags = ["nd", "--direction", "inverse", "--seed", seed];
        let inverse = traced(folder.path(), &flags);
        let start = "<|inv_return_sep|><|src_sep|>    return total\n<|arg_sep|>\"1\"";
        let end = "<|inv_exit_entry|><|trace_end|><|end_of_text|>\n";
        assert!(
            inverse.contains(start) && inverse.ends_with(end),
            "{inverse}"
        );
        let expected = sampled(&trace, Direction::Inverse, number, 0);
        assert_eq!(read(&inverse), expected);
    }
}

#[test]
fn each_of_many_calls_has_a_walk_of_its_own() {
    let folder = folder();
    let call = "{\"function\": \"count\", \"args\": [\"'abcb'\", \"'b'\"]}\n";
    std::fs::write(folder.path().join("c.jsonl"), call.repeat(20)).expect("a file");
    let calls = ["trace", "p.py", "--calls", "c.jsonl", "--dialect"];
    let printed = |dialect: &[&str]| -> Vec<Json> {
        let output = cwm(folder.path(), &[&calls[..], dialect].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let lines = text(&output.stdout);
        let lines = lines.lines().map(serde_json::from_str::<Json>);
        lines
            .map(|line| line.expect("JSON")["trace"].take())
            .collect()
    };
    let traces = printed(&["json"]);
    let texts = printed(&["nd", "--seed", "9"]);
    assert_eq!((traces.len(), texts.len()), (20, 20));
    let mut different = std::collections::HashSet::new();
    for (number, (trace, text)) in traces.into_iter().zip(&texts).enumerate() {
        let trace = serde_json::from_value(trace).expect("a trace");
        let text = text.as_str().expect("a text");
        let expected = sampled(&trace, Direction::Forward, 9, number as u64);
        assert_eq!(read(text), expected);
        different.insert(text);
    }
    assert!(different.len() > 10, "{}", different.len());
}

#[test]
fn the_help_tells_and_idle_options_are_refused() {
    let folder = folder();
    let help = text(&cwm(folder.path(), &["trace", "--help"]).stdout);
    for said in [
        "- nd:",
        "--direction <DIRECTION>",
        "--seed <N>",
        "- inverse:",
    ] {
        assert!(help.contains(said), "`{said}` is not in:\n{help}");
    }
    for (flags, said) in [
        (&["--seed", "1"][..], "--seed decides nothing here"),
        (&["--dialect", "live", "--seed", "1"], "`--dialect nd`"),
        (
            &["--direction", "inverse"],
            "--direction is for the dialect nd",
        ),
    ] {
        let output = cwm(folder.path(), &[&["trace", "p.py"], flags].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(said), "{error}");
    }
}
