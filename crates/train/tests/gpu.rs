//! Training on a GPU, played by the emulator, beside training on the processor.

mod common;

use std::path::Path;

use common::{StopAfter, VOCABULARY, bits, config, data, model_with_heads_of};
use cwm_cuda::{Emulator, Gpu};
use cwm_model::Model;
use cwm_train::collective::thread_ranks;
use cwm_train::{
    Dataset, Error, Example, Examples, Observer, Optimizer, Precision, StepReport, TrainConfig,
    Trainer, evaluate,
};

/// The emulated GPU; `None`, and a line that says so, where there is no C++ compiler to make it.
fn gpu() -> Option<Gpu> {
    match Emulator::open() {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn model() -> Model {
    model_with_heads_of(16)
}

fn settings(optimizer: Optimizer) -> TrainConfig {
    TrainConfig {
        ema: Some(0.9),
        eval_every: 3,
        ..config(7, optimizer)
    }
}

/// Runs to the end, or until `stop_after` steps; the loss of each step.
fn run(trainer: &mut Trainer, stop_after: u64) -> Vec<f64> {
    let mut observer = StopAfter(stop_after, Vec::new());
    let summary = trainer.run(&data(), Some(&data()), &mut observer);
    summary.expect("runs");
    observer.1
}

fn new(optimizer: Optimizer, dir: &Path) -> Trainer {
    Trainer::new(model(), settings(optimizer), dir).expect("starts")
}

#[test]
fn steps_on_a_gpu_are_those_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    for optimizer in [Optimizer::adamw(1e-2), Optimizer::muon(0.02, 1e-2)] {
        let [here, there] = [(); 2].map(|()| tempfile::tempdir().expect("temporary folder"));
        let mut on_cpu = new(optimizer.clone(), here.path());
        let expected = run(&mut on_cpu, 0);
        let mut on_gpu = new(optimizer.clone(), there.path())
            .on_gpu(&gpu)
            .expect("a GPU");
        let losses = run(&mut on_gpu, 0);
        assert_eq!(losses.len(), expected.len());
        for (found, wanted) in losses.iter().zip(&expected) {
            // Operands are rounded to 8 bits, and what that does to weights adds up over the steps.
            assert!(
                (found - wanted).abs() < 0.02 * wanted,
                "{losses:?}, wanted {expected:?}"
            );
        }
        assert!(losses[6] < losses[0], "nothing was learnt: {losses:?}");
        // What the GPU has trained is what is on the host afterwards.
        let score = |trainer: &Trainer| {
            evaluate(trainer.model(), &data(), Precision::F32, 1)
                .expect("scores")
                .loss
        };
        let (found, wanted) = (score(&on_gpu), score(&on_cpu));
        assert!(
            (found - wanted).abs() < 0.03 * wanted,
            "{found}, wanted {wanted}"
        );
    }
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    let [once, twice] = [(); 2].map(|()| tempfile::tempdir().expect("temporary folder"));
    let optimizer = Optimizer::muon(0.02, 1e-2);
    let mut whole = new(optimizer.clone(), once.path())
        .on_gpu(&gpu)
        .expect("a GPU");
    run(&mut whole, 0);
    let mut begun = new(optimizer, twice.path()).on_gpu(&gpu).expect("a GPU");
    run(&mut begun, 3);
    drop(begun);
    let mut rest = Trainer::resume(twice.path())
        .expect("resumes")
        .on_gpu(&gpu)
        .expect("a GPU");
    run(&mut rest, 0);
    assert_eq!(bits(&rest), bits(&whole));
}

/// What rank 0 of some ranks saw.
#[derive(Default)]
struct Seen {
    losses: StopAfter,
    notes: Vec<String>,
}

impl Observer for Seen {
    fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    fn step(&mut self, report: &StepReport) {
        self.losses.step(report);
    }

    fn should_stop(&mut self) -> bool {
        self.losses.should_stop()
    }
}

/// Trains on these GPUs, one for each rank, of which `first` makes rank 0; to the end, or until `stop_after`
/// steps.
fn share(gpus: &[&Gpu], first: Trainer, stop_after: u64) -> (Trainer, Seen) {
    let mut ranks = thread_ranks(gpus.len()).into_iter();
    let leader = ranks.next().expect("at least one rank");
    std::thread::scope(|scope| {
        for (rank, gpu) in ranks.zip(&gpus[1..]) {
            scope.spawn(|| {
                let trainer = Trainer::follow(Box::new(rank), None).expect("follows");
                let mut trainer = trainer.on_gpu(gpu).expect("a GPU");
                let mut observer = StopAfter(stop_after, Vec::new());
                let summary = trainer.run(&data(), Some(&data()), &mut observer);
                summary.expect("runs on another rank");
            });
        }
        let trainer = first.lead(Box::new(leader)).expect("leads");
        let mut trainer = trainer.on_gpu(gpus[0]).expect("a GPU");
        let mut seen = Seen::default();
        seen.losses.0 = stop_after;
        trainer
            .run(&data(), Some(&data()), &mut seen)
            .expect("runs");
        (trainer, seen)
    })
}

#[test]
fn gpus_add_up_among_themselves_what_the_host_would_add_up() {
    let Some(gpu) = gpu() else { return };
    let other = Emulator::open().expect("a second GPU");
    let alone = Emulator::open_alone().expect("a GPU that knows no other");
    for mut optimizer in [Optimizer::adamw(1e-2), Optimizer::muon(0.02, 1e-2)] {
        // The squares that clipping needs are added up in another order than the host's.
        optimizer.clip = 0.0;
        let dirs = [(); 3].map(|()| tempfile::tempdir().expect("temporary folder"));
        let [one, together, through_host] = &dirs;
        let mut single = new(optimizer.clone(), one.path())
            .on_gpu(&gpu)
            .expect("a GPU");
        let expected = run(&mut single, 0);
        let (first, seen) = share(&[&gpu, &other], new(optimizer.clone(), together.path()), 0);
        assert!(seen.notes.is_empty(), "{:?}", seen.notes);
        let (second, host) = share(
            &[&gpu, &alone],
            new(optimizer.clone(), through_host.path()),
            0,
        );
        assert_eq!(host.notes.len(), 1, "{:?}", host.notes);
        let why =
            "(rank 1: the processor, playing a GPU cannot exchange numbers with other devices)";
        assert!(host.notes[0].ends_with(why), "{:?}", host.notes);
        assert_eq!(seen.losses.1, host.losses.1);
        assert_eq!(bits(&first), bits(&second));
        for (found, wanted) in seen.losses.1.iter().zip(&expected) {
            // The same sums in another order.
            assert!(
                (found - wanted).abs() < 0.01 * wanted,
                "{:?}, wanted {expected:?}",
                seen.losses.1
            );
        }
    }
}

#[test]
fn clipping_on_several_gpus_is_that_of_the_host() {
    let Some(gpu) = gpu() else { return };
    let alone = Emulator::open_alone().expect("a GPU that knows no other");
    let mut optimizer = Optimizer::adamw(1e-2);
    optimizer.clip = 0.05;
    let [together, through_host] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    // More GPUs than a batch has examples.
    let (_, seen) = share(&[&gpu; 6], new(optimizer.clone(), together.path()), 0);
    let (_, host) = share(&[&alone; 6], new(optimizer, through_host.path()), 0);
    for (found, wanted) in seen.losses.1.iter().zip(&host.losses.1) {
        assert!((found - wanted).abs() < 1e-3, "{found}, wanted {wanted}");
    }
}

#[test]
fn a_run_on_several_gpus_goes_on_to_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    let [once, twice] = [(); 2].map(|()| tempfile::tempdir().expect("temporary folder"));
    let optimizer = Optimizer::muon(0.02, 1e-2);
    let gpus = [&gpu; 3];
    let (whole, _) = share(&gpus, new(optimizer.clone(), once.path()), 0);
    drop(share(&gpus, new(optimizer, twice.path()), 3));
    let rest = Trainer::resume(twice.path()).expect("resumes");
    assert_eq!(rest.step(), 3);
    let (rest, _) = share(&gpus, rest, 0);
    assert_eq!(bits(&rest), bits(&whole));
}

