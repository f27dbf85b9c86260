//! Applies gradients: AdamW or Muon piece by piece, spread over threads.
//!
//! Promises: every element belongs to exactly one piece, pieces touch disjoint slices, and what
//! becomes of one depends on nothing but its own parameters, moments and gradients, so an update
//! has the same bits on any number of threads and ranks.

use cwm_kernels::{AdamW, Precision};

use crate::batches::assign;
use crate::collective::{push_f32, take_f32};
use crate::config::Optimizer;
use crate::muon::{MuonScratch, MuonStep, muon};
use crate::parallel::on_workers;
use crate::plan::{AdamWGroup, Plan, Rule, Shard, Tensor};

/// What is remembered of the parameters of a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moments {
    /// Running mean of gradients, laid out as the parameters.
    pub(crate) first: Vec<f32>,
    /// Running mean of squared gradients: AdamW tensors only, in order, without gaps.
    pub(crate) second: Vec<f32>,
    /// Running mean of the parameters themselves, laid out as they are, if it is kept.
    pub(crate) ema: Option<Vec<f32>>,
}

/// A moment of one tensor, as stored in a checkpoint.
#[derive(Debug)]
pub(crate) struct Moment<T> {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: T,
}

impl Moments {
    /// Zero moments; the mean of the parameters begins with what they are.
    pub(crate) fn new(shard: &Shard, params: &[f32], with_ema: bool) -> Self {
        Self {
            first: vec![0.0; shard.params.len()],
            second: vec![0.0; shard.second.len()],
            ema: with_ema.then(|| params[shard.params.clone()].to_vec()),
        }
    }

    /// Of a shard within that of these moments, which begin with the first piece.
    pub(crate) fn part(&self, shard: &Shard) -> Self {
        Self {
            first: self.first[shard.params.clone()].to_vec(),
            second: self.second[shard.second.clone()].to_vec(),
            ema: (self.ema.as_ref()).map(|ema| ema[shard.params.clone()].to_vec()),
        }
    }

    /// Adds the moments of the shard that follows.
    pub(crate) fn append(&mut self, mut next: Self) {
        self.first.append(&mut next.first);
        self.second.append(&mut next.second);
        if let (Some(ema), Some(next)) = (&mut self.ema, &mut next.ema) {
            ema.append(next);
        }
    }

    /// All numbers, for another rank.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_f32(&mut bytes, &self.first);
        push_f32(&mut bytes, &self.second);
        push_f32(&mut bytes, self.ema.as_deref().unwrap_or_default());
        bytes
    }

    /// What [`to_bytes`](Moments::to_bytes) made of the moments of this shard; `None` if it was
    /// another shard.
    pub(crate) fn from_bytes(shard: &Shard, mut bytes: &[u8]) -> Option<Self> {
        let mut first = vec![0.0; shard.params.len()];
        let mut second = vec![0.0; shard.second.len()];
        take_f32(&mut bytes, &mut first)?;
        take_f32(&mut bytes, &mut second)?;
        let mut ema = None;
        if !bytes.is_empty() {
            take_f32(&mut bytes, ema.insert(vec![0.0; shard.params.len()]))?;
        }
        bytes.is_empty().then_some(Self { first, second, ema })
    }

    /// Every moment of every tensor: `first/NAME` for all, `second/NAME` for those of AdamW,
    /// `ema/NAME` if a mean of the weights is kept. These must be the moments of everything.
    pub(crate) fn entries(&self, plan: &Plan) -> Vec<Moment<&[f32]>> {
        let mut entries = Vec::new();
        for tensor in &plan.tensors {
            let mut push = |kind: &str, values| {
                entries.push(Moment {
                    name: format!("{kind}/{}", tensor.name),
                    shape: tensor.shape.clone(),
                    values,
                });
            };
            push("first", &self.first[tensor.params.clone()]);
            if !tensor.second.is_empty() {
                push("second", &self.second[tensor.second.clone()]);
            }
            if let Some(ema) = &self.ema {
                push("ema", &ema[tensor.params.clone()]);
            }
        }
        entries
    }

    /// Takes the moments of everything back: `fill(name, shape, values)` is called for each of the
    /// [`entries`](Moments::entries) and must overwrite `values`.
    pub(crate) fn restore<E>(
        &mut self,
        plan: &Plan,
        mut fill: impl FnMut(&str, &[usize], &mut [f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        for tensor in &plan.tensors {
            let Tensor {
                name,
                shape,
                params,
                second,
            } = tensor;
            let first = &mut self.first[params.clone()];
            fill(&format!("first/{name}"), shape, first)?;
            if !second.is_empty() {
                let second = &mut self.second[second.clone()];
                fill(&format!("second/{name}"), shape, second)?;
            }
            if let Some(ema) = &mut self.ema {
                fill(&format!("ema/{name}"), shape, &mut ema[params.clone()])?;
            }
        }
        Ok(())
    }
}

/// The optimiser's memory of one shard, and how it is used.
#[derive(Debug)]
pub(crate) struct OptimizerState {
    pub(crate) shard: Shard,
    pub(crate) moments: Moments,
    /// Updates applied so far (AdamW's bias correction counts these, not skipped steps).
    pub(crate) updates: u64,
    scratch: Vec<MuonScratch>,
}

/// One update, apart from its gradients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update<'a> {
    pub(crate) settings: &'a Optimizer,
    /// Multiple of the peak learning rates.
    pub(crate) multiplier: f64,
    /// Applied to the gradients first (clipping).
    pub(crate) grad_scale: f32,
    /// Decay of the mean of the parameters, if it is kept.
    pub(crate) ema: Option<f32>,
    /// What matrix products may run in.
    pub(crate) precision: Precision,
}

