//! Sessions against the model they serve: chunking, rollback, fork, windows, threads, quantisation,
//! errors.

mod common;
#[path = "sessions/properties.rs"]
mod properties;

use common::{N_CONFIGS, Random, bits, config, model, one_pass};
use cwm_engine::{
    BatchItem, Engine, Error, KvFormat, Options, Session, TokenSet, Want, WeightFormat,
};
use cwm_kernels::{Linear, Pool};
use cwm_model::Model;

fn engine(kind: usize, options: Options) -> Engine {
    Engine::new(model(kind, 7), options).expect("the options fit the test model")
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

#[test]
fn any_chunking_equals_the_model() {
    let mut random = Random(1);
    for kind in 0..N_CONFIGS {
        let ids = random.ids(170, 67);
        let expected = model(kind, 7).logits(&ids).expect("the ids fit");
        let engine = engine(kind, Options::default());
        for longest in [1, 9, 100, 170] {
            let logits = in_chunks(&engine, &ids, longest, &mut random);
            let error = max_difference(&logits, &expected);
            assert!(error < 1e-4, "shape {kind}, chunks to {longest}: {error}");
        }
    }
}

/// Every way to hold weights and the cache.
fn formats() -> impl Iterator<Item = Options> {
    let kv = [KvFormat::F32, KvFormat::Bf16];
    WeightFormat::ALL.into_iter().flat_map(move |weights| {
        kv.into_iter().map(move |kv| Options {
            weights,
            kv,
            ..Options::default()
        })
    })
}

#[test]
fn every_chunking_and_number_of_threads_gives_the_same_bits() {
    let mut random = Random(2);
    for kind in 0..N_CONFIGS {
        for options in formats() {
            let ids = random.ids(300, 67);
            let name = format!("shape {kind}, {options:?}");
            let threaded = Options {
                threads: 3,
                ..options.clone()
            };
            let (engine, threaded) = (engine(kind, options), engine(kind, threaded));
            let expected = bits(&one_pass(&engine, &ids));
            for longest in [1, 7, 40, 290] {
                let logits = in_chunks(&engine, &ids, longest, &mut random);
                assert!(bits(&logits) == expected, "{name}, chunks to {longest}");
            }
            for longest in [7, 300] {
                let logits = in_chunks(&threaded, &ids, longest, &mut random);
                assert!(bits(&logits) == expected, "{name}, threads, to {longest}");
            }
        }
    }
}

/// The test models are small, so that threads share rows; of this one they share products, or either.
#[test]
fn threads_that_share_products_give_the_same_bits() {
    let mut random = Random(10);
    let mut config = config(3);
    config.intermediate_size = 13_000;
    let ids = random.ids(120, 67);
    for weights in [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Int8] {
        let engine = |threads| {
            let options = Options {
                threads,
                weights,
                ..Options::default()
            };
            Engine::new(Model::init(config.clone(), 3), options).expect("the options fit")
        };
        let expected = bits(&one_pass(&engine(1), &ids));
        for longest in [1, 9, 120] {
            let logits = in_chunks(&engine(3), &ids, longest, &mut random);
            assert!(bits(&logits) == expected, "{weights}, chunks to {longest}");
        }
    }
}

#[test]
fn logits_of_legal_tokens_do_not_depend_on_what_else_is_legal() {
    let mut random = Random(9);
    let vocab_size = 67;
    for kind in 0..N_CONFIGS {
        for (options, threads) in formats().zip([1, 3].into_iter().cycle()) {
            let engine = engine(kind, Options { threads, ..options });
            let (prompt, ids) = (random.ids(20, 67), random.ids(5, 67));
            let mut base = Session::new(&engine);
            base.extend(&engine, &prompt, Want::None).expect("fits");
            for want in [Want::Last, Want::All] {
                let whole = base.fork().extend(&engine, &ids, want).expect("fits");
                for legal in [&[3][..], &[66], &[0, 65], &[]] {
                    let set: TokenSet = legal.iter().copied().collect();
                    let mut session = base.fork();
                    let some = session.extend_among(&engine, &ids, want, Some(set.mask()));
                    let some = some.expect("fits");
                    let rows = if want == Want::All { ids.len() } else { 1 };
                    for row in 0..rows {
                        let (some, whole) = (some.row(row), whole.row(row));
                        assert_eq!(some.len(), vocab_size);
                        for (id, (a, b)) in some.iter().zip(whole).enumerate() {
                            let is_legal = legal.contains(&(id as u32));
                            assert!(a == b || *a == f32::NEG_INFINITY && !is_legal, "{id}");
                        }
                    }
                    assert_eq!(session.len(), base.len() + ids.len());
                }
            }
        }
    }
}

#[test]
fn sessions_in_a_batch_get_what_they_get_alone() {
    let mut random = Random(8);
    for kind in 0..N_CONFIGS {
        for (options, threads) in formats().zip([1, 3, 2].into_iter().cycle()) {
            let engine = engine(kind, Options { threads, ..options });
            let prompts: Vec<Vec<u32>> = (0..5)
                .map(|_| {
                    let n = random.below(120);
                    random.ids(n, 67)
                })
                .collect();
            let wants = [Want::All, Want::Last, Want::None, Want::All, Want::Last];
            // Two rounds: more tokens than go through in one pass, then a few each.
            let mut together: Vec<Session> = wants.map(|_| Session::new(&engine)).into();
            let mut alone = together.clone();
            for round in 0..2 {
                let mut items: Vec<BatchItem<'_>> = (together.iter_mut())
                    .zip(&prompts)
                    .zip(wants)
                    .map(|((session, ids), want)| BatchItem {
                        session,
                        ids: if round == 0 {
                            ids
                        } else {
                            &ids[..ids.len().min(3)]
                        },
                        want,
                    })
                    .collect();
                let batch = engine.extend_batch(&mut items).expect("the ids fit");
                let ids: Vec<Vec<u32>> = items.iter().map(|item| item.ids.to_vec()).collect();
                for (index, logits) in batch.iter().enumerate() {
                    let solo = alone[index].extend(&engine, &ids[index], wants[index]);
                    let solo = solo.expect("the ids fit");
                    let same = bits(logits.as_slice()) == bits(solo.as_slice());
                    assert!(
                        same,
                        "shape {kind}, {:?}, session {index}",
                        engine.options()
                    );
                }
            }
            for (a, b) in together.iter().zip(&alone) {
                assert!(a.tokens().eq(b.tokens()));
            }
        }
    }
}

#[test]
fn a_batch_with_a_mistake_changes_nothing() {
    let engine = engine(0, Options::default());
    let (mut a, mut b) = (Session::new(&engine), Session::new(&engine));
    let item = |session, ids| BatchItem {
        session,
        ids,
        want: Want::Last,
    };
    let mut items = [item(&mut a, &[1, 2]), item(&mut b, &[3, 99])];
    let refused = engine.extend_batch(&mut items);
    assert!(matches!(refused, Err(Error::UnknownToken { id: 99, .. })));
    assert!(a.is_empty() && b.is_empty());
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

/// Rounding the weights and the inputs of products is the only loss: an engine is near a model
/// whose weights are what its format makes of them.
#[test]
fn packed_weights_act_as_the_weights_they_stand_for() {
    let mut random = Random(6);
    for kind in 0..N_CONFIGS {
        let ids = random.ids(60, 67);
        let exact = model(kind, 7).logits(&ids).expect("the ids fit");
        for (weights, bound) in [
            (WeightFormat::Bf16, 0.02),
            (WeightFormat::Int8, 0.03),
            (WeightFormat::Int4Group32, 0.05),
            (WeightFormat::Int4Group128, 0.05),
        ] {
            let expected = rounded(kind, weights).logits(&ids).expect("the ids fit");
            let options = Options {
                weights,
                ..Options::default()
            };
            let packed = one_pass(&engine(kind, options), &ids);
            let error = rms_difference(&packed, &expected) / rms(&exact);
            assert!(error < bound, "shape {kind}, {weights}: {error}");
        }
    }
}

/// The test model with the weights that `format` makes of its own.
fn rounded(kind: usize, format: WeightFormat) -> cwm_model::Model {
    let mut model = model(kind, 7);
    let layout = model.layout.clone();
    let (mut seen, tables) = (Vec::new(), table_format(format));
    for spec in layout.tensors() {
        let is_packed = spec.is_matrix() && !spec.name.starts_with("model.embed_previous");
        if !is_packed || spec.name == "model.embed_run.weight" || seen.contains(&spec.offset) {
            continue;
        }
        seen.push(spec.offset);
        let format = if spec.is_table() { tables } else { format };
        let (rows, k) = (spec.n_rows(), spec.n_cols());
        let weights = &mut model.params[spec.offset..][..spec.len];
        let packed = Linear::pack(format, rows, k, &Pool::solo(), |row, out| {
            out.copy_from_slice(&weights[row * k..][..k]);
        });
        for (row, out) in weights.chunks_exact_mut(k).enumerate() {
            packed.row(row, out);
        }
    }
    model
}

/// Embeddings and head have 8 bits where the rest has 4.
fn table_format(format: WeightFormat) -> WeightFormat {
    match format {
        WeightFormat::Int4Group32 | WeightFormat::Int4Group128 => WeightFormat::Int8,
        other => other,
    }
}

#[test]
fn smaller_formats_read_less() {
    // Groups of 128 pay for rows of at least as many weights, which a test model has not.
    let bytes = [0, 1, 2, 3].map(|index| {
        let weights = WeightFormat::ALL[index];
        let options = Options {
            weights,
            ..Options::default()
        };
        let engine = Engine::random(common::config(3), 1, options).expect("a valid config");
        engine.bytes_per_token()
    });
    assert!(bytes.windows(2).all(|pair| pair[1] < pair[0]), "{bytes:?}");
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
    assert_eq!(session.rewind(&second, 4), Err(Error::WrongEngine));
    assert_eq!(
        session.edit(&second, 4, &[5], Want::Last),
        Err(Error::WrongEngine)
    );
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

/// Local layers of shape 0 see 5 positions and let go of whole pages of 64.
#[test]
fn what_local_layers_have_forgotten_is_refused_or_recomputed() {
    let engine = engine(
        0,
        Options {
            local_slack: Some(20),
            ..Options::default()
        },
    );
    let ids = Random(8).ids(200, 67);
    let mut session = Session::new(&engine);
    session
        .extend(&engine, &ids, Want::None)
        .expect("the ids fit");
    assert_eq!(session.exact_from(), 132, "128 are forgotten");
    let refused = Error::RollbackForgotten {
        to: 131,
        exact_from: 132,
        recompute: 131,
    };
    assert_eq!(session.rollback(131), Err(refused.clone()));
    assert_eq!(
        refused.to_string(),
        "cannot go back to 131 tokens without recomputing 131: local layers remember enough from \
         132 tokens on; `Session::rewind` recomputes them, and a larger `Options::local_slack` \
         remembers more"
    );
    assert_eq!(session.truncate_fork(131).err(), Some(refused));
    assert_eq!(session.len(), 200, "a refusal changes nothing");
    let empty = session.truncate_fork(0).expect("nothing is needed");
    assert_eq!((empty.len(), empty.bytes()), (0, 0));
    assert_eq!(session.rewind(&engine, 132), Ok(0));
    assert_eq!(session.rewind(&engine, 131), Ok(131));
    assert_eq!(
        session.rewind(&engine, 132),
        Err(Error::RollbackForward { to: 132, len: 131 })
    );
    let logits = session.extend(&engine, &ids[131..133], Want::All);
    let logits = logits.expect("the ids fit");
    let expected = one_pass(&engine, &ids[..133]);
    assert_eq!(bits(logits.as_slice()), bits(&expected[131 * 67..]));
}

#[test]
fn edits_keep_what_stays_the_same() {
    let engine = engine(1, Options::default());
    let (old, mut new) = (Random(9).ids(150, 67), Random(9).ids(150, 67));
    new[140] = (new[140] + 1) % 67;
    let mut session = Session::new(&engine);
    session
        .extend(&engine, &old, Want::None)
        .expect("the ids fit");
    let witness = session.fork();
    let logits = session.edit(&engine, 5, &new[5..], Want::Last);
    let logits = logits.expect("the ids fit");
    let expected = one_pass(&engine, &new);
    assert_eq!(bits(logits.row(0)), bits(&expected[149 * 67..]));
    assert_eq!(
        (session.n_pages(), session.n_shared_pages()),
        (6, 4),
        "the two pages below position 128 of each group were not computed again"
    );
    assert!(witness.tokens().eq(old));

    let nothing_new = session.edit(&engine, 5, &new[5..], Want::Last);
    assert_eq!(nothing_new, Ok(logits));
    let none = session
        .edit(&engine, 5, &[], Want::All)
        .expect("a rollback");
    assert_eq!((none.n_rows(), session.len()), (0, 5));

    let before = session.tokens().collect::<Vec<_>>();
    let unknown = session.edit(&engine, 2, &[67], Want::Last);
    assert!(matches!(unknown, Err(Error::UnknownToken { .. })));
    let full = session.edit(&engine, 2, &[3; 399], Want::Last);
    assert!(matches!(full, Err(Error::ContextFull { len: 2, .. })));
    let forward = session.edit(&engine, 6, &[3], Want::Last);
    assert_eq!(forward, Err(Error::RollbackForward { to: 6, len: 5 }));
    assert_eq!(session.tokens().collect::<Vec<_>>(), before);
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
