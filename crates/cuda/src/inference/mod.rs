//! Inference: passes over new tokens of many sequences, behind keys and values that stay on the device.
//!
//! [`Inference`] is a [`Backend`] of `cwm-engine`, which keeps sessions, decides which pages they share, and
//! asks for one pass at a time. Weights are here once, in bf16; norms are f32. Keys and values are bf16.
//!
//! Promises: logits of a token depend on the tokens before it alone, bit for bit: not on how they were cut
//! into passes, nor on what else is in a pass. Products and attention are kernels that sum in an order that
//! the model and the position decide (`ops::linear`, `ops::paged_attention`); no library's product is used,
//! whose order may follow from the number of rows. What is computed is that of [`Network`](crate::Network)
//! with the rounding of its forward pass; the residual stream is f32.

mod pages;
mod pass;

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cwm_engine::{
    Backend, BackendError, Engine, KvFormat, Options, PageGroup, PageHandle, PassPart, WeightFormat,
};
use cwm_model::{Config, LayerType, Layout, Model};
use half::bf16;

use crate::device::{Buffer, Gpu};
use crate::error::Error;
use crate::network::{self, Rope};
use pages::Pages;
use pass::Room;

/// Weights that are rounded at a time on their way to the device.
const PIECE: usize = 1 << 20;

/// A model on a device that computes for an [`Engine`].
#[derive(Debug)]
pub struct Inference {
    gpu: Gpu,
    config: Config,
    layout: Layout,
    /// All parameters, rounded.
    weights: Buffer<bf16>,
    /// The norms in the order of the layers, two of each, then the last one.
    norms: Buffer<f32>,
    pages: Mutex<Pages>,
    /// Of the one pass that is under way.
    state: Mutex<State>,
}

/// What passes use one after another.
#[derive(Debug)]
struct State {
    rope: Rope,
    room: Room,
}

impl Inference {
    /// Copies a model to a device.
    ///
    /// # Errors
    /// [`Error::Shape`] where a kernel does not take the model's shape; when it does not fit in device
    /// memory.
    pub fn new(gpu: &Gpu, model: &Model) -> Result<Self, Error> {
        let (config, layout) = (&model.config, Layout::new(&model.config));
        network::check(config)?;
        let mut weights = gpu.zeros(model.params.len())?;
        for (index, piece) in model.params.chunks(PIECE).enumerate() {
            let rounded: Vec<bf16> = piece.iter().map(|&x| bf16::from_f32(x)).collect();
            weights.write_at(index * PIECE, &rounded)?;
        }
        let layers = layout.layers().iter();
        let norms = layers.flat_map(|layer| [layer.attention_norm.clone(), layer.mlp_norm.clone()]);
        let norms: Vec<f32> = norms
            .chain([layout.final_norm()])
            .flat_map(|range| model.params[range].iter().copied())
            .collect();
        Ok(Self {
            weights,
            norms: gpu.upload(&norms)?,
            pages: Mutex::new(Pages::new(gpu, config)),
            state: Mutex::new(State {
                rope: Rope::new(gpu, config, 0)?,
                room: Room::default(),
            }),
            gpu: gpu.clone(),
            config: config.clone(),
            layout,
        })
    }

    /// The same as an engine, whose sessions are as long as the model allows and roll back to anywhere.
    ///
    /// # Errors
    /// As [`Inference::new`]; [`Error::Engine`] where the engine refuses it.
    pub fn engine(gpu: &Gpu, model: &Model) -> Result<Engine, Error> {
        let options = Options {
            weights: WeightFormat::Bf16,
            kv: KvFormat::Bf16,
            ..Options::default()
        };
        let inference = Self::new(gpu, model)?;
        Ok(Engine::with_backend(Box::new(inference), options)?)
    }

    /// Where norm number `index` lies among the norms.
    fn norm(&self, index: usize) -> Range<usize> {
        let hidden = self.config.hidden_size;
        index * hidden..(index + 1) * hidden
    }
}

impl Backend for Inference {
    fn config(&self) -> &Config {
        &self.config
    }

    fn n_weight_bytes(&self) -> usize {
        self.weights.len() * size_of::<bf16>() + self.norms.len() * size_of::<f32>()
    }

    fn bytes_per_token(&self) -> usize {
        let layer = |layer: &cwm_model::LayerTensors| {
            layer.qkv().len() + layer.o.len() + layer.gate_up().len() + layer.down.len()
        };
        let layers: usize = self.layout.layers().iter().map(layer).sum();
        (layers + self.layout.head().len()) * size_of::<bf16>()
    }

    fn make_page(&self, group: PageGroup) -> Result<PageHandle, BackendError> {
        lock(&self.pages).make(group).map_err(problem)
    }

    fn copy_page(
        &self,
        group: PageGroup,
        from: PageHandle,
        to: PageHandle,
    ) -> Result<(), BackendError> {
        lock(&self.pages).copy(group, from, to).map_err(problem)
    }

    fn drop_page(&self, group: PageGroup, page: PageHandle) {
        lock(&self.pages).take_back(group, page);
    }

    fn pass(&self, parts: &[PassPart]) -> Result<Vec<f32>, BackendError> {
        self.run(parts).map_err(problem)
    }
}

/// An error as those who evaluate should read it.
fn problem(error: Error) -> BackendError {
    let problem = match error {
        Error::OutOfMemory {
            wanted,
            free,
            total,
        } => format!(
            "no room on the device for {wanted} more bytes of keys and values or of a pass: {free} of {total} \
             are free; use fewer threads, or shorter programs"
        ),
        Error::Lost { call, reason } => format!(
            "the GPU was lost in {call}: {reason}; look at `nvidia-smi` or the kernel log if it happens again"
        ),
        error => error.to_string(),
    };
    BackendError { problem }
}

/// The group of a layer's pages.
fn group_of(kind: LayerType) -> PageGroup {
    match kind {
        LayerType::Full => PageGroup::Global,
        LayerType::Sliding => PageGroup::Local,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
