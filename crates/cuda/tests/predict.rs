//! The shipped model predicts a program on the emulated device: frames are those of the processor, and
//! guessing ahead changes no bit there either.

mod support;

use std::path::Path;
use std::sync::Arc;

use cwm_cuda::Inference;
use cwm_engine::live::{Pace, Predictor};
use cwm_engine::{Engine, Options};
use cwm_model::Model;
use cwm_tokenizer::nano::Vocabulary;
use cwm_trace::Entry;
use support::open;

const PROGRAM: &str = "\
def f(n):
    total = 0
    while n > 0:
        total += n
        n -= 1
    return total
";

/// The frames of `f(2)`, with and without their probabilities.
fn frames(engine: &Arc<Engine>, vocabulary: &Arc<Vocabulary>, pace: Pace) -> [Vec<String>; 2] {
    let predictor = Predictor::new(engine.clone(), vocabulary.clone(), PROGRAM);
    let predictor = predictor.expect("the program fits").with_pace(pace);
    let entry = Entry::Call {
        function: "f".to_owned(),
        args: "2".to_owned(),
    };
    let (mut point, _) = predictor.start(&entry).expect("there is such a function");
    let [mut plain, mut exact] = [Vec::new(), Vec::new()];
    while let Some((next, frame)) = predictor.next(&point).expect("frames are told") {
        plain.push(format!("{:?} {:?}", frame.event, frame.working));
        let bits: Vec<u32> = frame.changes.iter().map(|(_, p)| p.to_bits()).collect();
        exact.push(format!("{:?} {bits:?}", frame.probability.to_bits()));
        point = next;
    }
    [plain, exact]
}

#[test]
fn the_shipped_model_tells_the_same_frames() {
    let Some(gpu) = open() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano");
    let vocabulary = Vocabulary::load(&folder.join(Vocabulary::FILE));
    let vocabulary = Arc::new(vocabulary.expect("the vocabulary ships"));
    let model = Model::load(&folder).expect("the model ships");
    let device = Arc::new(Inference::engine(&gpu, &model).expect("it fits"));
    let processor = Engine::new(model, Options::default()).expect("the options fit");
    let [wanted, _] = frames(&Arc::new(processor), &vocabulary, Pace::Ahead);
    let [told, exact] = frames(&device, &vocabulary, Pace::Ahead);
    assert_eq!(told, wanted);
    assert!(told.len() > 8, "{told:?}");
    let [again, exact_again] = frames(&device, &vocabulary, Pace::Plain);
    assert_eq!((told, exact), (again, exact_again));
}
