//! Does it matter who does the work? Runs on many threads, ranks and processes against one alone.

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{StopAfter, bits, config, data, kills, model, random_pause};
use cwm_train::collective::{TcpRank, TcpSettings, thread_ranks};
use cwm_train::{
    Changes, Error, Examples, Observer, Optimizer, Summary, TrainConfig, Trainer, load_ema,
    newest_checkpoint,
};

fn settings(steps: u64, optimizer: Optimizer) -> TrainConfig {
    TrainConfig {
        ema: Some(0.9),
        eval_every: 3,
        ..config(steps, optimizer)
    }
}

/// Every file of the newest checkpoint, but for `state.json`, which names the threads.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let (checkpoint, notes) = newest_checkpoint(dir).expect("is whole");
    assert_eq!(notes, Vec::<String>::new());
    let mut files: Vec<_> = fs::read_dir(checkpoint)
        .expect("lists")
        .map(|entry| entry.expect("entry").path())
        .map(|path| {
            let name = path.file_name().expect("named").to_string_lossy();
            (name.into_owned(), fs::read(&path).expect("reads"))
        })
        .filter(|(name, _)| name != "state.json")
        .collect();
    files.sort();
    files
}

/// Runs `trainer` with the help of `ranks - 1` others until `stop_after` steps, or to its end.
fn run_on(trainer: Trainer, ranks: usize, stop_after: u64) -> (Trainer, Summary) {
    let mut collectives = thread_ranks(ranks).into_iter();
    let first = collectives.next().expect("one rank at least");
    std::thread::scope(|scope| {
        for collective in collectives {
            scope.spawn(move || {
                let mut trainer = Trainer::follow(Box::new(collective), None).expect("follows");
                let summary = trainer
                    .run(&data(), Some(&data()), &mut ())
                    .expect("runs on another rank");
                assert_eq!(summary.checkpoint, None);
            });
        }
        let mut trainer = match ranks {
            1 => trainer,
            _ => trainer.lead(Box::new(first)).expect("leads"),
        };
        let mut observer = StopAfter(stop_after, Vec::new());
        let summary = trainer.run(&data(), Some(&data()), &mut observer);
        (trainer, summary.expect("runs"))
    })
}

#[test]
fn neither_threads_nor_ranks_change_a_bit() {
    for optimizer in [Optimizer::adamw(1e-2), Optimizer::muon(0.02, 1e-2)] {
        let alone = tempfile::tempdir().expect("temporary folder");
        let trainer = Trainer::new(model(), settings(7, optimizer.clone()), alone.path());
        let (trainer, summary) = run_on(trainer.expect("starts"), 1, 0);
        let expected = (bits(&trainer), files(alone.path()));
        for (ranks, threads) in [
            (1, 1),
            (1, 3),
            (1, 9),
            (2, 1),
            (2, 2),
            (3, 1),
            (4, 2),
            (6, 1),
        ] {
            let dir = tempfile::tempdir().expect("temporary folder");
            let mut config = settings(7, optimizer.clone());
            config.threads = threads;
            config.recompute = threads % 2 == 0;
            let trainer = Trainer::new(model(), config, dir.path()).expect("starts");
            let (trainer, found) = run_on(trainer, ranks, 0);
            let which = format!("{:?} on {ranks} ranks of {threads}", optimizer.kind);
            assert!(expected == (bits(&trainer), files(dir.path())), "{which}");
            let scores = |summary: &Summary| summary.evaluation.clone().map(|e| (e.scores, e.best));
            assert_eq!(scores(&found), scores(&summary), "{which}");
            assert_eq!(found.loss, summary.loss, "{which}");
        }
        let (ema, _) = load_ema(alone.path()).expect("has a mean");
        assert_ne!(ema.params, trainer.model().params);
        assert!(ema.params.iter().all(|value| value.is_finite()));
    }
}

#[test]
fn the_number_of_lanes_is_what_counts() {
    let run = |lanes| {
        let dir = tempfile::tempdir().expect("temporary folder");
        let config = TrainConfig {
            lanes,
            ..settings(5, Optimizer::adamw(1e-2))
        };
        let trainer = Trainer::new(model(), config, dir.path()).expect("starts");
        bits(&run_on(trainer, 1, 0).0)
    };
    assert_ne!(run(1), run(4), "another order of addition, other last bits");
}

