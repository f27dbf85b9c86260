//! Laws that are known must be found, within the intervals that are told.

use super::*;
use crate::scale::point;
use crate::scale::sequence::log_between;

/// Numbers about 0, normal, from sums of uniform ones.
struct Noise(SplitMix64);

impl Noise {
    fn next(&mut self) -> f64 {
        let uniform = |chance: &mut SplitMix64| (chance.next() >> 11) as f64 / (1u64 << 53) as f64;
        (0..12).map(|_| uniform(&mut self.0)).sum::<f64>() - 6.0
    }
}

fn run(size: &str, n: f64, compute: f64, lr: f64, batch: f64, loss: f64) -> Run {
    let batch = batch.round() as u64;
    let tokens = compute / (6.0 * n);
    let steps = (tokens / batch as f64).round() as u64;
    Run {
        id: format!("{size}_{compute:e}_{lr:e}_{batch}"),
        size: size.into(),
        n_params: n as u64,
        n_params_ne: n as u64,
        flops_per_token: 6.0 * n,
        tokens: steps * batch,
        steps,
        batch_tokens: batch,
        lr,
        seed: 1,
        state: State::Done,
        loss: Some(loss),
        seconds: None,
    }
}

/// The published laws of CWM's best learning rate and batch.
const LR: (f64, f64) = (19.29, -0.177);
const BATCH: (f64, f64) = (30.17, 0.231);

fn at((a, b): (f64, f64), compute: f64) -> f64 {
    a * compute.powf(b)
}

/// Searches of 24 points at 8 budgets between 2e18 and 2e20, about these laws.
fn searches(seed: u64, spread: f64) -> Vec<Run> {
    let mut noise = Noise(SplitMix64(seed));
    let mut runs = Vec::new();
    for budget in 0..8 {
        let compute = log_between(2e18, 2e20, budget as f64 / 7.0);
        let n = (compute / 120.0).sqrt();
        let best = (at(LR, compute), at(BATCH, compute));
        for index in 0..24 {
            let [x, y] = point(budget * 24 + index);
            let (u, v) = (3.0 * (x - 0.4), 4.0 * (y - 0.55));
            let loss =
                2.0 + 600.0 * compute.powf(-0.15) + 0.03 * u * u + 0.01 * v * v + 0.004 * u * v;
            let loss = loss + spread * noise.next();
            runs.push(run(
                "s",
                n,
                compute,
                best.0 * u.exp(),
                best.1 * v.exp(),
                loss,
            ));
        }
    }
    runs
}

fn question(draws: usize) -> Question {
    Question {
        predict: vec![1.64e24],
        draws,
        ..Question::default()
    }
}

fn holds(estimate: Estimate, value: f64) -> bool {
    estimate.low.is_some_and(|low| low <= value) && estimate.high.is_some_and(|high| value <= high)
}

#[test]
fn the_published_laws_are_found() {
    let exact = fit(&searches(1, 0.0), &question(50));
    let (lr, batch) = (
        exact.laws.lr.expect("fitted"),
        exact.laws.batch_tokens.expect("fitted"),
    );
    // Batches are whole tokens.
    for (found, expected) in [
        (lr.a.value, LR.0),
        (lr.b.value, LR.1),
        (batch.a.value, BATCH.0),
        (batch.b.value, BATCH.1),
    ] {
        assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}");
    }

    // An interval of 95% may miss one time in twenty: of 12 ladders, each number is in most.
    let mut inside = [0; 4];
    for seed in 1..=12 {
        let noisy = fit(&searches(seed, 0.003), &question(100));
        let (lr, batch) = (
            noisy.laws.lr.expect("fitted"),
            noisy.laws.batch_tokens.expect("fitted"),
        );
        let numbers = [
            (lr.a, LR.0),
            (lr.b, LR.1),
            (batch.a, BATCH.0),
            (batch.b, BATCH.1),
        ];
        for (count, (estimate, value)) in inside.iter_mut().zip(numbers) {
            *count += usize::from(holds(estimate, value));
        }
        if seed == 1 {
            assert!((lr.b.value - LR.1).abs() < 0.03, "{lr:?}");
            assert!((batch.b.value - BATCH.1).abs() < 0.06, "{batch:?}");
            let far = noisy.predictions[0].lr.expect("predicted");
            assert!(holds(far, at(LR, 1.64e24)), "{far:?}");
            assert!((noisy.predictions[0].extrapolation / 8200.0 - 1.0).abs() < 0.02);
            let worst = (noisy.left_out.iter())
                .map(|left_out| left_out.lr_factor.expect("a law").ln().abs())
                .fold(0.0, f64::max);
            assert!(worst < 0.2, "{worst}");
        }
    }
    assert!(inside.iter().all(|&count| count >= 10), "{inside:?}");
}

