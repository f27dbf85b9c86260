//! One step of learning: gradients of a batch lane by lane, their sum, clipping, update.
//!
//! Promises: the loss is the mean over the batch weighted by the targets' weights; examples are
//! assigned to lanes by their lengths and gradients are added along the tree of [`lanes`], so a
//! step has the same bits on any number of threads and ranks; a step that is skipped leaves model
//! and optimiser untouched, on every rank.
//!
//! [`lanes`]: crate::lanes

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cwm_cuda::Gpu;
use cwm_model::{Model, Workspace};

use crate::batches::{Indexed, assign};
use crate::collective::{Collective, all_gather, bytes_of_f64, f64_of_bytes, push_f32, take_f32};
use crate::config::{Precision, TrainConfig};
use crate::lanes::{lanes_of, nodes, sum};
use crate::meet::{Meeting, meet};
use crate::on_gpu::OnGpu;
use crate::optimizer::{Applied, OptimizerState, Update};
use crate::parallel::on_workers;
use crate::plan::{Plan, Shard};
use crate::report::{Scores, Skip};
use crate::spikes::Spikes;
use crate::tally::{Names, Tally};
use crate::{Dataset, Error};

/// Lanes of an evaluation: sums are made within them and then in their order, on however many
/// threads and ranks.
const EVALUATION_LANES: usize = 64;

/// The model with everything a step needs, reused between steps.
#[derive(Debug)]
pub(crate) struct Learner {
    pub(crate) model: Model,
    pub(crate) plan: Plan,
    pub(crate) optimizer: OptimizerState,
    pub(crate) spikes: Spikes,
    /// Before `gpu`, so that it is dropped first: the others learn here that this rank is gone, and do not wait
    /// for its GPU.
    pub(crate) ranks: Box<dyn Collective>,
    /// What each rank updates.
    shards: Vec<Shard>,
    threads: usize,
    lanes: usize,
    /// One gradient vector per lane of this rank, laid out as the parameters.
    grads: Vec<Vec<f32>>,
    workspaces: Vec<Workspace>,
    /// Where the work is done, if not here. What `model` and `optimizer` hold is then as old as the last
    /// [`pull`](Learner::pull).
    gpu: Option<OnGpu>,
}

/// What one step did.
#[derive(Clone, Debug)]
pub(crate) struct Learned {
    /// Sums over the batch, before the update.
    pub(crate) tally: Tally,
    /// Tokens of the batch.
    pub(crate) tokens: usize,
    /// Norm of the gradient before clipping.
    pub(crate) grad_norm: f64,
    /// Why no update was made, if none was.
    pub(crate) skipped: Option<Skip>,
}

impl Learner {
    pub(crate) fn new(
        model: Model,
        plan: Plan,
        optimizer: OptimizerState,
        spikes: Spikes,
        ranks: Box<dyn Collective>,
        config: &TrainConfig,
    ) -> Self {
        Self {
            shards: plan.shards(ranks.size()),
            model,
            plan,
            optimizer,
            spikes,
            ranks,
            threads: config.threads,
            lanes: config.lanes,
            grads: Vec::new(),
            workspaces: workspaces(config.threads, config.precision, config.recompute),
            gpu: None,
        }
    }

    /// Moves the work to a GPU, where a rank has one lane.
    pub(crate) fn move_to(&mut self, gpu: &Gpu, config: &TrainConfig) -> Result<(), Error> {
        if config.precision == Precision::F32 {
            return Err(Error::Config {
                field: "precision",
                reason: "is f32, and a GPU multiplies in bf16: set it to bf16, or train on the CPU"
                    .to_owned(),
            });
        }
        self.lanes = self.ranks.size();
        let moments = &self.optimizer.moments;
        self.gpu = Some(OnGpu::new(gpu, &self.model, &self.plan, moments, config)?);
        Ok(())
    }

    pub(crate) fn is_on_gpu(&self) -> bool {
        self.gpu.is_some()
    }

    /// Makes sure that all ranks work on devices of one kind, and brings their GPUs together; what is worth
    /// knowing about that.
    pub(crate) fn meet(&mut self) -> Result<Option<String>, Error> {
        let gpu = self.gpu.as_ref().map(OnGpu::gpu).cloned();
        let (together, note) = match meet(&mut *self.ranks, gpu.as_ref())? {
            Meeting::Apart => (None, None),
            Meeting::Together(devices) => (Some(devices), None),
            Meeting::ThroughHost(reason) => {
                let what =
                    "gradients of the GPUs are added up by the processors, which takes longer";
                (None, Some(format!("{what} ({reason})")))
            }
        };
        if let Some(gpu) = &mut self.gpu {
            gpu.together = together;
        }
        Ok(note)
    }

