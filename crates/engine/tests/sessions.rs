//! Sessions against the model they serve: chunking, rollback, fork, windows, threads, quantisation,
//! errors.

mod common;

use common::{N_CONFIGS, Random, model};
use cwm_engine::{Engine, Error, Numerics, Options, Session, Want, Weights};
use cwm_kernels::{INT8_GROUP, dequantize_int8, quantize_int8};
use proptest::prelude::*;

fn engine(kind: usize, options: Options) -> Engine {
    Engine::new(model(kind, 7), options).expect("the options fit the test model")
}

/// All logits of `ids` in one call on a fresh session.
fn one_pass(engine: &Engine, ids: &[u32]) -> Vec<f32> {
    let logits = Session::new(engine)
        .extend(engine, ids, Want::All)
        .expect("the ids fit");
    logits.as_slice().to_vec()
}

/// All logits of `ids` in chunks of random lengths up to `longest`.
fn in_chunks(engine: &Engine, ids: &[u32], longest: usize, random: &mut Random) -> Vec<f32> {
    let mut session = Session::new(engine);
    let mut logits = Vec::new();
    while session.len() < ids.len() {
        let rest = &ids[session.len()..];
        let chunk = &rest[..rest.len().min(1 + random.below(longest))];
        let rows = session
            .extend(engine, chunk, Want::All)
            .expect("the ids fit");
        logits.extend_from_slice(rows.as_slice());
    }
    logits
}

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn any_chunking_equals_the_model() {
    let mut random = Random(1);
    for kind in 0..N_CONFIGS {
        let ids = random.ids(170, 67);
        let expected = model(kind, 7).logits(&ids).expect("the ids fit");
        for numerics in [Numerics::Invariant, Numerics::Fast] {
            let engine = engine(
                kind,
                Options {
                    numerics,
                    ..Options::default()
                },
            );
            for longest in [1, 9, 100, 170] {
                let logits = in_chunks(&engine, &ids, longest, &mut random);
                let error = max_difference(&logits, &expected);
                assert!(
                    error < 1e-4,
                    "shape {kind}, {numerics:?}, chunks to {longest}: {error}"
                );
            }
        }
    }
}

#[test]
fn invariant_numerics_give_the_same_bits_for_every_chunking_and_thread_count() {
    let mut random = Random(2);
    for kind in 0..N_CONFIGS {
        for weights in [Weights::F32, Weights::Int8] {
            let ids = random.ids(300, 67);
            let engine = engine(
                kind,
                Options {
                    weights,
                    ..Options::default()
                },
            );
            let expected = bits(&one_pass(&engine, &ids));
            for longest in [1, 7, 40, 290] {
                let logits = in_chunks(&engine, &ids, longest, &mut random);
                assert!(
                    bits(&logits) == expected,
                    "shape {kind}, {weights:?}, chunks to {longest}"
                );
            }
            let threaded = Options {
                weights,
                threads: 3,
                ..Options::default()
            };
            let threaded = Engine::new(model(kind, 7), threaded).expect("three threads are fine");
            assert!(
                bits(&one_pass(&threaded, &ids)) == expected,
                "shape {kind}, {weights:?}"
            );
        }
    }
}

#[test]
fn wanting_less_gives_the_same_rows() {
    let mut random = Random(3);
    for kind in 0..N_CONFIGS {
        for threads in [1, 2] {
            let engine = engine(
                kind,
                Options {
                    threads,
                    ..Options::default()
                },
            );
            let ids = random.ids(270, 67);
            let all = one_pass(&engine, &ids);
            let mut session = Session::new(&engine);
            let none = session
                .extend(&engine, &ids[..100], Want::None)
                .expect("the ids fit");
            assert_eq!((none.n_rows(), none.last()), (0, None));
            let last = session
                .extend(&engine, &ids[100..], Want::Last)
                .expect("the ids fit");
            assert_eq!(last.n_rows(), 1);
            assert_eq!(bits(last.row(0)), bits(&all[269 * 67..]), "shape {kind}");
        }
    }
}

