//! Applies gradients: AdamW or Muon per tensor, spread over threads.
//!
//! Promises: every element belongs to exactly one task, tasks touch disjoint slices, and their
//! assignment to threads is fixed by the layout, so an update has the same bits on each run.

use cwm_kernels::AdamW;
use cwm_model::Layout;

use crate::batches::assign;
use crate::config::{Optimizer, OptimizerKind};
use crate::muon::{MuonScratch, MuonStep, muon};
use crate::parallel::on_workers;

/// AdamW tensors are cut into pieces of this many elements, to balance the threads.
const PIECE: usize = 1 << 17;
/// Cost of one AdamW element in multiply-adds of Muon's matrix products: AdamW waits for memory
/// (about 3 ns an element) while a core does about 50 multiply-adds a nanosecond.
const ADAMW_COST: usize = 150;

/// How one tensor is updated.
#[derive(Clone, Debug)]
struct Segment {
    name: String,
    shape: Vec<usize>,
    offset: usize,
    len: usize,
    rule: Rule,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rule {
    AdamW(AdamWGroup),
    Muon { rows: usize, cols: usize },
}

/// The AdamW parameters that share a learning rate and a decay.
#[derive(Clone, Copy, Debug, PartialEq)]
struct AdamWGroup {
    embedding: bool,
    decay: bool,
}

impl AdamWGroup {
    fn settings(self, settings: &Optimizer, multiplier: f64) -> AdamW {
        let lr = match self.embedding {
            true => settings.embedding_lr.unwrap_or(settings.lr),
            false => settings.lr,
        };
        AdamW {
            lr: (f64::from(lr) * multiplier) as f32,
            beta1: settings.betas[0],
            beta2: settings.betas[1],
            eps: settings.eps,
            weight_decay: match self.decay {
                true => settings.weight_decay,
                false => 0.0,
            },
        }
    }
}

/// The optimiser's memory.
#[derive(Debug)]
pub(crate) struct OptimizerState {
    segments: Vec<Segment>,
    /// Running mean of gradients, laid out as the parameters.
    first: Vec<f32>,
    /// Running mean of squared gradients: AdamW tensors only, in order, without gaps.
    second: Vec<f32>,
    /// Updates applied so far (AdamW's bias correction counts these, not skipped steps).
    updates: u64,
    scratch: Vec<MuonScratch>,
}

/// A moment of one tensor, as stored in a checkpoint.
#[derive(Debug)]
pub(crate) struct Moment<'a> {
    pub(crate) name: String,
    pub(crate) shape: &'a [usize],
    pub(crate) values: &'a [f32],
}

/// A piece of work for one thread.
enum Task<'a> {
    AdamW {
        params: &'a mut [f32],
        first: &'a mut [f32],
        second: &'a mut [f32],
        grads: &'a [f32],
        group: AdamWGroup,
    },
    Muon {
        params: &'a mut [f32],
        momentum: &'a mut [f32],
        grads: &'a [f32],
        shape: (usize, usize),
    },
}

impl OptimizerState {
    /// Zero moments for the parameters of `layout`.
    pub(crate) fn new(layout: &Layout, settings: &Optimizer) -> Self {
        let mut segments: Vec<Segment> = layout
            .tensors()
            .iter()
            .map(|tensor| Segment {
                rule: rule(&tensor.name, &tensor.shape, settings),
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                offset: tensor.offset,
                len: tensor.len,
            })
            .collect();
        segments.sort_by_key(|segment| segment.offset);
        let second: usize = segments
            .iter()
            .filter(|s| s.has_second())
            .map(|s| s.len)
            .sum();
        Self {
            first: vec![0.0; layout.total()],
            second: vec![0.0; second],
            segments,
            updates: 0,
            scratch: Vec::new(),
        }
    }

    pub(crate) fn updates(&self) -> u64 {
        self.updates
    }