/// Tuned runs of 6 sizes at 6 budgets with the loss of a known law.
fn sizes(spread: f64) -> Vec<Run> {
    let mut noise = Noise(SplitMix64(3));
    let mut runs = Vec::new();
    for budget in 0..6 {
        let compute = 1e18 * 4f64.powi(budget);
        let best = (compute / 120.0).sqrt();
        for size in 0..7 {
            let n = (best * 2f64.powf(f64::from(size) - 3.0)).round();
            let tokens = compute / (6.0 * n);
            let loss = 1.69 + 406.4 / n.powf(0.34) + 410.7 / tokens.powf(0.28);
            let loss = loss * (1.0 + spread * noise.next());
            runs.push(run(&format!("n{n}"), n, compute, 1e-3, 2e5, loss));
        }
    }
    runs
}

#[test]
fn the_law_of_size_and_tokens_is_found() {
    let found = fit(&sizes(5e-4), &question(200));
    let law = found.laws.loss_of_size_and_tokens.expect("fitted");
    assert_eq!(law.points, 42);
    for (estimate, value) in [
        (law.e, 1.69),
        (law.a, 406.4),
        (law.b, 410.7),
        (law.alpha, 0.34),
        (law.beta, 0.28),
    ] {
        assert!(holds(estimate, value), "{value}: {estimate:?}");
    }
    assert!((law.e.value - 1.69).abs() < 0.1, "{law:?}");
    assert!((law.alpha.value - 0.34).abs() < 0.04, "{law:?}");
    // C = 6 N D: N grows with beta / (alpha + beta).
    let size = found.laws.n_params_ne.expect("fitted");
    assert!((size.b.value - 0.28 / 0.62).abs() < 0.03, "{size:?}");
    for left_out in &found.left_out {
        assert!(left_out.by_loss_law && left_out.loss_error.expect("a law") < 0.005);
    }
    let text = tables(&found);
    assert!(text.contains("its law is that of what was used"), "{text}");
}

#[test]
fn draws_are_the_same_at_every_call() {
    let runs = searches(5, 0.003);
    let json = |question: &Question| serde_json::to_string(&fit(&runs, question)).expect("writes");
    let first = json(&question(60));
    assert_eq!(first, json(&question(60)));
    let other = Question {
        seed: 2,
        ..question(60)
    };
    assert_ne!(first, json(&other));
}

#[test]
fn what_is_missing_is_said_and_the_rest_is_fitted() {
    let nothing = fit(&[], &Question::default());
    assert_eq!(nothing.notes.len(), 5, "{:?}", nothing.notes);

    // One budget: a best place, no law.
    let one: Vec<Run> = searches(1, 0.001).into_iter().take(24).collect();
    let found = fit(&one, &question(50));
    assert!(found.budgets[0].sizes[0].from_bowl);
    assert!(found.laws.lr.is_none() && found.predictions[0].lr.is_none());
    assert_eq!(
        found.notes,
        [
            "LR(C) is not fitted: 2 budgets whose best learning rate lies inside the range searched are needed, and there are 1",
            "BS(C) is not fitted: 2 budgets whose best batch lies inside the range searched are needed, and there are 1",
            "N(C) and D(C) are not fitted: 2 budgets with 3 sizes or more and the lowest loss at none of the outermost are needed, and there are 0",
            "L(C) is not fitted: 2 budgets with finished runs are needed, and there are 1",
            "L(N, D) is not fitted: there are 1 of 7 pairs of size and tokens, 1 of 3 sizes, 1 of 3 numbers of tokens",
        ]
    );
}

#[test]
fn edges_are_told_and_kept_out_of_the_laws() {
    // The rates that were tried at the first budget all lie below the best one.
    let mut runs = searches(1, 0.0);
    let best = at(LR, 2e18);
    runs.retain(|run| run.compute() > 2.1e18 || run.lr < 0.8 * best);
    let found = fit(&runs, &question(50));
    assert_eq!(found.budgets[0].sizes[0].lr_edge, Some(Edge::Highest));
    let lr = found.laws.lr.expect("fitted");
    assert_eq!(lr.budgets, 7);
    assert!((lr.b.value / LR.1 - 1.0).abs() < 1e-3, "{lr:?}");
    let note = &found.notes[0];
    assert!(
        note.starts_with("budget 2e18, size `s`: the best learning rate is at the upper edge"),
        "{note}"
    );
}

#[test]
fn the_page_shows_everything_and_needs_nothing() {
    let mut runs = sizes(1e-3);
    runs[0].size = "n<1".into();
    let found = fit(&runs, &question(50));
    let page = page("Ladder", &found);
    assert_eq!(page.matches("<svg").count(), 6 + 4);
    assert!(page.contains("n&lt;1") && !page.contains("n<1"));
    for part in ["minimum", "law with its 95% interval", "L(N, D)", "</html>"] {
        assert!(page.contains(part), "{part}");
    }
    for foreign in ["<script", "http", "src=", "@import", "NaN"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}
