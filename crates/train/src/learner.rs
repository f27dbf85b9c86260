//! One step of learning: gradients of a batch over several threads, their sum, clipping, update.
//!
//! Promises: the loss is the mean over the batch weighted by the targets' weights; examples are
//! assigned to threads by their lengths and gradients are added in the order of the threads, so
//! a step has the same bits whenever the number of threads is the same; a step whose gradients
//! are not finite leaves model and optimiser untouched.

use cwm_model::{Model, RowLoss, Workspace};

use crate::batches::{Indexed, assign};
use crate::config::Optimizer;
use crate::optimizer::OptimizerState;
use crate::parallel::on_workers;
use crate::report::Skip;
use crate::{Dataset, Error};

/// The model with everything a step needs, reused between steps.
#[derive(Debug)]
pub(crate) struct Learner {
    pub(crate) model: Model,
    pub(crate) optimizer: OptimizerState,
    threads: usize,
    /// One gradient vector per thread, laid out as the parameters.
    grads: Vec<Vec<f32>>,
    workspaces: Vec<Workspace>,
}

/// What one step did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Learned {
    /// Weighted mean over the batch, before the update.
    pub(crate) loss: f64,
    /// Share of targets that had the largest logit, before the update.
    pub(crate) accuracy: f64,
    /// Tokens of the batch.
    pub(crate) tokens: usize,
    /// Norm of the gradient before clipping.
    pub(crate) grad_norm: f64,
    /// Why no update was made, if none was.
    pub(crate) skipped: Option<Skip>,
}

impl Learner {
    pub(crate) fn new(model: Model, optimizer: OptimizerState, threads: usize) -> Self {
        Self {
            model,
            optimizer,
            threads,
            grads: Vec::new(),
            workspaces: workspaces(threads),
        }
    }

    /// Learns from one batch, at `multiplier` of the peak learning rates.
    pub(crate) fn learn(
        &mut self,
        batch: &[Indexed],
        settings: &Optimizer,
        multiplier: f64,
    ) -> Result<Learned, Error> {
        let tokens = batch.iter().map(|item| item.example.ids.len()).sum();
        let weight: f64 = batch.iter().map(|item| item.example.weight()).sum();
        let mut learned = Learned {
            loss: 0.0,
            accuracy: 0.0,
            tokens,
            grad_norm: 0.0,
            skipped: None,
        };
        if weight <= 0.0 {
            learned.skipped = Some(Skip::NoTargets);
            return Ok(learned);
        }

        let (total, used) = self.forward_backward(batch, (1.0 / weight) as f32)?;
        learned.loss = total.loss_sum / weight;
        learned.accuracy = total.correct as f64 / total.n_targets.max(1) as f64;
        learned.grad_norm = reduce(&mut self.grads[..used], self.threads).sqrt();
        if !(learned.grad_norm.is_finite() && learned.loss.is_finite()) {
            learned.skipped = Some(Skip::NonFinite);
            return Ok(learned);
        }

        let clip = f64::from(settings.clip);
        let grad_scale = if clip > 0.0 && learned.grad_norm > clip {
            clip / learned.grad_norm
        } else {
            1.0
        };
        self.optimizer.update(
            &mut self.model.params,
            &self.grads[0],
            grad_scale as f32,
            settings,
            multiplier,
            self.threads,
        );
        Ok(learned)
    }

    /// Adds up the losses of the batch and leaves the gradients in the first vectors of `grads`;
    /// returns how many hold some.
    fn forward_backward(
        &mut self,
        batch: &[Indexed],
        scale: f32,
    ) -> Result<(RowLoss, usize), Error> {
        // No example costs nothing: the first workers then always get one before any gets two.
        let costs: Vec<usize> = batch
            .iter()
            .map(|item| item.example.ids.len().max(1))
            .collect();
        let used = self.threads.min(batch.len());
        let total = self.model.layout.total();
        while self.grads.len() < used {
            self.grads.push(vec![0.0; total]);
        }

        let model = &self.model;
        let buffers = self.grads.iter_mut().zip(&mut self.workspaces);
        let workers = assign(&costs, used).into_iter().zip(buffers).collect();
        let losses = on_workers(workers, |(jobs, (grads, workspace))| {
            grads.fill(0.0);
            let mut sum = RowLoss::default();
            for job in jobs {
                let Indexed { index, example } = &batch[job];
                let loss = model
                    .forward_backward(&example.row(), scale, grads, workspace)
                    .map_err(|source| Error::Example {
                        index: *index,
                        source,
                    })?;
                accumulate(&mut sum, &loss);
            }
            Ok(sum)
        });
        let mut sum = RowLoss::default();
        for loss in losses {
            accumulate(&mut sum, &loss?);
        }
        Ok((sum, used))
    }

    /// Loss of the current weights on every example of `data`.
    pub(crate) fn evaluate(&mut self, data: &dyn Dataset) -> Result<RowLoss, Error> {
        evaluate_with(&self.model, data, &mut self.workspaces)
    }
}

/// Loss of `model` over every example of `data`, on `threads` threads. The sums do not depend on
/// the number of threads. Divide `loss_sum` by `weight_sum` for the mean.
///
/// # Errors
/// When the data set is empty or an example does not fit the model.
pub fn evaluate(model: &Model, data: &dyn Dataset, threads: usize) -> Result<RowLoss, Error> {
    evaluate_with(model, data, &mut workspaces(threads.max(1)))
}

fn evaluate_with(
    model: &Model,
    data: &dyn Dataset,
    workspaces: &mut [Workspace],
) -> Result<RowLoss, Error> {
    if data.is_empty() {
        return Err(Error::EmptyDataset { which: "held-out" });
    }
    let stride = workspaces.len();
    let workers = workspaces.iter_mut().enumerate().collect();
    let losses = on_workers(workers, |(worker, workspace): (usize, &mut Workspace)| {
        let mine = (worker..data.len()).step_by(stride);
        mine.map(|index| {
            let loss = model.loss(&data.example(index).row(), workspace);
            loss.map_err(|source| Error::Example { index, source })
        })
        .collect::<Result<Vec<RowLoss>, Error>>()
    });
    let losses = losses.into_iter().collect::<Result<Vec<_>, _>>()?;
    // Floating-point sums depend on their order: always that of the examples.
    let mut sum = RowLoss::default();
    for index in 0..data.len() {
        accumulate(&mut sum, &losses[index % stride][index / stride]);
    }
    Ok(sum)
}

fn workspaces(threads: usize) -> Vec<Workspace> {
    (0..threads).map(|_| Workspace::default()).collect()
}

fn accumulate(sum: &mut RowLoss, loss: &RowLoss) {
    sum.loss_sum += loss.loss_sum;
    sum.weight_sum += loss.weight_sum;
    sum.correct += loss.correct;
    sum.n_targets += loss.n_targets;
}

/// Adds all gradient vectors into the first and returns the sum of its squares.
fn reduce(grads: &mut [Vec<f32>], threads: usize) -> f64 {
    let Some((first, others)) = grads.split_first_mut() else {
        return 0.0;
    };
    let others = &*others;
    let share = first.len().div_ceil(threads).max(1);
    let shares = first.chunks_mut(share).enumerate().collect();
    on_workers(shares, |(index, sum): (usize, &mut [f32])| {
        for other in others {
            cwm_kernels::add(sum, &other[index * share..][..sum.len()]);
        }
        cwm_kernels::sum_of_squares(sum)
    })
    .into_iter()
    .sum()
}
