//! Is the work safe? Interrupted, killed, damaged and changed runs.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{StopAfter, bits, config, data, kills, model, random_pause, run};
use cwm_train::{
    Changes, Error, Examples, Observer, Optimizer, Schedule, Trainer, history, newest_checkpoint,
};

fn both_optimisers() -> [Optimizer; 2] {
    [Optimizer::adamw(1e-2), Optimizer::muon(0.02, 1e-2)]
}

/// Resumes and runs to the end.
fn finish(dir: &Path) -> Trainer {
    let mut trainer = Trainer::resume(dir).expect("resumes");
    trainer.run(&data(), None, &mut ()).expect("runs");
    trainer
}

#[test]
fn three_steps_resumed_for_three_more_equal_six_bit_for_bit() {
    for optimizer in both_optimisers() {
        let straight = tempfile::tempdir().expect("temporary folder");
        let halves = tempfile::tempdir().expect("temporary folder");
        let expected = bits(&run(straight.path(), config(6, optimizer.clone()), 0));

        drop(run(halves.path(), config(6, optimizer.clone()), 3));
        let trainer = Trainer::resume(halves.path()).expect("resumes");
        assert_eq!(trainer.step(), 3);
        assert_ne!(bits(&trainer), expected);
        drop(trainer);
        assert_eq!(
            bits(&finish(halves.path())),
            expected,
            "{:?}",
            optimizer.kind
        );

        // The optimisers agree too, or the next step would differ.
        let moments =
            |dir: &Path| fs::read(dir.join("step-000006/optimizer.safetensors")).expect("reads");
        assert_eq!(moments(straight.path()), moments(halves.path()));

        let steps: Vec<u64> = history(halves.path())
            .expect("reads")
            .iter()
            .filter(|event| event["event"] == "step")
            .filter_map(|event| event["step"].as_u64())
            .collect();
        assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
    }
}

#[test]
fn a_stop_is_reported_and_a_finished_run_has_nothing_left() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut trainer =
        Trainer::new(model(), config(5, Optimizer::adamw(1e-2)), dir.path()).expect("starts");
    let summary = trainer
        .run(&data(), None, &mut StopAfter(2, Vec::new()))
        .expect("stops");
    assert!(summary.stopped);
    assert_eq!((summary.step, summary.steps), (2, 5));
    assert!(
        summary
            .checkpoint
            .is_some_and(|path| path.ends_with("step-000002"))
    );
    drop(trainer);

    finish(dir.path());
    let mut finished = Trainer::resume(dir.path()).expect("resumes");
    let summary = finished.run(&data(), None, &mut ()).expect("does nothing");
    assert_eq!(
        (summary.step, summary.stopped, summary.loss),
        (5, false, None)
    );
    assert!(
        summary
            .checkpoint
            .is_some_and(|path| path.ends_with("step-000005"))
    );
}

/// Checkpoints after steps 2 and 4 of 6.
fn run_with_two_checkpoints() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut config = config(6, Optimizer::muon(0.02, 1e-2));
    config.checkpoint_every = 2;
    run(dir.path(), config, 4);
    dir
}

#[test]
fn damaged_checkpoints_are_passed_over_with_the_reason() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 8] = [
        ("`model.safetensors` is damaged", |c| {
            flip(&c.join("model.safetensors"))
        }),
        ("`optimizer.safetensors` is damaged", |c| {
            flip(&c.join("optimizer.safetensors"))
        }),
        ("`config.json` is damaged", |c| flip(&c.join("config.json"))),
        ("`optimizer.safetensors` is damaged", |c| {
            truncate(&c.join("optimizer.safetensors"))
        }),
        ("`model.safetensors` cannot be read", |c| {
            remove(&c.join("model.safetensors"))
        }),
        ("`state.json` is damaged", |c| {
            truncate(&c.join("state.json"))
        }),
        ("`state.json` cannot be read", |c| {
            remove(&c.join("state.json"))
        }),
        ("this program reads format 2", |c| {
            let path = c.join("state.json");
            let text = fs::read_to_string(&path).expect("reads");
            fs::write(&path, text.replacen("\"format\": 2", "\"format\": 1", 1)).expect("writes");
        }),
    ];
    let whole = run_with_two_checkpoints();
    let expected = bits(&finish(whole.path()));
    for (reason, damage) in cases {
        let dir = run_with_two_checkpoints();
        damage(&dir.path().join("step-000004"));
        let mut trainer = Trainer::resume(dir.path()).expect("falls back");
        assert_eq!(trainer.step(), 2);
        let [note] = trainer.notes() else {
            panic!("one note, not {:?}", trainer.notes())
        };
        assert!(
            note.contains("step-000004") && note.contains(reason),
            "{note}"
        );

        // The damaged one is replaced on the way, and the result is the same.
        trainer.run(&data(), None, &mut ()).expect("runs");
        assert_eq!(bits(&trainer), expected);
    }
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("reads");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(path, bytes).expect("writes");
}

