//! Properties of masks, greedy choice and the sampler.

use cwm_engine::{
    Error, Mask, Sampler, SamplerOptions, TokenSet, greedy, log_softmax, log_sum_exp, logprob,
};
use proptest::prelude::*;

const PLAIN: SamplerOptions = SamplerOptions {
    temperature: 1.0,
    top_k: 0,
    top_p: 1.0,
    seed: 0,
};

fn sampler(options: SamplerOptions) -> Sampler {
    Sampler::new(options).expect("the options are in range")
}

/// Logits with ties and impossible tokens, and a set of ids that may leave the vocabulary.
fn cases() -> impl Strategy<Value = (Vec<f32>, Vec<u32>)> {
    let logit = prop_oneof![
        6 => -20.0f32..20.0,
        1 => Just(3.0f32),
        1 => Just(f32::NEG_INFINITY),
    ];
    (
        proptest::collection::vec(logit, 1..200),
        proptest::collection::vec(0..220u32, 0..40),
    )
}

proptest! {
    #[test]
    fn greedy_is_the_first_best_allowed_token((logits, ids) in cases()) {
        let set: TokenSet = ids.iter().copied().collect();
        let possible = |id: &u32| {
            logits.get(*id as usize).is_some_and(|logit| *logit > f32::NEG_INFINITY)
        };
        let mut allowed: Vec<u32> = ids.iter().copied().filter(possible).collect();
        allowed.sort_unstable();
        allowed.dedup();
        let exp = |id: u32| f64::from(logits[id as usize]).exp();
        match greedy(&logits, set.mask()) {
            Err(error) => {
                prop_assert!(allowed.is_empty());
                prop_assert_eq!(error, Error::NothingAllowed { vocab_size: logits.len() });
            }
            Ok(choice) => {
                let best = allowed.iter().map(|&id| logits[id as usize]).fold(f32::MIN, f32::max);
                let first = allowed.iter().find(|&&id| logits[id as usize] == best);
                prop_assert_eq!(Some(&choice.id), first);
                let legal: f64 = allowed.iter().map(|&id| exp(id)).sum();
                let whole: f64 = (0..logits.len() as u32).map(exp).sum();
                prop_assert!((choice.logprob - (exp(choice.id) / legal).ln()).abs() < 1e-9);
                prop_assert!((choice.prob - exp(choice.id) / whole).abs() < 1e-9);
                prop_assert!(choice.logprob <= 0.0 && choice.prob <= 1.0);
                prop_assert!(choice.prob.ln() <= choice.logprob + 1e-9);
            }
        }
    }

    #[test]
    fn a_mask_is_the_set_it_was_made_from(
        ids in proptest::collection::vec(0..300u32, 0..60),
        vocab_size in 0usize..300,
    ) {
        let set: TokenSet = ids.iter().copied().collect();
        let inside = |id: &u32| (*id as usize) < vocab_size;
        let mut expected: Vec<u32> = ids.iter().copied().filter(inside).collect();
        expected.sort_unstable();
        expected.dedup();
        let mask = set.mask();
        prop_assert_eq!(mask.iter(vocab_size).collect::<Vec<_>>(), expected.clone());
        prop_assert_eq!(mask.count(vocab_size), expected.len());
        prop_assert!((0..400).all(|id| mask.allows(id) == ids.contains(&id)));
        let forced = if expected.len() == 1 { Some(expected[0]) } else { None };
        prop_assert_eq!(mask.forced(vocab_size), forced);
        prop_assert_eq!(Mask::all().iter(vocab_size).count(), vocab_size);
    }

    #[test]
    fn samples_are_allowed_possible_and_repeatable(
        (logits, ids) in cases(),
        temperature in 0.1f32..3.0,
        top_k in 0usize..6,
        top_p in 0.05f32..=1.0,
        seed: u64,
    ) {
        let set: TokenSet = ids.iter().copied().collect();
        let options = SamplerOptions { temperature, top_k, top_p, seed };
        let (mut one, mut two) = (sampler(options), sampler(options));
        let allowed = set.mask().iter(logits.len()).collect::<Vec<_>>();
        let mut better = 0;
        for _ in 0..5 {
            let choice = one.sample(&logits, set.mask());
            prop_assert_eq!(&choice, &two.sample(&logits, set.mask()));
            let Ok(choice) = choice else {
                prop_assert!(allowed.iter().all(|&id| logits[id as usize] == f32::NEG_INFINITY));
                return Ok(());
            };
            prop_assert!(allowed.contains(&choice.id));
            let logit = logits[choice.id as usize];
            prop_assert!(logit > f32::NEG_INFINITY);
            better = better.max(allowed.iter().filter(|&&id| logits[id as usize] > logit).count());
        }
        prop_assert!(top_k == 0 || better < top_k, "{better} likelier tokens, top_k {top_k}");
    }

    #[test]
    fn log_softmax_sums_to_one(
        mut logits in proptest::collection::vec(-80.0f32..80.0, 1..100),
        shift in -1e4f32..1e4,
    ) {
        let direct: Vec<f64> = (0..logits.len() as u32)
            .map(|id| logprob(&logits, id).expect("finite"))
            .collect();
        log_softmax(&mut logits).expect("finite");
        let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        prop_assert!((sum - 1.0).abs() < 1e-4);
        for (a, b) in logits.iter().zip(&direct) {
            prop_assert!((f64::from(*a) - b).abs() < 1e-4);
        }
        let moved: Vec<f32> = logits.iter().map(|l| l + shift).collect();
        prop_assert!((log_sum_exp(&moved).expect("finite") - f64::from(shift)).abs() < 1e-2);
    }
}

