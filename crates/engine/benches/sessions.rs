//! What going back and branching cost, and what sessions save: one JSON line per measurement.
//!
//! `cargo bench -p cwm-engine --bench sessions`. Times are medians in microseconds at a context of
//! 8,192 tokens. `rollback` forgets 1,000 tokens whose pages another session holds too, `rollback,
//! own pages` frees theirs. `fork and extend` computes one token, whose pages have to be copied
//! first, and `extend` is the same without a fork. `walk` counts the prompt tokens that a debugging
//! walk of 200 frames computes: ours by editing one session, a stateless server's by posting the
//! whole prompt at every step. Weights are random: nothing here depends on their values.

use std::hint::black_box;
use std::time::Instant;

use cwm_engine::{Engine, Options, Result, Session, Want};
use cwm_model::{Config, LayerType, Model, Rope};
use serde_json::json;

const CONTEXT: usize = 8192;
const RUNS: usize = 101;
/// Tokens to go back, and runs of what has to compute so many first.
const BACK: usize = 1000;
const SLOW_RUNS: usize = 5;

/// Tokens of the program in a walk's prompt, of one frame, and how often a frame is predicted.
const PROGRAM: usize = 400;
const FRAME: usize = 37;
const STEPS: usize = 200;

fn config() -> Config {
    let n_layers = 6;
    let kind = |layer| match layer % 4 == 0 || layer + 1 == n_layers {
        true => LayerType::Full,
        false => LayerType::Sliding,
    };
    Config {
        vocab_size: 1024,
        hidden_size: 192,
        intermediate_size: 512,
        n_layers,
        n_heads: 6,
        n_kv_heads: 2,
        head_dim: 32,
        layer_types: (0..n_layers).map(kind).collect(),
        sliding_window: 128,
        rms_norm_eps: 1e-5,
        rope: Rope {
            theta: 10_000.0,
            scaling: None,
        },
        max_position_embeddings: 2 * CONTEXT,
        n_previous_embeddings: 0,
        run_embedding: None,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_id: Vec::new(),
    }
}

fn main() -> Result<()> {
    for local_slack in [None, Some(1024)] {
        let options = Options {
            local_slack,
            ..Options::default()
        };
        let engine = Engine::new(Model::init(config(), 1), options)?;
        costs(&engine)?;
        walk(&engine)?;
    }
    Ok(())
}

fn costs(engine: &Engine) -> Result<()> {
    let ids: Vec<u32> = (0..CONTEXT as u32).map(|i| i * 37 % 1024).collect();
    let mut session = Session::new(engine);
    session.extend(engine, &ids, Want::None)?;
    let print = |bench, microseconds: f64| {
        let line = json!({
            "bench": bench, "context": CONTEXT, "local_slack": engine.options().local_slack,
            "microseconds": microseconds, "pages": session.n_pages(), "bytes": session.bytes(),
        });
        println!("{line}");
    };
    let fork = || Ok(session.fork());
    print("fork", median(RUNS, || Ok(()), |()| fork())?);
    let cut = || session.truncate_fork(CONTEXT - BACK);
    print("truncate_fork", median(RUNS, || Ok(()), |()| cut())?);
    let back = |mut session: Session| session.rollback(CONTEXT - BACK).map(|()| session);
    print("rollback", median(RUNS, fork, back)?);
    let own_pages = || {
        let mut session = cut()?;
        session.extend(engine, &ids[CONTEXT - BACK..], Want::None)?;
        Ok(session)
    };
    print("rollback, own pages", median(SLOW_RUNS, own_pages, back)?);
    let extend = |mut session: Session| {
        let logits = session.extend(engine, &[1], Want::Last)?;
        Ok((session, logits))
    };
    print("fork and extend", median(RUNS, fork, extend)?);
    let own_tail = || {
        let mut session = session.fork();
        session.extend(engine, &[2], Want::None)?;
        Ok(session)
    };
    print("extend", median(RUNS, own_tail, extend)?);
    Ok(())
}

/// Median microseconds of `work` on what `prepare` made, after one warm-up; dropping the results is
/// not measured.
fn median<T, U>(
    runs: usize,
    mut prepare: impl FnMut() -> Result<T>,
    mut work: impl FnMut(T) -> Result<U>,
) -> Result<f64> {
    black_box(work(prepare()?)?);
    let mut times = Vec::new();
    for _ in 0..runs {
        let input = prepare()?;
        let start = Instant::now();
        let output = work(input)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        black_box(output);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[runs / 2])
}

/// Nine frames in ten are reached by a step forward, the tenth by going back three frames and on
/// from there with a token of a variable changed.
fn walk(engine: &Engine) -> Result<()> {
    let token = |seed: usize| (seed * 7919 % 1024) as u32;
    let mut prompt: Vec<u32> = (0..PROGRAM).map(token).collect();
    let mut session = Session::new(engine);
    let (mut ours, mut stateless, mut generated) = (0, 0, 0);
    for step in 0..STEPS {
        if step % 10 == 9 {
            prompt.truncate(prompt.len() - 3 * FRAME);
            let last = prompt.len() - 5;
            prompt[last] = token(prompt[last] as usize + step + 1);
        }
        stateless += prompt.len();
        let common = session.common_prefix(&prompt);
        let kept = common.min(prompt.len() - 1);
        ours += session.rewind(engine, kept)? + prompt.len() - kept;
        session.extend(engine, &prompt[kept..], Want::Last)?;
        // What a frame says does not matter here: each of its tokens is one step of decoding.
        let frame: Vec<u32> = (0..FRAME).map(|at| token(step * FRAME + at + 3)).collect();
        session.extend(engine, &frame, Want::None)?;
        generated += FRAME;
        prompt.extend(frame);
    }
    let line = json!({
        "bench": "walk", "steps": STEPS, "local_slack": engine.options().local_slack,
        "generated": generated, "prefilled_ours": ours, "prefilled_stateless": stateless,
    });
    println!("{line}");
    Ok(())
}