fn truncate(path: &Path) {
    let bytes = fs::read(path).expect("reads");
    fs::write(path, &bytes[..bytes.len() / 2]).expect("writes");
}

fn remove(path: &Path) {
    fs::remove_file(path).expect("removes");
}

#[test]
fn an_unfinished_checkpoint_is_mentioned_and_cleaned_up() {
    let dir = run_with_two_checkpoints();
    let whole = dir.path().join("step-000004");
    let unfinished = dir.path().join("step-000004.tmp");
    fs::rename(&whole, &unfinished).expect("renames");
    let mut trainer = Trainer::resume(dir.path()).expect("falls back");
    assert_eq!(trainer.step(), 2);
    assert_eq!(
        trainer.notes(),
        ["passed over `step-000004.tmp`: it was never finished"]
    );
    trainer.run(&data(), None, &mut ()).expect("runs");
    assert!(whole.is_dir() && !unfinished.exists());
}

#[test]
fn without_a_whole_checkpoint_every_reason_is_told() {
    let dir = run_with_two_checkpoints();
    for step in ["step-000002", "step-000004"] {
        truncate(&dir.path().join(step).join("model.safetensors"));
    }
    let error = Trainer::resume(dir.path()).expect_err("nothing left");
    let Error::NoCheckpoint { tried, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(tried.len(), 2, "{error}");
    let error = Trainer::resume(&dir.path().join("absent")).expect_err("no such folder");
    assert!(
        error.to_string().starts_with("no whole checkpoint in"),
        "{error}"
    );
}

#[test]
fn the_newest_checkpoint_is_a_model_folder() {
    let dir = run_with_two_checkpoints();
    let (path, notes) = newest_checkpoint(dir.path()).expect("finds");
    assert!(path.ends_with("step-000004") && notes.is_empty());
    let model = cwm_model::Model::load(&path).expect("loads");
    assert_eq!(
        model.params,
        Trainer::resume(dir.path())
            .expect("resumes")
            .into_model()
            .params
    );
}

#[test]
fn folders_are_not_shared() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let config = config(2, Optimizer::adamw(1e-2));
    let mut first = Trainer::new(model(), config.clone(), dir.path()).expect("starts");
    let error = Trainer::new(model(), config.clone(), dir.path()).expect_err("in use");
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    first.run(&data(), None, &mut ()).expect("runs");
    drop(first);
    let error = Trainer::new(model(), config, dir.path()).expect_err("occupied");
    assert!(matches!(error, Error::Occupied { .. }), "{error}");
}

#[test]
fn other_data_is_refused_unless_allowed() {
    let dir = run_with_two_checkpoints();
    let other = Examples::new(vec![cwm_train::Example::causal(vec![3, 4, 5, 6])], "other");
    let error = Trainer::resume(dir.path())
        .expect("resumes")
        .run(&other, None, &mut ())
        .expect_err("other data");
    assert!(matches!(error, Error::DataChanged { .. }), "{error}");
    let changes = Changes {
        new_data: true,
        ..Changes::default()
    };
    let mut trainer = Trainer::resume_with(dir.path(), &changes).expect("resumes");
    assert_eq!(trainer.run(&other, None, &mut ()).expect("runs").step, 6);
}