    /// Whether GPUs of several ranks exchange gradients and parameters without the host.
    fn are_gpus_together(&self) -> bool {
        self.gpu.as_ref().is_some_and(|gpu| gpu.together.is_some())
    }

    /// Brings `model` and `optimizer` up to date with what a GPU holds.
    pub(crate) fn pull(&mut self) -> Result<(), Error> {
        match &self.gpu {
            Some(gpu) => gpu.pull(&mut self.model, &mut self.optimizer.moments),
            None => Ok(()),
        }
    }

    /// Learns from one batch, at `multiplier` of the peak learning rates.
    pub(crate) fn learn(
        &mut self,
        batch: &[Indexed],
        names: &Names,
        config: &TrainConfig,
        multiplier: f64,
    ) -> Result<Learned, Error> {
        let tokens = batch.iter().map(|item| item.example.ids.len()).sum();
        let weight: f64 = batch.iter().map(|item| item.example.weight()).sum();
        if weight <= 0.0 {
            return Ok(Learned {
                tally: names.tally(),
                tokens,
                grad_norm: 0.0,
                skipped: Some(Skip::NoTargets),
            });
        }
        // No more lanes than examples: there would be nothing to add.
        let lanes = self.lanes.min(batch.len());
        let own = self.forward_backward(batch, names, lanes, (1.0 / weight) as f32)?;
        let are_together = self.are_gpus_together();
        let (tally, squares) = match (&mut self.gpu, self.ranks.size()) {
            // Alone, a GPU needs nobody to add up what it has.
            (Some(gpu), 1) => (
                sum_of(names, &own),
                gpu.squares(0..self.model.params.len())?,
            ),
            _ if are_together => self.add_on_gpus(names, lanes, &own)?,
            _ => {
                self.add_lanes(lanes)?;
                let squares = self.squares_of_pieces();
                let numbers_of = |shard: &Shard| shard.pieces.len();
                self.share_sums(names, lanes, &own, &squares, numbers_of)?
            }
        };
        let mut learned = Learned {
            grad_norm: squares.sqrt(),
            skipped: None,
            tally,
            tokens,
        };
        let loss = learned.tally.total.mean_loss();
        learned.skipped = (self.spikes).judge(loss, learned.grad_norm, config.spike_sigma);
        if learned.skipped.is_none() {
            let clip = f64::from(config.optimizer.clip);
            let grad_scale = match clip > 0.0 && learned.grad_norm > clip {
                true => clip / learned.grad_norm,
                false => 1.0,
            };
            self.update(Update {
                settings: &config.optimizer,
                multiplier,
                grad_scale: grad_scale as f32,
                ema: config.ema,
                precision: config.precision.into(),
            })?;
        }
        Ok(learned)
    }

    fn own_shard(&self) -> &Shard {
        &self.shards[self.ranks.rank()]
    }

    /// Leaves the gradient of each of this rank's lanes in `grads`; returns the lanes' tallies.
    fn forward_backward(
        &mut self,
        batch: &[Indexed],
        names: &Names,
        lanes: usize,
        scale: f32,
    ) -> Result<Vec<Tally>, Error> {
        let own = lanes_of(self.ranks.rank(), self.ranks.size(), lanes);
        // No example costs nothing: every lane then gets one before any gets two.
        let costs: Vec<usize> = batch
            .iter()
            .map(|item| item.example.ids.len().max(1))
            .collect();
        let jobs = assign(&costs, lanes);
        let total = self.model.params.len();
        if let Some(gpu) = &mut self.gpu {
            let lane = |lane: usize| {
                let mut jobs = jobs[lane].clone();
                jobs.sort_unstable();
                let items: Vec<&Indexed> = jobs.iter().map(|&job| &batch[job]).collect();
                gpu.gradients(&items, names, scale)
            };
            let has_lane = !own.is_empty();
            let tallies = own.map(lane).collect();
            if gpu.together.is_some() {
                if !has_lane {
                    // More ranks than lanes: what is there is of an earlier step.
                    gpu.clear_gradient()?;
                }
            } else if self.ranks.size() > 1 {
                self.grads.resize_with(1, || vec![0.0; total]);
                gpu.read_gradient(&mut self.grads[0])?;
            }
            return tallies;
        }
        while self.grads.len() < own.len() {
            self.grads.push(vec![0.0; total]);
        }
        let model = &self.model;
        let work = own.zip(&mut self.grads).map(|(lane, grads)| {
            let jobs = &jobs[lane];
            move |workspace: &mut Workspace| {
                grads.fill(0.0);
                let mut tally = names.tally();
                for &job in jobs {
                    let Indexed { index, example } = &batch[job];
                    model
                        .forward_backward(&example.row(), scale, grads, workspace)
                        .map_err(|source| Error::Example {
                            which: "training",
                            index: *index,
                            source: Box::new(source),
                        })?;
                    tally.count(example, workspace.outcomes());
                }
                Ok(tally)
            }
        });
        on_lanes(work.collect(), &mut self.workspaces)
    }

