//! All laws at once, from the runs as they are or as they could also have come out.
//!
//! A bootstrap draws residuals within each cell and within each budget's parabola anew, then, where
//! there are enough, budgets for the power laws and cells for the loss law, and fits everything again.
//! The laws of one draw belong together, so an interval of a prediction is that of its own draws.

use super::cells::{Best, Budget, IsoFlop, iso_flop, pick};
use super::least_squares::Power;
use super::loss_law::{self, LossLaw, Point};
use crate::batches::SplitMix64;

/// With fewer budgets, drawing some of them would mostly draw the same one again.
const FEWEST_TO_DRAW: usize = 4;

/// What is fitted to a budget, and what of it may be used: decided once, by the runs as they are.
#[derive(Clone, Debug)]
pub(crate) struct Level {
    pub(crate) budget: Budget,
    /// Index of the cell with the lowest loss.
    pub(crate) best_cell: usize,
    /// The best size, if there are enough of them.
    pub(crate) iso_flop: Option<IsoFlop>,
    pub(crate) use_lr: bool,
    pub(crate) use_batch: bool,
    pub(crate) use_size: bool,
}

/// Laws that were fitted together. The power laws are over compute.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) lr: Option<Power>,
    pub(crate) batch: Option<Power>,
    pub(crate) size: Option<Power>,
    pub(crate) tokens: Option<Power>,
    pub(crate) loss: Option<Power>,
    pub(crate) loss_law: Option<LossLaw>,
}

impl Sample {
    /// The loss at the best size for a compute: by the loss law where there is one, else by the power
    /// law.
    pub(crate) fn loss_at(&self, compute: f64) -> Option<f64> {
        self.loss_by_size(compute)
            .or_else(|| Some(self.loss?.at(compute)))
    }

    fn loss_by_size(&self, compute: f64) -> Option<f64> {
        let (law, size, tokens) = (self.loss_law?, self.size?, self.tokens?);
        Some(law.at(size.at(compute), tokens.at(compute)))
    }
}

/// Fits all laws to these levels. A loss law by which more would be worse is left out; the text says so.
pub(crate) fn fit(levels: &[&Level]) -> (Sample, Option<String>) {
    let bests: Vec<Vec<Best>> = levels.iter().map(|level| bests(level, None)).collect();
    let mut found = sample(levels, &bests, None, None);
    let refusal = match &found.loss_law {
        Some(law) => law.absurd(),
        None => {
            loss_law::missing(&points(levels, &bests)).map(|lacks| format!("there are {lacks}"))
        }
    };
    if refusal.is_some() {
        found.loss_law = None;
    }
    (found, refusal)
}

/// Fits all laws to these levels as they could also have come out; `whole` is their fit as they are.
pub(crate) fn redraw(levels: &[&Level], whole: &Sample, chance: &mut SplitMix64) -> Sample {
    let bests: Vec<Vec<Best>> = levels
        .iter()
        .map(|level| bests(level, Some(&mut *chance)))
        .collect();
    sample(levels, &bests, whole.loss_law.as_ref(), Some(chance))
}

fn bests(level: &Level, mut chance: Option<&mut SplitMix64>) -> Vec<Best> {
    let best = |cell: &super::cells::Cell| match chance.as_deref_mut() {
        Some(chance) => cell.redrawn(chance),
        None => cell.best,
    };
    level.budget.cells.iter().map(best).collect()
}

fn sample(
    levels: &[&Level],
    bests: &[Vec<Best>],
    start: Option<&LossLaw>,
    mut chance: Option<&mut SplitMix64>,
) -> Sample {
    let mut lr = Vec::new();
    let mut batch = Vec::new();
    let mut loss = Vec::new();
    let mut size = Vec::new();
    let mut tokens = Vec::new();
    for (level, bests) in levels.iter().zip(bests) {
        let compute = level.budget.compute;
        let best = &bests[level.best_cell];
        if level.use_lr {
            lr.push((compute, best.lr));
        }
        if level.use_batch {
            batch.push((compute, best.batch));
        }
        let iso_flop = best_size(level, bests, chance.as_deref_mut());
        if let Some(best) = iso_flop.as_ref().filter(|_| level.use_size) {
            size.push((compute, best.n));
            tokens.push((compute, best.tokens));
        }
        loss.push((compute, iso_flop.map_or(best.loss, |best| best.loss)));
    }
    let mut power = |points: Vec<(f64, f64)>| match chance.as_deref_mut() {
        Some(chance) if points.len() >= FEWEST_TO_DRAW => Power::fit(&drawn(&points, chance)),
        _ => Power::fit(&points),
    };
    let mut fitted = Sample {
        lr: power(lr),
        batch: power(batch),
        size: power(size),
        tokens: power(tokens),
        loss: power(loss),
        loss_law: None,
    };
    let points = points(levels, bests);
    fitted.loss_law = match (chance, start) {
        (None, _) => loss_law::fit(&points, None),
        // The law of the runs as they are is where a redrawn one is looked for.
        (Some(chance), Some(start)) => loss_law::fit(&drawn(&points, chance), Some(start)),
        (Some(_), None) => None,
    };
    fitted
}

/// The best size of a level with these losses of its cells.
pub(crate) fn best_size(
    level: &Level,
    bests: &[Best],
    chance: Option<&mut SplitMix64>,
) -> Option<IsoFlop> {
    let cells = level.budget.cells.iter().zip(bests);
    let cells: Vec<_> = cells
        .map(|(cell, best)| (cell.n, cell.tokens, best.loss))
        .collect();
    iso_flop(&cells, chance)
}

/// Every cell as a point of the loss law.
pub(crate) fn points(levels: &[&Level], bests: &[Vec<Best>]) -> Vec<Point> {
    let cells = levels.iter().zip(bests).flat_map(|(level, bests)| {
        let cells = level.budget.cells.iter().zip(bests);
        cells.map(|(cell, best)| Point {
            n: cell.n,
            d: cell.tokens,
            loss: best.loss,
        })
    });
    // A bowl drawn anew can dip below 0, where no loss is.
    cells.filter(|point| point.loss > 0.0).collect()
}

fn drawn<T: Copy>(values: &[T], chance: &mut SplitMix64) -> Vec<T> {
    let draw = |_: &T| values[pick(chance, values.len())];
    values.iter().map(draw).collect()
}
