//! `cwm eval suite` as a person would use it: sets of every kind, and files that are none.

mod common;

use std::path::{Path, PathBuf};

use common::{Run, cwm};
use serde_json::Value;

fn suite(folder: &Path, args: &[&str]) -> Run {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano");
    let all = ["eval", "suite", "--model", model.to_str().unwrap()];
    let args: Vec<&str> = all.iter().chain(args).copied().collect();
    Run {
        output: cwm(folder, &args),
    }
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const MBPP: &str = "\
{\"code\": \"def twice(a):\\r\\n  b = a + a\\r\\n  return b\", \"test_list\": [\"assert twice(2) == 4\", \"assert twice(missing) == 4\"]}
{\"code\": \"def same(a):\\n  return a\", \"test_list\": [\"assert same(7) == 7\"]}
";

const HUMANEVAL: &str = "{\"prompt\": \"def keep(a):\\n    \\\"\\\"\\\" As it is.\\n    >>> keep(1)\\n    1\\n    \\\"\\\"\\\"\\n\", \
\"canonical_solution\": \"    b = a\\n    return b\\n\", \"entry_point\": \"keep\", \
\"test\": \"def check(candidate):\\n    assert candidate(5) == 5\\n\"}\n";

const CRUXEVAL: &str = "{\"code\": \"def f(a):\\n    return a\", \"input\": \"3\", \"output\": \"3\", \"id\": \"a\"}\n";

#[test]
fn every_kind_of_set_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let mbpp = file(folder.path(), "mbpp.jsonl", MBPP);
    let humaneval = file(folder.path(), "humaneval.jsonl", HUMANEVAL);
    let cruxeval = file(folder.path(), "cruxeval.jsonl", CRUXEVAL);
    let scripts = folder.path().join("scripts");
    std::fs::create_dir(&scripts).unwrap();
    file(&scripts, "add.py", "x = 1\ny = x + 2\n");
    let run = suite(
        folder.path(),
        &[
            "--generated",
            "2",
            "--levels",
            "1,2",
            "--seed",
            "5",
            "--calls",
            "2",
            "--mbpp",
            &mbpp,
            "--humaneval",
            &humaneval,
            "--cruxeval",
            &cruxeval,
            "--scripts",
            scripts.to_str().unwrap(),
            "--json",
            "--page",
            "page.html",
        ],
    );
    let value: Value = serde_json::from_str(&run.succeeds().stdout()).unwrap();
    let sets = value["sets"].as_array().unwrap();
    let names: Vec<_> = sets
        .iter()
        .map(|set| set["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "level 1",
            "level 2",
            "mbpp",
            "humaneval",
            "cruxeval",
            "scripts"
        ]
    );
    let items: Vec<_> = sets
        .iter()
        .map(|set| set["items"].as_u64().unwrap())
        .collect();
    assert_eq!(items, [2, 2, 2, 1, 1, 1]);
    let [mbpp, humaneval, cruxeval] = [2, 3, 4].map(|index| &sets[index]);
    assert_eq!(mbpp["left_out"]["no call that can be run"], 1, "{mbpp}");
    // Call, two lines and a return; call, a line and a return. The first frame is given.
    assert_eq!(mbpp["counts"]["frame_exact"], 5, "{mbpp}");
    assert_eq!(mbpp["detail"]["by_kind"]["line"]["count"], 3, "{mbpp}");
    assert_eq!(mbpp["detail"]["by_kind"]["return"]["count"], 2, "{mbpp}");
    // `b`, and two values that are returned.
    assert_eq!(mbpp["detail"]["by_type"]["int"]["count"], 3, "{mbpp}");
    assert_eq!(mbpp["detail"]["by_depth"]["0"]["count"], 5, "{mbpp}");
    // Of five frames the first line of each function is next in the source, with locals as they were.
    let baselines = &mbpp["detail"]["baselines"];
    assert_eq!(baselines["next_line_frame"]["value"], 0.4, "{mbpp}");
    assert_eq!(baselines["next_line_action"]["value"], 0.6, "{mbpp}");
    assert_eq!(baselines["echo_output"]["value"], 0.5, "{mbpp}");
    assert_eq!(baselines["unchanged_state"]["count"], 3, "{mbpp}");
    // A docstring is stepped over.
    assert_eq!(humaneval["trace_exact"], 1.0, "{humaneval}");
    assert_eq!(cruxeval["detail"]["longest_exact"], 2, "{cruxeval}");
    let page = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    for part in [
        "<svg",
        "humaneval",
        "new values by type",
        "no call that can be run",
    ] {
        assert!(page.contains(part), "`{part}`");
    }
    assert!(!page.contains("http"), "the page needs nothing else");
}

#[test]
fn what_cannot_be_evaluated_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    suite(here, &["--generated", "0"]).fails_with(&["nothing to evaluate", "--generated"]);
    let wrong = file(here, "wrong.jsonl", "{\"code\": \"\"}\n");
    let none = ["--generated", "0", "--mbpp"];
    suite(here, &[&none[..], &[&wrong]].concat())
        .fails_with(&["wrong.jsonl", "line 1 is no problem"]);
    suite(here, &[&none[..], &["absent.jsonl"]].concat()).fails_with(&["absent.jsonl"]);
    suite(here, &["--levels", "9"]).fails_with(&["there is no level 9"]);
    suite(here, &["--generated", "0", "--scripts", "absent"]).fails_with(&["`absent`"]);
}
