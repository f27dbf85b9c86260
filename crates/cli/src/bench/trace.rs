//! `cwm bench trace`: what drafts and the frame grammar save when a trace is generated.
//!
//! Each program is run for real; a model is given its source and generates the frames, once a token at
//! a time and once with forced tokens and drafts, in turns. The tokens must be equal. With `--replay`
//! the model is taken to be perfect: all passes are made, but the tokens are those of the real run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cwm_engine::frames::{FrameGrammar, FrameVocabulary, Frames};
use cwm_engine::{
    Constraint, Drafter, Engine, Generated, Guides, Limits, Mask, NgramDrafter, PassCosts, Sampler,
    SamplerOptions, Session, TokenSet, generate,
};
use cwm_tokenizer::llama::{Llama, Markup};
use cwm_trace::Entry;
use cwm_trace::cwm::{Document, render, render_prompt};
use serde_json::{Value, json};

use super::engine::{EngineArgs, Opened, tell};
use super::median;
use crate::program::{ProgramArgs, RunArgs};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Python files
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    /// `tokenizer.model` of the Llama-3 kind; without one, tokens are bytes
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Generate the frames of the real run, whatever the model says; implied by random weights
    #[arg(long)]
    replay: bool,
    /// Tokens to generate for a program at most
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_tokens: usize,
    /// Tokens to draft for a pass at most
    #[arg(long, value_name = "N", default_value_t = 32)]
    max_draft: usize,
    /// How often each way is timed; the median counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    #[command(flatten)]
    run: RunArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(args.runs > 0, "--runs must be at least 1");
    let llama = match &args.tokenizer {
        Some(path) => Llama::from_file(path)?,
        None => Llama::bytes(),
    };
    let Opened { engine, cache } = args.engine.open(MAX_POSITIONS, llama.vocabulary())?;
    let packed_cache = cache.as_ref().map(tell);
    let bench = Bench {
        vocabulary: Arc::new(FrameVocabulary::of(&llama)?),
        costs: PassCosts::measure(&engine, CONTEXT.min(engine.max_positions() / 2))?,
        engine,
        llama,
        args,
    };
    let mut figures = Vec::new();
    for file in &args.files {
        let measured = bench.program(file.clone());
        figures.push(measured.with_context(|| format!("`{}`", file.display()))?);
    }
    figures.push(Figures::sum(&figures));
    if args.json {
        let mut object = bench.as_json(&figures);
        if let Some(packed_cache) = packed_cache {
            object["packed_cache"] = packed_cache.into();
        }
        println!("{object}");
        return Ok(());
    }
    for figures in &figures {
        println!(
            "{}: {} tokens in {} passes, {:.2} tokens a pass; {:.1} ms against {:.1} ms, {:.2} times as fast",
            figures.name,
            figures.tokens,
            figures.passes,
            figures.tokens_per_pass(),
            1e3 * figures.seconds,
            1e3 * figures.plain_seconds,
            figures.plain_seconds / figures.seconds,
        );
    }
    Ok(())
}

impl Args {
    fn is_replay(&self) -> bool {
        self.replay || self.engine.preset().is_some()
    }
}

/// Room for prompts and what follows them.
const MAX_POSITIONS: usize = 32_768;

/// Tokens before the passes whose costs are measured.
const CONTEXT: usize = 256;

struct Bench<'a> {
    args: &'a Args,
    engine: Engine,
    llama: Llama,
    vocabulary: Arc<FrameVocabulary>,
    costs: PassCosts,
}

/// What was measured of one program, or of all.
struct Figures {
    name: String,
    tokens: usize,
    passes: usize,
    plain_passes: usize,
    forced: usize,
    drafted: usize,
    accepted: usize,
    /// Median of the runs.
    seconds: f64,
    plain_seconds: f64,
}

/// Whether forced tokens and drafts are used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Fast,
}

