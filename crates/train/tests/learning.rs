//! Does it learn? Both optimisers must fit toy data, and report truthfully on the way.

mod common;

use common::{StopAfter, config, data, model};
use cwm_train::{
    Changes, Evaluation, Example, Examples, Observer, Optimizer, Precision, Schedule, Skip,
    StepReport, Trainer, evaluate, history,
};

/// Remembers everything.
#[derive(Default)]
struct Recorder {
    steps: Vec<StepReport>,
    evaluations: Vec<Evaluation>,
    checkpoints: usize,
}

impl Observer for Recorder {
    fn step(&mut self, report: &StepReport) {
        self.steps.push(report.clone());
    }

    fn evaluation(&mut self, evaluation: &Evaluation) {
        self.evaluations.push(evaluation.clone());
    }

    fn checkpoint(&mut self, _path: &std::path::Path) {
        self.checkpoints += 1;
    }
}

#[test]
fn both_optimisers_overfit_the_toy_data() {
    for optimizer in [Optimizer::adamw(1e-2), Optimizer::muon(0.02, 1e-2)] {
        let kind = optimizer.kind;
        let dir = tempfile::tempdir().expect("temporary folder");
        let mut trainer =
            Trainer::new(model(), config(150, optimizer), dir.path()).expect("starts");
        let mut recorder = Recorder::default();
        let summary = trainer
            .run(&data(), Some(&data()), &mut recorder)
            .expect("runs");

        let first = recorder.steps[0].loss;
        assert!(
            (first - 24f64.ln()).abs() < 0.3,
            "an untrained model guesses: {first}"
        );
        let evaluation = summary.evaluation.expect("evaluated at the end");
        assert!(
            evaluation.scores.loss < 0.15,
            "{kind:?}: loss {}",
            evaluation.scores.loss
        );
        assert!(
            evaluation.scores.accuracy > 0.85,
            "{kind:?}: accuracy {}",
            evaluation.scores.accuracy
        );
        assert_eq!(recorder.evaluations, std::slice::from_ref(&evaluation));
        assert_eq!(
            (summary.step, summary.stopped, summary.skipped_steps),
            (150, false, 0)
        );

        let again = evaluate(trainer.model(), &data(), Precision::default(), 3).expect("evaluates");
        assert_eq!(
            again, evaluation.scores,
            "threads do not change an evaluation"
        );
    }
}

#[test]
fn reports_log_and_upkeep_follow_the_configuration() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut config = config(9, Optimizer::muon(0.02, 1e-2));
    config.checkpoint_every = 2;
    config.eval_every = 4;
    let mut trainer = Trainer::new(model(), config, dir.path()).expect("starts");
    let mut recorder = Recorder::default();
    let summary = trainer
        .run(&data(), Some(&data()), &mut recorder)
        .expect("runs");

    let numbers: Vec<u64> = recorder.steps.iter().map(|report| report.step).collect();
    assert_eq!(numbers, (1..=9).collect::<Vec<_>>());
    let tokens: usize = recorder.steps.iter().map(|report| report.tokens).sum();
    assert_eq!(summary.tokens_seen, tokens as u64);
    assert_eq!(recorder.checkpoints, 5, "after 2, 4, 6, 8 and 9");
    let evaluated: Vec<u64> = recorder.evaluations.iter().map(|e| e.step).collect();
    assert_eq!(evaluated, [4, 8, 9]);
    assert!(recorder.steps.iter().all(|report| report.grad_norm > 0.0));
    assert_eq!(
        recorder.steps[0].muon_lr,
        Some(f64::from(0.02f32) * 0.5),
        "first of 2 to warm up"
    );

    let kept: Vec<String> = std::fs::read_dir(dir.path())
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
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(
        summary
            .checkpoint
            .is_some_and(|path| path.ends_with("step-000009"))
    );

    let events = history(dir.path()).expect("reads");
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!(
        (count("start"), count("step"), count("evaluation")),
        (1, 9, 3)
    );
    assert_eq!((count("checkpoint"), count("end")), (5, 1));
    let step = events
        .iter()
        .find(|event| event["event"] == "step")
        .expect("a step");
    for key in [
        "step",
        "loss",
        "accuracy",
        "lr",
        "grad_norm",
        "tokens",
        "tok_per_s",
        "seconds",
    ] {
        assert!(step[key].is_number(), "{key} in {step}");
    }
}

