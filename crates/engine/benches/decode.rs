//! Speed of sessions at the sizes we ship: tokens per second, one JSON line per measurement.
//!
//! `cargo bench -p cwm-engine --bench decode`. Each line is the median of five runs: `decode` feeds
//! single tokens from a context of 400 on, `prefill` feeds 400 tokens in one call. Weights are
//! random: speed does not depend on their values. Compare two builds only in interleaved runs on an
//! otherwise idle machine.

use std::hint::black_box;
use std::time::Instant;

use cwm_engine::{Engine, Options, Session, Want, WeightFormat};
use cwm_model::{Config, LayerType, Model, Rope};

const CONTEXT: usize = 400;
const DECODED: usize = 64;
const RUNS: usize = 5;

/// The family of the shipped model at two sizes, named by its number of parameters.
fn shapes() -> [(&'static str, Config); 2] {
    let config = |hidden_size, intermediate_size, n_layers: usize, n_heads, n_kv_heads| Config {
        vocab_size: 1024,
        hidden_size,
        intermediate_size,
        n_layers,
        n_heads,
        n_kv_heads,
        head_dim: 32,
        layer_types: (0..n_layers)
            .map(|i| {
                if i % 4 == 0 || i + 1 == n_layers {
                    LayerType::Full
                } else {
                    LayerType::Sliding
                }
            })
            .collect(),
        sliding_window: 128,
        rms_norm_eps: 1e-5,
        rope: Rope {
            theta: 10_000.0,
            scaling: None,
        },
        max_position_embeddings: 2048,
        n_previous_embeddings: 0,
        run_embedding: None,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_id: Vec::new(),
    };
    [
        ("3M", config(192, 512, 6, 6, 2)),
        ("10M", config(320, 864, 9, 10, 2)),
    ]
}

fn main() {
    for (name, config) in shapes() {
        for weights in WeightFormat::ALL {
            for threads in [1, 2] {
                let options = Options {
                    threads,
                    weights,
                    ..Options::default()
                };
                measure(name, &config, options);
            }
        }
    }
}

fn measure(name: &str, config: &Config, options: Options) {
    let n_params = config.n_params();
    let engine = match Engine::new(Model::init(config.clone(), 1), options.clone()) {
        Ok(engine) => engine,
        Err(error) => return eprintln!("{name}: {error}"),
    };
    let Options {
        threads, weights, ..
    } = options;
    let prompt: Vec<u32> = (0..CONTEXT as u32).map(|i| i * 37 % 1024).collect();
    let mut context = Session::new(&engine);
    let extend = |session: &mut Session, ids: &[u32]| {
        if let Err(error) = session.extend(&engine, ids, Want::Last).map(black_box) {
            eprintln!("{name}: {error}");
        }
    };
    extend(&mut context, &prompt);

    let decode = median(|| {
        let mut session = context.fork();
        for id in 0..DECODED as u32 {
            extend(&mut session, &[id]);
        }
    });
    let prefill = median(|| extend(&mut Session::new(&engine), &prompt));
    for (what, tokens, seconds) in [("decode", DECODED, decode), ("prefill", CONTEXT, prefill)] {
        println!(
            "{}",
            serde_json::json!({
                "bench": what, "model": name, "n_params": n_params, "context": CONTEXT,
                "weights": weights.name(),
                "threads": threads, "tokens_per_second": (tokens as f64 / seconds).round(),
                "bytes_per_token": engine.bytes_per_token(),
            })
        );
    }
}

/// Median seconds of [`RUNS`] calls after one warm-up.
fn median(mut work: impl FnMut()) -> f64 {
    work();
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}
