//! A step of learning on a GPU: the same sums, clipping and update as [`Learner`](crate::learner)'s, with
//! weights, gradients and moments in device memory.
//!
//! GPUs of several ranks add up gradients and share parameters among themselves where all of them can, which was
//! tested with emulated ones only; elsewhere the host does it.
//!
//! A batch is cut into passes of about as many tokens as fit, and the next pass is prepared on another
//! thread while the device computes. Bits differ from the CPU's (products round to bf16 in other places) and
//! are the same in every run on the same kind of device.

use std::ops::Range;
use std::sync::mpsc::sync_channel;
use std::thread;

use cwm_cuda::ops::{self, AdamWPart, Ema, MuonPart, MuonScratch, MuonSettings};
use cwm_cuda::ranks::DeviceRanks;
use cwm_cuda::{Buffer, Gpu, Keep, Network, PackedRow, Workspace};
use cwm_model::{Config, Model, Outcome};

use crate::batches::Indexed;
use crate::config::TrainConfig;
use crate::muon::MuonStep;
use crate::optimizer::{Applied, Moments};
use crate::plan::{Piece, Plan, Rule, Shard};
use crate::tally::{Names, Tally};
use crate::{Dataset, Error};

/// Tokens of a pass, at most: beyond, a device gains nothing.
const MAX_PASS_TOKENS: usize = 1 << 16;
/// Of the device's memory, for activations.
const ACTIVATION_SHARE: f64 = 0.5;
/// Packed rows prepared ahead of the device.
const AHEAD: usize = 2;

/// What a learner has on its device.
#[derive(Debug)]
pub(crate) struct OnGpu {
    network: Network,
    grads: Buffer<f32>,
    first: Buffer<f32>,
    second: Buffer<f32>,
    ema: Option<Buffer<f32>>,
    /// The sum of the gradient's squares.
    squares: Buffer<f64>,
    /// Parts of that sum.
    partial: Buffer<f64>,
    muon: MuonScratch,
    training: Workspace,
    /// Made for the first evaluation.
    scoring: Option<Workspace>,
    /// Tokens of a pass.
    pass_tokens: usize,
    /// The GPUs of all ranks, where they work together without the host.
    pub(crate) together: Option<Box<dyn DeviceRanks>>,
}

impl OnGpu {
    /// Copies model and moments, which are those of `shard`, to the device.
    pub(crate) fn new(
        gpu: &Gpu,
        model: &Model,
        plan: &Plan,
        moments: &Moments,
        config: &TrainConfig,
    ) -> Result<Self, Error> {
        let keep = match config.recompute {
            true => Keep::Inputs,
            false => Keep::Everything,
        };
        let (_, memory) = gpu.device().memory()?;
        let pass_tokens = pass_tokens(&model.config, keep, memory, config.batch_tokens);
        let network = Network::new(gpu, model)?;
        Ok(Self {
            grads: gpu.zeros(model.params.len())?,
            first: gpu.upload(&moments.first)?,
            second: gpu.upload(&moments.second)?,
            ema: moments
                .ema
                .as_ref()
                .map(|ema| gpu.upload(ema))
                .transpose()?,
            squares: gpu.zeros(1)?,
            partial: gpu.zeros(ops::SUM_PARTIAL_LEN)?,
            muon: MuonScratch::new(gpu, plan.pieces.iter().filter_map(Piece::muon_shape))?,
            training: Workspace::new(gpu, &model.config, pass_tokens, keep)?,
            scoring: None,
            pass_tokens,
            together: None,
            network,
        })
    }

    /// The device.
    pub(crate) fn gpu(&self) -> &Gpu {
        self.network.gpu()
    }

    /// Sets the gradient to 0.
    pub(crate) fn clear_gradient(&mut self) -> Result<(), Error> {
        Ok(self.grads.clear()?)
    }

