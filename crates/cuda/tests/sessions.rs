//! Sessions on the emulated device: beside the processor's engine, and beside themselves after every way of
//! arriving at the same tokens.

mod support;

use std::sync::Arc;

use cwm_cuda::{Emulator, Gpu, Inference};
use cwm_engine::{BatchItem, Engine, Error, Mask, Options, Session, Want, greedy};
use cwm_kernels::{KvFormat, WeightFormat};
use cwm_model::{Config, LayerType, Model, Rope, RunEmbedding};
use proptest::prelude::*;
use support::{Random, alignment, close, open};

/// Logits of one model, computed with operands of products rounded to 8 bits here and there: each product
/// errs by 2^-9 of its size or so, and a few of them follow one another.
const TOLERANCE: f32 = 0.1;

/// Grouped queries, both kinds of layers in both orders, windows of odd lengths, both additions to embeddings.
fn config(kind: usize) -> Config {
    let (hidden_size, head_dim, n_heads, n_kv_heads, window, layers) = match kind {
        0 => (40, 16, 6, 2, 37, "fsf"),
        1 => (48, 32, 3, 1, 70, "sf"),
        _ => (64, 16, 2, 2, 9, "ss"),
    };
    let layer_types = layers.chars().map(|layer| match layer {
        'f' => LayerType::Full,
        _ => LayerType::Sliding,
    });
    Config {
        vocab_size: 61,
        hidden_size,
        intermediate_size: 2 * hidden_size + 8,
        n_layers: layers.len(),
        n_heads,
        n_kv_heads,
        head_dim,
        layer_types: layer_types.collect(),
        sliding_window: window,
        rms_norm_eps: 1e-5,
        rope: Rope {
            theta: 10_000.0,
            scaling: None,
        },
        max_position_embeddings: 2400,
        n_previous_embeddings: [2, 0, 1][kind],
        run_embedding: (kind != 1).then(|| RunEmbedding {
            kinds: vec![[0, 20], [25, 60]],
            n_places: 4,
        }),
        tie_word_embeddings: kind == 1,
        bos_token_id: None,
        eos_token_id: Vec::new(),
    }
}

/// Weights of about unit gain, so that a wrong mask or position shows.
fn model(kind: usize) -> Model {
    let mut model = Model::init(config(kind), 3);
    let mut random = Random::new(kind as u64);
    let layout = model.layout.clone();
    for spec in layout.tensors() {
        let gain = if spec.is_matrix() {
            1.5 / (spec.n_cols() as f32).sqrt()
        } else {
            0.2
        };
        let middle = f32::from(u8::from(!spec.is_matrix()));
        model.params[spec.range()].fill_with(|| middle + random.float(gain));
    }
    model
}

fn ids(n: usize, seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed);
    (0..n).map(|_| (random.next() % 61) as u32).collect()
}

fn on_device(gpu: &Gpu, kind: usize, local_slack: Option<usize>) -> Engine {
    let options = Options {
        weights: WeightFormat::Bf16,
        kv: KvFormat::Bf16,
        local_slack,
        ..Options::default()
    };
    let inference = Inference::new(gpu, &model(kind)).expect("it fits");
    Engine::with_backend(Box::new(inference), options).expect("the options fit")
}

fn on_processor(kind: usize) -> Engine {
    let options = Options {
        weights: WeightFormat::Bf16,
        kv: KvFormat::Bf16,
        ..Options::default()
    };
    Engine::new(model(kind), options).expect("the options fit")
}

fn extend(engine: &Engine, session: &mut Session, ids: &[u32], want: Want) -> Vec<f32> {
    let logits = session.extend(engine, ids, want).expect("the device works");
    logits.as_slice().to_vec()
}