#[test]
fn ranks_on_a_gpu_and_on_the_processor_are_told_apart() {
    let Some(gpu) = gpu() else { return };
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut ranks = thread_ranks(2).into_iter();
    let (Some(first), Some(second)) = (ranks.next(), ranks.next()) else {
        unreachable!("two ranks were asked for");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let trainer = Trainer::follow(Box::new(second), None).expect("follows");
            let mut trainer = trainer.on_gpu(&gpu).expect("a GPU");
            let error = trainer
                .run(&data(), None, &mut ())
                .expect_err("rank 0 is on the CPU");
            assert!(
                matches!(error, Error::DevicesDiffer { rank: 1, .. }),
                "{error}"
            );
        });
        let trainer = new(Optimizer::adamw(1e-2), dir.path()).lead(Box::new(first));
        let mut trainer = trainer.expect("leads");
        let error = trainer
            .run(&data(), None, &mut ())
            .expect_err("rank 1 is on a GPU");
        let wanted = "rank 1 trains on a GPU and rank 0 on the CPU";
        assert!(error.to_string().starts_with(wanted), "{error}");
    });
}

/// Data that no model takes, under the name of data that is good.
struct Broken(Examples);

impl Dataset for Broken {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn example(&self, index: usize) -> Example {
        let mut example = self.0.example(index);
        example.ids[0] = VOCABULARY;
        example
    }