/// A piece of work for one thread.
struct Task<'a> {
    rule: Rule,
    params: &'a mut [f32],
    first: &'a mut [f32],
    /// Empty for Muon.
    second: &'a mut [f32],
    /// Empty where no mean is kept.
    ema: &'a mut [f32],
    grads: &'a [f32],
}

impl OptimizerState {
    pub(crate) fn new(shard: Shard, moments: Moments, updates: u64) -> Self {
        Self {
            shard,
            moments,
            updates,
            scratch: Vec::new(),
        }
    }

    /// Updates the shard's part of the parameters; `params` and `grads` are those of the shard.
    pub(crate) fn update(
        &mut self,
        plan: &Plan,
        params: &mut [f32],
        grads: &[f32],
        update: Update<'_>,
        threads: usize,
    ) {
        self.updates += 1;
        let applied = Applied::new(self.updates, update);
        self.scratch.resize_with(threads, MuonScratch::default);
        let (tasks, costs) = tasks(plan, &self.shard, &mut self.moments, params, grads);
        let mut slots: Vec<_> = tasks.into_iter().map(Some).collect();
        let workers = assign(&costs, threads)
            .into_iter()
            .map(|jobs| {
                let mine = jobs.into_iter().filter_map(|job| slots[job].take());
                mine.collect::<Vec<Task<'_>>>()
            })
            .zip(&mut self.scratch)
            .collect();
        on_workers(workers, |(tasks, scratch): (Vec<Task<'_>>, _)| {
            for task in tasks {
                applied.apply(task, scratch);
            }
        });
    }
}

/// An update with everything worked out that its pieces share.
pub(crate) struct Applied<'a> {
    update: Update<'a>,
    /// Number of the update, from 1.
    step: u32,
    muon: MuonStep,
    ema: f32,
}

impl<'a> Applied<'a> {
    /// The update of this number, from 1.
    pub(crate) fn new(updates: u64, update: Update<'a>) -> Self {
        let settings = update.settings;
        // A mean that began with random weights forgets them faster at first.
        let young = (1 + updates) as f32 / (10 + updates) as f32;
        Self {
            // Beyond 4 billion updates the bias correction is 1 to the last bit.
            step: u32::try_from(updates).unwrap_or(u32::MAX),
            muon: MuonStep {
                lr: (f64::from(settings.muon_lr) * update.multiplier) as f32,
                weight_decay: settings.weight_decay,
                grad_scale: update.grad_scale,
                precision: update.precision,
            },
            ema: update.ema.unwrap_or_default().min(young),
            update,
        }
    }

    /// Number of the update, from 1.
    pub(crate) fn step(&self) -> u32 {
        self.step
    }

    /// Applied to gradients first.
    pub(crate) fn grad_scale(&self) -> f32 {
        self.update.grad_scale
    }

    /// Decay of the mean of the parameters.
    pub(crate) fn ema(&self) -> f32 {
        self.ema
    }

    /// For the matrices that follow Muon.
    pub(crate) fn muon(&self) -> &MuonStep {
        &self.muon
    }

    /// For the parameters of a group that follows AdamW.
    pub(crate) fn settings(&self, group: AdamWGroup) -> AdamW {
        group.settings(self.update.settings, self.update.multiplier)
    }

    fn apply(&self, task: Task<'_>, scratch: &mut MuonScratch) {
        let Task {
            rule,
            params,
            first,
            second,
            ema,
            grads,
        } = task;
        match rule {
            Rule::AdamW(group) => self.adamw(params, first, second, grads, group),
            Rule::Muon { rows, cols } => {
                muon(params, first, grads, (rows, cols), &self.muon, scratch);
            }
        }
        for (mean, &value) in ema.iter_mut().zip(&*params) {
            *mean += (1.0 - self.ema) * (value - *mean);
        }
    }

    fn adamw(
        &self,
        params: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
        grads: &[f32],
        group: AdamWGroup,
    ) {
        let settings = self.settings(group);
        let scale = self.update.grad_scale;
        cwm_kernels::adamw(params, first, second, grads, &settings, self.step, scale);
    }
}

/// The work on a shard with its costs; `params` and `grads` are those of the shard.
fn tasks<'a>(
    plan: &Plan,
    shard: &Shard,
    moments: &'a mut Moments,
    mut params: &'a mut [f32],
    grads: &'a [f32],
) -> (Vec<Task<'a>>, Vec<usize>) {
    let mut first = moments.first.as_mut_slice();
    let mut second = moments.second.as_mut_slice();
    let mut ema = moments.ema.as_deref_mut().unwrap_or_default();
    let pieces = &plan.pieces[shard.pieces.clone()];
    let tasks = pieces.iter().map(|piece| {
        let n = piece.params.len();
        let ema_n = n.min(ema.len());
        Task {
            rule: piece.rule,
            params: take(&mut params, n),
            first: take(&mut first, n),
            second: take(&mut second, piece.second.len()),
            ema: take(&mut ema, ema_n),
            grads: &grads[piece.params.start - shard.params.start..][..n],
        }
    });
    let tasks = tasks.collect();
    (tasks, pieces.iter().map(|piece| piece.cost()).collect())
}

/// Cuts the first `n` elements off `slice`.
fn take<'a>(slice: &mut &'a mut [f32], n: usize) -> &'a mut [f32] {
    let (head, tail) = std::mem::take(slice).split_at_mut(n);
    *slice = tail;
    head
}