    /// Adds up the lanes of all ranks; the sum's part of this rank's shard is in the first vector
    /// of `grads` afterwards.
    fn add_lanes(&mut self, lanes: usize) -> Result<(), Error> {
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        let own = lanes_of(rank, size, lanes);
        let own_nodes = nodes(lanes, &own);
        self.add_within(&own, &own_nodes);
        if size == 1 {
            return Ok(());
        }
        let outgoing = (self.shards.iter().enumerate())
            .map(|(to, shard)| {
                let mut bytes = Vec::new();
                for node in own_nodes.iter().filter(|_| to != rank) {
                    let sum = &self.grads[node.start - own.start];
                    push_f32(&mut bytes, &sum[shard.params.clone()]);
                }
                bytes
            })
            .collect();
        let received = self.ranks.exchange(outgoing)?;

        let params = self.own_shard().params.clone();
        let mut terms: Vec<(Range<usize>, Vec<f32>)> = Vec::new();
        for (from, bytes) in received.iter().enumerate() {
            let mut bytes = bytes.as_slice();
            for node in nodes(lanes, &lanes_of(from, size, lanes)) {
                let values = if from == rank {
                    self.grads[node.start - own.start][params.clone()].to_vec()
                } else {
                    let mut values = vec![0.0; params.len()];
                    let taken = take_f32(&mut bytes, &mut values);
                    taken.ok_or(Error::OutOfStep { rank: from })?;
                    values
                };
                terms.push((node, values));
            }
        }
        let mut terms = terms
            .iter_mut()
            .map(|(node, values)| (node.clone(), values.as_mut_slice()))
            .collect();
        let whole = sum(0..lanes, &mut terms, &mut |a: &mut [f32], b: &[f32]| {
            cwm_kernels::add(a, b);
        });
        if self.grads.is_empty() {
            // More ranks than lanes: this one has had nothing to do so far.
            self.grads.push(vec![0.0; self.model.params.len()]);
        }
        self.grads[0][params].copy_from_slice(whole);
        Ok(())
    }

    /// Adds up the lanes of each node within this rank, into the first of them.
    fn add_within(&mut self, own: &Range<usize>, own_nodes: &[Range<usize>]) {
        let share = self.model.params.len().div_ceil(self.threads).max(1);
        let mut shares: Vec<Vec<(Range<usize>, &mut [f32])>> = Vec::new();
        for (lane, grads) in own.clone().zip(&mut self.grads) {
            for (index, part) in grads.chunks_mut(share).enumerate() {
                if shares.len() <= index {
                    shares.push(Vec::new());
                }
                shares[index].push((lane..lane + 1, part));
            }
        }
        on_workers(shares, |mut terms| {
            for node in own_nodes {
                sum(node.clone(), &mut terms, &mut |a: &mut [f32], b: &[f32]| {
                    cwm_kernels::add(a, b);
                });
            }
        });
    }

    /// Adds up the gradients of all ranks on their GPUs, so that this rank's shard of the sum is on its own; the
    /// tally of the batch and the sum of the squares of its gradient.
    fn add_on_gpus(
        &mut self,
        names: &Names,
        lanes: usize,
        own: &[Tally],
    ) -> Result<(Tally, f64), Error> {
        // First, so that no GPU begins to wait for a rank that has failed on the way here.
        let (tally, _) = self.share_sums(names, lanes, own, &[], |_| 0)?;
        let (shards, shard) = (self.shards_of_params(), self.own_shard().params.clone());
        let squares = match &mut self.gpu {
            Some(gpu) => {
                gpu.sum_gradients(&shards)?;
                gpu.squares(shard)?
            }
            None => 0.0,
        };
        let gathered = all_gather(&mut *self.ranks, bytes_of_f64(&[squares]))?;
        let mut whole = 0.0;
        for (rank, bytes) in gathered.iter().enumerate() {
            let &[squares] = f64_of_bytes(bytes).as_slice() else {
                return Err(Error::OutOfStep { rank });
            };
            whole += squares;
        }
        Ok((tally, whole))
    }