    fn fingerprint(&self) -> String {
        self.0.fingerprint()
    }

    fn row_tokens(&self) -> usize {
        self.0.row_tokens()
    }
}

#[test]
fn no_gpu_waits_for_a_rank_that_has_failed() {
    let Some(gpu) = gpu() else { return };
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut ranks = thread_ranks(2).into_iter();
    let (Some(first), Some(second)) = (ranks.next(), ranks.next()) else {
        unreachable!("two ranks were asked for");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let trainer = Trainer::follow(Box::new(second), None).expect("follows");
            let mut trainer = trainer.on_gpu(&gpu).expect("a GPU");
            let error = trainer.run(&Broken(data()), None, &mut ());
            assert!(matches!(error, Err(Error::Example { .. })), "{error:?}");
        });
        let trainer = new(Optimizer::adamw(1e-2), dir.path()).lead(Box::new(first));
        let mut trainer = trainer.expect("leads").on_gpu(&gpu).expect("a GPU");
        let error = trainer.run(&data(), None, &mut ());
        assert!(matches!(error, Err(Error::Collective(_))), "{error:?}");
    });
}

#[test]
fn what_a_gpu_cannot_do_is_refused_before_it_begins() {
    let Some(gpu) = gpu() else { return };
    let dir = tempfile::tempdir().expect("temporary folder");
    let narrow = Trainer::new(
        model_with_heads_of(8),
        config(3, Optimizer::adamw(1e-2)),
        dir.path(),
    );
    let error = narrow
        .expect("starts")
        .on_gpu(&gpu)
        .expect_err("no kernel has heads of 8");
    assert!(matches!(error, Error::Gpu(_)), "{error}");
    assert!(error.to_string().contains("head_dim = 8"), "{error}");
    let dir = tempfile::tempdir().expect("temporary folder");
    let exact = TrainConfig {
        precision: Precision::F32,
        ..config(3, Optimizer::adamw(1e-2))
    };
    let error = Trainer::new(model(), exact, dir.path())
        .expect("starts")
        .on_gpu(&gpu);
    let error = error.expect_err("products are in bf16");
    assert!(error.to_string().contains("precision"), "{error}");
}
