//! A model's parameters on a device, and what every pass over them shares.

use std::ops::Range;
use std::sync::Arc;

use cwm_kernels::RopeTable;
use cwm_model::{Config, Layout, Model};
use half::bf16;

use crate::device::{Buffer, Gpu, Number, Operand, Product};
use crate::error::Error;
use crate::ops;

/// A transformer of the CWM family with its weights on a device: in f32, which the optimiser updates, and
/// rounded to bf16, which products read.
#[derive(Debug)]
pub struct Network {
    /// The architecture.
    pub config: Config,
    /// Where each tensor lies.
    pub layout: Arc<Layout>,
    /// All parameters.
    pub params: Buffer<f32>,
    /// All parameters, rounded.
    pub rounded: Buffer<bf16>,
    /// Cosines and sines of the rotary angles, `[max_position_embeddings, head_dim / 2]`, as far as they were
    /// needed.
    pub(crate) rope: Rope,
}

/// Rotary angles of the positions seen so far.
#[derive(Debug)]
pub(crate) struct Rope {
    pub(crate) cos: Buffer<f32>,
    pub(crate) sin: Buffer<f32>,
    n_positions: usize,
}

impl Network {
    /// Copies a model to a device.
    ///
    /// # Errors
    /// [`Error::Shape`] where a kernel does not take the model's shape; when it does not fit in device
    /// memory.
    pub fn new(gpu: &Gpu, model: &Model) -> Result<Self, Error> {
        check(&model.config)?;
        let mut rounded = gpu.zeros(model.params.len())?;
        let params = gpu.upload(&model.params)?;
        ops::to_bf16(&mut rounded, &params, 0..params.len())?;
        Ok(Self {
            config: model.config.clone(),
            layout: Arc::clone(&model.layout),
            params,
            rounded,
            rope: Rope::new(gpu, &model.config, 0)?,
        })
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        self.params.gpu()
    }

    /// Overwrites the parameters.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn set_params(&mut self, params: &[f32]) -> Result<(), Error> {
        assert_eq!(
            params.len(),
            self.params.len(),
            "parameters of another model"
        );
        self.params.write(params)?;
        ops::to_bf16(&mut self.rounded, &self.params, 0..params.len())
    }

    /// Sees to it that there are angles up to this position.
    pub(crate) fn reach(&mut self, last_position: u32) -> Result<(), Error> {
        let gpu = self.gpu().clone();
        self.rope.reach(&gpu, &self.config, last_position)
    }

    /// `out[rows, out_width] (+)= x[rows, in_width] · Wᵀ`, where `W[out_width, in_width]` lies at `weight`.
    pub(crate) fn forward(
        &self,
        out: Target<'_>,
        x: &Buffer<bf16>,
        weight: Range<usize>,
        rows: usize,
        in_width: usize,
    ) -> Result<(), Error> {
        let out_width = weight.len() / in_width;
        out.check(rows * out_width);
        assert!(x.len() >= rows * in_width, "products: too few rows");
        let product = Product {
            m: rows,
            n: out_width,
            k: in_width,
            a: plain(x.address(), in_width),
            b: transposed(self.rounded.at(weight.start), in_width),
            c: out.address(),
            c_stride: out_width,
            c_number: out.number(),
            accumulate: out.accumulate(),
        };
        // SAFETY: the three matrices were checked to be within their buffers, which are distinct.
        unsafe { self.gpu().device().multiply(&product) }
    }

    /// `d_x[rows, in_width] = d_out[rows, out_width] · W`: the gradient of what [`forward`](Self::forward) was
    /// given.
    pub(crate) fn backward_input(
        &self,
        d_x: Target<'_>,
        d_out: &Buffer<bf16>,
        weight: Range<usize>,
        rows: usize,
        in_width: usize,
    ) -> Result<(), Error> {
        let out_width = weight.len() / in_width;
        d_x.check(rows * in_width);
        assert!(d_out.len() >= rows * out_width, "products: too few rows");
        let product = Product {
            m: rows,
            n: in_width,
            k: out_width,
            a: plain(d_out.address(), out_width),
            b: plain(self.rounded.at(weight.start), in_width),
            c: d_x.address(),
            c_stride: in_width,
            c_number: d_x.number(),
            accumulate: d_x.accumulate(),
        };
        // SAFETY: as above.
        unsafe { self.gpu().device().multiply(&product) }
    }
}

