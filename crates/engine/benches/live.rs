//! Time that the shipped model takes for a frame of the programs in `examples/`, one JSON line per
//! program and one for all; before them, what a pass costs by its number of tokens.
//!
//! `cargo bench -p cwm-engine --bench live`. Each figure is the median of five whole runs, each by a
//! predictor of its own. Compare two builds only in interleaved runs on an otherwise idle machine.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cwm_engine::live::Predictor;
use cwm_engine::{Engine, Options, PassCosts};
use cwm_model::Model;
use cwm_tokenizer::nano::Vocabulary;
use cwm_trace::Entry;

const RUNS: usize = 5;

/// Frames of a run at most.
const MOST: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = root.join("models/nano");
    let vocabulary = Arc::new(Vocabulary::load(&folder.join(Vocabulary::FILE))?);
    let engine = Arc::new(Engine::new(Model::load(&folder)?, Options::default())?);
    let costs = PassCosts::measure(&engine, 150)?;
    for tokens in [1, 2, 4, 8, 16, 32] {
        let line = serde_json::json!({
            "bench": "pass", "tokens": tokens, "milliseconds": 1e3 * costs.of(tokens),
        });
        println!("{line}");
    }
    let mut programs = Vec::new();
    for entry in std::fs::read_dir(root.join("examples"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            programs.push(path);
        }
    }
    programs.sort();
    let (mut all_frames, mut all_seconds) = (0, 0.0);
    for path in programs {
        let source = std::fs::read_to_string(&path)?;
        let run = || predict(&engine, &vocabulary, &source);
        let frames = run()?;
        let mut times = Vec::new();
        for _ in 0..RUNS {
            let start = Instant::now();
            run()?;
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let seconds = times[RUNS / 2];
        let name = path.file_stem().map(|name| name.to_string_lossy());
        report(&name.unwrap_or_default(), frames, seconds);
        all_frames += frames;
        all_seconds += seconds;
    }
    report("all", all_frames, all_seconds);
    Ok(())
}

/// Predicts a whole run; how many frames it has.
fn predict(
    engine: &Arc<Engine>,
    vocabulary: &Arc<Vocabulary>,
    source: &str,
) -> Result<usize, Box<dyn Error>> {
    let predictor = Predictor::new(engine.clone(), vocabulary.clone(), source)?;
    let (mut point, _) = predictor.start(&Entry::Module)?;
    let mut frames = 1;
    while frames < MOST {
        let Some((next, _)) = predictor.next(&point)? else {
            break;
        };
        point = next;
        frames += 1;
    }
    Ok(frames)
}

fn report(program: &str, frames: usize, seconds: f64) {
    let line = serde_json::json!({
        "bench": "live", "program": program, "frames": frames,
        "milliseconds_per_frame": 1e3 * seconds / frames as f64,
    });
    println!("{line}");
}