#[test]
fn a_run_moves_between_numbers_of_ranks() {
    let optimizer = Optimizer::muon(0.02, 1e-2);
    let alone = tempfile::tempdir().expect("temporary folder");
    let trainer = Trainer::new(model(), settings(9, optimizer.clone()), alone.path());
    let expected = bits(&run_on(trainer.expect("starts"), 1, 0).0);

    let dir = tempfile::tempdir().expect("temporary folder");
    let trainer = Trainer::new(model(), settings(9, optimizer), dir.path()).expect("starts");
    drop(run_on(trainer, 2, 2));
    for (ranks, steps) in [(4, 2), (1, 2), (3, 2)] {
        let trainer = Trainer::resume(dir.path()).expect("resumes");
        drop(run_on(trainer, ranks, steps));
    }
    let (trainer, summary) = run_on(Trainer::resume(dir.path()).expect("resumes"), 2, 0);
    assert_eq!((summary.step, summary.stopped), (9, false));
    assert_eq!(bits(&trainer), expected);
}

#[test]
fn ranks_with_other_data_are_named() {
    let mut collectives = thread_ranks(2).into_iter();
    let (first, second) = (collectives.next(), collectives.next());
    let dir = tempfile::tempdir().expect("temporary folder");
    let trainer = Trainer::new(model(), config(3, Optimizer::adamw(1e-2)), dir.path());
    let errors = std::thread::scope(|scope| {
        let other = scope.spawn(move || {
            let second = Box::new(second.expect("a second rank"));
            let mut trainer = Trainer::follow(second, None).expect("follows");
            let other = Examples::new(vec![cwm_train::Example::causal(vec![2, 3])], "other-v1");
            trainer.run(&other, None, &mut ()).expect_err("differs")
        });
        let first = Box::new(first.expect("a first rank"));
        let mut trainer = trainer.expect("starts").lead(first).expect("leads");
        let error = trainer.run(&data(), None, &mut ()).expect_err("differs");
        [error, other.join().expect("no panic")]
    });
    for error in errors {
        assert!(
            matches!(error, Error::RanksDiffer { rank: 1, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("other-v1"), "{error}");
    }
}

#[test]
fn a_stage_goes_on_where_another_ended() {
    let first = tempfile::tempdir().expect("temporary folder");
    let second = tempfile::tempdir().expect("temporary folder");
    let optimizer = Optimizer::adamw(1e-2);
    let trainer = Trainer::new(model(), settings(4, optimizer.clone()), first.path());
    let before = run_on(trainer.expect("starts"), 1, 0).0;

    let mut longer = before.model().config.clone();
    longer.max_position_embeddings = 128;
    let next = |config, steps, dir: &Path| {
        let settings = settings(steps, optimizer.clone());
        Trainer::continued(first.path(), config, settings, dir)
    };
    let trainer = next(longer.clone(), 9, second.path()).expect("goes on");
    assert_eq!(trainer.step(), 4);
    assert_eq!(bits(&trainer), bits(&before));
    let (after, summary) = run_on(trainer, 2, 0);
    assert_eq!((summary.step, summary.tokens_seen > 0), (9, true));
    assert_eq!(after.model().config.max_position_embeddings, 128);

    let third = tempfile::tempdir().expect("temporary folder");
    let mut wider = longer.clone();
    wider.intermediate_size += 16;
    let error = next(wider, 9, third.path()).expect_err("other weights");
    assert!(error.to_string().contains("other shapes"), "{error}");
    let error = next(longer, 4, third.path()).expect_err("no step left");
    assert!(error.to_string().contains("has done 4"), "{error}");
}

#[test]
fn the_best_checkpoint_is_kept() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut config = settings(12, Optimizer::adamw(1e-2));
    (config.keep_best, config.keep_last, config.checkpoint_every) = (true, 1, 1);
    config.eval_every = 2;
    // After a few steps of learning, a rate that undoes it.
    config.schedule = cwm_train::Schedule::Constant { warmup: 0 };
    let trainer = Trainer::new(model(), config, dir.path()).expect("starts");
    drop(run_on(trainer, 1, 5));
    let harmful = Changes {
        optimizer: Some(Optimizer::adamw(10.0)),
        ..Changes::default()
    };
    let trainer = Trainer::resume_with(dir.path(), &harmful).expect("resumes");
    drop(run_on(trainer, 1, 0));
    let mut left: Vec<String> = fs::read_dir(dir.path())
        .expect("lists")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.starts_with("step-"))
        .collect();
    left.sort();
    assert_eq!(left, ["step-000004", "step-000012"]);
}

