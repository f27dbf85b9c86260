//! `cwm logits`: the plain forward pass, for anyone to check.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cwm_model::Model;
use safetensors::tensor::{Dtype, TensorView};

use crate::program::read;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder with config.json and model.safetensors
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// JSON file with a list of token ids
    #[arg(long, value_name = "IDS.json")]
    ids: PathBuf,
    /// Where to write `logits`, f32 of shape [n_tokens, vocab]
    #[arg(long, value_name = "OUT.safetensors")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let shown = args.ids.display();
    let ids: Vec<u32> = serde_json::from_slice(&read(&args.ids)?)
        .with_context(|| format!("`{shown}` is not a JSON list of token ids such as [1, 2, 3]"))?;
    ensure!(!ids.is_empty(), "`{shown}` holds no token ids");
    let model = Model::load(&args.model)
        .with_context(|| format!("cannot load the model in `{}`", args.model.display()))?;
    let logits = model.logits(&ids)?;
    let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
    let shape = vec![ids.len(), model.config.vocab_size];
    let view = TensorView::new(Dtype::F32, shape, &bytes)?;
    let file = safetensors::serialize(HashMap::from([("logits", view)]), None)?;
    std::fs::write(&args.out, file)
        .with_context(|| format!("cannot write `{}`", args.out.display()))?;
    Ok(())
}