    /// What each rank updates of the parameters.
    fn shards_of_params(&self) -> Vec<Range<usize>> {
        let shards = self.shards.iter();
        shards.map(|shard| shard.params.clone()).collect()
    }

    /// The squares of the gradient, piece by piece of this rank's shard.
    fn squares_of_pieces(&self) -> Vec<f64> {
        let pieces = self.plan.pieces[self.own_shard().pieces.clone()].iter();
        let squares = pieces.map(|piece| {
            let grads = self.grads.first().map(|grads| &grads[piece.params.clone()]);
            cwm_kernels::sum_of_squares(grads.unwrap_or_default())
        });
        squares.collect()
    }

    /// The tally of the batch and the sum of all ranks' `squares`, of which each has as many as `n_squares`
    /// tells from its shard.
    fn share_sums(
        &mut self,
        names: &Names,
        lanes: usize,
        own: &[Tally],
        squares: &[f64],
        n_squares: impl Fn(&Shard) -> usize,
    ) -> Result<(Tally, f64), Error> {
        let tallies = own.iter().flat_map(Tally::numbers);
        let numbers: Vec<f64> = squares.iter().copied().chain(tallies).collect();
        let gathered = all_gather(&mut *self.ranks, bytes_of_f64(&numbers))?;

        let (mut tally, mut whole) = (names.tally(), 0.0);
        let size = self.ranks.size();
        let numbers_of_tally = tally.numbers().len();
        for (rank, bytes) in gathered.iter().enumerate() {
            let numbers = f64_of_bytes(bytes);
            let n_squares = n_squares(&self.shards[rank]);
            let n_lanes = lanes_of(rank, size, lanes).len();
            if numbers.len() != n_squares + n_lanes * numbers_of_tally {
                return Err(Error::OutOfStep { rank });
            }
            let (squares, tallies) = numbers.split_at(n_squares);
            // Piece by piece and lane by lane, so that the order is that of a rank alone.
            squares.iter().for_each(|square| whole += square);
            for lane in tallies.chunks_exact(numbers_of_tally) {
                tally.add(lane);
            }
        }
        Ok((tally, whole))
    }

    /// Updates this rank's shard, and takes over the others' parts.
    fn update(&mut self, update: Update<'_>) -> Result<(), Error> {
        let own = self.own_shard().params.clone();
        let are_together = self.are_gpus_together();
        let through_host = self.ranks.size() > 1 && !are_together;
        let shards = self.shards_of_params();
        match &mut self.gpu {
            None => self.optimizer.update(
                &self.plan,
                &mut self.model.params[own.clone()],
                &self.grads[0][own.clone()],
                update,
                self.threads,
            ),
            Some(gpu) => {
                let rank = self.ranks.rank();
                let shard = &self.shards[rank];
                if through_host {
                    gpu.write_gradient(own.clone(), &self.grads[0])?;
                }
                self.optimizer.updates += 1;
                let applied = Applied::new(self.optimizer.updates, update);
                gpu.update(&self.plan.pieces[shard.pieces.clone()], shard, &applied)?;
                gpu.share_params(&shards, rank)?;
                if through_host {
                    gpu.read_params(own, &mut self.model.params)?;
                }
            }
        }
        match through_host {
            true => self.share_params(),
            false => Ok(()),
        }
    }

    /// Takes over the others' parts of the parameters, through the host.
    fn share_params(&mut self) -> Result<(), Error> {
        let mut bytes = Vec::new();
        let own = self.own_shard().params.clone();
        push_f32(&mut bytes, &self.model.params[own]);
        let gathered = all_gather(&mut *self.ranks, bytes)?;
        for (rank, shard) in self.shards.iter().enumerate() {
            if rank != self.ranks.rank() {
                let params = &mut self.model.params[shard.params.clone()];
                let taken = take_f32(&mut gathered[rank].as_slice(), params);
                taken.ok_or(Error::OutOfStep { rank })?;
            }
        }
        match &mut self.gpu {
            Some(gpu) => gpu.write_params(&self.model.params),
            None => Ok(()),
        }
    }