#[test]
fn fresh_weights_know_nothing() {
    let scores = evaluate(&model(), &data(), Precision::default(), 1).expect("evaluates");
    let uniform = f64::from(common::VOCABULARY).ln();
    assert!(
        (scores.loss - uniform).abs() < 0.02 * uniform,
        "{} instead of {uniform}",
        scores.loss
    );
}

#[test]
fn the_loss_is_the_weighted_mean_of_the_batch() {
    let data = Examples::new(
        vec![
            weighted(vec![2, 3, 4], 0.5),
            weighted(vec![9, 8, 7, 6, 5, 4, 3], 2.0),
        ],
        "weights",
    );
    let model = model();
    let expected = evaluate(&model, &data, Precision::default(), 1).expect("evaluates");
    let alone = |ids| {
        let data = Examples::new(vec![weighted(ids, 1.0)], "alone");
        evaluate(&model, &data, Precision::default(), 1)
            .expect("evaluates")
            .loss
    };
    let (short, long) = (alone(vec![2, 3, 4]), alone(vec![9, 8, 7, 6, 5, 4, 3]));
    let by_hand = (2.0 * 0.5 * short + 6.0 * 2.0 * long) / (2.0 * 0.5 + 6.0 * 2.0);
    assert!((expected.loss - by_hand).abs() < 1e-6);
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut config = config(2, Optimizer::adamw(1e-3));
    config.schedule = Schedule::Constant { warmup: 0 };
    config.batch_tokens = 14; // Two rows of 7 tokens: both examples.
    let mut trainer = Trainer::new(model, config, dir.path()).expect("starts");
    let mut losses = StopAfter::default();
    trainer.run(&data, None, &mut losses).expect("runs");
    assert!((losses.1[0] - expected.loss).abs() < 1e-6);
}

fn weighted(ids: Vec<u32>, weight: f32) -> Example {
    let mut example = Example::causal(ids);
    example
        .targets
        .iter_mut()
        .for_each(|target| target.weight = weight);
    example
}

#[test]
fn steps_without_finite_gradients_or_targets_change_nothing() {
    let broken = [
        (weighted(vec![2, 3, 4], f32::INFINITY), Skip::NonFinite),
        (weighted(vec![2, 3, 4], 0.0), Skip::NoTargets),
    ];
    for (example, reason) in broken {
        let dir = tempfile::tempdir().expect("temporary folder");
        let before = model().params;
        let config = config(3, Optimizer::adamw(1e-2));
        let mut trainer = Trainer::new(model(), config, dir.path()).expect("starts");
        let mut recorder = Recorder::default();
        let data = Examples::new(vec![example], "broken");
        let result = trainer.run(&data, None, &mut recorder);
        let skipped = |report: &StepReport| report.skipped == Some(reason);
        assert_eq!(recorder.steps.len(), 3);
        assert!(recorder.steps.iter().all(skipped));
        match reason {
            Skip::NonFinite => {
                let error = result.expect_err("ends in what is no number");
                assert!(error.to_string().contains("diverged"), "{error}");
            }
            _ => assert_eq!(result.expect("goes on").skipped_steps, 3),
        }
        assert_eq!(trainer.model().params, before);
    }
}

/// A rate that spoils everything in one step, after some good ones.
#[test]
fn a_run_that_diverges_leaves_its_good_checkpoints() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut good = config(4, Optimizer::adamw(1e-2));
    (good.checkpoint_every, good.keep_last) = (2, 2);
    let trainer = Trainer::new(model(), good, dir.path());
    trainer
        .expect("starts")
        .run(&data(), None, &mut ())
        .expect("runs");
    let spoil = Changes {
        steps: Some(100),
        optimizer: Some(Optimizer::adamw(1e36)),
        ..Changes::default()
    };
    let mut trainer = Trainer::resume_with(dir.path(), &spoil).expect("resumes");
    let error = trainer.run(&data(), None, &mut ()).expect_err("diverges");
    assert!(error.to_string().contains("no finite number"), "{error}");
    drop(trainer);
    let kept = cwm_train::checkpoint_at(dir.path(), 4);
    assert!(kept.is_ok(), "{kept:?}");
}