/// `grads[weight] += d_outᵀ · x`: the gradient of a matrix `[out_width, in_width]`.
pub(crate) fn backward_weight(
    grads: &mut Buffer<f32>,
    d_out: &Buffer<bf16>,
    x: &Buffer<bf16>,
    weight: Range<usize>,
    rows: usize,
    in_width: usize,
) -> Result<(), Error> {
    let out_width = weight.len() / in_width;
    let is_enough = d_out.len() >= rows * out_width && x.len() >= rows * in_width;
    assert!(
        is_enough && grads.len() >= weight.end,
        "products: too few rows"
    );
    let product = Product {
        m: out_width,
        n: in_width,
        k: rows,
        a: transposed(d_out.address(), out_width),
        b: plain(x.address(), in_width),
        c: grads.at(weight.start),
        c_stride: in_width,
        c_number: Number::F32,
        accumulate: true,
    };
    // SAFETY: the three matrices were checked to be within their buffers, which are distinct.
    unsafe { grads.gpu().device().multiply(&product) }
}

/// Where a product goes.
#[derive(Debug)]
pub enum Target<'a> {
    /// Added to f32.
    Add(&'a mut Buffer<f32>),
    /// In f32.
    Full(&'a mut Buffer<f32>),
    /// Rounded.
    Rounded(&'a mut Buffer<bf16>),
}

impl Target<'_> {
    pub(crate) fn address(&self) -> u64 {
        match self {
            Self::Add(buffer) | Self::Full(buffer) => buffer.address(),
            Self::Rounded(buffer) => buffer.address(),
        }
    }

    fn number(&self) -> Number {
        match self {
            Self::Add(_) | Self::Full(_) => Number::F32,
            Self::Rounded(_) => Number::Bf16,
        }
    }

    fn accumulate(&self) -> bool {
        matches!(self, Self::Add(_))
    }

    /// Panics unless there is room for so many numbers.
    pub(crate) fn check(&self, len: usize) {
        let found = match self {
            Self::Add(buffer) | Self::Full(buffer) => buffer.len(),
            Self::Rounded(buffer) => buffer.len(),
        };
        assert!(
            found >= len,
            "products: {len} numbers do not fit in {found}"
        );
    }
}

fn plain(address: u64, stride: usize) -> Operand {
    Operand {
        address,
        stride,
        is_transposed: false,
    }
}

fn transposed(address: u64, stride: usize) -> Operand {
    Operand {
        is_transposed: true,
        ..plain(address, stride)
    }
}

impl Rope {
    /// Sees to it that there are angles up to this position.
    pub(crate) fn reach(
        &mut self,
        gpu: &Gpu,
        config: &Config,
        last_position: u32,
    ) -> Result<(), Error> {
        if last_position as usize >= self.n_positions {
            *self = Self::new(gpu, config, last_position)?;
        }
        Ok(())
    }

    pub(crate) fn new(gpu: &Gpu, config: &Config, last_position: u32) -> Result<Self, Error> {
        // Powers of two, so that growing rows do not rebuild it each time.
        let n_positions = (last_position as usize + 1).next_power_of_two().max(1024);
        let table = RopeTable::new(&config.inv_freq(), n_positions);
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in 0..n_positions as u32 {
            let (of_cos, of_sin) = table.row(position);
            cos.extend_from_slice(of_cos);
            sin.extend_from_slice(of_sin);
        }
        Ok(Self {
            cos: gpu.upload(&cos)?,
            sin: gpu.upload(&sin)?,
            n_positions,
        })
    }
}

/// Whether the kernels take this shape.
pub(crate) fn check(config: &Config) -> Result<(), Error> {
    ops::check_shape(config.attention_shape())?;
    for (what, found) in [
        ("hidden_size", config.hidden_size),
        ("intermediate_size", config.intermediate_size),
    ] {
        if !found.is_multiple_of(8) {
            let wanted = "a multiple of 8";
            return Err(Error::Shape {
                what,
                found,
                wanted,
            });
        }
    }
    if config.n_params() >= u32::MAX as usize {
        return Err(Error::Shape {
            what: "number of parameters",
            found: config.n_params(),
            wanted: "fewer than 2^32 - 1",
        });
    }
    Ok(())
}