impl Bench<'_> {
    fn program(&self, file: PathBuf) -> Result<Figures> {
        let program = ProgramArgs {
            file,
            entry: None,
            args: None,
        };
        let source = program.checked_source(self.args.run.python.as_deref())?;
        let trace = self
            .args
            .run
            .trace(&program.file_text(), &source, Entry::Module)?;
        let document = Document::from_trace(&trace);
        let text = render(&document);
        let prompt = render_prompt(&document.context);
        let encode = |text: &str| self.llama.encode_markup(text, Markup::Cwm);
        let truth = encode(&text[prompt.len()..]);
        let prompt = encode(&prompt);
        let (mut plain_times, mut times) = (Vec::new(), Vec::new());
        let mut last = None;
        for _ in 0..self.args.runs {
            let (plain, seconds) = self.time(Way::Plain, &document, &prompt, &truth)?;
            plain_times.push(seconds);
            let (fast, seconds) = self.time(Way::Fast, &document, &prompt, &truth)?;
            times.push(seconds);
            let ids = |generated: &Generated| -> Vec<u32> {
                generated.tokens.iter().map(|token| token.id).collect()
            };
            ensure!(
                ids(&plain) == ids(&fast),
                "drafts and the grammar changed what was generated, which must not be"
            );
            last = Some((plain, fast));
        }
        let (plain, fast) = last.context("nothing was run")?;
        Ok(Figures {
            name: program.file_text(),
            tokens: fast.tokens.len(),
            passes: fast.usage.passes,
            plain_passes: plain.usage.passes,
            forced: fast.usage.forced,
            drafted: fast.usage.drafted,
            accepted: fast.usage.accepted,
            seconds: median(&times),
            plain_seconds: median(&plain_times),
        })
    }

    /// Generates once behind a prompt that is there already.
    fn time(
        &self,
        way: Way,
        document: &Document,
        prompt: &[u32],
        truth: &[u32],
    ) -> Result<(Generated, f64)> {
        let mut session = Session::new(&self.engine);
        let (last, before) = prompt.split_last().context("the prompt is empty")?;
        session.extend(&self.engine, before, cwm_engine::Want::None)?;
        let mut sampler = Sampler::new(SamplerOptions::GREEDY)?;
        let limits = Limits {
            max_tokens: self.args.max_tokens,
            max_draft: self.args.max_draft,
            ..Limits::default()
        };
        let start = Instant::now();
        let grammar = FrameGrammar::new(self.vocabulary.clone(), &[&document.context]);
        let is_replay = self.args.is_replay();
        let mut constraint = Steered {
            frames: Frames::new(Arc::new(grammar)),
            way,
            truth: is_replay.then_some(truth),
            only: TokenSet::default(),
        };
        let mut drafter = NgramDrafter::new(self.costs.clone());
        let guides = Guides {
            constraint: Some(&mut constraint),
            drafter: match way {
                Way::Plain => None,
                Way::Fast => {
                    drafter.accept(before);
                    Some(&mut drafter)
                }
            },
        };
        let generated = generate(
            &self.engine,
            &mut session,
            &[*last],
            guides,
            &mut sampler,
            &limits,
        )?;
        Ok((generated, start.elapsed().as_secs_f64()))
    }

    fn as_json(&self, figures: &[Figures]) -> Value {
        let costs: Vec<Value> = [1, 2, 4, 8, 16, 32]
            .map(|tokens| json!({ "tokens": tokens, "milliseconds": 1e3 * self.costs.of(tokens) }))
            .into();
        json!({
            "replay": self.args.is_replay(),
            "parameters": self.engine.config().n_params(),
            "weights": self.engine.options().weights.name(),
            "threads": self.engine.options().threads,
            "pass_costs": costs,
            "programs": figures.iter().map(Figures::as_json).collect::<Vec<Value>>(),
        })
    }
}

/// The frame grammar, with what the ways differ in.
struct Steered<'a> {
    frames: Frames,
    way: Way,
    /// The tokens to come out, in a replay.
    truth: Option<&'a [u32]>,
    only: TokenSet,
}

impl Constraint for Steered<'_> {
    fn mask(&mut self) -> Mask<'_> {
        let Some(truth) = self.truth else {
            return self.frames.mask();
        };
        // What the grammar costs is part of the measurement.
        std::hint::black_box(self.frames.mask());
        self.only.clear();
        self.only.extend(truth.get(self.frames.len()).copied());
        self.only.mask()
    }

    fn forced(&mut self, out: &mut Vec<u32>) {
        if self.way == Way::Fast {
            self.frames.forced(out);
        }
    }

    fn accept(&mut self, id: u32) -> Result<(), cwm_engine::Error> {
        self.frames.accept(id)
    }

    fn rollback(&mut self, n: usize) {
        self.frames.rollback(n);
    }

    fn is_complete(&self) -> bool {
        let is_told = |truth: &[u32]| self.frames.len() >= truth.len();
        self.frames.is_complete() || self.truth.is_some_and(is_told)
    }
}

impl Figures {
    fn sum(all: &[Self]) -> Self {
        let count = |of: fn(&Self) -> usize| all.iter().map(of).sum();
        let time = |of: fn(&Self) -> f64| all.iter().map(of).sum();
        Self {
            name: "all".to_owned(),
            tokens: count(|f| f.tokens),
            passes: count(|f| f.passes),
            plain_passes: count(|f| f.plain_passes),
            forced: count(|f| f.forced),
            drafted: count(|f| f.drafted),
            accepted: count(|f| f.accepted),
            seconds: time(|f| f.seconds),
            plain_seconds: time(|f| f.plain_seconds),
        }
    }

    fn tokens_per_pass(&self) -> f64 {
        self.tokens as f64 / self.passes.max(1) as f64
    }

    fn as_json(&self) -> Value {
        json!({
            "program": self.name,
            "tokens": self.tokens,
            "passes": self.passes,
            "plain_passes": self.plain_passes,
            "tokens_per_pass": self.tokens_per_pass(),
            "forced": self.forced,
            "drafted": self.drafted,
            "accepted": self.accepted,
            "seconds": self.seconds,
            "plain_seconds": self.plain_seconds,
            "speedup": self.plain_seconds / self.seconds,
            "identical": true,
        })
    }
}