const CHILD: &str = "CWM_TRAIN_TEST_RANK";
const CHILD_STEPS: u64 = 150;

/// Sleeps a little in each step, so that the parent's kills fall in the middle of a run.
struct Slow;

impl Observer for Slow {
    fn should_stop(&mut self) -> bool {
        std::thread::sleep(Duration::from_millis(2));
        false
    }
}

fn child_settings() -> TrainConfig {
    TrainConfig {
        checkpoint_every: 1,
        ..config(CHILD_STEPS, Optimizer::muon(0.02, 1e-2))
    }
}

/// Not a test by itself: one of two processes that the next test kills. What it is comes as
/// `RANK ADDRESS FOLDER`.
#[test]
fn child_process() {
    let Ok(task) = std::env::var(CHILD) else {
        return;
    };
    let [rank, leader, dir] = task.split(' ').collect::<Vec<_>>()[..] else {
        panic!("not a task: {task}");
    };
    let rank = TcpRank::join(&TcpSettings {
        rank: rank.parse().expect("a number"),
        size: 2,
        leader: leader.to_owned(),
        join_timeout: Duration::from_secs(30),
        silence_timeout: Duration::from_secs(30),
    });
    let ranks = Box::new(rank.expect("joins"));
    let mut trainer = match dir {
        "-" => Trainer::follow(ranks, None).expect("follows"),
        dir => Trainer::resume(Path::new(dir))
            .or_else(|_| Trainer::new(model(), child_settings(), Path::new(dir)))
            .and_then(|trainer| trainer.lead(ranks))
            .expect("leads"),
    };
    if trainer.run(&data(), None, &mut Slow).is_err() {
        // The other one was killed.
        std::process::exit(7);
    }
}

#[test]
fn two_processes_killed_again_and_again_end_with_the_bits_of_one() {
    let straight = tempfile::tempdir().expect("temporary folder");
    let trainer = Trainer::new(model(), child_settings(), straight.path()).expect("starts");
    let mut trainer = trainer;
    trainer.run(&data(), None, &mut ()).expect("runs");
    let expected = bits(&trainer);

    let dir = tempfile::tempdir().expect("temporary folder");
    let start = |rank: usize, leader: &str| -> Child {
        let folder = match rank {
            0 => dir.path().to_string_lossy().into_owned(),
            _ => "-".to_owned(),
        };
        Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "child_process"])
            .env(CHILD, format!("{rank} {leader} {folder}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts a process")
    };
    let both = || {
        let free = TcpListener::bind("127.0.0.1:0").expect("binds");
        let leader = free.local_addr().expect("has an address").to_string();
        drop(free);
        [start(0, &leader), start(1, &leader)]
    };
    let newest = || newest_checkpoint(dir.path()).map_or_else(|_| PathBuf::new(), |found| found.0);
    let mut before = PathBuf::new();
    for kill in 0..kills() {
        let victim = kill % 2;
        let mut processes = both();
        while newest() <= before && processes[0].try_wait().expect("waits").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(random_pause());
        processes[victim].kill().expect("kills");
        for process in &mut processes {
            process
                .wait()
                .expect("ends by itself when the other is gone");
        }
        assert!(newest() > before, "a kill lost a checkpoint");
        before = newest();
    }
    assert!(
        before < dir.path().join(format!("step-{CHILD_STEPS:06}")),
        "they were really killed"
    );
    for mut process in both() {
        assert!(process.wait().expect("waits").success());
    }
    let trainer = Trainer::resume(dir.path()).expect("resumes");
    assert_eq!(trainer.step(), CHILD_STEPS);
    assert_eq!(bits(&trainer), expected);
}