    /// Scores of the current weights on every example of `data`, the work shared by all ranks.
    pub(crate) fn evaluate(&mut self, data: &dyn Dataset) -> Result<Scores, Error> {
        let names = Names::of(data);
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        let tallies = match &mut self.gpu {
            Some(gpu) => vec![gpu.score(data, &names, rank, size)?],
            None => {
                let own = lanes_of(rank, size, EVALUATION_LANES);
                evaluate_lanes(&self.model, data, &names, own, &mut self.workspaces)?
            }
        };
        let numbers: Vec<f64> = tallies.iter().flat_map(Tally::numbers).collect();
        let gathered = all_gather(&mut *self.ranks, bytes_of_f64(&numbers))?;
        let mut tally = names.tally();
        let numbers_of_tally = tally.numbers().len();
        for bytes in gathered {
            for lane in f64_of_bytes(&bytes).chunks_exact(numbers_of_tally) {
                tally.add(lane);
            }
        }
        Ok(Scores::new(&names, &tally))
    }
}

/// Scores of `model` on every example of `data`, in the `precision` of its training or another, on
/// `threads` threads, whose number changes no bit.
///
/// # Errors
/// When the data set is empty or an example does not fit the model.
pub fn evaluate(
    model: &Model,
    data: &dyn Dataset,
    precision: Precision,
    threads: usize,
) -> Result<Scores, Error> {
    let names = Names::of(data);
    let mut workspaces = workspaces(threads.max(1), precision, false);
    let tallies = evaluate_lanes(model, data, &names, 0..EVALUATION_LANES, &mut workspaces)?;
    Ok(Scores::new(&names, &sum_of(&names, &tallies)))
}

fn evaluate_lanes(
    model: &Model,
    data: &dyn Dataset,
    names: &Names,
    lanes: Range<usize>,
    workspaces: &mut [Workspace],
) -> Result<Vec<Tally>, Error> {
    if data.is_empty() {
        return Err(Error::EmptyDataset { which: "held-out" });
    }
    let work = lanes.map(|lane| {
        move |workspace: &mut Workspace| {
            let mut tally = names.tally();
            for index in (lane..data.len()).step_by(EVALUATION_LANES) {
                let example = data.example(index);
                let loss = model.loss(&example.row(), workspace);
                loss.map_err(|source| Error::Example {
                    which: "held-out",
                    index,
                    source: Box::new(source),
                })?;
                tally.count(&example, workspace.outcomes());
            }
            Ok(tally)
        }
    });
    on_lanes(work.collect(), workspaces)
}

/// Tallies added up in order.
fn sum_of(names: &Names, tallies: &[Tally]) -> Tally {
    let mut sum = names.tally();
    for tally in tallies {
        sum.add(&tally.numbers());
    }
    sum
}

/// Does the work of each lane, on as many threads as there are workspaces; each takes the next
/// lane that is left. Results are in the order of the lanes.
fn on_lanes<W>(work: Vec<W>, workspaces: &mut [Workspace]) -> Result<Vec<Tally>, Error>
where
    W: FnOnce(&mut Workspace) -> Result<Tally, Error> + Send,
{
    let lanes: Vec<Mutex<Option<W>>> = work.into_iter().map(|w| Mutex::new(Some(w))).collect();
    let next = AtomicUsize::new(0);
    let workers = workspaces.iter_mut().take(lanes.len()).collect();
    let done = on_workers(workers, |workspace: &mut Workspace| {
        let mut done = Vec::new();
        loop {
            let lane = next.fetch_add(1, Ordering::Relaxed);
            let Some(work) = lanes.get(lane) else {
                return done;
            };
            // Nobody else takes this lane, so the lock is free and was never poisoned.
            if let Some(work) = work.lock().ok().and_then(|mut work| work.take()) {
                done.push((lane, work(workspace)));
            }
        }
    });
    let mut done: Vec<_> = done.into_iter().flatten().collect();
    done.sort_by_key(|(lane, _)| *lane);
    done.into_iter().map(|(_, tally)| tally).collect()
}

fn workspaces(threads: usize, precision: Precision, recompute: bool) -> Vec<Workspace> {
    let workspace = |_| Workspace::in_precision(precision.into()).recomputing(recompute);
    (0..threads).map(workspace).collect()
}