#[test]
fn an_open_run_is_decayed_later() {
    // Planned from the start, and stopped in the stable part and decayed by decision: the same.
    let schedule = Schedule::Wsd {
        warmup: 2,
        decay_steps: 4,
        final_ratio: 0.0,
    };
    let optimizer = Optimizer::adamw(1e-2);
    let planned = tempfile::tempdir().expect("temporary folder");
    let open = tempfile::tempdir().expect("temporary folder");
    let mut planned_config = config(9, optimizer.clone());
    planned_config.schedule = schedule.clone();
    let expected = bits(&run(planned.path(), planned_config, 0));

    let mut open_config = config(1_000_000, optimizer);
    open_config.schedule = schedule;
    drop(run(open.path(), open_config, 5));
    let changes = Changes {
        steps: Some(9),
        ..Changes::default()
    };
    let mut trainer = Trainer::resume_with(open.path(), &changes).expect("resumes");
    trainer.run(&data(), None, &mut ()).expect("runs");
    assert_eq!(bits(&trainer), expected);
    drop(trainer);

    let error = |changes: &Changes| {
        Trainer::resume_with(open.path(), changes)
            .expect_err("does not fit")
            .to_string()
    };
    let fewer = Changes {
        steps: Some(7),
        ..Changes::default()
    };
    assert!(
        error(&fewer).contains("9 steps are already done"),
        "{}",
        error(&fewer)
    );
    let muon = Changes {
        optimizer: Some(Optimizer::muon(0.02, 1e-2)),
        ..Changes::default()
    };
    assert!(error(&muon).contains("optimizer.kind"), "{}", error(&muon));
}

const CHILD_FOLDER: &str = "CWM_TRAIN_TEST_FOLDER";
const CHILD_STEPS: u64 = 200;

fn child_config() -> cwm_train::TrainConfig {
    let mut config = config(CHILD_STEPS, Optimizer::muon(0.02, 1e-2));
    config.checkpoint_every = 1;
    config
}

/// Waits a little after each checkpoint, so that the parent's kills fall in the middle of a run.
struct Slow;

impl Observer for Slow {
    fn checkpoint(&mut self, _path: &Path) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Not a test by itself: the process that the next test kills.
#[test]
fn child_process() {
    let Some(dir) = std::env::var_os(CHILD_FOLDER).map(PathBuf::from) else {
        return;
    };
    let mut trainer = Trainer::resume(&dir)
        .or_else(|_| Trainer::new(model(), child_config(), &dir))
        .expect("starts or resumes");
    trainer.run(&data(), None, &mut Slow).expect("runs");
}

/// What a disk that fills up does: a file cannot grow beyond some 50 kB. Earlier checkpoints stay.
#[cfg(unix)]
#[test]
fn a_full_disk_stops_the_run_and_spares_what_is_written() {
    let straight = tempfile::tempdir().expect("temporary folder");
    let expected = bits(&run(straight.path(), child_config(), 0));
    let dir = tempfile::tempdir().expect("temporary folder");
    drop(run(dir.path(), child_config(), 3));
    let program = std::env::current_exe().expect("this program");
    let output = Command::new("sh")
        // The signal that would kill the process becomes an error of the write.
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 100; exec \"$0\" --exact child_process",
        ])
        .arg(program)
        .env(CHILD_FOLDER, dir.path())
        .output()
        .expect("starts a process");
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("model.safetensors"), "{told}");
    let (newest, _) = newest_checkpoint(dir.path()).expect("is whole");
    assert!(newest.ends_with("step-000003"), "{newest:?}");
    assert_eq!(bits(&finish(dir.path())), expected, "and it can go on");
}

#[test]
fn killed_again_and_again_it_ends_with_the_same_bits() {
    let straight = tempfile::tempdir().expect("temporary folder");
    let mut whole = child_config();
    whole.checkpoint_every = 0;
    let expected = bits(&run(straight.path(), whole, 0));

    let dir = tempfile::tempdir().expect("temporary folder");
    let start = || {
        Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "child_process"])
            .env(CHILD_FOLDER, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("starts a process")
    };
    let newest = || newest_checkpoint(dir.path()).map_or_else(|_| PathBuf::new(), |found| found.0);
    let mut before = PathBuf::new();
    for _ in 0..kills() {
        let mut child = start();
        // Wait for progress, so that each kill leaves something that must survive.
        while newest() <= before && child.try_wait().expect("waits").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(random_pause());
        child.kill().expect("kills");
        child.wait().expect("waits");
        let after = newest();
        assert!(
            after > before,
            "a kill lost a checkpoint: {after:?} after {before:?}"
        );
        before = after;
    }
    assert!(
        before < dir.path().join(format!("step-{CHILD_STEPS:06}")),
        "it was really killed"
    );
    assert!(start().wait().expect("waits").success());
    let trainer = Trainer::resume(dir.path()).expect("resumes");
    assert_eq!(trainer.step(), CHILD_STEPS);
    assert_eq!(bits(&trainer), expected);
}
