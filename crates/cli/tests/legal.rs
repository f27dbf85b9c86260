//! The grammar that predictions are held to must allow everything that real
//! runs do, and little else.

use std::collections::BTreeMap;
use std::sync::Arc;

use cwm_data::{Evaluator, Plan, build, read_records};
use cwm_engine::live::{Landed, LiveError, Predictor, Sampling};
use cwm_engine::{Engine, Options, SamplerOptions};
use cwm_model::{Config, LayerType, Model, Rope};
use cwm_tokenizer::nano::Vocabulary;
use cwm_trace::Entry;
use cwm_trace::live::{Ahead, Answers, Behind, Document, Jump, Later, Machine, later};
use cwm_tracer::Interpreter;

/// A model as small as can be: what it predicts is of no interest here.
fn engine(vocabulary: &Vocabulary) -> Arc<Engine> {
    let config = Config {
        vocab_size: vocabulary.len(),
        hidden_size: 4,
        intermediate_size: 4,
        n_layers: 1,
        n_heads: 1,
        n_kv_heads: 1,
        head_dim: 4,
        layer_types: vec![LayerType::Full],
        sliding_window: 4096,
        rms_norm_eps: 1e-5,
        rope: Rope {
            theta: 1e4,
            scaling: None,
        },
        max_position_embeddings: 4096,
        n_previous_embeddings: 0,
        run_embedding: None,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_id: Vec::new(),
    };
    let engine = Engine::new(Model::init(config, 1), Options::default());
    Arc::new(engine.expect("the config is valid"))
}

