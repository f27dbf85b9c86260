//! Predicting ahead gives the frames of plain prediction, bit for bit: guesses, taken-over windows and
//! forced tokens change no token and no probability.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cwm_engine::live::{Pace, Predicted, Predictor, Sampling};
use cwm_engine::{Engine, Options, SamplerOptions};
use cwm_model::Model;
use cwm_tokenizer::nano::Vocabulary;
use cwm_trace::Entry;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

struct Shipped {
    engine: Arc<Engine>,
    vocabulary: Arc<Vocabulary>,
}

impl Shipped {
    fn load(options: Options) -> Self {
        let folder = root().join("models/nano");
        let vocabulary = Vocabulary::load(&folder.join(Vocabulary::FILE));
        let model = Model::load(&folder).expect("the model ships");
        Self {
            engine: Arc::new(Engine::new(model, options).expect("the options fit")),
            vocabulary: Arc::new(vocabulary.expect("the vocabulary ships")),
        }
    }

    fn predictor(&self, source: &str, pace: Pace, sampling: &Sampling) -> Predictor {
        Predictor::new(self.engine.clone(), self.vocabulary.clone(), source)
            .expect("the program fits")
            .with_pace(pace)
            .with_sampling(sampling.clone())
    }
}

/// All that is shown of a frame, probabilities as their bits.
fn shown(predicted: &Predicted) -> String {
    let Predicted {
        event,
        function,
        depth,
        changes,
        value_probability,
        probability,
        working,
    } = predicted;
    let changes: Vec<(&str, u32)> = changes.iter().map(|(n, p)| (&**n, p.to_bits())).collect();
    let value = value_probability.map(f32::to_bits);
    let probability = probability.to_bits();
    format!("{event:?} {function} {depth} {changes:?} {value:?} {probability} {working:?}")
}

/// A run's frames and what ended it. From time to time a frame is asked for twice, and a moment that is
/// past is gone on from.
fn run(predictor: &Predictor, most: usize) -> Vec<String> {
    let (mut point, first) = predictor.start(&Entry::Module).expect("a module");
    let mut frames = vec![shown(&first)];
    while frames.len() < most {
        if frames.len() % 7 == 3
            && let Ok(Some(peeked)) = predictor.peek(&point)
        {
            frames.push(shown(&peeked));
        }
        match predictor.next(&point) {
            Ok(Some((next, predicted))) => {
                frames.push(shown(&predicted));
                if frames.len() % 11 != 5 {
                    point = next;
                }
            }
            Ok(None) => break,
            Err(error) => {
                frames.push(error.to_string());
                break;
            }
        }
    }
    frames
}

fn examples() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("examples")).expect("there are examples");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    let sources = paths.iter().map(std::fs::read_to_string);
    sources.map(|source| source.expect("a text")).collect()
}

#[test]
fn predicting_ahead_changes_nothing() {
    let shipped = Shipped::load(Options::default());
    let drawn = Sampling::Sample(SamplerOptions {
        temperature: 1.5,
        top_p: 0.95,
        seed: 4,
        ..SamplerOptions::PLAIN
    });
    for (index, source) in examples().iter().enumerate() {
        let sampling = match index % 3 {
            0 => &drawn,
            _ => &Sampling::Greedy,
        };
        let frames = |pace| run(&shipped.predictor(source, pace, sampling), 25);
        let (plain, ahead) = (frames(Pace::Plain), frames(Pace::Ahead));
        assert!(plain.len() > 5, "{plain:?}");
        assert_eq!(plain, ahead, "{source}");
        // What an entirely different run has left behind does not matter either.
        if index == 1 {
            let predictor = shipped.predictor(source, Pace::Ahead, &drawn);
            run(&predictor, 30);
            assert_eq!(run(&predictor.with_sampling(sampling.clone()), 25), plain);
        }
    }
}

#[test]
fn a_full_context_is_told_alike() {
    let source = "xs = [1, 2, 3]\nys = xs + xs + xs\nzs = ys + ys\n";
    let mut ends = Vec::new();
    for max_positions in (40..260).step_by(9) {
        let shipped = Shipped::load(Options {
            max_positions: Some(max_positions),
            ..Options::default()
        });
        let frames = |pace| {
            let engine = shipped.engine.clone();
            let predictor = Predictor::new(engine, shipped.vocabulary.clone(), source).ok()?;
            Some(run(&predictor.with_pace(pace), 12))
        };
        let (plain, ahead) = (frames(Pace::Plain), frames(Pace::Ahead));
        assert_eq!(plain, ahead, "{max_positions}");
        let told = |frame: &String| frame.contains("exceed the engine's limit");
        ends.push(plain.is_some_and(|frames| frames.iter().any(told)));
    }
    assert!(ends.contains(&true) && ends.contains(&false), "{ends:?}");
}
