//! Finding and loading a model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use cwm_cuda::{Gpu, Inference};
use cwm_engine::live::Predictor;
use cwm_engine::{Engine, Options};
use cwm_model::Model;
use cwm_tokenizer::nano::Vocabulary;

use crate::device::Device;

/// Which model to use.
#[derive(clap::Args)]
pub(crate) struct ModelArgs {
    /// Folder of the model [default: $CWM_MODEL, or the shipped models/nano]
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
}

/// A model ready to predict.
pub(crate) struct Loaded {
    pub(crate) engine: Arc<Engine>,
    pub(crate) vocabulary: Arc<Vocabulary>,
    pub(crate) folder: PathBuf,
    /// What computes for the engine, unless the processor does.
    gpu: Option<Gpu>,
}

impl ModelArgs {
    /// Loads the weights and the vocabulary.
    pub(crate) fn load(&self) -> Result<Loaded> {
        self.load_on(Device::Cpu)
    }

    /// The same, to be computed on a device.
    pub(crate) fn load_on(&self, device: Device) -> Result<Loaded> {
        let gpu = device.open()?;
        let folder = self.folder()?;
        let context = || format!("cannot load the model in `{}`", folder.display());
        let (vocabulary, model) = load_parts(&folder).with_context(context)?;
        let engine = match &gpu {
            None => Engine::new(model, Options::default()).with_context(context)?,
            Some(gpu) => Inference::engine(gpu, &model).with_context(context)?,
        };
        Ok(Loaded {
            engine: Arc::new(engine),
            vocabulary: Arc::new(vocabulary),
            folder,
            gpu,
        })
    }

    fn folder(&self) -> Result<PathBuf> {
        if let Some(folder) = &self.model {
            return Ok(folder.clone());
        }
        if let Some(folder) = std::env::var_os("CWM_MODEL") {
            return Ok(folder.into());
        }
        let here = std::env::current_dir().ok();
        let executable = std::env::current_exe().ok();
        let shipped = [here, executable].into_iter().flatten().find_map(|start| {
            start
                .ancestors()
                .map(|a| a.join("models/nano"))
                .find(|f| is_model(f))
        });
        match shipped {
            Some(folder) => Ok(folder),
            None => bail!(
                "the shipped model `models/nano` was not found above this folder or the program; name one with --model DIR"
            ),
        }
    }
}

/// The vocabulary and the weights of a model's folder, which must fit each other.
pub(crate) fn load_parts(folder: &Path) -> Result<(Vocabulary, Model)> {
    let vocabulary = Vocabulary::load(&folder.join(Vocabulary::FILE))?;
    let model = Model::load(folder)?;
    let (tokens, rows) = (vocabulary.len(), model.config.vocab_size);
    ensure!(
        tokens == rows,
        "the vocabulary has {tokens} tokens, but the weights have {rows}; the files are not of the same model"
    );
    Ok((vocabulary, model))
}

fn is_model(folder: &Path) -> bool {
    folder.join(Vocabulary::FILE).is_file()
}

impl Loaded {
    /// Tells what the device has to say once work was done.
    pub(crate) fn tell_notes(&self) {
        for note in self.gpu.iter().flat_map(|gpu| gpu.device().notes()) {
            eprintln!("note: {note}");
        }
    }

    /// A predictor for one program.
    pub(crate) fn predictor(&self, source: &str) -> Result<Predictor> {
        Predictor::new(self.engine.clone(), self.vocabulary.clone(), source)
            .context("the program cannot be shown to the model")
    }
}