/// A model that knows nothing still answers in the form that is asked for, or says why it cannot.
#[test]
fn any_model_lands_legally() {
    let source = "\
def half(n):
    if n < 0:
        raise ValueError(n)
    return n // 2

def go(items):
    for item in items:
        total = half(item)
    yield total

print(list(go([4, 5])))
";
    let vocabulary = Arc::new(Vocabulary::default());
    let engine = engine(&vocabulary);
    let (mut landed, mut failed) = (0, 0);
    for seed in 0..12 {
        let sampling = SamplerOptions {
            seed,
            ..SamplerOptions::PLAIN
        };
        let predictor = Predictor::new(engine.clone(), vocabulary.clone(), source)
            .expect("the program fits")
            .with_sampling(Sampling::Sample(sampling));
        let entry = Entry::Call {
            function: "half".into(),
            args: "7".into(),
        };
        let (point, first) = predictor.start(&entry).expect("an entry");
        let line = Later::Line {
            line: 4,
            locals: &first.event.locals,
        };
        let value = Arc::from("3");
        let gave = Later::Return {
            line: 4,
            value: &value,
        };
        let ahead = [Ahead::Over, Ahead::Leave, Ahead::Until(9), Ahead::Finish];
        let back = [Behind::Before, Behind::Into, Behind::Input];
        let looks = back
            .into_iter()
            .flat_map(|action| [line, gave].map(|later| predictor.look_back(later, action)));
        let jumps = ahead
            .into_iter()
            .map(|action| predictor.jump(&point, action));
        for answer in jumps.chain(looks) {
            match answer {
                Ok(Landed { probability, .. }) => {
                    assert!((0.0..=1.0).contains(&probability), "{probability}");
                    landed += 1;
                }
                // Noise need not come to an end, or to a text.
                Err(LiveError::LongValue | LiveError::Endless | LiveError::Malformed(_)) => {
                    failed += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let missing = predictor.jump(&point, Ahead::Until(99));
        assert!(
            matches!(missing, Err(LiveError::NoLine(99, 11))),
            "{missing:?}"
        );
    }
    assert!(landed > 20, "{landed} and {failed}");
}

/// What jumps really lead to, asked for at every event of generated programs.
#[test]
fn every_real_landing_is_legal() {
    let Ok(interpreter) = Interpreter::find(None) else {
        eprintln!("skipped: no Python interpreter");
        return;
    };
    let plan = Plan {
        seed: 172,
        count: 150,
        mix: [1, 1, 2, 4, 4].into(),
        distinct: Default::default(),
        drills: 0,
        threads: 2,
        excluded: Default::default(),
    };
    let mut bytes = Vec::new();
    build(&plan, &interpreter, &mut bytes, |_| {}).expect("programs are built");
    let vocabulary = Arc::new(Vocabulary::default());
    let engine = engine(&vocabulary);
    let (mut legal, mut illegal) = (BTreeMap::new(), Vec::new());
    for record in read_records(&bytes[..]) {
        let document = Document::from_trace(&record.expect("a record").trace);
        let predictor = Predictor::new(engine.clone(), vocabulary.clone(), &document.source)
            .expect("generated programs fit the vocabulary");
        let answers = Answers::new(&document);
        let mut machine = Machine::new(&document.source);
        let mut point = predictor.blank();
        for (index, event) in document.events.iter().enumerate() {
            point = predictor.follow(&point, event).expect("the run fits");
            machine.feed(
                event,
                document.functions[event.function as usize].first_line,
            );
            let until = answers.line_for(index, 3).map(Ahead::Until);
            let ahead = [Ahead::Over, Ahead::Leave, Ahead::Finish];
            let back = [Behind::Before, Behind::Into, Behind::Input];
            let jumps = ahead.into_iter().chain(until).map(Jump::Ahead);
            for jump in jumps.chain(back.map(Jump::Behind)) {
                let answered = match jump {
                    Jump::Ahead(action) => answers.ahead(&machine, index, action),
                    Jump::Behind(action) => answers.behind(index, action),
                };
                let Some(answered) = answered else {
                    continue;
                };
                let found = predictor.is_legal_jump(&point, later(event), jump, &answered);
                match found.expect("names are known") {
                    true => {
                        *legal
                            .entry(format!("{jump:?}").split('(').nth(1).map(str::to_owned))
                            .or_insert(0) += 1
                    }
                    false => illegal.push(format!("{jump:?} {event:?} in\n{}", document.source)),
                }
            }
        }
    }
    assert!(illegal.is_empty(), "{}: {}", illegal.len(), illegal[0]);
    assert!(
        legal.len() == 7 && legal.values().all(|&n| n > 100),
        "{legal:?}"
    );
}

#[test]
fn every_real_frame_is_legal() {
    let Ok(interpreter) = Interpreter::find(None) else {
        eprintln!("skipped: no Python interpreter");
        return;
    };
    let plan = Plan {
        seed: 171,
        count: 450,
        mix: [1, 1, 2, 4, 4].into(),
        distinct: Default::default(),
        drills: 1,
        threads: 2,
        excluded: Default::default(),
    };
    let mut bytes = Vec::new();
    build(&plan, &interpreter, &mut bytes, |_| {}).expect("programs are built");
    let vocabulary = Arc::new(Vocabulary::default());
    let engine = engine(&vocabulary);
    let mut evaluator = Evaluator::start(&interpreter).expect("the interpreter starts");
    let (mut frames, mut worked, mut returns_elsewhere, mut illegal) = (0, 0, 0, Vec::new());
    for record in read_records(&bytes[..]) {
        let document = Document::from_trace(&record.expect("a record").trace);
        let workings = evaluator.workings(&document).expect("the script answers");
        let predictor = Predictor::new(engine.clone(), vocabulary.clone(), &document.source)
            .expect("generated programs fit the vocabulary");
        let last = document.events.last().expect("a run has events");
        let mut point = predictor.blank();
        for (index, event) in document.events.iter().enumerate() {
            if index > 0 {
                frames += 1;
                let steps = workings.get(&index).map_or(&[][..], Vec::as_slice);
                let is_legal = |steps, event| {
                    let legal = predictor.is_legal(&point, steps, event);
                    legal.expect("names are known")
                };
                worked += steps.len();
                if !is_legal(steps, event) || !is_legal(&[], event) {
                    illegal.push(format!("{steps:?} {event:?} in\n{}", document.source));
                }
                // The end of the run, moved to where it does not belong.
                let mut moved = last.clone();
                moved.activation = event.activation;
                returns_elsewhere += usize::from(!event.kind.leaves() && is_legal(&[], &moved));
            }
            point = predictor.follow(&point, event).expect("the run fits");
        }
    }
    assert!(frames > 5000, "{frames}");
    assert!(worked > 2500, "{worked}");
    assert!(
        illegal.is_empty(),
        "{} of {frames}: {}",
        illegal.len(),
        illegal[0]
    );
    // Returning is possible at few lines; a grammar that let everything pass
    // would allow it at all.
    assert!(
        returns_elsewhere * 3 < frames,
        "{returns_elsewhere} of {frames}"
    );
}
