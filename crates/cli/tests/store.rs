//! Training with a store: what is lost on this machine comes back from there.

#![cfg(unix)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::Run;
use serde_json::Value;
use tempfile::TempDir;

/// Long enough to be killed on the way.
const STEPS: &str = "40";
const LAST: &str = "step-000040";
/// What a checkpoint consists of.
const PARTS: [&str; 4] = [
    "config.json",
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
];

/// A folder with training data.
fn with_data() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let generate = "data generate --seed 7 --count 60 --levels 25,35,25,15 --out d.jsonl";
    cwm(folder.path(), generate).succeeds();
    folder
}

fn cwm(folder: &Path, command: &str) -> Run {
    let args: Vec<&str> = command.split(' ').collect();
    let output = common::cwm(folder, &args);
    Run { output }
}

/// A command that trains into a folder.
fn train(out: &str, steps: &str) -> String {
    format!(
        "train --data d.jsonl --preset tiny --batch-tokens 512 --warmup 1 --decay 0 --threads 2 \
         --checkpoint-every 1 --steps {steps} --out {out}"
    )
}

fn assert_same_checkpoint(a: &Path, b: &Path) {
    for part in PARTS {
        let read = |folder: &Path| fs::read(folder.join(part)).unwrap();
        assert!(read(a) == read(b), "{part} differs");
    }
}

fn versions(folder: &Path, url: &str) -> Vec<String> {
    let listed = cwm(folder, &format!("store ls {url} --json")).succeeds();
    let listed: Value = serde_json::from_str(&listed.stdout()).unwrap();
    let versions = listed["versions"].as_array().unwrap();
    let name = |version: &Value| version["name"].as_str().unwrap().to_owned();
    versions.iter().map(name).collect()
}

/// Trains until there is a version in the store, and kills without warning.
fn train_and_kill(folder: &Path, command: &str, store: &str) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cwm"))
        .args(command.split(' '))
        .current_dir(folder)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let has_version = || {
        let entries = fs::read_dir(folder.join(store));
        entries.is_ok_and(|entries| entries.flatten().any(|e| e.path().join("READY").exists()))
    };
    for _ in 0..1200 {
        if has_version() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(has_version());
}

/// The file of a version in a local store.
fn stored_file(store: &Path, version: &str, file: &str) -> PathBuf {
    let entries = fs::read_dir(store.join(version)).unwrap().flatten();
    let mut contents = entries.map(|e| e.path()).filter(|path| path.is_dir());
    contents.next().unwrap().join(file)
}

#[test]
fn a_run_that_lost_its_folder_goes_on_from_the_store_with_the_same_bits() {
    let folder = with_data();
    let folder = folder.path();
    let at = |path: &str| folder.join(path);
    cwm(folder, &train("whole", STEPS)).succeeds();

    let url = format!("file://{}", at("store").display());
    let command = format!("{} --store {url}", train("lost", STEPS));
    train_and_kill(folder, &command, "store");
    fs::remove_dir_all(at("lost")).unwrap();
    let resumed = cwm(folder, &format!("{command} --resume"))
        .succeeds()
        .stderr();
    assert!(resumed.contains("fetched `step-"), "{resumed}");
    assert!(resumed.contains(&format!("stored `{LAST}`")), "{resumed}");
    assert_same_checkpoint(&at("whole").join(LAST), &at("lost").join(LAST));
    let left: Vec<_> = fs::read_dir(at("lost"))
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().starts_with('.')),
        "{left:?}"
    );

    let there = versions(folder, &url);
    assert!(there.len() == 2 && there[1] == LAST, "{there:?}");
    cwm(folder, &format!("store get {url} --out model")).succeeds();
    assert_same_checkpoint(&at("whole").join(LAST), &at("model"));
    cwm(folder, &format!("store get {url} {} --out older", there[0])).succeeds();
    cwm(folder, &format!("store get {url} --out model")).fails_with(&["already there"]);
    cwm(folder, &format!("store get {url} step-1 --out other"))
        .fails_with(&["no version `step-1`"]);

    // Another run has to look for another place.
    fs::remove_dir_all(at("lost")).unwrap();
    cwm(folder, &command).fails_with(&["already has checkpoints", LAST, "--resume"]);

    // What is damaged is passed over, and made good once the run comes to it again.
    fs::write(
        stored_file(&at("store"), LAST, "model.safetensors"),
        "damaged",
    )
    .unwrap();
    cwm(folder, &format!("store get {url} --out broken"))
        .fails_with(&["model.safetensors", "damaged"]);
    assert!(!at("broken").exists());
    let resumed = cwm(folder, &format!("{command} --resume"))
        .succeeds()
        .stderr();
    assert!(
        resumed.contains(&format!("passed over `{LAST}`")),
        "{resumed}"
    );
    assert!(
        resumed.contains(&format!("fetched `{}`", there[0])),
        "{resumed}"
    );
    cwm(folder, &format!("store get {url} --out again")).succeeds();
    assert_same_checkpoint(&at("whole").join(LAST), &at("again"));
}

#[test]
fn a_store_that_fails_does_not_end_the_run_and_is_caught_up_with() {
    let folder = with_data();
    let folder = folder.path();
    // A file where a folder has to be.
    fs::create_dir(folder.join("store")).unwrap();
    let obstacle = folder.join("store/step-000001");
    fs::write(&obstacle, "").unwrap();
    let command = format!("{} --store store", train("run", "1"));
    let run = cwm(folder, &command);
    assert!(
        run.stderr().contains("finished at step 1 of 1"),
        "{}",
        run.stderr()
    );
    assert!(
        run.stderr()
            .contains("warning: `step-000001` was not stored"),
        "{}",
        run.stderr()
    );
    run.fails_with(&["`step-000001`, is not in the store `store`", "--resume"]);
    assert!(folder.join("run/step-000001/state.json").exists());

    fs::remove_file(obstacle).unwrap();
    let resumed = cwm(folder, &format!("{command} --resume"))
        .succeeds()
        .stderr();
    assert!(!resumed.contains("fetched"), "{resumed}");
    assert!(
        resumed.contains("stored `step-000001` in `store`"),
        "{resumed}"
    );
    assert_eq!(versions(folder, "store"), ["step-000001"]);
}

#[test]
fn stores_that_cannot_be_used_are_refused_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("run")).unwrap();
    let with = |store: &str| format!("{} --store {store}", train("run", "1"));
    cwm(folder, &with("gs://a/b")).fails_with(&["`gs://` is not supported", "s3://BUCKET/PREFIX"]);
    cwm(folder, &with("run")).fails_with(&["--store is the folder of --out"]);
    #[cfg(not(feature = "s3"))]
    cwm(folder, &with("s3://a/b")).fails_with(&["without S3", "--features s3"]);
    cwm(folder, "store ls nowhere").fails_with(&["no store in `nowhere`"]);
    assert!(!folder.join("nowhere").exists());
    let empty = cwm(folder, "store ls run").succeeds();
    assert_eq!(empty.stdout(), "");
    cwm(folder, "store get run --out a").fails_with(&["there is nothing in `run`"]);
}
