//! What the frame grammar costs and saves: time to a mask, and how few tokens are legal. One JSON
//! line for all traces together.
//!
//! `cargo bench -p cwm-engine --bench frames -- [TOKENIZER [TRACE...]]`: a `tokenizer.model` of the
//! Llama-3 kind (without one, tokens are bytes), and files that `cwm trace` wrote (without any,
//! the traces in the dialect's specification). Each trace is followed by a grammar of
//! its own, whose states are all new to it, but for those inside strings, which the vocabulary keeps.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use cwm_engine::Constraint;
use cwm_engine::frames::{FrameGrammar, FrameVocabulary, Frames};
use cwm_tokenizer::llama::{Llama, Markup};
use cwm_trace::cwm::{Document, parse, render, render_prompt};

const SPEC: &str = include_str!("../../trace/specs/cwm.md");

/// So few legal tokens are worth a product of their own with the rows of the head.
const FEW: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let llama = match arguments.next() {
        Some(path) => Llama::from_file(path)?,
        None => Llama::bytes(),
    };
    let mut documents = Vec::new();
    for path in arguments {
        let parsed = parse(&std::fs::read_to_string(&path)?);
        if let Some(broken) = parsed.broken {
            return Err(format!("{path}: {broken}").into());
        }
        documents.push(parsed.document);
    }
    if documents.is_empty() {
        let blocks = SPEC.split("\n```cwm\n").skip(1);
        let texts = blocks.filter_map(|block| block.split("\n```").next());
        documents.extend(texts.map(|text| parse(text).document));
    }
    let vocabulary = Arc::new(FrameVocabulary::of(&llama)?);
    let mut figures = Figures::default();
    for document in &documents {
        follow(&llama, &vocabulary, document, &mut figures)?;
    }
    figures.report(documents.len(), vocabulary.size());
    Ok(())
}

#[derive(Default)]
struct Figures {
    /// Microseconds of each mask.
    masks: Vec<f64>,
    /// Microseconds of each grammar.
    builds: Vec<f64>,
    forced: usize,
    few: usize,
}

fn follow(
    llama: &Llama,
    vocabulary: &Arc<FrameVocabulary>,
    document: &Document,
    figures: &mut Figures,
) -> Result<(), Box<dyn Error>> {
    let text = render(document);
    let prompt = render_prompt(&document.context);
    let ids = llama.encode_markup(&text[prompt.len()..], Markup::Cwm);
    let start = Instant::now();
    let grammar = FrameGrammar::new(vocabulary.clone(), &[&document.context]);
    let mut frames = Frames::new(Arc::new(grammar));
    figures.builds.push(start.elapsed().as_secs_f64() * 1e6);
    for id in ids {
        let start = Instant::now();
        black_box(frames.mask());
        figures.masks.push(start.elapsed().as_secs_f64() * 1e6);
        let legal = frames.mask().count(vocabulary.size());
        figures.forced += usize::from(legal == 1);
        figures.few += usize::from(legal <= FEW);
        frames.accept(id)?;
    }
    Ok(())
}

impl Figures {
    fn report(mut self, traces: usize, vocabulary: usize) {
        self.masks.sort_by(f64::total_cmp);
        self.builds.sort_by(f64::total_cmp);
        let tokens = self.masks.len();
        let share = |n: usize| n as f64 / tokens as f64;
        let mask = |part: f64| quantile(&self.masks, part);
        println!(
            "{}",
            serde_json::json!({
                "bench": "frames", "traces": traces, "vocabulary": vocabulary, "tokens": tokens,
                "mask_us_mean": self.masks.iter().sum::<f64>() / tokens as f64,
                "mask_us_p50": mask(0.5), "mask_us_p99": mask(0.99), "mask_us_max": mask(1.0),
                "build_us_p50": quantile(&self.builds, 0.5),
                "forced_share": share(self.forced), "at_most_512_share": share(self.few),
            })
        );
    }
}

fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((part * last as f64).round() as usize)
        .copied()
        .unwrap_or_default()
}