#[test]
fn draws_follow_the_distribution() {
    // Probabilities 0.5, 0.25, 0.125, 0.125 and a forbidden token that would dominate.
    let logits: Vec<f32> = [0.5f32, 0.25, 0.125, 0.125, 9.0].map(f32::ln).to_vec();
    let set: TokenSet = (0..4).collect();
    let counts = |options| {
        let mut sampler = sampler(options);
        let mut counts = [0usize; 5];
        for _ in 0..40_000 {
            counts[sampler.sample(&logits, set.mask()).expect("allowed").id as usize] += 1;
        }
        counts
    };
    let near = |got: [usize; 5], expected: [f64; 5]| {
        for (got, p) in got.iter().zip(expected) {
            // Five standard deviations.
            let slack = 5.0 * (40_000.0 * p * (1.0 - p)).sqrt();
            assert!(
                (*got as f64 - 40_000.0 * p).abs() <= slack,
                "{got} draws at p = {p}"
            );
        }
    };
    near(counts(PLAIN), [0.5, 0.25, 0.125, 0.125, 0.0]);
    near(
        counts(SamplerOptions {
            temperature: 0.5,
            ..PLAIN
        }),
        {
            let sum = 0.25 + 0.0625 + 2.0 * 0.015625;
            [
                0.25 / sum,
                0.0625 / sum,
                0.015625 / sum,
                0.015625 / sum,
                0.0,
            ]
        },
    );
    near(
        counts(SamplerOptions { top_k: 2, ..PLAIN }),
        [2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0, 0.0],
    );
    near(
        counts(SamplerOptions {
            top_p: 0.8,
            ..PLAIN
        }),
        [4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0, 0.0, 0.0],
    );
    near(
        counts(SamplerOptions {
            top_p: 0.01,
            ..PLAIN
        }),
        [1.0, 0.0, 0.0, 0.0, 0.0],
    );
    near(
        counts(SamplerOptions {
            temperature: 0.0,
            ..PLAIN
        }),
        [1.0, 0.0, 0.0, 0.0, 0.0],
    );
}

#[test]
fn damaged_logits_and_parameters_are_refused() {
    let nan = greedy(&[0.0, f32::NAN], Mask::all());
    assert!(matches!(nan, Err(Error::BadLogit { id: 1, .. })), "{nan:?}");
    let infinite = sampler(PLAIN).sample(&[f32::INFINITY, 0.0], Mask::all());
    assert!(
        matches!(infinite, Err(Error::BadLogit { id: 0, .. })),
        "{infinite:?}"
    );
    assert!(matches!(
        logprob(&[0.0], 1),
        Err(Error::UnknownToken { id: 1, .. })
    ));
    assert!(log_softmax(&mut [f32::NEG_INFINITY; 3]).is_err());
    for options in [
        SamplerOptions {
            temperature: -1.0,
            ..PLAIN
        },
        SamplerOptions {
            temperature: f32::NAN,
            ..PLAIN
        },
        SamplerOptions {
            top_p: 0.0,
            ..PLAIN
        },
        SamplerOptions {
            top_p: 1.5,
            ..PLAIN
        },
    ] {
        assert!(
            matches!(Sampler::new(options), Err(Error::SamplerParameter { .. })),
            "{options:?}"
        );
    }
}

#[test]
fn token_sets_grow_shrink_and_clear() {
    let mut set = TokenSet::new(10);
    assert!(set.insert(3) && !set.insert(3) && set.insert(500));
    assert!(set.mask().allows(500));
    assert!(set.remove(3) && !set.remove(3) && !set.remove(9999));
    set.clear();
    assert_eq!(set.mask().count(1000), 0);
}