/// Quantisation is the only loss: int8 weights act as the f32 weights they stand for.
#[test]
fn int8_equals_f32_with_the_rounded_weights() {
    let mut random = Random(6);
    for kind in 0..N_CONFIGS {
        let mut rounded = model(kind, 7);
        if rounded.config.tie_word_embeddings {
            // The embeddings stay exact where they are looked up and are rounded as the head.
            continue;
        }
        let layout = rounded.layout.clone();
        for spec in layout.tensors() {
            if spec.shape.len() == 2 && !spec.name.starts_with("model.embed_") {
                round_to_int8(
                    &mut rounded.params[spec.offset..][..spec.len],
                    spec.shape[1],
                );
            }
        }
        let ids = random.ids(90, 67);
        let expected = rounded.logits(&ids).expect("the ids fit");
        let int8 = engine(
            kind,
            Options {
                weights: Weights::Int8,
                ..Options::default()
            },
        );
        let error = max_difference(&one_pass(&int8, &ids), &expected);
        assert!(error < 1e-4, "shape {kind}: {error}");
    }
}

fn round_to_int8(weights: &mut [f32], k: usize) {
    let mut q = vec![0; weights.len()];
    let mut scales = vec![0.0; weights.len() / k * k.div_ceil(INT8_GROUP)];
    quantize_int8(&mut q, &mut scales, weights, k);
    dequantize_int8(weights, &q, &scales, k);
}

#[test]
fn int8_weights_stay_close_to_f32() {
    let mut random = Random(4);
    for kind in 0..N_CONFIGS {
        let ids = random.ids(60, 67);
        let exact = one_pass(&engine(kind, Options::default()), &ids);
        let int8 = engine(
            kind,
            Options {
                weights: Weights::Int8,
                ..Options::default()
            },
        );
        let f32_bytes = engine(kind, Options::default()).bytes_per_token();
        assert!(
            3 * int8.bytes_per_token() < f32_bytes,
            "int8 must save memory traffic"
        );
        let error = rms_difference(&one_pass(&int8, &ids), &exact) / rms(&exact);
        assert!(error < 0.05, "shape {kind}: relative error {error}");
    }
}

fn rms(x: &[f32]) -> f32 {
    (x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32).sqrt()
}

