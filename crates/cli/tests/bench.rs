//! `cwm bench` with weights that were packed by an earlier run.

mod common;

use std::fs;
use std::path::Path;

use common::{Run, cwm};
use serde_json::Value;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/nano");

/// One generated token of a model, with the cache in `packed`.
fn bench(folder: &Path, model: &str, more: &[&str]) -> Run {
    let arguments: [&[&str]; 3] = [
        &["bench", "--model", model, "--packed-cache", "packed"],
        &["--pp", "0", "--tg", "1", "--repetitions", "1"],
        more,
    ];
    Run {
        output: cwm(folder, &arguments.concat()),
    }
}

fn field(run: &Run) -> Value {
    let value: Value = serde_json::from_str(&run.stdout()).expect("one JSON object");
    value["packed_cache"].clone()
}

#[test]
fn the_second_run_reads_what_the_first_has_packed() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = bench(folder.path(), MODEL, &["--json"]).succeeds();
    assert_eq!(field(&first), "written");
    assert!(
        first
            .stderr()
            .contains("note: wrote packed weights to `packed/")
    );
    let second = bench(folder.path(), MODEL, &["--json"]).succeeds();
    assert_eq!(field(&second), "read");
    assert!(
        second
            .stderr()
            .contains("note: read packed weights from `packed/")
    );

    let files = fs::read_dir(folder.path().join("packed")).expect("it was made");
    let files: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    fs::write(&files[0], "CWMPACK").expect("writable");
    let third = bench(folder.path(), MODEL, &[]).succeeds();
    assert!(
        third.stderr().contains("is cut short"),
        "{}",
        third.stderr()
    );
    assert!(third.stdout().contains("packed in"), "{}", third.stdout());
    let fourth = bench(folder.path(), MODEL, &[]).succeeds();
    assert!(fourth.stdout().contains("read in"), "{}", fourth.stdout());
}

#[test]
fn a_cache_that_cannot_be_written_is_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("packed"), "a file, no folder").expect("writable");
    let run = bench(folder.path(), MODEL, &["--json"]).succeeds();
    assert_eq!(field(&run), "unused");
    assert!(
        run.stderr()
            .contains("warning: the packed weights are not kept")
    );
}

#[test]
fn random_weights_have_no_cache() {
    let folder = tempfile::tempdir().expect("a folder");
    bench(folder.path(), "preset:m30", &[]).fails_with(&["random weights", "--packed-cache"]);
    assert!(!folder.path().join("packed").exists());
}

#[test]
fn without_a_gpu_the_processor_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    // No driver has so many.
    for how in [&["bench"][..], &["bench", "trace", "program.py"]] {
        let arguments = [how, &["--device", "cuda:4096"]].concat();
        let run = Run {
            output: cwm(folder.path(), &arguments),
        };
        run.fails_with(&["--device cpu"]);
    }
}