fn all(engine: &Engine, ids: &[u32]) -> Vec<f32> {
    extend(engine, &mut Session::new(engine), ids, Want::All)
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

fn assert_alike(found: &[f32], wanted: &[f32], what: &str) {
    let (cosine, ratio) = alignment(found, wanted);
    assert!(
        cosine > 0.9995 && (ratio - 1.0).abs() < 0.02,
        "{what}: {cosine} {ratio}"
    );
    close(found, wanted, TOLERANCE, what);
}

#[test]
fn logits_are_those_of_the_processor_within_rounding() {
    let Some(gpu) = open() else { return };
    for kind in 0..3 {
        let (device, processor) = (on_device(&gpu, kind, None), on_processor(kind));
        // Past every window, over page boundaries; then tokens one by one.
        let text = ids(150, 5);
        let (mut here, mut there) = (Session::new(&processor), Session::new(&device));
        let wanted = extend(&processor, &mut here, &text[..140], Want::All);
        let found = extend(&device, &mut there, &text[..140], Want::All);
        assert_alike(&found, &wanted, &format!("prompt, {kind}"));
        for &id in &text[140..] {
            let wanted = extend(&processor, &mut here, &[id], Want::Last);
            let found = extend(&device, &mut there, &[id], Want::Last);
            assert_alike(&found, &wanted, &format!("a token, {kind}"));
        }
        assert_eq!(here.n_pages(), there.n_pages());
        let (of_a_token, all) = (device.bytes_per_token(), device.n_weight_bytes());
        assert!(0 < of_a_token && of_a_token <= all, "{of_a_token} of {all}");
    }
}

#[test]
fn long_sequences_are_added_up_from_chunks() {
    let Some(gpu) = open() else { return };
    let (device, processor) = (on_device(&gpu, 1, None), on_processor(1));
    let text = ids(1100, 8);
    let mut there = Session::new(&device);
    extend(&device, &mut there, &text[..1020], Want::None);
    let found = extend(&device, &mut there, &text[1020..], Want::All);
    let wanted = all(&processor, &text);
    assert_alike(&found, &wanted[1020 * 61..], "beyond a chunk");
    // A short one is the same beside it as alone, bit for bit.
    let mut short = Session::new(&device);
    let mut items = [
        BatchItem {
            session: &mut there,
            ids: &[7],
            want: Want::Last,
        },
        BatchItem {
            session: &mut short,
            ids: &text[..30],
            want: Want::All,
        },
    ];
    let both = device.extend_batch(&mut items).expect("the device works");
    let alone = all(&device, &text[..30]);
    assert_eq!(bits(both[1].as_slice()), bits(&alone));
}

#[test]
fn several_sessions_in_a_pass_are_what_each_is_alone() {
    let Some(gpu) = open() else { return };
    for kind in 0..3 {
        let device = on_device(&gpu, kind, None);
        let texts: Vec<Vec<u32>> = [(70, 1), (3, 2), (200, 3), (64, 4)]
            .map(|(n, seed)| ids(n, seed))
            .to_vec();
        let mut sessions: Vec<Session> = texts.iter().map(|_| Session::new(&device)).collect();
        let mut items: Vec<BatchItem<'_>> = (sessions.iter_mut().zip(&texts))
            .map(|(session, ids)| BatchItem {
                session,
                ids,
                want: Want::All,
            })
            .collect();
        let together = device.extend_batch(&mut items).expect("the device works");
        for (text, logits) in texts.iter().zip(&together) {
            assert_eq!(bits(logits.as_slice()), bits(&all(&device, text)), "{kind}");
        }
    }
}

#[test]
fn threads_share_passes_and_nobody_notices() {
    let Some(gpu) = open() else { return };
    let device = Arc::new(on_device(&gpu, 0, None));
    let texts: Vec<Vec<u32>> = (0..6).map(|seed| ids(20 + 9 * seed, seed as u64)).collect();
    let alone: Vec<Vec<f32>> = texts.iter().map(|text| all(&device, text)).collect();
    let run = |text: &Vec<u32>| {
        let mut session = Session::new(&device);
        let pieces = text.chunks(7);
        let rows = pieces.flat_map(|piece| extend(&device, &mut session, piece, Want::All));
        rows.collect::<Vec<f32>>()
    };
    let found: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let threads: Vec<_> = texts.iter().map(|text| scope.spawn(|| run(text))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|rows| rows.expect("no panic")).collect()
    });
    for (found, alone) in found.iter().zip(&alone) {
        assert_eq!(bits(found), bits(alone));
    }
}

#[test]
fn greedy_tokens_are_those_of_the_processor() {
    let Some(gpu) = open() else { return };
    let (device, processor) = (on_device(&gpu, 0, None), on_processor(0));
    let generate = |engine: &Engine| {
        let mut session = Session::new(engine);
        let mut logits = extend(engine, &mut session, &ids(20, 1), Want::Last);
        let mut told = Vec::new();
        for _ in 0..24 {
            let choice = greedy(&logits, Mask::all()).expect("logits are numbers");
            told.push(choice.id);
            logits = extend(engine, &mut session, &[choice.id], Want::Last);
        }
        told
    };
    // With this seed no second token comes near the first.
    assert_eq!(generate(&device), generate(&processor));
}