fn rms_difference(a: &[f32], b: &[f32]) -> f32 {
    rms(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
}

#[test]
fn errors_say_what_is_wrong_and_change_nothing() {
    let first = engine(
        0,
        Options {
            max_positions: Some(50),
            ..Options::default()
        },
    );
    let second = engine(0, Options::default());
    let mut session = Session::new(&first);
    session
        .extend(&first, &[3; 40], Want::None)
        .expect("40 tokens fit");

    let unknown = session.extend(&first, &[5, 67], Want::Last);
    assert_eq!(
        unknown,
        Err(Error::UnknownToken {
            id: 67,
            index: 1,
            vocab_size: 67
        })
    );
    let full = session.extend(&first, &[5; 11], Want::Last);
    assert_eq!(
        full,
        Err(Error::ContextFull {
            len: 40,
            added: 11,
            max_positions: 50
        })
    );
    assert_eq!(
        session.extend(&second, &[5], Want::Last),
        Err(Error::WrongEngine)
    );
    assert_eq!(
        session.rollback(41),
        Err(Error::RollbackForward { to: 41, len: 40 })
    );
    assert!(session.truncate_fork(41).is_err());
    assert_eq!(session.tokens().collect::<Vec<_>>(), [3; 40]);
    assert!(
        session.extend(&first, &[5; 10], Want::Last).is_ok(),
        "the limit itself is allowed"
    );

    for options in [
        Options {
            threads: 0,
            ..Options::default()
        },
        Options {
            max_positions: Some(401),
            ..Options::default()
        },
        Options {
            max_positions: Some(0),
            ..Options::default()
        },
    ] {
        let refused = Engine::new(model(0, 7), options);
        assert!(matches!(refused, Err(Error::Option { .. })), "{refused:?}");
    }
}

#[test]
fn forks_run_on_their_own_threads() {
    let engine = engine(0, Options::default());
    let mut random = Random(5);
    let prompt = random.ids(100, 67);
    let mut trunk = Session::new(&engine);
    trunk
        .extend(&engine, &prompt, Want::None)
        .expect("the ids fit");
    let tails: Vec<Vec<u32>> = (0..4).map(|_| random.ids(40, 67)).collect();
    let results: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let start = |tail: &Vec<u32>| {
            let (mut session, engine, tail) = (trunk.fork(), &engine, tail.clone());
            scope.spawn(move || {
                let logits = session
                    .extend(engine, &tail, Want::Last)
                    .expect("the ids fit");
                logits.as_slice().to_vec()
            })
        };
        let running: Vec<_> = tails.iter().map(start).collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    for (tail, logits) in tails.iter().zip(&results) {
        let whole = one_pass(&engine, &[&prompt[..], tail].concat());
        assert_eq!(bits(logits), bits(&whole[139 * 67..]));
    }
    assert_eq!(trunk.tokens().collect::<Vec<_>>(), prompt);
    assert_eq!(trunk.n_shared_pages(), 0, "the forks have gone");
}

#[test]
fn common_prefix_finds_what_can_be_reused() {
    let engine = engine(3, Options::default());
    let mut session = Session::new(&engine);
    session
        .extend(&engine, &[4, 5, 6], Want::None)
        .expect("the ids fit");
    assert_eq!(session.common_prefix(&[4, 5, 9, 6]), 2);
    assert_eq!(session.common_prefix(&[4, 5, 6, 7]), 3);
    assert_eq!(session.common_prefix(&[]), 0);
    assert_eq!((session.token(2), session.token(3)), (Some(6), None));
}

/// One act on a pile of sessions; numbers are taken modulo what is possible.
#[derive(Clone, Debug)]
enum Act {
    Extend {
        session: usize,
        ids: Vec<u32>,
        all: bool,
    },
    Rollback {
        session: usize,
        to: usize,
    },
    Fork {
        session: usize,
    },
    TruncateFork {
        session: usize,
        to: usize,
    },
    Drop {
        session: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let ids = prop_oneof![
        3 => proptest::collection::vec(0..67u32, 1..4),
        1 => proptest::collection::vec(0..67u32, 1..90),
    ];
    prop_oneof![
        4 => (any::<usize>(), ids, any::<bool>())
            .prop_map(|(session, ids, all)| Act::Extend { session, ids, all }),
        2 => any::<(usize, usize)>().prop_map(|(session, to)| Act::Rollback { session, to }),
        1 => any::<usize>().prop_map(|session| Act::Fork { session }),
        1 => any::<(usize, usize)>().prop_map(|(session, to)| Act::TruncateFork { session, to }),
        1 => any::<usize>().prop_map(|session| Act::Drop { session }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever happened to a session and its relatives, its logits are those of its tokens run
    /// from scratch.
    #[test]
    fn sessions_equal_runs_from_scratch(
        kind in 0..N_CONFIGS,
        acts in proptest::collection::vec(act(), 1..24),
    ) {
        let engine = engine(kind, Options::default());
        let mut pile = vec![(Session::new(&engine), Vec::<u32>::new())];
        for act in acts {
            match act {
                Act::Extend { session, mut ids, all } => {
                    let n = pile.len();
                    let (session, tokens) = &mut pile[session % n];
                    ids.truncate(engine.max_positions() - tokens.len());
                    tokens.extend(&ids);
                    let want = if all { Want::All } else { Want::Last };
                    let logits = session.extend(&engine, &ids, want).expect("the ids fit");
                    let scratch = one_pass(&engine, tokens);
                    let rows = &scratch[scratch.len() - logits.as_slice().len()..];
                    prop_assert!(bits(logits.as_slice()) == bits(rows));
                }
                Act::Rollback { session, to } => {
                    let n = pile.len();
                    let (session, tokens) = &mut pile[session % n];
                    let to = to % (tokens.len() + 1);
                    session.rollback(to).expect("not forward");
                    tokens.truncate(to);
                }
                Act::Fork { session } => {
                    let (session, tokens) = &pile[session % pile.len()];
                    let copy = (session.fork(), tokens.clone());
                    pile.push(copy);
                }
                Act::TruncateFork { session, to } => {
                    let (session, tokens) = &pile[session % pile.len()];
                    let to = to % (tokens.len() + 1);
                    let copy = session.truncate_fork(to).expect("not forward");
                    pile.push((copy, tokens[..to].to_vec()));
                }
                Act::Drop { session } => {
                    if pile.len() > 1 {
                        let n = pile.len();
                        pile.swap_remove(session % n);
                    }
                }
            }
            for (session, tokens) in &pile {
                prop_assert_eq!(session.len(), tokens.len());
                prop_assert!(session.tokens().eq(tokens.iter().copied()));
            }
        }
    }
}