    /// Every stored moment: `first/NAME` for all tensors, `second/NAME` for those of AdamW.
    pub(crate) fn moments(&self) -> Vec<Moment<'_>> {
        let mut moments = Vec::new();
        let mut second = self.second.as_slice();
        for segment in &self.segments {
            moments.push(Moment {
                name: format!("first/{}", segment.name),
                shape: &segment.shape,
                values: &self.first[segment.offset..][..segment.len],
            });
            if segment.has_second() {
                let (values, rest) = second.split_at(segment.len);
                second = rest;
                let name = format!("second/{}", segment.name);
                moments.push(Moment {
                    name,
                    shape: &segment.shape,
                    values,
                });
            }
        }
        moments
    }

    /// Takes the moments back from a checkpoint: `fill(name, shape, values)` is called for each
    /// and must overwrite `values`.
    pub(crate) fn restore<E>(
        &mut self,
        updates: u64,
        mut fill: impl FnMut(&str, &[usize], &mut [f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut second = self.second.as_mut_slice();
        for segment in &self.segments {
            let values = &mut self.first[segment.offset..][..segment.len];
            fill(&format!("first/{}", segment.name), &segment.shape, values)?;
            if segment.has_second() {
                let values = take(&mut second, segment.len);
                fill(&format!("second/{}", segment.name), &segment.shape, values)?;
            }
        }
        self.updates = updates;
        Ok(())
    }

    /// One update of `params` with `grads` times `grad_scale`, at `multiplier` of the peak rates.
    pub(crate) fn update(
        &mut self,
        params: &mut [f32],
        grads: &[f32],
        grad_scale: f32,
        settings: &Optimizer,
        multiplier: f64,
        threads: usize,
    ) {
        self.updates += 1;
        // Beyond 4 billion updates the bias correction is 1 to the last bit.
        let step = u32::try_from(self.updates).unwrap_or(u32::MAX);
        let muon_step = MuonStep {
            lr: (f64::from(settings.muon_lr) * multiplier) as f32,
            weight_decay: settings.weight_decay,
            grad_scale,
        };

        self.scratch.resize_with(threads, MuonScratch::default);
        let tasks = tasks(
            &self.segments,
            params,
            &mut self.first,
            &mut self.second,
            grads,
        );
        let workers = tasks
            .spread(threads)
            .into_iter()
            .zip(&mut self.scratch)
            .collect();
        on_workers(workers, |(tasks, scratch): (Vec<Task<'_>>, _)| {
            for task in tasks {
                match task {
                    Task::AdamW {
                        params,
                        first,
                        second,
                        grads,
                        group,
                    } => {
                        let settings = group.settings(settings, multiplier);
                        cwm_kernels::adamw(
                            params, first, second, grads, &settings, step, grad_scale,
                        );
                    }
                    Task::Muon {
                        params,
                        momentum,
                        grads,
                        shape,
                    } => {
                        muon(params, momentum, grads, shape, &muon_step, scratch);
                    }
                }
            }
        });
    }
}

impl Segment {
    fn has_second(&self) -> bool {
        matches!(self.rule, Rule::AdamW(_))
    }
}

/// Muon is for matrices between hidden layers; embeddings and head map from and to tokens, whose
/// rows should learn at paces of their own.
fn rule(name: &str, shape: &[usize], settings: &Optimizer) -> Rule {
    match (settings.kind, shape) {
        (OptimizerKind::Muon, &[rows, cols]) if name.ends_with("_proj.weight") => {
            Rule::Muon { rows, cols }
        }
        _ => Rule::AdamW(AdamWGroup {
            embedding: name.starts_with("model.embed_"),
            decay: settings.decay_all || shape.len() > 1,
        }),
    }
}

/// Tasks with their costs.
struct Tasks<'a> {
    tasks: Vec<Task<'a>>,
    costs: Vec<usize>,
}

impl<'a> Tasks<'a> {
    fn push(&mut self, cost: usize, task: Task<'a>) {
        self.costs.push(cost);
        self.tasks.push(task);
    }

    fn spread(self, threads: usize) -> Vec<Vec<Task<'a>>> {
        let mut slots: Vec<_> = self.tasks.into_iter().map(Some).collect();
        assign(&self.costs, threads)
            .into_iter()
            .map(|jobs| {
                jobs.into_iter()
                    .filter_map(|job| slots[job].take())
                    .collect()
            })
            .collect()
    }
}

fn tasks<'a>(
    segments: &[Segment],
    mut params: &'a mut [f32],
    mut first: &'a mut [f32],
    mut second: &'a mut [f32],
    grads: &'a [f32],
) -> Tasks<'a> {
    let mut tasks = Tasks {
        tasks: Vec::new(),
        costs: Vec::new(),
    };
    let mut position = 0;
    for segment in segments {
        let gap = segment.offset - position;
        take(&mut params, gap);
        take(&mut first, gap);
        position = segment.offset + segment.len;
        let grads = &grads[segment.offset..position];
        let mut params = take(&mut params, segment.len);
        let mut first = take(&mut first, segment.len);
        match segment.rule {
            Rule::AdamW(group) => {
                for grads in grads.chunks(PIECE) {
                    let task = Task::AdamW {
                        params: take(&mut params, grads.len()),
                        first: take(&mut first, grads.len()),
                        second: take(&mut second, grads.len()),
                        grads,
                        group,
                    };
                    tasks.push(grads.len() * ADAMW_COST, task);
                }
            }
            Rule::Muon { rows, cols } => {
                let n = rows.min(cols);
                let cost = 5 * (2 * n * segment.len + n * n * n);
                tasks.push(
                    cost,
                    Task::Muon {
                        params,
                        momentum: first,
                        grads,
                        shape: (rows, cols),
                    },
                );
            }
        }
    }
    tasks
}

/// Cuts the first `n` elements off `slice`.
fn take<'a>(slice: &mut &'a mut [f32], n: usize) -> &'a mut [f32] {
    let (head, tail) = std::mem::take(slice).split_at_mut(n);
    *slice = tail;
    head
}