    /// Leaves the gradient of some examples on the device; returns what came out.
    pub(crate) fn gradients(
        &mut self,
        batch: &[&Indexed],
        names: &Names,
        scale: f32,
    ) -> Result<Tally, Error> {
        self.clear_gradient()?;
        let (network, grads, workspace) = (&mut self.network, &mut self.grads, &mut self.training);
        let (config, layout) = (network.config.clone(), network.layout.clone());
        let mut tally = names.tally();
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(AHEAD);
            let pass_tokens = self.pass_tokens;
            scope.spawn(move || {
                for items in passes(batch, pass_tokens) {
                    let rows: Vec<_> = items.iter().map(|item| item.example.row()).collect();
                    let packed = PackedRow::new(&config, &layout, &rows);
                    let packed = packed.map_err(|(at, source)| Error::Example {
                        which: "training",
                        index: items[at].index,
                        source: Box::new(source),
                    });
                    // The device's side stops at its first error.
                    if sender.send((items, packed)).is_err() {
                        return;
                    }
                }
            });
            for (items, packed) in receiver {
                let outcomes = network.forward_backward(&packed?, scale, grads, workspace)?;
                count(&mut tally, items.iter().copied(), &outcomes);
            }
            Ok(tally)
        })
    }

    /// The sum of the squares of a part of the gradient.
    pub(crate) fn squares(&mut self, params: Range<usize>) -> Result<f64, Error> {
        if params.is_empty() {
            return Ok(0.0);
        }
        ops::sum_of_squares(&mut self.squares, 0, &self.grads, params, &mut self.partial)?;
        Ok(self.squares.read(1)?[0])
    }

    /// Adds up the gradients of all ranks, each shard on the GPU of its rank; nothing unless they work
    /// [`together`](OnGpu::together).
    pub(crate) fn sum_gradients(&mut self, shards: &[Range<usize>]) -> Result<(), Error> {
        match &mut self.together {
            Some(together) => Ok(together.sum_shards(&mut self.grads, shards)?),
            None => Ok(()),
        }
    }

    /// Takes over the others' shards of the parameters, of which `own` is this rank's; nothing unless they work
    /// [`together`](OnGpu::together).
    pub(crate) fn share_params(
        &mut self,
        shards: &[Range<usize>],
        own: usize,
    ) -> Result<(), Error> {
        let Some(together) = &mut self.together else {
            return Ok(());
        };
        let Network {
            params, rounded, ..
        } = &mut self.network;
        together.gather_shards(params, shards)?;
        // The update has rounded this rank's own.
        for others in [0..shards[own].start, shards[own].end..params.len()] {
            ops::to_bf16(rounded, params, others)?;
        }
        Ok(())
    }

    /// Updates the parameters of these pieces, which are those of `shard`.
    pub(crate) fn update(
        &mut self,
        pieces: &[Piece],
        shard: &Shard,
        update: &Applied<'_>,
    ) -> Result<(), Error> {
        let MuonStep {
            lr,
            weight_decay,
            grad_scale,
            precision: _,
        } = *update.muon();
        let muon = MuonSettings {
            lr,
            weight_decay,
            grad_scale,
        };
        let Network {
            params, rounded, ..
        } = &mut self.network;
        let (moments, grads) = (&mut self.first, &self.grads);
        for piece in pieces {
            let first = piece.params.start - shard.params.start;
            let ema = self.ema.as_mut().map(|values| Ema {
                values,
                decay: update.ema(),
            });
            match piece.rule {
                Rule::AdamW(group) => {
                    let part = AdamWPart {
                        params: piece.params.clone(),
                        first,
                        second: piece.second.start - shard.second.start,
                        ema: first,
                    };
                    let (settings, step) = (update.settings(group), update.step());
                    let (second, scale) = (&mut self.second, update.grad_scale());
                    ops::adamw(
                        params, moments, second, grads, rounded, ema, &part, &settings, step, scale,
                    )?;
                }
                Rule::Muon { rows, cols } => {
                    let part = MuonPart {
                        params: piece.params.clone(),
                        rows,
                        cols,
                        momentum: first,
                        ema: first,
                    };
                    let scratch = &mut self.muon;
                    ops::muon(params, moments, grads, rounded, ema, &part, &muon, scratch)?;
                }
            }
        }
        Ok(())
    }

    /// The gradient, for other ranks.
    pub(crate) fn read_gradient(&self, host: &mut [f32]) -> Result<(), Error> {
        Ok(self.grads.read_into(host)?)
    }

    /// Overwrites a part of the gradient with what all ranks have of it together.
    pub(crate) fn write_gradient(
        &mut self,
        params: Range<usize>,
        host: &[f32],
    ) -> Result<(), Error> {
        Ok(self.grads.write_at(params.start, &host[params])?)
    }

    /// A part of the parameters, for other ranks.
    pub(crate) fn read_params(&self, params: Range<usize>, host: &mut [f32]) -> Result<(), Error> {
        Ok(self
            .network
            .params
            .read_at(params.start, &mut host[params])?)
    }

    /// Overwrites all parameters.
    pub(crate) fn write_params(&mut self, host: &[f32]) -> Result<(), Error> {
        Ok(self.network.set_params(host)?)
    }

    /// Copies parameters and moments back to the host.
    pub(crate) fn pull(&self, model: &mut Model, moments: &mut Moments) -> Result<(), Error> {
        self.network.params.read_into(&mut model.params)?;
        self.first.read_into(&mut moments.first)?;
        self.second.read_into(&mut moments.second)?;
        if let (Some(ema), Some(host)) = (&self.ema, &mut moments.ema) {
            ema.read_into(host)?;
        }
        Ok(())
    }

    /// What comes of every `stride`-th example of `data`, from `first` on.
    pub(crate) fn score(
        &mut self,
        data: &dyn Dataset,
        names: &Names,
        first: usize,
        stride: usize,
    ) -> Result<Tally, Error> {
        let network = &mut self.network;
        let workspace = match self.scoring.take() {
            Some(workspace) => workspace,
            None => {
                let (gpu, config) = (network.gpu().clone(), &network.config);
                Workspace::new(&gpu, config, self.pass_tokens, Keep::Last)?
            }
        };
        let workspace = self.scoring.insert(workspace);
        let mut tally = names.tally();
        let mut indexes = (first..data.len()).step_by(stride).peekable();
        while indexes.peek().is_some() {
            let mut items = Vec::new();
            let mut tokens = 0;
            while tokens < self.pass_tokens
                && let Some(index) = indexes.next()
            {
                let example = data.example(index);
                tokens += example.ids.len();
                items.push(Indexed { index, example });
            }
            let rows: Vec<_> = items.iter().map(|item| item.example.row()).collect();
            let packed = PackedRow::new(&network.config, &network.layout, &rows);
            let packed = packed.map_err(|(at, source)| Error::Example {
                which: "held-out",
                index: items[at].index,
                source: Box::new(source),
            })?;
            let outcomes = network.outcomes(&packed, workspace)?;
            count(&mut tally, &items, &outcomes);
        }
        Ok(tally)
    }
}