#[test]
fn what_has_no_room_leaves_everything_as_it_was() {
    // Weights, buffers of a pass and a slab or two.
    let Ok(gpu) = Emulator::with_memory(20 << 20) else {
        return;
    };
    let device = on_device(&gpu, 0, None);
    let text = ids(300, 9);
    let mut kept = Session::new(&device);
    let before = extend(&device, &mut kept, &text, Want::All);
    let mut others = Vec::new();
    let error = loop {
        let mut session = Session::new(&device);
        match session.extend(&device, &ids(700, others.len() as u64), Want::None) {
            Ok(_) => others.push(session),
            Err(error) => {
                assert!(session.is_empty() && session.n_pages() == 0);
                break error;
            }
        }
    };
    assert!(matches!(error, Error::Backend(_)), "{error}");
    assert!(
        error.to_string().contains("no room on the device"),
        "{error}"
    );
    // A session that cannot grow keeps what it has; so do those beside it.
    let mut last = others.pop().expect("some fitted");
    let mut grows = last.extend(&device, &ids(1500, 3), Want::None);
    assert!(grows.is_err(), "pages are left");
    assert_eq!(last.len(), 700);
    assert_eq!(
        last.tokens().collect::<Vec<_>>(),
        ids(700, others.len() as u64)
    );
    kept.rollback(0).expect("nothing is forgotten");
    others.pop();
    let again = extend(&device, &mut kept, &text, Want::All);
    assert_eq!(bits(&again), bits(&before));
    // What was given back serves others.
    others.clear();
    grows = last.extend(&device, &ids(500, 3), Want::None);
    assert!(grows.is_ok(), "{grows:?}");
}

#[test]
fn options_that_a_device_has_its_own_way_of_are_refused() {
    let Some(gpu) = open() else { return };
    let inference = Inference::new(&gpu, &model(0)).expect("it fits");
    let error = Engine::with_backend(Box::new(inference), Options::default());
    let text = error.map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("WeightFormat::Bf16"), "{text}");
    let narrow = Config {
        head_dim: 8,
        ..config(0)
    };
    let error = Inference::new(&gpu, &Model::init(narrow, 1)).map(|_| ());
    assert!(error.unwrap_err().to_string().contains("--device cpu"));
}

#[derive(Clone, Debug)]
enum Act {
    Extend(usize, usize, u64),
    Rewind(usize, usize),
    Edit(usize, usize, usize, u64),
    Fork(usize),
    Drop(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let n = || 0..1000usize;
    prop_oneof![
        4 => (n(), 1..90usize, any::<u64>()).prop_map(|(at, n, seed)| Act::Extend(at, n, seed)),
        2 => (n(), n()).prop_map(|(at, to)| Act::Rewind(at, to)),
        1 => (n(), n(), 1..40usize, any::<u64>())
            .prop_map(|(at, to, n, seed)| Act::Edit(at, to, n, seed)),
        2 => n().prop_map(Act::Fork),
        1 => n().prop_map(Act::Drop),
    ]
}

/// Does `acts` to a pile of sessions; each is then what a fresh one with its tokens is, bit for bit.
fn run(kind: usize, slack: Option<usize>, acts: &[Act]) {
    let Some(gpu) = open() else { return };
    let engine = on_device(&gpu, kind, slack);
    let mut pile = vec![(Session::new(&engine), Vec::<u32>::new())];
    for act in acts {
        let at = match *act {
            Act::Extend(at, ..) | Act::Rewind(at, _) | Act::Edit(at, ..) => at,
            Act::Fork(at) | Act::Drop(at) => at,
        } % pile.len();
        let (session, tokens) = &mut pile[at];
        match *act {
            Act::Extend(_, n, seed) => {
                let new = ids(n, seed);
                session.extend(&engine, &new, Want::None).expect("room");
                tokens.extend(new);
            }
            Act::Rewind(_, to) => {
                let to = to % (tokens.len() + 1);
                session.rewind(&engine, to).expect("reached");
                tokens.truncate(to);
            }
            Act::Edit(_, to, n, seed) => {
                let (to, new) = (to % (tokens.len() + 1), ids(n, seed));
                session.edit(&engine, to, &new, Want::Last).expect("room");
                tokens.truncate(to);
                tokens.extend(new);
            }
            Act::Fork(_) if pile.len() < 5 => {
                let twin = (pile[at].0.fork(), pile[at].1.clone());
                pile.push(twin);
            }
            Act::Drop(_) if pile.len() > 1 => {
                pile.swap_remove(at);
            }
            Act::Fork(_) | Act::Drop(_) => {}
        }
    }
    for (session, tokens) in &mut pile {
        let told: Vec<u32> = session.tokens().collect();
        assert_eq!(&told, tokens);
        let after = extend(&engine, session, &[11, 3], Want::All);
        let fresh = all(&engine, &[tokens, &[11, 3][..]].concat());
        assert_eq!(bits(&after), bits(&fresh[fresh.len() - after.len()..]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_a_session_is_its_tokens(
        kind in 0..3usize,
        slack in prop_oneof![Just(None), (0..80usize).prop_map(Some)],
        acts in prop::collection::vec(act(), 1..14),
    ) {
        run(kind, slack, &acts);
    }
}
