//! `cwm train watch` and `cwm train report` on a run made by `cwm train`.

mod common;

use std::path::Path;
use std::process::Command;

use common::Run;
use serde_json::Value;
use tempfile::TempDir;

fn cwm(folder: &Path, args: &[&str]) -> Run {
    Run {
        output: common::cwm(folder, args),
    }
}

const TRAIN: [&str; 19] = [
    "train",
    "--data",
    "d.jsonl",
    "--held-out",
    "h.jsonl",
    "--out",
    "run",
    "--preset",
    "tiny",
    "--batch-tokens",
    "512",
    "--warmup",
    "1",
    "--decay",
    "1",
    "--checkpoint-every",
    "2",
    "--eval-every",
    "2",
];

/// A folder with a run of 5 steps, resumed once, in `run`; and what training said.
fn trained() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for (file, seed) in [("d.jsonl", "7"), ("h.jsonl", "8")] {
        let generate = [
            "data",
            "generate",
            "--count",
            "20",
            "--levels",
            "25,35,25,15",
        ];
        cwm(
            at,
            &[&generate[..], &["--seed", seed, "--out", file]].concat(),
        )
        .succeeds();
    }
    let first = cwm(at, &[&TRAIN[..], &["--steps", "4"]].concat()).succeeds();
    cwm(at, &[&TRAIN[..], &["--steps", "5", "--resume"]].concat()).succeeds();
    (folder, first.stderr())
}

#[test]
fn a_run_can_be_watched_and_reported() {
    let (folder, said) = trained();
    let at = folder.path();
    assert_eq!(said.matches("cwm train watch run").count(), 1, "{said}");
    let before = std::fs::read(at.join("run/train.jsonl")).expect("a log");

    // Standard output is no terminal here.
    for args in [
        &["train", "watch", "run"][..],
        &["train", "watch", "run", "--once"],
    ] {
        let summary = cwm(at, args).succeeds().stdout();
        for line in [
            "run               run\n",
            "status            finished\n",
            "step              5 of 5\n",
            "resumptions       1\n",
        ] {
            assert!(summary.contains(line), "{line}{summary}");
        }
        assert!(summary.contains("held-out loss"), "{summary}");
    }
    let json = cwm(at, &["train", "watch", "run", "--json"])
        .succeeds()
        .stdout();
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["figures"]["status"], "finished");
    assert_eq!(
        json["state"]["train"]["all"]["loss"]["points"]
            .as_array()
            .map(Vec::len),
        Some(5)
    );
    assert_eq!(json["state"]["checkpoint"]["name"], "step-000005");

    let log = "run/train.jsonl";
    let report = ["train", "report", "run", log];
    let out = [
        "--out",
        "page.html",
        "--csv",
        "t.csv",
        "--tensorboard",
        "tb",
        "--json",
    ];
    let both = cwm(at, &[&report[..], &out].concat()).succeeds().stdout();
    let both: Value = serde_json::from_str(&both).expect("JSON");
    assert_eq!(both[0]["state"], both[1]["state"]);
    assert_eq!(both[1]["run"], "run-2");
    let page = std::fs::read_to_string(at.join("page.html")).expect("a page");
    for part in [
        "<svg",
        "run-2: all targets",
        "Norm of the gradient",
        "Environment",
        "</html>",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let table = std::fs::read_to_string(at.join("t.csv")).expect("a table");
    let rows = |start: &str| table.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((rows("run,step,"), rows("run-2,step,")), (5, 5));
    assert_eq!(rows("run,evaluation,"), rows("run-2,evaluation,"));
    assert!(
        at.join("tb/run-2/events.out.tfevents.0000000000.cwm")
            .is_file()
    );

    let after = std::fs::read(at.join("run/train.jsonl")).expect("a log");
    assert!(before == after, "who watches does not write");
    tensorboard_reads(&at.join("tb/run"));
}

/// Has TensorBoard's own reader read what was written, where it is installed.
fn tensorboard_reads(dir: &Path) {
    const SCRIPT: &str = "
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
print([event.step for event in events.Scalars('train/loss')])
";
    let has = Command::new("python3")
        .args(["-c", "import tensorboard"])
        .output();
    if !has.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no `python3` with the package `tensorboard`");
        return;
    }
    let read = Command::new("python3")
        .args(["-c", SCRIPT])
        .arg(dir)
        .output();
    let read = read.expect("python runs");
    let (said, erred) = (common::text(&read.stdout), common::text(&read.stderr));
    assert_eq!(said.trim(), "[1, 2, 3, 4, 5]", "{erred}");
}

#[test]
fn what_is_no_run_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for name in ["empty", "other"] {
        std::fs::create_dir(at.join(name)).expect("a folder");
    }
    std::fs::write(at.join("empty/train.jsonl"), "").expect("disk");
    std::fs::write(at.join("other/train.jsonl"), "{\"level\":\"info\"}\n").expect("disk");
    for command in [&["train", "watch"][..], &["train", "report", "--json"]] {
        for name in ["absent", "empty"] {
            cwm(at, &[command, &[name]].concat()).fails_with(&[
                "no run in",
                name,
                "cwm train --out",
            ]);
        }
        cwm(at, &[command, &["other"]].concat()).fails_with(&["is not the log of a training run"]);
    }
    std::fs::write(at.join("keep.csv"), "kept").expect("disk");
    for (name, part) in [
        ("other", "is not the log"),
        ("absent", "no run in `absent`"),
    ] {
        let report = ["train", "report", name, "--csv", "keep.csv"];
        let said = cwm(at, &report).fails_with(&[part]).stderr();
        assert!(!said.contains("keep.csv"), "{said}");
    }
    let kept = std::fs::read_to_string(at.join("keep.csv")).expect("a file");
    assert_eq!(kept, "kept");
    assert!(!at.join("keep.csv.partial").exists());
}

#[test]
fn the_command_line_of_training_stays_strict() {
    let folder = tempfile::tempdir().expect("a folder");
    let wrong: [(&[&str], &str); 7] = [
        (&["train"], "--data"),
        (&["train", "--data", "x"], "--out"),
        (&["train", "--row-tokens", "5"], "--data"),
        (
            &["train", "--data", "x", "--out", "y", "watch", "z"],
            "watch",
        ),
        (&["train", "watch"], "<RUN>"),
        (&["train", "report", "x"], "--out"),
        (&["train", "watch", "x", "--peak-tflops", "-1"], "positive"),
    ];
    for (args, part) in wrong {
        let output = common::cwm(folder.path(), args);
        let said = common::text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
    }
}
