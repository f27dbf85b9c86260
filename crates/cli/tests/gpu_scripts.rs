//! The scripts for a machine with a GPU, rehearsed on the processor with tiny sizes.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Runs a script with these settings; what it leaves is in the folder `out` of `dir`.
fn script(name: &str, dir: &Path, settings: &[(&str, &str)]) -> Output {
    Command::new("bash")
        .arg(format!("scripts/gpu/{name}"))
        .current_dir(ROOT)
        .env("CWM", env!("CARGO_BIN_EXE_cwm"))
        .env("OUT", dir.join("out"))
        .env("RUNS", dir.join("runs"))
        .envs(settings.iter().copied())
        .output()
        .expect("bash runs")
}

fn assert_success(output: &Output) {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{err}");
}

#[test]
fn a_leg_of_training_leaves_weights_in_parts_and_the_next_goes_on() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let settings = [
        ("DEVICE", "cpu"),
        ("STAGE", "scripts/gpu/rehearsal.toml"),
        ("COUNT", "16"),
        ("WORKERS", "2"),
        ("LEG_SECONDS", "120"),
    ];
    assert_success(&script("train-nano.sh", dir.path(), &settings));
    let out = dir.path().join("out");
    let read =
        |name: &str| fs::read(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    // Small weights are one part; joined they are the file.
    let joined = read("model.safetensors.part-aa");
    let whole = fs::read(dir.path().join("runs/model/model.safetensors")).expect("exported");
    assert_eq!(joined, whole);
    for name in [
        "config.json",
        "vocabulary.json",
        "train.jsonl",
        "train-1.log",
    ] {
        assert!(!read(name).is_empty(), "{name} is empty");
    }
    // The second leg has other programs, and finds the run at its end.
    let held = fs::read(dir.path().join("runs/held.jsonl")).expect("kept");
    assert_success(&script("train-nano.sh", dir.path(), &settings));
    assert!(out.join("train-2.log").exists());
    let kept = fs::read(dir.path().join("runs/held.jsonl")).expect("kept");
    assert_eq!(kept, held, "what is measured on stays");
}

#[test]
fn speed_of_training_is_measured_without_pytorch_too() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let settings = [
        ("DEVICE", "cpu"),
        ("ALONE", "1"),
        ("SHAPES", "p20"),
        ("BATCH", "1"),
        ("LENGTH", "32"),
        ("STEPS", "1"),
        ("PEAK", "1"),
    ];
    assert_success(&script("train-speed.sh", dir.path(), &settings));
    let report = fs::read(dir.path().join("out/speed-p20-alone.json")).expect("written");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    assert_eq!(report["tokens_per_step"], 32);
    assert!(report["tok_per_s_median"].as_f64() > Some(0.0), "{report}");
    assert!(report["mfu"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn a_model_is_measured_on_both_devices() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let settings = [
        ("DEVICE", "cpu"),
        ("COUNT", "4"),
        ("CPU_COUNT", "4"),
        ("THREADS", "2"),
    ];
    assert_success(&script("eval.sh", dir.path(), &settings));
    let read = |name: &str| -> serde_json::Value {
        let text = fs::read(dir.path().join("out").join(name)).expect("written");
        serde_json::from_slice(&text).expect("JSON")
    };
    // Both are the processor here.
    assert_eq!(read("eval-device.json"), read("eval-cpu.json"));
    assert_eq!(read("eval-cpu.json")["items"], 4);
    let seconds = read("seconds.json");
    assert_eq!(seconds["programs"], 4);
    assert!(seconds["cpu_seconds"].as_f64() > Some(0.0), "{seconds}");
}

#[test]
fn a_machine_without_a_gpu_is_told_so() {
    let dir = tempfile::tempdir().expect("temporary folder");
    // No driver has so many.
    let output = script("check.sh", dir.path(), &[("DEVICE", "cuda:4096")]);
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("--device cpu"), "{message}");
    // What the machine is, is kept all the same.
    let doctor = fs::read(dir.path().join("out/doctor.json")).expect("written");
    let doctor: serde_json::Value = serde_json::from_slice(&doctor).expect("JSON");
    assert!(doctor["cuda"].is_object(), "{doctor}");
}