/// Cuts a batch into passes of at most so many tokens, or of one row where it is longer.
fn passes<'a, 'b>(
    batch: &'b [&'a Indexed],
    tokens: usize,
) -> impl Iterator<Item = &'b [&'a Indexed]> {
    let mut rest = batch;
    std::iter::from_fn(move || {
        let mut sum = 0;
        let mut fits = |item: &&&Indexed| {
            sum += item.example.ids.len();
            sum <= tokens
        };
        let n = rest.iter().take_while(|item| fits(item)).count().max(1);
        let (pass, left) = rest.split_at_checked(n)?;
        rest = left;
        Some(pass)
    })
}

/// Counts what came of the targets of examples, in order.
fn count<'a>(
    tally: &mut Tally,
    items: impl IntoIterator<Item = &'a Indexed>,
    outcomes: &[Outcome],
) {
    let mut rest = outcomes;
    for Indexed { example, .. } in items {
        let (own, left) = rest.split_at(example.targets.len());
        tally.count(example, own);
        rest = left;
    }
}

/// Tokens of a pass for which activations take no more than their share of the device's memory: a function
/// of the kind of device, so that the bits of a run are too.
fn pass_tokens(config: &Config, keep: Keep, memory: usize, batch_tokens: usize) -> usize {
    let bytes = cwm_cuda::bytes_per_token(config, keep);
    let room = memory as f64 * ACTIVATION_SHARE / bytes as f64;
    let room = (room as usize).min(MAX_PASS_TOKENS) / 1024 * 1024;
    room.max(1024).min(batch_tokens.next_multiple_of(64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Example;

    #[test]
    fn passes_are_as_full_as_they_may_be() {
        let item = |(index, tokens): (usize, usize)| Indexed {
            index,
            example: Example::causal(vec![0; tokens]),
        };
        let items: Vec<Indexed> = [3, 4, 2, 20, 1, 9, 9]
            .into_iter()
            .enumerate()
            .map(item)
            .collect();
        let batch: Vec<&Indexed> = items.iter().collect();
        let lengths = |tokens| -> Vec<usize> { passes(&batch, tokens).map(<[_]>::len).collect() };
        assert_eq!(lengths(10), [3, 1, 2, 1]);
        assert_eq!(lengths(1), [1; 7]);
        assert_eq!(lengths(1000), [7]);
        assert_eq!(passes(&[], 10).count(), 0);
    }
}