#[test]
fn the_best_is_of_one_set_of_data() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut settings = config(2, Optimizer::adamw(1e-3));
    settings.eval_every = 1;
    let mut trainer = Trainer::new(model(), settings, dir.path()).expect("starts");
    let easy = Examples::new(vec![weighted(vec![2, 3, 4], 1e-3)], "easy");
    trainer.run(&data(), Some(&easy), &mut ()).expect("runs");
    drop(trainer);
    let longer = Changes {
        steps: Some(4),
        ..Changes::default()
    };
    let mut trainer = Trainer::resume_with(dir.path(), &longer).expect("resumes");
    let mut recorder = Recorder::default();
    let hard = Examples::new(vec![weighted(vec![9, 1, 7, 2, 2, 8], 1.0)], "hard");
    trainer
        .run(&data(), Some(&hard), &mut recorder)
        .expect("runs");
    assert!(recorder.evaluations[0].best, "the first of its kind");
}

#[test]
fn a_run_that_only_skips_gives_up() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let config = config(1_000, Optimizer::adamw(1e-2));
    let mut trainer = Trainer::new(model(), config, dir.path()).expect("starts");
    let data = Examples::new(vec![weighted(vec![2, 3, 4], f32::INFINITY)], "broken");
    let error = trainer.run(&data, None, &mut ()).expect_err("diverges");
    assert!(error.to_string().contains("diverged"), "{error}");
}

#[test]
fn what_cannot_be_trained_is_named() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let config = config(3, Optimizer::adamw(1e-2));
    let mut trainer = Trainer::new(model(), config, dir.path()).expect("starts");
    let empty = Examples::new(Vec::new(), "empty");
    let error = trainer.run(&empty, None, &mut ()).expect_err("empty");
    assert_eq!(error.to_string(), "the training data set is empty");
    let error = trainer
        .run(&data(), Some(&empty), &mut ())
        .expect_err("empty");
    assert_eq!(error.to_string(), "the held-out data set is empty");
    let foreign = Examples::new(vec![Example::causal(vec![1, 2, 99])], "foreign");
    let error = trainer
        .run(&foreign, None, &mut ())
        .expect_err("outside the vocabulary");
    assert!(
        error
            .to_string()
            .contains("example 0 does not fit the model"),
        "{error}"
    );
    assert!(error.to_string().contains("99"), "{error}");
}

#[test]
fn clipping_bounds_the_first_step_of_plain_descent() {
    // With both betas 0 and a huge epsilon AdamW is gradient descent with rate lr / eps, so the
    // length of the first step tells the norm of the gradient it saw.
    let step_length = |clip| {
        let dir = tempfile::tempdir().expect("temporary folder");
        let optimizer = Optimizer {
            betas: [0.0, 0.0],
            eps: 1e4,
            weight_decay: 0.0,
            clip,
            ..Optimizer::adamw(1e4)
        };
        let mut config = config(1, optimizer);
        config.schedule = Schedule::Constant { warmup: 0 };
        let mut trainer = Trainer::new(model(), config, dir.path()).expect("starts");
        let mut recorder = Recorder::default();
        trainer.run(&data(), None, &mut recorder).expect("runs");
        let before = model().params;
        let moved: f64 = (trainer.model().params.iter().zip(&before))
            .map(|(after, before)| f64::from(after - before).powi(2))
            .sum();
        (moved.sqrt(), recorder.steps[0].grad_norm)
    };
    let (free, norm) = step_length(0.0);
    assert!(
        (free / norm - 1.0).abs() < 1e-2,
        "moved {free}, gradient {norm}"
    );
    let (clipped, same_norm) = step_length(0.05);
    assert_eq!(
        norm, same_norm,
        "the report is of the gradient before clipping"
    );
    assert!(
        norm > 0.1 && (clipped / 0.05 - 1.0).abs() < 1e-2,
        "moved {clipped}"
    );
}
