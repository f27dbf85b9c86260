//! Properties of masks, greedy choice and the sampler.

use cwm_engine::{
    Error, Mask, Sampler, SamplerOptions, TokenSet, greedy, log_softmax, log_sum_exp, logprob,
    top_logprobs,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const PLAIN: SamplerOptions = SamplerOptions::PLAIN;

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

/// The `n`-th number of the random sequence of a seed, from its definition.
fn uniform(seed: u64, n: u64) -> f64 {
    let mut z = seed.wrapping_add((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// The sampler by its definition, a step after the other on a list of everything.
fn reference(
    logits: &[f32],
    bias: &BTreeMap<u32, f32>,
    allowed: &[u32],
    options: SamplerOptions,
    n: u64,
) -> Option<u32> {
    let biased =
        |id: u32| f64::from(logits[id as usize]) + f64::from(bias.get(&id).copied().unwrap_or(0.0));
    let possible = |id: &u32| logits[*id as usize] > f32::NEG_INFINITY;
    let mut rest: Vec<(u32, f64)> = allowed
        .iter()
        .filter(|id| possible(id))
        .map(|&id| (id, biased(id)))
        .collect();
    let rank = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let mut ranked = rest.clone();
    ranked.sort_by(rank);
    let top = ranked.first()?.1;
    if options.temperature == 0.0 {
        return Some(ranked[0].0);
    }
    let temperature = f64::from(options.temperature);
    let weight = |logit: f64| (logit / temperature - top / temperature).exp();
    if options.top_k > 0 || options.top_p < 1.0 {
        rest = ranked;
        if options.top_k > 0 {
            rest.truncate(options.top_k);
        }
        let total: f64 = rest.iter().map(|c| weight(c.1)).sum();
        let mut kept = Vec::new();
        let mut sum = 0.0;
        for candidate in rest {
            if kept.is_empty() || sum < f64::from(options.top_p) * total {
                kept.push(candidate);
            }
            sum += weight(candidate.1);
        }
        rest = kept;
    }
    rest.retain(|c| options.min_p == 0.0 || weight(c.1) >= f64::from(options.min_p));
    let total: f64 = rest.iter().map(|c| weight(c.1)).sum();
    let mut left = uniform(options.seed, n) * total;
    for &(id, logit) in &rest {
        if left < weight(logit) {
            return Some(id);
        }
        left -= weight(logit);
    }
    rest.iter().rev().find(|c| weight(c.1) > 0.0).map(|c| c.0)
}

proptest! {
    #[test]
    fn the_sampler_equals_its_definition(
        (logits, ids) in cases(),
        bias in proptest::collection::btree_map(0u32..200, -12.0f32..12.0, 0..8),
        temperature in prop_oneof![Just(0.0f32), 0.1f32..3.0],
        top_k in prop_oneof![Just(0usize), 1usize..12],
        top_p in prop_oneof![Just(1.0f32), 0.05f32..1.0],
        min_p in prop_oneof![Just(0.0f32), 0.0f32..1.0],
        seed: u64,
    ) {
        let known = |(id, _): &(u32, f32)| (*id as usize) < logits.len();
        let bias: BTreeMap<u32, f32> = bias.into_iter().filter(known).collect();
        let pairs: Vec<(u32, f32)> = bias.iter().rev().map(|(&id, &value)| (id, value)).collect();
        let set: TokenSet = ids.iter().copied().collect();
        let allowed: Vec<u32> = set.mask().iter(logits.len()).collect();
        let options = SamplerOptions { temperature, top_k, top_p, min_p, seed };
        let mut sampler = sampler(options).with_bias(&pairs, logits.len()).expect("in range");
        for n in [0, 1, 2, 1000, 5] {
            sampler.seek(n);
            let expected = reference(&logits, &bias, &allowed, options, n);
            let choice = sampler.sample(&logits, set.mask());
            prop_assert_eq!(choice.as_ref().ok().map(|choice| choice.id), expected);
            let Ok(choice) = choice else { continue };
            sampler.seek(n);
            prop_assert_eq!(sampler.pick(&logits, set.mask()), Ok(choice.id));
            // What is reported is the model's, whatever bent the distribution.
            let plain = greedy(&logits, set.mask()).expect("there is a choice");
            let apart = f64::from(logits[choice.id as usize]) - f64::from(logits[plain.id as usize]);
            prop_assert!((choice.logprob - (plain.logprob + apart)).abs() < 1e-9);
        }
    }

    #[test]
    fn top_logprobs_are_the_head_of_the_sorted_vocabulary((logits, _) in cases(), n in 0usize..220) {
        let mut expected: Vec<(u32, f64)> = (0..logits.len() as u32)
            .filter(|&id| logits[id as usize] > f32::NEG_INFINITY)
            .map(|id| (id, logprob(&logits, id).expect("in range")))
            .collect();
        expected.sort_by(|a, b| logits[b.0 as usize].total_cmp(&logits[a.0 as usize]));
        expected.truncate(n);
        let top = top_logprobs(&logits, n).expect("no damage");
        let ids = |pairs: &[(u32, f64)]| pairs.iter().map(|pair| pair.0).collect::<Vec<_>>();
        prop_assert_eq!(top.iter().map(|t| t.id).collect::<Vec<_>>(), ids(&expected));
        for (got, (_, logprob)) in top.iter().zip(expected) {
            prop_assert_eq!(got.logprob, logprob.min(0.0));
        }
    }

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
                prop_assert!((choice.logprob - (exp(choice.id) / legal).ln()).abs() < 1e-9);
                prop_assert!(choice.logprob <= 0.0);
                let whole = logprob(&logits, choice.id).expect("in range");
                prop_assert!(whole <= choice.logprob + 1e-9);
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
        for (start, end) in [(0, 300), (7, 9), (60, 70), (64, 128), (250, 400), (128, 128)] {
            let any = ids.iter().any(|&id| (start..end).contains(&(id as usize)));
            prop_assert_eq!(mask.allows_any(start..end), any, "{}..{}", start, end);
            prop_assert_eq!(Mask::all().allows_any(start..end), start < end);
        }
        let mut sum: TokenSet = [5, 299].into_iter().collect();
        sum.insert_all(mask, vocab_size);
        let is_in = |id: u32| [5, 299].contains(&id) || mask.allows(id) && (id as usize) < vocab_size;
        prop_assert!((0..400).all(|id| sum.mask().allows(id) == is_in(id)));
        sum.insert_all(Mask::all(), vocab_size);
        prop_assert!((0..vocab_size as u32).all(|id| sum.mask().allows(id)));
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
        let options = SamplerOptions { temperature, top_k, top_p, seed, ..PLAIN };
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
        SamplerOptions {
            min_p: -0.1,
            ..PLAIN
        },
        SamplerOptions {
            min_p: f32::NAN,
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
fn biases_are_refused_by_name() {
    let refusal = |bias: &[(u32, f32)]| {
        let error = sampler(PLAIN)
            .with_bias(bias, 10)
            .expect_err("out of range");
        error.to_string()
    };
    assert_eq!(
        refusal(&[(3, 1.0), (10, 0.0)]),
        "request field `logit_bias` names token 10; ids are below 10"
    );
    assert_eq!(
        refusal(&[(3, f32::NEG_INFINITY)]),
        "sampler parameter `logit_bias` is -inf; it must be finite; a token that must not come is \
         for a mask"
    );
    assert_eq!(
        refusal(&[(3, 1.0), (4, 1.0), (3, 2.0)]),
        "request field `logit_bias` names token 3 twice; add the two numbers up"
    );
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
